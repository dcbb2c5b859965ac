//! Pictures on their way between encodings: raw bytes, base64, and what their headers tell.
//!
//! A provider may hand over base64 where the caller wants bytes, or the other way round. Both
//! conversions work piece by piece, so that a picture is never joined into one block for it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;

use super::Undeliverable;
use crate::image::header::{self, Facts};
use crate::image::{Format, Image, Picture};
use crate::wire::Rope;
use crate::wire::json::{Node, Span, unescape};

/// Characters of base64 that hold the first 64 KiB: nearly every header tells within these.
const LONG_HEAD: usize = 64 * 1024 / 3 * 4;
/// Characters of base64 that hold the first KiB: JPEG headers mostly tell within these.
const SHORT_HEAD: usize = 1024 / 3 * 4;
/// Characters of base64 that hold the first 60 bytes: all other headers mostly tell within these.
const FIRST_LINE: usize = 60 / 3 * 4;

/// Some providers leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The characters of base64, padding among them.
const IN_BASE64: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

/// The file itself, decoded if need be.
///
/// # Errors
/// [`Undeliverable`] when the picture was not fetched, or is no base64.
pub fn raw(picture: &Picture) -> Result<Rope, Undeliverable> {
    match picture {
        Picture::Raw(rope) => Ok(rope.clone()),
        Picture::Base64(text) => decode(text).ok_or_else(|| {
            Undeliverable("the provider's picture is not the base64 it is said to be".to_owned())
        }),
        Picture::Url(_) => Err(not_fetched()),
    }
}

/// The file in base64, encoded if need be.
///
/// # Errors
/// [`Undeliverable`] when the picture was not fetched.
pub fn base64(picture: &Picture) -> Result<Rope, Undeliverable> {
    match picture {
        Picture::Raw(rope) => Ok(encode(rope)),
        Picture::Base64(text) => Ok(text.clone()),
        Picture::Url(_) => Err(not_fetched()),
    }
}

fn not_fetched() -> Undeliverable {
    Undeliverable("the picture lies at a URL and was not fetched".to_owned())
}

/// Bytes to base64 with padding, a piece for each piece.
pub fn encode(raw: &Rope) -> Rope {
    let mut text = Rope::new();
    let mut carry: Vec<u8> = Vec::with_capacity(3);
    for piece in raw.pieces() {
        let fill = if carry.is_empty() { 0 } else { 3 - carry.len() };
        let (first, rest) = piece.split_at(fill.min(piece.len()));
        carry.extend_from_slice(first);
        if carry.len() == 3 {
            text.push(BASE64_STANDARD.encode(&carry));
            carry.clear();
        }
        let (whole, tail) = rest.split_at(rest.len() / 3 * 3);
        text.push(BASE64_STANDARD.encode(whole));
        carry.extend_from_slice(tail);
    }
    text.push(BASE64_STANDARD.encode(&carry));
    text
}

/// Base64 to bytes, a piece for each piece; `None` when it is no base64. Padding may be missing.
pub fn decode(text: &Rope) -> Option<Rope> {
    let mut raw = Rope::new();
    let mut carry: Vec<u8> = Vec::with_capacity(4);
    let mut ended = false;
    for piece in text.pieces() {
        let fill = if carry.is_empty() { 0 } else { 4 - carry.len() };
        let (first, rest) = piece.split_at(fill.min(piece.len()));
        carry.extend_from_slice(first);
        if carry.len() == 4 {
            raw.push(block(&carry, &mut ended)?);
            carry.clear();
        }
        let (whole, tail) = rest.split_at(rest.len() / 4 * 4);
        raw.push(block(whole, &mut ended)?);
        carry.extend_from_slice(tail);
    }
    raw.push(block(&carry, &mut ended)?);
    Some(raw)
}

/// One block; nothing may follow padding.
fn block(text: &[u8], ended: &mut bool) -> Option<Vec<u8>> {
    if text.is_empty() {
        return Some(Vec::new());
    }
    if *ended {
        return None;
    }
    *ended = text.ends_with(b"=");
    LENIENT.decode(text).ok()
}

/// A line break within base64 would end the event; an honest picture has none and is not copied.
pub(super) fn on_one_line(text: Rope) -> Rope {
    let broken = |piece: &Bytes| memchr::memchr2(b'\n', b'\r', piece).is_some();
    if !text.pieces().iter().any(broken) {
        return text;
    }
    let mut whole = text.to_bytes().to_vec();
    whole.retain(|b| !b.is_ascii_whitespace());
    whole.into()
}

/// What a picture's own header says; `None` when what is there is no base64 at all.
///
/// A URL tells nothing and is [`Format::Unknown`].
pub fn facts(picture: &Picture) -> Option<Facts> {
    let unknown = Facts {
        format: Format::Unknown,
        pixels: None,
    };
    let read = |chars: usize| match picture {
        Picture::Raw(rope) => Some(header::read(&rope.head(chars / 4 * 3))),
        Picture::Base64(text) => decode(&text.slice(0..chars)).map(|r| header::read(&r.to_bytes())),
        Picture::Url(_) => Some(unknown),
    };
    let whole = match picture {
        Picture::Raw(rope) | Picture::Base64(rope) => rope.len(),
        Picture::Url(_) => 0,
    };
    for chars in [FIRST_LINE, SHORT_HEAD] {
        let found = read(chars)?;
        // What does not begin like a picture does not become one further on.
        if whole <= chars / 4 * 3 || found.pixels.is_some() || found.format == Format::Unknown {
            return Some(found);
        }
    }
    read(LONG_HEAD)
}

/// A finished picture with what its header tells; `declared` counts where the header is silent.
///
/// `None` when there is nothing, or nothing that could be a picture.
pub fn image(picture: Picture, declared: Format) -> Option<Image> {
    let empty = match &picture {
        Picture::Raw(rope) | Picture::Base64(rope) => rope.is_empty(),
        Picture::Url(url) => url.is_empty(),
    };
    if empty {
        return None;
    }
    let facts = facts(&picture)?;
    Some(Image {
        picture,
        format: match facts.format {
            Format::Unknown => declared,
            known => known,
        },
        width: facts.pixels.map(|(width, _)| width),
        height: facts.pixels.map(|(_, height)| height),
        seed: None,
        revised_prompt: None,
    })
}

/// The picture in a JSON string of base64, shared with `body` where it lies there unescaped.
/// `None` when it is no string or holds what base64 does not.
pub fn from_node(node: &Node, body: &Rope) -> Option<Picture> {
    let text = match node {
        Node::Long(span) if !span.escaped => {
            return Some(Picture::Base64(body.slice(span.start..span.end)));
        }
        Node::Long(span) => unescape(&body.slice(span.start..span.end).to_bytes())?,
        Node::Text(text) => return short(text, body).map(Picture::Base64),
        _ => return None,
    };
    clean(&text).map(|text| Picture::Base64(text.into()))
}

/// A short text of base64, shared with `body` where it lies there as it is.
fn short(text: &str, body: &Rope) -> Option<Rope> {
    /// Larger answers are not searched: a hostile one could hold a great many short texts.
    const SEARCHED: usize = 64 << 10;
    let shares = body.len() <= SEARCHED && is_base64(text);
    let shared = shares.then(|| body.share(text.as_bytes())).flatten();
    shared.or_else(|| clean(text).map(Rope::from))
}

/// The picture of a JSON string that is a URL; the picture itself where it is a data URL. `None` when
/// it is no string, or no valid one.
pub fn at_url(node: &Node, body: &Rope) -> Option<Picture> {
    let url = match node {
        Node::Long(span) => body.slice(span.start..span.end),
        other => other.text()?.to_owned().into(),
    };
    let head = url.head(100);
    let Some(comma) = memchr::memchr(b',', &head).filter(|_| head.starts_with(b"data:")) else {
        let url = String::from_utf8(url.to_bytes().to_vec()).ok()?;
        return Some(Picture::Url(url));
    };
    // What a data URL holds may be escaped like any other text.
    match node {
        Node::Long(span) => {
            let start = span.start + comma + 1;
            from_node(&Node::Long(Span { start, ..*span }), body)
        }
        other => from_node(&Node::Text(other.text()?[comma + 1..].into()), body),
    }
}

/// Whether all of it is base64. By table and without a way out in between: pictures pass, and they are
/// long.
fn is_base64(text: &str) -> bool {
    let known = |all, byte: u8| all & IN_BASE64[usize::from(byte)];
    text.bytes().fold(true, known)
}

/// Takes line breaks out. Anything else that is no base64 spoils it: the text goes into JSON
/// again, where a stray quote would end it.
fn clean(text: &str) -> Option<String> {
    if is_base64(text) {
        return Some(text.to_owned());
    }
    let text: String = text.split_ascii_whitespace().collect();
    is_base64(&text).then_some(text)
}

/// Format and bytes of a `data:` URL; `None` when it is none, or is not in base64.
pub fn from_data_url(url: &[u8]) -> Option<(Format, Bytes)> {
    let rest = url.strip_prefix(b"data:")?;
    let comma = memchr::memchr(b',', rest)?;
    let kind = std::str::from_utf8(&rest[..comma]).ok()?;
    let kind = kind.strip_suffix(";base64")?;
    let bytes = LENIENT.decode(&rest[comma + 1..]).ok()?;
    Some((Format::from_media_type(kind), bytes.into()))
}

/// A `data:` URL as a rope; the bytes are encoded, not joined.
pub fn data_url(format: Format, bytes: &Bytes) -> Rope {
    let format = known_format(format, bytes);
    let mut url = Rope::from(format!("data:{};base64,", format.media_type()));
    url.append(&encode(&Rope::from(bytes.clone())));
    url
}

/// The declared format, or what the file says where nothing was declared.
pub fn known_format(declared: Format, bytes: &Bytes) -> Format {
    match declared {
        Format::Unknown => header::read(bytes).format,
        declared => declared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rope(bytes: &[u8], cuts: &[usize]) -> Rope {
        let mut rope = Rope::new();
        let mut rest = Bytes::copy_from_slice(bytes);
        for cut in cuts {
            rope.push(rest.split_to((*cut).min(rest.len())));
        }
        rope.push(rest);
        rope
    }

    #[test]
    fn padding_may_be_missing_but_nothing_may_follow_it() {
        let check = |pieces: &[&str], expected: Option<&[u8]>| {
            let mut text = Rope::new();
            pieces.iter().for_each(|p| text.push(p.as_bytes().to_vec()));
            let got = decode(&text).map(|raw| raw.to_bytes().to_vec());
            assert_eq!(got.as_deref(), expected, "{pieces:?}");
        };
        check(&["aGVsbG8="], Some(b"hello"));
        check(&["aGVsbG8"], Some(b"hello"));
        check(&["aGV", "sbG8="], Some(b"hello"));
        check(&["aGVsbG8=", "aGVs"], None);
        check(&["aG\"s"], None);
        check(&["a"], None);
        check(&[], Some(b""));
    }

    #[test]
    fn a_string_that_is_no_base64_is_no_picture() {
        let text = |text: &str| from_node(&Node::Text(text.into()), &Rope::new());
        assert!(matches!(text("aGVs\r\nbG8="), Some(Picture::Base64(rope)) if rope.len() == 8));
        assert!(text("aGVs\"bG8=").is_none());
        assert!(from_node(&Node::Null, &Rope::new()).is_none());
        assert!(image(Picture::Base64(Rope::new()), Format::Png).is_none());
    }

    #[test]
    fn a_short_picture_is_shared_with_the_answer_that_it_came_in() {
        let text = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB";
        let body = Rope::from(format!(r#"{{"data":[{{"b64_json":"{text}"}}]}}"#));
        let found = |text: &str| match from_node(&Node::Text(text.into()), &body) {
            Some(Picture::Base64(rope)) => rope.to_bytes(),
            other => panic!("{other:?}"),
        };
        let lies = body.pieces()[0].as_ptr_range();
        let shared = found(text);
        assert_eq!(shared, text);
        assert!(lies.contains(&shared.as_ptr()));
        // It begins like the one that lies there, and is another.
        let copied = found("iVBORw0KGgoAAAANSUhEUgAAAAEAAAAC");
        assert_eq!(copied, "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAC");
        assert!(!lies.contains(&copied.as_ptr()));
    }

    #[test]
    fn a_data_url_is_read_and_written() {
        let url = b"data:image/webp;base64,aGVsbG8=";
        let (format, bytes) = from_data_url(url).unwrap();
        assert_eq!((format, &bytes[..]), (Format::Webp, &b"hello"[..]));
        assert_eq!(&data_url(format, &bytes).to_bytes()[..], url);
        assert_eq!(from_data_url(b"data:text/plain,hello"), None);
        assert_eq!(from_data_url(b"https://example.test/a.png"), None);
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_an_encoding(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            cuts in proptest::collection::vec(0usize..9, 0..40),
        ) {
            let text = encode(&rope(&bytes, &cuts));
            let expected = BASE64_STANDARD.encode(&bytes);
            let got = text.to_bytes();
            prop_assert_eq!(&got[..], expected.as_bytes());
            let back = decode(&rope(expected.as_bytes(), &cuts)).unwrap();
            prop_assert_eq!(&back.to_bytes()[..], &bytes[..]);
        }

        #[test]
        fn any_text_decodes_as_a_whole_or_not_at_all(
            text in "[A-Za-z0-9+/=\"\n ]{0,40}", cuts in proptest::collection::vec(0usize..9, 0..8),
        ) {
            let cut = decode(&rope(text.as_bytes(), &cuts)).map(|raw| raw.to_bytes());
            let whole = LENIENT.decode(&text).ok();
            // A cut may see padding where the whole does not accept it, never the other way round.
            if let Some(whole) = whole {
                prop_assert_eq!(cut.as_deref(), Some(&whole[..]));
            }
        }
    }
}
