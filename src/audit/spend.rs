//! What was spent, by whatever it is to be told apart by.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Past, PastCall};
use crate::image::{Billed, ModelId, Tier, words};
use crate::money::Usd;

words! {
    /// What spending is told apart by.
    By {
        Provider = "provider",
        Model = "model",
        Tier = "tier",
        /// Of the pictures that came. Where none did: as it was sent for an attempt, as it was asked for a
        /// call.
        Size = "size",
        App = "app",
        /// In UTC.
        Day = "day",
    }
}

/// Sums over calls and their attempts.
///
/// An attempt counts under its own model, tier and size, a call under those of its answer, or of what
/// was asked where it got none: so the rows add up to the whole, however they are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    pub calls: u64,
    /// Answered without a purchase of their own.
    pub from_memory: u64,
    /// Calls that got no picture.
    pub failed: u64,
    pub attempts: u64,
    /// Pictures that were bought.
    pub images: u64,
    /// USD.
    pub spent: Usd,
    /// USD of that, for attempts whose outcome nobody knows.
    pub unknown: Usd,
    /// Attempts that may have cost what nobody knows, in all or in part; that is in no sum.
    pub unpriced: u64,
    /// USD; calls whose saving nobody knows are not in it.
    pub saved: Usd,
    /// Those calls.
    pub saved_unknown: u64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.calls += other.calls;
        self.from_memory += other.from_memory;
        self.failed += other.failed;
        self.attempts += other.attempts;
        self.images += other.images;
        self.spent += other.spent;
        self.unknown += other.unknown;
        self.unpriced += other.unpriced;
        self.saved += other.saved;
        self.saved_unknown += other.saved_unknown;
    }
}

/// One row: the words it is told apart by, in the order they were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub key: Vec<String>,
    #[serde(flatten)]
    pub sums: Sums,
}

/// Spending, cut and whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Spend {
    pub by: Vec<By>,
    /// The dearest first; by day, in order.
    pub rows: Vec<Row>,
    pub total: Sums,
}

impl Spend {
    pub fn of(past: &Past, by: &[By]) -> Spend {
        let mut rows: BTreeMap<Vec<String>, Sums> = BTreeMap::new();
        for call in &past.calls {
            for (what, sums) in parts(call) {
                let key = by.iter().map(|by| word(*by, call, &what)).collect();
                rows.entry(key).or_default().add(&sums);
            }
        }
        let mut total = Sums::default();
        rows.values().for_each(|sums| total.add(sums));
        let mut rows: Vec<Row> = rows
            .into_iter()
            .map(|(key, sums)| Row { key, sums })
            .collect();
        if by.first() != Some(&By::Day) {
            rows.sort_by_key(|row| std::cmp::Reverse(row.sums.spent));
        }
        Spend {
            by: by.to_vec(),
            rows,
            total,
        }
    }
}

/// What was bought, or asked for.
struct What<'a> {
    model: &'a ModelId,
    tier: Tier,
    sizes: &'a [String],
    /// Where no picture came.
    asked_size: &'a str,
}

impl What<'_> {
    /// The sizes of the pictures, each once.
    fn size(&self) -> String {
        let sizes: BTreeSet<&str> = self.sizes.iter().map(String::as_str).collect();
        match sizes.is_empty() {
            true => self.asked_size.to_owned(),
            false => Vec::from_iter(sizes).join(" "),
        }
    }
}

/// The call itself, and each of its attempts.
fn parts(call: &PastCall) -> impl Iterator<Item = (What<'_>, Sums)> {
    let answered = call.answered.as_ref();
    let given = answered.filter(|answer| answer.from == "provider");
    let last = call.attempts.last().filter(|_| given.is_some());
    let (model, tier) = match (last, answered) {
        (Some(attempt), _) => (&attempt.model, attempt.tier),
        (None, Some(answer)) => (&answer.model, call.decided.tier),
        (None, None) => (&call.asked.model, call.asked.tier),
    };
    let what = What {
        model,
        tier,
        sizes: answered.map_or(&[], |answer| &answer.sizes),
        asked_size: &call.asked.size,
    };
    let itself = Sums {
        calls: 1,
        from_memory: u64::from(answered.is_some() && given.is_none()),
        failed: u64::from(answered.is_none()),
        saved: call.saved.unwrap_or(Usd::ZERO),
        saved_unknown: u64::from(call.saved.is_none()),
        ..Sums::default()
    };
    let attempts = call.attempts.iter().map(|attempt| {
        let charge = attempt.charge.unwrap_or(Usd::ZERO);
        let lost = attempt.outcome == "unknown";
        let sums = Sums {
            attempts: 1,
            images: u64::from(attempt.images),
            spent: charge,
            unknown: if lost { charge } else { Usd::ZERO },
            unpriced: u64::from(
                (attempt.charge.is_none() || attempt.partly_unpriced)
                    && attempt.billed != Billed::No,
            ),
            ..Sums::default()
        };
        let what = What {
            model: &attempt.model,
            tier: attempt.tier,
            sizes: &attempt.sizes,
            asked_size: &call.decided.size,
        };
        (what, sums)
    });
    std::iter::once((what, itself)).chain(attempts)
}

fn word(by: By, call: &PastCall, what: &What<'_>) -> String {
    match by {
        By::Provider => what.model.provider().to_owned(),
        By::Model => what.model.as_str().to_owned(),
        By::Tier => what.tier.as_str().to_owned(),
        By::Size => what.size(),
        By::App => call.app.clone(),
        By::Day => call.at.get(..10).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::would::tests::{call, past};
    use serde_json::json;

    #[test]
    fn rows_add_up_to_the_whole_however_they_are_cut() {
        let mut moved = call("b");
        moved["at"] = json!("2026-11-21T10:00:00.000Z");
        moved["app"] = json!("catalog");
        moved["attempts"] = json!([
            {"i": 1, "model": "openai/gpt-image-2", "tier": "standard", "outcome": "unknown", "billed": "unknown", "charge": 0.000000003, "images": 0, "sizes": []},
            {"i": 2, "model": "odd/model", "tier": "flex", "outcome": "ok", "billed": "yes", "charge": null, "images": 2, "sizes": ["512x512", "512x768", "512x512"]},
        ]);
        moved["answered"] = json!({"from": "provider", "model": "odd/model", "sizes": ["512x512"]});
        moved["saved"] = json!(null);
        let mut memory = call("c");
        memory["attempts"] = json!([]);
        memory["answered"] =
            json!({"from": "cache", "model": "openai/gpt-image-2", "sizes": ["1024x1024"]});
        let past = past(&[call("a"), moved, memory]);
        let all = By::ALL.iter().copied();
        for by in all.clone().map(|by| vec![by]).chain([all.collect()]) {
            let spend = Spend::of(&past, &by);
            let mut sum = Sums::default();
            spend.rows.iter().for_each(|row| sum.add(&row.sums));
            assert_eq!(sum, spend.total, "{by:?}");
            assert_eq!(spend.total.spent, Usd::from_nano(5_000_003));
            assert_eq!(spend.total.unknown, Usd::from_nano(3));
            assert_eq!((spend.total.calls, spend.total.attempts), (3, 3));
            assert_eq!((spend.total.unpriced, spend.total.saved_unknown), (1, 1));
            assert_eq!((spend.total.from_memory, spend.total.failed), (1, 0));
        }
        let models = Spend::of(&past, &[By::Model]);
        let keys: Vec<&str> = models.rows.iter().map(|row| row.key[0].as_str()).collect();
        assert_eq!(keys, ["openai/gpt-image-2", "odd/model"]);
        assert_eq!(models.rows[1].sums.spent, Usd::ZERO);
        assert_eq!(models.rows[1].sums.unpriced, 1);
        let sizes = Spend::of(&past, &[By::Size]);
        let size = |size: &str| {
            sizes
                .rows
                .iter()
                .find(|row| row.key == [size])
                .unwrap()
                .sums
        };
        // The attempt that brought nothing counts where it was to bring something.
        assert_eq!(size("1024x1024").spent, Usd::from_nano(5_000_003));
        assert_eq!(size("512x512 512x768").images, 2);
        assert_eq!((size("512x512").calls, size("1024x1024").calls), (1, 2));
    }

    #[test]
    fn a_later_correction_counts_in_its_place() {
        let amend = json!({"type": "amend", "id": "a", "attempts": [{"i": 1, "billed": "yes", "charge": 0.25}]});
        let spend = Spend::of(&past(&[call("a"), amend]), &[By::App]);
        assert_eq!(spend.total.spent, "0.25".parse().unwrap());
    }
}
