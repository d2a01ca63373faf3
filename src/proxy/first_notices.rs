//! Says once, for each route and field, that a response is not shared or not stored whole because of the field; and once
//! for each route that its responses can't be merged.

use std::collections::HashSet;

use http::HeaderName;
use parking_lot::Mutex;

use crate::policy::Route;
use crate::policy::overlay::Mismatch;

/// Clients and upstreams choose names, so no more are remembered, and none beyond them is said.
const MAX_NOTICES: usize = 256;

/// The routes and the fields. `None`: the route's responses can't be merged.
#[derive(Default)]
pub(super) struct FirstNotices(Mutex<HashSet<(usize, Option<HeaderName>)>>);

impl FirstNotices {
    /// A request field kept a response from being shared.
    pub(super) fn record_credential(&self, route: &Route, field: &HeaderName) {
        if self.is_first(route, Some(field)) {
            tracing::info!(
                route = &*route.name,
                %field,
                "responses are not shared: the request has a field that identifies its caller (`credentials`)"
            );
        }
    }

    /// A response field is not stored.
    pub(super) fn record_dropped(&self, route: &Route, field: &HeaderName) {
        if self.is_first(route, Some(field)) {
            tracing::info!(
                route = &*route.name,
                %field,
                "response field not stored: it speaks to one caller (`drop_response`)"
            );
        }
    }

    /// A shared part does not have the form that the route's `overlay` describes.
    pub(super) fn record_unmerged(&self, route: &Route, mismatch: Mismatch) {
        if self.is_first(route, None) {
            tracing::warn!(
                route = &*route.name,
                reason = mismatch.as_str(),
                "response can't be merged as its route's `overlay` says: such requests are forwarded"
            );
        }
    }

    fn is_first(&self, route: &Route, field: Option<&HeaderName>) -> bool {
        let mut known = self.0.lock();
        known.len() < MAX_NOTICES && known.insert((route.index, field.cloned()))
    }
}
