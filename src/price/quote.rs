//! The price of a request before it is sent.

use super::account::Account;
use super::ask::{self, Ask};
use super::book::Book;
use super::formula::Price;
use super::modifier::Terms;
use super::resolution::Resolution;
use super::row::ModelRow;
use super::spread::{End, Spread};
use super::tally::Tally;
use super::term::Term;
use crate::bill::{Line, Quote};
use crate::image::ImageRequest;
use crate::money::{Pico, Usd};

/// What a picture measures when neither request nor book tells.
const UNKNOWN_MODEL_PIXELS: (u32, u32) = (1024, 1024);

impl Book {
    /// What the request will cost. `None` when the book does not know, which is not zero.
    ///
    /// An unsaid size or quality is quoted as a range: the cheapest it may turn out to be, what
    /// usually comes, and what a budget must reckon with.
    pub fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        self.model(&request.model)?.quote(request)
    }

    /// As [`Book::quote`], for another account than the one the book is for.
    pub fn quote_for(&self, request: &ImageRequest, account: &Account) -> Option<Quote> {
        self.model(&request.model)?.quote_for(request, account)
    }

    /// As [`ModelRow::quote_calls`], on the model that the request names.
    pub fn quote_calls(&self, request: &ImageRequest) -> Option<Quote> {
        self.model(&request.model)?.quote_calls(request)
    }

    /// Pixels of the pictures that the request will bring, as far as anybody can know.
    pub fn expected_pixels(&self, request: &ImageRequest) -> (u32, u32) {
        match self.model(&request.model) {
            Some(row) => row.expected_pixels(request),
            None => request.pixels().unwrap_or(UNKNOWN_MODEL_PIXELS),
        }
    }
}

impl ModelRow {
    /// What `request` costs on this model, whichever model it names.
    pub fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        self.quote_for(request, &self.standing.account())
    }

    /// As [`ModelRow::quote`], for another account than the one the book is for.
    pub fn quote_for(&self, request: &ImageRequest, account: &Account) -> Option<Quote> {
        let terms = self.terms_for(request)?;
        let ask = Ask::before(self, request);
        let pictures = u64::from(request.n.max(1));
        let mut tally = Tally::new();
        for term in terms {
            term.per_picture(&ask, pictures, &mut tally);
            term.per_call(&ask, &mut tally);
        }
        let on = Terms {
            tier: request.tier,
            pictures,
            account: *account,
        };
        Some(self.price.total(&tally, &on))
    }

    /// What `request` costs in as many calls as its pictures take on this model.
    pub fn quote_calls(&self, request: &ImageRequest) -> Option<Quote> {
        let most = self.capability.max_n.max(1);
        if request.n <= most {
            return self.quote(request);
        }
        let of = |n| {
            self.quote(&ImageRequest {
                n,
                ..request.clone()
            })
        };
        let full = of(most)?.times(request.n / most);
        match request.n % most {
            0 => Some(full),
            rest => Some(full.and(of(rest)?)),
        }
    }

    /// Pixels of the pictures that the request will bring. A resolution that the model does not
    /// have leaves them as they are.
    pub(super) fn expected_pixels(&self, request: &ImageRequest) -> (u32, u32) {
        let size = self.capability.expected_pixels(&request.size);
        let named = ask::resolution(request);
        let has = |wanted: &&Resolution| {
            let mut own = self.resolutions.iter();
            own.any(|known| known.side == wanted.side)
        };
        match named.filter(has) {
            Some(resolution) => resolution.of(size),
            None => size,
        }
    }

    /// The terms of a request's price; `None` when nobody knows it.
    pub(super) fn terms_for(&self, request: &ImageRequest) -> Option<&[Term]> {
        let terms = self.price.terms_for(request);
        (!terms.is_empty() && self.prices(request.format)).then_some(terms)
    }
}

impl Price {
    /// What a tally comes to after all factors, with what it is made of.
    pub(super) fn total(&self, tally: &Tally, on: &Terms) -> Quote {
        let factors = &self.modifiers;
        let marked = |end| factors.markup(factors.discounted(tally.sum.at(end), end, on));
        let sum = Spread {
            low: marked(End::Low),
            expected: marked(End::Expected),
            high: marked(End::High),
        }
        .map(|sum| factors.fee(sum).to_usd());
        Quote {
            low: sum.low,
            expected: sum.expected,
            high: sum.high,
            lines: self.lines(tally, on),
        }
    }

    /// The expected price, line by line.
    fn lines(&self, tally: &Tally, on: &Terms) -> Vec<Line> {
        let factors = &self.modifiers;
        let of = |cost: Pico| factors.discounted(cost, End::Expected, on);
        let mut lines = Vec::with_capacity(tally.lines.len() + 2);
        for line in &tally.lines {
            lines.push(Line {
                what: line.what,
                count: line.count,
                amount: of(line.cost).to_usd(),
            });
        }
        let net = of(tally.sum.expected);
        let marked = factors.markup(net);
        let mut add = |what, before: Usd, after: Usd| {
            if after != before {
                lines.push(Line {
                    what,
                    count: 1,
                    amount: after - before,
                });
            }
        };
        add("markup", net.to_usd(), marked.to_usd());
        add("fee", marked.to_usd(), factors.fee(marked).to_usd());
        lines
    }
}
