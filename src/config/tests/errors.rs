//! All errors are reported at once, each with its line and the fix.

use super::{check_wrong, parse, wrong};

#[test]
fn five_different_mistakes_are_all_named_with_their_lines() {
    let text = "\
listen: 127.0.0.1:8080
upstream: {url: http://127.0.0.1:3000, conect_timeout: 2s}
admin: {token: \"${ADMIN_TOKEN}\"}
routes:
  - path: /api/courses
    ttl: 30
    tags: [courses, \"course:{id}\"]
  - path: /api/courses
    per: cookies.session
";
    let shown = parse(text).expect_err("five mistakes").to_string();
    for part in [
        "proxy.yaml:2:40: error: unknown key `conect_timeout` in upstream
   |
 2 | upstream: {url: http://127.0.0.1:3000, conect_timeout: 2s}
   |                                        ^^^^^^^^^^^^^^
  help: did you mean `connect_timeout`?
",
        "proxy.yaml:3:16: error: the variable `ADMIN_TOKEN` is not set
   |
 3 | admin: {token: \"${ADMIN_TOKEN}\"}
   |                ^^^^^^^^^^^^^^^^
  help: set it, or give a default: `${ADMIN_TOKEN:-…}`
",
        "proxy.yaml:6:10: error: `30` is not a `ttl`
   |
 6 |     ttl: 30
   |          ^^
  help: write `30s`",
        "proxy.yaml:7:21: error: `{id}` is not in the route's path `/api/courses`
   |
 7 |     tags: [courses, \"course:{id}\"]
   |                     ^^^^^^^^^^^^^
  note: the path: proxy.yaml:5:11
",
        "proxy.yaml:8:11: error: `/api/courses` matches the same paths as `/api/courses`",
        "proxy.yaml:9:10: error: `cookies.session` names no credential",
        "proxy.yaml: 6 errors",
    ] {
        assert!(shown.contains(part), "no `{part}` in:\n{shown}");
    }
}

#[test]
fn errors_come_in_the_order_of_the_file() {
    let found = wrong("routes: [{path: a}]\nlog: {level: loud}\nupstream: ftp://x\nlimits: {drain: 1}\n");
    let lines: Vec<_> = found.iter().filter_map(|error| error.split(':').next()).collect();
    assert_eq!(lines, ["1", "2", "3", "4"], "{found:#?}");
}

#[test]
fn an_unknown_key_suggests_the_nearest_or_its_section() {
    for (more, parts) in [
        ("rotues: []", &["2:1 unknown key `rotues`", "did you mean `routes`?"][..]),
        ("store: {max_lagg: 1s}", &["2:9", "in store", "did you mean `max_lag`?"]),
        ("store: {redis: 'redis://h', compress: {level: 10}}", &["not a level from 1 to 9", "`9` for size"]),
        (
            "store: {redis: 'redis://h'}\nroutes: [{path: /a, ttl: 1s, encrypt: true}]",
            &["3:39", "`store` has none", "secret:"],
        ),
        (
            "store: {redis: 'redis://h'}\ndefaults: {encrypt: true}\nroutes: [{path: /a}]",
            &["4:17", "needs keys"],
        ),
        ("routes: [{path: /a, encrypt: {keys: []}}]", &["2:30", "`true` or `false`"]),
        ("store: {redis: 'redis://h', compress: {algorithm: zst}}", &["did you mean `zstd`?"]),
        ("store: {maxLag: 1s}", &["did you mean `max_lag`?"]),
        ("ttl: 30s", &["`ttl` belongs under a route"]),
        ("admin: {max_lag: 1s}", &["`max_lag` belongs under store"]),
        ("limits: {routes: []}", &["`routes` belongs at the top level of the file"]),
        ("log: {colour: red}", &["known keys: format, level"]),
        ("routes: [{path: /a, vary: [x]}]", &["unknown key `vary` in a route", "in larder it is `headers`"]),
        ("routes: [{path: /a, grace: 1m}]", &["in larder it is `stale_while_revalidate`"]),
        ("backend: 127.0.0.1:3000", &["2:1 unknown key `backend`", "in larder it is `upstream`"]),
        ("routes: [{path: /a, tag: [x]}]", &["unknown key `tag` in a route", "did you mean `tags`?"]),
        ("defaults: {path: /a}", &["unknown key `path` in defaults", "belongs under a route"]),
        ("defaults: {name: a}", &["unknown key `name` in defaults", "`name` belongs under a route"]),
        ("? [a]\n: b", &["a key must be a name, not a list"]),
    ] {
        check_wrong(more, parts);
    }
}

#[test]
fn a_wrong_kind_of_value_is_told_with_the_right_one() {
    for (more, parts) in [
        ("routes: {path: /a}", &["2:9 this must be a list, not a mapping", "[{path: /api/courses"][..]),
        ("routes: [text]", &["a route must be a mapping, not a single value"]),
        ("store: big", &["store must be a mapping, not a single value", "its keys: redis, namespace"]),
        ("limits: {connections: [1]}", &["this must be a single value, not a list", "write a number"]),
        ("limits: {connections: }", &["a value is missing"]),
        ("limits: {connections: 1_000}", &["`1_000` is not a number", "digits only"]),
        ("limits: {connections: 0x10}", &["`0x10` is not a number"]),
        ("limits: {connections: 0}", &["from 1 to", "write a number between 1 and 16777216"]),
        ("routes: [{path: /a, ttl: 99999999999999d}]", &["not a `ttl`", "the longest is `3650d`"]),
        ("routes: [{path: /a, shared: maybe}]", &["neither `true` nor `false`"]),
        ("routes: [{path: /a, compress: [gzip, gzip]}]", &["2:38 `gzip` occurs twice in the list"]),
        ("routes: [{path: /a, tags: [a, b, a]}]", &["2:34 `a` occurs twice in the list"]),
        ("listen: '::1:8080'", &["`::1:8080` is not an address", "write `[::1]:8080`"]),
        ("routes: [{path: /a, tags: courses}]", &["2:27 this must be a list", "`[]` for none"]),
        ("routes: [{path: /a, tags: }]", &["a list is missing"]),
        ("routes: [{ttl: 1s}]", &["2:10 a route has no `path`", "add `path: …`"]),
    ] {
        check_wrong(more, parts);
    }
}

#[test]
fn a_file_that_is_no_yaml_is_one_error_with_its_place() {
    for (text, parts) in [
        ("upstream: [a", &["1:11", "this is not YAML"][..]),
        ("upstream: \"a", &["1:11", "this is not YAML"]),
        ("a: 1\n  b: 2", &["2:4", "this is not YAML"]),
        ("a:\n\t- b", &["2:", "tabs", "indent with spaces"]),
        ("a: [course:{id}]", &["this is not YAML", "in quotes"]),
        ("a: \"b\nc: d", &["this is not YAML", "a quote is not closed"]),
        ("admin: {token: ${TOKEN}}", &["this is not YAML", "put a variable in quotes"]),
        ("upstream: *nobody", &["1:11", "unknown anchor"]),
        ("a: 1\n---\nb: 2", &["a second YAML document begins here"]),
        ("- a", &["the configuration must be a mapping, not a list"]),
        ("", &["the configuration has no `upstream`"]),
    ] {
        let found = wrong(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        parts.iter().for_each(|part| assert!(found[0].contains(part), "{text}: {found:#?} has no `{part}`"));
    }
}

#[test]
fn a_repeated_key_is_an_error_and_the_rest_is_read() {
    let text =
        "upstream: http://a\nupstream: http://b\nroutes:\n  - {path: /a, ttl: 1s, ttl: 2s}\nlisten: x\n";
    let found = wrong(text);
    let expected =
        ["2:1 `upstream` occurs twice", "4:25 `ttl` occurs twice", "5:9 `x` is not an address to listen on"];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
    check_wrong("routes: [{path: /a, status: {404: 1s, 404: 2s}}]", &["2:39", "occurs twice"]);
}

#[test]
fn what_was_not_in_the_first_version_is_taken() {
    super::right(
        "routes: [{path: /a, tags: [\"x:{response.json:$.id}\"], purges: [\"x:{request.json:/id}\"]}]",
    );
    super::right(
        "routes: [{path: /a, guard: false}]\nstore: {max_lag: 0s, on_store_loss: {serve: 30s}, timeout: 1s}",
    );
    for url in ["redis-cluster://a:7000,b:7000", "redis-sentinel://a,b/primary"] {
        super::right(&format!("store: {{redis: \"{url}\"}}"));
    }
}

#[test]
fn secrets_in_the_line_of_an_error_are_not_shown() {
    for (line, secret) in [
        ("store: {redis: \"rediss://user:hunter2@a:99999\"}", "hunter2"),
        ("store: {redis: {url: \"redis://a\", password: hunter2, pasword: x}}", "hunter2"),
        ("admin: {listen: nowhere, token: hunter2}", "hunter2"),
        ("purge: {token: \"hunter2\", allow: [x]}", "hunter2"),
        ("admin: {token: \"hunter2 hunter3\"}", "hunter3"),
        ("admin:\n  token: |\n    hunter2 hunter3", "hunter2"),
        ("events: [{webhook: /hooks/x, secret: hunter2}]", "hunter2"),
        ("events:\n  - webhook: /hooks/x\n    secret: [hunter2, hunter22]", "hunter22"),
        ("events:\n  - webhook: /hooks/x\n    secret:\n      - hunter2", "hunter2"),
        ("upstream: http://user:hunter2@127.0.0.1", "hunter2"),
        (
            "store: {redis: a, encrypt: {keys: [{id: a, secret: A234}, {id: b, secret: hunter2, x: y}]}}",
            "hunter2",
        ),
        ("store: {redis: {url: \"redis://a\", \"password\": \"hunter2\", x: y}}", "hunter2"),
        ("admin: {token : hunter2, x: y}", "hunter2"),
        ("admin: {token: \"a}, hunter2\", x: y}", "hunter2"),
        ("admin: {token: \"${X:-hunter2}\", x: y}", "hunter2"),
        ("admin: {tokn: hunter2}", "hunter2"),
        ("admin: {TOKEN: hunter2}", "hunter2"),
        ("background: {headers: {authorization: hunter2}, x: y}", "hunter2"),
        ("background: {headers: {X-API-Key: hunter2, Cookie: hunter3}, x: y}", "hunter"),
        ("background:\n  headers:\n    X-Any: [hunter2]", "hunter2"),
        ("background:\n  headers:\n    X-Any: hunter2\n    \"x y\": z hunter2", "hunter2"),
        ("store: {redis: \"redis://:abc/hunter2@host\", x: y}", "hunter2"),
        ("admin: {token: hunter2", "hunter2"),
        ("admin:\n  token:\n    hunter2: : x", "hunter2"),
        ("{\"admin\": {\"token\": \"hunter2\", \"x\": 1}}", "hunter2"),
        ("events:\n  - secret:\n    - hunter2 # x\n    - [a", "hunter2"),
        ("admin: {token: \"${T-hunter2}\"}", "hunter2"),
        ("admin: {token: \"${T:=hunter2}\"}", "hunter2"),
        ("admin: {token: \"x${T[]:-hunter2}\"}", "hunter2"),
        ("admin: {token hunter2}", "hunter2"),
        ("admin:\n  token hunter2", "hunter2"),
        ("admin:\n  token= hunter2", "hunter2"),
        ("warm: [{get: /a, headers: {\"authorization hunter2\": x}}]", "hunter2"),
        ("background: {headers: \"authorization: hunter2\"}", "hunter2"),
        ("warm: [{get: \"/a?access_token=hunter2\", evry: 1m}]", "hunter2"),
        ("store: {redis: \"redis://h:6379/0?password=hunter2\"}", "hunter2"),
        ("store: {redis: \"redis:hunter2@h\"}", "hunter2"),
        ("store: {redis: \"user:hunter2@h:6379\"}", "hunter2"),
        ("store: {redis: redis://h, encrypt: {keys: [hunter2]}}", "hunter2"),
        ("store: {redis: redis://h, encrypt: {keys: {a: hunter2}}}", "hunter2"),
        ("store: {redis: redis://h, encrypt: {key: hunter2}}", "hunter2"),
        ("store: {redis: redis://h, encrypt: hunter2}", "hunter2"),
        ("store: {redis: redis://h, sign: hunter2}", "hunter2"),
        ("store:\n  redis: redis://h\n  encrypt:\n    keys:\n      - hunter2", "hunter2"),
        ("store: {redis: {url: redis://h, auth: {exec: [get, --password, hunter2], evry: 1m}}}", "hunter2"),
        ("store: {redis: {url: redis://h, auth: [get, hunter2]}}", "hunter2"),
        ("callers: {app: {jwt: hunter2}}", "hunter2"),
        ("callers: {app: {jwt: {keys: \"https://id:x/jwks?key=hunter2\"}}}", "hunter2"),
        ("callers: {app: {jwt: {keys: \"htps://id/jwks?key=hunter2\"}}}", "hunter2"),
        ("callers: {s: {ask: {url: \"ht://x/check?apikey=hunter2\"}}}", "hunter2"),
        (
            "listen: {address: '127.0.0.1:1', tls: {cert: a, key: \"-----BEGIN PRIVATE KEY-----hunter2\", x: y}}",
            "hunter2",
        ),
    ] {
        check_hidden(line, secret);
    }
}

/// Neither in the errors of a text nor in their summary, which `/readyz` shows.
fn check_hidden(text: &str, secret: &str) {
    let errors = parse(text).expect_err(text);
    assert!(!errors.to_string().contains(secret) && !errors.summary().contains(secret), "{text}:\n{errors}");
}

#[test]
fn a_secret_in_place_of_a_section_or_key_is_not_shown() {
    for text in [
        "admin: hunter2",
        "admin: [hunter2]",
        "admin:\n  - hunter2",
        "admin:\n  hunter2",
        "admin: {hunter2}",
        "admin: {hunter2: x}",
        "admin: {hunter2: {a: b}}",
        "admin:\n  hunter2:",
        "admin:\n  ? hunter2\n  : x",
        "admin: {hunter2, x: y}",
        "admin: {listen: nowhere, hunter2}",
        "admin: hunter2: x",
        "admin: {hunter2",
        "admin: {x: y, hunter2",
        "purge: hunter2",
        "purge: [hunter2, x]",
        "purge: {hunter2, allow: [x]}",
        "store: {redis: {url: 'redis://h', hunter2}}",
        "store: {redis: {url: 'redis://h', hunter2: x, y: z}}",
        "store: {redis: 'redis://h', encrypt: {hunter2: x}}",
        "store: {redis: 'redis://h', sign: {keys: [{id: a, hunter2}]}}",
        "store: {redis: {url: 'redis://h', auth: {hunter2: x}}}",
        "events: [{webhook: /h, hunter2}]",
        "events: [{webhook: /h, hunter2: x}]",
        "callers: {app: {jwt: {hunter2: x}}}",
    ] {
        check_hidden(text, "hunter2");
    }
    check_wrong("admin: {hunter2}", &["2:9 unknown key in admin", "known keys: listen, token"]);
    // A misspelt or misplaced key is shown.
    check_wrong("admin: {lisen: x}", &["unknown key `lisen` in admin"]);
    check_wrong("purge: {ttl: x}", &["unknown key `ttl` in purge"]);
    check_wrong("routes: [{path: /a, colour: x}]", &["unknown key `colour` in a route"]);
    check_wrong("store: {colour: x}", &["unknown key `colour` in store"]);
    let shown = parse("admin: {listen: nowhere}").expect_err("no address").to_string();
    assert!(shown.contains("| admin: {listen: nowhere}"), "{shown}");
}

#[test]
fn credentials_after_a_scheme_in_any_case_are_not_shown() {
    for scheme in
        ["Token", "token", "TOKEN", "Bearer", "bearer", "Basic", "BASIC", "Digest", "ApiKey", "Negotiate"]
    {
        for text in [
            format!("listen: '{scheme} hunter2'"),
            format!("listen: \"{scheme} hunter2\""),
            format!("upstream: {{url: '{scheme}  hunter2'}}"),
            format!("routes: [{{path: /a, ttl: {scheme} hunter2}}]"),
            format!("routes: [{{path: /a, headers: ['{scheme} hunter2']}}]"),
            format!("log:\n  level:\n    - '{scheme} hunter2'"),
            format!("'{scheme} hunter2': x"),
        ] {
            check_hidden(&text, "hunter2");
        }
    }
}

#[test]
fn a_text_that_looks_like_a_secret_is_shown_nowhere() {
    const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.e30.abc";
    for secret in ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "Xq0aZ81LmPq7TtUe", JWT] {
        for text in [
            format!("listen: {secret}"),
            format!("{secret}: x"),
            format!("log: {{{secret}: x, level: loud}}"),
            format!("routes: [{{path: /a, ttl: {secret}, x: y}}]"),
            format!("routes:\n  - path: /a\n    {secret}"),
        ] {
            check_hidden(&text, secret);
        }
    }
    // Ordinary names are shown.
    check_wrong("getCoursesOfUserById: x", &["unknown key `getCoursesOfUserById`"]);
    check_wrong("listen: my-host-2.Example.com", &["my-host-2.Example.com"]);
}

#[test]
fn long_lines_are_shown_around_the_place() {
    let ports: String = (1000..1040).map(|port| format!("127.0.0.1:{port}, ")).collect();
    let text = format!("upstream: http://a # {}\nlisten: [{ports}x]", "é".repeat(300));
    let shown = parse(&text).expect_err("x is no address").to_string();
    let lines: Vec<_> = shown.lines().collect();
    let caret = lines.iter().position(|line| line.ends_with(" ^")).expect("a caret");
    let column = lines[caret].chars().count() - 1;
    assert_eq!(lines[caret - 1].chars().nth(column), Some('x'), "{shown}");
    assert!(lines[caret - 1].chars().count() < 140, "{shown}");
}
