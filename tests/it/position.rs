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
async fn a_position_reads_the_write_on_another_replica() {
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
    assert!(
        purged
            .header("larder-position")
            .is_some_and(|position| { position.starts_with(&format!("{}-", purged.json()["position"])) })
    );
}

#[tokio::test]
async fn each_of_several_positions_counts() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let [one, other] = replicas(&redis, &upstream).await;
    for (round, foreign) in ["1, {}", "{}, {}", "x,{}", "a-1-b, {}"].into_iter().enumerate() {
        upstream.on("/a", Answer::ok(format!("{round} old")));
        other.purge_tag("a").await;
        other.has("/a").await.assert_text(&format!("{round} old"));
        upstream.on("/a", Answer::ok(format!("{round} new")));
        let written = one.request("POST", "/a").await.assert_status(200);
        let position = written.header("larder-position").expect("a position");
        let read = other
            .get("/a")
            .header("larder-position", "other")
            .header("larder-position", &foreign.replace("{}", &position));
        read.await.assert_text(&format!("{round} new"));
    }
}

/// While a password is rotated, replica by replica.
#[tokio::test]
async fn a_position_signed_with_another_password_reads_the_write() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    redis.set_user(&["resetchannels", ">rotated"]).await;
    let start = async |password: &str| {
        let url = format!("redis://app:{password}@127.0.0.1:{}", redis.port());
        let replica = Replica::start_alone(&url, &upstream, "max_lag: 1h, timeout: 2s", ROUTES);
        replica.is_connected().await;
        replica
    };
    let (one, other) = (start("p").await, start("rotated").await);
    for round in 0..ROUNDS {
        upstream.on("/a", Answer::ok(round.to_string()));
        let written = one.request("POST", "/a").await.assert_status(200);
        let position = written.header("larder-position").expect("a position");
        let read = other.get("/a").header("larder-position", &position).await;
        read.assert_text(&round.to_string());
        other.has("/a").await.assert_text(&round.to_string());
    }
}

#[tokio::test]
async fn invented_positions_cause_a_bounded_number_of_confirmations() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let [one, _] = replicas(&redis, &upstream).await;
    one.has("/a").await;
    let asked = "larder_redis_commands_total{command=\"sync\",result=\"answered\"}";
    let (before, began) = (one.metric(asked).await, std::time::Instant::now());
    for _ in 0..100 {
        let read = one.get("/a").header("larder-position", "9999999999999999-00000000-0123456789abcdef");
        read.await.assert_hit();
    }
    // One each 10 ms, and one by the timer each second.
    let turns = began.elapsed().as_millis() as f64 / 10.0;
    let asked = one.metric(asked).await - before;
    assert!(asked <= 1.1 * turns + 20.0, "{asked} confirmations in {turns} turns");
}

#[tokio::test]
async fn known_and_malformed_positions_cost_no_confirmation() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let [one, _] = replicas(&redis, &upstream).await;
    one.has("/a").await;
    let written = one.request("POST", "/a").await.assert_status(200);
    let position = written.header("larder-position").expect("a position");
    one.has("/a").await;
    let asked = "larder_redis_commands_total{command=\"sync\",result=\"answered\"}";
    let before = one.metric(asked).await;
    let malformed = ["1", "9999999999999999", "9999999999999999-0-0123456789abcdef", "x"];
    // Nothing is asked for a version that is known.
    let invented = format!("{}0000", &position[..position.len() - 4]);
    for position in malformed.into_iter().chain([&*position, &*invented]) {
        for _ in 0..20 {
            one.get("/a").header("larder-position", position).await.assert_hit();
        }
    }
    // By the timer only, once a second.
    assert!(one.metric(asked).await < before + 50.0);
}

#[tokio::test]
async fn with_redis_away_on_store_loss_says_whether_a_position_passes() {
    for (loss, is_served) in [("bypass", false), ("{serve: 1h}", true)] {
        let mut redis = Redis::start().await;
        let upstream = Upstream::start();
        redis.command(&["ACL", "SETUSER", "default", "resetchannels"]).await;
        let store = format!("max_lag: 1h, timeout: 2s, on_store_loss: {loss}");
        let routes = "defaults: {guard: false}\nroutes: [{path: /a, ttl: 1h}, {path: /b, ttl: 1h, read_your_writes: off}]";
        let one = Replica::start(&redis, &upstream, &store, routes).await;
        let other = Replica::start(&redis, &upstream, &store, routes).await;
        for path in ["/a", "/b"] {
            other.has(path).await;
        }
        // The other one hears of it by the timer alone, at the earliest a while later.
        let written = one.request("POST", "/x").await.assert_status(200);
        redis.kill();
        other.is_cut_off().await;
        let position = written.header("larder-position").expect("a position");
        other.get("/b").header("larder-position", &position).await.assert_hit();
        let read = other.get("/a").header("larder-position", &position).await;
        // It may have heard of it just before.
        match is_served || read.is_hit() {
            true => drop(read.assert_hit()),
            false => drop(read.assert_fwd("bypass").assert_detail("position")),
        }
    }
}
