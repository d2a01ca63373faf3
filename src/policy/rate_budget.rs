//! The budgets of rate limits: which limit counts a request, and on whose account.

use std::cmp::Reverse;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::invalidation::possible_routes;
use super::rate_limit::{RateKey, RateLimit};
use super::route::RouteMode;
use super::routes::Routes;
use super::{RequestHead, Route};

/// Identifies a budget, in all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BudgetId {
    /// The hash of the route and of the caller.
    pub hash: [u8; 16],
    /// It is of a field's value, which clients can invent.
    pub(crate) is_inventable: bool,
}

/// The route of the strictest limit among all routes that the path may mean: one that refuses, with the highest price.
pub(crate) fn find_strictest<'r>(routes: &'r Routes, path: &str) -> Option<&'r Arc<Route>> {
    if !routes.has_rates {
        return None;
    }
    let possible = routes.find(path).into_iter().chain(possible_routes(routes, path));
    let rated = possible.filter_map(|route| Some((route, route.rate.as_ref()?)));
    let strictness =
        |(route, limit): &(&Arc<Route>, &RateLimit)| Reverse((limit.is_enforced_on(route), limit.price()));
    rated.min_by_key(strictness).map(|(route, _)| route)
}

impl RateLimit {
    /// Whether requests on the route are refused, rather than only counted.
    pub(crate) fn is_enforced_on(&self, route: &Route) -> bool {
        self.is_enforced && route.mode != RouteMode::Observe
    }

    /// The budget of the value that the limit counts by. `None`: the request has none, and its address counts.
    pub(crate) fn value_budget(&self, route: &Route, request: &RequestHead<'_>) -> Option<BudgetId> {
        let known = request.caller.known();
        let source = route.callers.as_ref().map_or("", |source| &*source.name);
        let (kind, value) = match &self.by {
            RateKey::Client => return None,
            RateKey::Caller => (["caller", source, ""], known?.name.as_deref()?.as_bytes()),
            RateKey::Claim(path) => (["claim", source, path.as_str()], known?.claim(path)?.json.as_bytes()),
            RateKey::Header(name) => (["header", "", name.as_str()], request.headers.get(name)?.as_bytes()),
        };
        let is_inventable = matches!(self.by, RateKey::Header(_));
        Some(BudgetId { hash: self.budget_hash(route, kind, value), is_inventable })
    }

    /// The budget of an address.
    pub(crate) fn address_budget(&self, route: &Route, client: &str) -> BudgetId {
        let hash = self.budget_hash(route, ["client", "", ""], client.as_bytes());
        BudgetId { hash, is_inventable: false }
    }

    /// A hash of the limit's name, the kind of value with its names, and the value. The lengths keep the parts apart.
    fn budget_hash(&self, route: &Route, [kind, source, field]: [&str; 3], value: &[u8]) -> [u8; 16] {
        let mut id = Sha256::new();
        for part in [self.name(route), kind, source, field].map(str::as_bytes).into_iter().chain([value]) {
            id.update(part.len().to_be_bytes());
            id.update(part);
        }
        let id: [u8; 32] = id.finalize().into();
        std::array::from_fn(|at| id[at])
    }

    pub(crate) fn name<'r>(&'r self, route: &'r Route) -> &'r str {
        self.name.as_deref().unwrap_or(route.path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};

    use super::*;
    use crate::policy::caller::{CallerSource, CallerView, Claim, Identity};
    use crate::policy::fixtures::{fields, rate_limit, route, routes};

    #[test]
    fn a_budget_is_of_a_name_and_a_client_or_a_value() {
        let (login, other) = (route("/login"), route("/other"));
        let budget = |limit: &RateLimit, route: &Route, lines: &[(&'static str, &str)], from: &str| {
            let headers: HeaderMap = fields(lines);
            let value = limit.value_budget(route, &RequestHead::new(&Method::GET, "/", &headers));
            value.unwrap_or_else(|| limit.address_budget(route, from))
        };
        let by_client = rate_limit(1, 1, 1);
        let by_key =
            RateLimit { by: RateKey::Header(HeaderName::from_static("x-key")), ..rate_limit(1, 1, 1) };
        let named = RateLimit { name: Some("api".into()), ..rate_limit(1, 1, 1) };
        let here = budget(&by_client, &login, &[("x-key", "a")], "192.0.2.1");
        assert_eq!(here, budget(&by_client, &login, &[], "192.0.2.1"));
        assert_ne!(here, budget(&by_client, &login, &[], "192.0.2.2"));
        assert_ne!(here, budget(&by_client, &other, &[], "192.0.2.1"));
        assert_eq!(budget(&named, &login, &[], "192.0.2.1"), budget(&named, &other, &[], "192.0.2.1"));
        let of_a = budget(&by_key, &login, &[("x-key", "a")], "192.0.2.1");
        assert_eq!(of_a, budget(&by_key, &login, &[("x-key", "a")], ""));
        assert_ne!(of_a, budget(&by_key, &login, &[("x-key", "b")], "192.0.2.1"));
        assert_eq!(here, budget(&by_key, &login, &[], "192.0.2.1"), "without the field the address counts");
        assert_ne!(here, budget(&by_key, &login, &[("x-key", "192.0.2.1")], ""));
    }

    #[test]
    fn equal_values_of_different_kinds_are_different_budgets() {
        let source = |name: &str| CallerSource {
            name: name.into(),
            index: 0,
            credentials: Vec::new(),
            rules: "".into(),
            has_claims: true,
        };
        let with_callers = |name: &str| Route { callers: Some(source(name)), ..route("/login") };
        let claim =
            |path: &str| Claim { path: path.into(), json: "ann".into(), text: None, names_one_caller: false };
        let ann = Identity {
            name: Some("ann".into()),
            claims: vec![claim("sub"), claim("id")],
            kind: Default::default(),
            expires_at: None,
        };
        let headers: HeaderMap = fields(&[("x-key", "ann"), ("x-other", "ann")]);
        let request =
            RequestHead { caller: CallerView::Known(&ann), ..RequestHead::new(&Method::GET, "/", &headers) };
        let header = |name| RateKey::Header(HeaderName::from_static(name));
        let claim = |path: &str| RateKey::Claim(path.to_owned());
        let keys = [RateKey::Caller, claim("sub"), claim("id"), header("x-key"), header("x-other")];
        let mut found: Vec<_> = Vec::new();
        for (by, source) in keys.into_iter().map(|by| (by, "app")).chain([(RateKey::Caller, "staff")]) {
            let limit = RateLimit { by, ..rate_limit(1, 1, 1) };
            let budget = limit.value_budget(&with_callers(source), &request).expect("a value");
            assert!(!found.contains(&budget), "{:?} of {source}", limit.by);
            found.push(budget);
        }
    }

    #[test]
    fn the_strictest_limit_that_refuses_is_found_in_any_spelling() {
        let with_rate = |path, rate: RateLimit| Route { rate: Some(rate), ..route(path) };
        let observed = RateLimit { is_enforced: false, ..rate_limit(1, 3600, 1) };
        let routes = routes([
            with_rate("/api/{*rest}", rate_limit(100, 60, 100)),
            with_rate("/api/login", rate_limit(5, 300, 5)),
            with_rate("/api/fast", rate_limit(100, 1, 100)),
            with_rate("/api/observed", observed),
        ]);
        let found = |path| find_strictest(&routes, path).map(|route| route.path.as_str());
        for path in
            ["/api/login", "/api//login", "/API/Login", "/api/%6cogin", "/api/login/", "/api/x/../login"]
        {
            assert_eq!(found(path), Some("/api/login"), "{path}");
        }
        assert_eq!(found("/api/login%3Fx"), Some("/api/login"), "a careless reader ends the path there");
        assert_eq!((found("/api/fast"), found("/other")), (Some("/api/fast"), None));
        assert_eq!(found("/api/Fast"), Some("/api/{*rest}"));
        assert_eq!(found("/api/Observed"), Some("/api/{*rest}"));
    }
}
