//! The fields of what is stored, in little memory: their names are shared by all that have the same ones, their values
//! stand side by side in one piece of memory.
//!
//! A map of fields takes 104 bytes for each, and a route's responses all have the same names. So the map is made when
//! it is asked for, of one that is empty of values. Never holds `Age`: it is of the moment in which it is given.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::AGE;
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

#[derive(Clone)]
pub struct StoredFields {
    names: Arc<Names>,
    /// The length of each value, in the order of the names; then the values.
    values: Bytes,
    /// Nobody had these names before: they count as this one's.
    brought_names: bool,
}

/// The names of a list of fields.
struct Names {
    /// Each, ended by a line feed.
    written: Bytes,
    /// A field without a value for each, and `Age` after them.
    template: HeaderMap,
}

/// The lists of names that are in use. One that falls out is made once more.
static KNOWN: LazyLock<Cache<Bytes, Arc<Names>>> = LazyLock::new(|| Cache::new(1024));

/// The names that are kept as long as the process, so that no copy of them is counted: all cores would write to
/// that count with each hit. Bounded, for an upstream may think of ever new ones.
static LASTING: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
const MAX_LASTING: usize = 1024;
const MAX_LASTING_BYTES: usize = 64;

const LENGTH: usize = size_of::<u32>();

impl StoredFields {
    /// A copy of them, without `Age`. As they come they are parts of a connection's read buffer, and one short value
    /// would keep all of that.
    pub fn new(headers: &HeaderMap) -> Self {
        let fields = || headers.iter().filter(|(name, _)| **name != AGE);
        let mut names = BytesMut::with_capacity(fields().map(|(name, _)| name.as_str().len() + 1).sum());
        let mut values = BytesMut::with_capacity(fields().map(|(_, value)| value.len() + LENGTH).sum());
        for (name, value) in fields() {
            names.put_slice(name.as_str().as_bytes());
            names.put_u8(b'\n');
            // No head is longer than that can say: `limits` bounds them to far less.
            values.put_u32_le(value.len() as u32);
        }
        fields().for_each(|(_, value)| values.put_slice(value.as_bytes()));
        let (names, brought_names) = Names::known(&names).unwrap_or_else(|| {
            // Names of fields are names.
            (Arc::new(Names { written: Bytes::new(), template: HeaderMap::new() }), false)
        });
        Self { names, values: values.freeze(), brought_names }
    }

    /// Out of what [`StoredFields::written`] gave. `None` if it can't be that.
    pub fn read(names: &[u8], values: Bytes) -> Option<Self> {
        let (names, brought_names) = Names::known(names)?;
        let fields = Self { names, values, brought_names };
        let lengths = fields.values.get(..fields.count() * LENGTH)?;
        let text = &fields.values[lengths.len()..];
        let total = lengths.chunks_exact(LENGTH).try_fold(0usize, |sum, one| sum.checked_add(length(one)))?;
        (total == text.len() && text.iter().all(is_of_a_value)).then_some(fields)
    }

    /// Names and values, as [`StoredFields::read`] takes them.
    pub fn written(&self) -> (&[u8], &[u8]) {
        (&self.names.written, &self.values)
    }

    pub fn to_map(&self) -> HeaderMap {
        let mut headers = self.with_age(HeaderValue::from_static(""));
        headers.remove(AGE);
        headers
    }

    pub fn with_age(&self, age: HeaderValue) -> HeaderMap {
        let mut headers = self.names.template.clone();
        let mut at = self.count() * LENGTH;
        let mut lengths = self.values[..at].chunks_exact(LENGTH);
        for place in headers.values_mut() {
            let Some(length) = lengths.next().map(length) else {
                *place = age;
                break;
            };
            let own = self.values.slice(at..at + length);
            at += length;
            // The bytes of a value are a value.
            if let Ok(own) = HeaderValue::from_maybe_shared(own) {
                *place = own;
            }
        }
        headers
    }

    /// Bytes that they keep in memory beside their own.
    pub fn weight(&self) -> usize {
        let names = match self.brought_names {
            true => self.names.written.len() + (self.count() + 1) * PLACE,
            false => 0,
        };
        self.values.len() + names
    }

    fn count(&self) -> usize {
        self.names.template.len() - 1
    }
}

/// What a field takes in a map, with its part of the index, and its name.
const PLACE: usize = 160;

/// The bytes that RFC 9110 §5.5 lets stand in a value.
fn is_of_a_value(byte: &u8) -> bool {
    (*byte >= b' ' && *byte != 127) || *byte == b'\t'
}

fn length(bytes: &[u8]) -> usize {
    bytes.try_into().map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
}

impl Names {
    /// Those that are written like that, and whether nobody had them before. `None` if some are no names.
    fn known(written: &[u8]) -> Option<(Arc<Names>, bool)> {
        if let Some(known) = KNOWN.get(written) {
            return Some((known, false));
        }
        let names = Arc::new(Self::read(written)?);
        KNOWN.insert(names.written.clone(), names.clone());
        Some((names, true))
    }

    fn read(written: &[u8]) -> Option<Self> {
        if !written.is_empty() && !written.ends_with(b"\n") {
            return None;
        }
        let mut template = HeaderMap::new();
        for name in written.split_inclusive(|byte| *byte == b'\n') {
            let name = HeaderName::from_bytes(&name[..name.len() - 1]).ok()?;
            if name == AGE {
                return None;
            }
            template.try_append(lasting(name), HeaderValue::from_static("")).ok()?;
        }
        template.insert(AGE, HeaderValue::from_static(""));
        // Copied, for a copy has no room for more than there is.
        Some(Self { written: Bytes::copy_from_slice(written), template: template.clone() })
    }
}

/// The same name, if it can be had without a count of its copies.
fn lasting(name: HeaderName) -> HeaderName {
    let mut known = LASTING.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(name.as_str()) {
        Some(known) => HeaderName::from_static(known),
        None if known.len() < MAX_LASTING && name.as_str().len() <= MAX_LASTING_BYTES => {
            let text: &'static str = Box::leak(name.as_str().into());
            known.insert(text);
            HeaderName::from_static(text)
        }
        None => name,
    }
}

impl fmt::Debug for StoredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_map().fmt(f)
    }
}

#[cfg(test)]
mod tests;
