//! The receipt: what a run's calls cost, what was saved, and what went wrong with its cure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::child::Bypass;
use crate::money::Usd;

/// Sums over the decisions of one run.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    joined: bool,
    /// The providers were simulated: the sums are what it would have cost.
    sim: bool,
    calls: u64,
    from_memory: u64,
    moved: u64,
    failed: u64,
    unpriced: u64,
    spent: Usd,
    unknown: Usd,
    saved: Usd,
    /// Retired models, with how often they were asked for.
    retired: BTreeMap<String, u64>,
    /// What went wrong, with its cure, each once.
    troubles: BTreeSet<String>,
    bypasses: BTreeSet<String>,
}

impl Receipt {
    pub(super) fn new(joined: bool, sim: bool) -> Receipt {
        Receipt {
            joined,
            sim,
            ..Receipt::default()
        }
    }

    /// Takes one line of the log, if it is this run's: our own instance's, or for a proxy that
    /// was joined the app's.
    pub(super) fn take(&mut self, line: &Value, instance: Option<&str>, app: &str) {
        let of = |key: &str| line.get(key).and_then(Value::as_str);
        let is_ours = match instance {
            Some(instance) => of("instance") == Some(instance),
            None => of("app") == Some(app) || of("type") == Some("notice"),
        };
        match of("type") {
            Some("call") if is_ours => self.take_call(line),
            Some("notice") if is_ours && of("kind") == Some("certificate_refused") => {
                self.troubles
                    .insert(of("text").unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }

    fn take_call(&mut self, line: &Value) {
        let text = |pointer: &str| {
            line.pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        self.calls += 1;
        self.from_memory += u64::from(matches!(text("/answered/from"), "cache" | "collapsed"));
        let asked = text("/asked/model");
        let answered = text("/answered/model");
        self.moved += u64::from(!answered.is_empty() && answered != asked);
        self.spent += money(line, "/cost");
        self.unknown += money(line, "/causes/unknown");
        // A charge beside its quote is an error of the quote and no saving, where nothing was done.
        let rules = line.get("rules").and_then(Value::as_array);
        let as_asked = text("/answered/from") == "provider" && answered == asked;
        if !as_asked || rules.is_some_and(|rules| !rules.is_empty()) {
            self.saved += money(line, "/saved");
        }
        let unpriced = |attempt: &Value| {
            attempt.get("charge_from").and_then(Value::as_str) == Some("unpriced")
                || attempt.get("partly_unpriced") == Some(&Value::Bool(true))
        };
        let attempts = line.get("attempts").and_then(Value::as_array);
        self.unpriced += u64::from(attempts.is_some_and(|attempts| attempts.iter().any(unpriced)));
        if line.get("error").is_some_and(|error| !error.is_null()) {
            self.failed += 1;
            self.trouble(
                asked,
                text("/error/kind"),
                text("/error/message"),
                text("/error/remedy"),
            );
        }
    }

    fn trouble(&mut self, model: &str, kind: &str, message: &str, remedy: &str) {
        if kind == "retired" {
            *self.retired.entry(model.to_owned()).or_default() += 1;
            return;
        }
        let message: String = message.chars().take(160).collect();
        let cure = if remedy.is_empty() {
            String::new()
        } else {
            format!("\n    {remedy}")
        };
        self.troubles.insert(format!("{kind}: {message}{cure}"));
    }

    /// Adds what went past the proxy.
    pub(super) fn bypassed(&mut self, bypasses: &[&Bypass]) {
        for bypass in bypasses {
            self.bypasses.insert(format!(
                "{} (pid {}) to {}",
                bypass.command, bypass.pid, bypass.remote
            ));
        }
    }
}

fn money(line: &Value, pointer: &str) -> Usd {
    line.pointer(pointer)
        .and_then(Value::as_number)
        .and_then(|n| n.to_string().parse().ok())
        .unwrap_or_default()
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |n: u64| if n == 1 { "" } else { "s" };
        if self.calls == 0 {
            writeln!(f, "pixtoll: no image calls seen")?;
            if self.bypasses.is_empty() && self.troubles.is_empty() {
                writeln!(
                    f,
                    "  if the app made some, it does not read the proxy variables: `pixtoll doctor` asks your interpreters and names each cure"
                )?;
            }
        } else {
            writeln!(
                f,
                "pixtoll: {} call{} · {} from memory · {} moved · spent {} · saved {}{}",
                self.calls,
                plural(self.calls),
                self.from_memory,
                self.moved,
                self.spent.pretty(),
                self.saved.pretty(),
                match self.sim {
                    true => " · all simulated, nothing was billed",
                    false => "",
                }
            )?;
        }
        if self.from_memory > 0 {
            writeln!(
                f,
                "  for new pictures instead of those from memory, send `x-pixtoll-cache: refresh`"
            )?;
        }
        if self.unpriced > 0 {
            writeln!(
                f,
                "  ! {} call{} without a known price, or with one for a part only: what nobody knows is not in these sums",
                self.unpriced,
                plural(self.unpriced)
            )?;
        }
        if !self.unknown.is_zero() {
            writeln!(
                f,
                "  ! {} of it may or may not be billed: the outcome is unknown",
                self.unknown.pretty()
            )?;
        }
        if self.failed > 0 {
            writeln!(
                f,
                "  ! {} call{} without a picture",
                self.failed,
                plural(self.failed)
            )?;
        }
        for (model, times) in &self.retired {
            writeln!(
                f,
                "  ! {model} is gone (asked {times} time{}): name a model that is still offered, or start with `--plugin retired_models`, which sends its calls to the successor",
                plural(*times)
            )?;
        }
        for trouble in &self.troubles {
            writeln!(f, "  ! {trouble}")?;
        }
        for bypass in &self.bypasses {
            writeln!(
                f,
                "  ! past the proxy: {bypass}: this client reads no proxy variables; `run --shim` brings Python's and Node's along, \
                 a base URL any other"
            )?;
        }
        if self.joined {
            writeln!(
                f,
                "  through the proxy that was already running; `pixtoll tail` shows each decision"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(from: &str, answered: &str, cost: f64) -> Value {
        json!({"type": "call", "instance": "me", "app": "python", "asked": {"model": "openai/gpt-image-2"},
            "answered": {"from": from, "model": answered}, "error": null, "attempts": [],
            "cost": cost, "causes": {"unknown": 0}, "saved": 0.01})
    }

    #[test]
    fn sums_are_exact_and_only_this_runs() {
        let mut receipt = Receipt::new(false, false);
        receipt.take(
            &call("provider", "openai/gpt-image-2", 0.1),
            Some("me"),
            "python",
        );
        receipt.take(
            &call("provider", "stability/sd3.5-medium", 0.2),
            Some("me"),
            "python",
        );
        receipt.take(
            &call("cache", "openai/gpt-image-2", 0.0),
            Some("me"),
            "python",
        );
        receipt.take(
            &call("provider", "openai/gpt-image-2", 9.0),
            Some("other"),
            "python",
        );
        let text = receipt.to_string();
        assert!(
            text.contains("3 calls · 1 from memory · 1 moved · spent $0.30 · saved $0.02"),
            "{text}"
        );
        assert!(text.contains("x-pixtoll-cache: refresh"));
    }

    #[test]
    fn what_was_simulated_is_said_to_have_cost_nothing() {
        let mut receipt = Receipt::new(false, true);
        receipt.take(
            &call("provider", "openai/gpt-image-2", 0.1),
            Some("me"),
            "python",
        );
        let text = receipt.to_string();
        assert!(text.contains("nothing was billed"), "{text}");
    }

    #[test]
    fn a_bypass_is_told_with_its_cure() {
        let bypass = Bypass {
            pid: 42,
            command: "python3".to_owned(),
            remote: "192.0.2.1:443".parse().unwrap(),
            provider: true,
        };
        let mut receipt = Receipt::new(false, false);
        receipt.bypassed(&[&bypass]);
        let text = receipt.to_string();
        assert!(text.contains("past the proxy: python3 (pid 42)"), "{text}");
        assert!(text.contains("`run --shim`"), "{text}");
    }

    #[test]
    fn troubles_come_with_their_cure() {
        let mut receipt = Receipt::new(false, false);
        let mut failed = call("", "", 0.0);
        failed["answered"] = Value::Null;
        failed["asked"]["model"] = "openai/dall-e-3".into();
        failed["error"] = json!({"kind": "retired", "message": "gone", "remedy": "x"});
        receipt.take(&failed, Some("me"), "python");
        receipt.take(&failed, Some("me"), "python");
        let text = receipt.to_string();
        assert!(
            text.contains("openai/dall-e-3 is gone (asked 2 times)"),
            "{text}"
        );
        assert!(text.contains("`--plugin retired_models`"), "{text}");
        assert!(
            Receipt::new(false, false)
                .to_string()
                .contains("no image calls seen")
        );
    }
}
