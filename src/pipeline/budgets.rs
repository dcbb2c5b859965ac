//! Budgets on a call's way: what is set aside before anything is sent, and what is said when there
//! is no room for it.
//!
//! Only an attempt that is about to be sent comes here. Where a budget applies, the ledger judges
//! and holds in one transaction; where none does, the hold is one record in the journal.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::Pipeline;
use super::call::Call;
use super::chain::Got;
use super::plan::Plan;
use super::rescue::Rescued;
use crate::budget::{Budgets, Facts, Over, Per, Place, Standing};
use crate::image::{FailureKind, ModelId};
use crate::ledger::{Bound, Claim, Grant, Hold, Judged, LedgerError, TURNED_AWAY, Ticket};
use crate::money::Usd;
use crate::record::{BudgetDid, BudgetRecord, Mode, Notice, NoticeKind, NoticeLevel};

/// Models without a price that an alert was given for; further ones are told in the log alone.
const MOST_TOLD: usize = 1000;

/// What becomes of calls while the ledger cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// Refused where a budget guards them, else passed.
    #[default]
    Auto,
    /// Passed, kept in memory, and said.
    Open,
    /// Refused.
    Closed,
}

/// The budgets in force, with what goes with them. Replaced whole.
#[derive(Debug, Default)]
pub struct Budgeting {
    pub budgets: Budgets,
    /// Held for an image of a model that the book does not know.
    pub unpriced_hold: Usd,
    pub when_down: WhenDown,
    /// Models that it was alerted for.
    told: Mutex<BTreeSet<ModelId>>,
    /// Calls go on without a ledger, and it was said.
    down: AtomicBool,
}

impl Budgeting {
    pub fn new(budgets: Budgets, unpriced_hold: Usd, when_down: WhenDown) -> Budgeting {
        Budgeting {
            budgets,
            unpriced_hold,
            when_down,
            ..Budgeting::default()
        }
    }
}

/// Why an attempt is not made.
pub(super) enum NotHeld {
    Over(Box<OverBudget>),
    Ledger(LedgerError),
}

impl From<NotHeld> for Got {
    fn from(why: NotHeld) -> Got {
        match why {
            NotHeld::Over(over) => Got::Over(over),
            NotHeld::Ledger(error) => {
                tracing::error!(%error, "no hold, so nothing is sent");
                Got::Refused(Rescued::ours(
                    503,
                    FailureKind::Server,
                    format!("the ledger cannot be written, so nothing was bought: {error}"),
                    "free disk space where the ledger lies, or name another place for it; `ledger_down: open` lets calls pass meanwhile",
                ))
            }
        }
    }
}

/// A call that budgets have no room for.
#[derive(Debug)]
pub(super) struct OverBudget {
    /// Those that have not, at least one.
    full: Vec<Full>,
}

/// A bucket without room.
#[derive(Clone, Debug)]
struct Full {
    place: Place,
    standing: Standing,
    /// What it would have had to hold.
    wanted: Usd,
}

impl OverBudget {
    /// Whether rules may still make the call fit: every budget without room asks them.
    pub(super) fn asks_rules(&self) -> bool {
        let mut budgets = self.full.iter().map(|full| full.place.budget.budget.over);
        budgets.all(|over| over == Over::Plugin)
    }

    /// The buckets without room, and what they stand at.
    pub(super) fn full(&self) -> impl Iterator<Item = (&Place, Standing)> {
        self.full.iter().map(|full| (&full.place, full.standing))
    }

    /// The refusal: which budget, how much, until when.
    pub(super) fn rescued(&self) -> Rescued {
        let texts: Vec<String> = self.full.iter().map(Full::says).collect();
        Rescued::over_budget(&texts.join("; "))
    }
}

impl Full {
    fn says(&self) -> String {
        let budget = &self.place.budget.budget;
        let until = match self.place.period.end {
            Some(end) => format!("resets_at {end}"),
            None => "it does not begin anew".to_owned(),
        };
        format!(
            "the budget `{}` ({}) has no room for this call: up to {} is needed, and of {}{} {} is spent and {} held; {until}",
            budget.name,
            self.place.label(),
            self.wanted.pretty(),
            budget.limit.pretty(),
            a_period(budget.per),
            self.standing.spent.pretty(),
            self.standing.held.pretty(),
        )
    }
}

fn a_period(per: Per) -> &'static str {
    match per {
        Per::Hour => " an hour",
        Per::Day => " a day",
        Per::Week => " a week",
        Per::Month => " a month",
        Per::Total => " in all",
    }
}

impl Pipeline {
    /// Sets the money aside, as safely as the configuration asks, before anything is sent.
    pub(super) async fn held(&self, call: &mut Call, plan: &Plan) -> Result<Ticket, NotHeld> {
        let places = self.places(call, plan);
        if places.is_empty() {
            return self.held_freely(call, plan).await;
        }
        let hold = self.hold_of(call, plan);
        let wanted = hold.held.unwrap_or_else(|| self.ceiling(call, plan));
        let bounds: Vec<Bound> = places
            .iter()
            .map(|place| self.bound(place, wanted))
            .collect();
        let granted = self.ledger.hold_within(hold, bounds.clone()).await;
        let (ticket, judged) = match granted {
            Ok(Grant::Held(ticket, judged)) => (Some(ticket), judged),
            Ok(Grant::Over(judged)) => (None, judged),
            Err(error) => {
                let claims = bounds.into_iter().map(|bound| bound.claim).collect();
                let guarded = places.iter().any(|place| self.binds(place));
                return self.without_ledger(call, plan, claims, guarded, error);
            }
        };
        self.ledger_is_up();
        for (place, judged) in places.iter().zip(&judged) {
            self.note_budget(call, place, judged, wanted, ticket.is_some());
        }
        ticket.ok_or_else(|| {
            let full = places.into_iter().zip(judged);
            let full = full.filter(|(place, judged)| self.binds(place) && !judged.fits);
            NotHeld::Over(Box::new(OverBudget {
                full: full
                    .map(|(place, judged)| Full {
                        place,
                        standing: judged.standing,
                        wanted,
                    })
                    .collect(),
            }))
        })
    }

    /// What refuses this purchase as things stand, without holding anything: for an app that is
    /// told of a job before it is bought, and that could not be told of a refusal afterwards.
    pub(super) async fn no_room(&self, call: &mut Call, plan: &Plan) -> Option<OverBudget> {
        let refuses = |place: &Place| self.binds(place) && place.budget.budget.over == Over::Refuse;
        let mut places = self.places(call, plan);
        places.retain(refuses);
        let wanted = match &plan.quote {
            Some(quote) => quote.high,
            None => self.unpriced(plan),
        };
        let mut full = self.full(&places, wanted);
        if !full.is_empty() && self.ledger.flush().await.is_ok() {
            // What has just ended may not have been counted.
            full = self.full(&places, wanted);
        }
        for one in &full {
            let place = &one.place;
            let record = BudgetRecord {
                name: Arc::clone(&place.budget.name),
                bucket: place.label().into(),
                held: Usd::ZERO,
                left: one.standing.left(place.budget.budget.limit),
                did: BudgetDid::Refused,
            };
            keep(&mut call.decision.budgets, record);
        }
        (!full.is_empty()).then_some(OverBudget { full })
    }

    /// Those of `places` that have no room for so much, as far as this process knows.
    fn full(&self, places: &[Place], wanted: Usd) -> Vec<Full> {
        let all = places.iter().map(|place| Full {
            standing: self.ledger.standing(place),
            place: place.clone(),
            wanted,
        });
        all.filter(|full| !full.standing.fits(wanted, full.place.budget.budget.limit))
            .collect()
    }

    /// The buckets that an attempt counts in.
    fn places(&self, call: &Call, plan: &Plan) -> Vec<Place> {
        let budgets = &self.budgeting.budgets;
        if budgets.is_empty() {
            return Vec::new();
        }
        let (decision, model) = (&call.decision, plan.request.model.as_str());
        let facts = Facts {
            app: &decision.app,
            tags: decision.tags.iter().map(|tag| &**tag).collect(),
            user: decision.user.as_deref(),
            provider: plan.request.model.provider(),
            model,
            classes: budgets.classes_of(model),
            credential: decision.credential.as_deref(),
        };
        budgets.places(&facts, self.policy.now())
    }

    fn bound(&self, place: &Place, amount: Usd) -> Bound {
        Bound {
            claim: Claim {
                budget: Arc::clone(&place.budget.key),
                bucket: Arc::clone(&place.bucket),
                since: place.period.start,
                amount,
            },
            limit: place.budget.budget.limit,
            binds: self.binds(place),
        }
    }

    /// Whether a bucket without room keeps a call back. In observe mode none does.
    fn binds(&self, place: &Place) -> bool {
        place.budget.budget.binds() && self.policy.mode == Mode::Enforce
    }

    fn unpriced(&self, plan: &Plan) -> Usd {
        let images = u64::from(plan.request.n.max(1));
        self.budgeting.unpriced_hold.scaled(images, 1)
    }

    /// What is held for a model that the book does not know; says so, once a model as an alert.
    fn ceiling(&self, call: &mut Call, plan: &Plan) -> Usd {
        let model = &plan.request.model;
        let budgeting = &self.budgeting;
        let most = self.unpriced(plan);
        let text = format!(
            "{model} has no price in the book: {} is held for it",
            most.pretty()
        );
        let first = {
            let mut told = budgeting.told.lock();
            told.len() < MOST_TOLD && told.insert(model.clone())
        };
        if first {
            let cure = "add the model to a price book under `prices`";
            let notice = self.alert(NoticeLevel::Warning, format!("{text}; {cure}"));
            self.warn(&notice.with("model", model.as_str()));
        }
        call.decision.notes.push(text);
        most
    }

    /// Holds where no budget applies.
    async fn held_freely(&self, call: &Call, plan: &Plan) -> Result<Ticket, NotHeld> {
        let hold = self.hold_of(call, plan);
        let error = match self.ledger.hold_abreast(hold).await {
            Err(error) => error,
            Ok(ticket) => match ticket.durable().await {
                Ok(()) => {
                    self.ledger_is_up();
                    return Ok(ticket);
                }
                Err(error) => {
                    let _ = self.ledger.release(ticket);
                    error
                }
            },
        };
        self.without_ledger(call, plan, Vec::new(), false, error)
    }

    /// What becomes of a call that the ledger does not take.
    fn without_ledger(
        &self,
        call: &Call,
        plan: &Plan,
        claims: Vec<Claim>,
        guarded: bool,
        error: LedgerError,
    ) -> Result<Ticket, NotHeld> {
        let passes = match self.budgeting.when_down {
            WhenDown::Auto => !guarded,
            WhenDown::Open => true,
            WhenDown::Closed => false,
        };
        if !passes {
            return Err(NotHeld::Ledger(error));
        }
        let hold = self.hold_of(call, plan);
        let ticket = self.ledger.hold_anyway(hold, claims);
        let ticket = ticket.map_err(NotHeld::Ledger)?;
        if !self.budgeting.down.swap(true, Ordering::Relaxed) {
            let text = format!(
                "calls go on without the ledger, and what they cost is kept in memory until it takes it: {error}"
            );
            self.warn(&self.alert(NoticeLevel::Error, text));
        }
        Ok(ticket)
    }

    fn ledger_is_up(&self) {
        let down = &self.budgeting.down;
        if down.load(Ordering::Relaxed) && down.swap(false, Ordering::Relaxed) {
            let text = "the ledger takes entries again; what was kept in memory goes to it now";
            self.warn(&self.alert(NoticeLevel::Info, text.to_owned()));
        }
    }

    pub(super) fn hold_of(&self, call: &Call, plan: &Plan) -> Hold {
        let decision = &call.decision;
        Hold {
            call: decision.id.ulid(),
            attempt: call.attempts,
            at: self.policy.now(),
            app: Arc::clone(&decision.app),
            model: plan.request.model.clone(),
            tier: plan.request.tier,
            credential: decision.credential.clone(),
            user: decision.user.clone(),
            tags: (!decision.tags.is_empty()).then(|| decision.tags.join(",").into()),
            held: plan.quote.as_ref().map(|quote| quote.high),
            quote: plan.quote.as_ref().map(|quote| quote.expected),
            claims: Arc::default(),
        }
    }

    /// Keeps what a bucket said, and tells the operator of a mark that was reached.
    fn note_budget(
        &self,
        call: &mut Call,
        place: &Place,
        judged: &Judged,
        wanted: Usd,
        held: bool,
    ) {
        let budget = &place.budget.budget;
        let asked = call.degraded.iter().any(|name| *name == place.budget.name);
        let did = match judged.fits {
            false if budget.binds() => BudgetDid::Refused,
            false => BudgetDid::Warned,
            true if held && asked => BudgetDid::Degraded,
            true if judged.reached.is_some() => BudgetDid::Warned,
            true => BudgetDid::Ok,
        };
        let mut standing = judged.standing;
        if held {
            standing.held += wanted;
        }
        let record = BudgetRecord {
            name: Arc::clone(&place.budget.name),
            bucket: place.label().into(),
            held: if held { wanted } else { Usd::ZERO },
            left: standing.left(budget.limit),
            did,
        };
        keep(&mut call.decision.budgets, record);
        if let Some(mark) = judged.reached {
            self.tell_mark(place, standing, mark);
        }
    }

    /// Says that a mark of a bucket was reached: once for each, in each period.
    fn tell_mark(&self, place: &Place, standing: Standing, mark: u8) {
        let budget = &place.budget.budget;
        let label = place.label();
        let what = match mark {
            TURNED_AWAY => "has no room for a call".to_owned(),
            100 => "is used up".to_owned(),
            mark => format!("is used to {mark} %"),
        };
        let left = standing.left(budget.limit);
        let until = match place.period.end {
            Some(end) => format!(" until {end}"),
            None => String::new(),
        };
        let text = format!(
            "the budget `{}` ({label}) {what}: {} of {} spent, {} held, {} left{until}",
            budget.name,
            standing.spent.pretty(),
            budget.limit.pretty(),
            standing.held.pretty(),
            left.pretty(),
        );
        tracing::warn!("{text}");
        let mut notice = self
            .alert(NoticeLevel::Warning, text)
            .with("budget", budget.name.as_str())
            .with("bucket", label)
            .with("over", budget.over.as_str())
            .with("limit", budget.limit.to_string())
            .with("spent", standing.spent.to_string())
            .with("held", standing.held.to_string())
            .with("left", left.to_string());
        notice = match mark {
            TURNED_AWAY => notice.with("did", "refused"),
            mark => notice.with("used_percent", mark.to_string()),
        };
        if let Some(end) = place.period.end {
            notice = notice.with("resets_at", end.to_string());
        }
        self.warn(&notice);
    }

    fn alert(&self, level: NoticeLevel, text: String) -> Notice {
        let instance = Arc::clone(&self.policy.instance);
        Notice::new(Timestamp::now(), instance, NoticeKind::Alert, level, text)
    }

    /// Where alerts of budgets go.
    fn warn(&self, notice: &Notice) {
        self.log.notice(notice);
    }
}

/// Keeps what a bucket said last of a call.
fn keep(records: &mut Vec<BudgetRecord>, record: BudgetRecord) {
    let same = |old: &&mut BudgetRecord| old.name == record.name && old.bucket == record.bucket;
    match records.iter_mut().find(same) {
        Some(old) => *old = record,
        None => records.push(record),
    }
}

/// What several requests of one call were told, as one: all that was held, and the gravest word.
pub(super) fn together(records: &mut Vec<BudgetRecord>, part: BudgetRecord) {
    let same = |old: &&mut BudgetRecord| old.name == part.name && old.bucket == part.bucket;
    let Some(old) = records.iter_mut().find(same) else {
        return records.push(part);
    };
    let weight = |did| match did {
        BudgetDid::Ok => 0,
        BudgetDid::Warned => 1,
        BudgetDid::Degraded => 2,
        BudgetDid::Refused => 3,
    };
    old.held += part.held;
    old.left = old.left.min(part.left);
    if weight(part.did) > weight(old.did) {
        old.did = part.did;
    }
}
