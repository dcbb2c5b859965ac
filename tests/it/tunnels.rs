//! Hosts that are no provider's: passed on blind, whole, and only where that is allowed.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Rig, connector};

#[tokio::test]
async fn a_tunnel_shows_the_origins_own_certificate() {
    let signed = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let certificate = signed.cert.der().clone();
    let key =
        rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate.clone()], key)
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tls = tokio_rustls::TlsAcceptor::from(Arc::new(config))
            .accept(tcp)
            .await
            .unwrap();
        tls.write_all(b"from the origin").await.unwrap();
        tls.shutdown().await.unwrap();
    });
    let rig = Rig::start().await;
    let tcp = rig.tunnel(&format!("127.0.0.1:{port}")).await;
    let mut tls = connector(&signed.cert.pem(), &[])
        .connect("shop.example".try_into().unwrap(), tcp)
        .await
        .unwrap();
    assert_eq!(tls.get_ref().1.peer_certificates().unwrap()[0], certificate);
    let mut text = String::new();
    tls.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "from the origin");
}

#[tokio::test]
async fn a_side_that_stops_sending_still_hears_the_other_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut asked = String::new();
        tcp.read_to_string(&mut asked).await.unwrap(); // until the client's half is closed
        tcp.write_all(format!("heard: {asked}").as_bytes())
            .await
            .unwrap();
    });
    let rig = Rig::start().await;
    let mut tcp = rig.tunnel(&format!("127.0.0.1:{port}")).await;
    tcp.write_all(b"question").await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "heard: question");
}

#[tokio::test]
async fn a_target_that_does_not_answer_is_told_in_words() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let rig = Rig::start().await;
    let answer = rig
        .raw(&format!(
            "CONNECT 127.0.0.1:{free} HTTP/1.1\r\nHost: x\r\n\r\n"
        ))
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 502") && answer.contains("no connection to"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_websocket_flows_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        crate::harness::read_head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        let mut word = [0; 4];
        tcp.read_exact(&mut word).await.unwrap();
        tcp.write_all(&word).await.unwrap();
        let _ = tcp.read(&mut word).await;
    });
    let rig = Rig::plain(|settings| {
        let mut openai = settings.providers.get("openai").unwrap().clone();
        openai.upstream = Some(pixtoll::config::Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(openai);
    })
    .await;
    let mut tls = rig.tls("api.openai.com", 443).await;
    tls.write_all(
        b"GET /v1/realtime HTTP/1.1\r\nHost: api.openai.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    )
    .await
    .unwrap();
    let head = crate::harness::read_head(&mut tls).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    tls.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    tls.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn the_dashboards_address_is_not_reached_through_the_proxy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let board = listener.local_addr().unwrap();
    let rig = Rig::with(|settings| settings.dashboard = Some(board)).await;
    for host in ["127.0.0.1", "localhost", "127.1"] {
        let target = format!("{host}:{}", board.port());
        let answer = rig
            .raw(&format!(
                "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
    }
}

/// Intercepted, in the clear, at our own address and as a WebSocket: with simulated providers none
/// of these leads to a real one.
#[tokio::test]
async fn where_providers_are_simulated_one_that_is_not_hears_of_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let rig = Rig::with(|settings| {
        let mut together = settings.providers.get("together").unwrap().clone();
        assert!(together.dialects.is_empty(), "or this test needs another");
        together.hosts.push("together.test".to_owned());
        together.upstream = Some(pixtoll::config::Upstream {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        });
        settings.providers.put(together);
    })
    .await;
    let path = "/v1/images/generations";
    let mut answers = Vec::new();
    for host in ["api.together.ai", "together.test"] {
        answers.push(rig.call(host, path, &[], "application/json", "{}").await);
        let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
        answers.push(rig.call(host, path, &upgrade, "application/json", "").await);
    }
    let ours = rig.address();
    for (target, host) in [
        (
            format!("http://together.test{path}"),
            "together.test".to_owned(),
        ),
        (format!("/together{path}"), ours.to_string()),
    ] {
        let mut tcp = tokio::net::TcpStream::connect(ours).await.unwrap();
        let request = crate::harness::post(&host, &target, &[], "application/json", "{}");
        tcp.write_all(request.as_bytes()).await.unwrap();
        answers.push(crate::harness::read_answer(&mut tcp).await);
    }
    for answer in answers {
        let text = answer.text();
        assert_eq!(answer.status(), 501, "{text}");
        assert!(text.contains("no simulated together"), "{text}");
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    let nobody = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
    assert!(nobody.is_err(), "somebody came: {nobody:?}");
    assert!(rig.sim().requests().is_empty());
}
