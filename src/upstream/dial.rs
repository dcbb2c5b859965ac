//! Every outgoing connection: names resolved, addresses tried side by side, TLS verified, and all
//! of it through the company's proxy where there is one.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Destination;
use crate::cork::Corked;
use crate::image::FailureKind;

const CONNECT: Duration = Duration::from_secs(5);
const TLS: Duration = Duration::from_secs(10);
/// The head start of one address over the next (RFC 8305 recommends 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// Why a connection could not be made. Nothing was sent.
#[derive(Debug, Error)]
pub enum DialError {
    #[error("`{host}` has no address: {why}")]
    NoAddress { host: String, why: String },
    #[error("no connection to {to}: {why}")]
    Connect { to: String, why: String },
    #[error("no connection to {to} within {} s", CONNECT.as_secs())]
    Slow { to: String },
    #[error("no secure connection to {to}: {why}")]
    Handshake { to: String, why: String },
    #[error("the proxy {proxy} would not connect to {to}: {why}")]
    Proxy {
        proxy: String,
        to: String,
        why: String,
    },
    #[error("{to} is an address that nothing here leads to")]
    Forbidden { to: String },
}

impl DialError {
    pub fn kind(&self) -> FailureKind {
        match self {
            DialError::Slow { .. } => FailureKind::Timeout,
            _ => FailureKind::Network,
        }
    }
}

/// Why the roots to trust could not be read.
#[derive(Debug, Error)]
pub enum TrustError {
    #[error("{path}: {why}: a PEM file with certificates is wanted")]
    Unreadable { path: String, why: String },
}

/// The protocol that both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// A proxy that all our own connections go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHop {
    pub host: String,
    pub port: u16,
    /// `Basic …`, where the proxy wants one.
    pub authorization: Option<String>,
}

/// Opens connections.
#[derive(Clone)]
pub struct Dialer {
    /// Offers h2 and http/1.1.
    tls: TlsConnector,
    /// Offers http/1.1 alone, for upgrades.
    tls_http1: TlsConnector,
    hop: Option<Arc<ProxyHop>>,
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dialer")
            .field("hop", &self.hop.as_ref().map(|hop| &hop.host))
            .finish_non_exhaustive()
    }
}

impl Dialer {
    pub fn new(roots: RootCertStore, hop: Option<ProxyHop>) -> Dialer {
        let config = |alpn: &[&[u8]]| {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let mut config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("the provider speaks TLS 1.2 and 1.3")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            TlsConnector::from(Arc::new(config))
        };
        Dialer {
            tls: config(&[b"h2", b"http/1.1"]),
            tls_http1: config(&[b"http/1.1"]),
            hop: hop.map(Arc::new),
        }
    }

    /// A connection ready for requests.
    pub async fn connect(&self, to: &Destination) -> Result<(Stream, Protocol), DialError> {
        self.secure(to, &self.tls).await
    }

    /// A connection that speaks HTTP/1.1, whatever else the other side can.
    pub async fn connect_http1(&self, to: &Destination) -> Result<Stream, DialError> {
        Ok(self.secure(to, &self.tls_http1).await?.0)
    }

    /// The same, to an address that is `allowed`. Behind a company's proxy it is the proxy that
    /// finds the address; there only one that stands in the name itself is asked about.
    pub async fn connect_within(
        &self,
        to: &Destination,
        allowed: &(dyn Fn(IpAddr) -> bool + Sync),
    ) -> Result<Stream, DialError> {
        let literal: Option<IpAddr> = to.host.parse().ok();
        if literal.is_some_and(|ip| !allowed(ip)) {
            let to = to.to_string();
            return Err(DialError::Forbidden { to });
        }
        let tcp = self.tcp(&to.host, to.port, allowed).await?;
        Ok(self.shake(to, tcp, &self.tls_http1).await?.0)
    }

    async fn secure(
        &self,
        to: &Destination,
        tls: &TlsConnector,
    ) -> Result<(Stream, Protocol), DialError> {
        let tcp = self.tcp(&to.host, to.port, &anywhere).await?;
        self.shake(to, tcp, tls).await
    }

    async fn shake(
        &self,
        to: &Destination,
        tcp: TcpStream,
        tls: &TlsConnector,
    ) -> Result<(Stream, Protocol), DialError> {
        let tcp = Corked::new(tcp);
        if !to.tls {
            return Ok((Stream::Plain(tcp), Protocol::Http1));
        }
        let refused = |why: String| DialError::Handshake {
            to: to.to_string(),
            why,
        };
        let name = ServerName::try_from(to.host.to_string())
            .map_err(|error| refused(error.to_string()))?;
        let shaken = tokio::time::timeout(TLS, tls.connect(name, tcp)).await;
        let stream = match shaken {
            Ok(shaken) => shaken.map_err(|error| refused(error.to_string()))?,
            Err(_) => return Err(refused(format!("no handshake within {} s", TLS.as_secs()))),
        };
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((Stream::Tls(Box::new(stream)), protocol))
    }

    /// A bare TCP connection, through the proxy hop where there is one. `allowed` is asked of
    /// every address that the name resolves to, and the address asked about is the one connected.
    pub async fn tcp(
        &self,
        host: &str,
        port: u16,
        allowed: &(dyn Fn(IpAddr) -> bool + Sync),
    ) -> Result<TcpStream, DialError> {
        match &self.hop {
            Some(hop) => through(hop, host, port).await,
            None => direct(host, port, allowed).await,
        }
    }
}

/// Whether an address is one of the open internet's: none of a machine, a link or a private net.
pub fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(four) => {
            let [a, b, ..] = four.octets();
            !(four.is_loopback()
                || four.is_private()
                || four.is_link_local()
                || four.is_unspecified()
                || four.is_broadcast()
                || four.is_multicast()
                || four.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
                || four == Ipv4Addr::new(192, 0, 0, 192))
        }
        IpAddr::V6(six) => {
            let first = six.segments()[0];
            let nat64 = six.segments()[..2] == [0x64, 0xff9b];
            !(six.is_loopback()
                || six.is_unspecified()
                || six.is_multicast()
                || first & 0xfe00 == 0xfc00
                || first & 0xffc0 == 0xfe80
                || nat64)
        }
    }
}

/// Every address will do.
pub fn anywhere(_: IpAddr) -> bool {
    true
}

/// All addresses of a name, IPv6 and IPv4 in turn as RFC 8305 orders them.
///
/// # Errors
/// [`DialError::NoAddress`].
pub async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let none = |why: String| DialError::NoAddress {
        host: host.to_owned(),
        why,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port))
        .await
        .map_err(|error| none(error.to_string()))?;
    let (six, four): (VecDeque<_>, VecDeque<_>) = found.partition(SocketAddr::is_ipv6);
    let (mut six, mut four) = (six, four);
    let mut ordered = Vec::new();
    while !six.is_empty() || !four.is_empty() {
        ordered.extend(six.pop_front());
        ordered.extend(four.pop_front());
    }
    if ordered.is_empty() {
        Err(none("the name resolves to nothing".to_owned()))
    } else {
        Ok(ordered)
    }
}

async fn direct(
    host: &str,
    port: u16,
    allowed: &(dyn Fn(IpAddr) -> bool + Sync),
) -> Result<TcpStream, DialError> {
    let to = format!("{host}:{port}");
    let mut addresses = resolve(host, port).await?;
    addresses.retain(|address| allowed(address.ip()));
    if addresses.is_empty() {
        return Err(DialError::Forbidden { to });
    }
    match tokio::time::timeout(CONNECT, race(&addresses)).await {
        Ok(Ok(stream)) => {
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(DialError::Connect {
            to,
            why: error.to_string(),
        }),
        Err(_) => Err(DialError::Slow { to }),
    }
}

/// The first address to answer; each gets a head start over the next, so that a broken IPv6 does
/// not cost minutes. The last error when none answers.
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if let [only] = addresses {
        return TcpStream::connect(only).await;
    }
    let mut attempts: FuturesUnordered<_> = addresses
        .iter()
        .zip(0u32..)
        .map(|(address, place)| async move {
            tokio::time::sleep(STAGGER * place).await;
            TcpStream::connect(address).await
        })
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn through(hop: &ProxyHop, host: &str, port: u16) -> Result<TcpStream, DialError> {
    let refused = |why: String| DialError::Proxy {
        proxy: format!("{}:{}", hop.host, hop.port),
        to: format!("{host}:{port}"),
        why,
    };
    let mut stream = direct(&hop.host, hop.port, &anywhere).await?;
    let authorization = hop
        .authorization
        .as_ref()
        .map(|value| format!("Proxy-Authorization: {value}\r\n"))
        .unwrap_or_default();
    let request =
        format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}\r\n");
    let answered = async {
        stream.write_all(request.as_bytes()).await?;
        // One byte at a time: whatever follows the head belongs to the tunnel.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && head.len() < 16 << 10 {
            head.push(stream.read_u8().await?);
        }
        io::Result::Ok(String::from_utf8_lossy(&head).into_owned())
    };
    let head = match tokio::time::timeout(TLS, answered).await {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return Err(refused(error.to_string())),
        Err(_) => return Err(refused("it did not answer".to_owned())),
    };
    let status = head.split_whitespace().nth(1).unwrap_or("nothing");
    if status.starts_with('2') {
        Ok(stream)
    } else {
        Err(refused(format!("it answered {status}")))
    }
}

/// The system's roots (Mozilla's where there are none) and those of the given PEM files.
///
/// # Errors
/// [`TrustError`] when a given file holds no certificate.
pub fn roots(more: &[&Path]) -> Result<RootCertStore, TrustError> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    }
    for path in more {
        let refused = |why: String| TrustError::Unreadable {
            path: path.display().to_string(),
            why,
        };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| refused(error.to_string()))?;
        if store.add_parsable_certificates(certificates).0 == 0 {
            return Err(refused("it holds no certificate".to_owned()));
        }
    }
    Ok(store)
}

/// A connection, with or without TLS.
#[derive(Debug)]
pub enum Stream {
    Plain(Corked),
    Tls(Box<TlsStream<Corked>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
