//! The fields of what is stored, in little memory: what a route's responses have in common is there once, the values
//! in which they differ stand side by side in one piece of memory.
//!
//! A map of fields takes 104 bytes for each. So it is made when it is asked for, out of one that has all the names.
//! Never holds `Age`: that is of the moment in which it is given.

mod shape;

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue};

use shape::Shape;

#[derive(Clone)]
pub struct StoredFields {
    shape: Arc<Shape>,
    /// The length of each value that the shape does not have, in its order; then these values.
    values: Bytes,
    /// Nobody had this shape before: it counts as this one's.
    brought_shape: bool,
}

const LENGTH: usize = size_of::<u32>();

impl StoredFields {
    /// A copy of them, without `Age`. As they come they are parts of a connection's read buffer, and one short value
    /// would keep all of that.
    pub fn new(headers: &HeaderMap) -> Self {
        let (shape, brought_shape) = Shape::of(headers);
        let own = || shape.differing_of(headers);
        let mut values = BytesMut::with_capacity(own().map(|value| value.len() + LENGTH).sum());
        // No head is longer than that can say: `limits` bounds them to far less.
        own().for_each(|value| values.put_u32_le(value.len() as u32));
        own().for_each(|value| values.put_slice(value.as_bytes()));
        Self { shape, values: values.freeze(), brought_shape }
    }

    /// Out of what [`StoredFields::written`] gave. `None` if it can't be that.
    pub fn read(shape: &[u8], values: Bytes) -> Option<Self> {
        let (shape, brought_shape) = Shape::read(shape)?;
        let lengths = values.get(..shape.differing * LENGTH)?;
        let text = &values[lengths.len()..];
        let total = lengths.chunks_exact(LENGTH).try_fold(0usize, |sum, one| sum.checked_add(length(one)))?;
        let is_whole = total == text.len() && text.iter().all(is_of_a_value);
        is_whole.then_some(Self { shape, values, brought_shape })
    }

    /// The shape and the values, as [`StoredFields::read`] takes them.
    pub fn written(&self) -> (&[u8], &[u8]) {
        (&self.shape.written, &self.values)
    }

    pub fn contain(&self, name: &HeaderName) -> bool {
        self.shape.contains(name)
    }

    pub fn to_map(&self) -> HeaderMap {
        let mut headers = self.with_age(HeaderValue::from_static(""));
        headers.remove(AGE);
        headers
    }

    pub fn with_age(&self, age: HeaderValue) -> HeaderMap {
        let (mut headers, differing) = self.shape.empty_map();
        let (lengths, _) = self.values.split_at(differing * LENGTH);
        let (mut lengths, mut at) = (lengths.chunks_exact(LENGTH).map(length), lengths.len());
        for place in headers.values_mut().filter(|value| value.is_empty()) {
            let Some(length) = lengths.next() else {
                *place = age;
                break;
            };
            // The bytes of a value are a value.
            if let Ok(mut own) = HeaderValue::from_maybe_shared(self.values.slice(at..at + length)) {
                own.set_sensitive(place.is_sensitive());
                *place = own;
            }
            at += length;
        }
        headers
    }

    /// Bytes that they keep in memory beside their own.
    pub fn weight(&self) -> usize {
        self.values.len() + if self.brought_shape { self.shape.weight() } else { 0 }
    }
}

/// The bytes that RFC 9110 §5.5 lets stand in a value.
fn is_of_a_value(byte: &u8) -> bool {
    (*byte >= b' ' && *byte != 127) || *byte == b'\t'
}

fn length(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
}

impl fmt::Debug for StoredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_map().fmt(f)
    }
}

#[cfg(test)]
mod tests;
