//! A provider's limits, kept by waiting and not by errors.
//!
//! What may not go out yet stands in a queue, one a provider. Apps take turns: one that sends a
//! thousand calls does not keep another's single one waiting behind them. The queue is bounded,
//! and so is the wait.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::task::Tasks;

/// Calls that wait for one provider at most.
const QUEUE: usize = 1000;
const MINUTE: Duration = Duration::from_secs(60);
/// What is said to whoever is turned away where nobody knows when there is room.
const SOON: Duration = Duration::from_secs(1);

/// The way to one provider: so many at once, so many a minute.
#[derive(Debug)]
pub struct Gate {
    provider: Arc<str>,
    concurrent: Option<usize>,
    per_minute: Option<usize>,
    /// What `per_minute` counts in; shorter in tests.
    minute: Duration,
    line: Mutex<Line>,
}

#[derive(Debug, Default)]
struct Line {
    under_way: usize,
    /// When the calls of the last minute went out, oldest first; empty without `per_minute`.
    gone_out: VecDeque<Instant>,
    /// Those who wait, by app.
    waiting: HashMap<Arc<str>, VecDeque<oneshot::Sender<Pass>>>,
    /// Apps with somebody who waits, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    /// Whether a timer runs that lets the next ones in.
    timed: bool,
}

/// Leave to send one request; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Option<Arc<Gate>>,
    /// The moment that counts against `per_minute`; taken back if nothing was sent.
    unused: Option<Instant>,
}

/// Why a call was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turned {
    pub why: String,
    /// When it is worth trying again.
    pub retry_after: Duration,
}

impl Gate {
    /// A way that lets at most `concurrent` through at once and `per_minute` a minute; `None`
    /// where there is nothing to keep.
    pub fn new(
        provider: &str,
        concurrent: Option<u32>,
        per_minute: Option<u32>,
    ) -> Option<Arc<Gate>> {
        let size = |n: u32| usize::try_from(n).unwrap_or(usize::MAX).max(1);
        (concurrent.is_some() || per_minute.is_some()).then(|| {
            Arc::new(Gate {
                provider: provider.into(),
                concurrent: concurrent.map(size),
                per_minute: per_minute.map(size),
                minute: MINUTE,
                line: Mutex::default(),
            })
        })
    }

    /// Waits for leave to send, until `until` at the latest. Whoever drops the future gives up
    /// its place.
    ///
    /// # Errors
    /// When it is not `app`'s turn in time, or too many wait already.
    pub async fn enter(self: &Arc<Self>, app: &Arc<str>, until: Instant) -> Result<Pass, Turned> {
        let called = {
            let mut line = self.line.lock();
            if line.turns.is_empty()
                && let Some(pass) = self.admit(&mut line, Instant::now())
            {
                return Ok(pass);
            }
            line.drop_the_gone();
            if line.waiting.values().map(VecDeque::len).sum::<usize>() >= QUEUE {
                return Err(self.turned(&line, format!("{QUEUE} calls wait already")));
            }
            let (calls, called) = oneshot::channel();
            let own = line.waiting.entry(Arc::clone(app)).or_default();
            own.push_back(calls);
            if own.len() == 1 {
                line.turns.push_back(Arc::clone(app));
            }
            self.time(&mut line);
            called
        };
        match tokio::time::timeout_at(until, called).await {
            Ok(Ok(pass)) => Ok(pass),
            _ => {
                let mut line = self.line.lock();
                line.drop_the_gone();
                Err(self.turned(&line, "it was not this call's turn in time".to_owned()))
            }
        }
    }

    /// How many wait.
    pub fn queued(&self) -> usize {
        let mut line = self.line.lock();
        line.drop_the_gone();
        line.waiting.values().map(VecDeque::len).sum()
    }

    /// How many are under way.
    pub fn under_way(&self) -> usize {
        self.line.lock().under_way
    }

    /// Leave for one, if there is room now.
    fn admit(self: &Arc<Self>, line: &mut Line, now: Instant) -> Option<Pass> {
        if self.concurrent.is_some_and(|most| line.under_way >= most) {
            return None;
        }
        let mut unused = None;
        if let Some(most) = self.per_minute {
            line.forget(now, self.minute);
            if line.gone_out.len() >= most {
                return None;
            }
            line.gone_out.push_back(now);
            unused = Some(now);
        }
        line.under_way += 1;
        Some(Pass {
            gate: Some(Arc::clone(self)),
            unused,
        })
    }

    /// Lets in whoever can be let in, app by app.
    fn call_next(self: &Arc<Self>, line: &mut Line) {
        loop {
            line.drop_the_gone();
            let Some(app) = line.turns.front().cloned() else {
                return;
            };
            let Some(mut pass) = self.admit(line, Instant::now()) else {
                return self.time(line);
            };
            line.turns.pop_front();
            let called = line.waiting.get_mut(&app).and_then(VecDeque::pop_front);
            match line.waiting.get(&app).is_some_and(|own| !own.is_empty()) {
                true => line.turns.push_back(app),
                false => drop(line.waiting.remove(&app)),
            }
            let back = match called {
                Some(called) => called.send(pass).err(),
                None => {
                    pass.gate = None;
                    line.give_back(pass.unused.take());
                    continue;
                }
            };
            if let Some(mut pass) = back {
                // It went away at this very moment. Its pass must not be dropped under the lock.
                pass.gate = None;
                line.give_back(pass.unused.take());
            }
        }
    }

    /// Sets a timer for when the oldest call of the minute is a minute old, if anybody waits for it.
    fn time(self: &Arc<Self>, line: &mut Line) {
        let (Some(most), Some(oldest)) = (self.per_minute, line.gone_out.front()) else {
            return;
        };
        if line.timed || line.turns.is_empty() || line.gone_out.len() < most {
            return;
        }
        line.timed = true;
        let (gate, due) = (Arc::downgrade(self), *oldest + self.minute);
        Tasks::new().spawn(async move {
            tokio::time::sleep_until(due).await;
            if let Some(gate) = gate.upgrade() {
                let mut line = gate.line.lock();
                line.timed = false;
                gate.call_next(&mut line);
            }
        });
    }

    fn turned(&self, line: &Line, why: String) -> Turned {
        let mut limits = Vec::new();
        if let Some(most) = self.concurrent {
            limits.push(format!("{most} at once"));
        }
        if let Some(most) = self.per_minute {
            limits.push(format!("{most} a minute"));
        }
        let full = self
            .per_minute
            .is_some_and(|most| line.gone_out.len() >= most);
        let next = line.gone_out.front().filter(|_| full);
        let next =
            next.map(|oldest| (*oldest + self.minute).saturating_duration_since(Instant::now()));
        Turned {
            why: format!(
                "providers.{}.limits lets {} through: {why}",
                self.provider,
                limits.join(" and ")
            ),
            retry_after: next.unwrap_or(SOON).max(SOON),
        }
    }
}

impl Line {
    /// Takes those out who no longer wait.
    fn drop_the_gone(&mut self) {
        if self.turns.is_empty() {
            return;
        }
        self.waiting.retain(|_, own| {
            own.retain(|calls| !calls.is_closed());
            !own.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|app| waiting.contains_key(app));
    }

    /// Forgets what went out longer ago than that.
    fn forget(&mut self, now: Instant, minute: Duration) {
        while let Some(oldest) = self.gone_out.front()
            && now.saturating_duration_since(*oldest) >= minute
        {
            self.gone_out.pop_front();
        }
    }

    /// A place is free. `unused`: its moment counts no more either.
    fn give_back(&mut self, unused: Option<Instant>) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(moment) = unused
            && let Some(at) = self.gone_out.iter().rposition(|gone| *gone == moment)
        {
            self.gone_out.remove(at);
        }
    }
}

impl Pass {
    /// The request goes out now: it counts against the minute, however it ends.
    pub fn used(&mut self) {
        self.unused = None;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            let mut line = gate.line.lock();
            line.give_back(self.unused.take());
            gate.call_next(&mut line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    fn app(name: &str) -> Arc<str> {
        name.into()
    }

    /// Waits in the background and tells its name when it is let in; leaves again at once.
    fn queue(gate: &Arc<Gate>, name: &str, let_in: &Arc<Mutex<Vec<String>>>) {
        let (gate, name, let_in) = (Arc::clone(gate), name.to_owned(), Arc::clone(let_in));
        Tasks::new().spawn(async move {
            let mut pass = gate.enter(&app(&name), later(600)).await.unwrap();
            let_in.lock().push(name);
            pass.used();
        });
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn apps_take_turns() {
        let gate = Gate::new("fox", Some(1), None).unwrap();
        let first = gate.enter(&app("a"), later(1)).await.unwrap();
        let let_in = Arc::default();
        for name in ["a", "a", "a", "b", "c", "b"] {
            queue(&gate, name, &let_in);
            settle().await;
        }
        assert_eq!((gate.queued(), gate.under_way()), (6, 1));
        drop(first);
        settle().await;
        assert_eq!(*let_in.lock(), ["a", "b", "c", "a", "b", "a"]);
        assert_eq!((gate.queued(), gate.under_way()), (0, 0));
    }

    #[test]
    fn a_minute_has_so_many_and_no_more() {
        let gate = Gate::new("fox", None, Some(3)).unwrap();
        let (start, mut let_in) = (Instant::now(), Vec::new());
        for at in 0..130 {
            let mut line = gate.line.lock();
            if let Some(mut pass) = gate.admit(&mut line, start + Duration::from_secs(at)) {
                pass.used();
                let_in.push(at);
                drop(line);
            }
        }
        assert_eq!(let_in, [0, 1, 2, 60, 61, 62, 120, 121, 122]);
    }

    #[tokio::test]
    async fn when_the_minute_is_over_the_next_is_let_in() {
        let gate = Arc::new(Gate {
            minute: Duration::from_millis(20),
            ..Arc::into_inner(Gate::new("fox", None, Some(1)).unwrap()).unwrap()
        });
        for _ in 0..4 {
            gate.enter(&app("a"), later(600)).await.unwrap().used();
        }
        assert_eq!((gate.queued(), gate.under_way()), (0, 0));
    }

    #[tokio::test]
    async fn what_was_not_sent_does_not_count() {
        let gate = Gate::new("fox", None, Some(1)).unwrap();
        drop(gate.enter(&app("a"), later(1)).await.unwrap());
        gate.enter(&app("a"), later(1)).await.unwrap().used();
        let turned = gate.enter(&app("a"), later(0)).await.unwrap_err();
        assert_eq!(
            turned.why,
            "providers.fox.limits lets 1 a minute through: it was not this call's turn in time"
        );
        assert!(turned.retry_after > Duration::from_secs(50));
    }

    #[tokio::test]
    async fn whoever_goes_away_leaves_no_hole() {
        let gate = Gate::new("fox", Some(1), None).unwrap();
        let first = gate.enter(&app("a"), later(1)).await.unwrap();
        let turned = gate.enter(&app("a"), later(0)).await.unwrap_err();
        assert_eq!(turned.retry_after, SOON);
        let let_in = Arc::default();
        let gives_up = {
            let gate = Arc::clone(&gate);
            Tasks::new().spawn(async move { gate.enter(&app("a"), later(600)).await.map(drop) })
        };
        settle().await;
        queue(&gate, "b", &let_in);
        settle().await;
        gives_up.abort();
        settle().await;
        drop(first);
        settle().await;
        assert_eq!(*let_in.lock(), ["b"]);
        assert_eq!((gate.queued(), gate.under_way()), (0, 0));
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let gate = Gate::new("fox", Some(1), None).unwrap();
        let _first = gate.enter(&app("a"), later(1)).await.unwrap();
        let let_in = Arc::default();
        for _ in 0..QUEUE {
            queue(&gate, "a", &let_in);
        }
        settle().await;
        assert_eq!(gate.queued(), QUEUE);
        let turned = gate.enter(&app("b"), later(600)).await.unwrap_err();
        assert!(
            turned.why.ends_with("1000 calls wait already"),
            "{}",
            turned.why
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_than_allowed_are_under_way_however_many_come() {
        let gate = Gate::new("fox", Some(4), None).unwrap();
        let most = Arc::new(Mutex::new((0_usize, 0_usize)));
        let calls = (0..500).map(|i| {
            let (gate, most) = (Arc::clone(&gate), Arc::clone(&most));
            Tasks::new().spawn(async move {
                let name = app(&(i % 7).to_string());
                let _pass = gate.enter(&name, later(60)).await.unwrap();
                {
                    let mut most = most.lock();
                    most.0 += 1;
                    most.1 = most.1.max(most.0);
                }
                tokio::task::yield_now().await;
                most.lock().0 -= 1;
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap();
        }
        assert_eq!(*most.lock(), (0, 4));
        assert_eq!((gate.queued(), gate.under_way()), (0, 0));
    }
}
