//! Plugins that change while pixtoll runs: compiled aside, checked, tried by their own tests, then
//! put in force at once.
//!
//! A rule that does not load, or whose test fails, is not taken: the last good one stays, and the
//! decision log says so. Calls under way keep the rules that they began with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::StartError;
use super::hook_prices::BookPrices;
use super::prepared::{classes, entries, plugin_problem};
use super::prices::{InForce, LOOK, Stamp, stamp};
use super::rule_bench::SimBench;
use crate::config::Settings;
use crate::listen::Closing;
use crate::pipeline::Pipeline;
use crate::plugin::trial::{self, Bench};
use crate::plugin::{LoadProblem, Plugin, Plugins, Prices};
use crate::record::{NoticeKind, NoticeLevel};

/// Looks after the plugins' files until pixtoll stops.
#[derive(Debug)]
pub(super) struct Watch {
    in_force: InForce,
    /// The rules in force whose files these are.
    plugins: Arc<Plugins>,
    /// The files of the rules in force.
    files: Vec<PathBuf>,
    /// The files as they were read last, whether or not they were taken. Empty after a change of
    /// rules: they are read once more then, since a file may have changed while it was read.
    read: Vec<Stamp>,
    /// The files at the last look.
    seen: Vec<Stamp>,
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

/// Every file whose change may change a rule, tests included: a corrected test lets a rule in.
fn files(plugins: &Plugins) -> Vec<PathBuf> {
    let own = plugins.iter().flat_map(Plugin::files);
    let tests = plugins.iter().filter_map(test_of);
    own.chain(tests).collect()
}

/// Where a plugin's own test would be.
fn test_of(plugin: &Plugin) -> Option<PathBuf> {
    let file = plugin.files().into_iter().next()?;
    let ending = file.extension()?.to_str()?;
    Some(file.with_file_name(format!("{}_test.{ending}", plugin.name())))
}

impl Watch {
    /// For the rules that are in force.
    pub(super) fn new(in_force: InForce) -> Watch {
        let plugins = Arc::clone(&in_force.pipeline.get().plugins);
        Watch {
            files: files(&plugins),
            plugins,
            in_force,
            read: Vec::new(),
            seen: Vec::new(),
        }
    }

    /// Looks at the files every now and then.
    pub(super) async fn run(watch: Arc<Mutex<Watch>>, mut closing: Closing) {
        loop {
            tokio::select! {
                () = closing.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            watch.lock().await.look().await;
        }
    }

    async fn look(&mut self) {
        let plugins = Arc::clone(&self.in_force.pipeline.get().plugins);
        if !Arc::ptr_eq(&plugins, &self.plugins) {
            // A new configuration has brought them.
            (self.files, self.plugins) = (files(&plugins), plugins);
            self.read.clear();
        }
        let now = stamps(&self.files);
        let still = now == self.seen;
        self.seen = now;
        if still && self.seen != self.read {
            self.read = self.seen.clone();
            self.reload().await;
        }
    }

    /// Reads the rules anew and puts them in force if they can stand.
    pub(super) async fn reload(&mut self) {
        let settings = self.in_force.settings.get();
        let book = Arc::clone(&self.in_force.book);
        let prices: Arc<dyn Prices> = Arc::new(BookPrices::new(book, &settings));
        let old = Arc::clone(&self.in_force.pipeline.get().plugins);
        // Compiling and testing take a while, and calls must not wait for it.
        let read = tokio::task::spawn_blocking(move || load(&settings, &old, &prices));
        let (level, text) = match read.await {
            Ok(Ok((_, changed))) if changed.is_empty() => return,
            Ok(Ok((plugins, changed))) => {
                let plugins = Arc::new(plugins);
                self.files = files(&plugins);
                self.plugins = Arc::clone(&plugins);
                self.read.clear();
                self.in_force.put_plugins(plugins);
                let says = format!("new rules are in force: {}", changed.join(", "));
                (NoticeLevel::Info, says)
            }
            Ok(Err(why)) => (NoticeLevel::Error, kept(&why)),
            Err(error) => (NoticeLevel::Error, kept(&error.to_string())),
        };
        if level == NoticeLevel::Error {
            tracing::error!("{text}");
        }
        let pipeline: Arc<Pipeline> = self.in_force.pipeline.get();
        pipeline.notice(NoticeKind::Reload, level, text);
    }
}

fn kept(why: &str) -> String {
    format!("the changed rules are not taken, the last good ones stay in force: {why}")
}

/// Reads the plugins anew, and tries those that changed by their own tests; with them, what
/// changed in words.
///
/// # Errors
/// Everything that is wrong with them, in words.
pub(super) fn load(
    settings: &Settings,
    old: &Plugins,
    prices: &Arc<dyn Prices>,
) -> Result<(Plugins, Vec<String>), String> {
    let plugins = old.replaced(&entries(settings), Arc::clone(prices), &classes(settings));
    let plugins = plugins.map_err(in_words)?;
    let mut changed = Vec::new();
    for plugin in plugins.iter() {
        let before = old.iter().filter(|old| old.name() == plugin.name());
        let digests: Vec<&str> = before.map(Plugin::digest).collect();
        if digests.contains(&plugin.digest()) {
            continue;
        }
        if let Some(test) = test_of(plugin).filter(|test| test.is_file()) {
            try_out(settings, &test, prices)?;
        }
        let (name, digest) = (plugin.name(), plugin.digest());
        changed.push(match digests.first() {
            Some(old) => format!("{name} {digest} in place of {old}"),
            None => format!("{name} {digest} is new"),
        });
    }
    Ok((plugins, changed))
}

fn in_words(found: Vec<LoadProblem>) -> String {
    StartError(found.into_iter().map(plugin_problem).collect()).to_string()
}

/// Runs a rule's own test.
///
/// # Errors
/// Which cases fail, and how.
fn try_out(settings: &Settings, test: &Path, prices: &Arc<dyn Prices>) -> Result<(), String> {
    let bench = Arc::new(SimBench::new(settings.clone()));
    let held: Arc<dyn Bench> = Arc::<SimBench>::clone(&bench);
    let ran = trial::run(test, Arc::clone(prices), held);
    bench.close();
    let verdicts = ran.map_err(|found| in_words(vec![found]))?;
    let failed: Vec<String> = verdicts
        .iter()
        .filter_map(|verdict| {
            let failure = verdict.failure.as_ref()?;
            Some(format!("{}: {}", verdict.name, failure.message.trim()))
        })
        .collect();
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: {}", test.display(), failed.join("; "))),
    }
}
