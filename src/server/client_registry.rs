//! The open connections by client. Bounds those of one client, and closes idle ones for others that wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::activity::ConnectionActivity;
use crate::proxy::client_network;

/// Connections that are looked at for an idle one, at most. The first of them differs from time to time.
const MAX_INSPECTED: usize = 256;

/// Shared by all listeners and threads.
#[derive(Default)]
pub(crate) struct ClientRegistry(Mutex<Clients>);

#[derive(Default)]
struct Clients {
    connections: HashMap<ClientKey, Vec<Arc<ConnectionActivity>>>,
    /// The number of calls to `evict_idle`, which rotates where it begins.
    rotation: usize,
}

/// An IPv4 address, or the /64 of an IPv6 address; `None`: a client that is not bounded.
type ClientKey = Option<IpAddr>;

/// A connection that counts until this is dropped.
pub(super) struct Registration<'r> {
    registry: &'r ClientRegistry,
    key: ClientKey,
    activity: Arc<ConnectionActivity>,
}

impl ClientRegistry {
    /// Admits a connection. At `limit`, the client's longest idle connection is closed for it; `None` if none is idle.
    pub(super) fn register(
        &self,
        client: Option<IpAddr>,
        limit: Option<usize>,
        activity: Arc<ConnectionActivity>,
    ) -> Option<Registration<'_>> {
        let key = client.map(client_network);
        let mut clients = self.0.lock();
        let connections = clients.connections.entry(key).or_default();
        if key.is_some() && limit.is_some_and(|limit| connections.len() >= limit) {
            let mut idle: Vec<_> =
                connections.iter().filter_map(|it| Some((it.idle_for()?, it))).take(MAX_INSPECTED).collect();
            idle.sort_by_key(|(idle_for, _)| std::cmp::Reverse(*idle_for));
            let evicted = idle.into_iter().map(|(_, activity)| activity.clone()).find(|it| it.evict())?;
            connections.retain(|activity| !Arc::ptr_eq(activity, &evicted));
        }
        connections.push(activity.clone());
        drop(clients);
        Some(Registration { registry: self, key, activity })
    }

    /// Closes a connection of any client that has been idle for `min_idle`. Returns whether there was one.
    pub(super) fn evict_idle(&self, min_idle: Duration) -> bool {
        let mut clients = self.0.lock();
        clients.rotation = clients.rotation.wrapping_add(MAX_INSPECTED);
        let total: usize = clients.connections.values().map(Vec::len).sum();
        let begin = clients.rotation % total.max(1);
        let all = || clients.connections.values().flatten();
        let candidates = all().skip(begin).chain(all().take(begin)).take(MAX_INSPECTED);
        let idle = candidates.filter_map(|it| Some((it.idle_for().filter(|idle| *idle >= min_idle)?, it)));
        let mut idle: Vec<_> = idle.collect();
        idle.sort_by_key(|(idle_for, _)| std::cmp::Reverse(*idle_for));
        idle.into_iter().any(|(_, activity)| activity.evict())
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let mut clients = self.registry.0.lock();
        if let Some(connections) = clients.connections.get_mut(&self.key) {
            connections.retain(|activity| !Arc::ptr_eq(activity, &self.activity));
            if connections.is_empty() {
                clients.connections.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn at_its_limit_a_client_gives_up_an_idle_connection() {
        let registry = ClientRegistry::default();
        let (idle, busy) = (ConnectionActivity::new(), ConnectionActivity::new());
        let _in_flight = busy.begin_request(false);
        let client = address("192.0.2.1");
        let _both = [
            registry.register(client, Some(2), idle.clone()).expect("one"),
            registry.register(client, Some(2), busy.clone()).expect("two"),
        ];
        let other = registry.register(address("192.0.2.2"), Some(2), ConnectionActivity::new());
        assert!(other.is_some() && !idle.is_evicted());
        let third = ConnectionActivity::new();
        let _third_in_flight = third.begin_request(false);
        let admitted = registry.register(client, Some(2), third);
        assert!(admitted.is_some() && idle.is_evicted() && !busy.is_evicted());
        assert!(registry.register(client, Some(2), ConnectionActivity::new()).is_none());
        drop(admitted);
        assert!(registry.register(client, Some(2), ConnectionActivity::new()).is_some());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let registry = ClientRegistry::default();
        let busy = ConnectionActivity::new();
        let _in_flight = busy.begin_request(false);
        let _one = registry.register(address("2001:db8::1"), Some(1), busy).expect("one");
        assert!(registry.register(address("2001:db8::ffff"), Some(1), ConnectionActivity::new()).is_none());
        assert!(registry.register(address("2001:db8:0:1::1"), Some(1), ConnectionActivity::new()).is_some());
        let unbounded = ConnectionActivity::new();
        assert!(registry.register(None, Some(1), unbounded.clone()).is_some());
        assert!(registry.register(None, Some(1), unbounded).is_some());
    }

    #[test]
    fn only_connections_that_are_idle_for_long_enough_are_evicted() {
        let registry = ClientRegistry::default();
        let idle = ConnectionActivity::new();
        let _registered = registry.register(address("192.0.2.1"), None, idle.clone());
        assert!(!registry.evict_idle(Duration::from_secs(60)));
        assert!(registry.evict_idle(Duration::ZERO) && idle.is_evicted());
        assert!(!registry.evict_idle(Duration::ZERO));
    }
}
