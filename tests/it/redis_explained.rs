//! Why Redis can't be used: the same words in the log, `/readyz`, `/healthz`, `/metrics`, the dashboard and `larder health`.

use larder::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{
    Certificates, Cluster, Command, Line, Redis, Relay, Replica, Upstream, eventually, free_port,
};

const ROUTES: &str = "routes: [{path: \"/items/{id}\", ttl: 1h, tags: [items]}]";

fn start(redis: &str, upstream: &Upstream) -> Replica {
    Replica::with(&format!("store: {{redis: {redis}, timeout: 1s}}\n{ROUTES}"), upstream, Clock::system())
}

/// The lines of the log about Redis at this port.
fn warnings(larder: &Replica, port: u16) -> Vec<String> {
    let server = format!("127.0.0.1:{port}");
    let is_ours = |line: &&str| line.contains("WARN") && line.contains(&server);
    larder.log().lines().filter(is_ours).map(str::to_owned).collect()
}

/// Clients are served, and everybody who looks is told the same.
pub async fn is_explained(larder: &Replica, code: &str, words: &str) {
    for path in ["/readyz", "/healthz"] {
        let redis = eventually(code, || async {
            let health = larder.admin.get(path).await.assert_status(200).json();
            assert_ne!(health["redis"]["reason"], "other", "{health}");
            (health["redis"]["reason"] == code).then(|| health["redis"].clone())
        })
        .await;
        assert!(redis["trouble"].as_str().unwrap().contains(words), "{path}: {redis}");
    }
    let metrics = larder.admin.get("/metrics").await;
    assert!(
        metrics.text().contains(&format!("larder_redis_failure{{reason=\"{code}\"}} 1")),
        "{}",
        metrics.text()
    );
    let notes = larder.admin.get("/dashboard/data").await.json()["notes"].clone();
    assert!(notes[0]["text"].as_str().is_some_and(|text| text.contains(words)), "{notes}");
    let admin = format!("http://{}", larder.admin.address());
    let health = Command::new(&["health", "--admin", &admin]).stdout().await;
    assert!(health.starts_with("degraded: Redis: ") && health.contains(words), "{health}");
    larder.get("/items/1").await.assert_status(200);
}

/// [`is_explained`] from the start, with one warning in the log.
async fn is_explained_once(settings: &str, port: u16, code: &str, words: &str) {
    let upstream = Upstream::start();
    let larder = start(settings, &upstream);
    is_explained(&larder, code, words).await;
    eventually("the log says so", || async { (!warnings(&larder, port).is_empty()).then_some(()) }).await;
    // Several more probes and attempts to connect fail meanwhile.
    for _ in 0..3 {
        is_explained(&larder, code, words).await;
    }
    let warnings = warnings(&larder, port);
    assert!(matches!(&*warnings, [one] if one.contains(code) && one.contains(words)), "{warnings:#?}");
}

#[tokio::test]
async fn a_healthy_start_warns_of_nothing() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start(&redis.url(), &upstream);
    larder.is_connected().await;
    assert_eq!(warnings(&larder, redis.port()), [""; 0]);
    let health = larder.admin.get("/healthz").await.assert_status(200).json();
    assert_eq!(
        (&health["redis"]["reason"], &health["redis"]["trouble"]),
        (&None::<&str>.into(), &None::<&str>.into())
    );
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let port = free_port();
    is_explained_once(&format!("\"redis://127.0.0.1:{port}\""), port, "refused", "connection was refused")
        .await;
    let upstream = Upstream::start();
    let larder = start("\"redis://no-such-host.invalid\"", &upstream);
    is_explained(&larder, "name-not-resolved", "name can't be resolved").await;
    let larder = start("\"redis+unix:///nowhere/redis.sock\"", &upstream);
    is_explained(&larder, "no-socket", "socket does not exist").await;
    let redis = Redis::start().await;
    let larder = start(&format!("\"redis+unix://{}/2\"", redis.socket().display()), &upstream);
    is_explained(&larder, "no-socket", "let it end with the socket").await;
}

#[tokio::test]
async fn a_server_that_accepts_and_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    is_explained_once(&format!("\"redis://127.0.0.1:{port}\""), port, "no-reply", "nothing answers").await;
}

#[tokio::test]
async fn a_server_that_stops_answering() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start(&redis.url(), &upstream);
    larder.is_connected().await;
    redis.stop();
    is_explained(&larder, "no-reply", "answer").await;
    redis.cont();
    larder.is_connected().await;
}

#[tokio::test]
async fn a_port_that_is_not_redis() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let url = format!("\"redis://127.0.0.1:{port}\"");
    is_explained_once(&url, port, "not-redis", "does not speak the Redis protocol").await;
}

/// The commands under way fail as well, and say nothing else.
#[tokio::test]
async fn a_connection_that_breaks_while_in_use() {
    for (line, code, words) in [
        (Line::Cut, "connection-closed", "the server closed the connection"),
        (
            Line::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            "not-redis",
            "does not speak the Redis protocol",
        ),
    ] {
        let (redis, upstream) = (Redis::start().await, Upstream::start());
        let relay = Relay::to(redis.address()).await;
        let larder = start(&format!("\"{}\"", relay.url()), &upstream);
        larder.is_connected().await;
        larder.get("/items/1").await.assert_status(200);
        relay.set(line);
        is_explained(&larder, code, words).await;
        let (log, server) = (larder.log(), relay.address().to_string());
        let unexplained = |line: &&str| line.contains(&server) && line.contains("the connection failed: ");
        assert_eq!(log.lines().find(unexplained), None, "{line:?}");
        relay.set(Line::Whole);
        larder.is_connected().await;
    }
}

#[tokio::test]
async fn credentials_that_are_wrong_or_missing() {
    let redis = Redis::start().await;
    redis.command(&["ACL", "SETUSER", "app", "on", ">secret", "+@all", "allkeys", "allchannels"]).await;
    let port = redis.port();
    is_explained_once(
        &format!("\"redis://app:wrong@127.0.0.1:{port}\""),
        port,
        "wrong-password",
        "WRONGPASS",
    )
    .await;
    redis.command(&["CONFIG", "SET", "requirepass", "secret"]).await;
    is_explained_once(&format!("\"redis://127.0.0.1:{port}\""), port, "auth-required", "set `password`")
        .await;
}

#[tokio::test]
async fn permissions_that_are_missing() {
    let redis = Redis::start().await;
    let port = redis.port();
    for (denied, words) in [("-evalsha", "'evalsha'"), ("resetkeys", "ermissions to access")] {
        redis.command(&["ACL", "SETUSER", "app", "reset", "on", ">p", "~*", "&*", "+@all", denied]).await;
        let (upstream, url) = (Upstream::start(), format!("\"redis://app:p@127.0.0.1:{port}\""));
        is_explained(&start(&url, &upstream), "no-permission", words).await;
    }
}

/// Redis answers, so larder shares what it can, and says what it can't.
#[tokio::test]
async fn a_permission_that_only_reads_lack() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let port = redis.port();
    redis
        .command(&["ACL", "SETUSER", "app", "reset", "on", ">p", "~*", "&*", "+@all", "-get", "-mget"])
        .await;
    let larder = start(&format!("\"redis://app:p@127.0.0.1:{port}\""), &upstream);
    larder.is_connected().await;
    larder.get("/items/1").await.assert_status(200);
    is_explained(&larder, "no-permission", "'get'").await;
    redis.command(&["ACL", "SETUSER", "app", "+get"]).await;
    eventually("all is well again", || async {
        larder.get("/items/2").await.assert_status(200);
        larder.purge_tag("items").await;
        let health = larder.admin.get("/healthz").await.json();
        health["redis"]["reason"].is_null().then_some(())
    })
    .await;
}

/// Purges of other replicas are noticed by polling.
#[tokio::test]
async fn a_channel_that_may_not_be_listened_to() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    redis.command(&["ACL", "SETUSER", "app", "reset", "on", ">p", "~*", "resetchannels", "+@all"]).await;
    let larder = start(&format!("\"redis://app:p@127.0.0.1:{}\"", redis.port()), &upstream);
    larder.is_connected().await;
    larder.metric_becomes("larder_redis_failure{reason=\"no-permission\"}", 1.0).await;
    assert!(larder.log().contains("Redis delivers no wake-ups"), "{}", larder.log());
    let health = larder.admin.get("/healthz").await.json();
    assert!(
        health["redis"]["wakeUpTrouble"].as_str().is_some_and(|words| words.contains("channel")),
        "{health}"
    );
    assert_eq!(health["redis"]["status"], "ok");
}

/// A proxy that speaks RESP2 alone: wake-ups are subscribed to by RESP2.
#[tokio::test]
async fn a_proxy_without_resp3() {
    let (redis, upstream) = (Redis::start_with(&["--rename-command", "HELLO", ""]).await, Upstream::start());
    let larder = start(&redis.url(), &upstream);
    let other = start(&redis.url(), &upstream);
    larder.is_connected().await;
    other.is_connected().await;
    larder.listens(&redis).await;
    larder.get("/items/1").await.assert_stored();
    other.has("/items/1").await;
    let health = other.admin.get("/healthz").await.json();
    assert!(health["redis"]["wakeUpTrouble"].is_null(), "{health}");
}

/// A server that speaks TLS alone on this port, by the certificate of this name.
async fn start_tls(certificates: &Certificates, port: u16, server: &str, more: &[&str]) -> Redis {
    let tls_port = port.to_string();
    let [cert, key, ca] = [format!("{server}.pem"), format!("{server}.key"), "ca.pem".to_owned()]
        .map(|file| certificates.text(&file));
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key];
    Redis::start_with(&[&tls[..], &["--tls-ca-cert-file", &ca], more].concat()).await
}

#[tokio::test]
async fn tls_that_fails() {
    let certificates = Certificates::new();
    let ca = certificates.text("ca.pem");
    for (server, clients, ca, code, words) in [
        ("server", "no", "", "unknown-ca", "set `store.redis.tls.ca`"),
        ("expired", "no", &*ca, "certificate-expired", "has expired"),
        ("other", "no", &*ca, "certificate-name", "(elsewhere.test)"),
        ("server", "yes", &*ca, "client-certificate", "set `store.redis.tls.cert`"),
    ] {
        let port = free_port();
        let _redis = start_tls(&certificates, port, server, &["--tls-auth-clients", clients]).await;
        let tls = if ca.is_empty() { String::new() } else { format!(", tls: {{ca: \"{ca}\"}}") };
        is_explained_once(&format!("{{url: \"rediss://127.0.0.1:{port}\"{tls}}}"), port, code, words).await;
        if clients == "no" && server == "server" {
            let url = format!("\"redis://127.0.0.1:{port}\"");
            is_explained_once(&url, port, "plain-to-tls-port", "write `rediss://`").await;
        }
    }
    let redis = Redis::start().await;
    let (port, url) = (redis.port(), redis.url().replace("redis://", "rediss://"));
    is_explained_once(&format!("\"{url}\""), port, "tls-to-plain-port", "does not speak TLS").await;
}

/// The server says so by an alert, in one word.
#[tokio::test]
async fn tls_that_the_server_refuses() {
    let certificates = Certificates::new();
    let text = |file: &str| certificates.text(file);
    let none = String::new();
    let identity = |name: &str| {
        format!(", cert: \"{}\", key: \"{}\"", text(&format!("{name}.pem")), text(&format!("{name}.key")))
    };
    for (more, identity, code, words) in [
        (
            &["--tls-protocols", "TLSv1.2", "--tls-ciphers", "AES128-SHA", "--tls-auth-clients", "no"][..],
            none.clone(),
            "tls-ciphers",
            "no TLS cipher in common",
        ),
        (
            &["--tls-protocols", "TLSv1.1", "--tls-auth-clients", "no"],
            none,
            "tls-version",
            "neither TLS 1.2 nor TLS 1.3",
        ),
        (&[], identity("client-expired"), "client-certificate", "client certificate has expired"),
    ] {
        let port = free_port();
        let _redis = start_tls(&certificates, port, "server", more).await;
        let tls = format!("{{ca: \"{}\"{identity}}}", text("ca.pem"));
        let settings = format!("{{url: \"rediss://127.0.0.1:{port}\", tls: {tls}}}");
        is_explained_once(&settings, port, code, words).await;
    }
}

/// The words of a server make one line of the log, without control characters for a terminal.
#[tokio::test]
async fn an_error_that_nobody_knows() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let relay = Relay::to(redis.address()).await;
    relay.set(Line::Garbage(b"-ERR quota of tenant \x1b[31m7 exceeded\r\n"));
    let larder = start(&format!("\"{}\"", relay.url()), &upstream);
    let words = "answers with an error: ERR quota of tenant \\u{1b}[31m7 exceeded";
    is_explained(&larder, "error-reply", words).await;
    let log = || async { Some(larder.log()).filter(|log| log.contains("quota of tenant")) };
    let log = eventually("the log says so", log).await;
    assert!(!log.contains('\x1b'), "{log}");
}

#[tokio::test]
async fn a_node_of_a_cluster_asked_as_a_single_server() {
    let cluster = Cluster::start().await;
    let other = (cluster.index().await + 1) % 3;
    let port = cluster[other].port();
    is_explained_once(
        &format!("\"redis://127.0.0.1:{port}\""),
        port,
        "cluster-node",
        "write `redis-cluster://`",
    )
    .await;
    // The node that has the index can be used in part.
    let (index, upstream) = (&cluster[cluster.index().await], Upstream::start());
    let larder = start(&format!("\"redis://127.0.0.1:{}\"", index.port()), &upstream);
    larder.is_connected().await;
    for number in 0..20 {
        larder.get(&format!("/items/{number}")).await.assert_status(200);
    }
    is_explained(&larder, "cluster-node", "write `redis-cluster://`").await;
}

/// It answers, so larder uses it as the one server that it is.
#[tokio::test]
async fn a_single_server_asked_as_a_cluster() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start(&format!("\"redis-cluster://127.0.0.1:{}\"", redis.port()), &upstream);
    larder.is_connected().await;
    is_explained(&larder, "not-a-cluster", "write `redis://`").await;
}

#[tokio::test]
async fn a_server_that_refuses_for_now() {
    let primary = Redis::start().await;
    let replica = Redis::start_with(&["--replicaof", &format!("127.0.0.1 {}", primary.port())]).await;
    eventually("the replica follows", || async {
        replica.command(&["INFO", "replication"]).await.contains("master_link_status:up").then_some(())
    })
    .await;
    let port = replica.port();
    is_explained_once(&format!("\"{}\"", replica.url()), port, "read-only-replica", "read-only replica")
        .await;
}

/// The command that a test asks Redis with takes the one connection that is allowed.
#[tokio::test]
async fn a_server_that_takes_no_more_connections() {
    let redis = Redis::start_with(&["--maxclients", "1"]).await;
    let mut only = tokio::net::TcpStream::connect(redis.address()).await.unwrap();
    only.write_all(b"PING\r\n").await.unwrap();
    only.read_u8().await.unwrap();
    let port = redis.port();
    is_explained_once(&format!("\"redis://127.0.0.1:{port}\""), port, "max-clients", "raise `maxclients`")
        .await;
}

#[tokio::test]
async fn a_server_that_is_loading() {
    let relay = Relay::to(([127, 0, 0, 1], free_port()).into()).await;
    relay.set(Line::Garbage(b"-LOADING Redis is loading the dataset in memory\r\n"));
    let redis = Redis::start().await;
    relay.lead_to(redis.address());
    let upstream = Upstream::start();
    let larder = start(&format!("\"{}\"", relay.url()), &upstream);
    is_explained(&larder, "loading", "loading its data set").await;
    relay.set(Line::Whole);
    larder.is_connected().await;
}

#[tokio::test]
async fn sentinels_that_name_no_primary() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let larder = start(&format!("\"redis-sentinel://127.0.0.1:{}/shop\"", redis.port()), &upstream);
    is_explained(&larder, "not-a-sentinel", "is not a sentinel").await;
    let larder = start(&format!("\"redis-sentinel://127.0.0.1:{}/shop\"", free_port()), &upstream);
    is_explained(&larder, "no-sentinel", "no sentinel answers").await;
    let mut sentinel = Redis::prepared(free_port(), &["--sentinel"]).configured_by("sentinel.conf");
    sentinel.file("sentinel.conf", "");
    sentinel.start_now().await;
    let larder = start(&format!("\"redis-sentinel://127.0.0.1:{}/shop\"", sentinel.port()), &upstream);
    is_explained(&larder, "unknown-service", "no service `shop`").await;
}

#[tokio::test]
async fn a_change_of_the_reason_is_told_and_then_that_all_is_well() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let user = ["ACL", "SETUSER", "app", "reset", "on", ">secret", "+@all", "~*", "&*"];
    redis.command(&user).await;
    let larder = start(&format!("\"redis://app:secret@127.0.0.1:{}\"", redis.port()), &upstream);
    larder.is_connected().await;
    redis.kill();
    let is_logged = async |code: &str, port| {
        let has_code = |line: &String| line.contains(code);
        eventually(code, || async { warnings(&larder, port).iter().any(has_code).then_some(()) }).await;
    };
    is_explained(&larder, "refused", "connection was refused").await;
    is_logged("refused", redis.port()).await;
    redis.restart().await;
    is_explained(&larder, "wrong-password", "WRONGPASS").await;
    is_logged("wrong-password", redis.port()).await;
    redis.command(&user).await;
    larder.is_connected().await;
    let warnings = warnings(&larder, redis.port());
    assert!(warnings.iter().filter(|line| line.contains("refused")).count() == 1, "{warnings:#?}");
    assert!(warnings.iter().filter(|line| line.contains("wrong-password")).count() == 1, "{warnings:#?}");
    assert!(larder.log().contains("connected to Redis"), "{}", larder.log());
}
