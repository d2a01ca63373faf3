use super::*;
use crate::observation::DimensionEvidence;

fn link(write: &str, [alone_changed, alone_same, among_changed, among_same]: [u64; 4]) -> WriteLink {
    let write = write.to_owned();
    WriteLink { write, alone_changed, alone_same, among_changed, among_same, ..WriteLink::default() }
}

fn change(links: &[usize], times: u64) -> SharedChange {
    SharedChange { links: links.to_vec(), times }
}

/// A read of the path with a minute's hits at each lifetime, and no credentials.
fn route(path: &str, links: Vec<WriteLink>, changes: Vec<SharedChange>) -> ObservedRoute {
    let changed = links.iter().map(|link| link.alone_changed).sum::<u64>()
        + changes.iter().map(|change| change.times).sum::<u64>();
    ObservedRoute {
        path: path.to_owned(),
        reads: 100,
        millis: 2_000,
        changed,
        unchanged_alone: 50,
        quiet_millis: 600_000,
        hits: vec![50; LIFETIMES.len()],
        links,
        changes,
        ..ObservedRoute::default()
    }
}

/// The lines of the file without comments.
fn lines(routes: Vec<ObservedRoute>) -> Vec<String> {
    text(routes)
        .lines()
        .filter_map(|line| line.split('#').next())
        .map(str::trim_end)
        .map(str::to_owned)
        .collect()
}

fn text(routes: Vec<ObservedRoute>) -> String {
    let traffic =
        ObservedTraffic { seconds: 3_600, seen: 100, sampled: 100, routes, ..ObservedTraffic::default() };
    let draft = draft(&traffic, "a test", Some("http://127.0.0.1:3000")).expect("a draft");
    draft.write().unwrap_or_else(|errors| panic!("{errors}")).0
}

#[track_caller]
fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|known| known.trim_start() == line), "no {line} in {lines:#?}");
}

#[test]
fn nothing_is_turned_on() {
    let text = text(vec![route("/a", Vec::new(), Vec::new())]);
    let settings = crate::config::SettingOverrides::default();
    let config =
        crate::config::Config::parse(&text, "proxy.yaml", &|_| None, &settings).expect("a configuration");
    let is_observed = |route: &crate::policy::Route| route.mode == crate::policy::route::RouteMode::Observe;
    assert!(config.routes.iter().all(|route| is_observed(route)), "{text}");
}

#[test]
fn the_upstream_is_the_one_that_was_observed_or_a_question() {
    let text = |upstream: &[&str], named| {
        let routes = vec![route("/a", Vec::new(), Vec::new())];
        let upstream = upstream.iter().map(|url| (*url).to_owned()).collect();
        let traffic = ObservedTraffic { upstream, routes, ..ObservedTraffic::default() };
        draft(&traffic, "a test", named).expect("a draft").write().expect("a valid file").0
    };
    assert!(text(&["http://h:1"], None).contains("\nupstream: \"http://h:1\"\n"));
    assert!(text(&["http://h:1"], Some("http://h:2")).contains("\nupstream: \"http://h:2\"\n"));
    let two = text(&["http://h:1", "http://h:2"], None);
    assert!(two.contains("\nupstream: [\"http://h:1\", \"http://h:2\"]\n"), "{two}");
    assert!(!two.contains("Where is the API?"), "{two}");
    let unknown = text(&[], None);
    assert!(unknown.contains(DEFAULT_UPSTREAM) && unknown.contains("# ? Where is the API?"), "{unknown}");
}

#[test]
fn a_write_without_effect_alone_explains_only_the_rest() {
    // Another kind was always beside the changes; it was never seen alone.
    let links = vec![link("POST /inbox/read", [0, 5, 20, 0]), link("PUT /tasks/{id}", [0, 0, 9, 30])];
    let shared = route("/projects/{id}", links.clone(), vec![change(&[0, 1], 20)]);
    assert_eq!(find_causes(&shared), [false, true]);
    let alone = route("/projects/{id}", links, vec![change(&[0], 20)]);
    assert_eq!(find_causes(&alone), [true, false]);
}

#[test]
fn every_change_is_explained_by_as_few_writes_as_it_takes() {
    let links = vec![
        link("POST /b", [3, 9, 5, 5]),
        // Never alone, but nothing else explains the changes of which it is among the causes.
        link("POST /c", [0, 2, 9, 1]),
        link("POST /d", [0, 30, 9, 9]),
    ];
    let changes = vec![change(&[0, 2], 5), change(&[1, 2], 9)];
    assert_eq!(find_causes(&route("/a", links.clone(), changes.clone())), [true, true, false]);
    // Where changes come by themselves, they explain nothing.
    let restless = ObservedRoute { changed_alone: 5, ..route("/a", links, changes) };
    assert_eq!(find_causes(&restless), [true, false, false]);
}

#[test]
fn a_purge_is_as_narrow_as_its_counter_examples() {
    let shared = |read: &str| Some(SharedValue { read: read.to_owned(), write: "{id}".to_owned() });
    let enrol = "POST /courses/{id}/enroll";
    let inside = |read: &str| WriteLink { shared: shared(read), ..link(enrol, [4, 0, 0, 0]) };
    let outside = |same| link(enrol, [0, same, 0, 0]);
    let lines_of = |path: &str, links| lines(vec![route(path, links, Vec::new())]);
    let item = lines_of("/courses/{id}", vec![inside("{id}"), outside(3)]);
    has(&item, "tags: [\"courses:{id}\"]");
    has(&item, "purges: [\"courses:{id}\"]");
    has(&lines_of("/seats", vec![inside("{query.course}"), outside(3)]), "tags: [\"seats:{query.course}\"]");
    // Too few counter-examples, and one that is none.
    has(&lines_of("/courses/{id}", vec![inside("{id}"), outside(2)]), "tags: [\"courses:item\"]");
    has(
        &lines_of("/courses/{id}", vec![inside("{id}"), link(enrol, [1, 9, 0, 0])]),
        "tags: [\"courses:item\"]",
    );
    // By the subject of the writer's token, if all readers have one.
    let own = || vec![WriteLink { is_own: true, ..link(enrol, [4, 0, 0, 0]) }, outside(3)];
    let by_subject = |with_subject| {
        let credentials = vec!["authorization".to_owned()];
        lines(vec![ObservedRoute { with_subject, credentials, ..route("/progress", own(), Vec::new()) }])
    };
    has(&by_subject(100), "tags: [\"progress:{jwt.sub}\"]");
    has(&by_subject(100), "per: authorization");
    has(&by_subject(99), "tags: [progress]");
}

#[test]
fn callers_share_only_what_was_the_same_in_several_contents() {
    let same = DimensionEvidence { same: 40, different: 0 };
    let shared = ObservedRoute {
        caller: same,
        callers: 3,
        agreed_contents: 2,
        credentials: vec!["x-app-token".to_owned(), "authorization".to_owned()],
        ..route("/a", Vec::new(), Vec::new())
    };
    has(&lines(vec![shared.clone()]), "shared: true");
    for other in [
        ObservedRoute { agreed_contents: 1, ..shared.clone() },
        ObservedRoute { callers: 2, ..shared.clone() },
        ObservedRoute { caller: DimensionEvidence { different: 1, ..same }, ..shared.clone() },
    ] {
        has(&lines(vec![other]), "per: authorization");
    }
    // The file itself asks, not a comment.
    let unsure = text(vec![ObservedRoute { agreed_contents: 1, ..shared }]);
    assert!(
        unsure.contains("# ? GET /a: 3 callers got the same answer 40 times, and never another."),
        "{unsure}"
    );
    let cookies = ObservedRoute {
        caller: DimensionEvidence { different: 1, ..same },
        credentials: vec!["cookie".to_owned()],
        ..route("/a", Vec::new(), Vec::new())
    };
    let both = text(vec![route("/b", Vec::new(), Vec::new()), cookies.clone()]);
    assert!(!both.contains("path: /a") && both.contains("? GET /a: not cached"), "{both}");
    let cookies = ObservedRoute { path: "/users/me".to_owned(), ..cookies };
    let both = text(vec![route("/users/{id}", Vec::new(), Vec::new()), cookies]);
    assert!(both.contains("  - path: /users/me\n    ttl: never"), "{both}");
}

#[test]
fn parameters_are_dropped_only_with_much_evidence() {
    let parameters = |same| {
        let page = ("page".to_owned(), DimensionEvidence { same: 1, different: 30 });
        let campaign = ("utm".to_owned(), DimensionEvidence { same, different: 0 });
        [page, campaign].into_iter().collect()
    };
    let with = |same| ObservedRoute { parameters: parameters(same), ..route("/a", Vec::new(), Vec::new()) };
    has(&lines(vec![with(20)]), "query: [page]");
    assert!(!text(vec![with(19)]).contains("query:"));
}

#[test]
fn what_changes_by_itself_lives_shortly_or_is_not_cached() {
    let with = |changed_alone| ObservedRoute { changed_alone, ..route("/a", Vec::new(), Vec::new()) };
    has(&lines(vec![with(6)]), "ttl: 5s");
    let unexplained =
        ObservedRoute { changed: 4, ..route("/a", vec![link("POST /b", [0, 9, 0, 0])], Vec::new()) };
    let both = text(vec![unexplained, route("/b", Vec::new(), Vec::new())]);
    assert!(both.contains("? GET /a: not cached: it changed 4 times, and no write explains it"), "{both}");
    let both = text(vec![with(60), route("/b", Vec::new(), Vec::new())]);
    assert!(both.contains("? GET /a: not cached: it changed 60 times in 10 min without a write"), "{both}");
}

#[test]
fn what_was_never_compared_is_a_question() {
    let once = ObservedRoute { unchanged_alone: 0, ..route("/list", Vec::new(), Vec::new()) };
    let text = text(vec![once, route("/b", Vec::new(), Vec::new())]);
    assert!(!text.contains("path: /list"), "{text}");
    assert!(text.contains("? GET /list: not cached: none of its 100 reads was asked twice"), "{text}");
}

#[test]
fn what_clients_choose_stays_text() {
    let odd = ["/a/\n- path: /b", "/{*rest}", "/a/{id}x", "//", "/a#b"]
        .map(|path| route(path, Vec::new(), Vec::new()));
    let links = vec![link("POST /b\n  - path: /c", [9, 0, 0, 0])];
    let text = text(odd.into_iter().chain([route("/a", links, Vec::new())]).collect());
    assert_eq!(text.matches("\n  - path:").count(), 1, "{text}");
}
