//! The feed of decisions: how each request was answered, for people who watch. While nobody does, it costs one load.
//!
//! A reader gets the decisions that its filter admits, up to a number a second; the rest is counted, and the reader is told how many.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::{Moment, Timestamp};
use crate::policy::cache_status::CacheOutcome;
use crate::policy::secret_parameters::mask_parameters;

/// Maximum number of decisions that one reader gets in a second.
const MAX_PER_SECOND: u32 = 200;

/// Maximum length of path and query in a decision, in bytes.
const MAX_TARGET_BYTES: usize = 512;

/// How a request was answered.
pub(crate) struct LiveDecision<'d> {
    pub at: Timestamp,
    pub method: &'d Method,
    pub uri: &'d Uri,
    /// The name of the route.
    pub route: Option<&'d str>,
    pub status: StatusCode,
    /// `None` for answers without a `Cache-Status`.
    pub outcome: Option<CacheOutcome>,
    pub client: Option<IpAddr>,
    pub took: Duration,
}

/// The decisions that a reader asks for. `None` does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DecisionFilter {
    /// The name of a route.
    pub route: Option<String>,
    /// A part of `Cache-Status`: `hit`, `stored`, `uri-miss`.
    pub outcome: Option<String>,
    /// The beginning of the path.
    pub path: Option<String>,
    pub client: Option<IpAddr>,
    pub slower_than: Option<Duration>,
}

pub(crate) struct DecisionReader {
    filter: DecisionFilter,
    frames: mpsc::Sender<Bytes>,
    window: Mutex<RateWindow>,
    /// Decisions that passed the filter and were not sent.
    skipped: AtomicU64,
}

#[derive(Default)]
struct RateWindow {
    second: u64,
    sent: u32,
}

#[derive(Default)]
pub(crate) struct DecisionFeed {
    is_watched: AtomicBool,
    readers: ArcSwap<Vec<Arc<DecisionReader>>>,
    /// Held while `readers` changes.
    changing: Mutex<()>,
}

impl DecisionFeed {
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched.load(Ordering::Relaxed)
    }

    /// Adds a reader, whose frames are server-sent events.
    pub(crate) fn add(&self, filter: DecisionFilter, frames: mpsc::Sender<Bytes>) -> Arc<DecisionReader> {
        let (window, skipped) = (Mutex::default(), AtomicU64::new(0));
        let reader = Arc::new(DecisionReader { filter, frames, window, skipped });
        self.change(|readers| readers.push(reader.clone()));
        reader
    }

    pub(crate) fn remove(&self, reader: &Arc<DecisionReader>) {
        self.change(|readers| readers.retain(|known| !Arc::ptr_eq(known, reader)));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<DecisionReader>>)) {
        let _changing = self.changing.lock();
        let mut readers = self.readers.load().to_vec();
        change(&mut readers);
        self.is_watched.store(!readers.is_empty(), Ordering::Relaxed);
        self.readers.store(Arc::new(readers));
    }

    pub(crate) fn publish(&self, decision: &LiveDecision<'_>) {
        let now = Moment::now();
        for reader in self.readers.load().iter().filter(|reader| reader.filter.admits(decision)) {
            reader.send(decision, now);
        }
    }
}

impl DecisionReader {
    fn send(&self, decision: &LiveDecision<'_>, now: Moment) {
        let has_budget = self.window.lock().take(now);
        // Two frames stay free: for the number of skipped ones, and to keep the connection open.
        if !has_budget || self.frames.capacity() <= 2 || self.frames.try_send(decision.to_event()).is_err() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of decisions that were skipped since the last call.
    pub(crate) fn take_skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::Relaxed)
    }
}

impl RateWindow {
    fn take(&mut self, now: Moment) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if second != self.second {
            *self = Self { second, sent: 0 };
        }
        let has_budget = self.sent < MAX_PER_SECOND;
        self.sent += u32::from(has_budget);
        has_budget
    }
}

impl DecisionFilter {
    fn admits(&self, decision: &LiveDecision<'_>) -> bool {
        let is_outcome = |part: &String| match &decision.outcome {
            Some(outcome) => outcome.to_string().contains(part.as_str()),
            None => false,
        };
        self.route.as_deref().is_none_or(|route| decision.route == Some(route))
            && self.path.as_ref().is_none_or(|path| decision.uri.path().starts_with(path.as_str()))
            && self.client.is_none_or(|client| decision.client.map(|ip| ip.to_canonical()) == Some(client))
            && self.slower_than.is_none_or(|limit| decision.took > limit)
            && self.outcome.as_ref().is_none_or(is_outcome)
    }
}

impl LiveDecision<'_> {
    fn to_event(&self) -> Bytes {
        let target = mask_parameters(self.uri.path_and_query().map_or("/", |target| target.as_str()));
        let decision = json!({
            "at": self.at.to_rfc3339(3),
            "method": self.method.as_str(),
            "target": &target[..target.floor_char_boundary(MAX_TARGET_BYTES)],
            "route": self.route,
            "status": self.status.as_u16(),
            "cache": self.outcome.map(|outcome| outcome.to_string()),
            "client": self.client,
            "millis": self.took.as_secs_f64() * 1e3,
        });
        format!("event: decision\ndata: {decision}\n\n").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision<'d>(uri: &'d Uri, millis: u64) -> LiveDecision<'d> {
        LiveDecision {
            at: Timestamp::from_secs(0),
            method: &Method::GET,
            uri,
            route: Some("courses"),
            status: StatusCode::OK,
            outcome: Some(CacheOutcome::Hit { ttl: 3, detail: None }),
            client: Some([10, 0, 0, 1].into()),
            took: Duration::from_millis(millis),
        }
    }

    #[test]
    fn a_filter_admits_what_it_names() {
        let uri: Uri = "/api/courses?page=1".parse().unwrap();
        let filter = DecisionFilter::default;
        let text = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (filter(), true),
            (DecisionFilter { route: text("courses"), ..filter() }, true),
            (DecisionFilter { route: text("course"), ..filter() }, false),
            (DecisionFilter { outcome: text("hit"), ..filter() }, true),
            (DecisionFilter { outcome: text("stored"), ..filter() }, false),
            (DecisionFilter { path: text("/api/"), ..filter() }, true),
            (DecisionFilter { path: text("/app/"), ..filter() }, false),
            (DecisionFilter { client: Some([10, 0, 0, 1].into()), ..filter() }, true),
            (DecisionFilter { client: Some([10, 0, 0, 2].into()), ..filter() }, false),
            (DecisionFilter { slower_than: Some(Duration::from_millis(49)), ..filter() }, true),
            (DecisionFilter { slower_than: Some(Duration::from_millis(50)), ..filter() }, false),
        ] {
            assert_eq!(filter.admits(&decision(&uri, 50)), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_reader_gets_so_many_a_second_and_the_rest_is_counted() {
        let uri: Uri = format!("/{}", "a".repeat(5_000)).parse().unwrap();
        let (frames, mut received) = mpsc::channel(10_000);
        let feed = DecisionFeed::default();
        let reader = feed.add(DecisionFilter::default(), frames);
        for millis in 0..3_000 {
            reader.send(&decision(&uri, 1), Moment::from_nanos(1_000_000_000 + millis * 1_000_000));
        }
        let sent: Vec<Bytes> = std::iter::from_fn(|| received.try_recv().ok()).collect();
        assert_eq!((sent.len(), reader.take_skipped()), (3 * MAX_PER_SECOND as usize, 3_000 - 600));
        assert!(sent.iter().all(|frame| frame.len() < 800), "{}", sent[0].len());
    }

    #[test]
    fn a_reader_that_does_not_read_holds_a_bounded_number() {
        let uri: Uri = "/a".parse().unwrap();
        let (frames, received) = mpsc::channel(10);
        let feed = DecisionFeed::default();
        assert!(!feed.is_watched());
        let reader = feed.add(DecisionFilter::default(), frames);
        assert!(feed.is_watched());
        (0..100).for_each(|_| feed.publish(&decision(&uri, 1)));
        assert_eq!((received.len(), reader.take_skipped()), (8, 92));
        feed.remove(&reader);
        assert!(!feed.is_watched());
        feed.publish(&decision(&uri, 1));
        assert_eq!(received.len(), 8);
    }
}
