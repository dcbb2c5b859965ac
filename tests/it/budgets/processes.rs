//! Several real processes on one ledger, and a process that is killed.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use pixtoll::ledger::{Filter, Ledger, Sync};
use pixtoll::money::Usd;
use pixtoll::sim::{Behaviour, Sim, SimOptions};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{buckets, usd};
use crate::crash::address;
use crate::harness::{post, read_answer};

/// A process with a state of its own and the ledger of all.
fn serve(dir: &Path, name: &str, sim: &Sim, limit: &str) -> Child {
    let config = json!({
        "listen": "127.0.0.1:0", "dashboard": "off", "state_dir": dir.join(name),
        "ledger": format!("sqlite:{}", dir.join("ledger.db").display()),
        "providers": {"stability": {"upstream": sim.url()}},
        "budgets": [{"name": "ten", "limit": limit, "per": "month"}],
    });
    let path = dir.join(format!("{name}.yaml"));
    std::fs::write(&path, config.to_string()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .args(["serve", "--config"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
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
    children.into_iter().for_each(end);
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
    end(child);
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
    end(child);
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
