//! What the requests of one runtime want at the same time, so that it is asked for together. Never waits for a reply.
//!
//! By runtime, each worker's own, because whoever is told by a task of its own thread is woken for next to nothing; from
//! another thread, it takes the kernel.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio::task::yield_now;

/// In groups, one of each runtime with somebody waiting.
pub struct Gathering<T>(Mutex<Vec<(Id, Vec<T>)>>);

/// The group of one runtime. Who drops it lets everybody go who is still in it.
pub struct Group<T> {
    all: Arc<Gathering<T>>,
    of: Id,
    is_open: bool,
}

/// So often, whoever is ready to run is let go first, as long as more come.
const MOST_TURNS: usize = 8;

impl<T> Default for Gathering<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Gathering<T> {
    /// `Some`: it is the first of its group, and whoever added it sees to all that come.
    pub fn add(self: &Arc<Self>, one: T) -> Option<Group<T>> {
        let of = Handle::current().id();
        let mut groups = self.lock();
        if let Some((_, group)) = groups.iter_mut().find(|(its, _)| *its == of) {
            group.push(one);
            return None;
        }
        groups.push((of, vec![one]));
        Some(Group { all: self.clone(), of, is_open: true })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Vec<T>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Group<T> {
    /// Lets everyone on this thread go first who is ready to run, and may want the same.
    pub async fn grow(&self) {
        let mut before = 0;
        for _ in 0..MOST_TURNS {
            let present = self.len();
            if present <= before {
                return;
            }
            before = present;
            yield_now().await;
        }
    }

    fn len(&self) -> usize {
        let groups = self.all.lock();
        groups.iter().find(|(its, _)| *its == self.of).map_or(0, |(_, group)| group.len())
    }

    /// All of it. Who comes later is the first of another.
    pub fn close(mut self) -> Vec<T> {
        self.take()
    }

    /// Those of whom `goes` says so, and whether nobody is left: then who comes later is the first of another.
    pub fn release(&mut self, goes: impl FnMut(&mut T) -> bool) -> (Vec<T>, bool) {
        let mut groups = self.all.lock();
        let Some(at) = groups.iter().position(|(its, _)| *its == self.of) else { return (Vec::new(), true) };
        let gone = groups[at].1.extract_if(.., goes).collect();
        let is_empty = groups[at].1.is_empty();
        if is_empty {
            groups.swap_remove(at);
            self.is_open = false;
        }
        (gone, is_empty)
    }

    fn take(&mut self) -> Vec<T> {
        self.is_open = false;
        let mut groups = self.all.lock();
        let at = groups.iter().position(|(its, _)| *its == self.of);
        at.map(|at| groups.swap_remove(at).1).unwrap_or_default()
    }
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        if self.is_open {
            drop(self.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn each_runtime_has_a_group_of_its_own() {
        let gathering = Arc::new(Gathering::default());
        let runtimes =
            [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
        let groups: Vec<_> = runtimes
            .iter()
            .enumerate()
            .map(|(number, runtime)| {
                let group = runtime.block_on(async { gathering.add(number) }).expect("the first");
                assert!(runtime.block_on(async { gathering.add(10 + number) }).is_none());
                group
            })
            .collect();
        let all: Vec<_> = groups.into_iter().map(Group::close).collect();
        assert_eq!(all, [[0, 10], [1, 11]]);
    }

    #[tokio::test]
    async fn who_is_not_let_go_stays_and_whoever_comes_joins() {
        let gathering = Arc::new(Gathering::default());
        let mut group = gathering.add(1).expect("the first");
        assert!(gathering.add(2).is_none() && gathering.add(3).is_none());
        assert_eq!(group.release(|number| *number == 2), (vec![2], false));
        assert!(gathering.add(4).is_none());
        assert_eq!(group.release(|_| true), (vec![1, 3, 4], true));
        assert!(gathering.add(5).is_some());
    }

    #[tokio::test]
    async fn a_group_that_nobody_sees_to_any_more_lets_everybody_go() {
        let gathering = Arc::new(Gathering::default());
        let ((one, mut hears), (other, mut hears_too)) = (oneshot::channel::<()>(), oneshot::channel());
        let group = gathering.add(one);
        assert!(gathering.add(other).is_none());
        drop(group);
        for hears in [&mut hears, &mut hears_too] {
            assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
        assert!(gathering.add(oneshot::channel().0).is_some());
    }
}
