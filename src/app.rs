//! Builds every part once, from valid settings, and takes it all down in the right order.

pub mod accounts;
mod alerts;
mod hook_prices;
mod parts;
mod prepared;
pub mod prices;
pub mod rule_bench;
mod rules;
mod settings;
mod state;
pub mod workbench;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::cache::{Flights, Shelf, Store};
use crate::config::{Problem, Settings};
use crate::cores::Cores;
use crate::current::Current;
use crate::listen::{self, Closer, Closing};
use crate::money::Usd;
use crate::pipeline::{Earlier, Jobs, LeftJob, Pipeline, Quotes, Retries};
use crate::plugin::Plugins;
use crate::price::Book;
use crate::proxy::Proxy;
use crate::proxy::authority::Authority;
use crate::record::{Notice, NoticeKind, NoticeLevel};
use crate::room::Memory;
use crate::sim::Sim;
use crate::task::Tasks;
use alerts::Courier;
pub use alerts::test_alert;
pub use parts::{SIM_KEY, upstream};
use parts::{
    access, authority, bind, budgeting, gate, ledger, log, pictures, policy, providers, simulate,
    world,
};
pub use prepared::{
    book, hook_prices, plugin_problem, prepare, price_files, price_problem, speaks_to,
};
use prices::{InForce, Stamps, Watch};
pub use settings::Reread;
pub use state::Presence;
pub(crate) use state::private_dir;

/// How long a stop waits for calls that are under way.
const LAST_CALLS: Duration = Duration::from_secs(60);
/// Answers of batches on disk take so much at most.
const SHELF_BYTES: u64 = 4 << 30;

/// What is said on the command line and not in the configuration.
#[derive(Clone, Debug, Default)]
pub struct Extras {
    /// Every provider is simulated: no key, no network, no cost.
    pub sim: bool,
    /// Name and tags of apps that give none.
    pub app: Option<(String, Vec<String>)>,
}

/// Why pixtoll does not start: everything that is wrong, not only the first.
#[derive(Debug)]
pub struct StartError(pub Vec<Problem>);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

impl std::error::Error for StartError {}

fn wrong(code: &'static str, error: impl fmt::Display) -> StartError {
    StartError(vec![Problem::anywhere(code, error.to_string())])
}

/// A pixtoll that runs.
#[derive(Debug)]
pub struct App {
    pub address: SocketAddr,
    /// As it was started. Its stations are those of all that follow it; their books differ.
    pub pipeline: Arc<Pipeline>,
    pub authority: Arc<Authority>,
    /// Whatever is odd and no mistake.
    pub warnings: Vec<String>,
    sim: Option<Sim>,
    courier: Option<Courier>,
    rules: Arc<tokio::sync::Mutex<rules::Watch>>,
    in_force: InForce,
    watching: Tasks,
    closing: Closing,
    closer: Closer,
    tasks: Tasks,
    _presence: Option<Presence>,
}

impl App {
    /// Builds everything and begins to listen.
    ///
    /// # Errors
    /// [`StartError`] with all that stands in the way.
    pub async fn start(settings: Settings, extras: Extras) -> Result<App, StartError> {
        let stamps = Stamps::of(&settings);
        let (book, plugins) = prepare(&settings)?;
        let tasks = Tasks::new();
        private_dir(&settings.state_dir).map_err(|error| wrong("state", error))?;
        let authority = authority(&settings)?;
        let sim = match extras.sim {
            true => Some(simulate().await?),
            false => None,
        };
        let listener = bind(&settings).await?;
        let address = listener.address().map_err(|error| wrong("listen", error))?;
        let made = stations(&settings, sim.as_ref(), &book, plugins, address, &tasks);
        let pipeline = Arc::new(made.await?);
        let upstream = Arc::clone(&pipeline.upstream);
        let webhook = settings.webhook.as_ref();
        let courier = webhook.map(|webhook| Courier::start(webhook, &pipeline.log, &upstream));
        accounts::count(&settings, &pipeline).await;
        let left = pipeline.take_over_jobs().await;
        let access = access(&settings, address, extras.app);
        let authority = Arc::new(authority);
        let current = Arc::new(Current::new(Arc::clone(&pipeline)));
        let proxy = Arc::new(Proxy {
            pipeline: Arc::clone(&current),
            upstream,
            authority: Arc::clone(&authority),
            access,
            tasks: tasks.clone(),
            cores: Cores::start().map_err(|error| wrong("threads", error))?,
        });
        let (closer, closing) = listen::closing();
        tasks.spawn(proxy.serve(listener, closing.clone()));
        let state_dir = settings.state_dir.clone();
        let in_force = InForce {
            settings: Arc::new(Current::new(Arc::new(settings))),
            address,
            sim: sim.as_ref().map(Sim::addr),
            book,
            pipeline: current,
        };
        let watching = Tasks::new();
        let rules = Arc::new(tokio::sync::Mutex::new(rules::Watch::new(in_force.clone())));
        watching.spawn(rules::Watch::run(Arc::clone(&rules), closing.clone()));
        watching.spawn(follow(Arc::clone(&pipeline), left, closing.clone()));
        watching.spawn(Watch::new(stamps, in_force.clone()).run(closing.clone()));
        let presence = Presence::announce(&state_dir, address);
        let warnings = warnings(&authority, &pipeline);
        tell_of_the_dead(&pipeline);
        pipeline.notice(
            NoticeKind::Start,
            NoticeLevel::Info,
            format!("listening on {address}"),
        );
        Ok(App {
            address,
            pipeline,
            authority,
            warnings,
            sim,
            courier,
            rules,
            in_force,
            watching,
            closing,
            closer,
            tasks,
            _presence: presence,
        })
    }

    /// Looks after the configuration's file from now on, and takes what changes in it.
    pub fn follow(&self, reread: Reread) {
        let watch = settings::Watch::new(reread, self.in_force.clone(), Arc::clone(&self.rules));
        self.watching.spawn(watch.run(self.closing.clone()));
    }

    /// Reads the rules anew at once, and puts them in force if they can stand; a notice says which.
    pub async fn reload_rules(&self) {
        self.rules.lock().await.reload().await;
    }

    /// The simulated providers, where they run.
    pub fn sim(&self) -> Option<&Sim> {
        self.sim.as_ref()
    }

    /// Stops listening, lets calls under way finish, and closes the books. Returns how many
    /// connections and calls did not finish in time; the calls' holds become unknown at the next start.
    pub async fn stop(self) -> usize {
        self.closer.close();
        let left = self.tasks.drain(LAST_CALLS).await;
        self.pipeline
            .notice(NoticeKind::Stop, NoticeLevel::Info, "stopped");
        if let Some(courier) = self.courier {
            courier.stop().await;
        }
        if let Err(error) = self.pipeline.ledger.close().await {
            tracing::error!(%error, "the ledger was not closed in order; nothing is lost");
        }
        if let Err(error) = self.pipeline.log.flush().await {
            tracing::error!(%error, "the decision log is not complete");
        }
        if let Some(sim) = self.sim {
            sim.stop(Duration::from_secs(1)).await;
        }
        left
    }
}

/// Sees the jobs and the calls in batches through that dead processes left, until the word to end.
async fn follow(pipeline: Arc<Pipeline>, left: Vec<LeftJob>, mut closing: Closing) {
    let followed = async {
        tokio::join!(pipeline.follow_left(left), pipeline.follow_left_batches());
    };
    tokio::select! {
        () = followed => {}
        () = closing.closed() => {}
    }
}

/// The stations of a call, and what they share.
async fn stations(
    settings: &Settings,
    sim: Option<&Sim>,
    book: &Current<Book>,
    plugins: Plugins,
    address: SocketAddr,
    tasks: &Tasks,
) -> Result<Pipeline, StartError> {
    let log = log(settings)?;
    let ledger = ledger(settings).await?;
    let upstream = upstream(settings)?;
    let providers = providers(settings, sim.map(Sim::addr), &gate);
    let world = world(&providers);
    let policy = policy(settings, address, &log)?;
    let budgeting = budgeting(settings, &policy);
    let guarded = ledger.guard(&budgeting.budgets, budgeting.unpriced_hold);
    guarded.await.map_err(|error| wrong("ledger", error))?;
    let shelf = Shelf::new(settings.state_dir.join("answers"), SHELF_BYTES);
    let pipeline = Pipeline {
        providers,
        book: book.get(),
        plugins: Arc::new(plugins),
        world,
        store: Store::new(settings.cache.memory),
        shelf,
        flights: Flights::new(),
        ledger,
        budgeting: Arc::default(),
        upstream,
        log,
        policy,
        tasks: tasks.clone(),
        memory: Memory::new(settings.in_flight, Store::bound(settings.cache.memory)),
        jobs: Jobs::new(settings.job_ttl),
        retries: Arc::new(Retries::new(settings.retry_budget, Instant::now())),
        pictures: pictures(settings.cache.memory),
        beyond: Arc::default(),
        short: Arc::default(),
        quotes: Quotes::default(),
        earlier: Earlier::default(),
    };
    Ok(pipeline.with_budgets(budgeting))
}

fn warnings(authority: &Authority, pipeline: &Pipeline) -> Vec<String> {
    let mut warnings = authority.warnings().to_vec();
    let recovery = pipeline.ledger.recovery();
    if !recovery.unknown.is_empty() {
        warnings.push(format!(
            "{} attempts of an earlier process had no end: they are booked as unknown, at their quotes",
            recovery.unknown.len()
        ));
    }
    warnings
}

/// Writes to the log what an earlier process left without an end: its calls have no line there.
fn tell_of_the_dead(pipeline: &Pipeline) {
    /// So many calls are named.
    const NAMED: usize = 100;
    let unknown = &pipeline.ledger.recovery().unknown;
    if unknown.is_empty() {
        return;
    }
    let charges = unknown
        .iter()
        .filter_map(|row| row.settled.as_ref()?.charge);
    let sum = charges.fold(Usd::ZERO, |sum, charge| sum + charge);
    let calls: Vec<String> = unknown
        .iter()
        .take(NAMED)
        .map(|row| row.hold.call.to_string())
        .collect();
    let text = format!(
        "{} attempts of an earlier process had no end: they are booked as unknown, ${sum} in all",
        unknown.len()
    );
    let notice = Notice::new(
        Timestamp::now(),
        Arc::clone(&pipeline.policy.instance),
        NoticeKind::Alert,
        NoticeLevel::Warning,
        text,
    );
    pipeline.log.notice(
        &notice
            .with("calls", calls.join(" "))
            .with("unknown", sum.to_string()),
    );
}

#[cfg(test)]
mod tests;
