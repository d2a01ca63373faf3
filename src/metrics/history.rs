//! The last hour in samples by route, for the dashboard. The number of samples and of routes in each is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::latency::LatencySnapshot;
use super::{Metrics, RouteSnapshot, UpstreamCounts};
use crate::clock::Timestamp;

/// Interval between samples.
pub(crate) const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// One hour.
const MAX_SAMPLES: usize = 360;

const SAMPLES_PER_MINUTE: usize = 6;

/// Each sample keeps its busiest routes.
const MAX_ROUTES_PER_SAMPLE: usize = 100;

#[derive(Debug, Default)]
pub(super) struct MetricsHistory(Mutex<SampleRing>);

#[derive(Debug, Default)]
struct SampleRing {
    /// Totals at the last sample.
    previous: BTreeMap<Arc<str>, RouteTotals>,
    previous_upstream: UpstreamCounts,
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug, Default)]
struct RouteTotals {
    requests: u64,
    hits: u64,
    misses: u64,
    latencies: LatencySnapshot,
}

/// Counts between two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sample {
    /// End of the interval.
    pub at: Timestamp,
    pub upstream: UpstreamCounts,
    /// Routes with requests in the interval.
    pub routes: Vec<(Arc<str>, RouteSample)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RouteSample {
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    /// Seconds until the response head, over all outcomes.
    pub p50: f64,
    pub p95: f64,
}

impl Metrics {
    /// Records a sample of the interval that ends now.
    pub(crate) fn record_sample(&self, now: Timestamp) {
        let snapshot = self.snapshot();
        let totals = snapshot.routes.iter().map(|route| (route.name.clone(), RouteTotals::new(route)));
        self.process.history.add(now, totals.collect(), self.upstream_counts());
    }

    /// How upstream requests ended in the last minute, up to now.
    pub(crate) fn recent_upstream_counts(&self) -> UpstreamCounts {
        let total = self.upstream_counts();
        let ring = self.process.history.0.lock();
        let sampled = ring.samples.iter().rev().take(SAMPLES_PER_MINUTE).map(|sample| sample.upstream);
        sampled.fold(total.since(ring.previous_upstream), UpstreamCounts::plus)
    }

    /// Samples in chronological order.
    pub(crate) fn history(&self) -> Vec<Sample> {
        self.process.history.0.lock().samples.iter().cloned().collect()
    }
}

impl MetricsHistory {
    fn add(&self, at: Timestamp, totals: Vec<(Arc<str>, RouteTotals)>, upstream: UpstreamCounts) {
        let mut ring = self.0.lock();
        let mut routes: Vec<_> = totals
            .into_iter()
            .map(|(name, totals)| {
                let before = ring.previous.insert(name.clone(), totals).unwrap_or_default();
                (name, totals.delta_since(&before))
            })
            .filter(|(_, route)| route.requests > 0)
            .collect();
        routes.sort_by_key(|(_, route)| std::cmp::Reverse(route.requests));
        routes.truncate(MAX_ROUTES_PER_SAMPLE);
        let recent = upstream.since(ring.previous_upstream);
        ring.previous_upstream = upstream;
        let kept = ring.samples.len().min(MAX_SAMPLES - 1);
        let gone = ring.samples.len() - kept;
        ring.samples.drain(..gone);
        ring.samples.push_back(Sample { at, upstream: recent, routes });
    }
}

impl RouteTotals {
    fn new(route: &RouteSnapshot) -> Self {
        Self {
            requests: route.requests(),
            hits: route.hits(),
            misses: route.misses(),
            latencies: route.from_store.merge(&route.from_upstream).merge(&route.from_larder),
        }
    }

    fn delta_since(&self, before: &Self) -> RouteSample {
        let latencies = self.latencies.since(&before.latencies);
        RouteSample {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            p50: latencies.quantile(0.5).unwrap_or_default(),
            p95: latencies.quantile(0.95).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(second: u64, requests: u64, history: &MetricsHistory) {
        let totals =
            RouteTotals { requests, hits: requests / 2, misses: requests / 4, ..RouteTotals::default() };
        let upstream = UpstreamCounts { failures: second, responses: 2 * second, errors: second };
        history.add(Timestamp::from_secs(second), vec![("a".into(), totals)], upstream);
    }

    #[test]
    fn a_sample_is_what_happened_since_the_one_before() {
        let history = MetricsHistory::default();
        for (second, requests) in [(10, 8), (20, 8), (30, 20)] {
            record(second, requests, &history);
        }
        let ring = history.0.lock();
        let seen: Vec<_> = ring
            .samples
            .iter()
            .map(|sample| sample.routes.first().map(|(_, route)| route.requests))
            .collect();
        assert_eq!(seen, [Some(8), None, Some(12)]);
        assert_eq!(ring.samples[2].routes[0].1.hits, 6);
        let upstream = UpstreamCounts { failures: 10, responses: 20, errors: 10 };
        assert_eq!(ring.samples[2].upstream, upstream);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = MetricsHistory::default();
        for second in 0..1000 {
            record(second, second, &history);
        }
        let ring = history.0.lock();
        assert_eq!((ring.samples.len(), ring.samples[0].at), (MAX_SAMPLES, Timestamp::from_secs(640)));
    }
}
