//! The kinds of terms a price is made of.
//!
//! A price is the sum of its terms, each of which answers two questions: what a call costs once,
//! and what each picture costs. A further kind is one more variant of [`Term`].

use super::ask::{Ask, RANKS, Rank, rank};
use super::spread::Spread;
use super::tokens::{self, InTokens, OutTokens};
use crate::bill::{Line, Usage};
use crate::image::{Quality, Tier};
use crate::money::{Pico, Rate, Usd};

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub terms: Vec<Term>,
    /// What a tier does to the whole sum; a tier that is not here costs the standard price.
    pub tiers: Vec<(Tier, Ratio)>,
}

impl Price {
    /// What the tier makes of the standard price.
    pub fn tier(&self, tier: Tier) -> Ratio {
        let found = self.tiers.iter().find(|(known, _)| *known == tier);
        found.map_or(Ratio::ONE, |(_, ratio)| *ratio)
    }
}

/// A factor as a fraction; the denominator is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    pub numerator: u64,
    pub denominator: u64,
}

impl Ratio {
    pub const ONE: Ratio = Ratio {
        numerator: 1,
        denominator: 1,
    };

    pub(super) fn of(self, sum: Pico) -> Pico {
        if self == Ratio::ONE {
            sum
        } else {
            sum.scaled(self.numerator, self.denominator)
        }
    }
}

/// One way of charging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Term {
    /// So much a picture, by quality and size.
    PerImage(ByRank<BySize<Rate>>),
    /// Credits of the provider's own for each picture.
    Credits(Credits),
    /// By the token.
    Tokens(Box<Tokens>),
}

impl Term {
    /// What the call costs whatever number of pictures it brings.
    pub(super) fn per_call(&self, ask: &Ask, tally: &mut Tally) {
        match self {
            Term::PerImage(_) | Term::Credits(_) => {}
            Term::Tokens(tokens) => tokens.per_call(ask, tally),
        }
    }

    /// What `pictures` like the one asked about cost.
    pub(super) fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
        match self {
            Term::PerImage(table) => {
                let rate = ask.spread(|_, rank, size| *table.at(rank).at(size));
                tally.add("image", pictures, rate.map(|rate| rate.of(pictures)));
            }
            Term::Credits(credits) => {
                tally.add("image", pictures, Spread::exact(credits.of(ask, pictures)));
            }
            Term::Tokens(tokens) => tokens.per_picture(ask, pictures, tally),
        }
    }

    /// What the counts of an answer come to; `None` for a term they say nothing about.
    pub(super) fn of_usage(&self, usage: &Usage, ask: &Ask) -> Option<Pico> {
        match self {
            Term::PerImage(_) | Term::Credits(_) => None,
            Term::Tokens(tokens) => tokens.of_usage(usage, ask),
        }
    }

    /// What one of the provider's own credits costs.
    pub(super) fn usd_per_credit(&self) -> Option<Usd> {
        match self {
            Term::Credits(credits) => Some(credits.usd_per_credit),
            Term::PerImage(_) | Term::Tokens(_) => None,
        }
    }
}

/// So many credits a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credits {
    /// Credits a picture times the price of a credit.
    pub per_image: Rate,
    /// What one credit costs, for answers that report credits.
    pub usd_per_credit: Usd,
    /// Steps beyond this many raise the price in proportion.
    pub included_steps: Option<u32>,
}

impl Credits {
    fn of(&self, ask: &Ask, pictures: u64) -> Pico {
        let flat = self.per_image.of(pictures);
        match (self.included_steps, ask.request.steps) {
            (Some(included), Some(steps)) if steps > included => {
                flat.scaled(u64::from(steps), u64::from(included))
            }
            _ => flat,
        }
    }
}

/// `credits` (exact, twelve decimals at most) times the price of one; `None` when that is no whole
/// number of pico-dollars.
pub(super) fn credits_rate(credits: Rate, usd_per_credit: Usd) -> Option<Rate> {
    const NANO: i128 = 1_000_000_000;
    let product = credits
        .pico()
        .checked_mul(i128::from(usd_per_credit.nano()))?;
    (product % NANO == 0).then(|| Rate::from_pico(product / NANO))
}

/// Rates and counts of a model that charges by the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub text_in: Rate,
    pub image_in: Rate,
    /// Where absent, cached input costs as much as any.
    pub cached_text_in: Option<Rate>,
    pub cached_image_in: Option<Rate>,
    pub image_out: Rate,
    /// Where absent, text that comes out is charged like pictures.
    pub text_out: Option<Rate>,
    pub out: OutTokens,
    pub input_image: Option<InTokens>,
    /// Tokens of each unfinished picture that is streamed.
    pub partial_image: u64,
    /// Frames of a moving picture when the request does not say.
    pub frames: u64,
    /// Prices of finished pictures as their provider publishes them, where these are higher than
    /// the tokens come to: what a budget must reckon with.
    pub published: Option<ByRank<BySize<Rate>>>,
}

impl Tokens {
    fn per_call(&self, ask: &Ask, tally: &mut Tally) {
        let text = tokens::text(ask.request.prompt.len());
        tally.add(
            "text in",
            text.expected,
            text.map(|count| self.text_in.of(count)),
        );
        if let Some(input_image) = self.input_image {
            let images = input_image.of(ask);
            tally.add(
                "image in",
                images.expected,
                images.map(|count| self.image_in.of(count)),
            );
        }
    }

    fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
        let one = self.out.of(ask);
        let frames = ask.frames(self.frames);
        // What a frame of a moving picture takes is not published: from one picture in all to a
        // whole one each.
        let count = Spread {
            low: one.low,
            expected: one.expected * frames,
            high: one.high * frames,
        }
        .map(|count| count * pictures);
        let mut amount = count.map(|count| self.image_out.of(count));
        if let Some(table) = &self.published {
            let listed = ask.spread(|_, rank, size| *table.at(rank).at(size)).high;
            amount.high = amount.high.max(listed.of(pictures * frames));
        }
        tally.add("image out", count.expected, amount);
        let partial = ask.partial_images() * pictures;
        let cost = self.image_out.of(partial * self.partial_image);
        // Fewer may come than were asked for.
        tally.add(
            "partial image",
            partial,
            Spread {
                low: Pico::ZERO,
                expected: cost,
                high: cost,
            },
        );
    }

    /// `None` when the counts leave the output out.
    fn of_usage(&self, usage: &Usage, ask: &Ask) -> Option<Pico> {
        usage.image_out.or(usage.text_out)?;
        let text_in = usage.text_in.unwrap_or_else(|| match usage.image_in {
            Some(_) => 0,
            None => tokens::text(ask.request.prompt.len()).expected,
        });
        let text_out = self.text_out.unwrap_or(self.image_out);
        let input = in_part_cached(
            text_in,
            usage.cached_text_in,
            self.text_in,
            self.cached_text_in,
        ) + in_part_cached(
            usage.image_in.unwrap_or(0),
            usage.cached_image_in,
            self.image_in,
            self.cached_image_in,
        );
        Some(
            input
                + self.image_out.of(usage.image_out.unwrap_or(0))
                + text_out.of(usage.text_out.unwrap_or(0)),
        )
    }
}

/// `count` tokens, of which `cached` cost less where the model says so.
fn in_part_cached(count: u64, cached: Option<u64>, full: Rate, less: Option<Rate>) -> Pico {
    let cached = cached.unwrap_or(0).min(count);
    full.of(count - cached) + less.unwrap_or(full).of(cached)
}

/// A figure for each quality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByRank<T>(Box<[T; RANKS]>);

impl<T: Clone> ByRank<T> {
    /// The same for all.
    pub(super) fn any(figure: T) -> ByRank<T> {
        ByRank(Box::new(std::array::from_fn(|_| figure.clone())))
    }

    /// From the qualities a model has. One that it has not counts as the next below, else as its
    /// least. `None` for no qualities.
    pub(super) fn of(figures: &[(Quality, T)]) -> Option<ByRank<T>> {
        let mut ranked: Vec<(Rank, &T)> = figures
            .iter()
            .filter_map(|(quality, figure)| Some((rank(*quality)?, figure)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let least = ranked.first()?.1;
        Some(ByRank(Box::new(std::array::from_fn(|rank| {
            ranked
                .iter()
                .rev()
                .find(|(known, _)| *known <= rank)
                .map_or(least, |(_, figure)| figure)
                .clone()
        }))))
    }

    pub(super) fn at(&self, rank: Rank) -> &T {
        &self.0[rank.min(RANKS - 1)]
    }
}

/// A figure for each size, in order of pixels; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BySize<T> {
    listed: Vec<((u32, u32), T)>,
    most: T,
}

impl<T: Clone> BySize<T> {
    /// The same for all.
    pub(super) fn any(figure: T) -> BySize<T> {
        BySize {
            listed: Vec::new(),
            most: figure,
        }
    }

    /// `None` for no sizes.
    pub(super) fn of(mut listed: Vec<((u32, u32), T)>) -> Option<BySize<T>> {
        listed.sort_by_key(|(size, _)| area(*size));
        let most = listed.last()?.1.clone();
        Some(BySize { listed, most })
    }

    /// The figure of this size; of one that is not listed, that of the next larger, else that of
    /// the largest.
    pub(super) fn at(&self, size: (u32, u32)) -> &T {
        let listed = &self.listed;
        let same = listed.iter().find(|(known, _)| *known == size);
        let larger = || listed.iter().find(|(known, _)| area(*known) >= area(size));
        same.or_else(larger)
            .map_or(&self.most, |(_, figure)| figure)
    }
}

fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}

/// A price as it adds up.
pub(super) struct Tally {
    sum: Spread<Pico>,
    lines: Vec<(&'static str, u64, Pico)>,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            sum: Spread::default(),
            lines: Vec::with_capacity(4),
        }
    }

    fn add(&mut self, what: &'static str, count: u64, amount: Spread<Pico>) {
        self.sum.low += amount.low;
        self.sum.expected += amount.expected;
        self.sum.high += amount.high;
        if count == 0 {
            return;
        }
        match self.lines.iter_mut().find(|(known, ..)| *known == what) {
            Some((_, counted, cost)) => {
                *counted += count;
                *cost += amount.expected;
            }
            None => self.lines.push((what, count, amount.expected)),
        }
    }

    /// The expected sum, before any tier.
    pub(super) fn expected(&self) -> Pico {
        self.sum.expected
    }

    /// The sum in money, after what the tier makes of it.
    pub(super) fn sum(&self, ratio: Ratio) -> Spread<Usd> {
        self.sum.map(|sum| ratio.of(sum).to_usd())
    }

    /// The expected price, line by line.
    pub(super) fn lines(&self, ratio: Ratio) -> Vec<Line> {
        let line = |&(what, count, cost)| Line {
            what,
            count,
            amount: ratio.of(cost).to_usd(),
        };
        self.lines.iter().map(line).collect()
    }
}
