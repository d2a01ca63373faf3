//! The access log: one line per request. Records are filled while a request is answered; a thread of its own formats
//! and writes them, and drops them if it cannot keep up.

mod combined;
mod entry;
mod json;
mod time;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use entry::{AccessLogEntry, AccessRecord, ResponseInfo, UpstreamTime};

use entry::ClientText;

use crate::config::{AccessFormat, AccessLogSettings};
use crate::log_writer::{self, LogWriter, QueuedLine, Sink, SinkChange, WriterOptions};
use crate::sampler::Sampler;

/// Pause between batches: waking the thread for each line would cost more than the line.
const BATCH_INTERVAL: Duration = Duration::from_millis(5);

pub(crate) struct AccessLog {
    lines: LogWriter<Box<AccessRecord>>,
    sampler: Sampler,
}

impl AccessLog {
    pub(crate) fn open(settings: &AccessLogSettings) -> io::Result<Arc<Self>> {
        let sink = match &settings.path {
            None => Sink::stdout()?,
            Some(path) => Sink::open_file(path).map_err(|error| open_error(path, &error))?,
        };
        let write = match settings.format {
            AccessFormat::Json => json::write,
            AccessFormat::Combined => combined::write,
        };
        let manner = WriterOptions {
            name: "access-log",
            dropped: &log_writer::ACCESS_LOG_DROPPED,
            batch_interval: BATCH_INTERVAL,
            on_change: Box::new(log_change(settings.path.as_deref())),
        };
        let lines = LogWriter::spawn(manner, sink, move |facts: Box<AccessRecord>, out| write(&facts, out))?;
        Ok(Arc::new(Self { lines, sampler: Sampler::new(settings.sample) }))
    }

    /// Errors and aborted responses are always written.
    fn write(&self, facts: Box<AccessRecord>) {
        if facts.is_error() || self.sampler.is_sampled() {
            self.lines.try_send(facts);
        }
    }

    /// Waits until the lines so far are written, with a bound.
    pub(crate) fn flush(&self) {
        const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
        self.lines.flush(FLUSH_TIMEOUT);
    }
}

impl QueuedLine for Box<AccessRecord> {
    fn bytes(&self) -> usize {
        AccessRecord::bytes(self)
    }
}

fn log_change(path: Option<&Path>) -> impl Fn(SinkChange) + Send + use<> {
    let path = path.map_or_else(|| "stdout".to_owned(), |path| path.display().to_string());
    move |change| match change {
        SinkChange::Failed(error) => {
            tracing::error!(%path, %error, "access log cannot be written; its lines are dropped");
        }
        SinkChange::Recovered => {
            let dropped = log_writer::ACCESS_LOG_DROPPED.count();
            tracing::info!(%path, dropped, "access log is written again");
        }
    }
}

fn open_error(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write the access log {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
