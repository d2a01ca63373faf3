//! Those who wait for a confirmation. One of each runtime's tasks asks and waits for all of them, with one timer, and
//! tells each what came of it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::gathering::Group;
use super::index::RedisIndex;
use crate::clock::Moment;

pub struct Waiter {
    /// The view must be confirmed as of then or later.
    moment: Moment,
    until: Moment,
    told: oneshot::Sender<bool>,
}

impl RedisIndex {
    /// Waits until the view is confirmed as of `moment` or later; reports whether it is. Does not wait for a server
    /// that is away.
    pub async fn confirmed_since(self: &Arc<Self>, moment: Moment, until: Moment) -> bool {
        let (told, hears) = oneshot::channel();
        if let Some(group) = self.waiting.add(Waiter { moment, until, told }) {
            tokio::spawn(attend(self.clone(), group));
        }
        hears.await.unwrap_or_else(|_| self.is_confirmed(moment))
    }

    fn is_confirmed(&self, moment: Moment) -> bool {
        self.view.confirmed_at().is_some_and(|confirmed| confirmed >= moment)
    }
}

async fn attend(index: Arc<RedisIndex>, mut group: Group<Waiter>) {
    let mut told = index.told.subscribe();
    // Whoever came before this is served by what was asked for.
    let mut asked = None;
    loop {
        // What is told from here on is not missed.
        told.mark_unchanged();
        let (now, is_away) = (Moment::now(), !index.is_reachable());
        let (mut next, mut newest) = (None::<Moment>, None);
        let (gone, is_empty) = group.release(|waiter| {
            if is_away || waiter.until <= now || index.is_confirmed(waiter.moment) {
                return true;
            }
            next = next.into_iter().chain([waiter.until]).min();
            newest = newest.max(Some(waiter.moment));
            false
        });
        for waiter in gone {
            let is_confirmed = index.is_confirmed(waiter.moment);
            // Whoever has gone is not told.
            _ = waiter.told.send(is_confirmed);
        }
        if is_empty {
            return;
        }
        if newest > asked {
            group.grow().await;
            asked = Some(Moment::now());
            index.wanted.notify_one();
        }
        let patience = next.map(|next| next.since(Moment::now())).unwrap_or_default();
        _ = timeout(patience, told.changed()).await;
    }
}
