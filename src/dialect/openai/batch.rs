//! OpenAI's batches: a file of lines, an order for it, and files of answers.
//!
//! After the API description of August 2026 (`/v1/files`, `/v1/batches`). Answers come in any order,
//! those without a picture in a file of their own; of a batch whose lines all failed there is no file
//! of answers at all.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::batch::{
    BatchState, Batches, LineEnd, Most, Order, Standing, json_reply, not_run,
};
use super::super::{Unsupported, form, unsupported};
use super::{EDITS, GENERATIONS, json_edit, json_type, target, write_fields};
use crate::image::{ImageRequest, Operation};
use crate::wire::multipart::Part;
use crate::wire::{Message, Rope};

pub(super) struct OpenAiBatches;

const FILES: &str = "/v1/files";
const BATCHES: &str = "/v1/batches";
/// The key of our label in a batch's metadata.
const LABEL: &str = "pixtoll";

/// A batch, as far as it is ours to know.
#[derive(Deserialize)]
struct Batch {
    id: String,
    status: String,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    errors: Option<Errors>,
    request_counts: Option<Counts>,
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Errors {
    #[serde(default)]
    data: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    code: Option<String>,
    message: Option<String>,
    line: Option<u64>,
}

#[derive(Deserialize)]
struct Counts {
    completed: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct List {
    data: Vec<Batch>,
}

#[derive(Deserialize)]
struct File {
    id: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    custom_id: String,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    error: Option<Told>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status_code: u16,
    request_id: Option<String>,
    #[serde(borrow)]
    body: &'a RawValue,
}

impl Batches for OpenAiBatches {
    fn most(&self) -> Most {
        Most {
            lines: 50_000,
            bytes: 200 << 20,
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
        let path = path(request)?;
        let body = match own {
            Some(own) => own.clone(),
            None => body(request)?.to_bytes(),
        };
        // Put together as text: the app's own body stays as it wrote it.
        let mut line = Vec::with_capacity(body.len() + 128);
        let name = json!(name);
        line.extend_from_slice(
            format!(r#"{{"custom_id":{name},"method":"POST","url":"{path}","body":"#).as_bytes(),
        );
        line.extend(body.iter().filter(|byte| !matches!(byte, b'\n' | b'\r')));
        line.push(b'}');
        Ok(line.into())
    }

    fn upload(&self, label: &str, lines: &[Bytes]) -> Option<Message> {
        let mut data = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            data.extend_from_slice(line);
            data.push(b'\n');
        }
        let file = Part {
            name: "file".to_owned(),
            filename: Some(format!("{label}.jsonl")),
            content_type: Some("application/jsonl".to_owned()),
            data: data.into(),
        };
        let (content_type, body) = form::write(&[Part::text("purpose", "batch"), file]);
        Some(message(Method::POST, FILES, Some(content_type), body))
    }

    fn uploaded(&self, answer: &[u8]) -> Option<String> {
        let file: File = serde_json::from_slice(answer).ok()?;
        Some(file.id)
    }

    fn order(&self, order: &Order<'_>) -> Result<Message, Unsupported> {
        let body = json!({
            "input_file_id": order.file,
            "endpoint": path(order.request)?,
            "completion_window": "24h",
            "metadata": {LABEL: order.label},
        });
        let body = Rope::from(body.to_string());
        Ok(message(Method::POST, BATCHES, Some(json_type()), body))
    }

    fn list(&self) -> Message {
        message(Method::GET, "/v1/batches?limit=100", None, Rope::new())
    }

    fn find(&self, label: &str, answer: &[u8]) -> Option<Standing> {
        let list: List = serde_json::from_slice(answer).ok()?;
        let ours = |batch: &Batch| {
            let metadata = batch.metadata.as_ref();
            metadata.and_then(|m| m.get(LABEL)).and_then(|l| l.as_str()) == Some(label)
        };
        list.data.into_iter().find(ours).map(standing)
    }

    fn ask(&self, job: &str) -> Option<Message> {
        let path = target(&format!("{BATCHES}/{}", plain(job)?), None).ok()?;
        Some(message(Method::GET, path.as_str(), None, Rope::new()))
    }

    fn standing(&self, answer: &[u8]) -> Option<Standing> {
        serde_json::from_slice(answer).ok().map(standing)
    }

    fn read_line(&self, line: &[u8]) -> Option<LineEnd> {
        let line: Line<'_> = serde_json::from_slice(line).ok()?;
        let end = match (line.response, line.error) {
            (Some(response), _) => {
                let mut reply = json_reply(response.status_code, response.body.get());
                let id = response.request_id.and_then(|id| id.parse().ok());
                if let Some(id) = id {
                    reply.head.headers.insert("x-request-id", id);
                }
                Ok(reply)
            }
            (None, error) => {
                let error = error.unwrap_or(Told {
                    code: None,
                    message: None,
                    line: None,
                });
                let message = error.message.as_deref().unwrap_or("the line was not run");
                Err(not_run(error.code.as_deref().unwrap_or_default(), message))
            }
        };
        Some(LineEnd {
            name: line.custom_id,
            end,
        })
    }
}

fn path(request: &ImageRequest) -> Result<&'static str, Unsupported> {
    match request.operation {
        Operation::Generate => Ok(GENERATIONS),
        Operation::Edit => Ok(EDITS),
        Operation::Variation | Operation::Upscale => Err(unsupported(
            "operation",
            "batches take generations and edits",
        )),
    }
}

/// A line is JSON, so pictures of an edit go in as data URLs.
fn body(request: &ImageRequest) -> Result<Rope, Unsupported> {
    let fields = write_fields(request);
    match request.operation {
        Operation::Edit => json_edit(request, fields),
        _ => Ok(serde_json::Value::Object(fields).to_string().into()),
    }
}

/// A name that can stand in a path.
fn plain(name: &str) -> Option<&str> {
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (!name.is_empty() && name.chars().all(ok)).then_some(name)
}

fn message(method: Method, path: &str, kind: Option<HeaderValue>, body: Rope) -> Message {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
    Message {
        method,
        target: target(path, None).unwrap_or(http::uri::PathAndQuery::from_static(BATCHES)),
        headers,
        body,
    }
}

fn standing(batch: Batch) -> Standing {
    let state = match batch.status.as_str() {
        "validating" => BatchState::Waiting,
        "completed" => BatchState::Done,
        "expired" | "cancelled" => BatchState::Stopped,
        "failed" => BatchState::Refused,
        _ => BatchState::Running, // in_progress, finalizing, cancelling: the end will come
    };
    let told = batch
        .errors
        .and_then(|errors| errors.data.into_iter().next());
    let why = told.map(|told| {
        let message = told.message.or(told.code).unwrap_or_default();
        match told.line {
            Some(line) => format!("line {line}: {message}"),
            None => message,
        }
    });
    let files = match state.ended() {
        true => vec![batch.output_file_id, batch.error_file_id],
        false => Vec::new(),
    };
    let content = |id: &String| {
        let path = format!("{FILES}/{}/content", plain(id)?);
        Some(message(Method::GET, &path, None, Rope::new()))
    };
    Standing {
        state,
        job: batch.id,
        done: batch
            .request_counts
            .as_ref()
            .map_or(0, |counts| counts.completed + counts.failed),
        failed: batch.request_counts.map_or(0, |counts| counts.failed),
        why,
        files: files.iter().flatten().filter_map(content).collect(),
        ends: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{FailureKind, ModelId};

    fn stands(text: &str) -> Standing {
        OpenAiBatches.standing(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_holds_the_apps_own_body_or_ours() {
        let mut request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a \"boat\"");
        let own = Bytes::from_static(b"{\"prompt\":\"a\",\n \"odd\": 1}");
        let line = OpenAiBatches.line("7", &request, Some(&own)).unwrap();
        assert_eq!(
            std::str::from_utf8(&line).unwrap(),
            r#"{"custom_id":"7","method":"POST","url":"/v1/images/generations","body":{"prompt":"a", "odd": 1}}"#
        );
        let line = OpenAiBatches.line("7", &request, None).unwrap();
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["body"]["prompt"], "a \"boat\"");
        request.stream = true;
        assert_eq!(
            OpenAiBatches.line("7", &request, None).unwrap_err().field,
            "stream"
        );
    }

    #[test]
    fn a_batch_of_failures_alone_has_no_file_of_answers() {
        let batch = stands(
            r#"{"id": "batch_1", "object": "batch", "status": "completed", "output_file_id": null,
                "error_file_id": "file-e", "request_counts": {"total": 2, "completed": 0, "failed": 2}}"#,
        );
        assert_eq!(
            (batch.state, batch.done, batch.failed),
            (BatchState::Done, 2, 2)
        );
        let paths: Vec<String> = batch.files.iter().map(|m| m.target.to_string()).collect();
        assert_eq!(paths, ["/v1/files/file-e/content"]);
    }

    #[test]
    fn states_are_told_apart() {
        let check = |status: &str, state: BatchState| {
            let text = format!(r#"{{"id": "b", "status": "{status}"}}"#);
            assert_eq!(stands(&text).state, state, "{status}");
        };
        check("validating", BatchState::Waiting);
        check("in_progress", BatchState::Running);
        check("finalizing", BatchState::Running);
        check("cancelling", BatchState::Running);
        check("completed", BatchState::Done);
        check("expired", BatchState::Stopped);
        check("cancelled", BatchState::Stopped);
        check("failed", BatchState::Refused);
        let failed = stands(
            r#"{"id": "b", "status": "failed", "errors": {"object": "list", "data": [
                {"code": "invalid_json_line", "message": "is no JSON", "param": null, "line": 3}]}}"#,
        );
        assert_eq!(failed.why.as_deref(), Some("line 3: is no JSON"));
    }

    #[test]
    fn lines_come_back_by_name_with_their_answer_or_why_there_is_none() {
        let read = |text: &str| OpenAiBatches.read_line(text.as_bytes()).unwrap();
        let good = read(
            r#"{"id": "batch_req_1", "custom_id": "b", "response": {"status_code": 200,
                "request_id": "req_1", "body": {"data": [ {"b64_json": "aa"} ]}}, "error": null}"#,
        );
        let reply = good.end.unwrap();
        assert_eq!(
            &reply.body.to_bytes()[..],
            br#"{"data": [ {"b64_json": "aa"} ]}"#
        );
        assert_eq!(reply.head.header("x-request-id"), Some("req_1"));
        let late = read(
            r#"{"id": "batch_req_2", "custom_id": "c", "response": null, "error": {"code": "batch_expired",
                "message": "This request could not be executed before the completion window expired."}}"#,
        );
        let failure = late.end.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Timeout);
        assert!(!failure.may_pay_twice());
        assert!(OpenAiBatches.read_line(b"{\"custom_id\": ").is_none());
    }

    #[test]
    fn a_lost_order_is_found_by_its_label_alone() {
        let list = r#"{"object": "list", "data": [
            {"id": "batch_1", "status": "in_progress", "metadata": {"pixtoll": "other"}},
            {"id": "batch_2", "status": "completed", "metadata": null},
            {"id": "batch_3", "status": "validating", "metadata": {"pixtoll": "mine"}}]}"#;
        let find = |label| {
            OpenAiBatches
                .find(label, list.as_bytes())
                .map(|batch| batch.job)
        };
        assert_eq!(find("mine").as_deref(), Some("batch_3"));
        assert_eq!(find("none"), None);
    }

    #[test]
    fn a_job_whose_name_is_a_path_is_not_asked_about() {
        assert!(OpenAiBatches.ask("../files/x").is_none());
        assert!(OpenAiBatches.ask("batch_68-A").is_some());
    }
}
