//! A price, as its row says it.

use super::flow::{Flow, decimal, fixed, list, size, spread, text};
use crate::image::Quality;
use crate::money::Rate;
use crate::price::formula::{Price, Says};
use crate::price::modifier::{Modifiers, Ratio};
use crate::price::term::{
    ByRank, BySize, Credits, Extent, Megapixels, Minutes, Rounding, StepRule, Steps, Term, Tokens,
};
use crate::price::tokens::{InTokens, OutTokens};

pub(super) fn price(price: &Price) -> String {
    if *price == Price::default() {
        return "unknown".to_owned();
    }
    let mut flow = Flow::default();
    add_terms(&mut flow, &price.terms);
    if !price.cases.is_empty() {
        let cases = price.cases.iter().map(|case| {
            let mut flow = Flow::default();
            for (field, says) in &case.when {
                flow.add(field, self::says(says));
            }
            let mut terms = Flow::default();
            add_terms(&mut terms, &case.terms);
            flow.add("price", terms.to_string());
            flow.to_string()
        });
        flow.add("when", list(cases));
    }
    add_modifiers(&mut flow, &price.modifiers);
    flow.to_string()
}

fn says(says: &Says) -> String {
    match says {
        Says::Words(words) => list(words.iter().map(|word| text(word))),
        Says::Between(first, u64::MAX) => format!("{first}.."),
        Says::Between(first, last) => format!("{first}..{last}"),
    }
}

fn add_terms(flow: &mut Flow, terms: &[Term]) {
    for term in terms {
        let (key, value) = match term {
            Term::PerImage(rates) => {
                let rate = |open: &_| spread(*open, decimal);
                ("per_image", table(rates, &rate))
            }
            Term::Credits(credits) => ("credits", self::credits(credits)),
            Term::Tokens(tokens) => ("tokens", self::tokens(tokens)),
            Term::PerPixel(rate) => ("per_pixel", decimal(*rate)),
            Term::Megapixels(megapixels) => ("per_megapixel", self::megapixels(megapixels)),
            Term::Steps(steps) => ("per_step", self::steps(steps)),
            Term::Seconds(seconds) => {
                let mut flow = Flow::default();
                flow.add("usd", decimal(seconds.usd));
                flow.add("seconds", spread(seconds.millis, |millis| time(millis, 1)));
                ("per_second", flow.to_string())
            }
            Term::Minutes(minutes) => ("gpu_minutes", self::minutes(minutes)),
            Term::PerCall(rate) => ("per_call", decimal(*rate)),
            Term::InputImages(rate) => ("input_image", decimal(*rate)),
        };
        flow.add(key, value);
    }
}

fn credits(credits: &Credits) -> String {
    let mut flow = Flow::default();
    let rate = |open: &_| spread(*open, decimal);
    flow.add("per_image", table(&credits.per_image, &rate));
    flow.add("usd_per_credit", credits.usd_per_credit.to_string());
    add_steps(&mut flow, credits.steps);
    flow.to_string()
}

fn add_steps(flow: &mut Flow, rule: Option<StepRule>) {
    if let Some(StepRule { steps, both_ways }) = rule {
        let key = if both_ways {
            "for_steps"
        } else {
            "included_steps"
        };
        flow.add(key, steps.to_string());
    }
}

fn megapixels(price: &Megapixels) -> String {
    let mut flow = Flow::default();
    flow.add("first", decimal(price.first));
    flow.add("next", decimal(price.next));
    flow.add("input", decimal(price.input));
    flow.add("pixels", price.pixels.to_string());
    let word = Rounding::ALL
        .iter()
        .find(|(_, known)| *known == price.rounding);
    if let Some((word, _)) = word {
        flow.add("rounding", text(word));
    }
    add_steps(&mut flow, price.steps);
    flow.to_string()
}

fn steps(steps: &Steps) -> String {
    let mut flow = Flow::default();
    flow.add("usd", decimal(steps.usd));
    flow.add("steps", spread(steps.usual, |steps| steps.to_string()));
    if let Some(at) = steps.at {
        flow.add("at", size(at));
    }
    flow.to_string()
}

fn minutes(minutes: &Minutes) -> String {
    let mut flow = Flow::default();
    flow.add("minutes", spread(minutes.millis, |millis| time(millis, 60)));
    flow.add("pictures", minutes.pictures.to_string());
    flow.add("usd_per_hour", minutes.usd_per_hour.to_string());
    if !minutes.free_tiers.is_empty() {
        let tiers = minutes.free_tiers.iter();
        flow.add("free_tiers", list(tiers.map(|tier| text(tier.as_str()))));
    }
    flow.to_string()
}

/// A time in units of so many seconds: the shortest decimal that is read as the same milliseconds.
fn time(millis: u64, seconds: u64) -> String {
    let pico = u128::from(millis) * 1_000_000_000;
    fixed(
        i128::try_from(pico / u128::from(seconds)).unwrap_or(i128::MAX),
        12,
    )
}

fn tokens(tokens: &Tokens) -> String {
    let mut flow = Flow::default();
    let mut rates = Flow::default();
    let known = [
        ("text_in", Some(tokens.text_in)),
        ("cached_text_in", tokens.cached_text_in),
        ("image_in", Some(tokens.image_in)),
        ("cached_image_in", tokens.cached_image_in),
        ("image_out", Some(tokens.image_out)),
        ("text_out", tokens.text_out),
    ];
    for (key, rate) in known {
        if let Some(rate) = rate {
            rates.add(key, per_million(rate));
        }
    }
    flow.add("usd_per_million", rates.to_string());
    flow.add("out", out_tokens(&tokens.out));
    if let Some(input) = tokens.input_image {
        flow.add("input_image", in_tokens(input));
    }
    for (key, count, unsaid) in [
        ("partial_image", tokens.partial_image, 0),
        ("gif_frames", tokens.frames, 1),
    ] {
        if count != unsaid {
            flow.add(key, count.to_string());
        }
    }
    if tokens.thought.high > 0 {
        flow.add("thought", spread(tokens.thought, |count| count.to_string()));
    }
    if let Some(published) = &tokens.published {
        flow.add("published", table(published, &|rate| decimal(*rate)));
    }
    flow.to_string()
}

fn per_million(rate: Rate) -> String {
    fixed(rate.pico(), 6)
}

fn out_tokens(out: &OutTokens) -> String {
    let mut flow = Flow::default();
    match out {
        OutTokens::Grid { factors, auto } => {
            let count = |open: &_| spread(*open, |count: u64| count.to_string());
            flow.add("grid", by_quality(factors, &count).to_string());
            if let Some(auto) = auto {
                flow.add("auto", count(auto));
            }
        }
        OutTokens::Table(counts) => flow.add("table", table(counts, &|count| count.to_string())),
    }
    flow.to_string()
}

fn in_tokens(input: InTokens) -> String {
    let (mut flow, mut of) = (Flow::default(), Flow::default());
    match input {
        InTokens::Flat(count) => flow.add("flat", count.to_string()),
        InTokens::Patches { side, most } => {
            of.add("side", side.to_string());
            of.add("most", most.to_string());
            flow.add("patches", of.to_string());
        }
        InTokens::Tiles {
            short,
            base,
            tile,
            square,
            oblong,
        } => {
            of.add("short", short.to_string());
            of.add("base", base.to_string());
            of.add("tile", tile.to_string());
            of.add(
                "high_fidelity",
                format!("{{square: {square}, oblong: {oblong}}}"),
            );
            flow.add("tiles", of.to_string());
        }
    }
    flow.to_string()
}

fn table<T: Clone + PartialEq>(table: &ByRank<BySize<T>>, leaf: &dyn Fn(&T) -> String) -> String {
    let all = table.all();
    if all.iter().all(|figures| *figures == all[0]) {
        return by_size(&all[0], leaf);
    }
    by_quality(table, &|figures| by_size(figures, leaf)).to_string()
}

fn by_quality<T: Clone + PartialEq>(figures: &ByRank<T>, leaf: &dyn Fn(&T) -> String) -> Flow {
    const RANKED: [Quality; 5] = [
        Quality::Low,
        Quality::Medium,
        Quality::High,
        Quality::Xhigh,
        Quality::Max,
    ];
    let mut flow = Flow::default();
    let mut last = None;
    for (quality, figure) in RANKED.iter().zip(figures.all()) {
        // A quality without a figure is read as the next below.
        if last != Some(figure) {
            flow.add(quality.as_str(), leaf(figure));
        }
        last = Some(figure);
    }
    flow
}

fn by_size<T: Clone>(figures: &BySize<T>, leaf: &dyn Fn(&T) -> String) -> String {
    if figures.listed().is_empty() {
        return leaf(figures.any_size());
    }
    let mut flow = Flow::default();
    for (extent, figure) in figures.listed() {
        let key = match extent {
            Extent::Pixels(width, height) => size((*width, *height)),
            Extent::Named(resolution) => resolution.word.to_owned(),
        };
        flow.add(&key, leaf(figure));
    }
    flow.to_string()
}

fn add_modifiers(flow: &mut Flow, said: &Modifiers) {
    let named = |factors: Vec<(&str, Ratio)>| {
        let mut flow = Flow::default();
        for (name, ratio) in factors {
            flow.add(name, self::ratio(ratio));
        }
        flow.to_string()
    };
    if !said.tiers.is_empty() {
        let tiers = said.tiers.iter();
        flow.add(
            "tiers",
            named(tiers.map(|(tier, by)| (tier.as_str(), *by)).collect()),
        );
    }
    for (key, factors) in [("regions", &said.regions), ("licences", &said.licences)] {
        if !factors.is_empty() {
            let factors = factors.iter();
            flow.add(
                key,
                named(factors.map(|(name, by)| (name.as_str(), *by)).collect()),
            );
        }
    }
    if !said.volume.is_empty() {
        let mut steps = Flow::default();
        for (from, by) in &said.volume {
            steps.add(&from.to_string(), ratio(*by));
        }
        flow.add("volume", steps.to_string());
    }
    if said.free_images > 0 {
        flow.add("free_images", said.free_images.to_string());
    }
    if let Some(repeat) = said.repeat {
        flow.add("repeat", ratio(repeat));
    }
    if let Some(markup) = said.markup {
        flow.add("markup", increase(markup));
    }
    if let Some(fee) = said.fee {
        flow.add("fee", increase(fee));
    }
}

fn ratio(ratio: Ratio) -> String {
    format!("{}/{}", ratio.numerator, ratio.denominator)
}

/// What a factor adds, in per cent. Such a factor was read from per cent with nine decimals, so
/// that these are all there are.
pub(super) fn increase(factor: Ratio) -> String {
    let added = i128::from(factor.numerator) - i128::from(factor.denominator);
    let nano_per_cent = added * 100 * 1_000_000_000 / i128::from(factor.denominator.max(1));
    format!("{}%", fixed(nano_per_cent, 9))
}
