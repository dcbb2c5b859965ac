//! Helpers that ask the price book: `pixtoll.quote`, `supports`, `cheapest`, `successor`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mlua::{AnyUserData, Error, IntoLuaMulti, Lua, MultiValue, Table, Value};

use super::actions;
use super::args::{Given, options};
use super::fault::raise;
use super::helpers::current;
use super::near::no_such;
use super::stage::Stage;
use super::view::{self, RequestRef};
use super::{House, Search};
use crate::action::CallView;
use crate::image::capability::Keep;
use crate::image::{ImageRequest, ModelId};
use crate::money::Usd;

/// Options of `pixtoll.cheapest`.
pub(super) const CHEAPEST_OPTIONS: &[&str] = &["class", "among", "max_cost", "keep", "deadline"];

/// Puts the helpers into the `pixtoll` table.
pub(super) fn install(lua: &Lua, table: &Table, stage: &Arc<Stage>) -> Result<(), Error> {
    let house = Arc::clone(&stage.house);
    let quote = lua.create_function(move |lua, (request, model): (Value, Option<String>)| {
        let mut request = asked(lua, "quote", &request)?;
        if let Some(text) = model {
            request.model = model_id(lua, &text)?;
        }
        view::quote(lua, house.prices.quote(&request).map(Arc::new))
    })?;
    table.raw_set("quote", quote)?;
    let held = Arc::clone(stage);
    let supports = lua.create_function(move |lua, (model, request): (String, Value)| {
        let model = model_id(lua, &model)?;
        let request = asked(lua, "supports", &request)?;
        let at = current(lua, &held, "supports")?.at;
        match held.house.prices.supports(&model, &request, at) {
            Ok(()) => true.into_lua_multi(lua),
            Err(why) => (false, why).into_lua_multi(lua),
        }
    })?;
    table.raw_set("supports", supports)?;
    let held = Arc::clone(stage);
    let cheapest = lua.create_function(move |lua, (request, bounds): (Value, Option<Table>)| {
        let request = asked(lua, "cheapest", &request)?;
        let call = current(lua, &held, "cheapest")?;
        let bounds = match bounds {
            Some(table) => Bounds::read(&table, &held.house).map_err(|why| raise(lua, why))?,
            None => Bounds::default(),
        };
        found(lua, &held.house, &call, &request, &bounds)
    })?;
    table.raw_set("cheapest", cheapest)?;
    let held = Arc::clone(stage);
    let successor = lua.create_function(move |lua, model: String| {
        let model = model_id(lua, &model)?;
        let at = current(lua, &held, "successor")?.at;
        match held.house.prices.successor(&model, at) {
            Some(next) => (next.model.as_str(), next.gone).into_lua_multi(lua),
            None => Value::Nil.into_lua_multi(lua),
        }
    })?;
    table.raw_set("successor", successor)
}

/// The cheapest model and its quote, or nothing.
fn found(
    lua: &Lua,
    house: &House,
    call: &CallView,
    request: &ImageRequest,
    bounds: &Bounds,
) -> mlua::Result<MultiValue> {
    // A call to its own provider takes the app's own key along.
    let reachable = |provider: &str| {
        call.asked.model.provider() == provider || call.world.keys.contains(provider)
    };
    // What nothing is known of is given a try.
    let deadline = bounds.deadline.or(call.deadline);
    let quick = |model: &ModelId| {
        let p95 = call.world.health.p95(model, request.tier);
        deadline.is_none_or(|waits| p95.is_none_or(|p95| p95 <= waits))
    };
    let usable = |model: &ModelId| {
        let open = call.world.health.allows(model, Instant::now()).is_err();
        reachable(model.provider()) && !open && quick(model)
    };
    let search = Search {
        among: bounds.among.as_deref(),
        keep: &bounds.keep,
        max_cost: bounds.max_cost,
        at: call.at,
        usable: &usable,
    };
    match house.prices.cheapest(request, &search) {
        Some((model, quote)) => {
            (model.as_str(), view::quote(lua, Some(Arc::new(quote)))?).into_lua_multi(lua)
        }
        None => Value::Nil.into_lua_multi(lua),
    }
}

/// What `pixtoll.cheapest` is to keep to.
#[derive(Default)]
struct Bounds {
    among: Option<Vec<ModelId>>,
    keep: Keep,
    max_cost: Option<Usd>,
    deadline: Option<Duration>,
}

impl Bounds {
    fn read(table: &Table, house: &House) -> Result<Bounds, String> {
        let mut bounds = Bounds::default();
        let mut class_cost = None;
        options("pixtoll.cheapest", table, CHEAPEST_OPTIONS, |given| {
            match given.name {
                "class" | "among" if bounds.among.is_some() => {
                    return Err("pixtoll.cheapest takes `class` or `among`, not both".to_owned());
                }
                "class" => {
                    let class = class(&given, house)?;
                    bounds.among = Some(class.models.clone());
                    class_cost = class.max_cost;
                }
                "among" => bounds.among = Some(given.each(|one| model(one, house))?),
                "max_cost" => bounds.max_cost = Some(given.money()?),
                "keep" => bounds.keep = actions::keep(&given)?,
                _ => bounds.deadline = Some(given.seconds()?),
            }
            Ok(())
        })?;
        bounds.max_cost = [bounds.max_cost, class_cost].into_iter().flatten().min();
        Ok(bounds)
    }
}

fn class<'h>(given: &Given<'_>, house: &'h House) -> Result<&'h crate::action::Class, String> {
    let text = given.text()?;
    let name = text.strip_prefix("class:").unwrap_or(&text);
    house.classes.get(name).ok_or_else(|| {
        let names = house.classes.keys().map(String::as_str);
        match house.classes.is_empty() {
            true => format!("class \"{name}\": the configuration has no classes"),
            false => no_such(name, "class of the configuration", name, names),
        }
    })
}

fn model(given: &Given<'_>, house: &House) -> Result<ModelId, String> {
    let text = given.text()?;
    let model = ModelId::parse(&text).ok_or_else(|| no_provider(&text))?;
    match house.prices.knows(&model) {
        true => Ok(model),
        false => Err(format!("among: the price book has no model `{text}`")),
    }
}

fn asked(lua: &Lua, helper: &str, value: &Value) -> Result<ImageRequest, Error> {
    let held = value.as_userdata().and_then(|data: &AnyUserData| {
        data.borrow::<RequestRef>()
            .ok()
            .map(|request| request.clone_request())
    });
    held.unwrap_or_else(|| {
        let what = format!("pixtoll.{helper} wants a request: `call.request` or `call.asked`");
        Err(raise(lua, what))
    })
}

pub(super) fn model_id(lua: &Lua, text: &str) -> Result<ModelId, Error> {
    ModelId::parse(text).ok_or_else(|| raise(lua, no_provider(text)))
}

fn no_provider(text: &str) -> String {
    format!("`{text}` names no provider: write it like stability/sd3.5-medium")
}
