//! The turns of a conversation: a prompt, pictures, and whatever else stands between them.
//!
//! One turn of a text with pictures behind it is all that most calls have. Anything else is kept as
//! it was spelt, pictures by their place among the inputs, so that a request that is worded again
//! says the same.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::super::form::{self, wrong};
use super::super::{Unreadable, Unsupported, picture};
use super::{camel, file_in, unsupported};
use crate::image::{Format, ImageRequest, Input, InputRole, InputSource};
use crate::wire::Rope;
use crate::wire::json::Node;

/// The extra field of turns that are more than a text and its pictures.
const CONTENTS: &str = "contents";
/// In a part that is kept: the place of its picture among the inputs.
const INPUT: &str = "input";
/// Files that Google keeps for the account lie under this path.
const KEPT_FILES: &str = "/files/";

/// Reads `contents` into prompt, inputs and what is left of the spelling.
pub(super) fn read(
    request: &mut ImageRequest,
    node: Option<&Node>,
    body: &Bytes,
) -> Result<(), Unreadable> {
    let Some(Node::Array(items)) = node else {
        return Err(wrong(CONTENTS, "must be a list of turns"));
    };
    let mut inputs = Vec::new();
    let turns = items
        .iter()
        .map(|item| turn(item, body, &mut inputs))
        .collect::<Result<Vec<Value>, _>>()?;
    request.prompt =
        prompt(&turns).ok_or_else(|| wrong(CONTENTS, "must hold something that the user says"))?;
    request.inputs = inputs;
    if !is_plain(&turns) {
        request.extra.insert(CONTENTS.to_owned(), turns.into());
    }
    Ok(())
}

fn turn(node: &Node, body: &Bytes, inputs: &mut Vec<Input>) -> Result<Value, Unreadable> {
    let mut turn = Map::new();
    let node = camel(node);
    if let Some(role) = node.get("role").and_then(Node::text) {
        turn.insert("role".to_owned(), role.into());
    }
    let parts = match node.get("parts") {
        None | Some(Node::Null) => &[][..],
        Some(Node::Array(parts)) => parts,
        Some(_) => return Err(wrong("contents.parts", "must be a list")),
    };
    let parts = parts
        .iter()
        .map(|node| part(node, body, inputs))
        .collect::<Result<Vec<Value>, _>>()?;
    turn.insert("parts".to_owned(), parts.into());
    Ok(Value::Object(turn))
}

fn part(node: &Node, body: &Bytes, inputs: &mut Vec<Input>) -> Result<Value, Unreadable> {
    let Node::Object(entries) = camel(node) else {
        return Err(wrong("contents.parts", "must be objects"));
    };
    let mut part = Map::new();
    for (name, node) in &entries {
        let found = match name.as_str() {
            "inlineData" => inline(&camel(node), body)?,
            "fileData" => file(&camel(node)),
            _ => None,
        };
        if let Some(input) = found {
            part.insert(INPUT.to_owned(), inputs.len().into());
            inputs.push(input);
        } else if !node.is_null() {
            let value = form::value(node, body)
                .ok_or_else(|| wrong(format!("contents.parts.{name}"), "is not valid text"))?;
            part.insert(name.to_string(), value);
        }
    }
    Ok(Value::Object(part))
}

/// The picture within a request; `None` when it is sound or film.
fn inline(node: &Node, body: &Bytes) -> Result<Option<Input>, Unreadable> {
    let kind = node
        .get("mimeType")
        .and_then(Node::text)
        .unwrap_or_default();
    if !kind.starts_with("image/") {
        return Ok(None);
    }
    let bytes = node
        .get("data")
        .and_then(|data| file_in(data, body))
        .ok_or_else(|| wrong("contents.parts.inlineData.data", "must be base64"))?;
    Ok(Some(Input {
        role: InputRole::Image,
        format: picture::known_format(Format::from_media_type(kind), &bytes),
        name: None,
        source: InputSource::Bytes(bytes),
    }))
}

fn file(node: &Node) -> Option<Input> {
    let kind = node.get("mimeType").and_then(Node::text);
    if kind.is_some_and(|kind| !kind.starts_with("image/")) {
        return None;
    }
    let uri = node.get("fileUri")?.text()?.to_owned();
    Some(Input {
        role: InputRole::Image,
        format: kind.map_or(Format::Unknown, Format::from_media_type),
        name: None,
        source: if uri.contains(KEPT_FILES) && !uri.starts_with("gs:") {
            InputSource::FileId(uri)
        } else {
            InputSource::Url(uri)
        },
    })
}

/// The texts of the user's last turn, one line each; `None` when the user says nothing.
fn prompt(turns: &[Value]) -> Option<String> {
    let last = turns.iter().rev().find(|turn| is_users(turn))?;
    let parts = last["parts"].as_array()?;
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    Some(texts.join("\n"))
}

fn is_users(turn: &Value) -> bool {
    turn["role"].as_str() != Some("model")
}

/// Whether prompt and inputs say all there is.
fn is_plain(turns: &[Value]) -> bool {
    let [turn] = turns else { return false };
    let [first, rest @ ..] = turn["parts"].as_array().map_or(&[][..], Vec::as_slice) else {
        return false;
    };
    let only = |part: &Value, name: &str| {
        let fields = part.as_object();
        fields.is_some_and(|fields| fields.len() == 1 && fields.contains_key(name))
    };
    is_users(turn) && only(first, "text") && rest.iter().all(|part| only(part, INPUT))
}

/// Writes the list of turns.
///
/// # Errors
/// [`Unsupported`] for inputs that this format has no word for.
pub(super) fn write(body: &mut Rope, request: &ImageRequest) -> Result<(), Unsupported> {
    let plain = || {
        let pictures = (0..request.inputs.len()).map(|at| json!({INPUT: at}));
        let parts: Vec<Value> = [json!({"text": request.prompt})]
            .into_iter()
            .chain(pictures)
            .collect();
        vec![json!({"role": "user", "parts": parts})]
    };
    let spelt = request.extra.get(CONTENTS).and_then(Value::as_array);
    let turns = spelt.map_or_else(plain, |turns| reworded(turns, &request.prompt));
    body.push(Bytes::from_static(b"["));
    for (at, turn) in turns.iter().enumerate() {
        body.push(Bytes::from_static(if at > 0 { b",{" } else { b"{" }));
        if let Some(role) = turn["role"].as_str() {
            body.push(format!("\"role\":{},", json!(role)));
        }
        body.push(Bytes::from_static(b"\"parts\":["));
        let parts = turn["parts"].as_array().map_or(&[][..], Vec::as_slice);
        for (at, part) in parts.iter().enumerate() {
            if at > 0 {
                body.push(Bytes::from_static(b","));
            }
            write_part(body, part, request)?;
        }
        body.push(Bytes::from_static(b"]}"));
    }
    body.push(Bytes::from_static(b"]"));
    Ok(())
}

/// The turns with a prompt that a rule may have changed: it takes the place of the first text of
/// the user's last turn, and that turn's other texts are gone.
fn reworded(turns: &[Value], said: &str) -> Vec<Value> {
    let mut turns = turns.to_vec();
    if prompt(&turns).as_deref() == Some(said) {
        return turns;
    }
    let last = turns.iter_mut().rev().find(|turn| is_users(turn));
    if let Some(Value::Array(parts)) = last.and_then(|turn| turn.get_mut("parts")) {
        let at = parts.iter().position(|part| part.get("text").is_some());
        parts.retain(|part| part.get("text").is_none());
        let at = at.unwrap_or(0).min(parts.len());
        parts.insert(at, json!({"text": said}));
    }
    turns
}

fn write_part(body: &mut Rope, part: &Value, request: &ImageRequest) -> Result<(), Unsupported> {
    let at = part.get(INPUT).and_then(Value::as_u64);
    let Some(at) = at.and_then(|at| usize::try_from(at).ok()) else {
        body.push(part.to_string());
        return Ok(());
    };
    let input = request
        .inputs
        .get(at)
        .ok_or_else(|| unsupported("inputs", "a picture of the conversation is missing"))?;
    write_input(body, input)?;
    for (name, value) in part.as_object().into_iter().flatten() {
        if name != INPUT {
            body.push(format!(",{}:{value}", json!(name)));
        }
    }
    body.push(Bytes::from_static(b"}"));
    Ok(())
}

/// A part up to its closing brace.
fn write_input(body: &mut Rope, input: &Input) -> Result<(), Unsupported> {
    if !matches!(input.role, InputRole::Image | InputRole::Style) {
        return Err(unsupported("mask", "these models take pictures alone"));
    }
    match &input.source {
        InputSource::Bytes(bytes) => {
            let kind = picture::known_format(input.format, bytes).media_type();
            body.push(format!(
                "{{\"inlineData\":{{\"mimeType\":\"{kind}\",\"data\":\""
            ));
            body.append(&picture::encode(&Rope::from(bytes.clone())));
            body.push(Bytes::from_static(b"\"}"));
        }
        InputSource::FileId(uri) if !uri.contains(KEPT_FILES) => {
            return Err(unsupported("inputs", "a file kept at another provider"));
        }
        InputSource::Url(uri) | InputSource::FileId(uri) => {
            let mut file = json!({"fileUri": uri});
            if input.format != Format::Unknown {
                file["mimeType"] = input.format.media_type().into();
            }
            body.push(format!("{{\"fileData\":{file}"));
        }
    }
    Ok(())
}
