//! Finds the bytes of request lines that the parser does not take: those of targets that are to be percent-encoded, and
//! the minor version of a later HTTP/1. Refuses a fragment, which the parser would cut off.

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
    /// The version; so many of its bytes have come.
    Version(u8),
    /// Nothing is to come that matters.
    Rest,
}

/// The text between the target and the minor version.
const MAJOR_VERSION: &[u8] = b"HTTP/1.";

/// The target has a `#`: no form of it has a fragment (RFC 9112 §3.2), and recipients differ about what it is.
pub(super) struct HasFragment;

impl TargetScanner {
    /// Adds to `found` where in `input` the raw bytes of the target are, and a minor version above 1. `bytes`: the part of
    /// `input` that begins at `at`, and belongs to the same head as the bytes before it.
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
        let is_in_parts = end.is_none() || self.part != LinePart::Method;
        if is_in_parts || has_later_minor(line) || has_raw(line) || memchr(b'#', line).is_some() {
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
            (LinePart::Target | LinePart::OtherForm, b' ') => LinePart::Version(0),
            (LinePart::Version(read), byte) => step_version(read, byte, at, found),
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

/// The part after `byte`, which follows so many bytes of the version.
fn step_version(read: u8, byte: u8, at: usize, found: &mut Vec<usize>) -> LinePart {
    match MAJOR_VERSION.get(usize::from(read)) {
        Some(expected) if *expected == byte => LinePart::Version(read + 1),
        None if is_later_minor(byte) => {
            found.push(at);
            LinePart::Rest
        }
        _ => LinePart::Rest,
    }
}

/// RFC 9110 §2.5: a message of a later minor version is processed as one of the highest that is known.
fn is_later_minor(byte: u8) -> bool {
    matches!(byte, b'2'..=b'9')
}

fn has_later_minor(line: &[u8]) -> bool {
    matches!(line, [.., minor, b'\r'] if is_later_minor(*minor))
}
