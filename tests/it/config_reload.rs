//! A configuration that changes while calls are made: taken whole or not at all.

use pixtoll::app::Reread;
use pixtoll::config::{Settings, Source};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Rig, cat};

/// A pixtoll on a configuration file of its own.
struct Desk {
    rig: Rig,
    dir: TempDir,
    notices: usize,
}

fn read(
    file: &std::path::Path,
    state: &std::path::Path,
) -> Result<Settings, Vec<pixtoll::config::Problem>> {
    let set = |key: &str, value: String| (key.to_owned(), value);
    let overrides = [
        set("state_dir", state.display().to_string()),
        set("dashboard", "off".to_owned()),
    ];
    let loaded = Settings::load(&Source::File(file.to_owned()), &overrides, &|_| None)?;
    Ok(loaded.settings)
}

const FIRST: &str = "listen: 127.0.0.1:0\n";

impl Desk {
    async fn open() -> Desk {
        let dir = TempDir::new().unwrap();
        let (file, state) = (dir.path().join("pixtoll.yaml"), dir.path().join("state"));
        std::fs::write(&file, FIRST).unwrap();
        let settings = read(&file, &state).unwrap();
        let rig = Rig::with(|own| *own = settings).await;
        let again = file.clone();
        rig.app.follow(Reread {
            file,
            read: Box::new(move || read(&again, &state)),
        });
        Desk {
            rig,
            dir,
            notices: 0,
        }
    }

    /// Writes the configuration; what is said of it.
    async fn write(&mut self, more: &str) -> Value {
        let file = self.dir.path().join("pixtoll.yaml");
        std::fs::write(file, format!("{FIRST}{more}")).unwrap();
        self.notices += 1;
        let notices = self.rig.notices("reload", self.notices).await;
        notices[self.notices - 1].clone()
    }

    async fn call(&self, count: usize) -> Value {
        self.rig.generate(&cat("a kite")).await;
        self.rig.decisions(count).await.pop().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_configuration_is_taken_and_a_broken_one_is_not() {
    let mut desk = Desk::open().await;
    let first = desk.call(1).await;
    assert_eq!(desk.call(2).await["cache"]["status"], "hit");

    let rules =
        "plugins: [{use: cap_quality, with: {max_quality: low}}]\ncache: {unseeded_ttl: 0}\n";
    let notice = desk.write(rules).await;
    let text = notice["text"].as_str().unwrap();
    assert!(text.contains("a new configuration is in force"), "{text}");
    assert!(text.contains("cap_quality"), "{text}");
    let third = desk.call(3).await;
    assert_ne!(third["config"], first["config"]);
    assert_eq!(third["rules"][0]["plugin"], "cap_quality");

    let notice = desk.write("cache: {tll: 1m}\n").await;
    assert_eq!(notice["level"], "error");
    let text = notice["text"].as_str().unwrap();
    assert!(text.contains("the last good one stays in force"), "{text}");
    assert!(text.contains("did you mean `cache.ttl`?"), "{text}");
    assert_eq!(desk.call(4).await["config"], third["config"]);

    let notice = desk.write("plugins: [{use: cap_qualty}]\n").await;
    assert!(
        notice["text"]
            .as_str()
            .unwrap()
            .contains("did you mean `cap_quality`?"),
        "{notice}"
    );

    let notice = desk.write("mode: observe\ncache: {memory: 1MiB}\n").await;
    let text = notice["text"].as_str().unwrap();
    assert!(
        text.contains("`cache.memory` takes effect when pixtoll is started anew"),
        "{text}"
    );
    let observed = desk.call(5).await;
    assert_eq!(
        (&observed["mode"], &observed["rules"]),
        (&json!("observe"), &json!([]))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_and_an_upstream_that_are_configured_later_are_used() {
    let mut desk = Desk::open().await;
    let sim = desk.rig.sim().addr();
    let rule = "return { on_request = function(call) return call:route('studio/gpt-image-2') end }";
    std::fs::write(desk.dir.path().join("rule.lua"), rule).unwrap();
    desk.write("plugins: [rule.lua]\n").await;
    let decision = desk.call(1).await;
    let skipped = decision["rules"][0]["skipped"].as_str().unwrap();
    assert!(skipped.contains("no provider `studio`"), "{skipped}");
    let more = format!(
        "plugins: [rule.lua]\nproviders: {{studio: {{dialect: openai, upstream: 'http://{sim}', api_key: k}}}}\n"
    );
    desk.write(&more).await;
    let decision = desk.call(2).await;
    let skipped = decision["rules"][0]["skipped"].as_str().unwrap();
    assert!(!skipped.contains("no provider"), "{skipped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_that_change_count_from_the_next_call_on_with_what_was_spent_before() {
    let mut desk = Desk::open().await;
    let buy = async |desk: &Desk, prompt: &str| desk.rig.generate(&cat(prompt)).await.status();
    assert_eq!(buy(&desk, "one").await, 200);
    let spent = desk.rig.billed();
    let budget = |limit: i64| {
        let limit = limit as f64 / 1e9;
        format!("budgets: [{{name: all, limit: {limit}, per: total, over: refuse}}]\n")
    };
    desk.write(&budget(spent * 3 / 2)).await;
    assert_eq!(buy(&desk, "two").await, 402, "what was spent before counts");
    desk.write(&budget(spent * 5 / 2)).await;
    assert_eq!(buy(&desk, "two").await, 200);
    assert_eq!(buy(&desk, "three").await, 402);
    desk.write("").await;
    assert_eq!(buy(&desk, "three").await, 200, "it is gone");
    desk.rig.decisions(5).await;
    assert_eq!(desk.rig.billed(), desk.rig.booked().await);
}
