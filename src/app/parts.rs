//! Each part of a running pixtoll, made from its settings.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use moka::sync::Cache;

use super::prepared::classes;
use super::state::credential_key;
use super::{StartError, wrong};
use crate::action::World;
use crate::budget::{Budget, Budgets};
use crate::config::{self, Problem, Settings};
use crate::ledger::{self, Ledger};
use crate::listen::{CONNECTIONS, Listener};
use crate::pipeline::{Budgeting, Policy, Provider, Providers, WhenDown};
use crate::proxy::access::Access;
use crate::proxy::authority::{Authority, OwnCa};
use crate::record::{Log, Mode, Prompts, Rotation};
use crate::sim::{Sim, SimOptions};
use crate::upstream::dial::{self, ProxyHop};
use crate::upstream::{Destination, Dialer, Gate, Patience, Upstream};

/// So long pictures are served under URLs of ours.
const PICTURE_TTL: Duration = Duration::from_secs(3600);
/// The least and the most that they take of the memory, in bytes; between, half of what the cache may.
const PICTURE_BYTES: (u64, u64) = (16 << 20, 256 << 20);
pub(super) fn authority(settings: &Settings) -> Result<Authority, StartError> {
    let own = settings.ca.as_ref().map(|files| OwnCa {
        cert: files.cert.clone(),
        key: files.key.clone(),
    });
    Authority::open(&settings.ca_dir(), &settings.intercepted_hosts(), own)
        .map_err(|error| wrong("ca", error))
}

pub(super) fn log(settings: &Settings) -> Result<Log, StartError> {
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

pub(super) async fn ledger(settings: &Settings) -> Result<Ledger, StartError> {
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

pub(super) async fn simulate() -> Result<Sim, StartError> {
    Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
        .await
        .map_err(|error| wrong("sim", error))
}

/// A key that opens nothing, for simulated providers.
pub const SIM_KEY: &str = "sk-simulated";

pub(super) fn providers(
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
pub(super) fn gate(provider: &config::Provider) -> Option<Arc<Gate>> {
    let limits = &provider.limits;
    Gate::new(&provider.name, limits.concurrent, limits.per_minute)
}

pub(super) async fn bind(settings: &Settings) -> Result<Listener, StartError> {
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
pub(super) fn keys(providers: &Providers) -> BTreeSet<String> {
    let with_key = providers.iter().filter(|provider| provider.key.is_some());
    with_key.map(|provider| provider.name.to_string()).collect()
}

pub(super) fn world(providers: &Providers) -> Arc<World> {
    Arc::new(World {
        keys: keys(providers),
        ..World::default()
    })
}

pub(super) fn policy(
    settings: &Settings,
    address: SocketAddr,
    log: &Log,
) -> Result<Policy, StartError> {
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
pub(super) fn budgeting(settings: &Settings, policy: &Policy) -> Budgeting {
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

pub(super) fn access(
    settings: &Settings,
    address: SocketAddr,
    app: Option<(String, Vec<String>)>,
) -> Access {
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

pub(super) fn pictures(memory: u64) -> Cache<String, (crate::image::Format, crate::wire::Rope)> {
    Cache::builder()
        .max_capacity((memory / 2).clamp(PICTURE_BYTES.0, PICTURE_BYTES.1))
        .weigher(|_, (_, rope): &(crate::image::Format, crate::wire::Rope)| {
            u32::try_from(rope.len()).unwrap_or(u32::MAX)
        })
        .time_to_live(PICTURE_TTL)
        .build()
}
