//! What this replica knows of a stored response's use: how often it gave it to clients, and how one of them asked.
//!
//! Never leaves the process, and never holds a client's credential.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use http::{HeaderMap, Uri};

use super::StoredFields;
use crate::clock::Timestamp;

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
    /// It was given to a client. `asked` is called once; `None` where it can't be asked for without that client.
    pub fn used(&self, asked: impl FnOnce() -> Option<Asked>) {
        self.uses.fetch_add(1, Ordering::Relaxed);
        self.asked.get_or_init(|| asked().map(Kept::new));
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
    fn new(asked: Asked) -> Box<Self> {
        let uri = asked.uri.to_string().into();
        Box::new(Self { uri, headers: StoredFields::new(&asked.headers) })
    }
}

#[cfg(test)]
mod tests {
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
}
