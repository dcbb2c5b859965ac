//! A bounded map: what is over its time goes first, then the least recently used.
//!
//! Every call that buys puts something into two of these and will hardly ever ask for it again, so
//! what counts is how little an insert touches. Both orders are exact, and so is the bound. One lock
//! is enough: it is held for less than a microsecond but when a table grows, and nothing is dropped
//! under it.

use std::collections::BTreeSet;
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
/// So many that are over their time go with an insert that needs no room.
const SWEPT: usize = 2;

#[derive(Debug)]
struct State<V> {
    places: foldhash::HashMap<u128, u32>,
    slots: Vec<Slot<V>>,
    /// The first of the slots without a value; the others follow by `older`.
    free: u32,
    newest: u32,
    oldest: u32,
    /// When they are over their time, and where they are.
    ends: BTreeSet<(Instant, u32)>,
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
                places: foldhash::HashMap::default(),
                slots: Vec::new(),
                free: NONE,
                newest: NONE,
                oldest: NONE,
                ends: BTreeSet::new(),
                weight: 0,
            }),
        }
    }

    /// The value under `key`, which is now the one used last.
    pub fn get(&self, key: u128) -> Option<V> {
        self.get_at(key, Instant::now())
    }

    fn get_at(&self, key: u128, now: Instant) -> Option<V> {
        let mut state = self.state.lock();
        let place = *state.places.get(&key)?;
        if state.slot(place).is_over(now) {
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
        self.insert_at(key, value, weight, ttl, Instant::now());
    }

    fn insert_at(&self, key: u128, value: V, weight: u32, ttl: Duration, now: Instant) {
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

    /// Lets go of everything that is over its time.
    pub fn sweep(&self) {
        self.sweep_at(Instant::now());
    }

    fn sweep_at(&self, now: Instant) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        while let Some(place) = state.over(now) {
            gone.extend(state.remove(place));
        }
        drop(state);
        drop(gone);
    }

    /// Values held, and what they weigh; among them what is over its time and was not let go of yet.
    pub fn size(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.places.len() as u64, state.weight)
    }
}

impl<V> State<V> {
    fn slot(&mut self, place: u32) -> &mut Slot<V> {
        &mut self.slots[place as usize]
    }

    /// The first that is over its time.
    fn over(&self, now: Instant) -> Option<u32> {
        let (end, place) = self.ends.first()?;
        (*end <= now).then_some(*place)
    }

    /// Lets go of what is over its time, and then of the oldest, until all weigh `most`.
    fn make_room(&mut self, most: u64, now: Instant, gone: &mut Vec<V>) {
        let mut looks = SWEPT;
        loop {
            let needed = self.weight > most;
            let place = match self.over(now) {
                Some(over) if needed || looks > 0 => over,
                _ if needed && self.oldest != NONE => self.oldest,
                _ => return,
            };
            looks = looks.saturating_sub(1);
            gone.extend(self.remove(place));
        }
    }

    fn put(&mut self, slot: Slot<V>) {
        let (key, weight, expires) = (slot.key, slot.weight, slot.expires);
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
        self.ends.extend(expires.map(|end| (end, place)));
        self.weight += u64::from(weight);
        self.link_newest(place);
    }

    fn remove(&mut self, place: u32) -> Option<V> {
        self.unlink(place);
        let free = self.free;
        let slot = self.slot(place);
        let (key, weight) = (slot.key, slot.weight);
        let (value, expires) = (slot.value.take(), slot.expires.take());
        slot.older = free;
        self.free = place;
        self.weight -= u64::from(weight);
        self.places.remove(&key);
        if let Some(end) = expires {
            self.ends.remove(&(end, place));
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
        /// `ttl` and `Wait` in seconds.
        Insert {
            key: u8,
            weight: u32,
            ttl: u64,
        },
        Wait(u64),
        Sweep,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..24).prop_map(Step::Get),
            6 => (0u8..24, 0u32..40, 0u64..60)
                .prop_map(|(key, weight, ttl)| Step::Insert { key, weight, ttl }),
            2 => (0u64..20).prop_map(Step::Wait),
            1 => Just(Step::Sweep),
        ]
    }

    /// What may be found, the least recently used first. What is over its time is not in it: it must
    /// never have cost another its place.
    #[derive(Default)]
    struct Plain(Vec<Kept>);

    struct Kept {
        key: u8,
        value: usize,
        weight: u32,
        until: u64,
    }

    impl Plain {
        fn weight(&self) -> u32 {
            self.0.iter().map(|kept| kept.weight).sum()
        }

        fn get(&mut self, key: u8) -> Option<usize> {
            let at = self.0.iter().position(|kept| kept.key == key)?;
            let kept = self.0.remove(at);
            self.0.push(kept);
            self.0.last().map(|kept| kept.value)
        }

        fn insert(&mut self, kept: Kept, capacity: u32) {
            self.0.retain(|known| known.key != kept.key);
            if kept.weight > capacity {
                return;
            }
            while self.weight() > capacity - kept.weight {
                self.0.remove(0);
            }
            self.0.push(kept);
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_list_finds(
            steps in prop::collection::vec(step(), 0..200),
            capacity in 0u32..120,
        ) {
            let (lru, mut plain) = (Lru::new(u64::from(capacity)), Plain::default());
            let (began, mut clock) = (Instant::now(), 0);
            for (value, step) in steps.into_iter().enumerate() {
                let now = began + Duration::from_secs(clock);
                match step {
                    Step::Get(key) => prop_assert_eq!(lru.get_at(key.into(), now), plain.get(key)),
                    Step::Insert { key, weight, ttl } => {
                        lru.insert_at(key.into(), value, weight, Duration::from_secs(ttl), now);
                        plain.insert(Kept { key, value, weight, until: clock + ttl }, capacity);
                    }
                    Step::Wait(seconds) => clock += seconds,
                    Step::Sweep => {
                        lru.sweep_at(now);
                        plain.0.retain(|kept| kept.until > clock);
                        let left = (plain.0.len() as u64, u64::from(plain.weight()));
                        prop_assert_eq!(lru.size(), left);
                    }
                }
                plain.0.retain(|kept| kept.until > clock);
                let (count, weight) = lru.size();
                prop_assert!(count >= plain.0.len() as u64 && weight <= capacity.into());
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
