//! No client's writes purge, doubt or name more than their own routes allow.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::support::{Answer, Larder, Redis, Replica, Upstream, eventually};

const SCHOOL: &str = "
routes:
  - path: /courses
    ttl: 1h
    tags: [courses]
  - path: /courses/{id}
    ttl: 1h
    tags: [courses, \"course:{id}\"]
  - path: /courses/{id}/enroll
    purges: [courses, \"course:{id}\", \"progress:{jwt.sub}\"]
  - path: /progress
    ttl: 1h
    per: authorization
    tags: [\"progress:{jwt.sub}\"]
  - path: /blog/{slug}
    ttl: 1h
  - path: /orders/{id}
    ttl: 1h
    tags: [\"order:{id}:{query.x}\", \"of:{query.x}\"]
";

/// Uploads are forwarded as they arrive.
const STREAMED: &str = "upstream: {url: \"${UPSTREAM}\", buffer_requests: 0}\n";

const READS: [&str; 4] = ["/courses", "/courses/7", "/blog/a", "/orders/1?x=1"];

async fn targets(larder: &Larder) -> f64 {
    larder.metric(r#"larder_purged_targets_total{source="write"}"#).await
}

/// Sends a part of a write, and breaks it off once the upstream has that part.
async fn break_off(larder: &Larder, upstream: &Upstream) {
    let (arrived, arrives) = oneshot::channel();
    let arrived = Arc::new(Mutex::new(Some(arrived)));
    upstream.take_over("/courses/7/enroll", move |mut wire| {
        let arrived = arrived.clone();
        async move {
            if let Some(arrived) = arrived.lock().expect("one writer").take() {
                let _ = arrived.send(());
            }
            while !wire.read().await.is_empty() {}
        }
    });
    let mut upload = larder.raw().await;
    upload.send("POST /courses/7/enroll HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx").await;
    arrives.await.expect("it arrives");
    drop(upload);
    larder.metric_becomes(r#"larder_purges_total{source="write"}"#, 1.0).await;
}

#[tokio::test]
async fn a_broken_off_upload_purges_its_own_url_and_leaves_no_doubt() {
    let upstream = Upstream::start();
    upstream.on("/blog/a", Answer::ok("a").header("surrogate-key", "x y"));
    let larder = Larder::with(&format!("{STREAMED}{SCHOOL}"), &upstream);
    assert_eq!(larder.misses(&READS).await, READS);
    break_off(&larder, &upstream).await;
    assert_eq!(targets(&larder).await, 1.0, "its own URL");
    assert_eq!(larder.misses(&READS).await, [""; 0]);
}

#[tokio::test]
async fn an_upstream_that_acts_on_parts_leaves_targets_in_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        &format!("{STREAMED}defaults: {{unclear: [502, 504, cut, partial]}}{SCHOOL}"),
        &upstream,
    );
    larder.misses(&READS).await;
    break_off(&larder, &upstream).await;
    for _ in 0..2 {
        assert_eq!(larder.misses(&READS).await, ["/courses", "/courses/7"]);
    }
}

#[tokio::test]
async fn each_status_purges_what_the_table_says() {
    let (all, own, nothing) = (vec!["/courses", "/courses/7"], vec!["/courses/7"], vec![]);
    for (status, expected) in [
        (200, &all),
        (303, &all),
        (500, &all),
        (301, &own),
        (302, &own),
        (307, &own),
        (308, &own),
        (400, &nothing),
        (401, &nothing),
        (405, &nothing),
        (429, &nothing),
        (501, &nothing),
        (503, &nothing),
        (505, &nothing),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(SCHOOL, &upstream);
        larder.misses(&READS).await;
        upstream.once("/courses/7", Answer::status(status).header("location", "/login"));
        larder.request("POST", "/courses/7").body("{}").await.assert_status(status);
        assert_eq!(&larder.misses(&READS).await, expected, "{status}");
        assert_eq!(larder.misses(&READS).await, [""; 0], "{status} leaves no doubt");
    }
    for status in [502, 504, 524] {
        let upstream = Upstream::start();
        let larder = Larder::with(SCHOOL, &upstream);
        larder.misses(&READS).await;
        upstream.once("/courses/7", Answer::status(status));
        larder.request("POST", "/courses/7").body("{}").await.assert_status(status);
        for _ in 0..2 {
            assert_eq!(larder.misses(&READS).await, all, "{status} is in doubt");
        }
    }
}

#[tokio::test]
async fn registered_safe_methods_purge_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(SCHOOL, &upstream);
    for (method, purges) in [
        ("QUERY", false),
        ("PROPFIND", false),
        ("REPORT", false),
        ("SEARCH", false),
        ("OPTIONS", false),
        ("LOCK", true),
        ("FOO", true),
        ("get", true),
    ] {
        larder.misses(&READS).await;
        larder.request(method, "/courses/7").body("{}").await.assert_status(200);
        assert_eq!(larder.misses(&READS).await.contains(&"/courses/7"), purges, "{method}");
    }
}

#[tokio::test]
async fn path_override_fields_are_believed_where_they_are_named() {
    let upstream = Upstream::start();
    let larder = Larder::with(SCHOOL, &upstream);
    let fields = ["x-original-url", "x-rewrite-url", "x-host", "x-original-host"];
    larder.misses(&READS).await;
    let request = fields.iter().fold(larder.request("POST", "/login"), |request, name| {
        request.header(name, "/courses/7").header(name, "/courses")
    });
    request.await.assert_status(200);
    let seen = upstream.last("/login");
    assert!(fields.iter().all(|name| seen.header(name).is_none()), "{seen:?}");
    assert_eq!(larder.misses(&READS).await, [""; 0]);
    larder.get("/courses/7").header("x-original-url", "/admin").await.assert_hit();

    // nginx and others pass on what clients send.
    let behind = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]{SCHOOL}"), &upstream);
    behind.misses(&READS).await;
    let write = behind.request("POST", "/login").header("x-original-url", "/courses/7");
    write.header("x-rewrite-url", "/courses").await.assert_status(200);
    assert_eq!(upstream.last("/login").header("x-original-url"), None);
    assert_eq!(behind.misses(&READS).await, [""; 0]);

    let named = "trusted_fields: [X-Original-URL, X-Rewrite-URL, X-HTTP-Method, X-HTTP-Method-Override]";
    let trusting = Larder::with(&format!("trusted_proxies: [127.0.0.0/8]\n{named}{SCHOOL}"), &upstream);
    trusting.misses(&READS).await;
    let write = || trusting.request("POST", "/login");
    write().header("x-original-url", "/courses/7").await.assert_status(200);
    assert_eq!(upstream.last("/login").header("x-original-url").as_deref(), Some("/courses/7"));
    assert_eq!(trusting.misses(&READS).await, ["/courses", "/courses/7"]);
    write().header("x-original-url", "/a").header("x-original-url", "/b").await.assert_status(400);
    write().header("x-original-url", "/a").header("x-rewrite-url", "/a").await.assert_status(400);
    write().header("x-http-method", "PUT").header("x-http-method-override", "PUT").await.assert_status(400);
    trusting.get("/courses/7").header("x-original-url", "/admin").await.assert_not_stored("override-field");
}

#[tokio::test]
async fn a_write_names_so_many_tags_and_its_own_route_beyond() {
    let upstream = Upstream::start();
    let larder = Larder::with(SCHOOL, &upstream);
    larder.misses(&READS).await;
    let before = targets(&larder).await;
    let values = (0..3500).map(|n| format!("x={n}")).collect::<Vec<_>>().join("&");
    larder.request("POST", &format!("/orders/9?{values}")).await.assert_status(200);
    let named = targets(&larder).await - before;
    assert!(named <= 66.0, "{named} targets");
    assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"]);
    assert_eq!(larder.metric("larder_widened_total").await, 2.0);
    // A write without a value purges what its own route has stored, and no other one's.
    larder.request("POST", "/orders/9").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, ["/orders/1?x=1"]);
    larder.request("POST", "/courses/9/enroll").await.assert_status(200);
    assert_eq!(larder.misses(&READS).await, ["/courses", "/courses/7"]);
}

#[tokio::test]
async fn a_caller_s_write_keeps_the_own_url_of_others() {
    let upstream = Upstream::start();
    let yaml =
        "routes: [{path: /me, ttl: 1h, per: header.x-user, own_url: caller, tags: [\"me:{header.x-user}\"]}]";
    let larder = Larder::with(yaml, &upstream);
    let (ann, bob) = ("ann", "bob");
    let get = |user: &str| larder.get("/me").header("x-user", user);
    for token in [ann, bob] {
        get(token).await.assert_stored();
        get(token).await.assert_hit();
    }
    larder.request("PUT", "/me").header("x-user", ann).body("{}").await.assert_status(200);
    get(bob).await.assert_hit();
    get(ann).await.assert_stored();
    larder.request("PUT", "/me").body("{}").await.assert_status(200);
    assert!(!get(bob).await.is_hit() && !get(ann).await.is_hit());
}

fn throttled(every: &str) -> String {
    format!(
        "
routes:
  - {{path: /list, ttl: 1h, tags: [list]}}
  - {{path: \"/items/{{id}}\", ttl: 1h, tags: [\"item:{{id}}\"], purges: [{{tag: list, at_most_every: {every}}}]}}
"
    )
}

async fn list_becomes(larder: &Larder, number: usize) {
    let text = format!("GET /list #{number}");
    eventually("the joined purge is done", || async {
        (larder.get("/list").await.text() == text).then_some(())
    })
    .await;
}

#[tokio::test]
async fn purges_within_a_window_are_joined_to_its_end() {
    let upstream = Upstream::start();
    let larder = Larder::with(&throttled("30s"), &upstream);
    let write = || larder.request("PUT", "/items/1").body("{}");
    larder.get("/list").await.assert_text("GET /list #1");
    write().await.assert_status(200);
    larder.get("/list").await.assert_text("GET /list #2");
    for _ in 0..5 {
        write().await.assert_status(200);
    }
    // 2 targets of the first write, 1 of each other: the URL and the tag of the item are purged at once.
    assert_eq!(targets(&larder).await, 3.0 + 5.0 * 2.0);
    larder.after(29).get("/list").await.assert_hit();
    larder.after(1);
    list_becomes(&larder, 3).await;
    assert_eq!(targets(&larder).await, 3.0 + 5.0 * 2.0 + 1.0);
}

#[tokio::test]
async fn a_joined_purge_outlives_a_reload() {
    let upstream = Upstream::start();
    let larder = Larder::with(&throttled("30s"), &upstream);
    larder.get("/list").await;
    for _ in 0..2 {
        larder.request("PUT", "/items/1").body("{}").await.assert_status(200);
    }
    larder.get("/list").await.assert_text("GET /list #2");
    larder.reconfigure(&throttled("1h")).await;
    larder.after(30);
    list_becomes(&larder, 3).await;
}

#[tokio::test]
async fn a_joined_purge_is_done_before_the_end() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let mut one = Replica::start(&redis, &upstream, "max_lag: 0s", &throttled("1h")).await;
    let two = Replica::start(&redis, &upstream, "max_lag: 0s", &throttled("1h")).await;
    one.request("PUT", "/items/1").body("{}").await.assert_status(200);
    two.get("/list").await.assert_stored();
    two.has("/list").await;
    one.request("PUT", "/items/1").body("{}").await.assert_status(200);
    two.get("/list").await.assert_hit();
    one.shut_down();
    one.stopped().await.expect("a clean end");
    assert!(!two.get("/list").await.is_hit());
}

#[tokio::test]
async fn a_soft_purge_by_a_write_makes_stale_and_not_invalid() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - {path: /list, ttl: 1h, tags: [list], stale_while_revalidate: 2h}
  - {path: /w, purges: [{tag: list, soft: true}]}
",
        &upstream,
    );
    larder.get("/list").await.assert_stored();
    larder.request("POST", "/w").body("{}").await.assert_status(200);
    let stale = larder.get("/list").await.assert_text("GET /list #1");
    assert!(stale.is_hit());
    eventually("it is renewed", || async {
        (larder.get("/list").await.text() == "GET /list #2").then_some(())
    })
    .await;
}

/// The worst write that a client can send, many times over, to one that others read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_writes_leave_the_hits_of_others() {
    let upstream = Upstream::start();
    let larder = Larder::with(SCHOOL, &upstream);
    larder.get("/courses").await;
    larder.get("/blog/a").await;
    let rewritten = (0..40).fold(String::new(), |text, n| text + &format!("X-Rewrite-URL: /courses/{n}\r\n"));
    for number in 0..200 {
        let mut attacker = larder.raw().await;
        attacker
            .send(format!(
                "POST /orders/{number} HTTP/1.1\r\nHost: a\r\n{rewritten}Content-Length: 10\r\n\r\nx"
            ))
            .await;
        drop(attacker);
        larder.get("/courses").await.assert_hit();
        larder.get("/blog/a").await.assert_hit();
    }
    let targets = targets(&larder).await;
    assert!(targets <= 200.0, "{targets} targets of 200 writes that were never whole");
    tokio::time::timeout(Duration::from_secs(5), larder.admin.get("/healthz")).await.expect("it answers");
}
