//! The books balance: whatever goes wrong on the way, every bill that a provider wrote is in the
//! ledger, and nothing else is.
//!
//! Two thousand calls of every kind run through concurrent lanes. Each has a key of its own, by
//! which the bills it caused are known even where no answer named one; equal calls share a key.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use pixtoll::bill::ChargeFrom;
use pixtoll::image::Billed;
use pixtoll::ledger::{Outcome, Row};
use pixtoll::sim::Bill;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Rig, post, read_answer};

const CALLS: usize = 2000;
const LANES: usize = 16;

/// What may go wrong, and how often of a hundred calls. The rest goes well.
const FAULTS: &[(&str, usize)] = &[
    ("safety", 3),
    ("safety_output", 3),
    ("rate_limited retry_after=0 times=1", 4),
    ("rate_limited retry_after=0", 2),
    ("overloaded retry_after=0 times=1", 3),
    ("server", 3),
    ("quota", 2),
    ("auth", 2),
    ("permission", 2),
    ("retired", 2),
    ("no_image", 2),
    ("html", 2),
    ("cut", 3),
    ("drop", 3),
    ("drip chunk=65536 ms=1", 3),
    ("stall", 1),
    ("stream_error", 3),
    ("slow delay_ms=5", 3),
    ("ok extra_tokens=17", 4),
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

/// Failures that may have been drawn and billed, as far as anybody here can know.
const MAY_COST: &[&str] = &["server", "html", "no_image"];

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

/// One call of the run. The same number is the same call, with the same key.
struct Ask {
    number: usize,
    fault: Option<&'static str>,
    path: &'static str,
    content_type: &'static str,
    accept: &'static str,
    body: String,
    /// The caller hangs up once the answer begins.
    leaves: bool,
}

/// Every number of a cycle once, in an order that looks like none.
fn mixed(number: usize, cycle: usize) -> usize {
    (number * 7919 + number / cycle) % cycle
}

impl Ask {
    /// The `place`th call of the run: every tenth repeats the one before it.
    fn at(place: usize) -> Ask {
        let number = if place % 10 == 9 { place - 1 } else { place };
        let streams = number % 4 != 3;
        // Only one of both providers streams.
        let fault = fault(mixed(number, 100)).filter(|words| streams || *words != "stream_error");
        let directive = fault.map_or(String::new(), |words| format!(" [[sim: {words}]]"));
        let stalls = if fault == Some("stall") { " stall" } else { "" };
        let prompt = format!("fox number {number}{stalls}{directive}");
        let leaves = number % 37 == 5;
        match number % 4 {
            3 => Ask::stability(number, fault, &prompt, leaves),
            kind => Ask::openai(number, fault, &prompt, kind == 2, leaves),
        }
    }

    fn openai(
        number: usize,
        fault: Option<&'static str>,
        prompt: &str,
        stream: bool,
        leaves: bool,
    ) -> Ask {
        const MODELS: [&str; 4] = [
            "gpt-image-2",
            "gpt-image-1-mini",
            "gpt-image-1.5",
            "gpt-image-2.5-flare",
        ];
        const SIZES: [&str; 4] = ["1024x1024", "1536x1024", "1024x1536", "auto"];
        const QUALITIES: [&str; 3] = ["low", "medium", "high"];
        let mut body = json!({
            "model": MODELS[number / 4 % 4], "prompt": prompt, "size": SIZES[number / 16 % 4],
            "quality": QUALITIES[number / 64 % 3], "n": 1 + number % 11 / 5,
        });
        if stream || fault == Some("stream_error") {
            body["stream"] = json!(true);
            body["partial_images"] = json!(number % 3);
        }
        Ask {
            number,
            fault,
            path: "/openai/v1/images/generations",
            content_type: "application/json",
            accept: "*/*",
            body: body.to_string(),
            leaves,
        }
    }

    fn stability(number: usize, fault: Option<&'static str>, prompt: &str, leaves: bool) -> Ask {
        const ROUTES: [(&str, Option<&str>); 5] = [
            ("sd3", Some("sd3.5-large")),
            ("sd3", Some("sd3.5-medium")),
            ("sd3", Some("sd3.5-flash")),
            ("core", None),
            ("ultra", None),
        ];
        let (route, model) = ROUTES[number / 4 % ROUTES.len()];
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let model = model.map_or(String::new(), |model| field("model", model));
        let aspect = ["1:1", "16:9", "2:3"][number / 20 % 3];
        Ask {
            number,
            fault,
            path: match route {
                "core" => "/stability/v2beta/stable-image/generate/core",
                "ultra" => "/stability/v2beta/stable-image/generate/ultra",
                _ => "/stability/v2beta/stable-image/generate/sd3",
            },
            content_type: "multipart/form-data; boundary=b",
            accept: ["image/*", "application/json"][number / 8 % 2],
            body: format!(
                "{model}{}{}--b--\r\n",
                field("prompt", prompt),
                field("aspect_ratio", aspect)
            ),
            leaves,
        }
    }

    fn key(&self) -> String {
        format!("Bearer sk-balance-{}", self.number)
    }

    fn message(&self, address: SocketAddr) -> String {
        let host = address.to_string();
        let headers = [
            ("accept", self.accept),
            ("x-pixtoll-tags", &format!("n{}", self.number)),
        ];
        let message = post(&host, self.path, &headers, self.content_type, &self.body);
        message.replace("Bearer sk-canary", &self.key())
    }
}

fn fault(at: usize) -> Option<&'static str> {
    let mut end = 0;
    FAULTS.iter().find_map(|(words, often)| {
        end += often;
        (at < end).then_some(*words)
    })
}

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

    fn number(&self, row: &Row) -> usize {
        self.numbers[&row.hold.call.to_string()]
    }

    /// Bills by the number of the call that caused them.
    fn bills_of(&self) -> BTreeMap<usize, Vec<&Bill>> {
        let digests: HashMap<String, usize> = (0..CALLS)
            .map(Ask::at)
            .map(|ask| {
                let digest = blake3::hash(ask.key().as_bytes()).to_hex();
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
    assert!(known > CALLS / 2, "{known} calls went well");
    check_open(&books, &bills);
}

/// Takes out every bill whose attempt brought pictures: charged once, under its own name, to the
/// nano-dollar. Returns how many there are.
fn take_known(books: &Books, bills: &mut BTreeMap<usize, Vec<&Bill>>) -> usize {
    let mut known = 0;
    for row in &books.rows {
        let settled = row.settled.as_ref().expect("nothing is open any more");
        if !matches!(settled.outcome, Outcome::Ok | Outcome::Partial) {
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
        known += 1;
    }
    known
}

/// What is left on both sides belongs to attempts of which nobody told whether they cost: each
/// bill has its row, booked at no less, and a row without a bill comes from a failure that may
/// have been drawn.
fn check_open(books: &Books, bills: &BTreeMap<usize, Vec<&Bill>>) {
    let mut open: BTreeMap<usize, Vec<i64>> = BTreeMap::new();
    for row in &books.rows {
        let settled = row.settled.as_ref().expect("nothing is open any more");
        if matches!(settled.outcome, Outcome::Ok | Outcome::Partial) {
            continue;
        }
        let charge = settled.charge.expect("every model here has a price").nano();
        if settled.billed == Billed::No {
            assert_eq!((charge, settled.from), (0, ChargeFrom::None));
        } else {
            open.entry(books.number(row)).or_default().push(charge);
        }
    }
    for (number, left) in bills {
        let mut left: Vec<i64> = left.iter().map(|bill| bill.nano_usd).collect();
        let mut booked = open.remove(number).unwrap_or_default();
        let fault = Ask::at(*number).fault.unwrap_or("nothing");
        assert_eq!(left.len(), booked.len(), "call {number}, {fault}");
        left.sort_unstable();
        booked.sort_unstable();
        let covered = left
            .iter()
            .zip(&booked)
            .all(|(bill, booked)| bill <= booked);
        assert!(
            covered,
            "call {number}, {fault}: {left:?} billed, {booked:?} booked"
        );
        if !left.is_empty() {
            assert!(
                COSTS_UNSEEN.contains(&fault),
                "call {number}: {fault} is no secret"
            );
        }
    }
    for number in open.keys() {
        let fault = Ask::at(*number).fault.unwrap_or("nothing");
        assert!(
            MAY_COST.contains(&fault),
            "call {number}: nobody billed {fault}"
        );
    }
}
