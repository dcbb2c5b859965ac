//! A price file as a tree that remembers where everything stood, and the mistakes found in it.
//!
//! Scalars stay the text they were written as: a price is read from its own digits and never
//! passes through a float. Knows nothing of the syntax the tree came from.

use std::fmt;

use serde::Serialize;

use crate::image::{Aspect, Delivery, Format, ModelId, Operation, Quality, Safety, Size, Tier};

/// A mistake in a price file: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriceProblem {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1.
    pub column: usize,
    pub message: String,
    pub remedy: String,
}

impl fmt::Display for PriceProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PriceProblem {
            file,
            line,
            column,
            message,
            remedy,
        } = self;
        write!(f, "{file}:{line}:{column}: {message}; {remedy}")
    }
}

impl std::error::Error for PriceProblem {}

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The mistakes of one file as they are found.
pub(super) struct Notes<'a> {
    pub(super) file: &'a str,
    pub(super) found: Vec<PriceProblem>,
}

impl<'a> Notes<'a> {
    pub(super) fn new(file: &'a str) -> Notes<'a> {
        Notes {
            file,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, at: Mark, message: impl Into<String>, remedy: impl Into<String>) {
        self.found.push(PriceProblem {
            file: self.file.to_owned(),
            line: at.line,
            column: at.column,
            message: message.into(),
            remedy: remedy.into(),
        });
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_at: Mark,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.what {
            What::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text(&self, notes: &mut Notes) -> Option<&str> {
        let text = self.as_text();
        if text.is_none() {
            notes.add(
                self.at,
                "a list or a mapping stands where one value is wanted",
                "write a single value",
            );
        }
        text
    }

    pub(super) fn list(&self, notes: &mut Notes) -> Option<&[Node]> {
        if let What::List(items) = &self.what {
            return Some(items);
        }
        notes.add(self.at, "a list is wanted here", "write it like [a, b]");
        None
    }

    pub(super) fn entries(&self, notes: &mut Notes) -> Option<&[Entry]> {
        if let What::Map(entries) = &self.what {
            return Some(entries);
        }
        notes.add(
            self.at,
            "keys with values are wanted here",
            "write it like {key: value}",
        );
        None
    }

    /// The mapping's fields, with every key that is none of `known` noted.
    pub(super) fn fields(
        &self,
        of: &'static str,
        known: &[&str],
        notes: &mut Notes,
    ) -> Option<Fields<'_>> {
        let entries = self.entries(notes)?;
        for entry in entries
            .iter()
            .filter(|entry| !known.contains(&entry.key.as_str()))
        {
            notes.add(
                entry.key_at,
                format!("{of} has no `{}`", entry.key),
                format!("use one of {}", known.join(", ")),
            );
        }
        Some(Fields {
            at: self.at,
            of,
            entries,
        })
    }

    /// A scalar that `read` understands; else `wanted` says what would do.
    pub(super) fn read<T>(
        &self,
        notes: &mut Notes,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(notes)?;
        let value = read(text);
        if value.is_none() {
            notes.add(
                self.at,
                format!("`{text}` is not {wanted}"),
                format!("write {wanted}"),
            );
        }
        value
    }

    pub(super) fn word<T: Word>(&self, notes: &mut Notes) -> Option<T> {
        let text = self.text(notes)?;
        let value = T::find(text);
        if value.is_none() {
            notes.add(
                self.at,
                format!("`{text}` is no {}", T::WHAT),
                format!("use one of {}", T::all()),
            );
        }
        value
    }

    pub(super) fn words<T: Word>(&self, notes: &mut Notes) -> Option<Vec<T>> {
        let words = self.list(notes)?.iter();
        Some(words.filter_map(|word| word.word(notes)).collect())
    }

    pub(super) fn texts(&self, notes: &mut Notes) -> Option<Vec<String>> {
        let texts = self.list(notes)?.iter();
        Some(
            texts
                .filter_map(|text| text.text(notes).map(str::to_owned))
                .collect(),
        )
    }

    pub(super) fn count<T: std::str::FromStr>(&self, notes: &mut Notes) -> Option<T> {
        self.read(notes, "a whole number, 0 or more", |text| text.parse().ok())
    }

    pub(super) fn pixels(&self, notes: &mut Notes) -> Option<(u32, u32)> {
        self.read(notes, "a size in pixels, like 1024x1536", pixels)
    }

    pub(super) fn day(&self, notes: &mut Notes) -> Option<String> {
        self.read(notes, "a day, like 2026-11-22", |text| {
            let day = text.parse::<jiff::civil::Date>().ok()?;
            (day.to_string() == text).then(|| text.to_owned())
        })
    }

    pub(super) fn model(&self, notes: &mut Notes) -> Option<ModelId> {
        self.read(
            notes,
            "a model with its provider, like stability/sd3.5-medium",
            ModelId::parse,
        )
    }

    pub(super) fn flag(&self, notes: &mut Notes) -> Option<bool> {
        self.read(notes, "true or false", |text| text.parse().ok())
    }
}

/// Both sides from text like `1024x1536`.
pub(super) fn pixels(text: &str) -> Option<(u32, u32)> {
    Size::parse(text)?.pixels()
}

/// A shape from text like `16:9`.
pub(super) fn aspect(text: &str) -> Option<Aspect> {
    Aspect::parse(text)
}

/// The fields of one mapping.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) at: Mark,
    of: &'static str,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    pub(super) fn need(&self, key: &str, notes: &mut Notes) -> Option<&'n Node> {
        let node = self.get(key);
        if node.is_none() {
            notes.add(
                self.at,
                format!("{} has no `{key}`", self.of),
                format!("add `{key}:`"),
            );
        }
        node
    }

    /// A flag that is `false` when nothing is said.
    pub(super) fn flag(&self, key: &str, notes: &mut Notes) -> bool {
        self.get(key)
            .and_then(|node| node.flag(notes))
            .unwrap_or(false)
    }

    /// A list of words that is empty when nothing is said.
    pub(super) fn words<T: Word>(&self, key: &str, notes: &mut Notes) -> Vec<T> {
        self.get(key)
            .and_then(|node| node.words(notes))
            .unwrap_or_default()
    }

    pub(super) fn texts(&self, key: &str, notes: &mut Notes) -> Vec<String> {
        self.get(key)
            .and_then(|node| node.texts(notes))
            .unwrap_or_default()
    }

    pub(super) fn count(&self, key: &str, unsaid: u32, notes: &mut Notes) -> u32 {
        self.get(key)
            .and_then(|node| node.count(notes))
            .unwrap_or(unsaid)
    }
}

/// A closed set of words that a file may use.
pub(super) trait Word: Sized {
    const WHAT: &'static str;
    fn find(text: &str) -> Option<Self>;
    fn all() -> String;
}

macro_rules! closed_words {
    ($($name:ident is $what:literal,)+) => {$(
        impl Word for $name {
            const WHAT: &'static str = $what;
            fn find(text: &str) -> Option<$name> {
                $name::parse(text)
            }
            fn all() -> String {
                let words: Vec<&str> = $name::ALL.iter().map(|word| word.as_str()).collect();
                words.join(", ")
            }
        }
    )+};
}

closed_words! {
    Operation is "operation",
    Quality is "quality",
    Format is "format",
    Safety is "safety level",
    Tier is "tier",
    Delivery is "delivery",
}
