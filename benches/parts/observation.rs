//! Cost of `mode: observe` beside the request itself: of a read, its content, a write, and a request beyond the budget; the
//! share of a core where all bounds are reached; and the memory of a sketch that clients have filled.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use larder::clock::{Clock, Timestamp};
use larder::observation::{TrafficSketch, WriteRecorder};
use larder::policy::CallerFields;

use crate::Failure;

/// The bounds of `observation`: so many reads and so many writes.
const REQUESTS_PER_SECOND: f64 = 500.0;
const MEBIBYTES_PER_SECOND: f64 = 8.0;

/// Calls in a round.
const CALLS: u32 = 10_000;

/// A sketch under requests that differ in their number.
struct Traffic {
    sketch: Arc<TrafficSketch>,
    now: Timestamp,
    number: u64,
}

impl Traffic {
    fn new() -> Self {
        let now = Timestamp::from_secs(1_000_000);
        let sketch = TrafficSketch::new(&CallerFields::recognised(Vec::new(), Vec::new()), now);
        Self { sketch: Arc::new(sketch), now, number: 0 }
    }

    /// A read of an item by one of many callers, two milliseconds after the one before.
    fn read(&mut self, query: &str, content: &[u8]) -> Result<(), Failure> {
        self.number += 1;
        self.now = self.now.plus(Duration::from_millis(2));
        let number = self.number;
        let target: Uri =
            format!("/api/items/{}/notes?page={}{query}", number % 6_000, number % 3).parse()?;
        let mut headers = HeaderMap::new();
        let token = HeaderValue::try_from(format!("Bearer {}", number % 50))?;
        headers.insert(header::AUTHORIZATION, token);
        let Some(recorder) = self.sketch.begin_read(("h", &target), &headers, self.now) else {
            return Ok(());
        };
        let answered = self.now.plus(Duration::from_millis(20));
        if let Some(mut recorder) = recorder.with_answer(StatusCode::OK, &HeaderMap::new(), answered) {
            recorder.add(content);
            recorder.finish(true);
        }
        Ok(())
    }

    fn write(&mut self, path: &str) -> Result<(), Failure> {
        self.now = self.now.plus(Duration::from_millis(2));
        let clock = Clock::manual(self.now);
        let head = Request::builder().method(Method::PUT).uri(format!("/{path}")).body(())?.into_parts().0;
        drop(WriteRecorder::begin(&self.sketch, &head, &clock));
        Ok(())
    }
}

pub fn measure() -> Result<(), Failure> {
    let mut traffic = Traffic::new();
    // A sketch as full as it gets.
    for number in 0..100_000_u64 {
        if number % 4 == 0 {
            traffic.write("items/1")?;
        }
        traffic.read("", &number.to_le_bytes())?;
    }
    let read = mean(|| traffic.read("", b"one"))?;
    let content = vec![7; 16 << 10];
    let mebibyte = 64 * mean(|| traffic.read("", &content))?.saturating_sub(read);
    let write = mean(|| traffic.write("items/1"))?;
    let words: Vec<String> = ('a'..='p').flat_map(|a| ('a'..='p').map(move |b| format!("k{a}{b}"))).collect();
    let mut words = words.iter().cycle();
    let both = mean(|| {
        traffic.write(words.next().ok_or("no word")?)?;
        traffic.number %= 30;
        traffic.read("&a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8", b"one")
    })?;
    let (target, headers) = ("/api/items/7".parse()?, HeaderMap::new());
    let beyond = mean(|| {
        drop(black_box(traffic.sketch.begin_read(("h", &target), &headers, traffic.now)));
        Ok(())
    })?;
    println!("{:>32} {:>12}", "observation", "");
    for (name, cost) in [
        ("a read", read),
        ("a MiB of content", mebibyte),
        ("a write", write),
        ("a read and a write of 256 kinds", both),
        ("a read beyond the budget", beyond),
    ] {
        println!("{name:>32} {:>9} ns", cost.as_nanos());
    }
    let share = |cost: Duration| {
        100.0 * (cost.as_secs_f64() * REQUESTS_PER_SECOND + mebibyte.as_secs_f64() * MEBIBYTES_PER_SECOND)
    };
    println!("{:>32} {:>10.2} % of a core", "all bounds reached", share(read + write));
    println!("{:>32} {:>10.2} % of a core", "by the worst requests", share(both));
    memory()
}

/// The mean of many calls, in the best of some rounds: what else the machine does only adds.
fn mean(mut work: impl FnMut() -> Result<(), Failure>) -> Result<Duration, Failure> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let begin = Instant::now();
        for _ in 0..CALLS {
            work()?;
        }
        least = least.min(begin.elapsed() / CALLS);
    }
    Ok(least)
}

/// Fills a new sketch as clients might, and compares the memory of the process.
fn memory() -> Result<(), Failure> {
    let before = resident_kib()?;
    let mut traffic = Traffic::new();
    for number in 0..200_000_u32 {
        let parameters: String = (0..10).map(|at| format!("&p{}={number}", (number + at) % 97)).collect();
        traffic.read(&parameters, &number.to_le_bytes())?;
        traffic.write("items/1")?;
    }
    let report = traffic.sketch.report(traffic.now);
    let grown = resident_kib()?.saturating_sub(before);
    println!("{:>32} {:>10.1} MiB, {:.1} MiB as it reports", "memory", f64::from(grown) / 1024.0, {
        report.memory_bytes as f64 / 1_048_576.0
    });
    Ok(())
}

/// The resident memory of this process.
fn resident_kib() -> Result<u32, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
