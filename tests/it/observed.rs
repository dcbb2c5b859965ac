//! Plugins that are only observed beside others that act, and rules that answer by themselves.

use std::path::Path;

use pixtoll::config::{Mode, PluginEntry};
use pixtoll::money::Usd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Rig, cat};

fn plugin(dir: &Path, name: &str, lua: &str, observe: bool) -> PluginEntry {
    let path = dir.join(format!("{name}.lua"));
    std::fs::write(&path, lua).unwrap();
    PluginEntry {
        observe,
        ..PluginEntry::named(&path.display().to_string())
    }
}

fn usd(json: &Value) -> Usd {
    json.to_string().parse().unwrap()
}

#[tokio::test]
async fn an_observed_plugin_is_priced_and_logged_and_the_others_act() {
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(|settings| {
        let cap = "return { on_request = function(call) return call:change { max_side = 1024, reason = 'cap' } end }";
        settings.plugins.push(plugin(dir.path(), "cap", cap, true));
        let more = "return { on_request = function(call)
            return call:route('stability/sd3.5-medium'), call:refuse('no'), call:tag('seen')
        end }";
        settings.plugins.push(plugin(dir.path(), "more", more, true));
        let tag = "return { on_request = function(call) return call:tag(call.request.size) end }";
        settings.plugins.push(plugin(dir.path(), "tag", tag, false));
    })
    .await;
    let large = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "2048x2048", "quality": "medium"});
    let answer = rig.generate(&large).await;
    assert_eq!(answer.header("x-pixtoll-route"), Some("openai/gpt-image-2"));
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["tags"], json!(["2048x2048"]));
    assert_eq!(decision["attempts"].as_array().unwrap().len(), 1);
    let rules = decision["rules"].as_array().unwrap();
    let asked = usd(&decision["asked"]["quote"]);
    for (rule, did) in rules.iter().zip(["change", "route", "refuse", "tag"]) {
        assert_eq!(
            (&rule["did"], &rule["applied"]),
            (&json!(did), &json!(false))
        );
        assert!(
            rule["skipped"].as_str().unwrap().starts_with("observed"),
            "{rule}"
        );
    }
    let would = |place: usize| &rules[place]["would"];
    for (place, rule) in rules.iter().enumerate().take(2) {
        assert!(usd(&would(place)["cost"]) < asked, "{rule}");
        assert_eq!(
            usd(&would(place)["cost"]) + usd(&would(place)["saved"]),
            asked
        );
    }
    assert_eq!(rules[0]["set"]["size"], "1024x1024");
    assert_eq!(usd(&would(2)["saved"]), asked, "refused for nothing");
    assert_eq!(would(3), &Value::Null);
    assert_eq!(rules[4]["applied"], true);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn an_observed_chain_leaves_the_failure_as_it_is() {
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(|settings| {
        let chain = "return { on_failure = function(call) return call:route('stability/sd3.5-medium') end }";
        settings.plugins.push(plugin(dir.path(), "chain", chain, true));
    })
    .await;
    rig.script("openai", &["overloaded"]);
    assert_eq!(rig.generate(&cat("a kite")).await.status(), 503);
    let decision = &rig.decisions(1).await[0];
    let rule = &decision["rules"][0];
    assert_eq!(
        (&rule["applied"], &rule["to"]),
        (&json!(false), &json!("stability/sd3.5-medium"))
    );
    assert!(usd(&rule["would"]["cost"]) > Usd::ZERO);
    assert!(rig.sim().bills().is_empty());
}

#[tokio::test]
async fn in_observe_mode_every_rule_is_priced() {
    let dir = TempDir::new().unwrap();
    let rig = Rig::with(|settings| {
        settings.mode = Mode::Observe;
        let cap =
            "return { on_request = function(call) return call:change { max_side = 1024 } end }";
        settings.plugins.push(plugin(dir.path(), "cap", cap, false));
    })
    .await;
    let large = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "2048x2048", "quality": "medium"});
    rig.generate(&large).await;
    let decision = &rig.decisions(1).await[0];
    let would = &decision["rules"][0]["would"];
    assert_eq!(would["cost"], decision["would"]["cost"]);
    assert_eq!(would["saved"], decision["would"]["saved"]);
    assert!(usd(&would["saved"]) > Usd::ZERO);
}

/// A picture beside the rule that answers with it.
async fn answering(rule: &str) -> (Rig, TempDir) {
    let dir = TempDir::new().unwrap();
    let other = Rig::start().await;
    let drawn = other.generate(&cat("a box")).await.json();
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let picture = base64.decode(drawn["data"][0]["b64_json"].as_str().unwrap());
    std::fs::write(dir.path().join("box.png"), picture.unwrap()).unwrap();
    let rig = Rig::with(|settings| {
        settings
            .plugins
            .push(plugin(dir.path(), "rule", rule, false));
        let never = "return { on_request = function(call) error('the round has ended') end }";
        settings
            .plugins
            .push(plugin(dir.path(), "never", never, false));
    })
    .await;
    (rig, dir)
}

const ANSWER: &str = "return { on_request = function(call) return call:answer { file = 'box.png', reason = 'draft' } end }";

#[tokio::test]
async fn a_rule_answers_with_its_own_picture_in_the_callers_words() {
    let (rig, dir) = answering(ANSWER).await;
    let mut two = cat("a fox");
    two["n"] = json!(2);
    let answer = rig.generate(&two).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-pixtoll-cost"), Some("0"));
    let images = answer.json()["data"].as_array().unwrap().clone();
    assert_eq!(images.len(), 2);
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let given = base64
        .decode(images[1]["b64_json"].as_str().unwrap())
        .unwrap();
    assert_eq!(given, std::fs::read(dir.path().join("box.png")).unwrap());
    let form = "--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na boat\r\n--XX\r\nContent-Disposition: form-data; name=\"output_format\"\r\n\r\njpeg\r\n--XX--\r\n";
    let bytes = rig
        .call(
            "api.stability.ai",
            "/v2beta/stable-image/generate/core",
            &[("accept", "image/*")],
            "multipart/form-data; boundary=XX",
            form,
        )
        .await;
    assert_eq!(bytes.header("content-type"), Some("image/jpeg"));
    let decisions = rig.decisions(2).await;
    for decision in &decisions {
        assert_eq!(decision["answered"]["from"], "plugin");
        assert_eq!(decision["attempts"], json!([]));
        assert_eq!(decision["cost"], 0);
        assert_eq!(decision["saved"], decision["asked"]["quote"]);
        assert_eq!(decision["rules"].as_array().unwrap().len(), 1);
        assert_eq!(decision["rules"][0]["applied"], true);
    }
    assert!(rig.sim().requests().is_empty());
}

#[tokio::test]
async fn a_picture_that_is_not_there_is_said_and_the_call_goes_on() {
    let (rig, _dir) = answering(
        "return { on_request = function(call) return call:answer { file = 'none.png' } end }",
    )
    .await;
    assert_eq!(rig.generate(&cat("a fox")).await.status(), 200);
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["answered"]["from"], "provider");
    let skipped = decision["rules"][0]["skipped"].as_str().unwrap();
    assert!(skipped.contains("none.png"), "{skipped}");
}
