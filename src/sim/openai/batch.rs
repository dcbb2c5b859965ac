//! OpenAI's files and batches, simulated: answers in another order than the lines, failures in a
//! file of their own.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{dress, new_id, refuse};
use crate::sim::Shared;
use crate::sim::answer::Answer;
use crate::sim::batch::{Batch, Line, run};
use crate::sim::behaviour::Fault;
use crate::sim::serve::Arrived;
use crate::sim::template::{Fill, OPENAI};
use crate::wire::multipart;

const FILES: &str = "/v1/files";
const BATCHES: &str = "/v1/batches";
const ENDPOINTS: [&str; 2] = ["/v1/images/generations", "/v1/images/edits"];

/// The name under which an endpoint is scripted; `None` when it is none of these.
pub(in crate::sim) fn door(arrived: &Arrived) -> Option<&'static str> {
    let post = arrived.method == Method::POST;
    Some(match arrived.path.as_str() {
        FILES if post => "openai/files",
        BATCHES if post => "openai/batches",
        BATCHES => "openai/list",
        path if path.starts_with("/v1/batches/") => "openai/batch",
        path if path.starts_with("/v1/files/") => "openai/content",
        _ => return None,
    })
}

pub(in crate::sim) fn refusal(fault: &Fault, shared: &Shared) -> Option<Answer> {
    let name = match fault {
        Fault::Server => "error.server",
        Fault::Overloaded { .. } => "error.overloaded",
        Fault::Quota => "error.quota",
        Fault::Auth => "error.auth",
        _ => return None,
    };
    Some(dress(OPENAI.fill(name, &[]), &new_id(shared)))
}

pub(in crate::sim) fn answer(arrived: &Arrived, releases: u64, shared: &Shared) -> Answer {
    if arrived.bearer().is_none() {
        return dress(OPENAI.fill("error.no_key", &[]), &new_id(shared));
    }
    let get = arrived.method == Method::GET;
    match arrived.path.as_str() {
        FILES => upload(arrived, shared),
        BATCHES if get => list(shared),
        BATCHES => order(arrived, releases, shared),
        path => {
            let rest = path.strip_prefix("/v1/batches/");
            let file = path.strip_prefix("/v1/files/");
            let file = file.and_then(|file| file.strip_suffix("/content"));
            match (rest, file) {
                (Some(id), _) if get => stand(id, shared),
                (_, Some(id)) if get => content(id, shared),
                _ => nothing(path, shared),
            }
        }
    }
}

fn nothing(what: &str, shared: &Shared) -> Answer {
    let message = format!("No such File or Batch object: {what}");
    let mut answer = dress(*refuse::plain(&message), &new_id(shared));
    answer.status = StatusCode::NOT_FOUND;
    answer
}

fn upload(arrived: &Arrived, shared: &Shared) -> Answer {
    let kind = arrived.header("content-type").unwrap_or_default();
    let parts = multipart::read(kind, &arrived.body).unwrap_or_default();
    let named = |name: &str| parts.iter().find(|part| part.name == name);
    if named("purpose").and_then(|part| part.as_text()) != Some("batch") {
        return dress(*refuse::missing("purpose"), &new_id(shared));
    }
    let Some(file) = named("file") else {
        return dress(*refuse::missing("file"), &new_id(shared));
    };
    let id = format!("file-{}", &shared.request_id()[..24]);
    let (bytes, created) = (file.data.len().to_string(), super::ask::now());
    let fills = [
        ("id", Fill::Text(&id)),
        ("bytes", Fill::Json(&bytes)),
        ("created", Fill::Json(&created)),
        (
            "name",
            Fill::Text(file.filename.as_deref().unwrap_or_default()),
        ),
    ];
    let answer = dress(OPENAI.fill("file", &fills), &new_id(shared));
    let mut batches = shared.batches.lock();
    batches.files.insert(id, file.data.clone());
    answer
}

#[derive(Deserialize)]
struct Order {
    input_file_id: String,
    endpoint: String,
    completion_window: String,
    metadata: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Asked<'a> {
    custom_id: String,
    method: String,
    url: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

fn order(arrived: &Arrived, releases: u64, shared: &Shared) -> Answer {
    let refused = |refusal| dress(refusal, &new_id(shared));
    let order: Order = match serde_json::from_slice(&arrived.body) {
        Ok(order) => order,
        Err(error) => return refused(*refuse::plain(&error.to_string())),
    };
    if !ENDPOINTS.contains(&order.endpoint.as_str()) {
        return refused(*refuse::unsupported(
            "endpoint",
            &order.endpoint,
            &ENDPOINTS,
        ));
    }
    if order.completion_window != "24h" {
        return refused(*refuse::unsupported(
            "completion_window",
            &order.completion_window,
            &["24h"],
        ));
    }
    let file = shared
        .batches
        .lock()
        .files
        .get(&order.input_file_id)
        .cloned();
    let Some(file) = file else {
        return nothing(&order.input_file_id, shared);
    };
    let mut batch = Batch {
        id: format!("batch_{}", &shared.request_id()[..24]),
        label: order.metadata.unwrap_or_default().to_string(),
        from: order.input_file_id,
        created: jiff::Timestamp::now(),
        lines: Vec::new(),
        refused: None,
    };
    match read(&file, &order.endpoint) {
        Err(why) => batch.refused = Some(why),
        Ok(asked) => {
            for line in asked {
                batch
                    .lines
                    .push(run(line, arrived, super::judge, releases, shared));
            }
        }
    }
    let answer = card(&batch, true, shared);
    shared.batches.lock().batches.push(batch);
    dress(answer, &new_id(shared))
}

/// The lines of a file, all for one endpoint and one model.
fn read(file: &[u8], endpoint: &str) -> Result<Vec<(String, String, Bytes)>, (String, usize)> {
    let mut lines: Vec<(String, String, Bytes)> = Vec::new();
    let mut model = None;
    for (at, text) in file.split(|byte| *byte == b'\n').enumerate() {
        if text.is_empty() {
            continue;
        }
        let wrong = |why: &str| (why.to_owned(), at + 1);
        let line: Asked<'_> = serde_json::from_slice(text)
            .map_err(|_| wrong("This line is not parseable as valid JSON."))?;
        if line.method != "POST" || line.url != endpoint {
            return Err(wrong(
                "The URL provided for this request does not match the batch endpoint.",
            ));
        }
        if lines.iter().any(|(name, ..)| *name == line.custom_id) {
            return Err(wrong(
                "The custom_id for this request is a duplicate of another request.",
            ));
        }
        let body: serde_json::Value = serde_json::from_str(line.body.get()).unwrap_or_default();
        let named = body["model"].as_str().map(str::to_owned);
        if model.get_or_insert_with(|| named.clone()) != &named {
            return Err(wrong(
                "The model for this request does not match the rest of the batch.",
            ));
        }
        let body = Bytes::copy_from_slice(line.body.get().as_bytes());
        lines.push((line.custom_id, line.url, body));
    }
    match lines.is_empty() {
        true => Err(("The input file is empty.".to_owned(), 1)),
        false => Ok(lines),
    }
}

fn card(batch: &Batch, fresh: bool, shared: &Shared) -> crate::sim::template::Filled {
    let ended = !fresh && batch.ended(shared);
    let status = match (&batch.refused, ended) {
        (Some(_), _) if !fresh => "failed",
        _ if fresh => "validating",
        (_, true) if batch.expired() => "expired",
        (_, true) => "completed",
        (_, false) => "in_progress",
    };
    let (good, bad) = match fresh {
        true => (0, 0),
        false => batch.counts(shared),
    };
    let file = |kind: &str, there: bool| match ended && there {
        true => format!("\"file-{kind}-{}\"", batch.id),
        false => "null".to_owned(),
    };
    let output = file("output", good > 0);
    let errors = file("error", batch.lines.iter().any(|line| !line.is_good()));
    let why = match &batch.refused {
        Some((message, line)) if !fresh => {
            let line = line.to_string();
            let fills = [
                ("message", Fill::Text(message)),
                ("line", Fill::Json(&line)),
            ];
            OPENAI.fill("batch.errors", &fills).body
        }
        _ => "null".to_owned(),
    };
    let (created, total) = (batch.created.as_second(), batch.lines.len());
    let numbers = [
        ("created", created.to_string()),
        ("expires", (created + 86_400).to_string()),
        ("total", total.to_string()),
        ("completed", good.to_string()),
        ("failed", bad.to_string()),
    ];
    let mut fills = vec![
        ("id", Fill::Text(&batch.id)),
        ("status", Fill::Text(status)),
        ("input", Fill::Text(&batch.from)),
        ("output", Fill::Json(&output)),
        ("error", Fill::Json(&errors)),
        ("errors", Fill::Json(&why)),
        ("metadata", Fill::Json(&batch.label)),
    ];
    fills.extend(numbers.iter().map(|(name, text)| (*name, Fill::Json(text))));
    OPENAI.fill("batch", &fills)
}

fn stand(id: &str, shared: &Shared) -> Answer {
    let batch = find(id, shared);
    match batch {
        Some(batch) => dress(card(&batch, false, shared), &new_id(shared)),
        None => nothing(id, shared),
    }
}

fn find(id: &str, shared: &Shared) -> Option<Batch> {
    let batches = shared.batches.lock();
    batches.batches.iter().find(|batch| batch.id == id).cloned()
}

fn list(shared: &Shared) -> Answer {
    let batches = shared.batches.lock().batches.clone();
    let newest = batches.iter().rev().take(100);
    let cards: Vec<String> = newest
        .map(|batch| card(batch, false, shared).body)
        .collect();
    let data = format!("[{}]", cards.join(","));
    dress(
        OPENAI.fill("list", &[("data", Fill::Json(&data))]),
        &new_id(shared),
    )
}

/// A file of answers. Lines come back to front: nobody may count on their order.
fn content(id: &str, shared: &Shared) -> Answer {
    let of = |kind: &str| find(id.strip_prefix(&format!("file-{kind}-"))?, shared);
    let (batch, good) = match (of("output"), of("error")) {
        (Some(batch), _) => (batch, true),
        (None, Some(batch)) => (batch, false),
        (None, None) => return nothing(id, shared),
    };
    let lines = batch
        .lines
        .iter()
        .rev()
        .filter(|line| line.is_good() == good);
    let text: String = lines.map(|line| format!("{}\n", worded(line))).collect();
    Answer::new(StatusCode::OK, "application/octet-stream", text)
}

fn worded(line: &Line) -> String {
    let batch_id = format!("batch_req_{}", line.id);
    let named = [
        ("id", Fill::Text(&batch_id)),
        ("name", Fill::Text(&line.name)),
    ];
    let filled = match &line.end {
        None => OPENAI.fill("batch.line.expired", &named),
        Some((status, body)) => {
            let status = status.as_u16().to_string();
            let [id, name] = named;
            let fills = [
                id,
                name,
                ("status", Fill::Json(&status)),
                ("request", Fill::Text(&line.id)),
                ("body", Fill::Json(body)),
            ];
            OPENAI.fill("batch.line", &fills)
        }
    };
    filled.body.replace('\n', "")
}
