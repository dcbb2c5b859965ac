//! What a rule can reach: nothing that is not meant to be, and all that is declared.

use std::collections::BTreeSet;

use super::*;
use crate::plugin::subject::Hook;
use crate::plugin::{actions, clock, counter, health, helpers, market, trial, view, world};

#[test]
fn dangerous_globals_are_absent() {
    for name in [
        "io",
        "os",
        "debug",
        "package",
        "loadstring",
        "load",
        "dofile",
        "loadfile",
        "getfenv",
        "setfenv",
        "newproxy",
        "collectgarbage",
        "gcinfo",
        "buffer",
        "vector",
        "math.random",
        "math.randomseed",
        "string.dump",
        "string.pack",
        "coroutine.finally",
        "integer",
        "class",
        "jit",
        "ffi",
    ] {
        let plugins = rule(&format!("return call:tag(tostring({name}))"));
        let names = vec!["nil".to_owned()];
        assert_eq!(
            actions(ask(&plugins, call("a cat", &[]))),
            [Action::Tag { names }],
            "{name}"
        );
    }
    fn actions(outcome: HookOutcome) -> Vec<Action> {
        super::actions(outcome)
    }
}

#[test]
fn what_is_shared_cannot_be_changed() {
    for body in [
        "string.find = nil",
        "math.pi = 3",
        "pixtoll.quote = nil",
        "rawset(pixtoll, \"quote\", print)",
        "rawset(options, \"word\", \"x\")",
        "getmetatable(\"\").__index.upper = nil",
        "table.insert(call.tags, \"x\")",
        "setmetatable(options, {})",
        "setmetatable(call, {})",
        "_G.print = nil",
    ] {
        fault(ask(&rule(body), call("a cat", &["a"])));
    }
    let plugins = rule(
        "return call:tag(tostring(getmetatable(call)), tostring(getmetatable(options)), tostring(getmetatable(usd(1))))",
    );
    match super::actions(ask(&plugins, call("a cat", &[]))).as_slice() {
        [Action::Tag { names }] => assert!(
            names.iter().all(|n| n == "false" || n == "nil"),
            "{names:?}"
        ),
        other => panic!("{other:?}"),
    }
}

/// Names of the members of `declare class NAME`, or of a table type between `head` and its end.
fn declared(head: &str) -> BTreeSet<String> {
    let text = include_str!("../../../plugins/pixtoll.d.luau");
    let start = text
        .find(head)
        .unwrap_or_else(|| panic!("{head} is not declared"))
        + head.len();
    text[start..]
        .lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| {
            let line = line.trim().trim_start_matches("function ");
            let end = line.find([':', '('])?;
            let name = &line[..end];
            name.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
                .then(|| name.to_owned())
        })
        .collect()
}

fn names<'a>(lists: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    lists.into_iter().map(str::to_owned).collect()
}

fn fields<T>(fields: &[(&'static str, T)]) -> BTreeSet<String> {
    names(fields.iter().map(|(name, _)| *name))
}

#[test]
fn the_declarations_have_what_the_code_has() {
    let mut call = fields(view::CALL_FIELDS);
    call.extend(names(view::CALL_METHODS.iter().copied()));
    call.extend(names(actions::ACTIONS.iter().map(|(name, ..)| *name)));
    let check = |head: &str, code: BTreeSet<String>| assert_eq!(declared(head), code, "{head}");
    check("declare class Call\n", call);
    check("declare class Request\n", fields(view::REQUEST_FIELDS));
    check(
        "declare class Asked extends Request\n",
        fields(view::ASKED_FIELDS),
    );
    check("declare class Quote\n", fields(view::QUOTE_FIELDS));
    check("declare class Failure\n", fields(view::FAILURE_FIELDS));
    check(
        "export type AnswerOptions = {\n",
        names(actions::ANSWER_OPTIONS.iter().copied()),
    );
    check(
        "export type CounterOptions = {\n",
        names(counter::COUNTER_OPTIONS.iter().copied()),
    );
    check(
        "declare class Counter\n",
        names(counter::COUNTER_METHODS.iter().copied()),
    );
    check(
        "export type AboutCall = {\n",
        names(trial::kept::ABOUT.iter().copied()),
    );
    check("declare class Budget\n", fields(view::BUDGET_FIELDS));
    check("declare class Response\n", fields(view::RESPONSE_FIELDS));
    check("declare class Image\n", fields(view::IMAGE_FIELDS));
    check(
        "export type SpendOptions = {\n",
        names(world::SPEND_OPTIONS.iter().copied()),
    );
    check(
        "declare class Clock\n",
        names(clock::CLOCK_FIELDS.iter().copied()),
    );
    check("declare class Health\n", fields(health::HEALTH_FIELDS));
    check("declare class Action\n", BTreeSet::new());
    check(
        "declare pixtoll: {\n",
        names(helpers::HELPERS.iter().copied()),
    );
    check(
        "export type ChangeOptions = {\n",
        names(actions::CHANGE_OPTIONS.iter().copied()),
    );
    check(
        "export type RouteOptions = ChangeOptions & {\n",
        names(actions::ROUTE_OPTIONS.iter().copied()),
    );
    check(
        "export type RetryOptions = {\n",
        names(actions::RETRY_OPTIONS.iter().copied()),
    );
    check(
        "export type RefuseOptions = {\n",
        names(actions::REFUSE_OPTIONS.iter().copied()),
    );
    check("declare test: {\n", names(trial::TEST.iter().copied()));
    check(
        "declare class Rules\n",
        names(trial::METHODS.iter().copied()),
    );
    let told = trial::told::ABOUT.iter().chain(actions::SETTABLE);
    check("export type TestCall = {\n", names(told.copied()));
    check(
        "export type CheapestOptions = {\n",
        names(market::CHEAPEST_OPTIONS.iter().copied()),
    );
    check(
        "export type CacheOptions = {\n",
        names(actions::CACHE_OPTIONS.iter().copied()),
    );
}

#[test]
fn every_name_of_the_lists_is_there_when_a_rule_runs() {
    let busy = || failure(FailureKind::RateLimited, 1);
    let check = |object: &str, names: BTreeSet<String>| {
        for name in names {
            let plugins = failure_rule(&format!("local _ = {object}.{name}"));
            let outcome = ask_failed(&plugins, call("a cat", &[]), busy());
            assert_eq!(outcome.error, None, "{object}.{name}");
        }
    };
    check("call", fields(view::CALL_FIELDS));
    check("call", names(view::CALL_METHODS.iter().copied()));
    check(
        "call",
        names(actions::ACTIONS.iter().map(|(name, ..)| *name)),
    );
    check("call.request", fields(view::REQUEST_FIELDS));
    check("call.asked", fields(view::ASKED_FIELDS));
    check("call.quote", fields(view::QUOTE_FIELDS));
    check("failure", fields(view::FAILURE_FIELDS));
    check("pixtoll", names(helpers::HELPERS.iter().copied()));
    check(
        "pixtoll.clock()",
        names(clock::CLOCK_FIELDS.iter().copied()),
    );
}

/// The names in a row of the README's table: what stands in backticks, up to its arguments.
fn in_readme(row: &str, before: &str) -> BTreeSet<String> {
    let text = include_str!("../../../README.md");
    let head = format!("| {row} | ");
    let line = text.lines().find(|line| line.starts_with(&head));
    let line = line.unwrap_or_else(|| panic!("the README has no row `{row}`"));
    let quoted = line[head.len()..].split('`').skip(1).step_by(2);
    quoted
        .filter_map(|name| name.strip_prefix(before))
        .map(|name| {
            let end = name.find(|c: char| !c.is_ascii_lowercase() && c != '_');
            name[..end.unwrap_or(name.len())].to_owned()
        })
        .filter(|name| !name.is_empty())
        .collect()
}

#[test]
fn the_readmes_table_has_what_the_code_has() {
    let check = |row: &str, before: &str, code: BTreeSet<String>| {
        assert_eq!(in_readme(row, before), code, "{row}");
    };
    let mut hooks = names(Hook::ALL.iter().map(|hook| hook.as_str()));
    hooks.insert("holds".to_owned());
    check("hooks", "", hooks);
    check(
        "actions",
        "call:",
        names(actions::ACTIONS.iter().map(|(name, ..)| *name)),
    );
    check(
        "asked of it",
        "call:",
        names(view::CALL_METHODS.iter().copied()),
    );
    check("of `call`", "", fields(view::CALL_FIELDS));
    check("of a request", "", fields(view::REQUEST_FIELDS));
    check("of a quote", "", fields(view::QUOTE_FIELDS));
    check("of a budget", "", fields(view::BUDGET_FIELDS));
    check("of a failure", "", fields(view::FAILURE_FIELDS));
    check("of a response", "", fields(view::RESPONSE_FIELDS));
    check(
        "helpers",
        "pixtoll.",
        names(helpers::HELPERS.iter().copied()),
    );
}
