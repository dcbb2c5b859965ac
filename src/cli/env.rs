//! `pixtoll env`: the environment that points a shell at a running proxy, and takes it back.

use clap::Args;
use serde_json::{Value, json};

use super::environment::{self, Shell, Variables, Wanted};
use super::{DONE, FAILED, Global, bundle, complain, envelope, load};
use crate::app::Presence;
use crate::proxy::authority::{Authority, OwnCa};

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
    let own = settings.ca.as_ref().map(|files| OwnCa {
        cert: files.cert.clone(),
        key: files.key.clone(),
    });
    let hosts = settings.intercepted_hosts();
    let trust = Authority::open(&settings.ca_dir(), &hosts, own)
        .map_err(|error| error.to_string())
        .and_then(|ca| {
            let previous = environment::previous_trust(&current);
            bundle::write(
                &settings.ca_dir(),
                &ca.ca_pem(),
                &ca.ca_pem_path(),
                &previous,
            )
            .map_err(|error| error.to_string())
        });
    let trust = match trust {
        Ok(trust) => trust,
        Err(error) => {
            eprintln!("error: {error}");
            return FAILED;
        }
    };
    let token = args
        .app
        .as_ref()
        .and_then(|app| settings.apps.get(app))
        .and_then(|app| app.token.as_ref());
    let plan = environment::plan(
        &current,
        &Wanted {
            proxy,
            app: args.app.as_deref(),
            tags: &args.tags,
            token: token.map(|token| token.expose()),
            trust: &trust,
            provider_hosts: &hosts,
        },
    );
    for warning in trust.warnings.iter().chain(&plan.warnings) {
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
