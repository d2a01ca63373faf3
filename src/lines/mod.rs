//! Lines on their way out of the process: a bounded queue, and a thread of its own that writes.
//!
//! Whoever has a line to say never waits: a pipe that nobody reads and a full disk cost lines, which are counted.

mod sink;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

pub use sink::Sink;

/// So many lines wait to be written.
const MOST: usize = 16 * 1024;

/// As much is written at a time.
const BATCH: usize = 64 * 1024;

/// The way in. Each line is an item until the writing thread makes a line of it.
pub struct Lines<T> {
    queue: SyncSender<Message<T>>,
    dropped: &'static Dropped,
}

enum Message<T> {
    Line(T),
    /// Wants to know when all before it is written.
    Flush(SyncSender<()>),
}

/// How many lines were lost, of one kind, in this process.
#[derive(Debug)]
pub struct Dropped(AtomicU64);

/// Of the log, and of the access log.
pub static LOG: Dropped = Dropped(AtomicU64::new(0));
pub static ACCESS: Dropped = Dropped(AtomicU64::new(0));

impl Dropped {
    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a thread writes.
pub struct Manner {
    /// The thread's.
    pub name: &'static str,
    pub dropped: &'static Dropped,
    /// So long it rests after each time, so that many lines are written at once.
    pub rest: Duration,
}

impl<T: Send + 'static> Lines<T> {
    /// Lines go to `sink`, each as `write` writes it, until the last handle is dropped.
    pub fn start(
        manner: Manner,
        sink: Sink,
        write: impl FnMut(T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(MOST);
        let Manner { name, dropped, rest } = manner;
        let thread = thread::Builder::new().name(name.into());
        thread.spawn(move || write_out(&waiting, sink, write, dropped, rest))?;
        Ok(Self { queue, dropped })
    }

    /// Never waits: if there is no room, the line is lost.
    pub fn push(&self, item: T) {
        if self.queue.try_send(Message::Line(item)).is_err() {
            self.dropped.add(1);
        }
    }

    /// Waits until all so far is written, but not for long.
    pub fn flush(&self, patience: Duration) {
        const AGAIN: Duration = Duration::from_millis(2);
        let end = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        while self.queue.try_send(Message::Flush(done.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(AGAIN);
        }
        _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn write_out<T>(
    waiting: &Receiver<Message<T>>,
    mut sink: Sink,
    mut write: impl FnMut(T, &mut Vec<u8>),
    dropped: &Dropped,
    rest: Duration,
) {
    let mut batch = Vec::new();
    let mut torn = false;
    while let Ok(first) = waiting.recv() {
        let (mut next, mut lines, mut asked) = (Some(first), 0, Vec::new());
        if torn {
            // The next line begins on a line of its own.
            batch.push(b'\n');
        }
        while let Some(message) = next {
            match message {
                Message::Line(item) => {
                    write(item, &mut batch);
                    lines += 1;
                }
                Message::Flush(done) => asked.push(done),
            }
            next = if batch.len() < BATCH { waiting.try_recv().ok() } else { None };
        }
        sink.follow();
        let written = write_all(&mut sink, &batch);
        if let Err(left) = written {
            let gone = &batch[..batch.len() - left];
            let ends = gone.iter().filter(|byte| **byte == b'\n').count() as u64;
            // The first end may be that of the torn line, which is counted already.
            dropped.add(u64::saturating_sub(lines, ends.saturating_sub(u64::from(torn))));
            torn = gone.last().map_or(torn, |last| *last != b'\n');
        } else {
            torn = false;
        }
        batch.clear();
        let is_asked = !asked.is_empty();
        asked.into_iter().for_each(|done| _ = done.send(()));
        if !is_asked && !rest.is_zero() {
            thread::sleep(rest);
        }
    }
}

/// `Err`: so many bytes could not be written.
fn write_all(sink: &mut Sink, mut bytes: &[u8]) -> Result<(), usize> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err(bytes.len()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(bytes.len()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
