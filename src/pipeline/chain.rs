//! The loop over targets: an attempt, and after a failure whatever the rules name next.
//!
//! Each attempt has a key, a flight, a hold and a charge of its own. Nothing billable is sent
//! again when its outcome is unknown, unless a rule says that it may pay twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Pipeline;
use super::budgets::OverBudget;
use super::call::{Call, Routed, ServedAs};
use super::door::Door;
use super::plan::Plan;
use super::rescue::Rescued;
use super::responses::Verdict;
use super::rules::{RECORDED, note_error, nowhere};
use crate::action::{Action, Applied, Made, Route};
use crate::cache::Entry;
use crate::cache::flight::Failed;
use crate::cores::abreast;
use crate::image::{FailureKind, ModelId};
use crate::plugin::{FailureView, Plugin};
use crate::record::{AnsweredFrom, By, Mode, RuleRecord};

const ON_FAILURE: &str = "on_failure";
/// The first wait of a retry without Retry-After; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// A provider that asks for more is not waited for.
const OBEYED_WAIT: Duration = Duration::from_secs(60);

/// A picture for the call, and how it was come by.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) entry: Arc<Entry>,
    pub(super) from: AnsweredFrom,
    /// The head as the provider gave it just now.
    pub(super) head: Option<crate::wire::ReplyHead>,
}

/// What an attempt came to.
pub(super) enum Got {
    Served(Served),
    Failed(Arc<Failed>),
    /// Budgets have no room for it.
    Over(Box<OverBudget>),
    /// We could not even try.
    Refused(Rescued),
    /// Its provider's own quote lies beyond what its route may cost; nothing was sent.
    TooDear(String),
}

/// An answer that a rule sent back: paid for, and better than none.
#[derive(Default)]
struct SentBack {
    count: u32,
    kept: Option<(Served, Vec<u32>, ServedAs)>,
}

impl SentBack {
    fn take(&mut self, call: &mut Call, served: Served) {
        self.count += 1;
        let by = std::mem::take(&mut call.served_by);
        self.kept = Some((served, by, call.served.take()));
    }

    /// The answer that was sent back last, where nothing came in its place.
    fn or(self, call: &mut Call, rescued: Rescued) -> Result<Served, Rescued> {
        let Some((served, by, request)) = self.kept else {
            return Err(rescued);
        };
        let note = format!(
            "an answer that a rule sent back was handed over, since nothing came in its place: {}",
            rescued.refusal.kind
        );
        call.decision.notes.push(note);
        (call.served_by, call.served) = (by, request);
        Ok(served)
    }
}

/// What is tried next.
enum Next {
    Plan(Box<Plan>, Duration),
    Nothing,
}

impl Pipeline {
    /// Buys the picture, or has it already, or says why there is none.
    pub(super) async fn buy(&self, call: &mut Call, door: &mut Door) -> Result<Served, Rescued> {
        if let Some(given) = call.given.take() {
            return Ok(given);
        }
        abreast().await;
        let mut plan = self.plan_now(call).map_err(|why| nowhere(&why))?;
        self.retries.called(Instant::now());
        let mut failures: Vec<(FailureKind, ModelId)> = Vec::new();
        let mut wait = Duration::ZERO;
        let mut sent_back = SentBack::default();
        let mut asked = false;
        loop {
            if !wait.is_zero() {
                let pause = self.policy.pause(wait);
                tokio::time::sleep(pause).await;
                // In a rule test the time is told and not waited for.
                call.deadline = call.deadline.and_then(|at| at.checked_sub(wait - pause));
            }
            self.note_losses(call, &plan);
            let began = Instant::now();
            let failed = match self.attempt(call, &plan, wait, door).await {
                Got::Served(served) => {
                    let may_move = sent_back.count + 1 < self.policy.attempts;
                    match self.judge_answer(call, &served, door, may_move).await {
                        Verdict::HandOver => return Ok(served),
                        Verdict::Refuse(rescued) => return Err(*rescued),
                        Verdict::Elsewhere(next) => {
                            sent_back.take(call, served);
                            (plan, wait, asked) = (*next, Duration::ZERO, false);
                            continue;
                        }
                    }
                }
                Got::Refused(rescued) => return sent_back.or(call, rescued),
                Got::TooDear(why) => {
                    let at_first = failures.is_empty() && sent_back.count == 0;
                    if !at_first || call.route.take().is_none() {
                        return sent_back.or(call, Rescued::too_dear(why));
                    }
                    // As where the book says so: the call goes where its app addressed it.
                    let note = format!("the rule's route was not taken: {why}");
                    call.decision.notes.push(note);
                    plan = self.plan_own(call).map_err(|why| nowhere(&why))?;
                    continue;
                }
                Got::Over(over) if asked => return sent_back.or(call, over.rescued()),
                Got::Over(over) => match self.consult_on_budget(call, &over).await {
                    Ok(next) => {
                        (plan, asked) = (next, true);
                        continue;
                    }
                    Err(rescued) => return sent_back.or(call, rescued),
                },
                Got::Failed(failed) => failed,
            };
            failures.push((failed.failure.kind, plan.request.model.clone()));
            // Once a caller has begun to read there is no other answer to give it.
            let enough = failures.len() >= self.policy.attempts as usize || call.is_late();
            let next = if door.is_open() || enough {
                Next::Nothing
            } else {
                self.after_failure(call, &plan, &failed, &failures, began.elapsed())
                    .await
            };
            match next {
                Next::Plan(next, pause) => (plan, wait, asked) = (*next, pause, false),
                Next::Nothing => {
                    let rescued = self.give_up(call, &plan, &failed);
                    return sent_back.or(call, rescued);
                }
            }
        }
    }

    fn note_losses(&self, call: &mut Call, plan: &Plan) {
        let target = &plan.request.model;
        for field in &plan.lost {
            call.decision.lost.push(crate::record::LostRecord {
                field: (*field).into(),
                target: target.clone(),
            });
        }
        for unmet in &plan.unmet {
            call.decision.unmet.push(crate::record::UnmetRecord {
                wish: unmet.wish.clone(),
                got: unmet.got.clone(),
                target: target.clone(),
            });
        }
    }

    /// The failure as the caller hears it; in the provider's own bytes where the dialect is the
    /// caller's.
    fn give_up(&self, call: &Call, plan: &Plan, failed: &Failed) -> Rescued {
        let reply = failed
            .reply
            .clone()
            .filter(|_| plan.dialect.name() == call.dialect().name())
            .filter(|reply| is_word(plan, reply, failed.failure.kind));
        let mut rescued = Rescued::of_failure(&failed.failure, &plan.request.model, reply);
        if rescued.reply.is_none() {
            let message = &mut rescued.refusal.message;
            message.push_str(&deployed(plan, failed.failure.kind));
        }
        rescued
    }

    /// Asks the plugins what to try next; the first that answers decides.
    async fn after_failure(
        &self,
        call: &mut Call,
        plan: &Plan,
        failed: &Arc<Failed>,
        failures: &[(FailureKind, ModelId)],
        took: Duration,
    ) -> Next {
        let kind = failed.failure.kind;
        let same = |(other, model): &&(FailureKind, ModelId)| {
            *other == kind && model.provider() == plan.request.model.provider()
        };
        let failure = Arc::new(FailureView {
            failure: failed.failure.clone(),
            model: plan.request.model.clone(),
            tier: plan.request.tier,
            attempt: u32::try_from(failures.len()).unwrap_or(u32::MAX),
            times: u32::try_from(failures.iter().filter(same).count()).unwrap_or(u32::MAX),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        for plugin in self.plugins.iter().filter(|plugin| plugin.has_on_failure()) {
            let view = Arc::new(self.view(call));
            let mut outcome = plugin.on_failure(view, Arc::clone(&failure)).await;
            let alerts = std::mem::take(&mut outcome.alerts);
            self.raise(plugin, ON_FAILURE, &call.id, alerts);
            if let Some(error) = &outcome.error {
                note_error(call, plugin, ON_FAILURE, error, outcome.us);
                continue;
            }
            let answered = !outcome.made.is_empty();
            for made in outcome.made {
                if let Some(next) =
                    self.consider(call, plugin, plan, &failure, failures, made, outcome.us)
                {
                    return next;
                }
            }
            if answered && self.policy.mode == Mode::Observe {
                return Next::Nothing;
            }
        }
        Next::Nothing
    }

    /// What one action after a failure comes to; `None` when it cannot be carried out and the
    /// next is to be asked.
    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one failure, each used once"
    )]
    fn consider(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        plan: &Plan,
        failure: &FailureView,
        failures: &[(FailureKind, ModelId)],
        made: Made,
        us: u64,
    ) -> Option<Next> {
        let mut record = RuleRecord::new(
            plugin.name().into(),
            plugin.digest().into(),
            ON_FAILURE,
            &made.action,
            made.at,
        );
        record.us = us;
        record.from = Some(plan.request.model.to_string());
        let observed = plugin.observe() || self.policy.mode == Mode::Observe;
        let next = match made.action {
            Action::Stop { .. } => Ok(Next::Nothing),
            Action::Retry {
                after,
                may_pay_twice,
                ..
            } => self.again(call, plan, failure, after, may_pay_twice),
            Action::Route(route) => self.elsewhere(call, plugin, failure, failures, route),
            other => Err(format!("`{}` says nothing after a failure", other.did())),
        };
        let next = match next {
            Ok(Next::Plan(plan, wait)) if !observed && call.was_at(&plan) => self
                .retries
                .spend(Instant::now())
                .map(|()| Next::Plan(plan, wait)),
            other => other,
        };
        let next = match next {
            Ok(next) => {
                if let Next::Plan(plan, _) = &next {
                    plan.tell(&mut record, self.policy.prompts);
                }
                record.applied = !observed;
                if let (true, Next::Plan(plan, _)) = (observed, &next) {
                    let quote = plan.quote.as_ref().map(|quote| quote.expected);
                    record.observe(None, quote);
                }
                if plugin.observe() {
                    record.skipped = Some(RECORDED.to_owned());
                }
                (!observed).then_some(next)
            }
            Err(why) => {
                record.skipped = Some(why);
                None
            }
        };
        call.decision.rules.push(record.worded());
        next
    }

    fn again(
        &self,
        call: &Call,
        plan: &Plan,
        failure: &FailureView,
        after: Option<Duration>,
        may_pay_twice: bool,
    ) -> Result<Next, String> {
        pays_once(failure, may_pay_twice)?;
        if failure.failure.kind.for_good() {
            return Err(format!(
                "{} failed for good ({})",
                failure.model, failure.failure.kind
            ));
        }
        let wait = after
            .or(failure.failure.retry_after)
            .unwrap_or_else(|| backoff(failure.times));
        if wait > OBEYED_WAIT {
            return Err(format!("{} s is longer than is waited for", wait.as_secs()));
        }
        if call.time_left().is_some_and(|left| wait >= left) {
            let ms = wait.as_millis();
            return Err(format!("a wait of {ms} ms is longer than the deadline"));
        }
        let model = &plan.request.model;
        self.usable(call, model, plan.request.tier)
            .and_then(|()| call.affords(plan.quote.as_deref()))
            .map_err(|why| format!("{model}: {why}"))?;
        let again = Plan {
            applied: Applied::default(),
            passed_over: Vec::new(),
            ..plan.clone()
        };
        Ok(Next::Plan(Box::new(again), wait))
    }

    fn elsewhere(
        &self,
        call: &mut Call,
        plugin: &Plugin,
        failure: &FailureView,
        failures: &[(FailureKind, ModelId)],
        mut route: Route,
    ) -> Result<Next, String> {
        pays_once(failure, route.may_pay_twice)?;
        let gone = |model: &ModelId| {
            failures
                .iter()
                .any(|(kind, failed)| kind.for_good() && failed == model)
        };
        let named = route.targets.len();
        route
            .targets
            .retain(|target| !matches!(target, crate::action::Target::Model(model) if gone(model)));
        if route.targets.is_empty() && named > 0 {
            return Err("every target has already failed for good".to_owned());
        }
        let by = By {
            plugin: plugin.name().into(),
            hook: ON_FAILURE.into(),
        };
        let plan = self.plan_route(call, &route, Some(&by))?;
        call.change.fit_requested |= route.change.fit_requested;
        call.route = Some(Routed { route, by });
        Ok(Next::Plan(Box::new(plan), Duration::ZERO))
    }
}

/// Whether a provider's answer without a picture tells its caller so: an error does, and so does a
/// success that can be read. What cannot, and what is neither, would look like an answer.
fn is_word(plan: &Plan, reply: &crate::wire::Reply, kind: FailureKind) -> bool {
    let status = reply.head.status;
    let is_read = match kind {
        FailureKind::Safety => true,
        FailureKind::NoImage => plan.dialect.may_talk(),
        _ => false,
    };
    status.as_u16() >= 400 || status.is_success() && is_read && !reply.body.is_empty()
}

/// At a provider with deployments, which of them was asked.
fn deployed(plan: &Plan, kind: FailureKind) -> String {
    let provider = &plan.provider;
    let model = plan.request.model.model();
    match provider.deployment_for(&plan.request) {
        Some(deployment) => format!(" (deployment `{deployment}`)"),
        None if provider.deployments.is_empty() || kind != FailureKind::Retired => String::new(),
        None => format!(
            " (`providers.{0}.deployments` has no deployment of {model}, so `{model}` itself was asked)",
            provider.name
        ),
    }
}

impl Call {
    /// Whether it was sent to the provider of `plan` before.
    fn was_at(&self, plan: &Plan) -> bool {
        let provider = plan.request.model.provider();
        let mut attempts = self.decision.attempts.iter();
        attempts.any(|attempt| attempt.model.provider() == provider)
    }
}

fn pays_once(failure: &FailureView, may_pay_twice: bool) -> Result<(), String> {
    if failure.failure.may_pay_twice() && !may_pay_twice {
        return Err(
            "the last attempt may have been billed, and the rule does not say may_pay_twice"
                .to_owned(),
        );
    }
    Ok(())
}

/// Doubling, with full jitter above the half, so that equal clients do not knock together.
fn backoff(times: u32) -> Duration {
    let most = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(times.saturating_sub(1).min(6)));
    let half = most / 2;
    let nanos = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |now| now.subsec_nanos());
    half + half * (nanos % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        for times in 1..20 {
            let wait = backoff(times);
            assert!(
                wait >= FIRST_WAIT / 2 && wait <= LONGEST_WAIT,
                "{times}: {wait:?}"
            );
        }
        assert!(backoff(5) >= LONGEST_WAIT / 2);
    }
}
