//! The fields of a request by name, and how each is read.

use serde_json::Number;

use super::Draft;
use crate::image::{
    Aspect, Delivery, Format, ImageRequest, Input, InputRole, InputSource, Operation, Quality,
    Safety, Size, Tier,
};
use crate::price::resolution::Resolution;

/// A resolution by its name: `2K`, `720p`.
pub(super) fn step(word: &str) -> Option<String> {
    Some(Resolution::find(word)?.word.to_owned())
}

pub(super) fn format(word: &str) -> Option<Format> {
    match Format::from_media_type(word) {
        Format::Unknown => None,
        format => Some(format),
    }
}

fn flag(word: &str) -> Option<bool> {
    match word {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn above_zero(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&count| count > 0)
}

fn number(text: &str) -> Option<Number> {
    serde_json::from_str(text).ok()
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The most input images that a spec may ask for: far beyond what any model takes.
const MOST_INPUTS: usize = 64;

/// Pictures that nobody has: their price is a range.
fn inputs(request: &mut ImageRequest, role: InputRole, count: usize) {
    request.inputs.retain(|input| input.role != role);
    request.inputs.extend((0..count).map(|place| Input {
        role,
        source: InputSource::FileId(format!("{role}-{place}")),
        name: None,
        format: Format::Unknown,
    }));
}

/// A field of a request: its name, what a value looks like, and how it is set.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) wanted: &'static str,
    pub(super) set: fn(&mut Draft, &str) -> Option<()>,
}

const fn key(
    name: &'static str,
    wanted: &'static str,
    set: fn(&mut Draft, &str) -> Option<()>,
) -> Key {
    Key { name, wanted, set }
}

/// Puts a value that must be there into a field that may be empty.
macro_rules! sets {
    ($field:ident, $read:expr) => {
        |draft, value| {
            draft.request.$field = Some($read(value)?);
            Some(())
        }
    };
}

/// Puts a value into a field.
macro_rules! is {
    ($field:ident, $read:expr) => {
        |draft, value| {
            draft.request.$field = $read(value)?;
            Some(())
        }
    };
}

/// Every field that can be said as `key=value`.
pub(super) const KEYS: &[Key] = &[
    key("size", "WIDTHxHEIGHT, W:H or auto", |draft, value| {
        draft.request.size = Size::parse(value)?;
        Some(())
    }),
    key("aspect", "W:H, like 16:9", |draft, value| {
        draft.aspect = Some(Aspect::parse(value)?);
        Some(())
    }),
    key(
        "resolution",
        "512, 1K, 2K, 4K, 720p or 1080p",
        |draft, value| {
            draft.step = Some(step(value)?);
            Some(())
        },
    ),
    key(
        "quality",
        "low, medium, standard, high, hd, xhigh, max or auto",
        sets!(quality, Quality::parse),
    ),
    key("n", "a number of pictures, 1 or more", is!(n, above_zero)),
    key("steps", "a number, 1 or more", sets!(steps, above_zero)),
    key(
        "tier",
        "fast, standard, flex or batch",
        is!(tier, Tier::parse),
    ),
    key(
        "format",
        "png, jpeg, webp, gif, svg or avif",
        sets!(format, format),
    ),
    key("prompt", "\"a text\"", |draft, value| {
        value.clone_into(&mut draft.request.prompt);
        Some(())
    }),
    key(
        "negative_prompt",
        "\"a text\"",
        sets!(negative_prompt, text),
    ),
    key(
        "inputs",
        "a number of input images, 64 at most",
        |draft, value| {
            let count = value.parse().ok().filter(|&count| count <= MOST_INPUTS)?;
            inputs(&mut draft.request, InputRole::Image, count);
            Some(())
        },
    ),
    key("mask", "yes or no", |draft, value| {
        let count = usize::from(flag(value)?);
        inputs(&mut draft.request, InputRole::Mask, count);
        Some(())
    }),
    key(
        "operation",
        "generate, edit, variation or upscale",
        is!(operation, Operation::parse),
    ),
    key("style", "a word that the model knows", sets!(style, text)),
    key(
        "background",
        "auto, transparent or opaque",
        sets!(background, text),
    ),
    key(
        "seed",
        "a whole number",
        sets!(seed, |text: &str| text.parse().ok()),
    ),
    key("guidance", "a number", sets!(guidance, number)),
    key("strength", "a number", sets!(strength, number)),
    key(
        "safety",
        "strict, default or relaxed",
        sets!(safety, Safety::parse),
    ),
    key(
        "compression",
        "0 to 100",
        sets!(compression, |text: &str| text
            .parse()
            .ok()
            .filter(|&percent| percent <= 100)),
    ),
    key(
        "delivery",
        "url, base64 or bytes",
        is!(delivery, Delivery::parse),
    ),
    key("stream", "yes or no", is!(stream, flag)),
    key(
        "partial_images",
        "a number of unfinished pictures to stream",
        |draft, value| {
            draft.request.partial_images = value.parse().ok()?;
            draft.request.stream |= draft.request.partial_images > 0;
            Some(())
        },
    ),
    key(
        "model",
        "a model that the price book knows",
        |_, _| Some(()),
    ),
];
