//! What the simulated job providers have in common: pictures at addresses, seeds, waits.

use base64::Engine as _;
use serde_json::Value;

use super::answer::Answer;
use super::picture::Picture;
use super::{Shared, base_url};

/// Where a picture can be fetched: its name says what to paint, so nothing is kept.
pub(super) fn url(picture: &Picture, shared: &Shared) -> String {
    format!("{}/_sim/img/{picture}", base_url(shared))
}

/// The picture itself as an address.
pub(super) fn data_url(picture: &Picture, shared: &Shared) -> String {
    let file = picture.paint(shared.options.pad_to);
    let b64 = base64::engine::general_purpose::STANDARD.encode(file);
    format!("data:image/{};base64,{b64}", picture.format.word())
}

/// A seed that nobody asked for.
pub(super) fn any_seed(shared: &Shared) -> u64 {
    let drawn = blake3::hash(shared.request_id().as_bytes());
    let [a, b, c, d, ..] = *drawn.as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d]))
}

/// Equal fields and an equal seed give an equal picture.
pub(super) fn digest(model: &str, fields: &Value, seed: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(model.as_bytes()).update(&seed.to_le_bytes());
    hasher.update(fields.to_string().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

/// An answer that says when to come again.
pub(super) fn later(mut answer: Answer, seconds: Option<u64>) -> Answer {
    if let Some(seconds) = seconds {
        answer.set("retry-after", &seconds.to_string());
    }
    answer
}

/// Pixels of a shape like `16:9` with about so many pixels in all, in multiples of sixteen.
pub(super) fn shape(ratio: &str, pixels: u64) -> Option<(u32, u32)> {
    let (wide, high) = ratio.split_once(':')?;
    let side = |text: &str| text.parse::<u64>().ok().filter(|s| (1..=64).contains(s));
    let (wide, high) = (side(wide)?, side(high)?);
    let height = (pixels * high / wide).isqrt();
    let width = height * wide / high;
    let even = |side: u64| u32::try_from((side / 16 * 16).max(16)).ok();
    Some((even(width)?, even(height)?))
}
