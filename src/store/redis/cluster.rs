//! A cluster: which node has which slot, one [`Node`] for each, and redirections followed.
//!
//! What the map says is a guess that every command checks: a node that does not have a slot says who has. So the map is
//! asked for in the background, once for however many commands were sent elsewhere, and nobody waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::connecting::{Address, Connecting};
use super::driver::{Changes, Node, Sent, Way, rest};
use super::failure::{Failure, Redirect};
use super::figures::Command;
use super::request::Request;
use super::scripts::Part;
use super::slots::Slots;
use crate::config::RedisHost;

/// More redirections than this are a circle.
const MOST_HOPS: usize = 5;

/// For a question about the cluster. Nobody waits for the answer.
const LOOK: Duration = Duration::from_millis(250);

/// So many nodes are asked; the newest answer counts.
const MOST_ASKED: usize = 8;

/// Between looks at a cluster that is well: a hint only, what has moved says so itself.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);
/// While a node does not answer: its replica may take its place at any moment.
const WHILE_IN_TROUBLE: Duration = Duration::from_millis(100);
/// A storm of redirections is one look.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// A node that does not answer is asked this often whether it does.
const BETWEEN_PROBES: Duration = Duration::from_millis(50);

/// A node that only a redirection has named is kept for so long.
const REMEMBERED: Duration = Duration::from_secs(10);

pub struct Cluster {
    connecting: Connecting,
    runtime: Handle,
    changes: Changes,
    index_slot: u16,
    seeds: Vec<(RedisHost, Arc<Node>)>,
    map: ArcSwap<Map>,
    /// All but the seeds, and when somebody last named them.
    others: Mutex<HashMap<RedisHost, (Arc<Node>, Instant)>>,
    /// A node sent somebody elsewhere.
    moved: Notify,
}

struct Map {
    /// The cluster's epoch at which it was told.
    epoch: u64,
    slots: Option<Slots>,
    /// As the slots' owners, or the seeds before anything is known.
    owners: Vec<Arc<Node>>,
}

/// The way of one command through the cluster.
pub struct Route<'a> {
    pub node: Arc<Node>,
    pub way: Way,
    cluster: &'a Cluster,
    began: Instant,
    asked: Way,
    hops: usize,
}

impl Cluster {
    /// Needs a runtime, which the connections then live on.
    pub fn connect(
        connecting: Connecting,
        seeds: &[RedisHost],
        index_slot: u16,
        changes: Changes,
    ) -> Arc<Self> {
        let connect = |host: &RedisHost| {
            let node = Node::connect(&connecting, Some(Address::Host(host.clone())), changes.clone());
            (host.clone(), node)
        };
        let seeds: Vec<_> = seeds.iter().map(connect).collect();
        let owners = seeds.iter().map(|(_, node)| node.clone()).collect();
        let cluster = Arc::new(Self {
            connecting,
            runtime: Handle::current(),
            changes,
            index_slot,
            seeds,
            map: ArcSwap::from_pointee(Map { epoch: 0, slots: None, owners }),
            others: Mutex::default(),
            moved: Notify::new(),
        });
        tokio::spawn(cluster.clone().keep_map());
        tokio::spawn(cluster.clone().probe());
        cluster
    }

    /// The node that has the slot; while nobody knows, any, which will say who has. `None`: nobody has.
    ///
    /// (A node that is asked for such a slot says so, and the client library drops the connection for it.)
    fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let map = self.map.load();
        match &map.slots {
            Some(slots) => map.owners.get(slots.owner(slot)?).cloned(),
            None => Some(self.any()),
        }
    }

    fn any(&self) -> Arc<Node> {
        let map = self.map.load();
        let known = map.owners.iter().find(|node| node.health.is_good()).or(map.owners.first());
        // There is at least one seed, and no map without an owner.
        known.unwrap_or(&self.seeds[0].1).clone()
    }

    /// The node that has the index, or will say who has.
    pub fn index(&self) -> Arc<Node> {
        self.owner(self.index_slot).unwrap_or_else(|| self.any())
    }

    /// Those that have slots; the seeds while nobody knows.
    pub fn owners(&self) -> Vec<Arc<Node>> {
        self.map.load().owners.clone()
    }

    /// To the node that has the slot, and on to where that one points, within one deadline.
    ///
    /// # Errors
    /// If nobody has the slot.
    pub fn route(&self, slot: u16, way: Way) -> Result<Route<'_>, Failure> {
        let nobody = || Failure::Refused("CLUSTERDOWN no node of the cluster has the slot".to_owned());
        let node = self.owner(slot).ok_or_else(nobody)?;
        Ok(Route { node, way, cluster: self, began: Instant::now(), asked: way, hops: 0 })
    }

    fn named(&self, redirect: &Redirect, by: &Node) -> Result<Arc<Node>, Failure> {
        let by = by.address();
        let by = by.as_deref().and_then(|address| match address {
            Address::Host(host) => Some(host),
            Address::Socket(_) => None,
        });
        let unknown = || Failure::Refused("the cluster pointed at a node without a name".to_owned());
        Ok(self.node(redirect.target(by).ok_or_else(unknown)?))
    }

    fn node(&self, host: RedisHost) -> Arc<Node> {
        if let Some((_, node)) = self.seeds.iter().find(|(seed, _)| *seed == host) {
            return node.clone();
        }
        let mut others = self.others();
        let (node, named) = others.entry(host).or_insert_with_key(|host| {
            let _on = self.runtime.enter();
            let address = Some(Address::Host(host.clone()));
            (Node::connect(&self.connecting, address, self.changes.clone()), Instant::now())
        });
        *named = Instant::now();
        node.clone()
    }

    async fn keep_map(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        loop {
            self.look().await;
            let pause = if self.is_well() { BETWEEN_LOOKS } else { WHILE_IN_TROUBLE };
            tokio::time::sleep(SHORTEST_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.moved.notified() => {}
                _ = changes.changed() => {}
            }
        }
    }

    fn is_well(&self) -> bool {
        let map = self.map.load();
        map.slots.as_ref().is_some_and(Slots::is_whole) && map.owners.iter().all(|node| node.health.is_good())
    }

    /// Nodes that answer are asked what they know; where none does, all are.
    async fn look(&self) {
        let everyone: Vec<_> = self.seeds.iter().map(|(_, node)| node.clone()).chain(self.known()).collect();
        let mut asked: Vec<_> = everyone.iter().filter(|node| node.health.is_good()).cloned().collect();
        if asked.is_empty() {
            asked = everyone;
        }
        let mut answers = JoinSet::new();
        for node in asked.into_iter().take(MOST_ASKED) {
            answers.spawn(told_by(node));
        }
        let answers: Vec<_> = answers.join_all().await.into_iter().flatten().collect();
        // Of what happens in a cluster, more than half of its masters know. So an epoch that has passed is one to nodes
        // that are cut off, unless so many say so: then the cluster has begun anew.
        let are_most = 2 * answers.len() > self.owners().len();
        let newest = answers.into_iter().max_by_key(|(epoch, _)| *epoch);
        if let Some((epoch, slots)) = newest.filter(|(epoch, _)| are_most || *epoch >= self.map.load().epoch)
        {
            self.learn(epoch, slots);
        }
    }

    fn learn(&self, epoch: u64, slots: Slots) {
        let before = self.map.load_full();
        let owners: Vec<_> = slots.owners.iter().map(|host| self.node(host.clone())).collect();
        self.forget(&slots);
        let is_new = before.slots.as_ref() != Some(&slots);
        if is_new {
            tracing::info!(masters = owners.len(), "which node of the cluster has which slots is known anew");
        }
        if is_new || before.epoch != epoch {
            self.map.store(Arc::new(Map { epoch, slots: Some(slots), owners }));
        }
        if is_new {
            self.changes.send_replace(());
        }
    }

    /// Nodes that have left.
    fn forget(&self, slots: &Slots) {
        self.others().retain(|host, (node, named)| {
            let stays = slots.owners.contains(host) || named.elapsed() < REMEMBERED;
            if !stays {
                node.end();
            }
            stays
        });
    }

    /// The keeper of the index finds out whether its node can be used; this does it for the others.
    async fn probe(self: Arc<Self>) {
        let mut changes = self.changes.subscribe();
        loop {
            let index = self.index();
            let mut ill = self.known();
            ill.retain(|node| !node.health.is_good() && !Arc::ptr_eq(node, &index));
            if ill.is_empty() && changes.changed().await.is_err() {
                return;
            }
            let mut asked = JoinSet::new();
            for node in ill {
                asked.spawn(ask_whether_well(node));
            }
            asked.join_all().await;
            tokio::time::sleep(BETWEEN_PROBES).await;
        }
    }

    /// All but idle seeds.
    fn known(&self) -> Vec<Arc<Node>> {
        let mut known = self.owners();
        for (node, _) in self.others().values() {
            if !known.iter().any(|other| Arc::ptr_eq(node, other)) {
                known.push(node.clone());
            }
        }
        known
    }

    fn others(&self) -> MutexGuard<'_, HashMap<RedisHost, (Arc<Node>, Instant)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Route<'_> {
    /// # Errors
    /// If there is no time left, or no end.
    pub fn follow(&mut self, redirect: &Redirect) -> Result<(), Failure> {
        self.hops += 1;
        if self.hops > MOST_HOPS {
            return Err(Failure::Refused("the cluster sent it from node to node".to_owned()));
        }
        if self.began.elapsed() >= self.asked.within {
            return Err(Failure::TimedOut);
        }
        if !redirect.is_ask {
            self.cluster.moved.notify_one();
        }
        self.node = self.cluster.named(redirect, &self.node)?;
        // One that is not connected yet may be in time.
        let sent = if self.node.health.is_new() { Sent::AsProbe } else { self.asked.sent };
        self.way = Way { sent, asking: redirect.is_ask, within: rest(self.asked.within, self.began) };
        Ok(())
    }
}

/// Who has which slots, and at which of the cluster's epochs: a node that is cut off from the others knows an old one.
async fn told_by(node: Arc<Node>) -> Option<(u64, Slots)> {
    let Address::Host(host) = &*node.address()? else { return None };
    let look = Way { sent: Sent::AsProbe, asking: false, within: LOOK };
    let (of_cluster, of_slots) = tokio::join!(
        node.send(Command::Look, Request::about("CLUSTER", &["INFO"]), look),
        node.send(Command::Look, Request::about("CLUSTER", &["SLOTS"]), look),
    );
    let (of_cluster, of_slots): (Part, Part) = (of_cluster.ok()?, of_slots.ok()?);
    let mut lines = of_cluster.text()?.lines();
    let epoch = lines.find_map(|line| line.trim().strip_prefix("cluster_current_epoch:")?.parse().ok())?;
    Some((epoch, Slots::told(&of_slots, host)?))
}

async fn ask_whether_well(node: Arc<Node>) {
    let way = Way { sent: Sent::AsProbe, asking: false, within: BETWEEN_PROBES };
    node.health.probing();
    let reply = node.send(Command::Look, Request::about("CLUSTER", &["INFO"]), way).await;
    let failure = match reply {
        Ok(reply) if reply.text().is_some_and(|text| text.contains("cluster_state:ok")) => {
            return node.health.answered();
        }
        Ok(_) => Failure::Refused("CLUSTERDOWN the cluster is down".to_owned()),
        Err(failure) => failure,
    };
    node.health.probe_failed(&failure);
    if node.health.hangs() {
        node.replace();
    }
}
