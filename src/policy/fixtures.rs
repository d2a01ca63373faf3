//! Routes and requests as tests write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::RequestHead;
use super::cache_key::Fingerprint;
use super::path::PathTemplate;
use super::query::QueryRule;
use super::route::{Mode, Overrides, Route, Semantics, Ttl};
use super::routes::Routes;
use super::tags::of_response;
use super::template::Template;
use crate::purge::{LoosePath, Target};

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
        ttl_from: None,
        jitter: 0,
        tags: vec![],
        purges: None,
        query: QueryRule::All,
        shared: false,
        status: BTreeMap::new(),
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        refresh_ahead: Duration::ZERO,
        max_size: 8 << 20,
        max_json: 1 << 20,
        timeout: None,
        collapse: Default::default(),
        collapse_wait: Duration::from_secs(5),
        per: None,
        headers: vec![],
        cookies: vec![],
        overrides: Overrides::default(),
        semantics: Semantics::default(),
        guard: false,
        settle: Duration::ZERO,
        fingerprint: Fingerprint::default(),
        lifetimes: Fingerprint::default(),
    }
}

pub fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| Template::parse(text).unwrap()).collect()
}

pub fn routes(routes: impl IntoIterator<Item = Route>) -> Routes {
    let numbered = routes.into_iter().enumerate().map(|(index, mut route)| {
        route.index = index;
        route.fingerprint = Fingerprint::of(&route);
        route.lifetimes = Fingerprint::of_lifetimes(&route);
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
            scheme: self.scheme,
            host: &self.host,
            query: self.query.as_deref(),
            ..RequestHead::new(&self.method, &self.path, &self.headers)
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

/// A small generator of numbers (splitmix64), so that a failing test can be run again from its seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// How many cases the tests with generated requests try; CI tries more.
pub fn generated_cases() -> usize {
    std::env::var("LARDER_GENERATED_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(200_000)
}

/// Whether a purge of `targets` reaches what a route without tags stored for `GET /plain`, whose answer had these fields.
pub fn reach_plain(targets: &[Target], response: &[(&'static str, &str)]) -> bool {
    let (route, request) = (route("/plain"), Request::get("/plain"));
    let tags = of_response(&route, &request.head(), &fields(response), None).unwrap();
    let ids = Target::all_of(&request.host, &LoosePath::new("/plain"), "", tags.iter().map(String::as_str));
    targets.iter().any(|target| ids.contains(&target.id()))
}
