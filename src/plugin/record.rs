//! A line of the decision log as rules and rule tests see it: its own field names, money as money,
//! and strict, as everything that Lua is handed.

use std::sync::Arc;

use mlua::{Error, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use serde_json::Value as Json;

use super::fault::raise;
use super::helpers::strict_table;
use super::money::Money;
use super::near::no_such;
use super::stage::Stage;
use super::subject::{DecisionView, Subject};
use crate::money::Usd;

/// Fields of the log whose numbers are money.
const MONEY: &[&str] = &[
    "cost",
    "saved",
    "quote",
    "quote_high",
    "book_quote",
    "book_quote_high",
    "charge",
    "discrepancy",
    "held",
    "left",
];
/// Objects of the log in which every number is money.
const ALL_MONEY: &[&str] = &["causes", "saved_by"];
/// Objects of the log whose names are the provider's or the rule's own: any may be missing.
const OPEN: &[&str] = &["set", "codes"];

/// Whether a number is money.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Money,
    /// Everything within is.
    AllMoney,
}

impl Kind {
    /// Of the field `name` within something of the kind `around`.
    pub(super) fn of(name: &str, around: Kind) -> Kind {
        match around {
            Kind::AllMoney => Kind::Money,
            _ if ALL_MONEY.contains(&name) => Kind::AllMoney,
            _ if MONEY.contains(&name) => Kind::Money,
            _ => Kind::Plain,
        }
    }
}

/// A number as money, exactly as it was written.
pub(super) fn usd(json: &Json) -> Option<Usd> {
    json.as_number()?.to_string().parse().ok()
}

/// A part of the record as Lua sees it: tables are frozen, and a misspelt name is an error.
pub(super) fn fact(lua: &Lua, name: &str, json: &Json, kind: Kind) -> mlua::Result<Value> {
    Ok(match json {
        Json::Null => Value::Nil,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => match usd(json).filter(|_| kind == Kind::Money) {
            Some(usd) => Value::UserData(lua.create_userdata(Money(usd))?),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(lua.create_string(text)?),
        Json::Array(items) => {
            let list = lua.create_table_with_capacity(items.len(), 0)?;
            for item in items {
                list.raw_push(fact(lua, name, item, kind)?)?;
            }
            list.set_readonly(true);
            Value::Table(list)
        }
        Json::Object(items) => Value::Table(object(lua, name, items, kind)?),
    })
}

fn object(
    lua: &Lua,
    name: &str,
    items: &serde_json::Map<String, Json>,
    kind: Kind,
) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, items.len())?;
    for (field, item) in items {
        table.raw_set(
            field.as_str(),
            fact(lua, field, item, Kind::of(field, kind))?,
        )?;
    }
    if !OPEN.contains(&name) {
        let names: Vec<String> = items.keys().cloned().collect();
        strict_table(lua, &table, name.to_owned(), "field", names)?;
    }
    table.set_readonly(true);
    Ok(table)
}

/// `decision`.
pub(super) struct DecisionRef(pub(super) Arc<Stage>, pub(super) u64);

impl DecisionRef {
    fn view(&self) -> Result<Arc<DecisionView>, Error> {
        let found = self.0.of_run(self.1, |subject| match subject {
            Subject::Decision(decision) => Some(Arc::clone(decision)),
            _ => None,
        });
        found.map_err(Error::runtime)
    }
}

impl UserData for DecisionRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "decision");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, name: String| {
            let view = this.view()?;
            if let Some(json) = view.record.get(&name) {
                return fact(lua, &name, json, Kind::of(&name, Kind::Plain));
            }
            let fields = view.record.as_object();
            let names = || fields.into_iter().flatten().map(|(name, _)| name.as_str());
            let names: Vec<&str> = names().collect();
            Err(raise(
                lua,
                no_such(&format!("decision.{name}"), "field", &name, names),
            ))
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |lua, _, _: (Value, Value)| -> mlua::Result<()> {
                Err(raise(lua, "`decision` is read-only: it is what was logged"))
            },
        );
    }
}
