//! Why an attempt brought no usable picture, how far it got, and whether it cost.
//!
//! Whose fault it was and whether it may be paid again are facts of the failure, settled where the
//! failure is made, never guessed later.

use std::time::Duration;

use super::words;
use crate::bill::Usage;
use crate::money::Usd;

words! {
    /// The kinds of failure, one list for all providers.
    FailureKind {
        /// Moderation refused the prompt, an input image, or the finished picture.
        Safety = "safety",
        RateLimited = "rate_limited",
        Overloaded = "overloaded",
        /// The account has no money or has met its own limit.
        Quota = "quota",
        Auth = "auth",
        Permission = "permission",
        /// The request is wrong and will be wrong again.
        Invalid = "invalid",
        /// The model is gone.
        Retired = "retired",
        TooLarge = "too_large",
        Timeout = "timeout",
        Network = "network",
        /// An answer that looks like success and holds no picture.
        NoImage = "no_image",
        Server = "server",
        Unknown = "unknown",
    }
}

impl FailureKind {
    /// Whether the same request to the same provider cannot succeed: asking again is a waste.
    pub const fn for_good(self) -> bool {
        matches!(
            self,
            FailureKind::Safety
                | FailureKind::Quota
                | FailureKind::Auth
                | FailureKind::Permission
                | FailureKind::Invalid
                | FailureKind::Retired
                | FailureKind::TooLarge
        )
    }

    /// The kind that an HTTP status tells of when a provider says nothing better.
    pub const fn of_status(status: u16) -> FailureKind {
        match status {
            401 => FailureKind::Auth,
            402 => FailureKind::Quota,
            403 => FailureKind::Permission,
            404 | 410 => FailureKind::Retired,
            408 | 504 | 524 => FailureKind::Timeout,
            413 => FailureKind::TooLarge,
            429 => FailureKind::RateLimited,
            503 | 529 => FailureKind::Overloaded,
            400..=499 => FailureKind::Invalid,
            500..=599 => FailureKind::Server,
            _ => FailureKind::Unknown,
        }
    }
}

words! {
    /// How far an attempt got.
    Sent {
        /// Not one byte reached the provider: it may be sent again freely.
        NotSent = "not_sent",
        /// The provider declined before it worked.
        Refused = "refused",
        /// The provider answered.
        Answered = "answered",
        /// It may have arrived; nobody can tell.
        Unknown = "unknown",
    }
}

words! {
    /// Whether a failed attempt costs money.
    Billed {
        Yes = "yes",
        No = "no",
        Unknown = "unknown",
    }
}

words! {
    /// Which side of the work moderation stopped.
    SafetyStage {
        /// The prompt or an input image: nothing was drawn.
        Input = "input",
        /// The finished picture: it was drawn first.
        Output = "output",
    }
}

/// What moderation said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SafetyBlock {
    /// `None` when the provider does not say.
    pub at: Option<SafetyStage>,
    /// In the provider's own words.
    pub categories: Vec<String>,
}

/// An attempt without a usable picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub sent: Sent,
    pub billed: Billed,
    /// What it cost all the same, where the provider says; else the book decides from `billed`.
    pub charge: Option<Usd>,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// The provider's own code.
    pub code: Option<String>,
    /// The provider's own words, or ours where nobody answered. Holds no key.
    pub message: String,
    /// How long the provider asked us to wait.
    pub retry_after: Option<Duration>,
    /// What the answer counts all the same: a model may think, and charge for it, before it declines.
    pub usage: Usage,
    /// Only for [`FailureKind::Safety`].
    pub safety: Option<SafetyBlock>,
    /// Usable pictures that came all the same (a cut stream after the first of two).
    pub images: u32,
}

impl Failure {
    /// A failure that a provider answered with, billed as told.
    pub fn answered(
        kind: FailureKind,
        status: u16,
        billed: Billed,
        message: impl Into<String>,
    ) -> Failure {
        Failure {
            kind,
            sent: if billed == Billed::No {
                Sent::Refused
            } else {
                Sent::Answered
            },
            billed,
            charge: None,
            status: Some(status),
            code: None,
            message: message.into(),
            retry_after: None,
            usage: Usage::default(),
            safety: None,
            images: 0,
        }
    }

    /// A failure before the first byte left us: free by nature.
    pub fn not_sent(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            sent: Sent::NotSent,
            status: None,
            ..Failure::answered(kind, 0, Billed::No, message)
        }
    }

    /// A failure after which nobody knows whether the provider worked and charged.
    pub fn lost(kind: FailureKind, message: impl Into<String>) -> Failure {
        Failure {
            sent: Sent::Unknown,
            status: None,
            ..Failure::answered(kind, 0, Billed::Unknown, message)
        }
    }

    /// Whether another attempt could pay for the same picture twice.
    pub fn may_pay_twice(&self) -> bool {
        self.sent == Sent::Unknown || self.billed == Billed::Unknown
    }
}
