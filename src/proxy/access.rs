//! Who asks, and what may be reached from here.
//!
//! A listener on loopback is open to the machine's own apps and leads wherever they could go
//! themselves. A wider one wants a token and leads to public addresses only. No web page may use
//! either, and no request leads back into our own dashboard.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderValue, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{Method, StatusCode};
use thiserror::Error;

use super::{Answer, plain};
use crate::pipeline::{Caller, CallerFrom};
use crate::secret::Secret;
use crate::upstream::dial;

/// The rules of one listener.
#[derive(Debug, Default)]
pub struct Access {
    /// Where we listen, once bound.
    pub own: Vec<SocketAddr>,
    pub dashboard: Option<SocketAddr>,
    /// Tokens by app. Empty: none is asked for.
    pub apps: BTreeMap<String, Option<Secret>>,
    /// Further names under which this listener is known (`public_url`).
    pub names: Vec<String>,
    /// The name of apps that give none.
    pub default_app: Option<(Arc<str>, Vec<Arc<str>>)>,
    /// Whether the listener is reachable from other machines.
    pub wide: bool,
}

/// What a target turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Ourselves,
    Dashboard,
    Elsewhere,
}

/// Why a request is turned away.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Denied {
    #[error(
        "this listener asks for an app's name and token: http://NAME:TOKEN@HOST:PORT as the proxy's URL"
    )]
    ProxyToken,
    #[error(
        "this listener asks for an app's token: send it as x-pixtoll-token, with /@NAME/ in the base URL"
    )]
    GatewayToken,
    #[error(
        "the Host header `{0}` is not this listener's: use the address pixtoll printed as the base URL"
    )]
    ForeignHost(String),
    #[error("a web page of another origin may not call this listener")]
    WebPage,
    #[error("the dashboard is not reached through the proxy")]
    OwnDashboard,
}

impl Denied {
    pub fn answer(&self) -> Answer {
        let status = match self {
            Denied::ProxyToken => StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            _ => StatusCode::FORBIDDEN,
        };
        let mut answer = plain(status, &self.to_string());
        if *self == Denied::ProxyToken {
            answer.headers_mut().insert(
                PROXY_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"pixtoll\""),
            );
        }
        answer
    }
}

impl Access {
    /// The caller by its proxy URL's user and password.
    ///
    /// # Errors
    /// [`Denied::ProxyToken`] where tokens are asked for and this one is missing or wrong.
    pub fn by_proxy(&self, headers: &HeaderMap) -> Result<Caller, Denied> {
        let credentials = headers.get(PROXY_AUTHORIZATION).and_then(basic);
        let (user, token) = credentials.unwrap_or_default();
        self.admit(
            &user,
            Some(token.as_str()).filter(|t| !t.is_empty()),
            CallerFrom::Proxy,
        )
        .ok_or(Denied::ProxyToken)
    }

    /// The caller by the `/@name/` in its base URL and its token header.
    ///
    /// # Errors
    /// [`Denied::GatewayToken`].
    pub fn by_base_url(&self, name: &str, headers: &HeaderMap) -> Result<Caller, Denied> {
        let token = headers
            .get("x-pixtoll-token")
            .and_then(|value| value.to_str().ok());
        let named = if name.is_empty() {
            headers
                .get("x-pixtoll-app")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        } else {
            name
        };
        self.admit(named, token, CallerFrom::Header)
            .ok_or(Denied::GatewayToken)
    }

    /// `name+tag+tag` and its token, if they are in order.
    fn admit(&self, name: &str, token: Option<&str>, from: CallerFrom) -> Option<Caller> {
        let mut parts = name
            .split('+')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Arc::<str>::from);
        let app = parts.next();
        let tags: Vec<Arc<str>> = parts.collect();
        if !self.apps.is_empty() {
            let expected = self.apps.get(app.as_deref()?)?;
            if let Some(expected) = expected
                && !expected.is(token?)
            {
                return None;
            }
        }
        Some(match (app, &self.default_app) {
            (Some(app), _) => Caller {
                app: Some(app),
                from,
                tags,
            },
            (None, Some((app, tags))) => Caller {
                app: Some(Arc::clone(app)),
                from: CallerFrom::Run,
                tags: tags.clone(),
            },
            (None, None) => Caller {
                app: None,
                from: CallerFrom::Agent,
                tags,
            },
        })
    }

    /// An origin-form call must be addressed to us and must not come from another site's page:
    /// a name that an attacker rebinds to this machine, and a page that posts blindly, spend
    /// nothing.
    ///
    /// # Errors
    /// [`Denied::ForeignHost`] and [`Denied::WebPage`].
    pub fn origin_form(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        let host = headers
            .get(http::header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !self.is_our_name(host) {
            return Err(Denied::ForeignHost(host.chars().take(80).collect()));
        }
        if let Some(site) = headers.get("sec-fetch-site")
            && !matches!(site.as_bytes(), b"none" | b"same-origin")
        {
            return Err(Denied::WebPage);
        }
        if let Some(origin) = headers.get(ORIGIN) {
            let own = origin
                .to_str()
                .ok()
                .and_then(|origin| origin.split_once("://"))
                .map(|(_, host)| host);
            if !own.is_some_and(|own| self.is_our_name(own)) || *method == Method::OPTIONS {
                return Err(Denied::WebPage);
            }
        }
        Ok(())
    }

    fn is_our_name(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<http::uri::Authority>() else {
            return false;
        };
        let port = authority.port_u16().unwrap_or(80);
        let name = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_ascii_lowercase();
        if self
            .names
            .iter()
            .any(|own| own.eq_ignore_ascii_case(host) || own.eq_ignore_ascii_case(&name))
        {
            return true;
        }
        let our_port = self.own.iter().any(|own| own.port() == port);
        let our_host = match name.parse::<IpAddr>() {
            Ok(ip) => {
                ip.is_loopback()
                    || self.own.iter().any(|own| own.ip() == ip)
                    || self.wide && is_local(ip)
            }
            Err(_) => name == "localhost",
        };
        our_port && our_host
    }

    /// Whether a target is one of our own sockets, however it is spelt or resolved.
    pub async fn place(&self, host: &str, port: u16) -> Place {
        let ours = self.own.iter().any(|own| own.port() == port);
        let board = self.dashboard.is_some_and(|board| board.port() == port);
        if !ours && !board {
            return Place::Elsewhere;
        }
        let Ok(addresses) = dial::resolve(host, port).await else {
            return Place::Elsewhere;
        };
        if !addresses.iter().any(|address| is_local(address.ip())) {
            return Place::Elsewhere;
        }
        if board {
            Place::Dashboard
        } else {
            Place::Ourselves
        }
    }

    /// Whether a tunnel may lead to `ip`.
    pub fn leads_to(&self, ip: IpAddr) -> bool {
        !self.wide || is_public(ip)
    }
}

/// User and password of a `Basic` header.
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    Some((user.to_owned(), password.to_owned()))
}

/// Whether an address is one of this machine's: only those can be bound.
fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Access {
        Access {
            own: vec!["127.0.0.1:8484".parse().unwrap()],
            ..Access::default()
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<http::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn only_our_own_names_reach_the_gateway() {
        let access = loopback();
        for host in [
            "127.0.0.1:8484",
            "localhost:8484",
            "[::1]:8484",
            "127.9.9.9:8484",
        ] {
            assert_eq!(
                access.origin_form(&Method::POST, &headers(&[("host", host)])),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "evil.example:8484",
            "localhost",
            "127.0.0.1:80",
            "10.0.0.1:8484",
            "",
        ] {
            let denied = access.origin_form(&Method::POST, &headers(&[("host", host)]));
            assert!(matches!(denied, Err(Denied::ForeignHost(_))), "{host}");
        }
    }

    #[test]
    fn no_page_of_another_origin_spends_anything() {
        let access = loopback();
        let cases: [(&[(&'static str, &str)], bool); 6] = [
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "https://evil.example")], false),
            (&[("origin", "null")], false),
            (&[("origin", "http://127.0.0.1:8484")], true),
        ];
        for (pairs, allowed) in cases {
            let mut all = headers(pairs);
            all.insert("host", "127.0.0.1:8484".parse().unwrap());
            assert_eq!(
                access.origin_form(&Method::POST, &all).is_ok(),
                allowed,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn a_proxy_url_names_the_app_and_its_tags() {
        let with = |text: &str| {
            headers(&[(
                "proxy-authorization",
                &format!("Basic {}", STANDARD.encode(text)),
            )])
        };
        let caller = loopback()
            .by_proxy(&with("catalog+background+hero:"))
            .unwrap();
        assert_eq!(
            (caller.app.as_deref(), caller.tags),
            (Some("catalog"), vec!["background".into(), "hero".into()])
        );
        assert_eq!(loopback().by_proxy(&HeaderMap::new()).unwrap().app, None);
        let guarded = Access {
            apps: [("catalog".into(), Some(Secret::new("t0ken")))].into(),
            ..loopback()
        };
        assert!(guarded.by_proxy(&with("catalog:t0ken")).is_ok());
        for wrong in ["catalog:nope", "catalog:", "other:t0ken", ""] {
            assert_eq!(
                guarded.by_proxy(&with(wrong)).unwrap_err(),
                Denied::ProxyToken,
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn our_own_sockets_are_known_however_they_are_spelt() {
        let access = Access {
            dashboard: Some("127.0.0.1:8485".parse().unwrap()),
            ..loopback()
        };
        for host in [
            "127.0.0.1",
            "localhost",
            "0.0.0.0",
            "127.1",
            "2130706433",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert_eq!(access.place(host, 8484).await, Place::Ourselves, "{host}");
            assert_eq!(access.place(host, 8485).await, Place::Dashboard, "{host}");
            assert_eq!(access.place(host, 443).await, Place::Elsewhere, "{host}");
        }
    }

    #[test]
    fn private_addresses_are_not_public() {
        for ip in [
            "127.0.0.1",
            "10.1.2.3",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "::1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "0.0.0.0",
        ] {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["1.1.1.1", "93.184.216.34", "2606:4700::1111"] {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }
}
