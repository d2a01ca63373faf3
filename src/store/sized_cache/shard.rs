//! One shard: entries in two queues, and the decision which of them stay.
//!
//! A small entry first waits in the *window*, so that it can be used before it is judged. The oldest of the window, and
//! a large entry at once, compete for a place in the *main queue*, whose head moves round like a clock's hand.

use std::collections::HashMap;
use std::time::Duration;

use quick_cache::DefaultHashBuilder;

use super::past_uses::{PastUses, Uses};
use super::{Displaced, EntryId};
use crate::clock::Timestamp;

/// The share of the capacity that the window has: a tenth.
const WINDOW_PART: u64 = 10;

/// An entry that is larger than this part of the window would push too many others out of it.
const LARGE_PART: u64 = 4;

/// How many used entries of the main queue are looked at for one that competes.
const MAX_VISITS: usize = 32;

/// Uses are halved once each entry could have been replaced, but not more often than this: by then whatever is used
/// every few seconds has more uses than a client brings up for many entries.
const MIN_AGE: Duration = Duration::from_secs(60);

/// Sizes the memory of past uses. Being wrong tenfold is harmless.
const EXPECTED_ENTRY_BYTES: u64 = 4 * 1024;
const MIN_PAST: u64 = 1024;

const NOWHERE: u32 = u32::MAX;

pub(super) struct CacheShard<V> {
    places: HashMap<EntryId, u32, DefaultHashBuilder>,
    slots: Vec<EntrySlot<V>>,
    free: Vec<u32>,
    window: EntryQueue,
    main: EntryQueue,
    capacity: u64,
    past: PastUses,
    age: u16,
    age_began: Timestamp,
    /// Insertions in this age.
    insertions: usize,
}

struct EntrySlot<V> {
    id: EntryId,
    /// `None` where the slot is free.
    value: Option<V>,
    weight: u64,
    uses: Uses,
    is_in_window: bool,
    before: u32,
    after: u32,
}

struct EntryQueue {
    oldest: u32,
    latest: u32,
    len: usize,
    weight: u64,
}

impl<V> CacheShard<V> {
    pub(super) fn new(capacity: u64, hasher: DefaultHashBuilder) -> Self {
        Self {
            places: HashMap::with_hasher(hasher),
            slots: Vec::new(),
            free: Vec::new(),
            window: EntryQueue::new(),
            main: EntryQueue::new(),
            capacity,
            past: PastUses::new(
                usize::try_from((capacity / EXPECTED_ENTRY_BYTES).max(MIN_PAST)).unwrap_or(64),
            ),
            age: 0,
            age_began: Timestamp::default(),
            insertions: 0,
        }
    }

    pub(super) fn get(&self, id: &EntryId) -> Option<&V> {
        let slot = &self.slots[*self.places.get(id)? as usize];
        slot.uses.record(self.age);
        slot.value.as_ref()
    }

    pub(super) fn peek(&self, id: &EntryId) -> Option<&V> {
        self.slots[*self.places.get(id)? as usize].value.as_ref()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.window.weight + self.main.weight
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    pub(super) fn insert(&mut self, (id, value): (EntryId, V), weight: u64, now: Timestamp) -> Displaced<V> {
        self.advance_age(now);
        let replaced = self.remove(&id);
        let mut evicted = Vec::new();
        if weight <= self.capacity {
            let uses = self.past.count(&id, self.age).saturating_add(1);
            if weight <= self.window_capacity() / LARGE_PART {
                let slot = self.add(id, value, weight, uses);
                self.link(slot, true);
                self.make_room(&mut evicted);
            } else if self.admits(uses, weight, &mut evicted) {
                let slot = self.add(id, value, weight, uses);
                self.link(slot, false);
            } else {
                self.past.record(&id, uses, self.age);
                evicted.push((id, value));
            }
        }
        Displaced { _replaced: replaced, evicted }
    }

    /// Removes an entry. Its uses are remembered.
    pub(super) fn remove(&mut self, id: &EntryId) -> Option<V> {
        let slot = *self.places.get(id)?;
        self.take(slot).map(|(_, value)| value)
    }

    /// Judges the oldest entries of the window while it is too large; then the main queue gives way.
    fn make_room(&mut self, evicted: &mut Vec<(EntryId, V)>) {
        while self.window.weight > self.window_capacity() {
            let oldest = self.window.oldest;
            let (uses, weight) = (self.uses(oldest), self.slots[oldest as usize].weight);
            self.unlink(oldest);
            if self.admits(uses, weight, evicted) {
                self.link(oldest, false);
            } else {
                self.link(oldest, true);
                evicted.extend(self.take(oldest));
            }
        }
        while self.weight() > self.capacity && self.main.len > 0 {
            self.evict_least_used(evicted);
        }
    }

    /// Whether an entry outside the queues gets a place in the main queue. If so, the others have made room.
    fn admits(&mut self, uses: u16, weight: u64, evicted: &mut Vec<(EntryId, V)>) -> bool {
        let excess = (self.weight() + weight).saturating_sub(self.capacity);
        self.displace(uses, weight, excess.min(weight), evicted)
    }

    /// Evicts entries of `needed` bytes from the main queue if all of them together were used less than `uses` times. Those
    /// that were not used of late go in any case.
    fn displace(&mut self, uses: u16, weight: u64, needed: u64, evicted: &mut Vec<(EntryId, V)>) -> bool {
        let (mut freed, mut lost) = (0, 0u16);
        let (mut victims, mut visits) = (Vec::new(), 0);
        let mut unseen = self.main.len;
        while freed < needed {
            if unseen == 0 || visits == MAX_VISITS {
                return false;
            }
            unseen -= 1;
            let oldest = self.main.oldest;
            let (used, size) = (self.uses(oldest), self.slots[oldest as usize].weight);
            if used == 0 {
                freed += size;
                evicted.extend(self.take(oldest));
                continue;
            }
            visits += 1;
            self.requeue(oldest);
            let is_denser = u128::from(used) * u128::from(weight) >= u128::from(uses) * u128::from(size);
            let together = lost.saturating_add(used);
            if !is_denser && together < uses {
                (lost, freed) = (together, freed + size);
                victims.push(oldest);
            }
        }
        evicted.extend(victims.into_iter().filter_map(|slot| self.take(slot)));
        true
    }

    /// Evicts the entry of the fewest uses for its bytes among the oldest of the main queue.
    fn evict_least_used(&mut self, evicted: &mut Vec<(EntryId, V)>) {
        let mut least: Option<(u32, u16, u64)> = None;
        for _ in 0..self.main.len.min(MAX_VISITS) {
            let oldest = self.main.oldest;
            let (used, size) = (self.uses(oldest), self.slots[oldest as usize].weight);
            self.requeue(oldest);
            let is_less = least.is_none_or(|(_, fewest, bytes)| {
                u128::from(used) * u128::from(bytes) < u128::from(fewest) * u128::from(size)
            });
            if is_less {
                least = Some((oldest, used, size));
            }
            if used == 0 {
                break;
            }
        }
        evicted.extend(least.and_then(|(slot, ..)| self.take(slot)));
    }

    fn advance_age(&mut self, now: Timestamp) {
        self.insertions += 1;
        if self.insertions > self.len() && now.since(self.age_began) >= MIN_AGE {
            (self.age, self.age_began, self.insertions) = (self.age.wrapping_add(1), now, 0);
        }
    }

    fn window_capacity(&self) -> u64 {
        self.capacity / WINDOW_PART
    }

    fn uses(&self, slot: u32) -> u16 {
        self.slots[slot as usize].uses.count(self.age)
    }
}

/// Slots and queues.
impl<V> CacheShard<V> {
    /// Adds an entry, in no queue yet.
    fn add(&mut self, id: EntryId, value: V, weight: u64, uses: u16) -> u32 {
        let uses = Uses::new(uses, self.age);
        let new = EntrySlot {
            id,
            value: Some(value),
            weight,
            uses,
            is_in_window: false,
            before: NOWHERE,
            after: NOWHERE,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = new;
                slot
            }
            None => {
                self.slots.push(new);
                self.slots.len() as u32 - 1
            }
        };
        self.places.insert(id, slot);
        slot
    }

    /// Takes an entry out of its queue, and out of the shard.
    fn take(&mut self, slot: u32) -> Option<(EntryId, V)> {
        self.unlink(slot);
        let uses = self.uses(slot);
        let taken = &mut self.slots[slot as usize];
        let (id, value) = (taken.id, taken.value.take()?);
        self.places.remove(&id);
        self.past.record(&id, uses, self.age);
        self.free.push(slot);
        Some((id, value))
    }

    fn requeue(&mut self, slot: u32) {
        self.unlink(slot);
        self.link(slot, false);
    }

    /// Makes an entry the latest of the window, or of the main queue.
    fn link(&mut self, slot: u32, in_window: bool) {
        let queue = if in_window { &mut self.window } else { &mut self.main };
        let latest = std::mem::replace(&mut queue.latest, slot);
        let linked = &mut self.slots[slot as usize];
        (linked.is_in_window, linked.before, linked.after) = (in_window, latest, NOWHERE);
        queue.len += 1;
        queue.weight += linked.weight;
        match latest {
            NOWHERE => queue.oldest = slot,
            latest => self.slots[latest as usize].after = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let EntrySlot { is_in_window, before, after, weight, .. } = self.slots[slot as usize];
        let queue = if is_in_window { &mut self.window } else { &mut self.main };
        queue.len -= 1;
        queue.weight -= weight;
        match before {
            NOWHERE => queue.oldest = after,
            before => self.slots[before as usize].after = after,
        }
        match after {
            NOWHERE => queue.latest = before,
            after => self.slots[after as usize].before = before,
        }
    }
}

impl EntryQueue {
    fn new() -> Self {
        Self { oldest: NOWHERE, latest: NOWHERE, len: 0, weight: 0 }
    }
}
