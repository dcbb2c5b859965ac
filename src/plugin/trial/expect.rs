//! What a test expects of a decision, and every difference told by the field's name.

use mlua::{Error, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use serde_json::Value as Json;

use super::super::args::show;
use super::super::money::amount;
use super::super::near::no_such;
use super::super::record::{Kind, fact, usd};
use super::here;

/// The decision record of a call, and `sent`: the models that were really asked, in order.
pub(super) struct Decided(pub(super) Json);

impl Decided {
    fn field(&self, name: &str) -> Option<Json> {
        if name != "sent" {
            return self.0.get(name).cloned();
        }
        let attempts = self.0.get("attempts")?.as_array()?;
        let models = attempts.iter().map(|attempt| attempt["model"].clone());
        Some(models.collect())
    }

    fn names(&self) -> Vec<&str> {
        let all = self.0.as_object().into_iter().flatten();
        all.map(|(name, _)| name.as_str()).chain(["sent"]).collect()
    }

    fn unknown(&self, name: &str) -> String {
        no_such(name, "field of the decision log", name, self.names())
    }
}

impl UserData for Decided {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "decision");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: String| {
            match this.field(&name) {
                Some(json) => fact(lua, &name, &json, Kind::of(&name, Kind::Plain)),
                None => Err(here(lua, &this.unknown(&name))),
            }
        });
    }
}

/// `test.expect(decision, fields)`: only what is named is looked at; `false` also means absent.
pub(super) fn expect(lua: &Lua, (decided, fields): (Value, Table)) -> Result<(), Error> {
    let held = decided.as_userdata();
    let decided = held.and_then(|data| data.borrow::<Decided>().ok());
    let decided = decided.ok_or_else(|| here(lua, "test.expect wants what rules:call returned"))?;
    let mut differences = Vec::new();
    for pair in fields.pairs::<String, Value>() {
        let (name, expected) = pair?;
        match decided.field(&name) {
            Some(got) => {
                let kind = Kind::of(&name, Kind::Plain);
                compare(&name, &expected, &got, kind, &mut differences);
            }
            None => return Err(here(lua, &decided.unknown(&name))),
        }
    }
    if differences.is_empty() {
        return Ok(());
    }
    differences.sort();
    let several = differences.len() > 1;
    let text = differences.join(if several { "\n  " } else { "" });
    Err(here(
        lua,
        &format!("{}{text}", if several { "\n  " } else { "" }),
    ))
}

fn compare(path: &str, expected: &Value, got: &Json, kind: Kind, differences: &mut Vec<String>) {
    let same = match (expected, got) {
        (Value::Table(fields), Json::Array(items)) => {
            return compare_lists(path, fields, items, kind, differences);
        }
        (Value::Table(fields), Json::Object(items)) => {
            for pair in fields.pairs::<String, Value>() {
                let Ok((name, expected)) = pair else {
                    differences.push(format!("{path} has fields by name, and is no list"));
                    return;
                };
                let path = format!("{path}.{name}");
                match items.get(&name) {
                    Some(got) => {
                        compare(&path, &expected, got, Kind::of(&name, kind), differences);
                    }
                    None => differences.push(no_such(
                        &path,
                        "field of the decision log",
                        &name,
                        items.keys().map(String::as_str),
                    )),
                }
            }
            return;
        }
        (Value::Boolean(false), Json::Null) => true,
        (Value::Boolean(flag), Json::Bool(got)) => flag == got,
        (Value::String(text), Json::String(got)) => text.to_string_lossy() == *got,
        (_, Json::Number(_)) if kind == Kind::Money => {
            amount(expected).is_some_and(|expected| Some(expected) == usd(got))
        }
        (Value::Integer(whole), Json::Number(number)) => number.as_f64() == Some(*whole as f64),
        (Value::Number(value), Json::Number(number)) => number.as_f64() == Some(*value),
        _ => false,
    };
    if !same {
        let expected = match expected {
            Value::Number(_) | Value::Integer(_) if kind == Kind::Money => {
                format!("{} (money is written usd \"0.02\")", show(expected))
            }
            Value::Table(_) => "a table".to_owned(),
            other => show(other),
        };
        differences.push(format!(
            "{path}: expected {expected}, got {}",
            word(got, kind)
        ));
    }
}

fn compare_lists(
    path: &str,
    expected: &Table,
    got: &[Json],
    kind: Kind,
    differences: &mut Vec<String>,
) {
    let all: Vec<Value> = expected.sequence_values().flatten().collect();
    if all.len() != got.len() {
        let shown: Vec<String> = got.iter().map(|item| word(item, kind)).collect();
        differences.push(format!(
            "{path}: expected {} of them, got {}: {{ {} }}",
            all.len(),
            got.len(),
            shown.join(", ")
        ));
        return;
    }
    for ((expected, got), place) in all.iter().zip(got).zip(1..) {
        compare(
            &format!("{path}[{place}]"),
            expected,
            got,
            kind,
            differences,
        );
    }
}

/// A part of the record as it stands in a difference.
fn word(json: &Json, kind: Kind) -> String {
    const LONGEST: usize = 200;
    match json {
        Json::Null => "nothing".to_owned(),
        Json::Number(_) if kind == Kind::Money => {
            usd(json).map_or_else(|| json.to_string(), |usd| usd.pretty())
        }
        other => {
            let mut text = other.to_string();
            if text.len() > LONGEST {
                text.truncate(text.floor_char_boundary(LONGEST));
                text.push('…');
            }
            text
        }
    }
}
