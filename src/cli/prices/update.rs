//! `pixtoll prices update`: a newer price file, looked at before it counts.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::diff::{Change, ChangeFacts, calls};
use super::fetch::fetch;
use super::{Desk, misused};
use crate::app::{self, price_problem};
use crate::cli::envelope::{envelope, failed, print, told};
use crate::cli::paint::Ink;
use crate::cli::table::Screen;
use crate::cli::{DONE, FAILED, Global, NO};
use crate::config::Problem;
use crate::price::Book;
use crate::price::diff::file_objections;
use crate::price::swap::objections;

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// An https URL, or a path
    #[arg(value_name = "URL|FILE")]
    source: String,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// Write even where a tenth of the models would go, or a price changes a hundredfold
    #[arg(long)]
    force: bool,
    /// Which calls of the decision log are quoted again: 7d, or a time
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: String,
}

const COMMAND: &str = "prices update";

pub(super) async fn run(args: &UpdateArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    let text = match fetch(&args.source, &desk.settings).await {
        Ok(text) => text,
        Err(why) => {
            let problem = Problem {
                file: Some(args.source.clone()),
                ..misused(why, "name a price file by its path or an https URL")
            };
            return failed(COMMAND, global, FAILED, &[problem]);
        }
    };
    let new = match validated(&args.source, &text, &desk) {
        Ok(book) => book,
        Err(problems) => return failed(COMMAND, global, FAILED, &problems),
    };
    let calls = match calls(&desk, &args.since) {
        Ok(calls) => calls,
        Err((code, problem)) => return failed(COMMAND, global, code, &[problem]),
    };
    let change = Change::between(&desk.book, &new, &calls, &args.since);
    let into = desk.settings.updated_prices();
    let before = fs::read_to_string(&into).unwrap_or_default();
    let mut objections = objections(&desk.book, &new);
    objections.extend(file_objections(&before, &text));
    let objections: Vec<String> = objections.iter().map(ToString::to_string).collect();
    let update = Update {
        change,
        objections,
        args,
        into,
        text,
    };
    update.finish(global)
}

/// The book as it would be with the new file in its place.
fn validated(source: &str, text: &str, desk: &Desk) -> Result<Book, Vec<Problem>> {
    let own = app::price_files(&desk.settings).map_err(|error| error.0)?;
    let replaced = desk.settings.updated_prices().display().to_string();
    let mut files = vec![(source, text)];
    let own = own.iter().filter(|(name, _)| *name != replaced);
    files.extend(own.map(|(name, text)| (name.as_str(), text.as_str())));
    Book::with(&files)
        .map(|book| desk.as_here(&book))
        .map_err(|found| found.into_iter().map(price_problem).collect())
}

struct Update<'a> {
    change: Change<'a>,
    objections: Vec<String>,
    args: &'a UpdateArgs,
    into: std::path::PathBuf,
    text: String,
}

#[derive(Debug, Serialize)]
struct UpdateFacts<'a> {
    source: &'a str,
    into: &'a Path,
    /// What speaks against it.
    objections: &'a [String],
    written: bool,
    change: ChangeFacts<'a>,
}

impl Update<'_> {
    fn finish(&self, global: &Global) -> u8 {
        if !global.json {
            self.show();
        }
        let same = fs::read_to_string(&self.into).is_ok_and(|old| old == self.text);
        // A proxy that runs may have refused what already lies there: force is for it, too.
        if (same || self.change.diff.is_empty()) && !self.args.force {
            let text = "nothing to write: the price files say so already\n";
            return self.told(global, DONE, false, text);
        }
        if !self.objections.is_empty() && !self.args.force {
            let problem = Problem {
                file: Some(self.args.source.clone()),
                ..Problem::anywhere(
                    "objection",
                    format!("refused: {}", self.objections.join("; ")),
                )
            };
            let problem = problem.remedy("look at the file; if it is right, add --force");
            return self.refused(global, &problem);
        }
        let agreed = self.args.yes || self.may_ask(global) && agreed(&self.into);
        if !agreed {
            let text = "not written: add --yes to write it\n";
            return self.told(global, NO, false, text);
        }
        match self.write() {
            Ok(()) => {
                let text = format!("written to {}\n", self.into.display());
                self.told(global, DONE, true, &text)
            }
            Err(error) => {
                let problem = Problem {
                    file: Some(self.into.display().to_string()),
                    ..Problem::anywhere("write", format!("cannot be written: {error}"))
                };
                let remedy =
                    "check who may write there; `--set state_dir=PATH` names another place";
                self.refused(global, &problem.remedy(remedy))
            }
        }
    }

    fn show(&self) {
        let screen = Screen::stdout();
        let mut text = self.change.text(screen);
        for objection in &self.objections {
            text.push_str(&screen.line(&format!("! {objection}"), Ink::Red));
        }
        print(&text);
    }

    fn may_ask(&self, global: &Global) -> bool {
        !global.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    fn facts(&self, written: bool) -> UpdateFacts<'_> {
        UpdateFacts {
            source: &self.args.source,
            into: &self.into,
            objections: &self.objections,
            written,
            change: self.change.facts(),
        }
    }

    fn told(&self, global: &Global, code: u8, written: bool, text: &str) -> u8 {
        told(COMMAND, global, code, self.facts(written), text)
    }

    fn refused(&self, global: &Global, problem: &Problem) -> u8 {
        let problems = std::slice::from_ref(problem);
        if global.json {
            let whole = envelope(COMMAND, false, self.facts(false), problems);
            print(&format!("{whole}\n"));
            return FAILED;
        }
        failed(COMMAND, global, FAILED, problems)
    }
}

impl Update<'_> {
    /// Leaves word for a proxy that runs that these prices are meant, where it would doubt it.
    fn write(&self) -> io::Result<()> {
        if self.args.force {
            let mark = app::prices::mark_of(&self.text);
            write(&app::prices::forced_mark(&self.into), &mark)?;
        }
        write(&self.into, &self.text)
    }
}

fn agreed(into: &Path) -> bool {
    eprint!("Write it to {}? [y/N] ", into.display());
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// In one step: whoever reads it meanwhile has the old file or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    app::private_dir(folder)?;
    let fresh = path.with_extension(format!("fresh.{}", std::process::id()));
    let mut file = fs::File::create(&fresh)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    let done = written.and_then(|()| fs::rename(&fresh, path));
    if done.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    done
}
