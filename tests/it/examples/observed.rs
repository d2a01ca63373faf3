//! From traffic to a configuration: the examples' sample APIs are observed under their loads, and the file that
//! `larder suggest --observed` makes of it serves nothing old.

use serde_json::{Value, json};

use super::audited::{LOADS, Load, send};
use super::sample::USERS;
use super::{Case, text, token};
use crate::history::dice::Dice;
use crate::support::{Command, Scratch};

/// The time that is observed, in seconds of the harness's clock.
const OBSERVED_SECONDS: u64 = 3_600;

/// Requests that the suggested file is tried with.
const TRIED_REQUESTS: usize = 1_500;

const OBSERVING: &str = "upstream: ${API}\nroutes: [{path: \"/{*rest?}\", mode: observe, ttl: 1m}]\n";

/// Sends the reads of a load, by other users, too, and its writes, each at a moment of its own.
async fn observe(load: &Load, case: &Case) {
    let mut dice = Dice::new(3, 0);
    let (begin, mut last) = (case.larder.clock.now(), 0);
    while last < OBSERVED_SECONDS {
        case.api.upstream.forget();
        case.larder.clock.advance(dice.millis(1, 12_000));
        if dice.one_in(2) {
            let (sentence, content) = load.writes[dice.below(load.writes.len())];
            send(case, sentence, content).await;
        }
        for _ in 0..dice.below(12) {
            case.larder.clock.advance(dice.millis(1, 50));
            let read = load.reads[dice.below(load.reads.len())];
            let read = match read.split_once(' ') {
                Some((_, target)) => format!("{} {target}", USERS[dice.below(USERS.len())]),
                None if dice.one_in(2) => format!("{} {read}", USERS[dice.below(USERS.len())]),
                None => read.to_owned(),
            };
            send(case, &read, "").await;
        }
        last = case.larder.clock.now().since(begin).as_secs();
    }
}

/// Observes the load, and returns the suggested file.
async fn suggest(load: &Load) -> String {
    let api = (load.api)().unmarked();
    let case = Case::with_text(OBSERVING, &[("API", &api.upstream.url())], api);
    observe(load, &case).await;
    let report = case.larder.admin.get("/observed").await.assert_status(200);
    let (token, shown) = (token("ann"), report.text().to_owned());
    let secret = token.rsplit('.').next().expect("a signature");
    assert!(!shown.contains(secret) && !shown.contains("Bearer") && !shown.contains("ann"), "{shown}");
    let report: Value = report.json();
    assert!(report["memoryBytes"].as_u64().expect("a size") < 16 << 20, "{report}");
    assert_eq!(report["seen"], report["sampled"], "{report}");
    let admin = format!("http://{}", case.larder.admin.address());
    let command =
        ["suggest", "--observed", "--admin", &admin, "--token", "t", "--upstream", "http://127.0.0.1:3000"];
    Command::new(&command).stdout().await
}

/// The share of reads that are hits under a load, in percent; a hit that is old fails.
async fn hit_rate(load: &Load, text: &str) -> u64 {
    let case = load.start(text);
    let (_, report) = load.play(&case, 5, TRIED_REQUESTS, |report| report["findings"] != json!([])).await;
    assert_eq!(report["findings"], json!([]), "{}: {report:#}\n{text}", load.file);
    let same = report["results"]["same"].as_u64().unwrap_or_default();
    same * 100 / TRIED_REQUESTS as u64
}

async fn is_served_by_what_is_suggested(load: &Load) {
    let suggested = suggest(load).await;
    let scratch = Scratch::new();
    let file = scratch.file("proxy.yaml", &suggested);
    let file = file.to_str().expect("a path");
    Command::new(&["check", "--strict", file]).stdout().await;
    Command::new(&["lint", file]).stdout().await;
    assert!(suggested.contains("\ndefaults: {mode: observe}  #"), "nothing is turned on: {suggested}");
    let caching = suggested
        .replace("http://127.0.0.1:3000", &format!("${{{}}}", load.variable))
        .replace("defaults: {mode: observe}", "defaults: {}");
    let (by_hand, by_traffic) = (hit_rate(load, &text(load.file)).await, hit_rate(load, &caching).await);
    // `--nocapture` shows the figures.
    println!("{}: {by_hand} % hits as written by hand, {by_traffic} % as suggested", load.file);
    assert!(by_traffic * 10 >= by_hand * 9, "{by_traffic} of {by_hand} %\n{suggested}");
}

#[tokio::test]
async fn analytics_is_served_by_what_is_suggested() {
    is_served_by_what_is_suggested(&LOADS[0]).await;
}

#[tokio::test]
async fn catalogue_is_served_by_what_is_suggested() {
    is_served_by_what_is_suggested(&LOADS[1]).await;
}

#[tokio::test]
async fn courses_are_served_by_what_is_suggested() {
    is_served_by_what_is_suggested(&LOADS[2]).await;
}

#[tokio::test]
async fn productivity_is_served_by_what_is_suggested() {
    is_served_by_what_is_suggested(&LOADS[3]).await;
}

#[tokio::test]
async fn signed_urls_are_served_by_what_is_suggested() {
    is_served_by_what_is_suggested(&LOADS[4]).await;
}

#[tokio::test]
async fn nothing_is_suggested_where_nothing_is_observed() {
    let api = super::courses::api();
    let case = Case::with_text("upstream: ${API}\n", &[("API", &api.upstream.url())], api);
    let admin = format!("http://{}", case.larder.admin.address());
    let output = Command::new(&["suggest", "--observed", "--admin", &admin, "--token", "t"]).output().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("no route is observed") && said.contains("mode: observe"),
        "{said}"
    );
}
