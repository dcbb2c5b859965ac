//! Reads the factors on a price.

use super::{key, some};
use crate::image::Tier;
use crate::money::Usd;
use crate::price::modifier::{Modifiers, Ratio};
use crate::price::node::{Fields, Node, Notes};

pub(super) const KNOWN: &[&str] = &[
    "tiers",
    "regions",
    "licences",
    "volume",
    "free_images",
    "repeat",
    "markup",
    "fee",
];

pub(super) fn read(fields: &Fields, notes: &mut Notes) -> Option<Modifiers> {
    let before = notes.found.len();
    let mut said = Modifiers::default();
    if let Some(node) = fields.get("tiers") {
        said.tiers = tiers(node, notes)?;
    }
    if let Some(node) = fields.get("regions") {
        said.regions = by_name(node, notes)?;
    }
    if let Some(node) = fields.get("licences") {
        said.licences = by_name(node, notes)?;
    }
    if let Some(node) = fields.get("volume") {
        said.volume = volume(node, notes)?;
    }
    if let Some(node) = fields.get("free_images") {
        said.free_images = some(node, notes)?;
    }
    if let Some(node) = fields.get("repeat") {
        said.repeat = Some(node.read(notes, FACTOR_OR_ZERO, factor)?);
    }
    if let Some(node) = fields.get("markup") {
        said.markup = Some(increase(node, notes)?);
    }
    if let Some(node) = fields.get("fee") {
        said.fee = Some(increase(node, notes)?);
    }
    (notes.found.len() == before).then_some(said)
}

const FACTOR: &str = "a factor above zero, like 1/2, 0.5, +40% or -50%";
const FACTOR_OR_ZERO: &str = "a factor, like 1/10, 0.1 or 0";

/// `{batch: 1/2, fast: +40%}`.
fn tiers(node: &Node, notes: &mut Notes) -> Option<Vec<(Tier, Ratio)>> {
    let mut tiers = Vec::new();
    for entry in node.entries(notes)? {
        let tier = key::<Tier>(&entry.key, entry.key_at, notes);
        let ratio = entry.node.read(notes, FACTOR, above_zero);
        tiers.extend(tier.zip(ratio));
    }
    Some(tiers)
}

/// `{europe-west4: 1.1}`.
fn by_name(node: &Node, notes: &mut Notes) -> Option<Vec<(String, Ratio)>> {
    let mut factors = Vec::new();
    for entry in node.entries(notes)? {
        let ratio = entry.node.read(notes, FACTOR, above_zero)?;
        factors.push((entry.key.clone(), ratio));
    }
    Some(factors)
}

/// `{0: 1, 1000: 0.9}`: from how many pictures a period on which factor holds.
fn volume(node: &Node, notes: &mut Notes) -> Option<Vec<(u64, Ratio)>> {
    let mut steps: Vec<(u64, Ratio)> = Vec::new();
    for entry in node.entries(notes)? {
        let ratio = entry.node.read(notes, FACTOR, above_zero)?;
        let from: Option<u64> = entry.key.parse().ok();
        let rising = steps
            .last()
            .map_or(from == Some(0), |(last, _)| from > Some(*last));
        let Some(from) = from.filter(|_| rising) else {
            notes.add(
                entry.key_at,
                format!("`{}` is no step of a volume here", entry.key),
                "begin with 0 and write how many pictures a period each further step begins at",
            );
            return None;
        };
        steps.push((from, ratio));
    }
    Some(steps)
}

/// What `5.5%` adds, as a factor.
pub(in crate::price) fn increase(node: &Node, notes: &mut Notes) -> Option<Ratio> {
    node.read(notes, "an addition in per cent, like 5.5%", |text| {
        let plain = text.trim_start_matches('+');
        (!plain.starts_with('-') && plain.ends_with('%'))
            .then(|| factor(&format!("+{plain}")))
            .flatten()
    })
}

fn above_zero(text: &str) -> Option<Ratio> {
    factor(text).filter(|ratio| ratio.numerator > 0)
}

/// Reads `1/2`, `0.5`, `+40%` or `-50%`.
fn factor(text: &str) -> Option<Ratio> {
    const HUNDRED: u64 = 100 * NANO;
    const NANO: u64 = 1_000_000_000;
    if let Some((numerator, denominator)) = text.split_once('/') {
        let part = |text: &str| text.trim().parse::<u64>().ok();
        return reduced(part(numerator)?, part(denominator)?);
    }
    let nano = |text: &str| {
        let exact: Usd = text.parse().ok()?;
        u64::try_from(exact.nano()).ok()
    };
    let Some(per_cent) = text.strip_suffix('%') else {
        return reduced(nano(text)?, NANO);
    };
    let share = nano(per_cent.get(1..)?)?;
    match per_cent.as_bytes().first()? {
        b'+' => reduced(HUNDRED.checked_add(share)?, HUNDRED),
        b'-' => reduced(HUNDRED.checked_sub(share)?, HUNDRED),
        _ => None,
    }
}

/// In lowest terms, so that a factor is the same however it was written.
fn reduced(numerator: u64, denominator: u64) -> Option<Ratio> {
    let (mut a, mut b) = (numerator, denominator);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    (denominator > 0).then(|| Ratio {
        numerator: numerator / a,
        denominator: denominator / a,
    })
}
