//! Jobs that apps were told of: the provider's own, and ours.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::asking::Overheard;
use super::plan::Plan;
use crate::dialect::job::{JobAsk, JobPlace, JobState};
use crate::dialect::{Dialect, Refusal};
use crate::image::{FailureKind, ImageRequest, ImageResponse};
use crate::ledger::KeptJob;

/// Bytes that remembered jobs take together, pictures that wait for their apps among them.
const MOST_BYTES: u64 = 128 << 20;
/// What a job takes besides its pictures.
const OVERHEAD: usize = 2048;

/// All jobs that apps may ask about, by provider and id. A clone has the same ones.
#[derive(Clone, Debug)]
pub struct Jobs {
    pub(super) known: Cache<(Arc<str>, String), Arc<Known>>,
    /// The provider's own jobs, by the call that submitted each.
    pub(super) led: Cache<String, Arc<Known>>,
}

/// A job that an app was told of.
pub(super) struct Known {
    /// Who may ask: whoever sends the credential that submitted.
    pub(super) credential: Option<[u8; 16]>,
    pub(super) asked: Arc<ImageRequest>,
    pub(super) dialect: &'static dyn Dialect,
    /// Where its app reaches the provider.
    pub(super) base: String,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    /// The provider's own. What its app is answered is overheard.
    Theirs {
        plan: Box<Plan>,
        hears: mpsc::Sender<Overheard>,
        /// Several calls submitted it: none of them may end it for the others.
        shared: AtomicBool,
    },
    Ours(Mutex<State>),
    /// The provider's own, submitted to a process that is dead.
    Left(Box<Left>),
}

/// A provider's job whose process is dead.
pub(super) struct Left {
    pub(super) job: KeptJob,
    /// Its charge is written, or nobody will ever know it.
    pub(super) ended: AtomicBool,
}

/// How a job of ours stands.
pub(super) enum State {
    Running,
    Done(Box<ImageResponse>),
    Failed(Box<Refusal>),
}

impl Known {
    fn weight(&self) -> u32 {
        let pictures = match &self.kind {
            Kind::Ours(state) => match &*state.lock() {
                State::Done(response) => {
                    let images = response.images.iter();
                    images.map(|image| image.picture.len()).sum()
                }
                State::Running | State::Failed(_) => 0,
            },
            Kind::Theirs { .. } | Kind::Left(_) => 0,
        };
        u32::try_from(OVERHEAD + pictures).unwrap_or(u32::MAX)
    }
}

/// A request as a job remembers it: nothing that is asked later is about the pictures that went in.
pub(super) fn remembered(request: &Arc<ImageRequest>) -> Arc<ImageRequest> {
    if request.inputs.is_empty() {
        return Arc::clone(request);
    }
    Arc::new(ImageRequest {
        inputs: Vec::new(),
        ..(**request).clone()
    })
}

impl Jobs {
    /// Jobs that are forgotten so long after they were begun.
    pub fn new(ttl: Duration) -> Jobs {
        Jobs {
            known: kept(ttl),
            led: kept(ttl),
        }
    }

    /// Makes a job known that was begun before.
    pub(super) fn remember(&self, provider: &Arc<str>, (id, known): (String, Known)) -> Arc<Known> {
        let key = (Arc::clone(provider), id);
        let known = Arc::new(known);
        self.known.insert(key, Arc::clone(&known));
        known
    }

    /// One more call is told of the job that the call `leader` submitted.
    pub(super) fn join(&self, leader: &str) {
        if let Some(known) = self.led.get(leader)
            && let Kind::Theirs { shared, .. } = &known.kind
        {
            shared.store(true, Ordering::Release);
        }
    }
}

fn kept<K: Hash + Eq + Send + Sync + 'static>(ttl: Duration) -> Cache<K, Arc<Known>> {
    Cache::builder()
        .max_capacity(MOST_BYTES)
        .weigher(|_, known: &Arc<Known>| known.weight())
        .time_to_live(ttl)
        .build()
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Theirs { .. } => "theirs",
            Kind::Ours(_) => "ours",
            Kind::Left(_) => "left",
        };
        write!(f, "Known({kind} {})", self.asked.model)
    }
}

/// Of a job of ours whose process has ended.
fn gone() -> Refusal {
    Refusal {
        status: 503,
        kind: FailureKind::Server,
        code: None,
        message: "pixtoll: it was started anew, and the picture is not kept; ask for it again"
            .to_owned(),
        retry_after: None,
    }
}

pub(super) fn undelivered(why: &str) -> Refusal {
    Refusal {
        status: 502,
        kind: FailureKind::Server,
        code: None,
        message: format!("pixtoll: the picture was made and cannot be handed over: {why}"),
        retry_after: None,
    }
}

impl Known {
    /// A job that was left, with the provider's name for it.
    pub(super) fn left(
        job: KeptJob,
        dialect: &'static dyn Dialect,
        asked: Arc<ImageRequest>,
        base: String,
    ) -> (String, Known) {
        let id = job.id.clone();
        let known = Known {
            credential: job.asker,
            asked,
            dialect,
            base,
            kind: match job.ours {
                true => Kind::Ours(Mutex::new(State::Failed(Box::new(gone())))),
                false => Kind::Left(Box::new(Left {
                    job,
                    ended: AtomicBool::new(false),
                })),
            },
        };
        (id, known)
    }

    /// What its app hears of a job of ours.
    pub(super) fn reply(&self, id: &str, asks: Option<JobAsk>) -> crate::wire::Reply {
        let place = JobPlace {
            id,
            base: &self.base,
        };
        let word = |state: JobState<'_>| {
            let reply = self.dialect.write_job(&self.asked, place, asks, state);
            reply.unwrap_or_else(|error| {
                let refusal = undelivered(&error.to_string());
                self.dialect.write_refusal(Some(&self.asked), &refusal)
            })
        };
        let Kind::Ours(state) = &self.kind else {
            return word(JobState::Running);
        };
        match &*state.lock() {
            State::Running => word(JobState::Running),
            State::Done(response) => word(JobState::Done(response)),
            State::Failed(refusal) => word(JobState::Failed(refusal)),
        }
    }
}
