//! The targets of a write: those of its routes, and its own URL (RFC 9111 §4.4).

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LOCATION, LOCATION};

use super::candidate_path::CandidatePath;
use super::matched_rules::{MatchedRule, RouteMatch};
use super::related_paths::{ReachBelow, RelatedPaths, entity_set, may_ask_for_method};
use super::write_exchange::WriteExchange;
use super::{location, route_target};
use crate::policy::caller::CallerView;
use crate::policy::content::Content;
use crate::policy::path::is_normal;
use crate::policy::purge_targets::{PurgeOptions, PurgeTargets, TargetOrigin};
use crate::policy::routes::Routes;
use crate::policy::tags::{LISTED_TAG, MAX_TAG_BYTES};
use crate::policy::template::{RenderLimits, RenderedTexts, StepLimit, Template};
use crate::policy::write_outcome::{OutcomeRules, WriteOutcome};
use crate::policy::{RequestHead, Route, groups, override_fields};
use crate::purge::{NormalizedPath, Target, fold_case};

/// The work that naming the targets of one write may take, in steps of about 50 ns: 16 bytes read, or one value made.
/// Beyond it the write is widened.
pub(super) const MAX_STEPS: usize = 4096;

/// The bytes of a content that are read if no route of the write has `max_json`: as many as it is by default.
const MAX_UNROUTED_CONTENT: u64 = 1 << 20;

/// The lines of `Location` and of `Content-Location` that count; a second one is malformed already.
const MAX_LOCATIONS: usize = 4;

/// The bytes of a write's contents to buffer for the templates of its routes; `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BufferedContent {
    pub request: Option<u64>,
    pub response: Option<u64>,
}

/// The targets of a write, and how they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteTargets {
    /// The targets to purge.
    pub targets: PurgeTargets,
    /// Templates that were widened.
    pub widened: usize,
    /// Tags that templates made.
    named: usize,
    /// The work that it took; at most `MAX_STEPS`.
    pub steps: usize,
    /// The longest `settle` of its routes.
    pub settle: Duration,
}

impl WriteTargets {
    /// The targets that are fully named.
    pub(crate) fn named(&self) -> Vec<Target> {
        let mut named = self.clone();
        named.targets.retain_origins(|origin| origin != TargetOrigin::Widened);
        named.targets.to_vec()
    }

    /// Leaves the targets that are named one by one.
    pub(crate) fn drop_widened(&mut self) {
        self.targets.retain_origins(TargetOrigin::is_exact);
        self.widened = 0;
    }

    /// Whether all targets are named one by one.
    pub(crate) fn is_exact(&self) -> bool {
        self.widened == 0 && self.targets.have_origins(TargetOrigin::is_exact)
    }
}

/// The routes of one write and its paths, found once.
#[derive(Debug)]
pub struct WritePlan<'r> {
    routes: &'r Routes,
    paths: Vec<CandidatePath<'r>>,
    related: RelatedPaths,
    /// Its route says `purges: []`.
    purges_nothing: bool,
    max_targets: usize,
    /// The paths below its own that it changes by the method that its query asks for.
    query_reach: ReachBelow,
    /// It changes cached paths if its content asks for a DELETE.
    may_reach_by_content: bool,
}

impl<'r> WritePlan<'r> {
    /// The plan of a write, from its request's head.
    pub fn new(routes: &'r Routes, request: &RequestHead<'_>, related: RelatedPaths) -> Self {
        if purges_nothing(routes, request) {
            let paths = vec![CandidatePath::new(routes, request.path, ReachBelow::Nothing)];
            return Self {
                routes,
                paths,
                related,
                purges_nothing: true,
                max_targets: 0,
                query_reach: ReachBelow::Nothing,
                may_reach_by_content: false,
            };
        }
        let reach = ReachBelow::find(request);
        let overridden = override_fields::PATH_FIELDS.iter().flat_map(|name| request.headers.get_all(name));
        let overridden = overridden
            .map(|value| location::resolve_path(request, &String::from_utf8_lossy(value.as_bytes())));
        let destination = location::destination(request).and_then(|reference| {
            location::same_origin_path(request, None, &String::from_utf8_lossy(reference))
        });
        let destination = destination.map(|path| location::with_and_without_prefix(request, path));
        // The destination is deleted first (RFC 4918 §9.8.4, §9.9.3).
        let destination = destination.into_iter().flatten().map(|path| (path, ReachBelow::All));
        let paths: Vec<_> = std::iter::once(request.path.to_owned())
            .chain(overridden)
            .map(|path| (path, reach))
            .chain(destination)
            .map(|(path, reach)| CandidatePath::new(routes, &path, reach))
            .collect();
        let matched = paths.iter().flat_map(|path| &path.matches);
        let max_targets = matched.map(|matched| matched.route.max_targets).max().unwrap_or_default();
        let plan = Self {
            routes,
            paths,
            related,
            purges_nothing: false,
            max_targets,
            query_reach: ReachBelow::find_in_query(request),
            may_reach_by_content: false,
        };
        let may_reach_by_content = plan.paths_below_by_content(request).next().is_some();
        Self { may_reach_by_content, ..plan }
    }

    /// The rules by which the end of the exchange decides: those of the request's own route.
    pub(crate) fn outcome_rules(&self) -> OutcomeRules {
        let own = self.paths.first().and_then(|path| path.matches.first());
        own.map(|own| own.route.outcome_rules()).unwrap_or_default()
    }

    fn matches(&self) -> impl Iterator<Item = &RouteMatch<'r>> {
        self.paths.iter().flat_map(|path| &path.matches)
    }

    pub(crate) fn content_to_buffer(&self) -> BufferedContent {
        let mut buffered = BufferedContent::default();
        if self.purges_nothing {
            return buffered;
        }
        if self.may_reach_by_content {
            let limits = self.matches().map(|matched| matched.route.max_json);
            buffered.request = Some(limits.max().unwrap_or(MAX_UNROUTED_CONTENT));
        }
        for matched in self.matches() {
            let limit = Some(matched.route.max_json);
            if matched.rules().any(|rule| rule.template.reads_request_content()) {
                buffered.request = buffered.request.max(limit);
            }
            if matched.rules().any(|rule| rule.template.reads_response_content()) {
                buffered.response = buffered.response.max(limit);
            }
        }
        buffered
    }

    /// The targets that the head of the request names.
    pub fn head_targets(&self, request: &RequestHead<'_>) -> WriteTargets {
        let mut found = WriteTargets::default();
        if self.purges_nothing {
            return found;
        }
        let steps = StepLimit::new(MAX_STEPS);
        for (path, is_own) in self.paths.iter().zip([true].into_iter().chain(std::iter::repeat(false))) {
            path.add_urls(&mut found.targets, request, is_own);
            if self.related.parents && path.matches.iter().all(|matched| matched.route.purges.is_none()) {
                self.add_parents(&mut found.targets, path);
            }
            if self.has_children(path, request) {
                self.add_children(&mut found.targets, path, path.reach);
                if self.query_reach > path.reach {
                    self.add_children(&mut found.targets, path, self.query_reach);
                }
            }
            for matched in &path.matches {
                found.settle = found.settle.max(matched.route.settle);
                self.add_tags(&mut found, matched, request, None, &steps);
            }
        }
        found.steps = steps.used();
        found
    }

    /// All targets that the write could name, for a purge intent: templates that need the exchange stand for every route
    /// with such tags, and for every response that lists tags in its fields.
    pub(crate) fn possible_targets(&self, request: &RequestHead<'_>) -> Vec<Target> {
        let mut targets = self.head_targets(request).targets;
        if self.purges_nothing {
            return Vec::new();
        }
        for matched in self.matches() {
            for MatchedRule { template, .. } in matched.rules().filter(|rule| rule.template.needs_exchange())
            {
                let has_such_tags =
                    |route: &&Arc<Route>| route.tags.iter().any(|tag| may_make_same_tag(tag, template));
                let routes = self.routes.iter().filter(has_such_tags).chain([matched.route]);
                routes.for_each(|route| targets.insert_widened(route_target(route)));
                targets.insert_widened(Target::tag(LISTED_TAG));
            }
        }
        if self.may_reach_by_content {
            self.paths_below_by_content(request).for_each(|path| targets.insert_widened(below(path)));
        }
        targets.to_vec()
    }

    /// The targets of a finished write. `found` are those of its head; the outcome changes if the write did not happen
    /// but its response names groups to invalidate.
    pub fn finish(
        &self,
        request: &RequestHead<'_>,
        mut found: WriteTargets,
        outcome: WriteOutcome,
        exchange: &WriteExchange<'_>,
    ) -> (WriteOutcome, WriteTargets) {
        // RFC 9875 §3: the upstream names the groups whatever its status.
        let groups = exchange.response_headers.map(|headers| groups::invalidated_targets(request, headers));
        let groups = groups.unwrap_or_default();
        let outcome = match outcome {
            WriteOutcome::Nothing => {
                found.targets = PurgeTargets::default();
                if groups.is_empty() { WriteOutcome::Nothing } else { WriteOutcome::Purge }
            }
            WriteOutcome::PurgeUrl | WriteOutcome::PurgeUrlOfCut => {
                found.targets.retain_origins(|origin| origin == TargetOrigin::Url);
                WriteOutcome::Purge
            }
            WriteOutcome::Purge | WriteOutcome::PurgeInDoubt => {
                self.add_exchange_targets(&mut found, request, exchange);
                outcome
            }
        };
        if outcome == WriteOutcome::PurgeInDoubt {
            found.targets.retain_origins(|origin| origin != TargetOrigin::Widened);
        }
        groups.into_iter().for_each(|group| found.targets.insert_named(group));
        (outcome, found)
    }

    /// Templates that need the exchange, and RFC 9111 §4.4: `Location` and `Content-Location` of the same origin, with the
    /// tags that their paths give values to.
    fn add_exchange_targets(
        &self,
        found: &mut WriteTargets,
        request: &RequestHead<'_>,
        exchange: &WriteExchange<'_>,
    ) {
        if self.purges_nothing {
            return;
        }
        self.add_children_by_content(found, request, exchange.request_content);
        let steps = StepLimit::new(MAX_STEPS);
        for matched in self.matches() {
            self.add_tags(found, matched, request, Some(exchange), &steps);
        }
        for name in [LOCATION, CONTENT_LOCATION] {
            let lines = exchange.response_headers.into_iter().flat_map(|headers| headers.get_all(&name));
            for reference in lines.take(MAX_LOCATIONS) {
                let reference = String::from_utf8_lossy(reference.as_bytes());
                let path = location::same_origin_path(request, exchange.upstream_host, &reference);
                let Some(path) = path else { continue };
                for path in location::with_and_without_prefix(request, path) {
                    let path = CandidatePath::new(self.routes, &path, ReachBelow::Nothing);
                    path.add_urls(&mut found.targets, request, false);
                    for named in &path.matches {
                        self.add_path_tags(found, named, request, &steps);
                    }
                }
            }
        }
        found.steps += steps.used();
    }

    /// Adds the tags of a route's templates: those that need the exchange if there is one, else the others. A template
    /// without a value, with an unusable one, or with too many is widened to the routes of the write, too.
    fn add_tags(
        &self,
        found: &mut WriteTargets,
        matched: &RouteMatch<'_>,
        request: &RequestHead<'_>,
        exchange: Option<&WriteExchange<'_>>,
        steps: &StepLimit,
    ) {
        if matched.route.has_empty_purges() {
            return;
        }
        for rule in matched.rules().filter(|rule| rule.template.needs_exchange() == exchange.is_some()) {
            let MatchedRule { template, options, otherwise } = rule;
            let left = self.max_targets.saturating_sub(found.named);
            let limits = RenderLimits { max_tags: left.max(1), steps: Some(steps) };
            let tags = matched.render(template, request, exchange.copied().unwrap_or_default(), limits);
            let is_literal = template.is_literal();
            let RenderedTexts { texts: tags, is_complete } = tags.unwrap_or(RenderedTexts::NONE);
            let is_complete = is_complete
                && !tags.is_empty()
                && (is_literal || tags.len() <= left)
                && tags.iter().all(|tag| tag.len() <= MAX_TAG_BYTES);
            let usable = tags.into_iter().filter(|tag| tag.len() <= MAX_TAG_BYTES);
            for tag in usable.take(if is_literal { 1 } else { left }) {
                found.named += usize::from(!is_literal);
                found.targets.insert(Target::tag(tag), TargetOrigin::Named, options);
            }
            if !is_complete {
                found.widened += 1;
                let options = PurgeOptions { at_most_every: Duration::ZERO, ..options };
                otherwise.iter().for_each(|tag| {
                    found.targets.insert(Target::tag(tag), TargetOrigin::Widened, options);
                });
                let caching = self.matches().map(|matched| matched.route).filter(|route| route.caches());
                let of_family = self.routes_of_unknown_caller(template, request);
                caching.chain(of_family).for_each(|route| {
                    found.targets.insert(route_target(route), TargetOrigin::Widened, options);
                });
            }
        }
    }

    /// The routes with tags that name the caller as this template does, if it can't be found out now who that is: they may
    /// have stored what the write changes. A request without a credential, or with a refused one, is nobody's.
    fn routes_of_unknown_caller(
        &self,
        template: &Template,
        request: &RequestHead<'_>,
    ) -> impl Iterator<Item = &'r Arc<Route>> {
        let is_uncertain = matches!(request.caller, CallerView::Uncertain) && template.names_caller();
        let routes = is_uncertain.then(|| self.routes.iter().filter(|route| route.caches()));
        let may_be_meant = |route: &&Arc<Route>| route.tags.iter().any(|tag| template.may_reach_any(tag));
        routes.into_iter().flatten().filter(may_be_meant)
    }

    /// Adds the tags that the path of a `Location` gives values to, as far as the write may name more.
    fn add_path_tags(
        &self,
        found: &mut WriteTargets,
        matched: &RouteMatch<'_>,
        request: &RequestHead<'_>,
        steps: &StepLimit,
    ) {
        for template in matched.route.tags.iter().filter(|tag| tag.path_parameters().next().is_some()) {
            let left = self.max_targets.max(matched.route.max_targets).saturating_sub(found.named);
            let limits = RenderLimits { max_tags: left.max(1), steps: Some(steps) };
            let tags = matched.render(template, request, WriteExchange::default(), limits);
            for tag in tags.into_iter().flat_map(|tags| tags.texts).take(left) {
                found.named += 1;
                found.targets.insert_named(Target::tag(tag));
            }
        }
    }

    /// Adds the cached paths above the path. Tags of the write's route speak for those with tags, not for the others.
    fn add_parents(&self, targets: &mut PurgeTargets, path: &CandidatePath<'_>) {
        let has_tags = path.matches.iter().any(|matched| !matched.route.tags.is_empty());
        let is_meant = |route: &Route| route.caches() && (!has_tags || route.tags.is_empty());
        let above = path.readings.iter().flat_map(NormalizedPath::prefixes);
        for parent in above.flat_map(|path| [Some(path), entity_set(path)]).flatten().map(NormalizedPath::new)
        {
            if self.routes.find_all_loosely(&parent).any(|route| is_meant(route)) {
                targets.insert_named(Target::Path { host: None, path: parent });
            }
        }
    }

    /// Whether what lies below the path is purged. The targets of `own_url: caller` name it for that caller already.
    fn has_children(&self, path: &CandidatePath<'_>, request: &RequestHead<'_>) -> bool {
        let is_own = self.paths.first().is_some_and(|own| std::ptr::eq(own, path));
        self.related.children && !(is_own && path.caller(request).is_some())
    }

    /// The cached paths that the write reaches if its content asks for a DELETE, and not otherwise.
    fn paths_below_by_content(&self, request: &RequestHead<'_>) -> impl Iterator<Item = &NormalizedPath> {
        let is_asked = may_ask_for_method(request) && self.query_reach < ReachBelow::All;
        let paths = self
            .paths
            .iter()
            .filter(move |path| is_asked && path.reach < ReachBelow::All && self.has_children(path, request));
        let readings = paths.flat_map(|path| &path.readings);
        readings.filter(|reading| ReachBelow::All.is_cached(self.routes, reading))
    }

    /// Adds what lies below as the method that the content asks for reaches it; a content that could not be read may ask
    /// for a DELETE.
    fn add_children_by_content(
        &self,
        found: &mut WriteTargets,
        request: &RequestHead<'_>,
        content: Option<&Content>,
    ) {
        if !self.may_reach_by_content {
            return;
        }
        let Some(reach) = content.map(ReachBelow::find_in_content) else {
            found.widened += 1;
            self.paths_below_by_content(request).for_each(|path| found.targets.insert_widened(below(path)));
            return;
        };
        for path in self.paths.iter().filter(|path| reach > path.reach && self.has_children(path, request)) {
            self.add_children(&mut found.targets, path, reach);
        }
    }

    fn add_children(&self, targets: &mut PurgeTargets, path: &CandidatePath<'_>, reach: ReachBelow) {
        let is_said = path.matches.iter().any(|it| it.route.purges.is_some() || it.route.per.is_some());
        for reading in &path.readings {
            reach.absences(self.routes, reading).into_iter().for_each(|it| targets.insert_named(it));
            let is_called_on = path.called_on.as_ref() == Some(reading);
            let reach = if is_called_on { ReachBelow::Members } else { reach };
            if (reach != ReachBelow::Members || !is_said) && reach.is_cached(self.routes, reading) {
                targets.insert_below(below(reading));
            }
        }
    }
}

fn below(path: &NormalizedPath) -> Target {
    Target::Prefix { host: None, path: path.clone() }
}

/// Whether a write changes nothing: `purges: []`, which is only believed for a path with one reading.
pub(crate) fn purges_nothing(routes: &Routes, request: &RequestHead<'_>) -> bool {
    let path = request.path;
    is_normal(path)
        && !override_fields::PATH_FIELDS.iter().any(|name| request.headers.contains_key(name))
        && location::destination(request).is_none()
        && routes
            .find(path)
            .is_some_and(|route| route.has_empty_purges() && !routes.is_ambiguous(path, route))
}

/// Whether both templates could make the same tag, by their literal beginnings.
fn may_make_same_tag(one: &Template, other: &Template) -> bool {
    let [one, other] = [one, other].map(|template| fold_case(template.literal_prefix()));
    one.starts_with(&other) || other.starts_with(&one)
}
