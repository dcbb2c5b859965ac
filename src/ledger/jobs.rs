//! Jobs that outlive the process: which call's attempt a provider still works on, and which jobs
//! of ours an app may still ask about.
//!
//! The hold is in the journal; here is only what finds it again by the name that the app knows. A
//! provider's job that is not here any more is settled, or its process never came so far: then its
//! attempt is unknown, as any other that has no end.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row as _};
use ulid::Ulid;

use super::database::Database;
use super::entry::{Event, Key, Row, Settlement};
use super::error::LedgerError;
use super::{Ledger, Written, query};
use crate::image::ModelId;

/// Made where it is missing: a release that does not know it is not disturbed by it.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    provider TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    call     TEXT    NOT NULL,
    attempt  INTEGER NOT NULL,
    asker    BLOB,
    model    TEXT    NOT NULL,
    ours     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (provider, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_ends (
    provider TEXT NOT NULL,
    id       TEXT NOT NULL,
    line     TEXT,
    question TEXT,
    PRIMARY KEY (provider, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_homes (
    provider TEXT NOT NULL,
    id       TEXT NOT NULL,
    owner    TEXT NOT NULL,
    home     TEXT,
    PRIMARY KEY (provider, id)
) STRICT, WITHOUT ROWID;
";

/// A job that an app was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptJob {
    pub provider: String,
    /// As its app knows it.
    pub id: String,
    /// The attempt that it is; of one of ours, its call.
    pub key: Key,
    /// A keyed digest of the credential that may ask about it.
    pub asker: Option<[u8; 16]>,
    /// As the app asked for it.
    pub model: ModelId,
    /// Not the provider's: its answers are ours to give.
    pub ours: bool,
    pub at: Timestamp,
    /// Its call's line for the decision log, should this process not live to write it.
    pub line: Option<String>,
    /// Where the provider is asked about it next, as a URL; `None` where it takes more than one.
    pub question: Option<String>,
    /// Where the process that keeps it is asked about it, as a URL; of a job of ours.
    pub home: Option<String>,
    /// That process lives, as far as was known when this was read.
    pub lives: bool,
}

impl Ledger {
    /// Keeps a job until [`Ledger::end_job`].
    ///
    /// # Errors
    /// When the database fails. The job is then lost with this process, and its attempt unknown.
    pub async fn keep_job(&self, job: &KeptJob) -> Result<(), LedgerError> {
        let database = &self.shared().database;
        let sql = "INSERT OR REPLACE INTO jobs \
                   (provider, id, call, attempt, asker, model, ours, at) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let row = sqlx::query(sql)
            .bind(job.provider.clone())
            .bind(job.id.clone())
            .bind(job.key.call.to_string())
            .bind(i64::from(job.key.attempt))
            .bind(job.asker.map(|asker| asker.to_vec()))
            .bind(job.model.as_str().to_owned())
            .bind(job.ours)
            .bind(job.at.as_microsecond());
        let sql = "INSERT OR REPLACE INTO job_ends (provider, id, line, question) \
                   VALUES (?1, ?2, ?3, ?4)";
        let end = sqlx::query(sql)
            .bind(job.provider.clone())
            .bind(job.id.clone())
            .bind(job.line.clone())
            .bind(job.question.clone());
        let sql = "INSERT OR REPLACE INTO job_homes (provider, id, owner, home) \
                   VALUES (?1, ?2, ?3, ?4)";
        let home = sqlx::query(sql)
            .bind(job.provider.clone())
            .bind(job.id.clone())
            .bind(self.shared().journal.owner.to_string())
            .bind(job.home.clone());
        database.run([row, end, home]).await
    }

    /// Forgets the line of a job: it is in the decision log.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn told_job(&self, provider: &str, id: &str) -> Result<(), LedgerError> {
        let sql = "UPDATE job_ends SET line = NULL WHERE provider = ?1 AND id = ?2";
        let statement = sqlx::query(sql)
            .bind(provider.to_owned())
            .bind(id.to_owned());
        self.shared().database.run([statement]).await
    }

    /// Forgets a job: its charge is known, or nobody will ever know it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_job(&self, provider: &str, id: &str) -> Result<(), LedgerError> {
        let forget = |sql| {
            sqlx::query(sql)
                .bind(provider.to_owned())
                .bind(id.to_owned())
        };
        let row = forget("DELETE FROM jobs WHERE provider = ?1 AND id = ?2");
        let end = forget("DELETE FROM job_ends WHERE provider = ?1 AND id = ?2");
        let home = forget("DELETE FROM job_homes WHERE provider = ?1 AND id = ?2");
        self.shared().database.run([row, end, home]).await
    }

    /// One job that is kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_job(&self, provider: &str, id: &str) -> Result<Option<KeptJob>, LedgerError> {
        let living = self.shared().journal.living()?;
        let one = Some((provider, id));
        Ok(self.shared().database.jobs(one, &living).await?.pop())
    }

    /// The jobs that are kept, each with its attempt as far as the database has it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn kept_jobs(&self) -> Result<Vec<(KeptJob, Option<Row>)>, LedgerError> {
        let mut jobs = Vec::new();
        let living = self.shared().journal.living()?;
        for job in self.shared().database.jobs(None, &living).await? {
            let rows = self.rows(job.key.call).await?;
            let row = rows.into_iter().find(|row| row.hold.key() == job.key);
            jobs.push((job, row));
        }
        Ok(jobs)
    }

    /// Writes the end of an attempt that a dead process left; it takes the place of the one that
    /// was assumed. `None` when there is no such attempt, or its end is known.
    ///
    /// # Errors
    /// As [`Ledger::settle`], and when the database fails.
    pub async fn settle_late(
        &self,
        key: Key,
        settlement: Settlement,
    ) -> Result<Option<Written>, LedgerError> {
        let rows = self.rows(key.call).await?;
        let left = rows
            .into_iter()
            .find(|row| row.hold.key() == key && (row.assumed || row.settled.is_none()));
        let Some(row) = left else {
            return Ok(None);
        };
        let journal = &self.shared().journal;
        journal.state_fact(Event::Settled(row.hold.into(), settlement.into()))?;
        // Which budgets it counts in only the database knows.
        self.shared().standings.doubt();
        Ok(Some(Written {
            journal: journal.clone(),
            sync: journal.sync,
        }))
    }
}

type Statement<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

impl Database {
    /// Runs statements on a connection of their own, all of them or none.
    pub(super) async fn run<const N: usize>(
        &self,
        all: [Statement<'_>; N],
    ) -> Result<(), LedgerError> {
        let failed = |error| self.error("a job", error);
        let mut connection = self.connect().await.map_err(failed)?;
        let mut transaction = connection.begin().await.map_err(failed)?;
        for statement in all {
            statement.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        connection.close().await.map_err(failed)
    }

    fn model_of_job(&self, row: &SqliteRow) -> Result<ModelId, LedgerError> {
        let text: String = row
            .try_get("model")
            .map_err(|error| self.error("a question about jobs", error))?;
        self.sense("model", &text, ModelId::parse)
    }

    /// All jobs, or one; `living` are the owners of journals whose processes live.
    async fn jobs(
        &self,
        one: Option<(&str, &str)>,
        living: &[Ulid],
    ) -> Result<Vec<KeptJob>, LedgerError> {
        let failed = |error| self.error("a question about jobs", error);
        let sql = "SELECT * FROM jobs LEFT JOIN job_ends USING (provider, id) \
                   LEFT JOIN job_homes USING (provider, id) \
                   WHERE ?1 IS NULL OR provider = ?1 AND id = ?2";
        let found = sqlx::query(sql)
            .bind(one.map(|(provider, _)| provider.to_owned()))
            .bind(one.map(|(_, id)| id.to_owned()))
            .fetch_all(self.readers())
            .await
            .map_err(failed)?;
        let mut jobs = Vec::with_capacity(found.len());
        for row in &found {
            let call: String = row.try_get("call").map_err(failed)?;
            let call: Ulid = query::ulid(self, "call", &call)?;
            let attempt: i64 = row.try_get("attempt").map_err(failed)?;
            let asker: Option<Vec<u8>> = row.try_get("asker").map_err(failed)?;
            let at: i64 = row.try_get("at").map_err(failed)?;
            let owner: Option<String> = row.try_get("owner").map_err(failed)?;
            let owner = owner.map(|owner| query::ulid(self, "owner", &owner));
            let owner = owner.transpose()?;
            jobs.push(KeptJob {
                provider: row.try_get("provider").map_err(failed)?,
                id: row.try_get("id").map_err(failed)?,
                key: Key {
                    call,
                    attempt: u32::try_from(attempt).unwrap_or(u32::MAX),
                },
                asker: asker.and_then(|asker| asker.try_into().ok()),
                model: self.model_of_job(row)?,
                ours: row.try_get::<i64, _>("ours").map_err(failed)? != 0,
                at: Timestamp::from_microsecond(at).unwrap_or(Timestamp::UNIX_EPOCH),
                line: row.try_get("line").map_err(failed)?,
                question: row.try_get("question").map_err(failed)?,
                home: row.try_get("home").map_err(failed)?,
                lives: owner.is_some_and(|owner| living.contains(&owner)),
            });
        }
        Ok(jobs)
    }
}
