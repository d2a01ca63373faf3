//! A write: forwarded, and what it may have changed is purged *before* the first byte of the answer goes back.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response};
use tracing::Instrument as _;

use super::error::ProxyError;
use super::guarding::Guard;
use super::intake::{ClientHead, ClientRequest};
use super::passing::{to_client, upstream_request};
use super::{Answer, Body, LARDER_POSITION, Worker};
use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::policy::cache_status::{Fwd, Outcome};
use crate::policy::invalidation::{self, WriteEnd, WriteTargets};
use crate::purge::{Position, Purge};
use crate::purging::purge;
use crate::upstream::RequestBody;

impl Worker {
    /// The exchange runs on its own: a client that goes away stops neither the write nor its purge.
    pub(super) async fn write(&self, request: ClientRequest, route: Option<&Arc<Route>>) -> Answer {
        let (worker, own_route) = (self.clone(), route.cloned());
        let span = request.head.span();
        let exchange = async move { worker.forward_write(request, own_route).await };
        let exchange = self.proxy.tasks.spawn(exchange.instrument(span));
        match exchange.await.unwrap_or(Err(ProxyError::Interrupted)) {
            Ok(response) => Answer::new(response, Some(Outcome::forwarded(Fwd::Method, None)), route),
            Err(error) => Answer::own(&error, route),
        }
    }

    async fn forward_write(
        &self,
        request: ClientRequest,
        route: Option<Arc<Route>>,
    ) -> Result<Response<Body>, ProxyError> {
        let ClientRequest { head, body } = request;
        let proxy = &self.proxy;
        let mut written =
            invalidation::of_write(&proxy.routes, &head.as_policy(), proxy.config.purge.parents);
        // Without a response, what it would have said is widened.
        let nothing = HeaderMap::new();
        let unsaid = invalidation::of_write_response(&proxy.routes, &head.as_policy(), &nothing);
        let named = [written.targets.clone(), unsaid.targets].concat();
        let mut guard = self.guard(route.as_ref(), &named).await?;
        let body = RequestBody::from_client(body, head.parts.version, self.limits().body_timeout);
        let progress = body.progress();
        let forwarded = upstream_request(&head, head.parts.uri.query(), body);
        let result = self.send_guarded(forwarded, &head, guard.as_mut()).await;
        let mut end = match &result {
            Ok(response) => match WriteEnd::of(response.status()) {
                // Answered before all of it was sent: it may take effect with the rest.
                WriteEnd::Purge if !progress.is_complete() => WriteEnd::PurgeInDoubt,
                end => end,
            },
            Err(ProxyError::Upstream(error)) if !error.may_have_happened() => WriteEnd::Nothing,
            Err(_) => WriteEnd::PurgeInDoubt,
        };
        let headers = result.as_ref().map_or(&nothing, Response::headers);
        let said = invalidation::of_write_response(&proxy.routes, &head.as_policy(), headers);
        written.targets.extend(said.targets);
        written.widened += said.widened;
        let groups = invalidation::groups_of_write_response(&head.as_policy(), headers);
        if end == WriteEnd::Nothing && !groups.is_empty() {
            // RFC 9875 §3: the upstream names what to drop, so it is dropped, and nothing else.
            (end, written) = (WriteEnd::Purge, WriteTargets::default());
        }
        written.targets.extend(groups);
        let position = self.purge_written(&head, end, written, guard, route.as_ref()).await;
        let mut response = to_client(result?);
        response.headers_mut().remove(LARDER_POSITION);
        if let Some(Position(position)) = position {
            response.headers_mut().insert(LARDER_POSITION, HeaderValue::from(position));
        }
        Ok(response)
    }

    /// The write happened, or may have: its answer goes through even if the purge is not taken, which is counted
    /// and logged.
    async fn purge_written(
        &self,
        head: &ClientHead,
        end: WriteEnd,
        written: WriteTargets,
        guard: Option<Guard>,
        route: Option<&Arc<Route>>,
    ) -> Option<Position> {
        let settle = route.map_or(Duration::ZERO, |route| route.settle);
        let in_doubt_for = match end {
            WriteEnd::Nothing => {
                guard.into_iter().for_each(|guard| self.lift(guard));
                return None;
            }
            WriteEnd::Purge => settle,
            WriteEnd::PurgeInDoubt => settle.max(self.proxy.config.upstream.response_timeout),
        };
        if written.targets.is_empty() {
            guard.into_iter().for_each(|guard| self.lift(guard));
            return None;
        }
        self.proxy.metrics.widened(written.widened);
        let (lifts, why) = (guard.map(|guard| guard.mark), Some(head.why()));
        let written = Purge { in_doubt_for, lifts, why, ..Purge::hard(written.targets) };
        purge(&self.proxy.store, &self.proxy.metrics, written, PurgeSource::Write, route).await.ok()
    }
}
