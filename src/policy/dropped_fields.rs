//! Response fields that are not stored: they speak to one caller.

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, EXPIRES, LAST_MODIFIED,
    SERVER, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName};

use super::{is_ambiguous_name, with_dashes};

/// The response fields that the response to a fetch has and no stored one. The client whose request was forwarded gets
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DroppedFields {
    names: Vec<HeaderName>,
    /// The beginnings of names.
    prefixes: Vec<String>,
    /// Names that look like those of tokens, sessions and callers count, too, unless they are in here.
    unless: Option<Box<DroppedFields>>,
}

/// Tokens, sessions, names and counters of one caller.
const DEFAULT: &[&str] = &[
    "x-credits-remaining",
    "x-quota-remaining",
    "quota-remaining",
    "x-shopify-shop-api-call-limit",
    "user-id",
    "x-userid",
    "x-user-role",
    "x-user-roles",
    "x-user-plan",
    "x-user-permissions",
    "x-permissions",
    // `uid`, `client` and `expiry` go with `access-token` in devise_token_auth.
    "access-token",
    "refresh-token",
    "id-token",
    "csrf-token",
    "xsrf-token",
    "new-token",
    "token",
    "jwt",
    "authorization",
    "set-authorization",
    "authentication-info",
    "x-authorization",
    "uid",
    "client",
    "expiry",
    "x-access-token",
    "x-refresh-token",
    "x-id-token",
    "x-csrf-token",
    "x-xsrf-token",
    "x-new-token",
    "x-token",
    "x-api-key",
    "x-jwt",
    "x-jwt-*",
    "x-auth-*",
    "verification-code",
    "x-verification-code",
    "session-id",
    "session",
    "sid",
    "x-sid",
    "sw-context-token",
    "cart-token",
    "x-cart-token",
    "nonce",
    "x-wp-nonce",
    "x-session",
    "x-session-*",
    "x-amzn-oidc-*",
    "x-goog-authenticated-user-*",
    "x-ms-client-principal",
    "x-ms-client-principal-*",
    "x-user",
    "x-user-id",
    "x-user-email",
    "x-user-name",
    "x-username",
    "x-current-user",
    "x-current-user-*",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-remote-user",
    "remote-user",
    "x-account-id",
    "x-customer-id",
    "x-member-id",
    "x-client-id",
    "ratelimit",
    "ratelimit-*",
    "x-ratelimit-*",
    "x-rate-limit-*",
    "x-ratelimit",
    "x-rate-limit",
];

/// Found anywhere in the names of tokens, sessions and callers.
const PARTS: &[&str] = &[
    "api-key",
    "apikey",
    "authenticated",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "csrf",
    "dpop",
    "identity",
    "impersonat",
    "jwt",
    "nonce",
    "passcode",
    "passw",
    "principal",
    "secret",
    "sessid",
    "session",
    "signed-url",
    "tenant",
    "ticket",
    "token",
    "xsrf",
];

/// Whole words of such names.
const WORDS: &[&str] = &[
    "account",
    "actor",
    "auth",
    "balance",
    "basket",
    "cart",
    "customer",
    "email",
    "employee",
    "impersonating",
    "logged",
    "login",
    "member",
    "otp",
    "patient",
    "phone",
    "pin",
    "remember",
    "role",
    "roles",
    "scopes",
    "sid",
    "student",
    "uid",
    "username",
    "viewer",
    "visitor",
    "wallet",
    "whoami",
];

/// Words of tokens by which a list is read on. They are nobody's.
const PAGING_WORDS: &[&str] = &["continuation", "cursor", "next", "page", "previous", "prev", "sync"];

/// Fields of nearly all responses, which speak to everybody.
const USUAL: [HeaderName; 12] = [
    AGE,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    SERVER,
    TRANSFER_ENCODING,
    VARY,
];

fn looks_personal(name: &str) -> bool {
    let has_word = |words: &[&str]| name.split('-').any(|word| words.contains(&word));
    // Names are short: a window costs less than the tables of `str::contains`, and each field of each response is tested.
    let has = |part: &str| {
        let (part, first) = (part.as_bytes(), part.as_bytes().first());
        name.as_bytes().windows(part.len()).any(|window| window.first() == first && window == part)
    };
    let has_part = || PARTS.iter().any(|part| has(part));
    // CORS (`Access-Control-Allow-Credentials`) speaks to pages, and a response with `Set-Cookie` has rules of its own.
    let is_other = name.starts_with("access-control-") || name.starts_with("set-cookie");
    !is_other && (has_word(WORDS) || has_part() && !has_word(PAGING_WORDS))
}

impl Default for DroppedFields {
    fn default() -> Self {
        Self {
            unless: Some(Box::new(Self::none())),
            ..Self::new(DEFAULT.iter().copied()).unwrap_or_else(Self::none)
        }
    }
}

impl DroppedFields {
    fn none() -> Self {
        Self { names: Vec::new(), prefixes: Vec::new(), unless: None }
    }

    /// `None`: one is neither a name nor the beginning of one with `*`.
    pub(crate) fn new<'p>(patterns: impl Iterator<Item = &'p str>) -> Option<Self> {
        let mut fields = Self::none();
        for pattern in patterns {
            match pattern.strip_suffix('*') {
                None => fields.names.push(with_dashes(&pattern.parse().ok()?)),
                Some(prefix) => {
                    let name = with_dashes(&prefix.parse().ok()?);
                    fields.prefixes.push(name.as_str().to_owned());
                }
            }
        }
        Some(fields)
    }

    /// The defaults without `exempt`, and `also`.
    #[must_use]
    pub(crate) fn amended(mut self, also: Self, exempt: &Self) -> Self {
        self.names.retain(|name| !exempt.drops(name));
        self.prefixes.retain(|prefix| !exempt.prefixes.contains(prefix));
        self.names.extend(also.names);
        self.prefixes.extend(also.prefixes);
        self.unless = Some(Box::new(exempt.clone()));
        self
    }

    pub(crate) fn drops(&self, name: &HeaderName) -> bool {
        if is_ambiguous_name(name) { self.drops_dashed(&with_dashes(name)) } else { self.drops_dashed(name) }
    }

    /// `X_User_Id` speaks to the same caller as `X-User-Id`.
    fn drops_dashed(&self, name: &HeaderName) -> bool {
        let is_personal =
            |unless: &Self| !USUAL.contains(name) && looks_personal(name.as_str()) && !unless.drops(name);
        self.names.contains(name)
            || self.prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
            || self.unless.as_deref().is_some_and(is_personal)
    }

    pub(crate) fn drops_cookies(&self) -> bool {
        self.names.contains(&SET_COOKIE)
    }

    /// The fields of a response that are not stored.
    pub(crate) fn select_from(&self, headers: &HeaderMap) -> HeaderMap {
        let dropped = headers.iter().filter(|(name, _)| self.drops(name));
        dropped.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// All that decides, as text, for fingerprints.
    pub(super) fn describe(&self) -> String {
        let unless = self.unless.as_ref().map(|unless| (&unless.names, &unless.prefixes));
        format!("{:?} {:?} {unless:?}", self.names, self.prefixes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixtures::fields;

    #[test]
    fn fields_for_one_caller_are_selected_by_name_and_prefix() {
        let sent = fields(&[
            ("x-session-id", "1"),
            ("x-ratelimit-remaining", "2"),
            ("etag", "\"3\""),
            ("set-cookie", "a=4"),
            ("x-shop", "5"),
        ]);
        let names = |fields: &DroppedFields| {
            fields.select_from(&sent).keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
        };
        let default = DroppedFields::default();
        assert_eq!(names(&default), ["x-session-id", "x-ratelimit-remaining"]);
        let list = |all: &[&'static str]| DroppedFields::new(all.iter().copied()).unwrap();
        let amended = default.clone().amended(list(&["Set-Cookie", "x-sh*"]), &list(&["X-RateLimit-*"]));
        assert_eq!(names(&amended), ["x-session-id", "set-cookie", "x-shop"]);
        assert!(amended.drops_cookies() && !default.drops_cookies());
        assert_eq!(DroppedFields::new(["a b"].into_iter()), None);
    }

    #[test]
    fn names_of_tokens_and_sessions_are_recognised() {
        let default = DroppedFields::default();
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        for dropped in [
            "Session-Token",
            "Private-Token",
            "X-Subject-Token",
            "X-Renewed-Token",
            "X-CSRFToken",
            "X-Csrf",
            "RequestVerificationToken",
            "Woocommerce-Session",
            "Sec-Session-Id",
            "DPoP-Nonce",
            "X-Email",
            "X-Authenticated-User",
            "X-Principal",
            "X-Tenant-Id",
            "X-Rate-Limit",
            "X-User-Roles",
            "X-Customer-Name",
            "X-Permissions",
            "X-Account-Balance",
            "X-Otp",
            "X-Auth",
            "X-Identity",
            "X-Set-Cookie",
            "X-Verification-Code",
            "X-Quota-Remaining",
            "X_RateLimit_Remaining",
            "X_User_Id",
            "X.Auth.Token",
            "X-Amzn-Remapped-Authorization",
            "X-Set-Authorization",
            "X-WC-Store-API-Nonce",
            "Replay-Nonce",
            "Ticket",
            "X-Passcode",
            "X-Signed-Url",
            "X-Impersonated-User",
            "X_Login",
        ] {
            assert!(default.drops(&name(dropped)), "{dropped}");
        }
        for kept in [
            "Access-Control-Allow-Credentials",
            "Access-Control-Expose-Headers",
            "WWW-Authenticate",
            "ETag",
            "Content-Security-Policy",
            "Permissions-Policy",
            "Surrogate-Key",
            "Cache-Tag",
            "X-Next-Page-Token",
            "X-Continuation-Token",
            "X-Total-Count",
            "Link",
            "X-User-Agent",
            "Set-Cookie",
            "Set-Cookie2",
        ] {
            assert!(!default.drops(&name(kept)), "{kept}");
        }
        let list = |all: &[&'static str]| DroppedFields::new(all.iter().copied()).unwrap();
        let amended = default.amended(list(&[]), &list(&["X-Feature-Token", "X-Csrf*"]));
        assert!(!amended.drops(&name("X-Feature-Token")) && !amended.drops(&name("X-Csrf")));
        assert!(amended.drops(&name("X-Other-Token")) && !list(&["X-A"]).drops(&name("X-Token")));
    }
}
