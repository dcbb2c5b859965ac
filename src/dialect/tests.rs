//! Walks the recorded messages: every dialect reads them as expected, however they arrive, and
//! reads back what any dialect words.

mod azure;
mod google;
mod malformed;
mod responses;
mod stability_v1;
mod taxonomy;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::bill::Usage;
use crate::image::{
    Billed, Delivery, Image, InputSource, ModelId, Picture, Quality, Safety, Size, Tier,
};

// The fixtures.

#[derive(Clone)]
struct Case {
    name: String,
    dialect: &'static dyn Dialect,
    /// Of the call; where the exchange asks about a job, of the call that began it.
    head: RequestHead,
    body: Bytes,
    /// Of what asks about a job.
    asks: Option<RequestHead>,
    reply: ReplyHead,
    answer: Bytes,
    expect: Value,
}

/// Read once: the proofs by chance ask for them hundreds of times.
fn cases() -> Vec<Case> {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(read_cases);
    CASES.clone()
}

fn read_cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect");
    let mut cases = Vec::new();
    for dialect in ALL {
        let mut folders: Vec<PathBuf> = std::fs::read_dir(root.join(dialect.name()))
            .unwrap_or_else(|_| panic!("{} has no fixtures", dialect.name()))
            .map(|entry| entry.unwrap().path())
            .collect();
        folders.sort();
        cases.extend(folders.iter().map(|folder| case(*dialect, folder)));
    }
    cases
}

fn case(dialect: &'static dyn Dialect, folder: &Path) -> Case {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let expect: Value = serde_json::from_slice(&read("expect.json")).unwrap();
    let (own, body) = request(read("request.http"));
    let (head, body, asks) = match expect["submit"].as_str() {
        None => (own, body, None),
        Some(sibling) => {
            let (head, body) = request(read(&format!("../{sibling}/request.http")));
            (head, body, Some(own))
        }
    };
    let (line, reply, answer) = message(read("answer.http"));
    let status = line.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
    let folder = folder.file_name().unwrap().to_string_lossy();
    Case {
        expect,
        name: format!("{}/{folder}", dialect.name()),
        dialect,
        head,
        body,
        asks,
        reply: ReplyHead {
            status: StatusCode::from_u16(status).unwrap(),
            headers: reply,
        },
        answer,
    }
}

fn request(raw: Vec<u8>) -> (RequestHead, Bytes) {
    let (first, mut headers, body) = message(raw);
    let mut words = first.split(' ');
    let method: Method = words.next().unwrap().parse().unwrap();
    let target = words.next().unwrap().parse().unwrap();
    let host = headers.remove("host").unwrap().to_str().unwrap().to_owned();
    let head = RequestHead {
        method,
        host,
        target,
        headers,
    };
    (head, body)
}

fn message(raw: Vec<u8>) -> (String, HeaderMap, Bytes) {
    let end = memchr::memmem::find(&raw, b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        })
        .collect();
    (first, headers, Bytes::copy_from_slice(&raw[end + 4..]))
}

impl Case {
    fn request(&self) -> ImageRequest {
        let operation = self.dialect.claims(&self.head).expect(&self.name);
        let provider = self.expect["provider"].as_str().unwrap();
        self.dialect
            .read_request(provider, operation, &self.head, &self.body)
            .expect(&self.name)
    }

    fn next(&self, cut: usize) -> (bool, Next) {
        read(
            self.dialect,
            &self.request(),
            &self.reply,
            &self.answer,
            cut,
        )
    }

    fn response(&self) -> Option<ImageResponse> {
        match self.next(usize::MAX).1 {
            Next::Done(response) => Some(*response),
            _ => None,
        }
    }
}

/// What an answer in pieces of `cut` bytes turns out to be, and whether it was passed before.
fn read(
    dialect: &dyn Dialect,
    request: &ImageRequest,
    head: &ReplyHead,
    body: &Bytes,
    cut: usize,
) -> (bool, Next) {
    let mut reader = dialect.reader(request, head);
    let mut rope = Rope::new();
    let mut passed = false;
    for start in (0..body.len()).step_by(cut.min(body.len().max(1))) {
        let piece = body.slice(start..start.saturating_add(cut).min(body.len()));
        let progress = reader.feed(&piece);
        assert!(
            !passed || progress == Progress::Pass,
            "an answer that was passed is taken back"
        );
        passed = progress == Progress::Pass;
        rope.push(piece);
    }
    (passed, reader.finish(&rope))
}

/// What is set in a request, in the words of `expect.json`.
fn told(request: &ImageRequest) -> Value {
    let inputs: Vec<String> = request
        .inputs
        .iter()
        .map(|input| match &input.source {
            InputSource::Bytes(_) => format!("{} bytes {}", input.role, input.format),
            InputSource::Url(_) => format!("{} url", input.role),
            InputSource::FileId(_) => format!("{} file_id", input.role),
        })
        .collect();
    let all = json!({
        "operation": request.operation, "model": request.model, "size": request.size.to_string(),
        "n": request.n, "quality": request.quality, "style": request.style,
        "background": request.background, "negative_prompt": request.negative_prompt,
        "seed": request.seed, "steps": request.steps,
        "guidance": request.guidance.as_ref().map(ToString::to_string),
        "strength": request.strength.as_ref().map(ToString::to_string),
        "safety": request.safety, "format": request.format, "compression": request.compression,
        "delivery": request.delivery, "stream": request.stream.then_some(true),
        "partial_images": (request.partial_images > 0).then_some(request.partial_images),
        "user": request.user, "inputs": (!inputs.is_empty()).then_some(inputs),
        "extra": (!request.extra.is_empty()).then_some(&request.extra),
    });
    let Value::Object(all) = all else {
        unreachable!("an object literal")
    };
    Value::Object(all.into_iter().filter(|(_, v)| !v.is_null()).collect())
}

fn told_usage(usage: &Usage) -> Value {
    let counts = [
        ("text_in", usage.text_in),
        ("image_in", usage.image_in),
        ("text_out", usage.text_out),
        ("image_out", usage.image_out),
    ];
    let told = counts
        .iter()
        .filter_map(|(name, count)| Some(((*name).to_owned(), json!((*count)?))));
    Value::Object(told.collect::<Map<_, _>>())
}

/// What an answer tells, with all keys that `expect.json` may have.
fn told_answer(passed: bool, next: &Next) -> Value {
    match next {
        Next::Done(response) => json!({
            "outcome": "ok", "passed": passed,
            "images": response.images.len(),
            "formats": response.images.iter().map(|i| i.format).collect::<Vec<_>>(),
            "sizes": response.sizes(),
            "seeds": response.images.iter().map(|i| i.seed).collect::<Vec<_>>(),
            "revised_prompt": response.images[0].revised_prompt,
            "created": response.created,
            "request_id": response.codes.request_id,
            "withheld": response.withheld,
            "usage": told_usage(&response.usage),
            "credits": response.usage.credits, "units": response.usage.units,
            "millis": response.usage.millis,
            "reported": response.usage.reported.map(|usd| usd.to_string()),
            "resolved": {
                "size": response.resolved.size, "quality": response.resolved.quality,
                "background": response.resolved.background, "format": response.resolved.format,
            },
            "codes": told_codes(&response.codes),
        }),
        Next::Failed(failure) => json!({
            "outcome": failure.kind, "passed": passed, "billed": failure.billed,
            "status": failure.status, "code": failure.code, "message": failure.message,
            "retry_after_ms": failure.retry_after.map(|wait| wait.as_millis() as u64),
            "safety_at": failure.safety.as_ref().and_then(|block| block.at),
            "categories": failure.safety.as_ref().map(|block| block.categories.clone()),
        }),
        Next::Ask {
            after,
            message,
            job,
        } => json!({
            "outcome": "ask", "passed": passed, "job": job.id, "host": job.host,
            "after_ms": after.as_millis() as u64,
            "method": message.method.as_str(), "target": message.target.as_str(),
            "credits": job.usage.credits,
            "reported": job.usage.reported.map(|usd| usd.to_string()),
            "codes": told_codes(&job.codes),
        }),
    }
}

fn told_codes(codes: &crate::bill::Codes) -> Value {
    codes
        .entries
        .iter()
        .map(|(name, text)| (name.to_string(), json!(text)))
        .collect()
}

// The walk.

#[test]
fn every_recorded_request_is_read_as_expected() {
    for case in cases().iter().filter(|case| case.asks.is_none()) {
        assert_eq!(
            told(&case.request()),
            case.expect["request"],
            "{}",
            case.name
        );
    }
}

#[test]
fn every_question_about_a_job_is_known_and_no_call_is_taken_for_one() {
    for case in cases() {
        let Some(asks) = &case.asks else {
            assert_eq!(case.dialect.job_call(&case.head), None, "{}", case.name);
            continue;
        };
        assert_eq!(case.dialect.claims(asks), None, "{}", case.name);
        let call = case.dialect.job_call(asks).expect(&case.name);
        let asks = format!("{:?}", call.asks).to_lowercase();
        let told = json!({"id": call.id, "asks": asks});
        assert_eq!(told, case.expect["job"], "{}", case.name);
    }
}

/// What a caller makes of a job of ours: its reader says which question comes next, and that
/// question is known as one about this job.
#[test]
fn a_job_of_ours_is_followed_to_its_picture() {
    for dialect in ALL
        .iter()
        .filter(|dialect| dialect.url_life().is_some() || dialect.name() == "fal")
    {
        let mut asked = ImageRequest::new(ModelId::new(dialect.name(), "acme/draw/fast"), "x");
        asked.delivery = Delivery::Url;
        let job = JobPlace {
            id: "01JOB",
            base: "https://api.bfl.ai",
        };
        let next = |asks, state| {
            let reply = dialect.write_job(&asked, job, asks, state).unwrap();
            read(*dialect, &asked, &reply.head, &reply.body.to_bytes(), 9).1
        };
        let question = |next: &Next| {
            let Next::Ask { message, job, .. } = next else {
                panic!("{}: {next:?}", dialect.name())
            };
            assert_eq!(job.id, "01JOB");
            let head = RequestHead {
                method: message.method.clone(),
                host: "h".to_owned(),
                target: message.target.clone(),
                headers: HeaderMap::new(),
            };
            let call = dialect.job_call(&head).unwrap();
            assert_eq!(call.id, "01JOB");
            call.asks
        };
        let first = question(&next(None, JobState::Running));
        assert_eq!(question(&next(Some(first), JobState::Running)), first);
        let response = one_picture(Picture::Url("https://a.test/x.png".to_owned()));
        let done = JobState::Done(&response);
        let second = match next(Some(first), done) {
            Next::Ask { .. } => question(&next(Some(first), done)),
            _ => first,
        };
        let Next::Done(got) = next(Some(second), done) else {
            panic!("{}", dialect.name())
        };
        assert_eq!(bytes_of(&got.images[0]), "https://a.test/x.png");
        let refusal = Refusal {
            status: 500,
            kind: FailureKind::Safety,
            code: None,
            message: "no".to_owned(),
            retry_after: None,
        };
        let Next::Failed(failure) = next(Some(second), JobState::Failed(&refusal)) else {
            panic!("{}", dialect.name())
        };
        assert_eq!(failure.kind, FailureKind::Safety, "{}", dialect.name());
    }
}

#[test]
fn who_asks_later_and_whether_somebody_is_called_is_known() {
    for case in cases() {
        let Some(expected) = case.expect.get("submits") else {
            continue;
        };
        let submit = case.dialect.submits(&case.head, &case.request()).unwrap();
        let told = json!({"wait_s": submit.wait.as_secs(), "webhook": submit.webhook});
        assert_eq!(&told, expected, "{}", case.name);
    }
}

#[test]
fn every_recorded_answer_is_read_as_expected_however_it_is_cut() {
    for case in cases()
        .iter()
        .filter(|case| case.expect.get("answer").is_some())
    {
        for cut in [1, 7, 64 * 1024] {
            let (passed, next) = case.next(cut);
            let told = told_answer(passed, &next);
            for (key, expected) in case.expect["answer"].as_object().unwrap() {
                let got = match (key.as_str(), expected) {
                    ("codes", Value::Object(some)) => some
                        .keys()
                        .map(|name| (name.clone(), told["codes"][name].clone()))
                        .collect(),
                    _ => told[key].clone(),
                };
                assert_eq!(
                    &got, expected,
                    "{key} of {} in pieces of {cut}: {next:?}",
                    case.name
                );
            }
        }
    }
}

#[test]
fn a_request_that_is_worded_again_is_read_as_the_same() {
    for case in cases() {
        let asked = case.request();
        let message = case.dialect.write_request(&asked).expect(&case.name);
        assert_eq!(
            without_names(again(case.dialect, &asked, message)),
            without_names(asked),
            "{}",
            case.name
        );
    }
}

/// Reads a message for a provider as though an app had sent it.
fn again(dialect: &dyn Dialect, asked: &ImageRequest, message: Message) -> ImageRequest {
    let head = RequestHead {
        method: message.method,
        host: "api.example.test".to_owned(),
        target: message.target,
        headers: message.headers,
    };
    let operation = dialect.claims(&head).unwrap();
    let provider = asked.model.provider();
    dialect
        .read_request(provider, operation, &head, &message.body.to_bytes())
        .unwrap()
}

/// A form must name its files; JSON cannot.
fn without_names(mut request: ImageRequest) -> ImageRequest {
    for input in &mut request.inputs {
        input.name = None;
    }
    request
}

#[test]
fn every_response_reaches_every_caller_with_the_same_pictures() {
    let cases = cases();
    for (case, response) in cases
        .iter()
        .filter_map(|case| Some((case, case.response()?)))
    {
        for other in &cases {
            let asked = other.request();
            let Ok(reply) = other.dialect.write_response(&asked, &response) else {
                let by_url = |image: &Image| matches!(image.picture, Picture::Url(_));
                let url_wanted = asked.delivery == Delivery::Url && !asked.stream;
                let at_urls = response.images.iter().all(by_url);
                assert_ne!(url_wanted, at_urls, "{} for {}", case.name, other.name);
                continue;
            };
            let body = reply.body.to_bytes();
            let (_, next) = read(other.dialect, &asked, &reply.head, &body, 1000);
            let Next::Done(got) = next else {
                panic!("{} for {}: {next:?}", case.name, other.name)
            };
            // The newer routes of Stability, and BFL, bring one picture; a body that is the picture
            // has room for one.
            let one = ["stability", "bfl"].contains(&other.dialect.name())
                || asked.delivery == Delivery::Bytes;
            let most = if one { 1 } else { response.images.len() };
            assert_eq!(got.images.len(), most, "{} for {}", case.name, other.name);
            for (got, sent) in got.images.iter().zip(&response.images) {
                assert_eq!(
                    bytes_of(got),
                    bytes_of(sent),
                    "{} for {}",
                    case.name,
                    other.name
                );
                // An address tells nothing of the picture; its ending may tell the format.
                let by_url = matches!(got.picture, Picture::Url(_));
                if !by_url || got.width.is_some() {
                    assert_eq!(
                        (got.format, got.width),
                        (sent.format, sent.width),
                        "{}",
                        other.name
                    );
                }
            }
            if other.dialect.name() == "openai" {
                assert_eq!(got.usage.has_tokens(), response.usage.has_tokens());
            }
        }
    }
}

fn bytes_of(image: &Image) -> Bytes {
    match &image.picture {
        Picture::Url(url) => url.clone().into(),
        other => picture::raw(other).unwrap().to_bytes(),
    }
}

#[test]
fn a_refusal_is_read_back_as_its_own_kind() {
    let statuses = [
        (FailureKind::Safety, 403),
        (FailureKind::RateLimited, 429),
        (FailureKind::Quota, 402),
        (FailureKind::Auth, 401),
        (FailureKind::Permission, 403),
        (FailureKind::Invalid, 400),
        (FailureKind::Retired, 404),
        (FailureKind::TooLarge, 413),
        (FailureKind::Timeout, 504),
        (FailureKind::Overloaded, 503),
        (FailureKind::Server, 500),
    ];
    for dialect in ALL {
        for (kind, status) in statuses {
            let refusal = Refusal {
                status,
                kind,
                code: None,
                message: "no, and \"why\"".to_owned(),
                retry_after: Some(Duration::from_millis(1500)),
            };
            let reply = dialect.write_refusal(None, &refusal);
            let asked = ImageRequest::new(ModelId::new(dialect.name(), "gpt-image-2"), "x");
            let body = reply.body.to_bytes();
            let Next::Failed(failure) = read(*dialect, &asked, &reply.head, &body, 7).1 else {
                panic!("{kind}")
            };
            assert_eq!(failure.kind, kind, "{}", dialect.name());
            assert_eq!(failure.message, refusal.message);
            assert_eq!(failure.retry_after, Some(Duration::from_secs(2)));
        }
    }
}

#[test]
fn a_refusal_has_the_codes_that_clients_test() {
    let error = |model: &str, kind, status| {
        let mut asked = asked("openai");
        asked.model = ModelId::new("openai", model);
        let refusal = Refusal {
            status,
            kind,
            code: Some("theirs".to_owned()),
            message: "no".to_owned(),
            retry_after: None,
        };
        let reply = by_name("openai")
            .unwrap()
            .write_refusal(Some(&asked), &refusal);
        let body: Value = serde_json::from_slice(&reply.body.to_bytes()).unwrap();
        let code = body["error"]["code"].as_str().unwrap().to_owned();
        (reply.head.status.as_u16(), code)
    };
    let check = |got: (u16, String), status, code: &str| assert_eq!(got, (status, code.to_owned()));
    let safety = FailureKind::Safety;
    check(error("gpt-image-2", safety, 403), 400, "moderation_blocked");
    check(
        error("dall-e-3", safety, 422),
        400,
        "content_policy_violation",
    );
    check(error("gpt-image-2", FailureKind::Quota, 402), 402, "theirs");
    check(
        error("gpt-image-2", FailureKind::Server, 200),
        502,
        "theirs",
    );
}

#[test]
fn a_stream_brings_one_event_a_picture_and_the_counts_once() {
    let mut asked = asked("openai");
    asked.stream = true;
    let mut response = one_picture(Picture::Raw(large_picture().into()));
    response.images.push(response.images[0].clone());
    response.usage.image_out = Some(392);
    let reply = by_name("openai")
        .unwrap()
        .write_response(&asked, &response)
        .unwrap();
    let text = String::from_utf8(reply.body.to_bytes().to_vec()).unwrap();
    assert_eq!(
        text.matches("event: image_generation.completed\n").count(),
        2
    );
    assert_eq!(text.matches("\"output_tokens\":392").count(), 1);
    let (_, next) = read(
        by_name("openai").unwrap(),
        &asked,
        &reply.head,
        &text.into(),
        999,
    );
    let Next::Done(got) = next else {
        panic!("{next:?}")
    };
    assert_eq!((got.images.len(), got.usage.image_out), (2, Some(392)));
}

#[test]
fn an_error_after_the_first_of_two_pictures_leaves_the_first() {
    let picture = picture::encode(&large_picture().into()).to_bytes();
    let picture = std::str::from_utf8(&picture).unwrap();
    let body = format!(
        "data: {{\"type\":\"image_generation.completed\",\"b64_json\":\"{picture}\",\"usage\":{{\"output_tokens\":196}}}}\n\nevent: error\ndata: {{\"type\":\"error\",\"error\":{{\"code\":\"moderation_blocked\",\"message\":\"no\"}}}}\n\n"
    );
    let mut asked = asked("openai");
    asked.n = 2;
    let head = ReplyHead::new(StatusCode::OK, "text/event-stream");
    let (passed, next) = read(
        by_name("openai").unwrap(),
        &asked,
        &head,
        &body.into(),
        4096,
    );
    let Next::Done(got) = next else {
        panic!("{next:?}")
    };
    assert!(passed);
    assert_eq!((got.images.len(), got.withheld), (1, 1));
    assert_eq!(got.usage.image_out, Some(196));
    assert_eq!(got.codes.get("stream.error"), Some("moderation_blocked"));
}

#[test]
fn an_answer_without_a_picture_keeps_its_counts_for_its_charge() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "openai/no-data");
    let (_, next) = case.unwrap().next(usize::MAX);
    let Next::Failed(failure) = next else {
        panic!("{next:?}")
    };
    let counts = (failure.usage.text_in, failure.usage.image_out);
    assert_eq!(counts, (Some(9), Some(0)));
}

#[test]
fn bytes_that_fall_short_of_their_announced_length_are_a_failure() {
    let mut head = ReplyHead::new(StatusCode::OK, "image/png");
    head.headers
        .insert("content-length", HeaderValue::from_static("400000"));
    let stability = by_name("stability").unwrap();
    let (_, next) = read(stability, &asked("stability"), &head, &large_picture(), 999);
    assert!(
        matches!(&next, Next::Failed(failure) if failure.billed == Billed::Unknown),
        "{next:?}"
    );
}

// A picture of some size.

/// A PNG header and much behind it.
fn large_picture() -> Bytes {
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x04\0\0\0\x04\0\x08\x02".to_vec();
    file.extend((0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8));
    file.into()
}

fn one_picture(picture: Picture) -> ImageResponse {
    ImageResponse {
        model: ModelId::new("stability", "sd3.5-large"),
        created: Some(7),
        images: vec![picture::image(picture, crate::image::Format::Unknown).unwrap()],
        withheld: 0,
        resolved: Default::default(),
        usage: Usage::default(),
        codes: Default::default(),
    }
}

fn asked(dialect: &str) -> ImageRequest {
    ImageRequest::new(ModelId::new(dialect, "gpt-image-2"), "x")
}

#[test]
fn a_large_picture_passes_as_soon_as_it_has_begun_and_is_never_copied() {
    let text = picture::encode(&large_picture().into()).to_bytes();
    let mut streaming = asked("openai");
    streaming.stream = true;
    for asked in [asked("openai"), streaming] {
        let dialect = by_name("openai").unwrap();
        let response = one_picture(Picture::Base64(text.clone().into()));
        let reply = dialect.write_response(&asked, &response).unwrap();
        // Worded: the very bytes that arrived are a piece of the answer.
        assert!(
            reply
                .body
                .pieces()
                .iter()
                .any(|piece| piece.as_ptr() == text.as_ptr() && piece.len() == text.len())
        );
        // Read: the picture is a slice of the body.
        let body = reply.body.to_bytes();
        let mut reader = dialect.reader(&asked, &reply.head);
        assert_eq!(reader.feed(&body[..100]), Progress::Wait);
        assert_eq!(reader.feed(&body[100..10_000]), Progress::Pass);
        assert_eq!(reader.feed(&body[10_000..]), Progress::Pass);
        let Next::Done(got) = reader.finish(&Rope::from(body.clone())) else {
            panic!("no picture")
        };
        let Picture::Base64(rope) = &got.images[0].picture else {
            panic!("not in base64")
        };
        assert!(body.as_ptr_range().contains(&rope.pieces()[0].as_ptr()));
        assert_eq!(got.images[0].width, Some(1024));
    }
}

#[test]
fn a_json_answer_of_stability_waits_for_its_finish_reason() {
    let dialect = by_name("stability").unwrap();
    let response = one_picture(Picture::Raw(large_picture().into()));
    let reply = dialect
        .write_response(&asked("stability"), &response)
        .unwrap();
    let body = reply.body.to_bytes();
    let mut reader = dialect.reader(&asked("stability"), &reply.head);
    assert_eq!(reader.feed(&body), Progress::Wait);
    assert!(matches!(reader.finish(&Rope::from(body)), Next::Done(_)));
}

#[test]
fn an_answer_that_ends_in_the_middle_is_a_failure_nobody_knows_the_bill_of() {
    for case in cases() {
        if case.response().is_none() || case.answer.len() < 2 {
            continue;
        }
        let half = case.answer.slice(..case.answer.len() / 2);
        let (_, next) = read(case.dialect, &case.request(), &case.reply, &half, 64);
        match next {
            Next::Failed(failure) => {
                assert_eq!(failure.billed, Billed::Unknown, "{}", case.name);
                assert_ne!(failure.sent, crate::image::Sent::NotSent);
            }
            // Half a stream may hold a whole picture; half a file is told by its length alone.
            Next::Done(_) => assert!(case.request().stream, "{}", case.name),
            Next::Ask { .. } => panic!("{}", case.name),
        }
    }
}

// Requests beside the recorded ones.

fn generation(body: &Value) -> Result<ImageRequest, Unreadable> {
    let head = RequestHead {
        method: Method::POST,
        host: "api.openai.com".to_owned(),
        target: "/v1/images/generations".parse().unwrap(),
        headers: HeaderMap::new(),
    };
    let body = body.to_string().into();
    by_name("openai").unwrap().read_request(
        "openai",
        crate::image::Operation::Generate,
        &head,
        &body,
    )
}

#[test]
fn a_word_that_we_do_not_know_reaches_its_provider() {
    let body = json!({
        "model": "gpt-image-9", "prompt": "x", "quality": "ultra", "size": "huge",
        "output_format": "jxl", "moderation": "none", "output_compression": 200,
        "complexity": "high", "svg": {"model": "m"}, "nothing": null,
    });
    let request = generation(&body).unwrap();
    assert_eq!((request.quality, &request.size), (None, &Size::Auto));
    assert_eq!(request.tier, Tier::Standard);
    let dialect = by_name("openai").unwrap();
    let sent = dialect.write_request(&request).unwrap().body.to_bytes();
    let mut sent: Value = serde_json::from_slice(&sent).unwrap();
    sent["nothing"] = Value::Null;
    assert_eq!(sent, body);
    // What a rule says since wins.
    let changed = ImageRequest {
        quality: Some(Quality::Low),
        ..request
    };
    let sent = dialect.write_request(&changed).unwrap().body.to_bytes();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["quality"], "low");
}

#[test]
fn a_field_of_the_wrong_type_is_named() {
    let check = |field: &str, value: Value| {
        let mut body = json!({"prompt": "x"});
        body[field] = value;
        assert_eq!(generation(&body).unwrap_err().field, field);
    };
    check("n", json!("2"));
    check("n", json!(0));
    check("n", json!(1.5));
    check("prompt", json!(["x"]));
    check("stream", json!("true"));
    check("model", json!(7));
    check("size", json!({}));
    check("user", json!(1));
    check("partial_images", json!(-1));
    assert_eq!(generation(&json!({})).unwrap_err().field, "prompt");
    assert_eq!(generation(&json!([])).unwrap_err().field, "body");
}

#[test]
fn delivery_is_what_the_model_does_when_nothing_is_said() {
    let check = |body: Value, expected| {
        let mut body = body;
        body["prompt"] = "x".into();
        let request = generation(&body).unwrap();
        assert_eq!(request.delivery, expected, "{body}");
        let message = by_name("openai").unwrap().write_request(&request).unwrap();
        let read = again(by_name("openai").unwrap(), &request, message);
        assert_eq!(read.delivery, expected, "{body}");
    };
    check(json!({}), Delivery::Url);
    check(json!({"model": "dall-e-3"}), Delivery::Url);
    check(
        json!({"model": "dall-e-3", "response_format": "b64_json"}),
        Delivery::Base64,
    );
    check(json!({"model": "gpt-image-2"}), Delivery::Base64);
    check(json!({"model": "flux"}), Delivery::Base64);
    check(
        json!({"model": "flux", "response_format": "url"}),
        Delivery::Url,
    );
}

#[test]
fn a_gpt_model_is_never_sent_a_response_format() {
    let mut request =
        generation(&json!({"prompt": "x", "model": "dall-e-3", "response_format": "url"})).unwrap();
    request.model = ModelId::new("openai", "gpt-image-2");
    let sent = by_name("openai").unwrap().write_request(&request).unwrap();
    assert_eq!(
        &sent.body.to_bytes()[..],
        br#"{"model":"gpt-image-2","prompt":"x"}"#
    );
}

#[test]
fn moderation_travels_in_json_for_a_form_has_no_word_for_it() {
    let case = cases()
        .into_iter()
        .find(|case| case.name == "openai/edit-in-a-form")
        .unwrap();
    let mut request = case.request();
    request.safety = Some(Safety::Relaxed);
    let message = case.dialect.write_request(&request).unwrap();
    assert_eq!(message.headers["content-type"], "application/json");
    let read = again(case.dialect, &request, message);
    assert_eq!(without_names(read), without_names(request));
}

#[test]
fn routes_are_claimed_exactly() {
    let check = |method: Method, target: &'static str, expected: Option<&str>| {
        let head = RequestHead {
            method,
            host: "h".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        let claims: Vec<&str> = ALL
            .iter()
            .filter(|dialect| dialect.claims(&head).is_some())
            .map(|dialect| dialect.name())
            .collect();
        assert_eq!(claims.first().copied(), expected, "{target}");
        assert!(claims.len() < 2, "{target} is claimed twice");
    };
    check(Method::POST, "/v1/images/generations", Some("openai"));
    check(Method::POST, "/v1/images/edits/", Some("openai"));
    check(Method::POST, "/v1/images/variations?x=y", Some("openai"));
    check(Method::GET, "/v1/images/generations", None);
    check(Method::POST, "/v1/responses", Some("responses"));
    check(Method::GET, "/v1/responses/resp_1", None);
    check(Method::POST, "/v1/images", None);
    check(Method::POST, "/v1/chat/completions", None);
    check(
        Method::POST,
        "/v2beta/stable-image/generate/core",
        Some("stability"),
    );
    check(
        Method::POST,
        "/v2beta/stable-image/generate/sd3/",
        Some("stability"),
    );
    check(
        Method::POST,
        "/v2beta/stable-image/upscale/conservative",
        None,
    );
    check(Method::POST, "/v1/flux-2-pro", Some("bfl"));
    check(Method::POST, "/v1/flux-tools/erase-v1", Some("bfl"));
    check(Method::POST, "/v1/finetune", None);
    let ideogram = Some("ideogram");
    check(Method::POST, "/v1/ideogram-v3/generate", ideogram);
    check(Method::POST, "/v2/image/generate/ideogram-4-5/", ideogram);
    check(Method::GET, "/v2/generations/gen_1", None);
    check(Method::GET, "/v1/get_result?id=1", None);
    check(Method::POST, "/v1/predictions", Some("replicate"));
    check(
        Method::POST,
        "/v1/models/acme/pictures/predictions",
        Some("replicate"),
    );
    check(Method::POST, "/v1/models/meta/llama-4/predictions", None);
    check(Method::GET, "/v1/models/acme/pictures", None);
    check(Method::POST, "/fal-ai/flux-pro/v1.1", Some("fal"));
    check(Method::POST, "/v1/models/acme/pictures/versions", None);
    let engine = Some("stability_v1");
    check(
        Method::POST,
        "/v1/generation/stable-diffusion-v1-6/text-to-image",
        engine,
    );
    check(
        Method::POST,
        "/v1/generation/stable-diffusion-v1-6/image-to-image/masking/",
        engine,
    );
    check(
        Method::POST,
        "/v1/generation/esrgan-v1-x2plus/image-to-image/upscale",
        None,
    );
    check(Method::GET, "/v1/engines/list", None);
    let (imagen, gemini) = (Some("imagen"), Some("gemini"));
    let vertex = "/v1/projects/p/locations/global/publishers/google/models";
    let at = |rest: &str| -> &'static str { format!("{vertex}/{rest}").leak() };
    check(
        Method::POST,
        "/v1beta/models/imagen-4.0-generate-001:predict?key=k",
        imagen,
    );
    check(Method::POST, at("imagegeneration@006:predict"), imagen);
    check(Method::POST, at("imagen-product-recontext:predict"), None);
    check(Method::POST, at("text-embedding-004:predict"), None);
    check(Method::POST, at("gemini-2.5-flash:generateContent"), gemini);
    let stream = "gemini-3-pro-image:streamGenerateContent";
    check(Method::POST, at(&format!("{stream}?alt=sse")), gemini);
    check(Method::POST, at(stream), None);
    check(Method::POST, at("gemini-3-pro-image:countTokens"), None);
    check(Method::GET, "/v1beta/models/gemini-3-pro-image", None);
}

#[test]
fn an_app_of_fal_is_claimed_unless_its_name_tells_of_other_work() {
    let claims = |method: Method, target: &'static str| {
        let head = RequestHead {
            method,
            host: "queue.fal.run".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        by_name("fal").unwrap().claims(&head).is_some()
    };
    assert!(claims(Method::POST, "/fal-ai/flux-pro/v1.1-ultra"));
    assert!(claims(Method::POST, "/bria/text-to-image/3.2/"));
    assert!(!claims(Method::GET, "/fal-ai/flux/dev"));
    assert!(!claims(
        Method::POST,
        "/fal-ai/kling-video/v2/text-to-video"
    ));
    assert!(!claims(Method::POST, "/storage"));
    assert!(!claims(Method::PUT, "/fal-ai/flux/requests/1/cancel"));
    assert!(!claims(Method::POST, "/fal-ai/flux/requests/1"));
}

#[test]
fn what_asks_for_text_or_sound_is_no_image_call() {
    let asks = |dialect: &str, target: &'static str, body: Value| {
        let head = RequestHead {
            method: Method::POST,
            host: "h".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        let body = body.to_string().into();
        by_name(dialect).unwrap().asks_for_picture(&head, &body)
    };
    let version = |input: Value| json!({"version": "39ed52f2", "input": input});
    let predictions = "/v1/predictions";
    let picture = version(json!({"prompt": "x", "width": 512}));
    assert!(asks("replicate", predictions, picture));
    let text = version(json!({"prompt": "x", "max_new_tokens": 512}));
    assert!(!asks("replicate", predictions, text));
    assert!(asks("fal", "/acme/draw", json!({"prompt": "x"})));
    assert!(!asks(
        "fal",
        "/acme/talk",
        json!({"prompt": "x", "voice": "y"})
    ));
}

#[test]
fn what_is_listed_as_not_covered_is_claimed_by_nobody() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect/NOT_COVERED.md");
    let list = std::fs::read_to_string(list).unwrap();
    let mut rows = 0;
    for row in list.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [_, _, path, why] = cells.as_slice() else {
            panic!("{row}")
        };
        let (method, target) = path.trim_matches('`').split_once(' ').unwrap();
        let head = RequestHead {
            method: method.parse().unwrap(),
            host: "h".to_owned(),
            target: target.parse().unwrap(),
            headers: HeaderMap::new(),
        };
        assert!(!why.is_empty(), "{row}");
        assert!(
            ALL.iter().all(|dialect| dialect.claims(&head).is_none()),
            "{path} is claimed"
        );
        rows += 1;
    }
    assert!(rows > 0, "the list has no rows");
}

#[test]
fn a_query_string_is_kept() {
    let mut case = cases()
        .into_iter()
        .find(|case| case.name == "openai/generation")
        .unwrap();
    case.head.target = "/v1/images/generations?api-version=preview"
        .parse()
        .unwrap();
    let sent = case.dialect.write_request(&case.request()).unwrap();
    assert_eq!(sent.target.query(), Some("api-version=preview"));
    assert!(
        !sent
            .body
            .to_bytes()
            .windows(11)
            .any(|w| w == b"api-version")
    );
}

#[test]
fn what_stability_cannot_do_is_said_before_it_is_asked() {
    let dialect = by_name("stability").unwrap();
    let field = |change: fn(&mut ImageRequest)| {
        let mut request = asked("stability");
        change(&mut request);
        dialect.write_request(&request).map_err(|error| error.field)
    };
    assert_eq!(field(|r| r.n = 2).unwrap_err(), "n");
    let odd = |r: &mut ImageRequest| r.size = Size::parse("1000x900").unwrap();
    assert_eq!(field(odd).unwrap_err(), "size");
    let edit = |r: &mut ImageRequest| r.operation = crate::image::Operation::Edit;
    assert_eq!(field(edit).unwrap_err(), "inputs");
    let wide = field(|r| r.size = Size::parse("1536x1024").unwrap()).unwrap();
    let body = wide.body.to_bytes();
    assert!(memchr::memmem::find(&body, b"\r\n\r\n3:2\r\n").is_some());
}

#[test]
fn a_key_takes_the_place_of_any_other_and_is_never_printed() {
    for dialect in ALL {
        let head = |headers| RequestHead {
            method: Method::POST,
            host: "h".to_owned(),
            target: "/".parse().unwrap(),
            headers,
        };
        let mut headers = HeaderMap::new();
        dialect.authorize(&mut headers, "sk-old");
        dialect.authorize(&mut headers, "sk-new");
        dialect.authorize(&mut headers, "not\na header");
        assert!(!format!("{headers:?}").contains("sk-new"));
        assert_eq!(headers.len(), 1, "{}", dialect.name());
        let head = head(headers);
        let credential = dialect.credential(&head).unwrap();
        assert!(credential.ends_with("sk-new"), "{credential}");
    }
    // A token of Google's is no key.
    let mut headers = HeaderMap::new();
    by_name("gemini").unwrap().authorize(&mut headers, "ya29.t");
    assert_eq!(headers["authorization"], "Bearer ya29.t");
}

// Whatever arrives.

fn any_case() -> impl Strategy<Value = usize> {
    0..cases().len()
}

/// Bytes of a message with some of them changed, and its end cut off.
fn spoil(bytes: &Bytes, changes: &[(usize, u8)], end: usize) -> Bytes {
    let mut spoilt = bytes.to_vec();
    for (at, byte) in changes {
        let len = spoilt.len().max(1);
        if let Some(there) = spoilt.get_mut(at % len) {
            *there = *byte;
        }
    }
    spoilt.truncate(bytes.len().saturating_sub(end));
    spoilt.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_answer_makes_a_reader_panic_and_every_failure_says_why(
        index in any_case(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        end in 0usize..400,
        cut in 1usize..300,
    ) {
        let case = &cases()[index];
        let body = spoil(&case.answer, &changes, end);
        match read(case.dialect, &case.request(), &case.reply, &body, cut).1 {
            Next::Done(response) => prop_assert!(!response.images.is_empty()),
            Next::Failed(failure) => prop_assert!(!failure.message.is_empty()),
            Next::Ask { message, .. } => prop_assert!(message.target.as_str().starts_with('/')),
        }
    }

    #[test]
    fn no_request_makes_a_dialect_panic_and_every_error_names_a_place(
        index in any_case(),
        changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        end in 0usize..200,
    ) {
        let case = &cases()[index];
        let body = spoil(&case.body, &changes, end);
        let operation = case.dialect.claims(&case.head).unwrap();
        match case.dialect.read_request("openai", operation, &case.head, &body) {
            // A reading is one that can be worded again, or says what cannot.
            Ok(request) => if let Ok(message) = case.dialect.write_request(&request) {
                prop_assert!(!message.body.is_empty());
            },
            Err(error) => prop_assert!(!error.why.is_empty()),
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_a_failure(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        status in prop_oneof![Just(200u16), Just(400), Just(429), Just(500)],
        kind in prop_oneof![Just("application/json"), Just("text/event-stream"), Just("image/png")],
        cut in 1usize..50,
    ) {
        for dialect in ALL {
            let head = ReplyHead::new(StatusCode::from_u16(status).unwrap(), kind);
            let body = Bytes::from(bytes.clone());
            if let Next::Done(response) = read(*dialect, &asked("openai"), &head, &body, cut).1 {
                prop_assert_eq!(status, 200);
                prop_assert!(!response.images.is_empty());
            }
        }
    }

    #[test]
    fn a_picture_reaches_any_caller_whatever_its_bytes(
        bytes in proptest::collection::vec(any::<u8>(), 1..400), cut in 1usize..100,
    ) {
        let mut raw = Rope::new();
        bytes.chunks(cut).for_each(|chunk| raw.push(chunk.to_vec()));
        let response = one_picture(Picture::Raw(raw));
        for case in cases().iter().filter(|case| case.request().delivery != Delivery::Url) {
            let asked = case.request();
            let reply = case.dialect.write_response(&asked, &response).unwrap();
            let body = reply.body.to_bytes();
            let Next::Done(got) = read(case.dialect, &asked, &reply.head, &body, 64).1 else {
                panic!("{}", case.name)
            };
            prop_assert_eq!(&bytes_of(&got.images[0])[..], &bytes[..]);
        }
    }
}
