//! The words of money: what a request is quoted, what it was charged, and the signals between.

use smol_str::SmolStr;

use crate::image::words;
use crate::money::Usd;

/// The price of a request before it is sent.
///
/// `low == high` when nothing about it is open. A budget holds `high`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    pub low: Usd,
    pub expected: Usd,
    pub high: Usd,
    /// One entry for each term of the expected price.
    pub lines: Vec<Line>,
}

impl Quote {
    /// The same so many times over.
    #[must_use]
    pub fn times(mut self, times: u32) -> Quote {
        let times = u64::from(times);
        for amount in [&mut self.low, &mut self.expected, &mut self.high] {
            *amount = amount.scaled(times, 1);
        }
        for line in &mut self.lines {
            line.count = line.count.saturating_mul(times);
            line.amount = line.amount.scaled(times, 1);
        }
        self
    }

    /// This and another together; terms of one kind are one line.
    #[must_use]
    pub fn and(mut self, other: Quote) -> Quote {
        self.low += other.low;
        self.expected += other.expected;
        self.high += other.high;
        for line in other.lines {
            match self.lines.iter_mut().find(|own| own.what == line.what) {
                Some(own) => {
                    own.count = own.count.saturating_add(line.count);
                    own.amount += line.amount;
                }
                None => self.lines.push(line),
            }
        }
        self
    }
}

/// One term of a price: so many units at so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is counted: `image`, `text in`, `image out`, `partial image` …
    pub what: &'static str,
    pub count: u64,
    pub amount: Usd,
}

words! {
    /// Where the figure of a charge comes from.
    ChargeFrom {
        /// The provider said so in money, ticks or credits.
        Reported = "reported",
        /// Usage counts of the answer times the book's rates.
        Usage = "usage",
        /// The book's price for what really came.
        List = "list",
        /// Nothing was charged.
        None = "none",
        /// The book does not know the model.
        Unpriced = "unpriced",
    }
}

/// What an attempt really cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// `None` when the book does not know: never zero.
    pub amount: Option<Usd>,
    pub from: ChargeFrom,
}

impl Charge {
    /// Nothing was charged.
    pub const NONE: Charge = Charge {
        amount: Some(Usd::ZERO),
        from: ChargeFrom::None,
    };
    /// Something was charged, and nobody knows what.
    pub const UNPRICED: Charge = Charge {
        amount: None,
        from: ChargeFrom::Unpriced,
    };
}

/// Counts an answer reports. `None` where it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub text_in: Option<u64>,
    pub image_in: Option<u64>,
    pub cached_text_in: Option<u64>,
    pub cached_image_in: Option<u64>,
    pub text_out: Option<u64>,
    pub image_out: Option<u64>,
    /// Milliseconds that a machine worked and is paid for.
    pub millis: Option<u64>,
    /// Units that the provider counts (pictures, megapixels, whatever its price is by), as exact
    /// text.
    pub units: Option<String>,
    /// In the provider's own credits, as exact text.
    pub credits: Option<String>,
    /// In money, where the provider says.
    pub reported: Option<Usd>,
}

impl Usage {
    /// Whether the answer told any tokens at all.
    pub fn has_tokens(&self) -> bool {
        self.text_in
            .or(self.image_in)
            .or(self.image_out)
            .or(self.text_out)
            .is_some()
    }
}

/// Every billing signal of an answer by name: usage counts, cost fields, rate-limit headers.
///
/// A short list in order of arrival; names are unique.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    pub request_id: Option<String>,
    pub entries: Vec<(SmolStr, SmolStr)>,
}

impl Codes {
    /// Keeps one signal; a later one of the same name replaces it.
    pub fn put(&mut self, name: impl Into<SmolStr>, text: impl Into<SmolStr>) {
        let (name, text) = (name.into(), text.into());
        match self.entries.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = text,
            None => self.entries.push((name, text)),
        }
    }

    /// Keeps a header of the answer under its own name, when it is there and readable.
    pub fn put_header(&mut self, headers: &http::HeaderMap, name: &str) {
        if let Some(text) = headers.get(name).and_then(|value| value.to_str().ok()) {
            self.put(name, text);
        }
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, text)| text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_of_several_calls_add_up_term_by_term() {
        let usd = |nano| Usd::from_nano(nano);
        let line = |what, count, nano| Line {
            what,
            count,
            amount: usd(nano),
        };
        let of = |low, high, lines: &[Line]| Quote {
            low: usd(low),
            expected: usd(low),
            high: usd(high),
            lines: lines.to_vec(),
        };
        let call = of(7, 9, &[line("image", 4, 4), line("call", 1, 3)]);
        let rest = of(4, 5, &[line("image", 1, 1), line("fee", 1, 3)]);
        let lines = [line("image", 9, 9), line("call", 2, 6), line("fee", 1, 3)];
        assert_eq!(call.times(2).and(rest), of(18, 23, &lines));
    }
}
