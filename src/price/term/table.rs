//! Figures by quality and by size.

use crate::image::Quality;
use crate::price::ask::{RANKS, Rank, rank};
use crate::price::resolution::Resolution;

/// A figure for each quality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByRank<T>(Box<[T; RANKS]>);

impl<T: Clone> ByRank<T> {
    /// The same for all.
    pub(in crate::price) fn any(figure: T) -> ByRank<T> {
        ByRank(Box::new(std::array::from_fn(|_| figure.clone())))
    }

    /// From the qualities a model has. One that it has not counts as the next below, else as its
    /// least. `None` for no qualities.
    pub(in crate::price) fn of(figures: &[(Quality, T)]) -> Option<ByRank<T>> {
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

    pub(in crate::price) fn at(&self, rank: Rank) -> &T {
        &self.0[rank.min(RANKS - 1)]
    }

    /// Every figure, from the least quality up.
    pub(in crate::price) fn all(&self) -> &[T; RANKS] {
        &self.0
    }
}

/// What a figure is listed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Pixels(u32, u32),
    Named(&'static Resolution),
}

impl Extent {
    /// The most pixels that are within it.
    fn covers(self) -> u64 {
        match self {
            Extent::Pixels(width, height) => area((width, height)),
            Extent::Named(resolution) => resolution.covers,
        }
    }
}

/// A figure for each size, in order of pixels; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BySize<T> {
    listed: Vec<(Extent, T)>,
    most: T,
}

impl<T: Clone> BySize<T> {
    /// The same for all.
    pub(in crate::price) fn any(figure: T) -> BySize<T> {
        BySize {
            listed: Vec::new(),
            most: figure,
        }
    }

    /// `None` for no sizes.
    pub(in crate::price) fn of(mut listed: Vec<(Extent, T)>) -> Option<BySize<T>> {
        listed.sort_by_key(|(extent, _)| extent.covers());
        let most = listed.last()?.1.clone();
        Some(BySize { listed, most })
    }

    /// The figure of this size; of one that is not listed, that of the next larger, else that of
    /// the largest.
    pub(in crate::price) fn at(&self, size: (u32, u32)) -> &T {
        let same = Extent::Pixels(size.0, size.1);
        let same = self.listed.iter().find(|(known, _)| *known == same);
        let larger = || {
            let within = |(known, _): &&(Extent, T)| known.covers() >= area(size);
            self.listed.iter().find(within)
        };
        same.or_else(larger)
            .map_or(&self.most, |(_, figure)| figure)
    }

    /// The one figure where none is listed, else that of the largest size.
    pub(in crate::price) fn any_size(&self) -> &T {
        &self.most
    }

    /// Every figure with what it is listed for; empty when there is one for all.
    pub(in crate::price) fn listed(&self) -> &[(Extent, T)] {
        &self.listed
    }
}

pub(in crate::price) fn area((width, height): (u32, u32)) -> u64 {
    u64::from(width) * u64::from(height)
}
