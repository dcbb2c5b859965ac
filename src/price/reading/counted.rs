//! Reads a price by the token.

use super::{by_quality, number, per_million, rate, spread, table};
use crate::price::node::{Node, Notes};
use crate::price::term::Tokens;
use crate::price::tokens::{InTokens, OutTokens};

const TOKENS: &[&str] = &[
    "usd_per_million",
    "out",
    "input_image",
    "partial_image",
    "gif_frames",
    "thought",
    "published",
];

pub(super) fn tokens(node: &Node, notes: &mut Notes) -> Option<Tokens> {
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
        thought: fields
            .get("thought")
            .and_then(|node| spread(node, notes, Node::count))
            .unwrap_or_default(),
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
    let fields = node.fields("input_image", &["flat", "patches", "tiles"], notes)?;
    if let Some(node) = fields.get("flat") {
        return node.count(notes).map(InTokens::Flat);
    }
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
                "tokens of an input image come from `flat`, `patches` or `tiles`",
                "write exactly one of them",
            );
            None
        }
    }
}
