//! The fields of what is stored, in little memory: what a route's responses have in common is there once, the values
//! in which they differ stand side by side in one piece of memory, and the tags after them.
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
    /// The length of each value that the shape does not have, in its order; then these values; then the tags. Each tag is
    /// ended by a line feed: none holds one, for templates refuse it, or encode it.
    text: Bytes,
    /// Where in it the tags begin.
    tags_at: u32,
    /// Nobody had this shape before: it counts as this one's.
    brought_shape: bool,
}

const LENGTH: usize = size_of::<u32>();

impl StoredFields {
    /// A copy of them, without `Age`. As they come they are parts of a connection's read buffer, and one short value
    /// would keep all of that.
    pub fn new(headers: &HeaderMap, tags: &[impl AsRef<str>]) -> Self {
        let (shape, brought_shape) = Shape::of(headers);
        let own = || shape.differing_of(headers);
        let tags_at: usize = own().map(|value| value.len() + LENGTH).sum();
        let all = tags_at + tags.iter().map(|tag| tag.as_ref().len() + 1).sum::<usize>();
        let mut text = BytesMut::with_capacity(all);
        // No head is longer than that can say: `limits` bounds them to far less.
        own().for_each(|value| text.put_u32_le(value.len() as u32));
        own().for_each(|value| text.put_slice(value.as_bytes()));
        for tag in tags {
            text.put_slice(tag.as_ref().as_bytes());
            text.put_u8(b'\n');
        }
        Self { shape, text: text.freeze(), tags_at: tags_at as u32, brought_shape }
    }

    /// Out of what [`StoredFields::written`] gave. `None` if it can't be that.
    pub fn read(shape: &[u8], tags_at: u32, text: Bytes) -> Option<Self> {
        let (shape, brought_shape) = Shape::read(shape)?;
        let (values, tags) = text.split_at_checked(usize::try_from(tags_at).ok()?)?;
        let (lengths, values) = values.split_at_checked(shape.differing * LENGTH)?;
        let total = lengths.chunks_exact(LENGTH).try_fold(0usize, |sum, one| sum.checked_add(length(one)))?;
        let is_whole = total == values.len() && values.iter().all(is_of_a_value);
        let are_tags = str::from_utf8(tags).is_ok_and(|tags| tags.is_empty() || tags.ends_with('\n'));
        (is_whole && are_tags).then_some(Self { shape, text, tags_at, brought_shape })
    }

    /// The shape, where the tags begin, and the text, as [`StoredFields::read`] takes them.
    pub fn written(&self) -> (&[u8], u32, &[u8]) {
        (&self.shape.written, self.tags_at, &self.text)
    }

    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let tags = self.text.get(self.tags_at as usize..).unwrap_or_default();
        str::from_utf8(tags).unwrap_or_default().split_terminator('\n')
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
        let (lengths, _) = self.text.split_at(differing * LENGTH);
        let (mut lengths, mut at) = (lengths.chunks_exact(LENGTH).map(length), lengths.len());
        for place in headers.values_mut().filter(|value| value.is_empty()) {
            let Some(length) = lengths.next() else {
                *place = age;
                break;
            };
            // The bytes of a value are a value.
            if let Ok(mut own) = HeaderValue::from_maybe_shared(self.text.slice(at..at + length)) {
                own.set_sensitive(place.is_sensitive());
                *place = own;
            }
            at += length;
        }
        headers
    }

    /// Bytes that they keep in memory beside their own.
    pub fn weight(&self) -> usize {
        self.text.len() + if self.brought_shape { self.shape.weight() } else { 0 }
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
