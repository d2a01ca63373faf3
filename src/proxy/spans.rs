//! The spans of a request: its own, and one for each upstream request. Attribute names follow OpenTelemetry's semantic
//! conventions for HTTP.

use http::{HeaderMap, Method, Request, StatusCode};

use super::trace_context;
use crate::clock::Timestamp;
use crate::policy::cache_status::{CacheOutcome, Detail, Fwd};
use crate::telemetry::{AttributeValue, ExemplarKey, Span};
use crate::upstream::UpstreamError;

/// The label of requests without a route in metrics.
const NO_ROUTE: &str = "other";

pub(crate) struct RequestSpan {
    span: Span,
    method: Method,
    path: String,
}

pub(crate) struct UpstreamSpan {
    span: Span,
    method: Method,
}

impl RequestSpan {
    pub(crate) fn new<B>(span: Span, request: &Request<B>) -> Self {
        Self { span, method: request.method().clone(), path: request.uri().path().to_owned() }
    }

    /// Ends the span with the response. `route`: the name of its route.
    pub(crate) fn finish(&self, status: StatusCode, route: Option<&str>, outcome: Option<CacheOutcome>) {
        let name = match route {
            Some(route) => format!("{} {route}", self.method),
            None => self.method.to_string(),
        };
        let mut facts = vec![
            ("http.request.method", text(self.method.as_str())),
            ("url.path", text(&self.path)),
            ("http.response.status_code", AttributeValue::Number(i64::from(status.as_u16()))),
        ];
        facts.extend(route.map(|route| ("http.route", text(route))));
        facts.extend(outcome.into_iter().flat_map(cache_attributes));
        let error = status.is_server_error().then(|| status.to_string());
        let from = match outcome {
            Some(CacheOutcome::Hit { .. }) => "store",
            Some(CacheOutcome::Forwarded { .. }) => "upstream",
            None => "larder",
        };
        self.span.record_exemplar(ExemplarKey { route: route.unwrap_or(NO_ROUTE), from });
        self.span.end(name, facts, error);
    }

    /// Starts the span of an upstream request, and propagates it in `traceparent`.
    pub(crate) fn start_upstream<B>(&self, request: &mut Request<B>, now: Timestamp) -> UpstreamSpan {
        let span = self.span.start_child(now);
        let headers: &mut HeaderMap = request.headers_mut();
        trace_context::set_parent_span(headers, span.context);
        UpstreamSpan { span, method: request.method().clone() }
    }
}

impl UpstreamSpan {
    /// Ends the span: the header section has arrived, or the request failed.
    pub(crate) fn end(self, result: Result<StatusCode, &UpstreamError>) {
        let mut facts = vec![("http.request.method", text(self.method.as_str()))];
        let error = match result {
            Ok(status) => {
                facts.push(("http.response.status_code", AttributeValue::Number(i64::from(status.as_u16()))));
                status.is_server_error().then(|| status.to_string())
            }
            Err(error) => {
                facts.push(("error.type", text(error.as_str())));
                Some(error.to_string())
            }
        };
        self.span.end(format!("{} upstream", self.method), facts, error);
    }
}

/// The attributes of `Cache-Status`.
fn cache_attributes(outcome: CacheOutcome) -> Vec<(&'static str, AttributeValue)> {
    let (status, detail) = match outcome {
        CacheOutcome::Hit { detail, .. } => ("hit", detail),
        CacheOutcome::Forwarded { fwd, detail, .. } => (Fwd::as_str(fwd), detail),
    };
    let mut facts = vec![("larder.cache.status", text(status))];
    facts.extend(detail.map(|detail| ("larder.cache.detail", text(Detail::as_str(detail)))));
    if let CacheOutcome::Forwarded { stored, collapsed, .. } = outcome {
        facts.push(("larder.cache.stored", AttributeValue::Flag(stored)));
        facts.push(("larder.cache.collapsed", AttributeValue::Flag(collapsed)));
    }
    facts
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::Text(text.to_owned())
}
