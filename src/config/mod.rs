//! The configuration: `proxy.yaml`, checked and complete.
//!
//! The file is parsed into a tree that keeps locations (`yaml`), variables are substituted (`variables`), and each section
//! is read by the declaration of its keys (`keys`). All errors are reported at once, each with its line.

mod additions;
mod admin;
mod admin_at;
mod ambiguous_names;
mod audit;
mod callers;
mod cdn;
mod channel_name;
mod diagnostics;
mod document;
mod downstream;
mod encryption_checks;
mod errors;
mod event_rules;
mod events;
mod expect;
mod expiry;
mod fields;
mod finding_name;
mod framework_cookies;
mod json_scalar;
mod keys;
mod limits;
mod lint;
mod listen;
mod load;
mod log;
mod login;
mod masking;
mod options;
mod overlay;
mod overlay_checks;
mod parsed_route;
mod path_conventions;
mod postgres;
mod publish;
mod purge_rules;
mod purged_by;
mod query_rule;
mod rate_limit;
mod rate_limit_checks;
mod redis;
mod root;
mod route_caller_checks;
mod route_callers;
mod route_fields;
mod route_groups;
mod routes;
pub mod rules;
mod scalars;
mod schema;
mod section;
mod settings;
mod snippet;
mod store;
mod suggest;
mod units;
mod upstream;
mod upstream_tls;
mod url;
mod variables;
mod warm;
mod warnings;
mod webhooks;
mod yaml;
mod yaml_help;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

pub use admin::AdminSettings;
pub(crate) use admin::{PurgeAllow, PurgeSettings};
pub use admin_at::Operation;
pub(crate) use admin_at::OperationPaths;
pub(crate) use audit::AuditSettings;
pub(crate) use callers::{
    AskSettings, CallerMethod, CallerSettings, JwtAlgorithm, JwtSettings, KeyLocation, RemoteUrl,
};
pub(crate) use cdn::{CdnApi, CdnSettings};
pub use channel_name::ChannelName;
pub(crate) use diagnostics::Diagnostic;
pub use diagnostics::Location;
pub(crate) use document::{read_document, read_text};
pub use errors::ConfigErrors;
pub(crate) use events::EventKind;
pub use events::EventSource;
pub(crate) use finding_name::FindingName;
pub use limits::{ClientShare, Limits};
pub(crate) use listen::CertificateFiles;
pub use load::{Finding, SettingOverrides};
pub(crate) use log::TracingSettings;
pub use log::{AccessLogSettings, LogSettings};
pub(crate) use login::{CredentialSource, TlsFiles};
pub(crate) use options::options_page;
pub(crate) use path_conventions::is_login_segment;
pub(crate) use postgres::{PostgresServer, PostgresSettings};
pub(crate) use redis::RedisServers;
pub use redis::{RedisHost, RedisSettings};
pub(crate) use schema::schema;
pub(crate) use store::SealingMode;
pub use store::{CompressionAlgorithm, Encryption, SealingKey, Signing, StoreCompression, StoreSettings};
pub(crate) use suggest::nearest;
pub(crate) use units::{duration as read_duration, show_duration};
pub use upstream::UpstreamSettings;
pub use upstream_tls::UpstreamTlsSettings;
pub(crate) use upstream_tls::{TlsVersion, parse_server_name};
pub(crate) use warm::BackgroundSettings;
pub(crate) use webhooks::{Webhook, WebhookScheme};

use crate::policy::json_query::JsonQuery;
use crate::policy::url_template::{PlaceholderValues, UrlTemplate};
use crate::policy::{CallerFields, Route};

/// The settings of one larder.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of the file in messages.
    pub(crate) source: String,
    /// The addresses to accept requests on.
    pub listen: Vec<Listen>,
    /// One for each of `listen`.
    pub(crate) listener_settings: Vec<ListenerSettings>,
    /// The API.
    pub upstream: UpstreamSettings,
    /// The store of responses.
    pub store: StoreSettings,
    /// The caches in front that purges are relayed to.
    pub(crate) cdn: Vec<CdnSettings>,
    /// The operators' endpoints.
    pub admin: AdminSettings,
    /// `None`: the API's paths are all the API's.
    pub(crate) admin_at: Option<OperationPaths>,
    pub(crate) purge: PurgeSettings,
    /// `None`: no hit is audited.
    pub(crate) audit: Option<AuditSettings>,
    /// Networks whose `X-Forwarded-*` and `Forwarded` are trusted.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Override fields that are believed if they come from `trusted_proxies`.
    pub(crate) trusted_fields: Vec<HeaderName>,
    /// Request fields that identify the caller.
    pub credentials: CallerFields,
    /// The ways in which routes know their callers.
    pub(crate) callers: Vec<CallerSettings>,
    /// Request fields whose names a CGI-like upstream reads as others.
    pub underscores: Underscores,
    pub(crate) request_id: RequestIds,
    /// The bounds of what clients can cause.
    pub limits: Limits,
    /// The log and the access log.
    pub log: LogSettings,
    /// `None`: no spans are exported.
    pub(crate) tracing: Option<TracingSettings>,
    /// In the order of the file.
    pub routes: Vec<Arc<Route>>,
    pub(crate) warm: Vec<WarmEntry>,
    pub(crate) background: BackgroundSettings,
    /// The sources of change events.
    pub events: Vec<EventSource>,
    /// Valid but suspicious settings, each rendered with its location.
    pub warnings: Vec<String>,
}

/// The handling of a connection before HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListenerSettings {
    /// Each connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The certificates of TLS; none: no TLS. The first is for clients that send no server name.
    pub tls: Vec<CertificateFiles>,
}

/// The handling of request fields whose names a CGI-like upstream reads as others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underscores {
    /// Leave them out.
    Drop,
    /// Answer 400.
    Refuse,
    /// Forward them.
    Pass,
}

impl Config {
    /// The name of the file without its folders, for those who may not operate larder.
    pub(crate) fn file_name(&self) -> &str {
        self.source.rsplit('/').next().unwrap_or_default()
    }
}

impl UpstreamHost {
    /// The `Host` that the upstream gets in place of the client's.
    pub(crate) fn replacement(&self) -> Option<&str> {
        match self {
            UpstreamHost::Preserve => None,
            UpstreamHost::Set(host) => Some(host),
        }
    }
}

impl Config {
    /// The settings of purges that are not part of a route.
    pub(crate) fn purge_rules(&self) -> String {
        let events: Vec<_> = self.events.iter().map(|source| &source.rules).collect();
        format!("{:?} {events:?}", self.purge.related_paths())
    }

    /// Whether others than processes on this machine can reach the listeners, themselves or by a proxy.
    pub(crate) fn is_reached_from_elsewhere(&self) -> bool {
        let is_local = |listen: &Listen| match listen {
            Listen::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Listen::Unix(_) => true,
        };
        !self.trusted_proxies.is_empty() || !self.listen.iter().all(is_local)
    }
}

/// The handling of `X-Request-Id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestIds {
    /// The field has no special meaning.
    Off,
    /// The upstream receives one.
    Forward,
    /// The upstream and the client receive one.
    Respond,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// The address of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamAddress {
    /// Without TLS.
    Http {
        /// `host:port`.
        authority: String,
    },
    /// With TLS.
    Https {
        /// `host:port`.
        authority: String,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamAddress::Http { authority } => write!(f, "http://{authority}"),
            UpstreamAddress::Https { authority } => write!(f, "https://{authority}"),
            UpstreamAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The `Host` that the upstream receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamHost {
    /// The client's own.
    Preserve,
    /// Always this one.
    Set(String),
}

/// The behaviour while Redis is unavailable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreLoss {
    /// Send requests to the upstream.
    Bypass,
    /// Serve from the memory tier for this long after the last confirmation.
    Serve(Duration),
}

/// URLs to warm, and when.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WarmEntry {
    pub name: String,
    pub get: Vec<UrlTemplate>,
    pub values: PlaceholderValues,
    /// The source of the values of `{}`.
    pub list: Option<WarmList>,
    pub every: Option<Duration>,
    pub on_start: bool,
    /// The fields of each request, including `Host`.
    pub headers: HeaderMap,
}

/// Values taken from a JSON response, or from all pages of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WarmList {
    /// The only page or the first one; `{page}` stands for the page's number.
    pub url: UrlTemplate,
    pub query: JsonQuery,
    /// Set if the list is read to its last page.
    pub pages: Option<PageWalk>,
}

/// How the pages of a list are found. Without a field and without `{page}`, by `Link` with `rel=next`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PageWalk {
    /// The field of a page that has the URL of the next one.
    pub next: Option<JsonQuery>,
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One JSON object a line.
    Json,
    /// Apache's combined log format.
    Combined,
}

/// A number from 0 to 1, in billionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fraction(u32);

impl Fraction {
    const ONE: f64 = 1e9;

    /// Returns `None` for a number outside 0 to 1.
    pub(crate) fn new(fraction: f64) -> Option<Self> {
        (0.0..=1.0).contains(&fraction).then(|| Self((fraction * Self::ONE).round() as u32))
    }

    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.0) / Self::ONE
    }
}

/// A secret text, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, never to be logged.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
