//! larder ends, and no purge ends with it: that of a write that was cut off, and those that wait for Redis.

use std::time::{Duration, Instant};

use crate::support::{Answer, Line, Process, Redis, Relay, Replica, Upstream, eventually};

const ROUTES: &str = "
defaults: {guard: false}
routes:
  - {path: /a, ttl: 1h, tags: [t]}
  - {path: /w, purges: [t]}
";

const STRICT: &str = "max_lag: 0s";

#[tokio::test]
async fn a_write_that_is_cut_off_by_the_end_is_purged_as_in_doubt() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut one =
        Replica::start(&redis, &upstream, STRICT, &format!("limits: {{drain: 200ms}}\n{ROUTES}")).await;
    let two = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    two.get("/a").await.assert_stored();
    two.has("/a").await;
    let held = upstream.hold("/w");
    let waits = tokio::spawn(one.request("POST", "/w").body("x").attempt());
    held.arrived().await;
    one.shut_down();
    one.stopped().await.expect("a clean end");
    assert!(waits.await.unwrap().is_err());
    assert!(!two.get("/a").await.is_hit());
    // It may still happen, so nothing that is fetched now is kept.
    assert!(!two.get("/a").await.is_hit());
    let log = one.log();
    assert!(log.contains("writes or fetches were cut off") && log.contains("purged"), "{log}");
    held.release();
}

/// Its content was forwarded whole, and names more than its head; so does the head of a response that goes on.
#[tokio::test]
async fn a_write_cut_off_by_the_end_is_in_doubt_with_all_it_names() {
    const ROUTES: &str = "
routes:
  - {path: /item, ttl: 1h, tags: [\"item:1\"]}
  - {path: /other, ttl: 1h, tags: [\"item:2\"]}
  - {path: /w, purges: [\"item:{request.json:/id}\"]}
defaults: {guard: false}
";
    for (buffered, is_answered) in [("64KiB", false), ("0", false), ("64KiB", true)] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let yaml = format!(
            "limits: {{drain: 200ms}}\nupstream: {{url: \"${{UPSTREAM}}\", buffer_requests: {buffered}}}\n{ROUTES}"
        );
        let mut one = Replica::start(&redis, &upstream, STRICT, &yaml).await;
        let two = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
        for read in ["/item", "/other"] {
            two.get(read).await.assert_stored();
            two.has(read).await;
        }
        let (held, fed) = match is_answered {
            false => (Some(upstream.hold("/w")), None),
            true => {
                let (answer, feed) = Answer::fed();
                upstream.once("/w", answer.header("location", "/item"));
                (None, Some(feed))
            }
        };
        let content = if is_answered { "{}" } else { "{\"id\": 1}" };
        let write = one.request("POST", "/w").header("content-type", "application/json").body(content);
        let waits = tokio::spawn(write.attempt());
        match &held {
            Some(held) => held.arrived().await,
            None => one.metric_becomes("larder_purges_total{source=\"write\"}", 1.0).await,
        }
        one.shut_down();
        one.stopped().await.expect("a clean end");
        drop(waits);
        // It may still happen, so nothing that is fetched now is kept.
        for _ in 0..3 {
            assert!(!two.get("/item").await.is_hit(), "{buffered} {is_answered}");
        }
        two.get("/other").await.assert_hit();
        drop((held, fed));
    }
}

#[tokio::test]
async fn a_write_that_failed_is_purged_once() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", response_timeout: 300ms}}\n{ROUTES}");
    let mut one = Replica::start(&redis, &upstream, STRICT, &yaml).await;
    let two = Replica::start(&redis, &upstream, STRICT, &yaml).await;
    upstream.on("/w", Answer::hang_up());
    one.request("POST", "/w").body("x").await.assert_status(502);
    eventually("it can't take effect any more", || async { two.get("/a").await.is_hit().then_some(()) })
        .await;
    one.shut_down();
    one.stopped().await.expect("a clean end");
    two.get("/a").await.assert_hit();
}

#[tokio::test]
async fn purges_that_wait_for_redis_go_there_before_the_end() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut one = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    let two = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    two.get("/a").await.assert_stored();
    two.has("/a").await;
    redis.stop();
    one.request("POST", "/w").body("x").await.assert_status(200);
    assert!(one.metric("larder_purges_waiting").await > 0.0);
    one.shut_down();
    eventually("it drains", || async { one.get("/a").attempt().await.err() }).await;
    redis.cont();
    one.stopped().await.expect("a clean end");
    assert!(!two.get("/a").await.is_hit());
}

#[tokio::test]
async fn purges_that_redis_never_took_are_counted_in_the_log() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let mut one =
        Replica::start(&redis, &upstream, STRICT, &format!("limits: {{drain: 300ms}}\n{ROUTES}")).await;
    redis.kill();
    one.request("POST", "/w").body("x").await.assert_status(200);
    let waiting = one.metric("larder_purges_waiting").await;
    assert!(waiting > 0.0);
    one.shut_down();
    one.stopped().await.expect("a clean end");
    // Other tests write to the same log.
    let (log, targets) = (one.log(), format!("targets={waiting}"));
    assert!(log.lines().any(|line| line.contains("purges lost") && line.ends_with(&targets)), "{log}");
}

/// One after the other they would take a minute.
#[tokio::test]
async fn thousands_of_joined_purges_go_to_redis_before_the_end() {
    const EACH: usize = 1000;
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    let routes = "
routes:
  - {path: \"/items/{id}\", ttl: 1h, tags: [\"item:{id}\"]}
  - {path: /w, max_targets: 2000, purges: [{tag: \"item:{request.json:$.ids[*]}\", at_most_every: 1h}]}
";
    let limits = "limits: {drain: 100ms}\ndefaults: {guard: false}";
    let store = "max_lag: 0s, timeout: 5s";
    let mut one = Replica::start_alone(&relay.url(), &upstream, store, &format!("{limits}{routes}"));
    one.is_connected().await;
    let two = Replica::start(&redis, &upstream, STRICT, &format!("defaults: {{guard: false}}{routes}")).await;
    let write = async |first: usize| {
        let ids: Vec<String> = (first..first + EACH).map(|id| id.to_string()).collect();
        let content = format!("{{\"ids\": [{}]}}", ids.join(","));
        let write = one.request("POST", "/w").header("content-type", "application/json").body(content);
        write.await.assert_status(200);
    };
    for first in [0, EACH, 2 * EACH] {
        write(first).await;
    }
    let items: Vec<String> = (0..3 * EACH).step_by(EACH / 10).map(|id| format!("/items/{id}")).collect();
    for item in &items {
        two.get(item).await;
        two.has(item).await;
    }
    for first in [0, EACH, 2 * EACH] {
        write(first).await;
    }
    for item in &items {
        two.get(item).await.assert_hit();
    }
    relay.set(Line::Late(Duration::from_millis(20)));
    one.shut_down();
    one.stopped().await.expect("a clean end");
    for item in &items {
        assert!(!two.get(item).await.is_hit(), "{item}");
    }
}

/// The write may take effect after the end.
#[tokio::test]
async fn a_second_signal_purges_what_is_under_way_as_in_doubt() {
    let (mut redis, upstream) = (Redis::start().await, Upstream::start());
    let two = Replica::start(&redis, &upstream, STRICT, ROUTES).await;
    two.get("/a").await.assert_stored();
    two.has("/a").await;
    let store = format!("store: {{redis: \"{}\", {STRICT}}}", redis.url());
    for is_reached in [true, false] {
        let mut one = Process::with(&format!("{store}\n{ROUTES}"), &upstream).await;
        one.is_connected().await;
        let held = upstream.hold("/w");
        let waits = tokio::spawn(one.request("POST", "/w").body("x").attempt());
        held.arrived().await;
        if !is_reached {
            redis.kill();
        }
        one.signal("TERM");
        eventually("it drains", || async { one.get("/a").attempt().await.err() }).await;
        one.signal("TERM");
        assert_eq!(one.ended().await.code(), Some(128 + 15));
        assert!(waits.await.unwrap().is_err());
        assert_eq!(one.log().contains("purges lost"), !is_reached, "{}", one.log());
        if is_reached {
            assert!(!two.get("/a").await.is_hit());
            // It may still happen, so nothing that is fetched now is kept.
            assert!(!two.get("/a").await.is_hit());
        }
        held.release();
    }
}

/// A request, a write and a purge that do not end each have until the one end, and not one after the other.
#[tokio::test]
async fn all_that_ends_late_shares_one_deadline() {
    const DRAIN: Duration = Duration::from_secs(4);
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let limits = format!("limits: {{drain: {}s}}", DRAIN.as_secs());
    let mut one =
        Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 100ms", &format!("{limits}\n{ROUTES}"))
            .await;
    redis.stop();
    one.request("POST", "/w").body("waits for Redis").await.assert_status(200);
    let held = [upstream.hold("/a"), upstream.hold("/w")];
    let reads = tokio::spawn(one.get("/a").attempt());
    let writes = one.request("POST", "/w").body("its client leaves").spawn();
    for held in &held {
        held.arrived().await;
    }
    writes.abort();
    let began = Instant::now();
    one.shut_down();
    one.stopped().await.expect("a clean end");
    let took = began.elapsed();
    assert!(reads.await.unwrap().is_err());
    let log = one.log();
    assert!(log.contains("writes or fetches were cut off") && log.contains("purges lost"), "{log}");
    // One after the other they would have had twice that, at the least.
    assert!(took >= DRAIN && took < 2 * DRAIN, "{took:?}");
    redis.cont();
}
