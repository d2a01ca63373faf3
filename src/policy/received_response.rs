//! A response as the upstream sent it, before anything is decided about it.

use http::{HeaderMap, StatusCode};

use super::freshness::ExchangeTimes;

/// The head of a response as it was received, `Age` included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedResponse<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub exchange: ExchangeTimes,
}
