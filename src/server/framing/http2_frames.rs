//! Scans HTTP/2 frames (RFC 9113 §4.1) for incomplete field sections and for floods of stream resets and of empty DATA
//! frames. It keeps no content.

/// The bytes of the connection preface after its first line.
const PREFACE_REMAINDER_BYTES: usize = 6;

/// A client may reset this many streams, whatever share of its streams they are.
const TOLERATED_RESETS: u32 = 200;

/// Empty DATA frames in a row that end no stream (CVE-2019-9518). Envoy tolerates one.
const TOLERATED_EMPTY_FRAMES: u32 = 100;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

const FRAME_HEAD_BYTES: usize = 9;

/// The client resets most of the streams that it opens (rapid reset, CVE-2023-44487), or sends frames without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameFlood;

#[derive(Debug)]
pub(super) struct Http2FrameScanner {
    /// Bytes of the preface or of a frame's payload that are left to skip.
    skip: usize,
    /// The head of a frame, and the length of its padding if it is DATA that has one (RFC 9113 §6.1).
    head: [u8; 10],
    /// The number of bytes of `head` that have arrived.
    filled: usize,
    /// The field section continues in the next frame.
    fields_continue: bool,
    /// The current frame belongs to a field section.
    is_field_frame: bool,
    opened_streams: u32,
    reset_streams: u32,
    /// Since the last frame with content or fields, or the last end of a stream.
    empty_frames: u32,
}

impl Http2FrameScanner {
    pub(super) fn new() -> Self {
        let head = [0; 10];
        Self {
            skip: PREFACE_REMAINDER_BYTES,
            head,
            filled: 0,
            fields_continue: false,
            is_field_frame: false,
            opened_streams: 0,
            reset_streams: 0,
            empty_frames: 0,
        }
    }

    /// An incomplete field section has arrived.
    pub(super) fn is_within_field_section(&self) -> bool {
        self.fields_continue || (self.is_field_frame && self.skip > 0)
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), FrameFlood> {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (self.head_length() - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.head_length() {
                self.filled = 0;
                self.begin_frame()?;
            }
        }
    }

    /// Returns the bytes of the frame's head, as far as it has arrived.
    fn head_length(&self) -> usize {
        let has_padding_length = self.filled >= FRAME_HEAD_BYTES && self.is_padded_data();
        FRAME_HEAD_BYTES + usize::from(has_padding_length)
    }

    fn is_padded_data(&self) -> bool {
        let [_, _, _, kind, flags, ..] = self.head;
        kind == DATA && flags & PADDED != 0 && self.payload_length() > 0
    }

    fn payload_length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }

    fn begin_frame(&mut self) -> Result<(), FrameFlood> {
        let [_, _, _, kind, flags, .., padding] = self.head;
        let is_padded = self.is_padded_data();
        self.skip = self.payload_length() - usize::from(is_padded);
        let has_content = self.skip > if is_padded { usize::from(padding) } else { 0 };
        self.is_field_frame = matches!(kind, HEADERS | CONTINUATION);
        match kind {
            HEADERS | CONTINUATION => {
                self.fields_continue = flags & END_HEADERS == 0;
                self.opened_streams = self.opened_streams.saturating_add(u32::from(kind == HEADERS));
                self.empty_frames = 0;
            }
            DATA if has_content || flags & END_STREAM != 0 => self.empty_frames = 0,
            DATA => self.empty_frames += 1,
            RST_STREAM => self.reset_streams = self.reset_streams.saturating_add(1),
            _ => {}
        }
        let takes_back =
            self.reset_streams > TOLERATED_RESETS && self.reset_streams > self.opened_streams / 2;
        if takes_back || self.empty_frames > TOLERATED_EMPTY_FRAMES { Err(FrameFlood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![0; usize::from(length)]].concat()
    }

    fn field_section_positions(frames: &[Vec<u8>]) -> Vec<bool> {
        let bytes = [b"SM\r\n\r\n".to_vec(), frames.concat()].concat();
        let mut whole = Http2FrameScanner::new();
        whole.feed(&bytes).unwrap();
        let mut scanner = Http2FrameScanner::new();
        let seen = bytes.iter().map(|byte| {
            scanner.feed(&[*byte]).unwrap();
            scanner.is_within_field_section()
        });
        let seen: Vec<_> = seen.collect();
        assert_eq!(whole.is_within_field_section(), seen[seen.len() - 1], "in pieces it is another");
        seen
    }

    #[test]
    fn a_field_section_ends_with_its_last_frame() {
        let settings = frame(4, 0, 6);
        let seen = field_section_positions(&[
            settings.clone(),
            frame(HEADERS, 0, 3),
            frame(CONTINUATION, END_HEADERS, 2),
            settings,
        ]);
        let begins = 6 + 15 + 9 - 1;
        let ends = begins + 3 + 11;
        let expected: Vec<_> = (0..seen.len()).map(|at| (begins..ends).contains(&at)).collect();
        assert_eq!(seen, expected);
        assert!(field_section_positions(&[frame(HEADERS, END_HEADERS, 0)]).iter().all(|within| !within));
    }

    #[test]
    fn empty_data_frames_without_end_are_a_flood() {
        let (empty, end, some) = (frame(DATA, 0, 0), frame(DATA, END_STREAM, 0), frame(DATA, 0, 1));
        let mut flood = Http2FrameScanner::new();
        flood.feed(b"SM\r\n\r\n").unwrap();
        for _ in 0..3 {
            (0..TOLERATED_EMPTY_FRAMES).for_each(|_| flood.feed(&empty).unwrap());
            flood.feed(&some).unwrap();
        }
        (0..1000).for_each(|_| flood.feed(&end).unwrap());
        (0..TOLERATED_EMPTY_FRAMES).for_each(|_| flood.feed(&empty).unwrap());
        assert_eq!(flood.feed(&empty), Err(FrameFlood));
    }

    #[test]
    fn padding_is_no_content_and_requests_end_a_row_of_empty_frames() {
        let padded = |padding: u8, content: u8| {
            let mut frame = frame(DATA, PADDED, 1 + content + padding);
            frame[9] = padding;
            frame
        };
        let row = |frame: &[u8]| frame.repeat(TOLERATED_EMPTY_FRAMES as usize);
        let frames = [frame(HEADERS, END_HEADERS, 1), frame(DATA, END_STREAM, 0), padded(2, 1)];
        let accepted =
            frames.iter().map(|end| [row(&padded(2, 0)), end.clone(), row(&padded(0, 0))].concat());
        let mut scanner = Http2FrameScanner::new();
        scanner.feed(b"SM\r\n\r\n").unwrap();
        for frames in accepted {
            scanner.feed(&frame(DATA, 0, 1)).unwrap();
            frames.iter().for_each(|byte| scanner.feed(&[*byte]).unwrap());
        }
        assert_eq!(scanner.feed(&padded(255 - 1, 0)), Err(FrameFlood));
    }

    #[test]
    fn who_takes_back_most_of_what_it_asks_is_a_flood() {
        let (ask, take_back) = (frame(HEADERS, END_HEADERS, 1), frame(RST_STREAM, 0, 4));
        let mut flood = Http2FrameScanner::new();
        flood.feed(b"SM\r\n\r\n").unwrap();
        let pair = [ask.clone(), take_back.clone()].concat();
        let ended = (0..1000).find(|_| flood.feed(&pair).is_err());
        assert_eq!(ended, Some(TOLERATED_RESETS as usize));
        // A browser that leaves a page now and then.
        let mut busy = Http2FrameScanner::new();
        busy.feed(b"SM\r\n\r\n").unwrap();
        for _ in 0..1000 {
            busy.feed(&[ask.clone(), ask.clone(), ask.clone(), take_back.clone()].concat()).unwrap();
        }
    }
}
