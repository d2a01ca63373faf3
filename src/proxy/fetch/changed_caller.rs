//! Makes sure that a response is that of the caller under whose key it is stored.
//!
//! The verdict of a service that is asked is remembered for a while. Meanwhile the session may have ended, or have become
//! somebody else's, and the upstream answers for whoever it is by then. So the service is asked again *after* the response:
//! if it names the same caller before and after, the response is that caller's.

use tokio::sync::oneshot;

use super::target::Fetched;
use super::{Fetch, FetchTarget, LeaderResult};
use crate::policy::caller::CallerVerdict;
use crate::policy::classify::Caller;
use crate::policy::storing::NotStored;
use crate::proxy::single_flight::{FetchOutcome, Leader};

impl FetchTarget {
    /// Whether the caller is still the one that the request was looked up for.
    pub(super) async fn has_same_caller(&self) -> bool {
        let (head, callers) = (&self.head, &self.proxy().callers);
        let Some(source) = self.route.callers.as_ref().filter(|source| !source.has_claims) else {
            return true;
        };
        let Some(before @ CallerVerdict::Known(_)) = head.find_caller(source) else { return true };
        callers.forget(source, head.as_asked());
        callers.ask(source, head.as_asked()).await == *before
    }
}

impl Fetch {
    /// Gives the leader the response that was made for somebody else, and stores nothing.
    pub(super) async fn answer_changed_caller(
        mut self,
        fetched: Fetched,
        leader: Leader,
        own: oneshot::Sender<LeaderResult>,
    ) {
        // What the upstream tells this caller says nothing about the responses of the other one.
        (self.stale, self.target.caller) = (None, Caller::Credentialed { until: None });
        let fetched = match fetched {
            // Two callers' responses at one URL may have the same validator.
            Fetched::NotModified { .. } => self.target.fetch(None).await,
            response => Ok(response),
        };
        match fetched {
            Ok(Fetched::Response(response)) => {
                self.finish_unstored(response.into_response(), NotStored::ChangedCaller, &leader, own);
            }
            Ok(Fetched::NotModified { .. }) => leader.finish(FetchOutcome::Retry),
            Err(error) => leader.finish(FetchOutcome::Failed(error)),
        }
    }
}
