//! `pixtoll prices age`: prices that nobody has looked at for long.

use clap::Args;
use jiff::civil::Date;
use serde::Serialize;

use super::Desk;
use crate::cli::envelope::told;
use crate::cli::paint::Ink;
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, Global, NO};
use crate::image::ModelId;
use crate::price::Book;

#[derive(Debug, Args)]
pub(crate) struct AgeArgs {
    /// How old a price may be
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// Retired models, too: their prices change no more
    #[arg(long)]
    retired: bool,
}

const COMMAND: &str = "prices age";

#[derive(Debug, Serialize)]
struct Aged<'a> {
    today: &'a str,
    days: u32,
    /// Oldest first.
    old: Vec<Old<'a>>,
    /// Models that were looked at.
    models: usize,
}

#[derive(Debug, Serialize)]
struct Old<'a> {
    model: &'a ModelId,
    as_of: &'a str,
    days: i32,
    source: &'a str,
}

pub(super) fn run(args: &AgeArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    let aged = aged(args, &desk.book, &desk.today);
    let code = if aged.old.is_empty() { DONE } else { NO };
    let text = aged.text(Screen::stdout());
    told(COMMAND, global, code, &aged, &text)
}

fn aged<'a>(args: &AgeArgs, book: &'a Book, today: &'a str) -> Aged<'a> {
    let rows: Vec<_> = book
        .models()
        .filter(|row| args.retired || !row.capability.retired(today))
        .collect();
    let mut old: Vec<Old> = rows
        .iter()
        .filter_map(|row| {
            let days = between(&row.as_of, today)?;
            (i64::from(days) > i64::from(args.days)).then_some(Old {
                model: &row.id,
                as_of: &row.as_of,
                days,
                source: &row.source,
            })
        })
        .collect();
    old.sort_by_key(|old| (old.as_of, old.model));
    Aged {
        today,
        days: args.days,
        old,
        models: rows.len(),
    }
}

/// Days from one to the other. A book holds none but real days.
fn between(from: &str, to: &str) -> Option<i32> {
    let (from, to): (Date, Date) = (from.parse().ok()?, to.parse().ok()?);
    from.until(to).ok().map(|span| span.get_days())
}

impl Aged<'_> {
    fn text(&self, screen: Screen) -> String {
        let Aged { days, models, .. } = self;
        if self.old.is_empty() {
            return format!("no price of {models} models is older than {days} days\n");
        }
        let mut table = Table::new(&[
            ("MODEL", Side::Left),
            ("AS OF", Side::Left),
            ("DAYS", Side::Right),
            ("SOURCE", Side::Left),
        ]);
        for old in &self.old {
            table.row([
                plain(old.model.to_string()),
                plain(old.as_of),
                (old.days.to_string(), Ink::Yellow),
                (old.source.to_owned(), Ink::Dim),
            ]);
        }
        let mut out = table.render(screen);
        let count = self.old.len();
        out.push_str(&format!(
            "{count} of {models} prices are older than {days} days: look at their sources, then correct them in a file under `prices` or with `pixtoll prices update`\n"
        ));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn old(days: u32, retired: bool, today: &str) -> Vec<String> {
        let row = |model: &str, more: &str| {
            format!(
                "- model: {model}\n  capability: {{operations: [generate], sizes: [8x8], usual: 8x8}}\n  price: {{per_image: 1}}\n  source: here\n  as_of: 2026-11-22\n{more}"
            )
        };
        let gone = row("a/gone", "  retired_on: 2026-05-12\n");
        let text = format!("models:\n{}{gone}", row("a/one", ""));
        let book = Book::load(&[("a.yaml", &text)]).unwrap();
        let args = AgeArgs { days, retired };
        let aged = aged(&args, &book, today);
        aged.old.iter().map(|old| old.model.to_string()).collect()
    }

    #[test]
    fn a_price_is_old_after_so_many_days() {
        assert!(old(30, true, "2026-12-22").is_empty());
        assert_eq!(old(30, true, "2026-12-23"), ["a/gone", "a/one"]);
        assert_eq!(old(30, false, "2026-12-23"), ["a/one"]);
    }
}
