//! Helpers that look beyond the call: `pixtoll.spend`, `pixtoll.health`.

use std::sync::Arc;
use std::time::Duration;

use mlua::{Error, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

use super::args::{Given, options};
use super::fault::raise;
use super::helpers::subject;
use super::money::Money;
use super::stage::Stage;
use super::view::{Fields, count, none, strict, text};
use crate::action::{HealthView, Per, Spending};
use crate::image::{ModelId, Tier};

/// Options of `pixtoll.spend`.
pub(super) const SPEND_OPTIONS: &[&str] = &["app", "model", "per"];

/// Puts the helpers into the `pixtoll` table.
pub(super) fn install(lua: &Lua, table: &Table, stage: &Arc<Stage>) -> Result<(), Error> {
    let held = Arc::clone(stage);
    let spend = lua.create_function(move |lua, table: Option<Table>| {
        let question = question(table.as_ref()).map_err(|why| raise(lua, why))?;
        let subject = subject(lua, &held, "spend")?;
        let funds = subject.world().funds.as_ref();
        let funds = funds.ok_or_else(|| raise(lua, absent("spend")))?;
        let spent = funds.spent(&question, subject.at());
        spent.map(Money).map_err(|why| raise(lua, why))
    })?;
    table.raw_set("spend", spend)?;
    let held = Arc::clone(stage);
    let health = lua.create_function(move |lua, (model, tier): (Value, Value)| {
        let (model, tier) = which(model, tier).map_err(|why| raise(lua, why))?;
        let subject = subject(lua, &held, "health")?;
        let health = subject.world().health.as_ref();
        let health = health.ok_or_else(|| raise(lua, absent("health")))?;
        Ok(HealthRef(health.health(&model, tier)))
    })?;
    table.raw_set("health", health)
}

fn absent(helper: &str) -> String {
    format!("pixtoll.{helper} is not available in this version")
}

fn question(table: Option<&Table>) -> Result<Spending, String> {
    let mut asked = Spending {
        app: None,
        model: None,
        per: Per::Day,
    };
    let Some(table) = table else {
        return Ok(asked);
    };
    options("pixtoll.spend", table, SPEND_OPTIONS, |given| {
        match given.name {
            "app" => asked.app = Some(given.text()?),
            "model" => asked.model = Some(model(&given)?),
            _ => asked.per = given.word(Per::ALL, Per::as_str)?,
        }
        Ok(())
    })?;
    Ok(asked)
}

fn model(given: &Given<'_>) -> Result<ModelId, String> {
    let text = given.text()?;
    ModelId::parse(&text)
        .ok_or_else(|| format!("`{text}` names no provider: write it like stability/sd3.5-medium"))
}

/// The arguments of `pixtoll.health`.
fn which(model_named: Value, tier: Value) -> Result<(ModelId, Option<Tier>), String> {
    let given = |name, value| Given {
        of: "pixtoll.health",
        name,
        value,
    };
    let tier = match tier {
        Value::Nil => None,
        value => Some(given("tier", value).word(Tier::ALL, Tier::as_str)?),
    };
    Ok((model(&given("model", model_named))?, tier))
}

/// What `pixtoll.health` returns.
pub(super) struct HealthRef(HealthView);

pub(super) const HEALTH_FIELDS: Fields<HealthRef> = &[
    ("state", |lua, h| text(lua, h.0.state.as_str())),
    ("p50_ms", |_, h| Ok(millis(h.0.p50))),
    ("p95_ms", |_, h| Ok(millis(h.0.p95))),
    ("failures", |_, h| Ok(count(h.0.failures))),
];

fn millis(duration: Option<Duration>) -> Value {
    duration.map_or(Value::Nil, |d| Value::Number(d.as_millis() as f64))
}

impl UserData for HealthRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "health");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "health", &[HEALTH_FIELDS], none);
    }
}
