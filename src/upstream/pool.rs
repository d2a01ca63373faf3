//! A worker's connections to the upstream over HTTP/1.1: those that idle wait here for their next request. How many may
//! be in use is bounded elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use super::connect::{BoxError, Connector};
use super::lane::Lane;

pub struct Pool {
    connector: Connector,
    /// Scheme and authority.
    to: Uri,
    idle_timeout: Duration,
    idle: Mutex<Idle>,
    /// Something happened on a connection that idles: mostly the upstream has closed it.
    stirred: Arc<Notify>,
}

#[derive(Default)]
struct Idle {
    /// The last one was used last.
    lanes: Vec<(Box<Lane>, Instant)>,
    is_watched: bool,
}

impl Pool {
    pub fn new(connector: Connector, to: Uri, idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self { connector, to, idle_timeout, idle: Mutex::default(), stirred: Arc::default() })
    }

    /// One that idled, if there is one.
    pub fn take(&self) -> Option<Box<Lane>> {
        loop {
            let (mut lane, since) = self.idle().lanes.pop()?;
            if since.elapsed() < self.idle_timeout && lane.rests() {
                return Some(lane);
            }
        }
    }

    pub async fn connect(&self) -> Result<Box<Lane>, BoxError> {
        let stream = self.connector.clone().call(self.to.clone()).await?;
        Ok(Box::new(Lane::new(stream, self.stirred.clone()).await?))
    }

    /// An exchange over it is over. If a part of the request is still on its way, that goes on by itself.
    fn give_back(self: &Arc<Self>, mut lane: Box<Lane>, is_clean: bool) {
        if lane.rests() {
            if is_clean {
                self.keep(lane);
            }
            return;
        }
        let pool = self.clone();
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                lane.rested().await;
                if is_clean && lane.rests() {
                    pool.keep(lane);
                }
            });
        }
    }

    fn keep(self: &Arc<Self>, lane: Box<Lane>) {
        let mut idle = self.idle();
        idle.lanes.push((lane, Instant::now()));
        if !idle.is_watched
            && let Ok(runtime) = Handle::try_current()
        {
            idle.is_watched = true;
            let (pool, stirred, often) = (Arc::downgrade(self), self.stirred.clone(), self.idle_timeout / 2);
            runtime.spawn(async move {
                loop {
                    _ = timeout(often, stirred.notified()).await;
                    let Some(pool) = pool.upgrade() else { return };
                    pool.sweep();
                }
            });
        }
    }

    /// Closes those that idled for long enough, and those that the upstream has closed.
    fn sweep(&self) {
        let mut idle = self.idle();
        idle.lanes.retain_mut(|(lane, since)| since.elapsed() < self.idle_timeout && lane.rests());
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stirred.notify_one();
    }
}

/// A connection whose answer is still being read. Whoever has it no longer gives it back.
pub struct Loan {
    lane: Option<Box<Lane>>,
    /// The whole request went out before its answer came. Else its rest is still to come, and an upstream that did not
    /// wait for it may take it for the next request: this was the last one.
    is_clean: bool,
    pool: Arc<Pool>,
}

impl Loan {
    pub fn new(lane: Box<Lane>, is_clean: bool, pool: Arc<Pool>) -> Self {
        Self { lane: Some(lane), is_clean, pool }
    }

    pub fn lane(&mut self) -> Option<&mut Lane> {
        self.lane.as_deref_mut()
    }

    /// The answer says that it becomes something else.
    pub fn upgrade(mut self) {
        if let Some(lane) = self.lane.take() {
            tokio::spawn(lane.upgraded());
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.pool.give_back(lane, self.is_clean);
        }
    }
}
