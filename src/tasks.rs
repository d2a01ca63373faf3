//! Spawns tasks. In a simulation a host polls them, which may stop all tasks of a process for a while or for good.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A simulated process.
pub trait TaskHost: Send + Sync {
    /// Polls a task, unless the process stands still. Then it wakes the task when the process goes on.
    fn poll(&self, context: &mut Context<'_>, task: &mut dyn FnMut(&mut Context<'_>));
}

static SIMULATED: OnceLock<fn() -> Arc<dyn TaskHost>> = OnceLock::new();

/// Has all tasks of this process polled by the host that `current` returns when they are spawned.
pub fn simulate_tasks(current: fn() -> Arc<dyn TaskHost>) {
    SIMULATED.get_or_init(|| current);
}

/// Spawns a task on the current runtime.
pub fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match SIMULATED.get() {
        None => tokio::spawn(task),
        Some(current) => tokio::spawn(Hosted { host: current(), task: Box::pin(task) }),
    }
}

/// Waits for tasks for up to `within`, and ends those that run on.
pub(crate) async fn end_within(mut running: Vec<JoinHandle<()>>, within: Duration) {
    let ended = async {
        for task in &mut running {
            _ = task.await;
        }
    };
    if timeout(within, ended).await.is_err() {
        running.iter().for_each(JoinHandle::abort);
    }
}

struct Hosted<F> {
    host: Arc<dyn TaskHost>,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Hosted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { host, task } = self.get_mut();
        let mut polled = Poll::Pending;
        host.poll(context, &mut |context| polled = task.as_mut().poll(context));
        polled
    }
}
