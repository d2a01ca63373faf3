//! Many clients at once that send the worst writes a search can find, and others that read meanwhile.
//!
//! Costs are counts: targets, steps, records and hits. Nothing is held to a time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use larder::clock::Clock;

use crate::fuzz::{GeneratedWrite, MAX_TARGETS, ROUTES};
use crate::history::Dice;
use crate::support::{Client, Larder, Redis, Replica, Upstream, with_deadline};

const ATTACKERS: usize = 100;
const WRITES_EACH: usize = 4;

/// The worst of so many requests; `LARDER_LONG` looks at a hundred times as many.
fn search_rounds() -> usize {
    if std::env::var_os("LARDER_LONG").is_some() { 20_000 } else { 200 }
}

/// A search that keeps what costs more: half of the rounds change the worst so far, and half begin anew.
fn find_worst(mut dice: Dice, score: impl Fn(&GeneratedWrite) -> usize) -> (Vec<u8>, usize) {
    let (mut worst, mut most) = (Vec::new(), 0);
    for _ in 0..search_rounds() {
        let mut bytes: Vec<u8> = match dice.one_in(2) {
            true => (0..3 * (1 + dice.below(5))).map(|_| dice.next() as u8).collect(),
            false => worst.clone(),
        };
        for _ in 0..2 {
            let at = dice.below(bytes.len().max(1));
            bytes.get_mut(at).into_iter().for_each(|byte| *byte = dice.next() as u8);
        }
        let score = score(&GeneratedWrite::from_bytes(&bytes, 1));
        if score > most {
            (worst, most) = (bytes, score);
        }
    }
    (worst, most)
}

/// The worst by targets, by steps, and by both; and a write that names nothing, which is widened.
fn worst_writes() -> &'static [Vec<u8>] {
    static FOUND: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let by_targets = find_worst(Dice::new(1, 1), |write| write.cost().targets);
        let by_steps = find_worst(Dice::new(1, 2), |write| write.cost().steps);
        let by_both = find_worst(Dice::new(1, 3), |write| write.cost().score());
        println!("worst writes: {} targets, {} steps, score {}", by_targets.1, by_steps.1, by_both.1);
        assert!(by_targets.1 >= 60 && by_steps.1 >= 2000, "the search finds what costs much");
        vec![by_targets.0, by_steps.0, by_both.0, Vec::new()]
    })
}

#[test]
fn no_write_that_a_search_finds_costs_more_than_its_bound() {
    for bytes in worst_writes() {
        crate::fuzz::writes(bytes);
    }
}

/// Sends the worst writes one after another, each over a connection of its own.
async fn attack(client: Client, number: usize) {
    let shapes = worst_writes();
    for turn in 0..WRITES_EACH {
        let shape = &shapes[(number + turn) % shapes.len()];
        let write = GeneratedWrite::from_bytes(shape, number * WRITES_EACH + turn);
        let mut connection = client.raw().await;
        connection.send(write.to_http1()).await;
        connection.status().await;
    }
}

/// Reads what nobody writes until `is_over`. Returns the reads, and the hits among them.
async fn read_on(client: Client, is_over: Arc<AtomicBool>) -> (usize, usize) {
    let (mut reads, mut hits) = (0, 0);
    while !is_over.load(Ordering::Relaxed) || reads < 200 {
        let reply = client.get(&format!("/victims/{}", reads % 20)).header("host", "a").await;
        hits += usize::from(reply.is_hit());
        reads += 1;
    }
    (reads, hits)
}

const VICTIMS: &str = "  - {path: \"/victims/{n}\", ttl: 1h, tags: [victims, \"victim:{n}\"]}\n";

async fn withstand(larder: &Larder) {
    for number in 0..20 {
        larder.get(&format!("/victims/{number}")).header("host", "a").await.assert_status(200);
    }
    worst_writes();
    let is_over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> =
        (0..2).map(|_| tokio::spawn(read_on(Client::new(larder.address()), is_over.clone()))).collect();
    let attackers: Vec<_> =
        (0..ATTACKERS).map(|number| tokio::spawn(attack(Client::new(larder.address()), number))).collect();
    with_deadline("it is alive", async { larder.admin.get("/healthz").await }).await.assert_status(200);
    for attacker in attackers {
        attacker.await.expect("no panic");
    }
    is_over.store(true, Ordering::Relaxed);
    let (mut reads, mut hits) = (0, 0);
    for reader in readers {
        let (its_reads, its_hits) = reader.await.expect("no panic");
        (reads, hits) = (reads + its_reads, hits + its_hits);
    }
    let targets = larder.metric("larder_purged_targets_total{source=\"write\"}").await;
    let writes = larder.metric("larder_purges_total{source=\"write\"}").await;
    let records = larder.metric("larder_purge_records").await;
    println!("{writes} purges of {targets} targets: {records} records, {hits} hits of {reads}");
    assert!(writes >= (ATTACKERS * WRITES_EACH / 2) as f64, "{writes} purges: the attack took place");
    assert!(targets <= writes * MAX_TARGETS as f64, "{targets} targets of {writes}");
    assert!(records <= 100_000.0, "{records}");
    assert!(hits * 100 >= reads * 99, "{hits} hits of {reads}");
    assert!(larder.metric("larder_writes_over_budget_total").await > 0.0, "the budget is used up");
}

fn yaml() -> String {
    format!("limits: {{purge_targets_per_client: 3000}}{ROUTES}{VICTIMS}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worst_writes_of_many_clients_leave_the_hits_of_others() {
    let upstream = Upstream::start();
    // Its clock runs, since writes wait for their turns.
    let (yaml, url) = (format!("upstream: ${{UPSTREAM}}\n{}", yaml()), upstream.url());
    withstand(&Larder::with_clock(Clock::system(), &yaml, &[("UPSTREAM", &url)])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worst_writes_leave_the_hits_of_others_with_redis() {
    let (redis, upstream) = (Redis::start().await, Upstream::start());
    let replica = Replica::start(&redis, &upstream, "max_lag: 1h, timeout: 10s", &yaml()).await;
    withstand(&replica).await;
    let index = redis.command(&["ZCARD", "{larder}:index"]).await.parse::<f64>().expect("a number");
    assert!(index <= 2.0 * 100_000.0, "{index} members");
}
