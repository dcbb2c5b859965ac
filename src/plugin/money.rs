//! Money in rules: exact, and never mixed with plain numbers.

use mlua::{Error, Lua, MetaMethod, UserData, UserDataFields, UserDataMethods, Value};

use super::args::kind;
use super::fault::raise;
use crate::money::Usd;

/// An amount as Lua holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Money(pub(super) Usd);

impl UserData for Money {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "money");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_function(MetaMethod::Add, |lua, (a, b): (Value, Value)| {
            Ok(Money(both(lua, "+", &a, &b, |a, b| a + b)?))
        });
        methods.add_meta_function(MetaMethod::Sub, |lua, (a, b): (Value, Value)| {
            Ok(Money(both(lua, "-", &a, &b, |a, b| a - b)?))
        });
        methods.add_meta_function(MetaMethod::Eq, |lua, (a, b): (Value, Value)| {
            both(lua, "==", &a, &b, |a, b| a == b)
        });
        methods.add_meta_function(MetaMethod::Lt, |lua, (a, b): (Value, Value)| {
            both(lua, "<", &a, &b, |a, b| a < b)
        });
        methods.add_meta_function(MetaMethod::Le, |lua, (a, b): (Value, Value)| {
            both(lua, "<=", &a, &b, |a, b| a <= b)
        });
        methods.add_meta_method(MetaMethod::ToString, |_, money, ()| Ok(money.0.pretty()));
        methods.add_meta_method(MetaMethod::Index, |lua, _, _: Value| -> mlua::Result<()> {
            Err(raise(lua, "money has no fields; tostring(m) writes it out"))
        });
        methods.add_meta_method(
            MetaMethod::NewIndex,
            |lua, _, _: Value| -> mlua::Result<()> { Err(raise(lua, "money is read-only")) },
        );
    }
}

fn both<T>(
    lua: &Lua,
    sign: &str,
    a: &Value,
    b: &Value,
    work: impl Fn(Usd, Usd) -> T,
) -> Result<T, Error> {
    match (amount(a), amount(b)) {
        (Some(a), Some(b)) => Ok(work(a, b)),
        _ => Err(raise(
            lua,
            format!(
                "{} {sign} {}: money compares and adds with money only, write usd(0.02)",
                kind(a),
                kind(b)
            ),
        )),
    }
}

/// The amount, when the value is money.
pub(super) fn amount(value: &Value) -> Option<Usd> {
    let Value::UserData(data) = value else {
        return None;
    };
    data.borrow::<Money>().ok().map(|money| money.0)
}

/// `usd(0.02)` and `usd "0.02"`.
pub(super) fn usd(lua: &Lua, value: Value) -> Result<Money, Error> {
    let text = match &value {
        // A number prints as it was written, in its shortest form; nothing is computed with it.
        Value::Integer(whole) => whole.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.to_string_lossy(),
        _ => {
            let what = format!(
                "usd takes a number or a text, like usd(0.02), not {}",
                kind(&value)
            );
            return Err(raise(lua, what));
        }
    };
    text.parse()
        .map(Money)
        .map_err(|why| raise(lua, why.to_string()))
}
