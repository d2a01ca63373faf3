//! A write: forwarded, and what it may have changed is purged *before* the first byte of the answer goes back.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Response};
use tracing::Instrument as _;

use super::error::ProxyError;
use super::gathering::gather;
use super::guarding::Guard;
use super::intake::{ClientHead, ClientRequest};
use super::passing::{to_client, upstream_request};
use super::unfinished::Write;
use super::{Answer, Body, LARDER_POSITION, Worker};
use crate::metrics::PurgeSource;
use crate::policy::Route;
use crate::policy::cache_status::{Fwd, Outcome};
use crate::policy::content::Content;
use crate::policy::invalidation::{self, Exchanged, Kept, WriteEnd, WriteTargets};
use crate::purge::{Position, Purge};
use crate::purging::purge;
use crate::upstream::{BodyCopy, RequestBody};

#[derive(Default)]
struct Contents {
    request: Option<Content>,
    response: Option<Content>,
}

impl Worker {
    /// The exchange runs on its own: a client that goes away stops neither the write nor its purge.
    pub(super) async fn write(&self, request: ClientRequest, route: Option<&Arc<Route>>) -> Answer {
        let (worker, own_route) = (self.clone(), route.cloned());
        let span = request.head.span();
        let exchange = async move { worker.write_to_its_end(request, own_route).await };
        let exchange = self.proxy.tasks.spawn(exchange.instrument(span));
        match exchange.await.unwrap_or(Err(ProxyError::Interrupted)) {
            Ok(response) => Answer::new(response, Some(Outcome::forwarded(Fwd::Method, None)), route),
            Err(error) => Answer::own(&error, route),
        }
    }

    /// Whatever becomes of it, a panic among it, its purge is not lost, and comes before its answer.
    async fn write_to_its_end(
        self,
        request: ClientRequest,
        route: Option<Arc<Route>>,
    ) -> Result<Response<Body>, ProxyError> {
        let (write, proxy) = (self.proxy.unfinished.begin(), self.proxy.clone());
        let its = write.clone();
        let forwarding = async move { self.forward_write(request, route, &its).await };
        match tokio::spawn(forwarding.in_current_span()).await {
            Ok(result) => result,
            Err(error) => {
                tracing::error!(%error, "a write was interrupted");
                write.lost(&proxy).await;
                Err(ProxyError::Interrupted)
            }
        }
    }

    async fn forward_write(
        &self,
        request: ClientRequest,
        route: Option<Arc<Route>>,
        write: &Write,
    ) -> Result<Response<Body>, ProxyError> {
        let ClientRequest { head, body } = request;
        let proxy = &self.proxy;
        let written = invalidation::of_write(&proxy.routes, &head.as_policy(), proxy.config.purge.parents);
        // What only the exchange will tell is widened until then.
        let unsaid = invalidation::of_exchange(&proxy.routes, &head.as_policy(), &Exchanged::default());
        let named = [written.targets.clone(), unsaid.targets].concat();
        let mut guard = self.guard(route.as_ref(), &named).await?;
        let mut body = RequestBody::from_client(body, head.parts.version, self.limits().body_timeout);
        let progress = body.progress();
        let kept = invalidation::kept_of_write(&proxy.routes, &head.as_policy());
        let copy = kept.request.map(|limit| body.copied(limit));
        let forwarded = upstream_request(&head, head.parts.headers.clone(), head.parts.uri.query(), body);
        let in_doubt_for = self.in_doubt_for(written.settle);
        let why = Some(head.why());
        write.sent(Purge { in_doubt_for, why, ..Purge::hard(named) }, route.clone());
        let result = self.send_guarded(forwarded, &head, guard.as_mut()).await;
        let end = match &result {
            Ok(response) => match WriteEnd::of(response.status()) {
                // Answered before all of it was sent: it may take effect with the rest.
                WriteEnd::Purge if !progress.is_complete() => WriteEnd::PurgeInDoubt,
                end => end,
            },
            Err(ProxyError::Upstream(error)) if !error.may_have_happened() => WriteEnd::Nothing,
            Err(_) => WriteEnd::PurgeInDoubt,
        };
        let mut result = result.map(to_client);
        let contents = match end {
            WriteEnd::Nothing => Contents::default(),
            _ => self.read_exchange(&head, kept, copy, &mut result).await,
        };
        let exchanged = Exchanged {
            request_content: contents.request.as_ref(),
            response_headers: result.as_ref().ok().map(Response::headers),
            response_content: contents.response.as_ref(),
        };
        let (end, written) = invalidation::at_end(&proxy.routes, &head.as_policy(), written, end, &exchanged);
        #[cfg(test)]
        super::panic_tests::trap(&head, "write");
        let position = self.purge_written(&head, end, written, guard, route.as_ref()).await;
        write.settled();
        let mut response = result?;
        response.headers_mut().remove(LARDER_POSITION);
        if let Some(Position(position)) = position {
            response.headers_mut().insert(LARDER_POSITION, HeaderValue::from(position));
        }
        Ok(response)
    }

    /// What the contents say, as far as templates ask for them and they can be read.
    async fn read_exchange(
        &self,
        head: &ClientHead,
        kept: Kept,
        copy: Option<BodyCopy>,
        result: &mut Result<Response<Body>, ProxyError>,
    ) -> Contents {
        let mut contents = Contents::default();
        if let (Some(limit), Some(whole)) = (kept.request, copy.and_then(|copy| copy.whole())) {
            let headers = head.parts.headers.clone();
            contents.request =
                self.read(whole.len(), move || Content::of_request(&headers, &whole, limit).ok()).await;
        }
        if let (Some(limit), Ok(response)) = (kept.response, result)
            && Content::is_expected(response.headers()).is_ok()
        {
            let body = std::mem::replace(response.body_mut(), Body::empty());
            let (body, whole) = match body {
                Body::Upstream(body) => {
                    let (body, whole) =
                        gather(body, limit, self.proxy.config.upstream.response_timeout).await;
                    (Body::Gathered(Box::new(body)), whole)
                }
                body => (body, None),
            };
            *response.body_mut() = body;
            if let Some(whole) = whole {
                let headers = response.headers().clone();
                contents.response =
                    self.read(whole.len(), move || Content::of_response(&headers, &whole, limit).ok()).await;
            }
        }
        contents
    }

    async fn read(
        &self,
        length: usize,
        read: impl FnOnce() -> Option<Content> + Send + 'static,
    ) -> Option<Content> {
        self.proxy.reading.run(length, read).await.flatten()
    }

    /// A write that ended unclearly may take effect so much later.
    fn in_doubt_for(&self, settle: Duration) -> Duration {
        settle.max(self.proxy.config.upstream.response_timeout)
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
        let in_doubt_for = match end {
            WriteEnd::Nothing => {
                guard.into_iter().for_each(|guard| self.lift(guard));
                return None;
            }
            WriteEnd::Purge => written.settle,
            WriteEnd::PurgeInDoubt => self.in_doubt_for(written.settle),
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
