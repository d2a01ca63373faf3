//! Wall-clock cost of single parts: those of a hit, reading a content for its tags, naming a write's targets, merging what
//! concerns one caller, and observing. One thread; compare figures of one machine only. Nothing is held to a bound here.
//!
//! `cargo bench --bench parts`

mod content;
mod hit;
mod observation;
mod overlay;
mod write;

use std::error::Error;
use std::time::{Duration, Instant};

use larder::clock::Timestamp;
use larder::stored_response::Terms;

/// Any error of a measurement.
pub type Failure = Box<dyn Error>;

/// Minimum duration of a round: shorter parts are repeated, since reading the clock takes time.
const ROUND: Duration = Duration::from_micros(50);

fn main() -> Result<(), Failure> {
    hit::measure()?;
    println!();
    content::measure()?;
    println!();
    write::measure()?;
    println!();
    overlay::measure()?;
    println!();
    observation::measure()
}

/// The least of many rounds: what else the machine does only adds.
pub fn timed(mut work: impl FnMut()) -> Duration {
    let mut round = |times: u32| {
        let begin = Instant::now();
        (0..times).for_each(|_| work());
        begin.elapsed()
    };
    let once = round(10) / 10;
    let times = u32::try_from(ROUND.as_nanos() / once.as_nanos().max(1)).unwrap_or(1).max(1);
    let end = Instant::now() + Duration::from_millis(1500);
    let mut least = Duration::MAX;
    while Instant::now() < end {
        least = least.min(round(times));
    }
    least / times
}

/// Terms of a response that arrived at `now` and is fresh for `lasts`.
pub fn fresh(now: Timestamp, lasts: Duration) -> Terms {
    let unstored = Terms::unstored(now, now);
    Terms { freshness_lifetime: lasts, always_validate: false, expires_at: now.plus(lasts), ..unstored }
}
