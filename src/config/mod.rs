//! Settings that cannot be wrong.
//!
//! [`raw`] has the configuration as people write it; here it becomes typed values that every part
//! can use without checking again. All mistakes are reported at once, each with its place and
//! what to do about it.

mod address;
mod doors;
mod find;
mod plugins;
mod problem;
mod provider;
mod providers;
mod raw;
mod read;
mod spend;
mod storage;
mod units;
mod uplink;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::secret::Secret;
pub use address::Upstream;
pub use doors::App;
pub use find::{Source, state_dir};
pub use plugins::{OnError, PluginEntry, PluginSource};
pub use problem::{Place, Problem};
pub use provider::{Limits, Named, Provider, Providers, Volume, key_variables};
pub use spend::{Budget, BudgetPlaces, Class, Dimension, Over, Per};
pub use storage::{CacheSettings, Ledger, LedgerDown, LedgerSync, LogPrompts, LogRotate};
pub use units::{bytes as parse_bytes, duration as parse_duration};
pub use uplink::{CaFiles, UpstreamProxy};

use doors::Doors;
use raw::{Field, Node, Origin, Raw, Surroundings};
use read::{Reader, readable};

use crate::image::words;
use crate::money::Usd;
use crate::pipeline::RetryBudget;

words! {
    /// Whether rules are carried out.
    Mode {
        Enforce = "enforce",
        /// Decide and log what would be done, and change nothing.
        Observe = "observe",
    }
}
readable!(Mode);

/// Everything that can be configured, valid and complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where proxy and gateway listen; at least one. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Whether anybody who reaches a listener beyond loopback may use it.
    pub open: bool,
    pub dashboard: Option<SocketAddr>,
    pub apps: BTreeMap<String, App>,
    /// How others reach this proxy, for images that it serves itself.
    pub public_url: Option<Upstream>,
    pub mode: Mode,
    pub providers: Providers,
    /// PEM file of more roots to trust upstream.
    pub upstream_ca: Option<PathBuf>,
    pub upstream_proxy: Option<UpstreamProxy>,
    /// A CA that the user brings, instead of the one that pixtoll makes.
    pub ca: Option<CaFiles>,
    /// In the order in which they run.
    pub plugins: Vec<PluginEntry>,
    pub classes: BTreeMap<String, Class>,
    pub cache: CacheSettings,
    /// Bytes of requests and answers under way, all together; at least [`crate::room::LEAST`].
    pub in_flight: u64,
    pub budgets: Vec<Budget>,
    pub budget_places: BudgetPlaces,
    /// Held for an image of a model that the price book does not know. More than zero.
    pub unpriced_hold: Usd,
    /// At most so many attempts a call; at least 1.
    pub attempts: u32,
    /// How many calls may be sent again, of all that come.
    pub retry_budget: RetryBudget,
    /// How long the job of an asynchronous provider is remembered.
    pub job_ttl: Duration,
    pub ledger: Ledger,
    pub ledger_sync: LedgerSync,
    pub ledger_down: LedgerDown,
    /// URL that alerts are posted to; many such URLs carry their own token.
    pub webhook: Option<Secret>,
    /// Price books laid over the shipped one, in this order.
    pub prices: Vec<PathBuf>,
    /// The decision log; `None`: none is kept.
    pub log: Option<PathBuf>,
    pub log_prompts: LogPrompts,
    pub log_rotate: LogRotate,
    pub state_dir: PathBuf,
}

/// Settings, and what is odd about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<Problem>,
}

const ATTEMPTS: u32 = 4;
const JOB_TTL: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    /// What an empty file means, with all that is kept in `state_dir` and no key of any provider.
    pub fn defaults(state_dir: PathBuf) -> Settings {
        let doors = Doors::default();
        Settings {
            listen: doors.listen,
            open: doors.open,
            dashboard: doors.dashboard,
            apps: doors.apps,
            public_url: doors.public_url,
            mode: Mode::Enforce,
            providers: Providers::default(),
            upstream_ca: None,
            upstream_proxy: None,
            ca: None,
            plugins: Vec::new(),
            classes: BTreeMap::new(),
            cache: CacheSettings::default(),
            in_flight: storage::IN_FLIGHT,
            budgets: Vec::new(),
            budget_places: BudgetPlaces::default(),
            unpriced_hold: spend::UNPRICED_HOLD,
            attempts: ATTEMPTS,
            retry_budget: uplink::RETRY_BUDGET,
            job_ttl: JOB_TTL,
            ledger: Ledger::Sqlite(state_dir.join("ledger.db")),
            ledger_sync: LedgerSync::Crash,
            ledger_down: LedgerDown::Auto,
            webhook: None,
            prices: Vec::new(),
            log: Some(state_dir.join("decisions.jsonl")),
            log_prompts: LogPrompts::Head,
            log_rotate: LogRotate::default(),
            state_dir,
        }
    }

    /// Reads a configuration, lays `overrides` (`("cache.ttl", "10m")`, values in YAML) over it
    /// and looks variables up in `env`.
    ///
    /// # Errors
    /// Every mistake there is, in the order of the file; those of overrides come last.
    pub fn load(
        source: &Source,
        overrides: &[(String, String)],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Vec<Problem>> {
        let text = Text::of(source).map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let origin = Origin::File(text.name.as_str().into());
        let root = raw::parse(&text.text, &origin, &mut problems);
        let Some(mut root) = root else {
            return Err(problems);
        };
        for (key, value) in overrides {
            raw::set(&mut root, key, value, &mut problems);
        }
        let home = find::home(env);
        let around = Surroundings {
            env,
            folder: &text.folder,
            home: home.as_deref(),
        };
        raw::expand(&mut root, &around, &mut problems);
        let mut reader = Reader::new(&around);
        reader.problems = problems;
        let settings = read_all(&root, &mut reader);
        reader.warnings.sort_by_key(in_order);
        reader.problems.sort_by_key(in_order);
        match settings {
            Some(settings) if reader.problems.is_empty() => Ok(Loaded {
                settings,
                warnings: reader.warnings,
            }),
            _ => Err(reader.problems),
        }
    }

    /// Eight hex digits that two equal configurations have in common. Secrets do not enter it.
    pub fn digest(&self) -> String {
        blake3::hash(format!("{self:?}").as_bytes()).to_hex()[..8].to_owned()
    }

    /// The provider of that name.
    pub fn provider(&self, name: &str) -> Option<&Provider> {
        self.providers.get(name)
    }

    /// The provider that has that very host, in any case.
    pub fn provider_of_host(&self, host: &str) -> Option<&Provider> {
        self.providers.of_host(host)
    }

    /// Every host that TLS is ended for, sorted.
    pub fn intercepted_hosts(&self) -> Vec<String> {
        self.providers.hosts()
    }

    /// Where the CA that pixtoll makes is kept.
    pub fn ca_dir(&self) -> PathBuf {
        self.state_dir.join("ca")
    }

    /// Where `prices update` keeps the price file that it fetched; laid over the shipped book,
    /// below those of `prices`.
    pub fn updated_prices(&self) -> PathBuf {
        self.state_dir.join("prices.yaml")
    }

    /// Where the cache's disk tier is kept.
    pub fn cache_dir(&self) -> PathBuf {
        self.state_dir.join("cache")
    }
}

/// The order of the file; what has no line comes last.
fn in_order(problem: &Problem) -> (bool, Option<u32>, Option<u32>) {
    (problem.line.is_none(), problem.line, problem.column)
}

/// A configuration's text, with its name for messages and the folder that its paths start at.
struct Text {
    name: String,
    text: String,
    folder: PathBuf,
}

impl Text {
    fn of(source: &Source) -> Result<Text, Problem> {
        match source {
            Source::Defaults => Ok(Text {
                name: "built-in defaults".to_owned(),
                text: String::new(),
                folder: PathBuf::new(),
            }),
            Source::Text { name, text, folder } => Ok(Text {
                name: name.clone(),
                text: text.clone(),
                folder: folder.clone(),
            }),
            Source::File(path) => Text::read(path),
        }
    }

    fn read(path: &Path) -> Result<Text, Problem> {
        let text = std::fs::read_to_string(path).map_err(|error| Problem {
            file: Some(path.display().to_string()),
            ..Problem::anywhere("missing_file", format!("cannot be read: {error}"))
                .remedy("check the path and who may read it; `--config FILE` names another")
        })?;
        Ok(Text {
            name: path.display().to_string(),
            text,
            folder: path.parent().unwrap_or(Path::new("")).to_owned(),
        })
    }
}

/// Every section in turn. `None` when there is nowhere to keep things.
fn read_all(root: &Node, reader: &mut Reader<'_>) -> Option<Settings> {
    let root = Field::root(root);
    let raw = Raw::read(&root, &mut reader.problems);
    let state_dir = storage::state_dir(&raw, reader);
    if state_dir.is_none() && raw.state_dir.is_none() {
        reader.problems.push(
            Problem::anywhere("no_home", "neither HOME nor XDG_STATE_HOME is set").remedy(
                "set HOME, or say where to keep things: `--set state_dir=/var/lib/pixtoll`",
            ),
        );
    }
    // Goes on without one, so that all other mistakes are found too.
    let mut settings = Settings::defaults(state_dir.clone().unwrap_or_default());
    read_traffic(&raw, &mut settings, reader);
    read_money(&raw, &mut settings, reader);
    read_storage(&raw, &mut settings, reader);
    state_dir.map(|_| settings)
}

fn read_traffic(raw: &Raw<'_>, settings: &mut Settings, reader: &mut Reader<'_>) {
    let doors = doors::doors(raw, reader);
    settings.listen = doors.listen;
    settings.dashboard = doors.dashboard;
    settings.open = doors.open;
    settings.apps = doors.apps;
    settings.public_url = doors.public_url;
    if let Some(field) = &raw.mode {
        settings.mode = reader.word(field).unwrap_or(settings.mode);
    }
    settings.providers = provider::providers(raw.providers.as_ref(), reader);
    if let Some(field) = &raw.upstream_ca {
        settings.upstream_ca = reader.file(field, "corp.pem");
    }
    if let Some(field) = &raw.upstream_proxy {
        settings.upstream_proxy = uplink::proxy(field, reader);
    }
    if let Some(field) = &raw.ca {
        settings.ca = uplink::ca(field, reader);
    }
    if let Some(field) = &raw.plugins {
        settings.plugins = plugins::plugins(field, reader);
    }
    if let Some(field) = &raw.attempts {
        settings.attempts = reader.count(field, 20).unwrap_or(ATTEMPTS);
    }
    if let Some(field) = &raw.retry_budget {
        settings.retry_budget = uplink::retry_budget(field, reader);
    }
    if let Some(field) = &raw.job_ttl {
        settings.job_ttl = uplink::job_ttl(field, reader).unwrap_or(JOB_TTL);
    }
}

fn read_money(raw: &Raw<'_>, settings: &mut Settings, reader: &mut Reader<'_>) {
    let names = spend::Names {
        providers: &settings.providers,
        apps: &settings.apps,
    };
    if let Some(field) = &raw.classes {
        settings.classes = spend::classes(field, &names, reader);
    }
    if let Some(field) = &raw.budgets {
        (settings.budgets, settings.budget_places) =
            spend::budgets(field, &settings.classes, &names, reader);
        if raw.plugins.is_none() {
            spend::nobody_to_ask(field, &settings.budgets, reader);
        }
    }
    settings.unpriced_hold = spend::unpriced_hold(raw.unpriced_hold.as_ref(), reader);
    if let Some(field) = &raw.alerts {
        settings.webhook = uplink::webhook(field, reader);
    }
    if let Some(field) = &raw.prices {
        let books = reader.items(field, "[my-prices.yaml]");
        settings.prices = books
            .iter()
            .filter_map(|book| reader.file(book, "[my-prices.yaml]"))
            .collect();
    }
}

fn read_storage(raw: &Raw<'_>, settings: &mut Settings, reader: &mut Reader<'_>) {
    let state = settings.state_dir.clone();
    if let Some(field) = &raw.cache {
        settings.cache = storage::cache(field, reader);
    }
    if let Some(field) = &raw.in_flight {
        settings.in_flight = storage::in_flight(field, reader).unwrap_or(settings.in_flight);
    }
    settings.ledger = storage::ledger(raw.ledger.as_ref(), &state, reader);
    if let Some(field) = &raw.ledger_sync {
        settings.ledger_sync = reader.word(field).unwrap_or(settings.ledger_sync);
    }
    if let Some(field) = &raw.ledger_down {
        settings.ledger_down = reader.word(field).unwrap_or(settings.ledger_down);
    }
    settings.log = storage::log(raw.log.as_ref(), &state, reader);
    if let Some(field) = &raw.log_prompts {
        settings.log_prompts = reader.word(field).unwrap_or(settings.log_prompts);
    }
    if let Some(field) = &raw.log_rotate {
        settings.log_rotate = storage::log_rotate(field, reader);
    }
}
