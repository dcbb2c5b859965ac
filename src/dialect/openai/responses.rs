//! OpenAI's Responses API, where it is given the tool `image_generation`.
//!
//! A text model answers and may draw on the way, so two models are paid for: the text model's
//! tokens stand in `usage`, the picture's in `tool_usage.image_gen`. A call that forces the tool
//! and says nothing but a prompt is an image call like any other, of the image model. Every other
//! call with the tool stays the text model's and where it is: no other provider could go on with
//! the conversation. Calls without the tool, and those left to run in the background, are none of
//! ours. After OpenAI's API description of August 2026 and the official Python client 3.54.

mod reading;
mod wording;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method};
use memchr::memmem;
use serde_json::{Map, Value};

use super::super::form::{Fields, wrong};
use super::super::{Dialect, Reader, Refusal, Undeliverable, Unreadable, Unsupported};
use super::{json_type, moderation, read_compression, target, unsupported};
use crate::image::{
    Format, ImageRequest, ImageResponse, ModelId, Operation, Quality, Safety, Size,
};
use crate::wire::json;
use crate::wire::{Message, Reply, ReplyHead, RequestHead};

pub(in super::super) struct Responses;

const PATH: &str = "/v1/responses";
const TOOL: &str = "image_generation";
/// The extra field of the whole body as the app sent it.
const BODY: &str = "@body";
/// The image model where the tool names none, after the official client of November 2026.
const DEFAULT_MODEL: &str = "gpt-image-2.6-sunburst";
/// Larger calls are not kept back for a look at what they ask for.
const LONGEST_LOOK: u64 = 32 << 20;
/// Fields beside which a call asks for no more than a picture.
const OF_A_PLAIN_CALL: [&str; 9] = [
    "model",
    "input",
    "tools",
    "tool_choice",
    "stream",
    "store",
    "user",
    "metadata",
    "safety_identifier",
];

impl Dialect for Responses {
    fn name(&self) -> &'static str {
        "responses"
    }

    /// Whether the tool is among what is sent, only the body tells.
    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let path = head.path();
        let ours = path.strip_suffix('/').unwrap_or(path) == PATH && head.method == Method::POST;
        let length = head.header(CONTENT_LENGTH).and_then(|l| l.parse().ok());
        let looks = length.is_none_or(|length: u64| length <= LONGEST_LOOK);
        (ours && looks).then_some(Operation::Generate)
    }

    fn may_talk(&self) -> bool {
        true
    }

    fn asks_for_picture(&self, _head: &RequestHead, body: &Bytes) -> bool {
        // A word to look for first, so that a conversation without it is not read to its end.
        if memmem::find(body, TOOL.as_bytes()).is_none() {
            return false;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        tool(&body).is_some() && body["background"] != true
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        _head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let whole: Value = serde_json::from_slice(body)
            .map_err(|error| wrong("body", format!("is not JSON: {error}")))?;
        let tool = tool(&whole)
            .ok_or_else(|| wrong("tools", "holds no image_generation"))?
            .to_string();
        let tool = Bytes::from(tool);
        let node = json::parse(&tool).map_err(|error| wrong("tools", error.to_string()))?;
        let mut fields = Fields::of_object(&node, &tool, &["type", "action"])?;
        let plain = is_plain(&whole);
        let drawing = fields.text("model")?;
        let model = if plain {
            drawing.as_deref().unwrap_or(DEFAULT_MODEL)
        } else {
            let named = whole.get("model").and_then(Value::as_str);
            named.ok_or_else(|| wrong("model", "must be a text"))?
        };
        let mut request = ImageRequest::new(ModelId::new(provider, model), prompt(&whole));
        request.operation = operation;
        read_tool(&mut request, &mut fields)?;
        request.stream = whole["stream"] == true;
        // What the tool is told besides is lost to another dialect, and has to be seen to be.
        if plain {
            request.extra = fields.rest();
        }
        request.extra.insert(BODY.to_owned(), whole);
        Ok(request)
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        wording::response(asked, response)
    }

    fn write_refusal(&self, asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        super::wording::refusal(asked, refusal)
    }

    fn stays(&self, asked: &ImageRequest) -> Option<&'static str> {
        let body = asked.extra.get(BODY)?;
        (!is_plain(body)).then_some("the call is a conversation, and its text model stays with it")
    }

    fn usual_path(&self) -> Option<&'static str> {
        Some(PATH)
    }

    /// The text model of a forced picture: its tokens are billed too, and the book has no prices
    /// for text.
    fn paid_beside(&self, asked: &ImageRequest) -> Option<String> {
        let body = asked.extra.get(BODY).filter(|body| is_plain(body))?;
        let model = body["model"].as_str().unwrap_or("the text model");
        Some(model.to_owned())
    }

    /// What a rule sends to an image model goes to the image routes.
    fn serves(&self, _model: &ModelId) -> bool {
        false
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let Some(mut body) = request.extra.get(BODY).cloned() else {
            let why = "a call that began elsewhere goes to the image routes";
            return Err(unsupported("operation", why));
        };
        if request.n != 1 {
            return Err(unsupported("n", "the tool draws one picture"));
        }
        if !request.inputs.is_empty() {
            let why = "pictures are part of the conversation";
            return Err(unsupported("inputs", why));
        }
        if request.prompt != prompt(&body) {
            *text_of(&mut body).ok_or_else(|| {
                unsupported("prompt", "it is one of several parts of a conversation")
            })? = request.prompt.as_str().into();
        }
        write_model(request, &mut body);
        if let Some(tool) = tool_mut(&mut body) {
            write_tool(request, tool);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, json_type());
        let accept = if request.stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        Ok(Message {
            method: Method::POST,
            target: target(PATH, None)?,
            headers,
            body: body.to_string().into(),
        })
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        reading::reader(request, head)
    }
}

/// The tool in a body.
fn tool(body: &Value) -> Option<&Value> {
    let tools = body.get("tools")?.as_array()?;
    tools.iter().find(|tool| tool["type"] == TOOL)
}

fn tool_mut(body: &mut Value) -> Option<&mut Map<String, Value>> {
    let tools = body.get_mut("tools")?.as_array_mut()?;
    let tool = tools.iter_mut().find(|tool| tool["type"] == TOOL)?;
    tool.as_object_mut()
}

/// Whether a body asks for one picture of one prompt, and for nothing else.
fn is_plain(body: &Value) -> bool {
    let Some(fields) = body.as_object() else {
        return false;
    };
    let alone = body["tools"].as_array().is_some_and(|all| all.len() == 1);
    let forced = body["tool_choice"]["type"] == TOOL;
    let known = |(name, value): (&String, &Value)| {
        value.is_null() || OF_A_PLAIN_CALL.contains(&name.as_str())
    };
    let draws = tool(body).is_some_and(|tool| {
        tool["action"] != "edit" && tool.get("input_image_mask").is_none_or(Value::is_null)
    });
    alone && forced && draws && fields.iter().all(known) && text_in(body).is_some()
}

/// The only text of a body: `input` itself, or the one part of its one message.
fn text_in(body: &Value) -> Option<&str> {
    body.pointer(text_at(body)?)?.as_str()
}

fn text_of(body: &mut Value) -> Option<&mut Value> {
    let at = text_at(body)?;
    body.pointer_mut(at)
}

fn text_at(body: &Value) -> Option<&'static str> {
    let only = |list: &Value| list.as_array().is_some_and(|items| items.len() == 1);
    let input = &body["input"];
    if input.is_string() {
        return Some("/input");
    }
    let message = &input[0];
    if !only(input) || message["role"] != "user" {
        return None;
    }
    let content = &message["content"];
    if content.is_string() {
        return Some("/input/0/content");
    }
    let part = &content[0];
    (only(content) && part["type"] == "input_text" && part["text"].is_string())
        .then_some("/input/0/content/0/text")
}

/// What a rule sees as the prompt: the only text, else what the user said last.
fn prompt(body: &Value) -> String {
    if let Some(text) = text_in(body) {
        return text.to_owned();
    }
    let said = body["input"].as_array();
    let mut messages = said.map_or(&[][..], Vec::as_slice).iter().rev();
    let Some(last) = messages.find(|message| message["role"] == "user") else {
        return String::new();
    };
    if let Some(text) = last["content"].as_str() {
        return text.to_owned();
    }
    let parts = last["content"].as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    texts.join("\n")
}

fn read_tool(request: &mut ImageRequest, fields: &mut Fields) -> Result<(), Unreadable> {
    request.size = fields.word("size", Size::parse)?.unwrap_or(Size::Auto);
    request.quality = fields.word("quality", Quality::parse)?;
    request.background = fields.text("background")?;
    request.format = fields.word("output_format", |word| {
        match Format::from_media_type(word) {
            Format::Unknown => None,
            format => Some(format),
        }
    })?;
    request.compression = read_compression(fields)?;
    request.safety = fields.word("moderation", |word| match word {
        "low" => Some(Safety::Relaxed),
        "auto" => Some(Safety::Default),
        _ => None,
    })?;
    request.partial_images = fields.whole("partial_images")?.unwrap_or(0);
    Ok(())
}

/// The image model of a plain call stands in its tool, the text model of any other on top.
fn write_model(request: &ImageRequest, body: &mut Value) {
    let model = request.model.model();
    if !is_plain(body) {
        body["model"] = model.into();
    } else if let Some(tool) = tool_mut(body)
        && tool
            .get("model")
            .and_then(Value::as_str)
            .unwrap_or(DEFAULT_MODEL)
            != model
    {
        tool.insert("model".to_owned(), model.into());
    }
}

/// What our words say wins over what the tool was told.
fn write_tool(request: &ImageRequest, tool: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            tool.insert(name.to_owned(), value);
        }
    };
    let sized = !matches!(request.size, Size::Auto);
    put("size", sized.then(|| request.size.to_string().into()));
    put("quality", request.quality.map(|q| q.as_str().into()));
    put("background", request.background.as_deref().map(Value::from));
    put("output_format", request.format.map(|f| f.as_str().into()));
    put("output_compression", request.compression.map(Value::from));
    put("moderation", request.safety.map(|s| moderation(s).into()));
    let partials = (request.partial_images > 0).then(|| request.partial_images.into());
    put("partial_images", partials);
}
