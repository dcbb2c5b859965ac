//! One model in the book: what it can do, what it costs, and who says so.

use super::account::Standing;
use super::capability;
use super::formula::Price;
use super::node::{Fields, Mark, Node, Notes};
use super::provider::ProviderRow;
use super::reading;
use super::resolution::Resolution;
use super::spread::Spread;
use crate::image::{Capability, Format, ModelId, Quality};

/// A model's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// The name that decisions and reports use, whichever alias the app wrote.
    pub id: ModelId,
    pub capability: Capability,
    pub price: Price,
    /// What an unsaid or `auto` quality may turn out to be.
    pub auto_quality: Spread<Quality>,
    /// What an unsaid or `auto` size may turn out to be, besides the usual.
    pub auto_sizes: Vec<(u32, u32)>,
    /// Resolutions that the model's sizes come in besides their own.
    pub resolutions: Vec<&'static Resolution>,
    /// Formats whose price nobody publishes: such a request is unpriced.
    pub unpriced_formats: Vec<Format>,
    /// Where the figures were read.
    pub source: String,
    /// The day on which they were read, `YYYY-MM-DD`.
    pub as_of: String,
    /// First day of the price, where it has one.
    pub valid_from: Option<String>,
    /// First day that the price no longer holds, where there is one.
    pub valid_to: Option<String>,
    pub note: Option<String>,
    /// How whoever asks stands with the provider. No part of what a file says.
    pub(super) standing: Standing,
}

impl ModelRow {
    /// Whether pictures of this format have a price.
    pub(super) fn prices(&self, format: Option<Format>) -> bool {
        format.is_none_or(|format| !self.unpriced_formats.contains(&format))
    }

    /// Whether the price depends on how much was bought before.
    pub fn counts_volume(&self) -> bool {
        let factors = &self.price.modifiers;
        !factors.volume.is_empty() || factors.free_images > 0
    }

    /// Pictures bought in its provider's period, as the book was told; `None` where nobody counts.
    pub fn bought_before(&self) -> Option<u64> {
        self.standing.account().used
    }

    /// Takes over what its provider adds to every price, where the row says nothing of its own.
    pub(super) fn inherit(&mut self, provider: &ProviderRow) {
        let own = &mut self.price.modifiers;
        own.markup = own.markup.or(provider.markup);
        own.fee = own.fee.or(provider.fee);
    }

    /// Whether the price holds on `day` (`YYYY-MM-DD`).
    pub fn holds_on(&self, day: &str) -> bool {
        self.valid_from.as_deref().is_none_or(|from| from <= day)
            && self.valid_to.as_deref().is_none_or(|to| day < to)
    }

    /// Whether there is a day on which both prices hold.
    pub(super) fn overlaps(&self, other: &ModelRow) -> bool {
        let before = |a: &ModelRow, b: &ModelRow| match (&a.valid_to, &b.valid_from) {
            (Some(to), Some(from)) => to <= from,
            _ => false,
        };
        !before(self, other) && !before(other, self)
    }
}

/// A row as it was read, with the places that only the whole book can judge.
pub(super) struct Read {
    pub(super) row: ModelRow,
    pub(super) at: Mark,
    pub(super) aliases: Vec<(ModelId, Mark)>,
    pub(super) successor_at: Mark,
}

const KNOWN: &[&str] = &[
    "model",
    "aliases",
    "capability",
    "resolutions",
    "auto",
    "price",
    "unpriced_formats",
    "retired_on",
    "successor",
    "source",
    "as_of",
    "valid_from",
    "valid_to",
    "note",
    "currency",
];

/// `None` when the row cannot stand; all that is wrong with it is noted.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<Read> {
    let fields = node.fields("a model's row", KNOWN, notes)?;
    let id = fields
        .need("model", notes)
        .and_then(|node| node.model(notes));
    let capability = fields
        .need("capability", notes)
        .and_then(|node| capability::read(node, notes));
    let price = fields
        .need("price", notes)
        .and_then(|node| reading::price(node, notes));
    let origin = origin(&fields, notes);
    check_currency(&fields, notes);
    let mut capability = capability?;
    capability.retired_on = fields.get("retired_on").and_then(|node| node.day(notes));
    let successor = fields.get("successor");
    capability.successor = successor
        .and_then(|node| node.model(notes))
        .map(|id| id.to_string());
    let resolutions = read_resolutions(&fields, notes);
    capability.resolutions = resolutions.iter().map(|known| known.word).collect();
    let (auto_quality, auto_sizes) = read_auto(&fields, &capability, notes);
    let origin = origin?;
    let row = ModelRow {
        auto_quality: auto_quality?,
        auto_sizes,
        resolutions,
        unpriced_formats: fields.words("unpriced_formats", notes),
        valid_from: fields.get("valid_from").and_then(|node| node.day(notes)),
        valid_to: fields.get("valid_to").and_then(|node| node.day(notes)),
        id: id?,
        price: price?,
        source: origin.source,
        as_of: origin.as_of,
        note: origin.note,
        capability,
        standing: Standing::default(),
    };
    check_validity(&row, &fields, notes);
    Some(Read {
        row,
        at: node.at,
        aliases: read_aliases(&fields, notes),
        successor_at: successor.map_or(node.at, |node| node.at),
    })
}

/// Who says so, and when it was read.
pub(super) struct Origin {
    pub(super) source: String,
    pub(super) as_of: String,
    pub(super) note: Option<String>,
}

/// `source`, `as_of` and, where there is one, `note`.
pub(super) fn origin(fields: &Fields, notes: &mut Notes) -> Option<Origin> {
    let source = said(fields, "source", notes);
    let as_of = fields.need("as_of", notes).and_then(|node| node.day(notes));
    let note = fields.get("note").and_then(|node| node.text(notes));
    Some(Origin {
        note: note.map(str::to_owned),
        source: source?,
        as_of: as_of?,
    })
}

/// Prices are in US dollars, said or not.
pub(super) fn check_currency(fields: &Fields, notes: &mut Notes) {
    let Some(node) = fields.get("currency") else {
        return;
    };
    let text = node.text(notes).unwrap_or("USD");
    if text != "USD" {
        notes.add(
            node.at,
            format!("`{text}` is no currency that the book reckons in"),
            "write the prices in USD, converted at the rate you are billed at",
        );
    }
}

fn read_resolutions(fields: &Fields, notes: &mut Notes) -> Vec<&'static Resolution> {
    let list = fields.get("resolutions").and_then(|node| node.list(notes));
    let read = |node: &Node| {
        let wanted = format!("one of {}", Resolution::words());
        node.read(notes, &wanted, Resolution::find)
    };
    list.unwrap_or_default().iter().filter_map(read).collect()
}

/// A text that is there and not empty.
fn said(fields: &Fields, key: &str, notes: &mut Notes) -> Option<String> {
    let wanted = "a word about where the figures were read";
    let node = fields.need(key, notes)?;
    node.read(notes, wanted, |text| {
        (!text.trim().is_empty()).then(|| text.to_owned())
    })
}

fn check_validity(row: &ModelRow, fields: &Fields, notes: &mut Notes) {
    if let (Some(from), Some(to)) = (&row.valid_from, &row.valid_to)
        && to <= from
    {
        notes.add(
            fields.get("valid_to").map_or(fields.at, |node| node.at),
            format!("the price ends on {to} and begins on {from}"),
            "let valid_to be a later day than valid_from",
        );
    }
}

fn read_aliases(fields: &Fields, notes: &mut Notes) -> Vec<(ModelId, Mark)> {
    let Some(list) = fields.get("aliases").and_then(|node| node.list(notes)) else {
        return Vec::new();
    };
    list.iter()
        .filter_map(|node| Some((node.model(notes)?, node.at)))
        .collect()
}

/// What `auto` stands for. A model with several qualities has to say.
fn read_auto(
    fields: &Fields,
    capability: &Capability,
    notes: &mut Notes,
) -> (Option<Spread<Quality>>, Vec<(u32, u32)>) {
    let only = match capability.qualities.as_slice() {
        [] => Some(Spread::exact(Quality::Standard)),
        [only] => Some(Spread::exact(*only)),
        _ => None,
    };
    let auto = fields
        .get("auto")
        .and_then(|node| node.fields("auto", &["quality", "sizes"], notes));
    let said = auto.as_ref().and_then(|auto| auto.get("quality"));
    let quality = match said {
        Some(node) => reading::spread(node, notes, |node, notes| node.word::<Quality>(notes)),
        None => only,
    };
    if said.is_none() && only.is_none() {
        notes.add(
            fields.at,
            "the model has several qualities and the row does not say what `auto` comes to",
            "add `auto: {quality: [least, usual, most]}`",
        );
    }
    let sizes = auto
        .and_then(|auto| auto.get("sizes"))
        .and_then(|node| node.list(notes));
    let sizes = sizes.map(|list| list.iter().filter_map(|node| node.pixels(notes)).collect());
    (quality, sizes.unwrap_or_default())
}
