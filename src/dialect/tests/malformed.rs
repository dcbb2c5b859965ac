//! Broken in the ways that messages really break: every recorded exchange of every dialect with
//! one fault of each kind. Nothing panics, and what cannot be read says where and why.

use base64::Engine as _;

use super::*;

/// The values of a JSON text, by pointer.
fn places(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.to_owned());
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                let step = name.replace('~', "~0").replace('/', "~1");
                places(value, &format!("{at}/{step}"), into);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                places(value, &format!("{at}/{index}"), into);
            }
        }
        _ => {}
    }
}

/// A JSON text with each of its values in turn of another type, and gone.
fn mistyped(text: &[u8]) -> Vec<Bytes> {
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        return Vec::new();
    };
    let mut at = Vec::new();
    places(&value, "", &mut at);
    let others = [
        json!(null),
        json!(-1.5),
        json!("%%% no base64, no number"),
        json!([[]]),
        json!({"": 0}),
    ];
    let with = |pointer: &String, other: &Value| {
        let mut value = value.clone();
        if let Some(there) = value.pointer_mut(pointer) {
            *there = other.clone();
        }
        Bytes::from(value.to_string())
    };
    at.iter()
        .flat_map(|pointer| others.iter().map(move |other| (pointer, other)))
        .map(|(pointer, other)| with(pointer, other))
        .collect()
}

/// A text cut at some twenty places, the first and last bytes among them.
fn cut(body: &Bytes) -> Vec<Bytes> {
    let step = (body.len() / 20).max(1);
    let ends = (0..body.len()).step_by(step);
    ends.chain(body.len().checked_sub(1))
        .map(|end| body.slice(..end))
        .collect()
}

fn read_asked(case: &Case, head: &RequestHead, body: &Bytes) {
    let operation = case.dialect.claims(head).expect(&case.name);
    case.dialect.asks_for_picture(head, body);
    let provider = case.expect["provider"].as_str().unwrap();
    match case.dialect.read_request(provider, operation, head, body) {
        Ok(request) => {
            if let Err(error) = case.dialect.write_request(&request) {
                assert!(!error.field.is_empty() && !error.why.is_empty());
            }
        }
        Err(error) => {
            assert!(!error.field.is_empty(), "{}", case.name);
            assert!(!error.why.is_empty(), "{}", case.name);
            let refusal = Refusal {
                status: 400,
                kind: FailureKind::Invalid,
                code: None,
                message: error.to_string(),
                retry_after: None,
            };
            let reply = case.dialect.write_refusal(None, &refusal);
            assert_eq!(reply.head.status, StatusCode::BAD_REQUEST, "{}", case.name);
            let told = reply.body.to_bytes();
            assert!(memchr::memmem::find(&told, error.field.as_bytes()).is_some());
        }
    }
}

fn read_answer(case: &Case, head: &ReplyHead, body: &Bytes) {
    for piece in [body.len().max(1), 11] {
        match read(case.dialect, &case.request(), head, body, piece).1 {
            Next::Done(response) => assert!(!response.images.is_empty(), "{}", case.name),
            Next::Failed(failure) => assert!(!failure.message.is_empty(), "{}", case.name),
            Next::Ask { message, .. } => assert!(message.target.as_str().starts_with('/')),
        }
    }
}

#[test]
fn requests_with_one_value_of_another_type_are_read_or_refused_by_field() {
    let mut broken = 0;
    for case in cases().iter().filter(|case| case.asks.is_none()) {
        for body in mistyped(&case.body) {
            read_asked(case, &case.head, &body);
            broken += 1;
        }
    }
    assert!(broken > 1000, "{broken}");
}

#[test]
fn requests_that_were_cut_or_whose_form_is_another_are_read_or_refused_by_field() {
    for case in cases().iter().filter(|case| case.asks.is_none()) {
        for body in cut(&case.body) {
            read_asked(case, &case.head, &body);
        }
        for kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=elsewhere",
            "multipart/form-data; boundary=\"",
            "application/json",
            "text/plain",
        ] {
            let mut head = case.head.clone();
            let kind = HeaderValue::from_static(kind);
            head.headers.insert("content-type", kind);
            read_asked(case, &head, &case.body);
        }
    }
}

#[test]
fn answers_with_one_value_of_another_type_are_read_or_are_failures_with_a_reason() {
    for case in cases() {
        for body in mistyped(&case.answer) {
            read_answer(&case, &case.reply, &body);
        }
        for (start, line) in case.answer.split(|byte| *byte == b'\n').filter_map(|line| {
            let data = line.strip_prefix(b"data: ")?;
            Some((data.as_ptr() as usize - case.answer.as_ptr() as usize, data))
        }) {
            for event in mistyped(line).into_iter().step_by(3) {
                let mut stream = case.answer[..start].to_vec();
                stream.extend_from_slice(&event);
                stream.extend_from_slice(&case.answer[start + line.len()..]);
                read_answer(&case, &case.reply, &stream.into());
            }
        }
    }
}

#[test]
fn answers_that_were_cut_or_are_said_to_be_something_else_are_failures_with_a_reason() {
    for case in cases() {
        for body in cut(&case.answer) {
            read_answer(&case, &case.reply, &body);
        }
        for kind in [
            "text/event-stream",
            "application/json",
            "image/png",
            "text/html",
        ] {
            let mut head = case.reply.clone();
            let kind = HeaderValue::from_static(kind);
            head.headers.insert("content-type", kind);
            read_answer(&case, &head, &case.answer);
        }
    }
}

/// What was compressed and is not said to be, and what is said to be a picture and is none.
#[test]
fn answers_in_bytes_that_mean_nothing_are_failures_or_pictures_of_unknown_format() {
    let noise = base64::engine::general_purpose::STANDARD.encode(b"no picture at all");
    for case in cases() {
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x4b\x04\0".to_vec();
        read_answer(&case, &case.reply, &gzip.into());
        let Ok(text) = std::str::from_utf8(&case.answer) else {
            continue;
        };
        let odd = text.replace("iVBORw0KGgo", "!!not base64");
        read_answer(&case, &case.reply, &odd.into());
        let none = text.replace("iVBORw0KGgo", &noise);
        read_answer(&case, &case.reply, &none.into());
    }
}
