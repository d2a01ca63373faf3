//! Request coalescing: collects items of one runtime that are ready at the same time, to be sent as one command.
//!
//! Batches are per runtime, so per worker thread: waking a task from its own thread is nearly free, from another thread
//! it takes a system call.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Handle, Id};
use tokio::task::yield_now;

/// The open batches, one for each runtime with waiting items.
pub(super) struct Batcher<T>(Mutex<Vec<(Id, Vec<T>)>>);

/// The open batch of one runtime. Dropping it drops the items that are still in it.
pub(super) struct OpenBatch<T> {
    batcher: Arc<Batcher<T>>,
    runtime: Id,
    is_open: bool,
}

/// Maximum number of yields while a batch is still growing.
const MAX_FILL_YIELDS: usize = 8;

impl<T> Default for Batcher<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Batcher<T> {
    /// Adds an item. `Some`: it is the first of a new batch, and the caller must process the batch.
    pub(super) fn join(self: &Arc<Self>, one: T) -> Option<OpenBatch<T>> {
        let of = Handle::current().id();
        let mut groups = self.lock();
        if let Some((_, group)) = groups.iter_mut().find(|(its, _)| *its == of) {
            group.push(one);
            return None;
        }
        groups.push((of, vec![one]));
        Some(OpenBatch { batcher: self.clone(), runtime: of, is_open: true })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Id, Vec<T>)>> {
        self.0.lock()
    }
}

impl<T> OpenBatch<T> {
    /// Yields to other ready tasks of this thread while they add items.
    pub(super) async fn fill(&self) {
        let mut before = 0;
        for _ in 0..MAX_FILL_YIELDS {
            let present = self.len();
            if present <= before {
                return;
            }
            before = present;
            yield_now().await;
        }
    }

    fn len(&self) -> usize {
        let groups = self.batcher.lock();
        groups.iter().find(|(its, _)| *its == self.runtime).map_or(0, |(_, group)| group.len())
    }

    /// Closes the batch and returns its items. The next item opens another.
    pub(super) fn close(mut self) -> Vec<T> {
        self.take()
    }

    /// Removes the items that match `should_leave`. Closes the batch if none is left, which the flag says.
    pub(super) fn drain_where(&mut self, should_leave: impl FnMut(&mut T) -> bool) -> (Vec<T>, bool) {
        let mut groups = self.batcher.lock();
        let Some(at) = groups.iter().position(|(its, _)| *its == self.runtime) else {
            return (Vec::new(), true);
        };
        let gone = groups[at].1.extract_if(.., should_leave).collect();
        let is_empty = groups[at].1.is_empty();
        if is_empty {
            groups.swap_remove(at);
            self.is_open = false;
        }
        (gone, is_empty)
    }

    fn take(&mut self) -> Vec<T> {
        self.is_open = false;
        let mut groups = self.batcher.lock();
        let at = groups.iter().position(|(its, _)| *its == self.runtime);
        at.map(|at| groups.swap_remove(at).1).unwrap_or_default()
    }
}

impl<T> Drop for OpenBatch<T> {
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
    fn each_runtime_has_a_batch_of_its_own() {
        let gathering = Arc::new(Batcher::default());
        let runtimes =
            [(); 2].map(|()| tokio::runtime::Builder::new_current_thread().build().expect("a runtime"));
        let groups: Vec<_> = runtimes
            .iter()
            .enumerate()
            .map(|(number, runtime)| {
                let group = runtime.block_on(async { gathering.join(number) }).expect("the first");
                assert!(runtime.block_on(async { gathering.join(10 + number) }).is_none());
                group
            })
            .collect();
        let all: Vec<_> = groups.into_iter().map(OpenBatch::close).collect();
        assert_eq!(all, [[0, 10], [1, 11]]);
    }

    #[tokio::test]
    async fn items_that_stay_are_joined_by_later_ones() {
        let gathering = Arc::new(Batcher::default());
        let mut group = gathering.join(1).expect("the first");
        assert!(gathering.join(2).is_none() && gathering.join(3).is_none());
        assert_eq!(group.drain_where(|number| *number == 2), (vec![2], false));
        assert!(gathering.join(4).is_none());
        assert_eq!(group.drain_where(|_| true), (vec![1, 3, 4], true));
        assert!(gathering.join(5).is_some());
    }

    #[tokio::test]
    async fn dropping_a_batch_drops_its_items() {
        let gathering = Arc::new(Batcher::default());
        let ((one, mut hears), (other, mut hears_too)) = (oneshot::channel::<()>(), oneshot::channel());
        let group = gathering.join(one);
        assert!(gathering.join(other).is_none());
        drop(group);
        for hears in [&mut hears, &mut hears_too] {
            assert_eq!(hears.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        }
        assert!(gathering.join(oneshot::channel().0).is_some());
    }
}
