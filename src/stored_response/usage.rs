//! What this replica knows of a stored response's use: how often it gave it to clients, and how one of them asked.
//!
//! Never leaves the process, and never holds a client's credential.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::StoredFields;
use crate::clock::Timestamp;

/// How it was asked for comes after the response was weighed, and it is clients who choose its length.
const LONGEST: usize = 2048;
const NO_TAGS: &[&str] = &[];

#[derive(Debug, Default)]
pub struct Usage {
    uses: AtomicU32,
    asked: OnceLock<Option<Box<Kept>>>,
    /// When it may be fetched anew ahead of its end, in microseconds; once for each time that it is moved.
    next_renewal: AtomicU64,
}

/// A request that the response answers, without what tells one caller from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub uri: Uri,
    /// `Host`, and the fields that choose the response.
    pub headers: HeaderMap,
}

/// As little of it as it takes: most that is stored was asked for once.
#[derive(Debug)]
struct Kept {
    uri: Box<str>,
    headers: StoredFields,
}

impl Usage {
    /// It was given to a client. `asked` is called once; `None` where it can't be asked for without that client. What is
    /// long is not kept.
    pub fn used(&self, asked: impl FnOnce() -> Option<Asked>) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.asked.get_or_init(|| asked().and_then(Kept::new));
    }

    pub fn uses(&self) -> u32 {
        self.uses.load(Ordering::Relaxed)
    }

    /// As if nobody had used it since it was stored.
    pub fn forget(&self) {
        self.uses.store(0, Ordering::Relaxed);
    }

    pub fn asked(&self) -> Option<Asked> {
        let kept = self.asked.get()?.as_ref()?;
        Some(Asked { uri: kept.uri.parse().ok()?, headers: kept.headers.to_map() })
    }

    /// The path of what [`Usage::asked`] gives.
    pub fn path(&self) -> Option<&str> {
        self.asked.get()?.as_ref()?.uri.split('?').next()
    }

    pub fn may_be_renewed(&self, now: Timestamp) -> bool {
        self.next_renewal.load(Ordering::Relaxed) <= now.as_micros()
    }

    /// Whether this caller is the one to renew it now; nobody else is before `next`.
    pub fn claim_renewal(&self, now: Timestamp, next: Timestamp) -> bool {
        let due = |before: u64| (before <= now.as_micros()).then_some(next.as_micros());
        self.next_renewal.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

impl Kept {
    fn new(asked: Asked) -> Option<Box<Self>> {
        let uri: Box<str> = asked.uri.to_string().into();
        let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 64;
        let fields: usize = asked.headers.iter().map(length).sum();
        let is_short = uri.len() + fields <= LONGEST;
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
        assert!(usage.may_be_renewed(at(1)));
        assert!(usage.claim_renewal(at(1), at(5)));
        assert!(!usage.claim_renewal(at(1), at(5)) && !usage.may_be_renewed(at(4)));
        assert!(usage.may_be_renewed(at(5)) && usage.claim_renewal(at(5), at(7)));
    }

    #[test]
    fn how_it_was_asked_for_is_kept_from_the_first_use() {
        let usage = Usage::default();
        let asked = |path: &'static str| Asked { uri: Uri::from_static(path), headers: HeaderMap::new() };
        assert_eq!((usage.uses(), usage.asked()), (0, None));
        usage.used(|| Some(asked("/a")));
        usage.used(|| Some(asked("/b")));
        assert_eq!((usage.uses(), usage.asked()), (2, Some(asked("/a"))));
    }

    #[test]
    fn what_a_client_makes_long_is_not_kept() {
        let kept = |path: String, accept: &[String]| {
            let usage = Usage::default();
            let uri = path.parse().expect("a path");
            let lines = accept.iter().map(|line| (ACCEPT, line.parse().expect("a value")));
            let mut headers = HeaderMap::new();
            lines.for_each(|(name, value)| _ = headers.append(name, value));
            usage.used(|| Some(Asked { uri, headers }));
            (usage.uses(), usage.asked().is_some())
        };
        let long = |length| "a".repeat(length);
        assert_eq!(kept("/".to_owned() + &long(1000), &[long(900)]), (1, true));
        assert_eq!(kept("/".to_owned() + &long(3000), &[]), (1, false));
        assert_eq!(kept("/".to_owned(), &[long(3000)]), (1, false));
        assert_eq!(kept("/".to_owned(), &vec![String::new(); 100]), (1, false));
    }
}
