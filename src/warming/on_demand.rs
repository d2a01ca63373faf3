//! `POST /warm`: what an operator names is asked for now. What can't be understood is refused whole.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::timeout;

use super::{Progress, Tally, Warming, locked};
use crate::metrics::BackgroundKind;
use crate::policy::Route;
use crate::policy::path::Segment;
use crate::policy::url_template::{UrlTemplate, Values};
use crate::proxy::Errand;
use crate::stored_response::Asked;

/// An answer waits for what it is about no longer than that.
pub const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmRequest {
    /// Its name, or its path as the configuration writes it.
    route: Option<String>,
    /// Of the parameters of its path.
    values: BTreeMap<String, Vec<Value>>,
    urls: Vec<String>,
    headers: BTreeMap<String, String>,
}

/// What is to be asked for; the error says what is wrong, and what to write.
pub type Wanted<T> = Result<T, (String, String)>;

/// As it stands when the answer is given.
#[derive(Debug)]
pub struct Report {
    pub tally: Tally,
    pub is_done: bool,
}

impl Warming {
    pub async fn warm_now(self: &Arc<Self>, request: WarmRequest) -> Wanted<Report> {
        let headers = self.with_configured(fields(&request.headers)?);
        if !headers.contains_key(HOST) {
            let fix = "add `\"headers\": {\"Host\": \"api.example.com\"}`, or `background: {host: …}` to proxy.yaml";
            return Err(("nobody knows under which name clients ask".into(), fix.into()));
        }
        let routes = self.live.load().config.routes.clone();
        let (templates, values) = request.templates(&routes)?;
        let urls = templates.iter().flat_map(|template| template.urls(&values));
        let all: Vec<Asked> = urls.map(|uri| Asked { uri, headers: headers.clone() }).collect();
        Ok(self.report(BackgroundKind::Warm, all, Errand::Keep(Duration::ZERO)).await)
    }

    /// It goes on when the answer is given before it is done.
    pub(super) async fn report(
        self: &Arc<Self>,
        kind: BackgroundKind,
        all: Vec<Asked>,
        errand: Errand,
    ) -> Report {
        let progress = Progress::default();
        locked(&progress).requests = all.len() as u64;
        let (warming, its) = (self.clone(), progress.clone());
        let carrying = tokio::spawn(async move { warming.carry_all(kind, all, errand, its).await });
        let is_done = timeout(PATIENCE, carrying).await.is_ok();
        let tally = locked(&progress).clone();
        Report { tally, is_done }
    }
}

impl WarmRequest {
    fn templates(&self, routes: &[Arc<Route>]) -> Wanted<(Vec<UrlTemplate>, Values)> {
        let parse = |text: &String| {
            UrlTemplate::parse(text).map_err(|wrong| match wrong.split_once("; ") {
                Some((wrong, fix)) => (wrong.to_owned(), fix.to_owned()),
                None => (wrong, "write a path such as /api/courses".into()),
            })
        };
        let mut templates = self.urls.iter().map(parse).collect::<Wanted<Vec<_>>>()?;
        if let Some(name) = &self.route {
            templates.push(parse(&self.path_of(name, routes)?)?);
        }
        if templates.is_empty() {
            let fix = r#"send {"route": "/api/courses/{id}", "values": {"id": [1, 2]}} or {"urls": ["/api/courses"]}"#;
            return Err(("nothing is named".into(), fix.into()));
        }
        let values = self.values.iter().map(|(name, values)| Ok((name.clone(), texts(values)?)));
        let values: Values = values.collect::<Wanted<_>>()?;
        let places: Vec<&str> = templates.iter().flat_map(UrlTemplate::places).collect();
        if let Some(place) = places.iter().find(|place| !values.contains_key(**place)) {
            return Err((
                format!("`{{{place}}}` has no values"),
                format!("add \"values\": {{\"{place}\": [1, 2]}}"),
            ));
        }
        if let Some(name) = values.keys().find(|name| !places.contains(&name.as_str())) {
            return Err((format!("no URL has a `{{{name}}}`"), "leave its values out".into()));
        }
        Ok((templates, values))
    }

    /// Of the one route of that name whose parameters have values here.
    fn path_of(&self, name: &str, routes: &[Arc<Route>]) -> Wanted<String> {
        let is_asked = |route: &&Arc<Route>| {
            let parameters = route.path.segments().iter().filter_map(|segment| match segment {
                Segment::Parameter(name) | Segment::Rest(name) => Some(name),
                Segment::Literal(_) => None,
            });
            route.caches() && parameters.collect::<Vec<_>>() == self.values.keys().collect::<Vec<_>>()
        };
        let by_path = routes.iter().find(|route| route.path.as_str() == name);
        let mut named = routes.iter().filter(|route| *route.name == *name).filter(is_asked);
        let route = match (by_path, named.next(), named.next()) {
            (Some(route), ..) | (None, Some(route), None) => route,
            (None, None, _) => {
                let wrong = format!("no route {name:?} keeps responses and has these values");
                return Err((wrong, "name it as in proxy.yaml, by its path or its name".into()));
            }
            (None, Some(_), Some(_)) => {
                return Err((
                    format!("several routes are called {name:?}"),
                    "name the route by its path".into(),
                ));
            }
        };
        // `{*rest}` is one place here; a slash in its value stays one.
        Ok(route.path.as_str().replace("{*", "{"))
    }
}

fn fields(written: &BTreeMap<String, String>) -> Wanted<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let field = HeaderName::try_from(name).ok().zip(HeaderValue::from_str(value).ok());
        let wrong = || (format!("{name:?} is not a field with a value"), "write it as HTTP does".to_owned());
        let (name, value) = field.ok_or_else(wrong)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

fn texts(values: &[Value]) -> Wanted<Vec<String>> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err((format!("{other} is not a value"), "write texts or numbers".to_owned())),
    };
    values.iter().map(text).collect()
}
