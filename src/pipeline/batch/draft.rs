//! From a wish to a line: read, priced and put to the rules as a call would be, and sent nowhere.

use std::sync::Arc;

use crate::action::{CacheMode, Via};
use crate::bill::Quote;
use crate::cache::Key;
use crate::image::{ModelId, Tier};
use crate::pipeline::Pipeline;
use crate::pipeline::call::{Arrived, Call, Caller, Recognised};
use crate::pipeline::own_headers::Told;
use crate::pipeline::plan::{Bounds, Plan};

use super::Wish;

/// A line as it would be sent.
#[derive(Debug)]
pub struct Draft {
    pub(super) name: String,
    pub(super) call: Box<Call>,
    pub(super) plan: Plan,
    pub(super) key: Key,
    known: bool,
}

/// Why a wish is no line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undrafted {
    pub message: String,
    pub remedy: String,
}

fn undrafted(message: impl Into<String>, remedy: impl Into<String>) -> Undrafted {
    Undrafted {
        message: message.into(),
        remedy: remedy.into(),
    }
}

impl Draft {
    /// As its file calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it would be sent.
    pub fn model(&self) -> &ModelId {
        &self.plan.request.model
    }

    /// What it would cost in a batch.
    pub fn quote(&self) -> Option<&Quote> {
        self.plan.quote.as_deref()
    }

    /// What it was expected to cost as it was asked, by itself.
    pub fn asked_quote(&self) -> Option<&Quote> {
        self.call.asked_quote.as_deref()
    }

    /// Whether its answer is at hand already: nothing need be bought.
    pub fn known(&self) -> bool {
        self.known
    }

    /// What tells it from other lines: equal lines want the same picture.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Fields that the model has no word for.
    pub fn lost(&self) -> &[&'static str] {
        &self.plan.lost
    }
}

impl Pipeline {
    /// What a wish would be as a line of a batch, for the configured key.
    ///
    /// # Errors
    /// [`Undrafted`] when it cannot be read, when a rule or the model's provider does not take it,
    /// and when nobody knows its price.
    pub async fn draft(&self, wish: Wish, caller: &Caller) -> Result<Draft, Undrafted> {
        let name = wish.name.clone();
        let arrived = self.arrive(wish, caller.clone())?;
        let mut call = self
            .read(arrived)
            .map_err(|unread| undrafted(unread.why.to_string(), "correct the field in the file"))?;
        if call.asked.stream {
            return Err(undrafted(
                "stream: a batch brings whole answers",
                "take it out",
            ));
        }
        self.consult_rules(&mut call).await.map_err(|refused| {
            let remedy = refused.remedy.unwrap_or_default();
            undrafted(refused.refusal.message, remedy)
        })?;
        let plan = self.plan_first(&call).map_err(|why| {
            undrafted(why, "name another target in the rule, or take the line out")
        })?;
        let plan = self.in_batch(plan)?;
        if let CacheMode::Bypass | CacheMode::Off = call.cache_mode() {
            return Err(undrafted(
                "a rule keeps it out of the cache, so nobody could be given what a batch buys",
                "take the line out, or change the rule",
            ));
        }
        let key = self.key_of(&call, &plan.request);
        let refresh = call.cache_mode() == CacheMode::Refresh;
        let known = !refresh && (self.store.get(&key).is_some() || self.on_shelf(&key).await);
        Ok(Draft {
            name,
            call,
            plan,
            key,
            known,
        })
    }

    /// A wish as though an app had sent it, with the configured key.
    pub(super) fn arrive(&self, wish: Wish, caller: Caller) -> Result<Arrived, Undrafted> {
        let name = &wish.provider;
        let provider = self.providers.named(name).ok_or_else(|| {
            undrafted(
                format!("no provider `{name}` is configured"),
                "name one that is, or add it under `providers`",
            )
        })?;
        let key = provider.key.as_ref().ok_or_else(|| {
            undrafted(
                format!("no API key for `{name}`"),
                format!("set providers.{name}.api_key, or its usual variable in the environment"),
            )
        })?;
        let home = provider.home().ok_or_else(|| {
            undrafted(
                format!("`{name}` has no address"),
                format!("set providers.{name}.upstream"),
            )
        })?;
        let mut head = wish.head;
        head.host = home.host.to_string();
        wish.dialect.authorize(&mut head.headers, key.expose());
        let operation = wish.dialect.claims(&head).ok_or_else(|| {
            undrafted(
                format!("{}: no image call", head.path()),
                "a line is a call for pictures",
            )
        })?;
        Ok(Arrived {
            destination: home.clone(),
            provider: Arc::clone(provider),
            recognised: Recognised {
                dialect: wish.dialect,
                operation,
            },
            head: Arc::new(head),
            body: wish.body,
            room: Arc::new(self.memory.room()),
            via: Via::Gateway,
            caller,
            told: Told::default(),
        })
    }

    /// The plan as a line of a batch.
    pub(super) fn in_batch(&self, plan: Plan) -> Result<Plan, Undrafted> {
        let model = &plan.request.model;
        let Some(row) = self.book.model(model) else {
            return Err(undrafted(
                format!("{model}: the price book does not know it, so nobody knows what it costs"),
                "correct the name, or add the model to a price book under `prices`",
            ));
        };
        if plan.dialect.batches().is_none() || !row.capability.tiers.contains(&Tier::Batch) {
            return Err(undrafted(
                format!("{model}: takes no batches"),
                "name one that does: openai/gpt-image-2, google/gemini-2.5-flash-image …",
            ));
        }
        if plan.request.n > row.capability.max_n.max(1) {
            return Err(undrafted(
                format!("n: {model} makes {} a call", row.capability.max_n),
                "ask for fewer",
            ));
        }
        let mut request = (*plan.request).clone();
        request.tier = Tier::Batch;
        Ok(Plan {
            quote: row.quote(&request).map(Arc::new),
            request: Arc::new(request),
            own_quote: false,
            bounds: Bounds::default(),
            ..plan
        })
    }

    async fn on_shelf(&self, key: &Key) -> bool {
        self.look_on_shelf(key).await;
        self.store.get(key).is_some()
    }
}
