//! Lua rules: everything that knows mlua is here.
//!
//! A plugin is a file that returns a table of hooks. A hook sees a [`CallView`] and returns
//! actions; it changes nothing by itself. [`Plugins::load`] reads and checks the files,
//! [`Plugin::on_request`] and its neighbours run them.
//!
//! A hook runs in place, on the thread of its call, because a hop to another thread costs more
//! than most hooks do. One that uses more than a millisecond is stopped, what it did is dropped,
//! and it runs again on the VM threads, where its plugin stays.

mod actions;
mod alert;
mod args;
mod clock;
mod counter;
mod engine;
mod fault;
mod health;
mod helpers;
mod load;
mod market;
mod meter;
mod money;
mod near;
mod options;
mod picture;
mod prices;
mod record;
mod sandbox;
mod shipped;
mod stage;
mod subject;
mod threads;
pub mod trial;
mod view;
mod words;
mod world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

use crate::action::{BudgetView, CallView, Class, Made};
use crate::image::Image;
pub use alert::{Alert, AlertLevel};
use counter::Counters;
use engine::{End, Script};
pub use prices::{Prices, Search, Successor};
pub use subject::{DecisionView, FailureView, ResponseView};
use subject::{Hook, Subject};
use threads::VmThreads;

/// One entry of the configuration's `plugins`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub source: PluginSource,
    /// What stands under `with:`, an object or null; laid over the file's own defaults.
    pub options: Value,
    pub on_error: OnError,
    /// Its actions are logged and not carried out; the caller of the hook sees to that.
    pub observe: bool,
    /// All plugins are only observed, or tried: what this one counts moves nobody else.
    pub aside: bool,
    /// It is noted which of its lines run.
    pub coverage: bool,
}

impl Entry {
    /// An entry with nothing but its source.
    pub fn new(source: PluginSource) -> Entry {
        Entry {
            source,
            options: Value::Null,
            on_error: OnError::Skip,
            observe: false,
            aside: false,
            coverage: false,
        }
    }
}

/// Where a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    /// One of those in the binary, by its bare name.
    Shipped(String),
    File(PathBuf),
}

/// What becomes of a call when a hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It goes on as though the plugin had said nothing.
    #[default]
    Skip,
    /// It is refused.
    Refuse,
}

/// Why a plugin does not load, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadProblem {
    pub file: String,
    /// From 1; `None` when it is about the file as a whole.
    pub line: Option<u32>,
    /// From 1; the compiler tells lines only.
    pub column: Option<u32>,
    pub message: String,
    pub remedy: String,
}

impl fmt::Display for LoadProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.remedy)
    }
}

/// What a hook came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HookOutcome {
    /// In the order in which the hook returned them. Empty when it failed.
    pub made: Vec<Made>,
    /// What it wants somebody to know. Empty when it failed.
    pub alerts: Vec<Alert>,
    pub error: Option<HookError>,
    /// How long the caller waited for it, in microseconds.
    pub us: u64,
}

/// Why a hook failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookError {
    pub message: String,
    /// `file:line`, or the file alone where no line is known.
    pub at: String,
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl std::error::Error for HookError {}

/// What the plugins of one configuration share.
struct House {
    prices: Arc<dyn Prices>,
    classes: BTreeMap<String, Class>,
    counters: Arc<Counters>,
}

/// The loaded plugins, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Plugins {
    list: Vec<Plugin>,
    counters: Arc<Counters>,
}

impl Plugins {
    /// Reads, compiles and checks every plugin.
    ///
    /// # Errors
    /// Every mistake of every file, not only the first.
    pub fn load(
        entries: &[Entry],
        prices: Arc<dyn Prices>,
        classes: &BTreeMap<String, Class>,
    ) -> Result<Plugins, Vec<LoadProblem>> {
        Plugins::default().replaced(entries, prices, classes)
    }

    /// Reads others to take the place of these: what was counted stays.
    ///
    /// # Errors
    /// As [`Plugins::load`].
    pub fn replaced(
        &self,
        entries: &[Entry],
        prices: Arc<dyn Prices>,
        classes: &BTreeMap<String, Class>,
    ) -> Result<Plugins, Vec<LoadProblem>> {
        let counters = Arc::clone(&self.counters);
        let house = Arc::new(House {
            prices,
            classes: classes.clone(),
            counters: Arc::clone(&counters),
        });
        let threads = Arc::new(VmThreads::new());
        let mut list = Vec::new();
        let mut problems = Vec::new();
        for entry in entries {
            match load::load(entry, &house) {
                Ok(script) => list.push(Plugin::new(script, entry, &threads)),
                Err(found) => problems.extend(found),
            }
        }
        if problems.is_empty() {
            Ok(Plugins { list, counters })
        } else {
            Err(problems)
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.list.iter()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The bare names of the plugins in the binary.
pub fn shipped() -> impl Iterator<Item = &'static str> {
    shipped::ALL.iter().map(|(name, _)| *name)
}

/// One loaded plugin.
pub struct Plugin {
    script: Arc<Script>,
    on_error: OnError,
    observe: bool,
    /// Once too slow for the thread of a call, it runs on the VM threads.
    slow: AtomicBool,
    threads: Arc<VmThreads>,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name())
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl Plugin {
    fn new(script: Script, entry: &Entry, threads: &Arc<VmThreads>) -> Plugin {
        Plugin {
            slow: AtomicBool::new(script.slow_to_start),
            script: Arc::new(script),
            on_error: entry.on_error,
            observe: entry.observe,
            threads: Arc::clone(threads),
        }
    }

    /// The shipped name, or the file's name without its ending.
    pub fn name(&self) -> &str {
        &self.script.name
    }

    /// Eight hex digits over the file and the modules that it requires.
    pub fn digest(&self) -> &str {
        &self.script.digest
    }

    /// The plugin's file and those that it requires; none of a shipped one.
    pub fn files(&self) -> Vec<PathBuf> {
        self.script.code.library.files(&self.script.file)
    }

    /// Each line of its hooks, and of functions that they call, with whether it has run; `None`
    /// where that is not noted.
    pub fn coverage(&self) -> Option<BTreeMap<u32, bool>> {
        let lines = self.script.code.coverage.as_ref()?;
        Some(lines.lock().clone())
    }

    pub fn has_on_request(&self) -> bool {
        self.script.has(Hook::Request)
    }

    pub fn has_on_budget(&self) -> bool {
        self.script.has(Hook::Budget)
    }

    pub fn has_on_failure(&self) -> bool {
        self.script.has(Hook::Failure)
    }

    pub fn has_on_response(&self) -> bool {
        self.script.has(Hook::Response)
    }

    pub fn has_on_decision(&self) -> bool {
        self.script.has(Hook::Decision)
    }

    /// Whether answers wait for its `on_response`, which may then send them back.
    pub fn holds(&self) -> bool {
        self.script.holds
    }

    pub fn on_error(&self) -> OnError {
        self.on_error
    }

    /// Whether its actions are only to be logged.
    pub fn observe(&self) -> bool {
        self.observe
    }

    /// Whether it has been moved to the VM threads.
    pub fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// A picture in the plugin's folder, as `call:answer` names it.
    ///
    /// # Errors
    /// Why there is none, in words for people.
    pub async fn picture(&self, name: &str) -> Result<Image, String> {
        let (pictures, name) = (Arc::clone(&self.script.pictures), name.to_owned());
        let read = tokio::task::spawn_blocking(move || pictures.read(&name));
        read.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// What the plugin wants done with a call that has just come in.
    pub async fn on_request(&self, call: Arc<CallView>) -> HookOutcome {
        self.run(Subject::Request(call)).await
    }

    /// What the plugin wants done with a call that does not fit a budget.
    pub async fn on_budget(&self, call: Arc<CallView>, budget: Arc<BudgetView>) -> HookOutcome {
        self.run(Subject::Budget(call, budget)).await
    }

    /// What the plugin wants done after a failed attempt.
    pub async fn on_failure(&self, call: Arc<CallView>, failure: Arc<FailureView>) -> HookOutcome {
        self.run(Subject::Failure(call, failure)).await
    }

    /// What the plugin says of an answer.
    pub async fn on_response(
        &self,
        call: Arc<CallView>,
        response: Arc<ResponseView>,
    ) -> HookOutcome {
        self.run(Subject::Response(call, response)).await
    }

    /// Tells the plugin of a call that has ended.
    pub async fn on_decision(&self, decision: Arc<DecisionView>) -> HookOutcome {
        self.run(Subject::Decision(decision)).await
    }

    async fn run(&self, subject: Subject) -> HookOutcome {
        if !self.script.has(subject.hook()) {
            return HookOutcome::default();
        }
        let began = Instant::now();
        let end = match self.in_place(&subject) {
            Some(end) => end,
            None => self.on_threads(subject).await,
        };
        let mut outcome = HookOutcome::default();
        match end {
            End::Made(made, alerts) => (outcome.made, outcome.alerts) = (made, alerts),
            End::Slow(at) => outcome.error = Some(self.script.too_slow(at)),
            End::Failed(error) => outcome.error = Some(error),
        }
        outcome.us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        outcome
    }

    /// `None` when the hook belongs on the VM threads.
    fn in_place(&self, subject: &Subject) -> Option<End> {
        if self.is_slow() {
            return None;
        }
        match self.script.run(subject, meter::IN_PLACE) {
            End::Slow(_) => {
                self.slow.store(true, Ordering::Relaxed);
                tracing::info!(
                    plugin = self.name(),
                    "{} took more than 1 ms and runs on the VM threads from now on",
                    subject.hook().as_str()
                );
                None
            }
            end => Some(end),
        }
    }

    async fn on_threads(&self, subject: Subject) -> End {
        let script = Arc::clone(&self.script);
        let hook = subject.hook();
        let run = move || script.run(&subject, meter::ON_THREADS);
        match self.threads.run(run).await {
            Some(end) => end,
            None => End::Failed(HookError {
                message: format!("the thread that ran {} broke off", hook.as_str()),
                at: self.script.file.clone(),
            }),
        }
    }
}
