//! Rules that speak of answers: before anybody sees them, or once they are on their way.

use serde_json::{Value, json};

use crate::harness::{Rig, cat};

/// A plugin whose `on_response` is `body`, and whose answers wait for it.
async fn held(body: &str) -> Rig {
    Rig::with_rule(&format!(
        "return {{ holds = true, on_response = function(call, response) {body} end }}"
    ))
    .await
}

fn streamed(prompt: &str) -> Value {
    let mut call = cat(prompt);
    call["stream"] = json!(true);
    call["partial_images"] = json!(1);
    call
}

const SMALL: &str = "if response.model == 'openai/gpt-image-2' then
    return call:route('stability/sd3.5-medium', { reason = response.images[1].format })
end";

#[tokio::test]
async fn an_answer_that_is_sent_back_stays_booked_and_another_is_given() {
    let rig = held(SMALL).await;
    for call in [cat("a kite"), streamed("a drum")] {
        let answer = rig.generate(&call).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(
            answer.header("x-pixtoll-route"),
            Some("stability/sd3.5-medium")
        );
    }
    let decisions = rig.decisions(2).await;
    for decision in &decisions {
        let attempts = decision["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 2, "{decision}");
        assert_eq!(attempts[1]["by"]["hook"], "on_response");
        assert_eq!(decision["causes"]["retry"], attempts[0]["charge"]);
        assert_eq!(decision["causes"]["delivered"], attempts[1]["charge"]);
        let rule = &decision["rules"][0];
        assert_eq!(
            (&rule["hook"], &rule["why"]),
            (&json!("on_response"), &json!("png"))
        );
        assert_eq!(rule["to"], "stability/sd3.5-medium");
    }
    assert_eq!(rig.sim().bills().len(), 4);
    assert_eq!(rig.billed(), rig.booked().await);
    // Both pictures are in memory now: the rule speaks again, and nothing is bought.
    let again = rig.generate(&cat("a kite")).await;
    assert_eq!(
        again.header("x-pixtoll-route"),
        Some("stability/sd3.5-medium")
    );
    let decision = rig.decisions(3).await.pop().unwrap();
    assert_eq!(decision["cost"], 0);
    assert_eq!(decision["answered"]["from"], "cache");
    assert_eq!(rig.sim().bills().len(), 4);
}

#[tokio::test]
async fn an_answer_can_be_refused_and_stays_booked() {
    let rig = held("return call:refuse('not this one', { status = 422 })").await;
    for call in [cat("a kite"), streamed("a drum")] {
        let answer = rig.generate(&call).await;
        assert_eq!(answer.status(), 422, "{}", answer.text());
        assert!(answer.text().contains("not this one"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let decisions = rig.decisions(2).await;
    for decision in &decisions {
        assert_eq!(decision["answered"], Value::Null);
        assert_eq!(decision["error"]["by"], "plugin");
        assert_eq!(decision["causes"]["undelivered"], decision["cost"]);
    }
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn what_was_sent_back_is_better_than_nothing() {
    let rig = held(SMALL).await;
    rig.script("stability", &["overloaded"]);
    let answer = rig.generate(&cat("a kite")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.header("x-pixtoll-route"), Some("openai/gpt-image-2"));
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["causes"]["delivered"], decision["cost"]);
    let note = decision["notes"][0].as_str().unwrap();
    assert!(
        note.contains("nothing came in its place: overloaded"),
        "{note}"
    );
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn a_rule_that_always_sends_back_comes_to_an_end() {
    let rig = held(
        "return call:route({'openai/gpt-image-2', 'stability/sd3.5-medium'}, { quality = 'low' })",
    )
    .await;
    assert_eq!(rig.generate(&cat("a kite")).await.status(), 200);
    let decision = &rig.decisions(1).await[0];
    let rules = decision["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 4, "{rules:?}");
    let last = rules[3]["skipped"].as_str().unwrap();
    assert!(last.contains("all the attempts it may"), "{last}");
    assert_eq!(rig.billed(), rig.booked().await);
}

#[tokio::test]
async fn without_holds_an_answer_goes_out_as_it_comes_and_is_tagged() {
    let rig = Rig::with_rule(
        "return { on_response = function(call, response)
            return call:tag(response.cached and 'repeat' or tostring(response.charge))
        end }",
    )
    .await;
    for _ in 0..2 {
        assert_eq!(rig.generate(&streamed("a drum")).await.status(), 200);
    }
    let decisions = rig.decisions(2).await;
    let cost: pixtoll::money::Usd = decisions[0]["cost"].to_string().parse().unwrap();
    assert_eq!(decisions[0]["tags"], json!([cost.pretty()]));
    assert_eq!(decisions[1]["tags"], json!(["repeat"]));
    assert_eq!(decisions[1]["rules"][0]["applied"], true);
}

#[tokio::test]
async fn a_decision_is_told_after_the_answer_and_can_raise_an_alert() {
    let rig = Rig::with_rule(
        "return { on_decision = function(decision)
            if decision.cost > usd(0) then
                pixtoll.alert('warning', 'money was spent', { app = decision.app, cost = decision.cost })
            end
            return decision.rules[1].at
        end }",
    )
    .await;
    assert_eq!(rig.generate(&cat("a kite")).await.status(), 200);
    let notices = rig.notices("alert", 1).await;
    let failed = &notices[0];
    assert!(
        failed["text"]
            .as_str()
            .unwrap()
            .contains("failed in on_decision"),
        "{failed}"
    );
    assert_eq!(failed["fields"]["hook"], "on_decision");

    let rig = Rig::with_rule(
        "return { on_decision = function(decision)
            pixtoll.alert('warning', 'money was spent', { app = decision.app, cost = decision.cost })
        end }",
    )
    .await;
    assert_eq!(rig.generate(&cat("a kite")).await.status(), 200);
    let decision = &rig.decisions(1).await[0];
    let alert = &rig.notices("alert", 1).await[0];
    assert_eq!(alert["level"], "warning");
    assert_eq!(alert["text"], "money was spent");
    assert_eq!(alert["fields"]["call"], decision["id"]);
    let cost: pixtoll::money::Usd = decision["cost"].to_string().parse().unwrap();
    assert_eq!(alert["fields"]["cost"], cost.pretty());
}
