//! What it costs to keep pictures, and to fetch them from where they are kept.

use serde::Serialize;

use super::node::{Mark, Node, Notes};
use super::reading::rate;
use super::row;
use crate::image::Format;
use crate::money::{Pico, Rate, Usd};

/// Bytes of what stores bill as a gigabyte.
const GIGABYTE: u64 = 1_000_000_000;
/// Days of what they bill as a month.
const MONTH: u64 = 30;
/// How many requests a price for requests is for.
const REQUESTS: u64 = 1000;

/// A place where pictures are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    pub store: String,
    pub per_gb_month: Rate,
    /// Each gigabyte that goes out to the internet.
    pub per_gb_out: Rate,
    pub per_1000_writes: Rate,
    pub per_1000_reads: Rate,
    pub source: String,
    pub as_of: String,
    pub note: Option<String>,
}

impl Store {
    /// Writing so many bytes as one object and keeping them for so many days.
    pub fn keep(&self, bytes: u64, days: u64) -> Usd {
        let kept = self.per_gb_month.of(bytes).scaled(days, GIGABYTE * MONTH);
        (kept + one(self.per_1000_writes)).to_usd()
    }

    /// Fetching an object of so many bytes once.
    pub fn fetch(&self, bytes: u64) -> Usd {
        let sent = self.per_gb_out.of(bytes).scaled(1, GIGABYTE);
        (sent + one(self.per_1000_reads)).to_usd()
    }
}

/// What pictures cost after they were bought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Keeping {
    pub store: String,
    pub pictures: u64,
    /// Of each.
    pub bytes: u64,
    pub days: u64,
    /// How often each is fetched.
    pub fetches: u64,
    /// For writing and keeping, USD.
    pub kept: Usd,
    /// For fetching, USD.
    pub fetched: Usd,
    pub total: Usd,
}

impl Store {
    /// What it costs to keep so many pictures for so many days and to fetch each so often.
    pub fn keeping(&self, pictures: u64, bytes: u64, days: u64, fetches: u64) -> Keeping {
        let kept = self.keep(bytes, days).times(pictures);
        let fetched = self.fetch(bytes).times(pictures.saturating_mul(fetches));
        Keeping {
            store: self.store.clone(),
            pictures,
            bytes,
            days,
            fetches,
            kept,
            fetched,
            total: kept + fetched,
        }
    }
}

/// About how many bytes a picture has, where nobody has seen it: a drawn one of a megapixel takes
/// 1.6 MB as PNG, 0.25 MB as JPEG, 0.15 MB as WebP.
pub fn usual_bytes((width, height): (u32, u32), format: Option<Format>) -> u64 {
    const MEGAPIXEL: u64 = 1 << 20;
    let of_a_megapixel = match format {
        Some(Format::Jpeg) => 250_000,
        Some(Format::Webp | Format::Avif) => 150_000,
        _ => 1_600_000,
    };
    u64::from(width) * u64::from(height) * of_a_megapixel / MEGAPIXEL
}

fn one(per_1000: Rate) -> Pico {
    per_1000.of(1).scaled(1, REQUESTS)
}

pub(super) struct ReadStore {
    pub(super) row: Store,
    pub(super) at: Mark,
}

const KNOWN: &[&str] = &[
    "store",
    "per_gb_month",
    "per_gb_out",
    "per_1000_writes",
    "per_1000_reads",
    "source",
    "as_of",
    "note",
];

/// `None` when it cannot stand; all that is wrong with it is noted.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<ReadStore> {
    let fields = node.fields("a store", KNOWN, notes)?;
    let store = fields.need("store", notes)?.text(notes)?.to_owned();
    let need = |key, notes: &mut Notes| fields.need(key, notes).and_then(|node| rate(node, notes));
    let per_gb_month = need("per_gb_month", notes);
    let per_gb_out = need("per_gb_out", notes);
    let other = |key, notes: &mut Notes| match fields.get(key) {
        Some(node) => rate(node, notes),
        None => Some(Rate::ZERO),
    };
    let (writes, reads) = (
        other("per_1000_writes", notes),
        other("per_1000_reads", notes),
    );
    let origin = row::origin(&fields, notes)?;
    Some(ReadStore {
        at: node.at,
        row: Store {
            store,
            per_gb_month: per_gb_month?,
            per_gb_out: per_gb_out?,
            per_1000_writes: writes?,
            per_1000_reads: reads?,
            source: origin.source,
            as_of: origin.as_of,
            note: origin.note,
        },
    })
}
