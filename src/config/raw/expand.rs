//! `${NAME}` in values: what must not stand in the file is read from the environment or a file.

use std::path::Path;

use super::tree::{Node, Value};
use crate::config::problem::{Place, Problem};

/// Where variables and files are looked up.
pub(in crate::config) struct Surroundings<'a> {
    pub(in crate::config) env: &'a dyn Fn(&str) -> Option<String>,
    /// The configuration file's folder, for relative paths.
    pub(in crate::config) folder: &'a Path,
    pub(in crate::config) home: Option<&'a Path>,
}

impl Surroundings<'_> {
    /// A path as people write it: `~` is their home, and a relative one starts where it is written.
    ///
    /// # Errors
    /// When there is no home to put in.
    pub(in crate::config) fn path(
        &self,
        written: &str,
        place: &Place,
    ) -> Result<std::path::PathBuf, String> {
        let path = match (written.strip_prefix('~'), self.home) {
            (Some(rest), home) if rest.is_empty() || rest.starts_with('/') => {
                let home = home.ok_or("begins with `~`, but HOME is not set")?;
                home.join(rest.trim_start_matches('/'))
            }
            _ => written.into(),
        };
        // What the command line says is relative to where it is said.
        Ok(match place.position {
            Some(_) => self.folder.join(path),
            None => path,
        })
    }
}

/// Replaces every `${…}` below `node`. What cannot be replaced is reported and marked as broken.
pub(in crate::config) fn expand(
    node: &mut Node,
    around: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) {
    match &mut node.value {
        Value::List(items) => items
            .iter_mut()
            .for_each(|item| expand(item, around, problems)),
        Value::Map(entries) => entries
            .iter_mut()
            .for_each(|entry| expand(&mut entry.node, around, problems)),
        Value::Scalar(scalar) if scalar.text.contains("${") => {
            match replaced(&scalar.text, &node.place, around) {
                // An optional variable that is not there: as though the key were not there.
                Ok(text) if text.is_empty() => node.value = Value::Null,
                Ok(text) => scalar.written = Some(std::mem::replace(&mut scalar.text, text)),
                Err(problem) => {
                    problems.push(problem);
                    node.value = Value::Broken;
                }
            }
        }
        Value::Scalar(_) | Value::Null | Value::Broken => {}
    }
}

fn replaced(text: &str, place: &Place, around: &Surroundings<'_>) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        if let Some(kept) = before.strip_suffix('$') {
            // `$${` stands for `${` itself.
            out.push_str(kept);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(before);
        let inner = &rest[at + 2..];
        let end = inner.find('}').ok_or_else(|| {
            Problem::at(place, "bad_value", "`${` is not closed")
                .remedy("write ${NAME}; `$${` stands for `${` itself")
        })?;
        out.push_str(&value_of(&inner[..end], place, around)?);
        rest = &inner[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(inner: &str, place: &Place, around: &Surroundings<'_>) -> Result<String, Problem> {
    if let Some(path) = inner.strip_prefix("file:") {
        return content_of(path, place, around);
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        let message = format!("`{name}` is no name of an environment variable");
        return Err(Problem::at(place, "bad_value", message)
            .remedy("write ${NAME}, ${NAME:-default} or ${file:PATH}"));
    }
    let value = (around.env)(name).filter(|value| default.is_none() || !value.is_empty());
    value.or(default.map(str::to_owned)).ok_or_else(|| {
        Problem::at(
            place,
            "unset_variable",
            format!("the environment variable {name} is not set"),
        )
        .remedy(format!(
            "set {name}, or write ${{{name}:-}} if it may be missing"
        ))
    })
}

/// A file's text without the line end that editors put behind it.
fn content_of(path: &str, place: &Place, around: &Surroundings<'_>) -> Result<String, Problem> {
    let broken = |why: String| {
        Problem::at(place, "missing_file", format!("the file {path} {why}"))
            .remedy("check the path and who may read it; a relative path starts at the configuration's folder")
    };
    let whole = around.path(path, place).map_err(broken)?;
    let text = std::fs::read_to_string(whole)
        .map_err(|error| broken(format!("cannot be read: {error}")))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, folder: &Path) -> Result<String, String> {
        let place = Place {
            file: "f".into(),
            position: Some((1, 1)),
        };
        let env = |name: &str| match name {
            "KEY" => Some("sk-1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let around = Surroundings {
            env: &env,
            folder,
            home: Some(folder),
        };
        replaced(text, &place, &around).map_err(|problem| problem.to_string())
    }

    #[test]
    fn variables_defaults_and_files_are_put_in() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "t0k\n").unwrap();
        let whole = format!("${{file:{}}}", folder.path().join("token").display());
        for (text, want) in [
            ("${KEY}", "sk-1"),
            ("a${KEY}b${KEY}", "ask-1bsk-1"),
            ("${NONE:-x y}", "x y"),
            ("${NONE:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("$KEY $5", "$KEY $5"),
            ("$${KEY}", "${KEY}"),
            ("${file:token}", "t0k"),
            ("${file:~/token}", "t0k"),
            (whole.as_str(), "t0k"),
        ] {
            assert_eq!(check(text, folder.path()), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_is_named() {
        for (text, want) in [
            (
                "${NONE}",
                "f:1:1: the environment variable NONE is not set\n  set NONE, or write ${NONE:-}",
            ),
            ("${KEY", "`${` is not closed"),
            ("${}", "`` is no name"),
            ("${1A}", "`1A` is no name"),
            ("${KEY-x}", "`KEY-x` is no name"),
            ("${file:gone}", "the file gone cannot be read"),
        ] {
            let error = check(text, Path::new("/nowhere")).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
