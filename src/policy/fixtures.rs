//! Routes and requests as tests write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::RequestHead;
use super::cache_key::Fingerprint;
use super::path::PathTemplate;
use super::query::QueryRule;
use super::route::{Mode, Overrides, Route, Ttl};
use super::routes::Routes;
use super::template::Template;

pub const CREDENTIALS: [HeaderName; 3] =
    [header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-api-key")];

/// A route that caches for a minute, and says nothing else.
pub fn route(path: &str) -> Route {
    Route {
        index: 0,
        name: path.into(),
        path: PathTemplate::parse(path).unwrap(),
        mode: Mode::On,
        ttl: Ttl::For(Duration::from_secs(60)),
        tags: vec![],
        purges: None,
        query: QueryRule::All,
        shared: false,
        status: BTreeMap::new(),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        max_size: 8 << 20,
        collapse: true,
        per: None,
        headers: vec![],
        cookies: vec![],
        overrides: Overrides::default(),
        settle: Duration::ZERO,
        fingerprint: Fingerprint::default(),
    }
}

pub fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| Template::parse(text).unwrap()).collect()
}

pub fn routes(routes: impl IntoIterator<Item = Route>) -> Routes {
    let numbered = routes.into_iter().enumerate().map(|(index, mut route)| {
        route.index = index;
        route.fingerprint = Fingerprint::of(&route);
        Arc::new(route)
    });
    Routes::new(&numbered.collect::<Vec<_>>())
}

#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub scheme: &'static str,
    pub host: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        Self {
            method: method.parse().unwrap(),
            scheme: "http",
            host: "api.example".to_owned(),
            path: path.to_owned(),
            query,
            headers: HeaderMap::new(),
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            scheme: self.scheme,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

pub fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}
