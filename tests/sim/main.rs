//! A deterministic simulation of larders that share a store: the real store, scripts, purges and guards, on simulated
//! time, with a simulated Redis. A seed decides everything. `tests/sim-seeds` runs many.

mod clients;
mod connection;
mod dice;
mod faults;
mod history;
mod mutants;
mod network;
mod plan;
mod process;
mod reading;
mod redis;
mod replica;
mod rules;
mod scenes;
mod setting;
mod simulation;
#[path = "../it/history/split_mix.rs"]
mod split_mix;
mod upstream;

use std::time::Duration;

use tikv_jemallocator::Jemalloc;

use plan::shrink;
use simulation::{Outcome, play};

/// larder's own allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// `LARDER_SIM_SEED`, or the time.
fn first_seed() -> u64 {
    let now = larder::clock::Clock::system().now().as_micros();
    number("LARDER_SIM_SEED").unwrap_or(now)
}

/// The time that this thread had a core.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

fn expect_no_violation(seed: u64, outcome: &Outcome) {
    let Some(violation) = &outcome.violation else { return };
    println!("seed {seed} breaks a promise after {:.1}: {violation}", cpu_time().as_secs_f64());
    let is_mutant = std::env::var_os("LARDER_SIM_MUTANT").is_some();
    let shortest = if is_mutant { None } else { shrink(seed, outcome) };
    let outcome = shortest.as_ref().unwrap_or(outcome);
    outcome.notes.iter().for_each(|note| println!("{note}"));
    if let Some(violation) = &outcome.violation {
        let (count, setting) = (outcome.operations.len(), &outcome.setting);
        panic!(
            "seed {seed} breaks a promise: {violation}\n\
             {count} operations suffice, {setting:?}\nLARDER_SIM_SEED={seed} replays it"
        );
    }
}

#[test]
fn new_seeds_keep_every_promise() {
    let (first, count) = (first_seed(), number("LARDER_SIM_SEEDS").unwrap_or(60));
    let limit = number("LARDER_SIM_SECONDS").map_or(Duration::MAX, Duration::from_secs);
    println!("seeds {first} to {}", first + count - 1);
    let began = cpu_time();
    let (mut played, mut hits, mut reads, mut operations) = (0_u64, 0, 0, 0);
    for seed in first..first + count {
        if cpu_time() - began >= limit {
            break;
        }
        let outcome = play(seed);
        played += 1;
        expect_no_violation(seed, &outcome);
        hits += outcome.hits.0;
        reads += outcome.hits.1;
        operations += outcome.operations.len();
    }
    let rate = played as f64 / (cpu_time() - began).as_secs_f64();
    println!("{played} histories of {operations} operations, {rate:.0} a second; {reads} reads, {hits} hits");
    assert!(
        // A few histories may happen to be full of faults.
        played < 1000 || 4 * hits > reads,
        "misses are not what is to be tested: {hits} hits of {reads} reads"
    );
}

/// Seeds that have broken a promise once.
#[test]
fn seeds_of_repaired_defects_keep_every_promise() {
    // A doubt that ended less than `settle` before the fetch; `settle` that ended with a lost index, twice; a reload with
    // other events; a guarded write whose replica died while rules joined; a purge that waited for Redis while rules changed;
    // a mark that did not reach other rules; a replica that was taken off the roll while it answered, because an earlier
    // one had its name.
    for seed in [342, 502_034, 103_831, 1399, 500_010, 800, 653, 1_796_024_031_527_333] {
        expect_no_violation(seed, &play(seed));
    }
}

#[test]
fn a_seed_is_replayed_to_the_same_trace() {
    for seed in 1..=20 {
        assert_eq!(play(seed).trace, play(seed).trace, "seed {seed}");
    }
}
