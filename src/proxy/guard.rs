//! What a proxy must refuse and an HTTP library need not: requests that two readers could read
//! differently, and bodies without end. Two lengths in one head cannot be met here: the library
//! keeps the one that counts, and every request is worded anew on its way out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::HOST;
use http::{Request, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use thiserror::Error;

use super::{Answer, plain};
use crate::room::Room;

/// Why a request is refused before anybody reads it.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("the request has no Host header")]
    NoHost,
    #[error("the request has several Host headers")]
    ManyHosts,
    #[error("the Host header `{0}` is not a host and a port")]
    BadHost(String),
    #[error("the request's target is not a path")]
    BadTarget,
}

impl Fault {
    pub(super) fn answer(&self) -> Answer {
        let mut answer = plain(StatusCode::BAD_REQUEST, &self.to_string());
        answer.headers_mut().insert(
            http::header::CONNECTION,
            http::HeaderValue::from_static("close"),
        );
        answer
    }
}

/// Refuses what could be read in two ways.
///
/// `CONNECT` over HTTP/1.0 without a Host is let through: Python's `requests` sends it.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Fault> {
    let headers = request.headers();
    let is_connect = request.method() == http::Method::CONNECT;
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::ManyHosts);
    }
    match host {
        Some(host) => {
            let text = host.to_str().unwrap_or_default();
            if !is_host(text) {
                return Err(Fault::BadHost(text.chars().take(80).collect()));
            }
        }
        None if request.version() == Version::HTTP_11
            && !is_connect
            && request.uri().authority().is_none() =>
        {
            return Err(Fault::NoHost);
        }
        None => {}
    }
    let path = request.uri().path();
    if !is_connect && !path.starts_with('/') {
        return Err(Fault::BadTarget);
    }
    Ok(())
}

/// A name or address, with a port or none; no user, no list.
fn is_host(text: &str) -> bool {
    let parsed = text.parse::<http::uri::Authority>();
    !text.contains('@')
        && !text.contains(',')
        && parsed.is_ok_and(|authority| !authority.host().is_empty())
}

/// So long a body waits for room in memory.
const ROOM_PATIENCE: Duration = Duration::from_secs(5);
/// So long nothing of a body may come: whoever holds room must use it.
const IDLE: Duration = Duration::from_secs(60);
/// What must have come a second, on the whole: bytes that drip hold as much room as any.
const SLOWEST: u64 = 8 << 10;
/// So long what is declined is heard out: most clients send everything before they listen.
const HEARD_OUT: Duration = Duration::from_secs(10);

/// Why a body is not in hand.
#[derive(Debug)]
pub(super) enum NoBody {
    TooLarge,
    /// There is no room for it in memory.
    NoRoom,
    /// It stopped coming, or drips.
    Slow,
    Broken(hyper::Error),
}

/// The whole body, if it is no larger than `most` bytes and there is room for it.
pub(super) async fn whole_body(
    mut body: Incoming,
    most: usize,
    room: &Room,
) -> Result<Bytes, NoBody> {
    match read_whole(&mut body, most, room).await {
        Err(declined @ (NoBody::TooLarge | NoBody::NoRoom)) => {
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            let _ = tokio::time::timeout(HEARD_OUT, rest).await;
            Err(declined)
        }
        read => read,
    }
}

async fn read_whole(body: &mut Incoming, most: usize, room: &Room) -> Result<Bytes, NoBody> {
    let told = body.size_hint().lower();
    let told = usize::try_from(told).ok().filter(|told| *told <= most);
    let told = told.ok_or(NoBody::TooLarge)?;
    if !room.grow_within(told, ROOM_PATIENCE).await {
        return Err(NoBody::NoRoom);
    }
    let began = tokio::time::Instant::now();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let came = (first.len() + rest.len()) as u64;
        let slowest = IDLE + Duration::from_secs(came / SLOWEST);
        let until = (began + slowest).min(tokio::time::Instant::now() + IDLE);
        let frame = match tokio::time::timeout_at(until, body.frame()).await {
            Ok(Some(frame)) => frame.map_err(NoBody::Broken)?,
            Ok(None) => break,
            Err(_) => return Err(NoBody::Slow),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.len() + rest.len() + data.len();
        if length > most {
            return Err(NoBody::TooLarge);
        }
        if length > told && !room.grow_within(length, ROOM_PATIENCE).await {
            return Err(NoBody::NoRoom);
        }
        if first.is_empty() && rest.is_empty() {
            first = data; // most calls come in one piece, which need not be copied
        } else {
            if rest.is_empty() {
                rest.reserve(
                    first.len()
                        + usize::try_from(body.size_hint().lower()).unwrap_or(0)
                        + data.len(),
                );
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn verdict(
        build: impl Fn(http::request::Builder) -> http::request::Builder,
    ) -> Result<(), Fault> {
        check(&build(Request::builder()).body(()).unwrap())
    }

    #[test]
    fn a_request_that_reads_in_two_ways_is_refused() {
        assert_eq!(verdict(|r| r.uri("/").header("host", "a:1")), Ok(()));
        assert_eq!(verdict(|r| r.uri("/")), Err(Fault::NoHost));
        assert_eq!(
            verdict(|r| r.uri("/").header("host", "a").header("host", "a")),
            Err(Fault::ManyHosts)
        );
        for host in ["", "u@a", "a, b", "a b", "http://a"] {
            assert!(
                matches!(
                    verdict(|r| r.uri("/").header("host", host)),
                    Err(Fault::BadHost(_))
                ),
                "{host}"
            );
        }
        assert_eq!(
            verdict(|r| r.uri("*").header("host", "a")),
            Err(Fault::BadTarget)
        );
    }

    #[test]
    fn connect_over_http_1_0_without_host_is_let_through() {
        assert_eq!(
            verdict(|r| r.method("CONNECT").uri("a:443").version(Version::HTTP_10)),
            Ok(())
        );
    }
}
