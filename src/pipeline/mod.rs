//! The whole way of a call on one screen.
//!
//! Read [`Pipeline::travel`] first: every branch of what becomes of an image call is in it. The
//! stations do the work and do not know one another.

mod answer;
mod asking;
mod attempt;
pub mod batch;
pub mod body;
mod bounds;
mod bring;
mod budgets;
mod call;
mod chain;
mod charge;
mod conclude;
mod dense;
mod door;
mod earlier;
mod fitting;
mod given;
mod jobs;
mod left;
mod message;
mod on_budget;
pub mod own_headers;
mod plan;
mod provider;
mod questions;
mod quoting;
mod reading;
mod receive;
pub mod rescue;
mod responses;
pub mod retries;
mod rules;
mod seldom;
mod several;
mod siblings;
mod submit;
mod turn;
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use jiff::Timestamp;
use moka::sync::Cache;

use crate::action::{CacheScope, Class, World};
use crate::cache::{Flights, Shelf, Store};
use crate::cores::abreast;
use crate::image::Format;
use crate::ledger::Ledger;
use crate::plugin::Plugins;
use crate::price::Book;
use crate::record::{Log, Mode, Notice, NoticeKind, NoticeLevel, Prompts};
use crate::room::Memory;
use crate::task::Tasks;
use crate::upstream::Upstream;
use crate::wire::{RequestHead, Rope};

pub use body::Body;
pub use budgets::{Budgeting, WhenDown};
pub use call::{Arrived, Caller, CallerFrom, Recognised};
use door::Door;
pub use earlier::Earlier;
pub use jobs::Jobs;
pub use left::LeftJob;
pub use provider::{Provider, Providers};
pub use questions::JobAsked;
pub use quoting::Quotes;
pub use receive::Declined;
pub use retries::{Retries, RetryBudget};
pub use seldom::Seldom;

/// How calls are treated, from the configuration.
#[derive(Clone, Debug)]
pub struct Policy {
    pub mode: Mode,
    pub ttl: Duration,
    /// For requests without a seed, which may want another picture sooner.
    pub unseeded_ttl: Duration,
    pub variants: u32,
    pub scope: CacheScope,
    /// User agents, with `*`, that ask for n pictures by n equal calls at once.
    pub fan_out: Vec<String>,
    /// Attempts a call, the first included.
    pub attempts: u32,
    pub prompts: Prompts,
    pub classes: BTreeMap<String, Class>,
    /// Where pictures of ours are reached: `http://127.0.0.1:8484`; `None` where nobody could.
    pub public_url: Option<String>,
    /// So long a job may take that an app asks about; then its charge counts as unknown.
    pub job_ttl: Duration,
    /// Digests for the log.
    pub config: Arc<str>,
    pub instance: Arc<str>,
    /// Keys the digests of credentials, so that a log's reader cannot test guesses.
    pub credential_key: [u8; 32],
    /// In a rule test, the moment at which calls arrive; nothing is waited for then.
    pub staged: Option<Timestamp>,
}

impl Policy {
    /// When a call that is here now has arrived.
    fn now(&self) -> Timestamp {
        self.staged.unwrap_or_else(Timestamp::now)
    }

    /// What log and ledger call an app's own user.
    pub fn user_digest(&self, user: &str) -> String {
        user_digest(&self.credential_key, user)
    }

    /// How long a wait before an attempt really takes.
    fn pause(&self, wait: Duration) -> Duration {
        self.staged.map_or(wait, |_| Duration::ZERO)
    }
}

/// A digest of what an app sent and must not be kept.
fn keyed(key: &[u8; 32], text: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    let hash = blake3::keyed_hash(key, text.as_bytes());
    digest.copy_from_slice(&hash.as_bytes()[..16]);
    digest
}

fn user_digest(key: &[u8; 32], user: &str) -> String {
    receive::hex(&keyed(key, user)[..8])
}

/// The stations a call passes, and what they share. A clone has the same stations; one with
/// another book in it takes over for the calls to come.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub providers: Providers,
    pub book: Arc<Book>,
    pub plugins: Arc<Plugins>,
    pub world: Arc<World>,
    pub store: Store,
    /// What was bought ahead.
    pub shelf: Shelf,
    pub flights: Flights,
    /// Calls that their apps may send again.
    pub earlier: Earlier,
    pub ledger: Ledger,
    pub budgeting: Arc<Budgeting>,
    pub upstream: Arc<Upstream>,
    pub log: Log,
    pub policy: Policy,
    pub tasks: Tasks,
    /// Room for the bodies of calls under way.
    pub memory: Memory,
    /// Jobs that apps may ask about.
    pub jobs: Jobs,
    /// How many calls may still be sent again.
    pub retries: Arc<Retries>,
    /// Pictures that callers were given our own URLs for.
    pub pictures: Cache<String, (Format, Rope)>,
    /// Models whose charges lie beside their quotes, and those of which less came than was paid for.
    pub beyond: Arc<Seldom>,
    pub short: Arc<Seldom>,
    /// What providers themselves quoted.
    pub quotes: Quotes,
}

/// A client that did not accept our certificate.
#[derive(Clone, Debug)]
pub struct Distrust {
    pub host: String,
    pub app: Option<String>,
    /// An alert's text, or that it hung up.
    pub how: String,
}

impl Pipeline {
    /// The image call that a message is, if it is one.
    pub fn recognise(&self, provider: &Provider, head: &RequestHead) -> Option<Recognised> {
        provider.dialects.iter().find_map(|dialect| {
            Some(Recognised {
                dialect: *dialect,
                operation: dialect.claims(head)?,
            })
        })
    }

    /// Takes a call on. It travels in a task of its own: a caller who hangs up does not cancel what
    /// may already be paid for, and its connection has nothing to do until there is an answer.
    pub async fn handle(self: Arc<Self>, arrived: Arrived) -> Response<Body> {
        let (door, opened) = Door::shut();
        let dialect = arrived.recognised.dialect;
        let deadline = self.deadline_of(&arrived, Instant::now());
        let this = Arc::clone(&self);
        self.tasks.begin(|| this.travel(arrived, door));
        self.answer_in_time(opened, deadline, dialect).await
    }

    /// The way of a call, station by station, abreast with the others of its thread.
    async fn travel(self: Arc<Self>, arrived: Arrived, mut door: Door) {
        let mut call = match self.read(arrived) {
            Ok(call) => call,
            Err(unread) => return self.turn_away(unread, door),
        };
        abreast().await;
        let mut outcome = match self.repeated(&mut call).await {
            Some(of_earlier) => of_earlier,
            None => match self.consult_rules(&mut call).await {
                Ok(()) => self.buy_for(&mut call, &mut door).await,
                Err(refused) => Err(refused),
            },
        };
        self.tell_retries(&mut call, &outcome);
        abreast().await;
        let handover = self.answer(&mut call, &mut outcome, &mut door).await;
        self.hear_response(&mut call, &outcome).await;
        door.when_delivered(move |delivered, bytes| {
            self.record(call, outcome, handover, delivered, bytes);
        });
    }

    /// The provider whose host this is, if its messages can be read or must be refused: there is
    /// no reason to open any other's.
    pub fn provider_of_host(&self, host: &str) -> Option<Arc<Provider>> {
        let provider = self.providers.at_host(host)?;
        (!provider.dialects.is_empty() || provider.closed).then(|| Arc::clone(provider))
    }

    pub fn provider(&self, name: &str) -> Option<Arc<Provider>> {
        self.providers.named(name).cloned()
    }

    /// A picture that a caller was given a URL of ours for.
    pub fn picture(&self, token: &str) -> Option<(Format, Rope)> {
        self.pictures.get(token)
    }

    /// Writes down that a client would not accept our certificate: the app itself only says
    /// "connection error".
    pub fn distrusted(&self, distrust: Distrust) {
        let app = distrust.app.as_deref().unwrap_or("a client");
        let text = format!(
            "{app} did not accept pixtoll's certificate for {} ({}): start it with `pixtoll run --`; if it was, it trusts \
             a store of its own, and `pixtoll doctor` names the cure",
            distrust.host, distrust.how
        );
        let notice = self.noticed(NoticeKind::Refused, NoticeLevel::Warning, text);
        self.log.notice(&notice.with("host", distrust.host));
    }

    /// Writes a notice to the log.
    pub fn notice(&self, kind: NoticeKind, level: NoticeLevel, text: impl Into<String>) {
        self.log.notice(&self.noticed(kind, level, text));
    }

    fn noticed(&self, kind: NoticeKind, level: NoticeLevel, text: impl Into<String>) -> Notice {
        let instance = Arc::clone(&self.policy.instance);
        Notice::new(Timestamp::now(), instance, kind, level, text)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::sync::Arc;

    use super::Pipeline;
    use super::call::Arrived;
    use super::door::Door;

    /// What every call needs, whatever becomes of it: what seldom happens on the way is boxed where
    /// it begins.
    #[test]
    fn the_way_of_a_call_is_not_large() {
        fn bytes<F: Future>(_: impl FnOnce(Arc<Pipeline>, Arrived, Door) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = bytes(Pipeline::travel);
        assert!(bytes < 12 << 10, "{bytes}");
    }
}
