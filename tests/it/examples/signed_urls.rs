//! `config/signed-urls.yaml`: signed URLs of files, each good for 4 hours.

use std::time::Duration;

use larder::clock::{Clock, Timestamp};

use super::{Case, NOTHING, SampleApi, bucket, send};
use crate::support::Answer;

const URL_1: &str = "ann /api/files/1/url";
const URL_2: &str = "ann /api/files/2/url";
const ALL: [&str; 2] = [URL_1, URL_2];

const HOUR: u64 = 60 * 60;

pub fn api() -> SampleApi {
    SampleApi::start()
        .members_only("/api/files/")
        .answers("/api/files/1/url", &["file 1"])
        .answers("/api/files/2/url", &["file 2"])
        .signs("/api/files/1/url")
        .signs("/api/files/2/url")
        .answers("/api/files/1", &["file 1"])
        .changes("PUT /api/files/1", &["file 1"])
        .changes("PATCH /api/files/1", &["file 1"])
        .changes("DELETE /api/files/1", &["file 1"])
        .changes("POST /api/files", &[])
}

pub fn signed_urls() -> Case {
    Case::start("config/signed-urls.yaml", "FORUM_API", api())
}

/// One environment of the forum, with an API and a larder of its own.
fn environment(namespace: &str) -> Case {
    let api = api();
    let variables = [
        ("FORUM_API", &*api.upstream.url()),
        ("LARDER_NAMESPACE", namespace),
        ("LARDER_ADMIN_TOKEN", &format!("{namespace}-token")),
    ];
    Case::with_environment("config/signed-urls.yaml", &variables, api)
}

#[tokio::test]
async fn a_url_is_kept_for_45_minutes_by_its_file_alone() {
    let case = signed_urls();
    case.is_kept_for(45 * 60, URL_1).await;
    let the_same = ["ben /api/files/1/url", "cleo /api/files/1/url?download=1"];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    assert_eq!(case.asked(&[URL_2]).await, [URL_2]);
    case.send("/api/files/1/url").await.assert_status(401).assert_detail("anonymous-caller");
}

#[tokio::test]
async fn a_url_that_is_handed_out_is_good_for_three_more_hours() {
    let case = signed_urls();
    // The storage's caching directives are about the file and do not matter here.
    for cache_control in ["max-age=14400", "max-age=60", "public, max-age=86400, immutable"] {
        case.clear().await;
        sign(&case, case.larder.clock.clone(), cache_control);
        let first = case.send(URL_1).await.assert_stored();
        case.larder.after(45 * 60 - 1);
        let second = case.send(URL_1).await.assert_hit();
        assert_eq!(first.body, second.body);
        let expires = Timestamp::from_secs(second.json()["expires_at"].as_u64().expect("a time"));
        assert!(expires.since(case.larder.clock.now()) >= Duration::from_secs(3 * HOUR), "{second}");
        case.larder.after(1);
        let third = case.send(URL_1).await.assert_fwd("uri-miss");
        assert_ne!(third.body, first.body, "{cache_control}");
    }
}

/// From now on URLs are signed for 4 hours, and answered with the storage's word on caching.
fn sign(case: &Case, clock: Clock, cache_control: &'static str) {
    case.api.upstream.on("/api/files/1/url", move |_: &_| {
        let expires = clock.now().as_secs() + 4 * HOUR;
        let url = format!("https://storage.example/1?expires={expires}&signature={:08x}", expires / 7);
        let body = serde_json::json!({"url": url, "expires_at": expires});
        Answer::ok(body.to_string())
            .header("cache-control", cache_control)
            .header("content-type", "application/json")
    });
}

#[tokio::test]
async fn a_changed_file_loses_its_url_and_a_new_file_purges_nothing() {
    let case = signed_urls();
    case.purge_exactly(
        &ALL,
        &[
            ("ann PUT /api/files/1", &[URL_1]),
            ("ann PATCH /api/files/1", &[URL_1]),
            ("ann DELETE /api/files/1", &[URL_1]),
            ("ann POST /api/files", &[]),
        ],
    )
    .await;
    // A new file counts as no invalidation.
    assert_eq!(case.bucket("file-url").await.invalidations, 3);
    // The file itself passes.
    for _ in 0..2 {
        assert_eq!(case.asked(&["ann /api/files/1"]).await.len(), 1);
    }
}

#[tokio::test]
async fn posts_end_with_the_first_of_their_urls() {
    let case = signed_urls();
    let clock = case.larder.clock.clone();
    case.api.upstream.on("/api/posts", move |_: &_| {
        let post = |id: u64, minutes: u64| {
            let end = clock.now().as_secs() + minutes * 60;
            let url = format!("https://storage.example/{id}?OSSAccessKeyId=k&Expires={end}&Signature=x");
            serde_json::json!({"file": {"id": id, "url": url}})
        };
        let posts = [post(1, 240), post(2, 20)];
        Answer::json(serde_json::json!({ "posts": posts }).to_string())
    });
    let posts = "ann /api/posts";
    case.send(posts).await.assert_stored();
    case.larder.after(5 * 60 - 1);
    case.send("ben /api/posts").await.assert_hit();
    case.larder.after(1);
    case.send(posts).await.assert_fwd("uri-miss");
    // A replaced file has another URL.
    case.send(posts).await.assert_hit();
    case.write("ann PUT /api/files/1").await;
    case.send(posts).await.assert_fwd("uri-miss");
    // A signature without a readable end.
    let unreadable = r#"{"posts": [{"url": "https://storage.example/1?Authorization=3_x"}]}"#;
    case.api.upstream.on("/api/posts", Answer::json(unreadable));
    case.write("ann PUT /api/files/1").await;
    for _ in 0..2 {
        assert!(!case.send(posts).await.is_hit());
    }
}

#[tokio::test]
async fn an_operator_clears_one_file_or_all_and_reads_the_statistics() {
    let case = signed_urls();
    case.asked(&ALL).await;
    for (request, expected) in [
        ("DELETE /cache/tags/file:1", &[URL_1][..]),
        ("DELETE /cache/tags/files", &ALL),
        ("DELETE /cache", &ALL),
    ] {
        case.operate(request).await;
        assert_eq!(case.asked(&ALL).await, expected, "{request}");
        assert_eq!(case.asked(&ALL).await, NOTHING, "{request}");
    }
    assert_eq!(case.bucket("file-url").await, bucket(7, 7, 3, 2700));
    let stats = case.operate("/stats").await;
    assert_eq!(stats["stats"]["hitRate"], serde_json::json!(50.0));
}

#[tokio::test]
async fn each_environment_has_its_own_urls_and_its_own_token() {
    let [production, staging] = ["forum-production", "forum-staging"].map(environment);
    assert_eq!(production.asked(&ALL).await, ALL);
    assert_eq!(staging.asked(&ALL).await, ALL);

    let staging_token = "Bearer forum-staging-token";
    let clear = |case: &Case| case.larder.admin.request("DELETE", "/cache");
    clear(&production).header("authorization", staging_token).await.assert_status(401);
    send(&staging.larder.admin, "DELETE /cache").await.assert_status(401);
    clear(&staging).header("authorization", staging_token).await.assert_status(200);
    assert_eq!(production.asked(&ALL).await, NOTHING);
    assert_eq!(staging.asked(&ALL).await, ALL);
}
