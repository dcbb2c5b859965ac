//! Brings a price file here: from a path, or over HTTPS by the way that calls take.

use std::time::Duration;

use http::header::{ACCEPT, LOCATION, USER_AGENT};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Limited};

use crate::app;
use crate::config::Settings;
use crate::upstream::{Destination, Inbound, Outbound};

/// Far more than any price book takes.
const MOST_BYTES: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The text of a price file.
///
/// # Errors
/// Why it could not be had, in words.
pub(super) async fn fetch(source: &str, settings: &Settings) -> Result<String, String> {
    let bytes = match source.split_once("://") {
        None => std::fs::read(source).map_err(|error| format!("cannot be read: {error}"))?,
        Some(_) => {
            let got = tokio::time::timeout(PATIENCE, get(source, settings)).await;
            got.map_err(|_| format!("nothing within {} s", PATIENCE.as_secs()))??
        }
    };
    String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned())
}

async fn get(url: &str, settings: &Settings) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
    let to = destination(&uri)?;
    let path = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(path)
        .header(ACCEPT, "application/yaml, text/yaml, text/plain, */*")
        .header(USER_AGENT, concat!("pixtoll/", env!("CARGO_PKG_VERSION")))
        .body(Outbound::empty())
        .map_err(|error| error.to_string())?;
    let upstream = app::upstream(settings).map_err(|error| error.to_string())?;
    let answer = upstream
        .send(&to, request, PATIENCE)
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    if status.is_redirection() {
        let to = answer
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        return Err(format!(
            "it has moved to {}: name that, if you trust it",
            to.unwrap_or("a place that it does not tell")
        ));
    }
    if !status.is_success() {
        return Err(format!("{to} answered {status}"));
    }
    body(answer.into_body()).await
}

async fn body(body: Inbound) -> Result<Vec<u8>, String> {
    let whole = Limited::new(body, MOST_BYTES).collect().await;
    let whole = whole.map_err(|error| format!("the answer broke off: {error}"))?;
    Ok(whole.to_bytes().to_vec())
}

/// Prices decide what is spent, so they come over TLS, or from this machine.
fn destination(uri: &Uri) -> Result<Destination, String> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare == "localhost"
        || bare
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") if !bare.is_empty() => {
            Ok(Destination::https(bare, uri.port_u16().unwrap_or(443)))
        }
        Some("http") if is_here => Ok(Destination::http(bare, uri.port_u16().unwrap_or(80))),
        Some("http") => Err("prices over plain http could be anybody's: use https".to_owned()),
        _ => Err("no URL that prices can come from: use https://… or a path".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_come_over_tls_or_from_here() {
        let to = |url: &str| destination(&url.parse().unwrap()).map(|to| to.to_string());
        assert_eq!(to("https://a.example/p.yaml").unwrap(), "https://a.example");
        assert_eq!(
            to("https://a.example:8443/p").unwrap(),
            "https://a.example:8443"
        );
        assert_eq!(
            to("http://127.0.0.1:9000/p").unwrap(),
            "http://127.0.0.1:9000"
        );
        assert_eq!(to("http://[::1]:9000/p").unwrap(), "http://[::1]:9000");
        assert!(to("http://a.example/p").unwrap_err().contains("use https"));
        assert!(to("ftp://a.example/p").is_err());
    }
}
