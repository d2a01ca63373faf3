//! Timestamps of the two log formats.

use crate::clock::Timestamp;

/// `10/Oct/2000:13:55:36 +0000`
pub(super) fn format_clf(at: Timestamp) -> String {
    at.format("%d/%b/%Y:%H:%M:%S +0000")
}

/// `2000-10-10T13:55:36.123456Z`
pub(super) fn format_rfc3339(at: Timestamp) -> String {
    at.to_rfc3339(6)
}
