//! What can go wrong with the ledger, in words for people.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

/// Why the ledger could not do what it was asked.
///
/// Clonable, because one failed sync is the answer to everyone who waited for it.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// The disk said no.
    #[error(
        "the ledger cannot {what} {}: {error}. Make room or mend the disk; nothing is spent until it can",
        .path.display()
    )]
    Disk {
        what: &'static str,
        path: PathBuf,
        error: Arc<io::Error>,
    },
    /// SQLite said no.
    #[error(
        "the ledger's database {} does not take {what}: {error}. The journal beside it keeps what was not taken; check its disk and `pixtoll ledger verify`",
        .path.display()
    )]
    Database {
        what: &'static str,
        path: PathBuf,
        error: Arc<sqlx::Error>,
    },
    /// A file of ours that others may read or write.
    #[error(
        "{} may be read or written by others (mode {mode:04o}): take their rights away with `chmod 600 {}`",
        .path.display(), .path.display()
    )]
    TooOpen { path: PathBuf, mode: u32 },
    /// A file in our place that is another user's.
    #[error(
        "{} belongs to another user: give it to the user that pixtoll runs as, or name another `ledger`",
        .0.display()
    )]
    NotOurs(PathBuf),
    /// Written by a later release.
    #[error(
        "the ledger {} has the layout {found}, and this release knows {known}: use the release that wrote it, or a later one",
        .path.display()
    )]
    Newer {
        path: PathBuf,
        found: i64,
        known: i64,
    },
    /// Another process has been opening the same ledger for too long.
    #[error(
        "another process has been opening the ledger {} for {seconds} s: look for a pixtoll that hangs",
        .path.display()
    )]
    Busy { path: PathBuf, seconds: u64 },
    /// A row that says what no release writes.
    #[error("the ledger {} has a row that makes no sense: {column} is `{text}`", .path.display())]
    Nonsense {
        path: PathBuf,
        column: &'static str,
        text: String,
    },
    /// One event is larger than the journal takes.
    #[error(
        "one entry of the ledger would take {bytes} bytes, and {limit} is the most: shorten the call's tags or user"
    )]
    TooLarge { bytes: usize, limit: usize },
    /// The database has been away too long.
    #[error(
        "{waiting} entries wait for the ledger's database, and no more are taken: {why}. Mend the database; the journal loses nothing meanwhile"
    )]
    Behind { waiting: usize, why: String },
    /// The ledger was closed.
    #[error("the ledger is closed: pixtoll is stopping, and makes no further calls")]
    Closed,
}

impl LedgerError {
    pub(super) fn disk(what: &'static str, path: &Path, error: io::Error) -> LedgerError {
        LedgerError::Disk {
            what,
            path: path.to_owned(),
            error: Arc::new(error),
        }
    }

    pub(super) fn database(what: &'static str, path: &Path, error: sqlx::Error) -> LedgerError {
        LedgerError::Database {
            what,
            path: path.to_owned(),
            error: Arc::new(error),
        }
    }
}
