//! The edges: one port for `CONNECT`, absolute-form requests and base URLs.
//!
//! A connection to a provider is opened and read, any other is passed on blind. What is decided
//! here is only who asks and where it goes; what becomes of an image call is the pipeline's.

pub mod access;
pub mod authority;
mod carry;
mod deaf;
mod gateway;
mod guard;
mod intercept;
mod pass;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::action::Via;
use crate::cores::Cores;
use crate::cork::Corked;
use crate::current::Current;
use crate::listen::{Closing, Listener};
use crate::pipeline::{Arrived, Body, Caller, Declined, JobAsked, Pipeline, Provider, own_headers};
use crate::task::Tasks;
use crate::upstream::{Destination, Outbound, Upstream};
use crate::wire::{RequestHead, Rope};
use access::{Access, Denied};
use authority::Authority;

/// The time a client has for a request's head, a `CONNECT` and a TLS handshake each.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
const MAX_HEADERS: usize = 100;
const MAX_HEAD: usize = 64 << 10;

/// So long an intercepted connection may say nothing between two requests, or over the head of one.
/// Longer than any client keeps an unused connection for itself (Go's 90 s is the longest usual).
const BETWEEN_REQUESTS: Duration = Duration::from_secs(120);

/// Everything that a connection needs.
#[derive(Debug)]
pub struct Proxy {
    /// The one in force: prices may change while pixtoll runs.
    pub pipeline: Arc<Current<Pipeline>>,
    pub upstream: Arc<Upstream>,
    pub authority: Arc<Authority>,
    pub access: Access,
    pub tasks: Tasks,
    pub cores: Cores,
}

type Answer = Response<Body>;

/// A provider's place: whose API, and where its host is.
#[derive(Clone, Debug)]
struct Site {
    provider: Arc<Provider>,
    /// Where the app meant to go.
    destination: Destination,
    via: Via,
}

impl Proxy {
    /// Serves until the word to end. Connections that are busy then finish their request.
    pub async fn serve(self: Arc<Self>, listener: Listener, closing: Closing) {
        let (cores, tasks) = (self.cores.clone(), self.tasks.clone());
        let until = closing.clone();
        listener
            .serve(cores, tasks, until, move |stream, peer| {
                let (proxy, closing) = (Arc::clone(&self), closing.clone());
                async move { proxy.connection(stream, peer, closing).await }
            })
            .await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        mut closing: Closing,
    ) {
        let front = service_fn(|request| {
            let proxy = Arc::clone(&self);
            let closing = closing.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.front(request, peer, closing).await) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(Corked::new(stream)), front)
            .with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let mut until = closing.clone();
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = until.closed() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a client's connection ended");
        }
        closing.clone_from(&until);
    }

    /// The three forms a request can come in.
    async fn front(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        closing: Closing,
    ) -> Answer {
        if let Err(fault) = guard::check(&request) {
            return fault.answer();
        }
        if request.method() == Method::CONNECT {
            return tunnel::connect(self, request, closing).await;
        }
        if request.uri().authority().is_some() {
            return self.forward(request).await;
        }
        gateway::serve(&self, request, peer).await
    }

    /// An absolute-form request: `HTTP_PROXY` and a plain-text target.
    async fn forward(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let caller = match self.access.by_proxy(request.headers()) {
            Ok(caller) => caller,
            Err(denied) => return denied.answer(),
        };
        let (Some(host), port) = (
            request.uri().host().map(str::to_ascii_lowercase),
            request.uri().port_u16(),
        ) else {
            return plain(StatusCode::BAD_REQUEST, "the request names no host");
        };
        let tls = request.uri().scheme_str() == Some("https");
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        match self.access.place(&host, port).await {
            access::Place::Ourselves => gateway::route(&self, request, caller).await,
            access::Place::Dashboard => Denied::OwnDashboard.answer(),
            access::Place::Elsewhere => {
                let destination = Destination {
                    tls,
                    host: host.as_str().into(),
                    port,
                };
                match self.pipeline.get().provider_of_host(&host) {
                    Some(provider) => {
                        self.call(
                            request,
                            Site {
                                provider,
                                destination,
                                via: Via::Forward,
                            },
                            caller,
                        )
                        .await
                    }
                    None => {
                        let request = request.map(Outbound::Passing);
                        pass::through(&self, request, &destination, true).await
                    }
                }
            }
        }
    }

    /// A request to a provider, however it reached us: an image call goes the way of a call, and
    /// anything else passes.
    async fn call(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        site: Site,
        caller: Caller,
    ) -> Answer {
        if site.provider.closed {
            return not_simulated(&site.provider.name);
        }
        let Some(target) = request.uri().path_and_query().cloned() else {
            return plain(StatusCode::BAD_REQUEST, "the request names no path");
        };
        if pass::is_upgrade(&request) {
            let destination = site.provider.reached_at(&site.destination);
            return Box::pin(pass::upgrade(self, request, destination)).await;
        }
        let head = RequestHead {
            method: request.method().clone(),
            host: site.destination.host.to_string(),
            target,
            headers: std::mem::take(request.headers_mut()),
        };
        let pipeline = self.pipeline.get();
        if let Some(asked) = pipeline.job_asked(&site.provider, &head) {
            return Box::pin(self.job(&pipeline, asked, head, request, &site)).await;
        }
        if let Some(sibling) = pipeline.sibling(&site.provider, &head).await {
            let Some(body) = question(&pipeline, request).await else {
                return no_question();
            };
            let name = caller.app.as_deref().unwrap_or_default();
            let token = self.access.apps.get(name).and_then(Option::as_ref);
            let app = token.map(|token| (name, token));
            let asking = pipeline.ask_sibling(&sibling, &site.provider.name, head, body, app);
            return Box::pin(asking).await;
        }
        let Some(recognised) = pipeline.recognise(&site.provider, &head) else {
            *request.headers_mut() = head.headers;
            let destination = site.provider.reached_at(&site.destination).clone();
            let request = request.map(Outbound::Passing);
            return Box::pin(pass::through(self, request, &destination, false)).await;
        };
        let told = own_headers::Told::read(&head.headers);
        let caller = caller.told_by(&told, &head.headers);
        let mut arrived = Arrived {
            head: Arc::new(head),
            body: Bytes::new(),
            room: Arc::new(pipeline.memory.room()),
            provider: site.provider,
            destination: site.destination,
            via: site.via,
            caller,
            told,
            recognised,
        };
        let most = pipeline.memory.largest_request();
        let body = guard::whole_body(request.into_body(), most, &arrived.room).await;
        arrived.body = match body {
            Ok(body) => body,
            Err(why) => return pipeline.decline(&arrived, &declined(why, most)),
        };
        if !recognised
            .dialect
            .asks_for_picture(&arrived.head, &arrived.body)
        {
            let Arrived {
                head,
                body,
                provider,
                destination,
                ..
            } = arrived;
            let head = Arc::unwrap_or_clone(head);
            let mut request = Request::new(Outbound::from(Rope::from(body)));
            *request.method_mut() = head.method;
            *request.uri_mut() = http::Uri::from(head.target);
            *request.headers_mut() = head.headers;
            let destination = provider.reached_at(&destination).clone();
            return Box::pin(pass::through(self, request, &destination, false)).await;
        }
        pipeline.handle(arrived).await
    }
}

/// The largest question about a job: nearly all have no body.
const MAX_QUESTION: usize = 64 << 10;

impl Proxy {
    /// A question about a job that we know of.
    async fn job(
        &self,
        pipeline: &Pipeline,
        asked: JobAsked,
        head: RequestHead,
        request: Request<Incoming>,
        site: &Site,
    ) -> Answer {
        let Some(body) = question(pipeline, request).await else {
            return no_question();
        };
        let to = site.provider.reached_at(&site.destination);
        pipeline.answer_job(asked, head, body, to).await
    }
}

/// The body of a question about a job.
async fn question(pipeline: &Pipeline, request: Request<Incoming>) -> Option<Bytes> {
    let room = pipeline.memory.room();
    let read = guard::whole_body(request.into_body(), MAX_QUESTION, &room);
    read.await.ok()
}

fn no_question() -> Answer {
    plain(
        StatusCode::BAD_REQUEST,
        "the question's body did not arrive",
    )
}

fn declined(why: guard::NoBody, most: usize) -> Declined {
    match why {
        guard::NoBody::TooLarge => Declined::TooLarge(most),
        guard::NoBody::NoRoom => Declined::NoRoom,
        guard::NoBody::Slow => Declined::Slow,
        guard::NoBody::Broken(error) => Declined::Broken(error.to_string()),
    }
}

/// With `--sim` nothing reaches a real provider, whichever way it was asked for. Trying again
/// would not help, and the usual clients heed the header that says so.
fn not_simulated(provider: &str) -> Answer {
    let text = format!(
        "providers are simulated here (--sim), and no simulated {provider} comes with this release: \
         nothing was sent; without --sim its calls pass through"
    );
    let mut answer = plain(StatusCode::NOT_IMPLEMENTED, &text);
    let no = http::HeaderValue::from_static("false");
    answer.headers_mut().insert("x-should-retry", no);
    answer
}

/// A short answer of our own, for what never reached a dialect.
fn plain(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Body::from(format!("pixtoll: {text}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    answer
}
