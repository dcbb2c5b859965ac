//! What a provider can bear and what an app will: limits that wait, breakers, the retry budget,
//! `x-pixtoll-max-cost` and `x-pixtoll-deadline`.

use std::sync::Arc;
use std::time::Duration;

use pixtoll::config::{Limits, Settings};
use serde_json::Value;

use crate::harness::{Answer, Rig, cat};

fn limit(settings: &mut Settings, concurrent: Option<u32>, per_minute: Option<u32>) {
    let mut provider = settings.providers.get("openai").unwrap().clone();
    provider.limits = Limits {
        concurrent,
        per_minute,
    };
    settings.providers.put(provider);
}

/// One image call with headers of the app's own.
async fn told(rig: &Rig, headers: &[(&str, &str)], body: &Value) -> Answer {
    let path = "/v1/images/generations";
    let body = body.to_string();
    rig.call("api.openai.com", path, headers, "application/json", &body)
        .await
}

/// Waits until so many calls stand before OpenAI's gate.
async fn queued(rig: &Rig, count: usize) {
    let provider = rig.app.pipeline.provider("openai").unwrap();
    let gate = provider.gate.as_ref().unwrap();
    while gate.queued() != count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn under_way(rig: &Rig) -> usize {
    let provider = rig.app.pipeline.provider("openai").unwrap();
    provider.gate.as_ref().unwrap().under_way()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("{pointer}: {value}"))
}

#[tokio::test]
async fn what_is_beyond_a_limit_waits_and_is_no_error() {
    let rig = Arc::new(Rig::with(|s| limit(s, Some(2), None)).await);
    rig.script("openai", &["hold"; 5]);
    let calls: Vec<_> = (0..5)
        .map(|i| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.generate(&cat(&format!("cat {i}"))).await })
        })
        .collect();
    rig.sim().wait_for_requests(2).await;
    queued(&rig, 3).await;
    assert_eq!(rig.sim().requests().len(), 2, "two at once and no more");
    for arrived in [4, 5] {
        rig.sim().release();
        rig.sim().wait_for_requests(arrived).await;
    }
    rig.sim().release();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let waits = |line: &Value| line["attempts"][0]["wait_ms"].as_u64().unwrap();
    let decisions = rig.decisions(5).await;
    let waited = decisions.iter().filter(|line| waits(line) > 0).count();
    assert!(waited >= 3, "{decisions:?}");
    assert_eq!(under_way(&rig), 0);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn apps_take_turns_at_a_limit() {
    let rig = Arc::new(Rig::with(|s| limit(s, Some(1), None)).await);
    rig.script("openai", &["hold"]);
    let call = |app: &'static str, prompt: &'static str| {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { told(&rig, &[("x-pixtoll-app", app)], &cat(prompt)).await })
    };
    // Told apart by their lengths, which is what a simulated provider writes down.
    let mut calls = vec![call("greedy", "1")];
    rig.sim().wait_for_requests(1).await;
    let waiting = [
        ("greedy", "22"),
        ("greedy", "333"),
        ("greedy", "4444"),
        ("modest", "55555"),
    ];
    for (i, (app, prompt)) in waiting.into_iter().enumerate() {
        calls.push(call(app, prompt));
        queued(&rig, i + 1).await;
    }
    rig.sim().release();
    for call in calls {
        assert_eq!(call.await.unwrap().status(), 200);
    }
    let empty = cat("").to_string().len();
    let lengths = rig.sim().requests();
    let lengths: Vec<usize> = lengths.iter().map(|seen| seen.body_len - empty).collect();
    assert_eq!(
        lengths,
        [1, 2, 5, 3, 4],
        "the modest app's one call comes second"
    );
}

#[tokio::test]
async fn whose_turn_does_not_come_in_time_is_told_when_to_come_again() {
    let rig = Arc::new(Rig::with(|s| limit(s, None, Some(1))).await);
    assert_eq!(rig.generate(&cat("first")).await.status(), 200);
    let turned = told(&rig, &[("x-pixtoll-deadline", "0.3")], &cat("second")).await;
    assert_eq!(turned.status(), 429, "{}", turned.text());
    let wait: u64 = turned.header("retry-after").unwrap().parse().unwrap();
    assert!((50..=60).contains(&wait), "{wait}");
    let message = turned.json();
    assert!(
        text(&message, "/error/message").contains("providers.openai.limits lets 1 a minute"),
        "{message}"
    );
    let line = &rig.decisions(2).await[1];
    assert_eq!(line["attempts"][0]["failure"]["sent"], "not_sent", "{line}");
    assert!(
        line["attempts"][0]["wait_ms"].as_u64().unwrap() > 0,
        "{line}"
    );
    assert_eq!(rig.sim().requests().len(), 1);
}

#[tokio::test]
async fn a_caller_that_leaves_the_queue_is_not_sent() {
    let rig = Arc::new(Rig::with(|s| limit(s, Some(1), None)).await);
    rig.script("openai", &["hold"]);
    let first = {
        let rig = Arc::clone(&rig);
        tokio::spawn(async move { rig.generate(&cat("first")).await })
    };
    rig.sim().wait_for_requests(1).await;
    let leaves = rig.begin(&cat("second")).await;
    queued(&rig, 1).await;
    drop(leaves);
    queued(&rig, 0).await;
    rig.sim().release();
    assert_eq!(first.await.unwrap().status(), 200);
    let decisions = rig.decisions(2).await;
    let left = decisions.iter().find(|line| line["error"].is_object());
    let left = left.unwrap_or_else(|| panic!("{decisions:?}"));
    assert!(text(left, "/error/message").contains("the caller left"));
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(under_way(&rig), 0);
}

const TO_STABILITY: &str = r#"return {
  on_request = function(call)
    return call:route({"stability/sd3.5-medium", "bfl/flux-2-pro"}),
      call:tag("stability " .. pixtoll.health("stability/sd3.5-medium").state,
               "failures " .. pixtoll.health("stability/sd3.5-medium").failures)
  end
}"#;

#[tokio::test]
async fn an_open_breaker_is_passed_over_and_rules_see_it() {
    let rig = Rig::with_rule(TO_STABILITY).await;
    rig.script("stability", &["overloaded"; 5]);
    for i in 0..5 {
        let failed = rig.generate(&cat(&format!("cat {i}"))).await;
        assert_eq!(failed.status(), 503);
    }
    let moved = rig.generate(&cat("another")).await;
    assert_eq!(moved.header("x-pixtoll-route"), Some("bfl/flux-2-pro"));
    let decisions = rig.decisions(6).await;
    let tags = |line: &Value| line["tags"].to_string();
    assert_eq!(tags(&decisions[0]), r#"["stability closed","failures 0"]"#);
    assert_eq!(tags(&decisions[4]), r#"["stability closed","failures 4"]"#);
    assert_eq!(tags(&decisions[5]), r#"["stability open","failures 5"]"#);
    let skipped = text(&decisions[5], "/rules/0/skipped");
    assert!(
        skipped.starts_with("stability/sd3.5-medium: its breaker is open for another"),
        "{skipped}"
    );
}

#[tokio::test]
async fn an_apps_own_call_is_never_kept_back_by_a_breaker() {
    let rig = Rig::start().await;
    rig.script("openai", &["overloaded"; 8]);
    for i in 0..8 {
        assert_eq!(rig.generate(&cat(&format!("cat {i}"))).await.status(), 503);
    }
    assert_eq!(rig.generate(&cat("the ninth")).await.status(), 200);
    assert_eq!(rig.sim().requests().len(), 9);
}

#[tokio::test]
async fn a_prompt_that_is_refused_says_nothing_of_the_providers_health() {
    let rig = Rig::with_rule(
        "return {on_request = function(call)
            return call:tag(pixtoll.health('openai/gpt-image-2').state)
        end}",
    )
    .await;
    rig.script("openai", &["safety"; 10]);
    for i in 0..10 {
        assert_eq!(rig.generate(&cat(&format!("cat {i}"))).await.status(), 400);
    }
    assert_eq!(rig.generate(&cat("the last")).await.status(), 200);
    assert_eq!(rig.decisions(11).await[10]["tags"][0], "closed");
}

#[tokio::test]
async fn only_a_share_of_the_calls_is_sent_again() {
    let rule = "return {on_failure = function(call) return call:retry{after = 0} end}";
    let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    std::fs::write(file.path(), rule).unwrap();
    let rig = Rig::with(|settings| {
        let name = file.path().to_str().unwrap();
        let plugin = pixtoll::config::PluginEntry::named(name);
        settings.plugins.push(plugin);
        settings.retry_budget = pixtoll::pipeline::RetryBudget {
            percent: 34,
            floor: 0,
        };
    })
    .await;
    // Every other attempt fails: half of the calls want to be sent again.
    rig.script(
        "openai",
        &["rate_limited", "ok", "rate_limited", "ok", "rate_limited"],
    );
    let mut statuses = Vec::new();
    for i in 0..4 {
        statuses.push(rig.generate(&cat(&format!("cat {i}"))).await.status());
    }
    // One call: no retry yet. The second went well, the third may be sent again.
    assert_eq!(statuses, [429, 200, 200, 429]);
    let decisions = rig.decisions(4).await;
    let why = text(&decisions[0], "/rules/0/skipped");
    assert!(why.contains("the retry budget is used up"), "{why}");
}

#[tokio::test]
async fn a_call_that_would_cost_more_than_its_app_will_pay_is_refused() {
    let rig = Rig::start().await;
    let dear = || {
        let mut dear = cat("a palace");
        dear["quality"] = "high".into();
        dear
    };
    let refused = told(&rig, &[("x-pixtoll-max-cost", "0.05")], &dear()).await;
    assert_eq!(refused.status(), 402, "{}", refused.text());
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let error = refused.json();
    let message = text(&error, "/error/message");
    assert!(
        message.contains("openai/gpt-image-2: it may cost $0.2"),
        "{message}"
    );
    assert!(
        message.contains("$0.05 at most (x-pixtoll-max-cost)"),
        "{message}"
    );
    assert_eq!(rig.sim().requests().len(), 0);
    assert_eq!(rig.generate(&dear()).await.status(), 200);
    let hit = told(&rig, &[("x-pixtoll-max-cost", "0.05")], &dear()).await;
    assert_eq!(hit.status(), 200, "from memory it costs nothing");
    let mut unknown = cat("a palace");
    unknown["model"] = "gpt-image-99".into();
    let unpriced = told(&rig, &[("x-pixtoll-max-cost", "100")], &unknown).await;
    assert_eq!(unpriced.status(), 402);
    assert!(
        unpriced.text().contains("does not know its price"),
        "{}",
        unpriced.text()
    );
    assert_eq!(rig.decisions(4).await[0]["error"]["by"], "pixtoll");
}

#[tokio::test]
async fn a_rule_may_shrink_or_move_a_call_below_what_its_app_will_pay() {
    let capped = Rig::with_rule(
        "return {on_request = function(call)
            if call.max_cost and call.quote.high > call.max_cost then
              return call:change{max_quality = 'low', reason = 'dear'}
            end
        end}",
    )
    .await;
    let mut dear = cat("a palace");
    dear["quality"] = "high".into();
    let shrunk = told(&capped, &[("x-pixtoll-max-cost", "0.05")], &dear).await;
    assert_eq!(shrunk.status(), 200, "{}", shrunk.text());
    let moved = Rig::with_rule(
        "return {on_request = function(call)
            return call:route({'stability/stable-image-ultra', 'stability/sd3.5-medium'})
        end}",
    )
    .await;
    let answer = told(&moved, &[("x-pixtoll-max-cost", "0.05")], &dear).await;
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium"),
        "{}",
        answer.text()
    );
    let line = &moved.decisions(1).await[0];
    let skipped = text(line, "/rules/0/skipped");
    assert!(
        skipped.starts_with("stability/stable-image-ultra: it may cost"),
        "{skipped}"
    );
}

#[tokio::test]
async fn what_failed_and_was_billed_counts_against_what_the_app_will_pay() {
    let rig = Rig::with_rule(
        "return {on_failure = function(call)
            return call:route('stability/sd3.5-large', {may_pay_twice = true}),
                   call:route('stability/sd3.5-medium', {may_pay_twice = true})
        end}",
    )
    .await;
    rig.script("openai", &["safety_output"]);
    let mut medium = cat("a palace");
    medium["quality"] = "medium".into();
    let answer = told(&rig, &[("x-pixtoll-max-cost", "0.09")], &medium).await;
    let line = &rig.decisions(1).await[0];
    let skipped = text(line, "/rules/0/skipped");
    assert!(
        skipped.contains("spent, and the call may cost $0.09"),
        "{line}"
    );
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium"),
        "{line}"
    );
}

#[tokio::test]
async fn a_bound_that_cannot_be_read_is_told_and_nothing_is_spent() {
    let rig = Rig::start().await;
    for (header, value, says) in [
        (
            "x-pixtoll-max-cost",
            "five cents",
            "an amount of US dollars",
        ),
        (
            "x-pixtoll-deadline",
            "soon",
            "seconds that the app can wait",
        ),
    ] {
        let answer = told(&rig, &[(header, value)], &cat("a cat")).await;
        assert_eq!(answer.status(), 400);
        let message = answer.text();
        assert!(
            message.contains(header) && message.contains(says),
            "{message}"
        );
    }
    assert_eq!(rig.sim().requests().len(), 0);
}

#[tokio::test]
async fn at_the_deadline_the_app_is_told_and_what_was_sent_runs_on() {
    let rig = Rig::start().await;
    rig.script("openai", &["hold"]);
    let late = told(&rig, &[("x-pixtoll-deadline", "0.2")], &cat("slow")).await;
    assert_eq!(late.status(), 504, "{}", late.text());
    assert_eq!(late.header("x-should-retry"), Some("false"));
    assert!(text(&late.json(), "/error/message").contains("x-pixtoll-deadline"));
    rig.sim().release();
    let line = rig.decisions(1).await[0].clone();
    assert_eq!(line["attempts"][0]["outcome"], "ok");
    assert_eq!(line["answered"]["delivered"], "no");
    assert!(line["notes"].to_string().contains("deadline"), "{line}");
    let again = rig.generate(&cat("slow")).await;
    assert_eq!(again.status(), 200);
    assert_eq!(again.header("x-pixtoll-cost"), Some("0"), "{}", again.head);
    assert_eq!(rig.sim().bills().len(), 1);
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_wait_that_is_longer_than_the_deadline_is_not_begun() {
    let rig = Rig::with_rule(
        "return {on_failure = function(call)
            return call:retry{}, call:route('stability/sd3.5-medium')
        end}",
    )
    .await;
    rig.script("openai", &["rate_limited retry_after=20"]);
    let answer = told(&rig, &[("x-pixtoll-deadline", "10")], &cat("now")).await;
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    let line = &rig.decisions(1).await[0];
    let skipped = text(line, "/rules/0/skipped");
    assert_eq!(skipped, "a wait of 20000 ms is longer than the deadline");
}

#[tokio::test]
async fn a_target_that_is_known_to_be_slow_is_passed_over_by_who_cannot_wait() {
    let rig = Rig::with_rule(
        "return {on_request = function(call)
            local cheapest = pixtoll.cheapest(call.request, {
              among = {'stability/sd3.5-medium', 'stability/stable-image-ultra'}})
            return call:route({'stability/sd3.5-medium', 'stability/stable-image-ultra'}),
                   call:tag(cheapest or 'none',
                            tostring(pixtoll.health('stability/sd3.5-medium').p95_ms ~= nil))
        end}",
    )
    .await;
    rig.script("stability", &["slow delay_ms=400"; 5]);
    for i in 0..5 {
        assert_eq!(rig.generate(&cat(&format!("cat {i}"))).await.status(), 200);
    }
    let answer = told(&rig, &[("x-pixtoll-deadline", "0.3")], &cat("in haste")).await;
    assert_eq!(
        answer.header("x-pixtoll-route"),
        Some("stability/stable-image-ultra"),
        "{}",
        answer.text()
    );
    let decisions = rig.decisions(6).await;
    assert_eq!(
        decisions[0]["tags"].to_string(),
        r#"["stability/sd3.5-medium","false"]"#
    );
    assert_eq!(
        decisions[5]["tags"].to_string(),
        r#"["stability/stable-image-ultra","true"]"#
    );
    let skipped = text(&decisions[5], "/rules/0/skipped");
    assert!(
        skipped.contains("(95 of 100 answers) and the caller waits another"),
        "{skipped}"
    );
}
