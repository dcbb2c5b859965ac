//! The simulators' sockets, and the way of a request through them: which provider, whether it is
//! valid, what shall happen to it, its bill, its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::answer::{Answer, Body};
use super::behaviour::{self, BadBehaviour, Behaviour, Fault};
use super::bills::{Bill, Seen, short_digest};
use super::{
    Shared, batch, bfl, control, fal, google, ideogram, openai, queued, replicate, stability,
};
use crate::task::Tasks;

/// The largest request that is read: OpenAI takes sixteen pictures of 50 MB, and a simulator need
/// not be that patient.
const MOST_BODY: usize = 128 * 1024 * 1024;
/// With this a client opens HTTP/2 that it agreed on with nobody.
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// Headers whose values are recorded as digests.
const SECRET: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "api-key",
    "x-api-key",
    "x-goog-api-key",
    "x-key",
    "cookie",
];

/// Headers in which a provider looks for a key.
const CREDENTIALS: &[&str] = &["authorization", "api-key", "x-goog-api-key", "x-key"];

/// A whole request, with what tells its provider taken off.
pub(super) struct Arrived {
    pub(super) method: Method,
    /// Without the provider's prefix.
    pub(super) path: String,
    /// Without its question mark; empty where there is none.
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The key of `Authorization: Bearer KEY`, if there is one.
    pub(super) fn bearer(&self) -> Option<&str> {
        let value = self.header(AUTHORIZATION.as_str())?;
        let (scheme, key) = value.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !key.trim().is_empty()).then_some(key.trim())
    }
}

/// A valid image request: what it costs and how its provider answers it.
pub(super) trait Order: Send {
    fn provider(&self) -> &'static str;
    /// As in the provider's price list.
    fn model(&self) -> &str;
    fn prompt(&self) -> &str;
    fn images(&self) -> u32;
    /// Nano-dollars when the pictures are drawn.
    fn price(&self, behaviour: &Behaviour) -> i64;
    /// Nano-dollars when an answer without a picture is a success all the same.
    fn price_without_picture(&self) -> i64;
    /// Nano-dollars when moderation refuses the input: most providers take nothing.
    fn price_when_refused(&self) -> i64 {
        0
    }
    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer;
    /// Another model that works on it and is billed beside it: its name, nano-dollars.
    fn beside(&self, _behaviour: &Behaviour) -> Option<(&str, i64)> {
        None
    }
    /// What is said of it where it is worked on as a job; `None`: it is answered at once.
    fn job(&self, _behaviour: &Behaviour, _shared: &Shared, _id: &str) -> Option<queued::Pages> {
        None
    }
}

/// What a provider makes of a request.
pub(super) enum Verdict {
    Order(Box<dyn Order>),
    /// An answer that costs nothing.
    Answer(Answer),
}

/// Accepts until the simulators stop.
pub(super) async fn accept(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    shared: Arc<Shared>,
    tasks: Tasks,
) {
    let mut stopping = shared.stopping.subscribe();
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = connection(socket, acceptor.clone(), Arc::clone(&shared));
                tasks.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a simulated provider lost a connection");
                    }
                });
            }
            // Out of descriptors, most likely: some will come free.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn connection(
    mut socket: TcpStream,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    if let Some(acceptor) = tls {
        let stream = acceptor.accept(socket).await?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        return converse(stream, h2, shared).await;
    }
    let mut start = Vec::with_capacity(H2_PREFACE.len());
    let h2 = loop {
        if start.len() >= H2_PREFACE.len() {
            break true;
        }
        let mut stopping = shared.stopping.subscribe();
        let read = tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
            read = socket.read_buf(&mut start) => read?,
        };
        let known = start.len().min(H2_PREFACE.len());
        if read == 0 || start[..known] != H2_PREFACE[..known] {
            break false;
        }
    };
    let (reader, writer) = socket.split();
    let reader = io::Cursor::new(start).chain(reader);
    converse(tokio::io::join(reader, writer), h2, shared).await
}

/// Serves one connection to its end, or to the end of its answers when the simulators stop.
async fn converse<S>(stream: S, h2: bool, shared: Arc<Shared>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stopping = shared.stopping.subscribe();
    let service = service_fn(move |request| handle(request, Arc::clone(&shared)));
    let stream = TokioIo::new(stream);
    /// The two protocols' connections are of two types, and driven alike.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            tokio::select! {
                end = connection.as_mut() => return end.map_err(io::Error::other),
                _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
            }
            connection.await.map_err(io::Error::other)
        }};
    }
    if h2 {
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(stream, service);
        drive!(server)
    } else {
        let server = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(stream, service);
        drive!(server)
    }
}

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let host = host(&head);
    // A release that comes between arrival and wait must count, so the count is read first.
    let releases = shared.releases.subscribe();
    let Ok(body) = Limited::new(body, MOST_BODY).collect().await else {
        let answer = Answer::new(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "too large\n");
        return Ok(answer.send(&Fault::None));
    };
    let body = body.to_bytes();
    if let Some(control) = path.strip_prefix("/_sim") {
        let answer = control::answer(&head.method, control, &query, &body, &shared).await;
        return Ok(answer.send(&Fault::None));
    }
    let has_key = head.headers.contains_key("api-key");
    let (provider, path) = if openai::azure::is_meant(&host, &path, has_key) {
        ("azure", path)
    } else {
        provider(&host, &path)
    };
    record(&head, provider, &body, &shared);
    let arrived = Arrived {
        method: head.method,
        path,
        query,
        headers: head.headers,
        body,
    };
    if let Some(answered) = batch::handle(provider, &arrived, &releases, &shared).await {
        return answered;
    }
    let verdict = match provider {
        "azure" => openai::azure::judge(&arrived, &shared),
        "google" => google::judge(&arrived, &shared),
        "stability" => stability::judge(&arrived, &shared),
        "fal" => fal::judge(&arrived, &shared),
        "replicate" => replicate::judge(&arrived, &shared),
        "bfl" => bfl::judge(&arrived, &shared),
        "ideogram" => ideogram::judge(&arrived, &shared),
        _ => openai::judge(&arrived, &shared),
    };
    match verdict {
        Verdict::Order(order) => fulfil(order, &arrived, releases, &shared).await,
        Verdict::Answer(mut answer) => {
            answer.compress(&arrived.headers, shared.options.force_encoding);
            Ok(answer.send(&Fault::None))
        }
    }
}

/// Decides what happens to an order, bills it, and does it.
async fn fulfil(
    order: Box<dyn Order>,
    arrived: &Arrived,
    releases: watch::Receiver<u64>,
    shared: &Shared,
) -> io::Result<Response<Body>> {
    let behaviour = match decide(order.as_ref(), arrived, shared) {
        Ok(behaviour) => behaviour,
        Err(mistake) => {
            let text = format!("simulated providers: {mistake}\n");
            let answer = Answer::new(StatusCode::BAD_REQUEST, "text/plain", text);
            return Ok(answer.send(&Fault::None));
        }
    };
    let id = request_id(order.provider(), shared);
    book(order.as_ref(), &behaviour, arrived, &id, 1, shared);
    if queued::takes_on(&behaviour.fault)
        && let Some(pages) = order.job(&behaviour, shared, &id)
    {
        return queued::take_on(pages, &behaviour, &id, &releases, shared).await;
    }
    wait(&behaviour, releases, shared).await?;
    if behaviour.fault == Fault::Drop {
        return Err(io::Error::other("dropped on demand"));
    }
    let mut answer = order.answer(&behaviour, shared, &id);
    answer.compress(&arrived.headers, shared.options.force_encoding);
    Ok(answer.send(&behaviour.fault))
}

/// The host that the client addressed, though somebody between may have sent it here.
fn host(head: &http::request::Parts) -> String {
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let here = head.uri.host().or(text(HOST.as_str()));
    let host = text("x-forwarded-host").or(here).unwrap_or_default();
    host.split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase()
}

/// The provider, and the path on its host: told by the path's first segment, by the host, or by
/// the route.
fn provider(host: &str, path: &str) -> (&'static str, String) {
    for provider in PROVIDERS {
        let rest = path
            .strip_prefix('/')
            .and_then(|rest| rest.strip_prefix(provider));
        if let Some(rest) = rest.filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            return (provider, rest.to_owned());
        }
    }
    if is_google(host, path) {
        return ("google", path.to_owned());
    }
    let of = |domain: &str| host == domain || host.ends_with(&format!(".{domain}"));
    let by_host = DOMAINS.iter().find(|(domain, _)| of(domain));
    let provider = by_host.map_or_else(|| provider_of_route(path), |(_, provider)| provider);
    (provider, path.to_owned())
}

const PROVIDERS: [&str; 8] = [
    "openai",
    "azure",
    "stability",
    "google",
    "fal",
    "replicate",
    "bfl",
    "ideogram",
];
const DOMAINS: [(&str, &str); 6] = [
    ("openai.com", "openai"),
    ("stability.ai", "stability"),
    ("fal.run", "fal"),
    ("replicate.com", "replicate"),
    ("bfl.ai", "bfl"),
    ("ideogram.ai", "ideogram"),
];

fn provider_of_route(path: &str) -> &'static str {
    let begins = |routes: &[&str]| routes.iter().any(|route| path.starts_with(route));
    let ideograms = [
        "/v1/ideogram-",
        "/v2/image/",
        "/v2/generations/",
        "/v1/generations/",
    ];
    if begins(&ideograms) {
        "ideogram"
    } else if begins(&["/v2beta/", "/v1/generation/", "/v1/user/", "/v1/engines/"]) {
        "stability"
    } else if begins(&["/v1/flux-", "/v1/get_result", "/v1/credits"]) {
        "bfl"
    } else if begins(&["/v1/predictions", "/v1/deployments/", "/v1/account"])
        || path.starts_with("/v1/models/")
            && (path.ends_with("/predictions") || path.contains("/versions/"))
    {
        "replicate"
    } else if !begins(&["/v1/"]) && path.matches('/').count() > 1 {
        "fal" // its routes are its apps' names
    } else {
        "openai"
    }
}

/// By Google's hosts, or by a path of the Gemini API or of Vertex AI.
fn is_google(host: &str, path: &str) -> bool {
    let versions = ["/v1beta/", "/v1beta1/", "/v1/projects/", "/v1/publishers/"];
    host.ends_with(".googleapis.com")
        || versions.iter().any(|version| path.starts_with(version))
        || path.starts_with("/v1/models/") && path.contains(':')
}

pub(super) fn request_id(provider: &str, shared: &Shared) -> String {
    let id = shared.request_id();
    match provider {
        "openai" => format!("req_{id}"),
        "fal" | "bfl" => queued::uuid(&id),
        _ => id,
    }
}

fn record(head: &http::request::Parts, provider: &'static str, body: &Bytes, shared: &Shared) {
    let headers = head.headers.iter().map(|(name, value)| {
        let text = if SECRET.contains(&name.as_str()) {
            format!("blake3:{}", short_digest(value.as_bytes()))
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        (name.as_str().to_owned(), text)
    });
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let target = without_key(target);
    let seen = Seen {
        number: 0,
        at: jiff::Timestamp::now(),
        provider,
        method: head.method.to_string(),
        target,
        version: format!("{:?}", head.version),
        headers: headers.collect(),
        authorization: CREDENTIALS
            .iter()
            .any(|name| head.headers.contains_key(*name)),
        body_len: body.len(),
        body_digest: blake3::hash(body).to_hex().to_string(),
    };
    let mut books = shared.books.lock();
    books.record(seen);
    let arrived = books.arrived;
    // Within the lock, so that a reset and two arrivals cannot overtake each other.
    shared.arrived.send_replace(arrived);
}

/// A key in the query is recorded as its digest, as it would be in a header.
fn without_key(target: &str) -> String {
    let Some((before, rest)) = target.split_once("key=") else {
        return target.to_owned();
    };
    let (key, after) = rest.split_at(rest.find('&').unwrap_or(rest.len()));
    format!("{before}key=blake3:{}{after}", short_digest(key.as_bytes()))
}

/// What shall happen: the header says first, then the prompt, then the script.
pub(super) fn decide(
    order: &dyn Order,
    arrived: &Arrived,
    shared: &Shared,
) -> Result<Behaviour, BadBehaviour> {
    let (provider, prompt) = (order.provider(), order.prompt());
    let directed = match arrived.header("x-sim") {
        Some(words) => Some(words.parse::<Behaviour>()?),
        None => behaviour::directive(prompt, provider, order.model())?,
    };
    let mut books = shared.books.lock();
    if let Some(behaviour) = directed {
        let words = arrived.header("x-sim").unwrap_or_default();
        let key = blake3::hash(format!("{provider}\0{words}\0{prompt}").as_bytes());
        if books.still_counts(&behaviour, key) {
            return Ok(behaviour);
        }
        return Ok(shared.options.default.clone());
    }
    let scripted = books.next_of_script(provider);
    Ok(scripted.unwrap_or_else(|| shared.options.default.clone()))
}

/// Writes the bill, at once: a provider that has taken an order charges for it, whoever listens.
/// It comes to the price over `share`, half a nano-dollar rounded up.
pub(super) fn book(
    order: &dyn Order,
    behaviour: &Behaviour,
    arrived: &Arrived,
    id: &str,
    share: i64,
    shared: &Shared,
) {
    let drawn = behaviour.billed.unwrap_or_else(|| behaviour.fault.drawn());
    let nano_usd = if drawn {
        order.price(behaviour)
    } else if behaviour.fault == Fault::NoImage && behaviour.billed.is_none() {
        order.price_without_picture()
    } else if matches!(behaviour.fault, Fault::Safety { .. }) && behaviour.billed.is_none() {
        order.price_when_refused()
    } else {
        0
    };
    let nano_usd = (nano_usd + share / 2) / share;
    let drawn = (
        order.model(),
        if drawn { order.images() } else { 0 },
        nano_usd,
    );
    let beside = order
        .beside(behaviour)
        .map(|(model, cost)| (model, 0, cost));
    let credential = CREDENTIALS
        .iter()
        .find_map(|name| arrived.headers.get(*name));
    let charges = [Some(drawn), beside].into_iter().flatten();
    let bills = charges.filter(|(.., nano_usd)| *nano_usd != 0);
    let bills = bills.map(|(model, images, nano_usd)| Bill {
        id: id.to_owned(),
        at: jiff::Timestamp::now(),
        provider: order.provider(),
        model: model.to_owned(),
        images,
        nano_usd,
        outcome: behaviour.fault.word(),
        authorization_digest: short_digest(credential.map_or(&[][..], |value| value.as_bytes())),
    });
    shared.books.lock().bills.extend(bills);
}

/// Waits as the behaviour says.
///
/// # Errors
/// When the simulators stop meanwhile.
pub(super) async fn wait(
    behaviour: &Behaviour,
    mut releases: watch::Receiver<u64>,
    shared: &Shared,
) -> io::Result<()> {
    let mut stopping = shared.stopping.subscribe();
    let waits = async {
        if behaviour.hold {
            let _ = releases.changed().await;
        }
        tokio::time::sleep(behaviour.delay).await;
        if behaviour.fault == Fault::Stall {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = stopping.wait_for(|stop| *stop) => Err(io::Error::other("the simulated providers stop")),
        () = waits => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_is_told_by_prefix_host_or_route() {
        let cases = [
            ("", "/openai/v1/models", "openai", "/v1/models"),
            ("", "/stability/v2beta/x", "stability", "/v2beta/x"),
            ("api.stability.ai", "/v1/models", "stability", "/v1/models"),
            ("eu.api.openai.com", "/v2beta/x", "openai", "/v2beta/x"),
            ("127.0.0.1", "/v2beta/x", "stability", "/v2beta/x"),
            (
                "127.0.0.1",
                "/v1/images/generations",
                "openai",
                "/v1/images/generations",
            ),
            ("127.0.0.1", "/openaix", "openai", "/openaix"),
            ("127.0.0.1", "/v1/models/gpt", "openai", "/v1/models/gpt"),
            ("", "/fal/fal-ai/flux", "fal", "/fal-ai/flux"),
            ("queue.fal.run", "/fal-ai/flux", "fal", "/fal-ai/flux"),
            ("127.0.0.1", "/fal-ai/flux", "fal", "/fal-ai/flux"),
            ("api.eu.bfl.ai", "/v1/x", "bfl", "/v1/x"),
            ("127.0.0.1", "/v1/flux-dev", "bfl", "/v1/flux-dev"),
            ("", "/ideogram/v2/image/x", "ideogram", "/v2/image/x"),
            ("api.ideogram.ai", "/v1/x", "ideogram", "/v1/x"),
            (
                "127.0.0.1",
                "/v1/generations/1",
                "ideogram",
                "/v1/generations/1",
            ),
            (
                "127.0.0.1",
                "/v1/generation/e/x",
                "stability",
                "/v1/generation/e/x",
            ),
            (
                "127.0.0.1",
                "/v1/models/a/b/predictions",
                "replicate",
                "/v1/models/a/b/predictions",
            ),
            ("", "/google/v1beta/models", "google", "/v1beta/models"),
            (
                "europe-west4-aiplatform.googleapis.com",
                "/v1/x",
                "google",
                "/v1/x",
            ),
            (
                "127.0.0.1",
                "/v1/models/m:predict",
                "google",
                "/v1/models/m:predict",
            ),
            (
                "127.0.0.1",
                "/v1/models/gpt-5",
                "openai",
                "/v1/models/gpt-5",
            ),
        ];
        for (host, path, name, rest) in cases {
            assert_eq!(
                provider(host, path),
                (name, rest.to_owned()),
                "{host} {path}"
            );
        }
    }
}
