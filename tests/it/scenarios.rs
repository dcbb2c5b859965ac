//! The policies that people write first, through the sockets: what moves, what it costs then, and
//! that what the providers billed is what the ledger has.

use pixtoll::config::{Class, PluginEntry};
use pixtoll::image::ModelId;
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

/// A rig with one of `plugins/policies`, and options laid over its own.
async fn policy(name: &str, with: Value) -> Rig {
    let path = policy_file(name);
    Rig::with(|settings| {
        settings.plugins.push(PluginEntry {
            with: with.as_object().cloned().unwrap_or_default(),
            ..PluginEntry::named(&path)
        });
    })
    .await
}

fn policy_file(name: &str) -> String {
    format!("{}/plugins/policies/{name}.lua", env!("CARGO_MANIFEST_DIR"))
}

fn picture(prompt: &str, size: &str, quality: &str) -> Value {
    json!({"model": "gpt-image-2", "prompt": prompt, "size": size, "quality": quality})
}

fn route(answer: &Answer) -> &str {
    let route = answer.header("x-pixtoll-route");
    route.unwrap_or_else(|| panic!("{}", answer.text()))
}

async fn tagged(rig: &Rig, tags: &str, body: &Value) -> Answer {
    let path = "/v1/images/generations";
    let headers = [("x-pixtoll-tags", tags)];
    let body = body.to_string();
    rig.call("api.openai.com", path, &headers, "application/json", &body)
        .await
}

/// A picture of Gemini's, as its own client asks for it.
async fn gemini(rig: &Rig, tags: &str, prompt: &str) -> Answer {
    let body = json!({"contents": [{"parts": [{"text": prompt}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]}});
    rig.call(
        "generativelanguage.googleapis.com",
        "/v1beta/models/gemini-3-pro-image:generateContent",
        &[("x-pixtoll-tags", tags), ("x-goog-api-key", "sk-canary")],
        "application/json",
        &body.to_string(),
    )
    .await
}

fn cost(decision: &Value) -> f64 {
    decision["cost"].as_f64().unwrap()
}

async fn balanced(rig: &Rig) {
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn cap_unless_hero_caps_all_but_heroes() {
    let rig = policy("cap_unless_hero", Value::Null).await;
    rig.generate(&picture("a desk", "2048x2048", "medium"))
        .await;
    tagged(&rig, "hero", &picture("a desk", "2048x2048", "medium")).await;
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[0]["answered"]["sizes"], json!(["1024x1024"]));
    assert_eq!(decisions[1]["answered"]["sizes"], json!(["2048x2048"]));
    assert!(cost(&decisions[0]) < cost(&decisions[1]));
    balanced(&rig).await;
}

#[tokio::test]
async fn icons_go_to_the_small_model_and_marketing_stays_with_the_dear_one() {
    let rig = policy("icons_to_cheap", Value::Null).await;
    let icon = rig
        .generate(&picture("a flat icon of a fox", "1024x1024", "high"))
        .await;
    assert_eq!(route(&icon), "stability/sd3.5-medium");
    let poster = picture("a poster with an icon of a fox", "1024x1024", "high");
    let poster = tagged(&rig, "hero,marketing", &poster).await;
    assert_eq!(route(&poster), "openai/gpt-image-2");
    let decisions = rig.decisions(2).await;
    assert!(cost(&decisions[0]) * 4.0 < cost(&decisions[1]));
    assert!(decisions[0]["saved_by"]["route"].as_f64().unwrap() > 0.1);
    balanced(&rig).await;
}

#[tokio::test]
async fn two_rate_limits_lead_to_the_next_house() {
    let rig = policy("rate_limits", Value::Null).await;
    rig.script("openai", &["rate_limited retry_after=0"; 2]);
    let answer = rig.generate(&cat("a bowl")).await;
    assert_eq!(route(&answer), "google/gemini-2.5-flash-image");
    let decision = &rig.decisions(1).await[0];
    let outcomes: Vec<&str> = decision["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "ok"]);
    assert_eq!(decision["rules"][1]["why"], "rate limited twice");
    balanced(&rig).await;
}

#[tokio::test]
async fn a_background_picture_of_the_night_comes_from_the_slow_tier_at_half_price() {
    // It is night now: a test does not choose its hour.
    let now = jiff::Timestamp::now();
    let hour = |by: i64| {
        let then = now + jiff::SignedDuration::from_hours(by);
        then.strftime("%H:%M").to_string()
    };
    let night = json!({"from": hour(-6), "to": hour(6), "zone": "UTC"});
    let rig = policy("night", night).await;
    let slow = gemini(&rig, "background", "a lighthouse").await;
    assert_eq!(slow.status(), 200, "{}", slow.text());
    let usual = gemini(&rig, "", "a lighthouse by day").await;
    assert_eq!(usual.status(), 200, "{}", usual.text());
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[0]["attempts"][0]["tier"], "flex");
    assert_eq!(decisions[1]["attempts"][0]["tier"], "standard");
    let bills = rig.sim().bills();
    let (half, whole) = (bills[0].nano_usd, bills[1].nano_usd);
    assert!(half * 2 <= whole + 10_000_000, "{half} and {whole}");
    assert!(half * 3 > whole, "{half} and {whole}");
    assert!(decisions[0]["saved_by"]["tier"].as_f64().unwrap() > 0.0);
    balanced(&rig).await;
}

#[tokio::test]
async fn a_safety_block_goes_to_another_models_safe_mode_at_half_the_price() {
    let rig = policy("safe_mode", Value::Null).await;
    rig.script("openai", &["safety"; 2]);
    let dear = rig.generate(&picture("a duel", "1024x1024", "high")).await;
    assert_eq!(route(&dear), "bfl/flux-2-pro");
    let decision = rig.decisions(1).await[0].clone();
    let quote = |of: &Value| of["quote"].as_f64().unwrap();
    assert!(quote(&decision["attempts"][1]) * 2.0 <= quote(&decision["asked"]));
    assert_eq!(
        decision["rules"][0]["set"]["safety"], "strict",
        "{decision}"
    );
    // What costs little already has no cheaper way out.
    let cheap = rig.generate(&picture("a duel", "1024x1024", "low")).await;
    assert_eq!(cheap.status(), 400);
    balanced(&rig).await;
}

#[tokio::test]
async fn an_overload_leads_to_a_cheaper_model_or_a_lower_resolution() {
    let rig = policy("overload", Value::Null).await;
    rig.script("openai", &["overloaded"]);
    let moved = rig
        .generate(&picture("a bowl", "1024x1024", "medium"))
        .await;
    assert_eq!(route(&moved), "stability/sd3.5-medium");
    // At low quality nobody is cheaper, and the second wish is carried out.
    rig.script("openai", &["overloaded"]);
    let smaller = rig.generate(&picture("a bowl", "2048x2048", "low")).await;
    assert_eq!(route(&smaller), "openai/gpt-image-2", "{}", smaller.text());
    let decision = &rig.decisions(2).await[1];
    assert_eq!(
        decision["answered"]["sizes"],
        json!(["1024x1024"]),
        "{decision}"
    );
    let skipped = decision["rules"][0]["skipped"].as_str().unwrap();
    assert!(skipped.contains("max_share"), "{skipped}");
    balanced(&rig).await;
}

#[tokio::test]
async fn a_class_has_a_threshold_of_its_own() {
    let class = |most: &str| Class {
        models: ["openai/gpt-image-2", "stability/sd3.5-medium"]
            .iter()
            .map(|model| ModelId::parse(model).unwrap())
            .collect(),
        max_cost: Some(most.parse().unwrap()),
    };
    let rig = Rig::with(|settings| {
        settings
            .plugins
            .push(PluginEntry::named(&policy_file("thresholds")));
        settings.classes.insert("draft".to_owned(), class("0.01"));
        settings.classes.insert("final".to_owned(), class("0.04"));
    })
    .await;
    let fine = rig.generate(&picture("a bowl", "1024x1024", "high")).await;
    assert_eq!(
        route(&fine),
        "stability/sd3.5-medium",
        "0.035 is within 0.04"
    );
    let draft = tagged(&rig, "draft", &picture("a bowl", "1024x1024", "low")).await;
    assert_eq!(
        route(&draft),
        "openai/gpt-image-2",
        "the only one below 0.01"
    );
    let dear = tagged(&rig, "draft", &picture("a cup", "1024x1024", "high")).await;
    assert_eq!(route(&dear), "openai/gpt-image-2", "as it was asked");
    let decision = &rig.decisions(3).await[2];
    let skipped = decision["rules"][0]["skipped"].as_str().unwrap();
    assert!(skipped.contains("no member of class `draft`"), "{skipped}");
    balanced(&rig).await;
}

#[tokio::test]
async fn whoever_can_wait_gets_the_slow_tier_by_its_deadline() {
    let rig = Rig::with(|settings| {
        settings
            .plugins
            .push(PluginEntry::named("tier_by_deadline"));
    })
    .await;
    let body = json!({"contents": [{"parts": [{"text": "a lighthouse"}]}],
        "generationConfig": {"responseModalities": ["IMAGE"]}});
    let answer = rig
        .call(
            "generativelanguage.googleapis.com",
            "/v1beta/models/gemini-3-pro-image:generateContent",
            &[
                ("x-pixtoll-deadline", "1800"),
                ("x-goog-api-key", "sk-canary"),
            ],
            "application/json",
            &body.to_string(),
        )
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["attempts"][0]["tier"], "flex", "{decision}");
    balanced(&rig).await;
}
