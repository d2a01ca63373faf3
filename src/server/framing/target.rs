//! Finds the bytes of request targets that are to be percent-encoded for the parser.

use memchr::memchr;

use crate::raw_target::{has_raw, is_raw};

/// Follows a request line that may arrive in parts.
#[derive(Debug, Default)]
pub(super) struct TargetScanner {
    part: LinePart,
}

/// The part of the head that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum LinePart {
    #[default]
    Method,
    TargetStart,
    Target,
    /// Nothing of the target is to come.
    Rest,
}

impl TargetScanner {
    /// Adds to `found` where in `input` the raw bytes of the target are. `bytes`: the part of `input` that begins at `at`,
    /// and belongs to the same head as the bytes before it.
    pub(super) fn scan(&mut self, bytes: &[u8], at: usize, found: &mut Vec<usize>) {
        if self.part == LinePart::Rest {
            return;
        }
        let end = memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if end.is_none() || has_raw(line) {
            for (offset, byte) in line.iter().enumerate() {
                self.step(*byte, at + offset, found);
            }
        }
        if end.is_some() {
            self.part = LinePart::Rest;
        }
    }

    fn step(&mut self, byte: u8, at: usize, found: &mut Vec<usize>) {
        self.part = match (self.part, byte) {
            (LinePart::Method, b' ') => LinePart::TargetStart,
            // The authority of another form has nothing to encode.
            (LinePart::TargetStart, b'/') => LinePart::Target,
            (LinePart::TargetStart, _) | (LinePart::Target, b' ') => LinePart::Rest,
            (LinePart::Target, byte) if is_raw(byte) => {
                found.push(at);
                LinePart::Target
            }
            (part, _) => part,
        }
    }

    /// The next bytes begin a head.
    pub(super) fn reset(&mut self) {
        self.part = LinePart::Method;
    }
}
