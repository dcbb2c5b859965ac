//! Money on disk: every attempt is a hold before it is sent and a charge before it is answered.
//!
//! [`Ledger::hold`] and [`Ledger::settle`] write one record to this process's own journal and
//! return; a task carries the journal into the database, many rows a statement. The journal is
//! what a crash leaves behind: the next process to open the ledger carries what was not carried,
//! and books every hold that has no end as *unknown*, at the amount that was held.
//!
//! A [`Ticket`] that is dropped without [`Ledger::settle`] or [`Ledger::release`] (a panic, a task
//! that was cancelled) leaves its hold open: it counts as held while this process lives, and
//! becomes unknown when the ledger is closed or next opened. Nobody can tell whether the provider
//! did the work, so nothing less would be honest.
//!
//! Several processes may have one ledger open: each has a journal of its own, the database has one
//! row for each call and attempt, and whoever is dead is known by its lock, which is gone.
#![deny(clippy::float_arithmetic)]

mod batch;
mod batches;
mod carrier;
mod claims;
mod database;
mod entry;
mod error;
mod frame;
mod grant;
mod guard;
mod jobs;
mod journal;
mod query;
mod replay;
mod segment;
mod spends;
mod standings;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use ulid::{Generator, Ulid};

pub use batches::{BatchStage, Following, KeptBatch, KeptLine, LineCounts, LineOutcome};
pub use entry::{Claim, Filter, Hold, Key, ModelSpend, Outcome, Row, Settlement, Sync, Totals};
pub use error::LedgerError;
pub use grant::{Bound, Grant, Judged, TURNED_AWAY};
pub use jobs::KeptJob;
pub use replay::{Damage, Recovery};

use crate::task::Tasks;
use carrier::{Progress, Shared};
use database::Database;
use entry::Event;
use journal::{Bounds, Journal};
use segment::{Disk, Medium, Places};
use spends::Spends;
use standings::Standings;

/// The longest request id that is kept, in bytes: it is the provider's to choose, and must not
/// keep a charge from being written.
const MAX_REQUEST_ID: usize = 1024;

/// The ledger of this process. Clones are the same ledger.
///
/// When the last clone goes without [`Ledger::close`], the journal stays for the next process, as
/// after a crash.
#[derive(Clone)]
pub struct Ledger {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    recovery: Recovery,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// How the ledger is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Why the journal is not taken by its disk. While it is not, holds are refused, and charges
    /// are kept in memory.
    pub journal: Option<LedgerError>,
    /// Why the database takes nothing. The journal keeps what waits.
    pub database: Option<LedgerError>,
    /// Events that wait for the database.
    pub waiting: usize,
    /// Tickets dropped with their hold open since the ledger was opened.
    pub dropped: u64,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

/// The right and the duty to settle one hold.
///
/// Dropping it leaves the hold open; see the module.
#[must_use = "a hold that is neither settled nor released ends up unknown, at its full amount"]
pub struct Ticket {
    hold: Arc<Hold>,
    journal: Arc<Journal>,
    done: bool,
    /// The hold is on the disk already.
    on_disk: bool,
    /// What must have happened before its hold or its charge can be relied on.
    sync: Sync,
}

impl Ticket {
    fn journalled(hold: Arc<Hold>, journal: &Arc<Journal>) -> Ticket {
        Ticket {
            hold,
            journal: Arc::clone(journal),
            done: false,
            on_disk: false,
            sync: journal.sync,
        }
    }

    /// For a hold that the database has. Its charge waits for the disk too where a budget could
    /// have turned it away (`firm`): what is forgotten there could be spent twice.
    fn granted(hold: Arc<Hold>, journal: Arc<Journal>, firm: bool) -> Ticket {
        Ticket {
            sync: if firm { Sync::Power } else { journal.sync },
            hold,
            journal,
            done: false,
            on_disk: true,
        }
    }

    /// Its end as an event; from here on the journal has the duty.
    fn end(&mut self, mut settlement: Settlement) -> Event {
        if let Some(id) = &mut settlement.request_id {
            id.truncate(id.floor_char_boundary(MAX_REQUEST_ID));
        }
        self.done = true;
        Event::Settled(Arc::clone(&self.hold), Arc::new(settlement))
    }

    fn take_back(mut self) -> Result<(), LedgerError> {
        self.done = true;
        let journal = &self.journal;
        journal.state_fact(Event::Released(self.hold.key()))
    }

    /// What is held.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Returns when the hold would survive what [`Sync`] promises: at once under `crash`, after
    /// the next sync, which all who wait share, under `power`.
    ///
    /// # Errors
    /// When the disk does not confirm it. Nothing may be sent then; release the ticket.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        if self.on_disk {
            return Ok(());
        }
        self.journal.durable(self.sync).await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.done {
            self.journal.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ticket").field(&self.hold.key()).finish()
    }
}

/// A settlement that is in the journal.
#[must_use = "under `power` a charge is safe only when `durable` has returned"]
pub struct Written {
    journal: Arc<Journal>,
    sync: Sync,
}

impl Written {
    /// As [`Ticket::durable`].
    ///
    /// # Errors
    /// When the disk does not confirm it. The charge is kept in memory and tried again.
    pub async fn durable(&self) -> Result<(), LedgerError> {
        self.journal.durable(self.sync).await
    }
}

impl Ledger {
    /// Opens the ledger in the SQLite file at `path`, made where it is missing, and takes over
    /// what dead processes left. Needs a Tokio runtime, in which its two tasks run.
    ///
    /// # Errors
    /// When a file cannot be made, read or locked, is open to others, or was written by a later
    /// release.
    pub async fn open(path: &Path, sync: Sync) -> Result<Ledger, LedgerError> {
        Ledger::open_on(path, sync, Arc::new(Disk), Bounds::default()).await
    }

    async fn open_on(
        path: &Path,
        sync: Sync,
        medium: Arc<dyn Medium>,
        bounds: Bounds,
    ) -> Result<Ledger, LedgerError> {
        let places = Places::prepare(path)?;
        places.check_modes()?;
        let turn = replay::take_turn(&places).await?;
        let database = Database::open(places.database.clone()).await?;
        let recovery = replay::recover(&places, &database, Timestamp::now()).await?;
        let journal = Journal::begin(places, new_owner(), sync, medium, bounds)?;
        drop(turn);
        Ok(Ledger::start(journal, database, recovery))
    }

    /// What each model cost, in a ledger that is only looked at: no journal is begun and nothing is
    /// taken over, so what a process has not carried yet is missing. `None` where there is none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn look_by_model(
        path: &Path,
        filter: &Filter,
    ) -> Result<Option<Vec<ModelSpend>>, LedgerError> {
        if !path.exists() {
            return Ok(None);
        }
        let database = Database::to_read(path.to_owned());
        database.by_model(filter).await.map(Some)
    }

    fn start(journal: Journal, database: Database, recovery: Recovery) -> Ledger {
        let shared = Arc::new(Shared {
            journal: Arc::new(journal),
            database,
            progress: watch::Sender::new(Progress::default()),
            hurry: Notify::new(),
            asks: Mutex::new(Some(Vec::new())),
            standings: Standings::new(),
            spends: Spends::new(),
            stop: AtomicBool::new(false),
        });
        let tasks = Tasks::new();
        tasks.spawn(carrier::carry(Arc::clone(&shared)));
        tasks.spawn(carrier::sync(Arc::clone(&shared)));
        let handle = Arc::new(Handle { shared, recovery });
        Ledger { handle }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Writes a hold. When this returns, it survives the end of the process; under
    /// [`Sync::Power`], wait for [`Ticket::durable`] before anything is sent.
    ///
    /// A call and attempt name one row for ever: the pair must not have been settled before.
    ///
    /// # Errors
    /// When the journal's disk is full or failing, when too much waits for the database, or when
    /// the ledger is closed. Nothing is held then, and nothing may be sent.
    pub fn hold(&self, hold: Hold) -> Result<Ticket, LedgerError> {
        let hold = Arc::new(hold);
        let journal = &self.shared().journal;
        journal.propose(Event::Held(Arc::clone(&hold)))?;
        Ok(Ticket::journalled(hold, journal))
    }

    /// As [`Ledger::hold`], with one write for all calls that go abreast
    /// ([`crate::cores::abreast`]): a call stops here.
    ///
    /// # Errors
    /// As [`Ledger::hold`].
    pub async fn hold_abreast(&self, hold: Hold) -> Result<Ticket, LedgerError> {
        let hold = Arc::new(hold);
        let journal = &self.shared().journal;
        let event = Event::Held(Arc::clone(&hold));
        journal.propose_abreast(event).await?;
        Ok(Ticket::journalled(hold, journal))
    }

    /// Holds without asking anybody, for a call that goes on although the ledger does not take it:
    /// the hold, with its claims on budgets, is kept in memory until disk or database do.
    ///
    /// # Errors
    /// When too much is kept already, or when the ledger is closed. Nothing is held then.
    pub fn hold_anyway(&self, mut hold: Hold, claims: Vec<Claim>) -> Result<Ticket, LedgerError> {
        hold.claims = claims.into();
        let hold = Arc::new(hold);
        let journal = &self.shared().journal;
        journal.takes(&hold)?;
        journal.insist(Event::Held(Arc::clone(&hold)))?;
        let mut ticket = Ticket::journalled(hold, journal);
        ticket.sync = Sync::Crash; // its disk is not waited for: that is what is down
        Ok(ticket)
    }

    /// Writes how the attempt ended and what it cost.
    ///
    /// # Errors
    /// When the journal's disk is full or failing: the charge is then kept in memory and tried
    /// again, and [`Ledger::health`] says so. [`LedgerError::Closed`] after [`Ledger::close`],
    /// which has booked the attempt as unknown.
    pub fn settle(
        &self,
        mut ticket: Ticket,
        settlement: Settlement,
    ) -> Result<Written, LedgerError> {
        let event = ticket.end(settlement);
        ticket.journal.state_fact(event)?;
        Ok(self.settled(&ticket))
    }

    /// As [`Ledger::settle`], with one write for all calls that go abreast
    /// ([`crate::cores::abreast`]): a call stops here.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub async fn settle_abreast(
        &self,
        mut ticket: Ticket,
        settlement: Settlement,
    ) -> Result<Written, LedgerError> {
        let event = ticket.end(settlement);
        ticket.journal.state_fact_abreast(event).await?;
        Ok(self.settled(&ticket))
    }

    fn settled(&self, ticket: &Ticket) -> Written {
        self.hurry_for(&ticket.hold);
        Written {
            journal: Arc::clone(&ticket.journal),
            sync: ticket.sync,
        }
    }

    /// What ends within a budget makes room for others, in other processes too.
    fn hurry_for(&self, hold: &Hold) {
        if !hold.claims.is_empty() {
            self.shared().hurry.notify_one();
        }
    }

    /// Takes a hold back, because not one byte was sent. It leaves no row.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn release(&self, ticket: Ticket) -> Result<(), LedgerError> {
        let hold = Arc::clone(&ticket.hold);
        ticket.take_back()?;
        self.hurry_for(&hold);
        Ok(())
    }

    /// How the ledger is.
    pub fn health(&self) -> Health {
        let shared = self.shared();
        Health {
            journal: shared.journal.trouble(),
            database: shared.progress.borrow().error.clone(),
            waiting: shared.journal.waiting(),
            dropped: shared.journal.dropped.load(Ordering::Relaxed),
        }
    }

    /// What was found when it was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.handle.recovery
    }

    /// Returns when the database has everything written so far.
    ///
    /// # Errors
    /// When the database does not take it.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.shared().flush().await
    }

    /// Sums over the attempts that `filter` lets through, those of other processes included.
    /// Exact for this process at the time of the call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn totals(&self, filter: &Filter) -> Result<Totals, LedgerError> {
        self.flush().await?;
        self.shared().database.totals(filter).await
    }

    /// The same sums for each model, the dearest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn spent_by_model(&self, filter: &Filter) -> Result<Vec<ModelSpend>, LedgerError> {
        self.flush().await?;
        self.shared().database.by_model(filter).await
    }

    /// All attempts of a call, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rows(&self, call: Ulid) -> Result<Vec<Row>, LedgerError> {
        self.flush().await?;
        self.shared().database.rows(call).await
    }

    /// Every attempt there is, oldest first: for holding the ledger against another list.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn all_rows(&self) -> Result<Vec<Row>, LedgerError> {
        self.flush().await?;
        self.shared().database.all_rows().await
    }

    /// Carries everything, books what is still open as unknown, and takes the own journal away.
    /// Returns what became unknown. From its first moment on nothing more can be held or settled;
    /// calling it again does nothing.
    ///
    /// # Errors
    /// When the database does not take everything. The journal then stays for the next process.
    pub async fn close(&self) -> Result<Vec<Row>, LedgerError> {
        let shared = self.shared();
        shared.journal.close();
        if shared.stop.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        shared.flush().await?;
        let owner = shared.journal.owner;
        let unknown = shared
            .database
            .inherit(owner, &[], Timestamp::now())
            .await?;
        shared.journal.discard();
        shared.stop();
        let mut progress = shared.progress.subscribe();
        let _ = progress.wait_for(|progress| progress.ended).await;
        shared.database.close().await;
        Ok(unknown)
    }
}

/// A name for this process that no other has had.
fn new_owner() -> Ulid {
    Generator::new()
        .generate()
        .unwrap_or_else(|overflow| overflow.commit_overflow_random())
}
