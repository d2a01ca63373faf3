//! Responses that are not stored, with the reason in `Cache-Status`.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "
routes:
  - path: /a
    ttl: 60s
  - path: /upstream
    ttl: upstream
  - path: /overrides
    ttl: 60s
    override: [private, no-cache]
  - path: /small
    ttl: 60s
    max_size: 10
";

#[tokio::test]
async fn a_response_that_must_not_be_stored_is_not() {
    let many_tags = (0..600).map(|n| format!("tag-{n}")).collect::<Vec<_>>().join(" ");
    let long_tag = "x".repeat(5000);
    let ok = || Answer::ok("a body");
    let table = [
        ("/a", ok().header("cache-control", "no-store"), "no-store"),
        ("/a", ok().header("cache-control", "No-Store, max-age=9"), "no-store"),
        ("/a", ok().header("cache-control", "private"), "private"),
        ("/a", ok().header("cache-control", "private=\"x-a\""), "private"),
        ("/a", ok().header("set-cookie", "sid=1"), "set-cookie"),
        ("/a", ok().header("vary", "accept, *"), "vary-star"),
        ("/a", Answer::status(500), "status"),
        ("/a", Answer::status(302).header("location", "/b"), "status"),
        ("/a", ok().header("surrogate-key", &many_tags), "too-many-tags"),
        ("/a", ok().header("cache-tag", &long_tag), "too-many-tags"),
        ("/upstream", ok(), "no-lifetime"),
        ("/overrides", ok().header("cache-control", "no-store"), "no-store"),
        ("/overrides", ok().header("set-cookie", "sid=1"), "set-cookie"),
        ("/small", Answer::ok("eleven byte"), "too-large"),
    ];
    for (path, answer, why) in table {
        let upstream = Upstream::start();
        upstream.on(path, answer);
        let larder = Larder::with(ROUTES, &upstream);
        larder.get(path).await.assert_fwd("uri-miss").assert_not_stored(why);
        larder.get(path).await.assert_fwd("uri-miss").assert_not_stored(why);
        assert_eq!(upstream.count(path), 2, "{why}");
    }
}

#[tokio::test]
async fn an_oversized_body_is_still_passed_on_whole() {
    let upstream = Upstream::start();
    upstream.on("/small", Answer::status(200).chunks(["six by", "eleven byte"]));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/small").await.assert_text("six byeleven byte");
    assert!(!larder.get("/small").await.assert_text("six byeleven byte").is_hit());
    assert_eq!(upstream.count("/small"), 2);
}

#[tokio::test]
async fn what_the_route_overrides_is_stored() {
    for word in ["private", "no-cache", "private, no-cache, max-age=0"] {
        let upstream = Upstream::start();
        upstream.on("/overrides", Answer::ok("").header("cache-control", word));
        let larder = Larder::with(
            "routes: [{path: /overrides, ttl: 60s, override: [lifetime, private, no-cache]}]",
            &upstream,
        );
        larder.get("/overrides").await.assert_stored();
        larder.get("/overrides").await.assert_hit();
    }
}

#[tokio::test]
async fn an_age_that_came_with_the_response_counts() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    upstream.on("/upstream", Answer::ok("").header("cache-control", "max-age=60").header("age", "50"));
    larder.get("/upstream").await.assert_stored();
    larder.after(9);
    assert_eq!(larder.get("/upstream").await.assert_hit().assert_header("age", "59").remaining_ttl(), 1);
    larder.after(1);
    assert!(!larder.get("/upstream").await.is_hit());
}

#[tokio::test]
async fn what_a_request_says_of_caching_is_advice_that_is_not_taken() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").header("cache-control", "no-store").await.assert_stored();
    larder.after(30);
    for directive in ["no-cache", "no-store", "max-age=0", "max-age=10", "min-fresh=50"] {
        larder.get("/a").header("cache-control", directive).await.assert_hit().assert_text("GET /a #1");
    }
    larder.get("/a").header("pragma", "no-cache").await.assert_hit();
}
