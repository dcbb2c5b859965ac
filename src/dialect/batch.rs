//! Many requests handed in as one job, at the price of patience.
//!
//! A provider's batch is lines in and lines out, in any order and within a day. Where the lines go,
//! how the job is asked about and where its answers lie is here as values; who sends, waits and pays
//! is not.

use bytes::Bytes;

use super::Unsupported;
use crate::image::{Billed, Failure, FailureKind, ImageRequest, Sent};
use crate::wire::{Message, Reply, ReplyHead};

/// How a provider takes batches. What it returns are messages and their meaning.
pub trait Batches: Send + Sync {
    /// How much one batch may hold.
    fn most(&self) -> Most;

    /// Words one line, by the name under which its answer will come back. `own` is the app's body,
    /// where nothing of it was changed: it goes in as it is.
    ///
    /// # Errors
    /// [`Unsupported`] for what no batch takes, such as a stream.
    fn line(
        &self,
        name: &str,
        request: &ImageRequest,
        own: Option<&Bytes>,
    ) -> Result<Bytes, Unsupported>;

    /// Hands the lines over beforehand; `None` where they go along with the order.
    fn upload(&self, label: &str, lines: &[Bytes]) -> Option<Message>;

    /// The name of what was handed over, from the answer.
    fn uploaded(&self, answer: &[u8]) -> Option<String>;

    /// Orders the batch: from here on it may cost.
    ///
    /// # Errors
    /// [`Unsupported`] where there is no path for it.
    fn order(&self, order: &Order<'_>) -> Result<Message, Unsupported>;

    /// Asks for the newest batches, to find one whose order was sent and whose answer was lost.
    fn list(&self) -> Message;

    /// The batch of that label in the answer to [`Batches::list`].
    fn find(&self, label: &str, answer: &[u8]) -> Option<Standing>;

    /// Asks how a batch stands; `None` when the name is none of this provider's.
    fn ask(&self, job: &str) -> Option<Message>;

    /// How a batch stands, from the answer to its order or to a question.
    fn standing(&self, answer: &[u8]) -> Option<Standing>;

    /// One line of the files that [`Standing::files`] asked for.
    fn read_line(&self, line: &[u8]) -> Option<LineEnd>;
}

/// How much one batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    pub lines: usize,
    /// Of all lines together.
    pub bytes: usize,
}

/// What is ordered.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Ours, by which the batch is found again.
    pub label: &'a str,
    /// Any line's request: all have model and operation in common.
    pub request: &'a ImageRequest,
    /// What [`Batches::uploaded`] named.
    pub file: Option<&'a str>,
    pub lines: &'a [Bytes],
}

/// How a batch stands.
#[derive(Debug)]
pub struct Standing {
    /// The provider's own name for it.
    pub job: String,
    pub state: BatchState,
    /// Lines that are through, and those of them without an answer, where the provider counts.
    pub done: u64,
    pub failed: u64,
    /// What a batch that did not run says.
    pub why: Option<String>,
    /// Where the answers are to be fetched.
    pub files: Vec<Message>,
    /// Answers that came along.
    pub ends: Vec<LineEnd>,
}

/// Whether anything more will happen to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchState {
    Waiting,
    Running,
    /// It ran to its end. A line without an answer may have cost.
    Done,
    /// Its time was over, or somebody stopped it: lines without an answer were not run.
    Stopped,
    /// It was not run at all.
    Refused,
}

impl BatchState {
    pub const fn ended(self) -> bool {
        matches!(
            self,
            BatchState::Done | BatchState::Stopped | BatchState::Refused
        )
    }
}

/// What became of one line.
#[derive(Debug)]
pub struct LineEnd {
    pub name: String,
    /// The answer as a call of its own would have got it.
    pub end: Result<Reply, Box<Failure>>,
}

/// A line that its provider never ran: it costs nothing.
pub(super) fn not_run(code: &str, message: &str) -> Box<Failure> {
    let expired = code.contains("expired") || message.contains("expired");
    let kind = match expired {
        true => FailureKind::Timeout,
        false => FailureKind::Server,
    };
    Box::new(Failure {
        sent: Sent::Refused,
        status: None,
        code: Some(code.to_owned()).filter(|code| !code.is_empty()),
        ..Failure::answered(kind, 0, Billed::No, message)
    })
}

/// An answer within a line, as though it had come alone.
pub(super) fn json_reply(status: u16, body: &str) -> Reply {
    let status = http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::OK);
    Reply {
        head: ReplyHead::new(status, "application/json"),
        body: Bytes::copy_from_slice(body.as_bytes()).into(),
    }
}
