//! Reads an answer of the Gemini models as it arrives, whole or as an event stream.
//!
//! Every refusal but an error comes with status 200, at one of three stages: the prompt is blocked,
//! the finished picture is, or the model answers in words alone.

use http::header::CONTENT_TYPE;

use super::super::{Next, Progress, Reader, head, picture};
use super::{camel, error};
use crate::bill::{Codes, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, ModelId, SafetyBlock,
    SafetyStage,
};
use crate::money::Usd;
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::sse::Stream;
use crate::wire::{ReplyHead, Rope};

/// Why a candidate ended, where moderation is the reason.
const BLOCKED: [&str; 10] = [
    "SAFETY",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SPII",
    "RECITATION",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "MODEL_ARMOR",
    "JAILBREAK",
];
/// Traffic that was paid for beforehand.
const PROVISIONED: &str = "PROVISIONED_THROUGHPUT";
/// Counts by modality: of what went in, of what came out.
const ASKED: &str = "promptTokensDetails";
const DRAWN: &str = "candidatesTokensDetails";

/// `thoughts`: drafts of pictures may come, which look like the picture until they end.
pub(super) fn reader(request: &ImageRequest, head: &ReplyHead, thoughts: bool) -> Box<dyn Reader> {
    let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
    let events = head.status.is_success() && content_type.starts_with("text/event-stream");
    Box::new(ChunkReader {
        answer: Answer {
            model: request.model.clone(),
            head: head.clone(),
        },
        thoughts,
        form: if events {
            Form::Events(Stream::new())
        } else {
            Form::Whole(Ok(Scanner::new(0)))
        },
        chunks: Vec::new(),
        broken: None,
        begun: false,
    })
}

enum Form {
    Whole(Result<Scanner, NotJson>),
    Events(Stream),
}

struct ChunkReader {
    answer: Answer,
    thoughts: bool,
    form: Form,
    /// One for a whole answer, one an event for a stream.
    chunks: Vec<Node>,
    broken: Option<NotJson>,
    /// A picture has begun that nothing can take back.
    begun: bool,
}

impl ChunkReader {
    fn chunk(&mut self, data: Result<Node, NotJson>) {
        match data {
            Ok(chunk) => {
                self.begun |= pictures(&chunk).next().is_some();
                self.chunks.push(chunk);
            }
            Err(error) => drop(self.broken.get_or_insert(error)),
        }
    }
}

impl Reader for ChunkReader {
    fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut events = Vec::new();
        let within = match &mut self.form {
            Form::Whole(Ok(scanner)) => match scanner.feed(bytes) {
                Ok(()) => scanner.in_long() == Some("data"),
                Err(error) => {
                    self.form = Form::Whole(Err(error));
                    false
                }
            },
            Form::Whole(Err(_)) => false,
            Form::Events(stream) => {
                events = stream.feed(bytes);
                stream.in_long().is_some_and(|(_, key)| key == "data")
            }
        };
        for event in events {
            self.chunk(event.data);
        }
        self.begun |= within && !self.thoughts;
        match &self.form {
            _ if !self.answer.head.status.is_success() => Progress::Failed,
            _ if self.begun => Progress::Pass,
            Form::Whole(Err(_)) => Progress::Failed,
            _ => Progress::Wait,
        }
    }

    fn finish(mut self: Box<Self>, body: &Rope) -> Next {
        let form = std::mem::replace(&mut self.form, Form::Events(Stream::new()));
        let failed = |failure| Next::Failed(Box::new(failure));
        let stream = matches!(form, Form::Events(_));
        match form {
            Form::Whole(scanner) => self.chunk(scanner.and_then(Scanner::finish)),
            Form::Events(stream) => {
                if let Some(event) = stream.finish() {
                    self.chunk(event.data);
                }
            }
        }
        let answer = self.answer;
        if !answer.head.status.is_success() {
            return failed(error::refused(&answer.head, self.chunks.first(), body));
        }
        let told = Told::read(&self.chunks, body);
        if let Some(broken) = self.broken.filter(|_| told.images.is_empty()) {
            return failed(match body.is_empty() {
                true => answer.no_image(&told),
                false => answer.spoilt(&format!("is not whole JSON: {broken}")),
            });
        }
        if !told.images.is_empty() {
            return answer.done(told);
        }
        let error = self.chunks.iter().find_map(error::of);
        failed(match error {
            Some(error) => error::told(error, None, body),
            None if stream && told.finish.is_none() && told.block.is_none() => {
                answer.spoilt("ended before it was whole")
            }
            None => answer.without_picture(told),
        })
    }
}

/// The parts of all candidates that are no thoughts.
fn parts(chunk: &Node) -> impl Iterator<Item = &Node> {
    let candidates = chunk.get("candidates").map_or(&[][..], Node::items);
    candidates
        .iter()
        .filter_map(|candidate| candidate.at("/content/parts"))
        .flat_map(Node::items)
        .filter(|part| part.get("thought").and_then(Node::bool) != Some(true))
}

/// Pictures as they stand in a chunk: media type and data.
fn pictures(chunk: &Node) -> impl Iterator<Item = (String, Node)> {
    parts(chunk).filter_map(|part| {
        let inline = camel(part.get("inlineData").or_else(|| part.get("inline_data"))?);
        let kind = inline
            .get("mimeType")
            .and_then(Node::text)
            .unwrap_or_default();
        let other = ["audio/", "video/", "text/"];
        let picture = !other.iter().any(|other| kind.starts_with(other));
        Some((kind.to_owned(), inline.get("data")?.clone())).filter(|_| picture)
    })
}

/// What an answer says, over all its chunks.
#[derive(Default)]
struct Told {
    images: Vec<Image>,
    /// What the model said in words.
    text: String,
    finish: Option<String>,
    message: String,
    /// Why the prompt was blocked.
    block: Option<String>,
    categories: Vec<String>,
    /// Candidates that moderation kept back.
    withheld: u32,
    usage: Usage,
    /// Tokens of words and pictures together, where the answer does not tell them apart.
    unsplit: Option<u64>,
    codes: Vec<(String, String)>,
    id: Option<String>,
}

impl Told {
    fn read(chunks: &[Node], body: &Rope) -> Told {
        let mut told = Told::default();
        for chunk in chunks {
            told.chunk(chunk, body);
        }
        told
    }

    fn chunk(&mut self, chunk: &Node, body: &Rope) {
        for (kind, data) in pictures(chunk) {
            let declared = Format::from_media_type(&kind);
            let image = picture::from_node(&data, body).and_then(|p| picture::image(p, declared));
            self.images.extend(image);
        }
        for part in parts(chunk) {
            self.text
                .extend(part.get("text").map(|text| error::words(text, body)));
        }
        for candidate in chunk.get("candidates").map_or(&[][..], Node::items) {
            if let Some(reason) = candidate.get("finishReason").and_then(Node::text) {
                self.withheld += u32::from(BLOCKED.contains(&reason));
                self.finish = Some(reason.to_owned());
                self.codes
                    .push(("finishReason".to_owned(), reason.to_owned()));
            }
            if let Some(message) = candidate.get("finishMessage") {
                self.message = error::words(message, body);
            }
            self.ratings(candidate);
        }
        if let Some(feedback) = chunk.get("promptFeedback") {
            let reason = feedback.get("blockReason").and_then(Node::text);
            self.block = reason.map(str::to_owned).or(self.block.take());
            if let Some(message) = feedback.get("blockReasonMessage") {
                self.message = error::words(message, body);
            }
            self.ratings(feedback);
        }
        if let Some(usage) = chunk.get("usageMetadata") {
            // Each chunk counts from the beginning: the last one counts.
            self.usage = read_usage(usage);
            let split = is_split(usage, DRAWN);
            let count = usage.get("candidatesTokenCount").and_then(Node::u64);
            self.unsplit = count.filter(|_| !split);
            put_codes(&mut self.codes, usage);
        }
        if let Some(version) = chunk.get("modelVersion").and_then(Node::text) {
            self.codes
                .push(("modelVersion".to_owned(), version.to_owned()));
        }
        let id = chunk.get("responseId").and_then(Node::text);
        self.id = id.map(str::to_owned).or(self.id.take());
    }

    fn ratings(&mut self, node: &Node) {
        for rating in node.get("safetyRatings").map_or(&[][..], Node::items) {
            let category = rating.get("category").and_then(Node::text);
            if let (Some(category), Some(true)) =
                (category, rating.get("blocked").and_then(Node::bool))
            {
                self.categories.push(category.to_owned());
            }
        }
    }
}

/// What is known of the answer before its body.
struct Answer {
    model: ModelId,
    head: ReplyHead,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    fn done(self, told: Told) -> Next {
        let mut codes = head::codes(&self.head, &[]);
        let Codes { request_id, .. } = &mut codes;
        *request_id = told.id.or(request_id.take());
        for (name, text) in told.codes {
            codes.put(name, text);
        }
        Next::Done(Box::new(ImageResponse {
            model: self.model,
            created: None,
            images: told.images,
            withheld: told.withheld,
            resolved: Resolved::default(),
            usage: told.usage,
            codes,
        }))
    }

    /// A whole answer that brought no picture. What it counts is charged all the same: tokens of the
    /// prompt, of thoughts, of words; none of a picture.
    fn without_picture(&self, mut told: Told) -> Failure {
        if told.usage.has_tokens() {
            // No picture, so what was made and is not told apart are words.
            told.usage.image_out.get_or_insert(0);
            told.usage.text_out = plus(told.usage.text_out, told.unsplit);
        }
        let finish = told.finish.as_deref().unwrap_or_default();
        let (stage, code) = match &told.block {
            Some(reason) => (Some(SafetyStage::Input), reason.as_str()),
            None if BLOCKED.contains(&finish) => (Some(SafetyStage::Output), finish),
            None => return self.no_image(&told),
        };
        let message = match &told.message {
            said if !said.is_empty() => said.clone(),
            _ if stage == Some(SafetyStage::Input) => format!("the prompt was blocked: {code}"),
            _ => format!("the finished picture was withheld: {code}"),
        };
        let free = if told.usage.has_tokens() {
            Billed::Yes
        } else {
            Billed::No
        };
        let mut failure = Failure::answered(FailureKind::Safety, self.status(), free, message);
        failure.code = Some(code.to_owned());
        failure.retry_after = super::super::wait::retry_after(&self.head.headers);
        failure.usage = told.usage;
        failure.safety = Some(SafetyBlock {
            at: stage,
            categories: told.categories,
        });
        failure
    }

    fn no_image(&self, told: &Told) -> Failure {
        let billed = if told.usage.has_tokens() {
            Billed::Yes
        } else {
            Billed::Unknown
        };
        let message = match (&*told.text, &*told.message) {
            ("", "") => "the provider answered without a picture".to_owned(),
            ("", said) => said.to_owned(),
            (text, _) => format!("the model answered in words alone: {}", text.trim()),
        };
        let kind = match told.finish.as_deref() {
            Some("MISSING_THOUGHT_SIGNATURE") => FailureKind::Invalid,
            _ => FailureKind::NoImage,
        };
        let mut failure = Failure::answered(kind, self.status(), billed, message);
        failure.code = told.finish.clone();
        failure.usage = told.usage.clone();
        failure
    }

    /// A success that cannot be read: work was done, and nobody can tell what it cost.
    fn spoilt(&self, why: &str) -> Failure {
        let message = format!("the provider's answer {why}");
        Failure::answered(FailureKind::Server, self.status(), Billed::Unknown, message)
    }
}

fn read_usage(usage: &Node) -> Usage {
    let count = |name: &str| usage.get(name).and_then(Node::u64);
    let of = |details: &str, modality: &str| {
        let entry = usage
            .get(details)?
            .items()
            .iter()
            .find(|entry| entry.get("modality").and_then(Node::text) == Some(modality))?;
        entry.get("tokenCount").and_then(Node::u64)
    };
    let text_in = if is_split(usage, ASKED) {
        of(ASKED, "TEXT")
    } else {
        count("promptTokenCount")
    };
    let cached = "cacheTokensDetails";
    let provisioned = usage.get("trafficType").and_then(Node::text) == Some(PROVISIONED);
    Usage {
        // What a tool found is read like a prompt.
        text_in: plus(text_in, count("toolUsePromptTokenCount")),
        image_in: of(ASKED, "IMAGE"),
        cached_text_in: of(cached, "TEXT").or_else(|| count("cachedContentTokenCount")),
        cached_image_in: of(cached, "IMAGE"),
        // Thoughts are priced as words. Without details nobody can tell words from pictures: then
        // the picture is left to the list price.
        text_out: plus(of(DRAWN, "TEXT"), count("thoughtsTokenCount")),
        image_out: of(DRAWN, "IMAGE"),
        credits: None,
        units: None,
        millis: None,
        reported: provisioned.then_some(Usd::ZERO),
    }
}

/// Whether the counts in a list of details tell words from pictures.
fn is_split(usage: &Node, details: &str) -> bool {
    let list = usage.get(details);
    list.is_some_and(|list| !list.items().is_empty())
}

/// The sum of what is told.
fn plus(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
    }
}

/// Every count under a name of its own; those of a list under their modality.
fn put_codes(codes: &mut Vec<(String, String)>, usage: &Node) {
    let Node::Object(entries) = usage else { return };
    for (name, node) in entries {
        if let Some(text) = node.scalar() {
            codes.push((format!("usageMetadata.{name}"), text.to_owned()));
        }
        for entry in node.items() {
            let modality = entry.get("modality").and_then(Node::text);
            let count = entry.get("tokenCount").and_then(Node::scalar);
            if let (Some(modality), Some(count)) = (modality, count) {
                codes.push((format!("usageMetadata.{name}.{modality}"), count.to_owned()));
            }
        }
    }
}
