//! Those who wait for a confirmation. One of each runtime's tasks asks and waits for all of them, with one timer, and
//! tells each what came of it.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::batcher::OpenBatch;
use super::RedisIndex;
use crate::clock::Moment;
use crate::tasks::spawn;

pub(super) struct Waiter {
    /// The view must be confirmed as of then or later.
    moment: Moment,
    until: Moment,
    result: oneshot::Sender<bool>,
}

impl RedisIndex {
    /// Waits until the view is confirmed as of `moment` or later; reports whether it is. Does not wait for a server
    /// that is unavailable.
    pub(crate) async fn wait_confirmed_since(self: &Arc<Self>, moment: Moment, until: Moment) -> bool {
        let (told, hears) = oneshot::channel();
        if let Some(group) = self.waiters.join(Waiter { moment, until, result: told }) {
            spawn(serve_waiters(self.clone(), group));
        }
        hears.await.unwrap_or_else(|_| self.is_confirmed(moment))
    }

    fn is_confirmed(&self, moment: Moment) -> bool {
        self.view.confirmed_at().is_some_and(|confirmed| confirmed >= moment)
    }
}

async fn serve_waiters(index: Arc<RedisIndex>, mut group: OpenBatch<Waiter>) {
    // Waiters that came before this are served by the sync under way.
    let mut asked = None;
    loop {
        // Events from here on are not missed.
        let mut ended = pin!(index.sync_ended.notified());
        ended.as_mut().enable();
        let (now, is_away) = (Moment::now(), !index.is_reachable());
        let (mut next, mut newest) = (None::<Moment>, None);
        let (gone, is_empty) = group.drain_where(|waiter| {
            if is_away || waiter.until <= now || index.is_confirmed(waiter.moment) {
                return true;
            }
            next = next.into_iter().chain([waiter.until]).min();
            newest = newest.max(Some(waiter.moment));
            false
        });
        for waiter in gone {
            let is_confirmed = index.is_confirmed(waiter.moment);
            // A waiter that has gone is not notified.
            _ = waiter.result.send(is_confirmed);
        }
        if is_empty {
            return;
        }
        if newest > asked {
            group.fill().await;
            asked = Some(Moment::now());
            index.sync_requested.notify_one();
        }
        let patience = next.map(|next| next.since(Moment::now())).unwrap_or_default();
        _ = timeout(patience, ended).await;
    }
}
