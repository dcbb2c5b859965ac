//! How each model is doing: whether it answers, and how long that takes.
//!
//! A breaker a model (a model is always written with its provider) opens when its provider fails,
//! and lets one call at a time through after a while to see. It is a hint for rules and routes: an
//! app's own call is never kept back by it. Nothing here reads a clock; the moment is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use crate::image::{Failure, FailureKind, ModelId, Tier, words};

/// So many attempts are looked back on.
const WINDOW: u32 = 20;
/// Failures in a row that open a breaker.
const IN_A_ROW: u32 = 5;
/// Failures within [`WINDOW`] that open it, in whatever order.
const OF_WINDOW: u32 = 10;
/// Whatever lies further back than this says nothing of now.
const FRESH: Duration = Duration::from_secs(60);
/// How long a breaker stays open first; twice as long after each probe that fails.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// A probe that has not ended after this is given up: its call may be gone.
const PROBE: Duration = Duration::from_secs(300);
/// Answers whose times are kept, a model and tier.
const TIMES: usize = 64;
/// So few answers say nothing of the next one.
const ENOUGH: usize = 5;
/// Models that are watched: names come from apps, and memory must not grow with them.
const MODELS: usize = 1024;

words! {
    /// Whether a model can be used.
    State {
        Closed = "closed",
        Open = "open",
        /// The next call is a probe, or one is under way.
        HalfOpen = "half_open",
    }
}

/// What is known of a model now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// How long its answers take, by their middle; `None` before there are enough of them.
    pub p50_ms: Option<u64>,
    pub p95_ms: Option<u64>,
    /// Of the last twenty attempts within a minute, those that its provider failed.
    pub failures: u32,
}

/// How an attempt ended, as far as it tells of the model's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// There is a picture, and it took so long.
    Well(Duration),
    /// The provider failed. It may have said when to come again.
    Badly(Option<Duration>),
    /// It answered, and that says nothing: a prompt refused, a wrong key, a limit.
    Neither,
}

impl Ended {
    /// What a failure tells of whoever made it.
    pub fn of(failure: &Failure) -> Ended {
        match failure.kind {
            FailureKind::Overloaded
            | FailureKind::Server
            | FailureKind::Timeout
            | FailureKind::Network => Ended::Badly(failure.retry_after),
            _ => Ended::Neither,
        }
    }
}

/// Everything that is known of how models are doing. Bounded, and cheap where all is well.
#[derive(Debug, Default)]
pub struct Board {
    models: RwLock<foldhash::HashMap<ModelId, Arc<Mutex<Chart>>>>,
    /// Breakers that are not closed: while there are none, nothing is looked up.
    troubled: AtomicUsize,
}

/// What is known of one model.
#[derive(Debug)]
struct Chart {
    /// The last attempts, the newest in the lowest bit; set where the provider failed.
    outcomes: u32,
    /// When the last of them ended.
    seen: Instant,
    breaker: Breaker,
    /// How long answers took, by tier.
    times: [Option<Box<Times>>; Tier::ALL.len()],
}

#[derive(Clone, Copy, Debug)]
enum Breaker {
    Closed,
    Open {
        until: Instant,
        /// How long it rested; the next rest is longer.
        rest: Duration,
        /// Since when a probe is under way.
        probing: Option<Instant>,
    },
}

impl Board {
    /// Whether a route may lead to `model` now.
    ///
    /// # Errors
    /// Why not, in words for people.
    pub fn allows(&self, model: &ModelId, now: Instant) -> Result<(), String> {
        if self.troubled.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let Some(chart) = self.chart(model) else {
            return Ok(());
        };
        let chart = chart.lock();
        let Breaker::Open { until, probing, .. } = chart.breaker else {
            return Ok(());
        };
        let left = until.saturating_duration_since(now);
        if !left.is_zero() {
            let seconds = left.as_millis().div_ceil(1000);
            return Err(format!("its breaker is open for another {seconds} s"));
        }
        match probing {
            Some(since) if now.saturating_duration_since(since) < PROBE => {
                Err("its breaker is half open and being tried".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// An attempt goes out: with a breaker that was open long enough it is the probe.
    pub fn began(&self, model: &ModelId, now: Instant) {
        if self.troubled.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(chart) = self.chart(model)
            && let Breaker::Open { until, probing, .. } = &mut chart.lock().breaker
            && *until <= now
        {
            probing.get_or_insert(now);
        }
    }

    /// An attempt ended.
    pub fn ended(&self, model: &ModelId, tier: Tier, ended: Ended, now: Instant) {
        let Some(chart) = self.chart(model).or_else(|| self.begin_chart(model, now)) else {
            return;
        };
        let mut chart = chart.lock();
        let was_closed = matches!(chart.breaker, Breaker::Closed);
        chart.note(tier, ended, now);
        match (was_closed, matches!(chart.breaker, Breaker::Closed)) {
            (true, false) => self.troubled.fetch_add(1, Ordering::Relaxed),
            (false, true) => self.troubled.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// How `model` is doing, with the times of one tier.
    pub fn health(&self, model: &ModelId, tier: Tier, now: Instant) -> Health {
        let Some(chart) = self.chart(model) else {
            return Health {
                state: State::Closed,
                p50_ms: None,
                p95_ms: None,
                failures: 0,
            };
        };
        let chart = chart.lock();
        let times = chart.times[place(tier)].as_deref();
        Health {
            state: match chart.breaker {
                Breaker::Closed => State::Closed,
                Breaker::Open { until, .. } if until > now => State::Open,
                Breaker::Open { .. } => State::HalfOpen,
            },
            p50_ms: times.and_then(|times| times.percentile(50)),
            p95_ms: times.and_then(|times| times.percentile(95)),
            failures: chart.recent(now).count_ones(),
        }
    }

    /// The time within which nineteen of twenty answers of `model` come, where enough came.
    pub fn p95(&self, model: &ModelId, tier: Tier) -> Option<Duration> {
        let chart = self.chart(model)?;
        let chart = chart.lock();
        let times = chart.times[place(tier)].as_deref()?;
        times.percentile(95).map(Duration::from_millis)
    }

    fn chart(&self, model: &ModelId) -> Option<Arc<Mutex<Chart>>> {
        self.models.read().get(model).cloned()
    }

    fn begin_chart(&self, model: &ModelId, now: Instant) -> Option<Arc<Mutex<Chart>>> {
        let mut models = self.models.write();
        if models.len() >= MODELS && !models.contains_key(model) {
            // Whoever is well and was not seen for a while is told anew when it comes back.
            models.retain(|_, chart| !chart.lock().is_forgettable(now));
            if models.len() >= MODELS {
                return None;
            }
        }
        let chart = models.entry(model.clone()).or_insert_with(|| {
            Arc::new(Mutex::new(Chart {
                outcomes: 0,
                seen: now,
                breaker: Breaker::Closed,
                times: Default::default(),
            }))
        });
        Some(Arc::clone(chart))
    }
}

impl Chart {
    /// The outcomes that still say something.
    fn recent(&self, now: Instant) -> u32 {
        match now.saturating_duration_since(self.seen) < FRESH {
            true => self.outcomes,
            false => 0,
        }
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        matches!(self.breaker, Breaker::Closed) && now.saturating_duration_since(self.seen) >= FRESH
    }

    fn note(&mut self, tier: Tier, ended: Ended, now: Instant) {
        let failed = match ended {
            Ended::Neither => {
                // Neither well nor ill: the next one may be the probe.
                if let Breaker::Open { probing, .. } = &mut self.breaker {
                    *probing = None;
                }
                return;
            }
            Ended::Well(took) => {
                let times = self.times[place(tier)].get_or_insert_default();
                times.put(took);
                false
            }
            Ended::Badly(_) => true,
        };
        self.outcomes = (self.recent(now) << 1 | u32::from(failed)) & ((1 << WINDOW) - 1);
        self.seen = now;
        let asked = match ended {
            Ended::Badly(asked) => asked.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        self.breaker = match self.breaker {
            _ if !failed && self.is_well(now) => {
                self.outcomes = match self.breaker {
                    Breaker::Closed => self.outcomes,
                    Breaker::Open { .. } => 0, // a probe went well: it begins anew
                };
                Breaker::Closed
            }
            Breaker::Closed if self.fails_too_often() => open(FIRST_REST, asked, now),
            // The probe failed. What was sent before it opened and fails now says nothing new.
            Breaker::Open { until, rest, .. } if failed && until <= now => {
                open((rest * 2).min(LONGEST_REST), asked, now)
            }
            same => same,
        };
    }

    /// Whether a good end closes the breaker, or leaves it closed.
    fn is_well(&self, now: Instant) -> bool {
        match self.breaker {
            Breaker::Closed => true,
            Breaker::Open { until, .. } => until <= now,
        }
    }

    fn fails_too_often(&self) -> bool {
        self.outcomes.trailing_ones() >= IN_A_ROW || self.outcomes.count_ones() >= OF_WINDOW
    }
}

/// Open for `rest`, or for as long as the provider asked to be left alone.
fn open(rest: Duration, asked: Duration, now: Instant) -> Breaker {
    Breaker::Open {
        until: now + rest.max(asked.min(LONGEST_REST)),
        rest,
        probing: None,
    }
}

fn place(tier: Tier) -> usize {
    tier as usize
}

/// How long the last answers took: few enough to be sorted whenever somebody asks.
#[derive(Debug)]
struct Times {
    ms: [u32; TIMES],
    count: usize,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            ms: [0; TIMES],
            count: 0,
        }
    }
}

impl Times {
    fn put(&mut self, took: Duration) {
        self.ms[self.count % TIMES] = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
        self.count += 1;
    }

    /// The time, in milliseconds, within which so many of a hundred came.
    fn percentile(&self, percent: usize) -> Option<u64> {
        let len = self.count.min(TIMES);
        if len < ENOUGH {
            return None;
        }
        let mut sorted = self.ms;
        let sorted = &mut sorted[..len];
        sorted.sort_unstable();
        Some(u64::from(sorted[(len * percent).div_ceil(100) - 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Tier = Tier::Standard;
    const SECOND: Duration = Duration::from_secs(1);

    fn fox() -> ModelId {
        ModelId::new("fox", "one")
    }

    fn fail(board: &Board, times: u32, now: Instant) {
        for _ in 0..times {
            board.ended(&fox(), T, Ended::Badly(None), now);
        }
    }

    #[test]
    fn it_opens_lets_one_through_and_closes() {
        let (board, start) = (Board::default(), Instant::now());
        let state = |at| board.health(&fox(), T, at).state;
        fail(&board, 4, start);
        assert_eq!(board.allows(&fox(), start), Ok(()));
        assert_eq!(board.health(&fox(), T, start).failures, 4);
        fail(&board, 1, start);
        let why = board.allows(&fox(), start).unwrap_err();
        assert_eq!(why, "its breaker is open for another 10 s");
        assert_eq!(board.allows(&ModelId::new("fox", "two"), start), Ok(()));
        assert_eq!(state(start), State::Open);

        let later = start + 10 * SECOND;
        assert_eq!(state(later), State::HalfOpen);
        assert_eq!(board.allows(&fox(), later), Ok(()));
        board.began(&fox(), later);
        assert!(board.allows(&fox(), later).is_err(), "one at a time");
        board.ended(&fox(), T, Ended::Badly(None), later);
        let why = board.allows(&fox(), later).unwrap_err();
        assert_eq!(why, "its breaker is open for another 20 s", "twice as long");

        let again = later + 20 * SECOND;
        board.began(&fox(), again);
        board.ended(&fox(), T, Ended::Well(SECOND), again);
        assert_eq!(state(again), State::Closed);
        assert_eq!(board.health(&fox(), T, again).failures, 0);
        assert_eq!(board.troubled.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_says_nothing_of_the_provider_opens_nothing() {
        let (board, now) = (Board::default(), Instant::now());
        for _ in 0..50 {
            board.ended(&fox(), T, Ended::Neither, now);
        }
        assert_eq!(board.health(&fox(), T, now).failures, 0);
        let badly = |kind| Ended::of(&Failure::lost(kind, "")) != Ended::Neither;
        let bad = FailureKind::ALL.iter().copied().filter(|kind| badly(*kind));
        let bad: Vec<&str> = bad.map(FailureKind::as_str).collect();
        assert_eq!(bad, ["overloaded", "timeout", "network", "server"]);
    }

    #[test]
    fn a_probe_that_says_nothing_leaves_the_next_to_try() {
        let (board, start) = (Board::default(), Instant::now());
        fail(&board, 5, start);
        let later = start + 11 * SECOND;
        board.began(&fox(), later);
        board.ended(&fox(), T, Ended::Neither, later);
        assert_eq!(board.allows(&fox(), later), Ok(()));
        board.began(&fox(), later);
        assert!(board.allows(&fox(), later).is_err());
        // Its call is gone and never tells.
        assert_eq!(board.allows(&fox(), later + PROBE), Ok(()));
    }

    #[test]
    fn half_of_many_opens_it_and_old_failures_do_not() {
        let (board, start) = (Board::default(), Instant::now());
        for _ in 0..9 {
            fail(&board, 1, start);
            board.ended(&fox(), T, Ended::Well(SECOND), start);
        }
        assert_eq!(board.allows(&fox(), start), Ok(()));
        fail(&board, 4, start + FRESH);
        assert_eq!(board.allows(&fox(), start + FRESH), Ok(()), "long ago");
        for _ in 0..8 {
            board.ended(&fox(), T, Ended::Well(SECOND), start + FRESH);
            fail(&board, 1, start + FRESH);
        }
        assert!(board.allows(&fox(), start + FRESH).is_err());
    }

    #[test]
    fn a_provider_that_says_when_to_come_again_is_left_alone_so_long() {
        let (board, now) = (Board::default(), Instant::now());
        fail(&board, 4, now);
        board.ended(&fox(), T, Ended::Badly(Some(42 * SECOND)), now);
        let why = board.allows(&fox(), now).unwrap_err();
        assert_eq!(why, "its breaker is open for another 42 s");
        assert_eq!(board.allows(&fox(), now + 42 * SECOND), Ok(()));
    }

    #[test]
    fn times_are_those_of_the_last_answers_of_a_tier() {
        let (board, now) = (Board::default(), Instant::now());
        let put = |tier, ms| {
            let took = Duration::from_millis(ms);
            board.ended(&fox(), tier, Ended::Well(took), now);
        };
        for ms in 1..=4 {
            put(T, ms);
        }
        assert_eq!(board.p95(&fox(), T), None, "too few");
        for ms in 5..=1000 {
            put(T, ms);
        }
        let health = board.health(&fox(), T, now);
        // Of 937 to 1000.
        assert_eq!((health.p50_ms, health.p95_ms), (Some(968), Some(997)));
        assert_eq!(board.p95(&fox(), Tier::Flex), None);
    }

    #[test]
    fn names_that_apps_invent_do_not_fill_the_memory() {
        let (board, start) = (Board::default(), Instant::now());
        let name = |i: usize| ModelId::new("fox", &i.to_string());
        for i in 0..2 * MODELS {
            board.ended(&name(i), T, Ended::Well(SECOND), start);
        }
        assert_eq!(board.models.read().len(), MODELS);
        board.ended(&fox(), T, Ended::Well(SECOND), start + FRESH);
        assert_eq!(board.models.read().len(), 1, "room is made for the living");
    }
}
