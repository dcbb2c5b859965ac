//! The kinds of terms a price is made of.
//!
//! A price is the sum of its terms, each of which answers two questions: what a call costs once,
//! and what each picture costs. A further kind is one more variant of [`Term`].

mod area;
mod counted;
mod credits;
mod table;
mod time;

pub use area::{Megapixels, Rounding, StepRule, Steps};
pub use counted::Tokens;
pub use credits::Credits;
pub use table::{ByRank, BySize, Extent};
pub use time::{Minutes, Seconds};

pub(super) use credits::in_money;
pub(super) use table::area as area_of;

use super::ask::Ask;
use super::spread::Spread;
use super::tally::Tally;
use crate::bill::Usage;
use crate::money::{Pico, Rate, Usd};

/// One way of charging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// So much a picture, by quality and size.
    PerImage(ByRank<BySize<Spread<Rate>>>),
    /// Credits of the provider's own for each picture.
    Credits(Credits),
    /// By the token.
    Tokens(Box<Tokens>),
    /// So much a pixel.
    PerPixel(Rate),
    /// By the megapixel, pictures that go in included.
    Megapixels(Megapixels),
    /// By the step.
    Steps(Steps),
    /// By the second of a machine.
    Seconds(Seconds),
    /// Minutes of a subscription.
    Minutes(Minutes),
    /// So much a call, whatever it brings.
    PerCall(Rate),
    /// So much for each picture that goes in.
    InputImages(Rate),
}

impl Term {
    /// What the call costs whatever number of pictures it brings.
    pub(super) fn per_call(&self, ask: &Ask, tally: &mut Tally) {
        match self {
            Term::Tokens(tokens) => tokens.per_call(ask, tally),
            Term::Megapixels(megapixels) => megapixels.per_call(ask, tally),
            Term::Minutes(minutes) => minutes.per_call(ask, tally),
            Term::PerCall(rate) => tally.add("call", 1, Spread::exact(rate.of(1))),
            Term::InputImages(rate) => {
                let count = ask.request.inputs.len() as u64;
                tally.add("input image", count, Spread::exact(rate.of(count)));
            }
            Term::PerImage(_)
            | Term::Credits(_)
            | Term::PerPixel(_)
            | Term::Steps(_)
            | Term::Seconds(_) => {}
        }
    }

    /// What `pictures` like the one asked about cost.
    pub(super) fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
        match self {
            Term::PerImage(table) => {
                let rate = ask.spread(|end, rank, size| table.at(rank).at(size).at(end));
                tally.add("image", pictures, rate.map(|rate| rate.of(pictures)));
            }
            Term::Credits(credits) => tally.add("image", pictures, credits.of(ask, pictures)),
            Term::Tokens(tokens) => tokens.per_picture(ask, pictures, tally),
            Term::PerPixel(rate) => {
                let pixels = ask
                    .spread(|_, _, size| table::area(size))
                    .map(|one| one * pictures);
                tally.add("pixel", pixels.expected, pixels.map(|count| rate.of(count)));
            }
            Term::Megapixels(megapixels) => megapixels.per_picture(ask, pictures, tally),
            Term::Steps(steps) => steps.per_picture(ask, pictures, tally),
            Term::Seconds(seconds) => seconds.per_picture(pictures, tally),
            Term::Minutes(_) | Term::PerCall(_) | Term::InputImages(_) => {}
        }
    }

    /// Adds what the counts of an answer come to; `false` for a term they say nothing about.
    pub(super) fn of_usage(&self, usage: &Usage, ask: &Ask, tally: &mut Tally) -> bool {
        let mut time = |cost: Option<Pico>| {
            let millis = usage.millis.unwrap_or(0);
            if let Some(cost) = cost {
                tally.add("second", millis.div_ceil(1000), Spread::exact(cost));
            }
            cost.is_some()
        };
        match self {
            Term::Tokens(tokens) => tokens.of_usage(usage, ask, tally),
            Term::Seconds(seconds) => time(usage.millis.map(|millis| seconds.cost(millis))),
            Term::Minutes(minutes) => time(usage.millis.map(|millis| minutes.counted(ask, millis))),
            _ => false,
        }
    }

    /// What one of the provider's own credits costs.
    pub(super) fn usd_per_credit(&self) -> Option<Usd> {
        match self {
            Term::Credits(credits) => Some(credits.usd_per_credit),
            _ => None,
        }
    }

    /// What one billable unit costs, for providers that report how many they count: a picture, a
    /// megapixel or a second, whichever the price is by.
    pub(super) fn unit_price(&self, ask: &Ask) -> Option<Rate> {
        match self {
            Term::PerImage(table) => {
                let rate = ask.spread(|end, rank, size| table.at(rank).at(size).at(end));
                Some(rate.expected)
            }
            Term::Megapixels(megapixels) => Some(megapixels.first),
            Term::Seconds(seconds) => Some(seconds.usd),
            Term::PerCall(rate) => Some(*rate),
            _ => None,
        }
    }
}
