//! A price as it adds up.

use super::spread::Spread;
use crate::money::Pico;

/// The sum so far and, in order, what it is made of.
pub(super) struct Tally {
    pub(super) sum: Spread<Pico>,
    pub(super) lines: Vec<Entry>,
}

/// So many units, and what they cost as far as is expected.
pub(super) struct Entry {
    pub(super) what: &'static str,
    pub(super) count: u64,
    pub(super) cost: Pico,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            sum: Spread::default(),
            lines: Vec::with_capacity(4),
        }
    }

    pub(super) fn add(&mut self, what: &'static str, count: u64, amount: Spread<Pico>) {
        self.sum.low += amount.low;
        self.sum.expected += amount.expected;
        self.sum.high += amount.high;
        if count == 0 {
            return;
        }
        match self.lines.iter_mut().find(|line| line.what == what) {
            Some(line) => {
                line.count += count;
                line.cost += amount.expected;
            }
            None => self.lines.push(Entry {
                what,
                count,
                cost: amount.expected,
            }),
        }
    }
}
