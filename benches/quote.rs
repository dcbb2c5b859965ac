//! What a price costs to find, with the whole book loaded.
//!
//! The bar is 2 µs a quote. `lookup` is the same search in the shipped book and in one with a
//! hundred times the models, in one run; what it says at the end is how much longer the larger
//! takes, and it fails above twice.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use pixtoll::image::{Aspect, ImageRequest, ModelId, Quality, Size};
use pixtoll::price::Book;

/// So many times the models of the shipped book.
const LARGER: usize = 100;
/// So much longer a search may take there: more memory is touched, but not more rows.
const MOST: f64 = 2.0;

fn request(model: &str) -> ImageRequest {
    let id = ModelId::parse(model).expect("a model with its provider");
    ImageRequest::new(id, "a red paper boat on a pond, seen from above, at noon")
}

/// Requests that make the book work: much that is open, tokens, cases, megapixels.
fn requests() -> Vec<(&'static str, ImageRequest)> {
    let stepped = Size::Aspect {
        aspect: Aspect { wide: 16, high: 9 },
        step: Some("2K".to_owned()),
    };
    let pixels = |width, height| Size::Pixels { width, height };
    let with = |model, size, quality, n| ImageRequest {
        size,
        quality,
        n,
        ..request(model)
    };
    vec![
        (
            "by the picture",
            with("openai/dall-e-3", pixels(1792, 1024), Some(Quality::Hd), 1),
        ),
        (
            "by the token",
            with(
                "openai/gpt-image-2",
                pixels(1024, 1024),
                Some(Quality::High),
                4,
            ),
        ),
        (
            "by the token, all open",
            request("openai/gpt-image-2.6-flare"),
        ),
        (
            "by the token and resolution",
            with("google/gemini-nano-banana-2.1", stepped, None, 1),
        ),
        (
            "by the megapixel",
            with("bfl/flux-2-pro", pixels(1536, 1024), None, 2),
        ),
        ("in credits, by an alias", request("stability/sd3-medium")),
        (
            "in a case of its own",
            request("ideogram/ideogram-3-transparent"),
        ),
    ]
}

/// The shipped book and as many others beside it.
fn larger() -> Book {
    let mut text = String::from("models:\n");
    for number in 0..Book::embedded().models().count() * (LARGER - 1) {
        let row = write!(
            text,
            "- model: studio/m{number}
  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, formats: [png]}}
  price: {{per_image: 0.01}}
  source: made up
  as_of: 2026-11-22
"
        );
        row.expect("a text takes it");
    }
    let files: Vec<String> = text
        .split_inclusive("as_of: 2026-11-22\n")
        .collect::<Vec<_>>()
        .chunks(5000)
        .enumerate()
        .map(|(at, rows)| {
            let head = if at == 0 { "" } else { "models:\n" };
            format!("{head}{}", rows.concat())
        })
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|text| ("many.yaml", text.as_str()))
        .collect();
    Book::with(&files).expect("a book of many models")
}

fn quote(criterion: &mut Criterion) {
    let book = Book::embedded();
    let mut group = criterion.benchmark_group("quote");
    for (name, request) in requests() {
        group.bench_function(name, |b| b.iter(|| book.quote(black_box(&request))));
    }
    group.finish();

    let large = larger();
    let ids: Vec<ModelId> = book.models().map(|row| row.id.clone()).collect();
    let search = |book: &Book| {
        for id in &ids {
            black_box(book.model(black_box(id)));
        }
    };
    let mut group = criterion.benchmark_group("lookup of every shipped model");
    group.bench_function("in the shipped book", |b| b.iter(|| search(book)));
    group.bench_function("in a hundred times the book", |b| b.iter(|| search(&large)));
    group.finish();

    // Best of many, by turns, so that what else the machine does falls on both.
    let time = |book: &Book| {
        let begun = Instant::now();
        search(book);
        begun.elapsed()
    };
    let (mut small, mut big) = (time(book), time(&large));
    for _ in 0..2000 {
        small = small.min(time(book));
        big = big.min(time(&large));
    }
    let ratio = big.as_secs_f64() / small.as_secs_f64();
    eprintln!("a search among {LARGER} times the models takes {ratio:.2} times as long");
    assert!(ratio < MOST, "lookup grows with the book: {ratio:.2}");
}

criterion_group!(benches, quote);
criterion_main!(benches);
