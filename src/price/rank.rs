//! Which models could serve a request, cheapest first, and what each would lose of it.

use std::cmp::Ordering;

use super::book::Book;
use super::row::ModelRow;
use crate::bill::Quote;
use crate::image::capability::{Keep, Unmet};
use crate::image::{ImageRequest, Misfit};
use crate::money::Usd;

/// A model that could serve a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer<'a> {
    pub row: &'a ModelRow,
    /// The request as this model would get it.
    pub request: ImageRequest,
    /// `None` where nobody knows the price.
    pub quote: Option<Quote>,
    /// Fields that the model has no word for.
    pub lost: Vec<&'static str>,
    /// Wishes that it meets only nearly.
    pub unmet: Vec<Unmet>,
    /// It is gone on the day that was asked about.
    pub retired: bool,
}

/// A model that could not, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal<'a> {
    pub row: &'a ModelRow,
    pub misfit: Misfit,
}

/// What the other models of a book have to say to a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranking<'a> {
    /// Cheapest first; of equals those that meet the request best. What nobody can price is last.
    pub offers: Vec<Offer<'a>>,
    /// By name.
    pub refusals: Vec<Refusal<'a>>,
}

impl Book {
    /// Every model but the one that `request` names. `today` is `YYYY-MM-DD`.
    pub fn rank(&self, request: &ImageRequest, today: &str) -> Ranking<'_> {
        let own = self.model(&request.model).map(|row| &row.id);
        let mut ranking = Ranking::default();
        for row in self.models().filter(|row| Some(&row.id) != own) {
            match row.offer(request, today) {
                Ok(offer) => ranking.offers.push(offer),
                Err(misfit) => ranking.refusals.push(Refusal { row, misfit }),
            }
        }
        ranking.offers.sort_by(order);
        ranking.refusals.sort_by(|a, b| a.row.id.cmp(&b.row.id));
        ranking
    }
}

impl Book {
    /// Of `rows` the one that serves a request for least: still offered on `today`, priced, at
    /// most `most` by its quote's high end, and without losing what is to be kept.
    pub fn cheapest<'b>(
        rows: impl Iterator<Item = &'b ModelRow>,
        request: &ImageRequest,
        keep: &Keep,
        most: Option<Usd>,
        today: &str,
    ) -> Option<Offer<'b>> {
        let within = |offer: &Offer| {
            let quote = offer.quote.as_ref();
            quote.is_some_and(|quote| most.is_none_or(|most| quote.high <= most))
        };
        rows.filter(|row| !row.capability.retired(today))
            .filter_map(|row| row.offer_keeping(request, keep, today).ok())
            .filter(within)
            .min_by(order)
    }
}

impl ModelRow {
    /// What this model would make of a request.
    ///
    /// # Errors
    /// A [`Misfit`] when it cannot serve it.
    pub fn offer(&self, asked: &ImageRequest, today: &str) -> Result<Offer<'_>, Misfit> {
        self.offer_keeping(asked, &Keep::Nothing, today)
    }

    /// What this model would make of a request of which `keep` must not be lost.
    fn offer_keeping(
        &self,
        asked: &ImageRequest,
        keep: &Keep,
        today: &str,
    ) -> Result<Offer<'_>, Misfit> {
        let fitted = self.capability.fit(asked, keep)?;
        let (mut request, mut lost) = (fitted.request, fitted.lost);
        // A provider's own fields mean nothing to another.
        if request.model.provider() != self.id.provider() {
            // What begins with `@` is a dialect's note of where it read the rest.
            if request.extra.keys().any(|key| !key.starts_with('@')) {
                lost.push("extra");
            }
            if keep.covers("extra") && lost.contains(&"extra") {
                return Err(Misfit {
                    field: "extra",
                    why: "fields of one provider's own mean nothing to another".to_owned(),
                });
            }
            request.extra.clear();
        }
        request.model = self.id.clone();
        request.stream &= self.capability.stream;
        Ok(Offer {
            row: self,
            quote: self.quote_calls(&request),
            request,
            lost,
            unmet: fitted.unmet,
            retired: self.capability.retired(today),
        })
    }
}

fn order(a: &Offer, b: &Offer) -> Ordering {
    let price = |offer: &Offer| {
        let quote = offer.quote.as_ref();
        (
            quote.is_none(),
            quote.map(|quote| (quote.expected, quote.high)),
        )
    };
    let left = |offer: &Offer| offer.lost.len() + offer.unmet.len();
    price(a)
        .cmp(&price(b))
        .then_with(|| left(a).cmp(&left(b)))
        .then_with(|| a.row.id.cmp(&b.row.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::spec;

    fn ranked(text: &str) -> (ImageRequest, Ranking<'static>) {
        let book = Book::embedded();
        let request = spec::read(book, text, None).unwrap();
        let ranking = book.rank(&request, "2026-11-22");
        (request, ranking)
    }

    #[test]
    fn others_come_cheapest_first_and_without_the_model_itself() {
        let (request, ranking) = ranked("gpt-image-2 1024x1024 high");
        let prices: Vec<_> = ranking
            .offers
            .iter()
            .filter_map(|offer| Some(offer.quote.as_ref()?.expected))
            .collect();
        assert!(prices.len() > 5 && prices.is_sorted(), "{prices:?}");
        assert!(
            ranking
                .offers
                .iter()
                .all(|offer| offer.row.id != request.model)
        );
        let count = Book::embedded().models().count();
        assert_eq!(ranking.offers.len() + ranking.refusals.len() + 1, count);
    }

    #[test]
    fn what_would_be_lost_and_who_is_gone_is_said() {
        let (_, ranking) = ranked("sd3.5-medium negative_prompt=blur seed=5 1024x1024");
        let of = |id: &str| {
            let mut offers = ranking.offers.iter();
            offers.find(|offer| offer.row.id.as_str() == id).unwrap()
        };
        assert_eq!(of("openai/gpt-image-2").lost, ["negative_prompt", "seed"]);
        assert!(of("openai/dall-e-3").retired);
        assert!(!of("openai/gpt-image-2").retired);
        let refused = ranking
            .refusals
            .iter()
            .find(|refusal| refusal.row.id.as_str() == "stability/upscale-fast");
        assert_eq!(
            refused.map(|refusal| refusal.misfit.field),
            Some("operation")
        );
    }

    #[test]
    fn a_resolution_that_a_model_has_not_is_said() {
        let (_, ranking) = ranked("gpt-image-2 16:9 2K");
        let of = |id: &str| {
            let mut offers = ranking.offers.iter();
            offers.find(|offer| offer.row.id.as_str() == id).unwrap()
        };
        assert_eq!(
            of("stability/sd3.5-medium").unmet,
            [Unmet {
                wish: "size 16:9 2K".to_owned(),
                got: "size 1344x768".to_owned(),
            }]
        );
    }

    #[test]
    fn fields_of_one_providers_own_are_lost_to_another() {
        let (_, ranking) = ranked("gpt-image-2 input_fidelity=high");
        for offer in &ranking.offers {
            let foreign = offer.row.id.provider() != "openai";
            assert_eq!(offer.lost.contains(&"extra"), foreign, "{}", offer.row.id);
        }
    }

    #[test]
    fn the_cheapest_is_still_offered_priced_within_bounds_and_keeps_what_it_must() {
        let book = Book::embedded();
        let request = spec::read(book, "sd3.5-medium negative_prompt=blur 1024x1024", None);
        let request = request.unwrap();
        let find = |keep: &Keep, most: Option<&str>, today: &str| {
            let most = most.map(|most| most.parse().unwrap());
            let offer = Book::cheapest(book.models(), &request, keep, most, today)?;
            Some((offer.row, offer.quote.unwrap(), offer.lost))
        };
        let (row, least, _) = find(&Keep::Nothing, None, "2026-11-22").unwrap();
        assert!(!row.capability.retired("2026-11-22"));
        let ranking = book.rank(&request, "2026-11-22");
        let offers = ranking.offers.iter().filter(|offer| !offer.retired);
        let first = offers.filter_map(|offer| offer.quote.as_ref()).next();
        assert_eq!(Some(least.expected), first.map(|quote| quote.expected));
        let fields = Keep::Fields(vec!["negative_prompt".to_owned()]);
        let (_, kept, lost) = find(&fields, None, "2026-11-22").unwrap();
        assert!(
            kept.expected >= least.expected && lost.is_empty(),
            "{lost:?}"
        );
        assert!(find(&Keep::Nothing, Some("0.000000001"), "2026-11-22").is_none());
        assert!(
            find(&Keep::Nothing, None, "9999-01-01")
                .is_some_and(|(row, ..)| row.capability.retired_on.is_none())
        );
    }

    #[test]
    fn what_nobody_can_price_comes_last() {
        let (_, ranking) = ranked("gpt-image-2.6-sunburst format=svg");
        let unpriced: Vec<bool> = ranking.offers.iter().map(|o| o.quote.is_none()).collect();
        assert!(
            unpriced.is_sorted() && unpriced.contains(&true),
            "{unpriced:?}"
        );
    }
}
