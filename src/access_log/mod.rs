//! A line for each request, by option. What it says is gathered while the request is answered; the line itself is made
//! and written on a thread of its own, and lost if that can't keep up.

mod combined;
mod entry;
mod json;
mod time;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use entry::{Answered, Entry, Facts, UpstreamTime};

use crate::config::{AccessFormat, AccessLogSettings};
use crate::lines::{self, Lines, Manner, Sink};

/// So long the writing thread rests between two batches: waking it for each line would cost more than the line.
const REST: Duration = Duration::from_millis(5);

pub struct AccessLog {
    lines: Lines<Box<Facts>>,
    /// Of 2^32.
    sample: u64,
    seen: AtomicU64,
}

impl AccessLog {
    pub fn open(settings: &AccessLogSettings) -> io::Result<Arc<Self>> {
        let sink = match &settings.path {
            None => Sink::stdout()?,
            Some(path) => Sink::file(path).map_err(|error| said_of(path, &error))?,
        };
        let write = match settings.format {
            AccessFormat::Json => json::write,
            AccessFormat::Combined => combined::write,
        };
        let manner = Manner { name: "access-log", dropped: &lines::ACCESS, rest: REST };
        let lines = Lines::start(manner, sink, move |facts: Box<Facts>, out| write(&facts, out))?;
        let sample = (settings.sample.as_f64() * 4_294_967_296.0) as u64;
        Ok(Arc::new(Self { lines, sample, seen: AtomicU64::new(0) }))
    }

    /// Errors, and what breaks off, are always written.
    fn take(&self, facts: Box<Facts>) {
        if facts.is_error() || self.is_sampled() {
            self.lines.push(facts);
        }
    }

    fn is_sampled(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        (spread(number) >> 32) < self.sample
    }

    /// Waits until what was said so far is written, but not for long.
    pub fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.lines.flush(PATIENCE);
    }
}

/// A number that looks like chance, for each number: requests that come in turns are sampled alike.
fn spread(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn said_of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the access log {} can't be written: {error}", path.display()))
}

#[cfg(test)]
mod tests;
