//! `pixtoll prices show`: all that the book knows of a model.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::Desk;
use crate::cli::envelope::{failed, told};
use crate::cli::paint::Ink;
use crate::cli::quoted::{QuoteFacts, short};
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, Global, WRONG};
use crate::config::Problem;
use crate::image::capability::{Capability, Sizes};
use crate::image::{ModelId, Quality, Tier};
use crate::price::probe::Probe;
use crate::price::{Book, ModelRow};

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// With or without its provider; an alias will do
    model: String,
}

const COMMAND: &str = "prices show";

pub(super) fn run(args: &ShowArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    let row = match desk.book.find(&args.model) {
        Ok(row) => row,
        Err(why) => {
            let (message, remedy) = why.explain(&args.model);
            let problem = Problem::anywhere("unknown_model", message).remedy(remedy);
            return failed(COMMAND, global, WRONG, &[problem]);
        }
    };
    let shown = Shown::of(row, &desk.book, &desk.today);
    let text = shown.text(row, Screen::stdout());
    told(COMMAND, global, DONE, &shown, &text)
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    model: &'a ModelId,
    aliases: Vec<&'a ModelId>,
    /// One picture in every listed size, quality and tier.
    prices: Vec<Price>,
    capability: Value,
    retired: bool,
    retired_on: Option<&'a str>,
    successor: Option<&'a str>,
    source: &'a str,
    as_of: &'a str,
    note: Option<&'a str>,
    /// Every row of the model, in the order of the files.
    history: Vec<Era<'a>>,
    /// The row as a price file has it.
    yaml: String,
}

#[derive(Debug, Serialize)]
struct Price {
    /// `1024x1024`, or a shape and a resolution: `1:1 2K`.
    size: String,
    quality: Option<Quality>,
    tier: Tier,
    quote: Option<QuoteFacts>,
}

/// A row and the days on which it holds.
#[derive(Debug, Serialize)]
struct Era<'a> {
    valid_from: Option<&'a str>,
    valid_to: Option<&'a str>,
    as_of: &'a str,
    source: &'a str,
    /// Whether it is the one in force.
    current: bool,
    /// One picture of the usual size, from the least to the most over the qualities.
    price: Option<[crate::money::Usd; 2]>,
}

impl<'a> Shown<'a> {
    fn of(row: &'a ModelRow, book: &'a Book, today: &str) -> Shown<'a> {
        let mut aliases: Vec<&ModelId> = book
            .aliases()
            .filter(|(_, id)| **id == row.id)
            .map(|(alias, _)| alias)
            .collect();
        aliases.sort();
        let price = |probe: Probe| Price {
            size: probe.size.to_string(),
            quality: probe.quality,
            tier: probe.tier,
            quote: probe.quote.as_ref().map(QuoteFacts::from),
        };
        let era = |old: &'a ModelRow| Era {
            valid_from: old.valid_from.as_deref(),
            valid_to: old.valid_to.as_deref(),
            as_of: &old.as_of,
            source: &old.source,
            current: std::ptr::eq(old, row),
            price: old.usual_price().map(|(from, to)| [from, to]),
        };
        Shown {
            model: &row.id,
            aliases,
            prices: row.probes().into_iter().map(price).collect(),
            capability: capability(&row.capability),
            retired: row.capability.retired(today),
            retired_on: row.capability.retired_on.as_deref(),
            successor: row.capability.successor.as_deref(),
            source: &row.source,
            as_of: &row.as_of,
            note: row.note.as_deref(),
            history: book.history(&row.id).map(era).collect(),
            yaml: book.row_to_yaml(row),
        }
    }

    fn text(&self, row: &ModelRow, screen: Screen) -> String {
        let mut out = screen.line(self.model.as_str(), Ink::Bold);
        let mut facts = Table::new(&[("", Side::Left), ("", Side::Left)]).indented(2);
        for (name, value) in self.about() {
            facts.row([(name.to_owned(), Ink::Dim), plain(value)]);
        }
        out.push_str(&facts.render(screen));
        out.push_str("\nA picture\n");
        out.push_str(&prices(&row.probes()).render(screen));
        out.push_str("\nWhat it takes\n");
        let mut able = Table::new(&[("", Side::Left), ("", Side::Left)]).indented(2);
        for (name, value) in self.capability.as_object().into_iter().flatten() {
            if let Some(text) = words(value) {
                able.row([(name.replace('_', " "), Ink::Dim), plain(text)]);
            }
        }
        out.push_str(&able.render(screen));
        out.push_str("\nPrices over time\n");
        out.push_str(&self.eras().render(screen));
        out.push_str("\nAs a price file has it\n");
        for line in self.yaml.lines() {
            out.push_str(&screen.line(&format!("  {line}"), Ink::Dim));
        }
        out
    }

    fn about(&self) -> Vec<(&'static str, String)> {
        let mut about = Vec::new();
        if !self.aliases.is_empty() {
            let names: Vec<&str> = self.aliases.iter().map(|alias| alias.as_str()).collect();
            about.push(("aliases", names.join(", ")));
        }
        if let Some(day) = self.retired_on {
            let when = if self.retired { "since" } else { "from" };
            let successor = self.successor.map(|id| format!("; {id} follows it"));
            about.push((
                "retired",
                format!("{when} {day}{}", successor.unwrap_or_default()),
            ));
        }
        about.push(("as of", self.as_of.to_owned()));
        about.push(("source", self.source.to_owned()));
        about.extend(self.note.map(|note| ("note", note.to_owned())));
        about
    }

    fn eras(&self) -> Table {
        let mut table = Table::new(&[
            ("", Side::Left),
            ("", Side::Right),
            ("", Side::Left),
            ("", Side::Left),
        ])
        .indented(2);
        for era in &self.history {
            let days = match (era.valid_from, era.valid_to) {
                (None, None) => "always".to_owned(),
                (Some(from), None) => format!("from {from}"),
                (None, Some(to)) => format!("before {to}"),
                (Some(from), Some(to)) => format!("from {from}, before {to}"),
            };
            let price = match era.price {
                None => "unpriced".to_owned(),
                Some([from, to]) if from == to => short(from),
                Some([from, to]) => format!("{} to {}", short(from), short(to)),
            };
            let mark = if era.current { "in force" } else { "" };
            table.row([
                plain(days),
                plain(price),
                (format!("as of {}", era.as_of), Ink::Dim),
                (mark.to_owned(), Ink::Green),
            ]);
        }
        table
    }
}

/// Sizes down, qualities across, a block for each tier.
fn prices(probes: &[Probe]) -> Table {
    let mut table = Table::new(&[
        ("SIZE", Side::Left),
        ("QUALITY", Side::Left),
        ("TIER", Side::Left),
        ("EXPECTED", Side::Right),
        ("AT LEAST", Side::Right),
        ("AT MOST", Side::Right),
    ])
    .indented(2);
    for probe in probes {
        let cell = |amount: Option<crate::money::Usd>| {
            plain(amount.map_or_else(|| "unpriced".to_owned(), crate::money::Usd::pretty))
        };
        let quote = probe.quote.as_ref();
        table.row([
            plain(probe.size.to_string()),
            plain(probe.quality.map_or("", Quality::as_str)),
            plain(probe.tier.as_str()),
            cell(quote.map(|quote| quote.expected)),
            cell(quote.map(|quote| quote.low)),
            cell(quote.map(|quote| quote.high)),
        ]);
    }
    table
}

/// What a model can be asked for, in the words of a price file.
fn capability(able: &Capability) -> Value {
    json!({
        "operations": able.operations,
        "sizes": sizes(&able.sizes),
        "usual": side(able.usual),
        "qualities": able.qualities,
        "formats": able.formats,
        "max_n": able.max_n,
        "seed": able.seed,
        "negative_prompt": able.negative_prompt,
        "steps": able.steps.map(|(least, most)| [least, most]),
        "guidance": able.guidance,
        "strength": able.strength,
        "styles": able.styles,
        "backgrounds": able.backgrounds,
        "compression": able.compression,
        "max_inputs": able.max_inputs,
        "mask": able.mask,
        "stream": able.stream,
        "safety": able.safety,
        "tiers": able.tiers,
        "deliveries": able.deliveries,
    })
}

fn side((width, height): (u32, u32)) -> String {
    format!("{width}x{height}")
}

fn sizes(sizes: &Sizes) -> Value {
    match sizes {
        Sizes::Pixels(list) => list.iter().copied().map(side).collect(),
        Sizes::Aspects(shapes) => {
            let shapes = shapes.iter();
            let named: BTreeMap<String, String> = shapes
                .map(|(aspect, size)| (aspect.to_string(), side(*size)))
                .collect();
            json!({ "aspects": named })
        }
        Sizes::Free(free) => json!({"free": {
            "multiple": free.multiple,
            "min_pixels": free.min_pixels,
            "max_pixels": free.max_pixels,
            "max_side": free.max_side,
            "max_ratio": free.max_ratio,
        }}),
    }
}

/// A value as text; `None` for what the model cannot do.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some("yes".to_owned()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.is_empty() => None,
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(words).collect();
            Some(items.join(", "))
        }
        Value::Object(entries) => {
            let entry = |(name, value): (&String, &Value)| {
                let name = name.replace('_', " ");
                words(value).map(|text| format!("{name} {text}"))
            };
            let entries: Vec<String> = entries.iter().filter_map(entry).collect();
            Some(entries.join(", "))
        }
        Value::Number(number) => (number.as_u64() != Some(0)).then(|| number.to_string()),
    }
}
