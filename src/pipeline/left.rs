//! Jobs that a dead process left.
//!
//! Holds of providers' jobs are booked as unknown by now. Their apps may still ask about them, and
//! what they are told ends that: the charge takes the place of what was assumed. Of a job of ours
//! the picture is gone with the process; its app is told so in its provider's words.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::Pipeline;
use super::asking::{self, Told};
use super::jobs::Known;
use crate::bill::Charge;
use crate::dialect::Next;
use crate::image::{Billed, ImageRequest};
use crate::ledger::{KeptJob, Outcome, Settlement};
use crate::money::Usd;
use crate::record::notice::{Amend, AmendAttempt, AmendWhy};
use crate::record::{Causes, Id};
use crate::wire::ReplyHead;

impl Pipeline {
    /// Takes over the jobs that dead processes left, as far as they may still end.
    pub async fn take_over_jobs(&self) {
        let kept = match self.ledger.kept_jobs().await {
            Ok(kept) => kept,
            Err(error) => {
                tracing::error!(%error, "jobs that are kept in the ledger could not be read");
                return;
            }
        };
        for (job, row) in kept {
            let age = Timestamp::now().duration_since(job.at);
            let old = Duration::try_from(age).is_ok_and(|age| age > self.policy.job_ttl);
            let open = row.as_ref().is_some_and(|row| row.settled.is_none());
            let assumed = row.is_some_and(|row| row.assumed);
            if open && !old {
                continue; // a process that lives looks after it
            }
            match self.providers.named(&job.provider) {
                Some(provider) if !old && (job.ours || assumed) => {
                    let asked = Arc::new(ImageRequest::new(job.model.clone(), String::new()));
                    let base = provider.home().map(ToString::to_string);
                    if let Some(dialect) = provider.dialect_for(&asked.model) {
                        let known = Known::left(job, dialect, asked, base.unwrap_or_default());
                        self.jobs.remember(&provider.name, known);
                    }
                }
                _ => self.forget_job(&job.provider, &job.id).await,
            }
        }
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
        job: &KeptJob,
        head: &ReplyHead,
        body: &Bytes,
    ) {
        let headers = head.headers.clone();
        let (dialect, request) = (known.dialect, &known.asked);
        let read = asking::read(dialect, request, head.status, headers, body.clone().into());
        let Ok(Told { next, head, body }) = read else {
            return;
        };
        if asking::passing(&next).is_some() {
            return;
        }
        let (outcome, charge, images, request_id) = match next {
            Next::Ask { .. } => return,
            Next::Failed(failure) if failure.billed == Billed::Unknown => return,
            Next::Failed(failure) => {
                let charge = self.book.failed_charge(request, &failure);
                (Outcome::Failed, charge, 0, None)
            }
            Next::Done(mut response) => {
                let (provider, codes) = (request.model.provider(), &mut response.codes);
                self.book
                    .keep_signals(provider, &head.headers, &body, codes);
                let images = u32::try_from(response.images.len()).unwrap_or(u32::MAX);
                let mut request = (**request).clone();
                request.n = images;
                let charge = self.book.charge(&request, &response);
                (Outcome::Ok, charge, images, response.codes.request_id)
            }
        };
        let settlement = settlement(outcome, charge, images, request_id);
        self.settle_left(job, settlement).await;
    }

    async fn settle_left(&self, job: &KeptJob, settlement: Settlement) {
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
                if let Ok(id) = job.key.call.to_string().parse::<Id>() {
                    let now = Timestamp::now();
                    let amend = Amend::new(id, now, AmendWhy::Late, vec![amended], causes);
                    self.log.amend(&amend);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, job = job.id, "a late charge could not be written");
                return;
            }
        }
        self.forget_job(&job.provider, &job.id).await;
    }
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
