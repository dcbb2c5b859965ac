//! A picture at an address that a provider's answer named.
//!
//! The address is somebody else's word: no key goes there, no redirect is followed, and nothing of
//! this machine or its net is reached unless the provider itself is configured to be there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::request::Builder;
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;

use super::dial::{self, DialError};
use super::{Destination, Upstream};
use crate::image::Format;
use crate::room::Room;
use crate::wire::Rope;

/// From the first byte of a connection to the last of a picture.
const PATIENCE: Duration = Duration::from_secs(60);

/// The same for a message that is posted.
const POSTING: Duration = Duration::from_secs(10);

/// A picture that was fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// As the server declares it.
    pub format: Format,
    pub body: Rope,
}

/// Why a picture was not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("its address is no http or https address")]
    NoAddress,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("{0} answered {1}")]
    Status(Destination, u16),
    #[error("it is larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
    #[error("{0} broke off: {1}")]
    Broken(Destination, String),
    #[error("{to} did not send it within {} s", PATIENCE.as_secs(), to = .0)]
    Slow(Destination),
}

impl Upstream {
    /// Fetches the picture at `url`, of at most `most` bytes, into `room`; `anywhere` allows addresses of this
    /// machine and its net.
    ///
    /// # Errors
    /// [`FetchError`]. It may be tried again: fetching costs nothing.
    pub async fn fetch(
        &self,
        url: &str,
        most: usize,
        anywhere: bool,
        room: &Room,
    ) -> Result<Fetched, FetchError> {
        let (to, target) = located(url).ok_or(FetchError::NoAddress)?;
        match tokio::time::timeout(PATIENCE, self.get(&to, target, most, anywhere, room)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(FetchError::Slow(to)),
        }
    }

    /// Posts `body` to `url`, which is the operator's own: any address will do. Returns the status.
    ///
    /// # Errors
    /// [`FetchError`], which names the host and no more of the URL.
    pub async fn post(&self, url: &str, kind: &str, body: String) -> Result<u16, FetchError> {
        let (to, target) = located(url).ok_or(FetchError::NoAddress)?;
        let request = asking(&to, Request::post(target))
            .header(CONTENT_TYPE, kind)
            .body(Full::from(body));
        let request = request.map_err(|error| FetchError::Broken(to.clone(), error.to_string()))?;
        let read = |head: Parts, _| async move { Ok(head.status.as_u16()) };
        let posting = self.once(&to, request, true, read);
        match tokio::time::timeout(POSTING, posting).await {
            Ok(posted) => posted,
            Err(_) => Err(FetchError::Slow(to)),
        }
    }

    async fn get(
        &self,
        to: &Destination,
        target: Uri,
        most: usize,
        anywhere: bool,
        room: &Room,
    ) -> Result<Fetched, FetchError> {
        let broken =
            |error: &dyn std::fmt::Display| FetchError::Broken(to.clone(), error.to_string());
        let request = asking(to, Request::get(target))
            .header(ACCEPT, "image/*, */*")
            .body(Full::<Bytes>::default())
            .map_err(|error| broken(&error))?;
        let read = |head: Parts, body: Incoming| async move {
            if !head.status.is_success() {
                return Err(FetchError::Status(to.clone(), head.status.as_u16()));
            }
            let mut body = body;
            let mut picture = Rope::new();
            while let Some(frame) = body.frame().await {
                let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else {
                    continue;
                };
                if picture.len() + data.len() > most {
                    return Err(FetchError::TooLarge(most));
                }
                room.grow(picture.len() + data.len()).await;
                picture.push(data);
            }
            let declared = head.headers.get(CONTENT_TYPE);
            let declared = declared.and_then(|value| value.to_str().ok());
            Ok(Fetched {
                format: declared.map_or(Format::Unknown, Format::from_media_type),
                // In one block of its own: a piece as it comes holds a whole read buffer.
                body: Rope::from(picture.to_bytes()),
            })
        };
        self.once(to, request, anywhere, read).await
    }

    /// Sends one request on a connection of its own, and has its answer read.
    async fn once<T, F: Future<Output = Result<T, FetchError>>>(
        &self,
        to: &Destination,
        request: Request<Full<Bytes>>,
        anywhere: bool,
        read: impl FnOnce(Parts, Incoming) -> F,
    ) -> Result<T, FetchError> {
        let allowed = move |ip| anywhere || dial::is_public(ip);
        let stream = self.dialer().connect_within(to, &allowed).await?;
        let broken =
            |error: &dyn std::fmt::Display| FetchError::Broken(to.clone(), error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let asking = async move {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| broken(&error))?.into_parts();
            read(head, body).await
        };
        // The connection is driven beside, and ends with its one request.
        let (fetched, _) = futures_util::future::join(asking, connection).await;
        fetched
    }
}

/// A request of ours to that host.
fn asking(to: &Destination, request: Builder) -> Builder {
    request
        .header(HOST, to.authority())
        .header(USER_AGENT, concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
}

/// Where a URL leads; a user name in it is left out, as it would be a key.
fn located(url: &str) -> Option<(Destination, Uri)> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let to = match uri.scheme_str()? {
        "https" => Destination::https(host, uri.port_u16().unwrap_or(443)),
        "http" => Destination::http(host, uri.port_u16().unwrap_or(80)),
        _ => return None,
    };
    let target = uri.path_and_query().cloned()?;
    Some((to, Uri::from(target)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Dialer, Patience};

    #[test]
    fn only_web_addresses_lead_somewhere() {
        let check = |url: &str, expected: Option<&str>| {
            let found = located(url).map(|(to, target)| format!("{to}{target}"));
            assert_eq!(found.as_deref(), expected, "{url}");
        };
        check(
            "https://a.test/x.png?sig=1",
            Some("https://a.test/x.png?sig=1"),
        );
        check("http://A.test:8080/x", Some("http://a.test:8080/x"));
        check("https://user:key@a.test/x", Some("https://a.test/x"));
        check("file:///etc/passwd", None);
        check("/x.png", None);
        check("data:image/png;base64,AAAA", None);
    }

    #[tokio::test]
    async fn nothing_of_this_machine_is_fetched_because_an_answer_says_so() {
        let dialer = Dialer::new(rustls::RootCertStore::empty(), None);
        let upstream = Upstream::new(dialer, Patience::default());
        let room = crate::room::Memory::new(0, 0).room();
        for url in [
            "http://127.0.0.1:9/x",
            "http://[::1]:9/x",
            "http://localhost:9/x",
        ] {
            let refused = upstream
                .fetch(url, 1 << 20, false, &room)
                .await
                .unwrap_err();
            assert!(
                matches!(refused, FetchError::Dial(DialError::Forbidden { .. })),
                "{url}: {refused}"
            );
        }
        let tried = upstream
            .fetch("http://127.0.0.1:9/x", 1 << 20, true, &room)
            .await;
        assert!(matches!(
            tried,
            Err(FetchError::Dial(DialError::Connect { .. }))
        ));
    }
}
