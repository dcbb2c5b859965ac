//! One line of a batch: what is kept of it, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Closed, Wish};
use crate::action::Applied;
use crate::bill::Quote;
use crate::cache::Key;
use crate::cache::shelf::{Laid, Worded};
use crate::dialect::Next;
use crate::dialect::batch::LineEnd;
use crate::image::{Failure, FailureKind, Tier};
use crate::ledger::{Hold, KeptBatch, KeptLine, LineOutcome, Row};
use crate::money::Usd;
use crate::pipeline::answer::Given;
use crate::pipeline::call::{Call, Caller, CallerFrom};
use crate::pipeline::chain::Served;
use crate::pipeline::conclude::settlement;
use crate::pipeline::plan::{Bounds, Plan};
use crate::pipeline::rescue::Rescued;
use crate::pipeline::{Pipeline, answer};
use crate::record::notice::{Amend, AmendAttempt, AmendWhy};
use crate::record::{
    AnsweredFrom, AttemptRecord, CacheStatus, Causes, Decided, Delivered, Id, LostRecord, Outcome,
    RuleRecord, UnmetRecord,
};
use crate::wire::Reply;

/// What is kept of a line so that any process can end it. It holds a prompt, and no credential.
#[derive(Serialize, Deserialize)]
pub(super) struct Facts {
    tags: Vec<Arc<str>>,
    asked: Worded,
    /// As it is sent, where that is not as it was asked.
    sent: Option<Worded>,
    asked_quote: Option<[i64; 3]>,
    quote: Option<[i64; 3]>,
    rules: Vec<RuleRecord>,
    lost: Vec<LostRecord>,
    unmet: Vec<UnmetRecord>,
}

fn amounts(quote: Option<&Quote>) -> Option<[i64; 3]> {
    quote.map(|quote| [quote.low, quote.expected, quote.high].map(Usd::nano))
}

fn quote(amounts: Option<[i64; 3]>) -> Option<Arc<Quote>> {
    let [low, expected, high] = amounts?.map(Usd::from_nano);
    let lines = Vec::new();
    Some(Arc::new(Quote {
        low,
        expected,
        high,
        lines,
    }))
}

impl Facts {
    /// # Errors
    /// Why the request cannot be worded.
    pub(super) fn of(call: &Call, plan: &Plan) -> Result<Facts, String> {
        let text = |body: Bytes| String::from_utf8(body.into()).map_err(|e| e.to_string());
        let arrived = &call.arrived;
        let asked = Worded {
            provider: arrived.provider.name.to_string(),
            dialect: call.dialect().name().to_owned(),
            operation: arrived.recognised.operation,
            target: arrived.head.target.to_string(),
            body: text(arrived.body.clone())?,
        };
        let sent = if plan.untouched {
            None
        } else {
            let mut plain = (*plan.request).clone();
            plain.tier = Tier::Standard;
            let message = plan
                .dialect
                .write_request(&plain)
                .map_err(|error| error.to_string())?;
            Some(Worded {
                provider: plan.provider.name.to_string(),
                dialect: plan.dialect.name().to_owned(),
                operation: plan.request.operation,
                target: message.target.to_string(),
                body: text(message.body.to_bytes())?,
            })
        };
        Ok(Facts {
            tags: call.decision.tags.clone(),
            asked,
            sent,
            asked_quote: amounts(call.asked_quote.as_deref()),
            quote: amounts(plan.quote.as_deref()),
            rules: call.decision.rules.clone(),
            lost: call.decision.lost.clone(),
            unmet: call.decision.unmet.clone(),
        })
    }
}

/// A line whose end is to be written.
pub(super) struct Open {
    pub(super) kept: KeptLine,
    pub(super) hold: Hold,
}

impl Open {
    pub(super) fn of((kept, row): (KeptLine, Option<Row>)) -> Option<Open> {
        let hold = row?.hold;
        Some(Open { kept, hold })
    }
}

/// Lines without an end, by the name under which their answers come.
pub(super) type Lines = BTreeMap<String, Open>;

/// The name under which a line's answer comes back: the id of its decision.
pub(super) fn name_of(kept: &KeptLine) -> String {
    kept.attempt.call.to_string()
}

/// Whether a line is a call of an app's own, sent through a batch by itself: it has no name but its
/// decision's.
pub(super) fn is_single(kept: &KeptLine) -> bool {
    kept.name == name_of(kept)
}

/// What the log says of a line already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logged {
    /// All of it: its process died before it could say so in the ledger.
    Whole,
    /// That its process died: its app had been told of a job. What it cost is not there.
    WithoutAttempts,
}

/// A line without a picture, and the answer that says so.
type Unread = (Failure, Option<Reply>);

impl Pipeline {
    /// The call that a kept line is, and how it was sent.
    ///
    /// # Errors
    /// Why it cannot be made out any more.
    pub(super) fn call_of(
        &self,
        batch: &KeptBatch,
        kept: &KeptLine,
        at: Timestamp,
    ) -> Result<(Box<Call>, Plan, Worded), String> {
        let facts: Facts = serde_json::from_str(&kept.facts)
            .map_err(|error| format!("what was kept of line {} is damaged: {error}", kept.line))?;
        let unclear = || format!("line {} cannot be read any more", kept.line);
        let asked = facts.asked;
        let wish = Wish {
            name: kept.name.clone(),
            provider: asked.provider.clone(),
            dialect: crate::dialect::by_name(&asked.dialect).ok_or_else(unclear)?,
            head: asked.head().ok_or_else(unclear)?,
            body: Bytes::from(asked.body.clone()),
        };
        let caller = Caller {
            app: Some(batch.app.as_str().into()),
            from: CallerFrom::Run,
            tags: facts.tags,
        };
        let arrived = self.arrive(wish, caller).map_err(|why| why.message)?;
        let mut call = self
            .read(arrived)
            .map_err(|unread| unread.why.to_string())?;
        call.asked_quote = quote(facts.asked_quote);
        call.attempts = kept.attempt.attempt;
        let sent = facts.sent.unwrap_or(asked);
        let untouched = call.arrived.provider.name.as_ref() == sent.provider
            && call.dialect().name() == sent.dialect
            && call.arrived.body == sent.body;
        let mut request = sent.read().ok_or_else(unclear)?;
        request.model = batch.model.clone();
        request.tier = Tier::Batch;
        let provider = self.providers.named(&sent.provider).ok_or_else(unclear)?;
        let request = Arc::new(request);
        let decision = &mut call.decision;
        (decision.id, decision.at) = (Id::of(kept.attempt.call), at);
        call.id = decision.id.text();
        decision.asked.quote = call.asked_quote.as_ref().map(|quote| quote.expected);
        decision.asked.quote_high = call.asked_quote.as_ref().map(|quote| quote.high);
        (decision.rules, decision.lost) = (facts.rules, facts.lost);
        decision.unmet = facts.unmet;
        let price = quote(facts.quote);
        let pixels = self.book.expected_pixels(&request);
        decision.decided = Decided::from_request(&request, Some(pixels), price.as_deref());
        let plan = Plan {
            destination: provider.home().cloned().ok_or_else(unclear)?,
            provider: Arc::clone(provider),
            dialect: crate::dialect::by_name(&sent.dialect).ok_or_else(unclear)?,
            request,
            quote: price,
            untouched,
            calls: Vec::new(),
            part: false,
            by: None,
            timeout: None,
            lost: Vec::new(),
            unmet: Vec::new(),
            own_quote: false,
            bounds: Bounds::default(),
            applied: Applied::default(),
            passed_over: Vec::new(),
            own_credential: untouched,
        };
        Ok((call, plan, sent))
    }

    /// Ends a line: its answer is laid down, its charge booked, its decision written. What came of
    /// it is told, and counts in `closed`.
    ///
    /// # Errors
    /// When a charge or a picture cannot be written: the line stays open then.
    pub(super) async fn end_line(
        &self,
        batch: &KeptBatch,
        open: &Open,
        end: LineEnd,
        closed: &mut Closed,
        logged: Option<Logged>,
    ) -> Result<LineOutcome, String> {
        let (mut call, plan, sent) = self.call_of(batch, &open.kept, open.hold.at)?;
        let key = Key::of_canonical(open.kept.key.clone());
        note_key(&mut call, &plan, &key);
        let mut record = AttemptRecord::new(call.attempts, &plan.request, plan.quote.as_deref());
        record.job.clone_from(&batch.job);
        record.ms = since(open.hold.at);
        record.ttfb_ms = record.ms;
        let read = match end.end {
            Ok(reply) => {
                // A batch may end on another day than it began on.
                let then = Pipeline {
                    book: self.book_of(open.hold.at),
                    ..self.clone()
                };
                then.read_line(&mut call, &plan, &mut record, reply)
            }
            Err(failure) => Err(Box::new((*failure, None))),
        };
        let keep = Duration::from_secs(batch.keep_s);
        let outcome = match read {
            Ok((response, reply, charge)) => {
                call.cache.ttl = Some(keep);
                let cost = charge.amount;
                let body = reply.body.len() as u64;
                let laid = Laid {
                    key: key.clone(),
                    sent,
                    model: plan.request.model.clone(),
                    reply: reply.clone(),
                    cost,
                    bought_by: call.id.to_string(),
                    bought_at: Timestamp::now(),
                    keep,
                };
                self.lay_down(laid).await?;
                self.book_line(open, &record, charge).await?;
                call.served_by = vec![record.i];
                call.served = Some((Arc::clone(&plan.request), plan.quote.clone()));
                call.decision.attempted(record);
                let kept = Some((answer::kept_head(&reply.head), reply.body));
                let entry = self.keep(&mut call, &plan, &key, response, cost, kept);
                let served = Served {
                    entry,
                    from: AnsweredFrom::Provider,
                    head: None,
                };
                closed.done += 1;
                match cost {
                    Some(cost) => closed.charged += cost,
                    None => closed.unpriced += 1,
                }
                closed.asked += call.asked_quote.as_ref().map_or(Usd::ZERO, |q| q.expected);
                let given = match is_single(&open.kept) {
                    true => told(200, Delivered::No, 0), // who asked for it is gone
                    false => told(200, Delivered::Yes, body),
                };
                self.tell_end(call, Ok(served), given, logged).await;
                LineOutcome::Done
            }
            Err(unread) => {
                let (mut failure, reply) = *unread;
                let answer = reply.as_ref().map(|reply| (&reply.head, &reply.body));
                self.judge(&plan, &mut failure, answer);
                let charge = self.book.failed_charge(&plan.request, &failure);
                record.fail(&failure, charge, &call.asked.prompt, self.policy.prompts);
                self.book_line(open, &record, charge).await?;
                call.decision.attempted(record);
                closed.failed += 1;
                closed.charged += charge.amount.unwrap_or(Usd::ZERO);
                closed.unpriced += u64::from(charge.amount.is_none());
                closed.note(format!("{}: {}", failure.kind, failure.message), 1);
                let rescued = Rescued::of_failure(&failure, &plan.request.model, None);
                let status = rescued.refusal.status;
                let given = told(status, Delivered::Yes, 0);
                self.tell_end(call, Err(rescued), given, logged).await;
                LineOutcome::Failed
            }
        };
        Ok(outcome)
    }

    fn read_line(
        &self,
        call: &mut Call,
        plan: &Plan,
        record: &mut AttemptRecord,
        reply: Reply,
    ) -> Result<(crate::image::ImageResponse, Reply, crate::bill::Charge), Box<Unread>> {
        record.status = Some(reply.head.status.as_u16());
        let mut reader = plan.dialect.reader(&plan.request, &reply.head);
        for piece in reply.body.pieces() {
            reader.feed(piece);
        }
        match reader.finish(&reply.body) {
            Next::Done(mut response) => {
                let charge = self.charge(call, plan, &reply.head, &reply.body, &mut response);
                record.answer(&mut response, plan.request.n, charge);
                let head = answer::kept_head(&reply.head).fresh();
                Ok((*response, Reply { head, ..reply }, charge))
            }
            Next::Failed(failure) => Err(Box::new((*failure, Some(reply)))),
            Next::Ask { .. } => {
                let failure = Failure::lost(FailureKind::Unknown, "a line that is a job itself");
                Err(Box::new((failure, Some(reply))))
            }
        }
    }

    async fn lay_down(&self, laid: Laid) -> Result<(), String> {
        let shelf = self.shelf.clone();
        let laying = tokio::task::spawn_blocking(move || shelf.lay(&laid)).await;
        match laying {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("a picture could not be written to disk: {error}")),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn book_line(
        &self,
        open: &Open,
        record: &AttemptRecord,
        charge: crate::bill::Charge,
    ) -> Result<(), String> {
        let settled = self
            .ledger
            .settle_line(open.hold.clone(), settlement(record, charge));
        let safe = match settled {
            Ok(written) => written.durable().await,
            Err(error) => Err(error),
        };
        safe.map_err(|error| format!("a charge could not be written: {error}"))
    }

    /// Adds what a call cost to its line in the log, which its process prepared for its death.
    fn amend_line(&self, call: &Call) {
        let mut causes = Causes::default();
        let attempts = call.decision.attempts.iter().map(|attempt| {
            let cost = attempt.charge.unwrap_or(Usd::ZERO);
            match attempt.outcome {
                Outcome::Ok | Outcome::Partial => causes.undelivered += cost,
                Outcome::Failed => causes.failed_billed += cost,
                Outcome::Unknown => causes.unknown += cost,
            }
            AmendAttempt {
                i: attempt.i,
                billed: attempt.billed,
                charge: attempt.charge,
                charge_from: attempt.charge_from,
            }
        });
        let attempts: Vec<AmendAttempt> = attempts.collect();
        let (id, why) = (call.decision.id, AmendWhy::Late);
        let amend = Amend::new(id, Timestamp::now(), why, attempts, causes);
        self.log.amend(&amend);
    }

    async fn tell_end(
        &self,
        mut call: Box<Call>,
        outcome: Result<Served, Rescued>,
        given: Given,
        logged: Option<Logged>,
    ) {
        match logged {
            Some(Logged::Whole) => return,
            Some(Logged::WithoutAttempts) => return self.amend_line(&call),
            None => {}
        }
        let asked = call.decision.at;
        let age = Timestamp::now().duration_since(asked);
        let began = Duration::try_from(age).ok();
        call.began = began
            .and_then(|age| Instant::now().checked_sub(age))
            .unwrap_or(call.began);
        if let Some(decision) = self.write_down(call, &outcome, given, false) {
            self.tell_decision(&decision).await;
        }
    }
}

fn told(status: u16, delivered: Delivered, bytes: u64) -> Given {
    Given {
        status,
        fitted: None,
        delivered,
        bytes,
        ours: Duration::ZERO,
    }
}

fn note_key(call: &mut Call, plan: &Plan, key: &Key) {
    let record = &mut call.decision.cache;
    record.key = key.short().into();
    record.seeded = plan.request.seed.is_some();
    record.status = CacheStatus::Miss;
    record.scope = match call.partition {
        crate::cache::Partition::Everyone => crate::action::CacheScope::Everyone,
        crate::cache::Partition::Credential(_) => crate::action::CacheScope::Credential,
    };
}

fn since(at: Timestamp) -> u64 {
    let age = Timestamp::now().duration_since(at).as_millis();
    u64::try_from(age).unwrap_or(0)
}
