//! Calls as the log has them, with their later corrections.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value;

use crate::image::{Billed, Format, ModelId, Operation, Quality, Tier};
use crate::money::Usd;
use crate::record::Mode;

/// A call of the past.
#[derive(Clone, Debug, Deserialize)]
pub struct PastCall {
    pub id: String,
    /// RFC 3339, UTC.
    pub at: String,
    pub mode: Mode,
    pub app: String,
    pub operation: Operation,
    pub asked: PastAsked,
    pub decided: PastDecided,
    pub would: Option<PastWould>,
    pub rules: Vec<PastRule>,
    pub attempts: Vec<PastAttempt>,
    pub answered: Option<PastAnswer>,
    pub saved: Option<Usd>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastAsked {
    pub model: ModelId,
    pub size: String,
    pub quality: Option<Quality>,
    pub style: Option<String>,
    pub n: u32,
    pub steps: Option<u32>,
    pub tier: Tier,
    pub format: Option<Format>,
    pub stream: bool,
    pub prompt: Option<String>,
    pub quote: Option<Usd>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastDecided {
    pub model: ModelId,
    /// As written: `auto`, `1024x1024`.
    pub size: String,
    pub tier: Tier,
    pub quote: Option<Usd>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastWould {
    pub cache: String,
    pub cost: Option<Usd>,
    pub saved: Option<Usd>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastRule {
    pub plugin: String,
    pub hook: String,
    pub did: String,
    pub applied: bool,
    pub skipped: Option<String>,
    pub to: Option<String>,
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastAttempt {
    pub i: u32,
    pub model: ModelId,
    pub tier: Tier,
    pub outcome: String,
    pub billed: Billed,
    pub charge: Option<Usd>,
    /// Part of what was bought has no price, and is not in `charge`.
    #[serde(default)]
    pub partly_unpriced: bool,
    pub images: u32,
    /// Of the pictures that came: `1024x1024`.
    pub sizes: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct PastAnswer {
    pub from: String,
    pub model: ModelId,
    pub sizes: Vec<String>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
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
}

/// The calls of a log, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Past {
    pub calls: Vec<PastCall>,
    /// Lines that could not be read.
    pub broken: u64,
    places: HashMap<String, usize>,
}

impl Past {
    /// Takes a line of the log. A call counts where `wanted` says so; a correction counts for the
    /// call it corrects.
    pub fn take(&mut self, line: &[u8], wanted: &mut dyn FnMut() -> bool) {
        if line.trim_ascii().is_empty() {
            return;
        }
        let read = serde_json::from_slice::<Kind>(line).and_then(|read| match read.kind.as_str() {
            "call" => serde_json::from_slice(line).map(|call| {
                if wanted() {
                    self.add(call);
                }
            }),
            "amend" => serde_json::from_slice(line).map(|amend| self.amend(&amend)),
            _ => Ok(()), // of no interest here, or of a later release
        });
        self.broken += u64::from(read.is_err());
    }

    fn add(&mut self, call: PastCall) {
        self.places.insert(call.id.clone(), self.calls.len());
        self.calls.push(call);
    }

    fn amend(&mut self, amend: &Amend) {
        let Some(&place) = self.places.get(&amend.id) else {
            return;
        };
        for attempt in &mut self.calls[place].attempts {
            let amended = amend.attempts.iter().find(|amended| amended.i == attempt.i);
            if let Some(amended) = amended {
                attempt.billed = amended.billed;
                attempt.charge = amended.charge;
            }
        }
    }
}
