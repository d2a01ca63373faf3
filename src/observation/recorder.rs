//! One request that is observed until it has ended.

use std::hash::{BuildHasher, DefaultHasher, Hasher};
use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use http::request::Parts;
use http::{HeaderMap, StatusCode};

use super::dimensions::Dimensions;
use super::samples::ReadSample;
use super::{MAX_CONTENT_BYTES, TrafficSketch};
use crate::clock::{Clock, Timestamp};

/// A read, whose content is fingerprinted on its way to the client.
pub struct ReadRecorder {
    sketch: Arc<TrafficSketch>,
    path: String,
    /// `None`: it is recorded, or not to be compared.
    dimensions: Option<Dimensions>,
    hasher: DefaultHasher,
    bytes: usize,
    coding: u64,
    began: Timestamp,
    answered: Timestamp,
}

/// A write. It ends when this is dropped.
pub struct WriteRecorder {
    sketch: Arc<TrafficSketch>,
    clock: Clock,
    number: Option<u64>,
    has_failed: bool,
}

impl ReadRecorder {
    /// The read counts as under way in the sketch's budget.
    pub(super) fn new(
        sketch: Arc<TrafficSketch>,
        path: &str,
        dimensions: Dimensions,
        began: Timestamp,
    ) -> Self {
        let (hasher, path) = (sketch.key.build_hasher(), path.to_owned());
        let dimensions = Some(dimensions);
        Self { sketch, path, dimensions, hasher, bytes: 0, coding: 0, began, answered: began }
    }

    /// Takes in the head of the answer. Returns `None` for an answer that is not compared.
    pub fn with_answer(
        mut self,
        status: StatusCode,
        headers: &HeaderMap,
        answered: Timestamp,
    ) -> Option<Self> {
        self.answered = answered;
        self.coding =
            headers.get(CONTENT_ENCODING).map_or(0, |value| self.sketch.fingerprint(value.as_bytes()));
        (status == StatusCode::OK).then_some(self)
    }

    /// Adds a part of the content.
    pub fn add(&mut self, content: &[u8]) {
        if self.dimensions.is_none() {
            return;
        }
        self.bytes = self.bytes.saturating_add(content.len());
        if self.bytes > MAX_CONTENT_BYTES || !self.sketch.content.charge(content.len()) {
            self.dimensions = None;
        } else {
            self.hasher.write(content);
        }
    }

    /// Records the read, if its content is complete.
    pub fn finish(&mut self, is_complete: bool) {
        let Some(dimensions) = self.dimensions.take().filter(|_| is_complete) else { return };
        // Parts are hashed one after another, wherever they were cut.
        let content = self.hasher.finish();
        let Self { coding, bytes, began, answered, .. } = *self;
        let sample = ReadSample { dimensions, content, coding, bytes, began, answered };
        self.sketch.record_read(&self.path, &sample);
    }
}

impl Drop for ReadRecorder {
    fn drop(&mut self) {
        self.sketch.content.end_read();
    }
}

impl WriteRecorder {
    /// Begins to observe a write that is about to be sent.
    pub fn begin(sketch: &Arc<TrafficSketch>, head: &Parts, clock: &Clock) -> Self {
        let number = sketch.begin_write(head, clock.now());
        Self { sketch: sketch.clone(), clock: clock.clone(), number, has_failed: false }
    }

    /// The write changed nothing.
    pub(crate) fn set_failed(&mut self) {
        self.has_failed = true;
    }
}

impl Drop for WriteRecorder {
    fn drop(&mut self) {
        self.sketch.state.lock().links.end(self.number, self.has_failed, self.clock.now());
    }
}
