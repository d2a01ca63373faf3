//! Request fields that identify a caller: those that are named, and those whose name says so.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use super::HeaderNameFilter;
use super::usual_fields::is_usual;

/// Decides which request fields identify a caller.
///
/// A field counts if it is one of `named`, or if its name looks like a credential's and it is not exempt. A false
/// positive costs a miss; a false negative gives one caller's response to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerFields {
    named: Vec<HeaderName>,
    /// Whether one of `named` is usual: see [`is_usual`].
    names_usual: bool,
    /// `None`: only `named` counts.
    exempt: Option<Vec<HeaderName>>,
}

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

impl Default for CallerFields {
    fn default() -> Self {
        Self::recognised(Vec::new(), Vec::new())
    }
}

impl CallerFields {
    /// `Authorization`, `Cookie`, `X-API-Key`, the fields of `also`, and all whose name looks like a credential's.
    pub fn recognised(also: Vec<HeaderName>, exempt: Vec<HeaderName>) -> Self {
        let mut named = vec![AUTHORIZATION, COOKIE, X_API_KEY];
        named.retain(|name| !exempt.contains(name));
        named.extend(also);
        Self::new(named, Some(exempt))
    }

    /// These and no others.
    pub fn only(named: Vec<HeaderName>) -> Self {
        Self::new(named, None)
    }

    fn new(named: Vec<HeaderName>, exempt: Option<Vec<HeaderName>>) -> Self {
        Self { names_usual: named.iter().any(|name| is_usual(name.as_str())), named, exempt }
    }

    /// Whether the field identifies a caller.
    pub fn identify(&self, name: &HeaderName) -> bool {
        match is_usual(name.as_str()) {
            true => self.names_usual && self.is_named(name),
            false => self.is_named(name) || self.is_recognised(name),
        }
    }

    /// Whether a request with these names may have a field that identifies a caller.
    pub(crate) fn may_be_in(&self, names: HeaderNameFilter) -> bool {
        self.names_usual || names.has_unusual()
    }

    pub(crate) fn is_named(&self, name: &HeaderName) -> bool {
        self.named.contains(name)
    }

    pub(crate) fn find_in<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h HeaderName> {
        headers.keys().filter(|name| self.identify(name))
    }

    /// Whether no field identifies a caller.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.exempt.is_none()
    }

    /// All that decides, as text, for fingerprints.
    pub fn describe(&self) -> impl Iterator<Item = &[u8]> {
        let kind: &[u8] = if self.exempt.is_some() { b"recognised" } else { b"only" };
        let names = self.named.iter().map(|name| name.as_str().as_bytes());
        let exempt = self.exempt.iter().flatten().map(|name| name.as_str().as_bytes());
        names.chain([kind]).chain(exempt)
    }

    fn is_recognised(&self, name: &HeaderName) -> bool {
        let is_exempt = |exempt: &Vec<_>| exempt.contains(name);
        looks_like_credential(name.as_str()) && !self.exempt.as_ref().is_none_or(is_exempt)
    }
}

/// Found anywhere in a name, whatever stands around it: `x-authtoken`, `mysession`.
const PARTS: &[&str] = &[
    "access-code",
    "account",
    "affiliation",
    "api-key",
    "apikey",
    "app-key",
    "appcheck",
    "assertion",
    "auth",
    "bearer",
    "callerid",
    "callerobjectid",
    "calling-line",
    "certificate",
    "client-cert",
    "client-id",
    "clientcert",
    "clientid",
    "consumer",
    "cookie",
    "credential",
    "csrf",
    "customer",
    "device",
    "dpop",
    "email",
    "employee",
    "entitle",
    "fingerprint",
    "hasura",
    "hmac",
    "identity",
    "impersonat",
    "init-data",
    "jwt",
    "login",
    "mellon",
    "member",
    "msisdn",
    "oauth",
    "oidc",
    "on-behalf",
    "openid",
    "pairwise-id",
    "passcode",
    "passphrase",
    "passport",
    "passw",
    "permission",
    "persistent-id",
    "persona",
    "principal",
    "remote-",
    "saml",
    "secret",
    "sessid",
    "session",
    "shop-domain",
    "shop-id",
    "sign",
    "spiffe",
    "ssl-client",
    "sso",
    "store-id",
    "subscriber",
    "subscription",
    "targeted-id",
    "tenant",
    "ticket",
    "tls-client",
    "token",
    "unionid",
    "user",
    "view-as",
    "visitor",
    "wsse",
    "xsrf",
];

/// Whole words of a name: `x-sid`, `dd-application-key`.
const WORDS: &[&str] = &[
    "act",
    "acting",
    "actor",
    "basket",
    "caller",
    "cart",
    "cert",
    "cn",
    "company",
    "creds",
    "database",
    "dn",
    "domain",
    "eppn",
    "frappe",
    "group",
    "groups",
    "guest",
    "guid",
    "guild",
    "iap",
    "imsi",
    "installation",
    "key",
    "merchant",
    "mfa",
    "namespace",
    "org",
    "organisation",
    "organization",
    "otp",
    "owner",
    "pass",
    "pat",
    "patient",
    "pin",
    "player",
    "profile",
    "project",
    "pwd",
    "realm",
    "role",
    "roles",
    "schema",
    "scope",
    "scopes",
    "sess",
    "sid",
    "sig",
    "store",
    "student",
    "sub",
    "subdomain",
    "subject",
    "sudo",
    "team",
    "totp",
    "uid",
    "upn",
    "uuid",
    "viewer",
    "wallet",
    "whoami",
    "workspace",
];

/// Found in the names of fields that say on whose behalf, or in which part of an API, a caller asks.
const SELECTOR_PARTS: &[&str] =
    &["account", "customer", "impersonat", "on-behalf", "shop-domain", "shop-id", "store-id", "tenant"];

/// Whole words of such names.
const SELECTOR_WORDS: &[&str] = &[
    "act",
    "acting",
    "actor",
    "company",
    "database",
    "domain",
    "frappe",
    "group",
    "groups",
    "guild",
    "merchant",
    "namespace",
    "org",
    "organisation",
    "organization",
    "project",
    "realm",
    "role",
    "roles",
    "schema",
    "scope",
    "scopes",
    "store",
    "subdomain",
    "sudo",
    "team",
    "workspace",
];

/// Names whose words mean something else in other names.
const SELECTORS: &[&str] = &["x-shop"];

/// Whether the field selects something beside who the caller is: a tenant, a role, somebody to act for.
pub(crate) fn is_selector(name: &HeaderName) -> bool {
    SELECTORS.contains(&name.as_str()) || contains(name.as_str(), SELECTOR_PARTS, SELECTOR_WORDS)
}

fn looks_like_credential(name: &str) -> bool {
    SELECTORS.contains(&name) || contains(name, PARTS, WORDS)
}

fn contains(name: &str, parts: &[&str], words: &[&str]) -> bool {
    parts.iter().any(|part| name.contains(part))
        || name.split(['-', '_', '.']).any(|word| words.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::try_from(text).expect("a name")
    }

    #[test]
    fn a_usual_field_counts_where_it_is_named() {
        let usual = name("x-request-id");
        assert!(!CallerFields::default().identify(&usual));
        assert!(CallerFields::recognised(vec![usual.clone()], Vec::new()).identify(&usual));
        assert!(CallerFields::only(vec![usual.clone()]).identify(&usual));
    }

    #[test]
    fn a_filter_tells_requests_without_callers_apart() {
        let names = |texts: &[&str]| {
            let names: Vec<_> = texts.iter().map(|text| name(text)).collect();
            HeaderNameFilter::from_names(names.iter())
        };
        let all = CallerFields::default();
        assert!(!all.may_be_in(names(&[])) && !all.may_be_in(names(&["host", "x-request-id", "via"])));
        for credential in ["authorization", "cookie", "x-api-key", "x-user", "x-anything-else"] {
            assert!(all.may_be_in(names(&["host", credential, "via"])), "{credential}");
        }
        let usual = CallerFields::recognised(vec![name("x-request-id")], Vec::new());
        assert!(usual.may_be_in(names(&["host"])));
    }

    #[test]
    fn names_of_credentials_are_recognised() {
        let fields = CallerFields::default();
        for text in [
            "Authorization",
            "Cookie",
            "X-API-Key",
            "X-Auth-Token",
            "Access-Token",
            "X-Access-Token",
            "Api-Key",
            "apikey",
            "X-Session-Token",
            "X-Session-Id",
            "Private-Token",
            "Ocp-Apim-Subscription-Key",
            "X-Amz-Security-Token",
            "X-Vault-Token",
            "X-Shopify-Access-Token",
            "X-Forwarded-User",
            "X-Forwarded-Email",
            "X-Auth-Request-User",
            "Remote-User",
            "Remote-Groups",
            "X-Remote-User",
            "X-Goog-IAP-JWT-Assertion",
            "Cf-Access-Jwt-Assertion",
            "X-MS-Client-Principal",
            "X-Amzn-Oidc-Data",
            "X-Consumer-Username",
            "X-Forwarded-Client-Cert",
            "X-SSL-Client-S-DN",
            "X-Hasura-Role",
            "X-Tenant-ID",
            "X-Org-Id",
            "X-UID",
            "X-Forwarded-Access-Token",
            "X-Auth-Request-Access-Token",
            "X-User-Id",
            "X-Api-Token",
            "X-JWT",
            "X-ID-Token",
            "X-Consumer-ID",
            "X-MSISDN",
            "X-Nokia-IMSI",
            "X-Up-Calling-Line-Id",
            "eppn",
            "X-Subscriber-Id",
            "X-OpenID",
            "X-Passphrase",
            "Sudo",
            "X-WSSE",
            "X-WX-UNIONID",
            "persistent-id",
            "iv-creds",
            "MSCRMCallerID",
            "CallerObjectId",
            "X-Telegram-Init-Data",
            "X-SPIFFE-ID",
            "X-Peer-Certificate",
            "X-SSL-CN",
            "X-PHPSESSID",
            "X-NITRO-PASS",
            "X-TOTP",
            "X-Company-Id",
            "X-Store-Id",
            "X-CSRF-Token",
            "DD-APPLICATION-KEY",
            "X-Plex-Token",
            "X-Authenticated-Userid",
            "X-Device-Id",
            "DPoP",
            "X-Webauth-Name",
            "X-Signature",
            "X-Customer-Number",
            "X-Frappe-Site-Name",
            "X-Odoo-Database",
            "X-Vault-Namespace",
            "X-Act-As",
            "X-Schema",
            "X-Database",
            "X-Realm",
            "X-Subdomain",
            "X-Domain",
            "X-Shop",
            "X-Shop-Domain",
            "X-Project-Id",
            "OpenAI-Project",
            "Store",
            "X-Firebase-AppCheck",
        ] {
            assert!(fields.identify(&name(text)), "{text}");
        }
    }

    #[test]
    fn usual_fields_identify_nobody() {
        let fields = CallerFields::default();
        for text in [
            "Host",
            "User-Agent",
            "Accept",
            "Accept-Language",
            "Sec-Fetch-User",
            "Sec-CH-UA-Platform",
            "X-Request-Id",
            "X-Forwarded-For",
            "X-Correlation-Id",
            "X-B3-TraceId",
            "Save-Data",
            "X-Requested-With",
            "If-None-Match",
            "X-Client-Version",
            "X-Amzn-Trace-Id",
            "Content-Type",
            "Range",
            "X-Locale",
            "X-Country",
            "Proxy-Authorization",
        ] {
            assert!(!fields.identify(&name(text)), "{text}");
        }
    }

    #[test]
    fn a_list_replaces_the_names_and_exempt_ones_do_not_count() {
        let only = CallerFields::only(vec![name("x-who")]);
        assert!(only.identify(&name("x-who")) && !only.identify(&name("authorization")));
        let exempt =
            CallerFields::recognised(vec![name("x-shop")], vec![name("x-csrf-token"), name("cookie")]);
        assert!(exempt.identify(&name("x-shop")) && exempt.identify(&name("authorization")));
        assert!(!exempt.identify(&name("x-csrf-token")) && !exempt.identify(&name("cookie")));
    }

    #[test]
    fn what_was_decided_otherwise_is_described_otherwise() {
        let all = [
            CallerFields::default(),
            CallerFields::only(vec![AUTHORIZATION, COOKIE, X_API_KEY]),
            CallerFields::recognised(Vec::new(), vec![name("x-csrf-token")]),
            CallerFields::recognised(vec![name("x-csrf-token")], Vec::new()),
        ];
        let described: std::collections::HashSet<Vec<&[u8]>> =
            all.iter().map(|fields| fields.describe().collect()).collect();
        assert_eq!(described.len(), all.len());
    }
}
