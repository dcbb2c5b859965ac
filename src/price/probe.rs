//! Representative requests of a model: what a list, a page or a difference quotes.

use super::row::ModelRow;
use crate::bill::Quote;
use crate::image::capability::Sizes;
use crate::image::{
    Aspect, Format, ImageRequest, Input, InputRole, InputSource, Operation, Quality, Size, Tier,
};
use crate::money::Usd;

/// Sizes of one model that are quoted at most.
const MOST_SIZES: usize = 12;

/// One picture of a model in one size, quality and tier.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// In pixels, or as a shape with the name of a resolution.
    pub size: Size,
    /// `None` where the model has no such choice.
    pub quality: Option<Quality>,
    pub tier: Tier,
    /// `None` where nobody knows the price.
    pub quote: Option<Quote>,
}

impl Probe {
    /// `1024x1024 high`, and the tier where it is not the usual one.
    pub fn words(&self) -> String {
        let mut words = self.size.to_string();
        if let Some(quality) = self.quality {
            words.push_str(&format!(" {quality}"));
        }
        if self.tier != Tier::Standard {
            words.push_str(&format!(" {}", self.tier));
        }
        words
    }
}

impl ModelRow {
    /// One picture in every listed size, resolution and quality, then in the usual size at every
    /// other tier.
    /// The prompt is empty, so what its text costs is left out as far as that is possible.
    pub fn probes(&self) -> Vec<Probe> {
        let mut probes = Vec::new();
        for size in self.listed_sizes() {
            for quality in self.listed_qualities() {
                probes.push(self.probe(size.clone(), quality, Tier::Standard));
            }
        }
        let tiers = self.capability.tiers.iter();
        for tier in tiers.filter(|tier| **tier != Tier::Standard) {
            for quality in self.listed_qualities() {
                probes.push(self.probe(self.usual(), quality, *tier));
            }
        }
        probes
    }

    /// What one picture of the usual size is expected to cost: the least and the most over the
    /// qualities. `None` where nobody knows.
    pub fn usual_price(&self) -> Option<(Usd, Usd)> {
        let qualities = self.listed_qualities().into_iter();
        let prices: Vec<Usd> = qualities
            .filter_map(|quality| {
                let probe = self.probe(self.usual(), quality, Tier::Standard);
                Some(probe.quote?.expected)
            })
            .collect();
        Some((*prices.iter().min()?, *prices.iter().max()?))
    }

    fn usual(&self) -> Size {
        let (width, height) = self.capability.usual;
        Size::Pixels { width, height }
    }

    /// The usual size first, then what else the row lists, then that size in other resolutions.
    fn listed_sizes(&self) -> Vec<Size> {
        let listed: Vec<(u32, u32)> = match &self.capability.sizes {
            Sizes::Pixels(sizes) => sizes.clone(),
            Sizes::Aspects(shapes) => shapes.iter().map(|(_, size)| *size).collect(),
            Sizes::Free(_) => self.auto_sizes.clone(),
        };
        let mut sizes = vec![self.usual()];
        for (width, height) in listed {
            let size = Size::Pixels { width, height };
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
        sizes.truncate(MOST_SIZES);
        let (width, height) = self.capability.usual;
        sizes.extend(self.resolutions.iter().map(|resolution| Size::Aspect {
            aspect: Aspect::of(width, height),
            step: Some(resolution.word.to_owned()),
        }));
        sizes
    }

    fn listed_qualities(&self) -> Vec<Option<Quality>> {
        match self.capability.qualities.as_slice() {
            [] => vec![None],
            qualities => qualities.iter().copied().map(Some).collect(),
        }
    }

    fn probe(&self, size: Size, quality: Option<Quality>, tier: Tier) -> Probe {
        let mut request = ImageRequest::new(self.id.clone(), "");
        let operations = &self.capability.operations;
        if let Some(first) = operations.first()
            && !operations.contains(&Operation::Generate)
        {
            request.operation = *first;
            request.inputs.push(Input {
                role: InputRole::Image,
                source: InputSource::FileId("probe".to_owned()),
                name: None,
                format: Format::Unknown,
            });
        }
        request.size = size.clone();
        request.quality = quality;
        request.tier = tier;
        Probe {
            size,
            quality,
            tier,
            quote: self.quote(&request),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::price::Book;

    #[test]
    fn a_model_is_probed_in_every_way_that_has_a_price() {
        let row = Book::embedded().find("dall-e-3").unwrap();
        let probes: Vec<String> = row
            .probes()
            .iter()
            .map(|probe| {
                let quote = probe.quote.as_ref().unwrap();
                format!("{} {}", probe.words(), quote.expected)
            })
            .collect();
        assert!(
            probes.contains(&"1024x1024 standard 0.04".to_owned()),
            "{probes:?}"
        );
        assert!(
            probes.contains(&"1024x1024 hd 0.08".to_owned()),
            "{probes:?}"
        );
        let (least, most) = row.usual_price().unwrap();
        assert_eq!(
            (least.to_string(), most.to_string()),
            ("0.04".into(), "0.08".into())
        );
    }

    #[test]
    fn other_tiers_are_probed_at_the_usual_size() {
        let row = Book::embedded().find("gpt-image-2").unwrap();
        let words: Vec<String> = row.probes().iter().map(|probe| probe.words()).collect();
        assert!(
            words.contains(&"1024x1024 high batch".to_owned()),
            "{words:?}"
        );
        assert!(
            !words.contains(&"1536x1024 high batch".to_owned()),
            "{words:?}"
        );
    }
}
