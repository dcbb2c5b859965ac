//! The request of an attempt as it goes out.

use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue, USER_AGENT};
use http::{HeaderMap, Request, Uri};

use super::call::Call;
use super::plan::Plan;
use super::{Pipeline, own_headers};
use crate::action::Via;
use crate::dialect::query;
use crate::upstream::{Outbound, strip_hop_by_hop};
use crate::wire::Rope;

impl Pipeline {
    /// The request as it goes out: the app's own bytes where nothing was changed.
    pub(super) fn message(
        &self,
        call: &Call,
        plan: &Plan,
    ) -> Result<Request<Outbound>, crate::dialect::Unsupported> {
        let arrived = &call.arrived;
        let (method, target, mut headers, body) = if plan.untouched {
            let head = &arrived.head;
            (
                head.method.clone(),
                head.target.clone(),
                head.headers.clone(),
                Rope::from(arrived.body.clone()),
            )
        } else {
            let message = plan
                .dialect
                .write_request(&plan.provider.spelt(&plan.request))?;
            let headers = self.headers_for(call, plan, message.headers);
            (message.method, message.target, headers, message.body)
        };
        strip_hop_by_hop(&mut headers);
        own_headers::strip(&mut headers);
        if arrived.via != Via::Gateway && plan.provider.upstream.is_some() && plan.own_credential {
            // A server that stands in for several hosts is told which of them was meant.
            if let Ok(host) = arrived.head.host.parse() {
                headers.insert("x-forwarded-host", host);
            }
        }
        headers.remove("expect");
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let mut request = Request::new(Outbound::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// Headers of a request that we worded. The app's own credential goes to its own provider
    /// only; a key of ours to that provider's home only.
    fn headers_for(&self, call: &Call, plan: &Plan, worded: HeaderMap) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if plan.own_credential {
            headers.clone_from(&call.arrived.head.headers);
            headers.remove(CONTENT_LENGTH);
            headers.remove(http::header::CONTENT_TYPE);
            // The query is worded anew, so a key that stood in the app's goes into a header.
            let asked = call.arrived.head.target.query();
            let name = call.dialect().key_in_query();
            if let Some(key) = asked
                .zip(name)
                .and_then(|(asked, name)| query::value(asked, name))
            {
                plan.dialect.authorize(&mut headers, key);
            }
        } else {
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("pixtoll/", env!("CARGO_PKG_VERSION"))),
            );
            if let Some(key) = &plan.provider.key {
                plan.dialect.authorize(&mut headers, key.expose());
            }
        }
        for (name, value) in &worded {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }
}
