//! Quotes and token counts against published figures.

use super::*;

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
