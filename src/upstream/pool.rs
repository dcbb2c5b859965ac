//! Connections kept for the next request.
//!
//! HTTP/1.1 connections wait in a stack, the warmest on top; an HTTP/2 connection is shared. A
//! stack needs no background task: what has idled too long is dropped when it is come across.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;

use super::dial::{DialError, Dialer, Protocol};
use super::one::One;
use super::{Destination, Outbound};
use crate::cores;
use crate::task::Tasks;

/// Shorter than providers keep a silent connection, so that the race is seldom lost.
const IDLE: Duration = Duration::from_secs(45);
/// Idle connections kept to one destination.
const KEPT: usize = 64;
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

type Two = http2::SendRequest<Outbound>;

/// A connection to send one request on.
pub(super) enum Taken {
    One(Leased),
    Two(Two),
}

#[derive(Debug, Default)]
struct Lane {
    /// Warm HTTP/1.1 connections with the time since when they wait.
    idle: Vec<(One, Instant)>,
    shared: Option<Two>,
}

/// All connections, by destination and by the core whose they are: on another they would wake two.
pub(super) struct Pool {
    dialer: Dialer,
    lanes: DashMap<(usize, Destination), Arc<Mutex<Lane>>, RandomState>,
    /// Drivers of shared connections, counted apart: shutdown waits for calls, not for these.
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
            lanes: DashMap::default(),
            drivers: Tasks::new(),
        }
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn lane(&self, to: &Destination) -> Arc<Mutex<Lane>> {
        let place = (cores::here(), to.clone());
        if let Some(lane) = self.lanes.get(&place) {
            return Arc::clone(&lane);
        }
        Arc::clone(&self.lanes.entry(place).or_default())
    }

    /// A connection that waits, or a new one; `fresh` insists on a new one.
    pub(super) async fn take(&self, to: &Destination, fresh: bool) -> Result<Taken, DialError> {
        let lane = self.lane(to);
        while let Some(waiting) = waiting(&lane, fresh) {
            match waiting {
                Waiting::Two(sender) => return Ok(Taken::Two(sender)),
                // The provider may have closed it, or the last answer not be quite over.
                Waiting::One(mut one) => {
                    if one.ready().await {
                        return Ok(Taken::One(Leased { one, lane }));
                    }
                }
            }
        }
        Box::pin(self.open(to, lane)).await
    }

    async fn open(&self, to: &Destination, lane: Arc<Mutex<Lane>>) -> Result<Taken, DialError> {
        let (stream, protocol) = self.dialer.connect(to).await?;
        let refused = |error: hyper::Error| DialError::Handshake {
            to: to.to_string(),
            why: error.to_string(),
        };
        match protocol {
            Protocol::Http1 => {
                let one = One::open(stream).await.map_err(refused)?;
                Ok(Taken::One(Leased { one, lane }))
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .keep_alive_interval(Duration::from_secs(20))
                    .keep_alive_timeout(Duration::from_secs(20))
                    .handshake(TokioIo::new(stream))
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
}

enum Waiting {
    One(One),
    Two(Two),
}

/// The next connection that waits, unless a new one is insisted on.
fn waiting(lane: &Mutex<Lane>, fresh: bool) -> Option<Waiting> {
    if fresh { None } else { pop(&mut lane.lock()) }
}

fn pop(lane: &mut Lane) -> Option<Waiting> {
    if let Some(shared) = &lane.shared {
        if !shared.is_closed() {
            return Some(Waiting::Two(shared.clone()));
        }
        lane.shared = None;
    }
    let (one, since) = lane.idle.pop()?;
    if since.elapsed() > IDLE {
        lane.idle.clear(); // those below have waited longer still
        return None;
    }
    Some(Waiting::One(one))
}

/// A connection in use. Dropped before [`Leased::give`] it closes.
#[derive(Debug)]
pub(super) struct Leased {
    pub(super) one: One,
    lane: Arc<Mutex<Lane>>,
}

impl Leased {
    /// Returns the connection to the pool.
    pub(super) fn give(self) {
        let mut lane = self.lane.lock();
        if lane.idle.len() < KEPT && !self.one.is_closed() {
            lane.idle.push((self.one, Instant::now()));
        }
    }
}
