//! `larder tail`: decisions as they are made, to those who ask.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::support::{Client, Command, Larder, Process, Scratch, Upstream, eventually, with_deadline};

const ROUTES: &str = "routes: [{path: /a, name: things, ttl: 60s}, {path: '/b/{id}', ttl: 60s}]";

#[tokio::test]
async fn decisions_arrive_by_filter_as_they_are_made() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let mut all = larder.admin.get("/decisions").start().await;
    let mut hits = larder.admin.get("/decisions?route=things&outcome=hit").start().await;
    for stream in [&mut all, &mut hits] {
        stream.read_until(": one event per request\n\n").await;
    }
    larder.get("/a?x=1").await.assert_stored();
    larder.get("/b/1").await.assert_stored();
    larder.get("/a?x=1").await.assert_hit();
    let hit = hits.read_until("}\n\n").await;
    assert!(
        hit.contains("\"target\":\"/a?x=1\"") && hit.contains("\"cache\":\"larder; hit; ttl=60\""),
        "{hit}"
    );
    assert!(!hit.contains("stored"), "{hit}");
    let mut seen = String::new();
    while !seen.contains("larder; hit") {
        seen += &all.read_until("}\n\n").await;
    }
    assert!(seen.contains("larder; fwd=uri-miss; ttl=60; stored") && seen.contains("/b/1"), "{seen}");
    for wrong in [
        "route=",
        "route=thing",
        "slower=fast",
        "client=me",
        "colour=red",
        "path=b",
        "outcome=foo",
        "outcome=Hit",
        "caller=accept",
    ] {
        larder.admin.get(&format!("/decisions?{wrong}")).await.assert_status(400);
    }
    larder.admin.get("/decisions?path=/a&path=/b").await.assert_status(400);
    for right in ["outcome=fwd%3Duri-miss;%20ttl%3D60", "outcome=stored", "outcome=purged:7"] {
        larder.admin.get(&format!("/decisions?{right}")).start().await.read_until("per request\n\n").await;
    }
    // A purge with a refused parameter is not run.
    larder.admin.request("DELETE", "/cache?dry_run=true&dry_run=false").await.assert_status(400);
    larder.get("/b/1").await.assert_hit();
}

#[tokio::test]
async fn tail_prints_a_line_for_each_and_ends_with_its_reader() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let admin = format!("http://{}", larder.admin.address());
    let mut command = Command::new(&["tail", "--admin", &admin, "--token", "t", "--path", "/a"]).into_inner();
    let mut tail = command.stdout(Stdio::piped()).spawn().expect("larder tail");
    let lines = BufReader::new(tail.stdout.take().expect("a pipe"));
    let first = tokio::task::spawn_blocking(move || lines.lines().next().expect("a line").expect("text"));
    // Whether it listens yet can only be seen by what it prints.
    eventually("a line", || async {
        larder.get("/b/1").await;
        larder.get("/a").await;
        first.is_finished().then_some(())
    })
    .await;
    let line = first.await.unwrap();
    assert!(line.contains("  200  ") && line.contains(" GET /a  ["), "{line}");
    assert!(line.ends_with("  things  anonymous"), "{line}");
    // Its output is closed, so the next line ends it.
    eventually("it ends", || {
        let has_ended = tail.try_wait().expect("a child").is_some();
        let next = larder.get("/a");
        async move {
            next.await;
            has_ended.then_some(())
        }
    })
    .await;
}

/// Closes the first connection of each of the two that wait for larder.
async fn fail_an_attempt_of_each(admin: &Client) {
    let listener = tokio::net::TcpListener::bind(admin.address()).await.expect("larder has left the port");
    for _ in 0..2 {
        drop(with_deadline("an attempt to connect", listener.accept()).await.expect("a connection"));
    }
}

const TOKEN: &str = "Bearer the-token-of-somebody";

#[tokio::test]
async fn callers_are_told_apart_and_never_told() {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    let follow = async |query: &str| {
        let mut stream = larder.admin.get(&format!("/decisions?{query}")).start().await;
        stream.read_until(": one event per request\n\n").await;
        stream
    };
    let mut anonymous = follow("caller=anonymous").await;
    let mut known = follow("caller=authorization").await;
    larder.get("/a").header("authorization", TOKEN).await.assert_status(200);
    larder.get("/b/1").await.assert_status(200);
    let decision = known.read_until("}\n\n").await;
    assert!(decision.contains("\"target\":\"/a\"") && !decision.contains("somebody"), "{decision}");
    assert!(anonymous.read_until("}\n\n").await.contains("\"target\":\"/b/1\""));
    let (_, data) = decision.split_once("data: ").expect("data");
    let data: serde_json::Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(data["caller"]["kind"], "authorization");
    let fingerprint = data["caller"]["fingerprint"].as_str().expect("a fingerprint").to_owned();
    let mut same = follow(&format!("caller={fingerprint}")).await;
    larder.get("/b/2").header("authorization", "Bearer another").await.assert_status(200);
    larder.get("/b/3").header("authorization", TOKEN).await.assert_status(200);
    let decision = same.read_until("}\n\n").await;
    assert!(decision.contains("\"target\":\"/b/3\""), "{decision}");
    // A credential by mistake does not come back, and a fingerprint of another process would match nothing.
    let refused =
        larder.admin.get("/decisions?caller=Bearer%20the-token-of-somebody").await.assert_status(400);
    assert!(!refused.text().contains("somebody"), "{}", refused.text());
    let other = Larder::with(ROUTES, &upstream);
    let refused = other.admin.get(&format!("/decisions?caller={fingerprint}")).await.assert_status(400);
    assert!(refused.text().contains("not of this process"), "{}", refused.text());
}

/// `larder tail`, the lines that it prints, and what it says beside them.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
}

impl Tail {
    fn start(admin: &Client, arguments: &[&str]) -> Self {
        let admin = format!("http://{}", admin.address());
        let arguments = [&["tail", "--admin", &admin, "--token", "t"], arguments].concat();
        let mut command = Command::new(&arguments).into_inner();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("larder tail");
        let lines = read_lines(child.stdout.take().expect("a pipe"));
        let said = read_lines(child.stderr.take().expect("a pipe"));
        Self { child, lines, said }
    }

    /// The next line; `request` may have to be sent again until there is one.
    async fn next(&self, request: impl AsyncFn()) -> String {
        eventually("a line", || async {
            request().await;
            self.lines.try_recv().ok()
        })
        .await
    }

    async fn says(&self, part: &str) {
        eventually(part, || async { self.said.try_recv().ok().filter(|line| line.contains(part)) }).await;
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn read_lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    let output = BufReader::new(output);
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

#[tokio::test]
async fn tail_goes_on_after_larder_was_restarted_and_says_so() {
    let upstream = Upstream::start();
    let mut first = Process::with(ROUTES, &upstream).await;
    let (admin, proxy) = (first.admin.clone(), first.address());
    let tail = Tail::start(&admin, &["--json", "--caller", "authorization"]);
    let text = Tail::start(&admin, &[]);
    let ask = async || {
        let asked = Client::new(proxy).get("/a").header("authorization", TOKEN).attempt().await;
        // There is no answer while larder restarts.
        drop(asked);
    };
    let mut lines = vec![tail.next(ask).await];
    text.next(ask).await;
    assert!(lines[0].contains("\"kind\":\"authorization\""), "{}", lines[0]);
    first.signal("TERM");
    assert!(first.ended().await.success());
    while !lines.last().is_some_and(|line| line.starts_with("{\"lost\":")) {
        lines.push(tail.next(async || ()).await);
    }
    text.says("waiting for larder to come back").await;
    fail_an_attempt_of_each(&admin).await;
    let scratch = Scratch::new();
    let yaml = format!(
        "listen: {proxy}\nadmin: {{listen: \"{}\"}}\nupstream: {}\n{ROUTES}",
        admin.address(),
        upstream.url()
    );
    let config = scratch.file("proxy.yaml", &yaml);
    let command = Command::new(&["--config", config.to_str().expect("a path")]);
    let _second = Process::spawn(command, scratch, proxy.port(), admin.address().port()).await;
    assert_eq!(tail.next(ask).await, "{\"reconnected\":true}");
    lines.push(tail.next(ask).await);
    assert!(lines.last().is_some_and(|line| line.contains("\"target\":\"/a\"")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("somebody")), "{lines:?}");
    text.says("connected again").await;
}
