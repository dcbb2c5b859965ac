//! Words pictures for a caller of the Responses API.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::super::super::{Undeliverable, picture};
use super::super::wording::{shared, usage};
use super::BODY;
use crate::image::{Image, ImageRequest, ImageResponse};
use crate::wire::{Reply, ReplyHead, Rope};

/// The answer for `asked`: one JSON text, or the events that bring it.
pub(super) fn response(
    asked: &ImageRequest,
    response: &ImageResponse,
) -> Result<Reply, Undeliverable> {
    let items = response.images.iter().enumerate();
    let items: Vec<Rope> = items
        .map(|(at, image)| item(at, image, response))
        .collect::<Result<_, _>>()?;
    let whole = whole(asked, response, &items);
    if !asked.stream {
        return Ok(Reply {
            head: ReplyHead::new(StatusCode::OK, "application/json"),
            body: whole,
        });
    }
    let mut body = Rope::new();
    let mut count = 0;
    let mut event = |body: &mut Rope, kind: &str, name: &str, value: &Rope, more: &str| {
        body.push(format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{count}{more},\"{name}\":"
        ));
        body.append(value);
        body.push(Bytes::from_static(b"}\n\n"));
        count += 1;
    };
    let begun = Rope::from(begun(asked, response, "in_progress").to_string());
    event(&mut body, "response.created", "response", &begun, "");
    for (at, item) in items.iter().enumerate() {
        let more = format!(",\"output_index\":{at}");
        event(&mut body, "response.output_item.done", "item", item, &more);
    }
    event(&mut body, "response.completed", "response", &whole, "");
    Ok(Reply {
        head: ReplyHead::new(StatusCode::OK, "text/event-stream; charset=utf-8"),
        body,
    })
}

/// One picture as an item; its bytes are shared.
fn item(at: usize, image: &Image, response: &ImageResponse) -> Result<Rope, Undeliverable> {
    let mut fields = shared(response);
    fields.insert("type".to_owned(), "image_generation_call".into());
    fields.insert("id".to_owned(), format!("ig_{at}").into());
    fields.insert("status".to_owned(), "completed".into());
    if let Some(prompt) = &image.revised_prompt {
        fields.insert("revised_prompt".to_owned(), prompt.as_str().into());
    }
    let mut head = Value::Object(fields).to_string();
    head.pop();
    let mut item = Rope::from(head);
    item.push(Bytes::from_static(b",\"result\":\""));
    item.append(&picture::on_one_line(picture::base64(&image.picture)?));
    item.push(Bytes::from_static(b"\"}"));
    Ok(item)
}

/// Everything but what was made.
fn begun(asked: &ImageRequest, response: &ImageResponse, status: &str) -> Value {
    let body = asked.extra.get(BODY).unwrap_or(&Value::Null);
    let id = response.codes.request_id.as_deref().unwrap_or("0");
    json!({
        "id": format!("resp_{id}"),
        "object": "response",
        "created_at": response.created.unwrap_or(0),
        "status": status,
        "model": body["model"],
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "metadata": {},
        "parallel_tool_calls": true,
        "tool_choice": body["tool_choice"],
        "tools": body["tools"],
    })
}

/// No text model spoke here, so there is no `usage` of one.
fn whole(asked: &ImageRequest, response: &ImageResponse, items: &[Rope]) -> Rope {
    let mut head = begun(asked, response, "completed").to_string();
    head.pop();
    let mut body = Rope::from(head);
    body.push(Bytes::from_static(b",\"output\":["));
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            body.push(Bytes::from_static(b","));
        }
        body.append(item);
    }
    body.push(Bytes::from_static(b"]"));
    if let Some(usage) = usage(&response.usage) {
        body.push(format!(",\"tool_usage\":{{\"image_gen\":{usage}}}"));
    }
    body.push(Bytes::from_static(b"}"));
    body
}
