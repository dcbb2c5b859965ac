//! What was bought, for as long as it may be sold again.
//!
//! Bounded by bytes; each entry has its own time to live. The pictures are the very bytes that
//! arrived: an entry costs no copy to make and none to answer from.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use moka::sync::Cache;

use super::flight::Shape;
use super::{Key, Lru};
use crate::image::{ImageResponse, ModelId};
use crate::money::Usd;
use crate::room::Room;
use crate::wire::{ReplyHead, Rope};

/// One purchase.
#[derive(Debug)]
pub struct Entry {
    pub key: Key,
    pub response: ImageResponse,
    /// The answer as the provider gave it, for callers of the same dialect and delivery.
    pub original: Option<Original>,
    /// The model that made it.
    pub model: ModelId,
    /// What was paid; `None` when nobody knows.
    pub cost: Option<Usd>,
    /// Id of the decision that bought it.
    pub bought_by: Arc<str>,
    pub bought_at: Instant,
    pub ttl: Duration,
    /// Its caller went away before the answer was whole.
    pub unreceived: AtomicBool,
    /// What its bytes take of the memory.
    pub rooms: Vec<Arc<Room>>,
}

/// An answer in the bytes it came in, decoded.
#[derive(Clone, Debug)]
pub struct Original {
    pub shape: Shape,
    pub head: KeptHead,
    pub body: Rope,
}

/// What is kept of an answer's head. A map of headers takes ten times as much as the one or two
/// that are kept.
#[derive(Clone, Debug)]
pub struct KeptHead {
    pub status: StatusCode,
    pub headers: Box<[(HeaderName, HeaderValue)]>,
}

impl KeptHead {
    /// Room for our own headers in the head of an answer from memory.
    const ROOM: usize = 12;

    /// The head of an answer from memory.
    pub fn fresh(&self) -> ReplyHead {
        let mut headers = HeaderMap::with_capacity(KeptHead::ROOM);
        headers.extend(self.headers.iter().cloned());
        ReplyHead {
            status: self.status,
            headers,
        }
    }
}

impl Entry {
    /// The stored answer, if a caller can be given it as it is. A replayed stream shows the
    /// partial pictures it came with: they harm nobody.
    pub fn as_it_came(&self, shape: Shape) -> Option<&Original> {
        self.original
            .as_ref()
            .filter(|original| original.shape == shape)
    }

    fn weight(&self) -> u32 {
        let body = self.original.as_ref().map_or_else(
            || {
                let images = self.response.images.iter();
                images.map(|image| image.picture.len()).sum()
            },
            |original| original.body.len(),
        );
        u32::try_from(body + self.key.weight() + OVERHEAD).unwrap_or(u32::MAX)
    }
}

/// What an entry takes besides its bytes: the process grows by so much for each small answer that
/// it keeps.
const OVERHEAD: usize = 3 << 10;
/// Requests whose turn among variants is remembered.
const TURNS: u64 = 100_000;

/// How long a purchase is remembered for the retries of those who bought it.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The part of the store's bytes that such memories may take.
const REMEMBERED_SHARE: u64 = 8;

/// Equal calls that follow each other within this time count as made at once.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Everything bought and still good. Clones are the same store.
#[derive(Clone, Debug)]
pub struct Store {
    entries: Arc<Lru<Arc<Entry>>>,
    /// Whose turn it is among the variants of an unseeded request.
    turns: Cache<u128, Arc<AtomicU32>>,
    /// What may not be sold again, and yet was paid for: an app that retries, or that asks again
    /// because the answer never reached it, must not pay twice.
    recent: Arc<Lru<Arc<Entry>>>,
    /// The place of a call among equal ones at once, for clients that mean them to differ.
    crowd: Cache<u128, Arc<AtomicU32>>,
    /// Purchases that were put in or remembered, and whether any ever was remembered.
    came: Arc<AtomicU64>,
    remembers: Arc<AtomicBool>,
}

impl Store {
    /// What a store of `capacity` bytes may hold in all.
    pub fn bound(capacity: u64) -> u64 {
        capacity + capacity / REMEMBERED_SHARE
    }

    /// A store of at most `capacity` bytes.
    pub fn new(capacity: u64) -> Store {
        Store {
            // The newest purchase is kept, always. An admission by frequency would turn it away from
            // a full store, and its repeat a moment later would be paid for again.
            entries: Arc::new(Lru::new(capacity)),
            turns: Cache::builder()
                .max_capacity(TURNS)
                .time_to_idle(Duration::from_secs(86_400))
                .build(),
            recent: Arc::new(Lru::new(capacity / REMEMBERED_SHARE)),
            crowd: Cache::builder()
                .max_capacity(TURNS)
                .time_to_idle(AT_ONCE)
                .build(),
            came: Arc::default(),
            remembers: Arc::default(),
        }
    }

    /// The entry of exactly this request.
    pub fn get(&self, key: &Key) -> Option<Arc<Entry>> {
        self.entries
            .get(key.hash())
            .filter(|entry| entry.key == *key)
    }

    /// How many purchases came so far: while that is the same, a look that found nothing finds
    /// nothing again.
    pub fn came(&self) -> u64 {
        self.came.load(Ordering::Acquire)
    }

    /// Keeps a purchase. One that is to live for no time at all is not kept.
    pub fn put(&self, entry: Arc<Entry>) {
        if entry.ttl.is_zero() {
            return;
        }
        let (hash, weight, ttl) = (entry.key.hash(), entry.weight(), entry.ttl);
        self.entries.insert(hash, entry, weight, ttl);
        self.came.fetch_add(1, Ordering::Release);
    }

    /// Remembers a purchase for those who bought it, though it may not be sold again.
    pub fn remember(&self, entry: Arc<Entry>) {
        self.remembers.store(true, Ordering::Release);
        let (hash, weight) = (entry.key.hash(), entry.weight());
        self.recent.insert(hash, entry, weight, REMEMBERED);
        self.came.fetch_add(1, Ordering::Release);
    }

    /// The purchase that a retry repeats, or that nobody received: handed over once more.
    pub fn recall(&self, key: &Key, is_retry: bool) -> Option<Arc<Entry>> {
        if !self.remembers.load(Ordering::Acquire) {
            return None;
        }
        let entry = self
            .recent
            .get(key.hash())
            .filter(|entry| entry.key == *key)?;
        let unreceived = entry.unreceived.swap(false, Ordering::AcqRel);
        (is_retry || unreceived).then_some(entry)
    }

    /// Which of `variants` pictures of the request with this key a call gets: each in its turn.
    pub fn turn(&self, key: &Key, variants: u32) -> u32 {
        if variants <= 1 {
            return 0;
        }
        let turn = self.turns.get_with(key.hash(), Arc::default);
        turn.fetch_add(1, Ordering::Relaxed) % variants
    }

    /// The place of a call among equal ones at once, from 0: a client that asks for n pictures by
    /// n equal calls gets n, and the same n when it asks again.
    pub fn place_in_crowd(&self, key: &Key) -> u32 {
        let place = self.crowd.get_with(key.hash(), Arc::default);
        place.fetch_add(1, Ordering::Relaxed)
    }

    /// The picture whose turn it was last: what a retry repeats.
    pub fn last_turn(&self, key: &Key, variants: u32) -> u32 {
        let turns = self
            .turns
            .get(&key.hash())
            .map_or(0, |turn| turn.load(Ordering::Relaxed));
        turns.wrapping_sub(1) % variants.max(1)
    }

    /// Lets go of everything whose time is over.
    pub fn sweep(&self) {
        self.entries.sweep();
        self.recent.sweep();
    }

    /// Entries and bytes held.
    pub fn size(&self) -> (u64, u64) {
        self.entries.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bill::{Codes, Usage};
    use crate::cache::key::{Around, Partition};
    use crate::image::response::Resolved;
    use crate::image::{Format, Image, ImageRequest, Picture};

    fn entry(prompt: &str, bytes: usize, ttl: Duration) -> Arc<Entry> {
        let model = ModelId::new("openai", "gpt-image-2");
        let request = ImageRequest::new(model.clone(), prompt);
        let image = Image {
            picture: Picture::Raw(Rope::from(vec![0u8; bytes])),
            format: Format::Png,
            width: None,
            height: None,
            seed: None,
            revised_prompt: None,
        };
        let response = ImageResponse {
            model: model.clone(),
            created: None,
            images: vec![image],
            withheld: 0,
            resolved: Resolved::default(),
            usage: Usage::default(),
            codes: Codes::default(),
        };
        Arc::new(Entry {
            key: Key::of(
                &request,
                &Around {
                    partition: &Partition::Everyone,
                    query: None,
                    variant: 0,
                    inert: &[],
                },
            ),
            response,
            original: None,
            model,
            cost: None,
            bought_by: Arc::default(),
            bought_at: Instant::now(),
            ttl,
            unreceived: AtomicBool::new(false),
            rooms: Vec::new(),
        })
    }

    #[test]
    fn what_may_not_be_sold_again_is_still_there_for_its_buyer() {
        let store = Store::new(1 << 20);
        let bought = entry("a", 10, Duration::ZERO);
        store.put(Arc::clone(&bought));
        store.remember(Arc::clone(&bought));
        assert!(store.get(&bought.key).is_none());
        assert!(
            store.recall(&bought.key, false).is_none(),
            "it was received"
        );
        assert!(store.recall(&bought.key, true).is_some(), "a retry");
        bought.unreceived.store(true, Ordering::Release);
        assert!(store.recall(&bought.key, false).is_some(), "nobody had it");
        assert!(
            store.recall(&bought.key, false).is_none(),
            "now somebody has"
        );
    }

    #[test]
    fn what_was_bought_is_found_until_its_time_is_over() {
        let store = Store::new(1 << 20);
        let kept = entry("a", 10, Duration::from_secs(60));
        let gone = entry("b", 10, Duration::ZERO);
        store.put(Arc::clone(&kept));
        store.put(Arc::clone(&gone));
        assert!(store.get(&kept.key).is_some());
        assert!(store.get(&gone.key).is_none());
    }

    #[test]
    fn memory_is_bounded_by_bytes() {
        let store = Store::new(1 << 20);
        for n in 0..100 {
            store.put(entry(&n.to_string(), 100 << 10, Duration::from_secs(60)));
        }
        let (_, bytes) = store.size();
        assert!(bytes <= 1 << 20, "{bytes}");
    }

    #[test]
    fn a_full_store_keeps_the_newest_purchase_and_lets_the_oldest_go() {
        let store = Store::new(64 << 10);
        for number in 0..200 {
            let newest = entry(&format!("cat {number}"), 2000, Duration::from_secs(60));
            store.put(Arc::clone(&newest));
            assert!(store.get(&newest.key).is_some(), "purchase {number}");
        }
        let first = entry("cat 0", 2000, Duration::from_secs(60));
        assert!(store.get(&first.key).is_none());
        assert!(store.size().1 <= 64 << 10);
    }

    #[test]
    fn variants_take_turns() {
        let store = Store::new(1 << 20);
        let key = &entry("a", 1, Duration::ZERO).key;
        let turns: Vec<u32> = (0..5).map(|_| store.turn(key, 2)).collect();
        assert_eq!(turns, [0, 1, 0, 1, 0]);
        assert_eq!(store.turn(key, 1), 0);
    }
}
