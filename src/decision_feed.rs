//! The feed of decisions: how each request was answered, for people who watch. While nobody does, it costs one load.
//!
//! A reader gets the decisions that its filter admits, up to a number a second; the rest is counted, and the reader is told how many.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::clock::{Moment, Timestamp};
use crate::policy::CallerFields;
use crate::policy::cache_status::CacheOutcome;
use crate::policy::secret_parameters::mask_parameters;

/// Maximum number of decisions that one reader gets in a second.
const MAX_PER_SECOND: u32 = 200;

/// Maximum length of path and query in a decision, in bytes.
const MAX_TARGET_BYTES: usize = 512;

/// Names of a caller's fields in a decision, and their length in bytes; more are cut off.
const MAX_CALLER_FIELDS: usize = 4;
const MAX_FIELD_NAME_BYTES: usize = 64;

/// Digits of a fingerprint: those of the key, and those of the caller.
const KEY_DIGITS: usize = 4;
const FINGERPRINT_DIGITS: usize = 12;

/// The kind of a caller without a field that identifies it.
const ANONYMOUS: &str = "anonymous";

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
    pub caller: &'d CallerMark,
    pub took: Duration,
}

/// The fields that identify a caller, and a fingerprint of their values under a random key of this process, from which
/// nobody learns the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallerMark {
    /// Sorted; empty for an anonymous caller.
    fields: Vec<String>,
    fingerprint: Option<String>,
}

/// The callers that a reader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallerFilter {
    Anonymous,
    /// Callers with this field.
    Field(HeaderName),
    Fingerprint(String),
}

/// Why no decision can have such a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidCaller {
    /// The text is neither a kind nor a fingerprint.
    Unknown,
    /// The fingerprint was made under the key of another process.
    OtherProcess,
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
    pub caller: Option<CallerFilter>,
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
    /// The key of the fingerprints.
    key: RandomState,
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

    /// Describes the caller of a request with these fields.
    pub(crate) fn mark_caller(&self, identifying: &CallerFields, headers: &HeaderMap) -> CallerMark {
        let mut names: Vec<&HeaderName> = identifying.find_in(headers).collect();
        names.sort_unstable_by_key(|name| name.as_str());
        let values: Vec<(&str, Vec<&[u8]>)> = names
            .iter()
            .map(|name| {
                (name.as_str(), headers.get_all(*name).iter().map(|value| value.as_bytes()).collect())
            })
            .collect();
        let fingerprint = (!values.is_empty())
            .then(|| format!("{}{:08x}", self.key_digits(), self.key.hash_one(&values) as u32));
        let cut = |name: &&HeaderName| {
            let name = name.as_str();
            name[..name.len().min(MAX_FIELD_NAME_BYTES)].to_owned()
        };
        CallerMark { fields: names.iter().take(MAX_CALLER_FIELDS).map(cut).collect(), fingerprint }
    }

    /// The first digits of every fingerprint of this process.
    fn key_digits(&self) -> String {
        format!("{:04x}", self.key.hash_one("fingerprints of callers") as u16)
    }

    /// Reads `anonymous`, a field that identifies callers, or a fingerprint, alone or behind the kind as in a decision.
    pub(crate) fn parse_caller(
        &self,
        text: &str,
        identifying: &CallerFields,
    ) -> Result<CallerFilter, InvalidCaller> {
        if text == ANONYMOUS {
            return Ok(CallerFilter::Anonymous);
        }
        let end = text.rsplit(':').next().unwrap_or(text);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if end.len() == FINGERPRINT_DIGITS && end.bytes().all(is_digit) {
            return match end[..KEY_DIGITS] == self.key_digits() {
                true => Ok(CallerFilter::Fingerprint(end.to_owned())),
                false => Err(InvalidCaller::OtherProcess),
            };
        }
        let name = HeaderName::try_from(text).ok().filter(|name| identifying.identify(name));
        name.map(CallerFilter::Field).ok_or(InvalidCaller::Unknown)
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

impl CallerMark {
    /// `anonymous`, or the fields that identify the caller: `authorization+cookie`.
    fn kind(&self) -> String {
        if self.fields.is_empty() { ANONYMOUS.to_owned() } else { self.fields.join("+") }
    }

    fn is_selected_by(&self, filter: &CallerFilter) -> bool {
        match filter {
            CallerFilter::Anonymous => self.fields.is_empty(),
            CallerFilter::Field(name) => self.fields.iter().any(|field| field == name.as_str()),
            CallerFilter::Fingerprint(wanted) => self.fingerprint.as_ref() == Some(wanted),
        }
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
            && self.caller.as_ref().is_none_or(|filter| decision.caller.is_selected_by(filter))
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
            "caller": {"kind": self.caller.kind(), "fingerprint": self.caller.fingerprint},
            "millis": self.took.as_secs_f64() * 1e3,
        });
        format!("event: decision\ndata: {decision}\n\n").into()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{ACCEPT, AUTHORIZATION};

    use super::*;

    const NOBODY: &CallerMark = &CallerMark { fields: Vec::new(), fingerprint: None };

    fn decision<'d>(uri: &'d Uri, millis: u64) -> LiveDecision<'d> {
        LiveDecision {
            at: Timestamp::from_secs(0),
            method: &Method::GET,
            uri,
            route: Some("courses"),
            status: StatusCode::OK,
            outcome: Some(CacheOutcome::Hit { ttl: 3, detail: None }),
            client: Some([10, 0, 0, 1].into()),
            caller: NOBODY,
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
            (DecisionFilter { caller: Some(CallerFilter::Anonymous), ..filter() }, true),
            (DecisionFilter { caller: Some(CallerFilter::Field(AUTHORIZATION)), ..filter() }, false),
            (DecisionFilter { slower_than: Some(Duration::from_millis(49)), ..filter() }, true),
            (DecisionFilter { slower_than: Some(Duration::from_millis(50)), ..filter() }, false),
        ] {
            assert_eq!(filter.admits(&decision(&uri, 50)), expected, "{filter:?}");
        }
    }

    #[test]
    fn a_caller_is_a_kind_and_a_fingerprint_of_this_process() {
        let (feed, other) = (DecisionFeed::default(), DecisionFeed::default());
        let identifying = CallerFields::default();
        let fields = |token: &'static str| {
            let token = [(AUTHORIZATION, HeaderValue::from_static(token))];
            HeaderMap::from_iter(token.into_iter().chain([
                (HeaderName::from_static("x-api-key"), HeaderValue::from_static("k")),
                (ACCEPT, HeaderValue::from_static("*/*")),
            ]))
        };
        let [one, same, two] =
            ["Bearer 1", "Bearer 1", "Bearer 2"].map(|token| feed.mark_caller(&identifying, &fields(token)));
        assert_eq!(one.kind(), "authorization+x-api-key");
        assert!(one == same && one != two);
        let fingerprint = one.fingerprint.clone().expect("a fingerprint");
        let elsewhere = other.mark_caller(&identifying, &fields("Bearer 1"));
        assert_ne!(Some(&fingerprint), elsewhere.fingerprint.as_ref());
        let nobody = feed.mark_caller(&identifying, &HeaderMap::new());
        assert_eq!((nobody.kind(), &nobody.fingerprint), (ANONYMOUS.to_owned(), &None));

        let parse = |text: &str| feed.parse_caller(text, &identifying);
        for text in [fingerprint.clone(), format!("{}:{fingerprint}", one.kind())] {
            let filter = parse(&text).expect("a filter");
            assert!(one.is_selected_by(&filter) && !two.is_selected_by(&filter));
        }
        let by_field = parse("Authorization").expect("a field");
        assert!(one.is_selected_by(&by_field) && !nobody.is_selected_by(&by_field));
        assert!(nobody.is_selected_by(&parse("anonymous").expect("a kind")));
        // 16 bits tell processes apart.
        let distant = (0..4).map(|_| DecisionFeed::default().parse_caller(&fingerprint, &identifying));
        assert!(distant.into_iter().any(|parsed| parsed == Err(InvalidCaller::OtherProcess)));
        for unknown in ["accept", "Bearer 1", "someone", ""] {
            assert_eq!(parse(unknown), Err(InvalidCaller::Unknown), "{unknown}");
        }
    }

    #[test]
    fn a_caller_of_many_fields_is_cut() {
        let name =
            |number: usize| HeaderName::try_from(format!("token-{number}-{}", "a".repeat(900))).unwrap();
        let headers = HeaderMap::from_iter((0..50).map(|at| (name(at), HeaderValue::from_static("s"))));
        let mark = DecisionFeed::default().mark_caller(&CallerFields::default(), &headers);
        assert!(mark.kind().len() < 5 * MAX_FIELD_NAME_BYTES, "{}", mark.kind().len());
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
