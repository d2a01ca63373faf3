//! Internal requests: what larder asks for itself, so that it is stored before a client asks.
//!
//! They go the way of a client's request. No client gets the response, and none is counted. A request that would pass is
//! refused, not forwarded.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Limited};

use super::answer::Answer;
use super::cached_request::{answer_cached, with_route_timeout};
use super::client_request::{Client, ClientRequest, RefreshPolicy};
use super::pass_through::pass;
use super::worker::Worker;
use crate::policy::cache_status::{CacheOutcome, Detail};
use crate::policy::classify::Classification;
use crate::policy::route::RouteMode;
use crate::stored_response::SampleRequest;

/// The outcome of an internal request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RefreshOutcome {
    /// The upstream was asked, and its response is stored.
    Fetched,
    /// A fresh response was stored already, or another fetch stored it.
    Fresh,
    /// The upstream's response may not be stored.
    NotStored(&'static str),
    /// The request can't be answered from the store, so the upstream was not asked.
    Refused(&'static str),
    /// The upstream failed.
    Failed(String),
}

impl Worker {
    /// Makes sure that the response to `sample` is stored and as fresh as the policy asks.
    pub(crate) async fn refresh(&self, sample: &SampleRequest, policy: RefreshPolicy) -> RefreshOutcome {
        let mut request = match self.internal_request(sample, policy) {
            Ok(request) => request,
            Err(error) => return RefreshOutcome::Failed(error),
        };
        let lookup = match self.classify_internal(&mut request.head).await {
            Classification::Lookup(lookup) if lookup.route.mode == RouteMode::On => lookup,
            Classification::Lookup(_) => return RefreshOutcome::Refused("observe"),
            Classification::Pass { reason, .. } => return RefreshOutcome::Refused(reason.as_str()),
            Classification::ContentRead { .. }
            | Classification::Write { .. }
            | Classification::Identify { .. } => {
                return RefreshOutcome::Refused("method");
            }
        };
        let route = lookup.route;
        let answer =
            with_route_timeout(Some(route), answer_cached(self, Box::new(request), lookup, None)).await;
        let outcome = RefreshOutcome::from_answer(&answer);
        match drain(answer).await {
            Ok(()) => outcome,
            Err(error) => RefreshOutcome::Failed(error),
        }
    }

    /// The status, the fields and the content of the response to a GET, from the store or the upstream.
    pub(crate) async fn fetch_content(
        &self,
        sample: &SampleRequest,
        limit: usize,
    ) -> Result<(StatusCode, HeaderMap, Bytes), String> {
        let mut request = Box::new(self.internal_request(sample, RefreshPolicy::Keep(Duration::ZERO))?);
        let answer = match self.classify_internal(&mut request.head).await {
            Classification::Lookup(lookup) => {
                let route = Some(lookup.route);
                with_route_timeout(route, answer_cached(self, request, lookup, None)).await
            }
            Classification::Pass { reason, route } => {
                with_route_timeout(route, pass(self, request, route, CacheOutcome::pass(reason))).await
            }
            Classification::ContentRead { .. }
            | Classification::Write { .. }
            | Classification::Identify { .. } => {
                return Err("it is no GET".into());
            }
        };
        let (parts, body) = answer.response.into_parts();
        let content = Limited::new(body, limit).collect().await.map_err(|error| error.to_string())?;
        Ok((parts.status, parts.headers, content.to_bytes()))
    }

    fn internal_request(
        &self,
        sample: &SampleRequest,
        policy: RefreshPolicy,
    ) -> Result<ClientRequest, String> {
        let mut request = Request::new(None);
        *request.uri_mut() = sample.uri.clone();
        *request.headers_mut() = sample.headers.clone();
        let client = Client { peer: None, is_tls: false, refresh: Some(policy) };
        let mut request =
            ClientRequest::accept(request, client, &self.proxy.config).map_err(|error| error.to_string())?;
        request.head.choose_language(&self.proxy.routes);
        Ok(request)
    }
}

impl RefreshOutcome {
    fn from_answer(answer: &Answer) -> Self {
        match answer.outcome.ok() {
            Some(CacheOutcome::Hit { .. } | CacheOutcome::Forwarded { collapsed: true, .. }) => {
                RefreshOutcome::Fresh
            }
            Some(CacheOutcome::Forwarded { stored: true, .. }) => RefreshOutcome::Fetched,
            Some(CacheOutcome::Forwarded { detail: Some(Detail::StaleIfError), .. }) => {
                RefreshOutcome::Failed("the upstream failed".into())
            }
            Some(CacheOutcome::Forwarded { detail, .. }) => {
                RefreshOutcome::NotStored(detail.map_or("unknown", Detail::as_str))
            }
            None => RefreshOutcome::Failed(format!("it was answered {}", answer.response.status())),
        }
    }

    /// The metric's label.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            RefreshOutcome::Fetched => "fetched",
            RefreshOutcome::Fresh => "fresh",
            RefreshOutcome::NotStored(_) => "not-stored",
            RefreshOutcome::Refused(_) => "refused",
            RefreshOutcome::Failed(_) => "failed",
        }
    }
}

/// Reads the response to its end: that is when it is stored.
async fn drain(answer: Answer) -> Result<(), String> {
    let mut body = answer.response.into_body();
    while let Some(frame) = body.frame().await {
        frame.map_err(|error| error.to_string())?;
    }
    Ok(())
}
