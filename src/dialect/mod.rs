//! Wire formats: a provider's bytes in, our words out, and back.
//!
//! A dialect opens no socket, reads no clock and keeps no state, so its tests are recorded
//! messages. Everything that knows a provider's JSON, paths or headers is in that dialect's one
//! file; adding a dialect is that file and one word in [`ALL`].

pub mod batch;
mod bfl;
mod fal;
mod form;
mod google;
mod head;
mod ideogram;
pub mod job;
mod loose;
mod openai;
pub mod picture;
mod prompts;
pub mod query;
mod replicate;
mod stability;
mod stability_v1;
#[cfg(test)]
mod toy;
mod wait;
mod whole;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use thiserror::Error;

use crate::bill::Quote;
use crate::image::{Failure, FailureKind, ImageRequest, ImageResponse, ModelId, Operation};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};
use job::{Job, JobAsk, JobCall, JobPlace, JobState, Submit};

/// Extra fields whose names begin so are a dialect's own notes on how the app spelt its request.
/// They ask for nothing, and nothing is lost with them.
pub const NOTE: char = '@';

/// The extra field that says where at its provider a call goes (a project, a version of the API) and
/// nothing of what it asks for. It stays with the provider when a call changes dialects there.
pub const PLACE: &str = "@place";

/// The extra field with the name that the app called its model by, where that is a deployment of its
/// own.
pub const DEPLOYMENT: &str = "@deployed";

/// Every dialect of this release.
pub static ALL: &[&dyn Dialect] = &[
    &openai::OpenAi,
    &openai::Azure,
    &openai::Responses,
    &stability_v1::StabilityV1,
    &stability::Stability,
    &google::Imagen,
    &google::Gemini,
    &fal::Fal,
    &replicate::Replicate,
    &bfl::Bfl,
    #[cfg(test)]
    &toy::Toy,
    &ideogram::Ideogram,
];

/// The dialect of that name.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    ALL.iter().copied().find(|dialect| dialect.name() == name)
}

/// One wire format, in both directions.
pub trait Dialect: Send + Sync {
    /// Short and stable: used in configuration, prices, logs and Lua.
    fn name(&self) -> &'static str;

    // The caller's side.

    /// The operation that this message asks for; `None` when it is no image call of this dialect.
    fn claims(&self, head: &RequestHead) -> Option<Operation>;

    /// Whether a claimed message asks for a picture after all. Some paths serve text as well; a call
    /// that says no passes through untouched.
    fn asks_for_picture(&self, _head: &RequestHead, _body: &Bytes) -> bool {
        true
    }

    /// Reads an image call. `provider` is the provider it was addressed to, for the model's name.
    ///
    /// # Errors
    /// [`Unreadable`] when the body is not what the path promises.
    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable>;

    /// Words an answer for a caller that asked for `asked`: its delivery, its stream or none.
    /// The pictures' bytes are shared, and re-encoded only when the caller's encoding differs.
    ///
    /// # Errors
    /// [`Undeliverable`] when a picture is not in hand in a form that this caller can be given
    /// (a URL that was not fetched).
    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable>;

    /// Words a refusal so that the caller's client library raises its own exception.
    /// `asked` is `None` when the call could not be read.
    fn write_refusal(&self, asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply;

    /// The header that a key stands in.
    fn key_header(&self) -> &'static str {
        "authorization"
    }

    /// The credential that the app sent, whatever header it came in.
    fn credential<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        head.header(self.key_header())
    }

    /// The query parameter that an app may put its key in, where there is one: the key is taken out
    /// of whatever outlives the request.
    fn key_in_query(&self) -> Option<&'static str> {
        None
    }

    /// Query parameters that do not change the picture. They have no place in a cache key.
    fn inert_query(&self) -> &'static [&'static str] {
        &[]
    }

    /// Extra fields that do not change the picture (the app's name for its user, how the answer
    /// is wrapped): they have no place in a cache key.
    fn inert(&self) -> &'static [&'static str] {
        &[]
    }

    /// How an app asks for its picture that does not wait for it; `None` when it waits.
    fn submits(&self, _head: &RequestHead, _asked: &ImageRequest) -> Option<Submit> {
        None
    }

    /// What a message asks of a job; `None` when it is about none.
    fn job_call(&self, _head: &RequestHead) -> Option<JobCall> {
        None
    }

    /// Words what a caller hears of a job of ours: in answer to its submit, or to what it `asks`
    /// later.
    ///
    /// # Errors
    /// [`Undeliverable`] where this dialect has no jobs, and as [`Dialect::write_response`].
    fn write_job(
        &self,
        _asked: &ImageRequest,
        _job: JobPlace<'_>,
        _asks: Option<JobAsk>,
        _state: JobState<'_>,
    ) -> Result<Reply, Undeliverable> {
        Err(Undeliverable("this dialect has no jobs".to_owned()))
    }

    /// Why no other model could go on with a call that asks for `asked`, where that is so: a rule
    /// cannot route it.
    fn stays(&self, _asked: &ImageRequest) -> Option<&'static str> {
        None
    }

    /// Where its requests go, for a dialect that words none of its own accord.
    fn usual_path(&self) -> Option<&'static str> {
        None
    }

    /// The other model that is paid for whenever `asked` is answered, and whose share is in no
    /// price of the picture's own: a charge that leaves it out is not all.
    fn paid_beside(&self, _asked: &ImageRequest) -> Option<String> {
        None
    }

    // The provider's side.

    /// How long a picture stays at the URL that this provider gives; `None` where nobody says, or
    /// for as long as anybody keeps it in mind.
    fn url_life(&self) -> Option<Duration> {
        None
    }

    /// Whether requests for `model` are worded in this dialect, where its provider speaks several:
    /// the first of them that says so counts.
    fn serves(&self, _model: &ModelId) -> bool {
        true
    }

    /// Words a request for the provider, fitted to the model beforehand. Carries no key.
    ///
    /// Everything in `extra` is said as it stands, so what another dialect left there must have
    /// been taken out before.
    ///
    /// # Errors
    /// [`Unsupported`] when this wire format has no way to say it.
    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported>;

    /// Asks what `request` would cost, where this provider tells it for nothing; `None` where it does
    /// not. Carries no key, and equal questions have equal answers.
    fn write_question(&self, _request: &ImageRequest) -> Option<Message> {
        None
    }

    /// The price that the answer to such a question names; `None` when it names none.
    fn read_quote(&self, _head: &ReplyHead, _body: &Bytes) -> Option<Quote> {
        None
    }

    /// How this provider takes many requests as one job; `None` where it does not.
    fn batches(&self) -> Option<&'static dyn batch::Batches> {
        None
    }

    /// Puts a key of ours where this provider looks for it, in place of any other.
    ///
    /// A key that cannot be a header's value is left out; the provider's 401 tells.
    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        if let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {key}")) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    /// Whether a success without a picture tells its caller something all the same: some models
    /// answer in text.
    fn may_talk(&self) -> bool {
        false
    }

    /// A reader for the answer to `request` that begins with `head`.
    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader>;
}

/// Reads one answer as it arrives.
pub trait Reader: Send {
    /// Takes the next bytes of the body, decoded.
    fn feed(&mut self, chunk: &[u8]) -> Progress;

    /// Concludes. `body` is all that was fed, and pictures are sliced from it.
    fn finish(self: Box<Self>, body: &Rope) -> Next;
}

/// What is known of an answer so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may still turn out to be a failure: nothing may be shown to the caller yet.
    Wait,
    /// A picture has begun, and nothing that comes later can make the answer a failure.
    Pass,
    /// It is a failure; [`Reader::finish`] says which once the rest is there.
    Failed,
}

/// What an answer turned out to be.
#[derive(Debug)]
pub enum Next {
    Done(Box<ImageResponse>),
    Failed(Box<Failure>),
    /// The provider works on it as a job: send this, after that long. Its answer is read with this
    /// dialect's reader for the same request.
    Ask {
        after: Duration,
        message: Box<Message>,
        job: Box<Job>,
    },
}

/// Why a body is not the image call that its path promises.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {why}")]
pub struct Unreadable {
    /// The field at fault as the dialect spells it, or `body`.
    pub field: String,
    pub why: String,
}

/// Why an answer cannot be worded for a caller.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Undeliverable(pub String);

/// Why a request cannot be worded for a provider.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{field}`: {why}")]
pub struct Unsupported {
    pub field: &'static str,
    pub why: String,
}

/// That a field cannot be said in this wire format, and why.
fn unsupported(field: &'static str, why: impl Into<String>) -> Unsupported {
    let why = why.into();
    Unsupported { field, why }
}

/// Why a call gets no picture, in words for its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status to answer with. Moderation goes out under the status that the dialect has
    /// for it, whatever stands here: clients test both together.
    pub status: u16,
    pub kind: FailureKind,
    /// The provider's own code, where a provider spoke this same dialect.
    pub code: Option<String>,
    /// What happened, where and what to do. Holds no key.
    pub message: String,
    /// Seconds the caller should wait, where that helps.
    pub retry_after: Option<Duration>,
}
