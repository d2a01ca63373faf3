//! Which server has what: the index is on one, a response may be on another. It never decides what a reply means.
//!
//! Each server has a [`Node`] of its own, with its own deadlines and breaker, so that one which is dead or hangs holds
//! up nothing that lies on another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::cluster::Cluster;
use super::connecting::{Address, Connecting};
use super::driver::{Changes, Node, Sent, Way};
use super::failure::Failure;
use super::figures::{Command, CommandFigures};
use super::keys::Keys;
use super::request::Request;
use super::scripts::{Part, Script};
use super::sentinel;
use super::slots::slot_of;
use crate::config::{RedisServers, RedisSettings};
use crate::store::remote::{LeaseFigures, Remote, RemoteNode};

/// The servers that larder shares its responses through.
pub struct Servers {
    topology: Topology,
    changes: Changes,
    /// For a look-up, all of it.
    timeout: Duration,
}

enum Topology {
    /// Behind sentinels it moves from one address to another.
    One(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl Servers {
    /// Connects in the background, again and again. Needs a runtime, which the connections then live on.
    ///
    /// # Errors
    /// If a file for TLS can't be read.
    pub fn connect(settings: &RedisSettings, keys: &Keys, timeout: Duration) -> io::Result<Arc<Self>> {
        let connecting = Connecting::new(settings, timeout)?;
        let changes: Changes = Arc::new(watch::Sender::new(()));
        let one = |address| Node::connect(&connecting, address, changes.clone());
        let topology = match &settings.servers {
            RedisServers::One(host) => Topology::One(one(Some(Address::Host(host.clone())))),
            RedisServers::Unix(path) => Topology::One(one(Some(Address::Socket(path.clone())))),
            RedisServers::Sentinel { sentinels, service } => {
                let primary = one(None);
                sentinel::follow(sentinels, service, &connecting, primary.clone(), changes.clone());
                Topology::One(primary)
            }
            RedisServers::Cluster(seeds) => {
                Topology::Cluster(Cluster::connect(connecting, seeds, slot_of(&keys.index), changes.clone()))
            }
        };
        Ok(Arc::new(Self { topology, changes, timeout }))
    }

    /// The one that has the purge index and what lies in one slot with it. Ask each time: it may be another one soon, and
    /// send commands by the functions below, which find it again if it has moved.
    pub fn index(&self) -> Arc<Node> {
        match &self.topology {
            Topology::One(node) => node.clone(),
            Topology::Cluster(cluster) => cluster.index(),
        }
    }

    /// Every master.
    pub fn all(&self) -> Vec<Arc<Node>> {
        match &self.topology {
            Topology::One(node) => vec![node.clone()],
            Topology::Cluster(cluster) => cluster.owners(),
        }
    }

    /// What is known of them; of the index only where it is.
    pub fn figures(&self) -> Remote {
        let (index, all) = (self.index(), self.all());
        let is_cluster = matches!(self.topology, Topology::Cluster(_));
        let of_node = |node: &Arc<Node>| RemoteNode {
            name: node.address().map(|address| address.to_string()).unwrap_or_default(),
            has_index: Arc::ptr_eq(node, &index),
            breaker: node.health.breaker(),
            trouble: node.health.reason(),
            in_flight: node.in_flight(),
        };
        Remote {
            breaker: index.health.breaker(),
            trouble: index.health.reason(),
            opened: all.iter().map(|node| node.health.opened()).sum(),
            connections: all.iter().map(|node| node.connections()).sum(),
            in_flight: all.iter().map(|node| node.in_flight()).sum(),
            purges_waiting: 0,
            confirmed_ago: None,
            max_lag: Duration::ZERO,
            new_indexes: 0,
            memory: all
                .iter()
                .filter_map(|node| node.figures.memory())
                .max_by(|a, b| a.fullness().total_cmp(&b.fullness())),
            leases: LeaseFigures::default(),
            commands: CommandFigures::all_of(all.iter().map(|node| &node.figures)),
            nodes: all.iter().filter(|_| is_cluster).map(of_node).collect(),
        }
    }

    /// A connection has come or gone, or a server was found to be another one.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// As others ask for theirs, if others do.
    pub async fn get(&self, key: String, within: Duration) -> Result<Option<Bytes>, Failure> {
        if let Topology::One(node) = &self.topology {
            return node.get(key.into(), within, self.timeout).await;
        }
        let way = Way { sent: Sent::IfHealthy, asking: false, within };
        let reply = self.send(Command::Get, &key, Request::get(key.clone().into()), way).await?;
        Ok(reply.into_bytes())
    }

    /// `expires_at` is in milliseconds on the server's clock.
    pub async fn set(
        &self,
        key: String,
        value: Bytes,
        expires_at: i64,
        within: Duration,
    ) -> Result<(), Failure> {
        let way = Way { sent: Sent::IfHealthy, asking: false, within };
        let request = Request::set(key.clone(), value, expires_at);
        self.send(Command::Set, &key, request, way).await.map(drop)
    }

    /// Runs a script where its first key is; all its keys lie in one slot.
    pub async fn run(
        &self,
        command: Command,
        script: &'static Script,
        keys: &[&str],
        args: Vec<Bytes>,
        sent: Sent,
        within: Duration,
    ) -> Result<Part, Failure> {
        let way = Way { sent, asking: false, within };
        match &self.topology {
            Topology::One(node) => node.run(command, script, keys, args, way).await,
            Topology::Cluster(cluster) => {
                let mut route = cluster.route(slot_of(keys.first().copied().unwrap_or_default()), way)?;
                loop {
                    match route.node.run(command, script, keys, args.clone(), route.way).await {
                        Err(Failure::Elsewhere(redirect)) => route.follow(&redirect)?,
                        result => return result,
                    }
                }
            }
        }
    }

    async fn send(&self, command: Command, key: &str, request: Request, way: Way) -> Result<Part, Failure> {
        match &self.topology {
            Topology::One(node) => node.send(command, request, way).await,
            Topology::Cluster(cluster) => {
                let mut route = cluster.route(slot_of(key), way)?;
                loop {
                    match route.node.send(command, request.clone(), route.way).await {
                        Err(Failure::Elsewhere(redirect)) => route.follow(&redirect)?,
                        result => return result,
                    }
                }
            }
        }
    }
}
