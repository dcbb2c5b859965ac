//! A call, from arrival to record.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::header::USER_AGENT;

use super::chain::Served;
use super::earlier::Remembered;
use super::own_headers::Told;
use super::provider::Provider;
use crate::action::{CacheMode, CachePolicy, Change, Route, Via};
use crate::bill::Quote;
use crate::cache::{Key, Partition};
use crate::dialect::job::Submit;
use crate::dialect::{Dialect, Unreadable};
use crate::image::{ImageRequest, Operation};
use crate::record::{By, Decision};
use crate::room::Room;
use crate::upstream::Destination;
use crate::wire::RequestHead;

/// Where an app's name comes from.
pub use crate::record::AppFrom as CallerFrom;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub app: Option<Arc<str>>,
    pub from: CallerFrom,
    pub tags: Vec<Arc<str>>,
}

impl Caller {
    /// Adds what the call's own headers tell. A name in the proxy's URL stands: it may have been
    /// proven by a token.
    #[must_use]
    pub fn told_by(&self, told: &Told, headers: &HeaderMap) -> Caller {
        let mut caller = self.clone();
        let proven =
            matches!(caller.from, CallerFrom::Proxy | CallerFrom::Header) && caller.app.is_some();
        if let (false, Some(app)) = (proven, &told.app) {
            caller.app = Some(app.as_str().into());
            caller.from = CallerFrom::Header;
        }
        for tag in &told.tags {
            if !caller.tags.iter().any(|own| **own == **tag) {
                caller.tags.push(tag.as_str().into());
            }
        }
        if caller.app.is_none() {
            caller.app = headers
                .get(USER_AGENT)
                .and_then(|value| value.to_str().ok())
                .map(|agent| product(agent).into());
            caller.from = CallerFrom::Agent;
        }
        caller
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
#[derive(Clone, Debug)]
pub struct Arrived {
    pub head: Arc<RequestHead>,
    pub body: Bytes,
    /// What the body takes of the memory, for as long as anybody may send it.
    pub room: Arc<Room>,
    pub provider: Arc<Provider>,
    /// Where the app addressed it.
    pub destination: Destination,
    pub via: Via,
    pub caller: Caller,
    /// What the app's own headers say.
    pub told: Told,
    pub recognised: Recognised,
}

/// A call that could not be read.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) arrived: Arrived,
    pub(super) why: Unreadable,
}

/// A call under way: what was asked, what the rules made of it, and its record so far.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) arrived: Arrived,
    /// Its id as text.
    pub(super) id: Arc<str>,
    /// How its app asks for the picture, where it does not wait for it.
    pub(super) submit: Option<Submit>,
    pub(super) began: Instant,
    /// When its app waits no longer, where it said so.
    pub(super) deadline: Option<Instant>,
    /// As the app wrote it.
    pub(super) asked: Arc<ImageRequest>,
    pub(super) asked_quote: Option<Arc<Quote>>,
    pub(super) asked_pixels: (u32, u32),
    /// As the rules left it, still addressed to the asked model; `asked` itself while nothing
    /// was changed.
    pub(super) request: Arc<ImageRequest>,
    /// Where a rule sends it.
    pub(super) route: Option<Routed>,
    pub(super) change: Change,
    pub(super) cache: CachePolicy,
    pub(super) partition: Partition,
    /// The same before any rule spoke.
    pub(super) own_partition: Partition,
    /// Identity of what was asked, once somebody wanted it.
    pub(super) asked_key: OnceLock<Key>,
    pub(super) variant: u32,
    /// Time spent waiting for providers.
    pub(super) upstream: Duration,
    /// Attempts really sent.
    pub(super) attempts: u32,
    /// Budgets that had no room, and whose rules made something cheaper of it.
    pub(super) degraded: Vec<Arc<str>>,
    /// The request as it was served, and at what quote.
    pub(super) served: ServedAs,
    /// The attempts whose pictures the caller was given.
    pub(super) served_by: Vec<u32>,
    /// The answer that a rule gives, with no attempt at all.
    pub(super) given: Option<Served>,
    /// Its answer waits for plugins that hold answers.
    pub(super) holds: bool,
    /// They have spoken of the answer.
    pub(super) judged: bool,
    /// What the answer that was bought takes of the memory.
    pub(super) rooms: Vec<Arc<Room>>,
    /// Its app's own retries are told of its end.
    pub(super) remembered: Option<Arc<Remembered>>,
    pub(super) decision: Box<Decision>,
}

/// A request as it was served, and at what quote; none before it was.
pub(super) type ServedAs = Option<(Arc<ImageRequest>, Option<Arc<Quote>>)>;

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

    /// Whether nothing was changed in `request`.
    pub(super) fn is_as_asked(&self, request: &Arc<ImageRequest>) -> bool {
        Arc::ptr_eq(request, &self.asked) || **request == *self.asked
    }

    /// Adds the tags that it does not have yet.
    pub(super) fn tag(&mut self, names: Vec<String>) {
        for name in names {
            if !self.decision.tags.iter().any(|tag| **tag == *name) {
                self.decision.tags.push(name.into());
            }
        }
    }

    /// From here on the call's pictures may be shared with everyone.
    pub(super) fn share(&mut self) {
        self.partition = Partition::Everyone;
        self.asked_key = OnceLock::new();
    }
}
