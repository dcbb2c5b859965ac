//! What an answer or a failure is charged, and what is said when that is not what was expected.

use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;

use super::Pipeline;
use super::call::Call;
use super::plan::Plan;
use crate::bill::{Charge, ChargeFrom, Line, Quote};
use crate::image::{Billed, Failure, ImageResponse};
use crate::price::{Book, Discrepancy, Settled, Shortfall};
use crate::record::AttemptRecord;
use crate::wire::{ReplyHead, Rope};

/// A charge may lie so many thousandths beyond its quote before anybody is told: rates are
/// rounded in many places.
const TOLERANCE: u64 = 10;

impl Pipeline {
    /// The prices of the day on which something was bought that comes only now: a job, a line of a
    /// batch.
    pub(super) fn book_of(&self, bought: Timestamp) -> Arc<Book> {
        let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
        let then = self.book.of_day(&day(bought), &day(self.policy.now()));
        then.map_or_else(|| Arc::clone(&self.book), Arc::new)
    }

    /// What the answer costs. Where that lies beyond the quote, or less came than was paid for,
    /// the record says so.
    pub(super) fn charge(
        &self,
        call: &mut Call,
        plan: &Plan,
        head: &ReplyHead,
        body: &Rope,
        response: &mut ImageResponse,
    ) -> Charge {
        let provider = plan.request.model.provider();
        self.book
            .keep_signals(provider, &head.headers, body, &mut response.codes);
        let settled = self.book.settle(&plan.request, response);
        let settled = at_own_quote(plan, settled, response);
        let model = &plan.request.model;
        if let Some(short) = &settled.short {
            let text = worded_shortfall(short);
            if self.short.due(model) {
                tracing::warn!(%model, "{text}; said once an hour, noted with every call");
            }
            call.decision.notes.push(text);
        }
        let beyond = plan
            .quote
            .as_deref()
            .and_then(|quote| Discrepancy::beyond(quote, &settled, TOLERANCE));
        if let Some(beyond) = &beyond {
            let text = worded_discrepancy(beyond);
            if self.beyond.due(model) {
                tracing::warn!(%model, "{text}; said once an hour, noted with every call");
            }
            call.decision.notes.push(text);
        }
        settled.charge
    }

    /// Marks in the record what was paid for beside the pictures, and has no price.
    pub(super) fn note_paid_beside(
        &self,
        call: &mut Call,
        plan: &Plan,
        record: &mut AttemptRecord,
    ) {
        let Some(model) = plan.dialect.paid_beside(&plan.request) else {
            return;
        };
        record.partly_unpriced = record.billed != Billed::No;
        if record.partly_unpriced {
            call.decision.notes.push(format!(
                "{model} was paid for beside {}, and its share has no price here: the cost is not all",
                plan.request.model
            ));
        }
    }

    /// Where a provider's own quote lies beyond the book's, both breakdowns in words: the book is
    /// wrong then, and the charge, which is the provider's, would never show it.
    pub(super) fn book_is_off(&self, plan: &Plan, own: &Quote) -> Option<String> {
        let said = Settled {
            charge: Charge {
                amount: Some(own.expected),
                from: ChargeFrom::Reported,
            },
            lines: own.lines.clone(),
            short: None,
        };
        let beyond = Discrepancy::beyond(plan.quote.as_deref()?, &said, TOLERANCE)?;
        let text = format!(
            "the price book lies {} beside it: {} where the provider says {}",
            beyond.by.pretty(),
            parts(&beyond.quoted),
            parts(&beyond.charged)
        );
        let model = &plan.request.model;
        if self.beyond.due(model) {
            tracing::warn!(%model, "{text}; said once an hour, noted with every call");
        }
        Some(text)
    }

    /// What a failure cost: a quote of the provider's own counts before the book's list.
    pub(super) fn failure_charge(&self, plan: &Plan, failure: &Failure) -> Charge {
        let charge = self.book.failed_charge(&plan.request, failure);
        let by_list = matches!(charge.from, ChargeFrom::List | ChargeFrom::Unpriced);
        match plan.quote.as_deref().filter(|_| plan.own_quote && by_list) {
            None => charge,
            Some(own) => Charge {
                amount: Some(match failure.billed {
                    Billed::Yes => own.expected,
                    Billed::No | Billed::Unknown => own.high,
                }),
                from: ChargeFrom::List,
            },
        }
    }

    /// What the book knows of a failure besides: what the answer says that it cost, and whether
    /// this provider bills such failures at all. The rules decide on nothing less.
    pub(super) fn judge(
        &self,
        plan: &Plan,
        failure: &mut Failure,
        answer: Option<(&ReplyHead, &Rope)>,
    ) {
        let provider = plan.request.model.provider();
        if let Some((head, body)) = answer.filter(|_| failure.charge.is_none()) {
            failure.charge = self.book.told_charge(provider, &head.headers, body);
        }
        failure.billed = self.book.billed(provider, failure);
    }
}

/// An exact quote of the provider's own is what it charges, where its answer does not tell and all
/// that was ordered came.
fn at_own_quote(plan: &Plan, settled: Settled, response: &ImageResponse) -> Settled {
    let by_list = matches!(settled.charge.from, ChargeFrom::List | ChargeFrom::Unpriced);
    let came = response.images.len() as u64 + u64::from(response.withheld);
    let whole = by_list && came == u64::from(plan.request.n.max(1));
    let own = plan.quote.as_deref().filter(|_| plan.own_quote && whole);
    match own.filter(|own| own.low == own.high) {
        None => settled,
        Some(own) => Settled {
            charge: Charge {
                amount: Some(own.expected),
                from: ChargeFrom::Reported,
            },
            lines: own.lines.clone(),
            ..settled
        },
    }
}

fn worded_shortfall(short: &Shortfall) -> String {
    let ((width, height), (got_width, got_height)) = (short.paid_for, short.got);
    format!(
        "{width}x{height} was paid for and {got_width}x{got_height} came: {} too much",
        short.over.pretty()
    )
}

fn worded_discrepancy(beyond: &Discrepancy) -> String {
    let lines = beyond.quoted.len() + beyond.charged.len();
    let mut text = String::with_capacity(64 + 32 * lines);
    text.push_str("the charge lies ");
    beyond.by.put_pretty(&mut text);
    text.push_str(" beside its quote: quoted ");
    put_parts(&mut text, &beyond.quoted);
    text.push_str(", charged ");
    put_parts(&mut text, &beyond.charged);
    text
}

/// A breakdown on one line: `1 image $0.04 + 7 text in $0.00`.
fn parts(lines: &[Line]) -> String {
    let mut text = String::with_capacity(32 * lines.len());
    put_parts(&mut text, lines);
    text
}

/// The same behind what stands in `text`: of a provider whose quotes are off, every call has one.
fn put_parts(text: &mut String, lines: &[Line]) {
    for (place, line) in lines.iter().enumerate() {
        if place > 0 {
            text.push_str(" + ");
        }
        // A text takes whatever is written to it.
        let _ = write!(text, "{} {} ", line.count, line.what);
        line.amount.put_pretty(text);
    }
}
