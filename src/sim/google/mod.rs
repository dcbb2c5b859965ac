//! Google, simulated: Imagen and the Gemini image models, on the paths of the Gemini API and of
//! Vertex AI; a word of text from any other model.

pub(super) mod batch;
mod gemini;
mod imagen;
mod models;

use http::Method;
use serde_json::{Map, Value};

use super::Shared;
use super::answer::Answer;
use super::behaviour::Fault;
use super::picture::{Format, Picture};
use super::serve::{Arrived, Verdict};
use super::template::{Fill, GOOGLE};

/// What a path names.
struct Path<'a> {
    vertex: bool,
    model: &'a str,
    method: &'a str,
}

/// What Google makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let id = shared.request_id();
    if let Some(refusal) = refused_key(arrived) {
        return Verdict::Answer(message(refusal, &[]));
    }
    if arrived.method == Method::GET {
        return Verdict::Answer(catalogue(&arrived.path, shared));
    }
    let Some(path) = path(&arrived.path).filter(|_| arrived.method == Method::POST) else {
        return Verdict::Answer(Answer::page(GOOGLE.fill("html", &[])));
    };
    let body: Value = match serde_json::from_slice(&arrived.body) {
        Ok(body @ Value::Object(_)) => camel(&body),
        _ => return Verdict::Answer(invalid("Invalid JSON payload received.")),
    };
    match path.method {
        "predict" => imagen::judge(&path, &body, shared),
        "generateContent" => gemini::judge(&path, &body, None, shared, &id),
        "streamGenerateContent" => {
            let events = arrived.query.split('&').any(|field| field == "alt=sse");
            gemini::judge(&path, &body, Some(events), shared, &id)
        }
        method => Verdict::Answer(gone(path.model, method)),
    }
}

/// The template of a refusal for what is no key at all.
fn refused_key(arrived: &Arrived) -> Option<&'static str> {
    let in_query = arrived
        .query
        .split('&')
        .find_map(|f| f.strip_prefix("key="));
    match arrived.header("x-goog-api-key").or(in_query) {
        Some("") => Some("error.auth"),
        Some(_) => None,
        None if arrived.bearer().is_some() => None,
        None if arrived.header("authorization").is_some() => Some("error.token"),
        None => Some("error.no_key"),
    }
}

fn path(path: &str) -> Option<Path<'_>> {
    let (rest, method) = path.rsplit_once(':')?;
    let (place, model) = rest.split_once("/models/")?;
    place.starts_with("/v1").then_some(Path {
        vertex: place.contains("/publishers/google"),
        model,
        method,
    })
}

fn message(name: &str, fills: &[(&str, Fill<'_>)]) -> Answer {
    let mut answer = Answer::of(GOOGLE.fill(name, fills));
    answer.set("x-content-type-options", "nosniff");
    answer.set("vary", "Origin");
    answer
}

fn invalid(says: &str) -> Answer {
    message("error.invalid", &[("message", Fill::Text(says))])
}

fn gone(model: &str, method: &str) -> Answer {
    let fills = [("model", Fill::Text(model)), ("method", Fill::Text(method))];
    message("error.retired", &fills)
}

fn catalogue(path: &str, shared: &Shared) -> Answer {
    let served = models::served(shared.options.retired_ok, false);
    let card = |model: &str| GOOGLE.fill("model", &[("model", Fill::Text(model))]).body;
    match path.rsplit_once("/models/") {
        Some((_, model)) if served.clone().any(|known| known == model) => {
            Answer::of(GOOGLE.fill("model", &[("model", Fill::Text(model))]))
        }
        Some((_, model)) => gone(model, "getModel"),
        None => {
            let cards: Vec<String> = served.map(card).collect();
            let list = format!("[{}]", cards.join(","));
            message("models", &[("models", Fill::Json(&list))])
        }
    }
}

/// The answer of a fault that every model tells in one form; `None` for those it has a form for.
fn error(fault: &Fault, model: &str, method: &str) -> Option<Answer> {
    let named = ("model", Fill::Text(model));
    let plain = |name: &str| Some(message(name, &[named, ("method", Fill::Text(method))]));
    match fault {
        Fault::RateLimited { retry_after } => {
            let seconds = retry_after.unwrap_or(27).to_string();
            let fills = [named, ("seconds", Fill::Text(&seconds))];
            Some(message("error.rate_limited", &fills))
        }
        Fault::Overloaded { retry_after } => {
            let mut answer = message("error.overloaded", &[]);
            if let Some(seconds) = retry_after {
                answer.set("retry-after", &seconds.to_string());
            }
            Some(answer)
        }
        Fault::Server => plain("error.server"),
        Fault::Quota => plain("error.quota"),
        Fault::Auth => plain("error.auth"),
        Fault::Permission => plain("error.permission"),
        Fault::Retired => plain("error.retired"),
        Fault::Html => Some(Answer::page(GOOGLE.fill("html", &[]))),
        _ => None,
    }
}

/// A name that the API does not know, as it complains of it.
fn unknown(fields: Option<&Value>, known: &[&str], within: &str) -> Result<(), String> {
    let Some(fields) = fields.and_then(Value::as_object) else {
        return Ok(());
    };
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!(
            "Invalid JSON payload received. Unknown name \"{name}\"{within}: Cannot find field."
        )),
        None => Ok(()),
    }
}

/// Names in camel case throughout, but for what lies below a user's own names.
fn camel(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(camel).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| (camel_case(name), camel(value)))
                .collect::<Map<_, _>>(),
        ),
        other => other.clone(),
    }
}

fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut whole = String::with_capacity(name.len());
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            whole.push(letter.to_ascii_uppercase());
        } else {
            whole.push(letter);
        }
    }
    whole
}

/// A picture of these words, its seed or its turn.
fn picture(
    (width, height): (u32, u32),
    format: Format,
    body: &Value,
    seed: Option<u64>,
    turn: u64,
) -> Picture {
    let mut hasher = blake3::Hasher::new();
    hasher.update(body.to_string().as_bytes());
    hasher.update(&seed.map_or(turn, |seed| !seed).to_le_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    Picture {
        format,
        width,
        height,
        digest: u64::from_le_bytes(first),
        transparent: false,
    }
}
