//! `routes` and `defaults`: each route takes its own values, then those of its group and of `defaults`, then the built-in
//! ones.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::header::ACCEPT_LANGUAGE;

use super::callers::CallerSettings;
use super::diagnostics::{Diagnostics, Location};
use super::events::ParsedSource;
use super::fields::{Fields, Located};
use super::parsed_route::ParsedRoute;
use super::route_fields::{DEFAULTS, ROUTE, RouteFields, RouteHeadFields};
use super::route_groups::RouteGroup;
use super::scalars::list;
use super::settings::Settings;
use super::yaml::{Value, YamlNode};
use super::{
    additions, overlay_checks, purge_rules, purged_by, rate_limit_checks, route_caller_checks, warnings,
};
use crate::policy::Fingerprint;
use crate::policy::credential::Credential;
use crate::policy::path::{AffixedParameter, PathTemplate, Segment};
use crate::policy::route::{OwnUrl, Route, Shared, Ttl};
use crate::policy::template::{CALLER, Template};

/// The longest `collapse_timeout` that is derived from the upstream's timeout.
const MAX_DEFAULT_COLLAPSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings that routes depend on.
pub(super) struct RouteContext<'s> {
    /// `None`: they have errors.
    pub sources: Option<&'s [ParsedSource]>,
    /// The entries of `callers`; `None`: they have errors.
    pub callers: Option<&'s [CallerSettings]>,
    /// The fields in which the caches in `cdn` read tags.
    pub cdn_fields: Vec<HeaderName>,
    /// Whether `max_lag` is zero. Then writes are guarded by default.
    pub is_strict: bool,
    /// The upstream's `response_timeout`.
    pub response_timeout: Duration,
}

/// Reads all routes. Returns `None` if one has an error.
pub(super) fn read(
    default_block: &YamlNode,
    routes: &YamlNode,
    context: &RouteContext<'_>,
    diagnostics: &Diagnostics,
) -> Option<Vec<ParsedRoute>> {
    additions::refuse(default_block, diagnostics);
    let mut defaults = Fields::open(default_block, DEFAULTS, diagnostics)
        .map(|fields| RouteFields::read(&fields))
        .unwrap_or_default();
    refuse_shared_and_per(&defaults, diagnostics);
    overlay_checks::refuse_in_defaults(defaults.overlay.take(), diagnostics);
    defaults.guard.get_or_insert(Located { value: context.is_strict, location: Location::Start });
    let collapse_timeout = (context.response_timeout / 5).min(MAX_DEFAULT_COLLAPSE_TIMEOUT);
    defaults.collapse_timeout.get_or_insert(Located { value: collapse_timeout, location: Location::Start });
    let blocks = match &routes.value {
        // All routes may be commented out.
        Value::Null => Vec::new(),
        _ => list(routes, "[{path: /api/courses, ttl: 30s}]", diagnostics, |node, _| Some(node.clone()))
            .unwrap_or_default(),
    };
    let built_in = RouteFields::built_in();
    let (mut parsed, mut is_complete) = (Vec::new(), true);
    for entry in &blocks {
        let Some(group) = RouteGroup::read(entry, default_block, diagnostics) else {
            is_complete = false;
            continue;
        };
        refuse_shared_and_per(&group.values, diagnostics);
        for block in &group.routes {
            let block = additions::resolve(block, &group.block, diagnostics);
            let inherited = (&group, &defaults, &built_in);
            match read_block(parsed.len(), &block, inherited, context, diagnostics) {
                Some(mut routes) => parsed.append(&mut routes),
                None => is_complete = false,
            }
        }
    }
    refuse_same_paths(&parsed, diagnostics);
    rate_limit_checks::refuse_different_limits(&parsed, diagnostics);
    if !is_complete {
        return None;
    }
    overlay_checks::check(&parsed, diagnostics);
    warnings::add_warnings(&parsed, diagnostics);
    purged_by::check(&parsed, context.sources, diagnostics);
    Some(parsed)
}

/// The routes of a block: one for each of its paths.
fn read_block(
    first_index: usize,
    block: &YamlNode,
    (group, defaults, built_in): (&RouteGroup, &RouteFields, &RouteFields),
    context: &RouteContext<'_>,
    diagnostics: &Diagnostics,
) -> Option<Vec<ParsedRoute>> {
    let fields = Fields::open(block, ROUTE, diagnostics)?;
    let head = RouteHeadFields::read(&fields)?;
    let own = RouteFields::read(&fields);
    refuse_shared_and_per(&own, diagnostics);
    let (paths, path_location) = (head.path?, fields.value_location("path"));
    let name = head.name.flatten().or_else(|| group.name.clone());
    let name = name.or_else(|| fields.node("path")?.text().map(str::to_owned))?;
    let of_group = own.clone().or(&inherited(&group.values, &own));
    let merged = of_group.clone().or(&inherited(defaults, &of_group)).or(built_in);
    let (name, count): (Arc<str>, usize) = (name.into(), paths.len());
    let routes: Vec<_> = (first_index..)
        .zip(paths)
        .filter_map(|(index, path)| {
            let head = (index, name.clone(), Located { value: path, location: path_location });
            route(head, &merged, &own, context, diagnostics)
        })
        .collect();
    (routes.len() == count).then_some(routes)
}

fn route(
    (index, name, path): (usize, Arc<str>, Located<PathTemplate>),
    merged: &RouteFields,
    own: &RouteFields,
    context: &RouteContext<'_>,
    diagnostics: &Diagnostics,
) -> Option<ParsedRoute> {
    let tags = merged.tags.clone()?.value;
    let purges =
        merged.purges.clone().map(|purges| purge_rules::templates(&purges.value)).unwrap_or_default();
    let has_callers = merged.callers.as_ref().is_some_and(|callers| callers.value.is_some());
    for template in tags.iter().chain(&purges) {
        refuse_unknown_parameters(template, &path, has_callers, diagnostics);
    }
    let caller_entry = merged.callers.clone()?;
    let mut route = merged.clone().into_route(index, name, path.value)?;
    // One response for each language, whether the upstream has `Vary` or not.
    if !route.languages.is_empty() && !route.headers.contains(&ACCEPT_LANGUAGE) {
        route.headers.push(ACCEPT_LANGUAGE);
    }
    route.list_for(&context.cdn_fields);
    check_own_url(&mut route, own, diagnostics);
    route_caller_checks::resolve(&mut route, &caller_entry, context.callers, diagnostics);
    if context.callers.is_some() {
        let templates: Vec<_> = tags.iter().chain(&purges).collect();
        route_caller_checks::check(&route, own, (path.location, &templates), diagnostics);
        rate_limit_checks::check(&route, rate_limit_checks::location(own, path.location), diagnostics);
    }
    route.fingerprint = Fingerprint::from_route(&route);
    route.lifetime_fingerprint = Fingerprint::from_lifetimes(&route);
    Some(ParsedRoute { route, path_location: path.location, tags, purges, own: own.clone() })
}

/// The values of a group or of `defaults` that apply to a route with the values `own`.
fn inherited(defaults: &RouteFields, own: &RouteFields) -> RouteFields {
    let mut inherited = defaults.clone();
    // `shared` and `per` exclude each other: a route with one of them inherits neither.
    if own.shared.is_some() || own.per.is_some() {
        (inherited.shared, inherited.per) = (None, None);
    }
    // A route with `purges` alone exists for its writes.
    if let RouteFields { ttl: None, tags: None, purges: Some(purges), .. } = own {
        inherited.ttl = Some(Located { value: Ttl::Never, location: purges.location });
    }
    inherited
}

/// `own_url: caller` needs a `per` of one credential; as a default it applies to the routes that have one.
fn check_own_url(route: &mut Route, own: &RouteFields, diagnostics: &Diagnostics) {
    let (wrong, help) = match &route.per {
        None => (
            "`own_url: caller` on a route without `per`, which separates callers",
            "add `per: authorization` or the like, or leave out `own_url`",
        ),
        Some(Credential::AnyOf(_)) => (
            "`own_url: caller` on a route that knows one caller by several credentials",
            "leave out `own_url`: a write with one of them would miss what is stored for the others",
        ),
        Some(Credential::Authorization) => (
            "`own_url: caller` on a route that knows one caller by several tokens",
            "leave out `own_url`: a write with one of them would miss what is stored for the others; or write `per: jwt.sub` \
             with `callers`",
        ),
        Some(_) => return,
    };
    if let Some(own_url @ Located { value: OwnUrl::Caller, .. }) = &own.own_url {
        diagnostics.error(own_url.location, wrong).help(help);
    }
    route.own_url = OwnUrl::All;
}

fn refuse_shared_and_per(fields: &RouteFields, diagnostics: &Diagnostics) {
    if let (
        Some(shared @ Located { value: Shared::All | Shared::SignedIn, .. }),
        Some(per @ Located { value: Some(_), .. }),
    ) = (&fields.shared, &fields.per)
    {
        diagnostics
            .error(shared.location, "`shared: true` serves one response to all callers, `per` one to each")
            .note(per.location, "`per` is here")
            .help("keep `per` if the response depends on the caller, `shared: true` if it does not");
    }
}

fn refuse_unknown_parameters(
    template: &Located<Template>,
    path: &Located<PathTemplate>,
    has_callers: bool,
    diagnostics: &Diagnostics,
) {
    let known: Vec<&str> = path.value.segments().iter().filter_map(Segment::parameter).collect();
    let is_known = |name: &&str| known.contains(name) || has_callers && *name == CALLER;
    for parameter in template.value.path_parameters().filter(|name| !is_known(name)) {
        let help = match known.as_slice() {
            _ if parameter == CALLER => "give the route `callers`, which say who sends a request".into(),
            [] => "the path has no parameters; other values are `{query.x}`, `{header.x}`, `{cookie.x}`, `{jwt.sub}`".into(),
            names => match super::suggest::nearest(parameter, names.iter().copied()) {
                Some(name) => format!("did you mean `{{{name}}}`?"),
                None => format!("the path has `{{{}}}`", names.join("}`, `{")),
            },
        };
        diagnostics
            .error(
                template.location,
                format!("`{{{parameter}}}` is not in the route's path `{}`", path.value.as_str()),
            )
            .note(path.location, "the path")
            .help(help);
    }
}

/// Refuses two routes that match the same paths.
fn refuse_same_paths(routes: &[ParsedRoute], diagnostics: &Diagnostics) {
    let mut seen: HashMap<String, &ParsedRoute> = HashMap::new();
    for parsed in routes {
        let shape = shape(&parsed.route.path);
        match seen.get(&shape) {
            None => {
                seen.insert(shape, parsed);
            }
            Some(first) => {
                let (one, two) = (first.route.path.as_str(), parsed.route.path.as_str());
                diagnostics
                    .error(parsed.path_location, format!("`{two}` matches the same paths as `{one}`"))
                    .note(first.path_location, "the first one")
                    .help("make them one route; names of parameters don't distinguish routes");
            }
        }
    }
}

fn shape(path: &PathTemplate) -> String {
    let segments = path.segments().iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        // A literal has no braces.
        Segment::Parameter(_) => "/{}".to_owned(),
        Segment::Affixed(AffixedParameter { prefix, suffix, .. }) => format!("/{prefix}{{}}{suffix}"),
        Segment::Rest(_) => "/{*}".to_owned(),
    });
    segments.collect()
}
