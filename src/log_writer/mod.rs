//! Asynchronous line writer: a bounded queue and a writing thread.
//!
//! Callers never block. If the sink is slow or fails, lines are dropped and counted.

mod sink;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use sink::Sink;

/// Capacity of the queue, in lines.
const QUEUE_CAPACITY: usize = 16 * 1024;

/// Bytes after which a batch is written.
const BATCH_BYTES: usize = 64 * 1024;

/// Handle to the queue. The writing thread formats the items.
pub(crate) struct LogWriter<T> {
    queue: SyncSender<QueueItem<T>>,
    dropped: &'static DroppedLines,
}

enum QueueItem<T> {
    Line(T),
    /// Acknowledged when all items before it are written.
    Flush(SyncSender<()>),
}

/// Number of lines dropped in this process.
#[derive(Debug)]
pub(crate) struct DroppedLines(AtomicU64);

/// Counters of the log and of the access log.
pub(crate) static LOG_DROPPED: DroppedLines = DroppedLines(AtomicU64::new(0));
pub(crate) static ACCESS_LOG_DROPPED: DroppedLines = DroppedLines(AtomicU64::new(0));

impl DroppedLines {
    fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Options of a writing thread.
pub(crate) struct WriterOptions {
    /// Name of the thread.
    pub name: &'static str,
    pub dropped: &'static DroppedLines,
    /// Pause after each batch, so that lines are written together.
    pub batch_interval: Duration,
}

impl<T: Send + 'static> LogWriter<T> {
    /// Starts the thread, which writes items to `sink` as formatted by `write` until the last handle is dropped.
    pub(crate) fn spawn(
        manner: WriterOptions,
        sink: Sink,
        write: impl FnMut(T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE_CAPACITY);
        let WriterOptions { name, dropped, batch_interval: rest } = manner;
        let thread = thread::Builder::new().name(name.into());
        thread.spawn(move || run_writer(&waiting, sink, write, dropped, rest))?;
        Ok(Self { queue, dropped })
    }

    /// Queues a line, or drops it if the queue is full.
    pub(crate) fn try_send(&self, item: T) {
        if self.queue.try_send(QueueItem::Line(item)).is_err() {
            self.dropped.add(1);
        }
    }

    /// Waits until the lines so far are written, up to `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
        const AGAIN: Duration = Duration::from_millis(2);
        let end = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        while self.queue.try_send(QueueItem::Flush(done.clone())).is_err() {
            if Instant::now() >= end {
                return;
            }
            thread::sleep(AGAIN);
        }
        _ = written.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

fn run_writer<T>(
    waiting: &Receiver<QueueItem<T>>,
    mut sink: Sink,
    mut write: impl FnMut(T, &mut Vec<u8>),
    dropped: &DroppedLines,
    rest: Duration,
) {
    let mut batch = Vec::new();
    let mut torn = false;
    while let Ok(first) = waiting.recv() {
        let (mut next, mut lines, mut asked) = (Some(first), 0, Vec::new());
        if torn {
            // Terminate the torn line.
            batch.push(b'\n');
        }
        while let Some(message) = next {
            match message {
                QueueItem::Line(item) => {
                    write(item, &mut batch);
                    lines += 1;
                }
                QueueItem::Flush(done) => asked.push(done),
            }
            next = if batch.len() < BATCH_BYTES { waiting.try_recv().ok() } else { None };
        }
        sink.reopen_if_moved();
        let written = write_all(&mut sink, &batch);
        if let Err(left) = written {
            let gone = &batch[..batch.len() - left];
            let ends = gone.iter().filter(|byte| **byte == b'\n').count() as u64;
            // The first line end may belong to the torn line, which is already counted.
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

/// `Err` holds the number of bytes not written.
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
