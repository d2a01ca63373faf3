//! `larder lint`: findings about valid settings that do not do what they seem to. Each finding has a name, by which it can
//! be allowed. Some checks classify sample requests with the functions that the proxy uses.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::diagnostics::Diagnostics;
use super::events::ParsedSource;
use super::fields::Located;
use super::finding_name::FindingName;
use super::framework_cookies;
use super::parsed_route::ParsedRoute;
use super::path_conventions;
use super::suggest::nearest;
use crate::policy::caller::{CallerSource, CallerVerdict, Claim, IdentifyCaller, Identity};
use crate::policy::classify::{Caller, Classification, PassReason, classify};
use crate::policy::credential::Credential;
use crate::policy::hop_by_hop::is_hop_by_hop;
use crate::policy::path::{AffixedParameter, Segment};
use crate::policy::route::{RouteMode, Shared, Ttl};
use crate::policy::routes::Routes;
use crate::policy::template::{Template, TemplateNeed};
use crate::policy::{CallerFields, RequestHead, Route};

/// The value of every parameter and field in a sample request. No route is likely to have it as a literal.
const SAMPLE_VALUE: &str = "larder-lint";

pub(super) fn add_findings(
    routes: &[ParsedRoute],
    sources: &[ParsedSource],
    (credentials, verifies_tokens): (&CallerFields, bool),
    diagnostics: &Diagnostics,
) {
    let all: Vec<Arc<Route>> = routes.iter().map(|parsed| Arc::new(parsed.route.clone())).collect();
    let lint = Linter { routes, sources, tree: Routes::new(&all), credentials, verifies_tokens, diagnostics };
    framework_cookies::check(routes, credentials, diagnostics);
    path_conventions::check(routes, sources, diagnostics);
    for parsed in routes {
        if parsed.route.caches() {
            lint.check_never_looked_up(parsed);
            lint.check_credential_of_one_route(parsed);
            lint.check_tags_never_resolve(parsed);
            lint.check_tags_never_purged(parsed);
            lint.check_override_without_effect(parsed);
            lint.check_stale_closed_by_s_maxage(parsed);
        } else {
            lint.check_key_without_effect(parsed);
        }
        lint.check_purges_without_target(parsed);
        lint.check_unverified_claims(parsed);
    }
}

struct Linter<'l> {
    routes: &'l [ParsedRoute],
    sources: &'l [ParsedSource],
    tree: Routes,
    credentials: &'l CallerFields,
    /// `callers` has an entry that verifies tokens.
    verifies_tokens: bool,
    diagnostics: &'l Diagnostics,
}

impl Linter<'_> {
    /// Classifies a GET with everything that the route's key needs, and the fields in `more`.
    fn classify_sample(
        &self,
        route: &Route,
        more: &[(HeaderName, String)],
    ) -> Result<Caller, Option<PassReason>> {
        let mut headers = HeaderMap::new();
        for (name, value) in credential(route).into_iter().chain(more.iter().cloned()) {
            headers.append(
                name,
                HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static(SAMPLE_VALUE)),
            );
        }
        let path = sample_path(route);
        let request = RequestHead { host: SAMPLE_VALUE, ..RequestHead::new(&Method::GET, &path, &headers) };
        match classify(&self.tree, &request, false, self.credentials, &SampleCaller(route)) {
            Classification::Lookup(lookup) if lookup.route.index == route.index => Ok(lookup.caller),
            Classification::Pass { reason, .. } => Err(Some(reason)),
            _ => Err(None),
        }
    }

    fn check_never_looked_up(&self, parsed: &ParsedRoute) {
        let route = &parsed.route;
        let credentials = route.per.iter().flat_map(Credential::alternatives);
        if let Some(name) =
            credentials.filter_map(Credential::field).find(|name| is_hop_by_hop(name, &HeaderMap::new()))
        {
            let location = parsed.own.per.as_ref().map_or(parsed.path_location, |per| per.location);
            self.diagnostics
                .warning(
                    location,
                    format!("`{name}` of `per` is a hop-by-hop field, which the upstream never receives"),
                )
                .help("name the field by which the API identifies callers")
                .name(FindingName::NeverCached);
            return;
        }
        let Err(why) = self.classify_sample(route, &[]) else { return };
        let (message, help) = match why {
            Some(PassReason::PathSpelling) => (
                "no GET is cached here: its path can also be read as one of another route",
                "write literal segments in lower case, and without escapes",
            ),
            Some(PassReason::OverrideField | PassReason::Upgrade) => (
                "no GET is cached here: a request with the field in `per` is always forwarded",
                "name the field by which the API identifies callers",
            ),
            _ => (
                "no GET is cached here: another route matches all of its paths",
                "make them one route, or give this one a path of its own",
            ),
        };
        self.diagnostics.warning(parsed.path_location, message).help(help).name(FindingName::NeverCached);
    }

    /// Warns of a field that is in `per` here but not in `credentials`: other routes share responses across its values.
    fn check_credential_of_one_route(&self, parsed: &ParsedRoute) {
        let credentials = parsed.route.per.iter().flat_map(Credential::alternatives);
        let mut fields = credentials.filter_map(Credential::field);
        let Some(field) = fields.find(|field| !self.credentials.identify(field)) else { return };
        let separates_callers = |route: &Route| {
            route.shared != Shared::No || route.headers.contains(&field) || route.per == parsed.route.per
        };
        let other = self.routes.iter().find(|other| other.route.caches() && !separates_callers(&other.route));
        if let Some(other) = other {
            let location = parsed.own.per.as_ref().map_or(parsed.path_location, |per| per.location);
            self.diagnostics
                .warning(
                    location,
                    format!("`{field}` identifies callers here, but is not in `credentials`: other routes ignore it"),
                )
                .note(other.path_location, "such as this one")
                .help(format!("add `{field}` to `credentials`, or write `shared: true` there if its responses are for all"))
                .name(FindingName::UnknownCredential);
        }
    }

    fn check_tags_never_resolve(&self, parsed: &ParsedRoute) {
        let route = &parsed.route;
        for tag in &parsed.tags {
            for need in tag.value.needs() {
                let field = match need {
                    TemplateNeed::Query(name) => {
                        if !is_selected(route, name) {
                            self.diagnostics
                                .warning(
                                    tag.location,
                                    format!("`{{query.{name}}}` has no value here: `query` drops it"),
                                )
                                .help(format!("add `{name}` to the route's `query`"))
                                .name(FindingName::TagNeverResolves);
                        }
                        continue;
                    }
                    TemplateNeed::Jwt => (AUTHORIZATION, format!("Bearer {SAMPLE_VALUE}")),
                    TemplateNeed::Cookie(name) => (COOKIE, format!("{name}={SAMPLE_VALUE}")),
                    TemplateNeed::Header(name) => (name.clone(), SAMPLE_VALUE.to_owned()),
                };
                // The credential of `per` is part of the key.
                let is_in_key = credential(route).is_some_and(|(name, _)| name == field.0);
                let found = self.classify_sample(route, std::slice::from_ref(&field));
                if !is_in_key && found.is_ok_and(|caller| !caller.is_in_key()) {
                    let name = &field.0;
                    self.diagnostics
                        .warning(
                            tag.location,
                            format!(
                                "`{}` has a value only with `{name}`, and responses to requests with it are not stored here",
                                tag.value.as_str()
                            ),
                        )
                        .help("write `per` (or `shared: true`), so that such responses are stored")
                        .name(FindingName::TagNeverResolves);
                }
            }
        }
    }

    /// Warns of a tag with a claim that is not verified, although a token could be: a forged one then purges other callers'
    /// responses.
    fn check_unverified_claims(&self, parsed: &ParsedRoute) {
        if parsed.route.callers.is_some() || !self.verifies_tokens {
            return;
        }
        for tag in parsed.tags.iter().chain(&parsed.purges) {
            if let Some(claim) = tag.value.claims().next() {
                self.diagnostics
                    .warning(
                        tag.location,
                        format!("`{{jwt.{claim}}}` is read from a token that is not verified"),
                    )
                    .help("add `callers: NAME` of an entry that verifies tokens")
                    .name(FindingName::UnverifiedClaim);
            }
        }
    }

    /// Warns of a tag of a route with `purges: []` that no other route and no event purges.
    fn check_tags_never_purged(&self, parsed: &ParsedRoute) {
        if !parsed.route.has_empty_purges() {
            return;
        }
        let others = || self.routes.iter().filter(|other| other.route.index != parsed.route.index);
        let purges = |other: &ParsedRoute, tag: &Template| {
            other.route.purge_templates().any(|purged| purged.may_reach_any(tag))
        };
        let is_announced = |tag: &Template| {
            self.sources.iter().flat_map(|source| &source.purge).any(|purged| purged.value.may_reach_any(tag))
        };
        let is_purged = |tag: &Template| others().any(|other| purges(other, tag)) || is_announced(tag);
        for tag in parsed.tags.iter().filter(|tag| !is_purged(&tag.value)) {
            self.diagnostics
                .warning(tag.location, format!("no write and no event purges `{}`", tag.value.as_str()))
                .help("name it in `purges` of the route that changes it; here `purges: []` excludes the route's own writes")
                .name(FindingName::TagNeverPurged);
        }
    }

    /// Warns of a purged tag that no route has. Tags may come from response fields too; then the finding is allowed.
    fn check_purges_without_target(&self, parsed: &ParsedRoute) {
        let carried =
            || self.routes.iter().filter(|other| other.route.caches()).flat_map(|other| &other.route.tags);
        let shapes: Vec<String> = carried().map(Template::shape).collect();
        for purged in &parsed.purges {
            // `warnings` reports a tag that is close to one of a route.
            let is_near = nearest(&purged.value.shape(), shapes.iter().map(String::as_str)).is_some();
            if !is_near && !carried().any(|tag| purged.value.may_reach_any(tag)) {
                self.diagnostics
                    .warning(purged.location, format!("no route's responses carry `{}`", purged.value.as_str()))
                    .help("add it to `tags` of the routes that it changes; allow this if responses carry it in `Surrogate-Key` or the like")
                    .name(FindingName::TagNeverCarried);
            }
        }
    }

    fn check_override_without_effect(&self, parsed: &ParsedRoute) {
        let route = &parsed.route;
        if let Some(Located { value, location }) = &parsed.own.overrides
            && value.lifetime
            && route.ttl == Ttl::Upstream
            && route.status.is_empty()
        {
            self.diagnostics
                .warning(*location, "`override: [lifetime]` has no lifetime to put in its location")
                .help("give the route a `ttl`")
                .name(FindingName::NoEffect);
        }
    }

    /// Warns of a stale window that `s-maxage` closes, where lifetimes are the upstream's own.
    fn check_stale_closed_by_s_maxage(&self, parsed: &ParsedRoute) {
        let route = &parsed.route;
        if let Some(Located { value, location }) = &parsed.own.stale_if_error
            && !value.is_zero()
            && route.ttl == Ttl::Upstream
            && !route.overrides.s_maxage_revalidation
        {
            self.diagnostics
                .warning(
                    *location,
                    "`stale_if_error` does not hold for responses with `s-maxage`, which forbids stale ones (RFC 9111 §5.2.2.10)",
                )
                .help("add `s-maxage-revalidation` to `override`, or allow this if the API sends no `s-maxage` or means it so")
                .name(FindingName::SMaxageForbidsStale);
        }
    }

    /// Warns of keys about stored responses on a route whose GETs are not cached.
    fn check_key_without_effect(&self, parsed: &ParsedRoute) {
        let given = parsed.own.given_keys().into_iter().filter(|key| key.cache_only);
        let names: Vec<&str> = given.map(|key| key.name).collect();
        // A route that is switched off keeps its keys for later.
        if names.is_empty() || parsed.route.mode == RouteMode::Off {
            return;
        }
        self.diagnostics
            .warning(
                parsed.path_location,
                format!("`{}` has no effect here: the route's GETs are not cached", names.join("`, `")),
            )
            .help("give the route a `ttl`, or remove these keys")
            .name(FindingName::NoEffect);
    }
}

/// Knows every caller by the same name, and the same value of each claim in the route's key.
struct SampleCaller<'r>(&'r Route);

impl IdentifyCaller for SampleCaller<'_> {
    fn identify(&self, _: &CallerSource) -> CallerVerdict {
        let paths = match &self.0.per {
            Some(Credential::Claims(paths)) => paths.as_slice(),
            _ => &[],
        };
        let claim = |path: &String| Claim {
            path: path.as_str().into(),
            json: SAMPLE_VALUE.into(),
            text: Some(SAMPLE_VALUE.into()),
            names_one_caller: false,
        };
        let claims = paths.iter().map(claim).collect();
        CallerVerdict::Known(Arc::new(Identity {
            name: Some(SAMPLE_VALUE.into()),
            claims,
            kind: Default::default(),
            expires_at: None,
        }))
    }
}

/// A sample of the credential in `per`, or of the one that `callers` reads.
fn credential(route: &Route) -> Option<(HeaderName, String)> {
    let of_source = || route.callers.as_ref().and_then(|source| source.credentials.first());
    let of_route = route.per.as_ref().filter(|per| !per.is_verified());
    Some(match of_route.and_then(|per| per.alternatives().first()).or_else(of_source)? {
        Credential::AnyOf(_) | Credential::Claims(_) | Credential::Identity => return None,
        Credential::Authorization => (AUTHORIZATION, format!("Bearer {SAMPLE_VALUE}")),
        Credential::Cookie(name) => (COOKIE, format!("{name}={SAMPLE_VALUE}")),
        Credential::Header(name) => (name.clone(), SAMPLE_VALUE.to_owned()),
    })
}

fn sample_path(route: &Route) -> String {
    let segments = route.path.segments().iter().map(|segment| match segment {
        Segment::Literal(literal) => format!("/{literal}"),
        Segment::Parameter(_) | Segment::Rest(_) => format!("/{SAMPLE_VALUE}"),
        Segment::Affixed(AffixedParameter { prefix, suffix, .. }) => {
            format!("/{prefix}{SAMPLE_VALUE}{suffix}")
        }
    });
    let path: String = segments.collect();
    if path.is_empty() { "/".to_owned() } else { path }
}

/// Whether `query` keeps a parameter, so that tags can use its value.
fn is_selected(route: &Route, name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let asked = format!("{name}={SAMPLE_VALUE}");
    !plain || route.query.select(Some(&asked)).is_some_and(|selected| selected.contains(&asked))
}
