use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::dimensions::DimensionEvidence;
use super::*;
use crate::clock::Clock;

/// A sketch, and a clock that goes on by a second with each request.
struct Scene {
    sketch: Arc<TrafficSketch>,
    host: &'static str,
    now: Timestamp,
}

struct SlowRead(ReadRecorder, String);

impl SlowRead {
    fn end(mut self) {
        self.0.add(self.1.as_bytes());
        self.0.finish(true);
    }
}

impl Scene {
    fn new() -> Self {
        let now = Timestamp::from_secs(1_000_000);
        let credentials = CallerFields::recognised(Vec::new(), Vec::new());
        Self { sketch: Arc::new(TrafficSketch::new(&credentials, now)), host: "h", now }
    }

    fn read(&mut self, target: &str, fields: &[(&'static str, &str)], content: &str) {
        self.now = self.now.plus(Duration::from_secs(1));
        let headers = crate::policy::fixtures::fields(fields);
        let Some(recorder) =
            self.sketch.begin_read((self.host, &target.parse().unwrap()), &headers, self.now)
        else {
            return;
        };
        let answered = self.now.plus(Duration::from_millis(20));
        let mut recorder = recorder.with_answer(StatusCode::OK, &HeaderMap::new(), answered).unwrap();
        content.as_bytes().chunks(1 + self.now.as_secs() as usize % 9).for_each(|part| recorder.add(part));
        recorder.finish(true);
    }

    /// Its content was made at its start, and is recorded at its end.
    fn begin_slow_read(&mut self, target: &str, content: &str) -> SlowRead {
        self.now = self.now.plus(Duration::from_secs(1));
        let recorder = self
            .sketch
            .begin_read((self.host, &target.parse().unwrap()), &HeaderMap::new(), self.now)
            .unwrap();
        let answered = self.now.plus(Duration::from_millis(20));
        SlowRead(
            recorder.with_answer(StatusCode::OK, &HeaderMap::new(), answered).unwrap(),
            content.to_owned(),
        )
    }

    fn write(&mut self, method: &str, path: &str) {
        self.now = self.now.plus(Duration::from_secs(1));
        drop(self.begin_write(method, path));
    }

    /// The write ends when the recorder is dropped, at the moment that its clock shows.
    fn begin_write(&self, method: &str, path: &str) -> WriteRecorder {
        let head = http::Request::builder().method(method).uri(path).body(()).unwrap().into_parts().0;
        WriteRecorder::begin(&self.sketch, &head, &Clock::manual(self.now))
    }

    fn route(&self, path: &str) -> ObservedRoute {
        let report = self.sketch.report(self.now);
        report.routes.into_iter().find(|route| route.path == path).unwrap_or_else(|| panic!("no {path}"))
    }
}

#[test]
fn one_dimension_at_a_time_shows_whether_it_changes_the_answer() {
    let mut scene = Scene::new();
    for round in 0..5 {
        scene.read("/a?page=1&utm=x", &[], "page 1");
        scene.read(&format!("/a?page=1&utm={round}y"), &[], "page 1");
        scene.read(&format!("/a?page=2&utm={round}y"), &[], "page 2");
        scene.read("/a?page=1&utm=x", &[("accept-language", "de")], "Seite 1");
        scene.now = scene.now.plus(Duration::from_secs(60));
    }
    let route = scene.route("/a");
    let page = route.parameters["page"];
    assert!(page.different >= 5 && page.same == 0, "{route:#?}");
    assert!(route.parameters["utm"].same >= 5 && route.parameters["utm"].different == 0, "{route:#?}");
    assert!(route.fields["accept-language"].different >= 5, "{route:#?}");
    assert_eq!((route.fields["accept"], route.changed, route.reads), (DimensionEvidence::default(), 0, 20));
    assert!(route.hits[3] > route.hits[0], "{route:#?}");
}

#[test]
fn callers_are_told_apart_and_their_secrets_are_not_kept() {
    let mut scene = Scene::new();
    for caller in ["Bearer top-secret-1", "Bearer top-secret-2", "Bearer top-secret-3"] {
        let fields = [("authorization", caller)];
        scene.read("/mine", &fields, caller);
        scene.read("/ours?q=hidden-value", &fields, "the same");
    }
    assert_eq!(scene.route("/mine").caller, DimensionEvidence { same: 0, different: 3 });
    assert_eq!(scene.route("/ours").caller, DimensionEvidence { same: 3, different: 0 });
    assert_eq!(
        (scene.route("/mine").callers, scene.route("/mine").credentials),
        (3, vec!["authorization".into()])
    );
    let report = serde_json::to_string(&scene.sketch.report(scene.now)).unwrap();
    assert!(!report.contains("secret") && !report.contains("hidden"), "{report}");
}

#[test]
fn changes_are_laid_to_the_writes_between_with_counter_examples() {
    let mut scene = Scene::new();
    let mut seats = [20, 20];
    for round in 0..12 {
        for course in [7, 8] {
            scene.read(&format!("/api/courses/{course}"), &[], &seats[course - 7].to_string());
        }
        scene.read("/api/courses", &[], &format!("{seats:?}"));
        match round % 3 {
            0 => {
                seats[0] -= 1;
                scene.write("POST", "/api/courses/7/enroll");
            }
            1 => scene.write("POST", "/api/login"),
            _ => {}
        }
    }
    let links = scene.route("/api/courses").links;
    let counts = |write: &str, shares: bool| {
        let mut link = scene.route("/api/courses/{id}").links.into_iter();
        let link = link.find(|link| link.write == write && link.shared.is_some() == shares);
        link.map(|link| (link.alone_changed, link.alone_same))
    };
    let enroll = links.iter().find(|link| link.write == "POST /api/courses/{id}/enroll").unwrap();
    assert_eq!((enroll.alone_changed, enroll.alone_same), (4, 0));
    let login = links.iter().find(|link| link.write == "POST /api/login").unwrap();
    assert_eq!((login.alone_changed, login.alone_same), (0, 4));
    assert_eq!(counts("POST /api/courses/{id}/enroll", true), Some((4, 0)));
    assert_eq!(counts("POST /api/courses/{id}/enroll", false), Some((0, 4)));
    let route = scene.route("/api/courses");
    assert!(route.changed == 4 && route.changed_alone == 0 && route.quiet_millis > 0, "{route:#?}");
}

#[test]
fn memory_is_bounded_whatever_clients_send() {
    let mut scene = Scene::new();
    let long = "x".repeat(900);
    for number in 0..60_000_u32 {
        let query: String = (0..12).map(|at| format!("p{at}-{number}={number}&")).collect();
        let letter = |at: u32| char::from(b'a' + (number / 26_u32.pow(at) % 26) as u8);
        let word = format!("w{}{}{}", letter(0), letter(1), letter(2));
        scene.read(
            &format!("/{word}/{number}?{query}"),
            &[("authorization", &number.to_string())],
            "content",
        );
        if number % 10 == 0 {
            scene.read(&format!("/{long}{number}"), &[], "content");
            scene.write("POST", &format!("/{word}x/{number}/{long}"));
        }
    }
    let report = scene.sketch.report(scene.now);
    assert!(report.memory_bytes > 1 << 20 && report.memory_bytes <= 16 << 20, "{}", report.memory_bytes);
    assert_eq!(report.routes.len(), templates::MAX_TEMPLATES);
    assert!(serde_json::to_string(&report).unwrap().len() < 8 << 20);
}

#[test]
fn work_is_bounded_in_every_second() {
    let scene = Scene::new();
    let (uri, headers) = ("/a".parse().unwrap(), HeaderMap::new());
    let begin = || scene.sketch.begin_read(("h", &uri), &headers, scene.now);
    let admitted = (0..5_000).filter(|_| begin().is_some()).count();
    assert_eq!(admitted, budget::SAMPLES_PER_SECOND as usize);
    assert_eq!(scene.sketch.report(scene.now).seen, 5_000);
    // The limit on content holds for reads that are under way at the same time.
    let later = scene.now.plus(Duration::from_secs(1));
    let begin = || scene.sketch.begin_read(("h", &uri), &headers, later);
    let large = vec![0; MAX_CONTENT_BYTES];
    let contents = budget::CONTENT_BYTES_PER_SECOND / MAX_CONTENT_BYTES;
    let mut recorders: Vec<ReadRecorder> = (0..2 * contents).filter_map(|_| begin()).collect();
    assert_eq!(recorders.len(), 2 * contents);
    for recorder in &mut recorders {
        recorder.add(&large);
        recorder.finish(true);
    }
    assert!(begin().is_none());
    // Larger content is not hashed.
    let mut recorder =
        scene.sketch.begin_read(("h", &uri), &headers, later.plus(Duration::from_secs(1))).unwrap();
    recorder.add(&large);
    recorder.add(b"more");
    recorder.finish(true);
    assert_eq!(scene.sketch.report(scene.now).sampled, contents as u64);
}

#[test]
fn reads_under_way_are_bounded() {
    let mut scene = Scene::new();
    let (uri, headers) = ("/a".parse().unwrap(), HeaderMap::new());
    let mut under_way = Vec::new();
    for _ in 0..2 * budget::MAX_READS_UNDER_WAY {
        scene.now = scene.now.plus(Duration::from_secs(1));
        under_way.extend(scene.sketch.begin_read(("h", &uri), &headers, scene.now));
    }
    assert_eq!(under_way.len(), budget::MAX_READS_UNDER_WAY);
    under_way.pop();
    assert!(scene.sketch.begin_read(("h", &uri), &headers, scene.now).is_some());
}

#[test]
fn nothing_is_laid_to_chance_while_a_write_is_not_remembered() {
    let too_long = format!("/{}", "x".repeat(MAX_TARGET_BYTES));
    let mut scene = Scene::new();
    scene.read("/a", &[], "1");
    drop(scene.begin_write("POST", &too_long));
    scene.read("/a", &[], "2");
    let under_way = scene.begin_write("POST", &too_long);
    scene.read("/a", &[], "3");
    scene.read("/a", &[], "4");
    drop(under_way);
    let route = scene.route("/a");
    assert_eq!((route.changed, route.changed_alone, route.links), (3, 0, Vec::new()));
    // More writes than are remembered or admitted.
    let mut scene = Scene::new();
    scene.read("/a", &[], "1");
    for _ in 0..=budget::WRITES_PER_SECOND {
        drop(scene.begin_write("POST", "/b"));
    }
    scene.read("/a", &[], "2");
    let route = scene.route("/a");
    assert_eq!((route.changed, route.changed_alone, route.links), (1, 0, Vec::new()));
}

#[test]
fn a_write_counts_before_it_has_ended_unless_it_fails() {
    let mut scene = Scene::new();
    scene.read("/a", &[], "1");
    let mut under_way = scene.begin_write("POST", "/b");
    scene.read("/a", &[], "2");
    let link = scene.route("/a").links.pop().expect("a link");
    assert_eq!((link.write.as_str(), link.alone_changed, link.alone_same), ("POST /b", 1, 0));
    under_way.set_failed();
    drop(under_way);
    scene.read("/a", &[], "3");
    let route = scene.route("/a");
    assert_eq!((route.changed, route.changed_alone, route.links), (2, 1, vec![link]));
}

#[test]
fn what_is_in_every_key_is_told_apart() {
    let mut scene = Scene::new();
    for _ in 0..4 {
        for host in ["one.example", "two.example"] {
            scene.host = host;
            scene.read("/a", &[], host);
            for version in ["1", "2"] {
                scene.read("/b", &[("x-api-version", version)], version);
            }
        }
    }
    for path in ["/a", "/b"] {
        let route = scene.route(path);
        assert_eq!((route.changed, route.fields["accept"]), (0, DimensionEvidence::default()), "{route:#?}");
        assert!(route.unchanged_alone >= 6 && route.hits[3] >= 6, "{route:#?}");
    }
}

#[test]
fn hits_are_those_of_the_key_and_the_purges_that_are_proposed() {
    let mut scene = Scene::new();
    let callers = ["Bearer 1", "Bearer 2", "Bearer 3"];
    // Both contents that callers agree in come first, so that the rest is shared.
    for round in 0..30 {
        let content = if round < 15 { "one" } else { "two" };
        // A change without a write is no difference between callers.
        scene.now = scene.now.plus(Duration::from_secs(if round == 15 { 60 } else { 0 }));
        scene.read(&format!("/list?utm={round}"), &[("authorization", callers[round % 3])], content);
        scene.read("/list?utm=0", &[("authorization", callers[(round + 1) % 3])], content);
        scene.read("/list?utm=0", &[("authorization", callers[round % 3])], content);
    }
    let before = scene.route("/list");
    assert!(before.caller.makes_shared(before.callers, before.agreed_contents), "{before:#?}");
    assert!(before.parameters["utm"].is_without_effect(), "{before:#?}");
    for round in 0..20 {
        scene.read(&format!("/list?utm=new{round}"), &[("authorization", callers[round % 3])], "two");
    }
    let shared = scene.route("/list");
    assert!(shared.hits[3] - before.hits[3] >= 19, "{shared:#?}");
    // After a write that changes it, and the same without a change.
    for round in 0..10 {
        scene.write("POST", "/list");
        scene.read("/list?utm=0", &[("authorization", "Bearer 1")], &format!("{}", round / 2));
    }
    let purged = scene.route("/list");
    assert!(purged.hits[3] <= shared.hits[3] + 1, "{purged:#?}");
}

#[test]
fn a_slow_read_is_compared_over_all_of_its_time() {
    let mut scene = Scene::new();
    scene.read("/a", &[], "0");
    for round in 1..=5 {
        let slow = scene.begin_slow_read("/a", &(round - 1).to_string());
        scene.write("POST", "/a");
        scene.read("/a", &[], &round.to_string());
        scene.now = scene.now.plus(Duration::from_secs(1));
        slow.end();
        scene.read("/b?x=1", &[], "b");
        let other = scene.begin_slow_read("/b?x=2", "b");
        scene.write("POST", "/b");
        scene.read("/b?x=1", &[], "B");
        other.end();
        scene.write("POST", "/b");
    }
    let route = scene.route("/a");
    assert_eq!((route.changed_alone, route.quiet_millis / 1_000), (0, 0), "{route:#?}");
    let of_own = route.links.iter().filter(|link| link.write == "POST /a");
    let changed: u64 = of_own.map(|link| link.alone_changed + link.among_changed).sum();
    assert!(route.changed == changed && changed >= 5, "{route:#?}");
    assert_eq!(scene.route("/b").parameters["x"], DimensionEvidence::default());
}

#[test]
fn words_with_too_many_siblings_are_values() {
    let mut scene = Scene::new();
    let user = |number: usize| {
        let letter = |at: usize| char::from(b'a' + u8::try_from(at % 26).unwrap());
        format!("user{}{}", letter(number / 26), letter(number))
    };
    for number in 0..2 * paths::MAX_LITERAL_CHILDREN {
        scene.read(&format!("/api/users/{}/posts", user(number)), &[], "posts");
        scene.write("PUT", &format!("/api/users/{}", user(number)));
        scene.read("/api/courses", &[], "courses");
    }
    let report = scene.sketch.report(scene.now);
    let mut known: Vec<&str> = report.routes.iter().map(|route| route.path.as_str()).collect();
    known.sort_unstable();
    assert_eq!(known, ["/api/courses", "/api/users/{id}/posts"]);
    assert_eq!(report.writes, ["PUT /api/users/{id}"]);
    assert_eq!(scene.route("/api/courses").links.len(), 1);
    // A segment that looks like a value is one at once.
    for value in ["7", "ann@example.com", "%61nn", "aB3dE6gHiJ", "0123456789abcdef"] {
        scene.read(&format!("/v1/{value}"), &[], "one");
    }
    assert_eq!(scene.route("/v1/{id}").reads, 5);
}

#[test]
fn names_that_are_not_kept_still_tell_requests_apart() {
    let mut scene = Scene::new();
    let long = "n".repeat(MAX_NAME_BYTES);
    scene.read(&format!("/a?{long}1=1"), &[], "one");
    scene.read(&format!("/a?{long}2=1"), &[], "two");
    scene.read("/a?p%5B%5D=1", &[("x-auth-0123456789abcdef-name!", "t")], "three");
    let route = scene.route("/a");
    assert_eq!(
        (route.changed, route.parameters.into_keys().collect::<Vec<_>>()),
        (0, vec![OTHER_NAME.to_owned()])
    );
    assert_eq!(route.credentials, [OTHER_NAME]);
}
