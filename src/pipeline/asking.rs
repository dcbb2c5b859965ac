//! A provider's job, asked about until it is done.
//!
//! A question costs nothing and may be put again, whatever became of the last one. The pauses
//! grow; where an app asks about the same job, its own questions count and ours keep silent.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Pipeline;
use super::call::Call;
use super::plan::Plan;
use crate::bill::{Codes, Usage};
use crate::dialect::job::Job;
use crate::dialect::{Dialect, Next};
use crate::image::{Billed, Failure, FailureKind, ImageRequest, Sent};
use crate::room::Room;
use crate::upstream::decode::Decoder;
use crate::upstream::{Destination, Inbound, Outbound, strip_hop_by_hop};
use crate::wire::{Message, ReplyHead, Rope};

/// No answer about a job is read past this; a picture within one is the largest that comes.
pub(super) const LARGEST: usize = 64 << 20;
/// The longest pause between two questions.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same where an app asks about the job itself.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);
const FIRST_SILENCE: Duration = Duration::from_secs(5);
/// So long an app has to fetch what it was told is there.
const ITS_TURN: Duration = Duration::from_secs(2);
/// One question's answer comes within this, or it is put again.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// So often a question is put that brings nothing.
const TRIES: u32 = 6;

/// An answer about a job, read to its end.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) next: Next,
    pub(super) head: ReplyHead,
    pub(super) body: Rope,
    /// What the body takes of the memory.
    pub(super) room: Arc<Room>,
}

/// What an app was answered about a job, as it went by.
#[derive(Debug)]
pub(super) struct Overheard {
    pub(super) told: Told,
    /// Answered once the charge is in the journal: before that, the app does not get its answer.
    pub(super) booked: oneshot::Sender<()>,
}

/// How a job ended.
pub(super) struct Ended {
    /// Its last answer; never one that asks.
    pub(super) told: Result<Told, Failure>,
    /// Somebody who waits for the charge to be booked. Dropping it lets them go on.
    pub(super) waiting: Option<oneshot::Sender<()>>,
}

/// What was told of a job on the way, for where its last answer is silent.
#[derive(Default)]
struct SoFar {
    id: String,
    usage: Usage,
    codes: Codes,
}

impl Pipeline {
    /// Asks about the job that `told` speaks of until it ends, until `deadline` at the latest.
    /// Through `overheard` comes what an app is told that asks too; where nobody is called when
    /// the job ends, it surely will.
    pub(super) async fn see_through(
        &self,
        call: &Call,
        plan: &Plan,
        mut told: Told,
        deadline: Instant,
        mut overheard: Option<mpsc::Receiver<Overheard>>,
    ) -> Ended {
        let mut so_far = SoFar::default();
        let listens = overheard.is_some() && !call.submit.is_some_and(|submit| submit.webhook);
        let mut place = plan.destination.clone();
        let mut pause = Duration::ZERO;
        loop {
            let (after, message, job) = match told.next {
                Next::Ask {
                    after,
                    message,
                    job,
                } => (after, message, *job),
                end => {
                    let next = so_far.complete(end);
                    return Ended {
                        told: Ok(Told { next, ..told }),
                        waiting: None,
                    };
                }
            };
            place = plan.provider.asked_at(job.host.as_ref(), place);
            so_far.note(job);
            let wait = match (listens, after.is_zero()) {
                (true, true) => ITS_TURN,
                (false, true) => Duration::ZERO,
                (true, false) => {
                    pause = (pause * 2).clamp(FIRST_SILENCE, LONGEST_SILENCE);
                    pause
                }
                (false, false) => {
                    pause = (pause * 3 / 2).clamp(after, LONGEST_PAUSE.max(after));
                    pause
                }
            };
            let answered = tokio::select! {
                Some(heard) = next_heard(&mut overheard) => {
                    pause = Duration::ZERO;
                    let Overheard { told, booked } = heard;
                    if !matches!(told.next, Next::Ask { .. }) {
                        let next = so_far.complete(told.next);
                        let told = Ok(Told { next, ..told });
                        return Ended { told, waiting: Some(booked) };
                    }
                    Ok(told)
                }
                answered = self.question(call, plan, &place, &message, wait, deadline) => answered,
            };
            match answered {
                Ok(answer) => told = answer,
                Err(failure) => {
                    return Ended {
                        told: Err(so_far.lost(failure)),
                        waiting: None,
                    };
                }
            }
        }
    }

    /// Puts one question until it is answered.
    async fn question(
        &self,
        call: &Call,
        plan: &Plan,
        place: &Destination,
        message: &Message,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Told, Failure> {
        let mut wait = wait;
        for tries in 1.. {
            if Instant::now() + wait >= deadline {
                tokio::time::sleep_until(deadline).await;
                let why = "the provider's job was not done in time";
                return Err(Failure::lost(FailureKind::Timeout, why));
            }
            tokio::time::sleep(wait).await;
            let last = tries == TRIES;
            wait = (wait * 2).clamp(Duration::from_millis(250), LONGEST_SILENCE);
            let request = self.question_message(call, plan, message);
            let why = match self.upstream.send(place, request, PATIENCE).await {
                Err(error) => error.message,
                Ok(response) => match self.told(plan, response).await {
                    Err(why) => why,
                    Ok(told) => match passing(&told.next) {
                        Some(asked) if !last => {
                            wait = asked.unwrap_or(wait).min(LONGEST_SILENCE);
                            continue;
                        }
                        _ => return Ok(certain(told)),
                    },
                },
            };
            if last {
                let why = format!("the provider's job could not be asked about: {why}");
                return Err(Failure::lost(FailureKind::Network, why));
            }
        }
        Err(Failure::lost(FailureKind::Unknown, "no question was put"))
    }

    /// A question as it goes out, with the key that paid for the job.
    pub(super) fn question_message(
        &self,
        call: &Call,
        plan: &Plan,
        message: &Message,
    ) -> Request<Outbound> {
        let mut request = question_request(message);
        let headers = request.headers_mut();
        if plan.own_credential {
            let name = plan.dialect.key_header();
            if let Some(key) = call.arrived.head.headers.get(name) {
                headers.insert(name, key.clone());
            }
        } else if let Some(key) = &plan.provider.key {
            plan.dialect.authorize(headers, key.expose());
        }
        request
    }
}

/// A question as it goes out, without a key.
pub(super) fn question_request(message: &Message) -> Request<Outbound> {
    let mut request = Request::new(Outbound::from(message.body.clone()));
    *request.method_mut() = message.method.clone();
    *request.uri_mut() = Uri::from(message.target.clone());
    let headers = request.headers_mut();
    headers.clone_from(&message.headers);
    let own = HeaderValue::from_static(concat!("pixtoll/", env!("CARGO_PKG_VERSION")));
    headers.insert(USER_AGENT, own);
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    request
}

impl Pipeline {
    /// Reads an answer about the job of `plan`.
    async fn told(&self, plan: &Plan, response: Response<Inbound>) -> Result<Told, String> {
        let (parts, body) = response.into_parts();
        let (body, room) = self.read_whole(body, LARGEST, PATIENCE).await?;
        let head = ReplyHead {
            status: parts.status,
            headers: parts.headers,
        };
        read(plan.dialect, &plan.request, head, body.into(), room).await
    }
}

async fn next_heard(overheard: &mut Option<mpsc::Receiver<Overheard>>) -> Option<Overheard> {
    match overheard {
        Some(heard) => heard.recv().await,
        None => None,
    }
}

/// Reads an answer that is whole. `head` and `body` of what it tells are decoded.
pub(super) async fn read(
    dialect: &dyn Dialect,
    request: &ImageRequest,
    head: ReplyHead,
    body: Rope,
    room: Arc<Room>,
) -> Result<Told, String> {
    let ReplyHead {
        status,
        mut headers,
    } = head;
    strip_hop_by_hop(&mut headers);
    let encoding = headers.remove(CONTENT_ENCODING);
    let encoding = encoding.as_ref().and_then(|value| value.to_str().ok());
    let body = match Decoder::of(encoding.unwrap_or_default()).map_err(|e| e.to_string())? {
        None => body,
        Some(mut decoder) => {
            let plain = decoder.feed(&body.to_bytes()).map_err(|e| e.to_string())?;
            let plain = Rope::from(plain);
            room.grow(plain.len()).await;
            plain
        }
    };
    headers.remove(CONTENT_LENGTH);
    let head = ReplyHead { status, headers };
    let mut reader = dialect.reader(request, &head);
    for piece in body.pieces() {
        reader.feed(piece);
    }
    Ok(Told {
        next: reader.finish(&body),
        head,
        body,
        room,
    })
}

/// Whether an answer says nothing of the job but that it cannot be asked about now, and for how
/// long that is said to last.
pub(super) fn passing(next: &Next) -> Option<Option<Duration>> {
    match next {
        Next::Failed(failure)
            if failure
                .status
                .is_some_and(|s| matches!(s, 408 | 429 | 500..)) =>
        {
            Some(failure.retry_after)
        }
        _ => None,
    }
}

/// A question that was refused says nothing of the job: nobody knows what that cost.
pub(super) fn certain(mut told: Told) -> Told {
    if let Next::Failed(failure) = &mut told.next {
        let of_the_question = matches!(
            failure.kind,
            FailureKind::Auth
                | FailureKind::Permission
                | FailureKind::Quota
                | FailureKind::RateLimited
                | FailureKind::Retired
        );
        if of_the_question {
            failure.billed = Billed::Unknown;
            failure.sent = Sent::Unknown;
        }
    }
    told
}

impl SoFar {
    fn note(&mut self, job: Job) {
        self.id = job.id;
        if job.usage.credits.is_some() || job.usage.reported.is_some() {
            self.usage = job.usage;
        }
        for (name, text) in job.codes.entries {
            self.codes.put(name, text);
        }
    }

    /// The end of the job, with what only its beginning told.
    fn complete(self, mut next: Next) -> Next {
        if let Next::Done(response) = &mut next {
            let usage = &mut response.usage;
            usage.credits = usage.credits.take().or(self.usage.credits);
            usage.reported = usage.reported.or(self.usage.reported);
            for (name, text) in self.codes.entries {
                if response.codes.get(&name).is_none() {
                    response.codes.put(name, text);
                }
            }
            response.codes.request_id = response.codes.request_id.take().or(Some(self.id));
        }
        next
    }

    fn lost(self, mut failure: Failure) -> Failure {
        failure.message = format!("{} (job {})", failure.message, self.id);
        failure
    }
}
