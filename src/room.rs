//! Room in memory for the bodies of calls under way.
//!
//! However many clients call and however much providers answer, no more is held at once than was
//! configured. Whoever reads a body first takes room for it, in the order of asking, and gives it
//! back when the last reader is done with the bytes. A request that finds no room is declined: it
//! has cost nothing yet. An answer is paid for and never declined: while there is no room it is
//! left in its socket, and one answer at a time may go on beyond the common room, in a reserve as
//! large as the largest answer. So there is always one that comes to its end, and gives back what
//! the others wait for.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in KiB: a permit is a 32-bit number.
const UNIT: usize = 1024;
/// The largest image call that is read, however much room there is.
const LARGEST_REQUEST: u64 = 64 << 20;
/// The largest answer that is kept in memory.
const LARGEST_ANSWER: u64 = 256 << 20;
/// Less than this is no room for one picture.
pub const LEAST: u64 = 16 << 20;

/// All the room there is. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    common: Arc<Semaphore>,
    /// For the one answer that may go on when the common room is taken.
    reserve: Arc<Semaphore>,
    largest_request: usize,
    largest_answer: usize,
}

impl Memory {
    /// Room for `bodies` bytes of calls under way (at least [`LEAST`]), and for `kept` bytes that
    /// are kept when their calls have ended.
    pub fn new(bodies: u64, kept: u64) -> Memory {
        let bodies = bodies.max(LEAST);
        let largest_answer = LARGEST_ANSWER.min(bodies / 2);
        let common = bodies - largest_answer + kept;
        let units = usize::try_from(common / UNIT as u64).unwrap_or(usize::MAX);
        Memory {
            common: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            reserve: Arc::new(Semaphore::new(1)),
            largest_request: small(LARGEST_REQUEST.min(bodies / 4)),
            largest_answer: small(largest_answer),
        }
    }

    /// The largest image call that is read, in bytes.
    pub fn largest_request(&self) -> usize {
        self.largest_request
    }

    /// The largest answer that is read, in bytes.
    pub fn largest_answer(&self) -> usize {
        self.largest_answer
    }

    /// Room for nothing yet.
    pub fn room(&self) -> Room {
        Room {
            memory: self.clone(),
            held: Mutex::default(),
        }
    }

    /// Bytes that nobody has taken.
    pub fn free(&self) -> usize {
        self.common.available_permits().saturating_mul(UNIT)
    }
}

fn small(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Room for a body, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    memory: Memory,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    common: Option<OwnedSemaphorePermit>,
    reserve: Option<OwnedSemaphorePermit>,
}

impl Held {
    fn units(&self) -> usize {
        self.common
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

impl Room {
    /// What is missing for `bytes`, in units; none where the reserve covers it.
    fn missing(&self, bytes: usize) -> u32 {
        let held = self.held.lock();
        if held.reserve.is_some() {
            return 0;
        }
        let wanted = bytes.div_ceil(UNIT);
        u32::try_from(wanted.saturating_sub(held.units())).unwrap_or(u32::MAX)
    }

    fn add(&self, permit: OwnedSemaphorePermit) {
        let mut held = self.held.lock();
        match &mut held.common {
            Some(common) => common.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// Makes it room for `bytes` in all, if that can be had at once.
    pub fn try_grow(&self, bytes: usize) -> bool {
        let missing = self.missing(bytes);
        if missing == 0 {
            return true;
        }
        let taken = Arc::clone(&self.memory.common).try_acquire_many_owned(missing);
        taken.map(|permit| self.add(permit)).is_ok()
    }

    /// Makes it room for `bytes` in all, within `patience`: for what may still be declined.
    pub async fn grow_within(&self, bytes: usize, patience: Duration) -> bool {
        if self.try_grow(bytes) {
            return true;
        }
        let missing = self.missing(bytes);
        let taking = Arc::clone(&self.memory.common).acquire_many_owned(missing);
        match tokio::time::timeout(patience, taking).await {
            Ok(Ok(permit)) => {
                self.add(permit);
                true
            }
            _ => false,
        }
    }

    /// Makes it room for `bytes` in all, however long that takes: for what is paid for. No more
    /// than [`Memory::largest_answer`] may be asked for.
    pub async fn grow(&self, bytes: usize) {
        if self.try_grow(bytes) {
            return;
        }
        let missing = self.missing(bytes);
        let common = Arc::clone(&self.memory.common).acquire_many_owned(missing);
        let reserve = Arc::clone(&self.memory.reserve).acquire_owned();
        tokio::select! {
            biased;
            Ok(permit) = common => self.add(permit),
            Ok(permit) = reserve => self.held.lock().reserve = Some(permit),
            else => {}
        }
    }

    /// Whether what lies here may outlive its call: nothing in the reserve may.
    pub fn may_be_kept(&self) -> bool {
        self.held.lock().reserve.is_none()
    }

    /// The body is whole and takes `bytes`: what is over is given back, the reserve too
    /// where the common room has become large enough.
    pub fn settle(&self, bytes: usize) {
        let wanted = bytes.div_ceil(UNIT);
        let mut held = self.held.lock();
        if let Some(reserve) = held.reserve.take() {
            let missing = wanted.saturating_sub(held.units());
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            match Arc::clone(&self.memory.common).try_acquire_many_owned(missing) {
                Ok(permit) => match &mut held.common {
                    Some(common) => common.merge(permit),
                    none => *none = Some(permit),
                },
                Err(_) => {
                    held.reserve = Some(reserve);
                    return;
                }
            }
        }
        let over = held.units().saturating_sub(wanted);
        if let Some(common) = &mut held.common {
            drop(common.split(over));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// 16 MiB in all: half of it common, half the reserve.
    fn memory() -> Memory {
        Memory::new(16 << 20, 0)
    }

    #[tokio::test]
    async fn room_is_given_back_however_it_was_taken() {
        let memory = memory();
        assert_eq!(memory.free(), 8 * MIB);
        let (one, two) = (memory.room(), memory.room());
        assert!(one.try_grow(5 * MIB) && one.try_grow(6 * MIB));
        assert!(!two.try_grow(3 * MIB), "not half of what is asked for");
        one.settle(2 * MIB + 1);
        assert_eq!(memory.free(), 6 * MIB - UNIT);
        assert!(two.try_grow(3 * MIB));
        drop((one, two));
        assert_eq!(memory.free(), 8 * MIB);
    }

    #[tokio::test]
    async fn whoever_asks_first_is_first_and_a_request_is_declined_in_time() {
        let memory = memory();
        let (all, large, small) = (memory.room(), memory.room(), memory.room());
        assert!(all.try_grow(8 * MIB));
        let patience = Duration::from_secs(20);
        let turns = Mutex::new(Vec::new());
        let first = async {
            assert!(large.grow_within(8 * MIB, patience).await);
            turns.lock().push("large");
            large.settle(0);
        };
        let second = async {
            assert!(small.grow_within(UNIT, patience).await);
            turns.lock().push("small");
        };
        let release = async {
            tokio::task::yield_now().await; // both wait by now
            drop(all);
        };
        tokio::join!(first, second, release);
        assert_eq!(*turns.lock(), ["large", "small"]);
        let late = memory.room();
        assert!(!late.grow_within(8 * MIB, Duration::from_millis(1)).await);
        assert!(late.try_grow(7 * MIB), "nobody stands in the way any more");
    }

    /// Every answer has begun and none can go on: one after the other does all the same.
    #[tokio::test]
    async fn answers_that_hold_all_the_room_still_come_to_their_end() {
        let memory = memory();
        let rooms: Vec<Room> = (0..8).map(|_| memory.room()).collect();
        rooms.iter().for_each(|room| assert!(room.try_grow(MIB)));
        assert_eq!(memory.free(), 0);
        let read = rooms.into_iter().map(|room| async move {
            for mib in 2..=8 {
                room.grow(mib * MIB).await;
                tokio::task::yield_now().await;
            }
        });
        let all = futures_util::future::join_all(read);
        tokio::time::timeout(Duration::from_secs(20), all)
            .await
            .expect("all end");
        assert_eq!(memory.free(), 8 * MIB);
    }

    #[tokio::test]
    async fn what_lies_in_the_reserve_is_not_kept_while_there_is_no_other_room() {
        let memory = memory();
        let (all, one) = (memory.room(), memory.room());
        assert!(all.try_grow(8 * MIB));
        one.grow(4 * MIB).await;
        one.settle(4 * MIB);
        assert!(!one.may_be_kept());
        drop(all);
        one.settle(4 * MIB);
        assert!(one.may_be_kept());
        assert_eq!(memory.free(), 4 * MIB);
        let two = memory.room();
        two.grow(8 * MIB).await;
        assert!(
            two.held.lock().reserve.is_some(),
            "the reserve is free again"
        );
    }
}
