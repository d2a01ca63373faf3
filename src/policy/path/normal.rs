//! The one normal spelling of a path (RFC 3986 §6.2.2), and whether a path is spelled so.

use std::borrow::Cow;

/// Whether a path is spelled in its normal form: no escapes of unreserved characters, escapes in upper case, no dot
/// segments, no empty segments, nothing that another reader of paths could take for a separator.
///
/// Stricter than RFC 3986: an upstream may merge slashes, strip `;` parameters, decode twice or before it looks for
/// `?`, or stop at a NUL. What it could read in two ways is not normal, whatever the RFC says of it. A trailing slash
/// is: it is another path.
pub fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return false;
    }
    // Where the segment begins, and whether an escape of a byte beyond ASCII was seen.
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
            byte if PLAIN[usize::from(byte)] => at += 1,
            _ => return false,
        }
    }
    // The last segment may be empty: a trailing slash is another path, and normal.
    is_plain_segment(&bytes[segment..]) && (!high || is_utf8_decoded(path))
}

/// Bytes that stand for themselves, wherever they are.
const PLAIN: [bool; 256] = {
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

/// Whether `bytes` begin with an escape that has no other spelling, and no other meaning when it is decoded early.
fn is_plain_escape(bytes: &[u8]) -> bool {
    let Some(byte) = escape(bytes) else { return false };
    let upper = !bytes[1..3].iter().any(u8::is_ascii_lowercase);
    let twice = byte == b'%' && bytes.get(3..5).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    upper && !twice && !is_unreserved(byte) && !byte.is_ascii_control() && !b"/\\;?#".contains(&byte)
}

/// Overlong forms such as `%C0%AF` are a slash to a careless decoder.
fn is_utf8_decoded(path: &str) -> bool {
    std::str::from_utf8(&decoded_bytes(path)).is_ok()
}

/// The normal form of a path: escapes of unreserved characters decoded, the others in upper case, dot segments
/// removed (RFC 3986 §5.2.4). It says what the path means to a reader that follows the RFC, and need not be
/// [`is_normal`].
pub fn normal_form(path: &str) -> Cow<'_, str> {
    if !path.starts_with('/') || !(path.contains('%') || path.contains("/.")) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(without_dot_segments(&with_normal_escapes(path)))
}

fn with_normal_escapes(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut left = path;
    while let Some(at) = left.find('%') {
        normal.push_str(&left[..at]);
        left = &left[at..];
        match escape(left.as_bytes()) {
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

fn without_dot_segments(path: &str) -> String {
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

/// Percent-decoded once. What is not UTF-8 then becomes U+FFFD: two values may become one, none is lost.
pub(in crate::policy) fn percent_decoded(text: &str) -> String {
    String::from_utf8_lossy(&decoded_bytes(text)).into_owned()
}

fn decoded_bytes(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut left = text.as_bytes();
    let mut decoded = Vec::with_capacity(left.len());
    while let Some((first, after)) = left.split_first() {
        match escape(left) {
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

/// The byte that the escape at the beginning stands for.
fn escape(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
