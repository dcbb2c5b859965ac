//! Putting budgets in force: what was spent before they were counts in them.
//!
//! A budget that is new, or was away for a while, finds the attempts of its period in the ledger
//! and claims them. Then its counters are held against its claims.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Row as _};

use super::Ledger;
use super::claims;
use super::entry::Claim;
use super::error::LedgerError;
use crate::budget::{Budgets, Facts, Kept, Per, Place, Standing};
use crate::money::Usd;

/// Attempts that are read at once.
const PAGE: i64 = 1000;

/// Attempts of a period that the budget has no claim on, in order of time.
const UNCLAIMED: &str = "SELECT * FROM attempts AS a \
     WHERE at >= ?1 AND at < ?2 AND (at, call, attempt) > (?3, ?4, ?5) AND NOT EXISTS \
     (SELECT 1 FROM claims AS c WHERE c.call = a.call AND c.attempt = a.attempt AND c.budget = ?6) \
     ORDER BY at, call, attempt LIMIT ?7";

/// Counters that are not the sum of their claims become it.
const MEND: &str = "UPDATE buckets SET spent = sums.spent, held = sums.held FROM \
     (SELECT bucket, SUM((1 - open) * amount) AS spent, SUM(open * amount) AS held FROM claims \
      WHERE budget = ?1 AND since = ?2 GROUP BY bucket) AS sums \
     WHERE buckets.budget = ?1 AND buckets.since = ?2 AND buckets.bucket = sums.bucket \
     AND (buckets.spent <> sums.spent OR buckets.held <> sums.held)";

impl Ledger {
    /// Puts `budgets` in force for this process: claims for them what their periods have seen so
    /// far, and lets [`Ledger::standing`] know of them. An attempt that nobody knows the price of
    /// counts as `unpriced` an image.
    ///
    /// To replace budgets without a gap, let holds be made within the new ones first.
    ///
    /// # Errors
    /// When the database does not take it. The budgets then hold all the same, and count from now
    /// on.
    pub async fn guard(&self, budgets: &Budgets, unpriced: Usd) -> Result<(), LedgerError> {
        let shared = self.shared();
        shared.standings.watch(budgets.clone());
        shared.flush().await?;
        let failed = |error| shared.database.error("budgets", error);
        let mut connection = shared.database.connect().await.map_err(failed)?;
        for kept in budgets.iter() {
            let mut change = connection
                .begin_with("BEGIN IMMEDIATE")
                .await
                .map_err(failed)?;
            enforce(&mut change, budgets, kept, unpriced)
                .await
                .map_err(failed)?;
            change.commit().await.map_err(failed)?;
        }
        let read = shared.standings.read(&mut connection).await;
        read.map_err(failed)?;
        if !shared.spends.is_read() {
            let read = shared.spends.read(&mut connection).await;
            read.map_err(failed)?;
        }
        connection.close().await.map_err(failed)
    }

    /// What was spent in the period of `at`, which begins in UTC: by one app or by all, on one
    /// model or on all. As far as this process knows, like [`Ledger::standing`].
    pub fn spent(&self, app: Option<&str>, model: Option<&str>, per: Per, at: Timestamp) -> Usd {
        self.shared().spends.of(app, model, per, at)
    }

    /// What a bucket stands at, as far as this process knows: its own holds and charges, and those
    /// of others a moment later. For telling, not for deciding; takes no time to speak of.
    pub fn standing(&self, place: &Place) -> Standing {
        self.shared().standings.of(place)
    }
}

async fn enforce(
    connection: &mut SqliteConnection,
    budgets: &Budgets,
    kept: &Arc<Kept>,
    unpriced: Usd,
) -> Result<(), sqlx::Error> {
    let period = kept.period(Timestamp::now());
    let (start, end) = (period.start, period.end.unwrap_or(Timestamp::MAX));
    let mut last = (i64::MIN, String::new(), -1);
    loop {
        let rows = sqlx::query(UNCLAIMED)
            .bind(start.as_microsecond())
            .bind(end.as_microsecond())
            .bind(last.0)
            .bind(last.1.clone())
            .bind(last.2)
            .bind(Arc::clone(&kept.key))
            .bind(PAGE)
            .fetch_all(&mut *connection)
            .await?;
        let Some(row) = rows.last() else { break };
        last = (
            row.try_get("at")?,
            row.try_get("call")?,
            row.try_get("attempt")?,
        );
        for row in &rows {
            claim(connection, budgets, kept, row, unpriced).await?;
        }
    }
    let mended = sqlx::query(MEND)
        .bind(Arc::clone(&kept.key))
        .bind(start.as_microsecond())
        .execute(connection)
        .await?
        .rows_affected();
    if mended > 0 {
        tracing::warn!(
            budget = &*kept.name,
            mended,
            "counters of a budget were not the sum of its holds and charges; they are now"
        );
    }
    Ok(())
}

/// Claims one attempt, where the budget applies to it.
async fn claim(
    connection: &mut SqliteConnection,
    budgets: &Budgets,
    kept: &Arc<Kept>,
    row: &SqliteRow,
    unpriced: Usd,
) -> Result<(), sqlx::Error> {
    let text = |column| row.try_get::<Option<String>, _>(column);
    let (app, provider, model) = (text("app")?, text("provider")?, text("model")?);
    let (tags, user, credential) = (text("tags")?, text("app_user")?, text("credential")?);
    let model = model.unwrap_or_default();
    let facts = Facts {
        app: app.as_deref().unwrap_or_default(),
        tags: tags.iter().flat_map(|tags| tags.split(',')).collect(),
        user: user.as_deref(),
        provider: provider.as_deref().unwrap_or_default(),
        classes: budgets.classes_of(&model),
        model: &model,
        credential: credential.as_deref(),
    };
    let at = Timestamp::from_microsecond(row.try_get("at")?).unwrap_or_default();
    let open = row.try_get::<Option<String>, _>("outcome")?.is_none();
    let known: Option<i64> = row.try_get(if open { "held" } else { "charge" })?;
    let images: i64 = row.try_get("images")?;
    let ceiling = || unpriced.scaled(images.unsigned_abs().max(1), 1);
    let amount = known.map_or_else(ceiling, Usd::from_nano);
    let (call, attempt): (String, i64) = (row.try_get("call")?, row.try_get("attempt")?);
    let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
    for place in kept.places(&facts, at) {
        let claim = Claim {
            budget: Arc::clone(&kept.key),
            bucket: place.bucket,
            since: place.period.start,
            amount,
        };
        claims::claim(connection, &call, attempt, &claim).await?;
    }
    Ok(())
}
