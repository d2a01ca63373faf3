//! Access log lines, by option. A slow or absent reader of the log never delays a client.

use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Answer, Client, Larder, Process, Scratch, Upstream, eventually, free_port};

const ROUTES: &str = "routes: [{path: /a, name: things, ttl: 60s}]";

/// A larder that writes to a file, and the file.
fn with_access_log(settings: &str, upstream: &Upstream) -> (Larder, Scratch) {
    let scratch = Scratch::new();
    let path = scratch.path().join("access.log");
    let access = format!("log: {{access: {{path: \"{}\", {settings}}}}}\n{ROUTES}\n", path.display());
    (Larder::with(&access, upstream), scratch)
}

async fn lines(scratch: &Scratch, count: usize) -> Vec<String> {
    eventually(&format!("{count} lines"), || async {
        let text = std::fs::read_to_string(scratch.path().join("access.log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
    .await
}

async fn json(scratch: &Scratch, count: usize) -> Vec<Value> {
    lines(scratch, count).await.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_request_that_can_not_be_read_leaves_one_line() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let path = scratch.path().join("access.log");
    let limits = "limits: {header_bytes: 256KiB}";
    let log = format!("log: {{access: {{path: \"{}\", format: json}}}}", path.display());
    let larder = Larder::with(&format!("{limits}\n{log}\n{ROUTES}\n"), &upstream);
    let heads = [
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (414, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(70_000))),
        (431, format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: 1\r\n".repeat(200))),
    ];
    for (status, head) in &heads {
        let mut raw = larder.raw().await;
        raw.send(head).await;
        assert_eq!(raw.status().await, *status, "{head:.60}");
        raw.rest().await;
    }
    larder.get("/a").await.assert_status(200);
    let mut lines = json(&scratch, heads.len() + 1).await;
    lines.sort_by_key(|line| line["status"].as_u64());
    assert_eq!((lines.len(), &lines[0]["path"]), (heads.len() + 1, &"/a".into()));
    for (line, (status, _)) in lines[1..].iter().zip(&heads) {
        assert_eq!(line["status"], *status, "{line}");
        assert_eq!([&line["method"], &line["path"], &line["protocol"]], ["-"; 3], "{line}");
        assert_eq!((&line["client"], &line["whole"]), (&"127.0.0.1".into(), &true.into()), "{line}");
    }
}

#[tokio::test]
async fn each_request_leaves_a_line_that_says_what_became_of_it() {
    let upstream = Upstream::start();
    let (larder, scratch) = with_access_log("format: json", &upstream);
    upstream.on("/b", Answer::status(404));
    larder.get("/a?x=1").header("user-agent", "tests").await.assert_stored();
    larder.get("/a?x=1").header("x-request-id", "mine").await.assert_hit();
    larder.get("/b").header("referer", "http://x/\"").await.assert_status(404);
    larder.request("PURGE", "/a").await.assert_status(200);
    larder.get("/a").header("host", "a<b").await.assert_status(400);
    let lines = json(&scratch, 5).await;
    let [miss, hit, pass, purge, bad] = &lines[..] else { panic!("{lines:?}") };
    for (field, expected) in [
        ("method", "GET"),
        ("path", "/a?x=1"),
        ("protocol", "HTTP/1.1"),
        ("route", "things"),
        ("cache", "uri-miss"),
        ("client", "127.0.0.1"),
        ("user_agent", "tests"),
        ("time", "2025-11-20T12:00:00.000000Z"),
    ] {
        assert_eq!(miss[field], expected, "{miss}");
    }
    assert_eq!((&miss["status"], &miss["bytes"], &miss["stored"]), (&200.into(), &13.into(), &true.into()));
    let millis =
        |line: &Value, field: &str| line[field].as_f64().unwrap_or_else(|| panic!("{field}: {line}"));
    let (upstream_ms, first, all) =
        (millis(miss, "upstream_ms"), millis(miss, "first_byte_ms"), millis(miss, "duration_ms"));
    assert!(0.0 < upstream_ms && upstream_ms <= first && first <= all, "{miss}");
    assert_eq!((&miss["detail"], &miss["purge_position"]), (&"never-stored".into(), &Value::Null));
    assert_eq!((&hit["cache"], &hit["request_id"]), (&"hit".into(), &"mine".into()));
    assert_eq!((&hit["upstream_ms"], &hit["bytes"]), (&Value::Null, &13.into()));
    assert_eq!((&pass["route"], &pass["status"]), (&Value::Null, &404.into()));
    assert_eq!(pass["referer"], "http://x/\"");
    assert_eq!((&purge["method"], &purge["status"]), (&"PURGE".into(), &200.into()));
    assert_eq!((&bad["status"], &bad["cache"]), (&400.into(), &Value::Null));
}

#[tokio::test]
async fn a_response_without_a_length_is_whole_at_its_end() {
    let upstream = Upstream::start();
    let (larder, scratch) = with_access_log("format: json", &upstream);
    upstream.on("/chunks", Answer::status(200).chunks(["one", "two"]));
    upstream.on("/sum", Answer::status(200).chunks(["one"]).trailer("x-sum", "7"));
    for path in ["/chunks", "/sum"] {
        larder.get(path).await.assert_status(200);
    }
    for line in json(&scratch, 2).await {
        assert_eq!(line["whole"], true, "{line}");
    }
}

#[tokio::test]
async fn aborted_requests_are_logged_whatever_the_sample() {
    let upstream = Upstream::start();
    let (larder, scratch) = with_access_log("sample: 0", &upstream);
    upstream.on("/cut", Answer::ok("0123456789").cut_after(4));
    larder.get("/a").await.assert_status(200);
    larder.get("/cut").start().await.broken_off().await;
    let held = upstream.hold("/held");
    let gone = larder.get("/held").spawn();
    held.arrived().await;
    gone.abort();
    json(&scratch, 2).await;
    let held = upstream.hold("/a");
    let mut gone = larder.raw().await;
    gone.send("GET /a?held HTTP/1.1\r\nHost: api.test\r\n\r\n").await;
    held.arrived().await;
    gone.reset();
    let lines = json(&scratch, 3).await;
    assert_eq!((&lines[2]["route"], &lines[2]["status"]), (&"things".into(), &499.into()));
    assert_eq!((&lines[0]["path"], &lines[0]["whole"]), (&"/cut".into(), &false.into()));
    assert_eq!((&lines[0]["status"], &lines[0]["bytes"]), (&200.into(), &4.into()));
    assert_eq!((&lines[1]["path"], &lines[1]["status"]), (&"/held".into(), &499.into()));
    assert_eq!(lines[1]["route"], Value::Null);
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_line_names_the_client() {
    let upstream = Upstream::start();
    let scratch = Scratch::new();
    let path = scratch.path().join("access.log");
    let yaml = format!(
        "trusted_proxies: [127.0.0.0/8]\nlog: {{access: {{format: combined, path: \"{}\"}}}}\n{ROUTES}",
        path.display()
    );
    let larder = Larder::with(&yaml, &upstream);
    larder.get("/a").header("x-forwarded-for", "192.0.2.7").over_http2().await.assert_status(200);
    let line = &lines(&scratch, 1).await[0];
    assert_eq!(line, "192.0.2.7 - - [20/Nov/2025:12:00:00 +0000] \"GET /a HTTP/2.0\" 200 9 \"-\" \"-\"");
}

#[tokio::test]
async fn a_file_that_is_rotated_is_made_anew() {
    let upstream = Upstream::start();
    let (larder, scratch) = with_access_log("format: json", &upstream);
    larder.get("/a?1").await;
    lines(&scratch, 1).await;
    let path = |name: &str| scratch.path().join(name);
    std::fs::rename(path("access.log"), path("access.log.1")).unwrap();
    larder.get("/a?2").await;
    let lines = lines(&scratch, 1).await;
    assert!(lines.len() == 1 && lines[0].contains("/a?2"), "{lines:?}");
    assert!(std::fs::read_to_string(path("access.log.1")).unwrap().contains("/a?1"));
}

/// X10. Both logs go to pipes that nobody reads; what is said is more than they hold.
#[tokio::test]
async fn pipes_that_nobody_reads_hold_up_nobody() {
    let upstream = Upstream::start();
    let [proxy, admin] = [free_port(), free_port()];
    let yaml = format!(
        "listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\nupstream: {}\n\
         log: {{level: debug, access: json}}\n{ROUTES}",
        upstream.url()
    );
    let scratch = Scratch::new();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_larder"));
    command.arg("--config").arg(scratch.file("proxy.yaml", &yaml));
    let mut larder =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("larder can be started");
    let client = Client::new(([127, 0, 0, 1], proxy).into());
    let admin = Client::new(([127, 0, 0, 1], admin).into());
    eventually("it serves", || async { client.get("/a").attempt().await.ok() }).await;
    let long = "x".repeat(2000);
    let mut connection = client.connection().await;
    let dropped = |log: &'static str| {
        let admin = admin.clone();
        async move {
            let metrics = admin.get("/metrics").await;
            let name = format!("larder_log_lines_dropped_total{{log=\"{log}\"}} ");
            metrics
                .text()
                .lines()
                .find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok())
                .unwrap_or(0.0)
        }
    };
    // More than the queues and the pipes hold.
    for _ in 0..18 {
        for number in 0..1000 {
            connection.get(&format!("/a?{number}&{long}")).await.assert_status(200);
        }
    }
    assert!(dropped("access").await > 0.0 && dropped("log").await > 0.0);
    client.request("PURGE", "/a").await.assert_status(200);
    crate::support::send_signal(larder.id(), "TERM");
    let ended = eventually("it ends", || {
        let status = larder.try_wait().expect("a child");
        async move { status }
    });
    assert!(ended.await.success());
    let mut said = String::new();
    larder.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.lines().next().unwrap().starts_with("{\"time\""));
}

#[tokio::test]
async fn a_log_that_can_not_be_written_is_named_once() {
    let upstream = Upstream::start();
    let mut larder =
        Process::with(&format!("log: {{access: {{path: /dev/full}}}}\n{ROUTES}"), &upstream).await;
    for number in 0..3 {
        larder.get(&format!("/a?{number}")).await.assert_status(200);
        let dropped = r#"larder_log_lines_dropped_total{log="access"}"#;
        eventually("it is dropped", || async {
            (larder.metric(dropped).await > f64::from(number)).then_some(())
        })
        .await;
    }
    larder.signal("TERM");
    assert!(larder.ended().await.success());
    let log = larder.log();
    assert_eq!(log.matches("access log cannot be written").count(), 1, "{log}");
    assert!(log.contains("/dev/full"), "{log}");
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_process_ends() {
    let upstream = Upstream::start();
    let mut larder = Process::with(&format!("log: {{access: combined}}\n{ROUTES}"), &upstream).await;
    larder.get("/a?last").await.assert_status(200);
    larder.signal("TERM");
    assert!(larder.ended().await.success());
    let log = larder.log();
    assert!(log.contains("\"GET /a?last HTTP/1.1\" 200 14"), "{log}");
}
