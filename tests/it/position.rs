//! `Larder-Position`: who brings back what a write was answered with reads that write, whichever replica is asked.

use crate::support::{Answer, Redis, Replica, Upstream};

const ROUTES: &str = "routes: [{path: /a, ttl: 1h, tags: [a]}]";
const ROUNDS: u64 = 15;

/// Two replicas of which each hears of the other's purges by the timer alone, once a second.
async fn replicas(redis: &Redis, upstream: &Upstream) -> [Replica; 2] {
    redis.command(&["ACL", "SETUSER", "default", "resetchannels"]).await;
    let store = "max_lag: 1h, timeout: 2s";
    [
        Replica::start(redis, upstream, store, ROUTES).await,
        Replica::start(redis, upstream, store, ROUTES).await,
    ]
}

#[tokio::test]
async fn a_write_is_read_on_another_replica_by_who_brings_its_position() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let [one, other] = replicas(&redis, &upstream).await;
    for round in 0..ROUNDS {
        upstream.on("/a", Answer::ok(round.to_string()));
        let written = one.request("POST", "/a").await.assert_status(200);
        let position = written.header("larder-position").expect("a position");
        let read = other.get("/a").header("larder-position", &position).await;
        read.assert_text(&round.to_string());
        other.has("/a").await.assert_text(&round.to_string());
    }
    let purged = one.request("PURGE", "/a").await.assert_status(200);
    let position = purged.json()["position"].to_string();
    purged.assert_header("larder-position", Some(position.as_str()));
}

#[tokio::test]
async fn where_nobody_can_tell_what_was_purged_it_passes() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let [one, _] = replicas(&redis, &upstream).await;
    one.has("/a").await;
    redis.kill();
    one.is_cut_off().await;
    one.get("/a").await.assert_hit();
    one.get("/a").header("larder-position", "1").await.assert_fwd("bypass").assert_detail("position");
}
