//! `pixtoll report`: what was spent on what, and what watching rules would have done.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::envelope::{failed, print, told};
use super::paint::Ink;
use super::table::{Screen, Side, Table, plain};
use super::tail::{self, Condition};
use super::{DONE, FAILED, Global, WRONG, complain, load};
use crate::app;
use crate::audit::Past;
use crate::audit::spend::{By, Spend, Sums};
use crate::audit::would::{OfRule, WouldHave};
use crate::config::{Problem, Settings};
use crate::money::Usd;

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// What spending is told apart by, one or several: provider, model, size, tier, app, day
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "LIST",
        default_value = "model"
    )]
    by: Vec<ByArg>,
    /// Instead: by rule, what observe mode or a watching plugin would have done
    #[arg(long, conflicts_with = "by")]
    would_have: bool,
    /// Only calls since then: 7d, or a time
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: String,
    /// Only calls that meet this: a field by its path, one of = != ~ (contains) > < >= <=, a value
    #[arg(long = "where", value_name = "KEY=VALUE")]
    conditions: Vec<Condition>,
    /// Prints comma-separated values
    #[arg(long)]
    csv: bool,
    /// The log to read [default: the configuration's `log`]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ByArg {
    Provider,
    Model,
    Size,
    Tier,
    App,
    Day,
}

impl ByArg {
    const fn by(self) -> By {
        match self {
            ByArg::Provider => By::Provider,
            ByArg::Model => By::Model,
            ByArg::Size => By::Size,
            ByArg::Tier => By::Tier,
            ByArg::App => By::App,
            ByArg::Day => By::Day,
        }
    }
}

const COMMAND: &str = "report";

pub(super) fn run(args: &ReportArgs, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, COMMAND),
    };
    let past = match read(args, &settings) {
        Ok(past) => past,
        Err((code, problem)) => return failed(COMMAND, global, code, &[problem]),
    };
    if past.broken > 0 {
        eprintln!("pixtoll report: {} broken lines were skipped", past.broken);
    }
    if args.would_have {
        let book = match app::book(&settings) {
            Ok(book) => book.on(&app::prices::today()),
            Err(error) => return complain(&error, global, COMMAND),
        };
        let would = WouldHave::of(&past, &book);
        return show(
            args,
            global,
            &would,
            || would_csv(&would),
            || would_text(&would),
        );
    }
    let by: Vec<By> = args.by.iter().map(|by| by.by()).collect();
    let spend = Spend::of(&past, &by);
    show(
        args,
        global,
        &spend,
        || spend_csv(&spend),
        || spend_text(&spend),
    )
}

fn show<T: Serialize>(
    args: &ReportArgs,
    global: &Global,
    data: &T,
    csv: impl FnOnce() -> String,
    text: impl FnOnce() -> String,
) -> u8 {
    if args.csv {
        print(&csv());
        return DONE;
    }
    told(COMMAND, global, DONE, data, &text())
}

fn read(args: &ReportArgs, settings: &Settings) -> Result<Past, (u8, Problem)> {
    let since = tail::moment(&args.since).map_err(|why| {
        let problem = Problem::anywhere("usage", format!("--since: {why}"));
        (
            WRONG,
            problem.remedy("for the last month write --since 30d"),
        )
    })?;
    let path = args
        .file
        .as_ref()
        .or(settings.log.as_ref())
        .ok_or_else(|| {
            let problem = Problem::anywhere("log", "the configuration keeps no decision log");
            (FAILED, problem.remedy("name one, or set `log`"))
        })?;
    if args.file.is_some() && !path.exists() {
        let problem = Problem::anywhere("log", format!("{}: there is no such log", path.display()));
        return Err((FAILED, problem.remedy("name a decision log")));
    }
    let mut past = Past::default();
    let mut take = |line: &[u8]| {
        past.take(line, &mut || {
            let value: Value = serde_json::from_slice(line).unwrap_or_default();
            tail::moment_of(&value).is_some_and(|at| at >= since)
                && args
                    .conditions
                    .iter()
                    .all(|condition| condition.holds(&value))
        });
    };
    tail::every_line(path, since, &mut take).map_err(|error| {
        let problem = Problem::anywhere("log", format!("the decision log: {error}"));
        (
            FAILED,
            problem.remedy("check who may read it; `--set log=PATH` names another"),
        )
    })?;
    Ok(past)
}

const SUMS: [&str; 8] = [
    "CALLS", "MEMORY", "FAILED", "ATTEMPTS", "IMAGES", "SPENT", "UNPRICED", "SAVED",
];

fn spend_text(spend: &Spend) -> String {
    let screen = Screen::stdout();
    if spend.total.calls == 0 {
        return "no calls\n".to_owned();
    }
    let heads: Vec<(&'static str, Side)> = spend
        .by
        .iter()
        .map(|by| (head(*by), Side::Left))
        .chain(SUMS.map(|name| (name, Side::Right)))
        .collect();
    let mut table = Table::new(&heads);
    for row in &spend.rows {
        let key = row.key.iter().map(|word| plain(word.as_str()));
        table.push(key.chain(cells(&row.sums).map(plain)).collect());
    }
    if spend.rows.len() > 1 {
        let mut key = vec![("together".to_owned(), Ink::Bold)];
        key.resize_with(spend.by.len(), || plain(""));
        table.push(
            key.into_iter()
                .chain(cells(&spend.total).map(plain))
                .collect(),
        );
    }
    let mut text = table.render(screen);
    let total = &spend.total;
    let mut note = |count: u64, what: &str| {
        if count > 0 {
            text.push_str(&screen.line(&format!("{count} {what}"), Ink::Yellow));
        }
    };
    note(
        total.unpriced,
        "attempts have no known price, or none for a part of them: that is in no sum (`pixtoll prices` tells how to add one)",
    );
    note(
        total.saved_unknown,
        "calls have no known saving, and are not in SAVED",
    );
    if !total.unknown.is_zero() {
        let line = format!(
            "{} of SPENT is for attempts whose outcome nobody knows",
            total.unknown.pretty()
        );
        text.push_str(&screen.line(&line, Ink::Yellow));
    }
    text
}

const fn head(by: By) -> &'static str {
    match by {
        By::Provider => "PROVIDER",
        By::Model => "MODEL",
        By::Size => "SIZE",
        By::Tier => "TIER",
        By::App => "APP",
        By::Day => "DAY",
    }
}

fn cells(sums: &Sums) -> [String; 8] {
    [
        sums.calls.to_string(),
        sums.from_memory.to_string(),
        sums.failed.to_string(),
        sums.attempts.to_string(),
        sums.images.to_string(),
        sums.spent.pretty(),
        sums.unpriced.to_string(),
        sums.saved.pretty(),
    ]
}

fn spend_csv(spend: &Spend) -> String {
    let heads = spend.by.iter().map(|by| by.as_str().to_owned());
    let names = [
        "calls",
        "from_memory",
        "failed",
        "attempts",
        "images",
        "spent",
        "unknown",
        "unpriced",
        "saved",
        "saved_unknown",
    ];
    let mut text = row(heads.chain(names.map(str::to_owned)));
    for of in &spend.rows {
        let sums = &of.sums;
        let figures = [
            sums.calls.to_string(),
            sums.from_memory.to_string(),
            sums.failed.to_string(),
            sums.attempts.to_string(),
            sums.images.to_string(),
            sums.spent.to_string(),
            sums.unknown.to_string(),
            sums.unpriced.to_string(),
            sums.saved.to_string(),
            sums.saved_unknown.to_string(),
        ];
        text.push_str(&row(of.key.iter().cloned().chain(figures)));
    }
    text
}

/// One line of RFC 4180. A cell that a spreadsheet would take for a formula is quoted with an
/// apostrophe before it, since an app's name is not ours to choose.
fn row(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = cells
        .map(|cell| {
            let formula = cell.starts_with(['=', '+', '@'])
                || cell.starts_with('-') && cell.parse::<Usd>().is_err();
            let cell = if formula { format!("'{cell}") } else { cell };
            match cell.contains(['"', ',', '\n', '\r']) {
                true => format!("\"{}\"", cell.replace('"', "\"\"")),
                false => cell,
            }
        })
        .collect();
    format!("{}\r\n", cells.join(","))
}

fn would_text(would: &WouldHave) -> String {
    let screen = Screen::stdout();
    if would.observed == 0 {
        return "no rule was watched: `mode: observe` in the configuration watches all of them, `observe: true` at a plugin that one\n".to_owned();
    }
    let head = format!(
        "{} calls observed, quoted {} as they were asked",
        would.observed,
        would.asked.pretty()
    );
    let mut text = screen.line(&head, Ink::Bold);
    let mut table = Table::new(&[
        ("RULE", Side::Left),
        ("CALLS", Side::Right),
        ("AS ASKED", Side::Right),
        ("WOULD COST", Side::Right),
        ("SAVING", Side::Right),
        ("UNPRICED", Side::Right),
        ("SKIPPED", Side::Right),
    ]);
    for of in &would.rules {
        let skipped: u64 = of.skipped.iter().map(|(_, count)| count).sum();
        table.row([
            plain(&*of.rule),
            plain(of.calls.to_string()),
            plain(of.asked.pretty()),
            plain(of.would.pretty()),
            plain(of.saving.pretty()),
            plain(of.unpriced.to_string()),
            plain(skipped.to_string()),
        ]);
    }
    text.push_str(&table.render(screen));
    text.push_str(&screen.line(
        &format!("together {} saved", would.saving.pretty()),
        Ink::Bold,
    ));
    for of in &would.rules {
        for note in notes(of) {
            text.push_str(&screen.line(&format!("  {}: {note}", of.rule), Ink::Dim));
        }
    }
    if would.unpriced > 0 {
        let line = format!(
            "{} calls have no known price: they are in no sum",
            would.unpriced
        );
        text.push_str(&screen.line(&line, Ink::Yellow));
    }
    text
}

fn notes(of: &OfRule) -> Vec<String> {
    let mut notes: Vec<String> = of
        .skipped
        .iter()
        .map(|(why, count)| format!("{count} × not possible: {why}"))
        .collect();
    if of.refused > 0 {
        notes.push(format!("{} calls would have been refused", of.refused));
    }
    if of.after_failures > 0 {
        let count = of.after_failures;
        notes.push(format!(
            "{count} × after a failure: what that would have cost nobody knows"
        ));
    }
    if of.errors > 0 {
        notes.push(format!(
            "{} × it failed itself; `pixtoll tail --why` says where",
            of.errors
        ));
    }
    notes
}

fn would_csv(would: &WouldHave) -> String {
    let names = [
        "rule",
        "calls",
        "asked",
        "would",
        "saving",
        "unpriced",
        "refused",
        "after_failures",
        "skipped",
        "errors",
    ];
    let mut text = row(names.map(str::to_owned).into_iter());
    for of in &would.rules {
        let skipped: u64 = of.skipped.iter().map(|(_, count)| count).sum();
        let cells = [
            of.rule.clone(),
            of.calls.to_string(),
            of.asked.to_string(),
            of.would.to_string(),
            of.saving.to_string(),
            of.unpriced.to_string(),
            of.refused.to_string(),
            of.after_failures.to_string(),
            skipped.to_string(),
            of.errors.to_string(),
        ];
        text.push_str(&row(cells.into_iter()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_cell_is_no_formula_and_breaks_no_row() {
        let cells = ["=1+1", "a,b", "say \"x\"", "-0.5", "-x"].map(str::to_owned);
        assert_eq!(
            row(cells.into_iter()),
            "'=1+1,\"a,b\",\"say \"\"x\"\"\",-0.5,'-x\r\n"
        );
    }
}
