//! What the hooks are asked about: the call, and what has happened to it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::action::{BudgetView, CallView, World};
use crate::bill::{ChargeFrom, Quote};
use crate::image::{Failure, Image, ModelId, Tier};
use crate::money::Usd;

/// The hooks there are, in the order in which a call comes by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    OnRequest,
    OnBudget,
    OnFailure,
    OnResponse,
    OnDecision,
}

impl Hook {
    pub(super) const ALL: [Hook; 5] = [
        Hook::OnRequest,
        Hook::OnBudget,
        Hook::OnFailure,
        Hook::OnResponse,
        Hook::OnDecision,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Hook::OnRequest => "on_request",
            Hook::OnBudget => "on_budget",
            Hook::OnFailure => "on_failure",
            Hook::OnResponse => "on_response",
            Hook::OnDecision => "on_decision",
        }
    }

    /// What it is called with.
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Hook::OnRequest => &["call", "options"],
            Hook::OnBudget => &["call", "budget", "options"],
            Hook::OnFailure => &["call", "failure", "options"],
            Hook::OnResponse => &["call", "response", "options"],
            Hook::OnDecision => &["decision", "options"],
        }
    }
}

/// A failed attempt as a hook sees it.
#[derive(Clone, Debug)]
pub struct FailureView {
    pub failure: Failure,
    /// Where the attempt was sent, and how.
    pub model: ModelId,
    pub tier: Tier,
    /// From 1.
    pub attempt: u32,
    /// How often this kind came from this provider in this call, this time included.
    pub times: u32,
    /// How long the attempt took, in milliseconds.
    pub ms: u64,
}

/// An answer as a hook sees it.
#[derive(Clone, Debug)]
pub struct ResponseView {
    /// The model that made it.
    pub model: ModelId,
    /// It was in memory, or bought together with another call: it cost this one nothing.
    pub cached: bool,
    /// The pictures. A hook sees facts of them, never their bytes.
    pub images: Vec<Image>,
    pub quote: Option<Arc<Quote>>,
    pub charge: Option<Usd>,
    pub charge_from: ChargeFrom,
    /// Charge less quote, where they differ.
    pub discrepancy: Option<Usd>,
    /// Fields that the model had no word for.
    pub lost: Vec<String>,
    /// How long the caller has waited, in milliseconds.
    pub ms: u64,
}

/// A finished call as a hook sees it: its line in the decision log.
#[derive(Clone, Debug)]
pub struct DecisionView {
    pub record: Arc<serde_json::Value>,
    /// When the call ended.
    pub at: Timestamp,
    pub world: Arc<World>,
}

/// What one run of a hook is about.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Request(Arc<CallView>),
    Budget(Arc<CallView>, Arc<BudgetView>),
    Failure(Arc<CallView>, Arc<FailureView>),
    Response(Arc<CallView>, Arc<ResponseView>),
    Decision(Arc<DecisionView>),
}

impl Subject {
    pub(super) const fn hook(&self) -> Hook {
        match self {
            Subject::Request(_) => Hook::OnRequest,
            Subject::Budget(..) => Hook::OnBudget,
            Subject::Failure(..) => Hook::OnFailure,
            Subject::Response(..) => Hook::OnResponse,
            Subject::Decision(_) => Hook::OnDecision,
        }
    }

    /// The call; none once it has become a decision.
    pub(super) const fn call(&self) -> Option<&Arc<CallView>> {
        match self {
            Subject::Request(call)
            | Subject::Budget(call, _)
            | Subject::Failure(call, _)
            | Subject::Response(call, _) => Some(call),
            Subject::Decision(_) => None,
        }
    }

    /// The moment that it is about.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Subject::Decision(decision) => decision.at,
            Subject::Request(call)
            | Subject::Budget(call, _)
            | Subject::Failure(call, _)
            | Subject::Response(call, _) => call.at,
        }
    }

    pub(super) fn world(&self) -> &Arc<World> {
        match self {
            Subject::Decision(decision) => &decision.world,
            Subject::Request(call)
            | Subject::Budget(call, _)
            | Subject::Failure(call, _)
            | Subject::Response(call, _) => &call.world,
        }
    }
}
