//! Google: Imagen's `:predict` and the Gemini image models' `:generateContent`, on the Gemini API
//! and on Vertex AI.
//!
//! Two wire formats on the same hosts, and so two dialects; paths, keys and errors they have in
//! common. What tells Vertex from the Gemini API is the path alone. After the API references of
//! autumn 2026 and the official Python client 3.4.

mod batch;
mod chunks;
mod contents;
mod error;
mod gemini;
mod imagen;
mod path;
mod predictions;
mod safety;
mod size;

pub(super) use gemini::Gemini;
pub(super) use imagen::Imagen;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};

use super::form::{self, Fields, wrong};
use super::{Unreadable, query, unsupported};
use crate::wire::RequestHead;
use crate::wire::json::{self, Node};

const API_KEY: &str = "x-goog-api-key";
/// The query parameter that may hold a key instead of the header.
const KEY: &str = "key";
/// A key, and how an answer is wrapped.
const INERT_QUERY: &[&str] = &[KEY, "alt", "$alt", "prettyPrint", "$prettyPrint"];
/// The extra field that holds the rest of the query.
const QUERY: &str = "?";
/// OAuth tokens of Google begin so; keys do not.
const TOKEN: &str = "ya29.";

fn credential(head: &RequestHead) -> Option<&str> {
    let in_query = || query::value(head.target.query()?, KEY);
    head.header(API_KEY)
        .or_else(in_query)
        .or_else(|| head.header(AUTHORIZATION))
}

fn authorize(headers: &mut HeaderMap, key: &str) {
    let token = key.starts_with(TOKEN);
    let text = if token {
        format!("Bearer {key}")
    } else {
        key.to_owned()
    };
    let Ok(mut value) = HeaderValue::from_str(&text) else {
        return;
    };
    value.set_sensitive(true);
    headers.remove(API_KEY);
    headers.remove(AUTHORIZATION);
    if token {
        headers.insert(AUTHORIZATION, value);
    } else {
        headers.insert(API_KEY, value);
    }
}

/// The body as a JSON object, its own names spelt in one way.
fn object(body: &Bytes) -> Result<Node, Unreadable> {
    let node = json::parse(body).map_err(|error| wrong("body", format!("is not JSON: {error}")))?;
    match &node {
        Node::Object(_) => Ok(camel(&node)),
        _ => Err(wrong("body", "must be a JSON object")),
    }
}

/// The fields of an object within the body; none when it is not there.
fn fields_at(
    node: &Node,
    name: &str,
    body: &Bytes,
    without: &[&str],
) -> Result<Fields, Unreadable> {
    let inner = match node.get(name) {
        None | Some(Node::Null) => Node::Object(Vec::new()),
        Some(inner @ Node::Object(_)) => camel(inner),
        Some(_) => return Err(wrong(name, "must be an object")),
    };
    Ok(Fields::of_object(&inner, body, without)?.lenient())
}

/// An object with its own names in camel case: `mime_type` and `mimeType` are one field, as in any
/// JSON of protocol buffers. Long texts are places, so this copies little.
fn camel(node: &Node) -> Node {
    match node {
        Node::Object(entries) => Node::Object(
            entries
                .iter()
                .map(|(name, value)| (camel_case(name).into(), value.clone()))
                .collect(),
        ),
        other => other.clone(),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut whole = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        whole.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        whole.push_str(letters.as_str());
    }
    whole
}

/// The file in a JSON string of base64, of either alphabet: JSON of protocol buffers takes both, and
/// the official client writes the one for URLs. `None` when it is neither.
fn file_in(node: &Node, body: &Bytes) -> Option<Bytes> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let text = match node {
        Node::Long(span) if !span.escaped => body.get(span.start..span.end)?,
        other => &Bytes::from(form::text(other, body)?)[..],
    };
    let engine = match memchr::memchr2(b'-', b'_', text) {
        Some(_) => URL_SAFE,
        None => STANDARD,
    };
    Some(engine.decode(text).ok()?.into())
}

/// An error within an object, named with it.
fn within(name: &str) -> impl Fn(Unreadable) -> Unreadable {
    move |error| wrong(format!("{name}.{}", error.field), error.why)
}
