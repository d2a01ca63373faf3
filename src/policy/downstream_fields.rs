//! The fields of a response that tell the caches between larder and its clients what to do with it.

use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, EXPIRES, ORIGIN, PRAGMA,
    USER_AGENT, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Route;
use super::cache_control::CacheControl;
use super::cache_status::{CacheOutcome, Fwd};
use super::downstream::{Downstream, SentResponse};
use super::response_tags::remove_cache_fields;
use super::route::{RouteMode, Shared};
use super::targeted::is_for_caches;
use super::vary::Vary;

/// Request fields that say how a response is to be written, and not for whom.
const NEGOTIATED: [HeaderName; 6] =
    [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ORIGIN, USER_AGENT];

/// Completes the fields of the response to a client: its `Cache-Control` by the route's `downstream`. With `list_tags`,
/// other shared caches store only what lists its tags. With either, no shared cache stores a response that is stale or not
/// stored here.
pub(crate) fn describe_to_caches(
    route: &Route,
    outcome: &CacheOutcome,
    status: StatusCode,
    headers: &mut HeaderMap,
) {
    if route.list_tags.is_empty() && route.downstream.is_none() {
        return remove_cache_fields(route, headers, false);
    }
    let describes = route.mode == RouteMode::On && route.caches() && !is_other_method(outcome);
    let lists_tags = describes && lists_all_tags(route, outcome, headers);
    remove_cache_fields(route, headers, lists_tags);
    if !describes {
        return;
    }
    let is_shareable = lists_tags || route.list_tags.is_empty();
    match &route.downstream {
        None if is_shareable => {}
        Some(downstream) if is_shareable => {
            let ttl = fresh_for(outcome).filter(|_| status != StatusCode::RANGE_NOT_SATISFIABLE);
            match ttl.filter(|_| route.merged_part().is_none()) {
                Some(ttl) => apply(downstream, route, ttl, headers),
                None => forbid_shared_caching(headers),
            }
        }
        _ => forbid_shared_caching(headers),
    }
}

/// Replaces the API's terms, also those for some caches alone.
fn apply(downstream: &Downstream, route: &Route, ttl: u64, headers: &mut HeaderMap) {
    let own = CacheControl::parse(headers);
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse().ok()).unwrap_or_default();
    let sent = SentResponse {
        age,
        ends_in: route.ttl_from.is_some().then_some(ttl),
        is_one_callers: is_one_callers(route, headers),
        no_transform: own.no_transform,
    };
    let Some(value) = downstream.cache_control(sent) else { return };
    remove_fields_for_caches(headers);
    replace_cache_control(headers, value);
    // The languages and the like that are in the key, whether the API has `Vary` or not.
    let named = Vary::parse(headers);
    let is_named =
        |name: &HeaderName| matches!(&named, Vary::Fields(fields) if fields.names().contains(name));
    for name in route.headers.iter().filter(|name| !is_named(name)) {
        headers.append(VARY, HeaderValue::from(name.clone()));
    }
}

/// Whether another caller may have another response at the same URL, so that no shared cache can tell them apart.
fn is_one_callers(route: &Route, headers: &HeaderMap) -> bool {
    let is_negotiated = |name: &HeaderName| NEGOTIATED.contains(name);
    let varies = match Vary::parse_ignoring(headers, &route.ignore_vary) {
        Vary::Nothing => false,
        Vary::Fields(fields) => !fields.names().iter().all(is_negotiated),
        Vary::Everything => true,
    };
    varies
        || route.per.is_some()
        || route.callers.is_some()
        || route.shared == Shared::SignedIn
        || !route.cookies.is_empty()
        || !route.headers.iter().all(is_negotiated)
}

/// The seconds for which a response that larder has stored, or is about to, stays fresh. `None`: it is stale, for this
/// request alone, or its content is to say.
fn fresh_for(outcome: &CacheOutcome) -> Option<u64> {
    let ttl = match *outcome {
        CacheOutcome::Hit { ttl, .. } => Some(ttl),
        CacheOutcome::Forwarded { stored, collapsed, ttl, .. } => ttl.filter(|_| stored || collapsed),
    };
    ttl.filter(|ttl| *ttl > 0).and_then(|ttl| u64::try_from(ttl).ok())
}

/// Whether the response has the list that it was stored with.
fn lists_all_tags(route: &Route, outcome: &CacheOutcome, headers: &HeaderMap) -> bool {
    let is_known = match *outcome {
        // A 304 confirmed a response with all its tags; the content that is still to come may name more.
        CacheOutcome::Hit { .. } | CacheOutcome::Forwarded { stored: true, fwd_status: Some(_), .. } => true,
        CacheOutcome::Forwarded { .. } => !route.reads_content(),
    };
    is_known && fresh_for(outcome).is_some() && route.list_tags.iter().all(|name| headers.contains_key(name))
}

/// Whether the request reads by no method by which the route may be cached.
fn is_other_method(outcome: &CacheOutcome) -> bool {
    matches!(outcome, CacheOutcome::Forwarded { fwd: Fwd::Method, .. })
}

/// Lets no shared cache store the response, and the client's own only ask for it again, unless the API is as strict.
fn forbid_shared_caching(headers: &mut HeaderMap) {
    remove_fields_for_caches(headers);
    let own = CacheControl::parse(headers);
    if !own.no_store && !own.private {
        replace_cache_control(headers, HeaderValue::from_static("private, no-cache"));
    }
}

fn remove_fields_for_caches(headers: &mut HeaderMap) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_for_caches(name)).cloned().collect();
    names.iter().for_each(|name| drop(headers.remove(name)));
}

fn replace_cache_control(headers: &mut HeaderMap, value: HeaderValue) {
    [EXPIRES, PRAGMA].iter().for_each(|name| drop(headers.remove(name)));
    headers.insert(CACHE_CONTROL, value);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::cache_status::Detail;
    use crate::policy::classify::PassReason;
    use crate::policy::credential::Credential;
    use crate::policy::downstream::CacheScope;
    use crate::policy::fixtures::{fields, route};
    use crate::policy::not_stored::NotStored;
    use crate::policy::route::Ttl;
    use crate::policy::ttl_from::{TimeSource, TtlFrom};

    const HIT: CacheOutcome = CacheOutcome::Hit { ttl: 30, detail: None };

    fn downstream() -> Downstream {
        Downstream {
            max_age: Duration::from_secs(60),
            s_maxage: Some(Duration::from_secs(600)),
            stale_while_revalidate: Some(Duration::from_secs(5)),
            stale_if_error: None,
            scope: Some(CacheScope::Public),
        }
    }

    fn by_default() -> Route {
        Route { ttl: Ttl::For(Duration::from_secs(60)), downstream: Some(downstream()), ..route("/a") }
    }

    /// The fields in the place of `response`.
    fn describe(route: &Route, outcome: CacheOutcome, response: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = fields(response);
        describe_to_caches(route, &outcome, StatusCode::OK, &mut headers);
        headers
    }

    fn cache_control(route: &Route, outcome: CacheOutcome, response: &[(&'static str, &str)]) -> String {
        let headers = describe(route, outcome, response);
        headers.get(CACHE_CONTROL).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[test]
    fn terms_count_from_when_larder_answers() {
        const FRESH: &str = "public, max-age=60, s-maxage=600, stale-while-revalidate=5";
        const OLDER: &str = "public, max-age=67, s-maxage=607, stale-while-revalidate=5";
        let stored = CacheOutcome::stored(Fwd::UriMiss, Some(60));
        for (outcome, response, expected) in [
            (HIT, &[][..], FRESH),
            (HIT, &[("age", "7"), ("cache-control", "max-age=5")], OLDER),
            (stored, &[("cache-control", "private, max-age=1")], FRESH),
            (CacheOutcome::collapsed(Fwd::UriMiss, 60), &[], FRESH),
            (CacheOutcome::freshened(Fwd::Stale, 60), &[("age", "7")], OLDER),
        ] {
            assert_eq!(cache_control(&by_default(), outcome, response), expected, "{outcome}");
        }
        let none = Route {
            downstream: Some(Downstream { max_age: Duration::ZERO, s_maxage: None, ..downstream() }),
            ..by_default()
        };
        let expected = "public, max-age=0, stale-while-revalidate=5, no-transform";
        assert_eq!(cache_control(&none, HIT, &[("age", "7"), ("cache-control", "no-transform")]), expected);
    }

    #[test]
    fn what_larder_has_no_fresh_response_for_is_for_no_shared_cache() {
        let not_stored = Some(Detail::NotStored(NotStored::SetCookie));
        for outcome in [
            CacheOutcome::Hit { ttl: -3, detail: Some(Detail::StaleWhileRevalidate) },
            CacheOutcome::forwarded(Fwd::UriMiss, not_stored),
            CacheOutcome::pass(PassReason::NoCredential),
            CacheOutcome::stale_if_error(None, -3),
            CacheOutcome::stored(Fwd::UriMiss, None),
            CacheOutcome::collapsed(Fwd::UriMiss, 0),
            CacheOutcome::head(Fwd::UriMiss, false),
        ] {
            for (own, expected) in [
                ("public, max-age=60", "private, no-cache"),
                ("", "private, no-cache"),
                ("no-store", "no-store"),
                ("private, max-age=9", "private, max-age=9"),
            ] {
                let response = [("cache-control", own), ("cdn-cache-control", "max-age=9"), ("expires", "0")];
                let headers = describe(&by_default(), outcome, &response);
                assert_eq!(headers.get(CACHE_CONTROL).unwrap(), expected, "{outcome} {own}");
                assert!(!headers.contains_key("cdn-cache-control"));
            }
        }
        let write = CacheOutcome::forwarded(Fwd::Method, None);
        assert_eq!(cache_control(&by_default(), write, &[("cache-control", "max-age=9")]), "max-age=9");
    }

    #[test]
    fn a_stale_response_with_its_list_is_for_no_shared_cache() {
        let route = Route { list_tags: vec![HeaderName::from_static("surrogate-key")], ..route("/a") };
        let response = [("cache-control", "max-age=600"), ("age", "5"), ("surrogate-key", "a")];
        let soft_purged = CacheOutcome::Hit { ttl: -3, detail: Some(Detail::StaleWhileRevalidate) };
        assert_eq!(cache_control(&route, soft_purged, &response), "private, no-cache");
        assert_eq!(cache_control(&route, HIT, &response), "max-age=600");
    }

    #[test]
    fn a_response_of_one_caller_is_private() {
        let private = "private, max-age=60, stale-while-revalidate=5";
        let header = || HeaderName::from_static("x-tenant");
        for route in [
            Route { per: Some(Credential::Authorization), ..by_default() },
            Route { shared: Shared::SignedIn, ..by_default() },
            Route { cookies: vec!["theme".to_owned()], ..by_default() },
            Route { headers: vec![header()], ..by_default() },
        ] {
            assert_eq!(cache_control(&route, HIT, &[]), private);
        }
        for vary in ["Cookie", "Accept, Authorization", "X-Tenant"] {
            assert_eq!(cache_control(&by_default(), HIT, &[("vary", vary)]), private, "{vary}");
        }
        let ignoring = Route { ignore_vary: vec![header()], ..by_default() };
        assert!(cache_control(&ignoring, HIT, &[("vary", "X-Tenant, Accept")]).starts_with("public"));
    }

    #[test]
    fn other_caches_learn_which_fields_are_in_the_key() {
        let route = Route { headers: vec![ACCEPT_LANGUAGE], ..by_default() };
        for (vary, expected) in [
            (None, &["accept-language"][..]),
            (Some("Accept"), &["Accept", "accept-language"]),
            (Some("accept, Accept-Language"), &["accept, Accept-Language"]),
        ] {
            let response: Vec<_> = vary.map(|vary| ("vary", vary)).into_iter().collect();
            let headers = describe(&route, HIT, &response);
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), expected);
            assert!(headers[CACHE_CONTROL].to_str().unwrap().starts_with("public"));
        }
    }

    #[test]
    fn no_cache_keeps_a_response_past_its_end() {
        let source = TimeSource::Header(HeaderName::from_static("x-expires"));
        let route = Route { ttl_from: Some(TtlFrom { source, minus: Duration::ZERO }), ..by_default() };
        assert_eq!(cache_control(&route, HIT, &[("age", "7")]), "public, max-age=37, s-maxage=37");
    }
}
