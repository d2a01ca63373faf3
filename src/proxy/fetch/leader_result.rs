//! The result of a fetch for the request that leads it.

use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};

use super::super::body::Body;
use super::super::shared_body::BodyReader;
use super::super::single_flight::InFlightResponse;
use crate::policy::not_stored::NotStored;
use crate::stored_response::StoredResponse;

/// The leader's own result of a fetch, which no follower gets.
pub(in crate::proxy) enum LeaderResult {
    /// A reader at the start of the shared body.
    Reader { shared: Arc<InFlightResponse>, reader: BodyReader },
    /// The upstream confirmed the stored response.
    Freshened { stored: StoredResponse, dropped: HeaderMap },
    /// The response is not to be shared.
    Response { response: Response<Body>, not_stored: NotStored },
}

impl LeaderResult {
    pub(in crate::proxy) fn status(&self) -> StatusCode {
        match self {
            LeaderResult::Reader { shared, .. } => shared.head.status,
            LeaderResult::Freshened { stored, .. } => stored.head.status,
            LeaderResult::Response { response, .. } => response.status(),
        }
    }
}
