//! A load model of each ready-made configuration: reads by Zipf's law, writes and events at their own rates, by a clock that
//! is moved second by second. `benches/cases/run` prints the table of docs/benchmarks.md.

mod latency;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use serde_json::json;

use super::{AS_SHIPPED, Case, SampleApi, issued, text};
use crate::history::dice::Dice;
use crate::support::{Answer, Reply};

/// A number below a bound, by Zipf's law with exponent 1: the first is drawn most often.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(bound: usize) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = (1..=bound)
            .map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            })
            .collect();
        sums.iter_mut().for_each(|value| *value /= sum);
        Self(sums)
    }

    fn draw(&self, dice: &mut Dice) -> usize {
        let point = dice.below(1 << 30) as f64 / f64::from(1 << 30);
        self.0.partition_point(|sum| *sum <= point).min(self.0.len() - 1)
    }
}

/// A request as it is sent: its method, its target, and who sends it.
type Sent = (&'static str, String, Option<String>);

struct Model {
    name: &'static str,
    file: &'static str,
    variable: &'static str,
    /// Texts of the file, and what stands in their place.
    changes: &'static [(&'static str, &'static str)],
    environment: &'static [(&'static str, &'static str)],
    /// In a second.
    reads: usize,
    /// In a hundred seconds.
    writes: usize,
    /// Seconds before the hits are counted, and while they are.
    spans: (u64, u64),
    read: fn(&mut Dice, &Zipfs) -> Sent,
    write: fn(&mut Dice, &Zipfs) -> Sent,
    /// In percent.
    aim: f64,
    /// The lowest hit rate at which the test passes, in percent.
    bound: f64,
}

/// The laws that models draw from.
struct Zipfs {
    few: Zipf,
    hundred: Zipf,
    two_hundred: Zipf,
}

impl Zipfs {
    fn new() -> Self {
        Self { few: Zipf::new(10), hundred: Zipf::new(100), two_hundred: Zipf::new(200) }
    }
}

/// The token of a user on a device; each device has its own.
fn find_token(user: usize, device: usize) -> Option<String> {
    static ISSUED: Mutex<BTreeMap<(usize, usize), String>> = Mutex::new(BTreeMap::new());
    let mut issued_before = ISSUED.lock().expect("no panic");
    let token = issued_before.entry((user, device));
    Some(token.or_insert_with(|| issued(&json!({"sub": format!("u{user}"), "device": device}))).clone())
}

fn read_analytics(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let kind = ["ghosts", "lurkers", "shifts", "heatmap", "roles", "clients"][dice.below(6)];
    let (guild, since) = (laws.hundred.draw(dice), ["24h", "7d", "30d"][laws.few.draw(dice).min(2)]);
    ("GET", format!("/api/analytics/{kind}?guildId={guild}&since={since}"), find_token(dice.below(20), 0))
}

fn send_event(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let kind = ["messages", "messages", "messages", "presence", "roles"][dice.below(5)];
    ("POST", format!("/api/guilds/{}/{kind}", laws.hundred.draw(dice)), None)
}

fn read_courses(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let caller = find_token(laws.hundred.draw(dice), 0);
    let target = match dice.below(20) {
        0..8 => {
            let difficulty = ["all", "beginner", "advanced"][laws.few.draw(dice).min(2)];
            format!("/api/courses?difficulty={difficulty}&page={}", 1 + laws.few.draw(dice))
        }
        8..17 => format!("/api/courses/{}", laws.hundred.draw(dice)),
        17 => "/api/users/me/progress".to_owned(),
        18 => "/api/rewards/history".to_owned(),
        _ => "/api/credentials".to_owned(),
    };
    ("GET", target, caller)
}

fn enroll(dice: &mut Dice, laws: &Zipfs) -> Sent {
    (
        "POST",
        format!("/api/courses/{}/enroll", laws.hundred.draw(dice)),
        find_token(laws.hundred.draw(dice), 0),
    )
}

fn read_orders(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let account = laws.few.draw(dice) * 10 + dice.below(10);
    let target = match dice.below(10) {
        0..3 => "/api/orders".to_owned(),
        3..5 => format!("/api/orders/{account}-{}", laws.few.draw(dice)),
        5..8 => format!("/api/catalog/products/{}", laws.two_hundred.draw(dice)),
        _ => format!("/api/stock/{}", laws.two_hundred.draw(dice)),
    };
    ("GET", target, find_token(account, dice.below(8)))
}

fn change_product(dice: &mut Dice, laws: &Zipfs) -> Sent {
    ("POST", format!("/api/events/products/{}", laws.two_hundred.draw(dice)), None)
}

fn read_productivity(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let caller = find_token(laws.few.draw(dice) * 5 + dice.below(5), dice.below(3));
    let target = match dice.below(20) {
        0..6 => format!("/api/search?q=word{}", laws.few.draw(dice)),
        6..9 => "/api/dashboard".to_owned(),
        9..13 => "/api/profile".to_owned(),
        13..16 => format!("/api/marketplace?page={}", 1 + laws.few.draw(dice)),
        _ => format!("/api/marketplace/{}", laws.hundred.draw(dice)),
    };
    ("GET", target, caller)
}

fn write_note(dice: &mut Dice, laws: &Zipfs) -> Sent {
    let user = laws.few.draw(dice) * 5 + dice.below(5);
    ("PUT", format!("/api/notes/{user}-{}", dice.below(50)), find_token(user, 0))
}

fn read_url(dice: &mut Dice, laws: &Zipfs) -> Sent {
    ("GET", format!("/api/files/{}/url", laws.two_hundred.draw(dice)), find_token(dice.below(20), 0))
}

fn replace_file(dice: &mut Dice, laws: &Zipfs) -> Sent {
    ("PUT", format!("/api/files/{}", laws.two_hundred.draw(dice)), find_token(dice.below(20), 0))
}

/// The tags that the first document names: figures of all guilds.
const COARSE: &[(&str, &str)] = &[
    UNLIMITED[0],
    (
        r#"[{tag: "messages:{guildId}", soft: true, at_most_every: "${LARDER_PURGE_WINDOW:-30s}"}]"#,
        r#"["analytics:ghosts", "analytics:heatmap"]"#,
    ),
    (
        r#"[{tag: "presence:{guildId}", soft: true, at_most_every: "${LARDER_PURGE_WINDOW:-30s}"}]"#,
        r#"["analytics:lurkers", "analytics:clients"]"#,
    ),
];

/// Nothing may be old.
const AT_ONCE: &[(&str, &str)] = &[("LARDER_PURGE_WINDOW", "0s"), ("LARDER_STALE", "0s")];

/// Limits are by address, and all requests of a model have one.
const UNLIMITED: &[(&str, &str)] = &[("limit: 100/m", "limit: 1000000/m")];

const MODELS: [Model; 6] = [
    Model { name: "analytics, as configured", changes: UNLIMITED, bound: 89.0, ..ANALYTICS },
    Model {
        name: "analytics, each event at once",
        changes: UNLIMITED,
        environment: AT_ONCE,
        bound: 32.0,
        ..ANALYTICS
    },
    Model { name: "analytics, tags of all guilds", changes: COARSE, bound: 31.0, ..ANALYTICS },
    Model {
        name: "courses, as configured",
        file: "config/courses.yaml",
        variable: "COURSES_API",
        reads: 200,
        spans: (60, 120),
        writes: 500,
        read: read_courses,
        write: enroll,
        aim: 90.0,
        bound: 90.0,
        ..ANALYTICS
    },
    Model {
        name: "orders, 8 tokens an account",
        file: "config/catalogue.yaml",
        variable: "SHOP_API",
        reads: 200,
        spans: (60, 120),
        writes: 80,
        read: read_orders,
        write: change_product,
        aim: 94.0,
        bound: 94.0,
        ..ANALYTICS
    },
    Model {
        name: "productivity, 3 % writes",
        file: "config/productivity.yaml",
        variable: "APP_API",
        changes: UNLIMITED,
        reads: 100,
        spans: (60, 120),
        writes: 300,
        read: read_productivity,
        write: write_note,
        aim: 85.0,
        bound: 85.0,
        ..ANALYTICS
    },
];

const SIGNED_URLS: Model = Model {
    name: "signed URLs, an hour",
    file: "config/signed-urls.yaml",
    variable: "FORUM_API",
    environment: &[("LARDER_REFRESH_AHEAD", "5m")],
    reads: 5,
    writes: 1,
    spans: (2700, 3600),
    read: read_url,
    write: replace_file,
    aim: 99.0,
    bound: 99.0,
    ..ANALYTICS
};

const ANALYTICS: Model = Model {
    name: "",
    file: "config/analytics.yaml",
    variable: "ANALYTICS_API",
    changes: &[],
    environment: &[],
    reads: 30,
    writes: 800,
    spans: (120, 180),
    read: read_analytics,
    write: send_event,
    aim: 80.0,
    bound: 0.0,
};

/// The result of a model.
#[derive(Debug, Default)]
struct Outcome {
    reads: usize,
    hits: usize,
    writes: usize,
    /// Requests that the API answered because of the reads, also behind them.
    asked: usize,
    /// Answers with a signed URL past its end.
    dead: usize,
}

impl Model {
    fn start(&self) -> Case {
        let api = SampleApi::start();
        let upstream = &api.upstream;
        let courses: Vec<_> = (0..20).map(|id| json!({"id": id})).collect();
        upstream.on("/api/courses", Answer::json(json!({ "courses": courses }).to_string()));
        for id in 0..100 {
            upstream.on(&format!("/api/courses/{id}"), Answer::json(json!({ "id": id }).to_string()));
        }
        upstream.on("/api/users/me/enrollments", Answer::json(r#"{"enrollments": [{"courseId": 1}]}"#));
        upstream.on("/api/search", Answer::json(r#"{"results": [{"id": "n"}]}"#));
        let mut yaml = text(self.file);
        for (present, other) in self.changes {
            assert!(yaml.contains(present), "{}: {present}", self.file);
            yaml = yaml.replace(present, other);
        }
        let url = api.upstream.url();
        // The first one counts.
        let environment = self.environment.iter().copied().chain(AS_SHIPPED);
        let variables: Vec<_> = environment.chain([(self.variable, url.as_str())]).collect();
        let case = Case::with_text(&yaml, &variables, api);
        for id in 0..200 {
            let clock = case.larder.clock.clone();
            case.api.upstream.on(&format!("/api/files/{id}/url"), move |_: &_| {
                let end = clock.now().as_secs() + 4 * 3600;
                Answer::json(json!({"url": "https://storage.example", "expires_at": end}).to_string())
            });
        }
        case
    }

    async fn play(&self) -> Outcome {
        let case = self.start();
        let laws = Zipfs::new();
        let (mut dice, mut outcome) = (Dice::new(7, 0), Outcome::default());
        let (warm_up, counted) = self.spans;
        let mut asked_before = 0;
        for second in 0..warm_up + counted {
            if second == warm_up {
                asked_before = case.api.upstream.total();
            }
            let due = |at: u64| at * self.writes as u64 / 100;
            let writes = usize::try_from(due(second + 1) - due(second)).expect("few");
            let mut writes_left = writes;
            for left in (1..=self.reads + writes).rev() {
                // Writes stand anywhere among the reads of their second.
                if dice.below(left) < writes_left {
                    writes_left -= 1;
                    send(&case, (self.write)(&mut dice, &laws)).await;
                    outcome.writes += usize::from(second >= warm_up);
                    continue;
                }
                let reply = send(&case, (self.read)(&mut dice, &laws)).await;
                if second >= warm_up {
                    outcome.count(&reply, case.larder.clock.now().as_secs());
                }
            }
            case.larder.after(1);
        }
        outcome.asked = case.api.upstream.total() - asked_before - outcome.writes;
        outcome
    }
}

impl Outcome {
    fn count(&mut self, reply: &Reply, now: u64) {
        self.reads += 1;
        self.hits += usize::from(reply.is_hit());
        if reply.text().contains("expires_at") {
            self.dead += usize::from(reply.json()["expires_at"].as_u64().is_none_or(|end| end <= now));
        }
    }

    fn hit_rate(&self) -> f64 {
        self.hits as f64 * 100.0 / self.reads.max(1) as f64
    }
}

async fn send(case: &Case, (method, target, caller): Sent) -> Reply {
    let request = case.larder.request(method, &target);
    let request = match &caller {
        Some(token) => request.header("authorization", token),
        None => request,
    };
    request.await.assert_status(200)
}

#[tokio::test]
#[ignore = "takes minutes; benches/cases/run plays it"]
async fn each_case_is_played_and_shown_as_a_table() {
    let mut table = String::from(
        "\n| model | reads/s | writes/s | hit rate | aim | asked of the API, of 100 reads |\n|---|---|---|---|---|---|\n",
    );
    for model in MODELS.iter().chain([&SIGNED_URLS]) {
        let outcome = model.play().await;
        let (rate, asked) = (outcome.hit_rate(), outcome.asked as f64 * 100.0 / outcome.reads.max(1) as f64);
        _ = writeln!(
            table,
            "| {} | {} | {} | {rate:.1} % | {} % | {asked:.1} |",
            model.name,
            model.reads,
            model.writes as f64 / 100.0,
            model.aim
        );
        eprintln!("{table}");
        assert!(rate >= model.bound, "{}: {rate:.1} %", model.name);
        assert_eq!(outcome.dead, 0, "{}: dead URLs", model.name);
    }
    println!("{table}");
}
