//! What `run`, `env` and `doctor` have in common: from settings to the environment that brings a
//! command behind a proxy.

use std::net::SocketAddr;

use super::environment::{self, Environment, Variables, Wanted};
use super::{bundle, shim};
use crate::app::StartError;
use crate::config::{Problem, Settings};
use crate::proxy::authority::{Authority, OwnCa};

/// Which proxy, and who is to come through it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link<'a> {
    pub(super) proxy: SocketAddr,
    /// `None` leaves it to the proxy what it calls the app.
    pub(super) app: Option<&'a str>,
    pub(super) tags: &'a [String],
    pub(super) shim: bool,
}

/// The environment for `link`, with the trust files and shims that it names written.
///
/// # Errors
/// When the CA cannot be opened or a file not be written.
pub(super) fn plan(
    settings: &Settings,
    current: &Variables,
    link: &Link<'_>,
) -> Result<Environment, StartError> {
    let wrong = |error: String| StartError(vec![Problem::anywhere("environment", error)]);
    let own = settings.ca.as_ref().map(|files| OwnCa {
        cert: files.cert.clone(),
        key: files.key.clone(),
    });
    let hosts = settings.intercepted_hosts();
    let authority = Authority::open(&settings.ca_dir(), &hosts, own)
        .map_err(|error| wrong(error.to_string()))?;
    let trust = bundle::write(
        &settings.ca_dir(),
        &authority.ca_pem(),
        &authority.ca_pem_path(),
        &environment::previous_trust(current),
    )
    .map_err(|error| wrong(error.to_string()))?;
    let shims = match link.shim {
        true => Some(shim::write(&settings.state_dir).map_err(|error| wrong(error.to_string()))?),
        false => None,
    };
    let app = link.app.and_then(|app| settings.apps.get(app));
    let token = app.and_then(|app| app.token.as_ref());
    let mut plan = environment::plan(
        current,
        &Wanted {
            proxy: link.proxy,
            app: link.app,
            tags: link.tags,
            token: token.map(|token| token.expose()),
            trust: &trust,
            shims: shims.as_ref(),
            provider_hosts: &hosts,
        },
    );
    plan.warnings.splice(0..0, trust.warnings);
    Ok(plan)
}
