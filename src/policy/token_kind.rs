//! The purpose of a token: an access token is no refresh token, and one for reading no one for everything, although both may
//! name the same caller. An API tells them apart (RFC 8725 §3.11), so they share no response. Nor do tokens of one caller with
//! other rights, of which any claim may tell that is not of one sign-in alone.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Claims that say what a token is for, who uses it, and how its caller has signed in (RFC 8693, RFC 9068, OpenID Connect,
/// and the usual frameworks), in lower case and without `_` and `-`.
const PURPOSE_CLAIMS: &[&str] = &[
    "aal",
    "acr",
    "act",
    "amr",
    "appid",
    "azp",
    "cid",
    "clientid",
    "fresh",
    "gty",
    "idtyp",
    "kind",
    "purpose",
    "scope",
    "scopes",
    "scp",
    "sts",
    "tokenkind",
    "tokentype",
    "tokenuse",
    "typ",
    "type",
    "use",
];

/// Found in the names of such claims, in the same spelling.
const PURPOSE_PARTS: &[&str] =
    &["2fa", "factor", "impersonat", "mfa", "otp", "preauth", "refresh", "stepup", "totp"];

/// Claims in which the tokens of one caller differ by device, sign-in or renewal alone (RFC 7519, OpenID Connect, Entra ID,
/// Cognito, Clerk, Supabase, Flask, Django).
const VOLATILE_CLAIMS: &[&str] = &[
    "aio",
    "at_hash",
    "ath",
    "auth_time",
    "c_hash",
    "csrf",
    "device",
    "deviceId",
    "device_id",
    "device_key",
    "event_id",
    "exp",
    "expires",
    "expires_at",
    "expiresAt",
    "expires_in",
    "fva",
    "iat",
    "iat_ms",
    "ip",
    "ip_address",
    "ipaddr",
    "issued_at",
    "issuedAt",
    "jti",
    "last_login",
    "last_login_at",
    "login_time",
    "nbf",
    "nonce",
    "orig_iat",
    "origIat",
    "origin_jti",
    "rat",
    "refresh_exp",
    "refresh_jti",
    "refresh_token_id",
    "rh",
    "s_hash",
    "salt",
    "sessionId",
    "session_id",
    "session_state",
    "sid",
    "timestamp",
    "tokenId",
    "token_id",
    "txn",
    "updated_at",
    "updatedAt",
    "user_agent",
    "uti",
];

/// Claims that name one caller, in lower case and without `_`, `-` and what stands before the last dot.
const NAMES_OF_ONE: &[&str] = &[
    "email",
    "emailaddress",
    "login",
    "mail",
    "memberid",
    "nameid",
    "objectid",
    "oid",
    "personid",
    "phone",
    "phonenumber",
    "playerid",
    "preferredusername",
    "profileid",
    "studentid",
    "sub",
    "subject",
    "uid",
    "uniquename",
    "upn",
    "user",
    "userid",
    "username",
    "useruuid",
];

/// The type in the header and the scheme, beside the claims: no claim is called so.
const TYPE_OF_HEADER: &str = "=typ";
const SCHEME: &str = "=scheme";

/// A hash of claims.
type ClaimsHash = [u8; 16];

/// In what tokens of one caller may differ so that they share no response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenKind {
    purpose: Option<ClaimsHash>,
    /// All but `sub`, purpose and rights.
    beside_sub: Option<ClaimsHash>,
    all: Option<ClaimsHash>,
}

/// How the key of a response names its callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// Several callers share the response.
    Group,
    Sub,
    /// Another claim with a value for each caller.
    OtherClaim,
}

impl TokenKind {
    /// Whether tokens that differ in it may be kept apart.
    pub(crate) fn is_claim(name: &str) -> bool {
        !VOLATILE_CLAIMS.contains(&name)
    }

    /// Whether a claim, as `per` names it, has another value for each caller. If it has, other claims tell what this caller
    /// may do; if not, those who share a response may differ in them.
    pub(super) fn names_one_caller(path: &str) -> bool {
        let last = path.rsplit(['.', '/', ':']).next().unwrap_or(path);
        let plain = plain_name(last);
        // `id` is of the caller, and `org.id` of an organization.
        NAMES_OF_ONE.contains(&plain.as_str()) || ["id", "user.id", "user.uuid"].contains(&path)
    }

    /// `header`: of the token (RFC 7515 §4). `ignored`: claims in which tokens may differ and share responses all the same.
    /// `scheme`: what stood before the token, if that is unusual.
    pub(crate) fn new(
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
        ignored: &[String],
        scheme: &[u8],
    ) -> Self {
        let is_ignored = |name: &str| ignored.iter().any(|ignored| ignored == name);
        let stated = claims.iter().map(|(name, value)| (name.as_str(), value));
        let stated = stated.filter(|(name, _)| Self::is_claim(name) && !is_ignored(name));
        // In the order of their names.
        let mut all: Vec<_> = stated.collect();
        // `JWT` says nothing (RFC 7519 §5.1), `at+jwt` does (RFC 9068 §2.1).
        let is_plain = |kind: &Value| kind.as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("jwt"));
        all.extend(header.get("typ").filter(|kind| !is_plain(kind)).map(|kind| (TYPE_OF_HEADER, kind)));
        let scheme = Value::from(String::from_utf8_lossy(scheme));
        all.extend((scheme != "").then_some((SCHEME, &scheme)));
        Self {
            purpose: hash(&all, is_purpose),
            beside_sub: hash(&all, |name, _| name != "sub"),
            all: hash(&all, |_, _| true),
        }
    }

    /// The part of the key of a response to a caller with such a token.
    pub(super) fn key_part(&self, named_by: NamedBy) -> Option<&[u8]> {
        let hash = match named_by {
            NamedBy::Group => &self.purpose,
            NamedBy::Sub => &self.beside_sub,
            NamedBy::OtherClaim => &self.all,
        };
        hash.as_ref().map(|hash| hash.as_slice())
    }
}

/// Without `_` and `-`, in lower case.
fn plain_name(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

/// A claim that is true or false has few values, and may say how a caller has signed in, or what is granted.
fn is_purpose(name: &str, value: &Value) -> bool {
    let plain = plain_name(name);
    value.is_boolean()
        || [TYPE_OF_HEADER, SCHEME].contains(&name)
        || PURPOSE_CLAIMS.contains(&plain.as_str())
        || PURPOSE_PARTS.iter().any(|part| plain.contains(part))
}

/// A hash of the claims that count; `None` if none does.
fn hash(claims: &[(&str, &Value)], counts: impl Fn(&str, &Value) -> bool) -> Option<ClaimsHash> {
    let mut claims = claims.iter().filter(|(name, value)| counts(name, value)).peekable();
    claims.peek()?;
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
        let plain = of(json!({"exp": 5, "iat": 1, "jti": "x"}));
        assert_eq!(plain, TokenKind::default());
        assert_eq!(kind(json!({"typ": "jwt", "kid": "1"}), json!({"nbf": 4, "sid": 3}), &[]), plain);
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

    #[test]
    fn a_purpose_is_known_by_any_usual_name() {
        let purpose =
            |name: &str, value: Value| kind(json!({}), json!({"sub": "ann", name: value}), &[]).purpose;
        for (name, value) in [
            ("tokenUse", json!("refresh")),
            ("token_kind", json!("refresh")),
            ("idtyp", json!("app")),
            ("appid", json!("web")),
            ("isSecondFactorAuthenticated", json!(false)),
            ("two_factor", json!("pending")),
            ("otp_verified_at", json!(5)),
            ("pre_auth", json!(1)),
            ("is_admin", json!(true)),
        ] {
            assert!(purpose(name, value).is_some(), "{name}");
        }
        assert_eq!(purpose("plan", json!("gold")), None);
        assert_eq!(purpose("refresh_jti", json!("7")), None);
    }

    #[test]
    fn all_that_is_not_of_one_sign_in_may_be_a_right() {
        let rights = |mut claims: Value, more: Value| {
            claims["sub"] = json!("ann");
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let kind = kind(json!({}), claims, &["nickname"]);
            (kind.beside_sub, kind.all)
        };
        let plain = rights(json!({}), json!({}));
        for claim in [
            "orgId",
            "company_id",
            "o",
            "cognito:groups",
            "https://x/roles",
            "app_metadata",
            "is_admin",
            "iss",
        ] {
            let other = rights(json!({}), json!({claim: ["x"]}));
            assert!(other.0 != plain.0 && other.1 != plain.1, "{claim}");
        }
        for claim in VOLATILE_CLAIMS.iter().copied().chain(["nickname"]) {
            assert_eq!(rights(json!({}), json!({claim: ["x"]})), plain, "{claim}");
        }
    }

    #[test]
    fn a_sub_counts_where_the_key_does_not_name_it() {
        let part = |sub: &str, named_by| {
            kind(json!({}), json!({"sub": sub, "email": "a@b"}), &[]).key_part(named_by).map(<[u8]>::to_vec)
        };
        assert_eq!(part("ann", NamedBy::Group), None);
        assert_eq!(part("ann", NamedBy::Sub), part("bob", NamedBy::Sub));
        assert_ne!(part("ann", NamedBy::OtherClaim), part("bob", NamedBy::OtherClaim));
        assert_eq!(kind(json!({}), json!({"sub": "ann"}), &[]).key_part(NamedBy::Sub), None);
    }

    #[test]
    fn a_claim_with_a_value_for_each_caller_is_known() {
        for one in
            ["sub", "user_id", "userId", "email", "https://x/email", "user.email", "id", "cognito:username"]
        {
            assert!(TokenKind::names_one_caller(one), "{one}");
        }
        for many in ["tenant", "org.id", "role", "plan", "org_id", "realm_access.roles", "scope"] {
            assert!(!TokenKind::names_one_caller(many), "{many}");
        }
    }
}
