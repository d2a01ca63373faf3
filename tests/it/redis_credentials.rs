//! Passwords that change while larder runs: from a file, and from a command.

use larder::clock::Clock;

use crate::redis_explained::is_explained;
use crate::support::{Redis, Replica, Scratch, Upstream, eventually};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

/// With the only password of the user `app`.
async fn set_password(redis: &Redis, password: &str) {
    let password = format!(">{password}");
    let rule = ["ACL", "SETUSER", "app", "on", "resetpass", &password, "+@all", "~*", "&*"];
    assert_eq!(redis.command(&rule).await, "OK");
}

fn start(redis: &Redis, credentials: &str, upstream: &Upstream) -> Replica {
    let url = format!("redis://127.0.0.1:{}", redis.port());
    let store = format!("store: {{redis: {{url: \"{url}\", username: app, {credentials}}}, timeout: 1s}}\n");
    Replica::with(&(store + ROUTES), upstream, Clock::system())
}

/// Its open connections log in again each second, with the password in a file.
async fn start_renewing(redis: &Redis, scratch: &Scratch, upstream: &Upstream) -> Replica {
    set_password(redis, "first").await;
    let file = scratch.file("password", "first");
    let command = format!("auth: {{exec: [cat, \"{}\"], every: 1s}}", file.display());
    let larder = start(redis, &command, upstream);
    shares(&larder).await;
    larder
}

async fn shares(larder: &Replica) {
    larder.is_connected().await;
    larder.get("/items/1").await.assert_status(200);
    larder.has("/items/1").await;
}

#[tokio::test]
async fn a_password_file_is_read_again_for_each_connection() {
    let (redis, upstream, scratch) = (Redis::start().await, Upstream::start(), Scratch::new());
    set_password(&redis, "first").await;
    scratch.file("password", "first\n");
    let file = scratch.path().join("password");
    let larder = start(&redis, &format!("password_file: \"{}\"", file.display()), &upstream);
    shares(&larder).await;
    set_password(&redis, "second").await;
    scratch.file("password", "second");
    redis.command(&["CLIENT", "KILL", "USER", "app"]).await;
    eventually("connected again", || async {
        let health = larder.admin.get("/healthz").await.json();
        (health["redis"]["status"] == "ok" && health["redis"]["reconnections"] != 0).then_some(())
    })
    .await;
    shares(&larder).await;
    std::fs::remove_file(file).unwrap();
    redis.command(&["CLIENT", "KILL", "USER", "app"]).await;
    larder.metric_becomes("larder_redis_failure{reason=\"no-credentials\"}", 1.0).await;
    assert!(!larder.log().contains("second"), "{}", larder.log());
}

#[tokio::test]
async fn a_rotated_password_reaches_open_connections() {
    let (redis, upstream, scratch) = (Redis::start().await, Upstream::start(), Scratch::new());
    let larder = start_renewing(&redis, &scratch, &upstream).await;
    let before = redis.logins().await;
    eventually("open connections log in again", || async {
        (redis.logins().await > before + 3).then_some(())
    })
    .await;
    // Wrong passwords would be counted as failed logins.
    set_password(&redis, "second").await;
    scratch.file("password", "second");
    redis.command(&["ACL", "LOG", "RESET"]).await;
    let before = redis.logins().await;
    eventually("all log in with the new one", || async { (redis.logins().await > before + 6).then_some(()) })
        .await;
    let health = larder.admin.get("/healthz").await.json();
    assert_eq!((&health["redis"]["status"], &health["redis"]["reconnections"]), (&"ok".into(), &0.into()));
    shares(&larder).await;
    assert!(!larder.log().contains("second"), "{}", larder.log());
}

#[tokio::test]
async fn a_command_that_fails_is_named() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    for (command, told) in [
        ("[\"false\"]", "false: exit status: 1"),
        ("[sh, -c, \"echo token >&2; echo expired >&2; exit 3\"]", "sh: exit status: 3: token expired"),
        ("[sh, -c, \"yes a | head -c 1000000 >&2; exit 3\"]", "a a a"),
        ("[sh, -c, \"echo no token >&2\"]", "sh: it printed no password: no token"),
        ("[sleep, \"1000\"]", "sleep: it runs, and has printed no password yet"),
    ] {
        let larder = start(&redis, &format!("auth: {{exec: {command}}}"), &upstream);
        larder.metric_becomes("larder_redis_failure{reason=\"no-credentials\"}", 1.0).await;
        let health = larder.admin.get("/healthz").await.json();
        let trouble = health["redis"]["trouble"].as_str().unwrap();
        assert!(trouble.contains(told) && trouble.len() < 600, "{trouble}");
    }
}

/// Open connections stay logged in, so that nothing else tells of it before they end.
#[tokio::test]
async fn a_renewal_that_fails_is_told_once() {
    let (redis, upstream, scratch) = (Redis::start().await, Upstream::start(), Scratch::new());
    let larder = start_renewing(&redis, &scratch, &upstream).await;
    let file = scratch.path().join("password");
    let path = file.display().to_string();
    std::fs::remove_file(file).unwrap();
    let words = "open connections stay logged in with the last one";
    is_explained(&larder, "no-credentials", words).await;
    assert_eq!(
        (larder.metric("larder_redis_up").await, larder.metric("larder_redis_breaker_opened_total").await),
        (1.0, 0.0)
    );
    let warnings = || {
        let log = larder.log();
        let is_ours =
            |line: &&str| line.contains("the password for Redis was not renewed") && line.contains(&path);
        log.lines().filter(is_ours).count()
    };
    // Further renewals fail for the same reason.
    let logins = redis.logins().await;
    scratch.file("password", "first");
    larder.metric_becomes("larder_redis_failure{reason=\"no-credentials\"}", 0.0).await;
    eventually("it logs in again", || async { (redis.logins().await > logins).then_some(()) }).await;
    assert_eq!(warnings(), 1, "{}", larder.log());
    larder.get("/items/1").await.assert_hit();
}

/// The server has another password than the file: open connections go on, and new ones would fail.
#[tokio::test]
async fn a_refused_renewal_is_told_before_connections_end() {
    let (redis, upstream, scratch) = (Redis::start().await, Upstream::start(), Scratch::new());
    let larder = start_renewing(&redis, &scratch, &upstream).await;
    set_password(&redis, "second").await;
    is_explained(&larder, "wrong-password", "open connections stay logged in with the last one").await;
    assert_eq!(
        (larder.metric("larder_redis_up").await, larder.metric("larder_redis_breaker_opened_total").await),
        (1.0, 0.0)
    );
    larder.get("/items/1").await.assert_hit();
    scratch.file("password", "second");
    larder.metric_becomes("larder_redis_failure{reason=\"wrong-password\"}", 0.0).await;
    let health = larder.admin.get("/healthz").await.json();
    assert_eq!(health["redis"]["reconnections"], 0, "{health}");
    let log = larder.log();
    assert_eq!(log.matches("the password for Redis was not renewed").count(), 1, "{log}");
    eventually("the renewal is logged", || async {
        larder.log().contains("the password for Redis was renewed").then_some(())
    })
    .await;
    assert!(!log.contains("second"), "{log}");
}

/// A new connection can't wait for it, and a renewal can.
#[tokio::test]
async fn a_command_that_takes_its_time_renews_the_login() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    set_password(&redis, "first").await;
    let larder = start(&redis, "auth: {exec: [sh, -c, \"sleep 0.5; echo first\"], every: 1s}", &upstream);
    shares(&larder).await;
    let before = redis.logins().await;
    eventually("open connections log in again", || async {
        (redis.logins().await > before + 3).then_some(())
    })
    .await;
    assert_eq!(larder.metric("larder_redis_failure{reason=\"no-credentials\"}").await, 0.0);
}
