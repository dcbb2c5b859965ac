//! A storm: a thousand calls while everything fails at random, with the default rules and along a
//! chain.
//!
//! What the providers billed is what the ledger charged; nothing is sent again that may have been
//! paid for; and nobody is asked more often than a rule says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use pixtoll::config::PluginEntry;
use pixtoll::image::Billed;
use pixtoll::ledger::Outcome;
use pixtoll::sim::Bill;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Rig, cat, post, read_answer};

const CALLS: usize = 1000;
const LANES: usize = 16;
/// Of a hundred calls so many fail first.
const ILL: u64 = 60;

/// Everything that can go wrong and that ends by itself.
const FAULTS: &[&str] = &[
    "safety",
    "safety_output",
    "rate_limited retry_after=0",
    "overloaded retry_after=0",
    "server",
    "server billed=yes",
    "quota",
    "auth",
    "permission",
    "retired",
    "no_image",
    "html",
    "cut",
    "drop",
    "drip chunk=65536 ms=1",
    "slow delay_ms=5",
    "ok extra_tokens=17",
];

/// Numbers that look like none, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn fault(&mut self) -> &'static str {
        let pick = usize::try_from(self.roll(FAULTS.len() as u64)).unwrap();
        match self.roll(100) < ILL {
            true => FAULTS[pick],
            false => "ok",
        }
    }
}

/// What call `number` meets at the first house, and at the second.
fn faults(number: usize) -> (&'static str, &'static str) {
    let mut dice = Dice(number as u64 * 0x9E37_79B9 + 1);
    let first = dice.fault();
    // Stability says that it does not charge for an error of its own, and keeps its word.
    (first, dice.fault().trim_end_matches(" billed=yes"))
}

/// Whether a picture comes all the same.
fn is_well(fault: &str) -> bool {
    ["ok", "drip", "slow"].contains(&fault.split(' ').next().unwrap())
}

fn key(number: usize) -> String {
    format!("sk-storm-{number}")
}

/// Every call of one lane, one after the other, each with a key of its own.
async fn lane(address: SocketAddr, lane: usize) {
    for number in (lane..CALLS).step_by(LANES) {
        let (first, second) = faults(number);
        let prompt = format!("[[sim openai: {first}]] [[sim stability: {second}]] storm {number}");
        let tag = format!("n{number}");
        let host = address.to_string();
        let message = post(
            &host,
            "/openai/v1/images/generations",
            &[("x-pixtoll-tags", &tag), ("connection", "close")],
            "application/json",
            &cat(&prompt).to_string(),
        )
        .replace("sk-canary", &key(number));
        let mut tcp = TcpStream::connect(address).await.unwrap();
        tcp.write_all(message.as_bytes()).await.unwrap();
        let answer = read_answer(&mut tcp).await;
        assert_ne!(answer.status(), 0, "call {number} has no answer: {first}");
    }
}

/// What a storm left behind.
struct Wreck {
    rig: Arc<Rig>,
    decisions: Vec<Value>,
}

async fn storm(plugins: Vec<PluginEntry>) -> Wreck {
    let rig = Rig::with(|settings| {
        settings.plugins = plugins;
        // As many as the chain says: what is counted here is the chain's own word.
        settings.retry_budget.percent = 1000;
    })
    .await;
    let lanes: Vec<_> = (0..LANES)
        .map(|number| tokio::spawn(lane(rig.address(), number)))
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let decisions = rig.decisions(CALLS).await;
    assert_eq!(decisions.len(), CALLS);
    Wreck {
        rig: Arc::new(rig),
        decisions,
    }
}

impl Wreck {
    /// Attempts that left us.
    fn sent(&self) -> usize {
        let attempts = self.decisions.iter().flat_map(attempts);
        attempts
            .filter(|attempt| attempt["failure"]["sent"] != "not_sent")
            .count()
    }

    /// Every bill has its charge, and every charge its bill, as far as anybody can know.
    async fn balance(&self) {
        self.rig.app.pipeline.ledger.flush().await.unwrap();
        let mut bills: HashMap<String, Bill> = self
            .rig
            .sim()
            .bills()
            .into_iter()
            .map(|bill| (bill.id.clone(), bill))
            .collect();
        let rows = self.rig.app.pipeline.ledger.all_rows().await.unwrap();
        let mut unsure = Vec::new();
        for row in &rows {
            let settled = row.settled.as_ref().expect("nothing is open any more");
            let charge = settled.charge.expect("every model here has a price").nano();
            if matches!(settled.outcome, Outcome::Ok | Outcome::Partial) {
                let id = settled.request_id.as_deref().unwrap();
                let bill = bills
                    .remove(id)
                    .unwrap_or_else(|| panic!("{id} was charged and not billed, or twice"));
                assert_eq!(bill.nano_usd, charge, "{}", bill.model);
            } else if settled.billed == Billed::No {
                assert_eq!(charge, 0);
            } else {
                unsure.push((row.hold.model.provider().to_owned(), charge));
            }
        }
        // What is left was billed for no picture. Each bill has a charge of its own that is no
        // smaller, and charges without a bill were for what nobody can know.
        let mut left: Vec<Bill> = bills.into_values().collect();
        left.sort_by_key(|bill| std::cmp::Reverse(bill.nano_usd));
        for bill in left {
            let fits = |(provider, charge): &(String, i64)| {
                *provider == bill.provider && *charge >= bill.nano_usd
            };
            let at = unsure.iter().position(fits);
            let at = at.unwrap_or_else(|| panic!("in no row: {bill:?}; left are {unsure:?}"));
            unsure.swap_remove(at);
        }
    }

    /// No call got two pictures, and none was sent again after it may have been paid for.
    fn paid_once(&self) {
        for line in &self.decisions {
            let of_call: Vec<&Value> = attempts(line).collect();
            let good = of_call.iter().filter(|attempt| attempt["outcome"] == "ok");
            assert!(good.count() <= 1, "{line}");
            let unknown = |attempt: &&&Value| {
                attempt["billed"] == "unknown" || attempt["outcome"] == "unknown"
            };
            let before = &of_call[..of_call.len().saturating_sub(1)];
            assert_eq!(before.iter().find(unknown), None, "{line}");
        }
        let bills = self.rig.sim().bills();
        let mut by_key: HashMap<&str, usize> = HashMap::new();
        for bill in bills.iter().filter(|bill| bill.provider == "openai") {
            *by_key.entry(&bill.authorization_digest).or_default() += 1;
        }
        assert!(
            by_key.values().all(|bills| *bills == 1),
            "a call paid twice at one house"
        );
    }
}

fn attempts(line: &Value) -> impl Iterator<Item = &Value> {
    line["attempts"].as_array().unwrap().iter()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_default_rules_every_call_is_sent_once() {
    let wreck = storm(Vec::new()).await;
    let sent = wreck.rig.sim().requests().len();
    assert_eq!(sent, wreck.sent());
    assert!(sent * 10 <= CALLS * 11, "{sent} attempts for {CALLS} calls");
    wreck.paid_once();
    wreck.balance().await;
    let failed = wreck
        .decisions
        .iter()
        .filter(|line| line["error"].is_object());
    assert!(failed.count() > CALLS / 3, "a storm");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_sends_what_it_says_and_nothing_that_may_be_paid_for() {
    let chain = PluginEntry {
        with: json!({"chain": ["stability/sd3.5-medium"]})
            .as_object()
            .cloned()
            .unwrap(),
        ..PluginEntry::named("retry_chain")
    };
    let wreck = storm(vec![chain]).await;
    let sent = wreck.rig.sim().requests().len();
    assert_eq!(sent, wreck.sent());
    // Each further attempt is one that a rule named.
    let named = |line: &Value| {
        let rules = line["rules"].as_array().unwrap().iter();
        let applied = rules.filter(|rule| rule["applied"] == true && rule["did"] != "stop");
        applied.count()
    };
    let named: usize = wreck.decisions.iter().map(named).sum();
    assert_eq!(sent, CALLS + named);
    wreck.paid_once();
    wreck.balance().await;
    // Whoever came to the second house got what the dice had in store there, at once.
    let mut saved = 0;
    for line in &wreck.decisions {
        let number: usize = line["tags"][0].as_str().unwrap()[1..].parse().unwrap();
        let (first, second) = faults(number);
        let moved = attempts(line).any(|attempt| attempt["model"] == "stability/sd3.5-medium");
        let got = line["answered"]["model"] == "stability/sd3.5-medium";
        assert!(!moved || !is_well(first), "{first}: {line}");
        assert_eq!(got, moved && is_well(second), "{second}: {line}");
        saved += usize::from(got);
    }
    // Forty to seventy of them, by how long the breakers were open beside the speed of the machine.
    assert!(saved > 20, "the chain saved {saved}");
}
