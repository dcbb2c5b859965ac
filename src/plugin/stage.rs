//! What one run of a hook works on: what it may see and what it has made.
//!
//! A VM has one stage. What Lua holds is only the number of a run: when the run is over, a `call`
//! that a plugin kept is dead, and keeps neither the call nor its prompt in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mlua::{Error, Lua};
use parking_lot::Mutex;

use super::counter::{Amount, Key};
use super::fault::{position, raise};
use super::subject::{Hook, Subject};
use super::words::Prompt;
use super::{Alert, House};
use crate::action::{Action, CallView, Made};

/// Actions that one hook may make.
const MOST_ACTIONS: usize = 32;
/// Lines that one hook may log.
const MOST_LINES: usize = 100;
/// Alerts that one hook may give.
const MOST_ALERTS: usize = 8;
/// Coroutines that one hook may start.
const MOST_COROUTINES: u32 = 64;

pub(super) struct Stage {
    pub(super) house: Arc<House>,
    /// What it counts is kept apart from what other plugins count.
    pub(super) aside: bool,
    /// The plugin has `holds = true`.
    holds: AtomicBool,
    scene: Mutex<Scene>,
}

#[derive(Default)]
struct Scene {
    /// Number of the run; also of the last one while none is on.
    run: u64,
    subject: Option<Subject>,
    /// The prompt as it is searched, once a hook has looked for a word in it.
    prompt: Option<Prompt>,
    made: Vec<Pending>,
    lines: Vec<String>,
    alerts: Vec<Alert>,
    counted: Vec<(Key, Amount)>,
    coroutines: u32,
}

struct Pending {
    made: Made,
    returned: bool,
}

/// What a run left behind.
pub(super) struct Left {
    pub(super) lines: Vec<String>,
    pub(super) alerts: Vec<Alert>,
    pub(super) counted: Vec<(Key, Amount)>,
    /// The first action that was made and not returned.
    pub(super) forgotten: Option<Made>,
}

const ENDED: &str = "this belongs to a hook that has ended: use the one of the hook that runs";

impl Stage {
    pub(super) fn new(house: Arc<House>, aside: bool) -> Stage {
        Stage {
            house,
            aside,
            holds: AtomicBool::new(false),
            scene: Mutex::default(),
        }
    }

    /// Whether answers wait for the plugin.
    pub(super) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    pub(super) fn set_holds(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
    }

    /// Begins a run and returns its number.
    pub(super) fn enter(&self, subject: &Subject) -> u64 {
        let mut scene = self.scene.lock();
        scene.run += 1;
        scene.subject = Some(subject.clone());
        scene.coroutines = 0;
        scene.run
    }

    /// Ends the run: everything of its call is let go.
    pub(super) fn leave(&self) -> Left {
        let mut scene = self.scene.lock();
        scene.subject = None;
        scene.prompt = None;
        let made = std::mem::take(&mut scene.made);
        Left {
            lines: std::mem::take(&mut scene.lines),
            alerts: std::mem::take(&mut scene.alerts),
            counted: std::mem::take(&mut scene.counted),
            forgotten: made
                .into_iter()
                .find(|pending| !pending.returned)
                .map(|pending| pending.made),
        }
    }

    /// What run `run` is about, as far as `pick` finds it there.
    pub(super) fn of_run<T>(
        &self,
        run: u64,
        pick: impl FnOnce(&Subject) -> Option<T>,
    ) -> Result<T, &'static str> {
        let scene = self.scene.lock();
        let subject = scene.subject.as_ref().filter(|_| scene.run == run);
        subject.and_then(pick).ok_or(ENDED)
    }

    /// The call of run `run`.
    pub(super) fn call(&self, run: u64) -> Result<Arc<CallView>, &'static str> {
        self.of_run(run, |subject| subject.call().cloned())
    }

    /// What the run that is on is about; `None` while the file is being loaded.
    pub(super) fn current(&self) -> Option<Subject> {
        self.scene.lock().subject.clone()
    }

    pub(super) fn hook(&self) -> Option<Hook> {
        self.scene.lock().subject.as_ref().map(Subject::hook)
    }

    /// Looks for something in the prompt of the call of run `run`.
    pub(super) fn in_prompt(
        &self,
        run: u64,
        look: impl FnOnce(&Prompt) -> bool,
    ) -> Result<bool, &'static str> {
        let scene = &mut *self.scene.lock();
        let subject = scene.subject.as_ref().filter(|_| scene.run == run);
        let call = subject.and_then(Subject::call).ok_or(ENDED)?;
        let prompt = &mut scene.prompt;
        Ok(look(
            prompt.get_or_insert_with(|| Prompt::of(&call.request.prompt)),
        ))
    }

    /// Keeps an action and returns its number in this run.
    pub(super) fn make(&self, lua: &Lua, run: u64, action: Action) -> Result<usize, Error> {
        let at = position(lua).unwrap_or_default();
        let mut scene = self.scene.lock();
        if scene.run != run || scene.subject.is_none() {
            drop(scene);
            return Err(raise(lua, "this `call` belongs to a hook that has ended"));
        }
        if scene.made.len() >= MOST_ACTIONS {
            drop(scene);
            return Err(raise(
                lua,
                format!("a hook may make {MOST_ACTIONS} actions at most"),
            ));
        }
        scene.made.push(Pending {
            made: Made { action, at },
            returned: false,
        });
        Ok(scene.made.len() - 1)
    }

    /// Takes note that an action was returned, and hands it out. `None` when it is of another run
    /// or was returned before.
    pub(super) fn take(&self, run: u64, number: usize) -> Option<Made> {
        let mut scene = self.scene.lock();
        if scene.run != run {
            return None;
        }
        let pending = scene.made.get_mut(number)?;
        let first = !std::mem::replace(&mut pending.returned, true);
        first.then(|| pending.made.clone())
    }

    /// Keeps a line for the log until the run is over. Lines beyond the most are dropped.
    pub(super) fn log(&self, line: String) {
        let mut scene = self.scene.lock();
        if scene.lines.len() < MOST_LINES {
            scene.lines.push(line);
        }
    }

    /// Keeps an alert until the run is over.
    ///
    /// # Errors
    /// When there are too many, or no hook runs.
    pub(super) fn alert(&self, alert: Alert) -> Result<(), String> {
        let mut scene = self.scene.lock();
        if scene.subject.is_none() {
            return Err("pixtoll.alert is for hooks, not for loading the file".to_owned());
        }
        if scene.alerts.len() >= MOST_ALERTS {
            return Err(format!("a hook may give {MOST_ALERTS} alerts at most"));
        }
        scene.alerts.push(alert);
        Ok(())
    }

    /// Keeps what a hook counts until the run is over. A key is there once.
    pub(super) fn count(&self, key: Key, amount: Amount) {
        let mut scene = self.scene.lock();
        match scene.counted.iter_mut().find(|(known, _)| *known == key) {
            Some((_, sum)) => *sum = sum.and(amount),
            None => scene.counted.push((key, amount)),
        }
    }

    /// What this run has added to a counter.
    pub(super) fn counted(&self, key: &Key) -> Option<Amount> {
        let scene = self.scene.lock();
        let mut counted = scene.counted.iter();
        counted.find_map(|(known, amount)| (known == key).then_some(*amount))
    }

    /// Counts a new coroutine; false when there are too many.
    pub(super) fn coroutine(&self) -> bool {
        let mut scene = self.scene.lock();
        scene.coroutines += 1;
        scene.coroutines <= MOST_COROUTINES
    }
}
