//! What the simulated providers would put on their invoices, and what arrived at them.
//!
//! The bill list is the truth that a ledger is held against, so its figures come from the
//! simulators' own arithmetic and a bill stays when the client has gone. Both lists are kept
//! whole until a reset: a simulator runs for a test, not for a year; requests are kept to the
//! newest ten thousand, and counted beyond.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::behaviour::Behaviour;

const MOST_REQUESTS: usize = 10_000;
/// Directives that are counted; a simulator that meets more starts over.
const MOST_COUNTED: usize = 10_000;

/// One charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// The request id that the answer carries, or would have carried.
    pub id: String,
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    pub provider: &'static str,
    pub model: String,
    /// Pictures drawn.
    pub images: u32,
    pub nano_usd: i64,
    /// The word of the behaviour: `ok`, `safety_output`, `cut`, `drop` …
    pub outcome: &'static str,
    /// Hex BLAKE3 of the `authorization` header, shortened: whose money it was.
    pub authorization_digest: String,
}

/// One request as it arrived, without its secrets and its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// From 1, in the order of arrival.
    pub number: u64,
    #[serde(serialize_with = "as_text")]
    pub at: Timestamp,
    pub provider: &'static str,
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// In the order of arrival; the value of a header that holds a secret is its digest.
    pub headers: Vec<(String, String)>,
    pub authorization: bool,
    pub body_len: usize,
    /// Hex BLAKE3 of the body.
    pub body_digest: String,
}

impl Seen {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

fn as_text<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

/// Hex BLAKE3, shortened to sixteen digits: enough to tell things apart, too little to undo.
pub(super) fn short_digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// In place of a provider's name: the script of whoever has none of its own.
pub(super) const ANY: &str = "*";

/// Everything a reset forgets.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) bills: Vec<Bill>,
    pub(super) requests: VecDeque<Seen>,
    /// All that arrived, kept or not.
    pub(super) arrived: u64,
    scripts: HashMap<String, VecDeque<Behaviour>>,
    /// How often a directive with `times` was obeyed.
    obeyed: HashMap<blake3::Hash, u32>,
}

impl Books {
    pub(super) fn record(&mut self, mut seen: Seen) {
        self.arrived += 1;
        seen.number = self.arrived;
        if self.requests.len() == MOST_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(seen);
    }

    /// Appends to a provider's script; `times` repeats an entry.
    pub(super) fn script(&mut self, provider: &str, behaviour: Behaviour) {
        let turns = behaviour.times.unwrap_or(1) as usize;
        let behaviour = Behaviour {
            times: None,
            ..behaviour
        };
        self.scripts
            .entry(provider.to_owned())
            .or_default()
            .extend(std::iter::repeat_n(behaviour, turns.min(MOST_COUNTED)));
    }

    /// The script's next entry for an attempt at this provider.
    pub(super) fn next_of_script(&mut self, provider: &str) -> Option<Behaviour> {
        let own = self.scripts.get_mut(provider).and_then(VecDeque::pop_front);
        own.or_else(|| self.scripts.get_mut(ANY)?.pop_front())
    }

    /// The next entry of exactly this script.
    pub(super) fn next_of_own_script(&mut self, name: &str) -> Option<Behaviour> {
        self.scripts.get_mut(name).and_then(VecDeque::pop_front)
    }

    /// Whether a directive still counts; `key` is what makes it the same directive.
    pub(super) fn still_counts(&mut self, behaviour: &Behaviour, key: blake3::Hash) -> bool {
        let Some(times) = behaviour.times else {
            return true;
        };
        if self.obeyed.len() == MOST_COUNTED {
            self.obeyed.clear();
        }
        let obeyed = self.obeyed.entry(key).or_default();
        *obeyed = obeyed.saturating_add(1);
        *obeyed <= times
    }

    /// What all bills come to, in nano-dollars.
    pub(super) fn total(&self) -> i64 {
        self.bills.iter().map(|bill| bill.nano_usd).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::behaviour::Fault;

    #[test]
    fn a_script_is_played_once_in_order_and_for_its_provider() {
        let mut books = Books::default();
        books.script("openai", "server times=2".parse().unwrap());
        books.script("openai", Fault::Quota.into());
        let mut next = || books.next_of_script("openai").map(|b| b.fault.word());
        assert_eq!(
            [next(), next(), next(), next()],
            [Some("server"), Some("server"), Some("quota"), None]
        );
        assert_eq!(books.next_of_script("stability"), None);
    }

    #[test]
    fn a_directive_with_times_wears_out() {
        let mut books = Books::default();
        let twice: Behaviour = "overloaded times=2".parse().unwrap();
        let (one, other) = (blake3::hash(b"a"), blake3::hash(b"b"));
        let counts: Vec<bool> = (0..3).map(|_| books.still_counts(&twice, one)).collect();
        assert_eq!(counts, [true, true, false]);
        assert!(books.still_counts(&twice, other));
    }
}
