//! Refreshing of used entries in this replica's memory: those about to expire, and those a purge invalidated. Entries
//! that belong to one caller are skipped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::on_demand::{ActiveRun, WarmResult};
use super::{SharedTally, Warming};
use crate::clock::Timestamp;
use crate::config::{nearest, show_duration};
use crate::metrics::BackgroundKind;
use crate::policy::routes::Routes;
use crate::proxy::{Proxy, RefreshPolicy};
use crate::purge::Validity;
use crate::store::Store;
use crate::stored_response::{SampleRequest, StoredHead};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RefreshRequest {
    /// A duration such as `5m`.
    expiring_within: Option<String>,
    /// Restricts the run to routes of this name or path.
    route: Option<String>,
    /// Restricts the run to entries that a purge of this tag would reach.
    tag: Option<String>,
}

/// Progress of re-fetching after purges.
#[derive(Default)]
pub(super) struct ReprimeState {
    purge_count: AtomicU64,
    /// Time of the next scan in microseconds, if a target was pending; 0 otherwise.
    retry_at: AtomicU64,
}

/// Delay before scanning again: responses with a pending target cannot be stored yet.
const PENDING_RETRY_INTERVAL: Duration = Duration::from_secs(1);

impl Warming {
    pub(crate) fn refresh(self: &Arc<Self>, request: RefreshRequest) -> WarmResult<ActiveRun> {
        let fix = r#"send {"expiring_within": "5m"}"#;
        let Some(written) = &request.expiring_within else {
            return Err(("missing `expiring_within`".into(), fix.into()));
        };
        let within = crate::config::read_duration(written).map_err(|(error, _)| (error, fix.to_owned()))?;
        let proxy = self.live.load_full();
        if let Some(name) = &request.route {
            check_route(&proxy.routes, name)?;
        }
        let now = proxy.clock.now();
        let mut requests = Vec::new();
        for response in proxy.store.local_responses() {
            let head = &response.head;
            if is_expiring(head, within, now)
                && head.usage.use_count() > 0
                && request.matches(head, &proxy)
                && proxy.store.validity(&head.stamp, &head.targets) == Validity::Valid
                && let Some(sample) = head.usage.sample_request()
            {
                requests.push(self.complete_request(&sample));
            }
        }
        tracing::info!(requests = requests.len(), within = show_duration(within), "refresh started");
        let progress = SharedTally::default();
        progress.lock().requests = requests.len() as u64;
        let (warming, policy) = (self.clone(), RefreshPolicy::Renew(within));
        Ok(ActiveRun::start(progress.clone(), async move {
            warming.run_all(BackgroundKind::Refresh, requests, policy, progress).await;
        }))
    }

    fn complete_request(&self, sample: &SampleRequest) -> SampleRequest {
        SampleRequest {
            uri: sample.uri.clone(),
            headers: self.with_configured_headers(sample.headers.clone()),
        }
    }

    /// After a purge by this replica, fetches the most used entries that it invalidated.
    pub(super) fn reprime(self: &Arc<Self>, proxy: &Arc<Proxy>) {
        let (purges, now) = (proxy.metrics.purge_count(), proxy.clock.now().as_micros());
        let is_new = self.reprime_state.purge_count.swap(purges, Ordering::Relaxed) != purges;
        let retry_at = self.reprime_state.retry_at.load(Ordering::Relaxed);
        let is_due = retry_at != 0 && retry_at <= now;
        let Some(limit) = proxy.config.purge.reprime.filter(|_| is_new || is_due) else { return };
        self.reprime_state.retry_at.store(0, Ordering::Relaxed);
        let (warming, proxy) = (self.clone(), proxy.clone());
        tokio::spawn(async move {
            let (store, routes) = (proxy.store.clone(), proxy.routes.clone());
            let now = proxy.clock.now();
            let scan = tokio::task::spawn_blocking(move || find_purged(store.as_ref(), &routes, limit, now));
            let Ok((requests, has_pending)) = scan.await else { return };
            if has_pending {
                warming
                    .reprime_state
                    .retry_at
                    .store(now.plus(PENDING_RETRY_INTERVAL).as_micros(), Ordering::Relaxed);
            }
            if !requests.is_empty() {
                tracing::info!(requests = requests.len(), "re-fetching purged responses");
                let requests = requests.iter().map(|sample| warming.complete_request(sample)).collect();
                let policy = RefreshPolicy::Keep(Duration::ZERO);
                warming.run_all(BackgroundKind::Reprime, requests, policy, SharedTally::default()).await;
            }
        });
    }
}

/// Refuses the name of a route that is not there: nothing would be refreshed.
fn check_route(routes: &Routes, name: &str) -> Result<(), (String, String)> {
    let mut known = routes.iter().flat_map(|route| [&*route.name, route.path.as_str()]);
    if known.any(|other| other == name) {
        return Ok(());
    }
    let known = routes.iter().flat_map(|route| [&*route.name, route.path.as_str()]);
    let fix = match nearest(name, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None => "name a route, or give its path".to_owned(),
    };
    Err((format!("there is no route {name:?}"), fix))
}

impl RefreshRequest {
    fn matches(&self, head: &StoredHead, proxy: &Proxy) -> bool {
        let in_route = |name: &String| {
            let route = head.usage.path().and_then(|path| proxy.routes.find(path));
            route.is_some_and(|route| *route.name == **name || route.path.as_str() == name)
        };
        let is_tagged = |tag: &String| head.tags().any(|own| is_tag_or_descendant(own, tag));
        self.route.as_ref().is_none_or(in_route) && self.tag.as_ref().is_none_or(is_tagged)
    }
}

/// Whether a purge of `tag` reaches an entry tagged `own`.
fn is_tag_or_descendant(own: &str, tag: &str) -> bool {
    own.strip_prefix(tag).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_expiring(head: &StoredHead, within: Duration, now: Timestamp) -> bool {
    let left = head.terms().freshness_lifetime.saturating_sub(head.terms().age(now));
    left <= within && head.terms().expires_at > now
}

/// Finds the most used purged entries, up to `most`, and whether some cannot be stored yet. Entries beyond `most`
/// lose their use count, so that later purges do not fetch them either.
fn find_purged(
    store: &dyn Store,
    routes: &Routes,
    limit: usize,
    now: Timestamp,
) -> (Vec<SampleRequest>, bool) {
    let mut has_pending = false;
    let mut purged: Vec<(u32, Arc<StoredHead>)> = Vec::new();
    for response in store.local_responses() {
        let head = response.head.clone();
        let uses = head.usage.use_count();
        if uses == 0 || head.terms().expires_at <= now {
            continue;
        }
        if store.validity(&head.stamp, &head.targets) == Validity::Valid {
            continue;
        }
        // Skip entries that could not be stored if they were fetched now.
        let route = head.usage.path().and_then(|path| routes.find(path));
        let settle = route.map(|route| route.settle).unwrap_or_default();
        let token = store.begin_fetch(&head.key).settled(settle);
        if store.validity(&token.read_version(), &head.targets) != Validity::Valid {
            has_pending = true;
            continue;
        }
        head.usage.reset_count();
        purged.push((uses, head));
    }
    purged.sort_by_key(|(uses, _)| std::cmp::Reverse(*uses));
    let most_used = purged.iter().filter_map(|(_, head)| head.usage.sample_request());
    (most_used.take(limit).collect(), has_pending)
}
