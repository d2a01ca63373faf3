//! A stored response with everything needed to evaluate it later.
//!
//! Pure: independent of stores and of their encoding.

mod fields;
mod terms;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderName, StatusCode};

pub use fields::StoredFields;
pub use terms::{StoredTerms, Terms};
pub(crate) use usage::SampleRequest;
pub use usage::Usage;

use crate::clock::Timestamp;
use crate::policy::accept_encoding::Codings;
use crate::policy::vary::Vary;
use crate::policy::{CacheKey, Fingerprint, VaryFields};
use crate::purge::{ReadVersion, TargetId, ValidityCache};

/// The entry of a store under one key.
#[derive(Clone, Debug)]
pub enum StoredEntry {
    /// The response itself.
    Response(StoredResponse),
    /// The responses under this key differ by request fields; each has a key of its own.
    Variants(Arc<Variants>),
}

/// The `Vary` fields of the responses of one key, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// One set of fields for each `Vary`, the latest first.
    pub fields: Vec<VaryFields>,
    /// The content codings that the upstream uses.
    pub codings: Codings,
    /// The expiry of the entry; never before that of the last variant.
    pub expires_at: Timestamp,
    /// When the resource was found to be gone.
    pub withdrawn_at: Option<Timestamp>,
}

impl Variants {
    /// Whether the resource was found to be gone since this response was requested, so that it is not served stale.
    pub(crate) fn have_withdrawn(&self, response: &StoredHead) -> bool {
        self.withdrawn_at.is_some_and(|at| response.terms().requested_at < at)
    }
}

/// A stored response: its head and its content.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// Everything except the content.
    pub head: Arc<StoredHead>,
    /// The whole content, without transfer coding.
    pub body: Bytes,
}

/// Everything except the content. It exists as soon as the upstream's headers have arrived.
#[derive(Debug)]
pub struct StoredHead {
    /// Compared on reading, so that a response is never served under another key.
    pub key: CacheKey,
    /// The route's key, tags and `per` at the time of storing; a response is not reused under others.
    pub fingerprint: Fingerprint,
    /// The status.
    pub status: StatusCode,
    /// This process fetched it; an entry that is read from Redis may be any replica's.
    pub fetched_here: bool,
    /// End-to-end fields without `Age`, and the tags as text.
    pub fields: StoredFields,
    /// The lifetime.
    pub terms: StoredTerms,
    /// The purge version that was read before the fetch began.
    pub stamp: ReadVersion,
    /// All targets by which a purge reaches the response, sorted.
    pub targets: Box<[TargetId]>,
    /// The last judgement of the purge index.
    pub found_valid: ValidityCache,
    /// The rules under which the terms hold.
    pub evaluated_under: EvaluatedUnder,
    /// How often and when it was used.
    pub usage: Usage,
}

/// The lifetime rules under which the terms are known to hold: those at the time of storing, or later ones that are
/// at least as permissive.
#[derive(Debug, Default)]
pub struct EvaluatedUnder(AtomicU64);

impl EvaluatedUnder {
    /// The rules at the time of storing.
    pub fn new(rules: Fingerprint) -> Self {
        Self(AtomicU64::new(rules.0))
    }

    /// The latest rules, for encoding.
    pub fn current(&self) -> Fingerprint {
        Fingerprint(self.0.load(Ordering::Relaxed))
    }

    /// Whether the terms hold under `rules`.
    pub fn matches(&self, rules: Fingerprint) -> bool {
        rules.0 != 0 && self.0.load(Ordering::Relaxed) == rules.0
    }

    /// The terms hold under `rules` from now on.
    pub fn set(&self, rules: Fingerprint) {
        self.0.store(rules.0, Ordering::Relaxed);
    }
}

impl StoredEntry {
    /// Pointer equality.
    pub fn ptr_eq(&self, other: &StoredEntry) -> bool {
        match (self, other) {
            (StoredEntry::Response(one), StoredEntry::Response(other)) => Arc::ptr_eq(&one.head, &other.head),
            (StoredEntry::Variants(one), StoredEntry::Variants(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// When the store drops the entry.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            StoredEntry::Response(response) => response.head.terms().expires_at,
            StoredEntry::Variants(variants) => variants.expires_at,
        }
    }
}

impl StoredHead {
    /// A copy of the terms.
    pub fn terms(&self) -> Terms {
        self.terms.get()
    }

    /// The tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.fields.tags()
    }

    /// The fields that selected the response, without the route's `ignore_vary`.
    pub fn vary(&self, ignored: &[HeaderName]) -> Vary {
        match self.fields.contains(&VARY) || self.fields.contains(&CONTENT_ENCODING) {
            true => Vary::parse_ignoring(&self.fields.to_map(), ignored),
            false => Vary::Nothing,
        }
    }
}

impl StoredResponse {
    /// An estimate of the memory the response occupies, in bytes; `benches/footprint/run` measures its accuracy.
    pub fn weight(&self) -> u64 {
        // Reference counts, the cache slot, and the sample request that is kept after the first use.
        let fixed = size_of::<Self>() + size_of::<StoredHead>() + 128 + 192;
        let targets = self.head.targets.len() * size_of::<TargetId>();
        (fixed + self.body.len() + self.head.fields.weight() + targets) as u64
    }
}

/// With its reference counts it fits the allocator's class of 256 bytes; the next class is 320.
const _: () = assert!(size_of::<StoredHead>() <= 240);
