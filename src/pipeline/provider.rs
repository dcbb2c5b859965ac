//! Whom calls can be sent to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::dialect::{DEPLOYMENT, Dialect};
use crate::image::{ImageRequest, ModelId};
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
    /// The model behind each deployment of the account; a name that is not here is the model's own.
    pub deployments: BTreeMap<String, String>,
    /// Keeps its limits, where there are any.
    pub gate: Option<Arc<Gate>>,
    /// Before anything is sent, it is asked what that will cost.
    pub ask_quote: bool,
    /// Nothing may be sent to it: providers are simulated, and this one is not.
    pub closed: bool,
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

    /// Names the model in a request that an app addressed to a deployment.
    pub fn name_model(&self, asked: &mut ImageRequest) {
        let Some(model) = self.deployments.get(asked.model.model()) else {
            return;
        };
        let deployment = asked.model.model().to_owned();
        asked.model = ModelId::new(&self.name, model);
        asked.extra.insert(DEPLOYMENT.to_owned(), deployment.into());
    }

    /// The deployment that a request goes to: the app's own where that has the model, else the
    /// first that has it.
    pub fn deployment_for<'a>(&'a self, request: &'a ImageRequest) -> Option<&'a str> {
        let wanted = request.model.model();
        let own = request.extra.get(DEPLOYMENT).and_then(|name| name.as_str());
        own.filter(|name| {
            self.deployments
                .get(*name)
                .is_some_and(|model| model == wanted)
        })
        .or_else(|| {
            let mut all = self.deployments.iter();
            all.find_map(|(name, model)| (model == wanted).then_some(name.as_str()))
        })
    }

    /// A request in the names of the account.
    pub fn spelt<'a>(&self, request: &'a ImageRequest) -> Cow<'a, ImageRequest> {
        match self.deployment_for(request) {
            None => Cow::Borrowed(request),
            Some(deployment) => Cow::Owned(ImageRequest {
                model: ModelId::new(&self.name, deployment),
                ..request.clone()
            }),
        }
    }

    /// Where a call goes that an app addressed to `asked`.
    pub fn reached_at<'a>(&'a self, asked: &'a Destination) -> &'a Destination {
        self.upstream.as_ref().unwrap_or(asked)
    }

    /// Where a question about a job goes whose last answer named `host`: there, if that is a host of
    /// this provider's and no other place is configured, else where the one before went.
    pub fn asked_at(&self, host: Option<&String>, before: Destination) -> Destination {
        match host {
            Some(host) if self.upstream.is_none() && self.hosts.contains(host) => {
                Destination::https(host, 443)
            }
            _ => before,
        }
    }

    /// Whether a key of ours may go there.
    pub fn is_own(&self, to: &Destination) -> bool {
        match self.home() {
            Some(home) if self.upstream.is_some() => home == to,
            home => home == Some(to) || to.tls && self.hosts.iter().any(|host| **host == *to.host),
        }
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
    by_host: foldhash::HashMap<String, Arc<Provider>>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_goes_by_its_models_name_here_and_by_its_own_there() {
        let provider = Provider {
            name: "azure".into(),
            dialects: Vec::new(),
            hosts: Vec::new(),
            upstream: None,
            default: None,
            key: None,
            gate: None,
            deployments: [
                ("a", "gpt-image-2"),
                ("b", "gpt-image-2"),
                ("c", "gpt-image-1"),
            ]
            .map(|(name, model)| (name.to_owned(), model.to_owned()))
            .into(),
            ask_quote: false,
            closed: false,
        };
        let asked = |model: &str| ImageRequest::new(ModelId::new("azure", model), "a cat");
        let mut own = asked("b");
        provider.name_model(&mut own);
        assert_eq!(own.model.model(), "gpt-image-2");
        assert_eq!(
            provider.spelt(&own).model.model(),
            "b",
            "as the app called it"
        );
        own.model = ModelId::new("azure", "gpt-image-1");
        assert_eq!(provider.spelt(&own).model.model(), "c", "a rule moved it");
        let routed = asked("gpt-image-2");
        assert_eq!(provider.spelt(&routed).model.model(), "a");
        let unknown = asked("dall-e-3");
        assert_eq!(*provider.spelt(&unknown), unknown);
    }
}
