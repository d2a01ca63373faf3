//! What a request makes invalid: the route rules, RFC 9111 §4.4, and PURGE.

use http::{HeaderMap, StatusCode};

use super::RequestHead;
use super::routes::Routes;
use crate::purge::{Hardness, Target};

/// What a write purges, as far as its request tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTargets {
    pub targets: Vec<Target>,
    /// Templates that found no value and were widened.
    pub widened: usize,
}

/// `parents`: a write that no route matches also purges the cached paths it lies under.
pub fn of_write(_routes: &Routes, _request: &RequestHead<'_>, _parents: bool) -> WriteTargets {
    todo!()
}

/// RFC 9111 §4.4: `Location` and `Content-Location` of the same origin.
pub fn of_write_response(_request: &RequestHead<'_>, _response_headers: &HeaderMap) -> Vec<Target> {
    todo!()
}

/// How a write ended, and whether it may have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// 2xx, 3xx; also 500: it may have happened, and it is over.
    Purge,
    /// 502, 504, or no response at all: it may still happen.
    PurgeInDoubt,
    /// 4xx: it did not happen.
    Nothing,
}

impl WriteEnd {
    pub fn of(_status: StatusCode) -> Self {
        todo!()
    }
}

/// `PURGE /p`, `/p?q`, `/p/*`, or by `Cache-Tag` / `Surrogate-Key`; `Purge-Mode: soft`. The error is for the client.
pub fn of_purge_request(
    _routes: &Routes,
    _request: &RequestHead<'_>,
    _absolute: bool,
) -> Result<(Vec<Target>, Hardness), String> {
    todo!()
}
