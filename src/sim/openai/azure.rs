//! Azure OpenAI, simulated: OpenAI's pictures at Azure's addresses, in Azure's envelopes.

use http::Method;

use super::ask::{self, Ask, Route};
use crate::sim::Shared;
use crate::sim::answer::Answer;
use crate::sim::behaviour::{Behaviour, Fault};
use crate::sim::serve::{Arrived, Order, Verdict};
use crate::sim::template::{AZURE, Fill};

const DEPLOYMENTS: &str = "/openai/deployments/";
const V1: &str = "/openai/v1/images/";
const DOMAINS: [&str; 3] = [
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
];
/// Deployments that are there besides one for every model under its own name.
const DEPLOYED: [(&str, &str); 2] = [("img25", "gpt-image-2.5-flare"), ("dalle3", "dall-e-3")];

/// Whether a request is Azure's: by its host, by a path that nobody else has, or by the header
/// that its key stands in.
pub(in super::super) fn is_meant(host: &str, path: &str, has_key: bool) -> bool {
    DOMAINS.iter().any(|domain| host.ends_with(domain))
        || path.starts_with(DEPLOYMENTS)
        || has_key && path.starts_with("/openai/v1/")
}

/// What Azure makes of a request.
pub(in super::super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let id = shared.request_id();
    let refused = |name: &str| Verdict::Answer(message(name, &[], &id));
    let key = arrived.header("api-key").filter(|key| !key.is_empty());
    if key.is_none() && arrived.bearer().is_none() {
        return refused("error.auth");
    }
    let Some((deployment, route)) = path(&arrived.path).filter(|_| arrived.method == Method::POST)
    else {
        return refused("error.path");
    };
    let mut fields = arrived.query.split('&');
    let dated = fields.any(|field| field.starts_with("api-version="));
    if deployment.is_some() && !dated {
        return refused("error.path");
    }
    let deployed = |named: Option<&str>| {
        let name = deployment.or(named).unwrap_or_default();
        model(name).to_owned()
    };
    match ask::read(arrived, shared, route, deployed) {
        Ok(ask) => Verdict::Order(Box::new(Deployed(ask))),
        Err(refusal) if refusal.status == http::StatusCode::NOT_FOUND => {
            refused("error.deployment")
        }
        Err(refusal) => Verdict::Answer(dress(Answer::of(*refusal), &id)),
    }
}

/// The deployment in the path, if it is there, and the route.
fn path(path: &str) -> Option<(Option<&str>, Route)> {
    let (deployment, route) = match path.strip_prefix(V1) {
        Some(route) => (None, route),
        None => {
            let rest = path.strip_prefix(DEPLOYMENTS)?;
            let (name, route) = rest.split_once("/images/")?;
            (Some(name), route)
        }
    };
    let route = match route {
        "generations" => Route::Generations,
        "edits" => Route::Edits,
        _ => return None,
    };
    Some((deployment, route))
}

fn model(deployment: &str) -> &str {
    let named = DEPLOYED.iter().find(|(name, _)| *name == deployment);
    named.map_or(deployment, |(_, model)| model)
}

fn message(name: &str, fills: &[(&str, Fill<'_>)], id: &str) -> Answer {
    dress(Answer::of(AZURE.fill(name, fills)), id)
}

/// Adds the headers that every answer carries, and takes OpenAI's own away.
fn dress(mut answer: Answer, id: &str) -> Answer {
    let theirs: Vec<_> = answer
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("openai-") || name.as_str() == "x-request-id")
        .cloned()
        .collect();
    for name in theirs {
        answer.headers.remove(name);
    }
    answer.set("x-request-id", id);
    answer.set("apim-request-id", id);
    answer.set("x-ms-region", "East US 2");
    answer
}

/// A valid call of a deployment.
struct Deployed(Ask);

impl Order for Deployed {
    fn provider(&self) -> &'static str {
        "azure"
    }

    fn model(&self) -> &str {
        self.0.model()
    }

    fn prompt(&self) -> &str {
        self.0.prompt()
    }

    fn images(&self) -> u32 {
        self.0.images()
    }

    fn price(&self, behaviour: &Behaviour) -> i64 {
        self.0.price(behaviour)
    }

    fn price_without_picture(&self) -> i64 {
        self.0.price_without_picture()
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let named = |name: &str| message(name, &[], id);
        match &behaviour.fault {
            Fault::Safety { category } => {
                message("error.safety", &[("category", Fill::Text(category))], id)
            }
            Fault::RateLimited { retry_after } => {
                let seconds = retry_after.unwrap_or(20).to_string();
                message(
                    "error.rate_limited",
                    &[("seconds", Fill::Text(&seconds))],
                    id,
                )
            }
            Fault::Auth => named("error.auth"),
            Fault::Permission => named("error.permission"),
            Fault::Retired => named("error.deployment"),
            _ => dress(self.0.answer(behaviour, shared, id), id),
        }
    }
}
