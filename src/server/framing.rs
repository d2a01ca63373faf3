//! Request-smuggling guard: a strict scanner of HTTP/1 framing, in front of the parser (RFC 9112 §11.2).
//!
//! It finds where each request begins and ends, and whether an intermediary before larder could have read it otherwise.
//! It changes nothing, and keeps no content. It names the bytes of a target that have to be encoded for the parser.

mod chunked;
mod head;
mod http2_frames;
mod target;

use memchr::{memchr, memchr_iter};

use chunked::ChunkedScanner;
use head::{BodyFraming, HeadScan};
use http2_frames::{FrameFlood, Http2FrameScanner};
use target::{HasFragment, TargetScanner};

use crate::config::Limits;

/// A violation that the scanner found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingFault {
    /// The head that begins at this byte of the input is ambiguous or malformed; 0 if it began earlier.
    Head {
        /// The offset of the head's first byte.
        begins: usize,
    },
    /// The request line is longer than larder takes; this many bytes of the input belong to its allowed part.
    RequestLine {
        /// The number of bytes that may be read.
        ends: usize,
    },
    /// The content's framing is malformed, so the start of the next request is unknown; this many bytes of the input come
    /// before the fault.
    Body {
        /// The number of bytes that may be read.
        ends: usize,
    },
    /// The client opens and resets HTTP/2 streams, or sends empty frames, without end.
    Flood,
}

/// Scans the bytes of one connection.
#[derive(Debug)]
pub struct FramingScanner {
    state: ScannerState,
    /// The bytes of an incomplete head.
    partial: Vec<u8>,
    /// The number of bytes of `partial` that were searched for the end of the head.
    scanned: usize,
    target: TargetScanner,
    /// Where the raw bytes of targets are in the last input.
    raw_bytes: Vec<usize>,
    max_head_bytes: usize,
    max_line_bytes: usize,
    /// The number of heads so far.
    requests: u64,
    /// No request was seen yet, so an HTTP/2 preface may still come.
    is_first: bool,
}

#[derive(Debug)]
enum ScannerState {
    Head,
    Length(u64),
    Chunked(ChunkedScanner),
    Http2(Http2FrameScanner),
    /// Another protocol, after an upgrade.
    Opaque,
}

/// Bytes beyond `limits.header_bytes` that the scanner keeps, so that it is the parser that answers 431.
const HEAD_LIMIT_SLACK: usize = 16 * 1024;

impl FramingScanner {
    /// A scanner for a new connection; `header_bytes` is the longest head.
    pub fn new(header_bytes: usize) -> Self {
        let most = header_bytes + HEAD_LIMIT_SLACK;
        Self {
            state: ScannerState::Head,
            partial: Vec::new(),
            scanned: 0,
            target: TargetScanner::default(),
            raw_bytes: Vec::new(),
            max_head_bytes: most,
            max_line_bytes: Limits::max_request_line(header_bytes),
            requests: 0,
            is_first: true,
        }
    }

    /// Scans the next bytes of the connection.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), FramingFault> {
        let mut at = 0;
        if !self.raw_bytes.is_empty() {
            self.raw_bytes = Vec::new();
        }
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &mut self.state {
                ScannerState::Opaque => return Ok(()),
                ScannerState::Http2(frames) => {
                    return frames.feed(rest).map_err(|FrameFlood| FramingFault::Flood);
                }
                ScannerState::Head => {
                    let before = self.partial.len();
                    let ends = at + self.max_line_bytes.saturating_sub(before);
                    let read =
                        self.scan_head(rest).map_err(|AmbiguousHead| FramingFault::Head { begins: at })?;
                    self.target
                        .scan(&rest[..read], at, &mut self.raw_bytes)
                        .map_err(|HasFragment| FramingFault::Head { begins: at })?;
                    if self.partial.is_empty() {
                        self.target.reset();
                    }
                    if self.is_line_too_long() {
                        return Err(FramingFault::RequestLine { ends });
                    }
                    read
                }
                ScannerState::Length(left) => {
                    let here = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = ScannerState::Head;
                    }
                    here
                }
                ScannerState::Chunked(chunked) => {
                    let fed = chunked.feed(rest, self.max_head_bytes);
                    let (here, ended) = fed.map_err(|valid| FramingFault::Body { ends: at + valid })?;
                    if ended {
                        self.state = ScannerState::Head;
                    }
                    here
                }
            };
        }
        Ok(())
    }

    /// The incomplete head has no end of its first line, and is longer than a line may be.
    fn is_line_too_long(&self) -> bool {
        self.partial.len() > self.max_line_bytes
            && memchr(b'\n', &self.partial[..self.max_line_bytes]).is_none()
    }

    /// Where the bytes of request lines are in the last input that the parser does not take: those of targets are to be
    /// percent-encoded, and a digit is a minor version above 1, to be read as 1.
    pub fn raw_bytes(&self) -> &[usize] {
        &self.raw_bytes
    }

    /// An incomplete head has arrived.
    pub(crate) fn is_within_head(&self) -> bool {
        match &self.state {
            ScannerState::Http2(frames) => frames.is_within_field_section(),
            ScannerState::Opaque => false,
            _ => !self.partial.is_empty(),
        }
    }

    /// The bytes of an incomplete HTTP/1.1 head, which are kept.
    pub(crate) fn partial_head_bytes(&self) -> usize {
        self.partial.len()
    }

    /// The request, counted from 1, whose incomplete content has arrived.
    pub(crate) fn request_within_body(&self) -> Option<u64> {
        matches!(self.state, ScannerState::Length(_) | ScannerState::Chunked(_)).then_some(self.requests)
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.state, ScannerState::Http2(_))
    }

    /// The connection was upgraded to another protocol.
    pub(crate) fn is_opaque(&self) -> bool {
        matches!(self.state, ScannerState::Opaque)
    }

    /// Stops scanning, after both sides agreed on another protocol.
    pub(crate) fn become_opaque(&mut self) {
        self.state = ScannerState::Opaque;
        self.partial = Vec::new();
    }

    /// Returns how many of `bytes` belong to this head.
    fn scan_head(&mut self, bytes: &[u8]) -> Result<usize, AmbiguousHead> {
        let before = self.partial.len();
        if before == 0 {
            // A head that arrives complete is not copied.
            if let Some(end) = self.scan_non_head(bytes) {
                return Ok(end);
            }
            return match head::scan(bytes) {
                HeadScan::Complete(end, body) => {
                    self.enter_body(body);
                    Ok(end)
                }
                HeadScan::Partial => {
                    self.partial.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                HeadScan::Ambiguous => Err(AmbiguousHead),
            };
        }
        self.partial.extend_from_slice(bytes);
        let Some(end) = find_end_of_head(&self.partial, self.scanned)? else {
            // The last three bytes may begin the end of the head.
            self.scanned = self.partial.len().saturating_sub(3);
            return if self.partial.len() > self.max_head_bytes {
                Err(AmbiguousHead)
            } else {
                Ok(bytes.len())
            };
        };
        let partial = std::mem::take(&mut self.partial);
        self.scanned = 0;
        if self.scan_non_head(&partial[..end]).is_none() {
            match head::scan(&partial[..end]) {
                HeadScan::Complete(_, body) => self.enter_body(body),
                HeadScan::Partial | HeadScan::Ambiguous => return Err(AmbiguousHead),
            }
        }
        Ok(end - before)
    }

    /// Skips bytes that may stand in place of a head: an empty line (RFC 9112 §2.2), or the HTTP/2 preface.
    fn scan_non_head(&mut self, bytes: &[u8]) -> Option<usize> {
        const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
        if bytes.starts_with(b"\r\n") {
            return Some(2);
        }
        if self.is_first && bytes.starts_with(HTTP2) {
            self.state = ScannerState::Http2(Http2FrameScanner::new());
            return Some(HTTP2.len());
        }
        None
    }

    fn enter_body(&mut self, body: BodyFraming) {
        self.is_first = false;
        self.requests += 1;
        self.state = match body {
            BodyFraming::None => ScannerState::Head,
            BodyFraming::Length(length) => ScannerState::Length(length),
            BodyFraming::Chunked => ScannerState::Chunked(ChunkedScanner::default()),
        };
    }
}

/// The head has two readings, or none.
struct AmbiguousHead;

/// Finds the end of the head, or of an empty line before it. A line ends in CRLF only: RFC 9112 §2.2 lets a recipient
/// accept a bare LF, and then two recipients can differ.
fn find_end_of_head(bytes: &[u8], scanned: usize) -> Result<Option<usize>, AmbiguousHead> {
    for at in memchr_iter(b'\n', &bytes[scanned..]).map(|at| scanned + at) {
        match &bytes[..at] {
            [b'\r'] | [.., b'\r', b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(AmbiguousHead),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod parser_tests;
#[cfg(test)]
mod tests;
