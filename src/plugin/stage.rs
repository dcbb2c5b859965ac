//! What one run of a hook works on: the call it may see and the actions it has made.
//!
//! A VM has one stage. What Lua holds is only the number of a run: when the run is over, a `call`
//! that a plugin kept is dead, and keeps neither the call nor its prompt in memory.

use std::sync::Arc;

use mlua::{Error, Lua};
use parking_lot::Mutex;

use super::fault::{position, raise};
use super::{FailureView, Hook, House};
use crate::action::{Action, CallView, Made};

/// Actions that one hook may make.
const MOST_ACTIONS: usize = 32;
/// Lines that one hook may log.
const MOST_LINES: usize = 100;
/// Coroutines that one hook may start.
const MOST_COROUTINES: u32 = 64;

pub(super) struct Stage {
    pub(super) house: Arc<House>,
    scene: Mutex<Scene>,
}

#[derive(Default)]
struct Scene {
    /// Number of the run; also of the last one while none is on.
    run: u64,
    hook: Option<Hook>,
    call: Option<Arc<CallView>>,
    failure: Option<Arc<FailureView>>,
    /// The prompt in lower case, once a hook has looked for a word in it.
    lowered: Option<Arc<str>>,
    made: Vec<Pending>,
    lines: Vec<String>,
    coroutines: u32,
}

struct Pending {
    made: Made,
    returned: bool,
}

/// What a run left behind.
pub(super) struct Left {
    pub(super) lines: Vec<String>,
    /// The first action that was made and not returned.
    pub(super) forgotten: Option<Made>,
}

impl Stage {
    pub(super) fn new(house: Arc<House>) -> Stage {
        Stage {
            house,
            scene: Mutex::default(),
        }
    }

    /// Begins a run and returns its number.
    pub(super) fn enter(
        &self,
        hook: Hook,
        call: &Arc<CallView>,
        failure: Option<&Arc<FailureView>>,
    ) -> u64 {
        let mut scene = self.scene.lock();
        scene.run += 1;
        scene.hook = Some(hook);
        scene.call = Some(Arc::clone(call));
        scene.failure = failure.map(Arc::clone);
        scene.coroutines = 0;
        scene.run
    }

    /// Ends the run: everything of its call is let go.
    pub(super) fn leave(&self) -> Left {
        let mut scene = self.scene.lock();
        scene.hook = None;
        scene.call = None;
        scene.failure = None;
        scene.lowered = None;
        let made = std::mem::take(&mut scene.made);
        Left {
            lines: std::mem::take(&mut scene.lines),
            forgotten: made
                .into_iter()
                .find(|pending| !pending.returned)
                .map(|pending| pending.made),
        }
    }

    /// The call of run `run`.
    pub(super) fn call(&self, run: u64) -> Result<Arc<CallView>, &'static str> {
        let scene = self.scene.lock();
        match &scene.call {
            Some(call) if scene.run == run => Ok(Arc::clone(call)),
            _ => Err("this belongs to a hook that has ended: use the `call` of the hook that runs"),
        }
    }

    /// The failure of run `run`.
    pub(super) fn failure(&self, run: u64) -> Result<Arc<FailureView>, &'static str> {
        let scene = self.scene.lock();
        match &scene.failure {
            Some(failure) if scene.run == run => Ok(Arc::clone(failure)),
            _ => Err("this `failure` belongs to a hook that has ended"),
        }
    }

    /// The call of the run that is on; `None` while the file is being loaded.
    pub(super) fn current(&self) -> Option<Arc<CallView>> {
        self.scene.lock().call.clone()
    }

    pub(super) fn hook(&self) -> Option<Hook> {
        self.scene.lock().hook
    }

    /// The prompt of the call in lower case.
    pub(super) fn lowered(&self, run: u64) -> Result<Arc<str>, &'static str> {
        let call = self.call(run)?;
        let mut scene = self.scene.lock();
        let lowered = scene
            .lowered
            .get_or_insert_with(|| call.request.prompt.to_lowercase().into());
        Ok(Arc::clone(lowered))
    }

    /// Keeps an action and returns its number in this run.
    pub(super) fn make(&self, lua: &Lua, run: u64, action: Action) -> Result<usize, Error> {
        let at = position(lua).unwrap_or_default();
        let mut scene = self.scene.lock();
        if scene.run != run || scene.call.is_none() {
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

    /// Counts a new coroutine; false when there are too many.
    pub(super) fn coroutine(&self) -> bool {
        let mut scene = self.scene.lock();
        scene.coroutines += 1;
        scene.coroutines <= MOST_COROUTINES
    }
}
