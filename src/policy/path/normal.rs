//! The normal form of a path (RFC 3986 §6.2.2).

use std::borrow::Cow;

use crate::purge::{is_unreserved, parse_percent_escape};

/// Whether a path is in normal form: no escapes of unreserved characters, upper-case escapes, no dot segments, no
/// empty segments, nothing that another parser could take for a separator.
///
/// Stricter than RFC 3986: an upstream may merge slashes, strip `;` parameters, decode twice or before it looks for
/// `?`, or stop at a NUL. A path with two possible readings is not normal. A trailing slash is allowed: it is a
/// different path.
pub fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    // `segment` is the start of the current one; `high` says that a non-ASCII escape was seen.
    let (mut at, mut segment, mut high) = (1, 1, false);
    while at < bytes.len() {
        match bytes[at] {
            b'/' if !is_plain_segment(&bytes[segment..at]) || at == segment => return false,
            b'/' => {
                at += 1;
                segment = at;
            }
            b'%' if !is_plain_escape(&bytes[at..]) => return false,
            b'%' => {
                high |= bytes[at + 1] > b'7';
                at += 3;
            }
            byte if PLAIN_BYTES[usize::from(byte)] => at += 1,
            _ => return false,
        }
    }
    // The last segment may be empty: a trailing slash.
    is_plain_segment(&bytes[segment..]) && (!high || is_utf8_decoded(path))
}

/// Bytes that need no check wherever they occur.
const PLAIN_BYTES: [bool; 256] = {
    let (mut plain, mut byte) = ([false; 256], 0);
    while byte < 128 {
        plain[byte] = is_unreserved(byte as u8)
            || matches!(
                byte as u8,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
            );
        byte += 1;
    }
    plain
};

fn is_plain_segment(segment: &[u8]) -> bool {
    !matches!(segment, b"." | b"..")
}

/// Whether `bytes` begin with an escape that has no other spelling and no other meaning when decoded early.
fn is_plain_escape(bytes: &[u8]) -> bool {
    let Some(byte) = parse_percent_escape(bytes) else { return false };
    let upper = !bytes[1..3].iter().any(u8::is_ascii_lowercase);
    let twice = byte == b'%' && bytes.get(3..5).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    upper && !twice && !is_unreserved(byte) && !byte.is_ascii_control() && !b"/\\;?#".contains(&byte)
}

/// Overlong forms such as `%C0%AF` are a slash to a careless decoder.
fn is_utf8_decoded(path: &str) -> bool {
    std::str::from_utf8(&decode_escapes(path)).is_ok()
}

/// Normalizes a path: decodes escapes of unreserved characters, upper-cases the others, removes dot segments (RFC
/// 3986 §5.2.4). The result is what an RFC-conforming reader sees; it may still fail [`is_normal`].
pub fn normalize(path: &str) -> Cow<'_, str> {
    if !path.starts_with('/') || !(path.contains('%') || path.contains("/.")) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(remove_dot_segments(&normalize_escapes(path)))
}

fn normalize_escapes(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut left = path;
    while let Some(at) = left.find('%') {
        normal.push_str(&left[..at]);
        left = &left[at..];
        match parse_percent_escape(left.as_bytes()) {
            Some(byte) => {
                if is_unreserved(byte) {
                    normal.push(char::from(byte));
                } else {
                    normal.push_str(&left[..3].to_ascii_uppercase());
                }
                left = &left[3..];
            }
            None => {
                normal.push('%');
                left = &left[1..];
            }
        }
    }
    normal + left
}

fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            _ => kept.push(segment),
        }
        // `/a/.` and `/a/b/..` name the directory, with its slash.
        if is_last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Percent-decodes once. Invalid UTF-8 becomes U+FFFD: two values may become one, none is lost.
pub(in crate::policy) fn percent_decoded(text: &str) -> String {
    String::from_utf8_lossy(&decode_escapes(text)).into_owned()
}

/// Decodes escapes once; invalid ones stay as they are.
pub(crate) fn decode_escapes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut left = text.as_bytes();
    let mut decoded = Vec::with_capacity(left.len());
    while let Some((first, after)) = left.split_first() {
        match parse_percent_escape(left) {
            Some(byte) => {
                decoded.push(byte);
                left = &left[3..];
            }
            None => {
                decoded.push(*first);
                left = after;
            }
        }
    }
    Cow::Owned(decoded)
}
