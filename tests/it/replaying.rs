//! `larder audit --replay`: a pipeline's answer to whether a configuration serves something old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use crate::support::{Answer, Command, Received, Scratch, Upstream};

/// Courses whose seats an enrolment takes.
fn api() -> Upstream {
    let seats = Arc::new(AtomicU64::new(20));
    let upstream = Upstream::start();
    let list = |seats: u64| Answer::json(format!("{{\"seats\": {seats}}}"));
    let read = seats.clone();
    upstream.on("/api/courses", move |_: &Received| list(read.load(Ordering::SeqCst)));
    upstream.on("/api/courses/7/enroll", move |request: &Received| {
        assert_eq!(request.body, b"{\"seats\": 1}");
        seats.fetch_sub(1, Ordering::SeqCst);
        Answer::status(204)
    });
    upstream
}

const REQUESTS: &str = "### the list
GET https://api.example/api/courses
Authorization: Bearer {{TOKEN}}

### a hit
GET /api/courses
Host: api.example
###
POST /api/courses/7/enroll
Host: api.example
Content-Type: application/json

{\"seats\": 1}

### again
GET /api/courses
Host: api.example
";

/// A configuration with what an enrolment purges, and Redis, a rate and a log that a replay does without.
fn config(purges: &str, upstream: &str) -> String {
    format!(
        "upstream: {upstream}
store: {{redis: redis://127.0.0.1:1/0}}
log: {{access: json}}
audit: {{sample: 0.1%, settle: 1ms}}
admin: {{token: secret}}
defaults: {{rate: {{limit: 1/h}}, shared: true}}
routes:
  - {{path: /api/courses, ttl: 60s, tags: [courses]}}
  - {{path: '/api/courses/{{id}}/enroll', purges: {purges}}}
"
    )
}

async fn replay(config: &str, requests: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let scratch = Scratch::new();
    scratch.file("proxy.yaml", config);
    scratch.file("requests.http", requests);
    let command = [&["audit", "--replay", "requests.http"], more].concat();
    let output = Command::new(&command).directory(scratch.path()).env("TOKEN", "t").output().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn a_missing_purge_fails_a_pipeline_and_names_the_line() {
    let upstream = api();
    let wrong = config("[]", &upstream.url());
    let (code, report, said) = replay(&wrong, REQUESTS, &["--fail-on", "stale"]).await;
    assert_eq!(code, Some(1), "{report}{said}");
    for part in [
        "replayed 4 requests of requests.http: 2 hits, 1 write, 0 without an answer\n",
        "audits: 1 purge-missing, 1 same\n",
        "GET /api/courses (requests.http:16), stored ",
        "  - /seats: 20\n  + /seats: 19\n  after POST /api/courses/7/enroll at ",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    let (code, report, _) = replay(&wrong, REQUESTS, &["--fail-on", "shared-wrongly", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((code, &report["replay"]["hits"], &report["pending"]), (Some(0), &2.into(), &0.into()));
}

#[tokio::test]
async fn a_right_file_passes_and_every_hit_is_compared() {
    let upstream = api();
    let repeated = format!("{REQUESTS}\n###\n{}", "GET /api/courses\nHost: api.example\n###\n".repeat(100));
    let right = config("[courses]", "http://127.0.0.1:1");
    let upstream = ["--fail-on", "stale", "--upstream", &upstream.url()];
    let (code, report, said) = replay(&right, &repeated, &upstream).await;
    assert_eq!(code, Some(0), "{report}{said}");
    assert!(
        report.contains(": 101 hits, 1 write, 0 without") && report.contains("audits: 101 same\n"),
        "{report}"
    );
}

/// A gate that compared nothing is not passed.
#[tokio::test]
async fn without_an_audit_nothing_is_proved() {
    let upstream = api();
    let config = config("[courses]", &upstream.url());
    let (code, report, said) = replay(&config, "GET /api/courses\n", &["--fail-on", "stale"]).await;
    assert!(code == Some(1) && said.contains("no hit was audited"), "{report}{said}");
    let (code, report, said) = replay(&config, "GET /api/courses\n", &[]).await;
    assert_eq!(code, Some(0), "{report}{said}");
}

#[tokio::test]
async fn requests_that_nobody_answers_are_no_success() {
    let config = config("[courses]", &Upstream::nowhere());
    let (code, report, said) = replay(&config, REQUESTS, &[]).await;
    assert_eq!(code, Some(1), "{report}{said}");
    assert!(report.contains("4 without an answer\n  requests.http:2: the API did not answer\n"), "{report}");
}

#[tokio::test]
async fn a_file_that_cannot_be_played_is_refused_with_its_lines() {
    let config = config("[courses]", "http://127.0.0.1:1");
    let (code, _, said) = replay(&config, "GET /a\n###\nGET b\n###\nGET /c\n{{secret\n", &[]).await;
    assert_eq!(code, Some(2), "{said}");
    for part in
        ["requests.http:3: error: the target is no path", "requests.http:6: error: this is no request field"]
    {
        assert!(said.contains(part), "{part}\n{said}");
    }
    let (code, _, said) = replay("upstream: nowhere\n", "GET /a\n", &[]).await;
    assert!(code == Some(2) && said.contains("the configuration has errors"), "{said}");
}
