//! Rules that are asked when a budget has no room for a call, and what they may ask of budgets.
//!
//! They may have it made cheaper, moved, or refused. What they make of it is another purchase: it
//! looks for its own key, and is held again; if that does not fit either, the call is refused.

use std::sync::Arc;

use jiff::Timestamp;

use super::Pipeline;
use super::budgets::{Budgeting, OverBudget};
use super::call::Call;
use super::plan::Plan;
use super::rescue::Rescued;
use crate::action::{BudgetView, CallView, Funds, Spending, World};
use crate::budget::{Facts, Place, Standing};
use crate::ledger::Ledger;
use crate::money::Usd;
use crate::record::BudgetDid;

const ON_BUDGET: &str = "on_budget";

impl Pipeline {
    /// What the rules make of a call that budgets have no room for.
    ///
    /// # Errors
    /// The refusal, where they make nothing of it: only of budgets that ask them something can be
    /// made.
    pub(super) async fn consult_on_budget(
        &self,
        call: &mut Call,
        over: &OverBudget,
    ) -> Result<Plan, Rescued> {
        if !over.asks_rules() {
            return Err(over.rescued());
        }
        let before = call.decision.rules.len();
        for (place, standing) in over.full() {
            let budget = Arc::new(view(place, standing));
            for plugin in self.plugins.iter().filter(|plugin| plugin.has_on_budget()) {
                let seen = Arc::new(self.view(call));
                let outcome = plugin.on_budget(seen, Arc::clone(&budget)).await;
                self.take(call, plugin, ON_BUDGET, outcome).await?;
            }
        }
        let said = &call.decision.rules[before..];
        if !said.iter().any(|rule| rule.applied) {
            return Err(over.rescued());
        }
        self.note_decided(call);
        let plan = self.plan_first(call).map_err(|why| {
            call.decision.notes.push(format!(
                "what the rules made of it over budget cannot be sent: {why}"
            ));
            over.rescued()
        })?;
        for (place, _) in over.full() {
            let name = &place.budget.name;
            call.degraded.push(Arc::clone(name));
            for record in call
                .decision
                .budgets
                .iter_mut()
                .filter(|record| record.name == *name)
            {
                record.did = BudgetDid::Degraded;
            }
        }
        Ok(plan)
    }

    /// The same with other budgets in force, for the calls to come. The ledger is to be told of
    /// them ([`Ledger::guard`]) once these have taken over.
    #[must_use]
    pub fn with_budgets(mut self, budgeting: Budgeting) -> Pipeline {
        self.budgeting = Arc::new(budgeting);
        let funds = Arc::new(Purse {
            ledger: self.ledger.clone(),
            budgeting: Arc::clone(&self.budgeting),
            user_key: self.policy.credential_key,
        });
        self.world = Arc::new(World {
            funds: Some(funds),
            ..World::clone(&self.world)
        });
        self
    }
}

/// What hooks may ask about money: the ledger's own figures, from memory.
struct Purse {
    ledger: Ledger,
    budgeting: Arc<Budgeting>,
    user_key: [u8; 32],
}

impl std::fmt::Debug for Purse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Purse")
    }
}

impl Funds for Purse {
    /// Where a call counts in several buckets of one budget, the fullest of them.
    fn budget(
        &self,
        name: &str,
        call: &CallView,
    ) -> Result<Option<Arc<BudgetView>>, Vec<Arc<str>>> {
        let budgets = &self.budgeting.budgets;
        let all = || {
            budgets
                .iter()
                .map(|kept| Arc::clone(&kept.name))
                .collect::<Vec<_>>()
        };
        let kept = budgets.named(name).ok_or_else(all)?;
        let model = &call.request.model;
        let user = call.user.as_deref();
        let user = user.map(|user| super::user_digest(&self.user_key, user));
        let facts = Facts {
            app: &call.app,
            tags: call.tags.iter().map(|tag| &**tag).collect(),
            user: user.as_deref(),
            provider: model.provider(),
            model: model.as_str(),
            classes: budgets.classes_of(model.as_str()),
            credential: call.credential.as_deref(),
        };
        let places = kept.places(&facts, call.at).into_iter();
        let standing = |place: Place| (self.ledger.standing(&place), place);
        let fullest = places
            .map(standing)
            .max_by_key(|(standing, _)| standing.used());
        Ok(fullest.map(|(standing, place)| Arc::new(view(&place, standing))))
    }

    fn spent(&self, question: &Spending, at: Timestamp) -> Result<Usd, String> {
        let model = question.model.as_ref().map(|model| model.as_str());
        Ok(self
            .ledger
            .spent(question.app.as_deref(), model, question.per, at))
    }
}

fn view(place: &Place, standing: Standing) -> BudgetView {
    BudgetView {
        name: Arc::clone(&place.budget.name),
        limit: place.budget.budget.limit,
        spent: standing.spent,
        held: standing.held,
        resets_at: place.period.end,
    }
}
