//! OpenAI Images: generations, edits and variations.
//!
//! Other providers speak this dialect too (Together, TokenMix, LiteLLM, DeepInfra), so what is
//! unknown here is kept and passed on rather than refused. After OpenAI's API description of
//! August 2026 and the official Python client 3.54.

mod answer;
mod azure;
mod batch;
mod responses;
mod wording;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value, json};

use super::batch::Batches;
use super::form::{self, Fields, wrong};
use super::{
    Dialect, NOTE, Reader, Refusal, Undeliverable, Unreadable, Unsupported, picture, unsupported,
};
use crate::image::{
    Delivery, Format, ImageRequest, ImageResponse, Input, InputRole, InputSource, ModelId,
    Operation, Quality, Safety, Size,
};
use crate::wire::json::{self, Node};
use crate::wire::multipart::{self, Part};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) use azure::Azure;
pub(super) use responses::Responses;

pub(super) struct OpenAi;

const GENERATIONS: &str = "/v1/images/generations";
const EDITS: &str = "/v1/images/edits";
const VARIATIONS: &str = "/v1/images/variations";

/// The extra field that holds the query string.
const QUERY: &str = "?";
/// Providers whose own models answer with URLs when nothing is said; all others answer in base64.
const URL_BY_DEFAULT: [&str; 2] = ["together", "xai"];
/// Fields that are numbers, also where a form has them as text.
const COUNTS: [&str; 4] = ["frame_count", "frame_duration_ms", "width", "height"];

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        if head.method != Method::POST {
            return None;
        }
        let path = head.path();
        match path.strip_suffix('/').unwrap_or(path) {
            GENERATIONS => Some(Operation::Generate),
            EDITS => Some(Operation::Edit),
            VARIATIONS => Some(Operation::Variation),
            _ => None,
        }
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        read_call(provider, operation, default_model(operation), head, body)
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        wording::response(asked, response)
    }

    fn write_refusal(&self, asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        wording::refusal(asked, refusal)
    }

    fn inert(&self) -> &'static [&'static str] {
        &["metadata", "response_format", "safety_identifier", "user"]
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let path = match request.operation {
            Operation::Generate => GENERATIONS,
            Operation::Edit => EDITS,
            Operation::Variation => VARIATIONS,
            Operation::Upscale => {
                return Err(unsupported("operation", "there is no route that upscales"));
            }
        };
        write_call(request, write_fields(request), path)
    }

    fn batches(&self) -> Option<&'static dyn Batches> {
        Some(&batch::OpenAiBatches)
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        answer::reader(request, head)
    }
}

/// Whether the model answers in base64 alone and takes no `response_format`. Relays and resellers
/// put a vendor before the name.
fn is_gpt(model: &ModelId) -> bool {
    model.model().contains("gpt-image")
}

fn is_dalle(model: &ModelId) -> bool {
    // A deployment's name has no hyphens now and then.
    model.model().contains("dall-e") || model.model().contains("dalle")
}

/// How an answer comes when the request does not say.
fn default_delivery(model: &ModelId) -> Delivery {
    let by_url = is_dalle(model) || URL_BY_DEFAULT.contains(&model.provider());
    if by_url && !is_gpt(model) {
        Delivery::Url
    } else {
        Delivery::Base64
    }
}

/// The model that answers when none is named, after the API description.
fn default_model(operation: Operation) -> &'static str {
    match operation {
        Operation::Edit => "gpt-image-1.5",
        _ => "dall-e-2",
    }
}

fn is_form(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("multipart/form-data")
}

fn json_type() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

fn target(path: &str, query: Option<&str>) -> Result<PathAndQuery, Unsupported> {
    let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    whole
        .parse()
        .map_err(|_| unsupported("model", format!("`{whole}` is no path")))
}

// Reading a request.

/// Reads a call; `unnamed` is the model that answers where none is named.
fn read_call(
    provider: &str,
    operation: Operation,
    unnamed: &str,
    head: &RequestHead,
    body: &Bytes,
) -> Result<ImageRequest, Unreadable> {
    let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
    let (fields, inputs) = if is_form(content_type) {
        read_form(content_type, body)?
    } else if operation == Operation::Variation {
        return Err(wrong("body", "must be multipart/form-data"));
    } else {
        read_json(operation, body)?
    };
    let mut request = read_fields(provider, operation, unnamed, fields)?;
    request.inputs = inputs;
    if let Some(query) = head.target.query() {
        request.extra.insert(QUERY.to_owned(), query.into());
    }
    Ok(request)
}

fn read_form(content_type: &str, body: &Bytes) -> Result<(Fields, Vec<Input>), Unreadable> {
    let parts =
        multipart::read(content_type, body).map_err(|error| wrong("body", error.to_string()))?;
    let (files, texts): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(is_file);
    let inputs = files.into_iter().map(input).collect::<Result<_, _>>()?;
    Ok((Fields::of_parts(&texts)?, inputs))
}

/// Clients leave the file's name out now and then; the field's name tells as well.
fn is_file(part: &Part) -> bool {
    part.filename.is_some() || role(&part.name).is_some()
}

fn role(name: &str) -> Option<InputRole> {
    match name {
        "image" | "image[]" => Some(InputRole::Image),
        "mask" | "mask[]" => Some(InputRole::Mask),
        "markup" => Some(InputRole::Markup),
        _ if name.starts_with("image[") => Some(InputRole::Image),
        _ => None,
    }
}

fn input(part: Part) -> Result<Input, Unreadable> {
    let role = role(&part.name)
        .ok_or_else(|| wrong(&part.name, "is a file, and no image, mask or markup"))?;
    let declared = part.content_type.as_deref().map(Format::from_media_type);
    Ok(Input {
        role,
        format: picture::known_format(declared.unwrap_or(Format::Unknown), &part.data),
        name: part.filename,
        source: InputSource::Bytes(part.data),
    })
}

fn read_json(operation: Operation, body: &Bytes) -> Result<(Fields, Vec<Input>), Unreadable> {
    let node = json::parse(body).map_err(|error| wrong("body", format!("is not JSON: {error}")))?;
    if operation == Operation::Generate {
        return Ok((Fields::of_object(&node, body, &[])?, Vec::new()));
    }
    let fields = Fields::of_object(&node, body, &["images", "mask", "markup"])?;
    let mut inputs = Vec::new();
    match node.get("images") {
        None | Some(Node::Null) => {}
        Some(Node::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                let field = format!("images[{at}]");
                inputs.push(referred(InputRole::Image, &field, item, body)?);
            }
        }
        Some(_) => return Err(wrong("images", "must be a list")),
    }
    for (name, role) in [("mask", InputRole::Mask), ("markup", InputRole::Markup)] {
        if let Some(item) = node.get(name).filter(|item| !item.is_null()) {
            inputs.push(referred(role, name, item, body)?);
        }
    }
    Ok((fields, inputs))
}

/// An input image named by `image_url` (fetched, or a data URL) or by `file_id`.
fn referred(role: InputRole, field: &str, item: &Node, body: &Bytes) -> Result<Input, Unreadable> {
    let said = |name: &str| item.get(name).filter(|node| !node.is_null());
    let (name, node) = match (said("image_url"), said("file_id")) {
        (Some(node), _) => ("image_url", node),
        (None, Some(node)) => ("file_id", node),
        (None, None) => return Err(wrong(field, "must have an image_url or a file_id")),
    };
    let field = format!("{field}.{name}");
    let text = || form::text(node, body).ok_or_else(|| wrong(&field, "must be a text"));
    let mut format = Format::Unknown;
    let source = match data_url(node, body) {
        _ if name == "file_id" => InputSource::FileId(text()?),
        Some(read) => {
            let (declared, bytes) =
                read.ok_or_else(|| wrong(&field, "is a data URL without valid base64"))?;
            format = picture::known_format(declared, &bytes);
            InputSource::Bytes(bytes)
        }
        None => InputSource::Url(text()?),
    };
    Ok(Input {
        role,
        source,
        name: None,
        format,
    })
}

/// The picture of a data URL without a copy of its text; `None` when it is another URL.
fn data_url(node: &Node, body: &Bytes) -> Option<Option<(Format, Bytes)>> {
    let read = |url: &[u8]| {
        url.starts_with(b"data:")
            .then(|| picture::from_data_url(url))
    };
    match node {
        Node::Long(span) if !span.escaped => read(body.get(span.start..span.end)?),
        other => read(form::text(other, body)?.as_bytes()),
    }
}

fn read_fields(
    provider: &str,
    operation: Operation,
    unnamed: &str,
    mut fields: Fields,
) -> Result<ImageRequest, Unreadable> {
    let model = fields.text("model")?.filter(|model| !model.is_empty());
    let model = ModelId::new(provider, model.as_deref().unwrap_or(unnamed));
    let prompt = fields.text("prompt")?;
    if prompt.is_none() && operation != Operation::Variation {
        return Err(wrong("prompt", "is missing"));
    }
    let mut request = ImageRequest::new(model, prompt.unwrap_or_default());
    request.operation = operation;
    request.n = fields.whole("n")?.unwrap_or(1);
    if request.n == 0 {
        return Err(wrong("n", "must be at least 1"));
    }
    request.size = read_size(&mut fields)?;
    request.quality = fields.word("quality", Quality::parse)?;
    request.style = fields.text("style")?;
    request.background = fields.text("background")?;
    request.negative_prompt = fields.text("negative_prompt")?;
    request.seed = fields.whole("seed")?;
    request.steps = fields.whole("steps")?;
    request.guidance = fields.number("guidance_scale")?;
    request.strength = fields.number("strength")?;
    request.format = fields.word("output_format", |word| {
        match Format::from_media_type(word) {
            Format::Unknown => None,
            format => Some(format),
        }
    })?;
    request.compression = read_compression(&mut fields)?;
    request.safety = fields.word("moderation", |word| match word {
        "low" => Some(Safety::Relaxed),
        "auto" => Some(Safety::Default),
        _ => None,
    })?;
    request.stream = fields.switch("stream")?.unwrap_or(false);
    request.partial_images = fields.whole("partial_images")?.unwrap_or(0);
    request.delivery = read_delivery(&mut fields, &request.model)?;
    request.user = read_user(&mut fields)?;
    fields.count(&COUNTS);
    request.extra = fields.rest();
    Ok(request)
}

/// `size`, or `width` and `height` as some providers have it; these stay, so that the request is
/// spelt the same way again.
fn read_size(fields: &mut Fields) -> Result<Size, Unreadable> {
    if let Some(size) = fields.word("size", Size::parse)? {
        return Ok(size);
    }
    let (width, height) = (
        fields.whole::<u32>("width")?,
        fields.whole::<u32>("height")?,
    );
    for (name, side) in [("width", width), ("height", height)] {
        if let Some(side) = side {
            fields.keep(name, side);
        }
    }
    Ok(match (width, height) {
        (Some(width @ 1..), Some(height @ 1..)) => Size::Pixels { width, height },
        _ => Size::Auto,
    })
}

fn read_compression(fields: &mut Fields) -> Result<Option<u8>, Unreadable> {
    let Some(percent) = fields.whole::<u64>("output_compression")? else {
        return Ok(None);
    };
    let compression = u8::try_from(percent).ok().filter(|&percent| percent <= 100);
    if compression.is_none() {
        fields.keep("output_compression", percent);
    }
    Ok(compression)
}

fn read_delivery(fields: &mut Fields, model: &ModelId) -> Result<Delivery, Unreadable> {
    let Some(word) = fields.text("response_format")? else {
        return Ok(default_delivery(model));
    };
    let delivery = match word.as_str() {
        "url" => Delivery::Url,
        "b64_json" => Delivery::Base64,
        "base64" => {
            fields.keep("response_format", word);
            Delivery::Base64
        }
        _ => {
            fields.keep("response_format", word);
            default_delivery(model)
        }
    };
    Ok(delivery)
}

/// `safety_identifier` wins over `user`. It stays, as the sign of how the app spells it.
fn read_user(fields: &mut Fields) -> Result<Option<String>, Unreadable> {
    let user = fields.text("user")?;
    let Some(identifier) = fields.text("safety_identifier")? else {
        return Ok(user);
    };
    fields.keep("safety_identifier", identifier.as_str());
    if let Some(user) = user {
        fields.keep("user", user);
    }
    Ok(Some(identifier))
}

// Writing a request.

/// The message that says `fields` at `path`, with the input pictures.
fn write_call(
    request: &ImageRequest,
    mut fields: Map<String, Value>,
    path: &str,
) -> Result<Message, Unsupported> {
    let query = fields.remove(QUERY);
    let (content_type, body) = match request.operation {
        Operation::Generate if !request.inputs.is_empty() => {
            return Err(unsupported(
                "inputs",
                "a generation takes no input images; an edit does",
            ));
        }
        Operation::Generate => (json_type(), Rope::from(Value::Object(fields).to_string())),
        Operation::Edit if must_be_json(request) => (json_type(), json_edit(request, fields)?),
        _ => form::write(&form_parts(request, &fields)?),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, content_type);
    let accept = if request.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    Ok(Message {
        method: Method::POST,
        target: target(path, query.as_ref().and_then(Value::as_str))?,
        headers,
        body,
    })
}

/// Every field but the pictures. What our words say wins over what is left in extra; notes are
/// nobody's fields.
fn write_fields(request: &ImageRequest) -> Map<String, Value> {
    let said = |(name, _): &(String, Value)| !name.starts_with(NOTE);
    let extra = request.extra.clone().into_iter();
    let mut fields: Map<String, Value> = extra.filter(said).collect();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    put("model", Some(request.model.model().into()));
    if request.operation != Operation::Variation {
        put("prompt", Some(request.prompt.as_str().into()));
    }
    put("n", (request.n != 1).then(|| request.n.into()));
    write_size(request, &mut put);
    put("quality", request.quality.map(|q| q.as_str().into()));
    put("style", text(&request.style));
    put("background", text(&request.background));
    put("negative_prompt", text(&request.negative_prompt));
    put("seed", request.seed.map(Value::from));
    put("steps", request.steps.map(Value::from));
    put("guidance_scale", request.guidance.clone().map(Value::from));
    put("strength", request.strength.clone().map(Value::from));
    put("output_format", request.format.map(|f| f.as_str().into()));
    put("output_compression", request.compression.map(Value::from));
    put("moderation", request.safety.map(|s| moderation(s).into()));
    put("stream", request.stream.then_some(Value::Bool(true)));
    let partials = (request.partial_images > 0).then(|| request.partial_images.into());
    put("partial_images", partials);
    put("response_format", response_format(request).map(Value::from));
    let identified = request.extra.contains_key("safety_identifier");
    let user = if identified {
        "safety_identifier"
    } else {
        "user"
    };
    put(user, text(&request.user));
    fields
}

fn write_size(request: &ImageRequest, put: &mut impl FnMut(&str, Option<Value>)) {
    match (&request.size, request.extra.contains_key("width")) {
        (Size::Auto, _) => {}
        (Size::Pixels { width, height }, true) => {
            put("width", Some((*width).into()));
            put("height", Some((*height).into()));
        }
        (Size::Aspect { aspect, .. }, _) => put("size", Some(aspect.to_string().into())),
        (size, _) => put("size", Some(size.to_string().into())),
    }
}

fn moderation(safety: Safety) -> &'static str {
    match safety {
        Safety::Relaxed => "low",
        Safety::Default | Safety::Strict => "auto",
    }
}

/// Only where it changes anything: a GPT model refuses the field, whatever it says.
fn response_format(request: &ImageRequest) -> Option<&'static str> {
    let wanted = match request.delivery {
        Delivery::Url => Delivery::Url,
        Delivery::Base64 | Delivery::Bytes => Delivery::Base64,
    };
    let spelt = request.extra.get("response_format").and_then(Value::as_str);
    let base64 = spelt == Some("base64");
    if is_gpt(&request.model) || wanted == default_delivery(&request.model) && !base64 {
        return None;
    }
    match wanted {
        Delivery::Url => Some("url"),
        _ if base64 => Some("base64"),
        _ => Some("b64_json"),
    }
}

/// A form holds files alone, and has no word for moderation.
fn must_be_json(request: &ImageRequest) -> bool {
    let file = |input: &Input| matches!(input.source, InputSource::Bytes(_));
    request.safety.is_some() || !request.inputs.iter().all(file)
}

fn json_edit(request: &ImageRequest, fields: Map<String, Value>) -> Result<Rope, Unsupported> {
    let mut head = Value::Object(fields).to_string();
    head.pop();
    let mut body = Rope::from(head);
    let images: Vec<&Input> = request.inputs_of(InputRole::Image).collect();
    body.push(Bytes::from_static(b",\"images\":["));
    for (at, input) in images.iter().enumerate() {
        if at > 0 {
            body.push(Bytes::from_static(b","));
        }
        push_reference(&mut body, input);
    }
    body.push(Bytes::from_static(b"]"));
    for input in request.inputs.iter().filter(|i| i.role != InputRole::Image) {
        body.push(format!(",\"{}\":", other_part(input)?));
        push_reference(&mut body, input);
    }
    body.push(Bytes::from_static(b"}"));
    Ok(body)
}

fn push_reference(body: &mut Rope, input: &Input) {
    match &input.source {
        InputSource::Bytes(bytes) => {
            body.push(Bytes::from_static(b"{\"image_url\":\""));
            body.append(&picture::data_url(input.format, bytes));
            body.push(Bytes::from_static(b"\"}"));
        }
        InputSource::Url(url) => body.push(json!({"image_url": url}).to_string()),
        InputSource::FileId(id) => body.push(json!({"file_id": id}).to_string()),
    }
}

/// The field of an input that is no plain image.
fn other_part(input: &Input) -> Result<&'static str, Unsupported> {
    match input.role {
        InputRole::Mask => Ok("mask"),
        InputRole::Markup => Ok("markup"),
        InputRole::Image => Ok("image"),
        InputRole::Style => Err(unsupported("inputs", "there is no field for a style image")),
    }
}

fn form_parts(
    request: &ImageRequest,
    fields: &Map<String, Value>,
) -> Result<Vec<Part>, Unsupported> {
    let mut parts = Vec::new();
    for (name, value) in fields {
        form::push_parts(&mut parts, name, value);
    }
    // The official clients' habit, which the strictest servers share.
    let several = request.inputs_of(InputRole::Image).count() > 1;
    for input in &request.inputs {
        let name = match other_part(input)? {
            "image" if several => "image[]",
            name => name,
        };
        let InputSource::Bytes(bytes) = &input.source else {
            return Err(unsupported(
                "inputs",
                "this route takes uploaded files alone",
            ));
        };
        parts.push(form::file(name, input, bytes));
    }
    Ok(parts)
}
