//! `guard: true`: a write is forwarded only once every replica will see that it is under way; so neither a crash nor the
//! loss of Redis in the middle of it leaves anything stale.

use std::sync::Arc;
use std::time::Duration;

use larder::clock::Clock;
use tokio::sync::Semaphore;

use crate::support::{
    Answer, HOST, Larder, Line, Process, Redis, Relay, Replica, Upstream, eventually, with_deadline,
};

const ROUTES: &str = "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /b, ttl: 1h, tags: [b]}, {path: /w, purges: [a], guard: true}]";

/// Strict, with a deadline that a busy machine keeps.
const STORE: &str = "max_lag: 0s, timeout: 2s";

#[tokio::test]
async fn a_guarded_write_is_not_forwarded_without_redis() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let routes = format!("{ROUTES}\ndefaults: {{guard: false}}");
    let replica = Replica::start(&redis, &upstream, STORE, &routes).await;
    redis.kill();
    replica.is_cut_off().await;
    let refused = replica.request("POST", "/w").body("new").await.assert_status(503);
    refused.assert_header("retry-after", "1").assert_header("larder-position", None);
    assert_eq!(upstream.count("/w"), 0);
    // An unguarded write is forwarded; its answer does not claim that the purge is recorded.
    replica.request("POST", "/b").await.assert_status(200).assert_header("larder-position", None);
    replica.get("/a").await.assert_status(200);
}

#[tokio::test]
async fn writes_are_guarded_by_default_where_max_lag_is_zero() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let routes = "routes: [{path: /a, ttl: 1h}, {path: /b, guard: false}]";
    let strict = Replica::start(&redis, &upstream, STORE, routes).await;
    let bounded = Replica::start(&redis, &upstream, "max_lag: 1s", routes).await;
    redis.kill();
    strict.is_cut_off().await;
    bounded.is_cut_off().await;
    strict.request("POST", "/a").await.assert_status(503);
    strict.request("POST", "/b").await.assert_status(200);
    bounded.request("POST", "/a").await.assert_status(200);
    strict.get("/a").await.assert_status(200);
}

#[tokio::test]
async fn a_guarded_write_in_progress_hides_its_targets() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let one = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    for path in ["/a", "/b"] {
        one.get(path).await;
        other.has(path).await;
    }
    let held = upstream.hold("/w");
    let write = one.request("POST", "/w").spawn();
    held.arrived().await;
    for replica in [&one, &other] {
        replica.get("/a").await.assert_fwd("uri-miss");
        replica.get("/b").await.assert_hit();
    }
    held.release();
    let position = write.await.unwrap().assert_status(200).header("larder-position");
    assert!(position.is_some());
    for replica in [&one, &other] {
        replica.get("/a").await.assert_status(200);
        replica.has("/a").await;
    }
}

#[tokio::test]
async fn a_guarded_write_that_did_not_happen_purges_nothing() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    upstream.on("/w", Answer::status(422));
    let replica = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    replica.get("/a").await.assert_text("GET /a #1");
    replica.request("POST", "/w").await.assert_status(422);
    // The mark is lifted behind the response; what was stored is removed where a reader finds it dead.
    let reply = replica.has("/a").await;
    assert!(["GET /a #1", "GET /a #2", "GET /a #3"].contains(&reply.text()), "{reply}");
    assert_eq!(
        redis.command(&["ZSCAN", "{larder}:index", "0", "MATCH", "m*", "COUNT", "10000"]).await.trim(),
        "0"
    );
}

#[tokio::test]
async fn a_kill_between_change_and_purge_leaves_nothing_stale() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let yaml = format!("store: {{redis: \"{}\", {STORE}}}\n{ROUTES}", redis.url());
    let mut killed = Process::with(&yaml, &upstream).await;
    killed.is_connected().await;
    upstream.on("/a", Answer::ok("old"));
    other.has("/a").await.assert_text("old");
    let held = upstream.hold("/w");
    let write = tokio::spawn(killed.request("POST", "/w").header("host", HOST).attempt());
    held.arrived().await;
    upstream.on("/a", Answer::ok("new"));
    killed.signal("KILL");
    killed.ended().await;
    assert!(write.await.unwrap().is_err());
    other.get("/a").await.assert_text("new");
    other.get("/b").await;
    other.has("/b").await;
}

#[tokio::test]
async fn the_embedded_store_keeps_the_mark_as_well() {
    let upstream = Upstream::start();
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    larder.get("/a").await;
    larder.get("/a").await.assert_hit();
    let held = upstream.hold("/w");
    let write = larder.request("POST", "/w").spawn();
    held.arrived().await;
    larder.get("/a").await.assert_fwd("uri-miss");
    held.release();
    write.await.unwrap().assert_status(200);
    larder.get("/a").await;
    larder.get("/a").await.assert_hit();
}

/// larder may have stood still since the mark was put: it is put again before the first byte of the write goes out.
#[tokio::test]
async fn a_short_intent_is_renewed_before_the_write_is_sent() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let line = Relay::to(redis.address()).await;
    let yaml = format!(
        "upstream: {{url: \"${{UPSTREAM}}\", connect_timeout: 1s, response_timeout: 1s}}\n\
         store: {{redis: \"{}\", max_lag: 0s, timeout: 10s}}\n{ROUTES}",
        line.url()
    );
    let replica = Replica::with(&yaml, &upstream, Clock::system());
    replica.is_connected().await;
    let purges = || replica.metric("larder_redis_commands_total{command=\"purge\",result=\"answered\"}");
    let before = purges().await;
    line.set(Line::Late(Duration::from_millis(1500)));
    let write = replica.request("POST", "/w").spawn();
    eventually("the mark came too late twice", || async { (purges().await >= before + 2.0).then_some(()) })
        .await;
    assert_eq!(upstream.count("/w"), 0);
    line.set(Line::Whole);
    write.await.unwrap().assert_status(200);
    assert_eq!(upstream.count("/w"), 1);
}

/// 202: the upstream has taken the write, and has not done it.
#[tokio::test]
async fn an_accepted_write_stays_in_doubt_for_a_while() {
    const ROUTES: &str =
        "routes: [{path: /a, ttl: 1h, tags: [a]}, {path: /w, purges: [a], accepted_settle: 20s}]";
    let upstream = Upstream::start();
    upstream.on("/w", Answer::status(202));
    upstream.on("/a", Answer::ok("old"));
    let larder = crate::support::Larder::with(ROUTES, &upstream);
    larder.request("POST", "/w").await.assert_status(202);
    for _ in 0..2 {
        larder.get("/a").await.assert_text("old").assert_fwd("uri-miss");
    }
    upstream.on("/a", Answer::ok("new"));
    larder.after(21).get("/a").await.assert_text("new");
    larder.get("/a").await.assert_text("new").assert_hit();
}

/// An upstream that tells when it has a whole content, or a part that never becomes whole, and answers when it may.
#[derive(Clone)]
struct Uploads {
    whole: Arc<Semaphore>,
    cut: Arc<Semaphore>,
    answers: Arc<Semaphore>,
}

impl Uploads {
    fn to(upstream: &Upstream, path: &str) -> Self {
        let semaphore = || Arc::new(Semaphore::new(0));
        let uploads = Self { whole: semaphore(), cut: semaphore(), answers: semaphore() };
        let of_handler = uploads.clone();
        upstream.take_over(path, move |mut wire| {
            let Uploads { whole, cut, answers } = of_handler.clone();
            async move {
                if wire.read_body().await.is_err() {
                    return cut.add_permits(1);
                }
                whole.add_permits(1);
                answers.acquire().await.expect("open").forget();
                _ = wire.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        });
        uploads
    }

    async fn arrives(of: &Semaphore) {
        with_deadline("an upload", of.acquire()).await.expect("open").forget();
    }
}

/// The upstream does not act on a part of a content, so an upload that goes on hides nothing.
#[tokio::test]
async fn the_intent_of_a_long_content_stands_before_its_end_goes_out() {
    let upstream = Upstream::start();
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", buffer_requests: 0}}\n{ROUTES}");
    let larder = Larder::with(&yaml, &upstream);
    let uploads = Uploads::to(&upstream, "/w");
    let chunked = ("Transfer-Encoding: chunked", "1\r\nx\r\n");
    for (count, ((framing, part), end)) in [
        (chunked, "0\r\n\r\n"),
        (chunked, "0\r\nX-Sum: 1\r\n\r\n"),
        (("Content-Length: 2", "x"), "x"),
        (chunked, ""),
    ]
    .into_iter()
    .enumerate()
    {
        eventually("/a is stored", || async { larder.get("/a").await.is_hit().then_some(()) }).await;
        let mut raw = larder.raw().await;
        raw.send(format!("POST /w HTTP/1.1\r\nHost: api\r\n{framing}\r\n\r\n{part}")).await;
        upstream.has_received("/w", count + 1).await;
        larder.get("/a").await.assert_hit();
        if end.is_empty() {
            drop(raw);
            Uploads::arrives(&uploads.cut).await;
            larder.get("/a").await.assert_hit();
            continue;
        }
        raw.send(end).await;
        Uploads::arrives(&uploads.whole).await;
        larder.get("/a").await.assert_fwd("uri-miss");
        uploads.answers.add_permits(1);
        assert_eq!(raw.status().await, 200);
    }
}

#[tokio::test]
async fn an_upstream_that_acts_on_parts_gets_none_before_the_intent() {
    let upstream = Upstream::start();
    let routes = ROUTES.replace("guard: true", "guard: true, unclear: [cut, partial]");
    let yaml = format!("upstream: {{url: \"${{UPSTREAM}}\", buffer_requests: 0}}\n{routes}");
    let larder = Larder::with(&yaml, &upstream);
    Uploads::to(&upstream, "/w");
    eventually("/a is stored", || async { larder.get("/a").await.is_hit().then_some(()) }).await;
    let mut raw = larder.raw().await;
    raw.send("POST /w HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    upstream.has_received("/w", 1).await;
    larder.get("/a").await.assert_fwd("uri-miss");
}

/// Such an intent stands for as long as its client sends.
#[tokio::test]
async fn beyond_its_senders_budget_an_intent_waits_for_the_end() {
    let upstream = Upstream::start();
    let routes = ROUTES.replace("guard: true", "guard: true, unclear: [cut, partial]");
    let limits = "limits: {purge_targets_per_client: 1}";
    let yaml = format!("{limits}\nupstream: {{url: \"${{UPSTREAM}}\", buffer_requests: 0}}\n{routes}");
    let larder = Larder::with(&yaml, &upstream);
    let uploads = Uploads::to(&upstream, "/w");
    eventually("/a is stored", || async { larder.get("/a").await.is_hit().then_some(()) }).await;
    let mut raw = larder.raw().await;
    raw.send("POST /w HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    upstream.has_received("/w", 1).await;
    larder.get("/a").await.assert_hit();
    larder.metric_becomes("larder_writes_over_budget_total", 1.0).await;
    raw.send("0\r\n\r\n").await;
    Uploads::arrives(&uploads.whole).await;
    larder.get("/a").await.assert_fwd("uri-miss");
    uploads.answers.add_permits(1);
    assert_eq!(raw.status().await, 200);
}

#[tokio::test]
async fn the_end_of_a_long_content_is_not_forwarded_without_redis() {
    let mut redis = Redis::start().await;
    let upstream = Upstream::start();
    let replica = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let uploads = Uploads::to(&upstream, "/w");
    redis.kill();
    replica.is_cut_off().await;
    let mut raw = replica.raw().await;
    raw.send("POST /w HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").await;
    assert_eq!(raw.status().await, 503);
    Uploads::arrives(&uploads.cut).await;
    assert_eq!(uploads.whole.available_permits(), 0);
}
