//! The provider's own quote, where it gives one for nothing and the configuration wants it asked.
//!
//! It is asked about what is about to be sent and about nothing else: whoever is answered from
//! memory or joins another's purchase holds nothing. What it says counts before the book; where it
//! says nothing in time, the book's price holds, and the record tells.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HeaderValue};
use http_body_util::{BodyExt, Limited};
use moka::sync::Cache;

use super::Pipeline;
use super::call::Call;
use super::plan::Plan;
use crate::bill::Quote;
use crate::upstream::strip_hop_by_hop;
use crate::wire::{Message, ReplyHead};

/// A call does not wait longer than this to be told its price.
const PATIENCE: Duration = Duration::from_secs(2);
/// So long a quote counts for equal questions: price lists change by the month.
const FRESH: Duration = Duration::from_secs(3600);
/// So long a provider that gave none is not asked again.
const PAUSE: Duration = Duration::from_secs(30);
const LARGEST: usize = 64 << 10;
const KEPT: u64 = 4096;

/// Quotes that providers gave, by question.
#[derive(Clone, Debug)]
pub struct Quotes(Cache<[u8; 32], Told>);

/// What a question brought: a price, or why there is none.
#[derive(Clone, Debug)]
struct Told {
    at: Instant,
    quote: Result<Arc<Quote>, Arc<str>>,
}

impl Default for Quotes {
    fn default() -> Quotes {
        Quotes(Cache::new(KEPT))
    }
}

impl Told {
    fn counts(&self) -> bool {
        let life = match self.quote {
            Ok(_) => FRESH,
            Err(_) => PAUSE,
        };
        self.at.elapsed() < life
    }
}

impl Pipeline {
    /// The plan at its provider's own quote; `None` where the book's price holds.
    pub(super) async fn at_own_quote(&self, call: &mut Call, plan: &Plan) -> Option<Plan> {
        match plan.provider.ask_quote {
            true => Box::pin(self.asked_quote(call, plan)).await,
            false => None,
        }
    }

    async fn asked_quote(&self, call: &mut Call, plan: &Plan) -> Option<Plan> {
        let began = Instant::now();
        let answer = match plan.dialect.write_question(&plan.request) {
            Some(question) => self.own_quote(call, plan, &question).await,
            None => Err("it quotes no such request".into()),
        };
        call.upstream += began.elapsed();
        let mut note = worded(plan, &answer);
        if let Ok(own) = &answer
            && let Some(off) = self.book_is_off(plan, own)
        {
            note.push_str(": ");
            note.push_str(&off);
        }
        call.decision.notes.push(note);
        Some(Plan {
            quote: Some(answer.ok()?),
            own_quote: true,
            ..plan.clone()
        })
    }

    async fn own_quote(
        &self,
        call: &Call,
        plan: &Plan,
        question: &Message,
    ) -> Result<Arc<Quote>, Arc<str>> {
        let key = self.question_key(call, plan, question);
        if let Some(told) = self.quotes.0.get(&key).filter(Told::counts) {
            return told.quote;
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask_quote(call, plan, question)).await;
        let quote = match asked {
            Ok(Ok(quote)) => Ok(Arc::new(quote)),
            Ok(Err(why)) => Err(why.into()),
            Err(_) => Err(format!("said nothing for {} s", PATIENCE.as_secs()).into()),
        };
        let told = Told {
            at: Instant::now(),
            quote,
        };
        self.quotes.0.insert(key, told.clone());
        told.quote
    }

    async fn ask_quote(
        &self,
        call: &Call,
        plan: &Plan,
        question: &Message,
    ) -> Result<Quote, String> {
        let mut request = self.question_message(call, plan, question);
        let length = HeaderValue::from(question.body.len());
        request.headers_mut().insert(CONTENT_LENGTH, length);
        // Whoever asks has less patience than this, and says so in its own words.
        let sent = self.upstream.send(&plan.destination, request, PATIENCE * 2);
        let (parts, body) = sent.await.map_err(|error| error.message)?.into_parts();
        let body = Limited::new(body, LARGEST).collect().await;
        let body = body.map_err(|error| format!("its answer broke off: {error}"))?;
        let mut head = ReplyHead {
            status: parts.status,
            headers: parts.headers,
        };
        strip_hop_by_hop(&mut head.headers);
        let quote = plan.dialect.read_quote(&head, &body.to_bytes());
        quote.ok_or_else(|| format!("answered {} without a price", head.status.as_u16()))
    }

    /// What makes two questions equal; accounts may have prices of their own.
    fn question_key(&self, call: &Call, plan: &Plan, question: &Message) -> [u8; 32] {
        let own = call.arrived.head.header(plan.dialect.key_header());
        let asks = own.filter(|_| plan.own_credential).unwrap_or_default();
        let mut hasher = blake3::Hasher::new_keyed(&self.policy.credential_key);
        for part in [
            plan.provider.name.as_bytes(),
            plan.destination.to_string().as_bytes(),
            asks.as_bytes(),
            question.target.as_str().as_bytes(),
            &question.body.to_bytes(),
        ] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

fn worded(plan: &Plan, answer: &Result<Arc<Quote>, Arc<str>>) -> String {
    let provider = &plan.provider.name;
    match (answer, &plan.quote) {
        (Err(why), _) => {
            format!("no quote of {provider}'s own ({why}): the price book's counts")
        }
        (Ok(own), Some(book)) if own.expected == book.expected => {
            format!(
                "{provider} itself quotes {}, as the price book does",
                own.expected.pretty()
            )
        }
        (Ok(own), Some(book)) => format!(
            "{provider} itself quotes {}, where the price book says {}",
            own.expected.pretty(),
            book.expected.pretty()
        ),
        (Ok(own), None) => format!(
            "{provider} itself quotes {}, where the price book knows nothing",
            own.expected.pretty()
        ),
    }
}
