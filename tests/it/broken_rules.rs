//! Broken plugins of every kind, and what their writer is told: held against the texts beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pixtoll::config::PluginEntry;
use tempfile::TempDir;

use crate::harness::{Rig, cat};

fn folder(kind: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/plugins/broken");
    fixtures.join(kind)
}

/// The broken plugins of a folder, sorted.
fn plugins(kind: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder(kind)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|ending| ending == "lua"))
        .collect();
    all.sort();
    all
}

/// Holds what was told against the text beside the plugin; with `PIXTOLL_BLESS` writes it.
fn compare(plugin: &Path, told: &str, differences: &mut Vec<String>) {
    let told = told.replace(&plugin.parent().unwrap().display().to_string(), "$DIR");
    let told = format!("{}\n", told.trim());
    let text = plugin.with_extension("txt");
    if std::env::var_os("PIXTOLL_BLESS").is_some() {
        fs::write(&text, &told).unwrap();
    }
    let expected = fs::read_to_string(&text).unwrap_or_default();
    if told != expected {
        differences.push(format!(
            "{}:\n  expected {expected}  told     {told}",
            plugin.display()
        ));
    }
}

#[test]
fn a_plugin_that_does_not_load_is_told_of_with_place_and_cure() {
    let mut differences = Vec::new();
    for plugin in plugins("check") {
        let home = TempDir::new().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args(["check", "--plugin"])
            .arg(&plugin)
            .current_dir(home.path())
            .env("HOME", home.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_STATE_HOME")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", plugin.display());
        let told = String::from_utf8(output.stderr).unwrap();
        compare(&plugin, &told, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test]
async fn a_plugin_that_fails_is_told_of_in_the_decision_and_harms_no_call() {
    let mut differences = Vec::new();
    for plugin in plugins("call") {
        let entry = PluginEntry::named(&plugin.display().to_string());
        let rig = Rig::with(|settings| settings.plugins.push(entry)).await;
        let answer = rig.generate(&cat("a cat")).await;
        assert_eq!(answer.status(), 200, "{}", plugin.display());
        let decision = rig.decisions(1).await.remove(0);
        assert_eq!(decision["rules"][0]["did"], "error", "{}", plugin.display());
        let told = decision["rules"][0]["text"].as_str().unwrap();
        compare(&plugin, told, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Calls one after the other until `enough` says so; how long each took, the shortest first.
async fn lane(rig: &Rig, prompt: &str, enough: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !enough(took.len()) {
        let began = Instant::now();
        let answer = rig
            .generate(&cat(&format!("{prompt} {}", took.len())))
            .await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        took.push(began.elapsed());
    }
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_runs_away_keeps_no_other_call_waiting() {
    let rule = r#"return { on_request = function(call)
        if call:mentions("bomb") then while true do end end
    end }"#;
    let rig = Rig::with_rule(rule).await;
    let over = AtomicBool::new(false);
    let bombs = |prompt| lane(&rig, prompt, |_| over.load(Ordering::Relaxed));
    let others = async {
        let took = lane(&rig, "a cat", |calls| calls == 40).await;
        over.store(true, Ordering::Relaxed);
        took
    };
    let (one, two, others) = tokio::join!(bombs("a bomb"), bombs("another bomb"), others);
    let (bomb, other) = (one[0].min(two[0]), others[others.len() / 2]);
    assert!(
        other < bomb,
        "{other:?} for a cat beside {bomb:?} for a bomb"
    );
    for decision in rig.decisions(40 + one.len() + two.len()).await {
        let did = decision["rules"][0]["did"].as_str();
        let bomb = decision["asked"]["prompt"]
            .as_str()
            .unwrap()
            .contains("bomb");
        assert_eq!(did, bomb.then_some("error"), "{decision}");
    }
}
