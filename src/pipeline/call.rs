//! A call, from arrival to record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::own_headers::Told;
use super::provider::Provider;
use crate::action::{CacheMode, CachePolicy, Change, Route, Via};
use crate::bill::Quote;
use crate::cache::Partition;
use crate::dialect::job::Submit;
use crate::dialect::{Dialect, Unreadable};
use crate::image::{ImageRequest, Operation};
use crate::record::{By, Decision};
use crate::upstream::Destination;
use crate::wire::RequestHead;

/// Where an app's name comes from.
pub use crate::record::AppFrom as CallerFrom;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub app: Option<String>,
    pub from: CallerFrom,
    pub tags: Vec<String>,
}

impl Caller {
    /// Adds what the call's own headers tell. A name in the proxy's URL stands: it may have been
    /// proven by a token.
    #[must_use]
    pub fn told_by(mut self, headers: &HeaderMap) -> Caller {
        let told = Told::read(headers);
        let proven =
            matches!(self.from, CallerFrom::Proxy | CallerFrom::Header) && self.app.is_some();
        if let (false, Some(app)) = (proven, told.app) {
            self.app = Some(app);
            self.from = CallerFrom::Header;
        }
        for tag in told.tags {
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
        if self.app.is_none() {
            self.app = headers
                .get("user-agent")
                .and_then(|value| value.to_str().ok())
                .map(product);
            self.from = CallerFrom::Agent;
        }
        self
    }
}

/// The name in a user agent: `OpenAI/Python 3.54.0` → `OpenAI/Python`.
fn product(agent: &str) -> String {
    agent
        .split([' ', ';', '('])
        .next()
        .unwrap_or_default()
        .chars()
        .take(60)
        .collect()
}

/// What a message was recognised as.
#[derive(Clone, Copy)]
pub struct Recognised {
    pub dialect: &'static dyn Dialect,
    pub operation: Operation,
}

impl std::fmt::Debug for Recognised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.dialect.name(), self.operation)
    }
}

/// An image call at our door.
#[derive(Debug)]
pub struct Arrived {
    pub head: RequestHead,
    pub body: Bytes,
    pub provider: Arc<Provider>,
    /// Where the app addressed it.
    pub destination: Destination,
    pub via: Via,
    pub caller: Caller,
    pub recognised: Recognised,
}

/// A call that could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) arrived: Arrived,
    pub(super) why: Unreadable,
}

/// A call under way: what was asked, what the rules made of it, and its record so far.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) arrived: Arrived,
    pub(super) told: Told,
    /// How its app asks for the picture, where it does not wait for it.
    pub(super) submit: Option<Submit>,
    pub(super) began: Instant,
    /// As the app wrote it.
    pub(super) asked: Arc<ImageRequest>,
    pub(super) asked_quote: Option<Quote>,
    pub(super) asked_pixels: (u32, u32),
    /// As the rules left it, still addressed to the asked model.
    pub(super) request: ImageRequest,
    /// Where a rule sends it.
    pub(super) route: Option<Routed>,
    pub(super) change: Change,
    pub(super) cache: CachePolicy,
    pub(super) partition: Partition,
    pub(super) variant: u32,
    /// Time spent waiting for providers.
    pub(super) upstream: Duration,
    /// Attempts really sent.
    pub(super) attempts: u32,
    /// The request as it was served, and at what quote.
    pub(super) served: Option<Box<(ImageRequest, Option<Quote>)>>,
    /// The attempt whose pictures the caller was given.
    pub(super) served_by: Option<u32>,
    pub(super) decision: Decision,
}

/// A target that a rule named, with who named it.
#[derive(Clone, Debug)]
pub(super) struct Routed {
    pub(super) route: Route,
    pub(super) by: By,
}

impl Call {
    pub(super) fn dialect(&self) -> &'static dyn Dialect {
        self.arrived.recognised.dialect
    }

    /// What the cache may do for this call.
    pub(super) fn cache_mode(&self) -> CacheMode {
        self.cache.mode.unwrap_or(CacheMode::Use)
    }

    /// Id of the call as text.
    pub(super) fn id(&self) -> String {
        self.decision.id.to_string()
    }
}
