//! The Gemini image models: `:generateContent`, and `:streamGenerateContent` as events.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use memchr::memmem;
use serde_json::{Map, Value, json};

use super::super::batch::Batches;
use super::super::form::{Fields, wrong};
use super::super::{
    Dialect, PLACE, Reader, Refusal, Undeliverable, Unreadable, Unsupported, picture, query,
};
use super::path::{self, Path};
use super::{
    INERT_QUERY, KEY, QUERY, batch, camel, chunks, contents, error, fields_at, object, safety,
    size, unsupported, within,
};
use crate::bill::Usage;
use crate::image::{
    Aspect, FailureKind, Format, ImageRequest, ImageResponse, ModelId, Operation, Size, Tier,
};
use crate::wire::json::{self, Node};
use crate::wire::{Message, Reply, ReplyHead, RequestHead, Rope};

pub(in super::super) struct Gemini;

const WHOLE: &str = "generateContent";
const STREAM: &str = "streamGenerateContent";
/// Asks for events; without it a stream is one JSON list.
const EVENTS: &str = "alt=sse";
const CONFIG: &str = "generationConfig";
const IMAGE_CONFIG: &str = "imageConfig";
const OUTPUT: &str = "imageOutputOptions";
const MODALITIES: &str = "responseModalities";
/// The extra field of the modalities that the app named, or of `null` for none: then this format's
/// own default stands, which is words and pictures.
const NAMED: &str = "@modalities";
/// The extra field of a resolution that was asked for without a shape.
const STEP: &str = "@step";
/// No call is larger that Google takes with its pictures inside, so a larger one need not be kept
/// back for a look at what it asks for.
const LONGEST_LOOK: u64 = 32 << 20;

impl Dialect for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    /// A text model's path is claimed too: only the body tells whether it is asked for a picture.
    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let path = Path::read(head).filter(|_| head.method == Method::POST)?;
        let ours = match path.method {
            WHOLE => true,
            STREAM => query::value(head.target.query()?, "alt") == Some("sse"),
            _ => false,
        };
        let length = head.header(CONTENT_LENGTH).and_then(|l| l.parse().ok());
        let looks = draws(&path.model_name()) || length.is_none_or(|l: u64| l <= LONGEST_LOOK);
        (ours && looks).then_some(Operation::Generate)
    }

    fn may_talk(&self) -> bool {
        true
    }

    fn asks_for_picture(&self, head: &RequestHead, body: &Bytes) -> bool {
        let model = Path::read(head).map_or_else(String::new, |path| path.model_name());
        asked_modalities(body).unwrap_or_else(|| draws(&model))
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
        let mut request = ImageRequest::new(ModelId::new(provider, &path.model_name()), "");
        path.keep(&mut request, head);
        contents::read(&mut request, node.get("contents"), body)?;
        if !request.inputs.is_empty() {
            request.operation = Operation::Edit;
        }
        request.stream = path.method == STREAM;
        let mut fields = Fields::of_object(&node, body, &["contents", CONFIG])?.lenient();
        if let Some(tier) = fields.word("serviceTier", tier)? {
            request.tier = tier;
        }
        safety::read(&mut request, &mut fields);
        read_config(&mut request, &node, body)?;
        request.extra.extend(fields.rest());
        Ok(request)
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        write_response(asked, response)
    }

    /// Moderation of a prompt is no error here: an answer says so in place of candidates.
    fn write_refusal(&self, _asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        if refusal.kind != FailureKind::Safety {
            return error::refusal(refusal);
        }
        let body = json!({"promptFeedback": {
            "blockReason": "PROHIBITED_CONTENT",
            "blockReasonMessage": refusal.message,
            "safetyRatings": [],
        }});
        Reply {
            head: error::moderated(refusal),
            body: body.to_string().into(),
        }
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
        &[PLACE, QUERY, "labels"]
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        refuse_what_has_no_word(request)?;
        let mut body = Rope::from(Bytes::from_static(b"{\"contents\":"));
        contents::write(&mut body, request)?;
        for (name, value) in write_fields(request)? {
            body.push(format!(",{}:{value}", json!(name)));
        }
        body.push(Bytes::from_static(b"}"));
        let (method, more, accept) = if request.stream {
            (STREAM, Some(EVENTS), "text/event-stream")
        } else {
            (WHOLE, None, "application/json")
        };
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Ok(Message {
            method: Method::POST,
            target: path::target(request, method, more)?,
            headers,
            body,
        })
    }

    fn batches(&self) -> Option<&'static dyn Batches> {
        Some(&batch::GeminiBatches)
    }

    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        super::authorize(headers, key);
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        let config = request.extra.get(CONFIG);
        let thoughts = config.and_then(|config| config.pointer("/thinkingConfig/includeThoughts"));
        chunks::reader(request, head, thoughts == Some(&Value::Bool(true)))
    }
}

/// Whether a model draws when nothing else is said. Their names tell, but for the newest family's.
fn draws(model: &str) -> bool {
    model.contains("image") || model.contains("nano-banana")
}

/// Whether a picture is among the modalities that a body names; `None` when it names none, or is
/// nothing that can be read.
fn asked_modalities(body: &Bytes) -> Option<bool> {
    // A word to look for first, so that a conversation without it is not read to its end.
    memmem::find(body, b"odalities")?;
    let node = camel(&json::parse(body).ok()?);
    let config = camel(node.get(CONFIG)?);
    let modalities = config.get(MODALITIES)?.items();
    let picture = |node: &Node| {
        node.text()
            .is_some_and(|word| word.eq_ignore_ascii_case("image"))
    };
    (!modalities.is_empty()).then(|| modalities.iter().any(picture))
}

fn tier(word: &str) -> Option<Tier> {
    match word {
        "standard" => Some(Tier::Standard),
        "flex" => Some(Tier::Flex),
        "priority" => Some(Tier::Fast),
        _ => None,
    }
}

// Reading a request.

fn read_config(request: &mut ImageRequest, node: &Node, body: &Bytes) -> Result<(), Unreadable> {
    let within_config = within(CONFIG);
    let mut config = fields_at(node, CONFIG, body, &[IMAGE_CONFIG])?;
    request.n = config
        .whole("candidateCount")
        .map_err(&within_config)?
        .unwrap_or(1);
    if request.n == 0 {
        return Err(wrong(
            "generationConfig.candidateCount",
            "must be at least 1",
        ));
    }
    let named = config.take(MODALITIES).unwrap_or(Value::Null);
    request.extra.insert(NAMED.to_owned(), named);
    match config.take("seed") {
        Some(Value::Number(seed)) if seed.is_u64() => request.seed = seed.as_u64(),
        // Below zero it is a seed of this provider alone.
        Some(other) => config.keep("seed", other),
        None => {}
    }
    let node = node.get(CONFIG).map_or(Node::Null, camel);
    let mut picture = fields_at(&node, IMAGE_CONFIG, body, &[])?;
    read_picture(request, &mut picture).map_err(within("generationConfig.imageConfig"))?;
    let mut rest = config.rest();
    let picture: Map<String, Value> = picture.rest().into_iter().collect();
    if !picture.is_empty() {
        rest.insert(IMAGE_CONFIG.to_owned(), picture.into());
    }
    if !rest.is_empty() {
        let rest: Map<String, Value> = rest.into_iter().collect();
        request.extra.insert(CONFIG.to_owned(), rest.into());
    }
    Ok(())
}

fn read_picture(request: &mut ImageRequest, picture: &mut Fields) -> Result<(), Unreadable> {
    let aspect = picture.word("aspectRatio", Aspect::parse)?;
    let step = picture.text("imageSize")?;
    if let (None, Some(step)) = (aspect, &step) {
        // A shape of our own must not be asked for where the app left it open.
        request.extra.insert(STEP.to_owned(), step.as_str().into());
    }
    request.size = size::read(aspect, step);
    let Some(Value::Object(mut output)) = picture.take(OUTPUT) else {
        return Ok(());
    };
    let format = output.get("mimeType").and_then(Value::as_str);
    let format = format
        .map(Format::from_media_type)
        .filter(|f| *f != Format::Unknown);
    if format.is_some() {
        request.format = format;
        output.remove("mimeType");
    }
    let percent = output.get("compressionQuality").and_then(Value::as_u64);
    if let Some(percent @ 0..=100) = percent {
        request.compression = u8::try_from(percent).ok();
        output.remove("compressionQuality");
    }
    if !output.is_empty() {
        picture.keep(OUTPUT, output);
    }
    Ok(())
}

// Writing a request.

/// Fitting takes out what a model cannot do; what is left of it here would be lost in silence.
fn refuse_what_has_no_word(request: &ImageRequest) -> Result<(), Unsupported> {
    let no_word = "these models have no word for it";
    match request.operation {
        Operation::Generate | Operation::Edit => {}
        Operation::Variation | Operation::Upscale => {
            return Err(unsupported("operation", "these models generate and edit"));
        }
    }
    let said = [
        ("negative_prompt", request.negative_prompt.is_some()),
        ("steps", request.steps.is_some()),
        ("guidance", request.guidance.is_some()),
        ("strength", request.strength.is_some()),
        ("style", request.style.is_some()),
        ("quality", request.quality.is_some()),
        ("background", request.background.is_some()),
        ("tier", request.tier == Tier::Batch),
    ];
    if let Some((field, _)) = said.into_iter().find(|(_, said)| *said) {
        return Err(unsupported(field, no_word));
    }
    if request.n != 1 {
        return Err(unsupported("n", "a call brings one picture"));
    }
    let plain = matches!(request.format, None | Some(Format::Png)) && request.compression.is_none();
    if !plain && !path::is_vertex(request) {
        return Err(unsupported("format", "the Gemini API chooses the format"));
    }
    Ok(())
}

fn write_fields(request: &ImageRequest) -> Result<Map<String, Value>, Unsupported> {
    let ours = [PLACE, QUERY, NAMED, STEP, CONFIG, safety::SPELT, "contents"];
    let mut fields: Map<String, Value> = request
        .extra
        .iter()
        .filter(|(name, _)| !ours.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let tier = match request.tier {
        Tier::Fast => Some("priority"),
        Tier::Flex => Some("flex"),
        Tier::Standard | Tier::Batch => None,
    };
    fields.extend(tier.map(|word| ("serviceTier".to_owned(), word.into())));
    let settings = safety::write(request);
    fields.extend(settings.map(|settings| (safety::SETTINGS.to_owned(), settings)));
    let spelt = request.extra.get(CONFIG).and_then(Value::as_object);
    let mut config = spelt.cloned().unwrap_or_default();
    let modalities = match request.extra.get(NAMED) {
        Some(named) => named.clone(),
        // Asked in another format: words that nobody wants would be paid from the same purse.
        None => json!(["IMAGE"]),
    };
    if !modalities.is_null() {
        config.insert(MODALITIES.to_owned(), modalities);
    }
    config.extend(request.seed.map(|seed| ("seed".to_owned(), seed.into())));
    let picture = write_picture(request, config.remove(IMAGE_CONFIG))?;
    if !picture.is_empty() {
        config.insert(IMAGE_CONFIG.to_owned(), picture.into());
    }
    if !config.is_empty() {
        fields.insert(CONFIG.to_owned(), config.into());
    }
    Ok(fields)
}

fn write_picture(
    request: &ImageRequest,
    spelt: Option<Value>,
) -> Result<Map<String, Value>, Unsupported> {
    let mut picture = match spelt {
        Some(Value::Object(picture)) => picture,
        _ => Map::new(),
    };
    let (mut shape, step) = size::spelt(&request.size, size::GEMINI)?;
    if let Size::Aspect { step, .. } = &request.size
        && step.is_some()
        && request.extra.get(STEP).and_then(Value::as_str) == step.as_deref()
    {
        shape = None;
    }
    let mut put = |name: &str, text: Option<String>| {
        picture.extend(text.map(|text| (name.to_owned(), text.into())));
    };
    put("aspectRatio", shape);
    put("imageSize", step);
    if !path::is_vertex(request) {
        return Ok(picture);
    }
    let mut output = match picture.remove(OUTPUT) {
        Some(Value::Object(output)) => output,
        _ => Map::new(),
    };
    let kind = request.format.map(|format| format.media_type());
    output.extend(kind.map(|kind| ("mimeType".to_owned(), kind.into())));
    let percent = request.compression;
    output.extend(percent.map(|percent| ("compressionQuality".to_owned(), percent.into())));
    if !output.is_empty() {
        picture.insert(OUTPUT.to_owned(), output.into());
    }
    Ok(picture)
}

// Answers for a caller.

fn write_response(asked: &ImageRequest, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let mut body = Rope::new();
    if asked.stream {
        body.push(Bytes::from_static(b"data: "));
    }
    body.push(Bytes::from_static(
        b"{\"candidates\":[{\"content\":{\"parts\":[",
    ));
    for (at, image) in response.images.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let kind = image.format.media_type();
        body.push(format!(
            "{comma}{{\"inlineData\":{{\"mimeType\":\"{kind}\",\"data\":\""
        ));
        body.append(&picture::on_one_line(picture::base64(&image.picture)?));
        body.push(Bytes::from_static(b"\"}}"));
    }
    body.push(Bytes::from_static(
        b"],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}]",
    ));
    if let Some(usage) = usage(&response.usage) {
        body.push(format!(",\"usageMetadata\":{usage}"));
    }
    let model = json!(response.model.model());
    body.push(format!(",\"modelVersion\":{model}"));
    if let Some(id) = &response.codes.request_id {
        body.push(format!(",\"responseId\":{}", json!(id)));
    }
    body.push(Bytes::from_static(b"}"));
    let content_type = if asked.stream {
        body.push(Bytes::from_static(b"\r\n\r\n"));
        "text/event-stream"
    } else {
        "application/json; charset=UTF-8"
    };
    Ok(Reply {
        head: ReplyHead::new(StatusCode::OK, content_type),
        body,
    })
}

/// The counts in this dialect; `None` where no tokens were told, since an invented zero would be
/// read as a real one.
fn usage(usage: &Usage) -> Option<Value> {
    if !usage.has_tokens() {
        return None;
    }
    let details = |text: Option<u64>, image: Option<u64>| {
        let counts = [("TEXT", text), ("IMAGE", image)];
        let told = counts.iter().filter_map(|(modality, count)| {
            Some(json!({"modality": modality, "tokenCount": (*count)?}))
        });
        told.collect::<Vec<Value>>()
    };
    let sum = |a: Option<u64>, b: Option<u64>| a.unwrap_or(0).saturating_add(b.unwrap_or(0));
    let asked = sum(usage.text_in, usage.image_in);
    let drawn = sum(usage.text_out, usage.image_out);
    Some(json!({
        "promptTokenCount": asked,
        "candidatesTokenCount": drawn,
        "totalTokenCount": asked.saturating_add(drawn),
        "promptTokensDetails": details(usage.text_in, usage.image_in),
        "candidatesTokensDetails": details(usage.text_out, usage.image_out),
    }))
}
