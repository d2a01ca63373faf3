//! A route: one validated block of `proxy.yaml`.

mod shared_part;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::caller::CallerSource;
use super::content_key::{IgnoredContent, ReadMethods};
use super::credential::Credential;
use super::downstream::Downstream;
use super::dropped_fields::DroppedFields;
use super::fingerprint::Fingerprint;
use super::overlay::{Overlay, OverlayAs};
use super::path::PathTemplate;
use super::purge_targets::PurgeRule;
use super::query::QueryRule;
use super::rate_limit::RateLimit;
use super::response_coding::ResponseCoding;
use super::route_keys::route_keys;
use super::template::Template;
use super::ttl_from::TtlFrom;
use super::write_outcome::{OutcomeRules, StatusPattern, UnclearEnd};
pub(crate) use shared_part::SharedPart;

/// Declares `Route` with a field for each key of `route_keys!`.
macro_rules! declare_route {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:literal)? : $type:ty $(as $parsed:ty)? = $reader:ident, $mode:ident $($default:literal)?
        $(, $flag:ident)?;
    )+) => {
        /// One entry of `routes`.
        #[derive(Clone, Debug)]
        pub struct Route {
            /// The position in the file, and in tables kept by route.
            pub index: usize,
            /// The name in metrics and logs; several routes may share one.
            pub name: Arc<str>,
            /// The paths that it matches.
            pub path: PathTemplate,
            $(
                $(#[doc = $doc])+
                pub(crate) $field: field_type!($mode, $type),
            )+
            /// The part that all callers share, on a route with `overlay`.
            pub(crate) shared_part: Option<Arc<SharedPart>>,
            /// Responses list the names of all their targets beside their tags: a cache in `cdn` purges by them.
            pub(crate) lists_targets: bool,
            /// Identifies the settings that decide which responses may answer a request.
            pub fingerprint: Fingerprint,
            /// Identifies the settings that decide how long responses are kept; see `effective_terms`.
            pub lifetime_fingerprint: Fingerprint,
        }

        impl Route {
            /// A route in which every key has the default of its type.
            #[cfg(test)]
            pub(crate) fn with_path(path: PathTemplate) -> Self {
                Self {
                    index: 0,
                    name: path.as_str().into(),
                    path,
                    $($field: Default::default(),)+
                    shared_part: None,
                    lists_targets: false,
                    fingerprint: Fingerprint::default(),
                    lifetime_fingerprint: Fingerprint::default(),
                }
            }
        }
    };
}

macro_rules! field_type {
    (optional, $type:ty) => { Option<$type> };
    ($mode:ident, $type:ty) => { $type };
}

route_keys!(declare_route);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum RouteMode {
    #[default]
    On,
    /// Forward everything, and report what would have happened.
    Observe,
    Off,
}

/// The freshness lifetime that the route gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ttl {
    /// The lifetime of responses that give none.
    For(Duration),
    /// Only the response's own lifetime.
    #[default]
    Upstream,
    /// Until purged; at most a week.
    UntilPurged,
    /// GETs pass.
    Never,
}

/// The responses of its own URL that a write purges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OwnUrl {
    /// Those of every caller (RFC 9111 §4.4).
    #[default]
    All,
    /// Those of the caller that writes, on a `per` route.
    Caller,
}

/// The safety expiry of `ttl: none`.
pub(crate) const MAX_UNTIL_PURGED_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which concurrent requests for the same response share one fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Collapse {
    /// Each request is forwarded.
    No,
    /// Requests at this replica.
    #[default]
    Local,
    /// Requests at all replicas that share a store.
    Replicas,
}

/// Which of the response's directives the route's `ttl` overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    /// `max-age`, `s-maxage` and `Expires`.
    pub lifetime: bool,
    /// `private`.
    pub private: bool,
    /// `no-cache`.
    pub no_cache: bool,
    /// `s-maxage` does not close the stale windows.
    pub(crate) s_maxage_revalidation: bool,
}

/// How a route with `ttl: none` is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PurgedBy {
    /// By a write or an event, which the configuration must contain.
    #[default]
    Rules,
    /// By PURGE, the admin listener, or tags in response fields, which can't be checked.
    Admin,
}

/// Which callers get the same response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Shared {
    /// A caller with a credential that is not in the key gets responses marked as shared.
    #[default]
    No,
    /// All callers.
    All,
    /// All known callers have one, and all anonymous ones another.
    SignedIn,
}

/// Requests without a credential on a route with `callers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// They are forwarded uncached.
    #[default]
    Pass,
    /// They share responses of their own.
    Share,
}

impl Route {
    /// Lists tags and targets in the fields of the caches in `cdn`, too.
    pub(crate) fn list_for(&mut self, cdn_fields: &[HeaderName]) {
        self.lists_targets |= !cdn_fields.is_empty();
        let is_unlisted = |field: &&HeaderName| !self.list_tags.contains(field);
        let unlisted: Vec<HeaderName> = cdn_fields.iter().filter(is_unlisted).cloned().collect();
        self.list_tags.extend(unlisted);
        if let Some(part) = &mut self.shared_part {
            Arc::make_mut(&mut Arc::make_mut(part).route).list_for(cdn_fields);
        }
    }

    /// The request fields that are part of the key.
    pub fn key_headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// The additions to the shared part, in the order of the file.
    pub fn overlays(&self) -> &[Overlay] {
        &self.overlay
    }

    /// Whether the store can answer GETs of the route.
    pub(crate) fn caches(&self) -> bool {
        self.ttl != Ttl::Never && self.mode != RouteMode::Off
    }

    /// `purges: []`: writes here change nothing.
    pub(crate) fn has_empty_purges(&self) -> bool {
        self.purges.as_ref().is_some_and(Vec::is_empty)
    }

    /// Whether the configuration names what a write here purges, beside its own URL.
    pub(crate) fn says_what_writes_purge(&self) -> bool {
        self.purges.is_some() || !self.tags.is_empty()
    }

    /// The templates of the tags that a write here purges.
    pub(crate) fn purge_templates(&self) -> impl Iterator<Item = &Template> {
        let tags = if self.has_empty_purges() { &[][..] } else { &self.tags[..] };
        tags.iter().chain(self.purges.iter().flatten().map(|rule| &rule.template))
    }

    /// The rules by which the end of a write decides on its purges.
    pub(crate) fn outcome_rules(&self) -> OutcomeRules {
        OutcomeRules::new(&self.purge_on, self.unclear.as_deref(), self.guard)
    }

    /// Whether the content of a response is needed before it is stored.
    pub fn reads_content(&self) -> bool {
        self.tags.iter().any(Template::reads_response_content)
            || self.ttl_from.as_ref().is_some_and(TtlFrom::reads_content)
    }
}
