//! Every wire format that apps speak, served by every provider: the table in the README.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use pixtoll::image::{Format, ImageRequest, ModelId, Size};
use pixtoll::image::{Input, InputRole, InputSource, Operation};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{Answer, Rig, read_answer};

const TODAY: &str = "2026-11-22";
const BEGIN: &str = "<!-- callers by providers -->\n";
const END: &str = "<!-- end of callers by providers -->";

/// Providers that have simulators which share no code with our dialects.
const PROVIDERS: [&str; 8] = [
    "openai",
    "azure",
    "google",
    "stability",
    "bfl",
    "fal",
    "replicate",
    "ideogram",
];

/// A way to ask for a picture of 1024x1024.
struct Caller {
    name: &'static str,
    host: &'static str,
    path: String,
    key: &'static str,
    body: Body,
    picture: Place,
    edits: bool,
}

enum Body {
    Json(Value),
    /// Fields of a form; `image` is a file.
    Form(&'static [(&'static str, &'static str)]),
}

/// Where the picture stands in the answer.
enum Place {
    /// The answer is the picture.
    Whole,
    /// In base64, in a data URL or by address.
    At(&'static str),
    /// The same in an event.
    Event(&'static str),
    /// The answer names a job: where to ask, the word that it is done, the picture.
    Job {
        ask: &'static str,
        status: &'static str,
        done: &'static str,
        result: Option<&'static str>,
        picture: &'static str,
    },
    /// The same where the answer tells the job's name and no address.
    Named {
        id: &'static str,
        at: &'static str,
        status: &'static str,
        done: &'static str,
        picture: &'static str,
    },
}

fn callers() -> Vec<Caller> {
    let bearer = "authorization: Bearer sk-canary";
    let fal = "authorization: Key sk-canary";
    let google = "x-goog-api-key: AIza-canary";
    let drawing = || {
        json!({
            "contents": [{"parts": [{"text": "a boat"}]}],
            "generationConfig": {"responseModalities": ["IMAGE"], "imageConfig": {"aspectRatio": "1:1"}},
        })
    };
    let boat =
        json!({"model": "gpt-image-2", "prompt": "a boat", "size": "1024x1024", "quality": "low"});
    let mut events = boat.clone();
    events["stream"] = json!(true);
    events["partial_images"] = json!(1);
    let mut tool = json!({
        "model": "gpt-5.2", "input": "a boat", "tool_choice": {"type": "image_generation"},
        "tools": [{"type": "image_generation", "model": "gpt-image-2.6-flare", "size": "1024x1024", "quality": "low"}],
    });
    let responses = tool.clone();
    tool["stream"] = json!(true);
    let at_azure = crate::azure::deployment("gpt-image-2.5-flare");
    let caller = |name, host, path: &str, key, body, picture| Caller {
        name,
        host,
        path: path.to_owned(),
        key,
        body,
        picture,
        edits: false,
    };
    let openai = "api.openai.com";
    let gemini = "generativelanguage.googleapis.com";
    let stability = "api.stability.ai";
    vec![
        caller(
            "OpenAI, generations",
            openai,
            "/v1/images/generations",
            bearer,
            Body::Json(boat),
            Place::At("/data/0/b64_json"),
        ),
        caller(
            "OpenAI, streamed",
            openai,
            "/v1/images/generations",
            bearer,
            Body::Json(events),
            Place::Event("/b64_json"),
        ),
        Caller {
            edits: true,
            ..caller(
                "OpenAI, edits",
                openai,
                "/v1/images/edits",
                bearer,
                Body::Form(&[
                    ("model", "gpt-image-2"),
                    ("prompt", "a boat"),
                    ("size", "1024x1024"),
                    ("quality", "low"),
                    ("image", ""),
                ]),
                Place::At("/data/0/b64_json"),
            )
        },
        caller(
            "OpenAI, Responses",
            openai,
            "/v1/responses",
            bearer,
            Body::Json(responses),
            Place::At("/output/0/result"),
        ),
        caller(
            "OpenAI, Responses streamed",
            openai,
            "/v1/responses",
            bearer,
            Body::Json(tool),
            Place::Event("/response/output/0/result"),
        ),
        caller(
            "Azure OpenAI",
            crate::azure::HOST,
            &at_azure,
            "api-key: azure-canary",
            Body::Json(json!({"prompt": "a boat", "size": "1024x1024", "quality": "low"})),
            Place::At("/data/0/b64_json"),
        ),
        caller(
            "Gemini",
            gemini,
            "/v1beta/models/gemini-nano-banana-2.1:generateContent",
            google,
            Body::Json(drawing()),
            Place::At("/candidates/0/content/parts/0/inlineData/data"),
        ),
        caller(
            "Gemini, streamed",
            gemini,
            "/v1beta/models/gemini-nano-banana-2.1:streamGenerateContent?alt=sse",
            google,
            Body::Json(drawing()),
            Place::Event("/candidates/0/content/parts/0/inlineData/data"),
        ),
        caller(
            "Imagen",
            gemini,
            "/v1beta/models/imagen-4.0-generate-001:predict",
            google,
            Body::Json(
                json!({"instances": [{"prompt": "a boat"}], "parameters": {"sampleCount": 1, "aspectRatio": "1:1"}}),
            ),
            Place::At("/predictions/0/bytesBase64Encoded"),
        ),
        caller(
            "Stability v2beta",
            stability,
            "/v2beta/stable-image/generate/sd3",
            bearer,
            Body::Form(&[("prompt", "a boat"), ("aspect_ratio", "1:1")]),
            Place::Whole,
        ),
        caller(
            "Stability v1",
            stability,
            "/v1/generation/stable-diffusion-xl-1024-v1-0/text-to-image",
            bearer,
            Body::Json(
                json!({"text_prompts": [{"text": "a boat"}], "width": 1024, "height": 1024}),
            ),
            Place::At("/artifacts/0/base64"),
        ),
        caller(
            "fal, at once",
            "fal.run",
            "/fal-ai/flux/dev",
            fal,
            Body::Json(json!({"prompt": "a boat", "image_size": "square_hd", "sync_mode": true})),
            Place::At("/images/0/url"),
        ),
        caller(
            "fal, queued",
            "queue.fal.run",
            "/fal-ai/flux/dev",
            fal,
            Body::Json(json!({"prompt": "a boat", "image_size": "square_hd"})),
            Place::Job {
                ask: "/status_url",
                status: "/status",
                done: "COMPLETED",
                result: Some("/response_url"),
                picture: "/images/0/url",
            },
        ),
        caller(
            "Replicate",
            "api.replicate.com",
            "/v1/models/black-forest-labs/flux-schnell/predictions",
            bearer,
            Body::Json(json!({"input": {"prompt": "a boat", "aspect_ratio": "1:1"}})),
            Place::Job {
                ask: "/urls/get",
                status: "/status",
                done: "succeeded",
                result: None,
                picture: "/output/0",
            },
        ),
        caller(
            "Black Forest Labs",
            "api.bfl.ai",
            "/v1/flux-2-pro",
            "x-key: sk-canary",
            Body::Json(json!({"prompt": "a boat", "width": 1024, "height": 1024})),
            Place::Job {
                ask: "/polling_url",
                status: "/status",
                done: "Ready",
                result: None,
                picture: "/result/sample",
            },
        ),
        caller(
            "Ideogram, at once",
            "api.ideogram.ai",
            "/v1/ideogram-v3/generate",
            "api-key: sk-canary",
            Body::Form(&[("prompt", "a boat"), ("aspect_ratio", "1x1")]),
            Place::At("/data/0/url"),
        ),
        caller(
            "Ideogram, by job",
            "api.ideogram.ai",
            "/v2/image/generate/ideogram-4-5",
            "api-key: sk-canary",
            Body::Json(json!({"prompt": "a boat", "aspect_ratio": "1x1", "async": true})),
            Place::Named {
                id: "/generation_id",
                at: "https://api.ideogram.ai/v2/generations/",
                status: "/status",
                done: "completed",
                picture: "/data/0/url",
            },
        ),
    ]
}

impl Body {
    /// The content type and the bytes.
    fn worded(&self) -> (&'static str, Vec<u8>) {
        let fields = match self {
            Body::Json(value) => return ("application/json", value.to_string().into_bytes()),
            Body::Form(fields) => fields,
        };
        let mut body = Vec::new();
        for (name, value) in *fields {
            let file = *name == "image";
            let more = match file {
                true => "; filename=\"in.png\"\r\nContent-Type: image/png",
                false => "",
            };
            let head =
                format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            match file {
                true => body.extend_from_slice(&drawn()),
                false => body.extend_from_slice(value.as_bytes()),
            }
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--edge--\r\n");
        ("multipart/form-data; boundary=edge", body)
    }
}

/// A picture to be edited.
fn drawn() -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(1024, 1024, image::Rgb([200, 40, 40]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// The provider's models that can do what the caller wants, cheapest first.
fn fitting(rig: &Rig, caller: &Caller, provider: &str) -> Vec<ModelId> {
    let mut request = ImageRequest::new(ModelId::new("nobody", "nothing"), "a boat");
    request.size = Size::Pixels {
        width: 1024,
        height: 1024,
    };
    if caller.edits {
        request.operation = Operation::Edit;
        request.inputs.push(Input {
            role: InputRole::Image,
            source: InputSource::Bytes(drawn().into()),
            name: None,
            format: Format::Png,
        });
    }
    let ranking = rig.app.pipeline.book.rank(&request, TODAY);
    let offers = ranking.offers.iter().filter(|offer| !offer.retired);
    offers
        .map(|offer| offer.row.id.clone())
        .filter(|id| id.provider() == provider)
        .collect()
}

async fn ask(
    rig: &Rig,
    caller: &Caller,
    method: &str,
    url: (&str, &str),
    more: &str,
    body: &[u8],
) -> Answer {
    let (host, path) = url;
    let mut tls = rig.tls(host, 443).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{}\r\nContent-Length: {}\r\n{more}\r\n",
        caller.key,
        body.len()
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.write_all(body).await.unwrap();
    read_answer(&mut tls).await
}

async fn follow(rig: &Rig, caller: &Caller, url: &Value) -> Answer {
    let url = url.as_str().unwrap();
    let (host, path) = parted(url, "https://").unwrap_or_else(|| panic!("{url}"));
    ask(rig, caller, "GET", (host, &path), "", b"").await
}

fn parted<'a>(url: &'a str, scheme: &str) -> Option<(&'a str, String)> {
    let (host, path) = url.strip_prefix(scheme)?.split_once('/')?;
    Some((host, format!("/{path}")))
}

/// The picture file that an answer brings, wherever it says that it lies.
async fn file(rig: &Rig, caller: &Caller, told: &Value) -> Result<Vec<u8>, String> {
    let text = told.as_str().ok_or("the answer has no picture")?;
    if let Some((host, path)) = parted(text, "http://") {
        let mut tcp = TcpStream::connect(host).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        tcp.write_all(head.as_bytes()).await.unwrap();
        return Ok(read_answer(&mut tcp).await.body);
    }
    if let Some((host, path)) = parted(text, "https://") {
        return Ok(ask(rig, caller, "GET", (host, &path), "", b"").await.body);
    }
    let base64 = match text.split_once(";base64,") {
        Some((_, base64)) => base64,
        None => text,
    };
    let engine = base64::engine::general_purpose::STANDARD;
    engine.decode(base64).map_err(|error| error.to_string())
}

/// Makes the call, and reads its picture as the caller's own client would.
async fn picture(rig: &Rig, caller: &Caller, to: &ModelId) -> Result<Vec<u8>, String> {
    let (content_type, body) = caller.body.worded();
    let more = format!("Content-Type: {content_type}\r\nx-pixtoll-app: {to}\r\n");
    let place = (caller.host, caller.path.as_str());
    let answer = ask(rig, caller, "POST", place, &more, &body).await;
    if answer.status() >= 300 {
        return Err(answer.text());
    }
    let at = |value: &Value, pointer| value.pointer(pointer).cloned().unwrap_or_default();
    let told = match caller.picture {
        Place::Whole => return Ok(answer.body),
        Place::At(pointer) => at(&answer.json(), pointer),
        Place::Event(pointer) => {
            assert_eq!(
                answer.header("content-type").unwrap().split(';').next(),
                Some("text/event-stream")
            );
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let last = text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("data: "));
            let event: Value = serde_json::from_str(last.unwrap()).unwrap();
            at(&event, pointer)
        }
        Place::Job {
            ask,
            status,
            done,
            result,
            picture,
        } => {
            let job = answer.json();
            let mut told = done_of(rig, caller, &at(&job, ask), status, done).await?;
            if let Some(result) = result {
                told = follow(rig, caller, &at(&job, result)).await.json();
            }
            at(&told, picture)
        }
        Place::Named {
            id,
            at: place,
            status,
            done,
            picture,
        } => {
            let id = at(&answer.json(), id);
            let url = Value::from(format!("{place}{}", id.as_str().unwrap_or_default()));
            at(&done_of(rig, caller, &url, status, done).await?, picture)
        }
    };
    file(rig, caller, &told).await
}

/// Asks about a job until it is done.
async fn done_of(
    rig: &Rig,
    caller: &Caller,
    url: &Value,
    status: &str,
    done: &str,
) -> Result<Value, String> {
    let mut told = follow(rig, caller, url).await.json();
    for _ in 0..400 {
        if told.pointer(status) == Some(&json!(done)) {
            return Ok(told);
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
        told = follow(rig, caller, url).await.json();
    }
    Err(told.to_string())
}

/// One cell: `yes`, or why not.
async fn cell(rig: &Rig, caller: &Caller, provider: &str, calls: &mut usize) -> String {
    for to in fitting(rig, caller, provider) {
        let got = picture(rig, caller, &to).await;
        *calls += 1;
        let decision = rig.decisions(*calls).await.pop().unwrap();
        match got {
            Ok(file) => return drawn_as_asked(caller, &to, &file, &decision),
            // A simulator does not have every model of its provider.
            Err(_) if decision["error"]["kind"] == "retired" => {}
            Err(told) => {
                let why = decision["error"]["message"].as_str();
                return why.unwrap_or_else(|| panic!("{told}")).to_owned();
            }
        }
    }
    "no model".to_owned()
}

fn drawn_as_asked(caller: &Caller, to: &ModelId, file: &[u8], decision: &Value) -> String {
    let pixels = pixtoll::image::header::read(file).pixels;
    let (width, height) = pixels.unwrap_or_else(|| panic!("{} to {to}: no picture", caller.name));
    // Where the caller named pixels, others are said; a shape is kept.
    let got = format!("size {width}x{height}");
    let unmet = decision["unmet"].as_array().unwrap();
    let right = match decision["asked"]["size"] == "1024x1024" {
        true => (width, height) == (1024, 1024) || unmet.iter().any(|unmet| unmet["got"] == *got),
        false => width == height,
    };
    assert!(right, "{} to {to}: {got}: {decision:#}", caller.name);
    assert_eq!(decision["answered"]["model"], to.as_str());
    "yes".to_owned()
}

#[tokio::test]
async fn every_caller_is_served_by_every_provider_as_the_readme_says() {
    let rule = "return { on_request = function(call) return call:route(call.app) end }";
    let rig = crate::azure::rig(Some(rule)).await;
    let mut table = format!("| an app that speaks | {} |\n|---|", PROVIDERS.join(" | "));
    table += &"---|".repeat(PROVIDERS.len());
    table.push('\n');
    let mut calls = 0;
    for caller in callers() {
        write!(table, "| {} |", caller.name).unwrap();
        for provider in PROVIDERS {
            let cell = cell(&rig, &caller, provider, &mut calls).await;
            write!(table, " {cell} |").unwrap();
        }
        table.push('\n');
    }
    assert_eq!(rig.billed(), rig.booked().await);
    let readme =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let said = readme
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END));
    assert!(
        said.is_some_and(|(said, _)| said.trim() == table.trim()),
        "the README's table is not what came of it; this is:\n{BEGIN}{table}{END}"
    );
}
