//! What people read of the past: spending, and what watching rules would have done.

use std::path::Path;
use std::process::Command;

use pixtoll::config::PluginEntry;
use pixtoll::record::Mode;
use serde_json::{Value, json};

use crate::harness::{Rig, cat};

fn report(log: &Path, args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .arg("report")
        .arg(log)
        .args(args)
        .current_dir(log.parent().unwrap())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(text).unwrap(),
    )
}

fn json(log: &Path, args: &[&str]) -> Value {
    let (code, text) = report(log, &[args, &["--json"]].concat());
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spending_is_that_of_the_bills_however_it_is_cut() {
    let rig = Rig::start().await;
    for prompt in ["a boat", "a house", "a boat"] {
        rig.generate(&cat(prompt)).await;
    }
    let unknown = json!({"model": "gpt-image-9", "prompt": "a boat"});
    rig.generate(&unknown).await;
    rig.decisions(4).await;
    let log = rig.app.pipeline.log.path().to_owned();
    let billed = rig.billed() as f64 / 1e9;
    for by in ["model", "provider", "tier,app", "size", "day"] {
        let told = json(&log, &["--by", by]);
        let total = &told["data"]["total"];
        assert_eq!(total["spent"].as_f64(), Some(billed), "{told}");
        assert_eq!(
            (&total["calls"], &total["from_memory"]),
            (&json!(4), &json!(1))
        );
        let rows = told["data"]["rows"].as_array().unwrap();
        let sum: f64 = rows.iter().map(|row| row["spent"].as_f64().unwrap()).sum();
        assert!((sum - billed).abs() < 1e-12, "{told}");
    }
    let (code, text) = report(&log, &[]);
    assert_eq!(code, 0);
    assert!(text.contains("openai/gpt-image-2 "), "{text}");
    assert!(text.lines().next().unwrap().contains("SPENT"), "{text}");
    let (_, csv) = report(&log, &["--by", "model", "--csv"]);
    let first = csv.lines().next().unwrap();
    assert!(
        first.starts_with("model,calls,from_memory,failed,attempts,images,spent"),
        "{csv}"
    );
    let (_, text) = report(&log, &["--where", "app=nobody"]);
    assert_eq!(text, "no calls\n");
    let (code, text) = report(&log, &["--since", "yesterday-ish"]);
    assert_eq!(code, 2);
    assert!(text.contains("--since 30d"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observe_mode_is_summed_by_rule_with_what_it_could_not_do() {
    let rig = Rig::with(|settings| {
        settings.mode = pixtoll::config::Mode::Observe;
        settings.plugins.push(PluginEntry::named("cap_quality"));
        settings.plugins.push(PluginEntry::named("icons_to_cheap"));
    })
    .await;
    assert_eq!(rig.app.pipeline.policy.mode, Mode::Observe);
    let body = |prompt: &str| json!({"model": "gpt-image-2", "prompt": prompt, "size": "1024x1024", "quality": "high"});
    rig.generate(&body("a boat")).await;
    rig.generate(&body("a flat icon")).await;
    let decisions = rig.decisions(2).await;
    let log = rig.app.pipeline.log.path().to_owned();
    let told = json(&log, &["--would-have"]);
    let sum = |pointer: &str| -> i64 {
        let amounts = decisions
            .iter()
            .map(|line| line.pointer(pointer).unwrap().as_f64().unwrap());
        amounts.map(|usd| (usd * 1e9).round() as i64).sum()
    };
    let nano = |value: &Value| (value.as_f64().unwrap() * 1e9).round() as i64;
    let data = &told["data"];
    assert_eq!(data["observed"], 2, "{told}");
    assert_eq!(nano(&data["asked"]), sum("/asked/quote"));
    assert_eq!(
        nano(&data["saving"]),
        sum("/asked/quote") - sum("/decided/quote"),
        "{told}"
    );
    let rules = data["rules"].as_array().unwrap();
    let of = |name: &str| rules.iter().find(|rule| rule["rule"] == name).unwrap();
    assert_eq!(of("cap_quality")["calls"], 2);
    assert_eq!(of("icons_to_cheap")["calls"], 1);
    assert!(nano(&of("cap_quality")["saving"]) > 0);
    let (code, text) = report(&log, &["--would-have"]);
    assert_eq!(code, 0);
    for part in [
        "2 calls observed",
        "RULE",
        "WOULD COST",
        "cap_quality",
        "together",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert_eq!(
        rig.sim().bills().len(),
        2,
        "observed: both were bought as asked"
    );
}
