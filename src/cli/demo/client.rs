//! The demo's sample app: an ordinary HTTPS client behind a proxy, which trusts what an app
//! started by `run` would trust.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "api.openai.com";

/// One call of the sample app.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) body: Value,
    pub(super) tags: &'static str,
}

pub(super) struct Client {
    proxy: SocketAddr,
    tls: TlsConnector,
}

impl Client {
    pub(super) fn new(proxy: SocketAddr, ca_pem: &str) -> anyhow::Result<Client> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client {
            proxy,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// CONNECT, TLS, one request; the answer's status.
    pub(super) async fn call(&self, call: &Call) -> anyhow::Result<StatusCode> {
        let mut tcp = TcpStream::connect(self.proxy).await?;
        tcp.set_nodelay(true)?;
        tcp.write_all(
            format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n").as_bytes(),
        )
        .await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tcp.read_u8().await?);
        }
        anyhow::ensure!(
            head.starts_with(b"HTTP/1.1 200"),
            "the proxy refused the tunnel"
        );
        let tls = self.tls.connect(ServerName::try_from(HOST)?, tcp).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let body = Full::new(Bytes::from(call.body.to_string()));
        let request = Request::post("/v1/images/generations")
            .header("host", HOST)
            .header("content-type", "application/json")
            .header("authorization", "Bearer sk-of-the-sample-app")
            .header("user-agent", "sample-app/1.0")
            .header("x-pixtoll-app", "shop")
            .header("x-pixtoll-tags", call.tags)
            .body(body)?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            drop(sender);
            Ok::<_, hyper::Error>(status)
        };
        let (status, _) = tokio::join!(exchange, connection);
        Ok(status?)
    }
}
