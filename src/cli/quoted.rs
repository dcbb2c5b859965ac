//! Quotes as commands show them: exact in JSON, readable in text.

use serde::Serialize;

use crate::bill::Quote;
use crate::money::Usd;

/// A quote in JSON.
#[derive(Debug, Serialize)]
pub(super) struct QuoteFacts {
    low: Usd,
    expected: Usd,
    high: Usd,
    lines: Vec<LineFacts>,
}

/// One term of a quote in JSON.
#[derive(Debug, Serialize)]
struct LineFacts {
    what: String,
    count: u64,
    amount: Usd,
}

impl From<&Quote> for QuoteFacts {
    fn from(quote: &Quote) -> QuoteFacts {
        let line = |line: &crate::bill::Line| LineFacts {
            what: line.what.to_string(),
            count: line.count,
            amount: line.amount,
        };
        QuoteFacts {
            low: quote.low,
            expected: quote.expected,
            high: quote.high,
            lines: quote.lines.iter().map(line).collect(),
        }
    }
}

/// `$0.04: image 1 $0.04`, for one line.
impl std::fmt::Display for QuoteFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.expected.pretty())?;
        let mut sign = ": ";
        for line in &self.lines {
            let LineFacts {
                what,
                count,
                amount,
            } = line;
            write!(f, "{sign}{what} {count} {}", amount.pretty())?;
            sign = ", ";
        }
        Ok(())
    }
}

/// Money for a table: to a hundredth of a cent, and whole where it is less than that.
pub(super) fn short(amount: Usd) -> String {
    const STEP: i64 = 100_000;
    let rounded = amount.nano().saturating_add(STEP / 2).div_euclid(STEP);
    if amount.nano().abs() < STEP {
        amount.pretty()
    } else {
        Usd::from_nano(rounded.saturating_mul(STEP)).pretty()
    }
}

/// A difference with its sign: `+$0.40`.
pub(super) fn signed(amount: Usd) -> String {
    if amount > Usd::ZERO {
        format!("+{}", amount.pretty())
    } else {
        amount.pretty()
    }
}

/// An amount, or that nobody knows it.
pub(super) fn known(amount: Option<Usd>) -> String {
    amount.map_or_else(|| "unpriced".to_owned(), Usd::pretty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_rounds_to_a_hundredth_of_a_cent() {
        let check = |text: &str, shown: &str| {
            assert_eq!(short(text.parse().unwrap()), shown, "{text}");
        };
        check("0.04", "$0.04");
        check("0.210623", "$0.2106");
        check("0.00595", "$0.006");
        check("0.000015", "$0.000015");
        check("-0.21064", "-$0.2106");
        check("0", "$0.00");
    }
}
