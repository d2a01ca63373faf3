//! `store.redis` is read and checked in full, also the forms that this version refuses afterwards.

use std::path::PathBuf;

use crate::config::diagnostics::Diagnostics;
use crate::config::redis::REDIS;
use crate::config::{CredentialSource, RedisHost, RedisServers, RedisSettings, Secret, TlsFiles, yaml};

fn parse(written: &str) -> Result<RedisSettings, Vec<String>> {
    let problems = Diagnostics::default();
    let node = yaml::parse(written, &problems).expect("YAML");
    let settings = REDIS.read(&node, &problems);
    let errors: Vec<String> = problems.into_parts().0.into_iter().map(|problem| problem.message).collect();
    if errors.is_empty() { Ok(settings.expect("settings or errors")) } else { Err(errors) }
}

fn host(host: &str, port: u16) -> RedisHost {
    RedisHost { host: host.into(), port }
}

fn plain(servers: RedisServers) -> RedisSettings {
    RedisSettings { servers, database: 0, username: None, password: None, credentials: None, tls: None }
}

#[test]
fn every_form_of_url_is_read() {
    let one = |name: &str| plain(RedisServers::One(host(name, 6379)));
    let login = |settings, user: Option<&str>, password: &str| RedisSettings {
        username: user.map(str::to_owned),
        password: Some(Secret::new(password)),
        ..settings
    };
    let tls = |settings| RedisSettings { tls: Some(TlsFiles::default()), ..settings };
    let sentinels = |service: &str| {
        plain(RedisServers::Sentinel {
            sentinels: vec![host("a", 26379), host("b", 1)],
            service: service.into(),
        })
    };
    let cluster = plain(RedisServers::Cluster(vec![host("a", 7000), host("b", 6379)]));
    for (written, expected) in [
        ("redis://127.0.0.1", one("127.0.0.1")),
        ("redis://cache/", one("cache")),
        ("redis://cache:6379/3", RedisSettings { database: 3, ..one("cache") }),
        ("redis://[::1]:6379", one("::1")),
        ("rediss://cache", tls(one("cache"))),
        ("redis://:p%40ss@cache", login(one("cache"), None, "p@ss")),
        ("redis://larder:p@ss@cache", login(one("cache"), Some("larder"), "p@ss")),
        ("redis+unix:///run/redis.sock", plain(RedisServers::Unix(PathBuf::from("/run/redis.sock")))),
        (
            "redis+unix://u:p@/run/a@b.sock",
            login(plain(RedisServers::Unix(PathBuf::from("/run/a@b.sock"))), Some("u"), "p"),
        ),
        ("redis-cluster://a:7000,b", cluster.clone()),
        ("rediss-cluster://:x@a:7000,b/0", tls(login(cluster, None, "x"))),
        ("redis-sentinel://a,b:1/main", sentinels("main")),
        ("redis-sentinel://a,b:1/main/2", RedisSettings { database: 2, ..sentinels("main") }),
        ("{url: redis://cache, username: u, password: p}", login(one("cache"), Some("u"), "p")),
    ] {
        assert_eq!(parse(written).expect(written), expected, "{written}");
    }
    let written = "{url: rediss://cache, tls: {ca: ca.pem, cert: c.pem, key: k.pem}}";
    let files = TlsFiles { ca: Some("ca.pem".into()), identity: Some(("c.pem".into(), "k.pem".into())) };
    assert_eq!(parse(written).expect(written).tls, Some(files));
}

#[test]
fn a_wrong_redis_is_told_without_its_password() {
    for (written, message) in [
        ("localhost:6379", "this is not a Redis URL"),
        ("http://cache", "this is not a Redis URL"),
        ("redis-ring://cache", "this is not a Redis URL"),
        ("redis://:hunter2@", "the Redis URL's hosts are not readable"),
        ("redis://:hunter2@a,b", "`redis://` has one host"),
        ("redis://:hunter2@a:0", "the Redis URL's hosts are not readable"),
        ("redis://:hunter2@a/x", "the Redis URL's database is not a number"),
        ("redis://:%zz@a", "the Redis URL's password is not readable"),
        ("redis://a?db=1", "a Redis URL has no `?`"),
        ("redis+unix://run/redis.sock", "no absolute path"),
        ("redis+unix://:hunter2@run/redis.sock", "no absolute path"),
        ("redis+unix://:hunter2@", "no absolute path"),
        ("redis-cluster://a/1", "a Redis cluster has database 0 only"),
        ("redis-sentinel://a", "names no service"),
        ("{password: hunter2}", "redis has no `url`"),
        ("{url: \"redis://:hunter2@a\", password: x}", "`password` is part of the URL as well"),
        ("{url: redis://a, tls: {ca: x}}", "the URL's scheme is without TLS"),
        ("{url: rediss://a, tls: {cert: x}}", "`cert` without `key`"),
        ("{url: rediss://a, tls: {certificate: x}}", "unknown key `certificate` in tls"),
        ("{url: redis://a, password: \"\"}", "this is empty"),
    ] {
        let errors = parse(written).expect_err(written);
        assert!(errors.len() == 1 && errors[0].contains(message), "{written}: {errors:?}");
        assert!(!errors[0].contains("hunter2"), "{written}: {errors:?}");
    }
}

#[test]
fn a_password_comes_from_one_source() {
    let url = "url: \"redis://cache\", username: app";
    let credentials =
        |written: &str| parse(&format!("{{{url}, {written}}}")).map(|settings| settings.credentials);
    assert_eq!(
        credentials("password_file: /run/secrets/redis"),
        Ok(Some(CredentialSource::File("/run/secrets/redis".into())))
    );
    let command = vec!["aws".to_owned(), "token".to_owned()];
    let every = std::time::Duration::from_secs(600);
    assert_eq!(
        credentials("auth: {exec: [aws, token]}"),
        Ok(Some(CredentialSource::Command { command, every }))
    );
    for wrong in [
        "password: a, password_file: /b",
        "password_file: /b, auth: {exec: [a]}",
        "auth: {exec: []}",
        "auth: {exec: [a], every: 0s}",
    ] {
        assert!(credentials(wrong).is_err(), "{wrong}");
    }
    assert!(parse("{url: \"redis://app:a@cache\", password_file: /b}").is_err());
}
