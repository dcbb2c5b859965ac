//! The end of an attempt: charged, and only then shown to its end and kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Pipeline;
use super::answer;
use super::call::Call;
use super::chain::{Got, Served};
use super::plan::Plan;
use super::reading::Read;
use crate::action::CacheMode;
use crate::bill::Charge;
use crate::cache::flight::{Bought, End, Failed};
use crate::cache::{Entry, KeptHead, Key, Live, Original, Pilot, Shape};
use crate::dialect::Next;
use crate::image::{Failure, FailureKind, Image, ImageResponse, Picture, Sent};
use crate::ledger::{Outcome, Settlement, Ticket};
use crate::money::Usd;
use crate::record::{AnsweredFrom, AttemptRecord, Mode};
use crate::wire::{Reply, Rope};

impl Pipeline {
    /// An answer is whole: it is charged, and only then shown to its end and kept.
    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one attempt, each used once"
    )]
    pub(super) async fn conclude(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        mut record: Box<AttemptRecord>,
        ticket: Ticket,
        read: Read,
        pilot: Option<Pilot>,
    ) -> Got {
        let Read {
            next,
            head,
            body,
            live,
            last,
            room,
            ..
        } = read;
        call.rooms = vec![room];
        let show_rest = |live: &Option<Arc<Live>>| {
            if let Some(live) = live {
                live.push(last.clone());
                live.end(End::Whole);
            }
        };
        let mut response = match next {
            Next::Done(response) => response,
            Next::Failed(mut failure) => {
                self.judge(plan, &mut failure, Some((&head, &body)));
                self.settle_failure(call, plan, &mut record, ticket, &failure)
                    .await;
                show_rest(&live);
                call.decision.attempted(*record);
                let reply = live.is_none().then_some(Reply { head, body });
                return self.failed(call, *failure, reply, pilot);
            }
            Next::Ask { .. } => {
                // Jobs are seen through before; this one did not say where.
                let failure = Failure::lost(FailureKind::Unknown, "a job that has no end");
                self.settle_failure(call, plan, &mut record, ticket, &failure)
                    .await;
                call.decision.attempted(*record);
                return self.failed(call, failure, None, pilot);
            }
        };
        let charge = self.charge(call, plan, &head, &body, &mut response);
        record.answer(&mut response, plan.request.n, charge);
        self.note_paid_beside(call, plan, &mut record);
        self.book.bought(&plan.request.model, pictures(&response));
        self.settle(ticket, &record, charge).await;
        show_rest(&live);
        call.served_by = vec![record.i];
        call.served = Some((Arc::clone(&plan.request), plan.quote.clone()));
        call.decision.attempted(*record);
        let kept = Some((answer::kept_head(&head), body));
        let entry = self.keep(call, plan, key, *response, charge.amount, kept);
        if let Some(pilot) = pilot {
            pilot.land(Bought::Answer(Arc::clone(&entry)));
        }
        Got::Served(Served {
            entry,
            from: AnsweredFrom::Provider,
            head: Some(head),
        })
    }

    /// Keeps a purchase for whoever asks next, as far as the policy allows.
    pub(super) fn keep(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        response: ImageResponse,
        cost: Option<Usd>,
        reply: Option<(KeptHead, Rope)>,
    ) -> Arc<Entry> {
        let usual = match plan.request.seed {
            Some(_) => self.policy.ttl,
            None => self.policy.ttl.min(self.policy.unseeded_ttl),
        };
        let ttl = call
            .cache
            .ttl
            .unwrap_or(usual)
            .min(url_life(plan, &response));
        let original = reply.map(|(head, body)| Original {
            shape: Shape {
                dialect: plan.dialect.name(),
                delivery: plan.request.delivery,
                stream: plan.request.stream,
                job: false,
            },
            head,
            body,
        });
        let entry = Arc::new(Entry {
            key: key.clone(),
            response,
            original,
            model: plan.request.model.clone(),
            cost,
            bought_by: Arc::clone(&call.id),
            bought_at: Instant::now(),
            ttl,
            unreceived: std::sync::atomic::AtomicBool::new(false),
            rooms: call.rooms.clone(),
        });
        if plan.part {
            return entry;
        }
        let whole =
            entry.response.images.len() >= plan.request.n as usize && entry.response.withheld == 0;
        let stores = matches!(call.cache_mode(), CacheMode::Use | CacheMode::Refresh);
        call.decision.cache.ttl_s = Some(ttl.as_secs());
        if !call.rooms.iter().all(|room| room.may_be_kept()) {
            let why = "the picture is not kept: the calls under way take all the memory";
            call.decision.notes.push(why.to_owned());
        } else if stores && whole && !ttl.is_zero() {
            if call.cache_mode() == CacheMode::Refresh {
                self.shelf.forget(key);
            }
            self.store.put(Arc::clone(&entry));
            call.decision.cache.stored = self.policy.mode == Mode::Enforce;
        } else {
            self.store.remember(Arc::clone(&entry));
        }
        entry
    }

    pub(super) fn failed(
        &self,
        call: &Call,
        failure: Failure,
        reply: Option<Reply>,
        pilot: Option<Pilot>,
    ) -> Got {
        let failed = Arc::new(Failed {
            failure,
            reply,
            by: Arc::clone(&call.id),
        });
        if let Some(pilot) = pilot {
            pilot.land(Bought::Failed(Arc::clone(&failed)));
        }
        Got::Failed(failed)
    }

    async fn settle(&self, ticket: Ticket, record: &AttemptRecord, charge: Charge) {
        let settlement = settlement(record, charge);
        let safe = match self.ledger.settle_abreast(ticket, settlement).await {
            Ok(written) => written.durable().await,
            Err(error) => Err(error),
        };
        if let Err(error) = safe {
            tracing::error!(%error, "a charge is not on disk yet; it is kept and tried again");
        }
    }

    pub(super) async fn settle_failure(
        &self,
        call: &mut Call,
        plan: &Plan,
        record: &mut AttemptRecord,
        ticket: Ticket,
        failure: &Failure,
    ) {
        let charge = self.failure_charge(plan, failure);
        record.fail(failure, charge, &call.asked.prompt, self.policy.prompts);
        self.note_paid_beside(call, plan, record);
        if failure.sent == Sent::NotSent {
            if let Err(error) = self.ledger.release(ticket) {
                tracing::error!(%error, "a hold was not taken back in the journal");
            }
            return;
        }
        self.settle(ticket, record, charge).await;
    }
}

/// The end of an attempt as the ledger books it.
pub(super) fn settlement(record: &AttemptRecord, charge: Charge) -> Settlement {
    Settlement {
        at: Timestamp::now(),
        outcome: match record.outcome {
            crate::record::Outcome::Ok => Outcome::Ok,
            crate::record::Outcome::Partial => Outcome::Partial,
            crate::record::Outcome::Failed => Outcome::Failed,
            crate::record::Outcome::Unknown => Outcome::Unknown,
        },
        billed: record.billed,
        charge: charge.amount,
        from: charge.from,
        images: record.images,
        request_id: record.request_id.clone(),
    }
}

/// So long an answer is good whose pictures lie at the provider's.
fn url_life(plan: &Plan, response: &ImageResponse) -> Duration {
    let away = |image: &Image| matches!(image.picture, Picture::Url(_));
    match plan.dialect.url_life() {
        // Some of it has passed already.
        Some(life) if response.images.iter().any(away) => life * 9 / 10,
        _ => Duration::MAX,
    }
}

/// Pictures that an answer is charged for.
fn pictures(response: &ImageResponse) -> u64 {
    response.images.len() as u64 + u64::from(response.withheld)
}
