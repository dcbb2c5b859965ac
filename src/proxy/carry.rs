//! Bytes carried both ways between two connections that nobody reads in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::time::Instant;

/// So long neither side may say anything. A language model may think for half an hour before its
/// first byte, and clients give up pooled connections within minutes: what is silent for longer has
/// been forgotten, and its two sockets with it.
pub(super) const IDLE: Duration = Duration::from_secs(3600);

/// When something last moved, in milliseconds since `began`.
#[derive(Clone)]
struct Pulse {
    began: Instant,
    last: Arc<AtomicU64>,
}

impl Pulse {
    fn new() -> Pulse {
        Pulse {
            began: Instant::now(),
            last: Arc::default(),
        }
    }

    fn beat(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    /// Returns when nothing has moved for `idle`.
    async fn stopped(&self, idle: Duration) {
        loop {
            let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
            let until = self.began + last + idle;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}

/// Carries bytes until both sides have finished; a side that has only stopped sending still hears
/// the other out. Returns how many went up and down.
///
/// # Errors
/// When a connection breaks, and when neither side has said anything for `idle`.
pub(super) async fn both_ways<N, F>(near: N, far: F, idle: Duration) -> io::Result<(u64, u64)>
where
    N: AsyncRead + AsyncWrite + Unpin,
    F: AsyncRead + AsyncWrite + Unpin,
{
    let pulse = Pulse::new();
    let mut near = Watched {
        inner: near,
        pulse: pulse.clone(),
    };
    let mut far = Watched {
        inner: far,
        pulse: pulse.clone(),
    };
    tokio::select! {
        carried = copy_bidirectional(&mut near, &mut far) => carried,
        () = pulse.stopped(idle) => {
            let why = format!("nothing was said for {} s", idle.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
    }
}

/// A connection that tells when something moves.
struct Watched<S> {
    inner: S,
    pulse: Pulse,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.pulse.beat();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if polled.is_ready() {
            self.pulse.beat();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_neither_side_uses_any_more_is_ended() {
        let (near, _app) = duplex(64);
        let (far, _origin) = duplex(64);
        let ended = both_ways(near, far, Duration::from_millis(20)).await;
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_side_that_has_stopped_sending_hears_the_other_out() {
        let (near, mut app) = duplex(64);
        let (far, mut origin) = duplex(64);
        let talk = async {
            app.write_all(b"question").await.unwrap();
            app.shutdown().await.unwrap();
            let mut asked = String::new();
            origin.read_to_string(&mut asked).await.unwrap();
            origin.write_all(b"answer").await.unwrap();
            origin.shutdown().await.unwrap();
            let mut answered = String::new();
            app.read_to_string(&mut answered).await.unwrap();
            (asked, answered)
        };
        let (carried, said) = tokio::join!(both_ways(near, far, IDLE), talk);
        assert_eq!(carried.unwrap(), (8, 6));
        assert_eq!(said, ("question".to_owned(), "answer".to_owned()));
    }
}
