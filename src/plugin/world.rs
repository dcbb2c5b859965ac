//! A helper that looks beyond the call: `pixtoll.spend`.

use std::sync::Arc;

use mlua::{Error, Lua, Table};

use super::args::{Given, options};
use super::fault::raise;
use super::helpers::subject;
use super::money::Money;
use super::stage::Stage;
use crate::action::{Per, Spending};
use crate::image::ModelId;

/// Options of `pixtoll.spend`.
pub(super) const SPEND_OPTIONS: &[&str] = &["app", "model", "per"];

/// Puts the helper into the `pixtoll` table.
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
    table.raw_set("spend", spend)
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
