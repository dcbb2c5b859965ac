//! Untouched means untouched: the same bytes, as they arrive.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pixtoll::config::Upstream;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{Rig, cat, read_answer, read_head};

/// A provider whose answer is sent piece by piece as the test says.
async fn slow_provider(
    headers: &'static [(&'static str, &'static str)],
) -> (std::net::SocketAddr, mpsc::Sender<Bytes>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let receiver = std::sync::Arc::new(tokio::sync::Mutex::new(receiver));
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let receiver = receiver.clone();
            async move {
                request.into_body().collect().await?;
                let pieces = futures_util::stream::unfold(receiver, |receiver| async move {
                    let piece = receiver.lock().await.recv().await?;
                    Some((Ok::<_, hyper::Error>(Frame::data(piece)), receiver))
                });
                let mut answer = http::Response::new(StreamBody::new(pieces));
                for (name, value) in headers {
                    answer.headers_mut().insert(*name, value.parse().unwrap());
                }
                Ok::<_, hyper::Error>(answer)
            }
        });
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    });
    (address, sender)
}

async fn rig_before(address: std::net::SocketAddr) -> Rig {
    Rig::plain(|settings| {
        let mut openai = settings.providers.get("openai").unwrap().clone();
        openai.upstream = Some(Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(openai);
    })
    .await
}

fn big_answer() -> String {
    // 1.5 MB of base64 with an unusual layout that no writer of ours would make again.
    let picture = "QUJD".repeat(375_000);
    format!(
        "{{ \"created\" : 1,\n \"data\":[ {{\"b64_json\":\"{picture}\"}} ],\"usage\":{{\"input_tokens\":9,\"output_tokens\":196,\"input_tokens_details\":{{\"text_tokens\":9,\"image_tokens\":0}},\"total_tokens\":205}} ,\"new_field\":[1.50,null]}}"
    )
}

#[tokio::test]
async fn the_first_byte_arrives_before_the_last_has_left_and_all_are_the_same() {
    let (address, pieces) = slow_provider(&[
        ("content-type", "application/json"),
        ("x-request-id", "req_1"),
    ])
    .await;
    let rig = rig_before(address).await;
    let mut tls = rig.begin(&cat("a cat")).await;
    let whole = big_answer();
    let (first, rest) = whole.as_bytes().split_at(64 << 10);
    pieces.send(Bytes::copy_from_slice(first)).await.unwrap();
    pieces
        .send(Bytes::copy_from_slice(&rest[..1000]))
        .await
        .unwrap();
    // The provider holds most of its answer back; the app has the head and the beginning already.
    let head = tokio::time::timeout(Duration::from_secs(10), read_head(&mut tls))
        .await
        .expect("the head is not held");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("req_1"),
        "{head}"
    );
    let mut begun = vec![0; 32 << 10];
    tokio::time::timeout(Duration::from_secs(10), tls.read_exact(&mut begun))
        .await
        .expect("nor are the first bytes")
        .unwrap();
    pieces
        .send(Bytes::copy_from_slice(&rest[1000..]))
        .await
        .unwrap();
    drop(pieces);
    let mut raw = begun;
    let mut ended = false;
    let mut buffer = vec![0; 64 << 10];
    while !ended {
        let read = tls.read(&mut buffer).await.unwrap();
        raw.extend_from_slice(&buffer[..read]);
        ended = read == 0 || raw.ends_with(b"\r\n0\r\n\r\n");
    }
    assert_eq!(
        dechunk(&raw),
        whole.as_bytes(),
        "byte for byte the provider's"
    );
    let again = rig.generate(&cat("a cat")).await;
    assert!(again.header("cache-status").unwrap().contains("hit"));
    assert!(again.body == whole.as_bytes(), "from memory too");
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        if size == 0 {
            break;
        }
        raw = &raw[end + 2 + size + 2..];
    }
    body
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_app_too_and_is_not_kept() {
    let rig = Rig::start().await;
    rig.script("openai", &["cut"]);
    let mut tls = rig.begin(&cat("a cat")).await;
    let answer = read_answer(&mut tls).await;
    let whole =
        answer.status() == 200 && serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok();
    assert!(
        !whole,
        "a broken answer must not look whole: {}",
        answer.head
    );
    let decision = &rig.decisions(1).await[0];
    assert_eq!(decision["attempts"][0]["outcome"], "unknown");
    assert!(
        rig.generate(&cat("a cat"))
            .await
            .header("cache-status")
            .unwrap()
            .contains("miss")
    );
}

#[tokio::test]
async fn an_answer_that_comes_encoded_all_the_same_is_read_and_kept_decoded() {
    use std::io::Write as _;
    let plain = big_answer();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain.as_bytes()).unwrap();
    let encoded = encoder.finish().unwrap();
    let (address, pieces) = slow_provider(&[
        ("content-type", "application/json"),
        ("content-encoding", "gzip"),
    ])
    .await;
    let rig = rig_before(address).await;
    let sent = encoded.clone();
    tokio::spawn(async move {
        for piece in sent.chunks(1000) {
            pieces.send(Bytes::copy_from_slice(piece)).await.unwrap();
        }
    });
    let takes = rig
        .call(
            "api.openai.com",
            "/v1/images/generations",
            &[("accept-encoding", "gzip")],
            "application/json",
            &cat("x").to_string(),
        )
        .await;
    assert_eq!(takes.header("content-encoding"), Some("gzip"));
    assert!(takes.body == encoded, "as it came");
    let hit = rig.generate(&cat("x")).await;
    assert_eq!(hit.header("content-encoding"), None);
    assert!(hit.body == plain.as_bytes(), "decoded");
}
