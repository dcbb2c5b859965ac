//! A single call through a batch, for an app that asks for its picture later or can wait a day.
//!
//! Hold, charge, cache and record are those of any attempt; only the message goes another way. What a
//! process that dies leaves of it is a batch of one line, which the next one ends (`left.rs`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use ulid::Ulid;

use super::hand_in::Handed;
use super::line::{Facts, name_of};
use super::speak::Speaker;
use super::{Halted, Pace};
use crate::cache::{Key, Pilot};
use crate::dialect::Next;
use crate::dialect::batch::LineEnd;
use crate::image::{Failure, FailureKind};
use crate::ledger::{BatchStage, KeptBatch, KeptLine, LineOutcome};
use crate::pipeline::Pipeline;
use crate::pipeline::budgets::NotHeld;
use crate::pipeline::call::Call;
use crate::pipeline::chain::Got;
use crate::pipeline::plan::Plan;
use crate::pipeline::reading::Read;
use crate::record::AttemptRecord;
use crate::wire::Reply;

/// So long a batch may take, at OpenAI and Google alike.
const WINDOW: Duration = Duration::from_secs(86_400);

impl Pipeline {
    /// Whether a call can be served through a batch: its provider takes them, and its app asks for the
    /// picture later, or can wait for as long as a batch may take.
    pub(in crate::pipeline) fn can_wait_for_batch(&self, call: &Call, plan: &Plan) -> bool {
        plan.dialect.batches().is_some() && self.is_patient(call)
    }

    /// Whether an app asks for its picture later, or said that it can wait for as long as a batch
    /// may take.
    pub(in crate::pipeline) fn is_patient(&self, call: &Call) -> bool {
        let submits = call
            .dialect()
            .submits(&call.arrived.head, &call.asked)
            .is_some();
        let told = call.arrived.told.deadline;
        submits || told.is_some_and(|left| left >= WINDOW)
    }

    /// Buys with one request, as a batch of its own. As with any purchase the hold ends, the flight
    /// lands and the record tells, whatever happens.
    pub(in crate::pipeline) async fn purchase_in_batch(
        &self,
        call: &mut Call,
        plan: &Plan,
        key: &Key,
        pilot: Option<Pilot>,
        wait: Duration,
    ) -> Got {
        call.attempts += 1;
        let mut record = AttemptRecord::new(call.attempts, &plan.request, plan.quote.as_deref());
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        record.at_ms = millis(call.began.elapsed());
        record.wait_ms = millis(wait);
        record.by.clone_from(&plan.by);
        let (mut batch, line) = match self.single(call, plan, key) {
            Ok(single) => single,
            Err(why) => {
                let failure = Failure::not_sent(FailureKind::Invalid, why);
                return self.failed(call, failure, None, pilot);
            }
        };
        let kept = match self.ledger.follow_batch(batch.id) {
            Ok(following) => {
                let kept = self
                    .ledger
                    .keep_batch(&batch, std::slice::from_ref(&line))
                    .await;
                kept.map(|()| following)
            }
            Err(error) => Err(error),
        };
        let held = match kept {
            Ok(following) => self
                .held(call, plan)
                .await
                .map(|ticket| (ticket, following)),
            Err(error) => Err(NotHeld::Ledger(error)),
        };
        let (ticket, _following) = match held {
            Ok(held) => held,
            Err(not_held) => {
                call.attempts -= 1; // it was none
                if let Err(error) = self.ledger.forget_batch(batch.id).await {
                    tracing::error!(%error, "a batch that was not held stays in the ledger's list");
                }
                return not_held.into();
            }
        };
        let began = Instant::now();
        let answered = self.through_batch(call, plan, &mut batch, &line).await;
        call.upstream += began.elapsed();
        record.job.clone_from(&batch.job);
        (record.ms, record.ttfb_ms) = (millis(began.elapsed()), millis(began.elapsed()));
        let got = match answered {
            Err(mut failure) => {
                self.judge(plan, &mut failure, None);
                self.settle_failure(call, plan, &mut record, ticket, &failure)
                    .await;
                call.decision.attempted(record);
                self.failed(call, failure, None, pilot)
            }
            Ok(reply) => {
                record.status = Some(reply.head.status.as_u16());
                let room = self.memory.room();
                room.grow(reply.body.len().min(self.memory.largest_answer()))
                    .await;
                let read = Read {
                    next: read(plan, &reply),
                    head: reply.head,
                    body: reply.body,
                    live: None,
                    last: Bytes::new(),
                    ttfb: began.elapsed(),
                    room: Arc::new(room),
                };
                self.conclude(call, plan, key, Box::new(record), ticket, read, pilot)
                    .await
            }
        };
        let outcome = match &got {
            Got::Served(_) => LineOutcome::Done,
            _ => LineOutcome::Failed,
        };
        self.close(&batch, outcome).await;
        got
    }

    fn single(&self, call: &Call, plan: &Plan, key: &Key) -> Result<(KeptBatch, KeptLine), String> {
        let facts = Facts::of(call, plan)?;
        let batch = KeptBatch {
            id: Ulid::generate(),
            provider: plan.provider.name.to_string(),
            dialect: plan.dialect.name().to_owned(),
            model: plan.request.model.clone(),
            app: call.decision.app.to_string(),
            stage: BatchStage::Kept,
            file: None,
            job: None,
            keep_s: self.policy.ttl.as_secs(),
            at: Timestamp::now(),
            ended_at: None,
            why: None,
        };
        let line = KeptLine {
            line: 1,
            name: call.id.to_string(),
            attempt: crate::ledger::Key {
                call: call.decision.id.ulid(),
                attempt: call.attempts,
            },
            key: key.canonical().to_vec(),
            facts: serde_json::to_string(&facts).map_err(|error| error.to_string())?,
            end: None,
        };
        Ok((batch, line))
    }

    /// The line's answer, however long that takes.
    async fn through_batch(
        &self,
        call: &Call,
        plan: &Plan,
        batch: &mut KeptBatch,
        line: &KeptLine,
    ) -> Result<Reply, Failure> {
        let speaker = Speaker::for_call(self, call, plan)
            .map_err(|why| Failure::not_sent(FailureKind::Invalid, why))?;
        let own = plan.untouched.then_some(&call.arrived.body);
        let name = name_of(line);
        let text = speaker
            .batches
            .line(&name, &plan.request, own)
            .map_err(|error| Failure::not_sent(FailureKind::Invalid, error.to_string()))?;
        let handed = Handed {
            lines: vec![text],
            request: (*plan.request).clone(),
        };
        self.hand_in_by(batch, &speaker, Some(handed))
            .await
            .map_err(halted)?;
        let standing = self
            .ask_until_ended(batch, &speaker, Pace::default(), 1, &mut |_| {})
            .await
            .map_err(halted)?;
        let ours = |end: &LineEnd| end.name == name;
        if let Some(end) = standing.ends.into_iter().find(ours) {
            return end.end.map_err(|failure| *failure);
        }
        let mut last = None;
        for file in standing.files {
            match self.find_line(&speaker, file, &name).await {
                Ok(Some(end)) => return end.end.map_err(|failure| *failure),
                Ok(None) => {}
                Err(why) => last = Some(why),
            }
        }
        Err(match last {
            Some(why) => Failure::lost(FailureKind::Network, why),
            None => super::follow::silent(standing.state, standing.why.as_deref()),
        })
    }

    /// The call itself is in the log: of its batch nothing need stay.
    async fn close(&self, batch: &KeptBatch, outcome: LineOutcome) {
        let ended = match self.ledger.end_lines(batch.id, &[(1, outcome)]).await {
            Ok(()) => self.ledger.forget_batch(batch.id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::error!(%error, "a batch that has ended stays open in the ledger");
        }
    }
}

fn read(plan: &Plan, reply: &Reply) -> Next {
    let mut reader = plan.dialect.reader(&plan.request, &reply.head);
    for piece in reply.body.pieces() {
        reader.feed(piece);
    }
    reader.finish(&reply.body)
}

/// One that is kept may have been bought: nobody can tell. Any other was not sent.
fn halted(halted: Halted) -> Failure {
    match halted.kept {
        true => Failure::lost(FailureKind::Network, halted.message),
        false => Failure::not_sent(FailureKind::Invalid, halted.message),
    }
}
