//! Concurrent misses for one key become one request to the upstream, and nobody gets what is not theirs.

use crate::support::{Answer, Larder, Received, Reply, Upstream, bearer};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
  - {path: /shared, ttl: 60s, shared: true}
  - {path: /mine, ttl: 60s, per: authorization}
  - {path: /apart, ttl: 60s, collapse: false}
  - {path: /small, ttl: 60s, max_size: 4KiB}
";

type Waiting = Vec<tokio::task::JoinHandle<Reply>>;

fn crowd(larder: &Larder, target: &str, size: usize) -> Waiting {
    (0..size).map(|_| larder.get(target).spawn()).collect()
}

async fn replies(waiting: Waiting) -> Vec<Reply> {
    let mut replies = vec![];
    for reply in waiting {
        replies.push(reply.await.expect("a reply"));
    }
    replies
}

#[tokio::test]
async fn a_hundred_concurrent_misses_are_one_request() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/a");
    let waiting = crowd(&larder, "/a", 100);
    held.arrived().await;
    larder.metric_becomes("larder_followers", 99.0).await;
    held.release();
    let replies = replies(waiting).await;
    let collapsed = replies.iter().filter(|reply| reply.cache_status("collapsed").is_some()).count();
    let hits = replies.iter().filter(|reply| reply.is_hit()).count();
    assert!(replies.iter().all(|reply| reply.text() == "GET /a #1"));
    assert_eq!(collapsed + hits, 99);
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn every_follower_reads_the_whole_body_as_it_arrives() {
    let upstream = Upstream::start();
    let (answer, feed) = Answer::fed();
    upstream.once("/a", answer);
    let larder = Larder::with(ROUTES, &upstream);
    let mut leader = larder.get("/a").start().await;
    feed.send("one ").await;
    leader.read_until("one ").await;
    let mut late = larder.get("/a").start().await;
    assert_eq!(late.read_until("one ").await, "one ");
    feed.send("two ").await;
    leader.read_until("two ").await;
    late.read_until("two ").await;
    let last = larder.get("/a").start().await;
    feed.send("three").await;
    feed.end().await;
    assert_eq!(leader.whole().await.unwrap().text(), "three");
    assert_eq!(late.whole().await.unwrap().text(), "three");
    assert_eq!(last.whole().await.unwrap().text(), "one two three");
    larder.get("/a").await.assert_hit().assert_text("one two three");
    assert_eq!(upstream.count("/a"), 1);
}

#[tokio::test]
async fn a_leaders_client_that_goes_away_does_not_end_the_fetch() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (answer, feed) = Answer::fed();
    upstream.once("/a", answer);
    let held = upstream.hold("/a");
    let mut leader = larder.raw().await;
    leader.send(format!("GET /a HTTP/1.1\r\nHost: {}\r\n\r\n", larder.address())).await;
    held.arrived().await;
    let followers = crowd(&larder, "/a", 5);
    larder.metric_becomes("larder_followers", 5.0).await;
    leader.reset();
    larder.metric_becomes("larder_connections", 5.0).await;
    held.release();
    feed.send("whole").await;
    feed.end().await;
    for reply in replies(followers).await {
        reply.assert_text("whole");
    }
    assert_eq!(upstream.count("/a"), 1);
    larder.get("/a").await.assert_hit();
}

#[tokio::test]
async fn a_follower_that_goes_away_disturbs_nobody() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (answer, feed) = Answer::fed();
    upstream.once("/a", answer);
    let leader = larder.get("/a").start().await;
    feed.send("one ").await;
    let mut gone = larder.get("/a").start().await;
    gone.read_until("one ").await;
    drop(gone);
    feed.send("two").await;
    feed.end().await;
    leader.whole().await.unwrap().assert_text("one two");
}

#[tokio::test]
async fn what_may_not_be_shared_reaches_one_client_each() {
    let table = [
        ("cache-control", "private", "private"),
        ("cache-control", "no-store", "no-store"),
        ("set-cookie", "sid=1", "set-cookie"),
        ("vary", "*", "vary-star"),
    ];
    for (field, value, detail) in table {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| Answer::numbered(request).header(field, value));
        let larder = Larder::with(ROUTES, &upstream);
        let held = upstream.hold("/a");
        let waiting = crowd(&larder, "/a", 20);
        held.arrived().await;
        larder.metric_becomes("larder_followers", 19.0).await;
        held.release();
        let mut texts = vec![];
        for reply in replies(waiting).await {
            texts.push(reply.assert_not_stored(detail).text().to_owned());
        }
        texts.sort();
        texts.dedup();
        assert_eq!((texts.len(), upstream.count("/a")), (20, 20), "{detail}");
    }
}

#[tokio::test]
async fn what_is_known_not_to_be_storable_does_not_queue() {
    let upstream = Upstream::start();
    upstream.on("/a", |request: &Received| Answer::numbered(request).header("cache-control", "private"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    let held = upstream.hold_every("/a");
    let waiting = crowd(&larder, "/a", 20);
    // All are at the upstream at the same time: nobody waits for anybody.
    held.arrived_times(20).await;
    held.release();
    replies(waiting).await;
}

#[tokio::test]
async fn when_it_becomes_storable_again_it_is_stored_and_shared_again() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::ok("").header("cache-control", "private"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").await.assert_not_stored("private");
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    larder.after(61);
    let held = upstream.hold("/a");
    let waiting = crowd(&larder, "/a", 10);
    held.arrived().await;
    larder.metric_becomes("larder_followers", 9.0).await;
    held.release();
    replies(waiting).await;
    assert_eq!(upstream.count("/a"), 3);
}

#[tokio::test]
async fn a_failed_fetch_answers_all_who_waited_once() {
    let table = [
        (Answer::hang_up(), 502),
        (Answer::status(503).header("retry-after", "7"), 503),
        (Answer::raw("garbage\r\n\r\n"), 502),
    ];
    for (failure, status) in table {
        let upstream = Upstream::start();
        upstream.once("/a", failure);
        let larder = Larder::with(ROUTES, &upstream);
        let held = upstream.hold("/a");
        let waiting = crowd(&larder, "/a", 20);
        held.arrived().await;
        larder.metric_becomes("larder_followers", 19.0).await;
        held.release();
        for reply in replies(waiting).await {
            reply.assert_status(status);
        }
        assert_eq!(upstream.count("/a"), 1, "{status}");
        larder.get("/a").await.assert_status(200).assert_text("GET /a #2");
    }
}

#[tokio::test]
async fn a_cut_body_is_cut_for_everyone_and_stored_for_nobody() {
    let upstream = Upstream::start();
    let (answer, feed) = Answer::fed();
    upstream.once("/a", answer);
    let larder = Larder::with(ROUTES, &upstream);
    let mut leader = larder.get("/a").start().await;
    feed.send("half").await;
    leader.read_until("half").await;
    let mut follower = larder.get("/a").start().await;
    follower.read_until("half").await;
    feed.cut();
    assert_eq!(leader.broken_off().await, b"");
    assert_eq!(follower.broken_off().await, b"");
    larder.get("/a").await.assert_text("GET /a #2");
}

#[tokio::test]
async fn credentials_outside_the_key_never_join() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold_every("/a");
    let anonymous = larder.get("/a").spawn();
    held.arrived().await;
    let known = larder.get("/a").header("authorization", "Basic x").spawn();
    let other = larder.get("/a").header("authorization", "Basic y").spawn();
    held.arrived_times(3).await;
    held.release();
    let mut texts: Vec<_> =
        replies(vec![anonymous, known, other]).await.iter().map(|r| r.text().to_owned()).collect();
    texts.sort();
    assert_eq!(texts, ["GET /a #1", "GET /a #2", "GET /a #3"]);
}

#[tokio::test]
async fn callers_join_fetches_of_their_own_key_only() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (ann, bob) = (bearer(r#"{"sub":"ann"}"#), bearer(r#"{"sub":"bob"}"#));
    for (target, fetches) in [("/shared", 1), ("/mine", 2)] {
        let held = upstream.hold_every(target);
        let waiting: Waiting = (0..20)
            .map(|n| larder.get(target).header("authorization", if n % 2 == 0 { &ann } else { &bob }).spawn())
            .collect();
        held.arrived_times(fetches).await;
        larder.metric_becomes("larder_followers", (20 - fetches) as f64).await;
        held.release();
        let replies = replies(waiting).await;
        assert_eq!(upstream.count(target), fetches, "{target}");
        if target == "/mine" {
            assert!((0..20).all(|n| replies[n].text() == replies[n % 2].text()));
            assert_ne!(replies[0].text(), replies[1].text());
        }
    }
}

#[tokio::test]
async fn a_route_can_do_without() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold_every("/apart");
    let waiting = crowd(&larder, "/apart", 5);
    held.arrived_times(5).await;
    held.release();
    replies(waiting).await;
    larder.get("/apart").await.assert_hit();
}

#[tokio::test]
async fn past_what_is_kept_nobody_joins() {
    let upstream = Upstream::start();
    let (answer, feed) = Answer::fed();
    upstream.once("/small", answer);
    let larder = Larder::with(ROUTES, &upstream);
    let mut leader = larder.get("/small").start().await;
    feed.send(vec![b'x'; 5000]).await;
    feed.send("|").await;
    leader.read_until("|").await;
    larder.get("/small").await.assert_text("GET /small #2");
    feed.send("end").await;
    feed.end().await;
    leader.whole().await.unwrap().assert_text("end");
}

#[tokio::test]
async fn a_follower_that_reads_slowly_does_not_slow_the_others() {
    let upstream = Upstream::start();
    upstream.on("/a", Answer::generated(4_000_000));
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/a");
    let mut slow = larder.raw().await;
    slow.send("GET /a HTTP/1.1\r\nHost: api\r\n\r\n").await;
    held.arrived().await;
    let quick = larder.get("/a").header("host", "api").spawn();
    held.release();
    // `slow` has not read a byte yet.
    assert_eq!(quick.await.unwrap().body.len(), 4_000_000);
    assert!(slow.head().await.contains("200 OK"));
    assert_eq!(upstream.count("/a"), 1);
}
