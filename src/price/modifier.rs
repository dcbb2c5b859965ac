//! What is done to the sum of a price's terms: tier, region, licence, volume, allowance, markup.

use super::account::Account;
use super::spread::{End, Spread};
use crate::image::Tier;
use crate::money::Pico;

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

    /// Whether this is the smaller factor.
    pub(super) fn below(self, other: Ratio) -> bool {
        let cross = |a: Ratio, b: Ratio| u128::from(a.numerator) * u128::from(b.denominator);
        cross(self, other) < cross(other, self)
    }
}

/// Factors of a price, all of which may apply at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modifiers {
    /// What a tier does; a tier that is not here costs the standard price.
    pub tiers: Vec<(Tier, Ratio)>,
    /// What serving from a region costs, by the region's name.
    pub regions: Vec<(String, Ratio)>,
    /// What a licence adds, by the licence's name.
    pub licences: Vec<(String, Ratio)>,
    /// From how many pictures a period on which factor holds, in rising order from 0.
    pub volume: Vec<(u64, Ratio)>,
    /// Pictures a period that cost nothing.
    pub free_images: u64,
    /// What a request that the provider has answered before costs.
    pub repeat: Option<Ratio>,
    /// What an aggregator puts on the list price of whom it resells.
    pub markup: Option<Ratio>,
    /// What is paid besides whatever the provider reports, such as a fee on buying credit.
    pub fee: Option<Ratio>,
}

impl Modifiers {
    /// What the tier makes of the standard price.
    pub fn tier(&self, tier: Tier) -> Ratio {
        let found = self.tiers.iter().find(|(known, _)| *known == tier);
        found.map_or(Ratio::ONE, |(_, ratio)| *ratio)
    }

    /// The sum of `n` pictures after everything but markup and fee.
    pub(super) fn discounted(&self, sum: Pico, end: End, terms: &Terms) -> Pico {
        let mut sum = self.tier(terms.tier).of(sum);
        if let Some(name) = terms.account.region {
            sum = named(&self.regions, name).of(sum);
        }
        if let Some(name) = terms.account.licence {
            sum = named(&self.licences, name).of(sum);
        }
        if !self.volume.is_empty() {
            sum = self.volume_factor(terms.account.used).at(end).of(sum);
        }
        if let Some(repeat) = self.repeat {
            let known = terms.account.repeat;
            if known.unwrap_or(end == End::Low && repeat.below(Ratio::ONE)) {
                sum = repeat.of(sum);
            }
        }
        if self.free_images > 0 {
            sum = self.beyond_free(sum, end, terms);
        }
        sum
    }

    /// What an aggregator adds to `sum`.
    pub(super) fn markup(&self, sum: Pico) -> Pico {
        self.markup.map_or(sum, |markup| markup.of(sum))
    }

    /// `sum` with what is paid besides.
    pub(super) fn fee(&self, sum: Pico) -> Pico {
        self.fee.map_or(sum, |fee| fee.of(sum))
    }

    /// The factor after so many pictures; any of them where nobody knows how many.
    fn volume_factor(&self, used: Option<u64>) -> Spread<Ratio> {
        let first = self.volume.first().map_or(Ratio::ONE, |(_, ratio)| *ratio);
        if let Some(used) = used {
            let reached = self.volume.iter().rev().find(|(from, _)| *from <= used);
            return Spread::exact(reached.map_or(first, |(_, ratio)| *ratio));
        }
        let mut spread = Spread::exact(first);
        for &(_, ratio) in &self.volume {
            if ratio.below(spread.low) {
                spread.low = ratio;
            }
            if spread.high.below(ratio) {
                spread.high = ratio;
            }
        }
        spread
    }

    /// What is left to pay when some of the pictures are free. Where nobody knows how many are
    /// left, none is expected to be.
    fn beyond_free(&self, sum: Pico, end: End, terms: &Terms) -> Pico {
        let left = match (terms.account.used, end) {
            (Some(used), _) => self.free_images.saturating_sub(used),
            (None, End::Low) => self.free_images,
            (None, _) => 0,
        };
        let n = terms.pictures.max(1);
        sum.scaled(n.saturating_sub(left), n)
    }
}

/// What the factors depend on besides the price.
pub(super) struct Terms<'a> {
    pub(super) tier: Tier,
    pub(super) pictures: u64,
    pub(super) account: Account<'a>,
}

fn named(factors: &[(String, Ratio)], name: &str) -> Ratio {
    let found = factors.iter().find(|(known, _)| known == name);
    found.map_or(Ratio::ONE, |(_, ratio)| *ratio)
}
