//! A notice of the dashboard, and how numbers are written in it.

use std::time::Duration;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Notice {
    pub level: NoticeLevel,
    pub text: String,
}

/// Severity of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NoticeLevel {
    /// Clients are affected, or may get stale responses.
    Trouble,
    /// The service works with reduced efficiency.
    Warning,
    /// Informational.
    Notice,
}

pub(super) fn push_notice(notes: &mut Vec<Notice>, level: NoticeLevel, text: impl Into<String>) {
    notes.push(Notice { level, text: text.into() });
}

pub(super) fn count_noun(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Formats with a resolution of a second, from one second on.
pub(super) fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
