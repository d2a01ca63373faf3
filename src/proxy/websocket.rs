//! WebSocket frames (RFC 6455 §5.2), as far as a close frame needs them: it stands between two frames.

/// "Going away" (RFC 6455 §7.4.1), as a server sends it.
pub(super) const CLOSE_FROM_SERVER: &[u8] = &[0x88, 0x02, 0x03, 0xe9];

/// The same as a client sends it: masked, with a key of zeros.
pub(super) const CLOSE_FROM_CLIENT: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Follows the frames of one direction.
#[derive(Debug, Default)]
pub(super) struct FrameScanner {
    header: [u8; 14],
    filled: usize,
    payload: u64,
}

impl FrameScanner {
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = bytes.len().min(usize::try_from(self.payload).unwrap_or(usize::MAX));
            self.payload -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else { return };
            self.header[self.filled] = *first;
            self.filled += 1;
            bytes = rest;
            if self.filled >= 2 && self.filled == self.header_length() {
                self.payload = self.payload_length();
                self.filled = 0;
            }
        }
    }

    /// Returns whether the next byte begins a frame.
    pub(super) fn is_between_frames(&self) -> bool {
        self.filled == 0 && self.payload == 0
    }

    fn header_length(&self) -> usize {
        let extended = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        2 + extended + mask
    }

    fn payload_length(&self) -> u64 {
        let [_, length, extended @ ..] = self.header;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        match length & 0x7f {
            126 => number(&extended[..2]),
            127 => number(&extended[..8]),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_end_where_their_length_says() {
        let short = [&[0x81, 0x05][..], b"hello"].concat();
        let masked = [&[0x81, 0x83, 1, 2, 3, 4][..], b"abc"].concat();
        let medium = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let long = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &[7; 65536]].concat();
        for frame in [&short[..], &masked, &medium, &long, CLOSE_FROM_SERVER, CLOSE_FROM_CLIENT, &[0x89, 0]] {
            let mut scanner = FrameScanner::default();
            for (at, byte) in frame.iter().enumerate() {
                scanner.feed(&[*byte]);
                assert_eq!(
                    scanner.is_between_frames(),
                    at + 1 == frame.len(),
                    "byte {at} of {}",
                    frame.len()
                );
            }
            scanner.feed(&[frame, frame, &frame[..1]].concat());
            assert!(!scanner.is_between_frames());
        }
    }
}
