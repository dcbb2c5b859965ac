//! Jobs that apps were told of, and ask about.
//!
//! An app that submits goes away with an answer and comes back for its picture. Untouched, the
//! answer is the provider's own and so is every later one: they pass by here, and what they tell
//! ends the call. Where the picture comes from elsewhere, from memory or from another house, the
//! job is ours, and we answer for it in the provider's words.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::asking::{self, Overheard, Told};
use super::body::Body;
use super::call::{Arrived, Call};
use super::chain::Served;
use super::door::Door;
use super::plan::Plan;
use super::reading::Read;
use super::rescue::{self, Rescued};
use super::rules::nowhere;
use super::{Pipeline, Provider, answer, own_headers};
use crate::action::{CacheMode, Via};
use crate::cache::flight::End;
use crate::cache::{Live, Original, Pilot, Shape};
use crate::dialect::job::{JobAsk, JobCall, JobPlace, JobState, Submit};
use crate::dialect::{Dialect, Next, Refusal};
use crate::image::{Delivery, Failure, FailureKind, ImageRequest, ImageResponse};
use crate::ledger::{KeptJob, Key};
use crate::record::{AttemptRecord, Mode};
use crate::upstream::{Destination, Outbound, strip_hop_by_hop};
use crate::wire::{ReplyHead, RequestHead};

/// Jobs that are remembered at once.
const MOST: u64 = 100_000;
/// The largest answer about a job that is passed on.
const LARGEST: usize = 64 << 20;
/// So long an app's answer waits for its charge to be written.
const BOOKING: Duration = Duration::from_secs(5);

/// All jobs that apps may ask about, by provider and id. A clone has the same ones.
#[derive(Clone, Debug)]
pub struct Jobs {
    known: Cache<(Arc<str>, String), Arc<Known>>,
    /// The provider's own jobs, by the call that submitted each.
    led: Cache<String, Arc<Known>>,
}

/// A job that an app was told of.
pub(super) struct Known {
    /// Who may ask: whoever sends the credential that submitted.
    credential: Option<[u8; 16]>,
    pub(super) asked: Arc<ImageRequest>,
    pub(super) dialect: &'static dyn Dialect,
    /// Where its app reaches the provider.
    base: String,
    kind: Kind,
}

enum Kind {
    /// The provider's own. What its app is answered is overheard.
    Theirs {
        plan: Box<Plan>,
        hears: mpsc::Sender<Overheard>,
        /// Several calls submitted it: none of them may end it for the others.
        shared: AtomicBool,
    },
    Ours(Mutex<State>),
    /// The provider's own, submitted to a process that is dead.
    Left(KeptJob),
}

/// How a job of ours stands.
enum State {
    Running,
    Done(Box<ImageResponse>),
    Failed(Box<Refusal>),
}

/// What is to be done once a job's charge is written.
#[derive(Debug, Default)]
pub(super) struct Booking {
    waiting: Option<oneshot::Sender<()>>,
    kept: Option<KeptJob>,
}

/// A question of an app about a job that is known here.
#[derive(Debug)]
pub struct JobAsked {
    known: Arc<Known>,
    call: JobCall,
}

impl Jobs {
    /// Jobs that are forgotten so long after they were begun.
    pub fn new(ttl: Duration) -> Jobs {
        Jobs {
            known: kept(ttl),
            led: kept(ttl),
        }
    }

    /// Makes a job known that was begun before.
    pub(super) fn remember(&self, provider: &Arc<str>, (id, known): (String, Known)) {
        let key = (Arc::clone(provider), id);
        self.known.insert(key, Arc::new(known));
    }

    /// One more call is told of the job that the call `leader` submitted.
    pub(super) fn join(&self, leader: &str) {
        if let Some(known) = self.led.get(leader)
            && let Kind::Theirs { shared, .. } = &known.kind
        {
            shared.store(true, Ordering::Release);
        }
    }
}

fn kept<K: Hash + Eq + Send + Sync + 'static>(ttl: Duration) -> Cache<K, Arc<Known>> {
    Cache::builder()
        .max_capacity(MOST)
        .time_to_live(ttl)
        .build()
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Theirs { .. } => "theirs",
            Kind::Ours(_) => "ours",
            Kind::Left(_) => "left",
        };
        write!(f, "Known({kind} {})", self.asked.model)
    }
}

impl Pipeline {
    /// Buys the picture for a caller that waits for it, or that asks later.
    pub(super) async fn buy_for(
        &self,
        call: &mut Call,
        door: &mut Door,
    ) -> Result<Served, Rescued> {
        let Some(submit) = call.submit else {
            let outcome = self.buy(call, door).await;
            return self.bring(call, door, outcome).await;
        };
        if submit.webhook {
            leave_as_it_is(call);
        }
        let plan = self.plan_first(call).map_err(|why| nowhere(&why))?;
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
        self.policy.mode == Mode::Enforce
            && self.plugins.iter().any(|plugin| plugin.has_on_failure())
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
        let ours = self.begin_ours(call);
        let mut early = ours.1.reply(&ours.0, None);
        self.tell_early(call, Some(plan), &mut early.head.headers);
        let kept = self.kept(call, &ours.0, true);
        // Nobody stands behind this door: whoever asks is answered from the job.
        let (mut nobody, _) = Door::shut();
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
        if outcome.is_ok() && !door.is_open() {
            self.open_with(call, &ours, door);
        }
        outcome
    }

    fn begin_ours(&self, call: &Call) -> (String, Arc<Known>) {
        let id = call.id().to_ascii_lowercase();
        let known = Arc::new(Known {
            credential: self.asker(call.dialect(), &call.arrived.head),
            asked: Arc::clone(&call.asked),
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
        record.job = Some(job.id.clone());
        let theirs = call.submit.is_some() && plan.untouched && !door.is_open();
        let mut overheard = None;
        let mut booking = Booking::default();
        if theirs {
            overheard = Some(self.hand_over(call, plan, &read, &job.id, pilot, door));
            booking.kept = self.keep_job(call, &job.id, false).await;
        }
        let patience = match theirs {
            true => self.policy.job_ttl,
            false => plan.timeout.unwrap_or(self.upstream.patience().head),
        };
        let Read {
            next,
            head,
            body,
            ttfb,
            ..
        } = read;
        let told = Told { next, head, body };
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
            ttfb,
        });
        booking.waiting = ended.waiting;
        (read, booking)
    }

    /// Writes down which call a job belongs to, so that its charge is known after a restart too.
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
            self.forget_job(&job.provider, &job.id).await;
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
        let (hears, overheard) = mpsc::channel(8);
        let known = Known {
            credential: self.asker(call.dialect(), &call.arrived.head),
            asked: Arc::clone(&call.asked),
            dialect: call.dialect(),
            base: self.base_of(&call.arrived),
            kind: Kind::Theirs {
                plan: Box::new(plan.clone()),
                hears,
                shared: AtomicBool::new(false),
            },
        };
        let known = Arc::new(known);
        let key = (Arc::clone(&call.arrived.provider.name), id.to_owned());
        self.jobs.led.insert(call.id(), Arc::clone(&known));
        self.jobs.known.insert(key, known);
        self.open_live(call, Some(plan), &live, door);
        if let Some(pilot) = pilot {
            pilot.show(live);
        }
        overheard
    }

    fn asker(&self, dialect: &dyn Dialect, head: &RequestHead) -> Option<[u8; 16]> {
        dialect.credential(head).map(|text| self.keyed(text))
    }

    /// Where the app of a call reaches the provider: where it addressed it, or our gateway.
    fn base_of(&self, arrived: &Arrived) -> String {
        match (arrived.via, &self.policy.public_url) {
            (Via::Gateway, Some(url)) => format!("{url}/{}", arrived.provider.name),
            _ => arrived.destination.to_string(),
        }
    }

    /// What a message asks of a job that is known here, by whoever submitted it.
    pub fn job_asked(&self, provider: &Provider, head: &RequestHead) -> Option<JobAsked> {
        let (dialect, call) = provider
            .dialects
            .iter()
            .find_map(|dialect| Some((*dialect, dialect.job_call(head)?)))?;
        let key = (Arc::clone(&provider.name), call.id.clone());
        let known = self.jobs.known.get(&key)?;
        let may_ask = known.credential == self.asker(dialect, head);
        may_ask.then_some(JobAsked { known, call })
    }

    /// Answers a question about a job: for ours ourselves, for theirs as the provider does.
    pub async fn answer_job(
        &self,
        asked: JobAsked,
        head: RequestHead,
        body: Bytes,
        to: &Destination,
    ) -> Response<Body> {
        let JobAsked { known, call } = asked;
        let ours = match &known.kind {
            Kind::Theirs { shared, .. } => {
                call.asks == JobAsk::Cancel && shared.load(Ordering::Acquire)
            }
            Kind::Ours(_) => true,
            Kind::Left(_) => false,
        };
        if ours {
            return answer::response(known.reply(&call.id, Some(call.asks)));
        }
        match self.pass_question(head, body, to).await {
            Ok((head, body)) => {
                match &known.kind {
                    _ if call.asks == JobAsk::Cancel => {}
                    Kind::Theirs { plan, hears, .. } => overhear(plan, hears, &head, &body).await,
                    Kind::Left(job) => self.conclude_left(&known, job, &head, &body).await,
                    Kind::Ours(_) => {}
                }
                answer::response(crate::wire::Reply {
                    head,
                    body: body.into(),
                })
            }
            Err(why) => answer::response(rescue::bare(StatusCode::BAD_GATEWAY, &why)),
        }
    }

    /// Sends a question on, and reads what is answered as it comes.
    async fn pass_question(
        &self,
        head: RequestHead,
        body: Bytes,
        to: &Destination,
    ) -> Result<(ReplyHead, Bytes), String> {
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        own_headers::strip(&mut headers);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let mut request = Request::new(Outbound::from(crate::wire::Rope::from(body)));
        *request.method_mut() = head.method;
        *request.uri_mut() = Uri::from(head.target);
        *request.headers_mut() = headers;
        let patience = self.upstream.patience().head;
        let sent = self.upstream.send(to, request, patience).await;
        let (parts, body) = sent.map_err(|error| error.message)?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| format!("{to} broke off: {error}"))?;
        let mut headers = parts.headers;
        strip_hop_by_hop(&mut headers);
        let status = parts.status;
        Ok((ReplyHead { status, headers }, body.to_bytes()))
    }
}

/// Tells the call what its app is about to hear. The end of a job waits for its charge to be
/// written.
async fn overhear(plan: &Plan, hears: &mpsc::Sender<Overheard>, head: &ReplyHead, body: &Bytes) {
    let (dialect, request) = (plan.dialect, &plan.request);
    let headers = head.headers.clone();
    let read = asking::read(dialect, request, head.status, headers, body.clone().into());
    let Ok(told) = read else { return };
    if asking::passing(&told.next).is_some() {
        return;
    }
    let (booked, waits) = oneshot::channel();
    if hears.try_send(Overheard { told, booked }).is_ok() {
        let _ = tokio::time::timeout(BOOKING, waits).await;
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

/// Of a job of ours whose process has ended.
fn gone() -> Refusal {
    Refusal {
        status: 503,
        kind: FailureKind::Server,
        code: None,
        message: "pixtoll: it was started anew, and the picture is not kept; ask for it again"
            .to_owned(),
        retry_after: None,
    }
}

fn undelivered(why: &str) -> Refusal {
    Refusal {
        status: 502,
        kind: FailureKind::Server,
        code: None,
        message: format!("pixtoll: the picture was made and cannot be handed over: {why}"),
        retry_after: None,
    }
}

impl Known {
    /// A job that was left, with the provider's name for it.
    pub(super) fn left(
        job: KeptJob,
        dialect: &'static dyn Dialect,
        asked: Arc<ImageRequest>,
        base: String,
    ) -> (String, Known) {
        let id = job.id.clone();
        let known = Known {
            credential: job.asker,
            asked,
            dialect,
            base,
            kind: match job.ours {
                true => Kind::Ours(Mutex::new(State::Failed(Box::new(gone())))),
                false => Kind::Left(job),
            },
        };
        (id, known)
    }

    /// What its app hears of a job of ours.
    fn reply(&self, id: &str, asks: Option<JobAsk>) -> crate::wire::Reply {
        let place = JobPlace {
            id,
            base: &self.base,
        };
        let word = |state: JobState<'_>| {
            let reply = self.dialect.write_job(&self.asked, place, asks, state);
            reply.unwrap_or_else(|error| {
                let refusal = undelivered(&error.to_string());
                self.dialect.write_refusal(Some(&self.asked), &refusal)
            })
        };
        let Kind::Ours(state) = &self.kind else {
            return word(JobState::Running);
        };
        match &*state.lock() {
            State::Running => word(JobState::Running),
            State::Done(response) => word(JobState::Done(response)),
            State::Failed(refusal) => word(JobState::Failed(refusal)),
        }
    }
}
