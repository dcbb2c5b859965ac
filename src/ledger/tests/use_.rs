//! One and several ledgers in ordinary use.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[tokio::test]
async fn a_hold_and_its_charge_become_one_row() {
    let place = place();
    let ledger = place.open().await;
    let held = hold(0, 50);
    let ticket = ledger.hold(held.clone()).unwrap();
    let open = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!((open.held, open.open), (Usd::from_nano(50), 1));

    let written = ledger.settle(ticket, charged(35)).unwrap();
    written.durable().await.unwrap();
    let rows = ledger.rows(held.call).await.unwrap();
    assert_eq!(
        rows,
        [Row {
            hold: held,
            settled: Some(charged(35)),
            assumed: false
        }]
    );
    assert_eq!(
        ledger.totals(&Filter::default()).await.unwrap(),
        all(0, 35, 1)
    );
}

#[tokio::test]
async fn a_hold_taken_back_leaves_no_row_and_its_number_can_be_held_again() {
    let place = place();
    let ledger = place.open().await;
    let first = hold(0, 50);
    let again = Hold {
        held: Some(Usd::from_nano(80)),
        ..first.clone()
    };
    for flush_between in [true, false] {
        let ticket = ledger.hold(first.clone()).unwrap();
        if flush_between {
            ledger.flush().await.unwrap();
        }
        ledger.release(ticket).unwrap();
        let ticket = ledger.hold(again.clone()).unwrap();
        let totals = ledger.totals(&Filter::default()).await.unwrap();
        assert_eq!((totals.held, totals.attempts), (Usd::from_nano(80), 1));
        ledger.release(ticket).unwrap();
        let totals = ledger.totals(&Filter::default()).await.unwrap();
        assert_eq!(totals, Totals::default());
    }
}

#[tokio::test]
async fn what_a_dead_process_left_open_is_unknown_at_the_held_amount() {
    let place = place();
    let ledger = place.open().await;
    let (early, late, unpriced) = (hold(0, 50), hold(0, 70), hold(0, 1));
    let unpriced = Hold {
        held: None,
        ..unpriced
    };
    let carried = ledger.hold(early.clone()).unwrap();
    ledger.flush().await.unwrap();
    let journalled = ledger.hold(late.clone()).unwrap();
    let third = ledger.hold(unpriced.clone()).unwrap();
    drop((carried, journalled, third));
    assert_eq!(ledger.health().dropped, 3);
    die(ledger).await;
    assert_eq!(place.journals().len(), 1);

    let ledger = place.open().await;
    let recovery = ledger.recovery();
    assert_eq!((recovery.processes, recovery.unknown.len()), (1, 3));
    let end = ledger.rows(late.call).await.unwrap()[0].clone();
    assert!(end.assumed);
    let end = end.settled.unwrap();
    assert_eq!(
        (end.outcome, end.billed, end.charge, end.from),
        (
            Outcome::Unknown,
            Billed::Unknown,
            Some(Usd::from_nano(70)),
            ChargeFrom::List
        )
    );
    let end = ledger.rows(unpriced.call).await.unwrap()[0].clone();
    let end = end.settled.unwrap();
    assert_eq!((end.charge, end.from), (None, ChargeFrom::Unpriced));
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(
        totals,
        Totals {
            unpriced: 1,
            ..all(120, 0, 3)
        }
    );
}

#[tokio::test]
async fn carrying_a_journal_twice_changes_nothing() {
    let place = place();
    let ledger = place.open().await;
    let settled = ledger.hold(hold(0, 50)).unwrap();
    let _ = ledger.settle(settled, charged(35)).unwrap();
    ledger.release(ledger.hold(hold(0, 60)).unwrap()).unwrap();
    drop(ledger.hold(hold(0, 70)).unwrap());
    die(ledger).await;

    let journal = place.path.parent().unwrap().join(&place.journals()[0]);
    let bytes = std::fs::read(&journal).unwrap();
    let ledger = place.open().await;
    let once = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(once, all(70, 35, 2));
    ledger.close().await.unwrap();
    assert!(place.journals().is_empty());

    // As it was before the removal: a crash between commit and removal.
    std::fs::write(&journal, bytes).unwrap();
    std::fs::set_permissions(&journal, PermissionsExt::from_mode(0o600)).unwrap();
    let ledger = place.open().await;
    assert_eq!(ledger.recovery().events, 5);
    assert_eq!(ledger.recovery().unknown, []);
    assert_eq!(ledger.totals(&Filter::default()).await.unwrap(), once);
}

#[tokio::test]
async fn a_real_end_replaces_an_assumed_one_and_nothing_replaces_a_real_one() {
    let place = place();
    let ledger = place.open().await;
    let held = hold(0, 50);
    let ticket = ledger.hold(held.clone()).unwrap();
    ledger.flush().await.unwrap();
    // Somebody took the journal's file away, and another process opens the ledger.
    let journal = place.path.parent().unwrap().join(&place.journals()[0]);
    std::fs::remove_file(&journal).unwrap();
    let other = place.open().await;
    assert_eq!(other.recovery().unknown.len(), 1);

    let _ = ledger.settle(ticket, charged(35)).unwrap();
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 35, 1));

    let again = ledger.hold(held).unwrap();
    let _ = ledger.settle(again, charged(99)).unwrap();
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 35, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ledgers_on_one_file_stay_exact() {
    let place = place();
    let (one, two) = (place.open().await, place.open().await);
    let tasks = Tasks::new();
    let mut writers = Vec::new();
    for ledger in [&one, &two, &one, &two] {
        let ledger = ledger.clone();
        writers.push(tasks.spawn(async move {
            for nano in 1..=100 {
                let ticket = ledger.hold(hold(0, 1000)).unwrap();
                tokio::task::yield_now().await;
                let _ = ledger.settle(ticket, charged(nano)).unwrap();
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    one.flush().await.unwrap();
    let totals = two.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 4 * 5050, 400));
    let third = place.open().await;
    assert_eq!(third.recovery(), &Recovery::default(), "both live");
    one.close().await.unwrap();
    two.close().await.unwrap();
    assert_eq!(
        third.totals(&Filter::default()).await.unwrap(),
        all(0, 4 * 5050, 400)
    );
}

#[tokio::test]
async fn closing_books_what_is_open_and_takes_the_journal_away() {
    let place = place();
    let ledger = place.open().await;
    let ticket = ledger.hold(hold(0, 50)).unwrap();
    let unknown = ledger.close().await.unwrap();
    assert_eq!(unknown.len(), 1);
    assert!(place.journals().is_empty());
    assert!(matches!(
        ledger.settle(ticket, charged(1)),
        Err(LedgerError::Closed)
    ));
    assert!(matches!(ledger.hold(hold(0, 1)), Err(LedgerError::Closed)));
    assert_eq!(ledger.close().await.unwrap(), []);
}

#[tokio::test]
async fn sums_can_be_narrowed_and_are_told_by_model() {
    let place = place();
    let ledger = place.open().await;
    let dear = Hold {
        model: ModelId::new("openai", "gpt-image-2"),
        app: shared("shop"),
        user: Some(shared("u1")),
        at: Timestamp::from_microsecond(1_800_000_000_000_000).unwrap(),
        ..hold(0, 90)
    };
    let retried = Hold {
        attempt: 1,
        ..dear.clone()
    };
    for (held, charge) in [(hold(0, 50), 35), (dear.clone(), 80), (retried, 8)] {
        let ticket = ledger.hold(held).unwrap();
        let _ = ledger.settle(ticket, charged(charge)).unwrap();
    }
    let filters = [
        (
            Filter {
                since: Some(dear.at),
                ..Filter::default()
            },
            88,
        ),
        (
            Filter {
                until: Some(dear.at),
                ..Filter::default()
            },
            35,
        ),
        (
            Filter {
                app: Some(shared("shop")),
                ..Filter::default()
            },
            88,
        ),
        (
            Filter {
                user: Some(shared("u2")),
                ..Filter::default()
            },
            0,
        ),
        (
            Filter {
                credential: Some(shared("k:12ab")),
                ..Filter::default()
            },
            123,
        ),
        (
            Filter {
                provider: Some(shared("stability")),
                ..Filter::default()
            },
            35,
        ),
        (
            Filter {
                model: Some(dear.model.clone()),
                ..Filter::default()
            },
            88,
        ),
    ];
    for (filter, spent) in filters {
        let totals = ledger.totals(&filter).await.unwrap();
        assert_eq!(totals.spent, Usd::from_nano(spent), "{filter:?}");
    }
    let by_model = ledger.spent_by_model(&Filter::default()).await.unwrap();
    let told: Vec<_> = by_model
        .iter()
        .map(|m| {
            (
                m.model.as_str(),
                m.totals.spent.nano(),
                m.totals.calls,
                m.images,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("openai/gpt-image-2", 88, 1, 2),
            ("stability/sd3.5-medium", 35, 1, 1)
        ]
    );
}

#[tokio::test]
async fn a_journal_that_has_grown_is_followed_by_a_new_one() {
    let place = place();
    let ledger = place.open().await;
    let first = place.journals();
    let tags = shared(&"t".repeat(20_000));
    let open = ledger.hold(hold(0, 7)).unwrap();
    for _ in 0..220 {
        let held = Hold {
            tags: Some(tags.clone()),
            ..hold(0, 10)
        };
        let ticket = ledger.hold(held).unwrap();
        let _ = ledger.settle(ticket, charged(1)).unwrap();
    }
    ledger.flush().await.unwrap();
    // Whatever comes next is carried from the new segment, and the old one goes.
    let _ = ledger.settle(open, charged(2)).unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(place.journals().len(), 1);
    assert_ne!(place.journals(), first);
    die(ledger).await;
    let totals = place.open().await.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, all(0, 222, 221));
}

#[tokio::test]
async fn its_files_are_private_and_looser_ones_stop_the_start() {
    let place = place();
    let ledger = place.open().await;
    ledger.hold(hold(0, 1)).map(drop).unwrap();
    ledger.flush().await.unwrap();
    let dir = place.path.parent().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(dir), 0o700);
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 5, "database, its two, lock and journal: {seen}");
    die(ledger).await;

    for path in [place.path.clone(), dir.join(&place.journals()[0])] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let refused = Ledger::open(&place.path, Sync::Crash).await.err().unwrap();
        let said = refused.to_string();
        assert!(
            said.contains("0640") && said.contains("chmod 600"),
            "{said}"
        );
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

#[tokio::test]
async fn a_ledger_of_a_later_release_is_left_alone() {
    let place = place();
    let ledger = place.open().await;
    let readers = ledger.shared().database.readers();
    sqlx::query("PRAGMA user_version = 9")
        .execute(readers)
        .await
        .unwrap();
    ledger.close().await.unwrap();
    let refused = Ledger::open(&place.path, Sync::Crash).await.err();
    assert!(matches!(refused, Some(LedgerError::Newer { found: 9, .. })));
}

#[tokio::test]
async fn one_at_a_time_follows_a_batch_also_where_a_lock_was_taken_away_meanwhile() {
    let place = place();
    let ledger = place.open().await;
    let batch = new_owner();
    let first = ledger.follow_batch(batch).unwrap().unwrap();
    assert!(ledger.follow_batch(batch).unwrap().is_none());
    // Somebody has opened the file and not locked it yet when it goes.
    let mut path = place.path.clone().into_os_string();
    path.push(format!(".batch-{batch}"));
    let path = PathBuf::from(path);
    let late = segment::open_lock(&path).unwrap();
    assert!(segment::lies_at(&late, &path).unwrap());
    drop(first);
    late.try_lock().unwrap();
    assert!(!segment::lies_at(&late, &path).unwrap());
    let second = ledger.follow_batch(batch).unwrap();
    assert!(second.is_some(), "a lock on what is gone keeps nobody out");
    assert!(ledger.follow_batch(batch).unwrap().is_none());
}
