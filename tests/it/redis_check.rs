//! `larder check --connect` and `larder doctor`: what they find about a Redis, and how to mend it.

use serde_json::Value;

use crate::support::{
    Certificates, Cluster, Command, Redis, Replica, Scratch, Sentinels, Upstream, free_port,
};

/// The exit code and the JSON of `larder COMMAND --output json` with this `store.redis`.
async fn inspect(arguments: &[&str], redis: &str, upstream: &str) -> (Option<i32>, Value) {
    let scratch = Scratch::new();
    let yaml = format!("upstream: {upstream}\nstore: {{redis: {redis}, timeout: 1s}}\nroutes: []\n");
    let file = scratch.file("proxy.yaml", &yaml);
    let arguments = [arguments, &["--output", "json", file.to_str().unwrap()]].concat();
    let output = Command::new(&arguments).output().await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code(), report)
}

async fn check(redis: &str) -> (Option<i32>, Value) {
    inspect(&["check", "--connect"], redis, "http://127.0.0.1:1").await
}

/// Whether a finding of this level has all the words, in its message or its help.
#[track_caller]
fn assert_finding(report: &Value, severity: &str, code: &str, words: &[&str]) {
    let found = report["diagnostics"].as_array().unwrap().iter().any(|finding| {
        let text = format!("{} {}", finding["message"], finding["help"]);
        finding["severity"] == severity
            && finding["code"] == code
            && words.iter().all(|word| text.contains(word))
    });
    assert!(found, "{severity} {code} {words:?}: {report:#}");
}

fn quoted(url: &str) -> String {
    format!("\"{url}\"")
}

#[tokio::test]
async fn a_server_set_as_documented_is_without_fault() {
    let redis = Redis::start_with(&["--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru"]).await;
    redis.set_user(&[]).await;
    let (code, report) = check(&quoted(&format!("redis://app:p@127.0.0.1:{}", redis.port()))).await;
    assert_eq!((code, &report["errors"], &report["warnings"]), (Some(0), &0.into(), &0.into()), "{report:#}");
    let found = &report["redis"];
    assert_eq!(
        (&found["topology"], &found["server"]),
        (&"single".into(), &redis.product().into()),
        "{found}"
    );
    assert_eq!(
        (&found["maxmemoryPolicy"], &found["maxmemory"]),
        (&"volatile-lru".into(), &(64 << 20).into())
    );
    assert_eq!((&found["configAllowed"], &found["refused"].as_array().unwrap().len()), (&false.into(), &0));
    assert!(found["roundTripMillis"].is_f64() && found["wakeUpMillis"].is_f64(), "{found}");
    assert!(found["clockLeadMillis"].as_f64().is_some_and(|lead| lead.abs() < 1000.0), "{found}");
    assert!(found["tried"].as_u64().is_some_and(|tried| tried >= 50), "{found}");
    assert_eq!(redis.command(&["DBSIZE"]).await, "0", "it leaves no key behind");
}

/// Nothing is published there: somebody may act on it.
#[tokio::test]
async fn the_channel_of_announcements_is_tried_without_a_message() {
    let redis = Redis::start().await;
    let url = format!("\"redis://app:p@127.0.0.1:{}\", publish: shop-purges", redis.port());
    redis.set_user(&[]).await;
    let (code, report) = check(&url).await;
    assert_eq!(code, Some(0), "{report:#}");
    let words = ["`shop-purges` of `store.publish`", "&shop-purges"];
    assert_finding(&report, "warning", "no-permission", &words);
    redis.set_user(&["&shop-*"]).await;
    redis.command(&["CONFIG", "RESETSTAT"]).await;
    let (_, report) = check(&url).await;
    assert!(!report.to_string().contains("no-permission"), "{report:#}");
    let commands = redis.command(&["INFO", "commandstats"]).await;
    let calls = |name: &str| {
        let line = commands.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{name}:calls=")));
        line.and_then(|line| line.split(',').next()?.parse::<u32>().ok()).unwrap_or_default()
    };
    assert!(calls("subscribe") >= 2, "{commands}");
    // Those of the wake-ups.
    assert!(calls("publish") <= 5, "{commands}");
    let by_tag = "[shop-purges, {channel: 'guild:{id}', tag: 'guild:{id}'}]";
    let url = format!("\"redis://app:p@127.0.0.1:{}\", publish: {by_tag}", redis.port());
    let (_, report) = check(&url).await;
    let words = ["`guild:*` of `store.publish`", "&guild:*"];
    assert_finding(&report, "warning", "no-permission", &words);
    redis.set_user(&["&shop-*", "&guild:*"]).await;
    let (_, report) = check(&url).await;
    assert!(!report.to_string().contains("no-permission"), "{report:#}");
}

#[tokio::test]
async fn missing_rights_are_named_with_the_command_that_grants_them() {
    let redis = Redis::start().await;
    let url = quoted(&format!("redis://app:p@127.0.0.1:{}", redis.port()));
    for (rights, severity, words) in [
        (&["-zadd", "-hset"][..], "error", &["zadd", "+zadd", "not shared"][..]),
        (&["-evalsha"], "error", &["may not run evalsha", "+evalsha"]),
        (&["-rename"], "warning", &["rename", "`collapse: replicas`"]),
        (&["-xadd"], "warning", &["+xadd", "GET /purges"]),
        (&["-mget"], "warning", &["+mget"]),
        (&["resetkeys"], "error", &["larder's keys", "~{NAMESPACE}:*"]),
        (
            &["resetkeys", "~{larder}:*", "~larder:r5:*", "~larder:lease:*"],
            "warning",
            &["larder's keys", "~NAMESPACE:rate:*", "the requests of `rate`"],
        ),
        (&["resetchannels"], "warning", &["larder's channel", "&NAMESPACE:wake"]),
    ] {
        redis.set_user(rights).await;
        let (code, report) = check(&url).await;
        assert_eq!(code, Some(i32::from(severity == "error")), "{rights:?}: {report:#}");
        assert_finding(&report, severity, "no-permission", words);
    }
}

/// A service that hides its settings is inspected by what it lets larder do.
#[tokio::test]
async fn without_info_and_config_the_rest_is_checked() {
    let redis = Redis::start().await;
    redis.set_user(&["-info"]).await;
    let url = quoted(&format!("redis://app:p@127.0.0.1:{}", redis.port()));
    let (code, report) = inspect(&["doctor"], &url, "http://127.0.0.1:1").await;
    assert_eq!(code, Some(1));
    let found = &report["redis"];
    assert!(found["version"].is_string() && found["usedMemory"].is_null(), "by HELLO: {found}");
    assert_eq!((&found["infoAllowed"], &found["configAllowed"]), (&false.into(), &false.into()));
    assert_finding(&report, "error", "no-permission", &["info", "+info"]);
    assert_finding(&report, "note", "not-visible", &["INFO and CONFIG are refused"]);
}

#[tokio::test]
async fn renamed_commands_are_named() {
    let redis = Redis::start_with(&["--rename-command", "ZADD", "", "--rename-command", "XADD", "x"]).await;
    let (code, report) = check(&quoted(&redis.url())).await;
    assert_eq!(code, Some(1));
    assert_finding(&report, "error", "unknown-command", &["zadd", "rename-command"]);
    assert_finding(&report, "warning", "unknown-command", &["xadd", "GET /purges"]);
}

#[tokio::test]
async fn wake_ups_are_delivered_by_resp2_too() {
    let redis = Redis::start_with(&["--rename-command", "HELLO", ""]).await;
    let (code, report) = check(&quoted(&redis.url())).await;
    assert_eq!(code, Some(0), "{report:#}");
    assert!(report["redis"]["wakeUpMillis"].is_f64(), "{report:#}");
}

#[tokio::test]
async fn a_connection_that_fails_is_explained() {
    let (redis, certificates) = (Redis::start().await, Certificates::new());
    redis.command(&["CONFIG", "SET", "requirepass", "right"]).await;
    let port = redis.port();
    let ca = certificates.text("ca.pem");
    for (settings, code, words) in [
        (quoted(&format!("redis://127.0.0.1:{}", free_port())), "refused", "check host and port"),
        (quoted(&format!("redis://:wrong@127.0.0.1:{port}")), "wrong-password", "WRONGPASS"),
        (quoted(&format!("redis://127.0.0.1:{port}")), "auth-required", "set `password`"),
        (
            format!("{{url: \"rediss://127.0.0.1:{port}\", tls: {{ca: \"{ca}\"}}}}"),
            "tls-to-plain-port",
            "redis://",
        ),
        (
            quoted(&format!("redis-sentinel://:right@127.0.0.1:{port}/shop")),
            "not-a-sentinel",
            "name a sentinel",
        ),
    ] {
        let (exit, report) = check(&settings).await;
        assert_eq!(exit, Some(1), "{settings}");
        assert_finding(&report, "error", code, &[words]);
    }
}

#[tokio::test]
async fn settings_that_hurt_are_warnings_and_doctor_advises() {
    let settings =
        ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--timeout", "3", "--appendonly", "yes"];
    let (redis, upstream) = (Redis::start_with(&settings).await, Upstream::start());
    let url = quoted(&redis.url());
    let (code, report) = check(&url).await;
    assert_eq!(code, Some(0));
    assert_finding(&report, "warning", "eviction-policy", &["allkeys-lru", "volatile-lru"]);
    assert_finding(&report, "warning", "idle-timeout", &["3 s", "timeout 0"]);
    assert_eq!(inspect(&["check", "--connect", "--strict"], &url, "http://127.0.0.1:1").await.0, Some(1));
    let (code, report) = inspect(&["doctor"], &url, &upstream.url()).await;
    assert_eq!((code, &report["upstream"]["status"]), (Some(0), &200.into()), "{report:#}");
    assert_finding(&report, "note", "persistence", &["appendonly no"]);
    let (code, report) = inspect(&["doctor"], &url, &format!("http://127.0.0.1:{}", free_port())).await;
    assert_eq!(code, Some(1));
    assert_finding(&report, "error", "upstream", &["can't be reached", "API runs"]);
}

#[tokio::test]
async fn a_cluster_and_sentinels_are_inspected_whole() {
    let cluster = Cluster::start().await;
    let (code, report) = check(&quoted(&cluster.url())).await;
    assert_eq!((code, &report["redis"]["topology"]), (Some(0), &"cluster".into()), "{report:#}");
    assert_eq!(report["redis"]["masters"].as_array().unwrap().len(), 3, "{report:#}");
    let node = format!("redis://127.0.0.1:{}", cluster[cluster.index().await].port());
    let (code, report) = check(&quoted(&node)).await;
    assert_eq!(code, Some(1));
    assert_finding(&report, "error", "wrong-topology", &["redis-cluster://"]);
    let sentinels = Sentinels::start().await;
    let (code, report) = check(&quoted(&sentinels.url())).await;
    assert_eq!((code, &report["redis"]["topology"]), (Some(0), &"sentinel".into()), "{report:#}");
    assert_finding(&report, "warning", "min-replicas", &["min-replicas-to-write 1"]);
}

/// larder itself works with any one of them, so nothing else tells which are dead.
#[tokio::test]
async fn sentinels_that_do_not_answer_are_named() {
    let mut all = Sentinels::start().await;
    let url = quoted(&all.url());
    let strict = format!("{url}, max_lag: 0s");
    let named = |number: usize, all: &Sentinels| {
        format!("sentinel {} names no primary", all.sentinels[number].address())
    };
    all.sentinels[1].stop();
    for (arguments, code) in [(&["check", "--connect"][..], 0), (&["check", "--connect", "--strict"], 1)] {
        let (exit, report) = inspect(arguments, &url, "http://127.0.0.1:1").await;
        assert_eq!(exit, Some(code), "{report:#}");
        assert_finding(&report, "warning", "no-reply", &[&named(1, &all), "start it"]);
    }
    let report = inspect(&["doctor"], &url, "http://127.0.0.1:1").await.1;
    assert_finding(&report, "warning", "no-reply", &[&named(1, &all)]);
    let text = check(&strict).await.1.to_string();
    assert!(!text.contains(&named(0, &all)) && !text.contains("no-sentinel-majority"), "{text}");
    all.sentinels[0].kill();
    let (exit, report) = check(&url).await;
    assert_eq!(exit, Some(0), "{report:#}");
    assert_finding(&report, "warning", "refused", &[&named(0, &all), "connection was refused"]);
    assert_finding(&report, "warning", "no-sentinel-majority", &["1 of 3 sentinels", "max_lag: 0s"]);
    let (exit, report) = check(&strict).await;
    assert_eq!(exit, Some(1), "{report:#}");
    assert_finding(&report, "error", "no-sentinel-majority", &["no majority of the sentinels answers"]);
    all.sentinels[2].kill();
    let (exit, report) = check(&url).await;
    assert_eq!(exit, Some(1), "{report:#}");
    assert_finding(&report, "error", "no-sentinel", &["no sentinel answers"]);
    for number in [0, 2] {
        assert_finding(&report, "warning", "refused", &[&named(number, &all)]);
    }
}

#[tokio::test]
async fn a_single_server_is_no_cluster() {
    let redis = Redis::start().await;
    let url = quoted(&redis.url().replace("redis://", "redis-cluster://"));
    for arguments in [&["check", "--connect"][..], &["doctor"]] {
        let (code, report) = inspect(arguments, &url, "http://127.0.0.1:1").await;
        assert_eq!(code, Some(1), "{report:#}");
        assert_finding(&report, "error", "not-a-cluster", &["write `redis://`"]);
    }
}

/// The commands are tried on other keys, which say nothing of these.
#[tokio::test]
async fn keys_that_another_application_wrote_are_named() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let url = quoted(&redis.url());
    redis.command(&["SET", "{larder}:journal", "x"]).await;
    for (command, code, words) in [
        (&["SET", "{larder}:index", "x"][..], "wrong-type", "`{larder}:index` is a string"),
        (&["ZADD", "{larder}:index", "5", "ann"], "foreign-index", "larder would delete it"),
        (&["ZADD", "{larder}:index", "-0.5", "ann"], "foreign-index", "larder would delete it"),
    ] {
        redis.command(&["DEL", "{larder}:index"]).await;
        redis.command(command).await;
        for arguments in [&["check", "--connect"][..], &["doctor"]] {
            let (exit, report) = inspect(arguments, &url, &upstream.url()).await;
            assert_eq!(exit, Some(1), "{report:#}");
            assert_finding(&report, "error", code, &[words, "choose another `store.namespace`"]);
            assert_finding(&report, "warning", "wrong-type", &["`{larder}:journal` is a string"]);
        }
        assert_ne!(redis.command(&["EXISTS", "{larder}:index"]).await, "0", "it is still there");
    }
    redis.flush().await;
    let larder = Replica::start(&redis, &upstream, "timeout: 5s", "routes: [{path: /a, ttl: 1h}]\n").await;
    larder.get("/a").await.assert_stored();
    assert_eq!(redis.command(&["TYPE", "{larder}:index"]).await, "zset");
    let (exit, report) = check(&url).await;
    let text = report.to_string();
    assert!(exit == Some(0) && !text.contains("{larder}:"), "{report:#}");
}

#[tokio::test]
async fn people_read_the_same_in_lines() {
    let (redis, scratch) = (Redis::start().await, Scratch::new());
    let yaml = format!("upstream: http://127.0.0.1:1\nstore: {{redis: \"{}\"}}\nroutes: []\n", redis.url());
    let file = scratch.file("proxy.yaml", &yaml);
    let text = Command::new(&["check", "--connect", file.to_str().unwrap()]).stdout().await;
    let server = format!("Redis: {} ", redis.product());
    for words in ["no errors; no routes", &server, "round trip ", "warning: Redis: `maxmemory` is not set"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let file = scratch.file("memory.yaml", "upstream: http://127.0.0.1:1\nroutes: []\n");
    let text = Command::new(&["check", "--connect", file.to_str().unwrap()]).stdout().await;
    assert!(text.contains("`store.redis` is not set"), "{text}");
}
