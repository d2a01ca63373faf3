//! Latencies of the models, in real time: requests arrive by a schedule, whether or not earlier ones are answered (an open
//! loop), and a latency counts from the scheduled time. `LARDER_PROGRAM` names the larder, built for release.

use std::fmt::Write as _;
use std::time::Duration;

use larder::clock::Clock;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{Dice, MODELS, Model, SIGNED_URLS, Sent, Zipfs, text};
use crate::examples::{AS_SHIPPED, Case, token};
use crate::support::{Answer, Client, Command, Line, Process, Relay, Scratch, free_port};

/// The API's time for an answer.
const API_TIME: Duration = Duration::from_millis(20);

/// Reads before the schedule begins, several at a time.
const WARM_UP_READS: usize = 1_500;
const WARM_UP_CLIENTS: usize = 10;

const SCHEDULE: Duration = Duration::from_secs(8);

/// Slower models are played faster, so that there is a 99th percentile.
const MIN_READS: usize = 50;

struct Arrival {
    after: Duration,
    request: Sent,
    is_read: bool,
}

impl Model {
    /// Arrivals by a Poisson process.
    fn schedule(&self, laws: &Zipfs) -> Vec<Arrival> {
        let mut dice = Dice::new(11, 0);
        let speed = (MIN_READS as f64 / self.reads as f64).max(1.0);
        let (reads, writes) = (self.reads as f64, self.writes as f64 / 100.0);
        let (mut after, mut arrivals) = (Duration::ZERO, Vec::new());
        loop {
            let point = (dice.below(1 << 30) + 1) as f64 / f64::from(1 << 30);
            after += Duration::from_secs_f64(-point.ln() / ((reads + writes) * speed));
            if after >= SCHEDULE {
                return arrivals;
            }
            let is_read = dice.below(1 << 30) as f64 / f64::from(1 << 30) < reads / (reads + writes);
            let request = if is_read { (self.read)(&mut dice, laws) } else { (self.write)(&mut dice, laws) };
            arrivals.push(Arrival { after, request, is_read });
        }
    }

    /// The configuration as a process of its own before `api`.
    async fn run(&self, api: &Client, case: &Case) -> Process {
        let [proxy, admin] = [free_port(), free_port()];
        let mut yaml = text(self.file);
        for (present, other) in self.changes {
            yaml = yaml.replace(present, other);
        }
        yaml = yaml.replace("listen: 127.0.0.1:9090", &format!("listen: 127.0.0.1:{admin}"));
        let scratch = Scratch::new();
        let file = scratch.file("proxy.yaml", &yaml);
        let (listen, url) = (format!("127.0.0.1:{proxy}"), format!("http://{}", api.address()));
        let (keys, service) = (case.api.key_file(), token("cleo"));
        let given = [
            (self.variable, url.as_str()),
            ("LARDER_LISTEN_ON", listen.as_str()),
            ("LARDER_JWKS", &keys),
            ("FORUM_SERVICE_TOKEN", service.trim_start_matches("Bearer ")),
            ("LARDER_WARM", "off"),
            ("LARDER_WARM_EVERY", "off"),
        ];
        let mut command = Command::new(&["--config", file.to_str().expect("a path")]);
        // The last one counts.
        for (name, value) in AS_SHIPPED.iter().chain(self.environment).chain(&given) {
            command = command.env(name, value);
        }
        Process::spawn(command, scratch, proxy, admin).await
    }
}

async fn exchange(client: &Client, (method, target, caller): Sent) {
    let request = client.request(method, &target);
    let request = match &caller {
        Some(token) => request.header("authorization", token),
        None => request,
    };
    request.await.assert_status(200);
}

/// The latencies of the reads, sorted.
async fn measure(model: &Model, client: &Client, laws: &Zipfs) -> Vec<Duration> {
    let mut dice = Dice::new(13, 0);
    for _ in 0..WARM_UP_READS / WARM_UP_CLIENTS {
        let reads: Vec<_> = (0..WARM_UP_CLIENTS)
            .map(|_| {
                let (client, request) = (client.clone(), (model.read)(&mut dice, laws));
                tokio::spawn(async move { exchange(&client, request).await })
            })
            .collect();
        for read in reads {
            read.await.expect("an answer");
        }
    }
    let begin = Instant::now() + Duration::from_millis(100);
    let mut sent = Vec::new();
    for Arrival { after, request, is_read } in model.schedule(laws) {
        let (client, due) = (client.clone(), begin + after);
        sleep_until(due).await;
        sent.push(tokio::spawn(async move {
            exchange(&client, request).await;
            is_read.then(|| due.elapsed())
        }));
    }
    let mut latencies = Vec::new();
    for answered in sent {
        latencies.extend(answered.await.expect("an answer"));
    }
    latencies.sort_unstable();
    latencies
}

fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes two minutes; benches/cases/run plays it"]
async fn each_case_is_timed_with_and_without_larder() {
    let mut table =
        String::from("\n| model | p50 | p99 | p50 without | p99 without |\n|---|---|---|---|---|\n");
    for model in MODELS.iter().chain([&SIGNED_URLS]) {
        let laws = Zipfs::new();
        let case = model.start();
        for id in 0..200 {
            case.api.upstream.on(&format!("/api/files/{id}/url"), move |_: &_| {
                let end = Clock::system().now().as_secs() + 4 * 3600;
                Answer::json(json!({"url": "https://storage.example", "expires_at": end}).to_string())
            });
        }
        let relay = Relay::to(case.api.upstream.address()).await;
        relay.set(Line::Late(API_TIME));
        let api = Client::new(relay.address());
        let without = measure(model, &api, &laws).await;
        let process = model.run(&api, &case).await;
        let with = measure(model, &process, &laws).await;
        let [p50, p99, p50_without, p99_without] =
            [(&with, 50), (&with, 99), (&without, 50), (&without, 99)].map(|(all, at)| percentile(all, at));
        _ = writeln!(
            table,
            "| {} | {p50:.1} ms | {p99:.1} ms | {p50_without:.1} ms | {p99_without:.1} ms |",
            model.name
        );
        eprintln!("{table}");
    }
    println!("{table}");
}
