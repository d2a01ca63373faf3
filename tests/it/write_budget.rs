//! Beyond its budget a sender's writes pass and purge what they name in full, and nothing more.

use tokio::task::JoinSet;

use crate::support::{Answer, Client, Larder, Redis, Replica, Reply, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: \"/courses/{id}\", ttl: 1h, tags: [courses, \"course:{id}\"]}
  - {path: \"/orders/{id}\", ttl: 1h, tags: [\"order:{query.x}\"]}
";

/// The budget grows by a target in 30 seconds, which no test takes.
const TWO_A_MINUTE: &str = "limits: {purge_targets_per_client: 2}";

const READS: [&str; 2] = ["/courses/7", "/orders/1?x=1"];

async fn over_budget(larder: &Larder) -> f64 {
    larder.metric("larder_writes_over_budget_total").await
}

#[tokio::test]
async fn writes_over_the_budget_are_not_widened() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("{TWO_A_MINUTE}{ROUTES}"), &upstream);
    let write = |path: &str| larder.request("POST", path).body("{}");
    larder.misses(&READS).await;
    write("/orders/9").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"], "widened to its route");
    write("/orders/9").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, [""; 0], "its own URL only");
    write("/orders/1?x=1").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"], "what it names is purged");
    assert_eq!(over_budget(&larder).await, 1.0, "the last one lost nothing");
    write("/orders/9").header("authorization", "Bearer a").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"], "a credential has a budget of its own");
    assert!(larder.log().contains("writes over `limits.purge_targets_per_client`"));
}

#[tokio::test]
async fn writes_over_the_budget_purge_and_leave_no_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("{TWO_A_MINUTE}{ROUTES}"), &upstream);
    larder.misses(&READS).await;
    upstream.once("/courses/7", Answer::status(502));
    larder.request("POST", "/courses/7").body("{}").await.assert_status(502);
    assert_eq!(larder.misses(&READS).await, ["/courses/7"], "three targets at once");
    assert_eq!(larder.misses(&READS).await, [""; 0], "and no doubt");
    assert_eq!(over_budget(&larder).await, 1.0);
}

#[tokio::test]
async fn a_proxy_that_names_no_client_has_no_budget() {
    let upstream = Upstream::start();
    for limits in [
        "trusted_proxies: [127.0.0.0/8]\nlimits: {purge_targets_per_client: 1}",
        "limits: {purge_targets_per_client: off}",
    ] {
        let larder = Larder::with(&format!("{limits}{ROUTES}"), &upstream);
        larder.misses(&READS).await;
        for _ in 0..3 {
            larder.request("POST", "/orders/9").body("{}").await.assert_status(200);
            assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"], "{limits}");
        }
        assert_eq!(over_budget(&larder).await, 0.0);
    }
}

/// An intent invalidates all that the write might purge, while the write is under way.
#[tokio::test]
async fn a_guarded_write_over_the_budget_marks_what_it_names() {
    let upstream = Upstream::start();
    let routes = "
routes:
  - {path: /list, ttl: 1h, tags: [\"item:1\"]}
  - {path: /items, guard: true, purges: [\"item:{request.json:/id}\"]}
";
    for (budget, is_marked) in [("off", true), ("1", false)] {
        let larder =
            Larder::with(&format!("limits: {{purge_targets_per_client: {budget}}}{routes}"), &upstream);
        larder.get("/list").await.assert_stored();
        larder.get("/list").await.assert_hit();
        let held = upstream.hold("/items");
        let content = r#"{"id": 2}"#;
        let write = larder.request("POST", "/items").header("content-type", "application/json").body(content);
        let write = write.spawn();
        held.arrived().await;
        assert_eq!(!larder.get("/list").await.is_hit(), is_marked, "{budget}");
        held.release();
        write.await.expect("no panic").assert_status(200);
    }
}

#[tokio::test]
async fn a_guarded_write_marks_nothing_while_its_content_arrives() {
    let upstream = Upstream::start();
    let routes = "
routes:
  - {path: /list, ttl: 1h, tags: [\"item:1\"]}
  - {path: /items, guard: true, purges: [\"item:{request.json:/id}\"]}
";
    let larder = Larder::with(routes, &upstream);
    larder.get("/list").await.assert_stored();
    let mut slow = larder.raw().await;
    slow.send(
        "POST /items HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    )
    .await;
    for _ in 0..50 {
        larder.get("/list").await.assert_hit();
    }
    assert_eq!(upstream.count("/items"), 0);
    slow.send("\"id\": 1}").await;
    assert_eq!(slow.status().await, 200);
    larder.get("/list").await.assert_stored();
}

/// The upstream never has the content whole, so nothing was written.
#[tokio::test]
async fn writes_that_are_cut_off_purge_their_url_a_few_times() {
    let upstream = Upstream::start();
    let routes = "
limits: {cut_writes_per_client: 2}
routes:
  - {path: \"/courses/{id}\", ttl: 1h}
  - {path: \"/parts/{id}\", ttl: 1h, unclear: [502, 504, partial]}
";
    let larder = Larder::with(routes, &upstream);
    let cut = async |path: &str| {
        let requests = upstream.received(path).iter().filter(|request| request.aborted).count();
        let mut raw = larder.raw().await;
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"))
            .await;
        eventually("the write is under way", || async { (upstream.count(path) > 0).then_some(()) }).await;
        drop(raw);
        eventually("it is cut off", || async {
            let aborted = upstream.received(path).iter().filter(|request| request.aborted).count();
            (aborted > requests).then_some(())
        })
        .await;
    };
    for number in 0..5 {
        larder.misses(&["/courses/7"]).await;
        let before = larder.metric("larder_writes_over_budget_total").await;
        cut("/courses/7").await;
        if number < 2 {
            eventually("its URL is purged", || async {
                (!larder.get("/courses/7").await.is_hit()).then_some(())
            })
            .await;
        } else {
            larder.metric_becomes("larder_writes_over_budget_total", before + 1.0).await;
            assert_eq!(larder.misses(&["/courses/7"]).await, [""; 0]);
        }
    }
    larder.request("POST", "/courses/7").body("{}").await.assert_status(200);
    assert_eq!(larder.misses(&["/courses/7"]).await, ["/courses/7"], "a whole one has a budget of its own");
    for _ in 0..3 {
        larder.misses(&["/parts/7"]).await;
        cut("/parts/7").await;
        eventually("it is in doubt", || async { (!larder.get("/parts/7").await.is_hit()).then_some(()) })
            .await;
        larder.after(60);
    }
}

/// While Redis hangs, one client uses up half of its budget with writes whose outcome is unknown.
#[tokio::test]
async fn what_waits_for_redis_reaches_only_what_it_names() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = Replica::start(&redis, &upstream, "max_lag: 1s, timeout: 500ms", ROUTES).await;
    larder.get("/courses/7").await.assert_stored();
    redis.holds(1).await;
    upstream.on("/orders/1", Answer::status(504));
    redis.stop();
    larder.is_cut_off().await;
    for write in 0..250 {
        let values: Vec<String> = (0..60).map(|value| format!("x={}", 60 * write + value)).collect();
        let path = format!("/orders/1?{}", values.join("&"));
        larder.request("POST", &path).body("{}").await.assert_status(504);
    }
    assert!(larder.metric("larder_purges_waiting").await > 15_000.0);
    redis.cont();
    larder.is_connected().await;
    larder.metric_becomes("larder_purges_waiting", 0.0).await;
    larder.get("/courses/7").await.assert_hit();
    larder.get("/orders/1?x=14999").await.assert_status(504);
}

const LARGE_WRITES: &str = "
trusted_proxies: [127.0.0.0/8]
limits: {purge_targets_per_client: 100}
routes:
  - {path: /items, max_targets: 2000, purges: [\"item:{request.json:$.ids[*]}\"]}
  - {path: /timed, purges: [t], timeout: 300ms}
";

/// A write of this client that purges a tenth of what all may purge in a second.
async fn purge_thousand(larder: &Client, client: u8) -> Reply {
    let ids: Vec<String> = (0..1000).map(|id| id.to_string()).collect();
    let content = format!("{{\"ids\": [{}]}}", ids.join(", "));
    let write = larder.request("POST", "/items").header("content-type", "application/json").body(content);
    write.header("x-forwarded-for", &format!("192.0.2.{client}")).await
}

/// Lets each of these clients send so many writes at one time, so that none of them waits for another one's purge.
async fn purge_at_once(larder: &Larder, upstream: &Upstream, clients: std::ops::Range<u8>, each: usize) {
    let held = upstream.hold_every("/items");
    let (before, mut writes) = (upstream.count("/items"), JoinSet::new());
    for client in clients {
        for _ in 0..each {
            let larder = Client::new(larder.address());
            writes.spawn(async move { purge_thousand(&larder, client).await });
        }
    }
    let count = before + writes.len();
    eventually("all are sent", || async { (upstream.count("/items") == count).then_some(()) }).await;
    held.release();
    writes.join_all().await.into_iter().for_each(|reply| drop(reply.assert_status(200)));
}

/// The clock stands still, so no turn comes.
#[tokio::test]
async fn a_write_that_would_wait_for_long_is_refused_unsent() {
    let upstream = Upstream::start();
    let larder = Larder::with(LARGE_WRITES, &upstream);
    purge_at_once(&larder, &upstream, 1..6, 12).await;
    let sent = upstream.count("/items");
    let reply = purge_thousand(&larder, 1).await.assert_status(429);
    assert_eq!(reply.header("retry-after").as_deref(), Some("1"), "its own writes take 1.2 s");
    purge_thousand(&larder, 6).await.assert_status(200);
    let reply = purge_thousand(&larder, 6).await.assert_status(503);
    assert_eq!(reply.header("retry-after").as_deref(), Some("1"), "all together take more than 5 s");
    purge_thousand(&larder, 7).await.assert_status(200);
    assert_eq!(upstream.count("/items"), sent + 2, "nothing was sent of what was refused");
    assert!(larder.log().contains("writes over `limits.purge_targets_per_client`"));
    larder.after(60);
    purge_thousand(&larder, 1).await.assert_status(200);
}

#[tokio::test]
async fn a_write_whose_client_was_answered_gets_no_turn() {
    let upstream = Upstream::start();
    let larder = Larder::with(LARGE_WRITES, &upstream);
    purge_at_once(&larder, &upstream, 1..2, 3).await;
    let write = larder.request("POST", "/timed").header("x-forwarded-for", "192.0.2.1");
    write.body("{}").await.assert_status(504);
    larder.after(60);
    purge_thousand(&larder, 1).await.assert_status(200);
    assert_eq!(upstream.count("/timed"), 0);
}

#[tokio::test]
async fn purges_that_redis_does_not_take_are_logged_once() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let routes = "\nroutes:\n  - {path: \"/flood/{id}\", purges: [\"flood:{id}\"]}\n";
    let larder = Replica::start(&redis, &upstream, "max_lag: 1s, timeout: 500ms", routes).await;
    redis.stop();
    larder.is_cut_off().await;
    for number in 0..20 {
        larder.request("POST", &format!("/flood/{number}")).body("{}").await.assert_status(200);
    }
    let log = larder.log();
    let lines = |level: &str| {
        let is_one =
            |line: &&str| line.contains(level) && line.contains("not purged") && line.contains("flood:");
        log.lines().filter(is_one).count()
    };
    assert_eq!((lines("ERROR"), lines("DEBUG")), (1, 19));
    assert_eq!(larder.metric("larder_purges_failed_total{source=\"write\"}").await, 20.0);
    redis.cont();
}
