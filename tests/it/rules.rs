//! Rules at work through the sockets: moved, capped, refused, saved from failure.

use pixtoll::config::{Mode, PluginEntry};
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat, post, read_answer};

fn png_size(answer: &Answer) -> (u32, u32) {
    use base64::Engine as _;
    let text = answer.json()["data"][0]["b64_json"]
        .as_str()
        .unwrap()
        .to_owned();
    let picture = base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap();
    pixtoll::image::header::read(&picture).pixels.unwrap()
}

fn shipped(name: &str, with: Value) -> PluginEntry {
    PluginEntry {
        with: with.as_object().cloned().unwrap_or_default(),
        ..PluginEntry::named(name)
    }
}

#[tokio::test]
async fn icons_to_cheap_moves_icons_and_nothing_else() {
    let rig = Rig::with(|s| {
        s.plugins.push(shipped(
            "icons_to_cheap",
            json!({"to": "stability/sd3.5-medium"}),
        ))
    })
    .await;
    let mut icon = cat("a flat icon of a fox");
    icon["quality"] = json!("medium");
    let moved = rig.generate(&icon).await;
    assert_eq!(
        moved.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    assert_eq!(png_size(&moved), (1024, 1024));
    let stayed = rig.generate(&cat("an iconic lion")).await;
    assert_eq!(stayed.header("x-pixtoll-route"), Some("openai/gpt-image-2"));
    // At low quality the asked model is the cheaper one, and no rule raises a price by accident.
    let cheaper = rig.generate(&cat("an icon of a key")).await;
    assert_eq!(
        cheaper.header("x-pixtoll-route"),
        Some("openai/gpt-image-2")
    );
    let decisions = rig.decisions(3).await;
    assert!(
        decisions[2]["rules"][0]["skipped"]
            .as_str()
            .unwrap()
            .contains("max_share")
    );
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn cap_resolution_cuts_and_says_what_it_saved() {
    let rig = Rig::with(|s| {
        s.plugins
            .push(shipped("cap_resolution", json!({"max_side": 1024})))
    })
    .await;
    let large = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "2048x2048", "quality": "medium"});
    assert_eq!(png_size(&rig.generate(&large).await), (1024, 1024));
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["decided"]["size"], "1024x1024");
    assert!(decision["saved_by"]["resolution"].as_f64().unwrap() > 0.0);
    assert_eq!(decision["rules"][0]["set"]["size"], "1024x1024");
}

#[tokio::test]
async fn what_is_bought_small_is_handed_over_as_it_was_asked_for() {
    let rig = Rig::with_rule(
        "return {on_request = function(call)
            return call:change{max_side = 1024, fit = 'requested', reason = 'small, then enlarged'}
        end}",
    )
    .await;
    let large = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "2048x2048", "quality": "medium"});
    let first = rig.generate(&large).await;
    assert_eq!(png_size(&first), (2048, 2048));
    let again = rig.generate(&large).await;
    assert!(again.header("cache-status").unwrap().contains("hit"));
    assert_eq!(png_size(&again), (2048, 2048), "from memory too");
    let decisions = rig.decisions(2).await;
    for decision in &decisions {
        let answered = &decision["answered"];
        assert_eq!(answered["fitted"], true, "{answered}");
        assert_eq!(answered["sizes"], json!(["2048x2048"]));
    }
    assert_eq!(decisions[0]["attempts"][0]["sizes"], json!(["1024x1024"]));
    assert!(decisions[0]["rules"][0]["applied"] == true);
    assert_eq!(rig.billed(), rig.booked().await, "1024 was bought, once");
    let small = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "1024x1024", "quality": "medium"});
    assert_eq!(png_size(&rig.generate(&small).await), (1024, 1024));
    assert_eq!(rig.decisions(3).await[2]["answered"]["fitted"], false);
}

#[tokio::test]
async fn a_format_that_the_target_has_not_is_made_here() {
    let rig = Rig::with_rule(
        "return {on_request = function(call) return call:route('stability/sd3.5-medium') end}",
    )
    .await;
    let mut wants_webp = cat("a fox");
    wants_webp["output_format"] = json!("webp");
    wants_webp["quality"] = json!("medium");
    let answer = rig.generate(&wants_webp).await;
    let decision = &rig.decisions(1).await[0];
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium"),
        "{decision}"
    );
    assert_eq!(decision["answered"]["format"], "webp", "{decision}");
    assert_eq!(decision["answered"]["fitted"], true);
}

#[tokio::test]
async fn a_chain_leaves_an_overloaded_provider() {
    let rig = Rig::with(|s| {
        s.plugins.push(shipped(
            "retry_chain",
            json!({"chain": ["stability/sd3.5-medium"]}),
        ))
    })
    .await;
    rig.script("openai", &["overloaded", "overloaded", "overloaded"]);
    let answer = rig.generate(&cat("a bowl")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    let decision = &rig.decisions(1).await[0];
    assert_eq!(
        decision["attempts"].as_array().unwrap().last().unwrap()["by"]["plugin"],
        "retry_chain"
    );
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn what_may_have_been_billed_is_not_bought_again_unless_a_rule_says_so() {
    let rule = |words: &str| {
        format!(
            "return {{ on_failure = function(call, failure) return call:route(\"stability/sd3.5-medium\", {{ {words} }}) end }}"
        )
    };
    let careful = Rig::with_rule(&rule("")).await;
    careful.script("openai", &["drop"]);
    let answer = careful.generate(&cat("a kite")).await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(careful.sim().bills().len(), 1);
    let decision = &careful.decisions(1).await[0];
    assert_eq!(decision["attempts"][0]["outcome"], "unknown");
    assert!(
        careful.booked().await >= careful.billed(),
        "unknown is booked at what it cost at most"
    );

    let bold = Rig::with_rule(&rule("may_pay_twice = true")).await;
    bold.script("openai", &["drop"]);
    assert_eq!(bold.generate(&cat("a kite")).await.status(), 200);
    assert_eq!(bold.sim().bills().len(), 2);
}

#[tokio::test]
async fn a_refusal_is_the_dialects_own_error() {
    let rig = Rig::with_rule(
        "return { on_request = function(call) return call:refuse(\"no dragons\", { reason = \"house rule\" }) end }",
    )
    .await;
    let answer = rig.generate(&cat("a dragon")).await;
    assert_eq!(answer.status(), 403);
    assert!(
        answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("no dragons")
    );
    assert_eq!(rig.sim().requests().len(), 0);
    assert_eq!(rig.decisions(1).await[0]["error"]["by"], "plugin");
}

#[tokio::test]
async fn a_rule_that_fails_is_named_and_harms_nobody() {
    let rig = Rig::with_rule("return { on_request = function(call) while true do end end }").await;
    let answer = rig.generate(&cat("a cat")).await;
    assert_eq!(answer.status(), 200);
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["rules"][0]["did"], "error");
    assert!(
        decision["rules"][0]["at"]
            .as_str()
            .unwrap()
            .contains(".lua")
    );
}

#[tokio::test]
async fn observe_mode_decides_and_changes_nothing() {
    let rig = Rig::with(|settings| {
        settings.mode = Mode::Observe;
        settings
            .plugins
            .push(shipped("cap_resolution", json!({"max_side": 1024})));
    })
    .await;
    let large = json!({"model": "gpt-image-2", "prompt": "a desk", "size": "2048x2048", "quality": "medium"});
    for _ in 0..2 {
        assert_eq!(png_size(&rig.generate(&large).await), (2048, 2048));
    }
    assert_eq!(rig.sim().bills().len(), 2, "no hit either");
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[0]["decided"]["size"], "1024x1024");
    assert_eq!(decisions[0]["would"]["cache"], "miss");
    assert_eq!(decisions[1]["would"]["cache"], "hit");
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_stability_caller_is_served_by_openai_in_its_own_words() {
    let rig = Rig::with_rule(
        "return { on_request = function(call) return call:route(\"openai/gpt-image-2\", { quality = \"low\" }) end }",
    )
    .await;
    let form = "--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na red boat\r\n--XX\r\nContent-Disposition: form-data; name=\"aspect_ratio\"\r\n\r\n3:2\r\n--XX--\r\n";
    let bytes = rig
        .call(
            "api.stability.ai",
            "/v2beta/stable-image/generate/core",
            &[("accept", "image/*")],
            "multipart/form-data; boundary=XX",
            form,
        )
        .await;
    assert_eq!(bytes.status(), 200, "{}", bytes.text());
    assert_eq!(bytes.header("content-type"), Some("image/png"));
    assert_eq!(bytes.header("finish-reason"), Some("SUCCESS"));
    let (width, height) = pixtoll::image::header::read(&bytes.body).pixels.unwrap();
    assert!(width > height, "{width}x{height}");
    let json = rig
        .call(
            "api.stability.ai",
            "/v2beta/stable-image/generate/core",
            &[("accept", "application/json")],
            "multipart/form-data; boundary=XX",
            form,
        )
        .await;
    assert_eq!(json.json()["finish_reason"], "SUCCESS");
    assert_eq!(
        rig.sim().bills().len(),
        1,
        "the same picture, in another wrapping"
    );
}

#[tokio::test]
async fn a_caller_that_wants_urls_gets_one_that_works() {
    let rig = Rig::with_rule(
        "return { on_request = function(call) return call:route(\"stability/sd3.5-medium\", {}) end }",
    )
    .await;
    let asked = json!({"model": "dall-e-3", "prompt": "a fox", "size": "1024x1024", "response_format": "url"});
    let answer = rig.generate(&asked).await;
    let url = answer.json()["data"][0]["url"]
        .as_str()
        .unwrap_or_else(|| panic!("{}", answer.text()))
        .to_owned();
    let path = url
        .split_once("://")
        .unwrap()
        .1
        .split_once('/')
        .unwrap()
        .1
        .to_owned();
    let mut tcp = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {}\r\n\r\n", rig.address());
    tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes())
        .await
        .unwrap();
    let picture = read_answer(&mut tcp).await;
    assert_eq!(
        pixtoll::image::header::read(&picture.body).pixels,
        Some((1024, 1024))
    );
    let guess = post(
        &rig.address().to_string(),
        "/_pixtoll/pictures/0000",
        &[],
        "text/plain",
        "",
    );
    assert!(rig.raw(&guess).await.starts_with("HTTP/1.1 404"));
}

/// Off loopback nobody knows by which name we are reached, unless it is configured.
#[tokio::test]
async fn no_picture_is_bought_that_could_not_be_handed_over() {
    let lua = "return { on_request = function(call) return call:route('openai/gpt-image-2') end }";
    let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    std::fs::write(file.path(), lua).unwrap();
    let plugin = file.path().to_str().unwrap();
    let body = json!({"input": {"prompt": "a fox"}}).to_string();
    for (public, provider) in [
        (None, "replicate"),
        (Some("http://pixtoll.lan:8484"), "openai"),
    ] {
        let rig = Rig::with(|settings| {
            settings.listen = vec![([0, 0, 0, 0], 0).into()];
            settings.open = true;
            settings.public_url = public.map(|url| pixtoll::config::Upstream {
                tls: false,
                host: url["http://".len()..url.len() - ":8484".len()].to_owned(),
                port: 8484,
            });
            settings.plugins.push(PluginEntry::named(plugin));
        })
        .await;
        let path = "/v1/models/black-forest-labs/flux-schnell/predictions";
        let headers = [("prefer", "wait")];
        let kind = "application/json";
        let answer = rig
            .call("api.replicate.com", path, &headers, kind, &body)
            .await;
        assert!(answer.status() < 300, "{}", answer.text());
        let url = answer.json()["output"][0].as_str().unwrap().to_owned();
        let bills = rig.sim().bills();
        assert_eq!((bills.len(), bills[0].provider), (1, provider), "{bills:?}");
        let decision = rig.decisions(1).await.remove(0).to_string();
        match public {
            None => assert!(decision.contains("set public_url"), "{decision}"),
            Some(public) => assert!(url.starts_with(public), "{url}"),
        }
    }
}

#[tokio::test]
async fn an_app_written_for_a_retired_model_works_again() {
    let asked = json!({"model": "dall-e-3", "prompt": "a fox", "size": "1792x1024", "style": "vivid",
        "response_format": "b64_json"});
    let without = Rig::start().await;
    let gone = without.generate(&asked).await;
    assert_eq!(gone.status(), 404);
    let error = &without.decisions(1).await[0]["error"];
    assert_eq!(error["kind"], "retired");
    assert!(
        error["remedy"]
            .as_str()
            .unwrap()
            .contains("--plugin retired_models"),
        "{error}"
    );

    let rig = Rig::with(|s| s.plugins.push(shipped("retired_models", Value::Null))).await;
    let answer = rig.generate(&asked).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-pixtoll-route"), Some("openai/gpt-image-2"));
    assert_eq!(png_size(&answer), (1792, 1024));
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["asked"]["retired"], true);
    assert_eq!(decision["attempts"].as_array().unwrap().len(), 1, "no 404");
    assert_eq!(decision["lost"][0]["field"], "style");
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_rule_sends_a_call_to_the_cheapest_that_keeps_what_it_must() {
    let rig = Rig::with_rule(
        "return {on_request = function(call)
            local model, quote = pixtoll.cheapest(call.request, {
                among = {'openai/gpt-image-2', 'stability/sd3.5-medium', 'openai/dall-e-2'},
                max_cost = usd(0.04), keep = {'seed'}})
            if model then return call:route(model, {reason = tostring(quote.high)}) end
        end}",
    )
    .await;
    let mut request = cat("a fox");
    request["quality"] = json!("medium");
    let answer = rig.generate(&request).await;
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["rules"][0]["why"], "$0.035", "{decision}");
}
