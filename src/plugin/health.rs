//! `pixtoll.health`: how a model is doing.

use std::sync::Arc;
use std::time::Instant;

use mlua::{Error, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};

use super::fault::raise;
use super::helpers::current;
use super::market::model_id;
use super::near::no_such;
use super::stage::Stage;
use super::view::{Fields, none, strict};
use crate::health::Health;
use crate::image::Tier;

pub(super) struct HealthRef(Health);

pub(super) const HEALTH_FIELDS: Fields<HealthRef> = &[
    ("state", |lua, health| {
        Ok(Value::String(lua.create_string(health.0.state.as_str())?))
    }),
    ("p50_ms", |_, health| Ok(number(health.0.p50_ms))),
    ("p95_ms", |_, health| Ok(number(health.0.p95_ms))),
    ("failures", |_, health| {
        Ok(number(Some(u64::from(health.0.failures))))
    }),
];

/// Lua's numbers are exact up to 2^53, and no time in milliseconds is longer.
fn number(of: Option<u64>) -> Value {
    of.map_or(Value::Nil, |n| Value::Number(n as f64))
}

impl UserData for HealthRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "health");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        strict(methods, "health", &[HEALTH_FIELDS], none);
    }
}

/// Puts the helper into the `pixtoll` table.
pub(super) fn install(lua: &Lua, table: &Table, stage: &Arc<Stage>) -> Result<(), Error> {
    let stage = Arc::clone(stage);
    let health = lua.create_function(move |lua, (model, tier): (String, Option<String>)| {
        let model = model_id(lua, &model)?;
        let call = current(lua, &stage, "health")?;
        let tier = match tier {
            None => call.request.tier,
            Some(word) => Tier::parse(&word).ok_or_else(|| {
                let all = Tier::ALL.iter().map(|tier| tier.as_str());
                let path = format!("pixtoll.health(…, \"{word}\")");
                raise(lua, no_such(&path, "tier", &word, all))
            })?,
        };
        let health = call.world.health.health(&model, tier, Instant::now());
        lua.create_userdata(HealthRef(health))
    })?;
    table.raw_set("health", health)
}
