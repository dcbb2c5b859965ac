//! Batches that providers work on: which lines they have, and which of them are settled.
//!
//! A batch outlives the process that handed it in. Its lines stand here from before anything is
//! sent until each is settled, and as long as they do, their holds stay holds: neither a process
//! that ends nor one that takes over what a dead one left books them as unknown.

use std::fs::{File, TryLockError};
use std::path::PathBuf;

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, QueryBuilder, Row as _, Sqlite};
use ulid::Ulid;

use super::database::Database;
use super::entry::{Event, Hold, Key, Row, Settlement};
use super::error::LedgerError;
use super::{Ledger, Ticket, Written, query, segment};
use crate::image::{ModelId, words};

/// Made where it is missing: a release that does not know it is not disturbed by it.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS batches (
    id       TEXT    NOT NULL PRIMARY KEY,
    provider TEXT    NOT NULL,
    dialect  TEXT    NOT NULL,
    model    TEXT    NOT NULL,
    app      TEXT    NOT NULL,
    state    TEXT    NOT NULL,
    file     TEXT,
    job      TEXT,
    keep_s   INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    ended_at INTEGER,
    why      TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_lines (
    batch   TEXT    NOT NULL,
    line    INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    call    TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    key     BLOB    NOT NULL,
    facts   TEXT    NOT NULL,
    end     TEXT,
    PRIMARY KEY (batch, line)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS batch_lines_open ON batch_lines (call, attempt) WHERE end IS NULL;
";

/// Lines of one statement, within SQLite's bound on values.
const LINES: usize = 500;

words! {
    /// How far a batch has come.
    BatchStage {
        /// Written down; its provider knows nothing of it.
        Kept = "kept",
        /// Its order was sent, or is about to be: only the provider knows whether it arrived.
        Ordering = "ordering",
        /// Its provider has it.
        Running = "running",
        Ended = "ended",
    }
}

words! {
    /// What became of a line.
    LineOutcome {
        Done = "done",
        Failed = "failed",
    }
}

/// A batch as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBatch {
    /// Ours; the provider knows it as the batch's label.
    pub id: Ulid,
    pub provider: String,
    pub dialect: String,
    /// As it is sent.
    pub model: ModelId,
    pub app: String,
    pub stage: BatchStage,
    /// The provider's name for the lines that were handed over.
    pub file: Option<String>,
    /// The provider's name for the batch.
    pub job: Option<String>,
    /// So long, in seconds, its answers are kept.
    pub keep_s: u64,
    pub at: Timestamp,
    pub ended_at: Option<Timestamp>,
    /// What its provider said of it, where it did not run.
    pub why: Option<String>,
}

/// One line of a batch as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLine {
    /// Counts the lines of the batch from 1.
    pub line: u32,
    /// As its file calls it.
    pub name: String,
    /// The attempt that it is.
    pub attempt: Key,
    /// The canonical text under which its answer is found again.
    pub key: Vec<u8>,
    /// What is needed to go on with it, in words of whoever keeps it.
    pub facts: String,
    pub end: Option<LineOutcome>,
}

/// How many lines a batch has, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounts {
    pub lines: u64,
    pub done: u64,
    pub failed: u64,
}

impl LineCounts {
    /// Lines without an end.
    pub fn open(&self) -> u64 {
        self.lines.saturating_sub(self.done + self.failed)
    }
}

/// The right to follow a batch.
#[derive(Debug)]
pub struct Following {
    file: File,
    path: PathBuf,
}

impl Drop for Following {
    fn drop(&mut self) {
        // Taken away while it is locked: who opens it afterwards makes another.
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

impl Ledger {
    /// Keeps a batch with all its lines, before anything of it is held or sent.
    ///
    /// # Errors
    /// When the database fails. Nothing is kept then.
    pub async fn keep_batch(
        &self,
        batch: &KeptBatch,
        lines: &[KeptLine],
    ) -> Result<(), LedgerError> {
        let database = &self.shared().database;
        let failed = |error| database.error("a batch of calls", error);
        let mut connection = database.connect().await.map_err(failed)?;
        let mut change = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO batches VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .bind(batch.id.to_string())
        .bind(batch.provider.clone())
        .bind(batch.dialect.clone())
        .bind(batch.model.as_str().to_owned())
        .bind(batch.app.clone())
        .bind(batch.stage.as_str())
        .bind(batch.file.clone())
        .bind(batch.job.clone())
        .bind(i64::try_from(batch.keep_s).unwrap_or(i64::MAX))
        .bind(batch.at.as_microsecond())
        .bind(batch.ended_at.map(Timestamp::as_microsecond))
        .bind(batch.why.clone())
        .execute(&mut *change)
        .await
        .map_err(failed)?;
        for some in lines.chunks(LINES) {
            let mut sql: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO batch_lines ");
            sql.push_values(some, |mut row, line| {
                row.push_bind(batch.id.to_string())
                    .push_bind(i64::from(line.line))
                    .push_bind(line.name.clone())
                    .push_bind(line.attempt.call.to_string())
                    .push_bind(i64::from(line.attempt.attempt))
                    .push_bind(line.key.clone())
                    .push_bind(line.facts.clone())
                    .push_bind(line.end.map(LineOutcome::as_str));
            });
            sql.build().execute(&mut *change).await.map_err(failed)?;
        }
        change.commit().await.map_err(failed)?;
        connection.close().await.map_err(failed)
    }

    /// Writes down how far a batch has come. Once it has ended, its lines are settled and what was
    /// kept of them is let go.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn advance_batch(&self, batch: &KeptBatch) -> Result<(), LedgerError> {
        let database = &self.shared().database;
        let sql = "UPDATE batches SET state = ?2, file = ?3, job = ?4, ended_at = ?5, why = ?6 \
                   WHERE id = ?1";
        let statement = sqlx::query(sql)
            .bind(batch.id.to_string())
            .bind(batch.stage.as_str())
            .bind(batch.file.clone())
            .bind(batch.job.clone())
            .bind(batch.ended_at.map(Timestamp::as_microsecond))
            .bind(batch.why.clone());
        database.run([statement]).await?;
        if batch.stage == BatchStage::Ended {
            let sql = "UPDATE batch_lines SET facts = '', key = x'' WHERE batch = ?1";
            database
                .run([sqlx::query(sql).bind(batch.id.to_string())])
                .await?;
        }
        Ok(())
    }

    /// Writes down that a line is to be sent otherwise than it was kept at first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reword_line(&self, batch: Ulid, line: &KeptLine) -> Result<(), LedgerError> {
        let sql = "UPDATE batch_lines SET key = ?3, facts = ?4 WHERE batch = ?1 AND line = ?2";
        let statement = sqlx::query(sql)
            .bind(batch.to_string())
            .bind(i64::from(line.line))
            .bind(line.key.clone())
            .bind(line.facts.clone());
        self.shared().database.run([statement]).await
    }

    /// Forgets a batch of which nothing was sent, or of which nobody need know any more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_batch(&self, id: Ulid) -> Result<(), LedgerError> {
        let database = &self.shared().database;
        for sql in [
            "DELETE FROM batch_lines WHERE batch = ?1",
            "DELETE FROM batches WHERE id = ?1",
        ] {
            database
                .run([sqlx::query(sql).bind(id.to_string())])
                .await?;
        }
        Ok(())
    }

    /// Writes down what became of lines, after their charges are in the journal and their decisions
    /// in the log.
    ///
    /// # Errors
    /// When the database fails. The lines then end once more, which changes nothing.
    pub async fn end_lines(
        &self,
        batch: Ulid,
        ended: &[(u32, LineOutcome)],
    ) -> Result<(), LedgerError> {
        // What the journal has must be in the rows before a line stops guarding its hold.
        self.flush().await?;
        let database = &self.shared().database;
        for outcome in LineOutcome::ALL {
            let of_it = |&&(_, end): &&(u32, LineOutcome)| end == *outcome;
            let lines: Vec<u32> = ended.iter().filter(of_it).map(|(line, _)| *line).collect();
            for some in lines.chunks(LINES) {
                let mut sql: QueryBuilder<Sqlite> =
                    QueryBuilder::new("UPDATE batch_lines SET end = ");
                sql.push_bind(outcome.as_str());
                sql.push(" WHERE batch = ");
                sql.push_bind(batch.to_string());
                sql.push(" AND line IN (");
                let mut list = sql.separated(", ");
                for line in some {
                    list.push_bind(i64::from(*line));
                }
                sql.push(")");
                let failed = |error| database.error("the end of lines", error);
                let mut connection = database.connect().await.map_err(failed)?;
                sql.build().execute(&mut connection).await.map_err(failed)?;
                connection.close().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// All batches, the newest first, each with the counts of its lines.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_batches(&self) -> Result<Vec<(KeptBatch, LineCounts)>, LedgerError> {
        let database = &self.shared().database;
        let sql = "SELECT batches.*, \
                   (SELECT COUNT(*) FROM batch_lines WHERE batch = id) AS lines, \
                   (SELECT COUNT(*) FROM batch_lines WHERE batch = id AND end = 'done') AS done, \
                   (SELECT COUNT(*) FROM batch_lines WHERE batch = id AND end = 'failed') AS failed \
                   FROM batches ORDER BY id DESC";
        let found = sqlx::query(sql)
            .fetch_all(database.readers())
            .await
            .map_err(|error| database.error("a question about batches", error))?;
        found.iter().map(|row| batch(database, row)).collect()
    }

    /// The lines of a batch that have no end yet, each with its hold as far as one was written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_lines(
        &self,
        batch: Ulid,
    ) -> Result<Vec<(KeptLine, Option<Row>)>, LedgerError> {
        self.flush().await?;
        let database = &self.shared().database;
        let failed = |error| database.error("a question about lines", error);
        let sql = "SELECT * FROM batch_lines WHERE batch = ?1 AND end IS NULL ORDER BY line";
        let found = sqlx::query(sql)
            .bind(batch.to_string())
            .fetch_all(database.readers())
            .await
            .map_err(failed)?;
        let sql = "SELECT attempts.* FROM attempts JOIN batch_lines USING (call, attempt) \
                   WHERE batch = ?1 AND end IS NULL";
        let held = sqlx::query(sql)
            .bind(batch.to_string())
            .fetch_all(database.readers())
            .await
            .map_err(failed)?;
        let mut rows = std::collections::HashMap::new();
        for row in &held {
            let row = query::row(database, row)?;
            rows.insert(row.hold.key(), row);
        }
        let mut lines = Vec::with_capacity(found.len());
        for row in &found {
            let line = line(database, row)?;
            let row = rows.remove(&line.attempt);
            lines.push((line, row));
        }
        Ok(lines)
    }

    /// The right to follow a batch, which one process has at a time; `None` while another has it.
    /// It ends when the file is closed, however its process ends.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn follow_batch(&self, id: Ulid) -> Result<Option<Following>, LedgerError> {
        let mut name = self.shared().database.path.as_os_str().to_owned();
        name.push(format!(".batch-{id}"));
        let path = PathBuf::from(name);
        let failed = |error| LedgerError::disk("lock", &path, error);
        loop {
            let file = segment::open_lock(&path).map_err(failed)?;
            match file.try_lock() {
                // Whoever had it may have taken the file away between the two: a lock on that keeps
                // nobody out.
                Ok(()) if segment::lies_at(&file, &path).map_err(failed)? => {
                    return Ok(Some(Following { file, path }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
    }

    /// Leaves a hold to the batch whose line it is: whoever follows the batch settles it.
    pub fn entrust(&self, mut ticket: Ticket) -> Hold {
        ticket.done = true;
        (*ticket.hold).clone()
    }

    /// Writes the end of a line's attempt, whoever held it. The first end counts: writing it again
    /// changes nothing.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn settle_line(&self, hold: Hold, settlement: Settlement) -> Result<Written, LedgerError> {
        let journal = &self.shared().journal;
        journal.state_fact(Event::Settled(hold.into(), settlement.into()))?;
        Ok(Written {
            journal: journal.clone(),
            sync: journal.sync,
        })
    }

    /// Takes back the hold of a line that was not sent, whoever held it. It leaves no row.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn release_line(&self, attempt: Key) -> Result<(), LedgerError> {
        self.shared().journal.state_fact(Event::Released(attempt))
    }
}

fn batch(database: &Database, row: &SqliteRow) -> Result<(KeptBatch, LineCounts), LedgerError> {
    let failed = |error| database.error("a question about batches", error);
    let text = |column: &'static str| row.try_get::<String, _>(column).map_err(failed);
    let count = |column: &'static str| -> Result<u64, LedgerError> {
        let count: i64 = row.try_get(column).map_err(failed)?;
        Ok(u64::try_from(count).unwrap_or(0))
    };
    let moment = |micro: i64| Timestamp::from_microsecond(micro).unwrap_or(Timestamp::UNIX_EPOCH);
    let ended: Option<i64> = row.try_get("ended_at").map_err(failed)?;
    let kept = KeptBatch {
        id: query::ulid(database, "id", &text("id")?)?,
        provider: text("provider")?,
        dialect: text("dialect")?,
        model: database.sense("model", &text("model")?, ModelId::parse)?,
        app: text("app")?,
        stage: database.sense("state", &text("state")?, BatchStage::parse)?,
        file: row.try_get("file").map_err(failed)?,
        job: row.try_get("job").map_err(failed)?,
        keep_s: count("keep_s")?,
        at: moment(row.try_get("at").map_err(failed)?),
        ended_at: ended.map(moment),
        why: row.try_get("why").map_err(failed)?,
    };
    let counts = LineCounts {
        lines: count("lines")?,
        done: count("done")?,
        failed: count("failed")?,
    };
    Ok((kept, counts))
}

fn line(database: &Database, row: &SqliteRow) -> Result<KeptLine, LedgerError> {
    let failed = |error| database.error("a question about lines", error);
    let call: String = row.try_get("call").map_err(failed)?;
    let attempt: i64 = row.try_get("attempt").map_err(failed)?;
    let number: i64 = row.try_get("line").map_err(failed)?;
    let end: Option<String> = row.try_get("end").map_err(failed)?;
    Ok(KeptLine {
        line: u32::try_from(number).unwrap_or(u32::MAX),
        name: row.try_get("name").map_err(failed)?,
        attempt: Key {
            call: query::ulid(database, "call", &call)?,
            attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
        },
        key: row.try_get("key").map_err(failed)?,
        facts: row.try_get("facts").map_err(failed)?,
        end: end.as_deref().and_then(LineOutcome::parse),
    })
}
