//! What a rule did to a call, for programs and for people.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::facts::{Named, Prompts};
use crate::action::{Action, Applied};
use crate::image::words;
use crate::money::Usd;

words! {
    /// What a rule did.
    Did {
        Change = "change",
        Route = "route",
        Retry = "retry",
        Stop = "stop",
        Refuse = "refuse",
        Answer = "answer",
        Cache = "cache",
        Tag = "tag",
        /// The hook failed; the call went on as though it had said nothing.
        Error = "error",
    }
}

impl Did {
    /// The word for an action.
    pub const fn of(action: &Action) -> Did {
        match action {
            Action::Change(_) => Did::Change,
            Action::Route(_) => Did::Route,
            Action::Retry { .. } => Did::Retry,
            Action::Stop { .. } => Did::Stop,
            Action::Refuse { .. } => Did::Refuse,
            Action::Answer { .. } => Did::Answer,
            Action::Cache(_) => Did::Cache,
            Action::Tag { .. } => Did::Tag,
        }
    }
}

words! {
    /// What a budget did to a call.
    BudgetDid {
        Ok = "ok",
        Warned = "warned",
        /// A plugin was asked for something cheaper.
        Degraded = "degraded",
        Refused = "refused",
    }
}

/// One action of one hook, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleRecord {
    pub plugin: Arc<str>,
    /// Digest of the plugin's file.
    pub digest: Arc<str>,
    pub hook: Cow<'static, str>,
    pub did: Did,
    pub applied: bool,
    /// Why it was not applied, or not all of it.
    pub skipped: Option<String>,
    /// For moves: the model before.
    pub from: Option<String>,
    /// For moves: the model after.
    pub to: Option<String>,
    /// Fields and the values they were set to.
    pub set: Named<Value>,
    /// The rule's own words.
    pub why: String,
    /// `file:line`.
    pub at: String,
    /// Where it was only observed: what it would have come to.
    pub would: Option<RuleWould>,
    /// How long the hook took.
    pub us: u64,
    /// One sentence for people.
    pub text: String,
}

/// What an action would have come to, at the quotes of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleWould {
    /// The price of the request with the action carried out.
    pub cost: Option<Usd>,
    /// What it would have been without, less that.
    pub saved: Option<Usd>,
}

impl RuleRecord {
    /// An action as it was returned, not yet applied.
    pub fn new(
        plugin: Arc<str>,
        digest: Arc<str>,
        hook: impl Into<Cow<'static, str>>,
        action: &Action,
        at: impl Into<String>,
    ) -> RuleRecord {
        RuleRecord {
            plugin,
            digest,
            hook: hook.into(),
            did: Did::of(action),
            applied: false,
            skipped: None,
            from: None,
            to: None,
            set: Named::default(),
            why: action.reason().unwrap_or_default().to_owned(),
            at: at.into(),
            would: None,
            us: 0,
            text: String::new(),
        }
    }

    /// It was only observed: `before` and `after` are the prices without and with it.
    pub fn observe(&mut self, before: Option<Usd>, after: Option<Usd>) {
        self.would = Some(RuleWould {
            cost: after,
            saved: before.zip(after).map(|(before, after)| before - after),
        });
    }

    /// A hook that failed. `why` names the error, `at` its file and line.
    pub fn error(
        plugin: Arc<str>,
        digest: Arc<str>,
        hook: impl Into<Cow<'static, str>>,
        why: impl Into<String>,
        at: impl Into<String>,
    ) -> RuleRecord {
        RuleRecord {
            plugin,
            digest,
            hook: hook.into(),
            did: Did::Error,
            applied: false,
            skipped: None,
            from: None,
            to: None,
            set: Named::default(),
            why: why.into(),
            at: at.into(),
            would: None,
            us: 0,
            text: String::new(),
        }
        .worded()
    }

    /// Takes over what applying a change came to. Prompts are kept as `prompts` allows, and the
    /// name of an app's user not at all.
    pub fn take(&mut self, applied: &Applied, prompts: Prompts) {
        for (field, text) in &applied.set {
            self.set.put(*field, value(field, text, prompts));
        }
        self.applied |= !applied.set.is_empty();
        self.skipped.clone_from(&applied.skipped);
    }

    /// Writes [`RuleRecord::text`] from the rest.
    #[must_use]
    pub fn worded(mut self) -> RuleRecord {
        self.text = self.sentence();
        self
    }

    fn sentence(&self) -> String {
        let mut text = format!("{}: {}", self.plugin, self.deed());
        if let Some(skipped) = &self.skipped {
            let _ = write!(text, "; skipped: {skipped}");
        }
        if !self.why.is_empty() && self.did != Did::Error {
            let _ = write!(text, " ({})", self.why);
        }
        text
    }

    fn deed(&self) -> String {
        let set = self.settings();
        if !self.applied && self.did != Did::Error {
            let to = self.to.as_deref().map(|to| format!(" to {to}"));
            return format!("no {}{}", self.did, to.unwrap_or_default());
        }
        match self.did {
            Did::Route => {
                let to = self.to.as_deref().unwrap_or("another model");
                if set.is_empty() {
                    format!("to {to}")
                } else {
                    format!("to {to} with {set}")
                }
            }
            Did::Change if set.is_empty() => "changed nothing".to_owned(),
            Did::Change => set,
            Did::Retry => "once more".to_owned(),
            Did::Stop => "no further attempt".to_owned(),
            Did::Refuse => "refused".to_owned(),
            Did::Answer => "answered with a picture of its own".to_owned(),
            Did::Cache => format!("cache {set}").trim_end().to_owned(),
            Did::Tag => format!("tagged {set}").trim_end().to_owned(),
            Did::Error => format!("failed at {}: {}", self.at, self.why),
        }
    }

    fn settings(&self) -> String {
        let mut text = String::new();
        for (field, value) in &self.set.0 {
            let between = if text.is_empty() { "" } else { ", " };
            let _ = match value {
                Value::String(word) => write!(text, "{between}{field} {word}"),
                Value::Null => write!(text, "{between}no {field}"),
                other => write!(text, "{between}{field} {other}"),
            };
        }
        text
    }
}

/// A field's new value as JSON: numbers as numbers, what was taken away as null.
fn value(field: &str, text: &str, prompts: Prompts) -> Value {
    match field {
        "prompt" | "negative_prompt" => prompts.keep(text).map_or(Value::Null, Value::String),
        "user" => Value::Null,
        _ if text == "none" => Value::Null,
        "n" | "seed" | "steps" | "guidance" | "strength" | "compression" => text
            .parse::<Number>()
            .map_or_else(|_| Value::String(text.to_owned()), Value::Number),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Change;

    fn change(set: &[(&'static str, &str)], why: &str) -> RuleRecord {
        let action = Action::Change(Change {
            reason: Some(why.to_owned()),
            ..Change::default()
        });
        let mut record = RuleRecord::new(
            "icons".into(),
            "d1".into(),
            "on_request",
            &action,
            "i.lua:3",
        );
        let applied = Applied {
            set: set
                .iter()
                .map(|(field, value)| (*field, (*value).to_owned()))
                .collect(),
            skipped: None,
        };
        record.take(&applied, Prompts::Head);
        record.worded()
    }

    #[test]
    fn a_rule_reads_as_one_sentence() {
        assert_eq!(
            change(&[("size", "512x512"), ("n", "1")], "icons are small").text,
            "icons: size 512x512, n 1 (icons are small)"
        );
        let mut route = change(&[], "cheaper");
        route.did = Did::Route;
        route.applied = true;
        route.to = Some("stability/sd3.5-medium".into());
        assert_eq!(
            route.clone().worded().text,
            "icons: to stability/sd3.5-medium (cheaper)"
        );
        route.applied = false;
        route.skipped = Some("no key for stability".into());
        assert_eq!(
            route.worded().text,
            "icons: no route to stability/sd3.5-medium; skipped: no key for stability (cheaper)"
        );
    }

    #[test]
    fn a_hook_that_failed_names_its_line() {
        let failed = RuleRecord::error(
            "icons".into(),
            "d1".into(),
            "on_request",
            "attempt to index nil",
            "icons.lua:7",
        );
        assert_eq!(
            failed.text,
            "icons: failed at icons.lua:7: attempt to index nil"
        );
    }

    #[test]
    fn values_keep_their_kind_and_secrets_stay_out() {
        let record = change(
            &[
                ("n", "2"),
                ("quality", "none"),
                ("user", "ann"),
                ("size", "1024x1024"),
            ],
            "",
        );
        assert_eq!(
            serde_json::to_value(&record.set).unwrap(),
            serde_json::json!({"n": 2, "quality": null, "user": null, "size": "1024x1024"})
        );
        assert_eq!(value("prompt", "a cat", Prompts::Hash), Value::Null);
        assert_eq!(value("prompt", "none", Prompts::Head), Value::from("none"));
    }
}
