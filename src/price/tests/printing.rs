//! What is printed is read as the same book.

use super::table::TEXTBOOK;
use super::*;
use crate::price::formula::Says;

fn same(book: &Book) {
    let text = book.to_yaml();
    let again = Book::load(&[("printed.yaml", &text)]).unwrap_or_else(|problems| {
        panic!("{problems:#?}\n{text}");
    });
    assert!(book.models().eq(again.models()), "rows differ");
    let sorted = |book: &Book| {
        let mut all: Vec<_> = book
            .aliases()
            .map(|(a, b)| (a.clone(), b.clone()))
            .collect();
        all.sort();
        all
    };
    assert_eq!(sorted(book), sorted(&again));
    for provider in book.providers() {
        assert_eq!(again.provider(&provider.provider), Some(provider));
    }
    assert_eq!(book.providers().count(), again.providers().count());
    assert_eq!(book.stores(), again.stores());
    assert_eq!(again.to_yaml(), text);
}

#[test]
fn the_whole_book_is_printed_and_read_again() {
    same(Book::embedded());
    same(&Book::with(&[TEXTBOOK]).unwrap());
}

/// A price file with one model, of whatever terms and factors.
fn file(terms: &[String], factors: &[String], words: &str) -> String {
    let price = [terms, factors].concat().join("\n    ");
    format!(
        "providers:
- provider: studio
  charge:
    reported: [{{pointer: /usage/cost, unit: cent}}, {{header: x-cost, unit: credit, usd_per_credit: 0.003}}, {{pointer: /cost/amount, unit: usd, where: {{pointer: /cost/unit, is: DOLLARS}}}}]
    usage: {{seconds: /metrics/time, billable_units: {{header: x-units}}}}
  failures: {{safety_input: no, timeout: unknown}}
  source: {words}
  as_of: 2026-11-01
models:
- model: studio/any
  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, formats: [png]}}
  price:
    {price}
  source: {words}
  as_of: 2026-11-01
  note: {words}
"
    )
}

fn some(all: &'static [&'static str], least: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(all, least..=all.len())
        .prop_map(|some| some.into_iter().map(str::to_owned).collect())
}

proptest! {
    #[test]
    fn printing_and_reading_is_the_identity(
        terms in some(&[
            "per_image: {low: {1K: 0.01, 4K: [0.02, 0.03, 0.04]}, max: 7}",
            "credits: {per_image: {512x512: 1.5, 2K: 3}, usd_per_credit: 0.0035, for_steps: 30}",
            "per_pixel: 0.000000001234",
            "per_megapixel: {first: 0.03, next: 0.015, input: 0.001, pixels: 1048576, rounding: nearest, included_steps: 4}",
            "per_step: {usd: 0.00013, steps: [4, 30, 50], at: 512x768}",
            "per_second: {usd: 0.001525, seconds: [0.25, 3, 30]}",
            "gpu_minutes: {minutes: [0.5, 1, 4], pictures: 4, usd_per_hour: 4, free_tiers: [flex, batch]}",
            "per_call: 0.000001",
            "input_image: 0.002",
            "tokens: {usd_per_million: {text_in: 5, image_out: 0.000001}, out: {grid: {low: [1, 2, 3], high: 9}, auto: [1, 5, 9]}, input_image: {flat: 7}, thought: [0, 1, 2]}",
        ], 1),
        factors in some(&[
            "tiers: {fast: +40%, batch: 1/2, flex: 0.333333333}",
            "regions: {europe-west4: 1.1, \"a b\": 2}",
            "licences: {print: +12.5%}",
            "volume: {0: 1, 1000: 0.9, 50000: 4/5}",
            "free_images: 25",
            "repeat: 0",
            "markup: 5.5%",
            "fee: 0.000000001%",
            "when: [{style: [a, \"b: c\"], steps: 51.., price: {per_image: 1}}, {x: 3..4, price: {per_call: 2}}]",
        ], 0),
        words in "[ -~äß€\t]{1,20}",
    ) {
        prop_assume!(!words.trim().is_empty());
        let quoted = serde_json::to_string(&words).unwrap();
        let text = file(&terms, &factors, &quoted);
        let book = Book::load(&[("mine.yaml", &text)]).unwrap();
        let row = book.model(&id("studio/any")).unwrap();
        prop_assert_eq!(&row.source, &words);
        prop_assert_eq!(row.price.terms.len(), terms.len());
        same(&book);
    }
}

#[test]
fn a_range_and_a_list_of_words_are_different_conditions() {
    let text = file(
        &["per_image: 1".to_owned()],
        &[
            "when: [{steps: 1..50, price: {per_image: 2}}, {style: x, price: {per_image: 3}}]"
                .to_owned(),
        ],
        "x",
    );
    let book = Book::load(&[("mine.yaml", &text)]).unwrap();
    let cases = &book.model(&id("studio/any")).unwrap().price.cases;
    assert_eq!(cases[0].when, [("steps".to_owned(), Says::Between(1, 50))]);
    assert_eq!(
        cases[1].when,
        [("style".to_owned(), Says::Words(vec!["x".to_owned()]))]
    );
}
