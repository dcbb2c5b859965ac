//! How many tokens OpenAI's image models use, and at what price: the simulator's own arithmetic,
//! in whole tokens and nano-dollars, shared with nobody.

/// Which arithmetic a model follows, and what it understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// gpt-image-1, 1.5, 1-mini: three sizes from a table.
    Gpt1,
    Gpt2,
    Gpt25,
    Gpt26,
    DallE2,
    DallE3,
}

impl Family {
    pub(super) const fn is_dalle(self) -> bool {
        matches!(self, Family::DallE2 | Family::DallE3)
    }
}

/// Nano-dollars for a token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) text_in: i64,
    pub(super) image_in: i64,
    pub(super) image_out: i64,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) id: &'static str,
    pub(super) family: Family,
    pub(super) rates: Rates,
    pub(super) retired: bool,
}

const fn model(id: &'static str, family: Family, rates: [i64; 3]) -> Model {
    let [text_in, image_in, image_out] = rates;
    Model {
        id,
        family,
        rates: Rates {
            text_in,
            image_in,
            image_out,
        },
        retired: false,
    }
}

const fn gone(id: &'static str, family: Family, rates: [i64; 3]) -> Model {
    Model {
        retired: true,
        ..model(id, family, rates)
    }
}

/// OpenAI's list of 2026-11-22; nano-dollars a token for text in, image in, image out.
const MODELS: &[Model] = &[
    model(
        "gpt-image-2.6-sunburst",
        Family::Gpt26,
        [5_000, 8_000, 30_000],
    ),
    model("gpt-image-2.6-flare", Family::Gpt26, [5_000, 8_000, 30_000]),
    model(
        "gpt-image-2.5-sunburst",
        Family::Gpt25,
        [5_000, 8_000, 30_000],
    ),
    model(
        "gpt-image-2.5-sunburst-2026-09-08",
        Family::Gpt25,
        [5_000, 8_000, 30_000],
    ),
    model("gpt-image-2.5-flare", Family::Gpt25, [5_000, 8_000, 30_000]),
    model(
        "gpt-image-2.5-flare-2026-09-08",
        Family::Gpt25,
        [5_000, 8_000, 30_000],
    ),
    model("gpt-image-2", Family::Gpt2, [5_000, 8_000, 30_000]),
    model(
        "gpt-image-2-2026-04-21",
        Family::Gpt2,
        [5_000, 8_000, 30_000],
    ),
    model("gpt-image-1.5", Family::Gpt1, [5_000, 8_000, 32_000]),
    model(
        "gpt-image-1.5-2025-12-16",
        Family::Gpt1,
        [5_000, 8_000, 32_000],
    ),
    model("chatgpt-image-latest", Family::Gpt1, [5_000, 8_000, 32_000]),
    model("gpt-image-1-mini", Family::Gpt1, [2_000, 2_500, 8_000]),
    gone("gpt-image-1", Family::Gpt1, [5_000, 10_000, 40_000]),
    gone("dall-e-3", Family::DallE3, [0, 0, 0]),
    gone("dall-e-2", Family::DallE2, [0, 0, 0]),
];

/// The models that are served; the retired ones only if asked.
pub(super) fn models(retired_too: bool) -> impl Iterator<Item = &'static Model> {
    MODELS.iter().filter(move |m| retired_too || !m.retired)
}

pub(super) fn find(id: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.id == id)
}

/// What `auto` becomes: the models choose by themselves, the simulator always alike.
pub(super) fn resolve_quality(model: &Model, asked: &str) -> &'static str {
    const NAMED: [&str; 7] = ["low", "medium", "high", "xhigh", "max", "standard", "hd"];
    if let Some(named) = NAMED.into_iter().find(|named| *named == asked) {
        return named;
    }
    match model.family {
        Family::DallE2 | Family::DallE3 => "standard",
        Family::Gpt1 => "high",
        _ if model.id.contains("sunburst") => "high",
        _ => "medium",
    }
}

/// Output tokens of one picture of `width` by `height` pixels.
pub(super) fn output(family: Family, quality: &str, width: u32, height: u32) -> u64 {
    let grid = match (family, quality) {
        (Family::Gpt1, _) => return table(quality, width, height),
        (Family::DallE2 | Family::DallE3, _) => return 0,
        (Family::Gpt26, "low") => 32,
        (Family::Gpt26, "medium") => 48,
        (_, "low") => 16,
        (Family::Gpt2, "medium") => 48,
        (Family::Gpt2, _) => 96,
        (_, "medium") => 24,
        (_, "high") => 48,
        (_, "xhigh") => 64,
        _ => 96,
    };
    let (long, short) = (u64::from(width.max(height)), u64::from(width.min(height)));
    let rows = (2 * grid * short + long) / (2 * long);
    let pixels = u64::from(width) * u64::from(height);
    (grid * rows * (2_000_000 + pixels)).div_ceil(4_000_000)
}

fn table(quality: &str, width: u32, height: u32) -> u64 {
    let [square, tall, wide] = match quality {
        "low" => [272, 408, 400],
        "medium" => [1056, 1584, 1568],
        _ => [4160, 6240, 6208],
    };
    match width.cmp(&height) {
        std::cmp::Ordering::Equal => square,
        std::cmp::Ordering::Less => tall,
        std::cmp::Ordering::Greater => wide,
    }
}

/// Input tokens of one uploaded picture; one of unknown size counts as 1024 by 1024.
pub(super) fn input_image(family: Family, high_fidelity: bool, pixels: Option<(u32, u32)>) -> u64 {
    let (width, height) = pixels.unwrap_or((1024, 1024));
    let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    if family != Family::Gpt1 {
        return (width.div_ceil(32) * height.div_ceil(32)).min(1536);
    }
    let (long, short) = (width.max(height), width.min(height));
    // The short side is scaled to 512 pixels, so it is one tile wide.
    let tiles = long.div_ceil(short);
    let fidelity = match (high_fidelity, 5 * long <= 6 * short) {
        (false, _) => 0,
        (true, true) => 4160,
        (true, false) => 6240,
    };
    65 + 129 * tiles + fidelity
}

/// Input tokens of a prompt.
pub(super) fn text(prompt: &str) -> u64 {
    prompt.len().div_ceil(4) as u64 + 3
}

/// Nano-dollars for one DALL·E picture.
pub(super) fn dalle_price(family: Family, quality: &str, width: u32, height: u32) -> i64 {
    let cents_tenths = match (family, quality, width.max(height)) {
        (Family::DallE3, "hd", 1792) => 120,
        (Family::DallE3, "hd", _) | (Family::DallE3, _, 1792) => 80,
        (Family::DallE3, ..) => 40,
        (_, _, 256) => 16,
        (_, _, 512) => 18,
        _ => 20,
    };
    cents_tenths * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published table: a token grid, and the tokens at each size.
    const PUBLISHED: &[(Family, &str, [u64; 8])] = &[
        (
            Family::Gpt25,
            "low",
            [196, 158, 134, 106, 157, 397, 205, 371],
        ),
        (
            Family::Gpt25,
            "medium",
            [439, 343, 301, 246, 367, 892, 478, 865],
        ),
        (
            Family::Gpt25,
            "high",
            [1756, 1372, 1204, 947, 1413, 3568, 1843, 3336],
        ),
        (
            Family::Gpt25,
            "xhigh",
            [3122, 2459, 2140, 1683, 2511, 6343, 3276, 5930],
        ),
        (
            Family::Gpt25,
            "max",
            [7024, 5488, 4815, 3787, 5650, 14272, 7370, 13342],
        ),
        (
            Family::Gpt2,
            "low",
            [196, 158, 134, 106, 157, 397, 205, 371],
        ),
        (
            Family::Gpt2,
            "medium",
            [1756, 1372, 1204, 947, 1413, 3568, 1843, 3336],
        ),
        (
            Family::Gpt2,
            "high",
            [7024, 5488, 4815, 3787, 5650, 14272, 7370, 13342],
        ),
    ];
    const SIZES: [(u32, u32); 8] = [
        (1024, 1024),
        (1536, 1024),
        (1024, 768),
        (1280, 720),
        (2048, 1152),
        (2048, 2048),
        (2560, 1440),
        (3840, 2160),
    ];

    #[test]
    fn output_tokens_are_those_of_the_published_table_either_way_up() {
        for (family, quality, tokens) in PUBLISHED {
            for ((width, height), expected) in SIZES.into_iter().zip(tokens) {
                let name = format!("{family:?} {quality} {width}x{height}");
                assert_eq!(output(*family, quality, width, height), *expected, "{name}");
                assert_eq!(output(*family, quality, height, width), *expected, "{name}");
            }
        }
    }

    #[test]
    fn the_first_family_follows_its_table() {
        let tokens = |quality, w, h| output(Family::Gpt1, quality, w, h);
        assert_eq!(tokens("low", 1024, 1024), 272);
        assert_eq!(tokens("medium", 1024, 1536), 1584);
        assert_eq!(tokens("high", 1536, 1024), 6208);
    }

    #[test]
    fn uploaded_pictures_count_as_published() {
        let first = |high, pixels| input_image(Family::Gpt1, high, Some(pixels));
        assert_eq!(first(false, (1024, 1024)), 194);
        assert_eq!(first(false, (1024, 1536)), 323);
        assert_eq!(first(true, (1024, 1024)), 194 + 4160);
        assert_eq!(first(true, (1024, 1536)), 323 + 6240);
        let second = |pixels| input_image(Family::Gpt2, false, pixels);
        assert_eq!(second(Some((1024, 768))), 768);
        assert_eq!(second(Some((1024, 1536))), 1536);
        assert_eq!(second(Some((3840, 2160))), 1536);
        assert_eq!(second(None), 1024);
    }
}
