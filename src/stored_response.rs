//! The thing that is remembered: a whole response, and all that is needed to judge it later.
//!
//! Pure: it knows nothing of stores, and does not serialise itself.

mod fields;
mod tags;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::VARY;

pub use fields::StoredFields;
pub use tags::StoredTags;
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
    /// End-to-end fields only, without `Age`.
    pub fields: StoredFields,
    pub terms: Terms,
    /// What the fetch carried from before it began.
    pub stamp: Stamp,
    /// Every target by which a purge reaches this response; sorted.
    pub targets: Box<[TargetId]>,
    /// The tags in words, for people.
    pub tags: StoredTags,
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

/// The terms under which a response was stored: RFC 9111's figures, worked out once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When the request that was answered by it was sent (RFC 9111 §4.2.3 `request_time`).
    pub requested_at: Timestamp,
    /// When its header section arrived (§4.2.3 `response_time`).
    pub received_at: Timestamp,
    /// How old it was when it arrived (§4.2.3 `corrected_initial_age`).
    pub initial_age: Duration,
    /// §4.2.1.
    pub freshness_lifetime: Duration,
    /// RFC 5861 §3, counted from the end of freshness; zero: not allowed.
    pub stale_while_revalidate: Duration,
    /// RFC 5861 §4, counted from the end of freshness; zero: not allowed.
    pub stale_if_error: Duration,
    /// `no-cache`: never reused without validation.
    pub always_validate: bool,
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage`: once stale, never reused without validation.
    pub must_revalidate: bool,
    /// §3.5: a request with credentials may be answered by it (`public`, `s-maxage`).
    pub open_to_credentials: bool,
    /// When it is of no use any more, not even to be validated.
    pub expires_at: Timestamp,
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
            Stored::Response(response) => response.head.terms.expires_at,
            Stored::Variants(variants) => variants.expires_at,
        }
    }
}

impl Terms {
    /// Of no use from `date` on, neither fresh nor stale.
    #[must_use]
    pub fn until(self, date: Timestamp) -> Self {
        let at_most = self.initial_age.saturating_add(date.since(self.received_at));
        let freshness_lifetime = self.freshness_lifetime.min(at_most);
        let stale_at_most = at_most.saturating_sub(freshness_lifetime);
        Self {
            freshness_lifetime,
            stale_while_revalidate: self.stale_while_revalidate.min(stale_at_most),
            stale_if_error: self.stale_if_error.min(stale_at_most),
            expires_at: self.expires_at.min(date),
            ..self
        }
    }

    /// With `thousandths` of what is left of its freshness taken away.
    #[must_use]
    pub fn shortened(self, thousandths: u32) -> Self {
        let kept = self.expires_at.since(self.received_at);
        let left = self.freshness_lifetime.saturating_sub(self.initial_age).min(kept);
        let cut = left / 1000 * thousandths.min(1000);
        Self {
            freshness_lifetime: self.freshness_lifetime.saturating_sub(cut),
            expires_at: self.expires_at.minus(cut),
            ..self
        }
    }

    /// Of a response that answers those who wait for it, and is not stored.
    pub fn unstored(requested_at: Timestamp, received_at: Timestamp) -> Self {
        Self {
            requested_at,
            received_at,
            initial_age: Duration::ZERO,
            freshness_lifetime: Duration::ZERO,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            always_validate: true,
            must_revalidate: true,
            open_to_credentials: false,
            expires_at: received_at,
        }
    }
}

impl StoredHead {
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
        (fixed + self.body.len() + self.head.fields.weight() + self.head.tags.weight() + targets) as u64
    }
}
