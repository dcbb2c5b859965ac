//! Connections kept for the next request.
//!
//! HTTP/1.1 connections wait in a stack, the warmest on top; an HTTP/2 connection is shared. A
//! stack needs no background task: what has idled too long is dropped when it is come across.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;

use super::dial::{DialError, Dialer, Protocol};
use super::{Destination, Outbound};
use crate::task::Tasks;

/// Shorter than providers keep a silent connection, so that the race is seldom lost.
const IDLE: Duration = Duration::from_secs(45);
/// Idle connections kept to one destination.
const KEPT: usize = 64;
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

type One = http1::SendRequest<Outbound>;
type Two = http2::SendRequest<Outbound>;

/// A connection to send one request on.
pub(super) enum Taken {
    One(One),
    Two(Two),
}

#[derive(Default)]
struct Lane {
    /// Warm HTTP/1.1 connections with the time since when they wait.
    idle: Vec<(One, Instant)>,
    shared: Option<Two>,
}

/// All connections, by destination.
pub(super) struct Pool {
    dialer: Dialer,
    lanes: DashMap<Destination, Arc<Mutex<Lane>>>,
    /// Connection drivers are counted apart: shutdown waits for calls, not for idle connections.
    drivers: Tasks,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("destinations", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Pool {
        Pool {
            dialer,
            lanes: DashMap::new(),
            drivers: Tasks::new(),
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn lane(&self, to: &Destination) -> Arc<Mutex<Lane>> {
        if let Some(lane) = self.lanes.get(to) {
            return Arc::clone(&lane);
        }
        Arc::clone(&self.lanes.entry(to.clone()).or_default())
    }

    /// A connection that waits, or a new one; `fresh` insists on a new one.
    pub(super) async fn take(&self, to: &Destination, fresh: bool) -> Result<Taken, DialError> {
        let lane = self.lane(to);
        while let Some(taken) = waiting(&lane, fresh) {
            match taken {
                Taken::Two(sender) => return Ok(Taken::Two(sender)),
                // The connection's task may still be turning the last answer over.
                Taken::One(mut sender) => {
                    if sender.ready().await.is_ok() {
                        return Ok(Taken::One(sender));
                    }
                }
            }
        }
        self.open(to, &lane).await
    }

    async fn open(&self, to: &Destination, lane: &Mutex<Lane>) -> Result<Taken, DialError> {
        let (stream, protocol) = self.dialer.connect(to).await?;
        let io = TokioIo::new(stream);
        let refused = |error: hyper::Error| DialError::Handshake {
            to: to.to_string(),
            why: error.to_string(),
        };
        match protocol {
            Protocol::Http1 => {
                let (sender, connection) =
                    http1::Builder::new().handshake(io).await.map_err(refused)?;
                self.drivers.spawn(async move {
                    if let Err(error) = connection.with_upgrades().await {
                        tracing::debug!(%error, "a connection to a provider ended");
                    }
                });
                Ok(Taken::One(sender))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(20))
                    .handshake(io)
                    .await
                    .map_err(refused)?;
                self.drivers.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection to a provider ended");
                    }
                });
                lane.lock().shared = Some(sender.clone());
                Ok(Taken::Two(sender))
            }
        }
    }

    /// The way back for a connection that is in use.
    pub(super) fn back(&self, to: Destination, sender: One) -> Back {
        Back {
            lane: self.lane(&to),
            sender,
        }
    }
}

/// The next connection that waits, unless a new one is insisted on.
fn waiting(lane: &Mutex<Lane>, fresh: bool) -> Option<Taken> {
    if fresh { None } else { pop(&mut lane.lock()) }
}

fn pop(lane: &mut Lane) -> Option<Taken> {
    if let Some(shared) = &lane.shared {
        if !shared.is_closed() {
            return Some(Taken::Two(shared.clone()));
        }
        lane.shared = None;
    }
    while let Some((sender, since)) = lane.idle.pop() {
        if since.elapsed() > IDLE {
            lane.idle.clear(); // those below have waited longer still
        } else if !sender.is_closed() {
            return Some(Taken::One(sender));
        }
    }
    None
}

/// Returns a connection to the pool; dropped instead, the connection closes.
pub(super) struct Back {
    lane: Arc<Mutex<Lane>>,
    sender: One,
}

impl std::fmt::Debug for Back {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Back")
    }
}

impl Back {
    pub(super) fn give(self) {
        let mut lane = self.lane.lock();
        if lane.idle.len() < KEPT && !self.sender.is_closed() {
            lane.idle.push((self.sender, Instant::now()));
        }
    }
}
