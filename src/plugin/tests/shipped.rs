//! The plugins in the binary.

use super::*;
use crate::action::Target;

fn shipped(name: &str, options: Value) -> Plugins {
    let entry = Entry {
        options,
        ..Entry::new(PluginSource::Shipped(name.into()))
    };
    load_entry(entry).unwrap_or_else(|problems| panic!("{}", all(&problems)))
}

#[test]
fn every_shipped_plugin_opens_with_what_it_is_for() {
    for (name, source) in super::super::shipped::ALL {
        assert!(source.starts_with(&format!("-- {name}: ")), "{name}");
    }
}

#[test]
fn cap_resolution_caps_all_but_the_tagged() {
    let plugins = shipped("cap_resolution", json!({"max_side": 512}));
    assert_eq!(only(&plugins).name(), "cap_resolution");
    match actions(ask(&plugins, call("a cat", &[]))).as_slice() {
        [Action::Change(change)] => assert_eq!(change.max_side, Some(512)),
        other => panic!("{other:?}"),
    }
    assert_eq!(actions(ask(&plugins, call("a cat", &["hero"]))), []);
}

#[test]
fn icons_to_cheap_routes_icons_at_no_higher_price() {
    let plugins = shipped("icons_to_cheap", Value::Null);
    match actions(ask(&plugins, call("a flat icon", &[]))).as_slice() {
        [Action::Route(route)] => assert_eq!(route.max_share, Some(1000)),
        other => panic!("{other:?}"),
    }
    assert_eq!(actions(ask(&plugins, call("a flat icon", &["hero"]))), []);
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), []);
}

fn chain() -> Plugins {
    let models = ["stability/sd3.5-medium", "bfl/flux-2-pro"];
    shipped("retry_chain", json!({"chain": models}))
}

fn after(plugins: &Plugins, view: FailureView) -> Vec<Action> {
    actions(ask_failed(plugins, call("a cat", &[]), view))
}

fn targets(actions: &[Action]) -> Vec<String> {
    match actions {
        [Action::Route(route)] => route
            .targets
            .iter()
            .map(|target| match target {
                Target::Model(model) => model.to_string(),
                Target::Class(class) => class.clone(),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn retry_chain_asks_a_busy_provider_again_then_moves_on() {
    let plugins = chain();
    let first = after(&plugins, failure(FailureKind::RateLimited, 1));
    assert!(
        matches!(
            first.as_slice(),
            [Action::Retry {
                may_pay_twice: false,
                ..
            }]
        ),
        "{first:?}"
    );
    let second = after(&plugins, failure(FailureKind::RateLimited, 2));
    assert_eq!(
        targets(&second),
        ["stability/sd3.5-medium", "bfl/flux-2-pro"]
    );
}

#[test]
fn retry_chain_goes_down_the_chain_and_stops_at_its_end() {
    let plugins = chain();
    let at = |model: &str| FailureView {
        model: ModelId::parse(model).unwrap(),
        ..failure(FailureKind::Server, 1)
    };
    assert_eq!(
        targets(&after(&plugins, at("stability/sd3.5-medium"))),
        ["bfl/flux-2-pro"]
    );
    let end = after(&plugins, at("bfl/flux-2-pro"));
    assert!(matches!(end.as_slice(), [Action::Stop { .. }]), "{end:?}");
}

#[test]
fn retry_chain_leaves_safety_and_the_unknown_alone() {
    let plugins = chain();
    assert_eq!(after(&plugins, failure(FailureKind::Safety, 1)), []);
    assert_eq!(after(&plugins, failure(FailureKind::Invalid, 1)), []);
    let lost = FailureView {
        failure: Failure::lost(FailureKind::Timeout, "no answer"),
        ..failure(FailureKind::Timeout, 1)
    };
    assert_eq!(after(&plugins, lost), []);
}

#[test]
fn retry_chain_needs_its_chain_and_models_that_exist() {
    let entry = |options| Entry {
        options,
        ..Entry::new(PluginSource::Shipped("retry_chain".into()))
    };
    for (options, words) in [
        (Value::Null, "the option `chain` (models) must be given"),
        (json!({"chain": []}), "must be a list of models"),
        (json!({"chain": ["sd3"]}), "names no provider"),
        (
            json!({"chain": ["stabilty/sd3"]}),
            "the price book has no model `stabilty/sd3`",
        ),
        (json!({"chain": ["class:drafts"]}), "no class `drafts`"),
    ] {
        let problems = load_entry(entry(options)).err().unwrap();
        assert!(problems[0].message.contains(words), "{}", all(&problems));
        assert!(problems[0].line.is_some());
    }
}

#[test]
fn a_misspelt_shipped_name_finds_its_plugin() {
    let problems = load_entry(Entry::new(PluginSource::Shipped("retry_chian".into())))
        .err()
        .unwrap();
    assert_eq!(problems[0].remedy, "did you mean `retry_chain`?");
}
