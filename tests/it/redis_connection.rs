//! Ways to reach a Redis: sockets, logins, TLS; and what happens when one is wrong.

use std::path::Path;

use larder::clock::Clock;
use serde_json::json;

use crate::support::{
    Answer, Certificates, Issuer, Larder, Redis, Replica, Scratch, Upstream, eventually, free_port,
};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items], collapse: replicas}]";

/// The smallest that larder works with, as `docs/redis.md` gives it; `larder` is the namespace.
pub fn smallest_acl() -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md");
    let docs = std::fs::read_to_string(docs).expect("docs/redis.md");
    let rule = docs.lines().find_map(|line| line.strip_prefix("ACL SETUSER ")).expect("an ACL in the docs");
    rule.replace("PASSWORD", "secret").split_whitespace().map(str::to_owned).collect()
}

async fn give(redis: &Redis, rule: &[String]) {
    let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(rule.iter().map(String::as_str)).collect();
    assert_eq!(redis.command(&words).await, "OK");
}

fn start(redis: &str, upstream: &Upstream) -> Replica {
    Replica::with(
        &format!("store: {{redis: {redis}, max_lag: 0s, timeout: 2s}}\n{ROUTES}"),
        upstream,
        Clock::system(),
    )
}

/// Stores, finds and purges through two replicas.
async fn works(redis: &Redis, settings: &str) {
    let upstream = Upstream::start();
    let (one, other) = (start(settings, &upstream), start(settings, &upstream));
    one.is_connected().await;
    other.is_connected().await;
    one.get("/items/1").await.assert_text("GET /items/1 #1").assert_stored();
    redis.holds(1).await;
    // It may wait for the other replica's insertion.
    other.get("/items/1").await.assert_text("GET /items/1 #1");
    other.get("/items/1").await.assert_hit();
    one.purge_tag("items").await;
    other.get("/items/1").await.assert_text("GET /items/1 #2");
}

async fn is_refused(settings: &str, reason: &str) {
    let upstream = Upstream::start();
    let one = start(settings, &upstream);
    eventually(reason, || async { one.log().contains(reason).then_some(()) }).await;
    one.get("/items/1").await.assert_status(200);
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    let health = one.admin.get("/healthz").await.assert_status(200).json();
    assert_eq!(health["status"], "degraded");
}

#[tokio::test]
async fn over_a_unix_socket() {
    let redis = Redis::start().await;
    works(&redis, &format!("redis+unix://{}", redis.socket().display())).await;
}

#[tokio::test]
async fn with_a_password() {
    let redis = Redis::start().await;
    let url = redis.url();
    redis.command(&["ACL", "SETUSER", "app", "on", ">secret", "+@all", "allkeys", "allchannels"]).await;
    works(&redis, &format!("{{url: \"{url}\", username: app, password: secret}}")).await;
    redis.flush().await;
    works(&redis, &url.replace("redis://", "redis://app:secret@")).await;
}

#[tokio::test]
async fn with_the_smallest_acl() {
    let redis = Redis::start().await;
    give(&redis, &smallest_acl()).await;
    let url = redis.url();
    works(&redis, &format!("{{url: \"{url}\", username: larder, password: secret}}")).await;
    assert_eq!(redis.command(&["ACL", "LOG"]).await, "", "something was denied");
}

/// Each environment with a login and a database, or a namespace, of its own.
#[tokio::test]
async fn the_example_configurations_share_through_redis() {
    let redis = Redis::start().await;
    redis.command(&["ACL", "SETUSER", "app", "on", ">secret", "+@all", "allkeys", "allchannels"]).await;
    let login = redis.url().replace("redis://", "redis://app:secret@");
    let (issuer, scratch) = (Issuer::new("k"), Scratch::new());
    let keys = scratch.file("jwks.json", &Issuer::key_set(&[&issuer]));
    let token = format!("Bearer {}", issuer.token(&json!({"sub": "ann"})));
    for (file, api, redis_url, namespace, read) in [
        ("config/analytics.yaml", "ANALYTICS_API", login.clone(), "a", "/api/analytics/ghosts?guildId=7"),
        ("config/productivity.yaml", "APP_API", login.replace("/0", "/1"), "a", "/api/marketplace"),
        ("config/signed-urls.yaml", "FORUM_API", login.clone(), "forum-staging", "/api/files/7/url"),
        ("deploy/larder/proxy.yaml", "NONE", login.clone(), "demo", "/api/courses"),
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect(file);
        let upstream = Upstream::start();
        let signed = Answer::ok(r#"{"url": "https://storage", "expires_at": "2999-01-01T00:00:00Z"}"#);
        upstream.on("/api/files/7/url", signed.header("content-type", "application/json"));
        let (text, url) = (text.replace("http://api:80", &upstream.url()), upstream.url());
        let environment = [
            (api, &*url),
            ("LARDER_REDIS", &redis_url),
            ("LARDER_NAMESPACE", namespace),
            ("LARDER_WARM", "off"),
            ("LARDER_JWKS", keys.to_str().expect("a path")),
        ];
        let start = || Replica::new(Larder::with_clock(Clock::system(), &text, &environment));
        let (one, other) = (start(), start());
        one.is_connected().await;
        other.is_connected().await;
        let get = |replica: &Replica| replica.get(read).header("authorization", &token);
        get(&one).await.assert_stored();
        eventually("the other has it", || async { get(&other).await.is_hit().then_some(()) }).await;
        assert!(upstream.total() <= 2, "{file}");
        // Now and then it asks Redis by itself.
        eventually("nothing is asked of Redis", || async {
            let health = other.admin.get("/healthz").await.assert_status(200).json();
            assert_eq!(health["redis"]["connections"], 1);
            (health["redis"]["inFlight"] == 0).then_some(())
        })
        .await;
    }
}

/// R17
#[tokio::test]
async fn a_wrong_password_is_told_and_costs_no_request() {
    let redis = Redis::start().await;
    let url = redis.url();
    redis.command(&["ACL", "SETUSER", "app", "on", ">secret", "+@all", "allkeys", "allchannels"]).await;
    is_refused(&format!("{{url: \"{url}\", username: app, password: wrong}}"), "WRONGPASS").await;
}

/// R17: a right that is taken away while larder runs, and given again.
#[tokio::test]
async fn a_right_that_is_taken_away_is_missed_visibly() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    give(&redis, &smallest_acl()).await;
    let url = redis.url();
    let one = start(&format!("{{url: \"{url}\", username: larder, password: secret}}"), &upstream);
    one.is_connected().await;
    one.get("/items/1").await.assert_stored();
    one.has("/items/1").await;
    redis.command(&["ACL", "SETUSER", "larder", "-zadd"]).await;
    one.request("PURGE", "/items/1").await.assert_status(503);
    one.get("/items/1").await.assert_text("GET /items/1 #2");
    one.is_cut_off().await;
    redis.command(&["ACL", "SETUSER", "larder", "-evalsha", "+zadd"]).await;
    one.request("PURGE", "/items/1").await.assert_status(503);
    one.get("/items/1").await.assert_text("GET /items/1 #3");
    assert!(one.log().contains("NOPERM") || one.log().contains("no permissions"), "{}", one.log());
    redis.command(&["ACL", "SETUSER", "larder", "+evalsha"]).await;
    one.is_connected().await;
    one.has("/items/1").await;
    one.request("PURGE", "/items/1").await.assert_status(200);
}

/// A Redis that speaks nothing but TLS on its port, with this server's certificate.
async fn tls_redis(certificates: &Certificates, server: &str, clients: &str) -> (Redis, String) {
    let port = free_port().to_string();
    let files = [format!("{server}.pem"), format!("{server}.key"), "ca.pem".to_owned()]
        .map(|f| certificates.text(&f));
    let arguments = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        &files[0],
        "--tls-key-file",
        &files[1],
        "--tls-ca-cert-file",
        &files[2],
        "--tls-auth-clients",
        clients,
    ];
    (Redis::start_with(&arguments).await, format!("rediss://127.0.0.1:{port}"))
}

#[tokio::test]
async fn over_tls_with_an_authority_of_ones_own() {
    let certificates = Certificates::new();
    let (redis, url) = tls_redis(&certificates, "server", "no").await;
    let ca = certificates.text("ca.pem");
    works(&redis, &format!("{{url: \"{url}\", tls: {{ca: \"{ca}\"}}}}")).await;
    redis.flush().await;
    let by_name = url.replace("127.0.0.1", "localhost");
    works(&redis, &format!("{{url: \"{by_name}\", tls: {{ca: \"{ca}\"}}}}")).await;
}

#[tokio::test]
async fn over_tls_with_a_certificate_of_the_client() {
    let certificates = Certificates::new();
    let (redis, url) = tls_redis(&certificates, "server", "yes").await;
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(|file| certificates.text(file));
    works(&redis, &format!("{{url: \"{url}\", tls: {{ca: \"{ca}\", cert: \"{cert}\", key: \"{key}\"}}}}"))
        .await;
    is_refused(&format!("{{url: \"{url}\", tls: {{ca: \"{ca}\"}}}}"), "requires a client certificate").await;
}

/// R30
#[tokio::test]
async fn a_certificate_that_is_not_this_server_s_is_refused() {
    let certificates = Certificates::new();
    let ca = certificates.text("ca.pem");
    for (server, reason) in [("other", "is for another name"), ("expired", "has expired")] {
        let (redis, url) = tls_redis(&certificates, server, "no").await;
        is_refused(&format!("{{url: \"{url}\", tls: {{ca: \"{ca}\"}}}}"), reason).await;
        assert_eq!(redis.command(&["DBSIZE"]).await, "0", "{server}: something went there");
    }
    // The system trusts no such authority.
    let (_redis, url) = tls_redis(&certificates, "server", "no").await;
    is_refused(&format!("\"{url}\""), "signed by an unknown CA").await;
}

/// R30: a server without TLS gets nothing, least of all a password.
#[tokio::test]
async fn tls_never_falls_back_to_plain() {
    let certificates = Certificates::new();
    let redis = Redis::start().await;
    let (url, ca) = (redis.url().replace("redis://", "rediss://"), certificates.text("ca.pem"));
    is_refused(&format!("{{url: \"{url}\", password: secret, tls: {{ca: \"{ca}\"}}}}"), "does not speak TLS")
        .await;
    assert_eq!(redis.command(&["DBSIZE"]).await, "0");
}
