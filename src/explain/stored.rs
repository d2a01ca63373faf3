//! Inspects what is stored for a request, for `larder explain --now`.

use super::{ExplainRequest, Explainer};
use crate::clock::Timestamp;
use crate::policy::classify::{CacheLookup, Classification, look_up_shared_part};
use crate::policy::compression::expected_variant;
use crate::policy::on_miss::requires_upstream;
use crate::policy::reuse::{Reuse, assess};
use crate::policy::storing::is_stale_window_closed_by_s_maxage;
use crate::policy::{CacheKey, RequestHead};
use crate::purge::{NormalizedPath, Target, TargetId};
use crate::stored_response::{StoredHead, Variants};

impl Explainer<'_> {
    /// The key of the lookup; `None` if the request is not looked up.
    pub(crate) fn lookup_key(&self, input: &ExplainRequest) -> Option<CacheKey> {
        self.with_lookup(input, |lookup, _| lookup.key)
    }

    /// The keys of the variants that match the request, for each known `Vary`, the latest first.
    pub(crate) fn variant_keys(
        &self,
        input: &ExplainRequest,
        key: &CacheKey,
        variants: &Variants,
    ) -> Vec<CacheKey> {
        let keys = |lookup: &CacheLookup<'_>, request: &RequestHead<'_>| {
            let negotiated = expected_variant(lookup.route, request.headers, variants.codings);
            variants.fields.iter().map(|fields| key.variant_key(fields, request, negotiated)).collect()
        };
        self.with_lookup(input, keys).unwrap_or_default()
    }

    /// Whether a stored response that no purge invalidated may answer the request.
    pub(crate) fn reuse(
        &self,
        input: &ExplainRequest,
        stored: &StoredHead,
        soft_purged: Option<Timestamp>,
    ) -> Option<Reuse> {
        self.with_lookup(input, |lookup, request| {
            let reuse = assess(stored, &lookup.with_key(stored.key), request, soft_purged, self.now);
            match self.variants.as_ref().is_some_and(|variants| variants.have_withdrawn(stored)) {
                true => reuse.without_stale_windows(),
                false => reuse,
            }
        })
    }

    /// Whether the stored response would have a stale window without its `s-maxage`.
    pub(crate) fn is_stale_closed_by_s_maxage(&self, input: &ExplainRequest, stored: &StoredHead) -> bool {
        let is_closed = |lookup: &CacheLookup<'_>, _: &RequestHead<'_>| {
            is_stale_window_closed_by_s_maxage(lookup.route, &stored.fields.to_map())
        };
        self.with_lookup(input, is_closed).unwrap_or(false)
    }

    /// Finds the target with this id among those that purge `stored`.
    pub(crate) fn resolve_target(
        &self,
        input: &ExplainRequest,
        stored: &StoredHead,
        id: TargetId,
    ) -> Option<Target> {
        let tags = stored.tags().flat_map(|tag| {
            let above = tag.char_indices().filter(|(_, c)| *c == '/').map(|(at, _)| &tag[..at]);
            above.chain([tag]).map(Target::tag)
        });
        let tag = tags.into_iter().find(|target| target.id() == id);
        tag.or_else(|| {
            self.with_lookup(input, |lookup, request| resolve_path_target(lookup, request, id)).flatten()
        })
    }

    fn with_lookup<T>(
        &self,
        input: &ExplainRequest,
        ask: impl FnOnce(&CacheLookup<'_>, &RequestHead<'_>) -> T,
    ) -> Option<T> {
        let head = self.read(input).ok()?;
        let request = head.as_policy();
        match self.classify_request(&head, input) {
            Classification::Lookup(lookup) if requires_upstream(&request).is_none() => {
                if let Some(part) = lookup.route.merged_part() {
                    let shared = head.for_shared_part(part, &self.config.credentials);
                    let request = shared.as_policy();
                    let fallback_ttl = self.fallback_ttl;
                    let lookup = CacheLookup {
                        fallback_ttl,
                        ..look_up_shared_part(part, &request, &self.config.credentials)
                    };
                    return Some(ask(&lookup, &request));
                }
                let request = head.as_policy();
                Some(ask(&CacheLookup { fallback_ttl: self.fallback_ttl, ..lookup }, &request))
            }
            _ => None,
        }
    }
}

fn resolve_path_target(lookup: &CacheLookup<'_>, request: &RequestHead<'_>, id: TargetId) -> Option<Target> {
    let path = NormalizedPath::new(request.path);
    let query = lookup.query.sent().unwrap_or_default().to_owned();
    let mut places = vec![Target::Everything];
    for host in std::iter::once(None).chain(request.hosts().map(|host| Some(host.to_owned()))) {
        places.push(Target::Path { host: host.clone(), path: path.clone() });
        places.push(Target::Url { host: host.clone(), path: path.clone(), query: query.clone() });
        places.push(Target::Equivalents { host: host.clone(), path: path.clone() });
        let prefixes = path.prefixes().map(NormalizedPath::new);
        places.extend(prefixes.map(|path| Target::Prefix { host: host.clone(), path }));
    }
    places.into_iter().find(|target| target.id() == id)
}
