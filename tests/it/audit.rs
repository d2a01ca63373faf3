//! The audit of hits: it finds what is wrong, and says nothing of what is right.

use serde_json::Value;

use crate::support::{Answer, Command, Larder, Received, Upstream, eventually};

/// Every hit is audited, and a purge has `settle` to arrive.
fn audited(settle: &str, routes: &str, upstream: &Upstream) -> Larder {
    let audit = format!("audit: {{sample: 100%, settle: {settle}, ignore: [$.at]}}");
    Larder::with(&format!("{audit}\nbackground: {{rate: 10000}}\nroutes:\n{routes}"), upstream)
}

const COURSES: &str = "
  - {path: /api/courses, ttl: 60s, tags: [courses]}
  - {path: '/api/courses/{id}/enroll', purges: []}
";

async fn report(larder: &Larder) -> Value {
    larder.admin.get("/audit").await.assert_status(200).json()
}

/// Waits until so many audits had this result.
async fn results(larder: &Larder, result: &str, count: u64) {
    let metric = format!("larder_background_requests_total{{kind=\"audit\",result=\"{result}\"}}");
    larder.metric_becomes(&metric, count as f64).await;
}

/// Waits for the only finding.
async fn finding(larder: &Larder) -> Value {
    eventually("a finding", || async {
        let report = report(larder).await;
        let findings = report["findings"].as_array().expect("a list").clone();
        assert!(findings.len() < 2, "{report:#}");
        findings.into_iter().next()
    })
    .await
}

fn text(body: &str) -> Answer {
    Answer::ok(body.to_owned()).header("content-type", "text/plain")
}

#[tokio::test]
async fn a_write_that_purges_too_little_is_named() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", Answer::json("{\"seats\": 2}"));
    let larder = audited("10ms", COURSES, &upstream);
    larder.get("/api/courses").await.assert_stored();
    larder.get("/api/courses").await.assert_hit();
    results(&larder, "same", 1).await;
    larder.after(1);
    upstream.on("/api/courses", Answer::json("{\"seats\": 1}"));
    larder.request("POST", "/api/courses/7/enroll").await.assert_status(200);
    larder.after(1);
    larder.get("/api/courses").await.assert_hit();
    let found = finding(&larder).await;
    assert_eq!(found["kind"], "purge-missing", "{found:#}");
    assert_eq!(found["route"], "/api/courses");
    assert_eq!(found["ageMs"], 2_000);
    assert_eq!(found["causes"][0]["write"], "POST /api/courses/{id}/enroll");
    assert_eq!(found["causes"][0]["path"], "/api/courses/7/enroll");
    let difference = &found["differences"][0];
    assert_eq!([&difference["place"], &difference["stored"], &difference["fresh"]], ["/seats", "2", "1"]);
    assert!(found["fix"].as_str().unwrap().contains("purges: [\"courses\"]"), "{found:#}");

    let admin = format!("http://{}", larder.admin.address());
    let ask = |more: &[&str]| {
        Command::new(&[&["audit", "--admin", &admin, "--token", "t"], more].concat()).output()
    };
    let shown = ask(&["--fail-on", "shared-wrongly"]).await;
    let said = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.status.success() && said.contains("  - /seats: 2\n  + /seats: 1\n"), "{said}");
    assert!(said.contains("after POST /api/courses/7/enroll at "), "{said}");
    assert_eq!(ask(&["--fail-on", "purge-missing"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn a_purge_that_is_under_way_explains_a_difference() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", text("old"));
    let larder = audited("10ms", "  - {path: /api/courses, ttl: 60s, tags: [courses]}", &upstream);
    larder.get("/api/courses").await.assert_stored();
    // The write has taken effect, and its response is not back yet.
    upstream.on("/api/courses", text("new"));
    let held = upstream.hold("/api/courses");
    let write = larder.request("POST", "/api/courses").spawn();
    held.arrived().await;
    larder.get("/api/courses").await.assert_hit();
    results(&larder, "undecided", 1).await;
    held.release();
    write.await.unwrap().assert_status(200);
    assert!(!larder.get("/api/courses").await.is_hit());
    assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_purge_within_settle_explains_a_difference() {
    let upstream = Upstream::start();
    upstream.on("/a", text("old"));
    // The test ends earlier: a purge is all that it waits for.
    let larder = audited("3s", "  - {path: /a, ttl: 60s, tags: [a]}", &upstream);
    larder.get("/a").await.assert_stored();
    upstream.on("/a", text("new"));
    larder.get("/a").await.assert_hit();
    upstream.has_received("/a", 2).await;
    larder.request("PURGE", "/a").await.assert_status(200);
    results(&larder, "purged", 1).await;
    assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_right_file_has_no_findings() {
    let upstream = Upstream::start();
    let routes = "
  - {path: /api/courses, ttl: 60s, tags: [courses]}
  - {path: '/api/courses/{id}/enroll', purges: [courses]}
";
    let larder = audited("0s", routes, &upstream);
    for round in 0..20 {
        upstream.on("/api/courses", text(&format!("round {round}")));
        larder.request("POST", "/api/courses/7/enroll").await.assert_status(200);
        larder.after(1);
        larder.get("/api/courses").await.assert_stored();
        larder.get("/api/courses").await.assert_hit();
        results(&larder, "same", round + 1).await;
    }
    assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_change_beside_an_unrelated_write_is_not_laid_to_it() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", text("old"));
    let larder = audited("0s", COURSES, &upstream);
    larder.get("/api/courses").await.assert_stored();
    larder.after(1);
    upstream.on("/api/courses", text("new"));
    larder.request("POST", "/login").await.assert_status(200);
    larder.get("/api/courses").await.assert_hit();
    let found = finding(&larder).await;
    assert_eq!(found["kind"], "changed-within-ttl", "{found:#}");
    assert_eq!(found["causes"][0]["write"], "POST /login");
    assert_eq!(found["differences"][0]["place"], "content at byte 0");
}

#[tokio::test]
async fn a_response_that_has_expired_since_is_not_judged() {
    let upstream = Upstream::start();
    upstream.on("/a", text("old"));
    let larder = audited("0s", "  - {path: /a, ttl: 60s}", &upstream);
    larder.get("/a").await.assert_stored();
    upstream.on("/a", text("new"));
    let held = upstream.hold("/a");
    larder.get("/a").await.assert_hit();
    held.arrived().await;
    larder.after(61);
    held.release();
    results(&larder, "superseded", 1).await;
    assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_response_that_is_not_for_all_is_named() {
    for (anonymous, readers) in [(200, &["bob"][..]), (401, &["bob", "cleo"])] {
        let upstream = Upstream::start();
        upstream.on("/a", move |request: &Received| match request.header("authorization") {
            Some(caller) => text(&format!("for {caller}")),
            None => Answer::status(anonymous),
        });
        let larder = audited("0s", "  - {path: /a, ttl: 60s, shared: true}", &upstream);
        larder.get("/a").header("authorization", "ada").await.assert_stored();
        for reader in readers {
            larder.get("/a").header("authorization", reader).await.assert_hit().assert_text("for ada");
        }
        eventually("it is found", || async {
            let report = report(&larder).await;
            let findings = report["findings"].as_array().unwrap().clone();
            findings.into_iter().find(|finding| finding["kind"] == "shared-wrongly")
        })
        .await;
    }
}

#[tokio::test]
async fn what_varies_by_itself_is_told_apart_and_can_be_ignored() {
    let upstream = Upstream::start();
    for (path, member) in [("/ignored", "at"), ("/found", "id")] {
        upstream
            .on(path, move |request: &Received| Answer::json(format!("{{\"{member}\": {}}}", request.nth)));
    }
    let larder = audited("0s", "  - {path: '/{name}', ttl: 60s}", &upstream);
    larder.get("/ignored").await.assert_stored();
    larder.get("/ignored").await.assert_hit();
    results(&larder, "same", 1).await;
    larder.get("/found").await.assert_stored();
    larder.get("/found").await.assert_hit();
    let found = finding(&larder).await;
    assert_eq!([&found["kind"], &found["differences"][0]["place"]], ["varies", "/id"], "{found:#}");
}

#[tokio::test]
async fn it_is_off_until_it_is_asked_for_and_can_be_turned_on() {
    let upstream = Upstream::start();
    upstream.on("/a", text("same"));
    let routes = "routes: [{path: /a, ttl: 60s}]";
    let larder = Larder::with(routes, &upstream);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    upstream.is_left_alone().await;
    assert_eq!((upstream.count("/a"), &report(&larder).await["enabled"]), (1, &Value::Bool(false)));
    larder.reconfigure(&format!("audit: {{sample: 1, settle: 0s}}\n{routes}")).await;
    eventually("it is on", || async { (report(&larder).await["enabled"] == true).then_some(()) }).await;
    larder.get("/a").await.assert_hit();
    results(&larder, "same", 1).await;
}

/// The text names the edition, and the value of the field that selects the variant.
fn edition(number: u32, vary: &'static str) -> impl Fn(&Received) -> Answer + Send + Sync + 'static {
    move |request| {
        let field = |name: &str| request.header(name).unwrap_or_default();
        let selected = if vary == "authorization" { field(vary) } else { field("accept-language") };
        text(&format!("{selected} {number}")).header("vary", vary)
    }
}

#[tokio::test]
async fn another_caller_is_asked_for_the_same_variant() {
    for vary in ["accept-language", "authorization"] {
        let upstream = Upstream::start();
        upstream.on("/a", edition(1, vary));
        let larder = audited("0s", "  - {path: /a, ttl: 60s, shared: true}", &upstream);
        let get = |caller, language| {
            larder.get("/a").header("authorization", caller).header("accept-language", language)
        };
        get("bob", "de").await.assert_stored();
        get("bob", "de").await.assert_hit();
        results(&larder, "same", 1).await;
        get("ada", "en").await.assert_stored();
        upstream.on("/a", edition(2, vary));
        get("ada", "en").await.assert_hit();
        assert_eq!(finding(&larder).await["kind"], "changed-within-ttl", "{vary}");
    }
}

#[tokio::test]
async fn an_answer_that_refuses_a_caller_is_no_finding() {
    for (refused, status) in [("bob", 401), ("bob", 403), ("bob", 429), ("ada", 401), ("ada", 429)] {
        let upstream = Upstream::start();
        upstream.on("/a", text("old"));
        let larder = audited("0s", "  - {path: /a, ttl: 60s, shared: true}", &upstream);
        larder.get("/a").header("authorization", "bob").await.assert_stored();
        larder.get("/a").header("authorization", "bob").await.assert_hit();
        results(&larder, "same", 1).await;
        upstream.on("/a", move |request: &Received| match request.header("authorization") {
            Some(caller) if caller == refused => Answer::status(status),
            _ => text("new"),
        });
        larder.get("/a").header("authorization", "ada").await.assert_hit();
        results(&larder, "failed", 1).await;
        assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()), "{refused} {status}");
    }
}

#[tokio::test]
async fn fields_that_are_not_stored_are_not_compared() {
    let upstream = Upstream::start();
    upstream.on("/a", text("same").header("link", "</b>"));
    let larder = audited("0s", "  - {path: /a, ttl: 60s, drop_response: [link]}", &upstream);
    larder.get("/a").await.assert_stored();
    larder.get("/a").await.assert_hit();
    results(&larder, "same", 1).await;
}

#[tokio::test]
async fn a_larger_answer_is_not_compared() {
    let upstream = Upstream::start();
    upstream.on("/a", text("short"));
    let larder = audited("0s", "  - {path: /a, ttl: 60s}", &upstream);
    larder.get("/a").await.assert_stored();
    upstream.on("/a", Answer::generated((1 << 20) + 1));
    larder.get("/a").await.assert_hit();
    results(&larder, "skipped", 1).await;
}

#[tokio::test]
async fn a_mended_file_has_no_findings_of_the_former_one() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", text("old"));
    let larder = audited("0s", COURSES, &upstream);
    let configuration = |routes: &str| {
        let audit = "audit: {sample: 100%, settle: 0s, ignore: [$.at]}";
        format!("{audit}\nbackground: {{rate: 5000}}\nroutes:\n{routes}")
    };
    larder.get("/api/courses").await.assert_stored();
    upstream.on("/api/courses", text("new"));
    larder.request("POST", "/api/courses/7/enroll").await.assert_status(200);
    larder.get("/api/courses").await.assert_hit();
    finding(&larder).await;
    larder.reconfigure(&configuration(COURSES)).await;
    assert_eq!(report(&larder).await["findings"].as_array().map(Vec::len), Some(1));
    let mended = COURSES.replace("purges: []", "purges: [courses]");
    larder.reconfigure(&configuration(&mended)).await;
    eventually("it is gone", || async {
        report(&larder).await["findings"].as_array().is_some_and(Vec::is_empty).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_purge_before_the_last_answer_explains_a_difference() {
    let upstream = Upstream::start();
    upstream.on("/a", text("old"));
    let larder = audited("0s", "  - {path: /a, ttl: 60s, tags: [a]}", &upstream);
    larder.get("/a").await.assert_stored();
    upstream.on("/a", text("new"));
    let first = upstream.hold("/a");
    larder.get("/a").await.assert_hit();
    first.arrived().await;
    let second = upstream.hold("/a");
    first.release();
    second.arrived().await;
    larder.request("PURGE", "/a").await.assert_status(200);
    second.release();
    results(&larder, "purged", 1).await;
    assert_eq!(report(&larder).await["findings"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn an_audit_has_an_identity_of_its_own() {
    let upstream = Upstream::start();
    upstream.on("/a", text("same"));
    let larder = audited("0s", "  - {path: /a, ttl: 60s}", &upstream);
    larder.get("/a").await.assert_stored();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let hit = larder.get("/a").header("x-request-id", "client-1").header("traceparent", trace);
    hit.header("tracestate", "a=b").header("x-kept", "1").await.assert_hit();
    results(&larder, "same", 1).await;
    let received = upstream.last("/a");
    assert_ne!(received.header("x-request-id").as_deref(), Some("client-1"));
    assert_eq!((received.header("traceparent"), received.header("tracestate")), (None, None));
    assert_eq!(received.header("x-kept").as_deref(), Some("1"));
}
