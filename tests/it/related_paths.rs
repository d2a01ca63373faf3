//! A write reaches what lies below its path, what a custom method is called on, and other spellings of its ids.

use crate::support::{Answer, Larder, Received, Upstream};

const TAGGED: &str = "
routes:
  - {path: /api/courses, ttl: 5m, tags: [courses]}
  - {path: \"/api/courses/{id}\", ttl: 5m, tags: [\"course:{id}\"]}
  - {path: \"/api/courses/{id}/lessons\", ttl: 5m, tags: [\"lessons:{id}\"]}
  - {path: \"/api/courses/{id}/lessons/{lesson}\", ttl: 5m, tags: [\"lesson:{lesson}\"]}
  - {path: /api/coursesets, ttl: 5m}
";
const UNROUTED: &str = "
routes:
  - {path: \"/api/courses/{id}/lessons\", ttl: 5m}
  - {path: \"/api/courses/{id}/lessons/{lesson}\", ttl: 5m}
";
const CATCH_ALL: &str = "routes: [{path: \"/{*rest}\", ttl: 5m}]";

/// Primes `paths`, writes, and returns those that are misses then.
async fn purged<'p>(larder: &Larder, (method, target): (&str, &str), paths: &[&'p str]) -> Vec<&'p str> {
    for path in paths {
        larder.get(path).await;
        larder.get(path).await.assert_hit();
    }
    let write = larder.request(method, target).header("destination", "/api/courses/9").body("{}");
    let written = write.await.assert_status(200);
    assert!(written.header("larder-position").is_some(), "{method} {target}");
    larder.misses(paths).await
}

#[tokio::test]
async fn what_lies_below_a_deleted_path_is_purged() {
    let below = ["/api/courses/7/lessons", "/api/courses/7/lessons/3"];
    let destination = ["/api/courses/9/lessons", "/api/courses/9/lessons/3"];
    let others = ["/api/courses/8/lessons", "/api/courses/70/lessons/3"];
    let all = [below, destination, others].concat();
    let upstream = Upstream::start();
    for routes in [TAGGED, UNROUTED, CATCH_ALL] {
        let larder = Larder::with(routes, &upstream);
        assert_eq!(purged(&larder, ("DELETE", "/api/courses/7"), &all).await, below, "{routes}");
        assert_eq!(
            purged(&larder, ("MOVE", "/api/courses/7"), &all).await,
            [below, destination].concat(),
            "{routes}"
        );
        assert_eq!(purged(&larder, ("COPY", "/api/courses/7"), &all).await, destination, "{routes}");
        assert_eq!(purged(&larder, ("PATCH", "/api/courses/7"), &all).await, [""; 0], "{routes}");
        let larder = Larder::with(&format!("purge: {{children: false}}\n{routes}"), &upstream);
        assert_eq!(purged(&larder, ("DELETE", "/api/courses/7"), &all).await, [""; 0], "{routes}");
    }
}

#[tokio::test]
async fn a_write_to_a_collection_purges_its_members() {
    let upstream = Upstream::start();
    let reads = ["/api/courses", "/api/courses/7", "/api/courses/8", "/api/coursesets"];
    for (write, expected) in [
        (("PATCH", "/api/courses"), &reads[..3]),
        (("PUT", "/api/courses/"), &reads[..3]),
        (("DELETE", "/api/courses?ids=7,8"), &reads[..3]),
        (("POST", "/api/courses:batchDelete"), &reads[..3]),
        (("POST", "/api/courses"), &reads[..1]),
        (("PATCH", "/api/courses/7"), &reads[1..2]),
        (("POST", "/api/courses/7:archive"), &reads[1..2]),
        (("DELETE", "/"), &[]),
    ] {
        let larder = Larder::with(TAGGED, &upstream);
        assert_eq!(purged(&larder, write, &reads).await, expected, "{write:?}");
    }
}

/// Members of one caller's collection are that caller's, and `purges` says what a write reaches.
#[tokio::test]
async fn members_stay_where_the_route_says_whom_a_write_reaches() {
    let upstream = Upstream::start();
    for more in ["purges: [progress]", "per: authorization"] {
        let yaml = format!(
            "routes: [{{path: /progress, ttl: 5m, {more}}}, {{path: \"/progress/{{course}}\", ttl: 5m}}]"
        );
        let larder = Larder::with(&yaml, &upstream);
        assert_eq!(purged(&larder, ("PUT", "/progress"), &["/progress/7"]).await, [""; 0], "{more}");
        assert_eq!(purged(&larder, ("DELETE", "/progress"), &["/progress/7"]).await, ["/progress/7"]);
    }
}

#[tokio::test]
async fn a_delete_in_doubt_keeps_what_lies_below_in_doubt() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    let lessons = "/api/courses/7/lessons";
    larder.get(lessons).await.assert_stored();
    upstream.on("/api/courses/7", Answer::status(504));
    larder.request("DELETE", "/api/courses/7").await.assert_status(504);
    assert_eq!(larder.misses(&[lessons]).await, [lessons]);
    assert_eq!(larder.misses(&[lessons]).await, [lessons]);
}

#[tokio::test]
async fn a_uuid_is_purged_in_all_its_spellings() {
    let upstream = Upstream::start();
    let plain = "/api/courses/5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
    let spelled = [
        "/api/courses/5f0c3e9a1c2d4e5f8a9b0c1d2e3f4a5b",
        "/api/courses/%7B5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b%7D",
        "/api/courses/urn:uuid:5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
    ];
    for spelling in spelled {
        let larder = Larder::with(TAGGED, &upstream);
        let both = [plain, spelled[0]];
        assert_eq!(purged(&larder, ("PUT", spelling), &both).await, both, "{spelling}");
        assert_eq!(purged(&larder, ("PUT", plain), &both).await, both, "{spelling}");
    }
    // By its tag as well.
    let yaml = "routes: [{path: \"/a/{id}\", purges: [\"a:{id}\"]}, {path: \"/b/{id}\", ttl: 5m, tags: [\"a:{id}\"]}]";
    let larder = Larder::with(yaml, &upstream);
    let read = "/b/5f0c3e9a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
    let written = ("POST", "/a/5F0C3E9A1C2D4E5F8A9B0C1D2E3F4A5B");
    assert_eq!(purged(&larder, written, &[read]).await, [read]);
}

/// `int` of Python, `Integer.parseInt` of Java, `Number` of JavaScript.
#[tokio::test]
async fn a_number_is_purged_in_all_its_spellings() {
    let upstream = Upstream::start();
    let plain = "/api/courses/7";
    let spelled = ["%EF%BC%97", "%D9%A7", "0x7", "0X07", "0b111", "007", "+7"];
    for spelling in spelled.map(|spelling| format!("/api/courses/{spelling}")) {
        let larder = Larder::with(TAGGED, &upstream);
        let both = [plain, "/api/courses/0x7"];
        for path in both {
            larder.get(path).await.assert_stored();
        }
        for write in [&*spelling, plain] {
            larder.request("PUT", write).body("{}").await.assert_status(200);
            assert_eq!(larder.misses(&both).await, both, "{spelling} {write}");
        }
    }
    for other in ["7-slug", "7abc", "7,8", "7e0", "0x7g"] {
        let larder = Larder::with(TAGGED, &upstream);
        let write = ("PUT", &*format!("/api/courses/{other}"));
        assert_eq!(purged(&larder, write, &[plain]).await, [""; 0], "{other}");
    }
    // By its tag as well.
    let yaml = "routes: [{path: /a, purges: [\"a:{request.json:/id}\"]}, {path: \"/b/{id}\", ttl: 5m, tags: [\"a:{id}\"]}]";
    for id in ["７", "0x7", "٠٧"] {
        let larder = Larder::with(yaml, &upstream);
        larder.get("/b/7").await.assert_stored();
        let write = larder.request("POST", "/a").header("content-type", "application/json");
        write.body(format!(r#"{{"id": "{id}"}}"#)).await.assert_status(200);
        assert_eq!(larder.misses(&["/b/7"]).await, ["/b/7"], "{id}");
    }
}

/// Symfony, Laravel, MediaWiki: the script's name is optional.
#[tokio::test]
async fn a_path_behind_a_php_script_is_the_path_itself() {
    let upstream = Upstream::start();
    let larder = Larder::with(CATCH_ALL, &upstream);
    let items = ["/items/7", "/index.php/items/7"];
    let all = [&items[..], &["/items/7/notes", "/index.php/items/7/notes"]].concat();
    for write in ["/items/7", "/index.php/items/7", "/INDEX.php/items/007", "/app/index.php/items/7"] {
        assert_eq!(purged(&larder, ("PUT", write), &all).await, items, "{write}");
        assert_eq!(purged(&larder, ("DELETE", write), &all).await, all, "{write}");
    }
    assert_eq!(purged(&larder, ("PUT", "/index.phps/items/7"), &all).await, [""; 0]);
    let routes =
        "routes: [{path: \"/{*rest}\", ttl: 5m}, {path: \"/items/{id}\", ttl: 5m, tags: [\"item:{id}\"]},
  {path: /lists, ttl: 5m, tags: [\"item:7\"]}]";
    let larder = Larder::with(routes, &upstream);
    assert_eq!(purged(&larder, ("PUT", "/index.php/items/7"), &["/lists"]).await, ["/lists"]);
    larder.get("/index.php/items/7").await.assert_fwd("bypass");
}

/// Clients that may only GET and POST: OData, method-override, Symfony.
#[tokio::test]
async fn a_post_that_stands_for_another_write_reaches_the_api_as_sent() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    let (course, lessons) = ("/api/courses/7", "/api/courses/7/lessons");
    for field in ["x-http-method-override", "x-http-method", "x-method-override"] {
        larder.misses(&[course, lessons]).await;
        let write = larder.request("POST", course).header(field, "delete").body("{}");
        assert!(write.await.assert_status(200).header("larder-position").is_some());
        assert_eq!(upstream.last(course).header(field).as_deref(), Some("delete"));
        assert_eq!(larder.misses(&[course, lessons]).await, [course, lessons], "{field}");
        let sent = upstream.count(course);
        for (method, value) in [("POST", "GET"), ("POST", "a b"), ("PUT", "head")] {
            let refused =
                larder.request(method, course).header(field, value).body("{}").await.assert_status(400);
            assert!(refused.text().contains("send the method itself"), "{}", refused.text());
        }
        assert_eq!(upstream.count(course), sent);
        assert_eq!(larder.misses(&[course, lessons]).await, [""; 0], "{field}");
        // A GET is one, whatever it says.
        larder.get(course).header(field, "DELETE").await.assert_hit();
    }
    let twice =
        larder.request("POST", course).header("x-http-method", "PUT").header("x-method-override", "PUT");
    twice.await.assert_status(400);
    let moved = larder.request("POST", "/api/courses/8").header("x-http-method", "MOVE");
    moved.header("destination", course).await.assert_status(200);
    assert_eq!(larder.misses(&[course, lessons]).await, [course, lessons]);
}

/// Rails, Laravel, Symfony, Spring; ASP.NET.
#[tokio::test]
async fn a_post_whose_content_deletes_purges_as_a_delete_does() {
    const FORM: &str = "application/x-www-form-urlencoded";
    const JSON: &str = "application/json";
    let upstream = Upstream::start();
    let (course, lessons) = ("/api/courses/7", ["/api/courses/7/lessons", "/api/courses/7/lessons/3"]);
    let large = format!(r#"{{"a": "{}", "_method": "delete"}}"#, "x".repeat(100_000));
    for (routes, query, media_type, content, expected) in [
        (TAGGED, "?_method=delete", "text/plain", "", &lessons[..]),
        (UNROUTED, "?_method=delete", "text/plain", "", &lessons),
        (TAGGED, "", FORM, "a=1&_method=DELETE", &lessons),
        (UNROUTED, "", FORM, "_method=delete", &lessons),
        (CATCH_ALL, "", JSON, r#"{"_method": "DELETE"}"#, &lessons),
        (TAGGED, "", JSON, &large, &lessons),
        (TAGGED, "", FORM, "_method=patch", &[]),
        (TAGGED, "", FORM, "a=1", &[]),
    ] {
        let larder = Larder::with(routes, &upstream);
        for path in lessons {
            larder.get(path).await;
            larder.get(path).await.assert_hit();
        }
        let write = larder.request("POST", &format!("{course}{query}")).header("content-type", media_type);
        let written = write.body(content.to_owned()).await.assert_status(200);
        assert!(written.header("larder-position").is_some(), "{query} {content:.40}");
        assert_eq!(larder.misses(&lessons).await, expected, "{routes} {query} {content:.40}");
    }
}

#[tokio::test]
async fn a_content_that_deletes_counts_in_doubt_too() {
    let upstream = Upstream::start();
    let lessons = "/api/courses/7/lessons";
    for guard in ["", ", guard: true"] {
        let yaml = format!(
            "routes: [{{path: \"/api/courses/{{id}}\", ttl: 5m{guard}}}, {{path: \"/api/courses/{{id}}/lessons\", ttl: 5m}}]"
        );
        let larder = Larder::with(&yaml, &upstream);
        larder.get(lessons).await.assert_stored();
        upstream.on("/api/courses/7", Answer::status(504));
        let write = larder.request("POST", "/api/courses/7").header("content-type", "application/json");
        write.body(r#"{"_method": "delete"}"#).await.assert_status(504);
        assert_eq!(larder.misses(&[lessons]).await, [lessons], "{guard}");
        assert_eq!(larder.misses(&[lessons]).await, [lessons], "{guard}");
    }
}

#[tokio::test]
async fn a_read_by_post_that_stands_for_a_write_is_a_write() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /search, ttl: 5m, methods: [POST, GET]}]", &upstream);
    let search = || larder.request("POST", "/search").body("{}");
    search().await.assert_stored();
    search().await.assert_hit();
    search().header("x-http-method", "DELETE").await.assert_fwd("method");
    search().await.assert_stored();
}

#[tokio::test]
async fn a_location_of_the_origin_that_the_api_sees_is_purged() {
    let upstream = Upstream::start();
    let yaml = format!("trusted_proxies: [127.0.0.1]\n{CATCH_ALL}");
    let larder = Larder::with(&yaml, &upstream);
    let get = || larder.get("/u/1").header("host", "api.example").header("x-forwarded-proto", "https");
    for (location, is_purged) in [
        ("https://api.example/u/1", true),
        ("http://api.example/u/1", true),
        ("http://api.example:80/u/1", true),
        ("https://api.example:80/u/1", false),
        ("http://elsewhere.example/u/1", false),
    ] {
        get().await;
        get().await.assert_hit();
        upstream.on("/new", Answer::status(201).header("location", location));
        let write = larder.request("POST", "/new").header("host", "api.example");
        write.header("x-forwarded-proto", "https").await.assert_status(201);
        assert_eq!(!get().await.is_hit(), is_purged, "{location}");
    }
    let host = upstream.url().replace("http://", "");
    let larder = Larder::with_upstream_url(
        &upstream.url(),
        &format!("upstream: {{url: \"${{UPSTREAM}}\", host: backend.internal}}\n{CATCH_ALL}"),
    );
    assert_eq!(purged(&larder, ("DELETE", "/u/2"), &["/u/1"]).await, [""; 0], "{host}");
    upstream.on("/new", Answer::status(201).header("location", "http://backend.internal/u/1"));
    larder.request("POST", "/new").await.assert_status(201);
    assert_eq!(larder.misses(&["/u/1"]).await, ["/u/1"]);
}

#[tokio::test]
async fn below_its_path_a_write_over_the_budget_purges_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("limits: {{purge_targets_per_client: 5}}\n{TAGGED}"), &upstream);
    let (course, lessons) = ("/api/courses/7", "/api/courses/7/lessons");
    assert_eq!(purged(&larder, ("DELETE", course), &[lessons]).await, [lessons]);
    larder.get(lessons).await.assert_hit();
    let over = larder.request("DELETE", course).await.assert_status(200);
    assert!(over.header("larder-position").is_none());
    assert_eq!(larder.misses(&[lessons]).await, [""; 0]);
}

#[tokio::test]
async fn a_field_dropped_from_a_write_is_said_once_and_counted() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    for _ in 0..2 {
        larder.get("/api/courses").header("__tenant", "acme").await;
        let write = larder.request("POST", "/api/courses").header("__tenant", "acme").header("abp.id", "1");
        write.await.assert_status(200);
    }
    assert!(upstream.last("/api/courses").header("__tenant").is_none());
    assert_eq!(larder.metric("larder_write_fields_dropped_total").await, 4.0);
    let said = |field: &str| larder.log().matches(&format!("field={field}")).count();
    assert_eq!((said("__tenant"), said("abp.id")), (1, 1));
}

/// AIP-136, OData.
#[tokio::test]
async fn a_route_names_a_part_of_a_segment() {
    let upstream = Upstream::start();
    let larder = Larder::with(
        "
routes:
  - {path: \"/api/courses/{id}\", ttl: 5m, tags: [\"course:{id}\"], purges: []}
  - {path: \"/api/courses/{id}:archive\", purges: [\"course:{id}\", \"archive:{id}\"]}
  - {path: /api/archive, ttl: 5m, tags: [\"archive:7\"]}
  - {path: \"/odata/Courses({id})\", ttl: 5m, tags: [\"odata:{id}\"]}
  - {path: \"/odata/Courses({id})/Default.Archive\", purges: [\"odata:{id}\"]}
",
        &upstream,
    );
    let reads = ["/api/courses/7", "/api/archive", "/odata/Courses(7)", "/odata/Courses(8)"];
    for (write, expected) in [
        ("/api/courses/7:archive", &reads[..2]),
        ("/API/courses/7%3Aarchive", &reads[..2]),
        ("/api/courses/8:archive", &[]),
        ("/odata/Courses(7)/Default.Archive", &reads[2..3]),
        ("/odata/courses%287%29/default.archive", &reads[2..3]),
    ] {
        assert_eq!(purged(&larder, ("POST", write), &reads).await, expected, "{write}");
    }
}

/// An API that names what it creates in its content alone.
#[tokio::test]
async fn what_was_absent_is_asked_for_again_after_a_create() {
    let upstream = Upstream::start();
    let absent = ["/api/courses/9", "/api/courses/9/lessons/1"];
    let present = ["/api/courses/8", "/api/teachers/9"];
    for path in [absent[0], absent[1], present[1]] {
        upstream.on(path, |request: &Received| match request.method.as_str() {
            "GET" => Answer::status(if request.target.ends_with("lessons/1") { 410 } else { 404 }),
            _ => Answer::ok(""),
        });
    }
    let routes = "
routes:
  - {path: \"/api/courses/{id}\", ttl: 5m, tags: [\"course:{id}\"], status: {404: 10m}}
  - {path: \"/api/{*rest}\", ttl: 5m, status: {404: 10m, 410: 10m}}";
    let all = [absent, present].concat();
    for (children, method, target, expected) in [
        (true, "POST", "/api/courses", &absent[..]),
        // Resources under other names may have come with it.
        (true, "PUT", "/api/courses/7", &absent),
        (true, "POST", "/api/courses/9", &absent),
        (true, "POST", "/api/courses/7/lessons", &[]),
        (true, "DELETE", "/api/courses/7", &[]),
        (false, "POST", "/api/courses", &[]),
    ] {
        let larder = Larder::with(&format!("purge: {{children: {children}}}\n{routes}"), &upstream);
        for path in &all {
            larder.get(path).await.assert_stored();
        }
        larder.request(method, target).body("{}").await.assert_status(200);
        let mut misses = Vec::new();
        for path in &all {
            if !larder.get(path).await.is_hit() {
                misses.push(*path);
            }
        }
        assert_eq!(misses, expected, "{method} {target} {children}");
    }
}
