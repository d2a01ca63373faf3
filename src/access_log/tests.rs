use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode, Version};

use super::entry::RequestLine;
use super::*;
use crate::clock::Timestamp;
use crate::config::Fraction;
use crate::policy::cache_status::CacheOutcome;

/// 2025-11-20T12:00:00.000123Z
const AT: Timestamp = Timestamp::from_micros(1_763_640_000_000_123);

fn facts(target: &str, user_agent: &[u8]) -> AccessRecord {
    let upstream = UpstreamTime::default();
    upstream.add(Duration::from_micros(1500));
    AccessRecord {
        at: AT,
        client: "192.0.2.7".parse().ok(),
        line: Some(request_line(target, Version::HTTP_11)),
        referer: None,
        user_agent: Some(ClientText::copy(user_agent)),
        request_id: Some(ClientText::copy(b"r1")),
        trace_id: None,
        route: None,
        response: Some(ResponseInfo {
            status: StatusCode::OK,
            route: Some("things".into()),
            outcome: Some(CacheOutcome::Hit { ttl: 5, detail: None }),
        }),
        bytes: 2326,
        complete: true,
        first_byte: Some(Duration::from_millis(2)),
        duration: Duration::from_millis(3),
        upstream,
    }
}

fn request_line(target: &str, version: Version) -> RequestLine {
    RequestLine::new(&Method::GET, &target.parse().unwrap(), version)
}

fn written(write: fn(&AccessRecord, &mut Vec<u8>), facts: &AccessRecord) -> String {
    let mut out = Vec::new();
    write(facts, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn combined_is_apaches() {
    let mut facts = facts("/a?b=%22", b"curl/8");
    facts.referer = Some(ClientText::copy(b"http://x/"));
    let line = "192.0.2.7 - - [20/Nov/2025:12:00:00 +0000] \"GET /a?b=%22 HTTP/1.1\" 200 2326 \"http://x/\" \"curl/8\"\n";
    assert_eq!(written(combined::write, &facts), line);
    (facts.client, facts.bytes, facts.referer, facts.user_agent) = (None, 0, None, None);
    facts.line = Some(request_line("http://api/a", Version::HTTP_2));
    facts.response = None;
    let line = "- - - [20/Nov/2025:12:00:00 +0000] \"GET /a HTTP/2.0\" 499 - \"-\" \"-\"\n";
    assert_eq!(written(combined::write, &facts), line);
}

#[test]
fn a_request_that_could_not_be_read_has_a_line() {
    let mut facts = facts("/", b"");
    let response = ResponseInfo { status: StatusCode::BAD_REQUEST, route: None, outcome: None };
    (facts.line, facts.user_agent, facts.bytes, facts.response) = (None, None, 0, Some(response));
    let line = "192.0.2.7 - - [20/Nov/2025:12:00:00 +0000] \"-\" 400 - \"-\" \"-\"\n";
    assert_eq!(written(combined::write, &facts), line);
    let json: serde_json::Value = serde_json::from_str(&written(json::write, &facts)).unwrap();
    assert_eq!([&json["method"], &json["path"], &json["protocol"]], ["-"; 3]);
    assert_eq!((&json["status"], &json["client"]), (&400.into(), &"192.0.2.7".into()));
}

#[test]
fn nobody_forges_a_line() {
    let facts = facts("/a", b"x\" 200 1 \\ \t \x80\xff end");
    let line = written(combined::write, &facts);
    assert!(line.ends_with("\"x\\\" 200 1 \\\\ \\t \\x80\\xff end\"\n"), "{line}");
    assert_eq!(line.lines().count(), 1);
    let line = written(json::write, &facts);
    assert_eq!(line.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["user_agent"], "x\" 200 1 \\ \t \u{fffd}\u{fffd} end");
}

#[test]
fn what_a_client_chooses_is_cut() {
    let path = std::env::temp_dir().join(format!("larder-access-cut-{}", std::process::id()));
    let sample = Fraction::new(1.0).unwrap();
    let settings = AccessLogSettings { format: AccessFormat::Json, sample, path: Some(path.clone()) };
    let log = AccessLog::open(&settings).unwrap();
    let long = |text: &str| text.repeat(15_000);
    let method = Method::from_bytes(long("M").as_bytes()).unwrap();
    let request = Request::builder().method(method).uri(long("/a"));
    let request = request.header("user-agent", long("é")).header("referer", long("é")).body(()).unwrap();
    let mut entry = log.start_entry(&request, None, AT);
    entry.set_ids(long("é").parse().ok(), long("é").parse().ok());
    drop(entry);
    log.flush();
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for field in ["method", "path", "user_agent", "referer", "request_id", "trace_id"] {
        let value = json[field].as_str().unwrap();
        // The last character may be cut, too.
        assert!(value.ends_with("...") && (1024..=1026).contains(&value.len()), "{field}: {value}");
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn json_says_all_that_is_known() {
    let json: serde_json::Value =
        serde_json::from_str(&written(json::write, &facts("/a?b=c", b"curl"))).unwrap();
    let expected = serde_json::json!({
        "time": "2025-11-20T12:00:00.000123Z", "client": "192.0.2.7", "method": "GET", "path": "/a?b=c",
        "protocol": "HTTP/1.1", "status": 200, "bytes": 2326, "whole": true, "duration_ms": 3.0,
        "first_byte_ms": 2.0, "upstream_ms": 1.5, "route": "things", "cache": "hit", "request_id": "r1",
        "user_agent": "curl",
    });
    assert_eq!(json, expected);
}

#[test]
fn a_sample_is_about_its_part_and_errors_are_always_there() {
    let directory = std::env::temp_dir();
    let path = directory.join(format!("larder-access-{}", std::process::id()));
    let settings = AccessLogSettings {
        format: AccessFormat::Combined,
        sample: Fraction::new(0.1).unwrap(),
        path: Some(path.clone()),
    };
    let log = AccessLog::open(&settings).unwrap();
    let request = Request::get("/a").body(()).unwrap();
    let ask = |status, whole| {
        let mut entry = log.start_entry(&request, None, AT);
        entry.set_response(ResponseInfo { status, route: None, outcome: None });
        entry.set_complete(whole);
    };
    for _ in 0..10_000 {
        ask(StatusCode::OK, true);
    }
    for _ in 0..10 {
        ask(StatusCode::BAD_GATEWAY, true);
        ask(StatusCode::CREATED, false);
        drop(log.start_entry(&request, None, AT));
    }
    log.lines.flush(Duration::from_secs(20));
    let written = std::fs::read_to_string(&path).unwrap();
    let count = |status| written.lines().filter(|line| line.contains(status)).count();
    assert!((800..1200).contains(&count("\" 200 ")), "{}", count("\" 200 "));
    assert_eq!([count("\" 502 "), count("\" 201 "), count("\" 499 ")], [10, 10, 10]);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_can_not_be_made_is_named() {
    let path = Some("/nowhere/access.log".into());
    let sample = Fraction::new(1.0).unwrap();
    let error =
        AccessLog::open(&AccessLogSettings { format: AccessFormat::Json, sample, path }).err().unwrap();
    assert!(error.to_string().contains("/nowhere/access.log"), "{error}");
}

/// Not a bound, but a figure to look at: `cargo test --release -- --nocapture what_a_line_costs`.
#[test]
fn what_a_line_costs_whoever_answers() {
    let path = Some("/dev/null".into());
    let sample = Fraction::new(1.0).unwrap();
    let log = AccessLog::open(&AccessLogSettings { format: AccessFormat::Json, sample, path }).unwrap();
    let request = Request::get("/a?b=c").header("user-agent", "curl").body(()).unwrap();
    let began = Instant::now();
    for _ in 0..5_000 {
        let mut entry = log.start_entry(&request, None, AT);
        entry.set_response(ResponseInfo { status: StatusCode::OK, route: None, outcome: None });
        entry.set_complete(true);
    }
    println!("{:?} for each line", began.elapsed() / 5_000);
}
