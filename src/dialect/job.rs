//! Words for work that a provider queues: the job, what an app may ask of it, how it stands.

use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Uri};

use super::Refusal;
use crate::bill::{Codes, Usage};
use crate::image::ImageResponse;
use crate::wire::{Message, Rope};

/// A job at a provider, as far as one answer tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The provider's name for it.
    pub id: String,
    /// The host that its next message goes to, lower case, where the answer names another than
    /// the one before. Named by the provider: whoever sends there sees to it that it is one of
    /// its own.
    pub host: Option<String>,
    /// What it is said to cost should it end well. The last answer's own word counts more.
    pub usage: Usage,
    /// Billing signals that the last answer may not repeat.
    pub codes: Codes,
}

/// That an app does not wait for its picture but asks for it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submit {
    /// So long it waits for the picture all the same before it goes on to ask.
    pub wait: Duration,
    /// The provider is to call somebody when the job ends: nobody else can stand in for it.
    pub webhook: bool,
}

/// What an app asks of a job it was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobCall {
    pub id: String,
    pub asks: JobAsk,
}

/// What can be asked of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobAsk {
    /// How it stands.
    Status,
    /// The picture.
    Result,
    /// To end it.
    Cancel,
}

/// A job of ours as an app is told of it.
#[derive(Clone, Copy, Debug)]
pub struct JobPlace<'a> {
    pub id: &'a str,
    /// Where this app reaches the provider's API: scheme, authority and perhaps a path, without a
    /// slash at its end.
    pub base: &'a str,
}

/// How a job of ours stands.
#[derive(Clone, Copy, Debug)]
pub enum JobState<'a> {
    Running,
    Done(&'a ImageResponse),
    Failed(&'a Refusal),
}

/// Where a URL of an answer leads: the path, and the host where it is `domain` or below it and is
/// reached by TLS. Any other host is left out: what is asked there goes where the call went.
pub(super) fn place(url: &str, domain: &str) -> Option<(Option<String>, PathAndQuery)> {
    let uri: Uri = url.parse().ok()?;
    let target = uri.path_and_query()?.clone();
    let host = uri.host()?.to_ascii_lowercase();
    let below = host
        .strip_suffix(domain)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let https = uri.scheme_str() == Some("https") && uri.port_u16().is_none_or(|port| port == 443);
    Some(((below && https).then_some(host), target))
}

/// A question about a job.
pub(super) fn question(target: PathAndQuery) -> Box<Message> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Box::new(Message {
        method: Method::GET,
        target,
        headers,
        body: Rope::new(),
    })
}

/// The first pause before a job is asked about; whoever asks lets it grow.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_only_ever_sent_to_a_host_of_the_domain() {
        let check = |url: &str, host: Option<&str>| {
            let (found, target) = place(url, "bfl.ai").unwrap();
            assert_eq!(found.as_deref(), host, "{url}");
            assert_eq!(target.as_str(), "/v1/x?id=1");
        };
        check("https://api.eu.bfl.ai/v1/x?id=1", Some("api.eu.bfl.ai"));
        check("https://API.BFL.AI/v1/x?id=1", Some("api.bfl.ai"));
        check("http://api.bfl.ai/v1/x?id=1", None);
        check("https://api.bfl.ai:8443/v1/x?id=1", None);
        check("https://evilbfl.ai/v1/x?id=1", None);
        check("https://api.bfl.ai.evil.test/v1/x?id=1", None);
        check("http://127.0.0.1:9/v1/x?id=1", None);
        assert_eq!(place("no url", "bfl.ai"), None);
    }
}
