//! The decision log: one line a call, exact, bounded, and safe to follow.
//!
//! [`decision`] has the lines as types, [`sums`] the arithmetic of cost and saving, [`fit`] keeps
//! a line within its bound, [`log`] brings lines to the file, and [`schema`] says what a line is.

pub mod decision;
pub mod facts;
pub mod fit;
pub mod log;
mod rotation;
pub mod rule;
pub mod schema;
pub mod sums;

pub use decision::{
    Amend, AmendAttempt, AmendWhy, AnswerRecord, AnsweredFrom, AppFrom, AttemptRecord,
    BudgetRecord, By, CacheRecord, CacheStatus, Decision, Delivered, ErrorBy, ErrorRecord,
    FailureRecord, LostRecord, Mode, Notice, NoticeKind, NoticeLevel, Outcome, UnmetRecord, Would,
};
pub use facts::{Asked, Asking, Decided, Id, InputFacts, Named, Prompts};
pub use log::{Log, LogError, LogState};
pub use rotation::{Rotation, rotated};
pub use rule::{BudgetDid, Did, RuleRecord};
pub use sums::{Causes, Lever, SavedBy, Spent, Step};
