//! A real primary, its replicas and three sentinels that watch them, for one test. They know each other when they start,
//! because their files say so.

use super::{Redis, eventually, free_port};

/// The sentinels' name for the primary.
pub const SERVICE: &str = "shop";

/// How the sentinels are set: fast, for a test.
const WATCH: [&str; 3] =
    ["down-after-milliseconds shop 500", "failover-timeout shop 3000", "parallel-syncs shop 1"];

pub struct Sentinels {
    /// The first was the primary at first.
    pub servers: Vec<Redis>,
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// A primary, two replicas and three sentinels.
    pub async fn start() -> Self {
        let mut servers = vec![Redis::start().await];
        let primary = servers[0].port().to_string();
        for _ in 0..2 {
            let replica_of = format!("127.0.0.1 {primary}");
            let arguments = ["--replicaof", &replica_of, "--repl-diskless-sync-delay", "0"];
            servers.push(Redis::start_with(&arguments).await);
        }
        for replica in &servers[1..] {
            eventually("the replica is in sync", || async {
                let state = replica.command(&["INFO", "replication"]).await;
                state.contains("master_link_status:up").then_some(())
            })
            .await;
        }
        let ports = [free_port(), free_port(), free_port()];
        let mut sentinels = Vec::new();
        for number in 0..3 {
            let mut config = format!("sentinel myid {}\n", id(number));
            config += &format!("sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n");
            for line in WATCH {
                config += &format!("sentinel {line}\n");
            }
            for replica in &servers[1..] {
                config += &format!("sentinel known-replica {SERVICE} 127.0.0.1 {}\n", replica.port());
            }
            for other in (0..3).filter(|other| *other != number) {
                let port = ports[other];
                config += &format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}\n", id(other));
            }
            let mut sentinel = Redis::prepared(ports[number], &["--sentinel"]).configured_by("sentinel.conf");
            sentinel.file("sentinel.conf", &config);
            sentinel.start_now().await;
            sentinels.push(sentinel);
        }
        let all = Self { servers, sentinels };
        for number in 0..3 {
            all.sees_all(number).await;
        }
        all
    }

    /// Waits until this sentinel has the primary, the replicas and the others in view.
    async fn sees_all(&self, number: usize) {
        eventually("the sentinel sees all", || async {
            let sentinel = &self.sentinels[number];
            let quorum = sentinel.command(&["SENTINEL", "CKQUORUM", SERVICE]).await;
            let replicas = sentinel.command(&["SENTINEL", "REPLICAS", SERVICE]).await;
            let in_sync = replicas.matches("master-link-status\nok").count();
            (quorum.starts_with("OK 3") && in_sync == 2).then_some(())
        })
        .await;
    }

    /// The value of `store.redis`.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|one| one.address().to_string()).collect();
        format!("redis-sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// The server that this sentinel takes for the primary.
    pub async fn named_by(&self, sentinel: usize) -> usize {
        let named = self.sentinels[sentinel].command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]).await;
        let port: u16 = named.lines().last().and_then(|port| port.parse().ok()).expect("a port");
        self.servers.iter().position(|server| server.port() == port).expect("one of them")
    }

    /// Waits until this server is a replica of that one.
    pub async fn follows(&self, replica: usize, primary: usize) {
        let of = format!("master_port:{}", self.servers[primary].port());
        eventually("it follows the primary", || async {
            let state = self.servers[replica].command(&["INFO", "replication"]).await;
            (state.contains(&of) && state.contains("master_link_status:up")).then_some(())
        })
        .await;
    }

    /// Waits until this sentinel names another primary than `old`.
    pub async fn fails_over(&self, sentinel: usize, old: usize) -> usize {
        eventually("the sentinel names another primary", || async {
            Some(self.named_by(sentinel).await).filter(|named| *named != old)
        })
        .await
    }
}

fn id(number: usize) -> String {
    format!("{:040x}", number + 1)
}
