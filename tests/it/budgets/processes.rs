//! Several real processes on one ledger, and a process that is killed.

use std::path::Path;
use std::process::{Command, Stdio};

use pixtoll::ledger::{Filter, Ledger, Sync};
use pixtoll::money::Usd;
use pixtoll::sim::{Behaviour, Sim, SimOptions};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::{buckets, usd};
use crate::crash::address;
use crate::harness::{Process, cat, post, read_answer};

/// A process with a state of its own and the ledger of all.
fn serve(dir: &Path, name: &str, sim: &Sim, limit: &str) -> Process {
    start(dir, name, sim, limit, &json!({}))
}

fn start(dir: &Path, name: &str, sim: &Sim, limit: &str, more: &Value) -> Process {
    let mut config = json!({
        "listen": "127.0.0.1:0", "dashboard": "off", "state_dir": dir.join(name),
        "ledger": format!("sqlite:{}", dir.join("ledger.db").display()),
        "providers": {"stability": {"upstream": sim.url()}, "studio": {"dialect": "openai", "upstream": sim.url()}},
        "budgets": [{"name": "ten", "limit": limit, "per": "month"}],
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    let path = dir.join(format!("{name}.yaml"));
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixtoll"));
    command
        .args(["serve", "--config"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    Process::spawn(&mut command)
}

/// One picture of a model whose price leaves nothing open; its status.
async fn buy(address: &str, prompt: &str) -> u16 {
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = format!(
        "{}{}--b--\r\n",
        field("prompt", prompt),
        field("model", "sd3.5-medium")
    );
    let path = "/stability/v2beta/stable-image/generate/sd3";
    let request = post(
        address,
        path,
        &[("accept", "image/*")],
        "multipart/form-data; boundary=b",
        &body,
    );
    let Ok(mut tcp) = tokio::net::TcpStream::connect(address).await else {
        return 0;
    };
    if tcp.write_all(request.as_bytes()).await.is_err() {
        return 0;
    }
    read_answer(&mut tcp).await.status()
}

async fn simulated() -> Sim {
    let options = SimOptions::default();
    Sim::start(([127, 0, 0, 1], 0).into(), options)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_ledger_let_ten_of_two_hundred_through() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = simulated().await;
    let mut children = [
        serve(dir.path(), "one", &sim, "0.35"),
        serve(dir.path(), "two", &sim, "0.35"),
    ];
    let addresses = [
        address(&mut children[0]).await,
        address(&mut children[1]).await,
    ];
    let calls = (0..200).map(|n| {
        let address = &addresses[n % 2];
        async move { buy(address, &format!("cat {n}")).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    let with = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((with(200), with(402)), (10, 190), "{answers:?}");
    assert_eq!(sim.requests().len(), 10);
    assert_eq!(sim.bills().len(), 10);
    children.into_iter().for_each(Process::kill_9);
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path, Sync::Crash).await.unwrap();
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!(
        (totals.held, totals.open, totals.attempts),
        (Usd::ZERO, 0, 10)
    );
    assert_eq!(
        buckets(&path).await,
        [("all".to_owned(), usd("0.35").nano(), 0)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_held_still_counts() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = simulated().await;
    sim.script("stability", vec![Behaviour::hold(); 6]);
    let mut child = serve(dir.path(), "one", &sim, "0.35");
    let first = address(&mut child).await;
    let lanes: Vec<_> = (0..6)
        .map(|n| {
            let first = first.clone();
            tokio::spawn(async move { buy(&first, &format!("cat {n}")).await })
        })
        .collect();
    sim.wait_for_requests(6).await;
    child.kill_9();
    for lane in lanes {
        assert_ne!(lane.await.unwrap(), 200);
    }
    sim.release();
    let mut child = serve(dir.path(), "one", &sim, "0.35");
    let second = address(&mut child).await;
    let mut answers = Vec::new();
    for n in 6..14 {
        answers.push(buy(&second, &format!("cat {n}")).await);
    }
    assert_eq!(answers, [200, 200, 200, 200, 402, 402, 402, 402]);
    assert_eq!(
        sim.requests().len(),
        10,
        "six of the dead, four of the living"
    );
    child.kill_9();
    let path = dir.path().join("ledger.db");
    let ledger = Ledger::open(&path, Sync::Crash).await.unwrap();
    let totals = ledger.totals(&Filter::default()).await.unwrap();
    assert_eq!((totals.unknown, totals.spent), (usd("0.21"), usd("0.14")));
    assert_eq!((totals.held, totals.open), (Usd::ZERO, 0));
    assert_eq!(
        buckets(&path).await,
        [("all".to_owned(), usd("0.35").nano(), 0)]
    );
}

/// The lines of a process's decision log, once `calls` of them are calls.
async fn lines(log: &Path, calls: usize) -> Vec<Value> {
    for _ in 0..2000 {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let lines: Vec<Value> = whole
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.iter().filter(|line| line["type"] == "call").count() >= calls {
            return lines;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("fewer than {calls} calls in {}", log.display());
}

#[tokio::test]
async fn an_unpriced_model_is_held_at_its_ceiling_and_alerted() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = simulated().await;
    let more = json!({"unpriced_hold": 0.40});
    let mut child = start(dir.path(), "one", &sim, "1.00", &more);
    let address = address(&mut child).await;
    let mut statuses = Vec::new();
    for prompt in ["two cats", "two more"] {
        let mut body = cat(prompt);
        body["n"] = json!(2);
        let path = "/studio/v1/images/generations";
        let request = post(&address, path, &[], "application/json", &body.to_string());
        let mut tcp = tokio::net::TcpStream::connect(&address).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        statuses.push(read_answer(&mut tcp).await.status());
    }
    assert_eq!(statuses, [200, 402], "0.80 and 0.80");
    let lines = lines(&dir.path().join("one/decisions.jsonl"), 2).await;
    child.kill_9();
    let calls: Vec<&Value> = lines.iter().filter(|line| line["type"] == "call").collect();
    assert_eq!(calls[0]["budgets"][0]["held"], json!(0.8), "{}", calls[0]);
    assert!(
        calls[0]["attempts"][0]["charge"].is_null(),
        "an unknown price is not told as one"
    );
    let alerts = lines.iter().filter(|line| line["kind"] == "alert");
    let unpriced = alerts.filter(|alert| alert["fields"]["model"] == "studio/gpt-image-2");
    assert_eq!(unpriced.count(), 1);
    drop(
        Ledger::open(&dir.path().join("ledger.db"), Sync::Crash)
            .await
            .unwrap(),
    );
    let path = dir.path().join("ledger.db");
    assert_eq!(
        buckets(&path).await,
        [("all".to_owned(), usd("0.80").nano(), 0)]
    );
}
