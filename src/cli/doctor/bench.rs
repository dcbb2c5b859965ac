//! A proxy of `doctor`'s own, in front of simulated providers: nothing that is asked here reaches
//! a real one, and nothing of the user's state is touched.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use crate::app::{App, Extras, StartError};
use crate::cli::environment::{self, Variables};
use crate::cli::wiring::{self, Link};
use crate::config::{Limits, Provider, Settings};
use crate::sim::Seen;

/// What a client asks ends so. No name below `.invalid` ever resolves (RFC 6761), so whoever goes
/// past the proxy reaches nobody.
const DOMAIN: &str = "doctor.pixtoll.invalid";
/// Hosts without a dialect would be refused at the door: they are simulated as this one, which knows
/// none of their routes, so that it is counted who came.
const STAND_IN: &str = "openai";

/// The host of question `number`: each has its own, so that it is known who asked.
pub(super) fn host(number: usize) -> String {
    format!("q{number}.{DOMAIN}")
}

pub(super) struct Bench {
    app: App,
    /// Without shims, and with them.
    variables: [Variables; 2],
}

impl Bench {
    /// Starts it below `dir`, with room for so many questions.
    pub(super) async fn start(
        users: &Settings,
        dir: &Path,
        questions: usize,
    ) -> Result<Bench, StartError> {
        let mut settings = Settings::defaults(dir.join("state"));
        settings.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
        settings.dashboard = None;
        settings.ca.clone_from(&users.ca);
        settings.upstream_ca.clone_from(&users.upstream_ca);
        settings.upstream_proxy.clone_from(&users.upstream_proxy);
        for provider in users.providers.iter() {
            let mut provider = provider.clone();
            if provider.dialects.is_empty() {
                provider.dialects = vec![STAND_IN];
            }
            provider.limits = Limits::default();
            // Nothing is bought here, and the user's own prices are not read.
            provider.ask_quote = false;
            (provider.region, provider.licence, provider.volume) = (None, None, None);
            settings.providers.put(provider);
        }
        settings.providers.put(Provider {
            name: "doctor".to_owned(),
            dialects: vec![STAND_IN],
            hosts: (0..questions).map(host).collect(),
            upstream: None,
            default_upstream: None,
            api_key: None,
            limits: Limits::default(),
            deployments: BTreeMap::new(),
            ask_quote: false,
            region: None,
            licence: None,
            volume: None,
        });
        let extras = Extras {
            sim: true,
            app: None,
        };
        let app = App::start(settings.clone(), extras).await?;
        let current = environment::current();
        let behind = |shim| {
            let link = Link {
                proxy: app.address,
                app: None,
                tags: &[],
                shim,
            };
            let plan = wiring::plan(&settings, &current, &link)?;
            Ok(environment::apply(&current, &plan.changes))
        };
        let variables = [behind(false)?, behind(true)?];
        Ok(Bench { app, variables })
    }

    /// The environment of a client behind this proxy, as `run` would set it.
    pub(super) fn variables(&self, shim: bool) -> Variables {
        self.variables[usize::from(shim)].clone()
    }

    /// What came through so far.
    pub(super) fn came(&self) -> Vec<Seen> {
        self.app
            .sim()
            .map(crate::sim::Sim::requests)
            .unwrap_or_default()
    }

    /// The hosts for which somebody did not accept our certificate.
    pub(super) async fn refused(&self) -> Vec<String> {
        let log = &self.app.pipeline.log;
        if log.flush().await.is_err() {
            return Vec::new();
        }
        let text = std::fs::read_to_string(log.path()).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["kind"] == "certificate_refused")
            .filter_map(|line| line["fields"]["host"].as_str().map(str::to_owned))
            .collect()
    }

    pub(super) async fn stop(self) {
        self.app.stop().await;
    }
}
