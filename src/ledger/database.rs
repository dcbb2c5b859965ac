//! The ledger's database: one row an attempt, written in batches, summed as integers.
//!
//! Every statement may be run again and changes nothing the second time: that is what makes it
//! safe to carry a journal twice.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqliteSynchronous,
};
use sqlx::{Arguments as _, ConnectOptions, Connection, QueryBuilder, Row as _, Sqlite};
use ulid::{ULID_LEN, Ulid};

use super::batch::{Batch, Write};
use super::claims::{self, Touched};
use super::entry::{Key, Row};
use super::error::LedgerError;
use super::{batches, jobs, query};

/// The layout of the tables, in SQLite's `user_version`.
const LAYOUT: i64 = 1;

/// Amounts are nano-dollars, times microseconds since 1970. `outcome` is null while an attempt is
/// open. `owner` names the journal that can still settle it. `assumed` marks an end that nobody
/// saw: a real one, should it turn up, replaces it. The checks do not say `IN`: SQLite would fill a
/// table of the words anew for every row, which takes as long as the rest of the insert.
const SCHEMA: &str = "
CREATE TABLE attempts (
    call        TEXT    NOT NULL,
    attempt     INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    app         TEXT    NOT NULL,
    provider    TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    tier        TEXT    NOT NULL,
    credential  TEXT,
    app_user    TEXT,
    tags        TEXT,
    held        INTEGER,
    quote       INTEGER,
    owner       TEXT    NOT NULL,
    outcome     TEXT    CHECK (outcome = 'ok' OR outcome = 'partial' OR outcome = 'failed'
                               OR outcome = 'unknown'),
    settled_at  INTEGER,
    billed      TEXT    CHECK (billed = 'yes' OR billed = 'no' OR billed = 'unknown'),
    charge      INTEGER,
    charge_from TEXT,
    images      INTEGER NOT NULL DEFAULT 0,
    request_id  TEXT,
    assumed     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (call, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_at ON attempts (at);
CREATE INDEX attempts_open ON attempts (owner) WHERE outcome IS NULL;
PRAGMA user_version = 1;
";

/// Values in the order of [`bind`].
const INSERT: &str = "INSERT INTO attempts (call, attempt, at, app, provider, model, tier, \
     credential, app_user, tags, held, quote, owner, outcome, settled_at, billed, charge, \
     charge_from, images, request_id) ";

/// An end is written once; only one that was assumed gives way to a real one.
const ON_CONFLICT: &str = " ON CONFLICT (call, attempt) DO UPDATE SET \
     outcome = excluded.outcome, settled_at = excluded.settled_at, billed = excluded.billed, \
     charge = excluded.charge, charge_from = excluded.charge_from, images = excluded.images, \
     request_id = excluded.request_id, assumed = 0 \
     WHERE excluded.outcome IS NOT NULL AND (attempts.outcome IS NULL OR attempts.assumed = 1)";

/// What a hold without an end becomes: booked as though the provider had done the work.
///
/// The hold of a batch's line is no such one: the batch goes on without the process.
const ASSUME_UNKNOWN: &str = "UPDATE attempts SET outcome = 'unknown', assumed = 1, \
     settled_at = ?2, billed = 'unknown', charge = held, \
     charge_from = CASE WHEN held IS NULL THEN 'unpriced' ELSE 'list' END \
     WHERE owner = ?1 AND outcome IS NULL AND NOT EXISTS (SELECT 1 FROM batch_lines \
     WHERE batch_lines.call = attempts.call AND batch_lines.attempt = attempts.attempt \
     AND batch_lines.end IS NULL) RETURNING *";

/// Events of one batch.
pub(super) const ROWS: usize = 4096;

/// An insert of so many rows at once.
struct Inserts {
    rows: usize,
    sql: &'static str,
}

/// Few statements, so that the connection parses each once and keeps it: parsing costs more than
/// the rows themselves. Each goes to the connection's thread and its word comes back, which wakes
/// two threads: so as many rows at once as a busy tenth of a second brings.
static INSERTS: LazyLock<[Inserts; 4]> = LazyLock::new(|| {
    [128, 16, 4, 1].map(|rows| {
        let row = format!("({})", ["?"; VALUES].join(", "));
        let values = vec![row; rows].join(", ");
        let sql = format!("{INSERT}VALUES {values}{ON_CONFLICT}");
        Inserts {
            rows,
            sql: sql.leak(), // once a process
        }
    })
});

/// Values of a row.
const VALUES: usize = 20;

pub(super) struct Database {
    pub(super) path: PathBuf,
    options: SqliteConnectOptions,
    readers: SqlitePool,
}

/// The one connection that writes; made anew after any error, because what a connection knows
/// about a file whose disk has failed is not to be trusted.
#[derive(Default)]
pub(super) struct Writer(Option<SqliteConnection>);

impl Database {
    /// Opens it, and makes its tables where it is new.
    pub(super) async fn open(path: PathBuf) -> Result<Database, LedgerError> {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .foreign_keys(true)
            .disable_statement_logging();
        let readers = PoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(options.clone());
        let database = Database {
            path,
            options,
            readers,
        };
        database.make_tables().await?;
        Ok(database)
    }

    /// One that is only looked at: nothing is made, changed or taken over.
    pub(super) fn to_read(path: PathBuf) -> Database {
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let readers = PoolOptions::new()
            .max_connections(1)
            .connect_lazy_with(options.clone());
        Database {
            path,
            options,
            readers,
        }
    }

    async fn make_tables(&self) -> Result<(), LedgerError> {
        let failed = |error| self.error("its own layout", error);
        let mut connection = self.connect().await.map_err(failed)?;
        let found: i64 = sqlx::query_scalar("PRAGMA user_version")
            .fetch_one(&mut connection)
            .await
            .map_err(failed)?;
        if found > LAYOUT {
            return Err(LedgerError::Newer {
                path: self.path.clone(),
                found,
                known: LAYOUT,
            });
        }
        if found == 0 {
            let mut change = connection
                .begin_with("BEGIN IMMEDIATE")
                .await
                .map_err(failed)?;
            sqlx::raw_sql(SCHEMA)
                .execute(&mut *change)
                .await
                .map_err(failed)?;
            change.commit().await.map_err(failed)?;
        }
        for schema in [jobs::SCHEMA, batches::SCHEMA, claims::SCHEMA] {
            sqlx::raw_sql(schema)
                .execute(&mut connection)
                .await
                .map_err(failed)?;
        }
        connection.close().await.map_err(failed)
    }

    pub(super) async fn connect(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// For queries.
    pub(super) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    pub(super) fn error(&self, what: &'static str, error: sqlx::Error) -> LedgerError {
        LedgerError::database(what, &self.path, error)
    }

    /// Carries all that a dead process left, and books what it left open as unknown. Returns what
    /// became unknown.
    pub(super) async fn inherit(
        &self,
        owner: Ulid,
        batches: &[Batch],
        now: jiff::Timestamp,
    ) -> Result<Vec<Row>, LedgerError> {
        let failed = |error| self.error("an old journal", error);
        let mut connection = self.connect().await.map_err(failed)?;
        let mut change = connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        for batch in batches {
            apply(&mut change, owner, batch, &mut Touched::new())
                .await
                .map_err(failed)?;
        }
        let unknown = sqlx::query(ASSUME_UNKNOWN)
            .bind(owner.to_string())
            .bind(now.as_microsecond())
            .fetch_all(&mut *change)
            .await
            .map_err(failed)?;
        change.commit().await.map_err(failed)?;
        let _ = connection.close().await;
        unknown.iter().map(|row| query::row(self, row)).collect()
    }

    /// Whose holds are open, as far as the database knows.
    pub(super) async fn open_owners(&self) -> Result<Vec<Ulid>, LedgerError> {
        let failed = |error| self.error("a question about open holds", error);
        let found = sqlx::query("SELECT DISTINCT owner FROM attempts WHERE outcome IS NULL")
            .fetch_all(&self.readers)
            .await
            .map_err(failed)?;
        let mut owners = Vec::with_capacity(found.len());
        for row in found {
            let text: String = row.try_get(0).map_err(failed)?;
            owners.push(query::ulid(self, "owner", &text)?);
        }
        Ok(owners)
    }

    /// Closes the connections that read.
    pub(super) async fn close(&self) {
        self.readers.close().await;
    }
}

impl Writer {
    /// The connection, taken out while it is in use: an error, or giving up half-way, leaves none
    /// behind.
    pub(super) async fn take(
        &mut self,
        database: &Database,
    ) -> Result<SqliteConnection, sqlx::Error> {
        match self.0.take() {
            Some(connection) => Ok(connection),
            None => database.connect().await,
        }
    }

    pub(super) fn put(&mut self, connection: SqliteConnection) {
        self.0 = Some(connection);
    }

    /// Closes the connection; SQLite tidies its files when the last one goes.
    pub(super) async fn close(self) {
        if let Some(connection) = self.0 {
            let _ = connection.close().await;
        }
    }
}

/// Writes one batch into a transaction.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    owner: Ulid,
    batch: &Batch,
    touched: &mut Touched,
) -> Result<(), sqlx::Error> {
    release(connection, batch).await?;
    insert(connection, owner, batch).await?;
    claims::write(connection, batch, touched).await
}

/// Only an open hold can be taken back.
async fn release(connection: &mut SqliteConnection, batch: &Batch) -> Result<(), sqlx::Error> {
    if batch.released.is_empty() {
        return Ok(());
    }
    let mut sql: QueryBuilder<Sqlite> =
        QueryBuilder::new("DELETE FROM attempts WHERE outcome IS NULL AND (call, attempt) IN (");
    sql.push_values(&batch.released, |mut row, key: &Key| {
        row.push_bind(key.call.to_string())
            .push_bind(i64::from(key.attempt));
    });
    sql.push(")");
    sql.build().execute(connection).await?;
    Ok(())
}

pub(super) async fn insert(
    connection: &mut SqliteConnection,
    owner: Ulid,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let owner: Arc<str> = owner.to_string().into();
    let mut words = Words::default();
    let mut rest = batch.rows.as_slice();
    for statement in &*INSERTS {
        while rest.len() >= statement.rows {
            let (now, later) = rest.split_at(statement.rows);
            let mut values = SqliteArguments::default();
            values.reserve(statement.rows * VALUES, 0);
            let mut query = sqlx::query_with(statement.sql, values);
            for write in now {
                query = bind(query, &owner, &mut words, write);
            }
            query.execute(&mut *connection).await?;
            rest = later;
        }
    }
    Ok(())
}

type Insert<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// Texts that the rows of a batch have in common, each made once: sqlx takes two blocks of memory
/// for every text that is not shared already.
#[derive(Default)]
struct Words(Vec<Arc<str>>);

impl Words {
    /// So many are remembered; a batch of more models than this makes them anew.
    const MOST: usize = 32;

    fn of(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        if self.0.len() < Words::MOST {
            self.0.push(Arc::clone(&text));
        }
        text
    }
}

/// Binds one row, in the order of [`INSERT`].
fn bind<'q>(
    query: Insert<'q>,
    owner: &Arc<str>,
    words: &mut Words,
    write: &'q Write,
) -> Insert<'q> {
    let hold = &write.hold;
    let end = write.settled.as_deref();
    let mut call = [0; ULID_LEN];
    query
        .bind(Arc::<str>::from(&*hold.call.array_to_str(&mut call)))
        .bind(i64::from(hold.attempt))
        .bind(hold.at.as_microsecond())
        .bind(hold.app.clone())
        .bind(words.of(hold.model.provider()))
        .bind(words.of(hold.model.as_str()))
        .bind(words.of(hold.tier.as_str()))
        .bind(hold.credential.clone())
        .bind(hold.user.clone())
        .bind(hold.tags.clone())
        .bind(hold.held.map(|held| held.nano()))
        .bind(hold.quote.map(|quote| quote.nano()))
        .bind(Arc::clone(owner))
        .bind(end.map(|end| words.of(end.outcome.as_str())))
        .bind(end.map(|end| end.at.as_microsecond()))
        .bind(end.map(|end| words.of(end.billed.as_str())))
        .bind(end.and_then(|end| end.charge).map(|charge| charge.nano()))
        .bind(end.map(|end| words.of(end.from.as_str())))
        .bind(end.map_or(0, |end| i64::from(end.images)))
        .bind(end.and_then(|end| end.request_id.as_deref()))
}
