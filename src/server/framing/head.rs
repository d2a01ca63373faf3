//! One whole head: which content follows it, or that it can be read in two ways.

use memchr::memchr_iter;

/// What follows the head (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
}

/// `None`: there is no one reading. What the parser refuses by itself is not looked for here.
pub fn check(head: &[u8]) -> Option<Body> {
    // §2.2: no bare CR. That no LF is bare, and that the last line is empty, is known already.
    if memchr_iter(b'\r', head).count() != memchr_iter(b'\n', head).count() {
        return None;
    }
    let mut ends = memchr_iter(b'\n', head);
    let mut begin = ends.next()? + 1;
    let is_1_0 = head[..begin].ends_with(b" HTTP/1.0\r\n");
    let (mut hosts, mut lengths, mut length, mut chunked) = (0_u32, 0_u32, None, false);
    for end in ends {
        let line = head[begin..end].strip_suffix(b"\r")?;
        begin = end + 1;
        if line.is_empty() {
            break;
        }
        // §5.1: no space before the colon; §5.2: no folded lines. No control character is part of a name either.
        let colon = line.iter().position(|byte| *byte == b':' || *byte <= b' ')?;
        let name = &line[..colon];
        if name.is_empty() || line[colon] != b':' {
            return None;
        }
        let value = || line[colon + 1..].trim_ascii();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                lengths += 1;
                length = Some(decimal(value())?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // §6.1: `chunked` alone, once, and not over HTTP/1.0.
                if chunked || is_1_0 || !value().eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                chunked = true;
            }
            _ => {}
        }
    }
    // §3.2: exactly one Host. §6.3: a list of equal lengths could be repaired; nobody sends one in good faith.
    if lengths > 1 || hosts > 1 || (hosts == 0 && !is_1_0) {
        return None;
    }
    match (chunked, length) {
        // §6.1: "ought to be handled as an error".
        (true, Some(_)) => None,
        (true, None) => Some(Body::Chunked),
        (false, None | Some(0)) => Some(Body::None),
        (false, Some(length)) => Some(Body::Length(length)),
    }
}

/// Digits only, of a number that fits.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}
