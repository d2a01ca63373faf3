//! Lifetimes while a source is silent: nothing that its events would purge is a hit for longer than `fallback_ttl`.

use std::sync::Arc;
use std::time::Duration;

use super::SourceConsumer;
use crate::clock::Moment;
use crate::metrics::SourceMetrics;
use crate::policy::Route;

/// By route index: the sources that purge the route's tags.
#[derive(Default)]
pub(crate) struct FallbackTtls(Box<[Vec<Fallback>]>);

/// A source, and the lifetime while it is silent.
type Fallback = (Arc<SourceMetrics>, Duration);

impl FallbackTtls {
    pub(super) fn new<'r>(
        sources: &[Arc<SourceConsumer>],
        routes: impl IntoIterator<Item = &'r Arc<Route>>,
    ) -> Self {
        let of_route = |route: &Arc<Route>| {
            let reaching = sources.iter().filter(|source| source.settings.rules.can_reach(route));
            let fallback = |source: &Arc<SourceConsumer>| {
                Some((source.metrics.clone(), source.settings.silence?.fallback_ttl))
            };
            reaching.filter_map(fallback).collect()
        };
        Self(routes.into_iter().map(of_route).collect())
    }

    /// Returns the shortest fallback lifetime of the route's silent sources.
    pub(crate) fn find(&self, index: usize) -> Option<Duration> {
        let sources = self.0.get(index)?;
        if sources.is_empty() {
            return None;
        }
        let now = Moment::now();
        sources.iter().filter(|(source, _)| source.is_silent(now)).map(|(_, fallback)| *fallback).min()
    }
}
