//! The decision log: one line a call, exact, bounded, and safe to follow.
//!
//! [`decision`] and [`notice`] have the lines as types, [`sums`] the arithmetic of cost and saving,
//! [`fit`] keeps a line within its bound, [`log`] brings lines to the file, and [`schema`] says
//! what a line is.

pub mod decision;
pub mod facts;
pub mod fit;
mod lines;
pub mod log;
pub mod notice;
mod rotation;
pub mod rule;
pub mod schema;
pub mod sums;
mod text;
mod weight;

pub use decision::{
    AnswerRecord, AnsweredFrom, AppFrom, AttemptRecord, BudgetRecord, By, CacheRecord, CacheStatus,
    Decision, Delivered, ErrorBy, ErrorRecord, FailureRecord, LostRecord, Mode, Outcome, QuoteFrom,
    UnmetRecord, Would,
};
pub use facts::{Asked, Asking, Decided, Id, InputFacts, Named, Prompts};
pub use log::{Log, LogError, LogState};
pub use notice::{Amend, AmendAttempt, AmendWhy, Notice, NoticeKind, NoticeLevel};
pub use rotation::{Rotation, rotated};
pub use rule::{BudgetDid, Did, RuleRecord, RuleWould};
pub use sums::{Causes, Lever, SavedBy, Spent, Step};
