//! Budgets under the ledger: exact for all who ask, whoever ends, however it ends.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use proptest::prelude::*;
use sqlx::Row as _;

use super::*;
use crate::budget::{Budget, Budgets, Dimension, Facts, Over, Per, Place as Bucket, Standing};

/// A moment within the period of [`at`].
fn at() -> Timestamp {
    Timestamp::now()
}

fn budget(name: &str, limit: i64, per: Per, by: Option<Dimension>) -> Budget {
    Budget {
        name: name.to_owned(),
        limit: Usd::from_nano(limit),
        per,
        zone: TimeZone::UTC,
        by,
        only: BTreeMap::new(),
        over: Over::Refuse,
    }
}

fn budgets(list: impl IntoIterator<Item = Budget>) -> Budgets {
    Budgets::new(list, BTreeMap::new())
}

fn held_at(app: &str, nano: i64) -> Hold {
    Hold {
        at: at(),
        app: app.into(),
        ..hold(0, nano)
    }
}

/// The buckets of a hold.
fn places(budgets: &Budgets, hold: &Hold) -> Vec<Bucket> {
    let facts = Facts {
        app: &hold.app,
        tags: vec!["icons", "night"],
        provider: "stability",
        model: hold.model.as_str(),
        ..Facts::default()
    };
    budgets.places(&facts, hold.at)
}

fn bounds(budgets: &Budgets, hold: &Hold) -> Vec<Bound> {
    let places = places(budgets, hold);
    places
        .into_iter()
        .map(|place| Bound {
            limit: place.budget.budget.limit,
            binds: place.budget.budget.binds(),
            claim: Claim {
                budget: Arc::clone(&place.budget.key),
                bucket: place.bucket,
                since: place.period.start,
                amount: hold.held.unwrap_or(Usd::from_nano(1000)),
            },
        })
        .collect()
}

async fn ask(ledger: &Ledger, budgets: &Budgets, hold: Hold) -> Option<Ticket> {
    let bounds = bounds(budgets, &hold);
    match ledger.hold_within(hold, bounds).await.unwrap() {
        Grant::Held(ticket, _) => Some(ticket),
        Grant::Over(_) => None,
    }
}

fn standing(spent: i64, held: i64) -> Standing {
    Standing {
        spent: Usd::from_nano(spent),
        held: Usd::from_nano(held),
    }
}

/// What the one bucket of `name` stands at, as rules see it once everything is carried.
async fn stands(ledger: &Ledger, budgets: &Budgets, app: &str) -> Standing {
    ledger.flush().await.unwrap();
    let place = places(budgets, &held_at(app, 1)).remove(0);
    ledger.standing(&place)
}

/// Every bucket is the sum of its claims, and every claim says what its attempt's row says.
async fn holds_the_law(ledger: &Ledger) {
    let readers = ledger.shared().database.readers();
    let sql = "SELECT b.budget, b.bucket, b.spent, b.held, \
               COALESCE(SUM((1 - c.open) * c.amount), 0) AS spent_sum, \
               COALESCE(SUM(c.open * c.amount), 0) AS held_sum \
               FROM buckets AS b LEFT JOIN claims AS c USING (budget, since, bucket) \
               GROUP BY b.budget, b.since, b.bucket";
    for row in sqlx::query(sql).fetch_all(readers).await.unwrap() {
        let number = |column| row.get::<i64, _>(column);
        let bucket: String = row.get("bucket");
        assert_eq!(number("spent"), number("spent_sum"), "spent of {bucket}");
        assert_eq!(number("held"), number("held_sum"), "held of {bucket}");
    }
    let wrong = "SELECT COUNT(*) FROM claims AS c LEFT JOIN attempts AS a USING (call, attempt) \
                 WHERE a.call IS NULL OR c.open <> (a.outcome IS NULL) \
                 OR (a.charge IS NOT NULL AND c.amount <> a.charge)";
    let wrong: i64 = sqlx::query_scalar(wrong).fetch_one(readers).await.unwrap();
    assert_eq!(wrong, 0, "claims that say otherwise than their rows");
}

#[tokio::test]
async fn a_hold_within_a_budget_ends_as_its_charge() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();

    let first = ask(&ledger, &budgets, held_at("a", 60)).await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(0, 60));
    assert!(ask(&ledger, &budgets, held_at("a", 41)).await.is_none());
    let written = ledger.settle(first, charged(55)).unwrap();
    written.durable().await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(55, 0));

    let second = ask(&ledger, &budgets, held_at("b", 45)).await.unwrap();
    assert!(ask(&ledger, &budgets, held_at("a", 1)).await.is_none());
    ledger.release(second).unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(55, 0));
    let free = ask(&ledger, &budgets, held_at("a", 0)).await;
    let _ = ledger.settle(free.unwrap(), charged(50)).unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(105, 0));
    assert!(ask(&ledger, &budgets, held_at("a", 0)).await.is_some());
    holds_the_law(&ledger).await;
}

#[tokio::test]
async fn what_ended_before_somebody_asked_is_counted() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    // Each fits only if the one before has been given back, and nothing is waited for between.
    for _ in 0..50 {
        let ticket = ask(&ledger, &budgets, held_at("a", 60)).await.unwrap();
        let _ = ledger.settle(ticket, charged(0)).unwrap();
        let ticket = ask(&ledger, &budgets, held_at("a", 100)).await.unwrap();
        ledger.release(ticket).unwrap();
    }
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(0, 0));
}

#[tokio::test]
async fn each_value_has_a_limit_of_its_own_and_all_of_them_must_fit() {
    let place = place();
    let ledger = place.open().await;
    let by_app = budget("by app", 100, Per::Day, Some(Dimension::App));
    let whole = budget("whole", 150, Per::Total, None);
    let alert = Budget {
        over: Over::Alert,
        ..budget("alert", 10, Per::Hour, None)
    };
    let budgets = budgets([by_app, whole, alert]);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    let a = ask(&ledger, &budgets, held_at("a", 100)).await.unwrap();
    assert!(ask(&ledger, &budgets, held_at("a", 10)).await.is_none());
    assert!(
        ask(&ledger, &budgets, held_at("b", 60)).await.is_none(),
        "150 in all"
    );
    let b = ask(&ledger, &budgets, held_at("b", 50)).await.unwrap();
    holds_the_law(&ledger).await;
    ledger.release(a).unwrap();
    ledger.release(b).unwrap();
    holds_the_law(&ledger).await;
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(0, 0));
}

#[tokio::test]
async fn a_mark_is_told_once_a_period_whoever_reaches_it() {
    let place = place();
    let (one, two) = (place.open().await, place.open().await);
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    let mut told = Vec::new();
    for (n, ledger) in [&one, &two].into_iter().cycle().take(26).enumerate() {
        let hold = held_at("a", 4);
        let bounds = bounds(&budgets, &hold);
        let judged = match ledger.hold_within(hold, bounds).await.unwrap() {
            Grant::Held(ticket, judged) => {
                drop(ledger.settle(ticket, charged(4)).unwrap());
                ledger.flush().await.unwrap();
                judged
            }
            Grant::Over(judged) => judged,
        };
        told.extend(judged[0].reached.map(|mark| (n, mark)));
    }
    let expected = [(12, 50), (21, 85), (23, 95), (24, 100), (25, TURNED_AWAY)];
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_ledgers_on_one_file_grant_what_fits_and_no_more() {
    let place = place();
    let (one, two) = (place.open().await, place.open().await);
    let budgets = budgets([budget("daily", 1000, Per::Day, None)]);
    let tasks = Tasks::new();
    let mut asking = Vec::new();
    for n in 0..200 {
        let ledger = if n % 2 == 0 { &one } else { &two }.clone();
        let budgets = budgets.clone();
        asking.push(tasks.spawn(async move { ask(&ledger, &budgets, held_at("a", 100)).await }));
    }
    let mut granted = Vec::new();
    for asked in asking {
        granted.extend(asked.await.unwrap());
    }
    assert_eq!(granted.len(), 10);
    holds_the_law(&one).await;
    for ticket in granted {
        one.release(ticket).unwrap();
    }
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    holds_the_law(&one).await;
    let totals = two.totals(&Filter::default()).await.unwrap();
    assert_eq!(totals, Totals::default());
}

#[tokio::test]
async fn what_others_spend_is_seen_soon() {
    let place = place();
    let (one, two) = (place.open().await, place.open().await);
    let budgets = budgets([budget("daily", 1000, Per::Day, None)]);
    two.guard(&budgets, Usd::ZERO).await.unwrap();
    let ticket = ask(&one, &budgets, held_at("a", 100)).await.unwrap();
    let place = places(&budgets, &held_at("a", 1)).remove(0);
    for _ in 0..1000 {
        if two.standing(&place) == standing(0, 100) {
            return drop(one.settle(ticket, charged(1)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", two.standing(&place));
}

#[tokio::test]
async fn a_dead_process_leaves_its_holds_counted() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    let open = ask(&ledger, &budgets, held_at("a", 60)).await.unwrap();
    let unpriced = Hold {
        held: None,
        ..held_at("a", 1)
    };
    let mut bound = bounds(&budgets, &unpriced);
    bound[0].claim.amount = Usd::from_nano(30);
    let granted = ledger.hold_within(unpriced, bound).await.unwrap();
    drop((open, granted));
    die(ledger).await;

    let ledger = place.open().await;
    assert_eq!(ledger.recovery().unknown.len(), 2);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    let stands_at = stands(&ledger, &budgets, "a").await;
    assert_eq!(
        stands_at,
        standing(90, 0),
        "an unknown price is its ceiling"
    );
    assert!(ask(&ledger, &budgets, held_at("a", 11)).await.is_none());
    holds_the_law(&ledger).await;
}

#[tokio::test]
async fn a_late_charge_takes_the_place_of_what_was_assumed() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    let hold = held_at("a", 60);
    let key = hold.key();
    drop(ask(&ledger, &budgets, hold).await.unwrap());
    die(ledger).await;
    let ledger = place.open().await;
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(60, 0));
    let _ = ledger.settle_late(key, charged(35)).await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(35, 0));
    holds_the_law(&ledger).await;
}

#[tokio::test]
async fn a_new_budget_counts_what_its_period_has_seen() {
    let place = place();
    let ledger = place.open().await;
    let early = Hold {
        at: Timestamp::from_microsecond(1_600_000_000_000_000).unwrap(),
        ..hold(0, 500)
    };
    let _ = ledger
        .settle(ledger.hold(early).unwrap(), charged(500))
        .unwrap();
    let _ = ledger
        .settle(ledger.hold(held_at("a", 50)).unwrap(), charged(40))
        .unwrap();
    let _ = ledger
        .settle(ledger.hold(held_at("b", 50)).unwrap(), charged(7))
        .unwrap();
    let unpriced = Settlement {
        charge: None,
        images: 3,
        ..charged(0)
    };
    let _ = ledger
        .settle(ledger.hold(held_at("c", 50)).unwrap(), unpriced)
        .unwrap();
    let open = ledger.hold(held_at("a", 20)).unwrap();
    let daily = budget("daily", 100, Per::Day, Some(Dimension::App));
    let budgets = budgets([daily]);
    for _ in 0..2 {
        ledger.guard(&budgets, Usd::from_nano(9)).await.unwrap();
        assert_eq!(stands(&ledger, &budgets, "a").await, standing(40, 20));
        assert_eq!(stands(&ledger, &budgets, "b").await, standing(7, 0));
        assert_eq!(stands(&ledger, &budgets, "c").await, standing(27, 0));
    }
    assert!(ask(&ledger, &budgets, held_at("a", 41)).await.is_none());
    ledger.release(open).unwrap();
    assert!(ask(&ledger, &budgets, held_at("a", 41)).await.is_some());
    holds_the_law(&ledger).await;
}

#[tokio::test]
async fn counters_that_are_wrong_are_mended() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    let ticket = ask(&ledger, &budgets, held_at("a", 60)).await.unwrap();
    let readers = ledger.shared().database.readers();
    let spoil = sqlx::query("UPDATE buckets SET held = 7, spent = 1");
    spoil.execute(readers).await.unwrap();
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(0, 60));
    let _ = ledger.settle(ticket, charged(1)).unwrap();
}

#[tokio::test]
async fn a_call_that_goes_on_without_the_ledger_counts_once_it_is_back() {
    let place = place();
    let ledger = place.open().await;
    let budgets = budgets([budget("daily", 100, Per::Day, None)]);
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    let hold = held_at("a", 60);
    let claims: Vec<Claim> = bounds(&budgets, &hold)
        .into_iter()
        .map(|b| b.claim)
        .collect();
    let ticket = ledger.hold_anyway(hold, claims.clone()).unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(0, 60));
    let _ = ledger.settle(ticket, charged(50)).unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(50, 0));
    // Held, settled and carried from a dead process's journal.
    let ticket = ledger.hold_anyway(held_at("a", 30), claims).unwrap();
    let _ = ledger.settle(ticket, charged(20)).unwrap();
    die(ledger).await;
    let ledger = place.open().await;
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    assert_eq!(stands(&ledger, &budgets, "a").await, standing(70, 0));
    holds_the_law(&ledger).await;
}

/// What is done next in a random history.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hold { app: u8, nano: i64 },
    Settle { which: usize, nano: i64 },
    Unknown { which: usize },
    Release { which: usize },
    Forget { which: usize },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let which = 0usize..8;
    prop_oneof![
        6 => (0u8..3, 0i64..60).prop_map(|(app, nano)| Step::Hold { app, nano }),
        3 => (which.clone(), 0i64..80).prop_map(|(which, nano)| Step::Settle { which, nano }),
        1 => which.clone().prop_map(|which| Step::Unknown { which }),
        2 => which.clone().prop_map(|which| Step::Release { which }),
        1 => which.prop_map(|which| Step::Forget { which }),
        1 => Just(Step::Crash),
    ]
}

/// The same history in a few lines: what each app's bucket must stand at.
#[derive(Default)]
struct Model {
    spent: BTreeMap<u8, i64>,
    open: Vec<(u8, i64)>,
    /// Held by tickets that were dropped.
    lost: Vec<(u8, i64)>,
}

impl Model {
    fn held(&self, app: u8) -> i64 {
        let all = self.open.iter().chain(&self.lost);
        all.filter(|(own, _)| *own == app)
            .map(|(_, nano)| nano)
            .sum()
    }

    fn fits(&self, app: u8, nano: i64) -> bool {
        let spent = self.spent.get(&app).copied().unwrap_or(0);
        nano == 0 || spent + self.held(app) + nano <= LIMIT
    }
}

const LIMIT: i64 = 150;

async fn live_through(steps: Vec<Step>) {
    let place = place();
    let mut ledger = place.open().await;
    let budgets = budgets([budget("apps", LIMIT, Per::Total, Some(Dimension::App))]);
    let (mut model, mut tickets) = (Model::default(), Vec::new());
    for step in steps {
        match step {
            Step::Hold { app, nano } => {
                let asked = ask(&ledger, &budgets, held_at(&app.to_string(), nano)).await;
                assert_eq!(asked.is_some(), model.fits(app, nano), "{step:?}");
                if let Some(ticket) = asked {
                    tickets.push(ticket);
                    model.open.push((app, nano));
                }
            }
            Step::Settle { which, nano } if which < tickets.len() => {
                drop(ledger.settle(tickets.remove(which), charged(nano)).unwrap());
                let (app, _) = model.open.remove(which);
                *model.spent.entry(app).or_default() += nano;
            }
            Step::Unknown { which } if which < tickets.len() => {
                let (app, nano) = model.open.remove(which);
                let unknown = Settlement {
                    outcome: Outcome::Unknown,
                    ..charged(nano)
                };
                drop(ledger.settle(tickets.remove(which), unknown).unwrap());
                *model.spent.entry(app).or_default() += nano;
            }
            Step::Release { which } if which < tickets.len() => {
                ledger.release(tickets.remove(which)).unwrap();
                model.open.remove(which);
            }
            Step::Forget { which } if which < tickets.len() => {
                drop(tickets.remove(which));
                let lost = model.open.remove(which);
                model.lost.push(lost);
            }
            Step::Crash => {
                tickets.clear();
                die(ledger).await;
                ledger = place.open().await;
                let open = std::mem::take(&mut model.open);
                for (app, nano) in open.into_iter().chain(std::mem::take(&mut model.lost)) {
                    *model.spent.entry(app).or_default() += nano;
                }
            }
            _ => {}
        }
    }
    ledger.guard(&budgets, Usd::ZERO).await.unwrap();
    for app in 0..3 {
        let spent = model.spent.get(&app).copied().unwrap_or(0);
        let stands = stands(&ledger, &budgets, &app.to_string()).await;
        assert_eq!(stands, standing(spent, model.held(app)), "app {app}");
    }
    holds_the_law(&ledger).await;
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    let held: i64 = (0..3).map(|app| model.held(app)).sum();
    assert_eq!(totals.held, Usd::from_nano(held));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn counters_are_the_sum_of_what_happened(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live_through(steps));
    }
}
