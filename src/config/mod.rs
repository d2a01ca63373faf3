//! SAYS what is wanted: `proxy.yaml`, checked and complete. What stands here can't be wrong any more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use crate::policy::Route;

#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<Listen>,
    pub upstream: UpstreamSettings,
    pub store: StoreSettings,
    pub admin: AdminSettings,
    pub purge: PurgeSettings,
    /// Whose `X-Forwarded-*` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Request fields that identify the caller.
    pub credentials: Vec<HeaderName>,
    pub limits: Limits,
    pub log: LogSettings,
    /// In the order of the file.
    pub routes: Vec<Arc<Route>>,
}

/// An address to listen on, or an upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    pub address: UpstreamAddress,
    pub connect_timeout: Duration,
    /// From the last byte of the request to the header section of the response, and between two parts of its body.
    pub response_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    pub max_connections: usize,
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

#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Bytes of the first tier, or of the whole embedded store.
    pub memory: u64,
    pub namespace: String,
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
    /// Whether a write that no route matches also purges the cached paths it lies under.
    pub parents: bool,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub connections: usize,
    pub header_bytes: usize,
    pub header_timeout: Duration,
    pub idle_timeout: Duration,
    pub drain: Duration,
}

#[derive(Clone, Debug)]
pub struct LogSettings {
    pub json: bool,
    /// A level, or a filter such as `info,larder::proxy=debug`.
    pub level: String,
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
