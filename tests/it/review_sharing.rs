//! What was made for one caller is given to no other, and requests that are one to the upstream are one here.

use crate::support::{Answer, Larder, Received, Upstream};

const YAML: &str = "
routes:
  - path: /a
    ttl: 10m
";

#[tokio::test]
async fn what_varies_by_the_address_that_larder_forwards_is_not_shared() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", Answer::ok("for 127.0.0.1").header("vary", "X-Forwarded-For"));
    larder.get("/a").await;
    larder.get("/a").await.assert_not_stored("vary-star");
}

#[tokio::test]
async fn cookies_that_came_in_several_lines_go_on_as_one() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    larder.get("/b").header("cookie", "a=1").header("cookie", "b=2").over_http2().await;
    let cookies: Vec<_> = upstream
        .last("/b")
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
        .cloned()
        .collect();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(cookies[0].1, "a=1; b=2");
}

#[tokio::test]
async fn observing_forwards_the_query_as_it_came() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - path: /a
    ttl: 10m
    mode: observe
    query: [page]
",
        &upstream,
    );
    for _ in 0..2 {
        larder.get("/a?sort=up&page=2").await.assert_status(200);
        assert_eq!(upstream.last("/a").query(), Some("sort=up&page=2"));
    }
}

#[tokio::test]
async fn an_empty_host_is_the_same_as_none() {
    let upstream = Upstream::start();
    let larder = Larder::with(YAML, &upstream);
    upstream.on("/a", |request: &Received| Answer::ok(format!("{:?}", request.header("host"))));
    let mut raw = larder.raw().await;
    raw.send("GET /a HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n").await;
    let empty = raw.rest().await;
    let mut raw = larder.raw().await;
    raw.send("GET /b HTTP/1.0\r\n\r\n").await;
    raw.rest().await;
    let host = |path| upstream.last(path).header("host");
    assert_eq!(host("/a"), host("/b"), "{empty}");
}
