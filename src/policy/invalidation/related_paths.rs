//! The stored paths beside its own that a write may have changed: those above it, and those below it.

use http::Method;
use http::header::CONTENT_LENGTH;

use super::absence_target;
use crate::policy::content::{Content, content_kind};
use crate::policy::routes::Routes;
use crate::policy::{RequestHead, disguised_write, override_fields};
use crate::purge::{NormalizedPath, Target};

/// Which related paths writes purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelatedPaths {
    /// The cached paths above the write's own, unless a route says what it purges.
    pub(crate) parents: bool,
    /// The cached paths below one that is deleted or moved, and the members of a collection that is written as a whole.
    pub(crate) children: bool,
}

impl Default for RelatedPaths {
    fn default() -> Self {
        Self { parents: true, children: true }
    }
}

/// The collection that an entity is addressed in: `/courses` of `/courses(7)` (OData 4.01, part 2, §4.3).
pub(super) fn entity_set(path: &str) -> Option<&str> {
    let (set, _) = path.strip_suffix(')')?.rsplit_once('(')?;
    (!set.ends_with('/')).then_some(set)
}

/// The paths below its own that a write changes, the fewest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ReachBelow {
    Nothing,
    /// Members of a collection, where no route has `purges` or `per` for the write.
    Members,
    /// RFC 4918 §9.6.1: a DELETE removes all that lies below, as a MOVE does.
    All,
}

impl ReachBelow {
    /// The reach of a write at its own path, also by a method that overrides its own.
    pub(super) fn find(request: &RequestHead<'_>) -> Self {
        Self::find_largest(override_fields::methods(request.method, request.headers))
    }

    /// The reach of the method that the query asks for.
    pub(super) fn find_in_query(request: &RequestHead<'_>) -> Self {
        Self::find_largest(disguised_write::query_methods(request))
    }

    /// The reach of the method that the content asks for.
    pub(super) fn find_in_content(content: &Content) -> Self {
        Self::find_largest(disguised_write::content_methods(content))
    }

    fn find_largest(methods: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let is_any =
            |method: &str, names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(method));
        let find_reach = |method: &str| match method.trim() {
            method if is_any(method, &["DELETE", "MOVE"]) => Self::All,
            method if is_any(method, &["PUT", "PATCH"]) => Self::Members,
            _ => Self::Nothing,
        };
        let reaches = methods.into_iter().map(|method| find_reach(method.as_ref()));
        reaches.max().unwrap_or(Self::Nothing)
    }

    /// Whether a stored response may lie within reach below `path`. Nothing is purged below `/`.
    pub(super) fn is_cached(self, routes: &Routes, path: &NormalizedPath) -> bool {
        path.as_str() != "/"
            && match self {
                Self::Nothing => false,
                Self::Members => routes.caches_members(path),
                Self::All => routes.caches_below(path),
            }
    }
}

/// Whether frameworks let the content ask for another method: of a POST, in a form or JSON.
pub(super) fn may_ask_for_method(request: &RequestHead<'_>) -> bool {
    let is_empty = || request.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
    *request.method == Method::POST && content_kind(request.headers).is_ok() && !is_empty()
}

impl ReachBelow {
    /// The targets of what is stored as absent and may exist after a write to `path`: a POST creates below its path, and in
    /// the collection that its path lies in (`/items/import`) unless it is one itself, a PUT beside it. None if no route stores that.
    pub(super) fn absences(self, routes: &Routes, path: &NormalizedPath) -> Vec<Target> {
        if self == Self::All || !routes.stores_absence() {
            return Vec::new();
        }
        let own = (self == Self::Nothing).then_some(path.as_str());
        let creates_beside = |parent: &str| {
            self == Self::Members
                || routes.caches_members(&NormalizedPath::new(parent)) && !routes.is_collection(path)
        };
        let parent =
            path.as_str().rsplit_once('/').map(|(parent, _)| parent).filter(|parent| creates_beside(parent));
        let named = own.into_iter().chain(parent).filter(|above| !matches!(*above, "" | "/"));
        named.map(absence_target).collect()
    }
}

/// Finds the path that a custom method is called on: `/courses/7` of `/courses/7:archive`, `/courses` of `/courses:batchDelete`
/// (AIP-136). An id with a colon in it only purges a path too many.
pub(super) fn target_of_custom_method(path: &NormalizedPath) -> Option<NormalizedPath> {
    let (before, verb) = path.as_str().rsplit_once(':')?;
    let is_last = !verb.is_empty() && !verb.contains('/');
    (is_last && !before.ends_with('/')).then(|| NormalizedPath::new(before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::{route, routes};

    #[test]
    fn a_write_ends_stored_absence_where_it_may_create() {
        let absent = |path: &str| crate::policy::Route {
            status: [(404, std::time::Duration::from_secs(60))].into(),
            ..route(path)
        };
        let shop = routes([absent("/api/items/{id}"), route("/api/items"), route("/api/items/{id}/notes")]);
        for (reach, path, expected) in [
            (ReachBelow::Nothing, "/api/items", &["/api/items"][..]),
            (ReachBelow::Nothing, "/api/items/bulk", &["/api/items/bulk", "/api/items"]),
            (ReachBelow::Nothing, "/api/items/7/notes", &["/api/items/7/notes"]),
            (ReachBelow::Nothing, "/", &[]),
            (ReachBelow::Members, "/api/items/7", &["/api/items"]),
            (ReachBelow::Members, "/items", &[]),
            (ReachBelow::All, "/api/items/7", &[]),
        ] {
            let expected: Vec<Target> = expected.iter().map(|path| absence_target(path)).collect();
            assert_eq!(reach.absences(&shop, &NormalizedPath::new(path)), expected, "{path}");
        }
        let everything = routes([absent("/api/{*rest}"), route("/api/items/{id}")]);
        for (path, expected) in [
            ("/api/items", &["/api/items"][..]),
            ("/api/other", &["/api/other", "/api"]),
            ("/api/items/bulk", &["/api/items/bulk", "/api/items"]),
        ] {
            let expected: Vec<Target> = expected.iter().map(|path| absence_target(path)).collect();
            assert_eq!(
                ReachBelow::Nothing.absences(&everything, &NormalizedPath::new(path)),
                expected,
                "{path}"
            );
        }
        let without = routes([route("/api/items/{id}")]);
        assert_eq!(ReachBelow::Nothing.absences(&without, &NormalizedPath::new("/api/items/bulk")), []);
    }

    #[test]
    fn a_custom_method_is_called_on_what_stands_before_it() {
        for (path, expected) in [
            ("/courses/7:archive", Some("/courses/7")),
            ("/courses:batchDelete", Some("/courses")),
            ("/courses/urn:isbn:1", Some("/courses/urn:isbn")),
            ("/courses/:archive", None),
            ("/courses/7:", None),
            ("/courses/7:a/b", None),
            ("/courses/7", None),
        ] {
            let found = target_of_custom_method(&NormalizedPath::new(path));
            assert_eq!(found.as_ref().map(NormalizedPath::as_str), expected, "{path}");
        }
    }
}
