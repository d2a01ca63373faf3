//! How often entries were used: those that are present, and those that were.

use std::sync::atomic::{AtomicU32, Ordering};

use super::EntryId;

/// The uses of an entry, halved with each age that passes: the age at which they were counted, and their number.
pub(super) struct Uses(AtomicU32);

/// The uses of entries that are not present, in a table of fixed size. If two share a slot, the one of more uses stays,
/// and loses those of the other.
pub(super) struct PastUses(Box<[PastSlot]>);

#[derive(Clone, Copy, Default)]
struct PastSlot {
    tag: u32,
    packed: u32,
}

impl Uses {
    pub(super) fn new(count: u16, age: u16) -> Self {
        Self(pack(count, age).into())
    }

    /// Counts a use. One that is counted at the same time may be lost.
    pub(super) fn record(&self, age: u16) {
        let count = decay(self.0.load(Ordering::Relaxed), age);
        self.0.store(pack(count.saturating_add(1), age), Ordering::Relaxed);
    }

    pub(super) fn count(&self, age: u16) -> u16 {
        decay(self.0.load(Ordering::Relaxed), age)
    }
}

impl PastUses {
    pub(super) fn new(slots: usize) -> Self {
        Self(vec![PastSlot::default(); slots.max(1)].into())
    }

    pub(super) fn record(&mut self, id: &EntryId, count: u16, age: u16) {
        let (index, tag) = self.place(id);
        let slot = &mut self.0[index];
        let present = decay(slot.packed, age);
        *slot = match slot.tag == tag || present <= count {
            true => PastSlot { tag, packed: pack(count, age) },
            // An entry that comes again and again takes the place at last.
            false => PastSlot { tag: slot.tag, packed: pack(present - count.max(1), age) },
        };
    }

    pub(super) fn count(&self, id: &EntryId, age: u16) -> u16 {
        let (index, tag) = self.place(id);
        let slot = self.0[index];
        if slot.tag == tag { decay(slot.packed, age) } else { 0 }
    }

    /// The slot of an entry, and what tells it from others there.
    fn place(&self, id: &EntryId) -> (usize, u32) {
        let number = u128::from_le_bytes(id.0);
        (number as u64 as usize % self.0.len(), (number >> 96) as u32)
    }
}

fn pack(count: u16, age: u16) -> u32 {
    u32::from(age) << 16 | u32::from(count)
}

fn decay(packed: u32, age: u16) -> u16 {
    let passed = age.wrapping_sub((packed >> 16) as u16);
    (packed as u16).checked_shr(passed.into()).unwrap_or(0)
}
