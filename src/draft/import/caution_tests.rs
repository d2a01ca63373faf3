//! An imported file caches no more than its source, and names all that it leaves out.

use serde_json::json;

use super::tests::{assert_has, written};
use super::{from_nginx, from_souin, from_vcl};

/// The paths of the routes of an imported file that cache.
fn cached(text: &str) -> Vec<String> {
    let routes = text.split("  - path: ").skip(1);
    let (cached, _): (Vec<_>, Vec<_>) = routes.partition(|route| !route.contains("    mode: "));
    cached.into_iter().filter_map(|route| route.lines().next()).map(str::to_owned).collect()
}

#[test]
fn a_pass_holds_for_routes_above_and_below_its_path() {
    let lifetimes = "if (bereq.url ~ \"^/api/\") { set beresp.ttl = 5m; } if (bereq.url ~ \"^/api/a/b/\") { set beresp.ttl = 9m; } \
                     if (bereq.url ~ \"^/b/\") { set beresp.ttl = 5m; }";
    for (recv, off, expected) in [
        ("", None, &["/api/{*rest?}", "/api/a/b/{*rest?}", "/b/{*rest?}"][..]),
        // `/api/a-b` is passed, too.
        ("if (req.url ~ \"^/api/a\") { return (pass); }", Some("/api/a/{*rest?}"), &["/b/{*rest?}"]),
        (
            "if (req.url ~ \"^/api/a/\") { return (pass); }",
            Some("/api/a/{*rest?}"),
            &["/api/{*rest?}", "/b/{*rest?}"],
        ),
        ("if (req.url ~ \"^/api/(a|c)/\") { return (pass); }", None, &["/b/{*rest?}"]),
        (
            "if (req.url ~ \"^/api/a/\" || req.url ~ \"^/b\") { return (pass); }",
            Some("/b/{*rest?}"),
            &["/api/{*rest?}"],
        ),
        (
            "if (req.url ~ \"^/api/a/\" && req.http.X) { return (pass); }",
            Some("/api/a/{*rest?}"),
            &["/api/{*rest?}", "/b/{*rest?}"],
        ),
        ("if (req.url ~ \"private\") { return (pass); }", Some("/{*rest?}"), &[]),
        ("if (req.http.X-Admin) { return (pass); }", Some("/{*rest?}"), &[]),
        ("if (!req.http.Cookie) { return (pass); }", Some("/{*rest?}"), &[]),
        ("if (req.http.Cookie) { } else { return (pass); }", Some("/{*rest?}"), &[]),
        ("if (req.http.host == \"admin\") { return (pass); }", Some("/{*rest?}"), &[]),
        (
            "if (req.method != \"GET\" && req.method != \"HEAD\") { return (pass); }",
            None,
            &["/api/{*rest?}", "/api/a/b/{*rest?}", "/b/{*rest?}"],
        ),
        (
            "if (req.http.Authorization || req.http.Cookie) { return (pass); }",
            None,
            &["/api/{*rest?}", "/api/a/b/{*rest?}", "/b/{*rest?}"],
        ),
    ] {
        let text = format!("sub vcl_recv {{ {recv} }} sub vcl_backend_response {{ {lifetimes} }}");
        let text = written(from_vcl(&text, "a"));
        assert_eq!(cached(&text), expected, "{recv}\n{text}");
        if let Some(off) = off {
            assert_has(&text, &[&format!("  - path: {off}\n    mode: off")]);
        }
    }
}

#[test]
fn the_lifetime_that_counts_is_not_exceeded() {
    for (statements, expected) in [
        ("if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; } set beresp.ttl = 10m;", &["/{*rest?}"][..]),
        (
            "set beresp.ttl = 10m; if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; }",
            &["/{*rest?}", "/a/{*rest?}"],
        ),
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1s; } elsif (bereq.url ~ \"^/a/b/\") { set beresp.ttl = 1h; }",
            &["/a/{*rest?}"],
        ),
        (
            "if (bereq.url ~ \"^/a/b/\") { set beresp.ttl = 1h; } elsif (bereq.url ~ \"^/a/\") { set beresp.ttl = 1s; }",
            &["/a/b/{*rest?}", "/a/{*rest?}"],
        ),
        // `/a/b-c` expires sooner.
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; } if (bereq.url ~ \"^/a/b\") { set beresp.ttl = 1s; }",
            &["/a/b/{*rest?}"],
        ),
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; } if (bereq.url ~ \"[.]png$\") { set beresp.ttl = 1s; }",
            &[],
        ),
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; if (beresp.http.X) { set beresp.uncacheable = true; } }",
            &[],
        ),
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; } if (beresp.http.X) { set beresp.uncacheable = true; }",
            &[],
        ),
        (
            "if (bereq.url ~ \"^/a/\") { set beresp.ttl = 1h; } if (beresp.status >= 500) { set beresp.uncacheable = true; }",
            &["/a/{*rest?}"],
        ),
    ] {
        let text = written(from_vcl(&format!("sub vcl_backend_response {{ {statements} }}"), "a"));
        assert_eq!(cached(&text), expected, "{statements}\n{text}");
    }
}

#[test]
fn a_key_that_vcl_computes_is_not_taken_from_the_client() {
    let vcl = |recv: &str, hash: &str| {
        let text = format!(
            "sub vcl_recv {{ {recv} }} sub vcl_hash {{ {hash} }} sub vcl_backend_response {{ set beresp.ttl = 9s; }}"
        );
        written(from_vcl(&text, "a"))
    };
    let computed = vcl(
        "set req.http.X-Lang = regsub(req.http.Accept-Language, \"x\", \"y\");",
        "hash_data(req.http.X-Lang);",
    );
    assert_has(&computed, &["    mode: observe", "computes `x-lang`", "headers: [x-lang]"]);
    assert_has(&vcl("", "hash_data(req.http.Cookie);"), &["    mode: observe"]);
    assert_eq!(cached(&vcl("", "hash_data(req.http.X-Lang);")), ["/{*rest?}"]);
}

#[test]
fn what_nginx_keeps_from_others_is_not_cached() {
    let server = "proxy_pass http://b; proxy_cache z; proxy_cache_valid 1m;";
    for (inner, expected) in [
        ("", &["/{*rest?}", "/a/{*rest?}", "/a/b/{*rest?}"][..]),
        ("location /a/c/ { return 403; }", &["/{*rest?}", "/a/{*rest?}", "/a/b/{*rest?}"]),
        // `/a/cd` is refused, too.
        ("location /a/c { deny all; }", &["/a/b/{*rest?}"]),
        ("location = /a/c { deny all; }", &["/{*rest?}", "/a/{*rest?}", "/a/b/{*rest?}"]),
        // A regular expression wins over a longer name.
        ("location ~ ^/a/ { deny all; }", &["/{*rest?}"]),
        ("location ~* ^/a/ { deny all; }", &[]),
        ("location ~ [.]php$ { deny all; }", &[]),
        ("location ~ ^/(c|d)/ { proxy_cache off; proxy_pass http://b; }", &[]),
        ("location ~ ^/(c|d)/ { PASS proxy_cache_key $uri$cookie_a; }", &[]),
        ("location ~ ^/(c|d)/ { proxy_pass http://b; proxy_cache z; proxy_cache_valid 1s; }", &[]),
        ("location ~ [.]png$ { PASS }", &["/{*rest?}", "/a/{*rest?}", "/a/b/{*rest?}"]),
    ] {
        let inner = inner.replace("PASS", server);
        let text = format!(
            "server {{ location / {{ {server} }} location /a/ {{ {server} }} location /a/b/ {{ {server} }} {inner} }}"
        );
        let text = written(from_nginx(&text, "a"));
        assert_eq!(cached(&text), expected, "{inner}\n{text}");
    }
    for inner in [
        "secure_link $arg_md5; if ($secure_link = \"\") { return 403; }",
        "if ($arg_token != \"s\") { return 403; }",
        "if ($ssl_client_verify != SUCCESS) { return 403; }",
        "access_by_lua_block { ngx.exit(403) }",
        "rewrite ^/a/(.*)$ /b/$1 break;",
        "proxy_no_cache 1;",
        "proxy_cache_bypass $nocache;",
        "valid_referers none;",
        "if ($request_method != GET) { return 405; }",
        "limit_except GET { deny all; }",
    ] {
        let text = written(from_nginx(&format!("server {{ location /a/ {{ {server} {inner} }} }}"), "a"));
        assert_eq!(cached(&text), [""; 0], "{inner}\n{text}");
        let is_asked = text.contains("\n# ? line 1: `") || inner == "proxy_no_cache 1;";
        assert!(is_asked, "{inner}\n{text}");
    }
    for inner in
        ["if ($request_method != GET) { set $a 1; }", "proxy_no_cache $http_authorization $cookie_session;"]
    {
        let text = written(from_nginx(&format!("server {{ location /a/ {{ {server} {inner} }} }}"), "a"));
        assert_eq!(cached(&text), ["/a/{*rest?}"], "{inner}\n{text}");
    }
    for (pass, expected) in [
        ("http://b/new/", &[][..]),
        ("http://b/", &[]),
        ("http://b/a/", &["/a/{*rest?}"]),
        ("http://b$request_uri", &["/a/{*rest?}"]),
        ("http://b$uri", &[]),
        ("http://$b/new/", &[]),
        ("http://é$b", &[]),
        ("http://unix:/s.sock", &["/a/{*rest?}"]),
        ("http://unix:/s.sock:/", &[]),
        ("http://b$uri", &[]),
        ("http://unix:/s.sock", &["/a/{*rest?}"]),
        ("http://unix:/s.sock:/", &[]),
    ] {
        let text = format!(
            "server {{ location /a/ {{ proxy_cache z; proxy_cache_valid 1m; proxy_pass {pass}; }} }}"
        );
        assert_eq!(cached(&written(from_nginx(&text, "a"))), expected, "{pass}");
    }
}

#[test]
fn every_directive_is_a_key_or_a_question() {
    let text = written(from_nginx(
        "proxy_cache_path /c keys_zone=z:1m max_size=2g; upstream b { server h1:1; server h2:1 backup; server h3:1; }
         server { listen 8080; ssl_certificate x; location /a/ { proxy_pass http://b; proxy_cache z; proxy_cache_valid any 1m;
         proxy_read_timeout 5s; proxy_ignore_headers Vary; proxy_set_header Authorization \"Basic c2VjcmV0\"; }
         location /r/ { return 410; } location /s/ { root /var/www; } location ~ ^/purge(/.*) { proxy_cache_purge z $1; }
         location = /p { proxy_pass http://b; proxy_cache z; proxy_cache_valid 30s; proxy_cache_purge PURGE from 127.0.0.1; }
         location @n { proxy_pass http://b; } }",
        "a",
    ));
    assert_has(
        &text,
        &[
            "upstream: [\"http://h1:1\", \"http://h3:1\"]",
            "`proxy_cache_path /c keys_zone=z:1m max_size=2g`: `store`",
            "`listen 8080`: `listen`",
            "`ssl_certificate x`: ",
            "`proxy_cache_valid any 1m`: `status`",
            "`proxy_read_timeout 5s`: ",
            "`proxy_ignore_headers Vary`: larder obeys `Vary`",
            "`location /r/` has no `proxy_pass`",
            "`location /s/` has no `proxy_pass`",
            "`location ~ ^/purge(/.*)`: larder has PURGE",
            "`location = /p`: larder has PURGE",
            "  - path: /p\n    ttl: 30s",
            "`location @n`: no request has this name",
        ],
    );
    assert!(!text.contains("c2VjcmV0"), "{text}");
    let snippet =
        "location /api/ { proxy_pass http://127.0.0.1:3000; proxy_cache api; proxy_cache_valid 200 30s; }";
    assert_eq!(cached(&written(from_nginx(snippet, "a"))), ["/api/{*rest?}"]);
    let vcl = "acl office { \"10.0.0.0\"/8; } backend a { .host = \"a\"; .first_byte_timeout = 1s; } sub vcl_deliver { unset resp.http.A; } \
               sub vcl_backend_response { set beresp.do_esi = true; unset beresp.http.B; } sub vcl_recv { set req.url = f(req.url); }";
    let vcl = written(from_vcl(vcl, "a"));
    for part in [
        "acl office",
        ".first_byte_timeout = 1s",
        "sub vcl_deliver",
        "ESI",
        "unset beresp.http.B",
        "set req.url = f(req.url)",
    ] {
        assert!(vcl.contains(part), "{part}\n{vcl}");
    }
    assert!(from_vcl("vcl 4.1;", "a").expect_err("nothing in it").contains("no `backend`"));
    let souin = json!({"default_cache": {"ttl": "1m", "timeout": {}}, "ykeys": {}, "urls": {"https://h/first-.+": {"ttl": "1s"}, "https://h/b/.+": {"ttl": "1s"}}});
    let souin = written(from_souin(&souin, "a"));
    assert_has(
        &souin,
        &["`ykeys` has no", "`default_cache.timeout` has no", "first-.+`: a regular expression"],
    );
    assert_eq!(cached(&souin), ["/b/{*rest?}"]);
}

#[test]
fn a_list_of_what_is_cached_and_who_may_purge_are_questions() {
    let vcl = "sub vcl_recv { if (req.method == \"PURGE\") { if (client.ip !~ office) { return (synth(405)); } } \
               if (req.url ~ \"^/a/\") { return (hash); } return (pass); } sub vcl_backend_response { set beresp.ttl = 1m; }";
    let text = written(from_vcl(vcl, "a"));
    assert_has(
        &text,
        &["`purge.allow` and `purge.token` say who may purge", "Which paths are cached?", "    mode: off"],
    );
    assert_eq!(cached(&text), [""; 0], "{text}");
    let socket = "server { location / { proxy_pass http://unix:/run/api.sock; } }";
    assert_has(&written(from_nginx(socket, "a")), &["upstream: \"unix:/run/api.sock\""]);
}

#[test]
fn servers_that_are_not_equal_are_named() {
    let text =
        "upstream api { least_conn; server 10.0.0.1 weight=2; server 10.0.0.2; server 10.0.0.3 backup; }
server { location / { proxy_pass http://api; } }";
    let text = written(from_nginx(text, "a"));
    for part in ["least_conn", "10.0.0.1 weight=2", "10.0.0.3 backup"] {
        assert!(text.contains(&format!("{part}` is left out")), "{part}\n{text}");
    }
    assert!(text.contains("upstream: [\"http://10.0.0.1\", \"http://10.0.0.2\"]"), "{text}");
}

#[test]
fn souin_stores_nothing_where_the_default_withholds_it() {
    let root = json!({"http": {"middlewares": {"cache": {"plugin": {"souin": {
        "default_cache": {"ttl": "1m", "key": {"headers": ["X-Tenant"]}},
        "urls": {"https://h/api/.+": {"ttl": "1h", "default_cache_control": "no-store"}},
    }}}}}});
    let text = written(from_souin(&root, "a"));
    assert_has(
        &text,
        &[
            "  - path: /api/{*rest?}\n    ttl: upstream",
            "  - path: /{*rest?}\n    ttl: 1m  # `ttl`\n    headers: [x-tenant]",
        ],
    );
    assert!(!text.contains("ttl: 1h"), "{text}");
}
