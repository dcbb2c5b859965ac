//! The actions: methods of `call` that make what a hook returns.

use mlua::{
    Error, Lua, MetaMethod, MultiValue, Table, UserData, UserDataFields, UserDataMethods, Value,
};

use super::args::{Given, options, show};
use super::fault::raise;
use super::near::no_such;
use super::picture::stays_inside;
use super::subject::Hook;
use super::view::{CallRef, REQUEST_FIELDS};
use crate::action::{Action, CacheMode, CachePolicy, CacheScope, Change, Route, Set, Target};
use crate::image::capability::Keep;
use crate::image::{Format, ModelId, Quality, Safety, Size, Tier};

/// The largest picture anybody could mean, by its longer side.
const LARGEST_SIDE: u32 = 65_536;

/// Options of `call:change`. The order of the first part is the order in which fields are set.
pub(super) const CHANGE_OPTIONS: &[&str] = &[
    "prompt",
    "negative_prompt",
    "size",
    "quality",
    "style",
    "background",
    "n",
    "seed",
    "steps",
    "guidance",
    "strength",
    "safety",
    "format",
    "compression",
    "user",
    "tier",
    "max_side",
    "max_pixels",
    "max_quality",
    "max_steps",
    "max_n",
    "fit",
    "keep",
    "reason",
];

/// Those of them that set one field of the request.
pub(super) const SETTABLE: &[&str] = CHANGE_OPTIONS.split_at(15).0;

/// Options that only `call:route` has.
pub(super) const ROUTE_OPTIONS: &[&str] = &["max_cost", "max_share", "timeout", "may_pay_twice"];

pub(super) const RETRY_OPTIONS: &[&str] = &["after", "may_pay_twice", "reason"];
pub(super) const REFUSE_OPTIONS: &[&str] = &["status", "reason"];
pub(super) const ANSWER_OPTIONS: &[&str] = &["file", "reason"];
pub(super) const CACHE_OPTIONS: &[&str] = &["mode", "ttl", "variants", "scope", "reason"];

/// Fields that a request has and no rule can set, with what to do instead.
const NOT_SET: &[(&str, &str)] = &[
    (
        "model",
        "send it elsewhere with call:route(\"provider/model\")",
    ),
    (
        "provider",
        "send it elsewhere with call:route(\"provider/model\")",
    ),
    ("width", "set `size`, like size = \"1024x1024\""),
    ("height", "set `size`, like size = \"1024x1024\""),
    ("pixels", "set `size` or `max_pixels`"),
    ("aspect", "set `size`, like size = \"16:9\""),
    ("operation", "it is the app's own"),
    ("delivery", "it is the app's own"),
    ("stream", "it is the app's own"),
    ("inputs", "they are the app's own"),
    ("extra", "they are the app's own"),
];

type Make = fn(&CallRef, Vec<Value>) -> Result<Action, String>;

/// Each action: its name, the hooks that may return it, and how it is made.
pub(super) const ACTIONS: &[(&str, &[Hook], Make)] = &[
    ("change", &[Hook::Request, Hook::Budget], change),
    (
        "route",
        &[Hook::Request, Hook::Budget, Hook::Failure, Hook::Response],
        route,
    ),
    ("retry", &[Hook::Failure], retry),
    ("stop", &[Hook::Failure], stop),
    (
        "refuse",
        &[Hook::Request, Hook::Budget, Hook::Response],
        refuse,
    ),
    ("answer", &[Hook::Request], answer),
    ("cache", &[Hook::Request], cache),
    ("tag", &[Hook::Request, Hook::Response], tag),
];

/// What `on_response` may return only where the answer waits for it.
const NEEDS_HOLDS: &[&str] = &["route", "refuse"];

/// An action as Lua holds it: a number of one run.
#[derive(Clone, Copy)]
pub(super) struct ActionRef {
    pub(super) run: u64,
    pub(super) number: usize,
}

impl UserData for ActionRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "action");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, _, _: Value| -> mlua::Result<()> {
            Err(raise(
                lua,
                "an action has no fields; return it from the hook",
            ))
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |lua, _, _: Value| -> mlua::Result<()> {
                Err(raise(
                    lua,
                    "an action is read-only; return it from the hook",
                ))
            },
        );
    }
}

/// Adds every action to the methods of `call`.
pub(super) fn add<M: UserDataMethods<CallRef>>(methods: &mut M) {
    for &(name, hooks, make) in ACTIONS {
        methods.add_method(name, move |lua, call, args: MultiValue| {
            permitted(lua, call, name, hooks)?;
            let action = make(call, args.into_vec()).map_err(|why| raise(lua, why))?;
            Ok(ActionRef {
                run: call.run,
                number: call.stage.make(lua, call.run, action)?,
            })
        });
    }
}

fn permitted(lua: &Lua, call: &CallRef, name: &str, hooks: &[Hook]) -> Result<(), Error> {
    let Some(now) = call.stage.hook() else {
        return Ok(());
    };
    if now == Hook::Response && NEEDS_HOLDS.contains(&name) && !call.stage.holds() {
        let what = format!(
            "`{name}` may be returned by on_response only where the answer waits for it: add holds = true beside the hook"
        );
        return Err(raise(lua, what));
    }
    if hooks.contains(&now) {
        return Ok(());
    }
    let names: Vec<&str> = hooks.iter().map(|hook| hook.as_str()).collect();
    let names = names.join(", ");
    Err(raise(
        lua,
        format!(
            "`{name}` may be returned by {names} only, not by {}",
            now.as_str()
        ),
    ))
}

fn change(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:change";
    let table = one_table(of, args)?;
    let mut reading = Reading::default();
    let read = options(of, &table, CHANGE_OPTIONS, |given| reading.change(&given));
    read.map_err(|why| not_set(&table).unwrap_or(why))?;
    if table.is_empty() {
        return Err(format!(
            "{of} is empty: name at least one field, like max_side = 1024"
        ));
    }
    Ok(Action::Change(reading.finish().change))
}

fn route(call: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:route";
    let mut args = args.into_iter();
    let targets = Given {
        of,
        name: "target",
        value: args.next().unwrap_or(Value::Nil),
    };
    let targets = targets.each(|one| target(call, one))?;
    let mut reading = Reading::default();
    if let Some(table) = optional_table(of, args)? {
        let names = [CHANGE_OPTIONS, ROUTE_OPTIONS].concat();
        let read = options(of, &table, &names, |given| reading.route(&given));
        read.map_err(|why| not_set(&table).unwrap_or(why))?;
    }
    let mut route = reading.finish();
    route.targets = targets;
    Ok(Action::Route(route))
}

/// `provider/model` or `class:draft`.
fn target(call: &CallRef, given: &Given<'_>) -> Result<Target, String> {
    let text = given.text()?;
    if let Some(class) = text.strip_prefix("class:") {
        let classes = &call.stage.house.classes;
        if classes.contains_key(class) {
            return Ok(Target::Class(class.to_owned()));
        }
        if classes.is_empty() {
            return Err(format!(
                "`{text}`: the configuration has no classes; add one under `classes:`"
            ));
        }
        let names = classes.keys().map(String::as_str);
        return Err(no_such(&text, "class in the configuration", class, names));
    }
    let model = ModelId::parse(&text).ok_or_else(|| {
        format!("`{text}` names no provider: write it like stability/sd3.5-medium")
    })?;
    Ok(Target::Model(model))
}

fn retry(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:retry";
    let (mut after, mut may_pay_twice, mut reason) = (None, false, None);
    if let Some(table) = optional_table(of, args.into_iter())? {
        options(of, &table, RETRY_OPTIONS, |given| {
            match given.name {
                "after" => after = Some(given.seconds()?),
                "may_pay_twice" => may_pay_twice = given.flag()?,
                _ => reason = Some(given.text()?),
            }
            Ok(())
        })?;
    }
    Ok(Action::Retry {
        after,
        may_pay_twice,
        reason,
    })
}

fn stop(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let reason = match one(args, "call:stop")? {
        Value::Nil => None,
        value => Some(named("call:stop", "reason", value).text()?),
    };
    Ok(Action::Stop { reason })
}

fn refuse(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:refuse";
    let mut args = args.into_iter();
    let message = named(of, "message", args.next().unwrap_or(Value::Nil)).text()?;
    let (mut status, mut reason) = (None, None);
    if let Some(table) = optional_table(of, args)? {
        options(of, &table, REFUSE_OPTIONS, |given| {
            match given.name {
                "status" => status = Some(given.whole32(400, 599)?),
                _ => reason = Some(given.text()?),
            }
            Ok(())
        })?;
    }
    Ok(Action::Refuse {
        message,
        status: status.and_then(|status| u16::try_from(status).ok()),
        reason,
    })
}

fn answer(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:answer";
    let table = one_table(of, args)?;
    let (mut file, mut reason) = (None, None);
    options(of, &table, ANSWER_OPTIONS, |given| {
        match given.name {
            "file" => file = Some(given.text()?),
            _ => reason = Some(given.text()?),
        }
        Ok(())
    })?;
    let file = file.filter(|file| stays_inside(file)).ok_or_else(|| {
        format!("{of} wants a picture in the plugin's own folder, like {{ file = \"box.png\" }}")
    })?;
    Ok(Action::Answer { file, reason })
}

fn cache(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let of = "call:cache";
    let table = one_table(of, args)?;
    let mut policy = CachePolicy::default();
    options(of, &table, CACHE_OPTIONS, |given| {
        match given.name {
            "mode" => policy.mode = Some(given.word(CacheMode::ALL, CacheMode::as_str)?),
            "ttl" => policy.ttl = Some(given.seconds()?),
            "variants" => policy.variants = Some(given.whole32(1, 1000)?),
            "scope" => policy.scope = Some(given.word(CacheScope::ALL, CacheScope::as_str)?),
            _ => policy.reason = Some(given.text()?),
        }
        Ok(())
    })?;
    if table.is_empty() {
        return Err(format!(
            "{of} is empty: say at least one of mode, ttl, variants, scope"
        ));
    }
    Ok(Action::Cache(policy))
}

fn tag(_: &CallRef, args: Vec<Value>) -> Result<Action, String> {
    let names = args
        .into_iter()
        .map(|value| named("call:tag", "name", value).text())
        .collect::<Result<Vec<String>, String>>()?;
    if names.is_empty() || names.iter().any(|name| name.trim().is_empty()) {
        return Err("call:tag wants at least one name, like call:tag(\"draft\")".to_owned());
    }
    Ok(Action::Tag { names })
}

/// A change and what a route adds to it, while their options are being read.
#[derive(Default)]
struct Reading {
    route: Route,
    /// Each with its place in [`CHANGE_OPTIONS`]: a Lua table has no order.
    set: Vec<(usize, Set)>,
}

impl Reading {
    fn finish(mut self) -> Route {
        self.set.sort_by_key(|(place, _)| *place);
        self.route.change.set = self.set.into_iter().map(|(_, set)| set).collect();
        self.route
    }

    fn route(&mut self, given: &Given<'_>) -> Result<(), String> {
        match given.name {
            "max_cost" => self.route.max_cost = Some(given.money()?),
            "max_share" => self.route.max_share = Some(share(given)?),
            "timeout" => self.route.timeout = Some(given.seconds()?),
            "may_pay_twice" => self.route.may_pay_twice = given.flag()?,
            _ => self.change(given)?,
        }
        Ok(())
    }

    fn change(&mut self, given: &Given<'_>) -> Result<(), String> {
        let change: &mut Change = &mut self.route.change;
        match given.name {
            "tier" => change.tiers = given.each(|one| one.word(Tier::ALL, Tier::as_str))?,
            "max_side" => change.max_side = Some(given.whole32(1, LARGEST_SIDE)?),
            "max_pixels" => {
                let most = u64::from(LARGEST_SIDE) * u64::from(LARGEST_SIDE);
                change.max_pixels = Some(given.whole(1, most)?);
            }
            "max_quality" => change.max_quality = Some(bound(given)?),
            "max_steps" => change.max_steps = Some(given.whole32(1, 10_000)?),
            "max_n" => change.max_n = Some(given.whole32(1, 1000)?),
            "fit" => {
                given.word(&["requested"], |word| word)?;
                change.fit_requested = true;
            }
            "keep" => change.keep = keep(given)?,
            "reason" => change.reason = Some(given.text()?),
            _ => {
                let place = CHANGE_OPTIONS.iter().position(|name| *name == given.name);
                self.set.push((place.unwrap_or(usize::MAX), set(given)?));
            }
        }
        Ok(())
    }
}

/// One field of the request. `false` takes a field away that may be absent.
pub(super) fn set(given: &Given<'_>) -> Result<Set, String> {
    Ok(match given.name {
        "prompt" => Set::Prompt(given.prompt()?),
        "negative_prompt" => Set::NegativePrompt(given.or_none(Given::prompt)?),
        "size" => Set::Size(size(given)?),
        "quality" => Set::Quality(given.or_none(|g| g.word(Quality::ALL, Quality::as_str))?),
        "style" => Set::Style(given.or_none(Given::text)?),
        "background" => Set::Background(given.or_none(Given::text)?),
        "n" => Set::N(given.whole32(1, 1000)?),
        "seed" => Set::Seed(given.or_none(|g| g.whole(0, 1 << 53))?),
        "steps" => Set::Steps(given.or_none(|g| g.whole32(1, 10_000))?),
        "guidance" => Set::Guidance(given.or_none(Given::json_number)?),
        "strength" => Set::Strength(given.or_none(Given::json_number)?),
        "safety" => Set::Safety(given.or_none(|g| g.word(Safety::ALL, Safety::as_str))?),
        "format" => Set::Format(given.or_none(|g| g.word(Format::ALL, Format::as_str))?),
        "compression" => {
            let percent = given.or_none(|g| g.whole32(0, 100))?;
            Set::Compression(percent.and_then(|p| u8::try_from(p).ok()))
        }
        "user" => Set::User(given.or_none(Given::text)?),
        other => return Err(format!("`{other}` of {} cannot be set", given.of)),
    })
}

fn size(given: &Given<'_>) -> Result<Size, String> {
    let text = given.text()?;
    Size::parse(&text).ok_or_else(|| {
        format!(
            "`size` of {} must be like \"1024x1024\", \"16:9\" or \"auto\", it is \"{text}\"",
            given.of
        )
    })
}

/// A quality that has a place in the order.
fn bound(given: &Given<'_>) -> Result<Quality, String> {
    let quality = given.word(Quality::ALL, Quality::as_str)?;
    if quality.rank().is_none() {
        return Err(format!(
            "`{}` of {} cannot be \"auto\": it is no bound",
            given.name, given.of
        ));
    }
    Ok(quality)
}

/// A share in thousandths.
fn share(given: &Given<'_>) -> Result<u64, String> {
    let share = given.number()?;
    let thousandths = (share * 1000.0).round();
    if !(1.0..=1_000_000.0).contains(&thousandths) {
        return Err(format!(
            "`max_share` of {} must be from 0.001 to 1000 times `asked.quote`, it is {share}",
            given.of
        ));
    }
    Ok(thousandths as u64)
}

/// What must not be lost.
pub(super) fn keep(given: &Given<'_>) -> Result<Keep, String> {
    match &given.value {
        Value::Boolean(true) => Ok(Keep::Everything),
        Value::Table(_) => given
            .each(|one| {
                let name = one.text()?;
                if REQUEST_FIELDS.iter().any(|(field, _)| *field == name) {
                    return Ok(name);
                }
                let names = REQUEST_FIELDS.iter().map(|(field, _)| *field);
                Err(no_such(&name, "field of the request to keep", &name, names))
            })
            .map(Keep::Fields),
        other => Err(format!(
            "`keep` of {} must be true or a list of fields, like {{ \"seed\" }}, it is {}",
            given.of,
            show(other)
        )),
    }
}

/// The remedy for a field of the request that cannot be set, when there is one in the table.
fn not_set(table: &Table) -> Option<String> {
    NOT_SET.iter().find_map(|(field, remedy)| {
        let value: Value = table.raw_get(*field).ok()?;
        (!value.is_nil()).then(|| format!("`{field}` cannot be changed: {remedy}"))
    })
}

fn named<'a>(of: &'a str, name: &'a str, value: Value) -> Given<'a> {
    Given { of, name, value }
}

fn one(args: Vec<Value>, of: &str) -> Result<Value, String> {
    let mut args = args.into_iter();
    let first = args.next().unwrap_or(Value::Nil);
    no_more(of, args)?;
    Ok(first)
}

fn one_table(of: &str, args: Vec<Value>) -> Result<Table, String> {
    match one(args, of)? {
        Value::Table(table) => Ok(table),
        other => Err(format!(
            "{of} wants a table of options, it is {}",
            show(&other)
        )),
    }
}

fn optional_table(
    of: &str,
    mut args: impl Iterator<Item = Value>,
) -> Result<Option<Table>, String> {
    let table = match args.next().unwrap_or(Value::Nil) {
        Value::Nil => None,
        Value::Table(table) => Some(table),
        other => {
            return Err(format!(
                "the options of {of} must be a table, they are {}",
                show(&other)
            ));
        }
    };
    no_more(of, args)?;
    Ok(table)
}

fn no_more(of: &str, mut rest: impl Iterator<Item = Value>) -> Result<(), String> {
    match rest.find(|value| !value.is_nil()) {
        None => Ok(()),
        Some(value) => Err(format!("{of} got one argument too many: {}", show(&value))),
    }
}
