//! Answers of Imagen: a list in which pictures, notices of filters and scores stand side by side.

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use super::super::{Next, Progress, Reader, Refusal, Undeliverable, head, picture};
use super::error;
use crate::bill::Usage;
use crate::image::response::Resolved;
use crate::image::{
    Billed, Delivery, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, ModelId,
    Picture,
};
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::{Reply, ReplyHead, Rope};

const DATA: &str = "bytesBase64Encoded";
const FILTERED: &str = "raiFilteredReason";

// Answers for a caller.

pub(super) fn write(
    asked: &ImageRequest,
    response: &ImageResponse,
) -> Result<Reply, Undeliverable> {
    let mut body = Rope::from(Bytes::from_static(b"{\"predictions\":["));
    for (at, image) in response.images.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let kind = image.format.media_type();
        body.push(format!("{comma}{{\"mimeType\":\"{kind}\""));
        write_picture(&mut body, asked.delivery, image)?;
        if let Some(prompt) = &image.revised_prompt {
            body.push(format!(",\"prompt\":{}", json!(prompt)));
        }
        body.push(Bytes::from_static(b"}"));
    }
    body.push(Bytes::from_static(b"]}"));
    Ok(Reply {
        head: ReplyHead::new(StatusCode::OK, "application/json; charset=UTF-8"),
        body,
    })
}

/// A caller that names a bucket gets an address: the bucket's, or where else the picture lies.
fn write_picture(body: &mut Rope, delivery: Delivery, image: &Image) -> Result<(), Undeliverable> {
    match (delivery, &image.picture) {
        (Delivery::Url, Picture::Url(url)) => body.push(format!(",\"gcsUri\":{}", json!(url))),
        (Delivery::Url, _) => {
            let why = "the caller wants it in its bucket, and the picture lies at no address";
            return Err(Undeliverable(why.to_owned()));
        }
        (Delivery::Base64 | Delivery::Bytes, picture) => {
            body.push(format!(",\"{DATA}\":\""));
            body.append(&picture::base64(picture)?);
            body.push(Bytes::from_static(b"\""));
        }
    }
    Ok(())
}

/// Moderation is no error here: a notice stands in place of the picture.
pub(super) fn refusal(refusal: &Refusal) -> Reply {
    if refusal.kind != FailureKind::Safety {
        return error::refusal(refusal);
    }
    let body = json!({"predictions": [{FILTERED: refusal.message}]});
    Reply {
        head: error::moderated(refusal),
        body: body.to_string().into(),
    }
}

// Answers of the provider.

pub(super) fn reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    Box::new(PredictionReader {
        model: request.model.clone(),
        head: head.clone(),
        scanner: Ok(Scanner::new(0)),
        begun: false,
    })
}

struct PredictionReader {
    model: ModelId,
    head: ReplyHead,
    scanner: Result<Scanner, NotJson>,
    begun: bool,
}

impl Reader for PredictionReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        if let Ok(scanner) = &mut self.scanner {
            if let Err(error) = scanner.feed(chunk) {
                self.scanner = Err(error);
            } else {
                self.begun |= scanner.in_long() == Some(DATA);
            }
        }
        match (&self.scanner, self.begun) {
            _ if !self.head.status.is_success() => Progress::Failed,
            (_, true) => Progress::Pass,
            (Ok(_), false) => Progress::Wait,
            (Err(_), false) => Progress::Failed,
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let status = self.head.status.as_u16();
        let node = self.scanner.and_then(Scanner::finish);
        let failed = |failure| Next::Failed(Box::new(failure));
        if !self.head.status.is_success() {
            return failed(error::refused(&self.head, node.ok().as_ref(), body));
        }
        let node = match node {
            Ok(node) => node,
            Err(_) if body.is_empty() => {
                let message = "the provider answered without a picture";
                let kind = FailureKind::NoImage;
                return failed(Failure::answered(kind, status, Billed::Unknown, message));
            }
            Err(error) => {
                let message = format!("the provider's answer is not whole JSON: {error}");
                let kind = FailureKind::Server;
                return failed(Failure::answered(kind, status, Billed::Unknown, message));
            }
        };
        // Filters leave predictions out; they do not make anything else of them.
        let is_answer = matches!(node, Node::Object(_))
            && matches!(node.get("predictions"), None | Some(Node::Array(_)));
        if !is_answer {
            let message = "the provider's answer is no list of predictions";
            let kind = FailureKind::Server;
            return failed(Failure::answered(kind, status, Billed::Unknown, message));
        }
        let mut images = Vec::new();
        let mut notices = Vec::new();
        for prediction in node.get("predictions").map_or(&[][..], Node::items) {
            images.extend(image(prediction, body));
            notices.extend(
                prediction
                    .get(FILTERED)
                    .map(|text| error::words(text, body)),
            );
        }
        if images.is_empty() {
            return failed(withheld(&self.head, notices));
        }
        let mut codes = head::codes(&self.head, &[]);
        let mut categories = Vec::new();
        for notice in &notices {
            categories.extend(error::filtered(notice).categories);
        }
        if !categories.is_empty() {
            codes.put(FILTERED, categories.join(","));
        }
        Next::Done(Box::new(ImageResponse {
            model: self.model,
            created: None,
            images,
            withheld: u32::try_from(notices.len()).unwrap_or(u32::MAX),
            resolved: Resolved::default(),
            usage: Usage::default(),
            codes,
        }))
    }
}

/// The picture of a prediction, if it is one: what holds neither bytes nor an address holds scores
/// or a notice.
fn image(prediction: &Node, body: &Rope) -> Option<Image> {
    let kind = prediction.get("mimeType").and_then(Node::text);
    let declared = kind.map_or(Format::Unknown, Format::from_media_type);
    let bucket = || Some(Picture::Url(prediction.get("gcsUri")?.text()?.to_owned()));
    let picture = match prediction.get(DATA) {
        Some(data) => picture::from_node(data, body),
        None => bucket(),
    };
    let mut image = picture::image(picture?, declared)?;
    image.revised_prompt = prediction
        .get("prompt")
        .map(|prompt| error::words(prompt, body));
    Some(image)
}

/// Nothing came: the filters took it all, whether they say so or not. What they take is not charged.
fn withheld(head: &ReplyHead, notices: Vec<String>) -> Failure {
    let message = match notices.join(" ") {
        silent if silent.is_empty() => {
            "every picture was withheld by the filters, without a reason".to_owned()
        }
        said => said,
    };
    let status = head.status.as_u16();
    let block = error::filtered(&message);
    let mut failure = Failure::answered(FailureKind::Safety, status, Billed::No, message);
    failure.retry_after = super::super::wait::retry_after(&head.headers);
    failure.safety = Some(block);
    failure
}
