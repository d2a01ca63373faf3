//! Bytes of a target that clients send as they are, and that RFC 3986 §2 wants percent-encoded. HTTP/1.1 requests with
//! them never reach the parser of `http`, which refuses most: `server` encodes them before.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;

/// Whether a byte of a path or query is percent-encoded on arrival: all that [`Uri`] refuses in either, and none that
/// separates. Each decoder reads the same in both spellings.
pub(crate) const fn is_raw(byte: u8) -> bool {
    byte >= 0x80 || byte == b'"' || byte == b'<' || byte == b'>' || byte == b'`'
}

/// Whether there is such a byte. Without a branch for each, so that the compiler vectorizes it.
pub(crate) fn has_raw(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | is_raw(*byte))
}

/// Percent-encodes the bytes at `positions`, which ascend; those beyond the end are ignored.
pub(crate) fn percent_encode(bytes: &[u8], positions: impl IntoIterator<Item = usize>) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut encoded = Vec::with_capacity(bytes.len() + 16);
    let mut rest = 0;
    for at in positions.into_iter().filter(|at| *at < bytes.len()) {
        let byte = bytes[at];
        encoded.extend_from_slice(&bytes[rest..at]);
        encoded.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        rest = at + 1;
    }
    encoded.extend_from_slice(&bytes[rest..]);
    encoded
}

/// Percent-encodes the raw bytes of a URL.
pub(crate) fn encode_raw(url: &str) -> Cow<'_, str> {
    if !has_raw(url.as_bytes()) {
        return Cow::Borrowed(url);
    }
    let raw = url.bytes().enumerate().filter(|(_, byte)| is_raw(*byte)).map(|(at, _)| at);
    Cow::Owned(String::from_utf8_lossy(&percent_encode(url.as_bytes(), raw)).into_owned())
}

/// Percent-encodes the path and query of a target that did not come in an HTTP/1.1 request line as a path.
pub(crate) fn encode_target(uri: &mut Uri) {
    let Some(target) = uri.path_and_query() else { return };
    if let Cow::Owned(encoded) = encode_raw(target.as_str())
        && let Ok(encoded) = PathAndQuery::try_from(encoded)
    {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(encoded);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}
