//! A whole pixtoll in front of simulated providers, and a client that says exactly what it is
//! told to.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::process::{Child, Command};
use std::sync::Arc;

use pixtoll::app::{App, Extras};
use pixtoll::config::{PluginEntry, Settings};
use pixtoll::sim::{Behaviour, Sim};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Rig {
    pub(crate) app: App,
    pub(crate) dir: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::with(|_| {}).await
    }

    /// With settings changed from the defaults.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Rig {
        Rig::build(change, true).await
    }

    /// Without simulated providers: whatever upstreams the settings name.
    pub(crate) async fn plain(change: impl FnOnce(&mut Settings)) -> Rig {
        Rig::build(change, false).await
    }

    async fn build(change: impl FnOnce(&mut Settings), sim: bool) -> Rig {
        let dir = TempDir::new().unwrap();
        let mut settings = Settings::defaults(dir.path().join("state"));
        settings.listen = vec![([127, 0, 0, 1], 0).into()];
        settings.dashboard = None;
        change(&mut settings);
        let app = App::start(settings, Extras { sim, app: None })
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        Rig { app, dir }
    }

    /// With one plugin, given as Lua text.
    pub(crate) async fn with_rule(lua: &str) -> Rig {
        let file = tempfile::Builder::new().suffix(".lua").tempfile().unwrap();
        std::fs::write(file.path(), lua).unwrap();
        Rig::with(|settings| {
            settings
                .plugins
                .push(PluginEntry::named(file.path().to_str().unwrap()))
        })
        .await
    }

    pub(crate) fn sim(&self) -> &Sim {
        self.app.sim().unwrap()
    }

    pub(crate) fn script(&self, provider: &str, behaviours: &[&str]) {
        let behaviours: Vec<Behaviour> = behaviours
            .iter()
            .map(|words| words.parse().unwrap())
            .collect();
        self.sim().script(provider, behaviours);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.address
    }

    /// Sends raw bytes and reads until the connection closes or `enough` says so.
    pub(crate) async fn raw(&self, request: &str) -> String {
        let mut tcp = TcpStream::connect(self.address()).await.unwrap();
        tcp.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut tcp).await.text()
    }

    /// A tunnel to `target`, after the 200.
    pub(crate) async fn tunnel(&self, target: &str) -> TcpStream {
        let mut tcp = TcpStream::connect(self.address()).await.unwrap();
        let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut tcp).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        tcp
    }

    /// TLS inside a tunnel, trusting our CA alone.
    pub(crate) async fn tls(&self, host: &str, port: u16) -> TlsStream<TcpStream> {
        let tcp = self.tunnel(&format!("{host}:{port}")).await;
        connector(&self.app.authority.ca_pem(), &[b"http/1.1"])
            .connect(ServerName::try_from(host.to_owned()).unwrap(), tcp)
            .await
            .unwrap()
    }

    /// One image call as an intercepted app makes it.
    pub(crate) async fn generate(&self, body: &Value) -> Answer {
        self.call(
            "api.openai.com",
            "/v1/images/generations",
            &[],
            "application/json",
            &body.to_string(),
        )
        .await
    }

    /// Sends an image call and leaves its answer to be read.
    pub(crate) async fn begin(&self, body: &Value) -> TlsStream<TcpStream> {
        let mut tls = self.tls("api.openai.com", 443).await;
        let path = "/v1/images/generations";
        let request = post(
            "api.openai.com",
            path,
            &[],
            "application/json",
            &body.to_string(),
        );
        tls.write_all(request.as_bytes()).await.unwrap();
        tls
    }

    pub(crate) async fn call(
        &self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        content_type: &str,
        body: &str,
    ) -> Answer {
        let mut tls = self.tls(host, 443).await;
        let request = post(host, path, headers, content_type, body);
        tls.write_all(request.as_bytes()).await.unwrap();
        tls.flush().await.unwrap(); // what a busy socket did not take yet lies in the TLS session
        read_answer(&mut tls).await
    }

    /// The decisions so far, once `count` of them are in the log.
    pub(crate) async fn decisions(&self, count: usize) -> Vec<Value> {
        self.lines(count, |line| line["type"] == "call").await
    }

    /// The notices of one kind so far, once `count` of them are in the log.
    pub(crate) async fn notices(&self, kind: &str, count: usize) -> Vec<Value> {
        self.lines(count, |line| {
            line["type"] == "notice" && line["kind"] == kind
        })
        .await
    }

    async fn lines(&self, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        for _ in 0..2000 {
            self.app.pipeline.log.flush().await.unwrap();
            let text = std::fs::read_to_string(self.app.pipeline.log.path()).unwrap_or_default();
            let lines: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .filter(&wanted)
                .collect();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("fewer than {count} lines of the wanted kind");
    }

    /// What the simulated providers billed, in nano-dollars.
    pub(crate) fn billed(&self) -> i64 {
        self.sim().bills().iter().map(|bill| bill.nano_usd).sum()
    }

    /// What the ledger has, spent and unknown, in nano-dollars.
    pub(crate) async fn booked(&self) -> i64 {
        let ledger = &self.app.pipeline.ledger;
        ledger.flush().await.unwrap();
        let totals = ledger
            .totals(&pixtoll::ledger::Filter::default())
            .await
            .unwrap();
        (totals.spent + totals.unknown).nano()
    }
}

pub(crate) fn post(
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    content_type: &str,
    body: &str,
) -> String {
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer sk-canary\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n{more}\r\n{body}",
        body.len()
    )
}

/// A small image call that the simulators answer.
pub(crate) fn cat(prompt: &str) -> Value {
    json!({"model": "gpt-image-2", "prompt": prompt, "size": "1024x1024", "quality": "low"})
}

pub(crate) fn connector(ca_pem: &str, alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

/// An answer as it came off the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads one answer, by its length, its chunks or to the end.
pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Answer {
    let mut answer = Answer {
        head: read_head(stream).await,
        body: Vec::new(),
    };
    let chunked = answer.header("transfer-encoding").is_some();
    let length = answer
        .header("content-length")
        .and_then(|text| text.parse::<usize>().ok());
    if chunked {
        loop {
            let size = read_line(stream).await;
            let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
            let mut piece = vec![0; size + 2];
            if stream.read_exact(&mut piece).await.is_err() || size == 0 {
                return answer;
            }
            answer.body.extend_from_slice(&piece[..size]);
        }
    }
    match length {
        Some(length) => {
            answer.body.resize(length, 0);
            let mut read = 0;
            while read < length {
                match stream.read(&mut answer.body[read..]).await {
                    Ok(0) | Err(_) => break,
                    Ok(more) => read += more,
                }
            }
            answer.body.truncate(read);
        }
        None if answer.status() != 204 => {
            let _ = stream.read_to_end(&mut answer.body).await;
        }
        None => {}
    }
    answer
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&line).into_owned()
}

/// A process that ends with its test, however that ends.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn spawn(command: &mut Command) -> Process {
        Process(command.spawn().unwrap())
    }

    /// As nothing can be caught.
    pub(crate) fn kill_9(mut self) {
        self.kill().unwrap();
        self.wait().unwrap();
    }
}

impl Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
