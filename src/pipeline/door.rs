//! The door between a call's own task and the connection that waits for its answer.

use http::Response;
use tokio::sync::oneshot;

use super::body::Body;
use crate::record::Delivered;
use crate::wire::ReplyHead;

/// The call's side: opened once, with an answer or the beginning of one.
pub(super) struct Door {
    sender: Option<oneshot::Sender<Response<Body>>>,
    receipt: Option<oneshot::Receiver<(Delivered, u64)>>,
    /// Nobody stood behind the door when it was opened.
    gone: bool,
    /// Somebody waits behind it, and may go away.
    attended: bool,
}

/// The connection's side.
pub(super) struct Opened(oneshot::Receiver<Response<Body>>);

impl Door {
    pub(super) fn shut() -> (Door, Opened) {
        let (sender, receiver) = oneshot::channel();
        (
            Door {
                sender: Some(sender),
                receipt: None,
                gone: false,
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
        self.receipt = Some(body.receipt());
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        self.gone = sender.send(response).is_err();
    }

    /// How much of the answer was taken, and how many bytes that was.
    pub(super) async fn delivered(self) -> (Delivered, u64) {
        match self.receipt {
            Some(receipt) if !self.gone => receipt.await.unwrap_or((Delivered::No, 0)),
            _ => (Delivered::No, 0),
        }
    }
}

impl Opened {
    /// Waits for the answer.
    pub(super) async fn answer(self) -> Response<Body> {
        self.0.await.unwrap_or_else(|_| {
            // The call's task broke off: a defect of ours, and the caller must not hang on it.
            let reply = super::rescue::bare(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "the call broke off; see pixtoll's own log",
            );
            super::answer::response(reply)
        })
    }
}
