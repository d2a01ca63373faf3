//! A Redis that refuses an event source: the same words in `larder check --connect`, the log, `/healthz`, `/readyz`, `/metrics`,
//! the dashboard and `larder health`.

use serde_json::Value;

use super::{ROUTES, source_becomes};
use crate::support::{Certificates, Command, Larder, Redis, Scratch, Upstream, eventually, free_port};

/// The rights that docs/events.md names.
const CHANNEL_RIGHTS: [&str; 3] = ["+subscribe", "+psubscribe", "+ping"];
const STREAM_RIGHTS: [&str; 6] =
    ["~shop:changes", "+xread", "+xrange", "+xinfo|stream", "+evalsha", "+script|load"];

const CHANNEL: &str = "pubsub: changes";
const PATTERN: &str = "pubsub: 'changes:*'";
const STREAM: &str = "stream: shop:changes";

fn yaml(source: &str, redis: &str) -> String {
    format!("{ROUTES}events:\n  - {{name: shop, {source}, redis: {redis}, purge: [products]}}\n")
}

/// Makes the user `app` with the password `p`, and these rights alone.
async fn set_user(redis: &Redis, rights: &[&str]) {
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">p", "resetkeys", "resetchannels", "-@all"];
    assert_eq!(redis.command(&[&user[..], rights].concat()).await, "OK");
}

fn url(redis: &Redis, password: &str) -> String {
    format!("\"redis://app:{password}@127.0.0.1:{}\"", redis.port())
}

async fn check(yaml: &str) -> (Option<i32>, Value) {
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{yaml}"));
    let arguments = ["check", "--connect", "--output", "json", file.to_str().expect("a path")];
    let output = Command::new(&arguments).output().await;
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("a report"))
}

/// All who ask are told that the source is refused for this reason.
async fn is_refused(yaml: &str, code: &str, words: &str) {
    let (exit, report) = check(yaml).await;
    let finding = &report["diagnostics"][0];
    assert_eq!((exit, &finding["code"]), (Some(1), &code.into()), "{report:#}");
    let told = finding["message"].as_str().expect("a message");
    assert!(told.contains(words) && told.contains("Redis of the event source `shop`"), "{told}");
    let upstream = Upstream::start();
    let larder = Larder::with(yaml, &upstream);
    for path in ["/healthz", "/readyz"] {
        let source = eventually(code, async || {
            let health = larder.admin.get(path).await.assert_status(200).json();
            let source = health["events"][0].clone();
            (source["reason"] == code && health["status"] == "degraded").then_some(source)
        })
        .await;
        assert_eq!(source["status"], "away", "{source}");
        assert!(
            source["trouble"].as_str().is_some_and(|trouble| told.ends_with(trouble)),
            "{told}: {source}"
        );
    }
    let metrics = larder.admin.get("/metrics").await;
    assert!(metrics.text().contains("larder_event_source_up{source=\"shop\",kind="), "{}", metrics.text());
    assert!(!metrics.text().contains("larder_event_source_up{source=\"shop\",kind=\"pubsub\"} 1"));
    assert!(!metrics.text().contains("larder_event_source_up{source=\"shop\",kind=\"stream\"} 1"));
    let notes = larder.admin.get("/dashboard/data").await.json()["notes"].to_string();
    assert!(notes.contains("The event source `shop` is unavailable") && notes.contains(words), "{notes}");
    let admin = format!("http://{}", larder.admin.address());
    let health = Command::new(&["health", "--admin", &admin]).stdout().await;
    assert!(health.starts_with("degraded: event source `shop`: ") && health.contains(words), "{health}");
    let log = larder.log();
    assert!(log.contains("event source unavailable") && log.contains(words) && log.contains(code), "{log}");
    assert!(!log.contains("hush-hush"), "{log}");
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    for (source, rights) in [
        (CHANNEL, &[&["&changes"], &CHANNEL_RIGHTS[..]].concat()[..]),
        (PATTERN, &[&["&changes:*"], &CHANNEL_RIGHTS[..]].concat()),
        (STREAM, &STREAM_RIGHTS),
    ] {
        set_user(&redis, rights).await;
        let yaml = yaml(source, &url(&redis, "p"));
        let (code, report) = check(&yaml).await;
        assert_eq!((code, &report["eventRedis"][0]["source"]), (Some(0), &"shop".into()), "{report:#}");
        source_becomes(&Larder::with(&yaml, &upstream), "ok").await;
    }
}

/// The driver takes the refusal of a subscription for the reply to another command.
#[tokio::test]
async fn a_refused_channel_key_or_command_is_told() {
    let redis = Redis::start().await;
    for (source, rights, words) in [
        (CHANNEL, &[&["&others"], &CHANNEL_RIGHTS[..]].concat()[..], "channel"),
        (PATTERN, &[&["&changes:1"], &CHANNEL_RIGHTS[..]].concat(), "channel"),
        (CHANNEL, &["&changes", "+ping"], "subscribe"),
        (STREAM, &STREAM_RIGHTS[1..], "key"),
        (STREAM, &[&STREAM_RIGHTS[..1], &STREAM_RIGHTS[2..]].concat(), "xread"),
        (STREAM, &STREAM_RIGHTS[..3], "evalsha"),
    ] {
        set_user(&redis, rights).await;
        is_refused(&yaml(source, &url(&redis, "p")), "no-permission", words).await;
    }
}

#[tokio::test]
async fn a_wrong_password_or_address_is_told() {
    let redis = Redis::start().await;
    set_user(&redis, &["&changes", "~shop:changes", "+@all"]).await;
    for source in [CHANNEL, STREAM] {
        let wrong = yaml(source, &url(&redis, "hush-hush"));
        is_refused(&wrong, "wrong-password", "check `username` and `password` under `redis`").await;
        let away = format!("\"redis://127.0.0.1:{}\"", free_port());
        is_refused(&yaml(source, &away), "refused", "does not listen on this address").await;
    }
}

#[tokio::test]
async fn a_source_whose_tls_fails_is_told() {
    let (certificates, port) = (Certificates::new(), free_port());
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|file| certificates.text(file));
    let tls_port = port.to_string();
    let tls = [
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let redis = Redis::start_with(&[&tls[..], &["--tls-auth-clients", "no"]].concat()).await;
    for source in [CHANNEL, STREAM] {
        for (url, code, words) in [
            (format!("rediss://127.0.0.1:{port}"), "unknown-ca", "set `redis.tls.ca`"),
            (format!("redis://127.0.0.1:{port}"), "plain-to-tls-port", "write `rediss://`"),
            (format!("rediss://127.0.0.1:{}", redis.port()), "tls-to-plain-port", "write `redis://`"),
        ] {
            is_refused(&yaml(source, &format!("\"{url}\"")), code, words).await;
        }
    }
}
