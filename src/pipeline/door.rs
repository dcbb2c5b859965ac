//! The door between a call and the caller who waits for its answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use tokio::sync::oneshot;

use super::body::{Body, Receipt};
use crate::record::Delivered;
use crate::wire::ReplyHead;

/// The call's side: opened once, with an answer or the beginning of one.
pub(super) struct Door {
    sender: Option<oneshot::Sender<Response<Body>>>,
    /// Told when the answer is delivered, or cannot be any more.
    receipt: Receipt,
    /// Somebody waits behind it, and may go away.
    attended: bool,
}

/// The caller's side.
pub(super) struct Opened(oneshot::Receiver<Response<Body>>);

impl Door {
    pub(super) fn shut() -> (Door, Opened) {
        let (sender, receiver) = oneshot::channel();
        (
            Door {
                sender: Some(sender),
                receipt: Receipt::default(),
                attended: true,
            },
            Opened(receiver),
        )
    }

    /// For what is no answer by itself: nobody ever stood behind it.
    pub(super) fn to_nobody() -> Door {
        let (mut door, _) = Door::shut();
        door.attended = false;
        door
    }

    /// Waits until whoever stood behind the shut door has gone away.
    pub(super) async fn left(&mut self) {
        match &mut self.sender {
            Some(sender) if self.attended => sender.closed().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.sender.is_none()
    }

    /// Hands the answer over. Only the first answer counts.
    pub(super) fn open(&mut self, head: ReplyHead, mut body: Body) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        body.tell(self.receipt.clone());
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        // With nobody behind the door the body is dropped, and says so.
        drop(sender.send(response));
    }

    /// Calls `then` with how much of the answer was taken and how many bytes that was, once that
    /// is known.
    pub(super) fn when_delivered(self, then: impl FnOnce(Delivered, u64) + Send + 'static) {
        self.receipt.then(then);
    }
}

impl Future for Opened {
    type Output = Response<Body>;

    /// The answer, once it is there; where the call ended without one, an error in its place.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response<Body>> {
        Pin::new(&mut self.0).poll(cx).map(|answer| {
            answer.unwrap_or_else(|_| {
                // The call broke off: a defect of ours, and the caller must not hang on it.
                let reply = super::rescue::bare(
                    http::StatusCode::INTERNAL_SERVER_ERROR,
                    "the call broke off; see pixtoll's own log",
                );
                super::answer::response(reply)
            })
        })
    }
}
