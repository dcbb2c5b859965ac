//! What is wrong with a configuration, said so that a person can mend it: where, what, and how.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub(super) use crate::near::nearest;

/// One mistake. An element of `problems` in every command's `--json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as it was named, or the option at fault: `--set cache.ttl`.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// In characters, from 1.
    pub column: Option<u32>,
    /// Stable, for programs: `unknown_key`, `bad_value` …
    pub code: &'static str,
    pub message: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem that no line of a file is to blame for.
    pub fn anywhere(code: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            file: None,
            line: None,
            column: None,
            code,
            message: message.into(),
            remedy: None,
        }
    }

    /// A problem at `place`.
    pub fn at(place: &Place, code: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            file: Some(place.file.to_string()),
            line: place.position.map(|(line, _)| line),
            column: place.position.map(|(_, column)| column),
            ..Problem::anywhere(code, message)
        }
    }

    /// The same, with what to do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Problem {
        self.remedy = Some(remedy.into());
        self
    }
}

/// `pixtoll.yaml:3:8: what is wrong`, and what to do on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  {remedy}"),
            None => Ok(()),
        }
    }
}

/// Where something stands: a spot in a file, or an option of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(super) file: Arc<str>,
    /// Line and column from 1; `None` for an option of the command line.
    pub(super) position: Option<(u32, u32)>,
}

impl Place {
    /// The line in the file, from 1.
    pub fn line(&self) -> Option<u32> {
        self.position.map(|(line, _)| line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_place_fault_and_cure() {
        let place = Place {
            file: "pixtoll.yaml".into(),
            position: Some((3, 8)),
        };
        let problem = Problem::at(&place, "bad_value", "no such size").remedy("write 1GiB");
        assert_eq!(
            problem.to_string(),
            "pixtoll.yaml:3:8: no such size\n  write 1GiB"
        );
    }
}
