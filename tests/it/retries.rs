//! An app's own retry: recognised by its SDK's count or by its idempotency key, and answered by the
//! call that it repeats, whatever the rules would make of it by now.

use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

const KEY: &str = "idempotency-key";
const COUNT: &str = "x-stainless-retry-count";

/// Who asks again wants another picture, unless it is a retry.
const FRESH: &str = "return { on_request = function(call) return call:cache { mode = 'off' } end }";

async fn ask(rig: &Rig, headers: &[(&str, &str)], prompt: &str) -> Answer {
    let (host, path) = ("api.openai.com", "/v1/images/generations");
    let body = cat(prompt).to_string();
    rig.call(host, path, headers, "application/json", &body)
        .await
}

fn charges(decision: &Value) -> usize {
    decision["attempts"].as_array().unwrap().len()
}

#[tokio::test]
async fn calls_with_one_idempotency_key_are_one_call_while_it_runs_and_afterwards() {
    let rig = Rig::with_rule(FRESH).await;
    rig.script("openai", &["hold"]);
    let again = async {
        rig.sim().wait_for_requests(1).await;
        let release = async { rig.sim().release() };
        tokio::join!(ask(&rig, &[(KEY, "order-7")], "a cat"), release).0
    };
    let (first, running) = tokio::join!(ask(&rig, &[(KEY, "order-7")], "a cat"), again);
    let afterwards = ask(&rig, &[(KEY, "order-7")], "a cat").await;
    assert_eq!(first.status(), 200, "{}", first.text());
    assert_eq!(
        (&running.body, &afterwards.body),
        (&first.body, &first.body)
    );
    assert_eq!(rig.sim().bills().len(), 1);
    let decisions = rig.decisions(3).await;
    let bought = decisions.iter().find(|one| charges(one) == 1).unwrap();
    let mut others = decisions.iter().filter(|one| charges(one) == 0);
    assert!(others.clone().count() == 2);
    assert!(
        others.all(|one| one["retry_of"] == bought["id"] && one["cache"]["of"] == bought["id"])
    );
    assert_eq!(bought["retry_of"], Value::Null);

    let other = ask(&rig, &[(KEY, "order-8")], "a cat").await;
    assert_ne!(other.body, first.body, "another key is another call");
    assert_eq!(rig.sim().bills().len(), 2);
    let passed = |(name, _): &(String, String)| name == KEY;
    for request in rig.sim().requests() {
        assert!(request.headers.iter().any(passed), "the key goes on");
    }
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn an_idempotency_key_of_another_request_or_sender_is_said_and_joins_nothing() {
    let rig = Rig::start().await;
    ask(&rig, &[(KEY, "one")], "a cat").await;
    let dog = ask(&rig, &[(KEY, "one")], "a dog").await;
    assert_eq!(dog.status(), 200);
    let decision = rig.decisions(2).await.remove(1);
    let note = decision["notes"][0].as_str().unwrap_or_default();
    assert!(
        note.contains("it was that of another request before"),
        "{decision}"
    );
    assert_eq!(decision["retry_of"], Value::Null);
    assert_eq!(charges(&decision), 1);
}

#[tokio::test]
async fn a_retry_gets_what_its_call_got_though_the_rules_would_do_otherwise_now() {
    // The first call of all goes to one model, and every later one to another.
    let rule = "return { on_request = function(call)
        local seen = pixtoll.counter('seen', { window = '1h' })
        local to = seen:value() == 0 and 'stability/sd3.5-medium' or 'openai/gpt-image-2'
        seen:add(1)
        return call:route(to), call:cache { ttl = 0 }
    end }";
    let rig = Rig::with_rule(rule).await;
    let first = ask(&rig, &[(COUNT, "0")], "a cat").await;
    let retry = ask(&rig, &[(COUNT, "1")], "a cat").await;
    assert_eq!(first.body, retry.body);
    assert_eq!(
        retry.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[1]["retry_of"], decisions[0]["id"]);
    assert_eq!(decisions[1]["sdk_retry"], 1);
    assert_eq!(decisions[1]["cache"]["status"], "hit");
    assert_eq!(decisions[1]["rules"], json!([]));
    ask(&rig, &[(COUNT, "0")], "a cat").await;
    assert_eq!(rig.sim().bills().len(), 2, "who calls anew buys anew");
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_retry_of_what_cost_nothing_is_sent_and_told_as_one_of_the_first() {
    let rig = Rig::start().await;
    rig.script("openai", &["overloaded"; 2]);
    for (count, status) in [("0", 503), ("1", 503), ("2", 200)] {
        assert_eq!(ask(&rig, &[(COUNT, count)], "a cat").await.status(), status);
    }
    let decisions = rig.decisions(3).await;
    let of: Vec<&Value> = decisions.iter().map(|one| &one["retry_of"]).collect();
    assert_eq!(of, [&Value::Null, &decisions[0]["id"], &decisions[0]["id"]]);
    assert_eq!(rig.sim().requests().len(), 3);
    assert_eq!(rig.sim().bills().len(), 1);
}

#[tokio::test]
async fn a_retry_that_would_pay_again_gets_the_failure_that_its_call_got() {
    for (lost, header) in [("drop", (COUNT, "1")), ("server billed=yes", (KEY, "one"))] {
        let rig = Rig::start().await;
        rig.script("openai", &[lost]);
        let first = [(COUNT, "0"), (KEY, "one")];
        let first = ask(&rig, &first[..if header.0 == KEY { 2 } else { 1 }], "a cat").await;
        assert!(first.status() >= 500, "{lost}");
        assert_eq!(first.header("x-should-retry"), Some("false"), "{lost}");
        // An SDK that does not know that header tries again.
        let retry = ask(&rig, &[header], "a cat").await;
        assert_eq!(retry.status(), first.status(), "{}", retry.text());
        assert_eq!(retry.header("x-should-retry"), Some("false"), "{lost}");
        assert_eq!(rig.sim().requests().len(), 1, "{lost}");
        let decisions = rig.decisions(2).await;
        assert_eq!(decisions[1]["retry_of"], decisions[0]["id"]);
        assert_eq!(decisions[1]["cost"], 0);
        let note = decisions[1]["notes"][0].as_str().unwrap_or_default();
        assert!(note.contains("may have been paid for"), "{note}");
        // Whoever asks anew knows what it does.
        assert_eq!(ask(&rig, &[], "a cat").await.status(), 200, "{lost}");
    }
}

#[tokio::test]
async fn a_retry_gets_the_variant_that_its_call_got() {
    let rig = Rig::with(|settings| settings.cache.variants = 3).await;
    let first = ask(&rig, &[(COUNT, "0")], "a cat").await;
    let retry = ask(&rig, &[(COUNT, "1")], "a cat").await;
    assert_eq!(first.body, retry.body);
    assert_eq!(rig.sim().bills().len(), 1);
}

#[tokio::test]
async fn in_observe_mode_a_retry_is_told_and_sent_all_the_same() {
    let rig = Rig::with(|settings| settings.mode = pixtoll::config::Mode::Observe).await;
    ask(&rig, &[(COUNT, "0")], "a cat").await;
    ask(&rig, &[(COUNT, "1")], "a cat").await;
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[1]["retry_of"], decisions[0]["id"]);
    assert_eq!(rig.sim().bills().len(), 2);
}
