//! How many tokens a request takes and a picture makes.
//!
//! The functions are those that published prices and usage counts agree with; their constants are
//! data in the price files. What no provider tells is quoted as a range and settled from usage.

use super::ask::Ask;
use super::spread::Spread;
use super::term::{ByRank, BySize};
use crate::image::{Input, InputRole, InputSource, header};

/// Tokens of one finished picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutTokens {
    /// A grid of tokens, `q` along the longer side ([`grid`]), with `q` by quality. A range where
    /// the model does not hold itself to one `q`.
    Grid {
        factors: ByRank<Spread<u64>>,
        /// What `auto` may come to, where it is not simply one of the qualities.
        auto: Option<Spread<u64>>,
    },
    /// Counts by quality and size.
    Table(ByRank<BySize<u64>>),
}

impl OutTokens {
    /// Least, usual and most tokens of one picture.
    pub(super) fn of(&self, ask: &Ask) -> Spread<u64> {
        match self {
            OutTokens::Grid { factors, auto } => {
                let open = auto.filter(|_| ask.quality_is_open());
                ask.spread(|end, rank, size| grid(open.unwrap_or(*factors.at(rank)).at(end), size))
            }
            OutTokens::Table(table) => ask.spread(|_, rank, size| *table.at(rank).at(size)),
        }
    }
}

/// Tokens of a picture that is cut into `q` columns along its longer side.
///
/// Holds for the GPT Image 2 family, where 30 of 30 priced points match it.
pub fn grid(q: u64, (width, height): (u32, u32)) -> u64 {
    // No model draws sides beyond this; bounding them keeps the product within 64 bits.
    let bounded = |side: u32| u64::from(side.clamp(1, 1 << 16));
    let (width, height, q) = (bounded(width), bounded(height), q.min(1 << 10));
    let (long, short) = (width.max(height), width.min(height));
    let rows = (2 * q * short + long) / (2 * long);
    (q * rows * (2_000_000 + width * height)).div_ceil(4_000_000)
}

/// Tokens of one input picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTokens {
    /// As many for every picture.
    Flat(u64),
    /// A token for each patch of `side` by `side` pixels, up to `most`. Worked out from what
    /// edits cost elsewhere, so the most is always possible.
    Patches { side: u32, most: u64 },
    /// The picture is scaled until its short side is `short` pixels, then cut into squares of
    /// that side: `base` tokens and `tile` for each square. High fidelity adds `square` tokens
    /// for a picture up to 6:5, else `oblong`.
    Tiles {
        short: u32,
        base: u64,
        tile: u64,
        square: u64,
        oblong: u64,
    },
}

impl InTokens {
    /// Tokens of all input pictures. Whether a mask is counted is nowhere said: it may be.
    pub(super) fn of(&self, ask: &Ask) -> Spread<u64> {
        let mut sum = Spread::<u64>::default();
        for input in &ask.request.inputs {
            let one = self.of_one(input, ask);
            let sure = matches!(input.role, InputRole::Image | InputRole::Style);
            sum.low += if sure { one.low } else { 0 };
            sum.expected += one.expected;
            sum.high += one.high;
        }
        sum
    }

    fn of_one(&self, input: &Input, ask: &Ask) -> Spread<u64> {
        match (*self, pixels(input)) {
            (InTokens::Flat(count), _) => Spread::exact(count),
            (InTokens::Patches { side, most }, Some(size)) => Spread {
                high: most,
                ..Spread::exact(patches(size, side).min(most))
            },
            (InTokens::Patches { side, most }, None) => Spread {
                low: 1,
                expected: patches(ask.row.capability.usual, side).min(most),
                high: most,
            },
            (
                InTokens::Tiles {
                    base,
                    tile,
                    square,
                    oblong,
                    short,
                },
                size,
            ) => {
                let high_fidelity = ask.says("input_fidelity", "high");
                let extra = |size| {
                    if !high_fidelity {
                        0
                    } else if near_square(size) {
                        square
                    } else {
                        oblong
                    }
                };
                let count = |size| base + tile * tiles(size, short) + extra(size);
                match size {
                    Some(size) => Spread::exact(count(size)),
                    // Four squares: a strip longer than 4:1 is no picture anybody edits.
                    None => Spread {
                        high: count((4, 1)),
                        ..Spread::exact(count((1, 1)))
                    },
                }
            }
        }
    }
}

/// Width and height of an input picture whose bytes are here.
pub(super) fn pixels(input: &Input) -> Option<(u32, u32)> {
    let InputSource::Bytes(bytes) = &input.source else {
        return None;
    };
    header::read(bytes)
        .pixels
        .filter(|&(width, height)| width > 0 && height > 0)
}

/// Patches of `side` by `side` pixels that cover a picture.
pub fn patches((width, height): (u32, u32), side: u32) -> u64 {
    let side = side.max(1);
    u64::from(width.div_ceil(side)) * u64::from(height.div_ceil(side))
}

/// Squares of `short` by `short` pixels that cover a picture scaled to that short side.
pub fn tiles((width, height): (u32, u32), short: u32) -> u64 {
    let (long, least) = (
        u64::from(width.max(height)),
        u64::from(width.min(height).max(1)),
    );
    let short = u64::from(short.max(1));
    let scaled = (2 * long * short + least) / (2 * least);
    scaled.div_ceil(short)
}

/// Whether the longer side is at most 1.2 times the shorter.
fn near_square((width, height): (u32, u32)) -> bool {
    5 * u64::from(width.max(height)) <= 6 * u64::from(width.min(height))
}

/// Tokens of a prompt of so many bytes: about four bytes a token in European languages, up to
/// one token for two bytes in dense scripts, and some for the envelope.
pub fn text(bytes: usize) -> Spread<u64> {
    let bytes = bytes as u64;
    Spread {
        low: bytes.div_ceil(8),
        expected: bytes.div_ceil(4) + 3,
        high: bytes.div_ceil(2) + 8,
    }
}
