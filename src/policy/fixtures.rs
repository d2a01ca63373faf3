//! Routes and requests for tests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::RequestHead;
use super::caller_fields::CallerFields;
use super::fingerprint::Fingerprint;
use super::path::PathTemplate;
use super::purge_targets::PurgeRule;
use super::rate_limit::{CountedRequests, RateKey, RateLimit};
use super::response_tags::response_tags;
use super::route::{Route, Ttl};
use super::routes::Routes;
use super::template::Template;
use super::write_outcome::OutcomeRules;
use crate::purge::{NormalizedPath, Target};

/// The usual three and no others.
pub(crate) fn caller_fields() -> CallerFields {
    CallerFields::only(vec![header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-api-key")])
}

/// A route with `ttl: 60s` and the defaults of `proxy.yaml`.
pub(crate) fn route(path: &str) -> Route {
    Route {
        ttl: Ttl::For(Duration::from_secs(60)),
        max_size: 8 << 20,
        max_json: 1 << 20,
        collapse_wait: Duration::from_secs(5),
        max_targets: 64,
        purge_on: OutcomeRules::default().purge_on,
        collapse_timeout: Duration::from_secs(5),
        targeted: vec![HeaderName::from_static("larder-cache-control")],
        accepted_settle: Duration::from_secs(10),
        read_your_writes: true,
        ..Route::with_path(PathTemplate::parse(path).unwrap())
    }
}

/// A limit by client of this many requests in a period of seconds, with this burst.
pub(crate) fn rate_limit(requests: u32, period: u64, burst: u32) -> RateLimit {
    RateLimit {
        name: None,
        requests,
        period: Duration::from_secs(period),
        burst,
        by: RateKey::Client,
        counted: CountedRequests::All,
        is_shared: false,
        is_enforced: true,
    }
}

pub(crate) fn templates(texts: &[&str]) -> Vec<Template> {
    texts.iter().map(|text| Template::parse(text).unwrap()).collect()
}

/// Entries of `purges` without options.
pub(crate) fn purges(texts: &[&str]) -> Vec<PurgeRule> {
    templates(texts).into_iter().map(PurgeRule::from).collect()
}

pub(crate) fn routes(routes: impl IntoIterator<Item = Route>) -> Routes {
    let numbered = routes.into_iter().enumerate().map(|(index, mut route)| {
        route.index = index;
        route.fingerprint = Fingerprint::from_route(&route);
        route.lifetime_fingerprint = Fingerprint::from_lifetimes(&route);
        Arc::new(route)
    });
    Routes::new(&numbered.collect::<Vec<_>>())
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub method: Method,
    pub scheme: &'static str,
    pub host: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Self {
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

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        self
    }

    pub(crate) fn head(&self) -> RequestHead<'_> {
        RequestHead {
            scheme: self.scheme,
            host: &self.host,
            query: self.query.as_deref(),
            ..RequestHead::new(&self.method, &self.path, &self.headers)
        }
    }
}

pub(crate) fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
    let lines = lines.iter().map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    });
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(name, value);
    }
    headers
}

/// A small seeded random number generator (splitmix64), so that failures are reproducible.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// The number of generated cases; CI sets a higher one.
pub(crate) fn generated_cases() -> usize {
    std::env::var("LARDER_GENERATED_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(200_000)
}

/// Whether purging `targets` reaches the response to `GET /plain` with these fields, on a route without tags.
pub(crate) fn reach_plain(targets: &[Target], response: &[(&'static str, &str)]) -> bool {
    let (route, request) = (route("/plain"), Request::get("/plain"));
    let tags = response_tags(&route, &request.head(), &fields(response), None).unwrap();
    let ids = Target::ids_for_response(
        &request.host,
        &NormalizedPath::new("/plain"),
        "",
        tags.iter().map(String::as_str),
    );
    targets.iter().any(|target| ids.contains(&target.id()))
}
