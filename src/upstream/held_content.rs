//! Contents of requests that are kept: to be parsed once they were forwarded, or forwarded once they are whole.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use super::request_progress::RequestProgress;
use crate::memory_budget::{MemoryBudget, Reservation};

/// A copy of the content that was forwarded, up to a limit and while there is room for it.
#[derive(Clone)]
pub(crate) struct CapturedBody {
    content: Arc<Mutex<Option<HeldContent>>>,
    limit: u64,
    progress: RequestProgress,
}

impl CapturedBody {
    pub(super) fn new(held: HeldContent, limit: u64, progress: RequestProgress) -> Self {
        Self { content: Arc::new(Mutex::new(Some(held))), limit, progress }
    }

    /// Returns the whole content; `None` if a part was not forwarded yet, it exceeds the limit, or there was no room.
    pub(crate) fn complete_content(&self) -> Option<Bytes> {
        if !self.progress.is_complete() {
            return None;
        }
        self.content.lock().take().map(HeldContent::freeze)
    }

    /// Drops what was copied. A content that was too large stays unknown.
    pub(super) fn clear(&self) {
        self.content.lock().iter_mut().for_each(HeldContent::clear);
    }

    pub(super) fn append(&self, data: &[u8]) {
        let mut content = self.content.lock();
        match content.as_mut() {
            Some(before) if (before.bytes.len() + data.len()) as u64 <= self.limit && before.has_room() => {
                before.append(data)
            }
            _ => *content = None,
        }
    }
}

/// The part of a content that has arrived. It counts in the memory budget; an empty one need not.
#[derive(Default)]
pub(super) struct HeldContent {
    bytes: BytesMut,
    reservation: Option<Reservation>,
}

impl HeldContent {
    pub(super) fn counted_by(memory: &Arc<MemoryBudget>) -> Self {
        Self { bytes: BytesMut::new(), reservation: Some(memory.reserve()) }
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn has_room(&self) -> bool {
        self.reservation.as_ref().is_none_or(|reservation| reservation.budget().has_room())
    }

    pub(super) fn append(&mut self, data: &[u8]) {
        self.reservation.iter_mut().for_each(|reservation| reservation.grow(data.len() as u64));
        self.bytes.extend_from_slice(data);
    }

    fn clear(&mut self) {
        self.bytes = BytesMut::new();
        self.reservation = self.reservation.take().map(|reservation| reservation.budget().reserve());
    }

    pub(super) fn freeze(self) -> Bytes {
        let bytes = self.bytes.freeze();
        match self.reservation {
            Some(reservation) => reservation.attach(bytes),
            None => bytes,
        }
    }
}
