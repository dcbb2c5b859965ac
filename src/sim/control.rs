//! `/_sim/…`: bills, requests, scripts and gates for tests written in any language.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::Shared;
use super::answer::Answer;
use super::behaviour::Behaviour;
use super::picture::Picture;
use crate::money::Usd;

const HELP: &str = "\
GET  /_sim/bills               every charge: id, at, provider, model, images, nano_usd, outcome
GET  /_sim/requests            what arrived: method, target, headers, digest of the body
GET  /_sim/wait?requests=N     answers when N requests have arrived; &timeout_ms=M (default 30000): 408
POST /_sim/script              {\"provider\": \"openai\", \"behaviours\": [\"rate_limited retry_after=1\", \"ok\"]}
POST /_sim/release             lets go what is held
POST /_sim/reset               forgets bills, requests and scripts
";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    provider: String,
    behaviours: Vec<String>,
}

/// Answers a control request; `path` is what follows `/_sim`.
pub(super) async fn answer(
    method: &Method,
    path: &str,
    query: &str,
    body: &Bytes,
    shared: &Shared,
) -> Answer {
    match (method.as_str(), path) {
        ("GET", "" | "/") => Answer::new(StatusCode::OK, "text/plain", HELP),
        ("GET", "/bills") => bills(shared),
        ("GET", "/requests") => {
            let books = shared.books.lock();
            json_answer(&json!({"count": books.arrived, "requests": books.requests}))
        }
        ("GET", "/wait") => wait(query, shared).await,
        ("POST", "/script") => script(body, shared),
        ("POST", "/release") => {
            shared.release();
            json_answer(&json!({"released": true}))
        }
        ("POST", "/reset") => {
            shared.reset();
            json_answer(&json!({"reset": true}))
        }
        ("GET", _) => match path.strip_prefix("/img/").and_then(Picture::parse) {
            Some(picture) => picture_answer(picture, shared),
            None => unknown(),
        },
        _ => unknown(),
    }
}

fn unknown() -> Answer {
    Answer::new(StatusCode::NOT_FOUND, "text/plain", HELP)
}

fn json_answer(value: &serde_json::Value) -> Answer {
    Answer::new(StatusCode::OK, "application/json", value.to_string())
}

fn wrong(says: &str) -> Answer {
    let mut answer = json_answer(&json!({"error": says}));
    answer.status = StatusCode::BAD_REQUEST;
    answer
}

fn bills(shared: &Shared) -> Answer {
    let books = shared.books.lock();
    let total = books.total();
    json_answer(&json!({
        "count": books.bills.len(),
        "nano_usd": total,
        "usd": Usd::from_nano(total).to_string(),
        "bills": books.bills,
    }))
}

fn picture_answer(picture: Picture, shared: &Shared) -> Answer {
    let kind = format!("image/{}", picture.format.word());
    Answer::new(StatusCode::OK, &kind, picture.paint(shared.options.pad_to))
}

async fn wait(query: &str, shared: &Shared) -> Answer {
    let value = |name: &str| {
        let fields = query.split('&').filter_map(|field| field.split_once('='));
        fields
            .filter(|(key, _)| *key == name)
            .find_map(|(_, value)| value.parse::<u64>().ok())
    };
    let Some(count) = value("requests") else {
        return wrong("say how many: /_sim/wait?requests=N");
    };
    let patience = Duration::from_millis(value("timeout_ms").unwrap_or(30_000));
    let mut stopping = shared.stopping.subscribe();
    let waited = tokio::select! {
        waited = tokio::time::timeout(patience, shared.wait_for_requests(count)) => waited.is_ok(),
        _ = stopping.wait_for(|stop| *stop) => false,
    };
    let mut answer = json_answer(&json!({"requests": shared.books.lock().arrived}));
    if !waited {
        answer.status = StatusCode::REQUEST_TIMEOUT;
    }
    answer
}

fn script(body: &Bytes, shared: &Shared) -> Answer {
    let script: Script = match serde_json::from_slice(body) {
        Ok(script) => script,
        Err(error) => return wrong(&error.to_string()),
    };
    let behaviours: Result<Vec<Behaviour>, _> =
        script.behaviours.iter().map(|text| text.parse()).collect();
    match behaviours {
        Ok(behaviours) => {
            let queued = behaviours.len();
            let mut books = shared.books.lock();
            for behaviour in behaviours {
                books.script(&script.provider, behaviour);
            }
            json_answer(&json!({"queued": queued}))
        }
        Err(mistake) => wrong(&mistake.to_string()),
    }
}
