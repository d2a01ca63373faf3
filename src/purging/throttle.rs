//! `at_most_every`: the first purge of a target is done at once, later ones are joined to the end of the window.
//!
//! A joined purge stays in the table until the store has taken it, so a reload keeps it and a shutdown does it early.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::PurgeContext;
use crate::clock::Moment;
use crate::policy::purge_targets::PurgeOptions;
use crate::purge::{Purge, PurgeVersion, Target, TargetId};
use crate::store::StoreError;
use crate::tasks::spawn;

/// The windows that are kept; further targets are purged at once.
const MAX_WINDOWS: usize = 10_000;

/// The windows of all throttled targets.
#[derive(Default)]
pub(crate) struct PurgeThrottle {
    windows: Mutex<HashMap<TargetId, Window>>,
    /// The number of purges that were ever joined.
    joined: AtomicU64,
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
    /// It waits, for this long.
    Joined(Duration),
    /// Another purge of the target waits already.
    Merged,
}

impl PurgeThrottle {
    /// Takes a purge of `target`. `true`: the caller purges it now; else the throttle does at the end of the window.
    pub(crate) fn admit(
        self: &Arc<Self>,
        target: &Target,
        options: PurgeOptions,
        context: &PurgeContext,
    ) -> bool {
        match self.open_or_join(target, options, context, Moment::now()) {
            ThrottleDecision::Now => true,
            ThrottleDecision::Merged => false,
            ThrottleDecision::Joined(left) => {
                let (throttle, id) = (self.clone(), target.id());
                spawn(async move {
                    tokio::time::sleep(left).await;
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
                    return ThrottleDecision::Joined(due.since(now));
                };
                // Hard purges include soft ones, the longer settling the shorter, and the earlier the later.
                present.options.soft &= options.soft;
                present.context.settle = present.context.settle.max(context.settle);
                present.context.cause.relayed &= context.cause.relayed;
                if due < present.due {
                    present.due = due;
                    return ThrottleDecision::Joined(due.since(now));
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
        let joined = self.windows.lock().get_mut(&id).and_then(|window| {
            let joined = window.joined.take()?;
            *window =
                Window { under_way: Some(joined.clone()), ..Window::open(joined.options, Moment::now()) };
            Some(joined)
        });
        let Some(joined) = joined else { return };
        // A purge that the store does not take is counted, logged and kept by the store.
        let _ = joined.purge().await;
        if let Some(window) = self.windows.lock().get_mut(&id) {
            window.under_way = None;
        }
    }

    /// Does all joined purges now: larder ends.
    pub(crate) async fn flush(&self) {
        let joined: Vec<JoinedPurge> = self
            .windows
            .lock()
            .drain()
            .filter_map(|(_, window)| window.joined.or(window.under_way))
            .collect();
        for joined in joined {
            let _ = joined.purge().await;
        }
    }
}

impl Window {
    fn open(options: PurgeOptions, now: Moment) -> Self {
        Self { opened: now, ends: now.plus(options.at_most_every), joined: None, under_way: None }
    }
}

impl JoinedPurge {
    async fn purge(self) -> Result<PurgeVersion, StoreError> {
        let JoinedPurge { target, options, context, .. } = self;
        let settled = Purge {
            mode: options.mode(),
            in_doubt_for: context.settle,
            cause: Some(context.cause.clone()),
            ..Purge::hard(vec![target])
        };
        context.purger.purge(settled, context.source, context.route.as_ref()).await
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
        assert_eq!(decide(true, 20, 1), ThrottleDecision::Joined(Duration::from_secs(19)));
        assert_eq!(decide(true, 20, 1), ThrottleDecision::Merged);
        let before = throttle.mark();
        assert_eq!(decide(false, 5, 2), ThrottleDecision::Joined(Duration::from_secs(3)));
        assert_eq!(decide(false, 2, 3), ThrottleDecision::Now);
        assert!(!throttle.is_done(before));
        throttle.end_window(target.id()).await;
        assert!(throttle.is_done(before) && throttle.is_done(throttle.mark()));
    }
}
