//! Calls that are asked in one wire format and served in another.

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

fn decoded(text: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(text.as_str().unwrap())
        .unwrap()
}

fn pixels(file: &[u8]) -> (u32, u32) {
    pixtoll::image::header::read(file).pixels.unwrap()
}

/// A rule that sends everything to one model.
fn all_to(model: &str) -> String {
    format!("return {{ on_request = function(call) return call:route(\"{model}\") end }}")
}

async fn sdxl(rig: &Rig, body: &Value) -> Answer {
    rig.call(
        "api.stability.ai",
        "/v1/generation/stable-diffusion-xl-1024-v1-0/text-to-image",
        &[("Accept", "application/json")],
        "application/json",
        &body.to_string(),
    )
    .await
}

fn boat() -> Value {
    json!({"text_prompts": [{"text": "a boat", "weight": 1}], "width": 1024, "height": 1024, "steps": 50, "samples": 2})
}

#[tokio::test]
async fn an_older_route_of_stability_is_charged_by_its_steps_and_repeated_from_memory() {
    let rig = Rig::start().await;
    let first = sdxl(&rig, &boat()).await;
    assert_eq!(first.status(), 200, "{}", first.text());
    assert_eq!(first.json()["artifacts"].as_array().unwrap().len(), 2);
    let second = sdxl(&rig, &boat()).await;
    assert!(second.header("cache-status").unwrap().contains("hit"));
    assert_eq!(first.body, second.body);
    assert_eq!(rig.billed(), 30_000_000);
    assert_eq!(rig.billed(), rig.booked().await);
    assert_eq!(rig.decisions(2).await[0]["dialect"], "stability_v1");
}

#[tokio::test]
async fn one_provider_answers_in_the_form_that_its_caller_asked_in() {
    // Asked in the older form, served by the newer routes of the same provider.
    let rig = Rig::with_rule(&all_to("stability/sd3.5-medium")).await;
    let mut body = boat();
    body["samples"] = json!(1);
    let answer = sdxl(&rig, &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let artifact = &answer.json()["artifacts"][0];
    assert_eq!(artifact["finishReason"], "SUCCESS");
    assert_eq!(pixels(&decoded(&artifact["base64"])), (1024, 1024));
    assert_eq!(rig.sim().bills()[0].model, "sd3.5-medium");
    // Its failure, too, is told in the older form.
    rig.script("stability", &["safety"]);
    body["text_prompts"][0]["text"] = json!("a duel");
    let refused = sdxl(&rig, &body).await;
    assert_eq!(refused.status(), 400);
    assert_eq!(refused.json()["name"], "invalid_prompts");
    assert!(refused.json()["message"].is_string());
}

#[tokio::test]
async fn a_call_of_openai_is_drawn_by_an_older_engine() {
    let rig = Rig::with_rule(&all_to("stability/stable-diffusion-xl-1024-v1-0")).await;
    let mut body = cat("a boat");
    body["n"] = json!(2);
    let answer = rig.generate(&body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let data = answer.json()["data"].clone();
    assert_eq!(data.as_array().unwrap().len(), 2);
    assert_eq!(pixels(&decoded(&data[1]["b64_json"])), (1024, 1024));
    assert_eq!(rig.billed(), 18_000_000);
    assert_eq!(rig.billed(), rig.booked().await);
}
