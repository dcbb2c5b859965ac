//! One provider in the book: how its answers tell their cost, which failures it bills, what it
//! adds to every price.

use super::book::Book;
use super::modifier::Ratio;
use super::node::{Entry, Fields, Mark, Node, Notes, Word};
use super::reading::{increase, usd};
use super::row;
use super::signal::{Count, Place, Reported, Signals, Unit};
use crate::image::{Billed, Failure, FailureKind, SafetyStage, Sent};

/// What holds for all models of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRow {
    pub provider: String,
    pub signals: Signals,
    /// Whether a kind of failure is billed; safety perhaps by stage.
    pub failures: Vec<(FailureKind, Option<SafetyStage>, Billed)>,
    /// For rows that have none of their own.
    pub markup: Option<Ratio>,
    pub fee: Option<Ratio>,
    pub source: String,
    pub as_of: String,
    pub note: Option<String>,
}

impl ProviderRow {
    /// Whether the provider bills such a failure; `None` where the book does not say.
    pub fn bills(&self, kind: FailureKind, stage: Option<SafetyStage>) -> Option<Billed> {
        let of = |stage| {
            let same = |(known, at, _): &&(FailureKind, Option<SafetyStage>, Billed)| {
                *known == kind && *at == stage
            };
            self.failures.iter().find(same).map(|(.., billed)| *billed)
        };
        of(stage).or_else(|| of(None))
    }
}

impl Book {
    /// Whether a failure was billed, as far as its own evidence and the book together tell.
    ///
    /// What the answer itself showed goes first, except that the book's `yes` goes before a
    /// hope. A doubt is settled by the book, but only where the provider was heard: that it
    /// bills no such answer says nothing about one that nobody got.
    pub fn billed(&self, provider: &str, failure: &Failure) -> Billed {
        if failure.sent == Sent::NotSent {
            return Billed::No;
        }
        let stage = failure.safety.as_ref().and_then(|safety| safety.at);
        let said = self
            .provider(provider)
            .and_then(|row| row.bills(failure.kind, stage));
        match (said, failure.billed) {
            (Some(Billed::Yes), _) => Billed::Yes,
            (Some(Billed::No), Billed::Unknown) if failure.sent != Sent::Unknown => Billed::No,
            (_, seen) => seen,
        }
    }
}

/// A provider as it was read, with its place.
pub(super) struct ReadProvider {
    pub(super) row: ProviderRow,
    pub(super) at: Mark,
}

const KNOWN: &[&str] = &[
    "provider", "charge", "failures", "markup", "fee", "source", "as_of", "note",
];

/// `None` when it cannot stand; all that is wrong with it is noted.
pub(super) fn read(node: &Node, notes: &mut Notes) -> Option<ReadProvider> {
    let fields = node.fields("a provider", KNOWN, notes)?;
    let provider = fields.need("provider", notes).and_then(|node| {
        node.read(notes, "a provider's name, like stability", |text| {
            let fine = !text.is_empty() && !text.contains('/');
            fine.then(|| text.to_owned())
        })
    });
    let signals = match fields.get("charge") {
        Some(node) => read_signals(node, notes)?,
        None => Signals::default(),
    };
    let failures = match fields.get("failures") {
        Some(node) => read_failures(node, notes)?,
        None => Vec::new(),
    };
    let share = |key, notes: &mut Notes| match fields.get(key) {
        Some(node) => increase(node, notes).map(Some),
        None => Some(None),
    };
    let (markup, fee) = (share("markup", notes)?, share("fee", notes)?);
    let origin = row::origin(&fields, notes)?;
    Some(ReadProvider {
        at: node.at,
        row: ProviderRow {
            provider: provider?,
            signals,
            failures,
            markup,
            fee,
            source: origin.source,
            as_of: origin.as_of,
            note: origin.note,
        },
    })
}

/// `{reported: {pointer: /usage/cost, unit: usd}, usage: {text_in: /usage/input_tokens}}`.
fn read_signals(node: &Node, notes: &mut Notes) -> Option<Signals> {
    let fields = node.fields("charge", &["reported", "usage"], notes)?;
    let mut signals = Signals::default();
    if let Some(node) = fields.get("reported") {
        let one = std::slice::from_ref(node);
        let items = match &node.what {
            super::node::What::List(items) => items.as_slice(),
            _ => one,
        };
        for item in items {
            signals.reported.push(read_reported(item, notes)?);
        }
    }
    if let Some(node) = fields.get("usage") {
        for Entry { key, key_at, node } in node.entries(notes)? {
            let Some(count) = Count::parse(key) else {
                notes.add(
                    *key_at,
                    format!("`{key}` is nothing that is counted"),
                    format!(
                        "use one of {}",
                        words(Count::ALL.iter().map(|c| c.as_str()))
                    ),
                );
                return None;
            };
            signals.usage.push((count, read_place(node, notes)?));
        }
    }
    Some(signals)
}

fn read_reported(node: &Node, notes: &mut Notes) -> Option<Reported> {
    const FIELDS: &[&str] = &["pointer", "header", "unit", "usd_per_credit", "where"];
    let fields = node.fields("reported", FIELDS, notes)?;
    let place = place_in(&fields, notes)?;
    let only_where = match fields.get("where") {
        Some(node) => Some(read_where(node, notes)?),
        None => None,
    };
    Some(Reported {
        unit: read_unit(&fields, notes)?,
        place,
        only_where,
    })
}

/// `{pointer: /cost/unit, is: DOLLARS}`.
fn read_where(node: &Node, notes: &mut Notes) -> Option<(Place, String)> {
    let fields = node.fields("where", &["pointer", "header", "is"], notes)?;
    let place = place_in(&fields, notes)?;
    let word = fields.need("is", notes)?.text(notes)?;
    Some((place, word.to_owned()))
}

fn read_unit(fields: &Fields, notes: &mut Notes) -> Option<Unit> {
    let node = fields.need("unit", notes)?;
    let text = node.text(notes)?;
    if text == "credit" {
        let worth = fields.need("usd_per_credit", notes)?;
        return Some(Unit::Credit(usd(worth, notes)?));
    }
    let unit = Unit::ALL.iter().find(|(word, _)| *word == text);
    if unit.is_none() {
        let known = words(Unit::ALL.iter().map(|(word, _)| *word));
        notes.add(
            node.at,
            format!("`{text}` is no unit of money"),
            format!("use one of {known}, credit"),
        );
    }
    unit.map(|(_, unit)| *unit)
}

/// `/usage/cost`, `{pointer: /usage/cost}` or `{header: x-units}`.
fn read_place(node: &Node, notes: &mut Notes) -> Option<Place> {
    if node.as_text().is_some() {
        return pointer(node, notes);
    }
    let fields = node.fields("a place", &["pointer", "header"], notes)?;
    place_in(&fields, notes)
}

fn place_in(fields: &Fields, notes: &mut Notes) -> Option<Place> {
    match (fields.get("pointer"), fields.get("header")) {
        (Some(node), None) => pointer(node, notes),
        (None, Some(node)) => node.read(notes, "a header's name, in small letters", |text| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let fine = !text.is_empty() && text.chars().all(plain);
            fine.then(|| Place::Header(text.to_owned()))
        }),
        _ => {
            notes.add(
                fields.at,
                "something in an answer stands at a `pointer` or in a `header`",
                "write exactly one of them",
            );
            None
        }
    }
}

fn pointer(node: &Node, notes: &mut Notes) -> Option<Place> {
    node.read(notes, "a JSON pointer, like /usage/cost", |text| {
        (text.len() > 1 && text.starts_with('/')).then(|| Place::Pointer(text.to_owned()))
    })
}

/// `{safety: yes, safety_input: no, timeout: unknown}`.
fn read_failures(
    node: &Node,
    notes: &mut Notes,
) -> Option<Vec<(FailureKind, Option<SafetyStage>, Billed)>> {
    let mut failures = Vec::new();
    for Entry { key, key_at, node } in node.entries(notes)? {
        let (kind, stage) = match key.as_str() {
            "safety_input" => (Some(FailureKind::Safety), Some(SafetyStage::Input)),
            "safety_output" => (Some(FailureKind::Safety), Some(SafetyStage::Output)),
            key => (FailureKind::parse(key), None),
        };
        let Some(kind) = kind else {
            let known = words(FailureKind::ALL.iter().map(|kind| kind.as_str()));
            notes.add(
                *key_at,
                format!("`{key}` is no kind of failure"),
                format!("use one of {known}, safety_input, safety_output"),
            );
            return None;
        };
        failures.push((kind, stage, node.word::<Billed>(notes)?));
    }
    Some(failures)
}

fn words(words: impl Iterator<Item = &'static str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

impl Word for Billed {
    const WHAT: &'static str = "answer to whether it is billed";
    fn find(text: &str) -> Option<Billed> {
        Billed::parse(text)
    }
    fn all() -> String {
        words(Billed::ALL.iter().map(|word| word.as_str()))
    }
}
