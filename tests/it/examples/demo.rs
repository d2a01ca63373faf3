//! The configuration of `larder demo`, in front of the demo's own sample API: what its tour promises.

use std::time::Duration;

use larder::cli::demo::{CONFIG, upstream};

use super::token;
use crate::support::{Larder, Reply};

/// The sample API of the demo, in no hurry to be slow, with larder in front of it.
async fn demo() -> Larder {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(upstream::serve(listener, Duration::ZERO));
    Larder::with_environment(&CONFIG.replace("127.0.0.1:3000", &address.to_string()), &[])
}

/// The API's own counter.
async fn queries(larder: &Larder) -> u64 {
    larder.get("/api/queries").await.assert_status(200).json()["queries"].as_u64().expect("a count")
}

async fn progress(larder: &Larder, user: &str) -> Reply {
    larder.get("/api/users/me/progress").header("authorization", &token(user)).await.assert_status(200)
}

#[tokio::test]
async fn a_list_misses_hits_and_misses_again_after_a_write_or_a_purge() {
    let larder = demo().await;
    let list = "/api/courses?difficulty=beginner";
    larder.get(list).await.assert_fwd("uri-miss").assert_stored();
    larder.get(list).await.assert_hit();
    let change = larder.request("PATCH", "/api/courses/1").body(r#"{"title": "Sourdough, again"}"#);
    change.await.assert_status(200);
    let after = larder.get(list).await.assert_fwd("uri-miss").assert_stored();
    assert_eq!(after.json()["courses"][0]["title"], "Sourdough, again");

    larder.get(list).await.assert_hit();
    larder.request("PURGE", "/api/courses").await.assert_status(200);
    larder.get(list).await.assert_fwd("uri-miss");
    larder.get("/api/courses/1").await.assert_stored();
    larder.request("PURGE", "/").header("cache-tag", "course:1").await.assert_status(200);
    larder.get(list).await.assert_hit();
    larder.get("/api/courses/1").await.assert_fwd("uri-miss");
    assert_eq!(queries(&larder).await, 5);
}

#[tokio::test]
async fn a_hundred_requests_at_once_for_a_cold_list_are_one_query() {
    let larder = demo().await;
    let requests: Vec<_> = (0..100).map(|_| larder.get("/api/courses?difficulty=advanced").spawn()).collect();
    for request in requests {
        request.await.expect("no panic").assert_status(200);
    }
    assert_eq!(queries(&larder).await, 1);
}

#[tokio::test]
async fn enrolling_purges_the_progress_of_who_enrols_and_nobody_elses() {
    let larder = demo().await;
    for user in ["ann", "ben"] {
        progress(&larder, user).await.assert_stored();
    }
    let enroll = larder.request("POST", "/api/courses/2/enroll").header("authorization", &token("ann"));
    enroll.await.assert_status(201);
    let after = progress(&larder, "ann").await.assert_fwd("uri-miss");
    assert_eq!(after.json()["progress"], serde_json::json!({"2": 0}));
    progress(&larder, "ben").await.assert_hit();
    assert_eq!(queries(&larder).await, 3);
}

#[tokio::test]
async fn the_documented_lifetimes_hold() {
    let larder = demo().await;
    for (seconds, path) in [(30, "/api/courses"), (120, "/api/courses/1"), (10, "/api/users/me/progress")] {
        let read = || larder.get(path).header("authorization", &token("ann"));
        read().await.assert_stored();
        larder.after(seconds - 1);
        read().await.assert_hit();
        larder.after(1);
        read().await.assert_fwd("uri-miss").assert_stored();
    }
}
