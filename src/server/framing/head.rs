//! One whole head: which content follows it, or that it can be read in two ways.

use memchr::memchr_iter;

/// What follows the head (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    None,
    Length(u64),
    Chunked,
}

/// What the bytes of a connection say from the beginning of a head.
#[derive(Debug)]
pub enum Read {
    /// So many bytes are the head.
    Whole(usize, Body),
    Part,
    /// There is no one reading.
    Unclear,
}

/// One walk over the lines. What the parser refuses by itself is not looked for here.
pub fn read(bytes: &[u8]) -> Read {
    let mut fields = Fields::default();
    let mut begin = 0;
    for (number, end) in memchr_iter(b'\n', bytes).enumerate() {
        // §2.2: lines end in CRLF and in nothing else.
        let Some(line) = bytes[begin..end].strip_suffix(b"\r") else { return Read::Unclear };
        begin = end + 1;
        if number == 0 {
            fields.is_1_0 = line.ends_with(b" HTTP/1.0");
        } else if !line.is_empty() {
            if fields.add(line).is_none() {
                return Read::Unclear;
            }
            continue;
        } else {
            // Nor is a CR anywhere else.
            let lines = number + 1;
            return match fields.body() {
                Some(body) if memchr_iter(b'\r', &bytes[..begin]).count() == lines => {
                    Read::Whole(begin, body)
                }
                _ => Read::Unclear,
            };
        }
    }
    Read::Part
}

#[derive(Default)]
struct Fields {
    is_1_0: bool,
    hosts: u32,
    lengths: u32,
    length: Option<u64>,
    chunked: bool,
}

impl Fields {
    fn add(&mut self, line: &[u8]) -> Option<()> {
        // §5.1: no space before the colon; §5.2: no folded lines. No control character is part of a name either.
        let colon = line.iter().position(|byte| ENDS_NAME[usize::from(*byte)])?;
        if colon == 0 || line[colon] != b':' {
            return None;
        }
        let name = &line[..colon];
        let value = || line[colon + 1..].trim_ascii();
        match colon {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = Some(decimal(value())?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // §6.1: `chunked` alone, once, and not over HTTP/1.0.
                if self.chunked || self.is_1_0 || !value().eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                self.chunked = true;
            }
            _ => {}
        }
        Some(())
    }

    fn body(&self) -> Option<Body> {
        // §3.2: exactly one Host. §6.3: a list of equal lengths could be repaired; nobody sends one in good faith.
        if self.lengths > 1 || self.hosts > 1 || (self.hosts == 0 && !self.is_1_0) {
            return None;
        }
        match (self.chunked, self.length) {
            // §6.1: "ought to be handled as an error".
            (true, Some(_)) => None,
            (true, None) => Some(Body::Chunked),
            (false, None | Some(0)) => Some(Body::None),
            (false, Some(length)) => Some(Body::Length(length)),
        }
    }
}

/// The colon, and what can't stand in a name.
const ENDS_NAME: [bool; 256] = {
    let (mut ends, mut byte) = ([false; 256], 0);
    while byte <= b' ' {
        ends[byte as usize] = true;
        byte += 1;
    }
    ends[b':' as usize] = true;
    ends
};

/// Digits only, of a number that fits.
fn decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?
}
