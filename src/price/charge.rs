//! What an attempt really cost, and where it differs from the quote.

use super::ask::Ask;
use super::book::Book;
use super::row::ModelRow;
use super::term::{Tally, Term, credits_rate};
use crate::bill::{Charge, ChargeFrom, Codes, Quote, Usage};
use crate::image::response::Resolved;
use crate::image::{Billed, Failure, Image, ImageRequest, ImageResponse, Quality, Size};
use crate::money::{Pico, Rate, Usd};

impl Book {
    /// What an answer cost: what the provider reports, else its usage times the book's rates,
    /// else the list price of the pictures that really came. Pictures that moderation kept back
    /// are not on the list.
    pub fn charge(&self, request: &ImageRequest, response: &ImageResponse) -> Charge {
        if let Some(reported) = response.usage.reported {
            return from(ChargeFrom::Reported, reported);
        }
        match self.model(&request.model) {
            Some(row) => row.charge(request, response),
            None => Charge::UNPRICED,
        }
    }

    /// What a failed attempt cost. A failure that may have been billed counts as its highest
    /// quote: a budget must not hope.
    pub fn failed_charge(&self, request: &ImageRequest, failure: &Failure) -> Charge {
        if let Some(reported) = failure.charge {
            return from(ChargeFrom::Reported, reported);
        }
        if failure.billed == Billed::No {
            return Charge::NONE;
        }
        if let Some(counted) = self.counted(request, failure) {
            return counted;
        }
        match self.quote(request) {
            None => Charge::UNPRICED,
            Some(quote) if failure.billed == Billed::Yes => from(ChargeFrom::List, quote.expected),
            Some(quote) => from(ChargeFrom::List, quote.high),
        }
    }

    /// What a failure's own counts come to: a model may read and think before it declines.
    fn counted(&self, request: &ImageRequest, failure: &Failure) -> Option<Charge> {
        if !failure.usage.has_tokens() {
            return None;
        }
        let nothing_drawn = ImageResponse {
            model: request.model.clone(),
            created: None,
            images: Vec::new(),
            withheld: 0,
            resolved: Resolved::default(),
            usage: failure.usage.clone(),
            codes: Codes::default(),
        };
        let charge = self.charge(request, &nothing_drawn);
        (charge.from == ChargeFrom::Usage).then_some(charge)
    }
}

/// By how much a charge lies beside its quote: charge less `quote.expected`, where the charge is
/// below `low` or above `high`. `None` within, and where nothing was charged or nobody knows.
pub fn discrepancy(quote: &Quote, charge: &Charge) -> Option<Usd> {
    let amount = charge.amount.filter(|_| charge.from != ChargeFrom::None)?;
    let within = (quote.low..=quote.high).contains(&amount);
    (!within).then(|| amount - quote.expected)
}

fn from(from: ChargeFrom, amount: Usd) -> Charge {
    Charge {
        amount: Some(amount),
        from,
    }
}

impl ModelRow {
    fn charge(&self, request: &ImageRequest, response: &ImageResponse) -> Charge {
        if let Some(amount) = self.of_credits(&response.usage) {
            return from(ChargeFrom::Reported, amount);
        }
        let drawn = response.images.iter().map(|image| image.format);
        if !self.prices(request.format)
            || drawn.into_iter().any(|format| !self.prices(Some(format)))
        {
            return Charge::UNPRICED;
        }
        match self.of_usage(request, response) {
            Some(amount) => from(ChargeFrom::Usage, amount),
            None => from(ChargeFrom::List, self.of_list(request, response)),
        }
    }

    /// Credits that the answer reports, in money.
    fn of_credits(&self, usage: &Usage) -> Option<Usd> {
        let credits: Rate = usage.credits.as_deref()?.parse().ok()?;
        let usd_per_credit = self.price.terms.iter().find_map(Term::usd_per_credit)?;
        Some(credits_rate(credits, usd_per_credit)?.of(1).to_usd())
    }

    /// Each term by usage where the answer counts it, else by list. `None` when no term is.
    fn of_usage(&self, request: &ImageRequest, response: &ImageResponse) -> Option<Usd> {
        let ask = Ask::before(self, request);
        let mut sum = Pico::ZERO;
        let mut rest = Tally::new();
        let mut counted = false;
        for term in &self.price.terms {
            match term.of_usage(&response.usage, &ask) {
                Some(amount) => {
                    sum += amount;
                    counted = true;
                }
                None => self.list(term, request, response, &mut rest),
            }
        }
        let ratio = self.price.tier(request.tier);
        counted.then(|| ratio.of(sum + rest.expected()).to_usd())
    }

    fn of_list(&self, request: &ImageRequest, response: &ImageResponse) -> Usd {
        let mut tally = Tally::new();
        for term in &self.price.terms {
            self.list(term, request, response, &mut tally);
        }
        tally.sum(self.price.tier(request.tier)).expected
    }

    /// The list price of one term for the pictures that came.
    fn list(
        &self,
        term: &Term,
        request: &ImageRequest,
        response: &ImageResponse,
        tally: &mut Tally,
    ) {
        let resolved = response
            .resolved
            .quality
            .as_deref()
            .and_then(Quality::parse);
        let quality = resolved
            .filter(|quality| *quality != Quality::Auto)
            .or(request.quality);
        for image in &response.images {
            let size = self.drawn_size(request, response, image);
            term.per_picture(&Ask::after(self, request, size, quality), 1, tally);
        }
        term.per_call(&Ask::before(self, request), tally);
    }

    /// The size a picture was drawn in: its own header's, unless this model draws no such size
    /// (then somebody else scaled it), else what the answer says, else what was asked.
    fn drawn_size(
        &self,
        request: &ImageRequest,
        response: &ImageResponse,
        image: &Image,
    ) -> (u32, u32) {
        let draws = |&(width, height): &(u32, u32)| {
            self.capability
                .expected_pixels(&Size::Pixels { width, height })
                == (width, height)
        };
        let header = image.width.zip(image.height);
        let told = || Size::parse(response.resolved.size.as_deref()?)?.pixels();
        header
            .filter(draws)
            .or_else(|| told().filter(draws))
            .unwrap_or_else(|| self.capability.expected_pixels(&request.size))
    }
}
