//! What a model costs: terms, the cases in which other terms hold, and factors on their sum.

use std::borrow::Cow;

use serde_json::Value;

use super::modifier::{Modifiers, Ratio};
use super::term::Term;
use crate::image::{ImageRequest, Tier};

/// What a model costs. Without terms nobody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// What a request costs that is no case of its own.
    pub terms: Vec<Term>,
    /// The first of these that a request is, is what it costs.
    pub cases: Vec<Case>,
    pub modifiers: Modifiers,
}

/// Requests that say certain things, and what they cost instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Fields of the request, all of which must say so.
    pub when: Vec<(String, Says)>,
    pub terms: Vec<Term>,
}

/// What a field of a request is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// One of these words, in whatever case.
    Words(Vec<String>),
    /// A whole number from the first to the last.
    Between(u64, u64),
}

impl Price {
    /// What the tier makes of the standard price.
    pub fn tier(&self, tier: Tier) -> Ratio {
        self.modifiers.tier(tier)
    }

    /// The terms that hold for a request; none when nobody knows its price.
    pub(super) fn terms_for(&self, request: &ImageRequest) -> &[Term] {
        let case = self.cases.iter().find(|case| case.is(request));
        case.map_or(&self.terms, |case| &case.terms)
    }
}

impl Case {
    fn is(&self, request: &ImageRequest) -> bool {
        self.when.iter().all(|(field, says)| {
            let text = said(request, field);
            text.is_some_and(|text| says.holds(&text))
        })
    }
}

impl Says {
    fn holds(&self, text: &str) -> bool {
        match self {
            Says::Words(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Says::Between(first, last) => text
                .parse()
                .is_ok_and(|number: u64| (*first..=*last).contains(&number)),
        }
    }
}

/// What the request says under a name: one of the house's own fields, else one of the dialect's.
fn said<'r>(request: &'r ImageRequest, field: &str) -> Option<Cow<'r, str>> {
    let word = match field {
        "operation" => Some(request.operation.as_str()),
        "quality" => request.quality.map(|quality| quality.as_str()),
        "background" => request.background.as_deref(),
        "style" => request.style.as_deref(),
        "format" => request.format.map(|format| format.as_str()),
        _ => None,
    };
    if let Some(word) = word {
        return Some(Cow::Borrowed(word));
    }
    match field {
        "steps" => request.steps.map(|steps| Cow::Owned(steps.to_string())),
        "inputs" => Some(Cow::Owned(request.inputs.len().to_string())),
        _ => match request.extra.get(field)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
            _ => None,
        },
    }
}
