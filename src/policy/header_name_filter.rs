//! A filter over the field names of a request, so that lookups of absent fields are skipped.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use super::usual_fields::{is_usual_in_slot, name_slot};

/// A Bloom filter over names: false positives are possible, false negatives are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderNameFilter {
    bits: u128,
    /// The bits of the names that are not usual; all of them if a name is ambiguous.
    unusual_bits: u128,
    /// Those without `Authorization` and `Cookie`, with which requests of known callers come.
    rare_bits: u128,
}

impl HeaderNameFilter {
    /// Valid as long as no field with a new name is added.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self::from_names(headers.keys())
    }

    pub(crate) fn from_names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> Self {
        let mut filter = Self::default();
        for name in names {
            let slot = name_slot(name.as_str());
            filter.bits |= 1 << slot;
            // No usual name is ambiguous.
            if !is_usual_in_slot(name.as_str(), slot) {
                filter.unusual_bits |= 1 << slot;
                if *name != AUTHORIZATION && *name != COOKIE {
                    filter.rare_bits |= 1 << slot;
                }
                if is_ambiguous_name(name) {
                    (filter.unusual_bits, filter.rare_bits) = (u128::MAX, u128::MAX);
                }
            }
        }
        filter
    }

    /// Whether any name is not one of those that nearly all requests have and that identify nobody.
    pub(crate) fn has_unusual(self) -> bool {
        self.unusual_bits != 0
    }

    /// Whether any name may be ambiguous: see [`is_ambiguous_name`].
    pub(crate) fn has_ambiguous(self) -> bool {
        self.unusual_bits == u128::MAX
    }

    pub(crate) fn may_hold(self, name: &HeaderName) -> bool {
        self.bits & (1 << name_slot(name.as_str())) != 0
    }

    /// Whether any name of `others`, which are neither usual nor `Authorization` or `Cookie`, may be held.
    pub(crate) fn may_hold_any_rare(self, others: Self) -> bool {
        self.rare_bits & others.rare_bits != 0
    }

    /// Whether any name of `others` may be held.
    pub(crate) fn may_hold_any(self, others: Self) -> bool {
        self.bits & others.bits != 0
    }
}

/// Whether a CGI-like upstream may read the field as another one: CGI and WSGI make `_` of `-`, PHP also of `.`, and
/// lighttpd of all but letters and digits.
pub fn is_ambiguous_name(name: &HeaderName) -> bool {
    let bytes = name.as_str().as_bytes();
    // Eight bytes at a time, the last eight overlapping: each name that is not usual comes here.
    match bytes.last_chunk() {
        None => !bytes.iter().all(|byte| is_plain(*byte)),
        Some(last) => bytes.as_chunks().0.iter().chain([last]).any(|chunk| has_ambiguous_byte(*chunk)),
    }
}

fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-')
}

/// The name as a CGI-like upstream reads it.
pub fn with_dashes(name: &HeaderName) -> HeaderName {
    let text: String = name.as_str().bytes().map(|byte| char::from(dashed(byte))).collect();
    HeaderName::try_from(text).unwrap_or_else(|_| name.clone())
}

/// Whether a CGI-like upstream reads both as one.
pub(super) fn is_alias(one: &HeaderName, other: &HeaderName) -> bool {
    one.as_str().bytes().map(dashed).eq(other.as_str().bytes().map(dashed))
}

fn dashed(byte: u8) -> u8 {
    if is_plain(byte) { byte } else { b'-' }
}

/// Whether one of eight bytes of a name is neither a letter nor a digit nor `-`. A name has only `!`, `#` to `'`, `*`,
/// `+`, `-`, `.`, digits, `^` to `z`, `|` and `~`.
fn has_ambiguous_byte(chunk: [u8; 8]) -> bool {
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    const fn all(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    // No byte has its high bit, so that no sum carries into the next byte.
    let word = u64::from_ne_bytes(chunk);
    let is_below = |bound: u8| !(word + all(0x80 - bound));
    let is_dot = !((word ^ all(b'.')) + all(0x7f));
    let ambiguous = is_below(b'-') | is_dot | (!is_below(b'^') & is_below(b'a')) | !is_below(b'z' + 1);
    ambiguous & HIGH_BITS != 0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn an_ambiguous_byte_is_found_at_each_place() {
        for length in 1..40 {
            let plain = "a-z09".repeat(8)[..length].to_owned();
            assert!(!is_ambiguous_name(&HeaderName::try_from(&plain).expect("a name")), "{plain}");
            for (at, byte) in (0..length).flat_map(|at| (0..128).map(move |byte| (at, byte))) {
                let mut name = plain.clone().into_bytes();
                name[at] = byte;
                let Ok(name) = HeaderName::try_from(name) else { continue };
                let is_ambiguous = b"!#$%&'*+.^_`|~".contains(&byte);
                assert_eq!(is_ambiguous_name(&name), is_ambiguous, "{name}");
                assert_eq!(with_dashes(&name) != name, is_ambiguous, "{name}");
            }
        }
    }

    #[test]
    fn what_is_there_is_held_and_most_of_what_is_not_there_is_not() {
        let usual =
            ["host", "user-agent", "accept", "accept-encoding", "referer", "sec-fetch-mode", "x-request-id"];
        let headers: HeaderMap =
            usual.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x"))).collect();
        let names = HeaderNameFilter::from_headers(&headers);
        assert!(headers.keys().all(|name| names.may_hold(name)));
        let asked = [
            "range",
            "if-none-match",
            "if-modified-since",
            "if-match",
            "if-unmodified-since",
            "upgrade",
            "via",
            "connection",
            "cookie",
            "authorization",
            "x-api-key",
            "forwarded",
            "x-forwarded-for",
            "te",
            "x-host",
            "transfer-encoding",
            "x-original-url",
            "x-http-method",
            "x-http-method-override",
            "larder-position",
        ];
        let held = asked.iter().filter(|name| names.may_hold(&HeaderName::from_static(name)));
        assert!(held.clone().count() <= 2, "{:?}", held.collect::<Vec<_>>());
    }
}
