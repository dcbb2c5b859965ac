//! Black Forest Labs: FLUX at a path of its own for every model.
//!
//! Every call is a job: what it costs is said when it is taken on, and charged only if it ends
//! well. The picture lies at a signed address that soon expires. After the API reference of
//! November 2026 and the help page on moderation of June 2026.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::form::wrong;
use super::job::{self, Job, JobAsk, JobCall, JobPlace, JobState, Submit};
use super::loose::{self, Loose};
use super::whole::{self, Answer, failed};
use super::{
    Dialect, Next, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head, unsupported, wait,
};
use crate::bill::{Codes, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Delivery, Failure, FailureKind, Format, ImageRequest, ImageResponse, InputRole,
    ModelId, Operation, Picture, Safety, SafetyBlock, SafetyStage, Sent, Size,
};
use crate::money::Usd;
use crate::wire::json::Node;
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct Bfl;

const RESULT: &str = "/v1/get_result";
const KEY: &str = "x-key";
const DOMAIN: &str = "bfl.ai";
/// A credit is a US cent (docs.bfl.ai, pricing).
const CREDITS_PER_USD: u64 = 100;
/// The shortest life of an address that the documentation names.
const URL_LIFE: Duration = Duration::from_secs(600);
const TOLERANCE: &str = "safety_tolerance";
/// Where models take their pictures, in order.
const PICTURES: [&str; 9] = [
    "input_image",
    "input_image_2",
    "input_image_3",
    "input_image_4",
    "input_image_5",
    "input_image_6",
    "input_image_7",
    "input_image_8",
    "images",
];
const INPUT_REFUSED: &str = "Request Moderated";
const OUTPUT_REFUSED: &str = "Content Moderated";

impl Dialect for Bfl {
    fn name(&self) -> &'static str {
        "bfl"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let claimed = head.method == Method::POST && model_of_path(head.path()).is_some();
        claimed.then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let model = model_of_path(head.path()).ok_or_else(|| wrong("path", "names no model"))?;
        let mut fields = Loose::of_body(body)?;
        let prompt = fields.text("prompt").unwrap_or_default();
        let mut request = ImageRequest::new(ModelId::new(provider, model), prompt);
        request.operation = operation;
        request.delivery = Delivery::Url;
        read_fields(&mut request, &mut fields);
        if !request.inputs.is_empty() {
            request.operation = Operation::Edit;
        }
        request.extra = fields.rest();
        Ok(request)
    }

    fn key_header(&self) -> &'static str {
        KEY
    }

    fn inert(&self) -> &'static [&'static str] {
        &["webhook_secret", "webhook_url"]
    }

    fn submits(&self, _head: &RequestHead, asked: &ImageRequest) -> Option<Submit> {
        Some(Submit {
            wait: Duration::ZERO,
            webhook: asked.extra.contains_key("webhook_url"),
        })
    }

    fn job_call(&self, head: &RequestHead) -> Option<JobCall> {
        if head.method != Method::GET || head.path() != RESULT {
            return None;
        }
        let mut pairs = head.target.query()?.split('&');
        let id = pairs.find_map(|pair| pair.strip_prefix("id="))?;
        (!id.is_empty()).then(|| JobCall {
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
        let Some(_) = asks else {
            let polling_url = format!("{}{RESULT}?id={}", job.base, job.id);
            return Ok(said(&json!({"id": job.id, "polling_url": polling_url})));
        };
        match state {
            JobState::Running => Ok(told(job.id, "Pending", &Value::Null, &Value::Null)),
            JobState::Done(response) => ready(asked, job.id, response),
            JobState::Failed(refusal) => Ok(match refusal.kind {
                FailureKind::Safety => {
                    let reasons = json!({"Moderation Reasons": [refusal.message]});
                    told(job.id, INPUT_REFUSED, &Value::Null, &reasons)
                }
                _ => {
                    let details = json!({"error": refusal.message});
                    told(job.id, "Error", &Value::Null, &details)
                }
            }),
        }
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        // Opaque to clients, and nothing can be asked about it: it is done.
        let id = blake3::hash(asked.prompt.as_bytes()).to_hex();
        ready(asked, &id[..32], response)
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        // Moderation has no status of its own here: a job tells of it in these words.
        let (status, body) = match refusal.kind {
            FailureKind::Safety => (
                422,
                json!({
                    "detail": refusal.message,
                    "status": INPUT_REFUSED,
                    "details": {"Moderation Reasons": [refusal.message]},
                }),
            ),
            _ => (refusal.status, json!({"detail": refusal.message})),
        };
        Reply {
            head: head::refusal(status, refusal),
            body: body.to_string().into(),
        }
    }

    fn url_life(&self) -> Option<Duration> {
        Some(URL_LIFE)
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        if request.operation == Operation::Variation {
            return Err(unsupported("operation", "these models generate and edit"));
        }
        if request.n != 1 {
            return Err(unsupported("n", "a call brings one picture"));
        }
        let target: PathAndQuery = format!("/v1/{}", request.model.model())
            .parse()
            .map_err(|_| unsupported("model", "its name is no path"))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Message {
            method: Method::POST,
            target,
            headers,
            body: Value::Object(write_fields(request)?).to_string().into(),
        })
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        if let Ok(mut value) = HeaderValue::from_str(key) {
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(KEY), value);
        }
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        whole::reader(request, head, conclude, refused)
    }
}

fn model_of_path(path: &str) -> Option<&str> {
    let model = path
        .strip_suffix('/')
        .unwrap_or(path)
        .strip_prefix("/v1/")?;
    model.starts_with("flux-").then_some(model)
}

// Requests.

fn read_fields(request: &mut ImageRequest, fields: &mut Loose) {
    request.size = loose::read_size(fields);
    request.seed = fields.whole("seed");
    request.steps = fields.whole("steps");
    request.guidance = fields.number("guidance");
    request.strength = fields.number("image_prompt_strength");
    request.format = fields.word("output_format", |word| {
        match Format::from_media_type(word) {
            Format::Unknown => None,
            format => Some(format),
        }
    });
    // The degree stays, so that the same one is said again.
    request.safety = fields
        .seen(TOLERANCE)
        .and_then(Value::as_u64)
        .map(strictness);
    for name in ["image", "image_prompt"].iter().chain(&PICTURES) {
        fields.inputs(name, InputRole::Image, &mut request.inputs);
    }
    fields.inputs("mask", InputRole::Mask, &mut request.inputs);
}

/// The degrees go from 0, the strictest, to 4, 5 or 6; nobody says anything as much as 2.
fn strictness(degree: u64) -> Safety {
    match degree {
        0 | 1 => Safety::Strict,
        2 => Safety::Default,
        _ => Safety::Relaxed,
    }
}

/// What our words say wins over what is left in extra.
fn write_fields(request: &ImageRequest) -> Result<Map<String, Value>, Unsupported> {
    let mut fields: Map<String, Value> = request.extra.clone().into_iter().collect();
    let degree = fields.get(TOLERANCE).and_then(Value::as_u64);
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put(
        "prompt",
        (!request.prompt.is_empty()).then(|| request.prompt.as_str().into()),
    );
    match &request.size {
        Size::Auto => {}
        Size::Pixels { width, height } => {
            put("width", Some((*width).into()));
            put("height", Some((*height).into()));
        }
        Size::Aspect { aspect, step } => {
            put("aspect_ratio", Some(aspect.to_string().into()));
            put("resolution", step.as_deref().map(Value::from));
        }
    }
    put("seed", request.seed.map(Value::from));
    put("steps", request.steps.map(Value::from));
    put("guidance", request.guidance.clone().map(Value::Number));
    let strength = request.strength.clone().map(Value::Number);
    put("image_prompt_strength", strength);
    put("output_format", request.format.map(|f| f.as_str().into()));
    if degree.map(strictness) != request.safety {
        let degree = request.safety.map(|safety| match safety {
            Safety::Strict => 0,
            Safety::Default => 2,
            Safety::Relaxed => 4,
        });
        put(TOLERANCE, degree.map(Value::from));
    }
    let cannot = || {
        unsupported(
            "inputs",
            "a picture kept at another provider cannot be found",
        )
    };
    let images = loose::all_spelt(request, InputRole::Image).ok_or_else(cannot)?;
    for (name, value) in place_pictures(request.model.model(), images)? {
        put(name, Some(value));
    }
    let masks = loose::all_spelt(request, InputRole::Mask).ok_or_else(cannot)?;
    put("mask", masks.into_iter().next().map(bare));
    Ok(fields)
}

/// Each picture under the name that the model has for it.
fn place_pictures(
    model: &str,
    images: Vec<Value>,
) -> Result<Vec<(&'static str, Value)>, Unsupported> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let images = images.into_iter().map(bare);
    if model.starts_with("flux-3") {
        return Ok(vec![("images", images.collect::<Vec<_>>().into())]);
    }
    let names: &[&'static str] = if model.contains("fill") || model.contains("expand") {
        &["image"]
    } else if model.starts_with("flux-pro") || model == "flux-dev" {
        &["image_prompt"]
    } else {
        &PICTURES[..8]
    };
    if images.len() > names.len() {
        let most = format!("{} pictures are the most here", names.len());
        return Err(unsupported("inputs", &most));
    }
    Ok(names.iter().copied().zip(images).collect())
}

/// Pictures stand here in base64 alone, without the head of a data URL.
fn bare(value: Value) -> Value {
    match value.as_str() {
        Some(text) if text.starts_with("data:") => text
            .split_once(',')
            .map_or(Value::Null, |(_, b64)| b64.into()),
        _ => value,
    }
}

// Answers for a caller.

fn said(body: &Value) -> Reply {
    Reply {
        head: ReplyHead::new(StatusCode::OK, "application/json"),
        body: body.to_string().into(),
    }
}

fn told(id: &str, status: &str, result: &Value, details: &Value) -> Reply {
    said(&json!({
        "id": id, "status": status, "result": result, "progress": null, "details": details,
        "preview": null,
    }))
}

fn ready(asked: &ImageRequest, id: &str, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let first = response.images.first();
    let Some((image, Picture::Url(url))) = first.map(|image| (image, &image.picture)) else {
        let why = "the caller wants a URL, and the picture lies at none";
        return Err(Undeliverable(why.to_owned()));
    };
    let seed = image.seed.or(asked.seed);
    let result = json!({"sample": url, "prompt": asked.prompt, "seed": seed});
    Ok(told(id, "Ready", &result, &Value::Null))
}

// Answers of the provider.

fn conclude(answer: Answer, node: &Node, body: &Rope) -> Next {
    match node.get("status").and_then(Node::text) {
        None if node.get("polling_url").is_some() => taken_on(&answer, node),
        Some("Ready") => drawn(answer, node, body),
        Some("Pending" | "Queued" | "Reasoning" | "Generating" | "Processing") => {
            asked_again(&answer, node)
        }
        Some(status) => failed(ended(&answer, status, node)),
        None => failed(answer.no_image()),
    }
}

fn taken_on(answer: &Answer, node: &Node) -> Next {
    let place = node
        .get("polling_url")
        .and_then(Node::text)
        .and_then(|url| job::place(url, DOMAIN));
    match place {
        Some((host, target)) => ask(answer, node, host, target),
        None => failed(answer.spoilt("names no place to ask about it")),
    }
}

/// It is asked where it was asked before.
fn asked_again(answer: &Answer, node: &Node) -> Next {
    let id = node.get("id").and_then(Node::text).unwrap_or_default();
    match format!("{RESULT}?id={id}").parse() {
        Ok(target) => ask(answer, node, None, target),
        Err(_) => failed(answer.spoilt("names its job in a way that cannot be asked about")),
    }
}

fn ask(answer: &Answer, node: &Node, host: Option<String>, target: PathAndQuery) -> Next {
    let codes = codes(answer, node);
    Next::Ask {
        after: job::FIRST_PAUSE,
        message: job::question(target),
        job: Box::new(Job {
            id: codes.request_id.clone().unwrap_or_default(),
            host,
            usage: usage(&codes),
            codes,
        }),
    }
}

fn codes(answer: &Answer, node: &Node) -> Codes {
    let mut codes = head::codes(&answer.head, &[]);
    codes.request_id = node.get("id").and_then(Node::text).map(str::to_owned);
    for name in ["cost", "input_mp", "output_mp"] {
        if let Some(text) = node.get(name).and_then(Node::scalar) {
            codes.put(name, text);
        }
    }
    codes
}

fn usage(codes: &Codes) -> Usage {
    let credits = codes.get("cost").map(str::to_owned);
    let cents: Option<Usd> = credits.as_deref().and_then(|text| text.parse().ok());
    Usage {
        reported: cents.map(|cents| cents.scaled(1, CREDITS_PER_USD)),
        credits,
        ..Usage::default()
    }
}

fn drawn(answer: Answer, node: &Node, body: &Rope) -> Next {
    let sample = node.at("/result/sample");
    let Some(mut image) = sample.and_then(|sample| whole::at_url(sample, body)) else {
        return failed(answer.no_image());
    };
    image.seed = node.at("/result/seed").and_then(Node::u64);
    let codes = codes(&answer, node);
    Next::Done(Box::new(ImageResponse {
        model: answer.model,
        created: None,
        images: vec![image],
        withheld: 0,
        resolved: Resolved::default(),
        usage: usage(&codes),
        codes,
    }))
}

/// Only what is ready costs credits.
fn ended(answer: &Answer, status: &str, node: &Node) -> Failure {
    let details = node.get("details");
    let reasons: Vec<String> = details
        .and_then(|details| details.get("Moderation Reasons"))
        .map_or(&[][..], Node::items)
        .iter()
        .filter_map(|reason| reason.text().map(str::to_owned))
        .collect();
    let told = details.and_then(|details| details.get("error")?.text());
    let message = match (told, reasons.is_empty()) {
        (Some(told), _) => told.to_owned(),
        (None, false) => reasons.join("; "),
        (None, true) => status.to_owned(),
    };
    let (kind, billed, at) = match status {
        INPUT_REFUSED => (FailureKind::Safety, Billed::No, Some(SafetyStage::Input)),
        OUTPUT_REFUSED => (FailureKind::Safety, Billed::No, Some(SafetyStage::Output)),
        "Error" | "Failed" => (FailureKind::Server, Billed::No, None),
        // Nobody knows what became of it.
        _ => (FailureKind::Unknown, Billed::Unknown, None),
    };
    let mut failure = Failure::answered(kind, answer.status(), billed, message);
    if kind != FailureKind::Safety {
        failure.sent = Sent::Answered;
    }
    failure.code = Some(status.to_owned());
    failure.safety = at.map(|at| SafetyBlock {
        at: Some(at),
        categories: reasons,
    });
    failure
}

/// A job that failed may come with an error's status and the words of a job.
fn refused(answer: &Answer, node: Option<&Node>, body: &Rope) -> Failure {
    let told = node.and_then(|node| node.get("status")?.text());
    let mut failure = match (told, node) {
        (Some(told), Some(node)) => ended(answer, told, node),
        _ => {
            let detail = node.and_then(|node| node.get("detail"));
            let message = detail
                .and_then(whole::detail)
                .unwrap_or_else(|| answer.unexplained(body));
            let status = answer.status();
            let kind = match status {
                // A wrong key, in this provider's way of saying it.
                403 if message == "Not authenticated" => FailureKind::Auth,
                status => FailureKind::of_status(status),
            };
            let mut failure = Failure::answered(kind, status, Billed::No, message);
            if status >= 500 {
                failure.sent = Sent::Answered;
            }
            failure
        }
    };
    failure.retry_after = wait::retry_after(&answer.head.headers);
    failure
}
