//! What a rule can ask besides its call: `usd` and the `pixtoll` table.

use std::sync::Arc;

use mlua::{Error, Lua, Table, UserData, Value, Variadic};

use super::alert;
use super::clock;
use super::counter;
use super::fault::raise;
use super::health;
use super::market;
use super::money;
use super::near::no_such;
use super::stage::Stage;
use super::subject::Subject;
use super::world;
use crate::action::CallView;

/// Names in the `pixtoll` table.
pub(super) const HELPERS: &[&str] = &[
    "quote",
    "cheapest",
    "supports",
    "successor",
    "health",
    "spend",
    "counter",
    "clock",
    "between",
    "alert",
    "log",
    "needs",
];

/// What an option can be marked to need.
pub(super) const NEEDS: &[&str] = &["model", "models", "text", "number", "money", "list"];

const LONGEST_LINE: usize = 2000;

/// `pixtoll.needs "model"`: a default that is none.
#[derive(Clone, Copy)]
pub(super) struct Needs(pub(super) &'static str);

impl UserData for Needs {}

/// Puts `usd`, `pixtoll` and `print` among the globals.
pub(super) fn install(lua: &Lua, stage: &Arc<Stage>) -> Result<(), Error> {
    let globals = lua.globals();
    globals.raw_set("usd", lua.create_function(money::usd)?)?;
    let table = lua.create_table()?;
    market::install(lua, &table, stage)?;
    world::install(lua, &table, stage)?;
    table.raw_set("alert", alert::helper(lua, stage)?)?;
    health::install(lua, &table, stage)?;
    table.raw_set("counter", counter::helper(lua, stage)?)?;
    time(lua, &table, stage)?;
    let log = log(lua, stage)?;
    globals.raw_set("print", log.clone())?;
    table.raw_set("log", log)?;
    table.raw_set("needs", lua.create_function(needs)?)?;
    strict_table(lua, &table, "pixtoll", "helper", HELPERS.to_vec())?;
    globals.raw_set("pixtoll", table)
}

/// Makes a name that is not among `names` an error. The caller freezes the table.
pub(super) fn strict_table(
    lua: &Lua,
    table: &Table,
    object: impl AsRef<str> + Send + Sync + 'static,
    what: &'static str,
    names: Vec<impl AsRef<str> + Send + Sync + 'static>,
) -> Result<(), Error> {
    let meta = lua.create_table()?;
    let miss = lua.create_function(move |lua, (_, key): (Value, Value)| -> mlua::Result<()> {
        let key = match &key {
            Value::String(key) => key.to_string_lossy(),
            other => super::args::show(other),
        };
        if names.iter().any(|name| name.as_ref() == key) {
            return Ok(()); // the name is right, and there is nothing
        }
        let object = object.as_ref();
        let path = format!("{object}.{key}");
        Err(raise(
            lua,
            no_such(&path, what, &key, names.iter().map(AsRef::as_ref)),
        ))
    })?;
    meta.raw_set("__index", miss)?;
    meta.raw_set("__metatable", false)?;
    meta.set_readonly(true);
    table.set_metatable(Some(meta))
}

fn time(lua: &Lua, table: &Table, stage: &Arc<Stage>) -> Result<(), Error> {
    let held = Arc::clone(stage);
    let clock = lua.create_function(move |lua, zone: Option<String>| {
        let at = subject(lua, &held, "clock")?.at();
        let now = clock::read(at, zone.as_deref()).map_err(|why| raise(lua, why))?;
        let reading = lua.create_table()?;
        for (name, value) in
            clock::CLOCK_FIELDS
                .iter()
                .zip([now.hour, now.minute, now.weekday, now.day])
        {
            reading.raw_set(*name, value)?;
        }
        strict_table(
            lua,
            &reading,
            "clock",
            "field",
            clock::CLOCK_FIELDS.to_vec(),
        )?;
        reading.set_readonly(true);
        Ok(reading)
    })?;
    table.raw_set("clock", clock)?;
    let held = Arc::clone(stage);
    let between = lua.create_function(
        move |lua, (from, to, zone): (String, String, Option<String>)| {
            let at = subject(lua, &held, "between")?.at();
            clock::between(at, &from, &to, zone.as_deref()).map_err(|why| raise(lua, why))
        },
    )?;
    table.raw_set("between", between)
}

/// What the hook that runs is about.
pub(super) fn subject(lua: &Lua, stage: &Stage, helper: &str) -> Result<Subject, Error> {
    stage.current().ok_or_else(|| {
        let what = format!("pixtoll.{helper} is about a call: use it within a hook");
        raise(lua, what)
    })
}

/// The call of the hook that runs.
pub(super) fn current(lua: &Lua, stage: &Stage, helper: &str) -> Result<Arc<CallView>, Error> {
    let subject = subject(lua, stage, helper)?;
    subject.call().cloned().ok_or_else(|| {
        let hook = subject.hook().as_str();
        let what = format!("pixtoll.{helper} is for hooks that have a call: {hook} has none");
        raise(lua, what)
    })
}

fn log(lua: &Lua, stage: &Arc<Stage>) -> Result<mlua::Function, Error> {
    let stage = Arc::clone(stage);
    lua.create_function(move |_, values: Variadic<Value>| {
        let mut line = String::new();
        for (i, value) in values.iter().enumerate() {
            if i > 0 {
                line.push(' ');
            }
            match value {
                Value::String(text) => line.push_str(&text.to_string_lossy()),
                other => line.push_str(&super::args::show(other)),
            }
        }
        line.truncate(line.floor_char_boundary(LONGEST_LINE));
        stage.log(line);
        Ok(())
    })
}

fn needs(lua: &Lua, what: String) -> Result<Needs, Error> {
    match NEEDS.iter().find(|known| **known == what) {
        Some(known) => Ok(Needs(known)),
        None => {
            let path = format!("pixtoll.needs \"{what}\"");
            Err(raise(
                lua,
                no_such(&path, "kind", &what, NEEDS.iter().copied()),
            ))
        }
    }
}
