//! Builds the entry to be stored out of a response: its key, tags, targets and terms.
//!
//! Where only the content tells the tags, they are not known until it is complete. Until then others join the fetch only
//! while nothing at all was purged since it began; the entry is stored under that read version, so a purge in between
//! invalidates it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_LENGTH, DATE};
use http::{HeaderMap, StatusCode};

use super::super::trace_context;
use super::target::{FetchTarget, UpstreamResponse, fetched_request};
use crate::policy::content::Content;
use crate::policy::freshness::ExchangeTimes;
use crate::policy::lifetime_limits::{self, limit_lifetime};
use crate::policy::not_stored::NotStored;
use crate::policy::received_response::ReceivedResponse;
use crate::policy::response_admission::{RequestContext, absence_targets, response_targets};
use crate::policy::response_tags::response_tags;
use crate::policy::tag_lists::EntryTags;
use crate::policy::validation::freshen;
use crate::policy::{Route, http_date};
use crate::purge::{ReadVersion, TargetId, ValidityCache};
use crate::stored_response::{EvaluatedUnder, StoredFields, StoredHead, StoredResponse, Terms};

/// The head of a response as it arrived.
pub(super) fn head_of_response(
    target: &FetchTarget,
    response: &UpstreamResponse,
    terms: Terms,
    version: ReadVersion,
) -> Result<StoredHead, NotStored> {
    let tags = EntryTags::collect(&target.route, &target.request(), &response.headers, None)?;
    let mut headers = response.headers.clone();
    // Trailers are not stored (RFC 9110 §6.5.1 lets an intermediary drop them).
    headers.remove(AGE);
    build_head(target, response.status, headers, terms, (version, tags))
}

/// The targets of a response that its request tells.
pub(in crate::proxy) fn request_targets(target: &FetchTarget) -> Vec<TargetId> {
    let (request, headers) = (target.request(), HeaderMap::new());
    let tags = response_tags(&target.route, &request, &headers, None).unwrap_or_default();
    let mut targets = response_targets(&target.route, &request, target.query.sent(), &headers, &tags);
    let routes = &target.proxy().routes;
    targets.extend([routes.rules(), routes.query_rules()]);
    targets
}

/// The complete response with all its tags. Returns at once if the content is small or not parsed.
pub(super) async fn complete(
    target: &FetchTarget,
    head: Arc<StoredHead>,
    body: Bytes,
) -> Result<StoredResponse, NotStored> {
    if !target.route.reads_content() {
        return Ok(StoredResponse { head, body });
    }
    let (route, caller, client, query, primary) =
        (target.route.clone(), target.caller, target.head.clone(), target.query.clone(), target.primary);
    let (incomplete, content) = (head.clone(), body.clone());
    let admit = move || {
        let request = fetched_request(&client, &query);
        let context = RequestContext { route: &route, caller, primary: &primary, request: &request };
        context.admit_content(incomplete.terms(), &incomplete.fields.to_map(), &content)
    };
    let (tags, terms) = parse(target, body.len(), admit).await?;
    let head = build_head(target, head.status, head.fields.to_map(), terms, (head.stamp, tags))?;
    Ok(StoredResponse { head: Arc::new(head), body })
}

/// The stored head with the fields of `update`, which freshens it (RFC 9111 §4.3.4). Tags are only added.
pub(super) async fn freshened_head(
    target: &FetchTarget,
    stored: &StoredResponse,
    update: &HeaderMap,
    times: ExchangeTimes,
    version: ReadVersion,
) -> Result<StoredHead, NotStored> {
    let (request, before) = (target.request(), &stored.head);
    let update = ReceivedResponse { status: StatusCode::NOT_MODIFIED, headers: update, exchange: times };
    let (mut headers, terms) = freshen(&target.route, target.caller, &request, before, update)?;
    let terms = limit_terms(target, terms, &headers, &stored.body).await?;
    let fields = (&mut headers, update.headers);
    let (stored, tags) = (before.fields.to_map(), before.tags());
    let tags = EntryTags::collect_freshened(&target.route, &request, fields, (&stored, tags))?;
    build_head(target, before.status, headers, terms, (version, tags))
}

/// The stored head with its stale windows closed.
pub(super) fn without_stale_windows(stored: &StoredHead, route: &Route) -> StoredHead {
    let (stale_while_revalidate, stale_if_error) = (Duration::ZERO, Duration::ZERO);
    StoredHead {
        key: stored.key,
        fingerprint: stored.fingerprint,
        status: stored.status,
        fields: stored.fields.clone(),
        terms: Terms { stale_while_revalidate, stale_if_error, ..stored.terms() }.into(),
        stamp: stored.stamp,
        targets: stored.targets.clone(),
        fetched_here: stored.fetched_here,
        found_valid: ValidityCache::default(),
        evaluated_under: EvaluatedUnder::new(route.lifetime_fingerprint),
        usage: Default::default(),
    }
}

fn build_head(
    target: &FetchTarget,
    status: StatusCode,
    mut headers: HeaderMap,
    terms: Terms,
    (version, tags): (ReadVersion, EntryTags),
) -> Result<StoredHead, NotStored> {
    trace_context::remove_request_ids(&mut headers);
    for name in target.route.drop_response.select_from(&headers).keys() {
        headers.remove(name);
    }
    // RFC 9110 §6.6.1: a recipient that stores a response without Date records when it was received.
    headers.entry(DATE).or_insert_with(|| http_date::format(terms.received_at));
    let (request, query) = (target.request(), target.query.sent());
    let mut targets = response_targets(&target.route, &request, query, &headers, &tags.all);
    targets.extend(absence_targets(status, request.path));
    tags.list_in(&target.route, if target.route.lists_targets { &targets } else { &[] }, &mut headers);
    let tags = tags.all;
    let routes = &target.proxy().routes;
    targets.extend([routes.rules(), routes.query_rules()]);
    targets.sort_unstable();
    let mut key = target.context(&request).select_variant_key(&headers)?;
    // A response without Vary does not take the place of those that have one (RFC 9111 §4.1): it is stored for requests
    // with the same fields as this one.
    if key == target.primary
        && let Some(fields) = target.known_vary()
    {
        key = key.variant_key_of_response(&fields, &request, &headers);
    }
    Ok(StoredHead {
        key,
        fingerprint: target.route.fingerprint,
        status,
        fields: StoredFields::new(&headers, &tags),
        terms: terms.into(),
        stamp: version,
        targets: targets.into(),
        fetched_here: true,
        found_valid: ValidityCache::default(),
        evaluated_under: EvaluatedUnder::new(target.route.lifetime_fingerprint),
        usage: Default::default(),
    })
}

/// The terms of a freshened response, under what its content says of its expiry.
async fn limit_terms(
    target: &FetchTarget,
    terms: Terms,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Terms, NotStored> {
    if !lifetime_limits::needs_content(&target.route) {
        return limit_lifetime(&target.route, &target.primary, terms, headers, None);
    }
    let (route, primary, headers, body) =
        (target.route.clone(), target.primary, headers.clone(), body.clone());
    let length = body.len();
    let limit = move || {
        let content = Content::parse_response(&headers, &body, route.max_json)
            .map_err(|unreadable| unreadable.as_not_stored())?;
        limit_lifetime(&route, &primary, terms, &headers, Some(&content))
    };
    parse(target, length, limit).await
}

async fn parse<T: Send + 'static>(
    target: &FetchTarget,
    length: usize,
    parse: impl FnOnce() -> Result<T, NotStored> + Send + 'static,
) -> Result<T, NotStored> {
    target.proxy().content_parser.run(length, parse).await.unwrap_or(Err(NotStored::MalformedJson))
}

/// Whether the response was fresh when it came.
pub(super) fn is_fresh(head: &StoredHead) -> bool {
    head.terms().is_fresh(head.terms().received_at)
}

pub(in crate::proxy) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
