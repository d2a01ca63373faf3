//! Stale responses: served where the route or the response allows it, never after a purge.

use crate::support::{Answer, Larder, Upstream, eventually};

const ROUTES: &str = "
routes:
  - path: /swr
    ttl: 10s
    stale_while_revalidate: 30s
  - path: /sie
    ttl: 10s
    stale_if_error: 60s
    tags: [sie]
  - path: /strict
    ttl: 10s
";

#[tokio::test]
async fn a_stale_window_serves_and_validates_in_the_background() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/swr").await.assert_stored();
    larder.after(15);
    let stale = larder.get("/swr").await.assert_hit().assert_text("GET /swr #1");
    assert_eq!(stale.remaining_ttl(), -5);
    eventually("the new response is stored", || async {
        let reply = larder.get("/swr").await.assert_hit();
        (reply.text() == "GET /swr #2").then_some(())
    })
    .await;
    assert_eq!(upstream.count("/swr"), 2);
}

#[tokio::test]
async fn one_validation_behind_serves_the_whole_crowd() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/swr").await;
    larder.after(15);
    let held = upstream.hold_every("/swr");
    for _ in 0..20 {
        larder.get("/swr").await.assert_hit().assert_text("GET /swr #1");
    }
    held.arrived().await;
    assert_eq!(upstream.count("/swr"), 2);
}

#[tokio::test]
async fn after_the_window_the_client_waits_for_a_new_one() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/swr").await;
    larder.after(41);
    assert!(!larder.get("/swr").await.assert_text("GET /swr #2").is_hit());
}

#[tokio::test]
async fn a_failing_upstream_is_stood_in_for() {
    for failure in
        [Answer::status(500), Answer::status(503), Answer::hang_up(), Answer::raw("garbage\r\n\r\n")]
    {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await;
        upstream.on("/sie", failure);
        larder.after(15);
        let stale = larder.get("/sie").await.assert_status(200).assert_text("GET /sie #1");
        stale.assert_detail("stale-if-error").assert_fwd("stale");
        larder.after(56);
        assert!(larder.get("/sie").await.status >= 500);
    }
}

#[tokio::test]
async fn where_nothing_allows_it_a_failure_is_a_failure() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/strict").await;
    upstream.on("/strict", Answer::status(500));
    larder.after(11);
    larder.get("/strict").await.assert_status(500);
}

#[tokio::test]
async fn must_revalidate_forbids_what_the_route_allows() {
    for word in ["must-revalidate", "proxy-revalidate", "s-maxage=10"] {
        let upstream = Upstream::start();
        upstream.once("/sie", Answer::ok("").header("cache-control", &format!("max-age=10, {word}")));
        upstream.on("/sie", Answer::status(500));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await.assert_stored();
        larder.after(11);
        larder.get("/sie").await.assert_status(500);
    }
}

#[tokio::test]
async fn s_maxage_is_served_stale_where_the_operator_says_so() {
    let upstream = Upstream::start();
    let routes = "
routes:
  - path: /closed
  - {path: /window, stale_while_revalidate: 30s}
  - {path: /override, override: [s-maxage-revalidation]}
";
    let larder = Larder::with(routes, &upstream);
    for (path, is_stale) in [("/closed", false), ("/window", true), ("/override", true)] {
        let response = Answer::ok("").header("cache-control", "s-maxage=1, stale-while-revalidate=30");
        upstream.on(path, response);
        larder.get(path).await.assert_stored();
        larder.after(2);
        let second = larder.get(path).await;
        assert_eq!(second.is_hit(), is_stale, "{path}");
        if is_stale {
            second.assert_detail("stale-while-revalidate");
            eventually("it is refreshed", || async { (upstream.count(path) == 2).then_some(()) }).await;
        }
    }
}

#[tokio::test]
async fn what_was_purged_hard_never_stands_in() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/sie").await;
    upstream.on("/sie", Answer::status(500));
    larder.after(15);
    larder.get("/sie").await.assert_status(200);
    larder.request("PURGE", "/sie").await.assert_status(200);
    larder.get("/sie").await.assert_status(500);
}

#[tokio::test]
async fn a_response_purged_during_a_failure_is_not_served_stale() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/sie").await;
    upstream.on("/sie", Answer::status(500));
    larder.after(15);
    let held = upstream.hold("/sie");
    let waiting = larder.get("/sie").spawn();
    held.arrived().await;
    larder.request("PURGE", "/any").header("cache-tag", "sie").await.assert_status(200);
    held.release();
    waiting.await.unwrap().assert_status(500);
}

#[tokio::test]
async fn what_was_purged_softly_counts_as_stale() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/sie").await;
    larder.request("PURGE", "/sie").header("purge-mode", "soft").await.assert_status(200);
    larder.get("/sie").await.assert_fwd("stale").assert_text("GET /sie #2");
    larder.get("/sie").await.assert_hit().assert_text("GET /sie #2");
    larder.request("PURGE", "/sie").header("purge-mode", "soft").await.assert_status(200);
    upstream.on("/sie", Answer::status(500));
    larder.get("/sie").await.assert_status(200).assert_text("GET /sie #2").assert_detail("stale-if-error");
}

#[tokio::test]
async fn the_windows_begin_with_a_soft_purge() {
    let upstream = Upstream::start();
    let routes = "routes: [{path: /a, ttl: 1h, stale_while_revalidate: 30s, stale_if_error: 2m}]";
    let larder = Larder::with(routes, &upstream);
    for (seconds, nth, is_served_stale) in [(29, 1, true), (30, 2, false)] {
        larder.get("/a").await.assert_text(&format!("GET /a #{nth}"));
        larder.request("PURGE", "/a").header("purge-mode", "soft").await.assert_status(200);
        larder.after(seconds);
        let first = larder.get("/a").await;
        assert_eq!(first.is_hit(), is_served_stale, "{seconds}");
        upstream.has_received("/a", nth + 1).await;
        eventually("it is renewed", || async {
            (larder.get("/a").await.text() == format!("GET /a #{}", nth + 1)).then_some(())
        })
        .await;
    }
    larder.request("PURGE", "/a").header("purge-mode", "soft").await.assert_status(200);
    upstream.on("/a", Answer::status(500));
    for (seconds, status) in [(119, 200), (1, 500)] {
        larder.after(seconds);
        larder.get("/a").await.assert_status(status);
    }
}

/// The window of a route is for responses that were fresh once: `max-age=0` asks for validation at once.
#[tokio::test]
async fn a_lifetime_of_zero_opens_no_window_of_the_route() {
    let upstream = Upstream::start();
    let routes = "
routes:
  - {path: /route, ttl: 30s, stale_while_revalidate: 5s}
  - {path: /own, ttl: 30s, stale_while_revalidate: 5s}
  - {path: /override, ttl: 30s, stale_while_revalidate: 5s, override: [lifetime]}
";
    let larder = Larder::with(routes, &upstream);
    for (path, field, is_hit) in [
        ("/route", ("cache-control", "max-age=0"), false),
        ("/route?expires", ("expires", "0"), false),
        ("/own", ("cache-control", "max-age=0, stale-while-revalidate=5"), true),
        ("/override", ("cache-control", "max-age=0"), true),
    ] {
        let plain = path.split('?').next().unwrap();
        upstream.on(plain, Answer::ok("").header(field.0, field.1));
        larder.get(path).await.assert_status(200);
        assert_eq!(larder.get(path).await.is_hit(), is_hit, "{path}");
    }
}
