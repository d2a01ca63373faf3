//! `config/courses.yaml`: a courses API with lists for all and progress for each.

use serde_json::json;

use super::sample::issued;
use super::{Case, NOTHING, SampleApi, bucket, has_one_response, token};
use crate::support::{Answer, Received, START, eventually};

const LIST: &str = "/api/courses";
const PAGE_2: &str = "/api/courses?page=2";
const COURSE_7: &str = "/api/courses/7";
const COURSE_8: &str = "/api/courses/8";
const PROGRESS_OF_ANN: &str = "ann /api/users/me/progress";
const PROGRESS_OF_BEN: &str = "ben /api/users/me/progress";
const REWARDS_OF_ANN: &str = "ann /api/rewards/history";
const REWARDS_OF_BEN: &str = "ben /api/rewards/history";
const CREDENTIALS_OF_ANN: &str = "ann /api/credentials";
const ALL: [&str; 9] = [
    LIST,
    PAGE_2,
    COURSE_7,
    COURSE_8,
    PROGRESS_OF_ANN,
    PROGRESS_OF_BEN,
    REWARDS_OF_ANN,
    REWARDS_OF_BEN,
    CREDENTIALS_OF_ANN,
];

pub fn courses() -> Case {
    Case::start("config/courses.yaml", "COURSES_API", api())
}

/// Ann is enrolled in course 7, everybody else who is known in course 8. The API tells each caller so.
fn with_enrolments() -> Case {
    let api = api()
        .has_members("/api/courses/7", |user| json!({"id": "7", "isEnrolled": user == Some("ann")}))
        .has_members("/api/courses/8", |user| json!({"id": "8", "isEnrolled": user == Some("ben")}));
    let case = Case::start("config/courses.yaml", "COURSES_API", api);
    case.api.upstream.on("/api/users/me/enrollments", |request: &Received| {
        let of_ann = request.header("authorization").as_deref() == Some(token("ann").as_str());
        let course = if of_ann { "7" } else { "8" };
        let list = json!({"enrollments": [{"courseId": course}]});
        Answer::json(list.to_string())
    });
    case
}

pub fn api() -> SampleApi {
    SampleApi::start()
        .answers("/api/courses", &["courses"])
        .lists("/api/courses", ("courses", &[("7", "course 7"), ("8", "course 8")]))
        .answers("/api/users/me/enrollments", &["enrolments of {user}"])
        .lists("/api/users/me/enrollments", ("enrollments", &[]))
        .answers("/api/courses/7", &["course 7"])
        .answers("/api/courses/8", &["course 8"])
        .has_members("/api/courses/7", |_| json!({"id": "7"}))
        .has_members("/api/courses/8", |_| json!({"id": "8"}))
        .answers("/api/courses/7/enrollment", &["enrolment in 7 of {user}"])
        .answers("/api/users/me/progress", &["progress of {user}"])
        .answers("/api/rewards/history", &["rewards of {user}"])
        .answers("/api/credentials", &["credentials of {user}"])
        .changes("POST /api/courses", &["courses"])
        .changes("PUT /api/courses/7", &["courses", "course 7"])
        .changes("DELETE /api/courses/7", &["courses", "course 7"])
        .changes(
            "POST /api/courses/7/enroll",
            &[
                "courses",
                "course 7",
                "progress of {user}",
                "enrolment in 7 of {user}",
                "enrolments of {user}",
            ],
        )
        .changes("POST /api/courses/8/enroll", &["courses", "course 8", "enrolments of {user}"])
        .changes("POST /api/auth/logout", &[])
        .changes("POST /api/courses/7/modules/2/complete", &["progress of {user}", "rewards of {user}"])
        .changes("POST /api/rewards/claim", &["progress of {user}", "rewards of {user}"])
}

#[tokio::test]
async fn each_answer_is_kept_for_its_own_time() {
    let case = courses();
    for (seconds, read) in
        [(30, LIST), (120, COURSE_7), (10, PROGRESS_OF_ANN), (30, REWARDS_OF_ANN), (60, CREDENTIALS_OF_ANN)]
    {
        case.is_kept_for(seconds, read).await;
    }
}

#[tokio::test]
async fn a_list_is_shared_by_all_who_mean_the_same_page() {
    let case = courses();
    assert_eq!(case.asked(&[LIST]).await, [LIST]);
    assert_eq!(case.api.upstream.last("/api/courses").target, "/api/courses?difficulty=all&limit=20&page=1");
    // The part of each is a response of its own.
    case.asked(&["ann /api/users/me/enrollments", "ben /api/users/me/enrollments"]).await;
    let the_same = [
        "/api/courses?page=1",
        "/api/courses?limit=20&difficulty=all",
        "/api/courses?utm_source=mail",
        "ann /api/courses",
        "ben /api/courses?page=1&limit=20",
    ];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    let others = [
        PAGE_2,
        "/api/courses?difficulty=advanced",
        "/api/courses?limit=50",
        "/api/courses?difficulty=advanced&page=2",
    ];
    assert_eq!(case.asked(&others).await, others);
    assert_eq!(case.asked(&others).await, NOTHING);
    // A course has no parameters.
    assert_eq!(case.asked(&["ann /api/courses/7", "ben /api/courses/7?utm_source=mail"]).await.len(), 1);
}

#[tokio::test]
async fn each_user_sees_its_own_enrolments_in_the_list() {
    let case = with_enrolments();
    for _ in 0..2 {
        for (read, expected) in
            [(LIST, [false, false]), ("ann /api/courses", [true, false]), ("ben /api/courses", [false, true])]
        {
            let list = case.send(read).await.assert_status(200).json();
            let enrolled =
                [0, 1].map(|at| list["courses"][at]["isEnrolled"].as_bool().expect("a truth value"));
            assert_eq!(enrolled, expected, "{read}");
        }
    }
    let count = |path| case.api.upstream.count(path);
    assert_eq!((count("/api/courses"), count("/api/users/me/enrollments")), (1, 2));
    // A new enrolment shows at once, and only the lists and the caller's part are asked for again.
    case.write("ann POST /api/courses/8/enroll").await;
    case.send("ben /api/courses").await.assert_fwd("uri-miss");
    case.send("ann /api/courses").await.assert_fwd("uri-miss");
    assert_eq!((count("/api/courses"), count("/api/users/me/enrollments")), (2, 3));
}

#[tokio::test]
async fn each_user_sees_its_own_enrolment_in_a_course() {
    let case = with_enrolments();
    for _ in 0..2 {
        for (read, expected) in [
            ("ann /api/courses/7", true),
            ("ben /api/courses/7", false),
            (COURSE_7, false),
            ("ben /api/courses/8", true),
            ("ann /api/courses/8", false),
        ] {
            let course = case.send(read).await.assert_status(200).json();
            assert_eq!(course["isEnrolled"], expected, "{read}");
        }
    }
    let count = |path| case.api.upstream.count(path);
    assert_eq!((count(COURSE_7), count(COURSE_8), count("/api/users/me/enrollments")), (1, 1, 2));
}

#[tokio::test]
async fn counts_are_old_for_a_moment_and_the_own_enrolment_never() {
    let case = Case::as_shipped("config/courses.yaml", "COURSES_API", api());
    let list = json!({"enrollments": [{"courseId": "7"}]});
    for user in ["ann", "ben"] {
        case.send(&format!("{user} {COURSE_7}")).await;
        case.write(&format!("{user} POST /api/courses/7/enroll")).await;
        case.api.upstream.on("/api/users/me/enrollments", Answer::json(list.to_string()));
        for read in [LIST, COURSE_7] {
            let reply = case.send(&format!("{user} {read}")).await.assert_status(200).json();
            let course = if read == LIST { &reply["courses"][0] } else { &reply };
            assert_eq!(course["isEnrolled"], true, "{user} {read}: {reply}");
            // The second enrolment within 30 seconds does not count yet.
            assert_eq!(reply["facts"]["course 7"], 1, "{user} {read}: {reply}");
        }
    }
    case.larder.after(29).get(COURSE_7).await.assert_hit();
    case.larder.after(1);
    eventually("the count is right", || async {
        (case.send(COURSE_7).await.json()["facts"]["course 7"] == 2).then_some(())
    })
    .await;
    assert_eq!(case.asked(&[LIST]).await, [LIST]);
}

#[tokio::test]
async fn what_belongs_to_one_user_is_told_to_nobody_else() {
    let case = courses();
    for target in ["/api/users/me/progress", "/api/rewards/history", "/api/credentials"] {
        let [ann, ben] = ["ann", "ben"].map(|user| format!("{user} {target}"));
        assert_eq!(case.asked(&[&ann, &ben]).await, [&ann, &ben]);
        assert_eq!(case.asked(&[&ann, &ben]).await, NOTHING);
        // An anonymous client gets the API's own answer each time.
        for _ in 0..2 {
            case.send(target).await.assert_status(401).assert_fwd("bypass");
        }
        assert_eq!(case.api.upstream.count(target), 4);
    }
}

#[tokio::test]
async fn a_user_has_one_response_on_all_devices() {
    let case = courses();
    for target in ["/api/users/me/progress", "/api/rewards/history", "/api/credentials"] {
        has_one_response(&case, "ann", target).await;
    }
}

#[tokio::test]
async fn nothing_of_a_user_is_served_after_logout() {
    let case = courses();
    case.purge_exactly(
        &ALL,
        &[("ann POST /api/auth/logout", &[PROGRESS_OF_ANN, REWARDS_OF_ANN, CREDENTIALS_OF_ANN])],
    )
    .await;
}

#[tokio::test]
async fn what_an_unknown_token_changes_may_be_anybodys() {
    let case = courses();
    case.api.upstream.on("/api/rewards/claim", Answer::ok(""));
    case.asked(&ALL).await;
    let claim = case.larder.request("POST", "/api/rewards/claim");
    claim.header("authorization", "Bearer opaque").await.assert_status(200);
    let expected = [PROGRESS_OF_ANN, PROGRESS_OF_BEN, REWARDS_OF_ANN, REWARDS_OF_BEN];
    assert_eq!(case.asked(&ALL).await, expected);
}

#[tokio::test]
async fn enrolment_status_is_asked_for_each_time() {
    let case = courses();
    let read = "ann /api/courses/7/enrollment";
    for _ in 0..3 {
        assert_eq!(case.asked(&[read]).await, [read]);
    }
    assert_eq!(case.bucket("enrollment").await, bucket(0, 0, 0, None));
}

#[tokio::test]
async fn a_write_purges_what_it_changes_and_nothing_else() {
    let case = courses();
    case.purge_exactly(
        &ALL,
        &[
            ("ann POST /api/courses/7/enroll", &[LIST, PAGE_2, COURSE_7, PROGRESS_OF_ANN]),
            ("ann POST /api/rewards/claim", &[PROGRESS_OF_ANN, REWARDS_OF_ANN]),
            ("ben POST /api/rewards/claim", &[PROGRESS_OF_BEN, REWARDS_OF_BEN]),
            ("ann POST /api/courses/7/modules/2/complete", &[PROGRESS_OF_ANN, REWARDS_OF_ANN]),
            ("ann POST /api/courses", &[LIST, PAGE_2]),
            ("ann PUT /api/courses/7", &[LIST, PAGE_2, COURSE_7]),
            ("ann DELETE /api/courses/7", &[LIST, PAGE_2, COURSE_7]),
        ],
    )
    .await;
    // An anonymous client cannot claim, so nothing changes.
    case.send("POST /api/rewards/claim").await.assert_status(401);
    assert_eq!(case.asked(&ALL).await, NOTHING);
}

#[tokio::test]
async fn an_operator_clears_one_user_or_one_course() {
    let case = courses();
    case.asked(&ALL).await;
    case.operate("DELETE /cache/tags/user:ann").await;
    assert_eq!(case.asked(&ALL).await, [PROGRESS_OF_ANN, REWARDS_OF_ANN, CREDENTIALS_OF_ANN]);
    case.operate("DELETE /cache/tags/credentials:ann").await;
    assert_eq!(case.asked(&ALL).await, [CREDENTIALS_OF_ANN]);
    case.operate("DELETE /cache/tags/course:8").await;
    assert_eq!(case.asked(&ALL).await, [COURSE_8]);
    case.operate("DELETE /cache/tags/courses:list").await;
    assert_eq!(case.asked(&ALL).await, [LIST, PAGE_2]);
    case.clear().await;
    assert_eq!(case.asked(&ALL).await, ALL);
}

#[tokio::test]
async fn a_hundred_concurrent_requests_for_a_cold_list_make_one_query() {
    let case = courses();
    let held = case.api.upstream.hold("/api/courses");
    let users = ["ann", "ben", "cleo"].map(token);
    let requests: Vec<_> = (0..100)
        .map(|n| case.larder.get("/api/courses").header("authorization", &users[n % 3]).spawn())
        .collect();
    case.larder.metric_becomes("larder_followers", 99.0).await;
    held.release();
    for request in requests {
        let reply = request.await.expect("no panic").assert_status(200);
        assert_eq!(reply.json()["query"], 1);
    }
    assert_eq!(case.api.upstream.count("/api/courses"), 1);
    let list = case.bucket("courses").await;
    assert_eq!(list.hits + list.misses, 100);
}

#[tokio::test]
async fn hits_and_misses_are_counted_by_namespace() {
    let case = courses();
    case.asked(&ALL).await;
    case.asked(&ALL).await;
    case.asked(&[PROGRESS_OF_ANN, PROGRESS_OF_ANN]).await;
    case.write("ann POST /api/courses/7/enroll").await;
    case.write("ann POST /api/rewards/claim").await;
    // Lists and details share a name and differ in their time.
    assert_eq!(case.bucket("courses").await, bucket(4, 4, 1, None));
    assert_eq!(case.bucket("progress").await, bucket(4, 2, 2, 10));
    assert_eq!(case.bucket("rewards").await, bucket(2, 2, 1, 30));
    assert_eq!(case.bucket("credentials").await, bucket(1, 1, 0, 60));
    assert_eq!(case.bucket("enrollment").await, bucket(0, 0, 0, None));
    let rate = case.larder.metric("cache_hit_rate{namespace=\"progress\"}").await;
    assert!((rate - 4.0 / 6.0).abs() < 1e-9, "{rate}");
}

/// The hits among the requests for a user's progress, one every 3 seconds, in percent.
async fn progress_hit_rate(devices: u64, renewed_every: u64) -> f64 {
    const REQUESTS: u64 = 400;
    let case = courses();
    for number in 0..REQUESTS {
        let (device, now) = (number % devices, START.as_secs() + 3 * number);
        let issued_at = now - 3 * number % renewed_every;
        let claims = json!({
            "sub": "ann", "iat": issued_at, "exp": issued_at + 2 * renewed_every,
            "jti": format!("{device}-{issued_at}"), "sid": device, "device_id": device,
        });
        let request = case.larder.get("/api/users/me/progress");
        request.header("authorization", &issued(&claims)).await.assert_status(200);
        case.larder.after(3);
    }
    let misses = case.api.upstream.count("/api/users/me/progress");
    (1.0 - misses as f64 / REQUESTS as f64) * 100.0
}

#[tokio::test]
async fn devices_and_renewed_tokens_cost_no_hits_of_progress() {
    let one = progress_hit_rate(1, 1_000_000).await;
    assert!(one >= 70.0, "{one}");
    for (devices, renewed_every) in [(3, 1_000_000), (1, 120), (3, 120)] {
        let rate = progress_hit_rate(devices, renewed_every).await;
        eprintln!(
            "{devices} devices, tokens renewed every {renewed_every} s: {rate} % hits; one device: {one} %"
        );
        assert!(one - rate <= 2.0, "{rate} % with {devices} devices, {one} % with one");
    }
}
