//! What the silence of a source means: nothing that its events would purge is a hit for longer than `fallback_ttl`.

use std::sync::Arc;
use std::time::Duration;

use super::Source;
use crate::clock::Moment;
use crate::metrics::SourceFigures;
use crate::policy::Route;

/// By the route's index: the sources that purge its tags.
#[derive(Default)]
pub struct Fallbacks(Box<[Vec<Fallback>]>);

/// A source, and the lifetime while it is silent.
type Fallback = (Arc<SourceFigures>, Duration);

impl Fallbacks {
    pub(super) fn of<'r>(sources: &[Arc<Source>], routes: impl IntoIterator<Item = &'r Arc<Route>>) -> Self {
        let of_route = |route: &Arc<Route>| {
            let reaching = sources.iter().filter(|source| source.settings.rule.reaches(route));
            let fallback =
                |source: &Arc<Source>| Some((source.figures.clone(), source.settings.silence?.fallback_ttl));
            reaching.filter_map(fallback).collect()
        };
        Self(routes.into_iter().map(of_route).collect())
    }

    /// The lifetime that holds now, if one of its sources is silent; the strictest.
    pub fn of_route(&self, index: usize) -> Option<Duration> {
        let sources = self.0.get(index)?;
        if sources.is_empty() {
            return None;
        }
        let now = Moment::now();
        sources.iter().filter(|(source, _)| source.is_silent(now)).map(|(_, fallback)| *fallback).min()
    }
}
