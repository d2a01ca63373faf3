//! `at_most_every`: the first purge of a target is done at once, later ones are joined to the end of the window.
//!
//! A joined purge stays in the table until the store has taken it, so a reload keeps it and a shutdown does it early.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::PurgeContext;
use crate::clock::{Clock, Moment};
use crate::policy::purge_targets::PurgeOptions;
use crate::purge::{Purge, PurgeCause, PurgeVersion, Target, TargetId};
use crate::store::StoreError;
use crate::tasks::spawn;

/// The windows that are kept; further targets are purged at once.
const MAX_WINDOWS: usize = 10_000;

/// The windows of all throttled targets.
#[derive(Default)]
pub(crate) struct PurgeThrottle {
    clock: Clock,
    windows: Mutex<HashMap<TargetId, Window>>,
    /// The number of purges that were ever joined.
    joined: AtomicU64,
    /// larder ends: nothing waits any more. Read and written under the lock of `windows`.
    has_ended: AtomicBool,
}

struct Window {
    /// The time of the last purge. Each purge waits for at most as long after it as its own rule says.
    opened: Moment,
    /// The window of the rule that opened it is over by then.
    ends: Moment,
    /// The purge that waits for the end.
    joined: Option<JoinedPurge>,
    /// The purge of the window before, until it is done. It no longer covers later changes.
    under_way: Option<JoinedPurge>,
}

#[derive(Clone)]
struct JoinedPurge {
    target: Target,
    options: PurgeOptions,
    context: PurgeContext,
    number: u64,
    due: Moment,
}

/// A moment among the joined purges; see [`PurgeThrottle::is_done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JoinedMark(u64);

/// The fate of a throttled purge.
#[derive(Debug, PartialEq, Eq)]
enum ThrottleDecision {
    /// No window is open: purge now.
    Now,
    /// It waits until then.
    Joined(Moment),
    /// Another purge of the target waits already.
    Merged,
}

impl PurgeThrottle {
    /// A throttle without a window.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Takes a purge of `target`. `true`: the caller purges it now; else the throttle does at the end of the window.
    pub(crate) fn admit(
        self: &Arc<Self>,
        target: &Target,
        options: PurgeOptions,
        context: &PurgeContext,
    ) -> bool {
        match self.open_or_join(target, options, context, self.clock.moment()) {
            ThrottleDecision::Now => true,
            ThrottleDecision::Merged => false,
            ThrottleDecision::Joined(due) => {
                let (throttle, id) = (self.clone(), target.id());
                spawn(async move {
                    throttle.clock.sleep_until(due).await;
                    throttle.end_window(id).await;
                });
                false
            }
        }
    }

    fn open_or_join(
        &self,
        target: &Target,
        options: PurgeOptions,
        context: &PurgeContext,
        now: Moment,
    ) -> ThrottleDecision {
        let id = target.id();
        let mut windows = self.windows.lock();
        if self.has_ended.load(Ordering::Relaxed) {
            return ThrottleDecision::Now;
        }
        match windows.get_mut(&id) {
            // Purges by other rules are others: each reaches the responses under the rules that are not its own.
            Some(Window { joined: Some(present), .. })
                if present.context.purger.routes.rules() != context.purger.routes.rules() =>
            {
                return ThrottleDecision::Now;
            }
            Some(window) if window.opened.plus(options.at_most_every) > now => {
                let due = window.opened.plus(options.at_most_every);
                let Some(present) = &mut window.joined else {
                    let (target, context) = (target.clone(), context.clone());
                    let number = self.joined.fetch_add(1, Ordering::Relaxed);
                    window.joined = Some(JoinedPurge { target, options, context, number, due });
                    return ThrottleDecision::Joined(due);
                };
                // Hard purges include soft ones, the longer settling the shorter, and the earlier the later.
                present.options.soft &= options.soft;
                present.context.settle = present.context.settle.max(context.settle);
                present.context.cause.relayed &= context.cause.relayed;
                if due < present.due {
                    present.due = due;
                    return ThrottleDecision::Joined(due);
                }
                return ThrottleDecision::Merged;
            }
            Some(window) => {
                *window = Window {
                    joined: window.joined.take(),
                    under_way: window.under_way.take(),
                    ..Window::open(options, now)
                };
                return ThrottleDecision::Now;
            }
            None => {}
        }
        if windows.len() >= MAX_WINDOWS {
            windows.retain(|_, window| {
                window.ends > now || window.joined.is_some() || window.under_way.is_some()
            });
        }
        if windows.len() < MAX_WINDOWS {
            windows.insert(id, Window::open(options, now));
        }
        ThrottleDecision::Now
    }

    /// The present moment. A purge that was given to [`PurgeThrottle::admit`] is before it.
    pub(crate) fn mark(&self) -> JoinedMark {
        JoinedMark(self.joined.load(Ordering::Relaxed))
    }

    /// Whether all purges that were joined before the mark have been done.
    pub(crate) fn is_done(&self, mark: JoinedMark) -> bool {
        let windows = self.windows.lock();
        let mut waiting = windows.values().flat_map(|window| window.joined.iter().chain(&window.under_way));
        waiting.all(|purge| purge.number >= mark.0)
    }

    /// Does the joined purge of a target, and opens the next window.
    async fn end_window(&self, id: TargetId) {
        let now = self.clock.moment();
        let joined = self.windows.lock().get_mut(&id).and_then(|window| {
            let joined = window.joined.take()?;
            *window = Window { under_way: Some(joined.clone()), ..Window::open(joined.options, now) };
            Some(joined)
        });
        let Some(joined) = joined else { return };
        let number = joined.number;
        // A purge that the store does not take is counted, logged and kept by the store.
        let _ = JoinedPurge::purge(vec![joined]).await;
        self.record_done(&[(id, number)]);
    }

    fn record_done(&self, done: &[(TargetId, u64)]) {
        let mut windows = self.windows.lock();
        for (id, number) in done {
            if let Some(window) = windows.get_mut(id)
                && window.under_way.as_ref().is_some_and(|purge| purge.number == *number)
            {
                window.under_way = None;
            }
        }
    }

    /// How many joined purges the store has neither taken nor kept.
    pub(crate) fn pending(&self) -> usize {
        let windows = self.windows.lock();
        windows.values().filter(|window| window.joined.is_some() || window.under_way.is_some()).count()
    }

    /// Does all joined purges now: larder ends. Those that are alike go to the store together. Each stays in the table until
    /// the store has it.
    pub(crate) async fn flush(self: &Arc<Self>) {
        let mut flushing = JoinSet::new();
        for batch in self.take_all() {
            let throttle = self.clone();
            flushing.spawn(async move {
                let done: Vec<_> = batch.iter().map(|purge| (purge.target.id(), purge.number)).collect();
                // A purge that the store does not take is counted, logged and kept by the store.
                let _ = JoinedPurge::purge(batch).await;
                throttle.record_done(&done);
            });
        }
        flushing.join_all().await;
    }

    /// All joined purges, which are under way from now on, in batches of which each can be one purge.
    fn take_all(&self) -> Vec<Vec<JoinedPurge>> {
        let mut batches: HashMap<BatchKey, Vec<JoinedPurge>> = HashMap::new();
        let mut windows = self.windows.lock();
        self.has_ended.store(true, Ordering::Relaxed);
        for window in windows.values_mut() {
            if let Some(mut joined) = window.joined.take() {
                // Hard purges include soft ones.
                joined.options.soft &= window.under_way.as_ref().is_none_or(|before| before.options.soft);
                window.under_way = Some(joined);
            }
            if let Some(purge) = &window.under_way {
                batches.entry(purge.batch_key()).or_default().push(purge.clone());
            }
        }
        batches.into_values().collect()
    }
}

/// Purges with the same mode, time to settle and origin can be one purge.
type BatchKey = (bool, Duration, &'static str, bool, TargetId, Option<usize>);

impl Window {
    fn open(options: PurgeOptions, now: Moment) -> Self {
        Self { opened: now, ends: now.plus(options.at_most_every), joined: None, under_way: None }
    }
}

impl JoinedPurge {
    fn batch_key(&self) -> BatchKey {
        let PurgeContext { purger, source, route, cause, settle } = &self.context;
        let route = route.as_ref().map(|route| route.index);
        (self.options.soft, *settle, source.as_str(), cause.relayed, purger.routes.rules(), route)
    }

    /// Purges a batch.
    async fn purge(batch: Vec<Self>) -> Result<Option<PurgeVersion>, StoreError> {
        let Some(JoinedPurge { options, context, .. }) = batch.first().cloned() else { return Ok(None) };
        let cause = match batch.len() {
            1 => context.cause,
            // Many requests are behind it.
            _ => PurgeCause { relayed: context.cause.relayed, ..PurgeCause::default() },
        };
        let settled = Purge {
            mode: options.mode(),
            in_doubt_for: context.settle,
            cause: Some(cause),
            ..Purge::hard(batch.into_iter().map(|purge| purge.target).collect())
        };
        context.purger.purge(settled, context.source, context.route.as_ref()).await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purging::tests::context;

    fn options(soft: bool, seconds: u64) -> PurgeOptions {
        PurgeOptions { soft, at_most_every: Duration::from_secs(seconds) }
    }

    #[tokio::test]
    async fn each_purge_waits_for_as_long_as_its_own_rule_says() {
        let (throttle, context, start) = (PurgeThrottle::default(), context(), Moment::now());
        let target = Target::tag("list");
        let decide = |soft, every, after| {
            let now = start.plus(Duration::from_secs(after));
            throttle.open_or_join(&target, options(soft, every), &context, now)
        };
        assert_eq!(decide(true, 20, 0), ThrottleDecision::Now);
        assert_eq!(decide(true, 20, 1), ThrottleDecision::Joined(start.plus(Duration::from_secs(20))));
        assert_eq!(decide(true, 20, 1), ThrottleDecision::Merged);
        let before = throttle.mark();
        assert_eq!(decide(false, 5, 2), ThrottleDecision::Joined(start.plus(Duration::from_secs(5))));
        assert_eq!(decide(false, 2, 3), ThrottleDecision::Now);
        assert!(!throttle.is_done(before));
        throttle.end_window(target.id()).await;
        assert!(throttle.is_done(before) && throttle.is_done(throttle.mark()));
    }
}
