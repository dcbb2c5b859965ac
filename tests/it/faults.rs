//! Whatever a provider's connection does, a call ends: with one line in the log, no hold left, and
//! an error that its caller's library understands.

use std::io::Write as _;

use base64::Engine as _;
use pixtoll::config::Upstream;
use serde_json::{Value, json};

use crate::harness::{Answer, Rig, cat, post};
use crate::stub::{Act, is_cut, nothing_is_held, provider, rig_at, send};

const JSON: &str = "content-type: application/json\r\n";

/// A picture of one pixel, in OpenAI's words.
fn drawn() -> Vec<u8> {
    let mut file = Vec::new();
    let encoder = png::Encoder::new(&mut file, 1, 1);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[7]).unwrap();
    writer.finish().unwrap();
    let picture = base64::engine::general_purpose::STANDARD.encode(file);
    json!({
        "created": 1, "data": [{"b64_json": picture}],
        "usage": {"input_tokens": 9, "output_tokens": 196, "total_tokens": 205,
            "input_tokens_details": {"text_tokens": 9, "image_tokens": 0}},
    })
    .to_string()
    .into_bytes()
}

async fn generate(rig: &Rig, prompt: &str) -> Answer {
    let host = rig.address().to_string();
    let body = cat(prompt).to_string();
    let request = post(
        &host,
        "/v1/images/generations",
        &[],
        "application/json",
        &body,
    );
    send(rig, request.as_bytes()).await
}

/// The answer is an error in OpenAI's words.
#[track_caller]
fn is_told(answer: &Answer, what: &str) {
    assert!(answer.status() >= 400, "{what}: {}", answer.text());
    let message = answer.json()["error"]["message"].clone();
    assert!(
        message.as_str().is_some_and(|text| !text.is_empty()),
        "{what}"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_after_any_of_its_bytes_is_no_answer_and_is_booked_as_unknown() {
    let Act { bytes, .. } = Act::answer("200 OK", JSON, &drawn());
    let acts = (0..bytes.len())
        .map(|end| Act::send(&bytes[..end]))
        .collect();
    let rig = rig_at(provider(acts).await).await;
    let mut cut_short = 0;
    for end in 0..bytes.len() {
        let answer = generate(&rig, &format!("cut after {end}")).await;
        if answer.status() == 200 {
            assert!(is_cut(&answer), "after {end}: {}", answer.text());
            cut_short += 1;
        } else {
            is_told(&answer, &format!("after {end}"));
            assert_eq!(
                answer.header("x-should-retry"),
                Some("false"),
                "after {end}"
            );
        }
    }
    assert!(cut_short < bytes.len());
    let decisions = rig.decisions(bytes.len()).await;
    assert_eq!(decisions.len(), bytes.len(), "one line a call");
    for decision in &decisions {
        assert_eq!(decision["attempts"][0]["outcome"], "unknown", "{decision}");
        assert_eq!(decision["cache"]["stored"], false);
    }
    nothing_is_held(&rig).await;
    let stored = generate(&rig, "cut after 0").await;
    assert!(!stored.head.contains("; hit"), "nothing of it was kept");
}

#[tokio::test]
async fn what_is_odd_and_allowed_passes() {
    let Act { bytes, .. } = Act::answer("200 OK", JSON, &drawn());
    let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    let drip = Act {
        drip: true,
        ..Act::send(bytes.clone())
    };
    let half = Act {
        half_close: true,
        ..Act::send(bytes.clone())
    };
    let endless = [
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n".to_vec(),
        drawn(),
    ];
    let acts = vec![
        Act::send([&hints[..], &bytes].concat()),
        drip,
        half,
        Act::send(endless.concat()),
    ];
    let count = acts.len();
    let rig = rig_at(provider(acts).await).await;
    for turn in 0..count {
        let answer = generate(&rig, &format!("odd {turn}")).await;
        assert_eq!(answer.status(), 200, "{turn}: {}", answer.text());
    }
    for decision in rig.decisions(count).await {
        assert_eq!(decision["attempts"][0]["outcome"], "ok", "{decision}");
    }
    nothing_is_held(&rig).await;
}

#[tokio::test]
async fn what_is_no_answer_is_told_in_the_callers_words() {
    let huge = format!("x-huge: {}\r\n", "h".repeat(1 << 20));
    let many: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    gzip.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    let packed = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&drawn()).unwrap();
        gzip.finish().unwrap()
    };
    let gz = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let early = Act {
        after: Some(0),
        ..Act::answer(
            "413 Content Too Large",
            JSON,
            b"{\"error\":{\"message\":\"no\"}}",
        )
    };
    let table: Vec<(&str, Act)> = vec![
        ("204", Act::send("HTTP/1.1 204 No Content\r\n\r\n")),
        ("304", Act::send("HTTP/1.1 304 Not Modified\r\n\r\n")),
        (
            "a redirect",
            Act::answer("302 Found", "location: https://evil.test/\r\n", b""),
        ),
        ("a lone 100", Act::send("HTTP/1.1 100 Continue\r\n\r\n")),
        ("no HTTP", Act::send("SSH-2.0-OpenSSH_9.6\r\n")),
        ("a huge header", Act::answer("200 OK", &huge, &drawn())),
        ("many headers", Act::answer("200 OK", &many, &drawn())),
        ("a bomb", Act::answer("200 OK", gz, &bomb)),
        (
            "what is said to be packed",
            Act::answer("200 OK", gz, &drawn()),
        ),
        (
            "packed and cut",
            Act::answer("200 OK", gz, &packed[..packed.len() - 9]),
        ),
        (
            "an unknown encoding",
            Act::answer("200 OK", "content-encoding: x-rot13\r\n", &drawn()),
        ),
        (
            "two lengths",
            Act::send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        ),
        (
            "bad chunks",
            Act::send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "a lengthless lie",
            Act::send("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\n{}"),
        ),
        ("an early answer", early),
        ("nothing", Act::default()),
        (
            "an unread request",
            Act {
                at_once: true,
                ..Act::default()
            },
        ),
    ];
    let acts = table.iter().map(|(_, act)| act.clone()).collect();
    let rig = rig_at(provider(acts).await).await;
    for (what, _) in &table {
        let answer = generate(&rig, what).await;
        if *what == "packed and cut" && answer.status() == 200 {
            // The picture had begun, so its caller's connection breaks as the provider's did.
            assert!(is_cut(&answer), "{}", answer.text());
        } else {
            is_told(&answer, what);
        }
    }
    let decisions = rig.decisions(table.len()).await;
    assert_eq!(decisions.len(), table.len(), "one line a call");
    for (decision, (what, _)) in decisions.iter().zip(&table) {
        let error = &decision["error"];
        assert!(error["message"].is_string(), "{what}: {decision}");
        assert_eq!(
            decision["attempts"].as_array().map(Vec::len),
            Some(1),
            "{what}"
        );
    }
    nothing_is_held(&rig).await;
}

/// The provider answers while the picture is still on its way to it, and closes.
#[tokio::test]
async fn an_answer_before_the_request_is_through_reaches_the_caller_or_is_unknown() {
    let refusal =
        br#"{"error":{"message":"too large for us","type":"x","code":null,"param":null}}"#;
    let act = Act {
        after: Some(1000),
        ..Act::answer("413 Content Too Large", JSON, refusal)
    };
    let rig = rig_at(provider(vec![act]).await).await;
    let host = rig.address().to_string();
    let picture = "x".repeat(5 << 20);
    let form = format!(
        "--b\r\ncontent-disposition: form-data; name=\"prompt\"\r\n\r\na cat\r\n--b\r\ncontent-disposition: form-data; name=\"image\"; filename=\"a.png\"\r\ncontent-type: image/png\r\n\r\n{picture}\r\n--b--\r\n"
    );
    let request = post(
        &host,
        "/v1/images/edits",
        &[],
        "multipart/form-data; boundary=b",
        &form,
    );
    let answer = send(&rig, request.as_bytes()).await;
    is_told(&answer, "an early answer");
    let decision = &rig.decisions(1).await[0];
    let outcome = decision["attempts"][0]["outcome"].as_str().unwrap();
    assert!(["failed", "unknown"].contains(&outcome), "{decision}");
    nothing_is_held(&rig).await;
}

/// Where nothing was sent nothing is booked, and the same call may be sent again.
#[tokio::test]
async fn what_is_never_reached_costs_nothing() {
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let plain = provider(vec![Act::send("HTTP/1.1 200 OK\r\n\r\n")])
        .await
        .port();
    for (what, host, port, tls) in [
        ("no such host", "nowhere.invalid", 443, true),
        ("nobody listens", "127.0.0.1", closed, false),
        ("no TLS", "127.0.0.1", plain, true),
    ] {
        let rig = Rig::plain(|settings| {
            let mut openai = settings.providers.get("openai").unwrap().clone();
            openai.upstream = Some(Upstream {
                tls,
                host: host.to_owned(),
                port,
            });
            settings.providers.put(openai);
        })
        .await;
        let answer = generate(&rig, what).await;
        is_told(&answer, what);
        let decision = &rig.decisions(1).await[0];
        let attempt = &decision["attempts"][0];
        assert_eq!(attempt["failure"]["sent"], "not_sent", "{what}: {decision}");
        assert_eq!(attempt["billed"], "no", "{what}");
        assert_eq!(decision["cost"], json!(0), "{what}");
        assert_eq!(rig.booked().await, 0, "{what}");
        nothing_is_held(&rig).await;
    }
}

// HTTP/2, frame by frame.

mod two {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// The streams of a client are odd, and its first request is on the first.
    const RESET_REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
    const RESET_INTERNAL: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    /// With the last stream that was looked at, and a reason: none, or too many calls.
    const GOAWAY_BEFORE: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const GOAWAY_BEFORE_CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    const GOAWAY_BEGUN: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    const GOAWAY_BEGUN_CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11];
    const NONSENSE: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 0, 0, 0];

    /// A provider that speaks HTTP/2 over TLS, answers each request with `frames` and counts them.
    async fn provider(frames: &'static [u8], close: bool) -> (u16, String, Arc<AtomicUsize>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                let Ok(mut tls) = acceptor.accept(tcp).await else {
                    continue;
                };
                tokio::spawn(async move {
                    tls.write_all(SETTINGS).await.unwrap();
                    let mut preface = [0; 24];
                    tls.read_exact(&mut preface).await.unwrap();
                    loop {
                        let mut head = [0; 9];
                        if tls.read_exact(&mut head).await.is_err() {
                            return;
                        }
                        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                        let mut body = vec![0; length as usize];
                        let _ = tls.read_exact(&mut body).await;
                        let ends = head[4] & 1 == 1 && matches!(head[3], 0 | 1);
                        if ends {
                            count.fetch_add(1, Ordering::Relaxed);
                            let _ = tls.write_all(frames).await;
                            if close {
                                let _ = tls.shutdown().await;
                                return;
                            }
                        }
                    }
                });
            }
        });
        (port, certificate.pem(), asked)
    }

    /// The attempt, and how often it was sent.
    async fn outcome(frames: &'static [u8], close: bool) -> (Value, usize) {
        let (port, pem, asked) = provider(frames, close).await;
        let folder = tempfile::TempDir::new().unwrap();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, pem).unwrap();
        let rig = Rig::plain(|settings| {
            settings.upstream_ca = Some(roots.clone());
            let mut openai = settings.providers.get("openai").unwrap().clone();
            openai.upstream = Some(Upstream {
                tls: true,
                host: "localhost".to_owned(),
                port,
            });
            settings.providers.put(openai);
        })
        .await;
        let answer = generate(&rig, "a cat").await;
        is_told(&answer, "HTTP/2");
        nothing_is_held(&rig).await;
        let mut decisions = rig.decisions(1).await;
        assert_eq!(decisions.len(), 1);
        assert_eq!(decisions[0]["attempts"].as_array().unwrap().len(), 1);
        let attempt = decisions.remove(0)["attempts"][0].take();
        (attempt, asked.load(Ordering::Relaxed))
    }

    /// RFC 9113, 8.7 and 6.8: what was refused, or comes after the last that was looked at, was not
    /// processed. It is sent once more, on another connection.
    #[tokio::test]
    async fn a_request_that_was_not_looked_at_has_cost_nothing() {
        for (frames, close) in [
            (RESET_REFUSED, false),
            (GOAWAY_BEFORE, true),
            (GOAWAY_BEFORE_CALM, true),
            (GOAWAY_BEFORE, false),
        ] {
            let (attempt, asked) = outcome(frames, close).await;
            assert_eq!(attempt["outcome"], "failed", "{frames:?}: {attempt}");
            assert_eq!(attempt["failure"]["sent"], "not_sent", "{attempt}");
            assert_eq!((&attempt["billed"], asked), (&"no".into(), 2));
        }
    }

    #[tokio::test]
    async fn a_stream_or_a_connection_that_breaks_is_unknown() {
        for (frames, close) in [
            (RESET_INTERNAL, false),
            (GOAWAY_BEGUN, true),
            (GOAWAY_BEGUN_CALM, true),
            (NONSENSE, false),
            (&[], true),
        ] {
            let (attempt, asked) = outcome(frames, close).await;
            assert_eq!(attempt["outcome"], "unknown", "{frames:?}: {attempt}");
            assert_eq!(asked, 1, "what may have been billed is not sent again");
        }
    }
}
