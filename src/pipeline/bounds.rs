//! What the app itself will pay and how long it can wait: `x-pixtoll-max-cost` and
//! `x-pixtoll-deadline`, and the tiers that fit into them.
//!
//! An answer from memory costs nothing and is there at once, so the bounds are looked at where
//! something is bought. In observe mode they change nothing either.

use std::time::{Duration, Instant};

use http::{HeaderValue, Response};

use super::body::Body;
use super::call::{Arrived, Call};
use super::plan::Plan;
use super::rescue::Rescued;
use super::{Pipeline, answer};
use crate::bill::Quote;
use crate::dialect::Dialect;
use crate::image::{FailureKind, ModelId, Tier};
use crate::money::Usd;
use crate::price::ModelRow;
use crate::record::Mode;

/// How long an answer of the tier may take by its providers' own word, where none was seen yet.
/// Google, of flex: "target 1 to 15 minutes, not guaranteed".
const FLEX: Duration = Duration::from_secs(900);

impl Call {
    /// What its attempts cost so far.
    pub(super) fn spent(&self) -> Usd {
        let attempts = self.decision.attempts.iter();
        attempts.filter_map(|attempt| attempt.charge).sum()
    }

    /// How long its app still waits; `None` where it did not say.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Whether its app waits no longer.
    pub(super) fn is_late(&self) -> bool {
        self.time_left().is_some_and(|left| left.is_zero())
    }

    /// Whether an attempt at `quote` keeps to what the app will pay, together with what the call
    /// has cost already.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub(super) fn affords(&self, quote: Option<&Quote>) -> Result<(), String> {
        let Some(most) = self.arrived.told.max_cost else {
            return Ok(());
        };
        if self.decision.mode == Mode::Observe {
            return Ok(());
        }
        let most_text = most.pretty();
        let Some(quote) = quote else {
            return Err(format!(
                "the price book does not know its price, and the call may cost {most_text} at most (x-pixtoll-max-cost)"
            ));
        };
        let spent = self.spent();
        if spent + quote.high <= most {
            return Ok(());
        }
        let before = match spent == Usd::ZERO {
            true => String::new(),
            false => format!(" after {} spent", spent.pretty()),
        };
        Err(format!(
            "it may cost {}{before}, and the call may cost {most_text} at most (x-pixtoll-max-cost)",
            quote.high.pretty()
        ))
    }
}

impl Pipeline {
    /// Whether `plan` may be bought, by its app's word. A rule would have moved or shrunk it by
    /// now.
    pub(super) fn within_max_cost(&self, call: &Call, plan: &Plan) -> Result<(), Rescued> {
        call.affords(plan.quote.as_deref()).map_err(|why| {
            let mut rescued = Rescued::ours(
                402,
                FailureKind::Quota,
                format!("{}: {why}", plan.request.model),
                "ask for a smaller or lesser picture, raise x-pixtoll-max-cost, or let a rule choose a cheaper model",
            );
            rescued.refusal.code = Some("max_cost".to_owned());
            rescued
        })
    }

    /// Whether a route may lead to `model` in `tier` now: nothing is wrong with it, and its answer
    /// is likely to come while the app waits.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub(super) fn usable(&self, call: &Call, model: &ModelId, tier: Tier) -> Result<(), String> {
        // A route to what the app itself asked for only says how it is to be asked. Were it left out,
        // the call would go there all the same, and without its rule's bounds.
        let moves = call.attempts > 0 || *model != call.asked.model;
        if moves && self.policy.mode != Mode::Observe {
            self.world.health.allows(model, Instant::now())?;
        }
        let Some(left) = call.time_left() else {
            return Ok(());
        };
        let takes = match self.world.health.p95(model, tier) {
            Some(p95) => p95,
            None if tier == Tier::Flex => FLEX,
            None => return Ok(()),
        };
        if takes <= left {
            return Ok(());
        }
        Err(format!(
            "tier {tier} takes {} (95 of 100 answers) and the caller waits another {}",
            in_words(takes),
            in_words(left)
        ))
    }

    /// The first of `wishes` that the model has and the caller can wait for.
    ///
    /// # Errors
    /// Why none is, in words for people.
    pub(super) fn pick_tier(
        &self,
        call: &Call,
        row: &ModelRow,
        wishes: &[Tier],
    ) -> Result<Tier, String> {
        let mut reasons = Vec::new();
        for &tier in wishes {
            let picked = match row.capability.tiers.contains(&tier) {
                false => Err(format!("it has no tier {tier}")),
                true if tier == Tier::Batch => self.batched(call),
                true => self.usable(call, &row.id, tier),
            };
            match picked {
                Ok(()) => return Ok(tier),
                Err(why) => reasons.push(why),
            }
        }
        Err(format!("{}: {}", row.id, reasons.join("; ")))
    }

    /// Whether a live call can be served in tier batch: its app asks again later, or can wait a
    /// day.
    fn batched(&self, call: &Call) -> Result<(), String> {
        let patient = call.submit.is_some() || self.is_patient(call);
        patient.then_some(()).ok_or_else(|| {
            "tier batch takes up to a day: the app must submit and ask later, or say x-pixtoll-deadline: 86400"
                .to_owned()
        })
    }

    /// Waits for the answer until the app's deadline. What was sent by then runs on.
    pub(super) async fn answer_in_time(
        &self,
        answer: impl Future<Output = Response<Body>>,
        deadline: Option<Instant>,
        dialect: &'static dyn Dialect,
    ) -> Response<Body> {
        let Some(deadline) = deadline else {
            return answer.await;
        };
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(answer) => answer,
            Err(_) => {
                let rescued = Rescued::ours(
                    504,
                    FailureKind::Timeout,
                    "the deadline (x-pixtoll-deadline) has passed; what was sent by then goes on, and the same call finds its picture for nothing",
                    "let the app wait longer, or let a rule choose a faster model",
                );
                let mut reply = rescued.reply(dialect, None);
                let no = HeaderValue::from_static("false");
                reply.head.headers.insert("x-should-retry", no);
                answer::response(reply)
            }
        }
    }

    /// When the app of a call waits no longer, by its own word.
    pub(super) fn deadline_of(&self, arrived: &Arrived, began: Instant) -> Option<Instant> {
        let waits = arrived.told.deadline?;
        let enforced = self.policy.mode == Mode::Enforce;
        began.checked_add(waits).filter(|_| enforced)
    }
}

fn in_words(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => format!("{} s", ms.div_ceil(1000)),
    }
}
