//! What an answer tells of its own price, and what it leaves to the book.

use http::HeaderMap;

use super::*;
use crate::image::{SafetyBlock, SafetyStage, Sent};
use crate::price::signal::{Count, Place, Signals};
use crate::wire::Rope;

fn told(provider: &str, body: &str, headers: &[(&'static str, &'static str)]) -> Codes {
    let mut codes = Codes::default();
    let (headers, body) = message(body, headers);
    Book::embedded().keep_signals(provider, &headers, &body, &mut codes);
    codes
}

/// An answer in two pieces.
fn message(body: &str, headers: &[(&'static str, &'static str)]) -> (HeaderMap, Rope) {
    let headers = headers.iter().map(|(name, value)| {
        let name = http::HeaderName::from_static(name);
        (name, http::HeaderValue::from_static(value))
    });
    let (start, end) = body.split_at(body.len() / 2);
    let mut rope = Rope::default();
    rope.push(start.as_bytes().to_vec());
    rope.push(end.as_bytes().to_vec());
    (headers.collect(), rope)
}

#[track_caller]
fn charged(spec: &str, codes: Codes, amount: &str, from: ChargeFrom) {
    let request = ask(spec);
    let mut came = answer(&request, vec![image(None)], Usage::default());
    came.codes = codes;
    let charge = Book::embedded().charge(&request, &came);
    assert_eq!(
        (charge.amount, charge.from),
        (Some(usd(amount)), from),
        "{spec}"
    );
}

#[test]
fn a_charge_is_read_where_the_book_says_it_stands() {
    let reported = ChargeFrom::Reported;
    let ticks = r#"{"data": [], "usage": {"cost_in_usd_ticks": 220000000}}"#;
    charged(
        "xai/grok-imagine-image 1:1",
        told("xai", ticks, &[]),
        "0.022",
        reported,
    );
    let cost = r#"{"usage": {"cost": 3.87e-2}}"#;
    let codes = told("openrouter", cost, &[]);
    charged(
        "openrouter/google/gemini-2.5-flash-image 1:1",
        codes,
        "0.0387",
        reported,
    );
    let codes = told("openrouter", cost, &[]);
    charged(
        "openrouter/openai/gpt-5-image 1:1",
        codes,
        "0.0387",
        reported,
    );
    let credits = r#"{"credits": 35, "data": []}"#;
    charged(
        "recraft/recraftv4_1 1:1",
        told("recraft", credits, &[]),
        "0.035",
        reported,
    );
    let status = r#"{"inference_status": {"cost": 0.00123}}"#;
    let codes = told("deepinfra", status, &[]);
    charged(
        "deepinfra/black-forest-labs/FLUX-pro",
        codes,
        "0.00123",
        reported,
    );
    let task = r#"{"cost": {"credits": 0}}"#;
    charged(
        "runway/gen4_image",
        told("runway", task, &[]),
        "0",
        reported,
    );
    let metrics = r#"{"metrics": {"predict_time": 3.25}}"#;
    let codes = told("replicate", metrics, &[]);
    charged(
        "replicate/black-forest-labs/flux-dev",
        codes,
        "0.025",
        ChargeFrom::List,
    );
}

#[test]
fn what_the_dialect_kept_is_not_sought_again() {
    let (headers, body) = message(r#"{"credits": 99}"#, &[]);
    let mut codes = Codes::default();
    codes.put("credits", "35");
    Book::embedded().keep_signals("recraft", &headers, &body, &mut codes);
    assert_eq!(codes.get("credits"), Some("35"));
    let before = codes.clone();
    Book::embedded().keep_signals("nobody", &headers, &body, &mut codes);
    assert_eq!(codes, before);
}

#[test]
fn a_failure_s_own_answer_may_tell_its_charge() {
    let (headers, body) = message(r#"{"status": "FAILED", "cost": {"credits": 5}}"#, &[]);
    let told = |provider| Book::embedded().told_charge(provider, &headers, &body);
    assert_eq!(told("runway"), Some(usd("0.05")));
    assert_eq!(told("openrouter"), None);
    assert_eq!(told("nobody"), None);
}

#[test]
fn billable_units_are_counted_at_the_model_s_price() {
    let units = |text| told("fal", "not JSON", &[("x-fal-billable-units", text)]);
    let reported = ChargeFrom::Reported;
    charged(
        "fal/fal-ai/flux/dev 1024x1024",
        units("2"),
        "0.05",
        reported,
    );
    charged(
        "fal/fal-ai/flux/dev 1024x1024",
        units("1.5"),
        "0.0375",
        reported,
    );
    charged("fal/fal-ai/nano-banana 1:1", units("3"), "0.117", reported);
    charged(
        "fal/fal-ai/nano-banana 1:1",
        units("many"),
        "0.039",
        ChargeFrom::List,
    );
}

#[test]
fn a_new_provider_s_answer_is_priced_by_a_file() {
    let book = overlay(
        "providers:
- provider: studio
  charge: {reported: [{pointer: /bill/total, unit: usd}, {header: x-cost, unit: cent}], usage: {milliseconds: /bill/ms}}
  source: our own meter
  as_of: 2026-11-01
models:
- model: studio/flux
  capability: {operations: [generate], sizes: [1024x1024], usual: 1024x1024, formats: [png]}
  price: {per_second: {usd: 0.01, seconds: 2}}
  source: our own meter
  as_of: 2026-11-01
",
    )
    .unwrap();
    let request = ask("studio/flux");
    let charge = |codes: &[(&str, &str)]| {
        let mut came = answer(&request, vec![image(None)], Usage::default());
        for (name, text) in codes {
            came.codes.put(*name, *text);
        }
        let charge = book.charge(&request, &came);
        (charge.amount.unwrap(), charge.from)
    };
    assert_eq!(charge(&[]), (usd("0.02"), ChargeFrom::List));
    assert_eq!(
        charge(&[("bill.ms", "1500")]),
        (usd("0.015"), ChargeFrom::Usage)
    );
    assert_eq!(
        charge(&[("x-cost", "4.5")]),
        (usd("0.045"), ChargeFrom::Reported)
    );
    let both = [
        ("x-cost", "4.5"),
        ("bill.total", "0.5"),
        ("bill.ms", "1500"),
    ];
    assert_eq!(charge(&both), (usd("0.5"), ChargeFrom::Reported));
    assert_eq!(
        charge(&[("bill.total", "-1")]),
        (usd("0.02"), ChargeFrom::List)
    );
}

#[test]
fn credits_are_no_dollars_where_one_field_holds_either() {
    let codes = |unit: &str| {
        let body = format!(
            r#"{{"sdGenerationJob": {{"cost": {{"amount": "0.0304", "unit": "{unit}"}}}}}}"#
        );
        told("leonardo", &body, &[])
    };
    let reported = ChargeFrom::Reported;
    charged("leonardo/phoenix-1.0", codes("DOLLARS"), "0.0304", reported);
    let request = ask("leonardo/phoenix-1.0");
    let charge = |book: &Book, unit| {
        let mut came = answer(&request, vec![image(None)], Usage::default());
        came.codes = codes(unit);
        book.charge(&request, &came)
    };
    assert_eq!(charge(Book::embedded(), "CREDITS"), Charge::UNPRICED);
    assert_eq!(charge(Book::embedded(), "POINTS"), Charge::UNPRICED);
    // What is not read is kept all the same: it is a billing signal.
    let kept = codes("CREDITS");
    assert_eq!(kept.get("sdGenerationJob.cost.amount"), Some("0.0304"));
    assert_eq!(kept.get("sdGenerationJob.cost.unit"), Some("CREDITS"));
    let own = overlay(
        "providers:
- provider: leonardo
  charge:
    reported:
    - {pointer: /sdGenerationJob/cost/amount, unit: usd, where: {pointer: /sdGenerationJob/cost/unit, is: DOLLARS}}
    - {pointer: /sdGenerationJob/cost/amount, unit: credit, usd_per_credit: 0.002, where: {pointer: /sdGenerationJob/cost/unit, is: CREDITS}}
  source: our plan
  as_of: 2026-11-01
",
    )
    .unwrap();
    let amount = |unit| charge(&own, unit).amount;
    assert_eq!(amount("DOLLARS"), Some(usd("0.0304")));
    assert_eq!(amount("CREDITS"), Some(usd("0.0000608")));
}

#[test]
fn what_the_dialect_has_read_is_not_read_again() {
    let signals = Signals {
        reported: Vec::new(),
        usage: vec![(Count::TextIn, Place::Pointer("/usage/in".into()))],
    };
    let mut codes = Codes::default();
    codes.put("usage.in", "9");
    let mut usage = counts(5, 0, 1);
    signals.read(&codes, &mut usage);
    assert_eq!(usage, counts(5, 0, 1));
}

#[test]
fn the_book_settles_doubts_about_failures() {
    let billed = |provider: &str, kind, at, seen, sent| {
        let mut failure = Failure::answered(kind, 500, seen, "no");
        failure.sent = sent;
        failure.safety = (kind == FailureKind::Safety).then(|| SafetyBlock {
            at,
            categories: Vec::new(),
        });
        Book::embedded().billed(provider, &failure)
    };
    use Billed::{No, Unknown, Yes};
    use FailureKind::{Safety, Server, Timeout};
    let (inward, outward) = (Some(SafetyStage::Input), Some(SafetyStage::Output));
    let heard = Sent::Answered;
    assert_eq!(billed("ideogram", Safety, outward, Unknown, heard), Yes);
    assert_eq!(billed("ideogram", Safety, inward, Unknown, heard), No);
    assert_eq!(billed("runway", Safety, inward, No, heard), Yes);
    assert_eq!(billed("fal", Server, None, Unknown, heard), No);
    assert_eq!(billed("fal", Server, None, Yes, heard), Yes);
    assert_eq!(billed("fal", Timeout, None, Unknown, heard), No);
    assert_eq!(
        billed("fal", Timeout, None, Unknown, Sent::Unknown),
        Unknown
    );
    assert_eq!(billed("openai", Safety, None, No, heard), No);
    assert_eq!(billed("openai", Safety, None, Unknown, heard), Unknown);
    assert_eq!(billed("nobody", Server, None, Unknown, heard), Unknown);
    assert_eq!(billed("runway", Safety, None, Yes, Sent::NotSent), No);
}

#[test]
fn a_failure_that_is_billed_costs_its_quote() {
    let request = ask("ideogram/ideogram-4-5 1:1 high");
    let mut failure = Failure::answered(FailureKind::NoImage, 200, Billed::Unknown, "withheld");
    let cost = |failure: &Failure| Book::embedded().failed_charge(&request, failure);
    assert_eq!(cost(&failure).amount, Some(usd("0.10")));
    failure.kind = FailureKind::Invalid;
    assert_eq!(cost(&failure), Charge::NONE);
}

#[test]
fn paid_for_2k_and_got_1k() {
    let mut request = ask("fal/fal-ai/nano-banana-2");
    request.size = Size::Aspect {
        aspect: crate::image::Aspect::parse("1:1").unwrap(),
        step: Some("2K".into()),
    };
    let settle = |sizes: &[(u32, u32)], reported: Option<&str>| {
        let images = sizes.iter().map(|size| image(Some(*size))).collect();
        let usage = Usage {
            reported: reported.map(usd),
            ..Usage::default()
        };
        Book::embedded().settle(&request, &answer(&request, images, usage))
    };
    let (one, two) = ((1024, 1024), (2048, 2048));
    assert_eq!(settle(&[two], Some("0.12")).short, None);
    assert_eq!(settle(&[one], Some("0.08")).short, None);
    let short = settle(&[one], Some("0.12")).short.unwrap();
    assert_eq!(
        (short.paid_for, short.got, short.over),
        (two, one, usd("0.04"))
    );
    let short = settle(&[one, two, one], Some("0.36")).short.unwrap();
    assert_eq!(short.over, usd("0.08"));
    let listed = settle(&[one], None);
    assert_eq!(listed.charge.amount, Some(usd("0.08")));
    assert_eq!(listed.short.unwrap().over, usd("0.04"));
    // A thumbnail is somebody else's doing.
    assert_eq!(settle(&[(64, 64)], Some("0.12")).short, None);
}

#[test]
fn a_discrepancy_has_both_breakdowns() {
    let request = ask("stability/core");
    let quote = quote(&request);
    let usage = Usage {
        credits: Some("4".into()),
        ..Usage::default()
    };
    let settled = Book::embedded().settle(&request, &answer(&request, vec![image(None)], usage));
    let found = Discrepancy::beyond(&quote, &settled, 10).unwrap();
    assert_eq!(found.by, usd("0.01"));
    assert_eq!(found.quoted, quote.lines);
    assert_eq!(
        (found.charged[0].what, found.charged[0].count),
        ("credit", 4)
    );
    assert_eq!(Discrepancy::beyond(&quote, &settled, 400), None);
}

#[test]
fn a_charge_by_usage_is_broken_down_by_what_was_counted() {
    let request = ask("openai/gpt-image-1.5");
    let usage = Usage {
        cached_text_in: Some(400),
        text_out: Some(50),
        ..counts(1000, 194, 1056)
    };
    let settled = Book::embedded().settle(&request, &answer(&request, vec![image(None)], usage));
    let lines: Vec<_> = settled
        .lines
        .iter()
        .map(|line| (line.what, line.count, line.amount))
        .collect();
    assert_eq!(
        lines,
        [
            ("text in", 1000, usd("0.0035")),
            ("image in", 194, usd("0.001552")),
            ("image out", 1056, usd("0.033792")),
            ("text out", 50, usd("0.0005")),
        ]
    );
    assert_eq!(settled.charge.amount, Some(usd("0.039344")));
}
