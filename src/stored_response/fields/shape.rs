//! What the fields of many responses have in common: all their names, and the values of those that say the same in
//! every response of an application.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    ACCEPT_RANGES, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_TYPE, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, VARY, VIA, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS, X_XSS_PROTECTION,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use quick_cache::sync::Cache;

pub struct Shape {
    /// Each field in a line of its own: its name, and `: value` if that is part of the shape, or `:` if it is sensitive.
    pub written: Bytes,
    /// How many values are not part of it.
    pub differing: usize,
    /// The fields, `Age` after them, and one more so that a copy has room for one; what differs is empty.
    template: HeaderMap,
}

/// Never of one client alone, and of few values; in `Cache-Control` many count down what is left.
const CONSTANT: [HeaderName; 16] = [
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
const LONGEST: usize = 64;

/// Nobody else's.
const ROOM: HeaderName = HeaderName::from_static("larder-room");

/// The shapes that are in use. One that falls out is made once more; one of more fields, or more text, is never here.
static KNOWN: LazyLock<Cache<Bytes, Arc<Shape>>> = LazyLock::new(|| Cache::new(1024));
const MOST_FIELDS: usize = 64;
const MOST_TEXT: usize = 2048;

/// A map takes no more than 24,576 names, and panics at one more. What comes by HTTP has far fewer.
const MOST_READ: usize = 10_000;

/// Names and values that are kept as long as the process, so that no copies of them are counted: all cores would write
/// to that count with each hit. Bounded, for an upstream may think of ever new ones.
static LASTING: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
const MAX_LASTING: usize = 4096;

/// Those that are stored.
fn fields(headers: &HeaderMap) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
    headers.iter().filter(|(name, _)| !is_left_out(name))
}

fn is_left_out(name: &HeaderName) -> bool {
    name == AGE || name == ROOM
}

/// Whether the value is part of the shape.
fn has(name: &HeaderName, value: &HeaderValue) -> bool {
    let is_short = !value.is_empty() && value.len() <= LONGEST;
    let is_plain = || value.as_bytes().iter().all(|byte| (b' '..=b'~').contains(byte));
    is_short && CONSTANT.contains(name) && !value.is_sensitive() && is_plain()
}

impl Shape {
    /// That of these fields, and whether nobody had it before.
    pub fn of(headers: &HeaderMap) -> (Arc<Self>, bool) {
        let mut written = BytesMut::with_capacity(256);
        for (name, value) in fields(headers) {
            written.put_slice(name.as_str().as_bytes());
            if has(name, value) {
                written.put_slice(b": ");
                written.put_slice(value.as_bytes());
            } else if value.is_sensitive() {
                written.put_u8(b':');
            }
            written.put_u8(b'\n');
        }
        if let Some(known) = KNOWN.get(&written[..]) {
            return (known, false);
        }
        let part = |(name, value)| match has(name, value) {
            true => (HeaderName::clone(name), HeaderValue::clone(value)),
            false => (HeaderName::clone(name), differing(value.is_sensitive())),
        };
        (Self::known_from_now_on(&written, fields(headers).map(part)), true)
    }

    /// `None` if it is none.
    pub fn read(written: &[u8]) -> Option<(Arc<Self>, bool)> {
        if let Some(known) = KNOWN.get(written) {
            return Some((known, false));
        }
        if !written.is_empty() && !written.ends_with(b"\n") {
            return None;
        }
        let mut fields = Vec::new();
        for line in written.split_inclusive(|byte| *byte == b'\n') {
            let line = str::from_utf8(&line[..line.len() - 1]).ok()?;
            let (name, value) = match line.split_once(": ") {
                Some((name, value)) => (name, Some(HeaderValue::from_str(value).ok()?)),
                None => (line.strip_suffix(':').unwrap_or(line), None),
            };
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let is_foreign = value.as_ref().is_some_and(|value| !has(&name, value));
            if is_left_out(&name) || is_foreign || fields.len() == MOST_READ {
                return None;
            }
            fields.push((name, value.unwrap_or_else(|| differing(line.ends_with(':')))));
        }
        Some((Self::known_from_now_on(written, fields.into_iter()), true))
    }

    fn known_from_now_on(
        written: &[u8],
        fields: impl Iterator<Item = (HeaderName, HeaderValue)>,
    ) -> Arc<Self> {
        let (mut template, mut differing) = (HeaderMap::new(), 0);
        for (name, value) in fields {
            let name = lasting(name.as_str()).map_or(name, HeaderName::from_static);
            differing += usize::from(value.is_empty());
            template.append(name, if value.is_empty() { value } else { of_its_own(value) });
        }
        template.insert(AGE, HeaderValue::from_static(""));
        template.append(ROOM, HeaderValue::from_static(""));
        let written = Bytes::copy_from_slice(written);
        let shape = Arc::new(Self { written: written.clone(), differing, template });
        if written.len() <= MOST_TEXT && shape.template.len() <= MOST_FIELDS {
            KNOWN.insert(written, shape.clone());
        }
        shape
    }

    /// Of fields of this shape those values that are not part of it.
    pub fn differing_of<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h HeaderValue> {
        let places = fields(headers).map(|(_, value)| value).zip(self.template.values());
        places.filter(|(_, place)| place.is_empty()).map(|(value, _)| value)
    }

    pub fn contains(&self, name: &HeaderName) -> bool {
        !is_left_out(name) && self.template.contains_key(name)
    }

    /// To be filled in: what differs is empty, and so is `Age`, the last. With how many differ.
    pub fn empty_map(&self) -> (HeaderMap, usize) {
        let mut map = self.template.clone();
        map.remove(ROOM);
        (map, self.differing)
    }

    /// Bytes that it keeps in memory, about.
    pub fn weight(&self) -> usize {
        2 * self.written.len() + self.template.len() * 128
    }
}

fn differing(is_sensitive: bool) -> HeaderValue {
    let mut empty = HeaderValue::from_static("");
    empty.set_sensitive(is_sensitive);
    empty
}

/// Never a part of the buffer that it was read into: a shape would keep all of that.
fn of_its_own(value: HeaderValue) -> HeaderValue {
    match value.to_str().ok().and_then(lasting) {
        Some(lasting) => HeaderValue::from_static(lasting),
        // The bytes of a value are a value.
        None => HeaderValue::from_bytes(value.as_bytes()).unwrap_or(value),
    }
}

fn lasting(text: &str) -> Option<&'static str> {
    if text.len() > LONGEST {
        return None;
    }
    let mut known = LASTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(text) {
        return Some(known);
    }
    if known.len() >= MAX_LASTING {
        return None;
    }
    let lasting: &'static str = Box::leak(text.into());
    known.insert(lasting);
    Some(lasting)
}
