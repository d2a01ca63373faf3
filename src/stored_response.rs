//! The thing that is remembered: a whole response, and all that is needed to judge it later.
//!
//! Pure: it knows nothing of stores, and does not serialise itself.

mod fields;
mod terms;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::StatusCode;
use http::header::VARY;

pub use fields::StoredFields;
pub use terms::{StoredTerms, Terms};
pub use usage::{Asked, Usage};

use crate::clock::Timestamp;
use crate::policy::vary::Vary;
use crate::policy::{CacheKey, Fingerprint, VaryFields};
use crate::purge::{FoundValid, Stamp, TargetId};

/// What a store keeps under one key.
#[derive(Clone, Debug)]
pub enum Stored {
    Response(StoredResponse),
    /// The responses under this key differ by request fields; each stands under a key of its own.
    Variants(Arc<Variants>),
}

/// Which request fields told the responses of one key apart, the latest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    pub fields: Vec<VaryFields>,
    /// When this is forgotten; never before the last of the variants.
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct StoredResponse {
    pub head: Arc<StoredHead>,
    /// The whole content, without transfer coding.
    pub body: Bytes,
}

/// All but the content: enough to decide, so that it exists as soon as the upstream's header section is there.
#[derive(Debug)]
pub struct StoredHead {
    /// Compared on reading: an answer under another key is never given.
    pub key: CacheKey,
    /// The route's key, tags and `per` when this was stored; under other rules it is not reused.
    pub fingerprint: Fingerprint,
    pub status: StatusCode,
    /// End-to-end fields only, without `Age`; and the tags in words, for people.
    pub fields: StoredFields,
    pub terms: StoredTerms,
    /// What the fetch carried from before it began.
    pub stamp: Stamp,
    /// Every target by which a purge reaches this response; sorted.
    pub targets: Box<[TargetId]>,
    pub found_valid: FoundValid,
    pub judged_by: JudgedBy,
    pub usage: Usage,
}

/// The route's rules on lifetimes under which the terms hold as they are: those of when it was stored, or later ones
/// that were found to say the same or more.
#[derive(Debug, Default)]
pub struct JudgedBy(AtomicU64);

impl JudgedBy {
    pub fn rules(rules: Fingerprint) -> Self {
        Self(AtomicU64::new(rules.0))
    }

    /// The latest of them, as it is written down.
    pub fn latest(&self) -> Fingerprint {
        Fingerprint(self.0.load(Ordering::Relaxed))
    }

    pub fn is(&self, rules: Fingerprint) -> bool {
        rules.0 != 0 && self.0.load(Ordering::Relaxed) == rules.0
    }

    pub fn set(&self, rules: Fingerprint) {
        self.0.store(rules.0, Ordering::Relaxed);
    }
}

impl Stored {
    /// Whether both are the very same, not only equal.
    pub fn is(&self, other: &Stored) -> bool {
        match (self, other) {
            (Stored::Response(one), Stored::Response(other)) => Arc::ptr_eq(&one.head, &other.head),
            (Stored::Variants(one), Stored::Variants(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// When it is forgotten.
    pub fn expires_at(&self) -> Timestamp {
        match self {
            Stored::Response(response) => response.head.terms().expires_at,
            Stored::Variants(variants) => variants.expires_at,
        }
    }
}

impl StoredHead {
    pub fn terms(&self) -> Terms {
        self.terms.get()
    }

    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.fields.tags()
    }

    pub fn vary(&self) -> Vary {
        if self.fields.contain(&VARY) { Vary::of(&self.fields.to_map()) } else { Vary::Nothing }
    }

    pub fn has_validator(&self) -> bool {
        crate::policy::validation::has_validator(&self.fields.to_map())
    }
}

impl StoredResponse {
    /// Bytes that this response keeps in memory, by a close estimate: `benches/footprint/run` says how close.
    pub fn weight(&self) -> u64 {
        // Beside the two: their counts, the place in the cache; and how it was asked for, which is kept once it is used.
        let fixed = size_of::<Self>() + size_of::<StoredHead>() + 128 + 192;
        let targets = self.head.targets.len() * size_of::<TargetId>();
        (fixed + self.body.len() + self.head.fields.weight() + targets) as u64
    }
}

/// With its counts in an `Arc` it takes the allocator's class of 256 bytes; one byte more, and it is 320, for each
/// response.
const _: () = assert!(size_of::<StoredHead>() <= 240);
