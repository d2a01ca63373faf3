//! Cache groups (RFC 9875): tags that the upstream names itself, invalidated by what it answers to writes.

use crate::support::{Answer, Larder, Received, Upstream};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
  - {path: /b, ttl: 60s}
  - {path: /tagged, ttl: 60s, tags: [scripts]}
  - {path: /hidden, ttl: 60s, hide_tags: true}
  - {path: /nothing, purges: []}
  - {path: /named, purges: [scripts]}
";

fn grouped(groups: &'static str) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| Answer::numbered(request).header("cache-groups", groups)
}

/// An upstream whose `/a` is in two groups and whose `/b` is in another, and what `/write` answers to a write.
fn story(status: u16, invalidation: &'static str) -> (Upstream, Larder) {
    let upstream = Upstream::start();
    upstream.on("/a", grouped("\"scripts\", \"pages\";x=1"));
    upstream.on("/b", grouped("\"styles\""));
    for path in ["/write", "/nothing"] {
        upstream.on(path, Answer::status(status).header("cache-group-invalidation", invalidation));
    }
    let larder = Larder::with(ROUTES, &upstream);
    (upstream, larder)
}

#[tokio::test]
async fn the_response_to_a_write_invalidates_the_groups_it_names() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"] {
        let (_upstream, larder) = story(200, "\"scripts\"");
        larder.get("/a").await.assert_stored();
        larder.get("/b").await.assert_stored();
        larder.request(method, "/write").await.assert_status(200);
        larder.get("/a").await.assert_fwd("uri-miss").assert_text("GET /a #2");
        larder.get("/b").await.assert_hit();
    }
}

#[tokio::test]
async fn a_safe_request_invalidates_nothing() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        let (_upstream, larder) = story(200, "\"scripts\"");
        larder.get("/a").await;
        larder.request(method, "/write").await.assert_status(200);
        larder.get("/a").await.assert_hit();
    }
}

#[tokio::test]
async fn named_groups_are_invalidated_by_any_status() {
    for (status, path) in [(200, "/nothing"), (409, "/write"), (500, "/write")] {
        let (_upstream, larder) = story(status, "\"scripts\", \"more\"");
        larder.get("/a").await;
        larder.get("/b").await;
        larder.request("POST", path).await.assert_status(status);
        larder.get("/a").await.assert_text("GET /a #2");
        larder.get("/b").await.assert_hit();
    }
}

#[tokio::test]
async fn a_field_that_is_no_list_says_nothing() {
    for field in ["\"scripts", "\"scripts\", &", "(\"scripts\")", "1"] {
        let (_upstream, larder) = story(200, field);
        larder.get("/a").await;
        larder.request("POST", "/write").await;
        larder.get("/a").await.assert_hit();
    }
}

#[tokio::test]
async fn one_origin_invalidates_nothing_of_another() {
    let (_upstream, larder) = story(200, "\"scripts\"");
    let get = |host: &'static str| larder.get("/a").header("host", host);
    get("one.example").await;
    get("two.example").await;
    larder.request("POST", "/write").header("host", "ONE.example").await;
    get("one.example").await.assert_fwd("uri-miss");
    get("two.example").await.assert_hit();
}

#[tokio::test]
async fn a_group_is_a_tag_for_all_else_that_purges() {
    let (_upstream, larder) = story(200, "\"other\"");
    larder.get("/a").await;
    larder.request("POST", "/named").await;
    larder.get("/a").await.assert_text("GET /a #2");
    larder.request("PURGE", "/").header("cache-tag", "scripts").await.assert_status(200);
    larder.get("/a").await.assert_text("GET /a #3");
    larder.get("/a").await.assert_hit();
}

#[tokio::test]
async fn a_304_adds_groups_and_takes_none_away() {
    for (path, group) in [("/one", "\"one\""), ("/two", "\"two\"")] {
        let upstream = Upstream::start();
        let content = || Answer::ok("content").header("etag", "\"1\"");
        upstream.once("/a", content().header("cache-groups", "\"one\""));
        upstream.once("/a", Answer::status(304).header("etag", "\"1\"").header("cache-groups", "\"two\""));
        upstream.on(path, Answer::ok("").header("cache-group-invalidation", group));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/a").await;
        larder.after(60);
        larder.get("/a").await.assert_fwd("stale").assert_text("content");
        larder.get("/a").await.assert_hit();
        larder.request("POST", path).await.assert_status(200);
        larder.get("/a").await.assert_fwd("uri-miss");
    }
}

#[tokio::test]
async fn fields_for_caches_stay_behind_where_the_route_says_so() {
    let upstream = Upstream::start();
    let fields =
        ["surrogate-key", "cache-tag", "xkey", "edge-cache-tag", "cache-groups", "larder-cache-control"];
    let answer = fields.iter().fold(Answer::ok(""), |answer, name| answer.header(name, "max-age=60"));
    let answer = answer.header("cache-group-invalidation", "\"x\"").header("cdn-cache-control", "max-age=60");
    upstream.on("/hidden", answer.clone()).on("/a", answer);
    let larder = Larder::with(ROUTES, &upstream);
    for _ in 0..2 {
        let (hidden, shown) = (larder.get("/hidden").await, larder.get("/a").await);
        for name in fields {
            assert_eq!((hidden.header(name), shown.header(name).is_some()), (None, true), "{name}");
        }
        // For the caches after larder.
        hidden.assert_header("cdn-cache-control", "max-age=60");
    }
    larder.request("POST", "/hidden").await.assert_header("cache-group-invalidation", None);
    larder.get("/hidden").header("range", "bytes=0-").await.assert_header("cache-tag", None);
}
