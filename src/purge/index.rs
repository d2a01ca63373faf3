//! The purge index: the last purge of each target, bounded in memory.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::intents::Intents;
use super::target_filters::TargetFilters;
use super::{
    Epoch, IndexChange, IntentId, Purge, PurgeMode, PurgeVersion, ReadVersion, Target, TargetId, Validity,
};
use crate::clock::Timestamp;

/// How much an index may hold.
#[derive(Clone, Copy, Debug)]
pub struct IndexBounds {
    /// Exact records, and as many targets of writes under way. Older ones are folded by hash, at the price of a
    /// needless miss now and then.
    pub max_records: usize,
    /// No stored response lives longer than this, so older records are forgotten.
    pub max_lifetime: Duration,
}

impl Default for IndexBounds {
    fn default() -> Self {
        Self { max_records: 100_000, max_lifetime: Duration::from_secs(400 * 24 * 3600) }
    }
}

/// The last purges of one target.
#[derive(Clone, Copy, Debug, Default)]
struct TargetRecord {
    hard: PurgeVersion,
    soft: PurgeVersion,
    /// In doubt until then.
    until: Timestamp,
}

impl TargetRecord {
    fn latest_version(self) -> PurgeVersion {
        self.hard.max(self.soft)
    }
}

/// The records of all targets whose ids begin alike, folded by another index. An index folds its own records into
/// [`TargetFilters`], which tell more apart.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    version: PurgeVersion,
    until: Timestamp,
}

/// One for each value of a target's first two bytes.
const BUCKET_COUNT: usize = 1 << 16;

/// Rules that are told apart. Those with the oldest purge are folded.
const MAX_RULES: usize = 64;

/// Old records leave in small steps with each purge, so that no purge pays for many.
const EVICTIONS_PER_PURGE: usize = 4;

/// All purges that may still matter, by target.
#[derive(Debug)]
pub struct Index {
    epoch: Epoch,
    high_water: PurgeVersion,
    /// The index's clock when the high-water mark was read.
    time: Timestamp,
    records: HashMap<TargetId, TargetRecord>,
    /// The records again, by the version of their last purge.
    order: BTreeSet<(PurgeVersion, TargetId)>,
    /// Empty until another index folds something.
    buckets: Vec<Bucket>,
    folded_purges: TargetFilters<PurgeVersion>,
    folded_doubts: TargetFilters<Timestamp>,
    /// When the last doubt of all ends, writes under way apart.
    latest_doubt: Timestamp,
    /// Targets of purges that have no version yet, each with how many purges name it.
    pending: HashMap<TargetId, u32>,
    intents: Intents,
    /// The rules that purges were made by. Each purge reaches the responses under all other rules.
    rules_of_purges: BTreeSet<TargetId>,
    /// The purges of rules that are not told apart any more: they reach everything.
    folded_rules: Bucket,
    /// The rules in use; responses under others are not served.
    rules: Option<TargetId>,
    bounds: IndexBounds,
}

impl Index {
    /// An empty index at the beginning of `epoch`.
    pub fn new(epoch: Epoch, now: Timestamp, bounds: IndexBounds) -> Self {
        Self {
            epoch,
            high_water: PurgeVersion(now.as_micros()),
            time: now,
            records: HashMap::new(),
            order: BTreeSet::new(),
            buckets: Vec::new(),
            folded_purges: TargetFilters::default(),
            folded_doubts: TargetFilters::default(),
            latest_doubt: Timestamp::default(),
            pending: HashMap::new(),
            intents: Intents::default(),
            rules_of_purges: BTreeSet::new(),
            folded_rules: Bucket::default(),
            rules: None,
            bounds,
        }
    }

    /// A copy of an index that is kept elsewhere; nothing is known of it yet.
    pub(crate) fn new_replica(bounds: IndexBounds) -> Self {
        Self::new(Epoch::NONE, Timestamp::default(), bounds)
    }

    /// Forgets everything but what is pending here, because the index that this is a copy of is another one now.
    pub(crate) fn reset_epoch(&mut self, epoch: Epoch) {
        let (pending, rules) = (std::mem::take(&mut self.pending), self.rules);
        let rules_of_purges = pending.keys().filter(|id| id.is_rules()).copied().collect();
        *self = Self { epoch, pending, rules_of_purges, rules, ..Self::new_replica(self.bounds) };
    }

    /// How many targets are on record.
    pub fn len(&self) -> usize {
        self.records.len() - self.rules_of_purges.iter().filter(|id| self.records.contains_key(id)).count()
    }

    /// Whether no target is on record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The latest purge version.
    pub fn high_water(&self) -> PurgeVersion {
        self.high_water
    }

    /// The rules of the responses that are served; `None`: any.
    pub fn rules(&self) -> Option<TargetId> {
        self.rules
    }

    /// Responses under other rules are not served from now on.
    pub fn set_rules(&mut self, rules: TargetId) {
        self.rules = Some(rules);
    }

    /// Takes the next version, records the purge, and makes room.
    pub fn purge(&mut self, purge: &Purge, now: Timestamp) -> PurgeVersion {
        let version = PurgeVersion(now.as_micros().max(self.high_water.0 + 1));
        (self.high_water, self.time) = (version, now);
        let until = match purge.in_doubt_for {
            Duration::ZERO => Timestamp::default(),
            lasts => now.plus(lasts),
        };
        let ids = purge.ids();
        for id in &ids {
            self.insert_record(*id, version, purge.mode, until);
        }
        if let Some(intent) = &purge.resolves {
            self.intents.remove(intent.id);
        }
        self.evict_old_records(now, EVICTIONS_PER_PURGE + ids.len());
        version
    }

    /// Takes over what the index that this is a copy of tells: everything up to `high_water` that was not known yet.
    pub(crate) fn apply(
        &mut self,
        changes: &[IndexChange],
        high_water: PurgeVersion,
        server_time: Timestamp,
    ) {
        for change in changes {
            match *change {
                IndexChange::Purged { id, version, mode } => {
                    self.insert_record(id, version, mode, Timestamp::default());
                }
                IndexChange::Doubted { id, version, until } => {
                    self.insert_record(id, version, PurgeMode::Hard, until);
                }
                IndexChange::Folded { bucket, version, until } => self.raise_bucket(bucket, version, until),
                // An older reply may name an intent that is known to be resolved.
                IndexChange::Intent { version, .. } if version <= self.high_water => {}
                IndexChange::Intent { id, intent, version, until } => {
                    self.add_intent(intent, &[id], version, until);
                }
                IndexChange::Resolved { intent, .. } => drop(self.intents.remove(intent)),
            }
        }
        // The time counts only beside a mark that was read no earlier: the clock may have been set back.
        if high_water > self.high_water {
            (self.high_water, self.time) = (high_water, server_time);
        } else if high_water == self.high_water {
            self.time = self.time.max(server_time);
        }
        self.evict_old_records(server_time, EVICTIONS_PER_PURGE + changes.len());
    }

    /// Until the intent is resolved or `until`, nothing that one of `targets` names is valid.
    pub(crate) fn add_intent(
        &mut self,
        intent: IntentId,
        targets: &[TargetId],
        version: PurgeVersion,
        until: Timestamp,
    ) {
        for id in targets {
            self.intents.add(intent, *id, version, until);
            self.notice_rules(id);
        }
    }

    /// Until [`Index::clear_pending`], nothing that one of `targets` names is valid.
    pub(crate) fn add_pending(&mut self, targets: &[TargetId]) {
        for id in targets {
            *self.pending.entry(*id).or_default() += 1;
            self.notice_rules(id);
        }
    }

    pub(crate) fn clear_pending(&mut self, targets: &[TargetId]) {
        for id in targets {
            if let Some(count) = self.pending.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    self.pending.remove(id);
                }
            }
        }
    }

    /// The read version of a fetch that begins now, by a copy: as of the last reply that it has applied.
    pub fn read_version(&self) -> ReadVersion {
        self.read_version_at(self.time)
    }

    /// The read version of a fetch that begins at `now`, by the index itself.
    pub(crate) fn read_version_at(&self, now: Timestamp) -> ReadVersion {
        ReadVersion { epoch: self.epoch, version: self.high_water, time: now }
    }

    /// Was one of `targets` purged after `read`, or is it in doubt?
    pub fn check_validity(&self, read: &ReadVersion, targets: &[TargetId]) -> Validity {
        if read.epoch != self.epoch || read.epoch == Epoch::NONE {
            return Validity::Dead;
        }
        if self.has_other_rules(targets) {
            return Validity::Dead;
        }
        if !self.pending.is_empty() && self.reached_by(targets).any(|id| self.pending.contains_key(id)) {
            return Validity::Dead;
        }
        if self.folded_rules.version > read.version || self.folded_rules.until > read.time {
            return Validity::Dead;
        }
        let mut soft_purged: Option<PurgeVersion> = None;
        for id in self.reached_by(targets) {
            let record = self.records.get(id).copied().unwrap_or_default();
            if record.hard > read.version
                || self.folded_after(id, read.version).is_some()
                || self.doubted_until(id, record) > read.time
            {
                return Validity::Dead;
            }
            if record.soft > read.version {
                soft_purged = Some(soft_purged.map_or(record.soft, |first| first.min(record.soft)));
            }
        }
        match soft_purged {
            Some(PurgeVersion(at)) => Validity::Stale { since: Timestamp::from_micros(at) },
            None => Validity::Valid,
        }
    }

    /// The last purge after `read` that names one of `targets`, or the end of its doubt, as far as it is on record.
    pub(crate) fn last_purge(
        &self,
        read: &ReadVersion,
        targets: &[TargetId],
    ) -> Option<(TargetId, PurgeVersion)> {
        let last = |id: &TargetId| {
            let record = self.records.get(id).copied().unwrap_or_default();
            let until = self.doubted_until(id, record);
            let doubted = if until > read.time { PurgeVersion(until.as_micros()) } else { PurgeVersion(0) };
            let folded = self.folded_after(id, read.version).unwrap_or_default();
            record.latest_version().max(folded).max(doubted)
        };
        let reached = self.reached_by(targets);
        let purged = reached.map(|id| (*id, last(id))).filter(|(_, at)| *at > read.version);
        purged.max_by_key(|(_, at)| *at)
    }

    /// Whether a purge after `read` names one of `targets`. A doubt counts as the purge that left it, and not until its end.
    pub fn was_purged_since(&self, read: &ReadVersion, targets: &[TargetId]) -> bool {
        let is_later = |id: &TargetId| {
            let record = self.records.get(id).copied().unwrap_or_default();
            record.latest_version() > read.version || self.folded_after(id, read.version).is_some()
        };
        read.epoch != Epoch::NONE
            && (read.epoch != self.epoch
                || self.folded_rules.version > read.version
                || (self.high_water > read.version && self.reached_by(targets).any(is_later)))
    }

    /// Whether nothing at all was purged after `read`, nor is in doubt then.
    pub fn is_unpurged_since(&self, read: &ReadVersion) -> bool {
        read.epoch == self.epoch
            && read.epoch != Epoch::NONE
            && self.high_water <= read.version
            && self.latest_doubt() <= read.time
            && self.pending.is_empty()
    }

    /// When the last doubt of all ends, those of writes under way with it.
    pub(crate) fn latest_doubt(&self) -> Timestamp {
        self.latest_doubt.max(self.intents.latest())
    }

    /// Whether a response with these targets is stored under other rules than those in use.
    pub(crate) fn has_other_rules(&self, targets: &[TargetId]) -> bool {
        self.rules.is_some_and(|rules| !targets.contains(&rules))
    }

    /// The ids whose purges reach a response with these targets: those of its own that are no rules, and all other rules.
    fn reached_by<'a>(&'a self, targets: &'a [TargetId]) -> impl Iterator<Item = &'a TargetId> {
        let others = self.rules_of_purges.iter().filter(|id| !targets.contains(id));
        targets.iter().filter(|id| !id.is_rules()).chain(others)
    }

    /// Notes the rules of a purge, and folds those with the oldest purge if there are too many.
    fn notice_rules(&mut self, id: &TargetId) {
        if !id.is_rules() || !self.rules_of_purges.insert(*id) || self.rules_of_purges.len() <= MAX_RULES {
            return;
        }
        let is_settled = |id: &&TargetId| !self.pending.contains_key(id) && !self.intents.names(id);
        let record = |id: &TargetId| self.records.get(id).copied().unwrap_or_default();
        let settled = self.rules_of_purges.iter().filter(is_settled);
        let Some(oldest) = settled.min_by_key(|id| record(id).latest_version()).copied() else { return };
        let record = record(&oldest);
        self.fold(&oldest, record.latest_version(), record.until);
        self.rules_of_purges.remove(&oldest);
        self.records.remove(&oldest);
        self.order.remove(&(record.latest_version(), oldest));
    }

    fn insert_record(&mut self, id: TargetId, version: PurgeVersion, mode: PurgeMode, until: Timestamp) {
        let record = self.records.entry(id).or_default();
        let before = record.latest_version();
        match mode {
            PurgeMode::Hard => record.hard = record.hard.max(version),
            PurgeMode::Soft => record.soft = record.soft.max(version),
        }
        record.until = record.until.max(until);
        self.latest_doubt = self.latest_doubt.max(until);
        let after = record.latest_version();
        if after != before {
            self.order.remove(&(before, id));
            self.order.insert((after, id));
        }
        self.notice_rules(&id);
    }

    /// Drops records that outlived every response, and folds the oldest while there are too many.
    fn evict_old_records(&mut self, now: Timestamp, at_most: usize) {
        let outlived = now.minus(self.bounds.max_lifetime);
        for _ in 0..at_most {
            if self.evict_intent(now) {
                continue;
            }
            let Some(&(version, id)) = self.order.first() else { return };
            let until = self.records.get(&id).map(|record| record.until).unwrap_or_default();
            let is_outlived = version.0 < outlived.as_micros() && until < outlived;
            if !is_outlived && self.records.len() <= self.bounds.max_records {
                return;
            }
            self.order.remove(&(version, id));
            if !is_outlived {
                // These reach all responses: were they folded, later purges beside them would take all.
                if id == Target::Everything.id() || id.is_rules() {
                    continue;
                }
                self.fold(&id, version, until);
            }
            self.records.remove(&id);
        }
    }

    /// An intent that has expired becomes a purge with that date; one too many is folded.
    fn evict_intent(&mut self, now: Timestamp) -> bool {
        let Some((until, id)) = self.intents.first() else { return false };
        if until > now && self.intents.len() <= self.bounds.max_records {
            return false;
        }
        let Some(intent) = self.intents.remove(id) else { return false };
        for target in &intent.targets {
            match until > now {
                true => self.fold(target, intent.version, until),
                false => self.insert_record(*target, intent.version, PurgeMode::Hard, until),
            }
        }
        true
    }

    /// A soft purge is folded as a hard one: a fetch too many, never a stale answer.
    fn fold(&mut self, id: &TargetId, version: PurgeVersion, until: Timestamp) {
        if id.is_rules() {
            let Bucket { version: before, until: doubted } = self.folded_rules;
            self.folded_rules = Bucket { version: version.max(before), until: until.max(doubted) };
            self.latest_doubt = self.latest_doubt.max(until);
            return;
        }
        self.folded_purges.insert(id, version);
        if until > Timestamp::default() {
            self.latest_doubt = self.latest_doubt.max(until);
            self.folded_doubts.insert(id, until);
        }
    }

    fn raise_bucket(&mut self, bucket: u16, version: PurgeVersion, until: Timestamp) {
        if self.buckets.is_empty() {
            self.buckets = vec![Bucket::default(); BUCKET_COUNT];
        }
        let bucket = &mut self.buckets[usize::from(bucket)];
        bucket.version = version.max(bucket.version);
        bucket.until = until.max(bucket.until);
        self.latest_doubt = self.latest_doubt.max(until);
    }

    fn bucket(&self, id: &TargetId) -> Bucket {
        self.buckets.get(usize::from(bucket_index(id))).copied().unwrap_or_default()
    }

    /// The version after `floor` of a folded purge that may name the target.
    fn folded_after(&self, id: &TargetId, floor: PurgeVersion) -> Option<PurgeVersion> {
        let bucket = Some(self.bucket(id).version).filter(|version| *version > floor);
        bucket.max(self.folded_purges.latest_after(id, floor))
    }

    fn doubted_until(&self, id: &TargetId, record: TargetRecord) -> Timestamp {
        let folded = self.folded_doubts.latest_after(id, record.until).unwrap_or_default();
        record.until.max(self.bucket(id).until).max(folded).max(self.intents.latest_until(id))
    }
}

fn bucket_index(id: &TargetId) -> u16 {
    u16::from_le_bytes([id.0[0], id.0[1]])
}

#[cfg(test)]
mod tests;
