//! Books that make no sense, and what is said of them.

use super::*;

#[track_caller]
fn refused(text: &str, line: usize, words: &str) {
    let problems = overlay(text).expect_err("the file is wrong");
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        problems
            .iter()
            .any(|problem| problem.line == line && problem.message.contains(words)),
        "no problem in line {line} says `{words}`: {said:#?}"
    );
    assert!(
        problems
            .iter()
            .all(|problem| problem.file == "mine.yaml" && !problem.remedy.is_empty())
    );
}

#[test]
fn a_mistake_is_named_with_its_line_and_its_remedy() {
    let with = |old: &str, new: &str| STUDIO.replace(old, new);
    refused(&with("0.0025", "-1"), 4, "`-1` is not an exact price");
    refused(&with("0.0025", "1e-3"), 4, "`1e-3` is not an exact price");
    refused(&with("0.0025", ".nan"), 4, "`.nan` is not an exact price");
    refused(
        &with("per_image", "per_pixl"),
        4,
        "a price has no `per_pixl`",
    );
    refused(&with("0.0025", "{fine: 0.1}"), 4, "`fine` is no quality");
    refused(&with("0.0025", "{low: {big: 0.1}}"), 4, "`big` is no size");
    refused(
        &with("0.0025}", "0.0025, tiers: {slow: 1/2}}"),
        4,
        "`slow` is no tier",
    );
    refused(
        &with("0.0025}", "0.0025, tiers: {batch: 0}}"),
        4,
        "`0` is not a factor",
    );
    refused(&with("[generate]", "[paint]"), 3, "`paint` is no operation");
    refused(
        &with("usual: 1024x1024", "usual: large"),
        3,
        "`large` is not a size",
    );
    refused(&with("  source: our own meter\n", ""), 2, "has no `source`");
    refused(&with("  as_of: 2026-11-01\n", ""), 2, "has no `as_of`");
    refused(
        &with("2026-11-01", "2026-13-01"),
        6,
        "`2026-13-01` is not a day",
    );
    refused(&with("studio/flux", "flux"), 2, "`flux` is not a model");
    refused(
        &with("formats: [png]}", "formats: [png], qualities: [low, high]}"),
        2,
        "what `auto` comes to",
    );
    refused(
        &format!("{STUDIO}  successor: studio/none\n"),
        7,
        "the successor studio/none",
    );
    refused(&format!("{STUDIO}  colour: red\n"), 7, "has no `colour`");
    refused(
        &format!("{STUDIO}  source: twice\n"),
        7,
        "`source` already stands in line 5",
    );
    refused(
        &format!("{STUDIO}{}", &STUDIO["models:\n".len()..]),
        7,
        "already has a price for these days in line 2",
    );
    refused(
        &format!("{STUDIO}  aliases: [studio/flux]\n"),
        7,
        "is a model of its own",
    );
    refused(
        &format!("{STUDIO}  aliases: [openai/dall-e-3]\n"),
        7,
        "is a model of its own",
    );
    refused(
        &format!("{STUDIO}  aliases: [studio/a, studio/a]\n"),
        7,
        "stands here twice",
    );
    refused(
        &format!("{STUDIO}  valid_from: 2026-02-01\n  valid_to: 2026-01-01\n"),
        8,
        "the price ends on",
    );
    let other = STUDIO["models:\n".len()..].replace("studio/flux", "studio/two");
    let ring = format!("{STUDIO}  aliases: [studio/two]\n{other}  aliases: [studio/flux]\n");
    refused(&ring, 7, "`studio/two` is a model of its own");
    refused(&ring, 13, "`studio/flux` is a model of its own");
    let shared = format!("{STUDIO}  aliases: [studio/x]\n{other}  aliases: [studio/x]\n");
    refused(&shared, 13, "already stands for studio/flux");
    refused("", 1, "the file is empty");
    refused("models: [", 2, "while parsing");
    refused("rows: []", 1, "has no `rows`");
}

#[test]
fn a_hostile_file_is_refused_and_harms_nobody() {
    let mut bomb = String::from("shared:\n  a0: &a0 [x, x, x, x, x, x, x, x]\n");
    for level in 1..20 {
        let below = level - 1;
        bomb += &format!(
            "  a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}, *a{below}, *a{below}]\n"
        );
    }
    assert!(overlay(&bomb).unwrap_err()[0].message.contains("too large"));
    let deep = format!("models: {}{}", "[".repeat(30), "]".repeat(30));
    assert!(
        overlay(&deep).unwrap_err()[0]
            .message
            .contains("too deeply")
    );
    assert!(overlay(&"[".repeat(10_000)).is_err());
    let selfish = "shared: &a [*a]\nmodels: []\n";
    assert!(overlay(selfish).is_err());
}

/// `STUDIO` with another price in line 4, where it is refused.
#[test]
fn a_price_that_makes_no_sense_is_refused_where_it_stands() {
    let cases = [
        ("{}", "the price has no term"),
        ("0.04", "keys with values are wanted"),
        ("free", "keys with values are wanted"),
        ("{per_image: 0.04 EUR}", "`0.04 EUR` is not an exact price"),
        ("{per_image: €0.04}", "`€0.04` is not an exact price"),
        ("{per_image: 0,04}", "a price has no `04`"),
        ("{per_image: -0.04}", "`-0.04` is not an exact price"),
        ("{per_image: 0.0000000000001}", "is not an exact price"),
        ("{per_image: [0.01, 0.02]}", "an open figure has three ends"),
        (
            "{per_image: [0.03, 0.02, 0.04]}",
            "the ends of this price are out of order",
        ),
        ("{per_image: {}}", "no quality has a figure"),
        (
            "{per_image: {auto: 1}}",
            "`auto` is no quality of its own here",
        ),
        ("{per_image: {low: 1, low: 2}}", "already stands in line"),
        (
            "{per_image: {medium: 1, standard: 2}}",
            "is no quality of its own here",
        ),
        ("{per_image: {1K: 1, huge: 2}}", "`huge` is no size"),
        ("{per_image: {3K: 1}}", "`3K` is no quality"),
        ("{per_picture: 0.04}", "a price has no `per_picture`"),
        ("{per_mile: 0.04}", "a price has no `per_mile`"),
        ("{credits: 5}", "keys with values are wanted"),
        (
            "{credits: {per_image: 5}}",
            "credits has no `usd_per_credit`",
        ),
        (
            "{credits: {per_image: 5, usd_per_credit: -1}}",
            "`-1` is not an exact price",
        ),
        (
            "{credits: {per_image: 5, usd_per_credit: 1, included_steps: 0}}",
            "`0` is not a whole number, 1 or more",
        ),
        (
            "{credits: {per_image: 5, usd_per_credit: 1, included_steps: 3, for_steps: 3}}",
            "steps are either included or what the price is for",
        ),
        ("{per_pixel: -1}", "`-1` is not an exact price"),
        ("{per_megapixel: {next: 1}}", "per_megapixel has no `first`"),
        (
            "{per_megapixel: {first: 1, pixels: 0}}",
            "`0` is not a whole number, 1 or more",
        ),
        (
            "{per_megapixel: {first: 1, rounding: down}}",
            "`down` is not up, nearest or exact",
        ),
        ("{per_step: {usd: 1}}", "per_step has no `steps`"),
        (
            "{per_step: {usd: 1, steps: 0}}",
            "`0` is not a whole number, 1 or more",
        ),
        (
            "{per_step: {usd: 1, steps: 5, at: big}}",
            "`big` is not a size in pixels",
        ),
        ("{per_second: {usd: 1, seconds: -2}}", "`-2` is not a time"),
        (
            "{per_second: {usd: 1, seconds: 0.0001}}",
            "`0.0001` is not a time",
        ),
        (
            "{gpu_minutes: {minutes: 1}}",
            "gpu_minutes has no `usd_per_hour`",
        ),
        ("{per_call: many}", "`many` is not an exact price"),
        (
            "{tokens: {out: {table: 5}}}",
            "tokens has no `usd_per_million`",
        ),
        (
            "{tokens: {usd_per_million: {text_in: 1, image_out: 1}, out: {}}}",
            "tokens of a picture come from a `grid` or a `table`",
        ),
        ("{per_image: 1, tiers: {slow: 1/2}}", "`slow` is no tier"),
        (
            "{per_image: 1, tiers: {batch: -100%}}",
            "`-100%` is not a factor",
        ),
        (
            "{per_image: 1, tiers: {batch: 1/0}}",
            "`1/0` is not a factor",
        ),
        (
            "{per_image: 1, tiers: {batch: half}}",
            "`half` is not a factor",
        ),
        (
            "{per_image: 1, tiers: {batch: 40%}}",
            "`40%` is not a factor",
        ),
        (
            "{per_image: 1, regions: {moon: -1}}",
            "`-1` is not a factor",
        ),
        (
            "{per_image: 1, volume: {10: 1}}",
            "`10` is no step of a volume here",
        ),
        (
            "{per_image: 1, volume: {0: 1, 5: 1/2, 3: 1/3}}",
            "`3` is no step of a volume here",
        ),
        (
            "{per_image: 1, free_images: 0}",
            "`0` is not a whole number, 1 or more",
        ),
        (
            "{per_image: 1, markup: 0.05}",
            "`0.05` is not an addition in per cent",
        ),
        (
            "{per_image: 1, markup: -5%}",
            "`-5%` is not an addition in per cent",
        ),
        (
            "{per_image: 1, fee: lots}",
            "`lots` is not an addition in per cent",
        ),
        (
            "{per_image: 1, when: [{style: x}]}",
            "a case is fields of the request and a price",
        ),
        (
            "{per_image: 1, when: [{price: {per_image: 2}}]}",
            "a case is fields of the request",
        ),
        (
            "{per_image: 1, when: [{steps: 9..5, price: {per_image: 2}}]}",
            "`9..5` is no range",
        ),
        (
            "{per_image: 1, when: [{steps: 5, price: {tiers: {batch: 1/2}}}]}",
            "a case's price has no `tiers`",
        ),
    ];
    for (price, words) in cases {
        let text = STUDIO.replace("{per_image: 0.0025}", price);
        refused(&text, 4, words);
    }
}

#[test]
fn a_file_says_its_currency_or_means_dollars() {
    assert!(overlay(&format!("currency: USD\n{STUDIO}")).is_ok());
    refused(
        &format!("currency: EUR\n{STUDIO}"),
        1,
        "`EUR` is no currency",
    );
    refused(
        &format!("{STUDIO}  currency: doubloons\n"),
        7,
        "`doubloons` is no currency",
    );
}

#[test]
fn a_provider_that_makes_no_sense_is_refused_where_it_stands() {
    let file = |line: &str| {
        format!("providers:\n- provider: studio\n  {line}\n  source: ours\n  as_of: 2026-11-01\n")
    };
    let cases = [
        (
            "charge: {reported: {pointer: /a}}",
            "reported has no `unit`",
        ),
        (
            "charge: {reported: {pointer: a, unit: usd}}",
            "`a` is not a JSON pointer",
        ),
        (
            "charge: {reported: {unit: usd}}",
            "stands at a `pointer` or in a `header`",
        ),
        (
            "charge: {reported: {pointer: /a, header: b, unit: usd}}",
            "stands at a `pointer`",
        ),
        (
            "charge: {reported: {header: X-Cost, unit: usd}}",
            "`X-Cost` is not a header's name",
        ),
        (
            "charge: {reported: {pointer: /a, unit: yen}}",
            "`yen` is no unit of money",
        ),
        (
            "charge: {reported: {pointer: /a, unit: credit}}",
            "has no `usd_per_credit`",
        ),
        (
            "charge: {reported: {pointer: /a, unit: usd, where: {is: DOLLARS}}}",
            "stands at a `pointer`",
        ),
        (
            "charge: {reported: {pointer: /a, unit: usd, where: {pointer: /b}}}",
            "where has no `is`",
        ),
        (
            "charge: {usage: {words: /a}}",
            "`words` is nothing that is counted",
        ),
        ("charge: {bill: /a}", "charge has no `bill`"),
        (
            "failures: {bad_luck: yes}",
            "`bad_luck` is no kind of failure",
        ),
        (
            "failures: {safety: perhaps}",
            "`perhaps` is no answer to whether it is billed",
        ),
        ("fee: free", "`free` is not an addition in per cent"),
        ("mood: good", "a provider has no `mood`"),
    ];
    for (line, words) in cases {
        refused(&file(line), 3, words);
    }
    let twice = file("note: x");
    let twice = format!("{twice}{}", &twice["providers:\n".len()..]);
    refused(&twice, 6, "studio already stands in line 2");
    refused(
        &file("note: x").replace("studio", "stu/dio"),
        2,
        "`stu/dio` is not a provider's name",
    );
    refused(
        "stores:\n- store: here\n  per_gb_out: 1\n  source: x\n  as_of: 2026-11-01\n",
        2,
        "has no `per_gb_month`",
    );
}
