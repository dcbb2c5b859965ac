//! The providers' answers as data: message templates with holes, made from their published
//! messages and kept apart from the code that reads such messages elsewhere in this program.
//!
//! `{{name}}` within a string is replaced by text, escaped; `"{{#name}}"`, quotes and all, by JSON.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One message.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Kept as it is written: the order of its keys is part of the message.
    body: Box<RawValue>,
}

fn ok() -> u16 {
    200
}

/// What goes into one hole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill<'a> {
    Text(&'a str),
    Json(&'a str),
}

/// A filled template.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

/// The messages of one provider.
pub(super) struct Templates(HashMap<String, Template>);

pub(super) static OPENAI: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/openai.json")));
pub(super) static AZURE: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/azure.json")));
pub(super) static STABILITY: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/stability.json")));
pub(super) static FAL: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/fal.json")));
pub(super) static REPLICATE: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/replicate.json")));
pub(super) static BFL: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/bfl.json")));

pub(super) static IDEOGRAM: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/ideogram.json")));
pub(super) static GOOGLE: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/google.json")));
pub(super) static STABILITY_V1: LazyLock<Templates> =
    LazyLock::new(|| read(include_str!("templates/stability_v1.json")));

fn read(text: &str) -> Templates {
    Templates(serde_json::from_str(text).expect("embedded, and read by this module's tests"))
}

impl Templates {
    /// The message `name` with its holes filled. A hole without a filling becomes empty text or
    /// `null`, and a name without a message a 500 that says so: both are mistakes of this module.
    pub(super) fn fill(&self, name: &str, fills: &[(&str, Fill<'_>)]) -> Filled {
        let Some(template) = self.0.get(name) else {
            return Filled {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                headers: Vec::new(),
                body: format!("{{\"simulator\":\"has no message named {name}\"}}"),
            };
        };
        let headers = template
            .headers
            .iter()
            .map(|(header, value)| (header.clone(), fill(value, fills)))
            .collect();
        Filled {
            status: StatusCode::from_u16(template.status)
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            headers,
            body: fill(template.body.get(), fills),
        }
    }
}

fn fill(template: &str, fills: &[(&str, Fill<'_>)]) -> String {
    let find = |name: &str| fills.iter().find(|(hole, _)| *hole == name).map(|f| f.1);
    let room: usize = fills
        .iter()
        .map(|(_, fill)| match fill {
            Fill::Text(text) | Fill::Json(text) => text.len(),
        })
        .sum();
    let mut filled = String::with_capacity(template.len() + room);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((hole, after)) = after.split_once("}}") else {
            break;
        };
        if let Some(name) = hole.strip_prefix('#') {
            filled.push_str(before.strip_suffix('"').unwrap_or(before));
            match find(name) {
                Some(Fill::Json(json)) => filled.push_str(json),
                Some(Fill::Text(text)) => {
                    filled.push_str(&serde_json::Value::from(text).to_string())
                }
                None => filled.push_str("null"),
            }
            rest = after.strip_prefix('"').unwrap_or(after);
        } else {
            filled.push_str(before);
            match find(hole) {
                Some(Fill::Text(text)) => escape(text, &mut filled),
                Some(Fill::Json(json)) => filled.push_str(json),
                None => {}
            }
            rest = after;
        }
    }
    filled.push_str(rest);
    filled
}

/// Text as it stands within a JSON string. Base64, by far the longest, needs no escape.
fn escape(text: &str, into: &mut String) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        into.push_str(text);
    } else {
        let quoted = serde_json::Value::from(text).to_string();
        into.push_str(&quoted[1..quoted.len() - 1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_message_is_json_once_its_holes_are_filled() {
        for templates in [
            &*OPENAI,
            &*AZURE,
            &*STABILITY,
            &*STABILITY_V1,
            &*GOOGLE,
            &*FAL,
            &*REPLICATE,
            &*BFL,
            &*IDEOGRAM,
        ] {
            for name in templates.0.keys() {
                let filled = templates.fill(name, &[]);
                assert!(!filled.body.contains("{{"), "{name}");
                serde_json::from_str::<serde_json::Value>(&filled.body).expect(name);
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_text_goes_into_a_hole_comes_out_of_the_json(text in ".{0,40}") {
            let body = fill(r#"{"a":"<{{x}}>","b":"{{#y}}"}"#, &[("x", Fill::Text(&text)), ("y", Fill::Json("[1]"))]);
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            let expected = format!("<{text}>");
            prop_assert_eq!(read["a"].as_str(), Some(expected.as_str()));
            prop_assert_eq!(read["b"][0].as_i64(), Some(1));
        }
    }
}
