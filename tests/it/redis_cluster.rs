//! A cluster: responses are spread over its masters, the purge index is on one of them; and whatever the cluster does,
//! no request fails for it and nothing purged comes back.

use std::time::{Duration, Instant};

use crate::support::{Answer, Cluster, Replica, Reply, Request, Upstream, eventually};

const ROUTES: &str = "
defaults: {guard: false}
routes:
  - path: /items/{id}
    ttl: 1h
    tags: [items, \"item:{id}\"]
  - path: /items/{item}/sell
    purges: [\"item:{item}\"]
";

/// Everything is looked up in Redis, and judged by a confirmation of its own.
const STRICT: &str = "max_lag: 0s, memory: 0";
const BOUNDED: &str = "max_lag: 200ms";

/// Many times the deadline, which is 50 ms, and far below what any network's own timeout is.
const LONGEST: Duration = Duration::from_secs(3);

async fn start(cluster: &Cluster, upstream: &Upstream, store: &str) -> Replica {
    let replica = Replica::start_alone(&cluster.url(), upstream, store, ROUTES);
    replica.is_connected().await;
    let ready = || async {
        let health = replica.admin.get("/readyz").await.json();
        (health["status"] == "ok").then_some(())
    };
    eventually("all masters are connected", ready).await;
    replica
}

async fn timed(request: Request) -> Reply {
    let began = Instant::now();
    let reply = request.await;
    assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
    reply
}

fn items(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("/items/{number}")).collect()
}

/// R16: a purge that names what lies in many slots is one script on one.
#[tokio::test]
async fn replicas_share_what_is_spread_over_the_masters_and_purge_all_of_it() {
    let (cluster, upstream) = (Cluster::start().await, Upstream::start());
    let one = start(&cluster, &upstream, STRICT).await;
    let other = start(&cluster, &upstream, STRICT).await;
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
        assert_eq!(keys.contains("{larder}:purged"), master == index, "{keys}");
    }
}
