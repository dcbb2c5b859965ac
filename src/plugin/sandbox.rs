//! What a rule cannot reach, and what it cannot do for long.
//!
//! Globals are an allow-list, so that a new library function of Luau is absent until somebody has
//! looked at it. Luau calls our interrupt in loops, calls and pattern matching; the library
//! functions that work long without one are bounded in `guard.luau`.

use std::sync::Arc;

use mlua::{Error, Function, Lua, LuaOptions, LuaString, StdLib, Table, Value};

use super::fault::{GUARD, raise};
use super::meter::Meter;
use super::stage::Stage;

const LIBRARIES: &[(&str, &[&str])] = &[
    (
        "string",
        &[
            "byte", "char", "find", "format", "gmatch", "gsub", "len", "lower", "match", "rep",
            "reverse", "split", "sub", "upper",
        ],
    ),
    (
        "table",
        &[
            "clear", "clone", "concat", "create", "find", "freeze", "insert", "isfrozen", "move",
            "pack", "remove", "sort", "unpack",
        ],
    ),
    (
        "math",
        &[
            "abs", "acos", "asin", "atan", "atan2", "ceil", "clamp", "cos", "deg", "exp", "floor",
            "fmod", "frexp", "huge", "ldexp", "lerp", "log", "log10", "map", "max", "min", "modf",
            "pi", "pow", "rad", "round", "sign", "sin", "sqrt", "tan",
        ],
    ),
    (
        "bit32",
        &[
            "arshift", "band", "bnot", "bor", "btest", "bxor", "countlz", "countrz", "extract",
            "lrotate", "lshift", "replace", "rrotate", "rshift",
        ],
    ),
    (
        "utf8",
        &["char", "charpattern", "codepoint", "codes", "len", "offset"],
    ),
    (
        "coroutine",
        &[
            "close",
            "create",
            "isyieldable",
            "running",
            "status",
            "wrap",
            "yield",
        ],
    ),
];

const GLOBALS: &[&str] = &[
    "_G",
    "_VERSION",
    "assert",
    "error",
    "getmetatable",
    "ipairs",
    "next",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawlen",
    "rawset",
    "select",
    "setmetatable",
    "tonumber",
    "tostring",
    "type",
    "typeof",
    "unpack",
    "xpcall",
];

/// A new VM with nothing dangerous in it; helpers may be added until [`close`].
pub(super) fn open(stage: &Arc<Stage>, meter: &Arc<Meter>) -> Result<Lua, Error> {
    let libraries = StdLib::TABLE
        | StdLib::STRING
        | StdLib::MATH
        | StdLib::BIT
        | StdLib::UTF8
        | StdLib::COROUTINE;
    let lua = Lua::new_with(libraries, LuaOptions::new())?;
    let globals = lua.globals();
    keep(&globals, |name| {
        GLOBALS.contains(&name) || LIBRARIES.iter().any(|(library, _)| *library == name)
    })?;
    for (name, functions) in LIBRARIES {
        let library: Table = globals.raw_get(*name)?;
        keep(&library, |function| functions.contains(&function))?;
    }
    guard(&lua, stage, meter)?;
    Ok(lua)
}

/// Freezes globals and libraries.
pub(super) fn close(lua: &Lua) -> Result<(), Error> {
    lua.sandbox(true)
}

/// Takes everything out of a table that has no allowed name.
fn keep(table: &Table, allowed: impl Fn(&str) -> bool) -> Result<(), Error> {
    let keys: Vec<Value> = table
        .pairs::<Value, Value>()
        .map(|pair| pair.map(|(key, _)| key))
        .collect::<Result<_, Error>>()?;
    for key in keys {
        let stays = matches!(&key, Value::String(name) if allowed(&name.to_string_lossy()));
        if !stays {
            table.raw_set(key, Value::Nil)?;
        }
    }
    Ok(())
}

fn guard(lua: &Lua, stage: &Arc<Stage>, meter: &Arc<Meter>) -> Result<(), Error> {
    let meter = Arc::clone(meter);
    let tick = lua.create_function(move |lua, ()| {
        if meter.tick() {
            return Ok(());
        }
        meter.stopped_at(|| super::fault::place_at(lua, 1));
        Err(too_long())
    })?;
    let stage = Arc::clone(stage);
    let coroutine = lua.create_function(move |lua, ()| {
        if stage.coroutine() {
            return Ok(());
        }
        Err(raise(lua, "too many coroutines: a hook may start 64"))
    })?;
    let bounds: Function = lua
        .load(include_str!("guard.luau"))
        .set_name(format!("={GUARD}"))
        .into_function()?;
    bounds.call((tick, lua.create_function(plain_find)?, coroutine))
}

/// The error of a run whose time is up.
pub(super) fn too_long() -> Error {
    Error::runtime("it took too long")
}

/// `string.find` without patterns: first and last place from 1, or nil.
fn plain_find(
    _: &Lua,
    (text, word, init): (LuaString, LuaString, Option<f64>),
) -> Result<(Option<usize>, Option<usize>), Error> {
    let found = find_from(
        &text.as_bytes(),
        &word.as_bytes(),
        init.unwrap_or(1.0) as i64,
    );
    Ok(found.unzip())
}

/// Looks for `word` in linear time. Places count from 1, negative ones from the end, as in Lua.
fn find_from(text: &[u8], word: &[u8], init: i64) -> Option<(usize, usize)> {
    let far = usize::try_from(init.unsigned_abs()).unwrap_or(usize::MAX);
    let start = match init {
        1.. => far - 1,
        0 => 0,
        _ => text.len().saturating_sub(far),
    };
    let at = start + memchr::memmem::find(text.get(start..)?, word)?;
    Some((at + 1, at + word.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_search_finds_what_luau_finds(text in "[ab]{0,12}", word in "[ab]{0,3}", init in -15i64..15) {
            let native: (Option<usize>, Option<usize>) = Lua::new()
                .load("return string.find(...)")
                .call((text.as_str(), word.as_str(), init, true))
                .unwrap();
            prop_assert_eq!(find_from(text.as_bytes(), word.as_bytes(), init).unzip(), native);
        }
    }
}
