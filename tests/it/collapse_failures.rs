//! Followers of a fetch that fails, takes too long, or is not for them.

use crate::support::{Answer, Larder, Received, Reply, Upstream, eventually, with_deadline};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s, collapse_timeout: 1m}
  - {path: /shared, ttl: 60s, shared: true, collapse_timeout: 1m}
  - {path: /slow, ttl: 60s, collapse_timeout: 100ms}
  - {path: /stale, ttl: 1s, stale_while_revalidate: 1h}
";

fn fails_for_bad_fields(request: &Received) -> Answer {
    match request.header("x-bad") {
        Some(_) => Answer::status(500),
        None => Answer::numbered(request),
    }
}

async fn replies(waiting: Vec<tokio::task::JoinHandle<Reply>>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for reply in waiting {
        replies.push(reply.await.expect("a reply"));
    }
    replies
}

#[tokio::test]
async fn an_error_answers_only_requests_with_the_same_fields() {
    let upstream = Upstream::start();
    upstream.on("/a", fails_for_bad_fields);
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/a");
    let mut bad = vec![larder.get("/a").header("x-bad", "1").spawn()];
    held.arrived().await;
    bad.extend((0..3).map(|_| larder.get("/a").header("x-bad", "1").spawn()));
    let good = (0..20).map(|_| larder.get("/a").spawn()).collect();
    larder.metric_becomes("larder_followers", 23.0).await;
    held.release();
    for reply in replies(bad).await {
        reply.assert_status(500);
    }
    for reply in replies(good).await {
        reply.assert_status(200).assert_text("GET /a #2");
    }
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn no_number_of_bad_requests_gives_its_error_to_others() {
    let upstream = Upstream::start();
    upstream.on("/a", fails_for_bad_fields);
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/a");
    let bad = |number: usize| larder.get("/a").header("x-bad", &number.to_string()).spawn();
    let mut waiting = vec![bad(0)];
    held.arrived().await;
    waiting.extend((1..100).map(bad));
    let good = (0..20).map(|_| larder.get("/a").spawn()).collect();
    larder.metric_becomes("larder_followers", 119.0).await;
    held.release();
    for reply in replies(good).await {
        reply.assert_status(200);
    }
    for reply in replies(waiting).await {
        // One that came late is answered by what the good ones stored.
        assert!(reply.status == 500 || reply.status == 200);
    }
}

#[tokio::test]
async fn requests_with_the_same_fields_share_their_error() {
    for failure in [Answer::status(503), Answer::hang_up()] {
        let upstream = Upstream::start();
        upstream.on("/a", failure);
        let larder = Larder::with(ROUTES, &upstream);
        let held = upstream.hold("/a");
        let get = |number: usize| {
            let client = format!("client {}", number % 4);
            larder.get("/a").header("user-agent", &client).spawn()
        };
        let mut waiting = vec![get(0)];
        held.arrived().await;
        waiting.extend((1..200).map(get));
        larder.metric_becomes("larder_followers", 199.0).await;
        held.release();
        for reply in replies(waiting).await {
            assert!(reply.status >= 500);
        }
        // The first, one more for all others, and one for each client's; one that is late starts another.
        assert!((2..20).contains(&upstream.count("/a")), "{}", upstream.count("/a"));
    }
}

#[tokio::test]
async fn a_private_response_to_one_caller_stops_no_others() {
    let upstream = Upstream::start();
    upstream.on("/shared", |request: &Received| match request.header("authorization") {
        Some(_) => Answer::numbered(request).header("cache-control", "private"),
        None => Answer::numbered(request),
    });
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/shared");
    let signed_in = larder.get("/shared").header("authorization", "Bearer ann").spawn();
    held.arrived().await;
    let anonymous = (0..20).map(|_| larder.get("/shared").spawn()).collect();
    larder.metric_becomes("larder_followers", 20.0).await;
    held.release();
    signed_in.await.unwrap().assert_text("GET /shared #1").assert_not_stored("private");
    for reply in replies(anonymous).await {
        reply.assert_text("GET /shared #2");
    }
    assert_eq!(upstream.count("/shared"), 2);
    // And the next cold requests are collapsed, too.
    larder.request("PURGE", "/shared").await.assert_status(200);
    let held = upstream.hold("/shared");
    let anonymous: Vec<_> = (0..20).map(|_| larder.get("/shared").spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_followers", 19.0).await;
    held.release();
    replies(anonymous).await;
    assert_eq!(upstream.count("/shared"), 3);
}

#[tokio::test]
async fn one_more_request_goes_beside_a_fetch_that_takes_too_long() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/slow");
    let stuck = larder.get("/slow").spawn();
    held.arrived().await;
    let others = (0..10).map(|_| larder.get("/slow").spawn()).collect();
    for reply in with_deadline("the others are answered", replies(others)).await {
        reply.assert_text("GET /slow #2");
    }
    assert_eq!(upstream.count("/slow"), 2);
    held.release();
    stuck.await.unwrap().assert_text("GET /slow #1");
}

#[tokio::test]
async fn the_first_of_two_fetches_answers_all_who_wait() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let first = upstream.hold("/slow");
    let leader = larder.get("/slow").spawn();
    first.arrived().await;
    let second = upstream.hold("/slow");
    let others = (0..10).map(|_| larder.get("/slow").spawn()).collect();
    second.arrived().await;
    first.release();
    for reply in with_deadline("all are answered", replies(others)).await {
        reply.assert_text("GET /slow #1");
    }
    leader.await.unwrap().assert_text("GET /slow #1");
    assert_eq!(upstream.count("/slow"), 2);
    second.release();
}

#[tokio::test]
async fn followers_of_a_fetch_that_timed_out_try_once_more() {
    let upstream = Upstream::start();
    let yaml = format!("upstream: {{url: {}, response_timeout: 500ms}}{ROUTES}", upstream.url());
    let larder = Larder::with_environment(&yaml, &[]);
    let held = upstream.hold("/a");
    let leader = larder.get("/a").spawn();
    held.arrived().await;
    let others = (0..10).map(|_| larder.get("/a").spawn()).collect();
    leader.await.unwrap().assert_status(504);
    for reply in replies(others).await {
        reply.assert_text("GET /a #2");
    }
    assert_eq!(upstream.count("/a"), 2);
}

#[tokio::test]
async fn no_newcomer_joins_a_response_whose_content_is_stuck() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (stuck, feed) = Answer::fed();
    upstream.once("/slow", stuck);
    let mut leader = larder.get("/slow").start().await;
    feed.send("abc").await;
    leader.read_until("abc").await;
    larder.after(1);
    // Once it has made no progress for the route's `collapse_timeout`, newcomers get the response to another request.
    let first_part = || async {
        let mut newcomer = larder.get("/slow").start().await;
        newcomer.next().await.expect("no error").expect("some content")
    };
    eventually("another response", || async { (first_part().await == "GET /slow #2").then_some(()) }).await;
    assert_eq!(upstream.count("/slow"), 2);
    // Those who joined before read on, and the newer response stays.
    feed.send("def").await;
    feed.end().await;
    leader.whole().await.expect("whole").assert_text("def");
    larder.get("/slow").await.assert_hit().assert_text("GET /slow #2");
}

#[tokio::test]
async fn a_follower_of_a_short_content_that_stalls_asks_once_more() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (stuck, feed) = Answer::fed();
    upstream.once("/slow", stuck.header("content-length", "6"));
    let mut leader = larder.get("/slow").start().await;
    feed.send("abc").await;
    leader.read_until("abc").await;
    let followers = (0..5).map(|_| larder.get("/slow").spawn()).collect();
    for reply in with_deadline("the followers are answered", replies(followers)).await {
        reply.assert_status(200).assert_text("GET /slow #2");
    }
    assert_eq!(upstream.count("/slow"), 2);
    feed.send("def").await;
    feed.end().await;
    leader.whole().await.expect("whole").assert_text("def");
}

/// One client's fields make the response uncacheable, each time with other values.
#[tokio::test]
async fn an_uncacheable_response_to_one_leaves_others_collapsed() {
    let table = [("cache-control", "no-store"), ("set-cookie", "a=b"), ("vary", "*"), ("x-status", "404")];
    for (field, value) in table {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| match request.header("x-bad") {
            Some(_) if value == "404" => Answer::status(404).header("cache-control", "no-store"),
            Some(_) => Answer::numbered(request).header(field, value),
            None => Answer::numbered(request),
        });
        let larder = Larder::with(ROUTES, &upstream);
        for round in 0..3 {
            let (before, held) = (upstream.count("/a"), upstream.hold("/a"));
            let bad = larder.get("/a").header("x-bad", &round.to_string()).spawn();
            held.arrived().await;
            let good = (0..20).map(|_| larder.get("/a").spawn()).collect();
            larder.metric_becomes("larder_followers", 20.0).await;
            held.release();
            bad.await.expect("a reply");
            for reply in replies(good).await {
                reply.assert_status(200);
            }
            assert_eq!(upstream.count("/a") - before, 2, "{field}: {value}, round {round}");
            larder.request("PURGE", "/a").await.assert_status(200);
        }
    }
}

#[tokio::test]
async fn one_clients_uncacheable_response_ends_the_stale_window_once() {
    let upstream = Upstream::start();
    upstream.on("/stale", move |request: &Received| match request.header("x-bad") {
        Some(_) => Answer::numbered(request).header("cache-control", "no-store"),
        None => Answer::numbered(request),
    });
    let larder = Larder::with(ROUTES, &upstream);
    let refresh_by_bad = async |round: usize| {
        larder.after(2);
        let before = upstream.count("/stale");
        larder.get("/stale").header("x-bad", &round.to_string()).await.assert_hit();
        eventually("it is refreshed", || async { (upstream.count("/stale") > before).then_some(()) }).await;
    };
    larder.get("/stale").await.assert_stored();
    refresh_by_bad(0).await;
    let is_withdrawn = || async { (!larder.get("/stale").await.is_hit()).then_some(()) };
    eventually("its present response is not for the cache", is_withdrawn).await;
    // The back-off is 5 s.
    for round in 1..3 {
        refresh_by_bad(round).await;
        // The refresh is over once another one may begin.
        larder.get("/stale").await.assert_hit();
        eventually("it is stored again", || async {
            larder
                .get("/stale")
                .await
                .cache_status("ttl")
                .is_some_and(|ttl| !ttl.starts_with('-'))
                .then_some(())
        })
        .await;
    }
    // Requests with the same fields speak for the stored response.
    larder.after(2);
    upstream.on("/stale", |request: &Received| Answer::numbered(request).header("cache-control", "no-store"));
    larder.get("/stale").await.assert_hit();
    eventually("it is not for the cache any more", is_withdrawn).await;
}
