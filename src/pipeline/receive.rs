//! The first station: what arrived is read, priced as it was asked, and given a record.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::USER_AGENT;
use http::{HeaderValue, Response};
use jiff::Timestamp;

use super::call::{Arrived, Call, Unread};
use super::door::Door;
use super::rescue::Rescued;
use super::{Body, Pipeline, answer, own_headers};
use crate::action::{CachePolicy, CacheScope, Change};
use crate::cache::Partition;
use crate::dialect::Unreadable;
use crate::image::{FailureKind, ImageRequest, ModelId};
use crate::record::{Asked, Asking, Decision, Id, InputFacts};
use crate::wire::Reply;

impl Pipeline {
    /// Reads a call and quotes it as it was asked: the yardstick for everything saved later.
    pub(super) fn read(&self, arrived: Arrived) -> Result<Box<Call>, Box<Unread>> {
        let began = Instant::now();
        let recognised = arrived.recognised;
        if let Some((header, what)) = arrived.told.unreadable {
            let why = Unreadable {
                field: header.to_owned(),
                why: format!("must be {what}"),
            };
            return Err(Box::new(Unread { arrived, why }));
        }
        let read = recognised.dialect.read_request(
            &arrived.provider.name,
            recognised.operation,
            &arrived.head,
            &arrived.body,
        );
        let asked = match read {
            Ok(mut asked) => {
                arrived.provider.name_model(&mut asked);
                asked
            }
            Err(why) => return Err(Box::new(Unread { arrived, why })),
        };
        let asked = Arc::new(asked);
        let asked_quote = self.book.quote(&asked).map(Arc::new);
        let asked_pixels = self.book.expected_pixels(&asked);
        let digest = self.credential(&arrived);
        let mut decision = self.decision(&arrived, &asked, asked_quote.as_deref(), asked_pixels);
        decision.credential = digest.map(|digest| hex(&digest[..4]).into());
        let partition = match self.policy.scope {
            CacheScope::Everyone => Partition::Everyone,
            CacheScope::Credential => Partition::Credential(digest.unwrap_or_default()),
        };
        Ok(Box::new(Call {
            submit: recognised.dialect.submits(&arrived.head, &asked),
            began,
            deadline: self.deadline_of(&arrived, began),
            id: decision.id.text(),
            request: Arc::clone(&asked),
            asked,
            asked_quote,
            asked_pixels,
            route: None,
            change: Change::default(),
            cache: CachePolicy {
                mode: arrived.told.cache,
                ..CachePolicy::default()
            },
            own_partition: partition.clone(),
            partition,
            asked_key: OnceLock::new(),
            variant: 0,
            upstream: Duration::ZERO,
            attempts: 0,
            degraded: Vec::new(),
            served: None,
            served_by: Vec::new(),
            given: None,
            holds: self.holds(),
            judged: false,
            rooms: Vec::new(),
            remembered: None,
            decision,
            arrived,
        }))
    }

    /// The record of a call as it arrived.
    fn decision(
        &self,
        arrived: &Arrived,
        asked: &ImageRequest,
        quote: Option<&crate::bill::Quote>,
        pixels: (u32, u32),
    ) -> Box<Decision> {
        let at = self.policy.now();
        let row = self.book.model(&asked.model);
        let retired = row.is_some_and(|row| row.capability.retired_at(at));
        let inputs = asked
            .inputs
            .iter()
            .map(|input| InputFacts::of(input, None))
            .collect();
        let asking = Asking {
            pixels: Some(pixels),
            quote,
            retired,
            inputs,
        };
        let record = Asked::from_request(asked, asking, self.policy.prompts);
        let mut decision = Box::new(Decision::new(
            Id::new(),
            at,
            Arc::clone(&self.policy.instance),
            arrived.recognised.dialect.name(),
            asked.operation,
            record,
        ));
        decision.mode = self.policy.mode;
        if let Some(app) = &arrived.caller.app {
            decision.app = Arc::clone(app);
        }
        decision.app_from = arrived.caller.from;
        decision.tags.clone_from(&arrived.caller.tags);
        decision.agent = arrived.head.header(USER_AGENT).unwrap_or_default().into();
        decision.via = arrived.via;
        let user = asked.user.as_deref();
        decision.user = user.map(|user| self.policy.user_digest(user).into());
        decision.sdk_retry = arrived.told.sdk_retry;
        decision
            .notes
            .extend(own_headers::unknown_cache(&arrived.head.headers));
        decision.config = Arc::clone(&self.policy.config);
        decision.book = Arc::clone(self.book.digest());
        decision
    }

    /// A keyed digest of the credential that the app sent.
    fn credential(&self, arrived: &Arrived) -> Option<[u8; 16]> {
        arrived
            .recognised
            .dialect
            .credential(&arrived.head)
            .map(|text| self.keyed(text))
    }

    pub(super) fn keyed(&self, text: &str) -> [u8; 16] {
        super::keyed(&self.policy.credential_key, text)
    }

    /// A call that is not what its path promises is refused here, for nothing, with the field
    /// named: no provider would make a picture of it.
    pub(super) fn turn_away(&self, unread: Box<Unread>, mut door: Door) {
        let Unread { arrived, why } = *unread;
        let rescued = Rescued::ours(
            400,
            FailureKind::Invalid,
            why.to_string(),
            "correct it in the app's request",
        );
        let reply = self.refuse_unread(&arrived, &rescued);
        door.open(reply.head, reply.body.into());
    }

    /// Declines a call whose body is not in hand.
    pub fn decline(&self, arrived: &Arrived, why: &Declined) -> Response<Body> {
        answer::response(self.refuse_unread(arrived, &why.worded()))
    }

    /// Words a refusal of what nobody read, and writes it down.
    fn refuse_unread(&self, arrived: &Arrived, rescued: &Rescued) -> Reply {
        let mut reply = rescued.reply(arrived.recognised.dialect, None);
        if rescued.no_retry {
            let headers = &mut reply.head.headers;
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        let nobody = ImageRequest::new(ModelId::new(&arrived.provider.name, "unknown"), "");
        let mut decision = self.decision(arrived, &nobody, None, (1, 1));
        decision.asked.width = None;
        decision.asked.height = None;
        decision.decided = crate::record::Decided::as_asked(&decision.asked);
        decision.error = Some(answer::error_record(rescued));
        decision.ended_at = Timestamp::now();
        decision.add_up(None, &[], &[]);
        self.log.write(decision);
        reply
    }
}

/// Why a call's body is not in hand.
#[derive(Debug)]
pub enum Declined {
    /// It is larger than so many bytes.
    TooLarge(usize),
    /// The calls under way have all the memory that they may.
    NoRoom,
    /// It stopped coming, or drips.
    Slow,
    /// Its connection broke; the words are the library's.
    Broken(String),
}

/// When a caller for whom there was no room may find some.
const COME_BACK: Duration = Duration::from_secs(5);

impl Declined {
    fn worded(&self) -> Rescued {
        match self {
            Declined::TooLarge(most) => Rescued::ours(
                413,
                FailureKind::TooLarge,
                format!("the request is larger than {} MiB", most >> 20),
                "send smaller pictures, or allow more with `in_flight`",
            ),
            Declined::NoRoom => {
                let mut rescued = Rescued::ours(
                    503,
                    FailureKind::Overloaded,
                    "the calls under way take all the memory that `in_flight` allows, so this one was not sent",
                    "try again in a while, or allow more with `in_flight`",
                );
                rescued.refusal.retry_after = Some(COME_BACK);
                rescued
            }
            Declined::Slow => Rescued::ours(
                408,
                FailureKind::Timeout,
                "the request's body did not arrive in time",
                "look at the app's network",
            ),
            Declined::Broken(error) => Rescued::ours(
                400,
                FailureKind::Invalid,
                format!("the request's body did not arrive: {error}"),
                "look at the app's network",
            ),
        }
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}
