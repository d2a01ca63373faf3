//! Writes purge the tags that their contents and answers name; without a readable value, the tags of `otherwise`.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{Answer, Larder, Received, Redis, Replica, Reply, Upstream};

const ROUTES: &str = "
routes:
  - path: /courses
    ttl: 1h
    tags: [courses]
  - path: /courses/{id}
    ttl: 1h
    tags: [\"course:{id}\", any-course]
  - path: /plain/{id}
    ttl: 1h
    tags: [\"plain:{id}\"]
  - path: /events
    max_json: 64KiB
    purges: [{tag: \"course:{request.json:/course_id}\", otherwise: [any-course]}]
  - path: /many
    purges: [\"course:{request.json:$.ids[*]}\", courses]
  - path: /form
    purges: [{tag: \"course:{request.form:course}\", otherwise: [any-course]}]
  - path: /made
    max_json: 64KiB
    purges: [{tag: \"course:{response.json:/made/id}\", otherwise: [any-course]}]
";

const READS: [&str; 5] = ["/courses", "/courses/1", "/courses/2", "/courses/3", "/plain/1"];
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

struct Api {
    upstream: Upstream,
    larder: Larder,
}

fn start() -> Api {
    let upstream = Upstream::start();
    let larder = Larder::with(ROUTES, &upstream);
    Api { upstream, larder }
}

impl Api {
    /// Which of the reads the upstream is asked for.
    async fn asked(&self) -> Vec<&'static str> {
        let mut asked = Vec::new();
        for read in READS {
            if !self.larder.get(read).await.assert_status(200).is_hit() {
                asked.push(read);
            }
        }
        asked
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<bytes::Bytes>) -> Reply {
        self.larder.request("POST", path).header("content-type", content_type).body(body).await
    }

    /// After this write, exactly these are asked for again.
    async fn purges(&self, path: &str, content_type: &str, body: impl Into<bytes::Bytes>, expected: &[&str]) {
        self.asked().await;
        let body = body.into();
        self.post(path, content_type, body.clone()).await.assert_status(200);
        let received = self.upstream.received(path);
        assert_eq!(received.last().expect("it came").body, body, "as it was sent");
        assert_eq!(self.asked().await, expected, "{path} {:?}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn the_content_of_a_write_names_what_it_changes() {
    let api = start();
    for (path, content_type, body, expected) in [
        ("/events", JSON, r#"{"course_id": 1}"#, &["/courses/1"][..]),
        ("/events", "application/vnd.x+json; charset=utf-8", r#"{"course_id": "2"}"#, &["/courses/2"]),
        ("/many", JSON, r#"{"ids": [1, "3"]}"#, &["/courses", "/courses/1", "/courses/3"]),
        ("/form", FORM, "course=1&x=2&course=3", &["/courses/1", "/courses/3"]),
        // Its URL, without being asked; with every query.
        ("/courses", JSON, r#"{"title": "new"}"#, &["/courses"]),
    ] {
        api.purges(path, content_type, body, expected).await;
    }
}

/// Responses with the tag of `otherwise`.
const ANY_COURSE: &[&str] = &["/courses/1", "/courses/2", "/courses/3"];

#[tokio::test]
async fn an_unreadable_content_purges_all_it_could_mean() {
    let api = start();
    let large = format!(r#"{{"course_id": 1, "text": "{}"}}"#, "x".repeat(64 << 10));
    for (path, content_type, body) in [
        ("/events", JSON, ""),
        ("/events", JSON, "{"),
        ("/events", JSON, "{}"),
        ("/events", JSON, r#"{"course_id": null}"#),
        ("/events", JSON, r#"{"course_id": [1]}"#),
        ("/events", JSON, r#"{"course_id": 1.5}"#),
        ("/events", JSON, r#"{"course_id": 1, "course_id": 2}"#),
        ("/events", JSON, r#"{"course_id": 1, "Course_Id": 2}"#),
        ("/events", JSON, &large),
        ("/events", "text/plain", r#"{"course_id": 1}"#),
        ("/events", "application/json; charset=utf-16", r#"{"course_id": 1}"#),
        ("/events", FORM, "course_id=1"),
        ("/form", FORM, "other=1"),
        ("/form", FORM, "course="),
        ("/form", "multipart/form-data; boundary=x", "--x--"),
    ] {
        api.purges(path, content_type, body.to_owned(), ANY_COURSE).await;
    }
    assert_eq!(api.larder.metric("larder_widened_total").await, 15.0);
    // Without `otherwise` nothing stands for the missing value but the own route, which stores nothing.
    api.purges("/many", JSON, "{}", &["/courses"]).await;
}

#[tokio::test]
async fn a_zipped_content_is_read_and_goes_on_as_it_came() {
    let api = start();
    api.asked().await;
    let mut zip = GzEncoder::new(Vec::new(), Compression::default());
    zip.write_all(br#"{"course_id": 1}"#).expect("in memory");
    let body = zip.finish().expect("in memory");
    let request = api.larder.request("POST", "/events").header("content-type", JSON);
    request.header("content-encoding", "gzip").body(body.clone()).await.assert_status(200);
    assert_eq!(api.upstream.received("/events")[0].body, body);
    assert_eq!(api.asked().await, ["/courses/1"]);
}

#[tokio::test]
async fn a_write_that_ends_unclearly_purges_by_its_content_too() {
    for end in [Answer::status(500), Answer::hang_up(), Answer::raw("garbage\r\n\r\n")] {
        let api = start();
        api.upstream.on("/events", end);
        api.asked().await;
        assert!(api.post("/events", JSON, r#"{"course_id": 1}"#).await.status >= 500);
        assert_eq!(api.asked().await, ["/courses/1"]);
    }
    let api = start();
    api.upstream.on("/events", Answer::status(422));
    api.asked().await;
    api.post("/events", JSON, r#"{"course_id": 1}"#).await.assert_status(422);
    assert!(api.asked().await.is_empty());
}

fn made(id: &str) -> Answer {
    Answer::json(format!("{{\"made\": {{\"id\": {id}}}}}"))
}

#[tokio::test]
async fn the_content_of_an_answer_names_what_the_write_has_changed() {
    let api = start();
    api.upstream.on("/made", made("2"));
    api.purges("/made", JSON, "{}", &["/courses/2"]).await;
    // In pieces, and without a length.
    api.upstream.on("/made", made("0").chunks(["{\"made\": ", "{\"id\": 3", "}}"]));
    api.purges("/made", JSON, "{}", &["/courses/3"]).await;
    let reply = api.post("/made", JSON, "{}").await;
    assert_eq!(reply.text(), r#"{"made": {"id": 3}}"#);
}

#[tokio::test]
async fn an_answer_that_can_not_be_read_goes_on_as_it_came_and_widens() {
    let large = format!("{{\"made\": {{\"id\": 2}}, \"text\": \"{}\"}}", "x".repeat(200 << 10));
    for (answer, text) in [
        (made("[2]"), r#"{"made": {"id": [2]}}"#.to_owned()),
        (Answer::ok("{}"), "{}".to_owned()),
        (made("2").body(large.clone()), large.clone()),
        (made("2").chunks([large[..100_000].to_owned(), large[100_000..].to_owned()]), large.clone()),
        (made("2").header("content-encoding", "br"), r#"{"made": {"id": 2}}"#.to_owned()),
    ] {
        let api = start();
        api.upstream.on("/made", answer);
        api.asked().await;
        let reply = api.post("/made", JSON, "{}").await.assert_status(200);
        assert!(reply.text() == text, "{} bytes", reply.body.len());
        assert_eq!(api.asked().await, ANY_COURSE);
    }
}

#[tokio::test]
async fn a_truncated_answer_is_truncated_and_widens_the_purge() {
    let api = start();
    api.upstream.on("/made", made("2").cut_after(10));
    api.asked().await;
    let request = api.larder.request("POST", "/made").header("content-type", JSON).body("{}");
    assert!(request.attempt().await.is_err());
    assert_eq!(api.asked().await, ANY_COURSE);
}

#[tokio::test]
async fn an_upload_streams_while_it_is_copied() {
    let api = start();
    api.asked().await;
    // Larger than `max_json`: its content is not read.
    api.upstream.on("/events", |request: &Received| Answer::ok(format!("{} bytes", request.body.len())));
    let body = format!("{{\"course_id\": 1{}}}", " ".repeat(5 << 20));
    let reply = api.post("/events", JSON, body.clone()).await.assert_status(200);
    assert_eq!(reply.text(), format!("{} bytes", body.len()));
    assert_eq!(api.asked().await, ANY_COURSE);
}

/// Strict, so that writes are guarded.
const STORE: &str = "max_lag: 0s, timeout: 5s";

#[tokio::test]
async fn what_a_guarded_write_may_name_is_in_doubt_until_it_is_known() {
    let redis = Redis::start().await;
    let upstream = Upstream::start();
    let one = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    let other = Replica::start(&redis, &upstream, STORE, ROUTES).await;
    for path in READS {
        one.get(path).await;
        other.has(path).await;
    }
    let held = upstream.hold("/events");
    let write =
        one.request("POST", "/events").header("content-type", JSON).body(r#"{"course_id": 1}"#).spawn();
    held.arrived().await;
    for replica in [&one, &other] {
        for path in ["/courses/1", "/courses/2"] {
            replica.get(path).await.assert_fwd("uri-miss");
        }
        replica.get("/plain/1").await.assert_hit();
    }
    held.release();
    write.await.unwrap().assert_status(200);
    // Now it is known: the others are as good as before.
    for replica in [&one, &other] {
        replica.get("/courses/2").await.assert_hit();
    }
    one.get("/courses/1").await.assert_fwd("uri-miss");
    other.has("/courses/1").await;
}
