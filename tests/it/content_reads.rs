//! Reads by QUERY (RFC 10008) and POST: the content is part of the key.

use crate::support::{Answer, Larder, Received, Request, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: /search, ttl: 60s, tags: [search], methods: [GET, QUERY, POST], ignore: [$.requestId, 'utm_*']}
  - {path: /plain, ttl: 60s}
";

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Answers with what came.
fn echo(request: &Received) -> Answer {
    Answer::ok(format!("{} {} #{}", request.method, String::from_utf8_lossy(&request.body), request.nth))
}

fn ask(larder: &Larder, method: &str, media_type: &str, content: &str) -> Request {
    larder.request(method, "/search").header("content-type", media_type).body(content.to_owned())
}

#[tokio::test]
async fn one_search_by_post_is_one_request_to_the_upstream() {
    let upstream = Upstream::start();
    upstream.on("/search", echo);
    let larder = Larder::with(ROUTES, &upstream);
    let first = r#"{"q": "knots", "page": 1, "requestId": "a"}"#;
    let reply = ask(&larder, "POST", JSON, first).await.assert_stored();
    reply.assert_text(&format!("POST {first} #1"));
    for same in [r#"{"page":1,"q":"knots","requestId":"b"}"#, r#"{"q":"\u006bnots","page":1}"#] {
        ask(&larder, "POST", JSON, same).await.assert_hit().assert_text(&format!("POST {first} #1"));
    }
    for (method, media_type, content) in [
        ("POST", JSON, r#"{"q":"knots","page":2}"#),
        ("POST", JSON, r#"{"q":"knots","page":1.0}"#),
        ("QUERY", JSON, first),
        ("POST", "text/plain", first),
        ("POST", FORM, "q=knots&page=1"),
        ("POST", JSON, ""),
    ] {
        let text = format!("{method} {content} #");
        let reply = ask(&larder, method, media_type, content).await.assert_fwd("uri-miss").assert_stored();
        assert!(reply.text().starts_with(&text), "{reply}");
        ask(&larder, method, media_type, content).await.assert_hit();
    }
    ask(&larder, "POST", FORM, "page=1&q=knots&utm_source=x").await.assert_hit();
    larder.get("/search").await.assert_stored();
    assert_eq!(upstream.count("/search"), 8);
}

/// The content is part of the key, so it is read whoever is to say that it is wanted.
#[tokio::test]
async fn a_content_that_is_announced_by_expect_is_read() {
    let upstream = Upstream::start();
    upstream.on("/search", echo);
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", expect: forward}}\n{ROUTES}");
    let larder = Larder::with(&yaml, &upstream);
    for (content, nth) in [("a", 1), ("b", 2), ("a", 1)] {
        let reply = ask(&larder, "POST", "text/plain", content).header("expect", "100-continue").await;
        reply.assert_status(200).assert_text(&format!("POST {content} #{nth}"));
    }
}

#[tokio::test]
async fn a_crowd_that_searches_alike_waits_for_one_fetch() {
    let upstream = Upstream::start();
    upstream.on("/search", echo);
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold_every("/search");
    let crowd: Vec<_> = (0..20).map(|_| ask(&larder, "QUERY", JSON, r#"{"q":1}"#).spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_followers", 19.0).await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_text(r#"QUERY {"q":1} #1"#);
    }
}

#[tokio::test]
async fn a_purge_reaches_reads_by_content() {
    let upstream = Upstream::start();
    upstream.on("/search", echo);
    let larder = Larder::with(ROUTES, &upstream);
    for purge in ["/cache/tags/search", "/cache"] {
        ask(&larder, "POST", JSON, "{}").await.assert_stored();
        larder.admin.request("DELETE", purge).await.assert_status(200);
    }
    ask(&larder, "POST", JSON, "{}").await.assert_stored();
    // A write to the same URL, too; a read is none.
    larder.request("PUT", "/search").body("x").await.assert_status(200);
    ask(&larder, "POST", JSON, "{}").await.assert_stored();
    ask(&larder, "POST", JSON, r#"{"q":2}"#).await.assert_stored();
    ask(&larder, "POST", JSON, "{}").await.assert_hit();
}

#[tokio::test]
async fn content_beyond_the_limit_is_forwarded_whole() {
    let upstream = Upstream::start();
    let length = |request: &Received| Answer::ok(request.body.len().to_string());
    upstream.on("/search", length);
    let larder = Larder::with(ROUTES, &upstream);
    let large = "x".repeat(64 * 1024 + 1);
    for _ in 0..2 {
        let reply = ask(&larder, "POST", "text/plain", &large).await.assert_text("65537");
        reply.assert_fwd("bypass").assert_detail("request-content");
    }
    let most = &large[1..];
    ask(&larder, "POST", "text/plain", most).await.assert_text("65536").assert_stored();
    ask(&larder, "POST", "text/plain", most).await.assert_hit();
}

#[tokio::test]
async fn what_no_route_reads_by_post_is_a_write() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/plain").await.assert_stored();
    larder.request("POST", "/plain").header("content-type", JSON).body("{}").await.assert_fwd("method");
    larder.get("/plain").await.assert_detail_begins("purged:");
}

#[tokio::test]
async fn a_query_is_conditional_and_a_post_is_not() {
    let upstream = Upstream::start();
    upstream.on("/search", |request: &Received| match request.header("if-none-match").as_deref() {
        Some("\"v\"") => Answer::status(304).header("etag", "\"v\""),
        _ => Answer::ok(format!("{} #{}", request.method, request.nth)).header("etag", "\"v\""),
    });
    let larder = Larder::with(ROUTES, &upstream);
    for method in ["QUERY", "POST"] {
        ask(&larder, method, JSON, "{}").await.assert_stored();
    }
    let conditional = |method| ask(&larder, method, JSON, "{}").header("if-none-match", "\"v\"");
    conditional("QUERY").await.assert_hit().assert_status(304);
    // RFC 9110 §13.1.2: what a POST under a condition means is for the upstream to say.
    conditional("POST").await.assert_detail("precondition");
    // No part of it is asked for by a range, which is of GET (RFC 9110 §14.2).
    ask(&larder, "QUERY", JSON, "{}").header("range", "bytes=0-0").await.assert_hit().assert_status(200);
    larder.after(61);
    ask(&larder, "QUERY", JSON, "{}").await.assert_fwd("stale").assert_text("QUERY #1");
    ask(&larder, "POST", JSON, "{}").await.assert_fwd("stale").assert_text("POST #5");
}

#[tokio::test]
async fn a_stale_search_is_refreshed_with_its_content() {
    let upstream = Upstream::start();
    upstream.on("/search", echo);
    let routes = "routes: [{path: /search, ttl: 10s, stale_while_revalidate: 60s, methods: [GET, POST]}]";
    let larder = Larder::with(routes, &upstream);
    ask(&larder, "POST", JSON, r#"{"q":1}"#).await.assert_stored();
    larder.after(15);
    ask(&larder, "POST", JSON, r#"{"q":1}"#).await.assert_hit().assert_text(r#"POST {"q":1} #1"#);
    eventually("it is refreshed", || async {
        let reply = ask(&larder, "POST", JSON, r#"{"q":1}"#).await.assert_hit();
        (reply.text() == r#"POST {"q":1} #2"#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_in_its_content_fetches_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /search HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{").await;
    raw.half_close().await;
    raw.rest().await;
    assert_eq!(upstream.total(), 0);
}

/// An upstream that ignores a content takes it for the next request on the connection, and answers that one's reader with
/// it.
#[tokio::test]
async fn a_stored_read_goes_over_no_connection_with_others_content() {
    let upstream = Upstream::start();
    for path in ["/post", "/again", "/search", "/last"] {
        upstream.on(path, Answer::ok(""));
    }
    let larder = Larder::with(ROUTES, &upstream);
    // One client connection has one worker, and so one pool.
    let mut raw = larder.raw().await;
    for (path, content) in [("/post", "any"), ("/again", "any"), ("/search", "{}"), ("/last", "any")] {
        let length = content.len();
        raw.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{content}"))
            .await;
        assert_eq!(raw.status().await, 200, "{path}");
    }
    let connection = |path| upstream.last(path).connection;
    assert_eq!(connection("/post"), connection("/again"));
    assert_ne!(connection("/again"), connection("/search"));
    // Its own connection may carry what is not stored.
    assert_eq!(connection("/search"), connection("/last"));
}

/// A write that looks like a search is not lost.
#[tokio::test]
async fn a_post_that_may_write_always_reaches_the_api() {
    let upstream = Upstream::start();
    upstream.on("/graphql", echo);
    let routes = "
routes:
  - {path: /graphql, ttl: 10m, methods: [GET, POST]}
  - {path: /courses, ttl: 10m, methods: [GET, POST], tags: [courses]}";
    let larder = Larder::with(routes, &upstream);
    let post = |media_type: &str, content: &str| {
        larder.request("POST", "/graphql").header("content-type", media_type).body(content.to_owned())
    };
    let query = r#"{"query": "{ course(id: 7) { title } }"}"#;
    let rename = |title: &str| {
        let document = "mutation($t: String!) { rename(id: 7, title: $t) { id } }";
        format!(r#"{{"query": "{document}", "variables": {{"t": "{title}"}}}}"#)
    };
    for title in ["A", "B", "A"] {
        post(JSON, query).await.assert_stored();
        post(JSON, query).await.assert_hit();
        let reply = post(JSON, &rename(title)).await.assert_fwd("method");
        assert!(reply.text().starts_with(&format!("POST {}", rename(title))), "{reply}");
    }
    let large = format!(r#"{{"query": "mutation {{ a }}", "x": "{}"}}"#, "x".repeat(64 * 1024));
    for (media_type, content) in [
        (JSON, large.as_str()),
        (JSON, r#"{"extensions": {"persistedQuery": {"sha256Hash": "7f"}}, "variables": {}}"#),
        (JSON, r#"{"jsonrpc": "2.0", "method": "rename", "params": ["A"], "id": 1}"#),
        ("application/graphql", "mutation { rename(id: 7) }"),
        (FORM, "_method=DELETE"),
        (FORM, "x=1;_method=DELETE"),
        ("application/x-www-form-urlencoded,x", "_method=DELETE"),
        ("application/x-www-form-urlencoded x", "_method=DELETE"),
    ] {
        post(JSON, query).await.assert_stored();
        for _ in 0..2 {
            post(media_type, content).await.assert_fwd("method").assert_status(200);
        }
    }
    for _ in 0..2 {
        larder.request("POST", "/graphql").body("_method=DELETE").await.assert_fwd("method");
    }
    // Without purges of its own, such a write purges as any other does.
    let reads = |path: &str| larder.request("POST", path).header("content-type", JSON).body("{}");
    reads("/courses").await.assert_stored();
    larder.request("POST", "/courses?_method=PATCH").body("x").await.assert_fwd("method");
    reads("/courses").await.assert_detail_begins("purged:");
}

#[tokio::test]
async fn what_the_upstream_says_of_queries_passes() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let accepted = "\"application/jsonpath\", application/sql;charset=\"UTF-8\"";
    upstream.on("/search", Answer::ok("x").header("accept-query", accepted));
    for is_hit in [false, true] {
        let reply = ask(&larder, "QUERY", JSON, "{}").await.assert_header("accept-query", accepted);
        assert_eq!(reply.is_hit(), is_hit);
    }
    for status in [301, 302, 303, 307, 308] {
        let redirect =
            Answer::status(status).header("location", "/found").header("cache-control", "no-store");
        upstream.on("/search", redirect);
        let content = format!("{{\"status\": {status}}}");
        for _ in 0..2 {
            let reply = ask(&larder, "QUERY", JSON, &content).await.assert_status(status);
            reply.assert_header("location", "/found");
        }
    }
    assert_eq!(upstream.count("/found"), 0, "larder follows none");
    assert_eq!(upstream.count("/search"), 11);
}
