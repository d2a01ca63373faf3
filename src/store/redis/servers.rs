//! The servers of a store: finds the one that has a key. It never interprets a reply.
//!
//! Each server has its own [`RedisNode`] with deadlines and a breaker, so that a dead or hanging server does not delay
//! commands to others.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::cluster::Cluster;
use super::command_stats::{CommandCounters, CommandKind};
use super::connection::{Address, Admission, SendOptions};
use super::connector::RedisConnector;
use super::credentials::LoginSource;
use super::error::RedisError;
use super::failure_reason::ExplainContext;
use super::keys::KeyNames;
use super::node::{RedisNode, TopologyChanges};
use super::request::RedisRequest;
use super::scripts::{RespValue, Script};
use super::sentinel::{self, SentinelTrust};
use super::slots::key_slot;
use crate::config::{RedisServers, RedisSettings};
use crate::store::remote_status::{FailureReason, LeaseStats, NodeStatus, RemoteStatus, ServerMemory};

/// The servers that replicas share responses through.
pub(crate) struct Servers {
    topology: Topology,
    context: ExplainContext,
    credentials: Option<LoginSource>,
    wake_up_failure: Mutex<Option<FailureReason>>,
    changes: TopologyChanges,
    /// For a whole look-up.
    timeout: Duration,
}

enum Topology {
    /// One server. Behind sentinels its address changes.
    Single(Arc<RedisNode>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// Connects in the background and keeps reconnecting. Needs a runtime, which the connections then live on.
    ///
    /// # Errors
    /// If a TLS file can't be read.
    pub(crate) fn connect(
        settings: &RedisSettings,
        keys: &KeyNames,
        timeout: Duration,
        trust: SentinelTrust,
    ) -> io::Result<Arc<Self>> {
        let connector = RedisConnector::new(settings, timeout)?;
        let (context, credentials) = (connector.context(), connector.credentials().cloned());
        let changes: TopologyChanges = Arc::new(watch::Sender::new(()));
        let one = |address| RedisNode::connect(&connector, address, changes.clone());
        let topology = match &settings.servers {
            RedisServers::One(host) => Topology::Single(one(Some(Address::Host(host.clone())))),
            RedisServers::Unix(path) => Topology::Single(one(Some(Address::Socket(path.clone())))),
            RedisServers::Sentinel { sentinels, service } => {
                let primary = one(None);
                sentinel::follow_primary(sentinels, service, &connector, primary.clone(), trust);
                Topology::Single(primary)
            }
            RedisServers::Cluster(seeds) => {
                Topology::Cluster(Cluster::connect(connector, seeds, key_slot(&keys.index), changes.clone()))
            }
        };
        let wake_up_failure = Mutex::default();
        Ok(Arc::new(Self { topology, context, credentials, wake_up_failure, changes, timeout }))
    }

    /// The server that has the purge index and the keys of its slot. It may change at any time, so don't keep it; send
    /// commands by the functions below, which follow it.
    pub(crate) fn index_node(&self) -> Arc<RedisNode> {
        match &self.topology {
            Topology::Single(node) => node.clone(),
            Topology::Cluster(cluster) => cluster.index_node(),
        }
    }

    /// All masters.
    pub(crate) fn nodes(&self) -> Vec<Arc<RedisNode>> {
        match &self.topology {
            Topology::Single(node) => vec![node.clone()],
            Topology::Cluster(cluster) => cluster.owners(),
        }
    }

    /// Whether [`Servers::nodes`] are all masters, and not only those that the configuration names.
    pub(super) fn knows_all_masters(&self) -> bool {
        match &self.topology {
            Topology::Single(_) => true,
            Topology::Cluster(cluster) => cluster.has_map(),
        }
    }

    /// The state of all servers. The index fills in what it knows.
    pub(crate) fn status(&self) -> RemoteStatus {
        let (index, all) = (self.index_node(), self.nodes());
        let is_cluster = matches!(self.topology, Topology::Cluster(_));
        let node_status = |node: &Arc<RedisNode>| NodeStatus {
            name: node.name(),
            has_index: Arc::ptr_eq(node, &index),
            breaker: node.health.breaker(),
            failure: node.health.last_error(),
            in_flight: node.in_flight(),
        };
        let memory = || all.iter().filter_map(|node| node.figures.memory());
        let keys = memory().filter_map(|memory| memory.keys).reduce(|sum, keys| sum + keys);
        RemoteStatus {
            breaker: index.health.breaker(),
            failure: index.health.last_error().or_else(|| self.credentials.as_ref()?.renewal_failure()),
            wake_up_failure: self.wake_up_failure.lock().clone(),
            times_opened: all.iter().map(|node| node.health.times_opened()).sum(),
            connections: all.iter().map(|node| node.connections()).sum(),
            in_flight: all.iter().map(|node| node.in_flight()).sum(),
            pending_purges: 0,
            synced_ago: None,
            max_lag: Duration::ZERO,
            rejected_values: 0,
            compression: None,
            index_resets: 0,
            memory: memory()
                .max_by(|a, b| a.used_fraction().total_cmp(&b.used_fraction()))
                .map(|fullest| ServerMemory { keys, ..fullest }),
            leases: LeaseStats::default(),
            commands: CommandCounters::sum(all.iter().map(|node| &node.figures)),
            nodes: all.iter().filter(|_| is_cluster).map(node_status).collect(),
        }
    }

    /// Notified when a connection is made or lost, or a server has moved.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn context(&self) -> ExplainContext {
        self.context
    }

    /// Records whether wake-ups are received. A new reason is logged once.
    pub(crate) fn set_wake_up_failure(&self, failure: Option<FailureReason>) {
        let mut current = self.wake_up_failure.lock();
        if let Some(reason) =
            failure.as_ref().filter(|reason| current.as_ref().is_none_or(|now| now.code != reason.code))
        {
            tracing::warn!(
                code = reason.code,
                reason = reason.message,
                "Redis delivers no wake-ups; purges of other replicas are noticed by polling"
            );
        }
        *current = failure;
    }

    /// Reads a value, on a single server in one command with other readers.
    pub(crate) async fn get(&self, key: String, within: Duration) -> Result<Option<Bytes>, RedisError> {
        if let Topology::Single(node) = &self.topology {
            return node.get(key.into(), within, self.timeout).await;
        }
        let way = SendOptions { admission: Admission::IfHealthy, asking: false, timeout: within };
        let reply = self.send(CommandKind::Get, &key, RedisRequest::get(key.clone().into()), way).await?;
        Ok(reply.into_bytes())
    }

    /// Writes a value. `expires_at` is in milliseconds on the server's clock.
    pub(crate) async fn set(
        &self,
        key: String,
        value: Bytes,
        expires_at: i64,
        within: Duration,
    ) -> Result<(), RedisError> {
        let way = SendOptions { admission: Admission::IfHealthy, asking: false, timeout: within };
        let request = RedisRequest::set(key.clone(), value, expires_at);
        self.send(CommandKind::Set, &key, request, way).await.map(drop)
    }

    /// Runs a script on the server of its first key. All its keys lie in one slot.
    pub(crate) async fn run(
        &self,
        command: CommandKind,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        sent: Admission,
        within: Duration,
    ) -> Result<RespValue, RedisError> {
        let way = SendOptions { admission: sent, asking: false, timeout: within };
        match &self.topology {
            Topology::Single(node) => node.run(command, script, keys, args, way).await,
            Topology::Cluster(cluster) => {
                let mut route = cluster.route(key_slot(keys.first().copied().unwrap_or_default()), way)?;
                loop {
                    match route.node.run(command, script, keys, args.clone(), route.attempt).await {
                        Err(RedisError::Redirected(redirect)) => route.follow(&redirect)?,
                        result => return result,
                    }
                }
            }
        }
    }

    /// Sends a command to the server that has the key.
    pub(super) async fn send(
        &self,
        command: CommandKind,
        key: &str,
        request: RedisRequest,
        way: SendOptions,
    ) -> Result<RespValue, RedisError> {
        match &self.topology {
            Topology::Single(node) => node.send(command, request, way).await,
            Topology::Cluster(cluster) => {
                let mut route = cluster.route(key_slot(key), way)?;
                loop {
                    match route.node.send(command, request.clone(), route.attempt).await {
                        Err(RedisError::Redirected(redirect)) => route.follow(&redirect)?,
                        result => return result,
                    }
                }
            }
        }
    }
}
