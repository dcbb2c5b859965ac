//! Prompts through batch APIs: half the price, once, whatever happens on the way, and for nothing
//! afterwards.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pixtoll::ledger::{Filter, Ledger, Sync, Totals};
use pixtoll::sim::{Behaviour, Sim, SimOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::crash::{address, another_price_since_today, two_days_ago};
use crate::harness::{Answer, Process, cat, post, read_answer};

/// A state directory, simulated providers that outlive every process, and the command.
struct House {
    dir: TempDir,
    sim: Sim,
}

impl House {
    async fn new() -> House {
        let dir = TempDir::new().unwrap();
        let sim = Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
            .await
            .unwrap();
        let provider = json!({"upstream": sim.url(), "api_key": "sk-canary"});
        let config = json!({
            "listen": "127.0.0.1:0", "dashboard": "off", "state_dir": dir.path().join("state"),
            "providers": {"openai": provider, "google": provider, "stability": provider, "fal": provider},
        });
        std::fs::write(dir.path().join("pixtoll.yaml"), config.to_string()).unwrap();
        House { dir, sim }
    }

    fn file(&self, lines: &[Value]) -> PathBuf {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let path = self.dir.path().join("prompts.jsonl");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixtoll"));
        command
            .args(args)
            .arg("--config")
            .arg(self.dir.path().join("pixtoll.yaml"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs to its end, on a thread that may block.
    async fn run(&self, args: &[&str]) -> Told {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        Told::of(output.await.unwrap())
    }

    fn begin(&self, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        Process::spawn(&mut command)
    }

    async fn totals(&self) -> Totals {
        let path = self.dir.path().join("state/ledger.db");
        let ledger = Ledger::open(&path, Sync::Crash).await.unwrap();
        let totals = ledger.totals(&Filter::default()).await.unwrap();
        ledger.close().await.unwrap();
        totals
    }

    fn decisions(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("state/decisions.jsonl"));
        let lines = text.unwrap_or_default();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["type"] == "call")
            .collect()
    }

    fn billed(&self) -> i64 {
        self.sim.bills().iter().map(|bill| bill.nano_usd).sum()
    }

    /// Bill list, ledger and decisions say the same, and nothing stays held.
    #[track_caller]
    fn balances(&self, totals: Totals, bought: usize) {
        assert_eq!(self.sim.bills().len(), bought, "bills");
        assert_eq!(totals.spent.nano(), self.billed(), "ledger and bills");
        let decisions = self.decisions();
        let costs: f64 = decisions
            .iter()
            .map(|line| line["cost"].as_f64().unwrap())
            .sum();
        assert_eq!(
            (costs * 1e9).round() as i64,
            self.billed(),
            "decisions and bills"
        );
        let ids: BTreeSet<&str> = decisions
            .iter()
            .map(|line| line["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), decisions.len(), "no decision twice");
        assert_eq!(
            (totals.open, totals.held.nano(), totals.unknown.nano()),
            (0, 0, 0)
        );
    }
}

/// What a person saw.
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn of(output: Output) -> Told {
        Told {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    fn says(&self, code: i32, texts: &[&str]) {
        let both = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{both}");
        for text in texts {
            assert!(both.contains(text), "no `{text}` in:\n{both}");
        }
    }
}

async fn ask(address: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = post(
        address,
        path,
        headers,
        "application/json",
        &body.to_string(),
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    read_answer(&mut tcp).await
}

const IMAGES: &str = "/openai/v1/images/generations";
const SUBMIT: [&str; 7] = [
    "batch",
    "submit",
    "prompts.jsonl",
    "--max-cost",
    "1",
    "--every",
    "20ms",
];
const RESUME: [&str; 4] = ["batch", "resume", "--every", "20ms"];

fn line(prompt: &str) -> Value {
    json!({"prompt": prompt, "model": "openai/gpt-image-2", "size": "1024x1024", "quality": "low"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_costs_half_and_equal_calls_are_answered_for_nothing_afterwards() {
    let house = House::new().await;
    let mut serve = house.begin(&["serve"]);
    let proxy = address(&mut serve).await;
    house.file(&[
        line("a boat"),
        json!({"custom_id": "own", "method": "POST", "url": "/v1/images/generations", "body": cat("a cat")}),
        line("a boat"),
        line("a house"),
    ]);
    let told = house
        .run(&[&SUBMIT[..], &["--out", "pictures"]].concat())
        .await;
    told.says(
        0,
        &[
            "4 lines · 1 equal another · 3 to buy",
            "openai/gpt-image-2",
            "3 done · 0 failed",
            "4 pictures in pictures",
        ],
    );
    house.balances(house.totals().await, 3);
    let half: Vec<i64> = house.sim.bills().iter().map(|bill| bill.nano_usd).collect();

    for (at, decision) in house.decisions().iter().enumerate() {
        assert_eq!(decision["attempts"][0]["tier"], "batch", "{at}");
        assert_eq!(decision["decided"]["tier"], "batch");
        assert_eq!(decision["asked"]["tier"], "standard");
        assert_eq!(decision["saved_by"]["batch"], decision["saved"]);
        assert!(decision["saved"].as_f64().unwrap() > 0.0);
        assert!(
            decision["attempts"][0]["job"]
                .as_str()
                .unwrap()
                .starts_with("batch_")
        );
        assert_eq!(decision["answered"]["from"], "provider");
        assert_eq!(decision["app"], "batch");
    }

    // The proxy was there before; it answers now.
    let boat = ask(&proxy, IMAGES, &cat("a boat"), &[]).await;
    assert!(
        boat.header("cache-status")
            .unwrap()
            .starts_with("pixtoll; hit"),
        "{}",
        boat.text()
    );
    assert_eq!(boat.header("x-pixtoll-cost"), Some("0"));
    assert_eq!(house.sim.bills().len(), 3);
    let picture = std::fs::read_dir(house.dir.path().join("pictures"))
        .unwrap()
        .count();
    assert_eq!(picture, 4, "one a line, those that equal another too");

    // What the same calls cost by themselves, by the provider's own list: twice as much.
    for prompt in ["a boat", "a cat", "a house"] {
        let fresh = ask(
            &proxy,
            IMAGES,
            &cat(prompt),
            &[("x-pixtoll-cache", "refresh")],
        )
        .await;
        assert_eq!(fresh.status(), 200);
    }
    let mut whole: Vec<i64> = house.sim.bills()[3..]
        .iter()
        .map(|bill| bill.nano_usd)
        .collect();
    let mut twice: Vec<i64> = half.iter().map(|half| half * 2).collect();
    whole.sort_unstable();
    twice.sort_unstable();
    assert_eq!(whole, twice);
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_starts_later_knows_what_was_bought_ahead_for_its_key_alone() {
    let house = House::new().await;
    house.file(&[line("a boat")]);
    house.run(&SUBMIT).await.says(0, &["1 done"]);
    let told = house.run(&SUBMIT).await;
    told.says(0, &["1 lines · 1 answered already · 0 to buy"]);
    let mut serve = house.begin(&["serve"]);
    let proxy = address(&mut serve).await;
    let boat = ask(&proxy, IMAGES, &cat("a boat"), &[]).await;
    assert!(
        boat.header("cache-status")
            .unwrap()
            .starts_with("pixtoll; hit")
    );
    assert_eq!(house.sim.bills().len(), 1);
    let body = cat("a boat").to_string();
    let other =
        post(&proxy, IMAGES, &[], "application/json", &body).replace("sk-canary", "sk-other");
    let mut tcp = tokio::net::TcpStream::connect(&proxy).await.unwrap();
    tcp.write_all(other.as_bytes()).await.unwrap();
    let other = read_answer(&mut tcp).await;
    assert!(
        other
            .header("cache-status")
            .unwrap()
            .contains("fwd=uri-miss"),
        "another key's answer"
    );
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn geminis_batches_go_the_same_way() {
    let house = House::new().await;
    let gemini = |prompt: &str| json!({"id": prompt, "prompt": prompt, "model": "google/gemini-2.5-flash-image"});
    house.file(&[
        gemini("a boat"),
        gemini("a [[sim: safety]] boat"),
        gemini("late [[sim: stall]]"),
    ]);
    let told = house.run(&SUBMIT).await;
    told.says(3, &["1 done · 2 failed", "1 × safety", "1 × timeout"]);
    let totals = house.totals().await;
    house.balances(totals, house.sim.bills().len());
    let ok = house
        .sim
        .bills()
        .into_iter()
        .find(|bill| bill.outcome == "ok")
        .unwrap();
    assert_eq!(
        ok.nano_usd * 2,
        38_700_000 + 300 * 5,
        "half of 1290 tokens at $30 and 5 at $0.30 a million"
    );
    let mut serve = house.begin(&["serve"]);
    let proxy = address(&mut serve).await;
    let path = "/google/v1beta/models/gemini-2.5-flash-image:generateContent";
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "a boat"}]}],
                      "generationConfig": {"responseModalities": ["IMAGE"]}});
    let key = [("x-goog-api-key", "sk-canary")];
    let before = house.sim.bills().len();
    let boat = ask(&proxy, path, &body, &key).await;
    assert!(
        boat.header("cache-status")
            .unwrap()
            .starts_with("pixtoll; hit"),
        "{}",
        boat.text()
    );
    assert_eq!(house.sim.bills().len(), before);
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_is_settled_by_itself_and_what_was_not_run_is_let_go() {
    let house = House::new().await;
    house.file(&[
        line("a boat"),
        line("blocked [[sim: safety]]"),
        line("late [[sim: stall]]"),
        line("a house"),
        line("too much [[sim: rate_limited]]"),
    ]);
    let told = house.run(&SUBMIT).await;
    told.says(
        3,
        &[
            "2 done · 3 failed",
            "1 × safety",
            "1 × timeout: This request could not be executed",
            "1 × rate_limited",
        ],
    );
    house.balances(house.totals().await, 2);
    let failed: Vec<Value> = house
        .decisions()
        .into_iter()
        .filter(|line| !line["error"].is_null())
        .collect();
    assert_eq!(failed.len(), 3);
    assert!(
        failed
            .iter()
            .all(|line| line["cost"] == 0 || line["cost"] == 0.0),
        "{failed:?}"
    );
    house
        .run(&["batch", "status"])
        .await
        .says(0, &["ended", "openai/gpt-image-2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_a_batch_is_bought_once_and_its_holds_stay() {
    for door in [
        "openai/files",
        "openai/batches",
        "openai/batch",
        "openai/content",
    ] {
        let house = House::new().await;
        house.file(&[line("a boat"), line("a house"), line("a cat")]);
        house.sim.script(door, [Behaviour::hold()]);
        let mut child = house.begin(&SUBMIT);
        let steps = [
            "openai/files",
            "openai/batches",
            "openai/batch",
            "openai/content",
        ];
        let arrived = 1 + steps.iter().position(|step| *step == door).unwrap() as u64;
        let some = tokio::time::timeout(
            Duration::from_secs(30),
            house.sim.wait_for_requests(arrived),
        );
        some.await.unwrap_or_else(|_| panic!("{door} is reached"));
        child.kill().unwrap();
        child.wait().unwrap();
        house.sim.release();

        // Another process opens the ledger, and the holds are holds still.
        let totals = house.totals().await;
        assert_eq!((totals.open, totals.unknown.nano()), (3, 0), "{door}");
        assert!(totals.held.nano() > 0, "{door}");
        house
            .run(&["batch", "status"])
            .await
            .says(0, &["nobody follows it", "pixtoll batch resume"]);

        house.run(&RESUME).await.says(0, &["3 done · 0 failed"]);
        house.balances(house.totals().await, 3);
        house.run(&RESUME).await.says(0, &["no batch is open"]);
        house
            .run(&SUBMIT)
            .await
            .says(0, &["3 answered already · 0 to buy"]);
        assert_eq!(house.sim.bills().len(), 3, "{door}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_answers_arrive_each_is_charged_and_told_once() {
    let house = House::new().await;
    let lines: Vec<Value> = (0..6).map(|n| line(&format!("boat {n}"))).collect();
    house.file(&lines);
    let drip: Behaviour = "drip chunk=4000 ms=5".parse().unwrap();
    house.sim.script("openai/content", [drip]);
    let mut child = house.begin(&SUBMIT);
    let answers = house.dir.path().join("state/answers");
    let some = async {
        while std::fs::read_dir(&answers).map_or(0, Iterator::count) < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), some)
        .await
        .expect("answers arrive");
    child.kill().unwrap();
    child.wait().unwrap();
    house.run(&RESUME).await.says(0, &["done · 0 failed"]);
    house.balances(house.totals().await, 6);
    assert_eq!(house.decisions().len(), 6);
    house
        .run(&SUBMIT)
        .await
        .says(0, &["6 answered already · 0 to buy"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_whose_answer_is_lost_is_looked_for_and_not_given_twice() {
    for words in ["drop", "server", "overloaded"] {
        let house = House::new().await;
        house.file(&[line("a boat"), line("a house")]);
        let behaviour: Behaviour = words.parse().unwrap();
        house.sim.script("openai/batches", [behaviour]);
        house.run(&SUBMIT).await.says(0, &["2 done · 0 failed"]);
        house.balances(house.totals().await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_provider_does_not_take_is_neither_held_nor_bought() {
    let house = House::new().await;
    house.file(&[line("a boat")]);
    house
        .sim
        .script("openai/batches", ["auth".parse::<Behaviour>().unwrap()]);
    house.run(&SUBMIT).await.says(
        1,
        &[
            "openai did not take the batch: 401",
            "nothing was bought and nothing is held",
        ],
    );
    house.balances(house.totals().await, 0);
    house
        .run(&["batch", "status"])
        .await
        .says(0, &["no batches"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_may_be_left_to_its_provider_and_fetched_later() {
    let house = House::new().await;
    house.file(&[line("a boat")]);
    let told = house.run(&[&SUBMIT[..], &["--detach"]].concat()).await;
    told.says(0, &["is with openai as batch_", "pixtoll batch resume"]);
    let status = house.run(&["batch", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(
        (&status["ok"], &status["data"][0]["stage"]),
        (&json!(true), &json!("running"))
    );
    assert_eq!(status["data"][0]["followed"], false);
    let told = house.run(&[&RESUME[..], &["--json"]].concat()).await;
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["data"]["done"], 1, "{told}");
    house.balances(house.totals().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_charged_by_the_prices_of_the_day_on_which_it_was_given() {
    let house = House::new().await;
    let dearer =
        another_price_since_today("openai/gpt-image-2", ("image_out: 30", "image_out: 900"));
    std::fs::write(house.dir.path().join("prices.yaml"), dearer).unwrap();
    let config = house.dir.path().join("pixtoll.yaml");
    let mut settings: Value =
        serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    settings["prices"] = json!(["prices.yaml"]);
    std::fs::write(&config, settings.to_string()).unwrap();
    house.file(&[line("a boat")]);
    house.run(&[&SUBMIT[..], &["--detach"]].concat()).await;
    two_days_ago(house.dir.path(), "attempts").await;
    let told = house.run(&RESUME).await;
    assert_eq!(told.code, 0, "{}", told.err);
    house.balances(house.totals().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_have_their_say_and_the_answer_is_found_by_what_they_made_of_it() {
    let house = House::new().await;
    house.file(&[line("a boat")]);
    let rule = ["--plugin", "cap_resolution", "--plugin", "cap_quality"];
    let large =
        json!({"prompt": "a boat", "model": "gpt-image-2", "size": "2048x2048", "quality": "high"});
    house.file(&[large]);
    house
        .run(&[&SUBMIT[..], &rule].concat())
        .await
        .says(0, &["1 done"]);
    house.balances(house.totals().await, 1);
    let decision = &house.decisions()[0];
    assert_eq!(decision["decided"]["size"], "1024x1024", "{decision}");
    assert_eq!(decision["rules"][0]["plugin"], "cap_resolution");
    let mut serve = house.begin(&[&["serve"][..], &rule].concat());
    let proxy = address(&mut serve).await;
    let body =
        json!({"prompt": "a boat", "model": "gpt-image-2", "size": "2048x2048", "quality": "high"});
    let boat = ask(&proxy, IMAGES, &body, &[]).await;
    assert!(
        boat.header("cache-status")
            .unwrap()
            .starts_with("pixtoll; hit"),
        "{}",
        boat.text()
    );
    assert_eq!(house.sim.bills().len(), 1);
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_told_with_its_line_before_anything_is_sent() {
    let house = House::new().await;
    let text = [
        r#""a boat""#,
        r#"{"prompt": "a boat", "model": "gpt-image-2", "qualty": "low"}"#,
        r#"{"prompt": "a boat", "model": "gpt-image-2", "size": "large"}"#,
        r#"{"prompt": "", "model": "gpt-image-2"}"#,
        r#"{"prompt": "a boat""#,
        r#"{"id": "a", "prompt": "a boat", "model": "gpt-image-2"}"#,
        r#"{"id": "a", "prompt": "a cat", "model": "gpt-image-2"}"#,
        r#"{"prompt": "a boat", "model": "stability/sd3.5-medium"}"#,
        r#"{"prompt": "a boat", "model": "gpt-image-2", "negative_prompt": "a cat"}"#,
        r#"{"custom_id": "x", "url": "/v1/chat/completions", "body": {}}"#,
        r#"{"custom_id": "y", "body": {"model": "gpt-image-2", "prompt": "a boat", "stream": true}}"#,
        r#"{"prompt": "a boat", "model": "google/gemini-2.5-flash-image", "n": 3}"#,
    ];
    std::fs::write(house.dir.path().join("prompts.jsonl"), text.join("\n")).unwrap();
    let told = house.run(&SUBMIT).await;
    told.says(
        2,
        &[
            "prompts.jsonl:1: names no model\n  add \"model\", or name one for all with --model",
            "prompts.jsonl:2: `qualty` is no field of a line\n  did you mean `quality`?",
            "prompts.jsonl:3: size: `large` is none\n  write it like 1024x1024",
            "prompts.jsonl:4: prompt: is missing",
            "prompts.jsonl:5: is no JSON",
            "prompts.jsonl:7: the id `a` is that of line 6 already",
            "prompts.jsonl:8: stability/sd3.5-medium: takes no batches",
            "prompts.jsonl:9: negative_prompt: openai/gpt-image-2 has no word for it",
            "prompts.jsonl:10: url: `/v1/chat/completions` is no image call",
            "prompts.jsonl:11: stream: a batch brings whole answers",
            "prompts.jsonl:12: n: google/gemini-2.5-flash-image makes 1 a call",
            "11 of 12 lines cannot be sent; nothing was sent",
        ],
    );
    assert!(house.sim.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_bought_that_nobody_agreed_to() {
    let house = House::new().await;
    house.file(&[line("a boat"), line("a house")]);
    let submit = ["batch", "submit", "prompts.jsonl"];
    let told = house.run(&[&submit[..], &["--dry-run"]].concat()).await;
    told.says(
        0,
        &[
            "2 lines · 2 to buy",
            "ONE BY ONE",
            "IN A BATCH",
            "at most $0.",
        ],
    );
    house
        .run(&submit)
        .await
        .says(2, &["nobody said that it may cost money", "--yes"]);
    let told = house
        .run(&[&submit[..], &["--max-cost", "0.001"]].concat())
        .await;
    told.says(2, &["--max-cost is $0.001; nothing was sent"]);
    assert!(house.sim.requests().is_empty());
    assert!(house.decisions().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_can_wait_a_day_is_served_through_a_batch_at_half_price() {
    let rule = r#"return { on_request = function(call)
        if call:tagged("patient") then return call:change { tier = "batch", reason = "can wait" } end
    end }"#;
    let rig = crate::harness::Rig::with_rule(rule).await;
    let headers = [
        ("x-pixtoll-tags", "patient"),
        ("x-pixtoll-deadline", "86400"),
    ];
    let body = cat("a boat").to_string();
    let path = "/v1/images/generations";
    let answer = rig
        .call("api.openai.com", path, &headers, "application/json", &body)
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 1);
    let fresh = [("x-pixtoll-cache", "refresh")];
    rig.call("api.openai.com", path, &fresh, "application/json", &body)
        .await;
    let decisions = rig.decisions(2).await;
    let bills = rig.sim().bills();
    assert_eq!(bills.len(), 2);
    assert_eq!(bills[1].nano_usd, 2 * bills[0].nano_usd);
    assert_eq!(
        bills[0].authorization_digest, bills[1].authorization_digest,
        "the app's own key paid"
    );
    let slow = &decisions[0];
    assert_eq!(slow["attempts"][0]["tier"], "batch", "{slow}");
    assert!(
        slow["attempts"][0]["job"]
            .as_str()
            .unwrap()
            .starts_with("batch_")
    );
    assert_eq!(
        (slow["cost"].as_f64().unwrap() * 1e9).round() as i64,
        bills[0].nano_usd
    );
    assert_eq!(slow["saved_by"]["batch"], slow["saved"]);
    assert_eq!(rig.booked().await, rig.billed());
}

/// Sends what can wait a day through a batch.
const PATIENT: &str = r#"return { on_request = function(call)
    return call:route("openai/gpt-image-2", { tier = "batch", quality = "low", size = "1024x1024", reason = "can wait" })
end }"#;
const WAITS: [(&str, &str); 1] = [("x-pixtoll-deadline", "86400")];

impl House {
    /// `serve` with every call in a batch.
    fn patient(&self) -> Process {
        let rule = self.dir.path().join("patient.lua");
        std::fs::write(&rule, PATIENT).unwrap();
        self.begin(&["serve", "--plugin", rule.to_str().unwrap()])
    }

    /// Lines of the log, once there are `count` of that kind.
    async fn lines(&self, kind: &str, count: usize) -> Vec<Value> {
        let log = self.dir.path().join("state/decisions.jsonl");
        for _ in 0..6000 {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            let found: Vec<Value> = lines.filter(|line: &Value| line["type"] == kind).collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let all = std::fs::read_to_string(&log).unwrap_or_default();
        panic!("fewer than {count} lines of `{kind}` in:\n{all}");
    }

    async fn kept(&self) -> usize {
        let path = self.dir.path().join("state/ledger.db");
        let ledger = Ledger::open(&path, Sync::Crash).await.unwrap();
        let kept = ledger.kept_batches().await.unwrap().len();
        ledger.close().await.unwrap();
        kept
    }

    /// Waits until nothing of any batch is kept.
    async fn let_go(&self) {
        let gone = async {
            while self.kept().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(60), gone);
        gone.await.expect("nothing of a batch stays");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_call_in_a_batch_whose_process_was_killed_is_followed_and_charged_once() {
    for door in ["openai/batches", "openai/batch"] {
        let house = House::new().await;
        house.sim.script(door, [Behaviour::hold()]);
        let mut first = house.patient();
        let proxy = address(&mut first).await;
        let waits = tokio::spawn(async move { ask(&proxy, IMAGES, &cat("a boat"), &WAITS).await });
        house
            .sim
            .wait_for_requests(if door == "openai/batch" { 3 } else { 2 })
            .await;
        first.kill_9();
        waits.abort();
        house.sim.release();

        let mut second = house.patient();
        let proxy = address(&mut second).await;
        let told = house.lines("call", 1).await.remove(0);
        assert_eq!(told["attempts"][0]["tier"], "batch", "{told}");
        assert_eq!(told["answered"]["delivered"], "no", "{told}");
        assert!(
            told["causes"]["undelivered"].as_f64().unwrap() > 0.0,
            "{told}"
        );
        let again = ask(&proxy, IMAGES, &cat("a boat"), &WAITS).await;
        assert!(
            again.header("cache-status").unwrap().contains("hit"),
            "{}",
            again.text()
        );
        house.lines("call", 2).await;
        house.let_go().await;
        second.kill_9();
        house.balances(house.totals().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_call_that_was_not_ordered_yet_is_let_go_after_a_kill() {
    let house = House::new().await;
    house.sim.script("openai/files", [Behaviour::hold()]);
    let mut first = house.patient();
    let proxy = address(&mut first).await;
    let waits = tokio::spawn(async move { ask(&proxy, IMAGES, &cat("a boat"), &WAITS).await });
    house.sim.wait_for_requests(1).await;
    first.kill_9();
    waits.abort();
    house.sim.release();
    let mut second = house.patient();
    address(&mut second).await;
    house.let_go().await;
    second.kill_9();
    house.balances(house.totals().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_ours_in_a_batch_is_charged_once_though_its_process_was_killed() {
    let house = House::new().await;
    house.sim.script("openai/batch", [Behaviour::hold()]);
    let mut first = house.patient();
    let proxy = address(&mut first).await;
    let queue = "/fal/fal-ai/flux/dev";
    let body = json!({"prompt": "a boat"});
    let job = ask(&proxy, queue, &body, &WAITS).await;
    assert!(job.status() < 300, "{}", job.text());
    assert!(job.json()["request_id"].is_string(), "{}", job.text());
    house.sim.wait_for_requests(3).await;
    first.kill_9();
    house.sim.release();
    let mut second = house.patient();
    address(&mut second).await;
    let amend = house.lines("amend", 1).await.remove(0);
    let call = house.lines("call", 1).await.remove(0);
    assert_eq!(amend["id"], call["id"]);
    assert_eq!(call["attempts"], json!([]), "{call}");
    assert_eq!(
        (amend["cost"].as_f64().unwrap() * 1e9).round() as i64,
        house.billed()
    );
    house.let_go().await;
    second.kill_9();
    let totals = house.totals().await;
    assert_eq!(house.sim.bills().len(), 1);
    assert_eq!((totals.spent.nano(), totals.open), (house.billed(), 0));
}

/// Cheaper where a budget has no room.
const THRIFTY: &str = r#"return { on_budget = function(call, budget)
    if call.request.quality ~= "low" then return call:change { max_quality = "low", reason = budget.name } end
end,
on_request = function(call)
    if call.deadline then return call:change { tier = "batch" } end
end }"#;

impl House {
    /// With a budget for everything, and a rule that is asked where it is full.
    async fn within(limit: f64, over: &str) -> House {
        let house = House::new().await;
        let rule = house.dir.path().join("thrifty.lua");
        std::fs::write(&rule, THRIFTY).unwrap();
        let path = house.dir.path().join("pixtoll.yaml");
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config["plugins"] = json!([rule]);
        config["budgets"] = json!([{"name": "all", "limit": limit, "per": "total", "over": over}]);
        std::fs::write(&path, config.to_string()).unwrap();
        house
    }
}

fn dear(prompt: &str) -> Value {
    json!({"prompt": prompt, "model": "openai/gpt-image-2", "size": "1024x1024", "quality": "high"})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_a_budget_refuses_is_not_sent_and_holds_nothing() {
    let house = House::within(0.15, "refuse").await;
    house.file(&[dear("a boat"), dear("a house"), dear("a cat")]);
    house
        .run(&SUBMIT)
        .await
        .says(1, &["cannot be held, so nothing is sent", "`all`"]);
    assert!(house.sim.requests().is_empty());
    house.balances(house.totals().await, 0);
    assert_eq!(house.kept().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_a_budget_has_no_room_for_are_made_cheaper_by_the_rules() {
    let house = House::within(0.15, "plugin").await;
    house.file(&[dear("a boat"), dear("a house"), dear("a cat")]);
    let told = house
        .run(&[&SUBMIT[..], &["--out", "pictures"]].concat())
        .await;
    told.says(
        0,
        &[
            "2 lines did not fit a budget, and rules made them cheaper",
            "3 done · 0 failed",
            "3 pictures in pictures",
        ],
    );
    house.balances(house.totals().await, 3);
    assert!(house.billed() <= 150_000_000, "{}", house.billed());
    let decisions = house.decisions();
    let quality = |line: &&Value, word: &str| line["decided"]["quality"] == word;
    let low: Vec<&Value> = decisions
        .iter()
        .filter(|line| quality(line, "low"))
        .collect();
    assert_eq!(low.len(), 2, "{decisions:?}");
    for line in low {
        assert_eq!(line["asked"]["quality"], "high");
        let rules = line["rules"].as_array().unwrap();
        let rule = rules.iter().find(|rule| rule["hook"] == "on_budget");
        assert_eq!(rule.unwrap()["applied"], true, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_call_in_a_batch_is_made_cheaper_where_a_budget_has_no_room() {
    let house = House::within(0.02, "plugin").await;
    let mut serve = house.begin(&["serve"]);
    let proxy = address(&mut serve).await;
    let mut body = cat("a boat");
    body["quality"] = json!("high");
    let answer = ask(&proxy, IMAGES, &body, &WAITS).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let decision = house.lines("call", 1).await.remove(0);
    assert_eq!(decision["attempts"][0]["tier"], "batch", "{decision}");
    assert_eq!(decision["decided"]["quality"], "low", "{decision}");
    assert_eq!(decision["budgets"][0]["did"], "degraded", "{decision}");
    house.let_go().await;
    serve.kill_9();
    house.balances(house.totals().await, 1);
    assert!(house.billed() <= 20_000_000);
}
