//! `pixtoll run -- CMD`: a command behind a proxy, and the receipt.
//!
//! Joins the proxy that already serves this state directory, else starts one of its own on a free
//! port. Nothing that is set here outlives the command.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;

use super::child::{self, Bypass, Watch};
use super::environment::{self, Change, Variables};
use super::receipt::Receipt;
use super::wiring::{self, Link};
use super::{Global, complain, load};
use crate::app::{App, Extras, Presence, SIM_KEY, StartError};
use crate::config::{Settings, key_variables};
use crate::upstream::dial;

/// The fault is ours and not the command's.
const OURS: u8 = 125;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The app's name in the decision log [default: the command's name]
    #[arg(long)]
    app: Option<String>,
    /// Tags for rules, comma-separated
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// Also brings clients along that read no proxy variables: Python's aiohttp and replicate, Node
    /// before 22.21. A small file of ours is loaded into Python and Node for that
    #[arg(long)]
    shim: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

pub(super) async fn run(args: RunArgs, global: &Global) -> u8 {
    match behind_proxy(args, global).await {
        Ok(code) => code,
        Err(error) => {
            complain(&error, global, "run");
            OURS
        }
    }
}

async fn behind_proxy(args: RunArgs, global: &Global) -> Result<u8, StartError> {
    let current = environment::current();
    let settings = settings(global, &current)?;
    let name = args
        .app
        .clone()
        .unwrap_or_else(|| command_name(&args.command));
    let joined = (!global.sim && global.plugin.is_empty() && global.set.is_empty())
        .then(|| Presence::find(&settings.state_dir))
        .flatten();
    let log = Since::now(settings.log.clone());
    let (address, own) = match joined {
        Some(address) => (address, None),
        None => {
            let app = start(&settings, &name, &args.tags, global.sim).await?;
            (app.address, Some(app))
        }
    };
    // Our own proxy knows its app; one that serves others too is told in the proxy's URL.
    let link = Link {
        proxy: address,
        app: joined.map(|_| name.as_str()),
        tags: joined.map_or(&[], |_| &args.tags),
        shim: args.shim,
    };
    let mut plan = wiring::plan(&settings, &current, &link)?;
    if global.sim {
        plan.changes.extend(simulated_keys(&current));
    }
    for warning in &plan.warnings {
        eprintln!("pixtoll: {warning}");
    }
    let watch = Watch {
        proxy: address,
        providers: known_addresses(&settings, global.sim).await,
        told: None,
    };
    let ran = child::run(&args.command, &plan.changes, Some(watch)).await;
    if let Some(why) = ran.end.message() {
        eprintln!("pixtoll: {why}");
    }
    let instance = own
        .as_ref()
        .map(|app| app.pipeline.policy.instance.to_string());
    if let Some(app) = own {
        app.stop().await;
    }
    let bypasses: Vec<&Bypass> = ran
        .bypasses
        .iter()
        .filter(|bypass| bypass.provider)
        .collect();
    let mut receipt = Receipt::new(joined.is_some(), global.sim);
    for line in log.lines() {
        receipt.take(&line, instance.as_deref(), &name);
    }
    receipt.bypassed(&bypasses);
    eprint!("{receipt}");
    Ok(u8::try_from(ran.end.code()).unwrap_or(OURS))
}

/// The configuration, with the proxy that the user's environment names as the way out.
fn settings(global: &Global, current: &Variables) -> Result<Settings, StartError> {
    let mut settings = load(global)?;
    if settings.upstream_proxy.is_none()
        && let Some(upstream) = environment::upstream_proxy(current)
    {
        let mut with_proxy = global.clone();
        with_proxy.set.push(format!(
            "upstream_proxy={}",
            serde_json::Value::from(upstream.url)
        ));
        settings = load(&with_proxy)?;
    }
    Ok(settings)
}

async fn start(
    settings: &Settings,
    name: &str,
    tags: &[String],
    sim: bool,
) -> Result<App, StartError> {
    let mut settings = settings.clone();
    settings.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    settings.dashboard = None;
    let app = App::start(
        settings,
        Extras {
            sim,
            app: Some((name.to_owned(), tags.to_vec())),
        },
    )
    .await?;
    for warning in &app.warnings {
        eprintln!("pixtoll: {warning}");
    }
    Ok(app)
}

/// Keys for simulated providers: an app that has none starts all the same, and one that passes the
/// proxy by has none that would be charged.
fn simulated_keys(current: &Variables) -> impl Iterator<Item = Change> {
    let names = key_variables(|name| current.contains_key(name));
    names.into_iter().map(|name| Change {
        name: name.to_owned(),
        value: Some(SIM_KEY.to_owned()),
    })
}

/// The providers' addresses, as far as their names resolve here: connections to them that do not
/// come through the proxy are bypasses.
async fn known_addresses(settings: &Settings, sim: bool) -> std::collections::HashSet<SocketAddr> {
    let mut known = std::collections::HashSet::new();
    if sim {
        return known; // whatever the real hosts are, nobody is to reach them
    }
    let lookups = settings
        .providers
        .iter()
        .filter(|provider| !provider.dialects.is_empty())
        .flat_map(|provider| &provider.hosts);
    // All at once: a name server that does not answer holds the command up once and not per name.
    let lookups = lookups.map(|host| {
        let looked_up = dial::resolve(host, 443);
        tokio::time::timeout(std::time::Duration::from_millis(300), looked_up)
    });
    for addresses in futures_util::future::join_all(lookups).await {
        if let Ok(Ok(addresses)) = addresses {
            known.extend(addresses);
        }
    }
    known
}

/// `python app.py` is called `python`; a path its last part.
fn command_name(command: &[OsString]) -> String {
    let first = command.first().map(PathBuf::from).unwrap_or_default();
    first.file_stem().map_or_else(
        || "run".to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// The part of the decision log that is written from now on.
struct Since {
    path: Option<PathBuf>,
    offset: u64,
}

impl Since {
    fn now(path: Option<PathBuf>) -> Since {
        let offset = path
            .as_deref()
            .and_then(|path| fs::metadata(path).ok())
            .map_or(0, |meta| meta.len());
        Since { path, offset }
    }

    fn lines(&self) -> Vec<serde_json::Value> {
        let text = self
            .path
            .as_deref()
            .and_then(|path| read_from(path, self.offset))
            .unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }
}

/// A file from `offset` on; from its beginning where it was rotated meanwhile.
fn read_from(path: &Path, offset: u64) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    if file.metadata().ok()?.len() >= offset {
        file.seek(SeekFrom::Start(offset)).ok()?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}
