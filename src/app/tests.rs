//! A dialect added, and all of pixtoll with it: the toy of the dialects' tests is configured as any
//! other, and its calls are priced, moved, kept and refused, with no line about it anywhere else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{App, Extras};
use crate::config::{Settings, Source};
use crate::sim::{Sim, SimOptions};

const CRAYONS: &str = "
version: 1
currency: USD
models:
- model: crayons/red
  capability: {operations: [generate], sizes: {free: {multiple: 8, min_pixels: 64, max_pixels: 4194304, max_side: 2048}}, usual: 512x512, formats: [png], seed: true, deliveries: [base64]}
  price: {per_image: 0.25}
  valid_from: 2020-01-01
  source: the box
  as_of: 2026-01-01
";

/// Calls of OpenAI's are drawn in red wax, and what asks for gold by OpenAI.
const RULE: &str = r#"return { on_request = function(call)
    if call.dialect == "openai" then return call:route("crayons/red", { reason = "cheap" }) end
    if call.request.model == "crayons/gold" then return call:route("openai/gpt-image-2", { reason = "dear" }) end
end }"#;

/// A provider that speaks the toy, and the bodies that it was sent.
async fn crayons(picture: String) -> (u16, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let drawn = Arc::clone(&seen);
    crate::task::Tasks::new().spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let (head, body) = message(&mut tcp).await;
            assert!(head.starts_with("POST /draw "), "{head}");
            assert!(head.contains("authorization: Bearer sk-"), "{head}");
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let (status, answer) = match asked["wax"].as_str() {
                Some("red") => ("200 OK", json!({"drawn": [picture]})),
                _ => ("404 Not Found", json!({"oops": "retired", "why": "no such wax"})),
            };
            drawn.lock().push(asked);
            let answer = answer.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                answer.len()
            );
            tcp.write_all(head.as_bytes()).await.unwrap();
            tcp.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, seen)
}

/// One message: its head in small letters but for the first line, and its body.
async fn message(tcp: &mut TcpStream) -> (String, Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    tcp.read_exact(&mut body).await.unwrap();
    (head, body)
}

async fn post(app: &App, path: &str, body: &Value) -> (String, Value) {
    let body = body.to_string();
    let mut tcp = TcpStream::connect(app.address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer sk-app\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        app.address,
        body.len()
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let (head, body) = message(&mut tcp).await;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    (head, body)
}

/// A pixtoll that knows the toy by its configuration alone.
async fn start(dir: &Path, crayons: u16, openai: &str) -> App {
    std::fs::write(dir.join("crayons.yaml"), CRAYONS).unwrap();
    std::fs::write(dir.join("moves.lua"), RULE).unwrap();
    let text = format!(
        "state_dir: {}
listen: 127.0.0.1:0
dashboard: off
prices: [crayons.yaml]
plugins: [moves.lua]
providers:
  crayons: {{dialect: toy, upstream: \"http://127.0.0.1:{crayons}\", api_key: sk-crayons}}
  openai: {{upstream: \"{openai}\", api_key: sk-openai}}
",
        dir.join("state").display()
    );
    let source = Source::Text {
        name: "pixtoll.yaml".to_owned(),
        text,
        folder: dir.to_owned(),
    };
    let loaded = Settings::load(&source, &[], &|_| None).unwrap();
    App::start(loaded.settings, Extras::default())
        .await
        .unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_dialect_is_one_file_and_one_word_and_all_of_pixtoll_knows_it() {
    let dir = tempfile::TempDir::new().unwrap();
    let sim = Sim::start(([127, 0, 0, 1], 0).into(), SimOptions::default())
        .await
        .unwrap();
    let png = base64::engine::general_purpose::STANDARD.encode(png(512, 512));
    let (port, seen) = crayons(png.clone()).await;
    let app = start(dir.path(), port, &sim.url()).await;
    let red = json!({"wax": "red", "draw": "a boat", "paper": "512x512", "glitter": true});

    // Straight through, byte for byte, priced, and from memory the second time.
    let (head, first) = post(&app, "/crayons/draw", &red).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("x-pixtoll-cost: 0.25"), "{head}");
    assert_eq!(first, json!({"drawn": [png]}));
    let (head, again) = post(&app, "/crayons/draw", &red).await;
    assert!(head.contains("cache-status: pixtoll; hit"), "{head}");
    assert_eq!(again, first);
    assert_eq!(seen.lock().as_slice(), std::slice::from_ref(&red));

    // An app of OpenAI's, served by the toy, and one of the toy's, served by OpenAI.
    let ask = json!({"model": "gpt-image-2", "prompt": "a hut", "size": "512x512", "seed": 3});
    let (head, body) = post(&app, "/v1/images/generations", &ask).await;
    assert!(
        head.contains("x-pixtoll-route: crayons/red"),
        "{head} {body}"
    );
    assert_eq!(body["data"][0]["b64_json"], png);
    let gold = json!({"wax": "gold", "draw": "a ship", "paper": "1024x1024"});
    let (head, body) = post(&app, "/crayons/draw", &gold).await;
    assert!(
        head.contains("x-pixtoll-route: openai/gpt-image-2"),
        "{head} {body}"
    );
    assert!(body["drawn"][0].is_string(), "{body}");
    assert_eq!(sim.bills().len(), 1);

    // What goes wrong is told in the toy's own words: the provider's, and ours.
    let green = json!({"wax": "green", "draw": "a boat"});
    let (head, body) = post(&app, "/crayons/draw", &green).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    assert_eq!(body, json!({"oops": "retired", "why": "no such wax"}));
    let (head, body) = post(&app, "/crayons/draw", &json!({"wax": "red", "draw": 5})).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert_eq!(body["oops"], "invalid");
    assert!(body["why"].as_str().unwrap().contains("draw"), "{body}");
    app.stop().await;
    sim.stop(std::time::Duration::ZERO).await;
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let mut writer = encoder.write_header().unwrap();
    let pixels = vec![9; width as usize * height as usize * 4];
    let _ = writer.write_image_data(&pixels);
    drop(writer);
    file
}

/// What the test above says about the toy, held against the sources: nothing but its own file and
/// the list names it.
#[test]
fn no_file_but_its_own_and_the_list_names_a_dialect_that_was_added() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut named = Vec::new();
    for file in sources(&src) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text
            .lines()
            .filter(|line| words(line).any(|word| word == "toy" || word == "Toy"));
        let inside = file.strip_prefix(&src).unwrap().display().to_string();
        named.extend(lines.map(|line| (inside.clone(), line.trim().to_owned())));
    }
    named.retain(|(file, _)| file != "dialect/toy.rs" && file != "app/tests.rs");
    let list = "dialect/mod.rs".to_owned();
    let declared = (list.clone(), "mod toy;".to_owned());
    assert_eq!(named, [declared, (list, "&toy::Toy,".to_owned())]);
}

/// No other code asks which dialect it has before it: what differs is asked of the dialect.
#[test]
fn no_code_outside_the_dialects_tells_them_apart_by_name() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut told_apart = Vec::new();
    for file in sources(&src) {
        let inside = file.strip_prefix(&src).unwrap().to_owned();
        let is_test = inside.ends_with("tests.rs") || inside.iter().any(|part| part == "tests");
        // The simulators are the providers' other half, and share no code with the dialects.
        if is_test || inside.starts_with("dialect") || inside.starts_with("sim") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        for dialect in crate::dialect::ALL {
            let name = dialect.name();
            for way in [
                format!("by_name(\"{name}\")"),
                format!("name() == \"{name}\""),
                format!("name() != \"{name}\""),
                format!("dialect == \"{name}\""),
                format!("dialect != \"{name}\""),
            ] {
                if code.contains(&way) {
                    told_apart.push(format!("{}: {way}", inside.display()));
                }
            }
        }
    }
    assert!(told_apart.is_empty(), "{told_apart:#?}");
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
