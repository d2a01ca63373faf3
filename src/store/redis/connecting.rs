//! How a client comes to be: address, login, TLS, and the library's settings.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
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

use crate::config::{RedisHost, RedisSettings, RedisTls};

/// For a connection, login included.
const CONNECT: Duration = Duration::from_millis(500);

/// Between attempts to connect, in milliseconds: at first, and at most.
const FIRST_PAUSE: u32 = 50;
const LONGEST_PAUSE: u32 = 500;
const JITTER: u32 = 20;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Host(RedisHost),
    Socket(PathBuf),
}

/// How servers are connected to; which one, is said by [`Connecting::to`].
#[derive(Clone)]
pub struct Connecting {
    config: Config,
    /// For a command that has no deadline of its own.
    timeout: Duration,
}

impl Connecting {
    /// # Errors
    /// If a file for TLS can't be read, or says nonsense.
    pub fn new(settings: &RedisSettings, timeout: Duration) -> io::Result<Self> {
        let database = match settings.database {
            0 => None,
            number => Some(u8::try_from(number).map_err(|_| io::Error::other("no such database"))?),
        };
        let config = Config {
            // The first connection is tried again like any other.
            fail_fast: false,
            database,
            username: settings.username.clone(),
            password: settings.password.as_ref().map(|password| password.expose().to_owned()),
            tls: settings.tls.as_ref().map(tls).transpose()?.map(Into::into),
            ..Config::default()
        };
        Ok(Self { config, timeout })
    }

    pub fn to(&self, address: &Address) -> Self {
        let server = match address {
            Address::Host(host) => {
                ServerConfig::Centralized { server: Server::new(host.host.as_str(), host.port) }
            }
            Address::Socket(path) => ServerConfig::Unix { path: path.clone() },
        };
        Self { config: Config { server, ..self.config.clone() }, timeout: self.timeout }
    }

    /// For a sentinel, which has no databases, and often no passwords either.
    pub fn for_sentinel(&self) -> Self {
        Self { config: Config { database: None, ..self.config.clone() }, timeout: self.timeout }
    }

    /// `None` if there is no login to leave out.
    pub fn without_login(&self) -> Option<Self> {
        self.config.password.as_ref()?;
        let config = Config { username: None, password: None, ..self.config.clone() };
        Some(Self { config, timeout: self.timeout })
    }

    pub fn client(&self) -> Client {
        self.build(self.config.clone())
    }

    /// One that can be asked whether it is still there while it listens to channels.
    pub fn listening_client(&self) -> Client {
        self.build(Config { version: RespVersion::RESP3, ..self.config.clone() })
    }

    fn build(&self, config: Config) -> Client {
        let mut policy = ReconnectPolicy::new_exponential(0, FIRST_PAUSE, LONGEST_PAUSE, 2);
        policy.set_jitter(JITTER);
        let connection = ConnectionConfig {
            connection_timeout: CONNECT,
            internal_command_timeout: CONNECT,
            max_command_attempts: 1,
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            // What a server says that can't be used for now is an answer; the caller decides.
            reconnect_errors: Vec::new(),
            ..ConnectionConfig::default()
        };
        let performance =
            PerformanceConfig { default_command_timeout: self.timeout, ..PerformanceConfig::default() };
        Client::new(config, Some(performance), Some(connection), Some(policy))
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

fn tls(files: &RedisTls) -> io::Result<TlsConnector> {
    let builder = ClientConfig::builder();
    let builder = match &files.ca {
        None => builder.with_native_roots()?,
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| unusable(ca, error))?;
            }
            builder.with_root_certificates(roots)
        }
    };
    let config = match &files.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
            let chain = certificates(certificate)?;
            builder.with_client_auth_cert(chain, private).map_err(|error| unusable(certificate, error))?
        }
    };
    Ok(config.into())
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(path, "it holds no certificate")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unusable(path, error)),
    }
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("store.redis.tls: {}: {error}", path.display()))
}
