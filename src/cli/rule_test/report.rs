//! What rule tests came to: for people, for programs, and for CI systems.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::Ran;
use crate::app::rule_bench::Coverage;

/// How many there were.
pub(super) struct Told {
    pub(super) cases: usize,
    pub(super) failed: usize,
}

impl Told {
    pub(super) fn of(ran: &[Ran]) -> Told {
        let failures = |ran: &Ran| failures(ran);
        Told {
            cases: ran.iter().map(|ran| ran.verdicts.len()).sum(),
            failed: ran.iter().map(failures).sum(),
        }
    }
}

fn failures(ran: &Ran) -> usize {
    let verdicts = ran.verdicts.iter();
    verdicts.filter(|verdict| verdict.failure.is_some()).count()
}

pub(super) fn as_text(ran: &[Ran], told: &Told) -> String {
    let mut text = String::new();
    for ran in ran {
        let _ = writeln!(text, "{}", ran.file.display());
        for verdict in &ran.verdicts {
            let word = if verdict.failure.is_some() {
                "FAIL"
            } else {
                "ok"
            };
            let _ = writeln!(text, "  {word:4} {}", verdict.name);
            if let Some(failure) = &verdict.failure {
                let at = failure.at.as_deref().unwrap_or_default();
                let _ = writeln!(text, "       {at}");
                for line in failure.message.lines().filter(|line| !line.is_empty()) {
                    let _ = writeln!(text, "       {}", line.trim_start());
                }
            }
        }
    }
    let plural = if told.cases == 1 { "" } else { "s" };
    let _ = match told.failed {
        0 => writeln!(text, "{} case{plural}, all hold", told.cases),
        failed => writeln!(text, "{} case{plural}, {failed} failed", told.cases),
    };
    text
}

pub(super) fn as_json(ran: &[Ran], told: &Told) -> Value {
    let files: Vec<Value> = ran
        .iter()
        .map(|ran| {
            let cases: Vec<Value> = ran
                .verdicts
                .iter()
                .map(|verdict| {
                    let failure = verdict.failure.as_ref();
                    json!({
                        "name": verdict.name,
                        "ok": failure.is_none(),
                        "message": failure.map(|failure| failure.message.trim()),
                        "at": failure.and_then(|failure| failure.at.as_deref()),
                        "ms": millis(verdict.took),
                    })
                })
                .collect();
            json!({"file": ran.file.display().to_string(), "cases": cases})
        })
        .collect();
    json!({"cases": told.cases, "failed": told.failed, "files": files})
}

/// Of each rule how many lines of its hooks ran, and which did not.
pub(super) fn coverage_as_text(coverage: &Coverage) -> String {
    let mut text = String::new();
    for (file, lines) in coverage {
        let ran = lines.values().filter(|ran| **ran).count();
        let missed = missed(lines);
        let _ = write!(
            text,
            "{}: {ran} of {} hook lines ran",
            file.display(),
            lines.len()
        );
        let _ = match missed.is_empty() {
            true => writeln!(text),
            false => writeln!(text, "; not line{} {}", plural(&missed), in_runs(&missed)),
        };
    }
    text
}

pub(super) fn coverage_as_json(coverage: &Coverage) -> Value {
    let files = coverage.iter().map(|(file, lines)| {
        json!({
            "file": file.display().to_string(),
            "lines": lines.len(),
            "ran": lines.values().filter(|ran| **ran).count(),
            "missed": missed(lines),
        })
    });
    files.collect()
}

fn plural<T>(list: &[T]) -> &'static str {
    if list.len() == 1 { "" } else { "s" }
}

fn missed(lines: &BTreeMap<u32, bool>) -> Vec<u32> {
    let missed = lines.iter().filter(|(_, ran)| !**ran);
    missed.map(|(line, _)| *line).collect()
}

/// `7, 9-11`.
fn in_runs(lines: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for &line in lines {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => runs.push((line, line)),
        }
    }
    let words = runs.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// One suite a file, as the JUnit format that CI systems read has it.
pub(super) fn as_junit(ran: &[Ran]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for ran in ran {
        let file = escaped(&ran.file.display().to_string());
        let took: Duration = ran.verdicts.iter().map(|verdict| verdict.took).sum();
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{}\" time=\"{:.3}\">",
            ran.verdicts.len(),
            failures(ran),
            took.as_secs_f64()
        );
        for verdict in &ran.verdicts {
            let name = escaped(&verdict.name);
            let seconds = verdict.took.as_secs_f64();
            let head =
                format!("    <testcase classname=\"{file}\" name=\"{name}\" time=\"{seconds:.3}\"");
            let _ = match &verdict.failure {
                None => writeln!(xml, "{head}/>"),
                Some(failure) => {
                    let at = failure.at.as_deref().unwrap_or_default();
                    let text = escaped(&format!("{at}: {}", failure.message));
                    writeln!(
                        xml,
                        "{head}>\n      <failure>{text}</failure>\n    </testcase>"
                    )
                }
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Text as XML may have it: its own signs are worded, and what it cannot have is left out.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::trial::{Failed, Verdict};

    fn ran() -> Vec<Ran> {
        let verdict = |name: &str, message: Option<&str>| Verdict {
            name: name.to_owned(),
            failure: message.map(|message| Failed {
                message: message.to_owned(),
                at: Some("a_test.lua:3".to_owned()),
            }),
            took: Duration::from_millis(12),
        };
        vec![Ran {
            file: "a_test.lua".into(),
            verdicts: vec![
                verdict("holds", None),
                verdict(
                    "a < b",
                    Some("\n  cost: expected 1, got 2\n  n: expected 1, got 3"),
                ),
            ],
        }]
    }

    #[test]
    fn people_see_each_difference_on_a_line_of_its_own() {
        let ran = ran();
        let text = as_text(&ran, &Told::of(&ran));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "a_test.lua",
                "  ok   holds",
                "  FAIL a < b",
                "       a_test.lua:3",
                "       cost: expected 1, got 2",
                "       n: expected 1, got 3",
                "2 cases, 1 failed",
            ]
        );
    }

    #[test]
    fn lines_that_no_case_has_run_are_told_in_runs() {
        let lines = [(3, true), (5, false), (7, false), (8, false), (9, false)];
        let coverage = Coverage::from([("a.lua".into(), BTreeMap::from(lines))]);
        assert_eq!(
            coverage_as_text(&coverage),
            "a.lua: 1 of 5 hook lines ran; not lines 5, 7-9\n"
        );
        assert_eq!(
            coverage_as_json(&coverage)[0]["missed"],
            json!([5, 7, 8, 9])
        );
        let whole = Coverage::from([("a.lua".into(), BTreeMap::from([(3, true)]))]);
        assert_eq!(coverage_as_text(&whole), "a.lua: 1 of 1 hook lines ran\n");
    }

    #[test]
    fn ci_systems_get_xml_that_names_cannot_break() {
        let xml = as_junit(&ran());
        assert!(
            xml.contains("tests=\"2\" failures=\"1\" time=\"0.024\""),
            "{xml}"
        );
        assert!(xml.contains("name=\"a &lt; b\""), "{xml}");
        assert!(xml.contains("<failure>a_test.lua:3: \n  cost"), "{xml}");
        assert_eq!(escaped("\u{1b}[0m\"&"), "[0m&quot;&amp;");
    }
}
