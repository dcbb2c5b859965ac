//! `pixtoll prices drift`: what attempts were charged beside what they were quoted.
//!
//! Small differences are the nature of a quote: tokens of a prompt are estimated. A model drifts
//! when its charges leave its quotes by more than a tolerance in all, or one of them costs more
//! than a budget was told to reckon with. It is the price book that is judged: where a provider's
//! own quote counted, the charge is held against what the book had said all the same.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::Desk;
use super::diff::{moment, past};
use super::past::PastAttempt;
use crate::bill::ChargeFrom;
use crate::cli::envelope::{failed, told};
use crate::cli::paint::Ink;
use crate::cli::quoted::{QuoteFacts, signed};
use crate::cli::table::{Screen, Side, Table, plain};
use crate::cli::{DONE, Global, NO};
use crate::image::ModelId;
use crate::money::Usd;
use crate::price::Book;
use crate::record::QuoteFrom;

#[derive(Debug, Args)]
pub(crate) struct DriftArgs {
    /// Which calls of the decision log are looked at: 7d, or a time
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: String,
    /// By how many per cent a model's charges may differ from its quotes
    #[arg(long, value_name = "PERCENT", default_value_t = 1)]
    tolerance: u32,
    /// How many of the biggest differences are shown
    #[arg(long, value_name = "N", default_value_t = 5)]
    biggest: usize,
}

const COMMAND: &str = "prices drift";

pub(super) fn run(args: &DriftArgs, global: &Global) -> u8 {
    let desk = match Desk::open(global, COMMAND) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    let past = moment(&args.since).and_then(|since| past(&desk, since));
    let past = match past {
        Ok(past) => past,
        Err((code, problem)) => return failed(COMMAND, global, code, &[problem]),
    };
    let drift = Drift::of(&past.attempts, past.broken, args, &desk.book);
    let code = if drift.models.iter().any(|model| model.drifts) {
        NO
    } else {
        DONE
    };
    let text = drift.text(Screen::stdout());
    told(COMMAND, global, code, &drift, &text)
}

#[derive(Debug, Serialize)]
struct Drift<'a> {
    since: &'a str,
    tolerance_percent: u32,
    /// Sorted by model.
    models: Vec<ModelDrift>,
    /// Biggest difference first.
    biggest: Vec<Biggest<'a>>,
    /// Attempts without a quote or without a charge.
    unpriced: u64,
    /// Lines of the log that could not be read.
    broken: u64,
}

#[derive(Debug, Serialize)]
struct ModelDrift {
    model: ModelId,
    calls: u64,
    /// Charges that are not what was expected.
    discrepancies: u64,
    /// Charges above the most that was quoted.
    above: u64,
    quoted: Usd,
    charged: Usd,
    difference: Usd,
    drifts: bool,
}

/// One attempt and its difference, with both breakdowns.
#[derive(Debug, Serialize)]
struct Biggest<'a> {
    id: &'a str,
    attempt: u32,
    at: String,
    model: &'a ModelId,
    images: u32,
    quote: Usd,
    quote_high: Option<Usd>,
    /// Whose quote was held; the one that is compared is the book's.
    quote_from: QuoteFrom,
    charge: Usd,
    charge_from: ChargeFrom,
    difference: Usd,
    /// What the book says today.
    quote_today: Option<QuoteFacts>,
    /// What the answer said.
    codes: &'a BTreeMap<String, String>,
    /// What the log noted, both breakdowns among it where the charge lay beyond the quote.
    notes: &'a [String],
}

/// An attempt with both figures.
struct Pair<'a> {
    attempt: &'a PastAttempt,
    quote: Usd,
    charge: Usd,
}

impl Pair<'_> {
    fn difference(&self) -> Usd {
        self.charge - self.quote
    }

    fn above(&self) -> bool {
        let most = self.attempt.quote_high.unwrap_or(self.quote);
        self.charge > most
    }
}

impl<'a> Drift<'a> {
    fn of(attempts: &'a [PastAttempt], broken: u64, args: &'a DriftArgs, book: &Book) -> Drift<'a> {
        let mut unpriced = 0;
        let mut pairs = Vec::new();
        for attempt in attempts {
            match (attempt.quote, attempt.charge) {
                // What nobody reported or counted was booked at the quote itself.
                _ if attempt.charge_from == ChargeFrom::None => {}
                (Some(quote), Some(charge)) => pairs.push(Pair {
                    attempt,
                    quote,
                    charge,
                }),
                _ => unpriced += 1,
            }
        }
        let models = by_model(&pairs, args.tolerance);
        pairs.retain(|pair| !pair.difference().is_zero());
        pairs.sort_by_key(|pair| {
            let size = pair.difference().nano().unsigned_abs();
            (Reverse(size), &pair.attempt.call, pair.attempt.i)
        });
        pairs.truncate(args.biggest);
        Drift {
            since: &args.since,
            tolerance_percent: args.tolerance,
            models,
            biggest: pairs.iter().map(|pair| biggest(pair, book)).collect(),
            unpriced,
            broken,
        }
    }

    fn text(&self, screen: Screen) -> String {
        let mut out = String::new();
        if self.models.is_empty() {
            out.push_str(&format!("no charges beside quotes since {}\n", self.since));
        } else {
            out.push_str(&self.table().render(screen));
        }
        for biggest in &self.biggest {
            out.push('\n');
            out.push_str(&biggest.text(screen));
        }
        if self.unpriced > 0 {
            out.push_str(&format!(
                "{} attempts without a price are not among them\n",
                self.unpriced
            ));
        }
        if self.broken > 0 {
            out.push_str(&format!(
                "{} broken lines of the log were skipped\n",
                self.broken
            ));
        }
        out
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("MODEL", Side::Left),
            ("CALLS", Side::Right),
            ("DIFFER", Side::Right),
            ("ABOVE", Side::Right),
            ("QUOTED", Side::Right),
            ("CHARGED", Side::Right),
            ("DIFFERENCE", Side::Right),
            ("", Side::Left),
        ]);
        for model in &self.models {
            let mark = if model.drifts { "drifts" } else { "" };
            table.row([
                plain(model.model.to_string()),
                plain(model.calls.to_string()),
                plain(model.discrepancies.to_string()),
                plain(model.above.to_string()),
                plain(model.quoted.pretty()),
                plain(model.charged.pretty()),
                plain(signed(model.difference)),
                (mark.to_owned(), Ink::Red),
            ]);
        }
        table
    }
}

/// Sums of each model.
fn by_model(pairs: &[Pair], tolerance: u32) -> Vec<ModelDrift> {
    let mut models: BTreeMap<&ModelId, ModelDrift> = BTreeMap::new();
    for pair in pairs {
        let model = &pair.attempt.request.model;
        let sums = models.entry(model).or_insert_with(|| ModelDrift {
            model: model.clone(),
            calls: 0,
            discrepancies: 0,
            above: 0,
            quoted: Usd::ZERO,
            charged: Usd::ZERO,
            difference: Usd::ZERO,
            drifts: false,
        });
        sums.calls += 1;
        sums.discrepancies += u64::from(!pair.difference().is_zero());
        sums.above += u64::from(pair.above());
        sums.quoted += pair.quote;
        sums.charged += pair.charge;
        sums.difference += pair.difference();
    }
    let mut models: Vec<ModelDrift> = models.into_values().collect();
    for sums in &mut models {
        let most = sums.quoted.scaled(u64::from(tolerance), 100);
        let off = Usd::from_nano(sums.difference.nano().saturating_abs());
        sums.drifts = off > most || sums.above > 0;
    }
    models
}

fn biggest<'a>(pair: &Pair<'a>, book: &Book) -> Biggest<'a> {
    let attempt = pair.attempt;
    Biggest {
        id: &attempt.call,
        attempt: attempt.i,
        at: format!("{:.3}", attempt.at),
        model: &attempt.request.model,
        images: attempt.images,
        quote: pair.quote,
        quote_high: attempt.quote_high,
        quote_from: attempt.quote_from,
        charge: pair.charge,
        charge_from: attempt.charge_from,
        difference: pair.difference(),
        quote_today: book.quote(&attempt.request).as_ref().map(QuoteFacts::from),
        codes: &attempt.codes,
        notes: &attempt.notes,
    }
}

impl Biggest<'_> {
    fn text(&self, screen: Screen) -> String {
        let head = format!(
            "{} attempt {}  {}  quoted {}, charged {} ({}, {})",
            self.id,
            self.attempt,
            self.model,
            self.quote.pretty(),
            self.charge.pretty(),
            signed(self.difference),
            self.charge_from
        );
        let mut out = screen.line(&head, Ink::Bold);
        if let Some(quote) = &self.quote_today {
            out.push_str(&screen.line(&format!("  quote today   {quote}"), Ink::Plain));
        }
        let codes: Vec<String> = self
            .codes
            .iter()
            .map(|(name, text)| format!("{name} {text}"))
            .collect();
        for note in self.notes {
            out.push_str(&screen.line(&format!("  noted         {note}"), Ink::Plain));
        }
        if !codes.is_empty() {
            out.push_str(
                &screen.line(&format!("  answer said   {}", codes.join(", ")), Ink::Plain),
            );
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Billed, ImageRequest};

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn attempt(call: &str, quote: Option<&str>, charge: Option<&str>) -> PastAttempt {
        PastAttempt {
            call: call.to_owned(),
            i: 1,
            at: "2026-11-20T10:00:00Z".parse().unwrap(),
            request: ImageRequest::new(ModelId::new("openai", "dall-e-3"), "a fox"),
            billed: Billed::Yes,
            quote: quote.map(usd),
            quote_high: quote.map(usd),
            quote_from: QuoteFrom::Book,
            charge: charge.map(usd),
            charge_from: ChargeFrom::Usage,
            images: 1,
            codes: BTreeMap::new(),
            notes: Vec::new().into(),
        }
    }

    fn args(tolerance: u32) -> DriftArgs {
        DriftArgs {
            since: "30d".to_owned(),
            tolerance,
            biggest: 2,
        }
    }

    #[test]
    fn a_model_drifts_when_its_sum_leaves_the_tolerance() {
        let attempts = [
            attempt("a", Some("1"), Some("1")),
            attempt("b", Some("1"), Some("0.99")),
            attempt("c", Some("1"), Some("0.96")),
            attempt("d", Some("1"), None),
        ];
        let (loose, tight) = (args(2), args(1));
        let drift = Drift::of(&attempts, 0, &loose, Book::embedded());
        let [model] = drift.models.as_slice() else {
            panic!("{drift:?}");
        };
        assert_eq!((model.calls, model.discrepancies, model.above), (3, 2, 0));
        assert_eq!(model.difference, usd("-0.05"));
        assert_eq!(drift.unpriced, 1);
        assert!(!model.drifts);
        let ids: Vec<&str> = drift.biggest.iter().map(|biggest| biggest.id).collect();
        assert_eq!(ids, ["c", "b"]);
        let drift = Drift::of(&attempts, 0, &tight, Book::embedded());
        assert!(drift.models[0].drifts);
    }

    #[test]
    fn one_charge_above_the_most_that_was_quoted_is_enough() {
        let attempts = [
            attempt("a", Some("1"), Some("1.000001")),
            attempt("b", Some("1"), Some("0.999999")),
        ];
        let loose = args(50);
        let drift = Drift::of(&attempts, 0, &loose, Book::embedded());
        assert_eq!(drift.models[0].difference, Usd::ZERO);
        assert!(drift.models[0].drifts);
    }
}
