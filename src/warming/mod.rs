//! ASKS FIRST. What larder asks for before clients do: by the clock, on demand, and after a purge; all of it under one
//! budget.
//!
//! Each request goes the way of a client's (`proxy::errand`): it never stores what a client's could not. Only what this
//! replica knows is gone through, never what is in Redis.

mod budget;
mod on_demand;
mod refreshing;
mod running;
mod schedule;
mod tally;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::task::JoinSet;

pub use on_demand::{Report, Wanted, WarmRequest};
pub use refreshing::RefreshRequest;
pub use tally::Tally;

use crate::metrics::BackgroundKind;
use crate::proxy::{Carried, Desk, Errand, Live};
use crate::stored_response::Asked;
use budget::Budget;
use refreshing::Seen;
use running::Runs;

/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);

pub struct Warming {
    live: Live,
    desk: Arc<Desk>,
    budget: Budget,
    runs: Mutex<Runs>,
    seen: Seen,
}

/// What is done, as it stands.
pub type Progress = Arc<Mutex<Tally>>;

impl Warming {
    /// The desk is of the thread that this runs on.
    pub fn new(live: Live) -> Arc<Self> {
        let desk = Desk::new(live.clone());
        Arc::new(Self {
            live,
            desk,
            budget: Budget::default(),
            runs: Mutex::default(),
            seen: Seen::default(),
        })
    }

    /// Sends all of it, as fast as the budget allows, until larder stops.
    async fn carry_all(
        self: &Arc<Self>,
        kind: BackgroundKind,
        all: Vec<Asked>,
        errand: Errand,
        progress: Progress,
    ) {
        let mut under_way = JoinSet::new();
        for asked in all {
            while under_way.len() >= self.live.load().config.background.concurrency {
                under_way.join_next().await;
            }
            if self.live.load().tasks.is_closed() {
                break;
            }
            let (warming, progress) = (self.clone(), progress.clone());
            under_way.spawn(async move {
                let carried = warming.carry(kind, &asked, errand).await;
                locked(&progress).add(&carried);
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn carry(&self, kind: BackgroundKind, asked: &Asked, errand: Errand) -> Carried {
        let mut turn = self.budget.turn(&self.desk, &self.live).await;
        let worker = self.desk.worker().clone();
        let carried = worker.carry(asked, errand).await;
        if !matches!(carried, Carried::Fetched | Carried::NotStored(_) | Carried::Failed(_)) {
            turn.cost_nothing();
        }
        let uri = &asked.uri;
        match &carried {
            Carried::Failed(error) => {
                tracing::warn!(%uri, kind = kind.as_str(), error, "could not be fetched")
            }
            Carried::NotStored(reason) | Carried::Refused(reason) => {
                tracing::info!(%uri, kind = kind.as_str(), reason, "is not kept");
            }
            Carried::Fetched | Carried::Fresh => {
                tracing::debug!(%uri, kind = kind.as_str(), result = carried.as_str(), "is there");
            }
        }
        self.live.load().metrics.background(kind, carried.as_str());
        carried
    }

    /// The fields of a request: those of the configuration, where it has none of its own.
    fn with_configured(&self, mut headers: HeaderMap) -> HeaderMap {
        let config = &self.live.load().config;
        let background = &config.background;
        let is_named = headers.contains_key(http::header::HOST);
        let host = background.host.iter().filter(|_| !is_named);
        for (name, value) in background.headers.iter().chain(host) {
            if !headers.contains_key(name) {
                headers.insert(name.clone(), value.clone());
            }
        }
        headers
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, Runs> {
        locked(&self.runs)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
