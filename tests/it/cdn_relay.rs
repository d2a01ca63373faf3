//! Purges that are relayed to the caches in front of larder, whose APIs are upstreams here.

use std::collections::HashSet;
use std::sync::Arc;

use crate::support::{Answer, Larder, Received, Reply, Upstream, bearer};

const ROUTES: &str = "
routes:
  - path: /courses/{id}
    ttl: 60s
    tags: [courses, \"tenant:1/course:{id}\"]
  - {path: /other, ttl: 60s, shared: true, tags: [other, \"u:{jwt.sub}\"]}
  - path: /courses/{id}/enroll
    purges: [\"tenant:1/course:{request.json:/id}\"]
";

fn config(cdn: &str) -> String {
    format!("cdn: [{cdn}]{ROUTES}")
}

fn fastly(cdn: &Upstream, more: &str) -> String {
    config(&format!("{{type: fastly, service: s1, token: t0k3n, url: '{}/api', {more}}}", cdn.url()))
}

fn http(cdn: &Upstream, more: &str) -> String {
    config(&format!("{{type: http, url: '{}/purge', {more}}}", cdn.url()))
}

const ONCE: &str = "at_start: keep, repeat: 0s";

fn names(list: &str) -> HashSet<String> {
    list.split([' ', ',']).map(str::to_owned).collect()
}

fn listed(reply: Reply, field: &str) -> HashSet<String> {
    names(&reply.assert_stored().header(field).expect("a list"))
}

async fn nth(cdn: &Upstream, path: &str, n: usize) -> Arc<Received> {
    cdn.has_received(path, n).await;
    cdn.received(path)[n - 1].clone()
}

#[tokio::test]
async fn each_purge_names_what_the_response_lists_at_fastly() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let larder = Larder::with(&fastly(&cdn, ONCE), &upstream);
    let course = listed(larder.get("/courses/7?x=1").await, "surrogate-key");
    let other = listed(larder.get("/other").await, "surrogate-key");
    assert!(course.is_superset(&names("courses tenant:1 tenant:1/course:7")), "{course:?}");
    let purge = "/api/service/s1/purge";
    let mut sent = 0;
    for (method, target, field) in [
        ("PURGE", "/any", ("cache-tag", "COURSES")),
        ("PURGE", "/any", ("cache-tag", "tenant:1")),
        ("PURGE", "/any", ("cache-tag", "tenant:1/course:07")),
        ("PURGE", "/courses/7", ("x-any", "")),
        ("PURGE", "/courses/*", ("x-any", "")),
        ("POST", "/courses/7", ("x-any", "")),
        ("POST", "/courses/7/enroll", ("content-type", "application/json")),
    ] {
        let content = if method == "POST" { r#"{"id": 7}"# } else { "" };
        larder.request(method, target).header(field.0, field.1).body(content).await.assert_status(200);
        sent += 1;
        let request = nth(&cdn, purge, sent).await;
        assert_eq!((&*request.method, request.header("fastly-key").as_deref()), ("POST", Some("t0k3n")));
        assert_eq!(request.header("fastly-soft-purge"), None);
        let purged = names(&request.header("surrogate-key").expect("names"));
        assert!(!purged.is_disjoint(&course), "{method} {target} {field:?}: {purged:?} {course:?}");
        assert!(purged.is_disjoint(&other), "{method} {target} {field:?}");
    }
    let soft = larder.admin.request("POST", "/purge").body(r#"{"tags": ["courses"], "soft": true}"#);
    soft.await.assert_status(200);
    assert_eq!(nth(&cdn, purge, sent + 1).await.header("fastly-soft-purge").as_deref(), Some("1"));
    larder.admin.request("DELETE", "/cache").await.assert_status(200);
    assert_eq!(nth(&cdn, "/api/service/s1/purge_all", 1).await.header("surrogate-key"), None);
}

#[tokio::test]
async fn no_cache_in_front_stores_what_it_could_not_purge() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let larder = Larder::with(&fastly(&cdn, ONCE), &upstream);
    let of_ann = larder.get("/other").header("authorization", &bearer(r#"{"sub":"ann"}"#)).await;
    of_ann.assert_header("surrogate-key", None).assert_header("cache-control", "private, no-cache");
}

#[tokio::test]
async fn cloudflare_gets_30_tags_at_once() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let settings =
        format!("{{type: cloudflare, zone: z1, token: t0k3n, url: '{}/v4', repeat: 0s}}", cdn.url());
    let larder = Larder::with(&config(&settings), &upstream);
    let path = "/v4/zones/z1/purge_cache";
    // It may have missed something while larder was away.
    let first = nth(&cdn, path, 1).await;
    assert_eq!(first.body, br#"{"purge_everything":true}"#);
    assert_eq!(first.header("authorization").as_deref(), Some("Bearer t0k3n"));
    let course = listed(larder.get("/courses/7").await, "cache-tag");
    let many: Vec<String> =
        (0..40).map(|at| format!("\"t{at}\"")).chain(["\"courses\"".to_owned()]).collect();
    let purge = larder.admin.request("POST", "/purge").body(format!("{{\"tags\": [{}]}}", many.join(",")));
    purge.await.assert_status(200);
    let mut purged = Vec::new();
    for n in [2, 3] {
        let body: serde_json::Value = serde_json::from_slice(&nth(&cdn, path, n).await.body).unwrap();
        let tags: Vec<String> = serde_json::from_value(body["tags"].clone()).unwrap();
        assert!(tags.len() <= 30, "{}", tags.len());
        purged.extend(tags);
    }
    assert_eq!(purged.len(), 41);
    assert!(purged.iter().any(|name| course.contains(name)));
}

#[tokio::test]
async fn a_purge_that_fails_is_sent_until_it_is_taken() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    cdn.once("/purge", Answer::status(503).header("retry-after", "0"));
    cdn.once("/purge", Answer::hang_up());
    let larder = Larder::with(&http(&cdn, &format!("method: BAN, token: t0k3n, {ONCE}")), &upstream);
    for tag in ["courses", "other"] {
        larder.request("PURGE", "/").header("cache-tag", tag).await.assert_status(200);
    }
    cdn.has_received("/purge", 3).await;
    let counted =
        |result: &str| format!("larder_cdn_purge_requests_total{{cdn=\"http\",result=\"{result}\"}}");
    larder.metric_becomes(&counted("failed"), 2.0).await;
    larder.metric_becomes("larder_cdn_queued_targets{cdn=\"http\"}", 0.0).await;
    larder.metric_becomes("larder_cdn_lag_seconds{cdn=\"http\"}", 0.0).await;
    assert!(larder.metric(&counted("taken")).await >= 1.0);
    let sent: Vec<String> =
        cdn.received("/purge").iter().map(|it| it.header("xkey").expect("names")).collect();
    // The first stays the first, whatever joined it meanwhile.
    let first = sent[0].split(' ').next().unwrap().to_owned();
    assert!(sent[..3].iter().all(|list| list.starts_with(&first)), "{sent:?}");
    let taken: HashSet<String> = sent[2..].iter().flat_map(|list| names(list)).collect();
    assert_eq!(taken.len(), 2, "{sent:?}");
    let request = cdn.last("/purge");
    assert_eq!((&*request.method, request.header("authorization").as_deref()), ("BAN", Some("Bearer t0k3n")));
}

#[tokio::test]
async fn a_purge_is_sent_once_more_for_responses_on_their_way() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let larder = Larder::with(&http(&cdn, "at_start: keep, repeat: 20ms, soft: true"), &upstream);
    larder.request("PURGE", "/").header("cache-tag", "courses").await.assert_status(200);
    let (first, again) = (nth(&cdn, "/purge", 1).await, nth(&cdn, "/purge", 2).await);
    assert_eq!(first.header("xkey"), again.header("xkey"));
    assert_eq!(first.header("larder-purge").as_deref(), Some("soft"));
}

#[tokio::test]
async fn what_is_queued_at_the_end_is_sent() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let held = cdn.hold("/purge");
    let mut larder = Larder::with(&http(&cdn, "at_start: keep, repeat: 1h"), &upstream);
    larder.request("PURGE", "/").header("cache-tag", "courses").await.assert_status(200);
    held.arrived().await;
    larder.request("PURGE", "/").header("cache-tag", "other").await.assert_status(200);
    larder.shut_down();
    held.release();
    larder.stopped().await.unwrap();
    let sent: HashSet<String> =
        cdn.received("/purge").iter().flat_map(|it| names(&it.header("xkey").expect("names"))).collect();
    // Each twice: what is to be sent once more is not waited for.
    assert_eq!((sent.len(), cdn.count("/purge")), (2, 4));
}

/// Other caches take effect with a restart. Until then those of before are purged, and after it those of the new file.
#[tokio::test]
async fn a_reload_lists_targets_for_the_caches_of_both_files() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let with_fastly = fastly(&cdn, ONCE);
    let with_http = http(&cdn, ONCE);
    for (before, after) in [("", &*with_fastly), (&*with_fastly, ""), (&*with_fastly, &*with_http)] {
        let yaml = |file: &str| if file.is_empty() { ROUTES.to_owned() } else { file.to_owned() };
        let larder = Larder::with(&yaml(before), &upstream);
        larder.reconfigure(&yaml(after)).await;
        let reply = larder.get("/courses/7").await.assert_stored();
        for (file, field) in [(&with_fastly, "surrogate-key"), (&with_http, "xkey")] {
            let is_listed = reply.header(field).is_some_and(|list| list.contains('~'));
            assert_eq!(is_listed, [before, after].contains(&&**file), "{field} of {before} {after}");
        }
    }
}

#[tokio::test]
async fn other_rules_purge_everything_in_front() {
    let (upstream, cdn) = (Upstream::start(), Upstream::start());
    let yaml = fastly(&cdn, ONCE);
    let larder = Larder::with(&yaml, &upstream);
    larder.reconfigure(&yaml.replace("[courses, ", "[all, ")).await;
    nth(&cdn, "/api/service/s1/purge_all", 1).await;
}
