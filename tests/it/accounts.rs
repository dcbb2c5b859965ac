//! How one stands with a provider, from the configuration to every quote and charge.

use std::path::Path;

use pixtoll::config::{Ledger, Settings, Source};
use serde_json::{Value, json};

use crate::harness::Rig;

const PRICES: &str = "models:
- model: stability/sd3.5-medium
  capability: {operations: [generate], sizes: {aspects: {\"1:1\": 1024x1024}}, usual: 1024x1024, formats: [png], deliveries: [bytes, base64]}
  price: {per_image: 0.10, regions: {europe: 1.1}, licences: {extended: +50%}, volume: {0: 1, 2: 0.5}}
  source: our contract
  as_of: 2026-11-22
- model: stability/sd3.5-flash
  capability: {operations: [generate], sizes: {aspects: {\"1:1\": 1024x1024}}, usual: 1024x1024, formats: [png], deliveries: [bytes, base64]}
  price: {per_image: 0.10, free_images: 4}
  source: our contract
  as_of: 2026-11-22
";

/// The configuration `stability` says of that provider, with the prices of our contract.
fn configure(settings: &mut Settings, dir: &Path, stability: &str) {
    let prices = dir.join("prices.yaml");
    std::fs::write(&prices, PRICES).unwrap();
    let text = format!("providers: {{stability: {stability}}}\n");
    let source = Source::Text {
        name: "pixtoll.yaml".to_owned(),
        text,
        folder: dir.to_owned(),
    };
    let loaded = Settings::load(&source, &[], &|name| {
        (name == "HOME").then(|| dir.display().to_string())
    })
    .unwrap();
    settings.providers = loaded.settings.providers;
    settings.prices = vec![prices];
}

/// Buys a picture, and tells what was asked for it and what it cost.
async fn buy(rig: &Rig, model: &str, prompt: &str, count: usize) -> (Value, Value, Value) {
    let field = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let body = format!(
        "{}{}--b--\r\n",
        field("model", model),
        field("prompt", prompt)
    );
    let route = "/v2beta/stable-image/generate/sd3";
    let form = "multipart/form-data; boundary=b";
    let answer = rig.call("api.stability.ai", route, &[], form, &body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let decision = rig.decisions(count).await.pop().unwrap();
    let attempt = &decision["attempts"][0];
    (
        decision["asked"]["quote"].clone(),
        decision["asked"]["quote_high"].clone(),
        attempt["charge"].clone(),
    )
}

#[tokio::test]
async fn region_licence_and_volume_reach_quote_and_charge() {
    let dir = tempfile::TempDir::new().unwrap();
    let ledger = dir.path().join("ledger.db");
    let contract = "{region: europe, licence: extended, volume: ledger}";
    let rig = Rig::with(|settings| {
        configure(settings, dir.path(), contract);
        settings.ledger = Ledger::Sqlite(ledger.clone());
    })
    .await;
    let (full, half) = (json!(0.165), json!(0.0825));
    let medium = "sd3.5-medium";
    for (count, prompt) in ["a boat", "a whale"].iter().enumerate() {
        let bought = buy(&rig, medium, prompt, count + 1).await;
        assert_eq!(bought, (full.clone(), full.clone(), full.clone()));
    }
    // From memory it costs nothing, and counts as nothing.
    buy(&rig, medium, "a whale", 3).await;
    let bought = buy(&rig, medium, "a fox", 4).await;
    assert_eq!(bought, (half.clone(), half.clone(), half.clone()));
    // Three are bought: the fourth is the last that another model gives away.
    let flash = "sd3.5-flash";
    let free = json!(0.0);
    let bought = buy(&rig, flash, "a hen", 5).await;
    assert_eq!(bought.2.as_f64(), free.as_f64());
    assert_eq!(bought.0.as_f64(), free.as_f64());
    let bought = buy(&rig, flash, "a cow", 6).await;
    assert_eq!(bought, (json!(0.1), json!(0.1), json!(0.1)));
    // Whoever opens the same ledger knows what was bought in the month.
    let second = Rig::with(|settings| {
        configure(settings, dir.path(), contract);
        settings.ledger = Ledger::Sqlite(ledger);
    })
    .await;
    let bought = buy(&second, medium, "a goat", 1).await;
    assert_eq!(bought, (half.clone(), half.clone(), half));
}

#[tokio::test]
async fn what_others_buy_counts_too_and_what_nobody_counts_is_a_range() {
    let dir = tempfile::TempDir::new().unwrap();
    let rig = Rig::with(|settings| configure(settings, dir.path(), "{volume: 2}")).await;
    let bought = buy(&rig, "sd3.5-medium", "a boat", 1).await;
    assert_eq!(bought, (json!(0.05), json!(0.05), json!(0.05)));
    let rig = Rig::with(|settings| configure(settings, dir.path(), "{}")).await;
    let bought = buy(&rig, "sd3.5-medium", "a boat", 1).await;
    assert_eq!(bought, (json!(0.1), json!(0.1), json!(0.1)));
    let quote = {
        let book = &rig.app.pipeline.book;
        let id = pixtoll::image::ModelId::new("stability", "sd3.5-medium");
        let request = pixtoll::image::ImageRequest::new(id, "a boat");
        book.quote(&request).unwrap()
    };
    assert_eq!(quote.low.to_string(), "0.05");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_price_command_looks_up_what_was_bought() {
    let dir = tempfile::TempDir::new().unwrap();
    let rig = Rig::with(|settings| {
        configure(settings, dir.path(), "{volume: ledger}");
        settings.ledger = Ledger::Sqlite(dir.path().join("ledger.db"));
    })
    .await;
    for (prompt, count) in [("a boat", 1), ("a goat", 2)] {
        buy(&rig, "sd3.5-medium", prompt, count).await;
    }
    rig.app.pipeline.ledger.flush().await.unwrap();
    let config = |ledger: &str, stability: &str| {
        format!(
            "prices: [prices.yaml]\nledger: sqlite:{ledger}\nproviders: {{stability: {stability}}}\n"
        )
    };
    let price = |config: &str| {
        let (code, told) = command(dir.path(), config, &["price", "sd3.5-medium", "--json"]);
        assert_eq!(code, Some(0), "{told}");
        serde_json::from_str::<Value>(&told).unwrap()["data"].clone()
    };
    let counted = price(&config("ledger.db", "{volume: ledger}"));
    assert_eq!(counted["bought_before"], 2, "{counted:#}");
    assert_eq!(counted["quote"]["expected"], json!(0.05));
    assert_eq!(counted["quote"]["low"], counted["quote"]["high"]);
    let nothing_yet = price(&config("none.db", "{volume: ledger}"));
    assert_eq!(nothing_yet["bought_before"], 0);
    assert_eq!(nothing_yet["quote"]["expected"], json!(0.1));
    assert!(!dir.path().join("none.db").exists(), "it is only looked at");
    let uncounted = price(&config("ledger.db", "{}"));
    assert_eq!(uncounted["bought_before"], Value::Null);
    assert_eq!(uncounted["quote"]["low"], json!(0.05));
    assert_eq!(uncounted["quote"]["high"], json!(0.1));
    let remarks = uncounted["remarks"].to_string();
    assert!(
        remarks.contains("providers.stability.volume: ledger"),
        "{remarks}"
    );
    std::fs::write(dir.path().join("odd.db"), "no database").unwrap();
    let odd = price(&config("odd.db", "{volume: ledger}"));
    assert_eq!(odd["quote"]["low"], json!(0.05));
    assert_eq!(odd["quote"]["high"], json!(0.1));
    assert!(
        odd["remarks"].to_string().contains("is not known"),
        "{odd:#}"
    );
}

#[test]
fn the_list_of_prices_is_that_of_whoever_asks() {
    let dir = tempfile::TempDir::new().unwrap();
    let shown = |stability: &str| {
        let config = format!("prices: [prices.yaml]\nproviders: {{stability: {stability}}}\n");
        let arguments = ["prices", "show", "stability/sd3.5-medium", "--json"];
        let (code, told) = command(dir.path(), &config, &arguments);
        assert_eq!(code, Some(0), "{told}");
        let told: Value = serde_json::from_str(&told).unwrap();
        told["data"]["prices"][0]["quote"]["high"].clone()
    };
    assert_eq!(shown("{}"), json!(0.1));
    assert_eq!(shown("{region: europe}"), json!(0.11));
}

/// What `pixtoll check` says of a configuration, and its exit code.
fn check(dir: &Path, config: &str) -> (Option<i32>, String) {
    command(dir, config, &["check"])
}

/// What `pixtoll` prints with a configuration, and its exit code.
fn command(dir: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    std::fs::write(dir.join("prices.yaml"), PRICES).unwrap();
    let file = dir.join("pixtoll.yaml");
    std::fs::write(&file, config).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .args(arguments)
        .arg("--config")
        .arg(&file)
        .current_dir(dir)
        .env("XDG_STATE_HOME", dir.join("state"))
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), out + &err)
}

#[test]
fn what_no_price_knows_is_told_with_its_line() {
    let dir = tempfile::TempDir::new().unwrap();
    let told = |says: &str, expected: i32, words: &[&str]| {
        let config = format!("prices: [prices.yaml]\nproviders:\n{says}");
        let (code, text) = check(dir.path(), &config);
        assert_eq!(code, Some(expected), "{text}");
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    };
    told(
        "  stability: {region: europe, licence: extended, volume: ledger}\n",
        0,
        &[],
    );
    told("  ideogram: {ask_quote: true}\n", 0, &[]);
    told(
        "  stability:\n    region: moon\n",
        2,
        &[
            "pixtoll.yaml:4:13",
            "the region `moon`",
            "use one of europe",
        ],
    );
    told(
        "  stability:\n    licence: free\n",
        2,
        &[
            "pixtoll.yaml:4:14",
            "the licence `free`",
            "use one of extended",
        ],
    );
    told(
        "  openai: {region: eu}\n",
        2,
        &["the region `eu`", "`regions` in a `price`"],
    );
    told(
        "  openai: {volume: ledger}\n",
        2,
        &["no price of `openai` depends on how much was bought"],
    );
    told(
        "  stability: {volume: much}\n",
        2,
        &["`ledger`", "number of pictures"],
    );
    told(
        "  stability: {ask_quote: true}\n",
        2,
        &["gives no quote for nothing", "ideogram"],
    );
}
