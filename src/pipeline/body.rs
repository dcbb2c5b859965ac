//! The bodies that callers are answered with, and the receipt for each.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use thiserror::Error;

use crate::cache::Live;
use crate::cache::flight::{End, Reading};
use crate::record::Delivered;
use crate::room::Room;
use crate::upstream::Inbound;
use crate::wire::Rope;

/// Why a body broke off: the caller's connection must break too, not look finished.
#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the provider's answer broke off")]
    Cut,
    #[error(transparent)]
    Passed(#[from] hyper::Error),
}

/// The body of an answer to an app.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// Bytes handed over so far.
    given: u64,
    finished: bool,
    receipt: Option<Receipt>,
    /// What its bytes take of the memory, until they are all with the caller.
    rooms: Vec<Arc<Room>>,
}

#[derive(Debug)]
enum Kind {
    Pieces {
        pieces: VecDeque<Bytes>,
        left: u64,
    },
    Live {
        reading: Reading,
        length: Option<u64>,
    },
    Passing(Inbound),
    Incoming(Incoming),
}

impl Body {
    fn of(kind: Kind) -> Body {
        Body {
            kind,
            given: 0,
            finished: false,
            receipt: None,
            rooms: Vec::new(),
        }
    }

    pub fn empty() -> Body {
        Body::from(Rope::new())
    }

    /// An answer that is still arriving.
    pub fn live(live: Arc<Live>) -> Body {
        let length = live.length;
        Body::of(Kind::Live {
            reading: Reading::of(live),
            length,
        })
    }

    /// An answer that passes through untouched.
    pub fn passing(inbound: Inbound) -> Body {
        Body::of(Kind::Passing(inbound))
    }

    /// An answer on a connection of its own.
    pub fn incoming(incoming: Incoming) -> Body {
        Body::of(Kind::Incoming(incoming))
    }

    /// Says which rooms its bytes lie in.
    #[must_use]
    pub(super) fn lying_in(mut self, rooms: Vec<Arc<Room>>) -> Body {
        self.rooms = rooms;
        self
    }

    /// Has the receipt told how much was taken, once the body is dropped.
    pub(super) fn tell(&mut self, receipt: Receipt) {
        self.receipt = Some(receipt);
    }
}

/// Word of how much of a body was taken, for whoever asks, before or after. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Receipt(Arc<Mutex<Word>>);

#[derive(Default)]
enum Word {
    #[default]
    Unknown,
    Known(Delivered, u64),
    Awaited(Box<dyn FnOnce(Delivered, u64) + Send>),
}

impl Receipt {
    /// Calls `then` with the word: now, if it is here.
    pub(super) fn then(self, then: impl FnOnce(Delivered, u64) + Send + 'static) {
        let mut word = self.0.lock();
        match *word {
            Word::Known(delivered, bytes) => {
                drop(word);
                then(delivered, bytes);
            }
            _ => *word = Word::Awaited(Box::new(then)),
        }
    }

    fn give(self, delivered: Delivered, bytes: u64) {
        let before = std::mem::replace(&mut *self.0.lock(), Word::Known(delivered, bytes));
        if let Word::Awaited(then) = before {
            then(delivered, bytes);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

impl From<Rope> for Body {
    fn from(rope: Rope) -> Body {
        Body::of(Kind::Pieces {
            left: rope.len() as u64,
            pieces: rope.pieces().iter().cloned().collect(),
        })
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Body::from(Rope::from(text))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.kind {
            Kind::Pieces { pieces, left } => Poll::Ready(pieces.pop_front().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Kind::Live { reading, length } => {
                Pin::new(reading).poll_next(cx).map(|next| match next {
                    Ok(piece) => {
                        if let Some(length) = length {
                            *length = length.saturating_sub(piece.len() as u64);
                        }
                        Some(Ok(Frame::data(piece)))
                    }
                    Err(End::Whole) => None,
                    Err(End::Cut) => Some(Err(BodyError::Cut)),
                })
            }
            Kind::Passing(inbound) => Pin::new(inbound)
                .poll_frame(cx)
                .map(|f| f.map(|r| r.map_err(BodyError::from))),
            Kind::Incoming(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|f| f.map(|r| r.map_err(BodyError::from))),
        };
        match &polled {
            Poll::Ready(None) => self.finished = true,
            Poll::Ready(Some(Ok(frame))) => {
                self.given += frame.data_ref().map_or(0, |data| data.len() as u64);
                self.finished = self.is_end_stream();
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Pieces { pieces, .. } => pieces.is_empty(),
            Kind::Live { length, .. } => *length == Some(0),
            Kind::Passing(inbound) => inbound.is_end_stream(),
            Kind::Incoming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Pieces { left, .. } => SizeHint::with_exact(*left),
            Kind::Live {
                length: Some(length),
                ..
            } => SizeHint::with_exact(*length),
            Kind::Live { length: None, .. } => SizeHint::default(),
            Kind::Passing(inbound) => inbound.size_hint(),
            Kind::Incoming(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(receipt) = self.receipt.take() else {
            return;
        };
        let delivered = match (self.finished, self.given) {
            (true, _) => Delivered::Yes,
            (false, 0) => Delivered::No,
            (false, _) => Delivered::Partly,
        };
        receipt.give(delivered, self.given);
    }
}
