//! Optional HTTP semantics that are off by default: each needs its switch on the route.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "
routes:
  - {path: /plain}
  - {path: /heuristic, heuristic: true}
  - {path: /any, any_status: true}
  - {path: /asks, request_directives: true}
";

#[tokio::test]
async fn heuristic_lifetimes_need_the_route_switch() {
    // 1000 s ago: a tenth of that.
    let modified = "Thu, 20 Nov 2025 11:43:20 GMT";
    for (path, status, fields, expected) in [
        ("/plain", 200, "", None),
        ("/heuristic", 200, "", Some(100)),
        ("/heuristic", 404, "", Some(100)),
        ("/heuristic", 501, "", Some(100)),
        ("/heuristic", 503, "", None),
        ("/heuristic", 302, "", None),
        ("/heuristic", 302, "public", Some(100)),
        // An explicit lifetime is not guessed.
        ("/heuristic", 200, "max-age=7", Some(7)),
        ("/heuristic", 200, "no-store", None),
    ] {
        let upstream = Upstream::start();
        let answer = Answer::status(status).header("last-modified", modified);
        upstream.on(path, answer.header("cache-control", fields));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get(path).await;
        let again = larder.get(path).await.assert_status(status);
        assert_eq!(again.is_hit().then(|| again.remaining_ttl()), expected, "{path} {status} {fields}");
    }
}

#[tokio::test]
async fn any_status_needs_the_route_switch() {
    for status in [201, 299, 401, 408, 418, 499, 500, 502, 503, 504, 599] {
        for (path, hit) in [("/plain", false), ("/any", true)] {
            let upstream = Upstream::start();
            upstream.on(path, Answer::status(status).header("cache-control", "max-age=60"));
            let larder = Larder::with(ROUTES, &upstream);
            larder.get(path).await.assert_status(status);
            assert_eq!(larder.get(path).await.assert_status(status).is_hit(), hit, "{path} {status}");
        }
    }
    for status in [206, 304, 428, 429, 431, 511] {
        let upstream = Upstream::start();
        upstream.on("/any", Answer::status(status).header("cache-control", "max-age=60"));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/any").await;
        assert!(!larder.get("/any").await.is_hit(), "{status}");
    }
}

#[tokio::test]
async fn a_request_is_obeyed_only_where_the_route_says_so() {
    for (directives, fwd) in [
        ("no-cache", Some("request")),
        ("max-age=0", Some("request")),
        ("max-age=5", Some("request")),
        ("max-age=10", None),
        ("min-fresh=51", Some("request")),
        ("min-fresh=50", None),
        ("only-if-cached", None),
        ("x", None),
    ] {
        let upstream = Upstream::start();
        for path in ["/plain", "/asks"] {
            upstream.on(path, Answer::ok("").header("cache-control", "max-age=60"));
        }
        let larder = Larder::with(ROUTES, &upstream);
        for path in ["/plain", "/asks"] {
            larder.get(path).await.assert_stored();
        }
        larder.after(10);
        larder.get("/plain").header("cache-control", directives).await.assert_hit();
        let asked = larder.get("/asks").header("cache-control", directives).await;
        assert_eq!(asked.cache_status("fwd").as_deref(), fwd, "{directives}");
    }
}

#[tokio::test]
async fn no_cache_validates_what_is_stored_and_serves_it_to_the_next() {
    let upstream = Upstream::start();
    upstream
        .once("/asks", Answer::ok("content").header("etag", "\"1\"").header("cache-control", "max-age=60"));
    upstream.on("/asks", Answer::status(304).header("etag", "\"1\""));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/asks").await;
    let asked = larder.get("/asks").header("pragma", "no-cache").await;
    asked.assert_fwd("request").assert_status(200).assert_text("content");
    assert_eq!(upstream.last("/asks").header("if-none-match").as_deref(), Some("\"1\""));
    larder.get("/asks").await.assert_hit();
}

#[tokio::test]
async fn what_is_not_stored_is_not_fetched_for_only_if_cached() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let only = |path: &'static str| larder.get(path).header("cache-control", "only-if-cached");
    only("/asks").await.assert_status(504);
    assert_eq!(upstream.count("/asks"), 0);
    only("/plain").await.assert_status(200);
}

#[tokio::test]
async fn request_no_store_and_max_stale_are_obeyed() {
    let upstream = Upstream::start();
    upstream.on("/asks", Answer::ok("").header("cache-control", "max-age=60"));
    let larder = Larder::with(ROUTES, &upstream);
    let ask = |directive: &'static str| larder.get("/asks").header("cache-control", directive);
    ask("no-store").await.assert_not_stored("request-no-store");
    larder.get("/asks").await.assert_fwd("uri-miss").assert_stored();
    larder.after(70);
    assert_eq!(ask("max-stale=10").await.assert_hit().assert_detail("max-stale").remaining_ttl(), -10);
    ask("max-stale=9").await.assert_fwd("stale");
    upstream.on("/asks", Answer::ok("").header("cache-control", "max-age=60, must-revalidate"));
    larder.request("PURGE", "/asks").await;
    larder.get("/asks").await;
    larder.after(70);
    ask("max-stale").await.assert_fwd("stale");
}

/// larder does not forward the condition of a request that may fill, so it judges the response itself.
#[tokio::test]
async fn a_condition_holds_for_a_response_that_is_not_stored() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: '/{x}', ttl: upstream}]", &upstream);
    for (path, name, value) in [
        ("/unbounded", "x-nothing", "1"),
        ("/private", "cache-control", "private, max-age=0"),
        ("/forbidden", "cache-control", "no-store"),
        ("/cookie", "set-cookie", "a=1"),
        ("/varies", "vary", "*"),
    ] {
        upstream.on(path, Answer::ok("content").header("etag", "\"1\"").header(name, value));
        for _ in 0..2 {
            let known = larder.get(path).header("if-none-match", "\"1\"").await.assert_status(304);
            known.assert_text("").assert_header("etag", "\"1\"");
            larder.get(path).header("if-none-match", "\"2\"").await.assert_status(200).assert_text("content");
        }
    }
}
