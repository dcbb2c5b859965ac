//! Reads what a test tells of a call and of the answers that its attempts get.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mlua::{Table, Value};
use serde_json::Value as Json;

use super::super::actions;
use super::super::args::{Given, options, show};
use super::super::money::amount;
use super::TestCall;
use crate::budget::{Budget, Dimension, Over, Per};
use crate::image::{ImageRequest, ModelId, Tier};
use crate::money::Usd;

/// Fields of a call that are none of its request.
pub(in super::super) const ABOUT: &[&str] =
    &["model", "app", "tags", "at", "deadline", "max_cost", "tier"];

/// The call that a table describes; `now` is when it arrives where it does not say.
pub(super) fn call(table: &Table, now: impl FnOnce() -> Timestamp) -> Result<TestCall, String> {
    let names: Vec<&'static str> = ABOUT.iter().chain(actions::SETTABLE).copied().collect();
    let mut request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "");
    let (mut model, mut prompt, mut at) = (false, false, None);
    let mut call = TestCall {
        request: request.clone(),
        app: None,
        tags: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
        deadline: None,
        max_cost: None,
        answers: Vec::new(),
    };
    options("rules:call", table, &names, |given| {
        match given.name {
            "model" => (request.model, model) = (super::model(&given)?, true),
            "at" => at = Some(moment(&given)?),
            "app" | "tags" | "deadline" | "max_cost" => about(&mut call, &given)?,
            "tier" => request.tier = given.word(Tier::ALL, Tier::as_str)?,
            name => {
                prompt |= name == "prompt";
                actions::set(&given)?.apply(&mut request);
            }
        }
        Ok(())
    })?;
    if !model || !prompt {
        return Err(
            "rules:call wants a model and a prompt: { model = \"openai/gpt-image-2\", prompt = \"cat\" }"
                .to_owned(),
        );
    }
    call.at = at.unwrap_or_else(now);
    call.request = request;
    Ok(call)
}

/// Fields of a budget, as the configuration has them.
const BUDGET: &[&str] = &["name", "limit", "per", "zone", "by", "for", "over"];

/// The budgets of a list: `{ { name = "daily", limit = usd(20), per = "day", over = "plugin" } }`.
pub(super) fn budgets(given: &Given<'_>) -> Result<Vec<Budget>, String> {
    given.each(|one| match &one.value {
        Value::Table(fields) => budget(fields),
        _ => Err(
            "`budgets` is a list: { { name = \"daily\", limit = usd(20), per = \"day\" } }"
                .to_owned(),
        ),
    })
}

fn budget(fields: &Table) -> Result<Budget, String> {
    let mut budget = Budget {
        name: String::new(),
        limit: Usd::ZERO,
        per: Per::Day,
        zone: TimeZone::UTC,
        by: None,
        only: BTreeMap::new(),
        over: Over::Refuse,
    };
    let mut limited = false;
    options("a budget", fields, BUDGET, |given| {
        match given.name {
            "name" => budget.name = given.text()?,
            "limit" => (budget.limit, limited) = (given.money()?, true),
            "per" => budget.per = given.word(Per::ALL, Per::as_str)?,
            "zone" => budget.zone = zone(&given)?,
            "by" => budget.by = Some(given.word(Dimension::ALL, Dimension::as_str)?),
            "over" => budget.over = given.word(Over::ALL, Over::as_str)?,
            _ => budget.only = only(&given)?,
        }
        Ok(())
    })?;
    match limited && !budget.name.is_empty() {
        true => Ok(budget),
        false => Err(
            "a budget wants a name and a limit: { name = \"daily\", limit = usd(20) }".to_owned(),
        ),
    }
}

fn zone(given: &Given<'_>) -> Result<TimeZone, String> {
    let name = given.text()?;
    TimeZone::get(&name)
        .map_err(|_| format!("zone = \"{name}\" is no time zone: write it like \"Europe/Berlin\""))
}

fn only(given: &Given<'_>) -> Result<BTreeMap<&'static str, Vec<String>>, String> {
    let Value::Table(fields) = &given.value else {
        return Err("`for` is a table: [\"for\"] = { app = \"catalog\" }".to_owned());
    };
    let names: Vec<&'static str> = Dimension::ALL.iter().map(|one| one.as_str()).collect();
    let mut only = BTreeMap::new();
    options("`for`", fields, &names, |given| {
        let values = given.each(|one| one.text())?;
        let name = names.iter().find(|name| **name == given.name);
        only.extend(name.map(|name| (*name, values)));
        Ok(())
    })?;
    Ok(only)
}

/// What is said of a call besides its request.
pub(super) fn about(call: &mut TestCall, given: &Given<'_>) -> Result<(), String> {
    match given.name {
        "app" => call.app = Some(given.text()?),
        "tags" => call.tags = given.each(|one| one.text())?,
        "at" => call.at = moment(given)?,
        "deadline" => call.deadline = Some(given.seconds()?),
        _ => call.max_cost = Some(given.money()?),
    }
    Ok(())
}

fn moment(given: &Given<'_>) -> Result<Timestamp, String> {
    let text = given.text()?;
    text.parse()
        .map_err(|_| format!("at = \"{text}\" is no time: write it like \"2026-11-22T23:10Z\""))
}

/// What each attempt gets, in the words of the simulated providers: `"rate_limited"`, or
/// `{"rate_limited", retry_after = 3}`.
pub(super) fn answers(list: &Table) -> Result<Vec<String>, String> {
    list.sequence_values::<Value>()
        .map(|answer| match answer.map_err(|why| why.to_string())? {
            Value::String(word) => Ok(word.to_string_lossy()),
            Value::Table(parts) => settings(&parts),
            other => Err(format!("{} is no answer: write \"ok\"", show(&other))),
        })
        .collect()
}

fn settings(parts: &Table) -> Result<String, String> {
    let mut words = Vec::new();
    for pair in parts.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|why| why.to_string())?;
        let value = match &value {
            Value::String(text) => text.to_string_lossy(),
            Value::Boolean(true) => "yes".to_owned(),
            Value::Boolean(false) => "no".to_owned(),
            other => show(other),
        };
        match &key {
            Value::String(key) => words.push(format!("{}={value}", key.to_string_lossy())),
            _ => words.insert(0, value),
        }
    }
    Ok(words.join(" "))
}

/// Options as a configuration would have them.
pub(super) fn json(value: &Value) -> Result<Json, String> {
    Ok(match value {
        Value::Nil => Json::Null,
        Value::Boolean(flag) => Json::Bool(*flag),
        Value::Integer(whole) => (*whole).into(),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
            (*number as i64).into()
        }
        Value::Number(number) => serde_json::Number::from_f64(*number).into(),
        Value::String(text) => text.to_string_lossy().into(),
        Value::Table(table) if table.raw_len() > 0 => table
            .sequence_values::<Value>()
            .map(|item| json(&item.map_err(|why| why.to_string())?))
            .collect::<Result<_, _>>()?,
        Value::Table(table) => table
            .pairs::<String, Value>()
            .map(|pair| {
                let (key, item) = pair.map_err(|why| why.to_string())?;
                Ok((key, json(&item)?))
            })
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
        other => match amount(other) {
            Some(usd) => usd.to_string().into(),
            None => return Err(format!("{} is nothing that an option can be", show(other))),
        },
    })
}
