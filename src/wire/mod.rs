//! Messages as values: heads, bodies in pieces, and the texts inside them read as they arrive.
//!
//! A body is a [`Rope`]: the chunks that came off the socket, in order, shared and never joined.
//! [`json`], [`sse`] and [`multipart`] read such bodies without copying the pictures in them.

pub mod json;
pub mod multipart;
pub mod sse;

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::AsHeaderName;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use memchr::memmem;

/// The head of a request, without how it reached us.
#[derive(Clone, Debug)]
pub struct RequestHead {
    pub method: Method,
    /// Host name or address without port, lower case.
    pub host: String,
    pub target: PathAndQuery,
    pub headers: HeaderMap,
}

impl RequestHead {
    pub fn path(&self) -> &str {
        self.target.path()
    }

    /// A header's text; `None` when it is absent or not readable as text.
    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct ReplyHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl ReplyHead {
    /// A head that says only status and content type.
    pub fn new(status: StatusCode, content_type: &'static str) -> ReplyHead {
        let mut headers = HeaderMap::new();
        headers.insert(
            http::header::CONTENT_TYPE,
            HeaderValue::from_static(content_type),
        );
        ReplyHead { status, headers }
    }

    pub fn header(&self, name: impl AsHeaderName) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// A whole answer as a value.
#[derive(Clone, Debug)]
pub struct Reply {
    pub head: ReplyHead,
    pub body: Rope,
}

/// A request to a provider as a value: where on its host, and what.
#[derive(Clone, Debug)]
pub struct Message {
    pub method: Method,
    pub target: PathAndQuery,
    pub headers: HeaderMap,
    pub body: Rope,
}

fn header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Bytes in pieces, shared and never joined.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Rope {
    pub const fn new() -> Rope {
        Rope {
            pieces: Vec::new(),
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, piece: impl Into<Bytes>) {
        let piece = piece.into();
        if !piece.is_empty() {
            self.len += piece.len();
            if self.pieces.is_empty() {
                self.pieces.reserve_exact(1); // most have one, and a list would take four
            }
            self.pieces.push(piece);
        }
    }

    /// Appends another rope's pieces; nothing is copied.
    pub fn append(&mut self, other: &Rope) {
        self.pieces.extend_from_slice(&other.pieces);
        self.len += other.len;
    }

    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// The bytes of `range` as a rope of their own, sharing the pieces. A range past the end is
    /// cut to what is there.
    pub fn slice(&self, range: Range<usize>) -> Rope {
        let mut slice = Rope::new();
        let mut start = 0;
        for piece in &self.pieces {
            let end = start + piece.len();
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                slice.push(piece.slice(from - start..to - start));
            }
            start = end;
            if start >= range.end {
                break;
            }
        }
        slice
    }

    /// `bytes` as a slice of this rope, where they lie whole in one of its pieces; `None` where they do
    /// not, or behind others that begin like them.
    pub fn share(&self, bytes: &[u8]) -> Option<Rope> {
        // A short needle is found without being prepared for the search.
        const BEGINNING: usize = 16;
        let beginning = &bytes[..bytes.len().min(BEGINNING)];
        self.pieces.iter().find_map(|piece| {
            let at = memmem::find(piece, beginning)?;
            let lies = piece[at..].starts_with(bytes);
            lies.then(|| Rope::from(piece.slice(at..at + bytes.len())))
        })
    }

    /// One contiguous block; copies only when there are several pieces.
    pub fn to_bytes(&self) -> Bytes {
        match self.pieces.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            pieces => {
                let mut whole = BytesMut::with_capacity(self.len);
                pieces
                    .iter()
                    .for_each(|piece| whole.extend_from_slice(piece));
                whole.freeze()
            }
        }
    }

    /// The first `most` bytes, contiguous.
    pub fn head(&self, most: usize) -> Bytes {
        self.slice(0..most).to_bytes()
    }
}

impl<B: Into<Bytes>> From<B> for Rope {
    fn from(bytes: B) -> Rope {
        let mut rope = Rope::new();
        rope.push(bytes);
        rope
    }
}

impl PartialEq for Rope {
    fn eq(&self, other: &Rope) -> bool {
        self.len == other.len && self.to_bytes() == other.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_slice_of_a_rope_is_the_slice_of_its_bytes(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..6),
            a in 0usize..60, b in 0usize..60,
        ) {
            let mut rope = Rope::new();
            pieces.iter().for_each(|piece| rope.push(piece.clone()));
            let whole: Vec<u8> = pieces.concat();
            let (from, to) = (a.min(b), a.max(b));
            let expected = &whole[from.min(whole.len())..to.min(whole.len())];
            prop_assert_eq!(&rope.slice(from..to).to_bytes()[..], expected);
            prop_assert_eq!(rope.len(), whole.len());
        }
    }
}
