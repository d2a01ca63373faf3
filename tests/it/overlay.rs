//! `overlay`: what concerns a caller is merged into what all callers share, and never reaches another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::callers::{SECRET, token};
use crate::history::dice::Dice;
use crate::support::{Answer, HOST, Larder, Received, Reply, Request, START, Upstream};

const COURSES: &str = r#"{"courses": [ {"id": 1, "title": "a\u0062"}, {"id": 2} ], "total": 2}"#;

const YAML: &str = "
routes:
  - path: /courses
    ttl: 60s
    tags: [courses]
    overlay:
      - {from: /me/enrollments, each: '$.enrollments[*].courseId', into: '$.courses[*]', by: id, set: {isEnrolled: true}, default: {isEnrolled: false}}
  - {path: /me/enrollments, ttl: 60s, per: authorization, tags: ['enrollments:{header.authorization}']}
  - {path: '/courses/{id}/enroll', purges: ['enrollments:{header.authorization}']}
";

/// An API where each caller is enrolled in the course that the credential names.
fn api() -> Upstream {
    let upstream = Upstream::start();
    upstream.on("/courses", |request: &Received| match request.header("authorization") {
        None => list(),
        Some(_) => Answer::json(r#"{"whole": true}"#),
    });
    upstream.on("/me/enrollments", |request: &Received| match request.header("authorization") {
        Some(course) => Answer::json(format!(r#"{{"enrollments": [{{"courseId": {course}}}]}}"#)),
        None => Answer::status(401),
    });
    upstream
}

fn list() -> Answer {
    Answer::json(COURSES).header("etag", "\"v1\"").header("cache-control", "public, max-age=60")
}

fn as_caller(request: Request, caller: &str) -> Request {
    request.header("authorization", caller)
}

/// The courses that the caller is enrolled in, of the first answer's two.
fn enrolled(reply: &Reply) -> Vec<i64> {
    let courses = reply.json()["courses"].as_array().unwrap_or_else(|| panic!("{reply}")).clone();
    let is_enrolled = |course: &&Value| course["isEnrolled"].as_bool().unwrap_or_else(|| panic!("{reply}"));
    courses.iter().filter(is_enrolled).filter_map(|course| course["id"].as_i64()).collect()
}

#[tokio::test]
async fn each_caller_gets_its_own_of_what_is_stored_once() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    let first = as_caller(larder.get("/courses"), "1").await.assert_stored().assert_detail("overlay");
    first.assert_text(
        r#"{"courses": [ {"id": 1, "title": "a\u0062","isEnrolled":true}, {"id": 2,"isEnrolled":false} ], "total": 2}"#,
    );
    let hit = as_caller(larder.get("/courses"), "1").await.assert_hit().assert_detail("overlay");
    let other = as_caller(larder.get("/courses"), "2").await.assert_stored();
    assert_eq!((enrolled(&hit), enrolled(&other)), (vec![1], vec![2]));
    let nobody = larder.get("/courses").await.assert_hit().assert_detail("overlay-anonymous");
    assert_eq!(enrolled(&nobody), Vec::<i64>::new());
    assert_eq!((upstream.count("/courses"), upstream.count("/me/enrollments")), (1, 2));
    let asked = upstream.last("/courses");
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.header("host"), upstream.last("/me/enrollments").header("host"));
    // No cache behind larder may give it to another.
    for reply in [hit, nobody] {
        let reply =
            reply.assert_header("cache-control", "private, no-cache").assert_header("accept-ranges", "none");
        assert!(reply.header("etag").is_some_and(|tag| tag.starts_with("\"v1-larder-overlay-")), "{reply}");
    }
    // The caller's part is a response of its own.
    as_caller(larder.get("/me/enrollments"), "1").await.assert_hit();
    let status = as_caller(larder.get("/courses"), "1").await.header("cache-status").expect("a status");
    let parts =
        ["shared-part; hit; ttl=60", "caller-part; hit; ttl=60; key=\"/me/enrollments\"", "larder; hit"];
    assert!(parts.iter().all(|part| status.contains(part)), "{status}");
}

/// Tenants are a field: it selects the shared part, too, and is in its key.
#[tokio::test]
async fn a_field_beside_the_credential_selects_the_shared_part() {
    let upstream = api();
    upstream.on("/courses", |request: &Received| match request.header("x-tenant-id").as_deref() {
        Some("acme") => Answer::json(r#"{"courses": [{"id": 1, "title": "of acme"}]}"#),
        _ => list(),
    });
    let larder = Larder::with(YAML, &upstream);
    as_caller(larder.get("/courses"), "1").await.assert_stored();
    let at_acme = || as_caller(larder.get("/courses"), "1").header("x-tenant-id", "acme");
    for (reply, is_stored) in [(at_acme().await, true), (at_acme().await, false)] {
        let reply = if is_stored { reply.assert_stored() } else { reply.assert_hit() };
        assert_eq!(reply.json()["courses"][0]["title"], "of acme");
    }
    assert_eq!(as_caller(larder.get("/courses"), "1").await.assert_hit().json()["total"], 2);
    assert_eq!(upstream.last("/courses").header("authorization"), None);
}

#[tokio::test]
async fn what_is_merged_is_validated_by_a_tag_of_its_own() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    let first = as_caller(larder.get("/courses"), "1").await;
    let tag = first.header("etag").expect("a tag");
    let with = |caller, tag: &str| as_caller(larder.get("/courses"), caller).header("if-none-match", tag);
    with("1", &tag).await.assert_status(304).assert_hit().assert_header("etag", tag.as_str()).assert_text("");
    // To another caller it is another response, and so it is after a change of either part.
    assert_eq!(enrolled(&with("2", &tag).await.assert_status(200)), [2]);
    assert_eq!(enrolled(&with("1", "\"v1\"").await.assert_status(200)), [1]);
    let since =
        as_caller(larder.get("/courses"), "1").header("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT");
    since.await.assert_status(200);
    let head = as_caller(larder.request("HEAD", "/courses"), "1").await.assert_hit().assert_text("");
    let length = first.body.len().to_string();
    head.assert_header("etag", tag.as_str()).assert_header("content-length", length.as_str());
    let range = as_caller(larder.get("/courses"), "1").header("range", "bytes=0-3").await;
    assert_eq!(range.assert_status(200).body, first.body);
    // A write can be conditional on it, and a read that must be forwarded.
    as_caller(larder.request("PUT", "/courses"), "1").header("if-match", &tag).body("{}").await;
    assert_eq!(upstream.last("/courses").header("if-match").as_deref(), Some("\"v1\""));
    as_caller(larder.get("/courses"), "1").header("if-match", &tag).await.assert_detail("precondition");
    assert_eq!(upstream.last("/courses").header("if-match").as_deref(), Some("\"v1\""));
    assert_eq!(upstream.last("/courses").header("authorization").as_deref(), Some("1"));
}

/// A merge costs as much for 80 bytes as for the whole list.
#[tokio::test]
async fn an_answer_without_content_needs_no_second_merge() {
    const MERGES: &str = "larder_overlay_merges_total";
    for pad in [0, 20_000] {
        let upstream = api();
        let list = Answer::json(format!("{{\"pad\": \"{}\", {}", "x".repeat(pad), &COURSES[1..]));
        upstream.on("/courses", move |_: &Received| list.clone());
        let larder = Larder::with(YAML, &upstream);
        as_caller(larder.get("/courses"), "1").await.assert_stored();
        // Made of what is stored, not of what was arriving.
        let whole = as_caller(larder.get("/courses"), "1").await.assert_hit().clone();
        let (tag, merges) = (whole.header("etag").expect("a tag"), larder.metric(MERGES).await);
        for _ in 0..3 {
            let head = as_caller(larder.request("HEAD", "/courses"), "1").await;
            let length = whole.text().len().to_string();
            head.assert_status(200)
                .assert_header("etag", tag.as_str())
                .assert_header("content-length", length.as_str());
            let get = as_caller(larder.get("/courses"), "1").header("if-none-match", &tag).await;
            get.assert_status(304).assert_header("etag", tag.as_str()).assert_detail("overlay").assert_hit();
        }
        assert_eq!(larder.metric(MERGES).await, merges);
        // Another caller's is another one, and so is one of other parts.
        as_caller(larder.request("HEAD", "/courses"), "2").await.assert_status(200);
        as_caller(larder.get("/courses"), "1").header("if-none-match", "\"x\"").await.assert_status(200);
        assert_eq!(larder.metric(MERGES).await, merges + 2.0);
        upstream.on("/courses", |_: &Received| Answer::json(r#"{"courses": []}"#));
        larder.request("PURGE", "/courses").await.assert_status(200);
        let get = as_caller(larder.get("/courses"), "1").header("if-none-match", &tag).await;
        get.assert_status(200).assert_text(r#"{"courses": []}"#);
        assert_eq!(larder.metric(MERGES).await, merges + 3.0);
    }
}

#[tokio::test]
async fn a_cold_head_is_answered_by_the_parts() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    let head = as_caller(larder.request("HEAD", "/courses"), "1").await.assert_stored().assert_text("");
    assert!(head.header("content-length").is_some() && upstream.last("/courses").method == "GET");
    as_caller(larder.get("/courses"), "1").await.assert_hit();
}

#[tokio::test]
async fn a_purge_of_either_part_holds_at_once() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    for caller in ["1", "2"] {
        as_caller(larder.get("/courses"), caller).await;
    }
    upstream.on("/me/enrollments", Answer::json(r#"{"enrollments": []}"#));
    as_caller(larder.request("POST", "/courses/1/enroll"), "1").body("{}").await.assert_status(200);
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), "1").await.assert_stored()), Vec::<i64>::new());
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), "2").await.assert_hit()), [2], "not hers");
    upstream.on("/courses", Answer::json(r#"{"courses": [{"id": 2}, {"id": 9}]}"#));
    larder.request("PURGE", "/x").header("cache-tag", "courses").await.assert_status(200);
    let fresh = as_caller(larder.get("/courses"), "2").await.assert_stored();
    assert_eq!((enrolled(&fresh), fresh.json()["courses"][1]["id"].clone()), (vec![2], json!(9)));
    assert_eq!(upstream.count("/courses"), 2);
}

#[tokio::test]
async fn concurrent_callers_share_one_fetch_and_nothing_else() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    let held = upstream.hold_every("/courses");
    let of_callers = upstream.hold_every("/me/enrollments");
    let callers = ["1", "2", "1", "2", "1"];
    let waiting: Vec<_> =
        callers.iter().map(|caller| as_caller(larder.get("/courses"), caller).spawn()).collect();
    // Both parts are asked for side by side.
    held.arrived().await;
    of_callers.arrived_times(2).await;
    larder.metric_becomes("larder_followers", 7.0).await;
    of_callers.release();
    held.release();
    for (caller, reply) in callers.iter().zip(waiting) {
        assert_eq!(enrolled(&reply.await.expect("a reply")), [caller.parse::<i64>().expect("a number")]);
    }
    assert_eq!((upstream.count("/courses"), upstream.count("/me/enrollments")), (1, 2));
}

#[tokio::test]
async fn a_stale_part_is_refreshed_behind_the_answer() {
    let upstream = api();
    upstream.on("/courses", Answer::json(COURSES));
    let larder = Larder::with(&format!("defaults: {{stale_while_revalidate: 60s}}\n{YAML}"), &upstream);
    for caller in ["1", "2"] {
        as_caller(larder.get("/courses"), caller).await.assert_stored();
    }
    larder.after(61);
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), "1").await.assert_hit()), [1]);
    upstream.has_received("/courses", 2).await;
    upstream.has_received("/me/enrollments", 3).await;
    assert_eq!(upstream.last("/courses").header("authorization"), None);
    assert_eq!(upstream.last("/me/enrollments").header("authorization").as_deref(), Some("1"));
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), "2").await), [2]);
}

#[tokio::test]
async fn what_can_not_be_merged_is_forwarded_whole() {
    for answer in [
        Answer::ok("id,title").header("content-type", "text/csv"),
        Answer::json("{\"courses\": ["),
        Answer::json("{\"error\": \"soon\"}"),
        Answer::json("{\"courses\": [{}]}"),
        list().header("cache-control", "no-transform"),
        Answer::status(404),
        Answer::status(403),
        Answer::json(format!("{{\"courses\": [], \"x\": \"{}\"}}", "x".repeat(3000))),
    ] {
        let upstream = api();
        upstream.once("/courses", answer);
        let larder = Larder::with(&YAML.replacen("ttl: 60s", "ttl: 60s\n    max_json: 2KiB", 1), &upstream);
        let reply = as_caller(larder.get("/courses"), "1")
            .await
            .assert_status(200)
            .assert_detail("overlay-shared-part");
        assert_eq!(reply.json(), json!({"whole": true}));
        assert_eq!(upstream.last("/courses").header("authorization").as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn an_error_of_the_shared_part_is_the_answer() {
    let upstream = api();
    upstream.on("/courses", Answer::status(500).body("down").header("set-cookie", "sid=nobody"));
    let larder = Larder::with(YAML, &upstream);
    let reply = as_caller(larder.get("/courses"), "1").await.assert_status(500).assert_text("down");
    reply.assert_header("set-cookie", None);
    assert_eq!(upstream.count("/courses"), 1, "asked once");
    upstream.on("/courses", Answer::hang_up());
    as_caller(larder.get("/courses"), "1").await.assert_status(502);
}

#[tokio::test]
async fn a_failed_part_of_the_caller_is_passed_or_selects_nothing() {
    let fails = || {
        [
            Answer::status(500),
            Answer::status(404),
            Answer::hang_up(),
            Answer::json("[").header("cache-control", "no-store"),
            Answer::json("{\"enrollments\": [{\"courseId\": 1.5}]}"),
            Answer::ok("1").header("content-type", "text/plain"),
            // It has not what `each` names, or not all of it.
            Answer::json("{\"error\": \"down\"}"),
            Answer::json("{\"enrollments\": [{\"course\": 1}]}"),
            Answer::json("{\"enrollments\": []}").header("link", "</me/enrollments?page=2>; rel=\"next\""),
        ]
    };
    for (on_error, detail) in [("pass", "overlay-caller-part"), ("default", "overlay-failed")] {
        let upstream = api();
        let yaml = YAML.replace("by: id,", &format!("by: id, on_error: {on_error},"));
        let larder = Larder::with(&yaml, &upstream);
        for (caller, answer) in (10..).zip(fails()) {
            upstream.on("/me/enrollments", answer);
            let reply = as_caller(larder.get("/courses"), &caller.to_string()).await.assert_status(200);
            let reply = reply.assert_detail(detail);
            match on_error {
                "pass" => assert_eq!(reply.json(), json!({"whole": true})),
                _ => assert_eq!(enrolled(&reply), Vec::<i64>::new()),
            }
        }
        // The API refuses the caller: that is for the API to say.
        for status in [401, 403] {
            upstream.on("/me/enrollments", Answer::status(status));
            as_caller(larder.get("/courses"), "9").await.assert_detail("overlay-caller-part");
        }
    }
}

#[tokio::test]
async fn who_is_not_known_to_be_nobody_is_forwarded() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    for (name, value) in [("cookie", "sid=1"), ("x-api-key", "k"), ("authorization", "")] {
        let reply = larder.get("/courses").header(name, value).await;
        reply.assert_detail("overlay-caller-part");
    }
    let twice = as_caller(as_caller(larder.get("/courses"), "1"), "2").await;
    twice.assert_detail("overlay-caller-part");
    // A cookie beside the one that names the caller may be another session of the API.
    let by_cookie =
        YAML.replace("per: authorization", "per: cookie.sid").replace("header.authorization", "cookie.sid");
    let larder = Larder::with(&by_cookie, &upstream);
    let somebody = larder.get("/courses").header("cookie", "theme=dark").await;
    somebody.assert_detail("overlay-caller-part");
    assert_eq!(upstream.last("/courses").header("cookie").as_deref(), Some("theme=dark"));
    larder.get("/courses").await.assert_detail("overlay-anonymous");
}

/// A cookie beside the token may select another list.
#[tokio::test]
async fn a_caller_with_a_credential_outside_the_key_is_forwarded() {
    let upstream = api();
    upstream.on("/me/enrollments", Answer::json(r#"{"enrollments": [{"courseId": 2}]}"#));
    let larder = Larder::with(&known(""), &upstream);
    let get = || as_caller(larder.get("/courses"), &jwt("ann"));
    get().await.assert_detail("overlay");
    get().header("cookie", "tenant=acme").await.assert_detail("overlay-caller-part");
}

fn known(route: &str) -> String {
    format!(
        "
callers: {{users: {{jwt: {{secret: \"{SECRET}\"}}}}}}
background: {{host: {HOST}, headers: {{Authorization: service}}}}
routes:
  - path: /courses
    ttl: 60s
    {route}
    overlay:
      - {{from: /me/enrollments, each: '$.enrollments[*].courseId', into: '$.courses[*]', by: id, set: {{isEnrolled: true}}, default: {{isEnrolled: false}}}}
  - {{path: /me/enrollments, ttl: 10m, callers: users, per: jwt.sub}}
"
    )
}

fn jwt(sub: &str) -> String {
    format!("Bearer {}", token(&json!({"sub": sub, "exp": START.as_secs() + 120}).to_string()))
}

#[tokio::test]
async fn larder_s_own_credential_fetches_for_known_callers_alone() {
    let upstream = api();
    let asked = |request: &Received| match request.header("authorization").as_deref() {
        Some("service") => list(),
        _ => Answer::json(r#"{"whole": true}"#),
    };
    upstream.on("/courses", asked);
    upstream.on("/me/enrollments", Answer::json(r#"{"enrollments": [{"courseId": 2}]}"#));
    let larder = Larder::with(&known("callers: users\n    overlay_as: background"), &upstream);
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), &jwt("ann")).await.assert_stored()), [2]);
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), &jwt("ben")).await), [2]);
    assert_eq!(upstream.count("/courses"), 1);
    for reply in [larder.get("/courses").await, as_caller(larder.get("/courses"), "Bearer forged").await] {
        assert_eq!(reply.json(), json!({"whole": true}));
    }
    larder.get("/courses").await.assert_detail("anonymous-caller");
}

#[tokio::test]
async fn a_token_that_ends_meanwhile_ends_the_answer() {
    let upstream = api();
    upstream.on("/me/enrollments", Answer::json(r#"{"enrollments": [{"courseId": 2}]}"#));
    let larder = Larder::with(&known("callers: users"), &upstream);
    let held = upstream.hold("/courses");
    let waiting = as_caller(larder.get("/courses"), &jwt("ann")).spawn();
    held.arrived().await;
    upstream.has_received("/me/enrollments", 1).await;
    larder.after(121);
    held.release();
    waiting.await.expect("a reply").assert_detail("expired-caller");
}

#[tokio::test]
async fn the_shared_part_is_warmed_and_refreshed_like_any_other() {
    let upstream = api();
    let warm = format!(
        "background: {{host: {HOST}, headers: {{Authorization: '1'}}}}\nwarm: [{{get: /courses}}]\n{YAML}"
    );
    let larder = Larder::with(&warm, &upstream);
    larder.metric_becomes("larder_warm_runs_total", 1.0).await;
    assert_eq!(upstream.last("/courses").header("authorization"), None);
    let get = |caller| as_caller(larder.get("/courses"), caller).header("host", HOST);
    assert_eq!(enrolled(&get("2").await), [2]);
    let refresh =
        larder.admin.request("POST", "/refresh").body(r#"{"expiring_within": "5m", "tag": "courses"}"#).await;
    refresh.assert_status(200);
    upstream.has_received("/courses", 2).await;
    assert_eq!(upstream.last("/courses").header("authorization"), None);
    assert_eq!(enrolled(&get("2").await.assert_hit()), [2]);
}

#[tokio::test]
async fn observing_forwards_and_off_forwards() {
    for mode in ["observe", "off"] {
        let upstream = api();
        let larder =
            Larder::with(&YAML.replacen("ttl: 60s", &format!("ttl: 60s\n    mode: {mode}"), 1), &upstream);
        let reply = as_caller(larder.get("/courses"), "1").await;
        assert_eq!(reply.json(), json!({"whole": true}));
    }
}

#[tokio::test]
async fn a_response_from_before_the_overlay_is_not_the_shared_part() {
    let upstream = api();
    let before = "routes: [{path: /courses, ttl: 60s, shared: true, tags: [courses]}]";
    let larder = Larder::with(before, &upstream);
    as_caller(larder.get("/courses"), "1").await.assert_stored().assert_text(r#"{"whole": true}"#);
    larder.reconfigure(YAML).await;
    assert_eq!(enrolled(&as_caller(larder.get("/courses"), "1").await.assert_stored()), [1]);
}

#[tokio::test]
async fn explain_shows_both_parts() {
    let upstream = api();
    let larder = Larder::with(YAML, &upstream);
    as_caller(larder.get("/courses"), "1").header("host", HOST).await.assert_stored();
    let explain = |headers: Value| {
        let body =
            json!({"method": "GET", "url": format!("http://{HOST}/courses"), "headers": headers}).to_string();
        larder.admin.request("POST", "/explain").body(body)
    };
    let known = explain(json!(["Authorization: 1"])).await.assert_status(200).json();
    assert_eq!(known["callerParts"][0]["url"], json!("/me/enrollments"), "{known}");
    assert_eq!(known["callerParts"][0]["decision"], json!("lookup"), "{known}");
    assert_eq!((&known["decision"], &known["now"]["stored"]), (&json!("lookup"), &json!(true)), "{known}");
    let nobody = explain(json!([])).await.json();
    assert_eq!(nobody["callerParts"][0]["decision"], json!("anonymous"), "{nobody}");
    assert_eq!(nobody["key"], known["key"], "one part for all");
}

/// The courses of each caller.
type Enrollments = Arc<Mutex<BTreeMap<String, BTreeSet<i64>>>>;

/// Random callers read and write. Each answer is the present one of its caller.
#[tokio::test]
async fn no_caller_ever_sees_another_s_or_an_old_one() {
    let (upstream, state) = (Upstream::start(), Enrollments::default());
    upstream.on("/courses", Answer::json(r#"{"courses": [{"id": 0}, {"id": 1}, {"id": 2}, {"id": 3}]}"#));
    let of_caller = state.clone();
    upstream.on("/me/enrollments", move |request: &Received| {
        let caller = request.header("authorization").expect("a caller");
        let ids = of_caller.lock().expect("the state").get(&caller).cloned().unwrap_or_default();
        let list: Vec<Value> = ids.iter().map(|id| json!({"courseId": id})).collect();
        Answer::json(json!({"enrollments": list}).to_string())
    });
    let larder = Larder::with(YAML, &upstream);
    let (mut dice, mut tags) = (Dice::new(7, 0), BTreeMap::new());
    for _ in 0..400 {
        let (caller, course) = (format!("u{}", dice.below(5)), dice.below(4) as i64);
        match dice.below(8) {
            0 => {
                state.lock().expect("the state").entry(caller.clone()).or_default().insert(course);
                as_caller(larder.request("POST", &format!("/courses/{course}/enroll")), &caller)
                    .await
                    .assert_status(200);
            }
            1 => _ = larder.after(20),
            2 => _ = larder.request("PURGE", "/courses").await,
            _ => {
                let mine = state.lock().expect("the state").get(&caller).cloned().unwrap_or_default();
                let known =
                    tags.get(&caller).cloned().unwrap_or_else(|| (String::from("\"-\""), mine.clone()));
                let reply =
                    as_caller(larder.get("/courses"), &caller).header("if-none-match", &known.0).await;
                match reply.status {
                    304 => assert_eq!(known.1, mine, "{caller}"),
                    _ => {
                        let found: BTreeSet<i64> = enrolled(&reply).into_iter().collect();
                        assert_eq!(found, mine, "{caller}");
                        tags.insert(caller, (reply.header("etag").expect("a tag"), mine));
                    }
                }
            }
        }
    }
    assert!(upstream.count("/courses") < 100, "{}", upstream.count("/courses"));
}
