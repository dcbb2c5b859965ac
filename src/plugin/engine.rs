//! VMs: making them, running a hook in one, and keeping those that behaved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mlua::chunk::ChunkMode;
use mlua::{Error, Function, Lua, MultiValue, Table, Value, VmState};
use parking_lot::Mutex;

use super::actions::ActionRef;
use super::args::show;
use super::fault::{describe, place_at};
use super::load::Library;
use super::meter::{self, Meter};
use super::options;
use super::picture::Pictures;
use super::record::DecisionRef;
use super::stage::Stage;
use super::subject::{Hook, Subject};
use super::view::{self, CallRef, FailureRef, ResponseRef};
use super::{Alert, HookError, House, helpers, sandbox};
use crate::action::Made;

/// Memory that one VM may use.
const MEMORY: usize = 16 << 20;
/// A VM that holds more than this after a hook is not kept: the next hook would start short.
const KEEP_BELOW: usize = 8 << 20;
/// VMs that wait for work, for each plugin.
const IDLE: usize = 16;

/// How a run ended.
pub(super) enum End {
    /// What it returned, and whom it wants told.
    Made(Vec<Made>, Vec<Alert>),
    /// It used up its time, at this place where that is known.
    Slow(Option<String>),
    Failed(HookError),
}

/// A plugin that has been compiled and checked.
pub(super) struct Script {
    pub(super) name: String,
    /// As it stands in messages.
    pub(super) file: String,
    pub(super) digest: String,
    /// What its file does when it is loaded takes too long for the thread of a call.
    pub(super) slow_to_start: bool,
    pub(super) code: Code,
    pub(super) options: serde_json::Value,
    pub(super) hooks: Vec<Hook>,
    /// Answers wait for its `on_response`.
    pub(super) holds: bool,
    pub(super) pictures: Arc<Pictures>,
    pub(super) idle: Mutex<Vec<Vm>>,
}

/// What a VM is made from.
pub(super) struct Code {
    pub(super) file: String,
    pub(super) bytecode: Vec<u8>,
    pub(super) library: Arc<Library>,
    pub(super) house: Arc<House>,
    /// What it counts is kept apart.
    pub(super) aside: bool,
    /// Where wanted: each line of a hook, and whether it has run.
    pub(super) coverage: Option<Mutex<BTreeMap<u32, bool>>>,
}

impl Script {
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.hooks.contains(&hook)
    }

    /// Runs a hook with at most `limit` of CPU. A VM in which anything went wrong is dropped.
    pub(super) fn run(&self, subject: &Subject, limit: Duration) -> End {
        let vm = match self.take() {
            Ok(vm) => vm,
            Err(error) => return End::Failed(error),
        };
        let (end, lines) = vm.run(subject, limit, &self.file);
        if let Some(coverage) = &self.code.coverage {
            vm.note_lines(&mut coverage.lock());
        }
        if !matches!(end, End::Slow(_)) {
            for line in lines {
                tracing::info!(plugin = self.name, hook = subject.hook().as_str(), "{line}");
            }
        }
        if matches!(end, End::Made(..)) {
            self.give_back(vm);
        }
        end
    }

    /// The error of a run that used up its time.
    pub(super) fn too_slow(&self, at: Option<String>) -> HookError {
        HookError {
            message: format!(
                "it used more than {} ms of CPU",
                meter::ON_THREADS.as_millis()
            ),
            at: at.unwrap_or_else(|| self.file.clone()),
        }
    }

    fn take(&self) -> Result<Vm, HookError> {
        if let Some(vm) = self.idle.lock().pop() {
            return Ok(vm);
        }
        self.fresh().map_err(|error| {
            let (message, at) = describe(&error);
            HookError {
                message,
                at: at.unwrap_or_else(|| self.file.clone()),
            }
        })
    }

    fn fresh(&self) -> Result<Vm, Error> {
        let (mut vm, value) = Vm::open(&self.code)?;
        let Value::Table(table) = value else {
            return Err(Error::runtime("the file returned no table this time"));
        };
        let defaults: Option<Table> = table.raw_get("options")?;
        let merged = options::merge(&vm.lua, defaults.as_ref(), &self.options, &self.code.house);
        let merged = merged.map_err(|mistakes| {
            let first = mistakes.into_iter().next().map(|mistake| mistake.what);
            Error::runtime(first.unwrap_or_default())
        })?;
        vm.adopt(&table, merged)?;
        Ok(vm)
    }

    fn give_back(&self, vm: Vm) {
        if vm.lua.used_memory() > KEEP_BELOW {
            return;
        }
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(vm);
        }
    }
}

/// One Lua state with the plugin's file loaded.
pub(super) struct Vm {
    pub(super) lua: Lua,
    stage: Arc<Stage>,
    meter: Arc<Meter>,
    /// The file as a function.
    main: Function,
    hooks: Vec<(Hook, Function)>,
    options: Option<Table>,
    /// CPU time that running the file took.
    pub(super) loaded_in: Duration,
}

impl Vm {
    /// Makes a VM and runs the file in it. Returns what the file returned.
    pub(super) fn open(code: &Code) -> Result<(Vm, Value), Error> {
        let stage = Arc::new(Stage::new(Arc::clone(&code.house), code.aside));
        let meter = Arc::new(Meter::new());
        meter.start(meter::AT_LOAD);
        let lua = sandbox::open(&stage, &meter)?;
        helpers::install(&lua, &stage)?;
        code.library.install(&lua)?;
        sandbox::close(&lua)?;
        lua.set_memory_limit(MEMORY)?;
        let watch = Arc::clone(&meter);
        lua.set_interrupt(move |lua| {
            if watch.interrupt() {
                return Ok(VmState::Continue);
            }
            watch.stopped_at(|| place_at(lua, 0));
            Err(sandbox::too_long())
        });
        let main = function(&lua, &code.file, &code.bytecode)?;
        let began = meter::thread_cpu();
        let value = main.call::<Value>(());
        let loaded_in = meter::thread_cpu() - began;
        if meter.expired() {
            let at = meter.place().unwrap_or_else(|| code.file.clone());
            let ms = meter::AT_LOAD.as_millis();
            return Err(Error::runtime(format!(
                "{at}: loading the file used more than {ms} ms of CPU"
            )));
        }
        let vm = Vm {
            lua,
            stage,
            meter,
            main,
            hooks: Vec::new(),
            options: None,
            loaded_in,
        };
        value.map(|value| (vm, value))
    }

    /// Takes the hooks out of a table that has been checked.
    pub(super) fn adopt(&mut self, table: &Table, options: Table) -> Result<(), Error> {
        for hook in Hook::ALL {
            let function: Option<Function> = table.raw_get(hook.as_str())?;
            self.hooks.extend(function.map(|function| (hook, function)));
        }
        let holds: Option<bool> = table.raw_get("holds")?;
        self.stage.set_holds(holds.unwrap_or(false));
        self.options = Some(options);
        Ok(())
    }

    /// Notes which lines of hooks, and of functions that they call, have run so far.
    fn note_lines(&self, lines: &mut BTreeMap<u32, bool>) {
        self.main.coverage(|function| {
            if function.depth == 0 {
                return; // the file itself, which runs when it is loaded
            }
            for (line, hits) in (0..).zip(function.hits) {
                if hits >= 0 {
                    *lines.entry(line).or_default() |= hits > 0;
                }
            }
        });
    }

    pub(super) fn hooks(&self) -> impl Iterator<Item = Hook> {
        self.hooks.iter().map(|(hook, _)| *hook)
    }

    pub(super) fn holds(&self) -> bool {
        self.stage.holds()
    }

    fn function(&self, hook: Hook) -> Option<&Function> {
        let mut hooks = self.hooks.iter();
        hooks.find_map(|(own, function)| (*own == hook).then_some(function))
    }

    /// Runs a hook; also returns what it logged.
    fn run(&self, subject: &Subject, limit: Duration, file: &str) -> (End, Vec<String>) {
        let hook = subject.hook();
        self.meter.start(limit);
        let run = self.stage.enter(subject);
        let result = self
            .call(subject, run)
            .and_then(|values| self.collect(hook, run, values));
        let left = self.stage.leave();
        if self.meter.expired() {
            return (End::Slow(self.meter.place()), left.lines);
        }
        let end = match (result, left.forgotten) {
            (Err(error), _) => {
                let (message, at) = describe(&error);
                End::Failed(HookError {
                    message,
                    at: at.unwrap_or_else(|| file.to_owned()),
                })
            }
            (Ok(_), Some(made)) => End::Failed(HookError {
                message: format!(
                    "this `{}` was made and not returned: write `return call:{0}…`",
                    made.action.did()
                ),
                at: made.at,
            }),
            (Ok(made), None) => {
                self.stage.house.counters.add(subject.at(), left.counted);
                End::Made(made, left.alerts)
            }
        };
        (end, left.lines)
    }

    fn call(&self, subject: &Subject, run: u64) -> Result<MultiValue, Error> {
        let hook = subject.hook();
        let (Some(function), Some(options)) = (self.function(hook), &self.options) else {
            return Ok(MultiValue::new());
        };
        let stage = || Arc::clone(&self.stage);
        let call = || CallRef {
            stage: stage(),
            run,
        };
        match subject {
            Subject::Request(_) => function.call((call(), options)),
            Subject::Budget(_, budget) => {
                let budget = view::budget(&self.lua, Some(Arc::clone(budget)))?;
                function.call((call(), budget, options))
            }
            Subject::Failure(..) => function.call((call(), FailureRef(stage(), run), options)),
            Subject::Response(..) => function.call((call(), ResponseRef(stage(), run), options)),
            Subject::Decision(_) => function.call((DecisionRef(stage(), run), options)),
        }
    }

    /// The returned actions from left to right. `nil` and `false` are nothing, so that
    /// `return wanted and call:change { … }` says what it looks like.
    fn collect(&self, hook: Hook, run: u64, values: MultiValue) -> Result<Vec<Made>, Error> {
        let mut made = Vec::new();
        for value in values {
            if matches!(value, Value::Nil | Value::Boolean(false)) {
                continue;
            }
            let action = value
                .as_userdata()
                .and_then(|data| data.borrow::<ActionRef>().ok().map(|action| *action));
            let Some(action) = action else {
                let what = format!("returned {}, which is no action", show(&value));
                return Err(self.complaint(hook, &what));
            };
            match self.stage.take(action.run, action.number) {
                Some(one) if action.run == run => made.push(one),
                _ => {
                    let what = "returned an action twice, or one of an earlier hook";
                    return Err(self.complaint(hook, what));
                }
            }
        }
        Ok(made)
    }

    fn complaint(&self, hook: Hook, what: &str) -> Error {
        let info = self.function(hook).map(Function::info);
        let place = info.and_then(|info| {
            let file = info.short_src?;
            Some(format!("{file}:{}: ", info.line_defined?))
        });
        Error::runtime(format!(
            "{}{} {what}",
            place.unwrap_or_default(),
            hook.as_str()
        ))
    }
}

/// Compiled code as a function of this VM.
pub(super) fn function(lua: &Lua, file: &str, bytecode: &[u8]) -> Result<Function, Error> {
    lua.load(bytecode)
        .set_name(format!("={file}"))
        .set_mode(ChunkMode::Binary)
        .into_function()
}
