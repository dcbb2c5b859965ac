//! The second station: what the rules say of a call before it is sent.
//!
//! Every action is checked, applied to what later plugins see, and kept in the record with its
//! reason, or with why it was not carried out. In observe mode all of that happens to a shadow of
//! the request, and the call itself stays as it was.

use std::sync::Arc;

use super::Pipeline;
use super::call::{Call, Routed};
use super::rescue::Rescued;
use crate::action::{Action, Applied, CachePolicy, CallView, Change, Headers, Route};
use crate::image::capability::Keep;
use crate::image::{FailureKind, ImageRequest};
use crate::money::Usd;
use crate::plugin::{HookOutcome, OnError, Plugin};
use crate::record::{By, Decided, Mode, RuleRecord};

const ON_REQUEST: &str = "on_request";
/// Why an action of a plugin that is only observed was not carried out.
pub(super) const RECORDED: &str = "observed: it would have been done";

impl Pipeline {
    /// Asks every plugin in order; each sees the request as those before left it.
    ///
    /// # Errors
    /// The refusal of a plugin, or of one that failed and is configured to refuse then.
    pub(super) async fn consult_rules(&self, call: &mut Call) -> Result<(), Rescued> {
        let verdict = self.ask_plugins(call).await;
        if call.decision.rules.is_empty() {
            return verdict; // nothing was decided otherwise than asked
        }
        self.note_decided(call);
        if self.policy.mode == Mode::Observe {
            // What would have been stands in the record; the call goes on untouched.
            call.request = Arc::clone(&call.asked);
            call.route = None;
            call.change = Change::default();
            call.cache = CachePolicy::default();
            (call.given, call.served) = (None, None);
            return Ok(());
        }
        verdict
    }

    /// Keeps in the record what the rules have made of the call so far.
    pub(super) fn note_decided(&self, call: &mut Call) {
        let request = self.decided(call);
        let pixels = self.book.expected_pixels(&request);
        call.decision.decided =
            Decided::from_request(&request, Some(pixels), self.book.quote(&request).as_ref());
    }

    async fn ask_plugins(&self, call: &mut Call) -> Result<(), Rescued> {
        for plugin in self.plugins.iter().filter(|plugin| plugin.has_on_request()) {
            let view = Arc::new(self.view(call));
            let outcome = plugin.on_request(view).await;
            self.take(call, plugin, ON_REQUEST, outcome).await?;
            if call.given.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Carries out what a hook returned before anything is sent.
    ///
    /// # Errors
    /// As [`Pipeline::consult_rules`].
    pub(super) async fn take(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        hook: &'static str,
        outcome: HookOutcome,
    ) -> Result<(), Rescued> {
        self.raise(plugin, hook, &call.id, outcome.alerts);
        if let Some(error) = outcome.error {
            note_error(call, plugin, hook, &error, outcome.us);
            return match plugin.on_error() {
                OnError::Skip => Ok(()),
                OnError::Refuse => Err(Rescued::broken_rule(plugin.name())),
            };
        }
        for made in outcome.made {
            let mut record = RuleRecord::new(
                plugin.name().into(),
                plugin.digest().into(),
                hook,
                &made.action,
                made.at.as_str(),
            );
            record.us = outcome.us;
            let before = self.observes(plugin).then(|| self.price_now(call));
            let done = match made.action {
                Action::Answer { file, .. } => {
                    self.give(call, plugin, &file, &mut record).await;
                    Ok(before.map(|_| Some(Usd::ZERO)))
                }
                action => self.apply(call, plugin, action, &mut record),
            };
            let after = match &done {
                Ok(after) => *after,
                Err(_) => Some(Some(Usd::ZERO)),
            };
            if let (Some(before), Some(after), None) = (before, after, &record.skipped) {
                record.observe(before, after);
            }
            if plugin.observe() && record.skipped.is_none() {
                record.applied = false;
                record.skipped = Some(RECORDED.to_owned());
            }
            call.decision.rules.push(record.worded());
            done?;
            if call.given.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// What the call would cost as the rules have left it so far.
    fn price_now(&self, call: &Call) -> Option<Usd> {
        let plan = self.plan_first(call).ok()?;
        plan.quote.map(|quote| quote.expected)
    }

    /// Carries an action out; the price of the request then, where it has one that differs.
    fn apply(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        action: Action,
        record: &mut RuleRecord,
    ) -> Result<Option<Option<Usd>>, Rescued> {
        let observed = plugin.observe();
        match action {
            Action::Change(change) => Ok(Some(self.change(call, &change, observed, record))),
            Action::Route(route) => Ok(self.redirect(call, route, observed, record)),
            Action::Refuse {
                message, status, ..
            } => {
                record.applied = !observed;
                match observed {
                    true => Ok(Some(Some(Usd::ZERO))),
                    false => Err(Rescued::refused(plugin.name(), &message, status)),
                }
            }
            Action::Cache(policy) => {
                record.applied = !observed;
                if !observed {
                    merge(&mut call.cache, policy);
                }
                Ok(None)
            }
            Action::Tag { names } => {
                record.applied = !observed;
                if !observed {
                    call.tag(names);
                }
                Ok(None)
            }
            Action::Retry { .. } | Action::Stop { .. } | Action::Answer { .. } => {
                record.skipped = Some("there is no attempt yet".to_owned());
                Ok(None)
            }
        }
    }

    /// Changes the request; the price of the changed one.
    fn change(
        &self,
        call: &mut Call,
        change: &Change,
        observed: bool,
        record: &mut RuleRecord,
    ) -> Option<Usd> {
        let mut shadow = (*call.request).clone();
        let measure = |request: &ImageRequest| self.measure(request);
        let mut applied = change.apply(&mut shadow, &measure);
        if !change.tiers.is_empty() {
            self.note_tier(call, change, &mut shadow, &mut applied);
        }
        record.take(&applied, self.policy.prompts);
        let unchanged = std::mem::replace(&mut call.request, Arc::new(shadow));
        let kept = (call.change.keep.clone(), call.change.tiers.clone());
        if change.keep != Keep::Nothing {
            call.change.keep = change.keep.clone();
        }
        if !change.tiers.is_empty() {
            call.change.tiers.clone_from(&change.tiers);
        }
        let after = match self.observes_now(observed) {
            true => self.price_now(call),
            false => None,
        };
        if observed {
            call.request = unchanged;
            (call.change.keep, call.change.tiers) = kept;
            return after;
        }
        call.change.fit_requested |= change.fit_requested;
        record.applied |= change.fit_requested || change.keep != Keep::Nothing;
        after
    }

    /// Whether prices of what would be done are asked for.
    fn observes_now(&self, observed: bool) -> bool {
        observed || self.policy.mode == Mode::Observe
    }

    /// The tier that a change comes to where the call is going now; another target will be asked
    /// anew.
    fn note_tier(
        &self,
        call: &Call,
        change: &Change,
        shadow: &mut ImageRequest,
        applied: &mut Applied,
    ) {
        let Some(row) = self.book.model(&shadow.model) else {
            let why = format!("{}: the price book does not know its tiers", shadow.model);
            applied.skipped.get_or_insert(why);
            return;
        };
        match self.pick_tier(call, row, &change.tiers) {
            Ok(tier) => {
                shadow.tier = tier;
                applied.set.push(("tier", tier.to_string()));
            }
            Err(why) => drop(applied.skipped.get_or_insert(why)),
        }
    }

    /// Notes where a rule sends the call, if any of its targets can be used now; the price there.
    fn redirect(
        &self,
        call: &mut Call,
        route: Route,
        observed: bool,
        record: &mut RuleRecord,
    ) -> Option<Option<Usd>> {
        record.from = Some(call.request.model.to_string());
        match self.plan_route(call, &route, None) {
            Ok(plan) => {
                plan.tell(record, self.policy.prompts);
                record.applied = !observed;
                if !observed {
                    call.change.fit_requested |= route.change.fit_requested;
                    let by = By {
                        plugin: Arc::clone(&record.plugin),
                        hook: record.hook.clone(),
                    };
                    call.route = Some(Routed { route, by });
                }
                Some(plan.quote.map(|quote| quote.expected))
            }
            Err(why) => {
                record.skipped = Some(why);
                None
            }
        }
    }

    /// The request as it would be sent first.
    fn decided(&self, call: &Call) -> Arc<ImageRequest> {
        self.plan_first(call)
            .map_or_else(|_| Arc::clone(&call.request), |plan| plan.request)
    }

    /// Price and pixels of a request, as the book sees them.
    pub(super) fn measure(&self, request: &ImageRequest) -> (Option<Usd>, (u32, u32)) {
        (
            self.book.quote(request).map(|quote| quote.expected),
            self.book.expected_pixels(request),
        )
    }

    /// What a hook sees of a call now.
    pub(super) fn view(&self, call: &Call) -> CallView {
        let (quote, pixels) = if Arc::ptr_eq(&call.request, &call.asked) {
            (call.asked_quote.clone(), call.asked_pixels)
        } else {
            (
                self.book.quote(&call.request).map(Arc::new),
                self.book.expected_pixels(&call.request),
            )
        };
        CallView {
            app: Arc::clone(&call.decision.app),
            tags: call.decision.tags.clone(),
            user: call.asked.user.clone(),
            credential: call.decision.credential.clone(),
            headers: Headers::of(Arc::clone(&call.arrived.head)),
            at: call.decision.at,
            deadline: call.arrived.told.deadline,
            max_cost: call.arrived.told.max_cost,
            via: call.arrived.via,
            dialect: call.dialect().name(),
            sdk_retry: call.arrived.told.sdk_retry,
            asked: Arc::clone(&call.asked),
            asked_quote: call.asked_quote.clone(),
            asked_pixels: call.asked_pixels,
            quote,
            pixels,
            request: Arc::clone(&call.request),
            attempts: call.attempts,
            spent: call.spent(),
            share_seed: self.key_of(call, &call.asked).seed(),
            world: Arc::clone(&self.world),
        }
    }
}

/// Keeps in the record that a hook failed.
pub(super) fn note_error(
    call: &mut Call,
    plugin: &Plugin,
    hook: &'static str,
    error: &crate::plugin::HookError,
    us: u64,
) {
    tracing::warn!(
        plugin = plugin.name(),
        hook,
        at = error.at,
        "a rule failed: {}",
        error.message
    );
    let mut record = RuleRecord::error(
        plugin.name().into(),
        plugin.digest().into(),
        hook,
        error.message.as_str(),
        error.at.as_str(),
    );
    record.us = us;
    call.decision.rules.push(record);
}

/// Lays one policy over another, field by field.
fn merge(policy: &mut CachePolicy, over: CachePolicy) {
    policy.mode = over.mode.or(policy.mode);
    policy.ttl = over.ttl.or(policy.ttl);
    policy.variants = over.variants.or(policy.variants);
    policy.scope = over.scope.or(policy.scope);
}

/// The refusal for a call that no target can serve.
pub(super) fn nowhere(why: &str) -> Rescued {
    Rescued::ours(
        502,
        FailureKind::Invalid,
        why.to_owned(),
        "name another target in the rule, or configure its key",
    )
}
