//! Replicate: predictions of official models, of versions and of deployments.
//!
//! Every call makes a prediction; whoever says `Prefer: wait` gets it when it is done, if that is
//! soon enough. What a model takes stands under `input` and is the model's own. A prediction that
//! moderation stopped is one that failed, with words of its own. After the HTTP API reference of
//! November 2026.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Value, json};

use super::form::wrong;
use super::job::{self, Job, JobAsk, JobCall, JobPlace, JobState, Submit};
use super::loose::{self, Loose, may_draw};
use super::whole::{self, Answer, failed};
use super::{
    Dialect, Next, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head, picture,
    unsupported, wait,
};
use crate::bill::{Codes, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Delivery, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, InputRole,
    ModelId, Operation, Picture, Quality, Safety, SafetyBlock, SafetyStage, Sent, Size,
};
use crate::money::Usd;
use crate::wire::json::Node;
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct Replicate;

const PREDICTIONS: &str = "/v1/predictions";
const DEPLOYMENTS: &str = "deployments/";
/// Before the names of fields that stand beside `input`.
const BESIDE: &str = "/";
/// Where a model takes its pictures, by a word in its name; elsewhere under `image`.
const PICTURES_AT: [(&str, &str); 5] = [
    ("kontext", "input_image"),
    ("nano-banana", "image_input"),
    ("seedream", "image_input"),
    ("flux-2", "input_images"),
    ("gpt-image", "input_images"),
];
/// Without a number, the longest that the API waits.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Pictures are taken away an hour after the prediction.
const URL_LIFE: Duration = Duration::from_secs(3600);
/// Words of moderation in a failed prediction, lower case.
const SAFETY: [&str; 4] = ["nsfw", "flagged as sensitive", "e005", "safety"];
const FLAGGED: &str = "Content flagged";

impl Dialect for Replicate {
    fn name(&self) -> &'static str {
        "replicate"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let model = model_of_path(head.path())?;
        (head.method == Method::POST && may_draw(model)).then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let mut beside = Loose::of_body(body)?;
        let named = model_of_path(head.path()).filter(|model| !model.is_empty());
        let version = named.map(str::to_owned).or_else(|| beside.text("version"));
        let Some(model) = version else {
            return Err(wrong("version", "is missing"));
        };
        let mut fields = Loose::of(beside.object("input").unwrap_or_default());
        let prompt = fields.text("prompt").unwrap_or_default();
        let mut request = ImageRequest::new(ModelId::new(provider, &model), prompt);
        request.operation = operation;
        request.delivery = Delivery::Url;
        read_fields(&mut request, &mut fields);
        if !request.inputs.is_empty() {
            request.operation = Operation::Edit;
        }
        request.extra = fields.rest();
        let beside = beside.rest().into_iter();
        request
            .extra
            .extend(beside.map(|(name, value)| (format!("{BESIDE}{name}"), value)));
        Ok(request)
    }

    /// A version does not say what it makes; what it is given may.
    fn asks_for_picture(&self, _head: &RequestHead, body: &Bytes) -> bool {
        let input = Loose::of_body(body).ok();
        let input = input.and_then(|mut fields| fields.object("input"));
        input.is_none_or(|input| loose::may_ask_for_picture(&input))
    }

    fn inert(&self) -> &'static [&'static str] {
        &["/stream", "/webhook", "/webhook_events_filter"]
    }

    fn submits(&self, head: &RequestHead, asked: &ImageRequest) -> Option<Submit> {
        Some(Submit {
            wait: prefers(head.header("prefer").unwrap_or_default()),
            webhook: asked.extra.contains_key("/webhook"),
        })
    }

    fn job_call(&self, head: &RequestHead) -> Option<JobCall> {
        let rest = head.path().strip_prefix(PREDICTIONS)?.strip_prefix('/')?;
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let asks = match (&head.method, what) {
            (&Method::GET, "") => JobAsk::Result,
            (&Method::POST, "cancel") => JobAsk::Cancel,
            _ => return None,
        };
        (!id.is_empty()).then(|| JobCall {
            id: id.to_owned(),
            asks,
        })
    }

    fn write_job(
        &self,
        asked: &ImageRequest,
        job: JobPlace<'_>,
        asks: Option<JobAsk>,
        state: JobState<'_>,
    ) -> Result<Reply, Undeliverable> {
        let status = match asks {
            None => StatusCode::CREATED,
            Some(_) => StatusCode::OK,
        };
        prediction(asked, job, status, state)
    }

    /// In answer to a call that waits.
    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        // Opaque to clients, and nothing can be asked about it: it is done.
        let id = blake3::hash(asked.prompt.as_bytes()).to_hex();
        let job = JobPlace {
            id: &id[..26],
            base: "https://api.replicate.com",
        };
        prediction(asked, job, StatusCode::CREATED, JobState::Done(response))
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        let (status, title) = match refusal.kind {
            FailureKind::Safety => (422, FLAGGED),
            FailureKind::Quota => (refusal.status, "Insufficient credit"),
            FailureKind::Auth => (refusal.status, "Unauthenticated"),
            FailureKind::Invalid => (refusal.status, "Input validation failed"),
            _ => (refusal.status, "Prediction not made"),
        };
        let head = head::refusal(status, refusal);
        let body = json!({
            "title": title, "detail": refusal.message, "status": head.status.as_u16(),
        });
        Reply {
            head,
            body: body.to_string().into(),
        }
    }

    fn url_life(&self) -> Option<Duration> {
        Some(URL_LIFE)
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        if request.operation == Operation::Variation {
            return Err(unsupported("operation", "there is no usual way to vary"));
        }
        let model = request.model.model();
        let (mut body, input) = write_fields(request)?;
        let path = if let Some(deployment) = model.strip_prefix(DEPLOYMENTS) {
            format!("/v1/deployments/{deployment}/predictions")
        } else if model.contains('/') && !model.contains(':') {
            format!("/v1/models/{model}/predictions")
        } else {
            body.insert("version".to_owned(), model.into());
            PREDICTIONS.to_owned()
        };
        let target: PathAndQuery = path
            .parse()
            .map_err(|_| unsupported("model", "its name is no path"))?;
        body.insert("input".to_owned(), Value::Object(input));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Message {
            method: Method::POST,
            target,
            headers,
            body: Value::Object(body).to_string().into(),
        })
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        whole::reader(request, head, conclude, refused)
    }
}

/// The model that a path names, empty where the body does.
fn model_of_path(path: &str) -> Option<&str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path == PREDICTIONS {
        return Some("");
    }
    let named = path.strip_prefix("/v1/")?.strip_suffix("/predictions")?;
    let model = named.strip_prefix("models/").unwrap_or(named);
    let owned = model.strip_prefix(DEPLOYMENTS).unwrap_or(model);
    let known = named.starts_with("models/") || named.starts_with(DEPLOYMENTS);
    (known && owned.split('/').count() == 2).then_some(model)
}

/// `wait`, `wait=10`: so long the caller waits.
fn prefers(preference: &str) -> Duration {
    let mut words = preference.split([',', ';']).map(str::trim);
    words
        .find_map(|word| match word.strip_prefix("wait") {
            Some("") => Some(LONGEST_WAIT),
            Some(rest) => {
                let seconds = rest.strip_prefix('=')?.trim().parse().ok()?;
                Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
            }
            None => None,
        })
        .unwrap_or_default()
}

// Requests.

fn read_fields(request: &mut ImageRequest, fields: &mut Loose) {
    request.negative_prompt = fields.text("negative_prompt");
    request.size = loose::read_size(fields);
    request.n = fields.whole("num_outputs").filter(|&n| n > 0).unwrap_or(1);
    request.seed = fields.whole("seed");
    request.steps = fields.whole("num_inference_steps");
    request.guidance = fields.number("guidance");
    // Some models spell it so; it stays, so that it is spelt the same way again.
    if request.guidance.is_none() {
        request.guidance = fields
            .seen("guidance_scale")
            .and_then(|v| v.as_number().cloned());
    }
    request.strength = fields.number("prompt_strength");
    request.quality = fields.word("quality", Quality::parse);
    request.format = fields.word("output_format", |word| {
        match Format::from_media_type(word) {
            Format::Unknown => None,
            format => Some(format),
        }
    });
    request.compression = fields
        .whole("output_quality")
        .filter(|&percent| percent <= 100);
    request.safety = fields
        .switch("disable_safety_checker")
        .map(|off| match off {
            true => Safety::Relaxed,
            false => Safety::Default,
        });
    for name in ["image", "input_image", "image_input", "input_images"] {
        fields.inputs(name, InputRole::Image, &mut request.inputs);
    }
    fields.inputs("mask", InputRole::Mask, &mut request.inputs);
}

/// What stands beside `input`, and `input`. What our words say wins over what is left in extra.
fn write_fields(
    request: &ImageRequest,
) -> Result<(Map<String, Value>, Map<String, Value>), Unsupported> {
    let (mut beside, mut input) = (Map::new(), Map::new());
    for (name, value) in &request.extra {
        match name.strip_prefix(BESIDE) {
            Some(name) => beside.insert(name.to_owned(), value.clone()),
            None => input.insert(name.clone(), value.clone()),
        };
    }
    let scaled = input.contains_key("guidance_scale");
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            input.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put(
        "prompt",
        (!request.prompt.is_empty()).then(|| request.prompt.as_str().into()),
    );
    put("negative_prompt", text(&request.negative_prompt));
    match &request.size {
        Size::Auto => {}
        Size::Pixels { width, height } => {
            put("width", Some((*width).into()));
            put("height", Some((*height).into()));
        }
        Size::Aspect { aspect, step } => {
            put("aspect_ratio", Some(aspect.to_string().into()));
            put("resolution", text(step));
        }
    }
    put("num_outputs", (request.n > 1).then(|| request.n.into()));
    put("seed", request.seed.map(Value::from));
    put("num_inference_steps", request.steps.map(Value::from));
    let guidance = if scaled { "guidance_scale" } else { "guidance" };
    put(guidance, request.guidance.clone().map(Value::Number));
    put(
        "prompt_strength",
        request.strength.clone().map(Value::Number),
    );
    put("quality", request.quality.map(|q| q.as_str().into()));
    let format = request.format.map(|format| match format {
        Format::Jpeg => "jpg", // as nearly all models here spell it
        format => format.as_str(),
    });
    put("output_format", format.map(Value::from));
    put("output_quality", request.compression.map(Value::from));
    let unchecked = request.safety.map(|safety| safety == Safety::Relaxed);
    put("disable_safety_checker", unchecked.map(Value::Bool));
    let cannot = || {
        unsupported(
            "inputs",
            "a picture kept at another provider cannot be found",
        )
    };
    let mut images = loose::all_spelt(request, InputRole::Image).ok_or_else(cannot)?;
    if !images.is_empty() {
        let model = request.model.model();
        let at = PICTURES_AT.iter().find(|(word, _)| model.contains(word));
        let name = at.map_or("image", |(_, name)| name);
        let listed = images.len() > 1 || name.contains("images") || name == "image_input";
        let value = match listed {
            true => images.into(),
            false => images.swap_remove(0),
        };
        put(name, Some(value));
    }
    let masks = loose::all_spelt(request, InputRole::Mask).ok_or_else(cannot)?;
    put("mask", masks.into_iter().next());
    Ok((beside, input))
}

// Answers for a caller.

fn prediction(
    asked: &ImageRequest,
    job: JobPlace<'_>,
    status: StatusCode,
    state: JobState<'_>,
) -> Result<Reply, Undeliverable> {
    let (word, error) = match state {
        JobState::Running => ("processing", None),
        JobState::Done(_) => ("succeeded", None),
        JobState::Failed(refusal) => ("failed", Some(in_words(refusal))),
    };
    let get = format!("{}{PREDICTIONS}/{}", job.base, job.id);
    let model = asked.model.model();
    // Official models have versions, and tell nobody which.
    let version = match model.contains('/') {
        true => model
            .split_once(':')
            .map_or("hidden", |(_, version)| version),
        false => model,
    };
    let told = json!({
        "id": job.id,
        "model": model,
        "version": version,
        "status": word,
        "error": error,
        "logs": "",
        "source": "api",
        "data_removed": false,
        "input": {"prompt": asked.prompt},
        "urls": {"get": get, "cancel": format!("{get}/cancel")},
    });
    let mut body = Rope::from(Bytes::from_static(b"{\"output\":"));
    match state {
        JobState::Done(response) => {
            for (at, image) in response.images.iter().enumerate() {
                body.push(Bytes::from_static(if at == 0 { b"[" } else { b"," }));
                push_picture(&mut body, asked.delivery, image)?;
            }
            let drawn = json!({"image_count": response.images.len()});
            body.push(format!("],\"metrics\":{drawn}"));
        }
        JobState::Running | JobState::Failed(_) => body.push(Bytes::from_static(b"null")),
    }
    body.push(format!(",{}", &told.to_string()[1..]));
    Ok(Reply {
        head: ReplyHead::new(status, "application/json"),
        body,
    })
}

/// Clients know moderation by a word in the text.
fn in_words(refusal: &Refusal) -> String {
    let lower = refusal.message.to_ascii_lowercase();
    if refusal.kind == FailureKind::Safety && !SAFETY.iter().any(|word| lower.contains(word)) {
        return format!("NSFW content detected: {}", refusal.message);
    }
    refusal.message.clone()
}

fn push_picture(body: &mut Rope, delivery: Delivery, image: &Image) -> Result<(), Undeliverable> {
    match (delivery, &image.picture) {
        (Delivery::Url, Picture::Url(url)) => body.push(json!(url).to_string()),
        (Delivery::Url, _) => {
            let why = "the caller wants a URL, and the picture lies at none";
            return Err(Undeliverable(why.to_owned()));
        }
        (_, picture) => {
            body.push(format!("\"data:{};base64,", image.format.media_type()));
            body.append(&picture::base64(picture)?);
            body.push(Bytes::from_static(b"\""));
        }
    }
    Ok(())
}

// Answers of the provider.

fn conclude(answer: Answer, node: &Node, body: &Rope) -> Next {
    let text = |name: &str| node.get(name).and_then(Node::text);
    let codes = codes(&answer, node);
    match text("status") {
        Some("starting" | "processing" | "queued") => {
            let ask = ask(node, codes);
            ask.unwrap_or_else(|| failed(answer.spoilt("names no place to ask about it")))
        }
        Some("failed") => failed(stopped(&answer, text("error"))),
        Some(word @ ("canceled" | "aborted")) => {
            // Ended before it began it costs nothing; while it ran, the time it took.
            let billed = match word {
                "aborted" => Billed::No,
                _ => Billed::Unknown,
            };
            let message = "the prediction was cancelled";
            let mut failure =
                Failure::answered(FailureKind::Unknown, answer.status(), billed, message);
            failure.code = Some(word.to_owned());
            failed(failure)
        }
        _ => drawn(answer, node, codes, body),
    }
}

fn codes(answer: &Answer, node: &Node) -> Codes {
    let mut codes = head::codes(&answer.head, &[]);
    codes.request_id = node.get("id").and_then(Node::text).map(str::to_owned);
    for name in ["predict_time", "total_time", "image_count"] {
        if let Some(text) = node.at(&format!("/metrics/{name}")).and_then(Node::scalar) {
            codes.put(format!("metrics.{name}"), text);
        }
    }
    codes
}

fn ask(node: &Node, codes: Codes) -> Option<Next> {
    let (host, target) = job::place(node.at("/urls/get")?.text()?, "replicate.com")?;
    Some(Next::Ask {
        after: job::FIRST_PAUSE,
        message: job::question(target),
        job: Box::new(Job {
            id: node.get("id")?.text()?.to_owned(),
            host,
            usage: Usage::default(),
            codes,
        }),
    })
}

/// The output is one URL or a list of them.
fn drawn(answer: Answer, node: &Node, codes: Codes, body: &Rope) -> Next {
    let output = node.get("output").unwrap_or(&Node::Null);
    let items = match output {
        Node::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let seed = node.at("/input/seed").and_then(Node::u64);
    let mut images: Vec<Image> = items
        .iter()
        .filter_map(|item| whole::at_url(item, body))
        .filter(|image| is_address(&image.picture))
        .collect();
    if images.is_empty() {
        return failed(answer.no_image());
    }
    if let [only] = images.as_mut_slice() {
        only.seed = seed;
    }
    Next::Done(Box::new(ImageResponse {
        model: answer.model,
        created: None,
        images,
        withheld: 0,
        resolved: Resolved::default(),
        usage: Usage {
            millis: codes.get("metrics.predict_time").and_then(millis),
            ..Usage::default()
        },
        codes,
    }))
}

/// Seconds as exact text, in milliseconds.
fn millis(seconds: &str) -> Option<u64> {
    // The same digits as of money, and no float.
    let nanos = seconds.parse::<Usd>().ok()?.nano();
    u64::try_from(nanos / 1_000_000).ok()
}

/// Models of language give texts here.
fn is_address(picture: &Picture) -> bool {
    match picture {
        Picture::Url(url) => url.split_once("://").is_some_and(|(scheme, rest)| {
            let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
            plain(scheme) && plain(rest)
        }),
        Picture::Raw(_) | Picture::Base64(_) => true,
    }
}

/// A prediction that failed. What that costs depends on the model, and nobody says.
fn stopped(answer: &Answer, error: Option<&str>) -> Failure {
    let message = error.unwrap_or("the prediction failed without a word");
    let lower = message.to_ascii_lowercase();
    let safety = SAFETY.iter().any(|word| lower.contains(word));
    let kind = match safety {
        true => FailureKind::Safety,
        false => FailureKind::Server,
    };
    let mut failure = Failure::answered(kind, answer.status(), Billed::Unknown, message);
    // `… (code: PA)`
    failure.code = message
        .rsplit_once("(code: ")
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map(str::to_owned);
    failure.safety = safety.then(|| SafetyBlock {
        at: Some(SafetyStage::Output),
        categories: Vec::new(),
    });
    failure
}

fn refused(answer: &Answer, node: Option<&Node>, body: &Rope) -> Failure {
    let status = answer.status();
    let text = |name: &str| Some(node?.get(name)?.text()?.to_owned());
    let title = text("title");
    let message = text("detail")
        .or_else(|| title.clone())
        .unwrap_or_else(|| answer.unexplained(body));
    let kind = match title.as_deref() {
        Some(FLAGGED) => FailureKind::Safety,
        _ => FailureKind::of_status(status),
    };
    let billed = match status {
        408 => Billed::Unknown,
        400..=499 | 503 => Billed::No,
        _ => Billed::Unknown,
    };
    let mut failure = Failure::answered(kind, status, billed, message.trim());
    if status >= 500 {
        failure.sent = Sent::Answered;
    }
    failure.retry_after = wait::retry_after(&answer.head.headers)
        .or_else(|| (kind == FailureKind::RateLimited).then(|| resets_in(&message))?);
    failure.code = title;
    failure.safety = (kind == FailureKind::Safety).then(SafetyBlock::default);
    failure
}

/// `Your rate limit resets in ~30s.`
fn resets_in(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once('~')?;
    let (seconds, _) = rest.split_once('s')?;
    seconds.parse().ok().map(Duration::from_secs)
}
