//! What a request leaves behind: its line in the logs, and its name for the client. Nothing where none is asked for.

use std::sync::Arc;
use std::time::Instant;

use http::{HeaderValue, Method, Request, Response, Uri};
use hyper::body::Incoming;
use tracing::Level;

use super::identity::{self, Trace, X_REQUEST_ID};
use super::intake::ClientHead;
use super::spans::RequestSpan;
use super::{Answer, Body, CACHE_STATUS, Client, Worker};
use crate::access_log::{Answered, Entry};
use crate::config::RequestIds;

/// Of one request, from its arrival on. A client that goes away before there is an answer drops it.
pub struct Line {
    began: Instant,
    /// For larder's own log, at its finest.
    asked: Option<(Method, Uri)>,
    entry: Option<Entry>,
    span: Option<Arc<RequestSpan>>,
    request_id: Option<HeaderValue>,
}

impl Worker {
    pub(super) fn line(&self, request: &Request<Incoming>, client: &Client) -> Line {
        let proxy = &self.proxy;
        let is_told = tracing::enabled!(Level::DEBUG);
        let asked = is_told.then(|| (request.method().clone(), request.uri().clone()));
        let log = proxy.access_log.as_ref();
        let span = proxy.telemetry.as_ref().and_then(|telemetry| {
            let remote = Trace::of(request.headers()).map(Trace::as_remote);
            let span = telemetry.begin(remote, proxy.clock.now())?;
            Some(Arc::new(RequestSpan::new(span, request)))
        });
        let mut entry = log.map(|log| log.begin(request, client.peer, proxy.clock.now()));
        let is_named = entry.is_some() || proxy.config.request_id == RequestIds::Respond;
        let request_id = is_named.then(|| identity::request_id(request.headers()));
        if let Some(entry) = &mut entry {
            let trace_id = Trace::of(request.headers()).and_then(Trace::id_as_value);
            entry.named(request_id.clone(), trace_id);
        }
        Line { began: Instant::now(), asked, entry, span, request_id }
    }
}

impl Line {
    /// It is a request that has one meaning.
    pub fn learn(&mut self, head: &mut ClientHead) {
        self.request_id.iter().for_each(|id| head.is_known_as(id.clone()));
        head.span.clone_from(&self.span);
        if let Some(entry) = &mut self.entry {
            entry.sent_by(head.sender);
            head.upstream_time = entry.upstream();
        }
    }

    /// There is an answer.
    pub fn close(self, worker: &Worker, answer: Answer) -> Response<Body> {
        let config = &worker.proxy.config;
        let (route, outcome) = (answer.route, answer.outcome);
        let mut response = worker.finish(answer, self.began.elapsed());
        if let Some((method, uri)) = self.asked {
            let cache = response.headers().get(CACHE_STATUS).and_then(|status| status.to_str().ok());
            tracing::debug!(%method, %uri, status = response.status().as_u16(), cache, "answered");
        }
        if let Some(id) = self.request_id.filter(|_| config.request_id == RequestIds::Respond) {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        let name = || route.and_then(|index| config.routes.get(index)).map(|route| route.name.clone());
        if let Some(span) = &self.span {
            span.answered(response.status(), name().as_deref(), outcome);
        }
        let Some(mut entry) = self.entry else { return response };
        let route = route.and_then(|index| config.routes.get(index)).map(|route| route.name.clone());
        entry.answered(Answered { status: response.status(), route, outcome });
        response.map(|body| body.logged(entry))
    }
}
