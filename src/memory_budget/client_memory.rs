//! The memory that is held for each client, and for what all clients send.
//!
//! A client is an address, or an IPv6 /64. The table has a fixed size: clients whose hashes collide share an account, and
//! the hash is seeded at random.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{ALWAYS_ADMITTED, MemoryBudget, Reservation};

/// 128 KiB.
const SLOTS: usize = 1 << 14;

/// A head up to this size is held whether there is room for it or not: each connection may have so much.
pub(crate) const HEAD_WITHOUT_ROOM_BYTES: u64 = 4 * 1024;

/// The part of the memory beside the store that one client has: 1 / this.
const CLIENTS: u64 = 4;

#[derive(Debug)]
pub(super) struct Accounts {
    clients: Box<[AtomicU64]>,
    hasher: RandomState,
    /// The heads and contents of all clients.
    requests: AtomicU64,
    /// The memory beside the store.
    outside: u64,
    /// The times that a client found no room.
    refusals: AtomicU64,
}

/// The accounts in which bytes count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charged {
    client: Option<usize>,
    is_request: bool,
}

impl Accounts {
    pub(super) fn new(outside: u64) -> Self {
        Self {
            clients: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            requests: AtomicU64::new(0),
            outside,
            refusals: AtomicU64::new(0),
        }
    }

    fn charged(&self, charged: Charged) -> impl Iterator<Item = &AtomicU64> {
        let client = charged.client.map(|slot| &self.clients[slot]);
        client.into_iter().chain(charged.is_request.then_some(&self.requests))
    }

    pub(super) fn add(&self, charged: Charged, bytes: u64) {
        self.charged(charged).for_each(|account| _ = account.fetch_add(bytes, Ordering::Relaxed));
    }

    pub(super) fn subtract(&self, charged: Charged, bytes: u64) {
        self.charged(charged).for_each(|account| _ = account.fetch_sub(bytes, Ordering::Relaxed));
    }
}

/// The memory budget as one client may use it.
#[derive(Clone, Debug)]
pub(crate) struct ClientMemory {
    budget: Arc<MemoryBudget>,
    /// `None`: a client that is bounded together with all others only.
    slot: Option<usize>,
}

impl MemoryBudget {
    /// `client`: its network; `None` for a proxy that is trusted, and for larder itself.
    pub(crate) fn open_account(self: &Arc<Self>, client: Option<IpAddr>) -> ClientMemory {
        let slot = client.map(|client| self.accounts.hasher.hash_one(client) as usize % SLOTS);
        ClientMemory { budget: self.clone(), slot }
    }

    /// Bytes of heads and contents that are held.
    pub(crate) fn request_bytes(&self) -> u64 {
        self.accounts.requests.load(Ordering::Relaxed)
    }

    /// The times that a client found no room for a head, a content or a response.
    pub(crate) fn refusals(&self) -> u64 {
        self.accounts.refusals.load(Ordering::Relaxed)
    }
}

impl ClientMemory {
    pub(crate) fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Begins to count a head or a content.
    pub(crate) fn reserve(&self) -> Reservation {
        self.budget.reserve_as(Some(self.charged(true)))
    }

    /// Counts a part of a response that is fetched for the client.
    pub(crate) fn count(&self, body: Bytes) -> Bytes {
        if body.is_empty() {
            return body;
        }
        let mut reservation = self.budget.reserve_as(Some(self.charged(false)));
        reservation.grow(body.len() as u64);
        reservation.attach(body)
    }

    /// Whether there is room for `bytes` more of a head or a content.
    pub(crate) fn has_room_for(&self, bytes: u64) -> bool {
        let Accounts { outside, .. } = self.budget.accounts;
        let has_room = self.budget.has_room()
            && self.budget.request_bytes() + bytes <= outside
            && self.held() + bytes <= outside / CLIENTS;
        self.record(has_room)
    }

    /// Whether there is room to keep a response that has this size as far as it is known, and is counted already.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        let Accounts { outside, .. } = self.budget.accounts;
        // A client has a share of what is beside the store, and all of the room that the store leaves.
        let is_short = || self.budget.used.load(Ordering::Relaxed) > self.budget.limit - outside;
        // This one response may be larger than the share.
        let has_share = || self.held().saturating_sub(bytes) <= outside / CLIENTS || !is_short();
        self.record(bytes <= ALWAYS_ADMITTED || self.budget.has_room() && has_share())
    }

    fn held(&self) -> u64 {
        self.slot.map_or(0, |slot| self.budget.accounts.clients[slot].load(Ordering::Relaxed))
    }

    fn charged(&self, is_request: bool) -> Charged {
        Charged { client: self.slot, is_request }
    }

    fn record(&self, has_room: bool) -> bool {
        if !has_room {
            self.budget.accounts.refusals.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// 16 MiB beside the store.
    fn budget() -> Arc<MemoryBudget> {
        MemoryBudget::new(64 * MIB)
    }

    fn client(budget: &Arc<MemoryBudget>, number: u8) -> ClientMemory {
        budget.open_account(Some(IpAddr::from([192, 0, 2, number])))
    }

    fn request(memory: &ClientMemory, bytes: u64) -> Reservation {
        let mut reservation = memory.reserve();
        reservation.grow(bytes);
        reservation
    }

    #[test]
    fn one_client_has_a_quarter_and_all_have_the_rest() {
        let budget = budget();
        let (one, other) = (client(&budget, 1), client(&budget, 2));
        let held = request(&one, 4 * MIB);
        assert!(!one.has_room_for(1) && other.has_room_for(4 * MIB) && !other.has_room_for(4 * MIB + 1));
        assert_eq!((budget.request_bytes(), budget.refusals()), (4 * MIB, 2));
        drop(held);
        assert!(one.has_room_for(4 * MIB));
        assert_eq!(budget.request_bytes(), 0);
        let unbounded = budget.open_account(None);
        let _held: Vec<_> = (0..16).map(|_| request(&unbounded, MIB)).collect();
        assert!(!other.has_room_for(1) && !unbounded.has_room_for(1), "all together");
    }

    #[test]
    fn a_response_has_the_room_that_the_store_leaves() {
        let budget = budget();
        let (one, other) = (client(&budget, 1), client(&budget, 2));
        let part = || one.count(Bytes::from(vec![0; MIB as usize]));
        let parts: Vec<_> = (0..8).map(|_| part()).collect();
        assert!(one.admits(2 * MIB), "the store is empty");
        assert!(!one.has_room_for(1), "a content is refused before");
        let stored = budget.count(Bytes::from(vec![0; 57 * MIB as usize]));
        assert!(!one.admits(2 * MIB) && other.admits(2 * MIB) && one.admits(ALWAYS_ADMITTED));
        assert!(one.admits(8 * MIB), "it holds no other");
        assert_eq!(budget.request_bytes(), 0);
        drop(parts);
        assert!(one.admits(2 * MIB) && stored.len() > 1);
    }
}
