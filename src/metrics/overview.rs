//! All figures of one moment, for people: what the dashboard shows of requests. The same counters as `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::labels::{OUTCOMES, Outcomes, SOURCES};
use super::latency::Latencies;
use super::{Memory, Metrics, Namespace, snapshot};
use crate::clock::Moment;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    /// Requests that were answered without a call to the upstream of their own.
    pub saved: u64,
    /// 0 to 1; `None` before the first request that could have been a hit.
    pub hit_rate: Option<f64>,
    pub from_store: Quantiles,
    pub from_upstream: Quantiles,
    pub routes: Vec<OfRoute>,
    pub purges: BTreeMap<&'static str, OfPurges>,
    pub upstream_failures: BTreeMap<&'static str, u64>,
    pub connections: u64,
    pub accepts_failed: u64,
    pub memory_resident: u64,
    /// For how long each worker has stood still, in seconds.
    pub workers_stalled: Vec<f64>,
    pub worker_stalls: u64,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfRoute {
    pub name: String,
    /// Whether a route of this name caches.
    pub caches: bool,
    pub requests: u64,
    pub hits: u64,
    pub misses: u64,
    pub collapsed: u64,
    pub saved: u64,
    pub hit_rate: Option<f64>,
    pub fills: u64,
    pub filled_bytes: u64,
    pub invalidations: u64,
    pub ttl_seconds: Option<f64>,
    pub from_store: Quantiles,
    pub from_upstream: Quantiles,
}

/// In seconds; `None` where there was no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: Option<f64>,
    pub p95: Option<f64>,
    pub p99: Option<f64>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct OfPurges {
    pub purges: u64,
    pub targets: u64,
    pub failed: u64,
}

impl Metrics {
    pub fn overview(&self) -> Overview {
        let routes: Vec<_> = self.namespaces.iter().map(Namespace::overview).collect();
        let sum = |figure: fn(&OfRoute) -> u64| routes.iter().map(figure).sum();
        let all = |of: fn(&Namespace) -> Latencies| {
            self.namespaces.iter().map(of).fold(Latencies::default(), |sum, latencies| sum.and(&latencies))
        };
        let (hits, misses) = (sum(|route| route.hits), sum(|route| route.misses));
        let purges = SOURCES.iter().zip(&self.all.purges).map(|(source, counts)| {
            let (purges, targets) = (counts.purges.get(), counts.targets.get());
            (source.as_str(), OfPurges { purges, targets, failed: counts.failed.get() })
        });
        Overview {
            requests: sum(|route| route.requests),
            hits,
            misses,
            saved: sum(|route| route.saved),
            hit_rate: rate(hits, misses),
            from_store: Quantiles::of(&all(|namespace| namespace.counts.from_store.so_far())),
            from_upstream: Quantiles::of(&all(|namespace| namespace.counts.from_upstream.so_far())),
            purges: purges.collect(),
            upstream_failures: self.failures().clone(),
            connections: u64::try_from(self.all.connections.load(Ordering::Relaxed)).unwrap_or_default(),
            accepts_failed: self.all.accepts_failed.get(),
            memory_resident: Memory::now().resident,
            workers_stalled: self.stalled(),
            worker_stalls: self.all.heartbeats.stalls(),
            routes: routes.into_iter().filter(|route| route.requests > 0 || route.caches).collect(),
        }
    }

    fn stalled(&self) -> Vec<f64> {
        self.all
            .heartbeats
            .overdue(Moment::now())
            .into_iter()
            .map(|(_, stalled)| stalled.as_secs_f64())
            .collect()
    }
}

impl Namespace {
    fn overview(&self) -> OfRoute {
        let (hits, misses, collapsed) = (self.hits(), self.misses(), self.collapsed());
        OfRoute {
            name: self.name.to_string(),
            caches: !self.ttls.is_empty(),
            requests: (0..OUTCOMES.len()).map(|outcome| self.counts.requests.row(outcome)).sum(),
            hits,
            misses,
            collapsed,
            saved: self.counts.requests.row(Outcomes::Hit as usize) + collapsed,
            hit_rate: rate(hits, misses),
            fills: self.counts.stored.get(),
            filled_bytes: self.counts.stored_bytes.get(),
            invalidations: self.counts.invalidations.get(),
            ttl_seconds: self.figures().ttl_seconds,
            from_store: Quantiles::of(&self.counts.from_store.so_far()),
            from_upstream: Quantiles::of(&self.counts.from_upstream.so_far()),
        }
    }
}

impl Quantiles {
    fn of(latencies: &Latencies) -> Self {
        let quantile = |quantile| latencies.quantile(quantile);
        Self { count: latencies.count(), p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) }
    }
}

fn rate(hits: u64, misses: u64) -> Option<f64> {
    (hits + misses > 0).then(|| snapshot::rate(hits, misses))
}
