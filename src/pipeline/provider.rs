//! Whom calls can be sent to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::dialect::Dialect;
use crate::image::ModelId;
use crate::secret::Secret;
use crate::upstream::{Destination, Gate};

/// One provider as configured.
#[derive(Clone)]
pub struct Provider {
    pub name: Arc<str>,
    /// None when this release cannot read its messages: they pass through.
    pub dialects: Vec<&'static dyn Dialect>,
    /// Hosts that are this provider's, lower case.
    pub hosts: Vec<String>,
    /// Where all its calls go, if the configuration says so.
    pub upstream: Option<Destination>,
    /// Where calls go that a rule sends here.
    pub default: Option<Destination>,
    /// For calls that a rule sends here; goes to [`Provider::home`] alone.
    pub key: Option<Secret>,
    /// Keeps its limits, where there are any.
    pub gate: Option<Arc<Gate>>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("upstream", &self.upstream)
            .finish_non_exhaustive()
    }
}

impl Provider {
    /// The wire format that a request for `model` is worded in.
    pub fn dialect_for(&self, model: &ModelId) -> Option<&'static dyn Dialect> {
        self.dialects
            .iter()
            .copied()
            .find(|dialect| dialect.serves(model))
    }

    /// Where a call goes that an app addressed to `asked`.
    pub fn reached_at<'a>(&'a self, asked: &'a Destination) -> &'a Destination {
        self.upstream.as_ref().unwrap_or(asked)
    }

    /// Where a call goes that nobody addressed: a route, the gateway.
    pub fn home(&self) -> Option<&Destination> {
        self.upstream.as_ref().or(self.default.as_ref())
    }
}

/// All providers, found by name and by host.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    by_name: BTreeMap<Arc<str>, Arc<Provider>>,
    by_host: HashMap<String, Arc<Provider>>,
}

impl Providers {
    pub fn new(providers: impl IntoIterator<Item = Provider>) -> Providers {
        let mut all = Providers::default();
        for provider in providers {
            let provider = Arc::new(provider);
            for host in &provider.hosts {
                all.by_host
                    .insert(host.to_ascii_lowercase(), Arc::clone(&provider));
            }
            all.by_name.insert(Arc::clone(&provider.name), provider);
        }
        all
    }

    pub fn named(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name)
    }

    /// By exact host name.
    pub fn at_host(&self, host: &str) -> Option<&Arc<Provider>> {
        self.by_host.get(host)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.by_name.values()
    }
}
