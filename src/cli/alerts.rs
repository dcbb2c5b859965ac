//! `pixtoll alerts`: the last alerts of the decision log, and whether the webhook takes one.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::envelope::{failed, told};
use super::{DONE, FAILED, Global, WRONG, complain, load};
use crate::app;
use crate::config::Problem;

#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// The last alerts of the decision log
    #[command(after_help = "Example:\n  pixtoll alerts list --last 50")]
    List(ListArgs),
    /// Posts an alert to `alerts.webhook` and says what came back
    #[command(
        after_help = "Example:\n  pixtoll alerts test --set alerts.webhook=https://hooks.example.com/x"
    )]
    Test,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// So many
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    last: usize,
}

pub(super) async fn run(command: AlertsCommand, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, "alerts"),
    };
    match command {
        AlertsCommand::List(args) => match &settings.log {
            Some(log) => list(log, &args, global),
            None => {
                let problem =
                    Problem::anywhere("log", "the decision log is off, and alerts are kept there")
                        .remedy("take `log: off` out of pixtoll.yaml, or name a file there");
                failed("alerts list", global, WRONG, &[problem])
            }
        },
        AlertsCommand::Test => test(&settings, global).await,
    }
}

fn list(log: &Path, args: &ListArgs, global: &Global) -> u8 {
    let mut alerts = Vec::new();
    let older = crate::record::rotated(log).unwrap_or_default();
    for path in older.iter().map(std::path::PathBuf::as_path).chain([log]) {
        let Ok(file) = File::open(path) else {
            continue; // there was no call yet
        };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        // Most lines are calls, which need not be read.
        let notices = lines.filter(|line| line.contains("\"type\":\"notice\""));
        alerts.extend(
            notices
                .filter_map(|line| serde_json::from_str::<Value>(&line).ok())
                .filter(|notice| notice["kind"] == "alert"),
        );
    }
    let last = &alerts[alerts.len().saturating_sub(args.last)..];
    let mut text = String::new();
    for alert in last {
        let field = |name: &str| alert[name].as_str().unwrap_or_default().to_owned();
        let at = field("at");
        let at = at.get(..19).unwrap_or(&at).replace('T', " ");
        let _ = writeln!(text, "{at}  {:7}  {}", field("level"), field("text"));
    }
    if last.is_empty() {
        text = format!("no alert in {}\n", log.display());
    }
    told("alerts list", global, DONE, last, &text)
}

async fn test(settings: &crate::config::Settings, global: &Global) -> u8 {
    const COMMAND: &str = "alerts test";
    if settings.webhook.is_none() {
        let problem = Problem::anywhere("alerts", "there is no webhook to post to")
            .remedy("name one: `alerts: {webhook: https://…}` in pixtoll.yaml");
        return failed(COMMAND, global, WRONG, &[problem]);
    }
    match app::test_alert(settings).await {
        Ok(status) if (200..300).contains(&status) => {
            let text = format!("the webhook answered {status}: alerts arrive there\n");
            told(COMMAND, global, DONE, json!({"status": status}), &text)
        }
        Ok(status) => {
            let problem = Problem::anywhere("alerts", format!("the webhook answered {status}"))
                .remedy("look at what it expects; an alert is posted as JSON with `text`");
            failed(COMMAND, global, FAILED, &[problem])
        }
        Err(why) => {
            let problem = Problem::anywhere("alerts", format!("the webhook is not reached: {why}"))
                .remedy("look at `alerts.webhook`, and at `upstream_proxy` and `upstream_ca`");
            failed(COMMAND, global, FAILED, &[problem])
        }
    }
}
