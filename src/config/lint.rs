//! `larder lint`: what is right as far as the file goes, and bites whoever uses it. Each finding has a name, by which it
//! can be allowed. Where nothing is certain it asks the functions that the proxy asks, of requests made up for it.

use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::events::CheckedSource;
use super::problem::Problems;
use super::route_fields::{Placed, RouteFields};
use super::routes::Checked;
use super::suggest::nearest;
use crate::policy::classify::{Caller, Class, PassReason, classify};
use crate::policy::hop_by_hop::is_hop_by_hop;
use crate::policy::path::Segment;
use crate::policy::route::{Credential, Mode, Ttl};
use crate::policy::routes::Routes;
use crate::policy::template::{Needs, Template};
use crate::policy::{RequestHead, Route};

/// Stands for any value: no literal of a route is likely to be it.
const ANY: &str = "larder-lint";

pub fn give(routes: &[Checked], sources: &[CheckedSource], credentials: &[HeaderName], problems: &Problems) {
    let all: Vec<Arc<Route>> = routes.iter().map(|checked| Arc::new(checked.route.clone())).collect();
    let lint = Lint { routes, sources, tree: Routes::new(&all), credentials, problems };
    for checked in routes {
        if checked.route.caches() {
            lint.never_looked_up(checked);
            lint.credential_of_one_route(checked);
            lint.tags_that_never_resolve(checked);
            lint.tags_that_nothing_purges(checked);
            lint.nothing_to_override(checked);
        } else {
            lint.without_effect(checked);
        }
        lint.purges_of_nothing(checked);
    }
}

struct Lint<'l> {
    routes: &'l [Checked],
    sources: &'l [CheckedSource],
    tree: Routes,
    credentials: &'l [HeaderName],
    problems: &'l Problems,
}

impl Lint<'_> {
    /// A GET that carries all that the route asks for, and `more`: how is it taken?
    fn sampled(&self, route: &Route, more: &[(HeaderName, String)]) -> Result<Caller, Option<PassReason>> {
        let mut headers = HeaderMap::new();
        for (name, value) in credential(route).into_iter().chain(more.iter().cloned()) {
            headers.append(name, HeaderValue::from_str(&value).unwrap_or(HeaderValue::from_static(ANY)));
        }
        let path = sample_path(route);
        let request = RequestHead { host: ANY, ..RequestHead::new(&Method::GET, &path, &headers) };
        match classify(&self.tree, &request, false, self.credentials) {
            Class::Lookup(lookup) if lookup.route.index == route.index => Ok(lookup.caller),
            Class::Pass { reason, .. } => Err(Some(reason)),
            Class::Lookup(_) | Class::Write { .. } => Err(None),
        }
    }

    fn never_looked_up(&self, checked: &Checked) {
        let route = &checked.route;
        if let Some(Credential::Header(name)) = &route.per
            && is_hop_by_hop(name, &HeaderMap::new())
        {
            let place = checked.own.per.as_ref().map_or(checked.path_place, |per| per.place);
            self.problems
                .warning(
                    place,
                    format!("`per: header.{name}` never reaches the upstream: it is for larder alone"),
                )
                .help("name the field that the API itself tells callers apart by")
                .named("never-cached");
            return;
        }
        let Err(why) = self.sampled(route, &[]) else { return };
        let (message, help) = match why {
            Some(PassReason::PathSpelling) => (
                "no GET is looked up here: its path can be read as one of another route",
                "write literal segments in lower case, and without escapes",
            ),
            Some(PassReason::OverrideField | PassReason::Upgrade) => (
                "no GET is looked up here: a request with the field in `per` always passes",
                "name the field that the API itself tells callers apart by",
            ),
            _ => (
                "no GET is looked up here: another route takes all of its paths",
                "make them one route, or give this one a path of its own",
            ),
        };
        self.problems.warning(checked.path_place, message).help(help).named("never-cached");
    }

    /// What says who asks on one route, and is no credential to the others: they share what is meant for one.
    fn credential_of_one_route(&self, checked: &Checked) {
        let field = match &checked.route.per {
            Some(Credential::Authorization) => AUTHORIZATION,
            Some(Credential::Cookie(_)) => COOKIE,
            Some(Credential::Header(name)) => name.clone(),
            None => return,
        };
        if self.credentials.contains(&field) {
            return;
        }
        let tells_apart =
            |route: &Route| route.shared || route.headers.contains(&field) || route.per == checked.route.per;
        let other = self.routes.iter().find(|other| other.route.caches() && !tells_apart(&other.route));
        if let Some(other) = other {
            let place = checked.own.per.as_ref().map_or(checked.path_place, |per| per.place);
            self.problems
                .warning(
                    place,
                    format!("`{field}` says who asks here, and is not in `credentials`: other routes give all callers the same"),
                )
                .note(other.path_place, "such as this one")
                .help(format!("add `{field}` to `credentials`, or say `shared: true` there if it is meant so"))
                .named("unknown-credential");
        }
    }

    fn tags_that_never_resolve(&self, checked: &Checked) {
        let route = &checked.route;
        for tag in &checked.tags {
            for need in tag.value.needs() {
                let field = match need {
                    Needs::Query(name) => {
                        if !is_selected(route, name) {
                            self.problems
                                .warning(
                                    tag.place,
                                    format!("`{{query.{name}}}` has no value here: `query` drops it"),
                                )
                                .help(format!("add `{name}` to the route's `query`"))
                                .named("tag-never-resolves");
                        }
                        continue;
                    }
                    Needs::Jwt => (AUTHORIZATION, format!("Bearer {ANY}")),
                    Needs::Cookie(name) => (COOKIE, format!("{name}={ANY}")),
                    Needs::Header(name) => (name.clone(), ANY.to_owned()),
                };
                // What comes with `per` is there once, and in the key.
                let of_per = credential(route).is_some_and(|(name, _)| name == field.0);
                if !of_per && self.sampled(route, std::slice::from_ref(&field)) == Ok(Caller::Credentialed) {
                    let name = &field.0;
                    self.problems
                        .warning(
                            tag.place,
                            format!(
                                "`{}` has a value only with `{name}`, and what is asked for with it is not stored here",
                                tag.value.as_str()
                            ),
                        )
                        .help("say `per` (or `shared: true`), so that such responses are stored")
                        .named("tag-never-resolves");
                }
            }
        }
    }

    /// Writes here change nothing, and no other route says the tag: it is of use to operators alone.
    fn tags_that_nothing_purges(&self, checked: &Checked) {
        if !checked.route.purges.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        let others = || self.routes.iter().filter(|other| other.route.index != checked.route.index);
        let purges = |other: &Checked, tag: &Template| {
            let changes_nothing = other.route.purges.as_ref().is_some_and(Vec::is_empty);
            let own = if changes_nothing { &[][..] } else { &other.route.tags[..] };
            own.iter().chain(other.route.purges.iter().flatten()).any(|purged| purged.may_reach_some_of(tag))
        };
        let is_announced = |tag: &Template| {
            self.sources
                .iter()
                .flat_map(|source| &source.purge)
                .any(|purged| purged.value.may_reach_some_of(tag))
        };
        let is_purged = |tag: &Template| others().any(|other| purges(other, tag)) || is_announced(tag);
        for tag in checked.tags.iter().filter(|tag| !is_purged(&tag.value)) {
            self.problems
                .warning(tag.place, format!("no write and no event purges `{}`", tag.value.as_str()))
                .help("name it in `purges` of what changes it; the route's own `purges: []` says that writes here don't")
                .named("tag-never-purged");
        }
    }

    /// Tags may come from fields of responses too; who does that allows this one.
    fn purges_of_nothing(&self, checked: &Checked) {
        let carried =
            || self.routes.iter().filter(|other| other.route.caches()).flat_map(|other| &other.route.tags);
        let shapes: Vec<String> = carried().map(Template::shape).collect();
        for purged in &checked.purges {
            // A near one is an advice of its own.
            let is_near = nearest(&purged.value.shape(), shapes.iter().map(String::as_str)).is_some();
            if !is_near && !carried().any(|tag| purged.value.may_reach_some_of(tag)) {
                self.problems
                    .warning(purged.place, format!("no route's responses carry `{}`", purged.value.as_str()))
                    .help("give it to the `tags` of what it changes; allow this where responses name it in `Surrogate-Key` or the like")
                    .named("tag-never-carried");
            }
        }
    }

    fn nothing_to_override(&self, checked: &Checked) {
        let route = &checked.route;
        if let Some(Placed { value, place }) = &checked.own.overrides
            && value.lifetime
            && route.ttl == Ttl::Upstream
            && route.status.is_empty()
        {
            self.problems
                .warning(*place, "`override: [lifetime]` has no lifetime to put in its place")
                .help("give the route a `ttl`")
                .named("no-effect");
        }
    }

    /// Keys that are about stored responses, on a route whose GETs pass.
    fn without_effect(&self, checked: &Checked) {
        let RouteFields { per, shared, query, headers, cookies, status, .. } = &checked.own;
        let RouteFields { stale_while_revalidate, stale_if_error, max_size, overrides, .. } = &checked.own;
        let said = [
            ("per", per.is_some()),
            ("shared", shared.is_some()),
            ("query", query.is_some()),
            ("headers", headers.is_some()),
            ("cookies", cookies.is_some()),
            ("status", status.is_some()),
            ("stale_while_revalidate", stale_while_revalidate.is_some()),
            ("stale_if_error", stale_if_error.is_some()),
            ("max_size", max_size.is_some()),
            ("override", overrides.is_some()),
        ];
        let said: Vec<&str> = said.iter().filter(|(_, is_said)| *is_said).map(|(name, _)| *name).collect();
        // What is switched off is meant to be switched on again.
        if said.is_empty() || checked.route.mode == Mode::Off {
            return;
        }
        self.problems
            .warning(
                checked.path_place,
                format!("`{}` changes nothing here: the route's GETs pass", said.join("`, `")),
            )
            .help("give the route a `ttl`, or leave them out")
            .named("no-effect");
    }
}

/// The credential of a `per:` route.
fn credential(route: &Route) -> Option<(HeaderName, String)> {
    Some(match route.per.as_ref()? {
        Credential::Authorization => (AUTHORIZATION, format!("Bearer {ANY}")),
        Credential::Cookie(name) => (COOKIE, format!("{name}={ANY}")),
        Credential::Header(name) => (name.clone(), ANY.to_owned()),
    })
}

fn sample_path(route: &Route) -> String {
    let segments = route.path.segments().iter().map(|segment| match segment {
        Segment::Literal(literal) => format!("/{literal}"),
        Segment::Parameter(_) | Segment::Rest(_) => format!("/{ANY}"),
    });
    let path: String = segments.collect();
    if path.is_empty() { "/".to_owned() } else { path }
}

/// Whether a parameter that a request has is there for the tags.
fn is_selected(route: &Route, name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let asked = format!("{name}={ANY}");
    !plain || route.query.select(Some(&asked)).is_some_and(|selected| selected.contains(&asked))
}
