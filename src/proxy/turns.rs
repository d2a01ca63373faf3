//! A fetch that waits for its turn among all replicas (`collapse: replicas`). What another replica stored is looked up
//! as any request looks it up; whoever waits for too long fetches.

use tokio::time::Instant;

use super::collapsing::{Landing, Leader, MARK};
use super::fetching::Fetch;
use super::finding::{Finding, Miss};
use crate::policy::cache_status::Fwd;
use crate::policy::route::Collapse;
use crate::store::{Ended, Turn};
use crate::stored_response::StoredResponse;

/// So many fetches of others are waited for in a row. While targets are in doubt, none of them is of use.
const OTHERS: usize = 3;

impl Fetch {
    /// Whether to fetch; if not, all who wait have been told.
    pub(super) async fn has_its_turn(&mut self, leader: &Leader) -> bool {
        if self.route.collapse != Collapse::Replicas || !leader.can_be_joined() {
            return true;
        }
        let store = self.worker.proxy.store.clone();
        let end = Instant::now() + self.route.collapse_wait;
        let mut has_looked = self.stale.is_some();
        for _ in 0..OTHERS {
            match store.turn(self.fill.key(), has_looked, end.duration_since(Instant::now())).await {
                Turn::Ours(lease) => {
                    self.lease = Some(lease);
                    break;
                }
                Turn::Apart => break,
                Turn::NotShareable(lasts) => {
                    leader.mark_unshareable(lasts.min(MARK), None);
                    leader.close();
                    leader.land(Landing::NotShareable);
                    return false;
                }
                Turn::LookAgain => {
                    if let Some(stored) = self.look_again().await {
                        leader.close();
                        leader.land(Landing::Found(stored));
                        return false;
                    }
                    has_looked = true;
                }
            }
        }
        // Time has passed: what was purged meanwhile is not in the fetch that begins now.
        self.begin();
        true
    }

    async fn look_again(&self) -> Option<StoredResponse> {
        let lookup = self.worker.lookup(&self.route, self.primary, self.query.clone(), self.caller);
        let Some(stale) = &self.stale else {
            return match self.worker.find(&lookup, &self.head).await {
                Finding::Fresh(usable) => Some(usable.stored),
                _ => None,
            };
        };
        // The first tier has what is to be renewed still.
        let miss = Miss { key: *self.fill.key(), fwd: Fwd::Stale, stale: Some(stale.clone()) };
        self.worker.find_beyond(&lookup, &self.head, &miss).await.map(|usable| usable.stored)
    }

    /// Tells the other replicas, once.
    pub(super) fn tell_replicas(&mut self, ended: Ended) {
        if let Some(lease) = self.lease.take() {
            lease.end(ended);
        }
    }
}
