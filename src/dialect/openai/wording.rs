//! Words answers and refusals for a caller of the OpenAI dialect.

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::super::{Refusal, Undeliverable, head, picture};
use super::is_dalle;
use crate::bill::Usage;
use crate::image::{
    Delivery, FailureKind, Format, Image, ImageRequest, ImageResponse, Operation, Picture,
};
use crate::wire::{Reply, ReplyHead, Rope};

/// The answer for `asked`: one JSON text, or one event for each picture.
pub(super) fn response(
    asked: &ImageRequest,
    response: &ImageResponse,
) -> Result<Reply, Undeliverable> {
    if asked.stream {
        events(asked, response)
    } else {
        whole(asked, response)
    }
}

fn whole(asked: &ImageRequest, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let mut body = Rope::from(format!("{{\"created\":{}", response.created.unwrap_or(0)));
    let mut shared = shared(response);
    if let Some(background) = shared.remove("background") {
        body.push(format!(",\"background\":{background}"));
    }
    body.push(Bytes::from_static(b",\"data\":["));
    for (at, image) in response.images.iter().enumerate() {
        body.push(Bytes::from_static(if at > 0 { b",{" } else { b"{" }));
        push_picture(&mut body, asked.delivery, image)?;
        if let Some(prompt) = &image.revised_prompt {
            body.push(format!(",\"revised_prompt\":{}", json!(prompt)));
        }
        body.push(Bytes::from_static(b"}"));
    }
    body.push(Bytes::from_static(b"]"));
    push_fields(&mut body, &shared);
    if let Some(usage) = usage(&response.usage) {
        body.push(format!(",\"usage\":{usage}"));
    }
    body.push(Bytes::from_static(b"}"));
    Ok(Reply {
        head: ReplyHead::new(StatusCode::OK, "application/json"),
        body,
    })
}

fn push_picture(body: &mut Rope, delivery: Delivery, image: &Image) -> Result<(), Undeliverable> {
    match (delivery, &image.picture) {
        (Delivery::Url, Picture::Url(url)) => body.push(format!("\"url\":{}", json!(url))),
        (Delivery::Url, _) => {
            let why = "the caller wants a URL, and the picture lies at none";
            return Err(Undeliverable(why.to_owned()));
        }
        (Delivery::Base64 | Delivery::Bytes, picture) => {
            body.push(Bytes::from_static(b"\"b64_json\":\""));
            body.append(&picture::base64(picture)?);
            body.push(Bytes::from_static(b"\""));
        }
    }
    Ok(())
}

/// A stream has pictures in base64 alone, whatever the caller said of delivery.
fn events(asked: &ImageRequest, response: &ImageResponse) -> Result<Reply, Undeliverable> {
    let name = match asked.operation {
        Operation::Edit => "image_edit.completed",
        _ => "image_generation.completed",
    };
    let shared = shared(response);
    let mut body = Rope::new();
    for (at, image) in response.images.iter().enumerate() {
        let text = picture::on_one_line(picture::base64(&image.picture)?);
        body.push(format!(
            "event: {name}\ndata: {{\"type\":\"{name}\",\"b64_json\":\""
        ));
        body.append(&text);
        let created = response.created.unwrap_or(0);
        body.push(format!("\",\"created_at\":{created}"));
        push_fields(&mut body, &shared);
        // The counts cover all pictures, and stand once.
        let last = at + 1 == response.images.len();
        if let Some(usage) = usage(&response.usage).filter(|_| last) {
            body.push(format!(",\"usage\":{usage}"));
        }
        body.push(Bytes::from_static(b"}\n\n"));
    }
    Ok(Reply {
        head: ReplyHead::new(StatusCode::OK, "text/event-stream; charset=utf-8"),
        body,
    })
}

fn push_fields(body: &mut Rope, fields: &Map<String, Value>) {
    for (name, value) in fields {
        body.push(format!(",\"{name}\":{value}"));
    }
}

/// What all pictures have in common, where it is known. The format is what the file says.
pub(super) fn shared(response: &ImageResponse) -> Map<String, Value> {
    let resolved = &response.resolved;
    let found = response.images.first().map(|image| image.format);
    let format = match found {
        None | Some(Format::Unknown) => resolved.format.clone(),
        Some(format) => Some(format.as_str().to_owned()),
    };
    let fields = [
        ("background", resolved.background.clone()),
        ("output_format", format),
        ("quality", resolved.quality.clone()),
        (
            "size",
            resolved.size.clone().or_else(|| common_size(response)),
        ),
    ];
    fields
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), Value::String(text?))))
        .collect()
}

fn common_size(response: &ImageResponse) -> Option<String> {
    let sizes = response.sizes();
    let first = sizes.first()?;
    let same = sizes.len() == response.images.len() && sizes.iter().all(|size| size == first);
    same.then(|| first.clone())
}

/// The counts in this dialect; `None` where no tokens were told, since an invented zero would be
/// read as a real one.
pub(super) fn usage(usage: &Usage) -> Option<Value> {
    if !usage.has_tokens() {
        return None;
    }
    let [text_in, image_in, text_out, image_out] = [
        usage.text_in,
        usage.image_in,
        usage.text_out,
        usage.image_out,
    ]
    .map(|count| count.unwrap_or(0));
    let (input, output) = (
        text_in.saturating_add(image_in),
        text_out.saturating_add(image_out),
    );
    let mut told = json!({
        "input_tokens": input,
        "input_tokens_details": {"text_tokens": text_in, "image_tokens": image_in},
        "output_tokens": output,
        "total_tokens": input.saturating_add(output),
    });
    if usage.text_out.is_some() {
        told["output_tokens_details"] = json!({"text_tokens": text_out, "image_tokens": image_out});
    }
    Some(told)
}

/// A plain JSON error, for a streaming caller too: its head has not been sent yet.
pub(super) fn refusal(asked: Option<&ImageRequest>, refusal: &Refusal) -> Reply {
    let dalle = asked.is_some_and(|asked| is_dalle(&asked.model));
    let (kind, code) = words(refusal.kind, dalle);
    // Clients look for moderation under 400 and these very codes.
    let (status, code) = match refusal.kind {
        FailureKind::Safety => (400, code),
        _ => (refusal.status, refusal.code.as_deref().or(code)),
    };
    let error = json!({"error": {
        "message": refusal.message,
        "type": kind,
        "param": (refusal.kind == FailureKind::Retired).then_some("model"),
        "code": code,
    }});
    Reply {
        head: head::refusal(status, refusal),
        body: error.to_string().into(),
    }
}

/// Type and code that client libraries and apps test.
fn words(kind: FailureKind, dalle: bool) -> (&'static str, Option<&'static str>) {
    let invalid = "invalid_request_error";
    let server = "server_error";
    match kind {
        FailureKind::Safety if dalle => (invalid, Some("content_policy_violation")),
        FailureKind::Safety => ("image_generation_user_error", Some("moderation_blocked")),
        FailureKind::RateLimited => ("requests", Some("rate_limit_exceeded")),
        FailureKind::Quota => ("insufficient_quota", Some("insufficient_quota")),
        FailureKind::Auth => (invalid, Some("invalid_api_key")),
        FailureKind::Retired => (invalid, Some("model_not_found")),
        FailureKind::Permission | FailureKind::Invalid | FailureKind::TooLarge => (invalid, None),
        FailureKind::Overloaded => (server, Some("overloaded")),
        FailureKind::Timeout => (server, Some("timeout")),
        FailureKind::Network
        | FailureKind::NoImage
        | FailureKind::Server
        | FailureKind::Unknown => (server, Some("server_error")),
    }
}
