//! The one way to purge: tells the store, counts, and logs. It never decides what to purge.

mod intent_guard;
mod literal_tags;
pub(crate) mod purge_wait;
mod report;
mod throttle;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use tracing::Instrument as _;

use crate::cdn::CdnRelay;
use crate::metrics::{Metrics, PurgeSource};
use crate::policy::Route;
use crate::policy::purge_scope::reached_routes;
use crate::policy::purge_targets::PurgeTargets;
use crate::policy::routes::Routes;
use crate::policy::secret_parameters::mask_parameters;
use crate::purge::{Purge, PurgeCause, PurgeIntent, PurgeVersion, Target, TargetId};
use crate::store::{Store, StoreError};
use crate::tasks::spawn;
pub use intent_guard::{GuardError, IntentGuard};
pub(crate) use throttle::{JoinedMark, PurgeThrottle};

/// Sends purges to the store.
#[derive(Clone)]
pub(crate) struct Purger {
    pub store: Arc<dyn Store>,
    pub metrics: Arc<Metrics>,
    pub routes: Arc<Routes>,
    /// The caches in front.
    pub cdn: Arc<CdnRelay>,
}

impl Purger {
    /// Purges, and returns when the store has acknowledged or rejected it. `route` is the one a write came in on.
    ///
    /// The purge continues if the returned future is dropped: a client that disconnects must not leave stale responses
    /// behind.
    pub(crate) async fn purge(
        &self,
        mut purge: Purge,
        source: PurgeSource,
        route: Option<&Arc<Route>>,
    ) -> Result<PurgeVersion, StoreError> {
        purge.rules = self.find_rules(&purge, source);
        purge.cause = Some(PurgeCause {
            source: source.as_str().to_owned(),
            route: route.map(|route| route.name.to_string()),
            ..purge.cause.take().unwrap_or_default()
        });
        let (purger, route) = (self.clone(), route.cloned());
        let purging = async move {
            let line = PurgeLogLine::new(&purge, source, route.as_deref());
            let reached = purger.reached_routes(&purge.targets);
            let relayed = purger.cdn.has_caches().then(|| purge.clone());
            let result = purger.store.purge(purge).await;
            // Behind it, so that what a cache fetches again is new; also if the store has not taken it yet.
            relayed.iter().for_each(|purge| purger.cdn.relay(purge));
            match &result {
                Ok(version) => {
                    purger.metrics.record_purge(source, &reached, line.targets);
                    line.write(*version);
                    purger.log_rejected(source);
                }
                Err(error) => line.write_failure(error, purger.metrics.record_purge_failure(source)),
            }
            result
        };
        spawn(purging.in_current_span())
            .await
            .unwrap_or_else(|stopped| Err(StoreError::PurgeRejected(stopped.to_string())))
    }

    /// The rules that rendered the targets. Operators name theirs, but for the query of a URL, which routes select.
    fn find_rules(&self, purge: &Purge, source: PurgeSource) -> Option<TargetId> {
        if purge.rules.is_some() {
            return purge.rules;
        }
        let has_query = purge.targets.iter().any(|target| matches!(target, Target::Url { .. }));
        match source {
            PurgeSource::Write | PurgeSource::Event => Some(self.routes.rules()),
            PurgeSource::PurgeMethod | PurgeSource::Admin => has_query.then(|| self.routes.query_rules()),
        }
    }

    /// Logs the rejected purges that no line has told of.
    fn log_rejected(&self, source: PurgeSource) {
        if let Some(failures) = self.metrics.take_unlogged_purge_failures(source) {
            tracing::error!(source = source.as_str(), failures, "not purged");
        }
    }

    fn reached_routes(&self, targets: &[Target]) -> Vec<usize> {
        reached_routes(&self.routes, targets).into_iter().map(|route| route.index).collect()
    }
}

/// The surroundings of a purge of several targets.
#[derive(Clone)]
pub(crate) struct PurgeContext {
    pub purger: Purger,
    pub source: PurgeSource,
    /// The route that a write came in by.
    pub route: Option<Arc<Route>>,
    pub cause: PurgeCause,
    /// How long after the purge nothing fetched from a lagging upstream replica is kept.
    pub settle: Duration,
}

/// The outcome of a purge of several targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// `None`: nothing was purged now.
    pub version: Option<PurgeVersion>,
    /// Some are purged at the end of a window (`at_most_every`).
    pub waits: bool,
}

/// Purges targets by their options: soft ones first, then the hard ones, which resolve `intent`. Targets with
/// `at_most_every` may wait in `throttle`.
///
/// # Errors
/// If the store did not take one of the purges.
pub(crate) async fn purge_targets(
    context: &PurgeContext,
    targets: PurgeTargets,
    intent: Option<PurgeIntent>,
    throttle: &Arc<PurgeThrottle>,
) -> Result<Purged, StoreError> {
    let (mut hard, mut soft, mut purged) = (Vec::new(), Vec::new(), Purged::default());
    for (target, options) in targets.into_entries() {
        if options.at_most_every.is_zero() || throttle.admit(&target, options, context) {
            if options.soft { soft.push(target) } else { hard.push(target) }
        } else {
            purged.waits = true;
        }
    }
    let (soft, hard) = (Purge::soft(soft), Purge { resolves: intent, ..Purge::hard(hard) });
    let mut outcome = Ok(());
    for named in [soft, hard] {
        if !named.targets.is_empty() || named.resolves.is_some() {
            let named = Purge { in_doubt_for: context.settle, cause: Some(context.cause.clone()), ..named };
            let route = context.route.as_ref();
            // One that the store does not take now waits there, and the other one must, too.
            match context.purger.purge(named, context.source, route).await {
                Ok(version) => purged.version = Some(version),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
    }
    outcome.map(|()| purged)
}

/// The request behind a purge, as the record of it names it.
pub(crate) fn describe_request(
    method: &Method,
    path: &str,
    from: Option<String>,
    headers: &HeaderMap,
) -> PurgeCause {
    let request_id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
    PurgeCause {
        method: Some(method.to_string()),
        path: Some(path.to_owned()),
        from,
        request_id: request_id.map(str::to_owned),
        ..PurgeCause::default()
    }
}

/// The log line of a purge.
struct PurgeLogLine {
    source: &'static str,
    /// The name of the event source.
    event_source: Option<String>,
    route: String,
    mode: &'static str,
    in_doubt_ms: u64,
    targets: usize,
    target_names: Vec<String>,
}

impl PurgeLogLine {
    fn new(purge: &Purge, source: PurgeSource, route: Option<&Route>) -> Self {
        Self {
            source: source.as_str(),
            event_source: purge
                .cause
                .as_ref()
                .filter(|_| source == PurgeSource::Event)
                .and_then(|cause| cause.from.clone()),
            route: route.map_or("none", |route| &route.name).to_string(),
            mode: purge.mode.as_str(),
            in_doubt_ms: u64::try_from(purge.in_doubt_for.as_millis()).unwrap_or(u64::MAX),
            targets: purge.targets.len(),
            target_names: purge
                .describe_targets()
                .iter()
                .map(|name| mask_parameters(name).into_owned())
                .collect(),
        }
    }

    /// The targets are written as Rust strings, so that what a request sent can't forge a line.
    fn write(&self, PurgeVersion(position): PurgeVersion) {
        let PurgeLogLine { source, event_source, route, mode, in_doubt_ms, targets, target_names: named } =
            self;
        let event_source = event_source.as_deref();
        tracing::info!(source, event_source, route, mode, in_doubt_ms, targets, position, ?named, "purged");
    }

    /// One that a line has told of already is for those who look for its targets. `failures`: those since the last line.
    fn write_failure(&self, error: &StoreError, failures: Option<u64>) {
        let PurgeLogLine { source, event_source, route, mode, in_doubt_ms, targets, target_names: named } =
            self;
        let event_source = event_source.as_deref();
        match failures {
            Some(failures) => tracing::error!(
                source, event_source, route, mode, in_doubt_ms, targets, failures, %error, ?named, "not purged"
            ),
            None => tracing::debug!(
                source, event_source, route, mode, in_doubt_ms, targets, %error, ?named, "not purged"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
