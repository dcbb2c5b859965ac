//! A configuration that changes while pixtoll runs: read whole, checked, and put in force at once.
//!
//! Providers, plugins, classes, budgets, the cache's times and the mode change live. What a running process
//! cannot change (where it listens, where its books are) stays as it was started, and the notice
//! says so. A file with a mistake is not taken: the last good one stays.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::StartError;
use super::accounts;
use super::hook_prices::BookPrices;
use super::parts::{budgeting, policy, providers};
use super::prepared::{nobody_to_ask, not_yet, unknown_deployments, unknown_models};
use super::prices::{InForce, LOOK, Stamp, stamp};
use super::rules;
use crate::action::World;
use crate::config::{Problem, Provider, Settings};
use crate::listen::Closing;
use crate::pipeline::Pipeline;
use crate::plugin::Prices;
use crate::record::{NoticeKind, NoticeLevel};

/// Where the configuration is, and how it is read again.
pub struct Reread {
    pub file: PathBuf,
    pub read: Box<dyn Fn() -> Result<Settings, Vec<Problem>> + Send + Sync>,
}

impl std::fmt::Debug for Reread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reread")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Looks after the configuration until pixtoll stops.
pub(super) struct Watch {
    reread: Arc<Reread>,
    in_force: InForce,
    /// Held while rules are read here, so that nobody puts older ones in force meanwhile.
    rules: Arc<Mutex<rules::Watch>>,
    /// The file as it was read last, whether or not it was taken.
    read: Stamp,
    /// The file at the last look.
    seen: Stamp,
}

impl Watch {
    pub(super) fn new(reread: Reread, in_force: InForce, rules: Arc<Mutex<rules::Watch>>) -> Watch {
        let read = stamp(&reread.file);
        Watch {
            reread: Arc::new(reread),
            in_force,
            rules,
            read,
            seen: read,
        }
    }

    pub(super) async fn run(mut self, mut closing: Closing) {
        loop {
            tokio::select! {
                () = closing.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = stamp(&self.reread.file);
            let still = now == self.seen;
            self.seen = now;
            if still && self.seen != self.read {
                self.read = self.seen;
                self.reload().await;
            }
        }
    }

    async fn reload(&self) {
        let _rules = self.rules.lock().await;
        let (reread, in_force) = (Arc::clone(&self.reread), self.in_force.clone());
        // Compiling rules and testing them takes a while, and calls must not wait for it.
        let taken = tokio::task::spawn_blocking(move || take(&reread, &in_force)).await;
        let (level, text) = match taken {
            Ok(Ok(None)) => return,
            Ok(Ok(Some(says))) => (NoticeLevel::Info, says),
            Ok(Err(why)) => (NoticeLevel::Error, kept(&why)),
            Err(error) => (NoticeLevel::Error, kept(&error.to_string())),
        };
        if level == NoticeLevel::Error {
            tracing::error!("{text}");
        }
        let pipeline = self.in_force.pipeline.get();
        let budgeting = &pipeline.budgeting;
        let guarded = pipeline
            .ledger
            .guard(&budgeting.budgets, budgeting.unpriced_hold);
        if let Err(error) = guarded.await {
            tracing::error!(%error, "the ledger was not told of the budgets in force");
        }
        pipeline.notice(NoticeKind::Reload, level, text);
    }
}

fn kept(why: &str) -> String {
    format!("the changed configuration is not taken, the last good one stays in force: {why}")
}

/// Reads the configuration and puts it in force; `None` where it says what the old one does.
///
/// # Errors
/// Everything that is wrong with it, in words.
fn take(reread: &Reread, in_force: &InForce) -> Result<Option<String>, String> {
    let in_words = |problems| StartError(problems).to_string();
    let read = (reread.read)().map_err(in_words)?;
    let old = in_force.settings.get();
    if read == *old {
        return Ok(None);
    }
    let (new, fixed) = as_started(&old, read);
    let mut problems = not_yet(&new);
    problems.extend(unknown_models(&new, &in_force.book.get()));
    problems.extend(unknown_deployments(&new, &in_force.book.get()));
    problems.extend(accounts::unknown(&new, &in_force.book.get()));
    if !problems.is_empty() {
        return Err(in_words(problems));
    }
    let prices: Arc<dyn Prices> = Arc::new(BookPrices::new(Arc::clone(&in_force.book), &new));
    let running = in_force.pipeline.get();
    let (plugins, changed) = rules::load(&new, &running.plugins, &prices)?;
    let unasked = nobody_to_ask(&new, &plugins);
    if !unasked.is_empty() {
        return Err(in_words(unasked));
    }
    let gate = |provider: &Provider| {
        let before = old.provider(&provider.name);
        match before.is_some_and(|before| before.limits == provider.limits) {
            // Calls under way count against the same limits.
            true => running.providers.named(&provider.name)?.gate.clone(),
            false => super::parts::gate(provider),
        }
    };
    let providers = providers(&new, in_force.sim, &gate);
    let policy = policy(&new, in_force.address, &running.log).map_err(|error| error.to_string())?;
    let budgeting = budgeting(&new, &policy);
    let digests = (old.digest(), new.digest());
    in_force.settings.put(Arc::new(new));
    let plugins = Arc::new(plugins);
    in_force.pipeline.change(|pipeline| {
        let fresh = Pipeline {
            world: Arc::new(World {
                keys: super::parts::keys(&providers),
                ..(*pipeline.world).clone()
            }),
            providers,
            policy,
            plugins,
            ..pipeline.clone()
        };
        fresh.with_budgets(budgeting)
    });
    Ok(Some(says(&digests, &changed, &fixed)))
}

fn says((old, new): &(String, String), rules: &[String], fixed: &[&str]) -> String {
    let mut text = match old == new {
        true => "the configuration in force is as it was".to_owned(),
        false => format!("a new configuration is in force: {new} in place of {old}"),
    };
    if !rules.is_empty() {
        text.push_str(&format!("; rules: {}", rules.join(", ")));
    }
    if !fixed.is_empty() {
        let (keys, verb) = (
            fixed.join("`, `"),
            if fixed.len() == 1 { "takes" } else { "take" },
        );
        text.push_str(&format!(
            "; `{keys}` {verb} effect when pixtoll is started anew"
        ));
    }
    text
}

/// The new settings with what a running process cannot change as it was; and the keys of that.
fn as_started(old: &Settings, new: Settings) -> (Settings, Vec<&'static str>) {
    let mut fixed = Vec::new();
    let mut new = new;
    macro_rules! keep {
        ($($key:literal: $($field:ident).+),+ $(,)?) => {
            $(if new.$($field).+ != old.$($field).+ {
                fixed.push($key);
                new.$($field).+ = old.$($field).+.clone();
            })+
        };
    }
    keep!(
        "listen": listen,
        "dashboard": dashboard,
        "open": open,
        "apps": apps,
        "upstream_ca": upstream_ca,
        "upstream_proxy": upstream_proxy,
        "ca": ca,
        "in_flight": in_flight,
        "cache.memory": cache.memory,
        "cache.disk": cache.disk,
        "cache.shared": cache.shared,
        "retry_budget": retry_budget,
        "ledger": ledger,
        "ledger_sync": ledger_sync,
        "alerts": webhook,
        "log": log,
        "log_rotate": log_rotate,
        "state_dir": state_dir,
    );
    if new.intercepted_hosts() != old.intercepted_hosts() {
        // Certificates are made for the hosts of the start.
        fixed.push("providers.*.hosts");
        new.providers = old.providers.clone();
    }
    if accounts::standings(&new) != accounts::standings(old) {
        fixed.push("providers.*.region");
    }
    (new, fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_live_stays_and_is_named() {
        let old = Settings::defaults("state".into());
        let mut read = Settings::defaults("elsewhere".into());
        read.listen = vec![([127, 0, 0, 1], 9).into()];
        read.attempts = 7;
        let (new, fixed) = as_started(&old, read);
        assert_eq!(fixed, ["listen", "ledger", "log", "state_dir"]);
        assert_eq!((new.attempts, &new.listen), (7, &old.listen));
        let text = says(&("a".into(), "b".into()), &[], &fixed[..1]);
        assert!(
            text.ends_with("`listen` takes effect when pixtoll is started anew"),
            "{text}"
        );
    }
}
