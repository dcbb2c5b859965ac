//! Clients that ask over HTTP/2 and then take nothing of what is sent to them.
//!
//! The system breaks a connection whose client reads nothing (`listen`), and cannot see one that
//! reads and grants no window: such an answer would lie in our memory for ever. So every answer of
//! a connection notes since when a piece of it waits to be taken, and the connection is given up
//! when one has waited too long.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::pipeline::Body;
use crate::pipeline::body::BodyError;

/// An answer is handed over in pieces of this size: what is handed over is out of sight.
const PIECE: usize = 64 << 10;

/// The answers of one connection that wait for their client. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Waiting(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// So long a piece may wait.
    most: Duration,
    /// Since when, by answer.
    since: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
}

impl Waiting {
    pub(super) fn at_most(most: Duration) -> Waiting {
        Waiting(Arc::new(Inner {
            most,
            since: Mutex::default(),
            next: AtomicU64::new(0),
        }))
    }

    /// An answer that is watched, from now on: it is not even looked at while there is no window.
    pub(super) fn watch(&self, body: Body) -> Watched {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.since.lock().insert(number, Instant::now());
        Watched {
            body,
            rest: Bytes::new(),
            waiting: self.clone(),
            number,
        }
    }

    /// Returns when a piece of some answer has waited for longer than it may.
    pub(super) async fn too_long(&self) {
        loop {
            let now = Instant::now();
            let oldest = self.0.since.lock().values().min().copied();
            // A piece that is handed over from now on cannot be due before that.
            let due = oldest.unwrap_or(now) + self.0.most;
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Watched {
    body: Body,
    /// What is left of its last piece.
    rest: Bytes,
    waiting: Waiting,
    number: u64,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Whoever asks for a piece has taken the one before.
        let number = self.number;
        let polled = match self.rest.is_empty() {
            true => Pin::new(&mut self.body).poll_frame(cx),
            false => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest))))),
        };
        let polled = polled.map_ok(|frame| {
            frame.map_data(|mut piece| {
                self.rest = piece.split_off(piece.len().min(PIECE));
                piece
            })
        });
        let mut since = self.waiting.0.since.lock();
        match &polled {
            Poll::Ready(Some(Ok(_))) => since.insert(number, Instant::now()),
            _ => since.remove(&number),
        };
        drop(since);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (of_body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + rest);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.waiting.0.since.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response};
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

    use super::*;
    use crate::wire::Rope;

    const LARGE: usize = 640 << 10;

    /// One large answer, as a client with so large a window takes it: whether it was given up, and
    /// how much of it came.
    async fn served(most: Duration, window: u32, releases: bool) -> (bool, usize) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let waiting = Waiting::at_most(most);
        let answers = waiting.clone();
        let service = service_fn(move |_: Request<hyper::body::Incoming>| {
            let body = Body::from(Rope::from(Bytes::from(vec![7; LARGE])));
            let body = answers.watch(body);
            assert_eq!(body.size_hint().exact(), Some(LARGE as u64));
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(near), service);
        let client = async {
            let building = h2::client::Builder::new()
                .initial_window_size(window)
                .handshake::<_, Bytes>(far);
            let (sender, connection) = building.await.unwrap();
            let asking = async {
                let mut sender = sender.ready().await.unwrap();
                let request = Request::get("http://a.test/").body(()).unwrap();
                let (answer, _) = sender.send_request(request, true).unwrap();
                let mut body = answer.await.unwrap().into_body();
                let mut came = 0;
                while let Some(Ok(piece)) = body.data().await {
                    came += piece.len();
                    if releases {
                        body.flow_control().release_capacity(piece.len()).unwrap();
                    }
                }
                came
            };
            let (came, _) = futures_util::future::join(asking, connection).await;
            came
        };
        let serving = async move {
            tokio::select! {
                _ = serving => false,
                () = waiting.too_long() => true,
            }
        };
        futures_util::future::join(serving, client).await
    }

    #[tokio::test]
    async fn a_client_that_grants_no_window_is_given_up() {
        let most = Duration::from_millis(50);
        for window in [0, 65_535] {
            let (given_up, came) = served(most, window, false).await;
            assert!(given_up && came <= window as usize, "{window}: {came}");
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_it_has_it_whole() {
        let most = Duration::from_secs(3600);
        assert_eq!(served(most, 65_535, true).await, (false, LARGE));
    }

    #[tokio::test]
    async fn only_what_is_handed_over_and_not_yet_taken_waits() {
        let waiting = Waiting::at_most(Duration::ZERO);
        let waits = || waiting.0.since.lock().len();
        let body = Body::from(Rope::from(Bytes::from(vec![7; PIECE + 1])));
        let mut watched = waiting.watch(body);
        assert_eq!(waits(), 1, "nobody has looked at it yet");
        waiting.too_long().await;
        for expected in [Some(PIECE), Some(1), None] {
            let next = std::future::poll_fn(|cx| Pin::new(&mut watched).poll_frame(cx)).await;
            let came = next.map(|frame| frame.unwrap().into_data().unwrap().len());
            assert_eq!((came, waits()), (expected, usize::from(came.is_some())));
        }
        drop(waiting.watch(Body::empty()));
        assert_eq!(waits(), 0, "nobody is left to wait for");
    }
}
