//! The books balance: whatever goes wrong on the way, every bill that a provider wrote is in the
//! ledger, and nothing else is.
//!
//! Two thousand calls, to every provider that is simulated, run through concurrent lanes. Each has a key of its own, by
//! which the bills it caused are known even where no answer named one; equal calls share a key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;

use pixtoll::bill::ChargeFrom;
use pixtoll::image::Billed;
use pixtoll::ledger::{Outcome, Row, Settlement};
use pixtoll::sim::Bill;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Rig, read_answer};

mod ask;

use ask::{Ask, FAULTS, STREAM_ERROR};

const CALLS: usize = 2000;
const LANES: usize = 16;
const PROVIDERS: [&str; 8] = [
    "openai",
    "azure",
    "stability",
    "google",
    "fal",
    "replicate",
    "bfl",
    "ideogram",
];

/// Failures that a provider bills and an answer does not tell the price of.
const COSTS_UNSEEN: &[&str] = &[
    "safety_output",
    "no_image",
    "cut",
    "drop",
    "stall",
    "stream_error",
];

/// Failures that may have been drawn and billed, as far as anybody here can know; at one provider
/// or at any.
const MAY_COST: &[(&str, &str)] = &[
    (ANY, "server"),
    (ANY, "html"),
    (ANY, "no_image"),
    // A prediction that moderation stopped is one that failed, and nobody says what that costs.
    ("replicate", "safety"),
    ("replicate", "safety_output"),
];
const ANY: &str = "*";

/// Retries what a moment may mend, and does not wait for ever for what stalls.
const RULES: &str = r#"
return {
  on_request = function(call)
    if call:mentions("stall") then
      return call:route(call.request.model, { timeout = 0.5, reason = "it stalls" })
    end
  end,
  on_failure = function(call, failure)
    if (failure.kind == "rate_limited" or failure.kind == "overloaded") and failure.attempt < 3 then
      return call:retry { after = 0, reason = "once more" }
    end
  end,
}
"#;

/// Makes every call of one lane, one after the other.
async fn lane(address: SocketAddr, lane: usize) {
    let mut connection: Option<TcpStream> = None;
    // Ten in a row: a call and its repetition stay together.
    let rows = (0..CALLS / 10).filter(|row| row % LANES == lane);
    for place in rows.flat_map(|row| row * 10..row * 10 + 10) {
        let ask = Ask::at(place);
        let mut tcp = match connection.take() {
            Some(tcp) => tcp,
            None => TcpStream::connect(address).await.unwrap(),
        };
        let message = ask.message(address);
        tcp.write_all(message.as_bytes()).await.unwrap();
        if ask.leaves {
            let _ = tcp.read_u8().await;
            continue;
        }
        let answer = read_answer(&mut tcp).await;
        let decided = answer.header("x-pixtoll-decision").is_some();
        assert!(
            decided || answer.status() == 0,
            "{ask}: passed as no image call"
        );
        let closes = answer.header("connection") == Some("close");
        let whole = answer.header("content-length") == Some(&answer.body.len().to_string());
        if answer.status() != 0 && whole && !closes {
            connection = Some(tcp);
        }
    }
}

/// The books after a run, put beside each other.
struct Books {
    bills: Vec<Bill>,
    rows: Vec<Row>,
    /// The number of each call by the call's id.
    numbers: HashMap<String, usize>,
}

impl Books {
    async fn of(rig: &Rig) -> Books {
        let decisions = rig.decisions(CALLS).await;
        assert_eq!(decisions.len(), CALLS);
        rig.app.pipeline.ledger.flush().await.unwrap();
        let number = |line: &Value| {
            let tag = line["tags"][0].as_str().unwrap();
            (
                line["id"].as_str().unwrap().to_owned(),
                tag[1..].parse().unwrap(),
            )
        };
        Books {
            bills: rig.sim().bills(),
            rows: rig.app.pipeline.ledger.all_rows().await.unwrap(),
            numbers: decisions.iter().map(number).collect(),
        }
    }

    /// Every attempt, and how it ended.
    fn settled(&self) -> impl Iterator<Item = (&Row, &Settlement)> {
        self.rows.iter().map(|row| {
            let settled = row.settled.as_ref();
            (row, settled.expect("nothing is open any more"))
        })
    }

    fn number(&self, row: &Row) -> usize {
        self.numbers[&row.hold.call.to_string()]
    }

    /// Bills by the number of the call that caused them.
    fn bills_of(&self) -> BTreeMap<usize, Vec<&Bill>> {
        let digests: HashMap<String, usize> = (0..CALLS)
            .map(Ask::at)
            .map(|ask| {
                let digest = blake3::hash(ask.key().1.as_bytes()).to_hex();
                (digest[..16].to_owned(), ask.number)
            })
            .collect();
        let mut of: BTreeMap<usize, Vec<&Bill>> = BTreeMap::new();
        for bill in &self.bills {
            let number = digests[&bill.authorization_digest];
            of.entry(number).or_default().push(bill);
        }
        of
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bill_is_in_the_ledger_to_the_nano_dollar() {
    let rig = Rig::with_rule(RULES).await;
    let lanes: Vec<_> = (0..LANES)
        .map(|number| tokio::spawn(lane(rig.address(), number)))
        .collect();
    for lane in lanes {
        lane.await.unwrap();
    }
    let books = Books::of(&rig).await;
    let mut bills = books.bills_of();
    let known = take_known(&books, &mut bills);
    for provider in PROVIDERS {
        let count = known.get(provider).copied().unwrap_or_default();
        assert!(count > 50, "{count} calls to {provider} went well");
    }
    let told = take_told(&books, &mut bills);
    assert!(told > CALLS / 50, "{told} failures told what they cost");
    check_open(&books, &bills);
}

/// Takes out every bill whose attempt brought pictures: charged once, under its own name, to the
/// nano-dollar. Returns how many there are of each provider.
fn take_known(
    books: &Books,
    bills: &mut BTreeMap<usize, Vec<&Bill>>,
) -> BTreeMap<&'static str, usize> {
    let mut known = BTreeMap::new();
    for (row, settled) in books.settled() {
        if !went_well(settled) {
            continue;
        }
        let id = settled
            .request_id
            .as_deref()
            .expect("who answers has a name for it");
        let number = books.number(row);
        let of_call = bills.get_mut(&number).expect("a charge has a bill");
        let at = of_call.iter().position(|bill| bill.id == id);
        let bill = of_call.swap_remove(at.unwrap_or_else(|| panic!("{id} was not billed")));
        let charge = settled.charge.map(|charge| charge.nano());
        assert_eq!(charge, Some(bill.nano_usd), "call {number}, {}", bill.model);
        assert_eq!(row.hold.model.provider(), bill.provider);
        // What a budget was told to reckon with is the most that it comes to, unless the provider
        // works more than was asked.
        let more = Ask::at(number).fault == Some("ok extra_tokens=17");
        assert!(
            more || settled.charge <= row.hold.held,
            "call {number}: {:?} held, {:?} charged",
            row.hold.held,
            settled.charge
        );
        *known.entry(bill.provider).or_default() += 1;
    }
    known
}

/// Takes out the bills of failures of which it is known what they cost: to the nano-dollar too.
/// Returns how many there are.
fn take_told(books: &Books, bills: &mut BTreeMap<usize, Vec<&Bill>>) -> usize {
    let mut told = 0;
    for (row, settled) in books.settled().filter(|(_, settled)| is_told(settled)) {
        let number = books.number(row);
        let charge = settled.charge.expect("every model here has a price").nano();
        let of_call = bills.entry(number).or_default();
        let at = of_call.iter().position(|bill| bill.nano_usd == charge);
        let at = at.unwrap_or_else(|| {
            let (ask, left) = (Ask::at(number), amounts(of_call));
            panic!("{ask}: {charge} booked, of {left:?} billed")
        });
        let bill = of_call.swap_remove(at);
        assert_eq!(row.hold.model.provider(), bill.provider);
        told += 1;
    }
    told
}

fn went_well(settled: &Settlement) -> bool {
    matches!(settled.outcome, Outcome::Ok | Outcome::Partial)
}

/// Whether a failed attempt is known to have been billed, and what.
fn is_told(settled: &Settlement) -> bool {
    let counted = matches!(settled.from, ChargeFrom::Usage | ChargeFrom::Reported);
    !went_well(settled) && (settled.billed == Billed::Yes || counted)
}

fn amounts(bills: &[&Bill]) -> Vec<i64> {
    let mut amounts: Vec<i64> = bills.iter().map(|bill| bill.nano_usd).collect();
    amounts.sort_unstable();
    amounts
}

/// What is left on both sides belongs to attempts of which nobody told whether they cost: each
/// bill has its row, booked at no less, and a row without a bill comes from a failure that may
/// have been drawn.
fn check_open(books: &Books, bills: &BTreeMap<usize, Vec<&Bill>>) {
    let mut open: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    let unsure = |(_, settled): &(_, &Settlement)| !went_well(settled) && !is_told(settled);
    for (row, settled) in books.settled().filter(unsure) {
        let charge = settled.charge.expect("every model here has a price").nano();
        if settled.billed == Billed::No {
            assert_eq!((charge, settled.from), (0, ChargeFrom::None));
        } else {
            open.entry(books.number(row)).or_default().push(charge);
        }
    }
    for (number, left) in bills.iter().filter(|(_, left)| !left.is_empty()) {
        let (ask, left) = (Ask::at(*number), amounts(left));
        let mut booked = open.remove(number).unwrap_or_default();
        booked.sort_unstable();
        let pairs = || left.iter().zip(&booked);
        assert!(
            left.len() == booked.len() && pairs().all(|(bill, booked)| bill <= booked),
            "{ask}: {left:?} billed, {booked:?} booked"
        );
        let word = ask.fault.unwrap_or_default();
        assert!(COSTS_UNSEEN.contains(&word), "{ask}: that is no secret");
    }
    for (number, booked) in open {
        let ask = Ask::at(number);
        let word = ask.fault.unwrap_or_default();
        let may = |provider| MAY_COST.contains(&(provider, word));
        assert!(
            may(ANY) || may(ask.provider),
            "{ask}: {booked:?} booked, and nobody billed it"
        );
    }
}

#[test]
fn everything_goes_wrong_at_every_provider() {
    let met: BTreeSet<(&str, &str)> = (0..CALLS)
        .map(Ask::at)
        .filter_map(|ask| Some((ask.provider, ask.fault?)))
        .collect();
    for provider in PROVIDERS {
        for (fault, _) in FAULTS {
            let may = *fault != STREAM_ERROR || matches!(provider, "openai" | "azure");
            assert_eq!(
                met.contains(&(provider, *fault)),
                may,
                "{provider}: {fault}"
            );
        }
    }
}
