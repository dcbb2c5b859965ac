//! What lies between two price books: rows added, removed and changed, and what that does to calls
//! that were made.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::provider::ProviderRow;
use super::row::ModelRow;
use super::store::Store;
use super::swap::{Objection, objections};
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;

/// From one book to another. Every list is sorted by model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    pub added: Vec<ModelId>,
    pub removed: Vec<ModelId>,
    pub changed: Vec<Changed>,
    /// By name: what is said of a provider as a whole.
    pub providers: Vec<ChangedEntry>,
    /// By name: what it costs to keep pictures.
    pub stores: Vec<ChangedEntry>,
}

/// A provider or a store that is not the same in both books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedEntry {
    pub name: String,
    /// What of it differs; `added` or `removed` where only one of both books has it.
    pub parts: Vec<&'static str>,
}

/// A model that is in both books and not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    pub model: ModelId,
    /// What of its row differs: `price`, `capability`, `as_of` …
    pub parts: Vec<&'static str>,
    /// Representative quotes that differ.
    pub quotes: Vec<QuoteChange>,
}

/// One representative picture in both books. `None` where nobody knows its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteChange {
    /// `1024x1024 high`
    pub what: String,
    pub old: Option<Usd>,
    pub new: Option<Usd>,
}

impl Diff {
    /// From `old` to `new`, each as it stands on its day.
    pub fn between(old: &Book, new: &Book) -> Diff {
        let (before, after) = (rows(old), rows(new));
        let only = |a: &Rows, b: &Rows| -> Vec<ModelId> {
            let missing = a.keys().filter(|id| !b.contains_key(*id));
            missing.map(|id| (*id).clone()).collect()
        };
        let both = before
            .iter()
            .filter_map(|(id, was)| Some((*id, *was, *after.get(id)?)));
        let changed = both.filter_map(|(id, was, is)| {
            let mut parts = parts(was, is);
            if names(old, id) != names(new, id) {
                parts.push("aliases");
            }
            if parts.is_empty() && !old.history(id).eq(new.history(id)) {
                parts.push("other days");
            }
            (!parts.is_empty()).then(|| Changed {
                model: id.clone(),
                parts,
                quotes: quotes(was, is),
            })
        });
        Diff {
            added: only(&after, &before),
            removed: only(&before, &after),
            changed: changed.collect(),
            providers: entries(
                old.providers().map(|row| (row.provider.as_str(), row)),
                new.providers().map(|row| (row.provider.as_str(), row)),
                provider_parts,
            ),
            stores: entries(
                old.stores()
                    .iter()
                    .map(|store| (store.store.as_str(), store)),
                new.stores()
                    .iter()
                    .map(|store| (store.store.as_str(), store)),
                store_parts,
            ),
        }
    }

    /// Whether both books say the same.
    pub fn is_empty(&self) -> bool {
        let models = [&self.added, &self.removed];
        let entries = [&self.providers, &self.stores];
        models.iter().all(|list| list.is_empty())
            && self.changed.is_empty()
            && entries.iter().all(|list| list.is_empty())
    }
}

/// What differs between entries of one kind, by name.
fn entries<'a, T: PartialEq + 'a>(
    old: impl Iterator<Item = (&'a str, &'a T)>,
    new: impl Iterator<Item = (&'a str, &'a T)>,
    parts: impl Fn(&T, &T) -> Vec<&'static str>,
) -> Vec<ChangedEntry> {
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) = (old.collect(), new.collect());
    let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
    let changed = names.into_iter().filter_map(|name| {
        let parts = match (old.get(name), new.get(name)) {
            (Some(was), Some(is)) if was == is => return None,
            (Some(was), Some(is)) => parts(was, is),
            (Some(_), None) => vec!["removed"],
            (None, _) => vec!["added"],
        };
        let name = name.to_owned();
        Some(ChangedEntry { name, parts })
    });
    changed.collect()
}

fn provider_parts(was: &ProviderRow, is: &ProviderRow) -> Vec<&'static str> {
    differing(&[
        ("charge", was.signals != is.signals),
        ("failures", was.failures != is.failures),
        ("markup", was.markup != is.markup),
        ("fee", was.fee != is.fee),
        ("source", was.source != is.source),
        ("as_of", was.as_of != is.as_of),
        ("note", was.note != is.note),
    ])
}

fn store_parts(was: &Store, is: &Store) -> Vec<&'static str> {
    differing(&[
        ("per_gb_month", was.per_gb_month != is.per_gb_month),
        ("per_gb_out", was.per_gb_out != is.per_gb_out),
        ("per_1000_writes", was.per_1000_writes != is.per_1000_writes),
        ("per_1000_reads", was.per_1000_reads != is.per_1000_reads),
        ("source", was.source != is.source),
        ("as_of", was.as_of != is.as_of),
        ("note", was.note != is.note),
    ])
}

fn differing(parts: &[(&'static str, bool)]) -> Vec<&'static str> {
    let differing = parts.iter().filter(|(_, differs)| *differs);
    differing.map(|(part, _)| *part).collect()
}

type Rows<'a> = BTreeMap<&'a ModelId, &'a ModelRow>;

fn rows(book: &Book) -> Rows<'_> {
    book.models().map(|row| (&row.id, row)).collect()
}

fn names<'a>(book: &'a Book, id: &ModelId) -> BTreeSet<&'a ModelId> {
    let of_it = book.aliases().filter(|(_, model)| *model == id);
    of_it.map(|(alias, _)| alias).collect()
}

/// What differs between two rows of a model.
fn parts(was: &ModelRow, is: &ModelRow) -> Vec<&'static str> {
    let lifetime = |row: &ModelRow| {
        let able = &row.capability;
        (able.retired_on.clone(), able.successor.clone())
    };
    let able = |row: &ModelRow| {
        let mut able = row.capability.clone();
        (able.retired_on, able.successor) = (None, None);
        able
    };
    differing(&[
        ("price", was.price != is.price),
        ("retirement", lifetime(was) != lifetime(is)),
        ("capability", able(was) != able(is)),
        (
            "auto",
            (was.auto_quality, &was.auto_sizes) != (is.auto_quality, &is.auto_sizes),
        ),
        ("resolutions", was.resolutions != is.resolutions),
        (
            "unpriced_formats",
            was.unpriced_formats != is.unpriced_formats,
        ),
        ("source", was.source != is.source),
        ("as_of", was.as_of != is.as_of),
        (
            "validity",
            (&was.valid_from, &was.valid_to) != (&is.valid_from, &is.valid_to),
        ),
        ("note", was.note != is.note),
    ])
}

/// Representative pictures whose quotes differ; those that only one of both rows lists are quoted
/// there alone.
fn quotes(was: &ModelRow, is: &ModelRow) -> Vec<QuoteChange> {
    let expected = |row: &ModelRow| -> BTreeMap<String, Option<Usd>> {
        let probes = row.probes().into_iter();
        probes
            .map(|probe| (probe.words(), probe.quote.map(|quote| quote.expected)))
            .collect()
    };
    let (old, new) = (expected(was), expected(is));
    let every: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    every
        .into_iter()
        .map(|what| QuoteChange {
            what: what.clone(),
            old: old.get(what).copied().flatten(),
            new: new.get(what).copied().flatten(),
        })
        .filter(|change| change.old != change.new)
        .collect()
}

/// What a change of prices does to calls that were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Calls that both books can price; the sums are over these.
    pub calls: u64,
    pub old: Usd,
    pub new: Usd,
    /// Calls that only the new book can price.
    pub now_priced: u64,
    /// Calls that only the old book could price.
    pub no_longer_priced: u64,
    /// Calls that neither can.
    pub unpriced: u64,
    /// Models whose sums differ.
    pub by_model: BTreeMap<ModelId, ModelEffect>,
}

/// The part of one model in an [`Effect`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModelEffect {
    pub calls: u64,
    pub old: Usd,
    pub new: Usd,
}

impl Effect {
    /// Quotes every call in both books.
    pub fn of<'a>(
        old: &Book,
        new: &Book,
        calls: impl IntoIterator<Item = &'a ImageRequest>,
    ) -> Effect {
        let mut effect = Effect::default();
        for call in calls {
            match (old.quote(call), new.quote(call)) {
                (Some(was), Some(is)) => effect.add(&call.model, was.expected, is.expected),
                (None, Some(_)) => effect.now_priced += 1,
                (Some(_), None) => effect.no_longer_priced += 1,
                (None, None) => effect.unpriced += 1,
            }
        }
        effect.by_model.retain(|_, part| part.old != part.new);
        effect
    }

    fn add(&mut self, model: &ModelId, old: Usd, new: Usd) {
        self.calls += 1;
        self.old += old;
        self.new += new;
        let part = self.by_model.entry(model.clone()).or_default();
        part.calls += 1;
        part.old += old;
        part.new += new;
    }
}

/// What speaks against one file in place of another, beside what [`objections`] says of whole
/// books: a file that lost most of its rows hardly shows under a large book. Files that cannot
/// stand alone are not judged.
pub fn file_objections(old: &str, new: &str) -> Vec<Objection> {
    let (Ok(old), Ok(new)) = (Book::load(&[("old", old)]), Book::load(&[("new", new)])) else {
        return Vec::new();
    };
    let mut found = objections(&old, &new);
    found.retain(|objection| matches!(objection, Objection::Shrunk { .. }));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::spec;

    fn row(model: &str, price: &str, more: &str) -> String {
        format!(
            "- model: {model}\n  capability: {{operations: [generate], sizes: [8x8, 9x9], usual: 8x8}}\n  price: {{per_image: {price}}}\n  source: here\n  as_of: 2026-11-22\n{more}"
        )
    }

    fn book(rows: &[String]) -> Book {
        let text = format!("models:\n{}", rows.concat());
        Book::load(&[("a.yaml", &text)]).unwrap_or_else(|why| panic!("{why:?}"))
    }

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    #[test]
    fn equal_books_do_not_differ() {
        let one = book(&[row("a/one", "0.04", "")]);
        assert!(Diff::between(&one, &one.clone()).is_empty());
    }

    #[test]
    fn rows_come_go_and_change() {
        let old = book(&[
            row("a/gone", "0.04", ""),
            row("a/same", "0.04", ""),
            row("a/dearer", "{8x8: 0.04, 9x9: 0.05}", ""),
            row("a/noted", "0.01", ""),
        ]);
        let new = book(&[
            row("a/same", "0.04", ""),
            row("a/new", "0.04", ""),
            row("a/dearer", "{8x8: 0.04, 9x9: 0.06}", "  aliases: [a/d]\n"),
            row(
                "a/noted",
                "0.01",
                "  note: still\n  retired_on: 2026-12-01\n",
            ),
        ]);
        let diff = Diff::between(&old, &new);
        assert_eq!(diff.added, [ModelId::new("a", "new")]);
        assert_eq!(diff.removed, [ModelId::new("a", "gone")]);
        let [dearer, noted] = diff.changed.as_slice() else {
            panic!("{:?}", diff.changed);
        };
        assert_eq!(dearer.parts, ["price", "aliases"]);
        assert_eq!(
            dearer.quotes,
            [QuoteChange {
                what: "9x9".to_owned(),
                old: Some(usd("0.05")),
                new: Some(usd("0.06")),
            }]
        );
        assert_eq!(noted.parts, ["retirement", "note"]);
        assert_eq!(noted.quotes, []);
    }

    #[test]
    fn what_holds_for_a_whole_provider_and_what_keeping_costs_may_differ_too() {
        let of = |failures: &str, fee: &str, keep: &str| {
            let text = format!(
                "providers:
- {{provider: a, failures: {{safety: {failures}}}, source: here, as_of: 2026-11-22{fee}}}
stores:
- {{store: attic, per_gb_month: {keep}, per_gb_out: 0, source: here, as_of: 2026-11-22}}
"
            );
            Book::load(&[("a.yaml", &text)]).unwrap_or_else(|why| panic!("{why:?}"))
        };
        let old = of("yes", "", "0.02");
        assert!(Diff::between(&old, &of("yes", "", "0.02")).is_empty());
        let entry = |name: &str, parts: &[&'static str]| ChangedEntry {
            name: name.to_owned(),
            parts: parts.to_vec(),
        };
        let diff = Diff::between(&old, &of("no", ", fee: 5%", "0.03"));
        assert!(!diff.is_empty());
        assert_eq!(diff.providers, [entry("a", &["failures", "fee"])]);
        assert_eq!(diff.stores, [entry("attic", &["per_gb_month"])]);
        let other = Book::load(&[(
            "a.yaml",
            "providers: [{provider: b, source: here, as_of: 2026-11-22}]",
        )]);
        let diff = Diff::between(&old, &other.unwrap());
        assert_eq!(
            diff.providers,
            [entry("a", &["removed"]), entry("b", &["added"])]
        );
        assert_eq!(diff.stores, [entry("attic", &["removed"])]);
    }

    #[test]
    fn a_price_of_a_day_to_come_is_a_change() {
        let old = book(&[row("a/one", "0.04", "")]);
        let new = book(&[
            row("a/one", "0.04", "  valid_to: 2027-01-01\n"),
            row("a/one", "0.05", "  valid_from: 2027-01-01\n"),
        ]);
        let changed = &Diff::between(&old, &new.on("2026-11-22")).changed;
        assert_eq!(changed[0].parts, ["validity"]);
        let later = book(&[
            row("a/one", "0.04", "  valid_to: 2027-01-01\n"),
            row("a/one", "0.06", "  valid_from: 2027-01-01\n"),
        ]);
        let changed = &Diff::between(&new.on("2026-11-22"), &later.on("2026-11-22")).changed;
        assert_eq!(changed[0].parts, ["other days"]);
    }

    #[test]
    fn a_file_that_lost_its_rows_is_objected_to() {
        let text = |count: usize| {
            let rows: Vec<String> = (0..count)
                .map(|place| row(&format!("a/m{place:02}"), "0.04", ""))
                .collect();
            format!("models:\n{}", rows.concat())
        };
        assert_eq!(file_objections(&text(20), &text(18)), []);
        assert_eq!(
            file_objections(&text(20), &text(3)),
            [Objection::Shrunk {
                before: 20,
                lost: 17
            }]
        );
        assert_eq!(file_objections("no book", &text(3)), []);
    }

    #[test]
    fn past_calls_are_quoted_in_both_books() {
        let old = book(&[row("a/one", "0.04", ""), row("a/two", "0.01", "")]);
        let new = book(&[row("a/one", "0.05", ""), row("a/three", "0.01", "")]);
        let call = |text: &str| {
            let all = book(&[
                row("a/one", "1", ""),
                row("a/two", "1", ""),
                row("a/three", "1", ""),
                row("a/four", "1", ""),
            ]);
            spec::read(&all, text, None).unwrap()
        };
        let calls = ["a/one n=2", "a/one", "a/two", "a/three", "a/four"].map(call);
        let effect = Effect::of(&old, &new, &calls);
        assert_eq!(
            (effect.calls, effect.old, effect.new),
            (2, usd("0.12"), usd("0.15"))
        );
        assert_eq!(
            (effect.no_longer_priced, effect.now_priced, effect.unpriced),
            (1, 1, 1)
        );
        assert_eq!(effect.by_model.len(), 1);
    }
}
