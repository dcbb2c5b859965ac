//! `kill -9` under load: every bill on the providers' list has its row, once.

use std::process::{Command, Stdio};
use std::time::Duration;

use pixtoll::sim::{Sim, SimOptions};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::{Process, cat, post, read_answer};

pub(crate) fn serve(dir: &std::path::Path, sim: &Sim) -> Process {
    serve_with(dir, sim, &serde_json::json!({}))
}

/// With an `api_key` for each provider, a `job_ttl`, `plugins` and `prices`.
pub(crate) fn serve_with(dir: &std::path::Path, sim: &Sim, more: &serde_json::Value) -> Process {
    let at_sim = || {
        let mut provider = serde_json::json!({"upstream": sim.url()});
        if let Some(key) = more.get("api_key") {
            provider["api_key"] = key.clone();
        }
        provider
    };
    let mut config = serde_json::json!({
        "listen": "127.0.0.1:0", "dashboard": "off", "state_dir": dir.join("state"),
        "job_ttl": more.get("job_ttl").cloned().unwrap_or_else(|| "24h".into()),
        "plugins": more.get("plugins").cloned().unwrap_or_else(|| serde_json::json!([])),
        "providers": {
            "openai": at_sim(), "fal": at_sim(), "replicate": at_sim(), "bfl": at_sim(),
        },
    });
    if let Some(prices) = more.get("prices") {
        config["prices"] = prices.clone();
    }
    let path = dir.join("pixtoll.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtoll"));
    command
        .args(["serve", "--config"])
        .arg(path)
        .env_remove("FAL_KEY")
        .env_remove("BFL_API_KEY")
        .env_remove("REPLICATE_API_TOKEN")
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Process::spawn(&mut command)
}

pub(crate) async fn address(child: &mut Process) -> String {
    let out = tokio::process::ChildStdout::from_std(child.stdout.take().unwrap()).unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(out);
    out.read_line(&mut line).await.unwrap();
    // The rest is read too: who prints into a closed pipe ends there.
    tokio::spawn(async move { while out.read_line(&mut String::new()).await.unwrap_or(0) > 0 {} });
    line.split_whitespace()
        .nth(3)
        .unwrap_or_else(|| panic!("{line}"))
        .to_owned()
}

/// Calls without end, until the proxy is gone.
async fn hammer(address: String, round: usize, lane: usize) {
    for n in 0.. {
        let Ok(mut tcp) = tokio::net::TcpStream::connect(&address).await else {
            return;
        };
        let body = cat(&format!("round {round} lane {lane} call {n}")).to_string();
        let request = post(
            &address,
            "/openai/v1/images/generations",
            &[],
            "application/json",
            &body,
        );
        if tcp.write_all(request.as_bytes()).await.is_err()
            || read_answer(&mut tcp).await.status() == 0
        {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bill_has_its_row_once_however_often_we_are_killed() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
        .await
        .unwrap();
    for round in 0..20 {
        let mut child = serve(dir.path(), &sim);
        let address = address(&mut child).await;
        let lanes: Vec<_> = (0..8)
            .map(|lane| tokio::spawn(hammer(address.clone(), round, lane)))
            .collect();
        let before = sim.requests().len() as u64;
        // Killed once some calls are through and more are under way; where exactly differs each time.
        let some = tokio::time::timeout(
            Duration::from_secs(20),
            sim.wait_for_requests(before + 3 + round as u64 % 7),
        );
        some.await.expect("calls arrive");
        child.kill().unwrap();
        child.wait().unwrap();
        for lane in lanes {
            lane.await.unwrap();
        }
    }
    // Calls that died have no line, and each start says so.
    let log = std::fs::read_to_string(dir.path().join("state/decisions.jsonl")).unwrap();
    let told =
        |line: &&str| line.contains("\"kind\":\"alert\"") && line.contains("booked as unknown");
    assert!(log.lines().any(|line| told(&line)), "the dead are told of");
    // One more start takes over what the dead left.
    let ledger = pixtoll::ledger::Ledger::open(
        &dir.path().join("state/ledger.db"),
        pixtoll::ledger::Sync::Crash,
    )
    .await
    .unwrap();
    let totals = ledger
        .totals(&pixtoll::ledger::Filter::default())
        .await
        .unwrap();
    let bills = sim.bills();
    assert!(bills.len() > 20, "{}", bills.len());
    let rows = rows(&ledger).await;
    for bill in &bills {
        let named = rows
            .iter()
            .filter(|row| row.as_deref() == Some(bill.id.as_str()))
            .count();
        assert!(named <= 1, "{} is booked {named} times", bill.id);
    }
    let settled = rows.iter().flatten().count();
    let unknown = rows.len() - settled;
    assert_eq!(settled + unknown, rows.len());
    assert!(
        bills
            .iter()
            .filter(|bill| !rows.iter().flatten().any(|id| *id == bill.id))
            .count()
            <= unknown,
        "a bill without a row: {} bills, {settled} settled, {unknown} unknown",
        bills.len()
    );
    assert!(totals.open == 0, "no hold stays open");
    let spent = (totals.spent + totals.unknown).nano();
    assert!(
        spent >= bills.iter().map(|bill| bill.nano_usd).sum::<i64>(),
        "no settled charge is lost"
    );
}

/// The request id of every row; `None` where the end was not seen.
async fn rows(ledger: &pixtoll::ledger::Ledger) -> Vec<Option<String>> {
    ledger
        .all_rows()
        .await
        .unwrap()
        .into_iter()
        .map(|row| row.settled.and_then(|settled| settled.request_id))
        .collect()
}

/// A price file by which a model costs from today on what `change` makes of its row, and until
/// yesterday what it does.
pub(crate) fn another_price_since_today(model: &str, change: (&str, &str)) -> String {
    let book = pixtoll::price::Book::embedded();
    let id = pixtoll::image::ModelId::parse(model).unwrap();
    let row = book.row_to_yaml(book.model(&id).unwrap());
    let other = row.replace(change.0, change.1);
    assert_ne!(row, other);
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    format!("models:\n{row}  valid_to: {today}\n{other}  valid_from: {today}\n")
}

/// Moves a column of times in a ledger that nobody has open two days back.
pub(crate) async fn two_days_ago(dir: &std::path::Path, table: &str) {
    use sqlx::ConnectOptions as _;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(dir.join("state/ledger.db"))
        .connect()
        .await
        .unwrap();
    let sql = match table {
        "jobs" => "UPDATE jobs SET at = at - 172800000000",
        _ => "UPDATE attempts SET at = at - 172800000000",
    };
    let moved = sqlx::query(sql).execute(&mut connection).await.unwrap();
    assert_eq!(moved.rows_affected(), 1);
}
