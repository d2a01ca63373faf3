//! Finds the end of chunked content (RFC 9112 §7.1).

use super::head::MAX_CONTENT_BYTES;

#[derive(Debug, Default)]
pub(super) struct ChunkedScanner {
    state: ChunkState,
    /// The size of the chunk as far as it is read, then the number of its bytes that are left.
    size: u64,
    /// Bytes of the current line, or of all trailers.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    /// The start of a trailer line.
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
}

impl ChunkedScanner {
    /// Returns how many of `bytes` belong to the content, and whether it ends there. A size line, and all trailers
    /// together, have at most `max_line_bytes`.
    ///
    /// # Errors
    /// If the content is malformed: the number of bytes before the fault.
    pub(super) fn feed(&mut self, bytes: &[u8], max_line_bytes: usize) -> Result<(usize, bool), usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.state == ChunkState::Data {
                let here = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.state = ChunkState::DataEnd;
                }
                continue;
            }
            self.length += 1;
            if self.length > max_line_bytes {
                return Err(at);
            }
            let is_last = self.step(bytes[at]).ok_or(at)?;
            at += 1;
            if is_last {
                return Ok((at, true));
            }
        }
        Ok((at, false))
    }

    /// Returns whether `byte` is the last of the content; `None` if it is malformed.
    fn step(&mut self, byte: u8) -> Option<bool> {
        self.state = match (self.state, byte) {
            (ChunkState::Size, b'\r') if self.length > 1 => ChunkState::SizeEnd,
            (ChunkState::Size, b';' | b' ' | b'\t') if self.length > 1 => ChunkState::Extension,
            (ChunkState::Size, digit) => {
                let digit = (digit as char).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(u64::from(digit))?;
                if self.size > MAX_CONTENT_BYTES {
                    return None;
                }
                ChunkState::Size
            }
            (ChunkState::Extension, b'\r') => ChunkState::SizeEnd,
            (ChunkState::Extension, b'\n') => return None,
            (ChunkState::Extension, _) => ChunkState::Extension,
            (ChunkState::SizeEnd, b'\n') => {
                self.length = 0;
                if self.size == 0 { ChunkState::TrailerStart } else { ChunkState::Data }
            }
            (ChunkState::DataEnd, b'\r') => ChunkState::DataEndLf,
            (ChunkState::DataEndLf, b'\n') => {
                self.length = 0;
                ChunkState::Size
            }
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastEnd,
            (ChunkState::LastEnd, b'\n') => return Some(true),
            (ChunkState::Trailer, b'\r') => ChunkState::TrailerEnd,
            (ChunkState::TrailerEnd, b'\n') => ChunkState::TrailerStart,
            (ChunkState::Trailer | ChunkState::TrailerStart, b'\n') => return None,
            (ChunkState::Trailer | ChunkState::TrailerStart, _) => ChunkState::Trailer,
            _ => return None,
        };
        Some(false)
    }
}
