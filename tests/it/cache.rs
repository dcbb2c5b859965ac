//! The same picture is bought once.

use serde_json::json;

use crate::harness::{Rig, cat, post};

#[tokio::test]
async fn a_repeat_is_the_stored_answer_and_costs_nothing() {
    let rig = Rig::start().await;
    let first = rig.generate(&cat("a cat")).await;
    let second = rig.generate(&cat("a cat")).await;
    assert_eq!(first.body, second.body);
    assert!(
        first
            .header("cache-status")
            .unwrap()
            .starts_with("pixtoll; fwd=uri-miss")
    );
    assert!(
        second
            .header("cache-status")
            .unwrap()
            .starts_with("pixtoll; hit; ttl=")
    );
    assert_eq!(second.header("x-pixtoll-cost"), Some("0"));
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[1]["cache"]["of"], decisions[0]["id"]);
    assert_eq!(decisions[1]["saved_by"]["repeat"], decisions[1]["saved"]);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_stored_answer_is_worded_anew_for_a_stream() {
    let rig = Rig::start().await;
    rig.generate(&cat("a cat")).await;
    let mut streamed = cat("a cat");
    streamed["stream"] = json!(true);
    let answer = rig.generate(&streamed).await;
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/event-stream"),
        "{}",
        answer.head
    );
    assert!(answer.text().contains("image_generation.completed"));
    assert_eq!(rig.sim().bills().len(), 1);
}

#[tokio::test]
async fn keys_do_not_share_unless_told_to() {
    let rig = Rig::start().await;
    rig.generate(&cat("a cat")).await;
    let host = rig.address().to_string();
    let other = post(
        &host,
        "/openai/v1/images/generations",
        &[],
        "application/json",
        &cat("a cat").to_string(),
    )
    .replace("sk-canary", "sk-another");
    assert!(rig.raw(&other).await.contains("fwd=uri-miss"));
    assert_eq!(rig.sim().bills().len(), 2);
}

#[tokio::test]
async fn an_app_may_ask_for_a_new_picture() {
    let rig = Rig::start().await;
    rig.generate(&cat("a cat")).await;
    for (word, status) in [("refresh", "fwd=request"), ("bypass", "fwd=bypass")] {
        let answer = rig
            .call(
                "api.openai.com",
                "/v1/images/generations",
                &[("x-pixtoll-cache", word)],
                "application/json",
                &cat("a cat").to_string(),
            )
            .await;
        assert!(
            answer.header("cache-status").unwrap().contains(status),
            "{}",
            answer.head
        );
    }
    assert_eq!(rig.sim().bills().len(), 3);
}

#[tokio::test]
async fn a_hundred_equal_calls_are_bought_once() {
    let rig = Rig::start().await;
    rig.script("openai", &["hold"]);
    let body = cat("a lighthouse");
    let calls = futures_util::future::join_all((0..100).map(|_| rig.generate(&body)));
    let release = async {
        rig.sim().wait_for_requests(1).await;
        // Whoever has not joined by now will find the picture in the store: bought once either way.
        rig.sim().release();
    };
    let (answers, ()) = tokio::join!(calls, release);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status() == 200 && answer.body == answers[0].body)
    );
    assert_eq!(rig.sim().bills().len(), 1);
    rig.decisions(100).await;
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_cancel_the_purchase() {
    let rig = Rig::start().await;
    rig.script("openai", &["hold"]);
    let tls = rig.begin(&cat("a cat")).await;
    rig.sim().wait_for_requests(1).await;
    drop(tls);
    rig.sim().release();
    let decision = rig.decisions(1).await.remove(0);
    assert_eq!(decision["answered"]["delivered"], "no");
    let again = rig.generate(&cat("a cat")).await;
    assert!(again.header("cache-status").unwrap().contains("hit"));
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_failure_is_not_kept() {
    let rig = Rig::start().await;
    rig.script(
        "openai",
        &["rate_limited retry_after=1", "no_image", "html"],
    );
    for status in [429, 502, 502] {
        let answer = rig.generate(&cat("a cat")).await;
        assert!(
            answer.status() == status || answer.status() == 200 && status == 502,
            "{}",
            answer.text()
        );
    }
    assert_eq!(rig.generate(&cat("a cat")).await.status(), 200);
}

#[tokio::test]
async fn variants_are_different_pictures_that_then_repeat() {
    let rig = Rig::with(|settings| settings.cache.variants = 2).await;
    let mut pictures = Vec::new();
    for _ in 0..4 {
        pictures.push(rig.generate(&cat("a cat")).await.body);
    }
    assert_ne!(pictures[0], pictures[1]);
    assert_eq!((&pictures[0], &pictures[1]), (&pictures[2], &pictures[3]));
    assert_eq!(rig.sim().bills().len(), 2);
}

#[tokio::test]
async fn a_retry_is_answered_for_nothing_where_nothing_may_be_sold_again() {
    let rig = Rig::with(|settings| settings.cache.unseeded_ttl = std::time::Duration::ZERO).await;
    let first = rig.generate(&cat("a cat")).await;
    let retry = rig
        .call(
            "api.openai.com",
            "/v1/images/generations",
            &[("x-stainless-retry-count", "1")],
            "application/json",
            &cat("a cat").to_string(),
        )
        .await;
    assert_eq!(first.body, retry.body);
    assert_eq!(rig.sim().bills().len(), 1);
    rig.generate(&cat("a cat")).await;
    assert_eq!(
        rig.sim().bills().len(),
        2,
        "who has its picture and asks again wants another"
    );
}

#[tokio::test]
async fn an_answer_that_nobody_received_is_there_for_the_next_equal_call() {
    let rig = Rig::with(|settings| settings.cache.unseeded_ttl = std::time::Duration::ZERO).await;
    rig.script("openai", &["hold"]);
    let tls = rig.begin(&cat("a cat")).await;
    rig.sim().wait_for_requests(1).await;
    drop(tls);
    rig.sim().release();
    rig.decisions(1).await;
    assert_eq!(rig.generate(&cat("a cat")).await.status(), 200);
    assert_eq!(rig.sim().bills().len(), 1);
}

#[tokio::test]
async fn a_client_that_asks_for_n_by_n_equal_calls_gets_n() {
    let rig = Rig::start().await;
    let ask = || async {
        let body = cat("a cat").to_string();
        let path = "/v1/images/generations";
        let headers = [("user-agent", "ai-sdk/openai/3.0 runtime/node")];
        rig.call("api.openai.com", path, &headers, "application/json", &body)
            .await
            .body
    };
    let (first, second) = tokio::join!(ask(), ask());
    assert_ne!(first, second);
    assert_eq!(rig.sim().bills().len(), 2);
}

/// So do the pictures repeat when it asks again: the k-th of the calls at once gets the k-th.
#[tokio::test]
async fn a_client_that_asks_for_n_by_n_equal_calls_again_gets_the_same_n() {
    let rig = Rig::start().await;
    let ask = || async {
        let body = cat("a cat").to_string();
        let path = "/v1/images/generations";
        let headers = [("user-agent", "ai-sdk/openai/3.0 runtime/node")];
        rig.call("api.openai.com", path, &headers, "application/json", &body)
            .await
            .body
    };
    let (first, second) = tokio::join!(ask(), ask());
    // Calls within two seconds of each other count as made at once.
    tokio::time::sleep(std::time::Duration::from_millis(2200)).await;
    let (third, fourth) = tokio::join!(ask(), ask());
    let (mut before, mut after) = ([first, second], [third, fourth]);
    before.sort();
    after.sort();
    assert!(before == after, "the same two");
    assert_eq!(rig.sim().bills().len(), 2);
}

#[tokio::test]
async fn a_retry_joins_its_first_call_also_where_the_cache_is_off_and_nobody_else_does() {
    let rule = r#"return { on_request = function(call) return call:cache{ mode = "off" } end }"#;
    let rig = Rig::with_rule(rule).await;
    rig.script("openai", &["hold", "hold"]);
    let ask = async |retry: &str| {
        let body = cat("a cat").to_string();
        let headers = [("x-stainless-retry-count", retry)];
        let path = "/v1/images/generations";
        rig.call("api.openai.com", path, &headers, "application/json", &body)
            .await
    };
    let again = async {
        rig.sim().wait_for_requests(2).await;
        let release = async { rig.sim().release() };
        tokio::join!(ask("1"), release).0
    };
    let (one, other, retry) = tokio::join!(ask("0"), ask("0"), again);
    assert_eq!(
        (one.status(), other.status(), retry.status()),
        (200, 200, 200)
    );
    assert_ne!(one.body, other.body, "equal calls are not one");
    assert!(retry.body == one.body || retry.body == other.body);
    assert_eq!(rig.sim().bills().len(), 2);
    rig.decisions(3).await;
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_word_for_the_cache_that_nobody_knows_is_said_and_not_done() {
    let rig = Rig::start().await;
    rig.generate(&cat("a cat")).await;
    let headers = [("x-pixtoll-cache", "off")];
    let body = cat("a cat").to_string();
    let path = "/v1/images/generations";
    let answer = rig
        .call("api.openai.com", path, &headers, "application/json", &body)
        .await;
    assert!(answer.header("cache-status").unwrap().contains("hit"));
    let note = rig.decisions(2).await[1]["notes"][0].to_string();
    assert!(
        note.contains("`off` is neither bypass nor refresh"),
        "{note}"
    );
}
