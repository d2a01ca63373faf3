//! `/explain`: how the rules treat a request, and what is stored for it now. Lookups here do not touch recency.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminState;
use super::purges::{self, PurgeEntry};
use super::query::{parse_object, query_pairs};
use super::response::{AdminError, AdminResponse, json};
use super::stored_key::describe_key;
use crate::clock::Timestamp;
use crate::explain::{
    CallerTrust, ExplainRequest, ExplainResponse, Explainer, PurgingRoute, Verdict, find_purging_routes,
    parse_fields, to_json,
};
use crate::policy::CacheKey;
use crate::policy::miss_reason::MissReason;
use crate::policy::reuse::Reuse;
use crate::purge::{AuditFilter, PurgeVersion, Validity};
use crate::store::InspectedEntry;
use crate::stored_response::{StoredEntry, StoredHead, StoredResponse, Variants};

const FIX: &str = "ask GET /explain?url=http://api.example/path, or POST {\"method\": \"GET\", \"url\": \"…\", \
                   \"headers\": [\"Name: value\"]}; the host stands in the key";

/// Maximum number of routes that are named as purging a response.
const MAX_PURGING_ROUTES: usize = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainQuery {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// `body` is the content of a POST.
pub(super) async fn explain(
    state: &AdminState,
    query: Option<&str>,
    body: Option<Bytes>,
) -> Result<AdminResponse, AdminError> {
    if let (None, Some(key)) = (&body, find_key(query)?) {
        return describe_key(state, &key).await;
    }
    let wanted = match body {
        Some(body) => parse_object(&body)
            .map_err(|error| AdminError::bad_request(format!("invalid JSON body: {error}"), FIX))?,
        None => parse_query(query)?,
    };
    let question = build_question(&wanted)?;
    let now = state.clock.now();
    let mut explainer =
        Explainer::new(&state.config, &state.routes, CallerTrust::Verify(&state.callers), now);
    let mut explanation = explainer.explain(&question, &ExplainResponse::default());
    if let (Verdict::Identify, Some(route)) = (&explanation.verdict, &explanation.route)
        && let Some(source) = &route.callers
    {
        explainer.ask_caller(source, &question).await;
        explanation = explainer.explain(&question, &ExplainResponse::default());
    }
    let fallbacks = state.events.fallbacks(state.routes.iter());
    explainer.fallback_ttl = explanation.route.as_ref().and_then(|route| fallbacks.find(route.index));
    let mut told = to_json(&explanation, &state.routes);
    // The rest of the reply describes the present entry, so the hypothetical fields go.
    if let Some(told) = told.as_object_mut() {
        for hypothetical in ["status", "stored", "terms", "notStored", "purgedBy"] {
            told.remove(hypothetical);
        }
    }
    let mut noticed = (state.field_notices)();
    noticed.retain(|(route, ..)| explanation.route.as_ref().is_some_and(|it| it.name == *route));
    if !noticed.is_empty() {
        let said =
            |(_, effect, field): &(_, &str, HeaderName)| json!({"field": field.as_str(), "effect": effect});
        told["fieldNotices"] = noticed.iter().map(said).collect();
    }
    if let Some(key) = explainer.lookup_key(&question) {
        told["now"] = describe_now(state, &mut explainer, &question, key).await;
    }
    Ok(json(StatusCode::OK, &told))
}

/// Describes what the store has for a request with this key.
async fn describe_now(
    state: &AdminState,
    explainer: &mut Explainer<'_>,
    question: &ExplainRequest,
    key: CacheKey,
) -> Value {
    let SeenEntry { entry: seen, looked_up, absent, variants } =
        inspect(state, explainer, question, key).await;
    explainer.variants = variants;
    let mut keys = vec![key];
    if let Some(InspectedEntry { stored: StoredEntry::Response(response), .. }) = &seen {
        keys.extend(Some(response.head.key).filter(|variant| *variant != key));
    }
    let mut now = match &seen {
        Some(InspectedEntry { stored: StoredEntry::Response(response), .. }) => {
            describe_stored(state, explainer, question, response, &seen)
        }
        _ => {
            let reason = state.store.find_absence(&looked_up).unwrap_or(absent);
            let purge = find_purge_record(state, reason.position().map(PurgeVersion)).await;
            json!({"stored": false, "reason": reason.as_str(), "purge": purge})
        }
    };
    if let Some((_, version)) = seen.as_ref().and_then(|seen| seen.last_purge) {
        now["purge"] = json!(find_purge_record(state, Some(version)).await);
    }
    let held_back: Vec<Value> =
        keys.iter().flat_map(|key| (state.held_back)(key)).map(describe_held_back).collect();
    if !held_back.is_empty() {
        now["heldBack"] = held_back.into();
    }
    now
}

struct SeenEntry {
    entry: Option<InspectedEntry>,
    looked_up: CacheKey,
    /// The reason of a miss that the store does not know better.
    absent: MissReason,
    variants: Option<Arc<Variants>>,
}

/// Reads the entry under `key`, or the variant that the request selects.
async fn inspect(
    state: &AdminState,
    explainer: &Explainer<'_>,
    question: &ExplainRequest,
    key: CacheKey,
) -> SeenEntry {
    let entry = state.store.inspect(&key).await;
    let Some(InspectedEntry { stored: StoredEntry::Variants(variants), .. }) = &entry else {
        return SeenEntry { entry, looked_up: key, absent: MissReason::NeverStored, variants: None };
    };
    let keys = explainer.variant_keys(question, &key, variants);
    let looked_up = keys.first().copied().unwrap_or(key);
    let mut latest: Option<InspectedEntry> = None;
    for key in keys {
        if let Some(entry) = state.store.inspect(&key).await
            && latest.as_ref().is_none_or(|latest| rank(latest) < rank(&entry))
        {
            latest = Some(entry);
        }
    }
    SeenEntry { entry: latest, looked_up, absent: MissReason::OtherVariant, variants: Some(variants.clone()) }
}

/// The most recent of several responses that match a request is used, unless a purge has ended it.
fn rank(entry: &InspectedEntry) -> Option<(bool, Timestamp)> {
    match &entry.stored {
        StoredEntry::Response(response) => {
            Some((entry.validity != Validity::Dead, response.head.terms().requested_at))
        }
        StoredEntry::Variants(_) => None,
    }
}

/// The purge with this version, as `GET /purges` lists it; `None` if the journal does not have it any more.
async fn find_purge_record(state: &AdminState, version: Option<PurgeVersion>) -> Option<PurgeEntry> {
    let version = version?;
    let since = PurgeVersion(version.0.saturating_sub(1));
    let page = state.store.recent_purges(AuditFilter { limit: purges::MAX_LIMIT, since, tag: None }).await;
    let record = page.records.into_iter().find(|record| record.position == version);
    record.map(PurgeEntry::from_record)
}

/// A kind of requests that is not collapsed or refreshed for a while.
fn describe_held_back((what, reason, left): (&str, &str, Duration)) -> Value {
    json!({"what": what, "reason": reason, "forSeconds": left.as_secs_f64().ceil()})
}

/// The only parameter, if it is a key in Redis.
fn find_key(query: Option<&str>) -> Result<Option<String>, AdminError> {
    let pairs = query_pairs(query)?;
    Ok(match &pairs[..] {
        [(name, key)] if name == "key" => Some(key.clone()),
        _ => None,
    })
}

fn parse_query(query: Option<&str>) -> Result<ExplainQuery, AdminError> {
    let mut wanted = ExplainQuery { method: get(), url: String::new(), headers: Vec::new() };
    for (name, value) in query_pairs(query)? {
        match name.as_str() {
            "url" => wanted.url = value,
            "method" => wanted.method = value,
            "header" => wanted.headers.push(value),
            _ => {
                return Err(AdminError::bad_request(
                    format!("unknown parameter `{name}`; expected `url`, `method` or `header`"),
                    FIX,
                ));
            }
        }
    }
    if wanted.url.is_empty() {
        Err(AdminError::bad_request("missing parameter `url`", FIX))
    } else {
        Ok(wanted)
    }
}

fn build_question(wanted: &ExplainQuery) -> Result<ExplainRequest, AdminError> {
    let refuse = |error: String| AdminError::bad_request(error, FIX);
    let headers: HeaderMap = parse_fields(wanted.headers.iter().map(String::as_str)).map_err(refuse)?;
    if wanted.url.starts_with('/') && !headers.contains_key("host") {
        return Err(refuse(format!("{:?} has no host; the key contains the host", wanted.url)));
    }
    ExplainRequest::new(&wanted.method, &wanted.url, headers, Bytes::new()).map_err(refuse)
}

fn describe_stored(
    state: &AdminState,
    explainer: &Explainer<'_>,
    question: &ExplainRequest,
    response: &StoredResponse,
    seen: &Option<InspectedEntry>,
) -> Value {
    let (head, now) = (&response.head, state.clock.now());
    let Some(seen) = seen else { return json!({"stored": false}) };
    let soft_purged = seen.validity.soft_purged();
    let validity = match seen.validity {
        Validity::Valid => "valid",
        Validity::Stale { .. } => "stale",
        Validity::Dead => "purged",
    };
    let judged = explainer.reuse(question, head, soft_purged);
    let reuse = match seen.validity {
        Validity::Dead => Some("never"),
        _ => judged.as_ref().map(describe_reuse),
    };
    let mut told = json!({
        "stored": true,
        "tier": seen.tier.as_str(),
        "status": head.status.as_u16(),
        "ageSeconds": head.terms().age(now).as_secs(),
        "ttlSeconds": judged.as_ref().and_then(remaining_ttl).unwrap_or_else(|| head.terms().ttl(now)),
        "fallbackTtlSeconds": explainer.fallback_ttl.map(|fallback| fallback.as_secs()),
        "droppedInSeconds": head.terms().expires_at.since(now).as_secs(),
        "fetchedAt": head.terms().requested_at.to_rfc3339(3),
        "fetchedHere": head.fetched_here,
        "replica": state.store.replica_name(),
        "tags": head.tags().collect::<Vec<_>>(),
        "purgingRoutes": purging_routes(state, head),
        "contentBytes": response.body.len(),
        "weightBytes": response.weight(),
        "asOf": head.stamp.version.0,
        "validity": validity,
        "purgedBy": seen.last_purge.map(|(target, position)| {
            let name = match target.is_rules() {
                true => Some("other rules".to_owned()),
                false => explainer.resolve_target(question, head, target).map(|target| target.to_string()),
            };
            json!({"target": name, "position": position.0})
        }),
        "verdict": reuse,
    });
    if explainer.is_stale_closed_by_s_maxage(question, head) {
        told["staleClosedBySMaxage"] = true.into();
    }
    told
}

/// The routes whose writes purge a tag of the response.
fn purging_routes(state: &AdminState, head: &StoredHead) -> Vec<PurgingRoute> {
    let tags: Vec<String> = head.tags().map(str::to_owned).collect();
    let mut routes = find_purging_routes(&state.routes, &tags, &[]);
    routes.truncate(MAX_PURGING_ROUTES);
    routes
}

/// The remaining lifetime under the rules in use now, not those of when it was stored.
fn remaining_ttl(reuse: &Reuse) -> Option<i64> {
    match *reuse {
        Reuse::Fresh { ttl, .. }
        | Reuse::StaleWhileRevalidate { ttl, .. }
        | Reuse::StaleOnRequest { ttl, .. }
        | Reuse::Validate { ttl, .. }
        | Reuse::ValidateOnRequest { ttl, .. } => Some(ttl),
        Reuse::No(_) => None,
    }
}

fn describe_reuse(reuse: &Reuse) -> &'static str {
    match reuse {
        Reuse::Fresh { .. } => "hit",
        Reuse::StaleWhileRevalidate { .. } => "hit, stale while revalidating",
        Reuse::StaleOnRequest { .. } => "hit, stale as the request allows (max-stale)",
        Reuse::Validate { if_error: true, .. } => "to be validated, or stale if the upstream fails",
        Reuse::Validate { if_error: false, .. } | Reuse::ValidateOnRequest { .. } => "to be validated",
        Reuse::No(MissReason::OtherCaller) => {
            "not for this caller: the request has a credential outside the key"
        }
        Reuse::No(MissReason::Expired) => "expired",
        Reuse::No(MissReason::ExpiredCaller) => "not for this caller: the token has expired",
        Reuse::No(MissReason::OtherRules) => "stored under other rules",
        Reuse::No(MissReason::OtherQuery) => "its No-Vary-Search does not cover this query",
        Reuse::No(reason) => reason.as_str(),
    }
}
