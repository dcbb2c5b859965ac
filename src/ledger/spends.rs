//! What apps spent on models in the hour, day, week, month, and in all, in memory: for rules.
//!
//! Read from the database once, kept up with every batch that is carried, and read again where
//! other processes spend too. Periods begin in UTC.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::batch::Batch;
use crate::budget::{Per, Periods};
use crate::money::Usd;

/// So often, at most, it is read again: that looks at every attempt of a period.
const READ_AGAIN: Duration = Duration::from_secs(5);

const SUMS: &str = "SELECT app, model, SUM(charge) AS spent FROM attempts \
     WHERE at >= ?1 AND charge IS NOT NULL GROUP BY app, model";

pub(super) struct Spends {
    cells: Mutex<HashMap<(Arc<str>, Arc<str>), Cell>>,
    periods: Vec<(Per, Periods)>,
    /// Somebody has asked since it was read.
    asked: AtomicBool,
    /// Others have written since it was read.
    behind: AtomicBool,
    read: Mutex<Option<Instant>>,
}

/// What one app spent on one model, in each kind of period: when that began, and how much.
type Cell = [(Timestamp, Usd); Per::ALL.len()];

impl Spends {
    pub(super) fn new() -> Spends {
        let periods = Per::ALL
            .iter()
            .map(|per| (*per, Periods::new(*per, TimeZone::UTC)));
        Spends {
            cells: Mutex::default(),
            periods: periods.collect(),
            asked: AtomicBool::new(false),
            behind: AtomicBool::new(false),
            read: Mutex::default(),
        }
    }

    /// What `app` spent on `model` in the period of `at`; of all of them where none is named.
    pub(super) fn of(
        &self,
        app: Option<&str>,
        model: Option<&str>,
        per: Per,
        at: Timestamp,
    ) -> Usd {
        self.asked.store(true, Ordering::Relaxed);
        let found = self.periods.iter().position(|(own, _)| *own == per);
        let place = found.unwrap_or_default();
        let start = self.periods[place].1.of(at).start;
        let cells = self.cells.lock();
        let wanted = cells.iter().filter(|((own_app, own_model), _)| {
            app.is_none_or(|app| **own_app == *app)
                && model.is_none_or(|model| **own_model == *model)
        });
        let spent = wanted.map(|(_, cell)| cell[place]);
        spent
            .filter(|(since, _)| *since == start)
            .map(|(_, spent)| spent)
            .sum()
    }

    /// Adds what a batch that is carried has charged.
    pub(super) fn take(&self, batch: &Batch) {
        for write in &batch.rows {
            let Some(charge) = write.settled.as_ref().and_then(|end| end.charge) else {
                continue;
            };
            let hold = &write.hold;
            let key = (Arc::clone(&hold.app), hold.model.as_str().into());
            let starts = self.starts(hold.at);
            let mut cells = self.cells.lock();
            let cell = cells.entry(key).or_insert_with(nothing);
            for ((since, spent), start) in cell.iter_mut().zip(starts) {
                if start > *since {
                    (*since, *spent) = (start, charge);
                } else if start == *since {
                    *spent += charge;
                }
            }
        }
    }

    fn starts(&self, at: Timestamp) -> Vec<Timestamp> {
        self.periods
            .iter()
            .map(|(_, periods)| periods.of(at).start)
            .collect()
    }

    pub(super) fn is_read(&self) -> bool {
        self.read.lock().is_some()
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Others have written to the database.
    pub(super) fn fall_behind(&self) {
        self.behind.store(true, Ordering::Relaxed);
    }

    /// Whether what others spent should be read.
    pub(super) fn is_stale(&self) -> bool {
        let old = |read: Instant| read.elapsed() > READ_AGAIN;
        self.is_asked() && self.behind.load(Ordering::Relaxed) && self.read.lock().is_some_and(old)
    }

    /// Reads all of it anew. Nothing may be carried meanwhile.
    pub(super) async fn read(&self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let now = Timestamp::now();
        let mut cells: HashMap<(Arc<str>, Arc<str>), Cell> = HashMap::new();
        for (place, start) in self.starts(now).into_iter().enumerate() {
            let rows = sqlx::query(SUMS)
                .bind(start.as_microsecond())
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let (app, model): (String, String) = (row.try_get("app")?, row.try_get("model")?);
                let cell = cells
                    .entry((app.into(), model.into()))
                    .or_insert_with(nothing);
                cell[place] = (start, Usd::from_nano(row.try_get("spent")?));
            }
        }
        *self.cells.lock() = cells;
        self.asked.store(false, Ordering::Relaxed);
        self.behind.store(false, Ordering::Relaxed);
        *self.read.lock() = Some(Instant::now());
        Ok(())
    }
}

fn nothing() -> Cell {
    [(Timestamp::UNIX_EPOCH, Usd::ZERO); Per::ALL.len()]
}
