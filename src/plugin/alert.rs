//! `pixtoll.alert`: what a rule wants somebody to know.

use mlua::{Error, Function, Lua, Table, Value};
use std::sync::Arc;

use super::args::show;
use super::fault::raise;
use super::near::no_such;
use super::stage::Stage;
use crate::image::words;

/// Bytes of an alert's text.
const TEXT: usize = 2000;
/// Facts that one alert may carry.
const FIELDS: usize = 20;
/// Bytes of a fact, and of its name.
const FIELD: usize = 500;

words! {
    /// How much an alert matters.
    AlertLevel {
        Info = "info",
        Warning = "warning",
        Error = "error",
    }
}

/// What a rule wants somebody to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub level: AlertLevel,
    /// For people.
    pub text: String,
    /// The same for programs, sorted by name.
    pub fields: Vec<(String, String)>,
}

/// `pixtoll.alert(level, text, fields)`.
pub(super) fn helper(lua: &Lua, stage: &Arc<Stage>) -> Result<Function, Error> {
    let stage = Arc::clone(stage);
    lua.create_function(
        move |lua, (level, text, fields): (String, String, Option<Table>)| {
            read(&level, text, fields.as_ref())
                .and_then(|alert| stage.alert(alert))
                .map_err(|why| raise(lua, why))
        },
    )
}

fn read(level: &str, text: String, fields: Option<&Table>) -> Result<Alert, String> {
    let levels = AlertLevel::ALL.iter();
    let found = levels.copied().find(|known| known.as_str() == level);
    let level = found.ok_or_else(|| {
        let names = AlertLevel::ALL.iter().map(|level| level.as_str());
        no_such(
            &format!("pixtoll.alert(\"{level}\", …)"),
            "level",
            level,
            names,
        )
    })?;
    if text.trim().is_empty() || text.len() > TEXT {
        return Err(format!(
            "the text of pixtoll.alert must have 1 to {TEXT} bytes, it has {}",
            text.len()
        ));
    }
    let mut facts = Vec::new();
    for pair in fields
        .iter()
        .flat_map(|table| table.pairs::<Value, Value>())
    {
        facts.push(fact(pair.map_err(|why| why.to_string())?)?);
        if facts.len() > FIELDS {
            return Err(format!("pixtoll.alert takes {FIELDS} fields at most"));
        }
    }
    facts.sort();
    Ok(Alert {
        level,
        text,
        fields: facts,
    })
}

fn fact((name, value): (Value, Value)) -> Result<(String, String), String> {
    let Value::String(name) = &name else {
        return Err(format!(
            "the fields of pixtoll.alert are named, like {{ app = call.app }}: {} has no name",
            show(&value)
        ));
    };
    let name = name.to_string_lossy();
    let text = match &value {
        Value::String(text) => text.to_string_lossy(),
        Value::Table(_) | Value::Function(_) | Value::Thread(_) => {
            return Err(format!(
                "the field `{name}` of pixtoll.alert is a {}: give a text, a number or money",
                value.type_name()
            ));
        }
        other => show(other),
    };
    if name.len() > FIELD || text.len() > FIELD {
        return Err(format!(
            "the field `{}` of pixtoll.alert is longer than {FIELD} bytes",
            &name[..name.floor_char_boundary(40)]
        ));
    }
    Ok((name, text))
}
