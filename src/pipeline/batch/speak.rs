//! What is said to a provider about batches, and how its answers are heard.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};

use crate::dialect::batch::Batches;
use crate::dialect::{Dialect, query};
use crate::image::Sent;
use crate::pipeline::Pipeline;
use crate::pipeline::call::Call;
use crate::pipeline::plan::Plan;
use crate::pipeline::provider::Provider;
use crate::upstream::decode::Decoder;
use crate::upstream::{Destination, Inbound, Outbound};
use crate::wire::Message;

/// No answer that is read whole is larger.
const LARGEST: usize = 512 << 20;
/// No line of a file is longer: a picture in base64, ten at most.
const LONGEST_LINE: usize = 256 << 20;

/// Headers that say whose call it is.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "x-goog-api-key",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
];

/// Whom to speak to.
pub(super) struct Speaker<'a> {
    pipeline: &'a Pipeline,
    provider: Arc<Provider>,
    dialect: &'static dyn Dialect,
    pub(super) batches: &'static dyn Batches,
    /// Where it is, and the app's own credential, where a call of its own is sent.
    own: Option<(Destination, HeaderMap)>,
}

/// What came of a message.
pub(super) enum Heard {
    Answer(Bytes),
    /// It was declined, for certain: status and words.
    Declined(StatusCode, String),
    /// Nobody can tell whether it arrived, or it is to be said again later.
    Nothing(String),
}

impl<'a> Speaker<'a> {
    /// # Errors
    /// Why nobody can be spoken to.
    pub(super) fn new(
        pipeline: &'a Pipeline,
        provider: &str,
        dialect: &str,
    ) -> Result<Speaker<'a>, String> {
        let provider = pipeline
            .providers
            .named(provider)
            .ok_or_else(|| format!("no provider `{provider}` is configured any more"))?;
        let dialect = crate::dialect::by_name(dialect)
            .ok_or_else(|| format!("this version does not speak `{dialect}`"))?;
        let batches = dialect
            .batches()
            .ok_or_else(|| format!("`{}` has no batches", provider.name))?;
        Ok(Speaker {
            pipeline,
            provider: Arc::clone(provider),
            dialect,
            batches,
            own: None,
        })
    }

    /// For a call, with whatever credential pays for it.
    ///
    /// # Errors
    /// Why nobody can be spoken to.
    pub(super) fn for_call(
        pipeline: &'a Pipeline,
        call: &Call,
        plan: &Plan,
    ) -> Result<Speaker<'a>, String> {
        let speaker = Speaker::new(pipeline, &plan.provider.name, plan.dialect.name())?;
        if !plan.own_credential {
            return Ok(speaker);
        }
        let mut headers = HeaderMap::new();
        for name in CREDENTIALS {
            if let Some(value) = call.arrived.head.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let asked = call.arrived.head.target.query();
        let in_query = asked
            .zip(call.dialect().key_in_query())
            .and_then(|(asked, name)| query::value(asked, name));
        if let Some(key) = in_query {
            plan.dialect.authorize(&mut headers, key);
        }
        Ok(Speaker {
            own: Some((plan.destination.clone(), headers)),
            ..speaker
        })
    }

    /// Says something and hears all of the answer.
    pub(super) async fn say(&self, message: Message) -> Heard {
        let response = match self.send(message).await {
            Ok(response) => response,
            Err(heard) => return heard,
        };
        let status = response.status();
        match whole(response).await {
            Ok(body) if status.is_success() => Heard::Answer(body),
            Ok(body) => declined(status, &body),
            Err(why) => Heard::Nothing(why),
        }
    }

    /// Fetches a file, a line at a time: a batch's answers may be larger than any memory.
    ///
    /// # Errors
    /// Why it broke off, after the lines that came.
    pub(super) async fn lines(&self, message: Message) -> Result<Lines, String> {
        match self.send(message).await {
            Ok(response) if response.status().is_success() => Ok(Lines::of(response)?),
            Ok(response) => {
                let status = response.status();
                let body = whole(response).await.unwrap_or_default();
                Err(format!("{status}: {}", words(&body)))
            }
            Err(Heard::Nothing(why)) => Err(why),
            Err(_) => Err("not sent".to_owned()),
        }
    }

    async fn send(&self, message: Message) -> Result<http::Response<Inbound>, Heard> {
        let own = self.own.as_ref();
        let home = own.map(|(place, _)| place).or(self.provider.home());
        let Some(home) = home else {
            let name = &self.provider.name;
            return Err(Heard::Nothing(format!("`{name}` has no address")));
        };
        let mut headers = message.headers;
        let agent = HeaderValue::from_static(concat!("pixtoll/", env!("CARGO_PKG_VERSION")));
        headers.insert(USER_AGENT, agent);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(message.body.len()));
        match (own, &self.provider.key) {
            (Some((_, credential)), _) => headers.extend(credential.clone()),
            (None, Some(key)) => self.dialect.authorize(&mut headers, key.expose()),
            (None, None) => {}
        }
        let mut request = Request::new(Outbound::from(message.body));
        *request.method_mut() = message.method;
        *request.uri_mut() = Uri::from(message.target);
        *request.headers_mut() = headers;
        let upstream = &self.pipeline.upstream;
        let sent = upstream.send(home, request, upstream.patience().head).await;
        sent.map_err(|error| match error.sent {
            Sent::NotSent => Heard::Nothing(format!("not sent: {}", error.message)),
            _ => Heard::Nothing(error.message),
        })
    }

    pub(super) async fn pause(&self, pause: Duration) {
        tokio::time::sleep(self.pipeline.policy.pause(pause)).await;
    }
}

fn declined(status: StatusCode, body: &Bytes) -> Heard {
    let words = words(body);
    match status.as_u16() {
        408 | 409 | 429 | 500.. => Heard::Nothing(format!("{status}: {words}")),
        _ => Heard::Declined(status, words),
    }
}

/// What a refusal says, wherever its form has the words.
fn words(body: &Bytes) -> String {
    let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = told
        .as_ref()
        .and_then(|told| told.pointer("/error/message"));
    let text = match message.and_then(|message| message.as_str()) {
        Some(message) => message.to_owned(),
        None => String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned(),
    };
    text.chars().take(300).collect()
}

fn decoder(headers: &HeaderMap) -> Result<Option<Decoder>, String> {
    let encoding = headers.get(http::header::CONTENT_ENCODING);
    let encoding = encoding.and_then(|value| value.to_str().ok());
    Decoder::of(encoding.unwrap_or_default()).map_err(|error| error.to_string())
}

async fn whole(response: http::Response<Inbound>) -> Result<Bytes, String> {
    let decoder = decoder(response.headers())?;
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
    let body = body.to_bytes();
    match decoder {
        None => Ok(body),
        Some(mut decoder) => decoder.feed(&body).map_err(|error| error.to_string()),
    }
}

/// A file that arrives line by line.
pub(super) struct Lines {
    body: Inbound,
    decoder: Option<Decoder>,
    begun: BytesMut,
    ended: bool,
}

impl Lines {
    fn of(response: http::Response<Inbound>) -> Result<Lines, String> {
        Ok(Lines {
            decoder: decoder(response.headers())?,
            body: response.into_body(),
            begun: BytesMut::new(),
            ended: false,
        })
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// Why there is no more, though the file has not ended.
    pub(super) async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, String> {
        let mut looked = 0;
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.begun[looked..]) {
                let line = self.begun.split_to(looked + at + 1).freeze();
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            looked = self.begun.len();
            if self.ended {
                let rest = self.begun.split().freeze();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            if looked > LONGEST_LINE {
                return Err(format!("a line is longer than {} MiB", LONGEST_LINE >> 20));
            }
            let frame = tokio::time::timeout(idle, self.body.frame())
                .await
                .map_err(|_| "the file stopped coming".to_owned())?;
            match frame {
                None => self.ended = true,
                Some(Err(error)) => return Err(format!("the file broke off: {error}")),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    match &mut self.decoder {
                        None => self.begun.extend_from_slice(&data),
                        Some(decoder) => {
                            let plain = decoder.feed(&data).map_err(|error| error.to_string())?;
                            self.begun.extend_from_slice(&plain);
                        }
                    }
                }
            }
        }
    }
}
