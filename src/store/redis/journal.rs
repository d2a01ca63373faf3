//! Purges that Redis has not taken. Until it has, what they name is valid nowhere in this replica.
//!
//! It is bounded: beyond that, everything is named.

use std::collections::BTreeSet;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::policy::purge_channels::MAX_CHANNELS;
use crate::purge::{MAX_NAMED_TARGETS, PurgeView, Target, TargetId};

/// More than one sender's budget of a minute. 5 MB, in the view as well.
const MAX_TARGETS: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<JournalState>);

#[derive(Debug, Default)]
struct JournalState {
    targets: BTreeSet<TargetId>,
    /// The first of them as text, for people.
    named: Vec<String>,
    /// The channels on which they are announced.
    channels: Vec<String>,
    in_doubt_for: Duration,
    /// How many are on their way to Redis.
    in_flight: usize,
}

/// The purges to append now.
#[derive(Debug)]
pub(super) struct JournalBatch {
    pub targets: Vec<TargetId>,
    pub named: Vec<String>,
    pub channels: Vec<String>,
    pub in_doubt_for: Duration,
}

impl Journal {
    /// How many targets wait.
    pub(super) fn len(&self) -> usize {
        let waiting = self.state();
        waiting.targets.len() + waiting.in_flight
    }

    /// When this returns, nothing that the targets name is valid in `view`.
    pub(super) fn add(&self, targets: &[TargetId], in_doubt_for: Duration, view: &PurgeView) {
        let mut waiting = self.state();
        waiting.in_doubt_for = waiting.in_doubt_for.max(in_doubt_for);
        let everything = Target::Everything.id();
        let new: Vec<TargetId> = if waiting.targets.contains(&everything) {
            Vec::new()
        } else if waiting.targets.len() + targets.len() > MAX_TARGETS {
            vec![everything]
        } else {
            targets.iter().copied().filter(|id| waiting.targets.insert(*id)).collect()
        };
        view.change(|index| index.add_pending(&new));
        if new == [everything] {
            let before = std::mem::take(&mut waiting.targets).into_iter();
            let named: Vec<TargetId> = before.filter(|id| *id != everything).collect();
            view.change(|index| index.clear_pending(&named));
            waiting.targets.insert(everything);
        }
    }

    /// Says what was added: to people, and on which channels.
    pub(super) fn add_names(&self, targets: Vec<String>, channels: Vec<String>) {
        let mut waiting = self.state();
        waiting.named.extend(targets);
        waiting.named.truncate(MAX_NAMED_TARGETS);
        for channel in channels {
            if waiting.channels.len() < MAX_CHANNELS && !waiting.channels.contains(&channel) {
                waiting.channels.push(channel);
            }
        }
    }

    /// Takes the waiting purges; they are returned by [`Journal::put_back`] or finished by [`Journal::settle`].
    pub(super) fn take(&self) -> Option<JournalBatch> {
        let mut waiting = self.state();
        if waiting.targets.is_empty() {
            return None;
        }
        let JournalState { targets, named, channels, in_doubt_for, .. } = std::mem::take(&mut *waiting);
        waiting.in_flight = targets.len();
        let mut targets: Vec<TargetId> = targets.into_iter().collect();
        targets.sort_unstable();
        Some(JournalBatch { targets, named, channels, in_doubt_for })
    }

    pub(super) fn put_back(&self, batch: &JournalBatch, view: &PurgeView) {
        self.add(&batch.targets, batch.in_doubt_for, view);
        self.add_names(batch.named.clone(), batch.channels.clone());
        // Named twice meanwhile: by what was taken, and by what waits.
        self.complete(batch, view);
    }

    /// Redis has it, and so has the view.
    pub(super) fn complete(&self, batch: &JournalBatch, view: &PurgeView) {
        self.state().in_flight = 0;
        view.change(|index| index.clear_pending(&batch.targets));
    }

    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::purge::{Epoch, Index, IndexBounds, Validity};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn view() -> PurgeView {
        PurgeView::new(Index::new(Epoch(1), NOW, IndexBounds::default()))
    }

    fn id(name: &str) -> TargetId {
        Target::tag(name).id()
    }

    fn is_valid(view: &PurgeView, names: &[&str]) -> bool {
        let mut targets: Vec<TargetId> = names.iter().map(|name| id(name)).collect();
        targets.push(Target::Everything.id());
        view.check_validity(&view.read_version(NOW), &targets) == Validity::Valid
    }

    #[test]
    fn what_waits_is_valid_nowhere_until_it_is_settled() {
        let (view, journal) = (view(), Journal::default());
        journal.add(&[id("a"), id("b")], Duration::ZERO, &view);
        assert_eq!((is_valid(&view, &["a"]), is_valid(&view, &["c"])), (false, true));
        let batch = journal.take().unwrap();
        assert_eq!((batch.targets.len(), journal.len()), (2, 2));
        assert!(!is_valid(&view, &["a"]));
        // Named again while it is being appended: what is settled is the first purge only.
        journal.add(&[id("a")], Duration::from_secs(1), &view);
        journal.complete(&batch, &view);
        assert_eq!((is_valid(&view, &["a"]), is_valid(&view, &["b"])), (false, true));
        let batch = journal.take().unwrap();
        assert_eq!(batch.in_doubt_for, Duration::from_secs(1));
        journal.put_back(&batch, &view);
        assert!(!is_valid(&view, &["a"]));
        journal.complete(&journal.take().unwrap(), &view);
        assert!(is_valid(&view, &["a"]));
        assert!(journal.take().is_none());
    }

    #[test]
    fn when_it_is_full_it_names_everything() {
        let (view, journal) = (view(), Journal::default());
        for number in 0..=MAX_TARGETS {
            journal.add(&[id(&number.to_string())], Duration::ZERO, &view);
        }
        assert_eq!(journal.len(), 1);
        assert!(!is_valid(&view, &["untouched"]));
        journal.add(&[id("more")], Duration::ZERO, &view);
        let batch = journal.take().unwrap();
        assert_eq!(batch.targets, [Target::Everything.id()]);
        journal.complete(&batch, &view);
        assert!(is_valid(&view, &["untouched", "more", "7"]));
    }
}
