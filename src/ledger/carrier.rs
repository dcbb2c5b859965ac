//! The two tasks behind the journal: one carries it into the database, one syncs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::batch::Batch;
use super::database::{Database, ROWS, Writer};
use super::error::LedgerError;
use super::grant::{Ask, Verdict};
use super::journal::Journal;
use super::spends::Spends;
use super::standings::Standings;

/// So long the first event of a batch waits for company: a commit costs the same for one row as
/// for a thousand, and nothing waits for it, since the journal has it all. Who asks, hurries it.
const GATHER: Duration = Duration::from_millis(200);
/// So often it is looked whether other processes have written, while anybody wants to know.
const LOOK: Duration = Duration::from_millis(500);
/// The pauses between tries while the database does not take anything.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How far the carrier has come.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The number of the last event that the database has.
    pub(super) carried: u64,
    /// How many tries have failed.
    pub(super) failures: u64,
    /// Why the last try failed; `None` when it did not.
    pub(super) error: Option<LedgerError>,
    /// The carrier has ended.
    pub(super) ended: bool,
}

/// What the ledger and its tasks share.
pub(super) struct Shared {
    pub(super) journal: Arc<Journal>,
    pub(super) database: Database,
    pub(super) progress: watch::Sender<Progress>,
    /// Rung when somebody waits for the database to have everything.
    pub(super) hurry: Notify,
    /// Holds that wait to be judged; `None` when nobody will.
    pub(super) asks: Mutex<Option<Vec<Ask>>>,
    pub(super) standings: Standings,
    pub(super) spends: Spends,
    pub(super) stop: AtomicBool,
}

impl Shared {
    /// Ends both tasks; what is not carried stays in the journal.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.hurry.notify_one();
        self.journal.to_carry.notify_one();
        self.journal.to_sync.notify_one();
    }

    /// Puts a hold before the database.
    pub(super) fn ask(&self, ask: Ask) {
        match &mut *self.asks.lock() {
            Some(asks) => asks.push(ask),
            None => return ask.fail(LedgerError::Closed),
        }
        self.hurry.notify_one();
    }

    /// Those who ask now. What was written down before they asked is in the journal by now.
    fn take_asks(&self) -> Vec<Ask> {
        self.asks
            .lock()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Returns when the database has everything that was appended before the call; fails when the
    /// next try to write to it does.
    pub(super) async fn flush(&self) -> Result<(), LedgerError> {
        let mut progress = self.progress.subscribe();
        let wanted = self.journal.last();
        let failures = progress.borrow().failures;
        self.hurry.notify_one();
        let seen = progress
            .wait_for(|p| p.carried >= wanted || p.failures > failures || p.ended)
            .await;
        match seen {
            Ok(now) if now.carried >= wanted => Ok(()),
            Ok(now) => Err(now.error.clone().unwrap_or(LedgerError::Closed)),
            Err(_) => Err(LedgerError::Closed),
        }
    }
}

/// Carries until it is told to stop.
pub(super) async fn carry(shared: Arc<Shared>) {
    let mut writer = Writer::default();
    let mut pause = FIRST_PAUSE;
    while !shared.stopped() {
        let mut asks = shared.take_asks();
        let events = shared.journal.batch(ROWS);
        if events.is_empty() && asks.is_empty() {
            idle(&shared, &mut writer).await;
            continue;
        }
        if events.len() == ROWS {
            // More may have ended before somebody asked: that is counted first.
            put_back(&shared, std::mem::take(&mut asks));
        }
        let last = events.last().map(|event| event.seq);
        let batch = Batch::of(events.iter().map(|event| &event.event));
        let (database, owner) = (&shared.database, shared.journal.owner);
        let written = database.write_and_judge(&mut writer, owner, &batch, &asks);
        match written.await {
            Ok((verdicts, touched)) => {
                pause = FIRST_PAUSE;
                shared.standings.take(touched);
                shared.spends.take(&batch);
                if !batch.released.is_empty() {
                    shared.standings.doubt();
                }
                if shared.standings.in_doubt() {
                    renew(&shared, &mut writer).await;
                }
                carried(&shared, last);
                answer(&shared, asks, verdicts);
                if events.len() < ROWS {
                    wait(&shared, GATHER).await;
                }
            }
            Err(error) => {
                for ask in asks {
                    ask.fail(error.clone());
                }
                failed(&shared, error);
                shared.journal.mend();
                wait(&shared, pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    for ask in shared.asks.lock().take().into_iter().flatten() {
        ask.fail(LedgerError::Closed);
    }
    writer.close().await;
    shared
        .progress
        .send_modify(|progress| progress.ended = true);
}

/// Waits for something to do.
async fn idle(shared: &Shared, writer: &mut Writer) {
    tokio::select! {
        () = shared.journal.to_carry.notified() => wait(shared, GATHER).await,
        () = shared.hurry.notified() => {}
        () = tokio::time::sleep(LOOK), if shared.standings.watches() || shared.spends.is_asked() => renew(shared, writer).await,
    }
}

/// Looks what other processes have made of the buckets.
async fn renew(shared: &Shared, writer: &mut Writer) {
    let renewed = async {
        let mut connection = writer.take(&shared.database).await?;
        if shared.standings.renew(&mut connection).await? {
            shared.spends.fall_behind();
        }
        if shared.spends.is_stale() {
            shared.spends.read(&mut connection).await?;
        }
        writer.put(connection);
        Ok::<(), sqlx::Error>(())
    };
    if let Err(error) = renewed.await {
        tracing::warn!(%error, "what budgets stand at could not be read; it is tried again");
    }
}

fn put_back(shared: &Shared, mut asks: Vec<Ask>) {
    if let Some(waiting) = &mut *shared.asks.lock() {
        asks.append(waiting);
        *waiting = asks;
    }
}

fn answer(shared: &Shared, asks: Vec<Ask>, verdicts: Vec<Verdict>) {
    for (ask, verdict) in asks.into_iter().zip(verdicts) {
        ask.answer(verdict, &shared.journal);
    }
}

fn carried(shared: &Shared, last: Option<u64>) {
    if let Some(last) = last {
        shared.journal.carried(last);
    }
    shared.journal.mend();
    shared.journal.rotate_when_grown();
    let recovered = shared.progress.borrow().error.is_some();
    if recovered {
        tracing::info!("the ledger's database takes entries again");
    }
    shared.progress.send_modify(|progress| {
        progress.carried = last.unwrap_or(progress.carried);
        progress.error = None;
    });
}

fn failed(shared: &Shared, error: LedgerError) {
    let first = shared.progress.borrow().error.is_none();
    if first {
        tracing::error!(%error, "the ledger's database fails; the journal keeps what it does not take");
    }
    shared.progress.send_modify(|progress| {
        progress.failures += 1;
        progress.error = Some(error);
    });
}

/// Waits so long, or until somebody is in a hurry.
async fn wait(shared: &Shared, time: Duration) {
    if shared.stopped() {
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = shared.hurry.notified() => {}
    }
}

/// Syncs the journal for all who wait, one group after the other, until told to stop.
pub(super) async fn sync(shared: Arc<Shared>) {
    while !shared.stopped() {
        shared.journal.to_sync.notified().await;
        aside(&shared.journal, Journal::sync_group).await;
    }
    aside(&shared.journal, Journal::end_syncs).await;
}

/// Runs what blocks where blocking is fine.
async fn aside(journal: &Arc<Journal>, work: fn(&Journal)) {
    let journal = Arc::clone(journal);
    if let Err(error) = tokio::task::spawn_blocking(move || work(&journal)).await {
        tracing::error!(%error, "a sync of the ledger's journal broke off");
    }
}
