use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::*;

static LOST: DroppedLines = DroppedLines(AtomicU64::new(0));

const FLUSH_TIMEOUT: Duration = Duration::from_secs(20);

impl QueuedLine for String {
    fn bytes(&self) -> usize {
        self.capacity()
    }
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("larder-lines-{}-{name}", std::process::id()));
    _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn lines(sink: Sink, dropped: &'static DroppedLines) -> LogWriter<String> {
    lines_with(sink, dropped, |_| ())
}

fn lines_with(
    sink: Sink,
    dropped: &'static DroppedLines,
    on_change: impl Fn(SinkChange) + Send + 'static,
) -> LogWriter<String> {
    let on_change = Box::new(on_change);
    let manner = WriterOptions { name: "lines", dropped, batch_interval: Duration::ZERO, on_change };
    LogWriter::spawn(manner, sink, |line: String, out| {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    })
    .unwrap()
}

#[test]
fn a_file_that_is_renamed_is_made_anew_and_no_line_is_lost() {
    let directory = directory("renamed");
    let (path, old) = (directory.join("access.log"), directory.join("access.log.1"));
    let log = lines(Sink::open_file(&path).unwrap(), &LOST);
    log.try_send("one".into());
    log.flush(FLUSH_TIMEOUT);
    std::fs::rename(&path, &old).unwrap();
    log.try_send("two".into());
    log.flush(FLUSH_TIMEOUT);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "one\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    // Another file has the name already, as with `create` of logrotate.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    log.try_send("three".into());
    log.flush(FLUSH_TIMEOUT);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn while_its_directory_is_gone_the_renamed_file_goes_on() {
    let directory = directory("gone");
    let (inner, elsewhere) = (directory.join("logs"), directory.join("moved"));
    std::fs::create_dir(&inner).unwrap();
    let log = lines(Sink::open_file(&inner.join("a")).unwrap(), &LOST);
    std::fs::rename(&inner, &elsewhere).unwrap();
    log.try_send("one".into());
    log.flush(FLUSH_TIMEOUT);
    assert_eq!(std::fs::read_to_string(elsewhere.join("a")).unwrap(), "one\n");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
    static BLOCKED: DroppedLines = DroppedLines(AtomicU64::new(0));
    let (mut reader, writer) = io::pipe().unwrap();
    let sink = Sink::from_file(std::os::fd::OwnedFd::from(writer).into());
    let log = lines(sink, &BLOCKED);
    let pushed = 2 * QUEUE_CAPACITY as u64;
    for number in 0..pushed {
        log.try_send(format!("{number:0100}"));
    }
    let dropped = BLOCKED.count();
    assert!(dropped > 0);
    log.flush(Duration::from_millis(1));
    // The rest comes whole as soon as somebody reads.
    drop(log);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!(read.lines().count() as u64, pushed - dropped);
    assert!(read.lines().all(|line| line.len() == 100));
}

#[test]
fn few_long_lines_fill_the_queue() {
    static LONG: DroppedLines = DroppedLines(AtomicU64::new(0));
    let (mut reader, writer) = io::pipe().unwrap();
    let log = lines(Sink::from_file(std::os::fd::OwnedFd::from(writer).into()), &LONG);
    let (pushed, size) = (100, 1 << 20);
    for _ in 0..pushed {
        log.try_send("x".repeat(size));
    }
    // One is in the writer's hands.
    let most = (QUEUE_BYTES / size) as u64 + 1;
    assert!(LONG.count() >= pushed - most, "{} dropped", LONG.count());
    assert!(log.waiting.load(Ordering::Relaxed) <= QUEUE_BYTES);
    let reads = thread::spawn(move || {
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        read.lines().filter(|line| line.len() == size).count() as u64
    });
    log.flush(FLUSH_TIMEOUT);
    assert_eq!(log.waiting.load(Ordering::Relaxed), 0);
    let dropped = LONG.count();
    log.try_send("there is room again".into());
    assert_eq!(LONG.count(), dropped);
    drop(log);
    assert_eq!(reads.join().unwrap(), pushed - dropped);
}

#[test]
fn a_full_disk_costs_the_lines_that_did_not_fit() {
    static FULL: DroppedLines = DroppedLines(AtomicU64::new(0));
    let (failed, failures) = std::sync::mpsc::channel();
    let sink = Sink::from_file(File::options().write(true).open("/dev/full").unwrap());
    let log = lines_with(sink, &FULL, move |change| match change {
        SinkChange::Failed(error) => failed.send(error.kind()).unwrap(),
        SinkChange::Recovered => panic!("it is full"),
    });
    for _ in 0..3 {
        log.try_send("lost".into());
        log.flush(FLUSH_TIMEOUT);
    }
    assert_eq!(FULL.count(), 3);
    assert_eq!(failures.try_iter().collect::<Vec<_>>(), [io::ErrorKind::StorageFull]);
}
