//! All metric names and labels. Handles are kept by route, so that counting on a hit is an atomic add.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::Route;
use crate::policy::cache_status::Outcome;
use crate::store::Figures;

#[derive(Debug, Default)]
pub struct Metrics {}

/// Who asked for a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PurgeSource {
    Write,
    PurgeMethod,
    Admin,
}

impl Metrics {
    pub fn new(_routes: &[Arc<Route>]) -> Self {
        todo!()
    }

    /// One request that was answered with `status`. `route` is the index of its route.
    pub fn request(&self, _route: Option<usize>, _outcome: &Outcome, _status: http::StatusCode) {
        todo!()
    }

    /// From the request's last byte to the upstream's header section.
    pub fn upstream(&self, _latency: Duration) {
        todo!()
    }

    pub fn upstream_failed(&self, _reason: &'static str) {
        todo!()
    }

    /// A purge of `targets` targets. A write's counts as an invalidation of its route's namespace.
    pub fn purged(&self, _source: PurgeSource, _route: Option<usize>, _targets: usize) {
        todo!()
    }

    /// Templates of a write that found no value and were widened.
    pub fn widened(&self, _templates: usize) {
        todo!()
    }

    /// A response was stored, or why not.
    pub fn filled(&self, _route: usize, _result: Result<u64, crate::policy::storing::NotStored>) {
        todo!()
    }

    /// Prometheus text format; `figures` are the store's.
    pub fn render(&self, _figures: &Figures) -> String {
        todo!()
    }
}
