//! The plugins in the binary.

use super::*;
use crate::action::{CacheMode, Set, Target};
use crate::image::{Quality, Safety};

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

/// What a plugin's options table has, by name.
fn options_of(source: &str) -> Vec<String> {
    let lua = mlua::Lua::new();
    let globals = lua.globals();
    let helpers = lua.create_table().unwrap();
    let needs = lua.create_function(|_, _: String| Ok(true)).unwrap();
    helpers.set("needs", needs).unwrap();
    globals.set("pixtoll", helpers).unwrap();
    let usd = lua.create_function(|_, _: mlua::Value| Ok(true)).unwrap();
    globals.set("usd", usd).unwrap();
    let plugin: mlua::Table = lua.load(source).eval().unwrap();
    let options: mlua::Table = plugin.get("options").unwrap();
    let pairs = options.pairs::<String, mlua::Value>();
    pairs.map(|pair| pair.unwrap().0).collect()
}

#[test]
fn every_shipped_plugin_has_a_section_with_its_options_and_no_others() {
    let guide = include_str!("../../../plugins/README.md");
    let (guide, _) = guide.split_once("\n# Testing a rule").unwrap();
    let sections: Vec<(&str, &str)> = guide
        .split("\n## ")
        .skip(1)
        .filter_map(|section| section.split_once('\n'))
        .collect();
    assert_eq!(sections.len(), super::super::shipped::ALL.len());
    for (name, source) in super::super::shipped::ALL {
        let section = sections.iter().find(|(title, _)| title == name);
        let (_, text) = section.unwrap_or_else(|| panic!("{name} has no section"));
        let mut told: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let mut options = options_of(source);
        told.sort_unstable();
        options.sort_unstable();
        assert_eq!(told, options, "{name}");
    }
}

#[test]
fn cap_quality_caps_all_but_the_tagged() {
    let plugins = shipped("cap_quality", json!({"max_quality": "low"}));
    match actions(ask(&plugins, call("a cat", &[]))).as_slice() {
        [Action::Change(change)] => assert_eq!(change.max_quality, Some(Quality::Low)),
        other => panic!("{other:?}"),
    }
    assert_eq!(actions(ask(&plugins, call("a cat", &["hero"]))), []);
}

#[test]
fn cheapest_in_class_goes_to_a_class_that_is_configured() {
    let plugins = shipped(
        "cheapest_in_class",
        json!({"to": "class:draft", "keep": ["seed"]}),
    );
    let made = actions(ask(&plugins, call("a cat", &[])));
    assert_eq!(targets(&made), ["draft"]);
    match made.as_slice() {
        [Action::Route(route)] => {
            assert_eq!(route.change.keep, Keep::Fields(vec!["seed".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
    let plain = shipped("cheapest_in_class", json!({"to": "class:draft"}));
    assert_eq!(
        targets(&actions(ask(&plain, call("a cat", &[])))),
        ["draft"]
    );
    assert_eq!(actions(ask(&plain, call("a cat", &["hero"]))), []);
}

#[test]
fn safety_fallback_moves_refused_prompts_alone_and_stays_strict() {
    let chain = ["stability/sd3.5-medium", "bfl/flux-2-pro"];
    let plugins = shipped("safety_fallback", json!({"chain": chain}));
    let made = after(&plugins, failure(FailureKind::Safety, 1));
    assert_eq!(targets(&made), chain);
    match made.as_slice() {
        [Action::Route(route)] => {
            assert_eq!(route.change.set, [Set::Safety(Some(Safety::Strict))]);
            assert_eq!(route.change.keep, Keep::Fields(vec!["safety".to_owned()]));
        }
        other => panic!("{other:?}"),
    }
    let at = |model: &str| FailureView {
        model: ModelId::parse(model).unwrap(),
        ..failure(FailureKind::Safety, 1)
    };
    assert_eq!(targets(&after(&plugins, at(chain[0]))), chain[1..]);
    let end = after(&plugins, at(chain[1]));
    assert!(matches!(end.as_slice(), [Action::Stop { .. }]), "{end:?}");
    assert_eq!(after(&plugins, failure(FailureKind::Server, 1)), []);
    let lax = shipped("safety_fallback", json!({"chain": chain, "safety": ""}));
    match after(&lax, failure(FailureKind::Safety, 1)).as_slice() {
        [Action::Route(route)] => assert_eq!(route.change.set, []),
        other => panic!("{other:?}"),
    }
}

#[test]
fn canary_takes_its_share_and_equal_calls_the_same_way() {
    let plugins = shipped("canary", json!({"to": "bfl/flux-2-pro", "share": 0.25}));
    let moved = |seed: u64| {
        let call = CallView {
            share_seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..call("a cat", &[])
        };
        !actions(ask(&plugins, call)).is_empty()
    };
    let count = (0..400).filter(|seed| moved(*seed)).count();
    assert!((60..140).contains(&count), "{count} of 400");
    assert!((0..400).all(|seed| moved(seed) == moved(seed)));
}

#[test]
fn fresh_images_leaves_seeds_and_repeats_to_memory() {
    let plugins = shipped("fresh_images", Value::Null);
    match actions(ask(&plugins, call("a cat", &[]))).as_slice() {
        [Action::Cache(policy)] => assert_eq!(policy.mode, Some(CacheMode::Refresh)),
        other => panic!("{other:?}"),
    }
    assert_eq!(actions(ask(&plugins, call("a cat", &["repeat"]))), []);
    let mut seeded = call("a cat", &[]);
    Arc::make_mut(&mut seeded.request).seed = Some(7);
    assert_eq!(actions(ask(&plugins, seeded)), []);
    let tagged = shipped("fresh_images", json!({"only": "new", "mode": "off"}));
    assert_eq!(actions(ask(&tagged, call("a cat", &[]))), []);
    assert_eq!(actions(ask(&tagged, call("a cat", &["new"]))).len(), 1);
}

#[test]
fn tag_by_prompt_knows_whole_words() {
    let tags = json!({"sky": "sky", "icon": ["icon", "glyph"], "shop": ["packshot"]});
    let plugins = shipped("tag_by_prompt", json!({"tags": tags}));
    let names = vec!["icon".to_owned(), "sky".to_owned()];
    assert_eq!(
        actions(ask(&plugins, call("A Glyph of the sky", &[]))),
        [Action::Tag { names }]
    );
    assert_eq!(actions(ask(&plugins, call("iconic skyline", &[]))), []);
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

/// A call for a model that was offered until May 2026.
fn dalle() -> CallView {
    let mut call = call("a cat", &[]);
    Arc::make_mut(&mut call.request).model = ModelId::new("openai", "dall-e-3");
    call
}

#[test]
fn retired_models_leads_to_the_successor_in_the_size_that_was_asked() {
    let plugins = shipped("retired_models", Value::Null);
    let made = actions(ask(&plugins, dalle()));
    assert_eq!(targets(&made), ["openai/gpt-image-2"]);
    match made.as_slice() {
        [Action::Route(route)] => {
            assert!(route.change.fit_requested);
            assert_eq!(route.max_share, None);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), []);
    let early = CallView {
        at: "2026-05-11T00:00:00Z".parse().unwrap(),
        ..dalle()
    };
    assert_eq!(actions(ask(&plugins, early)), [], "it was still there");
}

#[test]
fn retired_models_goes_where_its_options_say() {
    let options =
        json!({"to": {"openai/dall-e-3": "bfl/flux-2-pro"}, "max_share": 1.5, "same_size": false});
    let plugins = shipped("retired_models", options);
    let made = actions(ask(&plugins, dalle()));
    assert_eq!(targets(&made), ["bfl/flux-2-pro"]);
    match made.as_slice() {
        [Action::Route(route)] => {
            assert_eq!(
                (route.max_share, route.change.fit_requested),
                (Some(1500), false)
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn retired_models_believes_a_provider_that_the_model_is_gone() {
    let plugins = shipped("retired_models", Value::Null);
    let at = |kind| FailureView {
        model: ModelId::new("openai", "dall-e-3"),
        ..failure(kind, 1)
    };
    assert_eq!(
        targets(&after(&plugins, at(FailureKind::Retired))),
        ["openai/gpt-image-2"]
    );
    assert_eq!(after(&plugins, at(FailureKind::Server)), []);
    assert_eq!(after(&plugins, failure(FailureKind::Retired, 1)), []);
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
