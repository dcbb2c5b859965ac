//! `pixtoll serve`: the proxy, until it is told to stop.

use std::io::Write as _;
use std::net::SocketAddr;

use clap::Args;

use super::{DONE, FAILED, Global, complain, load, read};
use crate::app::{App, Extras, Reread};
use crate::config::Source;

#[derive(Debug, Default, Args)]
pub(crate) struct ServeArgs {
    /// Where to listen [default: the configuration's, 127.0.0.1:8484]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

pub(super) async fn run(args: ServeArgs, global: &Global) -> u8 {
    let mut settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, "serve"),
    };
    if let Some(listen) = args.listen {
        settings.listen = vec![listen];
    }
    let extras = Extras {
        sim: global.sim,
        app: None,
    };
    let app = match App::start(settings, extras).await {
        Ok(app) => app,
        Err(error) => return complain(&error, global, "serve"),
    };
    if let Some(reread) = reread(global, args.listen) {
        app.follow(reread);
    }
    welcome(&app);
    until_told().await;
    eprintln!("stopping: calls under way finish first");
    match app.stop().await {
        0 => DONE,
        left => {
            eprintln!(
                "error: {left} connections or calls did not finish; what was open is booked as unknown"
            );
            FAILED
        }
    }
}

/// The configuration's file, where there is one, to be read again when it changes.
fn reread(global: &Global, listen: Option<SocketAddr>) -> Option<Reread> {
    let Source::File(file) = Source::find(global.config.as_deref(), &super::env_of_process) else {
        return None;
    };
    let global = global.clone();
    let read = move || {
        let mut settings = read(&global).map_err(|error| error.0)?.settings;
        if let Some(listen) = listen {
            settings.listen = vec![listen];
        }
        Ok(settings)
    };
    Some(Reread {
        file,
        read: Box::new(read),
    })
}

/// How to point an app here.
fn welcome(app: &App) {
    let address = app.address;
    let simulated = app.sim().map_or("", |_| " with simulated providers");
    let text = format!(
        "pixtoll listens on {address}{simulated}\n\
         \x20 any app      pixtoll run -- COMMAND\n\
         \x20 this shell   eval \"$(pixtoll env)\"\n\
         \x20 a base URL   OPENAI_BASE_URL=http://{address}/openai/v1\n\
         \x20 decisions    pixtoll tail -f\n"
    );
    // A proxy serves on whoever has stopped listening to it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    for warning in &app.warnings {
        eprintln!("warning: {warning}");
    }
}

/// Returns at an interrupt or a request to end.
pub(super) async fn until_told() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
        }
        Err(_) => {
            let _ = interrupted.await;
        }
    }
}
