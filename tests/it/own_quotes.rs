//! The provider's own quote: asked before anything is held, and only then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pixtoll::config::{Mode, PluginEntry, Settings, Upstream};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{Answer, Rig, cat, read_head};
use crate::price_reload::prices_of;

const HOST: &str = "api.ideogram.ai";

fn asking(settings: &mut Settings) {
    let mut ideogram = settings.providers.get("ideogram").unwrap().clone();
    ideogram.ask_quote = true;
    settings.providers.put(ideogram);
}

async fn draw(rig: &Rig, model: &str, body: &Value) -> Answer {
    let path = format!("/v2/image/generate/{model}");
    let key = [("api-key", "sk-canary")];
    let body = body.to_string();
    rig.call(HOST, &path, &key, "application/json", &body).await
}

/// How often the provider was asked for a price, and how often for pictures.
fn asked(rig: &Rig) -> (usize, usize) {
    let requests = rig.sim().requests();
    let dry = requests
        .iter()
        .filter(|seen| seen.target.contains("dry_run=true"));
    let dry = dry.count();
    (dry, requests.len() - dry)
}

#[track_caller]
fn notes(decision: &Value, words: &str) {
    let notes = decision["notes"].to_string();
    assert!(notes.contains(words), "no `{words}` in {notes}");
}

#[tokio::test]
async fn a_price_that_the_book_does_not_know_is_the_providers_own() {
    let rig = Rig::with(asking).await;
    let answer = draw(
        &rig,
        "ideogram-4-6",
        &json!({"prompt": "a boat", "num_images": 2}),
    )
    .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let decision = &rig.decisions(1).await[0];
    let attempt = &decision["attempts"][0];
    assert!(decision["asked"]["quote"].is_null(), "{decision:#}");
    assert_eq!(attempt["quote"], json!(0.14));
    assert_eq!(attempt["quote_high"], json!(0.14));
    assert_eq!(attempt["charge"], json!(0.14));
    assert_eq!(attempt["charge_from"], "reported");
    notes(
        decision,
        "ideogram itself quotes $0.14, where the price book knows nothing",
    );
    assert_eq!(rig.billed(), 140_000_000);
    assert_eq!(rig.billed(), rig.booked().await);
    let rows = rig.app.pipeline.ledger.all_rows().await.unwrap();
    assert_eq!(rows[0].hold.held.map(|held| held.nano()), Some(140_000_000));
    // A failure that may have been drawn is booked at that price too.
    let lost = json!({"prompt": "a boat [[sim: drop]]"});
    draw(&rig, "ideogram-4-6", &lost).await;
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn equal_questions_are_put_once_and_hits_ask_nothing() {
    let rig = Rig::with(asking).await;
    let boat = json!({"prompt": "a boat", "quality": "low"});
    draw(&rig, "ideogram-4-5", &boat).await;
    assert_eq!(asked(&rig), (1, 1));
    let again = draw(&rig, "ideogram-4-5", &boat).await;
    assert!(again.header("cache-status").unwrap().contains("hit"));
    assert_eq!(asked(&rig), (1, 1));
    // The price does not depend on the prompt, and it is not told for it.
    draw(
        &rig,
        "ideogram-4-5",
        &json!({"prompt": "a whale", "quality": "low"}),
    )
    .await;
    assert_eq!(asked(&rig), (1, 2));
    draw(
        &rig,
        "ideogram-4-5",
        &json!({"prompt": "a boat", "quality": "high"}),
    )
    .await;
    assert_eq!(asked(&rig), (2, 3));
    let decisions = rig.decisions(4).await;
    notes(
        &decisions[0],
        "ideogram itself quotes $0.03, as the price book does",
    );
    assert_eq!(decisions[1]["notes"], json!([]));
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn whoever_joins_a_purchase_asks_nothing() {
    let rig = Rig::with(asking).await;
    rig.script("ideogram", &["hold"]);
    let boat = json!({"prompt": "a boat"});
    let (one, two, ()) = tokio::join!(
        draw(&rig, "ideogram-4-5", &boat),
        draw(&rig, "ideogram-4-5", &boat),
        async {
            rig.sim().wait_for_requests(2).await;
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            rig.sim().release();
        }
    );
    assert_eq!((one.status(), two.status()), (200, 200));
    assert_eq!(asked(&rig), (1, 1));
}

#[tokio::test]
async fn nobody_is_asked_where_the_configuration_does_not_say_so() {
    let rig = Rig::start().await;
    draw(&rig, "ideogram-4-5", &json!({"prompt": "a boat"})).await;
    assert_eq!(asked(&rig), (0, 1));
    assert_eq!(
        rig.decisions(1).await[0]["attempts"][0]["charge_from"],
        "list"
    );
}

#[tokio::test]
async fn a_provider_is_asked_where_rules_are_only_observed() {
    let rig = Rig::with(|settings| {
        asking(settings);
        settings.mode = Mode::Observe;
    })
    .await;
    draw(&rig, "ideogram-4-6", &json!({"prompt": "a boat"})).await;
    assert_eq!(asked(&rig), (1, 1));
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["attempts"][0]["charge"], json!(0.07));
}

#[tokio::test]
async fn what_is_not_quoted_is_held_at_the_books_price() {
    let rig = Rig::with(asking).await;
    let field = |name: &str, more: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{value}\r\n")
    };
    let file = "; filename=\"in.png\"\r\nContent-Type: image/png";
    let body = field("prompt", "", "a sail") + &field("image", file, "no picture at all");
    let answer = rig
        .call(
            HOST,
            "/v2/image/precise-edit/ideogram-4-5",
            &[("api-key", "sk-canary")],
            "multipart/form-data; boundary=b",
            &format!("{body}--b--\r\n"),
        )
        .await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(asked(&rig), (0, 1));
    let decision = &rig.decisions(1).await[0];
    notes(decision, "it quotes no such request");
    assert_eq!(decision["attempts"][0]["charge_from"], "list");
    assert_eq!(rig.billed(), rig.booked().await);
}

/// A provider that draws, and says nothing to whoever asks for a price.
async fn silent() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let questions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&questions);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let head = read_head(&mut tcp).await;
            if head.contains("dry_run=true") {
                count.fetch_add(1, Ordering::Relaxed);
                kept.push(tcp);
                continue;
            }
            let body = json!({"created": "2026-11-22T10:00:00Z", "data": [{
                "url": "https://ideogram.ai/x.png", "prompt": "a boat", "resolution": "1024x1024",
                "is_image_safe": true, "seed": 1}]})
            .to_string();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            tcp.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, questions)
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_not_waited_for_and_not_asked_again_at_once() {
    let (address, questions) = silent().await;
    let rig = Rig::plain(|settings| {
        asking(settings);
        let mut ideogram = settings.providers.get("ideogram").unwrap().clone();
        ideogram.upstream = Some(Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(ideogram);
    })
    .await;
    for prompt in ["a boat", "a whale"] {
        let answer = draw(&rig, "ideogram-4-5", &json!({"prompt": prompt})).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
    }
    for decision in &rig.decisions(2).await {
        notes(decision, "said nothing for 2 s");
        notes(decision, "the price book's counts");
        assert_eq!(decision["attempts"][0]["quote"], json!(0.06));
        assert_eq!(decision["attempts"][0]["charge"], json!(0.06));
    }
    assert_eq!(questions.load(Ordering::Relaxed), 1);
}

/// What somebody believes that a picture costs, and its provider does not.
const TOO_CHEAP: &str = "
models:
- model: ideogram/ideogram-4-5
  capability: {operations: [generate], sizes: {aspects: {\"1:1\": 1024x1024}}, usual: 1024x1024, qualities: [low, medium, high], formats: [png], max_n: 8, deliveries: [url]}
  auto: {quality: medium}
  price: {per_image: {low: 0.01, medium: 0.02, high: 0.03}}
  source: hearsay
  as_of: 2026-11-22
";

/// A rig that believes it, asks all the same, and runs `rule`.
async fn mistaken(rule: Option<&str>) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Rig::with(|settings| {
        asking(settings);
        settings.prices.push(file("prices.yaml", TOO_CHEAP));
        if let Some(rule) = rule {
            let path = file("rule.lua", rule);
            let entry = PluginEntry::named(path.to_str().unwrap());
            settings.plugins.push(entry);
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_book_that_its_provider_contradicts_drifts() {
    let rig = mistaken(None).await;
    draw(&rig, "ideogram-4-5", &json!({"prompt": "a boat"})).await;
    let decision = &rig.decisions(1).await[0];
    let attempt = &decision["attempts"][0];
    assert_eq!(attempt["quote"], json!(0.06), "{attempt:#}");
    assert_eq!(attempt["quote_from"], "provider");
    assert_eq!(attempt["book_quote"], json!(0.02));
    assert_eq!(attempt["charge"], json!(0.06));
    notes(
        decision,
        "the price book lies $0.04 beside it: 1 image $0.02 where the provider says 1",
    );
    let (code, text) = prices_of(&rig, &["drift", "--json"]);
    assert_eq!(code, Some(3), "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let model = &told["data"]["models"][0];
    assert_eq!(model["model"], "ideogram/ideogram-4-5");
    assert_eq!(
        (&model["quoted"], &model["charged"]),
        (&json!(0.02), &json!(0.06))
    );
    assert_eq!(model["drifts"], true);
    assert_eq!(told["data"]["biggest"][0]["quote_from"], "provider");
}

#[tokio::test]
async fn a_routes_cap_holds_for_the_providers_own_quote_too() {
    for cap in ["max_cost = usd '0.05'", "max_share = 0.5"] {
        let rule = format!(
            "return {{ on_request = function(call) return call:route('ideogram/ideogram-4-5', {{{cap}}}) end }}"
        );
        let rig = mistaken(Some(&rule)).await;
        let mut fox = cat("a fox");
        fox["quality"] = json!("medium");
        assert_eq!(rig.generate(&fox).await.status(), 200);
        let decision = &rig.decisions(1).await[0];
        assert_eq!(asked(&rig), (1, 1), "{cap}");
        let attempts = decision["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{decision:#}");
        assert_eq!(attempts[0]["model"], "openai/gpt-image-2");
        notes(
            decision,
            "the rule's route was not taken: ideogram/ideogram-4-5: by its provider's own quote $0.06 is more than max_",
        );
        assert_eq!(rig.billed(), rig.booked().await);
    }
}

#[tokio::test]
async fn what_an_app_will_pay_holds_for_the_providers_own_quote_too() {
    let rig = mistaken(None).await;
    let boat = json!({"prompt": "a boat"}).to_string();
    let path = "/v2/image/generate/ideogram-4-5";
    let mut headers = [("api-key", "sk-canary"), ("x-pixtoll-max-cost", "0.05")];
    let refused = rig
        .call(HOST, path, &headers, "application/json", &boat)
        .await;
    assert_eq!(refused.status(), 402, "{}", refused.text());
    assert_eq!((asked(&rig), rig.billed()), ((1, 0), 0));
    headers[1].1 = "0.06";
    let bought = rig
        .call(HOST, path, &headers, "application/json", &boat)
        .await;
    assert_eq!(bought.status(), 200, "{}", bought.text());
    assert_eq!(rig.billed(), rig.booked().await);
}
