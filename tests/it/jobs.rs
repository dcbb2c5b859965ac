//! Providers that work on jobs: callers that wait for them, and callers that ask later.

use std::time::Duration;

use base64::Engine as _;
use pixtoll::config::{PluginEntry, Settings};
use pixtoll::sim::{Behaviour, Sim, SimOptions};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::crash::{address, another_price_since_today, serve, serve_with, two_days_ago};
use crate::harness::{Answer, Process, Rig, cat, read_answer};

const FAL: &str = "queue.fal.run";
const REPLICATE: &str = "api.replicate.com";
const BFL: &str = "api.bfl.ai";
const SCHNELL: &str = "/v1/models/black-forest-labs/flux-schnell/predictions";

async fn rig(rule: Option<&str>) -> Rig {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("rule.lua");
    std::fs::write(&file, rule.unwrap_or_default()).unwrap();
    Rig::with(|settings: &mut Settings| {
        if rule.is_some() {
            let plugin = PluginEntry::named(file.to_str().unwrap());
            settings.plugins.push(plugin);
        }
    })
    .await
}

fn route_to(model: &str, more: &str) -> String {
    format!(
        "return {{ on_request = function(call) return call:route(\"{model}\", {{ reason = \"test\"{more} }}) end }}"
    )
}

/// One request of an intercepted app, with its key where the provider looks for it.
async fn ask(rig: &Rig, method: &str, host: &str, path: &str, more: &str, body: &str) -> Answer {
    let mut tls = rig.tls(host, 443).await;
    let key = match host {
        BFL => "x-key: sk-canary",
        FAL | "fal.run" => "authorization: Key sk-canary",
        _ => "authorization: Bearer sk-canary",
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}\r\n{body}",
        body.len()
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut tls).await
}

async fn submit(rig: &Rig, host: &str, path: &str, body: &Value) -> Value {
    let answer = ask(rig, "POST", host, path, "", &body.to_string()).await;
    assert!(answer.status() < 300, "{}", answer.text());
    answer.json()
}

/// Follows a URL that an answer gave.
async fn follow(rig: &Rig, url: &Value) -> Answer {
    let url = url.as_str().unwrap().strip_prefix("https://").unwrap();
    let (host, path) = url.split_once('/').unwrap();
    ask(rig, "GET", host, &format!("/{path}"), "", "").await
}

fn pixels(file: &[u8]) -> Option<(u32, u32)> {
    pixtoll::image::header::read(file).pixels
}

fn b64_pixels(answer: &Answer) -> Option<(u32, u32)> {
    let text = answer.json()["data"][0]["b64_json"].as_str()?.to_owned();
    let file = base64::engine::general_purpose::STANDARD
        .decode(text)
        .ok()?;
    pixels(&file)
}

// Callers that wait.

#[tokio::test]
async fn a_caller_that_waits_gets_the_picture_of_a_job() {
    for (model, charge_from) in [
        ("bfl/flux-2-pro", "reported"),
        ("fal/fal-ai/flux/dev", "reported"),
        ("replicate/black-forest-labs/flux-schnell", "list"),
    ] {
        let rig = rig(Some(&route_to(model, ""))).await;
        let answer = rig.generate(&cat("a boat")).await;
        assert_eq!(answer.status(), 200, "{model}: {}", answer.text());
        assert_eq!(b64_pixels(&answer), Some((1024, 1024)), "{model}");
        assert_eq!(answer.header("x-pixtoll-route"), Some(model));
        let again = rig.generate(&cat("a boat")).await;
        assert!(again.header("cache-status").unwrap().contains("hit"));
        assert_eq!(again.body, answer.body);
        let decisions = rig.decisions(2).await;
        let attempt = &decisions[0]["attempts"][0];
        assert!(attempt["job"].is_string(), "{attempt}");
        assert_eq!(attempt["charge_from"], charge_from, "{model}");
        assert_eq!(rig.sim().bills().len(), 1);
        assert_eq!(rig.billed(), rig.booked().await, "{model}");
    }
}

#[tokio::test]
async fn a_job_that_moderation_stops_is_a_safety_block_of_the_callers() {
    let rig = rig(Some(&route_to("bfl/flux-2-pro", ""))).await;
    for words in ["safety", "safety_output"] {
        rig.script("bfl", &[words]);
        let answer = rig.generate(&cat("a duel")).await;
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.json()["error"]["code"], "moderation_blocked");
    }
    let decisions = rig.decisions(2).await;
    let at = |i: usize| decisions[i]["attempts"][0]["failure"]["safety_at"].clone();
    assert_eq!((at(0), at(1)), (json!("input"), json!("output")));
    assert_eq!((rig.billed(), rig.booked().await), (0, 0));
}

#[tokio::test]
async fn a_job_that_does_not_end_in_time_is_unknown() {
    let rig = rig(Some(&route_to("bfl/flux-2-pro", ", timeout = 2"))).await;
    rig.script("bfl", &["stall"]);
    let answer = rig.generate(&cat("a boat")).await;
    assert_eq!(answer.status(), 504, "{}", answer.text());
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    let attempt = rig.decisions(1).await[0]["attempts"][0].clone();
    assert_eq!(attempt["outcome"], "unknown");
    assert!(
        attempt["failure"]["message"]
            .as_str()
            .unwrap()
            .contains("job")
    );
}

// Callers that ask later.

#[tokio::test]
async fn a_job_of_fal_passes_and_is_one_call() {
    let rig = rig(None).await;
    rig.script("fal", &["hold"]);
    let body = json!({"prompt": "a boat", "image_size": "square_hd", "seed": 5});
    let job = submit(&rig, FAL, "/fal-ai/flux/dev", &body).await;
    assert_eq!(job["status"], "IN_QUEUE");
    assert_eq!(
        follow(&rig, &job["status_url"]).await.json()["status"],
        "IN_PROGRESS"
    );
    rig.sim().release();
    assert_eq!(
        follow(&rig, &job["status_url"]).await.json()["status"],
        "COMPLETED"
    );
    let result = follow(&rig, &job["response_url"]).await;
    assert_eq!(result.header("x-fal-billable-units"), Some("1"));
    assert!(result.json()["images"][0]["url"].is_string());
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["attempts"][0]["job"], job["request_id"]);
    assert_eq!(
        decision["attempts"][0]["codes"]["x-fal-billable-units"],
        "1"
    );
    assert_eq!(decision["answered"]["images"], 1);
    assert_eq!(rig.billed(), rig.booked().await);

    // The same again is ours: nothing is bought, and its questions find the picture.
    let again = submit(&rig, FAL, "/fal-ai/flux/dev", &body).await;
    assert_ne!(again["request_id"], job["request_id"]);
    assert_eq!(
        follow(&rig, &again["status_url"]).await.json()["status"],
        "COMPLETED"
    );
    let repeated = follow(&rig, &again["response_url"]).await.json();
    assert_eq!(
        repeated["images"][0]["url"],
        result.json()["images"][0]["url"]
    );
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.decisions(2).await[1]["cache"]["status"], "hit");
}

#[tokio::test]
async fn a_charge_is_asked_for_where_the_app_does_not_ask() {
    let rig = rig(None).await;
    let body = json!({"prompt": "a boat", "width": 1024, "height": 1024});
    let job = submit(&rig, BFL, "/v1/flux-2-pro", &body).await;
    assert_eq!(job["cost"], 3.0);
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["attempts"][0]["charge_from"], "reported");
    assert_eq!(decision["attempts"][0]["outcome"], "ok");
    assert_eq!(rig.booked().await, 30_000_000);
    let ready = follow(&rig, &job["polling_url"]).await.json();
    assert_eq!(ready["status"], "Ready");
}

#[tokio::test]
async fn equal_submits_are_one_job_that_each_may_ask_about() {
    let rig = rig(None).await;
    rig.script("fal", &["hold"]);
    let body = json!({"prompt": "a boat"});
    let first = submit(&rig, FAL, "/fal-ai/flux/dev", &body).await;
    let second = submit(&rig, FAL, "/fal-ai/flux/dev", &body).await;
    assert_eq!(first, second);
    rig.sim().release();
    for job in [&first, &second] {
        let result = follow(&rig, &job["response_url"]).await;
        assert_eq!(result.status(), 200);
    }
    let decisions = rig.decisions(2).await;
    let statuses: Vec<&Value> = decisions.iter().map(|d| &d["cache"]["status"]).collect();
    assert!(statuses.contains(&&json!("miss")) && statuses.contains(&&json!("collapsed")));
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_submit_that_is_moved_is_a_job_of_ours() {
    let rig = rig(Some(&route_to("stability/sd3.5-medium", ""))).await;
    rig.script("stability", &["hold"]);
    let body = json!({"prompt": "a boat", "image_size": "square_hd"});
    let job = submit(&rig, FAL, "/fal-ai/flux/dev", &body).await;
    rig.sim().wait_for_requests(1).await;
    assert_eq!(
        follow(&rig, &job["status_url"]).await.json()["status"],
        "IN_PROGRESS"
    );
    assert_eq!(follow(&rig, &job["response_url"]).await.status(), 400);
    rig.sim().release();
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["answered"]["model"], "stability/sd3.5-medium");
    assert_eq!(
        follow(&rig, &job["status_url"]).await.json()["status"],
        "COMPLETED"
    );
    let result = follow(&rig, &job["response_url"]).await.json();
    let url = result["images"][0]["url"].as_str().unwrap();
    let path = url.split_once("/_pixtoll/").unwrap().1;
    let host = rig.address();
    let picture = rig
        .raw(&format!(
            "GET /_pixtoll/{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ))
        .await;
    assert!(picture.starts_with("HTTP/1.1 200"), "{picture}");
    // Nobody else may ask about it.
    let mut tls = rig.tls(FAL, 443).await;
    let place = job["status_url"]
        .as_str()
        .unwrap()
        .split_once(FAL)
        .unwrap()
        .1
        .to_owned();
    let stranger =
        format!("GET {place} HTTP/1.1\r\nHost: {FAL}\r\nAuthorization: Key sk-other\r\n\r\n");
    tls.write_all(stranger.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut tls).await.status(), 404);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_moved_submit_that_fails_says_so_when_it_is_asked() {
    let rig = rig(Some(&route_to("stability/sd3.5-medium", ""))).await;
    rig.script("stability", &["safety"; 3]);
    let body = json!({"input": {"prompt": "a duel"}});
    let job = submit(&rig, REPLICATE, SCHNELL, &body).await;
    rig.decisions(1).await;
    let told = follow(&rig, &job["urls"]["get"]).await.json();
    assert_eq!(told["status"], "failed");
    assert!(told["error"].as_str().unwrap().contains("NSFW"), "{told}");
    let job = submit(&rig, BFL, "/v1/flux-2-pro", &json!({"prompt": "a duel"})).await;
    rig.decisions(2).await;
    let told = follow(&rig, &job["polling_url"]).await.json();
    assert_eq!(told["status"], "Request Moderated");
    assert_eq!(rig.billed(), 0);
}

#[tokio::test]
async fn a_job_that_fails_goes_where_the_rule_says_and_is_ours() {
    let rule = "return { on_failure = function(call) return call:route(\"stability/sd3.5-medium\", { reason = \"safety block\" }) end }";
    let rig = rig(Some(rule)).await;
    rig.script("fal", &["safety"]);
    let job = submit(&rig, FAL, "/fal-ai/flux/dev", &json!({"prompt": "a duel"})).await;
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["answered"]["model"], "stability/sd3.5-medium");
    assert_eq!(decision["attempts"][0]["failure"]["kind"], "safety");
    let result = follow(&rig, &job["response_url"]).await;
    assert_eq!(result.status(), 200, "{}", result.text());
    assert!(result.json()["images"][0]["url"].is_string());
    assert_eq!(rig.billed(), 35_000_000);
}

#[tokio::test]
async fn no_submitter_ends_a_job_for_another() {
    let rig = rig(None).await;
    let body = json!({"input": {"prompt": "a boat"}});
    rig.script("replicate", &["stall"; 2]);
    let alone = submit(
        &rig,
        REPLICATE,
        SCHNELL,
        &json!({"input": {"prompt": "a hut"}}),
    )
    .await;
    let shared = submit(&rig, REPLICATE, SCHNELL, &body).await;
    let again = submit(&rig, REPLICATE, SCHNELL, &body).await;
    assert_eq!(shared["id"], again["id"]);
    let cancel = |job: &Value| {
        let url = job["urls"]["cancel"].as_str().unwrap();
        url.split_once(REPLICATE).unwrap().1.to_owned()
    };
    let told = ask(&rig, "POST", REPLICATE, &cancel(&shared), "", "").await;
    assert_eq!(told.json()["status"], "processing");
    assert_eq!(
        follow(&rig, &again["urls"]["get"]).await.json()["status"],
        "processing"
    );
    let told = ask(&rig, "POST", REPLICATE, &cancel(&alone), "", "").await;
    assert_eq!(told.json()["status"], "canceled");
    assert_eq!(
        follow(&rig, &alone["urls"]["get"]).await.json()["status"],
        "canceled"
    );
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["attempts"][0]["failure"]["code"], "canceled");
}

#[tokio::test]
async fn a_prediction_that_is_waited_for_passes_as_it_is() {
    let rig = rig(None).await;
    let body = json!({"input": {"prompt": "a boat"}}).to_string();
    let wait = "Prefer: wait=5\r\n";
    let done = ask(&rig, "POST", REPLICATE, SCHNELL, wait, &body).await;
    assert_eq!(done.json()["status"], "succeeded");
    assert_eq!(done.json()["source"], "api");
    let again = ask(&rig, "POST", REPLICATE, SCHNELL, wait, &body).await;
    assert_eq!(
        (again.status(), &again.json()["status"]),
        (201, &json!("succeeded"))
    );
    assert_eq!(again.json()["output"], done.json()["output"]);
    assert!(
        again.header("cache-status").unwrap().contains("hit"),
        "{}",
        again.head
    );
    // Who does not wait asks, and finds it.
    let job = submit(
        &rig,
        REPLICATE,
        SCHNELL,
        &json!({"input": {"prompt": "a boat"}}),
    )
    .await;
    let told = follow(&rig, &job["urls"]["get"]).await.json();
    assert_eq!(told["output"], done.json()["output"]);
    assert_eq!(rig.sim().bills().len(), 1);
    rig.decisions(3).await;
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_submit_that_names_a_webhook_is_neither_moved_nor_collapsed() {
    let rig = rig(Some(&route_to("stability/sd3.5-medium", ""))).await;
    let body = json!({"prompt": "a boat"});
    let path = "/fal-ai/flux/dev?fal_webhook=https%3A%2F%2Fapp.example%2Ffal";
    let first = submit(&rig, FAL, path, &body).await;
    let second = submit(&rig, FAL, path, &body).await;
    assert_ne!(first["request_id"], second["request_id"]);
    let decisions = rig.decisions(2).await;
    for decision in &decisions {
        assert_eq!(decision["attempts"][0]["model"], "fal/fal-ai/flux/dev");
        assert_eq!(decision["attempts"][0]["outcome"], "ok");
        assert!(decision["notes"][0].as_str().unwrap().contains("webhook"));
    }
    assert_eq!(rig.sim().bills().len(), 2);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn what_was_submitted_and_refused_is_the_providers_own_answer() {
    let rig = rig(None).await;
    rig.script("bfl", &["rate_limited retry_after=1"]);
    let body = json!({"prompt": "a boat"}).to_string();
    let refused = ask(&rig, "POST", BFL, "/v1/flux-2-pro", "", &body).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json()["detail"], "Too many active tasks");
    rig.script("fal", &["safety"]);
    let job = submit(&rig, FAL, "/fal-ai/flux/dev", &json!({"prompt": "a duel"})).await;
    let result = follow(&rig, &job["response_url"]).await;
    assert_eq!(result.status(), 422);
    assert_eq!(
        result.json()["detail"][0]["type"],
        "content_policy_violation"
    );
    let decision = rig.decisions(2).await.remove(1);
    assert_eq!(decision["error"]["kind"], "safety");
    assert_eq!((rig.billed(), rig.booked().await), (0, 0));
}

#[tokio::test]
async fn fal_at_once_is_answered_at_once() {
    let rig = rig(None).await;
    let body = json!({"prompt": "a boat", "sync_mode": true}).to_string();
    let path = "/fal-ai/flux/dev";
    let first = ask(&rig, "POST", "fal.run", path, "", &body).await;
    let url = first.json()["images"][0]["url"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(url.starts_with("data:image/jpeg;base64,"), "{}", &url[..40]);
    let second = ask(&rig, "POST", "fal.run", path, "", &body).await;
    assert_eq!(first.body, second.body);
    assert_eq!(rig.sim().bills().len(), 1);
    tokio::time::timeout(Duration::from_secs(5), rig.decisions(2))
        .await
        .unwrap();
}

// Jobs that outlive the process.

/// A provider of jobs, as its apps speak to it.
#[derive(Clone, Copy)]
struct Queue {
    provider: &'static str,
    key: &'static str,
    submit: &'static str,
    body: &'static str,
}

const QUEUES: [Queue; 3] = [
    Queue {
        provider: "fal",
        key: "Authorization: Key sk-canary",
        submit: "/fal-ai/flux/dev",
        body: r#"{"prompt": "a boat"}"#,
    },
    Queue {
        provider: "replicate",
        key: "Authorization: Bearer sk-canary",
        submit: SCHNELL,
        body: r#"{"input": {"prompt": "a boat"}}"#,
    },
    Queue {
        provider: "bfl",
        key: "x-key: sk-canary",
        submit: "/v1/flux-2-pro",
        body: r#"{"prompt": "a boat", "width": 1024, "height": 1024}"#,
    },
];

impl Queue {
    /// One request to the gateway of a pixtoll that runs as a process of its own.
    async fn ask(self, address: &str, method: &str, path: &str, body: &str) -> Answer {
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!(
            "{method} /{}{path} HTTP/1.1\r\nHost: {address}\r\n{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.provider,
            self.key,
            body.len()
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut tcp).await
    }

    /// Submits, and waits until the ledger has the job.
    async fn submit(self, address: &str, dir: &std::path::Path) -> Value {
        let answer = self.ask(address, "POST", self.submit, self.body).await;
        assert!(answer.status() < 300, "{}", answer.text());
        let path = dir.join("state/ledger.db");
        for _ in 0..400 {
            let ledger = pixtoll::ledger::Ledger::open(&path, pixtoll::ledger::Sync::Crash);
            if let Ok(ledger) = ledger.await {
                let kept = ledger.kept_jobs().await.unwrap_or_default();
                let _ = ledger.close().await;
                if !kept.is_empty() {
                    return answer.json();
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{}: the job is not in the ledger's list", self.provider)
    }

    /// Asks until the job is done, the way its app would.
    async fn follow(self, address: &str, job: &Value, sim: &Sim) {
        let place = |url: &Value| {
            let url = url.as_str().unwrap();
            let path = url.strip_prefix(&sim.url()).unwrap_or(url);
            let prefix = format!("http://{address}/{}", self.provider);
            path.strip_prefix(&prefix).unwrap_or(path).to_owned()
        };
        let places = match self.provider {
            "fal" => vec![place(&job["status_url"]), place(&job["response_url"])],
            "replicate" => vec![place(&job["urls"]["get"])],
            _ => vec![place(&job["polling_url"])],
        };
        for place in places {
            let path = match place.split_once("://") {
                Some((_, rest)) => rest
                    .split_once('/')
                    .map(|(_, path)| format!("/{path}"))
                    .unwrap(),
                None => place,
            };
            let told = self.ask(address, "GET", &path, "").await;
            assert_eq!(
                told.status(),
                200,
                "{}: {path}: {}",
                self.provider,
                told.text()
            );
        }
    }
}

/// The lines of one kind in the log, once there are `count`.
async fn lines(dir: &std::path::Path, kind: &str, count: usize) -> Vec<Value> {
    let log = dir.join("state/decisions.jsonl");
    for _ in 0..6000 {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let found: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["type"] == kind)
            .collect();
        if found.len() >= count {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("fewer than {count} lines of `{kind}`");
}

/// The one row of the ledger, once no job is kept any more: a job's last line is written before it is
/// forgotten.
async fn only_row(dir: &std::path::Path) -> pixtoll::ledger::Row {
    let path = dir.join("state/ledger.db");
    let ledger = pixtoll::ledger::Ledger::open(&path, pixtoll::ledger::Sync::Crash)
        .await
        .unwrap();
    for _ in 0..6000 {
        if ledger.kept_jobs().await.unwrap().is_empty() {
            let mut rows = ledger.all_rows().await.unwrap();
            assert_eq!(rows.len(), 1, "{rows:?}");
            return rows.remove(0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a job is still kept");
}

async fn queue() -> (tempfile::TempDir, Sim) {
    let sim = Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default());
    (tempfile::TempDir::new().unwrap(), sim.await.unwrap())
}

/// The log of a call whose process was killed: its line as nobody saw the end, and the correction.
async fn told_late(dir: &std::path::Path, sim: &Sim, queue: Queue) {
    let amend = lines(dir, "amend", 1).await.remove(0);
    let calls = lines(dir, "call", 1).await;
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = &calls[0];
    assert_eq!(amend["id"], call["id"]);
    assert_eq!(call["attempts"][0]["outcome"], "unknown", "{call}");
    assert!(call["attempts"][0]["job"].is_string(), "{call}");
    assert!(
        call["asked"]["model"]
            .as_str()
            .unwrap()
            .starts_with(queue.provider)
    );
    assert!(
        call["error"]["message"]
            .as_str()
            .unwrap()
            .contains("ended before")
    );
    assert!(call["ended_at"].as_str() >= call["at"].as_str());
    let cost = amend["cost"].as_f64().unwrap() * 1e9;
    assert_eq!(cost.round() as i64, sim.bills()[0].nano_usd, "{amend}");
}

#[tokio::test]
async fn a_job_whose_process_was_killed_is_settled_when_its_app_asks_the_next() {
    for queue_of in QUEUES {
        let (dir, sim) = queue().await;
        sim.script(queue_of.provider, [Behaviour::hold()]);
        let mut first = serve(dir.path(), &sim);
        let gateway = address(&mut first).await;
        let job = queue_of.submit(&gateway, dir.path()).await;
        first.kill_9();

        let mut second = serve(dir.path(), &sim);
        let gateway = address(&mut second).await;
        assert!(
            lines(dir.path(), "call", 0).await.is_empty(),
            "it has not ended"
        );
        sim.release();
        queue_of.follow(&gateway, &job, &sim).await;
        told_late(dir.path(), &sim, queue_of).await;
        second.kill_9();
        let row = only_row(dir.path()).await;
        let settled = row.settled.as_ref().unwrap();
        assert!(!row.assumed, "{settled:?}");
        assert_eq!(settled.outcome, pixtoll::ledger::Outcome::Ok);
        assert_eq!(settled.charge.unwrap().nano(), sim.bills()[0].nano_usd);
    }
}

#[tokio::test]
async fn a_job_whose_process_was_killed_is_asked_for_where_a_key_of_ours_is_configured() {
    for queue_of in QUEUES {
        let (dir, sim) = queue().await;
        sim.script(queue_of.provider, [Behaviour::hold()]);
        let keys = json!({"api_key": "sk-ours"});
        let mut first = serve_with(dir.path(), &sim, &keys);
        let gateway = address(&mut first).await;
        queue_of.submit(&gateway, dir.path()).await;
        first.kill_9();
        sim.release();

        let mut second = serve_with(dir.path(), &sim, &keys);
        address(&mut second).await;
        told_late(dir.path(), &sim, queue_of).await;
        second.kill_9();
        let row = only_row(dir.path()).await;
        assert!(!row.assumed);
        let charge = row.settled.unwrap().charge.unwrap();
        assert_eq!(charge.nano(), sim.bills()[0].nano_usd);
    }
}

#[tokio::test]
async fn a_job_is_charged_by_the_prices_of_its_own_day() {
    let (dir, sim) = queue().await;
    let queue_of = QUEUES[0];
    sim.script(queue_of.provider, [Behaviour::hold()]);
    let dearer = another_price_since_today("fal/fal-ai/flux/dev", ("0.025", "0.9"));
    let prices = dir.path().join("prices.yaml");
    std::fs::write(&prices, dearer).unwrap();
    let more = json!({"api_key": "sk-ours", "job_ttl": "7d", "prices": [prices]});
    let mut first = serve_with(dir.path(), &sim, &more);
    let gateway = address(&mut first).await;
    queue_of.submit(&gateway, dir.path()).await;
    first.kill_9();
    two_days_ago(dir.path(), "jobs").await;
    sim.release();
    let mut second = serve_with(dir.path(), &sim, &more);
    address(&mut second).await;
    told_late(dir.path(), &sim, queue_of).await;
    second.kill_9();
}

#[tokio::test]
async fn a_job_that_nobody_asks_about_is_unknown_when_its_time_is_over() {
    let (dir, sim) = queue().await;
    let queue_of = QUEUES[0];
    sim.script(queue_of.provider, [Behaviour::hold()]);
    let mut first = serve(dir.path(), &sim);
    let gateway = address(&mut first).await;
    queue_of.submit(&gateway, dir.path()).await;
    first.kill_9();

    let mut second = serve_with(dir.path(), &sim, &json!({"job_ttl": "1s"}));
    address(&mut second).await;
    let call = lines(dir.path(), "call", 1).await.remove(0);
    assert_eq!(call["attempts"][0]["outcome"], "unknown");
    assert_eq!(call["attempts"][0]["billed"], "unknown");
    second.kill_9();
    let row = only_row(dir.path()).await;
    assert!(row.assumed);
    let booked = row.settled.unwrap().charge.unwrap();
    let logged = call["cost"].as_f64().unwrap() * 1e9;
    assert_eq!(logged.round() as i64, booked.nano(), "log and ledger agree");
    // It is written once, however often pixtoll starts.
    let mut third = serve(dir.path(), &sim);
    address(&mut third).await;
    third.kill_9();
    assert_eq!(lines(dir.path(), "call", 1).await.len(), 1);
}

#[tokio::test]
async fn a_job_of_ours_whose_process_was_killed_has_failed() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
        .await
        .unwrap();
    let mut first = serve(dir.path(), &sim);
    let gateway = address(&mut first).await;
    let body = json!({"prompt": "a boat", "sync_mode": true}).to_string();
    let path = "/fal-ai/flux/dev";
    let job = QUEUES[0].ask(&gateway, "POST", path, &body).await.json();
    let theirs = job["response_url"]
        .as_str()
        .unwrap()
        .strip_prefix(&sim.url())
        .unwrap();
    assert_eq!(
        QUEUES[0].ask(&gateway, "GET", theirs, "").await.status(),
        200
    );
    let again = QUEUES[0].ask(&gateway, "POST", path, &body).await.json();
    let id = again["request_id"].as_str().unwrap();
    assert_ne!(id, job["request_id"]);
    let ours = format!("/fal-ai/flux/requests/{id}");
    assert_eq!(
        QUEUES[0].ask(&gateway, "GET", &ours, "").await.status(),
        200
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    first.kill().unwrap();
    first.wait().unwrap();

    let mut second = serve(dir.path(), &sim);
    let gateway = address(&mut second).await;
    let told = QUEUES[0].ask(&gateway, "GET", &ours, "").await;
    assert_eq!(told.status(), 503, "{}", told.text());
    assert!(told.text().contains("ask for it again"), "{}", told.text());
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(sim.bills().len(), 1);
}

// Jobs that several processes see.

#[tokio::test]
async fn a_job_is_followed_through_another_process_on_the_same_ledger_and_charged_once() {
    for queue_of in QUEUES {
        let (dir, sim) = queue().await;
        sim.script(queue_of.provider, [Behaviour::hold()]);
        let (mut first, mut second) = (serve(dir.path(), &sim), serve(dir.path(), &sim));
        let (one, other) = (address(&mut first).await, address(&mut second).await);
        let job = queue_of.submit(&one, dir.path()).await;
        sim.release();
        queue_of.follow(&other, &job, &sim).await;
        let call = lines(dir.path(), "call", 1).await.remove(0);
        assert_eq!(call["attempts"][0]["outcome"], "ok", "{call}");
        [first, second].into_iter().for_each(Process::kill_9);
        let row = only_row(dir.path()).await;
        assert!(!row.assumed);
        let charge = row.settled.unwrap().charge.unwrap();
        assert_eq!(charge.nano(), sim.bills()[0].nano_usd);
        assert_eq!(lines(dir.path(), "call", 1).await.len(), 1);
    }
}

#[tokio::test]
async fn a_job_of_ours_is_asked_about_at_any_process_on_the_same_ledger() {
    let (dir, sim) = queue().await;
    sim.script("openai", [Behaviour::hold()]);
    let rule = dir.path().join("rule.lua");
    std::fs::write(&rule, route_to("openai/gpt-image-2", "")).unwrap();
    let more = json!({"api_key": "sk-ours", "plugins": [rule]});
    let mut first = serve_with(dir.path(), &sim, &more);
    let one = address(&mut first).await;
    let job = QUEUES[0].submit(&one, dir.path()).await;
    // It lives, whatever a process that starts now may think of a job without an end.
    let mut second = serve_with(dir.path(), &sim, &more);
    let other = address(&mut second).await;
    let id = job["request_id"].as_str().unwrap();
    let asked = format!("/fal-ai/flux/requests/{id}");
    let status = format!("{asked}/status");
    let told = QUEUES[0].ask(&other, "GET", &status, "").await;
    assert_eq!(told.json()["status"], "IN_PROGRESS", "{}", told.text());
    assert!(lines(dir.path(), "call", 0).await.is_empty());
    let stranger = Queue {
        key: "Authorization: Key sk-of-another",
        ..QUEUES[0]
    };
    let told = stranger.ask(&other, "GET", &status, "").await;
    assert_eq!(told.status(), 404, "{}", told.text());
    sim.release();
    while QUEUES[0].ask(&other, "GET", &status, "").await.json()["status"] != "COMPLETED" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = QUEUES[0].ask(&other, "GET", &asked, "").await;
    assert_eq!(told.status(), 200, "{}", told.text());
    let url = told.json()["images"][0]["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&format!("http://{one}")).unwrap();
    let mut tcp = tokio::net::TcpStream::connect(&one).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {one}\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let picture = read_answer(&mut tcp).await.body;
    assert!(pixels(&picture).is_some());
    assert_eq!(lines(dir.path(), "call", 1).await.len(), 1);
    assert_eq!(sim.bills().len(), 1);
    // Its process is gone: the next tells of it, and the other that nobody answers.
    first.kill_9();
    let told = QUEUES[0].ask(&other, "GET", &asked, "").await;
    assert_eq!(told.status(), 502, "{}", told.text());
    let mut third = serve_with(dir.path(), &sim, &more);
    let next = address(&mut third).await;
    let told = QUEUES[0].ask(&next, "GET", &asked, "").await;
    assert!(told.text().contains("ask for it again"), "{}", told.text());
    [second, third].into_iter().for_each(Process::kill_9);
    assert_eq!(lines(dir.path(), "call", 1).await.len(), 1);
}
