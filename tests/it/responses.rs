//! The Responses API with its image tool: metered where it draws, and never in the way where it
//! talks.

use serde_json::{Value, json};

use crate::charges::{BY_THE_PICTURE, png, provider, rig};
use crate::harness::{Answer, Rig};

async fn respond(rig: &Rig, body: &Value) -> Answer {
    let (host, path) = ("api.openai.com", "/v1/responses");
    rig.call(host, path, &[], "application/json", &body.to_string())
        .await
}

fn answer(output: Value) -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "model": "gpt-5.2", "error": null, "output": output,
        "usage": {"input_tokens": 310, "output_tokens": 41, "total_tokens": 351},
        "tool_usage": {"image_gen": {
            "input_tokens": 20, "input_tokens_details": {"text_tokens": 20, "image_tokens": 0},
            "output_tokens": 640, "output_tokens_details": {"text_tokens": 0, "image_tokens": 640},
        }},
    })
}

fn drawn() -> Value {
    answer(
        json!([{"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": png(1024, 1024)}]),
    )
}

fn forced() -> Value {
    json!({
        "model": "gpt-5.2", "input": "a boat", "tool_choice": {"type": "image_generation"},
        "tools": [{"type": "image_generation", "model": "gpt-image-2.6-flare", "size": "1024x1024", "quality": "low"}],
    })
}

#[tokio::test]
async fn a_forced_picture_is_charged_by_its_tokens_and_repeated_from_memory() {
    let rig = rig(provider(drawn()).await, BY_THE_PICTURE).await;
    let first = respond(&rig, &forced()).await;
    assert_eq!(first.json(), drawn());
    let second = respond(&rig, &forced()).await;
    assert!(second.header("cache-status").unwrap().contains("hit"));
    let attempt = &rig.decisions(2).await[0]["attempts"][0];
    assert_eq!(attempt["model"], "openai/gpt-image-2.6-flare");
    assert_eq!(attempt["charge_from"], "usage", "{attempt}");
    // 20 tokens in at 5 USD a million and 640 out at 30.
    assert_eq!(attempt["charge"], json!(0.0193));
    assert_eq!(attempt["codes"]["usage.charge"], "unpriced");
    assert_eq!(attempt["codes"]["usage.input_tokens"], "310");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_text_model_took_beside_the_picture_is_told_to_be_unpriced() {
    let rig = rig(provider(drawn()).await, BY_THE_PICTURE).await;
    let first = respond(&rig, &forced()).await;
    assert_eq!(first.header("x-pixtoll-cost-from"), Some("partly-unpriced"));
    let second = respond(&rig, &forced()).await;
    assert_eq!(second.header("x-pixtoll-cost-from"), Some("none"));
    let decisions = rig.decisions(2).await;
    let bought = &decisions[0];
    assert_eq!(bought["attempts"][0]["partly_unpriced"], true, "{bought:#}");
    assert_eq!(bought["cost"], json!(0.0193));
    assert_eq!(bought["cost_exact"], false);
    assert_eq!(bought["saved"], Value::Null);
    let notes = bought["notes"].to_string();
    assert!(
        notes.contains("gpt-5.2 was paid for beside openai/gpt-image-2.6-flare"),
        "{notes}"
    );
    assert_eq!(decisions[1]["cost_exact"], true);
    let state = format!("state_dir={}", rig.dir.path().join("state").display());
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args(arguments)
            .args(["--set", &state])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let report: Value = serde_json::from_str(&run(&["report", "--json"])).unwrap();
    assert_eq!(report["data"]["total"]["unpriced"], 1, "{report:#}");
    let tail = run(&["tail"]);
    assert!(tail.contains("~$0.0193"), "{tail}");
}

#[tokio::test]
async fn a_conversation_that_draws_is_unpriced_and_not_free() {
    let rig = rig(provider(drawn()).await, BY_THE_PICTURE).await;
    let mut body = forced();
    body["tool_choice"] = json!("auto");
    assert_eq!(respond(&rig, &body).await.json(), drawn());
    let attempt = &rig.decisions(1).await[0]["attempts"][0];
    assert_eq!(attempt["model"], "openai/gpt-5.2");
    assert_eq!(
        (&attempt["charge"], &attempt["charge_from"]),
        (&Value::Null, &json!("unpriced"))
    );
}

#[tokio::test]
async fn words_reach_the_app_as_they_are_with_the_tool_and_without() {
    let words = answer(json!([{"type": "message", "role": "assistant", "content": []}]));
    let rig = rig(provider(words.clone()).await, BY_THE_PICTURE).await;
    let mut body = forced();
    body["tool_choice"] = json!("auto");
    let told = respond(&rig, &body).await;
    assert_eq!((told.status(), told.json()), (200, words.clone()));
    let attempt = &rig.decisions(1).await[0]["attempts"][0];
    assert_eq!(attempt["charge"], Value::Null, "{attempt}");
    body["tools"] = json!([]);
    let told = respond(&rig, &body).await;
    assert_eq!((told.status(), told.json()), (200, words));
    assert_eq!(told.header("x-pixtoll-decision"), None);
    assert_eq!(rig.decisions(1).await.len(), 1);
}

#[tokio::test]
async fn a_rule_moves_a_forced_picture_and_leaves_a_conversation_where_it_is() {
    let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    let lua =
        r#"return { on_request = function(call) return call:route("stability/sd3.5-medium") end }"#;
    std::fs::write(file.path(), lua).unwrap();
    let rig = Rig::with(|settings| {
        let path = file.path().to_str().unwrap();
        let entry = pixtoll::config::PluginEntry::named(path);
        settings.plugins.push(entry);
    })
    .await;
    let moved = respond(&rig, &forced()).await;
    assert_eq!(moved.status(), 200, "{}", moved.text());
    assert_eq!(
        moved.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    assert_eq!(moved.json()["output"][0]["type"], "image_generation_call");
    let mut body = forced();
    body["tool_choice"] = json!("auto");
    assert_eq!(respond(&rig, &body).await.status(), 200);
    let bills = rig.sim().bills();
    let billed: Vec<(&str, &str)> = bills
        .iter()
        .map(|b| (b.provider, b.model.as_str()))
        .collect();
    let drawn = ("openai", "gpt-image-2.6-flare");
    let moved = ("stability", "sd3.5-medium");
    assert_eq!(billed, [moved, drawn, ("openai", "gpt-5.2")]);
}
