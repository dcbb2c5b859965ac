//! What an attempt cost, as far as only a whole call can show it: a file of one's own that prices
//! a provider's answers, and the word about a charge that is not what was expected.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use pixtoll::config::Upstream;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Rig, cat};

/// A provider that gives every call the same answer.
pub(crate) async fn provider(answer: Value) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let body = Bytes::from(answer.to_string());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let body = body.clone();
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let body = body.clone();
                async move {
                    request.into_body().collect().await?;
                    let mut answer = http::Response::new(Full::new(body));
                    let json = http::HeaderValue::from_static("application/json");
                    answer.headers_mut().insert("content-type", json);
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tcp), service);
            tokio::spawn(serving);
        }
    });
    address
}

/// A rig whose OpenAI lies at `address` and is priced by `prices`.
pub(crate) async fn rig(address: std::net::SocketAddr, prices: &str) -> Rig {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), prices).unwrap();
    let rig = Rig::plain(|settings| {
        settings.prices.push(file.path().to_owned());
        let mut openai = settings.providers.get("openai").unwrap().clone();
        openai.upstream = Some(Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(openai);
    })
    .await;
    drop(file);
    rig
}

pub(crate) const BY_THE_PICTURE: &str = "
providers:
- provider: openai
  charge: {reported: [{pointer: /bill/total, unit: usd}]}
  source: our own meter
  as_of: 2026-11-01
models:
- model: openai/house-model
  capability: {operations: [generate], sizes: [1024x1024, 512x512], usual: 1024x1024, formats: [png]}
  price: {per_image: {1024x1024: 0.04, 512x512: 0.01}}
  source: our own meter
  as_of: 2026-11-01
";

/// The beginning of a PNG of that size: all that is ever looked at.
pub(crate) fn png(width: u32, height: u32) -> String {
    use base64::Engine as _;
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend_from_slice(&width.to_be_bytes());
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&[8, 2, 0, 0, 0]);
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

async fn decision_for(answer: Value, prices: &str) -> Value {
    let rig = rig(provider(answer).await, prices).await;
    let mut body = cat("a cat");
    body["model"] = json!("house-model");
    body["size"] = json!("1024x1024");
    assert_eq!(rig.generate(&body).await.status(), 200);
    rig.decisions(1).await.remove(0)
}

fn notes(decision: &Value) -> String {
    decision["notes"].to_string()
}

#[tokio::test]
async fn a_file_of_ones_own_reads_the_charge_from_the_answer() {
    let answer =
        json!({"created": 1, "data": [{"b64_json": png(1024, 1024)}], "bill": {"total": "0.0625"}});
    let decision = decision_for(answer, BY_THE_PICTURE).await;
    let attempt = &decision["attempts"][0];
    assert_eq!(attempt["charge"], json!(0.0625), "{attempt}");
    assert_eq!(attempt["charge_from"], "reported");
    assert_eq!(attempt["codes"]["bill.total"], "0.0625");
    assert_eq!(attempt["discrepancy"], json!(0.0225));
    let notes = notes(&decision);
    assert!(
        notes.contains("quoted 1 image $0.04, charged") && notes.contains("$0.0225 beside"),
        "{notes}"
    );
}

#[tokio::test]
async fn a_picture_that_came_smaller_than_it_was_paid_for_is_told() {
    let answer =
        json!({"created": 1, "data": [{"b64_json": png(512, 512)}], "bill": {"total": "0.04"}});
    let decision = decision_for(answer, BY_THE_PICTURE).await;
    let notes = notes(&decision);
    assert!(
        notes.contains("1024x1024 was paid for and 512x512 came: $0.03 too much"),
        "{notes}"
    );
}

#[tokio::test]
async fn what_was_expected_is_not_worth_a_word() {
    let answer =
        json!({"created": 1, "data": [{"b64_json": png(1024, 1024)}], "bill": {"total": "0.0402"}});
    let decision = decision_for(answer, BY_THE_PICTURE).await;
    assert_eq!(decision["attempts"][0]["charge"], json!(0.0402));
    assert_eq!(decision["notes"], json!([]), "within a hundredth");
}
