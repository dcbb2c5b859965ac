//! What attempts take of budgets, in the database.
//!
//! A claim is an attempt's share of one bucket; a bucket's counters are the sums of its claims, and
//! the database itself keeps them so: triggers carry every end of an attempt, however it comes
//! about, into its claims and on into the buckets. Nothing here has to remember to.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::batch::Batch;
use super::entry::Claim;
use crate::budget::Standing;
use crate::money::Usd;

/// Made where it is missing: a release that does not know it keeps the counters right all the same,
/// since the triggers are the database's.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS claims (
    call    TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    budget  TEXT    NOT NULL,
    bucket  TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    amount  INTEGER NOT NULL,
    open    INTEGER NOT NULL CHECK (open = 0 OR open = 1),
    PRIMARY KEY (call, attempt, budget, bucket)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    budget TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    bucket TEXT    NOT NULL,
    spent  INTEGER NOT NULL DEFAULT 0,
    held   INTEGER NOT NULL DEFAULT 0,
    told   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget, since, bucket)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS claim_made AFTER INSERT ON claims BEGIN
    INSERT INTO buckets (budget, since, bucket, spent, held)
    VALUES (NEW.budget, NEW.since, NEW.bucket, (1 - NEW.open) * NEW.amount, NEW.open * NEW.amount)
    ON CONFLICT (budget, since, bucket) DO UPDATE
    SET spent = spent + excluded.spent, held = held + excluded.held;
END;
CREATE TRIGGER IF NOT EXISTS claim_changed AFTER UPDATE ON claims BEGIN
    UPDATE buckets
    SET spent = spent + (1 - NEW.open) * NEW.amount - (1 - OLD.open) * OLD.amount,
        held = held + NEW.open * NEW.amount - OLD.open * OLD.amount
    WHERE budget = NEW.budget AND since = NEW.since AND bucket = NEW.bucket;
END;
CREATE TRIGGER IF NOT EXISTS claim_gone AFTER DELETE ON claims BEGIN
    UPDATE buckets
    SET spent = spent - (1 - OLD.open) * OLD.amount, held = held - OLD.open * OLD.amount
    WHERE budget = OLD.budget AND since = OLD.since AND bucket = OLD.bucket;
END;
CREATE TRIGGER IF NOT EXISTS attempt_ended AFTER UPDATE ON attempts
WHEN NEW.outcome IS NOT NULL BEGIN
    UPDATE claims SET open = 0, amount = COALESCE(NEW.charge, amount)
    WHERE call = NEW.call AND attempt = NEW.attempt;
END;
CREATE TRIGGER IF NOT EXISTS attempt_gone AFTER DELETE ON attempts BEGIN
    DELETE FROM claims WHERE call = OLD.call AND attempt = OLD.attempt;
END;
";

/// Only where it is missing, so that a claim that has ended is not opened again. An attempt that
/// has ended by now counts as what it was charged.
const CLAIM: &str = "INSERT INTO claims (call, attempt, budget, bucket, since, amount, open) \
     SELECT call, attempt, ?3, ?4, ?5, \
            CASE WHEN outcome IS NULL THEN ?6 ELSE COALESCE(charge, ?6) END, outcome IS NULL \
     FROM attempts WHERE call = ?1 AND attempt = ?2 AND NOT EXISTS \
     (SELECT 1 FROM claims WHERE call = ?1 AND attempt = ?2 AND budget = ?3 AND bucket = ?4)";

/// What a bucket is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct BucketId {
    pub(super) budget: Arc<str>,
    pub(super) since: Timestamp,
    pub(super) bucket: Arc<str>,
}

impl BucketId {
    pub(super) fn of(claim: &Claim) -> BucketId {
        BucketId {
            budget: Arc::clone(&claim.budget),
            since: claim.since,
            bucket: Arc::clone(&claim.bucket),
        }
    }
}

/// A bucket as a transaction sees it, and what it made of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    pub(super) standing: Standing,
    /// The highest mark that somebody was told of.
    pub(super) told: u8,
    pub(super) tell: bool,
}

/// The buckets that one transaction touches. Nobody else can change them meanwhile.
pub(super) type Touched = HashMap<BucketId, Bucket>;

/// Writes one claim of an attempt whose row is there.
pub(super) async fn claim(
    connection: &mut SqliteConnection,
    call: &str,
    attempt: u32,
    claim: &Claim,
) -> Result<(), sqlx::Error> {
    sqlx::query(CLAIM)
        .bind(call.to_owned())
        .bind(i64::from(attempt))
        .bind(Arc::clone(&claim.budget))
        .bind(Arc::clone(&claim.bucket))
        .bind(claim.since.as_microsecond())
        .bind(claim.amount.nano())
        .execute(connection)
        .await?;
    Ok(())
}

/// Writes the claims of a batch whose rows are written, and looks what their buckets came to.
pub(super) async fn write(
    connection: &mut SqliteConnection,
    batch: &Batch,
    touched: &mut Touched,
) -> Result<(), sqlx::Error> {
    let of_rows = batch.rows.iter().map(|write| &write.hold);
    let holds = of_rows.filter(|hold| !hold.claims.is_empty());
    for hold in holds {
        let call = hold.call.to_string();
        for one in hold.claims.iter() {
            claim(connection, &call, hold.attempt, one).await?;
            touched.remove(&BucketId::of(one));
        }
    }
    for one in batch.rows.iter().flat_map(|write| write.hold.claims.iter()) {
        look(connection, BucketId::of(one), touched).await?;
    }
    Ok(())
}

/// The bucket as it stands in this transaction.
pub(super) async fn look(
    connection: &mut SqliteConnection,
    id: BucketId,
    touched: &mut Touched,
) -> Result<Bucket, sqlx::Error> {
    if let Some(bucket) = touched.get(&id) {
        return Ok(*bucket);
    }
    let sql =
        "SELECT spent, held, told FROM buckets WHERE budget = ?1 AND since = ?2 AND bucket = ?3";
    let found = sqlx::query(sql)
        .bind(Arc::clone(&id.budget))
        .bind(id.since.as_microsecond())
        .bind(Arc::clone(&id.bucket))
        .fetch_optional(connection)
        .await?;
    let bucket = match &found {
        Some(row) => Bucket {
            standing: standing(row)?,
            told: u8::try_from(row.try_get::<i64, _>("told")?).unwrap_or(u8::MAX),
            tell: false,
        },
        None => Bucket::default(),
    };
    touched.insert(id, bucket);
    Ok(bucket)
}

pub(super) fn standing(row: &SqliteRow) -> Result<Standing, sqlx::Error> {
    Ok(Standing {
        spent: Usd::from_nano(row.try_get("spent")?),
        held: Usd::from_nano(row.try_get("held")?),
    })
}

/// Writes down which marks somebody is about to be told of.
pub(super) async fn tell(
    connection: &mut SqliteConnection,
    touched: &Touched,
) -> Result<(), sqlx::Error> {
    for (id, bucket) in touched.iter().filter(|(_, bucket)| bucket.tell) {
        let sql = "INSERT INTO buckets (budget, since, bucket, told) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (budget, since, bucket) DO UPDATE SET told = excluded.told";
        sqlx::query(sql)
            .bind(Arc::clone(&id.budget))
            .bind(id.since.as_microsecond())
            .bind(Arc::clone(&id.bucket))
            .bind(i64::from(bucket.told))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}
