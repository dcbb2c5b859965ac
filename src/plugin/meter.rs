//! How much CPU a hook may use, and the stop that it cannot catch.
//!
//! The limit is CPU time of the thread, not time on the wall: on a busy machine a hook that does
//! next to nothing can be kept waiting for a millisecond. The thread's CPU clock is a system call,
//! so it is read only by a hook that has already been running for half its limit on the wall.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// What a hook may use on the thread of its call.
pub(super) const IN_PLACE: Duration = Duration::from_millis(1);
/// What a hook may use on the VM threads.
pub(super) const ON_THREADS: Duration = Duration::from_millis(50);
/// What a file may use to load.
pub(super) const AT_LOAD: Duration = Duration::from_millis(250);

/// The clock is read at every so-manieth interrupt. Low, because a single library call between
/// two interrupts can take milliseconds.
const EVERY: u32 = 4;

/// Counts down for one run of a VM at a time.
#[derive(Debug)]
pub(super) struct Meter {
    interrupts: AtomicU32,
    expired: AtomicBool,
    clock: Mutex<Clock>,
}

#[derive(Debug)]
struct Clock {
    limit: Duration,
    /// Nobody looks at the CPU clock before this.
    look: Instant,
    /// CPU time of the thread at which the run ends, once somebody has looked.
    end: Option<Duration>,
    /// Where the run was stopped.
    at: Option<String>,
}

impl Meter {
    pub(super) fn new() -> Meter {
        Meter {
            interrupts: AtomicU32::new(0),
            expired: AtomicBool::new(false),
            clock: Mutex::new(Clock {
                limit: IN_PLACE,
                look: Instant::now(),
                end: None,
                at: None,
            }),
        }
    }

    /// Begins a run on this thread.
    pub(super) fn start(&self, limit: Duration) {
        self.interrupts.store(0, Ordering::Relaxed);
        self.expired.store(false, Ordering::Relaxed);
        *self.clock.lock() = Clock {
            limit,
            look: Instant::now() + limit / 2,
            end: None,
            at: None,
        };
    }

    /// Whether the run may go on. Once it may not, it never may again: a hook can catch the error,
    /// but not get past the next interrupt.
    pub(super) fn interrupt(&self) -> bool {
        if self.expired() {
            return false;
        }
        let count = self.interrupts.fetch_add(1, Ordering::Relaxed);
        !count.is_multiple_of(EVERY) || self.tick()
    }

    /// As [`Meter::interrupt`], and always reads the clock: for what takes long by itself.
    pub(super) fn tick(&self) -> bool {
        let mut clock = self.clock.lock();
        if Instant::now() < clock.look {
            return true;
        }
        let used = thread_cpu();
        let half = clock.limit / 2;
        // At most half the limit was used before anybody looked.
        let end = *clock.end.get_or_insert(used + half);
        if used >= end {
            self.expired.store(true, Ordering::Relaxed);
        }
        used < end
    }

    pub(super) fn expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// Keeps the first place that is told.
    pub(super) fn stopped_at(&self, place: impl FnOnce() -> Option<String>) {
        let mut clock = self.clock.lock();
        if clock.at.is_none() {
            clock.at = place();
        }
    }

    pub(super) fn place(&self) -> Option<String> {
        self.clock.lock().at.clone()
    }
}

/// CPU time that this thread has used.
pub(super) fn thread_cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_for_good_after_its_cpu_time() {
        let meter = Meter::new();
        meter.start(IN_PLACE);
        let began = thread_cpu();
        while meter.interrupt() {}
        assert!(thread_cpu() - began >= IN_PLACE / 2);
        assert!(meter.expired() && !meter.interrupt());
        meter.start(IN_PLACE);
        assert!(meter.interrupt());
    }
}
