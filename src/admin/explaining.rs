//! `/explain`: what larder makes of a request, and what is stored for it now, in this replica and behind it. It changes
//! nothing, not even what is used least.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AdminState;
use super::answer::{Answer, Refusal, json};
use super::purges::pairs;
use crate::explain::{Explainer, Question, Reply, fields, told};
use crate::policy::reuse::{NoReuse, Reuse};
use crate::purge::Validity;
use crate::store::Seen;
use crate::stored_response::{Stored, StoredResponse};

const FIX: &str = "ask GET /explain?url=http://api.example/path, or POST {\"method\": \"GET\", \"url\": \"…\", \
                   \"headers\": [\"Name: value\"]}; the host stands in the key";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// `body`: of a POST.
pub async fn explain(
    state: &AdminState,
    query: Option<&str>,
    body: Option<Bytes>,
) -> Result<Answer, Refusal> {
    let wanted = match body {
        Some(body) => serde_json::from_slice(&body)
            .map_err(|error| Refusal::bad_request(format!("the request's content: {error}"), FIX))?,
        None => of_query(query)?,
    };
    let question = question(&wanted)?;
    let now = state.clock.now();
    let mut explainer = Explainer::new(&state.config, &state.routes, now);
    let explanation = explainer.explain(&question, &Reply::default());
    let fallbacks = state.events.fallbacks(state.routes.iter());
    explainer.fallback_ttl = explanation.route.as_ref().and_then(|route| fallbacks.of_route(route.index));
    let mut told = told(&explanation, &state.routes);
    // What follows is what is, and not what would be.
    if let Some(told) = told.as_object_mut() {
        for hypothetical in ["status", "stored", "terms", "notStored", "purgedBy"] {
            told.remove(hypothetical);
        }
    }
    if let Some(key) = explainer.looked_up(&question) {
        let mut seen = state.store.look(&key).await;
        if let Some(Seen { stored: Stored::Variants(variants), .. }) = &seen {
            let keys = explainer.variants(&question, &key, variants);
            seen = None;
            for key in keys {
                if seen.is_none() {
                    seen = state.store.look(&key).await;
                }
            }
        }
        told["now"] = match &seen {
            Some(Seen { stored: Stored::Response(response), .. }) => {
                of_seen(state, &explainer, &question, response, &seen)
            }
            _ => json!({"stored": false}),
        };
    }
    Ok(json(StatusCode::OK, &told))
}

fn of_query(query: Option<&str>) -> Result<Wanted, Refusal> {
    let mut wanted = Wanted { method: get(), url: String::new(), headers: Vec::new() };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "url" => wanted.url = value,
            "method" => wanted.method = value,
            "header" => wanted.headers.push(value),
            _ => return Err(Refusal::bad_request(format!("`{name}` is not known here"), FIX)),
        }
    }
    if wanted.url.is_empty() { Err(Refusal::bad_request("no URL is named", FIX)) } else { Ok(wanted) }
}

fn question(wanted: &Wanted) -> Result<Question, Refusal> {
    let refuse = |error: String| Refusal::bad_request(error, FIX);
    let headers: HeaderMap = fields(wanted.headers.iter().map(String::as_str)).map_err(refuse)?;
    if wanted.url.starts_with('/') && !headers.contains_key("host") {
        return Err(refuse(format!("{:?} does not say of which host", wanted.url)));
    }
    Question::new(&wanted.method, &wanted.url, headers, Bytes::new()).map_err(refuse)
}

fn of_seen(
    state: &AdminState,
    explainer: &Explainer<'_>,
    question: &Question,
    response: &StoredResponse,
    seen: &Option<Seen>,
) -> Value {
    let (head, now) = (&response.head, state.clock.now());
    let Some(seen) = seen else { return json!({"stored": false}) };
    let soft_purged = seen.validity == Validity::Stale;
    let validity = match seen.validity {
        Validity::Valid => "valid",
        Validity::Stale => "stale",
        Validity::Dead => "purged",
    };
    let judged = explainer.reuse(question, head, soft_purged);
    let reuse = match seen.validity {
        Validity::Dead => Some("never"),
        _ => judged.as_ref().map(words_of_reuse),
    };
    json!({
        "stored": true,
        "tier": seen.tier.as_str(),
        "status": head.status.as_u16(),
        "ageSeconds": head.terms().age(now).as_secs(),
        "ttlSeconds": judged.as_ref().and_then(ttl_of).unwrap_or_else(|| head.terms().ttl(now)),
        "fallbackTtlSeconds": explainer.fallback_ttl.map(|fallback| fallback.as_secs()),
        "forgottenInSeconds": head.terms().expires_at.since(now).as_secs(),
        "tags": head.tags().collect::<Vec<_>>(),
        "contentBytes": response.body.len(),
        "weightBytes": response.weight(),
        "asOf": head.stamp.as_of.0,
        "validity": validity,
        "purgedBy": seen.purged.map(|(target, position)| {
            let name = explainer.named(question, head, target).map(|target| target.to_string());
            json!({"target": name, "position": position.0})
        }),
        "reuse": reuse,
    })
}

/// By the rules of now, and not of when it was stored.
fn ttl_of(reuse: &Reuse) -> Option<i64> {
    match *reuse {
        Reuse::Fresh { ttl, .. }
        | Reuse::StaleWhileRevalidate { ttl, .. }
        | Reuse::StaleAsAsked { ttl, .. }
        | Reuse::Validate { ttl, .. }
        | Reuse::ValidateAsAsked { ttl, .. } => Some(ttl),
        Reuse::No(_) => None,
    }
}

fn words_of_reuse(reuse: &Reuse) -> &'static str {
    match reuse {
        Reuse::Fresh { .. } => "hit",
        Reuse::StaleWhileRevalidate { .. } => "hit, stale while a new one is fetched",
        Reuse::StaleAsAsked { .. } => "hit, stale as the request accepts",
        Reuse::Validate { if_error: true, .. } => "to be validated, or stale if the upstream fails",
        Reuse::Validate { if_error: false, .. } | Reuse::ValidateAsAsked { .. } => "to be validated",
        Reuse::No(NoReuse::Credentials) => {
            "not for this caller: the request has a credential outside the key"
        }
        Reuse::No(NoReuse::Expired) => "expired",
        Reuse::No(NoReuse::Foreign) => "stored under other rules",
    }
}
