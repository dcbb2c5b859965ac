//! Rows, aliases, overlays and days.

use super::*;

#[test]
fn every_row_says_where_and_when_it_was_read_and_what_follows_it() {
    let book = Book::embedded();
    for row in book.models() {
        assert!(
            !row.source.is_empty() && row.as_of.len() == 10,
            "{}",
            row.id
        );
        assert!(!row.capability.formats.is_empty(), "{}", row.id);
        let usual = row.capability.usual;
        let size = Size::Pixels {
            width: usual.0,
            height: usual.1,
        };
        assert_eq!(
            row.capability.expected_pixels(&size),
            usual,
            "{} cannot draw what is usual",
            row.id
        );
        let gone = row.capability.retired(&row.as_of);
        let Some(successor) = &row.capability.successor else {
            assert!(!gone, "{} is gone and leads nowhere", row.id);
            continue;
        };
        let successor = book.model(&id(successor)).expect("a successor has a row");
        assert!(
            !successor.capability.retired(&row.as_of),
            "{} leads to a retired model",
            row.id
        );
    }
    assert!(
        book.model(&id("openai/dall-e-3"))
            .unwrap()
            .capability
            .retired("2026-05-12")
    );
    assert_eq!(book.models().count(), 260);
}

#[test]
fn an_alias_finds_the_row_of_its_model() {
    let row = Book::embedded().model(&id("stability/sd3-medium")).unwrap();
    assert_eq!(row.id, id("stability/sd3.5-medium"));
    assert!(
        Book::embedded()
            .model(&id("stability/sd3.5-mediu"))
            .is_none()
    );
}

#[test]
fn a_file_of_ones_own_adds_rows_and_replaces_them() {
    let book = overlay(STUDIO).unwrap();
    assert_eq!(
        book.quote(&ask("studio/flux")).unwrap().expected,
        usd("0.0025")
    );
    assert_eq!(book.models().count(), Book::embedded().models().count() + 1);
    assert_ne!(book.digest(), Book::embedded().digest());
    assert_eq!(book.digest().len(), 8);
    let dearer = STUDIO.replace("studio/flux", "stability/sd3.5-medium");
    let book = overlay(&dearer).unwrap();
    assert_eq!(
        book.quote(&ask("stability/sd3-medium")).unwrap().expected,
        usd("0.0025")
    );
    let own = STUDIO.replace("studio/flux", "stability/sd3-medium");
    let book = overlay(&own).unwrap();
    assert_eq!(
        book.quote(&ask("stability/sd3-medium")).unwrap().expected,
        usd("0.0025")
    );
    assert_eq!(
        book.quote(&ask("stability/sd3.5-medium")).unwrap().expected,
        usd("0.035")
    );
}

#[test]
fn a_price_holds_for_its_days() {
    let later =
        STUDIO.replace("models:\n", "").replace("0.0025", "0.005") + "  valid_from: 2027-01-01\n";
    let text = format!("{STUDIO}  valid_to: 2027-01-01\n{later}");
    let book = overlay(&text).unwrap();
    let on = |day: &str| book.on(day).quote(&ask("studio/flux")).unwrap().expected;
    assert_eq!(on("2026-12-31"), usd("0.0025"));
    assert_eq!(on("2027-01-01"), usd("0.005"));
    assert_eq!(
        book.quote(&ask("studio/flux")).unwrap().expected,
        usd("0.0025")
    );
    let raise = format!(
        "models:\n{}",
        later.replace("studio/flux", "stability/stable-image-core")
    );
    let book = overlay(&raise).unwrap();
    assert_eq!(
        book.on("2026-12-31")
            .quote(&ask("stability/core"))
            .unwrap()
            .expected,
        usd("0.03")
    );
    assert_eq!(
        book.on("2027-06-01")
            .quote(&ask("stability/core"))
            .unwrap()
            .expected,
        usd("0.005")
    );
}

#[test]
fn what_was_bought_before_a_price_changed_costs_what_it_did() {
    let row = |price: &str, days: &str| {
        format!(
            "- model: studio/old
  capability: {{operations: [generate], sizes: [8x8], usual: 8x8}}
  price: {{per_image: {price}}}
  source: here
  as_of: 2026-11-01
  {days}
"
        )
    };
    let (old, new) = (
        row("0.04", "valid_to: 2026-11-20"),
        row("0.05", "valid_from: 2026-11-20"),
    );
    let book = overlay(&format!("models:\n{old}{new}")).unwrap();
    let today = "2026-11-21";
    let book = book.on(today);
    let request = ImageRequest::new(id("studio/old"), "");
    let cost = |book: &Book| book.quote(&request).unwrap().expected;
    assert_eq!(cost(&book), usd("0.05"));
    let then = book.of_day("2026-11-19", today).unwrap();
    assert_eq!(cost(&then), usd("0.04"));
    assert!(book.of_day("2026-11-20", today).is_none());
    assert!(book.of_day(today, today).is_none());
}

#[test]
fn the_example_prices_say_what_they_promise() {
    let book = overlay(include_str!("../../../examples/prices.yaml")).unwrap();
    let price = |book: &Book, request: &ImageRequest| book.quote(request).unwrap();
    let expected = |spec: &str| price(&book, &ask(spec)).expected;
    assert_eq!(expected("studio/sdxl"), usd("0.0001875"));
    assert_eq!(expected("studio/poster 2048x2048 high"), usd("0.1"));
    let vector = ImageRequest {
        format: Some(Format::Svg),
        ..ask("studio/poster")
    };
    assert_eq!(price(&book, &vector).expected, usd("0.08"));
    let relaxed = ImageRequest {
        tier: Tier::Flex,
        n: 4,
        ..ask("midjourney/imagine")
    };
    assert_eq!(price(&book, &relaxed).expected, usd("0.015"));
    assert_eq!(
        price(&book.on("2027-01-01"), &relaxed).expected,
        usd("0.01875")
    );
    let fee = price(&book, &ask("openrouter/bytedance-seed/seedream-4.5"));
    assert_eq!(fee.expected, usd("0.0422"));
}
