//! A route: a block of `proxy.yaml`, checked and complete.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::cache_key::Fingerprint;
use super::path::PathTemplate;
use super::query::QueryRule;
use super::template::Template;
use super::ttl_from::TtlFrom;

#[derive(Clone, Debug)]
pub struct Route {
    /// Its place in the file, and in tables kept by route.
    pub index: usize,
    /// The metrics' namespace; several routes may share one.
    pub name: Arc<str>,
    pub path: PathTemplate,
    pub mode: Mode,
    pub ttl: Ttl,
    /// A time in the response that its lifetime never goes beyond.
    pub ttl_from: Option<TtlFrom>,
    /// How many per cent of its lifetime a response may lose by chance, so that not all expire at once.
    pub jitter: u8,
    pub tags: Vec<Template>,
    /// `None`: nothing said; an empty list says that writes here change nothing.
    pub purges: Option<Vec<Template>>,
    pub query: QueryRule,
    /// One response for all callers although they send credentials.
    pub shared: bool,
    /// Statuses besides 200, 203, 204, 301, 308 that this route's TTL rules let store, each with its own.
    pub status: BTreeMap<u16, Duration>,
    pub stale_while_revalidate: Duration,
    pub stale_if_error: Duration,
    /// Of a stored body, in bytes.
    pub max_size: u64,
    /// Of the content of a message, decoded, that is read for tags and times; in bytes.
    pub max_json: u64,
    /// For a request in all.
    pub timeout: Option<Duration>,
    pub collapse: Collapse,
    /// How long a request waits for another replica's fetch.
    pub collapse_wait: Duration,
    pub per: Option<Credential>,
    /// More request fields in the key.
    pub headers: Vec<HeaderName>,
    /// More cookies in the key.
    pub cookies: Vec<String>,
    pub overrides: Overrides,
    pub semantics: Semantics,
    /// A write is forwarded only once what it will purge is marked, and is refused where that can't be had.
    pub guard: bool,
    /// What was fetched within this time after a purge of its targets is not kept (the upstream reads from lagging
    /// replicas).
    pub settle: Duration,
    pub fingerprint: Fingerprint,
    /// Of what decides how long its responses are kept; see `stricter`.
    pub lifetimes: Fingerprint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    On,
    /// Forward everything, and say what would have happened.
    Observe,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ttl {
    /// The lifetime where the response gives none.
    For(Duration),
    /// Only what the response says.
    #[default]
    Upstream,
    /// Until purged; forgotten after [`UNTIL_PURGED`] in any case.
    UntilPurged,
    /// Its GETs pass.
    Never,
}

/// The safety expiry of `ttl: none`.
pub const UNTIL_PURGED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Which requests for the same wait for one fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Collapse {
    No,
    /// Those at this replica.
    #[default]
    Here,
    /// Those at all replicas that share a store.
    Replicas,
}

/// What of the response's own word the route's `ttl` overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Overrides {
    pub lifetime: bool,
    pub private: bool,
    pub no_cache: bool,
}

/// How far the route takes up what HTTP allows and an API seldom means. The default: not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semantics {
    /// RFC 9111 §4.2.2: a lifetime guessed from `Last-Modified` where nobody gives one.
    pub heuristic: bool,
    /// Any final status is stored for the lifetime that the response itself gives: 5xx and unknown ones too.
    pub any_status: bool,
    /// RFC 9111 §5.2.1: `Cache-Control` and `Pragma` of requests are obeyed.
    pub request_directives: bool,
    /// RFC 9213: fields that take the place of `Cache-Control`, the first that is there and valid.
    pub targeted: Vec<HeaderName>,
    /// Fields that tell caches what to do (tags, groups, targeted fields) are not shown to clients.
    pub hide_tags: bool,
}

impl Default for Semantics {
    fn default() -> Self {
        Self {
            heuristic: false,
            any_status: false,
            request_directives: false,
            targeted: vec![LARDER_CACHE_CONTROL],
            hide_tags: false,
        }
    }
}

/// The upstream's word for larder alone (RFC 9213 §2.2: a target list begins with the most specific).
pub const LARDER_CACHE_CONTROL: HeaderName = HeaderName::from_static("larder-cache-control");

/// What tells one caller from another: `authorization`, `cookie.NAME`, `header.NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    Authorization,
    Cookie(String),
    Header(HeaderName),
}

impl Route {
    /// Whether its GETs can be answered from the store at all.
    pub fn caches(&self) -> bool {
        self.ttl != Ttl::Never && self.mode != Mode::Off
    }

    /// Whether the content of a response tells something that must be known before it is stored.
    pub fn reads_content(&self) -> bool {
        self.tags.iter().any(Template::reads_response_content)
            || self.ttl_from.as_ref().is_some_and(TtlFrom::reads_content)
    }
}
