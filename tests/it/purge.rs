//! PURGE on the listener: what each form reaches, who may, and that it never reaches the upstream.

use crate::support::{Command, Larder, Upstream};

const ROUTES: &str = "
routes:
  - path: /items
    ttl: 60s
    tags: [items]
  - path: /items/{id}
    ttl: 60s
    tags: [items, \"item:{id}\"]
  - path: /itemsets
    ttl: 60s
    tags: [sets]
";

const HERE: [&str; 6] = ["/items", "/items?page=2", "/items/1", "/items/1?x=1", "/items/2", "/itemsets"];

async fn hits<'t>(larder: &Larder, host: &str, targets: &[&'t str]) -> Vec<&'t str> {
    let mut hits = vec![];
    for target in targets {
        if larder.get(target).header("host", host).await.is_hit() {
            hits.push(*target);
        }
    }
    hits
}

/// A target and fields, and which of [`HERE`] are still hits afterwards.
type PurgeAndWhatIsLeft = (&'static str, Fields, &'static [&'static str]);

type Fields = &'static [(&'static str, &'static str)];

#[tokio::test]
async fn each_form_reaches_just_what_it_names() {
    let none: Fields = &[];
    let table: [PurgeAndWhatIsLeft; 14] = [
        ("/items", none, &["/items/1", "/items/1?x=1", "/items/2", "/itemsets"]),
        ("/items?page=2", none, &["/items", "/items/1", "/items/1?x=1", "/items/2", "/itemsets"]),
        ("/items/1", none, &["/items", "/items?page=2", "/items/2", "/itemsets"]),
        ("/items/1?x=1", none, &["/items", "/items?page=2", "/items/1", "/items/2", "/itemsets"]),
        ("/items/*", none, &["/itemsets"]),
        ("/items/1/*", none, &["/items", "/items?page=2", "/items/2", "/itemsets"]),
        ("/*", none, &[]),
        ("/ITEMS//1/", none, &["/items", "/items?page=2", "/items/2", "/itemsets"]),
        ("/%69tems/%31", none, &["/items", "/items?page=2", "/items/2", "/itemsets"]),
        ("/nothing", none, &HERE),
        ("/", &[("cache-tag", "sets")], &HERE[..5]),
        ("/", &[("cache-tag", "item:1, sets")], &["/items", "/items?page=2", "/items/2"]),
        ("/", &[("surrogate-key", "item:1 item:2")], &["/items", "/items?page=2", "/itemsets"]),
        (
            "/items",
            &[("cache-tag", "item:2")],
            &["/items", "/items?page=2", "/items/1", "/items/1?x=1", "/itemsets"],
        ),
    ];
    for (target, fields, left) in table {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        assert_eq!(hits(&larder, "api.test", &HERE).await, [""; 0]);
        let purge = fields
            .iter()
            .fold(larder.request("PURGE", target), |purge, (name, value)| purge.header(name, value));
        let reply = purge.await.assert_status(200).assert_header("content-type", "application/json");
        assert!(reply.json()["position"].as_u64().is_some(), "{reply}");
        assert_eq!(hits(&larder, "api.test", &HERE).await, left, "PURGE {target} {fields:?}");
        assert!(upstream.received("/items").iter().all(|request| request.method == "GET"));
    }
}

#[tokio::test]
async fn an_absolute_target_limits_the_host_and_a_path_does_not() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for host in ["one.test", "two.test"] {
        hits(&larder, host, &["/items"]).await;
    }
    larder.request("PURGE", "http://one.test/items").await.assert_status(200);
    assert_eq!(hits(&larder, "two.test", &["/items"]).await, ["/items"]);
    assert_eq!(hits(&larder, "one.test", &["/items"]).await, [""; 0]);
    larder.request("PURGE", "/items").header("host", "one.test").await.assert_status(200);
    for host in ["one.test", "two.test"] {
        assert_eq!(hits(&larder, host, &["/items"]).await, [""; 0]);
    }
}

#[tokio::test]
async fn positions_only_grow() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut last = 0;
    for _ in 0..5 {
        let position = larder.request("PURGE", "/items").await.json()["position"].as_u64().unwrap();
        assert!(position > last, "{position} after {last}");
        last = position;
    }
    larder.clock.set(crate::support::START.minus(std::time::Duration::from_secs(3600)));
    assert!(larder.request("PURGE", "/items").await.json()["position"].as_u64().unwrap() > last);
}

#[tokio::test]
async fn a_clock_that_steps_back_does_not_undo_a_purge() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/items").await;
    larder.clock.set(crate::support::START.minus(std::time::Duration::from_secs(30)));
    larder.request("PURGE", "/items").await.assert_status(200);
    larder.get("/items").await.assert_text("GET /items #2");
}

#[tokio::test]
async fn whoever_may_not_purge_is_refused() {
    let upstream = Upstream::start();
    let token = "purge: {token: secret}\n";
    let elsewhere = "purge: {allow: [10.0.0.0/8]}\n";
    let closed = "purge: {allow: []}\n";
    let behind = "purge: {allow: [10.0.0.0/8]}\ntrusted_proxies: [127.0.0.0/8]\n";
    let local = "purge: {allow: [127.0.0.0/8]}\ntrusted_proxies: [127.0.0.1/32]\n";
    let named = "purge: {hosts: [api.test]}\n";
    for (settings, field, status) in [
        ("", None, 200),
        ("", Some(("x-real-ip", "192.0.2.1")), 403),
        ("", Some(("cf-connecting-ip", "192.0.2.1")), 403),
        ("", Some(("true-client-ip", "192.0.2.1")), 403),
        ("", Some(("x-envoy-external-address", "192.0.2.1")), 403),
        ("", Some(("origin", "https://evil.example")), 403),
        ("", Some(("sec-fetch-site", "same-origin")), 403),
        (named, Some(("host", "evil.example:8080")), 403),
        (named, Some(("host", "api.test:8080")), 200),
        ("trusted_proxies: [10.0.0.0/8]\n", None, 403),
        // A forwarded field does not make anybody this machine.
        (local, Some(("x-forwarded-for", "127.0.0.2")), 403),
        (local, Some(("origin", "https://evil.example")), 403),
        (local, None, 200),
        ("", Some(("via", "1.1 front")), 403),
        ("", Some(("x-forwarded-for", "127.0.0.1")), 403),
        ("", Some(("forwarded", "for=127.0.0.1")), 403),
        (token, None, 403),
        (token, Some(("authorization", "Bearer wrong")), 403),
        (token, Some(("authorization", "Basic secret")), 403),
        (token, Some(("authorization", "Bearer secret")), 200),
        ("purge: {hosts: [api.test], allow: [127.0.0.1]}\n", Some(("host", "evil.example")), 200),
        (elsewhere, None, 403),
        (elsewhere, Some(("x-forwarded-for", "10.0.0.1")), 403),
        (closed, None, 403),
        (behind, Some(("x-forwarded-for", "10.0.0.1")), 200),
        (behind, Some(("x-forwarded-for", "10.0.0.1, 192.0.2.1")), 403),
    ] {
        let larder = Larder::with(&format!("{settings}{ROUTES}"), &upstream);
        larder.get("/items").await;
        let purge = larder.request("PURGE", "/items");
        let purge = field.into_iter().fold(purge, |purge, (name, value)| purge.header(name, value));
        let reply = purge.await;
        assert_eq!(reply.status, status, "{settings}{field:?}: {reply}");
        assert_eq!(larder.get("/items").await.is_hit(), status != 200, "{settings}{field:?}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_may_not_purge_with_the_token_either() {
    let upstream = Upstream::start();
    let larder = Larder::with(&format!("purge: {{token: secret}}\n{ROUTES}"), &upstream);
    larder.get("/items").await.assert_stored();
    let purge = || larder.request("PURGE", "/items").header("authorization", "Bearer secret");
    purge().header("origin", "https://evil.example").await.assert_status(403);
    purge().header("sec-fetch-site", "cross-site").await.assert_status(403);
    larder.get("/items").await.assert_hit();
    purge().await.assert_status(200);
    assert!(!larder.get("/items").await.is_hit());
}

#[tokio::test]
async fn a_proxy_that_speaks_http_1_0_is_not_this_machine() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/items").await.assert_stored();
    let mut raw = larder.raw().await;
    raw.send("PURGE /items HTTP/1.0\r\nHost: api.test\r\n\r\n").await;
    let reply = raw.rest().await;
    assert!(reply.contains(" 403 ") && reply.contains("this is HTTP/1.0"), "{reply}");
    larder.get("/items").await.assert_hit();
}

#[tokio::test]
async fn what_can_not_be_understood_is_refused_and_purges_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.get("/items/1").await;
    for (target, field) in [
        ("/items/1", Some(("purge-mode", "gentle"))),
        ("/items/*?x=1", None),
        ("/items/1", Some(("cache-tag", ""))),
    ] {
        let purge = larder.request("PURGE", target);
        let purge = field.into_iter().fold(purge, |purge, (name, value)| purge.header(name, value));
        purge.await.assert_status(400);
        larder.get("/items/1").await.assert_hit();
    }
}

const TAGGED: &str = "
purge: {allow: [127.0.0.1]}
routes:
  - {path: /list, name: list, ttl: 60s, tags: [items]}
  - {path: \"/one/{id}\", name: one, ttl: 60s, tags: [\"item:{id}\"]}
";

#[tokio::test]
async fn the_answer_says_what_was_understood_and_matched() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    for path in ["/list", "/list?page=2", "/one/7"] {
        larder.get(path).await.assert_status(200);
        larder.get(path).await.assert_hit();
    }
    let dry =
        larder.request("PURGE", "/list").header("purge-dry-run", "true").await.assert_status(200).json();
    assert_eq!((&dry["status"], &dry["matched"]["responses"]), (&"dry-run".into(), &2.into()), "{dry}");
    assert_eq!(dry["matched"]["hottest"], serde_json::json!(["/list"]));
    larder.get("/list").await.assert_hit();
    let by_tag =
        larder.request("PURGE", "/").header("cache-tag", "item:7, items").await.assert_status(200).json();
    assert_eq!(by_tag["targets"], serde_json::json!(["tag item:7", "tag items"]));
    assert_eq!(by_tag["routes"], serde_json::json!(["list", "one"]));
    assert_eq!(by_tag["matched"]["responses"], 3, "{by_tag}");
    assert!(by_tag["matched"]["bytes"].as_u64().unwrap() > 0 && by_tag.get("warnings").is_none(), "{by_tag}");
    assert!(!larder.get("/one/7").await.is_hit());
    let body = r#"{"tags": ["itms"]}"#;
    let unknown =
        larder.admin.request("POST", "/purge?dry_run=true").body(body).await.assert_status(200).json();
    assert_eq!(unknown["matched"]["responses"], 0);
    let warning = unknown["warnings"][0].as_str().unwrap();
    assert!(
        warning.contains("no route has the tag `itms`") && warning.contains("did you mean `items`?"),
        "{warning}"
    );
    assert_eq!(unknown.get("position"), None);
}

#[tokio::test]
async fn a_path_that_no_route_caches_is_a_warning() {
    let upstream = Upstream::start();
    let routes = "purge: {allow: [127.0.0.1]}
routes: [{path: \"/c/{id}\", ttl: 60s}, {path: /data.json, ttl: 60s}, {path: /off, ttl: never}]";
    let larder = Larder::with(routes, &upstream);
    for (path, is_warned) in [
        ("/souin-api/souin/flush", true),
        ("/off", true),
        ("/d/*", true),
        ("/c/7", false),
        ("/c/7.json", false),
        ("/data.json", false),
        ("/c/*", false),
        ("/*", false),
    ] {
        let answer = larder.request("PURGE", path).await.assert_status(200).json();
        assert_eq!(answer["warnings"].to_string().contains("no route caches"), is_warned, "{path}: {answer}");
    }
    let admin = larder.admin.address().to_string();
    let told = Command::new(&["purge", "--url", "/zzz", "--admin", &admin]).stdout().await;
    assert!(told.contains("warning: no route caches `/zzz`"), "{told}");
}

#[tokio::test]
async fn content_of_a_purge_is_refused() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    larder.get("/list").await.assert_stored();
    let refused = larder.request("PURGE", "/list").body(r#"{"tags": ["items"]}"#).await.assert_status(400);
    assert!(refused.text().contains("`Cache-Tag`"), "{refused}");
    larder.get("/list").await.assert_hit();
    larder.request("PURGE", "/list").header("content-length", "0").await.assert_status(200);
    assert!(!larder.get("/list").await.is_hit());
}

#[tokio::test]
async fn a_tag_that_looks_like_a_pattern_is_a_warning() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: \"/c/{id}\", ttl: 60s, tags: [\"course:{id}\"]}]", &upstream);
    for (tag, is_warned) in [
        ("course:[7]", true),
        ("course:(7)", true),
        ("course:\"7\"", true),
        ("course:8", false),
        ("course:7", false),
    ] {
        larder.get("/c/7").await.assert_status(200);
        let report =
            larder.request("PURGE", "/").header("surrogate-key", tag).await.assert_status(200).json();
        let warning = report["warnings"][0].as_str().unwrap_or_default();
        assert_eq!(warning.contains("tags are compared as a whole"), is_warned, "{tag}: {report}");
    }
}

#[tokio::test]
async fn requests_of_other_caches_purge_or_are_refused_with_the_fix() {
    let upstream = Upstream::start();
    let larder = Larder::with(TAGGED, &upstream);
    for (method, target, field) in [
        ("PURGE", "/", ("xkey", "items")),
        ("PURGE", "/", ("cache-tags", "items other")),
        ("PURGEKEYS", "/", ("xkey-purge", "items")),
        ("PURGETAGS", "/", ("x-cache-tags", "items")),
        ("BAN", "/", ("x-cache-tags", "(^|,)(items|b)(,|$)")),
        ("BAN", "/", ("x-url", "^/list$")),
        ("BAN", "/", ("apiplatform-ban-regex", "((^|\\,)items($|\\,))|((^|\\,)b($|\\,))")),
        ("BAN", "/", ("apiplatform-ban-regex", "(^|\\,)items($|\\,)")),
        ("PURGE", "/", ("x-magento-tags-pattern", "((^|,)items(,|$))")),
        ("PURGE", "/", ("x-magento-tags-pattern", ".*")),
        ("BAN", "/list", ("x-irrelevant", "1")),
    ] {
        larder.get("/list").await.assert_status(200);
        larder.get("/list").await.assert_hit();
        larder.request(method, target).header(field.0, field.1).await.assert_status(200);
        assert!(!larder.get("/list").await.is_hit(), "{method} {field:?}");
    }
    let asked = upstream.total();
    for (method, target, field, fix) in [
        ("PURGE", "/", ("cache-tag", "items other"), "items, other"),
        ("PURGE", "/list?*", ("x-irrelevant", "1"), "%2A"),
        ("PURGE", "/", ("x-purge-key", "items"), "Surrogate-Key"),
        ("PURGEALL", "/", ("x-irrelevant", "1"), "use PURGE"),
        ("SOFTPURGE", "/list", ("x-irrelevant", "1"), "use PURGE"),
        ("URIBAN", "/list", ("x-irrelevant", "1"), "or BAN"),
        ("purge", "/list", ("x-irrelevant", "1"), "use PURGE"),
        ("PURGE", "/list", ("x-cache-invalidate", "1"), "unknown purge field"),
        ("PURGE", "/list", ("nuster-host", "api.test"), "unknown purge field"),
        ("PURGE", "/", ("x-host", "api.test"), "BAN with `X-Url` and `X-Host`"),
        ("BAN", "/", ("x-url", "/(a|b)"), "expected a path"),
        ("BAN", "/", ("x-url", "/list$"), "send `X-Url: ^/list$`"),
        ("BAN", "/", ("x-host", "api.test"), "needs `X-Url`"),
        ("BAN", "/list", ("x-host", "api"), "^shop\\.example$"),
        ("BAN", "/list", ("x-host", "^127"), "a whole host"),
        ("BAN", "/", ("tags", "items"), "unknown purge field `tags`"),
        ("PURGE", "/", ("x-key", "items"), "unknown purge field `x-key`"),
        ("PURGE", "/", ("x-url", "/list"), "send PURGE to the path"),
        ("PURGE", "/", ("x-magento-tags-pattern", "items"), "whole tags"),
    ] {
        let refused = larder.request(method, target).header(field.0, field.1).await.assert_status(400);
        assert!(refused.text().contains(fix), "{method} {field:?}: {refused}");
    }
    assert_eq!(upstream.total(), asked, "no purge request is forwarded");
    // `X-Host` says which host's response goes, whoever sends it.
    for (host, is_hit) in [
        ("other.test", true),
        ("api.test", false),
        ("API.test", false),
        ("api.test:80", false),
        ("^(other.test|api.test)$", false),
    ] {
        larder.get("/list").header("host", "api.test").await.assert_status(200);
        let ban = larder.request("BAN", "/").header("x-url", ".*").header("x-host", host);
        ban.await.assert_status(200);
        assert_eq!(larder.get("/list").header("host", "api.test").await.is_hit(), is_hit, "{host}");
    }
}

#[tokio::test]
async fn methods_of_other_caches_are_forwarded_if_no_purge() {
    let upstream = Upstream::start();
    for purge in ["{allow: [192.0.2.1]}", "{allow: [127.0.0.1], dialects: false}"] {
        let larder = Larder::with(&TAGGED.replace("{allow: [127.0.0.1]}", purge), &upstream);
        let before = upstream.total();
        larder.request("BAN", "/list").await.assert_status(200);
        assert_eq!(upstream.total(), before + 1, "{purge}");
    }
}

#[tokio::test]
async fn a_path_that_looks_like_a_pattern_is_said_to_be_literal() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: '/{*any}', ttl: 60s}]", &upstream);
    for path in ["/items/(1)", "/items/1"] {
        larder.get(path).await.assert_stored();
    }
    for (path, is_warned) in [
        ("/items/(1|2)", true),
        ("/items/[a-z]+", true),
        ("/items$", true),
        ("/items/(1)", false),
        ("/items/2", false),
    ] {
        let answer = larder.request("PURGE", path).await.assert_status(200).json();
        let warnings = answer["warnings"].to_string();
        assert_eq!(warnings.contains("is taken literally"), is_warned, "{path}: {answer}");
    }
}

/// A pattern without `$` matches whatever begins with it.
#[tokio::test]
async fn a_ban_by_an_open_pattern_reaches_what_lies_below() {
    for pattern in ["^/items", "^/items/.*"] {
        let upstream = Upstream::start();
        let larder = Larder::with(ROUTES, &upstream);
        larder.get("/items/1").await.assert_stored();
        larder.request("BAN", "/").header("x-url", pattern).await.assert_status(200);
        assert!(!larder.get("/items/1").await.is_hit(), "{pattern}");
    }
}
