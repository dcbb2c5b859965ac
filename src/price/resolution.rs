//! Resolutions that providers name instead of measuring: `1K`, `2K`, `720p`.
//!
//! A named resolution covers pictures of every shape, so sizes are sorted into it by their pixels.

/// A resolution by name.
#[derive(Debug, PartialEq, Eq)]
pub struct Resolution {
    pub word: &'static str,
    /// Side of a square picture in it, in pixels.
    pub side: u32,
    /// The most pixels of a picture that still counts as this resolution: half as many again as
    /// the square has, since no shape that a provider offers goes beyond that.
    pub covers: u64,
}

/// From small to large.
const ALL: &[Resolution] = &[
    named("512", 512),
    named("0.5K", 512),
    named("768sq", 768),
    named("720p", 960),
    named("1K", 1024),
    named("1080p", 1440),
    named("1.5K", 1536),
    named("2K", 2048),
    named("4K", 4096),
];

const fn named(word: &'static str, side: u32) -> Resolution {
    Resolution {
        word,
        side,
        covers: side as u64 * side as u64 * 3 / 2,
    }
}

impl Resolution {
    /// The resolution of this name, in whatever case it is written.
    pub fn find(word: &str) -> Option<&'static Resolution> {
        ALL.iter()
            .find(|known| known.word.eq_ignore_ascii_case(word))
    }

    /// All names, for a message.
    pub(super) fn words() -> String {
        let words: Vec<&str> = ALL.iter().map(|known| known.word).collect();
        words.join(", ")
    }

    /// What a size of the 1K class measures in this resolution.
    pub(super) fn of(&self, (width, height): (u32, u32)) -> (u32, u32) {
        const ONE_K: u64 = 1024;
        let scale = |side: u32| {
            let scaled = (u64::from(side) * u64::from(self.side)).div_ceil(ONE_K);
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        (scale(width), scale(height))
    }
}
