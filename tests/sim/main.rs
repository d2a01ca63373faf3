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
mod redis;
mod replica;
mod rules;
mod setting;
mod simulation;
#[path = "../it/history/split_mix.rs"]
mod split_mix;
mod upstream;

use std::time::Instant;

use tikv_jemallocator::Jemalloc;

use plan::shrink;
use simulation::{Outcome, play};

/// As in larder.
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

fn expect_no_violation(seed: u64, outcome: &Outcome) {
    if outcome.violation.is_none() {
        return;
    }
    let shortest = shrink(seed, outcome);
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
    println!("seeds {first} to {}", first + count - 1);
    let began = Instant::now();
    let (mut hits, mut reads, mut operations) = (0, 0, 0);
    for seed in first..first + count {
        let outcome = play(seed);
        expect_no_violation(seed, &outcome);
        hits += outcome.hits.0;
        reads += outcome.hits.1;
        operations += outcome.operations.len();
    }
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("{count} histories of {operations} operations, {rate:.0} a second; {reads} reads, {hits} hits");
    assert!(4 * hits > reads, "misses are not what is to be tested: {hits} hits of {reads} reads");
}

/// Seeds that have broken a promise once.
#[test]
fn seeds_of_repaired_defects_keep_every_promise() {
    // A doubt that ended less than `settle` before the fetch.
    const SEED: u64 = 342;
    expect_no_violation(SEED, &play(SEED));
}

#[test]
fn a_seed_is_replayed_to_the_same_trace() {
    for seed in 1..=20 {
        assert_eq!(play(seed).trace, play(seed).trace, "seed {seed}");
    }
}
