//! The cases whose files have something asked for before clients ask: by the very files, and counted.

use std::time::Duration;

use larder::clock::{Clock, Timestamp};
use serde_json::json;

use super::{Case, bucket, courses, parsed, request, signed_urls};
use crate::support::{Answer, HOST, Reply, eventually};

const MINUTE: u64 = 60;

/// Runs the case for clients that ask for `HOST`.
fn running(file: &str, variable: &str, api: super::SampleApi) -> Case {
    let url = api.upstream.url();
    let variables = [
        (variable, &*url),
        ("LARDER_HOST", HOST),
        ("LARDER_WARM", "on"),
        ("LARDER_WARM_EVERY", "5m"),
        ("LARDER_REFRESH_AHEAD", "5m"),
    ];
    Case::with_environment(file, &variables, api)
}

impl Case {
    async fn ask(&self, sentence: &str) -> Reply {
        request(&self.larder, sentence).header("host", HOST).await
    }

    async fn is_warmed(&self, times: u64) {
        self.larder.metric_becomes("larder_warm_runs_total", times as f64).await;
    }
}

#[tokio::test]
async fn the_courses_are_warmed_on_start_and_every_5_minutes() {
    let case = running("config/courses.yaml", "COURSES_API", courses::api());
    let reads = ["/api/courses", "/api/courses?page=2", "/api/courses/7", "/api/courses/8"];
    let upstream = &case.api.upstream;
    // Two entries of `warm`: the list of details is the first page, which is fetched once for both.
    for run in 1..=3u64 {
        case.is_warmed(2 * run).await;
        let n = usize::try_from(run).expect("few");
        assert_eq!(upstream.count("/api/courses"), 2 * n, "both pages");
        assert_eq!((upstream.count("/api/courses/7"), upstream.count("/api/courses/8")), (n, n));
        for read in reads {
            let reply = case.ask(read).await.assert_hit();
            let (user, _, target) = parsed(read);
            assert_eq!(reply.json()["facts"], case.api.truth(user, target), "{read}");
        }
        // Without an announcement the change shows after five minutes.
        case.api.changed_unseen("courses");
        case.api.changed_unseen("course 8");
        case.larder.after(5 * MINUTE);
    }
    case.is_warmed(8).await;
    assert_eq!(upstream.total(), 4 * 4);
    let (hits, misses) = (3 * reads.len() as u64, 0);
    assert_eq!(case.bucket("courses").await, bucket(hits, misses, 0, None));
}

/// From now on each file's URL is signed for 4 hours, and two files are recent.
fn storage(case: &Case, clock: &Clock) {
    for path in ["/api/files/1/url", "/api/files/2/url"] {
        let clock = clock.clone();
        case.api.upstream.on(path, move |request: &crate::support::Received| {
            let expires_at = clock.now().as_secs() + 4 * 60 * MINUTE;
            let url = format!("https://storage.example/{}?signature={expires_at}", request.nth);
            Answer::json(json!({"url": url, "expires_at": expires_at}).to_string())
        });
    }
    let recent = json!({"items": [{"id": 1}, {"id": 2}]}).to_string();
    case.api.upstream.on("/api/files", Answer::json(recent));
}

const URLS: [&str; 2] = ["ann /api/files/1/url", "ben /api/files/2/url"];

fn signatures(case: &Case) -> usize {
    case.api.upstream.count("/api/files/1/url") + case.api.upstream.count("/api/files/2/url")
}

fn is_good_for_three_hours(case: &Case, reply: &Reply) {
    let expires = Timestamp::from_secs(reply.json()["expires_at"].as_u64().expect("a time"));
    let left = expires.since(case.larder.clock.now());
    assert!(left >= Duration::from_secs(3 * 60 * MINUTE), "{left:?}");
}

#[tokio::test]
async fn used_signed_urls_are_renewed_before_they_expire() {
    let api = signed_urls::api();
    let url = api.upstream.url();
    let variables = [("FORUM_API", &*url), ("LARDER_HOST", HOST), ("LARDER_REFRESH_AHEAD", "5m")];
    let case = Case::with_environment("config/signed-urls.yaml", &variables, api);
    storage(&case, &case.larder.clock);
    let mut asked = 0;
    for minute in 0..8 * 60 {
        for url in URLS {
            let before = signatures(&case);
            let reply = case.ask(url).await.assert_status(200);
            // Only the first of each file waits for the storage.
            assert_eq!(reply.is_hit(), minute > 0, "{url} after {minute} min: {reply}");
            is_good_for_three_hours(&case, &reply);
            asked += 1;
            if minute > 0 && minute % 40 == 0 {
                eventually("it is signed anew", || async { (signatures(&case) > before).then_some(()) })
                    .await;
                let is_new = |reply: Reply| (reply.remaining_ttl() > 40 * 60).then_some(());
                eventually("and stored", || async { is_new(case.ask(url).await.assert_hit()) }).await;
            }
        }
        case.larder.after(MINUTE);
    }
    // Every 40 minutes, for 8 hours.
    assert_eq!((asked, signatures(&case)), (960, 24));
    let saved = 100 - 100 * signatures(&case) / asked;
    assert!(saved >= 90, "{saved} % saved");
}

#[tokio::test]
async fn urls_of_recent_files_are_there_before_anybody_asks_and_stay() {
    let case = running("config/signed-urls.yaml", "FORUM_API", signed_urls::api());
    // The API comes up after larder: the first run found nothing, the next one finds all.
    case.is_warmed(1).await;
    storage(&case, &case.larder.clock);
    let mut runs = 1;
    for _ in 0..8 * 12 {
        case.larder.after(5 * MINUTE);
        runs += 1;
        case.is_warmed(runs).await;
        for url in URLS {
            is_good_for_three_hours(&case, &case.ask(url).await.assert_hit());
        }
    }
    assert_eq!(signatures(&case), 2 * 8 * 60 / 40);
    assert_eq!(case.bucket("file-url").await, bucket(2 * 8 * 12, 0, 0, 2700));
}

#[tokio::test]
async fn an_operator_warms_files_and_refreshes_urls_that_are_used() {
    let case = signed_urls::signed_urls();
    storage(&case, &case.larder.clock);
    let post = |endpoint: &'static str, body: serde_json::Value| {
        let request = case.larder.admin.request("POST", endpoint).body(body.to_string());
        async move { request.await.assert_status(200).json() }
    };
    let headers = json!({"Host": HOST});
    let request = json!({"route": "file-url", "values": {"id": [1, 2]}, "headers": headers});
    assert_eq!(post("/warm", request).await["fetched"], 2);
    case.ask(URLS[0]).await.assert_hit();
    case.larder.after(30 * MINUTE);
    let report = post("/refresh", json!({"expiring_within": "20m"})).await;
    assert_eq!((&report["requests"], &report["fetched"]), (&json!(1), &json!(1)), "{report}");
    assert_eq!(case.ask(URLS[0]).await.assert_hit().remaining_ttl(), 45 * 60);
    assert_eq!(case.ask(URLS[1]).await.assert_hit().remaining_ttl(), 15 * 60);
    assert_eq!(signatures(&case), 3);
}
