//! Where chunked content ends (RFC 9112 §7.1).

#[derive(Debug, Default)]
pub struct Chunked {
    place: Place,
    /// Of the chunk: first its size as far as it is read, then what is left of it.
    size: u64,
    /// Bytes of the line, or of all trailers.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataEnd,
    DataEndLf,
    /// At the start of a line of the trailer section, in it, and at its end.
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
}

impl Chunked {
    /// How many of `bytes` belong to it, and whether it ends there; `None` if it is broken. Lines of sizes, and all
    /// trailers together, have at most `most` bytes.
    pub fn feed(&mut self, bytes: &[u8], most: usize) -> Option<(usize, bool)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.place == Place::Data {
                let here = (bytes.len() - at).min(usize::try_from(self.size).unwrap_or(usize::MAX));
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.place = Place::DataEnd;
                }
                continue;
            }
            self.length += 1;
            if self.length > most {
                return None;
            }
            let byte = bytes[at];
            at += 1;
            if self.step(byte)? {
                return Some((at, true));
            }
        }
        Some((at, false))
    }

    /// Whether this byte is the last.
    fn step(&mut self, byte: u8) -> Option<bool> {
        self.place = match (self.place, byte) {
            (Place::Size, b'\r') if self.length > 1 => Place::SizeEnd,
            (Place::Size, b';' | b' ' | b'\t') if self.length > 1 => Place::Extension,
            (Place::Size, digit) => {
                let digit = (digit as char).to_digit(16)?;
                self.size = self.size.checked_mul(16)?.checked_add(u64::from(digit))?;
                Place::Size
            }
            (Place::Extension, b'\r') => Place::SizeEnd,
            (Place::Extension, b'\n') => return None,
            (Place::Extension, _) => Place::Extension,
            (Place::SizeEnd, b'\n') => {
                self.length = 0;
                if self.size == 0 { Place::TrailerStart } else { Place::Data }
            }
            (Place::DataEnd, b'\r') => Place::DataEndLf,
            (Place::DataEndLf, b'\n') => {
                self.length = 0;
                Place::Size
            }
            (Place::TrailerStart, b'\r') => Place::LastEnd,
            (Place::LastEnd, b'\n') => return Some(true),
            (Place::Trailer, b'\r') => Place::TrailerEnd,
            (Place::TrailerEnd, b'\n') => Place::TrailerStart,
            (Place::Trailer | Place::TrailerStart, b'\n') => return None,
            (Place::Trailer | Place::TrailerStart, _) => Place::Trailer,
            _ => return None,
        };
        Some(false)
    }
}
