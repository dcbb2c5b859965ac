//! Gemini's batch mode: `:batchGenerateContent` with the requests in it, and an operation that
//! holds the answers when it is done.
//!
//! After the API reference of autumn 2026. The answers come inside the operation, so a batch is
//! kept small enough for them to be held; Vertex AI takes batches from storage buckets alone.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::batch::{
    BatchState, Batches, LineEnd, Most, Order, Standing, json_reply, not_run,
};
use super::super::{Dialect, Unsupported};
use super::gemini::Gemini;
use super::{path, unsupported};
use crate::image::{ImageRequest, Tier};
use crate::wire::{Message, Rope};

pub(super) struct GeminiBatches;

const METHOD: &str = "batchGenerateContent";
const JOBS: &str = "batches/";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Operation<'a> {
    name: String,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
    #[serde(default)]
    done: bool,
    #[serde(borrow)]
    response: Option<Output<'a>>,
    error: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    state: Option<String>,
    display_name: Option<String>,
    batch_stats: Option<Stats>,
    #[serde(borrow)]
    output: Option<Output<'a>>,
}

/// 64-bit numbers are texts in JSON of protocol buffers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    successful_request_count: Option<String>,
    failed_request_count: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Output<'a> {
    #[serde(borrow)]
    inlined_responses: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Within<'a> {
    #[serde(borrow)]
    inlined_responses: Vec<&'a RawValue>,
}

/// The list is within an object of its own name; some versions leave that out.
fn inlined<'a>(output: &Output<'a>) -> Vec<&'a RawValue> {
    let Some(text) = output.inlined_responses.map(RawValue::get) else {
        return Vec::new();
    };
    serde_json::from_str::<Within<'a>>(text)
        .map(|within| within.inlined_responses)
        .or_else(|_| serde_json::from_str(text))
        .unwrap_or_default()
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    error: Option<Status>,
    metadata: Option<Name>,
}

#[derive(Deserialize)]
struct Name {
    key: String,
}

#[derive(Deserialize)]
struct Status {
    code: Option<i64>,
    message: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow, default)]
    operations: Vec<&'a RawValue>,
}

impl Batches for GeminiBatches {
    /// Twenty megabytes is what may be sent inline. So many answers with a picture of two megabytes
    /// each can still be held at once.
    fn most(&self) -> Most {
        Most {
            lines: 32,
            bytes: 19 << 20,
        }
    }

    fn line(
        &self,
        name: &str,
        request: &ImageRequest,
        own: Option<&Bytes>,
    ) -> Result<Bytes, Unsupported> {
        if request.stream {
            return Err(unsupported("stream", "a batch brings whole answers"));
        }
        if path::is_vertex(request) {
            let why = "Vertex AI takes batches from storage buckets alone";
            return Err(unsupported("model", why));
        }
        let body = match own {
            Some(own) => own.clone(),
            None => {
                // The tier is the batch itself; there is no word for it within.
                let mut plain = request.clone();
                plain.tier = Tier::Standard;
                Gemini.write_request(&plain)?.body.to_bytes()
            }
        };
        let mut line = Vec::with_capacity(body.len() + 64);
        line.extend_from_slice(b"{\"request\":");
        line.extend_from_slice(&body);
        line.extend_from_slice(format!(",\"metadata\":{{\"key\":{}}}}}", json!(name)).as_bytes());
        Ok(line.into())
    }

    fn upload(&self, _label: &str, _lines: &[Bytes]) -> Option<Message> {
        None
    }

    fn uploaded(&self, _answer: &[u8]) -> Option<String> {
        None
    }

    fn order(&self, order: &Order<'_>) -> Result<Message, Unsupported> {
        let label = json!(order.label);
        let mut body = Rope::from(format!(
            "{{\"batch\":{{\"displayName\":{label},\"inputConfig\":{{\"requests\":{{\"requests\":["
        ));
        for (at, line) in order.lines.iter().enumerate() {
            if at > 0 {
                body.push(Bytes::from_static(b","));
            }
            body.push(line.clone());
        }
        body.push(Bytes::from_static(b"]}}}}"));
        let mut request = order.request.clone();
        request.extra.retain(|name, _| name == super::super::PLACE);
        let target = path::target(&request, METHOD, None)?;
        Ok(message(Method::POST, target, body))
    }

    fn list(&self) -> Message {
        let target = PathAndQuery::from_static("/v1beta/batches?pageSize=100");
        message(Method::GET, target, Rope::new())
    }

    fn find(&self, label: &str, answer: &[u8]) -> Option<Standing> {
        let list: List<'_> = serde_json::from_slice(answer).ok()?;
        list.operations.iter().find_map(|text| {
            let operation: Operation<'_> = serde_json::from_str(text.get()).ok()?;
            let named = operation.metadata.as_ref()?.display_name.as_deref() == Some(label);
            // A list leaves the answers out, so the batch is asked about once more.
            named.then(|| Standing {
                state: BatchState::Running,
                ends: Vec::new(),
                ..standing(operation)
            })
        })
    }

    fn ask(&self, job: &str) -> Option<Message> {
        let id = job.strip_prefix(JOBS)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if id.is_empty() || !id.chars().all(plain) {
            return None;
        }
        let target = format!("/v1beta/{job}").parse().ok()?;
        Some(message(Method::GET, target, Rope::new()))
    }

    fn standing(&self, answer: &[u8]) -> Option<Standing> {
        serde_json::from_slice(answer).ok().map(standing)
    }

    fn read_line(&self, _line: &[u8]) -> Option<LineEnd> {
        None
    }
}

fn message(method: Method, target: PathAndQuery, body: Rope) -> Message {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(ACCEPT, json.clone());
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, json);
    }
    Message {
        method,
        target,
        headers,
        body,
    }
}

fn standing(operation: Operation<'_>) -> Standing {
    let metadata = operation.metadata;
    let word = metadata.as_ref().and_then(|told| told.state.as_deref());
    let word = word.unwrap_or_default();
    // The client library and Vertex AI say JOB_STATE where the API says BATCH_STATE.
    let state = match word.rsplit_once("STATE_").map_or(word, |(_, word)| word) {
        "SUCCEEDED" | "PARTIALLY_SUCCEEDED" => BatchState::Done,
        "EXPIRED" | "CANCELLED" => BatchState::Stopped,
        "FAILED" => BatchState::Refused,
        "PENDING" | "QUEUED" => BatchState::Waiting,
        _ if operation.done && operation.error.is_some() => BatchState::Refused,
        _ if operation.done => BatchState::Done,
        _ => BatchState::Running,
    };
    let count = |text: &Option<String>| text.as_deref().and_then(|t| t.parse().ok()).unwrap_or(0);
    let stats = metadata.as_ref().and_then(|told| told.batch_stats.as_ref());
    let failed = stats.map_or(0, |stats| count(&stats.failed_request_count));
    let done = stats.map_or(0, |stats| count(&stats.successful_request_count)) + failed;
    let output = metadata.and_then(|told| told.output).or(operation.response);
    let inlined = output.as_ref().map(inlined).unwrap_or_default();
    Standing {
        job: operation.name,
        state,
        done,
        failed,
        why: operation.error.and_then(|error| error.message),
        files: Vec::new(),
        ends: inlined.iter().filter_map(|text| end(text)).collect(),
    }
}

fn end(text: &RawValue) -> Option<LineEnd> {
    let answered: Answered<'_> = serde_json::from_str(text.get()).ok()?;
    let end = match (answered.response, answered.error) {
        (Some(response), _) => Ok(json_reply(200, response.get())),
        (None, error) => {
            let error = error.unwrap_or(Status {
                code: None,
                message: None,
            });
            let message = error
                .message
                .as_deref()
                .unwrap_or("the request was not run");
            match status_of(error.code) {
                Some(status) => {
                    let body = json!({"error": {"code": status, "message": message}});
                    Ok(json_reply(status, &body.to_string()))
                }
                None => Err(not_run("", message)),
            }
        }
    };
    Some(LineEnd {
        name: answered.metadata?.key,
        end,
    })
}

/// The HTTP status of an error that a call of its own would have had; an RPC code of 4 or 1 says
/// that the batch ended before the line's turn.
fn status_of(code: Option<i64>) -> Option<u16> {
    match code? {
        status @ 400..=599 => u16::try_from(status).ok(),
        3 | 9 | 11 => Some(400),
        5 => Some(404),
        7 => Some(403),
        16 => Some(401),
        8 => Some(429),
        14 => Some(503),
        13 | 2 => Some(500),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{FailureKind, ModelId};

    fn stands(text: &str) -> Standing {
        GeminiBatches.standing(text.as_bytes()).unwrap()
    }

    #[test]
    fn requests_go_along_with_the_order() {
        let request = ImageRequest::new(ModelId::new("google", "gemini-2.5-flash-image"), "a boat");
        let lines = ["a", "b"].map(|name| GeminiBatches.line(name, &request, None).unwrap());
        let order = GeminiBatches.order(&Order {
            label: "catalogue",
            request: &request,
            file: None,
            lines: &lines,
        });
        let order = order.unwrap();
        assert_eq!(
            order.target.as_str(),
            "/v1beta/models/gemini-2.5-flash-image:batchGenerateContent"
        );
        let body: serde_json::Value = serde_json::from_slice(&order.body.to_bytes()).unwrap();
        assert_eq!(body["batch"]["displayName"], "catalogue");
        let requests = &body["batch"]["inputConfig"]["requests"]["requests"];
        assert_eq!(requests[1]["metadata"]["key"], "b");
        assert_eq!(
            requests[0]["request"]["contents"][0]["parts"][0]["text"],
            "a boat"
        );
    }

    #[test]
    fn answers_are_inside_the_operation_wherever_a_version_has_them() {
        let list = r#"[{"response": {"candidates": []}, "metadata": {"key": "sku-1"}},
                       {"error": {"code": 3, "message": "no"}, "metadata": {"key": "sku-2"}},
                       {"error": {"code": 1, "message": "the batch expired"}, "metadata": {"key": "sku-3"}}]"#;
        let texts = [
            format!(
                r#"{{"name": "batches/a", "done": true, "metadata": {{"state": "BATCH_STATE_SUCCEEDED",
                "batchStats": {{"requestCount": "3", "successfulRequestCount": "1", "failedRequestCount": "2"}},
                "output": {{"inlinedResponses": {{"inlinedResponses": {list}}}}}}}}}"#
            ),
            format!(
                r#"{{"name": "batches/a", "done": true, "metadata": {{"state": "JOB_STATE_SUCCEEDED"}},
                "response": {{"inlinedResponses": {list}}}}}"#
            ),
        ];
        for text in &texts {
            let batch = stands(text);
            assert_eq!(batch.state, BatchState::Done, "{text}");
            let [first, second, third] = <[LineEnd; 3]>::try_from(batch.ends).unwrap();
            assert_eq!(
                &first.end.unwrap().body.to_bytes()[..],
                br#"{"candidates": []}"#
            );
            assert_eq!(second.end.unwrap().head.status, 400);
            assert_eq!(third.end.unwrap_err().kind, FailureKind::Timeout);
        }
        assert_eq!((stands(&texts[0]).done, stands(&texts[0]).failed), (3, 2));
    }

    #[test]
    fn a_job_of_another_kind_is_not_asked_about() {
        assert!(GeminiBatches.ask("files/a").is_none());
        assert!(GeminiBatches.ask("batches/../files").is_none());
        assert!(GeminiBatches.ask("batches/abc123").is_some());
    }

    #[test]
    fn vertex_has_no_such_batches() {
        let mut request = ImageRequest::new(ModelId::new("google", "gemini-3-pro-image"), "a");
        let place = "/v1/projects/p/locations/global/publishers/google";
        request.extra.insert("@place".to_owned(), place.into());
        assert!(GeminiBatches.line("a", &request, None).is_err());
    }
}
