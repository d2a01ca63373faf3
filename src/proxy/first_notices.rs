//! Says once, for each route and field, that a response is not shared or not stored whole because of the field.

use std::collections::HashSet;

use http::HeaderName;
use parking_lot::Mutex;

use crate::policy::Route;

/// Clients and upstreams choose names, so no more are remembered, and none beyond them is said.
const MAX_NOTICES: usize = 256;

#[derive(Default)]
pub(super) struct FirstNotices(Mutex<HashSet<(usize, HeaderName)>>);

impl FirstNotices {
    /// A request field kept a response from being shared.
    pub(super) fn record_credential(&self, route: &Route, field: &HeaderName) {
        if self.is_first(route, field) {
            tracing::info!(
                route = &*route.name,
                %field,
                "responses are not shared: the request has a field that identifies its caller (`credentials`)"
            );
        }
    }

    /// A response field is not stored.
    pub(super) fn record_dropped(&self, route: &Route, field: &HeaderName) {
        if self.is_first(route, field) {
            tracing::info!(
                route = &*route.name,
                %field,
                "response field not stored: it speaks to one caller (`drop_response`)"
            );
        }
    }

    fn is_first(&self, route: &Route, field: &HeaderName) -> bool {
        let mut known = self.0.lock();
        known.len() < MAX_NOTICES && known.insert((route.index, field.clone()))
    }
}
