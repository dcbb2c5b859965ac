//! Prices in credits of the provider's own.

use super::area::StepRule;
use super::table::{ByRank, BySize};
use crate::money::{Pico, Rate, Usd};
use crate::price::ask::Ask;
use crate::price::spread::Spread;

/// So many credits a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credits {
    /// Credits, in units of a million-millionth.
    pub per_image: ByRank<BySize<Spread<Rate>>>,
    /// What one credit costs.
    pub usd_per_credit: Usd,
    pub steps: Option<StepRule>,
}

impl Credits {
    /// What `pictures` like the one asked about cost.
    pub(super) fn of(&self, ask: &Ask, pictures: u64) -> Spread<Pico> {
        let one = ask.spread(|end, rank, size| {
            let credits = self.per_image.at(rank).at(size).at(end);
            in_money(credits, self.usd_per_credit)
        });
        one.map(|rate| {
            let flat = rate.of(pictures);
            self.steps.map_or(flat, |steps| steps.of(ask, flat))
        })
    }
}

/// `credits` times the price of one, rounded half up to the pico-dollar.
pub(in crate::price) fn in_money(credits: Rate, usd_per_credit: Usd) -> Rate {
    const NANO: i128 = 1_000_000_000;
    let product = credits
        .pico()
        .saturating_mul(i128::from(usd_per_credit.nano()));
    Rate::from_pico((product + NANO / 2) / NANO)
}
