//! fal: every app at a path of its own, answered at once (`fal.run`) or by a job (`queue.fal.run`).
//!
//! Each app has its own schema, so what is not of the usual one reaches it as it was written. A
//! job that is COMPLETED need not have gone well: its result's own status tells. After the model
//! API documentation of November 2026.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
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
use crate::bill::Usage;
use crate::image::response::Resolved;
use crate::image::{
    Aspect, Billed, Delivery, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse,
    InputRole, ModelId, Operation, Picture, Safety, SafetyBlock, SafetyStage, Sent, Size,
};
use crate::wire::json::Node;
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct Fal;

/// Below this are its hosts.
const DOMAIN: &str = "fal.run";
/// Hosts that answer at once.
const SYNC_HOSTS: [&str; 2] = [DOMAIN, "falrun.com"];
const WEBHOOK: &str = "fal_webhook";
/// The extra field that holds the query string.
const QUERY: &str = "?";
/// Named sizes, width and height.
const NAMED: [(&str, (u32, u32)); 6] = [
    ("square_hd", (1024, 1024)),
    ("square", (512, 512)),
    ("portrait_4_3", (768, 1024)),
    ("portrait_16_9", (576, 1024)),
    ("landscape_4_3", (1024, 768)),
    ("landscape_16_9", (1024, 576)),
];
/// Names of apps that take their pictures as a list.
const LISTS: [&str; 6] = [
    "nano-banana",
    "gpt-image",
    "seedream",
    "flux-2",
    "multi",
    "gemini",
];
/// Units of this app's price that a call cost.
const UNITS: &str = "x-fal-billable-units";
const TELLING: [&str; 5] = [
    UNITS,
    "x-fal-request-id",
    "x-fal-error-type",
    "x-fal-retryable",
    "x-fal-request-timeout-type",
];
const POLICY: &str = "content_policy_violation";

impl Dialect for Fal {
    fn name(&self) -> &'static str {
        "fal"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let app = app(head.path())?;
        (head.method == Method::POST && may_draw(app)).then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let app = app(head.path()).ok_or_else(|| wrong("path", "names no app"))?;
        let mut fields = Loose::of_body(body)?;
        let prompt = fields.text("prompt").unwrap_or_default();
        let mut request = ImageRequest::new(ModelId::new(provider, app), prompt);
        request.operation = operation;
        read_fields(&mut request, &mut fields);
        if !request.inputs.is_empty() {
            request.operation = Operation::Edit;
        }
        request.extra = fields.rest();
        if let Some(query) = head.target.query() {
            request.extra.insert(QUERY.to_owned(), query.into());
        }
        Ok(request)
    }

    fn asks_for_picture(&self, _head: &RequestHead, body: &Bytes) -> bool {
        let fields: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
        fields.is_none_or(|fields| loose::may_ask_for_picture(&fields))
    }

    fn inert(&self) -> &'static [&'static str] {
        &[QUERY]
    }

    fn submits(&self, head: &RequestHead, _asked: &ImageRequest) -> Option<Submit> {
        let query = head.target.query().unwrap_or_default();
        (!SYNC_HOSTS.contains(&head.host.as_str())).then(|| Submit {
            wait: std::time::Duration::ZERO,
            webhook: query.split('&').any(|pair| pair.starts_with(WEBHOOK)),
        })
    }

    fn job_call(&self, head: &RequestHead) -> Option<JobCall> {
        let (_, rest) = head.path().split_once("/requests/")?;
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let asks = match (&head.method, what) {
            (&Method::GET, "") => JobAsk::Result,
            (&Method::GET, "status") => JobAsk::Status,
            (&Method::PUT, "cancel") => JobAsk::Cancel,
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
        match (asks, state) {
            (Some(JobAsk::Result), JobState::Done(response)) => {
                self.write_response(asked, response)
            }
            (Some(JobAsk::Result), JobState::Failed(refusal)) => Ok(write_refusal(refusal)),
            (Some(JobAsk::Result), JobState::Running) => Ok(said(
                StatusCode::BAD_REQUEST,
                &json!({"detail": "Request is still in progress"}),
            )),
            (Some(JobAsk::Cancel), JobState::Running) => Ok(said(
                StatusCode::ACCEPTED,
                &json!({"status": "CANCELLATION_REQUESTED"}),
            )),
            (Some(JobAsk::Cancel), _) => Ok(said(
                StatusCode::BAD_REQUEST,
                &json!({"status": "ALREADY_COMPLETED"}),
            )),
            (asks, state) => Ok(write_status(asked, job, asks, state)),
        }
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        let mut body = Rope::from(Bytes::from_static(b"{\"images\":["));
        for (at, image) in response.images.iter().enumerate() {
            if at > 0 {
                body.push(Bytes::from_static(b","));
            }
            push_picture(&mut body, asked.delivery, image)?;
        }
        let seed = response.images.iter().find_map(|image| image.seed);
        let clear = vec![false; response.images.len()];
        let rest = json!({
            "seed": seed.or(asked.seed), "has_nsfw_concepts": clear, "prompt": asked.prompt,
        });
        body.push(format!("],{}", &rest.to_string()[1..]));
        Ok(Reply {
            head: ReplyHead::new(StatusCode::OK, "application/json"),
            body,
        })
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        write_refusal(refusal)
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        if request.operation == Operation::Variation {
            return Err(unsupported("operation", "there is no usual way to vary"));
        }
        let mut fields = write_fields(request)?;
        let query = fields.remove(QUERY);
        let query = query.as_ref().and_then(Value::as_str);
        let mut target = format!("/{}", request.model.model());
        if let Some(query) = query {
            target = format!("{target}?{query}");
        }
        let target: PathAndQuery = target
            .parse()
            .map_err(|_| unsupported("model", "its name is no path"))?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Ok(Message {
            method: Method::POST,
            target,
            headers,
            body: Value::Object(fields).to_string().into(),
        })
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        if let Ok(mut value) = HeaderValue::from_str(&format!("Key {key}")) {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        whole::reader(request, head, conclude, refused)
    }
}

/// The app at a path: its owner, its name, and which part of it. Neither of the first two is a
/// version, as it is in nearly every other API's paths.
fn app(path: &str) -> Option<&str> {
    let app = path.trim_matches('/');
    let job = app.contains("/requests/") || app.ends_with("/requests");
    let owned = app.contains('/') && !app.split('/').take(2).any(is_version);
    (owned && !job).then_some(app)
}

/// `v1`, `v2beta`.
fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v').unwrap_or_default();
    let number = number.strip_suffix("beta").unwrap_or(number);
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

// Requests.

fn read_fields(request: &mut ImageRequest, fields: &mut Loose) {
    request.negative_prompt = fields.text("negative_prompt");
    request.size = read_size(fields);
    request.n = fields.whole("num_images").filter(|&n| n > 0).unwrap_or(1);
    request.seed = fields.whole("seed");
    request.steps = fields.whole("num_inference_steps");
    request.guidance = fields.number("guidance_scale");
    request.strength = fields.number("strength");
    request.format = fields.word("output_format", known_format);
    request.safety = fields.switch("enable_safety_checker").map(|on| match on {
        true => Safety::Default,
        false => Safety::Relaxed,
    });
    // Without it a picture is put where anybody with its address finds it.
    request.delivery = match fields.switch("sync_mode") {
        Some(true) => Delivery::Base64,
        _ => Delivery::Url,
    };
    for name in ["image_url", "image_urls"] {
        fields.inputs(name, InputRole::Image, &mut request.inputs);
    }
    fields.inputs("mask_url", InputRole::Mask, &mut request.inputs);
}

fn known_format(word: &str) -> Option<Format> {
    match Format::from_media_type(word) {
        Format::Unknown => None,
        format => Some(format),
    }
}

/// A name, two sides, or a shape with a step of resolution.
fn read_size(fields: &mut Loose) -> Size {
    let named = fields.word("image_size", |word| {
        let (_, pixels) = NAMED.iter().find(|(name, _)| *name == word)?;
        Some(*pixels)
    });
    if let Some((width, height)) = named.or_else(|| sides(fields)) {
        return Size::Pixels { width, height };
    }
    match fields.word("aspect_ratio", Aspect::parse) {
        Some(aspect) => Size::Aspect {
            aspect,
            step: fields.text("resolution"),
        },
        None => Size::Auto,
    }
}

fn sides(fields: &mut Loose) -> Option<(u32, u32)> {
    let size = fields.seen("image_size")?;
    let side = |name| u32::try_from(size.get(name)?.as_u64()?).ok();
    let (width, height) = (side("width")?, side("height")?);
    let plain = size.as_object()?.len() == 2 && width > 0 && height > 0;
    if !plain {
        return None;
    }
    fields.object("image_size");
    Some((width, height))
}

/// What our words say wins over what is left in extra.
fn write_fields(request: &ImageRequest) -> Result<Map<String, Value>, Unsupported> {
    let mut fields: Map<String, Value> = request.extra.clone().into_iter().collect();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
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
        Size::Pixels { width, height } => put(
            "image_size",
            Some(json!({"width": width, "height": height})),
        ),
        Size::Aspect { aspect, step } => {
            put("aspect_ratio", Some(aspect.to_string().into()));
            put("resolution", text(step));
        }
    }
    put("num_images", (request.n > 1).then(|| request.n.into()));
    put("seed", request.seed.map(Value::from));
    put("num_inference_steps", request.steps.map(Value::from));
    put(
        "guidance_scale",
        request.guidance.clone().map(Value::Number),
    );
    put("strength", request.strength.clone().map(Value::Number));
    put("output_format", request.format.map(|f| f.as_str().into()));
    let checked = request.safety.map(|safety| safety != Safety::Relaxed);
    put("enable_safety_checker", checked.map(Value::Bool));
    let inline = request.delivery != Delivery::Url;
    put("sync_mode", inline.then_some(Value::Bool(true)));
    let cannot = || {
        unsupported(
            "inputs",
            "a picture kept at another provider cannot be found",
        )
    };
    let images = loose::all_spelt(request, InputRole::Image).ok_or_else(cannot)?;
    let listed = LISTS
        .iter()
        .any(|word| request.model.model().contains(word));
    match images.len() {
        0 => {}
        1 if !listed => put("image_url", images.into_iter().next()),
        _ => put("image_urls", Some(images.into())),
    }
    let masks = loose::all_spelt(request, InputRole::Mask).ok_or_else(cannot)?;
    put("mask_url", masks.into_iter().next());
    Ok(fields)
}

// Answers for a caller.

fn said(status: StatusCode, body: &Value) -> Reply {
    Reply {
        head: ReplyHead::new(status, "application/json"),
        body: body.to_string().into(),
    }
}

fn push_picture(body: &mut Rope, delivery: Delivery, image: &Image) -> Result<(), Undeliverable> {
    body.push(Bytes::from_static(b"{\"url\":"));
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
    let facts = json!({
        "content_type": (image.format != Format::Unknown).then(|| image.format.media_type()),
        "width": image.width,
        "height": image.height,
    });
    body.push(format!(",{}", &facts.to_string()[1..]));
    Ok(())
}

fn write_status(
    asked: &ImageRequest,
    job: JobPlace<'_>,
    asks: Option<JobAsk>,
    state: JobState<'_>,
) -> Reply {
    // Parts of an app share one place for their jobs.
    let model = asked.model.model();
    let app = model.splitn(3, '/').take(2).collect::<Vec<_>>().join("/");
    let place = format!("{}/{app}/requests/{}", job.base, job.id);
    let (status, word) = match (asks, state) {
        (None, _) => (StatusCode::OK, "IN_QUEUE"),
        (Some(_), JobState::Running) => (StatusCode::ACCEPTED, "IN_PROGRESS"),
        (Some(_), _) => (StatusCode::OK, "COMPLETED"),
    };
    let mut body = json!({
        "status": word,
        "request_id": job.id,
        "response_url": place,
        "status_url": format!("{place}/status"),
        "cancel_url": format!("{place}/cancel"),
    });
    match (asks, state) {
        (None, _) => body["queue_position"] = 0.into(),
        (Some(_), JobState::Failed(refusal)) => {
            body["error"] = refusal.message.as_str().into();
            body["error_type"] = error_type(refusal.kind).into();
        }
        _ => body["logs"] = Value::Null,
    }
    said(status, &body)
}

fn error_type(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Safety => POLICY,
        FailureKind::NoImage => "no_media_generated",
        FailureKind::Timeout => "generation_timeout",
        FailureKind::Overloaded => "downstream_service_unavailable",
        FailureKind::Invalid | FailureKind::TooLarge => "value_error",
        FailureKind::RateLimited
        | FailureKind::Quota
        | FailureKind::Auth
        | FailureKind::Permission
        | FailureKind::Retired
        | FailureKind::Network
        | FailureKind::Server
        | FailureKind::Unknown => "internal_server_error",
    }
}

fn write_refusal(refusal: &Refusal) -> Reply {
    // Clients know moderation by this status and type together.
    let (status, kind) = match refusal.kind {
        FailureKind::Safety => (422, POLICY),
        kind => (
            refusal.status,
            refusal.code.as_deref().unwrap_or(error_type(kind)),
        ),
    };
    let listed = matches!(refusal.kind, FailureKind::Safety | FailureKind::Invalid);
    let body = if listed {
        json!({"detail": [{"loc": ["body"], "msg": refusal.message, "type": kind}]})
    } else {
        json!({"detail": refusal.message, "error_type": kind})
    };
    Reply {
        head: head::refusal(status, refusal),
        body: body.to_string().into(),
    }
}

// Answers of the provider.

fn conclude(answer: Answer, node: &Node, body: &Rope) -> Next {
    if let Some(next) = queued(&answer, node) {
        return next;
    }
    let listed = node.get("images").map_or(&[][..], Node::items);
    let items: Vec<&Node> = listed.iter().chain(node.get("image")).collect();
    let flags = node.get("has_nsfw_concepts").map_or(&[][..], Node::items);
    let flagged = |at: usize| flags.get(at).and_then(Node::bool) == Some(true);
    let withheld = (0..items.len()).filter(|&at| flagged(at)).count();
    if withheld > 0 && withheld == items.len() {
        return failed(blackened(&answer));
    }
    let seed = node.get("seed").and_then(Node::u64);
    let shown = items.iter().enumerate().filter(|(at, _)| !flagged(*at));
    let images: Vec<Image> = shown
        .filter_map(|(_, item)| image(item, seed, body))
        .collect();
    if images.is_empty() {
        return failed(answer.no_image());
    }
    let mut codes = head::codes(&answer.head, &TELLING);
    codes.request_id = codes.get("x-fal-request-id").map(str::to_owned);
    for (name, pointer) in [("timings.inference", "/timings/inference")] {
        if let Some(text) = node.at(pointer).and_then(Node::scalar) {
            codes.put(name, text);
        }
    }
    Next::Done(Box::new(ImageResponse {
        model: answer.model,
        created: None,
        images,
        withheld: u32::try_from(withheld).unwrap_or(u32::MAX),
        resolved: Resolved::default(),
        usage: Usage {
            units: codes.get(UNITS).map(str::to_owned),
            ..Usage::default()
        },
        codes,
    }))
}

/// The next question about a job; `None` when the answer is about none.
fn queued(answer: &Answer, node: &Node) -> Option<Next> {
    let id = node.get("request_id")?.text()?.to_owned();
    let status = node.get("status")?.text()?;
    let (host, target) = job::place(node.get("response_url")?.text()?, DOMAIN)?;
    let (after, target) = match status {
        "IN_QUEUE" | "IN_PROGRESS" => (
            job::FIRST_PAUSE,
            format!("{}/status", target.path()).parse().ok()?,
        ),
        "COMPLETED" => (std::time::Duration::ZERO, target),
        _ => return None,
    };
    Some(Next::Ask {
        after,
        message: job::question(target),
        job: Box::new(Job {
            id,
            host,
            usage: Usage::default(),
            codes: head::codes(&answer.head, &TELLING),
        }),
    })
}

fn image(item: &Node, seed: Option<u64>, body: &Rope) -> Option<Image> {
    let url = item.get("url").unwrap_or(item);
    let mut image = whole::at_url(url, body)?;
    let side = |name| {
        item.get(name)?
            .u64()
            .and_then(|side| u32::try_from(side).ok())
    };
    image.width = image.width.or_else(|| side("width"));
    image.height = image.height.or_else(|| side("height"));
    if image.format == Format::Unknown
        && let Some(declared) = item.get("content_type").and_then(Node::text)
    {
        image.format = Format::from_media_type(declared);
    }
    image.seed = seed;
    Some(image)
}

/// Every picture was drawn, charged, and painted black.
fn blackened(answer: &Answer) -> Failure {
    let message = "the finished picture was blacked out by the safety checker";
    let mut failure = Failure::answered(FailureKind::Safety, answer.status(), Billed::Yes, message);
    failure.code = Some("has_nsfw_concepts".to_owned());
    failure.safety = Some(SafetyBlock {
        at: Some(SafetyStage::Output),
        categories: Vec::new(),
    });
    failure
}

fn refused(answer: &Answer, node: Option<&Node>, body: &Rope) -> Failure {
    let status = answer.status();
    let detail = node.and_then(|node| node.get("detail"));
    let kind_of = |node: &Node, name: &str| Some(node.get(name)?.text()?.to_owned());
    let code = detail
        .and_then(|detail| detail.items().first())
        .and_then(|first| kind_of(first, "type"))
        .or_else(|| kind_of(node?, "error_type"))
        .or_else(|| answer.head.header("x-fal-error-type").map(str::to_owned));
    let message = detail
        .and_then(whole::detail)
        .unwrap_or_else(|| answer.unexplained(body));
    let kind = failure_kind(code.as_deref(), &message, status);
    let mut failure = Failure::answered(kind, status, billed(answer, kind), message);
    if status >= 500 {
        failure.sent = Sent::Answered;
    }
    failure.safety = (kind == FailureKind::Safety).then(|| SafetyBlock {
        at: None,
        categories: Vec::new(),
    });
    failure.code = code;
    failure.retry_after = wait::retry_after(&answer.head.headers);
    failure
}

/// An error of 5xx is never charged, one of 4xx neither; but for a refusal that a machine worked
/// out, which its units tell of, if anything does.
fn billed(answer: &Answer, kind: FailureKind) -> Billed {
    let units = answer.head.header(UNITS);
    match units.map(|units| units.trim_matches(['0', '.']).is_empty()) {
        Some(true) => Billed::No,
        Some(false) => Billed::Yes,
        None if kind == FailureKind::Safety || kind == FailureKind::NoImage => Billed::Unknown,
        None => Billed::No,
    }
}

fn failure_kind(code: Option<&str>, message: &str, status: u16) -> FailureKind {
    match code {
        Some(POLICY) => FailureKind::Safety,
        Some("no_media_generated") => FailureKind::NoImage,
        Some("request_timeout" | "startup_timeout" | "generation_timeout") => FailureKind::Timeout,
        Some("downstream_service_unavailable") => FailureKind::Overloaded,
        _ if message.starts_with("User is locked") => FailureKind::Quota,
        _ => FailureKind::of_status(status),
    }
}
