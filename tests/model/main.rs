//! An exhaustive model of the purge protocol: every order of the steps of two replicas, within bounds. Each part of the
//! protocol is necessary: without it the search finds a promise that is broken.

mod checker;
mod protocol;
mod scope;
mod server;

use checker::{Found, search};
use scope::{Fix, Scope};

const STRICT: Scope = Scope {
    writes: 1,
    ticks: 1,
    reloads: 2,
    flushes: 0,
    crashes: 0,
    failovers: 0,
    outages: 0,
    lag: 0,
    settle: 0,
    guarded: false,
    without: None,
};
const GUARDED: Scope = Scope { writes: 1, ticks: 2, reloads: 0, crashes: 1, guarded: true, ..STRICT };
const GUARDED_RENAME: Scope = Scope { reloads: 1, ticks: 1, ..GUARDED };
const BOUNDED: Scope = Scope { writes: 1, ticks: 2, reloads: 0, flushes: 1, lag: 1, ..STRICT };
const LAGGING: Scope = Scope { writes: 1, ticks: 2, reloads: 0, flushes: 1, settle: 1, ..STRICT };
const FAILOVER: Scope = Scope { writes: 2, ticks: 0, reloads: 0, failovers: 1, ..STRICT };
const OUTAGE: Scope = Scope { writes: 2, ticks: 0, reloads: 0, outages: 1, ..STRICT };
const OUTAGE_RENAME: Scope = Scope { writes: 1, reloads: 2, ..OUTAGE };

fn expect_nothing(scope: &Scope) {
    match search(scope) {
        Found::Nothing { states } => println!("{states} states: {scope:?}"),
        Found::Violation { promise, run } => panic!("broken: {promise}, by {run:#?}\n{scope:?}"),
    }
}

#[test]
fn strict_reads_are_current_whatever_rules_change() {
    expect_nothing(&STRICT);
}

#[test]
fn guarded_reads_never_go_back() {
    expect_nothing(&GUARDED);
}

#[test]
fn guarded_reads_never_go_back_while_rules_change() {
    expect_nothing(&GUARDED_RENAME);
}

#[test]
fn bounded_reads_lag_no_further_and_applied_means_applied() {
    expect_nothing(&BOUNDED);
}

#[test]
fn copies_that_lag_fill_nothing_whatever_is_lost() {
    expect_nothing(&LAGGING);
}

#[test]
fn two_primaries_break_nothing_if_the_former_one_is_fenced() {
    expect_nothing(&FAILOVER);
}

#[test]
fn an_outage_costs_no_purge() {
    expect_nothing(&OUTAGE);
}

#[test]
fn an_outage_costs_no_purge_while_rules_change() {
    expect_nothing(&OUTAGE_RENAME);
}

#[test]
fn every_part_of_the_protocol_is_necessary() {
    for (fix, scope) in [
        (Fix::RulesInValidity, STRICT),
        (Fix::OtherRulesPurged, STRICT),
        (Fix::OtherRulesPurged, OUTAGE_RENAME),
        (Fix::OtherRulesMarked, GUARDED_RENAME),
        (Fix::YoungEpochWaits, BOUNDED),
        (Fix::RollBeforeConfirmation, BOUNDED),
        (Fix::Settle, LAGGING),
        (Fix::SettleOutlivesIndex, LAGGING),
        (Fix::FencedWrites, GUARDED),
        (Fix::MarksOutliveReplicas, GUARDED),
        (Fix::FencedPrimary, FAILOVER),
        (Fix::Journal, OUTAGE),
    ] {
        match search(&Scope { without: Some(fix), ..scope }) {
            Found::Nothing { states } => panic!("{fix:?} is not missed in {states} states"),
            Found::Violation { promise, run } => println!("without {fix:?}: {promise}, by {run:?}"),
        }
    }
}
