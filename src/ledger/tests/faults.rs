//! Disks that are full, fail, or lie.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::ledger::segment::Segment;

/// What the disk does next.
#[derive(Default)]
struct Plan {
    /// Bytes that still fit; `None`: any number.
    room: Option<usize>,
    /// Cutting a file fails too.
    no_cut: bool,
    /// So many syncs fail.
    bad_syncs: usize,
    /// Syncs that were asked for.
    syncs: usize,
    /// Writes that were asked for.
    writes: usize,
}

/// The real disk with a plan.
#[derive(Clone, Default)]
pub(super) struct Faulty(Arc<Mutex<Plan>>);

impl Faulty {
    /// Writes that were asked for so far.
    pub(super) fn writes(&self) -> usize {
        self.0.lock().writes
    }

    /// From now on so many bytes fit; where it does not cut, a file stays as it grew.
    pub(super) fn fills_up(&self, room: usize, no_cut: bool) {
        *self.0.lock() = Plan {
            room: Some(room),
            no_cut,
            ..Plan::default()
        };
    }

    pub(super) fn is_well(&self) {
        *self.0.lock() = Plan::default();
    }
}

struct FaultySegment {
    real: Arc<dyn Segment>,
    plan: Arc<Mutex<Plan>>,
}

impl Medium for Faulty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Segment>> {
        Ok(Arc::new(FaultySegment {
            real: Disk.create(path)?,
            plan: Arc::clone(&self.0),
        }))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
}

impl Segment for FaultySegment {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut plan = self.plan.lock();
        plan.writes += 1;
        let fits = plan.room.unwrap_or(bytes.len()).min(bytes.len());
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(room) = &mut plan.room {
            *room -= fits;
        }
        self.real.append(&bytes[..fits])
    }
    fn cut(&self, length: u64) -> io::Result<()> {
        if self.plan.lock().no_cut {
            return Err(io::Error::other("no cutting today"));
        }
        self.real.cut(length)
    }
    fn sync(&self) -> io::Result<()> {
        let mut plan = self.plan.lock();
        plan.syncs += 1;
        if plan.bad_syncs > 0 {
            plan.bad_syncs -= 1;
            return Err(io::Error::other("the disk lost a page"));
        }
        self.real.sync()
    }
}

pub(super) async fn open_faulty(place: &Place, sync: Sync, disk: &Faulty) -> Ledger {
    Ledger::open_on(&place.path, sync, Arc::new(disk.clone()), Bounds::default())
        .await
        .unwrap()
}

/// A journal without a carrier: nothing of it is ever in the database.
pub(super) async fn lone_journal(place: &Place, disk: &Faulty, bounds: Bounds) -> Journal {
    place.open().await.close().await.unwrap();
    let places = Places::prepare(&place.path).unwrap();
    Journal::begin(
        places,
        new_owner(),
        Sync::Crash,
        Arc::new(disk.clone()),
        bounds,
    )
    .unwrap()
}

pub(super) fn held(nano: i64) -> Arc<Hold> {
    Arc::new(hold(0, nano))
}

#[tokio::test]
async fn a_full_disk_refuses_holds_and_loses_nothing_that_was_held() {
    for room in [0, 1, 60, 100] {
        for no_cut in [false, true] {
            let (place, disk) = (place(), Faulty::default());
            let journal = lone_journal(&place, &disk, Bounds::default()).await;
            let (first, second) = (held(50), held(60));
            journal.propose(Event::Held(first.clone())).unwrap();
            journal.propose(Event::Held(second.clone())).unwrap();
            let file = place.path.parent().unwrap().join(&place.journals()[0]);

            disk.fills_up(room, no_cut);
            let refused = journal.propose(Event::Held(held(70))).unwrap_err();
            assert!(matches!(refused, LedgerError::Disk { .. }), "{refused}");
            let end = Event::Settled(second.clone(), Arc::new(charged(35)));
            assert!(journal.state_fact(end).is_err());
            assert!(journal.trouble().is_some());

            disk.is_well();
            journal.propose(Event::Held(held(80))).unwrap();
            assert!(journal.trouble().is_none());
            drop(journal);
            // The new file has everything by itself: the old one may have lost some of it.
            std::fs::remove_file(file).unwrap();

            let ledger = place.open().await;
            assert_eq!(ledger.recovery().damaged, [], "room {room}");
            let totals = ledger.totals(&Filter::default()).await.unwrap();
            assert_eq!(totals, all(50 + 80, 35, 3), "room {room}, no_cut {no_cut}");
        }
    }
}

#[tokio::test]
async fn a_charge_that_the_journal_does_not_take_reaches_the_database_all_the_same() {
    let (place, disk) = (place(), Faulty::default());
    let ledger = open_faulty(&place, Sync::Crash, &disk).await;
    let ticket = ledger.hold(hold(0, 50)).unwrap();
    disk.0.lock().room = Some(0);
    let said = ledger
        .settle(ticket, charged(35))
        .err()
        .unwrap()
        .to_string();
    assert!(
        said.contains("write") && said.contains("Make room"),
        "{said}"
    );
    assert!(ledger.health().journal.is_some());
    assert!(ledger.hold(hold(0, 1)).is_err());
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 35, 1));

    disk.0.lock().room = None;
    let ticket = ledger.hold(hold(0, 60)).unwrap();
    assert!(ledger.health().journal.is_none());
    let _ = ledger.settle(ticket, charged(40)).unwrap();
    die(ledger).await;
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 75, 2));
}

#[tokio::test]
async fn holds_are_refused_when_too_much_waits_for_the_database_and_charges_never() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(
        &place,
        &disk,
        Bounds {
            waiting: 1,
            ..Bounds::default()
        },
    )
    .await;
    let first = held(50);
    journal.propose(Event::Held(first.clone())).unwrap();
    let refused = journal.propose(Event::Held(held(60)));
    assert!(matches!(
        refused,
        Err(LedgerError::Behind { waiting: 1, .. })
    ));
    let end = Event::Settled(first, Arc::new(charged(35)));
    journal.state_fact(end).unwrap();
}

#[tokio::test]
async fn a_failed_sync_is_made_good_in_a_new_file() {
    let (place, disk) = (place(), Faulty::default());
    let ledger = open_faulty(&place, Sync::Power, &disk).await;
    disk.0.lock().bad_syncs = 1;
    let ticket = ledger.hold(hold(0, 50)).unwrap();
    ticket.durable().await.unwrap();
    assert_eq!(disk.0.lock().syncs, 2);
    assert!(ledger.health().journal.is_none());

    disk.0.lock().bad_syncs = 2;
    let refused = ticket.durable().await.unwrap_err();
    assert!(refused.to_string().contains("sync"), "{refused}");
    ledger.release(ticket).unwrap();
    die(ledger).await;
    let ledger = place.open().await;
    assert_eq!(ledger.recovery().damaged, []);
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, Totals::default());
}

#[tokio::test]
async fn those_who_wait_together_share_a_sync() {
    let (place, disk) = (place(), Faulty::default());
    let ledger = open_faulty(&place, Sync::Power, &disk).await;
    let tickets: Vec<Ticket> = (0..100).map(|_| ledger.hold(hold(0, 1)).unwrap()).collect();
    let tasks = Tasks::new();
    let waiting: Vec<_> = tickets
        .into_iter()
        .map(|ticket| tasks.spawn(async move { ticket.durable().await.map(|()| ticket) }))
        .collect();
    for ticket in waiting {
        let ticket = ticket.await.unwrap().unwrap();
        let _ = ledger.settle(ticket, charged(1)).unwrap();
    }
    let syncs = disk.0.lock().syncs;
    assert!((1..=3).contains(&syncs), "{syncs} syncs for 100 holds");
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn a_damaged_journal_is_carried_up_to_the_damage_said_and_kept() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(&place, &disk, Bounds::default()).await;
    let first = held(50);
    journal.propose(Event::Held(first.clone())).unwrap();
    let file = place.path.parent().unwrap().join(&place.journals()[0]);
    let sound = std::fs::metadata(&file).unwrap().len();
    let end = Event::Settled(first, Arc::new(charged(35)));
    journal.state_fact(end).unwrap();
    journal.propose(Event::Held(held(60))).unwrap();
    drop(journal);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[usize::try_from(sound).unwrap() + 40] ^= 1;
    std::fs::write(&file, &bytes).unwrap();

    let ledger = place.open().await;
    let damaged = &ledger.recovery().damaged;
    assert_eq!(damaged.len(), 1);
    assert_eq!(
        (damaged[0].at, damaged[0].bytes),
        (sound, bytes.len() as u64 - sound)
    );
    assert_eq!(std::fs::read(&damaged[0].file).unwrap(), bytes);
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(50, 0, 1), "the hold is known, its end is not");
}

#[tokio::test]
async fn half_a_record_never_hides_what_is_written_after_it() {
    for room in [1, 60, 100] {
        for no_cut in [false, true] {
            let (place, disk) = (place(), Faulty::default());
            let journal = lone_journal(&place, &disk, Bounds::default()).await;
            disk.fills_up(room, no_cut);
            journal.propose(Event::Held(held(70))).unwrap_err();
            disk.is_well();
            journal.propose(Event::Held(held(50))).unwrap();
            drop(journal);
            let ledger = place.open().await;
            assert_eq!(ledger.recovery().damaged, []);
            let totals = ledger.totals(&Filter::default()).await.unwrap();
            assert_eq!(totals, all(50, 0, 1), "room {room}, no_cut {no_cut}");
        }
    }
}

#[tokio::test]
async fn a_segment_stays_until_the_database_has_its_last_event() {
    let (place, disk) = (place(), Faulty::default());
    let bounds = Bounds {
        segment: 100,
        ..Bounds::default()
    };
    let journal = lone_journal(&place, &disk, bounds).await;
    journal.propose(Event::Held(held(50))).unwrap();
    journal.propose(Event::Held(held(60))).unwrap();
    journal.rotate_when_grown();
    assert_eq!(place.journals().len(), 2);
    journal.carried(1);
    assert_eq!(place.journals().len(), 2);
    journal.carried(2);
    assert_eq!(place.journals().len(), 1);
}
