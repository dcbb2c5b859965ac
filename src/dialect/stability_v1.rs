//! Stability AI's older routes, `/v1/generation/{engine}/…`: SDXL and Stable Diffusion 1.6.
//!
//! Another wire format than v2beta on the same host: weighted prompts, several pictures a call,
//! sizes in pixels, JSON where nothing is uploaded. After the API reference of v1.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Map, Number, Value, json};

use super::form::{self, Fields, wrong};
use super::stability::answer::{FILTERED, blurred, bytes_reader, refused};
use super::stability::{self, CLIENT, USER};
use super::{
    Dialect, Next, Progress, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head,
    picture, prompts, unsupported,
};
use crate::bill::Usage;
use crate::image::response::Resolved;
use crate::image::{
    Billed, Delivery, Failure, FailureKind, Format, Image, ImageRequest, ImageResponse, Input,
    InputRole, InputSource, ModelId, Operation, Size,
};
use crate::wire::json::{self, Node, NotJson, Scanner};
use crate::wire::multipart::{self, Part};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct StabilityV1;

const BEFORE_ENGINE: &str = "/v1/generation/";
/// Engines that draw; others on these routes scale pictures up.
const ENGINES: &str = "stable-diffusion-";
const TEXT_TO_IMAGE: &str = "text-to-image";
const IMAGE_TO_IMAGE: &str = "image-to-image";
const MASKING: &str = "image-to-image/masking";

const PROMPTS: &str = "text_prompts";
/// Says which part of which picture is the mask.
const MASK_SOURCE: &str = "mask_source";
const ORGANIZATION: &str = "organization";

impl Dialect for StabilityV1 {
    fn name(&self) -> &'static str {
        "stability_v1"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let (_, action) = route(head).filter(|_| head.method == Method::POST)?;
        Some(match action {
            TEXT_TO_IMAGE => Operation::Generate,
            _ => Operation::Edit,
        })
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let engine = route(head).map_or("", |(engine, _)| engine);
        let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
        let (fields, inputs) = if content_type.starts_with("multipart/form-data") {
            read_form(content_type, body)?
        } else if operation == Operation::Generate {
            (read_json(body)?, Vec::new())
        } else {
            return Err(wrong("body", "must be multipart/form-data"));
        };
        let mut request = read_fields(ModelId::new(provider, engine), fields)?;
        request.operation = operation;
        request.inputs = inputs;
        request.delivery = match head.header(ACCEPT) {
            Some(accept) if accept.contains("image/") => stability::delivery(Some(accept)),
            _ => Delivery::Base64,
        };
        request.user = head.header(USER).map(str::to_owned);
        for name in CLIENT.into_iter().chain([ORGANIZATION]) {
            if let Some(text) = head.header(name) {
                request.extra.insert(name.to_owned(), text.into());
            }
        }
        Ok(request)
    }

    fn inert(&self) -> &'static [&'static str] {
        const INERT: [&str; 3] = [CLIENT[0], CLIENT[1], ORGANIZATION];
        &INERT
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        match asked.delivery {
            Delivery::Base64 => in_json(asked, response),
            Delivery::Bytes | Delivery::Url => in_bytes(asked, response),
        }
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        write_refusal(refusal)
    }

    fn serves(&self, model: &ModelId) -> bool {
        model.model().starts_with(ENGINES)
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let action = action(request)?;
        let path = format!("{BEFORE_ENGINE}{}/{action}", request.model.model());
        let target: PathAndQuery = path
            .parse()
            .map_err(|_| unsupported("model", "its name cannot stand in a path"))?;
        let fields = write_fields(request, action)?;
        let (content_type, body) = if action == TEXT_TO_IMAGE {
            let body = Rope::from(Value::Object(fields).to_string());
            (HeaderValue::from_static("application/json"), body)
        } else {
            form::write(&parts(request, &fields)?)
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type);
        let accept = match request.delivery {
            Delivery::Base64 => "application/json",
            Delivery::Bytes | Delivery::Url => "image/png",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        stability::put_header(&mut headers, USER, request.user.as_deref());
        for name in CLIENT.into_iter().chain([ORGANIZATION]) {
            let text = request.extra.get(name).and_then(Value::as_str);
            stability::put_header(&mut headers, name, text);
        }
        Ok(Message {
            method: Method::POST,
            target,
            headers,
            body,
        })
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
        if !content_type.starts_with("application/json") && head.status.is_success() {
            return bytes_reader(request, head);
        }
        Box::new(ArtifactReader {
            model: request.model.clone(),
            head: head.clone(),
            scanner: Ok(Scanner::new(0)),
        })
    }
}

/// Engine and action of a path of ours.
fn route(head: &RequestHead) -> Option<(&str, &str)> {
    let path = head.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let (engine, action) = path.strip_prefix(BEFORE_ENGINE)?.split_once('/')?;
    let ours = [TEXT_TO_IMAGE, IMAGE_TO_IMAGE, MASKING].contains(&action);
    (ours && engine.starts_with(ENGINES)).then_some((engine, action))
}

// Requests.

fn read_json(body: &Bytes) -> Result<Fields, Unreadable> {
    let node = json::parse(body).map_err(|error| wrong("body", format!("is not JSON: {error}")))?;
    Fields::of_object(&node, body, &[])
}

fn read_form(content_type: &str, body: &Bytes) -> Result<(Fields, Vec<Input>), Unreadable> {
    let parts =
        multipart::read(content_type, body).map_err(|error| wrong("body", error.to_string()))?;
    let (files, texts): (Vec<Part>, Vec<Part>) = parts
        .into_iter()
        .partition(|part| part.filename.is_some() || role(&part.name).is_some());
    let inputs = files.into_iter().map(input).collect::<Result<_, _>>()?;
    Ok((Fields::of_parts(&texts)?, inputs))
}

fn role(name: &str) -> Option<InputRole> {
    match name {
        "init_image" => Some(InputRole::Image),
        "mask_image" => Some(InputRole::Mask),
        _ => None,
    }
}

fn input(part: Part) -> Result<Input, Unreadable> {
    let role = role(&part.name)
        .ok_or_else(|| wrong(&part.name, "is a file, and no init_image or mask_image"))?;
    let declared = part.content_type.as_deref().map(Format::from_media_type);
    Ok(Input {
        role,
        format: picture::known_format(declared.unwrap_or(Format::Unknown), &part.data),
        name: part.filename,
        source: InputSource::Bytes(part.data),
    })
}

fn read_fields(model: ModelId, mut fields: Fields) -> Result<ImageRequest, Unreadable> {
    let mut request = ImageRequest::new(model, "");
    read_prompts(&mut request, &mut fields)?;
    request.n = fields.whole("samples")?.unwrap_or(1);
    if request.n == 0 {
        return Err(wrong("samples", "must be at least 1"));
    }
    request.size = read_size(&mut fields)?;
    // 0 asks for any seed, as saying nothing does.
    request.seed = fields.whole("seed")?.filter(|&seed: &u64| seed != 0);
    request.steps = fields.whole("steps")?;
    request.guidance = fields.number("cfg_scale")?;
    request.strength = fields.number("image_strength")?.as_ref().map(turned);
    request.style = fields.text("style_preset")?;
    request.extra.extend(fields.rest());
    Ok(request)
}

fn read_prompts(request: &mut ImageRequest, fields: &mut Fields) -> Result<(), Unreadable> {
    let spelt = fields
        .take(PROMPTS)
        .ok_or_else(|| wrong(PROMPTS, "is missing"))?;
    let list = prompts::read(&spelt)
        .ok_or_else(|| wrong(PROMPTS, "must be a list of texts with their weights"))?;
    (request.prompt, request.negative_prompt) = prompts::joined(&list);
    if !prompts::is_plain(&list) {
        request
            .extra
            .insert(PROMPTS.to_owned(), prompts::write(&list));
    }
    Ok(())
}

/// Both sides make a size; one alone is left over, for its provider to complete.
fn read_size(fields: &mut Fields) -> Result<Size, Unreadable> {
    let (width, height) = (
        fields.whole::<u32>("width")?,
        fields.whole::<u32>("height")?,
    );
    if let (Some(width @ 1..), Some(height @ 1..)) = (width, height) {
        return Ok(Size::Pixels { width, height });
    }
    for (name, side) in [("width", width), ("height", height)] {
        if let Some(side) = side {
            fields.keep(name, side);
        }
    }
    Ok(Size::Auto)
}

/// `image_strength` says how much of the first picture stays, and our word how much may change.
/// Nine digits are kept, so that turning twice changes nothing.
fn turned(strength: &Number) -> Number {
    let kept = strength.as_f64().unwrap_or_default();
    let turned = ((1.0 - kept) * 1e9).round() / 1e9;
    Number::from_f64(turned).unwrap_or_else(|| strength.clone())
}

fn action(request: &ImageRequest) -> Result<&'static str, Unsupported> {
    let masked = request.extra.contains_key(MASK_SOURCE)
        || request.inputs_of(InputRole::Mask).next().is_some();
    match request.operation {
        Operation::Generate if request.inputs.is_empty() => Ok(TEXT_TO_IMAGE),
        Operation::Generate => Err(unsupported("inputs", "a generation takes no picture")),
        Operation::Edit if masked => Ok(MASKING),
        Operation::Edit => Ok(IMAGE_TO_IMAGE),
        Operation::Variation | Operation::Upscale => {
            Err(unsupported("operation", "these routes generate and edit"))
        }
    }
}

fn write_fields(request: &ImageRequest, action: &str) -> Result<Map<String, Value>, Unsupported> {
    let ours = |name: &&String| CLIENT.contains(&name.as_str()) || *name == ORGANIZATION;
    let mut fields: Map<String, Value> = request
        .extra
        .iter()
        .filter(|(name, _)| !ours(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let spelt = fields.get(PROMPTS).and_then(prompts::read);
    let list = spelt
        .filter(|list| prompts::joined(list) == prompts_of(request))
        .unwrap_or_else(|| prompts::plain(&request.prompt, request.negative_prompt.as_deref()));
    fields.insert(PROMPTS.to_owned(), prompts::write(&list));
    let mut put = |name: &str, value: Option<Value>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("samples", (request.n != 1).then(|| request.n.into()));
    put("seed", request.seed.map(Value::from));
    put("steps", request.steps.map(Value::from));
    put("cfg_scale", request.guidance.clone().map(Value::from));
    put("style_preset", request.style.clone().map(Value::from));
    let strength = request.strength.as_ref().map(turned);
    match &request.size {
        // An edit keeps its picture's size.
        _ if action != TEXT_TO_IMAGE => put("image_strength", strength.map(Value::from)),
        Size::Auto => {}
        Size::Pixels { width, height } => {
            put("width", Some((*width).into()));
            put("height", Some((*height).into()));
        }
        Size::Aspect { .. } => {
            return Err(unsupported("size", "must be width and height in pixels"));
        }
    }
    match request.format {
        None | Some(Format::Png) => Ok(fields),
        Some(_) => Err(unsupported("format", "these routes make PNG alone")),
    }
}

fn prompts_of(request: &ImageRequest) -> (String, Option<String>) {
    (request.prompt.clone(), request.negative_prompt.clone())
}

fn parts(request: &ImageRequest, fields: &Map<String, Value>) -> Result<Vec<Part>, Unsupported> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(items) if name == PROMPTS => {
                for (at, item) in items.iter().enumerate() {
                    form::push_parts(&mut parts, &format!("{name}[{at}]"), item);
                }
            }
            other => form::push_parts(&mut parts, name, other),
        }
    }
    if request.inputs_of(InputRole::Image).count() != 1 {
        return Err(unsupported("inputs", "an edit takes exactly one picture"));
    }
    for input in &request.inputs {
        let name = match input.role {
            InputRole::Image => "init_image",
            // Elsewhere a mask is transparent where the picture may change; here it is white or
            // black there, and only who drew it knows which.
            InputRole::Mask if request.extra.contains_key(MASK_SOURCE) => "mask_image",
            InputRole::Mask => {
                return Err(unsupported(
                    "mask",
                    "a mask by transparency has no word here",
                ));
            }
            role => {
                return Err(unsupported(
                    "inputs",
                    format!("there is no field for a {role}"),
                ));
            }
        };
        let InputSource::Bytes(bytes) = &input.source else {
            return Err(unsupported("inputs", "the picture must be uploaded"));
        };
        parts.push(form::file(name, input, bytes));
    }
    Ok(parts)
}

// Answers for a caller.

/// The seed of the picture at `index`: they count up from the first.
fn seed(asked: &ImageRequest, image: &Image, index: u64) -> u64 {
    let counted = || Some(asked.seed?.wrapping_add(index));
    image.seed.or_else(counted).unwrap_or(0)
}

fn in_json(asked: &ImageRequest, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let mut body = Rope::from(Bytes::from_static(b"{\"artifacts\":["));
    for (image, index) in response.images.iter().zip(0u64..) {
        let before: &[u8] = if index > 0 {
            b",{\"base64\":\""
        } else {
            b"{\"base64\":\""
        };
        body.push(Bytes::from_static(before));
        body.append(&picture::base64(&image.picture)?);
        let seed = seed(asked, image, index);
        body.push(format!("\",\"finishReason\":\"SUCCESS\",\"seed\":{seed}}}"));
    }
    body.push(Bytes::from_static(b"]}"));
    let head = ReplyHead::new(StatusCode::OK, "application/json");
    Ok(Reply { head, body })
}

/// A body that is the picture has room for one.
fn in_bytes(asked: &ImageRequest, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let Some(image) = response.images.first() else {
        return Err(Undeliverable("there is no picture".to_owned()));
    };
    let body = picture::raw(&image.picture)?;
    let mut head = ReplyHead::new(StatusCode::OK, image.format.media_type());
    head.headers
        .insert("finish-reason", HeaderValue::from_static("SUCCESS"));
    let seed = seed(asked, image, 0);
    head.headers.insert("seed", HeaderValue::from(seed));
    Ok(Reply { head, body })
}

fn write_refusal(refusal: &Refusal) -> Reply {
    let name = match refusal.kind {
        FailureKind::Safety => "invalid_prompts",
        FailureKind::RateLimited => "rate_limit_exceeded",
        FailureKind::Quota => "payment_required",
        FailureKind::Auth => "unauthorized",
        FailureKind::Permission => "permission_denied",
        FailureKind::Invalid => "bad_request",
        FailureKind::Retired => "not_found",
        FailureKind::TooLarge => "payload_too_large",
        FailureKind::Overloaded
        | FailureKind::Timeout
        | FailureKind::Network
        | FailureKind::NoImage
        | FailureKind::Server
        | FailureKind::Unknown => "server_error",
    };
    // Moderation is known by this very status and name, whoever refused.
    let (status, name) = match refusal.kind {
        FailureKind::Safety => (400, name),
        _ => (refusal.status, refusal.code.as_deref().unwrap_or(name)),
    };
    let id = blake3::hash(refusal.message.as_bytes()).to_hex();
    let body = json!({"id": &id[..8], "name": name, "message": refusal.message});
    Reply {
        head: head::refusal(status, refusal),
        body: body.to_string().into(),
    }
}

// Answers of the provider.

/// Reads a list of artifacts. Why each ended stands behind its picture, so it waits for the end.
struct ArtifactReader {
    model: ModelId,
    head: ReplyHead,
    scanner: Result<Scanner, NotJson>,
}

impl Reader for ArtifactReader {
    fn feed(&mut self, chunk: &[u8]) -> Progress {
        if let Ok(scanner) = &mut self.scanner
            && let Err(error) = scanner.feed(chunk)
        {
            self.scanner = Err(error);
        }
        if self.scanner.is_ok() && self.head.status.is_success() {
            Progress::Wait
        } else {
            Progress::Failed
        }
    }

    fn finish(self: Box<Self>, body: &Rope) -> Next {
        let node = self.scanner.and_then(Scanner::finish);
        let failed = |failure| Next::Failed(Box::new(failure));
        if !self.head.status.is_success() {
            return failed(refused(&self.head, node.ok().as_ref(), body));
        }
        let artifacts = match &node {
            Ok(node) => Artifacts::read(node, body),
            Err(_) if body.is_empty() => Artifacts::default(),
            Err(error) => {
                let message = format!("the provider's answer is not whole JSON: {error}");
                let status = self.head.status.as_u16();
                return failed(Failure::answered(
                    FailureKind::Server,
                    status,
                    Billed::Unknown,
                    message,
                ));
            }
        };
        if artifacts.images.is_empty() {
            return failed(artifacts.failure(self.head.status.as_u16()));
        }
        let mut codes = head::codes(&self.head, &[]);
        codes.put("finishReason", artifacts.reasons.join(","));
        Next::Done(Box::new(ImageResponse {
            model: self.model,
            created: None,
            images: artifacts.images,
            withheld: artifacts.filtered,
            resolved: Resolved::default(),
            usage: Usage::default(),
            codes,
        }))
    }
}

/// What the artifacts of an answer come to.
#[derive(Default)]
struct Artifacts {
    images: Vec<Image>,
    /// Drawn and blurred.
    filtered: u32,
    /// One for each artifact, in order.
    reasons: Vec<String>,
}

impl Artifacts {
    fn read(node: &Node, body: &Rope) -> Artifacts {
        let mut all = Artifacts::default();
        for artifact in node.get("artifacts").map_or(&[][..], Node::items) {
            let reason = artifact.get("finishReason").and_then(Node::text);
            all.reasons.push(reason.unwrap_or_default().to_owned());
            if reason == Some(FILTERED) {
                all.filtered += 1;
                continue;
            }
            let picture = artifact
                .get("base64")
                .and_then(|text| picture::from_node(text, body));
            if let Some(mut image) = picture.and_then(|p| picture::image(p, Format::Png)) {
                image.seed = artifact.get("seed").and_then(Node::u64);
                all.images.push(image);
            }
        }
        all
    }

    fn failure(&self, status: u16) -> Failure {
        if self.filtered > 0 {
            return blurred(status);
        }
        let message = "the provider answered without a picture";
        let mut failure = Failure::answered(FailureKind::NoImage, status, Billed::Unknown, message);
        failure.code = self
            .reasons
            .first()
            .filter(|text| !text.is_empty())
            .cloned();
        failure
    }
}
