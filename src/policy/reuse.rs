//! RFC 9111 §4: may this stored response answer this request?

use std::time::Duration;

use super::RequestHead;
use super::classify::Lookup;
use crate::clock::Timestamp;
use crate::stored_response::StoredHead;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh {
        age: Duration,
        ttl: i64,
    },
    /// Stale, and may be served at once while it is validated in the background.
    StaleWhileRevalidate {
        age: Duration,
        ttl: i64,
    },
    /// Must be validated first. `if_error`: may be served stale should the upstream fail.
    Validate {
        age: Duration,
        ttl: i64,
        if_error: bool,
    },
    No(NoReuse),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoReuse {
    /// Under another key than asked for, or stored under other route rules.
    Foreign,
    /// The caller sends credentials, and the response is not marked as shared.
    Credentials,
    /// So old that it is of no use any more.
    Expired,
}

/// `soft_purged`: it counts as stale from now on.
pub fn assess(
    _stored: &StoredHead,
    _lookup: &Lookup<'_>,
    _request: &RequestHead<'_>,
    _soft_purged: bool,
    _now: Timestamp,
) -> Reuse {
    todo!()
}
