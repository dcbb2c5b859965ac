//! Budgets through the sockets: what they hold, what they turn away, and that nothing stays held.

mod processes;

use pixtoll::budget::{Budget, Dimension, Over, Per};
use pixtoll::config::{LedgerDown, Mode, Settings};
use pixtoll::ledger::Filter;
use pixtoll::money::Usd;
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat};

/// What every picture of [`TO_FIXED`] costs.
const PRICE: &str = "0.035";
/// Sends every call to a model whose price leaves nothing open.
const TO_FIXED: &str =
    "return { on_request = function(call) return call:route(\"stability/sd3.5-medium\") end }";

pub(crate) fn usd(text: &str) -> Usd {
    text.parse().unwrap()
}

fn budget(name: &str, limit: &str) -> Budget {
    Budget {
        name: name.to_owned(),
        limit: usd(limit),
        per: Per::Month,
        zone: jiff::tz::TimeZone::UTC,
        by: None,
        only: Default::default(),
        over: Over::Refuse,
    }
}

/// A pixtoll with budgets, and one rule where there is one.
async fn rig(rule: Option<&str>, budgets: Vec<Budget>, change: impl FnOnce(&mut Settings)) -> Rig {
    let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
    std::fs::write(file.path(), rule.unwrap_or_default()).unwrap();
    Rig::with(|settings| {
        if rule.is_some() {
            let path = file.path().to_str().unwrap();
            settings
                .plugins
                .push(pixtoll::config::PluginEntry::named(path));
        }
        settings.budgets = budgets;
        change(settings);
    })
    .await
}

/// What every bucket holds and has spent, in nano-dollars: read from the database itself.
pub(crate) async fn buckets(path: &std::path::Path) -> Vec<(String, i64, i64)> {
    use sqlx::{ConnectOptions as _, Row as _};
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let rows = sqlx::query("SELECT bucket, spent, held FROM buckets ORDER BY budget, bucket")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    rows.iter()
        .map(|row| (row.get("bucket"), row.get("spent"), row.get("held")))
        .collect()
}

async fn stands(rig: &Rig) -> Vec<(String, i64, i64)> {
    rig.app.pipeline.ledger.flush().await.unwrap();
    buckets(&rig.dir.path().join("state/ledger.db")).await
}

/// The notices that the log has of budgets.
async fn alerts(rig: &Rig) -> Vec<Value> {
    rig.app.pipeline.log.flush().await.unwrap();
    let text = std::fs::read_to_string(rig.app.pipeline.log.path()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["type"] == "notice" && line["kind"] == "alert")
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_calls_at_a_limit_worth_ten_ten_reach_a_provider() {
    let rig = rig(Some(TO_FIXED), vec![budget("ten", "0.35")], |_| {}).await;
    let calls = (0..200).map(|n| {
        let body = cat(&format!("a cat, number {n}"));
        let rig = &rig;
        async move { rig.generate(&body).await }
    });
    let answers: Vec<Answer> = futures_util::future::join_all(calls).await;
    let with = |status| {
        answers
            .iter()
            .filter(|answer| answer.status() == status)
            .count()
    };
    assert_eq!((with(200), with(402)), (10, 190));
    assert_eq!(rig.sim().requests().len(), 10);
    assert_eq!(rig.sim().bills().len(), 10);
    assert_eq!(rig.billed(), usd("0.35").nano());
    let decisions = rig.decisions(200).await;
    let bought = decisions.iter().filter(|d| d["error"].is_null()).count();
    assert_eq!(bought, 10);
    assert_eq!(
        stands(&rig).await,
        [("all".to_owned(), usd("0.35").nano(), 0)]
    );
    let totals = rig
        .app
        .pipeline
        .ledger
        .totals(&Filter::default())
        .await
        .unwrap();
    assert_eq!(
        (totals.held, totals.open, totals.attempts),
        (Usd::ZERO, 0, 10)
    );
}

#[tokio::test]
async fn a_refusal_says_which_budget_how_much_and_until_when() {
    let rig = rig(
        Some(TO_FIXED),
        vec![budget("catalog-month", "0.05")],
        |_| {},
    )
    .await;
    assert_eq!(rig.generate(&cat("one")).await.status(), 200);
    let refused = rig.generate(&cat("two")).await;
    assert_eq!(refused.status(), 402, "{}", refused.text());
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let error = &refused.json()["error"];
    let message = error["message"].as_str().unwrap();
    for part in [
        "`catalog-month`",
        "$0.035",
        "of $0.05 a month",
        "is spent",
        "resets_at 20",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(error["code"], "over_budget", "in OpenAI's words: {error}");
    let decision = &rig.decisions(2).await[1];
    assert_eq!(decision["error"]["by"], "budget");
    assert_eq!(decision["error"]["status"], 402);
    assert_eq!(decision["attempts"], json!([]));
    let said = &decision["budgets"][0];
    assert_eq!(said["name"], "catalog-month");
    assert_eq!(
        (&said["held"], &said["did"]),
        (&json!(0), &json!("refused"))
    );
    assert_eq!(said["left"], json!(0.015));
    // From memory nothing is held and nothing refused.
    assert_eq!(rig.generate(&cat("one")).await.status(), 200);
    assert_eq!(rig.decisions(3).await[2]["budgets"], json!([]));
}

#[tokio::test]
async fn nothing_stays_held_however_a_call_ends() {
    let rule = "return { on_request = function(call)
        if call:mentions('forbidden') then return call:refuse('no') end
        return call:route('stability/sd3.5-medium', { timeout = 1 })
    end }";
    let ends = [
        "ok",
        "safety",
        "safety_output",
        "rate_limited",
        "overloaded",
        "server",
        "quota",
        "auth",
        "permission",
        "retired",
        "no_image",
        "html",
        "cut",
        "drop",
        "stall",
    ];
    // One after the other at one provider, they would open its breaker.
    for end in ends {
        let rig = rig(Some(rule), vec![budget("plenty", "100")], |_| {}).await;
        rig.script("stability", &[end]);
        let _ = rig.generate(&cat("a cat that ends")).await;
        rig.decisions(1).await;
        let stands = stands(&rig).await;
        assert!(
            stands.iter().all(|(_, _, held)| *held == 0),
            "{end}: {stands:?}"
        );
    }
    let rig = rig(Some(rule), vec![budget("plenty", "100")], |_| {}).await;
    let bought = rig.generate(&cat("a cat that ends as ok")).await;
    assert_eq!(bought.status(), 200, "{}", bought.text());
    assert_eq!(rig.generate(&cat("forbidden")).await.status(), 403);
    let hit = rig.generate(&cat("a cat that ends as ok")).await;
    assert!(
        hit.header("cache-status").unwrap().contains("hit"),
        "{}",
        hit.head
    );
    // A caller that hangs up pays all the same.
    rig.script("stability", &["hold"]);
    let before = rig.sim().requests().len() as u64;
    let caller = rig.begin(&cat("a cat that nobody waits for")).await;
    rig.sim().wait_for_requests(before + 1).await;
    assert!(
        stands(&rig)
            .await
            .iter()
            .any(|(_, _, held)| *held == usd(PRICE).nano())
    );
    drop(caller);
    rig.sim().release();
    let decisions = rig.decisions(4).await;
    let charged: f64 = decisions.iter().filter_map(|d| d["cost"].as_f64()).sum();
    let stands = stands(&rig).await;
    let (_, spent, held) = &stands[0];
    assert_eq!(*held, 0);
    assert_eq!(
        *spent,
        (charged * 1e9).round() as i64,
        "what was charged is spent"
    );
    assert_eq!(*spent, rig.booked().await);
    let totals = rig
        .app
        .pipeline
        .ledger
        .totals(&Filter::default())
        .await
        .unwrap();
    assert_eq!((totals.held, totals.open), (Usd::ZERO, 0));
}

#[tokio::test]
async fn who_joins_a_purchase_holds_nothing_and_gets_nobody_elses_refusal() {
    let by_app = Budget {
        by: Some(Dimension::App),
        ..budget("by app", "0.035")
    };
    let rule = TO_FIXED.replace("call:route", "call:cache{scope = 'everyone'}, call:route");
    let rig = rig(Some(&rule), vec![by_app], |_| {}).await;
    let as_app = async |app: &str, prompt: &str| {
        let headers = [("x-pixtoll-app", app)];
        let body = cat(prompt).to_string();
        let path = "/v1/images/generations";
        rig.call("api.openai.com", path, &headers, "application/json", &body)
            .await
    };
    assert_eq!(as_app("poor", "its only one").await.status(), 200);
    assert_eq!(as_app("poor", "one too many").await.status(), 402);
    // Both want the same new picture: whoever leads, the poor one cannot buy it, and the rich can.
    let (poor, rich) = tokio::join!(as_app("poor", "shared"), as_app("rich", "shared"));
    assert_eq!(rich.status(), 200, "{}", rich.text());
    assert!([200, 402].contains(&poor.status()), "{}", poor.text());
    assert_eq!(rig.sim().bills().len(), 2);
    assert_eq!(
        as_app("poor", "shared").await.status(),
        200,
        "it is in memory now"
    );
    let price = usd(PRICE).nano();
    let expected = [("poor".to_owned(), price, 0), ("rich".to_owned(), price, 0)];
    assert_eq!(stands(&rig).await, expected);
}

#[tokio::test]
async fn a_fallback_is_held_anew_at_its_own_quote() {
    let rule = "return {
        on_request = function(call) return call:route('stability/sd3.5-medium') end,
        on_failure = function(call) return call:route('stability/sd3.5-large') end }";
    let large = Budget {
        only: [("model", vec!["stability/sd3.5-large".to_owned()])].into(),
        ..budget("large", "0.07")
    };
    let rig = rig(Some(rule), vec![large, budget("all", "1")], |_| {}).await;
    for (prompt, status) in [("one", 200), ("two", 402)] {
        rig.script("stability", &["overloaded"]);
        assert_eq!(
            rig.generate(&cat(prompt)).await.status(),
            status,
            "{prompt}"
        );
    }
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[0]["attempts"].as_array().unwrap().len(), 2);
    assert_eq!(decisions[1]["attempts"].as_array().unwrap().len(), 1);
    let told: Vec<&Value> = decisions[1]["budgets"].as_array().unwrap().iter().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .any(|b| b["name"] == "large" && b["did"] == "refused")
    );
    assert_eq!(rig.billed(), rig.booked().await);
    let spent = usd("0.065").nano();
    let expected = [("all".to_owned(), spent, 0), ("all".to_owned(), spent, 0)];
    assert_eq!(stands(&rig).await, expected);
}

#[tokio::test]
async fn an_alert_budget_lets_pass_and_tells_once_a_mark() {
    let told = Budget {
        over: Over::Alert,
        ..budget("watched", "0.07")
    };
    let rig = rig(Some(TO_FIXED), vec![told], |_| {}).await;
    for n in 0..4 {
        assert_eq!(rig.generate(&cat(&format!("cat {n}"))).await.status(), 200);
    }
    let did: Vec<Value> = rig
        .decisions(4)
        .await
        .iter()
        .map(|d| d["budgets"][0]["did"].clone())
        .collect();
    assert_eq!(did, ["warned", "warned", "warned", "warned"]);
    let alerts = alerts(&rig).await;
    let marks: Vec<&str> = alerts
        .iter()
        .map(|a| a["fields"]["used_percent"].as_str().unwrap())
        .collect();
    assert_eq!(marks, ["50", "100"], "{alerts:?}");
    assert_eq!(alerts[0]["fields"]["budget"], "watched");
    assert!(alerts[1]["text"].as_str().unwrap().contains("is used up"));
}

#[tokio::test]
async fn observe_mode_works_budgets_out_and_changes_nothing() {
    let rig = rig(None, vec![budget("none", "0")], |s| s.mode = Mode::Observe).await;
    assert_eq!(rig.generate(&cat("a cat")).await.status(), 200);
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["budgets"][0]["did"], "refused", "{decision}");
    assert_eq!(rig.billed(), rig.booked().await);
    let stands = stands(&rig).await;
    assert_eq!((stands[0].1, stands[0].2), (rig.billed(), 0));
}

#[tokio::test]
async fn several_requests_of_one_call_are_held_one_by_one() {
    let rig = rig(Some(TO_FIXED), vec![budget("two", "0.07")], |_| {}).await;
    let mut body = cat("three cats");
    body["n"] = json!(3);
    let answer = rig.generate(&body).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json()["data"].as_array().unwrap().len(), 2);
    let decision = &rig.decisions(1).await[0];
    assert!(
        decision["notes"].to_string().contains("over budget"),
        "{decision}"
    );
    assert_eq!(decision["budgets"][0]["did"], "refused");
    assert_eq!(rig.billed(), usd("0.07").nano());
    assert_eq!(
        stands(&rig).await,
        [("all".to_owned(), usd("0.07").nano(), 0)]
    );
    // None fits any more: the whole call is refused.
    assert_eq!(rig.generate(&body).await.status(), 402);
}

/// The database's file, spoiled while it is in use: nothing can be written to it.
async fn break_database(rig: &Rig) {
    let path = rig.dir.path().join("state/ledger.db");
    use sqlx::ConnectOptions as _;
    let mut connection = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .connect()
        .await
        .unwrap();
    let away = "ALTER TABLE attempts RENAME TO attempts_away";
    sqlx::query(away).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn without_a_ledger_what_a_budget_guards_is_refused_and_the_rest_passes() {
    let status = async |over: Over, down: LedgerDown| {
        let budgets = vec![Budget {
            over,
            ..budget("some", "5")
        }];
        let rig = rig(Some(TO_FIXED), budgets, |s| s.ledger_down = down).await;
        break_database(&rig).await;
        let status = rig.generate(&cat("a cat")).await.status();
        let alerted = alerts(&rig).await;
        let said = alerted
            .iter()
            .any(|a| a["text"].as_str().unwrap().contains("without the ledger"));
        assert_eq!(said, status == 200, "{alerted:?}");
        status
    };
    assert_eq!(status(Over::Refuse, LedgerDown::Auto).await, 503);
    assert_eq!(status(Over::Alert, LedgerDown::Auto).await, 200);
    assert_eq!(status(Over::Refuse, LedgerDown::Open).await, 200);
    assert_eq!(status(Over::Alert, LedgerDown::Closed).await, 503);
}

#[tokio::test]
async fn a_refusal_is_in_the_callers_own_words() {
    // With such a rule an app that submits is told of a job of ours before it is bought.
    let chain =
        "return { on_failure = function(call) return call:route('stability/sd3.5-medium') end }";
    for rule in [None, Some(chain)] {
        refused_in_their_own_words(&rig(rule, vec![budget("none", "0")], |_| {}).await).await;
    }
}

async fn refused_in_their_own_words(rig: &Rig) {
    let gemini = json!({"contents": [{"parts": [{"text": "a cat"}]}]}).to_string();
    let form = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na cat\r\n--b--\r\n";
    let calls = [
        (
            "generativelanguage.googleapis.com",
            "/v1beta/models/gemini-2.5-flash-image:generateContent",
            "application/json",
            gemini.as_str(),
        ),
        (
            "api.stability.ai",
            "/v2beta/stable-image/generate/core",
            "multipart/form-data; boundary=b",
            form,
        ),
        (
            "api.bfl.ai",
            "/v1/flux-pro-1.1",
            "application/json",
            "{\"prompt\":\"a cat\"}",
        ),
        (
            "queue.fal.run",
            "/fal-ai/flux/dev",
            "application/json",
            "{\"prompt\":\"a cat\"}",
        ),
        (
            "api.replicate.com",
            "/v1/models/black-forest-labs/flux-schnell/predictions",
            "application/json",
            "{\"input\":{\"prompt\":\"a cat\"}}",
        ),
    ];
    for (host, path, content_type, body) in calls {
        let answer = rig.call(host, path, &[], content_type, body).await;
        assert_eq!(answer.status(), 402, "{host}: {}", answer.text());
        assert!(
            answer.text().contains("budget `none`"),
            "{host}: {}",
            answer.text()
        );
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{host}");
    }
    assert_eq!(rig.sim().requests().len(), 0);
}

/// The policy of the Lua contract, letter for letter.
const DAILY: &str = include_str!("../../src/plugin/tests/policies/daily.lua");

fn catalog_day(limit: &str) -> Budget {
    Budget {
        per: Per::Day,
        only: [("app", vec!["catalog".to_owned()])].into(),
        over: Over::Plugin,
        ..budget("catalog-day", limit)
    }
}

#[tokio::test]
async fn daily_asks_for_less_the_less_is_left() {
    let rig = rig(Some(DAILY), vec![catalog_day("1.00")], |_| {}).await;
    let as_app = async |app: &str, n: usize| {
        let body = json!({"model": "gpt-image-2", "prompt": format!("desk {n}"), "size": "1536x1024", "quality": "high"});
        let headers = [("x-pixtoll-app", app)];
        let path = "/v1/images/generations";
        let body = body.to_string();
        rig.call("api.openai.com", path, &headers, "application/json", &body)
            .await
    };
    let mut statuses = Vec::new();
    while statuses.last() != Some(&402) && statuses.len() < 200 {
        statuses.push(as_app("catalog", statuses.len()).await.status());
    }
    let decisions = rig.decisions(statuses.len()).await;
    // Untouched, then medium, then low and small, then none: never back.
    let phase = |decision: &Value| match decision["budgets"][0]["did"].as_str() {
        Some("refused") => 3,
        Some("degraded") => 2,
        _ if decision["decided"]["quality"] == "medium" => 1,
        _ => 0,
    };
    let phases: Vec<i32> = decisions.iter().map(phase).collect();
    assert!(phases.is_sorted(), "{phases:?}");
    assert!((0..4).all(|one| phases.contains(&one)), "{phases:?}");
    let degraded = &decisions[phases.iter().position(|one| *one == 2).unwrap()];
    assert_eq!(degraded["decided"]["quality"], "low");
    assert_eq!(degraded["decided"]["width"], 1024);
    let hooks: Vec<&str> = degraded["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["hook"].as_str().unwrap())
        .collect();
    assert_eq!(hooks, ["on_request", "on_budget"]);
    assert_eq!(degraded["rules"][1]["why"], "budget");
    assert_eq!(rig.billed(), rig.booked().await);
    let stands = stands(&rig).await;
    assert!(
        stands[0].1 <= usd("1.00").nano() && stands[0].2 == 0,
        "{stands:?}"
    );
    // Nobody else is asked to save.
    assert_eq!(as_app("shop", 0).await.status(), 200);
    let other = &rig.decisions(statuses.len() + 1).await[statuses.len()];
    assert_eq!(
        (&other["budgets"], &other["rules"]),
        (&json!([]), &json!([]))
    );
}

#[tokio::test]
async fn what_a_rule_makes_of_a_call_over_budget_is_held_again() {
    let plugin =
        |body: &str| format!("return {{ on_budget = function(call, budget, options) {body} end }}");
    let tried = async |body: &str, limit: &str| {
        let asks = Budget {
            over: Over::Plugin,
            ..budget("some", limit)
        };
        let rig = rig(Some(&plugin(body)), vec![asks], |_| {}).await;
        let mut dear = cat("a cat");
        dear["quality"] = json!("high");
        let answer = rig.generate(&dear).await;
        let decision = rig.decisions(1).await.remove(0);
        assert_eq!(rig.billed(), rig.booked().await);
        assert!(stands(&rig).await.iter().all(|(_, _, held)| *held == 0));
        (answer.status(), decision)
    };
    let (status, moved) = tried(
        "return call:route('stability/sd3.5-medium', { reason = 'cheaper' })",
        "0.04",
    )
    .await;
    assert_eq!(
        (status, &moved["answered"]["model"]),
        (200, &json!("stability/sd3.5-medium"))
    );
    assert_eq!(moved["attempts"][0]["by"]["hook"], "on_budget");
    assert_eq!(moved["budgets"][0]["did"], "degraded");
    assert_eq!(moved["decided"]["model"], "stability/sd3.5-medium");
    let (status, dear) = tried("return call:route('stability/sd3.5-medium')", "0.03").await;
    assert_eq!(
        (status, &dear["error"]["by"]),
        (402, &json!("budget")),
        "still too dear"
    );
    assert_eq!(dear["attempts"], json!([]));
    let (status, refused) = tried("return call:refuse('not today: ' .. budget.name)", "0.03").await;
    assert_eq!((status, &refused["error"]["by"]), (403, &json!("plugin")));
    assert!(
        refused["error"]["message"]
            .as_str()
            .unwrap()
            .contains("not today: some")
    );
    let (status, silent) = tried("", "0.03").await;
    assert_eq!((status, &silent["error"]["by"]), (402, &json!("budget")));
    let (status, broken) = tried("error('oops')", "0.03").await;
    assert_eq!((status, &broken["error"]["by"]), (402, &json!("budget")));
    assert_eq!(broken["rules"][0]["did"], "error");
}

#[tokio::test]
async fn a_rule_sees_what_budgets_stand_at_and_what_was_spent() {
    let rule = "return { on_request = function(call)
        local b = call:budget('by app')
        local spent = pixtoll.spend { app = call.app, model = 'stability/sd3.5-medium', per = 'day' }
        return call:tag(tostring(b.spent), tostring(b.left), string.format('%.2f', b.used),
            tostring(call:budget('others')), tostring(spent), tostring(pixtoll.spend())),
            call:route('stability/sd3.5-medium')
    end }";
    let by_app = Budget {
        by: Some(Dimension::App),
        ..budget("by app", "0.14")
    };
    let others = Budget {
        only: [("app", vec!["others".to_owned()])].into(),
        ..budget("others", "1")
    };
    let rig = rig(Some(rule), vec![by_app, others], |_| {}).await;
    for n in 0..2 {
        assert_eq!(rig.generate(&cat(&format!("cat {n}"))).await.status(), 200);
        rig.decisions(n + 1).await;
        rig.app.pipeline.ledger.flush().await.unwrap();
    }
    let decisions = rig.decisions(2).await;
    assert_eq!(decisions[0]["rules"][0]["did"], "tag", "{decisions:#?}");
    let tags = |n: usize| decisions[n]["tags"].clone();
    assert_eq!(
        tags(0),
        json!(["$0.00", "$0.14", "0.00", "nil"]),
        "the same tag once"
    );
    assert_eq!(tags(1), json!(["$0.035", "$0.105", "0.25", "nil"]));
}

fn pixtoll(arguments: &[&str], dir: &std::path::Path) -> (Option<i32>, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .args(arguments)
        .current_dir(dir)
        .env("HOME", dir)
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn daily_passes_a_rule_test_of_its_own() {
    let test = r#"
local budgets = { { name = "catalog-day", ["for"] = { app = "catalog" }, limit = usd(20), per = "day", over = "plugin" } }
local rules = test.rules("daily.lua", {}, { budgets = budgets })
local function desk(app)
  return { model = "openai/gpt-image-2", prompt = "a desk", size = "1536x1024", quality = "high", app = app }
end
test.case("below four fifths nothing changes", function()
  rules:spent("catalog-day", usd(15.99))
  test.expect(rules:call(desk("catalog")), { rules = {} })
end)
test.case("from there on it is medium", function()
  rules:spent("catalog-day", usd(16))
  test.expect(rules:call(desk("catalog")), { decided = { quality = "medium", size = "1536x1024" } })
end)
test.case("where that does not fit, low and small", function()
  rules:spent("catalog-day", usd(19.99))
  local d = rules:call(desk("catalog"))
  test.expect(d, { decided = { quality = "low" }, budgets = { { name = "catalog-day", did = "degraded" } } })
end)
test.case("then none, and another app goes on", function()
  rules:spent("catalog-day", usd(20))
  test.expect(rules:call(desk("catalog")), { sent = {}, error = { by = "budget", status = 402 } })
  test.expect(rules:call(desk("shop")), { rules = {}, budgets = {} })
end)
"#;
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("daily.lua"), DAILY).unwrap();
    std::fs::write(dir.path().join("daily_test.lua"), test).unwrap();
    let (code, said) = pixtoll(&["test", "daily_test.lua"], dir.path());
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn check_names_a_budget_that_nobody_answers_for() {
    let config = "plugins: [icons_to_cheap]\nbudgets:\n  - {name: a, limit: 1, per: day}\n  - {name: b, limit: 1, per: day, over: plugin}\n";
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("pixtoll.yaml"), config).unwrap();
    let (code, said) = pixtoll(&["check", "--json"], dir.path());
    assert_eq!(code, Some(2), "{said}");
    let told: Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let problem = &told["problems"][0];
    assert_eq!(
        (&problem["line"], &problem["code"]),
        (&json!(4), &json!("no_plugin")),
        "{told}"
    );
    assert!(
        problem["remedy"]
            .as_str()
            .unwrap()
            .contains("budget_downgrade")
    );
    let mended = config.replace(
        "icons_to_cheap",
        "{use: budget_downgrade, with: {budget: b}}",
    );
    std::fs::write(dir.path().join("pixtoll.yaml"), mended).unwrap();
    assert_eq!(pixtoll(&["check"], dir.path()).0, Some(0));
}
