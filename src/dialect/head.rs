//! What the heads of answers tell and say alike in every dialect.

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};

use super::Refusal;
use crate::bill::Codes;
use crate::wire::{ReplyHead, Rope};

/// As much of a body that nobody can read is shown.
const SHOWN: usize = 200;

/// The billing signals of a head: request id, limits, waits and what else `telling` names.
pub(super) fn codes(head: &ReplyHead, telling: &[&str]) -> Codes {
    let mut codes = Codes {
        request_id: head.header("x-request-id").map(str::to_owned),
        ..Codes::default()
    };
    // One look at each header, where each name would take a search.
    for name in head.headers.keys() {
        let name = name.as_str();
        let waits = matches!(name, "retry-after" | "retry-after-ms");
        if waits || telling.contains(&name) || name.starts_with("x-ratelimit-") {
            codes.put_header(&head.headers, name);
        }
    }
    codes
}

/// The head of a refusal in JSON under `status`, or under 502 when that is no error's.
pub(super) fn refusal(status: u16, refusal: &Refusal) -> ReplyHead {
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    let mut head = ReplyHead::new(status, "application/json");
    put_wait(&mut head, refusal);
    head
}

/// Says how long the caller should wait, where that helps.
pub(super) fn put_wait(head: &mut ReplyHead, refusal: &Refusal) {
    if let Some(wait) = refusal.retry_after {
        // Whole seconds, and never too early.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        head.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
}

/// An error whose body is not the dialect's own (an edge's page, a balancer's line), in words.
pub(super) fn unexplained(head: &ReplyHead, body: &Rope) -> String {
    let start = body.head(SHOWN);
    let text = String::from_utf8_lossy(&start);
    let text = text.trim();
    let what = if text.is_empty() {
        " with nothing".to_owned()
    } else if text.starts_with('<') {
        " with a page of HTML".to_owned()
    } else {
        format!(": {text}")
    };
    format!("the provider answered {}{what}", head.status.as_u16())
}
