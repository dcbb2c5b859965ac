//! How much memory a decision takes while it waits to be worded.
//!
//! Near enough for a bound: every list and every text that an app, a rule or a provider can make long is
//! counted, and what is shared with others is counted as though it were not.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use super::decision::{
    AnswerRecord, AttemptRecord, BudgetRecord, By, Decision, ErrorRecord, FailureRecord,
    LostRecord, UnmetRecord,
};
use super::facts::{Asked, InputFacts, Named};
use super::rule::RuleRecord;
use crate::image::ModelId;

/// What a value takes besides its own place.
pub(super) trait Weight {
    /// In bytes.
    fn weight(&self) -> usize;
}

/// Texts of every kind, each by what it is as a `str`.
macro_rules! texts {
    ($($text:ty),+) => {
        $(impl Weight for $text {
            fn weight(&self) -> usize {
                self.len()
            }
        })+
    };
}

texts!(String, Arc<str>, Cow<'static, str>, SmolStr);

impl Weight for ModelId {
    fn weight(&self) -> usize {
        self.as_str().len()
    }
}

impl<T: Weight> Weight for Option<T> {
    fn weight(&self) -> usize {
        self.as_ref().map_or(0, T::weight)
    }
}

impl<T: Weight> Weight for Vec<T> {
    fn weight(&self) -> usize {
        self.len() * size_of::<T>() + self.iter().map(T::weight).sum::<usize>()
    }
}

impl<T: Weight> Weight for Named<T> {
    fn weight(&self) -> usize {
        let each = |(name, value): &(SmolStr, T)| {
            size_of::<(SmolStr, T)>() + name.weight() + value.weight()
        };
        self.0.iter().map(each).sum()
    }
}

impl Weight for Value {
    fn weight(&self) -> usize {
        /// What a map keeps for an entry, in the middle.
        const ENTRY: usize = 64;
        match self {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.weight(),
            Value::Array(items) => items.weight(),
            Value::Object(entries) => {
                let each = |(name, value): (&String, &Value)| ENTRY + name.len() + value.weight();
                entries.iter().map(each).sum()
            }
        }
    }
}

/// Structs by their fields that have a weight.
macro_rules! fields {
    ($($kind:ty: $($field:ident),+;)+) => {
        $(impl Weight for $kind {
            fn weight(&self) -> usize {
                0 $(+ self.$field.weight())+
            }
        })+
    };
}

fields! {
    Decision: app, user, agent, tags, asked, rules, lost, unmet, budgets, attempts, answered, error, notes;
    Asked: model, size, aspect, style, inputs, prompt;
    InputFacts: digest;
    LostRecord: field, target;
    UnmetRecord: wish, got, target;
    BudgetRecord: name, bucket;
    By: plugin, hook;
    AttemptRecord: model, by, failure, sizes, request_id, job, codes;
    FailureRecord: code, message;
    AnswerRecord: model, sizes;
    ErrorRecord: message, remedy;
    RuleRecord: plugin, hook, skipped, from, to, set, why, at, text;
}

#[cfg(test)]
mod tests {
    use super::super::decision::tests::full;
    use super::*;
    use crate::image::{Format, InputRole};

    #[test]
    fn whatever_can_be_long_is_counted() {
        const LONG: usize = 100_000;
        let usual = full().weight();
        assert!(usual < 4 << 10, "{usual}");
        let text = || "x".repeat(LONG);
        let check = |what: &str, grow: &dyn Fn(&mut Decision)| {
            let mut decision = full();
            grow(&mut decision);
            assert!(decision.weight() >= LONG, "{what}");
        };
        check("app", &|all| all.app = text().into());
        check("user", &|all| all.user = Some(text().into()));
        check("agent", &|all| all.agent = text().into());
        check("a tag", &|all| all.tags.push(text().into()));
        check("tags", &|all| all.tags = vec!["a".into(); LONG / 16]);
        check("a note", &|all| all.notes.push(text()));
        check("the prompt", &|all| all.asked.prompt = Some(text()));
        check("the style", &|all| all.asked.style = Some(text()));
        check("the aspect", &|all| all.asked.aspect = Some(text()));
        check("the model", &|all| {
            all.asked.model = ModelId::new("openai", &text())
        });
        check("inputs", &|all| {
            let input = InputFacts {
                role: InputRole::Image,
                format: Format::Png,
                width: None,
                height: None,
                bytes: None,
                digest: None,
                source: "url",
            };
            all.asked.inputs = vec![input; LONG / 32];
        });
        check("lost", &|all| all.lost[0].field = text().into());
        check("unmet", &|all| all.unmet[0].wish = text());
        check("attempts", &|all| {
            let attempt = all.attempts[0].clone();
            all.attempts = vec![attempt; LONG / 256];
        });
        check("a failure's code", &|all| {
            all.attempts[0].failure.as_mut().unwrap().code = text();
        });
        check("a failure's message", &|all| {
            all.attempts[0].failure.as_mut().unwrap().message = text();
        });
        check("a request id", &|all| {
            all.attempts[0].request_id = Some(text())
        });
        check("a job", &|all| all.attempts[0].job = Some(text()));
        check("sizes", &|all| all.attempts[0].sizes.push(text()));
        check("a billing code", &|all| {
            all.attempts[0].codes.put("a", text().into())
        });
        check("a billing code's name", &|all| {
            all.attempts[0].codes.put(text(), "a".into())
        });
        check("billing codes", &|all| {
            (0..LONG / 32).for_each(|i| all.attempts[0].codes.put(i.to_string(), "1".into()));
        });
        check("a rule's words", &|all| all.rules[0].why = text());
        check("a rule's text", &|all| all.rules[0].text = text());
        check("what a rule set", &|all| {
            all.rules[0]
                .set
                .put("a", serde_json::json!([{"b": text()}]));
        });
        check("an error", &|all| {
            all.error.as_mut().unwrap().message = text()
        });
        check("a remedy", &|all| {
            all.error.as_mut().unwrap().remedy = text()
        });
    }
}
