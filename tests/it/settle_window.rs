//! `settle`: an upstream that reads from a lagging replica of its database answers with old data for a while after a
//! write. Responses fetched that soon after the purge are not kept, in any replica.

use crate::support::{Answer, Larder, Redis, Replica, Upstream};

const STRICT: &str = "max_lag: 0s, timeout: 5s";
const BOUNDED: &str = "max_lag: 60s, timeout: 5s";

fn routes(settle: &str) -> String {
    format!(
        "routes: [{{path: /a, ttl: 1h, tags: [a]}}, {{path: /w, purges: [a], settle: {settle}}}, {{path: /b, ttl: 1h}}]"
    )
}

#[tokio::test]
async fn what_is_fetched_while_the_upstream_settles_is_kept_by_nobody() {
    for store in [STRICT, BOUNDED] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let replicas = [
            Replica::start(&redis, &upstream, store, &routes("1h")).await,
            Replica::start(&redis, &upstream, store, &routes("1h")).await,
        ];
        upstream.on("/a", Answer::ok("old"));
        for replica in &replicas {
            replica.has("/a").await;
            replica.has("/b").await;
        }
        let written = replicas[0].request("POST", "/w").await.assert_status(200);
        let position = written.header("larder-position").expect("a position");
        for _ in 0..3 {
            for replica in &replicas {
                let read = replica.get("/a").header("larder-position", &position).await;
                read.assert_text("old").assert_fwd("uri-miss");
                replica.get("/b").await.assert_hit();
            }
        }
        // It has caught up.
        upstream.on("/a", Answer::ok("new"));
        for replica in &replicas {
            replica.get("/a").await.assert_text("new");
        }
        // Nor has a replica kept it that comes later.
        let late = Replica::start(&redis, &upstream, store, &routes("1h")).await;
        late.get("/a").await.assert_text("new").assert_fwd("uri-miss");
    }
}

#[tokio::test]
async fn when_it_has_settled_responses_are_kept_again_everywhere() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, STRICT, &routes("300ms")).await;
    let other = Replica::start(&redis, &upstream, STRICT, &routes("300ms")).await;
    one.has("/a").await;
    upstream.on("/a", Answer::ok("new"));
    one.request("POST", "/w").await.assert_status(200);
    for replica in [&other, &one] {
        replica.has("/a").await.assert_text("new");
    }
}

#[tokio::test]
async fn the_embedded_store_settles_as_well() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::ok("old"));
    let larder = Larder::with(&routes("2s"), &upstream);
    larder.get("/a").await;
    larder.get("/a").await.assert_hit();
    larder.request("POST", "/w").await.assert_status(200);
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.after(3);
    upstream.on("/a", Answer::ok("new"));
    larder.get("/a").await.assert_text("new").assert_fwd("uri-miss");
    larder.get("/a").await.assert_text("new").assert_hit();
}

/// A careless reader of paths confuses the two, so a write falls under both.
#[tokio::test]
async fn the_longest_settle_of_matching_routes_counts() {
    let routes = "
routes:
  - {path: \"/shop/{id}\", ttl: 1h, tags: [\"shop:{id}\"]}
  - {path: /shop/me, ttl: 1h, tags: [me], settle: 1h}
";
    let upstream = Upstream::start();
    let larder = Larder::with(routes, &upstream);
    // Once it answers, its index has begun.
    larder.get("/shop/me").await;
    larder.after(3601);
    larder.get("/shop/me").await;
    larder.get("/shop/me").await.assert_hit();
    larder.request("PUT", "/shop/ME").await.assert_status(200);
    larder.get("/shop/me").await.assert_fwd("uri-miss");
    larder.get("/shop/me").await.assert_fwd("uri-miss");
    larder.after(3601);
    larder.get("/shop/me").await.assert_fwd("uri-miss");
    larder.get("/shop/me").await.assert_hit();
}

/// `settle` on the route that is cached holds whatever purges it: its tag, its URL, a write of another route.
#[tokio::test]
async fn a_fetch_within_settle_of_any_purge_is_not_kept() {
    const ROUTES: &str = "
routes:
  - {path: \"/r/{k}\", ttl: 1h, tags: [\"r:{k}\"], settle: 2s}
  - {path: \"/other/{k}\", ttl: 1h}
  - {path: \"/edit/{k}\", purges: [\"r:{k}\"]}
";
    let purges: [(&str, &str, &str); 4] =
        [("PUT", "/r/1", ""), ("PUT", "/edit/1", ""), ("PURGE", "/any", "r:1"), ("PURGE", "/r/1", "")];
    for (method, path, tag) in purges {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        upstream.on("/r/1", Answer::ok("old"));
        larder.get("/r/1").await;
        for path in ["/r/1", "/other/1"] {
            larder.after(3).get(path).await;
            larder.get(path).await.assert_hit();
        }
        let purge = larder.request(method, path);
        let purge = if tag.is_empty() { purge } else { purge.header("cache-tag", tag) };
        purge.await.assert_status(200);
        for _ in 0..2 {
            larder.get("/r/1").await.assert_text("old").assert_fwd("uri-miss");
            larder.get("/other/1").await.assert_hit();
        }
        larder.after(3);
        upstream.on("/r/1", Answer::ok("new"));
        larder.get("/r/1").await.assert_text("new").assert_fwd("uri-miss");
        larder.get("/r/1").await.assert_text("new").assert_hit();
    }
}

#[tokio::test]
async fn it_holds_in_every_replica() {
    const ROUTES: &str =
        "routes: [{path: /r, ttl: 1h, tags: [r], settle: 1h}, {path: /s, ttl: 1h, tags: [r], settle: 1ms}]";
    for store in [STRICT, BOUNDED] {
        let (redis, upstream, replicas) = Replica::two(store, ROUTES).await;
        replicas[0].purge_tag("r").await;
        for replica in &replicas {
            replica.has("/s").await;
            for _ in 0..3 {
                replica.get("/r").await.assert_fwd("uri-miss");
            }
        }
        drop((redis, upstream));
    }
}

/// Purges from before the index are not known, so nothing is kept that may be older than the index.
#[tokio::test]
async fn settle_outlives_a_lost_index() {
    const ROUTES: &str = "routes: [{path: /r, ttl: 1h, settle: 1h}, {path: /s, ttl: 1h, settle: 1ms}]";
    for store in [STRICT, BOUNDED] {
        let (redis, upstream, replicas) = Replica::two(store, ROUTES).await;
        redis.command(&["UNLINK", "{larder}:index"]).await;
        for replica in &replicas {
            replica.has("/s").await;
            for _ in 0..3 {
                replica.get("/r").await.assert_fwd("uri-miss");
            }
        }
        drop(upstream);
    }
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for _ in 0..3 {
        larder.get("/r").await.assert_fwd("uri-miss");
    }
    larder.after(3601).get("/r").await.assert_fwd("uri-miss");
    larder.get("/r").await.assert_hit();
}
