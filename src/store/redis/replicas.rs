//! The roll: which replicas are live, how much each knows, and waiting until all of them know a purge.
//!
//! The roll is part of the purge index, so it is lost only together with the epoch. Every script on the index puts its
//! caller on the roll first, so a replica is on it before its first confirmation counts.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use super::scripts::RollEntry;
use crate::clock::{Moment, Timestamp};
use crate::purge::PurgeVersion;
use crate::random::random_bytes;
use crate::store::remote_status::ReplicaStatus;

/// How often a replica looks who else is on the roll.
const ROLL_INTERVAL: Duration = Duration::from_millis(900);

/// A silent replica stays on the roll for this much longer than it may answer without a reply from Redis. It reports
/// twice a second.
const EXPIRY_SLACK: Duration = Duration::from_secs(2);
const MIN_EXPIRY: Duration = Duration::from_secs(4);

/// Begins a message that asks every replica to report what it knows.
pub(super) const HEARTBEAT_REQUEST: char = 'b';

/// In a place on the roll: `r`, the process, its trust, when it started, its name.
pub(super) const PROCESS: std::ops::Range<usize> = 1..9;
const TRUST: std::ops::Range<usize> = 9..25;
const STARTED: std::ops::Range<usize> = 25..41;
const NAME_AT: usize = 41;

/// This replica's place on the roll, and what it has seen of the others.
#[derive(Debug)]
pub(crate) struct Membership {
    pub name: String,
    pub(super) process: [u8; 8],
    started: Timestamp,
    /// How long this replica may answer from its view without a reply from Redis.
    pub(super) trust: Duration,
    /// Somebody waits until every replica reports this version.
    requested: AtomicU64,
    last_reported: AtomicU64,
    pub(super) has_left: AtomicBool,
    has_conflict: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The last report of each place, and when this replica first saw it.
    reports: HashMap<Bytes, (String, Moment)>,
    looked_at: Option<Moment>,
    epoch: EpochAge,
}

/// How old the epoch is, on this process's clock.
#[derive(Clone, Copy, Debug, Default)]
struct EpochAge {
    at_switch: Duration,
    switched_at: Option<Moment>,
    /// Acknowledged purges up to this version are of another epoch.
    former: PurgeVersion,
    acknowledged: PurgeVersion,
}

impl Membership {
    pub(crate) fn new(name: String, trust: Duration, now: Timestamp) -> std::io::Result<Self> {
        Ok(Self {
            name,
            process: random_bytes()?,
            started: now,
            trust,
            requested: AtomicU64::new(0),
            last_reported: AtomicU64::new(0),
            has_left: AtomicBool::new(false),
            has_conflict: AtomicBool::new(false),
            seen: Mutex::default(),
        })
    }

    pub(crate) fn process(&self) -> Bytes {
        Bytes::copy_from_slice(&self.process)
    }

    /// The entry that scripts put on the roll; empty: none. A process that yields its name is not taken off the roll, since
    /// it may answer until its trust ends: then it has been silent for long enough.
    pub(crate) fn registration(&self) -> Bytes {
        if self.has_left.load(Ordering::Acquire) || self.has_conflict() {
            return Bytes::new();
        }
        self.entry()
    }

    /// Its place on the roll, whether it is there or not.
    pub(super) fn place(&self) -> Bytes {
        [b"r", &self.process[..], &self.entry()].concat().into()
    }

    fn entry(&self) -> Bytes {
        let (trust, started) = (self.trust.as_micros(), self.started.as_micros());
        format!("{trust:016}{started:016}{}", self.name).into()
    }

    pub(crate) fn request(&self, version: PurgeVersion) {
        self.requested.fetch_max(version.0, Ordering::AcqRel);
    }

    /// Whether somebody waits for the report that `known` is known.
    pub(crate) fn is_report_due(&self, known: PurgeVersion) -> bool {
        let (requested, reported) =
            (self.requested.load(Ordering::Acquire), self.last_reported.load(Ordering::Acquire));
        !self.has_left.load(Ordering::Acquire) && requested > reported && known.0 >= requested
    }

    /// Redis has the report.
    pub(crate) fn record_report(&self, known: PurgeVersion) {
        self.last_reported.store(known.0, Ordering::Release);
    }

    pub(crate) fn has_conflict(&self) -> bool {
        self.has_conflict.load(Ordering::Acquire)
    }

    /// The view has gone to an epoch that was `age` old. Only the first age that a process hears of is believed: later
    /// ones may be of a clock that was set.
    pub(crate) fn record_epoch(&self, age: Duration) {
        self.last_reported.store(0, Ordering::Release);
        let epoch = &mut self.seen().epoch;
        let at_switch = if epoch.switched_at.is_none() { age } else { Duration::ZERO };
        let former = epoch.acknowledged;
        *epoch = EpochAge { at_switch, switched_at: Some(Moment::now()), former, ..*epoch };
    }

    /// A purge was acknowledged under the present epoch.
    pub(crate) fn record_purge(&self, version: PurgeVersion) {
        let epoch = &mut self.seen().epoch;
        epoch.acknowledged = epoch.acknowledged.max(version);
    }

    /// Whether every replica that does not know the present epoch has stopped answering by now, and `version` is of this
    /// epoch.
    pub(super) fn is_epoch_settled(&self, version: PurgeVersion, longest_trust: Duration) -> bool {
        let epoch = self.seen().epoch;
        let Some(switched_at) = epoch.switched_at else { return false };
        version > epoch.former && epoch.at_switch + Moment::now().since(switched_at) > longest_trust
    }

    pub(super) fn is_roll_due(&self) -> bool {
        self.seen().looked_at.is_none_or(|looked| Moment::now().since(looked) >= ROLL_INTERVAL)
    }

    /// Notes what the replicas have reported, and returns those that have not for longer than they may answer, by this
    /// process's clock.
    pub(super) fn observe(&self, entries: &[RollEntry], now: Moment) -> Vec<Bytes> {
        let mut seen = self.seen();
        seen.looked_at = Some(now);
        let before = std::mem::take(&mut seen.reports);
        let mut silent = Vec::new();
        let mut has_conflict = false;
        for entry in entries.iter().filter(|entry| entry.reported != "0") {
            let first = match before.get(&entry.place) {
                Some((reported, first)) if *reported == entry.reported => *first,
                known => {
                    has_conflict |= known.is_some() && self.must_yield_to(&entry.place);
                    now
                }
            };
            let silent_for = now.since(first);
            has_conflict |=
                self.has_conflict() && self.must_yield_to(&entry.place) && silent_for < MIN_EXPIRY;
            if silent_for > (parse_trust(&entry.place) + EXPIRY_SLACK).max(MIN_EXPIRY) {
                silent.extend([entry.place.clone(), Bytes::from(entry.reported.clone())]);
            }
            seen.reports.insert(entry.place.clone(), (entry.reported.clone(), first));
        }
        drop(seen);
        if self.has_conflict.swap(has_conflict, Ordering::AcqRel) != has_conflict && has_conflict {
            tracing::error!(
                replica = self.name,
                "another process has this replica's name: give each a `store.replica` of its own"
            );
        }
        silent
    }

    /// Whether this is the later of two processes with one name, which yields.
    fn must_yield_to(&self, place: &[u8]) -> bool {
        let its_start = place.get(STARTED).and_then(parse_number).unwrap_or_default();
        let its_process = place.get(PROCESS).unwrap_or_default();
        place.get(NAME_AT..) == Some(self.name.as_bytes())
            && its_process != self.process
            && (its_start, its_process) < (self.started.as_micros(), &self.process[..])
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock()
    }
}

pub(super) fn parse_trust(place: &[u8]) -> Duration {
    Duration::from_micros(place.get(TRUST).and_then(parse_number).unwrap_or_default())
}

fn parse_number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

pub(super) fn status(entry: &RollEntry) -> ReplicaStatus {
    let name = entry.place.get(NAME_AT..).unwrap_or_default();
    ReplicaStatus {
        name: String::from_utf8_lossy(name).into_owned(),
        position: entry.known,
        last_seen_ago: entry.silent_for,
    }
}

#[cfg(test)]
mod tests;
