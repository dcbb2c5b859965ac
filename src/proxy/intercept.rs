//! The inside of a tunnel to a provider: TLS ended here with a leaf of our own, or clear text.
//!
//! `CONNECT`, SNI and Host must name the same host: a request for another would be judged by one
//! name and sent by another.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;

use super::deaf::Waiting;
use super::{
    Answer, BETWEEN_REQUESTS, HEAD_PATIENCE, MAX_HEAD, MAX_HEADERS, Proxy, Site, gateway, guard,
    plain,
};
use crate::action::Via;
use crate::cork::Corked;
use crate::listen::{Closing, DEAF};
use crate::pipeline::{Caller, Distrust, Provider};
use crate::upstream::Destination;

/// What the client asked for with its `CONNECT`.
#[derive(Clone, Debug)]
pub(super) struct Inside {
    caller: Caller,
    place: Option<Target>,
    /// A request came through.
    used: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Target {
    provider: Arc<Provider>,
    destination: Destination,
}

impl Inside {
    pub(super) fn provider(
        caller: Caller,
        provider: Arc<Provider>,
        host: &str,
        port: u16,
    ) -> Inside {
        Inside {
            caller,
            place: Some(Target {
                provider,
                destination: Destination {
                    tls: true,
                    host: host.into(),
                    port,
                },
            }),
            used: Arc::default(),
        }
    }

    /// A tunnel to our own gateway: a client with both a proxy and a base URL set.
    pub(super) fn ourselves(caller: Caller) -> Inside {
        Inside {
            caller,
            place: None,
            used: Arc::default(),
        }
    }
}

/// The first byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// GnuTLS and some others end the handshake, look at the certificate then, and leave. Who leaves
/// later without a request had a connection to spare.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

/// Serves what comes through the tunnel.
pub(super) async fn serve(proxy: Arc<Proxy>, upgraded: Upgraded, inside: Inside, closing: Closing) {
    let mut stream = Rewound::of(upgraded);
    let Ok(Ok(Some(first))) = tokio::time::timeout(HEAD_PATIENCE, stream.peek()).await else {
        return; // the client changed its mind
    };
    match (&inside.place, first) {
        (Some(target), TLS_HANDSHAKE) => {
            let target = target.clone();
            secure(proxy, stream, inside, target, closing).await;
        }
        _ => one(proxy, stream, inside, false, None, closing).await,
    }
}

async fn secure(
    proxy: Arc<Proxy>,
    stream: Rewound,
    inside: Inside,
    target: Target,
    closing: Closing,
) {
    let config = match proxy
        .authority
        .server_config(&target.destination.host, true)
    {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(host = %target.destination.host, %error, "no certificate could be made");
            return;
        }
    };
    let accepting = TlsAcceptor::from(config).accept(stream);
    let tls = match tokio::time::timeout(HEAD_PATIENCE, accepting).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return distrusted(&proxy, &target, &inside.caller, &error),
        Err(_) => return,
    };
    let (_, connection) = tls.get_ref();
    let sni = connection.server_name().map(str::to_ascii_lowercase);
    let begun = Instant::now();
    let (caller, used) = (inside.caller.clone(), Arc::clone(&inside.used));
    if connection.alpn_protocol() == Some(b"h2") {
        two(Arc::clone(&proxy), tls, inside, sni, closing).await;
    } else {
        one(Arc::clone(&proxy), tls, inside, true, sni, closing).await;
    }
    if !used.load(Ordering::Relaxed) && begun.elapsed() < SECOND_THOUGHTS {
        let how = "it hung up after the handshake".to_owned();
        proxy
            .pipeline
            .get()
            .distrusted(distrust(&target, &caller, how));
    }
}

/// A handshake that failed: the one thing an app's developer must hear of, since the app itself
/// only says "connection error". OpenSSL sends an alert, others hang up without a word.
fn distrusted(proxy: &Proxy, target: &Target, caller: &Caller, error: &io::Error) {
    let alert = error.to_string();
    let how = if alert.contains("Alert") || alert.contains("alert") {
        alert.as_str()
    } else {
        "it hung up"
    };
    let distrust = distrust(target, caller, how.to_owned());
    proxy.pipeline.get().distrusted(distrust);
}

fn distrust(target: &Target, caller: &Caller, how: String) -> Distrust {
    Distrust {
        host: target.destination.host.to_string(),
        app: caller.app.as_deref().map(str::to_owned),
        how,
    }
}

async fn one<S>(
    proxy: Arc<Proxy>,
    stream: S,
    inside: Inside,
    tls: bool,
    sni: Option<String>,
    mut closing: Closing,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (proxy, inside, sni) = (Arc::clone(&proxy), inside.clone(), sni.clone());
        // Boxed: hyper would copy all of it into the connection for every request.
        Box::pin(async move {
            Ok::<_, Infallible>(request_inside(proxy, request, inside, tls, sni).await)
        })
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(BETWEEN_REQUESTS)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closing.closed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an intercepted connection ended");
    }
}

async fn two<S>(
    proxy: Arc<Proxy>,
    stream: S,
    inside: Inside,
    sni: Option<String>,
    mut closing: Closing,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let waiting = Waiting::at_most(DEAF);
    let answers = waiting.clone();
    let service = service_fn(move |request| {
        let (proxy, inside, sni) = (Arc::clone(&proxy), inside.clone(), sni.clone());
        let answers = answers.clone();
        async move {
            let answer = request_inside(proxy, request, inside, true, sni).await;
            Ok::<_, Infallible>(answer.map(|body| answers.watch(body)))
        }
    });
    let serving = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(16 << 10)
        .max_send_buf_size(1 << 20)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = waiting.too_long() => {
            tracing::debug!("a client took nothing of its answer: its connection is given up");
            return;
        }
        () = closing.closed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an intercepted connection ended");
    }
}

async fn request_inside(
    proxy: Arc<Proxy>,
    request: Request<Incoming>,
    inside: Inside,
    tls: bool,
    sni: Option<String>,
) -> Answer {
    if let Err(fault) = guard::check(&request) {
        return fault.answer();
    }
    let Inside {
        caller,
        place,
        used,
    } = inside;
    used.store(true, Ordering::Relaxed);
    let Some(target) = place else {
        return Box::pin(gateway::route(&proxy, request, caller)).await;
    };
    if let Some(other) = other_host(&request, &target, sni.as_deref()) {
        let text = format!(
            "the tunnel leads to {} and the request is for {other}",
            target.destination.host
        );
        return plain(StatusCode::MISDIRECTED_REQUEST, &text);
    }
    let destination = Destination {
        tls,
        ..target.destination
    };
    proxy
        .call(
            request,
            Site {
                provider: target.provider,
                destination,
                via: Via::Intercept,
            },
            caller,
        )
        .await
}

/// The first name that is not the tunnel's, if any.
fn other_host(request: &Request<Incoming>, target: &Target, sni: Option<&str>) -> Option<String> {
    if let Some(sni) = sni.filter(|sni| **sni != *target.destination.host) {
        return Some(sni.to_owned());
    }
    let header = request
        .headers()
        .get(http::header::HOST)
        .and_then(|value| value.to_str().ok());
    let named = header
        .into_iter()
        .chain(request.uri().authority().map(http::uri::Authority::as_str));
    named
        .filter(|name| !is_same(name, target))
        .map(str::to_owned)
        .next()
}

fn is_same(name: &str, target: &Target) -> bool {
    let Destination {
        host: ours, port, ..
    } = &target.destination;
    if name == &**ours {
        return true;
    }
    let Ok(authority) = name.parse::<http::uri::Authority>() else {
        return false;
    };
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .trim_end_matches('.');
    host.eq_ignore_ascii_case(ours) && authority.port_u16().is_none_or(|named| named == *port)
}

/// The client's connection with the bytes that were read ahead put back in front.
struct Rewound {
    ahead: Bytes,
    inner: Inner,
}

enum Inner {
    /// The usual case: hyper's wrapper taken off again, so that TLS reads the socket itself.
    Tcp(Corked),
    Wrapped(TokioIo<Upgraded>),
}

impl Rewound {
    fn of(upgraded: Upgraded) -> Rewound {
        match upgraded.downcast::<TokioIo<Corked>>() {
            Ok(parts) => Rewound {
                ahead: parts.read_buf,
                inner: Inner::Tcp(parts.io.into_inner()),
            },
            Err(upgraded) => Rewound {
                ahead: Bytes::new(),
                inner: Inner::Wrapped(TokioIo::new(upgraded)),
            },
        }
    }

    /// The next byte, left in place; `None` at the end.
    async fn peek(&mut self) -> io::Result<Option<u8>> {
        if let Some(first) = self.ahead.first() {
            return Ok(Some(*first));
        }
        let mut byte = [0];
        match &mut self.inner {
            Inner::Tcp(tcp) => Ok((tcp.peek(&mut byte).await? > 0).then_some(byte[0])),
            Inner::Wrapped(wrapped) => {
                if wrapped.read(&mut byte).await? == 0 {
                    return Ok(None);
                }
                self.ahead = Bytes::copy_from_slice(&byte);
                Ok(Some(byte[0]))
            }
        }
    }
}

impl AsyncRead for Rewound {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead[..taken]);
            self.ahead.advance(taken);
            return Poll::Ready(Ok(()));
        }
        match &mut self.inner {
            Inner::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Inner::Wrapped(wrapped) => Pin::new(wrapped).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Tcp(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Inner::Wrapped(wrapped) => Pin::new(wrapped).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Inner::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bytes),
            Inner::Wrapped(wrapped) => Pin::new(wrapped).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self.inner, Inner::Tcp(_))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Inner::Wrapped(wrapped) => Pin::new(wrapped).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.inner {
            Inner::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Wrapped(wrapped) => Pin::new(wrapped).poll_shutdown(cx),
        }
    }
}
