//! `pixtoll prices list`: every model with its price in short.

use clap::Args;
use serde::Serialize;

use super::Desk;
use crate::cli::envelope::told;
use crate::cli::paint::Ink;
use crate::cli::quoted::short;
use crate::cli::table::{Screen, Side, Table};
use crate::cli::{DONE, Global};
use crate::image::{ModelId, Operation};
use crate::money::{Rate, Usd};
use crate::price::store::Store;
use crate::price::{Book, ModelRow};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only models that have all these words in their name, an alias, or what they do
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// Only models of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Without retired models
    #[arg(long)]
    available: bool,
    /// Where pictures can be kept instead, and what that costs
    #[arg(long, conflicts_with_all = ["provider", "available"])]
    stores: bool,
}

const COMMAND: &str = "prices list";

pub(super) fn run(args: &ListArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    if args.stores {
        let stores: Vec<&Store> = desk
            .book
            .stores()
            .iter()
            .filter(|s| args.keeps(s))
            .collect();
        let text = stores_text(&stores, Screen::stdout());
        return told(COMMAND, global, DONE, stores_json(&stores), &text);
    }
    let rows = listed(args, &desk.book, &desk.today);
    let text = text(&rows, Screen::stdout());
    told(COMMAND, global, DONE, &rows, &text)
}

#[derive(Debug, Serialize)]
struct Listed<'a> {
    model: &'a ModelId,
    provider: &'a str,
    aliases: Vec<&'a ModelId>,
    operations: &'a [Operation],
    /// What a picture of the usual size is expected to cost, over the qualities.
    price: Option<Range>,
    as_of: &'a str,
    source: &'a str,
    retired: bool,
    retired_on: Option<&'a str>,
    successor: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Range {
    from: Usd,
    to: Usd,
}

/// Sorted by model.
fn listed<'a>(args: &ListArgs, book: &'a Book, today: &str) -> Vec<Listed<'a>> {
    let mut rows: Vec<Listed> = book
        .models()
        .map(|row| Listed::of(row, book, today))
        .filter(|row| args.want(row))
        .collect();
    rows.sort_by(|a, b| a.model.cmp(b.model));
    rows
}

impl ListArgs {
    fn keeps(&self, store: &Store) -> bool {
        let name = store.store.to_lowercase();
        self.words
            .iter()
            .all(|word| name.contains(&word.to_lowercase()))
    }

    fn want(&self, row: &Listed) -> bool {
        let has = |word: &String| {
            let word = word.to_lowercase();
            let names = std::iter::once(&row.model).chain(&row.aliases);
            let mut names = names.map(|name| name.as_str().to_lowercase());
            names.any(|name| name.contains(&word))
                || row
                    .operations
                    .iter()
                    .any(|operation| operation.as_str() == word)
        };
        let provider = self.provider.as_deref();
        provider.is_none_or(|provider| provider == row.provider)
            && !(self.available && row.retired)
            && self.words.iter().all(has)
    }
}

impl<'a> Listed<'a> {
    fn of(row: &'a ModelRow, book: &'a Book, today: &str) -> Listed<'a> {
        let of_it = book.aliases().filter(|(_, id)| **id == row.id);
        let mut aliases: Vec<&ModelId> = of_it.map(|(alias, _)| alias).collect();
        aliases.sort();
        Listed {
            model: &row.id,
            provider: row.id.provider(),
            aliases,
            operations: &row.capability.operations,
            price: row.usual_price().map(|(from, to)| Range { from, to }),
            as_of: &row.as_of,
            source: &row.source,
            retired: row.capability.retired(today),
            retired_on: row.capability.retired_on.as_deref(),
            successor: row.capability.successor.as_deref(),
        }
    }

    fn price(&self) -> String {
        match &self.price {
            None => "unpriced".to_owned(),
            Some(Range { from, to }) if from == to => short(*from),
            Some(Range { from, to }) => format!("{} to {}", short(*from), short(*to)),
        }
    }

    fn mark(&self) -> String {
        match self.retired_on {
            None => String::new(),
            Some(day) if self.retired => format!("retired {day}"),
            Some(day) => format!("until {day}"),
        }
    }
}

fn text(rows: &[Listed], screen: Screen) -> String {
    if rows.is_empty() {
        return "no model of the price book is like that\n".to_owned();
    }
    let mut table = Table::new(&[
        ("MODEL", Side::Left),
        ("A PICTURE", Side::Right),
        ("AS OF", Side::Left),
        ("", Side::Left),
    ]);
    for row in rows {
        let ink = if row.retired { Ink::Dim } else { Ink::Plain };
        table.row([
            (row.model.to_string(), ink),
            (row.price(), ink),
            (row.as_of.to_owned(), Ink::Dim),
            (row.mark(), Ink::Yellow),
        ]);
    }
    let mut out = table.render(screen);
    let note = format!("{} models, a picture of the usual size each\n", rows.len());
    out.push_str(&note);
    out
}

fn usd(rate: Rate) -> Usd {
    rate.of(1).to_usd()
}

/// What a store is paid, as its provider says: a gigabyte, a thousand requests.
fn stores_json(stores: &[&Store]) -> Vec<serde_json::Value> {
    let stores = stores.iter();
    let of = |store: &&Store| {
        serde_json::json!({
            "store": store.store,
            "per_gb_month": usd(store.per_gb_month),
            "per_gb_out": usd(store.per_gb_out),
            "per_1000_writes": usd(store.per_1000_writes),
            "per_1000_reads": usd(store.per_1000_reads),
            "as_of": store.as_of,
            "source": store.source,
            "note": store.note,
        })
    };
    stores.map(of).collect()
}

fn stores_text(stores: &[&Store], screen: Screen) -> String {
    if stores.is_empty() {
        return "no store of the price book is like that\n".to_owned();
    }
    let mut table = Table::new(&[
        ("STORE", Side::Left),
        ("A GB AND MONTH", Side::Right),
        ("A GB OUT", Side::Right),
        ("1000 WRITES", Side::Right),
        ("1000 READS", Side::Right),
        ("AS OF", Side::Left),
    ]);
    for store in stores {
        let rate = |rate: Rate| (usd(rate).pretty(), Ink::Plain);
        table.row([
            (store.store.clone(), Ink::Plain),
            rate(store.per_gb_month),
            rate(store.per_gb_out),
            rate(store.per_1000_writes),
            rate(store.per_1000_reads),
            (store.as_of.clone(), Ink::Dim),
        ]);
    }
    let mut out = table.render(screen);
    out.push_str("in USD; `pixtoll price MODEL --keep STORE` reckons with them\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn models(words: &[&str], provider: Option<&str>, available: bool) -> Vec<String> {
        let args = ListArgs {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            provider: provider.map(str::to_owned),
            available,
            stores: false,
        };
        let rows = listed(&args, Book::embedded(), "2026-11-22");
        rows.iter().map(|row| row.model.to_string()).collect()
    }

    #[test]
    fn words_and_provider_choose() {
        let all = models(&[], None, false);
        assert_eq!(all.len(), Book::embedded().models().count());
        assert!(all.is_sorted());
        let dalle = models(&["DALL"], None, false);
        assert!(dalle.contains(&"openai/dall-e-3".to_owned()), "{dalle:?}");
        let dalle = models(&["DALL"], Some("openai"), false);
        assert_eq!(dalle, ["openai/dall-e-2", "openai/dall-e-3"]);
        assert!(models(&["dall"], Some("openai"), true).is_empty());
        assert_eq!(
            models(&["sd3-medium"], None, false),
            ["stability/sd3.5-medium"]
        );
        assert!(models(&["upscale"], Some("stability"), false).len() >= 3);
        assert!(models(&["upscale"], Some("openai"), false).is_empty());
    }
}
