//! Tells requests apart by what they forward and where they come from.

use std::net::IpAddr;

use super::client_request::ClientHead;
use super::sender_budgets::sender_network;
use crate::policy::cache_key::CacheKey;

/// The request that a response answered: the fields that it forwards, and its client.
#[derive(Clone, Copy)]
pub(super) struct Requester {
    pub fields: CacheKey,
    /// `None`: each request counts as one of another client.
    pub network: Option<IpAddr>,
}

impl Requester {
    pub(super) fn new(key: &CacheKey, head: &ClientHead) -> Self {
        Self { fields: head.key_of_fields(key), network: sender_network(head) }
    }

    pub(super) fn is_of_other_client(&self, other: &Self) -> bool {
        self.network.is_none() || self.network != other.network
    }
}
