//! Jobs of ours that another process keeps, on the same ledger.
//!
//! The ledger knows of every job which process keeps it and where that is reached. The picture lies
//! there, so a question about it is sent on, and the answer passes as it is.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::body::Body;
use super::left::located;
use super::{Pipeline, Provider, answer, rescue};
use crate::record::Id;
use crate::secret::Secret;
use crate::upstream::Destination;
use crate::wire::{Reply, RequestHead};

/// A question that was sent on once is not sent on again: several processes may share an address.
const SENT_ON: &str = "x-pixtoll-sent-on";

impl Pipeline {
    /// The process that keeps the job of ours which is asked about, where that is another one.
    pub async fn sibling(&self, provider: &Provider, head: &RequestHead) -> Option<Destination> {
        let mut dialects = provider.dialects.iter();
        let (dialect, call) =
            dialects.find_map(|dialect| Some((*dialect, dialect.job_call(head)?)))?;
        // Of a provider's own job nobody need be asked here.
        call.id.to_ascii_uppercase().parse::<Id>().ok()?;
        if head.headers.contains_key(SENT_ON) {
            return None;
        }
        let kept = self.ledger.kept_job(&provider.name, &call.id).await;
        let job = kept
            .inspect_err(|error| tracing::error!(%error, id = call.id, "a job was not looked for"))
            .ok()??;
        let may_ask = job.ours && job.lives && job.asker == self.asker(dialect, head);
        let home = job
            .home
            .filter(|home| may_ask && self.policy.public_url.as_deref() != Some(home.as_str()))?;
        located(&home).map(|(to, _)| to)
    }

    /// Has the process at `to` answer; `app` is known to it with this token.
    pub async fn ask_sibling(
        &self,
        to: &Destination,
        provider: &str,
        mut head: RequestHead,
        body: Bytes,
        app: Option<(&str, &Secret)>,
    ) -> Response<Body> {
        let mut ours = HeaderMap::new();
        ours.insert(SENT_ON, HeaderValue::from_static("1"));
        if let Some((name, token)) = app
            && let (Ok(name), Ok(mut token)) = (
                HeaderValue::from_str(name),
                HeaderValue::from_str(token.expose()),
            )
        {
            token.set_sensitive(true);
            ours.insert("x-pixtoll-app", name);
            ours.insert("x-pixtoll-token", token);
        }
        let asked = match format!("/{provider}{}", head.target).parse() {
            Ok(target) => {
                head.target = target;
                self.pass_question(head, body, to, ours).await
            }
            Err(_) => Err("the question's path cannot be read".to_owned()),
        };
        match asked {
            Ok((head, body, room)) => {
                let reply = Reply {
                    head,
                    body: body.into(),
                };
                answer::response(reply).map(|body| body.lying_in(vec![room]))
            }
            Err(why) => {
                let why = format!("the pixtoll that keeps this job does not answer: {why}");
                answer::response(rescue::bare(StatusCode::BAD_GATEWAY, &why))
            }
        }
    }
}
