//! Which lines `pixtoll tail` shows: conditions on fields, and since when.

use std::cmp::Ordering;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::Value;
use thiserror::Error;

/// `KEY=VALUE` and its kin: one condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    path: String,
    op: Op,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Is,
    IsNot,
    Contains,
    Above,
    Below,
    AtLeast,
    AtMost,
}

/// Longer signs first, so that `>=` is not read as `>`.
const SIGNS: &[(&str, Op)] = &[
    ("!=", Op::IsNot),
    (">=", Op::AtLeast),
    ("<=", Op::AtMost),
    ("=", Op::Is),
    ("~", Op::Contains),
    (">", Op::Above),
    ("<", Op::Below),
];

/// Why a text is no condition.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no condition: write a field, one of = != ~ > < >= <=, and a value, like app=catalog"
)]
pub struct NoCondition(String);

impl FromStr for Condition {
    type Err = NoCondition;

    fn from_str(text: &str) -> Result<Condition, NoCondition> {
        let at = text.find(['=', '!', '~', '>', '<']).filter(|at| *at > 0);
        let (path, rest) = at
            .map(|at| text.split_at(at))
            .ok_or_else(|| NoCondition(text.to_owned()))?;
        let (op, value) = SIGNS
            .iter()
            .find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?)))
            .ok_or_else(|| NoCondition(text.to_owned()))?;
        Ok(Condition {
            path: path.trim().to_owned(),
            op,
            value: value.trim().to_owned(),
        })
    }
}

impl Condition {
    /// The dotted path of the field.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the line meets it. A path that leads into a list without a place in it
    /// (`rules.plugin`) asks whether any entry does; `!=` whether none is.
    pub fn holds(&self, line: &Value) -> bool {
        let mut found = Vec::new();
        reach(line, &self.path, &mut found);
        if self.op == Op::IsNot {
            return !found.iter().any(|value| is(value, &self.value));
        }
        found.iter().any(|value| self.meets(value))
    }

    fn meets(&self, value: &Value) -> bool {
        let order = || compare(value, &self.value);
        match self.op {
            Op::Is => is(value, &self.value),
            Op::IsNot => !is(value, &self.value),
            Op::Contains => text(value)
                .to_lowercase()
                .contains(&self.value.to_lowercase()),
            Op::Above => order() == Some(Ordering::Greater),
            Op::Below => order() == Some(Ordering::Less),
            Op::AtLeast => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
            Op::AtMost => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        }
    }
}

/// Every value at the dotted path. Names of billing codes have dots of their own, so the rest of a
/// path is tried as one key too.
fn reach<'a>(value: &'a Value, path: &str, found: &mut Vec<&'a Value>) {
    if let Value::Array(items) = value {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        match first.parse::<usize>() {
            Ok(place) => {
                if let Some(item) = items.get(place) {
                    reach(item, rest, found);
                }
            }
            Err(_) => items.iter().for_each(|item| reach(item, path, found)),
        }
        return;
    }
    if path.is_empty() {
        found.push(value);
        return;
    }
    if let Some(inner) = value.get(path) {
        reach(inner, "", found);
    } else if let Some((first, rest)) = path.split_once('.')
        && let Some(inner) = value.get(first)
    {
        reach(inner, rest, found);
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is(value: &Value, wanted: &str) -> bool {
    text(value) == wanted || value.is_number() && compare(value, wanted) == Some(Ordering::Equal)
}

/// Numbers as numbers, texts (times among them) as texts.
fn compare(value: &Value, wanted: &str) -> Option<Ordering> {
    match value {
        Value::Number(number) => {
            let wanted: f64 = wanted.trim_start_matches('$').parse().ok()?;
            number.as_f64()?.partial_cmp(&wanted)
        }
        Value::String(text) => Some(text.as_str().cmp(wanted)),
        _ => None,
    }
}

/// Why a text tells no moment.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no moment: write how long ago, like 10m or 2d, or a time, like 2026-11-22T18:00:00Z"
)]
pub(super) struct NoMoment(String);

/// The moment that `--since` means: so long ago, or a date or time (UTC where it names no zone).
///
/// # Errors
/// [`NoMoment`] when it is neither.
pub(super) fn since(text: &str, now: Timestamp) -> Result<Timestamp, NoMoment> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(civil) = text.parse::<DateTime>()
        && let Ok(at) = civil.to_zoned(TimeZone::UTC)
    {
        return Ok(at.timestamp());
    }
    text.parse::<Span>()
        .ok()
        .and_then(|ago| now.to_zoned(TimeZone::UTC).checked_sub(ago.abs()).ok())
        .map(|at| at.timestamp())
        .ok_or_else(|| NoMoment(text.to_owned()))
}

/// The moment of a line; `None` when it tells none.
pub(super) fn moment(line: &Value) -> Option<Timestamp> {
    line.get("at")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line() -> Value {
        json!({
            "type": "call", "app": "catalog", "cost": 0.04, "saved": null, "at": "2026-11-22T18:42:07.051Z",
            "tags": ["background", "night"],
            "asked": {"model": "openai/gpt-image-2", "n": 2, "stream": false},
            "attempts": [
                {"model": "openai/gpt-image-2", "codes": {"usage.output_tokens": "4160"}},
                {"model": "stability/sd3.5-medium", "failure": null},
            ],
        })
    }

    #[track_caller]
    fn check(condition: &str, holds: bool) {
        let parsed: Condition = condition.parse().unwrap();
        assert_eq!(parsed.holds(&line()), holds, "{condition}");
    }

    #[test]
    fn conditions_hold_or_not() {
        check("app=catalog", true);
        check("app=cat", false);
        check("app~CAT", true);
        check("app!=catalog", false);
        check("app!=other", true);
        check("attempts.0.model=openai/gpt-image-2", true);
        check("attempts.1.model=openai/gpt-image-2", false);
        check("attempts.2.model=x", false);
        check("attempts.model~sd3.5", true);
        check("attempts.model!=stability/sd3.5-medium", false);
        check("attempts.codes.usage.output_tokens=4160", true);
        check("tags=night", true);
        check("tags.0=night", false);
        check("cost>0.03", true);
        check("cost>$0.04", false);
        check("cost>=0.04", true);
        check("cost<=0.04", true);
        check("cost<0.05", true);
        check("cost=0.040", true);
        check("asked.n=2", true);
        check("asked.stream=false", true);
        check("saved=null", true);
        check("saved>0", false);
        check("nothing=null", false);
        check("nothing!=x", true);
        check("at>2026-11-22T18", true);
        check("asked.model ~ gpt", true);
    }

    #[test]
    fn what_is_no_condition_says_how_to_write_one() {
        for text in ["", "app", "=x", "a!b"] {
            let error = text.parse::<Condition>().unwrap_err();
            assert!(error.to_string().contains("like app=catalog"), "{text}");
        }
    }

    #[test]
    fn a_moment_is_told_in_several_ways() {
        let now: Timestamp = "2026-11-22T18:00:00Z".parse().unwrap();
        let check = |text: &str, expected: &str| {
            assert_eq!(since(text, now), Ok(expected.parse().unwrap()), "{text}");
        };
        check("10m", "2026-11-22T17:50:00Z");
        check("1h30m", "2026-11-22T16:30:00Z");
        check("2d", "2026-11-20T18:00:00Z");
        check("1w", "2026-11-15T18:00:00Z");
        check("2026-11-22T01:02:03+01:00", "2026-11-22T00:02:03Z");
        check("2026-11-22T01:02", "2026-11-22T01:02:00Z");
        check("2026-11-22", "2026-11-22T00:00:00Z");
        assert!(since("yesterday-ish", now).is_err());
        assert!(since("", now).is_err());
    }
}
