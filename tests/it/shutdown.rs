//! Stopping: nobody new gets in, who is in is served to the end, and then it is over.

use std::future::poll_fn;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use crate::http2;
use crate::support::{
    Answer, Client, Command, Larder, Process, Scratch, Upstream, eventually, free_port, one_crowd,
    send_signal,
};

const ROUTES: &str = "
routes:
  - {path: /a, ttl: 60s}
";

#[tokio::test]
async fn what_is_under_way_ends_well_and_idle_connections_are_closed() {
    let upstream = Upstream::start();
    let mut larder = Larder::with(ROUTES, &upstream);
    let mut idle = larder.connection().await;
    idle.get("/a").await;
    let held = upstream.hold("/slow");
    let slow = larder.get("/slow").spawn();
    let (answer, feed) = Answer::fed();
    upstream.once("/fed", answer);
    let mut streaming = larder.get("/fed").start().await;
    feed.send("one ").await;
    streaming.read_until("one ").await;
    held.arrived().await;
    larder.shut_down();
    idle.closed().await;
    eventually("nobody new gets in", || async { larder.get("/a").attempt().await.err() }).await;
    held.release();
    slow.await.unwrap().assert_text("GET /slow #1");
    feed.send("two").await;
    feed.end().await;
    streaming.whole().await.unwrap().assert_text("two");
    larder.stopped().await.unwrap();
}

/// Several times, since what is under way may be on any thread, and the admin listener is on one.
#[tokio::test]
async fn while_it_drains_it_says_that_it_is_not_ready() {
    for _ in 0..6 {
        let upstream = Upstream::start();
        let mut larder = Larder::with(ROUTES, &upstream);
        larder.admin.get("/readyz").await.assert_status(200);
        let held = upstream.hold("/slow");
        let slow = larder.get("/slow").spawn();
        held.arrived().await;
        larder.shut_down();
        eventually("it is not ready", || async {
            larder.admin.get("/readyz").attempt().await.ok().filter(|reply| reply.status == 503)
        })
        .await;
        larder.admin.get("/healthz").await.assert_status(200);
        held.release();
        slow.await.unwrap().assert_status(200);
        larder.stopped().await.unwrap();
    }
}

/// Waits until the other side takes no more requests on a connection.
async fn goes_away(sender: &h2::client::SendRequest<bytes::Bytes>) {
    eventually("GOAWAY", || {
        let mut sender = sender.clone();
        async move { poll_fn(|cx| sender.poll_ready(cx)).await.err() }
    })
    .await;
}

/// A drain precedes the end of the API beside it: larder serves on, and its clients go elsewhere.
#[tokio::test]
async fn a_drain_moves_clients_and_refuses_none() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let (mut kept, idle) = (larder.connection().await, larder.connection().await);
    let mut over_http2 = http2::connect(&larder, &Default::default()).await;
    http2::ask(&mut over_http2, "GET", "/a").await;
    assert_eq!(kept.get("/a").await.headers.get("connection"), None);
    let held = upstream.hold("/slow");
    let slow = larder.get("/slow").spawn();
    held.arrived().await;
    larder.metric_becomes("larder_connections", 4.0).await;
    let drained = larder.admin.request("POST", "/drain").await.assert_status(200).json();
    assert_eq!(drained, serde_json::json!({"status": "draining", "connections": 4}));
    for (path, status) in [("/readyz", 503), ("/healthz", 200)] {
        assert_eq!(larder.admin.get(path).await.assert_status(status).json()["status"], "draining");
    }
    assert_eq!(kept.get("/a").await.assert_status(200).headers["connection"], "close");
    kept.closed().await;
    idle.closed().await;
    goes_away(&over_http2).await;
    // Clients to whom the drain is not yet known find it as it was.
    for _ in 0..3 {
        assert_eq!(
            larder.connection().await.get("/a").await.assert_status(200).headers["connection"],
            "close"
        );
        larder.get("/a").over_http2().await.assert_status(200);
    }
    larder.metric_becomes("larder_connections", 1.0).await;
    held.release();
    slow.await.unwrap().assert_text("GET /slow #1");
    larder.metric_becomes("larder_connections", 0.0).await;
    larder.connection().await.get("/a").await.assert_status(200);
}

/// Its handshake is within the time that a drain leaves an idle connection.
#[tokio::test]
async fn an_http2_connection_to_a_draining_process_is_served() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    larder.admin.request("POST", "/drain").await.assert_status(200);
    let held = upstream.hold("/slow");
    let mut sender = http2::connect(&larder, &Default::default()).await;
    let (first, _) = sender.send_request(http2::request("GET", "/slow"), true).expect("sent");
    held.arrived().await;
    goes_away(&sender).await;
    held.release();
    assert_eq!(first.await.expect("a response").status(), 200);
    let quiet = http2::connect(&larder, &Default::default()).await;
    goes_away(&quiet).await;
    larder.metric_becomes("larder_connections", 0.0).await;
}

#[tokio::test]
async fn a_drain_with_exit_ends_the_process() {
    let upstream = Upstream::start();
    let mut larder = Process::with(ROUTES, &upstream).await;
    let admin = larder.admin.address().to_string();
    let drain = |arguments: &[&str]| Command::new(&[&["drain", "--admin", &admin], arguments].concat());
    let held = upstream.hold("/slow");
    let slow = larder.get("/slow").spawn();
    held.arrived().await;
    assert!(!drain(&["--wait", "10ms"]).output().await.status.success());
    assert!(drain(&[]).stdout().await.contains("1 client connections"));
    assert!(drain(&["--exit"]).stdout().await.contains("draining"));
    eventually("nobody new gets in", || async { larder.get("/a").attempt().await.err() }).await;
    held.release();
    slow.await.unwrap().assert_text("GET /slow #1");
    assert!(larder.ended().await.success(), "{}", larder.log());
}

#[tokio::test]
async fn who_does_not_end_within_the_bound_is_cut_off() {
    let upstream = Upstream::start();
    let mut larder = Larder::with(&format!("limits: {{drain: 200ms}}\n{ROUTES}"), &upstream);
    let held = upstream.hold("/slow");
    let slow = larder.get("/slow");
    let slow = tokio::spawn(slow.attempt());
    held.arrived().await;
    larder.shut_down();
    larder.stopped().await.unwrap();
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_write_whose_client_has_gone_ends_before_larder_does() {
    let upstream = Upstream::start();
    let mut larder = Larder::with(ROUTES, &upstream);
    let held = upstream.hold("/w");
    let write = larder.request("POST", "/w").body("x").spawn();
    held.arrived().await;
    write.abort();
    larder.shut_down();
    eventually("it drains", || async { larder.get("/a").attempt().await.err() }).await;
    held.release();
    larder.stopped().await.unwrap();
    assert_eq!(upstream.count("/w"), 1);
}

#[tokio::test]
async fn sigterm_and_sigint_end_the_process_with_success() {
    for signal in ["TERM", "INT", "QUIT"] {
        let upstream = Upstream::start();
        let mut larder = Process::with(ROUTES, &upstream).await;
        // Scripts for nginx send these two to reopen logs and to upgrade.
        for (other, told) in [("USR1", "opened anew"), ("USR2", "signal ignored")] {
            larder.signal(other);
            eventually(other, || async { larder.log().contains(told).then_some(()) }).await;
        }
        let held = upstream.hold("/slow");
        let slow = larder.get("/slow").spawn();
        held.arrived().await;
        larder.signal(signal);
        eventually("nobody new gets in", || async { larder.get("/a").attempt().await.err() }).await;
        held.release();
        slow.await.unwrap().assert_text("GET /slow #1");
        assert!(larder.ended().await.success(), "{}", larder.log());
    }
}

/// The configuration is a pipe, so that the start stands still while the signals come.
#[tokio::test]
async fn a_signal_during_the_start_is_handled() {
    for (signal, ends) in [("HUP", false), ("USR1", false), ("USR2", false), ("TERM", true)] {
        let (upstream, scratch) = (Upstream::start(), Scratch::new());
        let pipe = scratch.path().join("proxy.yaml");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let [proxy, admin] = [free_port(), free_port()];
        let listeners = format!("listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}");
        let yaml = format!("upstream: {}\n{listeners}\n", upstream.url());
        let mut larder =
            Command::new(&["--config", pipe.to_str().unwrap()]).into_inner().spawn().expect("larder starts");
        // Without waiting (O_NONBLOCK), it opens once larder reads.
        let mut written = eventually("larder reads", || async {
            std::fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&pipe).ok()
        })
        .await;
        send_signal(larder.id(), signal);
        // Every later reader finds a file.
        std::fs::rename(scratch.file("proxy.yaml.new", &yaml), &pipe).expect("a file in its place");
        written.write_all(yaml.as_bytes()).expect("larder reads");
        drop(written);
        let admin = Client::new(([127, 0, 0, 1], admin).into());
        if !ends {
            eventually("larder serves", || async { admin.get("/healthz").attempt().await.ok() }).await;
            send_signal(larder.id(), "TERM");
        }
        let ended = eventually("larder ends", || {
            let status = larder.try_wait().expect("a child");
            async move { status }
        });
        assert!(ended.await.success(), "{signal}");
    }
}

/// X05
#[tokio::test]
async fn ten_thousand_in_flight_are_answered_at_shutdown() {
    const CLIENTS: usize = 10_000;
    let _only = one_crowd(CLIENTS + 1000).await;
    let upstream = Upstream::start();
    // However long it takes until all have come, nothing has timed out.
    let yaml = "upstream: {url: \"${UPSTREAM}\", response_timeout: 10m}\n\
                limits: {connections: 11000, connections_per_client: off, header_timeout: 1h, drain: 10m}\n\
                routes: [{path: /a, ttl: 60s, collapse_timeout: 10m}]";
    let mut larder = Process::with(yaml, &upstream).await;
    let held = upstream.hold("/a");
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = larder.raw().await;
        client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    held.arrived().await;
    eventually("all are in", || async {
        (larder.metric("larder_followers").await >= (CLIENTS - 1) as f64).then_some(())
    })
    .await;
    larder.signal("TERM");
    eventually("nobody new gets in", || async { larder.get("/b").attempt().await.err() }).await;
    held.release();
    for mut client in clients {
        let answer = client.rest().await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with("GET /a #1"), "{answer}");
    }
    assert!(larder.ended().await.success(), "{}", larder.log());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let upstream = Upstream::start();
    let mut larder = Process::with(ROUTES, &upstream).await;
    let held = upstream.hold("/slow");
    let slow = tokio::spawn(larder.get("/slow").attempt());
    held.arrived().await;
    larder.signal("TERM");
    eventually("the first is heard", || async { larder.get("/a").attempt().await.err() }).await;
    larder.signal("TERM");
    assert_eq!(larder.ended().await.code(), Some(128 + 15));
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn whoever_reads_the_log_may_go() {
    let upstream = Upstream::start();
    let [proxy, admin] = [free_port(), free_port()];
    let yaml = format!(
        "listen: 127.0.0.1:{proxy}\nadmin: {{listen: \"127.0.0.1:{admin}\"}}\nupstream: {}\n{ROUTES}",
        upstream.url()
    );
    let scratch = Scratch::new();
    let config = scratch.file("proxy.yaml", &yaml);
    let mut larder = std::process::Command::new(env!("CARGO_BIN_EXE_larder"))
        .arg("--config")
        .arg(config)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("larder can be started");
    // Gone before the first line is read.
    drop(larder.stderr.take());
    let client = Client::new(([127, 0, 0, 1], proxy).into());
    eventually("it serves", || async { client.get("/a").attempt().await.ok() }).await;
    client.request("PURGE", "/a").await.assert_status(200);
    send_signal(larder.id(), "TERM");
    let ended = eventually("it ends", || {
        let status = larder.try_wait().expect("a child");
        async move { status }
    });
    assert!(ended.await.success());
}
