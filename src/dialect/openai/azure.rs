//! Azure OpenAI: OpenAI's images at addresses of a customer's own, where a model goes by the name
//! of its deployment.
//!
//! There are two forms of address. The older one has the deployment in its path and wants no model
//! in the body; the newer one is OpenAI's own, with the deployment for a model. Which model stands
//! behind a deployment is nowhere said: it is the body's `model`, where the app names one, else the
//! deployment's own name, for which the price book may have an alias. After
//! learn.microsoft.com's image API reference, api-version 2025-04-01-preview and v1.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::super::form::wrong;
use super::super::{
    Dialect, Reader, Refusal, Undeliverable, Unreadable, Unsupported, head as heads,
};
use super::{QUERY, answer, is_dalle, read_call, unsupported, wording, write_call, write_fields};
use crate::image::{FailureKind, ImageRequest, ImageResponse, Operation};
use crate::wire::{Message, Reply, ReplyHead, RequestHead};

pub(in super::super) struct Azure;

const DEPLOYMENTS: &str = "/openai/deployments/";
const V1: &str = "/openai/v1/images/";
/// The extra field of the deployment in the path that the app called.
const DEPLOYMENT: &str = "@deployment";
/// The extra field of the model that the app named beside its deployment.
const NAMED: &str = "@model";
const KEY: HeaderName = HeaderName::from_static("api-key");
/// Where API Management looks for a key.
const SUBSCRIPTION_KEY: &str = "ocp-apim-subscription-key";

/// What a path says.
struct Path<'a> {
    /// In the older form of address.
    deployment: Option<&'a str>,
    operation: Operation,
}

impl<'a> Path<'a> {
    fn read(head: &'a RequestHead) -> Option<Path<'a>> {
        let path = head.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let (deployment, route) = match path.strip_prefix(V1) {
            Some(route) => (None, route),
            None => {
                let rest = path.strip_prefix(DEPLOYMENTS)?;
                let (name, route) = rest.split_once("/images/")?;
                let named = !name.is_empty() && !name.contains('/');
                (Some(named.then_some(name)?), route)
            }
        };
        let operation = match route {
            "generations" => Operation::Generate,
            "edits" => Operation::Edit,
            _ => return None,
        };
        Some(Path {
            deployment,
            operation,
        })
    }
}

impl Dialect for Azure {
    fn name(&self) -> &'static str {
        "azure"
    }

    fn claims(&self, head: &RequestHead) -> Option<Operation> {
        let path = Path::read(head).filter(|_| head.method == Method::POST)?;
        Some(path.operation)
    }

    fn read_request(
        &self,
        provider: &str,
        operation: Operation,
        head: &RequestHead,
        body: &Bytes,
    ) -> Result<ImageRequest, Unreadable> {
        let path = Path::read(head).ok_or_else(|| wrong("path", "names no deployment"))?;
        let unnamed = path.deployment.unwrap_or_default();
        let mut request = read_call(provider, operation, unnamed, head, body)?;
        let model = request.model.model().to_owned();
        match path.deployment {
            None if model.is_empty() => {
                return Err(wrong("model", "is missing: it names the deployment"));
            }
            None => {}
            Some(deployment) => {
                if model != deployment {
                    request.extra.insert(NAMED.to_owned(), model.into());
                }
                let name = DEPLOYMENT.to_owned();
                request.extra.insert(name, deployment.into());
            }
        }
        Ok(request)
    }

    fn write_response(
        &self,
        asked: &ImageRequest,
        response: &ImageResponse,
    ) -> Result<Reply, Undeliverable> {
        wording::response(asked, response)
    }

    fn write_refusal(&self, asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
        write_refusal(asked, refusal)
    }

    fn key_header(&self) -> &'static str {
        "api-key"
    }

    /// A key, or a token of Entra's.
    fn credential<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        head.header(KEY.as_str())
            .or_else(|| head.header(AUTHORIZATION.as_str()))
            .or_else(|| head.header(SUBSCRIPTION_KEY))
    }

    fn inert_query(&self) -> &'static [&'static str] {
        &["api-version"]
    }

    fn inert(&self) -> &'static [&'static str] {
        &[
            QUERY,
            "metadata",
            "response_format",
            "safety_identifier",
            "user",
        ]
    }

    fn write_request(&self, request: &ImageRequest) -> Result<Message, Unsupported> {
        let route = match request.operation {
            Operation::Generate => "generations",
            Operation::Edit => "edits",
            Operation::Variation | Operation::Upscale => {
                let why = "there are routes that generate and that edit";
                return Err(unsupported("operation", why));
            }
        };
        let mut fields = write_fields(request);
        let Some(deployment) = text(request, DEPLOYMENT) else {
            return write_call(request, fields, &format!("{V1}{route}"));
        };
        // Another model than the app's is taken to be deployed under its own name.
        let named = text(request, NAMED);
        let model = request.model.model();
        let is_own = model == named.unwrap_or(deployment);
        if named.is_none() || !is_own {
            fields.remove("model");
        }
        let deployment = if is_own { deployment } else { model };
        let path = format!("{DEPLOYMENTS}{deployment}/images/{route}");
        write_call(request, fields, &path)
    }

    /// Tokens of Entra's are JSON Web Tokens; keys never begin like them.
    fn authorize(&self, headers: &mut HeaderMap, key: &str) {
        let is_token = key.starts_with("eyJ");
        let (name, text) = if is_token {
            (AUTHORIZATION, format!("Bearer {key}"))
        } else {
            (KEY, key.to_owned())
        };
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.remove(AUTHORIZATION);
            headers.remove(KEY);
            headers.remove(SUBSCRIPTION_KEY);
            headers.insert(name, value);
        }
    }

    fn reader(&self, request: &ImageRequest, head: &ReplyHead) -> Box<dyn Reader> {
        answer::reader(request, head)
    }
}

fn text<'a>(request: &'a ImageRequest, name: &str) -> Option<&'a str> {
    request.extra.get(name).and_then(Value::as_str)
}

/// Azure's own codes where it has any; the models' moderation speaks as OpenAI's does.
fn write_refusal(asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
    let dalle = asked.is_some_and(|asked| is_dalle(&asked.model));
    let code = match refusal.kind {
        FailureKind::Safety if dalle => "content_policy_violation",
        FailureKind::RateLimited => "RateLimitReached",
        FailureKind::Auth => "401",
        FailureKind::Permission => "Forbidden",
        FailureKind::Retired => "DeploymentNotFound",
        _ => return wording::refusal(asked, refusal),
    };
    let filtered = refusal.kind == FailureKind::Safety;
    let (status, code) = if filtered {
        (400, code)
    } else {
        (refusal.status, refusal.code.as_deref().unwrap_or(code))
    };
    let mut error = json!({"code": code, "message": refusal.message});
    if filtered {
        error["inner_error"] = json!({"code": "ResponsibleAIPolicyViolation"});
    }
    Reply {
        head: heads::refusal(status, refusal),
        body: json!({"error": error}).to_string().into(),
    }
}
