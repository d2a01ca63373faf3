//! Finds the bytes of request targets that are to be percent-encoded for the parser, and refuses a fragment, which the
//! parser would cut off.

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
    /// The target is no path.
    OtherForm,
    /// Nothing of the target is to come.
    Rest,
}

/// The target has a `#`: no form of it has a fragment (RFC 9112 §3.2), and recipients differ about what it is.
pub(super) struct HasFragment;

impl TargetScanner {
    /// Adds to `found` where in `input` the raw bytes of the target are. `bytes`: the part of `input` that begins at `at`,
    /// and belongs to the same head as the bytes before it.
    pub(super) fn scan(
        &mut self,
        bytes: &[u8],
        at: usize,
        found: &mut Vec<usize>,
    ) -> Result<(), HasFragment> {
        if self.part == LinePart::Rest {
            return Ok(());
        }
        let end = memchr(b'\n', bytes);
        let line = &bytes[..end.unwrap_or(bytes.len())];
        if end.is_none() || has_raw(line) || memchr(b'#', line).is_some() {
            for (offset, byte) in line.iter().enumerate() {
                self.step(*byte, at + offset, found)?;
            }
        }
        if end.is_some() {
            self.part = LinePart::Rest;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, at: usize, found: &mut Vec<usize>) -> Result<(), HasFragment> {
        self.part = match (self.part, byte) {
            (LinePart::Method, b' ') => LinePart::TargetStart,
            (LinePart::TargetStart | LinePart::Target | LinePart::OtherForm, b'#') => {
                return Err(HasFragment);
            }
            (LinePart::TargetStart, b'/') => LinePart::Target,
            (LinePart::Target | LinePart::OtherForm, b' ') => LinePart::Rest,
            // The authority of another form has nothing to encode.
            (LinePart::TargetStart, _) => LinePart::OtherForm,
            (LinePart::Target, byte) if is_raw(byte) => {
                found.push(at);
                LinePart::Target
            }
            (part, _) => part,
        };
        Ok(())
    }

    /// The next bytes begin a head.
    pub(super) fn reset(&mut self) {
        self.part = LinePart::Method;
    }
}
