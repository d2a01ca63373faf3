//! The binary `larder` as a person at a terminal meets it.

use crate::support::{Command, Larder, Process, Scratch, Upstream, free_port};

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
    for command in ["run", "check", "schema", "demo", "purge", "purges", "stats", "health"] {
        assert!(help.contains(&format!("\n  {command}")), "{command}: {help}");
    }
    assert!(Command::new(&["--version"]).stdout().await.starts_with("larder "));
    assert_eq!(run(Command::new(&["--no-such-flag"])).await.0, Some(2));
}

#[tokio::test]
async fn check_names_every_mistake_of_a_file_with_its_line_and_snippet() {
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
    assert!(said.contains(&address), "{said}");
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
    assert!(ask(&["purges", "--tag", "a b"]).stdout().await.contains("  everything  "));
    assert!(ask(&["purges"]).stdout().await.contains("by admin POST /purge"));
    assert!(ask(&["stats"]).stdout().await.contains("things"));
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
async fn the_demo_serves_a_sample_api_and_prints_requests_that_show_what_they_say() {
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
        larder.get("/a?secret=1").await;
        larder.request("PURGE", "/a").await.assert_status(200);
        larder.signal("TERM");
        assert!(larder.ended().await.success());
        let log = larder.log();
        let purges = log.lines().filter(|line| line.to_lowercase().contains("purge")).count();
        assert!(purges >= 1, "{log}");
        assert_eq!(log.contains("secret=1"), level == "debug", "a request's line is for debugging: {log}");
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
