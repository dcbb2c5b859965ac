//! `pixtoll price` and `pixtoll prices` as people meet them: the built program, its words and
//! its exit codes.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A machine on which nothing is configured.
struct Desk {
    dir: TempDir,
}

struct Output {
    code: i32,
    out: String,
    err: String,
}

impl Output {
    fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err));
        let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["command", "data", "ok", "problems", "v"], "{value}");
        assert_eq!(value["v"], 1);
        assert_eq!(value["ok"], self.code == 0, "{value}");
        value
    }

    #[track_caller]
    fn expect(self, code: i32) -> Output {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self
    }

    #[track_caller]
    fn says(&self, words: &[&str]) {
        let all = format!("{}{}", self.out, self.err);
        for word in words {
            assert!(all.contains(word), "no `{word}` in\n{all}");
        }
    }
}

impl Desk {
    fn new() -> Desk {
        Desk {
            dir: TempDir::new().unwrap(),
        }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state/pixtoll")
    }

    fn log(&self, lines: &[Value]) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.file("state/pixtoll/decisions.jsonl", &text);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pixtoll"))
            .args(arguments)
            .current_dir(self.dir.path())
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.dir.path().join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that reads nothing may have closed it already.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A price file of one model.
fn row(model: &str, price: &str, as_of: &str) -> String {
    format!(
        "- model: {model}\n  capability: {{operations: [generate], sizes: [1024x1024], usual: 1024x1024, max_n: 10}}\n  price: {{per_image: {price}}}\n  source: the studio\n  as_of: {as_of}\n"
    )
}

fn book(rows: &[String]) -> String {
    format!("models:\n{}", rows.concat())
}

/// A line of the decision log: one attempt that was charged.
fn call(id: &str, model: &str, quote: f64, charge: f64) -> Value {
    let now = jiff::Timestamp::now();
    json!({"v": 1, "type": "call", "id": id, "at": format!("{now:.3}"), "operation": "generate",
        "asked": {"stream": false, "prompt": "a fox", "inputs": []},
        "decided": {"size": "1024x1024", "quality": null, "n": 1, "steps": null, "format": null},
        "attempts": [{"i": 1, "model": model, "tier": "standard", "billed": "yes",
            "quote": quote, "quote_high": quote, "charge": charge, "charge_from": "reported",
            "images": 1, "codes": {"usage.credits": "9"}}]})
}

#[test]
fn a_request_in_words_is_quoted_and_ranked() {
    let desk = Desk::new();
    let shown = desk.run(&["price", "dall-e-3 1024x1024 hd n=4"]).expect(0);
    shown.says(&[
        "openai/dall-e-3",
        "$0.32",
        "retired since 2026-05-12; openai/gpt-image-2 follows it",
        "cheapest first",
        "loses quality",
        "retired 2026-10-23",
    ]);
    assert!(!shown.out.contains('\x1b'), "colour only on a terminal");

    let told = desk
        .run(&["price", "dall-e-3 1024x1024 hd n=4", "--json"])
        .expect(0);
    let told = told.json();
    let data = &told["data"];
    assert_eq!(told["command"], "price");
    assert_eq!(data["model"], "openai/dall-e-3");
    assert_eq!(
        data["quote"],
        json!({"low": 0.32, "expected": 0.32, "high": 0.32,
            "lines": [{"what": "image", "count": 4, "amount": 0.32}]})
    );
    assert_eq!(data["retired"], true);
    let others = data["others"].as_array().unwrap();
    let prices: Vec<f64> = others
        .iter()
        .filter_map(|other| other["quote"]["expected"].as_f64())
        .collect();
    assert!(prices.len() > 5 && prices.is_sorted(), "{prices:?}");
    let gone = others
        .iter()
        .find(|other| other["model"] == "openai/dall-e-2");
    assert_eq!(gone.unwrap()["retired"], true);
    // What a book knows and what this version can send are two things.
    shown.says(&["priced only: this version cannot speak to it"]);
    let reachable = |model: &str| {
        let other = others.iter().find(|other| other["model"] == model);
        other.unwrap()["reachable"] == true
    };
    assert!(reachable("stability/sd3.5-medium") && !reachable("luma/photon-1"));
}

#[test]
fn keeping_and_fetching_the_pictures_is_priced_too() {
    let desk = Desk::new();
    let asked = [
        "price",
        "gpt-image-2 1024x1024 low n=100",
        "--keep",
        "s3/us-east-1",
        "--days",
        "90",
        "--fetches",
        "20",
        "--bytes",
        "2000000",
    ];
    // 100 of 2 MB for three months at 0.023 and 100 writes; 2,000 fetches of 2 MB at 0.09 and the reads.
    desk.run(&asked)
        .expect(0)
        .says(&["and $0.3751 to keep: s3/us-east-1"]);
    let told = desk
        .run(&[&asked[..], &["--json"]].concat())
        .expect(0)
        .json();
    let keeping = &told["data"]["keeping"];
    assert_eq!(keeping["kept"], json!(0.0143), "{keeping}");
    assert_eq!(keeping["fetched"], json!(0.3608));
    assert_eq!(keeping["total"], json!(0.3751));
    let usual = desk
        .run(&[
            "price",
            "gpt-image-2 1024x1024 low",
            "--keep",
            "r2",
            "--json",
        ])
        .expect(0)
        .json();
    assert_eq!(usual["data"]["keeping"]["bytes"], 1_600_000);
    desk.run(&["price", "gpt-image-2", "--keep", "attic"])
        .expect(2)
        .says(&["no store `attic`", "s3/us-east-1", "stores"]);
    desk.run(&["prices", "list", "--stores"])
        .expect(0)
        .says(&["gcs/us-central1", "0.12", "r2"]);
    let listed = desk
        .run(&["prices", "list", "s3", "--stores", "--json"])
        .expect(0)
        .json();
    assert_eq!(listed["data"][0]["per_gb_month"], json!(0.023));
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
}

#[test]
fn what_a_row_notes_is_shown_with_its_price() {
    let desk = Desk::new();
    let shown = desk
        .run(&["price", "google/gemini-3.1-flash-image"])
        .expect(0);
    shown.says(&["retired since 2026-10-29", "on Vertex until 2027-05-28"]);
}

#[test]
fn the_same_question_has_the_same_answer() {
    let desk = Desk::new();
    let ask = || desk.run(&["price", "gpt-image-2", "high", "--json"]).out;
    assert_eq!(ask(), ask());
    let list = || desk.run(&["prices", "list"]).out;
    assert_eq!(list(), list());
}

#[test]
fn a_file_may_hold_the_words() {
    let desk = Desk::new();
    let file = desk.file("spec.txt", "sd3.5-medium\n16:9 seed=7\n");
    let asked = desk
        .run(&["price", &format!("@{file}"), "--json"])
        .expect(0);
    assert_eq!(asked.json()["data"]["quote"]["expected"], 0.035);
    let piped = desk.run_with(&["price", "@-", "--json"], "sd3.5-medium 16:9 seed=7");
    assert_eq!(piped.expect(0).out, asked.out);
}

#[test]
fn a_request_as_an_app_sends_it_is_quoted() {
    let desk = Desk::new();
    let body = json!({"model": "gpt-image-2", "prompt": "a fox", "size": "1024x1024",
        "quality": "low", "n": 2});
    let file = desk.file("request.json", &body.to_string());
    let data = desk
        .run(&["price", "--like", &file, "--json"])
        .expect(0)
        .json();
    let data = &data["data"];
    assert_eq!(data["model"], "openai/gpt-image-2");
    assert_eq!(data["request"]["n"], 2);
    assert_eq!(data["request"]["prompt_bytes"], 5);

    let more = desk
        .run(&["price", "--like", &file, "n=4", "--json"])
        .expect(0)
        .json();
    assert_eq!(more["data"]["request"]["n"], 4);
    assert_eq!(more["data"]["request"]["quality"], "low");

    let form = "--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na fox\r\n--b--\r\n";
    let file = desk.file("form.txt", form);
    let url = "https://api.stability.ai/v2beta/stable-image/generate/ultra";
    let data = desk
        .run(&["price", "--like", &file, "--url", url, "--json"])
        .expect(0)
        .json();
    assert_eq!(data["data"]["model"], "stability/stable-image-ultra");
    assert_eq!(data["data"]["quote"]["expected"], 0.08);

    let broken = desk.file("broken.json", "{\"model\": 7}");
    let refused = desk.run(&["price", "--like", &broken]).expect(2);
    refused.says(&["broken.json", "--url", "--dialect"]);
    desk.run(&["price", "--like", "nowhere.json"])
        .expect(2)
        .says(&["nowhere.json"]);
}

#[test]
fn of_an_apps_own_fields_only_those_are_shown_that_the_price_depends_on() {
    let desk = Desk::new();
    let recorded = |name: &str| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/dialect");
        format!("{root}/{name}/request.http")
    };
    let like = |name: &str, more: &[&str]| {
        let file = recorded(name);
        desk.run(&[&["price", "--like", &file], more].concat())
            .expect(0)
    };
    let shown = like("bfl/submit-with-a-webhook", &[]);
    shown.says(&["bfl/flux-3-image  16:9 2k  ×1"]);
    assert!(!shown.out.contains("s3cr3t"), "{}", shown.out);
    let told = like("bfl/submit-with-a-webhook", &["--json"]).json();
    assert_eq!(told["data"]["request"]["extra"], json!({}));
    let told = like("ideogram/v3-transparent", &["--json"]).json();
    assert_eq!(
        told["data"]["request"]["extra"],
        json!({"upscale_factor": "X2"})
    );
}

#[test]
fn a_wrong_word_is_told_which_there_are() {
    let desk = Desk::new();
    desk.run(&["price", "dale-3"])
        .expect(2)
        .says(&["did you mean openai/dall-e-3"]);
    let refused = desk.run(&["price", "dall-e-3 hdd"]).expect(2);
    refused.says(&[
        "`hdd` is no word of a request",
        "did you mean `hd`?",
        "low, medium",
    ]);
    let refused = desk
        .run(&["price", "dall-e-3 hdd", "--json"])
        .expect(2)
        .json();
    assert_eq!(refused["data"], Value::Null);
    assert_eq!(refused["problems"][0]["code"], "bad_spec");
    assert!(refused["problems"][0]["remedy"].is_string());
    desk.run(&["price"]).expect(2).says(&["no model is named"]);
    desk.run(&["price", "dall-e-3", "--on", "tomorrow"])
        .expect(2)
        .says(&["2026-11-22"]);
}

#[test]
fn prices_of_ones_own_count() {
    let desk = Desk::new();
    let own = desk.file(
        "mine.yaml",
        &book(&[row("studio/sdxl", "0.001", "2026-11-20")]),
    );
    let set = format!("prices=[{own}]");
    let told = desk
        .run(&["price", "sdxl n=3", "--set", &set, "--json"])
        .expect(0)
        .json();
    assert_eq!(told["data"]["quote"]["expected"], 0.003);
    desk.run(&["price", "sdxl"])
        .expect(2)
        .says(&["does not know a model `sdxl`"]);
    desk.run(&["prices", "list", "studio", "--set", &set])
        .expect(0)
        .says(&["studio/sdxl", "$0.001"]);
    let config = desk.file("other.yaml", "prices: [mine.yaml]\n");
    desk.run(&["--config", &config, "prices", "show", "sdxl"])
        .expect(0)
        .says(&["the studio"]);
}

#[test]
fn the_book_is_listed_and_shown() {
    let desk = Desk::new();
    let listed = desk
        .run(&["prices", "list", "--provider", "openai", "--json"])
        .expect(0)
        .json();
    let models = listed["data"].as_array().unwrap();
    assert!(models.iter().all(|model| model["provider"] == "openai"));
    let dalle = models
        .iter()
        .find(|model| model["model"] == "openai/dall-e-3");
    let dalle = dalle.unwrap();
    assert_eq!(dalle["price"], json!({"from": 0.04, "to": 0.08}));
    assert_eq!(
        (&dalle["retired"], &dalle["retired_on"]),
        (&json!(true), &json!("2026-05-12"))
    );

    let shown = desk.run(&["prices", "show", "sd3-medium"]).expect(0);
    shown.says(&[
        "stability/sd3.5-medium",
        "negative prompt",
        "$0.035",
        "always",
        "in force",
    ]);
    let shown = desk
        .run(&["prices", "show", "sd3-medium", "--json"])
        .expect(0)
        .json();
    assert_eq!(shown["data"]["capability"]["max_n"], 1);
    assert_eq!(shown["data"]["history"][0]["current"], true);
    desk.run(&["prices", "show", "sd9"]).expect(2);
}

#[test]
fn a_models_prices_over_time_are_shown() {
    let desk = Desk::new();
    let old = row("studio/sdxl", "0.01", "2026-01-01") + "  valid_to: 2026-06-01\n";
    let new = row("studio/sdxl", "0.02", "2026-06-01") + "  valid_from: 2026-06-01\n";
    let file = desk.file("mine.yaml", &book(&[old, new]));
    let set = format!("prices=[{file}]");
    desk.run(&["prices", "show", "sdxl", "--set", &set])
        .expect(0)
        .says(&["before 2026-06-01", "from 2026-06-01"]);
    let on = |day: &str| {
        let told = desk.run(&["price", "sdxl", "--on", day, "--set", &set, "--json"]);
        told.expect(0).json()["data"]["quote"]["expected"].clone()
    };
    assert_eq!(
        (on("2026-05-31"), on("2026-06-01")),
        (json!(0.01), json!(0.02))
    );
}

#[test]
fn two_books_are_compared_and_past_calls_quoted_again() {
    let desk = Desk::new();
    let day = "2026-11-20";
    let old = [row("a/one", "0.04", day), row("a/gone", "0.01", day)];
    let new = [row("a/one", "0.05", day), row("a/new", "0.02", day)];
    let (old, new) = (
        desk.file("old.yaml", &book(&old)),
        desk.file("new.yaml", &book(&new)),
    );
    desk.log(&[
        call("1", "a/one", 0.04, 0.04),
        call("2", "a/one", 0.04, 0.04),
    ]);
    let shown = desk.run(&["prices", "diff", &old, &new]).expect(0);
    shown.says(&[
        "+ a/new",
        "- a/gone",
        "~ a/one  price",
        "$0.04 → $0.05",
        "1 added, 1 removed, 1 changed",
        "2 quoted again, $0.08 becomes $0.10 (+$0.02)",
    ]);
    let told = desk
        .run(&["prices", "diff", &old, &new, "--json"])
        .expect(0)
        .json();
    let data = &told["data"];
    assert_eq!(data["added"], json!(["a/new"]));
    assert_eq!(data["removed"], json!(["a/gone"]));
    assert_eq!(
        data["changed"],
        json!([{"model": "a/one", "parts": ["price"],
            "quotes": [{"what": "1024x1024", "old": 0.04, "new": 0.05}]}])
    );
    assert_eq!(data["effect"]["difference"], 0.02);

    desk.run(&["prices", "diff", "shipped", "current"])
        .expect(0)
        .says(&["say the same"]);
    desk.run(&["prices", "diff", "shipped", &new])
        .expect(0)
        .says(&["2 added, 0 removed"]);
    desk.run(&["prices", "diff", "shipped", "none.yaml"])
        .expect(2)
        .says(&["none.yaml"]);
}

#[test]
fn every_mistake_of_a_file_is_found() {
    let desk = Desk::new();
    let good = desk.file("good.yaml", &book(&[row("a/one", "0.04", "2026-11-20")]));
    desk.run(&["prices", "lint", &good])
        .expect(0)
        .says(&["in order, 1 models"]);
    let bad = book(&[row("a/one", "cheap", "yesterday")]);
    let bad = desk.file("bad.yaml", &bad);
    let found = desk.run(&["prices", "lint", &good, &bad]).expect(3);
    found.says(&["bad.yaml:4:", "bad.yaml:6:", "write an exact price"]);
    let found = desk
        .run(&["prices", "lint", &good, &bad, "--json"])
        .expect(3)
        .json();
    assert_eq!(found["problems"].as_array().map(Vec::len), Some(2));
    assert_eq!(found["problems"][0]["line"], 4);
    assert_eq!(found["data"][0]["models"], 1);
    desk.run(&["prices", "lint", "none.yaml"]).expect(2);
}

#[test]
fn nonsense_in_a_price_file_is_refused_by_check_with_file_and_line() {
    let desk = Desk::new();
    desk.file("pixtoll.yaml", "prices: [mine.yaml]\n");
    let one = |price: &str, more: &str| {
        let row = row("a/one", price, "2026-11-20");
        format!("{row}{more}")
    };
    let (one_day, two_days) = ("  valid_to: 2026-12-01\n", "  valid_from: 2026-11-15\n");
    let other = row("a/two", "0.04", "2026-11-20");
    let lines = one("0.04", "").lines().count() + 1;
    let cases = [
        (
            "a negative price",
            one("-0.04", ""),
            4,
            "is not an exact price",
        ),
        (
            "an unknown unit",
            one("0.04", "").replace("per_image", "per_furlong"),
            4,
            "no `per_furlong`",
        ),
        (
            "days that overlap",
            one("0.04", one_day) + &one("0.05", two_days),
            lines + 2,
            "already has a price for these days in line 2",
        ),
        (
            "a model twice",
            one("0.04", "") + &one("0.04", ""),
            lines + 1,
            "already has a price",
        ),
        (
            "aliases in a ring",
            one("0.04", "  aliases: [a/two]\n") + &other + "  aliases: [a/one]\n",
            lines + 1,
            "is a model of its own",
        ),
    ];
    for (what, rows, line, words) in cases {
        desk.file("mine.yaml", &book(&[rows]));
        let refused = desk.run(&["check"]);
        assert_eq!(refused.code, 2, "{what}: {}{}", refused.out, refused.err);
        refused.says(&[&format!("mine.yaml:{line}:"), words]);
    }
    desk.file("mine.yaml", &book(&[one("0.04", "")]));
    desk.run(&["check"]).expect(0);
}

#[test]
fn old_prices_are_told() {
    let desk = Desk::new();
    let own = desk.file(
        "mine.yaml",
        &book(&[row("studio/sdxl", "0.01", "2020-01-01")]),
    );
    let set = format!("prices=[{own}]");
    let aged = desk
        .run(&["prices", "age", "--days", "1000", "--set", &set])
        .expect(3);
    aged.says(&["studio/sdxl", "2020-01-01", "the studio"]);
    let told = desk
        .run(&["prices", "age", "--days", "1000", "--set", &set, "--json"])
        .expect(3);
    assert_eq!(told.json()["data"]["old"][0]["model"], "studio/sdxl");
    desk.run(&["prices", "age", "--days", "36500", "--set", &set])
        .expect(0);
}

#[test]
fn charges_that_leave_their_quotes_are_told() {
    let desk = Desk::new();
    desk.run(&["prices", "drift"])
        .expect(0)
        .says(&["no charges beside quotes"]);
    let model = "stability/sd3.5-medium";
    desk.log(&[
        call("1", model, 0.035, 0.035),
        call("2", model, 0.035, 0.0351),
    ]);
    let drift = desk.run(&["prices", "drift"]).expect(3);
    drift.says(&["drifts", "+$0.0001", "usage.credits 9", "image 1 $0.035"]);
    let told = desk.run(&["prices", "drift", "--json"]).expect(3).json();
    let sums = &told["data"]["models"][0];
    assert_eq!(
        (&sums["calls"], &sums["discrepancies"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(sums["difference"], 0.0001);
    assert_eq!(told["data"]["biggest"][0]["id"], "2");
    desk.log(&[
        call("1", model, 0.035, 0.035),
        call("2", model, 0.035, 0.0349),
    ]);
    desk.run(&["prices", "drift"]).expect(0);
}

#[test]
fn an_update_is_looked_at_before_it_counts() {
    let desk = Desk::new();
    let new = desk.file(
        "new.yaml",
        &book(&[row("studio/sdxl", "0.01", "2026-11-20")]),
    );
    let kept = desk.state().join("prices.yaml");
    let seen = desk.run(&["prices", "update", &new]).expect(3);
    seen.says(&["+ studio/sdxl", "not written: add --yes"]);
    assert!(!kept.exists());

    let told = desk
        .run(&["prices", "update", &new, "--yes", "--json"])
        .expect(0)
        .json();
    assert_eq!(told["data"]["written"], true);
    assert_eq!(told["data"]["change"]["added"], json!(["studio/sdxl"]));
    assert!(kept.exists());
    desk.run(&["price", "sdxl"]).expect(0).says(&["$0.01"]);
    desk.run(&["prices", "update", &new])
        .expect(0)
        .says(&["nothing to write"]);

    let slip = desk.file("slip.yaml", &book(&[row("studio/sdxl", "1", "2026-11-21")]));
    let refused = desk.run(&["prices", "update", &slip, "--yes"]).expect(1);
    refused.says(&[
        "studio/sdxl cost $0.01 a picture and would now cost $1.00",
        "--force",
    ]);
    desk.run(&["price", "sdxl"]).expect(0).says(&["$0.01"]);
    desk.run(&["prices", "update", &slip, "--yes", "--force"])
        .expect(0);
    desk.run(&["price", "sdxl"]).expect(0).says(&["$1.00"]);

    // How a provider's answers are read is a price too.
    let words = "providers:\n- {provider: studio, failures: {safety: yes}, source: here, as_of: 2026-11-20}\n";
    let reads = desk.file(
        "reads.yaml",
        &format!("{words}{}", book(&[row("studio/sdxl", "1", "2026-11-21")])),
    );
    desk.run(&["prices", "update", &reads, "--yes"])
        .expect(0)
        .says(&["~ provider studio  added", "written"]);

    let broken = desk.file("broken.yaml", "models: [{model: x}]\n");
    let refused = desk.run(&["prices", "update", &broken, "--yes"]).expect(1);
    refused.says(&["broken.yaml:1:"]);
    desk.run(&["price", "sdxl"]).expect(0).says(&["$1.00"]);
}

#[test]
fn an_update_that_would_lose_a_tenth_of_the_models_is_refused() {
    let desk = Desk::new();
    let rows: Vec<String> = (0..20)
        .map(|place| row(&format!("studio/m{place}"), "0.01", "2026-11-20"))
        .collect();
    let all = desk.file("all.yaml", &book(&rows));
    desk.run(&["prices", "update", &all, "--yes"]).expect(0);
    let few = desk.file("few.yaml", &book(&rows[..3]));
    let refused = desk
        .run(&["prices", "update", &few, "--yes", "--json"])
        .expect(1)
        .json();
    assert_eq!(refused["data"]["written"], false);
    assert_eq!(refused["problems"][0]["code"], "objection");
}

/// Answers one request with `answer`, and says where.
fn serve_once(answer: String) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
    });
    format!("http://{address}/prices.yaml")
}

#[test]
fn an_update_comes_over_the_network_too() {
    let desk = Desk::new();
    let text = book(&[row("studio/sdxl", "0.01", "2026-11-20")]);
    let length = text.len();
    let url = serve_once(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}"
    ));
    desk.run(&["prices", "update", &url, "--yes"])
        .expect(0)
        .says(&["+ studio/sdxl"]);
    let url = serve_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned());
    desk.run(&["prices", "update", &url])
        .expect(1)
        .says(&["404"]);
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n";
    let url = serve_once(moved.to_owned());
    desk.run(&["prices", "update", &url])
        .expect(1)
        .says(&["moved to http://evil.example/"]);
    let plain = desk
        .run(&["prices", "update", "http://prices.example/p.yaml"])
        .expect(1);
    plain.says(&["use https"]);
}

#[test]
fn every_command_has_help_with_an_example() {
    let desk = Desk::new();
    desk.run(&["price", "--help"])
        .expect(0)
        .says(&["Example:", "n=4"]);
    for command in ["list", "show", "diff", "update", "lint", "age", "drift"] {
        let help = desk.run(&["prices", command, "--help"]).expect(0);
        help.says(&["Example:", &format!("pixtoll prices {command}")]);
    }
}
