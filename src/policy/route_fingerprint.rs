//! The fingerprints of a route. Each has all rules that decide on what it is compared for.

use super::Route;
use super::content_key::{IgnoredContent, ReadMethods};
use super::credential::Credential;
use super::fingerprint::Fingerprint;
use super::key_hasher::KeyHasher;
use super::query::QueryRule;
use super::route::{OwnUrl, RouteMode};

impl Fingerprint {
    /// Hashes what the route says: the same in every process that has the same rules.
    pub(crate) fn from_route(route: &Route) -> Self {
        let mut parts = KeyHasher::new(b"larder rules 6");
        // The path defines which segment a tag's parameter stands for.
        parts.add(route.path.as_str().as_bytes());
        parts.add_list(route.tags.iter().map(|tag| tag.as_str().as_bytes()));
        if let Some(from) = &route.ttl_from {
            // Responses stored without `ttl_from` may be dead already, and their content is not read again.
            parts.add(format!("{from:?}").as_bytes());
        }
        add_query_rule(&mut parts, &route.query);
        add_credential(&mut parts, route.per.as_ref());
        parts.add_list(route.headers.iter().map(|name| name.as_str().as_bytes()));
        parts.add_list(route.cookies.iter().map(String::as_bytes));
        // A response that was shared under earlier overrides is not shared without them.
        let overrides = route.overrides;
        parts.add(format!("{:?} {:?}", route.shared, route.anonymous).as_bytes());
        // A name of one issuer is another person's at another.
        parts.add_optional(route.callers.as_ref().map(|callers| callers.rules.as_bytes()));
        parts.add(route.drop_response.describe().as_bytes());
        parts.add_list(route.exempt.iter().map(|name| name.as_str().as_bytes()));
        for flag in [overrides.lifetime, overrides.private, overrides.no_cache] {
            parts.add(&[u8::from(flag)]);
        }
        // A response that was stored without its caller's target is not reached by a purge of it.
        parts.add(&[u8::from(route.own_url == OwnUrl::Caller)]);
        parts.add_list(route.targeted.iter().map(|name| name.as_str().as_bytes()));
        if route.methods != ReadMethods::default() || route.ignore != IgnoredContent::default() {
            parts.add(format!("{:?} {:?}", route.methods, route.ignore).as_bytes());
        }
        // A response that was stored without the target of its equivalents is not reached by a purge of their URLs.
        if route.no_vary_search {
            parts.add(b"no-vary-search");
        }
        // A response that was stored for all values of a field is not one for a request with another value.
        if !route.ignore_vary.is_empty() {
            parts.add(b"ignore-vary");
            parts.add_list(route.ignore_vary.iter().map(|name| name.as_str().as_bytes()));
        }
        // A readable value in Redis is replaced once the route encrypts.
        if let Some(encrypt) = route.encrypt {
            parts.add(if encrypt { b"encrypt" } else { b"sign" });
        }
        // A response that was stored without its list would stay in other caches when it is purged.
        if !route.list_tags.is_empty() {
            parts.add(b"list-tags");
            parts.add_list(route.list_tags.iter().map(|name| name.as_str().as_bytes()));
        }
        if route.lists_targets {
            parts.add(b"listed-targets");
        }
        // An observed route forwards the whole request, so its key does not cover all of it.
        parts.add(&[u8::from(route.mode == RouteMode::Observe)]);
        Fingerprint::from_parts(parts)
    }

    /// Hashes the route's lifetime rules. A response stored under other rules, or by another release, is evaluated
    /// again.
    pub(crate) fn from_lifetimes(route: &Route) -> Self {
        let mut parts = KeyHasher::new(b"larder lifetimes 4");
        parts.add(env!("CARGO_PKG_VERSION").as_bytes());
        parts.add(format!("{:?}", route.ttl).as_bytes());
        parts.add(format!("{:?}", route.status).as_bytes());
        let by_s_maxage = route.overrides.s_maxage_revalidation;
        for flag in [route.heuristic, route.any_status, route.request_directives, by_s_maxage] {
            parts.add(&[u8::from(flag)]);
        }
        parts.add(&route.stale_while_revalidate.as_nanos().to_be_bytes());
        parts.add(&route.stale_if_error.as_nanos().to_be_bytes());
        Fingerprint::from_parts(parts)
    }
}

fn add_query_rule(parts: &mut KeyHasher, rule: &QueryRule) {
    match rule {
        QueryRule::All => parts.add(b"all"),
        QueryRule::Only(wanted) => {
            parts.add(b"only");
            parts.add_count(wanted.len());
            for (name, default) in wanted {
                parts.add(name.as_bytes());
                parts.add_optional(default.as_deref().map(str::as_bytes));
            }
        }
        QueryRule::Ignore(patterns) => {
            parts.add(b"ignore");
            parts.add_list(patterns.iter().map(String::as_bytes));
        }
    }
}

fn add_credential(parts: &mut KeyHasher, per: Option<&Credential>) {
    match per {
        None => parts.add(b"all"),
        Some(Credential::Authorization) => parts.add(b"authorization"),
        Some(Credential::Cookie(name)) => {
            // A response that was stored before the parts of a cookie counted may be another caller's.
            parts.add(b"cookie and parts");
            parts.add(name.as_bytes());
        }
        Some(Credential::Header(name)) => {
            parts.add(b"header");
            parts.add(name.as_str().as_bytes());
        }
        Some(Credential::AnyOf(credentials)) => {
            parts.add(b"any of");
            parts.add_count(credentials.len());
            credentials.iter().for_each(|credential| add_credential(parts, Some(credential)));
        }
        Some(Credential::Claims(paths)) => {
            parts.add(b"claims");
            parts.add_list(paths.iter().map(String::as_bytes));
        }
        Some(Credential::Identity) => parts.add(b"identity"),
    }
}

#[cfg(test)]
#[path = "route_fingerprint_tests.rs"]
mod tests;
