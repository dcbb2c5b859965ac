//! From written values to typed ones, one kind a function.
//!
//! Each says what it expected with an example, and goes on: all mistakes of a file come at once.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use super::address::Upstream;
use super::problem::{Problem, nearest};
use super::raw::{Field, Scalar, Surroundings, Value};
use super::units;
use crate::money::Usd;
use crate::secret::Secret;

/// Collects what is wrong while values are read.
pub(super) struct Reader<'a> {
    pub(super) around: &'a Surroundings<'a>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

/// A closed set of words, for messages and for reading.
pub(super) trait Words: Copy + 'static {
    const WORDS: &'static [Self];
    fn word(self) -> &'static str;
}

/// Lets [`Reader::word`] read a set that was declared with `words!`.
macro_rules! readable {
    ($($name:ty),+ $(,)?) => {
        $(impl $crate::config::read::Words for $name {
            const WORDS: &'static [Self] = Self::ALL;
            fn word(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}
pub(super) use readable;

impl<'a> Reader<'a> {
    pub(super) fn new(around: &'a Surroundings<'a>) -> Reader<'a> {
        Reader {
            around,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// Reports a value that cannot be used.
    pub(super) fn bad(&mut self, field: &Field<'_>, why: impl Display, remedy: impl Into<String>) {
        let message = format!("`{}`: {why}", field.path);
        self.problems
            .push(Problem::at(field.place(), "bad_value", message).remedy(remedy));
    }

    /// Reports something that works and is probably not meant.
    pub(super) fn warn(
        &mut self,
        field: &Field<'_>,
        code: &'static str,
        why: impl Display,
        remedy: impl Into<String>,
    ) {
        let message = format!("`{}`: {why}", field.path);
        self.warnings
            .push(Problem::at(field.place(), code, message).remedy(remedy));
    }

    /// Reports a key that a section cannot do without.
    pub(super) fn missing(&mut self, of: &Field<'_>, key: &str, remedy: impl Into<String>) {
        let message = format!("`{}` has no `{key}`", of.path);
        self.problems
            .push(Problem::at(of.key_place, "missing_key", message).remedy(remedy));
    }

    /// A single value's text.
    pub(super) fn scalar<'f>(&mut self, field: &Field<'f>, example: &str) -> Option<&'f Scalar> {
        match &field.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Broken | Value::Null => None,
            Value::List(_) | Value::Map(_) => {
                let kind = field.node.kind();
                let message = format!("`{}` should be a single value, not {kind}", field.path);
                self.problems.push(
                    Problem::at(field.place(), "wrong_type", message)
                        .remedy(format!("write it like `{}: {example}`", field.name())),
                );
                None
            }
        }
    }

    /// A value that `parse` understands; its error continues a sentence about the written text.
    pub(super) fn parsed<T>(
        &mut self,
        field: &Field<'_>,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let scalar = self.scalar(field, example)?;
        match parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(why) => {
                let why = format!("`{}` {why}", scalar.shown());
                self.bad(
                    field,
                    why,
                    format!("write it like `{}: {example}`", field.name()),
                );
                None
            }
        }
    }

    /// As [`Reader::parsed`], for a value that must not be quoted: its error says nothing of it.
    pub(super) fn hidden<T>(
        &mut self,
        field: &Field<'_>,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let scalar = self.scalar(field, example)?;
        match parse(&scalar.text) {
            Ok(value) => Some(value),
            Err(why) => {
                let why = format!("the value {why}");
                self.bad(
                    field,
                    why,
                    format!("write it like `{}: {example}`", field.name()),
                );
                None
            }
        }
    }

    pub(super) fn text(&mut self, field: &Field<'_>, example: &str) -> Option<String> {
        self.parsed(field, example, |text| match text.trim() {
            "" => Err("is empty".to_owned()),
            text => Ok(text.to_owned()),
        })
    }

    pub(super) fn truth(&mut self, field: &Field<'_>) -> Option<bool> {
        self.parsed(field, "true", |text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        })
    }

    /// A whole number of at least 1 and at most `most`.
    pub(super) fn count(&mut self, field: &Field<'_>, most: u32) -> Option<u32> {
        self.parsed(field, "4", |text| match text.parse::<i64>() {
            Err(_) => Err("is not a whole number".to_owned()),
            Ok(number) if number < 1 => Err("is less than 1".to_owned()),
            Ok(number) => u32::try_from(number)
                .ok()
                .filter(|number| *number <= most)
                .ok_or_else(|| format!("is more than {most}")),
        })
    }

    /// An amount above zero, or zero where `zero` allows it.
    pub(super) fn usd(&mut self, field: &Field<'_>, example: &str, zero: bool) -> Option<Usd> {
        self.parsed(field, example, |text| match text.parse::<Usd>() {
            Err(_) => Err("is not an amount of US dollars".to_owned()),
            Ok(amount) if amount < Usd::ZERO => Err("is negative".to_owned()),
            Ok(amount) if amount.is_zero() && !zero => Err("leaves nothing to spend".to_owned()),
            Ok(amount) => Ok(amount),
        })
    }

    pub(super) fn bytes(&mut self, field: &Field<'_>, example: &str) -> Option<u64> {
        self.parsed(field, example, units::bytes)
    }

    pub(super) fn duration(&mut self, field: &Field<'_>, example: &str) -> Option<Duration> {
        self.parsed(field, example, units::duration)
    }

    /// One word of a closed set.
    pub(super) fn word<T: Words>(&mut self, field: &Field<'_>) -> Option<T> {
        let first = T::WORDS.first()?.word();
        let scalar = self.scalar(field, first)?;
        let found = T::WORDS.iter().find(|word| word.word() == scalar.text);
        if found.is_none() {
            let all: Vec<&str> = T::WORDS.iter().map(|word| word.word()).collect();
            let remedy = match nearest(&scalar.text, all.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write `{}: {first}`", field.name()),
            };
            let why = format!("`{}` is none of {}", scalar.shown(), all.join(", "));
            self.bad(field, why, remedy);
        }
        found.copied()
    }

    /// A text that is kept from sight, fit for a header.
    pub(super) fn secret(&mut self, field: &Field<'_>, example: &str) -> Option<Secret> {
        self.hidden(field, example, |text| {
            if text.is_empty() {
                return Err("is empty".to_owned());
            }
            match text.bytes().all(|b| b.is_ascii_graphic()) {
                true => Ok(Secret::new(text)),
                false => {
                    Err("has a space, a line end or a letter that no header can carry".to_owned())
                }
            }
        })
    }

    pub(super) fn server(&mut self, field: &Field<'_>, example: &str) -> Option<Upstream> {
        self.hidden(field, example, Upstream::parse)
    }

    /// A path that need not be there yet.
    pub(super) fn path(&mut self, field: &Field<'_>, example: &str) -> Option<PathBuf> {
        let around = self.around;
        let place = field.place();
        self.parsed(field, example, |text| around.path(text, place))
    }

    /// The path of a file that must be there.
    pub(super) fn file(&mut self, field: &Field<'_>, example: &str) -> Option<PathBuf> {
        let path = self.path(field, example)?;
        if !path.is_file() {
            let message = format!("`{}`: there is no file {}", field.path, path.display());
            self.problems.push(
                Problem::at(field.place(), "missing_file", message)
                    .remedy("check the path; a relative one starts at the configuration's folder"),
            );
        }
        Some(path)
    }

    /// The items of a list; a single value counts as a list of one.
    pub(super) fn items<'f>(&mut self, field: &Field<'f>, example: &str) -> Vec<Field<'f>> {
        match &field.node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .filter(|(_, item)| !matches!(item.value, Value::Null))
                .map(|(index, item)| field.item(index, item))
                .collect(),
            Value::Scalar(_) => vec![field.clone()],
            Value::Null | Value::Broken => Vec::new(),
            Value::Map(_) => {
                let message = format!("`{}` should be a list, not a map", field.path);
                self.problems.push(
                    Problem::at(field.place(), "wrong_type", message)
                        .remedy(format!("write it like `{}: {example}`", field.name())),
                );
                Vec::new()
            }
        }
    }
}
