//! Reads prices: what is charged, in which cases, and by which factors.

mod counted;
mod modifiers;
mod terms;

use super::formula::{Case, Price, Says};
use super::modifier::Modifiers;
use super::node::{Entry, Fields, Mark, Node, Notes, What, Word, pixels};
use super::resolution::Resolution;
use super::spread::Spread;
use super::term::{ByRank, BySize, Extent};
use crate::image::Quality;
use crate::money::{Rate, Usd};

pub(super) use modifiers::increase;

const MILLION: u64 = 1_000_000;

/// The whole price of a model: `{per_image: …, when: […], tiers: {…}}`, or `unknown`.
pub(super) fn price(node: &Node, notes: &mut Notes) -> Option<Price> {
    if node.as_text() == Some("unknown") {
        return Some(Price::default());
    }
    let known = [terms::KNOWN, modifiers::KNOWN, &["when"]].concat();
    let fields = node.fields("a price", &known, notes)?;
    let terms = terms::read(&fields, notes);
    let cases = fields
        .get("when")
        .map_or_else(|| Some(Vec::new()), |node| cases(node, notes));
    let modifiers: Modifiers = modifiers::read(&fields, notes)?;
    Some(Price {
        terms: terms?,
        cases: cases?,
        modifiers,
    })
}

/// `[{rendering_speed: [FLASH, TURBO], price: {per_image: 0.03}}, …]`.
fn cases(node: &Node, notes: &mut Notes) -> Option<Vec<Case>> {
    let cases = node.list(notes)?.iter();
    Some(cases.filter_map(|node| case(node, notes)).collect())
}

fn case(node: &Node, notes: &mut Notes) -> Option<Case> {
    let entries = node.entries(notes)?;
    let mut when = Vec::new();
    let mut terms = None;
    for entry in entries {
        if entry.key == "price" {
            let fields = entry.node.fields("a case's price", terms::KNOWN, notes)?;
            terms = terms::read(&fields, notes);
        } else {
            when.push((entry.key.clone(), says(entry, notes)?));
        }
    }
    if when.is_empty() || !entries.iter().any(|entry| entry.key == "price") {
        notes.add(
            node.at,
            "a case is fields of the request and a price",
            "write it like {style: vector, price: {per_image: 0.08}}",
        );
        return None;
    }
    Some(Case {
        when,
        terms: terms?,
    })
}

/// A word, a list of words, or a range like `51..` or `1..4`.
fn says(entry: &Entry, notes: &mut Notes) -> Option<Says> {
    if let What::List(_) = entry.node.what {
        return entry.node.texts(notes).map(Says::Words);
    }
    let text = entry.node.text(notes)?;
    let Some((first, last)) = text.split_once("..") else {
        return Some(Says::Words(vec![text.to_owned()]));
    };
    let end = |text: &str, unsaid: u64| match text {
        "" => Some(unsaid),
        text => text.parse().ok(),
    };
    let range = end(first, 0).zip(end(last, u64::MAX));
    if range.is_none_or(|(first, last)| first > last) {
        notes.add(
            entry.node.at,
            format!("`{text}` is no range"),
            "write it like 1..50 or 51..",
        );
        return None;
    }
    range.map(|(first, last)| Says::Between(first, last))
}

type Leaf<'a, T> = &'a mut dyn FnMut(&Node, &mut Notes) -> Option<T>;

/// One figure, figures by size, or figures by quality and (perhaps) size.
fn table<T: Clone>(node: &Node, notes: &mut Notes, leaf: Leaf<T>) -> Option<ByRank<BySize<T>>> {
    let by_size_only = match &node.what {
        What::Map(entries) => entries
            .first()
            .is_some_and(|entry| extent(&entry.key).is_some()),
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
        match extent(&entry.key) {
            Some(extent) => listed.extend(figure.map(|figure| (extent, figure))),
            None => notes.add(
                entry.key_at,
                format!("`{}` is no size", entry.key),
                format!(
                    "write a size in pixels, like 1024x1536, or one of {}",
                    Resolution::words()
                ),
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

/// A size in pixels or a resolution by name.
fn extent(text: &str) -> Option<Extent> {
    let named = || Resolution::find(text).map(Extent::Named);
    pixels(text)
        .map(|(width, height)| Extent::Pixels(width, height))
        .or_else(named)
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

/// One price, or `[least, usual, most]` in that order.
fn open_rate(node: &Node, notes: &mut Notes) -> Option<Spread<Rate>> {
    let open = spread(node, notes, rate)?;
    if open.low > open.expected || open.expected > open.high {
        notes.add(
            node.at,
            "the ends of this price are out of order",
            "write [least, usual, most]",
        );
        return None;
    }
    Some(open)
}

fn number<T: std::str::FromStr>(fields: &Fields, key: &str, notes: &mut Notes) -> Option<T> {
    fields.need(key, notes)?.count(notes)
}

/// A whole number that is not 0.
fn some<T: std::str::FromStr + PartialOrd + Default>(node: &Node, notes: &mut Notes) -> Option<T> {
    node.read(notes, "a whole number, 1 or more", |text| {
        text.parse().ok().filter(|number| *number > T::default())
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

pub(super) fn usd(node: &Node, notes: &mut Notes) -> Option<Usd> {
    node.read(notes, PRICE, |text| {
        text.parse().ok().filter(|&usd: &Usd| usd >= Usd::ZERO)
    })
}

pub(super) fn rate(node: &Node, notes: &mut Notes) -> Option<Rate> {
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
