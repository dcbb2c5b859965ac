//! Policies as they should read, letter for letter.

use super::*;
use crate::action::{BudgetView, Change, Funds, Route, Set, Spending, Target};
use crate::image::capability::Keep;
use crate::image::{Quality, Safety};

fn policy(source: &str) -> Plugins {
    loaded(source)
}

fn models(names: &[&str]) -> Vec<Target> {
    names
        .iter()
        .map(|name| Target::Model(ModelId::parse(name).unwrap()))
        .collect()
}

#[test]
fn cap_unless_hero() {
    let plugins = policy(include_str!(
        "../../../plugins/policies/cap_unless_hero.lua"
    ));
    let capped = Action::Change(Change {
        max_side: Some(1024),
        reason: Some("cap".into()),
        ..Change::default()
    });
    assert_eq!(actions(ask(&plugins, call("a cat", &["draft"]))), [capped]);
    assert_eq!(actions(ask(&plugins, call("a cat", &["hero"]))), []);
}

#[test]
fn icons_to_cheap() {
    let plugins = policy(include_str!("../../../plugins/policies/icons_to_cheap.lua"));
    let routed = Action::Route(Route {
        targets: models(&["stability/sd3.5-medium"]),
        change: Change {
            reason: Some("icon".into()),
            ..Change::default()
        },
        max_share: Some(1000),
        ..Route::default()
    });
    assert_eq!(actions(ask(&plugins, call("An Icon, flat", &[]))), [routed]);
    assert_eq!(actions(ask(&plugins, call("An Icon, flat", &["hero"]))), []);
    assert_eq!(actions(ask(&plugins, call("iconic", &[]))), []);
}

#[test]
fn rate_limits() {
    let plugins = policy(include_str!("../../../plugins/policies/rate_limits.lua"));
    let after = |kind, times| {
        actions(ask_failed(
            &plugins,
            call("a cat", &[]),
            failure(kind, times),
        ))
    };
    let retry = Action::Retry {
        after: None,
        may_pay_twice: false,
        reason: None,
    };
    let route = Action::Route(Route {
        targets: models(&["google/gemini-2.5-flash-image", "bfl/flux-2-pro"]),
        change: Change {
            reason: Some("rate limited twice".into()),
            ..Change::default()
        },
        ..Route::default()
    });
    assert_eq!(after(FailureKind::RateLimited, 1), [retry]);
    assert_eq!(after(FailureKind::RateLimited, 2), [route]);
    assert_eq!(after(FailureKind::Safety, 2), []);
}

#[test]
fn daily() {
    let plugins = policy(include_str!("policies/daily.lua"));
    let budget = |name: &str, spent: &str| BudgetView {
        name: name.into(),
        limit: "20".parse().unwrap(),
        spent: spent.parse().unwrap(),
        held: Usd::ZERO,
        resets_at: None,
    };
    let spent = |amount: &str| CallView {
        world: Arc::new(World {
            funds: Some(Arc::new(OneBudget(Arc::new(budget("catalog-day", amount))))),
            ..World::default()
        }),
        ..call("a cat", &[])
    };
    let medium = Action::Change(Change {
        max_quality: Some(Quality::Medium),
        reason: Some("80 % spent".into()),
        ..Change::default()
    });
    assert_eq!(actions(ask(&plugins, spent("15.99"))), []);
    assert_eq!(actions(ask(&plugins, spent("16.00"))), [medium]);
    let full = |name: &str| {
        let (call, budget) = (spent("20"), budget(name, "20"));
        let plugin = only(&plugins);
        actions(block_on(plugin.on_budget(Arc::new(call), Arc::new(budget))))
    };
    let less = Action::Change(Change {
        max_quality: Some(Quality::Low),
        max_side: Some(1024),
        reason: Some("budget".into()),
        ..Change::default()
    });
    assert_eq!(full("catalog-day"), [less]);
    assert_eq!(full("month"), []);
}

/// Of every name the same budget, which applies to every call.
#[derive(Debug)]
struct OneBudget(Arc<BudgetView>);

impl Funds for OneBudget {
    fn budget(&self, _: &str, _: &CallView) -> Result<Option<Arc<BudgetView>>, Vec<Arc<str>>> {
        Ok(Some(Arc::clone(&self.0)))
    }

    fn spent(&self, _: &Spending, _: Timestamp) -> Result<Usd, String> {
        Ok(self.0.spent)
    }
}

#[test]
fn night() {
    let plugins = policy(include_str!("../../../plugins/policies/night.lua"));
    let slow = Action::Change(Change {
        tiers: vec![Tier::Batch, Tier::Flex],
        reason: Some("night".into()),
        ..Change::default()
    });
    assert_eq!(
        actions(ask(&plugins, call("a cat", &["background"]))),
        [slow]
    );
    assert_eq!(actions(ask(&plugins, call("a cat", &[]))), []);
    let mut noon = call("a cat", &["background"]);
    noon.at = "2026-11-22T12:00:00Z".parse().unwrap();
    assert_eq!(actions(ask(&plugins, noon)), []);
}

#[test]
fn safe_mode() {
    let plugins = policy(include_str!("../../../plugins/policies/safe_mode.lua"));
    let after = |kind| actions(ask_failed(&plugins, call("a cat", &[]), failure(kind, 1)));
    let route = Action::Route(Route {
        targets: models(&["bfl/flux-2-pro"]),
        change: Change {
            set: vec![Set::Safety(Some(Safety::Strict))],
            keep: Keep::Fields(vec!["safety".into()]),
            reason: Some("safety block".into()),
            ..Change::default()
        },
        max_share: Some(500),
        ..Route::default()
    });
    assert_eq!(after(FailureKind::Safety), [route]);
    assert_eq!(after(FailureKind::Server), []);
}
