//! Batches of the simulated providers: lines that are judged, priced at half and answered as calls
//! would be, all at once and later.
//!
//! A line is directed by its prompt or by the provider's script, like a call. One that stalls is one
//! that the batch's window closes over: it is not run and not billed, and the batch expires. What
//! the batch's own endpoints do is scripted under their names: `openai/files`, `openai/batches`
//! (the order), `openai/batch` (a question), `openai/content`; `google/batches`, `google/batch`.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use jiff::Timestamp;
use tokio::sync::watch;

use super::Shared;
use super::answer::{Answer, Body};
use super::behaviour::{Behaviour, Fault};
use super::queued::Ready;
use super::serve::{self, Arrived, Verdict};
use super::{google, openai};

/// All files and batches; a reset forgets them.
#[derive(Debug, Default)]
pub(super) struct Batches {
    pub(super) files: HashMap<String, Bytes>,
    pub(super) batches: Vec<Batch>,
}

/// One batch as it was ordered.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) id: String,
    /// What the client calls it: JSON.
    pub(super) label: String,
    /// What it was ordered with: a file, or a model.
    pub(super) from: String,
    pub(super) created: Timestamp,
    pub(super) lines: Vec<Line>,
    /// Why it is not run at all.
    pub(super) refused: Option<(String, usize)>,
}

/// One line, and what it will answer.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) id: String,
    /// `None`: the window closes before its turn.
    pub(super) end: Option<(StatusCode, String)>,
    ready: Ready,
}

impl Line {
    pub(super) fn is_good(&self) -> bool {
        self.end
            .as_ref()
            .is_some_and(|(status, _)| status.is_success())
    }
}

impl Batch {
    /// How many lines are through, with a picture and without.
    pub(super) fn counts(&self, shared: &Shared) -> (usize, usize) {
        let through = self.lines.iter().filter(|line| line.ready.now(shared));
        let good = through.clone().filter(|line| line.is_good()).count();
        let bad = through.filter(|line| line.end.is_some() && !line.is_good());
        (good, bad.count())
    }

    /// Whether every line that is run is through. With a line that is not, the window closes then.
    pub(super) fn ended(&self, shared: &Shared) -> bool {
        let run = self.lines.iter().filter(|line| line.end.is_some());
        self.refused.is_some() || run.into_iter().all(|line| line.ready.now(shared))
    }

    pub(super) fn expired(&self) -> bool {
        self.lines.iter().any(|line| line.end.is_none())
    }
}

/// Answers a request that is about batches; `None` for any other.
pub(super) async fn handle(
    provider: &str,
    arrived: &Arrived,
    releases: &watch::Receiver<u64>,
    shared: &Shared,
) -> Option<io::Result<Response<Body>>> {
    let door = match provider {
        "openai" => openai::batch::door(arrived),
        "google" => google::batch::door(arrived),
        _ => None,
    }?;
    let behaviour = shared.books.lock().next_of_own_script(door);
    let behaviour = behaviour.unwrap_or_default();
    let refused = match provider {
        "openai" => openai::batch::refusal(&behaviour.fault, shared),
        _ => google::batch::refusal(&behaviour.fault),
    };
    let answer = refused.unwrap_or_else(|| match provider {
        "openai" => openai::batch::answer(arrived, *releases.borrow(), shared),
        _ => google::batch::answer(arrived, *releases.borrow(), shared),
    });
    // It is done by now, whether or not its client hears of it.
    if let Err(stopped) = serve::wait(&behaviour, releases.clone(), shared).await {
        return Some(Err(stopped));
    }
    if behaviour.fault == Fault::Drop {
        return Some(Err(io::Error::other("dropped on demand")));
    }
    Some(Ok(answer.send(&behaviour.fault)))
}

/// Runs one line as though it had come alone, and bills half of what that costs.
pub(super) fn run(
    (name, path, body): (String, String, Bytes),
    batch: &Arrived,
    judge: fn(&Arrived, &Shared) -> Verdict,
    releases: u64,
    shared: &Shared,
) -> Line {
    let mut headers = HeaderMap::new();
    for (header, value) in &batch.headers {
        if !matches!(header.as_str(), "content-length" | "content-type" | "x-sim") {
            headers.append(header.clone(), value.clone());
        }
    }
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    let alone = Arrived {
        method: Method::POST,
        path,
        query: String::new(),
        headers,
        body,
    };
    let at_once = Ready::of(&Behaviour::ok(), releases);
    let id = shared.request_id();
    let order = match judge(&alone, shared) {
        Verdict::Order(order) => order,
        Verdict::Answer(answer) => {
            return Line {
                name,
                id,
                end: Some(told(&answer)),
                ready: at_once,
            };
        }
    };
    let behaviour = match serve::decide(order.as_ref(), &alone, shared) {
        Ok(behaviour) => behaviour,
        Err(mistake) => {
            return Line {
                name,
                id,
                end: Some((StatusCode::BAD_REQUEST, format!("\"{mistake}\""))),
                ready: at_once,
            };
        }
    };
    if behaviour.fault == Fault::Stall {
        return Line {
            name,
            id,
            end: None,
            ready: at_once,
        };
    }
    let id = serve::request_id(order.provider(), shared);
    serve::book(order.as_ref(), &behaviour, &alone, &id, 2, shared);
    let answer = order.answer(&behaviour, shared, &id);
    Line {
        name,
        end: Some(told(&answer)),
        ready: Ready::of(&behaviour, releases),
        id,
    }
}

/// Status and body, on one line: a file of answers has a line each.
fn told(answer: &Answer) -> (StatusCode, String) {
    let whole = answer.pieces.concat();
    let text = String::from_utf8_lossy(&whole).replace(['\n', '\r'], "");
    (answer.status, text)
}
