//! The parts of a request that may select its answer, and the evidence that they do.

use serde::{Deserialize, Serialize};

use super::FIELD_COUNT;

/// Lifetimes whose hits are estimated: in seconds, and as `ttl` has them.
pub(crate) const LIFETIMES: [(u64, &str); 4] = [(10, "10s"), (60, "1m"), (300, "5m"), (3_600, "1h")];

/// Pairs with the same answer, before a dimension counts as one that changes nothing.
const MIN_SAME: u64 = 20;

/// Callers that were compared, before a response counts as the same for all. They agreed in different contents, too: an
/// empty list is the same for all until somebody has one.
const MIN_CALLERS: usize = 3;
const MIN_AGREED_CONTENTS: usize = 2;

/// The parts of a request that may select the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dimensions {
    /// A fingerprint of the parts of every key beside the path.
    pub selection: u64,
    /// Names with the fingerprints of their values, sorted.
    pub parameters: Vec<(String, u64)>,
    /// Zero for an absent one.
    pub fields: [u64; FIELD_COUNT],
    pub caller: Option<u64>,
    /// The caller by the token's `sub`.
    pub subject: Option<u64>,
    /// The names of the fields that are the caller's credentials.
    pub credentials: Vec<String>,
}

/// Pairs of requests that differ in this dimension alone: how many got the same answer, and how many another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DimensionEvidence {
    /// Pairs with the same answer.
    pub same: u64,
    pub(crate) different: u64,
}

impl DimensionEvidence {
    /// Whether it most likely changes nothing.
    pub(crate) fn is_without_effect(self) -> bool {
        self.different == 0 && self.same >= MIN_SAME
    }

    /// Whether callers most likely get the same answers.
    pub(crate) fn makes_shared(self, callers: usize, agreed_contents: usize) -> bool {
        self.is_without_effect() && callers >= MIN_CALLERS && agreed_contents >= MIN_AGREED_CONTENTS
    }

    pub(super) fn add(&mut self, is_different: bool) {
        match is_different {
            true => self.different += 1,
            false => self.same += 1,
        }
    }
}
