//! A progress bar on a terminal. Elsewhere nothing is written.

use std::io::{Read, Stderr, Write, stderr};

use crate::logging::moves_cursor;

/// Characters of the bar.
const BAR_WIDTH: u64 = 30;

/// The bar in one line, which is removed when the work ends.
pub(super) struct ProgressBar<W: Write = Stderr> {
    /// `None`: there is no terminal.
    terminal: Option<W>,
    drawn: String,
}

impl ProgressBar {
    /// Draws on standard error, unless it is no terminal or one that can't overwrite a line.
    pub(super) fn on_stderr() -> Self {
        Self::new(moves_cursor(&stderr()).then(stderr))
    }
}

impl<W: Write> ProgressBar<W> {
    pub(super) fn new(terminal: Option<W>) -> Self {
        Self { terminal, drawn: String::new() }
    }

    /// Draws how much of all is done, with the unit of both, if that shows a difference.
    pub(super) fn draw(&mut self, done: u64, all: u64, unit: &str) {
        let Some(terminal) = &mut self.terminal else { return };
        let bar = format_bar(done, all, unit);
        if bar != self.drawn {
            _ = write!(terminal, "\r{bar}").and_then(|()| terminal.flush());
            self.drawn = bar;
        }
    }
}

impl<W: Write> Drop for ProgressBar<W> {
    fn drop(&mut self) {
        if let (Some(terminal), false) = (&mut self.terminal, self.drawn.is_empty()) {
            _ = write!(terminal, "\r\x1b[K").and_then(|()| terminal.flush());
        }
    }
}

/// `[######------]  12/30`.
fn format_bar(done: u64, all: u64, unit: &str) -> String {
    let filled = (u128::from(done.min(all)) * u128::from(BAR_WIDTH)).checked_div(u128::from(all));
    let filled = filled.unwrap_or_default() as usize;
    format!("[{}{}] {done:>5}/{all}{unit}", "#".repeat(filled), "-".repeat(BAR_WIDTH as usize - filled))
}

/// Draws how much of a file has been read.
pub(super) struct ProgressReader<R, W: Write = Stderr> {
    file: R,
    read: u64,
    size: u64,
    bar: ProgressBar<W>,
}

impl<R: Read, W: Write> ProgressReader<R, W> {
    /// `size`: the bytes of the file.
    pub(super) fn new(file: R, size: u64, bar: ProgressBar<W>) -> Self {
        Self { file, read: 0, size, bar }
    }
}

impl<R: Read, W: Write> Read for ProgressReader<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        const MIB: u64 = 1024 * 1024;
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        // A pipe has no known size, and a small file is read at once.
        if self.size >= MIB {
            self.bar.draw(self.read / MIB, self.size / MIB, " MiB");
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_as_work_ends() {
        for (done, all, expected) in [
            (0, 0, "[------------------------------]     0/0"),
            (2, 4, "[###############---------------]     2/4"),
            // A list that could not be read counts, too.
            (2, 1, "[##############################]     2/1"),
            (
                u64::MAX,
                u64::MAX,
                "[##############################] 18446744073709551615/18446744073709551615",
            ),
        ] {
            assert_eq!(format_bar(done, all, ""), expected);
        }
    }

    #[test]
    fn a_bar_is_drawn_where_it_changes_and_then_removed() {
        let mut out = Vec::new();
        let mut bar = ProgressBar::new(Some(&mut out));
        (0..10).for_each(|_| bar.draw(1, 2, ""));
        drop(bar);
        assert_eq!(out, b"\r[###############---------------]     1/2\r\x1b[K");
        // Nothing was drawn, or there is no terminal.
        out.clear();
        drop(ProgressBar::new(Some(&mut out)));
        ProgressBar::<&mut Vec<u8>>::new(None).draw(1, 2, "");
        assert_eq!(out, b"");
    }

    #[test]
    fn a_large_file_shows_how_much_of_it_is_read() {
        for (mib, expected) in [(0, None), (3, Some("3/3 MiB\r\x1b[K"))] {
            let (file, mut out) = (vec![b'x'; mib << 20 | 10], Vec::new());
            let mut reader =
                ProgressReader::new(&file[..], file.len() as u64, ProgressBar::new(Some(&mut out)));
            assert_eq!(std::io::copy(&mut reader, &mut std::io::sink()).unwrap(), file.len() as u64);
            drop(reader);
            let drawn = String::from_utf8(out).unwrap();
            assert!(expected.map_or(drawn.is_empty(), |end| drawn.ends_with(end)), "{drawn:?}");
        }
    }
}
