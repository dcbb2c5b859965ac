//! Prices held against published figures, and the laws that every book keeps. Here stands what these tests share.

mod answers;
mod book;
mod charges;
mod laws;
mod nonsense;
mod printing;
mod quotes;
mod table;
mod terms;

use bytes::Bytes;
use proptest::prelude::*;

use super::tokens::{grid, patches, text, tiles};
use super::*;
use crate::bill::{Charge, ChargeFrom, Codes, Quote, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, Input, InputRole,
    InputSource, ModelId, Picture, Quality, Size, Tier,
};
use crate::money::Usd;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn id(model: &str) -> ModelId {
    ModelId::parse(model).unwrap()
}

/// `openai/dall-e-3 1024x1024 hd`.
fn ask(spec: &str) -> ImageRequest {
    let mut words = spec.split(' ');
    let mut request = ImageRequest::new(id(words.next().unwrap()), "");
    request.size = words
        .next()
        .map_or(Size::Auto, |word| Size::parse(word).unwrap());
    request.quality = words.next().map(|word| Quality::parse(word).unwrap());
    request
}

fn quote(request: &ImageRequest) -> Quote {
    Book::embedded().quote(request).unwrap()
}

/// The expected cost of the finished pictures alone.
fn pictures(spec: &str) -> Usd {
    let quote = quote(&ask(spec));
    let of = |what: &str| {
        quote
            .lines
            .iter()
            .filter(|line| line.what == what)
            .map(|line| line.amount)
            .sum::<Usd>()
    };
    of("image") + of("image out")
}

fn image(size: Option<(u32, u32)>) -> Image {
    Image {
        picture: Picture::Url(String::new()),
        format: Format::Png,
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        seed: None,
        revised_prompt: None,
    }
}

fn answer(request: &ImageRequest, images: Vec<Image>, usage: Usage) -> ImageResponse {
    ImageResponse {
        model: request.model.clone(),
        created: None,
        images,
        withheld: 0,
        resolved: Resolved::default(),
        usage,
        codes: Codes::default(),
    }
}

fn counts(text_in: u64, image_in: u64, image_out: u64) -> Usage {
    Usage {
        text_in: Some(text_in),
        image_in: Some(image_in),
        image_out: Some(image_out),
        ..Usage::default()
    }
}

fn png(width: u32, height: u32) -> Bytes {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.into()
}

fn input(role: InputRole, source: InputSource) -> Input {
    Input {
        role,
        source,
        name: None,
        format: Format::Png,
    }
}

fn overlay(text: &str) -> Result<Book, Vec<PriceProblem>> {
    Book::with(&[("mine.yaml", text)])
}

/// A file of the user's own, with one row.
const STUDIO: &str = "models:
- model: studio/flux
  capability: {operations: [generate], sizes: {free: {min_pixels: 1, max_pixels: 4000000, max_side: 4096}}, usual: 1024x1024, formats: [png]}
  price: {per_image: 0.0025}
  source: our own meter
  as_of: 2026-11-01
";
