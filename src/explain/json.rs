//! Renders an explanation as JSON.

use http::HeaderName;
use serde_json::{Map, Value, json};

use super::caller::describe_caller;
use super::describe::{abbreviate_key, describe_not_stored, describe_pass};
use super::overlay::caller_parts_to_json;
use super::{Explanation, LookupExplanation, StoreExplanation, Verdict, WriteExplanation, routes_with_tag};
use crate::policy::lifetime::Lifetime;
use crate::policy::on_miss::OnMiss;
use crate::policy::routes::Routes;
use crate::policy::template::Template;
use crate::policy::write_outcome::WriteOutcome;
use crate::purge::Target;

/// The explanation as `larder explain --output json` prints it.
pub fn to_json(explanation: &Explanation, routes: &Routes) -> Value {
    let route = explanation.route.as_deref();
    let mut json_value = json!({
        "method": explanation.method.as_str(),
        "target": explanation.target,
        "route": route.map(|route| json!({"path": route.path.as_str(), "name": &*route.name})),
        "caller": explanation.caller.as_ref().map(describe_caller),
    });
    let more = match &explanation.verdict {
        Verdict::Refused(why) => json!({"decision": "refused", "words": why}),
        Verdict::Pass(reason) => {
            json!({"decision": "pass", "reason": reason.as_str(), "words": describe_pass(*reason, route)})
        }
        Verdict::Identify => json!({"decision": "identify"}),
        Verdict::Lookup(lookup) => lookup_to_json(lookup),
        Verdict::Write(write) => write_to_json(write, routes),
        Verdict::Operation(operation) => json!({"decision": "operation", "operation": operation.to_string()}),
        Verdict::Purge(targets) => json!({"decision": "purge", "purges": targets_to_json(targets, routes)}),
    };
    if let (Value::Object(json_value), Value::Object(more)) = (&mut json_value, more) {
        json_value.extend(more);
    }
    json_value
}

fn lookup_to_json(lookup: &LookupExplanation) -> Value {
    let parts: Vec<Value> =
        lookup.parts.iter().map(|part| json!({"name": part.name, "values": part.values})).collect();
    let on_miss = match lookup.on_miss {
        OnMiss::Fetch => "fetch",
        OnMiss::Head => "forward",
        OnMiss::OnlyIfCached => "only-if-cached",
    };
    let mut json_value = json!({
        "decision": "lookup",
        "key": abbreviate_key(&lookup.key),
        "keyParts": parts,
        "forwarded": lookup.forwarded,
        "leftOut": lookup.left_out.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        "credentialOutsideKey": !lookup.caller.is_in_key(),
        "fieldOutsideKey": lookup.field_outside_key.as_ref().map(HeaderName::as_str),
        "onMiss": on_miss,
        "dateSecondsBehind": lookup.clock_lag,
        "status": lookup.status.as_u16(),
        "stored": lookup.on_miss == OnMiss::Fetch && lookup.fetched.is_ok(),
    });
    if !lookup.caller_parts.is_empty() {
        json_value["callerParts"] = caller_parts_to_json(&lookup.caller_parts);
    }
    match &lookup.fetched {
        Ok(store) => json_value["terms"] = store_to_json(store),
        Err(why) => {
            json_value["notStored"] = json!({"reason": why.as_str(), "words": describe_not_stored(*why)})
        }
    }
    json_value["purgedBy"] = json!(lookup.purging_routes);
    json_value
}

fn store_to_json(store: &StoreExplanation) -> Value {
    let terms = &store.terms;
    let from = match store.lifetime {
        Lifetime::Explicit(_) => "response",
        Lifetime::Heuristic(_) => "heuristic",
        Lifetime::AlwaysValidated => "no-cache",
        Lifetime::Route(_) => "route",
        Lifetime::UntilPurged => "until-purged",
    };
    let unread: Vec<&str> = store.unresolved_tags.iter().map(Template::as_str).collect();
    let field = |(name, value): &(HeaderName, String)| (name.to_string(), Value::from(value.as_str()));
    let cache_fields: Map<_, _> = store.cache_fields.iter().map(field).collect();
    json!({
        "ttlSeconds": terms.freshness_lifetime.saturating_sub(terms.initial_age).as_secs(),
        "ttlFrom": from,
        "alwaysValidated": terms.always_validate,
        "staleWhileRevalidateSeconds": terms.stale_while_revalidate.as_secs(),
        "staleIfErrorSeconds": terms.stale_if_error.as_secs(),
        "staleClosedBySMaxage": store.closed_by_s_maxage,
        "noVarySearch": store.equivalents.as_ref().map(ToString::to_string),
        "tags": store.tags,
        "tagsInContent": unread,
        "cacheFields": cache_fields,
    })
}

fn write_to_json(write: &WriteExplanation, routes: &Routes) -> Value {
    let end = match write.end {
        WriteOutcome::Purge => "purge",
        WriteOutcome::PurgeUrl | WriteOutcome::PurgeUrlOfCut => "purge-url",
        WriteOutcome::PurgeInDoubt => "in-doubt",
        WriteOutcome::Nothing => "nothing",
    };
    json!({
        "decision": "write",
        "status": write.status.as_u16(),
        "end": end,
        "purges": targets_to_json(&write.targets, routes),
        "widened": write.widened_templates,
    })
}

fn targets_to_json(targets: &[Target], routes: &Routes) -> Value {
    let json_value = |target: &Target| match target {
        Target::Tag(tag) => json!({"tag": tag, "carriedBy": routes_with_tag(routes, tag)}),
        Target::Path { path, .. } => json!({"path": path.as_str()}),
        Target::Url { path, query, .. } => json!({"path": path.as_str(), "query": query}),
        Target::Equivalents { path, .. } => json!({"path": path.as_str(), "equivalentQueries": true}),
        Target::Prefix { path, .. } => json!({"prefix": path.as_str()}),
        Target::Everything => json!({"everything": true}),
    };
    targets.iter().map(json_value).collect()
}
