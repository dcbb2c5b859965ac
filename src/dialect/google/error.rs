//! Google's error form: a status word, and details of several types beside it.

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::super::{Refusal, head, wait};
use crate::image::{Billed, Failure, FailureKind, SafetyBlock, SafetyStage, Sent};
use crate::wire::json::{Node, unescape};
use crate::wire::{Reply, ReplyHead, Rope};

/// As much of a message is kept.
const MESSAGE: usize = 2000;
/// A message that names these was made by Imagen's filters.
const SUPPORT_CODES: &str = "Support codes:";

const IN: Option<SafetyStage> = Some(SafetyStage::Input);
const OUT: Option<SafetyStage> = Some(SafetyStage::Output);

/// What the codes in a filter's message stand for, after the page on responsible AI of Imagen.
const FILTERS: [(u32, &str, Option<SafetyStage>); 22] = [
    (58_061_214, "child", IN),
    (17_301_594, "child", OUT),
    (29_310_472, "celebrity", IN),
    (15_236_754, "celebrity", OUT),
    (62_263_041, "dangerous", IN),
    (57_734_940, "hate", IN),
    (22_137_204, "hate", OUT),
    (42_876_398, "other", IN),
    (29_578_790, "other", OUT),
    (74_803_281, "other", OUT),
    (39_322_892, "people", OUT),
    (92_201_652, "personal_data", IN),
    (89_371_032, "prohibited", IN),
    (49_114_662, "prohibited", OUT),
    (72_817_394, "prohibited", OUT),
    (90_789_179, "sexual", IN),
    (63_429_089, "sexual", OUT),
    (43_188_360, "sexual", OUT),
    (78_610_348, "toxic", IN),
    (61_493_863, "violence", None),
    (56_562_880, "violence", None),
    (32_635_315, "vulgar", None),
];

/// What moderation said, from the codes in a filter's message.
pub(super) fn filtered(message: &str) -> SafetyBlock {
    let codes = message.split(|c: char| !c.is_ascii_digit());
    let mut block = SafetyBlock::default();
    for code in codes.filter_map(|digits| digits.parse::<u32>().ok()) {
        let known = FILTERS.iter().find(|(known, ..)| *known == code);
        let Some((_, category, stage)) = known else {
            continue;
        };
        block.at = block.at.or(*stage);
        let category = (*category).to_owned();
        if !block.categories.contains(&category) {
            block.categories.push(category);
        }
    }
    block
}

/// A text of any length, its first part.
pub(super) fn words(node: &Node, body: &Rope) -> String {
    match node {
        Node::Text(text) => text.chars().take(MESSAGE).collect(),
        Node::Long(span) => {
            let start = body.slice(span.start..span.end.min(span.start + MESSAGE));
            let start = start.to_bytes();
            let text = String::from_utf8_lossy(&start).into_owned();
            unescape(&start).unwrap_or(text)
        }
        _ => String::new(),
    }
}

/// The error object in an answer, if it holds one; some answers put it into a list.
pub(super) fn of(node: &Node) -> Option<&Node> {
    let node = node.items().first().unwrap_or(node);
    node.get("error").filter(|error| !error.is_null())
}

/// The failure that an answer under an error's status tells of.
pub(super) fn refused(head: &ReplyHead, node: Option<&Node>, body: &Rope) -> Failure {
    let status = head.status.as_u16();
    let Some(error) = node.and_then(of) else {
        return unexplained(head, body);
    };
    let mut failure = told(error, Some(status), body);
    failure.status = Some(status);
    let named = wait::retry_after(&head.headers);
    failure.retry_after = named.or(failure.retry_after);
    failure
}

/// An edge's page: nobody knows what became of the call behind it.
fn unexplained(head: &ReplyHead, body: &Rope) -> Failure {
    let status = head.status.as_u16();
    // A route that is not there is not a model that is gone.
    let kind = match status {
        404 => FailureKind::Invalid,
        _ => FailureKind::of_status(status),
    };
    let billed = if status < 500 {
        Billed::No
    } else {
        Billed::Unknown
    };
    let mut failure = Failure::answered(kind, status, billed, head::unexplained(head, body));
    failure.retry_after = wait::retry_after(&head.headers);
    failure
}

/// What an error object says. `status` is `None` for one within a stream that began well.
///
/// Google bills no call that ends in an error (pricing page: failed requests are free), but within
/// a stream work had begun, and nobody says.
pub(super) fn told(error: &Node, status: Option<u16>, body: &Rope) -> Failure {
    let error = Told::read(error, body);
    let code = status.or(error.code).unwrap_or(500);
    let kind = error.failure_kind(status.or(error.code));
    let billed = if status.is_some() {
        Billed::No
    } else {
        Billed::Unknown
    };
    let mut failure = Failure::answered(kind, code, billed, &error.message);
    if code >= 500 {
        failure.sent = Sent::Answered;
    }
    failure.safety = (kind == FailureKind::Safety).then(|| {
        let mut block = filtered(&error.message);
        block.at = block.at.or(Some(SafetyStage::Input));
        block
    });
    failure.retry_after = error.wait;
    failure.code = error.reason.or(error.word);
    failure
}

/// The parts of an error object that count.
#[derive(Default)]
struct Told {
    code: Option<u16>,
    message: String,
    /// `RESOURCE_EXHAUSTED` and its like.
    word: Option<String>,
    /// `API_KEY_INVALID` and its like.
    reason: Option<String>,
    /// Which quotas were met.
    quotas: Vec<String>,
    wait: Option<Duration>,
}

impl Told {
    fn read(error: &Node, body: &Rope) -> Told {
        let text = |node: &Node, name: &str| Some(node.get(name)?.text()?.to_owned());
        let mut told = Told {
            code: error
                .get("code")
                .and_then(Node::u64)
                .and_then(|code| u16::try_from(code).ok()),
            message: error
                .get("message")
                .map_or_else(String::new, |m| words(m, body)),
            word: text(error, "status"),
            ..Told::default()
        };
        for detail in error.get("details").map_or(&[][..], Node::items) {
            told.reason = told.reason.or_else(|| text(detail, "reason"));
            let violations = detail.get("violations").map_or(&[][..], Node::items);
            let quotas = violations.iter().filter_map(|one| text(one, "quotaId"));
            told.quotas.extend(quotas);
            let delay = text(detail, "retryDelay");
            told.wait = told.wait.or_else(|| wait::span(&delay?));
        }
        if told.message.is_empty() {
            told.message = "the provider gave an error without a message".to_owned();
        }
        told
    }

    fn failure_kind(&self, status: Option<u16>) -> FailureKind {
        match (status, self.reason.as_deref()) {
            (Some(402), _) | (_, Some("BILLING_DISABLED")) => return FailureKind::Quota,
            (Some(413), _) => return FailureKind::TooLarge,
            (_, Some("API_KEY_INVALID" | "API_KEY_EXPIRED" | "ACCESS_TOKEN_EXPIRED")) => {
                return FailureKind::Auth;
            }
            _ => {}
        }
        match self.word.as_deref() {
            Some("INVALID_ARGUMENT") if self.message.contains(SUPPORT_CODES) => FailureKind::Safety,
            Some("INVALID_ARGUMENT" | "OUT_OF_RANGE") => FailureKind::Invalid,
            Some("UNAUTHENTICATED") => FailureKind::Auth,
            Some("PERMISSION_DENIED") => FailureKind::Permission,
            // A region that is not served, or an account without billing.
            Some("FAILED_PRECONDITION") if self.message.contains("billing") => FailureKind::Quota,
            Some("FAILED_PRECONDITION") => FailureKind::Permission,
            Some("NOT_FOUND") => FailureKind::Retired,
            // What is used up for the day does not come back within a wait.
            Some("RESOURCE_EXHAUSTED") if self.is_for_the_day() => FailureKind::Quota,
            Some("RESOURCE_EXHAUSTED") => FailureKind::RateLimited,
            Some("UNAVAILABLE") => FailureKind::Overloaded,
            Some("DEADLINE_EXCEEDED") => FailureKind::Timeout,
            Some("INTERNAL" | "UNKNOWN" | "ABORTED") => FailureKind::Server,
            _ => status.map_or(FailureKind::Unknown, FailureKind::of_status),
        }
    }

    fn is_for_the_day(&self) -> bool {
        let daily = |quota: &String| quota.contains("PerDay") || quota.contains("Spend");
        self.quotas.iter().any(daily)
    }
}

/// Words a refusal of any kind but moderation's, which each dialect has its own form for.
pub(super) fn refusal(refusal: &Refusal) -> Reply {
    let head = head::refusal(refusal.status, refusal);
    let mut details = Vec::new();
    let theirs = refusal
        .code
        .as_deref()
        .filter(|code| STATUS_WORDS.contains(code));
    if let (Some(code), None) = (&refusal.code, theirs) {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": code.to_ascii_uppercase(),
            "domain": "pixtoll",
        }));
    }
    if let Some(delay) = refusal.retry_after {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{}s", delay.as_secs_f64()),
        }));
    }
    let mut error = json!({
        "code": head.status.as_u16(),
        "message": refusal.message,
        "status": theirs.unwrap_or_else(|| status_word(refusal.kind)),
    });
    if !details.is_empty() {
        error["details"] = details.into();
    }
    Reply {
        head,
        body: json!({"error": error}).to_string().into(),
    }
}

const STATUS_WORDS: [&str; 12] = [
    "INVALID_ARGUMENT",
    "OUT_OF_RANGE",
    "FAILED_PRECONDITION",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "INTERNAL",
    "UNKNOWN",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
];

fn status_word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Safety | FailureKind::Invalid | FailureKind::TooLarge => "INVALID_ARGUMENT",
        FailureKind::RateLimited | FailureKind::Quota => "RESOURCE_EXHAUSTED",
        FailureKind::Auth => "UNAUTHENTICATED",
        FailureKind::Permission => "PERMISSION_DENIED",
        FailureKind::Retired => "NOT_FOUND",
        FailureKind::Overloaded => "UNAVAILABLE",
        FailureKind::Timeout => "DEADLINE_EXCEEDED",
        FailureKind::Network
        | FailureKind::NoImage
        | FailureKind::Server
        | FailureKind::Unknown => "INTERNAL",
    }
}

/// A head of 200 for moderation's own form, with the wait that goes along.
pub(super) fn moderated(refusal: &Refusal) -> ReplyHead {
    let mut head = ReplyHead::new(StatusCode::OK, "application/json; charset=UTF-8");
    head::put_wait(&mut head, refusal);
    head
}
