//! How many files the process may have open, connections among them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is open beside the connections of clients and to the upstream: the admin listener's, Redis', files.
const OTHERS: usize = 384;

/// Raises the limit as far as this user may, and says how many of `connections` clients fit under it beside
/// `upstream` connections. Without room for more nobody could be accepted, and neither could an operator.
pub fn room_for(connections: usize, upstream: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    let room = files.saturating_sub(upstream + OTHERS).max(files / 4).max(1);
    if room < connections {
        tracing::warn!(
            files,
            connections = room,
            "fewer connections than `limits.connections` are taken: the limit on open files (`ulimit -n`) is low"
        );
    }
    room.min(connections)
}
