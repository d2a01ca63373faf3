//! Hands larder's log to the exporter, beside the log itself.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use arc_swap::ArcSwapOption;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::AttributeValue;
use super::queue::{Item, LogRecord};
use crate::clock::Clock;

/// Longest text of a record, in bytes.
const MAX_TEXT_BYTES: usize = 4 * 1024;

/// Most fields of a record.
const MAX_FIELDS: usize = 32;

static QUEUE: ArcSwapOption<LogQueue> = ArcSwapOption::const_empty();

/// The way of log records to the exporting thread.
pub(super) struct LogQueue {
    pub queue: SyncSender<Item>,
    pub clock: Clock,
}

/// A layer of the process's subscriber. While no log is exported, an event costs one load.
pub(crate) struct LogLayer;

pub(super) fn set_log_queue(queue: LogQueue) {
    QUEUE.store(Some(Arc::new(queue)));
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(log) = &*QUEUE.load() else { return };
        let mut fields = FieldCollector::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let record = LogRecord {
            at: log.clock.now(),
            level: *metadata.level(),
            target: metadata.target(),
            message: fields.message,
            fields: fields.others,
        };
        // A record is dropped while the queue is full.
        _ = log.queue.try_send(Item::Log(record));
    }
}

#[derive(Default)]
struct FieldCollector {
    message: String,
    others: Vec<(&'static str, AttributeValue)>,
}

impl FieldCollector {
    fn add(&mut self, field: &Field, value: AttributeValue) {
        if self.others.len() < MAX_FIELDS {
            self.others.push((field.name(), value));
        }
    }
}

impl Visit for FieldCollector {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = value[..value.floor_char_boundary(MAX_TEXT_BYTES)].to_owned();
        match field.name() {
            "message" => self.message = text,
            _ => self.add(field, AttributeValue::Text(text)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, AttributeValue::Number(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, AttributeValue::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, AttributeValue::Flag(value));
    }
}
