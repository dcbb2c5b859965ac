//! Single kinds of terms and factors.

use std::sync::LazyLock;

use super::table::TEXTBOOK;
use super::*;

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
    request.model = id("google/gemini-3.1-flash-lite-image"); // draws at 1K only
    assert_eq!(drawn(&request), (1024, 1024));
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
