//! What is no image call: passed on byte for byte, both ways, as it flows.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Answer, Proxy, carry, plain};
use crate::pipeline::{Body, own_headers};
use crate::upstream::{Destination, Outbound, strip_hop_by_hop};

/// Sends a request on as it is. `checked`: the target was named by the client alone, so the
/// listener's rules on addresses hold.
pub(super) async fn through(
    proxy: &Arc<Proxy>,
    mut request: Request<Outbound>,
    to: &Destination,
    checked: bool,
) -> Answer {
    if checked && let Some(denied) = forbidden(proxy, to).await {
        return denied;
    }
    strip_hop_by_hop(request.headers_mut());
    own_headers::strip(request.headers_mut());
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = http::Uri::from(target);
    }
    let patience = proxy.upstream.patience().head;
    match proxy.upstream.send(to, request, patience).await {
        Ok(mut answer) => {
            strip_hop_by_hop(answer.headers_mut());
            answer.map(Body::passing)
        }
        Err(error) => {
            let status = match error.kind {
                crate::image::FailureKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
                _ => StatusCode::BAD_GATEWAY,
            };
            plain(status, &error.message)
        }
    }
}

async fn forbidden(proxy: &Proxy, to: &Destination) -> Option<Answer> {
    if !proxy.access.wide {
        return None;
    }
    let addresses = crate::upstream::dial::resolve(&to.host, to.port)
        .await
        .ok()?;
    let inward = addresses
        .iter()
        .any(|address| !proxy.access.leads_to(address.ip()));
    inward.then(|| {
        plain(
            StatusCode::FORBIDDEN,
            &format!("{to} is an address that this listener does not lead to"),
        )
    })
}

/// Whether a request wants to stop speaking HTTP (a WebSocket).
pub(super) fn is_upgrade<B>(request: &Request<B>) -> bool {
    let wants = |value: &http::HeaderValue| {
        value.to_str().is_ok_and(|text| {
            text.split(',')
                .any(|word| word.trim().eq_ignore_ascii_case("upgrade"))
        })
    };
    request.headers().contains_key(UPGRADE)
        && request.headers().get_all(CONNECTION).iter().any(wants)
}

/// Passes an upgrade on, and then whatever both sides say to each other.
pub(super) async fn upgrade(
    proxy: &Arc<Proxy>,
    mut request: Request<Incoming>,
    to: &Destination,
) -> Answer {
    let failed = |text: String| plain(StatusCode::BAD_GATEWAY, &text);
    let stream = match proxy.upstream.dialer().connect_http1(to).await {
        Ok(stream) => stream,
        Err(error) => return failed(error.to_string()),
    };
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return failed(error.to_string()),
    };
    proxy.tasks.spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let near = hyper::upgrade::on(&mut request);
    own_headers::strip(request.headers_mut());
    request.headers_mut().remove("proxy-authorization");
    if let Ok(host) = to.authority().parse() {
        request.headers_mut().insert(http::header::HOST, host);
    }
    if let Some(target) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = http::Uri::from(target);
    }
    let mut answer = match sender.send_request(request).await {
        Ok(answer) => answer,
        Err(error) => return failed(format!("{to} broke off: {error}")),
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        strip_hop_by_hop(answer.headers_mut());
        return answer.map(Body::incoming);
    }
    let far = hyper::upgrade::on(&mut answer);
    proxy.tasks.spawn(async move {
        if let (Ok(near), Ok(far)) = (near.await, far.await) {
            let (near, far) = (TokioIo::new(near), TokioIo::new(far));
            let _ = carry::both_ways(near, far, carry::IDLE).await;
        }
    });
    let (parts, _) = answer.into_parts();
    Response::from_parts(parts, Body::empty())
}
