//! Lua errors in words for people, with the line of the rule they came from.

use mlua::{Error, Lua};

use super::near::no_such;
use super::view::call_methods;

/// The chunk name of our own Lua code, which is never the place of a mistake.
pub(super) const GUARD: &str = "[guard]";

const LONGEST: usize = 1000;

/// `file:line` of the Lua function that called the Rust function which is running.
pub(super) fn position(lua: &Lua) -> Option<String> {
    place_at(lua, 1)
}

/// `file:line` of the innermost function of a rule, from `level` up.
pub(super) fn place_at(lua: &Lua, level: usize) -> Option<String> {
    (level..level + 8).find_map(|level| {
        lua.inspect_stack(level, |frame| {
            let file = frame.source().short_src?.into_owned();
            let line = frame.current_line()?;
            is_rule(&file).then(|| format!("{file}:{line}"))
        })
        .flatten()
    })
}

/// Whether a chunk is a rule's: not our own Lua code, mlua's, or C.
fn is_rule(chunk: &str) -> bool {
    !chunk.starts_with('[') && !chunk.starts_with("__mlua")
}

/// An error that names the place it was made at.
pub(super) fn raise(lua: &Lua, message: impl AsRef<str>) -> Error {
    let message = message.as_ref();
    match position(lua) {
        Some(place) => Error::runtime(format!("{place}: {message}")),
        None => Error::runtime(message),
    }
}

/// What went wrong, and `file:line` where it is known.
pub(super) fn describe(error: &Error) -> (String, Option<String>) {
    let (message, place) = read(error);
    (hint(shorten(named(message))), place)
}

fn read(error: &Error) -> (String, Option<String>) {
    match error {
        Error::CallbackError { traceback, cause } => {
            let (message, place) = read(cause);
            (message, place.or_else(|| first_place(traceback)))
        }
        Error::RuntimeError(text) => {
            let (text, traceback) = text.split_once("\nstack traceback:").unwrap_or((text, ""));
            match split_place(text) {
                Some((place, rest)) if is_rule(&place) => (rest.to_owned(), Some(place)),
                Some((_, rest)) => (rest.to_owned(), first_place(traceback)),
                None => (text.to_owned(), first_place(traceback)),
            }
        }
        Error::BadArgument { pos, to, cause, .. } => {
            let why = read(cause).0;
            // The object itself counts as the first argument of a method.
            let message = match to.as_deref().and_then(|to| to.split_once('.')) {
                Some((_, "self")) | None => format!("argument {pos}: {why}"),
                Some((_, method)) if *pos > 1 => {
                    format!("argument {} of {method}: {why}", pos - 1)
                }
                Some((_, method)) => {
                    format!("{method} is a method: write object:{method}(…) with a colon")
                }
            };
            (message, None)
        }
        Error::FromLuaConversionError { from, to, .. } => {
            let wanted = if to == "String" { "text" } else { to };
            (format!("{wanted} is wanted, it is {from}"), None)
        }
        Error::MemoryError(_) => ("it needs more than 16 MiB of memory".to_owned(), None),
        other => (other.to_string(), None),
    }
}

/// `rules/a.lua:3: what` in its two parts.
fn split_place(text: &str) -> Option<(String, &str)> {
    let (place, rest) = text.split_once(": ")?;
    let (file, line) = place.rsplit_once(':')?;
    let is_place = !file.is_empty() && !file.contains('\n') && line.parse::<u32>().is_ok();
    is_place.then(|| (place.to_owned(), rest))
}

/// The innermost line of a rule in a traceback (`rules/a.lua:3: in function 'on_request'`).
fn first_place(traceback: &str) -> Option<String> {
    traceback.lines().find_map(|line| {
        let line = line.trim();
        line.match_indices(':').find_map(|(colon, _)| {
            let rest = &line[colon + 1..];
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let ends = matches!(rest.as_bytes().get(digits), None | Some(b' ' | b':'));
            let place = &line[..colon + 1 + digits];
            (digits > 0 && ends && is_rule(line)).then(|| place.to_owned())
        })
    })
}

/// mlua says of a method that is not there only that it is not.
fn named(message: String) -> String {
    let name = message
        .strip_prefix("attempt to call an unknown method '")
        .and_then(|rest| rest.strip_suffix('\''));
    match name {
        Some(name) => no_such(&format!("call:{name}"), "method", name, call_methods()),
        None => message,
    }
}

/// Money is a type of its own, and Luau's words for it do not say what to do.
fn hint(message: String) -> String {
    let odd = message.contains("attempt to compare") || message.contains("attempt to perform");
    if odd && message.contains("money") {
        return format!("{message}: money compares and adds with money only, write usd(0.02)");
    }
    match message
        .strip_prefix("attempt to index nil with '")
        .and_then(|rest| missing(rest.strip_suffix('\'')?))
    {
        Some(instead) => format!("{message}: {instead}"),
        None => message,
    }
}

/// What a rule does instead of what it looks for in a library of plain Lua that is not there. Luau
/// tells the function's name alone.
fn missing(function: &str) -> Option<&'static str> {
    Some(match function {
        "open" | "popen" | "lines" | "read" | "write" | "stdout" | "stderr" | "stdin" => {
            "a rule has no `io`, no files and no network; require reads Lua files of its own folder, \
             pixtoll.log writes to the log"
        }
        "time" | "clock" | "date" | "difftime" => {
            "a rule has no `os`; call.at is the time of the call, pixtoll.clock(zone) has its hour and weekday"
        }
        "getenv" | "execute" | "remove" | "rename" | "exit" | "tmpname" => {
            "a rule has no `os`, no processes and no environment; what it needs to know stands in its options"
        }
        "traceback" | "getinfo" | "sethook" | "getlocal" => {
            "a rule has no `debug`; pixtoll.log writes to the log"
        }
        "loadlib" | "loaded" | "path" | "cpath" | "preload" => {
            "a rule has no `package`; require reads Lua files of its own folder"
        }
        _ => return None,
    })
}

fn shorten(mut message: String) -> String {
    if message.len() > LONGEST {
        let end = message.floor_char_boundary(LONGEST);
        message.truncate(end);
        message.push('…');
    }
    message
}
