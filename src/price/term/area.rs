//! Prices by the pixel, by the megapixel and by the step.

use super::table::area;
use crate::image::{Input, InputRole};
use crate::money::{Pico, Rate};
use crate::price::ask::Ask;
use crate::price::spread::Spread;
use crate::price::tally::Tally;
use crate::price::tokens;

/// What steps do to a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepRule {
    /// Steps that the price is for, and that a request which says none is drawn with.
    pub steps: u32,
    /// Whether fewer steps cost less; more always cost more.
    pub both_ways: bool,
}

impl StepRule {
    /// What the steps of the request make of a price.
    pub(in crate::price) fn of(self, ask: &Ask, cost: Pico) -> Pico {
        match ask.request.steps {
            Some(steps) if steps > self.steps || self.both_ways => {
                cost.scaled(u64::from(steps), u64::from(self.steps))
            }
            _ => cost,
        }
    }
}

/// What becomes of a part of a megapixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// A megapixel that is begun is paid whole.
    Up,
    /// To the nearest whole one, one at least.
    Nearest,
    /// It is paid in part.
    Exact,
}

impl Rounding {
    pub(in crate::price) const ALL: &'static [(&'static str, Rounding)] = &[
        ("up", Rounding::Up),
        ("nearest", Rounding::Nearest),
        ("exact", Rounding::Exact),
    ];
}

/// So much a megapixel, the first at a price of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Megapixels {
    pub first: Rate,
    pub next: Rate,
    /// Each megapixel of an input picture.
    pub input: Rate,
    /// Pixels of what this provider calls a megapixel.
    pub pixels: u64,
    pub rounding: Rounding,
    pub steps: Option<StepRule>,
}

impl Megapixels {
    /// The most that an input picture of unknown size is reckoned with: the limit that Black
    /// Forest Labs documents for what it takes.
    const MOST_INPUT: u64 = 16;

    pub(super) fn per_call(&self, ask: &Ask, tally: &mut Tally) {
        if self.input == Rate::ZERO {
            return;
        }
        let mut count = 0;
        let mut cost = Spread::<Pico>::default();
        for input in &ask.request.inputs {
            let one = self.of_input(input);
            count += 1;
            cost.low += one.low;
            cost.expected += one.expected;
            cost.high += one.high;
        }
        tally.add("input megapixel", count, cost);
    }

    fn of_input(&self, input: &Input) -> Spread<Pico> {
        let cost = match tokens::pixels(input) {
            Some(size) => Spread::exact(self.cost(self.input, self.input, area(size))),
            None => Spread {
                high: self.input.of(Megapixels::MOST_INPUT),
                ..Spread::exact(self.input.of(1))
            },
        };
        // Whether a mask is counted is nowhere said.
        let sure = matches!(input.role, InputRole::Image | InputRole::Style);
        Spread {
            low: if sure { cost.low } else { Pico::ZERO },
            ..cost
        }
    }

    pub(super) fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
        let one = ask.spread(|_, _, size| self.cost(self.first, self.next, area(size)));
        let all = one.map(|cost| {
            let all = cost.scaled(pictures, 1);
            self.steps.map_or(all, |steps| steps.of(ask, all))
        });
        let megapixels = ask.spread(|_, _, size| area(size).div_ceil(self.pixels));
        tally.add("megapixel", megapixels.expected * pictures, all);
    }

    /// What so many pixels cost.
    fn cost(&self, first: Rate, next: Rate, pixels: u64) -> Pico {
        let whole = match self.rounding {
            Rounding::Up => pixels.div_ceil(self.pixels).max(1),
            Rounding::Nearest => ((pixels + self.pixels / 2) / self.pixels).max(1),
            Rounding::Exact => {
                let in_first = pixels.min(self.pixels);
                let parts = first.of(in_first) + next.of(pixels - in_first);
                return parts.scaled(1, self.pixels);
            }
        };
        first.of(1) + next.of(whole - 1)
    }
}

/// So much a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    pub usd: Rate,
    /// Steps of a request that says none.
    pub usual: Spread<u32>,
    /// The size that the price is for, where a larger picture costs more in proportion.
    pub at: Option<(u32, u32)>,
}

impl Steps {
    pub(super) fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
        let steps = ask.request.steps.map_or(self.usual, Spread::exact);
        let one = ask.spread(|end, _, size| {
            let cost = self.usd.of(u64::from(steps.at(end)));
            match self.at {
                Some(at) => cost.scaled(area(size), area(at)),
                None => cost,
            }
        });
        let count = u64::from(steps.expected) * pictures;
        tally.add("step", count, one.map(|cost| cost.scaled(pictures, 1)));
    }
}
