//! The hooks beyond the request: budgets, answers, decisions, and what they may ask of the world.

use super::*;
use crate::action::{BudgetView, Funds, Per, Spending, World};
use crate::bill::ChargeFrom;
use crate::image::{Format, Image, Picture};
use crate::plugin::{Alert, AlertLevel, DecisionView, ResponseView};
use crate::wire::Rope;

fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn day() -> BudgetView {
    BudgetView {
        name: "day".into(),
        limit: usd("20"),
        spent: usd("15"),
        held: usd("1"),
        resets_at: Some("2026-11-23T00:00:00Z".parse().unwrap()),
    }
}

/// A world with one budget, one spender and one model that does badly.
#[derive(Debug)]
struct Books;

impl Funds for Books {
    fn budget(
        &self,
        name: &str,
        call: &CallView,
    ) -> Result<Option<Arc<BudgetView>>, Vec<Arc<str>>> {
        match name {
            "day" => Ok((&*call.app == "catalog").then(|| Arc::new(day()))),
            "month" => Ok(None),
            _ => Err(vec!["day".into(), "month".into()]),
        }
    }

    fn spent(&self, question: &Spending, at: Timestamp) -> Result<Usd, String> {
        assert_eq!(at, "2026-11-22T23:10:00Z".parse().unwrap());
        match (&question.app, &question.model, question.per) {
            (Some(app), None, Per::Week) if app == "catalog" => Ok(usd("3.50")),
            (None, Some(model), Per::Day) if model.provider() == "bfl" => Ok(usd("0.25")),
            _ => Err("nothing is known of that".to_owned()),
        }
    }
}

fn in_world(tags: &[&str]) -> CallView {
    CallView {
        world: Arc::new(World {
            funds: Some(Arc::new(Books)),
            ..World::default()
        }),
        ..call("a cat", tags)
    }
}

fn response() -> ResponseView {
    let image = |picture| Image {
        picture,
        format: Format::Png,
        width: Some(64),
        height: Some(32),
        seed: None,
        revised_prompt: None,
    };
    ResponseView {
        model: ModelId::new("stability", "sd3.5-medium"),
        cached: false,
        images: vec![
            image(Picture::Raw(Rope::from("cat".to_owned()))),
            image(Picture::Base64(Rope::from("Y2F0".to_owned()))),
            image(Picture::Url("https://images.example/cat.png".to_owned())),
        ],
        quote: Book
            .quote(&ImageRequest::new(
                ModelId::new("stability", "sd3.5-medium"),
                "a cat",
            ))
            .map(Arc::new),
        charge: Some(usd("0.04")),
        charge_from: ChargeFrom::Usage,
        discrepancy: Some(usd("0.005")),
        lost: vec!["style".to_owned()],
        ms: 1200,
    }
}

fn decision() -> DecisionView {
    DecisionView {
        record: Arc::new(json!({
            "app": "catalog", "cost": 0.035, "saved": null, "tags": ["hero"],
            "causes": {"delivered": 0.035, "retry": 0}, "cache": {"status": "miss", "age_s": null},
            "attempts": [{"model": "openai/gpt-image-2", "charge": 0.035, "codes": {"usage": "12"}}],
        })),
        at: "2026-11-22T23:10:00Z".parse().unwrap(),
        world: Arc::new(World::default()),
    }
}

#[track_caller]
fn hook(arguments: &str, hook: &str, body: &str, more: &str) -> Plugins {
    loaded(&format!(
        "return {{ {more} {hook} = function({arguments}, options)\n{body}\nend }}"
    ))
}

#[track_caller]
fn budgeted(body: &str) -> HookOutcome {
    let plugins = hook("call, budget", "on_budget", body, "");
    block_on(only(&plugins).on_budget(Arc::new(in_world(&[])), Arc::new(day())))
}

#[track_caller]
fn answered(body: &str, more: &str) -> HookOutcome {
    let plugins = hook("call, response", "on_response", body, more);
    block_on(only(&plugins).on_response(Arc::new(in_world(&[])), Arc::new(response())))
}

#[track_caller]
fn decided(body: &str) -> HookOutcome {
    let plugins = hook("decision", "on_decision", body, "");
    block_on(only(&plugins).on_decision(Arc::new(decision())))
}

/// The values of expressions as `tostring` has them, told through an alert.
#[track_caller]
fn told(outcome: HookOutcome) -> String {
    assert_eq!(outcome.error, None);
    outcome.alerts[0].text.clone()
}

#[test]
fn a_budget_is_seen_as_it_stands() {
    for (field, expected) in [
        ("name", "day"),
        ("limit", "$20.00"),
        ("spent", "$15.00"),
        ("held", "$1.00"),
        ("left", "$4.00"),
        ("used", "0.8"),
        ("resets_at", "1795392000"),
    ] {
        let body = format!("pixtoll.alert(\"info\", tostring(budget.{field}))");
        assert_eq!(told(budgeted(&body)), expected, "{field}");
        let body = format!("pixtoll.alert(\"info\", tostring(call:budget(\"day\").{field}))");
        assert_eq!(told(budgeted(&body)), expected, "{field}");
    }
    let body = "pixtoll.alert(\"info\", tostring(call:budget(\"month\")))";
    assert_eq!(told(budgeted(body)), "nil", "it does not apply here");
    for (name, words) in [
        ("mnoth", "did you mean `month`?"),
        ("catalog", "no such budget; there is day, month"),
    ] {
        let (message, line) = fault(budgeted(&format!("call:budget(\"{name}\")")));
        assert!(message.contains(words), "{message}");
        assert_eq!(line, "2");
    }
    let (message, line) = fault(budgeted("local _ = budget.limits"));
    assert!(message.contains("did you mean `limit`?"), "{message}");
    assert_eq!(line, "2");
    fault(budgeted("budget.limit = usd(100)"));
}

#[test]
fn on_budget_may_change_move_or_refuse_and_nothing_else() {
    for (action, did) in [
        ("call:change { max_quality = \"low\" }", "change"),
        ("call:route(\"bfl/flux-2-pro\")", "route"),
        ("call:refuse(\"too dear\")", "refuse"),
    ] {
        let made = actions(budgeted(&format!("return {action}")));
        assert_eq!(made[0].did(), did);
    }
    for action in [
        "call:retry {}",
        "call:cache { ttl = 1 }",
        "call:tag(\"x\")",
        "call:stop()",
    ] {
        let (message, _) = fault(budgeted(&format!("return {action}")));
        assert!(message.contains("only, not by on_budget"), "{message}");
    }
}

#[test]
fn what_was_spent_can_be_asked() {
    for (expression, expected) in [
        (
            "pixtoll.spend { app = \"catalog\", per = \"week\" }",
            "$3.50",
        ),
        ("pixtoll.spend { model = \"bfl/flux-2-pro\" }", "$0.25"),
    ] {
        let body = format!("pixtoll.alert(\"info\", tostring({expression}))");
        assert_eq!(told(budgeted(&body)), expected, "{expression}");
    }
    for (expression, words) in [
        ("pixtoll.spend { ap = \"x\" }", "did you mean `app`?"),
        ("pixtoll.spend { per = \"dya\" }", "did you mean `day`?"),
        ("pixtoll.spend { model = \"flux\" }", "names no provider"),
        (
            "pixtoll.spend { app = \"nobody\" }",
            "nothing is known of that",
        ),
    ] {
        let (message, line) = fault(budgeted(&format!("return {expression}")));
        assert!(message.contains(words), "{expression}: {message}");
        assert_eq!(line, "2", "{expression}");
    }
}

#[test]
fn a_response_is_seen_as_facts() {
    let digest = &blake3::hash(b"cat").to_hex()[..16];
    for (expression, expected) in [
        ("response.model", "stability/sd3.5-medium"),
        ("response.cached", "false"),
        ("#response.images", "3"),
        (
            "response.images[1].width * response.images[1].height",
            "2048",
        ),
        ("response.images[1].format", "png"),
        ("response.images[1].bytes", "3"),
        ("response.images[2].bytes", "3"),
        ("response.images[3].bytes", "nil"),
        ("response.images[1].digest", digest),
        ("response.images[2].digest", digest),
        ("response.images[3].digest", "nil"),
        ("response.quote.expected", "$0.035"),
        ("response.charge", "$0.04"),
        ("response.charge_from", "usage"),
        ("response.discrepancy", "$0.005"),
        ("response.lost[1]", "style"),
        ("response.ms", "1200"),
    ] {
        let body = format!("pixtoll.alert(\"info\", tostring({expression}))");
        assert_eq!(told(answered(&body, "")), expected, "{expression}");
    }
    let (message, _) = fault(answered("local _ = response.images[1].widht", ""));
    assert!(message.contains("did you mean `width`?"), "{message}");
}

#[test]
fn only_a_plugin_that_holds_may_send_an_answer_back() {
    let tag = actions(answered("return call:tag(\"seen\")", ""));
    assert_eq!(tag[0].did(), "tag");
    for action in ["call:route(\"bfl/flux-2-pro\")", "call:refuse(\"no\")"] {
        let body = format!("return {action}");
        let (message, line) = fault(answered(&body, ""));
        assert!(message.contains("add holds = true"), "{message}");
        assert_eq!(line, "2");
        assert_eq!(actions(answered(&body, "holds = true,")).len(), 1);
    }
    let (message, _) = fault(answered("return call:retry {}", "holds = true,"));
    assert!(
        message.contains("on_failure only, not by on_response"),
        "{message}"
    );
}

#[test]
fn a_decision_is_the_record_in_the_logs_own_names() {
    for (expression, expected) in [
        ("decision.app", "catalog"),
        ("decision.cost + decision.causes.delivered", "$0.07"),
        ("decision.saved", "nil"),
        ("decision.tags[1]", "hero"),
        ("decision.cache.age_s", "nil"),
        ("decision.attempts[1].charge < usd(1)", "true"),
        ("decision.attempts[1].codes.usage", "12"),
        ("decision.attempts[1].codes.request", "nil"),
        ("pixtoll.clock().hour", "23"),
    ] {
        let body = format!("pixtoll.alert(\"info\", tostring({expression}))");
        assert_eq!(told(decided(&body)), expected, "{expression}");
    }
    for (body, words) in [
        ("local _ = decision.cots", "did you mean `cost`?"),
        ("local _ = decision.cache.statsu", "did you mean `status`?"),
        ("decision.cost = usd(0)", "read-only"),
        ("decision.cache.status = \"hit\"", "readonly"),
        ("return 5", "which is no action"),
        ("pixtoll.cheapest({})", "wants a request"),
    ] {
        let (message, _) = fault(decided(body));
        assert!(message.contains(words), "{body}: {message}");
    }
}

#[test]
fn an_alert_carries_its_level_and_facts_and_is_bounded() {
    let outcome = decided(
        "pixtoll.alert(\"warning\", \"dear\", { app = decision.app, cost = decision.cost, n = 2, yes = true })",
    );
    let fields = [
        ("app", "catalog"),
        ("cost", "$0.035"),
        ("n", "2"),
        ("yes", "true"),
    ];
    let alert = Alert {
        level: AlertLevel::Warning,
        text: "dear".into(),
        fields: fields.map(|(name, text)| (name.into(), text.into())).into(),
    };
    assert_eq!(outcome.alerts, [alert]);
    for (body, words) in [
        (
            "pixtoll.alert(\"warn\", \"x\")",
            "there is info, warning, error",
        ),
        (
            "pixtoll.alert(\"info\", \" \")",
            "must have 1 to 2000 bytes",
        ),
        ("pixtoll.alert(\"info\", (\"x\"):rep(2001))", "it has 2001"),
        ("pixtoll.alert(\"info\", \"x\", { \"y\" })", "are named"),
        ("pixtoll.alert(\"info\", \"x\", { y = {} })", "is a table"),
        (
            "pixtoll.alert(\"info\", \"x\", { y = (\"x\"):rep(501) })",
            "longer than 500 bytes",
        ),
        (
            "for i = 1, 9 do pixtoll.alert(\"info\", \"x\") end",
            "8 alerts at most",
        ),
    ] {
        let outcome = decided(body);
        assert_eq!(outcome.alerts, [], "a hook that fails tells nobody");
        let (message, _) = fault(outcome);
        assert!(message.contains(words), "{body}: {message}");
    }
    let problems = load_with(
        "pixtoll.alert(\"info\", \"x\") return { on_request = print }",
        Value::Null,
    );
    let problems = all(&problems.err().unwrap());
    assert!(problems.contains("is for hooks"), "{problems}");
}

/// Runs the hooks of one set of plugins one after the other; what the last says in an alert.
fn in_turn(source: &str, entries: &[(&str, bool)]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let files = entries.iter().map(|(name, observe)| {
        let path = folder.path().join(format!("{name}.lua"));
        std::fs::write(&path, source).unwrap();
        Entry {
            observe: *observe,
            ..Entry::new(PluginSource::File(path))
        }
    });
    let files: Vec<Entry> = files.collect();
    let plugins = Plugins::load(&files, Arc::new(Book), &classes()).unwrap();
    let mut told = Vec::new();
    for plugin in plugins.iter() {
        let outcome = block_on(plugin.on_request(Arc::new(call("a cat", &[]))));
        told.extend(outcome.alerts.into_iter().map(|alert| alert.text));
        let outcome = block_on(plugin.on_decision(Arc::new(decision())));
        told.extend(outcome.alerts.into_iter().map(|alert| alert.text));
    }
    told
}

#[test]
fn counters_are_shared_by_hooks_and_plugins_and_kept_apart_where_they_only_observe() {
    let source = "local calls = pixtoll.counter(\"calls\")
        local function tell(what) pixtoll.alert(\"info\", what .. \" \" .. tostring(calls:value())) end
        return { on_request = function() calls:add() calls:add(2) tell(\"request\") end,
          on_decision = function() tell(\"decision\") end }";
    assert_eq!(
        in_turn(source, &[("one", false), ("two", false), ("aside", true)]),
        [
            "request 3",
            "decision 3",
            "request 6",
            "decision 6",
            "request 3",
            "decision 3"
        ]
    );
}

#[test]
fn a_hook_that_fails_or_is_stopped_and_run_again_counts_once_or_not_at_all() {
    let plugins = loaded(
        "return { on_request = function(call)
            local seen = pixtoll.counter(\"seen\", { window = \"10m\" })
            seen:add(1)
            if call:tagged(\"fail\") then error(\"no\") end
            if call:tagged(\"slow\") then local sum = 0 for i = 1, 100000 do sum += i % 7 end end
            return call:tag(tostring(seen:value()))
        end }",
    );
    let seen = |tags: &[&str]| match &*actions(ask(&plugins, call("a cat", tags))) {
        [Action::Tag { names }] => names[0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(&[]), "1");
    fault(ask(&plugins, call("a cat", &["fail"])));
    assert_eq!(seen(&[]), "2");
    assert!(!only(&plugins).is_slow());
    assert_eq!(seen(&["slow"]), "3");
    assert!(only(&plugins).is_slow(), "it was stopped, and run again");
    assert_eq!(seen(&[]), "4");
}

#[test]
fn a_counter_outlives_a_reload_and_counts_money_exactly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rule.lua");
    let write = |amount: &str| {
        let source = format!(
            "return {{ on_request = function(call)
                local spent = pixtoll.counter(\"spent\", {{ money = true, window = \"1d\" }})
                spent:add(usd({amount}))
                return call:tag(tostring(spent:value()))
            end }}"
        );
        std::fs::write(&path, source).unwrap();
    };
    let entry = || vec![Entry::new(PluginSource::File(path.clone()))];
    write("0.1");
    let first = Plugins::load(&entry(), Arc::new(Book), &classes()).unwrap();
    actions(ask(&first, call("a cat", &[])));
    write("0.2");
    let second = first
        .replaced(&entry(), Arc::new(Book), &classes())
        .unwrap();
    let names = vec!["$0.30".to_owned()];
    assert_eq!(
        actions(ask(&second, call("a cat", &[]))),
        [Action::Tag { names }]
    );
}

#[test]
fn what_is_no_counter_is_said() {
    for (body, words) in [
        (
            "pixtoll.counter()",
            "`name` of pixtoll.counter must be a text",
        ),
        ("pixtoll.counter(\"\")", "1 to 100 bytes"),
        (
            "pixtoll.counter(\"n\", { windw = \"1m\" })",
            "did you mean `window`?",
        ),
        (
            "pixtoll.counter(\"n\", { window = \"soon\" })",
            "a time like \"10m\"",
        ),
        (
            "pixtoll.counter(\"n\", { window = \"0s\" })",
            "no time at all",
        ),
        ("pixtoll.counter(\"n\"):add(\"1\")", "takes a number"),
        (
            "pixtoll.counter(\"n\"):add(usd(1))",
            "one of money has money = true",
        ),
        (
            "pixtoll.counter(\"n\", { money = true }):add(1)",
            "takes money",
        ),
        (
            "local _ = pixtoll.counter(\"n\").vlaue",
            "did you mean `value`?",
        ),
    ] {
        complains(body, words);
    }
    let problems = load_with(
        "pixtoll.counter(\"n\"):add(1) return { on_request = print }",
        Value::Null,
    );
    assert!(all(&problems.err().unwrap()).contains("use it within a hook"));
}

#[test]
fn what_was_kept_of_a_hook_is_dead_when_it_is_over() {
    let plugins = loaded(
        "local kept
         return { on_response = function(call, response) kept = response end,
           on_decision = function(decision) return kept.model end }",
    );
    let plugin = only(&plugins);
    block_on(plugin.on_response(Arc::new(in_world(&[])), Arc::new(response())));
    let (message, _) = fault(block_on(plugin.on_decision(Arc::new(decision()))));
    assert!(message.contains("a hook that has ended"), "{message}");
}
