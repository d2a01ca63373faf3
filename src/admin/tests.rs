use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http_body_util::Full;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::clock::Timestamp;
use crate::memory_budget::MemoryBudget;
use crate::policy::query::QueryRule;
use crate::policy::{CacheKey, Route, fixtures};
use crate::purge::{
    NormalizedPath, PurgeIntent, PurgeMode, PurgeVersion, ReadVersion, Target, TargetId, Validity,
};
use crate::store::{
    BoxFuture, FetchLocks, FetchToken, GetResult, PurgeStore, RateBudgets, ReplicaRegistry, ResponseStore,
    SourceOffsets, StoreError, StoreStats, ValidEntry,
};
use crate::stored_response::StoredEntry;

/// A store that only purges; it remembers what.
#[derive(Default)]
struct PurgesOnly {
    purges: Mutex<Vec<Purge>>,
    is_unavailable: bool,
}

impl ResponseStore for PurgesOnly {
    fn get(&self, _: &CacheKey) -> GetResult {
        unreachable!("admin reads no responses")
    }

    fn get_local(&self, _: &CacheKey) -> Option<ValidEntry> {
        unreachable!("admin reads no responses")
    }

    fn begin_fetch(&self, _: &CacheKey) -> FetchToken {
        unreachable!("admin stores no responses")
    }

    fn insert(&self, _: FetchToken, _: StoredEntry) -> BoxFuture<Result<(), StoreError>> {
        unreachable!("admin stores no responses")
    }

    fn memory_budget(&self) -> &Arc<MemoryBudget> {
        unreachable!("no bodies are held")
    }

    fn stats(&self) -> StoreStats {
        let stats =
            StoreStats { entries: 3, bytes: 4096, capacity: 9999, evicted: 2, ..StoreStats::default() };
        StoreStats { purge_records: 1, ..stats }
    }
}

impl PurgeStore for PurgesOnly {
    fn validity(&self, _: &ReadVersion, _: &[TargetId]) -> Validity {
        unreachable!("admin judges no responses")
    }

    fn purge(&self, purge: Purge) -> BoxFuture<Result<PurgeVersion, StoreError>> {
        if self.is_unavailable {
            return Box::pin(async { Err(StoreError::PurgeRejected("Redis is unavailable".into())) });
        }
        self.purges.lock().push(purge);
        Box::pin(async { Ok(PurgeVersion(77)) })
    }

    fn record_intent(&self, _mark: PurgeIntent) -> BoxFuture<Result<(), StoreError>> {
        unreachable!("nothing is written here")
    }
}

impl ReplicaRegistry for PurgesOnly {}
impl FetchLocks for PurgesOnly {}
impl SourceOffsets for PurgesOnly {}

impl RateBudgets for PurgesOnly {}

struct Admin {
    store: Arc<PurgesOnly>,
    state: AdminState,
    peer: Peer,
}

impl Admin {
    fn new() -> Self {
        Self::over(PurgesOnly::default())
    }

    fn over(store: PurgesOnly) -> Self {
        let store = Arc::new(store);
        let config = Config::parse("upstream: http://a", "/etc/api.yaml", &|_| None, &Default::default());
        let state = AdminState {
            store: store.clone(),
            metrics: Arc::default(),
            routes: Arc::default(),
            config: Arc::new(config.unwrap()),
            clock: Clock::manual(Timestamp::from_secs(0)),
            wait_timeout: std::time::Duration::from_secs(5),
            token: None,
            held_back: Arc::new(|_| Vec::new()),
            field_notices: Arc::new(Vec::new),
            readiness: Readiness::new(),
            audit: None,
            observed: None,
            decisions: Arc::default(),
            warming: None,
            reader_slots: super::ReaderSlots::default(),
            events: Arc::default(),
            callers: Arc::default(),
        };
        Self { store, state, peer: from("127.0.0.1:5000") }
    }

    fn with_token(mut self) -> Self {
        self.state.token = Some(Secret::new("secret"));
        self
    }

    fn from(mut self, peer: &str) -> Self {
        self.peer = from(peer);
        self
    }

    async fn send(&self, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, http::HeaderMap, Value) {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "127.0.0.1:9090");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
        let answer = handle(&self.state, self.peer, request).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        (head.status.as_u16(), head.headers, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn status(&self, line: &str, headers: &[(&str, &str)]) -> u16 {
        self.send(line, headers, "").await.0
    }

    fn purges(&self) -> Vec<Purge> {
        std::mem::take(&mut self.store.purges.lock())
    }

    fn targets(&self) -> Vec<Target> {
        self.purges().into_iter().flat_map(|purge| purge.targets).collect()
    }
}

fn from(peer: &str) -> Peer {
    Peer::Tcp(peer.parse().unwrap())
}

fn prefix(host: Option<&str>, path: &str) -> Target {
    Target::Prefix { host: host.map(Into::into), path: NormalizedPath::new(path) }
}

#[tokio::test]
async fn a_purge_names_tags_prefixes_and_everything() {
    let admin = Admin::new();
    let body = r#"{"tags": ["a", "b"], "prefixes": ["/api/*", "https://H.example/x"], "everything": true}"#;
    let (status, _, answer) = admin.send("POST /purge", &[], body).await;
    assert_eq!((status, &answer["status"], &answer["position"]), (200, &json!("purged"), &json!(77)));
    let named = ["tag a", "tag b", "prefix /api", "prefix h.example/x", "everything"];
    assert_eq!((&answer["targets"], &answer["targetCount"]), (&json!(named), &json!(5)), "{answer}");
    assert_eq!(answer["matched"], json!({"responses": 0, "bytes": 0}));
    let [purge] = &admin.purges()[..] else { panic!("one purge") };
    assert_eq!(purge.mode, PurgeMode::Hard);
    let expected = [
        Target::tag("a"),
        Target::tag("b"),
        prefix(None, "/api"),
        prefix(Some("h.example"), "/x"),
        Target::Everything,
    ];
    assert_eq!(purge.targets, expected);
}

/// Whether purges of URLs and prefixes reach a path and query on `h.example`.
#[tokio::test]
async fn urls_and_prefixes_purge_as_the_method_does() {
    let mut admin = Admin::new();
    let selects = QueryRule::Only(vec![("page".into(), Some("1".into()))]);
    admin.state.routes = Arc::new(fixtures::routes([Route { query: selects, ..fixtures::route("/list") }]));
    for (body, path, query, expected) in [
        (r#"{"urls": ["/a"]}"#, "/a", "x=1", true),
        (r#"{"urls": ["/a"]}"#, "/a/b", "", false),
        (r#"{"urls": ["/A/"]}"#, "/a", "", true),
        (r#"{"urls": ["/a?x=1"]}"#, "/a", "x=1", true),
        (r#"{"urls": ["/a?x=1"]}"#, "/a", "x=2", false),
        (r#"{"urls": ["/list?utm=7"]}"#, "/list", "page=1", true),
        (r#"{"urls": ["/list?page=2&utm=7"]}"#, "/list", "page=2", true),
        (r#"{"urls": ["/list?page=2"]}"#, "/list", "page=1", false),
        (r#"{"urls": ["/a/*"]}"#, "/a/b/c", "x=1", true),
        (r#"{"urls": ["http://H.example:80/a"]}"#, "/a", "", true),
        (r#"{"urls": ["http://other.example/a"]}"#, "/a", "", false),
        (r#"{"prefixes": ["/a"]}"#, "/a/b/c", "x=1", true),
        (r#"{"prefixes": ["/a/"]}"#, "/a", "", true),
        (r#"{"prefixes": ["/a/*"]}"#, "/a", "", true),
        (r#"{"prefixes": ["/a?x=1"]}"#, "/a/b", "x=2", true),
        (r#"{"prefixes": ["/a"]}"#, "/ab", "", false),
        (r#"{"prefixes": ["/"]}"#, "/anything", "", true),
        (r#"{"prefixes": ["https://h.example"]}"#, "/anything", "", true),
        (r#"{"prefixes": ["https://other.example"]}"#, "/anything", "", false),
    ] {
        let (status, _, answer) = admin.send("POST /purge", &[], body).await;
        assert_eq!(status, 200, "{body}: {answer}");
        let reached_by = Target::ids_for_response("h.example", &NormalizedPath::new(path), query, []);
        let reaches = admin.targets().iter().any(|target| reached_by.contains(&target.id()));
        assert_eq!(reaches, expected, "{body} {path}?{query}");
    }
}

#[tokio::test]
async fn a_purge_may_be_soft() {
    let admin = Admin::new();
    admin.send("POST /purge", &[], r#"{"tags": ["a"], "soft": true}"#).await;
    assert_eq!(admin.purges()[0].mode, PurgeMode::Soft);
}

#[tokio::test]
async fn an_invalid_purge_is_refused_whole_with_a_reason() {
    let admin = Admin::new();
    for (body, named) in [
        (r#"{"tag": ["a"]}"#, "unknown field `tag`"),
        (r#"{"tags": ["a"], "all": true}"#, "unknown field `all`"),
        (r#"{"tags": "a"}"#, "expected a sequence"),
        (r#"{"tags": ["a", 7]}"#, "expected a string"),
        (r#"{"tags": [""]}"#, "a tag is empty"),
        (r#"{"tags": ["cat_1 cat_3"]}"#, "has a space"),
        (r#"{"tags": ["cat_1,cat_3"]}"#, "no response here carries the tag"),
        (r#"{"tags": ["cat_*"]}"#, "no response here carries the tag"),
        (r#"{"prefixes": ["api"]}"#, "\"api\" is neither a path nor a URL"),
        (r#"{"prefixes": ["/api/cour*"]}"#, "ends within a segment"),
        (r#"{"urls": ["x"]}"#, "\"x\" is neither a path nor a URL"),
        (r#"{}"#, "no target is named"),
        (r#"{"everything": false}"#, "no target is named"),
        (r#"{"tags": ["a"], "tags": ["b"]}"#, "duplicate field `tags`"),
        ("[[],[],[],true]", "not an array"),
        ("", "EOF"),
        ("tags=a", "expected"),
    ] {
        let (status, _, answer) = admin.send("POST /purge", &[], body).await;
        assert_eq!(status, 400, "{body}");
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains(named), "{body}: {error}");
        assert!(!answer["fix"].as_str().unwrap().is_empty());
    }
    assert!(admin.purges().is_empty());
}

#[tokio::test]
async fn a_purge_is_bounded_in_bytes_and_targets() {
    let admin = Admin::new();
    let long = format!(r#"{{"tags": ["{}"]}}"#, "a".repeat(MAX_BODY_BYTES));
    assert_eq!(admin.send("POST /purge", &[], &long).await.0, 413);
    let many = json!({ "tags": vec!["a"; 10_001] }).to_string();
    assert_eq!(admin.send("POST /purge", &[], &many).await.0, 400);
    assert!(admin.purges().is_empty());
}

#[tokio::test]
async fn deleting_the_cache_or_a_tag_purges() {
    let admin = Admin::new();
    assert_eq!(admin.status("DELETE /cache", &[]).await, 200);
    assert_eq!(admin.targets(), [Target::Everything]);
    assert_eq!(admin.status("DELETE /cache/tags/guild:7%2Fa/b", &[]).await, 200);
    assert_eq!(admin.targets(), [Target::tag("guild:7/a/b")]);
    assert_eq!(admin.status("DELETE /cache/tags/a%2Cb", &[]).await, 200);
    assert_eq!(admin.targets(), [Target::tag("a,b"), Target::tag("a%2Cb")]);
    assert_eq!(admin.status("DELETE /cache/tags/a?b", &[]).await, 400);
    assert_eq!(admin.status("DELETE /cache/tags/", &[]).await, 404);
    assert_eq!(admin.send("DELETE /cache", &[], r#"{"tags": ["a"]}"#).await.0, 400);
    assert!(admin.purges().is_empty());
}

#[tokio::test]
async fn a_purge_that_the_store_does_not_take_is_never_acknowledged() {
    let admin = Admin::over(PurgesOnly { is_unavailable: true, ..PurgesOnly::default() });
    for line in ["POST /purge", "DELETE /cache", "DELETE /cache/tags/a"] {
        let content = if line == "POST /purge" { r#"{"tags": ["a"]}"# } else { "" };
        let (status, headers, answer) = admin.send(line, &[], content).await;
        assert_eq!((status, headers[RETRY_AFTER].as_bytes()), (503, &b"1"[..]), "{line}");
        assert!(answer["error"].as_str().unwrap().contains("Redis is unavailable"));
    }
    let text = admin.state.metrics.snapshot().render(&StoreStats::default(), None);
    assert!(text.contains("larder_purges_failed_total{source=\"admin\"} 3"), "{text}");
    assert!(text.contains("larder_purges_total{source=\"admin\"} 0"), "{text}");
}

#[tokio::test]
async fn stats_have_the_names_that_dashboards_expect() {
    let admin = Admin::new();
    admin.state.readiness.phase().advance(Phase::Ready);
    let (status, _, stats) = admin.send("GET /stats", &[], "").await;
    assert_eq!(status, 200);
    let totals = json!({
        "hits": 0, "misses": 0, "hitRate": 0.0, "errors": 0, "memoryUsed": 4096, "evictedKeys": 2, "keyCount": 3, "invalidations": 0,
    });
    let expected = json!({
        "stats": totals, "status": "ok", "timestamp": "1970-01-01T00:00:00.000Z", "routes": {},
    });
    assert!(expected.as_object().unwrap().iter().all(|(name, value)| stats[name] == *value), "{stats}");
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let (status, headers, text) = Admin::new().send("GET /metrics", &[], "").await;
    assert_eq!(status, 200);
    assert!(headers[CONTENT_TYPE].to_str().unwrap().starts_with("application/openmetrics-text"));
    assert!(text.as_str().unwrap().contains("larder_stored_bytes 4096"), "{text}");
}

#[tokio::test]
async fn readiness_follows_the_process_and_health_does_not() {
    let admin = Admin::new();
    for (phase, expected, word) in
        [(Phase::Starting, 503, "starting"), (Phase::Ready, 200, "ok"), (Phase::Draining, 503, "draining")]
    {
        admin.state.readiness.phase().advance(phase);
        let (status, _, answer) = admin.send("GET /readyz", &[], "").await;
        assert_eq!((status, answer), (expected, json!({"status": word})));
        let (status, _, answer) = admin.send("GET /healthz", &[], "").await;
        let alive = if phase == Phase::Draining { "draining" } else { "ok" };
        assert_eq!((status, answer), (200, json!({"status": alive})));
    }
}

#[tokio::test]
async fn a_drain_begins_once_and_ends_the_process_only_on_demand() {
    let admin = Admin::new();
    admin.state.readiness.phase().advance(Phase::Ready);
    admin.state.metrics.connection_opened();
    assert_eq!(admin.status("POST /drain?exit=maybe", &[]).await, 400);
    assert_eq!(admin.state.readiness.phase().current(), Phase::Ready);
    for (line, phase) in [
        ("POST /drain", Phase::Draining),
        ("POST /drain?exit=false", Phase::Draining),
        ("POST /drain?exit=true", Phase::Stopping),
        ("POST /drain", Phase::Stopping),
    ] {
        let (status, _, answer) = admin.send(line, &[], "").await;
        assert_eq!((status, answer), (200, json!({"status": "draining", "connections": 1})));
        assert_eq!(admin.state.readiness.phase().current(), phase, "{line}");
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let admin = Admin::new();
    for (line, expected, allow) in [
        ("GET /nothing", 404, None),
        ("GET /stats/", 404, None),
        ("POST /replicas", 405, Some("GET, HEAD")),
        ("POST /purges", 405, Some("GET, HEAD")),
        ("GET /purge", 405, Some("POST")),
        ("GET /drain", 405, Some("POST")),
        ("GET /cache", 405, Some("DELETE")),
        ("POST /cache/tags/a", 405, Some("DELETE")),
        ("POST /stats", 405, Some("GET, HEAD")),
        ("DELETE /healthz", 405, Some("GET, HEAD")),
        ("OPTIONS /purge", 405, Some("POST")),
    ] {
        let (status, headers, _) = admin.send(line, &[], "").await;
        let sent = headers.get(ALLOW).map(|allow| allow.to_str().unwrap());
        assert_eq!((status, sent), (expected, allow), "{line}");
    }
    assert!(admin.purges().is_empty());
}

const CLOSED: [&str; 7] = [
    "GET /stats",
    "GET /purges",
    "GET /replicas",
    "POST /purge",
    "POST /drain",
    "DELETE /cache",
    "DELETE /cache/tags/a",
];

#[track_caller]
fn assert_refused(admin: &Admin, status: u16, expected: u16, what: &str) {
    assert_eq!(status, expected, "{what}");
    assert!(admin.purges().is_empty(), "{what}");
}

#[tokio::test]
async fn health_readiness_and_metrics_are_open_to_all() {
    let admin = Admin::new().with_token().from("192.0.2.1:5000");
    admin.state.readiness.phase().advance(Phase::Ready);
    for line in ["GET /healthz", "GET /readyz", "GET /metrics", "HEAD /healthz", "GET /"] {
        assert_eq!(admin.status(line, &[("host", "larder.example"), ("via", "1.1 x")]).await, 200, "{line}");
    }
}

#[tokio::test]
async fn without_a_token_only_this_machine_may_ask() {
    for (peer, expected) in [
        ("127.0.0.1:1", true),
        ("127.9.9.9:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("10.0.0.1:1", false),
        ("[2001:db8::1]:1", false),
    ] {
        let admin = Admin::new().from(peer);
        for line in CLOSED {
            let content = if line.starts_with("DELETE") { "" } else { r#"{"everything": true}"# };
            let (status, _, _) = admin.send(line, &[], content).await;
            assert_eq!(status, if expected { 200 } else { 403 }, "{peer} {line}");
        }
        assert_eq!(admin.purges().is_empty(), !expected, "{peer}");
    }
}

#[tokio::test]
async fn without_a_token_relayed_and_cross_site_requests_are_refused() {
    let admin = Admin::new();
    for header in [
        ("via", "1.1 proxy"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("origin", "http://127.0.0.1:8080"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "evil.example"),
        ("host", "evil.example:9090"),
        ("host", "localhost.evil.example"),
        ("host", ""),
    ] {
        for line in CLOSED {
            let (status, _, _) = admin.send(line, &[header], r#"{"everything": true}"#).await;
            assert_refused(&admin, status, 403, &format!("{line} {header:?}"));
        }
    }
    let line = "DELETE http://evil.example/cache";
    assert_refused(&admin, admin.status(line, &[]).await, 403, line);
}

#[tokio::test]
async fn this_machine_is_named_by_address_or_localhost() {
    let admin = Admin::new();
    for host in ["127.0.0.1", "localhost", "LOCALHOST:9090", "[::1]:9090", "10.1.2.3:9090"] {
        assert_eq!(admin.status("GET /stats", &[("host", host)]).await, 200, "{host}");
    }
    let own_page = [("origin", "http://127.0.0.1:9090"), ("sec-fetch-site", "same-origin")];
    assert_eq!(admin.status("GET /stats", &own_page).await, 200);
}

#[tokio::test]
async fn with_a_token_only_its_bearer_is_admitted_from_anywhere() {
    let admin = Admin::new().with_token().from("192.0.2.1:5000");
    for (sent, expected) in [
        ("Bearer secret", 200),
        ("bearer secret", 200),
        ("Bearer  secret ", 200),
        ("Bearer secre", 401),
        ("Bearer secrets", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("Basic secret", 401),
        ("secret", 401),
    ] {
        let headers = [("authorization", sent), ("host", "larder.example"), ("via", "1.1 proxy")];
        assert_eq!(admin.status("DELETE /cache", &headers).await, expected, "{sent}");
        assert_eq!(admin.purges().len(), usize::from(expected == 200), "{sent}");
    }
    let twice = [("authorization", "Bearer secret"), ("authorization", "Bearer secret")];
    assert_refused(&admin, admin.status("DELETE /cache", &twice).await, 401, "two tokens");
    let foreign = [("authorization", "Bearer secret"), ("origin", "https://evil.example")];
    assert_refused(&admin, admin.status("DELETE /cache", &foreign).await, 403, "a foreign page");
}

#[tokio::test]
async fn with_a_token_this_machine_needs_it_too() {
    let admin = Admin::new().with_token();
    for line in CLOSED {
        let (status, headers, told) = admin.send(line, &[], r#"{"everything": true}"#).await;
        assert_refused(&admin, status, 401, line);
        assert!(told["fix"].as_str().unwrap().ends_with("`admin.token` in api.yaml"), "{told}");
        assert!(headers[WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"), "{line}");
    }
}

#[tokio::test]
async fn an_empty_token_lets_nobody_in() {
    let mut admin = Admin::new();
    admin.state.token = Some(Secret::new(""));
    assert_eq!(admin.status("GET /stats", &[("authorization", "Bearer ")]).await, 401);
    assert_eq!(admin.status("GET /stats", &[(AUTHORIZATION.as_str(), "Bearer x")]).await, 401);
}
