//! Requests that no route caches are passed untouched, with the reason.

use crate::support::{Larder, Upstream, bearer};

const ROUTES: &str = "
routes:
  - {path: /cached, ttl: 60s}
  - {path: /off, ttl: 60s, mode: off}
  - {path: /never, ttl: never}
  - {path: /false, ttl: false}
  - {path: /purges, purges: [cached]}
  - {path: /mine, ttl: 60s, per: authorization}
";

#[tokio::test]
async fn each_request_goes_to_the_upstream_and_says_why() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let plain = |target: &str| larder.get(target);
    let table = [
        (plain("/off"), "bypass", "route-off"),
        (plain("/never"), "bypass", "route-never-caches"),
        (plain("/false"), "bypass", "route-never-caches"),
        (plain("/purges"), "bypass", "route-never-caches"),
        (plain("/mine"), "bypass", "no-credential"),
        (plain("/cached").body("content"), "bypass", "request-content"),
        (plain("/c%61ched"), "bypass", "path-spelling"),
        (plain("/x/../cached"), "bypass", "path-spelling"),
        (plain("//cached"), "bypass", "path-spelling"),
        (larder.request("OPTIONS", "/cached"), "method", "method"),
    ];
    for (request, fwd, detail) in table {
        for _ in 0..2 {
            let before = upstream.total();
            request.clone().await.assert_status(200).assert_fwd(fwd).assert_not_stored(detail);
            assert_eq!(upstream.total(), before + 1, "{detail}");
        }
    }
    larder.get("/mine").header("authorization", &bearer("{}")).await.assert_stored();
}

#[tokio::test]
async fn what_no_route_matches_is_passed_without_a_word() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for n in 1..=2 {
        let reply = larder.get("/other?x=1").await.assert_text(&format!("GET /other?x=1 #{n}"));
        reply.assert_header("cache-status", None);
    }
}

#[tokio::test]
async fn the_target_arrives_byte_for_byte() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for target in ["/a//b/../c?x=%7e&&y", "/%E2%82%AC;v=1", "/a/./b", "/a?", "/a?q=a+b%20c", "/"] {
        let mut raw = larder.raw().await;
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: api\r\n\r\n")).await;
        assert_eq!(raw.status().await, 200, "{target}");
        let path = target.split('?').next().unwrap();
        assert_eq!(upstream.last(path).target, target);
    }
}

#[tokio::test]
async fn a_spelling_that_passes_never_fills_the_normal_one() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for spelling in
        ["/%63ached", "/cached/", "/cached//", "/CACHED", "/cached;x", "/cached%2f", "/x/..%2fcached"]
    {
        larder.get(spelling).await;
    }
    larder.get("/cached").await.assert_fwd("uri-miss").assert_text("GET /cached #1");
}

/// To Rails and Grape whatever follows the last dot of a path is a format.
#[tokio::test]
async fn a_path_with_any_suffix_may_be_the_one_without() {
    let upstream = Upstream::start();
    let routes = "
routes:
  - {path: /users/me, ttl: never}
  - {path: '/users/{id}', ttl: 60s}
  - {path: /login, rate: {limit: 1/5m}}";
    let larder = Larder::with(routes, &upstream);
    larder.request("POST", "/login").await.assert_status(200);
    for suffix in [".json", ".stylesheet-min", ".toolongformat", ".css~", ".a_b", ".a@b", ".x%20"] {
        let path = format!("/users/me{suffix}");
        larder.get(&path).await.assert_detail("path-spelling");
        larder.request("POST", &format!("/login{suffix}")).await.assert_status(429);
        larder.get("/users/7").await;
        larder.get("/users/7").await.assert_hit();
        larder.request("PATCH", &format!("/users/7{suffix}")).await.assert_status(200);
        larder.get("/users/7").await.assert_fwd("uri-miss");
    }
}
