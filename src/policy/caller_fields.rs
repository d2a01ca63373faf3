//! Request fields that identify a caller: those that are named, and those whose name says so.

#[cfg(test)]
mod tests;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};

use super::usual_fields::is_usual;
use super::{HeaderNameFilter, with_dashes};

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

    /// In the names that arrive: no request with a field of an ambiguous name is looked up.
    fn new(named: Vec<HeaderName>, exempt: Option<Vec<HeaderName>>) -> Self {
        let dashed = |names: Vec<HeaderName>| names.iter().map(with_dashes).collect::<Vec<_>>();
        let (named, exempt) = (dashed(named), exempt.map(dashed));
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
    "access-level",
    "account",
    "actas",
    "affiliation",
    "anchormailbox",
    "api-key",
    "apikey",
    "app-key",
    "appcheck",
    "assertion",
    "assume",
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
    "delegat",
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
    "path-root",
    "permission",
    "persistent-id",
    "persona",
    "principal",
    "remote-",
    "requestcontext",
    "run-as",
    "runas",
    "saml",
    "secret",
    "sessid",
    "session",
    "shop-domain",
    "shop-id",
    "shopid",
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
    "admin",
    "agency",
    "basket",
    "behalf",
    "branch",
    "caller",
    "cart",
    "cert",
    "claims",
    "clearance",
    "clinic",
    "cn",
    "company",
    "consent",
    "creds",
    "database",
    "department",
    "division",
    "dn",
    "domain",
    "employer",
    "entities",
    "entity",
    "eppn",
    "facility",
    "franchise",
    "frappe",
    "group",
    "groups",
    "guest",
    "guid",
    "guild",
    "household",
    "iap",
    "imsi",
    "installation",
    "key",
    "mailbox",
    "masquerade",
    "masquerading",
    "merchant",
    "mfa",
    "namespace",
    "org",
    "organisation",
    "organization",
    "otp",
    "owner",
    "partner",
    "pass",
    "pat",
    "patient",
    "phone",
    "pin",
    "plan",
    "player",
    "privilege",
    "privileges",
    "profile",
    "project",
    "psu",
    "pwd",
    "realm",
    "role",
    "roles",
    "schema",
    "school",
    "scope",
    "scopes",
    "seller",
    "sess",
    "sid",
    "sig",
    "site",
    "store",
    "student",
    "sub",
    "subdomain",
    "subject",
    "subsidiary",
    "sudo",
    "superuser",
    "team",
    "tenancy",
    "tier",
    "totp",
    "uid",
    "unit",
    "upn",
    "uuid",
    "vendor",
    "viewer",
    "wallet",
    "whoami",
    "workspace",
];

/// Words of names that have `id` without being anybody's: they tell requests apart, and programs.
const NOBODYS_IDS: &[&str] = &[
    "activity",
    "app",
    "attempt",
    "batch",
    "build",
    "call",
    "cf",
    "correlation",
    "deployment",
    "event",
    "execution",
    "flow",
    "hop",
    "idempotency",
    "interaction",
    "invocation",
    "job",
    "log",
    "message",
    "msg",
    "operation",
    "page",
    "parent",
    "process",
    "release",
    "req",
    "request",
    "run",
    "span",
    "test",
    "trace",
    "transaction",
    "vercel",
];

/// Fields that platforms and agents add to every request alike.
const NOBODYS: &[&str] = &["rndr-id", "x-newrelic-id", "x-site-deployment-id"];

/// Words that end in `id` and name none.
const NO_IDS: &[&str] = &[
    "aid", "android", "avoid", "bid", "covid", "fluid", "grid", "hybrid", "invalid", "paid", "rapid",
    "solid", "valid", "void",
];

/// Ends of words that name somebody or something: `companyid`, `tenantcode`.
const ENDS: &[&str] = &["code", "ids", "id", "key", "name", "number", "no", "ref", "slug", "uuid", "guid"];

/// Found in the names of fields that say on whose behalf, or in which part of an API, a caller asks.
const SELECTOR_PARTS: &[&str] = &[
    "access-level",
    "account",
    "actas",
    "anchormailbox",
    "assume",
    "customer",
    "delegat",
    "impersonat",
    "on-behalf",
    "path-root",
    "run-as",
    "runas",
    "shop-domain",
    "shop-id",
    "shopid",
    "store-id",
    "tenant",
];

/// Whole words of such names.
const SELECTOR_WORDS: &[&str] = &[
    "act",
    "acting",
    "actor",
    "admin",
    "agency",
    "behalf",
    "branch",
    "clearance",
    "clinic",
    "company",
    "database",
    "department",
    "division",
    "domain",
    "employer",
    "entities",
    "entity",
    "facility",
    "franchise",
    "frappe",
    "group",
    "groups",
    "guild",
    "household",
    "mailbox",
    "masquerade",
    "masquerading",
    "merchant",
    "namespace",
    "org",
    "organisation",
    "organization",
    "partner",
    "plan",
    "privilege",
    "privileges",
    "project",
    "realm",
    "role",
    "roles",
    "schema",
    "school",
    "scope",
    "scopes",
    "seller",
    "site",
    "store",
    "subdomain",
    "subsidiary",
    "sudo",
    "superuser",
    "team",
    "tenancy",
    "tier",
    "unit",
    "vendor",
    "workspace",
];

/// Names whose words mean something else in other names.
const SELECTORS: &[&str] = &["from", "sap-client", "x-client", "x-client-code", "x-shop", "x-trino-catalog"];

/// Whether the field selects something beside who the caller is: a tenant, a role, somebody to act for.
pub(crate) fn is_selector(name: &HeaderName) -> bool {
    SELECTORS.contains(&name.as_str()) || contains(name.as_str(), SELECTOR_PARTS, SELECTOR_WORDS)
}

fn looks_like_credential(name: &str) -> bool {
    !NOBODYS.contains(&name) && (SELECTORS.contains(&name) || contains(name, PARTS, WORDS) || has_id(name))
}

/// Whether the name says that its value is an id: of whom is not known, unless it tells a request from the next.
fn has_id(name: &str) -> bool {
    let mut words = words(name);
    let has_compound = words.clone().any(is_compound_id);
    let has_word = words.clone().any(|word| ["id", "ids"].contains(&word));
    has_compound || has_word && !words.any(|word| NOBODYS_IDS.contains(&word))
}

/// The same for a word without a hyphen, since names have no case: `X-LocationId`, `AccessKey`.
fn is_compound_id(word: &str) -> bool {
    if let Some(stem) = word.strip_suffix("key") {
        return stem != "idempotency";
    }
    let stem = word.strip_suffix("ids").or_else(|| word.strip_suffix("id"));
    let is_nobodys = |stem: &str| {
        let mut before = NOBODYS_IDS.iter().filter_map(|nobody| stem.strip_suffix(nobody));
        before.any(|rest| ["", "client", "mobile", "parent", "root"].contains(&rest))
    };
    stem.is_some_and(|stem| stem.len() > 1 && !is_nobodys(stem)) && !NO_IDS.contains(&word)
}

fn words(name: &str) -> impl Iterator<Item = &str> + Clone {
    name.split(['-', '_', '.'])
}

fn contains(name: &str, parts: &[&str], words: &[&str]) -> bool {
    let is_listed = |word: &str| {
        let mut stems = ENDS.iter().filter_map(|end| word.strip_suffix(end));
        words.contains(&word) || stems.any(|stem| words.contains(&stem))
    };
    parts.iter().any(|part| name.contains(part)) || self::words(name).any(is_listed)
}
