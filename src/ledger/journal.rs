//! The journal: every hold and charge is one whole record in a file before anybody hears of it.
//!
//! One mutex, one reused buffer, one `write` an event, or for all events of calls that go abreast.
//! What is written here also waits in memory until the carrier has it in the database; then the
//! segments that hold nothing else go.
//!
//! When a write or a sync fails, nothing that the file may have lost is trusted to it any more: a
//! new segment is begun with everything that the database does not have yet (a copy more is no
//! harm, a record's number tells copies apart). Until that succeeds, holds are refused, and
//! settlements are kept in memory: at most as many as holds were open.

mod round;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use ulid::Ulid;

use super::entry::{Event, Hold, Numbered, Sync};
use super::error::LedgerError;
use super::frame::{self, MAX_BODY, SegmentHead};
use super::segment::{Medium, Places, Segment};
use round::Round;

/// A hold may take half a record's room: its settlement repeats it and needs the rest.
const MAX_HOLD: usize = MAX_BODY / 2;

/// What a journal may grow to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// A segment that has grown past this many bytes is followed by a new one.
    pub(super) segment: u64,
    /// So many events may wait for the database before holds are refused.
    pub(super) waiting: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            segment: 4 << 20,
            waiting: 100_000, // some 50 MB
        }
    }
}

type Waiter = oneshot::Sender<Result<(), LedgerError>>;

pub(super) struct Journal {
    pub(super) owner: Ulid,
    pub(super) sync: Sync,
    places: Places,
    medium: Arc<dyn Medium>,
    next_number: AtomicU32,
    state: Mutex<State>,
    /// Those who wait for the next sync to begin and end; `None` when there will be none.
    waiters: Mutex<Option<Vec<Waiter>>>,
    /// Rung when the first event waits for the carrier.
    pub(super) to_carry: Notify,
    /// Rung when somebody waits for a sync.
    pub(super) to_sync: Notify,
    /// Tickets that were dropped with their hold open.
    pub(super) dropped: AtomicU64,
    bounds: Bounds,
}

struct State {
    segment: Arc<dyn Segment>,
    path: PathBuf,
    length: u64,
    retired: Vec<Retired>,
    /// Retired before they were synced, each with the number of its last event: what the database
    /// has, it has synced.
    unsynced: Vec<(u64, Arc<dyn Segment>)>,
    buffer: Vec<u8>,
    /// The number of the last event.
    seq: u64,
    /// What the database does not have yet, in order.
    uncarried: VecDeque<Numbered>,
    /// What waits to be written with others.
    round: Round,
    /// Why the segment no longer holds everything that is not carried.
    gap: Option<LedgerError>,
    closed: bool,
}

/// A segment that is no longer written, kept until the database has its last event.
struct Retired {
    path: PathBuf,
    last: u64,
}

/// What to do with an event that the disk does not take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// It did not happen.
    Refuse,
    /// It did happen: keep it in memory and try again.
    Keep,
}

impl Journal {
    /// Begins the journal of this process.
    pub(super) fn begin(
        places: Places,
        owner: Ulid,
        sync: Sync,
        medium: Arc<dyn Medium>,
        bounds: Bounds,
    ) -> Result<Journal, LedgerError> {
        let head = SegmentHead { owner, number: 0 };
        let (path, segment) = begin_segment(&*medium, &places, sync, head)?;
        Ok(Journal {
            owner,
            sync,
            places,
            medium,
            next_number: AtomicU32::new(1),
            state: Mutex::new(State {
                segment,
                path,
                length: frame::HEAD as u64,
                retired: Vec::new(),
                unsynced: Vec::new(),
                buffer: Vec::with_capacity(1024),
                seq: 0,
                uncarried: VecDeque::new(),
                round: Round::default(),
                gap: None,
                closed: false,
            }),
            waiters: Mutex::new(Some(Vec::new())),
            to_carry: Notify::new(),
            to_sync: Notify::new(),
            dropped: AtomicU64::new(0),
            bounds,
        })
    }

    /// Writes an event that has not happened yet. On an error it is as though it had never been
    /// asked for.
    pub(super) fn propose(&self, event: Event) -> Result<(), LedgerError> {
        self.append(event, Otherwise::Refuse)
    }

    /// Writes an event that has happened. On any error but [`LedgerError::Closed`] it is kept in
    /// memory, and goes to the disk or the database as soon as either takes it.
    pub(super) fn state_fact(&self, event: Event) -> Result<(), LedgerError> {
        self.append(event, Otherwise::Keep)
    }

    /// Writes an event that has not happened yet, and keeps it in memory where the disk does not
    /// take it: for calls that go on without the ledger.
    pub(super) fn insist(&self, event: Event) -> Result<(), LedgerError> {
        self.room(&self.state.lock())?;
        match self.append(event, Otherwise::Keep) {
            Err(LedgerError::Disk { .. }) => Ok(()),
            other => other,
        }
    }

    /// Whether a hold is small enough for its settlement to repeat it.
    pub(super) fn takes(&self, hold: &Arc<Hold>) -> Result<(), LedgerError> {
        let mut bytes = Vec::with_capacity(512);
        frame::encode(&mut bytes, 0, &Event::Held(Arc::clone(hold)))?;
        match bytes.len() {
            bytes if bytes > MAX_HOLD => Err(LedgerError::TooLarge {
                bytes,
                limit: MAX_HOLD,
            }),
            _ if self.state.lock().closed => Err(LedgerError::Closed),
            _ => Ok(()),
        }
    }

    fn append(&self, event: Event, otherwise: Otherwise) -> Result<(), LedgerError> {
        self.change(|state| self.append_to(state, event, otherwise))
    }

    /// Changes the state, and rings for the carrier where it had nothing to carry before.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let idle = state.uncarried.is_empty();
        let changed = change(&mut state);
        let rings = idle && !state.uncarried.is_empty();
        drop(state);
        if rings {
            self.to_carry.notify_one();
        }
        changed
    }

    fn append_to(
        &self,
        state: &mut State,
        event: Event,
        otherwise: Otherwise,
    ) -> Result<(), LedgerError> {
        if state.closed {
            return Err(LedgerError::Closed);
        }
        if otherwise == Otherwise::Refuse {
            self.room(state)?;
        }
        let event = Numbered {
            seq: state.seq + 1,
            event,
        };
        let written = self.write(state, &event, otherwise);
        if written.is_err() && otherwise == Otherwise::Refuse {
            return written;
        }
        if let Err(error) = &written {
            state.gap = Some(error.clone());
        }
        state.seq = event.seq;
        state.uncarried.push_back(event);
        written
    }

    fn room(&self, state: &State) -> Result<(), LedgerError> {
        let waiting = state.uncarried.len();
        if waiting < self.bounds.waiting {
            return Ok(());
        }
        Err(LedgerError::Behind {
            waiting,
            why: "it takes them too slowly, or not at all".to_owned(),
        })
    }

    fn write(
        &self,
        state: &mut State,
        event: &Numbered,
        otherwise: Otherwise,
    ) -> Result<(), LedgerError> {
        if state.gap.is_some() {
            self.heal(state)?;
        }
        state.buffer.clear();
        frame::encode(&mut state.buffer, event.seq, &event.event)?;
        let bytes = state.buffer.len();
        if otherwise == Otherwise::Refuse && bytes > MAX_HOLD {
            return Err(LedgerError::TooLarge {
                bytes,
                limit: MAX_HOLD,
            });
        }
        let Err(error) = append_whole(&*state.segment, &state.buffer) else {
            state.length += bytes as u64;
            return Ok(());
        };
        let error = LedgerError::disk("write", &state.path, error);
        // Half a record in the middle would hide all that follows it.
        if state.segment.cut(state.length).is_err() {
            state.gap = Some(error.clone());
        }
        Err(error)
    }

    /// Begins a new segment with all that the database does not have.
    fn heal(&self, state: &mut State) -> Result<(), LedgerError> {
        let (path, segment) = self.next_segment()?;
        let mut length = frame::HEAD as u64;
        let copied = copy_all(&*segment, &mut state.buffer, &state.uncarried, &mut length);
        if let Err(error) = copied {
            let _ = self.medium.remove(&path);
            return Err(LedgerError::disk("write", &path, error));
        }
        // What was refused may lie there still, if it could not be cut off before.
        let _ = state.segment.cut(state.length);
        let old = std::mem::replace(&mut state.path, path);
        state.segment = segment;
        state.length = length;
        state.retired.push(Retired {
            path: old,
            last: state.seq,
        });
        state.gap = None;
        Ok(())
    }

    fn next_segment(&self) -> Result<(PathBuf, Arc<dyn Segment>), LedgerError> {
        let head = SegmentHead {
            owner: self.owner,
            number: self.next_number.fetch_add(1, Ordering::Relaxed),
        };
        begin_segment(&*self.medium, &self.places, self.sync, head)
    }

    /// Tries to mend what a failed write left behind; also done before each event.
    pub(super) fn mend(&self) {
        let mut state = self.state.lock();
        if state.gap.is_some()
            && !state.closed
            && let Err(error) = self.heal(&mut state)
        {
            state.gap = Some(error);
        }
    }

    /// Begins a new segment when this one has grown.
    pub(super) fn rotate_when_grown(&self) {
        if self.state.lock().length < self.bounds.segment {
            return;
        }
        // Made outside the lock, so that no call waits for the directory.
        let Ok((path, segment)) = self.next_segment() else {
            return; // It grows on, and is tried again after the next batch.
        };
        let mut state = self.state.lock();
        let last = state.seq;
        let old_segment = std::mem::replace(&mut state.segment, segment);
        state.unsynced.push((last, old_segment));
        let path = std::mem::replace(&mut state.path, path);
        state.retired.push(Retired { path, last });
        state.length = frame::HEAD as u64;
    }

    /// The first `most` events that the database does not have.
    pub(super) fn batch(&self, most: usize) -> Vec<Numbered> {
        let state = self.state.lock();
        state.uncarried.iter().take(most).cloned().collect()
    }

    /// The database has everything up to `seq`.
    pub(super) fn carried(&self, seq: u64) {
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            while state.uncarried.front().is_some_and(|e| e.seq <= seq) {
                state.uncarried.pop_front();
            }
            state.unsynced.retain(|(last, _)| *last > seq);
            state.retired.retain(|old| {
                let keep = old.last > seq;
                if !keep {
                    gone.push(old.path.clone());
                }
                keep
            });
        }
        for path in gone {
            self.remove(&path);
        }
    }

    /// A copy left behind is replayed at the next start and changes nothing.
    fn remove(&self, path: &Path) {
        if let Err(error) = self.medium.remove(path) {
            tracing::warn!(path = %path.display(), %error, "a journal that is done could not be removed");
        }
    }

    /// The number of the last event.
    pub(super) fn last(&self) -> u64 {
        self.state.lock().seq
    }

    /// How many events wait for the database.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().uncarried.len()
    }

    /// What is wrong with the disk, if anything.
    pub(super) fn trouble(&self) -> Option<LedgerError> {
        self.state.lock().gap.clone()
    }

    /// Takes no further event.
    pub(super) fn close(&self) {
        self.change(|state| {
            self.end_round(state);
            state.closed = true;
        });
    }

    /// The owners of the journals that are there: of those who had died when this process began,
    /// nothing is.
    pub(super) fn living(&self) -> Result<Vec<Ulid>, LedgerError> {
        let segments = self.places.segments()?;
        Ok(segments.iter().map(|(head, _)| head.owner).collect())
    }

    /// Takes all own segments away: the database has everything.
    pub(super) fn discard(&self) {
        let paths: Vec<PathBuf> = {
            let mut state = self.state.lock();
            let retired = std::mem::take(&mut state.retired);
            let current = state.path.clone();
            retired
                .into_iter()
                .map(|old| old.path)
                .chain([current])
                .collect()
        };
        for path in paths {
            self.remove(&path);
        }
    }

    /// Returns when everything appended before this call would survive what `sync` says: at once
    /// under [`Sync::Crash`], after the next shared sync under [`Sync::Power`].
    pub(super) async fn durable(&self, sync: Sync) -> Result<(), LedgerError> {
        if sync == Sync::Crash {
            return Ok(());
        }
        let (tell, told) = oneshot::channel();
        match &mut *self.waiters.lock() {
            Some(waiters) => waiters.push(tell),
            // What the database has, it has synced.
            None if self.waiting() == 0 => return Ok(()),
            None => return Err(LedgerError::Closed),
        }
        self.to_sync.notify_one();
        told.await.unwrap_or(Err(LedgerError::Closed))
    }

    /// Syncs a last time; whoever waits later is answered at once. Blocks.
    pub(super) fn end_syncs(&self) {
        let waiters = self.waiters.lock().take();
        self.sync_for(waiters.unwrap_or_default());
    }

    /// Syncs once for all who wait. Blocks; run where blocking is fine.
    ///
    /// A failed sync is never asked again of the same file: the kernel may have dropped the pages
    /// and would say yes. What matters is written anew, and that is synced.
    pub(super) fn sync_group(&self) {
        let waiters = self.waiters.lock().as_mut().map(std::mem::take);
        self.sync_for(waiters.unwrap_or_default());
    }

    fn sync_for(&self, waiters: Vec<Waiter>) {
        if waiters.is_empty() {
            return;
        }
        let mut outcome = self.sync_segments();
        if outcome.is_err() {
            outcome = self.sync_segments();
        }
        for waiter in waiters {
            let _ = waiter.send(outcome.clone());
        }
    }

    fn sync_segments(&self) -> Result<(), LedgerError> {
        let (segments, path) = {
            let mut state = self.state.lock();
            if state.gap.is_some() {
                self.heal(&mut state)?;
            }
            let retired = std::mem::take(&mut state.unsynced);
            let mut segments: Vec<_> = retired.into_iter().map(|(_, segment)| segment).collect();
            segments.push(Arc::clone(&state.segment));
            (segments, state.path.clone())
        };
        if self.sync == Sync::Crash {
            // Nobody saw to it when the segment was begun.
            let synced = self.medium.sync_dir(&self.places.dir);
            synced.map_err(|error| LedgerError::disk("sync", &self.places.dir, error))?;
        }
        for segment in segments {
            if let Err(error) = segment.sync() {
                let error = LedgerError::disk("sync", &path, error);
                self.state.lock().gap = Some(error.clone());
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Makes a segment with its head written.
fn begin_segment(
    medium: &dyn Medium,
    places: &Places,
    sync: Sync,
    head: SegmentHead,
) -> Result<(PathBuf, Arc<dyn Segment>), LedgerError> {
    let path = places.segment(head);
    let made = medium
        .create(&path)
        .map_err(|error| LedgerError::disk("make", &path, error))?;
    let mut begun = append_whole(&*made, &frame::encode_head(head));
    if begun.is_ok() && sync == Sync::Power {
        begun = medium.sync_dir(&places.dir);
    }
    match begun {
        Ok(()) => Ok((path, made)),
        Err(error) => {
            let _ = medium.remove(&path);
            Err(LedgerError::disk("write", &path, error))
        }
    }
}

/// Writes all of `bytes` with one `write`, or fails.
fn append_whole(segment: &dyn Segment, bytes: &[u8]) -> io::Result<()> {
    match segment.append(bytes)? {
        written if written == bytes.len() => Ok(()),
        written => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("only {written} of {} bytes went in", bytes.len()),
        )),
    }
}

fn copy_all(
    segment: &dyn Segment,
    buffer: &mut Vec<u8>,
    events: &VecDeque<Numbered>,
    length: &mut u64,
) -> io::Result<()> {
    for event in events {
        buffer.clear();
        frame::encode(buffer, event.seq, &event.event).map_err(io::Error::other)?;
        append_whole(segment, buffer)?;
        *length += buffer.len() as u64;
    }
    Ok(())
}
