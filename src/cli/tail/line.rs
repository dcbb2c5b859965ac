//! One line of the decision log as one line for people.
//!
//! Time, app, what was asked, what happened, charge, saving, duration, then the prompt and what
//! the rules say. A sign opens what happened, so that the line reads without colour: `●` from
//! memory, `→` changed, `↻` sent more than once, `✓` sent as asked, `✗` no picture.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::cli::paint::{Ink, Row, columns, tame};
use crate::money::Usd;

/// How a line looks.
#[derive(Clone, Debug)]
pub struct Style {
    pub color: bool,
    /// In columns; no line is wider.
    pub width: usize,
    /// In which times are told.
    pub zone: TimeZone,
    /// Rules, failures, what was lost and what to do follow beneath, each on a line of its own.
    pub why: bool,
}

impl Style {
    /// Without colour, 120 columns, UTC.
    pub fn plain() -> Style {
        Style {
            color: false,
            width: 120,
            zone: TimeZone::UTC,
            why: false,
        }
    }
}

/// Columns that the width decides: beyond 120 the texts grow with the prompt, below 102 there is
/// no prompt and the texts shrink, below 90 seconds go too.
struct Widths {
    time: &'static str,
    app: usize,
    asked: usize,
    what: usize,
}

impl Widths {
    fn of(width: usize) -> Widths {
        let wide = width.saturating_sub(120);
        let narrow = 102usize.saturating_sub(width);
        let text = 26 + (wide / 4).min(14) - (narrow / 2).min(8);
        let small = width < 90;
        Widths {
            time: if small { "%H:%M" } else { "%H:%M:%S" },
            app: if width < 90 {
                7
            } else {
                9 + (wide / 10).min(5)
            },
            asked: text,
            what: text,
        }
    }
}

/// One line of the log for people, without a newline at its end.
pub fn line(line: &Value, style: &Style) -> String {
    let mut row = Row::new(style.width, style.color);
    let widths = Widths::of(style.width);
    let time = clock(line, widths.time, &style.zone);
    row.put(&time, columns(&time), Ink::Dim);
    row.gap(1);
    match line["type"].as_str() {
        Some("call") => call(line, &mut row, &widths),
        Some("amend") => {
            row.cell("amend", widths.app, Ink::Yellow);
            row.gap(2);
            let rest = row.left();
            row.put(&amended(line), rest, Ink::Plain);
        }
        _ => notice(line, &mut row, &widths),
    }
    let mut text = row.finish();
    if style.why && line["type"] == "call" {
        for detail in details(line) {
            let mut row = Row::new(style.width, style.color);
            row.gap(columns(&time) + 1 + widths.app + 2);
            let rest = row.left();
            row.put(&format!("↳ {detail}"), rest, Ink::Dim);
            text.push('\n');
            text.push_str(&row.finish());
        }
    }
    text
}

fn call(line: &Value, row: &mut Row, widths: &Widths) {
    row.cell(&word(line, "/app"), widths.app, Ink::Cyan);
    row.gap(2);
    row.cell(&asked(line, widths.asked), widths.asked, Ink::Plain);
    row.gap(2);
    let (what, ink) = happened(line, widths.what);
    row.cell(&what, widths.what, ink);
    row.gap(2);
    let free = line["cost"] == 0 && line["cost_exact"] == true;
    row.right(&charge(line), 8, if free { Ink::Plain } else { Ink::Bold });
    row.gap(1);
    let (saved, ink) = saved(line);
    row.right(&saved, 8, ink);
    row.gap(1);
    row.right(&duration(line["ms"].as_u64().unwrap_or(0)), 6, Ink::Dim);
    row.gap(2);
    remarks(line, row);
}

/// The prompt, then what the rules say, as far as there is room.
fn remarks(line: &Value, row: &mut Row) {
    let rules: Vec<String> = each(line, "/rules")
        .map(|rule| word(rule, "/text"))
        .collect();
    let prompt = word(line, "/asked/prompt");
    let mut rest = row.left();
    if !prompt.is_empty() {
        // Rules are why one looks at this line: the prompt leaves them at least half the room.
        let most = if rules.is_empty() { rest } else { rest / 2 };
        let quoted = if columns(&prompt) + 2 <= most {
            format!("\"{prompt}\"")
        } else {
            format!("\"{prompt}")
        };
        rest -= row.put(&quoted, most, Ink::Plain);
        row.gap(2);
    }
    row.put(&rules.join("; "), rest, Ink::Dim);
}

fn clock(line: &Value, format: &str, zone: &TimeZone) -> String {
    line["at"]
        .as_str()
        .and_then(|at| at.parse::<Timestamp>().ok())
        .map_or_else(
            || format.replace('%', "?").replace(['H', 'M', 'S'], "?"),
            |at| at.to_zoned(zone.clone()).strftime(format).to_string(),
        )
}

/// A text of the line, made harmless; empty where there is none.
fn word(value: &Value, path: &str) -> String {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .map(tame)
        .unwrap_or_default()
}

fn each<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(path)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// `openai/gpt-image-2 1024² high ×2`; where there is no room without the provider, then without
/// the quality.
fn asked(line: &Value, room: usize) -> String {
    let asked = &line["asked"];
    let operation = word(line, "/operation");
    let operation = if operation == "generate" {
        ""
    } else {
        &operation
    };
    let (model, size, times) = (
        word(asked, "/model"),
        size(&word(asked, "/size")),
        times(asked),
    );
    let quality = word(asked, "/quality");
    let whole = joined(&[&model, &size, &quality, &times, operation]);
    if columns(&whole) <= room {
        return whole;
    }
    let name = name(&model);
    let shorter = joined(&[name, &size, &quality, &times, operation]);
    if columns(&shorter) <= room {
        return shorter;
    }
    joined(&[name, &size, &times, operation])
}

fn joined(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_empty())
        .collect();
    parts.join(" ")
}

/// A model's name without its provider.
fn name(model: &str) -> &str {
    model.split_once('/').map_or(model, |(_, name)| name)
}

/// A square is told by its side.
fn size(text: &str) -> String {
    match text.split_once('x') {
        Some((width, height)) if width == height => format!("{width}²"),
        _ => text.to_owned(),
    }
}

fn times(request: &Value) -> String {
    match request["n"].as_u64() {
        Some(n) if n > 1 => format!("×{n}"),
        _ => String::new(),
    }
}

/// What became of the call; models without their provider where there is no room.
fn happened(line: &Value, room: usize) -> (String, Ink) {
    let (whole, ink) = fate(line, &word(line, "/answered/model"));
    if columns(&whole) <= room {
        return (whole, ink);
    }
    fate(line, name(&word(line, "/answered/model")))
}

/// What became of the call, its answer's model written as `model`.
fn fate(line: &Value, model: &str) -> (String, Ink) {
    let (sign, mut text, ink) = if line["answered"].is_object() {
        answered(line, model)
    } else if line["error"].is_object() {
        refused(line)
    } else {
        ("✗", "no answer".to_owned(), Ink::Red)
    };
    match line["answered"]["delivered"].as_str() {
        Some("no") => text.push_str(", nobody waited"),
        Some("partly") => text.push_str(", caller left"),
        _ => {}
    }
    if let Some(would) = would(line) {
        text.push_str(&would);
    }
    (format!("{sign} {text}"), ink)
}

fn answered(line: &Value, model: &str) -> (&'static str, String, Ink) {
    let attempts = each(line, "/attempts").count();
    match line["answered"]["from"].as_str() {
        Some("cache") => {
            let age = line["cache"]["age_s"].as_u64();
            let old = age.map(|age| format!(", {} old", self::age(age)));
            let hit = format!("hit{}", old.unwrap_or_default());
            ("●", hit, Ink::Green)
        }
        Some("collapsed") => ("●", "collapsed".to_owned(), Ink::Green),
        Some("plugin") => ("●", format!("from {}", ruled(line, "answer")), Ink::Green),
        _ => {
            let changes = changes(line, model);
            let again = match attempts {
                0 | 1 => String::new(),
                n => format!("retried {}×", n - 1),
            };
            match (changes.is_empty(), again.is_empty()) {
                (true, true) => ("✓", "sent".to_owned(), Ink::Plain),
                (true, false) => ("↻", again, Ink::Yellow),
                (false, true) => ("→", changes, Ink::Cyan),
                (false, false) => ("→", format!("{changes}, {again}"), Ink::Yellow),
            }
        }
    }
}

/// What was sent otherwise than it was asked; empty when nothing was, and in observe mode.
fn changes(line: &Value, model: &str) -> String {
    if line["mode"] == "observe" {
        return String::new();
    }
    differences(line, "answered", model)
}

/// `made` is the part of the line that has the model, `model` how it is written.
fn differences(line: &Value, made: &str, model: &str) -> String {
    let (asked, decided) = (&line["asked"], &line["decided"]);
    let mut parts = Vec::new();
    if asked["model"] != line[made]["model"] {
        parts.push(model.to_owned());
    }
    for (field, shown) in [
        ("size", size(&word(decided, "/size"))),
        ("quality", word(decided, "/quality")),
        ("tier", word(decided, "/tier")),
        ("steps", format!("{} steps", decided["steps"])),
        ("n", format!("×{}", decided["n"])),
    ] {
        if asked[field] != decided[field] && !decided[field].is_null() {
            parts.push(shown);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

/// In observe mode, what enforcing would have come to.
fn would(line: &Value) -> Option<String> {
    let would = line["would"].as_object()?;
    Some(match would["cache"].as_str() {
        Some("hit") => "; would hit".to_owned(),
        Some("collapsed") => "; would collapse".to_owned(),
        _ => {
            let other = differences(line, "decided", &word(line, "/decided/model"));
            if other.is_empty() {
                return None;
            }
            format!("; would → {other}")
        }
    })
}

fn refused(line: &Value) -> (&'static str, String, Ink) {
    let text = match line["error"]["by"].as_str() {
        Some("budget") => {
            let name = each(line, "/budgets").find(|budget| budget["did"] == "refused");
            format!(
                "over budget {}",
                name.map(|b| word(b, "/name")).unwrap_or_default()
            )
        }
        Some("plugin") => format!("refused by {}", ruled(line, "refuse")),
        _ => {
            let kind = word(line, "/error/kind").replace('_', " ");
            match each(line, "/attempts").count() {
                0 => format!("{kind}, never sent"),
                1 => kind,
                n => format!("{kind}, after {n} attempts"),
            }
        }
    };
    ("✗", text.trim_end().to_owned(), Ink::Red)
}

/// The plugin whose rule did that.
fn ruled(line: &Value, did: &str) -> String {
    each(line, "/rules")
        .find(|rule| rule["did"] == did)
        .map_or_else(|| "a plugin".to_owned(), |rule| word(rule, "/plugin"))
}

fn money(value: &Value) -> Option<Usd> {
    serde_json::from_value(value.clone()).ok()
}

/// Four decimals are enough for people, six where there is nothing in four.
fn short(amount: Usd) -> String {
    let unit = if amount.nano().unsigned_abs() >= 1_000_000 {
        100_000
    } else {
        1_000
    };
    let half = unit / 2 * amount.nano().signum();
    let rounded = amount.nano().saturating_add(half) / unit * unit;
    Usd::from_nano(rounded).pretty()
}

/// `~` where a charge is missing or uncertain, `?` where nothing is known.
fn charge(line: &Value) -> String {
    let exact = line["cost_exact"] == true;
    match money(&line["cost"]) {
        Some(cost) if exact => short(cost),
        Some(cost) if !cost.is_zero() => format!("~{}", short(cost)),
        _ => "?".to_owned(),
    }
}

fn saved(line: &Value) -> (String, Ink) {
    match money(&line["saved"]) {
        None => ("?".to_owned(), Ink::Dim),
        Some(saved) if saved.is_zero() => (String::new(), Ink::Plain),
        Some(saved) if saved > Usd::ZERO => (format!("+{}", short(saved)), Ink::Green),
        Some(saved) => (short(saved), Ink::Red),
    }
}

fn duration(ms: u64) -> String {
    match ms {
        0..=999 => format!("{ms} ms"),
        1_000..=59_999 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=59 => format!("{seconds}s"),
        60..=3_599 => format!("{}m", seconds / 60),
        3_600..=86_399 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn amended(line: &Value) -> String {
    let cost = money(&line["cost"]).map_or_else(|| "?".to_owned(), short);
    let attempts: Vec<String> = each(line, "/attempts")
        .map(|attempt| {
            let charge = money(&attempt["charge"]).map_or_else(|| "unpriced".to_owned(), short);
            let billed = match attempt["billed"].as_str() {
                Some("yes") => "billed",
                Some("no") => "not billed",
                _ => "perhaps billed",
            };
            format!("attempt {} {billed}, {charge}", attempt["i"])
        })
        .collect();
    let why = word(line, "/why");
    let id = word(line, "/id");
    if attempts.is_empty() {
        return format!("{why}: {id} cost {cost}");
    }
    format!("{why}: {id} cost {cost} ({})", attempts.join("; "))
}

fn notice(line: &Value, row: &mut Row, widths: &Widths) {
    let kind = match line["kind"].as_str().or_else(|| line["type"].as_str()) {
        // The long word would lose its meaning in this column.
        Some("certificate_refused") => "cert".to_owned(),
        Some(kind) => tame(kind),
        None => "?".to_owned(),
    };
    let ink = match line["level"].as_str() {
        Some("error") => Ink::Red,
        Some("warning") => Ink::Yellow,
        _ => Ink::Dim,
    };
    row.cell(&kind, widths.app, ink);
    row.gap(2);
    let sign = match ink {
        Ink::Red => "✗ ",
        Ink::Yellow => "! ",
        _ => "",
    };
    let rest = row.left();
    row.put(&format!("{sign}{}", word(line, "/text")), rest, Ink::Plain);
}

/// Everything that explains a call, a sentence a line.
fn details(line: &Value) -> Vec<String> {
    let mut all: Vec<String> = each(line, "/rules")
        .map(|rule| word(rule, "/text"))
        .collect();
    all.extend(each(line, "/attempts").filter_map(failed));
    all.extend(each(line, "/lost").map(|lost| {
        format!(
            "lost: {}, which {} cannot say",
            word(lost, "/field"),
            word(lost, "/target")
        )
    }));
    all.extend(each(line, "/unmet").map(|unmet| {
        format!(
            "wanted {}, got {} from {}",
            word(unmet, "/wish"),
            word(unmet, "/got"),
            word(unmet, "/target")
        )
    }));
    if line["error"].is_object() {
        let remedy = word(line, "/error/remedy");
        let message = word(line, "/error/message");
        all.push(if remedy.is_empty() {
            message
        } else {
            format!("{message}: {remedy}")
        });
    }
    all.extend(each(line, "/notes").filter_map(Value::as_str).map(tame));
    all.push(format!("id {}", word(line, "/id")));
    all.retain(|text| !text.is_empty());
    all
}

fn failed(attempt: &Value) -> Option<String> {
    let failure = attempt
        .get("failure")
        .filter(|failure| failure.is_object())?;
    let charged = match money(&attempt["charge"]) {
        Some(charge) if !charge.is_zero() => format!(", charged {}", short(charge)),
        _ => String::new(),
    };
    Some(format!(
        "attempt {} at {}: {}{charged}: {}",
        attempt["i"],
        word(attempt, "/model"),
        word(failure, "/kind").replace('_', " "),
        word(failure, "/message")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A call like the log's, as far as people see it, with `changes` laid over it.
    fn a_call(changes: &[(&str, Value)]) -> Value {
        let mut call = json!({
            "type": "call", "id": "01JDA9Y3D3000000000000000A", "at": "2026-11-22T18:42:07.051Z",
            "mode": "enforce", "app": "catalog", "operation": "generate",
            "asked": {"model": "openai/gpt-image-2", "size": "1024x1024", "quality": "high", "n": 1,
                "tier": "standard", "steps": null, "prompt": "a red fox in the snow"},
            "decided": {"model": "openai/gpt-image-2", "size": "1024x1024", "quality": "high", "n": 1,
                "tier": "standard", "steps": null},
            "would": null, "rules": [], "lost": [], "unmet": [], "budgets": [],
            "cache": {"status": "miss", "age_s": null},
            "attempts": [{"i": 1, "model": "openai/gpt-image-2", "failure": null, "charge": 0.167}],
            "answered": {"from": "provider", "model": "openai/gpt-image-2", "delivered": "yes"},
            "error": null, "cost": 0.167, "cost_exact": true, "saved": 0, "ms": 18_420, "notes": [],
        });
        for (path, value) in changes {
            *call.pointer_mut(path).unwrap() = value.clone();
        }
        call
    }

    #[track_caller]
    fn check(changes: &[(&str, Value)], expected: &str) {
        assert_eq!(line(&a_call(changes), &Style::plain()), expected);
    }

    fn moved() -> Vec<(&'static str, Value)> {
        vec![
            ("/answered/model", json!("stability/sd3.5-medium")),
            ("/cost", json!(0.035)),
            ("/saved", json!(0.132)),
            ("/ms", json!(2_150)),
        ]
    }

    fn error(by: &str, kind: &str) -> Value {
        json!({"by": by, "kind": kind, "status": 402, "message": "spent", "remedy": "wait"})
    }

    #[test]
    fn each_fate_of_a_call_reads_at_a_glance() {
        check(
            &[],
            "18:42:07 catalog    gpt-image-2 1024² high      ✓ sent                        $0.167          18.4 s  \"a red fox in the…",
        );
        check(
            &[
                ("/answered/from", json!("cache")),
                ("/cache/age_s", json!(200)),
                ("/attempts", json!([])),
                ("/cost", json!(0)),
                ("/saved", json!(0.167)),
                ("/ms", json!(2)),
            ],
            "18:42:07 catalog    gpt-image-2 1024² high      ● hit, 3m old                  $0.00  +$0.167   2 ms  \"a red fox in the…",
        );
        check(
            &moved(),
            "18:42:07 catalog    gpt-image-2 1024² high      → stability/sd3.5-medium      $0.035  +$0.132  2.1 s  \"a red fox in the…",
        );
        check(
            &[
                ("/answered", Value::Null),
                ("/error", error("budget", "quota")),
                ("/budgets", json!([{"name": "daily", "did": "refused"}])),
                ("/attempts", json!([])),
                ("/cost", json!(0)),
                ("/ms", json!(0)),
            ],
            "18:42:07 catalog    gpt-image-2 1024² high      ✗ over budget daily            $0.00            0 ms  \"a red fox in the…",
        );
        check(
            &[
                ("/answered", Value::Null),
                ("/error", error("provider", "rate_limited")),
                ("/attempts", json!([{}, {}, {}])),
                ("/cost", json!(0)),
                ("/cost_exact", json!(false)),
                ("/saved", Value::Null),
            ],
            "18:42:07 catalog    gpt-image-2 1024² high      ✗ rate limited, after 3 a…         ?        ? 18.4 s  \"a red fox in the…",
        );
    }

    #[track_caller]
    fn ends(changes: &[(&str, Value)], expected: &str) {
        assert_eq!(happened(&a_call(changes), 60).0, expected);
    }

    #[test]
    fn what_happened_has_words_for_everything() {
        ends(&[("/answered/from", json!("collapsed"))], "● collapsed");
        ends(&[("/attempts", json!([{}, {}, {}]))], "↻ retried 2×");
        ends(
            &[
                ("/decided/size", json!("512x512")),
                ("/decided/quality", json!("low")),
            ],
            "→ 512² low",
        );
        ends(
            &[
                ("/decided/tier", json!("flex")),
                ("/attempts", json!([{}, {}])),
            ],
            "→ flex, retried 1×",
        );
        ends(
            &[("/answered/delivered", json!("no"))],
            "✓ sent, nobody waited",
        );
        ends(
            &[
                ("/mode", json!("observe")),
                ("/would", json!({"cache": "hit", "cost": 0, "saved": 0.167})),
            ],
            "✓ sent; would hit",
        );
        ends(
            &[
                ("/mode", json!("observe")),
                ("/decided/size", json!("512x512")),
                (
                    "/would",
                    json!({"cache": "miss", "cost": 0.01, "saved": 0.157}),
                ),
            ],
            "✓ sent; would → 512²",
        );
        ends(
            &[
                ("/answered", Value::Null),
                ("/error", error("plugin", "permission")),
                (
                    "/rules",
                    json!([{"did": "refuse", "plugin": "guard", "text": ""}]),
                ),
            ],
            "✗ refused by guard",
        );
        ends(&[("/answered", Value::Null)], "✗ no answer");
    }

    #[test]
    fn what_was_asked_keeps_its_provider_where_there_is_room() {
        let many = a_call(&[
            ("/asked/n", json!(4)),
            ("/asked/size", json!("1536x1024")),
            ("/operation", json!("edit")),
        ]);
        assert_eq!(
            asked(&many, 60),
            "openai/gpt-image-2 1536x1024 high ×4 edit"
        );
        assert_eq!(asked(&many, 40), "gpt-image-2 1536x1024 high ×4 edit");
        assert_eq!(asked(&many, 30), "gpt-image-2 1536x1024 ×4 edit");
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters() {
        let mut changes = moved();
        changes.push(("/attempts", json!([{}, {}])));
        let (text, _) = happened(&a_call(&changes), 26);
        assert_eq!(text, "→ sd3.5-medium, retried 1×");
        changes[0].1 = json!("azure/gpt-image-2");
        let (text, _) = happened(&a_call(&changes), 10);
        assert_eq!(text, "→ gpt-image-2, retried 1×");
        let style = Style {
            width: 80,
            ..Style::plain()
        };
        assert_eq!(
            line(&a_call(&moved()), &style),
            "18:42 catalog  gpt-image-2 1024²   → sd3.5-medium        $0.035  +$0.132  2.1 s"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut busy = a_call(&moved());
        busy["app"] = json!("a very long name of an app");
        busy["asked"]["prompt"] = json!("狐".repeat(80));
        busy["rules"] = json!([{"text": "icons: size 512x512 ".repeat(20)}]);
        busy["notes"] = json!(["note ".repeat(100)]);
        for width in [1, 20, 60, 80, 100, 120, 161, 240] {
            let style = Style {
                width,
                why: true,
                ..Style::plain()
            };
            for line in line(&busy, &style).lines() {
                assert!(columns(line) <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn columns_stand_in_line_whatever_happened() {
        let column = |changes: &[(&str, Value)]| {
            let text = line(&a_call(changes), &Style::plain());
            columns(text.split_once('"').unwrap().0)
        };
        assert_eq!(column(&[]), column(&moved()));
        assert_eq!(column(&[]), column(&[("/answered", Value::Null)]));
        assert_eq!(column(&[]), column(&[("/app", json!("狐"))]));
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let style = Style {
            color: true,
            ..Style::plain()
        };
        let mut text = line(&a_call(&moved()), &style);
        assert!(
            text.contains("\x1b[36m→ stability/sd3.5-medium\x1b[0m"),
            "{text}"
        );
        while let Some(start) = text.find('\x1b') {
            let end = text[start..].find('m').unwrap();
            text.replace_range(start..=start + end, "");
        }
        assert_eq!(text, line(&a_call(&moved()), &Style::plain()));
    }

    #[test]
    fn rules_follow_the_prompt_where_there_is_room() {
        let mut ruled = a_call(&moved());
        ruled["rules"] = json!([{"text": "icons: to stability/sd3.5-medium (cheaper)"}]);
        let style = Style {
            width: 200,
            ..Style::plain()
        };
        let text = line(&ruled, &style);
        let remarks = "\"a red fox in the snow\"  icons: to stability/sd3.5-medium (cheap…";
        assert!(text.ends_with(remarks), "{text}");
    }

    #[test]
    fn why_has_a_line_for_each_reason() {
        let mut ruled = a_call(&moved());
        ruled["rules"] = json!([{"text": "icons: to stability/sd3.5-medium (cheaper)"}]);
        ruled["lost"] = json!([{"field": "style", "target": "stability/sd3.5-medium"}]);
        ruled["attempts"][0]["failure"] =
            json!({"kind": "no_image", "message": "an empty\nanswer"});
        let style = Style {
            why: true,
            ..Style::plain()
        };
        let text = line(&ruled, &style);
        let lines: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "↳ icons: to stability/sd3.5-medium (cheaper)",
                "↳ attempt 1 at openai/gpt-image-2: no image, charged $0.167: an empty answer",
                "↳ lost: style, which stability/sd3.5-medium cannot say",
                "↳ id 01JDA9Y3D3000000000000000A",
            ]
        );
    }

    #[test]
    fn other_lines_are_readable_too() {
        let amend = json!({
            "type": "amend", "id": "01JDA9Y3D3000000000000000A", "at": "2026-11-22T18:42:07.051Z", "why": "late",
            "attempts": [{"i": 1, "billed": "yes", "charge": 0.04}], "cost": 0.04,
        });
        assert_eq!(
            line(&amend, &Style::plain()),
            "18:42:07 amend      late: 01JDA9Y3D3000000000000000A cost $0.04 (attempt 1 billed, $0.04)"
        );
        let notice = json!({
            "type": "notice", "at": "2026-11-22T18:42:07.051Z", "kind": "reload", "level": "warning",
            "text": "icons.lua:3: syntax error",
        });
        assert_eq!(
            line(&notice, &Style::plain()),
            "18:42:07 reload     ! icons.lua:3: syntax error"
        );
    }

    #[test]
    fn amounts_are_short_and_never_round_to_nothing() {
        let check = |nano: i64, text: &str| assert_eq!(short(Usd::from_nano(nano)), text);
        check(5_945_000, "$0.0059");
        check(5_950_000, "$0.006");
        check(-5_950_000, "-$0.006");
        check(62_500, "$0.000063");
        check(0, "$0.00");
        check(25_000_000_000, "$25.00");
    }

    #[test]
    fn durations_and_ages_are_short() {
        assert_eq!(duration(999), "999 ms");
        assert_eq!(duration(59_999), "59.9 s");
        assert_eq!(duration(723_000), "12m03s");
        assert_eq!(age(59), "59s");
        assert_eq!(age(7_300), "2h");
        assert_eq!(age(200_000), "2d");
    }
}
