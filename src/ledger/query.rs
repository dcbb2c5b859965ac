//! Reading the ledger: rows and sums.

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use ulid::Ulid;

use super::database::Database;
use super::entry::{Filter, Hold, ModelSpend, Outcome, Row, Settlement, Totals};
use super::error::LedgerError;
use crate::bill::ChargeFrom;
use crate::image::{Billed, ModelId, Tier};
use crate::money::Usd;

/// SQLite keeps sums of integers whole, and fails rather than round them.
macro_rules! sums {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            "COALESCE(SUM(CASE WHEN outcome <> 'unknown' THEN charge END), 0) AS spent, \
             COALESCE(SUM(CASE WHEN outcome = 'unknown' THEN charge END), 0) AS unknown, \
             COALESCE(SUM(CASE WHEN outcome IS NULL THEN held END), 0) AS held, \
             COUNT(DISTINCT call) AS calls, \
             COUNT(*) AS attempts, \
             COALESCE(SUM(outcome IS NULL), 0) AS open, \
             COALESCE(SUM(outcome IS NOT NULL AND charge IS NULL), 0) AS unpriced, \
             COALESCE(SUM(images), 0) AS images \
             FROM attempts \
             WHERE at >= COALESCE(?1, -9223372036854775807) \
             AND at < COALESCE(?2, 9223372036854775807) \
             AND (?3 IS NULL OR app = ?3) \
             AND (?4 IS NULL OR app_user = ?4) \
             AND (?5 IS NULL OR credential = ?5) \
             AND (?6 IS NULL OR provider = ?6) \
             AND (?7 IS NULL OR model = ?7)",
            $after
        )
    };
}

const TOTALS: &str = sums!("SELECT ", "");
const BY_MODEL: &str = sums!(
    "SELECT model, ",
    " GROUP BY model ORDER BY spent DESC, model"
);

impl Database {
    pub(super) async fn totals(&self, filter: &Filter) -> Result<Totals, LedgerError> {
        let rows = self.sum(TOTALS, filter).await?;
        rows.first().map_or(Ok(Totals::default()), |row| {
            totals(row).map_err(|error| self.error("a question about sums", error))
        })
    }

    pub(super) async fn by_model(&self, filter: &Filter) -> Result<Vec<ModelSpend>, LedgerError> {
        let failed = |error| self.error("a question about models", error);
        let mut spends = Vec::new();
        for row in self.sum(BY_MODEL, filter).await? {
            let text: String = row.try_get("model").map_err(failed)?;
            spends.push(ModelSpend {
                model: self.sense("model", &text, ModelId::parse)?,
                totals: totals(&row).map_err(failed)?,
                images: count(&row, "images").map_err(failed)?,
            });
        }
        Ok(spends)
    }

    async fn sum(&self, sql: &'static str, filter: &Filter) -> Result<Vec<SqliteRow>, LedgerError> {
        sqlx::query(sql)
            .bind(filter.since.map(Timestamp::as_microsecond))
            .bind(filter.until.map(Timestamp::as_microsecond))
            .bind(filter.app.clone())
            .bind(filter.user.clone())
            .bind(filter.credential.clone())
            .bind(filter.provider.clone())
            .bind(filter.model.as_ref().map(ModelId::as_str))
            .fetch_all(self.readers())
            .await
            .map_err(|error| self.error("a question about sums", error))
    }

    /// All attempts of a call, in order.
    pub(super) async fn rows(&self, call: Ulid) -> Result<Vec<Row>, LedgerError> {
        let found = sqlx::query("SELECT * FROM attempts WHERE call = ?1 ORDER BY attempt")
            .bind(call.to_string())
            .fetch_all(self.readers())
            .await
            .map_err(|error| self.error("a question about a call", error))?;
        found.iter().map(|found| row(self, found)).collect()
    }

    /// Every attempt there is, oldest first.
    pub(super) async fn all_rows(&self) -> Result<Vec<Row>, LedgerError> {
        let found = sqlx::query("SELECT * FROM attempts ORDER BY call, attempt")
            .fetch_all(self.readers())
            .await
            .map_err(|error| self.error("a question about every call", error))?;
        found.iter().map(|found| row(self, found)).collect()
    }

    fn nonsense(&self, column: &'static str, text: &str) -> LedgerError {
        LedgerError::Nonsense {
            path: self.path.clone(),
            column,
            text: text.to_owned(),
        }
    }

    pub(super) fn sense<T>(
        &self,
        column: &'static str,
        text: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, LedgerError> {
        parse(text).ok_or_else(|| self.nonsense(column, text))
    }
}

fn totals(row: &SqliteRow) -> Result<Totals, sqlx::Error> {
    Ok(Totals {
        spent: Usd::from_nano(row.try_get("spent")?),
        unknown: Usd::from_nano(row.try_get("unknown")?),
        held: Usd::from_nano(row.try_get("held")?),
        calls: count(row, "calls")?,
        attempts: count(row, "attempts")?,
        open: count(row, "open")?,
        unpriced: count(row, "unpriced")?,
    })
}

fn count(row: &SqliteRow, column: &str) -> Result<u64, sqlx::Error> {
    let count: i64 = row.try_get(column)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) fn ulid(
    database: &Database,
    column: &'static str,
    text: &str,
) -> Result<Ulid, LedgerError> {
    database.sense(column, text, |text| Ulid::from_string(text).ok())
}

/// One attempt from a row with all columns.
pub(super) fn row(database: &Database, row: &SqliteRow) -> Result<Row, LedgerError> {
    let columns = Columns { database, row };
    let outcome: Option<String> = columns.get("outcome")?;
    let settled = outcome
        .map(|outcome| columns.settlement(&outcome))
        .transpose()?;
    Ok(Row {
        hold: columns.hold()?,
        settled,
        assumed: columns.get::<i64>("assumed")? != 0,
    })
}

/// A row's columns, each under its name.
struct Columns<'a> {
    database: &'a Database,
    row: &'a SqliteRow,
}

impl<'a> Columns<'a> {
    fn get<T>(&self, column: &'static str) -> Result<T, LedgerError>
    where
        T: sqlx::Decode<'a, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row
            .try_get(column)
            .map_err(|error| self.database.error("a question about a row", error))
    }

    fn word<T>(
        &self,
        column: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, LedgerError> {
        let text: String = self.get(column)?;
        self.database.sense(column, &text, parse)
    }

    fn shared(&self, column: &'static str) -> Result<Option<Arc<str>>, LedgerError> {
        Ok(self.get::<Option<String>>(column)?.map(Arc::from))
    }

    fn usd(&self, column: &'static str) -> Result<Option<Usd>, LedgerError> {
        Ok(self.get::<Option<i64>>(column)?.map(Usd::from_nano))
    }

    fn time(&self, column: &'static str) -> Result<Timestamp, LedgerError> {
        let micro: i64 = self.get(column)?;
        Timestamp::from_microsecond(micro)
            .map_err(|_| self.database.nonsense(column, &micro.to_string()))
    }

    fn count(&self, column: &'static str) -> Result<u32, LedgerError> {
        let count: i64 = self.get(column)?;
        u32::try_from(count).map_err(|_| self.database.nonsense(column, &count.to_string()))
    }

    fn hold(&self) -> Result<Hold, LedgerError> {
        Ok(Hold {
            call: self.word("call", |text| Ulid::from_string(text).ok())?,
            attempt: self.count("attempt")?,
            at: self.time("at")?,
            app: self.get::<String>("app")?.into(),
            model: self.word("model", ModelId::parse)?,
            tier: self.word("tier", Tier::parse)?,
            credential: self.shared("credential")?,
            user: self.shared("app_user")?,
            tags: self.shared("tags")?,
            held: self.usd("held")?,
            quote: self.usd("quote")?,
            claims: Arc::default(),
        })
    }

    fn settlement(&self, outcome: &str) -> Result<Settlement, LedgerError> {
        Ok(Settlement {
            at: self.time("settled_at")?,
            outcome: self.database.sense("outcome", outcome, Outcome::parse)?,
            billed: self.word("billed", Billed::parse)?,
            charge: self.usd("charge")?,
            from: self.word("charge_from", ChargeFrom::parse)?,
            images: self.count("images")?,
            request_id: self.get("request_id")?,
        })
    }
}
