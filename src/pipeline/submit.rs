//! Apps that submit, and come back for their picture.
//!
//! Untouched, the answer to a submit is the provider's own, and the call goes on until the job
//! ends. Where the picture comes from elsewhere, from memory or from another house, the app is told
//! of a job of ours.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Pipeline;
use super::asking::{Overheard, Told};
use super::call::{Arrived, Call};
use super::chain::Served;
use super::door::Door;
use super::jobs::{Kind, Known, State, remembered, undelivered};
use super::plan::Plan;
use super::reading::Read;
use super::rescue::Rescued;
use super::rules::nowhere;
use crate::action::{CacheMode, Via};
use crate::cache::flight::End;
use crate::cache::{Live, Original, Pilot, Shape};
use crate::dialect::job::Submit;
use crate::dialect::{Dialect, Next};
use crate::image::{Delivery, Failure};
use crate::ledger::{KeptJob, Key};
use crate::plugin::Plugin;
use crate::record::{AttemptRecord, Mode};
use crate::wire::RequestHead;

/// What is to be done once a job's charge is written.
#[derive(Debug, Default)]
pub(super) struct Booking {
    waiting: Option<oneshot::Sender<()>>,
    kept: Option<KeptJob>,
}

impl Pipeline {
    /// Buys the picture for a caller that waits for it, or that asks later.
    pub(super) async fn buy_for(
        &self,
        call: &mut Call,
        door: &mut Door,
    ) -> Result<Served, Rescued> {
        match call.submit {
            Some(submit) => Box::pin(self.buy_submitted(call, submit, door)).await,
            None => {
                let outcome = self.buy(call, door).await;
                self.bring(call, door, outcome).await
            }
        }
    }

    async fn buy_submitted(
        &self,
        call: &mut Call,
        submit: Submit,
        door: &mut Door,
    ) -> Result<Served, Rescued> {
        if submit.webhook {
            leave_as_it_is(call);
        }
        let plan = self.plan_now(call).map_err(|why| nowhere(&why))?;
        if !plan.untouched || !submit.webhook && self.may_move() {
            return self.buy_as_ours(call, &plan, submit, door).await;
        }
        let outcome = self.buy(call, door).await;
        let outcome = self.bring(call, door, outcome).await;
        if outcome.as_ref().is_ok_and(|served| !at_once(call, served)) && !door.is_open() {
            // From memory, or made elsewhere after a failure.
            let ours = self.begin_ours(call);
            self.end_ours(call, &ours, &outcome);
            self.open_with(call, &ours, door);
            self.keep_job(call, &ours.0, true).await;
        }
        outcome
    }

    /// Whether a rule may yet send the call elsewhere: nobody who was told of a provider's job
    /// could be told of another then.
    fn may_move(&self) -> bool {
        let has = |plugin: &Plugin| plugin.has_on_failure();
        self.holds() || self.policy.mode == Mode::Enforce && self.plugins.iter().any(has)
    }

    /// Buys the picture elsewhere; the app is told of a job of ours before it is made.
    async fn buy_as_ours(
        &self,
        call: &mut Call,
        plan: &Plan,
        submit: Submit,
        door: &mut Door,
    ) -> Result<Served, Rescued> {
        call.submit = None; // from here on it is bought as for somebody who waits
        let key = self.key_of(call, &plan.request);
        if self.store.get(&key).is_none()
            && let Some(over) = self.no_room(call, plan).await
        {
            return Err(over.rescued());
        }
        let ours = self.begin_ours(call);
        let mut early = ours.1.reply(&ours.0, None);
        self.tell_early(call, Some(plan), &mut early.head.headers);
        let kept = KeptJob {
            line: self.line_of_ours(call),
            ..self.kept(call, &ours.0, true)
        };
        // Nobody stands behind this door: whoever asks is answered from the job.
        let mut nobody = Door::to_nobody();
        let outcome = {
            let mut buying = std::pin::pin!(self.buy(call, &mut nobody));
            tokio::select! {
                biased;
                outcome = &mut buying, if !submit.wait.is_zero() => outcome,
                () = tokio::time::sleep(submit.wait) => {
                    door.open(early.head, early.body.into());
                    self.ledger_keeps(&kept).await;
                    buying.await
                }
            }
        };
        let outcome = self.bring(call, &nobody, outcome).await;
        self.end_ours(call, &ours, &outcome);
        if door.is_open() {
            // From here on the call writes its line itself.
            self.told_job(&kept).await;
        }
        if outcome.is_ok() && !door.is_open() {
            self.open_with(call, &ours, door);
        }
        outcome
    }

    fn begin_ours(&self, call: &Call) -> (String, Arc<Known>) {
        let id = call.id.to_ascii_lowercase();
        let known = Arc::new(Known {
            credential: self.asker(call.dialect(), &call.arrived.head),
            asked: remembered(&call.asked),
            dialect: call.dialect(),
            base: self.base_of(&call.arrived),
            kind: Kind::Ours(Mutex::new(State::Running)),
        });
        let key = (Arc::clone(&call.arrived.provider.name), id.clone());
        self.jobs.known.insert(key, Arc::clone(&known));
        (id, known)
    }

    fn end_ours(
        &self,
        call: &Call,
        ours: &(String, Arc<Known>),
        outcome: &Result<Served, Rescued>,
    ) {
        let state = match outcome {
            Err(rescued) => State::Failed(Box::new(rescued.refusal.clone())),
            Ok(served) => {
                let response = match call.asked.delivery {
                    Delivery::Url => self.at_urls(&served.entry.response),
                    _ => Ok(served.entry.response.clone()),
                };
                match response {
                    Ok(response) => State::Done(Box::new(response)),
                    Err(error) => State::Failed(Box::new(undelivered(&error.to_string()))),
                }
            }
        };
        if let Kind::Ours(slot) = &ours.1.kind {
            *slot.lock() = state;
            // Weighed anew, with its pictures.
            let key = (Arc::clone(&call.arrived.provider.name), ours.0.clone());
            self.jobs.known.insert(key, Arc::clone(&ours.1));
        }
    }

    /// Answers a submit with a job of ours that is done.
    fn open_with(&self, call: &Call, ours: &(String, Arc<Known>), door: &mut Door) {
        let (id, known) = ours;
        let mut reply = known.reply(id, None);
        self.tell_early(call, None, &mut reply.head.headers);
        door.open(reply.head, reply.body.into());
    }

    /// What an answer means that may tell of a job: the job's end, where it does.
    pub(super) async fn end_of_job(
        &self,
        call: &Call,
        plan: &Plan,
        read: Read,
        record: &mut AttemptRecord,
        pilot: Option<&Pilot>,
        door: &mut Door,
    ) -> (Result<Read, Failure>, Booking) {
        let Next::Ask { job, .. } = &read.next else {
            return (Ok(read), Booking::default());
        };
        let job = job.id.clone();
        Box::pin(self.seen_through(call, plan, read, job, record, pilot, door)).await
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the facts of one attempt, each used once"
    )]
    async fn seen_through(
        &self,
        call: &Call,
        plan: &Plan,
        read: Read,
        job: String,
        record: &mut AttemptRecord,
        pilot: Option<&Pilot>,
        door: &mut Door,
    ) -> (Result<Read, Failure>, Booking) {
        let theirs = call.submit.is_some() && plan.untouched && !door.is_open();
        let mut overheard = None;
        let mut booking = Booking::default();
        if theirs {
            overheard = Some(self.hand_over(call, plan, &read, &job, pilot, door));
            record.job = Some(job);
            booking.kept = self.keep_theirs(call, plan, &read.next, record).await;
        } else {
            record.job = Some(job);
        }
        let patience = match theirs {
            true => self.policy.job_ttl,
            false => plan.timeout.unwrap_or(self.upstream.patience().head),
        };
        let Read {
            next,
            head,
            body,
            room,
            ttfb,
            ..
        } = read;
        let told = Told {
            next,
            head,
            body,
            room,
        };
        let deadline = Instant::now() + patience;
        let ended = self
            .see_through(call, plan, told, deadline, overheard)
            .await;
        let read = ended.told.map(|told| Read {
            next: told.next,
            head: told.head,
            body: told.body,
            live: None,
            last: Bytes::new(),
            room: told.room,
            ttfb,
        });
        booking.waiting = ended.waiting;
        (read, booking)
    }

    /// Writes down a provider's job with all that it takes to end its call after a restart.
    async fn keep_theirs(
        &self,
        call: &Call,
        plan: &Plan,
        next: &Next,
        record: &AttemptRecord,
    ) -> Option<KeptJob> {
        let Next::Ask { message, job, .. } = next else {
            return None;
        };
        let bare = message.method == http::Method::GET && message.body.is_empty();
        let before = plan.destination.clone();
        let place = plan.provider.asked_at(job.host.as_ref(), before);
        let kept = KeptJob {
            line: self.line_of_lost(call, plan, record),
            question: bare.then(|| format!("{place}{}", message.target)),
            ..self.kept(call, &job.id, false)
        };
        self.ledger_keeps(&kept).await.then_some(kept)
    }

    /// Writes down which call a job belongs to, so that its app finds it after a restart too.
    async fn keep_job(&self, call: &Call, id: &str, ours: bool) -> Option<KeptJob> {
        let job = self.kept(call, id, ours);
        self.ledger_keeps(&job).await.then_some(job)
    }

    fn kept(&self, call: &Call, id: &str, ours: bool) -> KeptJob {
        KeptJob {
            provider: call.arrived.provider.name.to_string(),
            id: id.to_owned(),
            key: Key {
                call: call.decision.id.ulid(),
                attempt: call.attempts,
            },
            asker: self.asker(call.dialect(), &call.arrived.head),
            model: call.asked.model.clone(),
            ours,
            at: jiff::Timestamp::now(),
            line: None,
            question: None,
            home: self.policy.public_url.clone().filter(|_| ours),
            lives: true,
        }
    }

    async fn ledger_keeps(&self, job: &KeptJob) -> bool {
        let kept = self.ledger.keep_job(job).await;
        if let Err(error) = &kept {
            tracing::error!(%error, id = job.id, "a job is not in the ledger's list");
        }
        kept.is_ok()
    }

    /// A job's charge is written: whoever waits for that goes on, and nothing is kept of it.
    pub(super) async fn booked(&self, booking: Booking) {
        drop(booking.waiting);
        if let Some(job) = booking.kept {
            Box::pin(self.forget_job(&job.provider, &job.id)).await;
        }
    }

    /// Gives the provider's own answer to the submit, to this caller and to all who submitted the
    /// same, and listens from now on.
    fn hand_over(
        &self,
        call: &Call,
        plan: &Plan,
        read: &Read,
        id: &str,
        pilot: Option<&Pilot>,
        door: &mut Door,
    ) -> mpsc::Receiver<Overheard> {
        let shape = Shape {
            dialect: plan.dialect.name(),
            delivery: plan.request.delivery,
            stream: plan.request.stream,
            job: true,
        };
        let live = Live::new(read.head.clone(), shape, Some(read.body.len() as u64));
        for piece in read.body.pieces() {
            live.push(piece.clone());
        }
        live.end(End::Whole);
        live.lies_in(Arc::clone(&read.room));
        let (hears, overheard) = mpsc::channel(8);
        let known = Known {
            credential: self.asker(call.dialect(), &call.arrived.head),
            asked: remembered(&call.asked),
            dialect: call.dialect(),
            base: self.base_of(&call.arrived),
            kind: Kind::Theirs {
                plan: Box::new(Plan {
                    request: remembered(&plan.request),
                    ..plan.clone()
                }),
                hears,
                shared: AtomicBool::new(false),
            },
        };
        let known = Arc::new(known);
        let key = (Arc::clone(&call.arrived.provider.name), id.to_owned());
        self.jobs
            .led
            .insert(call.id.to_string(), Arc::clone(&known));
        self.jobs.known.insert(key, known);
        self.open_live(call, Some(plan), &live, door);
        if let Some(pilot) = pilot {
            pilot.show(live);
        }
        overheard
    }

    pub(super) fn asker(&self, dialect: &dyn Dialect, head: &RequestHead) -> Option<[u8; 16]> {
        dialect.credential(head).map(|text| self.keyed(text))
    }

    /// Where the app of a call reaches the provider: where it addressed it, or our gateway.
    fn base_of(&self, arrived: &Arrived) -> String {
        match (arrived.via, &self.policy.public_url) {
            (Via::Gateway, Some(url)) => format!("{url}/{}", arrived.provider.name),
            _ => arrived.destination.to_string(),
        }
    }
}

/// Whether the provider answered this very call with the picture, and with no job: that is its
/// caller's answer.
fn at_once(call: &Call, served: &Served) -> bool {
    let last = call.decision.attempts.last();
    let dialect = |original: &Original| original.shape.dialect == call.dialect().name();
    served.head.is_some()
        && last.is_some_and(|attempt| attempt.job.is_none())
        && served.entry.original.as_ref().is_some_and(dialect)
}

/// Whoever is called when the job ends can be called by nobody but the provider.
fn leave_as_it_is(call: &mut Call) {
    if call.route.take().is_some() || !call.is_as_asked(&call.request) {
        let why = "the submit names a webhook, so it goes to its provider as it is";
        call.decision.notes.push(why.to_owned());
    }
    call.request = Arc::clone(&call.asked);
    call.cache.mode = Some(CacheMode::Off);
}
