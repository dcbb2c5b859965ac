//! Reads what a model can be asked for out of its row.

use super::node::{Fields, Node, Notes, What, aspect, pixels};
use crate::image::Capability;
use crate::image::capability::{FreeSizes, Sizes};

const KNOWN: &[&str] = &[
    "operations",
    "sizes",
    "usual",
    "qualities",
    "formats",
    "max_n",
    "seed",
    "negative_prompt",
    "steps",
    "guidance",
    "strength",
    "styles",
    "backgrounds",
    "compression",
    "max_inputs",
    "mask",
    "stream",
    "safety",
    "tiers",
    "deliveries",
];

/// `None` when something without a default is missing or wrong; all that is wrong is noted.
/// When the model goes, and what follows it, stands in the row and is filled in there.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Capability> {
    let fields = node.fields("a capability", KNOWN, notes)?;
    let operations = fields.need("operations", notes)?.words(notes)?;
    let sizes = fields
        .need("sizes", notes)
        .and_then(|node| read_sizes(node, notes));
    let usual = fields
        .need("usual", notes)
        .and_then(|node| node.pixels(notes));
    Some(Capability {
        operations,
        sizes: sizes?,
        usual: usual?,
        qualities: fields.words("qualities", notes),
        formats: fields.words("formats", notes),
        max_n: fields.count("max_n", 1, notes),
        seed: fields.flag("seed", notes),
        negative_prompt: fields.flag("negative_prompt", notes),
        steps: fields.get("steps").and_then(|node| read_steps(node, notes)),
        guidance: fields.flag("guidance", notes),
        strength: fields.flag("strength", notes),
        styles: fields.texts("styles", notes),
        backgrounds: fields.texts("backgrounds", notes),
        compression: fields.flag("compression", notes),
        max_inputs: fields.count("max_inputs", 0, notes),
        mask: fields.flag("mask", notes),
        stream: fields.flag("stream", notes),
        safety: fields.words("safety", notes),
        tiers: read_tiers(&fields, notes),
        deliveries: fields.words("deliveries", notes),
        retired_on: None,
        successor: None,
        resolutions: Vec::new(), // stand beside the price, in the row
    })
}

/// Every model has the standard tier, said or not.
fn read_tiers(fields: &Fields, notes: &mut Notes) -> Vec<crate::image::Tier> {
    let mut tiers = fields.words("tiers", notes);
    if !tiers.contains(&crate::image::Tier::Standard) {
        tiers.insert(0, crate::image::Tier::Standard);
    }
    tiers
}

fn read_steps(node: &Node, notes: &mut Notes) -> Option<(u32, u32)> {
    match node.list(notes)? {
        [least, most] => Some((least.count(notes)?, most.count(notes)?)),
        _ => {
            notes.add(
                node.at,
                "steps are a least and a most",
                "write it like [10, 50]",
            );
            None
        }
    }
}

/// A list of pixel sizes, `{aspects: {16:9: 1344x768}}`, or `{free: {multiple: 16, …}}`.
fn read_sizes(node: &Node, notes: &mut Notes) -> Option<Sizes> {
    if let What::List(items) = &node.what {
        let list: Vec<_> = items.iter().filter_map(|item| item.pixels(notes)).collect();
        return Some(Sizes::Pixels(list));
    }
    let fields = node.fields("sizes", &["aspects", "free"], notes)?;
    match (fields.get("aspects"), fields.get("free")) {
        (Some(node), None) => read_aspects(node, notes),
        (None, Some(node)) => read_free(node, notes),
        _ => {
            notes.add(
                node.at,
                "sizes are a list, `aspects` or `free`",
                "write exactly one of them",
            );
            None
        }
    }
}

fn read_aspects(node: &Node, notes: &mut Notes) -> Option<Sizes> {
    let mut shapes = Vec::new();
    for entry in node.entries(notes)? {
        let size = entry
            .node
            .read(notes, "a size in pixels, like 1344x768", pixels);
        match (aspect(&entry.key), size) {
            (Some(shape), Some(size)) => shapes.push((shape, size)),
            (None, _) => notes.add(
                entry.key_at,
                format!("`{}` is no shape", entry.key),
                "write it like \"16:9\"",
            ),
            (Some(_), None) => {}
        }
    }
    Some(Sizes::Aspects(shapes))
}

fn read_free(node: &Node, notes: &mut Notes) -> Option<Sizes> {
    const BOUNDS: &[&str] = &[
        "multiple",
        "min_pixels",
        "max_pixels",
        "max_side",
        "max_ratio",
    ];
    let fields = node.fields("free sizes", BOUNDS, notes)?;
    Some(Sizes::Free(FreeSizes {
        multiple: fields.count("multiple", 1, notes).max(1),
        min_pixels: fields.need("min_pixels", notes)?.count(notes)?,
        max_pixels: fields.need("max_pixels", notes)?.count(notes)?,
        max_side: fields.need("max_side", notes)?.count(notes)?,
        max_ratio: fields.count("max_ratio", u32::MAX, notes).max(1),
    }))
}
