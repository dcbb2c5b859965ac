//! One list of failures for all providers: every recorded refusal is sorted into it, and every
//! provider's book says for each kind what it costs.

use std::collections::BTreeMap;

use super::*;
use crate::image::{Billed, Failure, FailureKind, Sent};
use crate::price::Book;

/// Every failure of the fixtures, with the case that told it.
fn failures() -> Vec<(Case, Failure)> {
    cases()
        .into_iter()
        // The messages about a job that are no answer to it are walked elsewhere.
        .filter(|case| !case.expect["answer"].is_null())
        .filter_map(|case| match case.next(usize::MAX).1 {
            Next::Failed(failure) => Some((case, *failure)),
            _ => None,
        })
        .collect()
}

#[test]
fn every_recorded_failure_is_of_the_kind_that_its_page_says() {
    for (case, failure) in failures() {
        let answer = &case.expect["answer"];
        assert_eq!(answer["outcome"], failure.kind.as_str(), "{}", case.name);
        let billed = answer["billed"].as_str();
        assert_eq!(billed, Some(failure.billed.as_str()), "{}", case.name);
    }
}

#[test]
fn how_far_it_got_and_whether_it_was_billed_do_not_contradict_each_other() {
    for (case, failure) in failures() {
        let Failure { sent, billed, .. } = failure;
        // Somebody answered: it was sent, and what was declined was not billed.
        assert_ne!(sent, Sent::NotSent, "{}", case.name);
        if sent == Sent::Refused {
            assert_eq!(billed, Billed::No, "{}", case.name);
        }
        if billed == Billed::Yes {
            assert_eq!(sent, Sent::Answered, "{}", case.name);
        }
        assert_eq!(
            failure.kind == FailureKind::Safety,
            failure.safety.is_some(),
            "{}: only moderation has a side",
            case.name
        );
        let success = case.reply.status.is_success();
        let of_status = [
            FailureKind::Auth,
            FailureKind::RateLimited,
            FailureKind::Quota,
        ];
        assert!(
            !success || !of_status.contains(&failure.kind),
            "{}: {} with status {}",
            case.name,
            failure.kind,
            case.reply.status
        );
    }
}

/// Moderation and a wrong key are told by each of them in words of its own; the other kinds by at
/// least one.
#[test]
fn every_dialect_tells_the_usual_failures_apart() {
    let mut told: BTreeMap<&str, Vec<FailureKind>> = BTreeMap::new();
    for (case, failure) in failures() {
        told.entry(case.dialect.name())
            .or_default()
            .push(failure.kind);
    }
    let usual = [FailureKind::Safety, FailureKind::Auth];
    for (dialect, kinds) in &told {
        let missing: Vec<_> = usual.iter().filter(|kind| !kinds.contains(kind)).collect();
        assert!(
            missing.is_empty(),
            "{dialect} has no fixture of {missing:?}"
        );
    }
    let all: Vec<FailureKind> = told.into_values().flatten().collect();
    // Time out and break off are seen on the connection and not in a message.
    let never = [
        FailureKind::Timeout,
        FailureKind::Network,
        FailureKind::Unknown,
    ];
    for kind in FailureKind::ALL.iter().filter(|kind| !never.contains(kind)) {
        assert!(all.contains(kind), "no fixture of {kind}");
    }
}

#[test]
fn what_a_failure_costs_follows_from_it_and_is_never_forgotten() {
    let book = Book::embedded();
    for (case, failure) in failures() {
        let request = case.request();
        let charge = book.failed_charge(&request, &failure);
        match failure.billed {
            Billed::No => assert_eq!(charge, crate::bill::Charge::NONE, "{}", case.name),
            // Known or not, what may have been billed is booked or said to be unpriced.
            Billed::Yes => assert_ne!(
                charge.amount,
                Some(crate::money::Usd::ZERO),
                "{}",
                case.name
            ),
            Billed::Unknown => {}
        }
    }
}
