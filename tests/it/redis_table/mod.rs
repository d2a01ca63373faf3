//! The table of docs/redis.md: servers, topologies and restrictions, and what of larder works with each. Two replicas
//! share each deployment, and every function that they share is used.

mod deployment;
mod rows;

use std::collections::BTreeSet;
use std::sync::Arc;

use larder::clock::Clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::deployment::Deployment;
use self::rows::{ROWS, Row, Setup};
use crate::support::{Replica, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: \"/items/{id}\", ttl: 1h, tags: [items]}
  - {path: \"/leased/{id}\", ttl: 1h, tags: [leased], collapse: replicas}
";

/// Rows that run at once.
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_servers() {
    check_rows(|setup| !matches!(setup, Setup::Cluster(..) | Setup::Sentinel(..) | Setup::Proxy(..))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_in_front() {
    check_rows(|setup| matches!(setup, Setup::Proxy(..))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_and_sentinels() {
    check_rows(|setup| matches!(setup, Setup::Cluster(..) | Setup::Sentinel(..))).await;
}

#[test]
fn the_documentation_has_every_row() {
    let document = include_str!("../../../docs/redis.md");
    let header = "| server | topology | restriction | larder |";
    let table = document.split_once(header).expect("the table").1;
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: Vec<Vec<&str>> =
        lines.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let rows: Vec<Vec<&str>> =
        ROWS.iter().map(|row| vec![row.server, row.setup.topology(), row.restriction, row.result]).collect();
    assert!(rows.len() >= 40, "{} rows", rows.len());
    let printed =
        |rows: &[Vec<&str>]| rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect::<String>();
    assert!(documented == rows, "docs/redis.md should have\n{}", printed(&rows));
}

async fn check_rows(belongs: fn(&Setup) -> bool) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for row in ROWS.iter().filter(|row| belongs(&row.setup)) {
        let places = places.clone();
        running.spawn(async move {
            let _place = places.acquire_owned().await;
            check_row(row).await;
        });
    }
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next().await {
        failures.extend(ended.err().map(|error| error.to_string()));
    }
    assert!(failures.is_empty(), "{} rows: {failures:#?}", failures.len());
}

async fn check_row(row: &'static Row) {
    let name = format!("{} | {} | {}", row.server, row.setup.topology(), row.restriction);
    let Some(deployment) = Deployment::start(row).await else { return };
    let upstream = Upstream::start();
    let replicas = ["one", "two"].map(|replica| {
        let store = format!("store: {{redis: {}, timeout: 2s, replica: {replica}}}", deployment.settings);
        Replica::with(&format!("{store}\n{ROUTES}"), &upstream, Clock::system())
    });
    if let Some(code) = row.result.strip_prefix("shares nothing: ") {
        return shares_nothing(&name, &replicas[0], code.trim_matches('`')).await;
    }
    let words = row.result.strip_prefix("works").expect("an outcome").trim_start_matches(" without ");
    let expected: BTreeSet<&str> = words.split(", ").filter(|word| !word.is_empty()).collect();
    for replica in &replicas {
        eventually(&format!("{name}: connected"), || is_connected(replica, deployment.masters())).await;
    }
    let lost = find_losses(&name, &deployment, &replicas).await;
    assert_eq!(lost, expected, "{name}");
}

/// Whether Redis answers, and each master of a cluster.
async fn is_connected(replica: &Replica, masters: usize) -> Option<()> {
    let metrics = replica.admin.get("/metrics").await.assert_status(200);
    let is_up = |name: &str| {
        metrics.text().lines().filter(|line| line.starts_with(name) && line.ends_with(" 1")).count()
    };
    (is_up("larder_redis_up") == 1 && is_up("larder_redis_node_up") == masters).then_some(())
}

/// Clients are served, and larder says why it is alone.
async fn shares_nothing(name: &str, replica: &Replica, code: &str) {
    replica.get("/items/1").await.assert_status(200);
    eventually(&format!("{name}: {code}"), || async {
        let health = replica.admin.get("/healthz").await.json();
        (health["redis"]["reason"] == code).then_some(())
    })
    .await;
    assert_eq!(replica.metric("larder_redis_up").await, 0.0, "{name}");
    replica.get("/items/1").await.assert_status(200);
}

/// The functions that do not work. Each of them shows in one way or the other, so nothing is decided by time.
async fn find_losses(name: &str, deployment: &Deployment, replicas: &[Replica; 2]) -> BTreeSet<&'static str> {
    let [one, two] = replicas;
    let mut lost = BTreeSet::new();
    if !is_shared(name, "/items/1", &["set"], one, two).await {
        lost.insert("stored responses");
    }
    if !is_shared(name, "/leased/1", &["set", "replace"], one, two).await
        || one.metric(LEASES_TAKEN).await == 0.0
    {
        lost.insert("leases");
    }
    if !delivers_wake_ups(name, deployment, two).await {
        lost.insert("wake-ups");
    }
    if !tells_memory(name, one).await {
        lost.insert("memory figures");
    }
    let purge = one.request("PURGE", "/any").header("cache-tag", "items").header("purge-wait", "applied");
    purge.await.assert_status(200);
    assert!(!two.get("/items/1").await.is_hit(), "{name}: served after the purge");
    if !has_purge_log(name, two).await {
        lost.insert("the purge log");
    }
    lost
}

const LEASES_TAKEN: &str = "larder_leases_total{result=\"taken\"}";

/// Whether one replica serves from Redis what the other has fetched, or else the write failed.
async fn is_shared(name: &str, path: &str, commands: &[&str], one: &Replica, two: &Replica) -> bool {
    one.get(path).await.assert_status(200);
    eventually(&format!("{name}: {path} is shared or not"), || async {
        for command in commands {
            let failed = format!("larder_redis_commands_total{{command=\"{command}\",result=\"failed\"}}");
            if one.metric(&failed).await > 0.0 {
                return Some(false);
            }
        }
        let is_stored =
            one.metric("larder_redis_commands_total{command=\"set\",result=\"answered\"}").await > 0.0;
        let is_hit = is_stored && two.get(path).await.is_hit();
        is_hit.then_some(true)
    })
    .await
}

async fn delivers_wake_ups(name: &str, deployment: &Deployment, replica: &Replica) -> bool {
    eventually(&format!("{name}: wake-ups or not"), || async {
        if deployment.subscribers().await == 2 {
            return Some(true);
        }
        let health = replica.admin.get("/healthz").await.json();
        let trouble = health["redis"]["wakeUpTrouble"].as_str()?;
        tracing::info!(name, trouble, "no wake-ups");
        Some(false)
    })
    .await
}

async fn tells_memory(name: &str, replica: &Replica) -> bool {
    eventually(&format!("{name}: memory or not"), || async {
        let stats = replica.admin.get("/stats").await.json();
        if stats["store"]["memoryUsed"].is_u64() {
            return Some(true);
        }
        let refused = replica.metric("larder_redis_commands_total{command=\"info\",result=\"failed\"}").await;
        (refused >= 3.0).then_some(false)
    })
    .await
}

/// Whether a read of the log that Redis answered has the other replica's purge.
async fn has_purge_log(name: &str, replica: &Replica) -> bool {
    const READS: &str = "larder_redis_commands_total{command=\"purge-log\",result=\"answered\"}";
    eventually(&format!("{name}: the log or none"), || async {
        let answered = replica.metric(READS).await;
        let purges = replica.admin.get("/purges").await.assert_status(200).json();
        let listed = purges["purges"].as_array().expect("a list");
        let is_there = listed.iter().any(|purge| purge["replica"] == "one");
        (is_there || replica.metric(READS).await > answered).then_some(is_there)
    })
    .await
}
