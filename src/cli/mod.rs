//! The commands: arguments in, exit code out.
#![expect(
    clippy::print_stdout,
    reason = "commands talk to people through stdout and stderr"
)]

mod alerts;
mod batch;
pub mod bundle;
mod ca;
mod check;
pub mod child;
mod demo;
mod doctor;
mod env;
mod envelope;
pub mod environment;
mod fence;
mod paint;
mod price;
mod prices;
mod quoted;
mod receipt;
mod report;
mod rule_test;
mod run;
mod scratch;
mod serve;
pub mod shim;
mod sim;
mod table;
pub mod tail;
mod wiring;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::app::StartError;
use crate::config::{Loaded, PluginEntry, Problem, Settings, Source};
use clap::{Args, Parser, Subcommand};
use envelope::{envelope, failed};

/// Done.
pub(crate) const DONE: u8 = 0;
/// It did not work.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage or configuration.
pub(crate) const WRONG: u8 = 2;
/// Done, and the answer is no.
pub(crate) const NO: u8 = 3;

#[derive(Debug, Parser)]
#[command(
    name = "pixtoll",
    version,
    about = "A local proxy that prices, caches, routes and logs image-generation calls",
    after_help = "Start with:\n  pixtoll demo                     see it at work, for nothing\n  pixtoll run -- python app.py     put an app behind it\n  pixtoll tail -f                  watch every decision with its price",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Options that stand before or after the command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The configuration [default: ./pixtoll.yaml, else ~/.config/pixtoll/pixtoll.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A plugin to run after those of the configuration: a file, or a shipped one's name
    #[arg(long, global = true, value_name = "FILE or NAME")]
    plugin: Vec<String>,
    /// Overrides one key of the configuration, e.g. --set cache.ttl=10m
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Simulates every provider: no key, no network, no cost
    #[arg(long, global = true)]
    sim: bool,
    /// Prints facts as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The proxy; also plain `pixtoll`
    #[command(after_help = "Example:\n  pixtoll serve --plugin icons_to_cheap --set cache.ttl=1d")]
    Serve(serve::ServeArgs),
    /// Puts a command behind a proxy and prints the receipt
    #[command(
        after_help = "Example:\n  pixtoll run -- python app.py\n  pixtoll run --sim -- node app.mjs"
    )]
    Run(run::RunArgs),
    /// Prints the environment that points an app at a running proxy
    #[command(
        after_help = "Example:\n  eval \"$(pixtoll env)\"\n  eval \"$(pixtoll env --unset)\""
    )]
    Env(env::EnvArgs),
    /// A sample app, real TLS, simulated providers: every lever at work, with its saving
    #[command(after_help = "Example:\n  pixtoll demo --keep")]
    Demo(demo::DemoArgs),
    /// The decision log for people: one line a call
    #[command(
        after_help = "Example:\n  pixtoll tail -f\n  pixtoll tail --since 1h --where app=catalog"
    )]
    Tail(tail::TailArgs),
    /// Every mistake in configuration, plugins and prices, with its place and cure
    #[command(after_help = "Example:\n  pixtoll check --config pixtoll.yaml")]
    Check,
    /// Runs Lua rule tests (*_test.lua) against simulated providers
    #[command(
        after_help = "Example:\n  pixtoll test rules/\n  pixtoll test rules/icons_test.lua --junit report.xml"
    )]
    Test(rule_test::TestArgs),
    /// Quotes a request, and ranks what else could serve it, cheapest first
    #[command(
        after_help = "Example:\n  pixtoll price \"dall-e-3 1024x1024 hd n=4\"\n  pixtoll price --like request.json n=8"
    )]
    Price(price::PriceArgs),
    /// The price book: list, show, diff, update, lint, age, drift
    #[command(
        subcommand,
        after_help = "Example:\n  pixtoll prices list stability\n  pixtoll prices show gpt-image-2"
    )]
    Prices(prices::PricesCommand),
    /// Which clients come through the proxy, which refuse its certificate or pass it by, and the cure
    #[command(
        after_help = "Example:\n  pixtoll doctor\n  pixtoll doctor ./venv/bin/python node\n  pixtoll doctor -- python app.py"
    )]
    Doctor(doctor::DoctorArgs),
    /// A command that cannot connect to port 443: what `doctor` keeps from real providers
    #[command(hide = true)]
    Fence(fence::FenceArgs),
    /// Prompts through half-price batch APIs, into the cache: submit, status, resume
    #[command(
        subcommand,
        after_help = "Example:\n  pixtoll batch submit prompts.jsonl --dry-run\n  pixtoll batch submit prompts.jsonl --max-cost 5\n  pixtoll batch resume"
    )]
    Batch(batch::BatchCommand),
    /// Spend by provider, model, tier, app or day; with --would-have, what watching rules would have done
    #[command(
        after_help = "Example:\n  pixtoll report --by provider,tier --since 7d\n  pixtoll report --by day --where app=catalog --csv\n  pixtoll report --would-have"
    )]
    Report(report::ReportArgs),
    /// The last alerts, and whether the webhook takes one: list, test
    #[command(
        subcommand,
        after_help = "Example:\n  pixtoll alerts list\n  pixtoll alerts test"
    )]
    Alerts(alerts::AlertsCommand),
    /// The local certificate authority
    #[command(subcommand, after_help = "Example:\n  pixtoll ca path")]
    Ca(ca::CaCommand),
    /// The simulated providers alone
    #[command(after_help = "Example:\n  pixtoll sim --listen 127.0.0.1:9000")]
    Sim(sim::SimArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
    harden();
    let cli = Cli::parse();
    init_tracing();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no runtime: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let code = runtime.block_on(dispatch(cli));
    // What still runs (an idle connection, a reader of stdin) need not be waited for.
    runtime.shutdown_background();
    code
}

async fn dispatch(cli: Cli) -> ExitCode {
    let Cli { global, command } = cli;
    let code = match command.unwrap_or(Command::Serve(serve::ServeArgs::default())) {
        Command::Serve(args) => serve::run(args, &global).await,
        Command::Run(args) => run::run(args, &global).await,
        Command::Env(args) => env::run(&args, &global),
        Command::Demo(args) => demo::run(args, &global).await,
        Command::Doctor(args) => doctor::run(args, &global).await,
        Command::Fence(args) => fence::run(&args),
        Command::Check => check::run(&global),
        Command::Test(args) => rule_test::run(args, &global).await,
        Command::Price(args) => price::run(&args, &global).await,
        Command::Prices(command) => prices::run(command, &global).await,
        Command::Batch(command) => batch::run(command, &global).await,
        Command::Report(args) => report::run(&args, &global),
        Command::Alerts(command) => alerts::run(command, &global).await,
        Command::Ca(command) => ca::run(&command, &global),
        Command::Sim(args) => match sim::run(args).await {
            Ok(()) => DONE,
            Err(error) => {
                eprintln!("error: {error:#}");
                FAILED
            }
        },
        Command::Tail(mut args) => {
            args.json |= global.json;
            return match load(&global) {
                Ok(settings) => tail::run(args, settings.log.unwrap_or_default()).await,
                Err(error) => ExitCode::from(complain(&error, &global, "tail")),
            };
        }
    };
    ExitCode::from(code)
}

/// No core dump and no debugger of another user may show the keys in our memory.
fn harden() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
}

fn init_tracing() {
    use tracing_subscriber::EnvFilter;
    let filter =
        EnvFilter::try_from_env("PIXTOLL_TRACE").unwrap_or_else(|_| EnvFilter::new("pixtoll=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .without_time()
        .init();
}

/// The settings that a command works with; what is odd about them is said.
fn load(global: &Global) -> Result<Settings, StartError> {
    let loaded = read(global)?;
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(loaded.settings)
}

fn env_of_process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn read(global: &Global) -> Result<Loaded, StartError> {
    let source = Source::find(global.config.as_deref(), &env_of_process);
    let mut overrides = Vec::new();
    for set in &global.set {
        match set.split_once('=') {
            Some((key, value)) => overrides.push((key.trim().to_owned(), value.to_owned())),
            None => {
                return Err(StartError(vec![
                    Problem::anywhere("usage", format!("--set {set}: no `=`"))
                        .remedy("write --set KEY=VALUE"),
                ]));
            }
        }
    }
    let mut loaded = Settings::load(&source, &overrides, &env_of_process).map_err(StartError)?;
    let named = global.plugin.iter().map(|text| PluginEntry::named(text));
    loaded.settings.plugins.extend(named);
    Ok(loaded)
}

/// Says what is wrong with usage or configuration, and returns the exit code for it.
fn complain(error: &StartError, global: &Global, command: &str) -> u8 {
    failed(command, global, WRONG, &error.0)
}
