//! Events of calls that go abreast, written with one write.

use std::future::Future;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::faults::{Faulty, held, lone_journal, open_faulty};
use super::*;
use crate::cores::Cores;

/// Does `work` on a thread whose calls go abreast.
async fn on_a_core<F>(work: impl FnOnce() -> F + Send + 'static) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let cores = Cores::start().unwrap();
    let (tell, told) = oneshot::channel();
    cores.serve(&Tasks::new(), move || async move {
        let _ = tell.send(work().await);
    });
    told.await.unwrap()
}

#[tokio::test]
async fn calls_that_go_abreast_share_a_write() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(&place, &disk, Bounds::default()).await;
    let writes = disk.writes();
    on_a_core(move || async move {
        let holds: Vec<Arc<Hold>> = (0..5).map(|_| held(50)).collect();
        let proposed = holds.iter().map(|hold| {
            let event = Event::Held(Arc::clone(hold));
            journal.propose_abreast(event)
        });
        assert!(join_all(proposed).await.iter().all(Result::is_ok));
        let settled = holds[..4].iter().map(|hold| {
            let event = Event::Settled(Arc::clone(hold), Arc::new(charged(35)));
            journal.state_fact_abreast(event)
        });
        assert!(join_all(settled).await.iter().all(Result::is_ok));
    })
    .await;
    assert_eq!(disk.writes() - writes, 2);
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(50, 4 * 35, 5));
}

#[tokio::test]
async fn a_disk_that_takes_part_of_a_round_has_taken_nothing_of_it() {
    for room in [0, 1, 200, 400] {
        for no_cut in [false, true] {
            let (place, disk) = (place(), Faulty::default());
            let journal = lone_journal(&place, &disk, Bounds::default()).await;
            let first = held(50);
            journal.propose(Event::Held(Arc::clone(&first))).unwrap();
            disk.fills_up(room, no_cut);
            let journal = on_a_core(move || async move {
                let end = Event::Settled(first, Arc::new(charged(35)));
                let refused = join_all([
                    journal.propose_abreast(Event::Held(held(60))).boxed(),
                    journal.propose_abreast(Event::Held(held(70))).boxed(),
                    journal.state_fact_abreast(end).boxed(),
                ]);
                for outcome in refused.await {
                    assert!(matches!(outcome, Err(LedgerError::Disk { .. })));
                }
                journal
            })
            .await;
            disk.fills_up(usize::MAX, no_cut);
            journal.propose(Event::Held(held(80))).unwrap();
            assert!(journal.trouble().is_none());
            drop(journal);

            let ledger = place.open().await;
            assert_eq!(ledger.recovery().damaged, [], "room {room}");
            let totals = ledger.totals(&Filter::default()).await.unwrap();
            assert_eq!(totals, all(80, 35, 2), "room {room}, no_cut {no_cut}");
        }
    }
}

#[tokio::test]
async fn a_ledger_whose_disk_refused_a_round_is_flushed_and_closed_all_the_same() {
    let (place, disk) = (place(), Faulty::default());
    let ledger = open_faulty(&place, Sync::Crash, &disk).await;
    disk.fills_up(0, false);
    let refusing = ledger.clone();
    let refused = on_a_core(move || async move {
        let holds = [hold(0, 50), hold(0, 60)].map(|hold| refusing.hold_abreast(hold));
        let outcomes = join_all(holds).await;
        outcomes.into_iter().all(|outcome| outcome.is_err())
    });
    assert!(refused.await);
    let ending = async {
        ledger.flush().await.unwrap();
        assert_eq!(ledger.close().await.unwrap(), []);
    };
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, ending).await.unwrap();
}

#[tokio::test]
async fn a_ledger_that_is_closed_writes_what_waits_for_others_first() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(&place, &disk, Bounds::default()).await;
    on_a_core(move || async move {
        let first = held(50);
        journal.propose(Event::Held(Arc::clone(&first))).unwrap();
        let end = Event::Settled(first, Arc::new(charged(35)));
        let mut settling = journal.state_fact_abreast(end).boxed();
        assert!((&mut settling).now_or_never().is_none(), "it stands");
        journal.close();
        settling.await.unwrap();
    })
    .await;
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 35, 1));
}

#[tokio::test]
async fn one_hold_that_is_refused_does_not_keep_others_from_being_written() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(&place, &disk, Bounds::default()).await;
    let too_large = Arc::new(Hold {
        tags: Some("x".repeat(40_000).into()),
        ..hold(0, 60)
    });
    on_a_core(move || async move {
        let events = [held(50), too_large, held(70)].map(Event::Held);
        let proposed = events.map(|event| journal.propose_abreast(event));
        let outcomes = join_all(proposed).await;
        assert!(matches!(
            outcomes.as_slice(),
            [Ok(()), Err(LedgerError::TooLarge { .. }), Ok(())]
        ));
    })
    .await;
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(50 + 70, 0, 2));
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_stands_leaves_no_hold_and_every_charge() {
    let (place, disk) = (place(), Faulty::default());
    let journal = lone_journal(&place, &disk, Bounds::default()).await;
    on_a_core(move || async move {
        let first = held(50);
        journal.propose(Event::Held(Arc::clone(&first))).unwrap();
        let hold = journal.propose_abreast(Event::Held(held(60)));
        assert!(hold.now_or_never().is_none(), "it stands");
        let end = Event::Settled(first, Arc::new(charged(35)));
        assert!(journal.state_fact_abreast(end).now_or_never().is_none());
    })
    .await;
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 35, 1));
}
