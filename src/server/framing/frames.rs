//! The frames of HTTP/2 as they come (RFC 9113 §4.1): whether a field section has begun and is not whole, and whether the
//! client takes back most of what it asks. It keeps no content.

/// What stands between the first line of the connection preface and the first frame.
const REST_OF_PREFACE: usize = 6;

/// Fewer requests than these may be taken back, whatever the client does else.
const HARMLESS_RESETS: u32 = 200;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The client opens and resets streams, again and again: work without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

#[derive(Debug)]
pub struct Frames {
    /// Of the preface or a frame's content, to be passed over.
    skip: usize,
    head: [u8; 9],
    /// How much of `head` is there.
    filled: usize,
    /// A field section goes on in the next frame.
    open: bool,
    /// The frame that is being passed over belongs to a field section.
    in_fields: bool,
    asked: u32,
    taken_back: u32,
}

impl Frames {
    pub fn new() -> Self {
        let head = [0; 9];
        Self {
            skip: REST_OF_PREFACE,
            head,
            filled: 0,
            open: false,
            in_fields: false,
            asked: 0,
            taken_back: 0,
        }
    }

    /// Some of a field section is there, and not all.
    pub fn is_within_fields(&self) -> bool {
        self.open || (self.in_fields && self.skip > 0)
    }

    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        loop {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (self.head.len() - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == self.head.len() {
                self.filled = 0;
                self.begin()?;
            }
        }
    }

    fn begin(&mut self) -> Result<(), Flood> {
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.in_fields = matches!(kind, HEADERS | CONTINUATION);
        match kind {
            HEADERS | CONTINUATION => {
                self.open = flags & END_HEADERS == 0;
                self.asked = self.asked.saturating_add(u32::from(kind == HEADERS));
            }
            RST_STREAM => self.taken_back = self.taken_back.saturating_add(1),
            _ => {}
        }
        let is_flood = self.taken_back > HARMLESS_RESETS && self.taken_back > self.asked / 2;
        if is_flood { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], &vec![0; usize::from(length)]].concat()
    }

    fn within(frames: &[Vec<u8>]) -> Vec<bool> {
        let bytes = [b"SM\r\n\r\n".to_vec(), frames.concat()].concat();
        let mut whole = Frames::new();
        whole.feed(&bytes).unwrap();
        let mut scanner = Frames::new();
        let seen = bytes.iter().map(|byte| {
            scanner.feed(&[*byte]).unwrap();
            scanner.is_within_fields()
        });
        let seen: Vec<_> = seen.collect();
        assert_eq!(whole.is_within_fields(), seen[seen.len() - 1], "in pieces it is another");
        seen
    }

    #[test]
    fn a_field_section_lasts_from_its_first_frame_to_the_last_byte_of_its_last() {
        let settings = frame(4, 0, 6);
        let seen =
            within(&[settings.clone(), frame(HEADERS, 0, 3), frame(CONTINUATION, END_HEADERS, 2), settings]);
        let begins = 6 + 15 + 9 - 1;
        let ends = begins + 3 + 11;
        let expected: Vec<_> = (0..seen.len()).map(|at| (begins..ends).contains(&at)).collect();
        assert_eq!(seen, expected);
        assert!(within(&[frame(HEADERS, END_HEADERS, 0)]).iter().all(|within| !within));
    }

    #[test]
    fn who_takes_back_most_of_what_it_asks_is_a_flood() {
        let (ask, take_back) = (frame(HEADERS, END_HEADERS, 1), frame(RST_STREAM, 0, 4));
        let mut flood = Frames::new();
        flood.feed(b"SM\r\n\r\n").unwrap();
        let pair = [ask.clone(), take_back.clone()].concat();
        let ended = (0..1000).find(|_| flood.feed(&pair).is_err());
        assert_eq!(ended, Some(HARMLESS_RESETS as usize));
        // A browser that leaves a page now and then.
        let mut busy = Frames::new();
        busy.feed(b"SM\r\n\r\n").unwrap();
        for _ in 0..1000 {
            busy.feed(&[ask.clone(), ask.clone(), ask.clone(), take_back.clone()].concat()).unwrap();
        }
    }
}
