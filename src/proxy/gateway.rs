//! The gateway: a provider's own API under our address, for apps that take a base URL.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{Answer, Proxy, Site, plain};
use crate::action::Via;
use crate::pipeline::{Body, Caller};

/// Where pictures that we serve ourselves are found.
pub(super) const PICTURES: &str = "/_pixtoll/pictures/";

/// An origin-form request: only ours to answer if it is addressed to us, by no foreign page.
pub(super) async fn serve(
    proxy: &Arc<Proxy>,
    request: Request<Incoming>,
    _peer: SocketAddr,
) -> Answer {
    if let Err(denied) = proxy
        .access
        .origin_form(request.method(), request.headers())
    {
        return denied.answer();
    }
    if let Some(token) = request.uri().path().strip_prefix(PICTURES) {
        return picture(proxy, token);
    }
    let (name, _) = split_name(request.uri().path());
    match proxy.access.by_base_url(name, request.headers()) {
        Ok(caller) => route(proxy, request, caller).await,
        Err(denied) => denied.answer(),
    }
}

/// Finds the provider in the path and sends the rest on its way.
pub(super) async fn route(
    proxy: &Arc<Proxy>,
    mut request: Request<Incoming>,
    caller: Caller,
) -> Answer {
    let (_, path) = split_name(request.uri().path());
    let (provider, rest) = match path.strip_prefix('/').and_then(|p| p.split_once('/')) {
        Some(("v1", _)) => ("openai", path),
        Some((provider, _)) => (provider, &path[1 + provider.len()..]),
        None => (path.trim_start_matches('/'), "/"),
    };
    let Some(found) = proxy.pipeline.get().provider(provider) else {
        let text = format!(
            "no provider `{provider}` here: a base URL looks like http://{}/openai/v1",
            proxy
                .access
                .own
                .first()
                .map_or_else(|| "127.0.0.1:8484".to_owned(), SocketAddr::to_string)
        );
        return plain(StatusCode::NOT_FOUND, &text);
    };
    let Some(destination) = found.home().cloned() else {
        let text =
            format!("provider `{provider}` has no address: set providers.{provider}.upstream");
        return plain(StatusCode::BAD_GATEWAY, &text);
    };
    let target = match request.uri().query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_owned(),
    };
    let Ok(target) = target.parse::<PathAndQuery>() else {
        return plain(StatusCode::BAD_REQUEST, "the request's path cannot be read");
    };
    *request.uri_mut() = http::Uri::from(target);
    proxy
        .call(
            request,
            Site {
                provider: found,
                destination,
                via: Via::Gateway,
            },
            caller,
        )
        .await
}

/// `/@catalog/openai/v1` → (`catalog`, `/openai/v1`).
fn split_name(path: &str) -> (&str, &str) {
    match path.strip_prefix("/@") {
        Some(rest) => match rest.find('/') {
            Some(slash) => (&rest[..slash], &rest[slash..]),
            None => (rest, "/"),
        },
        None => ("", path),
    }
}

fn picture(proxy: &Proxy, token: &str) -> Answer {
    let Some((format, body)) = proxy.pipeline.get().picture(token) else {
        return plain(StatusCode::NOT_FOUND, "this picture is no longer kept");
    };
    let mut answer = Response::new(Body::from(body));
    let headers = answer.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static(format.media_type()),
    );
    headers.insert(
        "x-content-type-options",
        http::HeaderValue::from_static("nosniff"),
    );
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_name_its_app() {
        assert_eq!(
            split_name("/@catalog+bg/openai/v1/x"),
            ("catalog+bg", "/openai/v1/x")
        );
        assert_eq!(split_name("/openai/v1"), ("", "/openai/v1"));
        assert_eq!(split_name("/@catalog"), ("catalog", "/"));
    }
}
