//! Ideogram: the routes of its second API in JSON, and those of 3.0 and 4.0 before it as forms.
//!
//! Pictures come at signed addresses that soon expire; one that moderation withholds comes with
//! status 200, without an address, and is billed. The newer routes work by job where the app says
//! so, and quote for nothing. After the API reference of November 2026; the newer routes' answers
//! are not documented in full, and are taken to have the members of the older ones.

mod answer;
mod fields;
mod quote;
mod route;

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::form;
use super::job::{JobAsk, JobCall, JobPlace, JobState, Submit};
use super::{Dialect, Reader, Refusal, Undeliverable, Unreadable, Unsupported, unsupported};
use crate::bill::Quote;
use crate::image::{Delivery, ImageRequest, ImageResponse, ModelId, Operation};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};
use route::Route;

pub(super) struct Ideogram;

const KEY: &str = "api-key";
/// The shortest life of an address that is told of; each says itself when it ends.
const URL_LIFE: Duration = Duration::from_secs(3600);
/// Says that nothing is to be drawn, only quoted.
const DRY_RUN: &str = "dry_run=true";
const WEBHOOK: &str = "webhook_url";
const ASYNC: &str = "async";

impl Dialect for Ideogram {
    fn name(&self) -> &'static str {
        "ideogram"
    }

    /// A question for the price is no call: it passes.
    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let quotes = |query: &str| query.split('&').any(|pair| pair == DRY_RUN);
        if head.method != Method::POST || head.target.query().is_some_and(quotes) {
            return None;
        }
        Route::of(head.path()).map(|route| route.operation)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let route = Route::of(head.path())
            .ok_or_else(|| form::wrong("path", "is no route that draws pictures"))?;
        let mut request = ImageRequest::new(ModelId::new(provider, route.model), String::new());
        request.operation = operation;
        request.delivery = Delivery::Url;
        fields::read(&mut request, &route, head, body)?;
        Ok(request)
    }

    fn key_header(&self) -> &'static str {
        KEY
    }

    fn inert(&self) -> &'static [&'static str] {
        &[ASYNC, WEBHOOK]
    }

    fn submits(&self, head: &RequestHead, asked: &ImageRequest) -> Option<Submit> {
        let query = head.target.query().unwrap_or_default();
        let webhook = asked.extra.contains_key(WEBHOOK)
            || query.split('&').any(|pair| pair.starts_with(WEBHOOK));
        let said = match asked.extra.get(ASYNC) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
            _ => false,
        };
        (webhook || said || Route::of(head.path())?.later).then_some(Submit {
            wait: Duration::ZERO,
            webhook,
        })
    }

    fn job_call(&self, head: &RequestHead) -> Option<JobCall> {
        let path = head.path();
        let id = route::JOBS.iter().find_map(|at| path.strip_prefix(at))?;
        let one = !id.is_empty() && !id.contains('/') && head.method == Method::GET;
        one.then(|| JobCall {
            id: id.to_owned(),
            asks: JobAsk::Result,
        })
    }

    fn write_job(
        &self,
        asked: &ImageRequest,
        job: JobPlace<'_>,
        asks: Option<JobAsk>,
        state: JobState<'_>,
    ) -> Result<Reply, Undeliverable> {
        answer::write_job(asked, job, asks, state)
    }

    fn stays(&self, asked: &ImageRequest) -> Option<&'static str> {
        let document = asked.extra.contains_key(fields::DOCUMENT);
        document.then_some("its prompt is a document that only Ideogram reads")
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        answer::write(asked, response)
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        answer::write_refusal(refusal)
    }

    fn url_life(&self) -> Option<Duration> {
        Some(URL_LIFE)
    }

    fn serves(&self, model: &ModelId) -> bool {
        route::draws(model.model())
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        if matches!(request.operation, Operation::Variation | Operation::Upscale) {
            return Err(unsupported("operation", "these routes generate and edit"));
        }
        let target = route::target(request);
        let route =
            Route::of(target.path()).ok_or_else(|| unsupported("model", "its name is no path"))?;
        let (content_type, body) = fields::write(request, &route)?;
        Ok(message(target, content_type, body))
    }

    fn write_question(&self, request: &ImageRequest) -> Option<Message> {
        quote::question(request)
    }

    fn read_quote(&self, head: &ReplyHead, body: &Bytes) -> Option<Quote> {
        quote::read(head, body)
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        if let Ok(mut value) = HeaderValue::from_str(key) {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(KEY), value);
        }
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        answer::reader(request, head)
    }
}

fn message(target: PathAndQuery, content_type: HeaderValue, body: Rope) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Message {
        method: Method::POST,
        target,
        headers,
        body,
    }
}
