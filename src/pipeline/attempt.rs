//! One attempt: looked up, joined, or held, sent and read as it arrives. `conclude.rs` ends it.
//!
//! The order is the promise. A hold is in the journal before the first byte goes out, and a charge
//! before the last byte of its answer is shown to anybody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Pipeline;
use super::body::Body;
use super::call::Call;
use super::chain::{Got, Served};
use super::door::Door;
use super::plan::Plan;
use super::submit::Booking;
use crate::action::{CacheMode, CacheScope};
use crate::cache::flight::{Bought, End, Progress as FlightProgress};
use crate::cache::{Entry, Flight, Joined, Key, Live, Partition, Pilot, Shape};
use crate::cores::abreast;
use crate::image::{Failure, FailureKind, Tier};
use crate::record::{AnsweredFrom, AttemptRecord, CacheStatus, Mode};
use crate::upstream::limits::Pass;

/// The variant of calls that keep to themselves: their keys are nobody else's.
const APART: u32 = u32::MAX;

impl Pipeline {
    /// Comes by the picture of `plan`: from memory, with others, or by buying it.
    pub(super) async fn attempt(
        &self,
        call: &mut Call,
        plan: &Plan,
        wait: Duration,
        door: &mut Door,
    ) -> Got {
        let mode = if self.policy.mode == Mode::Observe {
            CacheMode::Off
        } else {
            call.cache_mode()
        };
        let key = self.key_for(call, plan, mode);
        let told = &call.arrived.told;
        let is_retry = told.sdk_retry > 0 || call.decision.retry_of.is_some();
        if told.idempotency_key.is_some() {
            self.remember(call); // also where it is answered by what another buys
        }
        let came = self.store.came();
        let known = |key: &Key| {
            let kept = (mode == CacheMode::Use)
                .then(|| self.store.get(key))
                .flatten();
            kept.or_else(|| self.store.recall(key, is_retry))
        };
        if self.policy.mode == Mode::Observe {
            self.note_would(call, &key);
            self.remember(call);
            return self.purchase(call, plan, &key, None, wait, door).await;
        }
        if mode == CacheMode::Use {
            self.look_on_shelf(&key).await;
        }
        if mode == CacheMode::Off && !is_retry {
            // Its app's own retry may join it while it runs, and nobody else.
            let pilot = match self.flights.join(&key, &call.id) {
                Joined::Leads(pilot) => Some(pilot),
                Joined::Follows(_) => None,
            };
            self.remember(call);
            return self.purchase(call, plan, &key, pilot, wait, door).await;
        }
        // Nobody who cannot wait joins a purchase that may take a day.
        let flight = match plan.request.tier {
            Tier::Batch => key.apart("batch"),
            _ => key.clone(),
        };
        loop {
            if let Some(entry) = known(&key) {
                return Got::Served(self.hit(call, plan, entry));
            }
            match self.flights.join(&flight, &call.id) {
                Joined::Leads(pilot) => {
                    // It may have landed between the look and the join.
                    if came != self.store.came()
                        && let Some(entry) = known(&key)
                    {
                        pilot.land(Bought::Answer(Arc::clone(&entry)));
                        return Got::Served(self.hit(call, plan, entry));
                    }
                    self.remember(call);
                    return self
                        .purchase(call, plan, &key, Some(pilot), wait, door)
                        .await;
                }
                Joined::Follows(mut flight) => match self.follow(call, &mut flight, door).await {
                    Bought::Answer(entry) => return Got::Served(self.collapsed(call, plan, entry)),
                    Bought::Failed(failed) => {
                        self.note_joined(call, &failed.by);
                        return Got::Failed(failed);
                    }
                    Bought::GivenUp => {}
                },
            }
        }
    }

    /// Brings an answer that was bought ahead into memory, where there is one.
    pub(super) async fn look_on_shelf(&self, key: &Key) {
        if !self.shelf.may_have(key) || self.store.get(key).is_some() {
            return;
        }
        let (shelf, key) = (self.shelf.clone(), key.clone());
        let look = move || shelf.get(&key, Timestamp::now());
        if let Ok(Some(entry)) = tokio::task::spawn_blocking(look).await {
            self.store.put(Arc::new(entry));
        }
    }

    /// The identity of what `plan` buys, kept in the record with what may be done with it.
    fn key_for(&self, call: &mut Call, plan: &Plan, mode: CacheMode) -> Key {
        if let Some(CacheScope::Everyone) = call.cache.scope {
            call.share();
        }
        if mode == CacheMode::Off && self.policy.mode == Mode::Enforce {
            call.variant = APART;
        }
        let mut key = self.key_of(call, &plan.request);
        let may_vary = plan.request.seed.is_none() && call.variant == 0 && mode == CacheMode::Use;
        if may_vary && let Some(variant) = self.variant(call, &key) {
            call.variant = variant;
            call.decision.cache.variant = Some(variant);
            key = self.key_of(call, &plan.request);
        }
        let record = &mut call.decision.cache;
        record.key = key.short().into();
        record.seeded = plan.request.seed.is_some();
        record.scope = match call.partition {
            Partition::Everyone => CacheScope::Everyone,
            Partition::Credential(_) => CacheScope::Credential,
        };
        record.status = match mode {
            CacheMode::Use => CacheStatus::Miss,
            CacheMode::Bypass => CacheStatus::Bypass,
            CacheMode::Refresh => CacheStatus::Refresh,
            CacheMode::Off => CacheStatus::Off,
        };
        key
    }

    /// Which of several pictures of one request this call is to get; `None` where all get one.
    fn variant(&self, call: &Call, key: &Key) -> Option<u32> {
        if self.fans_out(&call.decision.agent) {
            return Some(self.store.place_in_crowd(key));
        }
        let variants = call.cache.variants.unwrap_or(self.policy.variants);
        (variants > 1).then(|| self.store.turn(key, variants))
    }

    fn fans_out(&self, agent: &str) -> bool {
        self.policy
            .fan_out
            .iter()
            .any(|pattern| matches_glob(pattern, agent))
    }

    /// In observe mode: what the cache would have done.
    fn note_would(&self, call: &mut Call, key: &Key) {
        let hit = self.store.get(key).is_some();
        let quote = call.asked_quote.as_ref().map(|quote| quote.expected);
        call.decision.would = Some(crate::record::Would {
            cache: if hit {
                CacheStatus::Hit
            } else {
                CacheStatus::Miss
            },
            cost: if hit {
                Some(crate::money::Usd::ZERO)
            } else {
                call.decision.decided.quote
            },
            saved: if hit {
                quote
            } else {
                quote.zip(call.decision.decided.quote).map(|(a, b)| a - b)
            },
        });
    }

    fn hit(&self, call: &mut Call, plan: &Plan, entry: Arc<Entry>) -> Served {
        let age = entry.bought_at.elapsed();
        let record = &mut call.decision.cache;
        record.status = CacheStatus::Hit;
        record.age_s = Some(age.as_secs());
        record.ttl_s = Some(entry.ttl.saturating_sub(age).as_secs());
        record.of = entry.bought_by.parse().ok();
        call.served = Some((Arc::clone(&plan.request), plan.quote.clone()));
        Served {
            entry,
            from: AnsweredFrom::Cache,
            head: None,
        }
    }

    fn collapsed(&self, call: &mut Call, plan: &Plan, entry: Arc<Entry>) -> Served {
        self.note_joined(call, &entry.bought_by);
        call.served = Some((Arc::clone(&plan.request), plan.quote.clone()));
        Served {
            entry,
            from: AnsweredFrom::Collapsed,
            head: None,
        }
    }

    fn note_joined(&self, call: &mut Call, leader: &str) {
        call.decision.cache.status = CacheStatus::Collapsed;
        call.decision.cache.of = leader.parse().ok();
    }

    /// Waits for a purchase that another call leads, and shows it as it comes where this caller
    /// can be given it as it is.
    async fn follow(&self, call: &mut Call, flight: &mut Flight, door: &mut Door) -> Bought {
        let began = Instant::now();
        if let FlightProgress::Live(live) = flight.live_or_bought().await
            && live.shape == shape_of(call)
            && !call.holds
            && !door.is_open()
        {
            self.note_joined(call, &flight.leader);
            call.upstream += began.elapsed();
            let began = Instant::now();
            self.open_live(call, None, &live, door);
            if live.shape.job {
                self.jobs.join(&flight.leader);
            }
            let bought = flight.bought().await;
            call.upstream += began.elapsed();
            return bought;
        }
        let bought = flight.bought().await;
        call.upstream += began.elapsed();
        bought
    }

    /// Buys with one request. Whatever happens, the hold ends, the flight lands and the record tells.
    pub(super) async fn purchase_once(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        pilot: Option<Pilot>,
        wait: Duration,
        door: &mut Door,
    ) -> Got {
        if plan.request.tier == Tier::Batch && self.can_wait_for_batch(call, plan) {
            return Box::pin(self.purchase_in_batch(call, plan, key, pilot, wait)).await;
        }
        let request = match self.message(call, plan) {
            Ok(request) => request,
            Err(unsupported) => {
                let failure = Failure::not_sent(FailureKind::Invalid, unsupported.to_string());
                return self.failed(call, failure, None, pilot);
            }
        };
        let at_own_quote = self.at_own_quote(call, plan).await;
        let by_book = plan.quote.as_deref();
        let plan = at_own_quote.as_ref().unwrap_or(plan);
        if plan.own_quote {
            if let Err(dear) = self.within_max_cost(call, plan) {
                return Got::Refused(dear);
            }
            if let Err(why) = plan.keeps_to_bounds() {
                return Got::TooDear(why);
            }
        }
        call.attempts += 1;
        let quote = plan.quote.as_deref();
        let mut record = Box::new(AttemptRecord::new(call.attempts, &plan.request, quote));
        if plan.own_quote {
            record.quoted_by_provider(by_book);
        }
        record.at_ms = millis(call.began.elapsed());
        record.wait_ms = millis(wait);
        record.by.clone_from(&plan.by);
        let waiting = Instant::now();
        let turn = self.turn(call, plan, door).await;
        record.wait_ms = millis(wait + waiting.elapsed());
        let mut pass = match turn {
            Ok(pass) => pass,
            Err(why) => return self.not_now(call, *record, why),
        };
        let ticket = match self.held(call, plan).await {
            Ok(ticket) => ticket,
            Err(not_held) => {
                call.attempts -= 1; // it was none
                return not_held.into();
            }
        };
        pass.iter_mut().for_each(Pass::used);
        let began = Instant::now();
        self.world.health.began(&plan.request.model, began);
        let patience = plan.timeout.unwrap_or(self.upstream.patience().head);
        let sent = self
            .upstream
            .send(&plan.destination, request, patience)
            .await;
        let read = match sent {
            Ok(response) => {
                record.status = Some(response.status().as_u16());
                self.read_answer(call, plan, response, pilot.as_ref(), door, began)
                    .await
            }
            Err(error) => Err((error.into(), None, began.elapsed())),
        };
        let (read, booking) = match read {
            Ok(read) => {
                let ttfb = read.ttfb;
                let (read, booking) = self
                    .end_of_job(call, plan, read, &mut record, pilot.as_ref(), door)
                    .await;
                (read.map_err(|failure| (failure, None, ttfb)), booking)
            }
            Err(error) => (Err(error), Booking::default()),
        };
        let took = began.elapsed();
        abreast().await;
        call.upstream += took;
        record.ms = millis(took);
        let got = match read {
            Err((mut failure, live, ttfb)) => {
                record.ttfb_ms = millis(ttfb);
                self.judge(plan, &mut failure, None);
                self.settle_failure(call, plan, &mut record, ticket, &failure)
                    .await;
                if let Some(live) = live {
                    live.end(End::Cut);
                }
                call.decision.attempted(*record);
                self.failed(call, failure, None, pilot)
            }
            Ok(read) => {
                record.ttfb_ms = millis(read.ttfb);
                self.conclude(call, plan, key, record, ticket, read, pilot)
                    .await
            }
        };
        self.note_health(plan, &got, took);
        self.booked(booking).await;
        got
    }

    /// Opens the door for an answer that is still arriving.
    pub(super) fn open_live(
        &self,
        call: &Call,
        plan: Option<&Plan>,
        live: &Arc<Live>,
        door: &mut Door,
    ) {
        let mut head = live.head.clone();
        self.tell_early(call, plan, &mut head.headers);
        door.open(head, Body::live(Arc::clone(live)));
    }
}

/// The form in which this caller is to be answered.
pub(super) fn shape_of(call: &Call) -> Shape {
    Shape {
        dialect: call.dialect().name(),
        delivery: call.asked.delivery,
        stream: call.asked.stream,
        job: call.submit.is_some(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether `text` is what `pattern` says, where `*` stands for anything.
fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    let Some((between, end)) = rest.rsplit_once('*') else {
        return left.ends_with(rest);
    };
    for part in between.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn a_star_stands_for_anything() {
        let check = |pattern, text, expected| {
            assert_eq!(matches_glob(pattern, text), expected, "{pattern} {text}")
        };
        check("*ai-sdk/*", "node ai-sdk/openai/3.0", true);
        check("*ai-sdk/*", "openai/python", false);
        check("curl*", "curl/8", true);
        check("curl", "curl/8", false);
        check("a*b*c", "a-b-c", true);
        check("a*b*c", "a-c-b", false);
    }
}
