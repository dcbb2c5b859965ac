//! The simulated providers, asked through real sockets.

mod google;
mod stability_v1;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::image::header;
use crate::task::Tasks;
use crate::wire::multipart::{self, Part};

mod jobs;
mod responses;

const IMAGES: &str = "/openai/v1/images/generations";
const SD3: &str = "/stability/v2beta/stable-image/generate/sd3";

async fn start() -> Sim {
    start_with(SimOptions::default()).await
}

async fn start_with(options: SimOptions) -> Sim {
    Sim::start(([127, 0, 0, 1], 0).into(), options)
        .await
        .unwrap()
}

struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    fn picture(&self, index: usize) -> Vec<u8> {
        decode(&self.json()["data"][index]["b64_json"])
    }

    /// Event names and their data.
    fn events(&self) -> Vec<(String, Value)> {
        let text = std::str::from_utf8(&self.body).unwrap();
        text.split_terminator("\n\n")
            .map(|event| {
                let line = |name: &str| {
                    event
                        .lines()
                        .find_map(|l| l.strip_prefix(name))
                        .unwrap_or("")
                };
                let data = serde_json::from_str(line("data: ")).unwrap_or(Value::Null);
                (line("event: ").to_owned(), data)
            })
            .collect()
    }
}

fn decode(b64: &Value) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD
        .decode(b64.as_str().unwrap())
        .unwrap()
}

fn pixels(file: &[u8]) -> (u32, u32) {
    header::read(file).pixels.unwrap()
}

/// A request over a connection of its own.
async fn send(sim: &Sim, request: Request<Full<Bytes>>) -> hyper::Result<Got> {
    let socket = TcpStream::connect(sim.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    Tasks::new().spawn(connection);
    read(sender.send_request(request).await?).await
}

async fn read(response: http::Response<hyper::body::Incoming>) -> hyper::Result<Got> {
    let (head, body) = response.into_parts();
    Ok(Got {
        status: head.status,
        headers: head.headers,
        body: body.collect().await?.to_bytes(),
    })
}

fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("authorization", "Bearer sk-test")
}

fn post(path: &str, ask: &Value) -> Request<Full<Bytes>> {
    request(Method::POST, path)
        .header("content-type", "application/json")
        .body(ask.to_string().into())
        .unwrap()
}

fn posted_form(path: &str, accept: &str, parts: &[Part]) -> Request<Full<Bytes>> {
    request(Method::POST, path)
        .header("content-type", "multipart/form-data; boundary=XX")
        .header("accept", accept)
        .body(multipart::write(parts, "XX").to_bytes().into())
        .unwrap()
}

async fn ask(sim: &Sim, ask: Value) -> Got {
    send(sim, post(IMAGES, &ask)).await.unwrap()
}

async fn get(sim: &Sim, path: &str) -> Got {
    let request = request(Method::GET, path).body(Full::default()).unwrap();
    send(sim, request).await.unwrap()
}

async fn stability(sim: &Sim, path: &str, accept: &str, fields: &[(&str, &str)]) -> Got {
    let parts: Vec<Part> = fields
        .iter()
        .map(|(name, value)| Part::text(name, *value))
        .collect();
    send(sim, posted_form(path, accept, &parts)).await.unwrap()
}

fn file(name: &str, data: Vec<u8>) -> Part {
    Part {
        name: name.to_owned(),
        filename: Some("a.png".to_owned()),
        content_type: Some("image/png".to_owned()),
        data: data.into(),
    }
}

fn painted(width: u32, height: u32) -> Vec<u8> {
    let picture = picture::Picture {
        format: picture::Format::Png,
        width,
        height,
        digest: 1,
        transparent: false,
    };
    picture.paint(None)
}

fn low() -> Value {
    json!({"model": "gpt-image-2.5-flare", "prompt": "A brass compass", "size": "1024x1024", "quality": "low"})
}

fn prompted(prompt: &str) -> Value {
    let mut ask = low();
    ask["prompt"] = prompt.into();
    ask
}

#[tokio::test]
async fn a_generation_has_the_asked_picture_and_its_usage_is_its_bill() {
    let sim = start().await;
    let got = ask(&sim, low()).await;
    assert_eq!(got.status, 200);
    let answer = got.json();
    assert_eq!(pixels(&got.picture(0)), (1024, 1024));
    assert_eq!(answer["usage"]["output_tokens"], 196);
    assert_eq!(answer["usage"]["input_tokens"], 7);
    assert_eq!(answer["usage"]["total_tokens"], 203);
    assert_eq!(
        (&answer["quality"], &answer["size"]),
        (&json!("low"), &json!("1024x1024"))
    );
    let bills = sim.bills();
    assert_eq!(bills.len(), 1);
    assert_eq!(bills[0].nano_usd, 7 * 5_000 + 196 * 30_000);
    assert_eq!((bills[0].images, bills[0].outcome), (1, "ok"));
    assert_eq!(bills[0].id, got.header("x-request-id"));
    assert_eq!(bills[0].model, "gpt-image-2.5-flare");
}

#[tokio::test]
async fn two_unseeded_pictures_differ_and_usage_covers_both() {
    let sim = start().await;
    let got = ask(&sim, json!({"model": "gpt-image-2.5-flare", "prompt": "Two boats", "n": 2,
        "size": "1536x1024", "quality": "medium", "output_format": "webp", "safety_identifier": "u"})).await;
    let (one, two) = (got.picture(0), got.picture(1));
    assert_ne!(one, two);
    assert_eq!(header::read(&two).format, crate::image::Format::Webp);
    assert_eq!(pixels(&two), (1536, 1024));
    assert_eq!(got.json()["usage"]["output_tokens"], 686);
    assert_eq!(got.json()["safety_identifier"], "u");
    let again = ask(&sim, low()).await.picture(0);
    assert_ne!(again, ask(&sim, low()).await.picture(0));
    assert_eq!(
        sim.billed().nano(),
        sim.bills().iter().map(|bill| bill.nano_usd).sum::<i64>()
    );
    assert_eq!(sim.bills().len(), 3);
}

#[tokio::test]
async fn a_stream_sends_partials_then_the_picture_and_its_usage_is_its_bill() {
    let sim = start().await;
    let got = ask(
        &sim,
        json!({"model": "gpt-image-2", "prompt": "A paper crane", "n": 2,
        "size": "1024x1024", "quality": "medium", "stream": true, "partial_images": 2}),
    )
    .await;
    assert_eq!(
        got.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    let events = got.events();
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let one = [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ];
    assert_eq!(names, [one, one].concat());
    for (name, data) in &events {
        assert_eq!(data["type"], name.as_str());
        assert_eq!(pixels(&decode(&data["b64_json"])), (1024, 1024));
    }
    assert_eq!(events[1].1["partial_image_index"], 1);
    let sum = |field: &str| {
        events
            .iter()
            .filter_map(|(_, data)| data["usage"][field].as_i64())
            .sum::<i64>()
    };
    assert_eq!(sum("output_tokens"), 2 * (1756 + 200));
    assert_eq!(
        sim.billed().nano(),
        sum("input_tokens") * 5_000 + sum("output_tokens") * 30_000
    );
}

#[tokio::test]
async fn edits_take_a_form_or_json_and_count_what_is_uploaded() {
    let sim = start().await;
    let parts = [
        Part::text("model", "gpt-image-2"),
        Part::text("prompt", "Put the logo on the cup"),
        Part::text("n", "1"),
        Part::text("quality", "low"),
        file("image[]", painted(1024, 768)),
        file("image[]", painted(1024, 1024)),
        file("mask", painted(1024, 768)),
    ];
    let edits = "/openai/v1/images/edits";
    let got = send(&sim, posted_form(edits, "*/*", &parts)).await.unwrap();
    assert_eq!(
        got.json()["usage"]["input_tokens_details"]["image_tokens"],
        768 + 1024
    );
    assert_eq!(
        sim.billed().nano(),
        (6 + 3) * 5_000 + 1792 * 8_000 + 196 * 30_000
    );

    let url = base64::engine::general_purpose::STANDARD.encode(painted(64, 64));
    let body = json!({"model": "gpt-image-2.5-sunburst", "prompt": "x", "background": "transparent", "stream": true,
        "images": [{"image_url": format!("data:image/png;base64,{url}")}, {"file_id": "file-1"}]});
    let got = send(&sim, post(edits, &body)).await.unwrap();
    let (name, data) = &got.events()[0];
    assert_eq!(name, "image_edit.completed");
    assert_eq!(
        data["usage"]["input_tokens_details"]["image_tokens"],
        4 + 1024
    );
    assert_eq!(
        (&data["background"], &data["quality"]),
        (&json!("transparent"), &json!("high"))
    );
}

#[tokio::test]
async fn retired_models_answer_404_unless_they_are_asked_for() {
    let sim = start().await;
    for model in ["dall-e-2", "dall-e-3", "gpt-image-1", "no-such-model"] {
        let got = ask(&sim, json!({"model": model, "prompt": "x"})).await;
        assert_eq!(
            (got.status.as_u16(), &got.json()["error"]["code"]),
            (404, &json!("model_not_found"))
        );
    }
    assert_eq!(sim.bills(), []);

    let sim = start_with(SimOptions {
        retired_ok: true,
        ..SimOptions::default()
    })
    .await;
    let got = ask(
        &sim,
        json!({"model": "dall-e-3", "prompt": "x", "size": "1792x1024", "quality": "hd"}),
    )
    .await;
    let url = got.json()["data"][0]["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix(&sim.url()).unwrap();
    assert_eq!(pixels(&get(&sim, path).await.body), (1792, 1024));
    assert!(got.json()["data"][0]["revised_prompt"].is_string());
    assert!(got.json()["usage"].is_null());
    assert_eq!(sim.billed().nano(), 120_000_000);
    let got = ask(
        &sim,
        json!({"prompt": "x", "n": 2, "size": "512x512", "response_format": "b64_json"}),
    )
    .await;
    assert_eq!(pixels(&got.picture(1)), (512, 512));
    assert_eq!(sim.billed().nano(), 156_000_000);
    let parts = [file("image", painted(64, 64)), Part::text("n", "1")];
    let got = send(&sim, posted_form("/v1/images/variations", "*/*", &parts))
        .await
        .unwrap();
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn wrong_requests_are_refused_as_openai_refuses_them() {
    let sim = start().await;
    let cases = [
        (
            json!({"model": "gpt-image-2"}),
            "missing_required_parameter",
            "prompt",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": 7}),
            "invalid_type",
            "prompt",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": ""}),
            "string_below_min_length",
            "prompt",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "n": 0}),
            "integer_below_min_value",
            "n",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "n": 11}),
            "integer_above_max_value",
            "n",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "n": "1"}),
            "invalid_type",
            "n",
        ),
        (
            json!({"model": "gpt-image-1.5", "prompt": "x", "size": "1000x1000"}),
            "invalid_value",
            "size",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "size": "1000x1000"}),
            "invalid_value",
            "size",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "size": "9999999x16"}),
            "invalid_value",
            "size",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "quality": "max"}),
            "invalid_value",
            "quality",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "response_format": "url"}),
            "unknown_parameter",
            "response_format",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "style": "vivid"}),
            "unknown_parameter",
            "style",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "output_format": "gif"}),
            "invalid_value",
            "output_format",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x", "background": "transparent", "output_format": "jpeg"}),
            "invalid_value",
            "background",
        ),
        (
            json!({"model": "gpt-image-2", "prompt": "x".repeat(32_001)}),
            "string_above_max_length",
            "prompt",
        ),
    ];
    for (body, code, param) in cases {
        let got = ask(&sim, body.clone()).await;
        let error = &got.json()["error"];
        assert_eq!(got.status, 400, "{body}");
        assert_eq!(
            (&error["code"], &error["param"]),
            (&json!(code), &json!(param)),
            "{body}"
        );
        assert_eq!(error["type"], "invalid_request_error");
    }
    let parts = [
        Part::text("prompt", "x"),
        file("image", b"no picture".to_vec()),
    ];
    let got = send(&sim, posted_form("/v1/images/edits", "*/*", &parts))
        .await
        .unwrap();
    assert_eq!(got.json()["error"]["code"], "invalid_image_file");
    let got = send(&sim, posted_form("/v1/images/edits", "*/*", &parts[..1]))
        .await
        .unwrap();
    assert_eq!(got.json()["error"]["param"], "image");
    assert_eq!(ask(&sim, json!("no object")).await.status, 400);
    assert_eq!(sim.bills(), []);
}

#[tokio::test]
async fn no_key_is_401_at_both() {
    let sim = start().await;
    for path in [IMAGES, SD3] {
        let request = Request::post(path)
            .header("host", "x")
            .body(Full::from("{}"))
            .unwrap();
        assert_eq!(send(&sim, request).await.unwrap().status, 401);
    }
    assert!(sim.requests().iter().all(|seen| !seen.authorization));
}

#[tokio::test]
async fn what_is_no_image_call_is_answered_too() {
    let sim = start().await;
    let list = get(&sim, "/v1/models").await.json();
    let ids: BTreeSet<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert!(ids.contains("gpt-image-2") && !ids.contains("dall-e-3"));
    assert_eq!(
        get(&sim, "/v1/models/gpt-image-2").await.json()["object"],
        "model"
    );
    assert_eq!(get(&sim, "/v1/models/dall-e-3").await.status, 404);
    assert_eq!(get(&sim, "/v1/nothing").await.status, 404);
    assert_eq!(get(&sim, IMAGES).await.status, 405);
    let chat = "/openai/v1/chat/completions";
    let plain = send(
        &sim,
        post(chat, &json!({"model": "gpt-5.2", "messages": []})),
    )
    .await
    .unwrap();
    assert_eq!(plain.json()["object"], "chat.completion");
    let stream = send(
        &sim,
        post(chat, &json!({"model": "gpt-5.2", "stream": true})),
    )
    .await
    .unwrap();
    assert!(stream.body.ends_with(b"data: [DONE]\n\n"));
    assert_eq!(
        stream.events()[1].1["choices"][0]["delta"]["content"],
        "This is a "
    );
    assert_eq!(
        get(&sim, "/stability/v1/user/balance").await.json()["credits"],
        640.71
    );
    assert_eq!(
        get(&sim, "/v2beta/nothing").await.json()["name"],
        "not_found"
    );
    assert_eq!(sim.bills(), []);
}

#[tokio::test]
async fn stability_draws_each_ratio_in_json_and_in_bytes() {
    let sim = start().await;
    for (ratio, one, more) in [
        ("1:1", (1024, 1024), (1248, 1248)),
        ("3:2", (1216, 832), (1536, 1024)),
        ("9:21", (640, 1536), (816, 1920)),
    ] {
        let fields = [("prompt", "a boat"), ("aspect_ratio", ratio)];
        let got = stability(&sim, SD3, "application/json", &fields).await;
        assert_eq!(
            got.header("content-type"),
            "application/json; type=image/png"
        );
        assert_eq!(got.json()["finish_reason"], "SUCCESS");
        assert_eq!(pixels(&decode(&got.json()["image"])), one);
        let core = SD3.replace("sd3", "core");
        let got = stability(
            &sim,
            &core,
            "image/*",
            &[fields[0], fields[1], ("output_format", "jpeg")],
        )
        .await;
        assert_eq!(
            (got.header("content-type"), got.header("finish-reason")),
            ("image/jpeg", "SUCCESS")
        );
        assert_eq!(pixels(&got.body), more);
    }
}

#[tokio::test]
async fn stability_charges_its_credits() {
    let cases = [
        ("sd3", "sd3.5-large", "sd3.5-large", 65),
        ("sd3", "sd3.5-large-turbo", "sd3.5-large-turbo", 40),
        ("sd3", "sd3-medium", "sd3.5-medium", 35),
        ("sd3", "sd3.5-flash", "sd3.5-flash", 25),
        ("core", "", "stable-image-core", 30),
        ("ultra", "", "stable-image-ultra", 80),
    ];
    let sim = start().await;
    for (route, model, billed, thousandths) in cases {
        sim.reset();
        let path = SD3.replace("sd3", route);
        let mut fields = vec![("prompt", "a boat")];
        if !model.is_empty() {
            fields.push(("model", model));
        }
        assert_eq!(stability(&sim, &path, "*/*", &fields).await.status, 200);
        let bills = sim.bills();
        assert_eq!(
            (bills[0].model.as_str(), bills[0].nano_usd),
            (billed, thousandths * 1_000_000)
        );
    }
}

#[tokio::test]
async fn a_seed_gives_the_same_picture_again_and_none_another() {
    let sim = start().await;
    let with = async |seed: &str| {
        stability(
            &sim,
            SD3,
            "image/*",
            &[("prompt", "a boat"), ("seed", seed)],
        )
        .await
    };
    let (one, two, other) = (with("77").await, with("77").await, with("78").await);
    assert_eq!(one.body, two.body);
    assert_ne!(one.body, other.body);
    assert_eq!(one.header("seed"), "77");
    let (free, freer) = (with("0").await, with("0").await);
    assert_ne!(free.body, freer.body);
    assert_eq!(with(free.header("seed")).await.body, free.body);
}

#[tokio::test]
async fn wrong_requests_are_refused_as_stability_refuses_them() {
    let sim = start().await;
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("model", "sd3.5-large")], "prompt: is required"),
        (
            &[("prompt", "x"), ("aspect_ratio", "4:3")],
            "aspect_ratio: must be one of 1:1,",
        ),
        (&[("prompt", "x"), ("seed", "4294967295")], "seed: must be"),
        (
            &[("prompt", "x"), ("model", "sd9")],
            "model: must be one of sd3.5-large,",
        ),
        (
            &[("prompt", "x"), ("output_format", "webp")],
            "output_format: must be one of png, jpeg",
        ),
        (
            &[("prompt", "x"), ("cfg_scale", "11")],
            "cfg_scale: must be a number between 1 and 10",
        ),
        (
            &[("prompt", "x"), ("mode", "image-to-image")],
            "image: is required",
        ),
        (
            &[("prompt", "x"), ("style_preset", "baroque")],
            "style_preset: must be one of",
        ),
        (
            &[
                ("prompt", "x"),
                ("model", "sd3.5-large-turbo"),
                ("negative_prompt", "y"),
            ],
            "negative_prompt: is not",
        ),
    ];
    for (fields, says) in cases {
        let got = stability(&sim, SD3, "application/json", fields).await;
        let answer = got.json();
        assert_eq!(
            (got.status.as_u16(), &answer["name"]),
            (400, &json!("bad_request"))
        );
        assert!(
            answer["errors"][0].as_str().unwrap().starts_with(says),
            "{answer}"
        );
    }
    let got = send(&sim, post(SD3, &json!({"prompt": "x"})))
        .await
        .unwrap();
    assert_eq!(
        got.json()["errors"][0],
        "content-type: must be multipart/form-data"
    );
    let big = [Part::text("prompt", "x"), file("image", vec![0; 11 << 20])];
    assert_eq!(
        send(&sim, posted_form(SD3, "*/*", &big))
            .await
            .unwrap()
            .status,
        413
    );
    assert_eq!(
        stability(&sim, SD3, "text/html", &[("prompt", "x")])
            .await
            .status,
        400
    );
    assert_eq!(sim.bills(), []);
}

#[tokio::test]
async fn stability_repaints_an_upload_in_its_size() {
    let sim = start().await;
    let parts = [
        Part::text("prompt", "make it blue"),
        Part::text("mode", "image-to-image"),
        Part::text("strength", "0.6"),
        file("image", painted(320, 200)),
    ];
    let got = send(&sim, posted_form(SD3, "image/*", &parts))
        .await
        .unwrap();
    assert_eq!(pixels(&got.body), (320, 200));
    let without = [parts[0].clone(), parts[1].clone(), parts[3].clone()];
    let got = send(&sim, posted_form(SD3, "image/*", &without))
        .await
        .unwrap();
    assert_eq!(got.json()["errors"][0], "strength: is required with image");
}

/// Status, telling word, nano-dollars.
type Told = (u16, &'static str, i64);

/// Words, then status, telling word and nano-dollars at OpenAI and at Stability.
const FAILURES: &[(&str, Told, Told)] = &[
    (
        "safety category=hate",
        (400, "moderation_blocked", 0),
        (403, "content_moderation", 0),
    ),
    (
        "safety_output",
        (400, "moderation_blocked", 5_915_000),
        (200, "CONTENT_FILTERED", 65_000_000),
    ),
    (
        "rate_limited retry_after=2",
        (429, "rate_limit_exceeded", 0),
        (429, "rate_limit_exceeded", 0),
    ),
    (
        "overloaded retry_after=2",
        (503, "server_error", 0),
        (503, "internal_error", 0),
    ),
    (
        "server",
        (500, "server_error", 0),
        (500, "internal_error", 0),
    ),
    (
        "server billed=yes",
        (500, "server_error", 5_915_000),
        (500, "internal_error", 65_000_000),
    ),
    (
        "quota",
        (429, "insufficient_quota", 0),
        (402, "payment_required", 0),
    ),
    (
        "auth",
        (401, "invalid_api_key", 0),
        (401, "unauthorized", 0),
    ),
    (
        "permission",
        (403, "must be verified", 0),
        (403, "permission_denied", 0),
    ),
    (
        "retired",
        (404, "model_not_found", 0),
        (404, "not_found", 0),
    ),
    (
        "no_image",
        (200, "\"data\": []", 35_000),
        (200, "\"image\":\"\"", 0),
    ),
    (
        "html",
        (502, "<h1>502 Bad Gateway</h1>", 0),
        (502, "<h1>502 Bad Gateway</h1>", 0),
    ),
    (
        "ok extra_tokens=10 billed=no",
        (200, "206", 0),
        (200, "SUCCESS", 0),
    ),
    (
        "drip chunk=200000 ms=1",
        (200, "b64_json", 5_915_000),
        (200, "SUCCESS", 65_000_000),
    ),
    (
        "slow delay_ms=1",
        (200, "b64_json", 5_915_000),
        (200, "SUCCESS", 65_000_000),
    ),
];

#[tokio::test]
async fn every_failure_has_its_providers_shape_and_price() {
    let sim = start().await;
    for (words, openai, stable) in FAILURES {
        sim.reset();
        let mut asked = post(IMAGES, &low());
        asked.headers_mut().insert("x-sim", words.parse().unwrap());
        let got = send(&sim, asked).await.unwrap();
        let seen = (got.status.as_u16(), sim.billed().nano());
        assert_eq!(seen, (openai.0, openai.2), "{words}");
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        assert!(
            text.contains(openai.1) && !text.contains("{{"),
            "{words}: {text}"
        );
        if words.contains("retry_after") {
            assert_eq!(got.header("retry-after"), "2");
        }

        sim.reset();
        sim.script("stability", [words.parse::<Behaviour>().unwrap()]);
        let got = stability(&sim, SD3, "application/json", &[("prompt", "x")]).await;
        let seen = (got.status.as_u16(), sim.billed().nano());
        assert_eq!(seen, (stable.0, stable.2), "{words}");
        let text = String::from_utf8(got.body.to_vec()).unwrap();
        assert!(
            text.contains(stable.1) && !text.contains("{{"),
            "{words}: {text}"
        );
    }
}

#[tokio::test]
async fn moderation_says_where_and_why() {
    let sim = start().await;
    let got = ask(&sim, prompted("x [[sim: safety_output category=sexual]]")).await;
    let error = &got.json()["error"];
    assert_eq!(
        error["moderation_details"],
        json!({"moderation_stage": "output", "categories": ["sexual"]})
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("safety_violations=[sexual]")
    );
    let got = stability(
        &sim,
        SD3,
        "image/*",
        &[("prompt", "x [[sim: safety_output]]")],
    )
    .await;
    assert_eq!(
        (got.status.as_u16(), got.header("finish-reason")),
        (200, "CONTENT_FILTERED")
    );
}

#[tokio::test]
async fn a_stream_can_end_in_an_error() {
    let sim = start().await;
    for (word, code) in [
        ("stream_error", "server_error"),
        ("safety_output", "moderation_blocked"),
    ] {
        let mut asked = prompted(&format!("[[sim: {word}]]"));
        asked["stream"] = true.into();
        asked["partial_images"] = 1.into();
        let events = ask(&sim, asked).await.events();
        assert_eq!(events[0].0, "image_generation.partial_image");
        assert_eq!(
            (events[1].0.as_str(), &events[1].1["error"]["code"]),
            ("error", &json!(code))
        );
    }
    assert_eq!(sim.bills().len(), 2);
}

#[tokio::test]
async fn header_before_prompt_before_script_before_default() {
    let sim = start_with(SimOptions {
        default: Fault::Server.into(),
        ..SimOptions::default()
    })
    .await;
    sim.script(
        "openai",
        [Fault::Overloaded { retry_after: None }, Fault::Quota],
    );
    let mut both = post(IMAGES, &prompted("[[sim: auth]]"));
    both.headers_mut()
        .insert("x-sim", "permission".parse().unwrap());
    assert_eq!(send(&sim, both).await.unwrap().status, 403);
    assert_eq!(
        ask(&sim, prompted("[[sim openai: auth]]")).await.status,
        401
    );
    assert_eq!(
        ask(&sim, prompted("[[sim stability: auth]]")).await.status,
        503
    );
    assert_eq!(ask(&sim, low()).await.status, 429);
    assert_eq!(ask(&sim, low()).await.status, 500);
    let got = ask(&sim, prompted("[[sim: explode]]")).await;
    assert_eq!(got.status, 400);
    assert!(
        got.body
            .starts_with(b"simulated providers: `explode` is no behaviour")
    );
}

#[tokio::test]
async fn a_directive_can_mean_the_first_attempts_only() {
    let sim = start().await;
    let flaky = prompted("a cat [[sim: overloaded times=2]]");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(ask(&sim, flaky.clone()).await.status.as_u16());
    }
    assert_eq!(statuses, [503, 503, 200]);
}

#[tokio::test]
async fn a_dropped_or_cut_answer_is_billed() {
    let sim = start().await;
    let dropped = send(&sim, post(IMAGES, &prompted("[[sim: drop]]"))).await;
    assert!(dropped.is_err_and(|error| error.is_incomplete_message()));
    let cut = send(&sim, post(IMAGES, &prompted("[[sim: cut]]"))).await;
    assert!(cut.is_err());
    let mut asked = prompted("[[sim: cut]]");
    asked["stream"] = true.into();
    assert!(send(&sim, post(IMAGES, &asked)).await.is_err());
    let outcomes: Vec<&str> = sim.bills().iter().map(|bill| bill.outcome).collect();
    assert_eq!(outcomes, ["drop", "cut", "cut"]);
}

#[tokio::test]
async fn a_cut_leaves_head_and_exactly_the_asked_bytes() {
    let sim = start().await;
    let body = prompted("[[sim: cut after=1000]]").to_string();
    let mut socket = TcpStream::connect(sim.addr()).await.unwrap();
    let head = format!(
        "POST {IMAGES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let _ = socket.read_to_end(&mut got).await;
    let text = String::from_utf8(got).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("content-length: "));
    assert_eq!(body.len(), 1000);
}

#[tokio::test]
async fn a_dripping_answer_takes_its_time_piece_by_piece() {
    let sim = start().await;
    let socket = TcpStream::connect(sim.addr()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
        .await
        .unwrap();
    Tasks::new().spawn(connection);
    let began = std::time::Instant::now();
    let response = sender
        .send_request(post(IMAGES, &prompted("[[sim: drip chunk=2000 ms=3]]")))
        .await
        .unwrap();
    // A slow reader may find several pieces at once, so they are counted by their bytes.
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let pieces = u32::try_from(body.len().div_ceil(2000)).unwrap();
    assert!(pieces > 2);
    assert!(began.elapsed() >= Duration::from_millis(3) * (pieces - 1));
}

#[tokio::test]
async fn twenty_held_calls_go_on_together_and_a_client_that_leaves_still_pays() {
    let sim = std::sync::Arc::new(start().await);
    let tasks = Tasks::new();
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let sim = std::sync::Arc::clone(&sim);
            tasks.spawn(async move { ask(&sim, prompted("[[sim: hold]]")).await.status })
        })
        .collect();
    sim.wait_for_requests(20).await;
    assert!(calls.iter().all(|call| !call.is_finished()));
    sim.release();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let leaver = {
        let sim = std::sync::Arc::clone(&sim);
        tasks.spawn(async move { ask(&sim, prompted("[[sim: stall]]")).await.status })
    };
    sim.wait_for_requests(21).await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    assert_eq!(sim.bills().len(), 21);
    assert_eq!(sim.bills()[20].outcome, "stall");
}

#[tokio::test]
async fn a_held_failure_waits_too() {
    let sim = start().await;
    sim.script("openai", ["hold server".parse::<Behaviour>().unwrap()]);
    let (got, ()) = tokio::join!(ask(&sim, low()), async {
        sim.wait_for_requests(1).await;
        sim.release();
    });
    assert_eq!(got.status, 500);
    assert_eq!(sim.bills(), []);
}

#[tokio::test]
async fn an_answer_is_compressed_when_the_client_may_take_it() {
    let sim = start().await;
    for encoding in ["gzip", "br", "zstd"] {
        let mut asked = post(IMAGES, &low());
        asked
            .headers_mut()
            .insert("accept-encoding", encoding.parse().unwrap());
        let got = send(&sim, asked).await.unwrap();
        assert_eq!(got.header("content-encoding"), encoding);
        let mut plain = Vec::new();
        match encoding {
            "gzip" => flate2::read::GzDecoder::new(&got.body[..]).read_to_end(&mut plain),
            "br" => brotli::Decompressor::new(&got.body[..], 4096).read_to_end(&mut plain),
            _ => zstd::Decoder::new(&got.body[..])
                .unwrap()
                .read_to_end(&mut plain),
        }
        .unwrap();
        let answer: Value = serde_json::from_slice(&plain).unwrap();
        assert_eq!(
            pixels(&decode(&answer["data"][0]["b64_json"])),
            (1024, 1024)
        );
    }
    assert_eq!(ask(&sim, low()).await.header("content-encoding"), "");
    let sim = start_with(SimOptions {
        force_encoding: Some(Encoding::Zstd),
        ..SimOptions::default()
    })
    .await;
    let mut asked = post(IMAGES, &low());
    asked
        .headers_mut()
        .insert("accept-encoding", "identity".parse().unwrap());
    assert_eq!(
        send(&sim, asked).await.unwrap().header("content-encoding"),
        "zstd"
    );
}

#[tokio::test]
async fn padding_makes_answers_large() {
    let sim = start_with(SimOptions {
        pad_to: Some(1_500_000),
        ..SimOptions::default()
    })
    .await;
    let got = ask(&sim, low()).await;
    assert!(got.body.len() > 1_990_000, "{}", got.body.len());
    assert_eq!(pixels(&got.picture(0)), (1024, 1024));
}

#[tokio::test]
async fn requests_are_recorded_without_their_secrets() {
    let sim = start().await;
    let mut asked = post("/v1/images/generations?a=b", &low());
    asked.headers_mut().insert("x-own", "kept".parse().unwrap());
    let body = low().to_string();
    send(&sim, asked).await.unwrap();
    let seen = &sim.requests()[0];
    assert_eq!(
        (seen.number, seen.method.as_str(), seen.provider),
        (1, "POST", "openai")
    );
    assert_eq!(seen.target, "/v1/images/generations?a=b");
    assert!(seen.authorization && !format!("{seen:?}").contains("sk-test"));
    assert!(seen.header("authorization").unwrap().starts_with("blake3:"));
    assert_eq!(seen.header("x-own"), Some("kept"));
    assert_eq!(
        seen.body_digest,
        blake3::hash(body.as_bytes()).to_hex().to_string()
    );
    assert_eq!(seen.body_len, body.len());
    assert_eq!(
        sim.bills()[0].authorization_digest,
        bills::short_digest(b"Bearer sk-test")
    );
}

#[tokio::test]
async fn the_control_routes_serve_tests_in_other_languages() {
    let sim = start().await;
    let control = async |path: &str, body: Value| send(&sim, post(path, &body)).await.unwrap();
    let queued = control(
        "/_sim/script",
        json!({"provider": "openai", "behaviours": ["quota", "ok"]}),
    )
    .await;
    assert_eq!(queued.json(), json!({"queued": 2}));
    assert_eq!(ask(&sim, low()).await.status, 429);
    assert_eq!(ask(&sim, low()).await.status, 200);
    let bills = get(&sim, "/_sim/bills").await.json();
    assert_eq!(
        (&bills["count"], &bills["usd"]),
        (&json!(1), &json!("0.005915"))
    );
    assert_eq!(bills["bills"][0]["outcome"], "ok");
    assert_eq!(
        get(&sim, "/_sim/wait?requests=2").await.json(),
        json!({"requests": 2})
    );
    assert_eq!(
        get(&sim, "/_sim/wait?requests=3&timeout_ms=1").await.status,
        408
    );
    assert_eq!(
        get(&sim, "/_sim/requests").await.json()["requests"][1]["number"],
        2
    );
    assert_eq!(
        control(
            "/_sim/script",
            json!({"provider": "openai", "behaviours": ["x"]})
        )
        .await
        .status,
        400
    );
    assert_eq!(control("/_sim/release", json!(null)).await.status, 200);
    assert_eq!(control("/_sim/reset", json!(null)).await.status, 200);
    assert_eq!(get(&sim, "/_sim/bills").await.json()["count"], 0);
    assert_eq!(get(&sim, "/_sim/nothing").await.status, 404);
    assert!(
        get(&sim, "/_sim")
            .await
            .body
            .starts_with(b"GET  /_sim/bills")
    );
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served_and_drops_as_a_reset() {
    let sim = start().await;
    let socket = TcpStream::connect(sim.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    Tasks::new().spawn(connection);
    let ask = |prompt: &str| {
        let mut request = post(IMAGES, &prompted(prompt));
        *request.uri_mut() = format!("http://api.openai.com{IMAGES}").parse().unwrap();
        request.headers_mut().remove("host");
        request
    };
    let got = read(sender.send_request(ask("x")).await.unwrap())
        .await
        .unwrap();
    assert_eq!(got.status, 200);
    assert_eq!(sim.requests()[0].version, "HTTP/2.0");
    assert!(sender.send_request(ask("[[sim: drop]]")).await.is_err());
    let cut = sender.send_request(ask("[[sim: cut]]")).await.unwrap();
    assert!(read(cut).await.is_err());
    assert_eq!(sim.bills().len(), 3);
}

#[tokio::test]
async fn over_tls_both_protocols_are_served() {
    let signed = rcgen::generate_simple_self_signed(["api.openai.com".to_owned()]).unwrap();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let sim = Sim::start_tls(
        ([127, 0, 0, 1], 0).into(),
        server.into(),
        SimOptions::default(),
    )
    .await
    .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    for alpn in ["h2", "http/1.1"] {
        let mut client =
            rustls::ClientConfig::builder_with_provider(std::sync::Arc::clone(&provider))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
        client.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
        let socket = TcpStream::connect(sim.addr()).await.unwrap();
        let stream = connector
            .connect("api.openai.com".try_into().unwrap(), socket)
            .await
            .unwrap();
        let io = TokioIo::new(stream);
        let response = if alpn == "h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            Tasks::new().spawn(connection);
            let mut request = post(IMAGES, &low());
            *request.uri_mut() = format!("https://api.openai.com{IMAGES}").parse().unwrap();
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            Tasks::new().spawn(connection);
            sender.send_request(post(IMAGES, &low())).await.unwrap()
        };
        assert_eq!(read(response).await.unwrap().status, 200);
    }
    assert!(sim.url().starts_with("https://"));
    let versions: Vec<String> = sim
        .requests()
        .into_iter()
        .map(|seen| seen.version)
        .collect();
    assert_eq!(versions, ["HTTP/2.0", "HTTP/1.1"]);
}

#[tokio::test]
async fn stopping_lets_go_of_whoever_stalls() {
    let sim = start().await;
    let addr = sim.addr();
    let stalled = {
        let request = post(IMAGES, &prompted("[[sim: stall]]"));
        let socket = TcpStream::connect(addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket))
            .await
            .unwrap();
        Tasks::new().spawn(connection);
        Tasks::new().spawn(async move { sender.send_request(request).await.is_err() })
    };
    sim.wait_for_requests(1).await;
    assert_eq!(sim.stop(Duration::from_secs(5)).await, 0);
    assert!(stalled.await.unwrap());
    assert!(TcpStream::connect(addr).await.is_err());
}
