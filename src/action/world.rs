//! What is known of the world outside a call: values of this moment, and lookups for hooks that
//! ask for more.
//!
//! A hook cannot wait, so every lookup answers at once, from memory. One that nobody has put in
//! place is `None`, and the hook that asks is told so.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;

use super::CallView;
pub use crate::budget::Per;
use crate::health::Board;
use crate::image::ModelId;
use crate::money::Usd;

/// What is known of the world outside the call.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Providers that a call can be sent to: a key is configured, or the app's own will do.
    pub keys: BTreeSet<String>,
    /// Budgets, and what was spent.
    pub funds: Option<Arc<dyn Funds>>,
    /// How models have been doing.
    pub health: Arc<Board>,
}

/// Budgets and spending as hooks may ask of them.
pub trait Funds: Debug + Send + Sync {
    /// The budget of that name as it stands for this call; `None` where it does not apply to it.
    ///
    /// # Errors
    /// The names of all budgets, where none has that name.
    fn budget(&self, name: &str, call: &CallView)
    -> Result<Option<Arc<BudgetView>>, Vec<Arc<str>>>;

    /// What was spent within the period that `at` is in.
    ///
    /// # Errors
    /// Why that cannot be told, in words for people.
    fn spent(&self, question: &Spending, at: Timestamp) -> Result<Usd, String>;
}

/// A budget at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetView {
    pub name: Arc<str>,
    pub limit: Usd,
    /// Booked in the period that runs.
    pub spent: Usd,
    /// Set aside for attempts under way.
    pub held: Usd,
    /// When the next period begins; `None` for a budget that never begins anew.
    pub resets_at: Option<Timestamp>,
}

impl BudgetView {
    /// What can still be held; never less than nothing.
    pub fn left(&self) -> Usd {
        (self.limit - self.spent - self.held).max(Usd::ZERO)
    }

    /// The part that is spent or held, from 0 to 1.
    pub fn used(&self) -> f64 {
        if self.left().is_zero() {
            return 1.0;
        }
        1.0 - self.left().nano() as f64 / self.limit.nano() as f64
    }
}

/// Whose spending is asked for, and in which period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spending {
    /// `None`: all apps together.
    pub app: Option<String>,
    /// `None`: all models together.
    pub model: Option<ModelId>,
    pub per: Per,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_by_what_is_spent_and_held_and_never_more_than_whole() {
        let budget = |limit: i64, spent: i64, held: i64| BudgetView {
            name: "day".into(),
            limit: Usd::from_nano(limit),
            spent: Usd::from_nano(spent),
            held: Usd::from_nano(held),
            resets_at: None,
        };
        for (view, left, used) in [
            (budget(100, 0, 0), 100, 0.0),
            (budget(100, 60, 20), 20, 0.8),
            (budget(100, 90, 30), 0, 1.0),
            (budget(0, 0, 0), 0, 1.0),
        ] {
            assert_eq!(view.left(), Usd::from_nano(left), "{view:?}");
            assert!((view.used() - used).abs() < 1e-9, "{view:?}");
        }
    }
}
