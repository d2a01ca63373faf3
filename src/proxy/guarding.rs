//! Guarded writes: what a write may change is marked before it is forwarded, and stays so until its purge. Should larder
//! end in between, the mark stays until its date, and nothing from before the write survives it.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::timeout;

use super::Worker;
use super::error::ProxyError;
use super::intake::ClientHead;
use crate::clock::Moment;
use crate::policy::Route;
use crate::policy::route::Mode;
use crate::purge::{Mark, MarkId, Purge, Target};
use crate::upstream::{RequestBody, UpstreamBody, UpstreamError};

/// Between attempts to move the date of a mark.
const RETRY: Duration = Duration::from_secs(1);

/// A mark, and when it was asked for.
pub(super) struct Guard {
    pub mark: Mark,
    asked_at: Moment,
}

impl Worker {
    /// `None` where the route asks for no guard, or the write purges nothing. `Err`: it must not be forwarded.
    pub(super) async fn guard(
        &self,
        route: Option<&Arc<Route>>,
        targets: &[Target],
    ) -> Result<Option<Guard>, ProxyError> {
        if targets.is_empty() || !route.is_some_and(|route| route.guard && route.mode == Mode::On) {
            return Ok(None);
        }
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|error| ProxyError::NotGuarded(error.to_string()))?;
        let mut targets: Vec<_> = targets.iter().map(Target::id).collect();
        targets.sort_unstable();
        targets.dedup();
        // What the upstream has been sent when it is given up may still take effect.
        let lasts = self.patience() + self.proxy.config.upstream.response_timeout;
        let guard = Guard { mark: Mark { id: MarkId(id), targets, lasts }, asked_at: Moment::now() };
        match self.proxy.store.mark(guard.mark.clone()).await {
            Ok(()) => Ok(Some(guard)),
            Err(error) => {
                tracing::warn!(%error, "a write is refused: its route is guarded");
                // It may have been taken all the same.
                self.lift(guard);
                Err(ProxyError::NotGuarded(error.to_string()))
            }
        }
    }

    /// How long a write goes on under a mark.
    fn patience(&self) -> Duration {
        let settings = &self.proxy.config.upstream;
        settings.connect_timeout + settings.response_timeout
    }

    /// Sends it; a long upload moves the mark's date, and is given up where that fails for too long.
    pub(super) async fn send_guarded(
        &self,
        request: Box<Request<RequestBody>>,
        head: &ClientHead,
        guard: Option<&mut Guard>,
    ) -> Result<Response<UpstreamBody>, ProxyError> {
        let Some(guard) = guard else { return self.send(request, head).await };
        let exchange = self.send(request, head);
        tokio::pin!(exchange);
        let mut pause = self.patience() / 2;
        loop {
            if let Ok(result) = timeout(pause, &mut exchange).await {
                return result;
            }
            let asked_at = Moment::now();
            match self.proxy.store.mark(guard.mark.clone()).await {
                Ok(()) => (guard.asked_at, pause) = (asked_at, self.patience() / 2),
                Err(_) if Moment::now().since(guard.asked_at) >= self.patience() => {
                    return Err(UpstreamError::Timeout.into());
                }
                Err(_) => pause = RETRY.min(self.patience() / 4),
            }
        }
    }

    /// The write did not happen. In the background: until then there is an unneeded miss or two.
    pub(super) fn lift(&self, guard: Guard) {
        let store = self.proxy.store.clone();
        self.proxy.tasks.spawn(async move {
            let nothing = Purge { lifts: Some(guard.mark), ..Purge::hard(Vec::new()) };
            if let Err(error) = store.purge(nothing).await {
                tracing::debug!(%error, "a mark stays until its date");
            }
        });
    }
}
