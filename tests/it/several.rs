//! More pictures than a model makes a call.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

const MEDIUM: &str = "stability/sd3.5-medium";
const PRICE: i64 = 35_000_000;

async fn moved() -> Rig {
    Rig::with_rule(&format!(
        "return {{ on_request = function(call) return call:route(\"{MEDIUM}\") end }}"
    ))
    .await
}

fn cats(n: u32) -> Value {
    let mut body = cat("a cat");
    body["n"] = json!(n);
    body
}

fn pictures(answer: &Answer) -> Vec<Vec<u8>> {
    let decode = |item: &Value| {
        let text = item["b64_json"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(text)
            .unwrap()
    };
    let body = answer.json();
    body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(decode)
        .collect()
}

#[tokio::test]
async fn a_model_of_one_picture_a_call_is_asked_several_times() {
    let rig = moved().await;
    let answer = rig.generate(&cats(3)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let pictures = pictures(&answer);
    assert_eq!(pictures.len(), 3);
    for picture in &pictures {
        let pixels = pixtoll::image::header::read(picture).pixels;
        assert_eq!(pixels, Some((1024, 1024)));
    }
    assert_eq!(answer.header("x-pixtoll-cost"), Some("0.105"));
    assert_eq!(rig.billed(), 3 * PRICE);
    assert_eq!(rig.billed(), rig.booked().await);

    // The whole answer is one purchase: it is kept as such, and no part of it is.
    let again = rig.generate(&cats(3)).await;
    assert!(again.header("cache-status").unwrap().contains("hit"));
    assert_eq!(again.body, answer.body);
    let one = rig.generate(&cats(1)).await;
    assert!(!one.header("cache-status").unwrap().contains("hit"));

    let decision = rig.decisions(3).await.remove(0);
    assert_eq!(decision["decided"]["quote"], decision["cost"]);
    assert_eq!(decision["causes"]["delivered"], decision["cost"]);
    assert_eq!(decision["answered"]["images"], 3);
    let attempts = decision["attempts"].as_array().unwrap();
    let numbers: Vec<&Value> = attempts.iter().map(|attempt| &attempt["i"]).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert!(attempts.iter().all(|attempt| attempt["outcome"] == "ok"));
}

#[tokio::test]
async fn as_few_requests_are_made_as_can_be_and_few_at_once() {
    let rig = moved().await;
    rig.script("stability", &["hold"; 9]);
    let body = cats(9);
    let mut answer = std::pin::pin!(rig.generate(&body));
    let (mut at_once, mut before) = (0, 0);
    let answer = loop {
        tokio::select! {
            answer = &mut answer => break answer,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        // Whatever arrives together is held together.
        at_once = at_once.max(rig.sim().requests().len() - before);
        before = rig.sim().requests().len();
        rig.sim().release();
    };
    assert_eq!(at_once, 4);
    assert_eq!(pictures(&answer).len(), 9);
    assert_eq!(rig.billed(), 9 * PRICE);
    assert_eq!(rig.billed(), rig.booked().await);

    // The older engines make ten a call.
    let rig = Rig::with_rule(
        "return { on_request = function(call) return call:route(\"stability/stable-diffusion-xl-1024-v1-0\") end }",
    )
    .await;
    let answer = rig.generate(&cats(12)).await;
    assert_eq!(pictures(&answer).len(), 12, "{}", answer.head);
    assert_eq!(rig.sim().requests().len(), 2);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn each_picture_has_a_seed_of_its_own() {
    let rig = moved().await;
    let mut body = cats(3);
    body["seed"] = json!(40);
    let answer = rig.generate(&body).await;
    let pictures = pictures(&answer);
    assert_eq!(pictures.len(), 3);
    assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2]);
    // The second of them is what its own seed draws.
    let mut second = cats(1);
    second["seed"] = json!(41);
    let alone = rig.generate(&second).await;
    assert_eq!(self::pictures(&alone)[0], pictures[1]);
    assert_eq!(rig.billed(), 4 * PRICE);
}

#[tokio::test]
async fn what_came_is_answered_and_paid_where_another_failed() {
    let rig = moved().await;
    rig.script("stability", &["server"]);
    let answer = rig.generate(&cats(3)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(pictures(&answer).len(), 2);
    assert_eq!(rig.billed(), 2 * PRICE);
    assert_eq!(rig.billed(), rig.booked().await);
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["notes"], json!(["2 of 3 pictures came (server)"]));
    assert_eq!(decision["cache"]["stored"], false);
    let mut outcomes: Vec<&str> = decision["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["failed", "ok", "ok"]);
    // It is not the answer to whoever asks next.
    let next = rig.generate(&cats(3)).await;
    assert_eq!(pictures(&next).len(), 3);
}

#[tokio::test]
async fn where_none_came_the_chain_goes_on() {
    let rig = Rig::with_rule(&format!(
        "return {{
            on_request = function(call) return call:route(\"{MEDIUM}\") end,
            on_failure = function(call, failure)
                if failure.kind == \"safety\" then return call:route(\"openai/gpt-image-1-mini\") end
            end,
        }}"
    ))
    .await;
    rig.script("stability", &["safety"; 8]);
    let answer = rig.generate(&cats(8)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(pictures(&answer).len(), 8);
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("openai/gpt-image-1-mini")
    );
    assert_eq!(rig.billed(), rig.booked().await);
    // What the first ones met, the others need not meet.
    let decision = rig.decisions(1).await.remove(0);
    let refused = decision["attempts"].as_array().unwrap().len() - 1;
    assert!((1..8).contains(&refused), "{refused}");
}

#[tokio::test]
async fn an_untouched_call_is_never_split() {
    let rig = Rig::start().await;
    let body = json!({"model": "dall-e-3", "prompt": "a cat", "n": 3});
    rig.generate(&body).await;
    let seen = rig.sim().requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body_len, body.to_string().len());
}
