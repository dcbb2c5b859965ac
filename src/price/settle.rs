//! What is said of a charge: its parts, what is missing for it, and how it lies beside its quote.

use crate::bill::{Charge, ChargeFrom, Line, Quote};
use crate::money::Usd;

/// A charge and what it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub charge: Charge,
    pub lines: Vec<Line>,
    /// Where less came than is paid for.
    pub short: Option<Shortfall>,
}

impl Settled {
    pub(super) const UNPRICED: Settled = Settled {
        charge: Charge::UNPRICED,
        lines: Vec::new(),
        short: None,
    };

    /// As the provider says, in whatever it counts.
    pub(super) fn reported(what: &'static str, count: u64, amount: Usd) -> Settled {
        Settled {
            charge: Charge {
                amount: Some(amount),
                from: ChargeFrom::Reported,
            },
            lines: vec![Line {
                what,
                count,
                amount,
            }],
            short: None,
        }
    }
}

/// Pictures that came smaller than what was paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Width and height that were asked for.
    pub paid_for: (u32, u32),
    /// Those of the first picture that is smaller, from its own header.
    pub got: (u32, u32),
    /// What the difference costs by the list, over all such pictures.
    pub over: Usd,
}

/// A charge beyond its quote, with both breakdowns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discrepancy {
    /// Charge less what was expected.
    pub by: Usd,
    pub quoted: Vec<Line>,
    pub charged: Vec<Line>,
}

impl Discrepancy {
    /// `None` where the charge lies between the quote's ends or beyond them by no more than
    /// `per_mille` thousandths of the nearer one, and where nothing was charged or nobody knows.
    pub fn beyond(quote: &Quote, settled: &Settled, per_mille: u64) -> Option<Discrepancy> {
        let by = discrepancy(quote, &settled.charge)?;
        let amount = settled.charge.amount?;
        let (end, apart) = if amount > quote.high {
            (quote.high, amount - quote.high)
        } else {
            (quote.low, quote.low - amount)
        };
        (apart > end.scaled(per_mille, 1000)).then(|| Discrepancy {
            by,
            quoted: quote.lines.clone(),
            charged: settled.lines.clone(),
        })
    }
}

/// By how much a charge lies beside its quote: charge less `quote.expected`, where the charge is
/// below `low` or above `high`. `None` within, and where nothing was charged or nobody knows.
pub fn discrepancy(quote: &Quote, charge: &Charge) -> Option<Usd> {
    let amount = charge.amount.filter(|_| charge.from != ChargeFrom::None)?;
    let within = (quote.low..=quote.high).contains(&amount);
    (!within).then(|| amount - quote.expected)
}
