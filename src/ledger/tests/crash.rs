//! Killed at random moments under load: what was acknowledged is there, once and exact.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::Command;

use super::*;

/// Names the ledger to the child process.
const LEDGER: &str = "PIXTOLL_TEST_LEDGER";
const WRITERS: u64 = 4;
const HELD: i64 = 1_000_000;

/// What the child said before it died.
#[derive(Default)]
struct Told {
    /// The charge, where its settlement was acknowledged.
    holds: HashMap<Ulid, Option<i64>>,
    /// Holds taken back, acknowledged.
    released: Vec<Ulid>,
}

impl Told {
    fn read(&mut self, said: &str) {
        // The last line may be cut off; what it said was not heard.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let ["@", what, call, charge] = words[..] else {
                continue;
            };
            let call = Ulid::from_string(call).unwrap();
            match what {
                "held" => drop(self.holds.insert(call, None)),
                "settled" => drop(self.holds.insert(call, Some(charge.parse().unwrap()))),
                "releasing" => drop(self.holds.remove(&call)),
                _ => self.released.push(call),
            }
        }
    }
}

/// Not a test: the process that is killed. Writes until then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_writer_that_is_killed() {
    // Started for itself, by the whole suite, it has nothing to write to.
    let Some(path) = std::env::var_os(LEDGER) else {
        return;
    };
    // Small segments, so that it is also killed while one follows the other.
    let bounds = Bounds {
        segment: 4096,
        ..Bounds::default()
    };
    let ledger = Ledger::open_on(Path::new(&path), Sync::Crash, Arc::new(Disk), bounds)
        .await
        .unwrap();
    let tasks = Tasks::new();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tasks.spawn(write_for_ever(ledger.clone(), writer)))
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn write_for_ever(ledger: Ledger, writer: u64) {
    let say = |what: &str, call: Ulid, charge: i64| {
        writeln!(std::io::stdout().lock(), "\n@ {what} {call} {charge}").unwrap();
    };
    for turn in 0i64.. {
        let held = hold(0, HELD);
        let call = held.call;
        let ticket = ledger.hold(held).unwrap();
        say("held", call, 0);
        tokio::task::yield_now().await;
        let charge = turn * 10 + i64::try_from(writer).unwrap();
        match turn % 7 {
            5 => {
                // Said before as well: killed in between, it may be either.
                say("releasing", call, 0);
                ledger.release(ticket).unwrap();
                say("released", call, 0);
            }
            6 => drop(ticket),
            _ => {
                let _ = ledger.settle(ticket, charged(charge)).unwrap();
                say("settled", call, charge);
            }
        }
    }
}

/// Starts the writer, kills it after `life` (counted from its first word where `heard`).
async fn one_life(place: &Place, life: Duration, heard: bool, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "--test-threads=1"])
        .arg("ledger::tests::crash::the_writer_that_is_killed")
        .env(LEDGER, &place.path)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Vec::new();
    while heard && !said.ends_with(b"@ held") {
        let byte = output
            .read_u8()
            .await
            .expect("the writer came to hold something");
        said.push(byte);
    }
    let listening = async {
        output.read_to_end(&mut said).await.unwrap();
    };
    let killing = async {
        tokio::time::sleep(life).await;
        child.kill().await.unwrap();
    };
    tokio::join!(listening, killing);
    told.read(&String::from_utf8_lossy(&said));
}

async fn verify(place: &Place, told: &Told, lives: u64) {
    let ledger = place.open().await;
    assert_eq!(ledger.recovery().damaged, []);
    let found = sqlx::query("SELECT * FROM attempts")
        .fetch_all(ledger.shared().database.readers())
        .await
        .unwrap();
    let mut rows = HashMap::new();
    for row in &found {
        let row = query::row(&ledger.shared().database, row).unwrap();
        assert!(rows.insert(row.hold.call, row).is_none(), "a row twice");
    }
    let mut sum = Usd::ZERO;
    for row in rows.values() {
        sum += row
            .settled
            .as_ref()
            .and_then(|end| end.charge)
            .expect("an end for each");
    }
    for (call, charge) in &told.holds {
        let row = rows.get(call).expect("an acknowledged hold has its row");
        let end = row.settled.clone().unwrap();
        match charge {
            Some(nano) => assert_eq!((end, row.assumed), (charged(*nano), false)),
            None if row.assumed => assert_eq!(end.charge, Some(Usd::from_nano(HELD))),
            None => assert_eq!(
                end.outcome,
                Outcome::Ok,
                "settled, and killed before it said so"
            ),
        }
    }
    for call in &told.released {
        assert!(!rows.contains_key(call), "what was taken back is no row");
    }
    // Each writer may have had one hold more than it came to say.
    let (known, found) = (told.holds.len() as u64, rows.len() as u64);
    assert!(
        (known..=known + WRITERS * lives).contains(&found),
        "{known} known, {found} found"
    );
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!((totals.spent + totals.unknown, totals.open), (sum, 0));
    ledger.close().await.unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_it_keeps_what_it_acknowledged() {
    let place = place();
    let mut told = Told::default();
    let mut dice = new_owner().random() as u64;
    for life in 1..=20 {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let milliseconds = (dice >> 33) % 40;
        // Every third is killed without a word heard, so some die while they take over the last.
        one_life(
            &place,
            Duration::from_millis(milliseconds),
            life % 3 != 0,
            &mut told,
        )
        .await;
        if life % 4 == 0 {
            verify(&place, &told, life).await;
        }
    }
    assert!(
        told.holds.values().flatten().count() > 20,
        "it was under load"
    );
}
