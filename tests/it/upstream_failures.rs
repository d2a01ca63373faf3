//! Effects of upstream faults: waiting followers, floods before an answer, content where there is none, and
//! contradictions.

use crate::support::{Answer, Larder, Received, Reply, Upstream, Wire};

const ROUTES: &str = "
upstream: {url: \"${UPSTREAM}\", response_timeout: 300ms}
routes:
  - {path: /a, ttl: 60s}
  - {path: /said, ttl: upstream}
";

async fn crowd(larder: &Larder, target: &str, size: usize) -> Vec<Reply> {
    let waiting: Vec<_> = (0..size).map(|_| larder.get(target).spawn()).collect();
    let mut replies = Vec::new();
    for reply in waiting {
        replies.push(reply.await.expect("a reply"));
    }
    replies
}

#[tokio::test]
async fn followers_of_a_hanging_fetch_time_out_together() {
    let upstream = Upstream::start();
    upstream.once("/a", Answer::silence());
    let larder = Larder::with(ROUTES, &upstream);
    let first = larder.get("/a").spawn();
    upstream.has_received("/a", 1).await;
    for reply in crowd(&larder, "/a", 20).await {
        // Requests after the deadline begin the next fetch, which is answered.
        assert!(reply.status == 504 || reply.text() == "GET /a #2", "{reply}");
    }
    first.await.expect("a reply").assert_status(504);
    assert!(upstream.count("/a") <= 2);
    larder.get("/a").await.assert_text("GET /a #2");
}

#[tokio::test]
async fn a_flood_of_interim_answers_ends_at_the_deadline() {
    for path in ["/a", "/other"] {
        let upstream = Upstream::start();
        upstream.take_over(path, async |mut wire: Wire| {
            while wire.write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(10)).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        });
        let larder = Larder::with(ROUTES, &upstream);
        larder.get(path).await.assert_status(504);
        upstream.is_left_alone().await;
    }
}

#[tokio::test]
async fn content_in_answer_to_head_is_never_taken_for_the_next_answer() {
    let upstream = Upstream::start();
    upstream.take_over("/other", async |mut wire: Wire| {
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let _ = wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{evil}", evil.len())).await;
        while !wire.read().await.is_empty() {}
    });
    let larder = Larder::with(ROUTES, &upstream);
    larder.request("HEAD", "/other").await.assert_status(200).assert_text("");
    for n in 1..4 {
        larder.get("/next").await.assert_text(&format!("GET /next #{n}"));
    }
}

#[tokio::test]
async fn an_early_answered_upload_ends_its_connection() {
    let upstream = Upstream::start();
    upstream.take_over("/up", async |mut wire: Wire| {
        // It says nothing of closing: what is left of the upload is still to come on it.
        let _ = wire.write("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await;
        while !wire.read().await.is_empty() {}
    });
    let larder = Larder::with(ROUTES, &upstream);
    let mut raw = larder.raw().await;
    raw.send("POST /up HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\nsome").await;
    assert_eq!(raw.status().await, 413);
    for n in 1..5 {
        larder.get("/next").await.assert_text(&format!("GET /next #{n}"));
    }
    let used = upstream.last("/up").connection;
    assert!(upstream.received("/next").iter().all(|request| request.connection != used));
}

#[tokio::test]
async fn an_error_storm_leaves_nothing_and_collapses_to_one() {
    let upstream = Upstream::start();
    // The crowd may take longer to arrive than a short `collapse_timeout`.
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    for status in [500, 502, 503, 504] {
        upstream.on("/a", Answer::status(status));
        for _ in 0..5 {
            larder.get("/a").await.assert_status(status);
        }
    }
    upstream.on("/a", |request: &Received| Answer::ok(format!("healed {}", request.nth)));
    let before = upstream.count("/a");
    let held = upstream.hold("/a");
    let waiting: Vec<_> = (0..50).map(|_| larder.get("/a").spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_followers", 49.0).await;
    held.release();
    for reply in waiting {
        reply.await.expect("a reply").assert_text(&format!("healed {}", before + 1));
    }
    assert_eq!(upstream.count("/a"), before + 1);
}

#[tokio::test]
async fn contradicting_fields_are_read_towards_less_caching() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for fields in [
        &[("cache-control", "max-age=60, no-store")][..],
        &[("cache-control", "public, private")],
        &[("cache-control", "max-age=60"), ("cache-control", "max-age=0")],
        &[("cache-control", "max-age=-1")],
        &[("cache-control", "s-maxage=0, max-age=60")],
        &[("cache-control", "max-age=60"), ("age", "60")],
        &[("cache-control", "max-age=60"), ("date", "Thu, 01 Jan 1970 00:00:00 GMT")],
        &[("expires", "0")],
    ] {
        let answer = fields.iter().fold(Answer::ok("x"), |answer, (name, value)| answer.header(name, value));
        upstream.on("/said", answer);
        larder.get("/said").await.assert_status(200);
        let again = larder.get("/said").await;
        assert!(!again.is_hit(), "{fields:?}: {again}");
        larder.request("PURGE", "/said").await.assert_status(200);
    }
    // A number that is too large, negative or in the future has a meaning, or none at all.
    for fields in [
        &[("cache-control", "max-age=99999999999999999999")][..],
        &[("cache-control", "max-age=60"), ("age", "-5")],
        &[("cache-control", "max-age=60"), ("date", "Fri, 31 Dec 2999 00:00:00 GMT")],
    ] {
        let answer = fields.iter().fold(Answer::ok("x"), |answer, (name, value)| answer.header(name, value));
        upstream.on("/said", answer);
        larder.get("/said").await.assert_status(200);
        let again = larder.get("/said").await;
        if again.is_hit() {
            let age: u64 = again.header("age").and_then(|age| age.parse().ok()).expect("an age");
            assert!(age < 60 && again.remaining_ttl() <= 1 << 31, "{fields:?}: {again}");
        }
        larder.request("PURGE", "/said").await.assert_status(200);
    }
}

#[tokio::test]
async fn the_largest_header_section_of_a_response_is_configured() {
    let upstream = Upstream::start();
    // Over HTTP/1.1 up to twice the limit may pass, by how it arrives.
    for kib in [9, 100, 127, 300, 1000] {
        upstream.on(&format!("/{kib}"), Answer::ok("x").header("x-long", &"1".repeat(kib << 10)));
    }
    for (limit, passes, refused) in [
        ("", &[9, 100, 127][..], &[300, 1000][..]),
        (", header_bytes: 16KiB", &[9], &[100]),
        (", header_bytes: 400KiB", &[127, 300], &[1000]),
    ] {
        let larder = Larder::with(&format!("upstream: {{url: '${{UPSTREAM}}'{limit}}}"), &upstream);
        for (kib, status) in passes.iter().map(|kib| (kib, 200)).chain(refused.iter().map(|kib| (kib, 502))) {
            // The client of the tests takes no more than by default.
            let mut raw = larder.raw().await;
            raw.send(format!("GET /{kib} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
            assert_eq!(raw.status().await, status, "{limit}: {kib} KiB");
        }
    }
}

#[tokio::test]
async fn hundreds_of_response_fields_pass_and_more_are_larders_limit() {
    let upstream = Upstream::start();
    let with_fields =
        |count: usize| (0..count).fold(Answer::ok("x"), |answer, n| answer.header(&format!("x-{n}"), "1"));
    let yaml = "upstream: {url: '${UPSTREAM}', header_count: 320}\nroutes: [{path: '/{n}', ttl: 60s}]";
    let larder = Larder::with(yaml, &upstream);
    upstream.on("/300", with_fields(300));
    for _ in 0..2 {
        // The client of the tests takes 100 fields.
        let mut raw = larder.raw().await;
        raw.send("GET /300 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let reply = raw.rest().await;
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("\r\nx-299: 1\r\n"), "{reply}");
    }
    assert_eq!(upstream.count("/300"), 1);
    upstream.on("/400", with_fields(400));
    let refused = larder.get("/400").await.assert_status(502);
    assert!(refused.text().contains("upstream.header_count"), "{refused}");
    upstream.on("/long", Answer::ok("x").header("x-long", &"1".repeat(200 * 1024)));
    let refused = larder.get("/long").await.assert_status(502);
    assert!(refused.text().contains("`upstream.header_bytes`"), "{refused}");
    larder.metric_becomes(r#"larder_upstream_failures_total{reason="header-too-large"}"#, 2.0).await;
}

#[tokio::test]
async fn a_slow_clock_of_the_upstream_is_measured() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s}]", &upstream);
    // Two minutes before the clock of the tests.
    upstream.on("/a", Answer::ok("").header("date", "Thu, 20 Nov 2025 11:58:00 GMT"));
    larder.get("/a").await;
    larder.metric_becomes("larder_upstream_clock_lag_seconds", 120.0).await;
}

/// A response that breaks off is a failure of the upstream as one that never began is.
#[tokio::test]
async fn responses_that_break_off_are_counted() {
    let upstream = Upstream::start();
    let start = |response_timeout: &str| {
        let upstream_options =
            format!("upstream: {{url: \"${{UPSTREAM}}\", response_timeout: {response_timeout}}}");
        Larder::with(&format!("{upstream_options}\nroutes: [{{path: \"/a/{{case}}\", ttl: 60s}}]"), &upstream)
    };
    let (patient, impatient) = (start("60s"), start("1s"));
    let malformed = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\nno length\r\n";
    for (case, answer, reason) in [
        ("cut", Answer::ok("content").cut_after(3), "closed"),
        ("reset", Answer::ok("content").reset_after(3), "closed"),
        ("silent", Answer::ok("content").silent_after(3), "timeout"),
        ("malformed", Answer::raw(malformed), "invalid"),
    ] {
        let larder = if reason == "timeout" { &impatient } else { &patient };
        for route in ["/a", "/other"] {
            let path = format!("{route}/{case}");
            upstream.on(&path, answer.clone());
            let metric = format!("larder_upstream_failures_total{{reason=\"{reason}\"}}");
            let before = larder.metric(&metric).await;
            larder.get(&path).start().await.broken_off().await;
            larder.metric_becomes(&metric, before + 1.0).await;
        }
    }
}

/// A client that leaves, or reads too slowly, is not the upstream's failure.
#[tokio::test]
async fn a_response_that_its_client_leaves_is_no_failure() {
    let upstream = Upstream::start();
    let (answer, feed) = Answer::fed();
    upstream.once("/never", answer);
    let larder = Larder::with("routes: [{path: /never, ttl: never}]", &upstream);
    let mut reply = larder.get("/never").start().await;
    feed.send("some").await;
    reply.read_until("some").await;
    drop(reply);
    feed.abandoned().await;
    let metrics = larder.admin.get("/metrics").await;
    assert!(!metrics.text().contains("larder_upstream_failures_total{"), "{metrics}");
}
