//! Builds every part once, from valid settings, and takes it all down in the right order.

pub mod accounts;
mod alerts;
mod hook_prices;
pub mod prices;
pub mod rule_bench;
mod rules;
mod settings;
pub mod workbench;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use jiff::Timestamp;
use moka::sync::Cache;

use crate::action::{Class, World};
use crate::budget::{Budget, Budgets};
use crate::cache::{Flights, Shelf, Store};
use crate::config::{self, Problem, Settings};
use crate::cores::Cores;
use crate::current::Current;
use crate::image::ModelId;
use crate::ledger::{self, Ledger};
use crate::listen::{self, CONNECTIONS, Closer, Closing, Listener};
use crate::money::Usd;
use crate::pipeline::{
    Budgeting, Earlier, Jobs, LeftJob, Pipeline, Policy, Provider, Providers, Quotes, Retries,
    WhenDown,
};
use crate::plugin::{self, Plugins};
use crate::price::{Book, PriceProblem};
use crate::proxy::Proxy;
use crate::proxy::access::Access;
use crate::proxy::authority::{Authority, OwnCa};
use crate::record::{Log, Mode, Notice, NoticeKind, NoticeLevel, Prompts, Rotation};
use crate::room::Memory;
use crate::sim::{Sim, SimOptions};
use crate::task::Tasks;
use crate::upstream::dial::{self, ProxyHop};
use crate::upstream::{Destination, Dialer, Gate, Patience, Upstream};
use alerts::Courier;
pub use alerts::test_alert;
use hook_prices::BookPrices;
use prices::{InForce, Stamps, Watch};
pub use settings::Reread;

/// How long a stop waits for calls that are under way.
const LAST_CALLS: Duration = Duration::from_secs(60);
/// So long pictures are served under URLs of ours.
const PICTURE_TTL: Duration = Duration::from_secs(3600);
/// The least and the most that they take of the memory, in bytes; between, half of what the cache may.
const PICTURE_BYTES: (u64, u64) = (16 << 20, 256 << 20);
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

/// Prices and plugins, read and checked: what `check` does without starting anything.
///
/// # Errors
/// Every mistake in any of them.
pub fn prepare(settings: &Settings) -> Result<(Arc<Current<Book>>, Plugins), StartError> {
    let book = book(settings)?;
    let book = Arc::new(book.for_whom(&accounts::standings(settings), &prices::today()));
    let mut problems = not_yet(settings);
    problems.extend(unknown_models(settings, &book));
    problems.extend(unknown_deployments(settings, &book));
    problems.extend(accounts::unknown(settings, &book));
    let entries = entries(settings);
    let book = Arc::new(Current::new(book));
    let prices = Arc::new(BookPrices::new(Arc::clone(&book), settings));
    match Plugins::load(&entries, prices, &classes(settings)) {
        Ok(plugins) => {
            problems.extend(nobody_to_ask(settings, &plugins));
            match problems.is_empty() {
                true => Ok((book, plugins)),
                false => Err(StartError(problems)),
            }
        }
        Err(found) => {
            problems.extend(found.into_iter().map(plugin_problem));
            Err(StartError(problems))
        }
    }
}

/// The price files that are laid over the shipped book, as names and texts: what `prices update`
/// fetched, then what the configuration names.
///
/// # Errors
/// When one of them cannot be read.
pub fn price_files(settings: &Settings) -> Result<Vec<(String, String)>, StartError> {
    let updated = settings.updated_prices();
    let updated = updated.exists().then_some(&updated);
    let mut texts = Vec::new();
    for path in updated.into_iter().chain(&settings.prices) {
        let text = fs::read_to_string(path).map_err(|error| {
            wrong(
                "prices",
                format!("{}: {error}: name a readable price book", path.display()),
            )
        })?;
        texts.push((path.display().to_string(), text));
    }
    Ok(texts)
}

/// The price book as it is configured.
///
/// # Errors
/// Every mistake in its files.
pub fn book(settings: &Settings) -> Result<Arc<Book>, StartError> {
    let texts = price_files(settings)?;
    if texts.is_empty() {
        return Ok(Arc::clone(Book::embedded()));
    }
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Book::with(&files)
        .map(Arc::new)
        .map_err(|found| StartError(found.into_iter().map(price_problem).collect()))
}

/// Whether a call can be sent to a model by this version, once there is a key for it.
pub fn speaks_to(settings: &Settings, model: &crate::image::ModelId) -> bool {
    let provider = settings.provider(model.provider());
    let dialects = provider.into_iter().flat_map(|provider| &provider.dialects);
    let mut dialects = dialects.filter_map(|name| crate::dialect::by_name(name));
    dialects.any(|dialect| dialect.serves(model))
}

/// The price book as hooks and rule tests ask it.
///
/// # Errors
/// Every mistake in its files.
pub fn hook_prices(settings: &Settings) -> Result<Arc<dyn plugin::Prices>, StartError> {
    let book = book(settings)?.on(&prices::today());
    let book = Arc::new(Current::new(Arc::new(book)));
    Ok(Arc::new(BookPrices::new(book, settings)))
}

/// A mistake in a plugin as commands tell it.
pub fn plugin_problem(found: plugin::LoadProblem) -> Problem {
    Problem {
        file: Some(found.file),
        line: found.line,
        column: found.column,
        code: "plugin",
        message: found.message,
        remedy: Some(found.remedy).filter(|remedy| !remedy.is_empty()),
    }
}

/// A mistake in a price file as commands tell it.
pub fn price_problem(found: PriceProblem) -> Problem {
    Problem {
        file: Some(found.file),
        line: u32::try_from(found.line).ok(),
        column: u32::try_from(found.column).ok(),
        code: "prices",
        message: found.message,
        remedy: Some(found.remedy),
    }
}

/// What is configured and cannot be done yet: a budget that guards nothing is worse than none.
fn not_yet(settings: &Settings) -> Vec<Problem> {
    let asked = [
        ("cache.disk", settings.cache.disk.is_some()),
        ("cache.shared", settings.cache.shared.is_some()),
    ];
    asked
        .into_iter()
        .filter(|(_, asked)| *asked)
        .map(|(key, _)| {
            Problem::anywhere(
                "not_yet",
                format!("`{key}` is not available in this version"),
            )
            .remedy("take it out of the configuration")
        })
        .collect()
}

/// Budgets that ask plugins, and none of them would answer.
fn nobody_to_ask(settings: &Settings, plugins: &Plugins) -> Vec<Problem> {
    if plugins.is_empty() || plugins.iter().any(plugin::Plugin::has_on_budget) {
        return Vec::new(); // without any plugin the configuration itself warns
    }
    let asks = |budget: &&Budget| budget.over == config::Over::Plugin;
    let asking = settings.budgets.iter().filter(asks);
    asking
        .map(|budget| {
            let message = format!(
                "the budget `{}` asks plugins when it is spent, and none of them has `on_budget`",
                budget.name
            );
            settings
                .budget_places
                .problem(&budget.name, "no_plugin", message)
                .remedy("add a plugin with `on_budget`, such as budget_downgrade, or say `over: refuse`")
        })
        .collect()
}

/// Models of classes that the book does not know: a class must know what its members cost.
fn unknown_models(settings: &Settings, book: &Book) -> Vec<Problem> {
    settings
        .classes
        .iter()
        .flat_map(|(name, class)| class.models.iter().map(move |model| (name, model)))
        .filter(|(_, model)| book.model(model).is_none())
        .map(|(name, model)| {
            Problem::anywhere(
                "unknown_model",
                format!("class `{name}`: the price book does not know {model}"),
            )
            .remedy("correct the name, or add the model to a price book under `prices`")
        })
        .collect()
}

/// Deployments of models that the book does not know: whoever says what a deployment is wants it
/// priced.
fn unknown_deployments(settings: &Settings, book: &Book) -> Vec<Problem> {
    let mut problems = Vec::new();
    for provider in settings.providers.iter() {
        for (deployment, model) in &provider.deployments {
            let id = ModelId::new(&provider.name, model);
            if book.model(&id).is_none() {
                let place = format!("providers.{}.deployments.{deployment}", provider.name);
                let message = format!("`{place}`: the price book does not know {id}");
                let remedy = "correct the model's name, or add it to a price book under `prices`";
                problems.push(Problem::anywhere("unknown_model", message).remedy(remedy));
            }
        }
    }
    problems
}

/// The configured plugins.
fn entries(settings: &Settings) -> Vec<plugin::Entry> {
    let observed = settings.mode == config::Mode::Observe;
    let all = settings.plugins.iter();
    all.map(|one| plugin::Entry {
        aside: observed,
        ..entry(one)
    })
    .collect()
}

fn entry(entry: &config::PluginEntry) -> plugin::Entry {
    plugin::Entry {
        source: match &entry.source {
            config::PluginSource::File(path) => plugin::PluginSource::File(path.clone()),
            config::PluginSource::Shipped(name) => plugin::PluginSource::Shipped(name.clone()),
        },
        options: entry.with.clone().into(),
        on_error: match entry.on_error {
            config::OnError::Skip => plugin::OnError::Skip,
            config::OnError::Refuse => plugin::OnError::Refuse,
        },
        observe: entry.observe,
        aside: false,
        coverage: entry.coverage,
    }
}

/// The configured classes.
fn classes(settings: &Settings) -> BTreeMap<String, Class> {
    let class = |class: &config::Class| Class {
        models: class.models.clone(),
        max_cost: class.max_cost,
    };
    let all = settings.classes.iter();
    all.map(|(name, found)| (name.clone(), class(found)))
        .collect()
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

    /// Stops listening, lets calls under way finish, and closes the books. Returns how many calls
    /// did not finish in time; their holds become unknown at the next start.
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

fn authority(settings: &Settings) -> Result<Authority, StartError> {
    let own = settings.ca.as_ref().map(|files| OwnCa {
        cert: files.cert.clone(),
        key: files.key.clone(),
    });
    Authority::open(&settings.ca_dir(), &settings.intercepted_hosts(), own)
        .map_err(|error| wrong("ca", error))
}

fn log(settings: &Settings) -> Result<Log, StartError> {
    let Some(path) = &settings.log else {
        return Ok(Log::without_file());
    };
    let rotation = Rotation {
        size: settings.log_rotate.size,
        keep: settings.log_rotate.keep as usize,
        ..Rotation::default()
    };
    Log::open(path, rotation).map_err(|error| wrong("log", error))
}

async fn ledger(settings: &Settings) -> Result<Ledger, StartError> {
    let sync = match settings.ledger_sync {
        config::LedgerSync::Crash => ledger::Sync::Crash,
        config::LedgerSync::Power => ledger::Sync::Power,
    };
    match &settings.ledger {
        config::Ledger::Sqlite(path) => Ledger::open(path, sync)
            .await
            .map_err(|error| wrong("ledger", error)),
        config::Ledger::Postgres(_) => Err(StartError(vec![
            Problem::anywhere(
                "ledger",
                "a ledger in Postgres is not available in this version",
            )
            .remedy("use ledger: sqlite:PATH"),
        ])),
    }
}

/// The way out as it is configured.
///
/// # Errors
/// When more roots are configured and cannot be read.
pub fn upstream(settings: &Settings) -> Result<Arc<Upstream>, StartError> {
    let more: Vec<&Path> = settings.upstream_ca.iter().map(PathBuf::as_path).collect();
    let roots = dial::roots(&more).map_err(|error| wrong("upstream_ca", error))?;
    let hop = settings.upstream_proxy.as_ref().map(|proxy| ProxyHop {
        host: proxy.server.host.clone(),
        port: proxy.server.port,
        authorization: proxy.userinfo.as_ref().map(|userinfo| {
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(userinfo.expose())
            )
        }),
    });
    Ok(Arc::new(Upstream::new(
        Dialer::new(roots, hop),
        Patience::default(),
    )))
}

async fn simulate() -> Result<Sim, StartError> {
    Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
        .await
        .map_err(|error| wrong("sim", error))
}

/// A key that opens nothing, for simulated providers.
pub const SIM_KEY: &str = "sk-simulated";

fn providers(
    settings: &Settings,
    sim: Option<SocketAddr>,
    gate: &dyn Fn(&config::Provider) -> Option<Arc<Gate>>,
) -> Providers {
    let destination = |upstream: &config::Upstream| Destination {
        tls: upstream.tls,
        host: upstream.host.as_str().into(),
        port: upstream.port,
    };
    Providers::new(settings.providers.iter().map(|provider| {
        let simulated = sim.filter(|_| !provider.dialects.is_empty());
        Provider {
            name: provider.name.as_str().into(),
            dialects: provider
                .dialects
                .iter()
                .filter_map(|name| crate::dialect::by_name(name))
                .collect(),
            hosts: provider.hosts.clone(),
            upstream: match simulated {
                Some(address) => Some(Destination::http(&address.ip().to_string(), address.port())),
                None => provider.upstream.as_ref().map(destination),
            },
            default: provider.default_upstream.as_ref().map(destination),
            key: match simulated {
                Some(_) => Some(crate::secret::Secret::new(SIM_KEY)),
                None => provider.api_key.clone(),
            },
            deployments: provider.deployments.clone(),
            gate: gate(provider),
            ask_quote: provider.ask_quote,
            closed: sim.is_some() && simulated.is_none(),
        }
    }))
}

/// What keeps a provider's limits, where it has any.
fn gate(provider: &config::Provider) -> Option<Arc<Gate>> {
    let limits = &provider.limits;
    Gate::new(&provider.name, limits.concurrent, limits.per_minute)
}

async fn bind(settings: &Settings) -> Result<Listener, StartError> {
    let address = settings
        .listen
        .first()
        .copied()
        .unwrap_or_else(|| ([127, 0, 0, 1], 0).into());
    Listener::bind(address, CONNECTIONS).await.map_err(|error| {
        StartError(vec![Problem::anywhere("listen", error.to_string()).remedy(
            "another program has the port: choose another with --set listen=127.0.0.1:PORT",
        )])
    })
}

/// Providers that a key is configured for.
fn keys(providers: &Providers) -> BTreeSet<String> {
    let with_key = providers.iter().filter(|provider| provider.key.is_some());
    with_key.map(|provider| provider.name.to_string()).collect()
}

fn world(providers: &Providers) -> Arc<World> {
    Arc::new(World {
        keys: keys(providers),
        ..World::default()
    })
}

fn policy(settings: &Settings, address: SocketAddr, log: &Log) -> Result<Policy, StartError> {
    let public_url = match &settings.public_url {
        Some(url) => Some(format!(
            "{}://{}",
            if url.tls { "https" } else { "http" },
            url.authority()
        )),
        None => address
            .ip()
            .is_loopback()
            .then(|| format!("http://{address}")),
    };
    Ok(Policy {
        mode: match settings.mode {
            config::Mode::Enforce => Mode::Enforce,
            config::Mode::Observe => Mode::Observe,
        },
        ttl: settings.cache.ttl,
        unseeded_ttl: settings.cache.unseeded_ttl,
        variants: settings.cache.variants,
        scope: settings.cache.scope,
        fan_out: settings.cache.fan_out.clone(),
        attempts: settings.attempts,
        job_ttl: settings.job_ttl,
        prompts: match settings.log_prompts {
            config::LogPrompts::Head => Prompts::Head,
            config::LogPrompts::Hash => Prompts::Hash,
            config::LogPrompts::Text => Prompts::Text,
            config::LogPrompts::Off => Prompts::Off,
        },
        classes: classes(settings),
        public_url,
        config: settings.digest().into(),
        instance: Arc::clone(log.instance()),
        credential_key: credential_key(&settings.state_dir)
            .map_err(|error| wrong("state", error))?,
        staged: None,
    })
}

/// The budgets as they are configured. A user is named in plain there, and kept as a digest.
fn budgeting(settings: &Settings, policy: &Policy) -> Budgeting {
    let budgets = settings.budgets.iter().map(|budget| {
        let mut budget: Budget = budget.clone();
        if let Some(users) = budget.only.get_mut(config::Dimension::User.as_str()) {
            let digests: Vec<String> = users.iter().map(|user| policy.user_digest(user)).collect();
            users.extend(digests);
        }
        budget
    });
    let classes = settings.classes.iter();
    let classes = classes.map(|(name, class)| (name.clone(), class.models.clone()));
    let when_down = match settings.ledger_down {
        config::LedgerDown::Auto => WhenDown::Auto,
        config::LedgerDown::Open => WhenDown::Open,
        config::LedgerDown::Closed => WhenDown::Closed,
    };
    Budgeting::new(
        Budgets::new(budgets, classes.collect()),
        settings.unpriced_hold,
        when_down,
    )
}

fn access(settings: &Settings, address: SocketAddr, app: Option<(String, Vec<String>)>) -> Access {
    Access {
        own: vec![address],
        dashboard: settings.dashboard,
        apps: settings
            .apps
            .iter()
            .map(|(name, app)| (name.clone(), app.token.clone()))
            .collect(),
        names: settings
            .public_url
            .iter()
            .map(config::Upstream::authority)
            .collect(),
        default_app: app
            .map(|(name, tags)| (name.into(), tags.into_iter().map(Into::into).collect())),
        wide: !address.ip().is_loopback(),
    }
}

fn pictures(memory: u64) -> Cache<String, (crate::image::Format, crate::wire::Rope)> {
    Cache::builder()
        .max_capacity((memory / 2).clamp(PICTURE_BYTES.0, PICTURE_BYTES.1))
        .weigher(|_, (_, rope): &(crate::image::Format, crate::wire::Rope)| {
            u32::try_from(rope.len()).unwrap_or(u32::MAX)
        })
        .time_to_live(PICTURE_TTL)
        .build()
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

/// The key of credential digests: made once, kept beside the ledger, the same for every process
/// on this state directory.
fn credential_key(dir: &Path) -> io::Result<[u8; 32]> {
    let path = dir.join("credential.key");
    if let Ok(bytes) = fs::read(&path)
        && let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice())
    {
        return Ok(key);
    }
    let mut key = [0; 32];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut key)
        .map_err(|_| io::Error::other("the system gave no random bytes"))?;
    let fresh = dir.join(format!("credential.key.{}", std::process::id()));
    write_private(&fresh, &key)?;
    // A link fails where the name is taken: of two processes that start at once one wins.
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh)?;
    match linked {
        Ok(()) => Ok(key),
        Err(_) => fs::read(&path)?
            .try_into()
            .map_err(|_| io::Error::other(format!("{} is damaged: remove it", path.display()))),
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(bytes)
}

pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(dir)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))
}

/// A file that tells other commands where a proxy of this state directory listens. It is locked
/// as long as the proxy lives, so a stale one is known by its lock.
#[derive(Debug)]
pub struct Presence {
    _file: fs::File,
    path: PathBuf,
}

impl Presence {
    fn path(dir: &Path) -> PathBuf {
        dir.join("proxy.address")
    }

    /// `None` where another proxy is already announced.
    fn announce(dir: &Path, address: SocketAddr) -> Option<Presence> {
        use std::io::Write as _;
        let path = Presence::path(dir);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .ok()?;
        file.try_lock().ok()?;
        file.set_len(0).ok()?;
        writeln!(file, "{address}").ok()?;
        Some(Presence { _file: file, path })
    }

    /// Where a running proxy of this state directory listens.
    pub fn find(dir: &Path) -> Option<SocketAddr> {
        let path = Presence::path(dir);
        let file = fs::File::open(&path).ok()?;
        match file.try_lock_shared() {
            Ok(()) => None, // nobody holds it: whoever wrote it is gone
            Err(_) => fs::read_to_string(&path).ok()?.trim().parse().ok(),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
