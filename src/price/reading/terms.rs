//! Reads the terms of a price.

use super::counted::tokens;
use super::{number, open_rate, rate, some, spread, table, usd};
use crate::image::Tier;
use crate::money::Rate;
use crate::price::node::{Fields, Node, Notes, What};
use crate::price::spread::Spread;
use crate::price::term::{Credits, Megapixels, Minutes, Rounding, Seconds, StepRule, Steps, Term};

/// The kinds of terms. The name of each says what one unit is.
pub(super) const KNOWN: &[&str] = &[
    "per_image",
    "credits",
    "tokens",
    "per_pixel",
    "per_megapixel",
    "per_step",
    "per_second",
    "gpu_minutes",
    "per_call",
    "input_image",
];

/// What a picture of most models takes as one megapixel where the row does not say.
const MEGAPIXEL: u64 = 1_000_000;

/// `{per_image: …, tokens: …}`: the sum of the terms that are there, one at least.
pub(super) fn read(fields: &Fields, notes: &mut Notes) -> Option<Vec<Term>> {
    let before = notes.found.len();
    let mut terms = Vec::new();
    for kind in KNOWN {
        if let Some(node) = fields.get(kind) {
            terms.extend(term(kind, node, notes));
        }
    }
    if notes.found.len() > before {
        return None;
    }
    if terms.is_empty() {
        notes.add(
            fields.at,
            "the price has no term",
            format!("add one of {}, or write `price: unknown`", KNOWN.join(", ")),
        );
        return None;
    }
    Some(terms)
}

fn term(kind: &str, node: &Node, notes: &mut Notes) -> Option<Term> {
    Some(match kind {
        "per_image" => Term::PerImage(table(node, notes, &mut open_rate)?),
        "credits" => Term::Credits(credits(node, notes)?),
        "tokens" => Term::Tokens(Box::new(tokens(node, notes)?)),
        "per_pixel" => Term::PerPixel(rate(node, notes)?),
        "per_megapixel" => Term::Megapixels(megapixels(node, notes)?),
        "per_step" => Term::Steps(steps(node, notes)?),
        "per_second" => Term::Seconds(seconds(node, notes)?),
        "gpu_minutes" => Term::Minutes(minutes(node, notes)?),
        "per_call" => Term::PerCall(rate(node, notes)?),
        _ => Term::InputImages(rate(node, notes)?),
    })
}

/// `{per_image: 6.5, usd_per_credit: 0.01, included_steps: 30}`.
fn credits(node: &Node, notes: &mut Notes) -> Option<Credits> {
    const FIELDS: &[&str] = &["per_image", "usd_per_credit", "included_steps", "for_steps"];
    let fields = node.fields("credits", FIELDS, notes)?;
    let per_image = fields
        .need("per_image", notes)
        .and_then(|node| table(node, notes, &mut open_rate));
    let usd_per_credit = fields
        .need("usd_per_credit", notes)
        .and_then(|node| usd(node, notes));
    let steps = step_rule(&fields, notes)?;
    Some(Credits {
        per_image: per_image?,
        usd_per_credit: usd_per_credit?,
        steps,
    })
}

/// `included_steps: 30` (more cost more) or `for_steps: 28` (fewer cost less, too).
fn step_rule(fields: &Fields, notes: &mut Notes) -> Option<Option<StepRule>> {
    let rule = |node: &Node, both_ways, notes: &mut Notes| {
        let steps = some(node, notes)?;
        Some(Some(StepRule { steps, both_ways }))
    };
    match (fields.get("included_steps"), fields.get("for_steps")) {
        (None, None) => Some(None),
        (Some(node), None) => rule(node, false, notes),
        (None, Some(node)) => rule(node, true, notes),
        (Some(_), Some(node)) => {
            notes.add(
                node.at,
                "steps are either included or what the price is for",
                "keep included_steps or for_steps",
            );
            None
        }
    }
}

/// `0.025`, or `{first: 0.03, next: 0.015, input: 0.015, pixels: 1048576, rounding: up}`.
fn megapixels(node: &Node, notes: &mut Notes) -> Option<Megapixels> {
    const FIELDS: &[&str] = &[
        "first",
        "next",
        "input",
        "pixels",
        "rounding",
        "included_steps",
        "for_steps",
    ];
    let plain = |rate| Megapixels {
        first: rate,
        next: rate,
        input: Rate::ZERO,
        pixels: MEGAPIXEL,
        rounding: Rounding::Exact,
        steps: None,
    };
    if let What::Text(_) = node.what {
        return rate(node, notes).map(plain);
    }
    let fields = node.fields("per_megapixel", FIELDS, notes)?;
    let first = fields
        .need("first", notes)
        .and_then(|node| rate(node, notes))?;
    let mut other = |key, unsaid| match fields.get(key) {
        Some(node) => rate(node, notes),
        None => Some(unsaid),
    };
    let (next, input) = (other("next", first)?, other("input", Rate::ZERO)?);
    let pixels = match fields.get("pixels") {
        Some(node) => some(node, notes)?,
        None => MEGAPIXEL,
    };
    let rounding = match fields.get("rounding") {
        Some(node) => node.read(notes, "up, nearest or exact", |text| {
            let found = Rounding::ALL.iter().find(|(word, _)| *word == text);
            found.map(|(_, rounding)| *rounding)
        })?,
        None => Rounding::Exact,
    };
    Some(Megapixels {
        next,
        input,
        pixels,
        rounding,
        steps: step_rule(&fields, notes)?,
        ..plain(first)
    })
}

/// `{usd: 0.002, steps: 30, at: 512x512}`.
fn steps(node: &Node, notes: &mut Notes) -> Option<Steps> {
    let fields = node.fields("per_step", &["usd", "steps", "at"], notes)?;
    let usd = fields
        .need("usd", notes)
        .and_then(|node| rate(node, notes))?;
    let usual = fields
        .need("steps", notes)
        .and_then(|node| spread(node, notes, some))?;
    let at = match fields.get("at") {
        Some(node) => Some(node.pixels(notes)?),
        None => None,
    };
    Some(Steps { usd, usual, at })
}

/// `{usd: 0.001525, seconds: [1, 3, 30]}`.
fn seconds(node: &Node, notes: &mut Notes) -> Option<Seconds> {
    let fields = node.fields("per_second", &["usd", "seconds"], notes)?;
    let usd = fields
        .need("usd", notes)
        .and_then(|node| rate(node, notes))?;
    let millis = time(&fields, "seconds", 1, notes)?;
    Some(Seconds { usd, millis })
}

/// `{minutes: 1, pictures: 4, usd_per_hour: 4, free_tiers: [flex]}`.
fn minutes(node: &Node, notes: &mut Notes) -> Option<Minutes> {
    const FIELDS: &[&str] = &["minutes", "pictures", "usd_per_hour", "free_tiers"];
    let fields = node.fields("gpu_minutes", FIELDS, notes)?;
    let millis = time(&fields, "minutes", 60, notes)?;
    let usd_per_hour = fields
        .need("usd_per_hour", notes)
        .and_then(|node| usd(node, notes))?;
    let pictures = match fields.get("pictures") {
        Some(_) => number::<u64>(&fields, "pictures", notes)?.max(1),
        None => 1,
    };
    Some(Minutes {
        millis,
        pictures,
        usd_per_hour,
        free_tiers: fields.words::<Tier>("free_tiers", notes),
    })
}

/// A time in units of so many seconds, as milliseconds.
fn time(fields: &Fields, key: &str, seconds: i128, notes: &mut Notes) -> Option<Spread<u64>> {
    const PER_MILLI: i128 = 1_000_000_000;
    let in_millis = |node: &Node, notes: &mut Notes| {
        node.read(notes, "a time, exact to the millisecond", |text| {
            let pico = text.parse::<Rate>().ok()?.pico() * seconds;
            (pico % PER_MILLI == 0).then(|| u64::try_from(pico / PER_MILLI).ok())?
        })
    };
    fields
        .need(key, notes)
        .and_then(|node| spread(node, notes, in_millis))
}
