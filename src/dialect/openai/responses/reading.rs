//! Reads an answer of the Responses API: pictures among what a text model says.

use http::header::CONTENT_TYPE;

use super::super::super::{Next, Progress, Reader, head, picture};
use super::super::answer::{self, Answer, Told, add_counts, flatten, told};
use super::{BODY, is_plain};
use crate::bill::Usage;
use crate::image::response::Resolved;
use crate::image::{Billed, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse};
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::sse::{Event, Stream};
use crate::wire::{ReplyHead, Rope};

/// What an item of the answer is called that a picture lies in.
const ITEM: &str = "image_generation_call";
const TELLING: [&str; 2] = ["openai-processing-ms", "openai-version"];

pub(super) fn reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    if !head.status.is_success() {
        return answer::reader(request, head);
    }
    let streamed = head.header(CONTENT_TYPE).unwrap_or_default();
    let source = if streamed.starts_with("text/event-stream") {
        Source::Events(Stream::new())
    } else {
        Source::Text(Ok(Scanner::new(0)))
    };
    Box::new(ResponseReader {
        answer: Answer {
            model: request.model.clone(),
            head: head.clone(),
        },
        plain: request.extra.get(BODY).is_some_and(is_plain),
        source,
        begun: false,
        items: Vec::new(),
        response: None,
        error: None,
    })
}

enum Source {
    Text(Result<Scanner, NotJson>),
    Events(Stream),
}

struct ResponseReader {
    answer: Answer,
    /// The call was one of the image model alone.
    plain: bool,
    source: Source,
    /// A picture has begun.
    begun: bool,
    /// Finished items of a stream.
    items: Vec<Node>,
    /// The whole answer, as it stands or as a stream ends with it.
    response: Option<Node>,
    /// What a stream told instead.
    error: Option<Node>,
}

impl ResponseReader {
    fn event(&mut self, event: Event) {
        let Ok(Node::Object(mut entries)) = event.data else {
            return;
        };
        let mut take = |name: &str| {
            let at = entries.iter().position(|(key, _)| key == name)?;
            Some(entries.swap_remove(at).1)
        };
        let kind = take("type");
        let kind = kind.as_ref().and_then(Node::text).unwrap_or(&event.name);
        match kind {
            "response.output_item.done" => self.items.extend(take("item")),
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.response = take("response");
            }
            "error" => self.error = Some(Node::Object(entries)),
            _ => {}
        }
    }
}

impl Reader for ResponseReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        let mut events = Vec::new();
        let long = match &mut self.source {
            Source::Text(Ok(scanner)) => match scanner.feed(chunk) {
                Ok(()) => scanner.in_long().map(str::to_owned),
                Err(error) => {
                    self.source = Source::Text(Err(error));
                    None
                }
            },
            Source::Text(Err(_)) => None,
            Source::Events(stream) => {
                events = stream.feed(chunk);
                stream.in_long().map(|(_, key)| key.to_owned())
            }
        };
        self.begun |= matches!(long.as_deref(), Some("result" | "partial_image_b64"));
        events.into_iter().for_each(|event| self.event(event));
        match (self.begun, &self.source) {
            (true, _) => Progress::Pass,
            (false, Source::Text(Err(_))) => Progress::Failed,
            (false, _) => Progress::Wait,
        }
    }

    fn finish(mut self: Box<Self>, body: &Rope) -> Next {
        match std::mem::replace(&mut self.source, Source::Text(Ok(Scanner::new(0)))) {
            Source::Text(scanner) => match scanner.and_then(Scanner::finish) {
                Ok(node) => self.response = Some(node),
                Err(_) if body.is_empty() => {}
                Err(error) => {
                    let why = format!("is not whole JSON: {error}");
                    return Next::Failed(Box::new(self.answer.spoilt(&why)));
                }
            },
            Source::Events(stream) => {
                if let Some(event) = stream.finish() {
                    self.event(event);
                }
            }
        }
        self.conclude(body)
    }
}

impl ResponseReader {
    fn conclude(self, body: &Rope) -> Next {
        let response = self.response.as_ref();
        let output = response.and_then(|whole| whole.get("output"));
        let output = output.map(Node::items).filter(|items| !items.is_empty());
        let items = output.unwrap_or(&self.items);
        let drawn = || {
            items
                .iter()
                .filter(|item| item.get("type").and_then(Node::text) == Some(ITEM))
        };
        let images: Vec<Image> = drawn().filter_map(|item| image(item, body)).collect();
        if images.is_empty() {
            let error = drawn().find(|item| told(item, "error").is_some());
            return Next::Failed(Box::new(self.failure(error, body)));
        }
        let mut codes = head::codes(&self.answer.head, &TELLING);
        let mut usage = Usage::default();
        if let Some(whole) = response {
            self.count(&mut usage, whole);
            for name in ["usage", "tool_usage"] {
                if let Some(told) = whole.get(name) {
                    flatten(&mut codes, &mut name.to_owned(), told);
                }
            }
            if let Some(model) = whole.get("model").and_then(Node::text) {
                codes.put("usage.model", model);
            }
            // The charge is the image model's: that of the text model beside it is not known here.
            if self.plain && whole.get("usage").is_some_and(|told| !told.is_null()) {
                codes.put("usage.charge", "unpriced");
            }
        }
        let first = drawn().find(|item| told(item, "result").is_some());
        let text = |name: &str| first?.get(name)?.text().map(str::to_owned);
        let withheld = drawn().count().saturating_sub(images.len());
        Next::Done(Box::new(ImageResponse {
            model: self.answer.model.clone(),
            created: response.and_then(|whole| whole.get("created_at")?.u64()),
            withheld: u32::try_from(withheld).unwrap_or(u32::MAX),
            images,
            resolved: Resolved {
                size: text("size"),
                quality: text("quality"),
                background: text("background"),
                format: text("output_format"),
            },
            usage,
            codes,
        }))
    }

    /// The image model's counts. Where the text model is the one that was asked, its own beside
    /// them: whether they have a price, its row tells.
    fn count(&self, usage: &mut Usage, whole: &Node) {
        if let Some(drawn) = whole.at("/tool_usage/image_gen") {
            add_counts(usage, drawn);
        }
        let count = |name: &str| whole.get("usage")?.get(name)?.u64();
        if !self.plain {
            let add = |slot: Option<u64>, more| match (slot, more) {
                (None, None) => None,
                (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
            };
            usage.text_in = add(usage.text_in, count("input_tokens"));
            usage.text_out = add(usage.text_out, count("output_tokens"));
        }
    }

    /// The text model is paid for whatever became of the picture, so no such failure is free.
    fn failure(&self, item: Option<&Node>, body: &Rope) -> Failure {
        let whole = self.response.as_ref();
        let failed = whole.filter(|whole| told(whole, "error").is_some());
        let Some(error) = item.or(failed).or(self.error.as_ref()) else {
            let cut = whole.is_none() && !body.is_empty();
            return if cut {
                self.answer.spoilt("ended before it was whole")
            } else {
                self.answer.no_image(Usage::default())
            };
        };
        let told = Told::read(error, body);
        let kind = told.failure_kind(None);
        let status = self.answer.head.status.as_u16();
        let safety = (kind == FailureKind::Safety).then(|| told.safety());
        let mut failure = Failure::answered(kind, status, Billed::Unknown, told.message);
        failure.code = told.code.or(told.kind);
        failure.safety = safety;
        failure
    }
}

fn image(item: &Node, body: &Rope) -> Option<Image> {
    let declared = item.get("output_format").and_then(Node::text);
    let declared = declared.map_or(Format::Unknown, Format::from_media_type);
    let result = picture::from_node(told(item, "result")?, body)?;
    let mut image = picture::image(result, declared)?;
    let revised = told(item, "revised_prompt");
    image.revised_prompt = revised.map(|node| answer::long(node, body));
    Some(image)
}
