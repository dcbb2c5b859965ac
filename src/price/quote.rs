//! The price of a request before it is sent.

use super::ask::Ask;
use super::book::Book;
use super::row::ModelRow;
use super::term::Tally;
use crate::bill::Quote;
use crate::image::ImageRequest;

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

    /// Pixels of the pictures that the request will bring, as far as anybody can know.
    pub fn expected_pixels(&self, request: &ImageRequest) -> (u32, u32) {
        match self.model(&request.model) {
            Some(row) => row.capability.expected_pixels(&request.size),
            None => request.pixels().unwrap_or(UNKNOWN_MODEL_PIXELS),
        }
    }
}

impl ModelRow {
    /// What `request` costs on this model, whichever model it names.
    pub fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        if !self.prices(request.format) {
            return None;
        }
        let ask = Ask::before(self, request);
        let mut tally = Tally::new();
        for term in &self.price.terms {
            term.per_picture(&ask, u64::from(request.n.max(1)), &mut tally);
            term.per_call(&ask, &mut tally);
        }
        let ratio = self.price.tier(request.tier);
        let sum = tally.sum(ratio);
        Some(Quote {
            low: sum.low,
            expected: sum.expected,
            high: sum.high,
            lines: tally.lines(ratio),
        })
    }
}
