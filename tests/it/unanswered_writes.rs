//! Writes that larder itself answers: by then, what they may have changed is purged or in doubt.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::support::{Answer, Larder, Line, Redis, Relay, Replica, Upstream, eventually, with_deadline};

const YAML: &str = "
upstream: {url: \"${UPSTREAM}\", response_timeout: 30s, buffer_requests: 8}
limits: {body_timeout: 1s}
routes:
  - {path: /a, ttl: 1h, tags: [t]}
  - {path: /w, ttl: 1h, purges: [t], timeout: 300ms, response_timeout: 30s}
  - {path: /slow, purges: [t], response_timeout: 300ms}
  - {path: /upload, ttl: 1h, purges: [t]}
";

/// The client sends this, and then nothing more.
const WHOLE: &str = "content-length: 5\r\n\r\nwhole";
const SMALL_PART: &str = "content-length: 5\r\n\r\npa";
const LARGE_PART: &str = "content-length: 50\r\n\r\npart";

#[derive(Clone, Copy, Debug, PartialEq)]
enum After {
    /// Nothing was sent, so nothing is purged.
    Untouched,
    /// The write's own URL is purged.
    UrlPurged,
    /// The targets of the write are purged, and nothing that is fetched now is kept.
    InDoubt,
}

#[tokio::test]
async fn an_answer_by_larder_comes_after_the_purge() {
    for (what, path, sent, answer, status, after) in [
        ("the route's time-out", "/w", WHOLE, Some(Answer::silence()), 504, After::InDoubt),
        ("the same, of a small content", "/w", SMALL_PART, None, 504, After::Untouched),
        ("the same, of a large content", "/w", LARGE_PART, Some(Answer::silence()), 504, After::UrlPurged),
        ("the upstream's time-out", "/slow", WHOLE, Some(Answer::silence()), 504, After::InDoubt),
        ("a connection that ends", "/w", WHOLE, Some(Answer::hang_up()), 502, After::InDoubt),
        ("no HTTP", "/w", WHOLE, Some(Answer::raw("nonsense\r\n\r\n")), 502, After::InDoubt),
        ("a client that stalls", "/upload", SMALL_PART, None, 408, After::Untouched),
        (
            "the same, of a large content",
            "/upload",
            LARGE_PART,
            Some(Answer::silence()),
            408,
            After::UrlPurged,
        ),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(YAML, &upstream);
        let own = if path == "/slow" { "/a" } else { path };
        for path in ["/a", own] {
            larder.get(path).await;
            larder.get(path).await.assert_hit();
        }
        let (asked, is_sent) = (upstream.count(path), answer.is_some());
        if let Some(answer) = answer {
            upstream.once(path, answer);
        }
        let mut client = larder.raw().await;
        client.send(format!("POST {path} HTTP/1.1\r\nhost: {}\r\n{sent}", larder.address())).await;
        assert_eq!(client.status().await, status, "{path} {what}");
        let (own_is_hit, is_hit) = (larder.get(own).await.is_hit(), larder.get("/a").await.is_hit());
        let found = match (own_is_hit, is_hit) {
            (true, true) => After::Untouched,
            (false, true) => After::UrlPurged,
            (_, false) => After::InDoubt,
        };
        assert_eq!(found, after, "{path} {what}");
        assert_eq!(larder.get("/a").await.is_hit(), after != After::InDoubt, "{path} {what}");
        let asked = upstream.received(path).iter().skip(asked).filter(|it| it.method == "POST").count();
        assert_eq!(asked, usize::from(is_sent), "{path} {what}");
    }
}

/// The write goes on, and is purged again at its end.
#[tokio::test]
async fn a_write_that_timed_out_is_purged_at_its_end_too() {
    let upstream = Upstream::start();
    let larder = Larder::with(&YAML.replace("30s", "10s"), &upstream);
    let held = upstream.hold("/w");
    larder.request("POST", "/w").body("x").await.assert_status(504);
    larder.after(11);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    held.release();
    larder.metric_becomes("larder_purges_total{source=\"write\"}", 2.0).await;
    assert!(!larder.get("/a").await.is_hit());
}

/// A sender over its budget leaves no doubt.
#[tokio::test]
async fn a_sender_over_its_budget_leaves_no_doubt_by_a_time_out() {
    let upstream = Upstream::start();
    let yaml = YAML.replace("limits: {", "limits: {purge_targets_per_client: 1, ");
    let larder = Larder::with(&yaml, &upstream);
    larder.get("/a").await.assert_stored();
    upstream.once("/w", Answer::silence());
    larder.request("POST", "/w").body("x").await.assert_status(504);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
}

/// Its mark stands already.
#[tokio::test]
async fn a_guarded_write_that_timed_out_is_not_purged_twice() {
    let yaml = YAML.replace("purges: [t], timeout", "guard: true, purges: [t], timeout");
    let (_redis, upstream, [one, two]) = Replica::two("max_lag: 0s", &yaml).await;
    two.get("/a").await.assert_stored();
    two.has("/a").await;
    let held = upstream.hold("/w");
    one.request("POST", "/w").body("x").await.assert_status(504);
    assert!(!two.get("/a").await.is_hit());
    assert!(!two.get("/a").await.is_hit());
    held.release();
    one.metric_becomes("larder_purges_total{source=\"write\"}", 1.0).await;
}

/// Answered before its content was whole, it was sent without a mark.
#[tokio::test]
async fn a_guarded_write_that_was_answered_early_is_put_in_doubt() {
    let upstream = Upstream::start();
    let yaml = "
upstream: {url: \"${UPSTREAM}\", buffer_requests: 0}
routes:
  - {path: /a, ttl: 1h, tags: [t]}
  - {path: /w, guard: true, purges: [t, \"made:{response.json:/id}\"], timeout: 2s, idle_timeout: 30s}
";
    let whole = Arc::new(Semaphore::new(0));
    let of_upstream = whole.clone();
    upstream.take_over("/w", move |mut wire| {
        let whole = of_upstream.clone();
        async move {
            let begun = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
            _ = wire.write(begun).await;
            wire.read_body().await.expect("whole");
            whole.add_permits(1);
            pending().await
        }
    });
    let larder = Larder::with(yaml, &upstream);
    larder.get("/a").await.assert_stored();
    let answered = larder.metric("larder_upstream_seconds_count").await;
    let mut client = larder.raw().await;
    client.send("POST /w HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nx").await;
    larder.metric_becomes("larder_upstream_seconds_count", answered + 1.0).await;
    larder.get("/a").await.assert_hit();
    client.send("x").await;
    with_deadline("the whole content", whole.acquire()).await.expect("open").forget();
    assert_eq!(client.status().await, 504);
    larder.get("/a").await.assert_fwd("uri-miss");
    larder.get("/a").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn a_time_out_puts_in_doubt_what_the_content_names() {
    for (buffered, content, named) in [
        (64 * 1024, "{\"id\": 1}", true),
        (0, "{\"id\": 1}", true),
        (64 * 1024, "{\"id\": 2}", false),
        (64 * 1024, "no JSON", false),
    ] {
        let upstream = Upstream::start();
        let yaml = format!(
            "
upstream: {{url: \"${{UPSTREAM}}\", response_timeout: 30s, buffer_requests: {buffered}}}
routes:
  - {{path: /item, ttl: 1h, tags: [\"item:1\"]}}
  - {{path: /w, purges: [\"item:{{request.json:/id}}\"], timeout: 300ms, response_timeout: 30s}}
"
        );
        let larder = Larder::with(&yaml, &upstream);
        larder.get("/item").await.assert_stored();
        upstream.once("/w", Answer::silence());
        let write = larder.request("POST", "/w").header("content-type", "application/json").body(content);
        write.await.assert_status(504);
        for _ in 0..2 {
            assert_eq!(larder.get("/item").await.is_hit(), !named, "{buffered} {content}");
        }
        larder.after(31).get("/item").await;
        larder.get("/item").await.assert_hit();
    }
}

/// Nothing of it was sent, so there is nothing to doubt.
#[tokio::test]
async fn a_write_that_waits_for_a_connection_is_not_sent_after_504() {
    let upstream = Upstream::start();
    let yaml = "
upstream: {url: \"${UPSTREAM}\", max_connections: 1, queue_timeout: 20s}
routes:
  - {path: /a, ttl: 1h, tags: [t]}
  - {path: /w, purges: [t], guard: GUARD, timeout: 300ms, response_timeout: 30s, ttl: 1h}
";
    for guard in [false, true] {
        let larder = Larder::with(&yaml.replace("GUARD", &guard.to_string()), &upstream);
        larder.get("/a").await.assert_stored();
        larder.get("/w").await.assert_stored();
        let held = upstream.hold("/held");
        let busy = larder.get("/held").spawn();
        held.arrived().await;
        for content in ["", "x"] {
            larder.request("DELETE", "/w").body(content).await.assert_status(504);
            eventually("its mark is lifted", || async { larder.get("/a").await.is_hit().then_some(()) })
                .await;
            larder.get("/w").await.assert_hit();
        }
        held.release();
        busy.await.expect("no panic").assert_status(200);
        larder.get("/next").await.assert_status(200);
        assert!(upstream.received("/w").iter().all(|request| request.method == "GET"), "guard: {guard}");
        assert_eq!(larder.metric("larder_purges_total{source=\"write\"}").await, 0.0);
    }
}

/// The client has sent all that it was asked for: it is the upstream that is slow.
#[tokio::test]
async fn a_content_that_waits_for_a_connection_is_no_slow_client() {
    // It takes connections, and nothing more.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("https://{}", silent.local_addr().expect("bound"));
    for buffered in ["64KiB", "0"] {
        let yaml = format!(
            "
upstream: {{url: \"{url}\", connect_timeout: 20s, response_timeout: 300ms, buffer_requests: {buffered}}}
routes:
  - {{path: /w, purges: [t]}}
"
        );
        let larder = Larder::with(&yaml, &Upstream::start());
        for content in ["", "content"] {
            larder.request("POST", "/w").body(content).await.assert_status(504);
        }
        assert_eq!(larder.metric("larder_purges_total{source=\"write\"}").await, 0.0);
    }
}

/// A client to whom the response breaks off knows that it has ended.
#[tokio::test]
async fn a_cut_response_is_purged_before_the_client_sees_the_cut() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    let store = "max_lag: 1h, timeout: 5s";
    let yaml = YAML.replace("timeout: 300ms, ", "timeout: 3s, ");
    let larder = Replica::start_alone(&relay.url(), &upstream, store, &yaml);
    larder.is_connected().await;
    let purged = "larder_purges_total{source=\"write\"}";
    for is_timeout in [false, true] {
        let before = larder.metric(purged).await;
        let (answer, feed) = Answer::fed();
        upstream.once("/w", answer);
        let mut reply = larder.request("POST", "/w").body("x").start().await;
        feed.send("begun").await;
        reply.read_until("begun").await;
        relay.set(Line::Late(Duration::from_millis(300)));
        let kept = if is_timeout { Some(feed) } else { None };
        assert!(reply.whole().await.is_err());
        assert_eq!(larder.metric(purged).await - before, 2.0, "time-out: {is_timeout}");
        relay.set(Line::Whole);
        drop(kept);
    }
}
