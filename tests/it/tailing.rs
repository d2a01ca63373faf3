//! `larder tail`: decisions as they are made, to those who ask.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::support::{Command, Larder, Upstream, eventually};

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
    assert!(line.contains("  200  ") && line.contains(" GET /a  [") && line.ends_with("  things"), "{line}");
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
