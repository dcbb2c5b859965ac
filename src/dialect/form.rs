//! The fields of a request body, typed on the way out, whether they came as JSON or as a form.
//!
//! One wire format often takes both. What a reader does not take is left over, and becomes the
//! request's extra fields.

use std::collections::BTreeMap;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use bytes::Bytes;
use http::HeaderValue;
use memchr::memmem;
use serde_json::{Map, Number, Value};

use super::{Unreadable, picture};
use crate::image::{Format, Input};
use crate::wire::Rope;
use crate::wire::json::{Node, unescape};
use crate::wire::multipart::{self, Part};

/// Names nested deeper than this are kept as they stand.
const MAX_NESTING: usize = 8;

/// The fields of a body that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    left: Map<String, Value>,
    /// Numbers and switches come as text.
    textual: bool,
}

/// Says which field is at fault, and why.
pub(super) fn wrong(field: impl Into<String>, why: impl Into<String>) -> Unreadable {
    Unreadable {
        field: field.into(),
        why: why.into(),
    }
}

impl Fields {
    /// The fields of a JSON object but for those in `without`; a `null` says nothing.
    ///
    /// # Errors
    /// [`Unreadable`] when the value is no object, or holds what is no text.
    pub(super) fn of_object(
        node: &Node,
        body: &Bytes,
        without: &[&str],
    ) -> Result<Fields, Unreadable> {
        let Node::Object(entries) = node else {
            return Err(wrong("body", "must be a JSON object"));
        };
        let mut left = Map::new();
        for (name, node) in entries {
            if node.is_null() || without.contains(&name.as_str()) {
                continue;
            }
            let value =
                value(node, body).ok_or_else(|| wrong(name.as_str(), "is not valid text"))?;
            left.insert(name.to_string(), value);
        }
        Ok(Fields {
            left,
            textual: false,
        })
    }

    /// The text parts of a form; `a[b]` is the field `b` of `a`, `a[]` one more item of `a`.
    ///
    /// # Errors
    /// [`Unreadable`] when a text part is no text.
    pub(super) fn of_parts<'a>(
        parts: impl IntoIterator<Item = &'a Part>,
    ) -> Result<Fields, Unreadable> {
        let mut left = Map::new();
        for part in parts {
            let text = part
                .as_text()
                .ok_or_else(|| wrong(&part.name, "is not valid text"))?;
            let text = Value::String(text.to_owned());
            match nesting(&part.name) {
                Some(path) => nest(&mut left, &path, text),
                None => nest(&mut left, &[part.name.as_str()], text),
            }
        }
        Ok(Fields {
            left,
            textual: true,
        })
    }

    /// The same, with numbers and switches as text too: JSON of protocol buffers allows both.
    #[must_use]
    pub(super) fn lenient(self) -> Fields {
        Fields {
            textual: true,
            ..self
        }
    }

    /// Leaves a field over after all.
    pub(super) fn keep(&mut self, name: &str, value: impl Into<Value>) {
        self.left.insert(name.to_owned(), value.into());
    }

    /// Whether a field is there and nobody has taken it yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Takes a value as it stands.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// Takes a text.
    ///
    /// # Errors
    /// [`Unreadable`] when it is something else.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Unreadable> {
        match self.left.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(mistyped(name, "a text", &other)),
        }
    }

    /// Takes a text that `read` understands. One that it does not is left over: a word that a
    /// provider has added since must reach that provider.
    ///
    /// # Errors
    /// As [`Fields::text`].
    pub(super) fn word<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Unreadable> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let word = read(&text);
        if word.is_none() {
            self.keep(name, text);
        }
        Ok(word)
    }

    /// Takes a whole number from zero up.
    ///
    /// # Errors
    /// [`Unreadable`] when it is something else.
    pub(super) fn whole<T: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<T>, Unreadable> {
        let Some(value) = self.left.remove(name) else {
            return Ok(None);
        };
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if self.textual => text.trim().parse().ok(),
            _ => None,
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .map(Some)
            .ok_or_else(|| mistyped(name, "a whole number", &value))
    }

    /// Takes a number.
    ///
    /// # Errors
    /// [`Unreadable`] when it is something else.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<Number>, Unreadable> {
        let Some(value) = self.left.remove(name) else {
            return Ok(None);
        };
        let number = match &value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) if self.textual => number(text.trim()),
            _ => None,
        };
        number
            .map(Some)
            .ok_or_else(|| mistyped(name, "a number", &value))
    }

    /// Takes `true` or `false`.
    ///
    /// # Errors
    /// [`Unreadable`] when it is something else.
    pub(super) fn switch(&mut self, name: &str) -> Result<Option<bool>, Unreadable> {
        let Some(value) = self.left.remove(name) else {
            return Ok(None);
        };
        match &value {
            Value::Bool(on) => Ok(Some(*on)),
            Value::String(text) if self.textual => match text.trim() {
                "true" | "True" | "1" => Ok(Some(true)),
                "false" | "False" | "0" => Ok(Some(false)),
                _ => Err(mistyped(name, "true or false", &value)),
            },
            _ => Err(mistyped(name, "true or false", &value)),
        }
    }

    /// A form has numbers as text: these are numbers, where they read as such.
    pub(super) fn count(&mut self, names: &[&str]) {
        for name in names {
            if let Some(Value::String(text)) = self.left.get(*name)
                && self.textual
                && let Some(number) = number(text)
            {
                self.keep(name, number);
            }
        }
    }

    /// What nobody took.
    pub(super) fn rest(self) -> BTreeMap<String, Value> {
        self.left.into_iter().collect()
    }
}

fn mistyped(name: &str, what: &str, value: &Value) -> Unreadable {
    let mut shown: String = value.to_string().chars().take(40).collect();
    if shown.len() < value.to_string().len() {
        shown.push('…');
    }
    wrong(name, format!("must be {what}, and is {shown}"))
}

/// A number as forms have it: `.5` and `1.` count, which JSON does not allow.
fn number(text: &str) -> Option<Number> {
    serde_json::from_str(text)
        .ok()
        .or_else(|| Number::from_f64(text.parse().ok()?))
}

/// A JSON value in whole; `None` when a text in it is not valid.
pub(super) fn value(node: &Node, body: &Bytes) -> Option<Value> {
    Some(match node {
        Node::Null => Value::Null,
        Node::Bool(on) => Value::Bool(*on),
        Node::Number(text) => serde_json::from_str(text).ok()?,
        Node::Text(_) | Node::Long(_) => Value::String(text(node, body)?),
        Node::Array(items) => items
            .iter()
            .map(|item| value(item, body))
            .collect::<Option<_>>()?,
        Node::Object(entries) => Value::Object(
            entries
                .iter()
                .map(|(name, node)| Some((name.to_string(), value(node, body)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// The text of a string, short or long; `None` when it is no string or no valid text.
pub(super) fn text(node: &Node, body: &Bytes) -> Option<String> {
    match node {
        Node::Text(text) => Some(text.to_string()),
        Node::Long(span) => {
            let inside = body.get(span.start..span.end)?;
            if span.escaped {
                unescape(inside)
            } else {
                String::from_utf8(inside.to_vec()).ok()
            }
        }
        _ => None,
    }
}

/// `svg[reasoning][effort]` as its steps; `None` when the name is not of that form.
fn nesting(name: &str) -> Option<Vec<&str>> {
    let (first, rest) = name.split_once('[')?;
    let steps = rest.strip_suffix(']')?;
    let path: Vec<&str> = std::iter::once(first).chain(steps.split("][")).collect();
    let plain = |step: &&str| !step.contains(['[', ']']);
    // An item stands last: `a[]`.
    let well = !first.is_empty()
        && path.len() <= MAX_NESTING
        && path.iter().all(plain)
        && path[..path.len() - 1].iter().all(|step| !step.is_empty());
    well.then_some(path)
}

fn nest(into: &mut Map<String, Value>, path: &[&str], text: Value) {
    let [name, rest @ ..] = path else { return };
    match (rest, into.get_mut(*name)) {
        ([], None) => {
            into.insert((*name).to_owned(), text);
        }
        // The same name twice, or an item: a list.
        ([] | [""], Some(Value::Array(items))) => items.push(text),
        ([], Some(there)) => {
            let first = there.take();
            *there = Value::Array(vec![first, text]);
        }
        ([""], None) => {
            into.insert((*name).to_owned(), Value::Array(vec![text]));
        }
        (_, None) => {
            let mut inner = Map::new();
            nest(&mut inner, rest, text);
            into.insert((*name).to_owned(), Value::Object(inner));
        }
        (_, Some(Value::Object(inner))) => nest(inner, rest, text),
        // `a` and `a[b]` at once cannot both be fields of one object: as it was spelt.
        (_, Some(_)) => {
            let spelt = format!("{name}[{}]", rest.join("]["));
            into.insert(spelt, text);
        }
    }
}

/// A field as text parts of a form, nested names in brackets.
pub(super) fn push_parts(parts: &mut Vec<Part>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => parts.push(Part::text(name, text.as_str())),
        Value::Bool(_) | Value::Number(_) => parts.push(Part::text(name, value.to_string())),
        Value::Array(items) => {
            let name = format!("{name}[]");
            items.iter().for_each(|item| push_parts(parts, &name, item));
        }
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, value)| push_parts(parts, &format!("{name}[{key}]"), value)),
    }
}

/// An input image as a file of a form. Servers want a file name, whether the app gave one or not.
pub(super) fn file(field: &str, input: &Input, bytes: &Bytes) -> Part {
    let format = picture::known_format(input.format, bytes);
    let named = || {
        let ending = if format == Format::Unknown {
            "bin"
        } else {
            format.as_str()
        };
        format!("{}.{ending}", input.role)
    };
    Part {
        name: field.to_owned(),
        filename: Some(input.name.clone().unwrap_or_else(named)),
        content_type: Some(format.media_type().to_owned()),
        data: bytes.clone(),
    }
}

/// Content type and body of a form.
///
/// The boundary is a digest of the parts: the same form has the same bytes, and nobody who fills
/// in a part can know the boundary before.
pub(super) fn write(parts: &[Part]) -> (HeaderValue, Rope) {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.name.as_bytes());
        hasher.update(&part.data);
    }
    let mut boundary = spelt(&hasher);
    while parts.iter().any(|part| occurs(&boundary, part)) {
        hasher.update(b"again");
        boundary = spelt(&hasher);
    }
    let content_type = format!("multipart/form-data; boundary={boundary}");
    let value = HeaderValue::from_str(&content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("multipart/form-data"));
    (value, multipart::write(parts, &boundary))
}

fn spelt(hasher: &blake3::Hasher) -> String {
    let digest = BASE64_URL_SAFE_NO_PAD.encode(&hasher.finalize().as_bytes()[..24]);
    format!("pixtoll-{digest}")
}

fn occurs(boundary: &str, part: &Part) -> bool {
    part.name.contains(boundary) || memmem::find(&part.data, boundary.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(text: &str) -> Fields {
        let body = Bytes::copy_from_slice(text.as_bytes());
        Fields::of_object(&json::parse(&body).unwrap(), &body, &[]).unwrap()
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named() {
        let mut fields = object(r#"{"n":"2","stream":1,"prompt":7,"seed":-1,"quality":"ultra"}"#);
        assert_eq!(fields.whole::<u32>("n").unwrap_err().field, "n");
        assert_eq!(fields.switch("stream").unwrap_err().field, "stream");
        assert_eq!(fields.text("prompt").unwrap_err().field, "prompt");
        assert!(
            fields
                .whole::<u64>("seed")
                .unwrap_err()
                .to_string()
                .contains("-1")
        );
        assert_eq!(fields.word("quality", |_| None::<()>), Ok(None));
        assert_eq!(fields.rest()["quality"], json!("ultra"));
    }

    #[test]
    fn a_form_says_numbers_as_text_and_nests_by_brackets() {
        let parts = [
            Part::text("n", "2"),
            Part::text("stream", "true"),
            Part::text("strength", ".5"),
            Part::text("svg[reasoning][effort]", "high"),
            Part::text("svg[model]", "m"),
            Part::text("tags[]", "a"),
            Part::text("tags[]", "b"),
            Part::text("odd[", "x"),
            Part::text("frame_count", "9"),
        ];
        let mut fields = Fields::of_parts(&parts).unwrap();
        assert_eq!(fields.whole::<u32>("n"), Ok(Some(2)));
        assert_eq!(fields.switch("stream"), Ok(Some(true)));
        assert_eq!(
            fields.number("strength").unwrap().unwrap().as_f64(),
            Some(0.5)
        );
        fields.count(&["frame_count"]);
        let rest = fields.rest();
        assert_eq!(
            json!(rest),
            json!({"svg": {"reasoning": {"effort": "high"}, "model": "m"}, "tags": ["a", "b"], "odd[": "x", "frame_count": 9})
        );
        let mut written = Vec::new();
        rest.iter()
            .for_each(|(name, value)| push_parts(&mut written, name, value));
        let mut again = Fields::of_parts(&written).unwrap();
        again.count(&["frame_count"]);
        assert_eq!(again.rest(), rest);
    }

    #[test]
    fn a_boundary_never_occurs_in_the_parts() {
        let (first, _) = write(&[Part::text("prompt", "a cat")]);
        let (again, _) = write(&[Part::text("prompt", "a cat")]);
        assert_eq!(first, again);
        let boundary = multipart::boundary(first.to_str().unwrap()).unwrap();
        assert!(occurs(&boundary, &Part::text("x", format!("--{boundary}"))));
    }

    proptest! {
        #[test]
        fn no_names_make_it_panic(names in proptest::collection::vec("[ab\\[\\]]{0,8}", 0..6)) {
            let parts: Vec<Part> = names.iter().map(|name| Part::text(name, "x")).collect();
            let rest = Fields::of_parts(&parts).unwrap().rest();
            let (kind, body) = write(&parts);
            let back = multipart::read(kind.to_str().unwrap(), &body.to_bytes()).unwrap();
            prop_assert_eq!(Fields::of_parts(&back).unwrap().rest(), rest);
        }
    }
}
