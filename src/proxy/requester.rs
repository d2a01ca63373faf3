//! Tells requests apart by what they forward, where they come from, and whether the key has their credentials.

use std::net::IpAddr;

use super::client_request::ClientHead;
use super::sender_budgets::sender_network;
use crate::policy::cache_key::CacheKey;

/// The kinds of callers that are held back apart: a response to one kind says nothing of the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CallerKind {
    /// The request has no credentials, or all of them are in the key.
    InKey,
    /// The request has a credential that is not in the key.
    OutsideKey,
}

/// The request that a response answered: the fields that it forwards, and its client.
#[derive(Clone, Copy)]
pub(super) struct Requester {
    pub fields: CacheKey,
    /// `None`: each request counts as one of another client.
    pub network: Option<IpAddr>,
}

impl CallerKind {
    pub(super) fn collapse_as_str(self) -> &'static str {
        match self {
            CallerKind::InKey => "collapse, callers in the key",
            CallerKind::OutsideKey => "collapse, callers outside the key",
        }
    }

    pub(super) fn refresh_as_str(self) -> &'static str {
        match self {
            CallerKind::InKey => "refresh",
            CallerKind::OutsideKey => "refresh, callers outside the key",
        }
    }
}

impl Requester {
    pub(super) fn new(key: &CacheKey, head: &ClientHead) -> Self {
        Self { fields: head.key_of_fields(key), network: sender_network(head) }
    }

    pub(super) fn is_of_other_client(&self, other: &Self) -> bool {
        self.network.is_none() || self.network != other.network
    }
}
