//! Reads answers of Stability: a picture as bytes with the facts in headers, or as JSON.
//!
//! Errors and bytes are the same in the older routes, which read them here too.

use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};

use super::super::{Next, Progress, Reader, head, picture, wait};
use crate::bill::Usage;
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Format, ImageRequest, ImageResponse, ModelId, Picture,
    SafetyBlock, SafetyStage, Sent,
};
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::{ReplyHead, Rope};

/// Without a header of its own, a limit that was passed shuts for a minute.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(60);
/// Why an answer ended, when moderation blurred its picture.
pub(in super::super) const FILTERED: &str = "CONTENT_FILTERED";

/// A reader for an answer that is the picture itself.
pub(in super::super) fn bytes_reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    Box::new(BytesReader {
        answer: Answer::to(request, head),
    })
}

/// A reader for a JSON text.
pub(super) fn text_reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    Box::new(TextReader {
        answer: Answer::to(request, head),
        scanner: Ok(Scanner::new(0)),
    })
}

/// What is known of the answer before its body.
struct Answer {
    model: ModelId,
    head: ReplyHead,
}

/// Reads a body that is the picture itself.
struct BytesReader {
    answer: Answer,
}

impl Reader for BytesReader {
    fn feed(&mut self, _chunk: &[u8]) -> Progress {
        match self.answer.head.header("finish-reason") {
            Some(FILTERED) => Progress::Failed,
            _ => Progress::Pass,
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let reason = self.answer.head.header("finish-reason").map(str::to_owned);
        // The length of an encoded body says nothing of the decoded one.
        let encoded = self.answer.head.header(CONTENT_ENCODING).is_some();
        let announced = self.answer.head.header(CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.parse::<usize>().ok());
        if !encoded && announced.is_some_and(|length| length > body.len()) {
            return self.answer.spoilt("ended within the picture");
        }
        let seed = self
            .answer
            .head
            .header("seed")
            .and_then(|seed| seed.parse().ok());
        let picture = Picture::Raw(body.clone());
        self.answer.conclude(Some(picture), reason.as_deref(), seed)
    }
}

/// Reads a JSON text. Why it ended stands behind the picture, so it waits for the end.
struct TextReader {
    answer: Answer,
    scanner: Result<Scanner, NotJson>,
}

impl Reader for TextReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        if let Ok(scanner) = &mut self.scanner
            && let Err(error) = scanner.feed(chunk)
        {
            self.scanner = Err(error);
        }
        if self.scanner.is_ok() && self.answer.head.status.is_success() {
            Progress::Wait
        } else {
            Progress::Failed
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let node = self.scanner.and_then(Scanner::finish);
        if !self.answer.head.status.is_success() {
            let failure = refused(&self.answer.head, node.ok().as_ref(), body);
            return Next::Failed(Box::new(failure));
        }
        let node = match node {
            Ok(node) => node,
            Err(_) if body.is_empty() => return self.answer.conclude(None, None, None),
            Err(error) => return self.answer.spoilt(&format!("is not whole JSON: {error}")),
        };
        // The result of a job is called `result` on the older routes.
        let image = node.get("image").or_else(|| node.get("result"));
        let picture = image.and_then(|image| picture::from_node(image, body));
        let reason = node.get("finish_reason").and_then(Node::text);
        let seed = node.get("seed").and_then(Node::u64);
        self.answer.conclude(picture, reason, seed)
    }
}

impl Answer {
    fn to(request: &ImageRequest, head: &ReplyHead) -> Answer {
        Answer {
            model: request.model.clone(),
            head: head.clone(),
        }
    }

    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    fn conclude(self, picture: Option<Picture>, reason: Option<&str>, seed: Option<u64>) -> Next {
        let status = self.status();
        if reason == Some(FILTERED) {
            return Next::Failed(Box::new(blurred(status)));
        }
        // `application/json; type=image/png` names the picture's type behind its own.
        let declared = self.head.header(CONTENT_TYPE).unwrap_or_default();
        let declared = declared
            .split_once("type=")
            .map_or(declared, |(_, kind)| kind);
        let declared = Format::from_media_type(declared);
        let Some(mut image) = picture.and_then(|picture| picture::image(picture, declared)) else {
            let message = "the provider answered without a picture";
            let failure = Failure::answered(FailureKind::NoImage, status, Billed::Unknown, message);
            return Next::Failed(Box::new(failure));
        };
        image.seed = seed;
        let mut codes = head::codes(&self.head, &[]);
        if let Some(reason) = reason {
            codes.put("finish_reason", reason);
        }
        let format = (image.format != Format::Unknown).then(|| image.format.as_str().to_owned());
        Next::Done(Box::new(ImageResponse {
            model: self.model,
            created: None,
            images: vec![image],
            withheld: 0,
            resolved: Resolved {
                format,
                ..Resolved::default()
            },
            usage: Usage::default(),
            codes,
        }))
    }

    fn spoilt(self, why: &str) -> Next {
        let message = format!("the provider's answer {why}");
        let failure =
            Failure::answered(FailureKind::Server, self.status(), Billed::Unknown, message);
        Next::Failed(Box::new(failure))
    }
}

/// The failure that an answer under an error's status tells of. A failed call is free, whoever's
/// fault it was.
pub(in super::super) fn refused(head: &ReplyHead, node: Option<&Node>, body: &Rope) -> Failure {
    let status = head.status.as_u16();
    let text = |name: &str| Some(node?.get(name)?.text()?.to_owned());
    let name = text("name");
    let kind = failure_kind(name.as_deref(), status);
    let message = message(node).unwrap_or_else(|| head::unexplained(head, body));
    let mut failure = Failure::answered(kind, status, Billed::No, message);
    if status >= 500 {
        failure.sent = Sent::Answered;
    }
    failure.code = name;
    failure.retry_after = wait::retry_after(&head.headers)
        .or_else(|| (kind == FailureKind::RateLimited).then_some(RATE_LIMIT_WAIT));
    failure.safety = (kind == FailureKind::Safety).then(|| SafetyBlock {
        at: Some(SafetyStage::Input),
        categories: Vec::new(),
    });
    failure
}

/// A picture that moderation blurred counts as a success over there: it was drawn, and is charged.
pub(in super::super) fn blurred(status: u16) -> Failure {
    let message = "the finished picture was blurred by content moderation";
    let mut failure = Failure::answered(FailureKind::Safety, status, Billed::Yes, message);
    failure.code = Some(FILTERED.to_owned());
    failure.safety = Some(SafetyBlock {
        at: Some(SafetyStage::Output),
        categories: Vec::new(),
    });
    failure
}

fn failure_kind(name: Option<&str>, status: u16) -> FailureKind {
    match name {
        Some("content_moderation" | "invalid_prompts") => FailureKind::Safety,
        Some("unauthorized") => FailureKind::Auth,
        Some("payment_required") => FailureKind::Quota,
        Some("permission_denied") => FailureKind::Permission,
        Some("payload_too_large") => FailureKind::TooLarge,
        Some("rate_limit_exceeded") => FailureKind::RateLimited,
        _ => FailureKind::of_status(status),
    }
}

/// The list of `errors`, or the `message` of older routes.
fn message(node: Option<&Node>) -> Option<String> {
    let listed = node?.get("errors").map_or(&[][..], Node::items);
    let errors: Vec<&str> = listed.iter().filter_map(Node::text).collect();
    let one = || node?.get("message")?.text().map(str::to_owned);
    if errors.is_empty() {
        one()
    } else {
        Some(errors.join("; "))
    }
}
