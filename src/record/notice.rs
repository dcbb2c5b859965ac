//! The lines that are no calls: corrections of earlier ones, and what an operator should know.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use smol_str::SmolStr;

use super::decision::{VERSION, millis};
use super::facts::{Id, Named};
use super::sums::Causes;
use crate::bill::ChargeFrom;
use crate::image::{Billed, words};
use crate::money::Usd;

words! {
    /// Why an earlier line is corrected.
    AmendWhy {
        /// The charge became known after the call had ended.
        Late = "late",
        /// The process ended before the charge was known.
        Crash = "crash",
        /// The provider's invoice says otherwise.
        Reconciled = "reconciled",
        /// The answer reached nobody after all.
        Undelivered = "undelivered",
    }
}

/// Corrects the money of an earlier line, so that log and ledger never contradict each other.
#[derive(Clone, Debug, Serialize)]
pub struct Amend {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The call that is corrected.
    pub id: Id,
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
    pub why: AmendWhy,
    /// Only those that changed.
    pub attempts: Vec<AmendAttempt>,
    /// The call's whole cost as it is now known, USD.
    pub cost: Usd,
    pub causes: Causes,
}

impl Amend {
    pub fn new(
        id: Id,
        at: Timestamp,
        why: AmendWhy,
        attempts: Vec<AmendAttempt>,
        causes: Causes,
    ) -> Amend {
        Amend {
            v: VERSION,
            kind: "amend",
            id,
            at,
            why,
            attempts,
            cost: causes.sum(),
            causes,
        }
    }
}

/// One attempt's money, corrected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AmendAttempt {
    pub i: u32,
    pub billed: Billed,
    pub charge: Option<Usd>,
    pub charge_from: ChargeFrom,
}

words! {
    /// What a notice tells of.
    NoticeKind {
        Start = "start",
        Stop = "stop",
        Reload = "reload",
        /// A client does not trust our certificate.
        Refused = "certificate_refused",
        /// A client goes past the proxy.
        Bypass = "bypass",
        Alert = "alert",
        /// A connection that was passed on unread.
        Tunnel = "tunnel",
        /// The log itself: lines that are missing.
        Log = "log",
    }
}

words! {
    /// How much a notice matters.
    NoticeLevel {
        Info = "info",
        Warning = "warning",
        Error = "error",
    }
}

/// Something that is no call and that an operator should know.
#[derive(Clone, Debug, Serialize)]
pub struct Notice {
    v: u8,
    #[serde(rename = "type")]
    line: &'static str,
    pub id: Id,
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
    pub instance: Arc<str>,
    pub kind: NoticeKind,
    pub level: NoticeLevel,
    /// For people: what happened, where, and what to do.
    pub text: String,
    /// The same for programs.
    pub fields: Named<String>,
}

impl Notice {
    pub fn new(
        at: Timestamp,
        instance: Arc<str>,
        kind: NoticeKind,
        level: NoticeLevel,
        text: impl Into<String>,
    ) -> Notice {
        Notice {
            v: VERSION,
            line: "notice",
            id: Id::at(at.into()),
            at,
            instance,
            kind,
            level,
            text: text.into(),
            fields: Named::default(),
        }
    }

    /// Adds one fact.
    #[must_use]
    pub fn with(mut self, name: impl Into<SmolStr>, text: impl Into<String>) -> Notice {
        self.fields.put(name, text.into());
        self
    }
}
