//! A cluster: the slot map, a [`RedisNode`] for each node, and redirections.
//!
//! The map is a hint that every command verifies: a node that does not own a slot redirects to the owner. So the map is
//! refreshed in the background, once for any number of redirections, and no command waits for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::command_stats::CommandKind;
use super::connection::{Address, Admission, SendOptions};
use super::connector::RedisConnector;
use super::error::{Redirect, RedisError};
use super::node::{RedisNode, TopologyChanges, remaining_time};
use super::request::RedisRequest;
use super::scripts::RespValue;
use super::slots::SlotMap;
use crate::clock::Moment;
use crate::config::RedisHost;

/// More redirections than this are a loop.
const MAX_REDIRECTS: usize = 5;

/// For a query about the cluster, which runs in the background.
const QUERY_TIMEOUT: Duration = Duration::from_millis(250);

/// Maximum number of nodes that are queried; the newest reply counts.
const MAX_NODES_QUERIED: usize = 8;

/// Between refreshes while all nodes are healthy. Redirections trigger further ones.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5);
/// Between refreshes while a node does not answer: its replica may be promoted at any moment.
const DEGRADED_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// A burst of redirections causes one refresh.
const REFRESH_DEBOUNCE: Duration = Duration::from_millis(20);

/// Between probes of a node that does not answer.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node is kept that only a redirection has named.
const UNLISTED_NODE_TTL: Duration = Duration::from_secs(10);

pub(super) struct Cluster {
    connector: RedisConnector,
    runtime: Handle,
    changes: TopologyChanges,
    index_slot: u16,
    seeds: Vec<(RedisHost, Arc<RedisNode>)>,
    map: ArcSwap<ClusterMap>,
    /// Nodes other than the seeds, and when each was last named.
    unlisted: Mutex<HashMap<RedisHost, (Arc<RedisNode>, Instant)>>,
    /// Notified by redirections.
    refresh_requested: Notify,
}

struct ClusterMap {
    /// The cluster's epoch of this map.
    epoch: u64,
    slots: Option<SlotMap>,
    /// The owners of slots; the seeds until the map is known.
    owners: Vec<Arc<RedisNode>>,
}

/// The route of one command through the cluster.
pub(super) struct ClusterRoute<'a> {
    pub node: Arc<RedisNode>,
    pub attempt: SendOptions,
    cluster: &'a Cluster,
    began: Moment,
    options: SendOptions,
    redirects: usize,
}

impl Cluster {
    /// Connects to the seeds. Needs a runtime, which the connections then live on.
    pub(super) fn connect(
        connector: RedisConnector,
        seeds: &[RedisHost],
        index_slot: u16,
        changes: TopologyChanges,
    ) -> Arc<Self> {
        let connect = |host: &RedisHost| {
            let node = RedisNode::connect(&connector, Some(Address::Host(host.clone())), changes.clone());
            (host.clone(), node)
        };
        let seeds: Vec<_> = seeds.iter().map(connect).collect();
        let owners = seeds.iter().map(|(_, node)| node.clone()).collect();
        let cluster = Arc::new(Self {
            connector,
            runtime: Handle::current(),
            changes,
            index_slot,
            seeds,
            map: ArcSwap::from_pointee(ClusterMap { epoch: 0, slots: None, owners }),
            unlisted: Mutex::default(),
            refresh_requested: Notify::new(),
        });
        tokio::spawn(cluster.clone().run_refresh());
        tokio::spawn(cluster.clone().run_probes());
        cluster
    }

    /// The owner of the slot, or any node while the map is unknown. `None`: the slot has no owner. (A node answers such a
    /// command with CLUSTERDOWN, and the client library drops the connection for it.)
    fn owner(&self, slot: u16) -> Option<Arc<RedisNode>> {
        let map = self.map.load();
        match &map.slots {
            Some(slots) => map.owners.get(slots.owner(slot)?).cloned(),
            None => Some(self.any_node()),
        }
    }

    pub(super) fn has_map(&self) -> bool {
        self.map.load().slots.is_some()
    }

    fn any_node(&self) -> Arc<RedisNode> {
        let map = self.map.load();
        let known = map.owners.iter().find(|node| node.health.is_healthy()).or(map.owners.first());
        // There is at least one seed, and a map has at least one owner.
        known.unwrap_or(&self.seeds[0].1).clone()
    }

    /// The node that has the index, or any that redirects to it.
    pub(super) fn index_node(&self) -> Arc<RedisNode> {
        self.owner(self.index_slot).unwrap_or_else(|| self.any_node())
    }

    /// The owners of slots; the seeds while the map is unknown.
    pub(super) fn owners(&self) -> Vec<Arc<RedisNode>> {
        self.map.load().owners.clone()
    }

    /// Routes a command to the owner of the slot. Redirections are followed within one deadline.
    ///
    /// # Errors
    /// If the slot has no owner.
    pub(super) fn route(&self, slot: u16, way: SendOptions) -> Result<ClusterRoute<'_>, RedisError> {
        let unassigned =
            || RedisError::ErrorReply("CLUSTERDOWN no node of the cluster has the slot".to_owned());
        let node = self.owner(slot).ok_or_else(unassigned)?;
        Ok(ClusterRoute {
            node,
            attempt: way,
            cluster: self,
            began: Moment::now(),
            options: way,
            redirects: 0,
        })
    }

    fn redirect_target(&self, redirect: &Redirect, by: &RedisNode) -> Result<Arc<RedisNode>, RedisError> {
        let by = by.address();
        let by = by.as_deref().and_then(|address| match address {
            Address::Host(host) => Some(host),
            Address::Socket(_) => None,
        });
        let unknown = || RedisError::ErrorReply("the cluster redirected to a node without a host".to_owned());
        Ok(self.node(redirect.resolve(by).ok_or_else(unknown)?))
    }

    fn node(&self, host: RedisHost) -> Arc<RedisNode> {
        if let Some((_, node)) = self.seeds.iter().find(|(seed, _)| *seed == host) {
            return node.clone();
        }
        let mut others = self.lock_unlisted();
        let (node, named) = others.entry(host).or_insert_with_key(|host| {
            let _on = self.runtime.enter();
            let address = Some(Address::Host(host.clone()));
            (RedisNode::connect(&self.connector, address, self.changes.clone()), Instant::now())
        });
        *named = Instant::now();
        node.clone()
    }

    async fn run_refresh(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        loop {
            self.refresh_map().await;
            let pause = if self.is_healthy() { REFRESH_INTERVAL } else { DEGRADED_REFRESH_INTERVAL };
            tokio::time::sleep(REFRESH_DEBOUNCE).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.refresh_requested.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    fn is_healthy(&self) -> bool {
        let map = self.map.load();
        map.slots.as_ref().is_some_and(SlotMap::is_complete)
            && map.owners.iter().all(|node| node.health.is_healthy())
    }

    /// Queries the healthy nodes; all if none is.
    async fn refresh_map(&self) {
        let everyone: Vec<_> =
            self.seeds.iter().map(|(_, node)| node.clone()).chain(self.known_nodes()).collect();
        let mut asked: Vec<_> = everyone.iter().filter(|node| node.health.is_healthy()).cloned().collect();
        if asked.is_empty() {
            asked = everyone;
        }
        let mut answers = JoinSet::new();
        for node in asked.into_iter().take(MAX_NODES_QUERIED) {
            answers.spawn(query_slot_map(node));
        }
        let answers: Vec<_> = answers.join_all().await.into_iter().flatten().collect();
        // A change needs the votes of more than half of the masters. So an older epoch comes from nodes that are cut off,
        // unless a majority reports it: then the cluster was reset.
        let is_majority = 2 * answers.len() > self.owners().len();
        let newest = answers.into_iter().max_by_key(|(epoch, _)| *epoch);
        if let Some((epoch, slots)) =
            newest.filter(|(epoch, _)| is_majority || *epoch >= self.map.load().epoch)
        {
            self.apply_map(epoch, slots);
        }
    }

    fn apply_map(&self, epoch: u64, slots: SlotMap) {
        let before = self.map.load_full();
        let owners: Vec<_> = slots.owners.iter().map(|host| self.node(host.clone())).collect();
        self.drop_departed_nodes(&slots);
        let is_new = before.slots.as_ref() != Some(&slots);
        if is_new {
            tracing::info!(masters = owners.len(), "cluster slot map updated");
        }
        if is_new || before.epoch != epoch {
            self.map.store(Arc::new(ClusterMap { epoch, slots: Some(slots), owners }));
        }
        if is_new {
            self.changes.send_replace(());
        }
    }

    /// Ends the connections of nodes that have left.
    fn drop_departed_nodes(&self, slots: &SlotMap) {
        self.lock_unlisted().retain(|host, (node, named)| {
            let stays = slots.owners.contains(host) || named.elapsed() < UNLISTED_NODE_TTL;
            if !stays {
                node.shut_down();
            }
            stays
        });
    }

    /// Probes unhealthy nodes. The node of the index is probed by its confirmations.
    async fn run_probes(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        loop {
            let index = self.index_node();
            let mut unhealthy = self.known_nodes();
            unhealthy.retain(|node| !node.health.is_healthy() && !Arc::ptr_eq(node, &index));
            if unhealthy.is_empty() && changes.changed().await.is_err() {
                return;
            }
            let mut asked = JoinSet::new();
            for node in unhealthy {
                asked.spawn(probe_node(node));
            }
            asked.join_all().await;
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
    }

    /// All nodes but seeds that own no slots.
    fn known_nodes(&self) -> Vec<Arc<RedisNode>> {
        let mut known = self.owners();
        for (node, _) in self.lock_unlisted().values() {
            if !known.iter().any(|other| Arc::ptr_eq(node, other)) {
                known.push(node.clone());
            }
        }
        known
    }

    fn lock_unlisted(&self) -> MutexGuard<'_, HashMap<RedisHost, (Arc<RedisNode>, Instant)>> {
        self.unlisted.lock()
    }
}

impl ClusterRoute<'_> {
    /// # Errors
    /// If the deadline has passed, or there are too many redirections.
    pub(super) fn follow(&mut self, redirect: &Redirect) -> Result<(), RedisError> {
        self.redirects += 1;
        if self.redirects > MAX_REDIRECTS {
            return Err(RedisError::ErrorReply("the cluster redirected too often".to_owned()));
        }
        if self.began.elapsed() >= self.options.timeout {
            return Err(RedisError::TimedOut);
        }
        if !redirect.is_ask {
            self.cluster.refresh_requested.notify_one();
        }
        self.node = self.cluster.redirect_target(redirect, &self.node)?;
        // Wait for a node that is not connected yet.
        let sent = if self.node.health.is_unknown() { Admission::Probe } else { self.options.admission };
        self.attempt = SendOptions {
            admission: sent,
            asking: redirect.is_ask,
            timeout: remaining_time(self.options.timeout, self.began),
        };
        Ok(())
    }
}

/// A node's slot map and its epoch. A node that is cut off from the others knows an old one.
async fn query_slot_map(node: Arc<RedisNode>) -> Option<(u64, SlotMap)> {
    let Address::Host(host) = &*node.address()? else { return None };
    let look = SendOptions { admission: Admission::Probe, asking: false, timeout: QUERY_TIMEOUT };
    let (info, slots) = tokio::join!(
        node.send(CommandKind::Query, RedisRequest::with_args("CLUSTER", &["INFO"]), look),
        node.send(CommandKind::Query, RedisRequest::with_args("CLUSTER", &["SLOTS"]), look),
    );
    if let Err(error) = &slots {
        node.health.on_map_refusal(error);
    }
    let (info, slots): (RespValue, RespValue) = (info.ok()?, slots.ok()?);
    let mut lines = info.text()?.lines();
    let epoch = lines.find_map(|line| line.trim().strip_prefix("cluster_current_epoch:")?.parse().ok())?;
    Some((epoch, SlotMap::parse(&slots, host)?))
}

async fn probe_node(node: Arc<RedisNode>) {
    let way = SendOptions { admission: Admission::Probe, asking: false, timeout: PROBE_INTERVAL };
    node.health.start_probe();
    let reply = node.send(CommandKind::Query, RedisRequest::with_args("CLUSTER", &["INFO"]), way).await;
    let failure = match reply {
        Ok(reply) if reply.text().is_some_and(|text| text.contains("cluster_state:ok")) => {
            return node.health.on_probe_success();
        }
        Ok(_) => RedisError::ErrorReply("CLUSTERDOWN the cluster is down".to_owned()),
        Err(failure) => failure,
    };
    node.health.on_probe_failure(&failure);
    if node.health.should_reconnect() {
        node.reconnect();
    }
}
