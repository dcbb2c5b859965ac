//! A request as its price sees it: which size and quality, and what of that is still open.

use super::resolution::Resolution;
use super::row::ModelRow;
use super::spread::{End, Spread};
use crate::image::{Format, ImageRequest, Quality, Size};

/// Place of a quality in [`Quality::rank`]'s order, from 0.
pub(super) type Rank = usize;

/// The ranks there are.
pub(super) const RANKS: usize = 5;

/// Where a model knows no qualities, or nobody can know which.
const MIDDLE: Rank = 1;

/// The rank of a quality; `None` for `auto`.
pub(super) fn rank(quality: Quality) -> Option<Rank> {
    quality.rank().map(|rank| usize::from(rank) - 1)
}

/// What the terms of a price are asked about.
pub(super) struct Ask<'a> {
    pub(super) request: &'a ImageRequest,
    pub(super) row: &'a ModelRow,
    /// The size that is expected.
    usual: (u32, u32),
    /// What it may be besides, where the size is open.
    others: &'a [(u32, u32)],
    ranks: Spread<Rank>,
    quality_open: bool,
}

impl<'a> Ask<'a> {
    /// About a request that has not been sent.
    pub(super) fn before(row: &'a ModelRow, request: &'a ImageRequest) -> Ask<'a> {
        let others = match request.size {
            Size::Auto => row.auto_sizes.as_slice(),
            _ => &[],
        };
        let usual = row.expected_pixels(request);
        Ask::with(row, request, usual, others, request.quality)
    }

    /// About a picture that came, of a known size.
    pub(super) fn after(
        row: &'a ModelRow,
        request: &'a ImageRequest,
        size: (u32, u32),
        quality: Option<Quality>,
    ) -> Ask<'a> {
        Ask::with(row, request, size, &[], quality)
    }

    fn with(
        row: &'a ModelRow,
        request: &'a ImageRequest,
        usual: (u32, u32),
        others: &'a [(u32, u32)],
        quality: Option<Quality>,
    ) -> Ask<'a> {
        let said = quality.and_then(rank);
        let auto = row
            .auto_quality
            .map(|quality| rank(quality).unwrap_or(MIDDLE));
        Ask {
            request,
            row,
            usual,
            others,
            ranks: said.map_or(auto, Spread::exact),
            quality_open: said.is_none(),
        }
    }

    pub(super) fn quality_is_open(&self) -> bool {
        self.quality_open
    }

    /// A figure of one picture over everything that is open.
    pub(super) fn spread<T: Copy + Ord>(
        &self,
        figure: impl Fn(End, Rank, (u32, u32)) -> T,
    ) -> Spread<T> {
        let at = |end, size| figure(end, self.ranks.at(end), size);
        let expected = at(End::Expected, self.usual);
        let over = |end| {
            std::iter::once(self.usual)
                .chain(self.others.iter().copied())
                .map(move |size| at(end, size))
        };
        Spread {
            low: over(End::Low).fold(expected, T::min),
            expected,
            high: over(End::High).fold(expected, T::max),
        }
    }

    /// Whether a field beyond the canonical ones says `word`.
    pub(super) fn says(&self, field: &str, word: &str) -> bool {
        self.request
            .extra
            .get(field)
            .and_then(|value| value.as_str())
            == Some(word)
    }

    /// Frames of each picture: more than one only in a moving one.
    pub(super) fn frames(&self, unsaid: u64) -> u64 {
        const MOST: u64 = 64;
        if self.request.format != Some(Format::Gif) {
            return 1;
        }
        let said = self
            .request
            .extra
            .get("frame_count")
            .and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        said.unwrap_or(unsaid).clamp(1, MOST)
    }

    /// Unfinished pictures that a streaming caller is shown of each picture.
    pub(super) fn partial_images(&self) -> u64 {
        if self.request.stream {
            u64::from(self.request.partial_images)
        } else {
            0
        }
    }
}

/// The resolution that a request names, be it with its shape or in a field of its dialect.
pub(super) fn resolution(request: &ImageRequest) -> Option<&'static Resolution> {
    const FIELDS: [&str; 3] = ["resolution", "image_size", "imageSize"];
    match &request.size {
        Size::Pixels { .. } => None,
        Size::Aspect {
            step: Some(step), ..
        } => Resolution::find(step),
        _ if request.extra.is_empty() => None,
        _ => FIELDS
            .iter()
            .find_map(|field| Resolution::find(request.extra.get(*field)?.as_str()?)),
    }
}
