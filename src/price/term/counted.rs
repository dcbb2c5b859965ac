//! Prices by the token.

use super::table::{ByRank, BySize};
use crate::bill::Usage;
use crate::money::{Pico, Rate};
use crate::price::ask::Ask;
use crate::price::spread::Spread;
use crate::price::tally::Tally;
use crate::price::tokens::{self, InTokens, OutTokens};

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
    /// Tokens of text that a call brings besides its pictures: a model that thinks is paid for it.
    pub thought: Spread<u64>,
    /// Prices of finished pictures as their provider publishes them, where these are higher than
    /// the tokens come to: what a budget must reckon with.
    pub published: Option<ByRank<BySize<Rate>>>,
}

impl Tokens {
    pub(super) fn per_call(&self, ask: &Ask, tally: &mut Tally) {
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
        if self.thought.high > 0 {
            let rate = self.text_out.unwrap_or(self.image_out);
            let cost = self.thought.map(|count| rate.of(count));
            tally.add("text out", self.thought.expected, cost);
        }
    }

    pub(super) fn per_picture(&self, ask: &Ask, pictures: u64, tally: &mut Tally) {
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
        if self.partial_image == 0 {
            return;
        }
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

    /// Whether the counts say anything; they do not when they leave the output out.
    pub(super) fn of_usage(&self, usage: &Usage, ask: &Ask, tally: &mut Tally) -> bool {
        if usage.image_out.or(usage.text_out).is_none() {
            return false;
        }
        let text_in = usage.text_in.unwrap_or_else(|| match usage.image_in {
            Some(_) => 0,
            None => tokens::text(ask.request.prompt.len()).expected,
        });
        let image_in = usage.image_in.unwrap_or(0);
        let cached = (usage.cached_text_in, usage.cached_image_in);
        let text = in_part_cached(text_in, cached.0, self.text_in, self.cached_text_in);
        let image = in_part_cached(image_in, cached.1, self.image_in, self.cached_image_in);
        let drawn = usage.image_out.unwrap_or(0);
        let written = usage.text_out.unwrap_or(0);
        let write = self.text_out.unwrap_or(self.image_out);
        tally.add("text in", text_in, Spread::exact(text));
        tally.add("image in", image_in, Spread::exact(image));
        tally.add("image out", drawn, Spread::exact(self.image_out.of(drawn)));
        tally.add("text out", written, Spread::exact(write.of(written)));
        true
    }
}

/// `count` tokens, of which `cached` cost less where the model says so.
fn in_part_cached(count: u64, cached: Option<u64>, full: Rate, less: Option<Rate>) -> Pico {
    let cached = cached.unwrap_or(0).min(count);
    full.of(count - cached) + less.unwrap_or(full).of(cached)
}
