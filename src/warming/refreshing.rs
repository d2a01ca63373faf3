//! What this replica holds and gave to clients, gone through once: to fetch anew what would soon expire, and what a purge
//! made invalid. What belongs to one caller is left to that caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use super::on_demand::{Report, Wanted};
use super::{Progress, Warming};
use crate::clock::Timestamp;
use crate::config::show_duration;
use crate::metrics::BackgroundKind;
use crate::proxy::{Errand, Proxy};
use crate::purge::Validity;
use crate::store::Store;
use crate::stored_response::{Asked, StoredHead};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefreshRequest {
    /// A duration.
    expiring_within: Option<String>,
    /// Only those of the routes of that name or path.
    route: Option<String>,
    /// Only those that a purge of that tag would reach.
    tag: Option<String>,
}

/// How far the purges of this replica have been seen to.
#[derive(Default)]
pub struct Seen {
    purges: AtomicU64,
    /// Something was in doubt: it is looked again at that time, in microseconds; zero: nothing was.
    again: AtomicU64,
}

/// While a target is in doubt nothing fetched anew is kept.
const DOUBT: Duration = Duration::from_secs(1);

impl Warming {
    pub async fn refresh(self: &Arc<Self>, request: RefreshRequest) -> Wanted<Report> {
        let fix = r#"send {"expiring_within": "5m"}"#;
        let Some(written) = &request.expiring_within else {
            return Err(("it is not said what to refresh".into(), fix.into()));
        };
        let within = crate::config::read_duration(written).map_err(|(wrong, _)| (wrong, fix.to_owned()))?;
        let proxy = self.live.load_full();
        let now = proxy.clock.now();
        let mut all = Vec::new();
        for response in proxy.store.known_here() {
            let head = &response.head;
            if is_expiring(head, within, now)
                && head.usage.uses() > 0
                && request.means(head, &proxy)
                && proxy.store.judge(&head.stamp, &head.targets) == Validity::Valid
                && let Some(asked) = head.usage.asked()
            {
                all.push(self.completed(&asked));
            }
        }
        tracing::info!(requests = all.len(), within = show_duration(within), "refreshes");
        Ok(self.report(BackgroundKind::Refresh, all, Errand::Renew(within)).await)
    }

    fn completed(&self, asked: &Asked) -> Asked {
        Asked { uri: asked.uri.clone(), headers: self.with_configured(asked.headers.clone()) }
    }

    /// Once this replica has acknowledged a purge: fetches again what that made invalid, the most used first.
    pub(super) fn reprime(self: &Arc<Self>, proxy: &Arc<Proxy>) {
        let (purges, now) = (proxy.metrics.purges(), proxy.clock.now().as_micros());
        let is_new = self.seen.purges.swap(purges, Ordering::Relaxed) != purges;
        let again = self.seen.again.load(Ordering::Relaxed);
        let is_due = again != 0 && again <= now;
        let Some(most) = proxy.config.purge.reprime.filter(|_| is_new || is_due) else { return };
        self.seen.again.store(0, Ordering::Relaxed);
        let (warming, proxy) = (self.clone(), proxy.clone());
        tokio::spawn(async move {
            let store = proxy.store.clone();
            let now = proxy.clock.now();
            let looking = tokio::task::spawn_blocking(move || invalid(store.as_ref(), most, now));
            let Ok((all, in_doubt)) = looking.await else { return };
            if in_doubt {
                warming.seen.again.store(now.plus(DOUBT).as_micros(), Ordering::Relaxed);
            }
            if !all.is_empty() {
                tracing::info!(requests = all.len(), "fetches again what was purged");
                let all = all.iter().map(|asked| warming.completed(asked)).collect();
                let errand = Errand::Keep(Duration::ZERO);
                warming.carry_all(BackgroundKind::Reprime, all, errand, Progress::default()).await;
            }
        });
    }
}

impl RefreshRequest {
    fn means(&self, head: &StoredHead, proxy: &Proxy) -> bool {
        let is_of_route = |name: &String| {
            let route = head.usage.path().and_then(|path| proxy.routes.find(path));
            route.is_some_and(|route| *route.name == **name || route.path.as_str() == name)
        };
        let is_tagged = |tag: &String| head.tags().any(|own| is_below(own, tag));
        self.route.as_ref().is_none_or(is_of_route) && self.tag.as_ref().is_none_or(is_tagged)
    }
}

/// As a purge of `tag` reaches it.
fn is_below(own: &str, tag: &str) -> bool {
    own.strip_prefix(tag).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_expiring(head: &StoredHead, within: Duration, now: Timestamp) -> bool {
    let left = head.terms().freshness_lifetime.saturating_sub(head.terms().age(now));
    left <= within && head.terms().expires_at > now
}

/// What was used and is purged, the most used first, `most` of it; and whether more was purged that can't be kept yet.
/// What is left out counts as not used from now on: it is not for a later purge to bring back.
fn invalid(store: &dyn Store, most: usize, now: Timestamp) -> (Vec<Asked>, bool) {
    let mut in_doubt = false;
    let mut purged: Vec<(u32, Arc<StoredHead>)> = Vec::new();
    for response in store.known_here() {
        let head = response.head.clone();
        let uses = head.usage.uses();
        if uses == 0 || head.terms().expires_at <= now {
            continue;
        }
        if store.judge(&head.stamp, &head.targets) == Validity::Valid {
            continue;
        }
        // Would it be kept if it were fetched now?
        if store.judge(&store.permit(&head.key).stamp(), &head.targets) != Validity::Valid {
            in_doubt = true;
            continue;
        }
        head.usage.forget();
        purged.push((uses, head));
    }
    purged.sort_by_key(|(uses, _)| std::cmp::Reverse(*uses));
    let hottest = purged.iter().filter_map(|(_, head)| head.usage.asked());
    (hottest.take(most).collect(), in_doubt)
}
