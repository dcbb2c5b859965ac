//! Reads an answer of the OpenAI dialect as it arrives, plain or as an event stream.

use http::header::CONTENT_TYPE;

use super::super::{Next, Progress, Reader, head, picture, wait};
use crate::bill::{Codes, Usage};
use crate::image::response::Resolved;
use crate::image::{
    Billed, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, ModelId, SafetyBlock,
    SafetyStage,
};
use crate::money::{Rate, Usd};
use crate::wire::json::{Node, NotJson, Scanner};
use crate::wire::sse::{Event, Stream};
use crate::wire::{ReplyHead, Rope};

/// Longest message that is kept of an error; the rest of an edge's HTML page helps nobody.
const MESSAGE: usize = 2000;
/// Headers of this dialect that tell of money or work.
const TELLING: [&str; 5] = [
    "openai-processing-ms",
    "openai-version",
    "x-litellm-response-cost",
    "apim-request-id",
    "x-ms-region",
];

/// Codes and types that mean moderation; the last three are Azure's.
const SAFETY: [&str; 6] = [
    "moderation_blocked",
    "content_policy_violation",
    "nsfw_content",
    "contentFilter",
    "content_filter",
    "ResponsibleAIPolicyViolation",
];
/// Words of moderation where the code is silent, lower case.
const SAFETY_MESSAGES: [&str; 5] = [
    "rejected as a result of our safety system",
    "rejected by the safety system",
    "failed as a result of our safety system",
    "contentpolicyviolationerror",
    "content_policy_violation",
];
const QUOTA: [&str; 6] = [
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_limit_user_error",
    "budget_exceeded",
    "credit_limit",
    "credit_limit_exceeded",
];
const GONE: [&str; 3] = [
    "model_not_found",
    "model_not_available",
    "DeploymentNotFound",
];

pub(super) fn reader(request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
    let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
    let answer = Answer {
        model: request.model.clone(),
        head: head.clone(),
    };
    if head.status.is_success() && content_type.starts_with("text/event-stream") {
        return Box::new(EventReader {
            answer,
            stream: Stream::new(),
            begun: false,
            broken: None,
            error: None,
            finished: Vec::new(),
        });
    }
    Box::new(TextReader {
        answer,
        scanner: Ok(Scanner::new(0)),
        begun: false,
    })
}

/// What is known of the answer before its body.
pub(super) struct Answer {
    pub(super) model: ModelId,
    pub(super) head: ReplyHead,
}

/// Reads one JSON text.
struct TextReader {
    answer: Answer,
    scanner: Result<Scanner, NotJson>,
    begun: bool,
}

impl Reader for TextReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        if let Ok(scanner) = &mut self.scanner {
            if let Err(error) = scanner.feed(chunk) {
                self.scanner = Err(error);
            } else {
                self.begun |= scanner.in_long() == Some("b64_json");
            }
        }
        match (&self.scanner, self.begun) {
            _ if !self.answer.head.status.is_success() => Progress::Failed,
            (_, true) => Progress::Pass,
            (Ok(_), false) => Progress::Wait,
            (Err(_), false) => Progress::Failed,
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let node = self.scanner.and_then(Scanner::finish);
        let failed = |failure| Next::Failed(Box::new(failure));
        match node {
            _ if !self.answer.head.status.is_success() => failed(self.answer.refused(node, body)),
            Ok(node) => self.answer.conclude(&[node], body, None),
            Err(_) if body.is_empty() => failed(self.answer.no_image(Usage::default())),
            Err(error) => failed(self.answer.spoilt(&format!("is not whole JSON: {error}"))),
        }
    }
}

/// Reads an event stream.
struct EventReader {
    answer: Answer,
    stream: Stream,
    begun: bool,
    broken: Option<NotJson>,
    /// The first error that an event told.
    error: Option<Node>,
    /// The data of events with a finished picture.
    finished: Vec<Node>,
}

impl EventReader {
    fn event(&mut self, event: Event) {
        let data = match event.data {
            Ok(data) => data,
            Err(_) if event.done => return,
            Err(error) => {
                self.broken.get_or_insert(error);
                return;
            }
        };
        if told(&data, "error").is_some() || event.name == "error" {
            self.error.get_or_insert(data);
            return;
        }
        let kind = data.get("type").and_then(Node::text).unwrap_or(&event.name);
        self.begun |= data.get("b64_json").is_some();
        if kind.ends_with(".completed") {
            self.finished.push(data);
        }
    }
}

impl Reader for EventReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        for event in self.stream.feed(chunk) {
            self.event(event);
        }
        self.begun |= self
            .stream
            .in_long()
            .is_some_and(|(_, key)| key == "b64_json");
        match (self.begun, &self.error) {
            (true, _) => Progress::Pass,
            (false, Some(_)) => Progress::Failed,
            (false, None) => Progress::Wait,
        }
    }

    fn finish(mut self: Box<Self>, body: &Rope) -> Next {
        let stream = std::mem::take(&mut self.stream);
        if let Some(event) = stream.finish() {
            self.event(event);
        }
        let failed = |failure| Next::Failed(Box::new(failure));
        if !self.finished.is_empty() {
            return self
                .answer
                .conclude(&self.finished, body, self.error.as_ref());
        }
        match (&self.error, self.broken) {
            (Some(error), _) => failed(self.answer.told_failure(error, body)),
            (None, Some(error)) => failed(self.answer.spoilt(&format!("is no JSON: {error}"))),
            (None, None) if self.begun => failed(self.answer.spoilt("ended within a picture")),
            (None, None) => failed(self.answer.no_image(Usage::default())),
        }
    }
}

impl Answer {
    fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// Concludes a success from its JSON texts: one, or one for each finished picture. `error` is
    /// what ended a stream that had brought pictures before.
    fn conclude(self, nodes: &[Node], body: &Rope, error: Option<&Node>) -> Next {
        let failed = |failure| Next::Failed(Box::new(failure));
        let mut codes = head::codes(&self.head, &TELLING);
        let mut usage = Usage::default();
        for node in nodes {
            add_usage(&mut usage, node);
            put_codes(&mut codes, node);
        }
        let [first, ..] = nodes else {
            return failed(self.no_image(Usage::default()));
        };
        // As long as it is needed: it is kept with the answer.
        let mut images = Vec::with_capacity(nodes.iter().flat_map(items).count());
        let mut withheld = 0;
        for (node, item) in nodes.iter().flat_map(items) {
            match image(node, item, body) {
                Some(image) => images.push(image),
                None => withheld += 1,
            }
        }
        if images.is_empty() {
            return failed(match told(first, "error") {
                Some(_) => self.told_failure(first, body),
                None => self.no_image(usage),
            });
        }
        if let Some(error) = error {
            let told = Told::read(error, body);
            withheld += u32::from(told.is_safety());
            codes.put("stream.error", told.code.unwrap_or(told.message));
        }
        let text = |name: &str| first.get(name)?.text().map(str::to_owned);
        Next::Done(Box::new(ImageResponse {
            model: self.model,
            created: first
                .get("created")
                .or_else(|| first.get("created_at"))
                .and_then(Node::u64),
            images,
            withheld,
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

    /// An answer whose status says that it failed.
    fn refused(self, node: Result<Node, NotJson>, body: &Rope) -> Failure {
        match node {
            Ok(node) if told(&node, "error").is_some() => self.told_failure(&node, body),
            _ => {
                let status = self.status();
                let message = head::unexplained(&self.head, body);
                let kind = FailureKind::of_status(status);
                let mut failure = Failure::answered(kind, status, billed(Some(status)), message);
                failure.retry_after = self.wait(kind, None);
                failure
            }
        }
    }

    /// A failure that the provider explains.
    fn told_failure(&self, node: &Node, body: &Rope) -> Failure {
        let told = Told::read(node, body);
        let status = (!self.head.status.is_success()).then(|| self.status());
        let kind = told.failure_kind(status);
        let safety = (kind == FailureKind::Safety).then(|| told.safety());
        // In a stream work had begun; nobody says whether it is charged.
        let billed = match (&safety, status) {
            (Some(_), Some(_)) if told.may_be_drawn() => Billed::Unknown,
            (Some(_), Some(_)) => Billed::No,
            // A provider that says so declined before it worked; an edge that does may not know.
            (None, Some(_)) if kind == FailureKind::Overloaded => Billed::No,
            _ => billed(status),
        };
        let mut failure = Failure::answered(kind, self.status(), billed, told.message);
        failure.retry_after = self.wait(kind, told.kind.as_deref());
        failure.code = told.code.or(told.kind);
        failure.safety = safety;
        failure
    }

    fn wait(&self, kind: FailureKind, limit: Option<&str>) -> Option<std::time::Duration> {
        let headers = &self.head.headers;
        wait::retry_after(headers).or_else(|| {
            let limited = kind == FailureKind::RateLimited;
            limited.then(|| wait::limit_reset(headers, limit)).flatten()
        })
    }

    /// A success that cannot be read: work was done, and nobody can tell what it cost.
    pub(super) fn spoilt(&self, why: &str) -> Failure {
        let message = format!("the provider's answer {why}");
        Failure::answered(FailureKind::Server, self.status(), Billed::Unknown, message)
    }

    /// What was read is charged even so, where the answer counts it.
    pub(super) fn no_image(&self, usage: Usage) -> Failure {
        let billed = if usage.has_tokens() || usage.reported.is_some() {
            Billed::Yes
        } else {
            Billed::Unknown
        };
        let message = "the provider answered without a picture";
        let mut failure = Failure::answered(FailureKind::NoImage, self.status(), billed, message);
        failure.charge = usage.reported;
        failure.usage = usage;
        failure
    }
}

/// An answer of 4xx came before any work; for others nobody says.
fn billed(status: Option<u16>) -> Billed {
    match status {
        Some(408) | None => Billed::Unknown,
        Some(400..=499) => Billed::No,
        Some(_) => Billed::Unknown,
    }
}

/// What an error object says.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) message: String,
    pub(super) kind: Option<String>,
    pub(super) code: Option<String>,
    /// The code of the error within the error, as Azure has it.
    inner: Option<String>,
    /// `input`, `output` or `unknown`.
    stage: Option<String>,
    categories: Vec<String>,
}

impl Told {
    /// Reads `{"error": {…}}`, and `{"code": …, "error": "text"}` as some providers have it.
    pub(super) fn read(node: &Node, body: &Rope) -> Told {
        let error = told(node, "error").unwrap_or(node);
        let text = |node: &Node, name: &str| Some(node.get(name)?.scalar()?.to_owned());
        let details = error.get("moderation_details");
        // Azure spells it both ways.
        let inner = error.get("inner_error").or(error.get("innererror"));
        let mut told = Told {
            message: error
                .get("message")
                .map_or_else(|| long(error, body), |m| long(m, body)),
            kind: text(error, "type"),
            code: text(error, "code").or_else(|| text(node, "code")),
            inner: inner.and_then(|inner| text(inner, "code")),
            stage: details.and_then(|details| text(details, "moderation_stage")),
            categories: Vec::new(),
        };
        let listed = details.and_then(|details| details.get("categories"));
        let words = listed.map_or(&[][..], Node::items);
        told.categories = words
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect();
        if told.categories.is_empty() {
            told.categories = filtered(inner.unwrap_or(error));
        }
        if told.categories.is_empty() {
            told.categories = violations(&told.message);
        }
        if told.message.is_empty() {
            told.message = "the provider gave an error without a message".to_owned();
        }
        told
    }

    fn says(&self, words: &[&str]) -> bool {
        let among = |said: &Option<String>| said.as_deref().is_some_and(|w| words.contains(&w));
        among(&self.code) || among(&self.kind) || among(&self.inner)
    }

    fn is_safety(&self) -> bool {
        let message = self.message.to_ascii_lowercase();
        self.says(&SAFETY) || SAFETY_MESSAGES.iter().any(|words| message.contains(words))
    }

    /// `status` is `None` for an error within a stream.
    pub(super) fn failure_kind(&self, status: Option<u16>) -> FailureKind {
        if self.is_safety() {
            return FailureKind::Safety;
        }
        if self.says(&QUOTA) {
            return FailureKind::Quota;
        }
        if self.says(&GONE) {
            return FailureKind::Retired;
        }
        if self.says(&["invalid_api_key"]) || self.message.starts_with("Incorrect API key") {
            return FailureKind::Auth;
        }
        match status {
            // A route that is not there is not a model that is gone.
            Some(404) if self.message.starts_with("Invalid URL") => FailureKind::Invalid,
            Some(status) => FailureKind::of_status(status),
            None if self.says(&["rate_limit_exceeded"]) => FailureKind::RateLimited,
            None if self.says(&["overloaded", "engine_overloaded"]) => FailureKind::Overloaded,
            None if self.says(&["server_error"]) => FailureKind::Server,
            None if self.says(&["invalid_request_error", "image_generation_user_error"]) => {
                FailureKind::Invalid
            }
            None => FailureKind::Unknown,
        }
    }

    /// Whether the provider speaks of a stage other than the input: a picture was drawn, or may be.
    fn may_be_drawn(&self) -> bool {
        self.stage.as_deref().is_some_and(|stage| stage != "input")
    }

    pub(super) fn safety(&self) -> SafetyBlock {
        SafetyBlock {
            at: self.stage.as_deref().and_then(SafetyStage::parse),
            categories: self.categories.clone(),
        }
    }
}

/// The value under `name` when it says anything: not null, false, or an empty text.
pub(super) fn told<'a>(node: &'a Node, name: &str) -> Option<&'a Node> {
    node.get(name).filter(|value| match value {
        Node::Null | Node::Bool(false) => false,
        Node::Text(text) => !text.is_empty(),
        _ => true,
    })
}

/// A text of any length, its first part.
pub(super) fn long(node: &Node, body: &Rope) -> String {
    let text = match node {
        Node::Long(span) => {
            let start = body.slice(span.start..span.end.min(span.start + MESSAGE));
            String::from_utf8_lossy(&start.to_bytes()).into_owned()
        }
        other => other.text().unwrap_or_default().to_owned(),
    };
    text.chars().take(MESSAGE).collect()
}

/// The names of Azure's filters that struck.
fn filtered(error: &Node) -> Vec<String> {
    let Some(Node::Object(filters)) = error.get("content_filter_results") else {
        return Vec::new();
    };
    let struck = |filter: &Node| filter.get("filtered").and_then(Node::bool) == Some(true);
    let names = filters.iter().filter(|(_, filter)| struck(filter));
    names.map(|(name, _)| name.to_string()).collect()
}

/// The list in `safety_violations=[violence, sexual]`.
fn violations(message: &str) -> Vec<String> {
    let list = message
        .split_once("safety_violations=[")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split(',')
        .map(|word| word.trim().trim_matches(['\'', '"']).to_owned())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The pictures of one JSON text, each beside the text that says what all share.
fn items(node: &Node) -> impl Iterator<Item = (&Node, &Node)> {
    let data = node.get("data").map(Node::items);
    let event = data.is_none() && node.get("b64_json").or_else(|| node.get("url")).is_some();
    let event = event.then_some((node, node));
    let list = data.unwrap_or_default().iter();
    list.map(move |item| (node, item)).chain(event)
}

fn image(answer: &Node, item: &Node, body: &Rope) -> Option<Image> {
    let declared = answer.get("output_format").and_then(Node::text);
    let declared = declared.map_or(Format::Unknown, Format::from_media_type);
    let picture = match (told(item, "b64_json"), told(item, "url")) {
        (Some(node), _) => picture::from_node(node, body)?,
        (None, Some(node)) => picture::at_url(node, body)?,
        (None, None) => return None,
    };
    let mut image = picture::image(picture, declared)?;
    image.seed = item.get("seed").and_then(Node::u64);
    image.revised_prompt = told(item, "revised_prompt").map(|node| long(node, body));
    Some(image)
}

/// Adds what one JSON text counts: in a stream every finished picture brings its own.
fn add_usage(usage: &mut Usage, node: &Node) {
    if let Some(told) = node.get("usage") {
        add_counts(usage, told);
    }
}

/// Adds the counts of one list of them.
pub(super) fn add_counts(usage: &mut Usage, told: &Node) {
    let count = |name: &str| told.get(name).and_then(Node::u64);
    let detail = |of: &str, name: &str| told.get(of)?.get(name)?.u64();
    let add = |slot: &mut Option<u64>, more: Option<u64>| {
        if let Some(more) = more {
            *slot = Some(slot.unwrap_or(0).saturating_add(more));
        }
    };
    let text_in = detail("input_tokens_details", "text_tokens");
    let image_in = detail("input_tokens_details", "image_tokens");
    // Without details every token counts as the dearer kind where that is known: output as image.
    let split = text_in.or(image_in).is_some();
    add(
        &mut usage.text_in,
        text_in.or(count("input_tokens").filter(|_| !split)),
    );
    add(&mut usage.image_in, image_in);
    let text_out = detail("output_tokens_details", "text_tokens");
    let image_out = detail("output_tokens_details", "image_tokens");
    let split = text_out.or(image_out).is_some();
    add(&mut usage.text_out, text_out);
    add(
        &mut usage.image_out,
        image_out.or(count("output_tokens").filter(|_| !split)),
    );
    if let Some(money) = reported(told) {
        usage.reported = Some(usage.reported.unwrap_or(Usd::ZERO) + money);
    }
}

/// What the provider says it charges: `cost` in US dollars, or ticks of 100 pico-dollars (xAI).
fn reported(usage: &Node) -> Option<Usd> {
    let cost = usage
        .get("cost")
        .and_then(Node::scalar)
        .and_then(|text| text.parse().ok());
    cost.or_else(|| {
        let ticks = usage.get("cost_in_usd_ticks")?.u64()?;
        Some(Rate::from_pico(100).of(ticks).to_usd())
    })
}

fn put_codes(codes: &mut Codes, node: &Node) {
    for name in ["usage", "svg_usage", "credits"] {
        if let Some(value) = node.get(name) {
            flatten(codes, &mut name.to_owned(), value);
        }
    }
}

/// Every scalar under a name of its own, `usage.input_tokens_details.text_tokens`.
pub(super) fn flatten(codes: &mut Codes, name: &mut String, node: &Node) {
    if let Node::Object(entries) = node {
        let above = name.len();
        for (key, value) in entries {
            name.push('.');
            name.push_str(key);
            flatten(codes, name, value);
            name.truncate(above);
        }
    } else if let Some(text) = node.scalar() {
        codes.put(name.as_str(), text);
    }
}
