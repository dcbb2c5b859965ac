//! `multipart/form-data`, read without copying the files in it, and written likewise.

use std::fmt::Write as _;

use bytes::Bytes;
use memchr::memmem;
use thiserror::Error;

use super::Rope;

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub filename: Option<String>,
    pub content_type: Option<String>,
    pub data: Bytes,
}

impl Part {
    /// A text field.
    pub fn text(name: &str, text: impl Into<String>) -> Part {
        Part {
            name: name.to_owned(),
            filename: None,
            content_type: None,
            data: text.into().into(),
        }
    }

    /// The field's text; `None` when it is not UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.data).ok()
    }
}

/// Why a body is no form.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotForm {
    #[error("the content type names no boundary")]
    NoBoundary,
    #[error("the form does not begin with its boundary `{0}`")]
    NoStart(String),
    #[error("part {0} has no name")]
    NoName(usize),
    #[error("part {0} has no end")]
    NoEnd(usize),
    #[error("there are more than {MAX_PARTS} parts")]
    TooMany,
}

const MAX_PARTS: usize = 256;
const MAX_PART_HEAD: usize = 8192;

/// The parts of `body`, in order; files are slices of it.
///
/// # Errors
/// [`NotForm`] when the body is not the form its content type announces.
pub fn read(content_type: &str, body: &Bytes) -> Result<Vec<Part>, NotForm> {
    let boundary = boundary(content_type).ok_or(NotForm::NoBoundary)?;
    let delimiter = format!("\r\n--{boundary}");
    let finder = memmem::Finder::new(&delimiter);
    // The first delimiter may lack the line break before it; a preamble before it is skipped.
    let mut at = if body.starts_with(&delimiter.as_bytes()[2..]) {
        delimiter.len() - 2
    } else {
        finder
            .find(body)
            .map(|at| at + delimiter.len())
            .ok_or(NotForm::NoStart(boundary))?
    };
    let mut parts = Vec::new();
    while !body[at..].starts_with(b"--") {
        let number = parts.len() + 1;
        if number > MAX_PARTS {
            return Err(NotForm::TooMany);
        }
        let line = memmem::find(&body[at..], b"\r\n").ok_or(NotForm::NoEnd(number))?;
        let start = at + line;
        let limit = body.len().min(start + MAX_PART_HEAD);
        let head = memmem::find(&body[start..limit], b"\r\n\r\n").ok_or(NotForm::NoEnd(number))?;
        let data = start + head + 4;
        // An empty part's closing line break is the one that ended its head.
        let end = finder
            .find(&body[data - 2..])
            .map(|end| data - 2 + end)
            .ok_or(NotForm::NoEnd(number))?;
        parts.push(part(
            &body[start..start + head],
            body.slice(data.min(end)..end),
            number,
        )?);
        at = end + delimiter.len();
    }
    Ok(parts)
}

/// A form with these parts under `boundary`, which must not occur in any of them.
pub fn write(parts: &[Part], boundary: &str) -> Rope {
    let mut rope = Rope::new();
    for part in parts {
        let mut head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"",
            quoted(&part.name)
        );
        if let Some(filename) = &part.filename {
            let _ = write!(head, "; filename=\"{}\"", quoted(filename));
        }
        if let Some(content_type) = &part.content_type {
            let _ = write!(head, "\r\nContent-Type: {content_type}");
        }
        head.push_str("\r\n\r\n");
        rope.push(head);
        rope.push(part.data.clone());
        rope.push(Bytes::from_static(b"\r\n"));
    }
    rope.push(format!("--{boundary}--\r\n"));
    rope
}

/// The boundary that a content type names.
pub fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = rest.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("boundary")
            .then(|| value.trim())
    })?;
    let value = value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value);
    (!value.is_empty() && value.len() <= 70).then(|| value.to_owned())
}

fn part(head: &[u8], data: Bytes, number: usize) -> Result<Part, NotForm> {
    let head = String::from_utf8_lossy(head);
    let (mut name, mut filename, mut content_type) = (None, None, None);
    for line in head.split("\r\n") {
        let Some((field, value)) = line.split_once(':') else {
            continue;
        };
        if field.eq_ignore_ascii_case("content-disposition") {
            name = parameter(value, "name");
            filename = parameter(value, "filename");
        } else if field.eq_ignore_ascii_case("content-type") {
            content_type = Some(value.trim().to_owned());
        }
    }
    let name = name.ok_or(NotForm::NoName(number))?;
    Ok(Part {
        name,
        filename,
        content_type,
        data,
    })
}

/// `key="value"` or `key=value` of a header, with `\"` undone.
fn parameter(header: &str, key: &str) -> Option<String> {
    let mut rest = header;
    while let Some(at) = rest.find(key) {
        let before = rest[..at].trim_end().ends_with(';');
        let after = rest[at + key.len()..].trim_start();
        rest = &rest[at + key.len()..];
        let (true, Some(value)) = (before, after.strip_prefix('=')) else {
            continue;
        };
        let Some(quoted) = value.trim_start().strip_prefix('"') else {
            return Some(
                value
                    .split(';')
                    .next()
                    .unwrap_or_default()
                    .trim()
                    .to_owned(),
            );
        };
        let mut text = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return Some(text),
                '\\' => text.extend(chars.next()),
                c => text.push(c),
            }
        }
        return Some(text);
    }
    None
}

/// As browsers write names: quotes and line breaks percent-encoded.
fn quoted(name: &str) -> String {
    name.replace('"', "%22")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_as_clients_write_it() {
        let body = Bytes::from_static(
            b"--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na cat\r\n--XX\r\ncontent-disposition: form-data; filename=\"a \\\"b\\\".png\"; name=image\r\nContent-Type: image/png\r\n\r\n\x89PNG\r\n--X\r\n--XX\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n\r\n--XX--\r\n",
        );
        let parts = read("multipart/form-data; charset=x; boundary=\"XX\"", &body).unwrap();
        assert_eq!(parts[0], Part::text("prompt", "a cat"));
        assert_eq!(parts[1].filename.as_deref(), Some("a \"b\".png"));
        assert_eq!(&parts[1].data[..], b"\x89PNG\r\n--X");
        assert_eq!(parts[2].data.len(), 0);
    }

    #[test]
    fn what_is_no_form_says_why() {
        let check = |body: &'static [u8], error| {
            assert_eq!(
                read("multipart/form-data; boundary=X", &Bytes::from_static(body)),
                Err(error)
            );
        };
        check(b"", NotForm::NoStart("X".into()));
        check(b"--X\r\n", NotForm::NoEnd(1));
        check(b"--X\r\nA: b\r\n\r\nx\r\n--X--", NotForm::NoName(1));
        check(
            b"--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nnever ends",
            NotForm::NoEnd(1),
        );
        assert_eq!(
            read("application/json", &Bytes::new()),
            Err(NotForm::NoBoundary)
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(data in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..5)) {
            let parts: Vec<Part> = data.into_iter().enumerate().map(|(i, data)| Part {
                name: format!("f{i}"), filename: Some("x.png".into()), content_type: Some("image/png".into()), data: data.into(),
            }).collect();
            let body = write(&parts, "never-in-forty-random-bytes").to_bytes();
            prop_assert_eq!(read("multipart/form-data; boundary=never-in-forty-random-bytes", &body).unwrap(), parts);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(prop_oneof![Just(b'-'), Just(b'X'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..80)) {
            let _ = read("multipart/form-data; boundary=X", &bytes.into());
        }
    }
}
