//! Background refresh goes on whatever the last response said, backs off while it fails, and ends with the resource.

use crate::support::{Answer, Larder, Received, Replica, Reply, Upstream, eventually};

const ROUTES: &str = "
routes:
  - {path: \"/items/{id}\"}
  - {path: /sie, ttl: 10s, stale_if_error: 60s}
  - {path: /swr, ttl: 10s, stale_while_revalidate: 1h}
  - {path: /kept, ttl: 10s, stale_if_error: 60s, status: {404: 20s}}
  - {path: /page, ttl: 10s, stale_while_revalidate: 1h, shared: true}
";

fn with_windows(request: &Received) -> Answer {
    Answer::numbered(request)
        .header("cache-control", "max-age=0, stale-while-revalidate=60, stale-if-error=60")
}

async fn is_answered(larder: &Larder, path: &str, text: &str) {
    eventually(text, || async { (larder.get(path).await.text() == text).then_some(()) }).await;
}

#[tokio::test]
async fn a_response_that_is_stale_on_arrival_is_refreshed_at_each_use() {
    let upstream = Upstream::start();
    upstream.on("/items/1", with_windows);
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/items/1").await.assert_stored();
    for _ in 0..4 {
        let before = larder.get("/items/1").await.assert_hit().text().to_owned();
        // Each use asks for a refresh, these too: the version may be later than the next one.
        eventually("a later version", || async {
            (larder.get("/items/1").await.assert_hit().text() != before).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_stale_window_collapses_cold_requests() {
    let upstream = Upstream::start();
    upstream.on("/items/1", with_windows);
    let larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/items/1");
    let waiting: Vec<_> = (0..20).map(|_| larder.get("/items/1").spawn()).collect();
    held.arrived().await;
    larder.metric_becomes("larder_followers", 19.0).await;
    assert_eq!(upstream.count("/items/1"), 1);
    held.release();
    for reply in waiting {
        assert!(reply.await.unwrap().text().starts_with("GET /items/1 #"));
    }
}

#[tokio::test]
async fn a_refresh_with_a_cookie_does_not_freeze_the_page() {
    let upstream = Upstream::start();
    upstream
        .once("/items/1", Answer::ok("old").header("cache-control", "max-age=10, stale-while-revalidate=60"));
    upstream.once("/items/1", Answer::ok("cookie").header("set-cookie", "a=1"));
    upstream.on("/items/1", Answer::ok("new").header("cache-control", "max-age=10"));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/items/1").await.assert_stored();
    larder.after(15).get("/items/1").await.assert_hit().assert_text("old");
    is_answered(&larder, "/items/1", "new").await;
}

#[tokio::test]
async fn a_resource_that_is_gone_is_never_served_stale_again() {
    for status in [404, 410, 451, 401, 403, 200, 302] {
        let upstream = Upstream::start();
        upstream.once("/sie", Answer::ok("old").header("etag", "\"v\""));
        upstream.once("/sie", Answer::status(status).header("cache-control", "no-store"));
        upstream.on("/sie", Answer::status(500));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await.assert_stored();
        larder.after(15).get("/sie").await.assert_status(status);
        larder.get("/sie").await.assert_status(500);
    }
}

fn by_language(request: &Received) -> Answer {
    Answer::ok(request.header("accept-language").unwrap_or_default()).header("vary", "accept-language")
}

/// The API compresses, and does not say so in `Vary`.
fn by_coding(request: &Received) -> Answer {
    match request.header("accept-encoding") {
        Some(coding) => Answer::ok("coded").header("content-encoding", &coding),
        None => Answer::ok("plain"),
    }
}

#[tokio::test]
async fn a_resource_that_is_gone_takes_its_variants_along() {
    for (field, [told, other]) in
        [("accept-language", [Some("de"), Some("en")]), ("accept-encoding", [Some("gzip"), None])]
    {
        let variants = if field == "accept-language" { by_language } else { by_coding };
        for (path, method) in [("/sie", "GET"), ("/sie", "HEAD"), ("/kept", "GET")] {
            let upstream = Upstream::start();
            let larder = Larder::with(ROUTES, &upstream);
            let ask = |method: &str, value: Option<&str>| {
                let request = larder.request(method, path);
                value.into_iter().fold(request, |request, value| request.header(field, value))
            };
            upstream.on(path, variants);
            ask("GET", told).await.assert_stored();
            ask("GET", other).await.assert_stored();
            larder.after(15);
            upstream.once(path, Answer::status(404));
            ask(method, told).await.assert_status(404);
            upstream.on(path, Answer::status(500));
            ask("GET", other).await.assert_status(500);
            // A response that is stored later has windows again.
            upstream.on(path, variants);
            ask("GET", other).await.assert_stored();
            upstream.on(path, Answer::status(500));
            larder.after(25);
            ask("GET", other).await.assert_status(200).assert_detail("stale-if-error");
            assert!(ask("GET", told).await.status >= 400);
        }
    }
}

#[tokio::test]
async fn the_withdrawal_of_one_variant_holds_back_none_of_another() {
    let upstream = Upstream::start();
    upstream.on("/sie", by_language);
    let larder = Larder::with(ROUTES, &upstream);
    let ask = |language: &str| larder.get("/sie").header("accept-language", language);
    ask("de").await.assert_stored();
    ask("en").await.assert_stored();
    larder.after(15);
    upstream.once("/sie", Answer::ok("private").header("cache-control", "no-store"));
    ask("en").await.assert_not_stored("no-store");
    ask("en").await.assert_stored();
    upstream.once("/sie", Answer::status(404).header("cache-control", "no-store"));
    ask("de").await.assert_status(404);
    upstream.on("/sie", Answer::status(500));
    ask("de").await.assert_status(500);
}

#[tokio::test]
async fn one_client_withdraws_the_variants_of_others_once() {
    let upstream = Upstream::start();
    upstream.on("/sie", |request: &Received| match request.header("x-bad") {
        Some(_) => Answer::status(404).header("cache-control", "no-store"),
        None => by_language(request).header("cache-control", "max-age=1, stale-if-error=60"),
    });
    let larder = Larder::with("routes: [{path: /sie}]", &upstream);
    let ask = |language: &str| larder.get("/sie").header("accept-language", language);
    ask("de").await.assert_stored();
    ask("en").await.assert_stored();
    // The back-off is 5 s.
    for status in [500, 200, 200] {
        larder.after(1);
        ask("de").header("x-bad", "1").await.assert_status(404);
        upstream.once("/sie", Answer::status(500));
        ask("en").await.assert_status(status);
        // The failure is followed by one of 1 s.
        larder.after(1);
        ask("en").await.assert_stored();
        ask("de").await.assert_stored();
    }
}

#[tokio::test]
async fn a_head_that_finds_no_error_withdraws_nothing() {
    for status in [200, 204, 304, 500] {
        let upstream = Upstream::start();
        upstream.once("/sie", Answer::ok("old"));
        upstream.once("/sie", Answer::status(status).header("cache-control", "no-store"));
        upstream.on("/sie", Answer::status(500));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await.assert_stored();
        larder.after(15).request("HEAD", "/sie").await;
        larder.get("/sie").await.assert_text("old").assert_detail("stale-if-error");
    }
}

#[tokio::test]
async fn a_request_with_a_condition_withdraws_what_is_gone() {
    let conditions = [("if-match", "\"v\""), ("if-unmodified-since", "Fri, 01 Jan 2021 00:00:00 GMT")];
    for (status, (name, value), age) in
        [(404, conditions[0], 15), (410, conditions[1], 15), (404, conditions[1], 0)]
    {
        let upstream = Upstream::start();
        upstream.once("/sie", Answer::ok("old").header("etag", "\"v\""));
        upstream.once("/sie", Answer::status(status));
        upstream.on("/sie", Answer::status(500));
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await.assert_stored();
        larder.after(age).get("/sie").header(name, value).await.assert_status(status);
        larder.after(15).get("/sie").await.assert_status(500);
    }
}

#[tokio::test]
async fn another_replica_learns_that_a_resource_is_gone() {
    for languages in [["", ""], ["de", "en"]] {
        let old = move |request: &Received| {
            let answer = if languages[0].is_empty() { Answer::ok("old") } else { by_language(request) };
            answer.header("cache-control", "max-age=0, stale-while-revalidate=600, stale-if-error=600")
        };
        let (_redis, upstream, [one, other]) = Replica::two("max_lag: 1h", "routes: [{path: /sie}]").await;
        upstream.on("/sie", old);
        let ask = |replica: &Replica, language: &str| replica.get("/sie").header("accept-language", language);
        for language in languages {
            ask(&one, language).await.assert_status(200);
        }
        eventually("the other one has it", || async {
            Some(ask(&other, languages[1]).await).filter(Reply::is_hit)
        })
        .await;
        upstream.on("/sie", Answer::status(404).header("cache-control", "no-store"));
        eventually("one is told", || async { (ask(&one, languages[0]).await.status == 404).then_some(()) })
            .await;
        upstream.on("/sie", Answer::status(500));
        eventually("the other one has learnt it", || async {
            (ask(&other, languages[1]).await.status == 500).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_refresh_whose_content_is_stuck_is_followed_by_another() {
    let upstream = Upstream::start();
    // The stuck fetch does not end by itself.
    let yaml = format!(
        "upstream: {{url: {}, response_timeout: 10m}}
routes: [{{path: /swr, ttl: 10s, stale_while_revalidate: 1h, collapse_timeout: 100ms}}]",
        upstream.url()
    );
    let larder = Larder::with_environment(&yaml, &[]);
    upstream.once("/swr", Answer::ok("old"));
    larder.get("/swr").await.assert_stored();
    larder.after(15);
    let (stuck, feed) = Answer::fed();
    upstream.once("/swr", stuck);
    upstream.on("/swr", Answer::ok("new"));
    larder.get("/swr").await.assert_hit().assert_text("old");
    feed.send("abc").await;
    is_answered(&larder, "/swr", "new").await;
    assert_eq!(upstream.count("/swr"), 3);
}

#[tokio::test]
async fn a_caller_outside_the_key_withdraws_nothing() {
    let upstream = Upstream::start();
    upstream.once("/sie", Answer::ok("old").header("cache-control", "public, max-age=10"));
    upstream.once("/sie", Answer::status(404));
    upstream.on("/sie", Answer::status(500));
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/sie").await.assert_stored();
    larder.after(15).get("/sie").header("authorization", "Bearer ann").await.assert_status(404);
    larder.get("/sie").await.assert_text("old").assert_detail("stale-if-error");
}

/// The refreshes of `/swr` get `answer`, and none is repeated before its back-off is over.
async fn is_asked_less_and_less(answer: Answer, reason: &str) {
    let upstream = Upstream::start();
    upstream.once("/swr", Answer::ok("old"));
    upstream.on("/swr", answer);
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/swr").await.assert_stored();
    larder.after(15);
    let not_stored = format!("larder_not_stored_total{{route=\"/swr\",reason=\"{reason}\"}}");
    let mut asked = 1;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        larder.get("/swr").await.assert_hit().assert_text("old");
        asked += 1;
        upstream.has_received("/swr", asked).await;
        larder.metric_becomes(&not_stored, asked as f64 - 1.0).await;
        for _ in 0..5 {
            larder.get("/swr").await.assert_hit().assert_text("old");
        }
        assert_eq!(upstream.count("/swr"), asked, "{reason}");
        larder.after(seconds);
    }
    // It recovers: the next failure starts from one second again.
    upstream.on("/swr", Answer::ok("new").header("cache-control", "max-age=1"));
    is_answered(&larder, "/swr", "new").await;
}

#[tokio::test]
async fn a_failing_upstream_is_not_asked_at_each_hit() {
    is_asked_less_and_less(Answer::status(500), "status").await;
}

#[tokio::test]
async fn a_refresh_that_stores_nothing_is_not_repeated_at_each_hit() {
    for status in [400, 408, 429] {
        is_asked_less_and_less(Answer::status(status), "status").await;
    }
    is_asked_less_and_less(Answer::ok("a content that is cut").cut_after(3), "incomplete").await;
}

#[tokio::test]
async fn a_caller_outside_the_key_freezes_no_page() {
    let upstream = Upstream::start();
    upstream.on("/page", |request: &Received| match request.header("authorization") {
        Some(_) => Answer::ok("mine").header("cache-control", "private"),
        None => Answer::numbered(request),
    });
    let larder = Larder::with(ROUTES, &upstream);
    let signed_in = || larder.get("/page").header("authorization", "Bearer ann");
    let private = "larder_not_stored_total{route=\"/page\",reason=\"private\"}";
    let mut version = 1;
    larder.get("/page").await.assert_stored();
    for round in 1..=3 {
        larder.after(60);
        let old = format!("GET /page #{version}");
        let held = upstream.hold("/page");
        signed_in().await.assert_hit().assert_text(&old);
        held.arrived().await;
        // While that fetch is under way, and after it, others refresh the page.
        larder.get("/page").await.assert_hit().assert_text(&old);
        version += 2;
        is_answered(&larder, "/page", &format!("GET /page #{version}")).await;
        held.release();
        larder.metric_becomes(private, f64::from(round)).await;
    }
    larder.after(60);
    // Its own kind is held back, and not for longer than the back-off.
    let asked = upstream.count("/page");
    signed_in().await.assert_hit();
    upstream.has_received("/page", asked + 1).await;
    larder.metric_becomes(private, 4.0).await;
    for _ in 0..5 {
        signed_in().await.assert_hit();
    }
    assert_eq!(upstream.count("/page"), asked + 1);
}

#[tokio::test]
async fn a_refresh_that_gets_no_header_section_is_followed_by_another() {
    let upstream = Upstream::start();
    let yaml = format!(
        "upstream: {{url: {}, response_timeout: 10m}}
routes: [{{path: /swr, ttl: 10s, stale_while_revalidate: 1h, collapse_timeout: 100ms}}]",
        upstream.url()
    );
    let larder = Larder::with_environment(&yaml, &[]);
    upstream.once("/swr", Answer::ok("old"));
    larder.get("/swr").await.assert_stored();
    larder.after(15);
    let held = upstream.hold("/swr");
    larder.get("/swr").await.assert_hit().assert_text("old");
    held.arrived().await;
    upstream.on("/swr", Answer::ok("new"));
    is_answered(&larder, "/swr", "new").await;
    assert_eq!(upstream.count("/swr"), 3);
}

#[tokio::test]
async fn a_key_that_has_timed_out_is_served_stale_at_once() {
    let upstream = Upstream::start();
    let yaml = format!("upstream: {{url: {}, response_timeout: 300ms}}{ROUTES}", upstream.url());
    let larder = Larder::with_environment(&yaml, &[]);
    larder.get("/sie").await.assert_stored();
    larder.after(15);
    let _held = upstream.hold_every("/sie");
    larder.get("/sie").await.assert_detail("stale-if-error").assert_fwd("stale");
    for _ in 0..3 {
        larder.get("/sie").await.assert_hit().assert_detail("stale-if-error").assert_text("GET /sie #1");
    }
    assert_eq!(upstream.count("/sie"), 2);
}

#[tokio::test]
async fn a_key_that_has_failed_is_served_stale_at_once() {
    for (answer, is_error) in
        [(Answer::status(503), true), (Answer::hang_up(), true), (Answer::status(429), false)]
    {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/sie").await.assert_stored();
        larder.after(15);
        upstream.on("/sie", answer);
        let first = larder.get("/sie").await;
        let asked = upstream.count("/sie");
        if !is_error {
            // It says something of the request, which no stale response does.
            first.assert_status(429);
            larder.get("/sie").await.assert_status(429);
            continue;
        }
        first.assert_detail("stale-if-error").assert_fwd("stale");
        for _ in 0..3 {
            larder.get("/sie").await.assert_hit().assert_detail("stale-if-error").assert_text("GET /sie #1");
        }
        assert_eq!(upstream.count("/sie"), asked);
        larder.after(1);
        larder.get("/sie").await.assert_detail("stale-if-error").assert_fwd("stale");
        assert!(upstream.count("/sie") > asked);
    }
}

#[tokio::test]
async fn explain_tells_who_is_held_back_and_for_how_long() {
    let upstream = Upstream::start();
    upstream.on("/items/1", Answer::ok("mine").header("set-cookie", "a=1"));
    let larder = Larder::with(ROUTES, &upstream);
    let told = || async {
        let told = larder.admin.get("/explain?url=http://api.test/items/1").await.assert_status(200);
        told.json()["now"]["heldBack"].clone()
    };
    assert_eq!(told().await, serde_json::Value::Null);
    for seconds in [5.0, 10.0] {
        larder.get("/items/1").header("host", "api.test").await.assert_not_stored("set-cookie");
        let expected = serde_json::json!([
            {"what": "collapse, callers in the key", "reason": "set-cookie", "forSeconds": seconds}
        ]);
        assert_eq!(told().await, expected);
        larder.after(5);
    }
    larder.after(5);
    assert_eq!(told().await, serde_json::Value::Null);
}
