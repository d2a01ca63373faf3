//! Asynchronous line writer: a queue that is bounded in lines and in bytes, and a writing thread.
//!
//! Callers never block. If the sink is slow or fails, lines are dropped and counted.

mod outage;
mod sink;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use outage::OutageReport;
pub(crate) use sink::Sink;

/// Capacity of the queue, in lines.
const QUEUE_CAPACITY: usize = 16 * 1024;

/// Capacity of the queue, in bytes.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes after which a batch is written.
const BATCH_BYTES: usize = 64 * 1024;

/// Handle to the queue. The writing thread formats the items.
pub(crate) struct LogWriter<T> {
    queue: SyncSender<QueueItem<T>>,
    /// Bytes of the lines in the queue.
    waiting: Arc<AtomicUsize>,
    dropped: &'static DroppedLines,
}

/// A line in the queue.
pub(crate) trait QueuedLine: Send + 'static {
    /// The memory that it takes.
    fn bytes(&self) -> usize;
}

impl QueuedLine for Vec<u8> {
    fn bytes(&self) -> usize {
        self.capacity()
    }
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
    /// Pause after each batch that is not full, so that lines are written together.
    pub batch_interval: Duration,
    /// Called once for each change, by the thread.
    pub on_change: Box<dyn Fn(SinkChange) + Send>,
}

pub(crate) enum SinkChange {
    Failed(io::Error),
    Recovered,
}

impl<T: QueuedLine> LogWriter<T> {
    /// Starts the thread, which writes items to `sink` as formatted by `write` until the last handle is dropped.
    pub(crate) fn spawn(
        manner: WriterOptions,
        sink: Sink,
        write: impl FnMut(T, &mut Vec<u8>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, items) = sync_channel(QUEUE_CAPACITY);
        let (waiting, dropped) = (Arc::<AtomicUsize>::default(), manner.dropped);
        let thread = thread::Builder::new().name(manner.name.into());
        let queued = QueueReceiver { items, waiting: waiting.clone() };
        thread.spawn(move || run_writer(&queued, sink, write, &manner))?;
        Ok(Self { queue, waiting, dropped })
    }

    /// Queues a line, or drops it if the queue is full.
    pub(crate) fn try_send(&self, item: T) {
        let bytes = item.bytes();
        let is_over = self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES;
        if is_over || self.queue.try_send(QueueItem::Line(item)).is_err() {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
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

/// The other end of the queue.
struct QueueReceiver<T> {
    items: Receiver<QueueItem<T>>,
    waiting: Arc<AtomicUsize>,
}

fn run_writer<T: QueuedLine>(
    queued: &QueueReceiver<T>,
    mut sink: Sink,
    mut write: impl FnMut(T, &mut Vec<u8>),
    options: &WriterOptions,
) {
    let (mut batch, mut outage) = (Vec::new(), OutageReport::default());
    let mut torn = false;
    while let Ok(first) = queued.items.recv() {
        let (mut next, mut lines, mut asked) = (Some(first), 0, Vec::new());
        if torn {
            // Terminate the torn line.
            batch.push(b'\n');
        }
        while let Some(message) = next {
            match message {
                QueueItem::Line(item) => {
                    queued.waiting.fetch_sub(item.bytes(), Ordering::Relaxed);
                    write(item, &mut batch);
                    lines += 1;
                }
                QueueItem::Flush(done) => asked.push(done),
            }
            next = if batch.len() < BATCH_BYTES { queued.items.try_recv().ok() } else { None };
        }
        sink.reopen_if_moved();
        let written = write_all(&mut sink, &batch);
        if let Err((left, _)) = written {
            let gone = &batch[..batch.len() - left];
            let ends = gone.iter().filter(|byte| **byte == b'\n').count() as u64;
            // The first line end may belong to the torn line, which is already counted.
            options.dropped.add(u64::saturating_sub(lines, ends.saturating_sub(u64::from(torn))));
            torn = gone.last().map_or(torn, |last| *last != b'\n');
        } else {
            torn = false;
        }
        if outage.record(written.is_err(), Instant::now()) {
            let change = written.err().map_or(SinkChange::Recovered, |(_, error)| SinkChange::Failed(error));
            (options.on_change)(change);
        }
        let is_full = batch.len() >= BATCH_BYTES;
        batch.clear();
        let is_asked = !asked.is_empty();
        asked.into_iter().for_each(|done| _ = done.send(()));
        if !is_asked && !is_full && !options.batch_interval.is_zero() {
            thread::sleep(options.batch_interval);
        }
    }
}

/// `Err` holds the number of bytes not written, and why.
fn write_all(sink: &mut Sink, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => return Err((bytes.len(), io::ErrorKind::WriteZero.into())),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((bytes.len(), error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
