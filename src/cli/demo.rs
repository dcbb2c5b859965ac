//! `pixtoll demo`: a sample app, real TLS, simulated providers: every lever at work.

mod client;
mod story;

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use tokio::sync::broadcast::Receiver;

use super::scratch::Scratch;
use super::tail::{Style, line, terminal_style};
use super::{DONE, FAILED, Global, complain, serve};
use crate::app::{App, Extras, StartError};
use crate::config::{PluginEntry, Problem, Settings};
use crate::money::Usd;
use client::Client;
use story::Scene;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Leaves the proxy running to play with
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: DemoArgs, global: &Global) -> u8 {
    match play(args.keep).await {
        Ok(true) => DONE,
        Ok(false) => FAILED,
        Err(error) => complain(&error, global, "demo"),
    }
}

fn wrong(error: impl std::fmt::Display) -> StartError {
    StartError(vec![Problem::anywhere("demo", error.to_string())])
}

async fn play(keep: bool) -> Result<bool, StartError> {
    let stage = Scratch::new("demo").map_err(wrong)?;
    let mut settings = Settings::defaults(stage.path().to_owned());
    settings.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    settings.dashboard = None;
    settings.plugins = plugins();
    let app = App::start(
        settings,
        Extras {
            sim: true,
            app: None,
        },
    )
    .await?;
    println!(
        "pixtoll on {}, OpenAI and Stability simulated, TLS real, nothing is spent.",
        app.address
    );
    println!("A sample app makes its calls to https://api.openai.com:\n");
    let client = Client::new(app.address, &app.authority.ca_pem()).map_err(wrong)?;
    let decisions = perform(&app, &client).await?;
    let balanced = summary(&app, &decisions).await;
    if keep {
        println!("\nIt goes on listening on {}; ctrl-c ends it.", app.address);
        println!(
            "  curl http://{}/openai/v1/images/generations -H 'authorization: Bearer any' \\",
            app.address
        );
        println!(
            "    -H 'content-type: application/json' -d '{{\"model\":\"gpt-image-2\",\"prompt\":\"an icon of a fox\"}}' -s -o fox.json -D -"
        );
        serve::until_told().await;
    }
    app.stop().await;
    Ok(balanced)
}

/// The shipped rules, with the options of a small shop.
fn plugins() -> Vec<PluginEntry> {
    let with = |name: &str, options: Value| PluginEntry {
        with: options.as_object().cloned().unwrap_or_default(),
        ..PluginEntry::named(name)
    };
    vec![
        with(
            "icons_to_cheap",
            serde_json::json!({"to": "stability/sd3.5-medium", "word": "icon"}),
        ),
        with(
            "cap_resolution",
            serde_json::json!({"max_side": 1024, "unless": "hero"}),
        ),
        with(
            "retry_chain",
            serde_json::json!({"chain": ["stability/sd3.5-medium"]}),
        ),
    ]
}

/// Plays every scene, printing the decisions as they fall.
async fn perform(app: &App, client: &Client) -> Result<Vec<Value>, StartError> {
    let mut log = app.pipeline.log.subscribe();
    let style = terminal_style(false);
    let mut decisions = Vec::new();
    for scene in story::scenes() {
        println!("  {}", scene.title);
        prepare(app, &scene);
        let calls = scene.calls.iter().map(|call| client.call(call));
        if scene.at_once {
            let before = app.pipeline.tasks.running();
            let release = release_when_joined(app, before, scene.calls.len());
            let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), release);
            answers
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(wrong)?;
        } else {
            for call in calls {
                call.await.map_err(wrong)?;
            }
        }
        show(&mut log, scene.calls.len(), &style, &mut decisions).await;
        println!();
    }
    Ok(decisions)
}

fn prepare(app: &App, scene: &Scene) {
    if let Some(sim) = app.sim() {
        for (provider, behaviours) in &scene.script {
            sim.script(provider, behaviours.iter().cloned());
        }
    }
}

/// Lets the provider answer only when all equal calls are waiting for the one purchase: each is a
/// connection and a call more than the tasks that ran `before`.
async fn release_when_joined(app: &App, before: usize, calls: usize) {
    let Some(sim) = app.sim() else { return };
    let joined = || app.pipeline.tasks.running() >= before + 2 * calls;
    for _ in 0..500 {
        if joined() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    sim.release();
}

async fn show(
    log: &mut Receiver<Arc<str>>,
    calls: usize,
    style: &Style,
    decisions: &mut Vec<Value>,
) {
    let mut seen = 0;
    while seen < calls {
        let Ok(text) = log.recv().await else { return };
        let Ok(value) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        if value.get("type").and_then(Value::as_str) == Some("call") {
            println!("{}", line(&value, style));
            decisions.push(value);
            seen += 1;
        }
    }
}

fn money(value: &Value, pointer: &str) -> Usd {
    value
        .pointer(pointer)
        .and_then(Value::as_number)
        .and_then(|n| n.to_string().parse().ok())
        .unwrap_or_default()
}

/// What each lever saved, and whether the books agree with the providers' own bills.
async fn summary(app: &App, decisions: &[Value]) -> bool {
    let sum = |pointer: &str| -> Usd {
        decisions
            .iter()
            .map(|decision| money(decision, pointer))
            .sum()
    };
    // A call that a chain rescued may have become dearer: that is the chain's line, not a lever's.
    let pulled = |pointer: &str| -> Vec<Usd> {
        let steady = decisions
            .iter()
            .filter(|decision| decision.pointer("/attempts/1").is_none());
        steady
            .map(|decision| money(decision, pointer))
            .filter(|saved| *saved > Usd::ZERO)
            .collect()
    };
    println!("What each lever did                                 calls      saved");
    let levers = [
        ("repeat: the same picture from memory", "/saved_by/repeat"),
        (
            "collapse: equal calls at once, bought once",
            "/saved_by/collapse",
        ),
        ("route: icons to a cheaper model", "/saved_by/route"),
        ("resolution: capped at 1024", "/saved_by/resolution"),
    ];
    for (what, pointer) in levers {
        let saved = pulled(pointer);
        println!(
            "  {what:<46} {:>8} {:>10}",
            saved.len(),
            saved.into_iter().sum::<Usd>().pretty()
        );
    }
    let (rescued, avoided) = blind_retries(decisions);
    println!(
        "  {:<46} {rescued:>8} {:>10}",
        "retry chain: instead of blind retries",
        avoided.pretty()
    );
    println!(
        "  {:<46} {:>8} {:>10}",
        "all calls: spent",
        decisions.len(),
        sum("/cost").pretty()
    );
    println!(
        "  {:<46} {:>8} {:>10}",
        "           saved, failures included",
        "",
        sum("/saved").pretty()
    );
    balance(app).await
}

/// Holds the ledger against the providers' own bills: what is charged is billed, and what is
/// booked as unknown covers the rest.
async fn balance(app: &App) -> bool {
    let billed = app.sim().map(crate::sim::Sim::billed).unwrap_or_default();
    let ledger = &app.pipeline.ledger;
    let totals = match ledger.totals(&crate::ledger::Filter::default()).await {
        Ok(totals) => totals,
        Err(error) => {
            eprintln!("error: {error}");
            return false;
        }
    };
    let covered = totals.spent <= billed && billed <= totals.spent + totals.unknown;
    println!(
        "\nThe simulated providers billed {}. The ledger has {} charged and {} booked as unknown (the lost answer, at its highest quote): {}.",
        billed.pretty(),
        totals.spent.pretty(),
        totals.unknown.pretty(),
        if covered {
            "the books balance"
        } else {
            "THE BOOKS DO NOT BALANCE"
        }
    );
    covered
}

/// Calls that met a failure and how much an SDK's usual two blind retries of those that may have
/// been billed would have cost on top.
fn blind_retries(decisions: &[Value]) -> (usize, Usd) {
    let mut avoided = Usd::ZERO;
    let mut rescued = 0;
    for decision in decisions {
        let attempts = decision
            .get("attempts")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let failed = |attempt: &&Value| {
            attempt
                .get("failure")
                .is_some_and(|failure| !failure.is_null())
        };
        rescued += usize::from(attempts.iter().any(|attempt| failed(&attempt)));
        avoided += attempts
            .iter()
            .filter(|attempt| attempt.get("billed").and_then(Value::as_str) == Some("unknown"))
            .map(|attempt| money(attempt, "/quote").times(2))
            .sum();
    }
    (rescued, avoided)
}
