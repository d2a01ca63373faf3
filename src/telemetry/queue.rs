//! The items that wait for the exporting thread.

use std::sync::mpsc::SyncSender;

use tracing::Level;

use super::{AttributeValue, EndedSpan};
use crate::clock::Timestamp;

pub(super) enum Item {
    Span(Box<EndedSpan>),
    Log(LogRecord),
    /// Everything before it is sent, and the sender is dropped.
    Flush(SyncSender<()>),
}

/// An event of the log.
pub(super) struct LogRecord {
    pub at: Timestamp,
    pub level: Level,
    /// The module.
    pub target: &'static str,
    pub message: String,
    pub fields: Vec<(&'static str, AttributeValue)>,
}
