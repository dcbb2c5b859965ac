//! Malformed messages of every dialect, through sockets: what an app sends, and what a provider
//! answers. The recorded messages are broken in each of the ways that messages really break.

use std::path::{Path, PathBuf};

use pixtoll::dialect::{Dialect, Next, by_name};
use pixtoll::image::ImageRequest;
use pixtoll::wire::{ReplyHead, RequestHead};
use serde_json::Value;

use crate::harness::{Answer, Rig};
use crate::stub::{Act, is_cut, nothing_is_held, provider, rig_at, send};

/// Every dialect, with a provider that speaks it.
const DIALECTS: [(&str, &str); 10] = [
    ("openai", "openai"),
    ("azure", "azure"),
    ("responses", "openai"),
    ("stability", "stability"),
    ("stability_v1", "stability"),
    ("imagen", "google"),
    ("gemini", "google"),
    ("fal", "fal"),
    ("replicate", "replicate"),
    ("bfl", "bfl"),
];

/// A recorded call with its answer.
struct Recorded {
    dialect: &'static dyn Dialect,
    provider: String,
    head: RequestHead,
    body: Vec<u8>,
    /// Status line and headers but for the length, and the body.
    answer: (String, Vec<u8>),
}

/// The first recorded call of a dialect that brought a picture, or a job.
fn recorded((dialect, provider): (&'static str, &str)) -> Recorded {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root.join(dialect))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let usable = |folder: &PathBuf| {
        let expect: Value =
            serde_json::from_slice(&std::fs::read(folder.join("expect.json")).unwrap()).unwrap();
        let outcome = expect["answer"]["outcome"].as_str();
        expect["submit"].is_null()
            && matches!(outcome, Some("ok" | "ask"))
            && expect["provider"] == provider
    };
    let folder = folders.iter().find(|folder| usable(folder)).unwrap();
    let (first, headers, body) = message(&std::fs::read(folder.join("request.http")).unwrap());
    let mut words = first.split(' ');
    let mut head = RequestHead {
        method: words.next().unwrap().parse().unwrap(),
        host: String::new(),
        target: words.next().unwrap().parse().unwrap(),
        headers: http::HeaderMap::new(),
    };
    for (name, value) in &headers {
        let name: http::HeaderName = name.parse().unwrap();
        head.headers.insert(name, value.parse().unwrap());
    }
    let (line, headers, answer) = message(&std::fs::read(folder.join("answer.http")).unwrap());
    let kept = headers.iter().filter(|(name, _)| {
        !["content-length", "transfer-encoding", "content-encoding"].contains(&name.as_str())
    });
    let kept: String = kept
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    Recorded {
        dialect: by_name(dialect).unwrap(),
        provider: provider.to_owned(),
        head,
        body,
        answer: (format!("{line}\r\n{kept}"), answer),
    }
}

fn message(raw: &[u8]) -> (String, Vec<(String, String)>, Vec<u8>) {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&raw[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let headers = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    (first, headers, raw[end + 4..].to_vec())
}

impl Recorded {
    /// The call with another body, at the gateway.
    async fn call(&self, rig: &Rig, kind: Option<&str>, body: &[u8]) -> Answer {
        let mut request = format!(
            "{} /{}{} HTTP/1.1\r\nhost: {}\r\nx-pixtoll-cache: bypass\r\ncontent-length: {}\r\n",
            self.head.method,
            self.provider,
            self.head.target,
            rig.address(),
            body.len()
        );
        for (name, value) in &self.head.headers {
            let value = match name.as_str() {
                "host" | "content-length" => continue,
                "content-type" => kind.unwrap_or(value.to_str().unwrap()),
                _ => value.to_str().unwrap(),
            };
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        send(rig, &[request.as_bytes(), body].concat()).await
    }

    fn asked(&self) -> ImageRequest {
        let operation = self.dialect.claims(&self.head).unwrap();
        let body = self.body.clone().into();
        self.dialect
            .read_request(&self.provider, operation, &self.head, &body)
            .unwrap()
    }

    /// The app's own library would raise its error: the dialect reads a failure with a reason.
    #[track_caller]
    fn understands(&self, answer: &Answer, what: &str) {
        let name = self.dialect.name();
        assert!(answer.status() >= 400, "{name}, {what}: {}", answer.text());
        let mut head = ReplyHead::new(
            http::StatusCode::from_u16(answer.status()).unwrap(),
            "application/json",
        );
        if let Some(kind) = answer.header("content-type") {
            head.headers.insert("content-type", kind.parse().unwrap());
        }
        let mut reader = self.dialect.reader(&self.asked(), &head);
        reader.feed(&answer.body);
        match reader.finish(&answer.body.clone().into()) {
            Next::Failed(failure) => assert!(!failure.message.is_empty(), "{name}, {what}"),
            other => panic!("{name}, {what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_an_app_sends_malformed_is_refused_in_its_own_dialect_and_reaches_nobody() {
    let rig = rig_at(provider(vec![Act::default()]).await).await;
    let mut sent = 0;
    for (name, provider_of) in DIALECTS {
        let call = recorded((name, provider_of));
        let form = call
            .head
            .header("content-type")
            .unwrap()
            .starts_with("multipart");
        let half = &call.body[..call.body.len() / 2];
        let mut broken: Vec<(&str, Option<&str>, &[u8])> = vec![("cut", None, half)];
        if form {
            broken.push((
                "another boundary",
                Some("multipart/form-data; boundary=zz"),
                &call.body,
            ));
            broken.push(("no boundary", Some("multipart/form-data"), &call.body));
            broken.push(("no form", None, b"{}"));
        } else {
            broken.push(("a list", None, b"[1, 2]"));
            broken.push(("a number", None, b"5"));
            broken.push(("nothing", None, b""));
            broken.push(("no JSON", None, b"prompt=a+boat"));
            broken.push(("deep", None, &[b'['; 5000]));
        }
        for (what, kind, body) in broken {
            // Some paths serve other work too: what does not ask for a picture passes.
            let asks = call
                .dialect
                .asks_for_picture(&call.head, &body.to_vec().into());
            if !asks {
                continue;
            }
            let answer = call.call(&rig, kind, body).await;
            assert_eq!(answer.status(), 400, "{name}, {what}: {}", answer.text());
            call.understands(&answer, what);
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            sent += 1;
        }
    }
    assert!(sent > 30, "{sent}");
    let decisions = rig.decisions(sent).await;
    assert_eq!(decisions.len(), sent, "one line a call");
    assert!(
        decisions
            .iter()
            .all(|decision| decision["attempts"] == serde_json::json!([]))
    );
    nothing_is_held(&rig).await;
}

#[tokio::test]
async fn what_a_provider_answers_malformed_is_a_failure_in_the_callers_dialect() {
    for (name, provider_of) in DIALECTS {
        let call = recorded((name, provider_of));
        let (head, body) = &call.answer;
        let with = |headers: &str, body: &[u8]| {
            let length = format!("content-length: {}\r\n", body.len());
            Act::send(
                [
                    head.as_bytes(),
                    headers.as_bytes(),
                    length.as_bytes(),
                    b"\r\n",
                    body,
                ]
                .concat(),
            )
        };
        let text = String::from_utf8_lossy(body).into_owned();
        let cut = &body[..body.len() / 2];
        let mut table = vec![
            ("cut JSON", with("", cut)),
            ("a list", with("", b"[1, 2]")),
            ("nothing", with("", b"")),
            ("another type", with("", br#"{"data": 5, "output": 7, "images": {}, "candidates": "x", "predictions": 1, "artifacts": null}"#)),
            ("bad compression", with("content-encoding: gzip\r\n", b"\x1f\x8b\x08\0no gzip")),
            ("a cut stream", Act::send([head.as_bytes(), b"content-length: 99999\r\n\r\n", cut].concat())),
        ];
        if text.contains("iVBORw0KGgo") {
            let odd = text.replace("iVBORw0KGgo", "%%%no base64");
            table.push(("bad base64", with("", odd.as_bytes())));
        }
        // An answer in bytes is a picture of unknown format, whatever they are.
        let in_bytes = !text.starts_with('{') && !text.starts_with('[');
        let acts = table.iter().map(|(_, act)| act.clone()).collect();
        let rig = rig_at(provider(acts).await).await;
        for (what, _) in &table {
            let answer = call.call(&rig, None, &call.body).await;
            if in_bytes
                && answer.status() == 200
                && matches!(*what, "cut JSON" | "a list" | "another type")
            {
                continue;
            }
            let is_json = matches!(*what, "a list" | "another type");
            if answer.status() == 200 && is_json && call.dialect.may_talk() {
                continue; // who may answer in text may say anything
            }
            let broke = answer.status() == 0 && *what == "a cut stream";
            if answer.status() == 200 || broke {
                // It had begun before anybody could see what is wrong with it.
                assert!(
                    is_cut(&answer) || *what == "bad base64",
                    "{name}, {what}: {}",
                    answer.text()
                );
                continue;
            }
            call.understands(&answer, what);
        }
        let decisions = rig.decisions(table.len()).await;
        assert_eq!(decisions.len(), table.len(), "{name}: one line a call");
        nothing_is_held(&rig).await;
    }
}
