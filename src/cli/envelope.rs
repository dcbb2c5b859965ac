//! What commands print: text for people, with `--json` one envelope around whatever was found.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{DONE, Global};
use crate::config::Problem;

/// What every `--json` prints.
#[derive(Serialize)]
struct Envelope<'a, T> {
    v: u8,
    command: &'a str,
    ok: bool,
    data: T,
    problems: &'a [Problem],
}

/// The envelope around `data`. `ok` says whether the answer is yes.
pub(super) fn envelope<T: Serialize>(
    command: &str,
    ok: bool,
    data: T,
    problems: &[Problem],
) -> String {
    let envelope = Envelope {
        v: 1,
        command,
        ok,
        data,
        problems,
    };
    // Nothing that is printed has a key that is no text, so this cannot fail.
    serde_json::to_string(&envelope).unwrap_or_default()
}

/// Prints text, or nothing where nobody reads any more: `pixtoll prices list | head` is no failure.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints what a command found and returns its exit code, on which `ok` depends.
pub(super) fn told<T: Serialize>(
    command: &str,
    global: &Global,
    code: u8,
    data: T,
    text: &str,
) -> u8 {
    if global.json {
        print(&format!("{}\n", envelope(command, code == DONE, data, &[])));
    } else {
        print(text);
    }
    code
}

/// Says what is wrong, and returns `code`.
pub(super) fn failed(command: &str, global: &Global, code: u8, problems: &[Problem]) -> u8 {
    if global.json {
        let nothing = serde_json::Value::Null;
        print(&format!(
            "{}\n",
            envelope(command, false, nothing, problems)
        ));
    } else {
        for problem in problems {
            eprintln!("error: {problem}");
        }
    }
    code
}
