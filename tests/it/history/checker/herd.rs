//! While a key is left alone and nothing is wrong, each replica fetches each of its responses once at the most; and once
//! more for each client that leaves.

use std::collections::HashMap;

use super::{Invariant, Promise, Violation};
use crate::history::record::{End, Harm, History, Span};
use crate::history::world::REPLICAS;

/// A fetch that began before may still be on its way to the upstream.
const ON_ITS_WAY: u64 = 100_000;

/// How long the effects of a fault may show, in microseconds.
const AFTERMATH: u64 = 1_500_000;

pub fn check_herds(history: &History, promise: Promise) -> Vec<Violation> {
    let keys = history.fetches.iter().map(|fetch| fetch.key).max().map_or(0, |last| last + 1);
    let mut trouble: Vec<Span> =
        history.faults.iter().filter(|fault| fault.harms != Harm::Nothing).map(|fault| fault.span).collect();
    trouble.extend(history.stalled());
    (0..keys).flat_map(|key| check_key(history, promise, &trouble, key)).collect()
}

fn check_key(history: &History, promise: Promise, trouble: &[Span], key: usize) -> Vec<Violation> {
    let mut restless: Vec<Span> = Vec::new();
    for write in history.writes.iter().filter(|write| write.key == key) {
        let doubt = match write.end {
            End::Acknowledged => 0,
            _ => promise.unknown_after,
        };
        restless.push(Span { ret: write.span.ret + doubt, ..write.span });
    }
    for purge in history.purges.iter().filter(|purge| purge.key.is_none_or(|named| named == key)) {
        restless.push(Span {
            ret: purge.span.ret + if purge.acknowledged { 0 } else { AFTERMATH },
            ..purge.span
        });
    }
    restless.extend(trouble.iter().map(|span| Span { ret: span.ret + AFTERMATH, ..*span }));
    restless.sort_by_key(|span| span.inv);
    let mut found = Vec::new();
    // They start without knowing Redis.
    let mut quiet_since = AFTERMATH;
    for span in restless {
        let from = quiet_since + ON_ITS_WAY + promise.lag;
        if from < span.inv {
            found.extend(in_quiet(history, key, Span { inv: from, ret: span.inv }));
        }
        quiet_since = quiet_since.max(span.ret);
    }
    found
}

fn in_quiet(history: &History, key: usize, quiet: Span) -> Option<Violation> {
    let mut fetches: HashMap<(usize, Option<usize>), usize> = HashMap::new();
    for fetch in history.fetches.iter().filter(|fetch| fetch.key == key) {
        if quiet.inv <= fetch.at && fetch.at <= quiet.ret {
            *fetches.entry((fetch.variant, fetch.owner)).or_default() += 1;
        }
    }
    let left = history.abandoned.iter().filter(|(named, span)| *named == key && span.overlaps(&quiet));
    let allowed = REPLICAS + left.count();
    let (place, most) = fetches.into_iter().max_by_key(|(_, count)| *count)?;
    (most > allowed).then(|| Violation {
        invariant: Invariant::Herd,
        key,
        span: quiet,
        what: format!("{most} fetches of {key}/{place:?}, and {allowed} would do"),
    })
}
