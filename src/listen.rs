//! The accept loop with its limits.
//!
//! Every listener of ours accepts here, so that none forgets the connection limit, the graceful
//! end or TCP_NODELAY, without which an answer waits 40 ms for an acknowledgement.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::cores::Cores;
use crate::task::Tasks;

/// Connections served at once by default.
pub const CONNECTIONS: usize = 1024;

/// So long a client may take nothing of what is sent to it. It holds an answer in our memory.
pub const DEAF: Duration = Duration::from_secs(120);

/// Has the system break a connection whose client takes nothing.
#[cfg(target_os = "linux")]
fn forget_the_deaf(stream: &TcpStream) {
    let millis = u32::try_from(DEAF.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(stream, millis) {
        tracing::debug!(%error, "a connection has no limit on how long its client may take nothing");
    }
}

#[cfg(not(target_os = "linux"))]
fn forget_the_deaf(_: &TcpStream) {}

/// Says when everything is to end. Clones hear the same word.
#[derive(Clone, Debug)]
pub struct Closing(watch::Receiver<bool>);

/// Gives the word to end.
#[derive(Debug)]
pub struct Closer(watch::Sender<bool>);

/// A pair of which one half ends what the other half listens to.
pub fn closing() -> (Closer, Closing) {
    let (sender, receiver) = watch::channel(false);
    (Closer(sender), Closing(receiver))
}

impl Closer {
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

impl Closing {
    /// Returns when the word has been given, or nobody is left to give it.
    pub async fn closed(&mut self) {
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

/// A bound address.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    permits: Arc<Semaphore>,
}

impl Listener {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's, with the address in the message.
    pub async fn bind(address: SocketAddr, connections: usize) -> io::Result<Listener> {
        let tcp = TcpListener::bind(address).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })?;
        Ok(Listener {
            tcp,
            permits: Arc::new(Semaphore::new(connections)),
        })
    }

    /// The address that was bound.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves connections until the word to end; each in a task of its own, on a core of its own.
    pub async fn serve<S, F>(self, cores: Cores, tasks: Tasks, mut closing: Closing, serve: S)
    where
        S: Fn(TcpStream, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                biased;
                () = closing.closed() => return,
                accepted = self.accept() => accepted,
            };
            let Ok((stream, peer, permit)) = accepted else {
                continue;
            };
            let _ = stream.set_nodelay(true);
            forget_the_deaf(&stream);
            // Taken off this thread, so that it can be watched by the one that serves it.
            let Ok(stream) = stream.into_std() else {
                continue;
            };
            let serve = serve.clone();
            cores.serve(&tasks, move || async move {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(stream, peer).await,
                    Err(error) => tracing::warn!(%error, "a connection could not be served"),
                }
                drop(permit);
            });
        }
    }

    async fn accept(
        &self,
    ) -> io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        match self.tcp.accept().await {
            Ok((stream, peer)) => Ok((stream, peer, permit)),
            Err(error) => {
                // Out of file descriptors, mostly: spinning would make it worse.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Err(error)
            }
        }
    }
}
