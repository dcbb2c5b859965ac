//! Prices held against published figures, and the laws that every book keeps.

mod nonsense;
mod printing;
mod table;
mod terms;

use bytes::Bytes;
use proptest::prelude::*;

use super::tokens::{grid, patches, text, tiles};
use super::*;
use crate::bill::{Charge, ChargeFrom, Codes, Quote, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, Input, InputRole,
    InputSource, ModelId, Picture, Quality, Size, Tier,
};
use crate::money::Usd;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn id(model: &str) -> ModelId {
    ModelId::parse(model).unwrap()
}

/// `openai/dall-e-3 1024x1024 hd`.
fn ask(spec: &str) -> ImageRequest {
    let mut words = spec.split(' ');
    let mut request = ImageRequest::new(id(words.next().unwrap()), "");
    request.size = words
        .next()
        .map_or(Size::Auto, |word| Size::parse(word).unwrap());
    request.quality = words.next().map(|word| Quality::parse(word).unwrap());
    request
}

fn quote(request: &ImageRequest) -> Quote {
    Book::embedded().quote(request).unwrap()
}

/// The expected cost of the finished pictures alone.
fn pictures(spec: &str) -> Usd {
    let quote = quote(&ask(spec));
    let of = |what: &str| {
        quote
            .lines
            .iter()
            .filter(|line| line.what == what)
            .map(|line| line.amount)
            .sum::<Usd>()
    };
    of("image") + of("image out")
}

fn image(size: Option<(u32, u32)>) -> Image {
    Image {
        picture: Picture::Url(String::new()),
        format: Format::Png,
        width: size.map(|(width, _)| width),
        height: size.map(|(_, height)| height),
        seed: None,
        revised_prompt: None,
    }
}

fn answer(request: &ImageRequest, images: Vec<Image>, usage: Usage) -> ImageResponse {
    ImageResponse {
        model: request.model.clone(),
        created: None,
        images,
        withheld: 0,
        resolved: Resolved::default(),
        usage,
        codes: Codes::default(),
    }
}

fn counts(text_in: u64, image_in: u64, image_out: u64) -> Usage {
    Usage {
        text_in: Some(text_in),
        image_in: Some(image_in),
        image_out: Some(image_out),
        ..Usage::default()
    }
}

fn png(width: u32, height: u32) -> Bytes {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.into()
}

fn input(role: InputRole, source: InputSource) -> Input {
    Input {
        role,
        source,
        name: None,
        format: Format::Png,
    }
}

fn overlay(text: &str) -> Result<Book, Vec<PriceProblem>> {
    Book::with(&[("mine.yaml", text)])
}

// ---- token functions

#[test]
fn the_grid_gives_the_published_token_counts() {
    let sizes = [
        (1024, 1024),
        (1536, 1024),
        (1024, 768),
        (1280, 720),
        (2048, 1152),
        (2048, 2048),
        (2560, 1440),
        (3840, 2160),
    ];
    let published = [
        (16, [196, 158, 134, 106, 157, 397, 205, 371]),
        (24, [439, 343, 301, 246, 367, 892, 478, 865]),
        (48, [1756, 1372, 1204, 947, 1413, 3568, 1843, 3336]),
        (64, [3122, 2459, 2140, 1683, 2511, 6343, 3276, 5930]),
        (96, [7024, 5488, 4815, 3787, 5650, 14272, 7370, 13342]),
    ];
    for (q, counts) in published {
        for (size, count) in sizes.iter().zip(counts) {
            assert_eq!(grid(q, *size), count, "q {q}, {size:?}");
            assert_eq!(
                grid(q, (size.1, size.0)),
                count,
                "q {q}, {size:?} on its side"
            );
        }
    }
    assert_eq!(grid(64, (1920, 1080)), 2347);
    assert_eq!(grid(24, (1920, 1088)), 344);
}

#[test]
fn input_pictures_take_the_known_token_counts() {
    let squares = |size| 65 + 129 * tiles(size, 512);
    assert_eq!(squares((1024, 1024)), 194);
    assert_eq!(squares((1024, 1536)), 323);
    assert_eq!(patches((1024, 768), 32), 768);
    assert_eq!(patches((1024, 1024), 32), 1024);
    assert_eq!(patches((1024, 1536), 32), 1536);
    assert_eq!(text(47).expected, 15);
    assert_eq!(text(0).expected, 3);
}

// ---- quotes

#[test]
fn pictures_cost_what_their_providers_publish() {
    let published = [
        ("openai/dall-e-3 1024x1024 standard", "0.04"),
        ("openai/dall-e-3 1024x1024 hd", "0.08"),
        ("openai/dall-e-3 1792x1024 standard", "0.08"),
        ("openai/dall-e-3 1024x1792 hd", "0.12"),
        ("openai/dall-e-3", "0.04"),
        ("openai/dall-e-2 256x256", "0.016"),
        ("openai/dall-e-2 512x512", "0.018"),
        ("openai/dall-e-2", "0.02"),
        ("openai/gpt-image-2 1024x1024 low", "0.00588"),
        ("openai/gpt-image-2 1024x1024 medium", "0.05268"),
        ("openai/gpt-image-2 1024x1024 high", "0.21072"),
        ("openai/gpt-image-2 1024x1536 high", "0.16464"),
        ("openai/gpt-image-2 3840x2160 high", "0.40026"),
        ("openai/gpt-image-2-2026-04-21 2048x2048 medium", "0.10704"),
        ("openai/gpt-image-2.5-flare 1024x1024 medium", "0.01317"),
        ("openai/gpt-image-2.5-sunburst 1536x1024 xhigh", "0.07377"),
        ("openai/gpt-image-2.5-sunburst 2048x2048 max", "0.42816"),
        ("openai/gpt-image-2.6-flare 1024x1024 low", "0.02343"),
        ("openai/gpt-image-2.6-sunburst 1024x1024", "0.05268"),
        ("openai/gpt-image-1.5 1024x1024 high", "0.13312"),
        ("openai/gpt-image-1.5 1536x1024 low", "0.0128"),
        ("openai/chatgpt-image-latest 1024x1536 medium", "0.050688"),
        ("openai/gpt-image-1-mini 1024x1024 low", "0.002176"),
        ("openai/gpt-image-1 1024x1024 medium", "0.04224"),
        ("stability/sd3.5-large", "0.065"),
        ("stability/sd3-large", "0.065"),
        ("stability/sd3.5-large-turbo", "0.04"),
        ("stability/sd3.5-medium 16:9", "0.035"),
        ("stability/sd3.5-flash", "0.025"),
        ("stability/stable-image-core", "0.03"),
        ("stability/core", "0.03"),
        ("stability/ultra", "0.08"),
        ("stability/upscale-fast", "0.02"),
        ("stability/upscale-conservative", "0.4"),
        ("stability/upscale-creative", "0.6"),
        ("stability/edit-outpaint", "0.04"),
        ("stability/control-style-transfer", "0.08"),
        ("stability/stable-diffusion-xl-1024-v1-0", "0.009"),
    ];
    for (spec, price) in published {
        assert_eq!(pictures(spec), usd(price), "{spec}");
    }
}

#[test]
fn a_request_that_says_everything_leaves_only_its_prompt_open() {
    let mut request = ask("openai/gpt-image-2 1024x1024 high");
    request.prompt = "a red paper boat".into();
    let quote = quote(&request);
    assert_eq!(quote.expected, usd("0.210755")); // 7024 tokens at 30, 7 at 5
    assert_eq!(quote.high - quote.low, usd("0.00007")); // 2 to 16 tokens of text
    let fixed = super::Book::embedded()
        .quote(&ask("openai/dall-e-3 1024x1024 hd"))
        .unwrap();
    assert_eq!((fixed.low, fixed.high), (usd("0.08"), usd("0.08")));
}

#[test]
fn what_is_left_to_the_provider_is_quoted_as_a_range() {
    let open = quote(&ask("openai/gpt-image-2"));
    assert_eq!(open.low, usd("0.00474")); // low, 1536x1024, not a word of prompt
    assert_eq!(open.expected, usd("0.052695")); // medium, 1024x1024, three tokens of envelope
    assert_eq!(open.high, usd("0.21076")); // high, 1024x1024
    let flare = quote(&ask("openai/gpt-image-2.6-flare 1024x1024"));
    assert!(
        flare.high >= usd("0.174"),
        "{} is under 5,800 tokens",
        flare.high
    );
}

#[test]
fn a_published_price_above_the_tokens_is_reckoned_with() {
    let mini = quote(&ask("openai/gpt-image-1-mini 1024x1024 low"));
    assert!(mini.expected < usd("0.003"));
    assert_eq!(mini.high, usd("0.005016"));
}

#[test]
fn measured_token_counts_of_the_newest_models_lie_within_the_quote() {
    for (spec, tokens) in [
        ("1536x1024 low", 664),
        ("1536x1024 high", 1353),
        ("3840x2160 high", 3337),
        ("1024x1024 low", 640),
    ] {
        let request = ask(&format!("openai/gpt-image-2.6-flare {spec}"));
        let charge = Book::embedded().charge(
            &request,
            &answer(&request, vec![image(None)], counts(9, 0, tokens)),
        );
        assert_eq!(
            discrepancy(&quote(&request), &charge),
            None,
            "{spec}: {tokens}"
        );
    }
}

#[test]
fn a_batch_costs_half() {
    let mut request = ask("openai/gpt-image-2 1024x1024 high");
    let whole = quote(&request);
    request.tier = Tier::Batch;
    let half = quote(&request);
    assert_eq!(half.expected.times(2), whole.expected);
    assert_eq!(half.high.times(2), whole.high);
    assert_eq!(
        half.lines.iter().map(|line| line.amount).sum::<Usd>(),
        half.expected
    );
    let mut core = ask("stability/core");
    core.tier = Tier::Batch; // no such tier there: the standard price
    assert_eq!(quote(&core).expected, usd("0.03"));
}

#[test]
fn unfinished_pictures_cost_a_hundred_tokens_each_when_streamed() {
    let mut request = ask("openai/gpt-image-2 1024x1024 medium");
    let plain = quote(&request);
    request.partial_images = 2;
    assert_eq!(quote(&request), plain);
    request.stream = true;
    let streamed = quote(&request);
    assert_eq!(streamed.expected - plain.expected, usd("0.006"));
    assert_eq!(streamed.low, plain.low);
}

#[test]
fn input_pictures_are_read_for_their_size() {
    let mut request = ask("openai/gpt-image-1.5 1024x1024 low");
    let image_in = |request: &ImageRequest| {
        quote(request)
            .lines
            .iter()
            .find(|line| line.what == "image in")
            .map_or(0, |line| line.count)
    };
    assert_eq!(image_in(&request), 0);
    request
        .inputs
        .push(input(InputRole::Image, InputSource::Bytes(png(1024, 1536))));
    assert_eq!(image_in(&request), 323);
    request.extra.insert("input_fidelity".into(), "high".into());
    assert_eq!(image_in(&request), 323 + 6240);
    let mut newer = ask("openai/gpt-image-2 1024x1024 low");
    newer
        .inputs
        .push(input(InputRole::Image, InputSource::Bytes(png(1024, 768))));
    newer.inputs.push(input(
        InputRole::Image,
        InputSource::FileId("file-1".into()),
    ));
    newer
        .inputs
        .push(input(InputRole::Mask, InputSource::Bytes(png(1024, 768))));
    assert_eq!(image_in(&newer), 768 + 1024 + 768);
    let quote = quote(&newer);
    assert_eq!(quote.high - quote.low, usd("0.030752"));
}

#[test]
fn steps_beyond_those_included_raise_the_price() {
    let mut request = ask("stability/stable-diffusion-xl-1024-v1-0");
    request.n = 2;
    request.steps = Some(50);
    assert_eq!(quote(&request).expected, usd("0.03"));
    request.steps = Some(10);
    assert_eq!(quote(&request).expected, usd("0.018"));
}

#[test]
fn what_nobody_publishes_is_unpriced_and_not_free() {
    let mut drawing = ask("openai/gpt-image-2.6-flare 1024x1024 low");
    drawing.format = Some(Format::Svg);
    let book = Book::embedded();
    for request in [ask("openai/gpt-image-9"), ask("nobody/nothing"), drawing] {
        assert_eq!(book.quote(&request), None);
        let came = answer(&request, vec![image(None)], counts(1, 0, 100));
        assert_eq!(book.charge(&request, &came), Charge::UNPRICED);
        let failure = Failure::lost(FailureKind::Timeout, "gone");
        assert_eq!(book.failed_charge(&request, &failure), Charge::UNPRICED);
    }
    assert_eq!(
        book.expected_pixels(&ask("nobody/nothing 512x256")),
        (512, 256)
    );
}

#[test]
fn a_moving_picture_may_cost_as_much_as_its_frames() {
    let mut request = ask("openai/gpt-image-2.6-flare 1024x1024 medium");
    let still = quote(&request);
    request.format = Some(Format::Gif);
    request.extra.insert("frame_count".into(), 4.into());
    let moving = quote(&request);
    assert_eq!(moving.low, still.low);
    assert_eq!(moving.high - still.high, usd("0.15804"));
}

// ---- charges

#[test]
fn answers_cost_what_their_usage_comes_to() {
    let cases = [
        (
            "openai/gpt-image-2.5-flare 1024x1024 low",
            1,
            counts(13, 0, 196),
            "0.005945",
        ),
        (
            "openai/gpt-image-2.5-flare 1536x1024 medium",
            2,
            counts(11, 0, 686),
            "0.020635",
        ),
        (
            "openai/gpt-image-2.5-sunburst 1024x1024 high",
            1,
            counts(12, 2048, 1756),
            "0.069124",
        ),
        (
            "openai/gpt-image-2 1024x1024 medium",
            1,
            counts(17, 2048, 1756),
            "0.069149",
        ),
        (
            "openai/gpt-image-2 1024x1024 medium",
            1,
            counts(9, 0, 1956),
            "0.058725",
        ),
        (
            "openai/gpt-image-2 1024x1024 low",
            1,
            counts(10, 1024, 296),
            "0.017122",
        ),
    ];
    for (spec, n, usage, price) in cases {
        let mut request = ask(spec);
        request.n = n;
        let came = answer(&request, vec![image(None); n as usize], usage);
        let charge = Book::embedded().charge(&request, &came);
        assert_eq!(
            charge,
            Charge {
                amount: Some(usd(price)),
                from: ChargeFrom::Usage
            },
            "{spec}"
        );
    }
    let mut batch = ask("openai/gpt-image-2.5-flare 1024x1024 low");
    batch.tier = Tier::Batch;
    let came = answer(&batch, vec![image(None)], counts(9, 0, 196));
    assert_eq!(
        Book::embedded().charge(&batch, &came).amount,
        Some(usd("0.0029625"))
    );
}

#[test]
fn text_that_comes_out_costs_its_own_rate_only_where_there_is_one() {
    let usage = Usage {
        text_out: Some(1000),
        ..counts(0, 0, 1000)
    };
    let cost = |model: &str| {
        let request = ask(model);
        Book::embedded()
            .charge(
                &request,
                &answer(&request, vec![image(None)], usage.clone()),
            )
            .amount
    };
    assert_eq!(cost("openai/gpt-image-1.5"), Some(usd("0.042")));
    assert_eq!(cost("openai/gpt-image-2"), Some(usd("0.06")));
}

#[test]
fn cached_input_costs_less() {
    let usage = Usage {
        cached_text_in: Some(400),
        cached_image_in: Some(1000),
        ..counts(1000, 1000, 0)
    };
    let request = ask("openai/gpt-image-2");
    let charge = Book::embedded().charge(&request, &answer(&request, vec![image(None)], usage));
    assert_eq!(charge.amount, Some(usd("0.0055"))); // 600 at 5, 400 at 1.25, 1000 at 2
}

#[test]
fn without_usage_the_pictures_that_came_are_charged_by_the_list() {
    let book = Book::embedded();
    let list = |amount| Charge {
        amount: Some(usd(amount)),
        from: ChargeFrom::List,
    };
    let mut kites = ask("openai/dall-e-2 512x512");
    kites.n = 2;
    let two = answer(
        &kites,
        vec![image(Some((512, 512))), image(None)],
        Usage::default(),
    );
    assert_eq!(book.charge(&kites, &two), list("0.036"));
    let mut one = answer(&kites, vec![image(Some((1024, 1024)))], Usage::default());
    one.withheld = 1;
    assert_eq!(book.charge(&kites, &one), list("0.02"));
    // A size the model does not draw is somebody else's doing.
    let scaled = ask("openai/dall-e-3 1792x1024 hd");
    let came = answer(&scaled, vec![image(Some((1, 1)))], Usage::default());
    assert_eq!(book.charge(&scaled, &came), list("0.12"));
    let mut told = answer(
        &ask("openai/gpt-image-2"),
        vec![image(None)],
        Usage::default(),
    );
    told.resolved = Resolved {
        size: Some("1536x1024".into()),
        quality: Some("high".into()),
        ..Resolved::default()
    };
    assert_eq!(
        book.charge(&ask("openai/gpt-image-2"), &told),
        list("0.164655")
    );
}

#[test]
fn what_the_provider_reports_goes_before_everything() {
    let request = ask("stability/sd3.5-medium");
    let book = Book::embedded();
    let cost = |usage| book.charge(&request, &answer(&request, vec![image(None)], usage));
    let reported = |amount| Charge {
        amount: Some(usd(amount)),
        from: ChargeFrom::Reported,
    };
    let in_money = Usage {
        reported: Some(usd("0.01")),
        credits: Some("99".into()),
        ..Usage::default()
    };
    assert_eq!(cost(in_money), reported("0.01"));
    assert_eq!(
        cost(Usage {
            credits: Some("3.25".into()),
            ..Usage::default()
        }),
        reported("0.0325")
    );
    let garbled = cost(Usage {
        credits: Some("many".into()),
        ..Usage::default()
    });
    assert_eq!(
        garbled,
        Charge {
            amount: Some(usd("0.035")),
            from: ChargeFrom::List
        }
    );
}

#[test]
fn a_failure_costs_what_its_provider_would_take() {
    let request = ask("openai/gpt-image-2 1024x1024");
    let quote = quote(&request);
    let cost = |billed| {
        let failure = Failure::answered(FailureKind::Safety, 400, billed, "no");
        Book::embedded().failed_charge(&request, &failure)
    };
    let list = |amount| Charge {
        amount: Some(amount),
        from: ChargeFrom::List,
    };
    assert_eq!(cost(Billed::No), Charge::NONE);
    assert_eq!(cost(Billed::Yes), list(quote.expected));
    assert_eq!(cost(Billed::Unknown), list(quote.high));
    let mut told = Failure::answered(FailureKind::Safety, 400, Billed::Yes, "no");
    told.charge = Some(usd("0.5"));
    let charge = Book::embedded().failed_charge(&request, &told);
    assert_eq!(
        charge,
        Charge {
            amount: Some(usd("0.5")),
            from: ChargeFrom::Reported
        }
    );
}

#[test]
fn only_a_charge_outside_its_quote_is_a_discrepancy() {
    let quote = Quote {
        low: usd("0.01"),
        expected: usd("0.02"),
        high: usd("0.04"),
        lines: Vec::new(),
    };
    let of = |amount: &str| {
        discrepancy(
            &quote,
            &Charge {
                amount: Some(usd(amount)),
                from: ChargeFrom::Usage,
            },
        )
    };
    assert_eq!((of("0.01"), of("0.03"), of("0.04")), (None, None, None));
    assert_eq!(of("0.041"), Some(usd("0.021")));
    assert_eq!(of("0.005"), Some(usd("-0.015")));
    assert_eq!(discrepancy(&quote, &Charge::NONE), None);
    assert_eq!(discrepancy(&quote, &Charge::UNPRICED), None);
}

// ---- the book

#[test]
fn every_row_says_where_and_when_it_was_read_and_what_follows_it() {
    let book = Book::embedded();
    for row in book.models() {
        assert!(
            !row.source.is_empty() && row.as_of.len() == 10,
            "{}",
            row.id
        );
        assert!(
            !row.capability.operations.is_empty() && !row.capability.formats.is_empty(),
            "{}",
            row.id
        );
        let usual = row.capability.usual;
        let size = Size::Pixels {
            width: usual.0,
            height: usual.1,
        };
        assert_eq!(
            row.capability.expected_pixels(&size),
            usual,
            "{} cannot draw what is usual",
            row.id
        );
        let gone = row.capability.retired(&row.as_of);
        let Some(successor) = &row.capability.successor else {
            assert!(!gone, "{} is gone and leads nowhere", row.id);
            continue;
        };
        let successor = book.model(&id(successor)).expect("a successor has a row");
        assert!(
            !successor.capability.retired(&row.as_of),
            "{} leads to a retired model",
            row.id
        );
    }
    assert!(
        book.model(&id("openai/dall-e-3"))
            .unwrap()
            .capability
            .retired("2026-05-12")
    );
    assert_eq!(book.models().count(), 256);
}

#[test]
fn an_alias_finds_the_row_of_its_model() {
    let row = Book::embedded().model(&id("stability/sd3-medium")).unwrap();
    assert_eq!(row.id, id("stability/sd3.5-medium"));
    assert!(
        Book::embedded()
            .model(&id("stability/sd3.5-mediu"))
            .is_none()
    );
}

const STUDIO: &str = "models:
- model: studio/flux
  capability: {operations: [generate], sizes: {free: {min_pixels: 1, max_pixels: 4000000, max_side: 4096}}, usual: 1024x1024, formats: [png]}
  price: {per_image: 0.0025}
  source: our own meter
  as_of: 2026-11-01
";

#[test]
fn a_file_of_ones_own_adds_rows_and_replaces_them() {
    let book = overlay(STUDIO).unwrap();
    assert_eq!(
        book.quote(&ask("studio/flux")).unwrap().expected,
        usd("0.0025")
    );
    assert_eq!(book.models().count(), Book::embedded().models().count() + 1);
    assert_ne!(book.digest(), Book::embedded().digest());
    assert_eq!(book.digest().len(), 8);
    let dearer = STUDIO.replace("studio/flux", "stability/sd3.5-medium");
    let book = overlay(&dearer).unwrap();
    assert_eq!(
        book.quote(&ask("stability/sd3-medium")).unwrap().expected,
        usd("0.0025")
    );
    let own = STUDIO.replace("studio/flux", "stability/sd3-medium");
    let book = overlay(&own).unwrap();
    assert_eq!(
        book.quote(&ask("stability/sd3-medium")).unwrap().expected,
        usd("0.0025")
    );
    assert_eq!(
        book.quote(&ask("stability/sd3.5-medium")).unwrap().expected,
        usd("0.035")
    );
}

#[test]
fn a_price_holds_for_its_days() {
    let later =
        STUDIO.replace("models:\n", "").replace("0.0025", "0.005") + "  valid_from: 2027-01-01\n";
    let text = format!("{STUDIO}  valid_to: 2027-01-01\n{later}");
    let book = overlay(&text).unwrap();
    let on = |day: &str| book.on(day).quote(&ask("studio/flux")).unwrap().expected;
    assert_eq!(on("2026-12-31"), usd("0.0025"));
    assert_eq!(on("2027-01-01"), usd("0.005"));
    assert_eq!(
        book.quote(&ask("studio/flux")).unwrap().expected,
        usd("0.0025")
    );
    let raise = format!(
        "models:\n{}",
        later.replace("studio/flux", "stability/stable-image-core")
    );
    let book = overlay(&raise).unwrap();
    assert_eq!(
        book.on("2026-12-31")
            .quote(&ask("stability/core"))
            .unwrap()
            .expected,
        usd("0.03")
    );
    assert_eq!(
        book.on("2027-06-01")
            .quote(&ask("stability/core"))
            .unwrap()
            .expected,
        usd("0.005")
    );
}

// ---- laws

fn any_request() -> impl Strategy<Value = ImageRequest> {
    let models: Vec<ModelId> = Book::embedded()
        .models()
        .filter(|row| !row.price.terms.is_empty())
        .map(|row| row.id.clone())
        .collect();
    let size = prop_oneof![
        Just(Size::Auto),
        (1u32..9000, 1u32..9000).prop_map(|(width, height)| Size::Pixels { width, height }),
        Just(Size::parse("16:9").unwrap()),
    ];
    (
        proptest::sample::select(models),
        size,
        proptest::option::of(proptest::sample::select(Quality::ALL)),
        1u32..11,
        0usize..3000,
        proptest::sample::select(Tier::ALL),
        proptest::collection::vec((1u32..5000, 1u32..5000), 0..4),
        0u32..4,
    )
        .prop_map(
            |(model, size, quality, n, prompt, tier, inputs, partial_images)| {
                let mut request = ImageRequest::new(model, "x".repeat(prompt));
                request.size = size;
                request.quality = quality;
                request.n = n;
                request.tier = tier;
                request.stream = partial_images > 0;
                request.partial_images = partial_images;
                request.inputs = inputs
                    .into_iter()
                    .map(|(width, height)| {
                        input(InputRole::Image, InputSource::Bytes(png(width, height)))
                    })
                    .collect();
                request
            },
        )
}

proptest! {
    #[test]
    fn a_quote_has_its_ends_in_order_and_its_lines_add_up(request in any_request()) {
        let quote = quote(&request);
        prop_assert!(Usd::ZERO <= quote.low && quote.low <= quote.expected && quote.expected <= quote.high);
        prop_assert!(quote.high > Usd::ZERO || request.tier == Tier::Flex);
        let lines: Usd = quote.lines.iter().map(|line| line.amount).sum();
        let apart = (lines - quote.expected).nano().unsigned_abs();
        prop_assert!(apart <= quote.lines.len() as u64);
    }

    #[test]
    fn more_pictures_never_cost_less(request in any_request()) {
        let more = ImageRequest { n: request.n + 1, ..request.clone() };
        let (few, many) = (quote(&request), quote(&more));
        prop_assert!(few.low <= many.low && few.expected <= many.expected && few.high <= many.high);
    }

    #[test]
    fn a_larger_picture_never_costs_less(request in any_request(), a in 64u32..5000, b in 64u32..5000) {
        let square = |side| quote(&ImageRequest {
            size: Size::Pixels { width: side, height: side },
            ..request.clone()
        });
        let (less, more) = (square(a.min(b)), square(a.max(b)));
        prop_assert!(less.low <= more.low && less.expected <= more.expected && less.high <= more.high);
    }

    #[test]
    fn a_higher_quality_never_costs_less(request in any_request(), a in 0usize..8, b in 0usize..8) {
        let (a, b) = (Quality::ALL[a], Quality::ALL[b]);
        prop_assume!(a.rank().is_some() && b.rank().is_some() && a.rank() <= b.rank());
        let cost = |quality| quote(&ImageRequest { quality: Some(quality), ..request.clone() });
        prop_assert!(cost(a).expected <= cost(b).expected);
        prop_assert!(cost(a).high <= cost(b).high);
    }

    #[test]
    fn an_answer_within_what_was_asked_is_no_discrepancy(request in any_request()) {
        let images = vec![image(None); request.n as usize];
        let charge = Book::embedded().charge(&request, &answer(&request, images, Usage::default()));
        prop_assert_eq!(discrepancy(&quote(&request), &charge), None);
    }

}

proptest! {
    // Each case reads the whole book.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_file_laid_over_never_loses_a_row(name in "[a-z]{1,8}", known in any::<proptest::sample::Index>(), day in 0u32..3) {
        let base = Book::embedded();
        let rows: Vec<&ModelRow> = base.models().collect();
        let model = match day {
            0 => format!("studio/{name}"),
            _ => rows[known.index(rows.len())].id.to_string(),
        };
        let mut text = STUDIO.replace("studio/flux", &model);
        if day == 2 {
            text += "  valid_from: 2030-01-01\n";
        }
        let book = overlay(&text).unwrap();
        for row in &rows {
            prop_assert!(book.model(&row.id).is_some());
        }
        for (alias, of) in base.aliases() {
            prop_assert_eq!(&book.model(alias).unwrap().id, of);
        }
        prop_assert!(book.on("2031-01-01").model(&id(&model)).is_some());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "(models|shared|: |\n|- |\\[|\\]|\\{|\\}|&a |\\*a|<<|[a-z0-9/.]{1,6}|  ){0,40}") {
        let _read = Book::load(&[("mine.yaml", &text)]);
    }
}
