//! `at_most_every`: the first purge of a target is done at once, later ones are joined to the end of the window.
//!
//! A joined purge stays in the table until the store has taken it, so a reload keeps it and a shutdown does it early.

use std::collections::HashMap;
use std::sync::Arc;
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
pub struct PurgeThrottle {
    windows: Mutex<HashMap<TargetId, Window>>,
}

struct Window {
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
}

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
    pub fn admit(self: &Arc<Self>, target: &Target, options: PurgeOptions, context: &PurgeContext) -> bool {
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
            Some(Window { joined: Some(present), .. }) => {
                // Hard purges include soft ones, and the longer settling the shorter.
                present.options.soft &= options.soft;
                present.context.settle = present.context.settle.max(context.settle);
                return ThrottleDecision::Merged;
            }
            Some(window) if window.ends > now => {
                let (target, context) = (target.clone(), context.clone());
                window.joined = Some(JoinedPurge { target, options, context });
                return ThrottleDecision::Joined(window.ends.since(now));
            }
            _ => {}
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
    pub async fn flush(&self) {
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
        Self { ends: now.plus(options.at_most_every), joined: None, under_way: None }
    }
}

impl JoinedPurge {
    async fn purge(self) -> Result<PurgeVersion, StoreError> {
        let JoinedPurge { target, options, context } = self;
        let settled = Purge {
            mode: options.mode(),
            in_doubt_for: context.settle,
            cause: Some(context.cause.clone()),
            ..Purge::hard(vec![target])
        };
        context.purger.purge(settled, context.source, context.route.as_ref()).await
    }
}
