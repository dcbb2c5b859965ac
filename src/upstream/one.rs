//! An HTTP/1.1 connection that whoever uses it drives.
//!
//! With a task of its own it would be woken for every chunk, and carry each from one processor to
//! the other. Between requests nobody drives it: that the provider has closed it meanwhile is
//! found out when it is next taken up.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;

use super::Outbound;
use super::dial::Stream;

type Connection = http1::Connection<TokioIo<Stream>, Outbound>;

pub(super) struct One {
    sender: http1::SendRequest<Outbound>,
    /// `None` once it has ended.
    connection: Option<Pin<Box<Connection>>>,
}

impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("One")
    }
}

impl One {
    /// Begins HTTP/1.1 on a stream.
    ///
    /// # Errors
    /// As hyper's handshake.
    pub(super) async fn open(stream: Stream) -> hyper::Result<One> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(One {
            sender,
            connection: Some(Box::pin(connection)),
        })
    }

    /// Does what can be done now.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to a provider ended");
            }
            self.connection = None;
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.is_none() || self.sender.is_closed()
    }

    /// Waits until it takes another request; false when it never will again.
    pub(super) async fn ready(&mut self) -> bool {
        std::future::poll_fn(|cx| {
            self.drive(cx);
            if self.is_closed() {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }

    /// Sends a request and waits for the head of its answer; the body comes as the connection is
    /// driven on.
    ///
    /// # Errors
    /// With the request itself where not one byte of it was written.
    pub(super) async fn send(
        &mut self,
        request: Request<Outbound>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outbound>>> {
        let mut sending = pin!(self.sender.try_send_request(request));
        std::future::poll_fn(|cx| {
            if let Some(connection) = &mut self.connection
                && let Poll::Ready(_) = connection.as_mut().poll(cx)
            {
                // The request, or word of it, is handed back as the connection goes.
                self.connection = None;
            }
            sending.as_mut().poll(cx)
        })
        .await
    }
}
