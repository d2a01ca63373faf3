//! NOTIFY of a real PostgreSQL: what is heard is purged, and what may not have been heard is purged with all that it could
//! have named.

use std::path::Path;

use ::larder::clock::Clock;
use serde_json::Value;

use super::{
    ALL, LIST, ONE, ROUTES, TWO, events_become, health, hits, missed, missed_becomes, source, source_becomes,
};
use crate::support::{
    Certificates, Command, Larder, Postgres, Process, Redis, Replica, Scratch, Upstream, eventually,
    free_port, is_root, markdown,
};

const NOTHING: [&str; 0] = [];

fn yaml(postgres: &str) -> String {
    format!(
        "{ROUTES}events:\n  - {{name: shop, notify: changes, postgres: {postgres}, \
         purge: [products, \"product:{{event.json:/id}}\"]}}\n"
    )
}

/// Waits until `/healthz` calls the source `away` for this reason.
async fn trouble_becomes(larder: &Larder, part: &str) {
    eventually(&format!("the reason has {part}"), || async {
        let source = source(larder).await;
        let is_told = source["trouble"].as_str().is_some_and(|trouble| trouble.contains(part));
        (is_told && source["status"] == "away").then_some(())
    })
    .await;
}

/// The exit code and the findings of `larder check --connect`.
async fn check(yaml: &str) -> (Option<i32>, Value) {
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{yaml}"));
    let arguments = ["check", "--connect", "--output", "json", file.to_str().expect("a path")];
    let output = Command::new(&arguments).output().await;
    let report = serde_json::from_slice(&output.stdout).expect("a report");
    (output.status.code(), report)
}

#[tokio::test]
async fn a_notification_purges_what_it_names() {
    let (postgres, upstream) = (Postgres::start().await, Upstream::start());
    let larder = Larder::with(&yaml(&postgres.url()), &upstream);
    source_becomes(&larder, "ok").await;
    assert_eq!(missed(&larder).await, 1, "what was announced before");
    assert_eq!(hits(&larder).await, NOTHING);
    postgres.sql("NOTIFY changes, '{\"id\": 1}'").await;
    events_become(&larder, "notify", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
    // Not JSON, or nothing.
    for (count, statement) in [(1.0, "NOTIFY changes, '7 }'"), (2.0, "NOTIFY changes")] {
        postgres.sql(statement).await;
        events_become(&larder, "notify", "malformed", count).await;
        assert_eq!(hits(&larder).await, NOTHING);
    }
    // A rollback announces nothing.
    postgres.sql("BEGIN; NOTIFY changes, '{\"id\": 1}'; ROLLBACK; NOTIFY changes, '{\"id\": 2}'").await;
    events_become(&larder, "notify", "named", 2.0).await;
    assert_eq!(hits(&larder).await, [ONE]);
    assert_eq!(source(&larder).await["kind"], "notify");
}

#[tokio::test]
async fn several_channels_are_heard_and_their_names_are_tags() {
    let (postgres, upstream) = (Postgres::start().await, Upstream::start());
    let yaml = yaml(&postgres.url())
        .replace("notify: changes", "notify: [\"product:1\", \"product:2\", \"Mixed\"]")
        .replace("[products, \"product:{event.json:/id}\"]", "[\"{event.channel}\"]");
    let larder = Larder::with(&yaml, &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    // The content does not matter, the channel names the product. Names in SQL are in lower case unless they are quoted.
    postgres.sql("NOTIFY \"product:1\", 'gone'; NOTIFY Mixed; SELECT pg_notify('products', '')").await;
    events_become(&larder, "notify", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [LIST, TWO]);
    postgres.sql("NOTIFY \"Mixed\"").await;
    events_become(&larder, "notify", "named", 2.0).await;
    assert_eq!(hits(&larder).await, ALL);
}

#[tokio::test]
async fn a_server_that_was_away_may_have_announced_anything() {
    let (mut postgres, upstream) = (Postgres::start().await, Upstream::start());
    let larder = Larder::with(&yaml(&postgres.url()), &upstream);
    source_becomes(&larder, "ok").await;
    hits(&larder).await;
    assert_eq!(hits(&larder).await, ALL);
    postgres.kill().await;
    trouble_becomes(&larder, "PostgreSQL does not listen on this address").await;
    assert_eq!(health(&larder).await.json()["status"], "degraded");
    larder.admin.get("/readyz").await.assert_status(200);
    assert_eq!(larder.metric("larder_event_source_up{source=\"shop\",kind=\"notify\"}").await, 0.0);
    postgres.start_now().await;
    missed_becomes(&larder, 2).await;
    assert_eq!(hits(&larder).await, NOTHING);
    assert!(larder.log().contains("possible event gap"));
    source_becomes(&larder, "ok").await;
    // A session that is ended alone is the same.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'";
    postgres.sql(end).await;
    missed_becomes(&larder, 3).await;
    assert_eq!(hits(&larder).await, NOTHING);
    postgres.sql("NOTIFY changes, '{\"id\": 1}'").await;
    events_become(&larder, "notify", "named", 1.0).await;
    assert_eq!(hits(&larder).await, [TWO]);
}

#[tokio::test]
async fn a_replica_that_joins_one_that_listens_purges_nothing() {
    let (postgres, redis, upstream) = (Postgres::start().await, Redis::start().await, Upstream::start());
    let yaml =
        format!("store: {{redis: \"{}\", max_lag: 0s, timeout: 5s}}\n{}", redis.url(), yaml(&postgres.url()));
    let start = async || {
        let replica = Replica::with(&yaml, &upstream, Clock::system());
        replica.is_connected().await;
        source_becomes(&replica, "ok").await;
        replica
    };
    let one = start().await;
    assert_eq!(missed(&one).await, 1);
    hits(&one).await;
    redis.holds(ALL.len()).await;
    let two = start().await;
    assert_eq!(missed(&two).await, 0);
    assert_eq!(hits(&two).await, ALL);
    postgres.sql("NOTIFY changes, '{\"id\": 1}'").await;
    events_become(&two, "notify", "named", 1.0).await;
    assert_eq!(hits(&two).await, [TWO]);
}

#[tokio::test]
async fn a_password_that_is_wrong_is_named_and_a_file_is_read_again() {
    let (postgres, upstream, scratch) = (Postgres::start().await, Upstream::start(), Scratch::new());
    let file = scratch.file("password", "wrong\n");
    let settings = format!(
        "{{url: \"postgres://larder@127.0.0.1:{}/shop\", password_file: \"{}\"}}",
        postgres.port(),
        file.display()
    );
    let yaml = yaml(&settings);
    let words = "the server rejects the user name or the password (28P01): check `username` and `password`";
    let (code, report) = check(&yaml).await;
    let found = report["diagnostics"][0]["message"].as_str().expect("a finding");
    assert!(code == Some(1) && found.contains(words) && found.contains("`shop`"), "{report:#}");
    let larder = Larder::with(&yaml, &upstream);
    trouble_becomes(&larder, words).await;
    assert_eq!(health(&larder).await.json()["status"], "degraded");
    assert!(larder.log().contains(words), "{}", larder.log());
    std::fs::remove_file(&file).expect("a file");
    trouble_becomes(&larder, "check `password_file`").await;
    scratch.file("password", "p\n");
    source_becomes(&larder, "ok").await;
    let (code, report) = check(&yaml).await;
    assert!(code == Some(0) && report["postgres"][0]["version"].is_string(), "{report:#}");
}

#[tokio::test]
async fn other_reasons_are_told_apart() {
    let postgres = Postgres::start().await;
    let port = postgres.port();
    for (url, part) in [
        (format!("postgres://larder:p@127.0.0.1:{}/shop", free_port()), "PostgreSQL does not listen"),
        (format!("postgres://larder@127.0.0.1:{port}/shop"), "set `password` under `postgres`"),
        (format!("postgres://larder:p@127.0.0.1:{port}/nothing"), "no such database"),
        (format!("postgres://larder:p@127.0.0.1:{port}/shop?sslmode=require"), "does not speak TLS"),
        ("postgres://larder@/shop?host=/nowhere".to_owned(), "socket does not exist"),
    ] {
        let (code, report) = check(&yaml(&format!("\"{url}\""))).await;
        let found = report["diagnostics"][0]["message"].as_str().expect("a finding");
        assert!(code == Some(1) && found.contains(part), "{url}: {report:#}");
    }
    let socket = format!("postgres://postgres@:{port}/shop?host={}", postgres.directory().display());
    assert_eq!(check(&yaml(&format!("\"{socket}\""))).await.0, Some(0));
}

#[tokio::test]
async fn the_certificate_of_the_server_is_verified() {
    let (certificates, upstream) = (Certificates::new(), Upstream::start());
    let read = |file| std::fs::read_to_string(certificates.path(file)).expect("a file");
    let mut postgres = Postgres::start().await;
    let (cert, key) =
        (postgres.file("cert.pem", &read("server.pem")), postgres.file("key.pem", &read("server.key")));
    make_private(&key);
    postgres.sql("ALTER SYSTEM SET ssl = on").await;
    postgres.sql(&format!("ALTER SYSTEM SET ssl_cert_file = '{}'", cert.display())).await;
    postgres.sql(&format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display())).await;
    postgres.kill().await;
    postgres.start_now().await;
    let settings = |host: &str, ca: &str| {
        let url = format!("postgres://larder:p@{host}:{}/shop", postgres.port());
        yaml(&format!("{{url: \"{url}?sslmode=verify-full\"{ca}}}"))
    };
    let (code, report) = check(&settings("127.0.0.1", "")).await;
    assert!(code == Some(1) && report.to_string().contains("`postgres.tls.ca`"), "{report:#}");
    let ca = format!(", tls: {{ca: \"{}\"}}", certificates.text("ca.pem"));
    let larder = Larder::with(&settings("127.0.0.1", &ca), &upstream);
    source_becomes(&larder, "ok").await;
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE application_name = 'larder'";
    assert_eq!(postgres.sql(encrypted).await.trim(), "t");
}

fn make_private(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("permissions");
}

/// It takes LISTEN and gives the connection to somebody else.
#[tokio::test]
async fn a_pooler_that_delivers_nothing_is_named() {
    let postgres = Postgres::start().await;
    postgres.sql("ALTER ROLE larder SUPERUSER").await;
    let (scratch, port) = (Scratch::new(), free_port());
    let users = scratch.file("users.txt", "\"larder\" \"p\"\n");
    let config = format!(
        "[databases]\nshop = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = transaction\n",
        postgres.port(),
        users.display()
    );
    let mut pooler = Pooler(start_pooler(&scratch.file("pgbouncer.ini", &config)));
    let yaml = yaml(&format!("postgres://larder:p@127.0.0.1:{port}/shop"));
    let report = eventually("the pooler answers", || async {
        Some(check(&yaml).await.1.to_string()).filter(|report| !report.contains("connection was refused"))
    })
    .await;
    assert!(report.contains("a pooler in session mode"), "{report}");
    pooler.0.kill().expect("an end");
}

struct Pooler(std::process::Child);

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_pooler(config: &Path) -> std::process::Child {
    let mut command = std::process::Command::new("pgbouncer");
    // Root may not run it.
    if is_root() {
        command.args(["-u", "nobody"]);
    }
    command.arg(config).stderr(std::process::Stdio::null()).spawn().expect("pgbouncer")
}

/// The trigger and the source of the page.
#[tokio::test]
async fn the_documented_trigger_announces_each_change() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let [trigger] = &markdown::blocks(&page, "sql")[..] else { panic!("one block of SQL") };
    let yaml = markdown::blocks(&page, "yaml").into_iter().find(|block| block.text.contains("notify:"));
    let (postgres, upstream) = (Postgres::start().await, Upstream::start());
    postgres.sql("CREATE TABLE products (id int PRIMARY KEY, name text)").await;
    postgres.sql(&trigger.text).await;
    let yaml = yaml.expect("a source").text;
    let url = yaml.lines().find_map(|line| line.trim().strip_prefix("postgres: ")).expect("a URL");
    let yaml = yaml.replace(url, &postgres.url()).replace("upstream: http://127.0.0.1:3000", "");
    let larder = Process::with(&yaml, &upstream).await;
    let metric = |meaning: &str| {
        format!("larder_events_total{{source=\"shop\",kind=\"notify\",meaning=\"{meaning}\"}}")
    };
    larder.metric_becomes("larder_event_source_up{source=\"shop\",kind=\"notify\"}", 1.0).await;
    let is_hit = async |target: &str| larder.get(target).await.assert_status(200).is_hit();
    let refill = async || {
        for target in ["/api/products", "/api/products/1", "/api/products/2"] {
            is_hit(target).await;
        }
    };
    let changes = [
        ("INSERT INTO products VALUES (1, 'a'), (2, 'b')", 2.0, [false, false, false]),
        ("UPDATE products SET name = 'c' WHERE id = 1", 3.0, [false, false, true]),
        ("DELETE FROM products WHERE id = 2", 4.0, [false, true, false]),
    ];
    for (statement, count, expected) in changes {
        refill().await;
        postgres.sql(statement).await;
        larder.metric_becomes(&metric("named"), count).await;
        for (target, hit) in ["/api/products", "/api/products/1", "/api/products/2"].iter().zip(expected) {
            assert_eq!(is_hit(target).await, hit, "{statement}: {target}");
        }
    }
    refill().await;
    postgres.sql("TRUNCATE products").await;
    larder.metric_becomes(&metric("widened"), 1.0).await;
    assert!(!is_hit("/api/products/1").await);
}
