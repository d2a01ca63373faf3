//! What the spans of a request say: of the request itself, and of each time the upstream was asked for it. The names are
//! those of OpenTelemetry's conventions for HTTP.

use http::{HeaderMap, Method, Request, StatusCode};

use super::identity;
use crate::clock::Timestamp;
use crate::policy::cache_status::{Detail, Fwd, Outcome};
use crate::telemetry::{Fact, Span};
use crate::upstream::UpstreamError;

pub struct RequestSpan {
    span: Span,
    method: Method,
    path: String,
}

pub struct UpstreamSpan {
    span: Span,
    method: Method,
}

impl RequestSpan {
    pub fn new<B>(span: Span, request: &Request<B>) -> Self {
        Self { span, method: request.method().clone(), path: request.uri().path().to_owned() }
    }

    /// Its answer begins. `route` is its route's name.
    pub fn answered(&self, status: StatusCode, route: Option<&str>, outcome: Option<Outcome>) {
        let name = match route {
            Some(route) => format!("{} {route}", self.method),
            None => self.method.to_string(),
        };
        let mut facts = vec![
            ("http.request.method", text(self.method.as_str())),
            ("url.path", text(&self.path)),
            ("http.response.status_code", Fact::Number(i64::from(status.as_u16()))),
        ];
        facts.extend(route.map(|route| ("http.route", text(route))));
        facts.extend(outcome.into_iter().flat_map(cache_facts));
        let error = status.is_server_error().then(|| status.to_string());
        self.span.end(name, facts, error);
    }

    /// The upstream is asked with `request`, and told of it.
    pub fn of_upstream<B>(&self, request: &mut Request<B>, now: Timestamp) -> UpstreamSpan {
        let span = self.span.child(now);
        let headers: &mut HeaderMap = request.headers_mut();
        identity::within_span(headers, span.place);
        UpstreamSpan { span, method: request.method().clone() }
    }
}

impl UpstreamSpan {
    /// Its header section is there, or will not come.
    pub fn end(self, result: Result<StatusCode, &UpstreamError>) {
        let mut facts = vec![("http.request.method", text(self.method.as_str()))];
        let error = match result {
            Ok(status) => {
                facts.push(("http.response.status_code", Fact::Number(i64::from(status.as_u16()))));
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

/// In the words of `Cache-Status`.
fn cache_facts(outcome: Outcome) -> Vec<(&'static str, Fact)> {
    let (status, detail) = match outcome {
        Outcome::Hit { detail, .. } => ("hit", detail),
        Outcome::Forwarded { fwd, detail, .. } => (Fwd::as_str(fwd), detail),
    };
    let mut facts = vec![("larder.cache.status", text(status))];
    facts.extend(detail.map(|detail| ("larder.cache.detail", text(Detail::as_str(detail)))));
    if let Outcome::Forwarded { stored, collapsed, .. } = outcome {
        facts.push(("larder.cache.stored", Fact::Flag(stored)));
        facts.push(("larder.cache.collapsed", Fact::Flag(collapsed)));
    }
    facts
}

fn text(text: &str) -> Fact {
    Fact::Text(text.to_owned())
}
