//! Scans one head for the framing of the content that follows it.

use memchr::memchr_iter;

/// A content or chunk is refused at once if it claims more: no client sends it, and sums of such sizes overflow.
pub(super) const MAX_CONTENT_BYTES: u64 = 1 << 60;

/// The framing of the content after a head (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    None,
    Length(u64),
    Chunked,
}

/// The result of scanning bytes from the start of a head.
#[derive(Debug)]
pub(super) enum HeadScan {
    /// The head has this many bytes.
    Complete(usize, BodyFraming),
    Partial,
    /// The head has two readings, or none.
    Ambiguous,
}

/// Scans the lines once. Violations that the parser refuses by itself are not checked.
pub(super) fn scan(bytes: &[u8]) -> HeadScan {
    let mut fields = FramingFields::default();
    let mut begin = 0;
    for (number, end) in memchr_iter(b'\n', bytes).enumerate() {
        // RFC 9112 §2.2: a line ends in CRLF only.
        let Some(line) = bytes[begin..end].strip_suffix(b"\r") else { return HeadScan::Ambiguous };
        begin = end + 1;
        if number == 0 {
            fields.is_1_0 = line.ends_with(b" HTTP/1.0");
        } else if !line.is_empty() {
            if fields.add(line).is_none() {
                return HeadScan::Ambiguous;
            }
            continue;
        } else {
            // A CR stands at the end of a line only.
            let lines = number + 1;
            return match fields.body_framing() {
                Some(body) if memchr_iter(b'\r', &bytes[..begin]).count() == lines => {
                    HeadScan::Complete(begin, body)
                }
                _ => HeadScan::Ambiguous,
            };
        }
    }
    HeadScan::Partial
}

#[derive(Default)]
struct FramingFields {
    is_1_0: bool,
    hosts: u32,
    lengths: u32,
    length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    fn add(&mut self, line: &[u8]) -> Option<()> {
        // RFC 9112 §5.1: no space before the colon; §5.2: no folded lines. A name has no control characters.
        let colon = line.iter().position(|byte| FIELD_NAME_TERMINATORS[usize::from(*byte)])?;
        if colon == 0 || line[colon] != b':' {
            return None;
        }
        let name = &line[..colon];
        let value = || line[colon + 1..].trim_ascii();
        match colon {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths += 1;
                self.length = Some(parse_decimal(value())?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // RFC 9112 §6.1: `chunked` alone, once, and not over HTTP/1.0.
                if self.chunked || self.is_1_0 || !value().eq_ignore_ascii_case(b"chunked") {
                    return None;
                }
                self.chunked = true;
            }
            _ => {}
        }
        Some(())
    }

    fn body_framing(&self) -> Option<BodyFraming> {
        // RFC 9112 §3.2: exactly one Host. §6.3 allows a list of equal lengths to be repaired; it is refused here.
        if self.lengths > 1 || self.hosts > 1 || (self.hosts == 0 && !self.is_1_0) {
            return None;
        }
        match (self.chunked, self.length) {
            // RFC 9112 §6.1: "ought to be handled as an error".
            (true, Some(_)) => None,
            (true, None) => Some(BodyFraming::Chunked),
            (false, None | Some(0)) => Some(BodyFraming::None),
            (false, Some(length)) => Some(BodyFraming::Length(length)),
        }
    }
}

/// The colon, and the bytes that a field name can't have.
const FIELD_NAME_TERMINATORS: [bool; 256] = {
    let (mut ends, mut byte) = ([false; 256], 0);
    while byte <= b' ' {
        ends[byte as usize] = true;
        byte += 1;
    }
    ends[b':' as usize] = true;
    ends
};

/// Parses digits only, without sign or space.
fn parse_decimal(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = digits.then(|| std::str::from_utf8(value).ok()?.parse().ok())?;
    length.filter(|length| *length <= MAX_CONTENT_BYTES)
}
