//! An answer as a value, and how it goes out: compressed when the client may take it, in pieces,
//! late, or broken off.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};

use super::behaviour::Fault;
use super::template::Filled;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Gzip,
    Brotli,
    Zstd,
}

impl Encoding {
    /// The word in `accept-encoding` and `content-encoding`.
    pub const fn word(self) -> &'static str {
        match self {
            Encoding::Gzip => "gzip",
            Encoding::Brotli => "br",
            Encoding::Zstd => "zstd",
        }
    }

    /// The encoding of this name.
    pub fn parse(word: &str) -> Option<Encoding> {
        [Encoding::Gzip, Encoding::Brotli, Encoding::Zstd]
            .into_iter()
            .find(|encoding| encoding.word() == word)
    }

    /// The first that the client takes, in its own order, as an edge would choose.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Encoding> {
        headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|choice| {
                let (word, weight) = choice.split_once(';').unwrap_or((choice, ""));
                let refused = matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
                Encoding::parse(word.trim()).filter(|_| !refused)
            })
    }

    /// # Errors
    /// Those of the compressor; it writes into memory, so only running out of that is left.
    pub(super) fn encode(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Encoding::Gzip => {
                let fast = flate2::Compression::fast();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), fast);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Encoding::Brotli => {
                let mut encoder = brotli::CompressorWriter::new(Vec::new(), 64 * 1024, 1, 22);
                encoder.write_all(bytes)?;
                encoder.flush()?;
                Ok(encoder.into_inner())
            }
            Encoding::Zstd => zstd::encode_all(bytes, 1),
        }
    }
}

/// A message ready to go out.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// One for a plain body; one an event for a stream.
    pub(super) pieces: Vec<Bytes>,
    /// A stream has no length in its head and is not compressed.
    pub(super) stream: bool,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Answer {
        let mut answer = Answer {
            status,
            headers: HeaderMap::new(),
            pieces: vec![body.into()],
            stream: false,
        };
        answer.set("content-type", content_type);
        answer
    }

    /// A filled template with its own headers; JSON unless they say otherwise.
    pub(super) fn of(filled: Filled) -> Answer {
        let mut answer = Answer::new(filled.status, "application/json", filled.body);
        for (name, value) in &filled.headers {
            answer.set(name, value);
        }
        answer
    }

    /// A template whose body is text written as a JSON string.
    pub(super) fn page(filled: Filled) -> Answer {
        let text = serde_json::from_str::<String>(&filled.body).unwrap_or_default();
        Answer::of(Filled {
            body: text,
            ..filled
        })
    }

    /// Server-sent events: name and data of each.
    pub(super) fn events(events: Vec<(Option<String>, String)>) -> Answer {
        let mut answer = Answer::new(
            StatusCode::OK,
            "text/event-stream; charset=utf-8",
            Bytes::new(),
        );
        answer.stream = true;
        answer.pieces = events
            .into_iter()
            .map(|(name, data)| match name {
                Some(name) => Bytes::from(format!("event: {name}\ndata: {data}\n\n")),
                None => Bytes::from(format!("data: {data}\n\n")),
            })
            .collect();
        answer
    }

    /// Sets a header; a value that cannot stand in one is left out.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            self.headers.insert(name, value);
        }
    }

    /// Whether an edge would compress it: text, not pictures and not streams.
    fn is_text(&self) -> bool {
        let content_type = self.headers.get(CONTENT_TYPE);
        let text = content_type.and_then(|value| value.to_str().ok());
        !self.stream
            && text.is_some_and(|t| t.starts_with("application/json") || t.starts_with("text/"))
    }

    /// Compresses the body with what the client takes, or with `forced` whatever it takes.
    pub(super) fn compress(&mut self, headers: &HeaderMap, forced: Option<Encoding>) {
        let accepted = Encoding::accepted(headers).filter(|_| self.is_text());
        let Some(encoding) = forced.or(accepted) else {
            return;
        };
        let whole = self.pieces.concat();
        if let Ok(encoded) = encoding.encode(&whole) {
            self.pieces = vec![encoded.into()];
            let word = HeaderValue::from_static(encoding.word());
            self.headers.insert(CONTENT_ENCODING, word);
            self.set("vary", "accept-encoding");
        }
    }

    /// The response, broken or slowed as the fault says.
    pub(super) fn send(self, fault: &Fault) -> Response<Body> {
        let length: usize = self.pieces.iter().map(Bytes::len).sum();
        let mut steps: VecDeque<Step> = VecDeque::new();
        match fault {
            Fault::Cut { after } => {
                let keep = after.unwrap_or(length / 2).min(length.saturating_sub(1));
                let whole = Bytes::from(self.pieces.concat());
                steps.extend([Step::Send(whole.slice(..keep)), Step::Breathe, Step::Break]);
            }
            Fault::Drip { chunk, pause } => {
                let (whole, chunk) = (Bytes::from(self.pieces.concat()), (*chunk).max(1));
                for at in (0..length).step_by(chunk) {
                    if at > 0 {
                        steps.push_back(Step::Pause(*pause));
                    }
                    steps.push_back(Step::Send(whole.slice(at..length.min(at + chunk))));
                }
            }
            _ => steps.extend(
                self.pieces
                    .into_iter()
                    .flat_map(|piece| [Step::Send(piece), Step::Breathe]),
            ),
        }
        let mut response = Response::new(body(steps));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        if !self.stream {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        response
    }
}

/// What a body does next.
enum Step {
    Send(Bytes),
    Pause(Duration),
    /// Lets what was sent reach the socket before the next step.
    Breathe,
    /// Ends the connection.
    Break,
}

fn body(steps: VecDeque<Step>) -> Body {
    let frames = stream::unfold(steps, |mut steps| async move {
        loop {
            match steps.pop_front()? {
                Step::Send(bytes) if bytes.is_empty() => {}
                Step::Send(bytes) => return Some((Ok(Frame::data(bytes)), steps)),
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Breathe => tokio::task::yield_now().await,
                Step::Break => {
                    let cut = io::Error::new(io::ErrorKind::ConnectionAborted, "cut on demand");
                    return Some((Err(cut), VecDeque::new()));
                }
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_encoding_that_the_client_takes_is_used() {
        let cases = [
            ("gzip, deflate, br", Some(Encoding::Gzip)),
            ("br;q=1.0, gzip", Some(Encoding::Brotli)),
            ("gzip;q=0, zstd", Some(Encoding::Zstd)),
            ("identity", None),
            ("", None),
        ];
        for (accepts, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accepts));
            assert_eq!(Encoding::accepted(&headers), expected, "{accepts}");
        }
    }

    #[test]
    fn text_is_compressed_and_pictures_only_when_forced() {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let encoded = |kind: &str, forced| {
            let mut answer = Answer::new(StatusCode::OK, kind, "x".repeat(99));
            answer.compress(&headers, forced);
            answer.headers.contains_key(CONTENT_ENCODING)
        };
        assert!(encoded("application/json", None));
        assert!(!encoded("image/png", None));
        assert!(encoded("image/png", Some(Encoding::Zstd)));
    }
}
