//! A path that a write may be for, and the routes that match it.

use std::borrow::Cow;
use std::sync::Arc;

use super::matched_rules::RouteMatch;
use super::related_paths::{ReachBelow, target_of_custom_method};
use super::{caller_target, possible_paths};
use crate::policy::credential::caller_value;
use crate::policy::path::normalize;
use crate::policy::purge_targets::PurgeTargets;
use crate::policy::route::OwnUrl;
use crate::policy::routes::Routes;
use crate::policy::{RequestHead, Route};
use crate::purge::{NormalizedPath, Target};

/// A path that the request may be for.
#[derive(Debug)]
pub(super) struct CandidatePath<'r> {
    pub(super) readings: Vec<NormalizedPath>,
    /// The one of the readings that a custom method is called on.
    pub(super) called_on: Option<NormalizedPath>,
    pub(super) matches: Vec<RouteMatch<'r>>,
    /// The paths below it that the write changes.
    pub(super) reach: ReachBelow,
}

impl<'r> CandidatePath<'r> {
    pub(super) fn new(routes: &'r Routes, path: &str, reach: ReachBelow) -> Self {
        let (normal, mut readings) = (normalize(path), possible_paths(path));
        let called_on = readings.first().and_then(target_of_custom_method);
        let called_on = called_on.filter(|path| !readings.contains(path));
        readings.extend(called_on.clone());
        let mut matches: Vec<RouteMatch<'r>> = Vec::new();
        let mut add = |route: &'r Arc<Route>, captures: Vec<(&'r str, String)>| match matches
            .iter_mut()
            .find(|matched| Arc::ptr_eq(matched.route, route))
        {
            Some(matched) if matched.captures.contains(&captures) => {}
            Some(matched) => matched.captures.push(captures),
            None => matches.push(RouteMatch { route, captures: vec![captures] }),
        };
        if let Some(route) = routes.find(&normal) {
            add(route, route.path.captures(&normal));
        }
        for reading in &readings {
            for route in routes.find_all_loosely(reading) {
                add(route, route.path.captures_loosely(reading));
            }
        }
        Self { readings, called_on, matches, reach }
    }

    /// Adds the path itself, with all queries. `is_own`: it is the path of the write, which `own_url: caller` limits to
    /// the responses of its caller.
    pub(super) fn add_urls(&self, targets: &mut PurgeTargets, request: &RequestHead<'_>, is_own: bool) {
        let credential = self.caller(request).filter(|_| is_own);
        for path in &self.readings {
            targets.insert_url(match &credential {
                Some(credential) => caller_target(credential, path),
                None => Target::Path { host: None, path: path.clone() },
            });
        }
    }

    /// The caller's credential, if every route of the path has `own_url: caller`.
    pub(super) fn caller<'a>(&self, request: &RequestHead<'a>) -> Option<Cow<'a, [u8]>> {
        let is_by_caller = |matched: &RouteMatch<'_>| matched.route.own_url == OwnUrl::Caller;
        let first = self.matches.first().filter(|_| self.matches.iter().all(is_by_caller))?;
        let per = first.route.per.as_ref()?;
        let is_same = |matched: &RouteMatch<'_>| matched.route.per.as_ref() == Some(per);
        self.matches.iter().all(is_same).then(|| caller_value(per, request))?
    }
}
