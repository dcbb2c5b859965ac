//! The way out: every connection to a provider, and to whatever a tunnel leads to.
//!
//! Knows nothing of calls or prices. What it promises is to say how far a request got: a request
//! of which not one byte was written may be sent again freely, any other may already be paid for.

pub mod body;
pub mod decode;
pub mod dial;
pub mod fetch;
pub mod limits;
mod one;
mod pool;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, Version, header};
use thiserror::Error;

pub use body::{Inbound, Outbound};
pub use dial::{DialError, Dialer, Stream};
pub use limits::Gate;

use crate::image::{Failure, FailureKind, Sent};
use pool::{Pool, Taken};

/// Where a request goes: a host, a port, with or without TLS.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub tls: bool,
    /// Lower case, no port.
    pub host: Arc<str>,
    pub port: u16,
}

impl Destination {
    pub fn https(host: &str, port: u16) -> Destination {
        Destination {
            tls: true,
            host: host.to_ascii_lowercase().into(),
            port,
        }
    }

    pub fn http(host: &str, port: u16) -> Destination {
        Destination {
            tls: false,
            host: host.to_ascii_lowercase().into(),
            port,
        }
    }

    /// As a Host header has it: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let mut text = String::with_capacity(self.host.len() + "[]:65535".len());
        let [before, after] = match self.host.contains(':') {
            true => ["[", "]"],
            false => ["", ""],
        };
        for part in [before, &self.host, after] {
            text.push_str(part);
        }
        if !matches!((self.tls, self.port), (true, 443) | (false, 80)) {
            text.push(':');
            text.push_str(&self.port.to_string());
        }
        text
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.authority()
        )
    }
}

/// Why a request brought no answer.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct SendError {
    pub kind: FailureKind,
    pub sent: Sent,
    pub message: String,
}

impl SendError {
    fn not_sent(kind: FailureKind, message: impl Into<String>) -> SendError {
        SendError {
            kind,
            sent: Sent::NotSent,
            message: message.into(),
        }
    }

    fn lost(kind: FailureKind, message: impl Into<String>) -> SendError {
        SendError {
            kind,
            sent: Sent::Unknown,
            message: message.into(),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        match error.sent {
            Sent::NotSent => Failure::not_sent(error.kind, error.message),
            _ => Failure::lost(error.kind, error.message),
        }
    }
}

/// How long the way out may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the answer's head is there, from the moment the request is ready to go.
    pub head: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
}

impl Default for Patience {
    /// Five minutes for the first byte (a 4K picture takes three), one for any further.
    fn default() -> Patience {
        Patience {
            head: Duration::from_secs(300),
            idle: Duration::from_secs(60),
        }
    }
}

/// Pooled connections to providers.
#[derive(Debug)]
pub struct Upstream {
    pool: Pool,
    patience: Patience,
}

impl Upstream {
    pub fn new(dialer: Dialer, patience: Patience) -> Upstream {
        Upstream {
            pool: Pool::new(dialer),
            patience,
        }
    }

    /// The dialer, for what is no pooled request: tunnels and upgrades.
    pub fn dialer(&self) -> &Dialer {
        self.pool.dialer()
    }

    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Sends one request and waits for the head of its answer. `request` is in origin form; its
    /// Host header is set here.
    ///
    /// A connection that turns out to be closed before a byte was written is replaced, once; so is
    /// one whose other side declines the request before it looks at it.
    ///
    /// # Errors
    /// [`SendError`], which says whether anything may have reached the provider.
    pub async fn send(
        &self,
        to: &Destination,
        request: Request<Outbound>,
        patience: Duration,
    ) -> Result<Response<Inbound>, SendError> {
        let late = |sent| SendError {
            kind: FailureKind::Timeout,
            sent,
            message: format!("{to} did not answer within {} s", patience.as_secs()),
        };
        let deadline = tokio::time::Instant::now() + patience;
        let mut request = request;
        for fresh in [false, true] {
            let taking = self.pool.take(to, fresh);
            let taken = match tokio::time::timeout_at(deadline, taking).await {
                Ok(taken) => {
                    taken.map_err(|error| SendError::not_sent(error.kind(), error.to_string()))?
                }
                Err(_) => return Err(late(Sent::NotSent)),
            };
            match tokio::time::timeout_at(deadline, self.exchange(taken, to, request)).await {
                Err(_) => return Err(late(Sent::Unknown)),
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(Exchange::Unsent(again))) => request = *again,
                Ok(Err(Exchange::Refused(Some(again), _))) if !fresh => request = *again,
                Ok(Err(Exchange::Refused(_, message))) => {
                    return Err(SendError::not_sent(FailureKind::Overloaded, message));
                }
                Ok(Err(Exchange::Lost(message))) => {
                    return Err(SendError::lost(FailureKind::Network, message));
                }
            }
        }
        Err(SendError::not_sent(
            FailureKind::Network,
            format!("{to} closed every connection at once"),
        ))
    }

    async fn exchange(
        &self,
        taken: Taken,
        to: &Destination,
        mut request: Request<Outbound>,
    ) -> Result<Response<Inbound>, Exchange> {
        address(&mut request, to, &taken);
        match taken {
            Taken::One(mut leased) => match leased.one.send(request).await {
                Ok(response) => Ok(response.map(|body| Inbound::new(body, leased))),
                Err(mut error) => Err(Exchange::of(
                    error.take_message(),
                    None,
                    &error.into_error(),
                    to,
                )),
            },
            Taken::Two(mut sender) => {
                let copy = copy(&request);
                match sender.try_send_request(request).await {
                    Ok(response) => Ok(response.map(Inbound::shared)),
                    Err(mut error) => Err(Exchange::of(
                        error.take_message(),
                        copy,
                        &error.into_error(),
                        to,
                    )),
                }
            }
        }
    }
}

/// Why an exchange on one connection brought nothing.
enum Exchange {
    /// Not one byte was written.
    Unsent(Box<Request<Outbound>>),
    /// Written, and declined before anybody looked at it (RFC 9113, 8.7): the request once more,
    /// where it is all in hand.
    Refused(Option<Box<Request<Outbound>>>, String),
    Lost(String),
}

impl Exchange {
    fn of(
        unsent: Option<Request<Outbound>>,
        copy: Option<Request<Outbound>>,
        error: &hyper::Error,
        to: &Destination,
    ) -> Exchange {
        match unsent {
            Some(request) => Exchange::Unsent(Box::new(request)),
            None if is_refused(error) => Exchange::Refused(
                copy.map(Box::new),
                format!("{to} takes no further request on this connection"),
            ),
            None => Exchange::Lost(format!(
                "the connection to {to} broke before an answer came: {error}"
            )),
        }
    }
}

/// The request once more, where its body is in hand: its bytes are shared.
fn copy(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let body = request.body().copy()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// Whether the other side says that it has not processed the request, and will not: of this one
/// alone, or with a GOAWAY that names an earlier request as the last (RFC 9113, 6.8). Those that it
/// has begun end otherwise when their connection ends.
fn is_refused(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let alone = || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (error.is_go_away() || alone());
        }
        cause = error.source();
    }
    false
}

/// Puts the request in the form its connection's protocol wants.
fn address(request: &mut Request<Outbound>, to: &Destination, taken: &Taken) {
    let authority = to.authority();
    match taken {
        Taken::One(_) => {
            *request.version_mut() = Version::HTTP_11;
            if let Ok(host) = HeaderValue::try_from(authority) {
                request.headers_mut().insert(header::HOST, host);
            }
        }
        Taken::Two(_) => {
            *request.version_mut() = Version::HTTP_2;
            request.headers_mut().remove(header::HOST);
            let target = request.uri().path_and_query().cloned();
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if to.tls {
                http::uri::Scheme::HTTPS
            } else {
                http::uri::Scheme::HTTP
            });
            parts.authority = authority.parse().ok();
            parts.path_and_query = target;
            if let Ok(uri) = http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
}

/// Takes off the headers that belong to one connection only (RFC 9110, 7.6.1), and those that
/// `Connection` names.
pub fn strip_hop_by_hop(headers: &mut http::HeaderMap) {
    static OF_THE_HOP: [HeaderName; 8] = [
        header::CONNECTION,
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("keep-alive"),
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if !headers.keys().any(|name| OF_THE_HOP.contains(name)) {
        return;
    }
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in &OF_THE_HOP {
        headers.remove(name);
    }
    for name in &named {
        headers.remove(name.as_str());
    }
}
