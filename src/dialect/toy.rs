//! A wire format that no provider speaks: what a dialect costs to add, shown by adding one.
//!
//! This file and one word in [`super::ALL`] are all of it, and only tests have them. A picture is
//! asked for at `/draw`, in JSON that is like nobody's, and comes in base64.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use super::form::{Fields, wrong};
use super::whole::{self, Answer, failed};
use super::{
    Dialect, Next, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head, picture,
    unsupported, wait,
};
use crate::bill::{Codes, Usage};
use crate::image::{
    Billed, Failure, FailureKind, Format, ImageRequest, ImageResponse, ModelId, Operation,
    SafetyBlock, Size, response::Resolved,
};
use crate::wire::json::{Node, parse};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct Toy;

const PATH: &str = "/draw";

impl Dialect for Toy {
    fn name(&self) -> &'static str {
        "toy"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let claimed = head.method == Method::POST && head.path() == PATH;
        claimed.then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        _head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let node = parse(body).map_err(|error| wrong("body", error.to_string()))?;
        let mut fields = Fields::of_object(&node, body, &[])?;
        let wax = fields
            .text("wax")?
            .ok_or_else(|| wrong("wax", "is missing"))?;
        let draw = fields
            .text("draw")?
            .ok_or_else(|| wrong("draw", "is missing"))?;
        let mut request = ImageRequest::new(ModelId::new(provider, &wax), draw);
        request.operation = operation;
        request.size = fields.word("paper", Size::parse)?.unwrap_or(Size::Auto);
        request.seed = fields.whole("hand")?;
        request.n = fields.whole("sheets")?.unwrap_or(1);
        request.extra = fields.rest();
        Ok(request)
    }

    fn write_response(
        &self,
        _asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        let mut body = Rope::from(Bytes::from_static(b"{\"drawn\":["));
        for (index, image) in response.images.iter().enumerate() {
            body.push(if index == 0 { "\"" } else { ",\"" });
            body.append(&picture::base64(&image.picture)?);
            body.push("\"");
        }
        body.push("]}");
        Ok(Reply {
            head: ReplyHead::new(http::StatusCode::OK, "application/json"),
            body,
        })
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        let body = json!({"oops": refusal.kind, "why": refusal.message});
        Reply {
            head: head::refusal(refusal.status, refusal),
            body: body.to_string().into(),
        }
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        if request.operation != Operation::Generate || !request.inputs.is_empty() {
            return Err(unsupported(
                "operation",
                "crayons draw on white paper alone",
            ));
        }
        let mut fields: Map<String, Value> = request.extra.clone().into_iter().collect();
        fields.insert("wax".to_owned(), request.model.model().into());
        fields.insert("draw".to_owned(), request.prompt.as_str().into());
        if request.size != Size::Auto {
            fields.insert("paper".to_owned(), request.size.to_string().into());
        }
        if let Some(seed) = request.seed {
            fields.insert("hand".to_owned(), seed.into());
        }
        if request.n != 1 {
            fields.insert("sheets".to_owned(), request.n.into());
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Message {
            method: Method::POST,
            target: PathAndQuery::from_static(PATH),
            headers,
            body: Value::Object(fields).to_string().into(),
        })
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        whole::reader(request, head, conclude, refused)
    }
}

fn conclude(answer: Answer, node: &Node, body: &Rope) -> Next {
    let drawn = node.get("drawn").map_or(&[][..], Node::items);
    let images = drawn
        .iter()
        .filter_map(|item| picture::image(picture::from_node(item, body)?, Format::Unknown));
    let images: Vec<_> = images.collect();
    if images.is_empty() {
        return failed(answer.no_image());
    }
    Next::Done(Box::new(ImageResponse {
        model: answer.model,
        created: None,
        images,
        withheld: 0,
        resolved: Resolved::default(),
        usage: Usage::default(),
        codes: Codes::default(),
    }))
}

fn refused(answer: &Answer, node: Option<&Node>, body: &Rope) -> Failure {
    let text = |name: &str| node.and_then(|node| node.get(name)?.text());
    let kind = text("oops").and_then(FailureKind::parse);
    let kind = kind.unwrap_or_else(|| FailureKind::of_status(answer.status()));
    Failure {
        safety: (kind == FailureKind::Safety).then(SafetyBlock::default),
        retry_after: wait::retry_after(&answer.head.headers),
        ..Failure::answered(
            kind,
            answer.status(),
            Billed::No,
            text("why").map_or_else(|| answer.unexplained(body), str::to_owned),
        )
    }
}
