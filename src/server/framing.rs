//! A strict reading of HTTP/1 framing, in front of the parser: where each request begins and ends, and whether it could
//! be read in another way by whoever stands before larder (RFC 9112 §11.2). It changes nothing, and keeps no content.

mod chunked;
mod frames;
mod head;

use memchr::memchr_iter;

use chunked::Chunked;
use frames::{Flood, Frames};
use head::{Body, Read};

/// What a scanner found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request that begins at this byte (0: before) has no one meaning.
    Head { begins: usize },
    /// The content's framing is broken: where the next request begins is not known.
    Body,
    /// Streams are opened and reset without end.
    Flood,
}

/// Follows one connection, byte by byte.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    /// Of a head that is not whole yet.
    partial: Vec<u8>,
    /// How much of it is known to hold no end.
    scanned: usize,
    most: usize,
    /// No request was seen yet: the connection may turn out to speak HTTP/2.
    first: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    Http2(Frames),
    /// Another protocol.
    Opaque,
}

/// The parser answers 431 to a head that is too long; this bound only has to come after it.
const SLACK: usize = 16 * 1024;

impl Scanner {
    pub fn new(header_bytes: usize) -> Self {
        let most = header_bytes + SLACK;
        Self { state: State::Head, partial: Vec::new(), scanned: 0, most, first: true }
    }

    /// Takes what came next.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match &mut self.state {
                State::Opaque => return Ok(()),
                State::Http2(frames) => return frames.feed(rest).map_err(|Flood| Fault::Flood),
                State::Head => self.head(rest).map_err(|Unclear| Fault::Head { begins: at })?,
                State::Length(left) => {
                    let here = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= here as u64;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    here
                }
                State::Chunked(chunked) => {
                    let (here, ended) = chunked.feed(rest, self.most).ok_or(Fault::Body)?;
                    if ended {
                        self.state = State::Head;
                    }
                    here
                }
            };
        }
        Ok(())
    }

    /// A head has begun and is not whole.
    pub fn is_within_head(&self) -> bool {
        match &self.state {
            State::Http2(frames) => frames.is_within_fields(),
            State::Opaque => false,
            _ => !self.partial.is_empty(),
        }
    }

    /// Content has begun and is not whole.
    #[cfg(test)]
    pub fn is_within_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    pub fn is_http2(&self) -> bool {
        matches!(self.state, State::Http2(_))
    }

    /// It speaks another protocol than HTTP.
    pub fn is_opaque(&self) -> bool {
        matches!(self.state, State::Opaque)
    }

    /// From now on it is another protocol: both sides agreed on it.
    pub fn become_opaque(&mut self) {
        self.state = State::Opaque;
        self.partial = Vec::new();
    }

    /// How much of `bytes` belongs to this head.
    fn head(&mut self, bytes: &[u8]) -> Result<usize, Unclear> {
        let before = self.partial.len();
        if before == 0 {
            // Nearly always it comes whole, and nothing is copied.
            if let Some(end) = self.beside_a_head(bytes) {
                return Ok(end);
            }
            return match head::read(bytes) {
                Read::Whole(end, body) => {
                    self.follow(body);
                    Ok(end)
                }
                Read::Part => {
                    self.partial.extend_from_slice(bytes);
                    Ok(bytes.len())
                }
                Read::Unclear => Err(Unclear),
            };
        }
        self.partial.extend_from_slice(bytes);
        let Some(end) = end_of_head(&self.partial, self.scanned)? else {
            // The last three bytes may be the beginning of the end.
            self.scanned = self.partial.len().saturating_sub(3);
            return if self.partial.len() > self.most { Err(Unclear) } else { Ok(bytes.len()) };
        };
        let partial = std::mem::take(&mut self.partial);
        self.scanned = 0;
        if self.beside_a_head(&partial[..end]).is_none() {
            match head::read(&partial[..end]) {
                Read::Whole(_, body) => self.follow(body),
                Read::Part | Read::Unclear => return Err(Unclear),
            }
        }
        Ok(end - before)
    }

    /// What may stand where a head does: an empty line before it, which is ignored (RFC 9112 §2.2), or another protocol's
    /// beginning.
    fn beside_a_head(&mut self, bytes: &[u8]) -> Option<usize> {
        const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
        if bytes.starts_with(b"\r\n") {
            return Some(2);
        }
        if self.first && bytes.starts_with(HTTP2) {
            self.state = State::Http2(Frames::new());
            return Some(HTTP2.len());
        }
        None
    }

    fn follow(&mut self, body: Body) {
        self.first = false;
        self.state = match body {
            Body::None => State::Head,
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunked::default()),
        };
    }
}

/// It has two readings, or none.
struct Unclear;

/// Where the head ends; that of an empty line before it, if there is one. Lines end in CRLF and in nothing else
/// (RFC 9112 §2.2 lets a recipient take a bare LF for an end; then two recipients can differ).
fn end_of_head(bytes: &[u8], scanned: usize) -> Result<Option<usize>, Unclear> {
    for at in memchr_iter(b'\n', &bytes[scanned..]).map(|at| scanned + at) {
        match &bytes[..at] {
            [b'\r'] | [.., b'\r', b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(Unclear),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
