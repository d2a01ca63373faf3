//! The findings of the audit: one for each route, kind and cause, with the last example.

use serde::Serialize;

use super::compare::{CUT, bounded};
use super::writes::Cause;
use super::{AuditSample, Difference};
use crate::policy::secret_parameters::mask_parameters;

/// Most findings that are kept; the oldest go.
const MAX_FINDINGS: usize = 100;

pub(super) const MAX_CAUSES: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FindingKind {
    /// A write changed the response, and no purge named it.
    PurgeMissing,
    /// Two callers get different responses, and the route shares one.
    SharedWrongly,
    /// The response changed within its lifetime, and no write through larder explains that.
    ChangedWithinTtl,
    /// Two answers to the same request differ.
    Varies,
}

impl FindingKind {
    /// The label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            FindingKind::PurgeMissing => "purge-missing",
            FindingKind::SharedWrongly => "shared-wrongly",
            FindingKind::ChangedWithinTtl => "changed-within-ttl",
            FindingKind::Varies => "varies",
        }
    }
}

/// A difference with what it was found by.
pub(crate) struct FoundChange<'f> {
    pub sample: &'f AuditSample,
    pub differences: &'f [Difference],
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditFinding {
    pub kind: FindingKind,
    pub route: String,
    /// How often it was found.
    pub count: u64,
    pub first_at: String,
    pub last_at: String,
    /// The request of the last time.
    pub url: String,
    /// The age of the response that was served.
    pub age_ms: u64,
    pub differences: Vec<Difference>,
    pub causes: Vec<Cause>,
    /// The change of the configuration that would help.
    pub fix: String,
}

/// The latest is the last.
#[derive(Default)]
pub(super) struct Findings(Vec<AuditFinding>);

impl Findings {
    pub(super) fn add(&mut self, kind: FindingKind, change: FoundChange<'_>) {
        let mut finding = change.into_finding(kind);
        let cause = |finding: &AuditFinding| finding.causes.first().map(|cause| cause.write.clone());
        let is_known = |known: &AuditFinding| {
            known.kind == kind && known.route == finding.route && cause(known) == cause(&finding)
        };
        if let Some(at) = self.0.iter().position(is_known) {
            let known = self.0.remove(at);
            finding.count = known.count + 1;
            finding.first_at = known.first_at;
        } else if self.0.len() >= MAX_FINDINGS {
            self.0.remove(0);
        }
        self.0.push(finding);
    }

    pub(super) fn list(&self) -> Vec<AuditFinding> {
        self.0.iter().rev().cloned().collect()
    }
}

impl Difference {
    /// The place as `audit.ignore` accepts it. The status, bytes, and pointers that were cut have no such name.
    fn ignorable_place(&self) -> Option<&str> {
        let is_named = self.place.starts_with('/') || self.place.starts_with("header.");
        (is_named && !self.place.ends_with(CUT)).then_some(&self.place)
    }
}

/// Whether a path has all that a route's template names: `/courses/7/publish` what `/courses/{id}` does.
fn starts_with_route(path: &str, template: &str) -> bool {
    let mut segments = path.split('/');
    let is_same = |(name, segment): (&str, Option<&str>)| {
        segment.is_some_and(|segment| name == segment || name.starts_with('{') && name.ends_with('}'))
    };
    template.contains('{') && template.split('/').all(|name| is_same((name, segments.next())))
}

impl FoundChange<'_> {
    fn into_finding(self, kind: FindingKind) -> AuditFinding {
        let AuditSample { request, route, stored, served_at, .. } = self.sample;
        let at = served_at.to_rfc3339(3);
        AuditFinding {
            kind,
            route: route.path.as_str().to_owned(),
            count: 1,
            first_at: at.clone(),
            last_at: at,
            url: bounded(&mask_parameters(
                request.uri.path_and_query().map_or("/", |target| target.as_str()),
            )),
            age_ms: served_at.since(stored.head.terms().requested_at).as_millis() as u64,
            differences: self.differences.to_vec(),
            fix: self.fix(kind),
            causes: self.causes,
        }
    }

    fn fix(&self, kind: FindingKind) -> String {
        let route = &self.sample.route;
        let path = route.path.as_str();
        match kind {
            FindingKind::PurgeMissing => {
                let write = self.causes.first().map_or("the write", |cause| cause.write.as_str());
                let has_values =
                    self.causes.first().is_some_and(|cause| starts_with_route(&cause.path, path));
                match route.tags.first() {
                    Some(tag) if has_values => format!(
                        "add `{}` to `purges` of the route of {write}, with the names that its path has for the values",
                        tag.as_str()
                    ),
                    Some(tag) if tag.as_str().contains('{') => format!(
                        "add `{}` to `purges` of the route of {write}, with values that the write has, such as \
                         `{{request.json:/id}}`",
                        tag.as_str()
                    ),
                    Some(tag) => format!("add `purges: [\"{}\"]` to the route of {write}", tag.as_str()),
                    None => format!("give `{path}` a tag, and add it to `purges` of the route of {write}"),
                }
            }
            FindingKind::SharedWrongly => {
                format!("give `{path}` `per` instead of `shared`, or its responses no credentials")
            }
            FindingKind::ChangedWithinTtl => {
                format!(
                    "shorten `ttl` of `{path}`, or announce changes made elsewhere by `events` or a purge"
                )
            }
            FindingKind::Varies => {
                let place = self.differences.iter().find_map(Difference::ignorable_place);
                let place = place.map_or("its place".to_owned(), |place| format!("`{place}`"));
                format!("add {place} to `audit.ignore` if it names the moment, or do not cache `{path}`")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_that_of_a_route_has_its_values() {
        for (path, has_values) in [
            ("/courses/7", true),
            ("/courses/7/publish", true),
            ("/courses", false),
            ("/users/7", false),
            ("/api/courses/7", false),
        ] {
            assert_eq!(starts_with_route(path, "/courses/{id}"), has_values, "{path}");
        }
        assert!(!starts_with_route("/courses", "/courses"), "a route without values");
    }
}
