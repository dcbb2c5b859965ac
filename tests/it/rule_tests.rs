//! `pixtoll test` as rule writers meet it: the shipped plugins' own tests, and what a failing one
//! says and to whom.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

struct Output {
    code: Option<i32>,
    out: String,
    err: String,
}

fn test(arguments: &[&str]) -> Output {
    let home = TempDir::new().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .arg("test")
        .args(arguments)
        .current_dir(home.path())
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("XDG_STATE_HOME")
        .output()
        .unwrap();
    Output {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn plugins() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("plugins")
}

const RULE: &str = "return { options = { to = 'stability/sd3.5-medium' },
  on_request = function(call, options) return call:route(options.to) end }";

/// Writes a test of a rule that moves every call, and runs it.
fn run(body: &str, arguments: &[&str]) -> (Output, TempDir) {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("move.lua"), RULE).unwrap();
    let file = dir.path().join("move_test.lua");
    std::fs::write(&file, body).unwrap();
    let file = file.display().to_string();
    let output = test(&[&[file.as_str()], arguments].concat());
    (output, dir)
}

const CALL: &str =
    "local d = test.rules('move.lua'):call { model = 'openai/gpt-image-2', prompt = 'a fox' }";

#[test]
fn every_shipped_plugin_passes_a_test_of_its_own() {
    let folder = plugins().display().to_string();
    let output = test(&[&folder, "--json"]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
    let told: Value = serde_json::from_str(&output.out).unwrap();
    assert_eq!(told["data"]["failed"], 0);
    let files = told["data"]["files"].as_array().unwrap();
    for name in pixtoll::plugin::shipped() {
        let ending = format!("/{name}_test.lua");
        let file = files
            .iter()
            .find(|file| file["file"].as_str().unwrap().ends_with(&ending));
        assert!(
            file.is_some_and(|file| file["cases"].as_array().unwrap().len() > 1),
            "{name}"
        );
    }
}

#[test]
fn a_case_that_fails_shows_each_difference_and_exits_with_3() {
    let body = format!(
        "test.case('moves', function()
            {CALL}
            test.expect(d, {{ sent = {{ 'openai/gpt-image-2' }}, cost = 0.01, asked = {{ n = 2 }} }})
        end)
        test.case('holds', function() {CALL} assert(d.cost == usd '0.035') end)"
    );
    let junit = TempDir::new().unwrap();
    let report = junit.path().join("report.xml");
    let (output, _dir) = run(&body, &["--junit", report.to_str().unwrap()]);
    assert_eq!(output.code, Some(3), "{}{}", output.out, output.err);
    for words in [
        "FAIL moves",
        "move_test.lua:3",
        "sent[1]: expected \"openai/gpt-image-2\", got \"stability/sd3.5-medium\"",
        "cost: expected 0.01 (money is written usd \"0.02\"), got $0.035",
        "asked.n: expected 2, got 1",
        "ok   holds",
        "2 cases, 1 failed",
    ] {
        assert!(output.out.contains(words), "no `{words}` in {}", output.out);
    }
    let xml = std::fs::read_to_string(report).unwrap();
    assert!(xml.contains("tests=\"2\" failures=\"1\""), "{xml}");
}

#[test]
fn mistakes_in_a_case_are_told_by_name_and_place() {
    for (line, words) in [
        ("test.expect(d, { cots = usd(0) })", "did you mean `cost`?"),
        (
            "test.expect(d, { asked = { modle = 'x' } })",
            "did you mean `model`?",
        ),
        ("local _ = d.atempts", "did you mean `attempts`?"),
        ("test.expect({}, {})", "wants what rules:call returned"),
        ("test.rules('mvoe.lua')", "there is no file"),
        (
            "test.rules('move.lua', { too = 'x' }):call { model = 'openai/gpt-image-2', prompt = 'x' }",
            "did you mean `to`?",
        ),
        (
            "test.rules('move.lua'):call { model = 'openai/gpt-image-2' }",
            "a model and a prompt",
        ),
        (
            "test.rules('move.lua'):call { model = 'openai/gpt-image-2', prompt = 'x', sise = '1x1' }",
            "did you mean `size`?",
        ),
        (
            "test.rules('move.lua'):call({ model = 'openai/gpt-image-2', prompt = 'x' }, { 'sad' })",
            "`sad` is no behaviour",
        ),
        (
            "test.rules('move.lua'):clock('soon')",
            "write it like \"+2h\"",
        ),
        (
            "test.rules('move.lua'):spent('day', usd(1))",
            "there is no budget `day`; give it to test.rules",
        ),
        ("test.from_log('x', 'y')", "No such file or directory"),
        ("while true do end", "took too long"),
    ] {
        let (output, _dir) = run(
            &format!("test.case('c', function()\n{CALL}\n{line}\nend)"),
            &[],
        );
        assert_eq!(output.code, Some(3), "{line}: {}{}", output.out, output.err);
        assert!(output.out.contains(words), "{line}\ngave: {}", output.out);
        assert!(
            output.out.contains("move_test.lua:3"),
            "{line}\ngave: {}",
            output.out
        );
    }
}

#[test]
fn a_file_that_is_no_test_is_wrong_usage() {
    for (body, words) in [
        ("local x = ", "move_test.lua:1"),
        ("local x = 1", "has no case"),
        ("tset.case('x', print)", "move_test.lua:1"),
    ] {
        let (output, _dir) = run(body, &[]);
        assert_eq!(output.code, Some(2), "{body}: {}{}", output.out, output.err);
        assert!(output.err.contains(words), "{body}: {}", output.err);
    }
    assert_eq!(test(&["none_test.lua"]).code, Some(2));
}

#[test]
fn the_clock_of_a_case_is_its_own() {
    let body = "local rules = test.rules('move.lua')
        local cat = { model = 'openai/gpt-image-2', prompt = 'a cat', at = '2026-11-22T23:10Z' }
        test.case('later', function()
            test.expect(rules:call(cat), { at = '2026-11-22T23:10:00.000Z' })
            rules:clock('+2h')
            cat.at = nil
            test.expect(rules:call(cat), { at = '2026-11-23T01:10:00.000Z', cache = { status = 'hit' } })
        end)
        test.case('with nothing in memory', function()
            test.expect(rules:call(cat), { cache = { status = 'miss' } })
        end)";
    let (output, _dir) = run(body, &[]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
}

/// A rule of which a test runs some lines, with a request and a log beside it.
const LINES: &str = "return {
  on_request = function(call)
    if call:tagged('hero') then
      return call:tag('kept')
    end
    return call:route('stability/sd3.5-medium')
  end,
  on_failure = function(call)
    return call:stop('no')
  end,
}";

#[test]
fn a_case_takes_a_request_of_an_app_and_a_call_of_a_log() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("move.lua", LINES);
    let asked = r#"{"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1536", "quality": "high", "n": 1}"#;
    write("asked.json", asked);
    let gemini = r#"{"contents": [{"parts": [{"text": "a red fox"}]}]}"#;
    write("gemini.json", gemini);
    // The log of a call that was really made, by another process.
    let rig = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args(args)
            .current_dir(dir.path())
            .env("HOME", dir.path())
            .env("XDG_STATE_HOME", dir.path().join("state"))
            .output()
            .unwrap()
    };
    write(
        "first_test.lua",
        "test.case('first', function()
            local d = test.rules('move.lua'):call(test.request('asked.json', 'openai', { app = 'catalog', tags = 'draft' }))
            test.expect(d, { sent = { 'stability/sd3.5-medium' }, app = 'catalog', tags = { 'draft' },
                asked = { model = 'openai/gpt-image-2', size = '1024x1536', quality = 'high', prompt = 'a fox' } })
            local of_google = test.request('gemini.json', 'gemini', { model = 'google/gemini-2.5-flash-image' })
            test.expect(test.rules('move.lua'):call(of_google), { asked = { model = 'google/gemini-2.5-flash-image', prompt = 'a red fox' } })
        end)",
    );
    let first = rig(&["test", "first_test.lua"]);
    let told = String::from_utf8(first.stdout).unwrap();
    assert_eq!(first.status.code(), Some(0), "{told}");

    let line = r#"{"v":1,"type":"call","id":"01M8GK3NEX4BY5Y28H49SQYSR1","at":"2026-11-22T23:10:00.000Z","app":"catalog","tags":["night"],"operation":"generate","asked":{"model":"openai/gpt-image-2","size":"1024x1024","quality":"medium","n":1,"tier":"standard","stream":false,"prompt":"a boat","prompt_hash":"x"}}"#;
    write(
        "log.jsonl",
        &format!("{}\n{line}\n", r#"{"v":1,"type":"notice"}"#),
    );
    write(
        "log_test.lua",
        "test.case('of yesterday', function()
            local d = test.rules('move.lua'):call(test.from_log('log.jsonl', '01M8GK3NEX4BY5Y28H49SQYSR1'))
            test.expect(d, { sent = { 'stability/sd3.5-medium' }, app = 'catalog', tags = { 'night' }, at = '2026-11-22T23:10:00.000Z',
                asked = { size = '1024x1024', quality = 'medium', prompt = 'a boat' } })
        end)",
    );
    let of_log = rig(&["test", "log_test.lua"]);
    let told = String::from_utf8(of_log.stdout).unwrap();
    assert_eq!(of_log.status.code(), Some(0), "{told}");
}

#[test]
fn coverage_tells_the_lines_that_no_case_has_run() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("move.lua"), LINES).unwrap();
    let file = dir.path().join("move_test.lua");
    std::fs::write(&file, format!("test.case('moves', function() {CALL} end)")).unwrap();
    let file = file.display().to_string();
    let output = test(&[&file, "--coverage"]);
    assert_eq!(output.code, Some(0), "{}{}", output.out, output.err);
    let expected = "move.lua: 2 of 4 hook lines ran; not lines 4, 9";
    assert!(output.out.contains(expected), "{}", output.out);
}

#[test]
fn watching_runs_the_tests_again_when_a_rule_changes() {
    let dir = TempDir::new().unwrap();
    let rule = dir.path().join("move.lua");
    std::fs::write(&rule, LINES).unwrap();
    let file = dir.path().join("move_test.lua");
    let body = format!(
        "test.case('moves', function() {CALL} test.expect(d, {{ sent = {{ 'stability/sd3.5-medium' }} }}) end)"
    );
    std::fs::write(&file, body).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
        .args(["test", "--watch"])
        .arg(&file)
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let err = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut lines = std::io::BufRead::lines(out).map_while(Result::ok);
    let mut said = std::io::BufRead::lines(err).map_while(Result::ok);
    assert!(lines.any(|line| line.contains("all hold")));
    assert!(said.any(|line| line.contains("waiting for a change")));
    std::fs::write(&rule, LINES.replace("sd3.5-medium", "stable-image-core")).unwrap();
    assert!(lines.any(|line| line.contains("got \"stability/stable-image-core\"")));
    assert!(lines.any(|line| line.contains("1 failed")));
    child.kill().unwrap();
    child.wait().unwrap();
}
