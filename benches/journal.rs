//! What holding and charging costs a call: two records in the journal, and the rows behind them.
//!
//! The bar is 5 µs of CPU a call. `hold and settle` is what a call that goes alone waits for; `with its
//! row` is the same until the database has it, a thousand calls at a time. `within a budget` waits
//! for the transaction that judges the hold and its sync: alone, and shared by 64 that ask at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use pixtoll::bill::ChargeFrom;
use pixtoll::image::{Billed, ModelId, Tier};
use pixtoll::ledger::{Bound, Claim, Grant, Hold, Ledger, Outcome, Settlement, Sync};
use pixtoll::money::Usd;
use tokio::runtime::Runtime;
use ulid::Ulid;

/// Calls between two waits for the database, so that what waits stays bounded.
const ROUND: u64 = 1000;

struct Bench {
    runtime: Runtime,
    ledger: Ledger,
    model: ModelId,
    app: Arc<str>,
    credential: Arc<str>,
    calls: u128,
}

impl Bench {
    fn call(&mut self) {
        let (hold, settlement) = self.next();
        let ticket = self.ledger.hold(hold).expect("the disk takes it");
        let written = self.ledger.settle(ticket, settlement);
        drop(written.expect("the disk takes it"));
    }

    fn next(&mut self) -> (Hold, Settlement) {
        self.calls += 1;
        let now = Timestamp::now();
        let hold = Hold {
            call: Ulid::from_parts(now.as_millisecond().unsigned_abs(), self.calls),
            attempt: 0,
            at: now,
            app: Arc::clone(&self.app),
            model: self.model.clone(),
            tier: Tier::Standard,
            credential: Some(Arc::clone(&self.credential)),
            user: None,
            tags: None,
            held: Some(Usd::from_nano(40_000_000)),
            quote: Some(Usd::from_nano(35_000_000)),
            claims: Arc::default(),
        };
        let settlement = Settlement {
            at: now,
            outcome: Outcome::Ok,
            billed: Billed::Yes,
            charge: Some(Usd::from_nano(35_000_000)),
            from: ChargeFrom::List,
            images: 1,
            request_id: None,
        };
        (hold, settlement)
    }

    /// The time that `calls` calls within a budget take, so many at once.
    fn time_within(&mut self, calls: u64, at_once: u64) -> Duration {
        let since = Timestamp::UNIX_EPOCH;
        let begun = Instant::now();
        let mut left = calls;
        while left > 0 {
            let round = left.min(at_once);
            let asking: Vec<_> = (0..round)
                .map(|_| {
                    let (hold, settlement) = self.next();
                    let bound = Bound {
                        claim: Claim {
                            budget: "daily#0".into(),
                            bucket: "all".into(),
                            since,
                            amount: Usd::from_nano(40_000_000),
                        },
                        limit: Usd::MAX,
                        binds: true,
                    };
                    let ledger = self.ledger.clone();
                    async move {
                        let granted = ledger.hold_within(hold, vec![bound]).await;
                        let Grant::Held(ticket, _) = granted.expect("the disk takes it") else {
                            panic!("there is room for all");
                        };
                        let written = ledger.settle(ticket, settlement);
                        drop(written.expect("the disk takes it"));
                    }
                })
                .collect();
            self.runtime
                .block_on(futures_util::future::join_all(asking));
            left -= round;
        }
        begun.elapsed()
    }

    /// The time that `calls` calls take, with or without waiting for their rows.
    fn time(&mut self, calls: u64, with_rows: bool) -> Duration {
        let mut spent = Duration::ZERO;
        let mut left = calls;
        while left > 0 {
            let round = left.min(ROUND);
            let begun = Instant::now();
            for _ in 0..round {
                self.call();
            }
            let written = begun.elapsed();
            let flushed = self.runtime.block_on(self.ledger.flush());
            flushed.expect("the database takes it");
            spent += if with_rows { begun.elapsed() } else { written };
            left -= round;
        }
        spent
    }
}

fn journal(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory for the ledger");
    let runtime = Runtime::new().expect("a runtime");
    let path = dir.path().join("ledger.db");
    let ledger = runtime.block_on(Ledger::open(&path, Sync::Crash));
    let mut bench = Bench {
        ledger: ledger.expect("a new ledger opens"),
        runtime,
        model: ModelId::new("stability", "sd3.5-medium"),
        app: "catalog".into(),
        credential: "k:0123456789abcdef".into(),
        calls: 0,
    };
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(1));
    for (name, with_rows) in [("hold and settle", false), ("with its row", true)] {
        group.bench_function(name, |b| {
            b.iter_custom(|calls| bench.time(calls, with_rows));
        });
    }
    for (name, at_once) in [("within a budget", 1), ("within a budget, 64 at once", 64)] {
        group.bench_function(name, |b| {
            b.iter_custom(|calls| bench.time_within(calls, at_once))
        });
    }
    group.finish();
    let closed = bench.runtime.block_on(bench.ledger.close());
    closed.expect("the ledger closes");
}

criterion_group!(benches, journal);
criterion_main!(benches);
