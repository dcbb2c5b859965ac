//! Single kinds of terms and factors, and what an answer tells of its own price.

use std::sync::LazyLock;

use http::HeaderMap;

use super::table::TEXTBOOK;
use super::*;
use crate::image::{SafetyBlock, SafetyStage, Sent};
use crate::price::signal::{Count, Place, Signals};
use crate::wire::json::Node;

static BOOK: LazyLock<Book> = LazyLock::new(|| Book::with(&[TEXTBOOK]).unwrap());

fn everything(n: u32, account: &Account) -> Quote {
    let request = ImageRequest {
        n,
        ..ask("textbook/everything 1024x1024")
    };
    BOOK.quote_for(&request, account).unwrap()
}

/// A price after markup and fee.
fn dearer(text: &str) -> Usd {
    usd(text).scaled(11, 10).scaled(1055, 1000)
}

// ---- factors

#[test]
fn what_nobody_knows_of_an_account_opens_the_quote() {
    let quote = everything(20, &Account::default());
    assert_eq!(quote.expected, dearer("0.205"));
    assert_eq!(quote.high, dearer("0.205"));
    // Half of them free, the rest at the deepest step and answered before.
    assert_eq!(quote.low, dearer("0.205").scaled(1, 40));
}

#[test]
fn a_known_account_pays_exactly_its_price() {
    let of = |used, region, licence, repeat| {
        let account = Account {
            used: Some(used),
            region,
            licence,
            repeat: Some(repeat),
        };
        let quote = everything(20, &account);
        assert_eq!(quote.low, quote.high);
        quote.expected
    };
    assert_eq!(of(0, None, None, false), dearer("0.1025"));
    assert_eq!(of(5, None, None, false), dearer("0.15375"));
    assert_eq!(of(99, None, None, false), dearer("0.205"));
    assert_eq!(of(100, None, None, false), dearer("0.1845"));
    assert_eq!(of(5000, None, None, false), dearer("0.1025"));
    assert_eq!(of(99, Some("moon"), None, false), dearer("0.3075"));
    assert_eq!(of(99, Some("mars"), None, false), dearer("0.205"));
    assert_eq!(of(99, None, Some("print"), false), dearer("0.41"));
    assert_eq!(of(99, None, None, true), dearer("0.0205"));
}

#[test]
fn markup_and_fee_stand_in_lines_of_their_own() {
    let quote = everything(1, &Account::default());
    let lines: Vec<_> = quote
        .lines
        .iter()
        .map(|line| (line.what, line.count, line.amount))
        .collect();
    assert_eq!(
        lines,
        [
            ("image", 1, usd("0.01")),
            ("call", 1, usd("0.005")),
            ("markup", 1, usd("0.0015")),
            ("fee", 1, usd("0.0009075")),
        ]
    );
}

#[test]
fn a_fee_is_paid_on_what_is_reported_and_a_markup_is_not() {
    let request = ask("textbook/everything 1024x1024");
    let usage = Usage {
        reported: Some(usd("1")),
        ..Usage::default()
    };
    let charge = BOOK.charge(&request, &answer(&request, vec![image(None)], usage));
    assert_eq!(charge.amount, Some(usd("1.055")));
    assert_eq!(charge.from, ChargeFrom::Reported);
}

#[test]
fn a_provider_s_fee_is_on_rows_of_other_files_too() {
    let mine = "providers:\n- {provider: stability, fee: 5.5%, source: ours, as_of: 2026-11-22}\n";
    let book = overlay(mine).unwrap();
    let quote = book.quote(&ask("stability/core")).unwrap();
    assert_eq!(quote.expected, usd("0.03165"));
    assert_eq!(book.provider("stability").unwrap().failures, []);
}

// ---- terms

#[test]
fn what_a_request_says_decides_between_cases() {
    let mut request = ask("ideogram/ideogram-3-transparent");
    let price = |request: &ImageRequest| quote(request).expected;
    assert_eq!(price(&request), usd("0.07"));
    request.extra.insert("upscale_factor".into(), "x2".into());
    assert_eq!(price(&request), usd("0.19"));
    request.quality = Some(Quality::High);
    assert_eq!(price(&request), usd("0.22"));
    request
        .extra
        .insert("rendering_speed".into(), "turbo".into());
    assert_eq!(price(&request), usd("0.16"));
    let mut sdxl = ask("bedrock/stability.stable-diffusion-xl-v1");
    assert_eq!(price(&sdxl), usd("0.04"));
    sdxl.steps = Some(51);
    assert_eq!(price(&sdxl), usd("0.08"));
}

#[test]
fn a_resolution_is_read_from_the_shape_or_the_dialect_s_field() {
    let mut request = ask("google/gemini-nano-banana-2.1 16:9");
    let drawn = |request: &ImageRequest| Book::embedded().expected_pixels(request);
    assert_eq!(drawn(&request), (1376, 768));
    request.extra.insert("imageSize".into(), "2K".into());
    assert_eq!(drawn(&request), (2752, 1536));
    request.extra.clear();
    request.size = Size::Aspect {
        aspect: crate::image::Aspect::parse("1:1").unwrap(),
        step: Some("4k".into()),
    };
    assert_eq!(drawn(&request), (4096, 4096));
}

#[test]
fn a_model_that_thinks_may_cost_its_thought() {
    let open = quote(&ask("google/gemini-nano-banana-2.1 1:1"));
    assert_eq!(open.high - open.expected, usd("0.0300075")); // 4000 tokens at 7.5, 5 of text at 1.5
}

#[test]
fn input_pictures_of_unknown_size_are_reckoned_with() {
    let mut request = ask("bfl/flux-2-pro 1024x1024");
    let url = InputSource::Url("https://example.com/cat.png".into());
    request.inputs.push(input(InputRole::Image, url.clone()));
    let open = quote(&request);
    assert_eq!(open.low, usd("0.045"));
    assert_eq!(open.expected, usd("0.045"));
    assert_eq!(open.high, usd("0.27")); // sixteen megapixels
    request.inputs = vec![input(InputRole::Mask, url)];
    assert_eq!(quote(&request).low, usd("0.03"));
}

#[test]
fn a_machine_s_time_is_a_range_until_it_is_measured() {
    let request = ask("textbook/machine 512x512");
    let open = BOOK.quote(&request).unwrap();
    assert_eq!(open.low, usd("0.001525"));
    assert_eq!(open.expected, usd("0.0053375"));
    assert_eq!(open.high, usd("0.04575"));
    let usage = Usage {
        millis: Some(4200),
        ..Usage::default()
    };
    let charge = BOOK.charge(&request, &answer(&request, vec![image(None)], usage));
    assert_eq!(charge.amount, Some(usd("0.006405")));
    assert_eq!(charge.from, ChargeFrom::Usage);
}

#[test]
fn a_subscription_s_job_brings_four_pictures() {
    let job = |n, tier| {
        let request = ImageRequest {
            n,
            tier,
            ..ask("midjourney/imagine")
        };
        quote(&request).expected
    };
    assert_eq!(job(1, Tier::Standard), usd("0.066666667"));
    assert_eq!(job(4, Tier::Standard), usd("0.066666667"));
    assert_eq!(job(5, Tier::Standard), usd("0.133333333"));
    assert_eq!(job(4, Tier::Flex), Usd::ZERO);
}

#[test]
fn a_generation_that_was_cut_short_costs_the_steps_that_were_done() {
    let mut request = ask("textbook/steps 512x512");
    request.steps = Some(50);
    let cut = |model: &str, steps, millis| {
        let request = ImageRequest {
            model: id(model),
            ..request.clone()
        };
        BOOK.cut_short(&request, steps, millis)?.amount
    };
    assert_eq!(cut("textbook/steps", Some(20), None), Some(usd("0.04")));
    assert_eq!(
        cut("textbook/machine", None, Some(2000)),
        Some(usd("0.00305"))
    );
    assert_eq!(cut("textbook/machine", Some(20), None), None);
    assert_eq!(
        cut("deepinfra/black-forest-labs/FLUX-2-dev", Some(14), None),
        Some(usd("0.00125"))
    );
    assert_eq!(cut("stability/core", Some(20), Some(20)), None);
    assert_eq!(cut("nobody/nothing", Some(20), Some(20)), None);
}

// ---- what answers tell

fn told(provider: &str, body: &Node, headers: &[(&'static str, &'static str)]) -> Codes {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_static(value))
        })
        .collect();
    let mut codes = Codes::default();
    Book::embedded().keep_signals(provider, Some(body), &headers, &mut codes);
    codes
}

fn object(entries: &[(&str, Node)]) -> Node {
    let own = |(key, node): &(&str, Node)| ((*key).to_owned(), node.clone());
    Node::Object(entries.iter().map(own).collect())
}

fn number(text: &str) -> Node {
    Node::Number(text.to_owned())
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
    let ticks = object(&[(
        "usage",
        object(&[("cost_in_usd_ticks", number("220000000"))]),
    )]);
    charged(
        "xai/grok-imagine-image 1:1",
        told("xai", &ticks, &[]),
        "0.022",
        reported,
    );
    let cost = object(&[("usage", object(&[("cost", number("3.87e-2"))]))]);
    let codes = told("openrouter", &cost, &[]);
    charged(
        "openrouter/google/gemini-2.5-flash-image 1:1",
        codes,
        "0.0387",
        reported,
    );
    let codes = told("openrouter", &cost, &[]);
    charged(
        "openrouter/openai/gpt-5-image 1:1",
        codes,
        "0.0387",
        reported,
    );
    let credits = object(&[("credits", number("35"))]);
    charged(
        "recraft/recraftv4_1 1:1",
        told("recraft", &credits, &[]),
        "0.035",
        reported,
    );
    let status = object(&[("inference_status", object(&[("cost", number("0.00123"))]))]);
    let codes = told("deepinfra", &status, &[]);
    charged(
        "deepinfra/black-forest-labs/FLUX-pro",
        codes,
        "0.00123",
        reported,
    );
    let task = object(&[("cost", object(&[("credits", number("0"))]))]);
    charged(
        "runway/gen4_image",
        told("runway", &task, &[]),
        "0",
        reported,
    );
    let metrics = object(&[("metrics", object(&[("predict_time", number("3.25"))]))]);
    let codes = told("replicate", &metrics, &[]);
    charged(
        "replicate/black-forest-labs/flux-dev",
        codes,
        "0.025",
        ChargeFrom::List,
    );
}

#[test]
fn billable_units_are_counted_at_the_model_s_price() {
    let units = |text| told("fal", &Node::Null, &[("x-fal-billable-units", text)]);
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

// ---- failures

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

// ---- what came

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

// ---- keeping pictures

#[test]
fn keeping_and_fetching_a_picture_has_a_price() {
    let store = |name: &str| {
        let mut stores = Book::embedded().stores().iter();
        stores.find(|store| store.store == name).unwrap()
    };
    let gcs = store("gcs/us-central1");
    assert_eq!(gcs.keep(1_600_000, 360), usd("0.000389")); // 0.0016 GB for twelve months, one write
    assert_eq!(gcs.fetch(1_600_000), usd("0.0001924"));
    assert_eq!(store("r2").fetch(1_600_000), Usd::ZERO);
}

// ---- days

#[test]
fn a_book_says_when_it_will_stand_differently() {
    let row = |price: &str, days: &str| {
        format!(
            "- model: studio/flux
  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, formats: [png]}}
  price: {{per_image: {price}}}
  source: our own meter
  as_of: 2026-11-01
{days}"
        )
    };
    let text = format!(
        "models:\n{}{}{}",
        row("1", "  valid_to: 2026-01-01\n"),
        row("2", "  valid_from: 2026-06-01\n  valid_to: 2026-07-01\n"),
        row("3", "  valid_from: 2027-01-01\n")
    );
    let book = Book::load(&[("mine.yaml", &text)]).unwrap();
    let on = |day: &str| book.on(day).quote(&ask("studio/flux")).unwrap().expected;
    assert_eq!((on("2025-12-31"), on("2026-03-01")), (usd("1"), usd("1")));
    assert_eq!((on("2026-06-01"), on("2026-12-31")), (usd("2"), usd("2")));
    assert_eq!(on("2027-01-01"), usd("3"));
    assert_eq!(book.next_change("2026-06-01"), Some("2026-07-01"));
    assert_eq!(book.next_change("2027-01-01"), None);
    assert_eq!(book.history(&id("studio/flux")).count(), 3);
    let first = format!("models:\n{}", row("3", "  valid_from: 2027-01-01\n"));
    let book = Book::load(&[("mine.yaml", &first)]).unwrap();
    assert_eq!(book.quote(&ask("studio/flux")).unwrap().expected, usd("3"));
}

#[test]
fn a_retired_model_is_still_quoted_and_marked() {
    let book = Book::embedded();
    let gone: Vec<&ModelRow> = book
        .models()
        .filter(|row| row.capability.retired("2026-11-22"))
        .collect();
    assert!(gone.len() > 15, "{}", gone.len());
    for row in gone {
        assert!(
            book.quote(&ImageRequest::new(row.id.clone(), "")).is_some(),
            "{}",
            row.id
        );
    }
}
