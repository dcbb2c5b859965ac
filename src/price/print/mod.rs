//! Writes the book in its own form, so that what is printed reads as the same book.
//!
//! Parts that files share with anchors are written out; a row reads without the rest of its file.

mod capability;
mod flow;
mod price;

use super::book::Book;
use super::provider::ProviderRow;
use super::row::ModelRow;
use super::signal::{Place, Signals, Unit};
use super::store::Store;
use crate::image::{FailureKind, ModelId, SafetyStage};
use flow::{Flow, decimal, list, spread, text};

impl Book {
    /// The rows in force, the providers and the stores, as a price file.
    pub fn to_yaml(&self) -> String {
        let mut file = String::from("version: 1\ncurrency: USD\n");
        let mut section = |name: &str, parts: Vec<String>| {
            if !parts.is_empty() {
                file += &format!("{name}:\n{}", parts.concat());
            }
        };
        let mut providers: Vec<&ProviderRow> = self.providers().collect();
        providers.sort_by(|a, b| a.provider.cmp(&b.provider));
        section(
            "providers",
            providers.iter().map(|row| row.to_yaml()).collect(),
        );
        section(
            "models",
            self.models().map(|row| self.row_to_yaml(row)).collect(),
        );
        section("stores", self.stores().iter().map(Store::to_yaml).collect());
        file
    }

    /// One model's row with its aliases, as an item of `models:`.
    pub fn row_to_yaml(&self, row: &ModelRow) -> String {
        let own = self.aliases().filter(|(_, id)| **id == row.id);
        let mut aliases: Vec<&ModelId> = own.map(|(alias, _)| alias).collect();
        aliases.sort();
        row.to_yaml(&aliases)
    }
}

impl ModelRow {
    /// The row as an item of `models:`.
    pub fn to_yaml(&self, aliases: &[&ModelId]) -> String {
        let mut item = Item::new("model", text(self.id.as_str()));
        if !aliases.is_empty() {
            item.add("aliases", list(aliases.iter().map(|id| text(id.as_str()))));
        }
        item.add("capability", capability::capability(&self.capability));
        if !self.resolutions.is_empty() {
            item.add(
                "resolutions",
                list(self.resolutions.iter().map(|r| text(r.word))),
            );
        }
        let mut auto = Flow::default();
        auto.add(
            "quality",
            spread(self.auto_quality, |quality| text(quality.as_str())),
        );
        if !self.auto_sizes.is_empty() {
            auto.add(
                "sizes",
                list(self.auto_sizes.iter().map(|&size| flow::size(size))),
            );
        }
        item.add("auto", auto.to_string());
        item.add("price", price::price(&self.price));
        if !self.unpriced_formats.is_empty() {
            let formats = self.unpriced_formats.iter();
            item.add(
                "unpriced_formats",
                list(formats.map(|format| text(format.as_str()))),
            );
        }
        item.maybe("retired_on", self.capability.retired_on.as_deref());
        item.maybe("successor", self.capability.successor.as_deref());
        item.maybe("valid_from", self.valid_from.as_deref());
        item.maybe("valid_to", self.valid_to.as_deref());
        item.origin(&self.source, &self.as_of, self.note.as_deref())
    }
}

impl ProviderRow {
    /// The provider as an item of `providers:`.
    pub fn to_yaml(&self) -> String {
        let mut item = Item::new("provider", text(&self.provider));
        if !self.signals.is_empty() {
            item.add("charge", signals(&self.signals));
        }
        if !self.failures.is_empty() {
            let mut failures = Flow::default();
            for &(kind, stage, billed) in &self.failures {
                failures.add(failure(kind, stage), billed.as_str().to_owned());
            }
            item.add("failures", failures.to_string());
        }
        if let Some(markup) = self.markup {
            item.add("markup", price::increase(markup));
        }
        if let Some(fee) = self.fee {
            item.add("fee", price::increase(fee));
        }
        item.origin(&self.source, &self.as_of, self.note.as_deref())
    }
}

impl Store {
    /// The store as an item of `stores:`.
    pub fn to_yaml(&self) -> String {
        let mut item = Item::new("store", text(&self.store));
        item.add("per_gb_month", decimal(self.per_gb_month));
        item.add("per_gb_out", decimal(self.per_gb_out));
        item.add("per_1000_writes", decimal(self.per_1000_writes));
        item.add("per_1000_reads", decimal(self.per_1000_reads));
        item.origin(&self.source, &self.as_of, self.note.as_deref())
    }
}

fn failure(kind: FailureKind, stage: Option<SafetyStage>) -> &'static str {
    match stage {
        Some(SafetyStage::Input) => "safety_input",
        Some(SafetyStage::Output) => "safety_output",
        None => kind.as_str(),
    }
}

fn signals(signals: &Signals) -> String {
    let mut charge = Flow::default();
    if !signals.reported.is_empty() {
        let reported = signals.reported.iter().map(|told| {
            let mut one = Flow::default();
            add_place(&mut one, &told.place);
            let word = Unit::ALL.iter().find(|(_, known)| *known == told.unit);
            one.add("unit", text(word.map_or("credit", |(word, _)| word)));
            if let Unit::Credit(usd) = told.unit {
                one.add("usd_per_credit", usd.to_string());
            }
            if let Some((place, word)) = &told.only_where {
                let mut only = Flow::default();
                add_place(&mut only, place);
                only.add("is", text(word));
                one.add("where", only.to_string());
            }
            one.to_string()
        });
        charge.add("reported", list(reported));
    }
    if !signals.usage.is_empty() {
        let mut usage = Flow::default();
        for (count, place) in &signals.usage {
            let mut at = Flow::default();
            add_place(&mut at, place);
            usage.add(count.as_str(), at.to_string());
        }
        charge.add("usage", usage.to_string());
    }
    charge.to_string()
}

fn add_place(flow: &mut Flow, place: &Place) {
    match place {
        Place::Pointer(pointer) => flow.add("pointer", text(pointer)),
        Place::Header(name) => flow.add("header", text(name)),
    }
}

/// An item of a list, one key a line.
struct Item(String);

impl Item {
    fn new(key: &str, value: String) -> Item {
        Item(format!("- {key}: {value}\n"))
    }

    fn add(&mut self, key: &str, value: String) {
        self.0 += &format!("  {key}: {value}\n");
    }

    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, text(value));
        }
    }

    /// Ends with where the figures are from.
    fn origin(mut self, source: &str, as_of: &str, note: Option<&str>) -> String {
        self.add("source", text(source));
        self.add("as_of", text(as_of));
        self.maybe("note", note);
        self.0
    }
}
