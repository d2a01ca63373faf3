//! A cluster: responses are spread over its masters, the purge index is on one of them; and whatever the cluster does,
//! no request fails for it and nothing purged comes back.

use std::cell::Cell;

use larder::clock::Clock;

use crate::support::{Answer, Certificates, Cluster, ITEMS, Replica, Upstream, eventually, free_port, timed};

/// Everything is looked up in Redis, and judged by a confirmation of its own.
const STRICT: &str = "max_lag: 0s, memory: 0, timeout: 500ms";
/// A busy machine keeps this deadline.
const PATIENT: &str = "max_lag: 0s, memory: 0, timeout: 2s";
const BOUNDED: &str = "max_lag: 1s, timeout: 500ms";

async fn start(cluster: &Cluster, upstream: &Upstream, store: &str) -> Replica {
    let replica = Replica::start_alone(&cluster.url(), upstream, store, ITEMS);
    replica.is_connected().await;
    let ready = || async {
        let health = replica.admin.get("/readyz").await.json();
        (health["status"] == "ok").then_some(())
    };
    eventually("all masters are connected", ready).await;
    replica
}

async fn two(store: &str) -> (Cluster, Upstream, [Replica; 2]) {
    let (cluster, upstream) = (Cluster::start().await, Upstream::start());
    let one = start(&cluster, &upstream, store).await;
    let other = start(&cluster, &upstream, store).await;
    (cluster, upstream, [one, other])
}

fn items(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("/items/{number}")).collect()
}

/// R16: a purge that names what lies in many slots is one script on one.
#[tokio::test]
async fn replicas_share_and_purge_across_cluster_masters() {
    let (cluster, _upstream, [one, other]) = two(PATIENT).await;
    let all = items(0..30);
    for item in &all {
        one.get(item).await.assert_stored();
    }
    cluster.holds(30).await;
    assert!(cluster.responses().await.iter().all(|count| *count > 0), "{:?}", cluster.responses().await);
    for item in &all {
        other.get(item).await.assert_hit();
    }
    one.purge_tag("items, item:1, item:2, item:3").await;
    for item in &all {
        assert!(!other.get(item).await.is_hit());
    }
    // All of it is in one slot, and nothing else of larder is there.
    let index = cluster.index().await;
    for master in 0..3 {
        let keys = cluster[master].command(&["KEYS", "{larder}:*"]).await;
        assert_eq!(keys.contains("{larder}:index"), master == index, "{keys}");
    }
}

/// A response that lies on this master: its item, and its slot.
async fn stored_on(cluster: &Cluster, replica: &Replica, master: usize) -> (String, u16) {
    let first = cluster.responses().await.iter().sum::<usize>();
    for before in first.. {
        let number = 1000 + before;
        let known = cluster[master].responses().await;
        let item = format!("/items/{number}");
        replica.has(&item).await;
        cluster.holds(before + 1).await;
        if let Some(key) = cluster[master].responses().await.iter().find(|key| !known.contains(key)) {
            return (item, cluster.find_slot(key).await);
        }
    }
    unreachable!("numbers end")
}

/// Writes and reads until `fault` is over: every answer comes in time, and none is older than a purge that was
/// acknowledged, through whichever replica.
async fn coherent_during<T>(
    upstream: &Upstream,
    [one, other]: [&Replica; 2],
    items: &[&str],
    fault: impl Future<Output = T>,
) -> T {
    let is_over = Cell::new(false);
    let fault = async {
        let output = fault.await;
        is_over.set(true);
        output
    };
    let load = async {
        for version in 0_u64.. {
            for item in items {
                let new = version.to_string();
                upstream.on(item, Answer::ok(new.clone()));
                let written = timed(one.request("POST", &format!("{item}/sell"))).await.assert_status(200);
                // Otherwise Redis did not take it, and the write's answer says so.
                let is_acknowledged = written.header("larder-position").is_some();
                timed(one.get(item)).await.assert_status(200).assert_text(&new);
                for _ in 0..3 {
                    let read = timed(other.get(item)).await.assert_status(200);
                    assert!(!is_acknowledged || read.text() == new, "{} instead of {new}", read.text());
                }
            }
            if is_over.get() {
                return;
            }
        }
    };
    tokio::join!(fault, load).0
}

/// R15: slots move while larder reads and writes, the index's among them.
#[tokio::test]
async fn slots_may_move_under_load() {
    let (cluster, upstream, [one, other]) = two(STRICT).await;
    let index = cluster.index().await;
    let index_slot = cluster.find_slot("{larder}:index").await;
    let (item, slot) = stored_on(&cluster, &one, (index + 1) % 3).await;
    let moves = async {
        for round in 0..3 {
            let [from, to] = [(index + 1 + round) % 3, (index + 2 + round) % 3];
            cluster.move_slot(slot, from, to).await;
            let [from, to] = [(index + round) % 3, (index + round + 1) % 3];
            cluster.move_slot(index_slot, from, to).await;
            for other in 0..50 {
                let other = slot.wrapping_add(other + 1) % 5000;
                if other != slot && other != index_slot && round == 0 {
                    cluster.move_slot(other, 0, 1).await;
                }
            }
        }
    };
    coherent_during(&upstream, [&one, &other], &[&item, "/items/1", "/items/2"], moves).await;
    for replica in [&one, &other] {
        replica.is_connected().await;
        for item in [&item, "/items/1", "/items/2"] {
            replica.has(item).await;
        }
    }
    // The first request is redirected and answered.
    let reads_that = async |result: &str| {
        one.metric(&format!("larder_redis_commands_total{{command=\"get\",result=\"{result}\"}}")).await
    };
    let failed = reads_that("failed").await;
    cluster.move_slot(slot, (index + 1) % 3, (index + 2) % 3).await;
    for replica in [&one, &other] {
        replica.get(&item).await.assert_hit();
    }
    assert_eq!(reads_that("failed").await, failed, "a redirected read is not a failed one");
    assert!(reads_that("redirected").await > 0.0);
    // The map was asked for again and again, but not for each command.
    let looks = one.metric("larder_redis_commands_total{command=\"info\",result=\"answered\"}").await;
    let reads = one.metric("larder_redis_commands_total{command=\"get\",result=\"answered\"}").await;
    assert!(looks < 2000.0, "{looks} looks for {reads} reads");
    one.purge_tag("items").await;
    assert!(!other.get(&item).await.is_hit());
}

/// R15: ASK, for a slot that is half moved: what has moved is found there, what is new is stored there.
#[tokio::test]
async fn values_in_a_migrating_slot_are_found_and_stored() {
    let (cluster, upstream, [one, other]) = two(PATIENT).await;
    let index = cluster.index().await;
    let [from, to] = [(index + 1) % 3, (index + 2) % 3];
    let (item, slot) = stored_on(&cluster, &one, from).await;
    cluster.begins_to_move(slot, from, to).await;
    other.get(&item).await.assert_hit();
    upstream.on(&item, Answer::ok("new"));
    cluster.move_keys(slot, from, to).await;
    assert_eq!((count_on(&cluster, from, slot).await, count_on(&cluster, to, slot).await), (0, 1));
    for replica in [&one, &other] {
        replica.get(&item).await.assert_hit();
    }
    one.purge_tag("items").await;
    other.get(&item).await.assert_text("new").assert_stored();
    one.has(&item).await.assert_text("new");
    assert_eq!(count_on(&cluster, from, slot).await, 0, "it was stored where the slot leaves");
    assert_eq!(count_on(&cluster, to, slot).await, 1);
    cluster.has_moved(slot, to).await;
    one.get(&item).await.assert_hit();
}

/// R15, TRYAGAIN: while the slot of the index moves, whatever of it is here or there, purges are taken, hold, and are known
/// everywhere.
#[tokio::test]
async fn purges_are_taken_while_the_slot_of_the_index_is_on_its_way() {
    const INDEX: &str = "{larder}:index";
    let (cluster, upstream, [one, other]) = two(PATIENT).await;
    let (from, slot) = (cluster.index().await, cluster.find_slot(INDEX).await);
    let to = (from + 1) % 3;
    let holds = async |when: &'static str| {
        upstream.on("/items/1", Answer::ok(when));
        for purger in [&one, &other] {
            timed(purger.request("PURGE", "/items/1")).await.assert_status(200);
        }
        for replica in [&one, &other] {
            timed(replica.get("/items/1")).await.assert_text(when);
        }
        let purge = one.request("PURGE", "/items/1").header("purge-wait", "applied");
        purge.await.assert_status(200);
    };
    holds("it rests").await;
    cluster.begins_to_move(slot, from, to).await;
    holds("it is on its way").await;
    let port = cluster[to].port().to_string();
    let migrate = ["MIGRATE", "127.0.0.1", &port, INDEX, "0", "5000"];
    assert_eq!(cluster[from].command(&migrate).await, "OK");
    holds("the index went first").await;
    cluster.move_keys(slot, from, to).await;
    holds("the rest followed").await;
    cluster.has_moved(slot, to).await;
    holds("it has moved").await;
}

async fn count_on(cluster: &Cluster, master: usize, slot: u16) -> usize {
    let count = cluster[master].command(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await;
    count.parse().expect("a number")
}

/// R15: TRYAGAIN and CLUSTERDOWN are no answers: a miss, and a purge that is refused and made up for.
#[tokio::test]
async fn a_slot_that_nobody_serves_is_a_miss_and_refuses_purges() {
    let (cluster, _upstream, [one, other]) = two(PATIENT).await;
    let index = cluster.index().await;
    let (item, slot) = stored_on(&cluster, &one, (index + 1) % 3).await;
    let (elsewhere, _) = stored_on(&cluster, &one, (index + 2) % 3).await;
    for master in 0..3 {
        cluster[master].command(&["CLUSTER", "DELSLOTS", &slot.to_string()]).await;
    }
    assert!(!timed(other.get(&item)).await.assert_status(200).is_hit());
    // The first request pays for the discovery with its deadline; then the slot map is right.
    other.has(&elsewhere).await;
    let opened = "larder_redis_breaker_opened_total";
    let before = other.metric(opened).await;
    for _ in 0..3 {
        assert!(!timed(other.get(&item)).await.assert_status(200).is_hit());
        timed(other.get(&elsewhere)).await.assert_hit();
    }
    one.purge_tag("item:1").await;
    assert_eq!(other.metric(opened).await, before, "the node's other slots are served");
    // And now that of the index.
    let index_slot = cluster.find_slot("{larder}:index").await;
    for master in 0..3 {
        cluster[master].command(&["CLUSTER", "DELSLOTS", &index_slot.to_string()]).await;
    }
    timed(one.request("PURGE", &elsewhere)).await.assert_status(503);
    for replica in [&one, &other] {
        assert!(!timed(replica.get(&elsewhere)).await.assert_status(200).is_hit());
    }
    for master in 0..3 {
        let set = ["CLUSTER", "SETSLOT", &index_slot.to_string(), "NODE", &format!("{index:040x}")];
        cluster[master].command(&set).await;
    }
    one.is_connected().await;
    other.has(&elsewhere).await;
    one.metric_becomes("larder_purges_waiting", 0.0).await;
}

/// R15: CLUSTERDOWN of all of it.
#[tokio::test]
async fn a_cluster_that_is_down_costs_hits_and_nothing_else() {
    let all = ["--cluster-require-full-coverage", "yes"];
    let (mut cluster, upstream) = (Cluster::start_with(0, &all).await, Upstream::start());
    let one = start(&cluster, &upstream, STRICT).await;
    one.has("/items/1").await;
    let victim = (cluster.index().await + 1) % 3;
    cluster[victim].kill();
    one.is_cut_off().await;
    for _ in 0..3 {
        assert!(!timed(one.get("/items/1")).await.assert_status(200).is_hit());
        timed(one.request("PURGE", "/items/1")).await.assert_status(503);
    }
    assert!(one.log().contains("CLUSTERDOWN"), "{}", one.log());
    cluster[victim].start_now().await;
    one.is_connected().await;
    one.has("/items/1").await;
}

/// A master that hangs costs what lies on it, and nothing that lies on others. (fred's own cluster client would stall.)
#[tokio::test]
async fn a_master_that_hangs_holds_up_nothing_that_lies_on_others() {
    let (cluster, upstream, [one, other]) = two(STRICT).await;
    let index = cluster.index().await;
    let [victim, alive] = [(index + 1) % 3, (index + 2) % 3];
    let (lost, _) = stored_on(&cluster, &one, victim).await;
    let (found, _) = stored_on(&cluster, &one, alive).await;
    cluster[victim].stop();
    for _ in 0..50 {
        timed(other.get(&found)).await.assert_hit();
        timed(other.get(&lost)).await.assert_status(200);
        // A large one, which fills the socket.
        upstream.on("/items/7", Answer::ok(vec![b'x'; 300_000]));
        timed(one.get("/items/7")).await.assert_status(200);
        one.purge_tag("item:7").await;
    }
    let health = other.admin.get("/readyz").await.assert_status(200).json();
    assert_eq!(health["status"], "degraded");
    assert_eq!(
        (&health["redis"]["status"], &health["redis"]["breaker"]),
        (&"degraded".into(), &"closed".into())
    );
    let name = cluster[victim].address().to_string();
    assert_ne!(health["redis"]["nodes"][&name]["breaker"], "closed");
    assert_eq!(other.metric(&format!("larder_redis_node_up{{node=\"{name}\"}}")).await, 0.0);
    let name = cluster[alive].address().to_string();
    assert_eq!(other.metric(&format!("larder_redis_node_up{{node=\"{name}\"}}")).await, 1.0);
    cluster[victim].cont();
    other.has(&lost).await;
    other
        .metric_becomes(&format!("larder_redis_node_up{{node=\"{}\"}}", cluster[victim].address()), 1.0)
        .await;
}

/// A master dies, and its replica takes its place: also where the index is (R13).
#[tokio::test]
async fn a_replica_takes_the_place_of_a_dead_master() {
    for offset in [0, 1] {
        let (mut cluster, upstream) = (Cluster::with_replicas(1).await, Upstream::start());
        let one = start(&cluster, &upstream, STRICT).await;
        let other = start(&cluster, &upstream, STRICT).await;
        let victim = (cluster.index().await + offset) % 3;
        let (item, _) = stored_on(&cluster, &one, victim).await;
        let (elsewhere, _) = stored_on(&cluster, &one, (victim + 1) % 3).await;
        other.has(&elsewhere).await;
        cluster[victim].kill();
        let replica = &cluster[victim + 3];
        let promoted = eventually("the replica is a master", || async {
            replica.command(&["ROLE"]).await.starts_with("master").then_some(())
        });
        coherent_during(&upstream, [&one, &other], &[&item, &elsewhere], promoted).await;
        for replica in [&one, &other] {
            replica.is_connected().await;
            replica.has(&item).await;
            replica.has(&elsewhere).await;
        }
        one.purge_tag("items").await;
        assert!(!other.get(&item).await.is_hit());
        // The old one comes back as the new one's replica.
        cluster[victim].start_now().await;
        other.has(&item).await;
    }
}

/// The wake-up is heard wherever it is published, also after the index has moved.
#[tokio::test]
async fn purges_wake_replicas_also_after_the_index_has_moved() {
    let (cluster, _upstream, [one, other]) = two("max_lag: 1h, timeout: 500ms").await;
    let index = cluster.index().await;
    let slot = cluster.find_slot("{larder}:index").await;
    for round in 0..2 {
        let master = (index + round) % 3;
        let channels = || cluster[master].command(&["PUBSUB", "NUMSUB", "larder:wake"]);
        eventually("both replicas listen", || async { (channels().await == "larder:wake\n2").then_some(()) })
            .await;
        one.get("/items/1").await;
        other.has("/items/1").await;
        one.purge_tag("items").await;
        eventually("the other knows it", || async { (!other.get("/items/1").await.is_hit()).then_some(()) })
            .await;
        cluster.move_slot(slot, master, (master + 1) % 3).await;
        one.is_connected().await;
    }
}

/// Bounded as well as strict, and with a first tier: whatever was purged through one replica is gone from the other.
#[tokio::test]
async fn bounded_the_first_tier_hears_of_purges() {
    let (_cluster, upstream, [one, other]) = two(BOUNDED).await;
    for item in items(0..10) {
        upstream.on(&item, Answer::ok("old"));
        one.get(&item).await.assert_stored();
        other.has(&item).await;
        upstream.on(&item, Answer::ok("new"));
    }
    one.purge_tag("items").await;
    for item in items(0..10) {
        one.get(&item).await.assert_text("new");
        other.answers(&item, "new").await;
    }
}

#[tokio::test]
async fn with_the_smallest_acl() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::start());
    let rule = crate::redis_connection::smallest_acl();
    let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(rule.iter().map(String::as_str)).collect();
    for master in 0..3 {
        let more = ["+cluster|info", "+cluster|slots", "+asking"];
        let words: Vec<&str> = words.iter().copied().chain(more).collect();
        assert_eq!(cluster[master].command(&words).await, "OK");
    }
    let url = cluster.url().replace("://", "://larder:secret@");
    let one = Replica::start_alone(&url, &upstream, PATIENT, ITEMS);
    one.is_connected().await;
    let (item, slot) = stored_on(&cluster, &one, 0).await;
    cluster.begins_to_move(slot, 0, 1).await;
    cluster.move_keys(slot, 0, 1).await;
    one.get(&item).await.assert_hit();
    one.purge_tag("items").await;
    for master in 0..3 {
        assert_eq!(cluster[master].command(&["ACL", "LOG"]).await, "", "something was denied");
    }
}

/// Nodes announce their TLS ports to connections over TLS.
#[tokio::test]
async fn over_tls() {
    let certificates = Certificates::new();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|file| certificates.text(file));
    let files = ["--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let ports = [free_port(), free_port(), free_port()];
    let cluster = Cluster::over_tls(&ports, &[&files[..], &["--tls-auth-clients", "no"]].concat()).await;
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = format!("{{url: \"rediss-cluster://{}\", tls: {{ca: \"{ca}\"}}}}", hosts.join(","));
    let upstream = Upstream::start();
    let yaml = format!("store: {{redis: {url}, {PATIENT}}}\n{ITEMS}");
    let one = Replica::with(&yaml, &upstream, Clock::system());
    one.is_connected().await;
    for item in items(0..10) {
        one.has(&item).await;
    }
    assert!(cluster.responses().await.iter().all(|count| *count > 0), "{:?}", cluster.responses().await);
    let health = one.admin.get("/readyz").await.json();
    let nodes = health["redis"]["nodes"].as_object().expect("nodes").keys().cloned().collect::<Vec<_>>();
    assert!(hosts.iter().all(|host| nodes.contains(host)), "{nodes:?}");
}
