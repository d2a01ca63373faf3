//! The last hour in samples, by route, so that who opens the dashboard sees where the figures come from.
//!
//! Bounded: so many samples, and so many routes in each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::labels::OUTCOMES;
use super::latency::Latencies;
use super::{Metrics, Namespace};
use crate::clock::Timestamp;

/// How often a sample is taken.
pub const EVERY: Duration = Duration::from_secs(10);

/// An hour.
const KEPT: usize = 360;

/// The busiest of each sample.
const ROUTES: usize = 100;

#[derive(Debug, Default)]
pub(super) struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// What had been counted when the last sample was taken.
    before: BTreeMap<Arc<str>, Totals>,
    failures_before: u64,
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    requests: u64,
    hits: u64,
    misses: u64,
    latencies: Latencies,
}

/// What happened between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// The second of them.
    pub at: Timestamp,
    pub upstream_failures: u64,
    /// Of each route that was asked for.
    pub routes: Vec<(Arc<str>, OfRoute)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OfRoute {
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    /// Seconds until the response began, whoever it came from.
    pub p50: f64,
    pub p95: f64,
}

impl Metrics {
    /// Takes the sample that is due now.
    pub fn sample(&self, now: Timestamp) {
        let totals = self.namespaces.iter().map(|namespace| (namespace.name.clone(), namespace.totals()));
        let failures = self.failures().values().sum();
        self.all.history.add(now, totals.collect(), failures);
    }

    /// The earliest first.
    pub fn history(&self) -> Vec<Sample> {
        self.all.history.0.lock().unwrap_or_else(PoisonError::into_inner).samples.iter().cloned().collect()
    }
}

impl History {
    fn add(&self, at: Timestamp, totals: Vec<(Arc<str>, Totals)>, failures: u64) {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut routes: Vec<_> = totals
            .into_iter()
            .map(|(name, totals)| {
                let before = ring.before.insert(name.clone(), totals).unwrap_or_default();
                (name, totals.since(&before))
            })
            .filter(|(_, route)| route.requests > 0)
            .collect();
        routes.sort_by_key(|(_, route)| std::cmp::Reverse(route.requests));
        routes.truncate(ROUTES);
        let upstream_failures = failures.saturating_sub(ring.failures_before);
        ring.failures_before = failures;
        let kept = ring.samples.len().min(KEPT - 1);
        let gone = ring.samples.len() - kept;
        ring.samples.drain(..gone);
        ring.samples.push_back(Sample { at, upstream_failures, routes });
    }
}

impl Totals {
    fn since(&self, before: &Self) -> OfRoute {
        let latencies = self.latencies.since(&before.latencies);
        OfRoute {
            requests: self.requests.saturating_sub(before.requests),
            hits: self.hits.saturating_sub(before.hits),
            misses: self.misses.saturating_sub(before.misses),
            p50: latencies.quantile(0.5).unwrap_or_default(),
            p95: latencies.quantile(0.95).unwrap_or_default(),
        }
    }
}

impl Namespace {
    fn totals(&self) -> Totals {
        Totals {
            requests: (0..OUTCOMES.len()).map(|outcome| self.counts.requests.row(outcome)).sum(),
            hits: self.hits(),
            misses: self.misses(),
            latencies: self.counts.from_store.so_far().and(&self.counts.from_upstream.so_far()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64, requests: u64, history: &History) {
        let totals = Totals { requests, hits: requests / 2, misses: requests / 4, ..Totals::default() };
        history.add(Timestamp::from_secs(second), vec![("a".into(), totals)], second);
    }

    #[test]
    fn a_sample_is_what_happened_since_the_one_before() {
        let history = History::default();
        for (second, requests) in [(10, 8), (20, 8), (30, 20)] {
            at(second, requests, &history);
        }
        let ring = history.0.lock().unwrap();
        let seen: Vec<_> = ring
            .samples
            .iter()
            .map(|sample| sample.routes.first().map(|(_, route)| route.requests))
            .collect();
        assert_eq!(seen, [Some(8), None, Some(12)]);
        assert_eq!(ring.samples[2].routes[0].1.hits, 6);
        assert_eq!(ring.samples[2].upstream_failures, 10);
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::default();
        for second in 0..1000 {
            at(second, second, &history);
        }
        let ring = history.0.lock().unwrap();
        assert_eq!((ring.samples.len(), ring.samples[0].at), (KEPT, Timestamp::from_secs(640)));
    }
}
