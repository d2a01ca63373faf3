//! The purpose of a token: an access token is no refresh token, and one for reading no one for everything, although both may
//! name the same caller. An API tells them apart (RFC 8725 §3.11), so they share no response.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Claims that say what a token is for, who uses it, and how its caller has signed in (RFC 8693, RFC 9068, OpenID Connect,
/// and the usual frameworks).
const PURPOSE_CLAIMS: [&str; 21] = [
    "aal",
    "acr",
    "act",
    "amr",
    "azp",
    "cid",
    "client_id",
    "fresh",
    "impersonated_by",
    "impersonator",
    "mfa",
    "purpose",
    "scope",
    "scopes",
    "scp",
    "token_type",
    "token_use",
    "tokenType",
    "typ",
    "type",
    "use",
];

/// Claims that say what the caller may do, and for whom. Callers of whom several share a response may differ in them.
const RIGHT_CLAIMS: [&str; 16] = [
    "authorities",
    "entitlements",
    "groups",
    "org",
    "org_id",
    "organization",
    "permissions",
    "privileges",
    "realm_access",
    "resource_access",
    "role",
    "roles",
    "tenant",
    "tenant_id",
    "tid",
    "user_type",
];

/// A hash of claims.
type ClaimsHash = [u8; 16];

/// In what tokens of one caller may differ so that they share no response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenKind {
    purpose: Option<ClaimsHash>,
    rights: Option<ClaimsHash>,
}

impl TokenKind {
    /// The claims that keep responses apart.
    pub(crate) fn claims() -> impl Iterator<Item = &'static str> {
        PURPOSE_CLAIMS.into_iter().chain(RIGHT_CLAIMS)
    }

    pub(crate) fn is_claim(name: &str) -> bool {
        Self::claims().any(|known| known == name)
    }

    /// `header`: of the token (RFC 7515 §4). `ignored`: claims in which tokens may differ and share responses all the same.
    /// `scheme`: what stood before the token, if that is unusual.
    pub(crate) fn new(
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
        ignored: &[String],
        scheme: &[u8],
    ) -> Self {
        let stated = |names: &[&'static str]| -> Vec<(&'static str, &Value)> {
            let names = names.iter().filter(|name| !ignored.iter().any(|ignored| ignored == *name));
            names.filter_map(|name| Some((*name, claims.get(*name)?))).collect()
        };
        let mut purpose = stated(&PURPOSE_CLAIMS);
        // `JWT` says nothing (RFC 7519 §5.1), `at+jwt` does (RFC 9068 §2.1).
        let is_plain = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("jwt"));
        purpose.extend(header.get("typ").filter(|kind| !is_plain(kind)).map(|kind| ("header", kind)));
        let scheme = Value::from(String::from_utf8_lossy(scheme));
        purpose.extend((scheme != "").then_some(("scheme", &scheme)));
        Self { purpose: hash(&purpose), rights: hash(&stated(&RIGHT_CLAIMS)) }
    }

    /// The parts of the key of a response to a caller with such a token. `names_one_caller`: the key has a caller's name.
    pub(super) fn key_parts(&self, names_one_caller: bool) -> [Option<&[u8]>; 2] {
        [self.purpose.as_ref(), self.rights.as_ref().filter(|_| names_one_caller)]
            .map(|hash| hash.map(|it| it.as_slice()))
    }
}

/// `None` if there are none.
fn hash(claims: &[(&str, &Value)]) -> Option<ClaimsHash> {
    if claims.is_empty() {
        return None;
    }
    let mut hasher = Sha256::new();
    for (name, value) in claims {
        hasher.update(format!("{name}={value}\n"));
    }
    hasher.finalize()[..16].try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(header: Value, claims: Value, ignored: &[&str]) -> TokenKind {
        let object = |value: Value| value.as_object().expect("an object").clone();
        let ignored: Vec<_> = ignored.iter().map(|name| (*name).to_owned()).collect();
        TokenKind::new(&object(header), &object(claims), &ignored, b"")
    }

    #[test]
    fn tokens_differ_by_what_they_are_for() {
        let of = |claims: Value| kind(json!({"typ": "JWT"}), claims, &[]);
        let plain = of(json!({"sub": "ann", "exp": 5, "iat": 1, "jti": "x"}));
        assert_eq!(plain, TokenKind::default());
        assert_eq!(kind(json!({"typ": "jwt", "kid": "1"}), json!({"sub": "bob"}), &[]), plain);
        let kinds = [
            kind(json!({"typ": "at+jwt"}), json!({}), &[]),
            of(json!({"type": "refresh"})),
            of(json!({"type": "access"})),
            of(json!({"scope": "email"})),
            of(json!({"mfa": "pending"})),
            of(json!({"azp": "web"})),
            of(json!({"roles": ["admin"]})),
            of(json!({"roles": []})),
        ];
        for (at, kind) in kinds.iter().enumerate() {
            assert!(*kind != plain && !kinds[..at].contains(kind), "{at}");
        }
        assert_eq!(kind(json!({}), json!({"azp": "web", "roles": [1]}), &["azp", "roles"]), plain);
    }
}
