//! Responses with an expiry of their own, such as signed URLs, are never served after it, whatever else allows it; and
//! lifetimes with jitter.

use serde_json::json;

use crate::support::{Answer, Larder, Received, Redis, Replica, START, Upstream, eventually};

/// Served stale for an hour in either case, but for what is said in the content.
const ROUTES: &str = "
routes:
  - path: /urls/{id}
    ttl: 60s
    ttl_from: {json: $.expires_at, minus: 15s}
    stale_while_revalidate: 1h
    stale_if_error: 1h
    request_directives: true
    tags: [urls]
  - path: /fields/{id}
    ttl: none
    ttl_from: {header: X-Expires}
";

const URL: &str = "/urls/1";

/// A URL that dies so many seconds after the start, with the number of its fetch.
fn url(dies: u64, nth: usize) -> Answer {
    let body = json!({"expires_at": START.as_secs() + dies, "nth": nth}).to_string();
    Answer::json(body).header("etag", "\"1\"")
}

/// Each dies 100 s after the start, and so is not served from 85 s on.
fn start() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    upstream.on(URL, |request: &Received| url(100, request.nth));
    let larder = Larder::with(ROUTES, &upstream);
    (upstream, larder)
}

#[tokio::test]
async fn the_content_only_shortens_the_lifetime() {
    for (dies, lifetime) in [(40, 25), (75, 60), (76, 60), (100_000, 60)] {
        let (upstream, larder) = start();
        upstream.on(URL, url(dies, 1));
        let first = larder.get(URL).await.assert_stored();
        assert_eq!(first.cache_status("ttl"), None, "it is not known yet");
        assert_eq!(larder.get(URL).await.assert_hit().remaining_ttl(), lifetime, "{dies}");
        assert_eq!(upstream.count(URL), 1);
    }
}

#[tokio::test]
async fn no_stale_window_reaches_beyond_its_end() {
    let soft = |larder: &Larder| larder.request("PURGE", URL).header("purge-mode", "soft");
    for (is_purged, cache_control) in [(false, ""), (true, ""), (false, "max-stale")] {
        let (upstream, larder) = start();
        larder.get(URL).await.assert_stored();
        larder.after(60);
        if is_purged {
            soft(&larder).await.assert_status(200);
        }
        upstream.on(URL, Answer::status(503));
        larder.after(24);
        for _ in 0..3 {
            let last = larder.get(URL).header("cache-control", cache_control).await;
            assert_eq!(last.assert_status(200).json()["nth"], 1);
        }
        larder.after(1);
        for _ in 0..3 {
            let reply = larder.get(URL).header("cache-control", cache_control).await;
            reply.assert_status(503).assert_fwd("uri-miss");
        }
    }
}

#[tokio::test]
async fn a_response_that_expires_during_a_failure_is_not_served() {
    let routes = ROUTES.replace("stale_while_revalidate: 1h", "stale_while_revalidate: 0s");
    for answer in [Answer::status(500), Answer::hang_up()] {
        let upstream = Upstream::start();
        upstream.on(URL, url(100, 1));
        let larder = Larder::with(&routes, &upstream);
        larder.get(URL).await.assert_stored();
        upstream.on(URL, answer);
        larder.after(82);
        larder.get(URL).await.assert_status(200).assert_detail("stale-if-error");
        // After the pause that the failure made.
        larder.after(2);
        let held = upstream.hold(URL);
        let waiting = larder.get(URL).spawn();
        held.arrived().await;
        larder.after(1);
        held.release();
        assert!(waiting.await.unwrap().status >= 500);
    }
}

#[tokio::test]
async fn a_304_does_not_lengthen_what_the_stored_content_says() {
    let routes = ROUTES.replace("stale_while_revalidate: 1h", "stale_while_revalidate: 0s");
    let upstream = Upstream::start();
    upstream.on(URL, |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("etag", "\"1\"").header("cache-control", "max-age=1000"),
        None => url(100 * request.nth as u64, request.nth),
    });
    let larder = Larder::with(&routes, &upstream);
    larder.get(URL).await.assert_stored();
    larder.after(60);
    larder.get(URL).await.assert_stored();
    assert_eq!(larder.get(URL).await.assert_hit().remaining_ttl(), 25);
    larder.after(25);
    // Another, since the old one is not even asked about any more.
    assert_eq!(larder.get(URL).await.assert_fwd("uri-miss").json()["nth"], 3);
    assert_eq!(upstream.count(URL), 3);
}

#[tokio::test]
async fn a_304_that_comes_when_it_is_dead_brings_it_to_nobody() {
    let routes = ROUTES.replace("stale_while_revalidate: 1h", "stale_while_revalidate: 0s");
    let upstream = Upstream::start();
    upstream.on(URL, |request: &Received| match request.header("if-none-match") {
        Some(_) => Answer::status(304).header("etag", "\"1\""),
        None => url(if request.nth == 1 { 100 } else { 1000 }, request.nth),
    });
    let larder = Larder::with(&routes, &upstream);
    larder.get(URL).await.assert_stored();
    larder.after(84);
    let held = upstream.hold(URL);
    let waiting = larder.get(URL).spawn();
    held.arrived().await;
    larder.after(1);
    held.release();
    assert_eq!(waiting.await.unwrap().assert_status(200).json()["nth"], 3);
}

#[tokio::test]
async fn a_head_does_not_lengthen_what_the_stored_content_says() {
    let routes = ROUTES.replace("stale_while_revalidate: 1h", "stale_while_revalidate: 0s");
    let upstream = Upstream::start();
    upstream.on(URL, |request: &Received| url(100, request.nth).header("cache-control", "max-age=60"));
    let larder = Larder::with(&routes, &upstream);
    larder.get(URL).await.assert_stored();
    larder.after(60);
    larder.request("HEAD", URL).await.assert_stored();
    eventually("it is fresh again", || async { larder.get(URL).await.is_hit().then_some(()) }).await;
    assert_eq!(larder.get(URL).await.assert_hit().remaining_ttl(), 25);
    larder.after(25);
    larder.get(URL).await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn responses_without_a_usable_expiry_are_not_stored() {
    let json = |body: serde_json::Value| Answer::json(body.to_string());
    for (answer, why) in [
        (json(json!({"url": "u"})), "no-expiry"),
        (json(json!({"expires_at": "tomorrow"})), "no-expiry"),
        (json(json!({"expires_at": null})), "no-expiry"),
        (json(json!({"expires_at": {"at": 1}})), "no-expiry"),
        (json(json!({"expires_at": "9999999999999999999999"})), "no-expiry"),
        (url(15, 1), "already-stale"),
        (json(json!({"expires_at": 3600})), "already-stale"),
    ] {
        let (upstream, larder) = start();
        upstream.on(URL, answer);
        larder.get(URL).await.assert_status(200);
        // The second knows what became of the first.
        larder.get(URL).await.assert_status(200).assert_not_stored(why);
        assert_eq!(upstream.count(URL), 2, "{why}");
    }
}

#[tokio::test]
async fn followers_wait_until_the_content_gives_the_lifetime() {
    let (upstream, larder) = start();
    let (answer, feed) = Answer::fed();
    upstream.once(URL, answer.header("content-type", "application/json"));
    let mut first = larder.get(URL).start().await;
    feed.send("{\"nth\": 1, ").await;
    first.read_until("{\"nth\": 1, ").await;
    let crowd: Vec<_> = (0..20).map(|_| larder.get(URL).spawn()).collect();
    larder.metric_becomes("larder_followers", 20.0).await;
    feed.send(format!("\"expires_at\": {}}}", START.as_secs() + 100)).await;
    feed.end().await;
    for reply in crowd {
        assert_eq!(reply.await.unwrap().assert_status(200).json()["nth"], 1);
    }
    assert_eq!(upstream.count(URL), 1);
}

#[tokio::test]
async fn a_response_that_expires_on_arrival_answers_its_leader() {
    let (upstream, larder) = start();
    let (answer, feed) = Answer::fed();
    upstream.once(URL, answer.header("content-type", "application/json"));
    let mut first = larder.get(URL).start().await;
    feed.send("{\"nth\": 1, ").await;
    first.read_until("{\"nth\": 1, ").await;
    larder.after(30);
    let later = larder.get(URL).spawn();
    larder.metric_becomes("larder_followers", 1.0).await;
    feed.send(format!("\"expires_at\": {}}}", START.as_secs() + 30)).await;
    feed.end().await;
    first.whole().await.unwrap();
    assert_eq!(later.await.unwrap().json()["nth"], 2);
    assert_eq!(upstream.count(URL), 2);
}

#[tokio::test]
async fn followers_do_not_get_what_was_purged_meanwhile() {
    let routes = ROUTES.replace("tags: [urls]", "tags: [\"file:{response.json:/file}\"]");
    for (tag, is_its) in [("file:7", true), ("file:8", false)] {
        let upstream = Upstream::start();
        upstream.on(URL, |request: &Received| url(100, request.nth));
        let larder = Larder::with(&routes, &upstream);
        let (answer, feed) = Answer::fed();
        upstream.once(URL, answer.header("content-type", "application/json"));
        let mut first = larder.get(URL).start().await;
        feed.send("{\"nth\": 1, ").await;
        first.read_until("{\"nth\": 1, ").await;
        let waiting = larder.get(URL).spawn();
        larder.metric_becomes("larder_followers", 1.0).await;
        larder.request("PURGE", "/any").header("cache-tag", tag).await.assert_status(200);
        feed.send(format!("\"file\": 7, \"expires_at\": {}}}", START.as_secs() + 100)).await;
        feed.end().await;
        first.whole().await.unwrap();
        let expected = if is_its { 2 } else { 1 };
        assert_eq!(waiting.await.unwrap().json()["nth"], expected, "{tag}");
        assert_eq!(larder.get(URL).await.json()["nth"], expected, "{tag}");
    }
}

#[tokio::test]
async fn followers_of_an_aborted_or_oversized_fetch_ask_again() {
    let routes = ROUTES.replace("ttl: 60s", "ttl: 60s\n    max_json: 1KiB");
    for breaks_off in [true, false] {
        let upstream = Upstream::start();
        upstream.on(URL, |request: &Received| url(100, request.nth));
        let larder = Larder::with(&routes, &upstream);
        let (answer, feed) = Answer::fed();
        upstream.once(URL, answer.header("content-type", "application/json"));
        let mut first = larder.get(URL).start().await;
        feed.send("{\"nth\": 1, ").await;
        first.read_until("{\"nth\": 1, ").await;
        let crowd: Vec<_> = (0..5).map(|_| larder.get(URL).spawn()).collect();
        larder.metric_becomes("larder_followers", 5.0).await;
        if breaks_off {
            feed.cut();
        } else {
            feed.send(format!("\"text\": \"{}\"", "x".repeat(2000))).await;
        }
        for reply in crowd {
            assert!(reply.await.unwrap().assert_status(200).json()["nth"].as_u64() >= Some(2));
        }
        if breaks_off {
            assert_eq!(upstream.count(URL), 2);
        }
    }
}

#[tokio::test]
async fn a_field_may_say_it_too() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let says = |value: &str| Answer::ok("x").header("x-expires", value);
    upstream.on("/fields/1", says("2025-11-20T12:01:40Z"));
    larder.get("/fields/1").await.assert_stored();
    assert_eq!(larder.get("/fields/1").await.assert_hit().remaining_ttl(), 100);
    larder.after(100);
    larder.get("/fields/1").await.assert_not_stored("already-stale");
    upstream.on("/fields/2", Answer::ok("x"));
    larder.get("/fields/2").await.assert_not_stored("no-expiry");
}

#[tokio::test]
async fn responses_from_before_the_rule_are_not_used() {
    let (upstream, larder) = start();
    larder.reconfigure(&ROUTES.replace("ttl_from: {json: $.expires_at, minus: 15s}", "jitter: 0%")).await;
    larder.get(URL).await.assert_stored();
    larder.get(URL).await.assert_hit();
    larder.reconfigure(ROUTES).await;
    larder.get(URL).await.assert_stored();
    assert_eq!(upstream.count(URL), 2);
}

#[tokio::test]
async fn another_replica_does_not_serve_it_any_longer() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let now = larder::clock::Clock::system().now().as_secs();
    upstream.on(URL, move |request: &Received| {
        let body = json!({"expires_at": now + 1000, "nth": request.nth}).to_string();
        Answer::json(body)
    });
    let routes = ROUTES.replace("ttl: 60s", "ttl: 1h");
    let one = Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 5s", &routes).await;
    let other = Replica::start(&redis, &upstream, "max_lag: 0s, timeout: 5s", &routes).await;
    one.get(URL).await.assert_stored();
    let shared = other.has(URL).await;
    let left = shared.remaining_ttl();
    assert!((900..=985).contains(&left), "{left}");
    let kept = redis.command(&["PTTL", &redis.responses().await[0]]).await;
    let kept: u64 = kept.parse().expect("a number");
    assert!(kept <= 985_000, "{kept}");
}

const TOGETHER: usize = 60;

#[tokio::test]
async fn what_was_stored_together_does_not_expire_together() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: \"/items/{id}\", ttl: 100s, jitter: 50%}]", &upstream);
    let hits = || async {
        let mut hits = 0;
        for id in 0..TOGETHER {
            hits += usize::from(larder.get(&format!("/items/{id}")).await.is_hit());
        }
        hits
    };
    assert_eq!(hits().await, 0);
    larder.after(49);
    assert_eq!(hits().await, TOGETHER);
    larder.after(26);
    let left = hits().await;
    assert!((10..TOGETHER - 10).contains(&left), "{left}");
    // Those that were fetched anew meanwhile are good for 50 s at least; of the others none is.
    larder.after(25);
    assert_eq!(hits().await, TOGETHER - left);
}

/// A list of posts with the signed URLs of their files, which stop working so many seconds after the start.
fn posts(ends: &[u64]) -> Answer {
    let post = |ends: &u64| {
        let end = START.as_secs() + ends;
        json!({"file": {"url": format!("https://files.example/1?Expires={end}&Signature=x")}})
    };
    let posts: Vec<_> = ends.iter().map(post).chain([json!({"file": null})]).collect();
    Answer::json(json!({"posts": posts}).to_string())
}

#[tokio::test]
async fn the_first_signed_url_in_a_list_bounds_it() {
    let upstream = Upstream::start();
    let routes = "routes: [{path: /posts, ttl: 60s, stale_if_error: 1h, \
                  ttl_from: {signed_url: $..url, minus: 10s}}]";
    let larder = Larder::with(routes, &upstream);
    upstream.on("/posts", posts(&[500, 40, 90]));
    larder.get("/posts").await.assert_stored();
    assert_eq!(larder.get("/posts").await.assert_hit().remaining_ttl(), 30);
    upstream.on("/posts", Answer::status(503));
    larder.after(29);
    larder.get("/posts").await.assert_hit();
    larder.after(1);
    larder.get("/posts").await.assert_status(503);

    upstream.on("/posts", posts(&[]));
    larder.get("/posts").await.assert_stored();
    assert_eq!(larder.get("/posts").await.assert_hit().remaining_ttl(), 60);
    larder.after(60);
    let unreadable = json!({"url": "https://files.example/1?Policy=x&Signature=y"}).to_string();
    upstream.on("/posts", Answer::json(unreadable));
    larder.request("PURGE", "/posts").await.assert_status(200);
    for fetches in 4..6 {
        larder.get("/posts").await.assert_status(200);
        assert_eq!(upstream.count("/posts"), fetches);
    }
}
