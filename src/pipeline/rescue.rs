//! Every failure in words for the caller, in one place.
//!
//! Status, sentence and remedy are decided here, so that no station need know HTTP and no caller
//! is left with "internal error".

use http::HeaderValue;
use http::header::RETRY_AFTER;

use crate::dialect::{Dialect, Refusal};
use crate::image::{Failure, FailureKind, ImageRequest, ModelId};
use crate::wire::{Reply, Rope};

/// Who is the cause of a call without a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Provider,
    Pixtoll,
    Budget,
    Plugin,
}

impl Cause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Provider => "provider",
            Cause::Pixtoll => "pixtoll",
            Cause::Budget => "budget",
            Cause::Plugin => "plugin",
        }
    }
}

/// A call that ends without a picture.
#[derive(Clone, Debug)]
pub struct Rescued {
    pub refusal: Refusal,
    pub by: Cause,
    pub remedy: Option<String>,
    /// Whether an SDK's own retry would pay again or cannot help.
    pub no_retry: bool,
    /// The provider's own answer, to be passed on as it is.
    pub reply: Option<Reply>,
}

impl Rescued {
    /// Words for a failed attempt. `reply` is the provider's own answer where the caller can be
    /// given it untouched.
    pub fn of_failure(failure: &Failure, model: &ModelId, reply: Option<Reply>) -> Rescued {
        let answered = failure.status.filter(|status| *status >= 400);
        let message = match failure.status {
            Some(_) => failure.message.clone(),
            None => format!("pixtoll: {}: {}", model, failure.message),
        };
        Rescued {
            refusal: Refusal {
                status: answered.unwrap_or_else(|| status_of(failure.kind)),
                kind: failure.kind,
                code: failure.code.clone(),
                message,
                retry_after: failure.retry_after,
            },
            by: if failure.status.is_some() {
                Cause::Provider
            } else {
                Cause::Pixtoll
            },
            remedy: remedy_of(failure, model),
            no_retry: retry_is_waste(failure),
            reply,
        }
    }

    /// A plugin said no.
    pub fn refused(plugin: &str, message: &str, status: Option<u16>) -> Rescued {
        Rescued {
            refusal: Refusal {
                status: status.unwrap_or(403),
                kind: FailureKind::Permission,
                code: Some("refused_by_rule".to_owned()),
                message: format!("pixtoll: {message}"),
                retry_after: None,
            },
            by: Cause::Plugin,
            remedy: Some(format!("the rule is in the plugin `{plugin}`")),
            no_retry: true,
            reply: None,
        }
    }

    /// A plugin failed whose word must not be missed.
    pub fn broken_rule(plugin: &str) -> Rescued {
        let message = "a rule that must not fail has failed; see the decision log";
        Rescued::refused(plugin, message, Some(503))
    }

    /// A budget has no room for it. `says` tells which, how much, and until when.
    pub fn over_budget(says: &str) -> Rescued {
        Rescued {
            refusal: Refusal {
                status: 402,
                kind: FailureKind::Quota,
                code: Some("over_budget".to_owned()),
                message: format!("pixtoll: {says}"),
                retry_after: None,
            },
            by: Cause::Budget,
            remedy: Some(
                "wait until it begins anew, ask for something cheaper, or raise its `limit` in pixtoll.yaml"
                    .to_owned(),
            ),
            no_retry: true,
            reply: None,
        }
    }

    /// We cannot do it ourselves.
    pub fn ours(
        status: u16,
        kind: FailureKind,
        message: impl Into<String>,
        remedy: &str,
    ) -> Rescued {
        Rescued {
            refusal: Refusal {
                status,
                kind,
                code: None,
                message: format!("pixtoll: {}", message.into()),
                retry_after: None,
            },
            by: Cause::Pixtoll,
            remedy: Some(remedy.to_owned()),
            no_retry: status < 500,
            reply: None,
        }
    }

    /// A rule may pay less than the provider's own quote says.
    pub fn too_dear(why: String) -> Rescued {
        let remedy = "raise the rule's max_cost or max_share, or name a cheaper model there";
        let mut rescued = Rescued::ours(402, FailureKind::Quota, why, remedy);
        rescued.refusal.code = Some("max_cost".to_owned());
        rescued
    }

    /// The answer in the caller's dialect; the provider's own bytes where they are to be had.
    pub fn reply(&self, dialect: &dyn Dialect, asked: Option<&ImageRequest>) -> Reply {
        if let Some(reply) = &self.reply {
            return reply.clone();
        }
        let mut reply = dialect.write_refusal(asked, &self.refusal);
        if let Some(wait) = self.refusal.retry_after
            && !reply.head.headers.contains_key(RETRY_AFTER)
        {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            reply
                .head
                .headers
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        reply
    }
}

/// The status for a failure that nobody answered.
const fn status_of(kind: FailureKind) -> u16 {
    match kind {
        FailureKind::Safety | FailureKind::Invalid => 400,
        FailureKind::RateLimited => 429,
        FailureKind::Overloaded => 503,
        FailureKind::Quota => 402,
        FailureKind::Auth => 401,
        FailureKind::Permission => 403,
        FailureKind::Retired => 404,
        FailureKind::TooLarge => 413,
        FailureKind::Timeout => 504,
        FailureKind::Network
        | FailureKind::NoImage
        | FailureKind::Server
        | FailureKind::Unknown => 502,
    }
}

/// Whether sending the same call again would pay again, or be refused again.
fn retry_is_waste(failure: &Failure) -> bool {
    failure.may_pay_twice()
        || failure.billed == crate::image::Billed::Yes
        || failure.kind.for_good()
}

fn remedy_of(failure: &Failure, model: &ModelId) -> Option<String> {
    let text = match failure.kind {
        FailureKind::Retired => {
            format!(
                "{model} is gone: name a model that is still offered, or let `--plugin retired_models` send its calls to the successor"
            )
        }
        FailureKind::Auth => format!("the API key for {} was not accepted", model.provider()),
        FailureKind::Quota => format!(
            "the account at {} has met its limit or has no credit",
            model.provider()
        ),
        FailureKind::Safety => {
            "moderation refused it: change the prompt; a rule may name another model".to_owned()
        }
        FailureKind::Network | FailureKind::Timeout if failure.may_pay_twice() => {
            "it may have been billed: it is booked as unknown and was not sent again".to_owned()
        }
        _ => return None,
    };
    Some(text)
}

/// An answer without a body of a provider's, for the rare case that no dialect is known.
pub fn bare(status: http::StatusCode, text: &str) -> Reply {
    Reply {
        head: crate::wire::ReplyHead::new(status, "text/plain; charset=utf-8"),
        body: Rope::from(format!("pixtoll: {text}\n")),
    }
}
