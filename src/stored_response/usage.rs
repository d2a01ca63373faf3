//! Local usage data of a stored response: hit count and a sample request.
//!
//! Never leaves the process, and never holds a client's credential.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::StoredFields;
use crate::clock::Timestamp;

/// The sample is recorded after the entry's weight is computed, so its client-controlled size is bounded here.
const MAX_SAMPLE_BYTES: usize = 2048;
const NO_TAGS: &[&str] = &[];

/// The use of a response since it was stored or read by this process.
#[derive(Debug, Default)]
pub struct Usage {
    uses: AtomicU32,
    sample: OnceLock<Option<Box<CompactRequest>>>,
    /// When the next early refresh may start, in microseconds.
    next_refresh: AtomicU64,
}

/// A request that the response answers, without anything that identifies a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SampleRequest {
    /// Path and query.
    pub uri: Uri,
    /// `Host`, and the fields that select the response.
    pub headers: HeaderMap,
}

/// A compact copy: most entries are requested once.
#[derive(Debug)]
struct CompactRequest {
    uri: Box<str>,
    headers: StoredFields,
}

impl Usage {
    /// Counts a hit. `asked` is called once; it returns `None` if the request needs the client's credential. Long
    /// requests are not kept.
    pub(crate) fn record_use(&self, asked: impl FnOnce() -> Option<SampleRequest>) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.sample.get_or_init(|| asked().and_then(CompactRequest::new));
    }

    pub(crate) fn use_count(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Resets the hit count.
    pub(crate) fn reset_count(&self) {
        self.uses.store(0, Ordering::Relaxed);
    }

    pub(crate) fn sample_request(&self) -> Option<SampleRequest> {
        let kept = self.sample.get()?.as_ref()?;
        Some(SampleRequest { uri: kept.uri.parse().ok()?, headers: kept.headers.to_map() })
    }

    /// The path of [`Usage::sample_request`].
    pub(crate) fn path(&self) -> Option<&str> {
        self.sample.get()?.as_ref()?.uri.split('?').next()
    }

    pub(crate) fn is_refresh_due(&self, now: Timestamp) -> bool {
        self.next_refresh.load(Ordering::Relaxed) <= now.as_micros()
    }

    /// Claims the refresh: true for one caller until `next`.
    pub(crate) fn claim_refresh(&self, now: Timestamp, next: Timestamp) -> bool {
        let due = |before: u64| (before <= now.as_micros()).then_some(next.as_micros());
        self.next_refresh.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

impl CompactRequest {
    fn new(asked: SampleRequest) -> Option<Box<Self>> {
        let uri: Box<str> = asked.uri.to_string().into();
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 64;
        let fields: usize = asked.headers.iter().map(length).sum();
        let is_short = uri.len() + fields <= MAX_SAMPLE_BYTES;
        is_short.then(|| Box::new(Self { uri, headers: StoredFields::new(&asked.headers, NO_TAGS) }))
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    #[test]
    fn a_renewal_is_claimed_once_until_the_next_is_due() {
        let (usage, at) = (Usage::default(), Timestamp::from_secs);
        assert!(usage.is_refresh_due(at(1)));
        assert!(usage.claim_refresh(at(1), at(5)));
        assert!(!usage.claim_refresh(at(1), at(5)) && !usage.is_refresh_due(at(4)));
        assert!(usage.is_refresh_due(at(5)) && usage.claim_refresh(at(5), at(7)));
    }

    #[test]
    fn how_it_was_asked_for_is_kept_from_the_first_use() {
        let usage = Usage::default();
        let asked =
            |path: &'static str| SampleRequest { uri: Uri::from_static(path), headers: HeaderMap::new() };
        assert_eq!((usage.use_count(), usage.sample_request()), (0, None));
        usage.record_use(|| Some(asked("/a")));
        usage.record_use(|| Some(asked("/b")));
        assert_eq!((usage.use_count(), usage.sample_request()), (2, Some(asked("/a"))));
    }

    #[test]
    fn what_a_client_makes_long_is_not_kept() {
        let kept = |path: String, accept: &[String]| {
            let usage = Usage::default();
            let uri = path.parse().expect("a path");
            let lines = accept.iter().map(|line| (ACCEPT, line.parse().expect("a value")));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value)| _ = headers.append(name, value));
            usage.record_use(|| Some(SampleRequest { uri, headers }));
            (usage.use_count(), usage.sample_request().is_some())
        };
        let long = |length| "a".repeat(length);
        assert_eq!(kept("/".to_owned() + &long(1000), &[long(900)]), (1, true));
        assert_eq!(kept("/".to_owned() + &long(3000), &[]), (1, false));
        assert_eq!(kept("/".to_owned(), &[long(3000)]), (1, false));
        assert_eq!(kept("/".to_owned(), &vec![String::new(); 100]), (1, false));
    }
}
