//! A picture at an address that a provider's answer named.
//!
//! The address is somebody else's word: no key goes there, no redirect is followed, and nothing of
//! this machine or its net is reached unless the provider itself is configured to be there.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
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

    async fn get(
        &self,
        to: &Destination,
        target: Uri,
        most: usize,
        anywhere: bool,
        room: &Room,
    ) -> Result<Fetched, FetchError> {
        let allowed = move |ip| anywhere || dial::is_public(ip);
        let stream = self.dialer().connect_within(to, &allowed).await?;
        let broken =
            |error: &dyn std::fmt::Display| FetchError::Broken(to.clone(), error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let request = Request::get(target)
            .header(HOST, to.authority())
            .header(ACCEPT, "image/*, */*")
            .header(USER_AGENT, concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| broken(&error))?;
        let asking = async move {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(|error| broken(&error))?.into_parts();
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
            let declared = head.headers.get(http::header::CONTENT_TYPE);
            let declared = declared.and_then(|value| value.to_str().ok());
            Ok(Fetched {
                format: declared.map_or(Format::Unknown, Format::from_media_type),
                // In one block of its own: a piece as it comes holds a whole read buffer.
                body: Rope::from(picture.to_bytes()),
            })
        };
        // The connection is driven beside, and ends with its one request.
        let (fetched, _) = futures_util::future::join(asking, connection).await;
        fetched
    }
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
