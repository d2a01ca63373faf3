//! One client's requests evict no entries that others use, and make the upstream send a bounded number of bytes.

use crate::support::{Answer, Larder, Received, Upstream, eventually};

const MIB: usize = 1 << 20;

const ROUTES: &str = "
store: {memory: 16MiB}
routes:
  - {path: \"/courses/{id}\", ttl: 1h}
  - {path: \"/files/{id}\", ttl: 1h}
";

const HOT: usize = 50;

/// Asks for every hot entry once, and returns the number of misses.
async fn ask_hot(larder: &Larder) -> usize {
    let mut misses = 0;
    for id in 0..HOT {
        misses += usize::from(!larder.get(&format!("/courses/{id}")).await.is_hit());
    }
    misses
}

async fn hot_entries() -> (Upstream, Larder) {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    for _ in 0..10 {
        ask_hot(&larder).await;
    }
    assert_eq!(ask_hot(&larder).await, 0);
    (upstream, larder)
}

#[tokio::test]
async fn a_few_requests_for_large_entries_evict_no_hot_ones() {
    for (size, files, requests) in [(4 * MIB, 20, 3), (MIB, 40, 3), (200_000, 200, 2)] {
        let (upstream, larder) = hot_entries().await;
        let mut misses = 0;
        for file in 0..files {
            let path = format!("/files/{file}");
            upstream.on(&path, Answer::ok("x".repeat(size)));
            for _ in 0..requests {
                larder.get(&path).await.assert_status(200);
            }
            if file % (files / 10) == 0 {
                misses += ask_hot(&larder).await;
            }
        }
        assert_eq!(misses, 0, "{files} of {size} bytes");
        assert!(larder.metric("larder_evicted_total").await > 0.0, "the memory was full");
    }
}

#[tokio::test]
async fn a_large_entry_that_is_asked_often_is_kept_all_the_same() {
    let (upstream, larder) = hot_entries().await;
    for file in 0..20 {
        let path = format!("/files/{file}");
        upstream.on(&path, Answer::ok("x".repeat(MIB)));
        larder.get(&path).await.assert_status(200);
    }
    upstream.on("/files/popular", Answer::ok("x".repeat(4 * MIB)));
    for _ in 0..20 {
        larder.get("/files/popular").await.assert_status(200);
    }
    assert!(upstream.count("/files/popular") < 10, "{}", upstream.count("/files/popular"));
    assert_eq!(ask_hot(&larder).await, 0);
}

const PART_ROUTES: &str = "
limits: {unsent_bytes_per_client: 3MiB}
routes: [{path: \"/files/{id}\", ttl: 1h}]
";

const OVER_BUDGET: &str = r#"larder_forwarded_total{route="/files/{id}",fwd="bypass",reason="unsent-bytes"}"#;

/// Asks for 20 files of a MiB in a way that brings the client next to nothing. Returns the number that are stored then.
async fn stored_by(larder: &Larder, upstream: &Upstream, field: (&str, &str)) -> usize {
    for file in 0..20 {
        let path = format!("/files/{file}");
        upstream.on(&path, move |request: &Received| {
            match (request.header("range"), request.header("if-none-match")) {
                (Some(_), _) => Answer::status(206).header("content-range", "bytes 0-0/1048576").body("x"),
                (_, Some(_)) => Answer::status(304).header("etag", "\"v\""),
                _ => Answer::ok("x".repeat(MIB)).header("etag", "\"v\""),
            }
        });
        let reply = larder.get(&path).header(field.0, field.1).await;
        assert!(matches!(reply.status, 206 | 304), "{}", reply.status);
        assert!(reply.body.len() <= 1);
        assert_eq!(upstream.count(&path), 1);
        eventually("it is stored or was passed", || async {
            let done = larder.metric(r#"larder_fills_total{route="/files/{id}"}"#).await
                + larder.metric(OVER_BUDGET).await;
            (done > f64::from(file)).then_some(())
        })
        .await;
    }
    let mut stored = 0;
    for file in 0..20 {
        stored += usize::from(larder.get(&format!("/files/{file}")).await.is_hit());
    }
    stored
}

#[tokio::test]
async fn a_part_fills_the_store_within_its_sender_s_budget() {
    for field in [("range", "bytes=0-0"), ("if-none-match", "\"v\"")] {
        let upstream = Upstream::start();
        let larder = Larder::with(PART_ROUTES, &upstream);
        let stored = stored_by(&larder, &upstream, field).await;
        assert!((3..=4).contains(&stored), "{field:?}: {stored} of 20");
        let passed = larder.metric(OVER_BUDGET).await;
        assert_eq!(passed as usize, 20 - stored);
        let upstream = Upstream::start();
        let unbounded = PART_ROUTES.replace("3MiB", "off");
        let larder = Larder::with(&unbounded, &upstream);
        assert_eq!(stored_by(&larder, &upstream, field).await, 20);
    }
}
