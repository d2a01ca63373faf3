//! A real Redis cluster for one test: three masters, and replicas where they are needed. It is written down as the nodes
//! themselves do, so they know each other when they start; what is left is two seconds in which Redis takes no writes.

use std::ops::{Index, IndexMut};

use super::{Redis, eventually, free_port};

const MASTERS: usize = 3;

/// Initial slots of each master.
pub const SLOTS: [(u16, u16); MASTERS] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// The masters are 0, 1 and 2; the replica of 0 is 3, and so on.
pub struct Cluster(Vec<Redis>);

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(0, &[]).await
    }

    /// With so many replicas for each master.
    pub async fn with_replicas(replicas: usize) -> Self {
        Self::start_with(replicas, &[]).await
    }

    pub async fn start_with(replicas: usize, arguments: &[&str]) -> Self {
        let ports: Vec<u16> = (0..MASTERS * (1 + replicas)).map(|_| free_port()).collect();
        Self::launch(&ports, &ports, arguments).await
    }

    /// Masters that speak TLS with each other, and with who comes to these ports.
    pub async fn over_tls(ports: &[u16], files: &[&str]) -> Self {
        let plain: Vec<u16> = ports.iter().map(|_| free_port()).collect();
        Self::launch(&plain, ports, &[files, &["--tls-cluster", "yes"]].concat()).await
    }

    /// `announced` are the ports that the nodes name; where these are others, they speak TLS.
    async fn launch(plain: &[u16], announced: &[u16], arguments: &[&str]) -> Self {
        let ports: Vec<(u16, u16)> = announced.iter().map(|port| (*port, free_port())).collect();
        let mut nodes = Vec::new();
        for (number, (port, bus)) in ports.iter().enumerate() {
            let (bus, tls_port) = (bus.to_string(), port.to_string());
            let mut all = vec![
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
                "--cluster-node-timeout",
                "1000",
                "--cluster-require-full-coverage",
                "no",
                "--cluster-replica-validity-factor",
                "0",
                "--repl-diskless-sync-delay",
                "0",
            ];
            all.extend(arguments);
            if plain[number] != *port {
                all.extend(["--tls-port", &tls_port]);
            }
            let node = Redis::prepared(plain[number], &all);
            node.file("nodes.conf", &nodes_as_known_to(number, &ports));
            nodes.push(node);
        }
        for node in &mut nodes {
            node.start_now().await;
        }
        let cluster = Self(nodes);
        for number in 0..ports.len() {
            cluster.is_well(number).await;
        }
        cluster
    }

    /// The value of `store.redis`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.0.iter().map(|node| node.address().to_string()).collect();
        format!("redis-cluster://{}", hosts.join(","))
    }

    /// Waits until this node takes part.
    pub async fn is_well(&self, number: usize) {
        eventually("the node takes part in the cluster", || async {
            let state = self[number].command(&["CLUSTER", "INFO"]).await;
            let replication = self[number].command(&["INFO", "replication"]).await;
            let is_in_sync =
                replication.contains("role:master") || replication.contains("master_link_status:up");
            (state.contains("cluster_state:ok") && is_in_sync).then_some(())
        })
        .await;
    }

    pub async fn find_slot(&self, key: &str) -> u16 {
        self[0].command(&["CLUSTER", "KEYSLOT", key]).await.parse().expect("a slot")
    }

    /// The number of the master that has the index, at first.
    pub async fn index(&self) -> usize {
        let slot = self.find_slot("{larder}:index").await;
        SLOTS.iter().position(|(first, last)| (*first..=*last).contains(&slot)).expect("a master")
    }

    /// How many responses each master has.
    pub async fn responses(&self) -> [usize; MASTERS] {
        let mut counts = [0; MASTERS];
        for (number, count) in counts.iter_mut().enumerate() {
            if self[number].is_running() {
                *count = self[number].responses().await.len();
            }
        }
        counts
    }

    /// Waits until so many responses are in it.
    pub async fn holds(&self, responses: usize) {
        eventually("the responses are in the cluster", || async {
            (self.responses().await.iter().sum::<usize>() == responses).then_some(())
        })
        .await;
    }

    /// The slot begins to move: what is in it stays where it is, what is new is taken by the other.
    pub async fn begins_to_move(&self, slot: u16, from: usize, to: usize) {
        let (slot, ids) = (slot.to_string(), [id(from), id(to)]);
        let [at_first, at_last] = &ids;
        assert_eq!(self[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", at_first]).await, "OK");
        assert_eq!(self[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", at_last]).await, "OK");
    }

    /// Moves the slot's keys.
    pub async fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let (slot, port) = (slot.to_string(), self[to].port().to_string());
        let keys = self[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]).await;
        for key in keys.lines().filter(|key| !key.is_empty()) {
            let moved = self[from].command(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]).await;
            assert!(["OK", "NOKEY"].contains(&&*moved), "{moved}");
        }
    }

    /// The slot has moved, and every master is told so.
    pub async fn has_moved(&self, slot: u16, to: usize) {
        let slot = slot.to_string();
        let mut order: Vec<usize> = (0..MASTERS).collect();
        order.swap(0, to);
        for number in order {
            if self[number].is_running() {
                let set = self[number].command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]).await;
                assert_eq!(set, "OK");
            }
        }
    }

    /// All of it, as resharding does.
    pub async fn move_slot(&self, slot: u16, from: usize, to: usize) {
        self.begins_to_move(slot, from, to).await;
        self.move_keys(slot, from, to).await;
        self.has_moved(slot, to).await;
    }
}

impl Index<usize> for Cluster {
    type Output = Redis;

    fn index(&self, number: usize) -> &Redis {
        &self.0[number]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.0[number]
    }
}

fn id(number: usize) -> String {
    format!("{number:040x}")
}

fn nodes_as_known_to(number: usize, ports: &[(u16, u16)]) -> String {
    let mut lines = String::new();
    for (node, (port, bus)) in ports.iter().enumerate() {
        let master = node % MASTERS;
        let myself = if node == number { "myself," } else { "" };
        let (kind, of) = if node < MASTERS { ("master", "-".to_owned()) } else { ("slave", id(master)) };
        let (first, last) = SLOTS[master];
        let slots = if node < MASTERS { format!(" {first}-{last}") } else { String::new() };
        let (id, epoch) = (id(node), master + 1);
        lines += &format!("{id} 127.0.0.1:{port}@{bus} {myself}{kind} {of} 0 0 {epoch} connected{slots}\n");
    }
    lines + &format!("vars currentEpoch {MASTERS} lastVoteEpoch 0\n")
}
