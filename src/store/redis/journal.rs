//! Purges that Redis has not taken. Until it has, what they name is valid nowhere in this replica.
//!
//! It is bounded: beyond that, everything is named.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::purge::{NAMED, Target, TargetId, View};

const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub struct Journal(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    targets: HashSet<TargetId>,
    /// The first of them as text, for people.
    named: Vec<String>,
    in_doubt_for: Duration,
    /// How many are on their way to Redis.
    taken: usize,
}

/// What is to be appended now.
#[derive(Debug)]
pub struct Batch {
    pub targets: Vec<TargetId>,
    pub named: Vec<String>,
    pub in_doubt_for: Duration,
}

impl Journal {
    /// How many targets wait.
    pub fn len(&self) -> usize {
        let waiting = self.waiting();
        waiting.targets.len() + waiting.taken
    }

    /// When this returns, nothing that the targets name is valid in `view`.
    pub fn add(&self, targets: &[TargetId], in_doubt_for: Duration, view: &View) {
        let mut waiting = self.waiting();
        waiting.in_doubt_for = waiting.in_doubt_for.max(in_doubt_for);
        let everything = Target::Everything.id();
        let new: Vec<TargetId> = if waiting.targets.contains(&everything) {
            Vec::new()
        } else if waiting.targets.len() + targets.len() > MOST {
            vec![everything]
        } else {
            targets.iter().copied().filter(|id| waiting.targets.insert(*id)).collect()
        };
        view.change(|index| index.unsettle(&new));
        if new == [everything] {
            let named: Vec<TargetId> = waiting.targets.drain().filter(|id| *id != everything).collect();
            view.change(|index| index.settle(&named));
            waiting.targets.insert(everything);
        }
    }

    /// Says for people what was added.
    pub fn name(&self, targets: Vec<String>) {
        let named = &mut self.waiting().named;
        named.extend(targets);
        named.truncate(NAMED);
    }

    /// What waits; it goes back by [`Journal::put_back`], or is [`Journal::settle`]d.
    pub fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting();
        if waiting.targets.is_empty() {
            return None;
        }
        let Waiting { targets, named, in_doubt_for, .. } = std::mem::take(&mut *waiting);
        waiting.taken = targets.len();
        Some(Batch { targets: targets.into_iter().collect(), named, in_doubt_for })
    }

    pub fn put_back(&self, batch: &Batch, view: &View) {
        self.add(&batch.targets, batch.in_doubt_for, view);
        self.name(batch.named.clone());
        // Named twice meanwhile: by what was taken, and by what waits.
        self.settle(batch, view);
    }

    /// Redis has it, and so has the view.
    pub fn settle(&self, batch: &Batch, view: &View) {
        self.waiting().taken = 0;
        view.change(|index| index.settle(&batch.targets));
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::purge::{Bounds, Incarnation, Index, Validity};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn view() -> View {
        View::new(Index::new(Incarnation(1), NOW, Bounds::default()))
    }

    fn id(name: &str) -> TargetId {
        Target::tag(name).id()
    }

    fn is_valid(view: &View, names: &[&str]) -> bool {
        let mut targets: Vec<TargetId> = names.iter().map(|name| id(name)).collect();
        targets.push(Target::Everything.id());
        view.judge(&view.stamp(NOW), &targets) == Validity::Valid
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
        journal.settle(&batch, &view);
        assert_eq!((is_valid(&view, &["a"]), is_valid(&view, &["b"])), (false, true));
        let batch = journal.take().unwrap();
        assert_eq!(batch.in_doubt_for, Duration::from_secs(1));
        journal.put_back(&batch, &view);
        assert!(!is_valid(&view, &["a"]));
        journal.settle(&journal.take().unwrap(), &view);
        assert!(is_valid(&view, &["a"]));
        assert!(journal.take().is_none());
    }

    #[test]
    fn when_it_is_full_it_names_everything() {
        let (view, journal) = (view(), Journal::default());
        for number in 0..=MOST {
            journal.add(&[id(&number.to_string())], Duration::ZERO, &view);
        }
        assert_eq!(journal.len(), 1);
        assert!(!is_valid(&view, &["untouched"]));
        journal.add(&[id("more")], Duration::ZERO, &view);
        let batch = journal.take().unwrap();
        assert_eq!(batch.targets, [Target::Everything.id()]);
        journal.settle(&batch, &view);
        assert!(is_valid(&view, &["untouched", "more", "7"]));
    }
}
