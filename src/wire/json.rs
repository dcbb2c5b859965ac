//! Reads a JSON text as it arrives, around the pictures in it.
//!
//! A 1.5 MB answer is nearly all one base64 string. The scanner keeps short values in a small tree
//! and of a long string only where it lies, so reading costs one pass of `memchr` and no copy.

use memchr::memchr2;
use smol_str::SmolStr;
use thiserror::Error;

/// Strings longer than this are kept as a [`Span`] of the body instead of a text.
const LONG: usize = 4096;
/// As deep as `serde_json` goes.
const MAX_DEPTH: usize = 128;
/// No honest answer has more values; a hostile one must not fill the memory.
const MAX_NODES: usize = 100_000;

/// Where a long string lies in the body, without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
    /// Whether the text holds backslash escapes.
    pub escaped: bool,
}

/// A JSON value, long strings by place.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Null,
    Bool(bool),
    /// As it was written: no float, no loss.
    Number(SmolStr),
    Text(SmolStr),
    Long(Span),
    Array(Vec<Node>),
    Object(Vec<(SmolStr, Node)>),
}

impl Node {
    /// The value under `key`, the last one if the key stands twice.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Object(entries) => entries
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value at a JSON pointer (RFC 6901, without `~` escapes).
    pub fn at(&self, pointer: &str) -> Option<&Node> {
        pointer
            .split('/')
            .skip(1)
            .try_fold(self, |node, step| match node {
                Node::Array(items) => items.get(step.parse::<usize>().ok()?),
                _ => node.get(step),
            })
    }

    pub fn items(&self) -> &[Node] {
        match self {
            Node::Array(items) => items,
            _ => &[],
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn u64(&self) -> Option<u64> {
        match self {
            Node::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub fn bool(&self) -> Option<bool> {
        match self {
            Node::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Numbers and short texts as they were written: what a billing code keeps.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Node::Number(text) | Node::Text(text) => Some(text),
            Node::Bool(true) => Some("true"),
            Node::Bool(false) => Some("false"),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Node::Null)
    }
}

/// Why a text is not JSON, or not JSON we are willing to read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{why} at byte {at}")]
pub struct NotJson {
    pub why: &'static str,
    pub at: usize,
}

/// An incremental reader of one JSON value.
#[derive(Debug)]
pub struct Scanner {
    /// Bytes of the body before the next one to be fed.
    offset: usize,
    expects: Expects,
    stack: Vec<Open>,
    token: Vec<u8>,
    string: Option<OpenString>,
    done: Option<Node>,
    nodes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expects {
    Value,
    /// A value or the end of a just opened array.
    ValueOrEnd,
    KeyOrEnd,
    Key,
    Colon,
    CommaOrEnd,
    Nothing,
    /// Within a number or a word.
    Scalar,
    String,
}

#[derive(Debug)]
enum Open {
    Array(Vec<Node>),
    Object {
        entries: Vec<(SmolStr, Node)>,
        key: SmolStr,
    },
}

#[derive(Debug)]
struct OpenString {
    start: usize,
    escaped: bool,
    /// The next byte is taken literally.
    escape: bool,
    is_key: bool,
    long: bool,
}

impl Scanner {
    /// A reader of a value whose first byte is byte `offset` of the body.
    pub fn new(offset: usize) -> Scanner {
        Scanner {
            offset,
            expects: Expects::Value,
            stack: Vec::new(),
            token: Vec::new(),
            string: None,
            done: None,
            nodes: 0,
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`NotJson`] with the body's byte at which the text stops being JSON. The scanner is of no
    /// further use then.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), NotJson> {
        while let [first, ..] = *bytes {
            let taken = match self.expects {
                Expects::String => self.string_bytes(bytes)?,
                Expects::Scalar => self.scalar_bytes(bytes)?,
                _ => match self.whole_string(bytes)? {
                    Some(taken) => taken,
                    None => {
                        self.structure(first)?;
                        1
                    }
                },
            };
            self.offset += taken;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Reads on from byte `offset` of the body: what lay between (a line's `data:`) is no JSON.
    ///
    /// # Errors
    /// As [`Scanner::feed`]. A long string must not span the gap; no writer breaks one.
    pub fn feed_at(&mut self, bytes: &[u8], offset: usize) -> Result<(), NotJson> {
        self.offset = offset;
        self.feed(bytes)
    }

    /// The key under which a long string is being read right now: a picture has begun.
    pub fn in_long(&self) -> Option<&str> {
        if !self.string.as_ref()?.long {
            return None;
        }
        self.stack.iter().rev().find_map(|open| match open {
            Open::Object { key, .. } => Some(key.as_str()),
            Open::Array(_) => None,
        })
    }

    /// The value, once it is whole.
    ///
    /// # Errors
    /// [`NotJson`] when the text ends in the middle.
    pub fn finish(mut self) -> Result<Node, NotJson> {
        if self.expects == Expects::Scalar {
            self.end_scalar()?;
        }
        let at = self.offset;
        self.done.ok_or(NotJson {
            why: "the text ends in the middle of a value",
            at,
        })
    }

    fn fail<T>(&self, why: &'static str) -> Result<T, NotJson> {
        Err(NotJson {
            why,
            at: self.offset,
        })
    }

    fn structure(&mut self, byte: u8) -> Result<(), NotJson> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            return Ok(());
        }
        match (self.expects, byte) {
            (Expects::Value | Expects::ValueOrEnd, b'{') => self.open(
                Open::Object {
                    entries: Vec::new(),
                    key: SmolStr::default(),
                },
                Expects::KeyOrEnd,
            ),
            (Expects::Value | Expects::ValueOrEnd, b'[') => {
                self.open(Open::Array(Vec::new()), Expects::ValueOrEnd)
            }
            (Expects::Value | Expects::ValueOrEnd, b'"') => self.open_string(false),
            (Expects::Value | Expects::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.token.clear();
                self.token.push(byte);
                self.expects = Expects::Scalar;
                Ok(())
            }
            (Expects::ValueOrEnd, b']') | (Expects::KeyOrEnd, b'}') => self.close(byte),
            (Expects::KeyOrEnd | Expects::Key, b'"') => self.open_string(true),
            (Expects::Colon, b':') => {
                self.expects = Expects::Value;
                Ok(())
            }
            (Expects::CommaOrEnd, b',') => {
                self.expects = match self.stack.last() {
                    Some(Open::Object { .. }) => Expects::Key,
                    _ => Expects::Value,
                };
                Ok(())
            }
            (Expects::CommaOrEnd, b']' | b'}') => self.close(byte),
            (Expects::Nothing, _) => self.fail("there is more text after the value"),
            _ => self.fail("an unexpected character"),
        }
    }

    fn open(&mut self, open: Open, expects: Expects) -> Result<(), NotJson> {
        if self.stack.len() == MAX_DEPTH {
            return self.fail("values are nested too deeply");
        }
        self.stack.push(open);
        self.expects = expects;
        Ok(())
    }

    fn close(&mut self, byte: u8) -> Result<(), NotJson> {
        match (self.stack.pop(), byte) {
            (Some(Open::Array(items)), b']') => self.value(Node::Array(items)),
            (Some(Open::Object { entries, .. }), b'}') => self.value(Node::Object(entries)),
            _ => self.fail("a bracket closes what was not opened"),
        }
    }

    fn value(&mut self, node: Node) -> Result<(), NotJson> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.fail("there are too many values");
        }
        match self.stack.last_mut() {
            Some(Open::Array(items)) => items.push(node),
            Some(Open::Object { entries, key }) => entries.push((std::mem::take(key), node)),
            None => {
                self.done = Some(node);
                self.expects = Expects::Nothing;
                return Ok(());
            }
        }
        self.expects = Expects::CommaOrEnd;
        Ok(())
    }

    /// Takes a string that begins here and lies whole in `bytes`, short and without escapes: nearly
    /// all are. `None` where it is no such one.
    fn whole_string(&mut self, bytes: &[u8]) -> Result<Option<usize>, NotJson> {
        let is_key = match self.expects {
            Expects::Value | Expects::ValueOrEnd => false,
            Expects::Key | Expects::KeyOrEnd => true,
            _ => return Ok(None),
        };
        let [b'"', inside @ ..] = bytes else {
            return Ok(None);
        };
        let near = &inside[..inside.len().min(LONG)];
        let end = match memchr2(b'"', b'\\', near) {
            Some(end) if near[end] == b'"' => end,
            _ => return Ok(None),
        };
        let Ok(text) = std::str::from_utf8(&near[..end]) else {
            return Ok(None);
        };
        self.text(text.into(), is_key)?;
        Ok(Some(end + 2))
    }

    fn open_string(&mut self, is_key: bool) -> Result<(), NotJson> {
        self.token.clear();
        self.string = Some(OpenString {
            start: self.offset + 1,
            escaped: false,
            escape: false,
            is_key,
            long: false,
        });
        self.expects = Expects::String;
        Ok(())
    }

    /// Takes bytes of the open string, up to and with its closing quote or a backslash.
    fn string_bytes(&mut self, bytes: &[u8]) -> Result<usize, NotJson> {
        let Some(string) = self.string.as_mut() else {
            return self.fail("a string that was not opened");
        };
        if string.escape {
            string.escape = false;
            self.keep(&bytes[..1])?;
            return Ok(1);
        }
        match memchr2(b'"', b'\\', bytes) {
            None => {
                self.keep(bytes)?;
                Ok(bytes.len())
            }
            Some(at) if bytes[at] == b'\\' => {
                string.escaped = true;
                string.escape = true;
                self.keep(&bytes[..=at])?;
                Ok(at + 1)
            }
            Some(at) => {
                self.keep(&bytes[..at])?;
                self.offset += at;
                let closed = self.close_string();
                self.offset -= at;
                closed?;
                Ok(at + 1)
            }
        }
    }

    /// Remembers a short string's bytes; of a long one only that it is long.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), NotJson> {
        let Some(string) = self.string.as_mut() else {
            return Ok(());
        };
        if string.long {
            return Ok(());
        }
        if self.token.len() + bytes.len() <= LONG {
            self.token.extend_from_slice(bytes);
            return Ok(());
        }
        if string.is_key {
            return self.fail("a key is too long");
        }
        string.long = true;
        self.token.clear();
        Ok(())
    }

    /// Ends the open string with what was kept of it.
    fn close_string(&mut self) -> Result<(), NotJson> {
        let Some(string) = self.string.take() else {
            return self.fail("a string that was not opened");
        };
        if string.long {
            let span = Span {
                start: string.start,
                end: self.offset,
                escaped: string.escaped,
            };
            return self.value(Node::Long(span));
        }
        let text = if string.escaped {
            unescape(&self.token).map(SmolStr::from)
        } else {
            std::str::from_utf8(&self.token).ok().map(SmolStr::new)
        };
        let Some(text) = text else {
            return self.fail("a string is not valid text");
        };
        self.text(text, string.is_key)
    }

    /// A short string is whole.
    fn text(&mut self, text: SmolStr, is_key: bool) -> Result<(), NotJson> {
        if !is_key {
            return self.value(Node::Text(text));
        }
        match self.stack.last_mut() {
            Some(Open::Object { key, .. }) => *key = text,
            _ => return self.fail("a key outside an object"),
        }
        self.expects = Expects::Colon;
        Ok(())
    }

    fn scalar_bytes(&mut self, bytes: &[u8]) -> Result<usize, NotJson> {
        let end = bytes
            .iter()
            .position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'+' | b'-' | b'.'));
        let taken = end.unwrap_or(bytes.len());
        if self.token.len() + taken > 64 {
            return self.fail("a number or word is too long");
        }
        self.token.extend_from_slice(&bytes[..taken]);
        if end.is_some() {
            self.end_scalar()?;
        }
        Ok(taken)
    }

    fn end_scalar(&mut self) -> Result<(), NotJson> {
        let node = match self.token.as_slice() {
            b"null" => Node::Null,
            b"true" => Node::Bool(true),
            b"false" => Node::Bool(false),
            token => match number(token) {
                Some(number) => Node::Number(number.into()),
                None => return self.fail("neither a number nor a word of JSON"),
            },
        };
        self.value(node)
    }
}

/// Reads a whole text at once.
///
/// # Errors
/// As [`Scanner::feed`] and [`Scanner::finish`].
pub fn parse(bytes: &[u8]) -> Result<Node, NotJson> {
    let mut scanner = Scanner::new(0);
    scanner.feed(bytes)?;
    scanner.finish()
}

/// The text of a quoted string's inside; `None` when an escape or the text itself is invalid.
pub fn unescape(inside: &[u8]) -> Option<String> {
    let quoted = [b"\"", inside, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

/// The text of a number as JSON writes it (RFC 8259, section 6).
fn number(text: &[u8]) -> Option<&str> {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || whole > 1 && rest[0] == b'0' {
        return None;
    }
    let mut rest = &rest[whole..];
    if let [b'.', after @ ..] = rest {
        let fraction = digits(after);
        if fraction == 0 {
            return None;
        }
        rest = &after[fraction..];
    }
    if let [b'e' | b'E', b'+' | b'-', after @ ..] | [b'e' | b'E', after @ ..] = rest {
        let exponent = digits(after);
        if exponent == 0 {
            return None;
        }
        rest = &after[exponent..];
    }
    rest.is_empty().then(|| std::str::from_utf8(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn plain(node: &Node, body: &[u8]) -> Value {
        match node {
            Node::Null => Value::Null,
            Node::Bool(b) => json!(b),
            Node::Number(text) => serde_json::from_str(text).unwrap(),
            Node::Text(text) => json!(text),
            Node::Long(span) => {
                let inside = &body[span.start..span.end];
                json!(if span.escaped {
                    unescape(inside).unwrap()
                } else {
                    String::from_utf8(inside.to_vec()).unwrap()
                })
            }
            Node::Array(items) => items.iter().map(|item| plain(item, body)).collect(),
            Node::Object(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, node)| (key.to_string(), plain(node, body)))
                    .collect(),
            ),
        }
    }

    #[test]
    fn a_long_string_is_a_place_and_is_seen_while_it_arrives() {
        let picture = "A".repeat(10_000);
        let body = format!(
            r#"{{"created":1,"data":[{{"b64_json":"{picture}"}}],"usage":{{"input_tokens":13}}}}"#
        );
        let mut scanner = Scanner::new(0);
        scanner.feed(&body.as_bytes()[..6000]).unwrap();
        assert_eq!(scanner.in_long(), Some("b64_json"));
        scanner.feed(&body.as_bytes()[6000..]).unwrap();
        assert_eq!(scanner.in_long(), None);
        let node = scanner.finish().unwrap();
        let Some(&Node::Long(span)) = node.at("/data/0/b64_json") else {
            panic!("{node:?}")
        };
        assert_eq!(&body[span.start..span.end], picture);
        assert_eq!(node.at("/usage/input_tokens").and_then(Node::u64), Some(13));
    }

    #[test]
    fn what_is_no_json_is_refused_with_its_place() {
        for text in [
            "",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{\"a\" 1}",
            "nul",
            "01",
            "1 2",
            "]",
            "{]",
            "\"abc",
            "[1 2]",
            "-",
            "\"\\x\"",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(parse(b"[1,?").unwrap_err().at, 3);
        assert_eq!(
            parse("[".repeat(200).as_bytes()).unwrap_err().why,
            "values are nested too deeply"
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            (4000usize..4200).prop_map(|n| Value::from("x\"y".repeat(n / 3))),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-z\"\\\\]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_it_is_cut_it_reads_as_serde_json_does(value in any_json(), pretty in any::<bool>(), cut in 1usize..50) {
            let body = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let mut scanner = Scanner::new(0);
            for chunk in body.chunks(cut) {
                scanner.feed(chunk).unwrap();
            }
            prop_assert_eq!(plain(&scanner.finish().unwrap(), &body), value);
        }

        #[test]
        fn a_number_is_one_for_serde_json_too(text in "-?[0-9]{0,3}[.eE+-]{0,2}[0-9]{0,2}[.eE+-]{0,2}[0-9]{0,2}") {
            let theirs = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(number(text.as_bytes()).is_some(), theirs);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let ours = parse(&bytes).is_ok();
            let theirs = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok();
            prop_assert!(!ours || theirs || std::str::from_utf8(&bytes).is_err() || bytes.iter().any(|b| *b < 0x20));
        }
    }
}
