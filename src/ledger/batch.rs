//! Many events of few attempts, brought down to one row each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::entry::{Event, Hold, Key, Settlement};

/// What a run of events, in order, does to the database.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// One for each attempt that is open or settled afterwards.
    pub(super) rows: Vec<Write>,
    /// Attempts whose open hold was taken back; to be done before the rows.
    pub(super) released: Vec<Key>,
}

/// A row to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) hold: Arc<Hold>,
    /// `None`: still open.
    pub(super) settled: Option<Arc<Settlement>>,
}

impl Batch {
    /// Brings events down to rows. A settled attempt stays as it was settled first.
    pub(super) fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Batch {
        let mut batch = Batch::default();
        let mut places: HashMap<Key, usize, BuildHasherDefault<IdHasher>> = HashMap::default();
        let mut rows: Vec<Option<Write>> = Vec::new();
        for event in events {
            let key = event.key();
            let place = *places.entry(key).or_insert(rows.len());
            if place == rows.len() {
                rows.push(None);
            }
            let row = &mut rows[place];
            if row.as_ref().is_some_and(|row| row.settled.is_some()) {
                continue;
            }
            *row = match event {
                Event::Held(hold) => Some(Write {
                    hold: Arc::clone(hold),
                    settled: None,
                }),
                Event::Settled(hold, settlement) => Some(Write {
                    hold: Arc::clone(hold),
                    settled: Some(Arc::clone(settlement)),
                }),
                Event::Released(key) => {
                    batch.released.push(*key);
                    None
                }
            };
        }
        batch.rows = rows.into_iter().flatten().collect();
        batch
    }
}

/// A call's id is random enough to be its own hash, and nobody else chooses it.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u32(&mut self, attempt: u32) {
        self.0 ^= u64::from(attempt);
    }

    fn write_u128(&mut self, id: u128) {
        // Hash tables look at both ends; the moment is in the upper half.
        let [low, high] = [id as u64, (id >> 64) as u64];
        self.0 = low ^ high.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Event {
    pub(super) fn key(&self) -> Key {
        match self {
            Event::Held(hold) | Event::Settled(hold, _) => hold.key(),
            Event::Released(key) => *key,
        }
    }
}
