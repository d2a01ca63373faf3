//! `config/productivity.yaml`: everybody's own notes, tasks, bookmarks and files, and a marketplace for all.

use super::{Case, NOTHING, SampleApi, bucket, has_one_response, text, token};
use crate::support::{Answer, Larder, eventually};

const SEARCH_OF_ANN: &str = "ann /api/search?q=bread";
const SEARCH_OF_BEN: &str = "ben /api/search?q=bread";
const DASHBOARD_OF_ANN: &str = "ann /api/dashboard";
const DASHBOARD_OF_BEN: &str = "ben /api/dashboard";
const PROFILE_OF_ANN: &str = "ann /api/profile";
const PROFILE_OF_BEN: &str = "ben /api/profile";
const MARKETPLACE: &str = "/api/marketplace";
const ITEM_3: &str = "/api/marketplace/3";
const ITEM_4: &str = "/api/marketplace/4";
const ALL: [&str; 9] = [
    SEARCH_OF_ANN,
    SEARCH_OF_BEN,
    DASHBOARD_OF_ANN,
    DASHBOARD_OF_BEN,
    PROFILE_OF_ANN,
    PROFILE_OF_BEN,
    MARKETPLACE,
    ITEM_3,
    ITEM_4,
];

/// Ann shares her note n1 with Ben, and nothing with Cleo.
pub fn productivity() -> Case {
    Case::start("config/productivity.yaml", "APP_API", api())
}

pub fn api() -> SampleApi {
    let mut api = SampleApi::start()
        .lists("ann /api/search?q=bread", ("results", &[("n1", "note 1"), ("n2", "note 2")]))
        .lists("ben /api/search?q=bread", ("results", &[("n1", "note 1"), ("t8", "task 8")]))
        .lists("ben /api/search?q=butter", ("results", &[("t8", "task 8")]))
        .changes("PUT /api/notes/n1", &["note 1", "content of {user}"])
        .changes("POST /api/notes/n1/comments", &["note 1", "content of {user}"])
        .changes("DELETE /api/notes/n2", &["note 2", "content of {user}"])
        .changes("PATCH /api/tasks/t8", &["task 8", "content of {user}"])
        .answers("/api/search", &["content of {user}"])
        .answers("/api/search/enhanced", &["content of {user}"])
        .answers("/api/dashboard", &["content of {user}"])
        .answers("/api/analytics/dashboard", &["content of {user}"])
        .answers("/api/recommendations", &["recommendations for {user}"])
        .answers("/api/recommendations/statistics", &["recommendations for {user}"])
        .changes("POST /api/recommendations/5/feedback", &["recommendations for {user}"])
        .answers("/api/learning-paths", &["learning paths"])
        .answers("/api/learning-paths/3", &["learning paths"])
        .changes("PUT /api/learning-paths/3", &["learning paths"])
        .answers("/api/youtube/trending", &["videos"])
        .answers("/api/profile", &["profile of {user}"])
        .answers("/api/marketplace", &["marketplace"])
        .answers("/api/marketplace/3", &["item 3"])
        .answers("/api/marketplace/4", &["item 4"])
        .answers("/api/notes/1", &["content of {user}"])
        .answers("/api/auth/session", &["session of {user}"])
        .changes("PUT /api/profile", &["profile of {user}"])
        .changes("PATCH /api/profile", &["profile of {user}"])
        .changes("POST /api/profile/password", &["profile of {user}"])
        .changes("POST /api/marketplace", &["marketplace"])
        .changes("PUT /api/marketplace/3", &["marketplace", "item 3"])
        .changes("DELETE /api/marketplace/3", &["marketplace", "item 3"])
        .changes("POST /api/marketplace/3/ratings", &["marketplace", "item 3"])
        .changes("POST /api/auth/logout", &[])
        .changes("POST /api/auth/login", &[]);
    for write in CONTENT_WRITES {
        let (_, write) = write.split_once(' ').expect("a user first");
        api = api.changes(write, &["content of {user}"]);
    }
    api
}

const CONTENT_WRITES: [&str; 11] = [
    "ann POST /api/notes",
    "ann PUT /api/notes/1",
    "ann PATCH /api/notes/1/tags/2",
    "ann POST /api/tasks",
    "ann PATCH /api/tasks/1",
    "ann POST /api/bookmarks",
    "ann DELETE /api/bookmarks/1",
    "ann POST /api/files",
    "ann DELETE /api/files/1",
    "ann POST /api/files/upload",
    "ann PUT /api/goals/1",
];

const RECOMMENDED_TO_ANN: &str = "ann /api/recommendations";
const STATISTICS_OF_ANN: &str = "ann /api/recommendations/statistics";
const LEARNING_PATHS: &str = "/api/learning-paths";

#[tokio::test]
async fn each_answer_is_kept_for_its_own_time() {
    let case = productivity();
    for (minutes, read) in [
        (5, SEARCH_OF_ANN),
        (5, "ann /api/search/enhanced?q=bread"),
        (60, DASHBOARD_OF_ANN),
        (60, "ann /api/analytics/dashboard"),
        (60, RECOMMENDED_TO_ANN),
        (30, STATISTICS_OF_ANN),
        (15, PROFILE_OF_ANN),
        (10, MARKETPLACE),
        (10, ITEM_3),
        (30, LEARNING_PATHS),
        (60, "/api/youtube/trending"),
    ] {
        case.is_kept_for(minutes * 60, read).await;
    }
}

#[tokio::test]
async fn searches_differ_by_caller_and_every_parameter() {
    let case = productivity();
    let searches = [
        SEARCH_OF_ANN,
        SEARCH_OF_BEN,
        "ann /api/search?q=butter",
        "ann /api/search?q=bread&in=notes",
        "ann /api/search?q=bread&page=2",
    ];
    assert_eq!(case.asked(&searches).await, searches);
    assert_eq!(case.asked(&searches).await, NOTHING);
    // A profile has no parameters.
    assert_eq!(case.asked(&[PROFILE_OF_ANN, "ann /api/profile?_=1"]).await, [PROFILE_OF_ANN]);
    for target in ["/api/search?q=bread", "/api/dashboard", "/api/profile"] {
        case.send(target).await.assert_status(401).assert_fwd("bypass");
    }
}

#[tokio::test]
async fn the_marketplace_is_the_same_for_all() {
    let case = productivity();
    assert_eq!(case.asked(&["ann /api/marketplace", "ann /api/marketplace/3"]).await.len(), 2);
    let target = "/api/marketplace?category=all&page=1&sort=newest";
    assert_eq!(case.api.upstream.last("/api/marketplace").target, target);
    let the_same = [
        MARKETPLACE,
        "ben /api/marketplace?page=1",
        "/api/marketplace?sort=newest&category=all",
        "ben /api/marketplace/3?utm_source=mail",
    ];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    let others =
        ["/api/marketplace?category=themes", "/api/marketplace?sort=rating", "/api/marketplace?page=2"];
    assert_eq!(case.asked(&others).await, others);
}

#[tokio::test]
async fn a_content_change_purges_its_authors_pages() {
    let case = productivity();
    for write in CONTENT_WRITES {
        case.purge_exactly(&ALL, &[(write, &[SEARCH_OF_ANN, DASHBOARD_OF_ANN])]).await;
    }
    // Reading content passes.
    for _ in 0..2 {
        assert_eq!(case.asked(&["ann /api/notes/1"]).await.len(), 1);
    }
}

#[tokio::test]
async fn a_dashboard_is_served_once_more_while_it_is_renewed() {
    let case = Case::as_shipped("config/productivity.yaml", "APP_API", api());
    case.send(DASHBOARD_OF_ANN).await.assert_stored();
    case.send(SEARCH_OF_ANN).await.assert_stored();
    case.write("ann POST /api/notes").await;
    eventually("the dashboard is renewed behind", || async {
        let dashboard = case.send(DASHBOARD_OF_ANN).await;
        assert!(dashboard.is_hit(), "{dashboard}");
        (dashboard.json()["facts"]["content of ann"] == 1).then_some(())
    })
    .await;
    // A search is never old.
    assert_eq!(case.asked(&[SEARCH_OF_ANN]).await, [SEARCH_OF_ANN]);
}

#[tokio::test]
async fn a_search_is_purged_by_what_it_contains_whoever_changed_it() {
    let case = productivity();
    let butter_of_ben = "ben /api/search?q=butter";
    let by_cleo = "cleo /api/search?q=bread";
    let searches = [SEARCH_OF_ANN, SEARCH_OF_BEN, butter_of_ben, by_cleo];
    case.purge_exactly(
        &searches,
        &[
            // Ben found it too: his search is purged by what is in it, and his other one stays.
            ("ann PUT /api/notes/n1", &[SEARCH_OF_ANN, SEARCH_OF_BEN]),
            ("ann POST /api/notes/n1/comments", &[SEARCH_OF_ANN, SEARCH_OF_BEN]),
            ("ann DELETE /api/notes/n2", &[SEARCH_OF_ANN]),
            ("ben PATCH /api/tasks/t8", &[SEARCH_OF_BEN, butter_of_ben]),
        ],
    )
    .await;
    let search = case.bucket("search").await;
    assert_eq!((search.hits, search.misses), (4 * 4 + 2 + 2 + 3 + 2, 4 + 2 + 2 + 1 + 2));
    assert_eq!(case.api.upstream.count("/api/search"), 11);
    assert_eq!(case.larder.metric("larder_widened_total").await, 0.0);
}

#[tokio::test]
async fn feedback_purges_the_recommendations_of_its_user() {
    let case = productivity();
    let of_ben = "ben /api/recommendations";
    let path = "ben /api/learning-paths/3";
    case.purge_exactly(
        &[RECOMMENDED_TO_ANN, STATISTICS_OF_ANN, of_ben, LEARNING_PATHS, path],
        &[
            ("ann POST /api/recommendations/5/feedback", &[RECOMMENDED_TO_ANN, STATISTICS_OF_ANN]),
            ("ben POST /api/recommendations/5/feedback", &[of_ben]),
            ("ann PUT /api/learning-paths/3", &[LEARNING_PATHS, path]),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_search_by_post_is_kept_by_its_content_for_its_user() {
    let case = productivity();
    for path in ["/api/search/enhanced", "/api/youtube/channel"] {
        case.api.upstream.on(path, Answer::json(r#"{"results": [{"id": "n1"}]}"#));
    }
    let post = async |user: &str, path: &str, content: &str| {
        let request = case.larder.request("POST", path).header("authorization", &token(user));
        request.header("content-type", "application/json").body(content.to_owned()).await
    };
    let search = "/api/search/enhanced";
    for content in [r#"{"query": "bread"}"#, r#"{"query": "butter"}"#] {
        post("ann", search, content).await.assert_stored();
    }
    post("ann", search, r#"{ "query": "bread" }"#).await.assert_hit();
    post("ben", search, r#"{"query": "bread"}"#).await.assert_stored();
    // A result changes.
    case.write("cleo PUT /api/notes/n1").await;
    assert!(!post("ann", search, r#"{"query": "bread"}"#).await.is_hit());
    // A channel is the same for all.
    post("ann", "/api/youtube/channel", r#"{"id": "c1"}"#).await.assert_stored();
    post("ben", "/api/youtube/channel", r#"{"id": "c1"}"#).await.assert_hit();
}

#[tokio::test]
async fn a_user_uploads_ten_files_in_ten_minutes() {
    let case = productivity();
    for _ in 0..10 {
        case.write("ann POST /api/files/upload").await;
    }
    case.send("ann POST /api/files/upload").await.assert_status(429);
    case.write("ben POST /api/files/upload").await;
    case.write("ann PUT /api/notes/1").await;
}

#[tokio::test]
async fn a_change_of_profile_purges_the_profile() {
    let case = productivity();
    case.purge_exactly(
        &ALL,
        &[("ann PUT /api/profile", &[PROFILE_OF_ANN]), ("ben PATCH /api/profile", &[PROFILE_OF_BEN])],
    )
    .await;
}

#[tokio::test]
async fn a_new_password_and_a_logout_end_what_a_user_has() {
    let case = productivity();
    let all = [&ALL[..], &[RECOMMENDED_TO_ANN, STATISTICS_OF_ANN]].concat();
    let expected = &[SEARCH_OF_ANN, DASHBOARD_OF_ANN, PROFILE_OF_ANN, RECOMMENDED_TO_ANN, STATISTICS_OF_ANN];
    let writes = ["ann POST /api/profile/password", "ann POST /api/auth/logout"];
    case.purge_exactly(&all, &writes.map(|write| (write, &expected[..]))).await;
}

#[tokio::test]
async fn a_user_has_one_dashboard_on_all_devices() {
    has_one_response(&productivity(), "ann", "/api/dashboard").await;
}

#[tokio::test]
async fn a_rating_purges_the_marketplace_a_sign_in_nothing() {
    let case = productivity();
    case.purge_exactly(
        &ALL,
        &[
            ("ann POST /api/marketplace", &[MARKETPLACE]),
            ("ann PUT /api/marketplace/3", &[MARKETPLACE, ITEM_3]),
            ("ann DELETE /api/marketplace/3", &[MARKETPLACE, ITEM_3]),
            ("ben POST /api/marketplace/3/ratings", &[MARKETPLACE, ITEM_3]),
            ("POST /api/auth/login", &[]),
        ],
    )
    .await;
    case.operate("DELETE /cache/tags/item:3").await;
    assert_eq!(case.asked(&ALL).await, [ITEM_3]);
    for _ in 0..2 {
        assert_eq!(case.asked(&["ann /api/auth/session"]).await.len(), 1);
    }
}

#[tokio::test]
async fn the_statistics_tell_the_kinds_apart() {
    let case = productivity();
    case.asked(&ALL).await;
    case.asked(&ALL).await;
    for write in CONTENT_WRITES {
        case.write(write).await;
    }
    for write in
        ["ann POST /api/profile/password", "ben POST /api/marketplace/3/ratings", "POST /api/auth/login"]
    {
        case.write(write).await;
    }
    assert_eq!(case.bucket("search").await, bucket(2, 2, 12, 300));
    assert_eq!(case.bucket("dashboard").await, bucket(2, 2, 12, 3600));
    assert_eq!(case.bucket("profile").await, bucket(2, 2, 1, 900));
    assert_eq!(case.bucket("marketplace").await, bucket(3, 3, 1, 600));
    assert_eq!(case.bucket("content").await, bucket(0, 0, 0, None));
    assert_eq!(case.bucket("auth").await, bucket(0, 0, 0, None));
}

#[tokio::test]
async fn a_cookie_beside_the_token_shares_nothing_by_default() {
    let token = token("ann");
    let with_cookie = |larder: &Larder, target: &str| {
        larder.get(target).header("authorization", &token).header("cookie", "theme=dark")
    };
    let case = productivity();
    case.asked(&[DASHBOARD_OF_ANN, MARKETPLACE]).await;
    for _ in 0..2 {
        with_cookie(&case.larder, "/api/dashboard")
            .await
            .assert_fwd("request")
            .assert_not_stored("other-caller");
    }
    with_cookie(&case.larder, "/api/marketplace").await.assert_hit();

    let by_token_alone = text("config/productivity.yaml") + "\ncredentials: [Authorization]\n";
    let url = case.api.upstream.url();
    let environment = [("APP_API", &*url), ("LARDER_JWKS", &case.api.key_file())];
    let larder = Larder::with_environment(&by_token_alone, &environment);
    with_cookie(&larder, "/api/dashboard").await.assert_stored();
    with_cookie(&larder, "/api/dashboard").await.assert_hit();
}
