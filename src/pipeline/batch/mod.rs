//! Calls that nobody waits for: bought many at a time through their provider's batch API, at half
//! the price, and kept for whoever asks later.
//!
//! Each line is a call like any other: read, priced, put to the rules, held, charged, logged. Only the
//! way to the provider differs. A batch outlives its process, so from the moment it is kept in the
//! ledger everything is done from what stands there, by the process that handed it in as by one that
//! takes it over:
//!
//! ```text
//! draft ──► keep ──► hold ──► hand over ──► order ──► ask, ask … ──► fetch ──► end each line
//!           ledger   journal  lines          may cost                           shelf, charge, log, ledger
//! ```
//!
//! Whatever is interrupted is done again from its last mark, and each step may be done twice: an
//! order whose answer was lost is looked for by its label, a line that has its charge keeps it.

mod draft;
mod follow;
mod hand_in;
mod left;
mod line;
mod live;
mod speak;

use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::Pipeline;
use crate::cache::Key;
use crate::dialect::Dialect;
use crate::image::ModelId;
use crate::ledger::{BatchStage, KeptBatch, LineCounts};
use crate::money::Usd;
use crate::record::{NoticeKind, NoticeLevel};
use crate::wire::RequestHead;

pub use draft::{Draft, Undrafted};
pub use hand_in::{Begun, Reworded};

/// A request that somebody wants bought ahead, in its provider's words.
#[derive(Clone)]
pub struct Wish {
    /// As its file calls it.
    pub name: String,
    pub provider: String,
    pub dialect: &'static dyn Dialect,
    /// Without a credential: the configured one pays.
    pub head: RequestHead,
    pub body: bytes::Bytes,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wish({} {})", self.provider, self.name)
    }
}

/// How a batch stands, for whoever watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub id: Ulid,
    pub model: ModelId,
    pub stage: BatchStage,
    pub lines: u64,
    /// Lines that the provider is through with, as it counts.
    pub through: u64,
    pub settled: LineCounts,
}

/// How a batch ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    pub done: u64,
    pub failed: u64,
    /// Of the lines that this process ended.
    pub charged: Usd,
    /// Lines whose charge nobody knows; they are in no sum.
    pub unpriced: u64,
    /// What the lines would have cost one by one.
    pub asked: Usd,
    /// Why lines brought nothing, each once, with how many.
    pub why: Vec<(String, u64)>,
}

impl Closed {
    /// This and another.
    pub fn add(&mut self, other: Closed) {
        self.done += other.done;
        self.failed += other.failed;
        self.charged += other.charged;
        self.unpriced += other.unpriced;
        self.asked += other.asked;
        for (why, count) in other.why {
            self.note(why, count);
        }
    }

    fn note(&mut self, why: String, count: u64) {
        match self.why.iter_mut().find(|(known, _)| *known == why) {
            Some((_, sum)) => *sum += count,
            None => self.why.push((why, count)),
        }
    }
}

/// Why a batch does not get on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Halted {
    pub message: String,
    pub remedy: String,
    /// It is kept, and can be taken up again.
    pub kept: bool,
}

impl Halted {
    fn kept(message: impl Into<String>) -> Halted {
        Halted {
            message: message.into(),
            remedy: "nothing is lost: `pixtoll batch resume` goes on with it".to_owned(),
            kept: true,
        }
    }
}

/// How often a batch is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub first: Duration,
    pub most: Duration,
}

impl Default for Pace {
    /// Batches take minutes at best.
    fn default() -> Pace {
        Pace {
            first: Duration::from_secs(5),
            most: Duration::from_secs(60),
        }
    }
}

/// A batch that is this old may be unknown to its provider.
const FORGOTTEN: Duration = Duration::from_secs(72 * 3600);

fn is_old(batch: &KeptBatch) -> bool {
    let age = Timestamp::now().duration_since(batch.at);
    Duration::try_from(age).is_ok_and(|age| age > FORGOTTEN)
}

impl Pipeline {
    /// Brings an answer that was bought ahead into memory, where there is one.
    pub async fn fetch_from_shelf(&self, key: &Key) {
        self.look_on_shelf(key).await;
    }

    /// Clears away answers that are too old or, of the oldest, too many; whoever paid for those is
    /// told.
    pub async fn tidy_shelf(&self) {
        let shelf = self.shelf.clone();
        let tidying = move || shelf.tidy(Timestamp::now());
        let tidied = tokio::task::spawn_blocking(tidying)
            .await
            .unwrap_or_default();
        if tidied.crowded > 0 {
            let text = format!(
                "{} answers of batches were let go before their time: there are more bytes than the folder may hold",
                tidied.crowded
            );
            tracing::warn!("{text}");
            self.notice(NoticeKind::Alert, NoticeLevel::Warning, text);
        }
    }
}
