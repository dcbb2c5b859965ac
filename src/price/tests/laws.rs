//! What holds for every request and every book.

use super::*;

fn any_request() -> impl Strategy<Value = ImageRequest> {
    requests(|row| !row.price.terms.is_empty())
}

fn by_token(row: &ModelRow) -> bool {
    matches!(row.price.terms[..], [crate::price::term::Term::Tokens(_)])
}

fn requests(of: impl Fn(&ModelRow) -> bool) -> impl Strategy<Value = ImageRequest> {
    let models: Vec<ModelId> = Book::embedded()
        .models()
        .filter(|row| of(row))
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
    fn usage_as_it_was_expected_is_no_discrepancy(request in requests(by_token)) {
        let quote = quote(&request);
        let count = |what: &str| {
            let line = quote.lines.iter().find(|line| line.what == what);
            line.map(|line| line.count)
        };
        let unfinished = count("partial image").unwrap_or(0) * 100;
        let usage = Usage {
            text_in: count("text in"),
            image_in: count("image in"),
            image_out: count("image out").map(|count| count + unfinished),
            ..Usage::default()
        };
        let images = vec![image(None); request.n as usize];
        let charge = Book::embedded().charge(&request, &answer(&request, images, usage));
        prop_assert_eq!(charge.from, ChargeFrom::Usage);
        prop_assert_eq!(charge.amount, Some(quote.expected));
        prop_assert_eq!(discrepancy(&quote, &charge), None);
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
