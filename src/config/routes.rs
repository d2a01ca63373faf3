//! `routes:` and `defaults:`: each route's own word, then the defaults', then the built-in one, checked together.

use std::collections::HashMap;

use super::advice;
use super::events::CheckedSource;
use super::fields::Fields;
use super::keys;
use super::problem::{Place, Problems};
use super::purged_by::{self, PurgedBy};
use super::route_fields::{Placed, RouteFields};
use super::scalars::{list, message_and_help, parsed};
use super::tree::{Node, Value};
use crate::policy::Fingerprint;
use crate::policy::path::{PathTemplate, Segment};
use crate::policy::route::{Credential, Route, Semantics, Ttl};
use crate::policy::template::Template;

/// `None` where something is wrong with any of them. `is_strict`: `max_lag` is zero, so writes are guarded where nothing
/// else is said.
pub fn read(
    defaults: Option<&Node>,
    routes: Option<&Node>,
    sources: Option<&[CheckedSource]>,
    is_strict: bool,
    problems: &Problems,
) -> Option<Vec<Checked>> {
    let mut defaults = defaults
        .and_then(|node| Fields::open(node, &keys::DEFAULTS, problems))
        .map(|fields| RouteFields::read(&fields))
        .unwrap_or_default();
    defaults.guard.get_or_insert(is_strict);
    if let Some(per) = &defaults.per {
        refuse_both(&defaults.shared, per, problems);
    }
    let built_in = RouteFields::built_in();
    let blocks: &[Node] = match routes.map(|node| &node.value) {
        Some(Value::List(blocks)) => blocks,
        // All routes may be commented out.
        None | Some(Value::Null | Value::Broken) => &[],
        Some(Value::Scalar(_) | Value::Mapping(_)) => {
            let help = "[{path: /api/courses, ttl: 30s}]";
            routes.and_then(|node| list(node, help, problems, |_, _| None::<()>));
            &[]
        }
    };
    let read: Vec<Option<Checked>> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| route(index, block, &defaults, &built_in, problems))
        .collect();
    refuse_same_paths(read.iter().flatten(), problems);
    let checked: Vec<Checked> = read.into_iter().collect::<Option<_>>()?;
    advice::give(&checked, problems);
    purged_by::check(&checked, sources, problems);
    Some(checked)
}

/// A route with the places that later questions need.
pub struct Checked {
    pub route: Route,
    pub path_place: Place,
    pub tags: Vec<Placed<Template>>,
    /// What it purges beside its tags.
    pub purges: Vec<Placed<Template>>,
    pub purged_by: PurgedBy,
    pub own: RouteFields,
}

fn route(
    index: usize,
    block: &Node,
    defaults: &RouteFields,
    built_in: &RouteFields,
    problems: &Problems,
) -> Option<Checked> {
    let fields = Fields::open(block, &keys::ROUTE, problems)?;
    let path = fields.required("path", path);
    let name = fields.optional("name", name);
    let own = RouteFields::read(&fields);
    if let Some(per) = &own.per {
        refuse_both(&own.shared, per, problems);
    }
    let path = path?;
    let path_place = fields.given("path").map_or(fields.place(), |node| node.place);

    let tags = own.tags.as_ref().or(defaults.tags.as_ref()).or(built_in.tags.as_ref())?;
    let purges = own.purges.as_ref().or(defaults.purges.as_ref());
    for template in tags.iter().chain(purges.into_iter().flatten()) {
        refuse_unknown_parameters(template, &path, path_place, problems);
    }
    let (shared, per) = who_shares(&own, defaults, built_in)?;
    let templates = |list: &[Placed<Template>]| list.iter().map(|template| template.value.clone()).collect();

    // The route's own word, then the defaults', then the built-in one.
    macro_rules! said {
        ($field:ident) => {
            own.$field.clone().or_else(|| defaults.$field.clone()).or_else(|| built_in.$field.clone())?
        };
    }
    let mut route = Route {
        index,
        name: name.unwrap_or_else(|| path.as_str().to_owned()).into(),
        mode: said!(mode),
        ttl: ttl(&own, defaults, built_in)?,
        ttl_from: said!(ttl_from),
        jitter: said!(jitter),
        tags: templates(tags),
        purges: purges.map(|list| templates(list)),
        query: said!(query),
        shared,
        status: said!(status),
        stale_while_revalidate: said!(stale_while_revalidate),
        stale_if_error: said!(stale_if_error),
        refresh_ahead: said!(refresh_ahead),
        max_size: said!(max_size),
        max_json: said!(max_json),
        timeout: said!(timeout),
        collapse: said!(collapse),
        collapse_wait: said!(collapse_wait),
        per,
        headers: said!(headers),
        cookies: said!(cookies),
        overrides: said!(overrides).value,
        semantics: Semantics {
            heuristic: said!(heuristic),
            any_status: said!(any_status),
            request_directives: said!(request_directives),
            targeted: said!(targeted),
            hide_tags: said!(hide_tags),
        },
        guard: said!(guard),
        settle: said!(settle),
        fingerprint: Fingerprint::default(),
        lifetimes: Fingerprint::default(),
        path,
    };
    route.fingerprint = Fingerprint::of(&route);
    route.lifetimes = Fingerprint::of_lifetimes(&route);
    let purged_by = said!(purged_by);
    let (tags, purges) = (tags.clone(), purges.cloned().unwrap_or_default());
    Some(Checked { route, path_place, tags, purges, purged_by, own })
}

/// A route that has only `purges` is there for its writes: its GETs pass, whatever the defaults say.
fn ttl(own: &RouteFields, defaults: &RouteFields, built_in: &RouteFields) -> Option<Ttl> {
    match own {
        RouteFields { ttl: None, tags: None, purges: Some(_), .. } => Some(Ttl::Never),
        _ => own.ttl.as_ref().or(defaults.ttl.as_ref()).or(built_in.ttl.as_ref()).map(|ttl| ttl.value),
    }
}

/// `shared` and `per` exclude each other: a route's own word on either silences the defaults' on both.
fn who_shares(
    own: &RouteFields,
    defaults: &RouteFields,
    built_in: &RouteFields,
) -> Option<(bool, Option<Credential>)> {
    let own_word = own.shared.is_some() || own.per.is_some();
    let from = if own_word { own } else { defaults };
    let shared = from.shared.as_ref().or(built_in.shared.as_ref())?.value;
    let per = from.per.as_ref().or(built_in.per.as_ref())?.value.clone();
    Some((shared, per))
}

fn refuse_both(shared: &Option<Placed<bool>>, per: &Placed<Option<Credential>>, problems: &Problems) {
    if let (Some(shared @ Placed { value: true, .. }), Some(_)) = (shared, &per.value) {
        problems
            .error(shared.place, "`shared: true` gives one response to all callers, `per` one to each")
            .note(per.place, "`per` stands here")
            .help("keep `per` where the response depends on the caller, `shared: true` where it does not");
    }
}

fn path(node: &Node, problems: &Problems) -> Option<PathTemplate> {
    parsed(node, "a path such as `/api/courses/{id}`", problems, |text| {
        PathTemplate::parse(text).map_err(|wrong| message_and_help(wrong, PATH_HELP))
    })
}

const PATH_HELP: &str = "a path is segments, `{name}` for one of any value, `{*rest}` for all that follow";

fn name(node: &Node, problems: &Problems) -> Option<String> {
    const LONGEST: usize = 200;
    parsed(node, "a name", problems, |text| {
        if !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control) {
            return Ok(text.to_owned());
        }
        Err((format!("a name has 1 to {LONGEST} characters"), "write a short name, as for a metric".into()))
    })
}

fn refuse_unknown_parameters(
    template: &Placed<Template>,
    path: &PathTemplate,
    path_place: Place,
    problems: &Problems,
) {
    let known: Vec<&str> = path
        .segments()
        .iter()
        .filter_map(|segment| match segment {
            Segment::Parameter(name) | Segment::Rest(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
        .collect();
    for parameter in template.value.path_parameters().filter(|name| !known.contains(name)) {
        let help = match known.as_slice() {
            [] => "the path has no parameters; other values are `{query.x}`, `{header.x}`, `{cookie.x}`, `{jwt.sub}`".into(),
            names => match super::suggest::nearest(parameter, names.iter().copied()) {
                Some(name) => format!("did you mean `{{{name}}}`?"),
                None => format!("the path has `{{{}}}`", names.join("}`, `{")),
            },
        };
        problems
            .error(template.place, format!("`{{{parameter}}}` is not in the route's path"))
            .note(path_place, "the path")
            .help(help);
    }
}

/// Two routes for the same paths: which of them holds would be chance.
fn refuse_same_paths<'c>(routes: impl Iterator<Item = &'c Checked>, problems: &Problems) {
    let mut seen: HashMap<String, &Checked> = HashMap::new();
    for checked in routes {
        let shape = shape(&checked.route.path);
        match seen.get(&shape) {
            None => {
                seen.insert(shape, checked);
            }
            Some(first) => {
                let (one, two) = (first.route.path.as_str(), checked.route.path.as_str());
                problems
                    .error(checked.path_place, format!("`{two}` matches the same paths as `{one}`"))
                    .note(first.path_place, "the first one")
                    .help(
                        "make them one route; names of parameters, case and slashes don't tell routes apart",
                    );
            }
        }
    }
}

fn shape(path: &PathTemplate) -> String {
    let segments = path.segments().iter().map(|segment| match segment {
        Segment::Literal(text) => format!("/{text}"),
        // No literal has braces.
        Segment::Parameter(_) => "/{}".to_owned(),
        Segment::Rest(_) => "/{*}".to_owned(),
    });
    segments.collect()
}
