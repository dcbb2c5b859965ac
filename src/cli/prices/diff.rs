//! `pixtoll prices diff`: two price books beside each other, and what the change does to calls
//! that were made.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::past::Past;
use super::{Desk, misused};
use crate::app::price_problem;
use crate::cli::envelope::{failed, told};
use crate::cli::paint::Ink;
use crate::cli::quoted::{known, signed};
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, FAILED, Global, WRONG, tail};
use crate::config::Problem;
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;
use crate::price::Book;
use crate::price::diff::{Changed, ChangedEntry, Diff, Effect};

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A price file, `shipped` or `current`
    #[arg(value_name = "A")]
    old: String,
    /// A price file, `shipped` or `current`
    #[arg(value_name = "B")]
    new: String,
    /// Which calls of the decision log are quoted again: 7d, or a time
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: String,
}

const COMMAND: &str = "prices diff";

/// Differing quotes of one model that are shown to people.
const MOST_QUOTES: usize = 12;

pub(super) fn run(args: &DiffArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    let (old, new) = match sides(args, &desk) {
        Ok(sides) => sides,
        Err(problems) => return failed(COMMAND, global, WRONG, &problems),
    };
    let calls = match calls(&desk, &args.since) {
        Ok(calls) => calls,
        Err((code, problem)) => return failed(COMMAND, global, code, &[problem]),
    };
    let change = Change::between(&old, &new, &calls, &args.since);
    let text = change.text(Screen::stdout());
    told(COMMAND, global, DONE, change.facts(), &text)
}

/// Attempts since then that were billed, as requests.
///
/// # Errors
/// The exit code and what is wrong: the moment, or the log.
pub(super) fn calls(desk: &Desk, since: &str) -> Result<Vec<ImageRequest>, (u8, Problem)> {
    let since = moment(since)?;
    let past = past(desk, since)?;
    let attempts = past.attempts.into_iter();
    Ok(attempts.map(|attempt| attempt.request).collect())
}

pub(super) fn moment(since: &str) -> Result<Timestamp, (u8, Problem)> {
    tail::moment(since).map_err(|why| {
        let remedy = "for the last month write --since 30d";
        (WRONG, misused(format!("--since: {why}"), remedy))
    })
}

pub(super) fn past(desk: &Desk, since: Timestamp) -> Result<Past, (u8, Problem)> {
    Past::read(desk.settings.log.as_deref(), since).map_err(|error| {
        let problem = Problem::anywhere("log", format!("the decision log: {error}"));
        let remedy = "check who may read it; `--set log=PATH` names another";
        (FAILED, problem.remedy(remedy))
    })
}

/// One side of a comparison, before it is a book.
enum Named {
    Book(Book),
    File(String, String),
}

fn sides(args: &DiffArgs, desk: &Desk) -> Result<(Book, Book), Vec<Problem>> {
    let (old, new) = (named(&args.old, desk)?, named(&args.new, desk)?);
    if let (Named::File(a, old), Named::File(b, new)) = (&old, &new)
        && let (Ok(old), Ok(new)) = (Book::load(&[(a, old)]), Book::load(&[(b, new)]))
    {
        return Ok((desk.as_here(&old), desk.as_here(&new)));
    }
    Ok((whole(old, desk)?, whole(new, desk)?))
}

fn named(name: &str, desk: &Desk) -> Result<Named, Vec<Problem>> {
    match name {
        "shipped" => Ok(Named::Book(desk.as_here(Book::embedded()))),
        "current" => Ok(Named::Book(desk.book.clone())),
        path => match std::fs::read_to_string(Path::new(path)) {
            Ok(text) => Ok(Named::File(path.to_owned(), text)),
            Err(error) => {
                let problem = Problem {
                    file: Some(path.to_owned()),
                    ..Problem::anywhere("missing_file", format!("cannot be read: {error}"))
                };
                Err(vec![problem.remedy(
                    "name a price file, `shipped` (the book of this release) or `current` (with your own files)",
                )])
            }
        },
    }
}

/// A file laid over the shipped book.
fn whole(named: Named, desk: &Desk) -> Result<Book, Vec<Problem>> {
    match named {
        Named::Book(book) => Ok(book),
        Named::File(name, text) => Book::with(&[(&name, &text)])
            .map(|book| desk.as_here(&book))
            .map_err(|found| found.into_iter().map(price_problem).collect()),
    }
}

/// What another book changes.
pub(super) struct Change<'a> {
    pub(super) diff: Diff,
    effect: Effect,
    new: &'a Book,
    since: &'a str,
}

impl<'a> Change<'a> {
    pub(super) fn between(
        old: &Book,
        new: &'a Book,
        calls: &[ImageRequest],
        since: &'a str,
    ) -> Change<'a> {
        Change {
            diff: Diff::between(old, new),
            effect: Effect::of(old, new, calls),
            new,
            since,
        }
    }

    pub(super) fn text(&self, screen: Screen) -> String {
        let Diff {
            added,
            removed,
            changed,
            providers,
            stores,
        } = &self.diff;
        if self.diff.is_empty() {
            return "both books say the same\n".to_owned();
        }
        let mut out = String::new();
        for model in added {
            let price = self.new.model(model).and_then(|row| row.usual_price());
            let price = known(price.map(|(from, _)| from));
            out.push_str(&screen.line(&format!("+ {model}  from {price} a picture"), Ink::Green));
        }
        for model in removed {
            out.push_str(&screen.line(&format!("- {model}"), Ink::Red));
        }
        for changed in changed {
            let text = format!("~ {}  {}", changed.model, changed.parts.join(", "));
            out.push_str(&screen.line(&text, Ink::Yellow));
            out.push_str(&quotes(changed).render(screen));
            let more = changed.quotes.len().saturating_sub(MOST_QUOTES);
            if more > 0 {
                let text = format!("    and {more} more; --json has them all");
                out.push_str(&screen.line(&text, Ink::Dim));
            }
        }
        for (what, entries) in [("provider", providers), ("store", stores)] {
            for ChangedEntry { name, parts } in entries {
                let text = format!("~ {what} {name}  {}", parts.join(", "));
                out.push_str(&screen.line(&text, Ink::Yellow));
            }
        }
        out.push_str(&format!(
            "{} added, {} removed, {} changed\n",
            added.len(),
            removed.len(),
            changed.len() + providers.len() + stores.len()
        ));
        out.push_str(&self.effect_text(screen));
        out
    }

    fn effect_text(&self, screen: Screen) -> String {
        let effect = &self.effect;
        let when = format!("calls since {}", self.since);
        let mut out = if effect.calls == 0 {
            format!("{when}: none that both books can price\n")
        } else {
            format!(
                "{when}: {} quoted again, {} becomes {} ({})\n",
                effect.calls,
                effect.old.pretty(),
                effect.new.pretty(),
                signed(effect.new - effect.old)
            )
        };
        let mut table = Table::new(&[("", Side::Left), ("", Side::Right), ("", Side::Left)]);
        for (model, part) in &effect.by_model {
            let change = format!("{} → {}", part.old.pretty(), part.new.pretty());
            table.row([
                plain(model.to_string()),
                plain(format!("{} calls", part.calls)),
                plain(change),
            ]);
        }
        out.push_str(&table.indented(2).render(screen));
        for (count, what) in [
            (effect.now_priced, "get a price"),
            (effect.no_longer_priced, "lose their price"),
            (effect.unpriced, "have a price in neither"),
        ] {
            if count > 0 {
                out.push_str(&format!("  {count} calls {what}\n"));
            }
        }
        out
    }

    pub(super) fn facts(&self) -> ChangeFacts<'_> {
        let effect = &self.effect;
        ChangeFacts {
            added: &self.diff.added,
            removed: &self.diff.removed,
            changed: self.diff.changed.iter().map(ChangedFacts::of).collect(),
            providers: EntryFacts::all(&self.diff.providers),
            stores: EntryFacts::all(&self.diff.stores),
            effect: EffectFacts {
                since: self.since,
                calls: effect.calls,
                old: effect.old,
                new: effect.new,
                difference: effect.new - effect.old,
                now_priced: effect.now_priced,
                no_longer_priced: effect.no_longer_priced,
                unpriced: effect.unpriced,
                by_model: effect
                    .by_model
                    .iter()
                    .map(|(model, part)| PartFacts {
                        model,
                        calls: part.calls,
                        old: part.old,
                        new: part.new,
                    })
                    .collect(),
            },
        }
    }
}

fn quotes(changed: &Changed) -> Table {
    let mut table = Table::new(&[("", Side::Left), ("", Side::Left)]).indented(4);
    for quote in changed.quotes.iter().take(MOST_QUOTES) {
        let change = format!("{} → {}", known(quote.old), known(quote.new));
        table.row([plain(quote.what.clone()), plain(change)]);
    }
    table
}

/// A change in JSON.
#[derive(Debug, Serialize)]
pub(super) struct ChangeFacts<'a> {
    added: &'a [ModelId],
    removed: &'a [ModelId],
    changed: Vec<ChangedFacts<'a>>,
    providers: Vec<EntryFacts<'a>>,
    stores: Vec<EntryFacts<'a>>,
    effect: EffectFacts<'a>,
}

/// A provider or a store that differs, in JSON.
#[derive(Debug, Serialize)]
struct EntryFacts<'a> {
    name: &'a str,
    parts: &'a [&'static str],
}

impl<'a> EntryFacts<'a> {
    fn all(entries: &'a [ChangedEntry]) -> Vec<EntryFacts<'a>> {
        let entries = entries.iter();
        entries
            .map(|ChangedEntry { name, parts }| EntryFacts { name, parts })
            .collect()
    }
}

#[derive(Debug, Serialize)]
struct ChangedFacts<'a> {
    model: &'a ModelId,
    parts: &'a [&'static str],
    quotes: Vec<QuoteFacts<'a>>,
}

#[derive(Debug, Serialize)]
struct QuoteFacts<'a> {
    what: &'a str,
    old: Option<Usd>,
    new: Option<Usd>,
}

impl<'a> ChangedFacts<'a> {
    fn of(changed: &'a Changed) -> ChangedFacts<'a> {
        let quotes = changed.quotes.iter();
        ChangedFacts {
            model: &changed.model,
            parts: &changed.parts,
            quotes: quotes
                .map(|quote| QuoteFacts {
                    what: &quote.what,
                    old: quote.old,
                    new: quote.new,
                })
                .collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct EffectFacts<'a> {
    since: &'a str,
    calls: u64,
    old: Usd,
    new: Usd,
    difference: Usd,
    now_priced: u64,
    no_longer_priced: u64,
    unpriced: u64,
    by_model: Vec<PartFacts<'a>>,
}

#[derive(Debug, Serialize)]
struct PartFacts<'a> {
    model: &'a ModelId,
    calls: u64,
    old: Usd,
    new: Usd,
}
