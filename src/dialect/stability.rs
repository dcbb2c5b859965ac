//! Stability AI: the v2beta image routes `sd3`, `core` and `ultra`.
//!
//! A call is always a form and always brings one picture, as bytes with the facts in headers or
//! as JSON. A picture that moderation blurred comes with status 200. After the API reference of
//! v2beta.

pub(super) mod answer;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::form::{self, Fields, wrong};
use super::{
    Dialect, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head, picture, unsupported,
};
use crate::image::{
    Aspect, Delivery, FailureKind, Format, Image, ImageRequest, ImageResponse, Input, InputRole,
    InputSource, ModelId, Operation, Size,
};
use crate::wire::multipart::{self, Part};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(super) struct Stability;

const SD3: &str = "/v2beta/stable-image/generate/sd3";
const CORE: &str = "/v2beta/stable-image/generate/core";
const ULTRA: &str = "/v2beta/stable-image/generate/ultra";
const CORE_MODEL: &str = "stable-image-core";
const ULTRA_MODEL: &str = "stable-image-ultra";
/// The model of `sd3` when none is named.
const SD3_MODEL: &str = "sd3.5-large";
const IMAGE_TO_IMAGE: &str = "image-to-image";

/// Shapes that the routes take.
const ASPECTS: [(u32, u32); 9] = [
    (21, 9),
    (16, 9),
    (3, 2),
    (5, 4),
    (1, 1),
    (4, 5),
    (2, 3),
    (9, 16),
    (9, 21),
];
/// How far an edit may go when nobody said. The routes demand a figure; the middle favours neither
/// the picture nor the prompt.
const STRENGTH: &str = "0.5";

/// The app's name for its own user.
pub(super) const USER: &str = "stability-client-user-id";
/// The app's name and version, passed on.
pub(super) const CLIENT: [&str; 2] = ["stability-client-id", "stability-client-version"];

impl Dialect for Stability {
    fn name(&self) -> &'static str {
        "stability"
    }

    /// An edit shows in the body alone: the operation of the request read counts.
    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        (head.method == Method::POST && route(head).is_some()).then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
        let parts = multipart::read(content_type, body)
            .map_err(|error| wrong("body", format!("must be multipart/form-data: {error}")))?;
        // Stability's own examples send an empty file called `none`, so that a client makes a form.
        let filled =
            |part: &Part| part.filename.is_none() || part.name == "image" || !part.data.is_empty();
        let (files, texts): (Vec<Part>, Vec<Part>) = parts
            .into_iter()
            .filter(filled)
            .partition(|part| part.filename.is_some() || part.name == "image");
        let mut request = ImageRequest::new(ModelId::new(provider, ""), String::new());
        request.operation = operation;
        read_fields(
            &mut request,
            provider,
            route(head).unwrap_or(SD3),
            Fields::of_parts(&texts)?,
        )?;
        request.inputs = files.into_iter().map(input).collect::<Result<_, _>>()?;
        if !request.inputs.is_empty() {
            request.operation = Operation::Edit;
        }
        request.delivery = delivery(head.header(ACCEPT));
        request.user = head.header(USER).map(str::to_owned);
        for name in CLIENT {
            if let Some(text) = head.header(name) {
                request.extra.insert(name.to_owned(), text.into());
            }
        }
        Ok(request)
    }

    fn inert(&self) -> &'static [&'static str] {
        &CLIENT
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        let Some(image) = response.images.first() else {
            return Err(Undeliverable("there is no picture".to_owned()));
        };
        let seed = image.seed.or(asked.seed).unwrap_or(0);
        match asked.delivery {
            Delivery::Base64 => in_json(image, seed),
            Delivery::Bytes | Delivery::Url => in_bytes(image, seed),
        }
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        write_refusal(refusal)
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let path = match request.model.model() {
            CORE_MODEL => CORE,
            ULTRA_MODEL => ULTRA,
            _ => SD3,
        };
        let mut parts = write_fields(request, path)?;
        if let Some((input, bytes)) = one_input(request)? {
            parts.push(form::file("image", input, bytes));
        }
        let (content_type, body) = form::write(&parts);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type);
        // The encoding that the caller will get, so that nothing need be encoded again.
        let accept = match request.delivery {
            Delivery::Base64 => "application/json",
            Delivery::Bytes | Delivery::Url => "image/*",
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let extra = |name: &str| request.extra.get(name).and_then(Value::as_str);
        put_header(&mut headers, USER, request.user.as_deref());
        for name in CLIENT {
            put_header(&mut headers, name, extra(name));
        }
        Ok(Message {
            method: Method::POST,
            target: PathAndQuery::from_static(path),
            headers,
            body,
        })
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
        if content_type.starts_with("application/json") || !head.status.is_success() {
            answer::text_reader(request, head)
        } else {
            answer::bytes_reader(request, head)
        }
    }
}

fn route(head: &RequestHead) -> Option<&'static str> {
    let path = head.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    [SD3, CORE, ULTRA].into_iter().find(|route| *route == path)
}

/// JSON where it is named; bytes for anything else, as is the default.
pub(super) fn delivery(accept: Option<&str>) -> Delivery {
    let json =
        accept.is_some_and(|accept| accept.to_ascii_lowercase().contains("application/json"));
    if json {
        Delivery::Base64
    } else {
        Delivery::Bytes
    }
}

// Requests.

fn read_fields(
    request: &mut ImageRequest,
    provider: &str,
    route: &str,
    mut fields: Fields,
) -> Result<(), Unreadable> {
    let model = match route {
        CORE => CORE_MODEL.to_owned(),
        ULTRA => ULTRA_MODEL.to_owned(),
        _ => fields
            .text("model")?
            .filter(|model| !model.is_empty())
            .unwrap_or_else(|| SD3_MODEL.to_owned()),
    };
    request.model = ModelId::new(provider, &model);
    let mode = fields.word("mode", |mode| match mode {
        "text-to-image" => Some(Operation::Generate),
        IMAGE_TO_IMAGE => Some(Operation::Edit),
        _ => None,
    })?;
    request.operation = mode.unwrap_or(request.operation);
    request.prompt = fields
        .text("prompt")?
        .ok_or_else(|| wrong("prompt", "is missing"))?;
    request.negative_prompt = fields.text("negative_prompt")?;
    if let Some(aspect) = fields.word("aspect_ratio", Aspect::parse)? {
        request.size = Size::Aspect { aspect, step: None };
    }
    // 0 asks for any seed, as saying nothing does.
    request.seed = fields.whole("seed")?.filter(|&seed: &u64| seed != 0);
    request.guidance = fields.number("cfg_scale")?;
    request.strength = fields.number("strength")?;
    request.style = fields.text("style_preset")?;
    request.format = fields.word("output_format", |word| {
        match Format::from_media_type(word) {
            Format::Unknown => None,
            format => Some(format),
        }
    })?;
    request.extra = fields.rest();
    Ok(())
}

fn input(part: Part) -> Result<Input, Unreadable> {
    if part.name != "image" {
        return Err(wrong(
            &part.name,
            "is a file, and this route takes only `image`",
        ));
    }
    let declared = part.content_type.as_deref().map(Format::from_media_type);
    Ok(Input {
        role: InputRole::Image,
        format: picture::known_format(declared.unwrap_or(Format::Unknown), &part.data),
        name: part.filename,
        source: InputSource::Bytes(part.data),
    })
}

fn write_fields(request: &ImageRequest, path: &str) -> Result<Vec<Part>, Unsupported> {
    let edit = match request.operation {
        Operation::Generate => false,
        Operation::Edit => true,
        Operation::Variation | Operation::Upscale => {
            return Err(unsupported("operation", "these routes generate and edit"));
        }
    };
    if request.n != 1 {
        return Err(unsupported("n", "a call brings one picture"));
    }
    let mut parts = vec![Part::text("prompt", request.prompt.as_str())];
    let mut put = |name: &str, text: Option<String>| {
        parts.extend(text.map(|text| Part::text(name, text)));
    };
    put("negative_prompt", request.negative_prompt.clone());
    if path == SD3 {
        put("model", Some(request.model.model().to_owned()));
        put("mode", edit.then(|| IMAGE_TO_IMAGE.to_owned()));
    }
    // An edit keeps its picture's shape, but for `ultra`, which takes both.
    if !edit || path != SD3 {
        put("aspect_ratio", aspect(&request.size)?);
    }
    put("seed", request.seed.map(|seed| seed.to_string()));
    put(
        "cfg_scale",
        request.guidance.as_ref().map(ToString::to_string),
    );
    let strength = request.strength.as_ref().map(ToString::to_string);
    put(
        "strength",
        strength.or_else(|| edit.then(|| STRENGTH.to_owned())),
    );
    put("style_preset", request.style.clone());
    put(
        "output_format",
        request.format.map(|format| format.as_str().to_owned()),
    );
    for (name, value) in &request.extra {
        let ours = CLIENT.contains(&name.as_str()) || parts.iter().any(|part| part.name == *name);
        if !ours {
            form::push_parts(&mut parts, name, value);
        }
    }
    Ok(parts)
}

fn aspect(size: &Size) -> Result<Option<String>, Unsupported> {
    let Some(aspect) = size.aspect() else {
        return Ok(None);
    };
    // 21:9 is 7:3 in lowest terms, and must be spelt as the route does.
    let exact = Aspect::of(aspect.wide, aspect.high);
    ASPECTS
        .iter()
        .find(|&&(wide, high)| Aspect::of(wide, high) == exact)
        .map(|(wide, high)| Some(format!("{wide}:{high}")))
        .ok_or_else(|| unsupported("size", format!("there is no shape {aspect}")))
}

fn one_input(request: &ImageRequest) -> Result<Option<(&Input, &Bytes)>, Unsupported> {
    match (request.operation, request.inputs.as_slice()) {
        (Operation::Generate, []) => Ok(None),
        (Operation::Edit, [only]) if only.role == InputRole::Image => match &only.source {
            InputSource::Bytes(bytes) => Ok(Some((only, bytes))),
            _ => Err(unsupported("inputs", "the picture must be uploaded")),
        },
        (Operation::Edit, _) => Err(unsupported("inputs", "an edit takes exactly one picture")),
        _ => Err(unsupported("inputs", "a generation takes no picture")),
    }
}

pub(super) fn put_header(headers: &mut HeaderMap, name: &'static str, text: Option<&str>) {
    if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

// Answers for a caller.

fn in_json(image: &Image, seed: u64) -> Result<Reply, Undeliverable> {
    let mut body = Rope::from(Bytes::from_static(b"{\"image\":\""));
    body.append(&picture::base64(&image.picture)?);
    body.push(format!(
        "\",\"finish_reason\":\"SUCCESS\",\"seed\":{seed}}}"
    ));
    let content_type = match image.format {
        Format::Jpeg => "application/json; type=image/jpeg",
        Format::Webp => "application/json; type=image/webp",
        Format::Png => "application/json; type=image/png",
        _ => "application/json",
    };
    let head = ReplyHead::new(StatusCode::OK, content_type);
    Ok(Reply { head, body })
}

fn in_bytes(image: &Image, seed: u64) -> Result<Reply, Undeliverable> {
    let body = picture::raw(&image.picture)?;
    let mut head = ReplyHead::new(StatusCode::OK, image.format.media_type());
    head.headers
        .insert("finish-reason", HeaderValue::from_static("SUCCESS"));
    head.headers.insert("seed", HeaderValue::from(seed));
    Ok(Reply { head, body })
}

fn write_refusal(refusal: &Refusal) -> Reply {
    let name = match refusal.kind {
        FailureKind::Safety => "content_moderation",
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
        | FailureKind::Unknown => "internal_error",
    };
    // Moderation is known by this very status and name, whoever refused.
    let (status, name) = match refusal.kind {
        FailureKind::Safety => (403, name),
        _ => (refusal.status, refusal.code.as_deref().unwrap_or(name)),
    };
    // Opaque to clients; equal refusals have equal ids, which helps whoever searches a log.
    let id = blake3::hash(refusal.message.as_bytes()).to_hex();
    let body = json!({
        "id": &id[..32],
        "name": name,
        "errors": [refusal.message],
    });
    Reply {
        head: head::refusal(status, refusal),
        body: body.to_string().into(),
    }
}
