use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};

use super::*;
use crate::config::Fraction;
use crate::policy::json_query::JsonQuery;
use crate::policy::{Fingerprint, fixtures};
use crate::purge::{Epoch, PurgeVersion, ReadVersion};
use crate::stored_response::{StoredFields, StoredHead, Terms};

fn settings(ignore: &[&str]) -> AuditSettings {
    AuditSettings {
        sample: Fraction::new(1.0).unwrap(),
        ignored_json: ignore.iter().map(|query| JsonQuery::parse(query).unwrap()).collect(),
        ignored_fields: vec![http::header::LINK],
        settle: Duration::ZERO,
        sees_all_writes: false,
    }
}

fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    fixtures::fields(lines)
}

fn compare(stored: &str, fresh: &str, lines: &[(&'static str, &str)], ignore: &[&str]) -> Comparison {
    let headers = fields(lines);
    let observed = |body: &str| Observed {
        status: StatusCode::OK,
        headers: headers.clone(),
        body: Bytes::from(body.to_owned()),
    };
    Comparison::new(&observed(stored), &observed(fresh), &settings(ignore))
}

fn places(comparison: &Comparison) -> Vec<&str> {
    match comparison {
        Comparison::Same => Vec::new(),
        Comparison::Different(differences) => differences.iter().map(|it| it.place.as_str()).collect(),
        Comparison::Incomparable => vec!["incomparable"],
    }
}

#[test]
fn json_is_compared_by_its_values_and_all_else_by_its_bytes() {
    let json: &[_] = &[("content-type", "application/json")];
    let plain: &[_] = &[("content-type", "text/plain")];
    let coded: &[_] = &[("content-type", "application/json"), ("content-encoding", "br")];
    for (stored, fresh, lines, ignore, expected) in [
        (r#"{"a": 1, "b": 2}"#, r#"{"b":2,"a":1}"#, json, &[][..], &[][..]),
        (r#"{"a": 1}"#, r#"{"a": 2}"#, json, &[], &["/a"]),
        (r#"{"a": 1}"#, r#"{"a": 2}"#, json, &["$.a"], &[]),
        (r#"{"a": 1}"#, r#"{"a": 2}"#, json, &["/a"], &[]),
        (r#"{"a": 1}"#, r#"{}"#, json, &["$.b"], &["/a"]),
        (r#"{"a": null}"#, r#"{"a": null, "b/c": 1}"#, json, &[], &["/b~1c"]),
        (r#"[{"a": 1}, {"a": 2}]"#, r#"[{"a": 1}, {"a": 3}]"#, json, &[], &["/1/a"]),
        (r#"[{"a": 1}, {"a": 2}]"#, r#"[{"a": 7}, {"a": 3}]"#, json, &["$[*].a"], &[]),
        ("[1]", "[1, 2]", json, &[], &["content"]),
        ("{", "[", json, &[], &["content at byte 0"]),
        ("abc", "abd", plain, &[], &["content at byte 2"]),
        ("abc", "abc", plain, &[], &[]),
        ("abc", "abd", coded, &[], &["incomparable"]),
    ] {
        assert_eq!(places(&compare(stored, fresh, lines, ignore)), expected, "{stored} {fresh}");
    }
}

#[test]
fn status_and_some_fields_count() {
    let mut other = fields(&[("content-type", "text/plain"), ("x-request-id", "2"), ("link", "<b>")]);
    let stored = fields(&[("content-type", "text/plain"), ("x-request-id", "1"), ("link", "<a>")]);
    let observed = |status: StatusCode, headers: &HeaderMap| Observed {
        status,
        headers: headers.clone(),
        body: Bytes::from_static(b"a"),
    };
    let same = Comparison::new(
        &observed(StatusCode::OK, &stored),
        &observed(StatusCode::OK, &other),
        &settings(&[]),
    );
    assert_eq!(same, Comparison::Same);
    other.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    other.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    let gone = observed(StatusCode::GONE, &other);
    let different = Comparison::new(&observed(StatusCode::OK, &stored), &gone, &settings(&[]));
    assert_eq!(places(&different), ["status", "header.content-type"]);
}

#[test]
fn a_difference_is_bounded_whatever_the_documents_are() {
    let wide = |value: &str| {
        let members: Vec<_> =
            (0..5_000).map(|at| format!("\"{}{at}\": \"{}\"", "n".repeat(50), value.repeat(20))).collect();
        format!("{{{}}}", members.join(","))
    };
    let comparison = compare(&wide("é"), &wide("ü"), &[("content-type", "application/json")], &[]);
    let Comparison::Different(differences) = &comparison else { panic!("{comparison:?}") };
    assert_eq!(differences.len(), 8);
    assert!(differences.iter().all(|it| it.place.len() < 90 && it.stored.len() < 90 && it.fresh.len() < 90));
}

fn time(second: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + second)
}

fn sample(path: &str, caller: Option<u64>, body: usize) -> AuditSample {
    let authorization = caller.map(|caller| (AUTHORIZATION, HeaderValue::from(caller)));
    let terms = Terms { freshness_lifetime: Duration::from_secs(60), ..Terms::unstored(time(0), time(0)) };
    let head = StoredHead {
        fetched_here: false,
        key: CacheKey([7; 32]),
        fingerprint: Fingerprint(1),
        status: StatusCode::OK,
        fields: StoredFields::new(&HeaderMap::new(), &[""; 0]),
        terms: terms.into(),
        stamp: ReadVersion { epoch: Epoch(0), version: PurgeVersion(0), time: time(0) },
        targets: Box::new([]),
        found_valid: Default::default(),
        evaluated_under: Default::default(),
        usage: Default::default(),
    };
    AuditSample {
        request: SampledRequest {
            uri: path.parse().unwrap(),
            version: Version::HTTP_11,
            headers: authorization.clone().into_iter().collect(),
            peer: None,
            is_tls: false,
            credentials: authorization.into_iter().map(|(name, _)| name).collect(),
        },
        route: Arc::new(fixtures::route("/api/courses")),
        key: CacheKey([7; 32]),
        stored: StoredResponse { head: Arc::new(head), body: Bytes::from(vec![0; body]) },
        served_at: time(10),
    }
}

fn fresh() -> FreshAnswer {
    let (status, headers, body) = (StatusCode::OK, HeaderMap::new(), Bytes::new());
    FreshAnswer { response: Observed { status, headers, body }, received_at: time(11) }
}

fn write(method: &Method, path: &str, second: u64) -> AcknowledgedWrite {
    AcknowledgedWrite::new(method, path, None, (time(second), time(second)))
}

#[test]
fn only_so_many_hits_wait_and_none_is_large() {
    let audit = Audit::new(&settings(&[]));
    assert!(!audit.submit(sample("/a", None, MAX_AUDITED_BYTES + 1)));
    let mut wide = sample("/a", None, 1);
    wide.request.headers.insert("cookie", HeaderValue::from_bytes(&vec![b'a'; MAX_FIELD_BYTES]).unwrap());
    assert!(!audit.submit(wide));
    let queued = (0..100).filter(|_| audit.submit(sample("/a", None, MAX_AUDITED_BYTES))).count();
    assert_eq!(queued, MAX_QUEUED);
}

#[test]
fn a_caller_is_remembered_for_the_next_one() {
    let audit = Audit::new(&settings(&[]));
    let exchange = |caller| {
        let known = audit.exchange_caller(&sample("/a", caller, 1))?;
        known.get(AUTHORIZATION)?.to_str().ok()?.parse::<u64>().ok()
    };
    assert_eq!(exchange(None), None);
    assert_eq!(exchange(Some(1)), None);
    assert_eq!(exchange(Some(1)), None);
    assert_eq!(exchange(None), None);
    assert_eq!(exchange(Some(2)), Some(1));
    for caller in 3..1_000 {
        exchange(Some(caller));
    }
    assert_eq!(audit.callers.lock().len(), MAX_CALLERS);
    let later = AuditSample { served_at: time(100), ..sample("/a", Some(1), 1) };
    assert!(audit.exchange_caller(&later).is_none(), "they are forgotten");
    audit.forget_callers(time(159));
    assert_eq!(audit.callers.lock().len(), 1);
    audit.forget_callers(time(160));
    assert_eq!(audit.callers.lock().len(), 0);
}

#[test]
fn a_write_is_the_cause_if_the_evidence_is_for_it() {
    let audit = Audit::new(&settings(&[]));
    let change = || audit.record_change(&sample("/api/courses", None, 1), &fresh(), &[]);
    assert_eq!(change(), FindingKind::ChangedWithinTtl);
    // Before the response was fetched, and of something else.
    let before = Timestamp::from_secs(5);
    audit.record_write(AcknowledgedWrite::new(&Method::POST, "/api/courses/1", None, (before, before)));
    audit.record_write(write(&Method::POST, "/login", 5));
    assert_eq!(change(), FindingKind::ChangedWithinTtl);
    // A stranger becomes likely by evidence alone.
    assert_eq!(change(), FindingKind::ChangedWithinTtl);
    assert_eq!(change(), FindingKind::PurgeMissing);
    let found = audit.findings();
    assert_eq!((found[0].causes[0].write.as_str(), found[0].causes[0].different), ("POST /login", 3));
    // A relative is likely at once, and not after it was seen to change nothing.
    audit.record_write(write(&Method::POST, "/api/courses/7/enroll", 6));
    assert_eq!(change(), FindingKind::PurgeMissing);
    assert_eq!(audit.findings()[0].causes[0].write, "POST /api/courses/{}/enroll");
    for _ in 0..50 {
        audit.record_same(&sample("/api/courses", None, 1), &fresh());
    }
    assert_eq!(change(), FindingKind::ChangedWithinTtl);
}

#[test]
fn a_replay_knows_all_writes() {
    let audit = Audit::new(&AuditSettings { sees_all_writes: true, ..settings(&[]) });
    let change = || audit.record_change(&sample("/api/courses/7", None, 1), &fresh(), &[]);
    assert_eq!(change(), FindingKind::ChangedWithinTtl);
    audit.record_write(write(&Method::POST, "/orders", 5));
    assert_eq!(change(), FindingKind::PurgeMissing);
    assert_eq!(audit.findings()[0].causes[0].write, "POST /orders");
}

#[test]
fn writes_evidence_and_findings_are_bounded() {
    let audit = Audit::new(&settings(&[]));
    for number in 0..5_000 {
        let path = format!("/{}/{number}", "x".repeat(number % 20 + 1));
        audit.record_write(write(&Method::from_bytes(format!("M{number}").as_bytes()).unwrap(), &path, 5));
        if number % 500 == 0 {
            audit.record_change(&sample("/api/courses", None, 1), &fresh(), &[]);
        }
    }
    let history = audit.writes.lock();
    let (writes, pairs) = (history.writes.len(), history.evidence.len());
    assert!(writes == 1_024 && pairs <= 2_048, "{writes} {pairs}");
    drop(history);
    for number in 0..500 {
        let mut sample = sample("/a", None, 1);
        sample.route = Arc::new(fixtures::route(&format!("/a{number}")));
        audit.record_finding(&sample, FindingKind::Varies, &[], Vec::new());
        audit.record_finding(&sample, FindingKind::Varies, &[], Vec::new());
    }
    let findings = audit.findings();
    assert_eq!((findings.len(), findings[0].count, findings[0].route.as_str()), (100, 2, "/a499"));
}

#[test]
fn new_evidence_takes_the_place_of_the_oldest() {
    let audit = Audit::new(&settings(&[]));
    audit.record_write(write(&Method::POST, "/api/courses/7/enroll", 5));
    let change = |index: usize| {
        let mut route = fixtures::route("/api/courses");
        route.index = index;
        let sample = AuditSample { route: Arc::new(route), ..sample("/api/courses", None, 1) };
        audit.record_change(&sample, &fresh(), &[])
    };
    for index in 0..5_000 {
        assert_eq!(change(index), FindingKind::PurgeMissing, "{index}");
    }
    let pairs = audit.writes.lock().evidence.len();
    assert!((1_024..=2_048).contains(&pairs), "{pairs}");
}

#[test]
fn a_client_that_writes_to_many_paths_makes_few_kinds() {
    let audit = Audit::new(&settings(&[]));
    let route = fixtures::route("/api/courses/{id}/enroll");
    let letters = |number: usize| -> String {
        number.to_string().bytes().map(|digit| char::from(digit + b'a' - b'0')).collect()
    };
    for number in 0..900 {
        audit.record_write(write(&Method::POST, &format!("/x{}", letters(number)), 5));
        let method = Method::from_bytes(format!("M{number}").as_bytes()).unwrap();
        audit.record_write(AcknowledgedWrite::new(
            &method,
            "/api/courses/7/enroll",
            Some(&route),
            (time(5), time(5)),
        ));
    }
    let enroll = |at| {
        AcknowledgedWrite::new(&Method::POST, "/api/courses/7/enroll", Some(&route), (time(at), time(at)))
    };
    audit.record_write(enroll(5));
    let change = audit.record_change(&sample("/api/courses", None, 1), &fresh(), &[]);
    let causes = audit.findings()[0].causes.clone();
    assert_eq!(
        (change, causes[0].write.as_str()),
        (FindingKind::PurgeMissing, "POST /api/courses/{id}/enroll")
    );
    let pairs = audit.writes.lock().evidence.len();
    assert!(pairs < 140, "{pairs}");
    for _ in 0..MAX_QUEUED * 100 {
        audit.record_write(enroll(6));
    }
    audit.record_write(write(&Method::POST, "/login", 7));
    audit.record_change(&sample("/api/pupils", None, 1), &fresh(), &[]);
    let writes: Vec<_> = audit.findings()[0].causes.iter().map(|cause| cause.write.clone()).collect();
    assert!(writes.contains(&"POST /login".to_owned()), "kinds are forgotten with their writes: {writes:?}");
}

#[test]
fn a_fix_names_only_places_that_the_configuration_accepts() {
    let audit = Audit::new(&settings(&[]));
    let long = format!("/{}", "n".repeat(200));
    for (place, fix) in [
        ("content at byte 0", "add its place to"),
        ("status", "add its place to"),
        ("content", "add its place to"),
        (&*long, "add its place to"),
        ("/items/0/at", "add `/items/0/at` to"),
        ("header.link", "add `header.link` to"),
    ] {
        let difference = Difference { place: compare::bounded(place), stored: "1".into(), fresh: "2".into() };
        audit.record_finding(&sample("/a", None, 1), FindingKind::Varies, &[difference], Vec::new());
        let found = audit.findings()[0].fix.clone();
        assert!(found.starts_with(fix), "{place}: {found}");
    }
}
