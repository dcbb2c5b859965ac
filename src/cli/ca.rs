//! `pixtoll ca`: where the local certificate authority is and what it may sign.

use clap::Subcommand;
use serde_json::json;

use super::{DONE, FAILED, Global, complain, envelope, load};
use crate::proxy::authority::{Authority, OwnCa};

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Prints the path of the certificate that apps must trust
    Path,
    /// Prints the certificate and the hosts it is limited to
    Show,
}

pub(super) fn run(command: &CaCommand, global: &Global) -> u8 {
    let settings = match load(global) {
        Ok(settings) => settings,
        Err(error) => return complain(&error, global, "ca"),
    };
    let own = settings.ca.as_ref().map(|files| OwnCa {
        cert: files.cert.clone(),
        key: files.key.clone(),
    });
    let hosts = settings.intercepted_hosts();
    let authority = match Authority::open(&settings.ca_dir(), &hosts, own) {
        Ok(authority) => authority,
        Err(error) => {
            eprintln!("error: {error}");
            return FAILED;
        }
    };
    let path = authority.ca_pem_path();
    if global.json {
        let data = json!({"path": path, "pem": authority.ca_pem(), "hosts": hosts});
        println!("{}", envelope("ca", true, data, &[]));
        return DONE;
    }
    match command {
        CaCommand::Path => println!("{}", path.display()),
        CaCommand::Show => {
            println!("{}", authority.ca_pem());
            println!(
                "It is at {} and can sign for these hosts only:",
                path.display()
            );
            for host in hosts {
                println!("  {host}");
            }
        }
    }
    DONE
}
