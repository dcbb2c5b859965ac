//! What the ledger is told and what it tells: holds, settlements, rows, sums.

use std::sync::Arc;

use jiff::Timestamp;
use ulid::Ulid;

use crate::bill::ChargeFrom;
use crate::image::{Billed, ModelId, Tier, words};
use crate::money::Usd;

words! {
    /// How an attempt ended.
    Outcome {
        /// All that was asked for came.
        Ok = "ok",
        /// Some of it came.
        Partial = "partial",
        /// None of it came.
        Failed = "failed",
        /// Nobody can tell whether the provider did the work, so it is booked as though it had.
        Unknown = "unknown",
    }
}

words! {
    /// What must have happened before the ledger's word can be relied on.
    Sync {
        /// The record is with the operating system: it survives the end of the process.
        Crash = "crash",
        /// The record is on the disk: it survives the loss of power.
        Power = "power",
    }
}

/// One attempt of one call: what a row of the ledger is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub call: Ulid,
    /// Counts the attempts of the call from zero.
    pub attempt: u32,
}

/// Money set aside for one attempt, from before its first byte goes out.
///
/// Texts are shared, not copied: the pipeline knows them already. Times are kept to the
/// microsecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub call: Ulid,
    pub attempt: u32,
    pub at: Timestamp,
    pub app: Arc<str>,
    pub model: ModelId,
    pub tier: Tier,
    /// A digest of the credential that pays. Never the credential itself.
    pub credential: Option<Arc<str>>,
    /// The app's own user, where the request names one.
    pub user: Option<Arc<str>>,
    /// Joined with commas.
    pub tags: Option<Arc<str>>,
    /// What is set aside; `None` when the book does not know the model.
    pub held: Option<Usd>,
    /// What the attempt is expected to cost.
    pub quote: Option<Usd>,
    /// The buckets of budgets that it counts in. A [`Row`] does not repeat them.
    pub claims: Arc<[Claim]>,
}

/// What an attempt takes of one bucket of a budget: first what is held, then what was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The budget's key.
    pub budget: Arc<str>,
    pub bucket: Arc<str>,
    /// When the bucket's period began.
    pub since: Timestamp,
    /// What is set aside: of an unpriced model a ceiling, for an unknown price is not zero.
    pub amount: Usd,
}

impl Hold {
    pub fn key(&self) -> Key {
        Key {
            call: self.call,
            attempt: self.attempt,
        }
    }
}

/// How an attempt ended and what it cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub at: Timestamp,
    pub outcome: Outcome,
    pub billed: Billed,
    /// `None` when nobody knows: never zero.
    pub charge: Option<Usd>,
    pub from: ChargeFrom,
    /// Pictures that came.
    pub images: u32,
    /// The provider's own name for the attempt.
    pub request_id: Option<String>,
}

/// One attempt as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub hold: Hold,
    /// `None` while the attempt runs, or when its ticket was dropped.
    pub settled: Option<Settlement>,
    /// The end was not seen but assumed: the process died, or closed its ledger, before it came.
    pub assumed: bool,
}

/// Sums over many attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Charges of attempts whose end is known.
    pub spent: Usd,
    /// Charges of attempts with outcome `unknown`: booked, and perhaps not owed.
    pub unknown: Usd,
    /// Set aside for attempts without an end.
    pub held: Usd,
    pub calls: u64,
    pub attempts: u64,
    /// Attempts without an end.
    pub open: u64,
    /// Settled attempts whose charge nobody knows; they are in none of the sums.
    pub unpriced: u64,
}

/// Which attempts a sum is over. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Held at or after.
    pub since: Option<Timestamp>,
    /// Held before.
    pub until: Option<Timestamp>,
    pub app: Option<Arc<str>>,
    pub user: Option<Arc<str>>,
    pub credential: Option<Arc<str>>,
    pub provider: Option<Arc<str>>,
    pub model: Option<ModelId>,
}

/// What one model cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSpend {
    pub model: ModelId,
    pub totals: Totals,
    /// Pictures that came.
    pub images: u64,
}

/// One thing that happened, as the journal keeps it and the carrier takes it.
///
/// A settlement repeats its hold, so that a journal may begin between the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Held(Arc<Hold>),
    Settled(Arc<Hold>, Arc<Settlement>),
    Released(Key),
}

/// An event with its number in its journal. Numbers begin at 1 and tell copies apart from repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) seq: u64,
    pub(super) event: Event,
}
