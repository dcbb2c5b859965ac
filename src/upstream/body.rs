//! Bodies on their way out and on their way back.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;

use super::pool::Leased;
use crate::wire::Rope;

/// The body of a request that goes out.
#[derive(Debug)]
pub enum Outbound {
    /// In hand.
    Pieces { pieces: VecDeque<Bytes>, left: u64 },
    /// Passed on as it arrives from the app.
    Passing(Incoming),
}

impl Outbound {
    pub fn empty() -> Outbound {
        Outbound::Pieces {
            pieces: VecDeque::new(),
            left: 0,
        }
    }
}

impl Outbound {
    /// The same bytes again, where they are in hand and none has gone.
    pub(super) fn copy(&self) -> Option<Outbound> {
        match self {
            Outbound::Pieces { pieces, left } => Some(Outbound::Pieces {
                pieces: pieces.clone(),
                left: *left,
            }),
            Outbound::Passing(_) => None,
        }
    }
}

impl From<Rope> for Outbound {
    fn from(rope: Rope) -> Outbound {
        Outbound::Pieces {
            left: rope.len() as u64,
            pieces: rope.pieces().iter().cloned().collect(),
        }
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Outbound::Pieces { pieces, left } => Poll::Ready(pieces.pop_front().map(|piece| {
                *left -= piece.len() as u64;
                Ok(Frame::data(piece))
            })),
            Outbound::Passing(incoming) => Pin::new(incoming).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outbound::Pieces { pieces, .. } => pieces.is_empty(),
            Outbound::Passing(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outbound::Pieces { left, .. } => SizeHint::with_exact(*left),
            Outbound::Passing(incoming) => incoming.size_hint(),
        }
    }
}

/// The body of an answer, and the connection it comes on, which is driven by reading the body,
/// goes back to the pool when it has been read to its end and is closed when it has not.
#[derive(Debug)]
pub struct Inbound {
    incoming: Incoming,
    leased: Option<Leased>,
}

impl Inbound {
    pub(super) fn new(incoming: Incoming, leased: Leased) -> Inbound {
        let mut inbound = Inbound {
            incoming,
            leased: Some(leased),
        };
        inbound.give_back_at_end();
        inbound
    }

    /// A body on a connection that is shared, and driven by itself.
    pub(super) fn shared(incoming: Incoming) -> Inbound {
        Inbound {
            incoming,
            leased: None,
        }
    }

    fn give_back_at_end(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(leased) = self.leased.take() {
            leased.give();
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending()
            && let Some(leased) = &mut self.leased
        {
            leased.one.drive(cx);
            polled = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        match &polled {
            Poll::Ready(None) => self.give_back(),
            Poll::Ready(Some(Ok(_))) => self.give_back_at_end(),
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A body in one of many shapes, for the edges that answer with all of them.
pub type AnyBody = BoxBody<Bytes, hyper::Error>;

/// Boxes a body that cannot fail.
pub fn boxed<B>(body: B) -> AnyBody
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    use http_body_util::BodyExt;
    body.map_err(|never| match never {}).boxed()
}
