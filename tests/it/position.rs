//! `Larder-Position`: who brings back what a write was answered with reads that write, whichever replica is asked.

use crate::support::{Answer, Larder, Line, Redis, Relay, Replica, Upstream};

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

/// Memory may answer the others for a time, and not who knows of something newer.
#[tokio::test]
async fn with_redis_away_a_position_that_is_not_known_passes() {
    for (loss, goes_on) in [("bypass", false), ("{serve: 1h}", true)] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let relay = Relay::to(redis.address()).await;
        let store = format!("max_lag: 1h, timeout: 2s, on_store_loss: {loss}");
        let routes = "defaults: {guard: false}\nroutes: [{path: /a, ttl: 1h}, {path: /b, ttl: 1h, read_your_writes: off}]";
        let one = Replica::start(&redis, &upstream, &store, routes).await;
        let other = Replica::start_alone(&relay.url(), &upstream, &store, routes);
        other.is_connected().await;
        for path in ["/a", "/b"] {
            other.has(path).await;
        }
        let known = one.request("POST", "/x").await.header("larder-position").expect("a position");
        other.get("/a").header("larder-position", &known).await.assert_hit();
        relay.set(Line::Cut);
        other.is_cut_off().await;
        let newer = one.request("POST", "/x").await.header("larder-position").expect("a position");
        let ask = |path, position: &str| other.get(path).header("larder-position", position);
        ask("/a", &known).await.assert_hit();
        ask("/b", &newer).await.assert_hit();
        ask("/a", &newer).await.assert_fwd("bypass").assert_detail("position");
        // Whether an invented one is newer is not known.
        let invented = format!("{}0000", &newer[..newer.len() - 4]);
        match goes_on {
            true => drop(ask("/a", &invented).await.assert_hit()),
            false => drop(ask("/a", &invented).await.assert_fwd("bypass").assert_detail("position")),
        }
        other.get("/a").await.assert_hit();
    }
}

/// It says which purges the replica must know: what a soft one names is stale then, and may be served so where the route
/// allows that.
#[tokio::test]
async fn the_position_of_a_soft_purge_makes_older_responses_stale() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    redis.command(&["ACL", "SETUSER", "default", "resetchannels"]).await;
    let routes = "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /b, ttl: 1h, tags: [a], stale_while_revalidate: 1h}]";
    let store = "max_lag: 1h, timeout: 2s";
    let one = Replica::start(&redis, &upstream, store, routes).await;
    let other = Replica::start(&redis, &upstream, store, routes).await;
    for path in ["/a", "/b"] {
        other.has(path).await;
    }
    let soft = one.request("PURGE", "/any").header("cache-tag", "a").header("purge-mode", "soft");
    let position = soft.await.assert_status(200).header("larder-position").expect("a position");
    other.get("/a").header("larder-position", &position).await.assert_fwd("stale");
    let stale = other.get("/b").header("larder-position", &position).await.assert_hit();
    stale.assert_detail("stale-while-revalidate");
    // A write is acknowledged by it, so one that purges softly has none.
    let routes = "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /w, purges: [{tag: a, soft: true}]}]";
    let alone = Larder::with(routes, &upstream);
    alone.request("POST", "/w").await.assert_status(200).assert_header("larder-position", None);
    // A key that changes nothing is refused.
    let asked =
        alone.admin.request("POST", "/purge").body(format!("{{\"tags\": [\"a\"], \"position\": {}}}", 1));
    let refused = asked.await.assert_status(400);
    assert!(refused.text().contains("unknown field `position`"), "{refused}");
}
