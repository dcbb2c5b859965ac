//! Prices by the time that a machine works.

use crate::image::Tier;
use crate::money::{Pico, Rate, Usd};
use crate::price::ask::Ask;
use crate::price::spread::Spread;
use crate::price::tally::Tally;

const MILLIS: u64 = 1000;
const HOUR: u64 = 60 * 60 * MILLIS;

/// So much a second of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds {
    pub usd: Rate,
    /// Milliseconds that a picture takes.
    pub millis: Spread<u64>,
}

impl Seconds {
    pub(super) fn per_picture(&self, pictures: u64, tally: &mut Tally) {
        let millis = self.millis.map(|millis| millis * pictures);
        let count = millis.expected.div_ceil(MILLIS);
        tally.add("second", count, millis.map(|millis| self.cost(millis)));
    }

    /// What so many milliseconds cost.
    pub(super) fn cost(&self, millis: u64) -> Pico {
        self.usd.of(millis).scaled(1, MILLIS)
    }
}

/// Minutes of a subscription that jobs use up, at what a further hour would cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minutes {
    /// Milliseconds of a job.
    pub millis: Spread<u64>,
    /// Pictures that a job brings.
    pub pictures: u64,
    pub usd_per_hour: Usd,
    /// Tiers whose time is not counted.
    pub free_tiers: Vec<Tier>,
}

impl Minutes {
    pub(super) fn per_call(&self, ask: &Ask, tally: &mut Tally) {
        if self.free_tiers.contains(&ask.request.tier) {
            return;
        }
        let jobs = u64::from(ask.request.n.max(1)).div_ceil(self.pictures);
        let cost = self.millis.map(|millis| self.cost(millis * jobs));
        tally.add("job", jobs, cost);
    }

    /// What so many milliseconds cost in the request's tier.
    pub(super) fn counted(&self, ask: &Ask, millis: u64) -> Pico {
        if self.free_tiers.contains(&ask.request.tier) {
            Pico::ZERO
        } else {
            self.cost(millis)
        }
    }

    fn cost(&self, millis: u64) -> Pico {
        Rate::from(self.usd_per_hour).of(millis).scaled(1, HOUR)
    }
}
