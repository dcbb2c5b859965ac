//! What rules that only watched would have done, summed by rule.
//!
//! A line tells what each rule would have changed, one after the other. The price after each is that of
//! the book in force; where a whole call was observed, the price after the last rule stands in the line
//! itself. So a call that two rules would have touched is not counted twice: each has its own part.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Past, PastCall};
use crate::audit::past::PastRule;
use crate::image::{ImageRequest, ModelId, Quality, Size, Tier};
use crate::money::Usd;
use crate::price::Book;
use crate::record::Mode;

/// Under this name stand the answers that the cache would have given.
pub const MEMORY: &str = "(memory)";

/// What one rule would have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfRule {
    pub rule: String,
    /// Calls that it would have changed, moved, refused or answered.
    pub calls: u64,
    /// USD before it and after it, over the calls with both prices.
    pub asked: Usd,
    pub would: Usd,
    pub saving: Usd,
    /// Calls that it would have touched, without a price before or after it; they are in no sum.
    pub unpriced: u64,
    /// Calls that it would have refused.
    pub refused: u64,
    /// Actions after a failure: what they would have cost nobody can know.
    pub after_failures: u64,
    /// What it could not have done, by reason.
    pub skipped: Vec<(String, u64)>,
    /// Times that it failed itself.
    pub errors: u64,
}

/// What watching rules would have done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WouldHave {
    /// Calls that any rule was watched on.
    pub observed: u64,
    /// USD that those calls were quoted as they were asked, where that is known.
    pub asked: Usd,
    pub unpriced: u64,
    /// Of all rules together.
    pub saving: Usd,
    /// The one that would have saved most first.
    pub rules: Vec<OfRule>,
}

impl WouldHave {
    pub fn of(past: &Past, book: &Book) -> WouldHave {
        let mut rules: BTreeMap<String, OfRule> = BTreeMap::new();
        let mut whole = WouldHave::default();
        for call in &past.calls {
            let watched = watched(call);
            if watched.is_empty() && call.mode != Mode::Observe {
                continue;
            }
            whole.observed += 1;
            match call.asked.quote {
                Some(quote) => whole.asked += quote,
                None => whole.unpriced += 1,
            }
            let mut walk = Walk::begin(call, book);
            let deeds = watched.iter().filter(|rule| is_deed(rule)).count();
            let mut done = 0;
            for rule in watched {
                let of = rules.entry(rule.plugin.clone()).or_default();
                done += usize::from(is_deed(rule));
                // Where all was observed, the line itself has the price after the last of them.
                let last = call.mode == Mode::Observe && done == deeds;
                of.take(rule, &mut walk, last);
            }
            if let Some(would) = &call.would
                && would.cache == "hit"
            {
                let of = rules.entry(MEMORY.to_owned()).or_default();
                of.calls += 1;
                of.price(walk.now, Some(Usd::ZERO));
            }
        }
        whole.rules = rules
            .into_iter()
            .map(|(rule, of)| OfRule { rule, ..of })
            .collect();
        whole.rules.sort_by_key(|of| std::cmp::Reverse(of.saving));
        whole.saving = whole.rules.iter().map(|of| of.saving).sum();
        whole
    }
}

/// The rules of a call that watched: all of them where the call was observed, else those that are
/// marked as not applied without a reason why they could not be.
fn watched(call: &PastCall) -> Vec<&PastRule> {
    // A watching plugin's action is told as not applied; so is one that could not be carried out,
    // which says why. A plugin counts as watching where any of its actions is of the first kind.
    let idle = |rule: &&PastRule| !rule.applied && rule.skipped.is_none() && rule.did != "error";
    let watchers: Vec<&str> = call
        .rules
        .iter()
        .filter(idle)
        .map(|rule| rule.plugin.as_str())
        .collect();
    let all = call.mode == Mode::Observe;
    call.rules
        .iter()
        .filter(|rule| all || watchers.contains(&rule.plugin.as_str()))
        .collect()
}

/// Whether a rule's action changes what a call costs.
fn is_deed(rule: &PastRule) -> bool {
    rule.hook == "on_request"
        && rule.skipped.is_none()
        && matches!(rule.did.as_str(), "change" | "route" | "refuse" | "answer")
}

impl OfRule {
    fn take(&mut self, rule: &PastRule, walk: &mut Walk<'_>, last: bool) {
        if let Some(why) = &rule.skipped {
            match self.skipped.iter_mut().find(|(known, _)| known == why) {
                Some((_, count)) => *count += 1,
                None => self.skipped.push((why.clone(), 1)),
            }
            return;
        }
        if rule.did == "error" {
            self.errors += 1;
            return;
        }
        if rule.hook != "on_request" {
            self.after_failures += 1;
            return;
        }
        if !is_deed(rule) {
            return;
        }
        self.calls += 1;
        self.refused += u64::from(rule.did == "refuse");
        let before = walk.now;
        walk.step(rule, last);
        self.price(before, walk.now);
    }

    fn price(&mut self, before: Option<Usd>, after: Option<Usd>) {
        match (before, after) {
            (Some(before), Some(after)) => {
                self.asked += before;
                self.would += after;
                self.saving += before - after;
            }
            _ => self.unpriced += 1,
        }
    }
}

/// A call's price as one rule after the other would have changed it.
struct Walk<'a> {
    call: &'a PastCall,
    book: &'a Book,
    request: ImageRequest,
    now: Option<Usd>,
}

impl<'a> Walk<'a> {
    fn begin(call: &'a PastCall, book: &'a Book) -> Walk<'a> {
        Walk {
            call,
            book,
            request: request(call),
            now: call.asked.quote,
        }
    }

    fn step(&mut self, rule: &PastRule, last: bool) {
        if matches!(rule.did.as_str(), "refuse" | "answer") {
            self.now = Some(Usd::ZERO);
            return;
        }
        let before = self.quote();
        for (field, value) in &rule.set {
            set(&mut self.request, field, value);
        }
        if let Some(model) = rule.to.as_deref().and_then(ModelId::parse) {
            self.request.model = model;
        }
        let after = self.quote();
        self.now = match (last, self.now, before, after) {
            (true, ..) => self.call.decided.quote,
            // The prompt may be cut in the log: only the difference is the book's.
            (false, Some(now), Some(before), Some(after)) => Some(now - before + after),
            _ => None,
        };
    }

    fn quote(&self) -> Option<Usd> {
        self.book.quote(&self.request).map(|quote| quote.expected)
    }
}

/// The request as far as the log tells of it.
fn request(call: &PastCall) -> ImageRequest {
    let asked = &call.asked;
    let prompt = asked.prompt.clone().unwrap_or_default();
    let mut request = ImageRequest::new(asked.model.clone(), prompt);
    request.operation = call.operation;
    request.size = Size::parse(&asked.size).unwrap_or(Size::Auto);
    request.quality = asked.quality;
    request.style.clone_from(&asked.style);
    request.n = asked.n.max(1);
    request.steps = asked.steps;
    request.tier = asked.tier;
    request.format = asked.format;
    request.stream = asked.stream;
    request
}

/// Sets a field to what a rule's record says of it.
fn set(request: &mut ImageRequest, field: &str, value: &Value) {
    let word = value.as_str();
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    match field {
        "size" => request.size = word.and_then(Size::parse).unwrap_or(Size::Auto),
        "quality" => request.quality = word.and_then(Quality::parse),
        "style" => request.style = word.map(str::to_owned),
        "n" => request.n = count.unwrap_or(request.n).max(1),
        "steps" => request.steps = count,
        "tier" => request.tier = word.and_then(Tier::parse).unwrap_or(request.tier),
        "model" => {
            if let Some(model) = word.and_then(ModelId::parse) {
                request.model = model;
            }
        }
        _ => {} // of no price
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn call(id: &str) -> Value {
        json!({"type": "call", "id": id, "at": "2026-11-20T10:00:00.000Z", "mode": "enforce", "app": "shop",
            "operation": "generate",
            "asked": {"model": "openai/gpt-image-2", "size": "1024x1024", "quality": "high", "style": null, "n": 1,
                "steps": null, "tier": "standard", "format": null, "stream": false, "prompt": "a boat", "quote": quote("high")},
            "decided": {"model": "openai/gpt-image-2", "size": "1024x1024", "tier": "standard", "quote": quote("low")},
            "would": null, "rules": [],
            "attempts": [{"i": 1, "model": "openai/gpt-image-2", "tier": "standard", "outcome": "ok", "billed": "yes",
                "charge": 0.005, "images": 1, "sizes": ["1024x1024"]}],
            "answered": {"from": "provider", "model": "openai/gpt-image-2", "sizes": ["1024x1024"]}, "saved": 0.001})
    }

    pub(crate) fn past(lines: &[Value]) -> Past {
        let mut past = Past::default();
        for line in lines {
            past.take(line.to_string().as_bytes(), &mut || true);
        }
        assert_eq!(past.broken, 0);
        past
    }

    fn quote(quality: &str) -> Usd {
        let mut request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a boat");
        request.size = Size::parse("1024x1024").unwrap();
        request.quality = Quality::parse(quality);
        Book::embedded().quote(&request).unwrap().expected
    }

    fn rule(plugin: &str, did: &str, applied: bool, set: Value) -> Value {
        json!({"plugin": plugin, "hook": "on_request", "did": did, "applied": applied, "skipped": null,
            "to": null, "set": set})
    }

    fn of<'a>(would: &'a WouldHave, rule: &str) -> &'a OfRule {
        would.rules.iter().find(|of| of.rule == rule).unwrap()
    }

    #[test]
    fn each_of_two_rules_has_its_own_part_of_the_saving() {
        let mut line = call("a");
        line["mode"] = json!("observe");
        line["rules"] = json!([
            rule("first", "change", true, json!({"quality": "medium"})),
            rule("second", "change", true, json!({"quality": "low"})),
        ]);
        line["would"] =
            json!({"cache": "miss", "cost": quote("low"), "saved": quote("high") - quote("low")});
        let would = WouldHave::of(&past(&[line]), Book::embedded());
        assert_eq!(of(&would, "first").saving, quote("high") - quote("medium"));
        assert_eq!(of(&would, "second").saving, quote("medium") - quote("low"));
        assert_eq!(would.saving, quote("high") - quote("low"));
        assert_eq!((would.observed, would.asked), (1, quote("high")));
    }

    #[test]
    fn a_plugin_that_watches_alone_is_summed_and_one_that_acts_is_not() {
        let mut line = call("a");
        line["rules"] = json!([
            rule("acts", "change", true, json!({"quality": "low"})),
            rule("watches", "change", false, json!({"quality": "low"})),
        ]);
        let would = WouldHave::of(&past(&[line, call("b")]), Book::embedded());
        assert_eq!(would.rules.len(), 1);
        let watches = of(&would, "watches");
        assert_eq!(
            (watches.calls, watches.saving),
            (1, quote("high") - quote("low"))
        );
        assert_eq!(would.observed, 1, "the other call was not watched");
    }

    #[test]
    fn what_could_not_be_done_is_told_with_its_reason_and_memory_has_a_row() {
        let mut line = call("a");
        line["mode"] = json!("observe");
        let mut skipped = rule("icons", "route", false, json!({}));
        skipped["skipped"] = json!("no API key for `stability`");
        line["rules"] = json!([skipped, rule("blocks", "refuse", true, json!({}))]);
        let mut hit = call("b");
        hit["mode"] = json!("observe");
        hit["would"] = json!({"cache": "hit", "cost": 0, "saved": quote("high")});
        let would = WouldHave::of(&past(&[line, hit]), Book::embedded());
        let icons = of(&would, "icons");
        assert_eq!(
            icons.skipped,
            [("no API key for `stability`".to_owned(), 1)]
        );
        assert_eq!((icons.calls, icons.saving), (0, Usd::ZERO));
        let blocks = of(&would, "blocks");
        assert_eq!(
            (blocks.refused, blocks.would, blocks.saving),
            (1, Usd::ZERO, quote("high"))
        );
        assert_eq!(of(&would, MEMORY).saving, quote("high"));
    }

    #[test]
    fn a_price_that_nobody_knows_is_counted_and_not_summed() {
        let mut line = call("a");
        line["asked"]["quote"] = json!(null);
        line["rules"] = json!([rule("watches", "change", false, json!({"quality": "low"}))]);
        let would = WouldHave::of(&past(&[line]), Book::embedded());
        let watches = of(&would, "watches");
        assert_eq!(
            (watches.calls, watches.unpriced, watches.saving),
            (1, 1, Usd::ZERO)
        );
        assert_eq!((would.unpriced, would.asked), (1, Usd::ZERO));
    }
}
