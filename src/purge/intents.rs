//! Writes under way, by id and by target.

use std::collections::{BTreeSet, HashMap};

use super::{IntentId, PurgeVersion, TargetId};
use crate::clock::Timestamp;

#[derive(Debug, Default)]
pub(super) struct Intents {
    by_id: HashMap<IntentId, Intent>,
    by_target: HashMap<TargetId, Vec<IntentId>>,
    by_date: BTreeSet<(Timestamp, IntentId)>,
    /// Pairs of an intent and a target.
    pairs: usize,
}

#[derive(Debug)]
pub(super) struct Intent {
    pub version: PurgeVersion,
    pub until: Timestamp,
    pub targets: Vec<TargetId>,
}

impl Intents {
    /// How many targets are named, each as often as intents name it.
    pub(super) fn len(&self) -> usize {
        self.pairs
    }

    /// Adds a target, and moves the date of the intent if it is later than before.
    pub(super) fn add(&mut self, id: IntentId, target: TargetId, version: PurgeVersion, until: Timestamp) {
        let intent = self.by_id.entry(id).or_insert_with(|| Intent { version, until, targets: Vec::new() });
        self.by_date.remove(&(intent.until, id));
        intent.until = intent.until.max(until);
        intent.version = intent.version.max(version);
        self.by_date.insert((intent.until, id));
        let ids = self.by_target.entry(target).or_default();
        if !ids.contains(&id) {
            ids.push(id);
            intent.targets.push(target);
            self.pairs += 1;
        }
    }

    pub(super) fn remove(&mut self, id: IntentId) -> Option<Intent> {
        let intent = self.by_id.remove(&id)?;
        self.by_date.remove(&(intent.until, id));
        self.pairs -= intent.targets.len();
        for target in &intent.targets {
            if let Some(ids) = self.by_target.get_mut(target) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_target.remove(target);
                }
            }
        }
        Some(intent)
    }

    /// Whether an intent names the target.
    pub(super) fn names(&self, target: &TargetId) -> bool {
        self.by_target.contains_key(target)
    }

    /// The intent that expires first.
    pub(super) fn first(&self) -> Option<(Timestamp, IntentId)> {
        self.by_date.first().copied()
    }

    /// When the last of all intents expires.
    pub(super) fn latest(&self) -> Timestamp {
        self.by_date.last().map(|(until, _)| *until).unwrap_or_default()
    }

    /// When the last of those that name `target` expires; [`Timestamp::default`] if none does.
    pub(super) fn latest_until(&self, target: &TargetId) -> Timestamp {
        let ids = self.by_target.get(target).into_iter().flatten();
        ids.filter_map(|id| self.by_id.get(id)).map(|intent| intent.until).max().unwrap_or_default()
    }
}
