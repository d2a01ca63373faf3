//! The audit, tried on the examples: whoever forgets one of their `purges` is told so, and the right files are not blamed.
//!
//! Each file runs in front of its sample API under a load of reads and writes with a seed, every hit is audited, and the
//! clock moves with the load. `.ci/run audit` sends the right files a million requests in all.

use serde_json::{Value, json};

use super::{Case, SampleApi, analytics, catalogue, courses, productivity, request, signed_urls, text};
use crate::history::dice::Dice;
use crate::support::eventually;

/// Requests within which a missing purge has to be found.
const MAX_REQUESTS: usize = 10_000;

/// Requests to each right file, unless the environment says more.
const RIGHT_REQUESTS: usize = 1_500;

/// Most reads between two writes: fewer than the hits that wait for their audit.
const MAX_READS: usize = 12;

/// An example under a load.
pub(super) struct Load {
    pub(super) file: &'static str,
    pub(super) variable: &'static str,
    pub(super) api: fn() -> SampleApi,
    pub(super) reads: &'static [&'static str],
    /// Writes, each with its content or nothing.
    pub(super) writes: &'static [(&'static str, &'static str)],
}

pub(super) const LOADS: [Load; 5] = [
    Load {
        file: "config/analytics.yaml",
        variable: "ANALYTICS_API",
        api: || analytics::api().changes_as_told("POST /api/events", tell_event),
        reads: &[
            "ann /api/analytics/ghosts?guildId=7&since=7d",
            "ben /api/analytics/lurkers?guildId=7&since=7d",
            "ann /api/analytics/shifts?guildId=7&since=7d",
            "cleo /api/analytics/heatmap?guildId=7&since=7d",
            "ben /api/analytics/roles?guildId=7&since=7d",
            "ann /api/analytics/clients?guildId=7&since=7d",
            "ben /api/analytics/clients?guildId=7&since=7d",
            "ann /api/analytics/heatmap?guildId=8&since=7d",
            "ben /api/analytics/roles?guildId=8&since=1d",
        ],
        writes: &[
            ("ann POST /api/guilds/7/messages", ""),
            ("ben POST /api/guilds/7/roles", ""),
            ("ann POST /api/guilds/7/presence", ""),
            ("ann POST /api/guilds/7/events", ""),
            ("ann POST /api/guilds/8/messages", ""),
            ("ann POST /api/events", r#"{"guildId": 7, "touches": ["roles", "presence"]}"#),
            ("ann POST /api/events", r#"{"guildId": 8, "touches": ["messages"]}"#),
            ("ann POST /api/events", r#"{"guildId": 7}"#),
        ],
    },
    Load {
        file: "config/catalogue.yaml",
        variable: "SHOP_API",
        api: || {
            let writes = ["PUT /api/catalog/products/1", "POST /api/events/products/1"];
            writes.into_iter().fold(catalogue::api(), |api, write| api.changes_as_told(write, tell_product))
        },
        reads: &[
            "/api/catalog/products",
            "/api/catalog/products/1",
            "ben /api/catalog/products/2",
            "/api/catalog/accounts/acc_001/products?region=jp",
            "/api/catalog/accounts/acc_001/products?region=fr",
            "/api/stock/1",
            "/api/stock/2",
            "ann /api/orders",
            "ben /api/orders/6",
            "ann /api/orders/5",
        ],
        writes: &[
            ("ann POST /api/catalog/products", ""),
            ("ann PUT /api/catalog/products/1", r#"{"regions": ["fr"]}"#),
            ("ann PUT /api/catalog/products/1", r#"{"title": "x"}"#),
            ("ann DELETE /api/catalog/products/2", ""),
            ("ann POST /api/orders", ""),
            ("ben POST /api/orders", ""),
            ("ann PUT /api/orders/5", ""),
            ("ann POST /api/events/products/1", r#"{"regions": ["jp"]}"#),
        ],
    },
    Load {
        file: "config/courses.yaml",
        variable: "COURSES_API",
        api: courses::api,
        reads: &[
            "/api/courses",
            "ann /api/courses?page=2",
            "/api/courses/7",
            "/api/courses/8",
            "ann /api/users/me/progress",
            "ben /api/users/me/progress",
            "ann /api/rewards/history",
            "ben /api/rewards/history",
            "ann /api/credentials",
        ],
        writes: &[
            ("ann POST /api/courses", ""),
            ("ann PUT /api/courses/7", ""),
            ("ann POST /api/courses/7/enroll", ""),
            ("ben POST /api/courses/7/enroll", ""),
            ("ann POST /api/courses/7/modules/2/complete", ""),
            ("ann POST /api/rewards/claim", ""),
            ("ann POST /api/auth/logout", ""),
        ],
    },
    Load {
        file: "config/productivity.yaml",
        variable: "APP_API",
        api: || {
            // A profile shows the devices that are signed in.
            productivity::api()
                .answers("/api/profile", &["profile of {user}", "session of {user}"])
                .changes("POST /api/auth/logout", &["session of {user}"])
        },
        reads: &[
            "ann /api/search?q=bread",
            "ben /api/search?q=bread",
            "ben /api/search?q=butter",
            "ann /api/dashboard",
            "ben /api/dashboard",
            "ann /api/recommendations",
            "ann /api/recommendations/statistics",
            "ann /api/profile",
            "ben /api/profile",
            "/api/marketplace",
            "ann /api/marketplace/3",
            "/api/marketplace/4",
        ],
        writes: &[
            ("ann PUT /api/notes/n1", ""),
            ("ann DELETE /api/notes/n2", ""),
            ("ben PATCH /api/tasks/t8", ""),
            ("ann POST /api/notes", ""),
            ("ben POST /api/tasks", ""),
            ("ann PUT /api/profile", ""),
            ("ben POST /api/profile/password", ""),
            ("ann POST /api/marketplace", ""),
            ("ann PUT /api/marketplace/3", ""),
            ("ben POST /api/marketplace/3/ratings", ""),
            ("ann POST /api/recommendations/5/feedback", ""),
            ("ben POST /api/files/upload", ""),
            ("ann POST /api/auth/logout", ""),
        ],
    },
    Load {
        file: "config/signed-urls.yaml",
        variable: "FORUM_API",
        api: signed_urls::api,
        reads: &["ann /api/files/1/url", "ben /api/files/1/url", "ann /api/files/2/url"],
        writes: &[("ann PUT /api/files/1", ""), ("ben DELETE /api/files/1", ""), ("ann POST /api/files", "")],
    },
];

/// The purges whose absence changes no answer: what they name either only matters to a token that was revoked, or is above
/// the path of the write, and purged by default.
const INVISIBLE: [&str; 3] = [
    "config/courses.yaml:/api/auth/logout",
    "config/productivity.yaml:/api/marketplace/{id}/ratings",
    "config/productivity.yaml:/api/profile/password",
];

/// The figures of a guild that an event names, and all of them if it names none.
fn tell_event(content: &Value) -> Vec<String> {
    let guild = &content["guildId"];
    let names = |name: &str| match name {
        "messages" => format!("messages of {guild}"),
        other => format!("{other} in {guild}"),
    };
    match content["touches"].as_array() {
        Some(touched) => touched.iter().filter_map(Value::as_str).map(names).collect(),
        None => ["messages", "roles", "presence"].map(names).into(),
    }
}

/// A product and the prices of the regions that a change names.
fn tell_product(content: &Value) -> Vec<String> {
    let regions = content["regions"].as_array().into_iter().flatten().filter_map(Value::as_str);
    regions.map(|region| format!("prices in {region}")).chain(["product 1".to_owned()]).collect()
}

impl Load {
    /// Starts larder with this text, every hit audited, and no limits on a single client.
    pub(super) fn start(&self, text: &str) -> Case {
        let api = (self.api)();
        let mut text = without_limits(text).replace("rate: 20\n", "");
        match text.contains("\nbackground:\n") {
            true => text = text.replace("\nbackground:\n", "\nbackground:\n  rate: 1000000\n"),
            false => text += "\nbackground: {rate: 1000000}\n",
        }
        text += "\naudit: {sample: 100%, settle: 0s, ignore: [/query]}\n";
        let environment = [(self.variable, &*api.upstream.url()), ("SHOP_REDIS", "redis://127.0.0.1:1/0")];
        Case::with_text(&text, &environment, api)
    }

    /// Plays the load until `stops` says so of the report, or so many requests are sent. Returns their number and the report.
    pub(super) async fn play(
        &self,
        case: &Case,
        seed: u64,
        requests: usize,
        stops: impl Fn(&Value) -> bool,
    ) -> (usize, Value) {
        let mut dice = Dice::new(seed, 0);
        let mut sent = 0;
        loop {
            let report = judged(case).await;
            if sent >= requests || stops(&report) {
                return (sent, report);
            }
            case.api.upstream.forget();
            case.larder.clock.advance(dice.millis(1, 3_000));
            if dice.one_in(2) {
                let (sentence, content) = self.writes[dice.below(self.writes.len())];
                send(case, sentence, content).await;
                sent += 1;
            }
            for _ in 0..dice.below(MAX_READS) {
                send(case, self.reads[dice.below(self.reads.len())], "").await;
                sent += 1;
            }
        }
    }
}

/// The text with room for a million requests in each `limit: 10/m`.
fn without_limits(text: &str) -> String {
    let mut parts = text.split("limit: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let period = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match period.starts_with('/') {
            true => text + "limit: 1000000" + period,
            false => text + "limit: " + part,
        }
    })
}

/// The report once no hit is being audited.
async fn judged(case: &Case) -> Value {
    eventually("all hits are audited", || async {
        let report = case.larder.admin.get("/audit").await.assert_status(200).json();
        (report["pending"] == 0).then_some(report)
    })
    .await
}

pub(super) async fn send(case: &Case, sentence: &str, content: &str) {
    let mut request = request(&case.larder, sentence);
    if !content.is_empty() {
        request = request.header("content-type", "application/json").body(content.to_owned());
    }
    let reply = request.await;
    assert_eq!(reply.status, 200, "{sentence}: {reply}");
}

/// A text without one of its `purges`, and the paths of the routes that had it.
struct Mutant {
    routes: Vec<String>,
    text: String,
}

/// Each text without one of its `purges`, those of groups and of the routes in them, too.
fn without_one_purge(text: &str) -> Vec<Mutant> {
    let lines: Vec<&str> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_purge = |line: &&str| line.trim_start().starts_with("purges:") && !line.ends_with("[]");
    let places = lines.iter().enumerate().filter(|(_, line)| is_purge(line) && indent(line) >= 4);
    places
        .map(|(at, line)| {
            let depth = indent(line);
            let below = lines[at + 1..].iter().take_while(|line| indent(line) > depth).count();
            let rest = [&lines[..at], &lines[at + 1 + below..]].concat();
            // The item of `routes` that has it: a route, or a group whose routes are below it.
            let first = lines[..at].iter().rposition(|line| indent(line) < depth).expect("an item");
            let is_inside = |line: &&&str| line.is_empty() || indent(line) >= depth;
            let item = lines[first + 1..].iter().take_while(is_inside);
            let paths = lines[first..=first].iter().chain(item);
            let routes: Vec<_> = paths.filter_map(|line| line.trim().strip_prefix("- path: ")).collect();
            assert!(!routes.is_empty(), "no route of line {}", at + 1);
            Mutant { routes: routes.into_iter().map(str::to_owned).collect(), text: rest.join("\n") }
        })
        .collect()
}

/// Whether a finding lays a missing purge to a write to one of these routes.
fn names(report: &Value, routes: &[String]) -> bool {
    let paths: Vec<_> = routes.iter().flat_map(|route| alternatives(route)).collect();
    report["findings"].as_array().into_iter().flatten().any(|finding| {
        let write = finding["causes"][0]["write"].as_str().unwrap_or_default();
        let is_meant = |(_, path): (&str, &str)| paths.iter().any(|meant| meant == path);
        finding["kind"] == "purge-missing" && write.split_once(' ').is_some_and(is_meant)
    })
}

/// The paths that one with `{a|b}` or `{*rest?}` stands for.
fn alternatives(path: &str) -> Vec<String> {
    if let Some(before) = path.strip_suffix("/{*rest?}") {
        return [before.to_owned(), format!("{before}/{{*rest}}")]
            .iter()
            .flat_map(|path| alternatives(path))
            .collect();
    }
    let choice = path.split('/').find(|segment| segment.contains('|'));
    let Some(choice) = choice else { return vec![path.to_owned()] };
    choice.trim_matches(['{', '}']).split('|').map(|one| path.replace(choice, one)).collect()
}

async fn every_missing_purge_is_named(load: &Load) -> (usize, usize) {
    let (mut found, mut all) = (0, 0);
    for Mutant { routes, text } in without_one_purge(&text(load.file)) {
        let name = format!("{}:{}", load.file, routes.join(","));
        let is_visible = !INVISIBLE.contains(&name.as_str());
        let case = load.start(&text);
        let most = if is_visible { MAX_REQUESTS } else { RIGHT_REQUESTS };
        let (sent, report) = load.play(&case, 7, most, |report| names(report, &routes)).await;
        all += 1;
        let is_named = names(&report, &routes);
        found += usize::from(is_named);
        eprintln!("{name}: {} after {sent} requests", if is_named { "named" } else { "not named" });
        assert_eq!(is_named, is_visible, "{name}: {report:#}");
    }
    (found, all)
}

#[tokio::test]
#[ignore = "on a busy machine a hit can be audited after the next write, which is then named; `.ci/run audit` plays it"]
async fn every_missing_purge_of_the_examples_is_named() {
    let results = tokio::join!(
        every_missing_purge_is_named(&LOADS[0]),
        every_missing_purge_is_named(&LOADS[1]),
        every_missing_purge_is_named(&LOADS[2]),
        every_missing_purge_is_named(&LOADS[3]),
        every_missing_purge_is_named(&LOADS[4]),
    );
    let (one, two, three, four, five) = results;
    let results = [one, two, three, four, five];
    let sum = |part: fn(&(usize, usize)) -> usize| results.iter().map(part).sum::<usize>();
    let (found, all) = (sum(|(found, _)| *found), sum(|(_, all)| *all));
    eprintln!("{found} of {all} are named");
    assert!(all >= 22 && found == all - INVISIBLE.len(), "{found} of {all}");
}

#[tokio::test]
async fn the_right_examples_raise_no_false_alarm() {
    let requests = std::env::var("LARDER_AUDIT_REQUESTS").ok();
    let requests =
        requests.map_or(RIGHT_REQUESTS, |requests| requests.parse().expect("a number of requests"));
    let play = async |load: &Load| {
        let case = load.start(&text(load.file));
        let has_finding = |report: &Value| report["findings"] != json!([]);
        let (sent, report) = load.play(&case, 11, requests, has_finding).await;
        let results = report["results"].as_object().expect("counts").clone();
        eprintln!("{}: {sent} requests, {results:?}", load.file);
        assert!(!has_finding(&report), "{}: {report:#}", load.file);
        // Every hit was judged, and there were many.
        assert!(
            results.keys().all(|result| ["same", "superseded"].contains(&result.as_str())),
            "{results:?}"
        );
        assert!(results["same"].as_u64().expect("a count") as usize * 4 > sent, "{results:?}");
    };
    tokio::join!(play(&LOADS[0]), play(&LOADS[1]), play(&LOADS[2]), play(&LOADS[3]), play(&LOADS[4]));
}

#[test]
fn a_line_is_taken_away_with_what_is_below_it() {
    let text = "routes:\n  - path: /a\n    purges: [a]\n  - path: /b\n    purges:\n      - b\n      # c\n    ttl: 1s\n  - path: /c\n    purges: []\n";
    let mutants = without_one_purge(text);
    let routes: Vec<_> = mutants.iter().map(|mutant| &*mutant.routes).collect();
    assert_eq!(routes, [["/a"], ["/b"]]);
    assert_eq!(
        mutants[1].text,
        "routes:\n  - path: /a\n    purges: [a]\n  - path: /b\n    ttl: 1s\n  - path: /c\n    purges: []"
    );
}

#[test]
fn lines_of_groups_are_taken_away_too() {
    let text = "routes:\n  - path: /a\n  - name: b\n    purges: [b]\n    routes:\n      - path: /b\n      - path: /c\n        purges: [c]\n  - path: /d";
    let mutants = without_one_purge(text);
    let routes: Vec<_> = mutants.iter().map(|mutant| &*mutant.routes).collect();
    assert_eq!(routes, [&["/b", "/c"][..], &["/c"]]);
    assert_eq!(mutants[0].text, text.replace("    purges: [b]\n", ""));
    assert_eq!(mutants[1].text, text.replace("        purges: [c]\n", ""));
}
