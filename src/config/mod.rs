//! SAYS what is wanted: `proxy.yaml`, checked and complete. What stands here can't be wrong any more.
//!
//! The file is read into a tree that keeps places (`tree`), variables are filled in (`variables`), and the tree is
//! walked by hand along the table of keys (`keys`), so that all errors are found at once, each with its line.

mod advice;
mod expiry;
mod fields;
mod keys;
mod lint;
mod listen;
mod log;
mod options;
mod problem;
mod query_rule;
mod read;
mod redis;
mod route_fields;
mod routes;
pub mod rules;
mod scalars;
mod schema;
mod sections;
mod snippet;
mod suggest;
mod tree;
mod units;
mod url;
mod variables;
mod warm;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Uri};
use ipnet::IpNet;

pub use options::options;
pub use problem::{ConfigErrors, Place, Problem};
pub use read::{Finding, Overrides};
pub use redis::{RedisHost, RedisServers, RedisSettings, RedisTls};
pub use schema::schema;
pub use units::{duration as read_duration, show_duration};

use crate::policy::Route;
use crate::policy::json_query::JsonQuery;
use crate::policy::url_template::{UrlTemplate, Values};

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<Listen>,
    /// What stands before HTTP there; one for each of `listen`.
    pub doors: Vec<DoorSettings>,
    pub upstream: UpstreamSettings,
    pub store: StoreSettings,
    pub admin: AdminSettings,
    pub purge: PurgeSettings,
    /// Whose `X-Forwarded-*` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Request fields that identify the caller.
    pub credentials: Vec<HeaderName>,
    pub request_id: RequestIds,
    pub limits: Limits,
    pub log: LogSettings,
    /// `None`: no spans are exported.
    pub tracing: Option<TracingSettings>,
    /// In the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// What is asked for before clients ask.
    pub warm: Vec<WarmEntry>,
    pub background: BackgroundSettings,
    /// What can be meant so, and mostly isn't; each with its place, ready to be shown.
    pub warnings: Vec<String>,
}

/// What a connection has to pass before it speaks HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorSettings {
    /// A PROXY protocol header comes first.
    pub proxy_protocol: bool,
    /// Certificates; none: no TLS. The first is for clients that name no host.
    pub tls: Vec<CertificateFiles>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first, in PEM.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// What becomes of `X-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestIds {
    /// A field like any other.
    Off,
    /// The upstream gets one.
    Forward,
    /// The upstream and the client get one.
    Respond,
}

/// An address to listen on, or an upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    pub address: UpstreamAddress,
    pub connect_timeout: Duration,
    /// From the last byte of the request to the header section of the response, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    pub max_connections: usize,
    /// How long a request waits for one of them.
    pub queue_timeout: Duration,
    /// So many failures in a row let it rest; `None`: none do.
    pub breaker: Option<usize>,
    /// HTTP/2 by prior knowledge (http) or ALPN (https).
    pub http2: bool,
    pub host: UpstreamHost,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    Http { authority: String },
    Https { authority: String },
    Unix(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's own.
    Preserve,
    Set(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    /// Bytes of the first tier, or of the whole embedded store.
    pub memory: u64,
    pub namespace: String,
    /// `None`: the embedded store.
    pub redis: Option<RedisSettings>,
    /// Zero: strict.
    pub max_lag: Duration,
    pub on_store_loss: OnStoreLoss,
    /// For every call to the store.
    pub timeout: Duration,
    /// What this larder is called among those that share a store.
    pub replica: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// Ask the upstream.
    Bypass,
    /// Go on from the first tier for so long after the last confirmation.
    Serve(Duration),
}

#[derive(Clone, Debug)]
pub struct AdminSettings {
    /// `None`: no admin listener (`admin: off`).
    pub listen: Option<Listen>,
    pub token: Option<Secret>,
}

#[derive(Clone, Debug)]
pub struct PurgeSettings {
    pub allow: Vec<IpNet>,
    pub token: Option<Secret>,
    /// For replicas to know a purge.
    pub wait_timeout: Duration,
    /// Whether a write that no route matches also purges the cached paths it lies under.
    pub parents: bool,
    /// So many of the most used responses that a purge made invalid are fetched again.
    pub reprime: Option<usize>,
}

/// URLs to ask for, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmEntry {
    pub name: String,
    pub get: Vec<UrlTemplate>,
    pub values: Values,
    /// Where the values of `{}` come from.
    pub list: Option<WarmList>,
    pub every: Option<Duration>,
    pub on_start: bool,
    /// Of each request, `Host` among them.
    pub headers: HeaderMap,
}

/// Values out of a JSON answer.
#[derive(Clone, Debug, PartialEq)]
pub struct WarmList {
    pub url: Uri,
    pub query: JsonQuery,
}

/// How much of the upstream goes to what no client has asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackgroundSettings {
    /// Requests to the upstream in a second.
    pub rate: usize,
    pub concurrency: usize,
    /// Of `upstream.max_connections`, in percent.
    pub share: usize,
    /// The fields that say under which name clients ask; empty if nobody knows.
    pub host: HeaderMap,
    /// More fields of these requests.
    pub headers: HeaderMap,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections: usize,
    pub header_bytes: usize,
    /// Fields of a header section.
    pub header_count: usize,
    /// From the first byte of each header section to its last; of the first one from the connection's beginning.
    pub header_timeout: Duration,
    /// Between two parts of a request's content, and while a client takes nothing of a response.
    pub body_timeout: Duration,
    pub idle_timeout: Duration,
    /// Without a byte from either side of a connection that was upgraded.
    pub tunnel_idle: Duration,
    pub drain: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub json: bool,
    /// A level, or a filter such as `info,larder::proxy=debug`.
    pub level: String,
    /// `None`: no access log.
    pub access: Option<AccessLogSettings>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogSettings {
    pub format: AccessFormat,
    /// How many of the requests get a line.
    pub sample: Fraction,
    /// `None`: standard output.
    pub path: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingSettings {
    /// Of the collector, where spans are posted.
    pub otlp: http::Uri,
    /// Of the requests that say nothing of it themselves.
    pub sample: Fraction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    Json,
    /// Apache's.
    Combined,
}

/// From 0 to 1, to the billionth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction(u32);

impl Fraction {
    const ONE: f64 = 1e9;

    /// `None` if it is not from 0 to 1.
    pub fn new(fraction: f64) -> Option<Self> {
        (0.0..=1.0).contains(&fraction).then(|| Self((fraction * Self::ONE).round() as u32))
    }

    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / Self::ONE
    }
}

/// A token; it never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
