//! `GET /explain?key=KEY`: what is stored under a key as operators find it in Redis.

use http::StatusCode;
use serde_json::{Value, json};

use super::AdminState;
use super::response::{AdminError, AdminResponse, json};
use crate::policy::CacheKey;
use crate::purge::Validity;
use crate::store::InspectedEntry;
use crate::stored_response::{StoredEntry, StoredResponse};

const KEY_USAGE: &str = "write the key of a response, as `larder:r5:` and 64 digits, or that of its lease";

/// Describes the entry under `key`, wherever it is.
pub(super) async fn describe_key(state: &AdminState, key: &str) -> Result<AdminResponse, AdminError> {
    let namespace = &state.config.store.namespace;
    let wrong = || {
        let what = format!("`{key}` is not the key of a response in the namespace `{namespace}`");
        AdminError::bad_request(what, KEY_USAGE)
    };
    let cache_key = parse_key(key, namespace).ok_or_else(wrong)?;
    let entry = state.store.inspect(&cache_key).await.ok_or_else(|| {
        let fix = "it has expired, or can't be read: `/readyz` says whether Redis can";
        AdminError::new(StatusCode::NOT_FOUND, "nothing is stored under the key", fix)
    })?;
    let description = match &entry.stored {
        StoredEntry::Response(response) => describe_response(state, response, &entry),
        StoredEntry::Variants(_) => {
            json!({"kind": "variants", "tier": entry.tier.as_str(), "route": null, "path": null})
        }
    };
    Ok(json(StatusCode::OK, &description))
}

/// The digits at the end: of `larder:r5:…`, of `larder:lease:{larder:r5:…}`, or alone. `None` if it is of another namespace.
fn parse_key(name: &str, namespace: &str) -> Option<CacheKey> {
    let digits = match name.strip_suffix('}').unwrap_or(name).rsplit_once(':') {
        None => name,
        Some((start, digits)) => {
            start.strip_prefix(namespace)?.strip_prefix(':')?;
            digits
        }
    };
    CacheKey::from_digits(digits)
}

fn describe_response(state: &AdminState, response: &StoredResponse, entry: &InspectedEntry) -> Value {
    let (head, now) = (&response.head, state.clock.now());
    let route = state.routes.iter().find(|route| route.fingerprint.0 == head.fingerprint.0);
    json!({
        "kind": "response",
        "tier": entry.tier.as_str(),
        // None if it was stored under other rules.
        "route": route.map(|route| &*route.name),
        // None if this replica has not answered a request with it.
        "path": head.usage.path(),
        "tags": head.tags().collect::<Vec<_>>(),
        "status": head.status.as_u16(),
        "contentBytes": response.body.len(),
        "fetchedAt": head.terms().requested_at.to_rfc3339(3),
        "droppedInSeconds": head.terms().expires_at.since(now).as_secs(),
        "validity": match entry.validity {
            Validity::Valid => "valid",
            Validity::Stale { .. } => "stale",
            Validity::Dead => "purged",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_operators_see_them() {
        let digits = "a0".repeat(32);
        let lease = format!("shop:lease:{{shop:r5:{digits}}}");
        for name in [&digits, &format!("shop:r5:{digits}"), &lease] {
            assert_eq!(parse_key(name, "shop"), Some(CacheKey([0xa0; 32])), "{name}");
        }
        let of_another = format!("shop2:r5:{digits}");
        for name in ["", "shop:r5:", "{shop}:index", "shop:r5:a0", &of_another] {
            assert_eq!(parse_key(name, "shop"), None, "{name}");
        }
    }
}
