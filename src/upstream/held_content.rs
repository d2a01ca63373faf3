//! Contents of requests that are kept: to be parsed once they were forwarded, or forwarded once they are whole.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::request_progress::RequestProgress;
use crate::memory_budget::{ClientMemory, Reservation};

/// A copy of the content that was forwarded, up to a limit and while there is room for it.
#[derive(Clone)]
pub(crate) struct CapturedBody {
    content: Arc<Mutex<Captured>>,
    limit: u64,
    progress: RequestProgress,
}

enum Captured {
    Arriving(HeldContent),
    /// Another attempt sends the same.
    Whole(Bytes),
    /// It exceeds the limit, or there was no room.
    Unknown,
}

impl CapturedBody {
    pub(super) fn new(held: HeldContent, limit: u64, progress: RequestProgress) -> Self {
        Self { content: Arc::new(Mutex::new(Captured::Arriving(held))), limit, progress }
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns the whole content; `None` if a part was not forwarded yet, it exceeds the limit, or there was no room.
    pub(crate) fn complete_content(&self) -> Option<Bytes> {
        if !self.progress.is_complete() {
            return None;
        }
        let mut content = self.content.lock();
        match std::mem::replace(&mut *content, Captured::Unknown) {
            Captured::Arriving(held) => *content = Captured::Whole(held.freeze()),
            known => *content = known,
        }
        match &*content {
            Captured::Whole(whole) => Some(whole.clone()),
            Captured::Arriving(_) | Captured::Unknown => None,
        }
    }

    /// Drops what was copied. A content that was too large stays unknown.
    pub(super) fn clear(&self) {
        if let Captured::Arriving(held) = &mut *self.content.lock() {
            held.clear();
        }
    }

    pub(super) fn append(&self, data: &[u8]) {
        let mut content = self.content.lock();
        match &mut *content {
            Captured::Arriving(before)
                if before.len() + data.len() as u64 <= self.limit && before.has_room_for(data) =>
            {
                before.append(data);
            }
            Captured::Whole(_) => {}
            Captured::Arriving(_) | Captured::Unknown => *content = Captured::Unknown,
        }
    }
}

/// The part of a content that has arrived. It counts in the memory budget; an empty one need not.
#[derive(Default)]
pub(super) struct HeldContent {
    bytes: Vec<u8>,
    counted: Option<(ClientMemory, Reservation)>,
    /// The length that was announced, or 0.
    announced: usize,
}

impl HeldContent {
    pub(super) fn counted_by(memory: &ClientMemory) -> Self {
        Self { bytes: Vec::new(), counted: Some((memory.clone(), memory.reserve())), announced: 0 }
    }

    /// Counts the length that was announced, before it has arrived: many clients may begin while there is room.
    #[must_use]
    pub(super) fn announced(mut self, length: u64) -> Self {
        self.announced = usize::try_from(length).unwrap_or(usize::MAX);
        self.counted.iter_mut().for_each(|(_, reservation)| reservation.grow_to(length));
        self
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn has_room_for(&self, data: &[u8]) -> bool {
        self.counted.as_ref().is_none_or(|(memory, _)| memory.has_room_for(data.len() as u64))
    }

    pub(super) fn append(&mut self, data: &[u8]) {
        let (length, capacity) = (self.bytes.len() + data.len(), self.bytes.capacity());
        if length > capacity {
            // Twice as much, but no more than was announced.
            let doubled =
                if self.announced < length { 2 * capacity } else { self.announced.min(2 * capacity) };
            self.bytes.reserve_exact(doubled.max(length) - self.bytes.len());
            let capacity = self.bytes.capacity() as u64;
            self.counted.iter_mut().for_each(|(_, reservation)| reservation.grow_to(capacity));
        }
        self.bytes.extend_from_slice(data);
    }

    fn clear(&mut self) {
        self.bytes = Vec::new();
        self.counted = self.counted.take().map(|(memory, _)| (memory.clone(), memory.reserve()));
    }

    pub(super) fn freeze(self) -> Bytes {
        let bytes = self.bytes.into();
        match self.counted {
            Some((_, reservation)) => reservation.attach(bytes),
            None => bytes,
        }
    }
}
