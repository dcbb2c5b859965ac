//! What real clients put on the wire, and what nobody should.

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Rig, cat, post, read_answer, read_head};

#[tokio::test]
async fn connect_over_http_1_0_without_host_opens_a_tunnel() {
    let rig = Rig::start().await;
    let mut tcp = TcpStream::connect(rig.address()).await.unwrap();
    tcp.write_all(b"CONNECT api.openai.com:443 HTTP/1.0\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut tcp).await;
    assert!(head.contains(" 200 "), "{head}");
    let tls = crate::harness::connector(&rig.app.authority.ca_pem(), &[])
        .connect("api.openai.com".try_into().unwrap(), tcp)
        .await;
    let mut tls = tls.unwrap();
    let request = post(
        "api.openai.com",
        "/v1/images/generations",
        &[],
        "application/json",
        &cat("a cat").to_string(),
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut tls).await.status(), 200);
}

#[tokio::test]
async fn connection_close_on_connect_does_not_close_the_tunnel() {
    let rig = Rig::start().await;
    let mut tcp = TcpStream::connect(rig.address()).await.unwrap();
    let connect = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\nConnection: close\r\n\r\n";
    tcp.write_all(connect.as_bytes()).await.unwrap();
    assert!(read_head(&mut tcp).await.contains(" 200 "));
    let mut tls = crate::harness::connector(&rig.app.authority.ca_pem(), &[])
        .connect("api.openai.com".try_into().unwrap(), tcp)
        .await
        .unwrap();
    for prompt in ["one", "two"] {
        let request = post(
            "api.openai.com",
            "/v1/images/generations",
            &[],
            "application/json",
            &cat(prompt).to_string(),
        );
        tls.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut tls).await.status(), 200);
    }
}

#[tokio::test]
async fn clear_text_inside_a_tunnel_is_served() {
    let rig = Rig::start().await;
    let mut tcp = rig.tunnel("api.openai.com:80").await;
    let request = post(
        "api.openai.com",
        "/v1/images/generations",
        &[],
        "application/json",
        &cat("a cat").to_string(),
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut tcp).await.status(), 200);
}

#[tokio::test]
async fn http_2_is_spoken_where_the_client_offers_it() {
    let rig = Rig::start().await;
    let tcp = rig.tunnel("api.openai.com:443").await;
    let tls = crate::harness::connector(&rig.app.authority.ca_pem(), &[b"h2", b"http/1.1"])
        .connect("api.openai.com".try_into().unwrap(), tcp)
        .await
        .unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(tls),
    )
    .await
    .unwrap();
    let driver = tokio::spawn(connection);
    let body = http_body_util::Full::new(bytes::Bytes::from(cat("a cat").to_string()));
    let request = http::Request::post("https://api.openai.com/v1/images/generations")
        .header("authorization", "Bearer sk-canary")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("x-pixtoll-decision"));
    driver.abort();
}

#[tokio::test]
async fn absolute_form_to_ourselves_is_the_gateway() {
    let rig = Rig::start().await;
    let address = rig.address();
    let body = cat("a cat").to_string();
    let request = post(
        &address.to_string(),
        &format!("http://{address}/openai/v1/images/generations"),
        &[],
        "application/json",
        &body,
    );
    assert!(rig.raw(&request).await.starts_with("HTTP/1.1 200"));
    let mut tunnel = rig.tunnel(&address.to_string()).await;
    let request = post(
        &address.to_string(),
        "/openai/v1/images/generations",
        &[],
        "application/json",
        &body,
    );
    tunnel.write_all(request.as_bytes()).await.unwrap();
    let answer = read_answer(&mut tunnel).await;
    assert!(
        answer.header("cache-status").unwrap().contains("hit"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn a_base_url_names_provider_and_app() {
    let rig = Rig::start().await;
    let host = rig.address().to_string();
    for path in [
        "/v1/images/generations",
        "/openai/v1/images/generations",
        "/@catalog+bg/openai/v1/images/generations",
    ] {
        let request = post(&host, path, &[], "application/json", &cat(path).to_string());
        let answer = rig.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let decisions = rig.decisions(3).await;
    assert_eq!(decisions[2]["app"], "catalog");
    assert_eq!(decisions[2]["tags"], serde_json::json!(["bg"]));
    assert_eq!(decisions[2]["via"], "gateway");
    let unknown = rig
        .raw(&post(&host, "/nobody/v1/x", &[], "application/json", "{}"))
        .await;
    assert!(
        unknown.starts_with("HTTP/1.1 404") && unknown.contains("no provider `nobody`"),
        "{unknown}"
    );
}

#[tokio::test]
async fn names_that_disagree_are_misdirected() {
    let rig = Rig::start().await;
    let mut tls = rig.tls("api.openai.com", 443).await;
    let request = post(
        "api.stability.ai",
        "/v1/images/generations",
        &[],
        "application/json",
        "{}",
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut tls).await.status(), 421);

    let tcp = rig.tunnel("api.openai.com:443").await;
    let other = crate::harness::connector(&rig.app.authority.ca_pem(), &[])
        .connect("api.stability.ai".try_into().unwrap(), tcp)
        .await;
    assert!(other.is_err(), "the leaf is the tunnel's and no other's");
    assert_eq!(rig.sim().requests().len(), 0);
}

#[tokio::test]
async fn foreign_hosts_and_pages_spend_nothing() {
    let rig = Rig::start().await;
    let own = rig.address().to_string();
    let body = cat("a cat").to_string();
    let path = "/v1/images/generations";
    let cases: [(&str, &[(&str, &str)]); 4] = [
        ("evil.example", &[]),
        (&own, &[("origin", "https://evil.example")]),
        (&own, &[("sec-fetch-site", "cross-site")]),
        (&own, &[("origin", "null")]),
    ];
    for (host, headers) in cases {
        let answer = rig
            .raw(&post(host, path, headers, "application/json", &body))
            .await;
        assert!(
            answer.starts_with("HTTP/1.1 403"),
            "{host} {headers:?}: {answer}"
        );
    }
    assert_eq!(rig.sim().requests().len(), 0);
}

#[tokio::test]
async fn requests_that_read_two_ways_are_refused() {
    let rig = Rig::start().await;
    let own = rig.address();
    for request in [
        "POST /v1/images/generations HTTP/1.1\r\n\r\n".to_owned(),
        format!("POST /v1/x HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n\r\n"),
        format!("GET * HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        format!("CONNECT /path HTTP/1.1\r\nHost: {own}\r\n\r\n"),
        "CONNECT nowhere HTTP/1.1\r\nHost: nowhere\r\n\r\n".to_owned(),
    ] {
        let answer = rig.raw(&request).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{request:?}: {answer}");
    }
    assert_eq!(rig.sim().requests().len(), 0);
}

#[tokio::test]
async fn a_call_that_is_no_call_is_told_which_field_is_wrong() {
    let rig = Rig::start().await;
    let answer = rig
        .generate(&serde_json::json!({"model": "gpt-image-2", "prompt": 7}))
        .await;
    assert_eq!(answer.status(), 400);
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(message.contains("prompt"), "{message}");
    assert_eq!(rig.sim().requests().len(), 0);
    assert_eq!(rig.decisions(1).await[0]["error"]["by"], "pixtoll");
}

#[tokio::test]
async fn other_calls_of_a_provider_pass_untouched() {
    let rig = Rig::start().await;
    let mut tls = rig.tls("api.openai.com", 443).await;
    let request = "GET /v1/models HTTP/1.1\r\nHost: api.openai.com\r\nAuthorization: Bearer sk-canary\r\nx-pixtoll-app: secret-name\r\n\r\n";
    tls.write_all(request.as_bytes()).await.unwrap();
    let answer = read_answer(&mut tls).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.header("x-pixtoll-decision").is_none());
    assert!(matches!(answer.json()["data"], Value::Array(_)));
    let seen = rig.sim().requests();
    assert!(
        !format!("{seen:?}").contains("secret-name"),
        "our headers must not go on"
    );
}

#[tokio::test]
async fn a_token_is_asked_for_where_one_is_configured() {
    let rig = Rig::with(|settings| {
        let app = pixtoll::config::App {
            token: Some(pixtoll::secret::Secret::new("t0ken")),
        };
        settings.apps.insert("catalog".to_owned(), app);
    })
    .await;
    let bare = rig
        .raw("CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n\r\n")
        .await;
    assert!(bare.starts_with("HTTP/1.1 407"), "{bare}");
    let wrong = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\nProxy-Authorization: Basic Y2F0YWxvZzp3cm9uZw==\r\n\r\n";
    assert!(rig.raw(wrong).await.starts_with("HTTP/1.1 407"));
    let mut tcp = TcpStream::connect(rig.address()).await.unwrap();
    let right = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\nProxy-Authorization: Basic Y2F0YWxvZzp0MGtlbg==\r\n\r\n";
    tcp.write_all(right.as_bytes()).await.unwrap();
    assert!(read_head(&mut tcp).await.contains(" 200 "));
    let gateway = post(
        &rig.address().to_string(),
        "/@catalog/openai/v1/models",
        &[],
        "application/json",
        "{}",
    );
    assert!(rig.raw(&gateway).await.starts_with("HTTP/1.1 403"));
    let _ = tcp.read(&mut [0; 0]).await;
}
