//! The limit on open file descriptors (`ulimit -n`), and how many client connections fit under it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File descriptors for everything but clients and the upstream: the admin listener, Redis, files.
const RESERVED_FDS: usize = 384;

/// Raises the limit as far as the user may, and returns how many of `connections` fit under it beside `upstream`
/// connections. A process without a free descriptor accepts nobody, operators included.
pub(crate) fn connections_within_fd_limit(connections: usize, upstream: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let room = files.saturating_sub(upstream + RESERVED_FDS).max(files / 4).max(1);
    if room < connections {
        tracing::warn!(
            files,
            connections = room,
            "limits.connections lowered: the limit on open files (ulimit -n) is too low for it"
        );
    }
    room.min(connections)
}
