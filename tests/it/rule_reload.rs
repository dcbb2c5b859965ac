//! Rules that change while calls are made: taken whole or not at all.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pixtoll::config::PluginEntry;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Rig, cat};

struct Desk {
    rig: Rig,
    dir: TempDir,
    calls: usize,
}

impl Desk {
    async fn open() -> Desk {
        let dir = TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("names.lua", "return { one = 'first', two = 'second' }");
        write(
            "rule.lua",
            &format!("local names = require 'names' {}", plain("one")),
        );
        let path = dir.path().join("rule.lua").display().to_string();
        let rig = Rig::with(|settings| settings.plugins.push(PluginEntry::named(&path))).await;
        Desk { rig, dir, calls: 0 }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn log(&self) -> PathBuf {
        self.rig.app.pipeline.log.path().to_path_buf()
    }

    /// The tags of a call that is made now, and the digest of the rule that it met.
    async fn call(&mut self) -> (Value, Value) {
        self.calls += 1;
        self.rig
            .generate(&cat(&format!("fox {}", self.calls)))
            .await;
        let decision = self.rig.decisions(self.calls).await.pop().unwrap();
        (
            decision["tags"].clone(),
            decision["rules"][0]["digest"].clone(),
        )
    }

    /// The texts of the reload notices, once there are `count` of them.
    async fn notices(&self, count: usize) -> Vec<String> {
        for _ in 0..1000 {
            self.rig.app.pipeline.log.flush().await.unwrap();
            let text = std::fs::read_to_string(self.log()).unwrap_or_default();
            let found: Vec<String> = text
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .filter(|line| line["type"] == "notice" && line["kind"] == "reload")
                .map(|line| line["text"].as_str().unwrap().to_owned())
                .collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("fewer than {count} notices");
    }
}

/// A rule that tags every call with one of its names.
fn plain(name: &str) -> String {
    format!("return {{ on_request = function(call) return call:tag(names.{name}) end }}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_rule_is_taken_and_a_broken_one_is_not() {
    let mut desk = Desk::open().await;
    let (tags, first) = desk.call().await;
    assert_eq!(tags, serde_json::json!(["first"]));

    let two = format!("local names = require 'names' {}", plain("two"));
    desk.write("rule.lua", &two);
    let notices = desk.notices(1).await;
    assert!(
        notices[0].contains("new rules are in force: rule"),
        "{notices:?}"
    );
    let (tags, second) = desk.call().await;
    assert_eq!(tags, serde_json::json!(["second"]));
    assert!(first != second && notices[0].contains(second.as_str().unwrap()));

    desk.write("rule.lua", "return { on_requst = function() end }");
    let notices = desk.notices(2).await;
    assert!(
        notices[1].contains("the last good ones stay in force"),
        "{notices:?}"
    );
    assert!(
        notices[1].contains("did you mean `on_request`?"),
        "{notices:?}"
    );
    assert_eq!(desk.call().await, (serde_json::json!(["second"]), second));

    desk.write("rule.lua", &two);
    desk.write("names.lua", "return { two = 'a third' }");
    desk.notices(3).await;
    let (tags, _) = desk.call().await;
    assert_eq!(
        tags,
        serde_json::json!(["a third"]),
        "what it requires counts"
    );
}

/// How many reloads the next test makes, and about as many calls. Ten thousand take a while:
/// `PIXTOLL_RELOADS=10000`.
fn reloads() -> usize {
    let told = std::env::var("PIXTOLL_RELOADS").ok();
    told.and_then(|count| count.parse().ok()).unwrap_or(150)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_drop_nothing_and_every_call_meets_one_rule_whole() {
    let desk = Desk::open().await;
    let total = reloads();
    let rules: Vec<String> = ["one", "two"]
        .map(|name| {
            // The two tags must always be of the same rule.
            format!(
                "local names = require 'names' return {{
                   on_request = function(call) return call:tag(names.{name}) end,
                   on_response = function(call) return call:tag(names.{name}) end }}"
            )
        })
        .into();
    desk.write("rule.lua", &rules[0]);
    desk.rig.app.reload_rules().await;
    let reloaded = AtomicUsize::new(0);
    let calling = async {
        let mut calls = 0;
        while reloaded.load(Ordering::Relaxed) < total {
            if reloaded.load(Ordering::Relaxed) < calls {
                tokio::task::yield_now().await; // about one call a reload
                continue;
            }
            let batch = (0..4).map(|i| {
                let rig = &desk.rig;
                async move { rig.generate(&cat(&format!("fox {calls} {i}"))).await }
            });
            for answer in futures_util::future::join_all(batch).await {
                assert_eq!(answer.status(), 200, "{}", answer.text());
            }
            calls += 4;
        }
        calls
    };
    let reloading = async {
        for number in 0..total {
            desk.write("rule.lua", &rules[(number + 1) % 2]);
            desk.rig.app.reload_rules().await;
            reloaded.fetch_add(1, Ordering::Relaxed);
        }
    };
    let (calls, ()) = tokio::join!(calling, reloading);
    let decisions = desk.rig.decisions(calls).await;
    assert_eq!(decisions.len(), calls, "one decision a call");
    let mut digests = std::collections::BTreeSet::new();
    for decision in &decisions {
        let rules = decision["rules"].as_array().unwrap();
        assert_eq!(rules.len(), 2, "{decision}");
        assert_eq!(rules[0]["digest"], rules[1]["digest"], "{decision}");
        assert_eq!(decision["tags"].as_array().unwrap().len(), 1, "{decision}");
        digests.insert(rules[0]["digest"].to_string());
    }
    assert!(digests.len() >= 2, "calls met both rules");
    assert_eq!(desk.rig.billed(), desk.rig.booked().await);
    let notices = desk.notices(1).await;
    let taken = notices
        .iter()
        .filter(|text| text.contains("new rules are in force"));
    assert!(
        taken.count() >= total.min(100),
        "{} of {total}",
        notices.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_whose_own_test_fails_is_not_taken() {
    let mut desk = Desk::open().await;
    desk.write(
        "rule_test.lua",
        "test.case('tags', function()
            local d = test.rules('rule.lua'):call { model = 'openai/gpt-image-2', prompt = 'a fox' }
            test.expect(d, { tags = { 'first' } })
        end)",
    );
    let two = format!("local names = require 'names' {}", plain("two"));
    desk.write("rule.lua", &two);
    let notices = desk.notices(1).await;
    assert!(
        notices[0].contains("tags[1]: expected \"first\", got \"second\""),
        "{notices:?}"
    );
    assert_eq!(desk.call().await.0, serde_json::json!(["first"]));
    desk.write("rule_test.lua", "test.case('nothing', function() end)");
    let notices = desk.notices(2).await;
    assert!(notices[1].contains("new rules are in force"), "{notices:?}");
    assert_eq!(desk.call().await.0, serde_json::json!(["second"]));
}
