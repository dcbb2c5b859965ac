//! `CONNECT`: opened and read for a provider, passed on blind for everybody else.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::access::{Denied, Place};
use super::{Answer, Proxy, carry, intercept, plain};
use crate::listen::Closing;
use crate::pipeline::Body;
use crate::upstream::DialError;

/// Answers a `CONNECT`.
pub(super) async fn connect(
    proxy: Arc<Proxy>,
    request: Request<Incoming>,
    closing: Closing,
) -> Answer {
    let caller = match proxy.access.by_proxy(request.headers()) {
        Ok(caller) => caller,
        Err(denied) => return denied.answer(),
    };
    let Some((host, port)) = target(&request) else {
        return plain(
            StatusCode::BAD_REQUEST,
            "CONNECT needs a host and a port, like api.openai.com:443",
        );
    };
    match proxy.access.place(&host, port).await {
        Place::Dashboard => return Denied::OwnDashboard.answer(),
        Place::Ourselves => {
            let inside = intercept::Inside::ourselves(caller);
            return opened(proxy, request, move |proxy, stream| {
                intercept::serve(proxy, stream, inside, closing)
            });
        }
        Place::Elsewhere => {}
    }
    if let Some(provider) = proxy.pipeline.get().provider_of_host(&host) {
        let inside = intercept::Inside::provider(caller, provider, &host, port);
        return opened(proxy, request, move |proxy, stream| {
            intercept::serve(proxy, stream, inside, closing)
        });
    }
    blind(proxy, request, &host, port).await
}

fn target(request: &Request<Incoming>) -> Option<(String, u16)> {
    let authority = request.uri().authority()?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    Some((host.trim_end_matches('.').to_owned(), authority.port_u16()?))
}

/// Says yes, and hands over the connection once the client has heard it.
fn opened<S, F>(proxy: Arc<Proxy>, request: Request<Incoming>, serve: S) -> Answer
where
    S: FnOnce(Arc<Proxy>, Upgraded) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = proxy.tasks.clone();
    tasks.spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => serve(proxy, upgraded).await,
            Err(error) => tracing::debug!(%error, "a client left before its tunnel was open"),
        }
    });
    Response::new(Body::empty())
}

/// A tunnel that nobody looks into. The far side is reached first, so that the client hears of a
/// failure instead of a connection that closes.
async fn blind(proxy: Arc<Proxy>, request: Request<Incoming>, host: &str, port: u16) -> Answer {
    let allowed = |ip| proxy.access.leads_to(ip);
    let far = match proxy.upstream.dialer().tcp(host, port, &allowed).await {
        Ok(far) => far,
        Err(error @ DialError::Forbidden { .. }) => {
            return plain(StatusCode::FORBIDDEN, &error.to_string());
        }
        Err(error @ DialError::Slow { .. }) => {
            return plain(StatusCode::GATEWAY_TIMEOUT, &error.to_string());
        }
        Err(error) => return plain(StatusCode::BAD_GATEWAY, &error.to_string()),
    };
    let name = format!("{host}:{port}");
    opened(proxy, request, move |_, near| through(near, far, name))
}

async fn through(near: Upgraded, far: TcpStream, name: String) {
    match carry::both_ways(TokioIo::new(near), far, carry::IDLE).await {
        Ok((up, down)) => tracing::debug!(host = name, up, down, "a tunnel ended"),
        Err(error) => tracing::debug!(host = name, %error, "a tunnel broke"),
    }
}
