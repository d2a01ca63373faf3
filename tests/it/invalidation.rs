//! Writes that pass purge what they change, before the first byte of their answer goes back.

use crate::support::{Answer, Larder, Upstream, bearer};

const COURSES: &str = "
routes:
  - path: /courses
    ttl: 60s
    tags: [courses]
  - path: /courses/{id}
    ttl: 60s
    tags: [courses, \"course:{id}\"]
  - path: /courses/{course}/enroll
    purges: [courses, \"course:{course}\", \"progress:{jwt.sub}\"]
  - path: /progress
    ttl: 60s
    per: authorization
    tags: [\"progress:{jwt.sub}\"]
  - path: /log
    ttl: 60s
    purges: []
";

/// Which of these are still answered from the store.
async fn hits<'t>(larder: &Larder, targets: &[&'t str]) -> Vec<&'t str> {
    let mut hits = vec![];
    for target in targets {
        if larder.get(target).await.is_hit() {
            hits.push(*target);
        }
    }
    hits
}

async fn prime(larder: &Larder, targets: &[&str]) {
    for target in targets {
        larder.get(target).await;
    }
    assert_eq!(hits(larder, targets).await, targets);
}

const ALL: [&str; 5] = ["/courses", "/courses?page=2", "/courses/1", "/courses/2", "/log"];

#[tokio::test]
async fn a_write_purges_by_the_tags_of_its_route() {
    for (method, target, left) in [
        ("PUT", "/courses/1", vec!["/log"]),
        ("POST", "/courses/2/enroll", vec!["/log"]),
        ("DELETE", "/courses", vec!["/log"]),
        ("PATCH", "/courses/9?x=1", vec!["/log"]),
        ("POST", "/log", ALL.to_vec()),
        ("LOCK", "/courses/1", vec!["/log"]),
        ("OPTIONS", "/courses/1", ALL.to_vec()),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(COURSES, &upstream);
        prime(&larder, &ALL).await;
        larder.request(method, target).body("{}").await.assert_status(200).assert_fwd("method");
        assert_eq!(hits(&larder, &ALL).await, left, "{method} {target}");
    }
}

#[tokio::test]
async fn the_callers_claim_names_whose_progress_is_purged() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    let (ann, bob) = (bearer(r#"{"sub":"ann"}"#), bearer(r#"{"sub":"bob"}"#));
    let progress = |token: &str| larder.get("/progress").header("authorization", token);
    progress(&ann).await.assert_stored();
    progress(&bob).await.assert_stored();
    larder.request("POST", "/courses/1/enroll").header("authorization", &ann).await.assert_status(200);
    progress(&bob).await.assert_hit();
    progress(&ann).await.assert_fwd("uri-miss");
    // Without a caller the claim has no value, and more is purged rather than less: all that the route names.
    larder.get("/courses/7").await;
    larder.request("POST", "/courses/7/enroll").await.assert_status(200);
    assert_eq!(hits(&larder, &["/courses/7"]).await, [""; 0]);
}

#[tokio::test]
async fn only_a_write_that_did_not_happen_purges_nothing() {
    for (answer, status, purges) in [
        (Answer::status(201), 201, true),
        (Answer::status(303).header("location", "/courses/1"), 303, true),
        (Answer::status(400), 400, false),
        (Answer::status(404), 404, false),
        (Answer::status(409), 409, false),
        (Answer::status(500), 500, true),
        (Answer::status(504), 504, true),
        (Answer::status(503), 503, false),
        (Answer::hang_up(), 502, true),
        (Answer::raw("garbage\r\n\r\n"), 502, true),
        (Answer::ok("cut short").cut_after(3), 200, true),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(COURSES, &upstream);
        prime(&larder, &["/courses"]).await;
        upstream.on("/courses/1", answer);
        let reply = larder.request("PUT", "/courses/1").body("{}").start().await;
        assert_eq!(reply.status, status);
        assert_eq!(larder.get("/courses").await.is_hit(), !purges, "{status}");
        assert_eq!(upstream.count("/courses/1"), 1, "a write is never sent twice");
    }
}

#[tokio::test]
async fn an_unreachable_upstream_did_nothing() {
    let larder = Larder::with_upstream_url(&Upstream::nowhere(), COURSES);
    larder.request("PUT", "/courses/1").body("{}").await.assert_status(502);
    let purges = larder.metric(r#"larder_purges_total{source="write"}"#).await;
    assert!(purges == 0.0);
}

#[tokio::test]
async fn an_unclear_end_keeps_nothing_until_its_date() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        &format!("upstream: {{url: \"${{UPSTREAM}}\", response_timeout: 20s}}\n{COURSES}"),
        &upstream,
    );
    prime(&larder, &["/courses/1", "/log"]).await;
    upstream.once("/courses/1", Answer::hang_up());
    larder.request("PUT", "/courses/1").body("{}").await.assert_status(502);
    for n in 3..6 {
        larder.get("/courses/1").await.assert_text(&format!("GET /courses/1 #{n}"));
    }
    assert_eq!(hits(&larder, &["/log"]).await, ["/log"]);
    larder.after(21);
    larder.get("/courses/1").await.assert_text("GET /courses/1 #6");
    larder.get("/courses/1").await.assert_hit();
}

/// The client has its answer, and the API may go on for as long as `upstream.response_timeout` says.
#[tokio::test]
async fn a_shorter_timeout_of_the_route_does_not_end_the_doubt() {
    let upstream = Upstream::start();
    let routes = COURSES.replace(
        "path: /courses/{id}\n",
        "path: /courses/{id}\n    timeout: 300ms\n    response_timeout: 20s\n",
    );
    assert_ne!(routes, COURSES);
    let larder = Larder::with(
        &format!("upstream: {{url: \"${{UPSTREAM}}\", response_timeout: 20s}}\n{routes}"),
        &upstream,
    );
    let held = upstream.hold("/courses/1");
    larder.request("PUT", "/courses/1").body("{}").await.assert_status(504);
    let purges = r#"larder_purges_total{source="write"}"#;
    assert_eq!(larder.metric(purges).await, 1.0);
    held.release();
    larder.metric_becomes(purges, 2.0).await;
    larder.after(15);
    for _ in 0..2 {
        assert!(!larder.get("/courses/1").await.is_hit());
    }
    larder.after(6);
    larder.get("/courses/1").await;
    larder.get("/courses/1").await.assert_hit();
}

#[tokio::test]
async fn the_purge_is_done_before_the_first_byte_of_the_answer() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    prime(&larder, &["/courses"]).await;
    let (answer, feed) = Answer::fed();
    upstream.once("/courses/1", answer);
    let reply = larder.request("PUT", "/courses/1").body("{}").start().await;
    assert_eq!(reply.status, 200);
    larder.get("/courses").await.assert_text("GET /courses #2");
    feed.end().await;
}

#[tokio::test]
async fn a_disconnecting_client_stops_no_write_and_no_purge() {
    let upstream = Upstream::start();
    let larder = Larder::with(COURSES, &upstream);
    prime(&larder, &["/courses"]).await;
    let held = upstream.hold("/courses/1");
    let write = larder.request("PUT", "/courses/1").body("{}").spawn();
    held.arrived().await;
    write.abort();
    assert!(write.await.is_err());
    held.release();
    larder.metric_becomes(r#"larder_purges_total{source="write"}"#, 1.0).await;
    larder.get("/courses").await.assert_text("GET /courses #2");
}

#[tokio::test]
async fn what_the_answer_points_at_on_the_same_host_is_purged() {
    for (field, value, purges) in [
        ("location", "/courses/1", true),
        ("content-location", "/courses/1", true),
        ("location", "http://api.test/courses/1", true),
        ("location", "http://evil.test/courses/1", false),
    ] {
        let upstream = Upstream::start();
        upstream.on("/jobs", Answer::status(201).header(field, value));
        let larder = Larder::with(COURSES, &upstream);
        let get = || larder.get("/courses/1").header("host", "api.test");
        get().await.assert_stored();
        larder.request("POST", "/jobs").header("host", "api.test").await.assert_status(201);
        assert_eq!(get().await.is_hit(), !purges, "{field}: {value}");
    }
}

#[tokio::test]
async fn a_write_under_another_spelling_purges_all_the_same() {
    for spelling in [
        "/courses/1",
        "/%63ourses/1",
        "/courses/%31",
        "//courses/1",
        "/courses//1",
        "/courses/1/",
        "/COURSES/1",
        "/x/../courses/1",
        "/courses/./1",
        "/courses/1?x=1",
        "/courses%2F1",
        "/courses/1;v=2",
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with("routes: [{path: \"/courses/{id}\", ttl: 60s}]", &upstream);
        prime(&larder, &["/courses/1", "/courses/1?page=2"]).await;
        let mut raw = larder.raw().await;
        raw.send(format!(
            "PUT {spelling} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
            larder.address()
        ))
        .await;
        assert_eq!(raw.status().await, 200, "{spelling}");
        assert_eq!(hits(&larder, &["/courses/1", "/courses/1?page=2"]).await, [""; 0], "{spelling}");
    }
}

#[tokio::test]
async fn a_write_on_a_route_that_names_no_tag_purges_the_path_above() {
    let upstream = Upstream::start();
    let routes = [
        ("[{path: /items, ttl: 60s}, {path: \"/items/{id}\", ttl: 60s}]", vec![]),
        ("[{path: \"/{*rest}\", ttl: 60s}]", vec![]),
        // It is said what a write purges.
        ("[{path: /items, ttl: 60s}, {path: \"/items/{id}\", ttl: 60s, tags: [\"item:{id}\"]}]", vec![]),
        (
            "[{path: /items, ttl: 60s, tags: [items]}, \
             {path: \"/items/{id}\", ttl: 60s, tags: [\"item:{id}\"]}]",
            vec!["/items"],
        ),
        (
            "[{path: /items, ttl: 60s}, {path: \"/items/{id}\", ttl: 60s, purges: [\"item:{id}\"]}]",
            vec!["/items"],
        ),
        (
            "[{path: /items, ttl: 60s}, {path: \"/items/{id}\", ttl: 60s, purges: []}]",
            vec!["/items", "/items/1"],
        ),
    ];
    for (routes, left) in routes {
        let larder = Larder::with(&format!("routes: {routes}"), &upstream);
        for path in ["/items", "/items/1"] {
            larder.get(path).await.assert_stored();
        }
        larder.request("PATCH", "/items/1").await.assert_status(200);
        assert_eq!(hits(&larder, &["/items", "/items/1"]).await, left, "{routes}");
    }
}

#[tokio::test]
async fn an_unmatched_write_purges_its_path_and_the_one_above() {
    let upstream = Upstream::start();
    let yaml =
        "routes: [{path: /items, ttl: 60s}, {path: \"/items/{id}\", ttl: 60s}, {path: /other, ttl: 60s}]";
    let all = ["/items", "/items/1", "/other"];
    for (purge, left) in [("", vec!["/other"]), ("purge: {parents: false}\n", all.to_vec())] {
        let larder = Larder::with(&format!("{purge}{yaml}"), &upstream);
        prime(&larder, &all).await;
        larder.request("POST", "/items/1/publish/now").body("{}").await.assert_status(200);
        let hits = hits(&larder, &all).await;
        assert!(left.iter().all(|target| hits.contains(target)), "{hits:?}");
        assert!(!purge.is_empty() || !hits.contains(&"/items/1"), "{hits:?}");
    }
}

/// RFC 4918 §9.8, §9.9: they write to the URL in `Destination`.
#[tokio::test]
async fn a_move_purges_where_it_goes() {
    for (method, destination, is_purged) in [
        ("MOVE", "/courses/2", true),
        ("COPY", "http://api/courses/2", true),
        ("MOVE", "http://api/v1/courses/2", true),
        ("COPY", "http://elsewhere/courses/2", false),
        ("PUT", "/courses/2", false),
    ] {
        let upstream = Upstream::start();
        let larder = Larder::with(&format!("trusted_proxies: [127.0.0.1]\n{COURSES}"), &upstream);
        let get = |path: &str| larder.get(path).header("host", "api").header("x-forwarded-prefix", "/v1");
        for path in ["/log", "/courses/2"] {
            get(path).await;
            get(path).await.assert_hit();
        }
        let write = larder.request(method, "/log").header("destination", destination).header("host", "api");
        write.header("x-forwarded-prefix", "/v1").await.assert_status(200);
        assert_eq!(!get("/courses/2").await.is_hit(), is_purged, "{method} {destination}");
    }
}

/// An API behind a proxy that removes a prefix writes it into its own URLs.
#[tokio::test]
async fn a_location_is_purged_with_and_without_a_removed_prefix() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("trusted_proxies: [127.0.0.1]\n{COURSES}"), &upstream);
    let get = || larder.get("/courses/2").header("x-forwarded-prefix", "/v1");
    get().await;
    get().await.assert_hit();
    upstream.on("/other", Answer::status(201).header("location", "/v1/courses/2"));
    larder.request("POST", "/other").header("x-forwarded-prefix", "/v1").await.assert_status(201);
    assert!(!get().await.is_hit());
}
