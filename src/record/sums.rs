//! What a call cost and why, what it saved and by which lever. Pure, and exact to the nano-dollar.

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::decision::{AttemptRecord, Delivered, Outcome};
use crate::image::{Billed, words};
use crate::money::Usd;

/// What the money went for. The parts add up to the call's cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Causes {
    /// For the pictures that the caller got.
    pub delivered: Usd,
    /// For pictures that a rule sent back for others.
    pub retry: Usd,
    /// For attempts that failed and cost all the same.
    pub failed_billed: Usd,
    /// For attempts that may have cost, as they are booked.
    pub unknown: Usd,
    /// For pictures that reached nobody.
    pub undelivered: Usd,
    /// For pictures that had been bought before.
    pub duplicate: Usd,
}

impl Causes {
    /// The call's cost, USD.
    pub fn sum(&self) -> Usd {
        self.delivered
            + self.retry
            + self.failed_billed
            + self.unknown
            + self.undelivered
            + self.duplicate
    }
}

/// What the attempts of a call cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent {
    pub causes: Causes,
    /// Whether that is all: no attempt with an unknown price or outcome.
    pub exact: bool,
    /// Whether an attempt cost something that nobody can tell.
    pub unpriced: bool,
}

impl Spent {
    /// Sorts each attempt's charge by its cause.
    ///
    /// `answer` has the `i` of the attempts whose pictures the caller was given, in order. Pictures
    /// bought before them were sent back (`retry`), those bought after them had been bought already
    /// (`duplicate`); without an answer all of them reached nobody. An answer from the cache
    /// (`delivered` without `answer`) makes pictures of this call's own attempts duplicates.
    pub fn of(attempts: &[AttemptRecord], answer: &[u32], delivered: Option<Delivered>) -> Spent {
        let mut spent = Spent {
            causes: Causes::default(),
            exact: true,
            unpriced: false,
        };
        for attempt in attempts {
            spent.exact &= attempt.billed != Billed::Unknown;
            // What is known counts; what is not makes it less than all.
            let partly = attempt.partly_unpriced && attempt.billed != Billed::No;
            spent.exact &= !partly;
            spent.unpriced |= partly;
            let Some(charge) = attempt.charge else {
                let free = attempt.billed == Billed::No;
                spent.exact &= free;
                spent.unpriced |= !free;
                continue;
            };
            *spent.causes.of(attempt, answer, delivered) += charge;
        }
        spent
    }

    /// What is known to have been spent, USD.
    pub fn cost(&self) -> Usd {
        self.causes.sum()
    }
}

impl Causes {
    fn of(
        &mut self,
        attempt: &AttemptRecord,
        answer: &[u32],
        delivered: Option<Delivered>,
    ) -> &mut Usd {
        let given = answer.contains(&attempt.i);
        let before = answer.first().is_some_and(|first| attempt.i < *first);
        match (attempt.outcome, delivered) {
            (Outcome::Failed, _) => &mut self.failed_billed,
            (Outcome::Unknown, _) => &mut self.unknown,
            (_, None) => &mut self.undelivered,
            (_, _) if before => &mut self.retry,
            (_, _) if !given => &mut self.duplicate,
            (_, Some(Delivered::No)) => &mut self.undelivered,
            _ => &mut self.delivered,
        }
    }
}

/// What a call saved: the yardstick less the cost where it was answered, less than nothing where
/// it was paid for and no picture came; `None` where a price is unknown.
pub fn saved(yardstick: Option<Usd>, spent: &Spent, answered: bool) -> Option<Usd> {
    if spent.unpriced {
        return None;
    }
    if answered {
        yardstick.map(|quote| quote - spent.cost())
    } else {
        Some(-spent.cost())
    }
}

words! {
    /// What can make a call cheaper.
    Lever {
        /// The same picture from memory.
        Repeat = "repeat",
        /// An equal call was in flight.
        Collapse = "collapse",
        /// A cheaper model.
        Route = "route",
        /// Fewer pixels.
        Resolution = "resolution",
        Quality = "quality",
        Steps = "steps",
        /// Fewer pictures.
        Count = "count",
        /// A slower tier.
        Tier = "tier",
        Batch = "batch",
    }
}

/// One lever pulled: the price of the request before and after, `None` where it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub lever: Lever,
    pub before: Option<Usd>,
    pub after: Option<Usd>,
}

/// The saving by lever. The parts add up to the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SavedBy([Usd; Lever::ALL.len()]);

impl SavedBy {
    /// What one lever saved, USD; negative where it cost.
    pub fn get(&self, lever: Lever) -> Usd {
        self.0[lever as usize]
    }

    /// Credits one lever.
    pub fn add(&mut self, lever: Lever, amount: Usd) {
        self.0[lever as usize] += amount;
    }

    pub fn sum(&self) -> Usd {
        self.0.iter().copied().sum()
    }
}

impl Serialize for SavedBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(Lever::ALL.len()))?;
        for lever in Lever::ALL {
            map.serialize_entry(lever, &self.get(*lever))?;
        }
        map.end()
    }
}

/// Credits each lever with the difference it made to the quote.
///
/// What the steps do not explain goes to `route`, so that the parts add up exactly: the choice of
/// the model is what decides between a quote and a charge. Nothing is credited where the saving
/// is unknown.
pub fn attribute(saved: Option<Usd>, steps: &[Step]) -> SavedBy {
    let mut by = SavedBy::default();
    let Some(saved) = saved else {
        return by;
    };
    for step in steps {
        if let (Some(before), Some(after)) = (step.before, step.after) {
            by.add(step.lever, before - after);
        }
    }
    let rest = saved - by.sum();
    by.add(Lever::Route, rest);
    by
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::ChargeFrom;
    use crate::image::{ImageRequest, ModelId};
    use proptest::prelude::*;

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn attempt(i: u32, outcome: Outcome, charge: Option<&str>) -> AttemptRecord {
        let request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a cat");
        let mut record = AttemptRecord::new(i, &request, None);
        record.outcome = outcome;
        record.billed = match outcome {
            Outcome::Unknown => Billed::Unknown,
            _ => Billed::Yes,
        };
        record.charge = charge.map(usd);
        record.charge_from = ChargeFrom::List;
        record
    }

    #[test]
    fn each_charge_has_one_cause() {
        let attempts = [
            attempt(1, Outcome::Failed, Some("0.01")),
            attempt(2, Outcome::Unknown, Some("0.02")),
            attempt(3, Outcome::Ok, Some("0.04")),
            attempt(4, Outcome::Ok, Some("0.08")),
            attempt(5, Outcome::Partial, Some("0.16")),
        ];
        let spent = Spent::of(&attempts, &[4], Some(Delivered::Yes));
        assert_eq!(
            spent.causes,
            Causes {
                failed_billed: usd("0.01"),
                unknown: usd("0.02"),
                retry: usd("0.04"),
                delivered: usd("0.08"),
                duplicate: usd("0.16"),
                undelivered: Usd::ZERO,
            }
        );
        assert!(!spent.exact);
        assert!(!spent.unpriced);
        let nobody = Spent::of(&attempts[3..4], &[4], Some(Delivered::No));
        assert_eq!(nobody.causes.undelivered, usd("0.08"));
        let no_answer = Spent::of(&attempts[3..4], &[], None);
        assert_eq!(no_answer.causes.undelivered, usd("0.08"));
    }

    #[test]
    fn pictures_of_several_attempts_are_delivered_together() {
        let attempts = [
            attempt(1, Outcome::Ok, Some("0.01")),
            attempt(2, Outcome::Ok, Some("0.02")),
            attempt(3, Outcome::Failed, Some("0.04")),
            attempt(4, Outcome::Ok, Some("0.08")),
        ];
        let causes = Spent::of(&attempts, &[2, 4], Some(Delivered::Yes)).causes;
        let parts = (causes.retry, causes.delivered, causes.failed_billed);
        assert_eq!(parts, (usd("0.01"), usd("0.10"), usd("0.04")));
    }

    #[test]
    fn an_unknown_price_is_not_zero() {
        let spent = Spent::of(&[attempt(1, Outcome::Ok, None)], &[1], Some(Delivered::Yes));
        assert!(spent.unpriced && !spent.exact);
        assert_eq!(saved(Some(usd("0.04")), &spent, true), None);
        assert_eq!(saved(Some(usd("0.04")), &spent, false), None);
    }

    #[test]
    fn a_price_of_a_part_is_not_that_of_the_whole() {
        let part = |billed| AttemptRecord {
            partly_unpriced: true,
            billed,
            ..attempt(1, Outcome::Ok, Some("0.02"))
        };
        let spent = Spent::of(&[part(Billed::Yes)], &[1], Some(Delivered::Yes));
        assert_eq!(spent.cost(), usd("0.02"));
        assert!(spent.unpriced && !spent.exact);
        assert_eq!(saved(Some(usd("0.04")), &spent, true), None);
        let free = Spent::of(&[part(Billed::No)], &[1], Some(Delivered::Yes));
        assert!(!free.unpriced && free.exact);
    }

    #[test]
    fn a_saving_is_the_yardstick_less_the_cost() {
        let free = Spent::of(&[], &[], Some(Delivered::Yes));
        let paid = Spent::of(&[attempt(1, Outcome::Failed, Some("0.03"))], &[], None);
        assert_eq!(saved(Some(usd("0.04")), &free, true), Some(usd("0.04")));
        assert_eq!(saved(None, &free, true), None);
        assert_eq!(saved(Some(usd("0.04")), &paid, true), Some(usd("0.01")));
        assert_eq!(saved(Some(usd("0.04")), &paid, false), Some(usd("-0.03")));
        assert_eq!(saved(None, &paid, false), Some(usd("-0.03")));
    }

    #[test]
    fn each_lever_is_credited_with_what_it_took_off() {
        let step = |lever, before, after| Step {
            lever,
            before: Some(usd(before)),
            after: Some(usd(after)),
        };
        let steps = [
            step(Lever::Resolution, "0.20", "0.12"),
            step(Lever::Quality, "0.12", "0.05"),
            step(Lever::Route, "0.05", "0.035"),
        ];
        // The charge came out two tenths of a cent above the quote.
        let by = attribute(Some(usd("0.163")), &steps);
        assert_eq!(by.get(Lever::Resolution), usd("0.08"));
        assert_eq!(by.get(Lever::Quality), usd("0.07"));
        assert_eq!(by.get(Lever::Route), usd("0.013"));
        assert_eq!(by.sum(), usd("0.163"));
    }

    #[test]
    fn nothing_is_credited_where_the_saving_is_unknown() {
        let step = Step {
            lever: Lever::Repeat,
            before: Some(usd("0.04")),
            after: Some(Usd::ZERO),
        };
        assert_eq!(attribute(None, &[step]), SavedBy::default());
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        proptest::sample::select(Outcome::ALL)
    }

    proptest! {
        #[test]
        fn savings_add_up_whatever_the_steps(
            saved in -1_000_000_000_000i64..1_000_000_000_000,
            steps in proptest::collection::vec(
                (0usize..Lever::ALL.len(), proptest::option::of(0i64..1_000_000_000_000), proptest::option::of(0i64..1_000_000_000_000)),
                0..12,
            ),
        ) {
            let steps: Vec<Step> = steps
                .into_iter()
                .map(|(lever, before, after)| Step {
                    lever: Lever::ALL[lever],
                    before: before.map(Usd::from_nano),
                    after: after.map(Usd::from_nano),
                })
                .collect();
            let by = attribute(Some(Usd::from_nano(saved)), &steps);
            prop_assert_eq!(by.sum(), Usd::from_nano(saved));
        }

        #[test]
        fn causes_add_up_to_every_charge(
            attempts in proptest::collection::vec((any_outcome(), proptest::option::of(0i64..1_000_000_000_000)), 0..8),
            answer in proptest::collection::vec(1u32..9, 0..3),
            delivered in proptest::option::of(proptest::sample::select(Delivered::ALL)),
        ) {
            let records: Vec<AttemptRecord> = attempts
                .iter()
                .zip(1..)
                .map(|((outcome, charge), i)| AttemptRecord {
                    charge: charge.map(Usd::from_nano),
                    ..attempt(i, *outcome, None)
                })
                .collect();
            let all: Usd = records.iter().filter_map(|record| record.charge).sum();
            prop_assert_eq!(Spent::of(&records, &answer, delivered).cost(), all);
        }
    }
}
