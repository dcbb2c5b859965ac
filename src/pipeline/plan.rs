//! From a wish to an attempt: whether a target can be used now, and what exactly would be sent.

use std::sync::Arc;
use std::time::Duration;

use super::Pipeline;
use super::call::Call;
use super::provider::Provider;
use crate::action::{Applied, Route, Target};
use crate::bill::Quote;
use crate::cache::{Around, Key, Partition};
use crate::dialect::{Dialect, NOTE, PLACE, query};
use crate::image::capability::Unmet;
use crate::image::{Capability, Delivery, ImageRequest, ModelId};
use crate::money::Usd;
use crate::record::{By, Prompts, RuleRecord};
use crate::upstream::Destination;

/// One attempt, worked out and not yet made.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) provider: Arc<Provider>,
    pub(super) destination: Destination,
    pub(super) dialect: &'static dyn Dialect,
    /// Cut to the model's measure.
    pub(super) request: Arc<ImageRequest>,
    pub(super) quote: Option<Arc<Quote>>,
    /// The quote is the provider's own.
    pub(super) own_quote: bool,
    /// What its route may cost. The book's quote keeps to it; the provider's own has yet to.
    pub(super) bounds: Bounds,
    /// Nothing was changed: the app's own bytes go out.
    pub(super) untouched: bool,
    /// How many pictures each of its requests is asked for; none where one request asks for all.
    pub(super) calls: Vec<u32>,
    /// One of several requests of a plan, whose pictures are kept with the others'.
    pub(super) part: bool,
    /// The rule that sends it here.
    pub(super) by: Option<By>,
    pub(super) timeout: Option<Duration>,
    pub(super) lost: Vec<&'static str>,
    pub(super) unmet: Vec<Unmet>,
    /// What its route set, for the record.
    pub(super) applied: Applied,
    /// Why targets that its route named before this one were not taken.
    pub(super) passed_over: Vec<String>,
    /// The app's own credential goes along, as opposed to one of ours.
    pub(super) own_credential: bool,
}

/// The most that a route may cost, as far as its rule or its class says.
#[derive(Clone, Copy, Default)]
pub(super) struct Bounds {
    /// For what it may come to: `max_cost` of the route, or of its class.
    high: Option<Usd>,
    /// For what it is expected to come to: `max_share` of what was asked.
    expected: Option<Usd>,
}

impl Bounds {
    /// # Errors
    /// Why a quote lies beyond, in words for people.
    fn hold(&self, quote: &Quote) -> Result<(), String> {
        if let Some(most) = self.high.filter(|most| quote.high > *most) {
            let (quoted, most) = (quote.high.pretty(), most.pretty());
            return Err(format!("{quoted} is more than max_cost {most}"));
        }
        if let Some(most) = self.expected.filter(|most| quote.expected > *most) {
            let (quoted, most) = (quote.expected.pretty(), most.pretty());
            return Err(format!("{quoted} is more than max_share allows ({most})"));
        }
        Ok(())
    }

    /// So many of the pictures, `of` all.
    pub(super) fn part(self, pictures: u32, of: u32) -> Bounds {
        let part = |most: Usd| most.scaled(pictures.into(), of.max(1).into());
        Bounds {
            high: self.high.map(part),
            expected: self.expected.map(part),
        }
    }

    fn within(self, most: Option<Usd>) -> Bounds {
        let high = [self.high, most].into_iter().flatten().min();
        Bounds { high, ..self }
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("model", &self.request.model)
            .field("untouched", &self.untouched)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// Keeps in the record where a rule's route leads, what it sets there, and why targets before
    /// this one were passed over.
    pub(super) fn tell(&self, record: &mut RuleRecord, prompts: Prompts) {
        record.take(&self.applied, prompts);
        record.to = Some(self.request.model.to_string());
        let reasons = self.passed_over.iter().chain(&self.applied.skipped);
        let reasons: Vec<&str> = reasons.map(String::as_str).collect();
        record.skipped = (!reasons.is_empty()).then(|| reasons.join("; "));
    }
}

impl Pipeline {
    /// The plan for the call as the rules left it.
    ///
    /// # Errors
    /// Why nothing can be sent, in words for people.
    pub(super) fn plan_first(&self, call: &Call) -> Result<Plan, String> {
        match &call.route {
            Some(routed) => self.plan_route(call, &routed.route, Some(&routed.by)),
            None => self.plan_own(call),
        }
    }

    /// The plan to begin with. Where the route cannot be taken any more (a breaker opened, a later
    /// rule asks for what its targets cannot do), the call goes where its app addressed it, and
    /// the record says so.
    ///
    /// # Errors
    /// Why nothing can be sent, in words for people.
    pub(super) fn plan_now(&self, call: &mut Call) -> Result<Plan, String> {
        if call.route.is_some() {
            match self.plan_first(call) {
                Ok(plan) => return Ok(plan),
                Err(why) => {
                    let note = format!("the rule's route was not taken: {why}");
                    call.decision.notes.push(note);
                    call.route = None;
                }
            }
        }
        self.plan_own(call)
    }

    /// The plan for the model that the app itself named.
    pub(super) fn plan_own(&self, call: &Call) -> Result<Plan, String> {
        let arrived = &call.arrived;
        let untouched = call.is_as_asked(&call.request);
        let mut plan = Plan {
            provider: Arc::clone(&arrived.provider),
            destination: arrived.provider.reached_at(&arrived.destination).clone(),
            dialect: call.dialect(),
            quote: None,
            own_quote: false,
            bounds: Bounds::default(),
            request: Arc::clone(&call.request),
            untouched,
            calls: Vec::new(),
            part: false,
            by: None,
            timeout: None,
            lost: Vec::new(),
            unmet: Vec::new(),
            applied: Applied::default(),
            passed_over: Vec::new(),
            own_credential: true,
        };
        if !untouched && let Some(row) = self.book.model(&call.request.model) {
            let fitted = row
                .capability
                .fit(&call.request, &call.change.keep)
                .map_err(|misfit| misfit.why)?;
            plan.request = Arc::new(fitted.request);
            plan.calls = calls(&row.capability, &plan.request);
            plan.unmet = fitted.unmet;
            plan.lost = fitted.lost;
        }
        plan.quote = if untouched {
            call.asked_quote.clone()
        } else {
            self.book.quote_calls(&plan.request).map(Arc::new)
        };
        Ok(plan)
    }

    /// The plan for the first target of a route that can be used now; of a class, its cheapest
    /// member that fits.
    ///
    /// # Errors
    /// Why none can.
    pub(super) fn plan_route(
        &self,
        call: &Call,
        route: &Route,
        by: Option<&By>,
    ) -> Result<Plan, String> {
        let mut reasons = Vec::new();
        for target in &route.targets {
            match self.plan_target(call, route, target, by) {
                Ok(mut plan) => {
                    plan.passed_over = reasons;
                    return Ok(plan);
                }
                Err(why) => reasons.push(why),
            }
        }
        Err(if reasons.is_empty() {
            "the route names no target".to_owned()
        } else {
            reasons.join("; ")
        })
    }

    fn plan_target(
        &self,
        call: &Call,
        route: &Route,
        target: &Target,
        by: Option<&By>,
    ) -> Result<Plan, String> {
        match target {
            Target::Model(model) => self.plan_model(call, route, model, by),
            Target::Class(name) => {
                let class = self
                    .policy
                    .classes
                    .get(name)
                    .ok_or_else(|| format!("there is no class `{name}`"))?;
                let mut reasons = Vec::new();
                let mut plans = Vec::new();
                for model in &class.models {
                    match self.plan_model(call, route, model, by) {
                        Ok(plan) => plans.push(plan),
                        Err(why) => reasons.push(why),
                    }
                }
                plans.retain(|plan| match (class.max_cost, &plan.quote) {
                    (Some(most), Some(quote)) => quote.high <= most,
                    (Some(_), None) => false,
                    (None, _) => true,
                });
                for plan in &mut plans {
                    plan.bounds = plan.bounds.within(class.max_cost);
                }
                plans
                    .into_iter()
                    .min_by_key(|plan| plan.quote.as_ref().map_or(Usd::MAX, |quote| quote.expected))
                    .ok_or_else(|| {
                        format!(
                            "no member of class `{name}` can serve it: {}",
                            reasons.join("; ")
                        )
                    })
            }
        }
    }

    fn plan_model(
        &self,
        call: &Call,
        route: &Route,
        model: &ModelId,
        by: Option<&By>,
    ) -> Result<Plan, String> {
        if let Some(why) = call.dialect().stays(&call.asked) {
            return Err(format!("{model}: {why}"));
        }
        let provider = self
            .providers
            .named(model.provider())
            .ok_or_else(|| format!("{model}: no provider `{}` is configured", model.provider()))?;
        let row = self.book.model(model);
        let dialect = provider
            .dialect_for(row.map_or(model, |row| &row.id))
            .ok_or_else(|| match provider.dialects.is_empty() {
                true => format!(
                    "{model}: this version cannot speak to `{}` yet",
                    provider.name
                ),
                false => format!("{model}: this version does not speak the routes that it is on"),
            })?;
        let row = row.ok_or_else(|| format!("{model}: the price book does not know it"))?;
        let own = provider.name == call.arrived.provider.name;
        let destination = if own {
            provider.reached_at(&call.arrived.destination).clone()
        } else {
            provider
                .home()
                .cloned()
                .ok_or_else(|| format!("{model}: `{}` has no address", provider.name))?
        };
        if !own && provider.key.is_none() {
            return Err(format!(
                "{model}: no API key for `{}` (set providers.{}.api_key)",
                provider.name, provider.name
            ));
        }
        if row.capability.retired_at(call.decision.at) {
            return Err(format!("{model}: retired"));
        }
        let mut request = (*call.request).clone();
        request.model = row.id.clone();
        let change = &route.change;
        let mut applied = change.apply(&mut request, &|request: &ImageRequest| {
            self.measure(request)
        });
        let keep = if change.keep == crate::image::capability::Keep::Nothing {
            &call.change.keep
        } else {
            &change.keep
        };
        if !change.tiers.is_empty() {
            request.tier = self.pick_tier(call, row, &change.tiers)?;
            applied.set.push(("tier", request.tier.to_string()));
        } else if !call.change.tiers.is_empty()
            && let Ok(tier) = self.pick_tier(call, row, &call.change.tiers)
        {
            request.tier = tier;
        }
        let fitted = row
            .capability
            .fit(&request, keep)
            .map_err(|misfit| format!("{model}: {}", misfit.why))?;
        let mut request = fitted.request;
        let mut lost = fitted.lost;
        if dialect.name() != call.dialect().name() {
            let place = request.extra.remove_entry(PLACE).filter(|_| own);
            request.extra.retain(|name, _| !name.starts_with(NOTE));
            if !request.extra.is_empty() {
                if keep.covers("extra") {
                    let fields: Vec<&str> = request.extra.keys().map(String::as_str).collect();
                    return Err(format!(
                        "{model}: `extra` must be kept and the model has no word for {}",
                        fields.join(", ")
                    ));
                }
                request.extra.clear();
                lost.push("extra");
            }
            request.extra.extend(place);
        }
        if !row.capability.stream {
            request.stream = false;
        }
        request.delivery = delivery_for(&request, &row.capability.deliveries);
        // A picture that is paid for must reach its caller.
        let wants_url = call.asked.delivery == Delivery::Url;
        if wants_url && request.delivery != Delivery::Url && self.policy.public_url.is_none() {
            return Err(format!(
                "{model}: it gives no URLs, the app wants one, and pixtoll has no address to serve it under (set public_url)"
            ));
        }
        let named = |why: String| format!("{model}: {why}");
        self.usable(call, &row.id, request.tier).map_err(named)?;
        let quote = row.quote_calls(&request);
        call.affords(quote.as_ref()).map_err(named)?;
        let bounds = within_bounds(call, route, model, quote.as_ref())?;
        let untouched = own && request == *call.asked;
        Ok(Plan {
            provider: Arc::clone(provider),
            destination,
            dialect,
            quote: quote.map(Arc::new),
            own_quote: false,
            bounds,
            calls: match untouched {
                true => Vec::new(),
                false => calls(&row.capability, &request),
            },
            request: Arc::new(request),
            part: false,
            untouched,
            by: by.cloned(),
            timeout: route.timeout,
            lost,
            unmet: fitted.unmet,
            applied,
            passed_over: Vec::new(),
            own_credential: own,
        })
    }

    /// The identity of a purchase of `request` for this call.
    pub(super) fn key_of(&self, call: &Call, request: &Arc<ImageRequest>) -> Key {
        let make = || self.make_key(call, request, &call.partition, call.variant);
        if call.variant == 0 && Arc::ptr_eq(request, &call.asked) {
            call.asked_key.get_or_init(make).clone()
        } else {
            make()
        }
    }

    /// The identity of what was asked, as it arrived: whatever the rules make of who may share it.
    pub(super) fn key_as_arrived(&self, call: &Call) -> Key {
        let make = || self.make_key(call, &call.asked, &call.own_partition, 0);
        match call.partition == call.own_partition {
            true => call.asked_key.get_or_init(make).clone(),
            false => make(),
        }
    }

    fn make_key(
        &self,
        call: &Call,
        request: &ImageRequest,
        partition: &Partition,
        variant: u32,
    ) -> Key {
        let dialect = call.dialect();
        let asked = call.arrived.head.target.query();
        let telling = asked.and_then(|asked| query::without(asked, dialect.inert_query()));
        let around = Around {
            partition,
            query: telling.as_deref(),
            variant,
            inert: dialect.inert(),
        };
        Key::of(request, &around)
    }
}

/// The requests that bring the pictures, where one does not bring them all.
fn calls(capability: &Capability, request: &ImageRequest) -> Vec<u32> {
    match request.n > capability.max_n.max(1) {
        true => capability.calls_for(request.n).collect(),
        false => Vec::new(),
    }
}

/// How the provider is to hand its pictures over: as the caller wants them if it can, so that
/// nothing need be re-encoded.
fn delivery_for(request: &ImageRequest, offered: &[Delivery]) -> Delivery {
    if offered.contains(&request.delivery) || offered.is_empty() {
        return request.delivery;
    }
    if offered.contains(&Delivery::Base64) {
        Delivery::Base64
    } else {
        offered[0]
    }
}

fn within_bounds(
    call: &Call,
    route: &Route,
    model: &ModelId,
    quote: Option<&Quote>,
) -> Result<Bounds, String> {
    let share = |thousandths| {
        let asked = call.asked_quote.as_ref();
        let asked =
            asked.ok_or_else(|| format!("{model}: what was asked has no price to share"))?;
        Ok::<Usd, String>(asked.expected.scaled(thousandths, 1000))
    };
    let bounds = Bounds {
        high: route.max_cost,
        expected: route.max_share.map(share).transpose()?,
    };
    let what = match (bounds.high, bounds.expected) {
        (Some(_), _) => "max_cost",
        (None, Some(_)) => "max_share",
        (None, None) => return Ok(bounds),
    };
    let quote = quote.ok_or_else(|| format!("{model}: unpriced, and the route has a {what}"))?;
    bounds
        .hold(quote)
        .map_err(|why| format!("{model}: {why}"))?;
    Ok(bounds)
}

impl Plan {
    /// Whether the provider's own quote keeps to what its route may cost.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub(super) fn keeps_to_bounds(&self) -> Result<(), String> {
        let Some(own) = self.quote.as_deref().filter(|_| self.own_quote) else {
            return Ok(());
        };
        let model = &self.request.model;
        let told = |why| format!("{model}: by its provider's own quote {why}");
        self.bounds.hold(own).map_err(told)
    }
}
