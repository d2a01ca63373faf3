//! Counters of each cache that purges are relayed to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::exposition::MetricFamily;
use super::{Counter, Metrics};
use crate::clock::Moment;

/// Counters and state of one cache.
#[derive(Debug)]
pub(crate) struct CdnMetrics {
    name: String,
    /// Requests that the cache took, and others.
    requests: [Counter; 2],
    overflows: Counter,
    queued: AtomicU64,
    oldest: Mutex<Option<Moment>>,
}

/// State of a cache at one time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CdnStatus {
    name: String,
    requests: [u64; 2],
    overflows: u64,
    queued: u64,
    lag: Duration,
}

impl Metrics {
    /// Registers a cache.
    pub(crate) fn register_cdn(&self, name: &str) -> Arc<CdnMetrics> {
        let figures = Arc::new(CdnMetrics {
            name: name.to_owned(),
            requests: Default::default(),
            overflows: Counter::default(),
            queued: AtomicU64::default(),
            oldest: Mutex::default(),
        });
        self.process.cdns.lock().push(figures.clone());
        figures
    }

    pub(super) fn cdn_statuses(&self) -> Vec<CdnStatus> {
        self.process.cdns.lock().iter().map(|cdn| cdn.status()).collect()
    }
}

impl CdnMetrics {
    pub(crate) fn record_request(&self, is_taken: bool) {
        self.requests[usize::from(!is_taken)].add(1);
    }

    pub(crate) fn record_overflow(&self) {
        self.overflows.add(1);
    }

    /// Records how many targets wait, and since when the first does.
    pub(crate) fn set_queue(&self, queued: usize, oldest: Option<Moment>) {
        self.queued.store(queued as u64, Ordering::Relaxed);
        *self.oldest.lock() = oldest;
    }

    fn status(&self) -> CdnStatus {
        CdnStatus {
            name: self.name.clone(),
            requests: self.requests.each_ref().map(Counter::get),
            overflows: self.overflows.get(),
            queued: self.queued.load(Ordering::Relaxed),
            lag: self.oldest.lock().map_or(Duration::ZERO, Moment::elapsed),
        }
    }
}

pub(super) fn families(cdns: &[CdnStatus]) -> Vec<MetricFamily> {
    let mut requests =
        MetricFamily::counter("larder_cdn_purge_requests", "Purge requests to a CDN, by result.");
    let mut overflows = MetricFamily::counter(
        "larder_cdn_overflows",
        "Purges of everything at a CDN because its queue was full.",
    );
    let mut queued =
        MetricFamily::gauge("larder_cdn_queued_targets", "Targets that a CDN has not purged yet.");
    let mut lag = MetricFamily::gauge(
        "larder_cdn_lag_seconds",
        "How long the first purge waits that a CDN has not taken yet.",
    );
    for cdn in cdns {
        let labels = || vec![("cdn", cdn.name.clone())];
        for (result, count) in ["taken", "failed"].into_iter().zip(cdn.requests) {
            requests.push([labels(), vec![("result", result.to_owned())]].concat(), count as f64);
        }
        overflows.push(labels(), cdn.overflows as f64);
        queued.push(labels(), cdn.queued as f64);
        lag.push(labels(), cdn.lag.as_secs_f64());
    }
    vec![requests, overflows, queued, lag]
}
