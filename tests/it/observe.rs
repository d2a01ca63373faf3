//! `mode: observe`: everything is forwarded, and `Cache-Status` says what would have happened.

use crate::support::{Answer, Larder, Upstream};

#[tokio::test]
async fn it_says_what_would_have_happened_and_serves_nothing() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, mode: observe, tags: [a]}]", &upstream);
    let ask = async |n: u32, detail: &str| {
        let reply = larder.get("/a").await.assert_fwd("bypass").assert_text(&format!("GET /a #{n}"));
        reply.assert_not_stored(detail);
    };
    ask(1, "would-store").await;
    ask(2, "would-hit").await;
    larder.after(61);
    ask(3, "would-store").await;
    ask(4, "would-hit").await;
    larder.request("PURGE", "/any").header("cache-tag", "a").await.assert_status(200);
    ask(5, "would-store").await;
    upstream.on("/a", Answer::ok("").header("cache-control", "private"));
    larder.after(61);
    larder.get("/a").await.assert_not_stored("private");
}

#[tokio::test]
async fn nobody_waits_for_anothers_fetch() {
    let upstream = Upstream::start();
    let larder = Larder::with("routes: [{path: /a, ttl: 60s, mode: observe}]", &upstream);
    let held = upstream.hold_every("/a");
    let crowd: Vec<_> = (0..5).map(|_| larder.get("/a").spawn()).collect();
    held.arrived_times(5).await;
    held.release();
    for reply in crowd {
        reply.await.unwrap().assert_status(200);
    }
}
