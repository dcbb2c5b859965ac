//! What a target has no word for is said, or keeps a call from going there.

use serde_json::{Value, json};

use crate::harness::Rig;

/// A rule that sends everything to one model, with further words.
fn rule(model: &str, more: &str) -> String {
    format!(
        "return {{ on_request = function(call) return call:route(\"{model}\", {{ reason = \"test\"{more} }}) end }}"
    )
}

fn asked() -> Value {
    json!({
        "model": "gpt-image-2", "prompt": "a cat", "size": "1024x1024", "n": 2,
        "background": "transparent", "quality": "high", "output_format": "png", "moderation": "low",
        "negative_prompt": "dogs", "seed": 7, "steps": 30, "house_style": "ours",
    })
}

/// Target, and which of the fields above it has no word for.
const LOST: [(&str, &[&str]); 4] = [
    (
        "stability/sd3.5-medium",
        &["background", "extra", "quality", "safety", "steps"],
    ),
    (
        "stability/stable-diffusion-xl-1024-v1-0",
        &["background", "extra", "quality", "safety"],
    ),
    (
        "google/gemini-nano-banana-2.1",
        &[
            "background",
            "extra",
            "negative_prompt",
            "quality",
            "seed",
            "steps",
        ],
    ),
    (
        "fal/fal-ai/flux/dev",
        &["background", "extra", "negative_prompt", "quality"],
    ),
];

fn lost(decision: &Value) -> Vec<&str> {
    let lost = decision["lost"].as_array().unwrap();
    let mut fields: Vec<&str> = lost
        .iter()
        .map(|lost| lost["field"].as_str().unwrap())
        .collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn every_field_without_a_word_is_listed_as_lost() {
    for (model, expected) in LOST {
        let rig = Rig::with_rule(&rule(model, "")).await;
        let answer = rig.generate(&asked()).await;
        assert_eq!(answer.status(), 200, "{model}: {}", answer.text());
        assert_eq!(
            answer.json()["data"].as_array().unwrap().len(),
            2,
            "{model}"
        );
        let decision = rig.decisions(1).await.remove(0);
        assert_eq!(lost(&decision), expected, "{model}");
        assert_eq!(rig.billed(), rig.booked().await);
    }
}

#[tokio::test]
async fn a_field_that_must_be_kept_keeps_the_call_from_going_there() {
    for (model, fields) in LOST {
        for field in fields {
            let more = format!(", keep = {{ \"{field}\" }}");
            let rig = Rig::with_rule(&rule(model, &more)).await;
            rig.generate(&asked()).await;
            let decision = rig.decisions(1).await.remove(0);
            let targets = rig.sim().requests();
            let (provider, _) = model.split_once('/').unwrap();
            assert!(
                targets.iter().all(|seen| seen.provider != provider),
                "{model} {field}"
            );
            let text = decision.to_string();
            assert!(
                text.contains(&format!("`{field}` must be kept")),
                "{model} {field}: {decision:#}"
            );
        }
    }
}

/// A rule that moves what moderation refused insists on it.
#[tokio::test]
async fn a_degree_of_moderation_goes_along_where_there_is_a_word_for_it() {
    let more = ", safety = \"strict\", keep = { \"safety\" }";
    for (model, goes) in [
        ("google/gemini-nano-banana-2.1", true),
        ("bfl/flux-2-pro", true),
        ("stability/sd3.5-medium", false),
    ] {
        let rig = Rig::with_rule(&rule(model, more)).await;
        let answer = rig.generate(&crate::harness::cat("a boat")).await;
        assert_eq!(answer.status(), 200, "{model}: {}", answer.text());
        let (provider, _) = model.split_once('/').unwrap();
        let bills = rig.sim().bills();
        assert_eq!(bills[0].provider == provider, goes, "{model}: {bills:?}");
        let decision = rig.decisions(1).await.remove(0);
        assert!(!lost(&decision).contains(&"safety"), "{decision:#}");
    }
}

#[tokio::test]
async fn a_field_that_we_do_not_know_reaches_its_own_provider() {
    let rig = Rig::with_rule(&rule("openai/gpt-image-1-mini", "")).await;
    rig.generate(&asked()).await;
    assert_eq!(rig.sim().requests()[0].provider, "openai");
    let decision = rig.decisions(1).await.remove(0);
    assert!(!lost(&decision).contains(&"extra"), "{decision:#}");
}
