//! More pictures than a model makes a call: it is asked several times, side by side.
//!
//! Each request is an attempt of its own, with its own hold, charge and failure. What they bring is
//! one answer, kept under the identity of the whole request. Fewer pictures than were asked for are
//! an answer all the same, for they are paid for, and the record says what became of the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::Pipeline;
use super::budgets::{self, OverBudget};
use super::call::Call;
use super::chain::{Got, Served};
use super::door::Door;
use super::plan::Plan;
use super::rescue::Rescued;
use crate::bill::Usage;
use crate::cache::flight::{Bought, Failed};
use crate::cache::{Entry, Key, Pilot};
use crate::image::{FailureKind, ImageRequest, ImageResponse};
use crate::money::Usd;
use crate::record::AnsweredFrom;

/// Requests of one call that run at once: a provider's limits are by the account, not by the call.
const AT_ONCE: usize = 4;

/// What the requests of a plan brought, each in its place.
#[derive(Default)]
struct Came {
    entries: Vec<Arc<Entry>>,
    failed: Vec<Arc<Failed>>,
    over: Option<Box<OverBudget>>,
    refused: Option<Rescued>,
}

impl Pipeline {
    /// Buys the pictures of `plan`, with as many requests as they take.
    pub(super) async fn purchase(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        pilot: Option<Pilot>,
        wait: Duration,
        door: &mut Door,
    ) -> Got {
        if let Err(dear) = self.within_max_cost(call, plan) {
            return Got::Refused(dear);
        }
        if plan.calls.is_empty() {
            return self.purchase_once(call, plan, key, pilot, wait, door).await;
        }
        let came = self.side_by_side(call, plan, wait).await;
        if came.entries.is_empty() {
            return none_came(came, pilot);
        }
        self.together(call, plan, key, came, pilot)
    }

    /// Makes the requests of `plan`. After a failure that the others would meet as well, those that
    /// have not begun are left out.
    async fn side_by_side(&self, call: &mut Call, plan: &Plan, wait: Duration) -> Came {
        let began = Instant::now();
        let (permits, hopeless) = (Semaphore::new(AT_ONCE), AtomicBool::new(false));
        let mut requests = Vec::with_capacity(plan.calls.len());
        for part in self.parts(plan) {
            let mut own = call.clone();
            own.attempts += u32::try_from(requests.len()).unwrap_or(u32::MAX);
            own.decision.attempts.clear();
            own.decision.notes.clear();
            own.rooms.clear();
            own.decision.budgets.clear();
            let (permits, hopeless) = (&permits, &hopeless);
            requests.push(async move {
                let _permit = permits.acquire().await.ok()?;
                if hopeless.load(Ordering::Relaxed) {
                    return None;
                }
                let key = self.key_of(&own, &part.request);
                // What one request brings is no answer yet: nobody stands behind its door.
                let mut nobody = Door::to_nobody();
                let got = self
                    .purchase_once(&mut own, &part, &key, None, wait, &mut nobody)
                    .await;
                let stop = match &got {
                    Got::Served(_) => false,
                    Got::Failed(failed) => failed.failure.kind.for_good(),
                    Got::Over(_) | Got::Refused(_) | Got::TooDear(_) => true,
                };
                hopeless.fetch_or(stop, Ordering::Relaxed);
                Some((own, got))
            });
        }
        let mut came = Came::default();
        let ended = join_all(requests).await;
        call.served_by.clear();
        call.rooms.clear();
        call.decision.budgets.clear();
        for (own, got) in ended.into_iter().flatten() {
            call.attempts = call.attempts.max(own.attempts);
            call.decision.attempts.extend(own.decision.attempts);
            call.decision.notes.extend(own.decision.notes);
            call.rooms.extend(own.rooms);
            for budget in own.decision.budgets {
                budgets::together(&mut call.decision.budgets, budget);
            }
            match got {
                Got::Served(served) => {
                    call.served_by.extend(own.served_by);
                    came.entries.push(served.entry);
                }
                Got::Failed(failed) => came.failed.push(failed),
                Got::Over(over) => came.over = Some(over),
                Got::Refused(rescued) => came.refused = Some(rescued),
                Got::TooDear(why) => came.refused = Some(Rescued::too_dear(why)),
            }
        }
        call.upstream += began.elapsed();
        came
    }

    /// The requests that a plan is made of. Each has a seed of its own where the caller gave one:
    /// the k-th picture is drawn from seed + k.
    fn parts(&self, plan: &Plan) -> impl Iterator<Item = Plan> {
        let mut before = 0;
        plan.calls.iter().map(move |&n| {
            let request = ImageRequest {
                n,
                seed: plan.request.seed.map(|seed| seed.wrapping_add(before)),
                ..(*plan.request).clone()
            };
            before += u64::from(n);
            Plan {
                quote: self.book.quote(&request).map(Arc::new),
                request: Arc::new(request),
                bounds: plan.bounds.part(n, plan.request.n),
                calls: Vec::new(),
                part: true,
                ..plan.clone()
            }
        })
    }

    /// One answer of all that came.
    fn together(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        came: Came,
        pilot: Option<Pilot>,
    ) -> Got {
        if let Some(missing) = missing(plan, &came) {
            call.decision.notes.push(missing);
        }
        let cost = came
            .entries
            .iter()
            .try_fold(Usd::ZERO, |sum, entry| Some(sum + entry.cost?));
        let mut responses = came.entries.iter().map(|entry| entry.response.clone());
        let Some(first) = responses.next() else {
            return none_came(came, pilot);
        };
        let response = responses.fold(first, joined);
        call.served = Some((Arc::clone(&plan.request), plan.quote.clone()));
        let entry = self.keep(call, plan, key, response, cost, None);
        if let Some(pilot) = pilot {
            pilot.land(Bought::Answer(Arc::clone(&entry)));
        }
        Got::Served(Served {
            entry,
            from: AnsweredFrom::Provider,
            head: None,
        })
    }
}

/// What is to be said where fewer pictures came than were asked for.
fn missing(plan: &Plan, came: &Came) -> Option<String> {
    let images = came.entries.iter().map(|entry| entry.response.images.len());
    let (images, wanted) = (images.sum::<usize>(), plan.request.n);
    if images >= wanted as usize {
        return None;
    }
    let why = match (came.failed.first(), &came.over) {
        (Some(failed), _) => format!(" ({})", failed.failure.kind),
        (None, Some(_)) => " (over budget)".to_owned(),
        (None, None) => String::new(),
    };
    Some(format!("{images} of {wanted} pictures came{why}"))
}

/// No picture at all. Of several failures the one that forbids most speaks for the call: nothing
/// that may be paid for already is sent again, and nothing that is refused for good.
fn none_came(came: Came, pilot: Option<Pilot>) -> Got {
    let weight = |failed: &Arc<Failed>| {
        let failure = &failed.failure;
        (failure.may_pay_twice(), failure.kind.for_good())
    };
    // Of equals the first: `max_by_key` takes the last.
    let gravest = came.failed.into_iter().rev().max_by_key(weight);
    let Some(failed) = gravest else {
        if let Some(over) = came.over {
            return Got::Over(over);
        }
        return Got::Refused(came.refused.unwrap_or_else(|| {
            let why = "none of several requests was made";
            Rescued::ours(500, FailureKind::Unknown, why, "ask for one picture a call")
        }));
    };
    if let Some(pilot) = pilot {
        pilot.land(Bought::Failed(Arc::clone(&failed)));
    }
    Got::Failed(failed)
}

/// Two answers as one, with what was counted in either.
fn joined(mut one: ImageResponse, other: ImageResponse) -> ImageResponse {
    one.images.extend(other.images);
    one.withheld = one.withheld.saturating_add(other.withheld);
    one.usage = counted(&one.usage, &other.usage);
    one
}

/// The counts of two answers together. Money and credits are left out: they are booked by attempt.
fn counted(one: &Usage, other: &Usage) -> Usage {
    let sum = |of: fn(&Usage) -> Option<u64>| match (of(one), of(other)) {
        (Some(a), Some(b)) => Some(a.saturating_add(b)),
        (a, b) => a.or(b),
    };
    Usage {
        text_in: sum(|usage| usage.text_in),
        image_in: sum(|usage| usage.image_in),
        cached_text_in: sum(|usage| usage.cached_text_in),
        cached_image_in: sum(|usage| usage.cached_image_in),
        text_out: sum(|usage| usage.text_out),
        image_out: sum(|usage| usage.image_out),
        millis: sum(|usage| usage.millis),
        ..Usage::default()
    }
}
