//! Background requests: scheduled warming, on-demand warming and refreshing, and re-fetching after a purge, under one
//! budget.
//!
//! Each request takes a client's path (`proxy::internal_request`), so it never stores what a client's request could
//! not. Only entries known to this replica are considered, never those in Redis alone.

mod audit;
mod budget;
mod list;
mod on_demand;
mod refresh;
mod runs;
mod schedule;
mod tally;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use tokio::task::JoinSet;

pub(crate) use on_demand::{ActiveRun, WarmRequest, WarmResult};
pub(crate) use refresh::RefreshRequest;
pub(crate) use tally::Tally;

use crate::metrics::BackgroundKind;
use crate::policy::secret_parameters::mask_parameters;
use crate::proxy::{RefreshOutcome, RefreshPolicy, SharedProxy, WorkerHandle};
use crate::stored_response::SampleRequest;
use budget::Budget;
use refresh::ReprimeState;
use runs::Runs;

/// Interval between checks of the schedule.
const TICK: Duration = Duration::from_millis(250);

pub(crate) struct Warming {
    live: SharedProxy,
    handle: Arc<WorkerHandle>,
    budget: Budget,
    runs: Mutex<Runs>,
    reprime_state: ReprimeState,
}

/// Running totals of a run, shared with its report.
pub(crate) type SharedTally = Arc<Mutex<Tally>>;

impl Warming {
    /// Call it on the thread that will run the requests.
    pub(crate) fn new(live: SharedProxy) -> Arc<Self> {
        let handle = WorkerHandle::new(live.clone());
        Arc::new(Self {
            live,
            handle,
            budget: Budget::default(),
            runs: Mutex::default(),
            reprime_state: ReprimeState::default(),
        })
    }

    /// Sends all requests as fast as the budget allows, until shutdown.
    async fn run_all(
        self: &Arc<Self>,
        kind: BackgroundKind,
        requests: Vec<SampleRequest>,
        policy: RefreshPolicy,
        progress: SharedTally,
    ) {
        let mut in_flight = JoinSet::new();
        for sample in requests {
            while in_flight.len() >= self.live.load().config.background.concurrency {
                in_flight.join_next().await;
            }
            if self.live.load().tasks.is_closed() {
                break;
            }
            let (warming, progress) = (self.clone(), progress.clone());
            in_flight.spawn(async move {
                let outcome = warming.run_one(kind, &sample, policy).await;
                progress.lock().add(&outcome);
            });
        }
        while in_flight.join_next().await.is_some() {}
    }

    async fn run_one(
        &self,
        kind: BackgroundKind,
        sample: &SampleRequest,
        policy: RefreshPolicy,
    ) -> RefreshOutcome {
        let mut permit = self.budget.acquire(&self.handle, &self.live).await;
        let worker = self.handle.worker().clone();
        let outcome = worker.refresh(sample, policy).await;
        if !matches!(
            outcome,
            RefreshOutcome::Fetched | RefreshOutcome::NotStored(_) | RefreshOutcome::Failed(_)
        ) {
            permit.refund();
        }
        let uri = sample.uri.to_string();
        let uri = mask_parameters(&uri);
        match &outcome {
            RefreshOutcome::Failed(error) => {
                tracing::warn!(%uri, kind = kind.as_str(), error, "background request failed")
            }
            RefreshOutcome::NotStored(reason) | RefreshOutcome::Refused(reason) => {
                tracing::info!(%uri, kind = kind.as_str(), reason, "background response not cacheable");
            }
            RefreshOutcome::Fetched | RefreshOutcome::Fresh => {
                tracing::debug!(%uri, kind = kind.as_str(), result = outcome.as_str(), "background request done");
            }
        }
        self.live.load().metrics.record_background(kind, outcome.as_str());
        outcome
    }

    /// Adds the configured fields that the request does not set itself.
    fn with_configured_headers(&self, mut headers: HeaderMap) -> HeaderMap {
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

    fn lock_runs(&self) -> parking_lot::MutexGuard<'_, Runs> {
        self.runs.lock()
    }
}
