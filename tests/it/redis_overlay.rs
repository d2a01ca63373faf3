//! `overlay` over two replicas that share a Redis: each caller's own is merged into a list that is stored once.

use serde_json::Value;

use crate::support::{Answer, Received, Redis, Replica, Reply, Upstream, eventually};

const ROUTES: &str = "
routes:
  - path: /courses
    ttl: 1h
    tags: [courses]
    overlay:
      - {from: /me/enrollments, each: '$.enrollments[*].courseId', into: '$.courses[*]', by: id, set: {isEnrolled: true}, default: {isEnrolled: false}}
  - {path: /me/enrollments, ttl: 1h, per: authorization, tags: ['enrollments:{header.authorization}']}
  - {path: '/courses/{id}/enroll', purges: ['enrollments:{header.authorization}']}
";

const COMPRESS: &str = ", compress: {min_size: 100}";
const ENCRYPT: &str = ", encrypt: {keys: [{id: a, secret: a-secret-of-more-than-32-characters}]}";

/// An API of one hundred courses, whose callers are enrolled in the one that their credential names.
fn start_api() -> Upstream {
    let upstream = Upstream::start();
    let courses: Vec<String> =
        (0..100).map(|id| format!(r#"{{"id": {id}, "title": "Course {id}"}}"#)).collect();
    upstream.on("/courses", Answer::json(format!(r#"{{"courses": [{}]}}"#, courses.join(", "))));
    upstream.on("/me/enrollments", |request: &Received| {
        let course = request.header("authorization").expect("a caller");
        Answer::json(format!(r#"{{"enrollments": [{{"courseId": {course}}}]}}"#))
    });
    upstream
}

/// `memory: 0`: every hit comes out of Redis.
async fn start(redis: &Redis, upstream: &Upstream, memory: &str, more: &str) -> Replica {
    Replica::start(redis, upstream, &format!("memory: {memory}, max_lag: 0s, timeout: 5s{more}"), ROUTES)
        .await
}

async fn courses(replica: &Replica, caller: &str) -> Reply {
    replica.get("/courses").header("authorization", caller).await.assert_status(200)
}

fn enrolled(reply: &Reply) -> Vec<i64> {
    let courses = reply.json()["courses"].as_array().unwrap_or_else(|| panic!("{reply}")).clone();
    let is_enrolled = |course: &&Value| course["isEnrolled"] == true;
    courses.iter().filter(is_enrolled).filter_map(|course| course["id"].as_i64()).collect()
}

/// Waits until the replica finds both parts for the caller.
async fn has_both(replica: &Replica, caller: &str) -> Reply {
    eventually("both parts are hits", async || {
        let reply = courses(replica, caller).await;
        reply.is_hit().then_some(reply)
    })
    .await
}

#[tokio::test]
async fn both_parts_are_shared_and_purged_by_replicas() {
    for (memory, more) in
        [("0", String::new()), ("0", format!("{COMPRESS}{ENCRYPT}")), ("8MiB", String::new())]
    {
        let (redis, upstream) = (Redis::start().await, start_api());
        let one = start(&redis, &upstream, memory, &more).await;
        let two = start(&redis, &upstream, memory, &more).await;
        assert_eq!(enrolled(&courses(&one, "7").await), [7]);
        assert_eq!(enrolled(&has_both(&two, "7").await), [7]);
        // Another caller has a part of its own, of the same list.
        assert_eq!(enrolled(&courses(&two, "8").await), [8]);
        assert_eq!(enrolled(&has_both(&one, "8").await), [8]);
        let asked = || (upstream.count("/courses"), upstream.count("/me/enrollments"));
        let (lists, _) = asked();
        // A purge of the caller's part, by the other replica.
        upstream
            .on("/me/enrollments", Answer::json(r#"{"enrollments": [{"courseId": 70}, {"courseId": 71}]}"#));
        let enroll = two.request("POST", "/courses/70/enroll").header("authorization", "7").body("{}");
        enroll.await.assert_status(200);
        assert_eq!(enrolled(&courses(&two, "7").await), [70, 71]);
        assert_eq!(enrolled(&courses(&one, "7").await), [70, 71]);
        assert_eq!(enrolled(&courses(&one, "8").await.assert_hit()), [8], "nothing of others is purged");
        assert_eq!(asked().0, lists, "the list stays");
        // A purge of the shared part.
        upstream.on("/courses", Answer::json(r#"{"courses": [{"id": 8}, {"id": 71}]}"#));
        one.purge_tag("courses").await;
        assert_eq!(enrolled(&courses(&one, "8").await), [8]);
        assert_eq!(enrolled(&has_both(&two, "7").await), [71]);
        // Both replicas tag the same content alike.
        let tags = [courses(&one, "8").await, has_both(&two, "8").await].map(|reply| reply.header("etag"));
        assert!(tags[0].is_some() && tags[0] == tags[1], "{tags:?}");
    }
}

#[tokio::test]
async fn neither_part_is_readable_in_redis() {
    let (redis, upstream) = (Redis::start().await, start_api());
    let larder = start(&redis, &upstream, "0", &format!("{COMPRESS}{ENCRYPT}")).await;
    courses(&larder, "7").await;
    has_both(&larder, "7").await;
    let stored = redis.responses().await;
    assert_eq!(stored.len(), 2);
    for key in stored {
        for text in ["Course 7", "courseId"] {
            let find = "return string.find(redis.call('GET', KEYS[1]), ARGV[1], 1, true) and 1 or 0";
            assert_eq!(redis.command(&["EVAL", find, "1", &key, text]).await, "0", "{text} in {key}");
        }
    }
}
