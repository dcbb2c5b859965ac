//! The options of a plugin: the file's defaults with the configuration's values laid over them.

use std::sync::Arc;

use mlua::{Error, Lua, Table, Value};
use serde_json::Value as Json;

use super::args::show;
use super::helpers::{Needs, strict_table};
use super::money::{Money, amount};
use super::near::no_such;
use super::view::freeze;
use super::{House, fault};
use crate::image::ModelId;
use crate::money::Usd;

/// The table that hooks get, frozen and strict.
///
/// # Errors
/// Every mistake in words for people, each with the option it is about where there is one.
pub(super) fn merge(
    lua: &Lua,
    defaults: Option<&Table>,
    given: &Json,
    house: &Arc<House>,
) -> Result<Table, Vec<Mistake>> {
    let merged = lua.create_table().map_err(broken)?;
    let mut mistakes = Vec::new();
    let empty = serde_json::Map::new();
    let given = match given {
        Json::Object(map) => map,
        Json::Null => &empty,
        other => {
            let what = format!("`with` must be a table of options, it is {other}");
            return Err(vec![Mistake::of(None, what)]);
        }
    };
    let mut names: Vec<String> = Vec::new();
    for pair in defaults
        .iter()
        .flat_map(|table| table.pairs::<String, Value>())
    {
        let (name, default) = pair.map_err(broken)?;
        match value(lua, &name, &default, given.get(&name), house) {
            Ok(value) => {
                freeze(&value).map_err(broken)?;
                merged.raw_set(name.as_str(), value).map_err(broken)?;
            }
            Err(what) => mistakes.push(Mistake::of(Some(&name), what)),
        }
        names.push(name);
    }
    for name in given.keys().filter(|name| !names.contains(name)) {
        let what = if names.is_empty() {
            format!("`{name}`: this plugin has no options")
        } else {
            no_such(name, "option", name, names.iter().map(String::as_str))
        };
        mistakes.push(Mistake::of(None, what));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    strict_table(lua, &merged, "options", "option", names).map_err(broken)?;
    merged.set_readonly(true);
    Ok(merged)
}

/// What is wrong with an option.
pub(super) struct Mistake {
    /// The option in the file's table that it is about.
    pub(super) option: Option<String>,
    pub(super) what: String,
}

impl Mistake {
    fn of(option: Option<&str>, what: String) -> Mistake {
        Mistake {
            option: option.map(str::to_owned),
            what,
        }
    }
}

fn broken(error: Error) -> Vec<Mistake> {
    vec![Mistake::of(None, fault::describe(&error).0)]
}

fn value(
    lua: &Lua,
    name: &str,
    default: &Value,
    given: Option<&Json>,
    house: &Arc<House>,
) -> Result<Value, String> {
    let needs = match default {
        Value::UserData(data) => data.borrow::<Needs>().ok().map(|needs| needs.0),
        _ => None,
    };
    match (needs, given) {
        (None, None) => Ok(default.clone()),
        (None, Some(given)) => like(lua, name, default, given),
        (Some(kind), None) => Err(format!("the option `{name}` ({kind}) must be given")),
        (Some(kind), Some(given)) => needed(lua, name, kind, given, house),
    }
}

/// A value that stands for an option marked with `pixtoll.needs`.
fn needed(
    lua: &Lua,
    name: &str,
    kind: &str,
    given: &Json,
    house: &Arc<House>,
) -> Result<Value, String> {
    let wrong = |wanted: &str| format!("the option `{name}` must be {wanted}, it is {given}");
    match (kind, given) {
        ("model", Json::String(text)) => known(name, text, house)?,
        ("models", Json::Array(all)) if !all.is_empty() => {
            for one in all {
                let text = one.as_str().ok_or_else(|| wrong("a list of models"))?;
                known(name, text, house)?;
            }
        }
        ("list", Json::Array(_)) | ("text", Json::String(_)) | ("number", Json::Number(_)) => {}
        ("money", Json::Number(_) | Json::String(_)) => return money(lua, name, given),
        ("model", _) => return Err(wrong("a model like stability/sd3.5-medium")),
        ("models", _) => return Err(wrong("a list of models like [stability/sd3.5-medium]")),
        _ => return Err(wrong(&format!("a {kind}"))),
    }
    to_lua(lua, given).map_err(|error| error.to_string())
}

/// Whether a model can be meant: the book has it, or it is a configured class.
fn known(name: &str, text: &str, house: &Arc<House>) -> Result<(), String> {
    if let Some(class) = text.strip_prefix("class:") {
        return match house.classes.contains_key(class) {
            true => Ok(()),
            false => Err(format!(
                "the option `{name}`: the configuration has no class `{class}`"
            )),
        };
    }
    let model = ModelId::parse(text).ok_or_else(|| {
        format!(
            "the option `{name}`: `{text}` names no provider, write it like stability/sd3.5-medium"
        )
    })?;
    match house.prices.knows(&model) {
        true => Ok(()),
        false => Err(format!(
            "the option `{name}`: the price book has no model `{text}`; check its name, or add it in a file under `prices:`"
        )),
    }
}

/// A given value of the same kind as its default.
fn like(lua: &Lua, name: &str, default: &Value, given: &Json) -> Result<Value, String> {
    let wrong = || {
        let kind = kind(default);
        format!(
            "the option `{name}` must be {kind}, like its default {}; it is {given}",
            show(default)
        )
    };
    if amount(default).is_some() {
        return money(lua, name, given);
    }
    match (default, given) {
        (Value::Boolean(_), Json::Bool(_))
        | (Value::Integer(_) | Value::Number(_), Json::Number(_))
        | (Value::String(_), Json::String(_)) => {}
        (Value::Table(list), Json::Array(items)) => {
            let first: Value = list.raw_get(1).unwrap_or(Value::Nil);
            if first.is_nil() && !list.is_empty() {
                return Err(wrong());
            }
            if !first.is_nil() {
                return like_list(lua, name, &first, items);
            }
        }
        (Value::Table(table), Json::Object(items)) if table.raw_len() == 0 => {
            return like_table(lua, name, table, items);
        }
        _ => return Err(wrong()),
    }
    to_lua(lua, given).map_err(|error| error.to_string())
}

fn like_list(lua: &Lua, name: &str, first: &Value, items: &[Json]) -> Result<Value, String> {
    let list = lua.create_table().map_err(|error| error.to_string())?;
    for item in items {
        let value = like(lua, name, first, item)?;
        list.raw_push(value).map_err(|error| error.to_string())?;
    }
    Ok(Value::Table(list))
}

/// Named values laid over a table of defaults; an empty table takes any.
fn like_table(
    lua: &Lua,
    name: &str,
    defaults: &Table,
    items: &serde_json::Map<String, Json>,
) -> Result<Value, String> {
    let text = |error: Error| error.to_string();
    let open = defaults.is_empty();
    let merged = lua.create_table().map_err(text)?;
    for pair in defaults.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(text)?;
        merged.raw_set(key, value).map_err(text)?;
    }
    for (key, item) in items {
        let path = format!("{name}.{key}");
        let default: Value = defaults.raw_get(key.as_str()).map_err(text)?;
        let value = match default {
            Value::Nil if open => to_lua(lua, item).map_err(text)?,
            Value::Nil => {
                let keys = defaults
                    .pairs::<String, Value>()
                    .flatten()
                    .map(|(key, _)| key);
                let keys: Vec<String> = keys.collect();
                return Err(no_such(
                    &path,
                    "option",
                    key,
                    keys.iter().map(String::as_str),
                ));
            }
            default => like(lua, &path, &default, item)?,
        };
        merged.raw_set(key.as_str(), value).map_err(text)?;
    }
    Ok(Value::Table(merged))
}

fn money(lua: &Lua, name: &str, given: &Json) -> Result<Value, String> {
    let text = match given {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        other => {
            return Err(format!(
                "the option `{name}` must be money, like 0.02; it is {other}"
            ));
        }
    };
    let usd: Usd = text
        .parse()
        .map_err(|why| format!("the option `{name}`: {why}"))?;
    lua.create_userdata(Money(usd))
        .map(Value::UserData)
        .map_err(|error| error.to_string())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Boolean(_) => "true or false",
        Value::Integer(_) | Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Table(table) if table.raw_len() > 0 => "a list",
        Value::Table(_) => "a table",
        _ => "nothing that a configuration can give",
    }
}

/// JSON as plain Lua values.
fn to_lua(lua: &Lua, json: &Json) -> Result<Value, Error> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                list.raw_push(to_lua(lua, item)?)?;
            }
            Value::Table(list)
        }
        Json::Object(items) => {
            let table = lua.create_table_with_capacity(0, items.len())?;
            for (key, item) in items {
                table.raw_set(key.as_str(), to_lua(lua, item)?)?;
            }
            Value::Table(table)
        }
    })
}
