//! The shared part of the fields of many responses: all names, and the values that are constant for an application.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, CACHE_STATUS, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_TYPE, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, TRAILER, VARY, VIA,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

pub(super) struct FieldShape {
    /// One line for each field: its name, followed by `: value` for a shared value or `:` for a sensitive one.
    pub encoded: Bytes,
    /// The number of values outside the shape.
    pub differing_count: usize,
    /// The fields, `Age`, and a place for `Cache-Status` unless it is among the fields; differing values are empty.
    template: HeaderMap,
    has_cache_status: bool,
    pub has_trailer: bool,
}

/// Fields with few distinct values, none of them specific to a client. `Cache-Control` is excluded: it often counts
/// down.
const SHARED_VALUE_FIELDS: [HeaderName; 16] = [
    ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_TYPE,
    REFERRER_POLICY,
    SERVER,
    STRICT_TRANSPORT_SECURITY,
    VARY,
    VIA,
    X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
];
const MAX_SHARED_VALUE_BYTES: usize = 64;

/// Shapes in use. Evicted ones are rebuilt; shapes with more fields or text are not cached.
static SHAPE_CACHE: LazyLock<Cache<Bytes, Arc<FieldShape>>> = LazyLock::new(|| Cache::new(1024));
const MAX_CACHED_FIELDS: usize = 64;
const MAX_CACHED_BYTES: usize = 2048;

/// `HeaderMap` panics beyond 24,576 names; messages have far fewer.
const MAX_DECODED_FIELDS: usize = 10_000;

/// Names and values kept for the lifetime of the process, so that cloning them needs no reference count, which all
/// cores would write to on each hit. Bounded, because upstreams can send new values forever.
static INTERNED: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
const MAX_INTERNED: usize = 4096;

/// The fields that are stored.
fn stored_fields(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| *name != AGE)
}

/// Whether the shape contains the value.
fn is_shared_value(name: &HeaderName, value: &HeaderValue) -> bool {
    let is_short = !value.is_empty() && value.len() <= MAX_SHARED_VALUE_BYTES;
    let is_plain = || value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    is_short && SHARED_VALUE_FIELDS.contains(name) && !value.is_sensitive() && is_plain()
}

impl FieldShape {
    /// The shape of the fields, and whether it is new.
    pub(super) fn from_headers(headers: &HeaderMap) -> (Arc<Self>, bool) {
        let mut encoded = BytesMut::with_capacity(256);
        for (name, value) in stored_fields(headers) {
            encoded.put_slice(name.as_str().as_bytes());
            if is_shared_value(name, value) {
                encoded.put_slice(b": ");
                encoded.put_slice(value.as_bytes());
            } else if value.is_sensitive() {
                encoded.put_u8(b':');
            }
            encoded.put_u8(b'\n');
        }
        if let Some(known) = SHAPE_CACHE.get(&encoded[..]) {
            return (known, false);
        }
        let part = |(name, value)| match is_shared_value(name, value) {
            true => (HeaderName::clone(name), HeaderValue::clone(value)),
            false => (HeaderName::clone(name), empty_value(value.is_sensitive())),
        };
        (Self::insert_new(&encoded, stored_fields(headers).map(part)), true)
    }

    /// `None`: malformed.
    pub(super) fn decode(encoded: &[u8]) -> Option<(Arc<Self>, bool)> {
        if let Some(known) = SHAPE_CACHE.get(encoded) {
            return Some((known, false));
        }
        if !encoded.is_empty() && !encoded.ends_with(b"\n") {
            return None;
        }
        let mut fields = Vec::new();
        for line in encoded.split_inclusive(|byte| *byte == b'\n') {
            let line = str::from_utf8(&line[..line.len() - 1]).ok()?;
            let (name, value) = match line.split_once(": ") {
                Some((name, value)) => (name, Some(HeaderValue::from_str(value).ok()?)),
                None => (line.strip_suffix(':').unwrap_or(line), None),
            };
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let is_foreign = value.as_ref().is_some_and(|value| !is_shared_value(&name, value));
            if name == AGE || is_foreign || fields.len() == MAX_DECODED_FIELDS {
                return None;
            }
            fields.push((name, value.unwrap_or_else(|| empty_value(line.ends_with(':')))));
        }
        Some((Self::insert_new(encoded, fields.into_iter()), true))
    }

    fn insert_new(encoded: &[u8], fields: impl Iterator<Item = (HeaderName, HeaderValue)>) -> Arc<Self> {
        let (mut template, mut differing) = (HeaderMap::new(), 0);
        for (name, value) in fields {
            let name = intern(name.as_str()).map_or(name, HeaderName::from_static);
            differing += usize::from(value.is_empty());
            template.append(name, if value.is_empty() { value } else { detach_from_buffer(value) });
        }
        let has_cache_status = template.contains_key(CACHE_STATUS);
        template.insert(AGE, HeaderValue::from_static(""));
        if !has_cache_status {
            template.insert(CACHE_STATUS, HeaderValue::from_static(""));
        }
        let encoded = Bytes::copy_from_slice(encoded);
        let shape = Arc::new(Self {
            encoded: encoded.clone(),
            differing_count: differing,
            has_trailer: template.contains_key(TRAILER),
            template,
            has_cache_status,
        });
        if encoded.len() <= MAX_CACHED_BYTES && shape.template.len() <= MAX_CACHED_FIELDS {
            SHAPE_CACHE.insert(encoded, shape.clone());
        }
        shape
    }

    /// The values of `headers` outside this shape.
    pub(super) fn differing_values<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> impl Iterator<Item = &'h HeaderValue> {
        let places = stored_fields(headers).map(|(_, value)| value).zip(self.template.values());
        places.filter(|(_, place)| place.is_empty()).map(|(value, _)| value)
    }

    pub(super) fn contains(&self, name: &HeaderName) -> bool {
        let is_place = name == AGE || (name == CACHE_STATUS && !self.has_cache_status);
        !is_place && self.template.contains_key(name)
    }

    /// A map with empty differing values, and the number of these; `Age` is empty, too. The last may be an empty
    /// `Cache-Status`.
    pub(super) fn empty_map(&self) -> (HeaderMap, usize) {
        (self.template.clone(), self.differing_count)
    }

    /// Approximate memory in bytes.
    pub(super) fn weight(&self) -> usize {
        2 * self.encoded.len() + self.template.len() * 128
    }
}

fn empty_value(is_sensitive: bool) -> HeaderValue {
    let mut empty = HeaderValue::from_static("");
    empty.set_sensitive(is_sensitive);
    empty
}

/// Copies the value: a shape must not keep the read buffer it came from.
fn detach_from_buffer(value: HeaderValue) -> HeaderValue {
    match value.to_str().ok().and_then(intern) {
        Some(lasting) => HeaderValue::from_static(lasting),
        // The bytes came from a valid value.
        None => HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value),
    }
}

fn intern(text: &str) -> Option<&'static str> {
    if text.len() > MAX_SHARED_VALUE_BYTES {
        return None;
    }
    let mut known = INTERNED.lock();
    if let Some(known) = known.get(text) {
        return Some(known);
    }
    if known.len() >= MAX_INTERNED {
        return None;
    }
    let lasting: &'static str = Box::leak(text.into());
    known.insert(lasting);
    Some(lasting)
}
