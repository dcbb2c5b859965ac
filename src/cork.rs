//! Small writes of one tick leave together.
//!
//! Each write to a socket wakes whoever sleeps at its other end, and on a machine that is shared
//! with it that often takes the processor away from us in the middle of a call. The tasks that are
//! ready on a thread's runtime are therefore run first, and what they have written goes out after
//! the last of them: the others wake once and find several answers.
//!
//! Only what is small is held, only on the threads of [`Cores`](crate::cores::Cores), and never
//! longer than it takes to run what was ready already.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::Shutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::cores;

/// Writes from this size on are not held: they are worth a wake-up, and a copy costs.
const LARGE: usize = 4 << 10;
/// So much is held at most, of several writes.
const MOST: usize = 16 << 10;
/// So long a connection that was given up waits for its other side to take what is held.
const PATIENCE: Duration = Duration::from_secs(30);
/// Memory that an idle connection keeps.
const KEPT: usize = 2 << 10;

/// A TCP connection whose small writes are held until the end of the tick.
#[derive(Debug)]
pub struct Corked {
    read: OwnedReadHalf,
    line: Arc<Line>,
}

/// The way out.
#[derive(Debug)]
struct Line {
    half: OwnedWriteHalf,
    held: Mutex<Held>,
}

/// What was written and is not with the kernel yet.
#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// It will be flushed.
    due: bool,
    /// Why it could not be: told to whoever writes next.
    failed: Option<io::ErrorKind>,
}

thread_local! {
    static TICK: Tick = const { Tick::new() };
}

/// The lines of a thread that hold something.
struct Tick {
    lines: RefCell<Vec<Arc<Line>>>,
    /// Wakes the task that flushes them; `None` while it is awake.
    flusher: Cell<Option<Waker>>,
    has_flusher: Cell<bool>,
}

impl Tick {
    const fn new() -> Tick {
        Tick {
            lines: RefCell::new(Vec::new()),
            flusher: Cell::new(None),
            has_flusher: Cell::new(false),
        }
    }

    /// Has the line flushed after the tasks that are ready now.
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody waits for it: who shuts a connection down writes what is held"
    )]
    fn add(&self, line: Arc<Line>) {
        self.lines.borrow_mut().push(line);
        if let Some(flusher) = self.flusher.take() {
            flusher.wake();
        } else if !self.has_flusher.replace(true) {
            tokio::spawn(poll_fn(|cx| TICK.with(|tick| tick.flush(cx))));
        }
    }

    fn flush(&self, cx: &mut Context<'_>) -> Poll<()> {
        for line in self.lines.borrow_mut().drain(..) {
            line.flush();
        }
        self.flusher.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl Line {
    fn tcp(&self) -> &TcpStream {
        self.half.as_ref()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "whoever has the connection waits until nothing is held"
    )]
    fn flush(self: Arc<Line>) {
        let mut held = self.held.lock();
        held.due = false;
        if held.write(self.tcp()).is_pending() {
            // The other side takes nothing for now.
            held.due = true;
            drop(held);
            tokio::spawn(self.drain());
        }
    }

    /// Waits for the other side. Where nobody else has the connection any more, not for ever.
    async fn drain(self: Arc<Line>) {
        loop {
            let writable = tokio::time::timeout(PATIENCE, self.half.writable()).await;
            if writable.is_err() && Arc::strong_count(&self) == 1 {
                return;
            }
            let mut held = self.held.lock();
            if let Ok(Err(error)) = writable {
                held.fail(&error);
            }
            if held.write(self.tcp()).is_ready() {
                held.due = false;
                return;
            }
        }
    }
}

impl Held {
    /// Gives the kernel what it takes; ready when nothing is held any more.
    fn write(&mut self, tcp: &TcpStream) -> Poll<()> {
        let mut written = 0;
        while written < self.bytes.len() {
            match tcp.try_write(&self.bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.fail(&error);
                    return Poll::Ready(());
                }
            }
        }
        if written < self.bytes.len() {
            self.bytes.drain(..written);
            return Poll::Pending;
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        Poll::Ready(())
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = Some(error.kind());
        self.bytes.clear();
    }

    fn fate(&mut self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Corked {
    pub fn new(tcp: TcpStream) -> Corked {
        let (read, half) = tcp.into_split();
        Corked {
            read,
            line: Arc::new(Line {
                half,
                held: Mutex::default(),
            }),
        }
    }

    /// Reads ahead, without taking anything away.
    ///
    /// # Errors
    /// The system's.
    pub async fn peek(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read.peek(into).await
    }

    /// Waits until nothing is held any more.
    fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut held = self.line.held.lock();
                if held.bytes.is_empty() || held.write(self.line.tcp()).is_ready() {
                    return Poll::Ready(held.fate());
                }
            }
            ready!(self.line.tcp().poll_write_ready(cx))?;
        }
    }

    /// Holds what is to be written, if it is small and there is a tick to wait for.
    fn hold(&self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        let len = bufs.iter().map(|buf| buf.len()).sum();
        if len >= LARGE || cores::here() == 0 {
            return None;
        }
        let mut held = self.line.held.lock();
        if held.bytes.len() + len > MOST || held.failed.is_some() {
            return None;
        }
        for buf in bufs {
            held.bytes.extend_from_slice(buf);
        }
        if !std::mem::replace(&mut held.due, true) {
            drop(held);
            TICK.with(|tick| tick.add(Arc::clone(&self.line)));
        }
        Some(len)
    }
}

impl AsyncRead for Corked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Corked {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(len) = self.hold(bufs) {
            return Poll::Ready(Ok(len));
        }
        ready!(self.poll_empty(cx))?;
        loop {
            match self.line.tcp().try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
            ready!(self.line.tcp().poll_write_ready(cx))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is held goes out by itself.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.line.held.lock().fate())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        match rustix::net::shutdown(self.line.tcp(), Shutdown::Write) {
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as Peer;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::cores::Cores;
    use crate::task::Tasks;

    /// A connection of ours and its other end, which has no runtime and can be asked at any moment.
    async fn pair() -> (Corked, Peer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let peer = tokio::task::spawn_blocking(move || Peer::connect(at).unwrap());
        let (tcp, _) = listener.accept().await.unwrap();
        (Corked::new(tcp), peer.await.unwrap())
    }

    /// Does `work` on a thread that has ticks.
    async fn on_a_core<T, F>(work: impl FnOnce() -> F + Send + 'static) -> T
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let cores = Cores::start().unwrap();
        cores.serve(&Tasks::new(), move || async move {
            let _ = tell.send(work().await);
        });
        told.await.unwrap()
    }

    /// What has arrived at the other end by now.
    fn arrived(peer: &mut Peer) -> Vec<u8> {
        let mut bytes = vec![0; 64 << 10];
        peer.set_nonblocking(true).unwrap();
        let read = peer.read(&mut bytes).unwrap_or(0);
        peer.set_nonblocking(false).unwrap();
        bytes.truncate(read);
        bytes
    }

    /// All that arrives from now on.
    fn whole(mut peer: Peer) -> JoinHandle<Vec<u8>> {
        tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            peer.read_to_end(&mut bytes).unwrap();
            bytes
        })
    }

    #[tokio::test]
    async fn small_writes_leave_after_what_is_ready() {
        on_a_core(|| async {
            let (mut corked, mut peer) = pair().await;
            corked.write_all(b"one ").await.unwrap();
            corked.write_all(b"two").await.unwrap();
            corked.flush().await.unwrap();
            assert_eq!(arrived(&mut peer), b"", "the tick is not over");
            tokio::task::yield_now().await;
            assert_eq!(arrived(&mut peer), b"one two");
            corked.write_all(b"three").await.unwrap();
            tokio::task::yield_now().await;
            assert_eq!(arrived(&mut peer), b"three", "and in the next one too");
        })
        .await;
    }

    #[tokio::test]
    async fn where_there_are_no_ticks_nothing_is_held() {
        let (mut corked, mut peer) = pair().await;
        corked.write_all(b"now").await.unwrap();
        assert_eq!(arrived(&mut peer), b"now");
    }

    #[tokio::test]
    async fn small_and_large_writes_keep_their_order() {
        let sizes = [
            1,
            LARGE - 1,
            LARGE,
            3,
            MOST,
            2,
            1 << 20,
            LARGE - 1,
            LARGE - 1,
        ];
        let sizes: Vec<usize> = sizes.into_iter().cycle().take(90).collect();
        let pieces = move || sizes.clone().into_iter().zip((0..=250u8).cycle());
        let written = pieces();
        let read = on_a_core(move || async move {
            let (mut corked, peer) = pair().await;
            let reading = whole(peer);
            for (size, byte) in written {
                corked.write_all(&vec![byte; size]).await.unwrap();
            }
            corked.shutdown().await.unwrap();
            reading.await.unwrap()
        })
        .await;
        let expected: Vec<u8> = pieces().flat_map(|(size, byte)| vec![byte; size]).collect();
        assert!(read == expected, "{} of {}", read.len(), expected.len());
    }

    #[tokio::test]
    async fn what_is_held_leaves_before_the_end() {
        let read = on_a_core(|| async {
            let (mut corked, peer) = pair().await;
            corked.write_all(b"last words").await.unwrap();
            corked.shutdown().await.unwrap();
            whole(peer).await.unwrap()
        });
        assert_eq!(read.await, b"last words");
        // Nobody shuts it down: it is dropped as it is.
        let read = on_a_core(|| async {
            let (mut corked, peer) = pair().await;
            corked.write_all(b"last words").await.unwrap();
            drop(corked);
            whole(peer).await.unwrap()
        });
        assert_eq!(read.await, b"last words");
    }

    #[tokio::test]
    async fn a_side_that_takes_nothing_is_felt_and_gets_all_when_it_does() {
        let (written, read) = on_a_core(|| async {
            let (mut corked, peer) = pair().await;
            let mut written = 0;
            let piece = [7; LARGE - 1];
            // Until nothing goes any more: neither into the kernel nor into what is held.
            while let Some(more) = corked.write(&piece).now_or_never() {
                written += more.unwrap();
                tokio::task::yield_now().await;
            }
            let reading = whole(peer);
            corked.shutdown().await.unwrap();
            (written, reading.await.unwrap().len())
        })
        .await;
        assert_eq!(read, written);
    }

    #[tokio::test]
    async fn a_connection_that_broke_tells_whoever_writes_next() {
        on_a_core(|| async {
            let (mut corked, mut peer) = pair().await;
            peer.write_all(b"unread, so that the end is a reset")
                .unwrap();
            let mut byte = [0];
            corked.peek(&mut byte).await.unwrap();
            drop(peer);
            loop {
                if corked.write_all(b"anybody?").await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let mut rest = Vec::new();
            let _ = corked.read_to_end(&mut rest).await;
            assert!(corked.shutdown().await.is_err());
        })
        .await;
    }
}
