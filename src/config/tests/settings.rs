//! All that is not about routes.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::{check_wrong, parse, right};
use crate::config::root::RootFields;
use crate::config::settings::Settings;
use crate::config::{AccessFormat, CertificateFiles, Config, ListenerSettings, Secret};
use crate::config::{Listen, OnStoreLoss, PurgeAllow, SettingOverrides, UpstreamAddress, UpstreamHost};
use crate::policy::CallerFields;

fn tcp(address: &str) -> Listen {
    Listen::Tcp(address.parse().expect("an address"))
}

#[test]
fn what_is_left_out_has_the_default_of_the_design() {
    let config = right("");
    assert_eq!(config.listen, [tcp("127.0.0.1:8080")]);
    let upstream = &config.upstream;
    assert_eq!(upstream.addresses, [UpstreamAddress::Http { authority: "127.0.0.1:3000".into() }]);
    assert_eq!(upstream.connect_timeout, Duration::from_secs(2));
    assert_eq!(upstream.response_timeout, Duration::from_secs(30));
    assert_eq!(upstream.idle_timeout, Duration::from_secs(4));
    assert_eq!((upstream.max_connections, upstream.http2), (512, false));
    assert_eq!(upstream.host, UpstreamHost::Preserve);
    let store = &config.store;
    assert_eq!((store.memory, store.namespace.as_str()), (256 << 20, "larder"));
    assert_eq!((store.max_lag, store.timeout), (Duration::from_secs(1), Duration::from_millis(50)));
    assert_eq!((&store.redis, store.on_store_loss), (&None, OnStoreLoss::Bypass));
    assert_eq!((config.admin.listen, config.admin.token), (Some(tcp("127.0.0.1:9090")), None));
    let allow = config.purge.allow.clone();
    assert_eq!(allow, PurgeAllow::Loopback);
    assert_eq!((config.purge.token, config.purge.parents), (None, true));
    assert!(config.trusted_proxies.is_empty());
    assert_eq!(config.credentials, CallerFields::default());
    let limits = &config.limits;
    assert_eq!((limits.connections, limits.header_bytes), (10_000, 32 << 10));
    assert_eq!(limits.header_timeout, Duration::from_secs(10));
    assert_eq!((limits.idle_timeout, limits.drain), (Duration::from_secs(60), Duration::from_secs(30)));
    assert_eq!((config.log.json, config.log.level.as_str()), (false, "info"));
    assert!(config.routes.is_empty());
    assert!(config.warnings.is_empty());
}

#[test]
fn with_none_there_is_no_redis() {
    assert_eq!(right("store: {redis: none}").store.redis, None);
    assert!(right("store: {redis: \"redis://none\"}").store.redis.is_some());
    super::check_wrong("store: {redis: none, memory: 0}", &["`memory` is the whole store"]);
}

#[test]
fn every_default_of_the_table_can_be_read() {
    for section in RootFields::SECTION.descendants() {
        for key in section.keys().filter(|key| key.default.is_some()) {
            assert!(crate::config::fields::default_node(key).is_some(), "{} of {}", key.name, section.name);
        }
    }
}

#[test]
fn listeners_are_one_or_many() {
    for (written, expected) in [
        ("0.0.0.0:80", vec![tcp("0.0.0.0:80")]),
        ("\"[::1]:8080\"", vec![tcp("[::1]:8080")]),
        ("unix:/run/larder.sock", vec![Listen::Unix(PathBuf::from("/run/larder.sock"))]),
        ("[127.0.0.1:1, 127.0.0.1:2]", vec![tcp("127.0.0.1:1"), tcp("127.0.0.1:2")]),
        ("[127.0.0.1:0, 127.0.0.1:0]", vec![tcp("127.0.0.1:0"), tcp("127.0.0.1:0")]),
    ] {
        assert_eq!(right(&format!("listen: {written}")).listen, expected, "{written}");
    }
    for (more, help) in [
        ("listen: localhost:8080", "write `127.0.0.1:8080`"),
        ("listen: 8080", "`0.0.0.0:8080` for all"),
        ("listen: :8080", "`127.0.0.1:8080` for this machine"),
        ("listen: unix:larder.sock", "write `unix:/run/name.sock`"),
        ("listen: []", "nothing to listen on"),
        ("listen: [127.0.0.1:1, 127.0.0.1:1]", "the same address occurs twice"),
        ("listen: 127.0.0.1:9090\nadmin: {listen: 127.0.0.1:9090}", "the same address as `listen`"),
        ("listen: 127.0.0.1:3000", "the upstream is larder itself"),
        ("listen: 0.0.0.0:3000", "the upstream is larder itself"),
    ] {
        check_wrong(more, &[help]);
    }
    for (listen, upstream) in [
        ("127.0.0.1:3000", "localhost:3000"),
        ("'[::1]:3000'", "LOCALHOST:3000"),
        ("'[::]:3000'", "[::1]:3000"),
    ] {
        let found = super::wrong(&format!("upstream: http://{upstream}\nlisten: {listen}\n"));
        assert!(found[0].contains("the upstream is larder itself"), "{found:?}");
    }
    for listen in ["'[::1]:3000'", "0.0.0.0:3001", "192.0.2.1:3000"] {
        right(&format!("listen: {listen}"));
    }
}

#[test]
fn an_upstream_is_a_url_or_a_mapping_with_one() {
    let http = |authority: &str| UpstreamAddress::Http { authority: authority.into() };
    for (written, expected) in [
        ("http://api", http("api")),
        ("http://api:8000/", http("api:8000")),
        ("\"http://[::1]:8000\"", http("[::1]:8000")),
        ("https://api.example", UpstreamAddress::Https { authority: "api.example".into() }),
        ("unix:/run/api.sock", UpstreamAddress::Unix(PathBuf::from("/run/api.sock"))),
        ("{url: http://api}", http("api")),
    ] {
        let config = parse(&format!("upstream: {written}")).expect(written);
        assert_eq!(config.upstream.addresses, [expected], "{written}");
        assert_eq!(config.upstream.max_connections, 512);
    }
    for written in ["[http://a, http://b]", "{url: [http://a, http://b]}"] {
        let config = parse(&format!("upstream: {written}")).expect(written);
        assert_eq!(config.upstream.addresses, [http("a"), http("b")], "{written}");
    }
    let more = "upstream: {url: https://api, host: api.internal:8443, http2: on, max_connections: 7}";
    let upstream = parse(more).expect(more).upstream;
    assert_eq!((upstream.max_connections, upstream.http2), (7, true));
    assert_eq!(upstream.host, UpstreamHost::Set("api.internal:8443".into()));
}

#[test]
fn an_expectation_that_http2_can_not_forward_is_a_warning() {
    for (settings, is_warned) in [
        ("http2: true, expect: forward", true),
        ("http2: true, expect: answer", false),
        ("expect: forward", false),
    ] {
        let config = parse(&format!("upstream: {{url: http://api, {settings}}}")).expect(settings);
        assert_eq!(config.warnings.len(), usize::from(is_warned), "{:?}", config.warnings);
    }
    for (http2, expect, is_warned) in
        [("on", "forward", true), ("on", "answer", false), ("off", "forward", false)]
    {
        let upstream = format!("upstream: {{url: http://api, http2: {http2}}}");
        let config = parse(&format!("{upstream}\nroutes: [{{path: /a, expect: {expect}}}]")).expect(expect);
        assert_eq!(config.warnings.len(), usize::from(is_warned), "{:?}", config.warnings);
    }
}

#[test]
fn an_upstream_that_can_t_be_reached_is_refused() {
    for (written, part) in [
        ("127.0.0.1:3000", "write `http://127.0.0.1:3000`"),
        ("localhost:3000/", "write `http://localhost:3000`"),
        ("$API", "write `${API}`"),
        ("http://api/v1", "requests keep the client's path"),
        ("http://api?x=1", "has a query"),
        ("ftp://api", "not ftp"),
        ("http://user@api", "user name or password"),
        ("http://", "is not a URL"),
        ("http://api:99999", "is not a host"),
        ("unix:api.sock", "no absolute path"),
        ("[]", "no URL of the API"),
        ("[http://a, http://b, http://a]", "the same URL occurs twice"),
        ("[http://a, https://b]", "some of the URLs are https"),
        ("[http://a, http://b/v1]", "requests keep the client's path"),
        ("{url: http://api, host: \"a b\"}", "`a b` is not a host"),
        ("{url: http://api, response_timeout: 0s}", "this can't be zero"),
        ("{http2: true}", "upstream has no `url`"),
        ("[[http://api]]", "not a list"),
    ] {
        let errors = parse(&format!("upstream: {written}")).expect_err(written);
        assert_eq!(errors.diagnostics().len(), 1, "{errors}");
        assert!(errors.to_string().contains(part), "{written}: {errors}");
    }
}

#[test]
fn sections_refuse_what_can_t_work() {
    for (more, part) in [
        ("store: {namespace: \"\"}", "the namespace is empty"),
        ("store: {namespace: \"a{b\"}", "a namespace has no braces"),
        ("store: {memory: 0}", "`memory` is the whole store"),
        ("store: {memory: 256MB}", "write `256MiB`"),
        ("store: {on_store_loss: serve}", "{serve: 30s}"),
        ("store: {on_store_loss: {serve: 0s}}", "this can't be zero"),
        ("store: {timeout: 0s}", "this can't be zero"),
        ("admin: maybe", "write `admin: off`"),
        ("admin: {token: \"\"}", "the token is empty"),
        ("purge: {allow: [localhost]}", "`localhost` is not a network"),
        ("trusted_proxies: [10.0.0.0/33]", "`10.0.0.0/33` is not a network"),
        ("trusted_fields: [X-Forwarded-For]", "larder does not drop `x-forwarded-for`"),
        ("credentials: [\"X Key\"]", "`X Key` is not a field name"),
        ("limits: {header_bytes: 1KiB}", "between 8KiB and 16MiB"),
        ("log: {level: inf}", "did you mean `info`?"),
        ("log: {level: \"info,larder=loud\"}", "is not a log filter"),
        ("log: {format: jsn}", "did you mean `json`?"),
    ] {
        check_wrong(more, &[part]);
    }
}

#[test]
fn sections_take_what_is_written() {
    let config = right(
        "store: {memory: 1GiB, namespace: shop, max_lag: 0, on_store_loss: {serve: 30s}, timeout: 250ms}
admin: {listen: 127.0.0.1:1, token: s3cret}
purge: {allow: [10.1.2.3/8, 192.0.2.1], token: other, parents: no}
trusted_proxies: [fd00::/8]
trusted_fields: [X-Script-Name]
credentials: [X-Session]
limits: {connections: 5, header_bytes: 8192, header_timeout: 1s, idle_timeout: 2m, drain: 0s}
log: {format: json, level: \"warn,larder::proxy=debug\"}
",
    );
    assert_eq!((config.store.memory, config.store.namespace.as_str()), (1 << 30, "shop"));
    assert_eq!((config.store.max_lag, config.store.timeout), (Duration::ZERO, Duration::from_millis(250)));
    assert_eq!(config.store.on_store_loss, OnStoreLoss::Serve(Duration::from_secs(30)));
    assert_eq!(config.admin.token, Some(Secret::new("s3cret")));
    let allow = config.purge.allow.clone();
    let networks = ["10.0.0.0/8", "192.0.2.1/32"].map(|net| net.parse().unwrap()).to_vec();
    assert_eq!(allow, PurgeAllow::Networks(networks));
    assert!(!config.purge.parents);
    assert_eq!(config.trusted_proxies.len(), 1);
    assert_eq!(config.trusted_fields, [HeaderName::from_static("x-script-name")]);
    assert_eq!(config.credentials, CallerFields::only(vec![HeaderName::from_static("x-session")]));
    assert_eq!((config.limits.connections, config.limits.drain), (5, Duration::ZERO));
    assert_eq!((config.log.json, config.log.level.as_str()), (true, "warn,larder::proxy=debug"));
    for off in ["off", "false", "\"off\""] {
        assert_eq!(right(&format!("admin: {off}")).admin.listen, None, "{off}");
    }
}

#[test]
fn what_lets_strangers_in_is_a_warning() {
    for (more, part) in [
        ("admin: {listen: 0.0.0.0:9090}", "proxy.yaml:2:17: warning: the admin listener can be reached"),
        ("purge: {allow: [0.0.0.0/0]}", "anybody who can reach larder may purge"),
        ("credentials: []", "no field identifies callers"),
    ] {
        let warnings = right(more).warnings;
        assert!(matches!(warnings.as_slice(), [warning] if warning.contains(part)), "{more}: {warnings:?}");
    }
    assert!(right("admin: {listen: 0.0.0.0:9090, token: x}").warnings.is_empty());
}

#[test]
fn names_of_this_machine_that_nobody_needs_are_a_warning() {
    let is_warned = |more: &str| {
        let warnings = right(more).warnings;
        warnings.iter().any(|warning| warning.contains("`hosts` has no effect"))
    };
    assert!(!is_warned("purge: {hosts: [a.test]}"));
    for purge in ["allow: [10.0.0.0/8]", "token: x"] {
        for (admin, expected) in [("{}", false), ("off", true), ("{token: y}", true)] {
            let more = format!("purge: {{hosts: [a.test], {purge}}}\nadmin: {admin}");
            assert_eq!(is_warned(&more), expected, "{more}");
        }
    }
}

#[test]
fn flags_take_the_place_of_the_file() {
    let overrides = SettingOverrides {
        listen: vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()],
        upstream: Some("http://other".into()),
        observe: false,
        admin_listen: Some("127.0.0.1:3".into()),
        log_format: Some("json".into()),
        log_level: Some("debug".into()),
    };
    let other = UpstreamAddress::Http { authority: "other".into() };
    for text in
        ["", "upstream: {max_connections: 7}\nadmin: off\nlog: {level: warn}", "upstream: http://here"]
    {
        let config = Config::parse(text, "proxy.yaml", &|_| None, &overrides).expect(text);
        assert_eq!(config.listen, [tcp("127.0.0.1:1"), tcp("127.0.0.1:2")]);
        assert_eq!(config.upstream.addresses, std::slice::from_ref(&other), "{text}");
        assert_eq!(config.admin.listen, Some(tcp("127.0.0.1:3")));
        assert_eq!((config.log.json, config.log.level.as_str()), (true, "debug"));
        assert_eq!(config.upstream.max_connections == 7, text.contains('7'));
    }
}

#[test]
fn a_flag_does_not_hide_what_is_wrong_in_the_file() {
    let overrides = SettingOverrides {
        upstream: Some("http://a".into()),
        log_level: Some("debug".into()),
        ..SettingOverrides::default()
    };
    for text in ["- a", "log: loud", "upstream: {urll: x}"] {
        let errors = Config::parse(text, "proxy.yaml", &|_| None, &overrides).expect_err(text);
        assert_eq!(errors.diagnostics().len(), 1, "{errors}");
    }
}

#[test]
fn a_wrong_flag_is_named() {
    let overrides = SettingOverrides { upstream: Some("nowhere:x".into()), ..SettingOverrides::default() };
    let errors = Config::parse("", "proxy.yaml", &|_| None, &overrides).expect_err("no URL").to_string();
    assert!(errors.starts_with("--upstream (LARDER_UPSTREAM): error: "), "{errors}");
}

#[test]
fn a_listener_says_what_stands_before_http() {
    let config = right(
        "listen: [127.0.0.1:1, {address: \"unix:/a\", proxy_protocol: true}, {address: 127.0.0.1:2, tls: {cert: c, key: k}}]",
    );
    assert_eq!(config.listen.len(), 3);
    let tls = vec![CertificateFiles { cert: "c".into(), key: "k".into() }];
    let doors = [
        ListenerSettings::default(),
        ListenerSettings { proxy_protocol: true, tls: Vec::new() },
        ListenerSettings { proxy_protocol: false, tls },
    ];
    assert_eq!(config.listener_settings, doors);
    for (wrong, expected) in [
        ("listen: {address: 127.0.0.1:1, proxy_protocol: true}", "`trusted_proxies`"),
        ("listen: {address: 127.0.0.1:1, tls: []}", "TLS needs a certificate"),
        ("listen: {address: 127.0.0.1:1, tls: {cert: c}}", "has no `key`"),
        ("listen: {tls: {cert: c, key: k}}", "has no `address`"),
        ("listen: {address: 127.0.0.1:1, tls: {cert: c, key: k, certificate: c}}", "in larder it is `cert`"),
    ] {
        check_wrong(wrong, &[expected]);
    }
}

#[test]
fn an_access_log_is_a_word_or_a_mapping() {
    let access = |written: &str| right(&format!("log: {{access: {written}}}")).log.access;
    assert_eq!(access("off"), None);
    let plain = access("json").unwrap();
    assert_eq!((plain.format, plain.sample.as_f64(), plain.path), (AccessFormat::Json, 1.0, None));
    let whole = access("{format: combined, sample: 0.25, path: /var/log/a}").unwrap();
    assert_eq!((whole.format, whole.sample.as_f64()), (AccessFormat::Combined, 0.25));
    assert_eq!(whole.path, Some("/var/log/a".into()));
    for (wrong, expected) in [
        ("xml", "unknown value"),
        ("{sample: 2}", "not a number from 0 to 1"),
        ("{sample: NaN}", "not a number from 0 to 1"),
        ("{path: access.log}", "absolute path"),
    ] {
        check_wrong(&format!("log: {{access: {wrong}}}"), &[expected]);
    }
}

#[test]
fn tracing_names_a_collector() {
    assert_eq!(right("tracing: off").tracing, None);
    let tracing = right("tracing: {otlp: http://127.0.0.1:4318}").tracing.expect("it is on");
    assert_eq!(tracing.sample.as_f64(), 0.01);
    assert_eq!((tracing.metrics_interval, tracing.logs), (None, false));
    check_wrong("tracing: {otlp: http://a, metrics_interval: 0s}", &["can't be zero"]);
    check_wrong("tracing: {otlp: https://a}", &["not a collector's URL"]);
    check_wrong("tracing: {sample: 1}", &["has no `otlp`"]);
}

#[test]
fn the_header_section_of_a_response_has_bounds() {
    assert_eq!(right("").upstream.header_bytes, 128 << 10);
    let with = |size: &str| parse(&format!("upstream: {{url: http://a, header_bytes: {size}}}"));
    assert_eq!(with("1MiB").expect("a size").upstream.header_bytes, 1 << 20);
    for wrong in ["8191", "2MiB"] {
        let errors = with(wrong).expect_err(wrong).to_string();
        assert!(errors.contains("between 8KiB and 1MiB") && errors.contains("`128KiB`"), "{errors}");
    }
}

#[test]
fn sizes_and_networks_that_can_not_be_meant_are_warnings() {
    for (more, expected) in [
        ("store: {memory: 1KiB}\nroutes: [{path: /a, ttl: 1m}]", &["larger than `store.memory`"][..]),
        ("store: {memory: 8MiB}\nroutes: [{path: /a, ttl: 1m}]", &[]),
        ("routes: [{path: /a, ttl: 1m, max_size: 300MiB}]", &["larger than `store.memory`"]),
        ("store: {memory: 1KiB}\nroutes: [{path: /a, purges: []}]", &[]),
        ("trusted_proxies: [0.0.0.0/0]", &["every client may say"]),
        ("trusted_proxies: [10.0.0.0/8]", &[]),
        ("trusted_proxies: [\"::ffff:0:0/96\"]", &["every client may say"]),
        (
            "store: {max_lag: 0s, timeout: 1s, on_store_loss: {serve: 1s}}",
            &["`store.max_lag` does nothing", "timeout", "on_store_loss"],
        ),
        ("store: {namespace: x, max_lag: 1s}", &[]),
        ("store: {max_lag: 0s, redis: none}", &[]),
        ("store: {max_lag: 0s, redis: 'redis://h'}", &[]),
    ] {
        let warnings = right(more).warnings;
        assert_eq!(warnings.len(), expected.len(), "{more}: {warnings:?}");
        for (warning, part) in warnings.iter().zip(expected) {
            assert!(warning.contains(part), "{more}: {warning}");
        }
    }
}

/// Clients are known by the addresses of IPv4, whatever the socket they came through.
#[test]
fn mapped_networks_are_those_of_ipv4() {
    let networks = "['::ffff:10.0.0.0/104', '::ffff:10.0.0.7', '::ffff:10.1.2.3/120', '::/0', 'fd00::/8']";
    let config = right(&format!("trusted_proxies: {networks}\npurge: {{allow: {networks}}}"));
    let expected = ["10.0.0.0/8", "10.0.0.7/32", "10.1.2.0/24", "::/0", "fd00::/8"];
    assert_eq!(config.trusted_proxies, expected.map(|network| network.parse().unwrap()));
    assert_eq!(config.purge.allow, crate::config::PurgeAllow::Networks(config.trusted_proxies));
}

#[test]
fn a_wrong_key_is_not_also_a_missing_one() {
    let store = |keys: &str| format!("store: {{redis: 'redis://h', encrypt: {{keys: {keys}}}}}");
    check_wrong(&store("[{id: a, secret: short}]"), &["shorter than 32"]);
    check_wrong(&store("[]"), &["`keys` is empty"]);
}
