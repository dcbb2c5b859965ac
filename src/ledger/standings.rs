//! What buckets stand at, in memory: for rules, which ask on the thread of a call.
//!
//! A copy of the database's counters, renewed by every transaction of this process and, where
//! other processes write to the same ledger, soon after theirs. Nothing is decided by it.

use std::sync::Arc;

use jiff::Timestamp;
use moka::sync::Cache;
use parking_lot::Mutex;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::claims::{self, BucketId, Touched};
use crate::budget::{Budgets, Place, Standing};

/// Buckets that are known at once: a budget by user has as many as there are users.
const MOST: u64 = 100_000;

pub(super) struct Standings {
    known: Cache<(Arc<str>, Arc<str>), (Timestamp, Standing)>,
    /// Those whose buckets are of interest.
    watched: Mutex<Budgets>,
    /// How often the database was changed by others, as far as was seen.
    seen: Mutex<Option<i64>>,
}

impl Standings {
    pub(super) fn new() -> Standings {
        Standings {
            known: Cache::new(MOST),
            watched: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    pub(super) fn watch(&self, budgets: Budgets) {
        *self.watched.lock() = budgets;
        *self.seen.lock() = None;
    }

    pub(super) fn watches(&self) -> bool {
        !self.watched.lock().is_empty()
    }

    /// What is known is to be read anew: something was changed whose buckets nobody named.
    pub(super) fn doubt(&self) {
        *self.seen.lock() = None;
    }

    pub(super) fn in_doubt(&self) -> bool {
        self.seen.lock().is_none() && self.watches()
    }

    pub(super) fn of(&self, place: &Place) -> Standing {
        let key = (Arc::clone(&place.budget.key), Arc::clone(&place.bucket));
        match self.known.get(&key) {
            Some((since, standing)) if since == place.period.start => standing,
            _ => Standing::default(),
        }
    }

    pub(super) fn take(&self, touched: Touched) {
        for (id, bucket) in touched {
            self.put(id, bucket.standing);
        }
    }

    fn put(&self, id: BucketId, standing: Standing) {
        self.known
            .insert((id.budget, id.bucket), (id.since, standing));
    }

    /// Reads the counters anew if anybody else has written to the database. A transaction of this
    /// process does not count as anybody's, and has told what it changed. Returns whether somebody
    /// has.
    pub(super) async fn renew(
        &self,
        connection: &mut SqliteConnection,
    ) -> Result<bool, sqlx::Error> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&mut *connection)
            .await?;
        if self.seen.lock().replace(version) == Some(version) {
            return Ok(false);
        }
        self.read(connection).await?;
        Ok(true)
    }

    /// Reads the counters of the periods that run.
    pub(super) async fn read(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let watched = self.watched.lock().clone();
        let now = Timestamp::now();
        for kept in watched.iter() {
            let since = kept.period(now).start;
            let sql =
                "SELECT bucket, spent, held FROM buckets WHERE budget = ?1 AND since = ?2 LIMIT ?3";
            let rows = sqlx::query(sql)
                .bind(Arc::clone(&kept.key))
                .bind(since.as_microsecond())
                .bind(i64::try_from(MOST).unwrap_or(i64::MAX))
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let id = BucketId {
                    budget: Arc::clone(&kept.key),
                    since,
                    bucket: row.try_get::<String, _>("bucket")?.into(),
                };
                self.put(id, claims::standing(&row)?);
            }
        }
        Ok(())
    }
}
