//! `X-Request-Id` and the trace: a request has the same name on both sides, and no other request gets it.

use crate::support::{Answer, Larder, Upstream};

const ROUTES: &str = "routes: [{path: /a, ttl: 60s}]";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn the_upstream_gets_the_clients_id_or_a_new_one() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for path in ["/a", "/b"] {
        larder.get(path).header("x-request-id", "mine-1").await.assert_header("x-request-id", None);
        assert_eq!(upstream.last(path).header("x-request-id").unwrap(), "mine-1");
    }
    for (id, path) in [("", "/c"), ("two words", "/d"), ("a,b", "/e")] {
        larder.get(path).header("x-request-id", id).await;
        let made = upstream.last(path).header("x-request-id").unwrap();
        assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
    larder.request("POST", "/w").body("x").await;
    larder.request("POST", "/w").body("x").await;
    let ids: Vec<_> = upstream.received("/w").iter().map(|write| write.header("x-request-id")).collect();
    assert!(ids[0].is_some() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn ids_and_traces_make_no_difference_to_the_key() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/a").header("x-request-id", "1").header("traceparent", PARENT).await.assert_stored();
    larder.get("/a").header("x-request-id", "2").await.assert_hit();
}

#[tokio::test]
async fn a_stored_response_carries_nobodys_id() {
    let upstream = Upstream::start();
    let echo = |request: &crate::support::Received| {
        let id = request.header("x-request-id").unwrap_or_default();
        Answer::ok("x").header("x-request-id", &id).header("traceresponse", "00-a").header("etag", "\"1\"")
    };
    upstream.on("/a", echo).on("/b", echo);
    let larder = Larder::with(ROUTES, &upstream);
    for id in ["one", "two"] {
        let reply = larder.get("/a").header("x-request-id", id).await;
        reply.assert_header("x-request-id", None).assert_header("traceresponse", None);
    }
    assert_eq!(upstream.count("/a"), 1);
    // Nor does one that was freshened.
    larder.after(61);
    larder.get("/a").header("x-request-id", "three").await.assert_header("x-request-id", None);
    // On a passed request the field is the upstream's own.
    larder.get("/b").header("x-request-id", "four").await.assert_header("x-request-id", "four");
}

#[tokio::test]
async fn by_option_each_client_gets_its_own_id_back() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("request_id: respond\n{ROUTES}"), &upstream);
    for (path, id) in [("/a", "1"), ("/a", "2"), ("/b", "3")] {
        larder.get(path).header("x-request-id", id).await.assert_header("x-request-id", id);
    }
    let reply = larder.get("/a").await.assert_hit();
    assert_eq!(reply.header("x-request-id").unwrap().len(), 32);
    let bad = larder.get("/a").header("host", "a<b").header("x-request-id", "4").await;
    bad.assert_status(400).assert_header("x-request-id", "4");
}

#[tokio::test]
async fn off_leaves_the_field_alone() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("request_id: off\n{ROUTES}"), &upstream);
    larder.get("/b").await;
    assert_eq!(upstream.last("/b").header("x-request-id"), None);
    larder.get("/c").header("x-request-id", "two words").await;
    assert_eq!(upstream.last("/c").header("x-request-id").unwrap(), "two words");
}

#[tokio::test]
async fn a_trace_goes_on_through_larder() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for path in ["/a", "/b"] {
        larder.get(path).header("traceparent", PARENT).header("tracestate", "v=1").await;
        let at_upstream = upstream.last(path);
        let parent = at_upstream.header("traceparent").unwrap();
        assert!(parent.starts_with(&PARENT[..36]) && parent.ends_with("-01"), "{parent}");
        assert_ne!(parent, PARENT);
        assert_eq!(at_upstream.header("tracestate").unwrap(), "v=1");
    }
    larder.get("/c").header("traceparent", "nonsense").header("tracestate", "v=1").await;
    assert_eq!(upstream.last("/c").header("traceparent"), None);
    assert_eq!(upstream.last("/c").header("tracestate"), None);
    larder.get("/d").await;
    assert_eq!(upstream.last("/d").header("traceparent"), None);
}

#[tokio::test]
async fn the_log_says_whose_request_failed() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    upstream.on("/fails", Answer::hang_up());
    larder.get("/fails").header("x-request-id", "of-the-failed").await.assert_status(502);
    let log = larder.log();
    let line = log.lines().find(|line| line.contains("of-the-failed")).expect("a line");
    assert!(line.contains("upstream request failed") && line.contains("method=GET"), "{line}");
    assert!(line.contains("path=\"/fails\""), "{line}");
    larder.request("DELETE", "/a").header("x-request-id", "of-the-write").await;
    let log = larder.log();
    let line = log.lines().find(|line| line.contains("of-the-write") && line.contains("purged"));
    assert!(line.is_some_and(|line| line.contains("path=\"/a\"")), "{log}");
}
