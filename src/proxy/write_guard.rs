//! Guarded writes (`guard: true`): a purge intent is recorded before the write is forwarded, and stays until its purge.
//!
//! If larder ends in between, the intent expires into a purge, so nothing from before the write survives it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Response;

use super::client_request::ClientHead;
use super::error::ProxyError;
use super::state::Proxy;
use crate::policy::Route;
use crate::policy::route::RouteMode;
use crate::purge::{IntentId, Purge, PurgeIntent, Target};
use crate::purging::{GuardError, IntentGuard};
use crate::random::random_bytes;
use crate::upstream::{ContentEnd, UpstreamBody, UpstreamError};

/// The response to a write.
type Sent = Result<Response<UpstreamBody>, ProxyError>;

/// Whether writes on the route wait for their intent.
pub(super) fn is_guarded(route: Option<&Arc<Route>>) -> bool {
    route.is_some_and(|route| route.guard && route.mode == RouteMode::On)
}

/// A recorded purge intent.
pub(super) struct WriteGuard(IntentGuard);

impl WriteGuard {
    /// Records the intent. `None` if the route asks for no guard, or the write purges nothing. `outlives`: how long a
    /// write that is given up may still take effect, and copies lag after that.
    ///
    /// # Errors
    ///
    /// The intent was not recorded: the write must not be forwarded.
    pub(super) async fn acquire(
        proxy: &Proxy,
        head: &ClientHead,
        route: Option<&Arc<Route>>,
        outlives: Duration,
        targets: impl FnOnce() -> Vec<Target>,
    ) -> Result<Option<Self>, ProxyError> {
        if !is_guarded(route) {
            return Ok(None);
        }
        let targets = targets();
        if targets.is_empty() {
            return Ok(None);
        }
        // The mark names what the write's purge will name.
        let targets = Purge { rules: Some(proxy.routes.rules()), ..Purge::hard(targets) }.ids();
        let id = random_bytes().map_err(|error| ProxyError::WriteNotGuarded(error.to_string()))?;
        let limit = proxy.config.upstream.connect_timeout + head.timeouts(&proxy.config).response;
        let mut guard = IntentGuard::new(proxy.store.clone(), IntentId(id), targets, limit, outlives);
        match guard.record().await {
            Ok(()) => Ok(Some(Self(guard))),
            Err(error) => {
                tracing::warn!(%error, "guarded write refused: its purge intent was not recorded");
                // It may have been recorded all the same.
                Self(guard).abort(proxy);
                Err(ProxyError::WriteNotGuarded(error.to_string()))
            }
        }
    }

    /// Sends the write, and extends its intent while it goes on. Gives the write up if that fails for too long.
    pub(super) async fn send(
        mut guard: Option<Self>,
        write: impl Future<Output = Sent>,
    ) -> (Sent, Option<Self>) {
        let sent = match &mut guard {
            None => write.await,
            Some(guard) => match guard.0.run(write).await {
                Ok(sent) => sent,
                Err(GuardError::NotRecorded(error)) => Err(ProxyError::WriteNotGuarded(error.to_string())),
                Err(GuardError::Expired) => Err(UpstreamError::Timeout.into()),
            },
        };
        (sent, guard)
    }

    /// Sends a write whose content still arrives. Its intent is recorded once the client has sent all, before the end goes
    /// out: the upstream does not act on less, and a client that sends slowly hides nothing from the others. A write that
    /// is answered before has no intent.
    pub(super) async fn send_before_end(
        write: impl Future<Output = Sent>,
        mut end: ContentEnd,
        acquire: impl Future<Output = Result<Option<Self>, ProxyError>>,
    ) -> (Sent, Option<Self>) {
        let mut write = pin!(write);
        tokio::select! {
            biased;
            sent = &mut write => {
                end.allow();
                return (sent, None);
            }
            () = end.reached() => {}
        }
        let write = async {
            end.allow();
            write.await
        };
        match acquire.await {
            Ok(guard) => Self::send(guard, write).await,
            Err(error) => (Err(error), None),
        }
    }

    /// The write did not happen: withdraws the intent in the background.
    pub(super) fn abort(self, proxy: &Proxy) {
        let store = proxy.store.clone();
        proxy.tasks.spawn(async move {
            let nothing = Purge { resolves: Some(self.into_intent()), ..Purge::hard(Vec::new()) };
            if let Err(error) = store.purge(nothing).await {
                tracing::debug!(%error, "purge intent not withdrawn; it stays until it expires");
            }
        });
    }

    /// The intent, which the write's purge resolves.
    pub(super) fn into_intent(self) -> PurgeIntent {
        self.0.into_intent()
    }
}
