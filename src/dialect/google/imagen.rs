//! Imagen: `:predict`, with one instance and its parameters.
//!
//! Its models are retired at Google since summer 2026. Apps that still speak this format are served
//! by whatever a rule names, and the messages are read for what they are.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Map, Value, json};

use super::super::form::{self, Fields, wrong};
use super::super::{
    Dialect, PLACE, Reader, Refusal, Undeliverable, Unreadable, Unsupported, picture,
};
use super::path::{self, Path};
use super::{
    INERT_QUERY, KEY, QUERY, camel, fields_at, file_in, object, predictions, size, unsupported,
};
use crate::image::{
    Aspect, Delivery, Format, ImageRequest, ImageResponse, Input, InputRole, InputSource, ModelId,
    Operation, Safety,
};
use crate::wire::json::Node;
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(in super::super) struct Imagen;

const PREDICT: &str = "predict";
/// Pictures that come when no number is said.
const COUNT: u32 = 4;
const INSTANCES: &str = "instances";
const PARAMETERS: &str = "parameters";
/// Pictures with what each is for; the older models have `image` and `mask` instead.
const REFERENCES: &str = "referenceImages";
const REFERENCE: &str = "referenceImage";
const IMAGE: &str = "image";
const MASK: &str = "mask";
const LABELS: &str = "labels";
/// The extra field that says that pictures stood in the older fields.
const OLDER: &str = "@older";
/// The extra field of what else stands beside the prompt.
const INSTANCE: &str = "instance";
const STORAGE: &str = "storageUri";
const OUTPUT: &str = "outputOptions";

impl Dialect for Imagen {
    fn name(&self) -> &'static str {
        "imagen"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let path = Path::read(head).filter(|_| head.method == Method::POST)?;
        let ours = path.method == PREDICT && is_imagen(&path.model_name());
        ours.then_some(Operation::Generate)
    }

    fn read_request(
        &self,
        provider: &str,
        _operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let path = Path::read(head).ok_or_else(|| wrong("path", "names no model"))?;
        let node = object(body)?;
        let [instance] = node.get(INSTANCES).map_or(&[][..], Node::items) else {
            return Err(wrong(INSTANCES, "must be a list of exactly one"));
        };
        let mut request = ImageRequest::new(ModelId::new(provider, &path.model_name()), "");
        path.keep(&mut request, head);
        let parameters = fields_at(&node, PARAMETERS, body, &[])?;
        read_parameters(&mut request, parameters).map_err(super::within(PARAMETERS))?;
        read_instance(&mut request, &camel(instance), body).map_err(super::within(INSTANCES))?;
        let upscale = request.extra.get("mode").and_then(Value::as_str) == Some("upscale");
        request.operation = match request.inputs.is_empty() {
            _ if upscale => Operation::Upscale,
            true => Operation::Generate,
            false => Operation::Edit,
        };
        let rest = Fields::of_object(&node, body, &[INSTANCES, PARAMETERS])?.rest();
        request.extra.extend(rest);
        Ok(request)
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        predictions::write(asked, response)
    }

    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        predictions::refusal(refusal)
    }

    fn credential<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        super::credential(head)
    }

    fn key_in_query(&self) -> Option<&'static str> {
        Some(KEY)
    }

    fn inert_query(&self) -> &'static [&'static str] {
        INERT_QUERY
    }

    fn inert(&self) -> &'static [&'static str] {
        &[PLACE, QUERY, LABELS, "includeRaiReason"]
    }

    fn serves(&self, model: &ModelId) -> bool {
        is_imagen(model.model())
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let mut body = Rope::from(Bytes::from_static(b"{\"instances\":["));
        write_instance(&mut body, request)?;
        let parameters = Value::Object(write_parameters(request)?);
        body.push(format!("],\"{PARAMETERS}\":{parameters}"));
        if let Some(labels) = request.extra.get(LABELS) {
            body.push(format!(",\"{LABELS}\":{labels}"));
        }
        body.push(Bytes::from_static(b"}"));
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(CONTENT_TYPE, json.clone());
        headers.insert(ACCEPT, json);
        Ok(Message {
            method: Method::POST,
            target: path::target(request, PREDICT, None)?,
            headers,
            body,
        })
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        super::authorize(headers, key);
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        predictions::reader(request, head)
    }
}

/// Other models of `:predict` make vectors, films, or clothes on people, in other forms.
fn is_imagen(model: &str) -> bool {
    let version = model.strip_prefix("imagen-").map(str::as_bytes);
    let numbered = version.is_some_and(|v| v.first().is_some_and(u8::is_ascii_digit));
    numbered || model.starts_with("imagegeneration@")
}

// Reading a request.

fn read_parameters(request: &mut ImageRequest, mut fields: Fields) -> Result<(), Unreadable> {
    request.n = fields.whole("sampleCount")?.unwrap_or(COUNT);
    if request.n == 0 {
        return Err(wrong("sampleCount", "must be at least 1"));
    }
    let aspect = fields.word("aspectRatio", Aspect::parse)?;
    request.size = size::read(aspect, fields.text("sampleImageSize")?);
    request.negative_prompt = fields.text("negativePrompt")?;
    request.seed = fields.whole("seed")?;
    request.guidance = fields.number("guidanceScale")?;
    request.safety = fields.word("safetySetting", |word| {
        match word.to_ascii_lowercase().as_str() {
            "block_low_and_above" => Some(Safety::Strict),
            "block_medium_and_above" => Some(Safety::Default),
            "block_only_high" => Some(Safety::Relaxed),
            _ => None,
        }
    })?;
    if let Some(Value::Object(mut output)) = fields.take(OUTPUT) {
        let format = output.get("mimeType").and_then(Value::as_str);
        let format = format.map(Format::from_media_type);
        request.format = format.filter(|format| *format != Format::Unknown);
        if request.format.is_some() {
            output.remove("mimeType");
        }
        let percent = output.get("compressionQuality").and_then(Value::as_u64);
        if let Some(percent @ 0..=100) = percent {
            request.compression = u8::try_from(percent).ok();
            output.remove("compressionQuality");
        }
        if !output.is_empty() {
            fields.keep(OUTPUT, output);
        }
    }
    request.extra.extend(fields.rest());
    // The picture goes into the caller's own bucket.
    if request.extra.contains_key(STORAGE) {
        request.delivery = Delivery::Url;
    }
    Ok(())
}

fn read_instance(
    request: &mut ImageRequest,
    instance: &Node,
    body: &Bytes,
) -> Result<(), Unreadable> {
    let mut fields = Fields::of_object(instance, body, &[REFERENCES, IMAGE, MASK])?;
    request.prompt = fields.text("prompt")?.unwrap_or_default();
    let references = instance.get(REFERENCES).map_or(&[][..], Node::items);
    if !references.is_empty() {
        let spelt = references
            .iter()
            .map(|node| reference(&camel(node), body, &mut request.inputs))
            .collect::<Result<Vec<Value>, _>>()?;
        request.extra.insert(REFERENCES.to_owned(), spelt.into());
    }
    let own = instance.get(IMAGE).map(camel);
    // A mask lies one level deeper.
    let mask = instance.get(MASK).map(camel);
    let mask = mask.as_ref().and_then(|mask| mask.get(IMAGE)).map(camel);
    let old = [
        (own, InputRole::Image, IMAGE),
        (mask, InputRole::Mask, MASK),
    ];
    for (node, role, name) in old {
        if let Some(node) = node {
            request
                .inputs
                .push(input(&node, role, body).map_err(super::within(name))?);
            request.extra.insert(OLDER.to_owned(), true.into());
        }
    }
    let rest: Map<String, Value> = fields.rest().into_iter().collect();
    if !rest.is_empty() {
        request.extra.insert(INSTANCE.to_owned(), rest.into());
    }
    Ok(())
}

/// One reference without its picture, in whose place `true` is left.
fn reference(node: &Node, body: &Bytes, inputs: &mut Vec<Input>) -> Result<Value, Unreadable> {
    let fields = Fields::of_object(node, body, &[REFERENCE])?;
    let mut spelt: Map<String, Value> = fields.rest().into_iter().collect();
    if let Some(picture) = node.get(REFERENCE).filter(|node| !node.is_null()) {
        let kind = spelt.get("referenceType").and_then(Value::as_str);
        let role = match kind {
            Some("REFERENCE_TYPE_MASK") => InputRole::Mask,
            Some("REFERENCE_TYPE_STYLE") => InputRole::Style,
            _ => InputRole::Image,
        };
        inputs.push(input(&camel(picture), role, body).map_err(super::within(REFERENCES))?);
        spelt.insert(REFERENCE.to_owned(), true.into());
    }
    Ok(Value::Object(spelt))
}

fn input(node: &Node, role: InputRole, body: &Bytes) -> Result<Input, Unreadable> {
    let kind = node.get("mimeType").and_then(Node::text);
    let declared = kind.map_or(Format::Unknown, Format::from_media_type);
    let bucket = node.get("gcsUri").and_then(|node| form::text(node, body));
    let (source, format) = match (bucket, node.get("bytesBase64Encoded")) {
        (Some(uri), _) => (InputSource::Url(uri), declared),
        (None, Some(data)) => {
            let bytes =
                file_in(data, body).ok_or_else(|| wrong("bytesBase64Encoded", "must be base64"))?;
            let format = picture::known_format(declared, &bytes);
            (InputSource::Bytes(bytes), format)
        }
        (None, None) => return Err(wrong("bytesBase64Encoded", "is missing")),
    };
    Ok(Input {
        role,
        source,
        name: None,
        format,
    })
}

// Writing a request.

fn write_instance(body: &mut Rope, request: &ImageRequest) -> Result<(), Unsupported> {
    body.push(format!("{{\"prompt\":{}", json!(request.prompt)));
    let rest = request.extra.get(INSTANCE).and_then(Value::as_object);
    for (name, value) in rest.into_iter().flatten() {
        body.push(format!(",{}:{value}", json!(name)));
    }
    let old = request.extra.contains_key(OLDER) || request.operation == Operation::Upscale;
    match request.operation {
        Operation::Generate if request.inputs.is_empty() => {}
        Operation::Generate | Operation::Variation => {
            return Err(unsupported(
                "operation",
                "these models generate, edit and upscale",
            ));
        }
        Operation::Edit | Operation::Upscale if old => write_images(body, request)?,
        Operation::Edit | Operation::Upscale => write_references(body, request)?,
    }
    body.push(Bytes::from_static(b"}"));
    Ok(())
}

fn write_images(body: &mut Rope, request: &ImageRequest) -> Result<(), Unsupported> {
    for input in &request.inputs {
        let (before, after) = match input.role {
            InputRole::Image => (",\"image\":", ""),
            InputRole::Mask => (",\"mask\":{\"image\":", "}"),
            InputRole::Markup | InputRole::Style => return Err(no_field(input.role)),
        };
        body.push(before);
        write_input(body, input)?;
        body.push(after);
    }
    Ok(())
}

fn write_references(body: &mut Rope, request: &ImageRequest) -> Result<(), Unsupported> {
    let spelt = request.extra.get(REFERENCES).and_then(Value::as_array);
    let list = match spelt {
        Some(list) => list.clone(),
        None => (1u32..)
            .zip(&request.inputs)
            .map(|(id, input)| plain_reference(id, input.role))
            .collect::<Result<_, _>>()?,
    };
    let mut inputs = request.inputs.iter();
    body.push(format!(",\"{REFERENCES}\":["));
    for (at, reference) in list.iter().enumerate() {
        body.push(Bytes::from_static(if at > 0 { b",{" } else { b"{" }));
        let mut first = true;
        for (name, value) in reference.as_object().into_iter().flatten() {
            body.push(if first { "" } else { "," });
            first = false;
            body.push(format!("{}:", json!(name)));
            let picture = if name == REFERENCE {
                inputs.next()
            } else {
                None
            };
            match picture {
                Some(input) => write_input(body, input)?,
                None => body.push(value.to_string()),
            }
        }
        body.push(Bytes::from_static(b"}"));
    }
    body.push(Bytes::from_static(b"]"));
    Ok(())
}

fn plain_reference(id: u32, role: InputRole) -> Result<Value, Unsupported> {
    let kind = match role {
        InputRole::Image => "REFERENCE_TYPE_RAW",
        InputRole::Style => "REFERENCE_TYPE_STYLE",
        // Elsewhere a mask is transparent where the picture may change, and here it is white.
        InputRole::Mask => {
            return Err(unsupported(
                "mask",
                "a mask by transparency has no word here",
            ));
        }
        InputRole::Markup => return Err(no_field(role)),
    };
    Ok(json!({"referenceType": kind, "referenceId": id, REFERENCE: true}))
}

fn no_field(role: InputRole) -> Unsupported {
    unsupported("inputs", format!("there is no field for a {role}"))
}

fn write_input(body: &mut Rope, input: &Input) -> Result<(), Unsupported> {
    match &input.source {
        InputSource::Bytes(bytes) => {
            let kind = picture::known_format(input.format, bytes).media_type();
            body.push(format!(
                "{{\"mimeType\":\"{kind}\",\"bytesBase64Encoded\":\""
            ));
            body.append(&picture::encode(&Rope::from(bytes.clone())));
            body.push(Bytes::from_static(b"\"}"));
            Ok(())
        }
        InputSource::Url(uri) if uri.starts_with("gs://") => {
            let mut place = json!({"gcsUri": uri});
            if input.format != Format::Unknown {
                place["mimeType"] = input.format.media_type().into();
            }
            body.push(place.to_string());
            Ok(())
        }
        InputSource::Url(_) | InputSource::FileId(_) => Err(unsupported(
            "inputs",
            "the picture must be uploaded or lie in a bucket",
        )),
    }
}

fn write_parameters(request: &ImageRequest) -> Result<Map<String, Value>, Unsupported> {
    let no_word = "these models have no word for it";
    let said = [
        ("steps", request.steps.is_some()),
        ("strength", request.strength.is_some()),
        ("style", request.style.is_some()),
        ("quality", request.quality.is_some()),
        ("background", request.background.is_some()),
        ("stream", request.stream),
    ];
    if let Some((field, _)) = said.into_iter().find(|(_, said)| *said) {
        return Err(unsupported(field, no_word));
    }
    let ours = [PLACE, QUERY, LABELS, INSTANCE, REFERENCES, OLDER];
    let mut fields: Map<String, Value> = request
        .extra
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let (shape, step) = size::spelt(&request.size, size::IMAGEN)?;
    let mut output = match fields.remove(OUTPUT) {
        Some(Value::Object(output)) => output,
        _ => Map::new(),
    };
    let kind = request.format.map(|format| format.media_type());
    output.extend(kind.map(|kind| ("mimeType".to_owned(), kind.into())));
    let percent = request.compression;
    output.extend(percent.map(|percent| ("compressionQuality".to_owned(), percent.into())));
    let safety = match (request.safety, path::is_vertex(request)) {
        (Some(Safety::Strict), _) => Some("block_low_and_above"),
        (Some(Safety::Default), true) => Some("block_medium_and_above"),
        (Some(Safety::Relaxed), true) => Some("block_only_high"),
        (Some(Safety::Relaxed), false) => {
            let why = "the Gemini API takes the strictest setting alone";
            return Err(unsupported("safety", why));
        }
        // What nobody asks for otherwise: the Gemini API would refuse the word.
        (Some(Safety::Default), false) | (None, _) => None,
    };
    let mut put = |name: &str, value: Option<Value>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    put("sampleCount", Some(request.n.into()));
    put("aspectRatio", shape.map(Value::from));
    put("sampleImageSize", step.map(Value::from));
    put(
        "negativePrompt",
        request.negative_prompt.clone().map(Value::from),
    );
    put("seed", request.seed.map(Value::from));
    put("guidanceScale", request.guidance.clone().map(Value::from));
    put("safetySetting", safety.map(Value::from));
    put(OUTPUT, (!output.is_empty()).then(|| output.into()));
    Ok(fields)
}
