//! `pixtoll prices lint`: every mistake in price files.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::app::price_problem;
use crate::cli::envelope::{envelope, failed, print, told};
use crate::cli::{DONE, Global, NO, WRONG};
use crate::config::Problem;
use crate::price::Book;

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

const COMMAND: &str = "prices lint";

#[derive(Debug, Serialize)]
struct Linted {
    file: String,
    /// Models that have a row there; `None` where the file cannot stand.
    models: Option<usize>,
}

pub(super) fn run(args: &LintArgs, global: &Global) -> u8 {
    let mut linted = Vec::new();
    let mut problems = Vec::new();
    for path in &args.files {
        let file = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let problem = Problem {
                    file: Some(file),
                    ..Problem::anywhere("missing_file", format!("cannot be read: {error}"))
                };
                let problem = problem.remedy("name a price file in UTF-8");
                return failed(COMMAND, global, WRONG, &[problem]);
            }
        };
        let found = lint(&file, &text);
        let models = found.as_ref().ok().copied();
        problems.extend(found.err().unwrap_or_default());
        linted.push(Linted { file, models });
    }
    if problems.is_empty() {
        let line = |linted: &Linted| {
            let models = linted.models.unwrap_or_default();
            format!("{}: in order, {models} models\n", linted.file)
        };
        let text: String = linted.iter().map(line).collect();
        return told(COMMAND, global, DONE, &linted, &text);
    }
    if global.json {
        print(&format!(
            "{}\n",
            envelope(COMMAND, false, &linted, &problems)
        ));
        return NO;
    }
    failed(COMMAND, global, NO, &problems)
}

/// How many models a file has rows for. It may refer to models of the shipped book.
fn lint(name: &str, text: &str) -> Result<usize, Vec<Problem>> {
    let whole = Book::with(&[(name, text)]).map_err(|found| {
        let problems = found.into_iter().map(price_problem);
        problems.collect::<Vec<Problem>>()
    })?;
    let alone = Book::load(&[(name, text)]).map(|book| book.models().count());
    // What cannot stand alone refers to the shipped book; then its own rows are those that differ.
    Ok(alone.unwrap_or_else(|_| {
        let shipped = Book::embedded();
        let own = whole
            .models()
            .filter(|row| shipped.model(&row.id) != Some(*row));
        own.count()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &str = "models:\n- model: studio/sdxl\n  capability: {operations: [generate], sizes: [8x8], usual: 8x8}\n  price: {per_image: 0.01}\n  source: here\n  as_of: 2026-11-22\n";

    #[test]
    fn a_file_may_refer_to_shipped_models() {
        assert_eq!(lint("a.yaml", ROW).unwrap(), 1);
        let referring = format!("{ROW}  retired_on: 2026-12-01\n  successor: openai/gpt-image-2\n");
        assert_eq!(lint("a.yaml", &referring).unwrap(), 1);
    }

    #[test]
    fn every_mistake_has_its_place_and_cure() {
        let text = ROW.replace("0.01", "cheap").replace("8x8]", "8y8]");
        let problems = lint("a.yaml", &text).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        for problem in problems {
            assert_eq!(problem.file.as_deref(), Some("a.yaml"));
            assert!(problem.line.is_some() && problem.column.is_some());
            assert!(problem.remedy.is_some());
        }
    }
}
