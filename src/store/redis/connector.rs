//! Builds clients: address, credentials, TLS, and the client library's settings.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    TlsConnector,
};
use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::connection::{DriverConnection, RedisConnection, simulated_connection};
use super::credentials::credential_provider;
use super::failure_reason::{ExplainContext, TopologyKind};
use crate::config::{RedisHost, RedisServers, RedisSettings, RedisTls};

/// Time to connect, TLS handshake and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// Delays between attempts to connect, in milliseconds.
const MIN_RECONNECT_DELAY_MS: u32 = 50;
const MAX_RECONNECT_DELAY_MS: u32 = 500;
const RECONNECT_JITTER_MS: u32 = 20;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Host(RedisHost),
    Socket(PathBuf),
}

/// The protocol of a subscription. RESP2 is for servers and proxies that refuse `HELLO 3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PubsubProtocol {
    Resp3,
    Resp2,
}

/// Settings of connections; [`RedisConnector::with_address`] selects the server.
#[derive(Clone)]
pub(crate) struct RedisConnector {
    address: Option<Address>,
    config: Config,
    context: ExplainContext,
    /// For a command that has no deadline of its own.
    timeout: Duration,
}

impl RedisConnector {
    /// # Errors
    /// If a TLS file can't be read or is malformed.
    pub(crate) fn new(settings: &RedisSettings, timeout: Duration) -> io::Result<Self> {
        let database = match settings.database {
            0 => None,
            number => Some(
                u8::try_from(number)
                    .map_err(|_| io::Error::other("store.redis: database numbers go up to 255"))?,
            ),
        };
        let config = Config {
            // Retry the first connection like any other.
            fail_fast: false,
            database,
            username: settings.username.clone(),
            password: settings.password.as_ref().map(|password| password.expose().to_owned()),
            credential_provider: credential_provider(settings),
            tls: settings.tls.as_ref().map(build_tls).transpose()?.map(Into::into),
            ..Config::default()
        };
        let topology = match &settings.servers {
            RedisServers::One(_) | RedisServers::Unix(_) => TopologyKind::Single,
            RedisServers::Sentinel { .. } => TopologyKind::Sentinel,
            RedisServers::Cluster(_) => TopologyKind::Cluster,
        };
        let context = ExplainContext { uses_tls: config.tls.is_some(), topology };
        Ok(Self { address: None, config, context, timeout })
    }

    pub(crate) fn with_address(&self, address: &Address) -> Self {
        let server = match address {
            Address::Host(host) => {
                ServerConfig::Centralized { server: Server::new(host.host.as_str(), host.port) }
            }
            Address::Socket(path) => ServerConfig::Unix { path: path.clone() },
        };
        let connector = self.with_config(Config { server, ..self.config.clone() });
        Self { address: Some(address.clone()), ..connector }
    }

    /// For a sentinel, which has no databases.
    pub(crate) fn without_database(&self) -> Self {
        self.with_config(Config { database: None, ..self.config.clone() })
    }

    /// `None` if there are no credentials.
    pub(crate) fn without_credentials(&self) -> Option<Self> {
        if self.config.password.is_none() && self.config.credential_provider.is_none() {
            return None;
        }
        let config =
            Config { username: None, password: None, credential_provider: None, ..self.config.clone() };
        Some(self.with_config(config))
    }

    fn with_config(&self, config: Config) -> Self {
        Self { config, address: self.address.clone(), ..*self }
    }

    pub(crate) fn context(&self) -> ExplainContext {
        self.context
    }

    pub(crate) fn uses_tls(&self) -> bool {
        self.context.uses_tls
    }

    pub(crate) fn build_client(&self) -> Arc<dyn RedisConnection> {
        self.build(self.config.clone())
    }

    /// A client for subscriptions.
    pub(crate) fn build_pubsub_client(&self, protocol: PubsubProtocol) -> Arc<dyn RedisConnection> {
        let version = match protocol {
            PubsubProtocol::Resp3 => RespVersion::RESP3,
            PubsubProtocol::Resp2 => RespVersion::RESP2,
        };
        self.build(Config { version, ..self.config.clone() })
    }

    fn build(&self, config: Config) -> Arc<dyn RedisConnection> {
        if let Some(simulated) = self.address.as_ref().and_then(simulated_connection) {
            return simulated;
        }
        let mut policy =
            ReconnectPolicy::new_exponential(0, MIN_RECONNECT_DELAY_MS, MAX_RECONNECT_DELAY_MS, 2);
        policy.set_jitter(RECONNECT_JITTER_MS);
        let connection = ConnectionConfig {
            connection_timeout: CONNECT_TIMEOUT,
            internal_command_timeout: CONNECT_TIMEOUT,
            max_command_attempts: 1,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            // Error replies never trigger a reconnect: the caller decides.
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        let performance =
            PerformanceConfig { default_command_timeout: self.timeout, ..PerformanceConfig::default() };
        Arc::new(DriverConnection(Client::new(config, Some(performance), Some(connection), Some(policy))))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Host(RedisHost { host, port }) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Host(RedisHost { host, port }) => write!(f, "{host}:{port}"),
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

fn build_tls(files: &RedisTls) -> io::Result<TlsConnector> {
    let builder = ClientConfig::builder();
    let builder = match &files.ca {
        None => builder.with_native_roots()?,
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in read_certificates(ca)? {
                roots.add(certificate).map_err(|error| tls_file_error(ca, error))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| tls_file_error(key, error))?;
            let chain = read_certificates(certificate)?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| tls_file_error(certificate, error))?
        }
    };
    Ok(config.into())
}

fn read_certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(tls_file_error(path, "the file contains no certificate"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(tls_file_error(path, error)),
    }
}

fn tls_file_error(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("store.redis.tls: {}: {error}", path.display()))
}
