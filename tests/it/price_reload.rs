//! Prices and the calls that are made meanwhile: a changed book is taken whole or not at all, and
//! what was charged is held against what was quoted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::harness::{Rig, cat, post, read_answer};

const ROUTE: &str = "/v2beta/stable-image/generate/sd3";
const FORM: &str = "multipart/form-data; boundary=b";

/// A price file in which a picture of one model costs so much.
fn prices(price: &str) -> String {
    format!(
        "models:\n- model: stability/sd3.5-medium\n  capability: {{operations: [generate], sizes: {{aspects: {{\"1:1\": 1024x1024}}}}, usual: 1024x1024, formats: [png], deliveries: [bytes, base64]}}\n  price: {{per_image: {price}}}\n  source: our contract\n  as_of: 2026-11-22\n"
    )
}

fn form(prompt: &str) -> String {
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    format!(
        "{}{}--b--\r\n",
        field("model", "sd3.5-medium"),
        field("prompt", prompt)
    )
}

/// Runs `pixtoll prices …` on the state of a pixtoll that runs.
pub(crate) fn prices_of(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String) {
    let set = format!("state_dir={}", rig.dir.path().join("state").display());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .arg("prices")
        .args(arguments)
        .args(["--set", &set])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_told_from_the_log_of_calls_that_were_made() {
    let rig = Rig::start().await;
    rig.generate(&cat("a fox")).await;
    rig.decisions(1).await;
    let (code, text) = prices_of(&rig, &["drift"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("openai/gpt-image-2"), "{text}");
    rig.generate(&cat("a lion [[sim: ok extra_tokens=5000]]"))
        .await;
    rig.decisions(2).await;
    let (code, text) = prices_of(&rig, &["drift"]);
    assert_eq!(code, Some(3), "{text}");
    for words in [
        "drifts",
        "quote today",
        "noted",
        "beside its quote",
        "answer said",
    ] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_were_made_are_quoted_again() {
    let mut shop = Shop::open("0.03").await;
    shop.buy().await;
    shop.buy().await;
    let old = shop.rig.dir.path().join("old.yaml");
    std::fs::copy(&shop.file, &old).unwrap();
    std::fs::write(&shop.file, prices("0.04")).unwrap();
    let (old, new) = (old.display().to_string(), shop.file.display().to_string());
    let (code, text) = prices_of(&shop.rig, &["diff", &old, &new]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("2 quoted again, $0.06 becomes $0.08 (+$0.02)"),
        "{text}"
    );
}

/// A pixtoll with a price file, and calls through it.
struct Shop {
    rig: Rig,
    file: PathBuf,
    calls: usize,
}

impl Shop {
    async fn open(price: &str) -> Shop {
        let text = prices(price);
        let rig = Rig::with(move |settings| {
            let file = settings.state_dir.with_file_name("mine.yaml");
            std::fs::write(&file, text).unwrap();
            settings.prices.push(file);
        })
        .await;
        let file = rig.dir.path().join("mine.yaml");
        Shop {
            rig,
            file,
            calls: 0,
        }
    }

    /// Buys a picture and returns the decision.
    async fn buy(&mut self) -> Value {
        self.calls += 1;
        let body = form(&format!("fox {}", self.calls));
        let answer = self
            .rig
            .call("api.stability.ai", ROUTE, &[], FORM, &body)
            .await;
        assert_eq!(answer.status(), 200, "{}", answer.head);
        self.rig.decisions(self.calls).await.pop().unwrap()
    }

    /// Waits for the `count`th word about prices.
    async fn told(&self, count: usize) -> Value {
        for _ in 0..600 {
            self.rig.app.pipeline.log.flush().await.unwrap();
            let mut notices = notices(self.rig.app.pipeline.log.path());
            if notices.len() >= count {
                return notices.swap_remove(count - 1);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody said a {count}th word about prices");
    }
}

fn notices(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines
        .filter(|line: &Value| line["kind"] == "reload")
        .collect()
}

fn cost(decision: &Value) -> (f64, f64) {
    let quote = decision["asked"]["quote"].as_f64().unwrap();
    (quote, decision["cost"].as_f64().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_prices_count_from_the_next_call_on() {
    let mut shop = Shop::open("0.03").await;
    let before = shop.buy().await;
    assert_eq!(cost(&before), (0.03, 0.03));
    std::fs::write(&shop.file, prices("0.04")).unwrap();
    let told = shop.told(1).await;
    assert_eq!(told["level"], "info");
    assert!(
        told["text"].as_str().unwrap().contains("1 changed"),
        "{told}"
    );
    let after = shop.buy().await;
    assert_eq!(cost(&after), (0.04, 0.04));
    assert_ne!(before["book"], after["book"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_keeps_the_book_it_was_quoted_by() {
    let mut shop = Shop::open("0.03").await;
    shop.rig.script("stability", &["hold"]);
    let mut tls = shop.rig.tls("api.stability.ai", 443).await;
    let request = post("api.stability.ai", ROUTE, &[], FORM, &form("a slow fox"));
    tls.write_all(request.as_bytes()).await.unwrap();
    shop.rig.sim().wait_for_requests(1).await;
    std::fs::write(&shop.file, prices("0.04")).unwrap();
    shop.told(1).await;
    shop.rig.sim().release();
    assert_eq!(read_answer(&mut tls).await.status(), 200);
    let decision = shop.rig.decisions(1).await.pop().unwrap();
    assert_eq!(cost(&decision), (0.03, 0.03));
    shop.calls = 1;
    assert_eq!(cost(&shop.buy().await), (0.04, 0.04));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_cannot_stand_is_not_taken() {
    let mut shop = Shop::open("0.03").await;
    std::fs::write(&shop.file, prices("cheap")).unwrap();
    let told = shop.told(1).await;
    let text = told["text"].as_str().unwrap();
    assert_eq!(told["level"], "error");
    assert!(text.contains("the last good ones stay in force"), "{text}");
    assert!(text.contains("mine.yaml:4:"), "{text}");
    assert_eq!(cost(&shop.buy().await), (0.03, 0.03));
    std::fs::remove_file(&shop.file).unwrap();
    let told = shop.told(2).await;
    assert!(
        told["text"].as_str().unwrap().contains("mine.yaml"),
        "{told}"
    );
    assert_eq!(cost(&shop.buy().await), (0.03, 0.03));
    std::fs::write(&shop.file, prices("0.05")).unwrap();
    assert_eq!(shop.told(3).await["level"], "info");
    assert_eq!(cost(&shop.buy().await), (0.05, 0.05));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slip_of_the_decimal_point_is_not_taken() {
    let mut shop = Shop::open("0.03").await;
    std::fs::write(&shop.file, prices("3")).unwrap();
    let told = shop.told(1).await;
    let text = told["text"].as_str().unwrap();
    assert!(text.contains("stability/sd3.5-medium cost $0.03"), "{text}");
    assert_eq!(cost(&shop.buy().await), (0.03, 0.03));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_reaches_the_proxy_that_runs_and_force_is_obeyed() {
    let rig = Rig::start().await;
    let mut shop = Shop {
        file: rig.dir.path().join("new.yaml"),
        rig,
        calls: 0,
    };
    let file = shop.file.display().to_string();
    let update = |shop: &Shop, more: &[&str]| {
        let arguments = [&["update", &file, "--yes"], more].concat();
        prices_of(&shop.rig, &arguments).0
    };
    assert_eq!(cost(&shop.buy().await), (0.035, 0.035));
    std::fs::write(&shop.file, prices("0.03")).unwrap();
    assert_eq!(update(&shop, &[]), Some(0));
    assert_eq!(shop.told(1).await["level"], "info");
    assert_eq!(cost(&shop.buy().await), (0.03, 0.03));
    std::fs::write(&shop.file, prices("3")).unwrap();
    assert_eq!(update(&shop, &[]), Some(1));
    assert_eq!(update(&shop, &["--force"]), Some(0));
    assert_eq!(shop.told(2).await["level"], "info");
    assert_eq!(cost(&shop.buy().await), (3.0, 3.0));
    // What somebody put there by hand and the proxy refused is taken by force, too.
    let kept = shop.rig.dir.path().join("state/prices.yaml");
    std::fs::write(&shop.file, prices("0.02")).unwrap();
    std::fs::copy(&shop.file, &kept).unwrap();
    assert_eq!(shop.told(3).await["level"], "error");
    assert_eq!(update(&shop, &[]), Some(0));
    assert_eq!(cost(&shop.buy().await), (3.0, 3.0));
    assert_eq!(update(&shop, &["--force"]), Some(0));
    assert_eq!(shop.told(4).await["level"], "info");
    assert_eq!(cost(&shop.buy().await), (0.02, 0.02));
}
