//! Gemini's batch mode, simulated: requests in the order, answers in the operation.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{error, gone, invalid, message, path, refused_key};
use crate::sim::Shared;
use crate::sim::answer::Answer;
use crate::sim::batch::{Batch, Line, run};
use crate::sim::behaviour::Fault;
use crate::sim::serve::Arrived;
use crate::sim::template::{Fill, GOOGLE};

const METHOD: &str = "batchGenerateContent";
const BATCHES: &str = "/v1beta/batches";

/// The name under which an endpoint is scripted; `None` when it is none of these.
pub(in crate::sim) fn door(arrived: &Arrived) -> Option<&'static str> {
    let get = arrived.method == Method::GET;
    Some(match arrived.path.as_str() {
        path if !get && path.ends_with(&format!(":{METHOD}")) => "google/batches",
        BATCHES if get => "google/list",
        path if get && path.starts_with(BATCHES) => "google/batch",
        _ => return None,
    })
}

pub(in crate::sim) fn refusal(fault: &Fault) -> Option<Answer> {
    match fault {
        Fault::Server | Fault::Overloaded { .. } | Fault::Quota | Fault::Auth => {
            error(fault, "", METHOD)
        }
        _ => None,
    }
}

pub(in crate::sim) fn answer(arrived: &Arrived, releases: u64, shared: &Shared) -> Answer {
    if let Some(refusal) = refused_key(arrived) {
        return message(refusal, &[]);
    }
    if arrived.method == Method::POST {
        return order(arrived, releases, shared);
    }
    let batches = shared.batches.lock().batches.clone();
    match arrived.path.strip_prefix("/v1beta/") {
        Some("batches") => {
            let cards: Vec<String> = batches
                .iter()
                .rev()
                .map(|batch| operation(batch, false, shared))
                .collect();
            let list = format!("[{}]", cards.join(","));
            message("operations", &[("operations", Fill::Json(&list))])
        }
        Some(name) => match batches.iter().find(|batch| batch.id == name) {
            Some(batch) => {
                let text = operation(batch, true, shared);
                Answer::new(StatusCode::OK, "application/json; charset=UTF-8", text)
            }
            None => gone(name, "getBatch"),
        },
        None => gone("", "getBatch"),
    }
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow)]
    batch: Ordered<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ordered<'a> {
    display_name: String,
    #[serde(borrow)]
    input_config: Input<'a>,
}

#[derive(Deserialize)]
struct Input<'a> {
    #[serde(borrow)]
    requests: Within<'a>,
}

#[derive(Deserialize)]
struct Within<'a> {
    #[serde(borrow)]
    requests: Vec<Asked<'a>>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    metadata: Name,
}

#[derive(Deserialize)]
struct Name {
    key: String,
}

fn order(arrived: &Arrived, releases: u64, shared: &Shared) -> Answer {
    let order: Order<'_> = match serde_json::from_slice(&arrived.body) {
        Ok(order) => order,
        Err(mistake) => return invalid(&mistake.to_string()),
    };
    let Some(named) = path(&arrived.path).filter(|path| !path.vertex) else {
        return invalid("no model is named");
    };
    let alone = format!("/v1beta/models/{}:generateContent", named.model);
    let lines = order
        .batch
        .input_config
        .requests
        .requests
        .iter()
        .map(|asked| {
            let body = Bytes::copy_from_slice(asked.request.get().as_bytes());
            let line = (asked.metadata.key.clone(), alone.clone(), body);
            run(line, arrived, super::judge, releases, shared)
        });
    let batch = Batch {
        id: format!("batches/{}", &shared.request_id()[..24]),
        label: order.batch.display_name,
        from: named.model.to_owned(),
        created: jiff::Timestamp::now(),
        lines: lines.collect(),
        refused: None,
    };
    let text = operation(&batch, false, shared);
    shared.batches.lock().batches.push(batch);
    Answer::new(StatusCode::OK, "application/json; charset=UTF-8", text)
}

/// How a batch stands; with its answers where it has ended and they are wanted.
fn operation(batch: &Batch, with_answers: bool, shared: &Shared) -> String {
    let ended = batch.ended(shared);
    let (good, bad) = batch.counts(shared);
    let state = match ended {
        true if batch.expired() => "BATCH_STATE_EXPIRED",
        true => "BATCH_STATE_SUCCEEDED",
        false => "BATCH_STATE_RUNNING",
    };
    let [total, good, bad] = [batch.lines.len(), good, bad].map(|count| count.to_string());
    let lines: Vec<String> = batch.lines.iter().rev().map(worded).collect();
    let answers = match ended && with_answers {
        true => {
            let list = format!("[{}]", lines.join(","));
            GOOGLE
                .fill("batch.output", &[("answers", Fill::Json(&list))])
                .body
        }
        false => "null".to_owned(),
    };
    let created = batch.created.to_string();
    let done = ended.to_string();
    let fills = [
        ("id", Fill::Text(&batch.id)),
        ("model", Fill::Text(&batch.from)),
        ("name", Fill::Text(&batch.label)),
        ("state", Fill::Text(state)),
        ("created", Fill::Text(&created)),
        ("total", Fill::Text(&total)),
        ("good", Fill::Text(&good)),
        ("bad", Fill::Text(&bad)),
        ("output", Fill::Json(&answers)),
        ("done", Fill::Json(&done)),
    ];
    GOOGLE.fill("batch", &fills).body
}

fn worded(line: &Line) -> String {
    let name = ("name", Fill::Text(&line.name));
    match &line.end {
        None => GOOGLE.fill("batch.line.expired", &[name]).body,
        Some((status, body)) if status.is_success() => {
            GOOGLE
                .fill("batch.line", &[name, ("response", Fill::Json(body))])
                .body
        }
        Some((status, body)) => {
            let told: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let words = told
                .pointer("/error/message")
                .and_then(|message| message.as_str());
            let code = status.as_u16().to_string();
            let fills = [
                name,
                ("code", Fill::Json(&code)),
                ("message", Fill::Text(words.unwrap_or_default())),
            ];
            GOOGLE.fill("batch.line.error", &fills).body
        }
    }
}
