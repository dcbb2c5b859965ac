//! Jobs that a dead process left.
//!
//! Holds of providers' jobs are booked as unknown by now. Their apps may still ask about them, and
//! where a key of ours is configured so do we: what is told ends the call. Its line, which the dead
//! process prepared, is written then, and the charge takes the place of what was assumed. A job
//! whose time is over is written down as unknown. Of a job of ours the picture is gone with the
//! process; its app is told so in its provider's words.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use tokio::time::Instant;

use super::asking::{self, Told};
use super::call::Call;
use super::jobs::{Kind, Known, Left};
use super::plan::Plan;
use super::provider::Provider;
use super::rescue::Rescued;
use super::{Pipeline, answer};
use crate::bill::Charge;
use crate::dialect::Next;
use crate::image::{Billed, Failure, FailureKind, ImageRequest};
use crate::ledger::{KeptJob, Outcome, Settlement};
use crate::money::Usd;
use crate::record::notice::{Amend, AmendAttempt, AmendWhy};
use crate::record::{AttemptRecord, Causes, Decision, Id, Log};
use crate::room::Room;
use crate::upstream::Destination;
use crate::wire::{Message, ReplyHead, Rope};

/// Why an attempt has no end that anybody saw.
const ENDED: &str = "pixtoll ended before the job did";
/// The first pause before a job that was left is asked about; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// A job that a dead process left, to be seen through.
#[derive(Debug)]
pub struct LeftJob(Arc<Known>);

// What a process prepares for its own death.

impl Pipeline {
    /// The line of a call whose job is at its provider, as it will read if nobody hears the end.
    pub(super) fn line_of_lost(
        &self,
        call: &Call,
        plan: &Plan,
        record: &AttemptRecord,
    ) -> Option<String> {
        let failure = Failure::lost(FailureKind::Unknown, ENDED);
        let charge = self.book.failed_charge(&plan.request, &failure);
        let mut attempt = record.clone();
        attempt.fail(&failure, charge, &call.asked.prompt, self.policy.prompts);
        let mut decision = call.decision.clone();
        decision.attempted(attempt);
        self.line_of(call, decision)
    }

    /// The same for a job of ours, before anything is sent for it.
    pub(super) fn line_of_ours(&self, call: &Call) -> Option<String> {
        self.line_of(call, call.decision.clone())
    }

    fn line_of(&self, call: &Call, mut decision: Box<Decision>) -> Option<String> {
        let remedy = "ask for the picture again; what it cost is amended where it becomes known";
        let rescued = Rescued::ours(502, FailureKind::Unknown, ENDED, remedy);
        decision.error = Some(answer::error_record(&rescued));
        decision.add_up(self.yardstick(call), &[], &[]);
        Log::prepared(&decision)
    }

    /// The line of a job's call is written, or its call goes on to write it.
    pub(super) async fn told_job(&self, job: &KeptJob) {
        if let Err(error) = self.ledger.told_job(&job.provider, &job.id).await {
            tracing::error!(%error, id = job.id, "a job's line may be written once more");
        }
    }
}

// What the next process finds.

impl Pipeline {
    /// Takes over the jobs that dead processes left, as far as they may still end; the others are
    /// written down. What is returned is to be given to [`Pipeline::follow_left`].
    pub async fn take_over_jobs(&self) -> Vec<LeftJob> {
        let mut left = Vec::new();
        let kept = match self.ledger.kept_jobs().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "jobs that are kept in the ledger could not be read");
                return left;
            }
        };
        for (mut job, row) in kept {
            let age = Timestamp::now().duration_since(job.at);
            let old = Duration::try_from(age).is_ok_and(|age| age > self.policy.job_ttl);
            let open = row.as_ref().is_some_and(|row| row.settled.is_none());
            let assumed = row.is_some_and(|row| row.assumed);
            if (open || job.lives) && !old {
                continue; // a process that lives looks after it
            }
            if job.ours || old {
                self.tell_lost(&mut job).await;
            }
            match self.providers.named(&job.provider) {
                Some(provider) if !old && (job.ours || assumed) => {
                    let asked = Arc::new(ImageRequest::new(job.model.clone(), String::new()));
                    let base = provider.home().map(ToString::to_string);
                    if let Some(dialect) = provider.dialect_for(&asked.model) {
                        let known = Known::left(job, dialect, asked, base.unwrap_or_default());
                        left.push(LeftJob(self.jobs.remember(&provider.name, known)));
                    }
                }
                _ => self.forget_job(&job.provider, &job.id).await,
            }
        }
        left
    }

    /// Sees jobs through that were left: each until its end is known, or its time is over.
    pub async fn follow_left(&self, jobs: Vec<LeftJob>) {
        join_all(jobs.iter().map(|job| self.see_left_through(&job.0))).await;
    }

    async fn see_left_through(&self, known: &Known) {
        let Kind::Left(left) = &known.kind else {
            return;
        };
        let age = Timestamp::now().duration_since(left.job.at);
        let age = Duration::try_from(age).unwrap_or_default();
        let deadline = Instant::now() + self.policy.job_ttl.saturating_sub(age);
        let _ = tokio::time::timeout_at(deadline, self.ask_about(known, left)).await;
        tokio::time::sleep_until(deadline).await;
        if !left.ended.swap(true, Ordering::AcqRel) {
            let mut job = left.job.clone();
            self.tell_lost(&mut job).await;
            self.forget_job(&job.provider, &job.id).await;
        }
    }

    /// Asks about a job with a key of ours until it ends; returns where that is no use.
    async fn ask_about(&self, known: &Known, left: &Left) {
        let Some(provider) = self.providers.named(&left.job.provider) else {
            return;
        };
        let question = left.job.question.as_deref().and_then(located);
        let (Some((mut to, mut target)), Some(key)) = (question, &provider.key) else {
            return;
        };
        let mut pause = FIRST_PAUSE;
        while !left.ended.load(Ordering::Acquire) && provider.is_own(&to) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(asking::LONGEST_PAUSE);
            let Some((head, body, room)) =
                self.put(known, provider, &to, &target, key.expose()).await
            else {
                continue;
            };
            let read = asking::read(
                known.dialect,
                &known.asked,
                head.clone(),
                body.clone().into(),
                Arc::clone(&room),
            );
            match read.await.map(asking::certain) {
                Err(_) => {}
                Ok(told) if asking::passing(&told.next).is_some() => {}
                Ok(Told {
                    next: Next::Ask { message, job, .. },
                    ..
                }) => {
                    if message.method != Method::GET || !message.body.is_empty() {
                        return;
                    }
                    to = provider.asked_at(job.host.as_ref(), to);
                    target = message.target;
                }
                Ok(_) => return self.conclude_left(known, left, &head, &body, &room).await,
            }
        }
    }

    /// Puts one question; `None` where nothing came of it.
    async fn put(
        &self,
        known: &Known,
        provider: &Provider,
        to: &Destination,
        target: &http::uri::PathAndQuery,
        key: &str,
    ) -> Option<(ReplyHead, Bytes, Arc<Room>)> {
        debug_assert!(provider.is_own(to));
        let message = Message {
            method: Method::GET,
            target: target.clone(),
            headers: HeaderMap::new(),
            body: Rope::new(),
        };
        let mut request = asking::question_request(&message);
        known.dialect.authorize(request.headers_mut(), key);
        let sent = self.upstream.send(to, request, asking::PATIENCE).await;
        let (parts, body) = sent.ok()?.into_parts();
        let read = self.read_whole(body, asking::LARGEST, asking::PATIENCE);
        let (body, room) = read.await.ok()?;
        let head = ReplyHead {
            status: parts.status,
            headers: parts.headers,
        };
        Some((head, body, room))
    }

    pub(super) async fn forget_job(&self, provider: &str, id: &str) {
        if let Err(error) = self.ledger.end_job(provider, id).await {
            tracing::error!(%error, id, "a job that has ended stays in the ledger's list");
        }
    }

    /// Settles a job that was left, if this answer tells its end.
    pub(super) async fn conclude_left(
        &self,
        known: &Known,
        left: &Left,
        head: &ReplyHead,
        body: &Bytes,
        room: &Arc<Room>,
    ) {
        let body = body.clone().into();
        let (dialect, request) = (known.dialect, &known.asked);
        let read = asking::read(dialect, request, head.clone(), body, Arc::clone(room)).await;
        let Ok(told) = read else { return };
        let Told {
            next, head, body, ..
        } = asking::certain(told);
        if asking::passing(&next).is_some() {
            return;
        }
        let book = self.book_of(left.job.at);
        let (outcome, charge, images, request_id) = match next {
            Next::Ask { .. } => return,
            Next::Failed(failure) if failure.billed == Billed::Unknown => return,
            Next::Failed(failure) => {
                let charge = book.failed_charge(request, &failure);
                (Outcome::Failed, charge, 0, None)
            }
            Next::Done(mut response) => {
                let (provider, codes) = (request.model.provider(), &mut response.codes);
                book.keep_signals(provider, &head.headers, &body, codes);
                let images = u32::try_from(response.images.len()).unwrap_or(u32::MAX);
                let mut request = (**request).clone();
                request.n = images;
                let charge = book.charge(&request, &response);
                (Outcome::Ok, charge, images, response.codes.request_id)
            }
        };
        let settlement = settlement(outcome, charge, images, request_id);
        if !left.ended.swap(true, Ordering::AcqRel) {
            self.settle_left(left, settlement).await;
        }
    }

    /// Writes the charge, the line that its process prepared, and what is to be corrected in it.
    async fn settle_left(&self, left: &Left, settlement: Settlement) {
        let mut job = left.job.clone();
        let amended = AmendAttempt {
            i: job.key.attempt,
            billed: settlement.billed,
            charge: settlement.charge,
            charge_from: settlement.from,
        };
        let cost = settlement.charge.unwrap_or(Usd::ZERO);
        let causes = match settlement.outcome {
            Outcome::Failed => Causes {
                failed_billed: cost,
                ..Causes::default()
            },
            _ => Causes {
                delivered: cost,
                ..Causes::default()
            },
        };
        match self.ledger.settle_late(job.key, settlement).await {
            Ok(Some(written)) => {
                if let Err(error) = written.durable().await {
                    tracing::error!(%error, "a late charge is not on disk yet; it is tried again");
                }
                self.tell_lost(&mut job).await;
                self.amend(&job, AmendWhy::Late, vec![amended], causes);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, job = job.id, "a late charge could not be written");
                left.ended.store(false, Ordering::Release);
                return;
            }
        }
        self.forget_job(&job.provider, &job.id).await;
    }

    /// Writes the line that a dead process prepared. Of a job of ours the attempts are not in it:
    /// the ledger has them.
    async fn tell_lost(&self, job: &mut KeptJob) {
        let Some(line) = job.line.take() else {
            return;
        };
        self.log.write_prepared(&line, Timestamp::now());
        if job.ours {
            self.amend_with_rows(job).await;
        }
        self.told_job(job).await;
    }

    async fn amend_with_rows(&self, job: &KeptJob) {
        let rows = match self.ledger.rows(job.key.call).await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, job = job.id, "what a job cost could not be read");
                return;
            }
        };
        let mut causes = Causes::default();
        let mut attempts = Vec::new();
        for row in rows {
            let Some(settled) = &row.settled else {
                continue;
            };
            let cost = settled.charge.unwrap_or(Usd::ZERO);
            match settled.outcome {
                Outcome::Unknown => causes.unknown += cost,
                Outcome::Failed => causes.failed_billed += cost,
                _ => causes.undelivered += cost,
            }
            attempts.push(AmendAttempt {
                i: row.hold.attempt,
                billed: settled.billed,
                charge: settled.charge,
                charge_from: settled.from,
            });
        }
        if !attempts.is_empty() {
            self.amend(job, AmendWhy::Crash, attempts, causes);
        }
    }

    fn amend(&self, job: &KeptJob, why: AmendWhy, attempts: Vec<AmendAttempt>, causes: Causes) {
        if let Ok(id) = job.key.call.to_string().parse::<Id>() {
            let amend = Amend::new(id, Timestamp::now(), why, attempts, causes);
            self.log.amend(&amend);
        }
    }
}

/// Where a kept question goes.
pub(super) fn located(question: &str) -> Option<(Destination, http::uri::PathAndQuery)> {
    let uri: Uri = question.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let to = match uri.scheme_str()? {
        "https" => Destination::https(host, uri.port_u16().unwrap_or(443)),
        "http" => Destination::http(host, uri.port_u16().unwrap_or(80)),
        _ => return None,
    };
    Some((to, uri.path_and_query().cloned()?))
}

fn settlement(
    outcome: Outcome,
    charge: Charge,
    images: u32,
    request_id: Option<String>,
) -> Settlement {
    Settlement {
        at: Timestamp::now(),
        outcome,
        billed: match charge.amount {
            Some(amount) if amount.is_zero() => Billed::No,
            _ => Billed::Yes,
        },
        charge: charge.amount,
        from: charge.from,
        images,
        request_id,
    }
}
