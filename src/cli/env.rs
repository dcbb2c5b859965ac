//! `pixtoll env`: the environment that points a shell at a running proxy, and takes it back.

use clap::Args;
use serde_json::{Value, json};

use super::environment::{self, Shell, Variables};
use super::wiring::{self, Link};
use super::{DONE, FAILED, Global, complain, envelope, failed, load};
use crate::app::Presence;

#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// The shell to write for [default: the one in $SHELL]
    #[arg(long, value_enum)]
    shell: Option<Shell>,
    /// Takes it back
    #[arg(long)]
    unset: bool,
    /// The app's name in the decision log
    #[arg(long)]
    app: Option<String>,
    /// Tags for rules, comma-separated
    #[arg(long, value_delimiter = ',')]
    tags: Vec<String>,
    /// Also brings clients along that read no proxy variables, as `run --shim` does
    #[arg(long)]
    shim: bool,
}

pub(super) fn run(args: &EnvArgs, global: &Global) -> u8 {
    let current = environment::current();
    let shell = args.shell.unwrap_or_else(|| Shell::of(&current));
    if args.unset {
        print!(
            "{}",
            environment::shell_lines(shell, &environment::take_back(&current))
        );
        return DONE;
    }
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, "env"),
    };
    let Some(proxy) = Presence::find(&settings.state_dir) else {
        eprintln!(
            "error: no proxy runs with the state directory {}",
            settings.state_dir.display()
        );
        eprintln!(
            "  start one with `pixtoll serve`, or put one command behind its own with `pixtoll run -- COMMAND`"
        );
        return FAILED;
    };
    let link = Link {
        proxy,
        app: args.app.as_deref(),
        tags: &args.tags,
        shim: args.shim,
    };
    let plan = match wiring::plan(&settings, &current, &link) {
        Ok(plan) => plan,
        Err(error) => return failed("env", global, FAILED, &error.0),
    };
    for warning in &plan.warnings {
        eprintln!("warning: {warning}");
    }
    if global.json {
        let after = environment::apply(&Variables::new(), &plan.changes);
        let data: Value = json!({"set": after, "proxy": proxy.to_string()});
        println!("{}", envelope("env", true, data, &[]));
    } else {
        print!("{}", environment::shell_lines(shell, &plan.changes));
    }
    DONE
}
