//! Upstream activity: the requests that wait for a response, and the responses by status.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;

use super::labels::{self, STATUS_CLASSES};
use super::{Counter, Metrics};
use crate::clock::Moment;

/// The slot of 5xx among the status classes.
const SERVER_ERRORS: usize = 4;

#[derive(Debug, Default)]
pub(super) struct UpstreamActivity {
    waiting: Mutex<WaitingRequests>,
    responses: [Counter; STATUS_CLASSES],
    /// Nanoseconds of a `Moment`; 0: none yet.
    last_response: AtomicU64,
}

/// Bounded by the connections to the upstream and the requests that wait for one.
#[derive(Debug, Default)]
struct WaitingRequests {
    next: u64,
    /// In the order in which they began.
    began: BTreeMap<u64, Moment>,
}

/// A request that waits for the head of the upstream's response, until this is dropped.
#[derive(Debug)]
pub(crate) struct UpstreamWait<'m> {
    activity: &'m UpstreamActivity,
    number: u64,
}

/// The requests that wait for the upstream at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamWaits {
    pub waiting: u64,
    /// How long the oldest has waited.
    pub oldest: Option<Duration>,
    /// The time since the last response; `None` if there was none.
    pub silent_for: Option<Duration>,
}

/// How upstream requests ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamCounts {
    /// Requests without a response, or with one that broke off.
    pub failures: u64,
    pub responses: u64,
    /// Responses with a status of 5xx.
    pub errors: u64,
}

impl Metrics {
    /// Counts a request that waits for the upstream, until the guard is dropped.
    pub(crate) fn start_upstream_wait(&self, now: Moment) -> UpstreamWait<'_> {
        let activity = &self.process.upstream_activity;
        let mut waiting = activity.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.began.insert(number, now);
        UpstreamWait { activity, number }
    }

    /// Records the time from the request's last byte to the upstream's response head, and its status.
    pub(crate) fn record_upstream_response(&self, status: StatusCode, latency: Duration, now: Moment) {
        self.process.upstream_latencies.observe(latency);
        let activity = &self.process.upstream_activity;
        activity.responses[labels::status_class(status)].add(1);
        activity.last_response.store(now.as_nanos(), Ordering::Relaxed);
    }

    pub(super) fn upstream_waits(&self, now: Moment) -> UpstreamWaits {
        let activity = &self.process.upstream_activity;
        let last_response = activity.last_response.load(Ordering::Relaxed);
        let waiting = activity.waiting.lock();
        UpstreamWaits {
            waiting: waiting.began.len() as u64,
            oldest: waiting.began.values().next().map(|began| now.since(*began)),
            silent_for: (last_response > 0).then(|| now.since(Moment::from_nanos(last_response))),
        }
    }

    /// Responses of the upstream by status class.
    pub(super) fn upstream_responses(&self) -> [u64; STATUS_CLASSES] {
        self.process.upstream_activity.responses.each_ref().map(Counter::get)
    }

    pub(super) fn upstream_counts(&self) -> UpstreamCounts {
        let responses = self.upstream_responses();
        UpstreamCounts {
            failures: self.lock_upstream_failures().values().sum(),
            responses: responses.iter().sum(),
            errors: responses[SERVER_ERRORS],
        }
    }
}

impl Drop for UpstreamWait<'_> {
    fn drop(&mut self) {
        self.activity.waiting.lock().began.remove(&self.number);
    }
}

impl UpstreamCounts {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            failures: self.failures.saturating_sub(before.failures),
            responses: self.responses.saturating_sub(before.responses),
            errors: self.errors.saturating_sub(before.errors),
        }
    }

    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            failures: self.failures + more.failures,
            responses: self.responses + more.responses,
            errors: self.errors + more.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: u64) -> Moment {
        Moment::from_nanos(1 + seconds * 1_000_000_000)
    }

    #[test]
    fn the_oldest_request_that_waits_is_told() {
        let metrics = Metrics::default();
        assert_eq!(metrics.upstream_waits(moment(9)), UpstreamWaits::default());
        let first = metrics.start_upstream_wait(moment(1));
        let second = metrics.start_upstream_wait(moment(3));
        metrics.record_upstream_response(StatusCode::OK, Duration::ZERO, moment(4));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let waits = metrics.upstream_waits(moment(9));
        assert_eq!(waits, UpstreamWaits { waiting: 2, oldest: seconds(8), silent_for: seconds(5) });
        drop(first);
        assert_eq!(metrics.upstream_waits(moment(9)).oldest, seconds(6));
        drop(second);
        assert_eq!(metrics.upstream_waits(moment(9)).oldest, None);
    }

    #[test]
    fn responses_are_counted_by_their_class() {
        let metrics = Metrics::default();
        for status in [StatusCode::OK, StatusCode::BAD_GATEWAY, StatusCode::NOT_FOUND] {
            metrics.record_upstream_response(status, Duration::ZERO, moment(1));
        }
        metrics.record_upstream_failure("timeout");
        assert_eq!(metrics.upstream_counts(), UpstreamCounts { failures: 1, responses: 3, errors: 1 });
    }
}
