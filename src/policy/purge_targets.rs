//! The targets of a write or an event: distinct, in the order of their naming, each with how it is purged.

use std::time::Duration;

use indexmap::IndexMap;
use indexmap::map::Entry;

use super::template::Template;
use crate::purge::{PurgeMode, Target};

/// One entry of a route's `purges` or of an event source's `purge`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRule {
    /// Renders the target.
    pub template: Template,
    /// How it is purged.
    pub options: PurgeOptions,
    /// The tags to purge if a value is missing or unusable, or if there are too many.
    pub(crate) otherwise: Vec<String>,
}

/// How a target is purged. The default: hard and at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeOptions {
    /// Mark responses stale instead of dropping them.
    pub soft: bool,
    /// The minimum time between two purges of the target; zero: none.
    pub at_most_every: Duration,
}

/// Why a target is purged, the most specific reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TargetOrigin {
    /// The URL of the write.
    Url,
    /// A tag or URL that the exchange names in full.
    Named,
    /// All that lies below the URL of the write.
    Below,
    /// The stand-in for a tag that the exchange does not name.
    Widened,
}

/// Distinct targets in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PurgeTargets {
    targets: IndexMap<Target, (TargetOrigin, PurgeOptions)>,
}

impl From<Template> for PurgeRule {
    fn from(template: Template) -> Self {
        Self { template, options: PurgeOptions::default(), otherwise: Vec::new() }
    }
}

impl TargetOrigin {
    /// Whether the target is named for itself, and not for all that it has in it.
    pub(crate) fn is_exact(self) -> bool {
        matches!(self, Self::Url | Self::Named)
    }
}

impl PurgeOptions {
    pub(crate) fn mode(self) -> PurgeMode {
        if self.soft { PurgeMode::Soft } else { PurgeMode::Hard }
    }

    /// The options of a target that is named twice.
    fn stricter(self, other: Self) -> Self {
        Self { soft: self.soft && other.soft, at_most_every: self.at_most_every.min(other.at_most_every) }
    }
}

impl PurgeTargets {
    /// Adds a target. If it is present already, the more specific origin and the stricter options hold.
    pub(crate) fn insert(&mut self, target: Target, origin: TargetOrigin, options: PurgeOptions) {
        match self.targets.entry(target) {
            Entry::Vacant(entry) => {
                entry.insert((origin, options));
            }
            Entry::Occupied(mut entry) => {
                let (present_origin, present_options) = *entry.get();
                entry.insert((present_origin.min(origin), present_options.stricter(options)));
            }
        }
    }

    pub(crate) fn insert_url(&mut self, target: Target) {
        self.insert(target, TargetOrigin::Url, PurgeOptions::default());
    }

    pub(crate) fn insert_named(&mut self, target: Target) {
        self.insert(target, TargetOrigin::Named, PurgeOptions::default());
    }

    pub(crate) fn insert_below(&mut self, target: Target) {
        self.insert(target, TargetOrigin::Below, PurgeOptions::default());
    }

    pub(crate) fn insert_widened(&mut self, target: Target) {
        self.insert(target, TargetOrigin::Widened, PurgeOptions::default());
    }

    /// Adds the targets of `other`.
    pub fn extend(&mut self, other: Self) {
        for (target, (origin, options)) in other.targets {
            self.insert(target, origin, options);
        }
    }

    pub(crate) fn retain_origins(&mut self, origins: impl Fn(TargetOrigin) -> bool) {
        self.targets.retain(|_, (origin, _)| origins(*origin));
    }

    pub(crate) fn have_origins(&self, origins: impl Fn(TargetOrigin) -> bool) -> bool {
        self.targets.values().all(|(origin, _)| origins(*origin))
    }

    /// Whether there is no target.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The number of targets.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// The targets, without how they are purged.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.targets.keys()
    }

    /// Whether all are purged at once, and leave nothing to be served stale.
    pub(crate) fn are_hard_and_at_once(&self) -> bool {
        self.targets.values().all(|(_, options)| *options == PurgeOptions::default())
    }

    /// The targets, for a purge.
    pub fn to_vec(&self) -> Vec<Target> {
        self.targets.keys().cloned().collect()
    }

    pub(crate) fn into_entries(self) -> impl Iterator<Item = (Target, PurgeOptions)> {
        self.targets.into_iter().map(|(target, (_, options))| (target, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_named_twice_is_purged_by_the_stricter_options() {
        let lazy = PurgeOptions { soft: true, at_most_every: Duration::from_secs(30) };
        let mut targets = PurgeTargets::default();
        targets.insert(Target::tag("a"), TargetOrigin::Widened, lazy);
        targets.insert(Target::tag("b"), TargetOrigin::Named, lazy);
        targets.insert_named(Target::tag("a"));
        assert_eq!(targets.to_vec(), [Target::tag("a"), Target::tag("b")]);
        let mut named = targets.clone();
        named.retain_origins(|origin| origin != TargetOrigin::Widened);
        assert_eq!(named, targets);
        let options: Vec<_> = targets.into_entries().map(|(_, options)| options).collect();
        assert_eq!(options, [PurgeOptions::default(), lazy]);
    }
}
