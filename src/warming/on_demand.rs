//! `POST /warm` and `POST /refresh`: runs started by an operator. An invalid request is refused as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{SharedTally, Tally, Warming};
use crate::metrics::BackgroundKind;
use crate::policy::Route;
use crate::policy::path::Segment;
use crate::policy::url_template::{PlaceholderValues, UrlTemplate};
use crate::proxy::RefreshPolicy;
use crate::stored_response::SampleRequest;

/// Longest time a response waits for its run.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WarmRequest {
    /// A route's name, or its path as written in the configuration.
    route: Option<String>,
    /// Values of the path's parameters.
    values: BTreeMap<String, Vec<Value>>,
    urls: Vec<String>,
    headers: BTreeMap<String, String>,
}

/// A result whose error is a message and its fix.
pub(crate) type WarmResult<T> = Result<T, (String, String)>;

/// State of a run when the response is sent.
#[derive(Debug)]
pub(crate) struct Report {
    pub tally: Tally,
    pub is_done: bool,
}

impl Warming {
    pub(crate) async fn warm_now(self: &Arc<Self>, request: WarmRequest) -> WarmResult<Report> {
        let headers = self.with_configured_headers(parse_headers(&request.headers)?);
        if !headers.contains_key(HOST) {
            let fix = "add `\"headers\": {\"Host\": \"api.example.com\"}`, or `background: {host: …}` to proxy.yaml";
            return Err(("no Host for the warm requests".into(), fix.into()));
        }
        let routes = self.live.load().config.routes.clone();
        let (templates, values) = request.resolve_templates(&routes)?;
        let urls = templates.iter().flat_map(|template| template.expand(&values));
        let requests: Vec<SampleRequest> =
            urls.map(|uri| SampleRequest { uri, headers: headers.clone() }).collect();
        Ok(self.run_with_report(BackgroundKind::Warm, requests, RefreshPolicy::Keep(Duration::ZERO)).await)
    }

    /// Starts a run and waits for it; it continues after `RESPONSE_TIMEOUT`.
    pub(super) async fn run_with_report(
        self: &Arc<Self>,
        kind: BackgroundKind,
        requests: Vec<SampleRequest>,
        policy: RefreshPolicy,
    ) -> Report {
        let progress = SharedTally::default();
        progress.lock().requests = requests.len() as u64;
        let (warming, shared) = (self.clone(), progress.clone());
        let run = tokio::spawn(async move { warming.run_all(kind, requests, policy, shared).await });
        let is_done = timeout(RESPONSE_TIMEOUT, run).await.is_ok();
        let tally = progress.lock().clone();
        Report { tally, is_done }
    }
}

impl WarmRequest {
    fn resolve_templates(&self, routes: &[Arc<Route>]) -> WarmResult<(Vec<UrlTemplate>, PlaceholderValues)> {
        let parse = |text: &String| {
            UrlTemplate::parse(text).map_err(|error| match error.split_once("; ") {
                Some((error, fix)) => (error.to_owned(), fix.to_owned()),
                None => (error, "write a path such as /api/courses".into()),
            })
        };
        let mut templates = self.urls.iter().map(parse).collect::<WarmResult<Vec<_>>>()?;
        if let Some(name) = &self.route {
            templates.push(parse(&self.find_path(name, routes)?)?);
        }
        if templates.is_empty() {
            let fix = r#"send {"route": "/api/courses/{id}", "values": {"id": [1, 2]}} or {"urls": ["/api/courses"]}"#;
            return Err(("no route or URL is named".into(), fix.into()));
        }
        let values = self.values.iter().map(|(name, values)| Ok((name.clone(), value_texts(values)?)));
        let values: PlaceholderValues = values.collect::<WarmResult<_>>()?;
        let placeholders: Vec<&str> = templates.iter().flat_map(UrlTemplate::placeholders).collect();
        if let Some(placeholder) = placeholders.iter().find(|placeholder| !values.contains_key(**placeholder))
        {
            return Err((
                format!("`{{{placeholder}}}` has no values"),
                format!("add \"values\": {{\"{placeholder}\": [1, 2]}}"),
            ));
        }
        if let Some(name) = values.keys().find(|name| !placeholders.contains(&name.as_str())) {
            return Err((format!("no URL has a `{{{name}}}`"), "remove shared values".into()));
        }
        Ok((templates, values))
    }

    /// Finds the path of the one route with this name whose parameters have values here.
    fn find_path(&self, name: &str, routes: &[Arc<Route>]) -> WarmResult<String> {
        let has_these_values = |route: &&Arc<Route>| {
            let parameters = route.path.segments().iter().filter_map(|segment| match segment {
                Segment::Parameter(name) | Segment::Rest(name) => Some(name),
                Segment::Literal(_) => None,
            });
            route.caches() && parameters.collect::<Vec<_>>() == self.values.keys().collect::<Vec<_>>()
        };
        let by_path = routes.iter().find(|route| route.path.as_str() == name);
        let mut named = routes.iter().filter(|route| *route.name == *name).filter(has_these_values);
        let route = match (by_path, named.next(), named.next()) {
            (Some(route), ..) | (None, Some(route), None) => route,
            (None, None, _) => {
                let error = format!("no caching route {name:?} has exactly these parameters");
                return Err((error, "use the route's path or name as in proxy.yaml".into()));
            }
            (None, Some(_), Some(_)) => {
                return Err((
                    format!("several routes have the name {name:?}"),
                    "use the route's path".into(),
                ));
            }
        };
        // `{*rest}` is a single placeholder here; a slash in its value stays one.
        Ok(route.path.as_str().replace("{*", "{"))
    }
}

fn parse_headers(written: &BTreeMap<String, String>) -> WarmResult<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let field = HeaderName::try_from(name).ok().zip(HeaderValue::from_str(value).ok());
        let error = || {
            (format!("{name:?} is not a valid header field"), "use a valid field name and value".to_owned())
        };
        let (name, value) = field.ok_or_else(error)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn value_texts(values: &[Value]) -> WarmResult<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err((format!("unexpected value {other}"), "use strings or numbers".to_owned())),
    };
    values.iter().map(text).collect()
}
