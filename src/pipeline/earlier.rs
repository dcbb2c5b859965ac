//! Calls as they arrived, for their apps' own retries.
//!
//! An SDK that hears nothing, or an error, sends its call again, and so does an app with an
//! `idempotency-key`. What the rules make of it may have changed by then: another hour, another
//! state of a budget. So a retry goes by the call that it repeats and not by what is bought for it
//! now: it waits for that call while it runs, and for ten minutes afterwards it gets the same answer,
//! or the same failure where trying again would pay again.
//!
//! Only digests are kept of what was asked, and of an answer only where it lies: what may be
//! remembered of pictures is for the store to say.

use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Pipeline;
use super::call::Call;
use super::chain::Served;
use super::rescue::Rescued;
use crate::cache::{Entry, Key, Lru};
use crate::image::Billed;
use crate::record::{AnsweredFrom, CacheStatus, Id, Mode};

/// So long a call is remembered after its end.
const REMEMBERED: Duration = Duration::from_secs(600);
/// So long one that has no end yet, and what is left of those that nobody asks for any more.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Calls that are remembered.
const MOST: u64 = 50_000;

/// How a call ended, as far as its retry is concerned.
#[derive(Debug)]
enum End {
    Answered(Weak<Entry>),
    /// Nobody knows whether it was paid for, or it was: it is not tried again.
    Lost(Box<Rescued>),
    /// It cost nothing and may be tried again.
    Free,
}

/// A call that money may be spent for.
#[derive(Debug)]
struct Begun {
    id: Arc<str>,
    /// The first of the calls that repeat each other.
    first: Arc<str>,
    /// Digest of what was asked, by whom.
    asked: blake3::Hash,
    end: OnceLock<(End, Instant)>,
    /// Rung when it has one.
    ended: Notify,
}

/// The calls that are remembered. Clones are the same.
#[derive(Clone, Debug)]
pub struct Earlier {
    begun: Arc<Lru<Arc<Begun>>>,
}

impl Default for Earlier {
    fn default() -> Earlier {
        Earlier {
            // The newest is what a retry asks for.
            begun: Arc::new(Lru::new(MOST)),
        }
    }
}

/// A call's own side of being remembered. One that is dropped without an end has cost nothing that
/// anybody knows of, and its retry goes its own way.
#[derive(Debug)]
pub(super) struct Remembered(Arc<Begun>);

impl Drop for Remembered {
    fn drop(&mut self) {
        self.0.end(End::Free);
    }
}

impl Begun {
    /// Its first end is the one that counts.
    fn end(&self, end: End) {
        if self.end.set((end, Instant::now())).is_ok() {
            self.ended.notify_waiters();
        }
    }

    /// Whether its end is not too long ago.
    fn counts(&self) -> bool {
        let end = self.end.get();
        end.is_none_or(|(_, at)| at.elapsed() < REMEMBERED)
    }

    /// Waits for its end; how long that took where it was not over yet.
    async fn over(&self) -> (&End, Option<Duration>) {
        if let Some((end, _)) = self.end.get() {
            return (end, None);
        }
        let began = Instant::now();
        loop {
            // It hears every ring from here on, so that none falls between look and wait.
            let rung = self.ended.notified();
            if let Some((end, _)) = self.end.get() {
                return (end, Some(began.elapsed()));
            }
            rung.await;
        }
    }
}

impl Pipeline {
    /// What the call came to that this one is a retry of: that answer, or that failure where trying
    /// again would pay again. `None` where there was no such call, or it may go its own way.
    pub(super) async fn repeated(&self, call: &mut Call) -> Option<Result<Served, Rescued>> {
        let begun = self.repeats(call)?;
        call.decision.retry_of = begun.first.parse().ok();
        if self.policy.mode == Mode::Observe || call.submit.is_some() {
            return None; // an equal job is joined where it is bought
        }
        let (end, waited) = begun.over().await;
        call.upstream += waited.unwrap_or_default();
        match end {
            End::Answered(entry) => {
                let entry = entry.upgrade()?;
                entry
                    .unreceived
                    .store(false, std::sync::atomic::Ordering::Release);
                self.note_repeat(call, &begun.id, Some(&entry), waited.is_some());
                // What the rules made of the request is not kept: it may hold pictures.
                call.served = Some((Arc::clone(&call.asked), call.asked_quote.clone()));
                let from = match waited {
                    Some(_) => AnsweredFrom::Collapsed,
                    None => AnsweredFrom::Cache,
                };
                Some(Ok(Served {
                    entry,
                    from,
                    head: None,
                }))
            }
            End::Lost(rescued) => {
                self.note_repeat(call, &begun.id, None, true);
                call.decision.notes.push(
                    "a retry of a call that may have been paid for: it was not sent again"
                        .to_owned(),
                );
                Some(Err((**rescued).clone()))
            }
            End::Free => None,
        }
    }

    fn note_repeat(&self, call: &mut Call, of: &str, entry: Option<&Entry>, collapsed: bool) {
        let key = self.key_as_arrived(call);
        let record = &mut call.decision.cache;
        record.key = key.short().into();
        record.seeded = call.asked.seed.is_some();
        record.of = of.parse().ok();
        record.status = match collapsed {
            true => CacheStatus::Collapsed,
            false => CacheStatus::Hit,
        };
        if let (Some(entry), false) = (entry, collapsed) {
            let age = entry.bought_at.elapsed();
            record.age_s = Some(age.as_secs());
            record.ttl_s = Some(entry.ttl.saturating_sub(age).as_secs());
        }
    }

    /// The call that this one is a retry of, by its own word: the same idempotency key, or an SDK's
    /// count of what it sent.
    fn repeats(&self, call: &mut Call) -> Option<Arc<Begun>> {
        let told = &call.arrived.told;
        let (name, by_key) = match self.idempotency(call) {
            Some(name) => (name, true),
            None if told.sdk_retry > 0 => (self.key_as_arrived(call).hash(), false),
            None => return None,
        };
        let begun = self.earlier.begun.get(name)?;
        if !begun.counts() {
            return None;
        }
        if begun.asked == digest(&self.key_as_arrived(call)) {
            return Some(begun);
        }
        if by_key {
            call.decision.notes.push(format!(
                "idempotency-key: it was that of another request before ({}), so this is a call of its own",
                begun.id
            ));
        }
        None
    }

    /// Remembers a call from before money is spent for it.
    pub(super) fn remember(&self, call: &mut Call) {
        if call.remembered.is_some() {
            return;
        }
        let key = self.key_as_arrived(call);
        let first = call.decision.retry_of.map(Id::text);
        let begun = Arc::new(Begun {
            id: Arc::clone(&call.id),
            first: first.unwrap_or_else(|| Arc::clone(&call.id)),
            asked: digest(&key),
            end: OnceLock::new(),
            ended: Notify::new(),
        });
        let names = [Some(key.hash()), self.idempotency(call)];
        for name in names.into_iter().flatten() {
            let begun = Arc::clone(&begun);
            self.earlier.begun.insert(name, begun, 1, FORGOTTEN);
        }
        call.remembered = Some(Arc::new(Remembered(begun)));
    }

    /// Tells the call's retries what it came to.
    pub(super) fn tell_retries(&self, call: &mut Call, outcome: &Result<Served, Rescued>) {
        let Some(remembered) = call.remembered.take() else {
            return;
        };
        let paid = |billed: Billed| billed != Billed::No;
        let mut attempts = call.decision.attempts.iter();
        remembered.0.end(match outcome {
            Ok(served) => End::Answered(Arc::downgrade(&served.entry)),
            Err(rescued) if attempts.any(|attempt| paid(attempt.billed)) => {
                // In our own words: the provider's bytes would take memory that nobody counts.
                End::Lost(Box::new(Rescued {
                    reply: None,
                    no_retry: true,
                    ..rescued.clone()
                }))
            }
            Err(_) => End::Free,
        });
    }

    /// The name under which a call with an idempotency key is remembered; the key is its sender's.
    fn idempotency(&self, call: &Call) -> Option<u128> {
        let key = call.arrived.told.idempotency_key.as_deref()?;
        let sender = call.decision.credential.as_deref().unwrap_or_default();
        let provider = &call.arrived.provider.name;
        let named = || self.keyed(&format!("idempotency\0{sender}\0{provider}\0{key}"));
        (!key.is_empty()).then(|| u128::from_le_bytes(named()))
    }
}

fn digest(key: &Key) -> blake3::Hash {
    blake3::hash(key.canonical())
}
