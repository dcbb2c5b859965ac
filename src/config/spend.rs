//! What may be spent: model classes with their caps, budgets, and the hold for the unpriced.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::doors::App;
use super::problem::{Place, Problem, nearest};
use super::provider::Providers;
use super::raw::{Field, RawBudget, RawClass, RawFilter, Value};
use super::read::{Reader, readable};
pub use crate::budget::{Budget, Dimension, Over, Per};
use crate::image::ModelId;
use crate::money::Usd;

/// Models that a rule may choose among.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Each one can be sent to: its provider is known and speaks a dialect of this release.
    pub models: Vec<ModelId>,
    /// A route into the class never exceeds this, by the quote's high end. More than zero.
    pub max_cost: Option<Usd>,
}

readable!(Per, Dimension, Over);

/// Where each budget stands, for what is found out about it later. No setting: configurations that
/// differ in it alone are equal.
#[derive(Clone, Default)]
pub struct BudgetPlaces(BTreeMap<String, Place>);

impl BudgetPlaces {
    /// A problem with the budget of that name, at its place.
    pub fn problem(&self, budget: &str, code: &'static str, message: String) -> Problem {
        match self.0.get(budget) {
            Some(place) => Problem::at(place, code, message),
            None => Problem::anywhere(code, message),
        }
    }
}

impl PartialEq for BudgetPlaces {
    fn eq(&self, _: &BudgetPlaces) -> bool {
        true
    }
}

impl std::fmt::Debug for BudgetPlaces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BudgetPlaces")
    }
}

/// What budgets and classes may refer to.
pub(super) struct Names<'a> {
    pub(super) providers: &'a Providers,
    pub(super) apps: &'a BTreeMap<String, App>,
}

/// Reads `classes`.
pub(super) fn classes(
    field: &Field<'_>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Class> {
    let mut classes = BTreeMap::new();
    for (name, field) in field.entries(&mut reader.problems) {
        classes.insert(name.to_owned(), class(&field, names, reader));
    }
    classes
}

fn class(field: &Field<'_>, names: &Names<'_>, reader: &mut Reader<'_>) -> Class {
    let raw = RawClass::read(field, &mut reader.problems);
    let mut class = Class::default();
    let example = "[openai/gpt-image-1]";
    match &raw.models {
        None => reader.missing(
            field,
            "models",
            format!("name its models, as in `models: {example}`"),
        ),
        Some(field) => {
            for item in reader.items(field, example) {
                let Some(model) = routable(&item, names, reader) else {
                    continue;
                };
                if class.models.contains(&model) {
                    reader.bad(
                        &item,
                        format!("`{model}` stands here twice"),
                        "keep one of the two",
                    );
                    continue;
                }
                class.models.push(model);
            }
            if matches!(&field.node.value, Value::List(items) if items.is_empty()) {
                reader.bad(
                    field,
                    "a class without a model",
                    format!("write `models: {example}`"),
                );
            }
        }
    }
    if let Some(field) = &raw.max_cost {
        class.max_cost = reader.usd(field, "0.04", false);
    }
    class
}

/// A model with its provider.
fn model(field: &Field<'_>, names: &Names<'_>, reader: &mut Reader<'_>) -> Option<ModelId> {
    let model = reader.parsed(field, "[stability/sd3.5-medium]", |text| {
        ModelId::parse(text).ok_or_else(|| "names no provider".to_owned())
    })?;
    known_provider(model.provider(), field, names, reader).then_some(model)
}

/// A model that calls can be sent to.
fn routable(field: &Field<'_>, names: &Names<'_>, reader: &mut Reader<'_>) -> Option<ModelId> {
    let model = model(field, names, reader)?;
    let provider = names.providers.get(model.provider())?;
    let name = &provider.name;
    if provider.dialects.is_empty() {
        reader.bad(
            field,
            format!("this release does not speak with `{name}` yet, so nothing can be sent to `{model}`"),
            format!("take it out; if the server speaks a known dialect, say so: `providers: {{{name}: {{dialect: openai}}}}`"),
        );
    } else if provider.target().is_none() {
        reader.bad(
            field,
            format!("nobody said where `{name}` is, so nothing can be sent to `{model}`"),
            format!("say it: `providers: {{{name}: {{upstream: \"https://…\"}}}}`"),
        );
    }
    Some(model)
}

fn known_provider(
    name: &str,
    field: &Field<'_>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) -> bool {
    if names.providers.get(name).is_some() {
        return true;
    }
    let all = names
        .providers
        .iter()
        .map(|provider| provider.name.as_str());
    let remedy = match nearest(name, all) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "name one that this release knows, or one of your own under `providers`".to_owned(),
    };
    reader.bad(field, format!("there is no provider `{name}`"), remedy);
    false
}

/// Reads `budgets`.
pub(super) fn budgets(
    field: &Field<'_>,
    classes: &BTreeMap<String, Class>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) -> (Vec<Budget>, BudgetPlaces) {
    let mut budgets: Vec<Budget> = Vec::new();
    let mut places = BudgetPlaces::default();
    let mut seen = BTreeSet::new();
    for item in reader.items(field, "[{name: daily, limit: 25.00, per: day}]") {
        let raw = RawBudget::read(&item, &mut reader.problems);
        if let Some(budget) = budget(&item, &raw, classes, names, reader) {
            if !seen.insert(budget.name.clone()) {
                let at = raw.name.as_ref().unwrap_or(&item);
                reader.bad(
                    at,
                    format!("there is a budget `{}` already", budget.name),
                    "give each a name of its own: rules and reports call them by it",
                );
            }
            places.0.insert(budget.name.clone(), item.place().clone());
            budgets.push(budget);
        }
    }
    (budgets, places)
}

fn budget(
    field: &Field<'_>,
    raw: &RawBudget<'_>,
    classes: &BTreeMap<String, Class>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) -> Option<Budget> {
    let name = required(raw.name.as_ref(), field, "name", "daily", reader)
        .and_then(|field| reader.text(field, "daily"));
    let limit = required(raw.limit.as_ref(), field, "limit", "25.00", reader)
        .and_then(|field| reader.usd(field, "25.00", true));
    let per = required(raw.per.as_ref(), field, "per", "day", reader)
        .and_then(|field| reader.word(field));
    let zone = match &raw.zone {
        Some(field) => zone(field, reader)?,
        None => TimeZone::UTC,
    };
    let by = raw.by.as_ref().and_then(|field| reader.word(field));
    let only = raw
        .only
        .as_ref()
        .map(|field| filter(field, classes, names, reader));
    let over = raw.over.as_ref().and_then(|field| reader.word(field));
    Some(Budget {
        name: name?,
        limit: limit?,
        per: per?,
        zone,
        by,
        only: only.unwrap_or_default(),
        over: over.unwrap_or(Over::Refuse),
    })
}

fn required<'r, 'f>(
    given: Option<&'r Field<'f>>,
    of: &Field<'_>,
    key: &str,
    example: &str,
    reader: &mut Reader<'_>,
) -> Option<&'r Field<'f>> {
    // What is no map was reported as such; it lacks no key.
    if given.is_none() && matches!(of.node.value, Value::Map(_)) {
        reader.missing(of, key, format!("write it like `{key}: {example}`"));
    }
    given
}

fn zone(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<TimeZone> {
    reader.parsed(field, "Europe/Berlin", |text| {
        TimeZone::get(text).map_err(|_| "is no time zone that this machine knows".to_owned())
    })
}

fn filter(
    field: &Field<'_>,
    classes: &BTreeMap<String, Class>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) -> BTreeMap<&'static str, Vec<String>> {
    let raw = RawFilter::read(field, &mut reader.problems);
    let mut only = BTreeMap::new();
    let dimensions = [
        (Dimension::App, &raw.app),
        (Dimension::Tag, &raw.tag),
        (Dimension::User, &raw.user),
        (Dimension::Provider, &raw.provider),
        (Dimension::Model, &raw.model),
        (Dimension::Class, &raw.class),
        (Dimension::Credential, &raw.credential),
    ];
    for (dimension, field) in dimensions {
        let Some(field) = field else { continue };
        let mut values = Vec::new();
        for item in reader.items(field, "[catalog]") {
            if let Some(value) = reader.text(&item, "catalog") {
                check_value(dimension, &value, &item, classes, names, reader);
                values.push(value);
            }
        }
        if matches!(&field.node.value, Value::List(items) if items.is_empty()) {
            reader.bad(
                field,
                "an empty list fits no call",
                "name a value, or take the key out",
            );
        }
        only.insert(dimension.as_str(), values);
    }
    only
}

/// A budget for something that does not exist would never hold anything, and nobody would notice.
fn check_value(
    dimension: Dimension,
    value: &str,
    field: &Field<'_>,
    classes: &BTreeMap<String, Class>,
    names: &Names<'_>,
    reader: &mut Reader<'_>,
) {
    match dimension {
        Dimension::Provider => {
            known_provider(value, field, names, reader);
        }
        Dimension::Model => {
            model(field, names, reader);
        }
        Dimension::Class if !classes.contains_key(value) => {
            let remedy = match nearest(value, classes.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "define it under `classes`".to_owned(),
            };
            reader.bad(field, format!("there is no class `{value}`"), remedy);
        }
        Dimension::App if !names.apps.is_empty() && !names.apps.contains_key(value) => {
            let remedy = match nearest(value, names.apps.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `apps`, or leave it if apps name themselves".to_owned(),
            };
            let why = format!("no app `{value}` stands under `apps`");
            reader.warn(field, "unknown_app", why, remedy);
        }
        Dimension::Credential if !is_digest(value) => reader.bad(
            field,
            "a credential is named by eight hex digits",
            "copy `credential` from a line of the decision log; never write a key here",
        ),
        _ => {}
    }
}

fn is_digest(value: &str) -> bool {
    value.len() == 8
        && value
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The default of `unpriced_hold`: a dollar an image.
pub(super) const UNPRICED_HOLD: Usd = Usd::from_nano(1_000_000_000);

/// Reads `unpriced_hold`, which is never zero: an unknown price is not nothing.
pub(super) fn unpriced_hold(field: Option<&Field<'_>>, reader: &mut Reader<'_>) -> Usd {
    field
        .and_then(|field| reader.usd(field, "1.00", false))
        .unwrap_or(UNPRICED_HOLD)
}

/// Warns where a budget hands over to plugins and there is none.
pub(super) fn nobody_to_ask(field: &Field<'_>, budgets: &[Budget], reader: &mut Reader<'_>) {
    if let Some(budget) = budgets.iter().find(|budget| budget.over == Over::Plugin) {
        let message = format!(
            "the budget `{}` asks plugins when it is spent, and there are none: it will refuse",
            budget.name
        );
        reader.warnings.push(
            Problem::at(field.place(), "no_plugin", message)
                .remedy("add a plugin with `on_budget`, or say `over: refuse`"),
        );
    }
}
