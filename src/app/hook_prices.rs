//! The price book as hooks may ask it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::bill::Quote;
use crate::config::Settings;
use crate::current::Current;
use crate::dialect::{self, Dialect};
use crate::image::capability::Keep;
use crate::image::{ImageRequest, ModelId};
use crate::plugin::{Prices, Search, Successor};
use crate::price::{Book, ModelRow};

/// So many generations of successors are looked through.
const HEIRS: usize = 8;

/// The book in force, and which of its models this release can speak to.
pub(super) struct BookPrices {
    book: Arc<Current<Book>>,
    dialects: BTreeMap<String, Vec<&'static dyn Dialect>>,
}

impl BookPrices {
    pub(super) fn new(book: Arc<Current<Book>>, settings: &Settings) -> BookPrices {
        let spoken = |names: &[&'static str]| {
            let names = names.iter();
            names.filter_map(|name| dialect::by_name(name)).collect()
        };
        let providers = settings.providers.iter();
        BookPrices {
            book,
            dialects: providers
                .map(|provider| (provider.name.clone(), spoken(&provider.dialects)))
                .collect(),
        }
    }

    fn speaks_to(&self, model: &ModelId) -> bool {
        let dialects = self.dialects.get(model.provider());
        dialects.is_some_and(|all| all.iter().any(|dialect| dialect.serves(model)))
    }
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

impl Prices for BookPrices {
    fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        self.book.get().quote_calls(request)
    }

    fn supports(
        &self,
        model: &ModelId,
        request: &ImageRequest,
        at: Timestamp,
    ) -> Result<(), String> {
        let book = self.book.get();
        let row = book
            .model(model)
            .ok_or_else(|| format!("the price book does not know {model}"))?;
        let able = &row.capability;
        if let Some(on) = able.retired_on.as_ref().filter(|_| able.retired_at(at)) {
            return Err(format!("{model} is gone since {on}"));
        }
        let fitted = able.fit(request, &Keep::Nothing);
        fitted.map(drop).map_err(|misfit| misfit.why)
    }

    fn cheapest(&self, request: &ImageRequest, search: &Search<'_>) -> Option<(ModelId, Quote)> {
        let book = self.book.get();
        let rows: Vec<&ModelRow> = match search.among {
            Some(models) => models.iter().filter_map(|id| book.model(id)).collect(),
            None => book.models().collect(),
        };
        let can = |row: &&ModelRow| self.speaks_to(&row.id) && (search.usable)(&row.id);
        let rows = rows.into_iter().filter(can);
        let today = day(search.at);
        let offer = Book::cheapest(rows, request, search.keep, search.max_cost, &today)?;
        Some((offer.row.id.clone(), offer.quote?))
    }

    fn successor(&self, model: &ModelId, at: Timestamp) -> Option<Successor> {
        let book = self.book.get();
        let next = |id: &ModelId| {
            let able = &book.model(id)?.capability;
            ModelId::parse(able.successor.as_deref()?)
        };
        let gone = |id: &ModelId| {
            let row = book.model(id);
            row.is_some_and(|row| row.capability.retired_at(at))
        };
        // A successor may have gone the same way.
        let heirs = std::iter::successors(next(model), next).take(HEIRS);
        Some(Successor {
            model: heirs.into_iter().find(|heir| !gone(heir))?,
            gone: gone(model),
        })
    }

    fn knows(&self, model: &ModelId) -> bool {
        self.book.get().model(model).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_is_one_that_is_still_there() {
        let row = |model: &str, end: &str| {
            format!(
                "- model: fox/{model}\n  capability: {{operations: [generate], sizes: [8x8], usual: 8x8}}\n  price: {{per_image: 1}}\n  source: here\n  as_of: 2026-11-22\n{end}"
            )
        };
        let end = |day: &str, heir: &str| format!("  retired_on: {day}\n  successor: fox/{heir}\n");
        let rows = [
            row("one", &end("2026-01-01", "two")),
            row("two", &end("2026-06-01", "three")),
            row("three", ""),
        ];
        let book = Book::load(&[("a.yaml", &format!("models:\n{}", rows.concat()))]).unwrap();
        let settings = Settings::defaults("state".into());
        let prices = BookPrices::new(Arc::new(Current::new(Arc::new(book))), &settings);
        let next = |model: &str, at: &str| {
            let next = prices.successor(&ModelId::new("fox", model), at.parse().unwrap());
            next.map(|next| (next.model.model().to_owned(), next.gone))
        };
        let found = |model: &str, gone| Some((model.to_owned(), gone));
        assert_eq!(next("one", "2025-12-31T23:59:59Z"), found("two", false));
        assert_eq!(next("one", "2026-01-01T00:00:00Z"), found("two", true));
        assert_eq!(next("one", "2026-06-01T00:00:00Z"), found("three", true));
        assert_eq!(next("three", "2026-06-01T00:00:00Z"), None);
        assert_eq!(next("four", "2026-06-01T00:00:00Z"), None);
    }
}
