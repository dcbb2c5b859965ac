//! Calls of the past, out of the decision log: what was asked, and what it was charged.
//!
//! The log may keep no prompt, so a request is put together again from its fields: exact but for
//! the text of its prompt.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;

use crate::bill::ChargeFrom;
use crate::cli::tail;
use crate::image::{
    Aspect, Billed, Format, ImageRequest, Input, InputRole, InputSource, ModelId, Operation,
    Quality, Size, Tier,
};
use crate::money::Usd;
use crate::record::QuoteFrom;

/// An attempt of the past that may have cost something.
#[derive(Clone, Debug)]
pub(super) struct PastAttempt {
    /// The call's id.
    pub(super) call: String,
    pub(super) i: u32,
    pub(super) at: Timestamp,
    pub(super) request: ImageRequest,
    pub(super) billed: Billed,
    /// What the price book said, which is what is to be judged; a provider's own quote may have
    /// counted instead.
    pub(super) quote: Option<Usd>,
    pub(super) quote_high: Option<Usd>,
    pub(super) quote_from: QuoteFrom,
    pub(super) charge: Option<Usd>,
    pub(super) charge_from: ChargeFrom,
    pub(super) images: u32,
    /// Billing signals of the answer.
    pub(super) codes: BTreeMap<String, String>,
    /// What the log notes about the call: how a charge beyond its quote is made up, among others.
    pub(super) notes: Arc<[String]>,
}

/// What the log has.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    pub(super) attempts: Vec<PastAttempt>,
    /// Lines that could not be read.
    pub(super) broken: u64,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Call {
    id: String,
    at: String,
    operation: Operation,
    asked: Asked,
    decided: Decided,
    attempts: Vec<Attempt>,
    #[serde(default)]
    notes: Arc<[String]>,
}

#[derive(Deserialize)]
struct Asked {
    stream: bool,
    #[serde(default)]
    inputs: Vec<InputFacts>,
    prompt: Option<String>,
}

#[derive(Deserialize)]
struct InputFacts {
    role: InputRole,
    width: Option<u32>,
    height: Option<u32>,
}

#[derive(Deserialize)]
struct Decided {
    size: String,
    quality: Option<Quality>,
    n: u32,
    steps: Option<u32>,
    format: Option<Format>,
}

#[derive(Deserialize)]
struct Attempt {
    i: u32,
    model: ModelId,
    tier: Tier,
    billed: Billed,
    quote: Option<Usd>,
    quote_high: Option<Usd>,
    #[serde(default = "by_book")]
    quote_from: QuoteFrom,
    #[serde(default)]
    book_quote: Option<Usd>,
    #[serde(default)]
    book_quote_high: Option<Usd>,
    charge: Option<Usd>,
    charge_from: ChargeFrom,
    images: u32,
    #[serde(default)]
    codes: BTreeMap<String, String>,
}

/// Of an attempt whose line does not say.
fn by_book() -> QuoteFrom {
    QuoteFrom::Book
}

impl Attempt {
    /// What the book expected, and the most it reckoned with.
    fn of_book(&self) -> (Option<Usd>, Option<Usd>) {
        match self.quote_from {
            QuoteFrom::Book => (self.quote, self.quote_high),
            QuoteFrom::Provider => (self.book_quote, self.book_quote_high),
        }
    }
}

#[derive(Deserialize)]
struct Amend {
    id: String,
    attempts: Vec<Amended>,
}

#[derive(Deserialize)]
struct Amended {
    i: u32,
    billed: Billed,
    charge: Option<Usd>,
    charge_from: ChargeFrom,
}

impl Past {
    /// Every attempt since then that was billed, or may have been, as later lines correct it.
    /// Empty where no log is kept or none is there yet.
    ///
    /// # Errors
    /// Those of reading the log.
    pub(super) fn read(log: Option<&Path>, since: Timestamp) -> io::Result<Past> {
        let mut reading = Reading {
            since,
            past: Past::default(),
            places: HashMap::new(),
        };
        if let Some(log) = log {
            tail::every_line(log, since, &mut |line| reading.line(line))?;
        }
        let mut past = reading.past;
        past.attempts.retain(|attempt| attempt.billed != Billed::No);
        Ok(past)
    }
}

struct Reading {
    since: Timestamp,
    past: Past,
    /// Where the attempts of a call begin.
    places: HashMap<String, usize>,
}

impl Reading {
    fn line(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let read = serde_json::from_slice::<Line>(line).and_then(|read| match read.kind.as_str() {
            "call" => serde_json::from_slice(line).map(|call| self.call(call)),
            "amend" => serde_json::from_slice(line).map(|amend| self.amend(&amend)),
            _ => Ok(()),
        });
        self.past.broken += u64::from(read.is_err());
    }

    fn call(&mut self, call: Call) {
        let Ok(at) = call.at.parse::<Timestamp>() else {
            self.past.broken += 1;
            return;
        };
        if at < self.since {
            return;
        }
        let attempts = &mut self.past.attempts;
        self.places.insert(call.id.clone(), attempts.len());
        for attempt in &call.attempts {
            let (quote, quote_high) = attempt.of_book();
            attempts.push(PastAttempt {
                call: call.id.clone(),
                i: attempt.i,
                at,
                request: request(&call, attempt),
                billed: attempt.billed,
                quote,
                quote_high,
                quote_from: attempt.quote_from,
                charge: attempt.charge,
                charge_from: attempt.charge_from,
                images: attempt.images,
                codes: attempt.codes.clone(),
                notes: Arc::clone(&call.notes),
            });
        }
    }

    fn amend(&mut self, amend: &Amend) {
        let Some(&begin) = self.places.get(&amend.id) else {
            return;
        };
        let of_it = self.past.attempts[begin..].iter_mut();
        for attempt in of_it.take_while(|attempt| attempt.call == amend.id) {
            let amended = amend.attempts.iter().find(|amended| amended.i == attempt.i);
            if let Some(amended) = amended {
                attempt.billed = amended.billed;
                attempt.charge = amended.charge;
                attempt.charge_from = amended.charge_from;
            }
        }
    }
}

/// The request of an attempt, as far as the log tells.
fn request(call: &Call, attempt: &Attempt) -> ImageRequest {
    let prompt = call.asked.prompt.clone().unwrap_or_default();
    let decided = &call.decided;
    let mut request = ImageRequest::new(attempt.model.clone(), prompt);
    request.operation = call.operation;
    request.size = size(&decided.size);
    request.quality = decided.quality;
    request.n = if attempt.images > 0 {
        attempt.images
    } else {
        decided.n.max(1)
    };
    request.steps = decided.steps;
    request.tier = attempt.tier;
    request.format = decided.format;
    request.stream = call.asked.stream;
    request.inputs = call.asked.inputs.iter().map(input).collect();
    request
}

/// `auto`, `1024x1024`, `16:9 2K`.
fn size(text: &str) -> Size {
    let (shape, step) = text
        .split_once(' ')
        .map_or((text, None), |(shape, step)| (shape, Some(step)));
    match (Aspect::parse(shape), step) {
        (Some(aspect), Some(step)) => Size::Aspect {
            aspect,
            step: Some(step.to_owned()),
        },
        _ => Size::parse(text).unwrap_or(Size::Auto),
    }
}

/// A picture that is no more than its measures, which is what a price may depend on.
fn input(facts: &InputFacts) -> Input {
    let source = match (facts.width, facts.height) {
        (Some(width), Some(height)) => InputSource::Bytes(blank_png(width, height)),
        _ => InputSource::FileId("logged".to_owned()),
    };
    Input {
        role: facts.role,
        source,
        name: None,
        format: Format::Unknown,
    }
}

/// The first bytes of a PNG of that size.
fn blank_png(width: u32, height: u32) -> Bytes {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    png.extend_from_slice(&width.to_be_bytes());
    png.extend_from_slice(&height.to_be_bytes());
    png.extend_from_slice(&[8, 6, 0, 0, 0]);
    Bytes::from(png)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::header;
    use serde_json::json;

    fn log(lines: &[serde_json::Value]) -> (tempfile::TempDir, Past) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        text.push_str("no json\n");
        std::fs::write(&path, text).unwrap();
        let since = "2026-11-01T00:00:00Z".parse().unwrap();
        let past = Past::read(Some(&path), since).unwrap();
        (dir, past)
    }

    fn call(id: &str, at: &str, billed: &str) -> serde_json::Value {
        json!({"type": "call", "id": id, "at": at, "operation": "edit",
            "asked": {"stream": false, "prompt": "a fox",
                "inputs": [{"role": "image", "width": 640, "height": 480, "source": "bytes"}]},
            "decided": {"size": "16:9 2K", "quality": "high", "n": 3, "steps": null, "format": "png"},
            "attempts": [{"i": 1, "model": "openai/gpt-image-2", "tier": "flex", "billed": billed,
                "quote": 0.1, "quote_high": 0.2, "charge": 0.000000001, "charge_from": "usage",
                "images": 2, "codes": {"usage.output_tokens": "7"}}]})
    }

    #[test]
    fn a_request_is_put_together_again() {
        let (_dir, past) = log(&[
            call("a", "2026-11-20T10:00:00.000Z", "yes"),
            call("b", "2026-11-20T10:00:00.000Z", "no"),
            call("c", "2026-10-20T10:00:00.000Z", "yes"),
        ]);
        assert_eq!((past.attempts.len(), past.broken), (1, 1));
        let attempt = &past.attempts[0];
        assert_eq!(attempt.charge, Some(Usd::from_nano(1)));
        let request = &attempt.request;
        assert_eq!(request.model.as_str(), "openai/gpt-image-2");
        assert_eq!((request.n, request.tier), (2, Tier::Flex));
        assert_eq!(request.size.to_string(), "16:9 2K");
        let InputSource::Bytes(bytes) = &request.inputs[0].source else {
            panic!("its measures are known");
        };
        assert_eq!(header::read(bytes).pixels, Some((640, 480)));
    }

    #[test]
    fn a_book_is_judged_by_what_it_said_itself() {
        let mut line = call("a", "2026-11-20T10:00:00.000Z", "yes");
        let attempt = &mut line["attempts"][0];
        attempt["quote_from"] = json!("provider");
        attempt["book_quote"] = json!(0.07);
        attempt["book_quote_high"] = json!(0.08);
        let (_dir, past) = log(&[line]);
        let attempt = &past.attempts[0];
        assert_eq!(attempt.quote, Some("0.07".parse().unwrap()));
        assert_eq!(attempt.quote_high, Some("0.08".parse().unwrap()));
        let (_dir, past) = log(&[call("a", "2026-11-20T10:00:00.000Z", "yes")]);
        assert_eq!(past.attempts[0].quote, Some("0.1".parse().unwrap()));
    }

    #[test]
    fn later_lines_correct_earlier_ones() {
        let amend = json!({"type": "amend", "id": "a", "at": "2026-11-21T10:00:00.000Z", "why": "late",
            "attempts": [{"i": 1, "billed": "yes", "charge": 0.05, "charge_from": "reported"}]});
        let (_dir, past) = log(&[call("a", "2026-11-20T10:00:00.000Z", "unknown"), amend]);
        assert_eq!(past.attempts[0].charge, Some("0.05".parse().unwrap()));
        assert_eq!(past.attempts[0].charge_from, ChargeFrom::Reported);
    }

    #[test]
    fn a_log_that_is_not_there_has_no_calls() {
        let nowhere = Path::new("/nowhere/decisions.jsonl");
        let since = Timestamp::UNIX_EPOCH;
        assert!(
            Past::read(Some(nowhere), since)
                .unwrap()
                .attempts
                .is_empty()
        );
        assert!(Past::read(None, since).unwrap().attempts.is_empty());
    }
}
