//! The last stations: the answer in the caller's dialect, and the record of how it came to be.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response};
use jiff::Timestamp;

use super::attempt::shape_of;
use super::body::Body;
use super::call::Call;
use super::chain::Served;
use super::door::Door;
use super::own_headers::Telling;
use super::plan::Plan;
use super::rescue::{Cause, Rescued};
use super::{Pipeline, receive};
use crate::cache::KeptHead;
use crate::dialect::Undeliverable;
use crate::image::{Delivery, FailureKind, Format, ImageRequest, ImageResponse, Picture, Tier};
use crate::money::Usd;
use crate::record::{
    AnswerRecord, AnsweredFrom, CacheStatus, Decision, Delivered, ErrorBy, ErrorRecord, Lever, Step,
};
use crate::room::Room;
use crate::wire::{Reply, ReplyHead};

/// In `x-pixtoll-cost-from`: more was paid for than the cost beside it, and that has no price.
const PARTLY_UNPRICED: &str = "partly-unpriced";

/// What the record has to know of how the answer was handed over.
pub(super) struct Handover {
    handed_over: Instant,
    status: u16,
    /// The answer as it was fitted for this caller.
    fitted: Option<ImageResponse>,
}

/// What its caller was given, and how much of that it took.
pub(super) struct Given {
    pub(super) status: u16,
    pub(super) fitted: Option<ImageResponse>,
    pub(super) delivered: Delivered,
    pub(super) bytes: u64,
    /// Our own work.
    pub(super) ours: Duration,
}

impl Pipeline {
    /// Hands the answer over, unless the caller is already reading it.
    pub(super) async fn answer(
        &self,
        call: &mut Call,
        outcome: &mut Result<Served, Rescued>,
        door: &mut Door,
    ) -> Handover {
        let mut status = 200;
        let mut fitted = None;
        if !door.is_open() {
            let mut rooms = Vec::new();
            if let Ok(served) = outcome {
                rooms.clone_from(&served.entry.rooms);
                rooms.extend(self.room_to_word(call, served).await);
            }
            let (mut reply, no_retry) = match outcome {
                Ok(served) => match self.fitted(call, served).await {
                    Some(response) => {
                        let worded = self.worded(call, &response);
                        fitted = Some(response);
                        worded
                    }
                    None => self.word(call, served),
                },
                Err(rescued) => (
                    rescued.reply(call.dialect(), Some(&call.asked)),
                    rescued.no_retry,
                ),
            };
            status = reply.head.status.as_u16();
            self.tell(call, outcome, no_retry, &mut reply.head.headers);
            reply
                .head
                .headers
                .insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
            door.open(reply.head, Body::from(reply.body).lying_in(rooms));
        }
        Handover {
            handed_over: Instant::now(),
            status,
            fitted,
        }
    }

    /// Room for an answer that is made anew: in base64 a picture takes four thirds of what it takes
    /// in bytes.
    async fn room_to_word(&self, call: &Call, served: &Served) -> Option<Arc<Room>> {
        if served.entry.as_it_came(shape_of(call)).is_some() && !call.change.fit_requested {
            return None;
        }
        let images = served.entry.response.images.iter();
        let bytes: usize = images.map(|image| image.picture.len()).sum();
        let room = Arc::new(self.memory.room());
        let bytes = (bytes / 3 * 4).min(self.memory.largest_answer());
        self.make_room(&room, bytes).await;
        Some(room)
    }

    /// The answer in the caller's words: as it came where that is what it asked for.
    fn word(&self, call: &Call, served: &mut Served) -> (Reply, bool) {
        let entry = &served.entry;
        let mut shape = shape_of(call);
        shape.job &= served.head.is_none(); // what came just now is the answer to this very call
        if let Some(original) = entry.as_it_came(shape) {
            let just_now = served.head.take();
            return (
                Reply {
                    head: just_now.unwrap_or_else(|| original.head.fresh()),
                    body: original.body.clone(),
                },
                false,
            );
        }
        self.worded(call, &entry.response)
    }

    /// The answer in the caller's words, made anew.
    fn worded(&self, call: &Call, response: &ImageResponse) -> (Reply, bool) {
        let worded = match call.asked.delivery {
            Delivery::Url => self.hosted(call, response),
            _ => call.dialect().write_response(&call.asked, response),
        };
        match worded {
            Ok(reply) => (reply, false),
            Err(error) => {
                let rescued = Rescued::ours(
                    502,
                    FailureKind::Server,
                    format!("the picture was made and cannot be handed over: {error}"),
                    "ask for another delivery",
                );
                (rescued.reply(call.dialect(), Some(&call.asked)), true)
            }
        }
    }

    /// For a caller that wants URLs: pictures in hand are served by the gateway, under names that
    /// nobody can guess.
    fn hosted(&self, call: &Call, response: &ImageResponse) -> Result<Reply, Undeliverable> {
        let response = self.at_urls(response)?;
        call.dialect().write_response(&call.asked, &response)
    }

    /// The same pictures, each at an address.
    pub(super) fn at_urls(&self, response: &ImageResponse) -> Result<ImageResponse, Undeliverable> {
        let mut response = response.clone();
        let base = self.policy.public_url.as_deref();
        for image in &mut response.images {
            let raw = match &image.picture {
                Picture::Url(_) => continue,
                Picture::Raw(rope) => rope.clone(),
                Picture::Base64(rope) => crate::dialect::picture::decode(rope)
                    .ok_or_else(|| Undeliverable("the picture is not base64".to_owned()))?,
            };
            let base = base.ok_or_else(|| {
                Undeliverable("set public_url, so that pictures can be served".to_owned())
            })?;
            // A keyed digest of a fresh id: nobody without the key can guess the next one.
            let token = receive::hex(&self.keyed(&crate::record::Id::new().to_string()));
            image.picture = Picture::Url(format!("{base}/_pixtoll/pictures/{token}"));
            self.pictures.insert(token, (image.format, raw));
        }
        Ok(response)
    }

    /// The headers for an answer whose end is not known yet: the quote stands for the charge.
    pub(super) fn tell_early(&self, call: &Call, plan: Option<&Plan>, headers: &mut HeaderMap) {
        let quote = plan
            .and_then(|plan| plan.quote.as_ref())
            .map(|quote| quote.expected);
        let cost = if plan.is_some() {
            quote
        } else {
            Some(Usd::ZERO)
        };
        let asked = call.asked_quote.as_ref().map(|quote| quote.expected);
        Telling {
            decision: &call.id,
            cache_status: cache_status(call, plan.is_some()),
            route: Some(plan.map_or(call.asked.model.as_str(), |plan| {
                plan.request.model.as_str()
            })),
            cost,
            cost_from: match (plan, cost) {
                (Some(plan), Some(_)) if plan.dialect.paid_beside(&plan.request).is_some() => {
                    PARTLY_UNPRICED
                }
                (Some(_), Some(_)) => "quote",
                (Some(_), None) => "unpriced",
                (None, _) => "none",
            },
            saved: asked.zip(cost).map(|(asked, cost)| asked - cost),
            no_retry: false,
        }
        .write(headers);
    }

    fn tell(
        &self,
        call: &Call,
        outcome: &Result<Served, Rescued>,
        no_retry: bool,
        headers: &mut HeaderMap,
    ) {
        let attempts = &call.decision.attempts;
        let cost = attempts
            .iter()
            .try_fold(Usd::ZERO, |sum, attempt| Some(sum + attempt.charge?));
        let asked = call.asked_quote.as_ref().map(|quote| quote.expected);
        let partly = attempts.iter().any(|attempt| attempt.partly_unpriced);
        let from = match attempts.last() {
            Some(_) if partly => PARTLY_UNPRICED,
            Some(last) => last.charge_from.as_str(),
            None => "none",
        };
        Telling {
            decision: &call.id,
            cache_status: cache_status(call, call.decision.cache.stored),
            route: outcome
                .as_ref()
                .ok()
                .map(|served| served.entry.model.as_str()),
            cost,
            cost_from: from,
            saved: match outcome {
                _ if partly => None,
                Ok(_) => asked.zip(cost).map(|(asked, cost)| asked - cost),
                Err(_) => cost.map(|cost| -cost),
            },
            no_retry,
        }
        .write(headers);
    }

    /// Writes the call down, once its answer is delivered or its caller gone.
    pub(super) fn record(
        self: Arc<Self>,
        call: Box<Call>,
        outcome: Result<Served, Rescued>,
        handover: Handover,
        delivered: Delivered,
        bytes: u64,
    ) {
        let Handover {
            handed_over,
            status,
            fitted,
        } = handover;
        let ours = handed_over
            .duration_since(call.began)
            .saturating_sub(call.upstream);
        let given = Given {
            status,
            fitted,
            delivered,
            bytes,
            ours,
        };
        let late = call
            .deadline
            .is_some_and(|deadline| deadline <= handed_over);
        if let Some(decision) = self.write_down(call, &outcome, given, late) {
            let tasks = self.tasks.clone();
            tasks.go_on(async move { self.tell_decision(&decision).await });
        }
    }

    /// Writes a call down that is over, and returns what plugins are to be told of it, where any wants
    /// to hear. `late`: its app had been told that its deadline is past.
    pub(super) fn write_down(
        &self,
        mut call: Box<Call>,
        outcome: &Result<Served, Rescued>,
        given: Given,
        late: bool,
    ) -> Option<Box<Decision>> {
        let Given {
            status,
            fitted,
            delivered,
            bytes,
            ours,
        } = given;
        if let (Ok(served), false) = (outcome, delivered == Delivered::Yes) {
            served
                .entry
                .unreceived
                .store(true, std::sync::atomic::Ordering::Release);
        }
        let yardstick = self.yardstick(&call);
        let steps = self.steps(&call, outcome, yardstick);
        let decision = &mut call.decision;
        match outcome {
            Ok(served) => {
                let given = fitted.as_ref().unwrap_or(&served.entry.response);
                let images = &given.images;
                decision.answered = Some(AnswerRecord {
                    from: served.from,
                    model: served.entry.model.clone(),
                    images: u32::try_from(images.len()).unwrap_or(u32::MAX),
                    sizes: given.sizes(),
                    format: images.first().map_or(Format::Unknown, |image| image.format),
                    delivery: call.asked.delivery,
                    bytes,
                    fitted: fitted.is_some(),
                    delivered,
                });
            }
            Err(rescued) => {
                let mut error = error_record(rescued);
                error.status = status;
                error.message = self
                    .policy
                    .prompts
                    .clean(&error.message, &call.asked.prompt);
                decision.error = Some(error);
            }
        }
        decision.add_up(yardstick, &call.served_by, &steps);
        decision.ended_at = Timestamp::now();
        decision.ms = u64::try_from(call.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        decision.overhead_us = u64::try_from(ours.as_micros()).unwrap_or(u64::MAX);
        if delivered != Delivered::Yes && outcome.is_ok() {
            decision.notes.push(match late {
                true => "the deadline passed, and the caller was told so".to_owned(),
                false => "the caller did not wait for the answer".to_owned(),
            });
        }
        let heard = self.hears_decisions().then(|| call.decision.clone());
        self.log.write(call.decision);
        heard
    }

    /// What the call is measured against: the quote as asked, or its successor's where the asked
    /// model is gone and would have cost nothing because it makes nothing.
    pub(super) fn yardstick(&self, call: &Call) -> Option<Usd> {
        if !call.decision.asked.retired {
            return call.asked_quote.as_ref().map(|quote| quote.expected);
        }
        let row = self.book.model(&call.asked.model)?;
        let successor = crate::image::ModelId::parse(row.capability.successor.as_deref()?)?;
        let row = self.book.model(&successor)?;
        let fitted = row
            .capability
            .fit(&call.asked, &crate::image::capability::Keep::Nothing)
            .ok()?;
        row.quote(&fitted.request).map(|quote| quote.expected)
    }

    /// The levers between what was asked and what was served, each with the price before and
    /// after it.
    fn steps(
        &self,
        call: &Call,
        outcome: &Result<Served, Rescued>,
        yardstick: Option<Usd>,
    ) -> Vec<Step> {
        let Some(served) = &call.served else {
            return Vec::new();
        };
        let (request, quote) = served;
        let mut steps = Vec::new();
        let as_asked = call.is_as_asked(request);
        if as_asked
            && matches!(
                outcome,
                Ok(Served {
                    from: AnsweredFrom::Provider,
                    ..
                })
            )
        {
            return steps;
        }
        let mut at = (*call.asked).clone();
        let mut before = yardstick;
        let mut step = |lever, edit: &dyn Fn(&mut ImageRequest)| {
            let mut next = at.clone();
            edit(&mut next);
            if next == at {
                return;
            }
            let after = self.book.quote(&next).map(|quote| quote.expected);
            steps.push(Step {
                lever,
                before,
                after,
            });
            (at, before) = (next, after);
        };
        if !as_asked && request.model == call.asked.model {
            step(Lever::Resolution, &|next| next.size = request.size.clone());
            step(Lever::Quality, &|next| next.quality = request.quality);
            step(Lever::Steps, &|next| next.steps = request.steps);
            step(Lever::Count, &|next| next.n = request.n);
            let slower = match request.tier {
                Tier::Batch => Lever::Batch,
                _ => Lever::Tier,
            };
            step(slower, &|next| next.tier = request.tier);
        }
        let after = quote.as_ref().map(|quote| quote.expected);
        if request.model != call.asked.model {
            steps.push(Step {
                lever: Lever::Route,
                before,
                after,
            });
            before = after;
        }
        let lever = match outcome {
            Ok(Served {
                from: AnsweredFrom::Cache,
                ..
            }) => Some(Lever::Repeat),
            Ok(Served {
                from: AnsweredFrom::Collapsed,
                ..
            }) => Some(Lever::Collapse),
            Ok(Served {
                from: AnsweredFrom::Plugin,
                ..
            }) => Some(Lever::Route),
            _ => None,
        };
        if let Some(lever) = lever {
            steps.push(Step {
                lever,
                before,
                after: Some(Usd::ZERO),
            });
        }
        steps
    }
}

/// The record of a call without a picture.
pub(super) fn error_record(rescued: &Rescued) -> ErrorRecord {
    ErrorRecord {
        kind: rescued.refusal.kind,
        status: rescued.refusal.status,
        by: match rescued.by {
            Cause::Provider => ErrorBy::Provider,
            Cause::Pixtoll => ErrorBy::Pixtoll,
            Cause::Budget => ErrorBy::Budget,
            Cause::Plugin => ErrorBy::Plugin,
        },
        message: rescued.refusal.message.clone(),
        remedy: rescued.remedy.clone().unwrap_or_default(),
    }
}

/// A value as an HTTP response.
pub(super) fn response(reply: Reply) -> Response<Body> {
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.head.status;
    *response.headers_mut() = reply.head.headers;
    response
}

/// What [`kept_head`] keeps.
static KEPT: [HeaderName; 6] = [
    CONTENT_TYPE,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("finish-reason"),
    HeaderName::from_static("seed"),
    RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
];

/// The part of an answer's head that is still true when it is given again: not the date, not what
/// was left of somebody's rate limit then.
pub(super) fn kept_head(head: &ReplyHead) -> KeptHead {
    // Copied: the value as it came is a slice of a whole read buffer, which it would hold.
    let copied = |name: &HeaderName| {
        let value = head.headers.get(name)?;
        let value = HeaderValue::from_bytes(value.as_bytes()).ok()?;
        Some((name.clone(), value))
    };
    KeptHead {
        status: head.status,
        headers: KEPT.iter().filter_map(copied).collect(),
    }
}

/// RFC 9211's words for what the cache did.
fn cache_status(call: &Call, stored: bool) -> Cow<'static, str> {
    let cache = &call.decision.cache;
    Cow::Borrowed(match (cache.status, stored) {
        (CacheStatus::Hit, _) => return format!("hit; ttl={}", cache.ttl_s.unwrap_or(0)).into(),
        (CacheStatus::Collapsed, _) => "fwd=uri-miss; collapsed",
        (CacheStatus::Miss, true) => "fwd=uri-miss; stored",
        (CacheStatus::Miss, false) => "fwd=uri-miss",
        (CacheStatus::Refresh, true) => "fwd=request; stored",
        (CacheStatus::Refresh, false) => "fwd=request",
        (CacheStatus::Bypass | CacheStatus::Off, _) => "fwd=bypass",
    })
}
