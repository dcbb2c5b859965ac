//! What answers and failures cost.

use super::*;

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
fn a_picture_that_was_kept_back_is_charged_where_its_provider_bills_it() {
    // Model, pictures that came, pictures kept back, steps, and what they come to together.
    let cases = [
        (
            "stability/stable-diffusion-xl-1024-v1-0",
            1,
            0,
            None,
            "0.009",
        ),
        (
            "stability/stable-diffusion-xl-1024-v1-0",
            1,
            2,
            None,
            "0.027",
        ),
        (
            "stability/stable-diffusion-xl-1024-v1-0",
            2,
            1,
            Some(50),
            "0.045",
        ),
        ("stability/stable-image-core", 1, 1, None, "0.06"),
        ("ideogram/ideogram-4", 2, 1, None, "0.18"),
        // Free, and doubtful.
        ("bfl/flux-pro-1.1", 1, 1, None, "0.04"),
        ("openai/dall-e-2", 1, 1, None, "0.02"),
    ];
    for (model, came, kept_back, steps, price) in cases {
        let mut request = ask(model);
        request.n = came + kept_back;
        request.steps = steps;
        let mut all = answer(&request, vec![image(None); came as usize], Usage::default());
        all.withheld = kept_back;
        let charge = Book::embedded().charge(&request, &all);
        let by_list = Charge {
            amount: Some(usd(price)),
            from: ChargeFrom::List,
        };
        assert_eq!(charge, by_list, "{model}: {came} and {kept_back}");
    }
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
