//! What the rules say of an answer, and of a call that has ended.
//!
//! A plugin with `holds = true` speaks before anybody sees the answer, and may send it back: the
//! call goes on to another target, and what was paid stays booked. Everybody else is told once
//! the answer is on its way, and can only tag the call.

use std::sync::Arc;

use super::Pipeline;
use super::call::{Call, Routed};
use super::chain::Served;
use super::door::Door;
use super::plan::Plan;
use super::rescue::Rescued;
use super::rules::{RECORDED, note_error};
use crate::action::{Action, Made, Route};
use crate::bill::ChargeFrom;
use crate::money::Usd;
use crate::plugin::{Alert, AlertLevel, DecisionView, HookOutcome, OnError, Plugin, ResponseView};
use crate::record::fit::render;
use crate::record::{
    AnsweredFrom, By, Decision, Mode, Notice, NoticeKind, NoticeLevel, RuleRecord,
};

const ON_RESPONSE: &str = "on_response";
const ON_DECISION: &str = "on_decision";

/// What the plugins that an answer waits for make of it.
pub(super) enum Verdict {
    HandOver,
    Elsewhere(Box<Plan>),
    Refuse(Box<Rescued>),
}

impl Pipeline {
    /// Whether answers must be whole before anybody sees them.
    pub(super) fn holds(&self) -> bool {
        self.plugins.iter().any(|plugin| self.is_held_by(plugin))
    }

    fn is_held_by(&self, plugin: &Plugin) -> bool {
        plugin.holds() && !self.observes(plugin)
    }

    /// Whether what a plugin wants is only to be written down.
    pub(super) fn observes(&self, plugin: &Plugin) -> bool {
        plugin.observe() || self.policy.mode == Mode::Observe
    }

    /// Asks the plugins that the answer waits for; the first that sends it back decides.
    /// `may_move`: whether the call may make a further attempt.
    pub(super) async fn judge_answer(
        &self,
        call: &mut Call,
        served: &Served,
        door: &Door,
        may_move: bool,
    ) -> Verdict {
        if !call.holds || door.is_open() {
            return Verdict::HandOver;
        }
        call.judged = true;
        let response = Arc::new(self.response_view(call, served));
        for plugin in self.plugins.iter().filter(|plugin| self.is_held_by(plugin)) {
            let view = Arc::new(self.view(call));
            let outcome = plugin.on_response(view, Arc::clone(&response)).await;
            if outcome.error.is_some() && plugin.on_error() == OnError::Refuse {
                self.take_response(call, plugin, outcome);
                return Verdict::Refuse(Box::new(Rescued::broken_rule(plugin.name())));
            }
            for (made, record) in self.take_response(call, plugin, outcome) {
                if let Some(verdict) = self.carry_out(call, plugin, made, record, may_move) {
                    return verdict;
                }
            }
        }
        Verdict::HandOver
    }

    /// Carries out what was returned for an answer that nobody has seen.
    fn carry_out(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        made: Made,
        mut record: RuleRecord,
        may_move: bool,
    ) -> Option<Verdict> {
        let verdict = match made.action {
            Action::Tag { names } => {
                call.tag(names);
                Ok(None)
            }
            Action::Refuse {
                message, status, ..
            } => {
                let refused = Rescued::refused(plugin.name(), &message, status);
                Ok(Some(Verdict::Refuse(Box::new(refused))))
            }
            Action::Route(_) if !may_move => {
                Err("the call has made all the attempts it may".to_owned())
            }
            Action::Route(route) => self.send_back(call, plugin, &mut record, route).map(Some),
            other => Err(format!("`{}` says nothing of an answer", other.did())),
        };
        let verdict = match verdict {
            Ok(verdict) => {
                record.applied = true;
                verdict
            }
            Err(why) => {
                record.skipped = Some(why);
                None
            }
        };
        call.decision.rules.push(record.worded());
        verdict
    }

    fn send_back(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        record: &mut RuleRecord,
        route: Route,
    ) -> Result<Verdict, String> {
        let by = By {
            plugin: plugin.name().into(),
            hook: ON_RESPONSE.into(),
        };
        let plan = self.plan_route(call, &route, Some(&by))?;
        record.to = Some(plan.request.model.to_string());
        call.change.fit_requested |= route.change.fit_requested;
        call.route = Some(Routed { route, by });
        Ok(Verdict::Elsewhere(Box::new(plan)))
    }

    /// Tells the plugins that nothing waits for of an answer that is on its way.
    pub(super) async fn hear_response(&self, call: &mut Call, outcome: &Result<Served, Rescued>) {
        let Ok(served) = outcome else { return };
        let judged = call.judged;
        let hears =
            |plugin: &&Plugin| plugin.has_on_response() && !(judged && self.is_held_by(plugin));
        let mut response = None;
        for plugin in self.plugins.iter().filter(hears) {
            if response.is_none() {
                tokio::task::yield_now().await; // the answer goes first
            }
            let response =
                response.get_or_insert_with(|| Arc::new(self.response_view(call, served)));
            let response = Arc::clone(response);
            let outcome = plugin
                .on_response(Arc::new(self.view(call)), response)
                .await;
            let observed = self.observes(plugin);
            for (made, mut record) in self.take_response(call, plugin, outcome) {
                match made.action {
                    Action::Tag { names } if !observed => {
                        record.applied = true;
                        call.tag(names);
                    }
                    _ if observed => record.skipped = Some(RECORDED.to_owned()),
                    _ => record.skipped = Some("the answer is on its way already".to_owned()),
                }
                call.decision.rules.push(record.worded());
            }
        }
    }

    /// What a hook returned for an answer, each with the record of it; a failure is written down.
    fn take_response(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        outcome: HookOutcome,
    ) -> Vec<(Made, RuleRecord)> {
        self.raise(plugin, ON_RESPONSE, &call.id, outcome.alerts);
        if let Some(error) = &outcome.error {
            note_error(call, plugin, ON_RESPONSE, error, outcome.us);
        }
        let record = |made: Made| {
            let mut record = RuleRecord::new(
                plugin.name().into(),
                plugin.digest().into(),
                ON_RESPONSE,
                &made.action,
                made.at.as_str(),
            );
            record.us = outcome.us;
            (made, record)
        };
        outcome.made.into_iter().map(record).collect()
    }

    fn response_view(&self, call: &Call, served: &Served) -> ResponseView {
        let entry = &served.entry;
        let cached = served.from != AnsweredFrom::Provider;
        let attempts = call.decision.attempts.iter();
        let mut paid = attempts
            .filter(|attempt| !cached && call.served_by.contains(&attempt.i))
            .peekable();
        let charge_from = paid
            .peek()
            .map_or(ChargeFrom::None, |attempt| attempt.charge_from);
        let (mut charge, mut discrepancy) = (Some(Usd::ZERO), None);
        for attempt in paid {
            charge = charge.zip(attempt.charge).map(|(sum, more)| sum + more);
            if let Some(more) = attempt.discrepancy {
                discrepancy = Some(discrepancy.unwrap_or(Usd::ZERO) + more);
            }
        }
        let lost = call.decision.lost.iter();
        ResponseView {
            model: entry.model.clone(),
            cached,
            images: entry.response.images.clone(),
            quote: call.served.as_ref().and_then(|(_, quote)| quote.clone()),
            charge,
            charge_from,
            discrepancy,
            lost: lost
                .filter(|lost| lost.target == entry.model)
                .map(|lost| lost.field.to_string())
                .collect(),
            ms: u64::try_from(call.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether any plugin is told of calls that have ended.
    pub(super) fn hears_decisions(&self) -> bool {
        self.plugins.iter().any(Plugin::has_on_decision)
    }

    /// Tells the plugins of a call that has ended, as the log has it.
    pub(super) async fn tell_decision(&self, decision: &Decision) {
        let line = render(decision).and_then(|line| serde_json::from_str(&line));
        let record = match line {
            Ok(record) => Arc::new(record),
            Err(error) => return tracing::error!(%error, "no rule is told of this decision"),
        };
        let view = Arc::new(DecisionView {
            record,
            at: self.policy.now(),
            world: Arc::clone(&self.world),
        });
        for plugin in self
            .plugins
            .iter()
            .filter(|plugin| plugin.has_on_decision())
        {
            let outcome = plugin.on_decision(Arc::clone(&view)).await;
            let call = decision.id.to_string();
            let mut alerts = outcome.alerts;
            if let Some(error) = &outcome.error {
                // The line is written: what went wrong gets a line of its own.
                let text = format!("{} failed in {ON_DECISION}: {error}", plugin.name());
                tracing::warn!(plugin = plugin.name(), call, "{text}");
                alerts.push(Alert {
                    level: AlertLevel::Warning,
                    text,
                    fields: Vec::new(),
                });
            }
            self.raise(plugin, ON_DECISION, &call, alerts);
        }
    }

    /// Writes down what rules want somebody to know.
    pub(super) fn raise(
        &self,
        plugin: &Plugin,
        hook: &'static str,
        call: &str,
        alerts: Vec<Alert>,
    ) {
        for alert in alerts {
            let level = match alert.level {
                AlertLevel::Info => NoticeLevel::Info,
                AlertLevel::Warning => NoticeLevel::Warning,
                AlertLevel::Error => NoticeLevel::Error,
            };
            let instance = Arc::clone(&self.policy.instance);
            let at = self.policy.now();
            let mut notice = Notice::new(at, instance, NoticeKind::Alert, level, alert.text);
            for (name, text) in alert.fields {
                notice = notice.with(name, text);
            }
            // After the rule's own, so that these are never the rule's word.
            notice = notice
                .with("plugin", plugin.name())
                .with("digest", plugin.digest())
                .with("hook", hook)
                .with("call", call);
            if self.observes(plugin) {
                notice = notice.with("observed", "yes");
            }
            self.log.notice(&notice);
        }
    }
}
