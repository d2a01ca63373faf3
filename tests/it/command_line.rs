//! The binary `larder` as a person at a terminal meets it.

use crate::support::{Certificates, Command, Larder, Process, Scratch, Upstream, eventually, free_port};

/// The exit code, and all that was printed.
async fn run(command: Command) -> (Option<i32>, String) {
    let output = command.output().await;
    let printed = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&printed).into_owned())
}

#[tokio::test]
async fn it_says_what_it_can_do() {
    let (code, help) = run(Command::new(&["--help"])).await;
    assert_eq!(code, Some(0));
    for command in [
        "run",
        "init",
        "suggest",
        "import",
        "check",
        "doctor",
        "redis",
        "schema",
        "demo",
        "purge",
        "purges",
        "stats",
        "audit",
        "top",
        "tail",
        "mcp",
        "drain",
        "health",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("\n  {command}")), "{command}: {help}");
    }
    let version = Command::new(&["--version"]).stdout().await;
    assert!(version.starts_with("larder ") && version.contains("\ncommit: "), "{version}");
    assert!(version.contains("\nfeatures: "), "{version}");
    assert_eq!(run(Command::new(&["--no-such-flag"])).await.0, Some(2));
}

#[tokio::test]
async fn check_reports_every_mistake_with_line_and_snippet() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "proxy.yaml",
        "\
upstream: htp://127.0.0.1:3000
max_lag: 1s
limits: {header_bytes: lots}
routes:
  - path: /a/{id}
    ttl: 30 seconds
    tags: [\"a:{nothing}\"]
",
    );
    let (code, said) = run(Command::new(&["check", file.to_str().unwrap()])).await;
    assert_ne!(code, Some(0));
    for (line, snippet) in [
        (1, "upstream: htp://127.0.0.1:3000"),
        (2, "max_lag: 1s"),
        (3, "limits: {header_bytes: lots}"),
        (6, "ttl: 30 seconds"),
        (7, "tags: [\"a:{nothing}\"]"),
    ] {
        assert!(said.contains(&format!("proxy.yaml:{line}:")), "line {line}: {said}");
        assert!(said.contains(snippet), "{snippet}: {said}");
    }
    assert!(said.trim_end().ends_with("5 errors"), "{said}");
}

#[tokio::test]
async fn every_command_takes_the_configuration_as_a_flag() {
    let scratch = Scratch::new();
    let file = scratch.file("other.yaml", "upstream: http://127.0.0.1:1\nroutes: []");
    let file = file.to_str().unwrap();
    for arguments in [
        &["check", file][..],
        &["check", "--config", file],
        &["--config", file, "check"],
        &["-c", file, "lint"],
        &["lint", "-c", file],
        &["explain", "-c", file, "/a"],
        &["-c", file, "explain", "/a"],
    ] {
        let (code, said) = run(Command::new(arguments)).await;
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }
    let (code, said) = run(Command::new(&["check"]).env("LARDER_CONFIG", file)).await;
    assert!(code == Some(0) && said.starts_with(file), "{said}");
    let (code, said) = run(Command::new(&["check", file, "-c", file])).await;
    assert!(code == Some(2) && said.contains("named twice"), "{said}");
}

#[tokio::test]
async fn check_says_who_may_purge() {
    let scratch = Scratch::new();
    for (settings, expected) in [
        ("", "from this machine; behind a proxy on it, set `purge.token`"),
        (
            "listen: 0.0.0.0:8080",
            "refused, since others can reach larder; set `purge.token` or `purge.allow`",
        ),
        ("listen: [127.0.0.1:8080, '[::]:8081']", "refused, since others can reach larder"),
        ("trusted_proxies: [10.0.0.0/8]", "refused, since others can reach larder"),
        ("listen: 0.0.0.0:8080\npurge: {token: a-token}", "with the token"),
        ("listen: 0.0.0.0:8080\npurge: {allow: [10.0.0.0/8]}", "from `purge.allow`"),
        ("listen: 0.0.0.0:8080\npurge: {allow: []}", "off"),
    ] {
        let file =
            scratch.file("proxy.yaml", &format!("upstream: http://127.0.0.1:1\n{settings}\nroutes: []\n"));
        let file = file.to_str().expect("a path");
        let (code, said) = run(Command::new(&["check", file])).await;
        assert!(code == Some(0) && said.contains(&format!("  PURGE: {expected}")), "{settings}: {said}");
        let (_, json) = run(Command::new(&["check", file, "--output", "json"])).await;
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert!(json["purge"].as_str().is_some_and(|said| said.starts_with(expected)), "{settings}: {json}");
    }
}

#[tokio::test]
async fn findings_are_written_for_programs() {
    let scratch = Scratch::new();
    let file = scratch.file(
        "proxy.yaml",
        "upstream: http://127.0.0.1:1\nroutes: [{path: /a, ttl: 1m, shared: true, override: [private], tags: [x]}]",
    );
    let config = file.to_str().unwrap();
    for (arguments, code) in [(&["check"][..], 0), (&["check", "--strict"], 1), (&["lint"], 1)] {
        for format in ["json", "github", "sarif"] {
            let all = [arguments, &["-c", config, "--output", format]].concat();
            let output = Command::new(&all).output().await;
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(code), "{all:?}: {said}");
            assert!(output.stderr.is_empty(), "{all:?}: {}", String::from_utf8_lossy(&output.stderr));
            match format {
                "github" => {
                    assert!(said.starts_with(&format!("::warning file={config},line=2,col=54")), "{said}")
                }
                "json" => {
                    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
                    assert_eq!(
                        (&json["warnings"], &json["diagnostics"][0]["line"]),
                        (&1.into(), &2.into()),
                        "{said}"
                    );
                }
                _ => {
                    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
                    let result = &json["runs"][0]["results"][0];
                    let location = &result["locations"][0]["physicalLocation"];
                    assert_eq!(location["region"]["startLine"], 2, "{said}");
                    assert_eq!(location["artifactLocation"]["uri"], config, "{said}");
                }
            }
        }
    }
    let rules = "config: proxy.yaml\ntests: [{name: a, request: /a, expect: {stored: false}}]";
    let rules = scratch.file("rules.yaml", rules);
    let (code, said) = run(Command::new(&["test", rules.to_str().unwrap(), "--output", "json"])).await;
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &json["tests"][0]["ok"], &json["errors"]),
        (Some(1), &false.into(), &1.into()),
        "{said}"
    );
    let wrong = scratch.file("wrong.yaml", "upstream: http://127.0.0.1:1\nroutes: [{path: /a, ttl: 5}]");
    let (code, said) = run(Command::new(&["check", wrong.to_str().unwrap(), "--output", "github"])).await;
    assert!(code == Some(1) && said.starts_with("::error file="), "{said}");
}

#[tokio::test]
async fn completions_and_manual_pages_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Command::new(&["completions", shell]).stdout().await;
        assert!(script.contains("larder") && script.contains("everything"), "{shell}: {script}");
    }
    assert!(Command::new(&["man"]).stdout().await.contains(".TH larder 1"));
    let scratch = Scratch::new();
    let pages = scratch.path().join("pages");
    Command::new(&["man", "--dir", pages.to_str().unwrap()]).stdout().await;
    let page = std::fs::read_to_string(pages.join("larder-purge.1")).unwrap();
    assert!(page.contains("everything"), "{page}");
}

#[tokio::test]
async fn run_refuses_a_wrong_file_and_says_what_to_do_without_one() {
    let scratch = Scratch::new();
    let (code, said) = run(Command::new(&[]).directory(scratch.path())).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("proxy.yaml") && said.contains("larder demo"), "{said}");
    let file = scratch.file("proxy.yaml", "routes: [{pth: /a}]");
    let (code, said) = run(Command::new(&["--config", file.to_str().unwrap()])).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("proxy.yaml:1:") && said.contains("`path`"), "{said}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error_at_once_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", "upstream: http://127.0.0.1:1\nadmin: off\nroutes: []");
    let (code, said) = run(Command::new(&["--config", file.to_str().unwrap(), "--listen", &address])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains(&format!("or in {}", file.display())), "{said}");
}

#[tokio::test]
async fn flags_and_variables_go_over_the_file() {
    let upstream = Upstream::start();
    let [proxy, admin] = [free_port(), free_port()];
    let (listen, admin_listen) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
    let file = "listen: 127.0.0.1:1\nupstream: http://127.0.0.1:1\nroutes: [{path: /a, ttl: 60s}]";
    for by_flag in [true, false] {
        let scratch = Scratch::new();
        let path = scratch.file("proxy.yaml", file);
        let config = path.to_str().unwrap();
        let command = if by_flag {
            let url = upstream.url();
            Command::new(&[
                "run",
                "-c",
                config,
                "--listen",
                &listen,
                "--admin",
                &admin_listen,
                "--upstream",
                &url,
            ])
        } else {
            let command = Command::new(&[]).env("LARDER_CONFIG", config).env("LARDER_LISTEN", &listen);
            command.env("LARDER_ADMIN", &admin_listen).env("LARDER_UPSTREAM", &upstream.url())
        };
        let larder = Process::spawn(command, scratch, proxy, admin).await;
        larder.get("/a").await.assert_stored();
        larder.get("/a").await.assert_hit();
    }
}

#[tokio::test]
async fn purge_stats_and_health_speak_to_a_running_larder() {
    let upstream = Upstream::start();
    let yaml = "admin: {token: secret}\nroutes: [{path: /a, name: things, ttl: 60s, tags: [a]}]";
    let larder = Larder::with(yaml, &upstream);
    let admin = format!("http://{}", larder.admin.address());
    let ask = |arguments: &[&str]| {
        let fixed = ["--admin", admin.as_str(), "--token", "secret"];
        Command::new(&[arguments, &fixed].concat())
    };
    assert_eq!(ask(&["health"]).stdout().await.trim(), "ok");
    for targets in [
        &["--tag", "a"][..],
        &["--url", "/a"],
        &["--prefix", "/"],
        &["--everything"],
        &["--tag", "x", "--tag", "a"],
    ] {
        larder.get("/a").await;
        larder.get("/a").await.assert_hit();
        let said = ask(&[&["purge"], targets].concat()).stdout().await;
        assert!(said.contains("position"), "{said}");
        assert!(!larder.get("/a").await.is_hit(), "{targets:?}");
    }
    let json = ask(&["purge", "--tag", "a", "--json"]).stdout().await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["position"].is_string() || json["position"].is_number(), "{json}");
    let (code, said) = run(ask(&["purge", "--tag", "nothing", "--dry-run"])).await;
    assert!(code == Some(0) && said.contains("no route has the tag `nothing`"), "{said}");
    assert!(ask(&["purges", "--tag", "a b"]).stdout().await.contains("  everything  "));
    assert!(ask(&["purges"]).stdout().await.contains("by admin POST /purge"));
    assert!(ask(&["stats"]).stdout().await.contains("things"));
    assert!(ask(&["top", "--once"]).stdout().await.contains("\nthings "));
    let json: serde_json::Value = serde_json::from_str(&ask(&["stats", "--json"]).stdout().await).unwrap();
    assert_eq!(json["routes"]["things"]["hits"], 9);

    let (code, said) = run(Command::new(&["stats", "--admin", &admin, "--token", "wrong"])).await;
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(run(ask(&["purge"])).await.0, Some(2), "nothing is named");
    let nowhere = Upstream::nowhere();
    assert_eq!(run(Command::new(&["health", "--admin", &nowhere])).await.0, Some(1));
}

#[tokio::test]
async fn the_schema_is_the_one_in_the_repository() {
    let printed: serde_json::Value = serde_json::from_str(&Command::new(&["schema"]).stdout().await).unwrap();
    let kept =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/proxy.schema.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<serde_json::Value>(&kept).unwrap());
}

#[tokio::test]
async fn the_demo_prints_requests_that_show_what_they_claim() {
    let [proxy, admin] = [free_port(), free_port()];
    let (listen, admin_listen) = (format!("127.0.0.1:{proxy}"), format!("127.0.0.1:{admin}"));
    let command = Command::new(&["demo", "--listen", &listen, "--admin", &admin_listen, "--delay", "1"]);
    let demo = Process::spawn(command, Scratch::new(), proxy, admin).await;
    let printed = demo.log();
    assert!(printed.contains("curl ") && printed.contains(&listen), "{printed}");
    demo.get("/api/courses").await.assert_fwd("uri-miss").assert_stored();
    demo.get("/api/courses").await.assert_hit();
    let change = demo.request("PATCH", "/api/courses/1").body(r#"{"title": "New"}"#);
    change.await.assert_status(200);
    demo.get("/api/courses").await.assert_fwd("uri-miss");
}

#[tokio::test]
async fn logs_are_text_or_json_with_a_line_for_each_purge() {
    let upstream = Upstream::start();
    for (format, level) in [("text", "info"), ("json", "info"), ("json", "debug")] {
        let yaml = format!("log: {{format: {format}, level: {level}}}\nroutes: [{{path: /a, ttl: 60s}}]");
        let mut larder = Process::with(&yaml, &upstream).await;
        larder.get("/a?page=1&secret=1").await;
        larder.request("PURGE", "/a").await.assert_status(200);
        larder.signal("TERM");
        assert!(larder.ended().await.success());
        let log = larder.log();
        let purges = log.lines().filter(|line| line.to_lowercase().contains("purge")).count();
        assert!(purges >= 1, "{log}");
        assert_eq!(log.contains("page=1"), level == "debug", "a request's line is for debugging: {log}");
        assert_eq!(log.contains("secret=***"), level == "debug", "{log}");
        assert!(!log.contains("secret=1"), "{log}");
        if format == "json" {
            for line in log.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
                assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
            }
        }
    }
}

#[tokio::test]
async fn it_listens_on_unix_sockets_and_on_several_addresses() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let socket = scratch.path().join("larder.sock");
    let [proxy, admin] = [free_port(), free_port()];
    let both = format!("127.0.0.1:{proxy},unix:{}", socket.display());
    let file = scratch.file("proxy.yaml", "upstream: http://127.0.0.1:1\nroutes: [{path: /a, ttl: 60s}]");
    let command = Command::new(&["--config", file.to_str().unwrap(), "--listen", &both]);
    let command = command.env("LARDER_ADMIN", &format!("127.0.0.1:{admin}"));
    let larder = Process::spawn(command.env("LARDER_UPSTREAM", &upstream.url()), scratch, proxy, admin).await;
    larder.get("/a").header("host", "api").await.assert_stored();
    let reply = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    });
    let reply = reply.await.unwrap();
    assert!(reply.contains("cache-status: larder; hit"), "{reply}");
}

/// A file that would end the start is an error of `check`, with its place; `run` ends before it says that it listens.
#[tokio::test]
async fn files_that_are_not_there_are_found_before_the_start() {
    let scratch = Scratch::new();
    let directory =
        format!("listen: 127.0.0.1:PORT\nlog: {{access: {{path: {}}}}}", scratch.path().display());
    for (settings, place, path, ends_with) in [
        (
            "listen: {address: \"127.0.0.1:PORT\", tls: {cert: /nowhere/c.pem, key: /nowhere/c.key}}",
            ":2:",
            "/nowhere/c.pem",
            2,
        ),
        (
            "listen: 127.0.0.1:PORT\nlog: {access: {path: /nowhere/access.log}}",
            ":3:",
            "/nowhere/access.log",
            1,
        ),
        (&*directory, ":3:", "is a directory", 1),
    ] {
        let settings = settings.replace("PORT", &free_port().to_string());
        let yaml = format!("admin: off\n{settings}\nupstream: http://127.0.0.1:1\n");
        let config = scratch.file("proxy.yaml", &yaml).to_string_lossy().into_owned();
        let checked = Command::new(&["check", &config]).output().await;
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(1), "{said}");
        assert!(said.contains(place) && said.contains(path), "{said}");
        let ran = Command::new(&["--config", &config]).output().await;
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(ends_with), "{said}");
        assert!(said.to_lowercase().contains(path) && !said.contains("listening"), "{said}");
    }
}

/// `check` and `run` name the key, the line and the fix, also in JSON.
#[tokio::test]
async fn tls_files_that_are_no_good_are_errors_at_their_keys() {
    let (made, scratch) = (Certificates::new(), Scratch::new());
    let garbage = scratch.file("garbage.pem", "garbage\n").display().to_string();
    let (cert, key, other) = (made.text("client.pem"), made.text("client.key"), made.text("server.key"));
    for (tls, line, said) in [
        (format!("ca: {garbage}"), 2, "no certificate"),
        ("ca: /nowhere/ca.pem".to_owned(), 2, "can't be read"),
        (format!("cert: {key},\n key: {key}"), 2, "no certificate"),
        (format!("cert: {cert},\n key: {garbage}"), 3, "unencrypted private key"),
        (format!("cert: {cert},\n key: {other}"), 3, "does not belong to the certificate"),
        ("server_name: https://api".to_owned(), 2, "no name that a certificate can have"),
    ] {
        for (settings, keys) in [
            ("upstream: {url: https://127.0.0.1:9, tls: {\n TLS}}", "ca cert server_name"),
            (
                "store: {redis: {url: rediss://127.0.0.1:9, tls: {\n TLS}}}\nupstream: http://127.0.0.1:9",
                "ca cert",
            ),
            ("listen: {address: 127.0.0.1:0, tls: {\n TLS}}\nupstream: http://127.0.0.1:9", "cert"),
        ] {
            if !keys.split(' ').any(|key| tls.starts_with(&format!("{key}:"))) {
                continue;
            }
            let yaml = settings.replace("TLS", &tls) + "\nadmin: off\n";
            let config = scratch.file("proxy.yaml", &yaml).display().to_string();
            for command in [&["check", &config][..], &["--config", &config]] {
                let (code, text) = run(Command::new(command)).await;
                assert_eq!(code, Some(if command[0] == "check" { 1 } else { 2 }), "{yaml}{text}");
                let is_placed = text.contains(&format!("{config}:{line}:")) && text.contains("help: ");
                assert!(is_placed && text.contains(said), "{command:?}: {yaml}{text}");
            }
            let output = Command::new(&["check", &config, "--output", "json"]).output().await;
            let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(found["diagnostics"][0]["line"], line, "{yaml}{found}");
        }
    }
}

/// larder starts without them, and then no caller of the entry has a hit.
#[tokio::test]
async fn keys_that_are_not_there_are_an_error_of_check() {
    let scratch = Scratch::new();
    let check = async |keys: &str, command: &str| {
        let yaml = format!("upstream: http://127.0.0.1:1\ncallers: {{app: {{jwt: {{keys: '{keys}'}}}}}}\n");
        let config = scratch.file("proxy.yaml", &yaml).to_string_lossy().into_owned();
        let checked = Command::new(&[command, &config]).output().await;
        let said = String::from_utf8_lossy(&checked.stdout) + String::from_utf8_lossy(&checked.stderr);
        (checked.status.code(), said.into_owned())
    };
    let (code, said) = check("/nowhere/keys.json", "check").await;
    assert!(
        code == Some(1) && said.contains(":2:") && said.contains("`/nowhere/keys.json` can't be read"),
        "{said}"
    );
    let nowhere = Upstream::nowhere();
    let (code, said) = check(&format!("{nowhere}/keys"), "doctor").await;
    assert!(
        code == Some(1) && said.contains("the keys of `callers.app`: ") && said.contains("[caller-keys]"),
        "{said}"
    );
}

#[tokio::test]
async fn the_log_says_once_what_is_shared_for_a_field_or_not() {
    let upstream = Upstream::start();
    let routes = "routes: [{path: /own, ttl: 60s}, {path: /shared, ttl: 60s, shared: true}]";
    let larder = Process::with(&format!("log: {{format: json}}\n{routes}"), &upstream).await;
    for value in ["one", "two"] {
        for path in ["/own", "/shared"] {
            // Another one each time, so that each is fetched.
            let path = format!("{path}?{value}");
            larder.get(&path).header("x-auth-token", &format!("secret-{value}")).await.assert_status(200);
        }
    }
    for (route, message) in [
        (
            "/own",
            "responses are not shared: the request has a field that identifies its caller (`credentials`)",
        ),
        (
            "/shared",
            "responses are shared although the request has a field that identifies its caller (`shared`)",
        ),
    ] {
        let lines = || {
            let log = larder.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let is_meant = |line: &serde_json::Value| line["fields"]["message"] == message;
            lines.filter(is_meant).collect::<Vec<_>>()
        };
        let lines = eventually(message, || async { Some(lines()).filter(|lines| !lines.is_empty()) }).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        let fields = &lines[0]["fields"];
        assert_eq!((&fields["route"], &fields["field"]), (&route.into(), &"x-auth-token".into()), "{fields}");
        assert_eq!(lines[0]["level"], "INFO");
    }
    assert!(!larder.log().contains("secret-one"), "{}", larder.log());
}
