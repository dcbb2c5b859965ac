//! What an attempt really cost, and what it is made of.

use super::ask::Ask;
use super::book::Book;
use super::modifier::Terms;
use super::resolution::Resolution;
use super::row::ModelRow;
use super::settle::{Settled, Shortfall};
use super::tally::Tally;
use super::term::{Term, area_of, in_money};
use crate::bill::{Charge, ChargeFrom, Codes, Usage};
use crate::image::capability::Sizes;
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Image, ImageRequest, ImageResponse, Quality, SafetyStage, Size,
};
use crate::money::{Pico, Rate, Usd};

impl Book {
    /// What an answer cost: what the provider reports, else its usage times the book's rates,
    /// else the list price of the pictures that really came. Pictures that moderation kept back
    /// are on the list where the provider bills them for certain.
    pub fn charge(&self, request: &ImageRequest, response: &ImageResponse) -> Charge {
        self.settle(request, response).charge
    }

    /// As [`Book::charge`], with what it is made of and whether less came than was paid for.
    pub fn settle(&self, request: &ImageRequest, response: &ImageResponse) -> Settled {
        let read = self.read_usage(request.model.provider(), &response.usage, &response.codes);
        let usage = read.as_ref().unwrap_or(&response.usage);
        let Some(row) = self.model(&request.model) else {
            return match usage.reported {
                Some(reported) => Settled::reported("reported", 1, reported),
                None => Settled::UNPRICED,
            };
        };
        let withheld = self.withheld_and_billed(request, response);
        let mut settled = row.settle(request, response, usage, withheld);
        settled.short = row.shortfall(request, response, settled.charge);
        settled
    }

    /// How many pictures were drawn, kept back and billed all the same.
    fn withheld_and_billed(&self, request: &ImageRequest, response: &ImageResponse) -> u64 {
        let row = self.provider(request.model.provider());
        let bills = row.and_then(|row| row.bills(FailureKind::Safety, Some(SafetyStage::Output)));
        match bills {
            Some(Billed::Yes) => response.withheld.into(),
            Some(Billed::No | Billed::Unknown) | None => 0,
        }
    }

    /// What a failed attempt cost. A failure that may have been billed counts as its highest
    /// quote: a budget must not hope.
    pub fn failed_charge(&self, request: &ImageRequest, failure: &Failure) -> Charge {
        if let Some(reported) = failure.charge {
            return from(ChargeFrom::Reported, reported);
        }
        let billed = self.billed(request.model.provider(), failure);
        if billed == Billed::No {
            return Charge::NONE;
        }
        if let Some(counted) = self.counted(request, failure) {
            return counted;
        }
        match self.quote(request) {
            None => Charge::UNPRICED,
            Some(quote) if billed == Billed::Yes => from(ChargeFrom::List, quote.expected),
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

    /// What a generation cost that was cut short after `steps` steps or so many milliseconds.
    /// `None` where the model's price is by neither: then it costs what a failure does.
    pub fn cut_short(
        &self,
        request: &ImageRequest,
        steps: Option<u32>,
        millis: Option<u64>,
    ) -> Option<Charge> {
        let row = self.model(&request.model)?;
        let terms = row.terms_for(request)?;
        let mut tally = Tally::new();
        let done = ImageRequest {
            steps: steps.or(request.steps),
            ..request.clone()
        };
        let ask = Ask::before(row, &done);
        let mut measured = false;
        for term in terms {
            measured |= match term {
                Term::Steps(_) => steps.is_some(),
                Term::Seconds(_) | Term::Minutes(_) => millis.is_some(),
                Term::Megapixels(megapixels) => {
                    steps.is_some() && megapixels.steps.is_some_and(|rule| rule.both_ways)
                }
                _ => false,
            };
            let usage = Usage {
                millis,
                ..Usage::default()
            };
            if !term.of_usage(&usage, &ask, &mut tally) {
                term.per_picture(&ask, u64::from(request.n.max(1)), &mut tally);
                term.per_call(&ask, &mut tally);
            }
        }
        let total = row.price.total(&tally, &row.on(request));
        measured.then(|| from(ChargeFrom::Usage, total.expected))
    }
}

fn from(from: ChargeFrom, amount: Usd) -> Charge {
    Charge {
        amount: Some(amount),
        from,
    }
}

impl ModelRow {
    fn on(&self, request: &ImageRequest) -> Terms<'_> {
        Terms {
            tier: request.tier,
            pictures: u64::from(request.n.max(1)),
            account: self.standing.account(),
        }
    }

    fn settle(
        &self,
        request: &ImageRequest,
        response: &ImageResponse,
        usage: &Usage,
        withheld: u64,
    ) -> Settled {
        if let Some((what, count, amount)) = self.of_report(request, usage) {
            let amount = self.price.modifiers.fee(Rate::from(amount).of(1)).to_usd();
            return Settled::reported(what, count, amount);
        }
        let formats = response.images.iter().map(|image| Some(image.format));
        let known = formats.into_iter().all(|format| self.prices(format));
        let Some(terms) = self.terms_for(request).filter(|_| known) else {
            return Settled::UNPRICED;
        };
        let ask = Ask::before(self, request);
        let mut tally = Tally::new();
        let mut counted = false;
        for term in terms {
            if term.of_usage(usage, &ask, &mut tally) {
                counted = true;
            } else {
                self.list(term, request, response, withheld, &mut tally);
            }
        }
        let total = self.price.total(&tally, &self.on(request));
        let source = if counted {
            ChargeFrom::Usage
        } else {
            ChargeFrom::List
        };
        Settled {
            charge: from(source, total.expected),
            lines: total.lines,
            short: None,
        }
    }

    /// What the answer reports: money, credits, or units that the price is by.
    fn of_report(&self, request: &ImageRequest, usage: &Usage) -> Option<(&'static str, u64, Usd)> {
        if let Some(reported) = usage.reported {
            return Some(("reported", 1, reported));
        }
        let terms = self.terms_for(request)?;
        let credits = || {
            let credits: Rate = usage.credits.as_deref()?.parse().ok()?;
            let usd_per_credit = terms.iter().find_map(Term::usd_per_credit)?;
            let amount = in_money(credits, usd_per_credit).of(1).to_usd();
            Some(("credit", whole(credits), amount))
        };
        let units = || {
            let units: Rate = usage.units.as_deref()?.parse().ok()?;
            let ask = Ask::before(self, request);
            let price = terms.iter().find_map(|term| term.unit_price(&ask))?;
            Some(("billable unit", whole(units), times(units, price)))
        };
        credits().or_else(units)
    }

    /// The list price of one term for the pictures that came, and for `withheld` ones that nobody
    /// saw: as large as the first.
    fn list(
        &self,
        term: &Term,
        request: &ImageRequest,
        response: &ImageResponse,
        withheld: u64,
        tally: &mut Tally,
    ) {
        let quality = settled_quality(request, response);
        let mut alike = 1 + withheld;
        for image in &response.images {
            let size = self.drawn_size(request, response, image);
            let ask = Ask::after(self, request, size, quality);
            term.per_picture(&ask, std::mem::replace(&mut alike, 1), tally);
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
        let header = image.width.zip(image.height);
        let told = || Size::parse(response.resolved.size.as_deref()?)?.pixels();
        header
            .filter(|&size| self.draws(size))
            .or_else(|| told().filter(|&size| self.draws(size)))
            .unwrap_or_else(|| self.expected_pixels(request))
    }

    /// Whether this model makes pictures of such a size, in any of its resolutions.
    fn draws(&self, size: (u32, u32)) -> bool {
        let (width, height) = size;
        let same = self
            .capability
            .expected_pixels(&Size::Pixels { width, height })
            == size;
        same || self.resolutions.iter().any(|resolution| {
            let near = |&base: &(u32, u32)| about(resolution.of(base), size, resolution);
            match &self.capability.sizes {
                Sizes::Pixels(list) => list.iter().any(near),
                Sizes::Aspects(shapes) => shapes.iter().any(|(_, base)| near(base)),
                Sizes::Free(_) => false,
            }
        })
    }

    /// Whether pictures came smaller than asked while the charge is that of the larger size.
    fn shortfall(
        &self,
        request: &ImageRequest,
        response: &ImageResponse,
        charge: Charge,
    ) -> Option<Shortfall> {
        let paid = charge.amount?;
        let asked = match &request.size {
            Size::Auto => Size::parse(response.resolved.size.as_deref()?)?.pixels()?,
            _ => self.expected_pixels(request),
        };
        let terms = self.terms_for(request)?;
        let quality = settled_quality(request, response);
        let price = |size| {
            let mut tally = Tally::new();
            for term in terms {
                term.per_picture(&Ask::after(self, request, size, quality), 1, &mut tally);
            }
            self.price.total(&tally, &self.on(request)).expected
        };
        let smaller = |image: &Image| {
            let got = image.width.zip(image.height)?;
            (area_of(got) < area_of(asked) && self.draws(got)).then_some(got)
        };
        let small: Vec<(u32, u32)> = response.images.iter().filter_map(smaller).collect();
        let got = *small.first()?;
        let full = price(asked);
        let over: Usd = small.iter().map(|&size| full - price(size)).sum();
        let images = response.images.len() as u64;
        let due = full.times(images) - over;
        // By the list we charge what came; what a provider says is held against both sizes.
        let by_list = charge.from == ChargeFrom::List;
        let dear = paid.times(2) >= due + full.times(images);
        (over > Usd::ZERO && (by_list || dear)).then_some(Shortfall {
            paid_for: asked,
            got,
            over,
        })
    }
}

/// The quality that the answer says it was drawn in, else what was asked.
fn settled_quality(request: &ImageRequest, response: &ImageResponse) -> Option<Quality> {
    let said = response.resolved.quality.as_deref();
    said.and_then(Quality::parse)
        .filter(|quality| *quality != Quality::Auto)
        .or(request.quality)
}

/// Whether a size is that of a resolution, give or take what providers round sides to.
fn about(a: (u32, u32), b: (u32, u32), resolution: &Resolution) -> bool {
    let slack = resolution.side / 32;
    a.0.abs_diff(b.0) <= slack && a.1.abs_diff(b.1) <= slack
}

/// A decimal count, rounded up.
fn whole(count: Rate) -> u64 {
    const ONE: i128 = 1_000_000_000_000;
    u64::try_from((count.pico() + ONE - 1) / ONE).unwrap_or(0)
}

/// A decimal count times what one costs.
fn times(count: Rate, price: Rate) -> Usd {
    const ONE: i128 = 1_000_000_000_000;
    let product = count.pico().saturating_mul(price.pico());
    Pico::new((product + ONE / 2) / ONE).to_usd()
}
