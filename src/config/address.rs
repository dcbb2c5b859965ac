//! Addresses in a configuration: hosts to intercept, and servers to send to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A server: scheme, host and port, and nothing else of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Upstream {
    pub tls: bool,
    /// Lower case; an IPv6 address without its brackets.
    pub host: String,
    pub port: u16,
}

/// A URL taken apart as far as a configuration may use it.
pub(super) struct Url<'a> {
    pub(super) server: Upstream,
    /// `user:password`, still percent-encoded.
    pub(super) userinfo: Option<&'a str>,
    /// From the slash on; empty when there is none, or only the slash.
    pub(super) path: &'a str,
}

impl Upstream {
    /// An `https` server on its usual port; for names that are known to be right.
    pub fn https(host: &str) -> Upstream {
        Upstream {
            tls: true,
            host: host.to_ascii_lowercase(),
            port: 443,
        }
    }

    /// Reads `http://host[:port]` or `https://host[:port]`.
    ///
    /// # Errors
    /// What is wrong with the text, to be continued by an example. It quotes nothing of the text,
    /// which may hold a password.
    pub fn parse(text: &str) -> Result<Upstream, String> {
        let url = Url::parse(text)?;
        if url.userinfo.is_some() {
            return Err("has a user name in it".to_owned());
        }
        if !url.path.is_empty() {
            return Err("has a path, and only scheme, host and port count here".to_owned());
        }
        Ok(url.server)
    }

    /// Whether it is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// `host` or `host:port`, as a Host header has it.
    pub fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        let host = match self.host.parse::<Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => self.host.clone(),
        };
        if self.port == usual {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl<'a> Url<'a> {
    /// Takes an `http` or `https` URL apart.
    pub(super) fn parse(text: &'a str) -> Result<Url<'a>, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("has no http:// or https:// in front")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("begins with neither http:// nor https://".to_owned()),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, host_port) = match authority.rsplit_once('@') {
            Some((userinfo, host_port)) => (Some(userinfo), host_port),
            None => (None, authority),
        };
        let (host, port) = split_port(host_port)?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => Some(if tls { 443 } else { 80 }),
        };
        Ok(Url {
            server: Upstream {
                tls,
                host: host_name(host)?,
                port: port.ok_or("has a port that is none")?,
            },
            userinfo,
            path: if path == "/" { "" } else { path },
        })
    }
}

/// `host:port`, `[v6]:port` or either without a port.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest
            .split_once(']')
            .ok_or("has a bracket that is not closed")?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("has something between bracket and port".to_owned()),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => {
            Err("has an IPv6 address without brackets".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// One host's name or IP address, lower case and without a final dot.
///
/// # Errors
/// What is wrong with it, to be continued by an example.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host);
    }
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    if host.contains('*') {
        return Err("stands for many hosts, and hosts are named one by one".to_owned());
    }
    if host.contains("://") || host.contains('/') {
        return Err("is a URL, and only the host's name counts here".to_owned());
    }
    if host.contains(':') {
        return Err("has a port, and a host is intercepted on every port".to_owned());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err("is no host's name".to_owned());
    }
    Ok(host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_server_is_read_and_printed() {
        for (text, printed) in [
            ("https://api.openai.com", "https://api.openai.com"),
            ("https://API.OpenAI.com:443/", "https://api.openai.com"),
            ("http://10.0.0.7:7860", "http://10.0.0.7:7860"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://host.", "https://host"),
        ] {
            assert_eq!(
                Upstream::parse(text).map(|u| u.to_string()),
                Ok(printed.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_server_says_why() {
        for (text, why) in [
            ("api.openai.com", "has no http:// or https:// in front"),
            ("ftp://host", "neither http:// nor https://"),
            ("https://api.openai.com/v1", "has a path"),
            ("https://api.openai.com?x=1", "has a path"),
            ("https://me:secret@host", "user name"),
            ("https://", "names no host"),
            ("https://host:0", "port"),
            ("https://host:70000", "port"),
            ("https://::1", "without brackets"),
            ("https://[::1", "not closed"),
            ("https://[::1]x", "between"),
            ("https://a b", "no host's name"),
        ] {
            let error = Upstream::parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
            assert!(!error.contains("secret"));
        }
    }

    #[test]
    fn a_host_is_one_name() {
        for (text, want) in [
            ("SD.studio.LAN", Ok("sd.studio.lan")),
            ("10.0.0.7", Ok("10.0.0.7")),
            ("::1", Ok("::1")),
            ("*.openai.azure.com", Err("stands for many hosts")),
            ("https://sd.lan", Err("is a URL")),
            ("sd.lan:80", Err("has a port")),
            ("sd lan", Err("is no host's name")),
            ("a..b", Err("is no host's name")),
        ] {
            match (host_name(text), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => panic!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn printing_and_reading_is_the_identity(tls: bool, host in "[a-z]{1,9}(\\.[a-z]{1,5})?", port in 1u16..) {
            let server = Upstream { tls, host, port };
            prop_assert_eq!(Upstream::parse(&server.to_string()), Ok(server));
        }

        #[test]
        fn no_text_makes_it_panic(text in "(https?://)?\\PC{0,16}") {
            let _ = Upstream::parse(&text);
        }
    }
}
