use serde_json::json;

use super::*;

pub(super) fn written(draft: Result<Draft, String>) -> String {
    let draft = draft.unwrap_or_else(|error| panic!("{error}"));
    draft.write().unwrap_or_else(|errors| panic!("{errors}\n{draft:#?}")).0
}

pub(super) fn assert_has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn nothing_is_cached_by_an_imported_file() {
    let souin = json!({"default_cache": {"ttl": "10s"}});
    for text in [
        written(from_nginx("server { location / { proxy_pass http://h; proxy_cache z; } }", "a")),
        written(from_vcl("sub vcl_backend_response { set beresp.ttl = 10s; }", "a")),
        written(from_souin(&souin, "a")),
    ] {
        assert_has(&text, &["\ndefaults: {mode: observe}", "Nothing is cached while `defaults`"]);
    }
}

#[test]
fn nginx_locations_become_routes() {
    let text = written(from_nginx(
        r#"
        # a comment; {
        proxy_cache_path /var/cache levels=1:2 keys_zone=api:10m inactive=60m;
        upstream backend { server 127.0.0.1:3000 weight=5; server 127.0.0.1:3001; }
        server {
            listen 80;
            proxy_cache api;
            proxy_cache_valid 200 10m;
            location / { proxy_pass http://backend; }
            location = /api/me { proxy_pass http://backend; proxy_cache off; }
            location ~ ^/api/v1\.0/ {
                proxy_pass http://backend;
                proxy_cache_valid 200 302 90s;
                proxy_cache_valid 404 1m;
                proxy_cache_key "$scheme$host$uri$arg_page$http_accept_language${cookie_theme}";
                proxy_cache_use_stale error timeout updating http_500;
                proxy_cache_background_update on;
                proxy_ignore_headers Cache-Control Set-Cookie;
                proxy_cache_bypass $http_x_refresh;
            }
            location ~* \.(png|jpg)$ { proxy_pass http://backend; }
            location /none { return 404; }
        }"#,
        "nginx.conf",
    ));
    assert_has(
        &text,
        &[
            "upstream: [\"http://127.0.0.1:3000\", \"http://127.0.0.1:3001\"]",
            "  - path: /{*rest?}\n    ttl: 10m",
            "  - path: /api/v1.0/{*rest?}\n    ttl: 90s",
            "status: {302: 90s, 404: 1m}",
            "query: [page]",
            "headers: [accept-language]",
            "cookies: [theme]",
            "stale_while_revalidate: 1m",
            "stale_if_error: 1h",
            "override: [lifetime]",
            "  - path: /api/me\n    mode: off",
            "drop_response: {also: [Set-Cookie]}",
            "? line 19: `proxy_cache_bypass $http_x_refresh`: which requests are these?",
            "  - path: /none/{*rest?}\n    mode: off",
            "a regular expression. Which paths are these?",
            "nothing overrides `no-store`",
            "nginx gives what it stores to every caller",
        ],
    );
    assert!(!text.contains("    shared:"), "{text}");
}

#[test]
fn souin_urls_become_routes() {
    let root = json!({
        "reverse_proxy_url": "http://api:8081",
        "default_cache": {"ttl": "10s", "stale": "1h", "headers": ["Authorization", "X-Team"],
            "redis": {"url": "127.0.0.1:6379"}, "regex": {"exclude": "/admin"}},
        "urls": {
            "https:\\/\\/domain.com\\/first-.+": {"ttl": "1000s"},
            "https:\\/\\/domain.com\\/a.*b": {"ttl": "1s"},
            "https://domain.com/second$": {"ttl": "10s", "headers": []},
            "https://domain.com/third$": {"ttl": "10s"},
        },
        "surrogate_keys": {"courses": {"url": "https://domain.com/courses"},
            "lists": {"url": "https://domain.com/second$"}, "all": {"url": "https://domain.com/second$"},
            "json": {"url": "https://domain.com/third$", "headers": {"Accept": "json"}}},
    });
    let text = written(from_souin(&root, "souin.yaml"));
    assert_has(
        &text,
        &[
            "upstream: \"http://api:8081\"",
            "store: {redis: \"redis://127.0.0.1:6379\"}",
            "  - path: /second\n    ttl: 10s",
            "  - path: /{*rest?}\n    mode: off",
            "stale_while_revalidate: 1h",
            "per: authorization",
            "headers: [x-team]",
            "`tags: [courses]`",
            "`tags: [json]`",
            "tags: [all, lists]",
            "`purges: [lists]`",
            "`default_cache.regex.exclude: \"/admin\"`: no path says this exactly",
            "a.*b`: a regular expression",
        ],
    );
    assert!(from_souin(&json!({"a": 1}), "a.yaml").expect_err("another file").contains("default_cache"));
}

#[test]
fn vcl_conditions_become_routes() {
    let text = written(from_vcl(
        r#"
        vcl 4.1;
        /* backend none { .host = "x"; } */
        backend default { .host = "127.0.0.1"; .port = "3000"; }
        sub vcl_recv {
            if (req.url ~ "^/admin/") { return (pass); }
            if (req.http.Upgrade) { return (pass); } # websockets
            unset req.http.Cookie;
        }
        sub vcl_backend_response {
            if (bereq.url ~ "^/api/courses") {
                set beresp.ttl = 30s;
                set beresp.grace = 10s;
            } else if (bereq.url ~ "\.(png|jpg)$") {
                set beresp.ttl = 1d;
            } elsif (bereq.url == "/health") {
                set beresp.uncacheable = true;
            }
            set beresp.grace = 1h;
        }
        sub vcl_hash { hash_data(req.http.X-Team); }
        "#,
        "default.vcl",
    ));
    assert_has(
        &text,
        &[
            "upstream: \"http://127.0.0.1:3000\"",
            "  - path: /admin/{*rest?}\n    mode: off",
            "  - path: /api/courses/{*rest?}\n    ttl: 30s",
            "    stale_while_revalidate: 10s",
            "  - path: /health\n    mode: off",
            "  - path: /{*rest?}\n    ttl: upstream",
            "headers: [x-team]",
            "sets a lifetime. Which paths are these?",
            "unset req.http.Cookie`: larder sends the field to the API",
            "if (req.http.Upgrade)` passes",
        ],
    );
    assert!(!text.contains("    shared:"), "{text}");
    for statement in ["unset req.http.authorization", "unset bereq.http.Cookie", "set req.http.Cookie = \"\""]
    {
        let text = written(from_vcl(&format!("vcl 4.1; sub vcl_recv {{ {statement}; }}"), "a"));
        assert_has(&text, &["`shared: true` on a route only if the API answers alike"]);
    }
    assert!(from_vcl("a: b", "a").expect_err("no VCL").contains("is it VCL"));
}

#[test]
fn hostile_files_end_in_an_error_or_a_draft() {
    let deep = "a {".repeat(100_000);
    let wide = "a b;".repeat(100_000);
    for text in [
        deep.as_str(),
        &wide,
        "}",
        "\"",
        "location ~ {",
        "a_by_lua_block {",
        "server { location /${HOME} {",
        "a",
        "sub vcl_recv {",
        "\"\n#",
    ] {
        for result in [from_nginx(text, "a"), from_vcl(text, "a")] {
            let error =
                result.map(|draft| draft.write().map(drop)).expect_err(text.get(..40).unwrap_or(text));
            assert!(!error.is_empty());
        }
    }
    let hostile = "server { location /a${HOME}\n { proxy_pass http://\"x\\\"y\"; proxy_cache z; proxy_cache_valid 1e9y; } }";
    _ = from_nginx(hostile, "a").map(|draft| draft.write().map(drop));
}

#[test]
fn durations_and_plain_patterns_are_read() {
    for (text, expected) in [
        ("10m", Some("10m")),
        ("90", Some("90s")),
        ("1d", Some("24h")),
        ("1h30m", Some("90m")),
        ("", None),
        ("0.5s", Some("500ms")),
        ("1M", Some("720h")),
        ("0s", Some("0s")),
        ("-1s", None),
        ("x", None),
        ("1e9y", None),
        ("99999999999y", Some("8760h")),
    ] {
        assert_eq!(duration(text).as_deref(), expected, "{text}");
    }
    for (text, expected) in [
        ("^/api", Some("/api/{*rest?}")),
        ("^/api/", Some("/api/{*rest?}")),
        ("^/api$", Some("/api")),
        ("^/", Some("/{*rest?}")),
        ("^/a\\.b$", Some("/a.b")),
        ("^/a/.*", Some("/a/{*rest?}")),
        ("/api", None),
        ("^/a.b", None),
        ("^/(a|b)", None),
        ("^/a[0-9]+", None),
    ] {
        assert_eq!(plain_pattern(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn what_another_cache_passes_is_not_cached() {
    let catch_all = "  - path: /{*rest?}\n    mode: off";
    let cached = "sub vcl_backend_response { set beresp.ttl = 10s; }";
    for (recv, expected) in [
        ("return (pass);", catch_all),
        ("if (req.url ~ \"^/admin\") { return (pass); }", "  - path: /admin/{*rest?}\n    mode: off"),
        ("if (req.url ~ \"admin\") { return (pass); }", catch_all),
        ("if (req.url ~ \"^/(a|b)/\") { return(pass); }", catch_all),
        ("if (req.url !~ \"^/api/\") { return (pass); }", catch_all),
        ("if (req.url ~ \"^/api/\") { return (hash); } else { return (pass); }", catch_all),
        ("if (client.ip !~ office) { return (synth(403)); }", catch_all),
        (
            "if (req.url ~ \"^/a/\") { if (req.http.Cookie) { return (pass); } }",
            "  - path: /a/{*rest?}\n    mode: off",
        ),
        ("if (req.http.A) { if (req.url ~ \"^/a$\") { return (pass); } }", "  - path: /a\n    mode: off"),
        (
            "if (req.http.A) { } elif (req.url ~ \"^/a/\") { return (synth(403)); }",
            "` refuses (`return (synth(403))`)",
        ),
        ("if (req.method != \"GET\") { return (pass); }", "  - path: /{*rest?}\n    ttl: 10s"),
    ] {
        assert_has(&written(from_vcl(&format!("sub vcl_recv {{ {recv} }} {cached}"), "a")), &[expected]);
    }
}

#[test]
fn the_last_lifetime_of_a_path_counts() {
    let set =
        |statements: &str| written(from_vcl(&format!("sub vcl_backend_response {{ {statements} }}"), "a"));
    let text = set("set beresp.ttl = 10s; set beresp.grace = 5s; set beresp.ttl = 1h30m;");
    assert_has(&text, &["    ttl: 90m", "    stale_while_revalidate: 5s"]);
    assert_eq!(text.matches("override").count(), 1, "{text}");
    for value in ["0s", "-1s"] {
        assert_has(&set(&format!("set beresp.ttl = {value};")), &["  - path: /{*rest?}\n    mode: off"]);
    }
    assert_has(&set("set beresp.ttl = f(x);"), &["    mode: observe", "which time is this?"]);
    let souin = |ttl| written(from_souin(&json!({"default_cache": {"ttl": ttl}}), "a"));
    assert_has(&souin("0s"), &["  - path: /{*rest?}\n    mode: off"]);
    assert_has(&souin("soon"), &["    mode: observe", "which lifetime is this?"]);
}

#[test]
fn access_control_and_unread_directives_become_questions() {
    let location = |inner: &str| {
        let text = format!(
            "server {{ server_name a; proxy_cache z; location /a/ {{ proxy_pass http://127.0.0.1:3000; {inner} }} }} \
             server {{ server_name b; location /b/ {{ proxy_pass http://127.0.0.1:3001; }} }}"
        );
        written(from_nginx(&text, "a"))
    };
    for control in
        ["auth_request /auth", "auth_basic x", "allow 10.0.0.0/8", "deny all", "internal", "limit_req zone=a"]
    {
        let question = format!("? line 1: `{control}`: larder does not do this");
        assert_has(&location(&format!("{control};")), &["  - path: /a/{*rest?}\n    mode: off", &question]);
    }
    assert_has(
        &location("auth_basic off; sub_filter a b; proxy_cache_key $uri$slice_range;"),
        &[
            "  - path: /a/{*rest?}\n    ttl: upstream",
            "    mode: observe",
            "`sub_filter a b` has no counterpart",
            "what do `$slice_range` contain?",
            "a second upstream (http://127.0.0.1:3001)",
            "`server_name b`: a second host",
            "  - path: /b/{*rest?}\n    mode: off",
        ],
    );
    let unread =
        written(from_nginx("server { location / { proxy_pass http://$backend; proxy_cache z; } }", "a"));
    assert_has(
        &unread,
        &["upstream: \"http://127.0.0.1:3000\"", "can't be read. Which address has the API?"],
    );
    let ipv6 = written(from_vcl("backend a { .host = \"::1\"; } sub vcl_recv { return (pass); }", "a"));
    assert_has(&ipv6, &["upstream: \"http://127.0.0.1:3000\"", "can't be read"]);
}
