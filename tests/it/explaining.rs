//! `larder explain`, `lint` and `test`, and `/explain` on the admin listener: what they show, and how they end.

use std::path::Path;

use serde_json::Value;

use crate::support::{Answer, Command, HOST, Larder, Redis, Replica, Scratch, Upstream, bearer, eventually};

const ROUTES: &str = "
routes:
  - {path: /api/courses, ttl: 30s, tags: [courses], query: {page: 1}}
  - {path: '/api/courses/{id}', ttl: 2m, tags: ['course:{id}'], purges: [courses]}
  - {path: /api/me, ttl: 10s, per: authorization, tags: ['me:{jwt.sub}']}
";

fn repository(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file).to_str().expect("a path").to_owned()
}

async fn explain(arguments: &[&str]) -> String {
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{ROUTES}"));
    let all = [&["explain", "--config", file.to_str().expect("a path")], arguments].concat();
    Command::new(&all).stdout().await
}

/// Returns standard output, exit code and standard error.
async fn run(arguments: &[&str]) -> (String, Option<i32>, String) {
    let output = Command::new(arguments).output().await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), output.status.code(), text(&output.stderr))
}

#[tokio::test]
async fn explain_gives_the_decision_and_the_remedy() {
    for (arguments, parts) in [
        (
            &["GET", "/api/courses?page=1"][..],
            &[
                "route       /api/courses",
                "query          page=1",
                "fresh for 30s: the route's `ttl`",
                "tags        courses",
                "a write to /api/courses/{id}: courses",
            ][..],
        ),
        (&["/api/courses"], &["page=1", "stored "]),
        (
            &["GET", "/api/courses", "--response", "Cache-Control: max-age=60, stale-if-error=20"],
            &["fresh for 1m: the response's own lifetime", "then stale  20s more if the upstream fails"],
        ),
        (
            &["/api/courses", "--response", "Cache-Control: s-maxage=60, stale-while-revalidate=20"],
            &["then stale  no more: s-maxage forbids it", "`override: [s-maxage-revalidation]`"],
        ),
        (
            &["/api/courses?page[]=2&utm=1"],
            &[
                "forwards    /api/courses?page=1",
                "left out    `page[]`: `query` has `page`",
                "`utm`, by the route's",
            ],
        ),
        (
            &["/api/courses", "--response", "No-Vary-Search: key-order"],
            &["not for     other queries: `no_vary_search: true` would obey"],
        ),
        (
            &[
                "/api/courses",
                "--response",
                "Cache-Control: max-age=30",
                "--response",
                "Date: Thu, 01 Jan 2026 00:00:00 GMT",
            ],
            &["not stored  already-stale", "s behind this clock, which counts as age"],
        ),
        (&["/api/courses", "--response", "Set-Cookie: a=b"], &["not stored  set-cookie"]),
        (&["/api/courses", "--status", "404"], &["not stored  status: ", "`status: {404: 10s}`"]),
        (
            &["/api/courses", "-H", "Authorization: Bearer x"],
            &[
                "credential  `Authorization` identifies a caller",
                "write `shared: true`",
                "not stored  credentials: ",
            ],
        ),
        (
            &["/api/me", "-H", "Authorization: Bearer x", "-H", "Cookie: _ga=1"],
            &["credential  `Cookie` beside `per: authorization`", "`credentials: {not: [Cookie]}`"],
        ),
        (&["/api/me", "-H", "Authorization: Bearer secret"], &["authorization  sha256:"]),
        (&["/api/me"], &["passes      no-credential: its route has `per`"]),
        (&["/api/nothing"], &["route       none", "no-route"]),
        (
            &["PUT", "/api/courses/7"],
            &[
                "tag course:7  (carried by /api/courses/{id})",
                "tag courses  (carried by /api/courses)",
                "path /api/courses/7",
            ],
        ),
        (&["PUT", "/api/courses/7", "--status", "409"], &["nothing: the status says that nothing changed"]),
        (&["PURGE", "/api/*"], &["prefix /api"]),
        (
            &["GET", "/api/courses", "-H", "Host: a", "-H", "Host: b"],
            &["refused     bad request: more than one Host"],
        ),
    ] {
        let said = explain(arguments).await;
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: no {part} in\n{said}");
        }
        assert!(!said.contains("secret"), "{said}");
    }
    let told = explain(&["PUT", "/api/courses/7", "--json"]).await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["decision"], "write");
    assert_eq!(told["purges"][1]["tag"], "course:7", "{told:#}");
}

#[tokio::test]
async fn what_can_not_be_asked_is_said_with_the_fix() {
    let file = repository("proxy.yaml");
    for (arguments, part) in [
        (&["/a b"][..], "percent-encode"),
        (&["GET", "a"], "write `/api/courses`"),
        (&["/a", "-H", "nonsense"], "write `Name: value`"),
        (&["/a", "--body", "/nowhere/at/all"], "can't be read"),
        (&["/a", "--config", "/nowhere/proxy.yaml"], "can't be read"),
    ] {
        let all = [&["explain", "--config", &file][..], arguments].concat();
        let all = if arguments.contains(&"--config") { [&["explain"][..], arguments].concat() } else { all };
        let (_, code, complaint) = run(&all).await;
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(complaint.contains(part), "{arguments:?}: {complaint}");
    }
}

#[tokio::test]
async fn every_configuration_of_the_repository_is_clean_to_lint() {
    let mut files = vec![repository("proxy.yaml"), repository("src/cli/demo/proxy.yaml")];
    for entry in std::fs::read_dir(repository("config")).expect("a folder") {
        let file = entry.expect("an entry").path();
        files.extend(
            file.extension().is_some_and(|e| e == "yaml").then(|| file.to_str().expect("a path").to_owned()),
        );
    }
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        // This one takes every response by its own word.
        let (arguments, allowed) = match file.ends_with("permissive.yaml") {
            true => (&["lint", &file, "--allow", "s-maxage-forbids-stale"][..], ", and 1 allowed"),
            false => (&["lint", &file][..], ""),
        };
        let said = Command::new(arguments).stdout().await;
        assert!(said.ends_with(&format!("{file}: nothing found{allowed}\n")), "{said}");
        if file.ends_with("courses.yaml") && file.contains("/config/") {
            let line = said.lines().find(|line| line.contains("/api/users/me/progress"));
            let line = line.expect("a line of each route");
            assert!(
                line.ends_with("  not shared: one for each value (per: jwt.sub, callers: users)"),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn lint_fails_for_a_finding_unless_it_is_allowed_by_its_name() {
    let scratch = Scratch::new();
    let file =
        scratch.file("proxy.yaml", "upstream: http://127.0.0.1:1\nroutes: [{path: /a, purges: [guilds]}]\n");
    let file = file.to_str().expect("a path");
    let (said, code, complaint) = run(&["lint", file]).await;
    let sharing = "  /a  not stored (ttl: never)\n";
    assert_eq!((said, code), (format!("{sharing}{file}: 1 finding\n"), Some(1)));
    assert!(complaint.contains("proxy.yaml:2:30: warning[tag-never-carried]: "), "{complaint}");
    let (said, code, _) = run(&["lint", file, "--allow", "tag-never-carried"]).await;
    assert_eq!((said, code), (format!("{sharing}{file}: nothing found, and 1 allowed\n"), Some(0)));
    let (said, ..) = run(&["lint", file, "--output", "json"]).await;
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let route = &said["routes"][0];
    assert_eq!(route["path"], "/a");
    assert_eq!(Some(sharing), route["sharing"].as_str().map(|text| format!("  /a  {text}\n")).as_deref());
    let (_, code, complaint) = run(&["lint", file, "--allow", "nonsense"]).await;
    assert_eq!(code, Some(2));
    assert!(
        complaint.contains("expected one of advice, default-like-a-type, framework-cookie"),
        "{complaint}"
    );
}

#[tokio::test]
async fn the_tests_of_the_five_configurations_pass() {
    for (case, tests) in
        [("analytics", 9), ("catalogue", 13), ("courses", 22), ("productivity", 18), ("signed-urls", 6)]
    {
        let said = Command::new(&["test", &repository(&format!("config/tests/{case}.yaml"))]).stdout().await;
        assert!(said.contains(&format!("test result: ok. {tests} passed; 0 failed")), "{said}");
    }
}

#[tokio::test]
async fn a_test_that_fails_shows_its_line_and_the_difference() {
    let scratch = Scratch::new();
    scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{ROUTES}"));
    let rules = scratch.file(
        "rules.yaml",
        "tests:
  - name: list
    request: /api/courses
    expect: {tags: [courses, all], ttl: 30s, purged_by: write, same_as: page 2}
  - name: page 2
    request: /api/courses?page=2
    expect: {stored: false, decision: pass}
  - name: write
    request: PUT /api/me
    jwt: {sub: ann}
    expect: {purges: ['me:ann']}
",
    );
    let (said, code, _) = run(&["test", rules.to_str().expect("a path")]).await;
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "running 3 tests",
        "test list ... FAILED",
        "test write ... ok",
        "---- list ----",
        "rules.yaml:4:20: failed: tags: expected [all, courses], found [courses]",
        "rules.yaml:4:57: failed: `write` does not purge it: it purges path /api/me, tag me:ann",
        "failed: it does not share a stored response with `page 2`: query page=1 and page=2",
        "failed: stored: expected false, found true",
        "failed: decision: expected pass, found lookup",
        "help: run `larder explain GET '/api/courses'` for details",
        "test result: FAILED. 1 passed; 2 failed",
    ] {
        assert!(said.contains(part), "no {part} in\n{said}");
    }
    assert!(!said.contains("ttl: expected"), "{said}");
    let wrong = scratch.file("wrong.yaml", "tests: [{name: a, request: /, expect: {tag: []}}]");
    let (_, code, complaint) = run(&["test", wrong.to_str().expect("a path")]).await;
    assert_eq!(code, Some(2));
    assert!(complaint.contains("did you mean `tags`?"), "{complaint}");
}

async fn now(larder: &Larder, target: &str) -> Value {
    let told = larder.admin.get(&format!("/explain?url=http://api.test{target}")).await.assert_status(200);
    told.json()["now"].clone()
}

#[tokio::test]
async fn admin_explain_shows_what_is_stored_or_purged() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    assert_eq!(now(&larder, "/api/courses/7").await["stored"], false);
    larder.get("/api/courses/7").header("host", "api.test").await.assert_stored();
    larder.after(20);
    let before = now(&larder, "/api/courses/7").await;
    assert_eq!(
        (&before["stored"], &before["tier"], &before["validity"]),
        (&true.into(), &"memory".into(), &"valid".into())
    );
    assert_eq!((&before["ageSeconds"], &before["ttlSeconds"]), (&20.into(), &100.into()));
    assert_eq!((&before["tags"][0], &before["verdict"]), (&"course:7".into(), &"hit".into()));
    assert_eq!(before["purgedBy"], Value::Null);

    let purge = |body: &'static str| larder.admin.request("POST", "/purge").body(body);
    purge(r#"{"tags": ["course:7"], "soft": true}"#).await.assert_status(200);
    assert_eq!(now(&larder, "/api/courses/7").await["validity"], "stale");
    let purged = purge(r#"{"tags": ["course:7"]}"#).await.assert_status(200).json();
    let after = now(&larder, "/api/courses/7").await;
    assert_eq!((&after["validity"], &after["verdict"]), (&"purged".into(), &"never".into()));
    assert_eq!(after["purgedBy"]["target"], "tag course:7");
    assert_eq!(after["purgedBy"]["position"], purged["position"]);
    // Explaining changes nothing.
    assert_eq!(now(&larder, "/api/courses/7").await["stored"], true);
    assert_eq!(upstream.count("/api/courses/7"), 1);
}

#[tokio::test]
async fn it_finds_the_variant_and_what_a_credential_is_answered_with() {
    let upstream = Upstream::start();
    upstream.on("/api/courses", Answer::ok("x").header("vary", "accept-language"));
    let larder = Larder::with(ROUTES, &upstream);
    let ann = bearer(r#"{"sub":"ann"}"#);
    larder
        .get("/api/courses")
        .header("host", "api.test")
        .header("accept-language", "de")
        .await
        .assert_stored();
    larder.get("/api/me").header("host", "api.test").header("authorization", &ann).await.assert_stored();
    let ask = |path: &str, field: &str| {
        let wanted = serde_json::json!({"url": format!("http://api.test{path}"), "headers": [field]});
        larder.admin.request("POST", "/explain").body(wanted.to_string())
    };
    for (path, field, stored) in [
        ("/api/courses", "accept-language: de", true),
        ("/api/courses", "accept-language: en", false),
        ("/api/me", &format!("authorization: {ann}"), true),
        ("/api/me", "authorization: Bearer y", false),
    ] {
        let told = ask(path, field).await.assert_status(200);
        assert_eq!(told.json()["now"]["stored"], stored, "{path} {field}");
        assert!(!told.text().contains("Bearer"), "{told}");
    }
    let passes = ask("/api/me", "accept: x").await.json();
    assert_eq!(
        (&passes["decision"], &passes["reason"], &passes["now"]),
        (&"pass".into(), &"no-credential".into(), &Value::Null)
    );
    // A URL without a host, or one that cannot be parsed.
    larder.admin.get("/explain?url=/api/courses").await.assert_status(400);
    larder.admin.get("/explain").await.assert_status(400);
    larder.admin.get("/explain?url=http://a/%20&x=1").await.assert_status(400);
    larder.admin.request("POST", "/explain").body("{}").await.assert_status(400);
    larder.admin.request("DELETE", "/explain").await.assert_status(405);
}

#[tokio::test]
async fn what_only_redis_has_is_found_there() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let one = Replica::start(&redis, &upstream, "", ROUTES).await;
    let other = Replica::start(&redis, &upstream, "", ROUTES).await;
    one.get("/api/courses/7").await.assert_stored();
    redis.holds(1).await;
    let ask = format!("/explain?url=http://{HOST}/api/courses/7");
    let seen = || async {
        Some(other.admin.get(&ask).await.json()["now"].clone()).filter(|now| now["stored"] == true)
    };
    let now = eventually("it is seen in Redis", seen).await;
    assert_eq!(
        (&now["tier"], &now["validity"], &now["tags"][0]),
        (&"redis".into(), &"valid".into(), &"course:7".into())
    );
    one.purge_tag("course:7").await;
    let purged = || async {
        Some(other.admin.get(&ask).await.json()["now"].clone()).filter(|now| now["validity"] == "purged")
    };
    assert_eq!(eventually("the purge is seen", purged).await["purgedBy"]["target"], "tag course:7");
}

#[tokio::test]
async fn a_list_that_query_leaves_out_is_told_once() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, query: [ids]}]", &upstream);
    for query in ["ids[]=1", "ids%5B%5D=2", "Ids=3&x=1", "ids=4"] {
        larder.get(&format!("/a?{query}")).await.assert_status(200);
    }
    let log = larder.log();
    assert_eq!(log.matches("query parameter left out").count(), 1, "{log}");
    assert!(log.contains("ids[]"), "{log}");
}

#[tokio::test]
async fn explain_says_that_s_maxage_closes_stale_windows() {
    for (key, is_closed) in [("", true), (", override: [s-maxage-revalidation]", false)] {
        let upstream = Upstream::start();
        let stale = "s-maxage=10, stale-while-revalidate=60";
        upstream.on("/a", Answer::ok("x").header("cache-control", stale));
        let larder = Larder::with(&format!("routes: [{{path: /a{key}}}]"), &upstream);
        larder.get("/a").header("host", "api.test").await.assert_stored();
        let told = larder.admin.get("/explain?url=http://api.test/a").await.assert_status(200).json();
        assert_eq!(told["now"]["stored"], true, "{told}");
        assert_eq!(told["now"]["staleClosedBySMaxage"] == true, is_closed, "{told}");
    }
}

/// The prediction is compared with the fields of a hit.
#[tokio::test]
async fn explain_says_what_a_hit_tells_other_caches() {
    const ROUTES: &str = "
cdn: [{type: http, url: 'http://127.0.0.1:1', at_start: keep}]
routes:
  - {path: '/courses/{id}', ttl: 60s, shared: true, tags: [courses, 'course:{id}'], list_tags: [Surrogate-Key], \
     downstream: {max_age: 5s, s_maxage: 1h, scope: public}}
  - {path: '/seen/{id}', ttl: 60s, shared: true, tags: ['u:{jwt.sub}'], downstream: {s_maxage: 1h}}
  - {path: '/mine/{id}', ttl: 60s, per: authorization, downstream: {max_age: 5s}}
  - {path: '/listed/{id}', ttl: 60s, tags: ['item:{response.json:/id}'], downstream: {max_age: 5s}}
";
    let (upstream, scratch) = (Upstream::start(), Scratch::new());
    let file = scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{ROUTES}"));
    let larder = Larder::with(ROUTES, &upstream);
    let token = bearer(r#"{"sub":"ann"}"#);
    for target in ["/courses/7", "/seen/7", "/mine/7"] {
        upstream.on(target, Answer::ok("x").header("cache-control", "max-age=9"));
        let get = || larder.get(target).header("host", "api.test").header("authorization", &token);
        get().await.assert_stored();
        let hit = get().await.assert_hit();
        let url = format!("http://api.test{target}");
        let (config, credential) = (file.to_str().expect("a path"), format!("Authorization: {token}"));
        let asked = ["--response", "Cache-Control: max-age=9", "-H", &credential];
        let arguments = [&["explain", "--config", config, "--json", "GET", &url][..], &asked].concat();
        let told: Value = serde_json::from_str(&Command::new(&arguments).stdout().await).expect("JSON");
        let fields = told["terms"]["cacheFields"].as_object().expect("fields");
        for name in ["cache-control", "surrogate-key", "xkey"] {
            assert_eq!(
                fields.get(name).and_then(Value::as_str),
                hit.header(name).as_deref(),
                "{target} {name}: {told}"
            );
        }
    }
    let explain = async |target| {
        let arguments = ["explain", "--config", file.to_str().expect("a path"), target];
        Command::new(&arguments).stdout().await
    };
    let told = explain("/courses/7").await;
    for line in
        ["to caches   Cache-Control: public, max-age=5, s-maxage=3600", "Surrogate-Key: courses course:7 ~"]
    {
        assert!(told.contains(line), "{told}");
    }
    let told = explain("/listed/7").await;
    assert!(told.contains("needs the content") && !told.contains("to caches"), "{told}");
}
