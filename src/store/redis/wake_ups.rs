//! Wake-ups: hints that something was purged, that a lease has ended, or that every replica is to report.

use std::sync::Arc;

use super::connection::{PubsubProtocol, RedisConnection};
use super::error::RedisError;
use super::failure_reason::{ExplainContext, explain};
use super::index::RedisIndex;
use super::leases::{FetchLeases, LEASE_ENDED};
use super::pubsub::{Subscriber, subscribe};
use super::replicas::HEARTBEAT_REQUEST;
use crate::purge::PurgeVersion;

/// The wake-ups of a namespace. In a cluster every node delivers messages that are published on one.
struct WakeUps {
    channel: String,
    index: Arc<RedisIndex>,
    leases: Arc<FetchLeases>,
    context: ExplainContext,
}

/// Receives wake-ups until the runtime ends.
pub(crate) async fn listen_for_wake_ups(channel: String, index: Arc<RedisIndex>, leases: Arc<FetchLeases>) {
    let context = index.servers.context();
    subscribe(WakeUps { channel, index, leases, context }).await;
}

impl Subscriber for WakeUps {
    fn channel(&self) -> &str {
        &self.channel
    }

    fn connect(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        self.index.servers.index_node().build_pubsub_client(protocol)
    }

    async fn moved(&self) {
        let servers = &self.index.servers;
        let mut changes = servers.changes();
        let (before, address) = (servers.index_node(), servers.index_node().address());
        let is_same = || {
            let now = servers.index_node();
            Arc::ptr_eq(&now, &before) && now.address() == address
        };
        while is_same() && changes.changed().await.is_ok() {}
    }

    /// A lost message may have been of any purge.
    fn on_message(&self, message: Option<&str>) {
        let version = |text: &str| text.parse().ok().map(PurgeVersion);
        match message {
            Some(request) if request.starts_with(HEARTBEAT_REQUEST) => {
                self.index.on_heartbeat_request(version(&request[1..]).unwrap_or_default());
            }
            Some(ended) if ended.starts_with(LEASE_ENDED) => self.leases.on_lease_ended(&ended[1..]),
            message => self.index.on_wake_up(message.and_then(version).unwrap_or(PurgeVersion(u64::MAX))),
        }
    }

    /// While Redis is unavailable altogether, that is what is reported.
    fn on_failure(&self, error: Option<RedisError>) {
        let servers = &self.index.servers;
        match error {
            None => servers.set_wake_up_failure(None),
            Some(error) if self.index.is_reachable() => {
                servers.set_wake_up_failure(Some(explain(&error, self.context)));
            }
            Some(_) => {}
        }
    }
}
