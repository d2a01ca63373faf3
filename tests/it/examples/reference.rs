//! `proxy.yaml`: the routes of the annotated reference do what is written beside them.

use super::{Case, NOTHING, SampleApi};
use crate::support::Answer;

const LIST: &str = "/api/courses";
const COURSE_7: &str = "/api/courses/7";
const COURSE_8: &str = "/api/courses/8";
const PROGRESS_OF_ANN: &str = "ann /api/users/me/progress";
const PROGRESS_OF_BEN: &str = "ben /api/users/me/progress";
const ALL: [&str; 5] = [LIST, COURSE_7, COURSE_8, PROGRESS_OF_ANN, PROGRESS_OF_BEN];
const OF_ALL_COURSES: [&str; 3] = [LIST, COURSE_7, COURSE_8];

fn reference() -> Case {
    let api = SampleApi::start()
        .answers("/api/courses", &["courses"])
        .answers("/api/courses/7", &["course 7"])
        .answers("/api/courses/8", &["course 8"])
        .answers("/api/courses/7/enroll", &["course 7"])
        .answers("/api/users/me/progress", &["progress of {user}"])
        .changes("POST /api/courses", &["courses"])
        .changes("PUT /api/courses/7", &["courses", "course 7"])
        .changes("DELETE /api/courses/7", &["courses", "course 7"])
        .changes("POST /api/courses/7/enroll", &["courses", "course 7", "progress of {user}"]);
    Case::in_place_of_port_3000("proxy.yaml", api)
}

#[tokio::test]
async fn each_answer_is_kept_for_its_own_time() {
    let case = reference();
    for (seconds, read) in [(30, LIST), (120, COURSE_7), (10, PROGRESS_OF_ANN)] {
        case.is_kept_for(seconds, read).await;
    }
}

#[tokio::test]
async fn a_course_that_is_not_there_is_remembered_for_10_seconds() {
    let case = reference();
    case.api.upstream.on("/api/courses/99", Answer::status(404));
    let asked_for_it = || case.api.upstream.count("/api/courses/99");
    case.send("/api/courses/99").await.assert_status(404).assert_stored();
    case.larder.after(9);
    case.send("/api/courses/99").await.assert_status(404).assert_hit();
    assert_eq!(asked_for_it(), 1);
    case.larder.after(1);
    case.send("/api/courses/99").await.assert_status(404);
    assert_eq!(asked_for_it(), 2);
}

#[tokio::test]
async fn page_and_limit_make_the_key_of_a_list() {
    let case = reference();
    assert_eq!(case.asked(&[LIST]).await, [LIST]);
    let the_same = ["ann /api/courses?page=1", "ben /api/courses?limit=20", "/api/courses?utm_source=mail"];
    assert_eq!(case.asked(&the_same).await, NOTHING);
    assert_eq!(case.asked(&["/api/courses?page=2", "/api/courses?page=2&limit=5"]).await.len(), 2);
}

#[tokio::test]
async fn writes_purge_what_is_written_beside_them() {
    let case = reference();
    case.purge_exactly(
        &ALL,
        &[
            // The tag of the list is one of the courses too.
            ("POST /api/courses", &OF_ALL_COURSES),
            ("PUT /api/courses/7", &OF_ALL_COURSES),
            ("DELETE /api/courses/7", &OF_ALL_COURSES),
            ("ann POST /api/courses/7/enroll", &[LIST, COURSE_7, COURSE_8, PROGRESS_OF_ANN]),
        ],
    )
    .await;
    // Without a ttl or tags of its own, GETs pass.
    for _ in 0..2 {
        assert_eq!(case.asked(&["/api/courses/7/enroll"]).await.len(), 1);
    }
    case.operate("DELETE /cache/tags/course:7").await;
    assert_eq!(case.asked(&ALL).await, [COURSE_7]);
}
