//! What a hook sees, and what its actions become.

use std::time::Duration;

use super::*;
use crate::action::{CacheMode, CachePolicy, CacheScope, Change, Route, Set, Target};
use crate::health::Ended;
use crate::image::capability::Keep;
use crate::image::{Quality, Safety, SafetyBlock, SafetyStage, Size};

/// Evaluates an expression in on_request; its value comes back as a tag.
#[track_caller]
fn value(expression: &str, call: CallView) -> String {
    let plugins = rule(&format!("return call:tag(tostring({expression}))"));
    match actions(ask(&plugins, call)).as_slice() {
        [Action::Tag { names }] => names[0].clone(),
        other => panic!("{other:?}"),
    }
}

/// What `pixtoll.cheapest` says of a call that may be sent to `keys` besides its own provider.
fn cheapest(options: &str, keys: &[&str]) -> String {
    let mut call = call("a cat", &[]);
    call.world = Arc::new(World {
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..World::default()
    });
    let found = format!(
        "(function() local m, q = pixtoll.cheapest(call.request, {options}) return tostring(m) .. ' ' .. tostring(q and q.high) end)()"
    );
    value(&found, call)
}

#[test]
fn the_cheapest_is_looked_for_where_it_can_be_sent_and_within_bounds() {
    let medium = "stability/sd3.5-medium $0.035";
    let own = "openai/gpt-image-2 $0.04";
    assert_eq!(cheapest("nil", &["stability"]), medium);
    assert_eq!(cheapest("nil", &[]), own, "the app's own key goes along");
    assert_eq!(cheapest("{class = \"draft\"}", &["stability"]), medium);
    assert_eq!(
        cheapest("{class = \"class:draft\"}", &["stability"]),
        medium
    );
    let among = "{among = {\"openai/gpt-image-2\"}}";
    assert_eq!(cheapest(among, &["stability"]), own);
    assert_eq!(
        cheapest("{max_cost = usd(0.03)}", &["stability"]),
        "nil nil"
    );
    let both = "{class = \"draft\", max_cost = usd(0.03)}";
    assert_eq!(cheapest(both, &["stability"]), "nil nil");
    assert_eq!(cheapest("{keep = true}", &["stability"]), "nil nil");
    for (options, words) in [
        ("{clas = \"draft\"}", "did you mean `class`?"),
        ("{class = \"drft\"}", "did you mean `draft`?"),
        (
            "{class = \"draft\", among = {\"openai/gpt-image-2\"}}",
            "not both",
        ),
        ("{among = {\"sd3\"}}", "names no provider"),
        (
            "{among = {\"stabilty/sd3\"}}",
            "the price book has no model",
        ),
        ("{max_cost = 0.03}", "must be money"),
        ("{keep = \"seed\"}", "true or a list of fields"),
    ] {
        complains(&format!("pixtoll.cheapest(call.request, {options})"), words);
    }
    complains("pixtoll.cheapest({})", "wants a request");
}

/// A call in a world where one model failed often and another is slow.
fn in_a_bad_world(deadline: Option<Duration>) -> CallView {
    let mut call = call("a cat", &[]);
    let world = World {
        keys: BTreeSet::from(["stability".to_owned()]),
        ..World::default()
    };
    let (now, second) = (std::time::Instant::now(), Duration::from_secs(1));
    let (slow, ill) = (
        ModelId::new("stability", "sd3.5-medium"),
        ModelId::new("bfl", "flux-2-pro"),
    );
    for _ in 0..5 {
        let took = Ended::Well(9 * second);
        world.health.ended(&slow, Tier::Standard, took, now);
        let failed = Ended::Badly(Some(60 * second));
        world.health.ended(&ill, Tier::Standard, failed, now);
    }
    call.world = Arc::new(world);
    call.deadline = deadline;
    call
}

#[test]
fn the_health_of_a_model_is_there_to_see() {
    let of = |model: &str| {
        let told = format!(
            "(function() local h = pixtoll.health({model}) return h.state .. ' ' .. tostring(h.p50_ms) .. ' ' .. tostring(h.p95_ms) .. ' ' .. h.failures end)()"
        );
        value(&told, in_a_bad_world(None))
    };
    assert_eq!(of("\"stability/sd3.5-medium\""), "closed 9000 9000 0");
    assert_eq!(
        of("\"stability/sd3.5-medium\", \"flex\""),
        "closed nil nil 0"
    );
    assert_eq!(of("\"bfl/flux-2-pro\""), "open nil nil 5");
    assert_eq!(of("\"google/imagen-9\""), "closed nil nil 0");
    for (asked, words) in [
        ("pixtoll.health(\"flux\")", "names no provider"),
        ("pixtoll.health(\"a/b\", \"flx\")", "did you mean `flex`?"),
        (
            "local _ = pixtoll.health(\"a/b\").stat",
            "did you mean `state`?",
        ),
    ] {
        complains(asked, words);
    }
}

#[test]
fn the_cheapest_is_one_that_answers_in_time() {
    let of = |options: &str, deadline| {
        let found = format!("tostring(pixtoll.cheapest(call.request, {options}))");
        value(&found, in_a_bad_world(deadline))
    };
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(of("nil", None), "stability/sd3.5-medium");
    assert_eq!(of("{deadline = 10}", None), "stability/sd3.5-medium");
    assert_eq!(of("{deadline = 8}", None), "openai/gpt-image-2");
    assert_eq!(of("nil", seconds(8)), "openai/gpt-image-2");
    assert_eq!(of("{deadline = 10}", seconds(8)), "stability/sd3.5-medium");
}

#[test]
fn a_hook_sees_the_call_as_it_is() {
    for (expression, expected) in [
        ("call.app", "catalog"),
        ("#call.tags .. call.tags[1]", "1hero"),
        ("call.user", "nil"),
        ("call.credential", "0badcafe"),
        ("call.headers[\"user-agent\"]", "tests"),
        ("call.headers.missing", "nil"),
        ("call.headers.authorization", "nil"),
        ("call.at", "1795389000"),
        ("call.deadline", "nil"),
        ("call.max_cost", "nil"),
        ("call.via .. call.dialect", "gatewayopenai"),
        ("call.sdk_retry + call.attempts", "0"),
        ("call.spent", "$0.00"),
        ("call.quote.expected", "$0.04"),
        ("call.asked.quote.high == call.quote.high", "true"),
        ("call.quote.lines[1].what", "image"),
        ("call.request.model", "openai/gpt-image-2"),
        ("call.request.provider", "openai"),
        ("call.request.prompt", "a cat"),
        ("call.request.size", "auto"),
        (
            "call.request.width * call.request.height == call.request.pixels",
            "true",
        ),
        ("call.request.aspect", "1:1"),
        ("call.request.quality", "nil"),
        ("call.request.n", "1"),
        ("call.request.operation", "generate"),
        ("call.request.tier", "standard"),
        ("call.request.stream", "false"),
        ("#call.request.inputs", "0"),
        ("next(call.request.extra)", "nil"),
        ("call:tagged(\"hero\")", "true"),
        ("call:tagged(\"her\")", "false"),
        ("call:budget(\"any\")", "nil"),
        ("call:key_present(\"openai\")", "true"),
        ("call:key_present(\"bfl\")", "false"),
        ("type(call) .. typeof(call)", "userdatacall"),
    ] {
        assert_eq!(
            value(expression, call("a cat", &["hero"])),
            expected,
            "{expression}"
        );
    }
}

#[test]
fn extra_fields_come_as_plain_values() {
    let mut view = call("a cat", &[]);
    Arc::make_mut(&mut view.request).extra.insert(
        "nested".into(),
        json!({"list": [1, 2.5, "x"], "none": null}),
    );
    assert_eq!(
        value("call.request.extra.nested.list[2]", view.clone()),
        "2.5"
    );
    assert_eq!(value("call.request.extra.nested.none", view.clone()), "nil");
    let (message, _) = fault(ask(&rule("call.request.extra.nested.list[1] = 3"), view));
    assert!(message.contains("readonly"), "{message}");
}

#[test]
fn mentions_looks_for_whole_words_in_any_case() {
    for (words, prompt, there) in [
        ("\"icon\"", "An ICON of a cat", true),
        ("\"ICON\"", "an icon.", true),
        ("\"icon\"", "iconic", false),
        ("\"logo\", \"icon\"", "an icon", true),
        ("\"GRÖSSE\"", "die größe", false),
        ("\"ÜBUNG\"", "eine übung", true),
    ] {
        let expression = format!("call:mentions({words})");
        assert_eq!(
            value(&expression, call(prompt, &[])),
            there.to_string(),
            "{words} in {prompt}"
        );
    }
}

#[test]
fn a_share_is_the_same_for_equal_calls_and_near_its_part() {
    let plugins = rule("return call:share(0.25, \"test\") and call:tag(\"in\")");
    let falls = |seed: u64| {
        let mut view = call("a cat", &[]);
        view.share_seed = seed;
        !actions(ask(&plugins, view)).is_empty()
    };
    let inside = (0..2000).filter(|seed| falls(*seed)).count();
    assert!((400..600).contains(&inside), "{inside} of 2000");
    assert!((0..50).all(|seed| falls(seed) == falls(seed)));
    assert_eq!(value("call:share(0)", call("a cat", &[])), "false");
    assert_eq!(value("call:share(1)", call("a cat", &[])), "true");
}

#[test]
fn money_is_exact_and_keeps_to_itself() {
    for (expression, expected) in [
        ("usd(0.1) + usd(0.2) == usd \"0.3\"", "true"),
        ("usd(0.02) < usd(0.03)", "true"),
        ("usd(0.02) >= usd(0.03)", "false"),
        ("usd \"1.50\" - usd(0.5)", "$1.00"),
        ("usd(0.02) == 0.02", "false"),
    ] {
        assert_eq!(
            value(expression, call("a cat", &[])),
            expected,
            "{expression}"
        );
    }
    complains(
        "return usd(1) + 1",
        "money compares and adds with money only",
    );
    complains(
        "return 1 - usd(1)",
        "money compares and adds with money only",
    );
    complains(
        "return usd(1) < 2",
        "money compares and adds with money only",
    );
    complains(
        "return usd(1) * 2",
        "money compares and adds with money only",
    );
    complains("return usd \"a lot\"", "not an amount of US dollars");
    complains("return usd(1e-10)", "more decimals");
    complains("return usd {}", "usd takes a number or a text");
    complains("return usd(0/0)", "not an amount");
}

#[test]
fn helpers_answer_and_absent_ones_say_so() {
    for (expression, expected) in [
        (
            "pixtoll.quote(call.request, \"stability/sd3.5-medium\").high",
            "$0.035",
        ),
        ("pixtoll.quote(call.asked).low", "$0.04"),
        ("pixtoll.quote(call.request, \"bfl/flux-2-pro\")", "nil"),
        (
            "pixtoll.supports(\"stability/sd3.5-medium\", call.request)",
            "true",
        ),
        ("pixtoll.clock().hour", "23"),
        ("pixtoll.clock(\"Europe/Berlin\").weekday", "1"),
        (
            "pixtoll.between(\"22:00\", \"06:00\", \"Europe/Berlin\")",
            "true",
        ),
    ] {
        assert_eq!(
            value(expression, call("a cat", &[])),
            expected,
            "{expression}"
        );
    }
    let plugins = rule("pixtoll.log(\"seen\", 1, call.app) print(call)");
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), []);
    let mut three = call("a cat", &[]);
    Arc::make_mut(&mut three.request).n = 3;
    let why = "select(2, pixtoll.supports(\"stability/sd3.5-medium\", call.request))";
    assert_eq!(value(why, three), "3 pictures wanted, 1 a call is the most");
    let gone = |day: &str| CallView {
        at: day.parse().unwrap(),
        ..call("a cat", &[])
    };
    for (day, supports, successor) in [
        (
            "2026-05-11T23:59:59Z",
            "true nil",
            "openai/gpt-image-2 false",
        ),
        (
            "2026-05-12T00:00:00Z",
            "false openai/dall-e-3 is gone",
            "openai/gpt-image-2 true",
        ),
    ] {
        let two = |call: &str| {
            format!(
                "(function() local a, b = {call} return tostring(a) .. ' ' .. tostring(b) end)()"
            )
        };
        let asked = two("pixtoll.supports(\"openai/dall-e-3\", call.request)");
        assert_eq!(value(&asked, gone(day)), supports);
        let asked = two("pixtoll.successor(\"openai/dall-e-3\")");
        assert_eq!(value(&asked, gone(day)), successor);
    }
    assert_eq!(
        value(
            "tostring(pixtoll.successor(\"bfl/flux-2-pro\"))",
            call("a cat", &[])
        ),
        "nil"
    );
    complains(
        "pixtoll.spend {}",
        "pixtoll.spend is not available in this version",
    );
    complains("pixtoll.quote({})", "wants a request");
    let at_load = load_with(
        "local m = pixtoll.successor(\"openai/dall-e-3\") return {on_request = function() end}",
        Value::Null,
    );
    let problems = at_load.err().unwrap();
    assert!(
        problems[0].message.contains("use it within a hook"),
        "{problems:?}"
    );
    complains("pixtoll.quote(call.request, \"sd3\")", "names no provider");
    complains("pixtoll.clock(\"Mars/Base\")", "no time zone");
    complains(
        "return pixtoll.qoute(call.request)",
        "did you mean `quote`?",
    );
}

#[test]
fn change_reads_every_option() {
    let plugins = rule(
        "return call:change { n = 2, prompt = \"a dog\", size = \"16:9\", quality = \"high\", seed = 7,
           steps = false, guidance = 3.5, safety = \"strict\", compression = 80,
           tier = { \"batch\", \"flex\" }, max_side = 1024, max_pixels = 1e6, max_quality = \"medium\",
           max_steps = 20, max_n = 1, fit = \"requested\", keep = { \"seed\" }, reason = \"why\" }",
    );
    let expected = Change {
        set: vec![
            Set::Prompt("a dog".into()),
            Set::Size(Size::parse("16:9").unwrap()),
            Set::Quality(Some(Quality::High)),
            Set::N(2),
            Set::Seed(Some(7)),
            Set::Steps(None),
            Set::Guidance(serde_json::Number::from_f64(3.5)),
            Set::Safety(Some(Safety::Strict)),
            Set::Compression(Some(80)),
        ],
        max_side: Some(1024),
        max_pixels: Some(1_000_000),
        max_quality: Some(Quality::Medium),
        max_steps: Some(20),
        max_n: Some(1),
        tiers: vec![Tier::Batch, Tier::Flex],
        fit_requested: true,
        keep: Keep::Fields(vec!["seed".into()]),
        reason: Some("why".into()),
    };
    assert_eq!(
        actions(ask(&plugins, call("a cat", &[]))),
        [Action::Change(expected)]
    );
}

#[test]
fn route_reads_targets_and_bounds() {
    let plugins = rule(
        "return call:route({ \"bfl/flux-2-pro\", \"class:draft\" }, { max_cost = usd(0.02), max_share = 0.5,
           timeout = 30, may_pay_twice = true, keep = true, tier = \"flex\", reason = \"why\" })",
    );
    let expected = Route {
        targets: vec![
            Target::Model(ModelId::new("bfl", "flux-2-pro")),
            Target::Class("draft".into()),
        ],
        change: Change {
            tiers: vec![Tier::Flex],
            keep: Keep::Everything,
            reason: Some("why".into()),
            ..Change::default()
        },
        max_cost: Some("0.02".parse().unwrap()),
        max_share: Some(500),
        timeout: Some(Duration::from_secs(30)),
        may_pay_twice: true,
    };
    assert_eq!(
        actions(ask(&plugins, call("a cat", &[]))),
        [Action::Route(expected)]
    );
}

#[test]
fn the_other_actions_of_on_request_are_read() {
    let plugins = rule(
        "return call:refuse(\"no\", { status = 422, reason = \"rule\" }),
           call:cache { mode = \"refresh\", ttl = 600, variants = 3, scope = \"everyone\" }, nil,
           call:tag(\"a\", \"b\")",
    );
    let expected = [
        Action::Refuse {
            message: "no".into(),
            status: Some(422),
            reason: Some("rule".into()),
        },
        Action::Cache(CachePolicy {
            mode: Some(CacheMode::Refresh),
            ttl: Some(Duration::from_secs(600)),
            variants: Some(3),
            scope: Some(CacheScope::Everyone),
            reason: None,
        }),
        Action::Tag {
            names: vec!["a".into(), "b".into()],
        },
    ];
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), expected);
}

#[test]
fn the_actions_of_on_failure_are_read() {
    let busy = || failure(FailureKind::RateLimited, 1);
    let plugins = failure_rule("return call:retry { after = 1.5, may_pay_twice = true }");
    let retry = Action::Retry {
        after: Some(Duration::from_millis(1500)),
        may_pay_twice: true,
        reason: None,
    };
    assert_eq!(
        actions(ask_failed(&plugins, call("a cat", &[]), busy())),
        [retry]
    );
    let plugins = failure_rule("return call:stop(\"enough\")");
    let stop = Action::Stop {
        reason: Some("enough".into()),
    };
    assert_eq!(
        actions(ask_failed(&plugins, call("a cat", &[]), busy())),
        [stop]
    );
}

#[test]
fn a_hook_sees_the_failure_as_it_is() {
    let mut view = failure(FailureKind::Safety, 2);
    view.failure.charge = Some("0.01".parse().unwrap());
    view.failure.retry_after = Some(Duration::from_millis(2500));
    view.failure.safety = Some(SafetyBlock {
        at: Some(SafetyStage::Output),
        categories: vec!["violence".into()],
    });
    let seen = "failure.kind, failure.sent, failure.billed, tostring(failure.charge), failure.model,
        failure.tier, failure.status, tostring(failure.code), failure.message, failure.retry_after,
        failure.attempt, failure.times, failure.ms, failure.images, failure.safety.at, failure.safety.categories[1]";
    let plugins = failure_rule(&format!(
        "return call:stop(table.concat({{ {seen} }}, \" \"))"
    ));
    let expected = "safety refused no $0.01 openai/gpt-image-2 standard 429 nil slow down 2.5 2 2 120 0 output violence";
    let stop = Action::Stop {
        reason: Some(expected.into()),
    };
    assert_eq!(
        actions(ask_failed(&plugins, call("a cat", &[]), view)),
        [stop]
    );
}

#[test]
fn a_misspelt_name_is_told_the_nearest_right_one() {
    for (body, words) in [
        (
            "return call.requst",
            "`call.requst`: no such field; did you mean `request`?",
        ),
        (
            "return call.request.promt",
            "`request.promt`: no such field; did you mean `prompt`?",
        ),
        ("return call.quote.hihg", "did you mean `high`?"),
        ("return call.asked.quote.hihg", "did you mean `high`?"),
        (
            "return call:mention(\"x\")",
            "`call:mention`: no such method; did you mean `mentions`?",
        ),
        ("return call.mention", "did you mean `mentions`?"),
        (
            "return options.wrod",
            "`options.wrod`: no such option; did you mean `word`?",
        ),
        (
            "return call:change { maxside = 5 }",
            "`maxside`: no such option of call:change; did you mean `max_side`?",
        ),
        (
            "return call:route(\"a/b\", { max_shares = 5 })",
            "did you mean `max_share`?",
        ),
        (
            "return call:change { max_cost = usd(1) }",
            "no such option of call:change",
        ),
        (
            "return call:cache { mode = \"refrehs\" }",
            "did you mean `refresh`?",
        ),
        (
            "return call:change { quality = \"hihg\" }",
            "did you mean `high`?",
        ),
        (
            "return call:change { keep = { \"sede\" } }",
            "did you mean `seed`?",
        ),
        (
            "return call:route(\"class:darft\")",
            "did you mean `draft`?",
        ),
        ("return call.request.quote", "`call.quote`"),
        ("return pixtoll.clock().huor", "did you mean `hour`?"),
        ("return call[1]", "`call.1`: no such field"),
        ("return call[{}]", "text is wanted, it is table"),
    ] {
        complains(body, words);
    }
}

#[test]
fn what_is_given_wrongly_is_said_with_its_name() {
    for (body, words) in [
        (
            "return call:change { max_side = 3.5 }",
            "`max_side` of call:change must be a whole number from 1 to 65536, it is 3.5",
        ),
        (
            "return call:change { max_side = \"1024\" }",
            "it is \"1024\"",
        ),
        ("return call:change { max_side = 0 }", "it is 0"),
        ("return call:change { n = -1 }", "whole number"),
        (
            "return call:change { size = \"large\" }",
            "must be like \"1024x1024\"",
        ),
        (
            "return call:change { max_quality = \"auto\" }",
            "it is no bound",
        ),
        ("return call:change { tier = {} }", "something in it"),
        (
            "return call:change { model = \"a/b\" }",
            "`model` cannot be changed: send it elsewhere with call:route",
        ),
        ("return call:change { width = 5 }", "set `size`"),
        ("return call:change {}", "is empty"),
        ("return call:change(5)", "wants a table of options, it is 5"),
        ("return call:change({ n = 1 }, 5)", "one argument too many"),
        ("return call:change { fit = \"asked\" }", "`fit"),
        (
            "return call:change { keep = \"seed\" }",
            "`keep` of call:change must be true or a list",
        ),
        ("return call:change { \"n\" }", "takes names with values"),
        (
            "return call:route()",
            "`target` of call:route must be a text, it is nil",
        ),
        ("return call:route(\"sd3\")", "names no provider"),
        (
            "return call:route { \"a/b\", max_share = 1 }",
            "belongs into the table of options",
        ),
        (
            "return call:route(\"a/b\", { max_cost = 0.02 })",
            "must be money: write usd(0.02), it is 0.02",
        ),
        (
            "return call:route(\"a/b\", { max_cost = usd(-1) })",
            "not negative",
        ),
        (
            "return call:route(\"a/b\", { max_share = 0 })",
            "from 0.001",
        ),
        ("return call:route(\"a/b\", { timeout = -1 })", "seconds"),
        (
            "return call:route(\"a/b\", { may_pay_twice = 1 })",
            "true or false",
        ),
        (
            "return call:refuse()",
            "`message` of call:refuse must be a text",
        ),
        (
            "return call:refuse(\"no\", { status = 200 })",
            "from 400 to 599",
        ),
        ("return call:cache {}", "is empty"),
        ("return call:tag()", "at least one name"),
        ("return call:mentions()", "at least one word"),
        ("return call:mentions(\"\")", "at least one word"),
        ("return call:share(2)", "from 0 to 1"),
        (
            "return call:answer { file = \"../a.png\" }",
            "a picture in the plugin's own folder",
        ),
        (
            "return call:answer {}",
            "a picture in the plugin's own folder",
        ),
        (
            "return call:answer { fiel = \"a.png\" }",
            "did you mean `file`?",
        ),
        (
            "return call:retry {}",
            "`retry` may be returned by on_failure only",
        ),
        (
            "return call:stop()",
            "`stop` may be returned by on_failure only",
        ),
        ("call.app = \"mine\"", "`call` is read-only"),
        ("call.request.n = 2", "`request` is read-only"),
        ("options.side = 2", "readonly"),
        ("return call:tag(\"x\").name", "an action has no fields"),
    ] {
        complains(body, words);
    }
    let busy = failure(FailureKind::RateLimited, 1);
    let plugins = failure_rule("return call:change { n = 1 }");
    let (message, line) = fault(ask_failed(&plugins, call("a cat", &[]), busy));
    assert_eq!(
        (message.as_str(), line.as_str()),
        (
            "`change` may be returned by on_request, on_budget only, not by on_failure",
            "2"
        )
    );
}

#[test]
fn an_action_knows_its_line() {
    let outcome = ask(
        &rule("local a = call:tag(\"x\")\n\nreturn call:change { n = 1 }, a"),
        call("a cat", &[]),
    );
    let lines: Vec<&str> = outcome
        .made
        .iter()
        .map(|made| made.at.rsplit(':').next().unwrap())
        .collect();
    assert_eq!(lines, ["5", "3"]);
    assert!(
        outcome.made[0].at.ends_with("rule.lua:5"),
        "{}",
        outcome.made[0].at
    );
}

#[test]
fn an_action_that_is_not_returned_is_an_error_at_its_line() {
    let (message, line) = fault(ask(
        &rule("\ncall:change { n = 1 }\nreturn call:tag(\"x\")"),
        call("a cat", &[]),
    ));
    assert_eq!(
        message,
        "this `change` was made and not returned: write `return call:change…`"
    );
    assert_eq!(line, "4");
}

#[test]
fn what_is_no_action_cannot_be_returned() {
    for (body, words) in [
        ("return 5", "on_request returned 5, which is no action"),
        ("return call", "which is no action"),
        ("return { n = 1 }", "returned a table"),
        ("return true", "returned true"),
        ("local a = call:tag(\"x\") return a, a", "an action twice"),
    ] {
        let (message, line) = fault(ask(&rule(body), call("a cat", &[])));
        assert!(message.contains(words), "{body}: {message}");
        assert_eq!(line, "2", "the line of the hook");
    }
    assert_eq!(actions(ask(&rule("return false"), call("a cat", &[]))), []);
}

#[test]
fn a_kept_call_is_dead_after_its_hook() {
    let plugins = loaded(
        "local kept\nreturn { on_request = function(call)\nif kept then return kept:tag(kept.app) end\nkept = call\nend }",
    );
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), []);
    let (message, line) = fault(ask(&plugins, call("a cat", &[])));
    assert!(message.contains("has ended"), "{message}");
    assert_eq!(line, "3");
}

#[test]
fn errors_of_the_rule_itself_name_their_line() {
    for (body, words) in [
        ("error(\"mine\")", "mine"),
        ("local a = nil; return a.b", "attempt to index nil"),
        (
            "return call:tagged()",
            "argument 1 of tagged: text is wanted, it is nil",
        ),
        (
            "return call.tagged(\"x\")",
            "write object:tagged(…) with a colon",
        ),
        (
            "return call.change { n = 1 }",
            "write object:change(…) with a colon",
        ),
        ("string.rep()", "invalid argument #1 to 'rep'"),
    ] {
        complains(body, words);
    }
    let (message, line) = fault(ask(
        &rule("local function deep() error({}) end\ndeep()"),
        call("a", &[]),
    ));
    assert!(!message.is_empty() && !line.is_empty());
}
