//! Questions of apps about jobs that they were told of.
//!
//! About a provider's own job they pass by here, and what is answered ends the call; for a job of
//! ours we answer ourselves, in the provider's words.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use tokio::sync::{mpsc, oneshot};

use super::asking::{self, Overheard};
use super::body::Body;
use super::jobs::{Kind, Known};
use super::plan::Plan;
use super::{Pipeline, Provider, answer, own_headers, rescue};
use crate::dialect::job::{JobAsk, JobCall};
use crate::room::Room;
use crate::upstream::{Destination, Outbound, strip_hop_by_hop};
use crate::wire::{ReplyHead, RequestHead};

/// So long an app's answer waits for its charge to be written.
const BOOKING: Duration = Duration::from_secs(5);

/// A question of an app about a job that is known here.
#[derive(Debug)]
pub struct JobAsked {
    known: Arc<Known>,
    call: JobCall,
}

impl Pipeline {
    /// What a message asks of a job that is known here, by whoever submitted it.
    pub fn job_asked(&self, provider: &Provider, head: &RequestHead) -> Option<JobAsked> {
        let (dialect, call) = provider
            .dialects
            .iter()
            .find_map(|dialect| Some((*dialect, dialect.job_call(head)?)))?;
        let key = (Arc::clone(&provider.name), call.id.clone());
        let known = self.jobs.known.get(&key)?;
        let may_ask = known.credential == self.asker(dialect, head);
        may_ask.then_some(JobAsked { known, call })
    }

    /// Answers a question about a job: for ours ourselves, for theirs as the provider does.
    pub async fn answer_job(
        &self,
        asked: JobAsked,
        head: RequestHead,
        body: Bytes,
        to: &Destination,
    ) -> Response<Body> {
        let JobAsked { known, call } = asked;
        let ours = match &known.kind {
            Kind::Theirs { shared, .. } => {
                call.asks == JobAsk::Cancel && shared.load(Ordering::Acquire)
            }
            Kind::Ours(_) => true,
            Kind::Left(_) => false,
        };
        if ours {
            return answer::response(known.reply(&call.id, Some(call.asks)));
        }
        match self.pass_question(head, body, to, HeaderMap::new()).await {
            Ok((head, body, room)) => {
                match &known.kind {
                    _ if call.asks == JobAsk::Cancel => {}
                    Kind::Theirs { plan, hears, .. } => {
                        overhear(plan, hears, &head, &body, &room).await
                    }
                    Kind::Left(left) => {
                        self.conclude_left(&known, left, &head, &body, &room).await;
                    }
                    Kind::Ours(_) => {}
                }
                let reply = crate::wire::Reply {
                    head,
                    body: body.into(),
                };
                answer::response(reply).map(|body| body.lying_in(vec![room]))
            }
            Err(why) => answer::response(rescue::bare(StatusCode::BAD_GATEWAY, &why)),
        }
    }

    /// Sends a question on, with `more` of our own, and reads what is answered as it comes.
    pub(super) async fn pass_question(
        &self,
        head: RequestHead,
        body: Bytes,
        to: &Destination,
        more: HeaderMap,
    ) -> Result<(ReplyHead, Bytes, Arc<Room>), String> {
        let mut headers = head.headers;
        strip_hop_by_hop(&mut headers);
        own_headers::strip(&mut headers);
        headers.extend(more);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let mut request = Request::new(Outbound::from(crate::wire::Rope::from(body)));
        *request.method_mut() = head.method;
        *request.uri_mut() = Uri::from(head.target);
        *request.headers_mut() = headers;
        let patience = self.upstream.patience().head;
        let sent = self.upstream.send(to, request, patience).await;
        let (parts, body) = sent.map_err(|error| error.message)?.into_parts();
        let read = self.read_whole(body, asking::LARGEST, patience).await;
        let (body, room) = read.map_err(|why| format!("{to}: {why}"))?;
        let mut headers = parts.headers;
        strip_hop_by_hop(&mut headers);
        let status = parts.status;
        Ok((ReplyHead { status, headers }, body, room))
    }
}

/// Tells the call what its app is about to hear. The end of a job waits for its charge to be
/// written.
async fn overhear(
    plan: &Plan,
    hears: &mpsc::Sender<Overheard>,
    head: &ReplyHead,
    body: &Bytes,
    room: &Arc<Room>,
) {
    let (dialect, request) = (plan.dialect, &plan.request);
    let body = body.clone().into();
    let read = asking::read(dialect, request, head.clone(), body, Arc::clone(room)).await;
    let Ok(told) = read else { return };
    if asking::passing(&told.next).is_some() {
        return;
    }
    let (booked, waits) = oneshot::channel();
    if hears.try_send(Overheard { told, booked }).is_ok() {
        let _ = tokio::time::timeout(BOOKING, waits).await;
    }
}
