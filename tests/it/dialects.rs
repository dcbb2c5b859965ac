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

// Google.

const BANANA: &str = "google/gemini-nano-banana-2.1";

async fn gemini(rig: &Rig, path: &str, body: &Value) -> Answer {
    let host = "generativelanguage.googleapis.com";
    let key = [("x-goog-api-key", "AIza-canary")];
    rig.call(host, path, &key, "application/json", &body.to_string())
        .await
}

fn drawing(prompt: &str) -> Value {
    json!({
        "contents": [{"role": "user", "parts": [{"text": prompt}]}],
        "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "1:1"}},
    })
}

const WHOLE: &str = "/v1beta/models/gemini-nano-banana-2.1:generateContent";
const EVENTS: &str = "/v1beta/models/gemini-nano-banana-2.1:streamGenerateContent?alt=sse";

fn gemini_picture(answer: &Value) -> Vec<u8> {
    decoded(&answer["candidates"][0]["content"]["parts"][0]["inlineData"]["data"])
}

#[tokio::test]
async fn a_call_of_gemini_is_charged_by_its_usage_and_repeated_from_memory() {
    let rig = Rig::start().await;
    let first = gemini(&rig, WHOLE, &drawing("a boat")).await;
    assert_eq!(first.status(), 200, "{}", first.text());
    assert_eq!(pixels(&gemini_picture(&first.json())), (1024, 1024));
    let second = gemini(&rig, WHOLE, &drawing("a boat")).await;
    assert!(second.header("cache-status").unwrap().contains("hit"));
    assert_eq!(first.body, second.body);
    // Asked for as events it is the same picture, worded anew.
    let streamed = gemini(&rig, EVENTS, &drawing("a boat")).await;
    assert!(streamed.header("cache-status").unwrap().contains("hit"));
    let event = streamed.text();
    let event = event.split("data: ").nth(1).unwrap();
    let event: Value = serde_json::from_str(event.trim()).unwrap();
    assert_eq!(gemini_picture(&event), gemini_picture(&first.json()));
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.billed(), rig.booked().await);
    let decision = &rig.decisions(3).await[0];
    assert_eq!(decision["dialect"], "gemini");
    assert_eq!(decision["attempts"][0]["charge_from"], "usage");
}

#[tokio::test]
async fn every_model_step_and_tier_of_gemini_costs_what_google_bills() {
    let rig = Rig::start().await;
    let steps = [
        ("gemini-nano-banana-2.1", &["1K", "2K", "4K"][..]),
        ("gemini-3-pro-image", &["1K", "2K", "4K"]),
        ("gemini-3.1-flash-lite-image", &["1K"]),
        ("gemini-2.5-flash-image", &[""]),
    ];
    for (model, steps) in steps {
        for step in steps {
            for tier in ["standard", "flex", "priority"] {
                let mut body = drawing(&format!("{model} {step} {tier}"));
                body["serviceTier"] = json!(tier);
                if !step.is_empty() {
                    body["generationConfig"]["imageConfig"]["imageSize"] = json!(step);
                }
                let before = (rig.billed(), rig.booked().await);
                let path = format!("/v1beta/models/{model}:generateContent");
                let answer = gemini(&rig, &path, &body).await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                let after = (rig.billed(), rig.booked().await);
                let told = (after.0 - before.0, after.1 - before.1);
                assert_eq!(told.0, told.1, "{model} {step} {tier}");
            }
        }
    }
}

#[tokio::test]
async fn a_call_of_openai_is_drawn_by_gemini() {
    let rig = Rig::with_rule(&all_to(BANANA)).await;
    let mut body = cat("a boat");
    body["size"] = json!("1536x1024");
    let answer = rig.generate(&body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-pixtoll-route"), Some(BANANA));
    let picture = decoded(&answer.json()["data"][0]["b64_json"]);
    assert_eq!(pixels(&picture), (1264, 848));
    assert!(answer.json()["usage"]["output_tokens"].as_u64().unwrap() > 1120);
    let seen = rig.sim().requests().pop().unwrap();
    assert_eq!(seen.target, WHOLE);
    assert!(seen.header("x-goog-api-key").is_some() && seen.header("authorization").is_none());
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_call_of_gemini_is_drawn_by_openai_and_by_stability() {
    for model in ["openai/gpt-image-2", "stability/sd3.5-medium"] {
        let rig = Rig::with_rule(&all_to(model)).await;
        for path in [WHOLE, EVENTS] {
            let answer = gemini(&rig, path, &drawing(path)).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            let text = String::from_utf8(answer.body).unwrap();
            let text = text.strip_prefix("data: ").unwrap_or(&text);
            let body: Value = serde_json::from_str(text).unwrap();
            assert_eq!(pixels(&gemini_picture(&body)), (1024, 1024));
            assert_eq!(body["candidates"][0]["finishReason"], "STOP");
        }
        assert_eq!(rig.billed(), rig.booked().await);
        assert_eq!(rig.decisions(2).await[0]["lost"], json!([]));
        let (provider, _) = model.split_once('/').unwrap();
        let seen = rig.sim().requests();
        assert!(
            seen.iter()
                .all(|seen| seen.provider == provider && seen.header("x-goog-api-key").is_none())
        );
    }
}

#[tokio::test]
async fn a_call_of_a_gone_imagen_is_drawn_by_gemini_where_it_was_addressed() {
    let rule = format!(
        "return {{ on_failure = function(call, failure) if failure.kind == \"retired\" then return call:route(\"{BANANA}\") end end }}"
    );
    let rig = Rig::with_rule(&rule).await;
    let place = "/v1/projects/p/locations/us-central1/publishers/google/models/";
    let body = json!({"instances": [{"prompt": "a boat"}], "parameters": {"sampleCount": 1, "aspectRatio": "16:9"}});
    let path = format!("{place}imagen-4.0-generate-001:predict");
    let answer = rig
        .call(
            "us-central1-aiplatform.googleapis.com",
            &path,
            &[],
            "application/json",
            &body.to_string(),
        )
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let prediction = &answer.json()["predictions"][0];
    assert_eq!(
        pixels(&decoded(&prediction["bytesBase64Encoded"])),
        (1376, 768)
    );
    let targets: Vec<String> = rig
        .sim()
        .requests()
        .into_iter()
        .map(|seen| seen.target)
        .collect();
    let second = format!("{place}gemini-nano-banana-2.1:generateContent");
    assert_eq!(targets, [path, second]);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn refusals_reach_a_caller_of_gemini_in_its_own_form() {
    let rig = Rig::start().await;
    let told = async |words: &str| {
        rig.script("google", &[words]);
        gemini(&rig, WHOLE, &drawing(words)).await
    };
    let blocked = told("safety").await;
    assert_eq!(blocked.status(), 200);
    assert_eq!(
        blocked.json()["promptFeedback"]["blockReason"],
        "PROHIBITED_CONTENT"
    );
    let withheld = told("safety_output").await;
    assert_eq!(
        withheld.json()["candidates"][0]["finishReason"],
        "IMAGE_SAFETY"
    );
    let limited = told("rate_limited retry_after=2").await;
    assert_eq!(
        (limited.status(), &limited.json()["error"]["status"]),
        (429, &json!("RESOURCE_EXHAUSTED"))
    );
    let empty = told("no_image").await;
    assert_eq!(empty.json()["candidates"][0]["finishReason"], "NO_IMAGE");
    assert_eq!(told("retired").await.status(), 404);
    let decisions = rig.decisions(5).await;
    let kinds: Vec<&str> = decisions
        .iter()
        .map(|d| d["error"]["kind"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["safety", "safety", "rate_limited", "no_image", "retired"]
    );
    // What was read and thought is booked as it was billed, and nothing else.
    assert!(rig.billed() > 0);
    assert_eq!(rig.billed(), rig.booked().await);
    // Moderation elsewhere is told in the same form.
    let moved = Rig::with_rule(&all_to("openai/gpt-image-2")).await;
    moved.script("openai", &["safety"]);
    let answer = gemini(&moved, WHOLE, &drawing("a duel")).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.json()["promptFeedback"]["blockReason"].is_string());
}

#[tokio::test]
async fn what_asks_google_for_no_picture_passes_untouched() {
    let rig = Rig::start().await;
    let text = json!({"contents": [{"parts": [{"text": "hello"}]}]});
    let spoken = gemini(
        &rig,
        "/v1beta/models/gemini-2.5-flash:generateContent?key=AIza-canary",
        &text,
    )
    .await;
    assert_eq!(spoken.status(), 200, "{}", spoken.text());
    assert!(spoken.json()["candidates"][0]["content"]["parts"][0]["text"].is_string());
    assert!(spoken.header("x-pixtoll-decision").is_none());
    let seen = rig.sim().requests().pop().unwrap();
    assert_eq!(seen.body_len, text.to_string().len());
    assert_eq!(
        seen.body_digest,
        blake3::hash(text.to_string().as_bytes())
            .to_hex()
            .to_string()
    );
}

#[tokio::test]
async fn google_is_reached_by_base_url_too() {
    let rig = Rig::start().await;
    let body = drawing("a boat").to_string();
    let path = format!("/google{WHOLE}");
    let request = crate::harness::post("127.0.0.1", &path, &[], "application/json", &body);
    let request = request.replace("Host: 127.0.0.1", &format!("Host: {}", rig.address()));
    let answer = rig.raw(&request).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("inlineData"),
        "{answer}"
    );
    assert_eq!(rig.decisions(1).await[0]["via"], "gateway");
}

#[tokio::test]
async fn a_key_in_the_query_goes_along_and_is_kept_nowhere() {
    let shrink =
        "return { on_request = function(call) return call:change({ size = \"16:9\" }) end }";
    for rule in [None, Some(shrink)] {
        let rig = match rule {
            Some(rule) => Rig::with_rule(rule).await,
            None => Rig::start().await,
        };
        let path = format!("{WHOLE}?key=AIza-canary");
        let call = async || {
            let host = "generativelanguage.googleapis.com";
            let body = drawing("a boat").to_string();
            rig.call(
                host,
                &path,
                &[("authorization", "")],
                "application/json",
                &body,
            )
            .await
        };
        let first = call().await;
        assert_eq!(first.status(), 200, "{}", first.text());
        assert!(call().await.header("cache-status").unwrap().contains("hit"));
        assert_eq!(rig.sim().bills().len(), 1);
        // Worded anew it goes into a header, and as it came it stands where the app put it.
        let seen = rig.sim().requests().pop().unwrap();
        let in_header = seen.header("x-goog-api-key").is_some();
        assert_eq!(
            (in_header, seen.target.contains("key=")),
            (rule.is_some(), rule.is_none())
        );
        rig.decisions(2).await;
        let state = rig.dir.path().join("state");
        for entry in std::fs::read_dir(&state).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                let found = memchr::memmem::find(&bytes, b"AIza-canary");
                assert!(found.is_none(), "{}", path.display());
            }
        }
    }
}
