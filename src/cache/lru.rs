//! A bounded map in which the least recently used goes first, and what is over its time.
//!
//! Every call that buys puts something into two of these and will hardly ever ask for it again, so
//! what counts is how little an insert touches: one place in a table, one in a list. The order is
//! exact, and so is the bound. One lock is enough: it is held for a tenth of a microsecond, and
//! nothing is dropped under it.

use std::collections::HashMap;
use std::collections::hash_map;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A map from hashes to values of which each has a weight and a time to live.
#[derive(Debug)]
pub struct Lru<V> {
    capacity: u64,
    state: Mutex<State<V>>,
}

/// Of a link: there is no such place.
const NONE: u32 = u32::MAX;
/// Places at the old end that an insert looks at for what is over its time.
const SWEPT: usize = 2;

#[derive(Debug)]
struct State<V> {
    places: HashMap<u128, u32>,
    slots: Vec<Slot<V>>,
    /// The first of the slots without a value; the others follow by `older`.
    free: u32,
    newest: u32,
    oldest: u32,
    weight: u64,
}

#[derive(Debug)]
struct Slot<V> {
    key: u128,
    /// `None` while the slot is free.
    value: Option<V>,
    weight: u32,
    /// `None` where that is beyond what the clock can tell.
    expires: Option<Instant>,
    newer: u32,
    older: u32,
}

impl<V> Slot<V> {
    fn is_over(&self, now: Instant) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

impl<V: Clone> Lru<V> {
    /// A map of values that weigh at most `capacity` together.
    pub fn new(capacity: u64) -> Lru<V> {
        Lru {
            capacity,
            state: Mutex::new(State {
                places: HashMap::new(),
                slots: Vec::new(),
                free: NONE,
                newest: NONE,
                oldest: NONE,
                weight: 0,
            }),
        }
    }

    /// The value under `key`, which is now the one used last.
    pub fn get(&self, key: u128) -> Option<V> {
        let mut state = self.state.lock();
        let place = *state.places.get(&key)?;
        if state.slot(place).is_over(Instant::now()) {
            let gone = state.remove(place);
            drop(state);
            drop(gone);
            return None;
        }
        state.unlink(place);
        state.link_newest(place);
        state.slot(place).value.clone()
    }

    /// Keeps `value` for `ttl` at the most, in place of what was under `key`. One that weighs more
    /// than there is room for is not kept.
    pub fn insert(&self, key: u128, value: V, weight: u32, ttl: Duration) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        if let Some(&place) = state.places.get(&key) {
            gone.extend(state.remove(place));
        }
        if u64::from(weight) <= self.capacity {
            let most = self.capacity - u64::from(weight);
            state.make_room(most, now, &mut gone);
            state.put(Slot {
                key,
                value: Some(value),
                weight,
                expires: now.checked_add(ttl),
                newer: NONE,
                older: NONE,
            });
        }
        drop(state);
        drop(gone); // a picture, with all its bytes
    }

    /// Values held, and what they weigh.
    pub fn size(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.places.len() as u64, state.weight)
    }
}

impl<V> State<V> {
    fn slot(&mut self, place: u32) -> &mut Slot<V> {
        &mut self.slots[place as usize]
    }

    /// Lets go of the oldest until all weigh `most`, and of what is over its time among those that
    /// follow.
    fn make_room(&mut self, most: u64, now: Instant, gone: &mut Vec<V>) {
        let mut looks = SWEPT;
        while self.oldest != NONE {
            if self.weight <= most {
                let oldest = self.oldest;
                if looks == 0 || !self.slot(oldest).is_over(now) {
                    return;
                }
                looks -= 1;
            }
            gone.extend(self.remove(self.oldest));
        }
    }

    fn put(&mut self, slot: Slot<V>) {
        let (key, weight) = (slot.key, slot.weight);
        let place = match self.free {
            NONE => {
                let Ok(place) = u32::try_from(self.slots.len()) else {
                    return; // four billion values: nothing is kept that could not be found
                };
                if place == NONE {
                    return;
                }
                self.slots.push(slot);
                place
            }
            free => {
                self.free = self.slot(free).older;
                *self.slot(free) = slot;
                free
            }
        };
        self.places.insert(key, place);
        self.weight += u64::from(weight);
        self.link_newest(place);
    }

    fn remove(&mut self, place: u32) -> Option<V> {
        self.unlink(place);
        let free = self.free;
        let slot = self.slot(place);
        let (key, weight) = (slot.key, slot.weight);
        let value = slot.value.take();
        slot.older = free;
        self.free = place;
        self.weight -= u64::from(weight);
        if let hash_map::Entry::Occupied(found) = self.places.entry(key) {
            found.remove();
        }
        value
    }

    fn unlink(&mut self, place: u32) {
        let slot = self.slot(place);
        let (newer, older) = (slot.newer, slot.older);
        match newer {
            NONE => self.newest = older,
            newer => self.slot(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slot(older).newer = newer,
        }
    }

    fn link_newest(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        let slot = self.slot(place);
        (slot.newer, slot.older) = (NONE, before);
        match before {
            NONE => self.oldest = place,
            before => self.slot(before).newer = place,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: Duration = Duration::from_secs(600);

    #[derive(Clone, Debug)]
    enum Step {
        Get(u8),
        Insert { key: u8, weight: u32, lives: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..24).prop_map(Step::Get),
            (0u8..24, 0u32..40, prop::bool::weighted(0.9))
                .prop_map(|(key, weight, lives)| Step::Insert { key, weight, lives }),
        ]
    }

    /// The same, as a list: the oldest first.
    #[derive(Default)]
    struct Plain(Vec<(u8, usize, u32, bool)>);

    impl Plain {
        fn weight(&self) -> u32 {
            self.0.iter().map(|(_, _, weight, _)| weight).sum()
        }

        fn get(&mut self, key: u8) -> Option<usize> {
            let at = self.0.iter().position(|(known, ..)| *known == key)?;
            let found = self.0.remove(at);
            found.3.then(|| {
                self.0.push(found);
                found.1
            })
        }

        fn insert(&mut self, key: u8, value: usize, weight: u32, lives: bool, capacity: u32) {
            self.0.retain(|(known, ..)| *known != key);
            if weight > capacity {
                return;
            }
            let mut looks = SWEPT;
            while let Some((.., alive)) = self.0.first() {
                if self.weight() <= capacity - weight {
                    if looks == 0 || *alive {
                        break;
                    }
                    looks -= 1;
                }
                self.0.remove(0);
            }
            self.0.push((key, value, weight, lives));
        }
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(
            steps in prop::collection::vec(step(), 0..200),
            capacity in 0u32..120,
        ) {
            let lru = Lru::new(u64::from(capacity));
            let mut plain = Plain::default();
            for (value, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Get(key) => prop_assert_eq!(lru.get(key.into()), plain.get(key)),
                    Step::Insert { key, weight, lives } => {
                        let ttl = if lives { LONG } else { Duration::ZERO };
                        lru.insert(key.into(), value, weight, ttl);
                        plain.insert(key, value, weight, lives, capacity);
                    }
                }
                let (count, weight) = lru.size();
                prop_assert_eq!((count, weight), (plain.0.len() as u64, plain.weight().into()));
                prop_assert!(weight <= capacity.into());
            }
        }
    }

    #[test]
    fn slots_are_used_again() {
        let lru = Lru::new(10);
        for key in 0..1000 {
            lru.insert(key, (), 1, LONG);
        }
        assert_eq!(lru.state.lock().slots.len(), 10);
    }

    #[test]
    fn what_is_let_go_of_is_dropped_where_others_may_go_on() {
        use std::sync::{Arc, Weak};
        struct Asks(Weak<Lru<Arc<Asks>>>);
        impl Drop for Asks {
            fn drop(&mut self) {
                // Under the lock this would wait for itself.
                let _ = self.0.upgrade().map(|lru| lru.size());
            }
        }
        let lru: Arc<Lru<Arc<Asks>>> = Arc::new(Lru::new(1));
        for key in 0..3 {
            lru.insert(key, Arc::new(Asks(Arc::downgrade(&lru))), 1, Duration::ZERO);
        }
        assert!(lru.get(2).is_none());
    }

    #[test]
    fn a_time_to_live_without_end_has_none() {
        let lru = Lru::new(1);
        lru.insert(1, "kept", 1, Duration::MAX);
        assert_eq!(lru.get(1), Some("kept"));
    }
}
