//! Reads the terms of a price.

use super::node::{Fields, Mark, Node, Notes, What, Word, pixels};
use super::spread::Spread;
use super::term::{ByRank, BySize, Credits, Price, Ratio, Term, Tokens, credits_rate};
use super::tokens::{InTokens, OutTokens};
use crate::image::{Quality, Tier};
use crate::money::{Rate, Usd};

const MILLION: u64 = 1_000_000;

/// `{per_image: …, credits: …, tokens: …, tiers: …}`: the sum of the terms that are there.
pub(super) fn price(node: &Node, notes: &mut Notes) -> Option<Price> {
    let fields = node.fields(
        "a price",
        &["per_image", "credits", "tokens", "tiers"],
        notes,
    )?;
    let before = notes.found.len();
    let mut terms = Vec::new();
    if let Some(node) = fields.get("per_image") {
        terms.extend(table(node, notes, &mut rate).map(Term::PerImage));
    }
    if let Some(node) = fields.get("credits") {
        terms.extend(credits(node, notes).map(Term::Credits));
    }
    if let Some(node) = fields.get("tokens") {
        terms.extend(tokens(node, notes).map(|tokens| Term::Tokens(Box::new(tokens))));
    }
    if terms.is_empty() && notes.found.len() == before {
        notes.add(
            node.at,
            "the price has no term",
            "add one of per_image, credits, tokens",
        );
    }
    let tiers = fields
        .get("tiers")
        .map_or_else(|| Some(Vec::new()), |node| tiers(node, notes));
    (!terms.is_empty()).then_some(Price {
        terms,
        tiers: tiers?,
    })
}

/// `{batch: 1/2}`.
fn tiers(node: &Node, notes: &mut Notes) -> Option<Vec<(Tier, Ratio)>> {
    let mut tiers = Vec::new();
    for entry in node.entries(notes)? {
        let tier = key::<Tier>(&entry.key, entry.key_at, notes);
        let ratio = entry
            .node
            .read(notes, "a factor above zero, like 1/2 or 0.5", ratio);
        tiers.extend(tier.zip(ratio));
    }
    Some(tiers)
}

/// Reads `1/2` or `0.5`; zero and less are no factor.
fn ratio(text: &str) -> Option<Ratio> {
    if let Some((numerator, denominator)) = text.split_once('/') {
        let part = |text: &str| text.trim().parse::<u64>().ok().filter(|&part| part > 0);
        return Some(Ratio {
            numerator: part(numerator)?,
            denominator: part(denominator)?,
        });
    }
    let factor: Usd = text.parse().ok()?;
    let numerator = u64::try_from(factor.nano()).ok().filter(|&nano| nano > 0)?;
    Some(Ratio {
        numerator,
        denominator: 1_000_000_000,
    })
}

/// `{per_image: 6.5, usd_per_credit: 0.01, included_steps: 30}`.
fn credits(node: &Node, notes: &mut Notes) -> Option<Credits> {
    let fields = node.fields(
        "credits",
        &["per_image", "usd_per_credit", "included_steps"],
        notes,
    )?;
    let count = fields
        .need("per_image", notes)
        .and_then(|node| rate(node, notes));
    let usd_per_credit = fields
        .need("usd_per_credit", notes)
        .and_then(|node| usd(node, notes))?;
    let per_image = credits_rate(count?, usd_per_credit);
    if per_image.is_none() {
        notes.add(
            node.at,
            "credits times their price are finer than a pico-dollar",
            "use fewer decimals",
        );
    }
    let included_steps = fields.get("included_steps").and_then(|node| {
        node.read(notes, "a whole number of steps, 1 or more", |text| {
            text.parse().ok().filter(|&steps: &u32| steps > 0)
        })
    });
    Some(Credits {
        per_image: per_image?,
        usd_per_credit,
        included_steps,
    })
}

const TOKENS: &[&str] = &[
    "usd_per_million",
    "out",
    "input_image",
    "partial_image",
    "gif_frames",
    "published",
];

fn tokens(node: &Node, notes: &mut Notes) -> Option<Tokens> {
    const RATES: &[&str] = &[
        "text_in",
        "cached_text_in",
        "image_in",
        "cached_image_in",
        "image_out",
        "text_out",
    ];
    let fields = node.fields("tokens", TOKENS, notes)?;
    let rates = fields
        .need("usd_per_million", notes)?
        .fields("usd_per_million", RATES, notes)?;
    let out = fields
        .need("out", notes)
        .and_then(|node| out_tokens(node, notes));
    let some = |key, notes: &mut Notes| rates.get(key).and_then(|node| per_million(node, notes));
    let need = |key, notes: &mut Notes| {
        rates
            .need(key, notes)
            .and_then(|node| per_million(node, notes))
    };
    let (text_in, image_out) = (need("text_in", notes), need("image_out", notes));
    let (text_in, image_out) = (text_in?, image_out?);
    Some(Tokens {
        text_in,
        image_in: some("image_in", notes).unwrap_or(text_in),
        cached_text_in: some("cached_text_in", notes),
        cached_image_in: some("cached_image_in", notes),
        image_out,
        text_out: some("text_out", notes),
        out: out?,
        input_image: fields
            .get("input_image")
            .and_then(|node| in_tokens(node, notes)),
        partial_image: u64::from(fields.count("partial_image", 0, notes)),
        frames: u64::from(fields.count("gif_frames", 1, notes)),
        published: fields
            .get("published")
            .and_then(|node| table(node, notes, &mut rate)),
    })
}

/// `{grid: {low: 16, …}, auto: [16, 48, 96]}` or `{table: {low: {1024x1024: 272}}}`.
fn out_tokens(node: &Node, notes: &mut Notes) -> Option<OutTokens> {
    let fields = node.fields("out", &["grid", "auto", "table"], notes)?;
    match (fields.get("grid"), fields.get("table")) {
        (Some(node), None) => {
            let factors = by_quality(node, notes, &mut |node, notes| {
                spread(node, notes, Node::count)
            })?;
            let auto = fields
                .get("auto")
                .and_then(|node| spread(node, notes, Node::count));
            Some(OutTokens::Grid { factors, auto })
        }
        (None, Some(node)) => {
            table(node, notes, &mut |node, notes| node.count(notes)).map(OutTokens::Table)
        }
        _ => {
            notes.add(
                node.at,
                "tokens of a picture come from a `grid` or a `table`",
                "write exactly one of them",
            );
            None
        }
    }
}

fn in_tokens(node: &Node, notes: &mut Notes) -> Option<InTokens> {
    let fields = node.fields("input_image", &["patches", "tiles"], notes)?;
    match (fields.get("patches"), fields.get("tiles")) {
        (Some(node), None) => {
            let fields = node.fields("patches", &["side", "most"], notes)?;
            Some(InTokens::Patches {
                side: number(&fields, "side", notes)?,
                most: number(&fields, "most", notes)?,
            })
        }
        (None, Some(node)) => {
            let fields =
                node.fields("tiles", &["short", "base", "tile", "high_fidelity"], notes)?;
            let high_fidelity = fields.get("high_fidelity");
            let extra = high_fidelity
                .and_then(|node| node.fields("high_fidelity", &["square", "oblong"], notes));
            let mut added = |key| {
                extra
                    .as_ref()
                    .and_then(|fields| number(fields, key, notes))
                    .unwrap_or(0)
            };
            let (square, oblong) = (added("square"), added("oblong"));
            Some(InTokens::Tiles {
                short: number(&fields, "short", notes)?,
                base: number(&fields, "base", notes)?,
                tile: number(&fields, "tile", notes)?,
                square,
                oblong,
            })
        }
        _ => {
            notes.add(
                node.at,
                "tokens of an input image come from `patches` or `tiles`",
                "write exactly one of them",
            );
            None
        }
    }
}

fn number<T: std::str::FromStr>(fields: &Fields, key: &str, notes: &mut Notes) -> Option<T> {
    fields.need(key, notes)?.count(notes)
}

type Leaf<'a, T> = &'a mut dyn FnMut(&Node, &mut Notes) -> Option<T>;

/// One figure, figures by size, or figures by quality and (perhaps) size.
fn table<T: Clone>(node: &Node, notes: &mut Notes, leaf: Leaf<T>) -> Option<ByRank<BySize<T>>> {
    let by_size_only = match &node.what {
        What::Map(entries) => entries
            .first()
            .is_some_and(|entry| pixels(&entry.key).is_some()),
        _ => true,
    };
    if by_size_only {
        return by_size(node, notes, leaf).map(ByRank::any);
    }
    by_quality(node, notes, &mut |node, notes| by_size(node, notes, leaf))
}

fn by_quality<T: Clone>(node: &Node, notes: &mut Notes, leaf: Leaf<T>) -> Option<ByRank<T>> {
    let mut figures: Vec<(Quality, T)> = Vec::new();
    for entry in node.entries(notes)? {
        let quality = key::<Quality>(&entry.key, entry.key_at, notes);
        let figure = leaf(&entry.node, notes);
        let Some((quality, figure)) = quality.zip(figure) else {
            continue;
        };
        if quality == Quality::Auto
            || figures
                .iter()
                .any(|(known, _)| known.rank() == quality.rank())
        {
            notes.add(
                entry.key_at,
                format!("`{quality}` is no quality of its own here"),
                "name each rank once (medium is standard, high is hd); what `auto` comes to stands under `auto`",
            );
            continue;
        }
        figures.push((quality, figure));
    }
    let ranked = ByRank::of(&figures);
    if ranked.is_none() {
        notes.add(
            node.at,
            "no quality has a figure",
            "add one for each quality of the model",
        );
    }
    ranked
}

fn by_size<T: Clone>(node: &Node, notes: &mut Notes, leaf: Leaf<T>) -> Option<BySize<T>> {
    let What::Map(entries) = &node.what else {
        return leaf(node, notes).map(BySize::any);
    };
    let mut listed = Vec::new();
    for entry in entries {
        let figure = leaf(&entry.node, notes);
        match pixels(&entry.key) {
            Some(size) => listed.extend(figure.map(|figure| (size, figure))),
            None => notes.add(
                entry.key_at,
                format!("`{}` is no size", entry.key),
                "write a size in pixels, like 1024x1536",
            ),
        }
    }
    let listed = BySize::of(listed);
    if listed.is_none() {
        notes.add(
            node.at,
            "no size has a figure",
            "add one for each size of the model",
        );
    }
    listed
}

/// One figure, or `[least, usual, most]`.
pub(super) fn spread<T: Copy>(
    node: &Node,
    notes: &mut Notes,
    mut leaf: impl FnMut(&Node, &mut Notes) -> Option<T>,
) -> Option<Spread<T>> {
    let What::List(items) = &node.what else {
        return leaf(node, notes).map(Spread::exact);
    };
    let [low, expected, high] = items.as_slice() else {
        notes.add(
            node.at,
            "an open figure has three ends",
            "write [least, usual, most]",
        );
        return None;
    };
    let (low, expected, high) = (leaf(low, notes), leaf(expected, notes), leaf(high, notes));
    Some(Spread {
        low: low?,
        expected: expected?,
        high: high?,
    })
}

fn key<T: Word>(text: &str, at: Mark, notes: &mut Notes) -> Option<T> {
    let word = T::find(text);
    if word.is_none() {
        notes.add(
            at,
            format!("`{text}` is no {}", T::WHAT),
            format!("use one of {}", T::all()),
        );
    }
    word
}

const PRICE: &str = "an exact price, 0 or more, like 0.04";

fn usd(node: &Node, notes: &mut Notes) -> Option<Usd> {
    node.read(notes, PRICE, |text| {
        text.parse().ok().filter(|&usd: &Usd| usd >= Usd::ZERO)
    })
}

fn rate(node: &Node, notes: &mut Notes) -> Option<Rate> {
    node.read(notes, PRICE, |text| {
        text.parse().ok().filter(|&rate: &Rate| rate >= Rate::ZERO)
    })
}

fn per_million(node: &Node, notes: &mut Notes) -> Option<Rate> {
    let rate = Rate::per(usd(node, notes)?, MILLION);
    if rate.is_none() {
        notes.add(
            node.at,
            "a unit costs less than a pico-dollar can tell",
            "use fewer decimals",
        );
    }
    rate
}
