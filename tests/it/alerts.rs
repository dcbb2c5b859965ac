//! Alerts on their way to the webhook: posted as they are logged, again while it is down, and never
//! in a call's way.

use std::sync::Arc;

use parking_lot::Mutex;
use pixtoll::secret::Secret;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Rig, cat};

const PATH: &str = "/hooks/canary-token";

/// A webhook that answers with these statuses in turn, and then with 200.
struct Hook {
    url: String,
    posted: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Hook {
    async fn open(mut statuses: Vec<u16>) -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{PATH}", listener.local_addr().unwrap());
        let posted = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&posted);
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let (head, body) = read(&mut tcp).await;
                let status = match statuses.is_empty() {
                    true => 200,
                    false => statuses.remove(0),
                };
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                kept.lock().push((head, body));
                tcp.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Hook { url, posted }
    }

    /// What was posted, once it was posted so often.
    async fn posted(&self, times: usize) -> Vec<(String, Value)> {
        for _ in 0..2000 {
            if self.posted.lock().len() >= times {
                return self.posted.lock().clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("posted fewer than {times} times");
    }
}

async fn read(tcp: &mut tokio::net::TcpStream) -> (String, Value) {
    let mut bytes = Vec::new();
    loop {
        let mut more = [0; 4096];
        let count = tcp.read(&mut more).await.unwrap();
        bytes.extend_from_slice(&more[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            return (head.to_owned(), body);
        }
        assert!(count > 0, "{text}");
    }
}

const RULE: &str = "return {
  on_request = function(call) pixtoll.alert('warning', 'a call of ' .. call.app, { n = call.request.n }) end }";

async fn rig(hook: &Hook, observe: bool) -> Rig {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("rule.lua");
    std::fs::write(&path, RULE).unwrap();
    Rig::with(|settings| {
        let mut entry = pixtoll::config::PluginEntry::named(&path.display().to_string());
        entry.observe = observe;
        settings.plugins.push(entry);
        settings.webhook = Some(Secret::new(&*hook.url));
    })
    .await
}

#[tokio::test]
async fn an_alert_is_posted_as_the_log_has_it_and_again_while_the_webhook_is_down() {
    let hook = Hook::open(vec![503, 429]).await;
    let rig = rig(&hook, false).await;
    assert_eq!(rig.generate(&cat("a kite")).await.status(), 200);
    let posted = hook.posted(3).await;
    let logged = rig.notices("alert", 1).await;
    for (head, body) in &posted {
        assert!(head.starts_with(&format!("POST {PATH} HTTP/1.1")), "{head}");
        assert_eq!(body, &logged[0]);
    }
    assert_eq!(logged[0]["fields"]["n"], "1");
    let log = std::fs::read_to_string(rig.app.pipeline.log.path()).unwrap();
    assert!(!log.contains("canary-token"));
}

#[tokio::test]
async fn what_a_webhook_will_not_have_is_posted_once_and_the_next_goes_on() {
    let hook = Hook::open(vec![404]).await;
    let rig = rig(&hook, false).await;
    for prompt in ["a kite", "a drum"] {
        rig.generate(&cat(prompt)).await;
    }
    let posted = hook.posted(2).await;
    assert_ne!(posted[0].1["id"], posted[1].1["id"]);
}

#[tokio::test]
async fn an_observed_rule_alerts_in_the_log_alone() {
    let hook = Hook::open(Vec::new()).await;
    let rig = rig(&hook, true).await;
    rig.generate(&cat("a kite")).await;
    assert_eq!(
        rig.notices("alert", 1).await[0]["fields"]["observed"],
        "yes"
    );
    rig.app.stop().await;
    assert!(hook.posted.lock().is_empty());
}

/// `pixtoll alerts …` with this webhook and a log in `dir`.
async fn alerts(dir: &std::path::Path, hook: Option<&str>, command: &str) -> (i32, String) {
    let mut config = serde_json::json!({"state_dir": dir});
    if let Some(hook) = hook {
        config["alerts"] = serde_json::json!({"webhook": hook});
    }
    alerts_as(dir, config, command).await
}

async fn alerts_as(
    dir: &std::path::Path,
    config: serde_json::Value,
    command: &str,
) -> (i32, String) {
    let path = dir.join("pixtoll.yaml");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut pixtoll = tokio::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"));
    let pixtoll = pixtoll.args(["alerts", command, "--config"]).arg(path);
    let output = pixtoll.output().await.unwrap();
    let told = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8(told).unwrap(),
    )
}

#[tokio::test]
async fn the_webhook_is_tried_and_what_it_answers_is_said_without_its_path() {
    let dir = tempfile::TempDir::new().unwrap();
    let hook = Hook::open(vec![204, 404]).await;
    let (code, told) = alerts(dir.path(), Some(&hook.url), "test").await;
    assert_eq!((code, told.contains("answered 204")), (0, true), "{told}");
    let (_, body) = hook.posted(1).await.remove(0);
    assert!(body["text"].as_str().unwrap().contains("a test"), "{body}");
    let (code, told) = alerts(dir.path(), Some(&hook.url), "test").await;
    assert_eq!((code, told.contains("answered 404")), (1, true), "{told}");
    let nobody = "http://127.0.0.1:9/hooks/canary-token";
    let (code, told) = alerts(dir.path(), Some(nobody), "test").await;
    assert_eq!((code, told.contains("not reached")), (1, true), "{told}");
    assert!(!told.contains("canary-token"), "{told}");
    let (code, told) = alerts(dir.path(), None, "test").await;
    assert_eq!((code, told.contains("no webhook")), (2, true), "{told}");
}

#[tokio::test]
async fn the_last_alerts_are_listed() {
    let dir = tempfile::TempDir::new().unwrap();
    let (code, told) = alerts(dir.path(), None, "list").await;
    assert_eq!((code, told.contains("no alert in")), (0, true), "{told}");
    let line = |kind: &str, text: &str| {
        let line = serde_json::json!({"v": 1, "type": "notice", "at": "2026-11-22T23:10:00.000Z",
            "kind": kind, "level": "warning", "text": text});
        format!("{line}\n")
    };
    let lines = line("alert", "budget `daily` is at 85 %") + &line("start", "listening");
    std::fs::write(dir.path().join("decisions.jsonl"), lines).unwrap();
    let (code, told) = alerts(dir.path(), None, "list").await;
    assert_eq!(code, 0);
    assert_eq!(
        told,
        "2026-11-22 23:10:00  warning  budget `daily` is at 85 %\n"
    );
    let off = serde_json::json!({"state_dir": dir.path(), "log": "off"});
    let (code, told) = alerts_as(dir.path(), off, "list").await;
    assert_eq!((code, told.contains("log is off")), (2, true), "{told}");
}
