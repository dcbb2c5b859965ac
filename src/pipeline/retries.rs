//! The retry budget: how many calls may be sent again, of all that come.
//!
//! When a provider is ill, every call to it fails, and a rule that asks each of them again
//! multiplies the load. So of the calls of the last minute only a share is sent again to a
//! provider that they were at already, with a floor for quiet times. What moves to another
//! provider is new there and not counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const SLOTS: usize = 6;
const SLOT: Duration = Duration::from_secs(10);

/// How many retries a minute there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Of a hundred calls.
    pub percent: u32,
    /// So many always.
    pub floor: u32,
}

/// Calls and retries of the last minute, by tens of seconds.
#[derive(Debug)]
pub struct Retries {
    began: Instant,
    budget: RetryBudget,
    slots: Mutex<[Slot; SLOTS]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which ten seconds since the beginning it counts.
    number: u64,
    calls: u32,
    retries: u32,
}

impl Retries {
    pub fn new(budget: RetryBudget, now: Instant) -> Retries {
        Retries {
            began: now,
            budget,
            slots: Mutex::default(),
        }
    }

    /// A call goes out for the first time.
    pub(super) fn called(&self, now: Instant) {
        let number = self.number(now);
        let mut slots = self.slots.lock();
        let slot = at(&mut slots, number);
        slot.calls = slot.calls.saturating_add(1);
    }

    /// Whether one more retry fits, which is counted then.
    pub(super) fn spend(&self, now: Instant) -> Result<(), String> {
        let number = self.number(now);
        let mut slots = self.slots.lock();
        let recent = slots
            .iter()
            .filter(|slot| number - slot.number.min(number) < SLOTS as u64);
        let (calls, retries) = recent.fold((0_u64, 0_u64), |(calls, retries), slot| {
            (
                calls + u64::from(slot.calls),
                retries + u64::from(slot.retries),
            )
        });
        let RetryBudget { percent, floor } = self.budget;
        let most = (calls * u64::from(percent) / 100).max(u64::from(floor));
        if retries >= most {
            return Err(format!(
                "the retry budget is used up: {retries} of {calls} calls of the last minute were sent again (retry_budget: {percent} % of them, at least {floor})"
            ));
        }
        at(&mut slots, number).retries += 1;
        Ok(())
    }

    fn number(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / SLOT.as_secs()
    }
}

/// The slot of these ten seconds, empty where it last counted others.
fn at(slots: &mut [Slot; SLOTS], number: u64) -> &mut Slot {
    let slot = &mut slots[(number % SLOTS as u64) as usize];
    if slot.number != number {
        *slot = Slot {
            number,
            ..Slot::default()
        };
    }
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_minutes_calls_and_a_floor() {
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let budget = RetryBudget {
            percent: 20,
            floor: 2,
        };
        let retries = Retries::new(budget, start);
        let spent = |at| (0..1000).take_while(|_| retries.spend(at).is_ok()).count();
        assert_eq!(spent(start), 2, "the floor");
        for second in 0..50 {
            retries.called(later(second));
        }
        assert_eq!(spent(later(50)), 8, "a fifth of fifty, less the two");
        let why = retries.spend(later(50)).unwrap_err();
        assert!(why.contains("10 of 50 calls"), "{why}");
        assert_eq!(
            spent(later(75)),
            0,
            "thirty calls and eight retries are left"
        );
        assert_eq!(spent(later(115)), 2, "all is past but the floor");
    }

    #[test]
    fn none_where_none_are_wanted() {
        let now = Instant::now();
        let budget = RetryBudget {
            percent: 0,
            floor: 0,
        };
        assert!(Retries::new(budget, now).spend(now).is_err());
    }
}
