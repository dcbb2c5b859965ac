//! Answers: pictures at addresses, those that were withheld, jobs, refusals.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::job::{self, Job, JobAsk, JobPlace, JobState};
use super::super::whole::{self, Answer, failed};
use super::super::{Next, Reader, Refusal, Undeliverable, head, wait};
use super::route::{self, JOBS, Route, Spelling};
use crate::bill::{Codes, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Image, ImageRequest, ImageResponse, Picture, SafetyBlock,
    SafetyStage, Sent, Size,
};
use crate::wire::json::Node;
use crate::wire::{Reply, ReplyHead, Rope};

// Answers for a caller.

fn said(body: &Value) -> Reply {
    Reply {
        head: ReplyHead::new(StatusCode::OK, "application/json"),
        body: body.to_string().into(),
    }
}

/// The answer to a call that waits. The newer routes name the generation.
pub(super) fn write(
    asked: &ImageRequest,
    response: &ImageResponse,
) -> Result<Reply, Undeliverable> {
    let mut body = drawn(asked, response)?;
    if spelling(asked) == Some(Spelling::Newer) {
        // Opaque to clients, and nothing can be asked about it: it is done.
        let id = blake3::hash(asked.prompt.as_bytes()).to_hex();
        body["generation_id"] = id[..22].into();
    }
    Ok(said(&body))
}

pub(super) fn write_job(
    asked: &ImageRequest,
    job: JobPlace<'_>,
    asks: Option<JobAsk>,
    state: JobState<'_>,
) -> Result<Reply, Undeliverable> {
    let mut body = match (asks, state) {
        (None, _) => json!({}),
        (Some(_), JobState::Running) => json!({"status": "pending"}),
        (Some(_), JobState::Done(response)) => {
            let mut body = drawn(asked, response)?;
            body["status"] = "completed".into();
            body
        }
        // What moderation stopped ends as any other does, without an address.
        (Some(_), JobState::Failed(refusal)) if refusal.kind == FailureKind::Safety => json!({
            "status": "completed",
            "error": refusal.message,
            "created": written_time(None),
            "data": [{"url": null, "prompt": asked.prompt, "is_image_safe": false, "seed": asked.seed}],
        }),
        (Some(_), JobState::Failed(refusal)) => {
            json!({"status": "failed", "error": refusal.message})
        }
    };
    body["generation_id"] = job.id.into();
    Ok(said(&body))
}

fn drawn(asked: &ImageRequest, response: &ImageResponse) -> Result<Value, Undeliverable> {
    let data: Vec<Value> = response
        .images
        .iter()
        .map(|image| item(asked, image))
        .collect::<Result<_, _>>()?;
    Ok(json!({"created": written_time(response.created), "data": data}))
}

fn item(asked: &ImageRequest, image: &Image) -> Result<Value, Undeliverable> {
    let Picture::Url(url) = &image.picture else {
        let why = "the caller wants a URL, and the picture lies at none";
        return Err(Undeliverable(why.to_owned()));
    };
    let size = image.width.zip(image.height);
    let size = size.map(|(width, height)| Size::Pixels { width, height }.to_string());
    let mut item = json!({
        "url": url,
        "prompt": image.revised_prompt.as_ref().unwrap_or(&asked.prompt),
        "resolution": size,
        "is_image_safe": true,
        "seed": image.seed.or(asked.seed),
    });
    if let Some(style) = &asked.style {
        item["style_type"] = style.as_str().into();
    }
    Ok(item)
}

fn written_time(created: Option<u64>) -> String {
    let seconds = created.and_then(|seconds| i64::try_from(seconds).ok());
    let at = Timestamp::from_second(seconds.unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_string()
}

/// Moderation has a status of its own here, which no other mistake may take.
pub(super) fn write_refusal(refusal: &Refusal) -> Reply {
    let status = match (refusal.kind, refusal.status) {
        (FailureKind::Safety, _) => 422,
        (_, 422) => 400,
        (_, status) => status,
    };
    let mut body = json!({"error": refusal.message});
    if refusal.kind == FailureKind::Quota {
        let reason = refusal.code.as_deref().unwrap_or("insufficient_funds");
        body["reject_reason"] = reason.into();
    }
    Reply {
        head: head::refusal(status, refusal),
        body: body.to_string().into(),
    }
}

// Answers of the provider.

/// A job is asked about in the API that took it on.
pub(super) fn reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    let conclude = match spelling(request) {
        Some(Spelling::Three | Spelling::Four) => older,
        Some(Spelling::Newer) | None => newer,
    };
    whole::reader(request, head, conclude, refused)
}

fn spelling(request: &ImageRequest) -> Option<Spelling> {
    let target = route::target(request);
    Route::of(target.path()).map(|route| route.spelling)
}

fn newer(answer: Answer, node: &Node, body: &Rope) -> Next {
    conclude(answer, node, body, JOBS[0])
}

fn older(answer: Answer, node: &Node, body: &Rope) -> Next {
    conclude(answer, node, body, JOBS[1])
}

fn conclude(answer: Answer, node: &Node, body: &Rope, jobs: &str) -> Next {
    let text = |name: &str| node.get(name).and_then(Node::text);
    let status = text("status").map(str::to_ascii_lowercase);
    let data = node.get("data").filter(|data| !data.is_null());
    let drawn = data.is_some_and(|data| status.is_none() || !data.items().is_empty());
    match (text("generation_id"), status.as_deref()) {
        (_, Some("failed" | "error" | "cancelled" | "canceled")) => failed(ended(&answer, node)),
        // Done, or the answer to a call that waits.
        (_, Some("completed")) => pictures(answer, node, body),
        _ if drawn => pictures(answer, node, body),
        (Some(id), _) => ask(&answer, node, id, jobs),
        (None, _) => failed(answer.no_image()),
    }
}

fn ask(answer: &Answer, node: &Node, id: &str, jobs: &str) -> Next {
    let Ok(target) = format!("{jobs}{id}").parse() else {
        return failed(answer.spoilt("names its job in a way that cannot be asked about"));
    };
    Next::Ask {
        after: job::FIRST_PAUSE,
        message: job::question(target),
        job: Box::new(Job {
            id: id.to_owned(),
            host: None,
            usage: Usage::default(),
            codes: codes(answer, node),
        }),
    }
}

fn codes(answer: &Answer, node: &Node) -> Codes {
    let mut codes = head::codes(&answer.head, &[]);
    let id = node.get("generation_id").and_then(Node::text);
    codes.request_id = id.map(str::to_owned).or(codes.request_id);
    codes
}

/// Pictures that moderation withheld lie at no address. They were drawn, and are billed.
fn pictures(answer: Answer, node: &Node, body: &Rope) -> Next {
    let items = node.get("data").map_or(&[][..], Node::items);
    let unsafe_ones = items.iter().filter(|item| is_withheld(item)).count();
    let shown = items.iter().filter(|item| !is_withheld(item));
    let images: Vec<Image> = shown.filter_map(|item| image(item, body)).collect();
    if images.is_empty() {
        return failed(match unsafe_ones {
            0 => answer.no_image(),
            _ => withheld(&answer),
        });
    }
    let size = items.iter().find_map(|item| resolution(item));
    let created = node.get("created").and_then(Node::text);
    let created = created.and_then(|text| text.parse::<Timestamp>().ok());
    let codes = codes(&answer, node);
    Next::Done(Box::new(ImageResponse {
        model: answer.model,
        created: created.and_then(|at| u64::try_from(at.as_second()).ok()),
        images,
        withheld: u32::try_from(unsafe_ones).unwrap_or(u32::MAX),
        resolved: Resolved {
            size: size.map(str::to_owned),
            ..Resolved::default()
        },
        usage: Usage::default(),
        codes,
    }))
}

fn is_withheld(item: &Node) -> bool {
    item.get("is_image_safe").and_then(Node::bool) == Some(false)
}

fn resolution(item: &Node) -> Option<&str> {
    let said = |name: &str| item.get(name).and_then(Node::text);
    said("upscaled_resolution").or_else(|| said("resolution"))
}

fn image(item: &Node, body: &Rope) -> Option<Image> {
    let mut image = whole::at_url(item.get("url")?, body)?;
    if let Some((width, height)) = resolution(item).and_then(|text| Size::parse(text)?.pixels()) {
        image.width = image.width.or(Some(width));
        image.height = image.height.or(Some(height));
    }
    image.seed = item.get("seed").and_then(Node::u64);
    image.revised_prompt = item.get("prompt").and_then(Node::text).map(str::to_owned);
    Some(image)
}

fn withheld(answer: &Answer) -> Failure {
    let message = "every finished picture was withheld by the safety check";
    let mut failure = Failure::answered(FailureKind::Safety, answer.status(), Billed::Yes, message);
    failure.code = Some("is_image_safe".to_owned());
    failure.safety = Some(SafetyBlock {
        at: Some(SafetyStage::Output),
        categories: Vec::new(),
    });
    failure
}

/// A generation that failed is not billed.
fn ended(answer: &Answer, node: &Node) -> Failure {
    let told = node.get("error").and_then(Node::text);
    let message = told.unwrap_or("the generation failed");
    let kind = match is_about_safety(message) {
        true => FailureKind::Safety,
        false => FailureKind::Server,
    };
    let mut failure = Failure::answered(kind, answer.status(), Billed::No, message);
    match kind {
        FailureKind::Safety => failure.safety = Some(refused_input()),
        _ => failure.sent = Sent::Answered,
    }
    failure
}

fn is_about_safety(message: &str) -> bool {
    message.to_ascii_lowercase().contains("safety check")
}

fn refused_input() -> SafetyBlock {
    SafetyBlock {
        at: Some(SafetyStage::Input),
        categories: Vec::new(),
    }
}

fn refused(answer: &Answer, node: Option<&Node>, body: &Rope) -> Failure {
    let said = |name: &str| node.and_then(|node| node.get(name)?.text());
    let message = said("error").map_or_else(|| answer.unexplained(body), str::to_owned);
    let status = answer.status();
    let kind = match status {
        422 => FailureKind::Safety,
        status => FailureKind::of_status(status),
    };
    let mut failure = Failure::answered(kind, status, Billed::No, message);
    if status >= 500 {
        failure.sent = Sent::Answered;
    }
    failure.code = said("reject_reason").map(str::to_owned);
    failure.safety = (kind == FailureKind::Safety).then(refused_input);
    failure.retry_after = wait::retry_after(&answer.head.headers);
    failure
}
