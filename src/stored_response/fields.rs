//! Compact storage of response fields: names and common values are shared between responses, differing values are
//! stored in one buffer, followed by the tags.
//!
//! A `HeaderMap` takes 104 bytes for each field, so it is built on demand from a template with all names. `Age` is
//! never stored.

mod shape;

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{AGE, CACHE_STATUS};
use http::{HeaderMap, HeaderName, HeaderValue};

use shape::FieldShape;

/// The fields of a stored response, in one allocation.
#[derive(Clone)]
pub struct StoredFields {
    shape: Arc<FieldShape>,
    /// The lengths of the values outside the shape, in its order; the values; the tags, each followed by a line
    /// feed, which no tag contains.
    text: Bytes,
    /// The offset of the tags.
    tags_at: u32,
    /// This response created the shape, so the shape counts to its weight.
    owns_shape: bool,
}

const LENGTH_PREFIX_BYTES: usize = size_of::<u32>();

impl StoredFields {
    /// Copies the fields, without `Age`: values received are slices of a connection's read buffer and would keep
    /// all of it.
    pub fn new(headers: &HeaderMap, tags: &[impl AsRef<str>]) -> Self {
        let (shape, brought_shape) = FieldShape::from_headers(headers);
        let own = || shape.differing_values(headers);
        let tags_at: usize = own().map(|value| value.len() + LENGTH_PREFIX_BYTES).sum();
        let all = tags_at + tags.iter().map(|tag| tag.as_ref().len() + 1).sum::<usize>();
        let mut text = BytesMut::with_capacity(all);
        // `limits` bounds the header section far below `u32::MAX`.
        own().for_each(|value| text.put_u32_le(value.len() as u32));
        own().for_each(|value| text.put_slice(value.as_bytes()));
        for tag in tags {
            text.put_slice(tag.as_ref().as_bytes());
            text.put_u8(b'\n');
        }
        Self { shape, text: text.freeze(), tags_at: tags_at as u32, owns_shape: brought_shape }
    }

    /// Decodes the output of `StoredFields::encoded_parts`; `None` if it is malformed.
    pub fn decode(shape: &[u8], tags_at: u32, text: Bytes) -> Option<Self> {
        let (shape, brought_shape) = FieldShape::decode(shape)?;
        let (values, tags) = text.split_at_checked(usize::try_from(tags_at).ok()?)?;
        let (lengths, values) = values.split_at_checked(shape.differing_count * LENGTH_PREFIX_BYTES)?;
        let total = lengths
            .chunks_exact(LENGTH_PREFIX_BYTES)
            .try_fold(0usize, |sum, one| sum.checked_add(decode_length(one)))?;
        let is_whole = total == values.len() && values.iter().all(is_value_byte);
        let are_tags = str::from_utf8(tags).is_ok_and(|tags| tags.is_empty() || tags.ends_with('\n'));
        (is_whole && are_tags).then_some(Self { shape, text, tags_at, owns_shape: brought_shape })
    }

    /// The shape, the offset of the tags, and the text, for [`StoredFields::decode`].
    pub(crate) fn encoded_parts(&self) -> (&[u8], u32, &[u8]) {
        (&self.shape.encoded, self.tags_at, &self.text)
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        let tags = self.text.get(self.tags_at as usize..).unwrap_or_default();
        str::from_utf8(tags).unwrap_or_default().split_terminator('\n')
    }

    /// Whether the field is present.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.shape.contains(name)
    }

    /// Whether `Trailer` is present: faster than [`StoredFields::contains`], for each hit asks.
    pub(crate) fn has_trailer(&self) -> bool {
        self.shape.has_trailer
    }

    pub(crate) fn to_map(&self) -> HeaderMap {
        let mut headers = self.with_age(HeaderValue::from_static(""));
        headers.remove(AGE);
        if !self.contains(&CACHE_STATUS) {
            headers.remove(CACHE_STATUS);
        }
        headers
    }

    /// The fields for a client, with `Age`, and with an empty `Cache-Status` in the place of this cache's own.
    pub fn with_age(&self, age: HeaderValue) -> HeaderMap {
        let (mut headers, differing) = self.shape.empty_map();
        let (lengths, _) = self.text.split_at(differing * LENGTH_PREFIX_BYTES);
        let (mut lengths, mut at) =
            (lengths.chunks_exact(LENGTH_PREFIX_BYTES).map(decode_length), lengths.len());
        for place in headers.values_mut().filter(|value| value.is_empty()) {
            let Some(length) = lengths.next() else {
                *place = age;
                break;
            };
            // The bytes came from a valid value.
            if let Ok(mut own) = HeaderValue::from_maybe_shared(self.text.slice(at..at + length)) {
                own.set_sensitive(place.is_sensitive());
                *place = own;
            }
            at += length;
        }
        headers
    }

    /// Additional memory in bytes, beside `size_of::<Self>()`.
    pub fn weight(&self) -> usize {
        self.text.len() + if self.owns_shape { self.shape.weight() } else { 0 }
    }
}

/// The bytes that RFC 9110 §5.5 allows in a value.
fn is_value_byte(byte: &u8) -> bool {
    (*byte >= b' ' && *byte != 127) || *byte == b'\t'
}

fn decode_length(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
}

impl fmt::Debug for StoredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_map().fmt(f)
    }
}

#[cfg(test)]
mod tests;
